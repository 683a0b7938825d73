"""Say in which conditions results differ: their problems, their prompts, or their sampling."""

from collections.abc import Sequence
from itertools import groupby

from sdlab.results.result import Result

# settings of an evaluation that change what a completion is, besides the sampling itself
SETTINGS = ("thinking", "chat_template", "engine")
LATER = ("num_generations", "seed")  # of the sampling: more or other completions of the same distribution


def differing_conditions(results: Sequence[Result], baseline: str) -> list[str]:
    """Return a sentence for each result that had other conditions than the baseline's on its benchmark.

    Their difference is then not the models' alone. An imported result says nothing of its sampling.
    """
    sentences = []
    by_benchmark = sorted(results, key=lambda result: result.benchmark)
    for benchmark, group in groupby(by_benchmark, key=lambda result: result.benchmark):
        own = list(group)
        first = next((result for result in own if result.model == baseline), None)
        for other in own if first is not None else []:
            if other is first or first is None:
                continue
            what = [*_problems(first, other), *_sampling(first, other)]
            if what:
                sentences.append(
                    f"{benchmark}: {other.model} and {first.model} differ in more than the model: "
                    f"{'; '.join(what)}."
                )
    return sentences


def _problems(a: Result, b: Result) -> list[str]:
    """Return how the problems or their prompts differ, in words."""
    keys_a, keys_b = (set(result.problems["key"]) for result in (a, b))
    if keys_a == keys_b:
        return []
    common, counts = len(keys_a & keys_b), f"{len(keys_b)} and {len(keys_a)}"
    ids_a, ids_b = (
        set(zip(result.problems["problem_id"], result.problems["truth"], strict=True)) for result in (a, b)
    )
    if ids_a & ids_b and common == 0:
        return [f"other prompts for {len(ids_a & ids_b)} problems, so none can be paired"]
    what = "other prompts or problems" if ids_a == ids_b else "other problems"
    return [f"{what} ({counts}, {common} in common, which are compared)"]


def _sampling(a: Result, b: Result) -> list[str]:
    """Return how sampling and settings differ, in words; nothing where one is not known."""
    words = []
    own, other = (result.about.get("sampled") or {} for result in (a, b))
    for name in other if own else ():
        if name not in LATER and other[name] != own.get(name):
            words.append(f"{name} {other[name]} and {own.get(name)}")
    imported = [bool(result.about.get("settings", {}).get("imported")) for result in (a, b)]
    if any(imported):
        return words
    own, other = (result.about.get("settings", {}) for result in (a, b))
    for name in SETTINGS:
        if own.get(name) != other.get(name):
            words.append(f"{name} {other.get(name)} and {own.get(name)}")
    return words
