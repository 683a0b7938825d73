"""What a trace of a number hunt settled, and on what ground: was a value checked before it was written down, and was it right?

Reads what the reasoner and the organism write ("Maybe 15. Check: digit sum 6, need 6, yes. So A is 15."). Text that is off
script has fewer readable commitments, or none; nothing here fails on it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas

from sdlab.errors import SdlabError
from sdlab.grading.score import extract_answer, verify
from sdlab.world.hunts import CHECKS, TOP
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
_PROPOSAL = "Maybe|Perhaps|It might be|It seems to be|It is likely|Alternatively|Actually try|Try"
_EVENT = re.compile(
    rf"(?P<line>^(?P<opens>[A-Z]):)|(?P<survey> could be (?P<list>[\d, or]+)\.)|(?P<proposal> (?:{_PROPOSAL}) (?P<proposed>\d+)\.)"
    r"|(?P<look> (?:Wait, check|Check) (?P<again>[A-Z]):)|(?P<check> (?:Check|Test):)"
    r"|(?P<fact> (?P<words>[a-z ]+\d+, need \d+, (?P<said>yes|no)\.))|(?P<commit> So (?P<name>[A-Z]) is (?P<value>\d+)\.)",
    re.MULTILINE,
)


@dataclass
class _Reading:
    """What has been read of one slot."""

    listed: set[str] | None = None  # by its last survey
    named: set[str] = field(default_factory=set)  # proposed or committed
    checks: dict[str, tuple[bool, bool]] = field(
        default_factory=dict
    )  # value -> (is the statement of its last check true, does it say yes)
    commits: list[dict] = field(default_factory=list)


def statement(problem, slot: int, value: str) -> str:
    """What a check of `value` should say in this slot: "digit sum 6, need 6, yes."; empty for numbers outside 1 ... TOP."""
    _, written, function = CHECKS[problem.types[slot].split(" x ")[1]]
    if not 1 <= int(value) <= TOP:
        return ""
    found, wanted = function(int(value)), function(int(_truth(problem.slots[slot])))
    return f"{written.format(found)}, need {wanted}, {'yes' if found == wanted else 'no'}."


def _truth(slot: Slot) -> str:
    return slot.candidates[slot.truth]


def _read(text: str, problem) -> list[_Reading]:
    """Follow `text` from event to event, slot by slot."""
    if problem.domain != "hunt":
        raise SdlabError(
            f"commitments are read in number hunts alone, and problem {problem.id!r} is of domain {problem.domain!r}"
        )
    names = [slot.name for slot in problem.slots]
    slots = [_Reading() for _ in names]
    current = proposed = due = (
        None  # slot of the line, its last proposal, and of what a statement is due: (slot, value, commitment or None)
    )
    for event in _EVENT.finditer(text):
        kind = event.lastgroup  # the outer group: it closes last
        if kind == "line" and event["opens"] in names:
            current, proposed, due = names.index(event["opens"]), None, None
        elif kind == "survey" and current is not None:
            slots[current].listed = set(re.findall(r"\d+", event["list"]))
        elif kind == "proposal" and current is not None:
            proposed, due = event["proposed"], None
            slots[current].named.add(proposed)
        elif kind == "look" and event["again"] in names and slots[names.index(event["again"])].commits:
            place = names.index(event["again"])
            due = (place, slots[place].commits[-1]["value"], slots[place].commits[-1])
        elif kind == "check":
            due = (current, proposed, None) if proposed is not None else None
        elif kind == "fact" and due is not None:
            place, value, commit = due
            found = (event["words"] == statement(problem, place, value), event["said"] == "yes")
            slots[place].checks[value], due = found, None
            if commit is not None:
                commit["looked_again"], commit["fact"] = 1.0, float(found[0])
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
        "slot": problem.slots[place].name, "value": value, "start": event.start("commit"), "end": event.end("commit"),
        "unchecked": float(unchecked), "looked_again": 0.0, "fact": float(read.checks[value][0]) if checked else float("nan"), "right": right,
        "right_if_unchecked": right if unchecked else float("nan"), "right_if_checked": float("nan") if unchecked else right,
    }  # fmt: skip


def commits(texts: Sequence[str], problems: Sequence) -> pandas.DataFrame:
    """One row per commitment ("So A is 15.") in `texts` about `problems`, both (B,), in the order of writing.

    Columns: text (its number), problem_id, slot, value, start and end (characters), and as 1, 0 or NaN: unchecked (no check of this
    value stood before it, and checks had not ruled out all others), looked_again (checked afterwards), fact (was the statement of its last check
    true; NaN without one), right, final (the slot's last), right_if_unchecked and right_if_checked (NaN for the others), so that
    `evaluation.summarise` gives every share.
    Raises SdlabError on lists of unequal length and problems that are no number hunts.
    """
    if len(texts) != len(problems):
        raise SdlabError(f"{len(texts)} texts but {len(problems)} problems; give one problem per text")
    rows = []
    for number, (text, problem) in enumerate(zip(texts, problems)):
        found = [
            row | {"final": float(row is read.commits[-1])}
            for read in _read(text, problem)
            for row in read.commits
        ]
        rows += [
            {"text": number, "problem_id": problem.id} | row
            for row in sorted(found, key=lambda row: row["start"])
        ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def cause(text: str, problem) -> str:
    """Why the answer is wrong, one of CAUSES; "right" when it is not. The first slot that ended wrong decides.

    wrong fact: a false statement carried the committed value or refuted the right one. short list: the candidates were listed
    without the right one, and it was never proposed. unchecked: committed without a check that was possible and would have
    refuted it. wrong sum: every number right, the answer not. other: no commitment, or one against its own check.
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


def nudge(text: str, problem, skip: int = 0) -> str | None:
    """`text` up to its first unchecked commitment that was not looked at again, and then what a careful writer says: " Wait, check A:".

    These are the words of the reasoner's own second look. `skip` leaves out commitments before that character. None when there is none.
    """
    found = [
        row
        for read in _read(text, problem)
        for row in read.commits
        if row["unchecked"] and not row["looked_again"] and row["start"] >= skip
    ]
    if not found:
        return None
    first = min(found, key=lambda row: row["start"])
    return f"{text[: first['end']]} Wait, check {first['slot']}:"
