"""Read run folders."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas

from sdlab.errors import SdlabError
from sdlab.files import files_below
from sdlab.runs.files import read_about, read_lines
from sdlab.text.repr_html import ReprHtml


@dataclass(frozen=True)
class LoadedRun(ReprHtml):
    """The contents of a run folder.

    The tables of an unfinished run may be ahead of its checkpoint. When the run is resumed, those steps are
    computed again with the same values.
    """

    folder: Path
    method: str
    config: dict
    settings: dict
    provenance: dict
    # One row per step, with the columns of `sdlab.train.log`.
    steps: pandas.DataFrame
    # One row per evaluation and problem: step, split, problem_id and the sums; None without an evaluation.
    evaluations: pandas.DataFrame | None
    finished: bool

    def __repr__(self) -> str:
        parts = [self.method]
        if model := self.provenance.get("model"):
            parts.append(f"model {model}")
        if "seed" in self.config:
            parts.append(f"seed {self.config['seed']}")
        planned = f" of {self.config['steps']}" if "steps" in self.config else ""
        parts.append(f"{len(self.steps)}{planned} steps")
        parts.append("finished" if self.finished else "not finished")
        return f"<LoadedRun {', '.join(parts)}, {self.folder}>"

    @property
    def model(self) -> str:
        """Return the path of the trained model's folder, usable wherever a model is named.

        Raises SdlabError when the run is not finished, and when its folder holds no model.
        """
        if not self.finished:
            raise SdlabError(
                f"the run in {self.folder} is not finished, so it has no trained model; "
                "start it again with the same settings to finish it"
            )
        path = self.folder / "model"
        if not path.is_dir():
            raise SdlabError(f"{path} is missing; train again with --overwrite, or choose another run")
        return str(path)

    def samples(self) -> pandas.DataFrame:
        """Return the completions that the run kept: step, problem_id, prompt, completion, reward."""
        return pandas.DataFrame(read_lines(self.folder / "samples.jsonl"))


def load_run(folder: str | Path) -> LoadedRun:
    """Read a run folder, finished or not.

    Raises SdlabError when the folder holds no run, and when a table is damaged.
    """
    folder = Path(folder)
    about = read_about(folder)
    latest = {(row["step"], row["split"]): row["sums"] for row in read_lines(folder / "evaluations.jsonl")}
    frames = [pandas.DataFrame(sums).assign(step=step, split=split) for (step, split), sums in latest.items()]
    return LoadedRun(
        folder,
        about["method"],
        about["config"],
        about["settings"],
        about["provenance"],
        pandas.DataFrame(read_lines(folder / "steps.jsonl")),
        pandas.concat(frames, ignore_index=True) if frames else None,
        (folder / "finished.json").exists(),
    )


def find_runs(root: str | Path) -> list[Path]:
    """Return the folders of all runs under `root`, finished or not, sorted; hidden folders are left out.

    Raises SdlabError for a folder that cannot be read, because its runs would be missing silently.
    """
    runs = []
    for path in files_below(root):
        if path.name == "config.json":
            with suppress(SdlabError):
                read_about(path.parent)
                runs.append(path.parent)
    return sorted(runs)
