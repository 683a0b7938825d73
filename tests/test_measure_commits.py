"""Commitments in a text, against the reasoner that wrote it and knows what it checked and what is true."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdlab.errors import SdlabError
from sdlab.grading.score import extract_answer
from sdlab.measure.commits import (
    CAUSES,
    COMMITMENTS,
    cause,
    commitment_counts,
    commits,
    nudge,
    statement,
)
from sdlab.measure.evaluation import summarise
from sdlab.seeds import stream
from sdlab.world.likelihood import explain
from sdlab.world.reasoner import sample
from sdlab.world.splits import load_split

PROBLEMS = (
    load_split("in-domain", limit=40) + load_split("deeper", limit=20) + load_split("unseen-types", limit=20)
)


def written(problem):
    """What the reasoner did: per commitment, in order, (slot, value, unchecked, looked_again), from its
    choices instead of its words.
    """
    trace = sample(problem, stream("commits", problem.id))
    done, proposal, slot = [], None, None
    for choice, taken in trace.steps:
        said = choice.options[taken]
        if choice.role == "say" and re.fullmatch(r"\n[A-C]:", said):
            slot = said[1]
        if choice.role == "propose":
            proposal = re.search(r"\d+", said)[0]
            if said.startswith(" So "):
                done.append(
                    [slot, proposal, float(choice.entropy > 0), 0.0]
                )  # at entropy 0 it is the only one left
        elif choice.role == "recheck" and taken == 0:
            done[-1][3] = 1.0
        elif choice.role == "check" and said.endswith("yes."):
            done.append([slot, proposal, 0.0, 0.0])
    return trace.text, [tuple(row) for row in done]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.id)
def test_every_commitment_is_read_as_it_was_made(problem):
    text, truth = written(problem)
    frame = commits([text], [problem])
    assert (
        list(frame[["slot", "value", "unchecked", "looked_again"]].itertuples(index=False, name=None))
        == truth
    )
    right = {slot.name: slot.candidates[slot.truth] for slot in problem.slots}
    assert frame["right"].tolist() == [float(right[slot] == value) for slot, value, *_ in truth]
    assert frame["fact"].dropna().eq(1).all()  # the reasoner makes no mistakes about facts
    assert all(
        text[a:b] == f" So {slot} is {value}."
        for a, b, slot, value in frame[["start", "end", "slot", "value"]].itertuples(index=False)
    )
    assert (
        frame.groupby("slot")["final"]
        .agg(list)
        .map(lambda ends: ends == [0.0] * (len(ends) - 1) + [1.0])
        .all()
    )


@pytest.mark.parametrize("problem", PROBLEMS[:60], ids=lambda p: p.id)
def test_counts_of_commitments_are_those_of_the_reasoners_choices(problem):
    right = {slot.name: slot.candidates[slot.truth] for slot in problem.slots}
    trace, slot = sample(problem, stream("counts", problem.id)), None
    expected = dict.fromkeys(COMMITMENTS, 0)
    for choice, taken in trace.steps:
        said = choice.options[taken]
        slot = said[1] if re.fullmatch(r"\n[A-C]:", said) else slot
        if choice.role == "propose" and not said.startswith(" Try"):
            commits_now = said.startswith(" So ")
            if commits_now and choice.entropy == 0:
                continue  # all others are ruled out: it is known
            kind = "unhedged" if commits_now else "hedged"
            expected[kind] += 1
            expected[f"{kind}_right"] += right[slot] in re.findall(r"\d+", said)
    assert commitment_counts([trace.text], [problem]).to_dict("records") == [expected]


def test_a_hedged_value_that_is_committed_without_a_check_is_no_unhedged_commitment():
    problem = PROBLEMS[0]
    (a, b), truths = problem.slots, [slot.candidates[slot.truth] for slot in problem.slots]
    wrong = next(value for value in b.candidates if value != truths[1])
    text = f"<think>\n{a.name}: Maybe {truths[0]}. So {a.name} is {truths[0]}.\n{b.name}: So {b.name} is "
    counts = commitment_counts([f"{text}{wrong}.", f"{text}{truths[1]}."], [problem] * 2)
    assert counts.to_numpy().tolist() == [[1, 0, 1, 1], [1, 1, 1, 1]]
    chemistry = load_split("chemistry-test", limit=1)
    assert commitment_counts([text], chemistry).to_numpy().tolist() == [[0, 0, 0, 0]]
    with pytest.raises(SdlabError, match="1 texts but 2 problems"):
        commitment_counts([text], [problem] * 2)


def test_the_reasoner_checks_rightly_and_errs_only_unchecked():
    texts = [
        sample(problem, stream("commits many", problem.id, i)).text for problem in PROBLEMS for i in range(4)
    ]
    asked = [problem for problem in PROBLEMS for _ in range(4)]
    frame = commits(texts, asked)
    shares = summarise(frame, (), ["unchecked", "right_if_unchecked", "right_if_checked"]).set_index(
        "metric"
    )["mean"]
    assert (
        shares["right_if_checked"] == 1
        and shares["right_if_unchecked"] < 0.95
        and 0.05 < shares["unchecked"] < 0.95
    )
    found = {cause(text, problem) for text, problem in zip(texts, asked, strict=True)}
    assert found == {"right", "unchecked"}
    for text, problem in zip(texts, asked, strict=True):
        assert (cause(text, problem) == "right") == (extract_answer(text) == problem.answer)


@pytest.mark.parametrize("problem", PROBLEMS[:30], ids=lambda p: p.id)
def test_statements_are_the_problems_own(problem):
    for i, slot in enumerate(problem.slots):
        assert [statement(problem, i, value) for value in slot.candidates] == [
            words for words, _ in slot.tests
        ]
    assert statement(problem, 0, "31") == statement(problem, 0, "0") == ""


def test_a_nudge_is_something_the_reasoner_could_have_written():
    nudged = 0
    for problem in PROBLEMS:
        text, truth = written(problem)
        prefix = nudge(text, problem)
        assert (prefix is None) == all(looked or not unchecked for *_, unchecked, looked in truth)
        if prefix is not None:
            nudged += 1
            whole = sample(
                problem, stream("after the nudge", problem.id), prefix=prefix
            ).text  # raises when nothing like it is in the language
            assert whole.startswith(prefix) and explain(whole, problem).log_prob > float("-inf")
            first = commits([whole], [problem]).query("start < @at", local_dict={"at": len(prefix)}).iloc[-1]
            assert first["unchecked"] == 1 and first["looked_again"] == 1
            assert nudge(whole, problem, skip=10**6) is None
    assert nudged > 20


TWO = next(
    p for p in PROBLEMS if p.split == "in-domain" and all(len(slot.candidates) >= 3 for slot in p.slots)
)
RIGHT, WRONG = (
    [
        slot.candidates[i]
        for slot in TWO.slots
        for i in [slot.truth if right else (slot.truth + 1) % len(slot.candidates)]
    ]
    for right in (True, False)
)
CHECKED = [
    f"\n{slot.name}: Maybe {value}. Check: {statement(TWO, i, value)} So {slot.name} is {value}."
    for i, (slot, value) in enumerate(zip(TWO.slots, RIGHT, strict=True))
]
LIE = statement(TWO, 0, RIGHT[0]).split(",")[0] + ", need 99, no."
OTHERS = ", ".join(v for v in TWO.slots[0].candidates if v != RIGHT[0])
REFUTED = statement(TWO, 0, WRONG[0])
CASES = {  # first line, cause
    "right": (CHECKED[0], "right"),
    "guessed": (f"\nA: So A is {WRONG[0]}.", "unchecked"),
    "guessed after a survey": (f"\nA: could be {OTHERS} or {RIGHT[0]}. So A is {WRONG[0]}.", "unchecked"),
    "looked again in vain": (f"\nA: So A is {WRONG[0]}. Wait, check A: {REFUTED}", "other"),
    "against its own check": (f"\nA: Maybe {WRONG[0]}. Check: {REFUTED} So A is {WRONG[0]}.", "other"),
    "the right one refuted by a lie": (
        f"\nA: Maybe {RIGHT[0]}. Check: {LIE} So A is {WRONG[0]}.",
        "wrong fact",
    ),
    "the wrong one carried by a lie": (
        f"\nA: Perhaps {WRONG[0]}. Test: {statement(TWO, 0, RIGHT[0])} So A is {WRONG[0]}.",
        "wrong fact",
    ),
    "left off the list": (f"\nA: could be {OTHERS}. So A is {WRONG[0]}.", "short list"),
    "nothing committed": ("\nA: Maybe 3. Check:", "other"),
    "a number out of range": ("\nA: Maybe 77. Check: digit sum 14, need 3, no. So A is 77.", "wrong fact"),
}


@pytest.mark.parametrize("case", CASES)
def test_causes(case):
    line, expected = CASES[case]
    answer = TWO.answer if expected == "right" else "61"
    assert (
        cause(
            f"<think>{line}{CHECKED[1]}\nA + B = {answer}.\n</think>\n\nThe answer is \\boxed{{{answer}}}.",
            TWO,
        )
        == expected
    )


def test_a_wrong_sum_is_the_cause_only_when_every_number_is_right():
    end = "\nA + B = 61.\n</think>\n\nThe answer is \\boxed{61}."
    assert cause(f"<think>{CHECKED[0]}{CHECKED[1]}{end}", TWO) == "wrong sum"
    assert cause(f"<think>{CHECKED[0]}\nB: So B is {WRONG[1]}.{end}", TWO) == "unchecked"


def test_a_second_look_that_refutes_reopens_the_slot():
    text = (
        f"<think>\nA: So A is {WRONG[0]}. Wait, check A: {REFUTED}\nA: Try {RIGHT[0]}. Test: "
        f"{statement(TWO, 0, RIGHT[0])} So A is {RIGHT[0]}."
    )
    frame = commits([text], [TWO])
    assert frame[["unchecked", "looked_again", "right", "final", "fact"]].values.tolist() == [
        [1, 1, 0, 0, 1],
        [0, 0, 1, 1, 1],
    ]


@given(
    st.lists(
        st.sampled_from(
            [
                "\nA:",
                "\nB:",
                "\nZ:",
                " could be 3, 9 or 15.",
                " could be , or.",
                " Maybe 9.",
                " Try 0.",
                " Check:",
                " Test:",
                " digit sum 9, need 6, no.",
                " half ends in 4, need 4, yes.",
                " So A is 15.",
                " So B is 999.",
                " So Q is 1.",
                " Wait, check A:",
                " Wait, check B:",
                " Check B:",
                " Check Z:",
                " Hmm.",
                "\\boxed{3}",
                "<think>",
                "</think>",
                "é�\x00",
                " So A is .",
            ]
        )
    )
)
def test_any_text_is_read(parts):
    text = "".join(parts)
    frame = commits([text], [TWO])
    assert len(frame) == text.count(" So A is 15.") + text.count(" So B is 999.")
    assert cause(text, TWO) in CAUSES
    prefix = nudge(text, TWO)
    assert prefix is None or text.startswith(prefix[: prefix.rindex(" Wait, check ")])


def test_empty_and_misfit_input():
    assert commits([], []).empty and list(commits([""], [TWO]).columns) == list(
        commits([CHECKED[0]], [TWO]).columns
    )
    with pytest.raises(SdlabError, match="2 texts but 1 problems"):
        commits(["", ""], [TWO])
    with pytest.raises(SdlabError, match="number hunts"):
        commits([""], load_split("kata", limit=1))
