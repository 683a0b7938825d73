"""Completions of one problem side by side, with a choice of problem and completion."""

from __future__ import annotations

from typing import Any

from sdlab.charts.types import Frame, Options
from sdlab.errors import SdlabError
from sdlab.show.progress import is_headless, show_in_place
from sdlab.show.tokens import highlight_markers, side_by_side
from sdlab.show.view import View, render
from sdlab.show.widgets import guarded, leave_keys


def trace_view(frame: Frame, problem_id: str, generation: int = 0) -> View:
    """Show the completions of one problem in all contexts side by side, markers coloured.

    `frame`: from `sdlab.measure.evaluation.evaluate`, with the columns problem_id, context, generation and
    completion; length, reward, prompt and truth are used where present. Raises SdlabError when a column is
    missing, or when there is no such problem or generation.
    """
    from sdlab.charts.style import need
    from sdlab.text.prompt import CONTEXT_LABELS

    need(frame, ["problem_id", "context", "generation", "completion"], "trace_view")
    rows = frame[(frame["problem_id"] == problem_id) & (frame["generation"] == generation)]
    if not len(rows):
        raise SdlabError(
            f"no completion of problem {problem_id!r}, generation {generation}; "
            f"choose from the frame's columns problem_id and generation"
        )
    order = [context for context in CONTEXT_LABELS if context in set(rows["context"])]
    order += [context for context in dict.fromkeys(rows["context"]) if context not in order]
    views = []
    for index, context in enumerate(order):
        row = rows[rows["context"] == context].iloc[0]
        views.append(
            highlight_markers(
                str(row["completion"]),
                CONTEXT_LABELS.get(context, str(context)),
                legend=index == 0,
                length=int(row["length"]) if "length" in row else None,
                reward=float(row["reward"]) if "reward" in row else None,
            )
        )
    first = rows.iloc[0]
    name = f"{problem_id}, sample {generation}" + (
        f", the answer is {first['truth']}" if "truth" in rows.columns else ""
    )
    prompt = str(first["prompt"]) if "prompt" in rows.columns else ""
    body = side_by_side(*views)
    return View(render("problem.html", name=name, prompt=prompt, body=body), f"{name}\n{body.text}")


def trace_explorer(frame: Frame, *, static: int = 3) -> View | None:
    """Show the completions of one problem in all contexts, with a choice of problem and sample.

    In an interactive notebook: two dropdowns (Tab and arrow keys work) that redraw one ordinary output.
    Headless: the first `static` problems, the first open and the others folded. Raises SdlabError when a
    column is missing.
    """
    from sdlab.charts.style import need

    need(frame, ["problem_id", "context", "generation", "completion"], "trace_explorer")
    problems = list(dict.fromkeys(frame["problem_id"]))

    def samples(problem: str) -> list[int]:
        return sorted({int(g) for g in frame.loc[frame["problem_id"] == problem, "generation"]})

    def draw(problem: str, generation: int) -> View:
        return trace_view(frame, problem, generation)

    if is_headless():
        views = [draw(problem, samples(problem)[0]) for problem in problems[:static]]
        html = render("problems.html", problems=list(zip(problems, views, strict=False)), total=len(problems))
        return View(html, "\n\n".join(view.text for view in views))
    import ipywidgets
    from IPython.display import display

    wide: Options = {
        "style": {"description_width": "initial"},
        "layout": {"width": "auto", "min_width": "260px"},
    }
    problem: Any = ipywidgets.Dropdown(options=problems, description="problem", **wide)
    sample: Any = ipywidgets.Dropdown(options=samples(problems[0]), description="sample", **wide)
    display(ipywidgets.HBox([problem, sample], layout={"flex_flow": "row wrap"}))
    handle = show_in_place(draw(problem.value, sample.value))
    redraw = guarded(draw)

    def changed(change: dict[str, Any]) -> None:
        if change["owner"] is problem:
            sample.unobserve(changed, names="value")
            sample.options = samples(problem.value)
            sample.observe(changed, names="value")
        show_in_place(redraw(problem.value, sample.value), handle)

    problem.observe(changed, names="value")
    sample.observe(changed, names="value")
    leave_keys()
    return None
