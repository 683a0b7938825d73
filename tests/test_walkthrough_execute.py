"""The executor must notice everything that papermill lets pass."""

import os

import nbformat
import pytest
from notebook_maker import code, make, save
from patience import PATIENCE

from sdlab.errors import SdlabError
from sdlab.walkthrough.execute import execute, find
from sdlab.walkthrough.failures import failures_in

pytestmark = pytest.mark.slow

GIVEN = {"PRESET": "smoke", "MODEL": "organism"}


def run(tmp_path, *cells, timeout=PATIENCE, given=GIVEN, **options):
    return execute(save(tmp_path, "00_case.ipynb", *cells, **options), given, timeout=timeout)


def printed(execution) -> str:
    return "".join(
        o.text for c in execution.notebook.cells for o in c.get("outputs", []) if o.output_type == "stream"
    )


def test_a_sound_notebook_gets_its_parameters_and_a_scratch_folder(tmp_path):
    path = save(
        tmp_path,
        "00_case.ipynb",
        "import os\nopen('left behind', 'w').close()\nprint(PRESET, MODEL, os.getcwd())",
    )
    before, cells = path.read_bytes(), []
    done = execute(
        path, GIVEN | {"MODEL": "some/model"}, timeout=PATIENCE, on_cell=lambda *cell: cells.append(cell)
    )
    assert done.failures == ()
    preset, model, folder = printed(done).split()
    assert (preset, model) == ("smoke", "some/model")
    assert not os.path.exists(folder)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["00_case.ipynb"]
    assert cells == [(1, 3), (2, 3), (3, 3)]  # parameters, injected parameters, the cell
    assert done.seconds > 0


def test_a_broken_cell_is_named_and_ends_the_notebook(tmp_path):
    done = run(tmp_path, "x = 0", "# why\nx / 0", "print('never')")
    (failure,) = done.failures
    assert (failure.cell, failure.source) == (4, "# why")
    assert str(failure) == "cell 4 (`# why`): ZeroDivisionError: division by zero"
    assert printed(done) == ""
    assert [cell.cell_type for cell in done.notebook.cells] == ["markdown"] + 5 * [
        "code"
    ]  # no banner cells left


def test_a_sleeping_cell_runs_into_the_timeout(tmp_path):
    done = run(tmp_path, "import time\nprint('so far')", "time.sleep(60)", timeout=1)
    (failure,) = done.failures
    assert failure.cell == 4 and failure.error == "TimeoutError: took longer than 1 s"
    assert printed(done) == "so far\n"


def test_a_dead_kernel_is_told_with_its_last_words(tmp_path):
    (failure,) = run(tmp_path, "import os\nos.write(2, b'last words\\n')\nos._exit(1)").failures
    assert failure.cell == 3
    assert "DeadKernelError" in failure.error and "last words" in failure.error


def test_an_error_allowed_by_a_tag_still_counts(tmp_path):
    (failure,) = run(tmp_path, code("raise KeyError('hidden')", "raises-exception"), "1").failures
    assert failure.cell == 3 and failure.error == "KeyError: 'hidden'"


INSIDE_WIDGETS = {
    "interact": "import ipywidgets as w\n@w.interact(x=3)\ndef f(x):\n    return x / 0",
    "output": "import ipywidgets as w\nout = w.Output()\ndisplay(w.VBox([w.HBox([out])]))\nwith out:\n    1 "
    "/ 0",
    "observer": "import ipywidgets as w\ns = w.IntSlider(1)\ns.observe(lambda change: 1 / 0)\nb = "
    "w.Button()\n"
    "b.on_click(lambda _: 1 / 0)\nb.click()",
    "thread": "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()",
    "logger": "import logging\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('on the "
    "way')",
}


@pytest.mark.parametrize("case", INSIDE_WIDGETS)
def test_errors_that_do_not_stop_the_cell_are_found(tmp_path, case):
    done = run(tmp_path, INSIDE_WIDGETS[case], "print('went on')")
    (failure,) = done.failures
    assert failure.cell == 3 and "ZeroDivisionError: division by zero" in failure.error
    assert printed(done).endswith("went on\n")


def test_a_widget_and_a_warning_without_error_are_fine(tmp_path):
    done = run(
        tmp_path,
        "import sys, ipywidgets as w\n@w.interact(x=3)\ndef f(x):\n    print(x)",
        "print('careful', file=sys.stderr)",
    )
    assert done.failures == ()
    assert "widgets" in done.notebook.metadata


@pytest.mark.parametrize(
    "given, told",
    [
        (
            {"PRESET": "smoke", "STEPS": 3},
            "unknown parameter of 00_case.ipynb 'STEPS'; choose one of: MODEL, PRESET",
        ),
        ({"PRESET": 3}, "parameter PRESET of 00_case.ipynb is 3; it is declared str; give such a value"),
    ],
)
def test_an_undeclared_or_mistyped_parameter_is_refused(tmp_path, given, told):
    with pytest.raises(SdlabError) as caught:
        run(tmp_path, "1", given=given)
    assert str(caught.value) == told


def test_a_notebook_without_parameters_cell_is_refused(tmp_path):
    notebook = make("1")
    del notebook.cells[1]
    nbformat.write(notebook, tmp_path / "00_case.ipynb")
    with pytest.raises(SdlabError, match="no cell tagged `parameters`; add one that declares PRESET, MODEL"):
        execute(tmp_path / "00_case.ipynb", GIVEN, timeout=PATIENCE)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"cells": 3}'])
def test_a_damaged_file_is_told_in_one_line(tmp_path, content):
    (tmp_path / "00_case.ipynb").write_text(content)
    with pytest.raises(SdlabError, match="could not read the notebook") as caught:
        execute(tmp_path / "00_case.ipynb", GIVEN, timeout=PATIENCE)
    assert "\n" not in str(caught.value)


def test_find_orders_and_selects(tmp_path):
    for name in ("03_c.ipynb", "00_a.ipynb", "01_b.ipynb", "draft.ipynb"):
        save(tmp_path, name)
    assert [path.stem for path in find((), tmp_path)] == ["00_a", "01_b", "03_c"]
    assert [path.stem for path in find(("03", "00_a"), tmp_path)] == ["00_a", "03_c"]
    with pytest.raises(SdlabError, match="unknown notebook '07'; choose one of: 00_a, 01_b, 03_c"):
        find(("07",), tmp_path)
    with pytest.raises(SdlabError, match="no notebooks in"):
        find((), tmp_path / "elsewhere")


def test_failures_are_found_in_a_saved_notebook():
    notebook = make("1")
    notebook.cells[2].outputs = [
        nbformat.v4.new_output("error", ename="ValueError", evalue="a\nb", traceback=[])
    ]
    assert [str(failure) for failure in failures_in(notebook)] == ["cell 3 (`1`): ValueError: a"]
    notebook.cells[2].outputs[0].update(ename="SystemExit", evalue="0")
    assert failures_in(notebook) == []
