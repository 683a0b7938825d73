"""The identity of a run: method, model, settings and versions, compared before a run resumes."""

import json
import warnings
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sdlab.errors import SdlabError
from sdlab.files import to_json, write_atomic
from sdlab.provenance import LIBRARIES
from sdlab.runs.files import FILES, FOLDERS, clear, read_about

# compared by name and checksum, not by place
FILE_SETTINGS = ("problems", "test_problems", "few_shot", "chat_template")
EXTENDABLE = ("steps",)  # settings that may grow when a run resumes, because no schedule depends on them


class Dataclass(Protocol):
    """A dataclass, such as a method's config or a plan."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def defaults(settings: Dataclass | None) -> dict:
    """Return the defaults of a dataclass's settings.

    A run that is older than a setting was made with that setting's default.
    """
    known = [] if settings is None else fields(settings)
    return json.loads(
        json.dumps({field.name: field.default for field in known if field.default is not MISSING})
    )


def begin(folder: Path, wanted: dict, before: dict, resume: bool, overwrite: bool) -> None:
    """Write config.json, unless the run in the folder resumes unchanged."""
    path = folder / "config.json"
    if path.exists() and not overwrite:
        there = read_about(folder)
        there |= {part: before[part] | there[part] for part in before}
        _compare(folder, there, wanted)
        longer = any(there["config"].get(name) != wanted["config"].get(name) for name in EXTENDABLE)
        if (folder / "finished.json").exists() and not longer:
            raise SdlabError(
                f"the run in {folder} is finished; read it with load_run, or start it again with --overwrite"
            )
        if not resume:
            raise SdlabError(
                f"{folder} holds a run that is not finished; "
                "resume it with --resume, or start it again with --overwrite"
            )
        if not longer:
            return
        (folder / "finished.json").unlink(missing_ok=True)  # first: a longer run is not finished
        wanted = wanted | {"provenance": there["provenance"]}
    elif path.exists():
        # All but config.json: after a kill here the folder is a run without steps.
        clear(folder, FILES[:-1], FOLDERS)
    write_atomic(path, to_json(wanted, indent=1) + "\n")


def described(record: dict | None) -> str:
    """Return the record of a file of problems in words: its name and the beginning of its checksum."""
    if record is None:
        return "no file"
    few_shot = record.get("few_shot")
    after = f" after {described(few_shot)}" if few_shot else ""
    return f"{record['name']} (sha256 {record['sha256'][:12]}){after}"


def _compare(folder: Path, there: dict, wanted: dict) -> None:
    """Raise SdlabError unless the run in `folder` has the same settings and the same model."""
    differ = []

    def compare(name: str, a: object, b: object, fine: bool = False) -> None:
        if a != b and not fine:
            differ.append(f"{name} is {a!r} there and {b!r} here")

    for name in ("method", "model"):
        compare(name, there[name], wanted[name])
    for part in ("config", "settings"):
        for name in sorted({*there[part], *wanted[part]}):
            a, b = there[part].get(name), wanted[part].get(name)
            longer = part == "config" and name in EXTENDABLE and None not in (a, b) and a < b
            moved = name in FILE_SETTINGS and None not in (a, b)
            compare(name, a, b, longer or moved)
    then, now = there["provenance"], wanted["provenance"]
    for role in ("train", "test"):
        a, b = ((origin.get("problems") or {}).get(role) for origin in (then, now))
        compare(f"the {role} problems", described(a), described(b))
    compare("the chat template", then.get("chat_template"), now.get("chat_template"))
    compare("sdlab", then.get("sdlab"), now["sdlab"])
    then_files, now_files = then.get("model_sha256") or {}, now["model_sha256"] or {}
    for name in sorted({*then_files, *now_files}):
        compare(
            f"sha256 of the model's {name}",
            then_files.get(name, "nothing")[:12],
            now_files.get(name, "nothing")[:12],
        )
    if differ:
        more = f"; and {len(differ) - 4} more" if len(differ) > 4 else ""
        raise SdlabError(
            f"{folder} holds another run: {'; '.join(differ[:4])}{more}; "
            "choose another folder or use --overwrite"
        )
    other = [
        f"{name} {now[name]} (begun with {then.get(name)})"
        for name in LIBRARIES
        if then.get(name) != now[name]
    ]
    if other:
        warnings.warn(
            f"the run in {folder} resumes with {', '.join(other)}; "
            "its numbers may differ from an uninterrupted run's",
            stacklevel=4,
        )
