"""Tables of notebook 09: two models beside the paper, cut completions, imported rollouts, and the bill."""

from collections.abc import Iterable, Mapping, Sequence

import pandas

from sdlab import paths
from sdlab.benchmarks.load import load_benchmark
from sdlab.errors import MissingPackage, SdlabError
from sdlab.findings.before_after import direction, metric_name, signed
from sdlab.grading.score import grade
from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.evaluation import table_one
from sdlab.measure.intervals import Interval, row_intervals
from sdlab.paper import PAPER, paper_sampling
from sdlab.results.comparison import wide
from sdlab.results.evaluate import evaluate_benchmarks
from sdlab.results.index import LABELS
from sdlab.results.result import Result
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import Engine
from sdlab.text.prompt import CONTEXT_LABELS, CONTEXTS
from sdlab.world.problems import Problem

HALF, LIMITS = 0.02, (80, 120, 240)
LEFT_OUT = "–"
BENCHMARKS = ("aime24", "amc23", "math500")
CUT = ("reward", "length", "markers", "truncated")


def models_side_by_side(
    model: str, engine: str, alone: bool, chat_template: str | None = None
) -> tuple[dict[str, Engine], str]:
    """Load a model and, unless `alone`, an organism of another size; return both by name, and the last name.

    alone: for problems that no organism can read. chat_template: for the named model (`load_engine`).
    """
    engines: dict[str, Engine] = {model: load_engine(model, engine=engine, chat_template=chat_template)}
    other = "organism-small" if model == paths.ORGANISM else paths.ORGANISM
    if alone:
        return engines, model
    return engines | {other: load_engine(other)}, other


def beside_the_paper(frames: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """Return Table 1 of each model below the paper's: a row per model and metric, a column per context.

    Columns have the labels of the contexts.

    A context that a model does not have is LEFT_OUT.
    """
    metrics = [str(metric) for metric in PAPER]
    table = {
        ("paper: DeepSeek-R1-Distill-Qwen-7B", metric_name(metric)): [
            paper_number(value) for value in PAPER[metric]
        ]
        for metric in metrics
    }
    for name, frame in frames.items():
        cells = table_one(frame, "context", metrics).reindex(list(CONTEXTS), fill_value=LEFT_OUT)
        table |= {(name, metric_name(metric)): cells[metric].tolist() for metric in metrics}
    labels = [CONTEXT_LABELS[context] for context in CONTEXTS]
    return pandas.DataFrame(table, index=labels).T.rename_axis(["model", "metric"])


def paper_number(value: float) -> str:
    """Return a number with the paper's digits: 0.98, 8.8, 182.5, 13,054; whole numbers have no decimals."""
    if abs(value) < 2:
        return f"{value:.2f}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def comparison_table(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return `sdlab.results.comparison.wide` with the metrics named as readers know them: "score"."""
    return wide(table).rename(columns=LABELS)


def summary_table(
    result: Result, metrics: Sequence[str] = ("reward", "length", "markers")
) -> pandas.DataFrame:
    """Return one row per metric of a result: its name for readers, and the mean with its interval.

    A metric without any value is left out.
    """
    rows = result.summary(metrics)
    cells = [str(interval) for interval in row_intervals(rows)]
    names = [LABELS.get(metric, metric) for metric in rows["metric"]]
    return pandas.DataFrame({"mean [95% interval]": cells}, index=pandas.Index(names, name="metric"))


def bare_answers(frames: Mapping[str, pandas.DataFrame]) -> dict[str, Comparison]:
    """Return, for each model that has thinking, what the solution without its thinking does to the score."""
    found = {}
    for name, frame in frames.items():
        if "solution_no_think" not in set(frame["context"]):
            continue
        alone, bare = (frame[frame["context"] == context] for context in ("none", "solution_no_think"))
        found[name] = compare(alone, bare, names=("no context", "solution without think"))
    return found


def bare_words(changes: Mapping[str, Comparison]) -> list[str]:
    """Return one sentence per model about the bare answer, and one that compares several models."""
    if not changes:
        return ["The solutions have no thinking, so there is no bare answer to compare with."]
    words = {
        name: direction(one, "raises", "lowers", "does not clearly change") for name, one in changes.items()
    }
    lines = [
        f"{name}: the bare answer {words[name]} the score ({signed(one.difference)})."
        for name, one in changes.items()
    ]
    alike = (
        "The models agree in this row." if len(set(words.values())) == 1 else "The models differ in this row."
    )
    return [*lines, alike] if len(changes) > 1 else lines


def cut_at(
    engine: Engine,
    problems: Sequence[Problem],
    name: str,
    num_generations: int,
    limits: Sequence[int] = LIMITS,
) -> dict[int, Result]:
    """Evaluate a model with several limits on the length of a completion."""
    found = {}
    for limit in limits:
        sampling = paper_sampling(num_generations=num_generations, max_completion_length=limit)
        (found[limit],) = evaluate_benchmarks(engine, {"problems": problems}, name=name, sampling=sampling)
    return found


def cut_table(results: Mapping[int, Result]) -> pandas.DataFrame:
    """Return score, length, markers and the share of cut completions for each limit."""
    rows = {}
    for limit, result in results.items():
        summary = result.summary(CUT).set_index("metric").loc[list(CUT)]
        rows[limit] = {
            "cut off" if metric == "truncated" else metric_name(metric): str(interval)
            for metric, interval in zip(CUT, row_intervals(summary), strict=True)
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("limit")


def cut_means(results: Mapping[int, Result]) -> dict[str, dict[str, float]]:
    """Return the means of `cut_table` by limit."""
    means = {limit: result.summary(CUT).set_index("metric")["mean"] for limit, result in results.items()}
    return {
        str(limit): {metric: round(float(column[metric]), 4) for metric in CUT}
        for limit, column in means.items()
    }


def own_truths(source: str, limit: int | None) -> tuple[pandas.DataFrame, list[str]]:
    """Grade each ground truth of the real benchmarks, given as an answer; return counts and notes.

    source: the folder with the files; "" for the place where `sdlab.paths.real_data` looks. limit: problems
    of a benchmark, None for all. A note says which benchmark is not here, or which package is missing.
    """
    rows, notes = {}, []
    for name in BENCHMARKS:
        if not source and paths.real_data(f"{name}.parquet") is None:
            notes.append(f"{name}: not here (`sdlab benchmarks` says where it comes from)")
            continue
        try:
            truths = [one.answer for one in load_benchmark(name, source=source or None)[:limit]]
        except MissingPackage as error:
            notes.append(f"The table is left out: {error}")
            break
        right = grade([rf"\boxed{{{truth}}}" for truth in truths], truths)
        rows[name] = {"problems": len(truths), "right": int(sum(right))}
    columns = pandas.Index(["problems", "right"])
    return pandas.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("benchmark"), notes


def problems_needed(interval: Interval, problems: int, half: float = HALF) -> int:
    """Return how many problems would give an interval of `half` on either side.

    The width of an interval shrinks with the root of the number of problems.
    """
    own = (interval.high - interval.low) / 2
    return round(problems * (own / half) ** 2)


def published_rows(result: Result) -> list[dict]:
    """Return the completions of a result in the form in which people publish rollouts."""
    rows = result.samples[["prompt", "completion", "truth", "length", "truncated"]].rename(
        columns={"completion": "response", "truth": "answer", "length": "num_tokens"}
    )
    rows["finish_reason"] = rows.pop("truncated").map({0.0: "stop", 1.0: "length"})
    return rows.to_dict("records")


def check_same_numbers(
    first: Result, again: Result, metrics: Iterable[str] = ("reward", "length", "markers")
) -> None:
    """Raise SdlabError unless two results have the same means and intervals."""
    names = list(metrics)
    one, two = (r.summary(names).set_index("metric")[["mean", "low", "high"]] for r in (first, again))
    worst = float((one - two).abs().to_numpy().max())
    if worst > 1e-12:
        raise SdlabError(f"{first.model}: two results that should be equal differ by {worst:g}")
