"""What the teacher sees in the student's completions, and how much each context tells about its own."""

import pandas

from sdlab.measure.evaluation import first_right, summarise
from sdlab.measure.model_information import model_information
from sdlab.measure.token_divergence import token_divergence
from sdlab.rollout.types import Engine, TrainableEngine
from sdlab.study.contexts import Selection
from sdlab.text.prompt import demonstration_for, render_prompt


def judged_tokens(
    engine: TrainableEngine, selection: Selection, completions: pandas.DataFrame
) -> pandas.DataFrame:
    """Return `token_divergence` of completions that were written without context.

    The teacher sees each problem's solution of the selection. Column `kind` is added: marker, number or other
    token; `size` is |u|, and problem_id repeats `name`.
    """
    place = {problem.id: number for number, problem in enumerate(selection.problems)}
    numbers = [place[name] for name in completions["problem_id"]]
    asked = [selection.problems[n] for n in numbers]
    solutions = [selection.solutions[n] for n in numbers]
    tokenizer = engine.tokenizer
    tokens = token_divergence(
        engine,
        [render_prompt(tokenizer, problem) for problem in asked],
        [render_prompt(tokenizer, problem, text) for problem, text in zip(asked, solutions, strict=True)],
        tokenizer(completions["completion"].tolist(), add_special_tokens=False)["input_ids"],
        names=[problem.id for problem in asked],
    )
    kinds = [
        "marker" if marker else "number" if token.strip().isdigit() else "other"
        for marker, token in zip(tokens["marker"], tokens["token"], strict=True)
    ]
    return tokens.assign(problem_id=tokens["name"], kind=kinds, size=tokens["u"].abs())


def own_information(
    engine: Engine, selection: Selection, frame: pandas.DataFrame, per_problem: int = 2
) -> pandas.DataFrame:
    """Return how much more likely each context made the completions that were written under it.

    `frame`: from `run_contexts`. At most `per_problem` completions per problem and context are scored. The
    columns are those of `model_information(...).frame` and markers.
    """
    place = {problem.id: number for number, problem in enumerate(selection.problems)}
    blocks = {str(name): block for name, block in frame.groupby("context", sort=False)}
    again = first_right(blocks["solution"])
    parts = []
    for name in (name for name in blocks if name != "none"):
        block = blocks[name].groupby("problem_id").head(per_problem)
        numbers = [place[problem] for problem in block["problem_id"]]
        shown = [
            demonstration_for(name, selection.solutions[n], again.get(selection.problems[n].id))
            for n in numbers
        ]
        problems = [selection.problems[n] for n in numbers]
        scored = model_information(engine, problems, block["completion"].tolist(), shown, context=name)
        parts.append(scored.frame.assign(markers=block["markers"].to_numpy()))
    return pandas.concat(parts, ignore_index=True)


def information_and_markers(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return a row per context for `charts.information_markers`: information and markers with intervals."""
    wide = summarise(rows, "context", ["nats", "markers"])
    wide = wide.pivot(index="context", columns="metric", values=["mean", "low", "high"])
    return pandas.DataFrame({
        "information": wide["mean", "nats"], "low": wide["low", "nats"], "high": wide["high", "nats"],
        "markers": wide["mean", "markers"],
        "m_low": wide["low", "markers"], "m_high": wide["high", "markers"],
    }).reset_index()  # fmt: skip
