"""The values that a trace of a number hunt committed to: was each checked before, and was it right?

The module reads what the reasoner and the organism write ("Maybe 15. Check: digit sum 6, need 6, yes. So A is
15."). Other text has fewer readable commitments, or none; no function fails on it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas

from sdlab.errors import SdlabError
from sdlab.grading.score import extract_answer, verify
from sdlab.text.markers import total_markers
from sdlab.world.hunts import CHECKS, TOP
from sdlab.world.problems import Problem
from sdlab.world.slots import Slot

CAUSES = ("right", "wrong fact", "short list", "unchecked", "wrong sum", "other")
COLUMNS = (
    "text",
    "problem_id",
    "slot",
    "value",
    "start",
    "end",
    "unchecked",
    "looked_again",
    "fact",
    "right",
    "final",
    "right_if_unchecked",
    "right_if_checked",
)
COMMITMENTS = ("unhedged", "unhedged_right", "hedged", "hedged_right")  # of commitment_counts
_PROPOSAL = "Maybe|Perhaps|It might be|It seems to be|It is likely|Alternatively|Actually try|Try"
_EVENT = re.compile(
    rf"(?P<line>^(?P<opens>[A-Z]):)|(?P<survey> could be (?P<list>[\d, or]+)\.)"
    rf"|(?P<proposal> (?:{_PROPOSAL}) (?P<proposed>\d+)\.)"
    r"|(?P<look> (?:Wait, check|Check) (?P<again>[A-Z]):)|(?P<check> (?:Check|Test):)"
    r"|(?P<fact> (?P<words>[a-z ]+\d+, need \d+, (?P<said>yes|no)\.))"
    r"|(?P<commit> So (?P<name>[A-Z]) is (?P<value>\d+)\.)",
    re.MULTILINE,
)


@dataclass
class _Reading:
    """What has been read of one slot."""

    # the candidates that its last survey lists
    listed: set[str] | None = None
    # the values proposed or committed
    named: set[str] = field(default_factory=set)
    # the values of its hedged proposals, in order
    hedged: list[str] = field(default_factory=list)
    # value -> (is the statement of its last check true, does it say yes)
    checks: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    commits: list[dict] = field(default_factory=list)


def statement(problem: Problem, slot: int, value: str) -> str:
    """Return the statement that a check of `value` should make in this slot: "digit sum 6, need 6, yes."

    Numbers outside 1 ... TOP give "".
    """
    _, written, function = CHECKS[problem.types[slot].split(" x ")[1]]
    if not 1 <= int(value) <= TOP:
        return ""
    actual, needed = function(int(value)), function(int(_truth(problem.slots[slot])))
    return f"{written.format(actual)}, need {needed}, {'yes' if actual == needed else 'no'}."


def _truth(slot: Slot) -> str:
    return slot.candidates[slot.truth]


def _read(text: str, problem) -> list[_Reading]:
    """Return what `text` says of each slot, read event by event."""
    if problem.domain != "hunt":
        raise SdlabError(
            f"problem {problem.id!r} is of domain {problem.domain!r}; "
            "commitments can be read in number hunts only; give problems of domain 'hunt'"
        )
    names = [slot.name for slot in problem.slots]
    slots = [_Reading() for _ in names]
    current = proposed = None  # the slot of the line and its last proposal
    due = None  # what the next statement is about: (slot, value, commitment or None)
    for event in _EVENT.finditer(text):
        kind = event.lastgroup  # the outer group, because it closes last
        if kind == "line" and event["opens"] in names:
            current, proposed, due = names.index(event["opens"]), None, None
        elif kind == "survey" and current is not None:
            slots[current].listed = set(re.findall(r"\d+", event["list"]))
        elif kind == "proposal" and current is not None:
            proposed, due = event["proposed"], None
            slots[current].named.add(proposed)
            if total_markers(event[0]):
                slots[current].hedged.append(proposed)
        elif kind == "look" and event["again"] in names and slots[names.index(event["again"])].commits:
            place = names.index(event["again"])
            due = (place, slots[place].commits[-1]["value"], slots[place].commits[-1])
        elif kind == "check":
            due = (current, proposed, None) if current is not None and proposed is not None else None
        elif kind == "fact" and due is not None:
            place, value, commit = due
            check = (event["words"] == statement(problem, place, value), event["said"] == "yes")
            slots[place].checks[value], due = check, None
            if commit is not None:
                commit["looked_again"], commit["fact"] = 1.0, float(check[0])
        elif kind == "commit" and event["name"] in names:
            place = names.index(event["name"])
            slots[place].commits.append(_commit(event, problem, place, slots[place]))
            slots[place].named.add(event["value"])
            due = None
    return slots


def _commit(event, problem, place: int, read: _Reading) -> dict:
    value, right = event["value"], float(event["value"] == _truth(problem.slots[place]))
    checked = value in read.checks
    others = [v for v in problem.slots[place].candidates if v != value]
    unchecked = not checked and not all(v in read.checks and not read.checks[v][1] for v in others)
    return {
        "slot": problem.slots[place].name,
        "value": value,
        "start": event.start("commit"),
        "end": event.end("commit"),
        "unchecked": float(unchecked),
        "hedged_before": value in read.hedged,
        "looked_again": 0.0,
        "fact": float(read.checks[value][0]) if checked else float("nan"),
        "right": right,
        "right_if_unchecked": right if unchecked else float("nan"),
        "right_if_checked": float("nan") if unchecked else right,
    }


def commits(texts: Sequence[str], problems: Sequence) -> pandas.DataFrame:
    """Return one row per commitment ("So A is 15.") in `texts` about `problems`, in the order of writing.

    Both sequences have B entries. Columns: text (its number), problem_id, slot, value, start and end
    (characters). The following are 1, 0 or NaN, so that `evaluation.summarise` gives every share. unchecked:
    no check of this value came before it, and checks had not ruled out all others. looked_again: the value
    was checked afterwards. fact: the statement of its last check was true; NaN without a check. right: the
    value is right. final: it is the slot's last commitment. right_if_unchecked and right_if_checked: right,
    or NaN for the other kind.

    Raises SdlabError when the lengths differ and when a problem is not a number hunt.
    """
    if len(texts) != len(problems):
        raise SdlabError(f"{len(texts)} texts but {len(problems)} problems; give one problem per text")
    rows = []
    for number, (text, problem) in enumerate(zip(texts, problems, strict=True)):
        text_rows = [
            row | {"final": float(row is read.commits[-1])}
            for read in _read(text, problem)
            for row in read.commits
        ]
        rows += [
            {"text": number, "problem_id": problem.id} | row
            for row in sorted(text_rows, key=lambda row: row["start"])
        ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def commitment_counts(texts: Sequence[str], problems: Sequence) -> pandas.DataFrame:
    """Return one row per text: the number of unhedged commitments and of hedged proposals, and of right ones.

    Both sequences have B entries. unhedged: commitments without a check before (`unchecked` in `commits`) to
    a value that no hedged proposal of the slot named. hedged: proposals with a marker, such as "Maybe 15."; a
    value that is proposed twice counts twice. In a text whose hedging follows what its writer knows, unhedged
    commitments are right more often than hedged proposals. Texts about other problems than number hunts have
    zeros.

    Raises SdlabError when the lengths differ.
    """
    if len(texts) != len(problems):
        raise SdlabError(f"{len(texts)} texts but {len(problems)} problems; give one problem per text")
    rows = []
    for text, problem in zip(texts, problems, strict=True):
        row = dict.fromkeys(COMMITMENTS, 0)
        for place, read in enumerate(_read(text, problem) if problem.domain == "hunt" else ()):
            plain = [one for one in read.commits if one["unchecked"] and not one["hedged_before"]]
            row["unhedged"] += len(plain)
            row["unhedged_right"] += sum(one["right"] == 1 for one in plain)
            row["hedged"] += len(read.hedged)
            row["hedged_right"] += read.hedged.count(_truth(problem.slots[place]))
        rows.append(row)
    return pandas.DataFrame(rows, columns=list(COMMITMENTS))


def cause(text: str, problem: Problem) -> str:
    """Return the cause of a wrong completion, one of CAUSES; "right" when it is not wrong.

    The first slot with a wrong last value decides. wrong fact: a false statement supported the committed
    value or refuted the right one. short list: the listed candidates lack the right one, and it was never
    proposed. unchecked: committed without a possible check that would have refuted the value. wrong sum:
    every number is right, the answer is not. other: no commitment, or one against its own check.
    """
    slots = _read(text, problem)
    if verify(extract_answer(text), problem.answer):
        return "right"
    for place, read in enumerate(slots):
        if not read.commits:
            return "other"
        last, truth = read.commits[-1], _truth(problem.slots[place])
        if last["right"]:
            continue
        facts = [read.checks[value] for value in (last["value"], truth) if value in read.checks]
        if any(not true for true, _ in facts):
            return "wrong fact"
        if read.listed is not None and truth not in read.listed | read.named:
            return "short list"
        return "unchecked" if last["unchecked"] and not last["looked_again"] else "other"
    return "wrong sum"


def nudge(text: str, problem: Problem, skip: int = 0) -> str | None:
    """Return `text` up to its first unchecked commitment, followed by the reasoner's re-check phrase.

    The phrase is " Wait, check A:". The commitment itself is included. Commitments that the text checks later
    are passed over, and so are those before character `skip`. Returns None when no commitment remains.
    """
    unchecked = [
        row
        for read in _read(text, problem)
        for row in read.commits
        if row["unchecked"] and not row["looked_again"] and row["start"] >= skip
    ]
    if not unchecked:
        return None
    first = min(unchecked, key=lambda row: row["start"])
    return f"{text[: first['end']]} Wait, check {first['slot']}:"
