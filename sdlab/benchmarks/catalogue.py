"""The real benchmarks of the study: source, commit, licence and number of problems.

Every hub source is pinned to a commit. The commits come from public repositories that pin the same data sets,
and they agree with each other or with the hub's own page. They are checked on every load: the hub refuses a
commit that it does not have, and `sdlab.benchmarks.load` refuses rows that a cache holds from another one.
`distinct` comes from the study's notes, SDPO's split or the pinned files; a load with another number says so.
"""

from dataclasses import dataclass, field

from sdlab.errors import SdlabError, unknown


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    files: split -> its name in a folder of local data. distinct: split -> expected number of problems, where
    known. repo "" means that no hub has it; hub_file names one file of the repo to read where the repo itself
    cannot be loaded. drawn: (problems, copies of each) of a training subset, whose repeated rows are kept;
    repeated rows of all other benchmarks are removed. grading: "math" (boxed), "choice" (a letter), "calls"
    (tool calls) or "" (listed only; programs are never run).
    """

    name: str
    about: str
    files: dict[str, str]
    grading: str
    licence: str
    origin: str
    distinct: dict[str, int] = field(default_factory=dict)
    repo: str = ""
    config: str | None = None
    hub_split: str = "test"
    hub_file: str = ""
    revision: str = ""
    drawn: tuple[int, int] | None = None

    def split(self, split: str | None) -> str:
        """Return `split`, or the only split for None.

        Raises SdlabError for an unknown split, and for None when there are several.
        """
        if split is None and len(self.files) > 1:
            raise SdlabError(
                f"{self.name} has the splits {' and '.join(self.files)}; "
                f"say which, for example split={next(iter(self.files))!r}"
            )
        if split is not None and split not in self.files:
            raise unknown(f"split of {self.name}", split, self.files)
        return split or next(iter(self.files))

    @property
    def hub(self) -> str:
        """Return repository, commit and file in one line, "" when no hub has it."""
        return (
            f"{self.repo}@{self.revision}{f'/{self.hub_file}' if self.hub_file else ''}" if self.repo else ""
        )


DAPO = "dapo-math-17k"
STUDY = "data of github.com/beanie00/self-distillation-analysis"
SDPO = "datasets/ of github.com/lasgroup/SDPO"


def _math(name: str, about: str, revision: str, distinct: int, licence: str = "Apache-2.0") -> Benchmark:
    return Benchmark(
        name,
        about,
        {"test": f"{name}.parquet"},
        "math",
        licence,
        STUDY,
        {"test": distinct},
        f"math-ai/{name}",
        revision=revision,
    )


def _subset(size: str, questions: int, copies: int = 1) -> Benchmark:
    about = (
        f"{questions} question{'s' * (questions > 1)} of DAPO-Math-17k x {copies} (the study's Section 6.2)"
    )
    return Benchmark(
        f"dapo-{size}",
        about,
        {"train": f"dapo_seen_{size}.parquet"},
        "math",
        "Apache-2.0",
        STUDY,
        {"train": questions},
        drawn=(questions, copies),
    )


def _science(name: str, train: int, test: int) -> Benchmark:
    files = {split: f"sciknoweval_{name}_{split}.json" for split in ("train", "test")}
    return Benchmark(
        f"sciknoweval-{name}",
        f"SciKnowEval level 3 {name}, four choices, 90/10 as SDPO splits it",
        files,
        "choice",
        "MIT",
        SDPO,
        {"train": train, "test": test},
        "hicai-zju/SciKnowEval",
        "v2",
        revision="92ef969ad0a8bd6e195e0ac18af2c46e307e0cc2",
    )


_ALL = (
    Benchmark(
        DAPO,
        "the study's training set, repeated rows taken out",
        {"train": "dapo-math-17k.parquet"},
        "math",
        "Apache-2.0",
        "the hub",
        {"train": 17_917},
        "BytedTsinghua-SIA/DAPO-Math-17k",
        hub_split="train",
        revision="65877096c24ffa7abc4e4fa5edb95cf3413a5674",
    ),
    _subset("1x64", 1, 64),
    _subset("8x8", 8, 8),
    _subset("64", 64),
    _subset("128", 128),
    _subset("512", 512),
    _math("aime24", "AIME 2024, both papers", "83a7f387baaa524a8bda0022eac0541582297103", 30),
    _math("aime25", "AIME 2025, both papers", "563bb8404243c5f09de6ec262f2db674fe5bce9b", 30),
    _math("amc23", "AMC 12 of 2023", "80815d37005feb82cd7f8fbc6901d5d3eff43057", 40),
    _math(
        "math500",
        "500 problems of MATH's test set",
        "91b8f0024070e42ff83b949d6ca29da311fd3371",
        500,
        "MIT (MATH)",
    ),
    _science("chemistry", 1890, 210),
    _science("physics", 720, 80),
    _science("biology", 450, 50),
    _science("material", 841, 94),
    Benchmark(
        "toolalpaca",
        "which tool to call, with what (Thought, Action, Action Input)",
        {split: f"tooluse_{split}.json" for split in ("train", "test")},
        "calls",
        "not stated in SDPO's copy",
        f"{SDPO}, from github.com/tangqiaoyu/ToolAlpaca",
        {"test": 68},
    ),
    Benchmark(
        "livecodebench-v6",
        "programs, contests of February to April 2025; questions only",
        {"test": "test6.jsonl"},
        "",
        "CC",
        "the hub",
        {"test": 131},
        "livecodebench/code_generation_lite",
        hub_file="test6.jsonl",
        revision="0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
    ),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark of that name.

    Raises SdlabError for an unknown name, with the known ones.
    """
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    return BENCHMARKS[name]
