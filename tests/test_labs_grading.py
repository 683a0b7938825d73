"""Grading: points for right and wrong answers, and submissions that misbehave, each stopped and told in one
line.

About 3 s a submission on an idle core: each starts a Python of its own. The tiny lab needs no torch.
"""

import csv
import importlib.util
import io
import json
import os
import socket
import time
from pathlib import Path

import nbformat
import pytest
from lab_maker import handed_in, tiny_lab, write
from patience import PATIENCE
from rich.console import Console

from sdlab.cli import main
from sdlab.commands.labs import find_source
from sdlab.errors import SdlabError
from sdlab.labs.build import build_labs
from sdlab.labs.cells import imports, read_notebook
from sdlab.labs.grades import Graded, notes, table
from sdlab.labs.grading import grade_class, grade_submission
from sdlab.labs.matching import match
from sdlab.labs.sandbox import bubblewrap
from sdlab.labs.sandbox.steps import Outcome

ALL, NONE = {"double-test": 3, "mean-test": 2}, {"double-test": 0, "mean-test": 0}
MEAN = {"double-test": 0, "mean-test": 2}
LOOPS_FOR = 15  # seconds a cell that never ends gets; an honest cell needs a small part of one
QUICK = {"timeout": PATIENCE, "cell_timeout": LOOPS_FOR, "memory_mb": 600, "output_mb": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tiny_lab(), tmp_path_factory.mktemp("source") / "lab9_tiny.ipynb")


def graded(tmp_path, source, **cells) -> Graded:
    return grade_submission(handed_in(tmp_path / "lab9_tiny.ipynb", **cells), source, **QUICK)


@pytest.fixture(params=["bubblewrap", "kernel"])
def sandbox(request, monkeypatch):
    """The sandbox with bubblewrap where it starts, and without it."""
    if request.param == "kernel":
        monkeypatch.setattr(bubblewrap, "command", lambda *_: [])
    elif bubblewrap.find()[1]:
        pytest.skip(f"no bubblewrap here: {bubblewrap.find()[1]}")


def body(text: str) -> str:
    return "def double(x):\n    " + text.replace("\n", "\n    ")


def test_the_solution_earns_everything_and_the_student_version_nothing(tmp_path, source):
    right = grade_submission(source, source, **QUICK)
    assert right.points == ALL and right.total == right.max_total == 5 and right.manual == {"reflection": 5}
    assert right.problems == () and right.errors == {} and right.peak_memory_mb > 10
    student = grade_submission(build_labs(source.parent, tmp_path / "out")[0], source, **QUICK)
    assert student.points == NONE and student.errors["double-test"].startswith("NotImplementedError")
    assert student.problems == ("reflection: not answered (5 points, graded by hand)",)


@pytest.mark.slow
def test_a_wrong_answer_loses_its_own_points_and_only_the_hidden_test_sees_it(tmp_path, source):
    wrong = graded(tmp_path, source, double=body("return abs(2 * x)"))
    assert wrong.points == MEAN and "math.isclose(double(-1.5), -3.0)" in wrong.errors["double-test"]
    broken = graded(tmp_path, source, mean="def mean(values:", imports="1 / 0")  # neither stops the rest
    assert (
        broken.points["double-test"] == 3
        and broken.errors["cell 3"].startswith("ZeroDivisionError")
        and broken.points["mean-test"] == 0
    )


HOSTILE = {
    "loops": (body("while True: pass"), MEAN, f"took longer than {LOOPS_FOR} s"),
    "loops and will not be interrupted": (
        body("import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass"),
        MEAN,
        "did not end in time",
    ),
    "eats memory": (
        body("hog = []\nwhile True: hog.append(bytearray(50_000_000))"),
        MEAN,
        "needs more than the 600 MB allowed",
    ),
    "prints to exhaustion": (body("while True: print('x' * 10_000)"), MEAN, "printed more than 1 MB"),
    "ends its process": (body("import os; os._exit(0)"), MEAN, "ended its process (exit status 0)"),
    "kills its parent": (
        body("import os\ntry: os.kill(os.getppid(), 9)\nexcept PermissionError: pass\nos.killpg(0, 9)"),
        MEAN,
        "ended its process",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_stopped_reported_in_one_line_and_the_other_cells_count(tmp_path, source, name, sandbox):
    double, points, line = HOSTILE[name]
    found = graded(tmp_path, source, double=double)
    assert found.points == points
    assert any(line in problem and "\n" not in problem for problem in found.problems), found.problems


def test_what_a_submission_replaces_in_python_changes_nothing_in_the_tests(tmp_path, source):
    evil = "import math, builtins\nbuiltins.abs = lambda x: 0\n"
    evil += "math.isclose = lambda *a: True\nabs = math.isclose"
    found = graded(tmp_path, source, double=evil + "\n" + body("return 4"))
    assert found.points == MEAN and found.problems == ()
    assert "math.isclose(double(-1.5), -3.0)" in found.errors["double-test"]


def test_an_experiment_of_the_lab_gives_its_definitions_and_is_not_run(tmp_path, source):
    """Grading runs what the student wrote, and of the lab's own cells only imports, functions, constants."""
    lab = tiny_lab()
    lab.cells[2].source = "import math\nfrom sdlab.rollout.loading import load_engine\nLOG = [2]\n"
    lab.cells[2].source += "load_engine('organism')\n1 / 0\ndef twice(x):\n    return LOG[0] * x"
    original = write(lab, tmp_path / "source" / "lab9_tiny.ipynb")
    lab.cells[3].source = body("return twice(x)")
    found = grade_submission(write(lab, tmp_path / "same" / "lab9_tiny.ipynb"), original, **QUICK)
    assert found.points == ALL and found.errors == {} and found.problems == ()
    lab.cells[2].source = lab.cells[2].source.replace("1 / 0\n", "")  # the student's own version
    found = grade_submission(write(lab, tmp_path / "own" / "lab9_tiny.ipynb"), original, **QUICK)
    assert found.points == ALL and found.errors == {}
    lab.cells[5].source = "def mean(values):\n    return load_engine"
    found = grade_submission(write(lab, tmp_path / "wrong" / "lab9_tiny.ipynb"), original, **QUICK)
    assert "load_engine is switched off" in found.errors["cell 3"] and found.points["mean-test"] == 0


@pytest.mark.slow
def test_a_preset_runs_the_whole_notebook_too_and_reports_what_fails_without_changing_points(
    tmp_path, capsys
):
    lab = tiny_lab()
    lab.cells[1].source = 'YEAR: int = 2026\nPRESET: str = "quick"'
    lab.cells[2].source = "import math\nfrom sdlab.presets import preset\nLOG = [preset(PRESET).num_problems]"
    experiment = nbformat.v4.new_code_cell("print('problems:', LOG[0])\nassert LOG[0] == 8", id="experiment")
    lab.cells.insert(3, experiment)
    original = write(lab, tmp_path / "source" / "lab9_tiny.ipynb")
    right = grade_submission(original, original, preset="smoke", **QUICK)
    assert right.points == ALL and right.errors == {} and right.problems == ()
    wrong = grade_submission(original, original, preset="quick", **QUICK)
    assert wrong.points == ALL and list(wrong.errors) == ["cell 4, at quick"]
    assert wrong.errors["cell 4, at quick"] == "AssertionError"
    assert main(["labs", "grade", str(original), "--source", str(original), "--preset", "smoke"]) == 0
    assert "5 of 5 points" in capsys.readouterr().out
    assert main(["labs", "grade", str(original), "--source", str(original), "--preset", "huge"]) == 2
    assert "unknown preset 'huge'" in capsys.readouterr().err


def test_sys_exit_earns_nothing_and_ends_nothing(tmp_path, source):
    found = graded(
        tmp_path, source, double=body("import sys; sys.exit(0)"), imports="import math\nLOG = []\nexit()"
    )
    assert found.points == MEAN and found.errors["double-test"] == "SystemExit: 0"


def test_own_tests_helpers_and_replies_do_not_fake_points(tmp_path, source, sandbox):
    fake = (
        'import os, json\nfor n in range(3, 64):\n    try: os.write(n, b\'{"token": "ready", "ok": '
        "true}\\n')\n    except OSError: pass\n"
    )
    found = graded(
        tmp_path,
        source,
        double=body(fake + "return 0"),
        double_test="pass",
        mean="class Yes:\n    __eq__ = lambda *a: True\nmath = Yes()\nmean = lambda v: 2",
    )
    assert found.points == NONE
    assert any("edited test cells: double-test" in line for line in found.problems) and any(
        "examiner's pipe" in line for line in found.problems
    )


def test_other_files_and_the_solution_are_out_of_reach(tmp_path, source, sandbox):
    precious = tmp_path / "precious.txt"
    precious.write_text("kept")
    evil = f"""
import math, os, shutil, pathlib, subprocess
LOG = []
for act in (lambda: os.remove({str(precious)!r}), lambda: pathlib.Path({str(precious)!r}).write_text("gone"), lambda: shutil.rmtree({str(tmp_path)!r}),
            lambda: pathlib.Path({str(tmp_path / "new")!r}).write_text("x"), lambda: pathlib.Path({str(source)!r}).read_text()):
    try: act(); LOG.append(True)
    except OSError: LOG.append(False)
subprocess.run(["rm", "-rf", {str(tmp_path)!r}])
pathlib.Path("own.txt").write_text("fine")
"""
    found = graded(tmp_path, source, imports=evil, double=body("assert not any(LOG), LOG\nreturn 2 * x"))
    if "files" not in found.closed_off:
        pytest.skip(
            "this kernel has no Landlock: files of the same user are not protected; grade in a container"
        )
    assert precious.read_text() == "kept" and not (tmp_path / "new").exists()
    assert found.points == ALL, found.errors


def test_there_is_no_network(tmp_path, source, sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        call = (
            f"import math, socket\nLOG = []\ntry:\n    socket.create_connection(('127.0.0.1', "
            f"{server.getsockname()[1]}), 2)\nexcept OSError as error:\n    LOG.append(error)"
        )
        found = graded(tmp_path, source, imports=call, double=body("assert len(LOG) == 1\nreturn 2 * x"))
        with pytest.raises(TimeoutError):
            server.accept()
    assert found.points == ALL


def test_nothing_stays_behind(tmp_path, source, sandbox):
    mark = f"sdlab-left-{os.getpid()}"
    found = graded(
        tmp_path,
        source,
        imports=f"import math, subprocess, sys\nLOG = []\nsubprocess.Popen([sys.executable, '-c', 'import "
        f"time; time.sleep(60) #{mark}'], start_new_session=True)",
    )
    if "processes" not in found.closed_off:
        pytest.skip("no process namespace here: a process that leaves its group may outlive the grading")
    time.sleep(0.2)
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert found.points == ALL and not any(mark.encode() in line for line in lines)


def test_deleted_and_reordered_cells(tmp_path, source):
    notebook = tiny_lab()
    del notebook.cells[4]
    lacking = grade_submission(write(notebook, tmp_path / "a.ipynb"), source, **QUICK)
    assert lacking.points == MEAN and "deleted, so without points: double-test" in lacking.problems
    notebook = tiny_lab()
    notebook.cells[3:7] = notebook.cells[5:7] + notebook.cells[3:5]
    turned = grade_submission(write(notebook, tmp_path / "b.ipynb"), source, **QUICK)
    assert turned.points == ALL and any("reordered" in line for line in turned.problems)


def test_what_was_deleted_or_doubled_is_named(source):
    notebook, original = tiny_lab(), read_notebook(source)
    del notebook.cells[3]  # the solution cell of `double`; its test stays
    notebook.cells.append(notebook.cells[3])
    found = match(notebook, original)
    assert found.missing == () and found.problems == ("deleted: double", "there more than once: double-test")
    assert [step.name for step in found.steps if step.kind == "test"] == ["double-test", "mean-test"]
    notebook = tiny_lab()
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.id not in ("parameters", "double-test", "mean-test", "reflection")
    ]
    found = match(notebook, original)
    assert found.missing == ("double-test", "mean-test") and found.steps[0].name == "parameters"
    assert found.problems == ("deleted, so without points: double-test, mean-test", "deleted: reflection")


def test_another_years_lab_is_graded_with_this_years_seeds(tmp_path, source):
    found = graded(tmp_path, source, parameters="YEAR: int = 2025")  # a hidden test reads YEAR
    assert found.points == ALL and found.problems == (
        "made for YEAR 2025, this lab has YEAR 2026; graded with YEAR 2026",
    )


@pytest.mark.slow
def test_a_class_with_every_kind_of_file_is_graded_to_its_end(tmp_path, source):
    folder = tmp_path / "class"
    handed_in(folder / "a_good.ipynb")
    (folder / "b_damaged.ipynb").write_text(json.dumps(tiny_lab())[:500])
    (folder / "c_no_cells.ipynb").write_text('{"hello": 1}')
    (folder / "d_picture.ipynb").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xff")
    other = tiny_lab()
    other.metadata.kernelspec = {"name": "ir", "display_name": "R", "language": "R"}
    write(other, folder / "e_r.ipynb")
    other.metadata.kernelspec = {"name": "my-env", "display_name": "mine", "language": "python"}
    write(other, folder / "f_gone.ipynb")
    handed_in(folder / "g_exits.ipynb", double=body("import os; os._exit(1)"))
    results = grade_class(folder, source, tmp_path / "class.csv", **QUICK)
    rows = list(csv.DictReader((tmp_path / "class.csv").open()))
    assert [row["total"] for row in rows] == ["5", "0", "0", "0", "0", "5", "2"]
    assert [len(result.problems) for result in results] == [0, 1, 1, 1, 1, 1, 1]
    assert [
        "not valid JSON" in rows[1]["problems"],
        "no cells" in rows[2]["problems"],
        "not Python" in rows[4]["problems"],
        "'my-env'" in rows[5]["problems"],
    ] == [True] * 4
    assert rows[6]["mean-test"] == "2" and rows[6]["double-test"] == "0" and float(rows[0]["seconds"]) > 0


def shape(**changes):
    """The solution's JSON with other top-level entries; None takes one out."""
    return json.dumps({key: value for key, value in {**tiny_lab(), **changes}.items() if value is not None})


NO_NOTEBOOK = {  # file: what is in it, and the line about it
    "empty.ipynb": ("", "damaged: not valid JSON"),
    "list.ipynb": ("[1, 2]", "has no cells"),
    "page.html": ("<html></html>", "page.html is not a notebook"),
    "lab9.py": ("def double(x): return 2 * x", "lab9.py is not a notebook"),
    "deep.ipynb": ("[" * 100_000, "is not a notebook"),
    "zip.ipynb": (b"PK\x03\x04\xff\xfe\x00", "damaged: not valid JSON"),
    "no_list.ipynb": (shape(cells=5), "damaged notebook"),
    "no_type.ipynb": (shape(cells=[{"source": "x"}]), "damaged notebook"),
    "no_source.ipynb": (shape(cells=[{"cell_type": "code", "metadata": {}}]), "damaged notebook"),
    "metadata.ipynb": (shape(metadata=[]), "damaged notebook"),
    "other_lab.ipynb": (
        shape(cells=[{"cell_type": "markdown", "metadata": {}, "source": "hello"}]),
        "no cell of this lab is in it",
    ),
    "r.ipynb": (
        shape(metadata={"kernelspec": {"name": "ir", "language": "R"}}),
        "made for the kernel 'ir' (R), which is not Python; nothing was run",
    ),
    "julia.ipynb": (
        shape(metadata={"language_info": {"name": "julia"}}),
        "(julia), which is not Python; nothing was run",
    ),
}


@pytest.mark.parametrize("name", NO_NOTEBOOK)
def test_what_is_no_notebook_of_this_lab_earns_nothing_with_one_clear_line(
    tmp_path, source, name, monkeypatch
):
    content, line = NO_NOTEBOOK[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr("sdlab.labs.grading.run_steps", lambda *_: Outcome())  # none of it needs a process
    (found,) = grade_class(tmp_path / name, source, **QUICK)
    assert found.total == 0 and found.max_total == 5
    assert any(line in problem for problem in found.problems) and all(
        "\n" not in problem for problem in found.problems
    ), found.problems


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"kernelspec": {}},
        {"kernelspec": None},
        {"kernelspec": "python3"},
        {"kernelspec": {"name": "gone"}, "language_info": 3},
    ],
)
def test_a_missing_or_odd_kernel_is_looked_past(tmp_path, source, metadata):
    (tmp_path / "a.ipynb").write_text(shape(metadata=metadata))
    plan = match(read_notebook(tmp_path / "a.ipynb"), read_notebook(source))
    assert plan.runnable and [step.name for step in plan.steps if step.kind == "test"] == list(ALL)
    assert plan.problems == (
        ("made for the kernel 'gone', which is not here; run with sdlab's own Python",)
        if "language_info" in metadata
        else ()
    )


def test_a_notebook_that_breaks_the_grader_stops_nobody_else(tmp_path, source, monkeypatch):
    for name in ("a", "b"):
        handed_in(tmp_path / f"{name}.ipynb")
    plans = iter([lambda *_: {}["gone"], match])
    monkeypatch.setattr("sdlab.labs.grading.match", lambda *both: next(plans)(*both))
    broken, right = grade_class(tmp_path, source, **QUICK)
    assert broken.problems == ("could not be graded: KeyError: 'gone'",) and right.points == ALL


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_a_class_is_readable_at_80_columns(width):
    points = dict.fromkeys(["advantages-test", "clipped-loss-test", "mean-loss-test", "first-rise-test"], 0.0)
    lab, full = "lab2_rewards_and_advantages", dict.fromkeys(points, 5.0)
    note = "edited test cells: advantages-test, clipped-loss-test, mean-loss-test; the lab's own were run"
    results = [
        Graded(Path("ada/lab2.ipynb"), lab, full, full, problems=(note, "x" * 200)),
        Graded(Path("bob/lab2.ipynb"), lab, points | {"advantages-test": 5.0}, full),
        Graded(Path("maria_[anna]_van_der_lange_naam_lab2_final_version_2.ipynb"), lab, points, full),
        Graded(Path("picture.ipynb"), problems=("picture.ipynb is damaged: not valid JSON",)),
    ]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(results))
    printed = console.export_text().splitlines() + notes(results, width)
    assert max(map(len, printed)) <= width
    rows = {line.split()[0]: line for line in printed if " of " in line}
    assert "lab2" in rows["ada/lab2.ipynb"] and "20 of 20" in rows["ada/lab2.ipynb"]
    assert "5 of 20" in rows["bob/lab2.ipynb"] and "clipped-loss" in rows["bob/lab2.ipynb"]
    assert "everything" in next(line for name, line in rows.items() if name.startswith("maria_[anna]"))
    text = " ".join(" ".join(printed).split())
    assert "ada/lab2.ipynb - edited test cells: advantages-test, clipped-loss-test" in text
    assert "picture.ipynb - picture.ipynb is damaged" in text
    assert len(printed) < 30  # no column is so narrow that a row becomes a tower


LABS = Path(__file__).parents[1] / "notebooks" / "labs" / "source"
WRONG_FILES = sorted((Path(__file__).parent / "labs").glob("wrong_lab*.py"))


def wrong_answers():
    """(lab's source, name, {grade_id: new source}, {test: points lost}) of every wrong answer in labs."""
    for file in WRONG_FILES:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        lab = next(LABS.glob(file.stem.removeprefix("wrong_") + "_*.ipynb"), None)
        yield from ((lab, *wrong) for wrong in module.WRONG if lab)


def only_graded(path: Path, to: Path, answers: dict[str, str], student: bool = False) -> tuple[Path, Path]:
    """Source and submission with the marked cells, the parameters and the imports alone: the experiments
    earn no points.
    """
    original = nbformat.read(path, as_version=4)
    for cell in original.cells:
        if (
            cell.cell_type == "code"
            and "nbgrader" not in cell.metadata
            and "parameters" not in cell.metadata.get("tags", [])
        ):
            cell.source = "\n".join(imports(cell.source))
    write(original, to / path.name)
    handed = build_labs(to, to / "student")[0] if student else write(original, to / "handed" / path.name)
    notebook = nbformat.read(handed, as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
    return write(notebook, handed), to / path.name


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(LABS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_graded_cells_of_each_lab_give_all_points_to_the_solution_and_none_to_the_student_version(
    tmp_path, path
):
    right = grade_submission(*only_graded(path, tmp_path / "right", {}))
    assert right.total == right.max_total == 20 and sum(right.manual.values()) == 5, right.errors
    assert right.problems == ()
    untouched = grade_submission(*only_graded(path, tmp_path / "untouched", {}, student=True))
    assert untouched.total == 0 and untouched.max_total == 20, untouched.points


@pytest.mark.slow
@pytest.mark.parametrize(
    "lab, name, answers, lost",
    [pytest.param(*wrong, id=f"{wrong[0].stem.split('_')[0]}: {wrong[1]}") for wrong in wrong_answers()],
)
def test_a_typical_wrong_answer_loses_exactly_its_points(tmp_path, lab, name, answers, lost):
    found = grade_submission(*only_graded(lab, tmp_path, answers))
    assert {
        identity: most - found.points[identity]
        for identity, most in found.max_points.items()
        if most > found.points[identity]
    } == lost, found.errors


def test_bad_names_and_limits_are_told(tmp_path, source):
    with pytest.raises(SdlabError, match="no submission"):
        grade_class(tmp_path / "nowhere.ipynb", source)
    with pytest.raises(SdlabError, match="memory_mb=5 is not allowed"):
        grade_class(source, source, memory_mb=5)
    with pytest.raises(SdlabError, match="of which lab"):
        find_source(write(tiny_lab(), tmp_path / "mine.ipynb"), source.parent)
    assert find_source(write(tiny_lab(), tmp_path / "lab9_smith.ipynb"), source.parent) == source
    assert (
        find_source(
            build_labs(source.parent, tmp_path / "out")[0].rename(tmp_path / "mine.ipynb"), source.parent
        )
        == source
    )
