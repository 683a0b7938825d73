"""Import completions from other people's files as results, like those that are sampled here.

So a published checkpoint's completions can be analysed without a GPU: score, pass@k, length, markers and
truncation, where the file has the data. What the file does not state is left out, with a note.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.provenance import provenance
from sdlab.reading.files import Rollouts, read_rollouts, rollouts_of
from sdlab.results.import_result import AMBIGUOUS, Settings, result_of
from sdlab.results.result import ABOUT, SAMPLES, Result, slug
from sdlab.results.store import held, load_result, refuse_existing, save_result


def import_rollouts(
    paths: str | Path | Sequence[str | Path],
    *,
    name: str | None = None,
    benchmark: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    tokenizer: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> list[Result]:
    """Return the completions in jsonl, json or parquet files as results, one per model and benchmark.

    A row has a prompt and a completion, or a list of completions. name: the model's name; without it the
    rows' own, else the file's name. benchmark: likewise. columns: role -> column for what is not recognised
    automatically (roles: prompt, response, thinking, answer, tokens, finish_reason, truncated, reward, model,
    benchmark, problem_id). tokenizer: counts lengths again ("organism", a folder or a hub name); without it
    the file's token counts are used, and without those lengths are in words. output: each result is saved as
    output/<model>/<benchmark>.

    Rows are grouped by the whole prompt into problems, with all their completions. Completions are graded by
    `sdlab.grading.score` against the gold answer; without one the file's own verdicts are the score, and
    without those there is none. `Result.notes` says how many rows, completions, answers and verdicts were
    read, what was left out, and why. samples.jsonl.gz in a result's folder is read with the prompts and gold
    answers of that folder. Nothing in the files is executed.

    Raises SdlabError on a missing or damaged file, on a missing column, and when no row has a completion.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if not files:
        raise SdlabError("no files to import; name at least one jsonl, json or parquet file")
    twice = [
        file for i, file in enumerate(files) if file.resolve() in {other.resolve() for other in files[:i]}
    ]
    if twice:
        raise SdlabError(f"{twice[0]} is named twice; its completions would count twice, name it once")
    groups: dict[tuple[str, str], list[dict]] = {}
    notes: dict[tuple[str, str], list[str]] = {}
    used: dict[str, str] = {}
    units: set[str] = set()
    for file in files:
        rollouts, unit = _read(file, columns or {})
        used, units = rollouts.columns | used, units | {unit}
        keys = [
            (name or row["model"] or file.stem, benchmark or row["benchmark"] or file.stem)
            for row in rollouts.rows
        ]
        for key, row in zip(keys, rollouts.rows, strict=True):
            groups.setdefault(key, []).append(row | {"row": f"{file} {row['row']}"})
        for key in dict.fromkeys(keys):
            notes.setdefault(key, []).extend(f"{file.name}: {note}" for note in rollouts.notes)
    count = _counter(tokenizer) if tokenizer else None
    hashes = {str(file): sha256(file) for file in files}
    if len(set(hashes.values())) < len(files):
        for sentences in notes.values():
            sentences.append(
                "Some of the files have the same content; their completions count more than once."
            )
    origin = provenance(files=hashes, columns=used)
    answer = used.get("answer", "").lower().rpartition(".")[2]
    gold = (columns or {}).get("answer") is not None or answer not in AMBIGUOUS
    settings = Settings(used, gold, "words" if units == {"words"} else "tokens", tokenizer, count)
    results = [result_of(*key, rows, notes[key], settings, origin) for key, rows in groups.items()]
    if output is None:
        return results
    places = [Path(output) / slug(result.model) / slug(result.benchmark) for result in results]
    for folder in places:  # all, before the first is written
        refuse_existing(folder, overwrite)
        if places.count(folder) > 1:
            raise SdlabError(
                f"two results would be written to {folder}, because their names differ in signs only; "
                "import them apart, with other names (--name, --benchmark)"
            )
    saved = []
    for result, folder in zip(results, places, strict=True):
        with held(folder):
            saved.append(save_result(result, folder, overwrite))
    return saved


def _read(file: Path, columns: Mapping[str, str | None]) -> tuple[Rollouts, str]:
    """Return the completions of a file, and the unit of its token counts.

    The unit is "words" where sdlab's own result says so, else "tokens".
    """
    if file.name == SAMPLES and (file.parent / ABOUT).is_file():
        result = load_result(file.parent)
        records = result.samples.to_dict("records")
        rollouts = rollouts_of(
            records, file, columns, [f"prompts and gold answers are those of {file.parent}."]
        )
        return rollouts, result.about["length_unit"]
    return read_rollouts(file, columns, errors="replace"), "tokens"


def _counter(tokenizer: str) -> Callable[[str], int]:
    """Return the function text -> number of tokens of a tokenizer.

    Raises SdlabError when the tokenizer cannot be loaded.
    """
    from transformers import AutoTokenizer

    from sdlab.paths import given, shipped
    from sdlab.rollout.checks import require_hub

    if not shipped(tokenizer) and not given(tokenizer).exists():
        require_hub(tokenizer)
    try:
        loaded = AutoTokenizer.from_pretrained(shipped(tokenizer) or tokenizer, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise SdlabError(
            f"could not load the tokenizer {tokenizer!r} ({str(error).splitlines()[0][:120]}); "
            'name a folder, a hub name or "organism"'
        ) from error
    return lambda text: len(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])
