"""Evaluate a model on benchmarks and splits as the paper does (avg@16), with a folder per finished benchmark.

The organism's splits ("in-domain", ...) are benchmarks like any other, so an organism and a real model fit in
one table.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pandas

from sdlab.benchmarks.problems import ProblemSource
from sdlab.errors import SdlabError
from sdlab.measure.evaluation import evaluate
from sdlab.paper import paper_sampling
from sdlab.provenance import provenance
from sdlab.results.requests import load_problems, requests, source_file
from sdlab.results.result import Result, make_result, slug
from sdlab.results.store import check_same, held, load_result, save_result
from sdlab.rollout.checks import require_vllm
from sdlab.rollout.forecast import measured_speed, needs_forecast
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.seeds import stable_int
from sdlab.settings import Count, Seed, checked
from sdlab.text.chat_template import template_record
from sdlab.text.markers import total_markers
from sdlab.text.prompt import render_prompt
from sdlab.world.problems import Problem, fingerprint

ROOM = 64  # least number of tokens that a prompt must leave for a completion in the model's context


@checked
def evaluate_benchmarks(
    model: str | Engine,
    benchmarks: Sequence[str | ProblemSource] | Mapping[str, Sequence[Problem]],
    *,
    output: str | Path | None = None,
    name: str | None = None,
    thinking: bool = True,
    sampling: SamplingParams | None = None,
    engine: str = "torch",
    engine_settings: Mapping | None = None,
    source: str | None = None,
    limit: Count | None = None,
    seed: Seed = 0,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> list[Result]:
    """Sample and grade `model` on each benchmark, and return a Result for each.

    model: what `load_engine` accepts (with `engine` and `engine_settings`), or an engine (which needs a
    `name`). It is loaded when the first benchmark has to be sampled. benchmarks: names of benchmarks
    (name:split), of splits of the world and of files, sources of problems, or names with problems. A file's
    result has the file's name as its benchmark and the file's checksum in its settings. sampling:
    `paper_sampling(thinking)` unless given. A completion limit beyond the model's context is lowered to it,
    with a note. source: where `load_benchmark` finds its files; a file must have the benchmark's own file
    name. limit: how many of the first problems of each. progress(benchmark, done, total) counts completions.
    note: called with a forecast of time and memory before a benchmark, for models larger than an organism.

    output: each result is saved as output/<name>/<benchmark>; None saves nothing. A benchmark whose folder
    holds a result of the same settings and weights is not sampled again, so an interrupted evaluation resumes
    with the benchmark that was interrupted. A completion that was cut at the length limit counts as wrong,
    even if its text has the right box; `verdict` keeps the grading of its text.

    Raises SdlabError on unknown names, and when a folder holds a result of other settings (unless overwrite).
    """
    if not isinstance(model, str) and name is None:
        raise SdlabError(
            "evaluating an engine needs a name for its results; "
            "give name=..., or the model's name instead of the engine"
        )
    requested: dict[str, Sequence[Problem] | ProblemSource | None] = {}
    if isinstance(benchmarks, Mapping):
        requested.update(benchmarks)
    else:
        requested.update(
            requests([benchmarks] if isinstance(benchmarks, str | ProblemSource) else benchmarks)
        )
    if not requested:
        raise SdlabError(
            "no benchmarks to evaluate; name at least one, such as aime24 or in-domain, or give --problems"
        )
    label = name or (str(model) if thinking else f"{model} non-thinking")
    sampling = sampling or paper_sampling(thinking)
    loaded = None if isinstance(model, str) else model
    results = []
    origin = provenance(model=model if isinstance(model, str) else None, seed=seed)
    jobs = []
    # All errors in the benchmarks are raised before the first one is sampled.
    for benchmark, problems in requested.items():
        folder = Path(output) / slug(label) / slug(benchmark) if output is not None else None
        settings = {
            "weights": origin["model"],
            "engine": engine if isinstance(model, str) else None,
            "thinking": thinking,
            "sampling": asdict(sampling),
            "limit": limit,
            "seed": seed,
            "source": source,
        }
        if template := template_record((engine_settings or {}).get("chat_template")):
            settings["chat_template"] = template
        if isinstance(problems, ProblemSource):
            settings["problems"], problems = problems.record(), problems.load(limit)
        if source is not None and problems is None:
            settings["source_file"] = source_file(benchmark, source)
        if problems is not None:
            problems = list(problems)[:limit]
            settings["problems_sha256"] = fingerprint(problems)
        if not _finished(folder, label, benchmark, settings, origin, overwrite) and problems is None:
            problems = load_problems(benchmark, source, limit, seed)
        jobs.append((benchmark, problems, folder, settings))
    for benchmark, problems, folder, settings in jobs:
        with held(folder):
            if folder and _finished(folder, label, benchmark, settings, origin, overwrite):
                results.append(load_result(folder))
                continue
            if problems is None:  # its result was removed a moment ago
                problems = load_problems(benchmark, source, limit, seed)
            if loaded is None:
                from sdlab.rollout.loading import load_engine

                assert isinstance(model, str)  # an engine is loaded already
                loaded = load_engine(model, engine=engine, **(engine_settings or {}))
            inner = progress and (lambda done, total, at=benchmark: progress(at, done, total))
            result = _sample(
                loaded,
                problems,
                replace(sampling, seed=stable_int("evaluation", benchmark, seed)),
                thinking,
                label,
                benchmark,
                inner,
                note,
            )
            result.about.update(
                settings=settings,
                problems_sha256=fingerprint(problems),
                provenance=provenance(
                    origin["model"], seed, engine_settings=dict(engine_settings or {}), **_vllm(engine)
                ),
            )
            results.append(save_result(result, folder, overwrite) if folder is not None else result)
    return results


def _vllm(engine: str) -> dict:
    """Return vLLM's version, for the provenance of its samples."""
    with suppress(SdlabError):
        return {"vllm": require_vllm()} if engine == "vllm" else {}
    return {}


def _finished(
    folder: Path | None, model: str, benchmark: str, settings: dict, origin: dict, overwrite: bool
) -> bool:
    """Return whether the result is there and is to be kept.

    Raises SdlabError when the folder holds another result.
    """
    if folder is None or not folder.exists() or overwrite:
        return False
    check_same(folder, model, benchmark, settings, origin)
    return True


def _sample(
    engine: Engine,
    problems: Sequence[Problem],
    params: SamplingParams,
    thinking: bool,
    model: str,
    benchmark: str,
    progress: Callable[[int, int], None] | None,
    note: Callable[[str], None] | None = None,
) -> Result:
    """Return the result of one benchmark, with a completion limit that the model's context allows."""
    notes, context = [], engine.context_length
    if context is not None:
        prompts = [render_prompt(engine.tokenizer, p, thinking=thinking) for p in problems]
        ids = engine.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        longest, where = max((len(row), p.id) for row, p in zip(ids, problems, strict=True))
        if longest + params.max_completion_length > context:
            if longest + ROOM >= context:
                raise SdlabError(
                    f"the prompt of problem {where} has {longest} tokens, which leaves no room in the "
                    f"model's context of {context}; remove the problem, or use a model with a longer context"
                )
            notes.append(
                f"The completion limit is {context - longest:,} tokens instead of "
                f"{params.max_completion_length:,}: the model's context ends there."
            )
            params = replace(params, max_completion_length=context - longest)
    if note is not None and needs_forecast(engine):
        prompts = [render_prompt(engine.tokenizer, problem, thinking=thinking) for problem in problems]
        rows, limit = len(prompts) * params.num_generations, params.max_completion_length
        speed = measured_speed(engine, prompts, rows, limit)
        note(f"{benchmark}: {speed.sentence(rows, limit, len(prompts))}")
    frame = evaluate(
        engine,
        problems,
        params,
        thinking=thinking,
        entropy=engine.cheap_entropy,
        progress=progress,
    )
    if "entropy" not in frame:
        notes.append("Entropy is left out: the engine gives none.")
    frame["markers_substring"] = [total_markers(text, "substring") for text in frame["completion"]]
    questions = pandas.DataFrame(
        [
            {
                "problem_id": p.id,
                "domain": p.domain,
                "split": p.split,
                "kind": p.kind,
                "prompt": p.prompt,
                "truth": p.answer,
            }
            for p in problems
        ]
    )
    frame, more = cut_is_wrong(frame.drop(columns=["context", "guided"]), params.max_completion_length)
    about = {"length_unit": "tokens", "notes": notes + more, "sampled": asdict(params), "settings": {}}
    return make_result(model, benchmark, frame, questions, about)


def cut_is_wrong(frame: pandas.DataFrame, limit: int | None = None) -> tuple[pandas.DataFrame, list[str]]:
    """Return `frame` with the reward 0 for completions that were cut, and notes.

    The reward is NaN where there is no truth. The column `verdict` has the grading before this change. The
    notes say how many completions were cut, and how many problems have no truth.
    """
    notes, graded = [], frame["truth"].fillna("") != ""
    frame = frame.assign(verdict=frame["reward"].astype(float).where(graded))
    if not graded.all():
        subject = (
            "No problem has"
            if not graded.any()
            else f"{frame.loc[~graded, 'problem_id'].nunique()} problems have no"
        )
        notes.append(f"{subject} {'a ' if not graded.any() else ''}ground truth; their score is left out.")
    cut = frame["truncated"].astype(float) == 1
    frame["reward"] = frame["verdict"].where(~cut | frame["verdict"].isna(), 0.0)
    if cut.any():
        boxed = int((frame["verdict"][cut] == 1).sum())
        at = f" of {limit:,} tokens" if limit else ""
        notes.append(
            f"{cut.sum():,} of {len(frame):,} completions ({cut.mean():.1%}) were cut at the length limit"
            f"{at}: they count as wrong ({boxed} of them had boxed the right answer), "
            "and their lengths and marker counts are lower bounds."
        )
    return frame, notes
