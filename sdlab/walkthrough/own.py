"""Notebooks and the report's head for a run on the reader's own model or problems."""

import math
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell

from sdlab.findings.own_problems import all_problems
from sdlab.measure.intervals import Interval
from sdlab.paths import ORGANISM
from sdlab.presets import Preset
from sdlab.rollout.forecast import measured_speed, needs_forecast
from sdlab.rollout.loading import load_engine
from sdlab.study.contexts import BASE_SAMPLES, HOPELESS
from sdlab.study.verdicts import judge
from sdlab.text.prompt import render_prompt
from sdlab.text.templates import check_template
from sdlab.walkthrough.execute import parameters_cell, read
from sdlab.walkthrough.report import Entry, Lead

WORLD = "world"  # the tag of cells that need the problems of sdlab's world
LEFT_OUT = (
    "*Left out of this run: this part needs the number hunts of sdlab's world and the rational reasoner, "
    "which knows the truth about them. This run has other problems.*"
)
# notebook, value, part of it -> statement, and the sign that it claims
STATEMENTS = {
    ("03_four_contexts", "solution_changes", "reward"): ("With the full solution the score rises", 1),
    ("03_four_contexts", "solution_changes", "length"): (
        "With the full solution completions are shorter",
        -1,
    ),
    ("03_four_contexts", "solution_changes", "markers"): (
        "With the full solution they have fewer markers",
        -1,
    ),
    ("06_sdpo", "marker_change_", ""): ("A short SDPO training lowers the markers", -1),
    ("06_sdpo", "score_change_", ""): ("A short SDPO training lowers the score on problems held out", -1),
}
SOURCES = {"03": "the paper's Table 1", "06": "the paper's Section 4"}


def without_world(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook with a sentence in place of every run of cells that are tagged WORLD."""
    cells, left_out = [], False
    for cell in notebook.cells:
        needs_world = WORLD in cell.metadata.get("tags", [])
        if needs_world and not left_out:
            heading = cell.source.splitlines()[0] if cell.source.startswith("#") else ""
            text = f"{heading}\n\n{LEFT_OUT}" if heading and cell.cell_type == "markdown" else LEFT_OUT
            cells.append(new_markdown_cell(text, id=cell.get("id") or "left-out"))
        if not needs_world:
            cells.append(cell)
        left_out = needs_world
    return nbformat.NotebookNode({**notebook, "cells": cells})


def follows(line: Entry, problems: str, chat_template: str = "") -> bool:
    """Return whether a notebook's results are of the named model, and of the named problems if there are any.

    With a chat template, the notebook must also read that. A notebook that does not read MODEL or PROBLEMS
    shows recorded runs of the organism, or the world.
    """
    notebook = read(line.source)
    own = parameters_cell(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell is not own]
    names = ["PROBLEMS" if problems else "MODEL", *(["CHAT_TEMPLATE"] if chat_template else [])]
    return all(any(name in source for source in code) for name in names)


def is_own(model: str, problems: str, chat_template: str = "") -> bool:
    """Return whether a run is not the shipped walkthrough: another model, problems or template."""
    return model != ORGANISM or bool(problems) or bool(chat_template)


def title(model: str, problems: str) -> str:
    """Return the heading of the report of such a run."""
    on = f" on {Path(problems).name}" if problems else ""
    return f"What the solution takes away: {Path(model).name}{on}"


def longest_cell(model: str, problems: str, size: Preset, chat_template: str = "") -> tuple[str, float]:
    """Return a forecast of the longest cell of the notebooks, and its seconds; "" and 0 for small models.

    That cell chooses the problems of Table 1: it samples HOPELESS problems before it gives up.

    Raises SdlabError for a model without a chat template when none is named.
    """
    engine = load_engine(model, chat_template=chat_template or None)
    check_template(engine.tokenizer, thinking=True)
    if not needs_forecast(engine):
        return "", 0.0
    few = all_problems(problems)[:HOPELESS]
    prompts = [render_prompt(engine.tokenizer, problem) for problem in few]
    rows, limit = len(few) * BASE_SAMPLES, size.max_completion_length
    speed = measured_speed(engine, prompts, rows, limit)
    words = f"the longest cell chooses the problems of Table 1: {speed.sentence(rows, limit, len(few))}"
    return words, speed.sampling(rows, limit, len(few))


def own_lead(entries: Iterable[Entry]) -> Lead | None:
    """Return the answer and the verdicts that the notebooks of this run computed; None before any did."""
    values = {line.name: line.values for line in entries if line.status == "done"}
    rows, answer = [], table_one_words(values.get("03_four_contexts", {}))
    for (notebook, name, part), (claim, sign) in STATEMENTS.items():
        found = next((v for key, v in values.get(notebook, {}).items() if key.startswith(name)), None)
        found = found.get(part) if part and found else found
        if not found or found["mean"] is None:
            continue
        ends = (math.nan if found[name] is None else found[name] for name in ("low", "high"))
        interval = Interval(found["mean"], *ends)  # without ends nothing is settled
        bounds = (0.0, float("inf")) if sign > 0 else (float("-inf"), 0.0)
        measured = f"{'+' * (interval.mean >= 0)}{interval}"
        rows.append((claim, judge(interval, *bounds), measured, SOURCES[notebook[:2]]))
    return Lead(answer, "", "", tuple(rows)) if answer or rows else None


def table_one_words(values: dict) -> str:
    """Return one sentence about Table 1 from the record of notebook 03; "" where there is none."""
    table = values.get("table_one")
    if not table:
        return ""
    none, informed = table["none"], table["solution"]
    kept = [
        f"{informed[metric]['mean'] / none[metric]['mean']:.0%} of the {name}"
        for metric, name in (("length", "length"), ("markers", "markers"))
        if none[metric]["mean"]
    ]
    score = f"{informed['reward']['mean']:.2f} instead of {none['reward']['mean']:.2f}"
    return f"With the full solution in view the model scores {score}, in {' and '.join(kept)}."
