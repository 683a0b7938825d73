"""Problems by one name: a split of the world, a real benchmark, a file, or a data set of the hub."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from sdlab import paths
from sdlab.benchmarks import files
from sdlab.benchmarks.catalogue import BENCHMARKS
from sdlab.benchmarks.hub import hub_rows, is_hub_name
from sdlab.benchmarks.prompts import PromptStyle
from sdlab.errors import SdlabError, unknown
from sdlab.files import sha256
from sdlab.world.problems import Problem, fingerprint
from sdlab.world.splits import SPLITS, load_split

MOST_EXAMPLES = 32  # solved problems in one prompt


@dataclass(frozen=True)
class ProblemSource:
    """Where problems come from, and how their prompts are written."""

    name: str
    """A split, a benchmark (or benchmark:split), a file, or a data set of the hub (org/dataset:split)."""
    question_column: str | None = None
    answer_column: str | None = None
    instruction: str | None = None
    system: str | None = None
    few_shot: str | None = None

    @property
    def file(self) -> Path | None:
        """Return the path of the file, or None when the name is no file."""
        path = paths.given(self.name)
        return path if path.is_file() else None

    @property
    def is_own(self) -> bool:
        """Return whether the problems are a file's or a data set's, and not those of a split or a benchmark.

        Raises SdlabError for a name that is none of them.
        """
        if self.file or is_hub_name(self.name):
            return True
        if self.name in SPLITS or self.name.partition(":")[0] in BENCHMARKS:
            return False
        if Path(self.name).suffix or "/" in self.name or "\\" in self.name:
            raise SdlabError(
                f"no file {self.name}; give a json, jsonl or parquet file of problems, a split or a benchmark"
            )
        raise unknown("split or benchmark", self.name, [*SPLITS, *BENCHMARKS])

    @property
    def label(self) -> str:
        """Return the name in tables and of folders: a file's name without its folder, or the name itself."""
        return self.file.name if self.file else self.name

    def load(self, limit: int | None = None) -> list[Problem]:
        """Return the first `limit` problems, all for None.

        Raises the errors of `load_problems`.
        """
        style = PromptStyle(self.instruction, self.system or "", read_examples(self.few_shot))
        columns = (self.question_column, self.answer_column)
        if self.file:
            rows, where, stem = files.file_rows(self.file), self.file.name, self.file.stem
            return files.problems_of(rows, where, stem, limit, None, columns, style)
        if self.is_own:
            stem = self.name.partition(":")[0].rpartition("/")[2]
            return files.problems_of(hub_rows(self.name), self.name, stem, limit, None, columns, style)
        if self.name in SPLITS:
            problems = load_split(self.name)
        else:
            from sdlab.benchmarks.load import load_benchmark

            name, _, split = self.name.partition(":")
            problems = load_benchmark(name, split=split or None)
        if columns != (None, None):
            raise SdlabError(
                f"{self.name} is no file of yours, so its columns are known; "
                "leave --question-column and --answer-column out"
            )
        if limit is not None and not 1 <= limit <= len(problems):
            raise SdlabError(
                f"limit={limit} is not allowed for {self.name}, which has {len(problems)} problems; "
                f"choose 1 to {len(problems)}"
            )
        return [
            replace(problem, prompt=style.prompt(problem.prompt, problem.answer, boxed=False))
            for problem in problems[:limit]
        ]

    def record(self) -> dict:
        """Return what identifies the problems: the name, a sha256, and the options that differ from None.

        The sha256 is the file's, or that of the problems where there is no file. Where the file lies does not
        count.
        """
        options = {key: value for key, value in asdict(self).items() if value is not None and key != "name"}
        if self.few_shot:
            path = paths.given(self.few_shot)
            options["few_shot"] = {"name": path.name, "sha256": sha256(path)}
        checksum = sha256(self.file) if self.file else fingerprint(self.load())
        return {"name": self.label, "sha256": checksum, **options}


# the settings of a source besides its name; a plan and a job have them, too
READING = tuple(field.name for field in fields(ProblemSource) if field.name != "name")


def load_problems(
    source: str | Path,
    limit: int | None = None,
    *,
    question_column: str | None = None,
    answer_column: str | None = None,
    instruction: str | None = None,
    system: str | None = None,
    few_shot: str | Path | None = None,
) -> list[Problem]:
    r"""Load problems: "unseen-types" (a split), "math500" (a benchmark), "my.jsonl" (a file), "org/dataset".

    limit: how many of the first problems; all when None. The columns of a file or a data set are found by
    their names (prompt, question or problem; answer, ground_truth or solution), or named here.
    Prompts get the \boxed{} instruction unless the question asks for a format itself. instruction: a text
    instead of it, "" for none. system: a text before the question. few_shot: a file of solved problems that
    come before it. Splits and benchmarks already say how to answer.
    Raises SdlabError for an unknown name, a file or data set that cannot be read, a row without a question or
    a readable answer, and a limit below 1 or above the number of problems.
    """
    return ProblemSource(
        str(source),
        question_column,
        answer_column,
        instruction,
        system,
        None if few_shot is None else str(few_shot),
    ).load(limit)


def read_examples(file: str | None) -> tuple[tuple[str, str], ...]:
    r"""Return the (question, worked solution) pairs of a file of solved problems, () without a file.

    An answer after #### or alone is written in \boxed{}, so that the examples have the form that is graded.

    Raises SdlabError when the file cannot be read or has more than MOST_EXAMPLES rows.
    """
    if file is None:
        return ()
    path = paths.given(file)
    rows = files.file_rows(path)
    if len(rows) > MOST_EXAMPLES:
        raise SdlabError(
            f"{path.name} has {len(rows)} solved problems, and each prompt would contain all; "
            f"give at most {MOST_EXAMPLES}"
        )
    return tuple(
        (problem.prompt, files.worked_solution(row, problem.answer))
        for problem, row in zip(files.problems_of(rows, path.name, path.stem), rows, strict=True)
    )
