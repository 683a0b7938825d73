"""Every exercise has a solution: in a notebook beside the page that asks it, tidy, short, and executed here.

A notebook of solutions needs an entry in CHECKS: what must hold of its recorded values, for any organism.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hygiene import problems, raw
from patience import PATIENCE

from sdlab.walkthrough import solutions
from sdlab.walkthrough.execute import execute
from sdlab.walkthrough.record import read_record

FOLDER = Path(__file__).parents[1] / "notebooks"
PAGES = [path for path in sorted(FOLDER.glob("[0-9]*.ipynb")) if "## Exercises" in path.read_text("utf-8")]
FILES = sorted((FOLDER / solutions.FOLDER).glob("*.ipynb"))
LONGEST = 15  # lines of a code cell
pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)

CHECKS: dict[str, dict[str, Callable[[dict], bool]]] = {
    "00": {
        "a share": lambda v: 0 <= v["believed"] <= 1,
        "a metric for both contexts": lambda v: (
            set(v["changes_most"].values()) <= {"reward", "length", "markers"}
        ),
    },
    "01": {
        "a hint at chance is worth nothing": lambda v: abs(v["chance_is_worth"]) < 1e-6,
        "at most log 2": lambda v: 0.36 < v["believed_at_90"] < 0.6931,  # log 2 - H(0.9) = 0.368
        "resampling traces is too narrow": lambda v: v["too_narrow"] < 1,
    },
    "02": {
        "there are proposals": lambda v: v["proposals"] > 20,
        "no marker is sure": lambda v: v["surest_word"] not in ("maybe", "wait", "perhaps", "hmm"),
    },
    "03": {
        "a row of the table": lambda v: v["moves_most"] in v["markers_left"],
        "all markers are left without a context": lambda v: v["markers_left"]["none"] == 1,
    },
    "04": {
        "mixed data guess no more than guided": lambda v: (
            v["guesses"]["half and half"]["low"] <= v["guesses"]["guided"]["high"]
        ),
        "not all guided traces are careful": lambda v: v["careful_traces"] < v["traces"],
        "some own traces are": lambda v: 0 < v["checked_traces"] <= v["written"],
    },
    "05": {
        "the rates alone are too large": lambda v: v["silent_from_rates"] > v["silent_from_pairs"],
        "rare outcomes gain weight": lambda v: v["largest_weight_at"] == [1, 7],
        "a group of two is often silent": lambda v: v["silent_pairs"]["mean"] > 0.4,
    },
    "06": {
        "markers are tokens": lambda v: v["marker_ids"] >= 10,
        "the live run moved": lambda v: v["live_kl"] > 0,
    },
    "06b": {
        "peaks are steps": lambda v: all(step >= 0 for step in v["peaks"].values()),
        "alarms are steps": lambda v: all(
            step is None or step > 0 for step in v["first_loss_at_step"].values()
        ),
    },
    "08": {
        "taught where it is solved": lambda v: v["always_solved_taught"] >= v["hardly_solved_taught"],
    },
    "09": {
        "nothing can be taken out": lambda v: v["same_prompt_without_think"] is True,
        "a density suffers less": lambda v: v["worst_error_of_density"] < v["worst_error_of_count"],
        "H100s are too small as it is": lambda v: not v["fits_as_it_is"],
        "some change makes it fit": lambda v: len(v["fits_with"]) > 0,
    },
    "10": {
        "a correlation": lambda v: all(-1 <= value <= 1 for value in v["likeness"].values()),
        "distilling wrong completions is nearest to a method that distils": lambda v: (
            v["nearest"] in ("sdpo", "opsd_clip", "srpo")
        ),
        "SDPO pushes hardest": lambda v: v["pushes"]["sdpo"] <= min(v["pushes"].values()),
    },
}


def number(path: Path) -> str:
    return path.stem.partition("_")[0]


def exercises(page: Path) -> dict[str, str]:
    """The texts of a page's exercises by their number."""
    (cell,) = (cell.source for cell in raw(page).cells if "## Exercises" in cell.source)
    listed = cell.split("## Exercises")[1].split("<details>")[0].split("\n## ")[0]
    parts = re.split(r"^(\d)\. ", listed, flags=re.MULTILINE)[1:]
    return {n: " ".join(text.split()) for n, text in zip(parts[::2], parts[1::2], strict=True)}


def sections(path: Path) -> dict[str, list]:
    """The cells of each solution by its exercise's number; the record does not belong to one."""
    found: dict[str, list] = {}
    place: list = []
    for cell in raw(path).cells[:-1]:
        heading = re.match(r"## Exercise (\d)\n", cell.source) if cell.cell_type == "markdown" else None
        if heading:
            place = found.setdefault(heading[1], [])
        place.append(cell)
    return found


@pages
def test_every_exercise_has_a_solution(page):
    """Code and words after the exercise's own text, and a link; or an answer in words on the page itself."""
    asked = exercises(page)
    assert list(asked) == sorted(asked) and asked
    (cell,) = (cell.source for cell in raw(page).cells if "## Exercises" in cell.source)
    solved = solutions.path_of(page)
    if solved is None:
        answers = cell.partition("<summary>Answers</summary>")[2].partition("</details>")[0]
        assert re.findall(r"^(\d)\. \S", answers, re.MULTILINE) == list(asked)
        return
    assert f"](solutions/{solved.name})" in cell
    found = sections(solved)
    assert list(found) == list(asked)
    for n, cells in found.items():
        assert asked[n] in cells[0].source, f"exercise {n} has another text on its page"
        kinds = [one.cell_type for one in cells]
        assert kinds[-1] == "markdown" and "code" in kinds
        assert len(cells[-1].source.split()) > 25, "two or three sentences of what one sees"


@pages
def test_a_page_keeps_no_solution_of_its_own(page):
    assert not any("Solution of exercise" in cell.source for cell in raw(page).cells)


def test_every_file_belongs_to_a_page_and_links_it():
    assert {path.name for path in FILES} == {
        solutions.path_of(page).name for page in PAGES if solutions.path_of(page)
    }
    for path in FILES:
        assert f"](../{path.stem.removesuffix(solutions.ENDING)}.ipynb)" in raw(path).cells[0].source


@files
def test_tidy_and_short(path):
    notebook = raw(path)
    assert problems(notebook) == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert max(len(cell.source.splitlines()) for cell in code) <= LONGEST
    assert all(cell.outputs for cell in code[-1:]), "store the outputs: sdlab tour --only NN --refresh"


@pytest.mark.slow
@files
def test_it_runs_at_smoke_and_what_it_records_holds(path):
    done = execute(path, {"PRESET": "smoke", "MODEL": "organism"}, timeout=PATIENCE)
    assert [str(failure) for failure in done.failures] == []
    values = read_record(done.notebook)["values"]
    assert values["solved"] == [int(n) for n in sections(path)]
    checks = CHECKS[number(path)]
    assert [name for name, holds in checks.items() if not holds(values)] == [], values
