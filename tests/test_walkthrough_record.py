import json

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st
from notebook_maker import make, save
from patience import PATIENCE

import sdlab
from sdlab import provenance as origin
from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.presets import PRESETS, preset
from sdlab.walkthrough.clean import clean, write_text
from sdlab.walkthrough.execute import execute
from sdlab.walkthrough.record import MIME, bundle, grid, read_record, record, show


@pytest.fixture
def shown(monkeypatch):
    """What record() displays."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: bundles.append((data, raw)))
    return bundles


def test_values_come_back_as_they_were(shown):
    values = {
        "score": 0.5,
        "count": 3,
        "name": "a",
        "none": None,
        "flag": True,
        "list": [1, [2.5]],
        "dict": {"x": {"y": 1}},
    }
    record(preset="smoke", model="some/model", seed=4, **values)
    ((data, raw),) = shown
    assert raw and json.loads(json.dumps(data[MIME]))["values"] == values
    assert {"preset": "smoke", "model": "some/model", "seed": 4}.items() <= data[MIME]["provenance"].items()


def test_numpy_numbers_become_json(shown):
    record(a=np.float32(0.5), b=np.int64(3), c=np.bool_(True), d=[np.float64(1)])
    values = shown[0][0][MIME]["values"]
    assert json.loads(json.dumps(values)) == {"a": 0.5, "b": 3, "c": True, "d": [1.0]}


@pytest.mark.parametrize(
    "value, told",
    [
        (float("nan"), "recorded value a is nan"),
        ({"x": [1, float("inf")]}, r"recorded value a\.x\[1\] is inf"),
        (np.float32("nan"), "recorded value a is nan"),
        ({1: 2}, "recorded value a has the key 1; keys must be strings"),
        ({"x": {1, 2}}, r"recorded value a\.x is a set"),
        (np.zeros(3), "recorded value a is a ndarray"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_name(shown, value, told):
    with pytest.raises(SdlabError, match=told):
        record(a=value)
    assert shown == []


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_any_values_can_be_shown_and_are_escaped(values):
    page = bundle({"values": values, "provenance": {}})["text/html"]
    tags = {tag.name for tag in BeautifulSoup(page, "html.parser").find_all()}
    assert tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_shown_text():
    assert show({"mean": 0.3333, "low": 0.25, "high": 0.4}) == "0.333 [0.25, 0.4]"
    assert show(12345.6) == "12,346" and show(0.000123) == "0.000123" and show(1234567) == "1,234,567"
    assert show([1, 2]) == "1, 2" and show(list(range(20))) == "20 values" and show(None) == "–"


def test_a_table_shows_every_cell():
    values = {"four_contexts": {"none": {"score": 0.25, "length": 70}, "solution": {"score": 1.0}}}
    soup = BeautifulSoup(bundle({"values": values, "provenance": {}})["text/html"], "html.parser")
    rows = [[cell.get_text() for cell in row.find_all(["td", "th"])] for row in soup.find_all("tr")]
    assert rows == [["", "score", "length"], ["none", "0.25", "70"], ["solution", "1", ""]]
    assert soup.caption.get_text() == "four contexts"


@pytest.mark.slow
def test_a_notebook_records_and_is_cleaned(tmp_path):
    path = save(tmp_path, "00_a.ipynb", "import ipywidgets\nipywidgets.IntSlider()", "object()",
                "from sdlab.walkthrough.record import record\nrecord(score=0.25)")  # fmt: skip
    done = execute(path, {"PRESET": "smoke", "MODEL": "nowhere/model"}, timeout=PATIENCE)
    assert done.failures == ()
    found = read_record(done.notebook)
    assert found["values"] == {"score": 0.25}
    assert found["provenance"]["preset"] == "smoke" and found["provenance"]["model"] == "nowhere/model"
    assert found["provenance"]["peak_memory_mb"] > 20

    cleaned = clean(done.notebook)
    text = write_text(cleaned)
    nbformat.validate(cleaned)
    assert clean(cleaned) == cleaned and nbformat.reads(text, 4) == cleaned
    assert [cell.source for cell in cleaned.cells] == [cell.source for cell in nbformat.read(path, 4).cells]
    assert [cell.id for cell in cleaned.cells] == [cell.id for cell in nbformat.read(path, 4).cells]
    assert all(cell.get("execution_count") is None for cell in cleaned.cells)
    assert read_record(cleaned)["values"] == {"score": 0.25}
    for word in ("papermill", "injected", "widget-view", "peak_memory_mb", '"time"', "0x7"):
        assert word not in text, word
    again = execute(path, {"PRESET": "smoke", "MODEL": "nowhere/model"}, timeout=PATIENCE)
    assert write_text(clean(again.notebook)) == text  # two runs, one file


def test_reading_a_notebook_that_records_nothing(tmp_path):
    with pytest.raises(SdlabError, match=r"00_a\.ipynb holds no record"):
        read_record(save(tmp_path, "00_a.ipynb", "1"))
    with pytest.raises(SdlabError, match="holds no record"):
        read_record(make("1"))


def test_provenance_of_a_model_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "README.md").write_text("card")
    found = origin.provenance(model=str(tmp_path), seed=3, preset="quick")
    assert found["model_sha256"] == {
        name: sha256(tmp_path / name) for name in ("model.safetensors", "tokenizer.json")
    }
    assert found["sdlab"] == sdlab.__version__ and found["seed"] == 3 and found["preset"] == "quick"
    assert found["torch"].startswith("2.") and found["cores"] >= 1
    assert json.loads(json.dumps(found)) == found
    assert set(origin.MOMENTARY) <= set(found)


def test_provenance_of_a_hub_name():
    assert origin.provenance(model="Qwen/Qwen3-8B")["model_sha256"] is None


def test_presets():
    assert list(PRESETS) == ["smoke", "quick", "full"]
    assert preset("quick").num_problems == 100
    sizes = [(one.num_problems, one.num_generations, one.cell_timeout) for one in PRESETS.values()]
    assert sizes == sorted(sizes)
    with pytest.raises(SdlabError, match="unknown preset 'huge'; choose one of: full, quick, smoke"):
        preset("huge")


def test_a_table_with_more_columns_than_fit_is_turned():
    """The claims of notebook 11: 16 for each of three organisms."""
    value = {f"organism-{row}": {f"claim {column}": row * column for column in range(16)} for row in range(3)}
    page = BeautifulSoup(grid("verdicts", value), "html.parser")
    rows = [[cell.text for cell in row.find_all(["th", "td"])] for row in page.find_all("tr")]
    assert ["claim 15", "0", "15", "30"] in [row[-4:] for row in rows] and len(rows) == 17
    few = {"a": {"x": 1, "y": 2}, "b": {"x": 3}}
    assert len(BeautifulSoup(grid("few", few), "html.parser").find_all("tr")) == 3
