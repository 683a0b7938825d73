"""Without pyarrow and datasets the real files cannot be read: a message says so, and nothing else fails."""

import sys
from pathlib import Path

import pytest
from newcomer import without

from sdlab.benchmarks import recorded
from sdlab.commands.benchmarks import benchmarks_command
from sdlab.errors import MissingPackage
from sdlab.findings import coverage_data, real_models
from sdlab.walkthrough.execute import execute

FOLDER = Path(__file__).parents[1] / "notebooks"
HIDDEN = ("pyarrow", "datasets")
INSTALL = 'install it with: pip install "sdlab[data]"'
DATA = 'benchmarks need datasets and pyarrow; install with: pip install "sdlab[data]"'


@pytest.fixture
def folder(tmp_path):
    """A folder with a file of every name of the real ones; no parquet file of it can be read."""
    for name in dict.fromkeys(file for names in recorded.SETS.values() for file in names):
        (tmp_path / name).write_text('[{"prompt": "1 + 1?", "answer": "2"}]')
    return tmp_path


@pytest.fixture
def hidden(monkeypatch):
    for name in HIDDEN:
        monkeypatch.setitem(sys.modules, name, None)


def test_other_files_are_not_measured(hidden, folder):
    measures, source = recorded.real_coverage(str(folder))
    assert measures == recorded.load_record()
    assert source.startswith("these are the recorded measures, but ") and source.endswith(INSTALL)
    with pytest.raises(MissingPackage, match="needs pyarrow"):
        recorded.record_coverage(str(folder), folder / "real.json")


def test_no_set_is_measured_again(hidden, folder):
    sentence = coverage_data.measured_again(folder, recorded.load_record()["sets"])
    assert sentence.startswith("DAPO 512 is not measured again: ") and sentence.endswith(INSTALL)


def test_the_truths_of_the_benchmarks_are_left_out(hidden, folder):
    table, notes = real_models.own_truths(str(folder), 5)
    assert not len(table) and notes == [f"The table is left out: {DATA}"]  # once, not once a benchmark


def test_the_list_of_benchmarks_is_printed_with_expected_numbers(hidden, folder, capsys):
    assert benchmarks_command(source=folder) == 0
    out = capsys.readouterr().out
    assert "(500)" in out and f"Nothing was counted: {DATA}" in out


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        ("07_task_coverage_data", "recorded.real_coverage(REAL)", INSTALL),
        ("09_real_models", "real_models.own_truths(REAL", f"The table is left out: {DATA}"),
    ],
)
def test_a_notebook_prints_the_message_and_goes_on(name, call, message, folder):
    """Only the cells up to the setup run, and the one that reads the real files."""

    def hide(notebook):
        setup = next(i for i, cell in enumerate(notebook.cells) if "\nsetup()\n" in cell.source)
        (reader,) = [cell for cell in notebook.cells if call in cell.source]
        notebook.cells = [*notebook.cells[: setup + 1], reader]
        return without(*HIDDEN)(notebook)

    done = execute(
        FOLDER / f"{name}.ipynb", {"PRESET": "smoke", "REAL": str(folder)}, timeout=300, change=hide
    )
    assert not done.failures
    printed = "".join(one.get("text", "") for one in done.notebook.cells[-1].outputs)
    assert printed.count(message) == 1 and "Traceback" not in printed
