"""Results of a model on a benchmark, sampled here or imported: one form in memory, one folder on disk.

    samples.jsonl.gz   one line per completion: problem_id, generation, completion, answer, reward, ...
    problems.csv       one row per problem: prompt, truth, right of graded, rate with exact interval, pass@k
    summary.csv        one row per metric: mean, low, high over problems
    result.json        model, benchmark, settings, notes, sha256 of the files above, provenance

A folder is complete or absent: it is written next to its place and moved there with one rename.
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
# metrics over completions
METRICS = (
    "length",
    "markers",
    "markers_substring",
    "density",
    "density_substring",
    "truncated",
    "no_answer",
    "entropy",
)
ALL_METRICS = ("reward", *(f"pass@{k}" for k in KS), *METRICS)
# columns of a problem, which every sample of it has too
QUESTION = ("domain", "split", "kind", "prompt", "truth")
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
    # One row per problem: `problem_rates`, the columns of QUESTION, key (equal for equal prompts), pass@1 ...
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
        """Return the notes that a reader of the numbers must know, one sentence each."""
        return self.about["notes"]

    @property
    def unreadable_count(self) -> int:
        """Return how many completions have no readable answer."""
        return int(self.samples["no_answer"].sum()) if "no_answer" in self.samples else 0

    @property
    def unreadable(self) -> str:
        """Return how many completions have no readable answer, in words: "12 of 400"."""
        return f"{self.unreadable_count:,} of {len(self.samples):,}" if "no_answer" in self.samples else ""

    @property
    def warnings(self) -> list[str]:
        """Return a sentence on why the score has no meaning; empty when it has one."""
        graded = self.samples[self.samples["reward"].notna() & (self.samples["truth"].fillna("") != "")]
        if graded.empty or (graded["reward"] != 0).any():
            return []
        if any(
            extract_answer(text, truth)
            for text, truth in zip(graded["completion"], graded["truth"], strict=True)
        ):
            return []
        return [
            f"Warning: none of the {len(graded):,} graded completions has a readable answer "
            "(\\boxed{...} or <answer> tags), so the score of 0.00 does not say whether they are right; "
            "look at the completions and at their limit of tokens."
        ]

    def summary(
        self, metrics: Sequence[str] | None = None, confidence: float = 0.95, seed: int = 0
    ) -> pandas.DataFrame:
        """Return a row per metric: model, benchmark, metric, mean, low, high, problems, generations, unit.

        Metrics: reward (the mean over problems of their pass rates: avg@n), pass@k, and METRICS (over
        completions; resampled by problem). `metrics` selects some. Metrics without any value are left out.
        """
        rows, selected = [], ALL_METRICS if metrics is None else metrics
        for metric in (name for name in ALL_METRICS if name in selected and name not in METRICS):
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
            if m in selected
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
        """Return `pass_at_k_curve` with columns model, benchmark and no_answer.

        no_answer: share of completions without a readable answer.
        """
        return pass_at_k_curve(self.problems, confidence=confidence, seed=seed).assign(
            model=self.model,
            benchmark=self.benchmark,
            no_answer=self.unreadable_count / len(self.samples),
        )

    def markers(self, match: str = "word") -> pandas.DataFrame:
        """Return the frequency of each of the ten markers, with columns model and benchmark.

        See `sdlab.measure.evaluation.marker_means`. match: "word" or "substring".
        """
        return marker_means(self.samples, "model", match).assign(benchmark=self.benchmark)


def make_result(
    model: str, benchmark: str, samples: pandas.DataFrame, questions: pandas.DataFrame, about: dict
) -> Result:
    """Return a Result from a row per completion and a row per problem.

    `samples` has problem_id and NUMBERS where known; `questions` has problem_id and QUESTION.
    """
    samples = samples.copy()
    for name in NUMBERS:
        if name in samples:
            samples[name] = pandas.to_numeric(samples[name]).astype(float)
    if "answer" in samples:
        samples["no_answer"] = samples["answer"].isna().astype(float)
    rates = problem_rates(samples)
    problems = questions[["problem_id", *QUESTION]].merge(rates, on="problem_id", validate="one_to_one")
    problems.insert(
        1,
        "key",
        [
            prompt_key(prompt) or identity
            for prompt, identity in zip(problems["prompt"], problems["problem_id"], strict=True)
        ],
    )
    problems = problems.join(pass_columns(problems))
    # the columns of a problem come from `questions`
    samples = samples.drop(columns=[*QUESTION, "model", "benchmark"], errors="ignore").merge(
        questions[["problem_id", *QUESTION]], on="problem_id", validate="many_to_one"
    )
    return Result(model, benchmark, about, samples.assign(model=model, benchmark=benchmark), problems)


def prompt_key(prompt: str) -> str:
    """Return a key of a prompt that ignores differences in white space; "" for an empty prompt."""
    plain = SPACE.sub(" ", prompt).strip()
    return hash_of(plain.encode("utf-8", "replace")).hexdigest()[:16] if plain else ""


def slug(name: str) -> str:
    """Return `name` as the name of a folder: Qwen/Qwen3-8B becomes Qwen_Qwen3-8B.

    Raises SdlabError when no character is left.
    """
    folder = re.sub(r"[^\w.=-]+", "_", name).strip("._")[:120]
    if not folder:
        raise SdlabError(f"the name {name!r} cannot name a folder; give one with letters or digits")
    return folder
