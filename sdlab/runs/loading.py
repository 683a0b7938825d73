"""Read run folders."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas

from sdlab.errors import SdlabError
from sdlab.runs.files import read_about, read_lines


@dataclass(frozen=True)
class LoadedRun:
    """What a run folder holds. evaluations: step, split, problem_id and the sums per problem; None without any.

    An unfinished run's tables may be ahead of its checkpoint: those steps are made again, equal, when it goes on.
    """

    folder: Path
    method: str
    config: dict
    settings: dict
    provenance: dict
    steps: pandas.DataFrame
    evaluations: pandas.DataFrame | None
    finished: bool

    def samples(self) -> pandas.DataFrame:
        """The completions kept: step, problem_id, prompt, completion, reward."""
        return pandas.DataFrame(read_lines(self.folder / "samples.jsonl"))


def load_run(folder) -> LoadedRun:
    """Read a run folder, finished or not. Raises SdlabError when there is none and when a table is damaged."""
    folder = Path(folder)
    about = read_about(folder)
    latest = {(row["step"], row["split"]): row["sums"] for row in read_lines(folder / "evaluations.jsonl")}
    frames = [pandas.DataFrame(sums).assign(step=step, split=split) for (step, split), sums in latest.items()]
    return LoadedRun(
        folder, about["method"], about["config"], about["settings"], about["provenance"], pandas.DataFrame(read_lines(folder / "steps.jsonl")),
        pandas.concat(frames, ignore_index=True) if frames else None, (folder / "finished.json").exists(),
    )  # fmt: skip


def find_runs(root) -> list[Path]:
    """Folders of runs, finished or not, anywhere under `root`, sorted."""
    found = []
    for path in Path(root).rglob("config.json"):
        with suppress(SdlabError):
            read_about(path.parent)
            found.append(path.parent)
    return sorted(found)
