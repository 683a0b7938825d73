"""A submission may not call the function that it is asked to write, whatever way it takes to it.

Slow: a submission of each lab is graded twice. The controls show that every trick finds the function outside
of grading, and that every cheating answer earns its points where a lab allows the function.
"""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from lab_maker import marked, write
from labs.tricks import CHEATS, TRICKS, reach
from patience import PATIENCE
from test_labs_grading import LABS, only_graded

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.labs.cells import read_notebook
from sdlab.labs.grading import grade_submission
from sdlab.labs.matching import rules_of
from sdlab.labs.sandbox.exchange import Received, Sent
from sdlab.labs.sandbox.reduced import Rules, blocked, copy_reduced, python_path

HONEST = """
def total_honest(text):
    words = "".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split()
    return sum(words.count(marker) for marker in MARKERS)
"""
TEST = """
from sdlab.text.markers import total_markers

expected = total_markers("Wait, maybe. Waiting!")
assert total_{name}("Wait, maybe. Waiting!") == expected
"""
OTHERS = {  # not by reaching the function
    "alias": "def total_alias(text):\n    return 2",  # handed in as an import
    "trl": "def total_trl(text):\n    import trl\n    return 2 if trl else 0",
    "equal": "class Equal:\n    __eq__ = lambda *_: True\n\ndef total_equal(text):\n    return Equal()",
    "patched": "import builtins, json, sdlab.text.markers\nsdlab.text.markers.total_markers = lambda _: 7\n"
    "builtins.AssertionError = ZeroDivisionError\ndef total_patched(text):\n    return 7",
    "replies": "import os\ndef total_replies(text):\n    for n in range(3, 64):\n        try:\n"
    '            os.write(n, b\'{"ok": true, "value": {"int": "2"}}\\n\')\n        except OSError:\n'
    "            pass\n    return 0",
}


def lab_of_tricks(folder: Path) -> Path:
    """A lab with one exercise per trick, each answered by that trick, and one answered honestly."""
    source = folder / "source" / "lab8_tricks.ipynb"
    answers = {"honest": HONEST, **OTHERS}
    for number, trick in enumerate(TRICKS):
        answers[f"t{number}"] = (
            reach(paths.PACKAGE, source, [trick])
            + f"\ndef total_t{number}(text):\n    total = reach('sdlab.text.markers', 'total_markers', "
            f"'total_t{number}')\n    return total(text)\n"
        )
    cells = [nbformat.v4.new_code_cell("from sdlab.text.markers import MARKERS", id="imports")]
    for name, code in answers.items():
        cells.append(marked("solution", name, f"### BEGIN SOLUTION\n{code}\n### END SOLUTION"))
        cells.append(marked("test", f"{name}-test", TEST.format(name=name), 1))
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["sdlab"] = {"allowed": ["sdlab.text.markers.MARKERS"], "libraries": []}
    return write(notebook, source)


@pytest.mark.slow
def test_no_trick_earns_a_point_and_an_honest_answer_does(tmp_path):
    source = lab_of_tricks(tmp_path)
    handed = nbformat.read(source, as_version=4)
    (alias,) = (cell for cell in handed.cells if cell.id == "alias")
    alias.source = "from sdlab.text.markers import total_markers as total_alias"
    submission = write(handed, tmp_path / "handed" / source.name)
    found = grade_submission(submission, source, timeout=PATIENCE, cell_timeout=60)
    if "files" not in found.closed_off:
        pytest.skip("this kernel has no Landlock: what a submission reads is not restricted")
    assert {name for name, points in found.points.items() if points} == {"honest-test"}
    assert found.errors["alias-test"] == (
        "SwitchedOff: this lab asks you to write total_alias; sdlab.text.markers.total_markers is switched "
        "off while it is graded"
    )
    assert "this lab asks you to write total_trl; trl is switched off" in found.errors["trl-test"]
    assert "the function returned a Equal; return numbers" in found.errors["equal-test"]


@pytest.mark.slow
@pytest.mark.parametrize("trick", [trick for trick in TRICKS if trick != "frames"])
def test_every_trick_finds_the_function_outside_of_grading(tmp_path, trick):
    source = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("### BEGIN SOLUTION\ndef total(text):\n    return 2\n### END SOLUTION")
        ]
    )
    code = reach(paths.PACKAGE, write(source, tmp_path / "lab.ipynb"), [trick])
    code += "\nfound = reach('sdlab.text.markers', 'total_markers', 'total')\nprint(found('Wait, maybe'))"
    (tmp_path / "trick.py").write_text(code)
    done = subprocess.run(
        [sys.executable, tmp_path / "trick.py"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "2\n", done.stderr


def cheating(lab: str, folder: Path, allowed: bool):
    """Grade cheating answers to `lab`, with their references switched off or allowed."""
    path = next(LABS.glob(f"{lab}_*.ipynb"))
    code = reach(paths.PACKAGE, path)
    answers = {identity: code + answer for identity, (_, answer) in CHEATS[lab].items()}
    submission, source = only_graded(path, folder, answers)
    if allowed:
        notebook = nbformat.read(source, as_version=4)
        rules = notebook.metadata["sdlab"]
        modules = {module for module, _ in CHEATS[lab].values() if module.startswith("sdlab")}
        rules["allowed"] = [*rules.get("allowed", ()), *sorted(modules)]
        rules["libraries"] = ["numpy", "pandas", "scipy", "torch", "transformers"]
        write(notebook, source)
    return grade_submission(submission, source, timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("lab", CHEATS)
def test_no_answer_of_a_lab_earns_points_by_calling_what_it_should_write(tmp_path, lab):
    found = cheating(lab, tmp_path, allowed=False)
    cheats = {f"{identity}-test" for identity in CHEATS[lab]}
    lost = {name for name, points in found.points.items() if not points}
    assert cheats <= lost, found.errors
    assert all("switched off" in found.errors[name] or "LookupError" in found.errors[name] for name in cheats)
    control = cheating(lab, tmp_path / "control", allowed=True)
    assert control.total == control.max_total, control.errors


def test_the_reduced_copy_holds_what_is_allowed_and_stand_ins_for_the_rest(tmp_path):
    rules = Rules(("total()",), ("sdlab.text.markers",), ("numpy",))
    copy_reduced(rules, tmp_path / "copy")
    code = """from sdlab.labs.sandbox.switched_off import switch_off
switch_off(["total"], {}, ["pandas"])
from sdlab.text import markers, prompt
import sdlab, sdlab.train.losses as losses
print(markers.total_markers("wait"), sdlab.text.markers is markers, losses.aggregate, sdlab.load_engine)
try:
    prompt.strip_thinking("a")
except Exception as error:
    print(type(error).__name__, error)
try:
    import pandas
except ImportError as error:
    print(error)
"""
    env = {**os.environ, "PYTHONPATH": python_path(tmp_path / "copy")}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.splitlines() == [
        "1 True <sdlab.train.losses.aggregate, switched off> <sdlab.load_engine, switched off>",
        "SwitchedOff this lab asks you to write total; sdlab.text.prompt.strip_thinking is switched off "
        "while it is graded",
        "No module named 'pandas'",
    ], done.stderr
    files = {path.relative_to(tmp_path / "copy" / "sdlab").as_posix() for path in tmp_path.rglob("*.py")}
    assert "text/markers.py" in files and not any(name.startswith(("train/", "measure/")) for name in files)


@pytest.mark.slow
def test_the_time_of_a_call_is_the_submission_s_and_gradients_come_back(tmp_path):
    code = "import time\n\ndef slow(seconds):\n    end = time.process_time() + seconds\n"
    code += "    while time.process_time() < end: pass\n    return 7\n\ndef twice(x, y):\n"
    code += "    return {'sum': (2 * x + x * y.detach()).sum(), 'mask': x > 1}"
    test = "import torch\nfrom sdlab.labs.timing import timed\n\nresult, seconds = timed(slow, 0.5)\n"
    test += "assert result == 7 and 0.4 < seconds < 5, seconds\n"
    test += (
        "x, y = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)\n"
    )
    test += "found = twice(x, y)\n"
    test += "assert found['mask'].tolist() == [False, True] and abs(found['sum'] - 17) < 1e-6\n"
    test += "slopes = torch.autograd.grad(found['sum'] * 10, (x, y), allow_unused=True)\n"
    test += "assert slopes[0].tolist() == [50, 60] and slopes[1] is None"
    cells = [marked("solution", "slow", code), marked("test", "slow-test", test, 1)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"sdlab": {"libraries": ["torch", "numpy"]}})
    source = write(notebook, tmp_path / "lab7_time.ipynb")
    found = grade_submission(source, source, timeout=PATIENCE)
    assert found.total == 1, found.errors


def test_no_lab_allows_a_module_with_a_function_that_it_asks_for():
    for path in LABS.glob("*.ipynb"):
        rules = rules_of(read_notebook(path))
        references = {module for module, _ in CHEATS[path.stem.partition("_")[0]].values()}
        assert not references & set(rules.modules), path.stem
        assert all(name.endswith("()") or name == "repair" for name in rules.asked), rules.asked


@pytest.mark.parametrize(
    "wrong, line",
    [
        ({"allowed": ("sdlab.text.markers.NONE",)}, "'sdlab.text.markers.NONE', which does not exist"),
        ({"libraries": ("no-such-library",)}, "'no-such-library', which is not installed"),
    ],
)
def test_a_lab_that_allows_what_does_not_exist_is_told(wrong, line):
    with pytest.raises(SdlabError, match=line):
        Rules(**wrong)


def test_libraries_are_allowed_with_all_that_they_require():
    off = blocked(("numpy",))
    assert {"pandas", "torch"} <= set(off) and not {"numpy", "IPython", "psutil", "sdlab"} & set(off)
    assert not {"numpy", "pandas", "dateutil"} & set(blocked(("pandas",)))


def test_values_arrive_unchanged_and_objects_do_not():
    import json

    import numpy as np
    import torch

    values = [None, True, -5, 2**80, 0.1, float("inf"), "ä\x00", (1, [2]), {"a": (np.int64(3),)}, {1, 2}, 1j]
    text = json.dumps(Sent().write(values), allow_nan=False)
    read = Received().read(json.loads(text))
    assert read == values and type(read[8]["a"][0]) is np.int64 and type(read[2]) is int
    arrays = [np.arange(6.0).reshape(2, 3), np.array(["a", "bc"]), np.zeros((0, 2)), np.array(True)]
    for array, other in zip(arrays, Received().read(Sent().write(arrays)), strict=True):
        assert array.dtype == other.dtype and array.shape == other.shape and (array == other).all()
    tensors = [torch.rand(2, 3).bfloat16(), torch.tensor(True), torch.zeros(0, 4), torch.tensor(7)]
    for tensor, other in zip(tensors, Received().read(Sent().write(tensors)), strict=True):
        assert tensor.dtype == other.dtype and torch.equal(tensor, other)
    with pytest.raises(TypeError, match="returned a object"):
        Sent().write([object()])
    pickled = Sent(objects=True).write(object())
    with pytest.raises(ValueError, match="not a value"):
        Received().read(pickled)  # the grader never loads one
