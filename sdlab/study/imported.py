"""Rollouts that others already have (jsonl, json or parquet of prompts and responses), as results like those sampled here.

So anybody can analyse a published checkpoint's outputs without a GPU: score, pass@k, length, markers, truncation, as far as
the file says enough; what it does not say is left out, and said.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas

from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.measure.files import read_frame
from sdlab.measure.markers import total_markers
from sdlab.score import MAX_ANSWER_CHARS, extract_answer, verify
from sdlab.study.evaluations import cut_is_wrong, held
from sdlab.study.import_columns import (
    cell_of,
    cut_of,
    find_columns,
    generations_of,
    join,
    prompt_of,
    text_of,
    truth_of,
    verdict_of,
)
from sdlab.study.provenance import provenance
from sdlab.study.results import Result, make_result, prompt_key, save_result, slug

BARE = 8  # words (or characters) of a response that is an answer and nothing else


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
    """The rollouts in jsonl, json or parquet files as results, one per model and benchmark; saved as output/<model>/<benchmark>.

    A row has a prompt and a response, or a list of responses. name: the model's; without it, what the rows say, else the
    file's name. benchmark: likewise. columns: role -> column for what is not found by itself (roles: prompt, response, thinking,
    answer, tokens, finish_reason, reward, model, benchmark, problem_id). tokenizer: counts lengths anew ("organism", a folder or
    a hub name); without it the file's token counts are taken, and without those lengths are in words.
    Rows are grouped by prompt into problems, with as many generations each as there are. Responses are graded by `sdlab.score`
    against the gold answer; without one the file's own verdicts are the score, and without those there is none. `Result.notes`
    says what was done and what is missing. Nothing in the files is executed.
    Raises SdlabError on a missing or damaged file, a column that is not there, and when no row has a response.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if not files:
        raise SdlabError("no files to import; name at least one jsonl, json or parquet file")
    groups: dict[tuple[str, str], list[dict]] = {}
    told: dict[tuple[str, str], list[str]] = {}
    used: dict[str, str] = {}
    for file in files:
        records = read_frame(file, errors="replace").to_dict("records")
        found = find_columns(records, columns or {})
        used = found | used
        rows, notes = _read(records, found)
        if not rows:
            raise SdlabError(
                f"{file}: no row has a response in column {found['response']!r}; the columns are: {', '.join(map(str, records[0]))}; name another with --response"
            )
        for row in rows:
            key = (name or row["model"] or file.stem, benchmark or row["benchmark"] or file.stem)
            groups.setdefault(key, []).append(row)
        for key in {
            (name or row["model"] or file.stem, benchmark or row["benchmark"] or file.stem) for row in rows
        }:
            told.setdefault(key, []).extend(f"{file.name}: {note}" for note in notes)
    count = _counter(tokenizer) if tokenizer else None
    origin = provenance(files={str(file): sha256(file) for file in files}, columns=used)
    sure = (columns or {}).get("answer") is not None
    results = [
        _result(*key, rows, told[key], count, tokenizer, used, sure, origin) for key, rows in groups.items()
    ]
    if output is None:
        return results
    saved = []
    for result in results:
        folder = Path(output) / slug(result.model) / slug(result.benchmark)
        with held(folder):
            saved.append(save_result(result, folder, overwrite))
    return saved


def _read(records: list[dict], found: dict[str, str]) -> tuple[list[dict], list[str]]:
    """(one row per response, notes on the file)."""
    rows, empty, odd = [], 0, 0
    for number, record in enumerate(records):
        cells = {role: cell_of(record, column) for role, column in found.items()}
        responses = generations_of(cells["response"])
        thinking = [text_of(one) for one in _each(cells.get("thinking"), len(responses))]
        beside = {
            role: _each(cells.get(role), len(responses)) for role in ("tokens", "finish_reason", "reward")
        }
        odd += any(
            isinstance(cells.get(role), list) and len(cells[role]) != len(responses) for role in beside
        )
        prompt = prompt_of(cells.get("prompt"))
        for i, one in enumerate(responses):
            if one is None:
                empty += 1
                continue
            rows.append({
                "row": number, "prompt": prompt or "", "truth": truth_of(cells.get("answer")) or "", "id": text_of(cells.get("problem_id")),
                "model": text_of(cells.get("model")), "benchmark": text_of(cells.get("benchmark")),
                "completion": join(thinking[i], one.text) if thinking[i] else one.text,
                "tokens": one.tokens if one.tokens is not None else beside["tokens"][i],
                "truncated": cut_of(one.finish_reason if one.finish_reason is not None else beside["finish_reason"][i]),
                "recorded": verdict_of(beside["reward"][i]),
            })  # fmt: skip
    notes = ["columns: " + ", ".join(f"{role} {column!r}" for role, column in found.items()) + "."]
    if empty:
        notes.append(
            f"{empty:,} of {empty + len(rows):,} responses are missing and left out; if they are failures, the score here is too high."
        )
    if odd:
        notes.append(
            f"{odd:,} rows have lists of other lengths than their responses; what these say is left out."
        )
    if "answer" in found and not any(row["truth"] for row in rows):
        notes.append(f"no gold answer can be read in column {found['answer']!r}.")
    return rows, notes


def _each(cell, count: int) -> list:
    """A cell for each of `count` responses: a list of as many, the same for all, or nothing."""
    if isinstance(cell, list):
        return cell if len(cell) == count else [None] * count
    return [cell] * count


def _counter(tokenizer: str):
    from transformers import AutoTokenizer

    from sdlab.paths import shipped

    try:
        loaded = AutoTokenizer.from_pretrained(shipped(tokenizer) or tokenizer, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise SdlabError(
            f'could not load the tokenizer {tokenizer!r} ({str(error).splitlines()[0][:120]}); name a folder, a hub name or "organism"'
        ) from error
    return lambda text: len(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])


def _result(model, benchmark, rows, told, count, tokenizer, found, sure, origin) -> Result:
    notes, frame = list(told), pandas.DataFrame(rows)
    problems = _group(frame, sure, notes)
    frame["problem_id"] = [f"{benchmark}/{number:04d}" for number in problems]
    labels = frame.groupby("problem_id")["id"].agg(
        lambda ids: ids.iloc[0] if ids.nunique(dropna=False) == 1 else None
    )
    if labels.notna().all() and labels.is_unique:  # the file's own names, where they fit
        frame["problem_id"] = frame["problem_id"].map(labels)
    frame["generation"] = frame.groupby("problem_id").cumcount()
    sizes = frame.groupby("problem_id").size()
    if sizes.min() < sizes.max():
        notes.append(
            f"Problems have {sizes.min()} to {sizes.max()} generations each; every problem counts once in the score, and pass@k is over the problems with at least k."
        )
    unit, said = _lengths(frame, count, tokenizer, found)
    notes.append(said)
    words = frame["completion"].str.split().str.len().median()
    if words <= BARE:
        notes.append(
            f"Half of the responses have {words:.0f} words or fewer: they look like extracted answers, of whose reasoning lengths and markers say nothing."
        )
    for match, column in (("word", "markers"), ("substring", "markers_substring")):
        frame[column] = [total_markers(text, match) for text in frame["completion"]]
    frame["answer"] = [
        extract_answer(text, truth or None) for text, truth in zip(frame["completion"], frame["truth"])
    ]
    _grade(frame, notes, found)
    frame, more = cut_is_wrong(frame) if (frame["truth"] != "").any() else (frame, [])
    notes += more
    if frame["truncated"].isna().all():
        notes.append(
            "Nothing says whether responses were cut at the length limit (no finish reason), so truncation is left out."
        )
    elif frame["truncated"].isna().any():
        notes.append(f"{frame['truncated'].isna().sum():,} responses do not say whether they were cut.")
    unclosed = sum(text.rfind("<think>") > text.rfind("</think>") for text in frame["completion"])
    if unclosed:
        notes.append(
            f"{unclosed:,} responses open <think> and never close it, as responses that were cut do."
        )
    broken = sum("\ufffd" in text for text in frame["completion"])
    if broken:
        notes.append(f"{broken:,} responses hold U+FFFD, which stands for bytes that were no text.")
    questions = frame.drop_duplicates("problem_id")[["problem_id", "prompt", "truth"]].assign(
        domain=benchmark, split=benchmark, kind=""
    )
    if frame["recorded"].isna().all():
        frame = frame.drop(columns="recorded")
    about = {
        "length_unit": unit,
        "notes": notes,
        "settings": {"imported": True, "tokenizer": tokenizer},
        "provenance": origin,
    }
    return make_result(model, benchmark, frame.drop(columns=["row", "id", "tokens"]), questions, about)


def _group(frame: pandas.DataFrame, sure: bool, notes: list[str]) -> list[int]:
    """The number of each row's problem, and a note where prompts do not say it; sure: the user named the column of gold answers."""
    if (frame["prompt"] != "").any():
        lost = int((frame["prompt"] == "").sum())
        if lost:
            notes.append(f"{lost:,} responses have no prompt; each file row of them is a problem of its own.")
        keys = [prompt_key(prompt) or f"row {row}" for prompt, row in zip(frame["prompt"], frame["row"])]
    elif frame["id"].notna().all():
        notes.append("There are no prompts; rows of the same id are one problem.")
        keys = frame["id"].tolist()
    else:
        notes.append(
            "There are no prompts and no ids: every row is taken as a problem of its own, and nothing can be paired with other results."
        )
        keys = [f"row {row}" for row in frame["row"]]
    differ = int((frame["truth"].groupby(keys, sort=False).nunique() > 1).sum())
    if differ and sure:
        notes.append(
            f"{differ:,} prompts come with different gold answers, each taken as a problem of its own."
        )
        keys = list(zip(keys, frame["truth"]))
    elif differ:
        notes.append(
            f"The answers differ between rows of {differ:,} prompts, so they are the model's and no gold answers; if they are gold, name the column with --answer."
        )
        frame["truth"] = ""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _lengths(frame: pandas.DataFrame, count, tokenizer, found) -> tuple[str, str]:
    """Set `length`; the unit, and a sentence on where it is from."""
    if count is not None:
        frame["length"] = [float(count(text)) for text in frame["completion"]]
        return "tokens", f"Lengths are tokens of the tokenizer {tokenizer}."
    tokens = pandas.to_numeric(frame["tokens"], errors="coerce").astype(float)
    characters = frame["completion"].str.len()
    column = repr(found["tokens"]) if "tokens" in found else "the responses' own"
    if len(frame) and tokens.notna().all() and (tokens >= 0).all():
        if ((tokens - characters).abs() <= 1).mean() <= 0.5 or characters.median() < BARE:
            frame["length"] = tokens
            return "tokens", f"Lengths are the file's token counts ({column})."
        reason = f"the counts in {column} are the numbers of characters"
    else:
        reason = (
            f"{int(tokens.isna().sum()):,} responses have no token count"
            if tokens.notna().any()
            else "the file has no token counts"
        )
    frame["length"] = [float(len(text.split())) for text in frame["completion"]]
    return "words", f"Lengths are in words ({reason}); name a tokenizer to count tokens."


def _grade(frame: pandas.DataFrame, notes: list[str], found: dict[str, str]) -> None:
    """Set `reward` by the gold answers, else by the file's verdicts, else to NaN, and note how."""
    has, recorded = frame["truth"] != "", frame["recorded"].astype(float)
    if has.any():
        answers = [None if answer != answer else answer for answer in frame["answer"]]
        if not any(answers) and frame["completion"].str.len().max() <= MAX_ANSWER_CHARS:
            frame["answer"] = answers = [text.strip() for text in frame["completion"]]
            notes.append(
                "No response has a box or <answer> tags, and all are short: each is graded as an answer by itself."
            )
        frame["reward"] = [
            float(verify(answer, truth)) if truth else float("nan")
            for answer, truth in zip(answers, frame["truth"])
        ]
        both = has & recorded.notna()
        if both.any():
            ours, theirs = frame["reward"][both], recorded[both]
            notes.append(
                f"The file's own verdicts ({found.get('reward', '')!r}) agree with the grading here on {(ours == theirs).sum():,} of {both.sum():,} responses "
                f"({((ours == 1) & (theirs == 0)).sum():,} are right only here, {((ours == 0) & (theirs == 1)).sum():,} only there)."
            )
    elif recorded.notna().any():
        frame["reward"] = recorded
        notes.append(
            f"There are no gold answers: the score is the file's own verdict ({found.get('reward', '')!r}), not checked here."
        )
    else:
        frame["reward"] = float("nan")
        notes.append(
            "There are no gold answers and no verdicts, so the score and pass@k are left out; name the column with --answer."
        )
