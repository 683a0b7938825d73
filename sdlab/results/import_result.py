"""Make a result from the completions of one model on one benchmark: problems, lengths, grading, notes."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas

from sdlab.grading.score import MAX_ANSWER_CHARS, extract_answer, verify
from sdlab.reading.files import token_counts
from sdlab.results.evaluate import cut_is_wrong
from sdlab.results.result import Result, make_result, prompt_key
from sdlab.text.markers import total_markers

BARE = 8  # a completion of at most so many words is only an answer
# names of columns that hold gold answers in some files, and the model's in others
AMBIGUOUS = ("answer", "solution")


@dataclass(frozen=True)
class Settings:
    """Settings with which completions become a result.

    columns: role -> column. gold: whether the answers are certainly gold. unit: the unit of the file's token
    counts. count: text -> tokens.
    """

    columns: dict[str, str]
    gold: bool
    unit: str
    tokenizer: str | None
    count: Callable[[str], int] | None


def result_of(
    model: str, benchmark: str, rows: list[dict], notes: list[str], settings: Settings, origin: dict
) -> Result:
    """Return the Result of `rows`, which are those of `sdlab.reading.files.Rollouts`."""
    notes, frame = list(notes), pandas.DataFrame(rows, dtype=object)
    _name_problems(frame, benchmark, settings.gold, notes)
    sizes = frame.groupby("problem_id").size()
    if sizes.min() < sizes.max():
        notes.append(
            f"Problems have {sizes.min()} to {sizes.max()} generations each; "
            "every problem counts once in the score, and pass@k is over the problems with at least k."
        )
    frame["length"], unit, sentence = _lengths(rows, settings)
    notes.append(sentence)
    words = frame["completion"].map(lambda text: len(str(text).split())).median()
    if words <= BARE:
        notes.append(
            f"Half of the completions have {words:.0f} words or fewer: they look like extracted answers, "
            "and their lengths and markers say nothing about reasoning."
        )
    for match, column in (("word", "markers"), ("substring", "markers_substring")):
        frame[column] = [total_markers(text, match) for text in frame["completion"]]
    _grade(frame, notes, settings)
    frame, more = cut_is_wrong(frame) if (frame["truth"] != "").any() else (frame, [])
    notes += [*more, *_on_texts(frame)]
    questions = frame.drop_duplicates("problem_id")[["problem_id", "prompt", "truth"]].assign(
        domain=benchmark, split=benchmark, kind=""
    )
    frame = frame.drop(columns=[name for name in ("recorded", "entropy") if frame[name].isna().all()])
    about = {
        "length_unit": unit,
        "notes": notes,
        "settings": {"imported": True, "tokenizer": settings.tokenizer},
        "provenance": origin,
    }
    result = make_result(
        model, benchmark, frame.drop(columns=["row", "id", "tokens", "earlier"]), questions, about
    )
    notes[:0] = result.warnings
    return result


def _on_texts(frame: pandas.DataFrame) -> list[str]:
    """Return notes on what the completions themselves show, and on missing information."""
    notes, unknown = [], int(frame["truncated"].isna().sum())
    if unknown == len(frame):
        notes.append(
            "Nothing says whether completions were cut at the length limit (no finish reason), "
            "so truncation is left out."
        )
    elif unknown:
        notes.append(f"{unknown:,} completions do not say whether they were cut.")
    unclosed = sum(text.rfind("<think>") > text.rfind("</think>") for text in frame["completion"])
    if unclosed:
        notes.append(
            f"{unclosed:,} completions open <think> and never close it, as completions that were cut do."
        )
    broken = sum("\ufffd" in text for text in frame["completion"])
    if broken:
        notes.append(f"{broken:,} completions hold U+FFFD, which stands for bytes that were no text.")
    return notes


def _name_problems(frame: pandas.DataFrame, benchmark: str, gold: bool, notes: list[str]) -> None:
    """Set `problem_id` and `generation`.

    The file's own name of a problem is used where each name belongs to one problem.
    """
    frame["problem_id"] = [f"{benchmark}/{number:04d}" for number in _group(frame, gold, notes)]
    labels = frame.groupby("problem_id")["id"].agg(
        lambda ids: ids.iloc[0] if ids.nunique(dropna=False) == 1 else None
    )
    if labels.notna().all() and labels.is_unique:
        frame["problem_id"] = frame["problem_id"].map(labels)
    frame["generation"] = frame.groupby("problem_id").cumcount()


def _group(frame: pandas.DataFrame, gold: bool, notes: list[str]) -> list[int]:
    """Return the number of each row's problem.

    Truths that are not gold are removed, and missing ones are filled in from rows with the same prompt.
    """
    if (frame["prompt"] != "").any():
        lost = int((frame["prompt"] == "").sum())
        if lost:
            notes.append(
                f"{lost:,} completions have no prompt; "
                "each row of the file without one is a problem of its own."
            )
        keys = [
            prompt_key(prompt) or f"row {row}"
            for prompt, row in zip(frame["prompt"], frame["row"], strict=True)
        ]
    elif frame["id"].notna().all():
        notes.append("There are no prompts; rows of the same id are one problem.")
        keys = frame["id"].tolist()
    else:
        notes.append(
            "There are no prompts and no ids: every row is taken as a problem of its own, "
            "and nothing can be paired with other results."
        )
        keys = [f"row {row}" for row in frame["row"]]
    known = frame["truth"].where(frame["truth"] != "")
    differ = int((known.groupby(keys, sort=False).nunique() > 1).sum())
    if differ and not gold:
        notes.append(
            f"The answers differ between rows of {differ:,} prompts, so they are the model's and no "
            "gold answers; if they are gold, name the column with --answer."
        )
        frame["truth"] = ""
    elif differ:
        notes.append(
            f"{differ:,} prompts come with different gold answers, each taken as a problem of its own."
        )
        keys = list(zip(keys, frame["truth"], strict=True))
    else:
        filled = known.groupby(keys, sort=False).transform("first").fillna("")
        added = int((filled != frame["truth"]).sum())
        if added:
            notes.append(f"{added:,} completions take the gold answer of other rows with the same prompt.")
        frame["truth"] = filled
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _lengths(rows: list[dict], settings: Settings) -> tuple[list[float], str, str]:
    """Return the length of each completion, the unit, and a sentence on their source."""
    texts = [row["completion"] for row in rows]
    if settings.count is not None:
        counts = [float(settings.count(text)) for text in texts]
        return counts, "tokens", f"Lengths are tokens of the tokenizer {settings.tokenizer}."
    counts, reason = token_counts(rows)
    column = (
        repr(settings.columns["tokens"]) if "tokens" in settings.columns else "the completions' own objects"
    )
    if counts is not None and settings.unit == "tokens":
        return (
            [float(count) for count in counts],
            "tokens",
            f"Lengths are the file's token counts ({column}).",
        )
    reason = reason.replace("the counts", f"the counts in {column}") or f"the counts in {column} are of words"
    words = [float(len(text.split())) for text in texts]
    return words, "words", f"Lengths are in words ({reason}); name a tokenizer to count tokens."


def _grade(frame: pandas.DataFrame, notes: list[str], settings: Settings) -> None:
    """Set `answer` and `reward`, and note their source.

    The reward comes from the gold answers, else from the file's verdicts, else it is NaN.
    """
    pairs = list(zip(frame["completion"], frame["truth"], strict=True))
    answers = [extract_answer(text, truth or None) for text, truth in pairs]
    readable = sum(answer is not None for answer in answers)
    notes.append(
        f"{readable:,} of {len(frame):,} completions have a readable answer (a box or <answer> tags)."
    )
    has_truth, recorded = frame["truth"] != "", frame["recorded"].astype(float)
    column = repr(settings.columns.get("reward", ""))
    if has_truth.any() and not readable and frame["completion"].str.len().max() <= MAX_ANSWER_CHARS:
        answers = [text.strip() for text in frame["completion"]]
        notes.append(
            "No completion has a box or <answer> tags, and all are short: "
            "each is graded as an answer by itself."
        )
    rewards = [
        float(verify(answer, truth)) if truth else float("nan")
        for answer, (_, truth) in zip(answers, pairs, strict=True)
    ]
    frame["answer"], frame["reward"] = answers, rewards
    both = has_truth & recorded.notna()
    ours, theirs = frame["reward"][both].astype(float), recorded[both]
    if not settings.gold and (ours == 1).all() and (theirs == 0).any():
        notes.append(
            f"Every answer in {settings.columns['answer']!r} is the completion's own, and {column} "
            "calls some wrong: the column holds the model's answers and no gold ones; if they are gold, "
            "name it with --answer."
        )
        frame["truth"], frame["reward"], has_truth = "", float("nan"), has_truth & False
    elif both.any():
        notes.append(
            f"The file's own verdicts ({column}) agree with the grading here on "
            f"{(ours == theirs).sum():,} of {both.sum():,} completions "
            f"({((ours == 1) & (theirs == 0)).sum():,} are right only here, "
            f"{((ours == 0) & (theirs == 1)).sum():,} only there)."
        )
    if has_truth.any():
        return
    if recorded.notna().any():
        frame["reward"] = recorded
        notes.append(
            f"There are no gold answers: the score is the file's own verdict ({column}), not checked here."
        )
    else:
        notes.append(
            "There are no gold answers and no verdicts, so the score and pass@k are left out; "
            "name the column with --answer or --reward."
        )
