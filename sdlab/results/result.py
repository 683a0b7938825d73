"""Results of a model on a benchmark, sampled here or imported: one form in memory, one folder on disk.

    samples.jsonl.gz   one line per generation: problem_id, generation, completion, answer, reward, verdict, length, markers ...
    problems.csv       one row per problem: prompt, truth, right of graded, rate with an exact interval, pass@k
    summary.csv        one row per metric: mean, low, high over problems
    result.json        model, benchmark, settings, notes, sha256 of the files above, provenance

A folder is complete or absent: it is written beside its place and moved there with one rename.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256 as hash_of
from pathlib import Path

import pandas

from sdlab.errors import SdlabError
from sdlab.grading.score import extract_answer
from sdlab.measure.evaluation import marker_means, summarise
from sdlab.measure.problem_rates import KS, pass_at_k_curve, pass_columns, problem_rates, score_interval
from sdlab.text.repr_html import ReprHtml

SAMPLES, PROBLEMS, SUMMARY, ABOUT = "samples.jsonl.gz", "problems.csv", "summary.csv", "result.json"
METRICS = (
    "length",
    "markers",
    "markers_substring",
    "density",
    "density_substring",
    "truncated",
    "entropy",
)  # over generations
ALL_METRICS = ("reward", *(f"pass@{k}" for k in KS), *METRICS)
QUESTION = (
    "domain",
    "split",
    "kind",
    "prompt",
    "truth",
)  # what the problems' table holds for the samples, too
NUMBERS = ("reward", "verdict", "recorded", "length", "markers", "markers_substring", "truncated", "entropy")
SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Result(ReprHtml):
    """The completions of one model on one benchmark, and their measures per problem."""

    model: str
    benchmark: str
    # settings, length_unit ("tokens" or "words"), notes, provenance
    about: dict
    # One row per completion, with the columns of QUESTION.
    samples: pandas.DataFrame
    # One row per problem: `problem_rates`, the columns of QUESTION, key (equal for equal prompts) and pass@1 ...
    problems: pandas.DataFrame
    # The folder that holds the result; None before it is saved.
    folder: Path | None = None

    def __repr__(self) -> str:
        rates = self.problems["rate"].dropna()
        score = f"score {rates.mean():.2f}" if len(rates) else "not graded"
        counts = f"{len(self.problems):,} problems, {len(self.samples):,} completions"
        place = f", {self.folder}" if self.folder else ""
        return f"<Result {self.model} on {self.benchmark}: {score}, {counts}{place}>"

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers must know, one sentence each."""
        return self.about["notes"]

    @property
    def warnings(self) -> list[str]:
        """Why the score says nothing, one sentence; empty when it does."""
        graded = self.samples[self.samples["reward"].notna() & (self.samples["truth"].fillna("") != "")]
        if graded.empty or (graded["reward"] != 0).any():
            return []
        if any(extract_answer(text, truth) for text, truth in zip(graded["completion"], graded["truth"])):
            return []
        return [
            f"Warning: none of the {len(graded):,} graded completions has a readable answer (\\boxed{{...}} or <answer> tags), "
            "so the score of 0.00 does not say whether they are right; look at the completions and at their limit of tokens."
        ]

    def summary(
        self, metrics: Sequence[str] | None = None, confidence: float = 0.95, seed: int = 0
    ) -> pandas.DataFrame:
        """A row per metric: model, benchmark, metric, mean, low, high, problems, generations, unit.

        Metrics: reward (the mean over problems of their pass rates: avg@n), pass@k, and METRICS (over generations; resampled by
        problem). `metrics` chooses some; those without any value are left out.
        """
        rows, wanted = [], ALL_METRICS if metrics is None else metrics
        for metric in (name for name in ALL_METRICS if name in wanted and name not in METRICS):
            values = self.problems["rate" if metric == "reward" else metric].dropna()
            if len(values):
                rows.append(
                    {
                        "metric": metric,
                        **vars(score_interval(values, confidence, seed)),
                        "problems": len(values),
                        "generations": int(self.problems["graded"].sum()),
                    }
                )
        known = [
            m
            for m in METRICS
            if m in wanted
            and (name := m.replace("density", "markers")) in self.samples
            and self.samples[name].notna().any()
        ]
        frame = pandas.DataFrame(rows, columns=["metric", "mean", "low", "high", "problems", "generations"])
        if known:
            over = summarise(self.samples, (), known, confidence, seed)
            frame = pandas.concat([frame, over], ignore_index=True) if len(frame) else over
        unit = self.about["length_unit"]
        units = {
            "length": unit,
            "density": f"per 1,000 {unit}",
            "density_substring": f"per 1,000 {unit}",
            "entropy": "nats per token",
        }
        frame["unit"] = frame["metric"].map(units).fillna("")
        frame.insert(0, "model", self.model)
        frame.insert(1, "benchmark", self.benchmark)
        return frame

    def pass_at_k(self, confidence: float = 0.95, seed: int = 0) -> pandas.DataFrame:
        """`pass_at_k_curve` with columns model and benchmark."""
        return pass_at_k_curve(self.problems, confidence=confidence, seed=seed).assign(
            model=self.model, benchmark=self.benchmark
        )

    def markers(self, match: str = "word") -> pandas.DataFrame:
        """Each of the ten markers: `sdlab.measure.evaluation.marker_means` with columns model and benchmark; match: word or substring."""
        return marker_means(self.samples, "model", match).assign(benchmark=self.benchmark)


def make_result(
    model: str, benchmark: str, samples: pandas.DataFrame, questions: pandas.DataFrame, about: dict
) -> Result:
    """A Result from rows per generation (problem_id and NUMBERS where known) and rows per problem (problem_id and QUESTION)."""
    samples = samples.copy()
    for name in NUMBERS:
        if name in samples:
            samples[name] = pandas.to_numeric(samples[name]).astype(float)
    rates = problem_rates(samples)
    problems = questions[["problem_id", *QUESTION]].merge(rates, on="problem_id", validate="one_to_one")
    problems.insert(
        1,
        "key",
        [
            prompt_key(prompt) or identity
            for prompt, identity in zip(problems["prompt"], problems["problem_id"])
        ],
    )
    problems = problems.join(pass_columns(problems))
    # a problem's columns first, in the problems' order of columns
    samples = samples.drop(columns=[*QUESTION, "model", "benchmark"], errors="ignore").merge(
        questions[["problem_id", *QUESTION]], on="problem_id", validate="many_to_one"
    )
    return Result(model, benchmark, about, samples.assign(model=model, benchmark=benchmark), problems)


def prompt_key(prompt: str) -> str:
    """A name for a prompt that ignores how its spaces and line breaks are set; "" for an empty one."""
    plain = SPACE.sub(" ", prompt).strip()
    return hash_of(plain.encode("utf-8", "replace")).hexdigest()[:16] if plain else ""


def slug(name: str) -> str:
    """`name` as the name of a folder: Qwen/Qwen3-8B becomes Qwen_Qwen3-8B. Raises SdlabError when nothing is left of it."""
    found = re.sub(r"[^\w.=-]+", "_", name).strip("._")[:120]
    if not found:
        raise SdlabError(f"the name {name!r} cannot name a folder; give one with letters or digits")
    return found
