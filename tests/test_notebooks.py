"""The walkthrough's notebooks: kept tidy, executed at preset smoke, and what they record holds.

A new notebook needs an entry in CHECKS: statements about its recorded values that its story depends on.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hygiene import problems, raw, reading_minutes
from nbformat.v4 import new_code_cell, new_output
from newcomer import EXTRAS, without
from notebook_maker import code, make
from patience import PATIENCE

from sdlab.findings.doubt_left import recorded_verdicts
from sdlab.study.mechanism_recorded import load_mechanisms
from sdlab.study.paper_statements import COVERAGE_STATEMENTS, METHOD_STATEMENTS
from sdlab.study.recorded import load_recorded
from sdlab.study.statements import NOT_STATED, statement_rows
from sdlab.walkthrough.clean import clean
from sdlab.walkthrough.execute import execute
from sdlab.walkthrough.record import read_record

FOLDER = Path(__file__).parents[1] / "notebooks"
# tests/test_notebooks_solutions.py has those of the exercises
NOTEBOOKS = [path for path in sorted(FOLDER.glob("**/[0-9]*.ipynb")) if path.parent.name != "solutions"]
WALKTHROUGH = [
    "00_start_here",
    "01_conditional_mutual_information",
    "02_epistemic_markers",
    "03_four_contexts",
    "04_sft",
    "05_grpo",
    "06_sdpo",
    "06b_sdpo_recorded",
    "07_task_coverage_data",
    "08_task_coverage",
    "09_real_models",
    "10_repairs",
    "11_what_is_left_of_the_doubt",
    "12_early_warning",
]


def hints(values: dict, column: str) -> list[float]:
    """A column of notebook 01's table of hints, from the least reliable to the most."""
    return [row[column] for row in values["hints"].values()]


# Notebook -> {what must hold: check of the recorded values}. Only what holds at the sizes of preset smoke.
CHECKS: dict[str, dict[str, Callable[[dict], bool]]] = {
    "00_start_here": {
        "shorter with the solution": lambda v: (
            v["length in tokens with the solution in view"]["high"] < v["length in tokens without it"]["low"]
        ),
        "calmer with the solution": lambda v: (
            v["markers per completion with the solution in view"]["high"]
            < v["markers per completion without it"]["low"]
        ),
        "more often right": lambda v: (
            v["score with the solution in view"]["mean"] > v["score without it"]["mean"]
        ),
        "neither hopeless nor settled without": lambda v: 0.2 < v["score without it"]["mean"] < 0.95,
        "every completion counted": lambda v: v["completions"] == 2 * 4 * v["problems"],
    },
    "01_conditional_mutual_information": {
        "from nothing to log 2": lambda v: (
            v["hints"]["0.50"]["information"] == 0
            and abs(v["hints"]["1.00"]["information"] - 0.693147) < 1e-5
        ),
        "a hint worth more the more reliable": lambda v: (
            sorted(hints(v, "information")) == hints(v, "information")
        ),
        "and the calmer": lambda v: sorted(hints(v, "markers"), reverse=True) == hints(v, "markers"),
        "the plug-in counts too much": lambda v: (
            v["true_plug_in"]["mean"] > 2 * v["true_information"]["mean"]
        ),
        "for the model too": lambda v: v["model_plug_in"]["mean"] > 2 * v["model_information"]["mean"],
        "the model is near the truth": lambda v: (
            abs(v["model_information"]["mean"] - v["true_information"]["mean"]) < 0.25
        ),
        "never above the entropy": lambda v: 0 < v["true_information"]["mean"] < 1.61,
        "processing loses": lambda v: (
            v["chain"]["solution"] > max(v["chain"]["regenerated"], v["chain"]["solution_no_think"])
        ),
        "sometimes without bound": lambda v: None in v["plug_in_of_hints"] and v["infinite_plug_ins"] < 0.3,
        "less used, more doubt": lambda v: (
            v["written_from"]["solution"]["markers"] < v["written_from"]["solution_no_think"]["markers"]
        ),
    },
    "02_epistemic_markers": {
        "the paper's falls": lambda v: (
            (round(v["paper_count_fall"], 1), round(v["paper_density_fall"], 1)) == (20.7, 3.0)
        ),
        "hedges when unsure": lambda v: v["hedged_when_unsure"]["low"] > 0.5,
        "not when sure": lambda v: v["hedged_when_sure"]["mean"] < 0.2,
        "calmer, not only shorter": lambda v: v["organism_count_fall"] > v["organism_density_fall"] > 2,
        "its tone changes more than its length": lambda v: (
            v["organism_density_fall"] ** 2 > v["organism_count_fall"]
        ),
        "traces can be followed": lambda v: v["traces_followed"] > 0.5,
        "mostly on the rule": lambda v: 0 <= v["bins_off_the_rule"] <= v["bins"] / 2,
        "no marker in disguise": lambda v: v["extra_as_substrings"] == 0,
        "ten markers": lambda v: len(v["markers_per_completion"]) == 10,
    },
    "03_four_contexts": {
        "the solution makes it right": lambda v: (
            v["table_one"]["solution"]["reward"]["low"] > v["table_one"]["none"]["reward"]["mean"]
        ),
        "and short": lambda v: (
            v["table_one"]["solution"]["length"]["high"] < v["table_one"]["none"]["length"]["low"]
        ),
        "and sure": lambda v: (
            v["table_one"]["solution"]["markers"]["high"] < v["table_one"]["none"]["markers"]["low"]
        ),
        "without think most of the doubt stays": lambda v: (
            v["table_one"]["solution_no_think"]["markers"]["mean"]
            > 0.6 * v["table_one"]["none"]["markers"]["mean"]
        ),
        "regenerated between": lambda v: (
            v["table_one"]["solution"]["markers"]["mean"]
            <= v["table_one"]["regenerated"]["markers"]["mean"]
            <= v["table_one"]["solution_no_think"]["markers"]["mean"]
        ),
        "markers are where teacher and student part": lambda v: v["marker_heat"]["mean"] > 1.5,
        "but less so among choices": lambda v: (
            v["marker_heat_where_unsure"]["high"] < 0.5 * v["marker_heat"]["mean"]
        ),
        "problems are middling": lambda v: v["table_one"]["none"]["reward"]["mean"] < v["base_score_all"],
        "a bare answer helps where training showed how": lambda v: (
            v["table_one"]["solution_no_think"]["reward"]["mean"] > v["table_one"]["none"]["reward"]["mean"]
        ),
        "it can subtract": lambda v: v["subtractions_right"] > 0.8,
        "and seldom does so too early": lambda v: 0 <= v["steps_too_early"] < 0.7,
    },
    "04_sft": {
        "guided data are short": lambda v: (
            v["data"]["sft_guided"]["length"]["high"] < v["data"]["sft_unguided"]["length"]["low"]
        ),
        "and sure": lambda v: (
            v["data"]["sft_guided"]["markers"]["high"] < v["data"]["sft_unguided"]["markers"]["low"]
        ),
        "their loss sits where they commit": lambda v: (
            v["loss_on_so"]["guided"] > 3 * v["loss_on_so"]["unguided"]
        ),
        "and they hardly ever check": lambda v: (
            v["unchecked_in_data"]["guided data"] > v["unchecked_in_data"]["unguided data"] + 0.3
        ),
        "the filter for right answers takes guesses out": lambda v: (
            v["unchecked_in_data"]["the right ones"] <= v["unchecked_in_data"]["everything it wrote"]
        ),
        "guided training teaches to guess": lambda v: (
            v["unchecked"]["sft_guided"]["mean"] > v["unchecked"]["base"]["mean"]
        ),
        "told to look, it is right oftener": lambda v: v["every_nudge_gain"]["mean"] > 0,
        "and knows its facts": lambda v: v["facts_when_nudged"]["first look, SFT, guided"]["mean"] > 0.8,
        "nothing is cut off": lambda v: v["cut_off"] < 0.05,
        "recorded where it was judged": lambda v: (
            not v["recorded"]
            or all({"in-domain", "unseen-types"} <= set(row) for row in v["recorded"].values())
        ),
        "a share only of a loss": lambda v: (
            (v["recovered_by_one_nudge"] is None) == (v["recovered_by_every_nudge"] is None)
        ),
        "verdicts in three words": lambda v: (
            set(v["verdicts"].values()) <= {"smaller", "not significant", "larger"}
        ),
    },
    "05_grpo": {
        "the only right one of four": lambda v: v["advantage_of_the_only_right"] == 0.75,
        "all right teaches nothing": lambda v: v["all_right_teaches"] == 0,
        "a good token too likely, a bad one too unlikely": lambda v: v["flat_cases"] == 2,
        "pass rate times contrast": lambda v: v["identity_error"] < 1e-4,
        "groups to learn from": lambda v: (
            0.2 < v["score_before_training"] < 0.95 and v["groups_that_teach_nothing"] < 0.7
        ),
        "right completions checked more": lambda v: v["right_minus_wrong"]["checked"]["low"] > 0,
        "the model moved": lambda v: v["updates"] > 0 and v["kl_at_the_end"] > 1e-8,
        "recorded where it was judged": lambda v: {"in-domain", "unseen-types"} <= set(v["recorded"]),
    },
    "06_sdpo": {
        "the teacher objects most at markers": lambda v: v["marker_heat"]["low"] > 1.5,
        "no objection above log 2": lambda v: 0 < v["hottest_token"] <= 0.6932,
        "a bare result objects to less": lambda v: v["loss_per_token_without_think"] < v["loss_per_token"],
        "some completions teach": lambda v: 0.2 < v["distilled"] <= 1,
        "it trained": lambda v: v["live_steps"] == 3 and v["live_kl"] > 0,
        "every completion judged": lambda v: v["completions"] >= 8,
    },
    "06b_sdpo_recorded": {
        "the same table as everywhere": lambda v: (
            v["findings"] == statement_rows(load_recorded(), METHOD_STATEMENTS)
        ),
        "forty steps against a hundred": lambda v: (
            set(v["after_step_40"]) == {"grpo_long", "sdpo_long", "sdpo_no_think_long"}
            or len(v["not_recorded"]) > 0
        ),
        "the paper's statements are counted, ours are not": lambda v: (
            sum(v["verdicts"].values()) == sum(row["paper"] != NOT_STATED for row in v["findings"].values())
        ),
        "as many rates below as there are": lambda v: 0 <= v["rates_below"] <= v["rates"],
        "peaks lie within runs": lambda v: all(
            0 <= shape["peak"] <= shape["last"] for shape in v["shapes"].values()
        ),
    },
    "07_task_coverage_data": {
        "eight by hand": lambda v: (
            v["eight"]["distinct"] == 6 and 1 < v["eight"]["effective"] <= v["eight"]["types"]
        ),
        "simulation agrees": lambda v: abs(v["simulated_off"]) < 0.01,
        "no plan gives both numbers": lambda v: v["plans_for_both"] == 0,
        "six types, many wordings": lambda v: v["chemistry_types"] == 6 < v["chemistry_wordings"],
        "no types in mathematics": lambda v: v["dapo_types"] is None,
        "the files are not the paper's": lambda v: (
            {"Chemistry (SciKnowEval): questions", "DAPO 512: distinct questions"} <= set(v["disagreements"])
        ),
        "wording is not type": lambda v: (
            v["rand_index"]["chemistry-train"] < 0.1 < 0.4 < v["rand_index_with_place"]
        ),
        "same types, more combinations": lambda v: (
            v["effective_types"]["deeper"] > 19
            and v["combinations"]["deeper"] > 2 * v["combinations"]["in-domain"]
        ),
        "new types": lambda v: v["overlap"]["train / unseen-types"]["near"] == 0,
        "near is not the same": lambda v: (
            v["overlap"]["train / in-domain"]["near_other_answer"]
            > 0.8 * v["overlap"]["train / in-domain"]["near"]
            > 0.4 * v["overlap"]["train / in-domain"]["test"]
        ),
        "kata is trained on its test": lambda v: (
            v["overlap"]["kata / kata"]["exact"] == v["overlap"]["kata / kata"]["test"] > 0
        ),
        "chemistry repeats nothing": lambda v: v["overlap"]["chemistry-train / chemistry-test"]["exact"] == 0,
        "a test question in training": lambda v: (
            v["real_overlap"]["dapo_seen_512.parquet / math500.parquet"] == {"exact": 0, "near": 1}
        ),
        "subsets lie in each other": lambda v: (
            v["real_overlap"]["dapo_seen_512.parquet / dapo_seen_128.parquet"]["exact"] == 128
        ),
        "mathematics is the most varied": lambda v: (
            min(v["unlike_of_64"]["DAPO 512"], v["unlike_of_64"]["MATH-500"])
            > 2
            * max(value for name, value in v["unlike_of_64"].items() if name not in ("DAPO 512", "MATH-500"))
        ),
        "chemistry soon seen": lambda v: (
            v["met_in_64"]["chemistry, types"] > 5.9 and v["met_in_64"]["chemistry, wordings"] < 25
        ),
    },
    "08_task_coverage": {
        "it trained": lambda v: v["live_steps"] == 2,
        "a hidden loss is a rise beside a fall": lambda v: all(
            v["crossing"][count]["gain"]["low"] > 0 > v["crossing"][count]["unseen-types"]["high"]
            for count in v["hidden_damage"]
        ),
        "up and down exclude each other": lambda v: not set(v["training_up"]) & set(v["training_down"]),
        "the same table as everywhere": lambda v: (
            v["claims"] == statement_rows(load_recorded(), COVERAGE_STATEMENTS)
        ),
        "the paper's statements are counted, ours are not": lambda v: (
            sum(v["verdicts"].values()) == sum(row["paper"] != NOT_STATED for row in v["claims"].values())
        ),
    },
    "09_real_models": {
        "calmer with the solution, both models": lambda v: (
            len(v["markers"]) == 2 and all(m["solution"] < 0.5 * m["none"] for m in v["markers"].values())
        ),
        "the bare answer is compared for both models": lambda v: (
            set(v["bare_answer"]) == {"organism", "organism-small"}
        ),
        "a short limit cuts and costs": lambda v: (
            v["cut"]["80"]["truncated"] > v["cut"]["240"]["truncated"]
            and v["cut"]["80"]["reward"] < v["cut"]["240"]["reward"]
        ),
        "and makes answers look short and sure": lambda v: all(
            v["cut"]["80"][m] < v["cut"]["240"][m] for m in ("length", "markers")
        ),
        "truths are right against themselves": lambda v: all(
            one["right"] == one["problems"] > 0 for one in v["own_truths"].values()
        ),
        "few problems, wide interval": lambda v: (
            v["thirty"]["low"] < v["thirty"]["mean"] < v["thirty"]["high"]
            and v["thirty"]["problems_needed"] > 30
        ),
        "the paper's machine holds it": lambda v: (
            50 < v["estimate"]["gib"] < 180 and v["estimate"]["hours"] > 1
        ),
        "TRL is not the paper by default": lambda v: v["differences"] > 20,
    },
    "10_repairs": {
        "SDPO lowers the doubt, a reward does not": lambda v: (
            v["mean_push"]["sdpo"] < 0 and v["mean_push"]["sdpo"] < v["mean_push"]["grpo"]
        ),
        "written in a cell as in sdlab": lambda v: (
            abs(v["mean_push"]["clip"] - v["mean_push"]["opsd_clip"]) < 1e-4
            and abs(v["mean_push"]["gate"] - v["mean_push"]["choice_gate"]) < 1e-4
        ),
        "four methods trained": lambda v: set(v["live"]) == {"SDPO", "clip", "gate", "weigh"},
    },
    "11_what_is_left_of_the_doubt": {
        "the doubt of the base can be read": lambda v: v["probe_r2"] > 0.7,
        "better on types that it knows": lambda v: v["r2_before_unseen_types"]["mean"] < v["probe_r2"],
        "and its readout falls where a trained model is stored": lambda v: (
            "stored checkpoint" not in v["origin"] or v["marker_ratio"] < 0.9
        ),
        "the logits move": lambda v: v["residual"] != 0,
        "the same verdicts as everywhere": lambda v: v["claims"] == recorded_verdicts(load_mechanisms()),
    },
    "12_early_warning": {
        "an area of the better direction": lambda v: 0.5 <= v["area_across"] <= 1,
        "within methods only where both outcomes occur": lambda v: (
            (v["area_within"] is None) == (v["mixed_methods"] == 0)
        ),
        "failed and healthy runs": lambda v: 0 < v["failed"] < v["runs"],
        "it trained": lambda v: v["live_steps"] == 3,
        "the callback saw the markers go": lambda v: v["trl_fired"] == 1,
        "verdicts in three words": lambda v: (
            {row["verdict"] for row in v["claims"].values()} <= {"yes", "no", "not settled"}
        ),
    },
}

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_walkthrough_is_complete():
    assert [path.stem for path in NOTEBOOKS if path.parent.name == "notebooks"][
        : len(WALKTHROUGH)
    ] == WALKTHROUGH


@every_notebook
def test_tidy(path):
    assert problems(raw(path)) == []


@every_notebook
def test_no_number_of_seeds_is_typed_in_text(path):
    """It is computed from the data, or not named: three series had three seeds where the text said five."""
    typed = re.compile(r"\b(?:two|three|four|five|ten|[2-9]|10) (?:training |different )?seeds\b")
    texts = [cell.source for cell in raw(path).cells if cell.cell_type == "markdown"]
    if path.parent.name == "notebooks":  # labs tell students how many seeds to run
        assert [found for text in texts for found in typed.findall(text)] == []


REDUCED = [path for path in NOTEBOOKS if path.parent.name == "notebooks" and path.stem >= "05"]
MOST_CODE, LONGEST = 200, 15  # lines of a notebook, lines of a cell


@pytest.mark.parametrize("path", REDUCED, ids=lambda path: path.stem)
def test_little_code(path):
    cells = [cell.source.splitlines() for cell in raw(path).cells if cell.cell_type == "code"]
    assert sum(bool(line.strip()) for cell in cells for line in cell) <= MOST_CODE
    assert max(map(len, cells)) <= LONGEST


@pytest.mark.parametrize("path", REDUCED, ids=lambda path: path.stem)
def test_the_opening_states_goals_needs_and_an_honest_reading_time(path):
    opening = raw(path).cells[0].source
    assert all(f"**{what}**" in opening for what in ("You learn to", "You need", "Time"))
    stated = int(re.search(r"about (\d+) minutes to read", opening)[1])
    assert 0.7 < stated / reading_minutes(raw(path)) < 1.4


def test_every_notebook_can_install_sdlab_as_the_page_on_colab_says():
    page = (NOTEBOOKS[0].parents[1] / "docs" / "install.md").read_text(encoding="utf-8")
    documented = re.findall(r"^!(.+)$", page.partition("## Colab and Kaggle")[2], re.MULTILINE)
    for path in (path for path in NOTEBOOKS if path.parent.name == "notebooks"):
        (cell,) = [cell for cell in raw(path).cells if 'find_spec("sdlab")' in cell.source]
        assert len(cell.source.splitlines()) < 6 and cell.metadata["jupyter"]["source_hidden"]
        assert cell.source.rpartition("!")[2] == " && ".join(documented[:2])


@pytest.mark.parametrize("path", REDUCED, ids=lambda path: path.stem)
def test_every_prediction_is_asked_and_compared(path):
    sources = [cell.source for cell in raw(path).cells]
    asked = [source for source in sources if re.search(r"\b(?:reveal|predict)\([^)]*,", source)]
    assert asked and any("guesses_summary()" in source for source in sources)
    assert not any("**Predict first" in source for source in sources)  # a question in text hides nothing


@pytest.mark.slow
@every_notebook
def test_runs_at_smoke_and_its_story_holds(path):
    """As after the README's first command: without the packages of the extras."""
    done = execute(path, {"PRESET": "smoke", "MODEL": "organism"}, timeout=PATIENCE, change=without(*EXTRAS))
    assert [str(failure) for failure in done.failures] == []
    values = read_record(done.notebook)["values"]
    checks = CHECKS.get(path.stem)
    assert checks, f"add what must hold to CHECKS[{path.stem!r}]; it records {', '.join(values)}"
    assert [name for name, holds in checks.items() if not holds(values)] == [], values


# The checks themselves can fail.

TIDY = "from sdlab.walkthrough.record import record\nrecord(a=1)"


def tidy(*cells, **options):
    return clean(make(*cells, TIDY, **options))


def test_a_tidy_notebook_has_no_problems():
    notebook = tidy("print(1)".ljust(110, "#"))
    notebook.cells[2].outputs = [new_output("stream", name="stdout", text="1\n")]
    assert problems(notebook) == []


def test_a_cut_stream_is_joined():
    """Only neighbours of one stream: what stands between them, and the other stream, stay where they are."""
    notebook = make(TIDY)
    out, err = (
        lambda text, name=name: new_output("stream", name=name, text=text) for name in ("stdout", "stderr")
    )
    picture = new_output("display_data", data={"text/plain": "a"})
    notebook.cells[-1].outputs = [out("a"), out("b\n"), err("c"), out("d"), picture, out("e"), out("f")]
    joined = [one.get("text") for one in clean(notebook).cells[-1].outputs]
    assert joined == ["ab\n", "c", "d", None, "ef"]


def spoilt(change) -> list[str]:
    notebook = tidy("print(1)")
    change(notebook)
    return problems(notebook)


UNTIDY = {
    "an error": (
        lambda n: n.cells[2].outputs.append(new_output("error", ename="E", evalue="v", traceback=[])),
        "a saved error: cell 3",
    ),
    "a count": (lambda n: n.cells[2].update(execution_count=3), "outputs or metadata of a run"),
    "papermill": (lambda n: n.metadata.update(papermill={"duration": 1}), "outputs or metadata of a run"),
    "cell times": (lambda n: n.cells[2].metadata.update(execution={}), "outputs or metadata of a run"),
    "widget state": (lambda n: n.metadata.update(widgets={}), "outputs or metadata of a run"),
    "a path": (
        lambda n: n.cells[2].outputs.append(new_output("stream", text="in /home/ann/sdlab")),
        "a path of one machine: /home/ann",
    ),
    "a long cell": (
        lambda n: n.cells[2].update(source="x = 1\n" * 21),
        "a cell of 21 lines, more than 20: x = 1",
    ),
    "a long line": (
        lambda n: n.cells[2].update(source="x = 1\ny = " + "1" * 107, id="c2"),
        "a line of 111 characters, more than 110, line 2 of cell c2: y = 111",
    ),
    "no record": (lambda n: n.cells.append(code("1")), "the last code cell does not record"),
    "two parameter cells": (
        lambda n: n.cells[2].metadata.update(tags=["parameters"]),
        "2 cells tagged `parameters`",
    ),
    "no parameter cell": (lambda n: n.cells.pop(1), "0 cells tagged `parameters`"),
    "computed parameter": (
        lambda n: n.cells[1].update(source=n.cells[1].source + "\nN: int = 2 * 3"),
        "holds more than lines of the form",
    ),
    "untyped parameter": (
        lambda n: n.cells[1].update(source=n.cells[1].source + "\nN = 2"),
        "holds more than lines of the form",
    ),
    "other default": (
        lambda n: n.cells[1].update(source='PRESET: str = "full"\nMODEL: str = "organism"'),
        "parameter PRESET is 'full' instead of 'quick'",
    ),
    "missing parameter": (
        lambda n: n.cells[1].update(source='PRESET: str = "quick"'),
        "parameter MODEL is None",
    ),
    "no title": (lambda n: n.cells[0].update(source="Hello"), "the first cell is not a title"),
    "no question": (lambda n: n.cells[0].update(source="# Hello"), "no question as a blockquote"),
    "another kernel": (
        lambda n: n.metadata.kernelspec.update(name="my-env"),
        "the kernelspec is not python3",
    ),
    "equal ids": (
        lambda n: n.cells.append(new_code_cell("record(a=1)", id=n.cells[2].id)),
        "cells without an id of their own",
    ),
    "no ids": (
        lambda n: (n.update(nbformat_minor=4), [cell.pop("id") for cell in n.cells]),
        "cells without an id of their own",
    ),
    "no cell type": (lambda n: n.cells[2].pop("metadata"), "not a valid notebook"),
}


@pytest.mark.parametrize("case", UNTIDY)
def test_untidiness_is_told(case):
    change, told = UNTIDY[case]
    assert any(line.startswith(told) or told in line for line in spoilt(change)), spoilt(change)
