"""Whose solution the teacher sees, what its prompt says word for word, and how its weights move."""

import random
from types import SimpleNamespace

import pytest
import rollout_models as tiny
import torch

from sdlab.errors import SdlabError
from sdlab.train import teacher
from sdlab.train.sdpo import SDPOConfig

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
# as DeepSeek-R1's
OPENED = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|><think>"
PROBLEMS = [
    SimpleNamespace(prompt="one plus one?", feedback="not that"),
    SimpleNamespace(prompt="two plus two?", feedback=""),
]
G = 3
RIGHT = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 0.0])  # of problem 0 the last two, of problem 1 the first
TEXTS = [f"<think>\nmaybe {i}, wait\n</think>\n\nanswer {i}" for i in range(6)]
ANSWERS = [f"answer {i}" for i in range(6)]


def tokenizer(template: str = CHATML):
    made = tiny.word_tokenizer()
    made.chat_template = template
    return made


def view(context: str, texts=TEXTS, rewards=RIGHT, template: str = CHATML, step: int = 0, **changes):
    return teacher.teacher_view(
        tokenizer(template), PROBLEMS, texts, rewards, G, SDPOConfig(context=context, **changes), step
    )


def asked(row: int, *contexts: str, end: str = "<|assistant|>") -> str:
    """The prompt of a row, written out."""
    question = PROBLEMS[row // G].prompt
    if contexts:
        question = "\n\n".join([question, *contexts, "Correctly solve the original question."])
    return f"<|user|>{question}<|end|>{end}"


# Whose solution


def test_the_first_right_sibling_by_hand():
    rewards = torch.tensor([1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0.5, 0.5, 0.5, 1])
    assert teacher.choose_demonstrations(rewards, 4) == [
        2,
        0,
        0,
        0,
        None,
        None,
        None,
        None,
        9,
        None,
        9,
        9,
        15,
        15,
        15,
        None,
    ]


@pytest.mark.parametrize("generations", [2, 3, 8])
@pytest.mark.parametrize("rule", teacher.DEMONSTRATIONS)
def test_a_demonstration_is_another_right_row_of_the_same_group(rule, generations):
    for seed in range(30):
        rng = random.Random(seed)
        rewards = torch.tensor([float(rng.random() < 0.4) for _ in range(5 * generations)])
        chosen = teacher.choose_demonstrations(rewards, generations, rule, rng)
        assert len(chosen) == len(rewards)
        for row, demonstration in enumerate(chosen):
            others = [
                i
                for i in range(len(rewards))
                if i // generations == row // generations and i != row and rewards[i] == 1
            ]
            if rule == "first":
                assert demonstration == (min(others) if others else None)
            else:
                assert demonstration in others if others else demonstration is None


def test_random_demonstrations_are_all_used_and_depend_on_the_generator_alone():
    rewards = torch.ones(5)
    draws = [teacher.choose_demonstrations(rewards, 5, "random", random.Random(seed)) for seed in range(300)]
    assert draws == [
        teacher.choose_demonstrations(rewards, 5, "random", random.Random(seed)) for seed in range(300)
    ]
    for row in range(5):
        counts = [sum(draw[row] == i for draw in draws) for i in range(5)]
        assert counts[row] == 0 and all(
            45 <= counts[i] <= 105 for i in range(5) if i != row
        )  # 75 expected, deviation 7.5


@pytest.mark.parametrize("rule", teacher.DEMONSTRATIONS)
def test_a_lone_success_and_a_group_without_any_have_none(rule):
    rng = random.Random(0)
    assert teacher.choose_demonstrations(torch.tensor([0.0, 1.0, 0.0]), 3, rule, rng) == [1, None, 1]
    assert teacher.choose_demonstrations(torch.zeros(6), 3, rule, rng) == [None] * 6


# What the prompt says


def test_the_solution_is_shown_with_its_thinking():
    got = view("solution")
    shown = [1, 2, 1, None, 3, 3]
    assert got.demonstrations == shown
    assert got.distilled == [True, True, True, False, True, True]
    assert got.prompts == [
        asked(i) if s is None else asked(i, f"Correct solution: {TEXTS[s]}") for i, s in enumerate(shown)
    ]
    assert "<think>" in got.prompts[0]


def test_the_thinking_can_be_left_out():
    got = view("solution_no_think")
    assert got.prompts == [
        asked(i) if s is None else asked(i, f"Correct solution: {ANSWERS[s]}")
        for i, s in enumerate([1, 2, 1, None, 3, 3])
    ]
    assert got.distilled == [True, True, True, False, True, True]
    assert not any("think>" in prompt or "wait" in prompt for prompt in got.prompts)


def test_thinking_that_the_template_opened_is_left_out_too():
    """A completion then begins inside its thinking: there is only a closing tag to find it by."""
    texts = [f"maybe {i}, wait\n</think>\n\nanswer {i}" for i in range(6)]
    got = view("solution_no_think", texts, template=OPENED)
    end = "<|assistant|><think>"
    assert got.prompts == [
        asked(i, end=end) if s is None else asked(i, f"Correct solution: {ANSWERS[s]}", end=end)
        for i, s in enumerate([1, 2, 1, None, 3, 3])
    ]
    assert not any("wait" in prompt or "</think>" in prompt for prompt in got.prompts)
    whole = view("solution", texts, template=OPENED)
    assert whole.prompts[0] == asked(0, f"Correct solution: {texts[1]}", end=end)


def test_a_solution_that_is_all_thinking_shows_nothing():
    """Right by a box in its thinking, then cut off: without thinking there is no text, and no reason to
    distil.
    """
    texts = list(TEXTS)
    texts[3] = "<think>\nso \\boxed{4}"
    got = view("solution_no_think", texts)
    assert got.distilled == [True, True, True, False, False, False]
    assert got.prompts[3:] == [asked(3), asked(4), asked(5)]
    assert view("solution", texts).prompts[4] == asked(4, f"Correct solution: {texts[3]}")


def test_a_sibling_cut_inside_its_thinking_is_passed_over_for_the_next_right_one():
    """Row 1, the first right one of problem 0, was cut: without thinking row 2 is shown instead, and to row
    2 nothing is.
    """
    for template, cut in ((CHATML, "<think>\nso \\boxed{4}"), (OPENED, "so \\boxed{4}")):
        texts = [text if template == CHATML else text.removeprefix("<think>") for text in TEXTS]
        texts[1] = cut
        got = view("solution_no_think", texts, template=template)
        assert got.demonstrations == [2, 2, None, None, 3, 3]
        assert got.distilled == [True, True, False, False, True, True]
        assert "answer 2" in got.prompts[0] and "boxed" not in "".join(got.prompts)
        assert view("solution", texts, template=template).demonstrations == [1, 2, 1, None, 3, 3]


def test_feedback_is_told_of_wrong_completions_where_there_is_any():
    got = view("feedback")
    assert got.prompts == [asked(0, "not that"), *map(asked, range(1, 6))]  # problem 1 has no feedback
    assert got.distilled == [True] + [False] * 5
    assert got.demonstrations == [None] * 6


def test_solution_and_feedback_stand_together():
    got = view("solution_feedback")
    solution = {i: f"Correct solution: {TEXTS[s]}" for i, s in {0: 1, 1: 2, 2: 1, 4: 3, 5: 3}.items()}
    assert got.prompts == [
        asked(0, solution[0], "not that"),
        asked(1, solution[1]),
        asked(2, solution[2]),
        asked(3),
        asked(4, solution[4]),
        asked(5, solution[5]),
    ]
    assert got.distilled == [True, True, True, False, True, True]
    alone = view("solution_feedback", rewards=torch.zeros(6))  # feedback needs no sibling
    assert alone.prompts == [*(asked(i, "not that") for i in range(3)), *map(asked, range(3, 6))]
    assert alone.distilled == [True] * 3 + [False] * 3


def test_without_any_success_nothing_is_distilled_and_the_prompts_are_the_students():
    for context in ("solution", "solution_no_think"):
        got = view(context, rewards=torch.zeros(6))
        assert got.prompts == list(map(asked, range(6))) and not any(got.distilled)


def test_a_student_that_does_not_think_has_a_teacher_that_does_not():
    assert view("solution", thinking=False).prompts[0] == asked(
        0, f"Correct solution: {TEXTS[1]}", end="<|assistant|><think></think>"
    )


def test_random_demonstrations_depend_on_seed_and_step():
    def shown(seed, step):
        return view("solution", rewards=torch.ones(6), step=step, demonstration="random", seed=seed)

    chosen = {(seed, step): tuple(shown(seed, step).demonstrations) for seed in range(4) for step in range(4)}
    again = shown(2, 3)
    assert tuple(again.demonstrations) == chosen[2, 3]
    assert again.prompts == [
        asked(i, f"Correct solution: {TEXTS[s]}") for i, s in enumerate(again.demonstrations)
    ]
    assert len(set(chosen.values())) > 8


# Whose weights


def model():
    return tiny.qwen3(layers=1)


def weights(of) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in of.parameters()])


def move(student, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return weights(student).clone()


def test_the_base_teacher_never_moves():
    student = model()
    first, made = weights(student).clone(), teacher.Teacher(student, "base")
    for step in range(3):
        move(student, step)
        made.follow()
    assert torch.equal(weights(made.model), first) and not torch.equal(weights(student), first)


@pytest.mark.parametrize("rate", [0.05, 0.3, 1.0])
def test_the_moving_average_is_the_closed_form(rate):
    student = model()
    first, made, students = weights(student).clone(), teacher.Teacher(student, "ema", rate), []
    for step in range(3):
        students.append(move(student, step))
        made.follow()
        assert torch.equal(weights(student), students[-1])  # the student does not feel it
    keep = 1 - rate
    wanted = keep**3 * first + rate * (keep**2 * students[0] + keep * students[1] + students[2])
    torch.testing.assert_close(weights(made.model), wanted, rtol=1e-5, atol=1e-5)


def test_the_live_teacher_is_the_student():
    student = model()
    made = teacher.Teacher(student, "live")
    moved = move(student, 0)
    made.follow()
    assert made.model is student and torch.equal(weights(made.model), moved)
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("kind", ["base", "ema"])
def test_a_copy_does_not_train_and_shares_nothing(kind):
    student = model().train()
    made = teacher.Teacher(student, kind)
    assert not made.model.training and student.training
    assert not any(parameter.requires_grad for parameter in made.model.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert {p.data_ptr() for p in made.model.parameters()}.isdisjoint(
        p.data_ptr() for p in student.parameters()
    )


# Errors


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: teacher.choose_demonstrations(RIGHT, G, "best"),
            "unknown demonstration rule 'best'; choose one of: first, random",
        ),
        (lambda: teacher.Teacher(None, "frozen"), "unknown teacher 'frozen'; choose one of: base, ema, live"),
        (lambda: teacher.Teacher(None, "ema", 0.0), "teacher_update_rate=0.0 is not allowed"),
        (lambda: teacher.Teacher(None, "ema", 1.5), "teacher_update_rate=1.5 is not allowed"),
        (
            lambda: view("answer"),
            "unknown teacher context 'answer'; choose one of: feedback, solution, "
            "solution_feedback, solution_no_think",
        ),
        (
            lambda: teacher.teacher_view(
                tokenizer(), PROBLEMS, TEXTS, RIGHT, G, SimpleNamespace(context="answer"), 0
            ),
            "unknown teacher context 'answer'; choose one of: feedback, solution, solution_feedback, "
            "solution_no_think",
        ),
        (
            lambda: SDPOConfig(demonstration="last"),
            "unknown demonstration rule 'last'; choose one of: first, random",
        ),
        (
            lambda: SDPOConfig(teacher_model_kind="old"),
            "unknown teacher 'old'; choose one of: base, ema, live",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unknown_names_are_told_with_those_that_are_known(call, words):
    with pytest.raises(SdlabError) as caught:
        call()
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)
