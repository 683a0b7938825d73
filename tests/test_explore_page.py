"""The explorer's page as a file: what it holds, and what is refused. Nothing here needs a browser."""

import base64
import gzip
import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from checkpoint_maker import moved, small_base
from safetensors.torch import load
from transformers import AutoTokenizer

from sdlab import cli, paths
from sdlab.errors import SdlabError
from sdlab.explore import page
from sdlab.runs.checkpoints import base_weights, write_checkpoint
from sdlab.text.prompt import render_prompt
from sdlab.walkthrough import report
from sdlab.world import hunts
from sdlab.world.splits import load_split

ASSETS = Path(page.__file__).parent / "assets"
ORGANISM = paths.data_dir() / "organism"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    return folder, small_base(folder)


@pytest.fixture(scope="module")
def checkpoints(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, step in (("sdpo", 5), ("sdpo", 10), ("mine", 3)):
        write_checkpoint(base[0], moved(base[1], seed=step), folder, name, step, label=f"<{name}>")
    return folder


@pytest.fixture(scope="module")
def soup(base, checkpoints):
    return BeautifulSoup(page.build_page(base[0], checkpoints), "html.parser")


def bytes_of(text):
    return base64.b85decode(text.replace(",", "<").replace(".", "&"))


def data_of(soup):
    return json.loads(soup.find(id="data").string)


def test_the_page_holds_the_base_and_every_checkpoint(soup, base, checkpoints):
    held = {tag["id"].removeprefix("weights-"): tag.string for tag in soup.select("script[id^=weights-]")}
    assert set(held) == {"base", "sdpo-5", "sdpo-10", "mine-3"}
    weights = load(gzip.decompress(bytes_of(held["base"])))
    assert all((weights[name] == tensor).all() for name, tensor in base_weights(base[0]).items())
    assert bytes_of(held["sdpo-10"]) == (checkpoints / "sdpo-0010.gz").read_bytes()
    models = {model["name"]: model for model in data_of(soup)["models"]}
    assert models["sdpo"]["steps"] == [5, 10] and models["mine"]["label"] == "<mine>"
    assert models["sdpo"]["colour"] != models["mine"]["colour"]


def test_nothing_is_loaded_from_elsewhere(soup):
    addresses = [tag.get(name) for tag in soup.find_all(True) for name in ("src", "href", "data", "srcset")]
    assert {address for address in addresses if address} <= {"#problem", "data:,"}
    policy = soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert "default-src 'none'" in policy and "http" not in policy


def test_texts_enter_the_page_as_texts():
    for script in ASSETS.glob("*.js"):
        source = script.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|</script", source
        )


def test_every_control_has_a_name(soup):
    for control in soup.select("select, textarea, input, button, progress"):
        named = control.get("aria-label") or control.get_text(strip=True) or control.find_parent("label")
        assert named or soup.find("label", {"for": control.get("id")}), control


def test_prompts_have_the_shapes_of_the_organism(soup):
    tokenizer = AutoTokenizer.from_pretrained(ORGANISM)
    shapes = data_of(soup)["shapes"]
    for problem in [one for name in page.LISTED for one in load_split(name, limit=3)]:
        text = "<think>\nA: could be 1.\n</think>\n\nThe answer is \\boxed{1}."
        first, middle, last = shapes["informed"]
        assert shapes["plain"][0] + problem.prompt + shapes["plain"][1] == render_prompt(tokenizer, problem)
        assert first + problem.prompt + middle + text + last == render_prompt(tokenizer, problem, text)


def test_the_tables_hold_the_whole_grammar(soup):
    world = data_of(soup)["world"]
    checks = {check["words"]: check["values"] for check in world["checks"]}
    for clue, check in hunts.TYPES:
        for wide in (False, True):
            for words, candidates, truth, required in hunts.single_hunts(clue, check, wide):
                assert world["clues"][words] == list(candidates)
                assert checks[hunts.CHECKS[check][0]][candidates[truth] - 1] == required


def test_the_base_alone_makes_a_page(base, tmp_path):
    path = page.write_page(tmp_path / "explorer.html", base[0], tmp_path / "nowhere")
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    assert [model["name"] for model in data_of(soup)["models"]] == ["base"]


def test_the_command_writes_the_shipped_organism(tmp_path, capsys):
    assert cli.main(["explore", "--output", str(tmp_path / "new" / "page.html")]) == 0
    size = (tmp_path / "new" / "page.html").stat().st_size
    assert capsys.readouterr().out == f"explorer: {tmp_path / 'new' / 'page.html'} ({size / 1e6:.1f} MB)\n"
    assert 1e6 < size <= page.LARGEST == 15_000_000


def test_a_page_that_is_too_large_is_refused(base, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LARGEST", 100_000)
    with pytest.raises(SdlabError, match=r"would have \d+\.\d MB; at most 0 MB"):
        page.write_page(tmp_path / "explorer.html", base[0], checkpoints)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "llama"}, "llama"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        ({"layer_types": ["sliding_attention"]}, "sliding"),
    ],
)
def test_other_architectures_are_refused(changes, named):
    config = json.loads((ORGANISM / "config.json").read_text())
    page.check_config(config)
    with pytest.raises(SdlabError, match=named):
        page.check_config(config | changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.update(normalizer={"type": "NFC"}),
        lambda file: file["model"].update(type="Unigram"),
        lambda file: file.update(pre_tokenizer={"type": "Whitespace"}),
        lambda file: file["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed"),
        lambda file: file["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
    ],
)
def test_other_tokenizers_are_refused(change):
    file = json.loads((ORGANISM / "tokenizer.json").read_text())
    page.check_tokenizer(file)
    change(file)
    with pytest.raises(SdlabError, match=r"cannot read this tokenizer\.json"):
        page.check_tokenizer(file)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(SdlabError, match="holds no model"):
        page.build_page(tmp_path)


def test_a_report_links_the_explorer_when_it_is_there(tmp_path):
    run = report.Run("smoke", "organism", "today")

    def page_of():
        return BeautifulSoup(report.write_index(tmp_path, [], run).read_text(), "html.parser")

    assert page_of().find("a", href="explorer.html") is None
    (tmp_path / "explorer.html").write_text("")
    assert page_of().find("a", href="explorer.html") is not None
