"""What enters a prompt, and what comes out of a completion when its thinking is removed."""

import pytest

from sdlab.errors import SdlabError
from sdlab.text.prompt import CONTEXTS, build_messages, demonstration_for, strip_thinking
from sdlab.world.splits import load_split

ANSWER = "The answer is \\boxed{9}."


@pytest.mark.parametrize(
    "completion, rest",
    [
        (f"<think>\nMaybe 9.\n</think>\n\n{ANSWER}", ANSWER),
        (f"Maybe 9.\n</think>\n\n{ANSWER}", ANSWER),  # DeepSeek-R1's template opens <think> in the prompt
        (f"<think>\n\n</think>\n\n{ANSWER}", ANSWER),
        (f"<think>a</think> b <think>c</think>\n{ANSWER}", ANSWER),
        (ANSWER, ANSWER),
        ("<think>\nnever ends", ""),
        (f"{ANSWER}\n<think>\nnever ends", ANSWER),
        ("", ""),
    ],
)
def test_thinking_is_removed_whether_or_not_the_template_opens_it(completion, rest):
    assert strip_thinking(completion) == rest


@pytest.mark.parametrize(
    "completion, rest",
    [
        ("Maybe 9. Then 8", ""),  # cut inside the thinking that the prompt opened
        (f"Maybe 9.\n</think>\n\n{ANSWER}", ANSWER),
        (f"<think>\nMaybe 9.\n</think>\n\n{ANSWER}", ANSWER),
        (f"a</think> {ANSWER} <think> b", ANSWER),
        ("", ""),
    ],
)
def test_a_completion_that_began_inside_its_thinking_and_was_cut_there_has_no_answer(completion, rest):
    assert strip_thinking(completion, opened=True) == rest
    assert (demonstration_for("solution_no_think", completion, opened=True) or "") == rest
    assert demonstration_for("solution", completion, opened=True) == completion


def test_prompts_follow_the_papers_template():
    problem = load_split("kata", limit=1)[0]
    assert build_messages(problem) == [{"role": "user", "content": problem.prompt}]
    guided = build_messages(problem, "S", problem.feedback)[0]["content"]
    assert (
        guided == f"{problem.prompt}\n\nCorrect solution: S\n\n{problem.feedback}\n\n"
        "Correctly solve the original question."
    )


def test_each_context_shows_what_its_name_says():
    s, again = f"<think>long</think>\n\n{ANSWER}", f"<think>short</think>\n\n{ANSWER}"
    assert [demonstration_for(c, s, again) for c in CONTEXTS] == [None, s, ANSWER, again]
    with pytest.raises(SdlabError, match="unknown context 'half'"):
        demonstration_for("half", s)
