import dataclasses
import itertools

import numpy as np
import pandas
import pytest
import rollout_models
import torch

from sdlab.errors import SdlabError
from sdlab.measure.comparison import compare, shared_problems
from sdlab.measure.evaluation import evaluate, marker_means, select_by_base_rate, summarise, table_one
from sdlab.rollout.types import Rollouts, SamplingParams
from sdlab.world.problems import Problem


class Tokenizer:
    def apply_chat_template(self, messages, tokenize, add_generation_prompt, enable_thinking):
        assert not tokenize and add_generation_prompt
        return messages[0]["content"] + ("<think>" if enable_thinking else "<think></think>")


class Engine:
    """Says what it is told to: one list of completions per problem, in order; a token is a character."""

    tokenizer = Tokenizer()

    def __init__(self, completions):
        self.completions = completions

    def generate(self, prompts, params, progress=None):
        self.prompts = prompts
        texts = [text for group in self.completions for text in group[: params.num_generations]]
        lengths = torch.tensor([len(text) for text in texts])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        progress and progress(len(texts), len(texts))
        return Rollouts(
            prompts,
            [[1]] * len(prompts),
            params.num_generations,
            mask.long(),
            mask,
            -mask.float(),
            lengths > 40,
            texts,
        )


PROBLEMS = [
    Problem(f"hunt/{i}", "hunt", "in-domain", "a x b", f"Question {i}?", str(30 + i)) for i in range(3)
]
TEXTS = [
    ["Wait, check. \\boxed{30}", "\\boxed{31}"],
    ["<think>hmm \\boxed{31}</think> It is \\boxed{7}", "Maybe \\boxed{31}"],
    ["no answer here, but a text that goes on and on", "\\boxed{32}"],
]


def test_rows_of_evaluate():
    told = []
    frame = evaluate(
        Engine(TEXTS), PROBLEMS, SamplingParams(num_generations=2), progress=lambda *at: told.append(at)
    )
    assert frame["problem_id"].tolist() == ["hunt/0", "hunt/0", "hunt/1", "hunt/1", "hunt/2", "hunt/2"]
    assert frame["generation"].tolist() == [0, 1] * 3
    assert frame["reward"].tolist() == [1, 0, 0, 1, 0, 1]
    assert frame["answer"].tolist()[:4] == ["30", "31", "7", "31"] and pandas.isna(frame["answer"][4])
    assert frame["markers"].tolist() == [2, 0, 1, 1, 0, 0]
    assert frame["length"].tolist() == [len(text) for text in itertools.chain(*TEXTS)]
    assert frame["truncated"].tolist() == [length > 40 for length in frame["length"]]
    assert set(frame["context"]) == {"none"} and not frame["guided"].any() and told == [(6, 6)]


def test_contexts_reach_the_prompt():
    shown = ["<think>because</think>\n\nIt is \\boxed{30}", None, "reason</think>It is \\boxed{32}"]
    engine = Engine(TEXTS)
    params = SamplingParams(num_generations=2)
    frame = evaluate(engine, PROBLEMS, params, context="solution", demonstrations=shown, thinking=False)
    assert engine.prompts[0].startswith("Question 0?\n\nCorrect solution: <think>because</think>")
    assert engine.prompts[1] == "Question 1?<think></think>"
    assert frame["guided"].tolist() == [True, True, False, False, True, True]
    evaluate(engine, PROBLEMS, params, context="solution_no_think", demonstrations=shown)
    assert "because" not in engine.prompts[0] and "It is \\boxed{30}" in engine.prompts[0]
    assert "reason" not in engine.prompts[2] and "It is \\boxed{32}" in engine.prompts[2]


def test_a_demonstration_cut_inside_its_thinking_is_no_solution_without_think():
    """The template opens <think> in the prompt, so that a completion without </think> was cut inside its
    thinking.
    """
    tokenizer = rollout_models.word_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}<think>"
    engine = Engine(TEXTS)
    engine.tokenizer = tokenizer
    shown = ["maybe \\boxed{30}", None, "reason</think>It is \\boxed{32}"]
    params = SamplingParams(num_generations=2)
    with pytest.warns(UserWarning, match="1 of 3 demonstrations were cut inside their thinking"):
        frame = evaluate(engine, PROBLEMS, params, context="solution_no_think", demonstrations=shown)
    assert frame["guided"].tolist() == [False] * 4 + [True] * 2
    assert engine.prompts[0] == "Question 0?<think>" and "It is \\boxed{32}" in engine.prompts[2]
    evaluate(engine, PROBLEMS, params, context="solution", demonstrations=shown)
    assert "maybe" in engine.prompts[0]


@pytest.mark.parametrize(
    "problems, options, message",
    [
        (PROBLEMS, {"context": "hint"}, "unknown context 'hint'; choose one of: none, regenerated"),
        ([], {}, "no problems"),
        (PROBLEMS, {"context": "solution"}, "'solution' needs demonstrations"),
        (PROBLEMS, {"demonstrations": ["a", "b", "c"]}, "'none' takes no demonstrations"),
        (PROBLEMS, {"context": "solution", "demonstrations": ["a"]}, "3 problems but 1 demonstrations"),
    ],
)
def test_evaluate_refuses(problems, options, message):
    with pytest.raises(SdlabError, match=message):
        evaluate(Engine(TEXTS), problems, SamplingParams(), **options)


def made(rewards, context="none", length=100, markers=1):
    """A frame from {problem: rewards}."""
    rows = [
        {
            "problem_id": problem,
            "context": context,
            "generation": g,
            "reward": float(reward),
            "truncated": False,
        }
        | {"length": length * (g + 1), "markers": markers, "completion": "wait" * markers}
        for problem, group in rewards.items()
        for g, reward in enumerate(group)
    ]
    return pandas.DataFrame(rows)


def test_summarise_against_means_by_hand():
    frame = pandas.concat(
        [made({"p": [1, 0], "q": [1, 1], "r": [0, 0]}), made({"p": [1, 1], "q": [1, 1]}, "solution", 10, 0)]
    )
    long = summarise(frame, by="context").set_index(["context", "metric"])
    assert long.loc[("none", "reward"), ["mean", "problems", "generations"]].tolist() == [0.5, 3, 6]
    assert long.loc[("none", "length"), "mean"] == 150
    assert long.loc[("none", "density"), "mean"] == pytest.approx(
        1000 * 6 / 900
    )  # not the mean of 1/100 and 1/200
    # two of two problems: Clopper and Pearson's limits
    assert long.loc[("solution", "reward"), ["mean", "low", "high"]].tolist() == pytest.approx(
        [1, 0.025**0.5, 1]
    )
    assert long.loc[("none", "reward"), "low"] < 0.5 < long.loc[("none", "reward"), "high"]
    everything = summarise(frame, metrics=["reward"])
    assert everything.columns.tolist() == ["metric", "mean", "low", "high", "problems", "generations"]
    assert everything["mean"].tolist() == [0.7]
    cells = table_one(frame)
    assert (
        cells.index.tolist() == ["none", "solution"]
        and cells.loc["solution", "reward"] == "1.00 [0.16, 1.00]"
    )


def test_intervals_are_by_problem_not_by_row():
    random = np.random.default_rng(0)
    rewards = {f"p{i}": [float(random.random() < 0.5)] * 50 for i in range(20)}  # 50 copies of one answer
    row = summarise(made(rewards), metrics=["reward"]).iloc[0]
    assert row["high"] - row["low"] > 0.3  # 20 coins; 1,000 rows taken as independent would give 0.06


def test_summarise_refuses():
    frame = made({"p": [1, 0]})
    for arguments in ((frame, "colour"), (frame, [], ["speed"]), (frame, [], ["completion"]), (frame[:0],)):
        with pytest.raises(SdlabError):
            summarise(*arguments)


def test_marker_means():
    frame = made({"p": [1, 0], "q": [1, 1]}).assign(completion=["wait wait", "hmm", "", "unlikely"])
    table = marker_means(frame).set_index("marker")
    assert (len(table), table.loc["wait", "mean"], table.loc["hmm", "mean"], table.loc["likely", "mean"]) == (
        10,
        0.5,
        0.25,
        0,
    )
    assert table.loc["wait", "density"] == pytest.approx(1000 * 2 / 600)
    assert marker_means(frame, match="substring").set_index("marker").loc["likely", "mean"] == 0.25


def test_selection_takes_one_to_four_of_eight():
    frame = made({f"{right} right": [1] * right + [0] * (8 - right) for right in range(9)})
    assert select_by_base_rate(frame) == ["1 right", "2 right", "3 right", "4 right"]
    assert select_by_base_rate(frame, 0, 0) == ["0 right"]


def test_completions_without_a_reward_are_not_wrong_ones():
    """Two of eight graded, one of them right, is a half; and a problem that nobody graded is in no range."""
    nan = float("nan")
    frame = made({"half": [1, 0] + [nan] * 6, "none": [nan] * 8, "wrong": [0] * 8})
    assert select_by_base_rate(frame, 0.4, 0.6) == ["half"] and select_by_base_rate(frame, 0, 0) == ["wrong"]
    row = summarise(frame, metrics=["reward"]).iloc[0]
    assert (row["mean"], row["problems"], row["generations"]) == (1 / 10, 2, 10)
    alone = summarise(frame[frame["problem_id"] != "wrong"], metrics=["reward"]).iloc[0]
    assert alone["mean"] == 0.5 and alone["problems"] == 1
    assert alone["low"] < 0.025 and alone["high"] > 0.975  # one problem says hardly anything
    nothing = summarise(frame[frame["problem_id"] == "none"], metrics=["reward"]).iloc[0]
    assert np.isnan(nothing["mean"]) and (nothing["problems"], nothing["generations"]) == (0, 0)


def test_a_missing_count_takes_its_tokens_with_it():
    """Markers missing in one of two completions: density is that of the other, not half of it."""
    frame = made({"p": [1, 1], "q": [1, 1]}, length=100, markers=2)
    frame.loc[frame["generation"] == 1, "markers"] = np.nan
    assert summarise(frame, metrics=["density"])["mean"].item() == pytest.approx(1000 * 2 / 100)


def test_problems_graded_on_one_side_only_are_not_compared():
    nan = float("nan")
    a = made({f"p{i}": [0, 1] for i in range(8)} | {"only a": [1, 1], "nobody": [nan, nan]})
    b = made({f"p{i}": [1, 1] for i in range(8)} | {"only a": [nan, nan], "nobody": [nan, nan]})
    found = compare(a, b)
    assert (found.problems, found.a, found.b, found.difference.mean) == (8, 0.5, 1, 0.5)
    only = ["only a", "nobody"]
    for metric, one, other in (
        ("reward", a[a["problem_id"].isin(only)], b[b["problem_id"].isin(only)]),
        ("density", a.assign(length=0), b),
        ("reward", made({"p": [1]}), made({"q": [1]})),
    ):
        assert shared_problems(one, other, metric) == []
        with pytest.raises(SdlabError, match=f"no problem in common with a {metric} on both sides"):
            compare(one, other, metric)


def test_equality_needs_a_margin():
    random = np.random.default_rng(8)
    a = made({f"p{i}": random.random(8) < 0.5 for i in range(40)})
    b = made({p: random.permutation(g["reward"]) for p, g in a.groupby("problem_id")})
    found = compare(a, b, margin=0.1)  # no problem differs: at most 0.072 (90%, 0.05 ** (1 / 40))
    assert found.equivalent and found.sentence.endswith("not significant; equal within 0.1")
    assert not compare(a, b, margin=0.07).equivalent
    other = compare(a, made({f"p{i}": random.random(8) < 0.5 for i in range(40)}), margin=0.02)
    assert not other.equivalent and "not shown to be equal within 0.02" in other.sentence
    assert compare(a, b).equivalent is None
    few = [{"p": [1, 0]}, {"p": [0, 1]}]
    assert not compare(*map(made, few), margin=0.5).equivalent  # one problem shows nothing
    with pytest.raises(SdlabError, match="margin=0"):
        compare(a, b, margin=0)


def test_compare_says_what_it_can():
    random = np.random.default_rng(5)
    base = {f"p{i}": random.random(8) < 0.4 for i in range(30)}
    better = {p: group | (random.random(8) < 0.5) for p, group in base.items()}
    found = compare(made(base), made(better), names=("none", "solution"))
    expected = np.mean(list(better.values())) - np.mean(list(base.values()))
    assert (
        found.significant
        and found.difference.mean == pytest.approx(expected)
        and found.b - found.a == pytest.approx(expected)
    )
    assert (
        "solution minus none" in found.sentence
        and found.sentence.endswith("30 problems), significant")
        and len(found.sentence) < 90
    )
    shuffled = {p: random.permutation(group) for p, group in base.items()}
    same = compare(made(base), made(shuffled))
    assert not same.significant and "not significant" in same.sentence
    few = compare(made(dict(list(base.items())[:3])), made({p: [1] * 8 for p in base}))
    assert (few.problems, few.significant) == (3, False) and "too few problems" in few.sentence
    one = compare(made({"p0": [0, 0]}), made({"p0": [1, 1]}), "density")
    assert "nan" not in one.sentence and not one.significant
    with pytest.raises(SdlabError, match="no problem in common"):
        compare(made({"a": [1]}), made({"b": [1]}))


def test_comparisons_rarely_cry_wolf():
    random = np.random.default_rng(11)
    alarms = 0
    for _trial in range(60):
        chances = random.beta(1, 1, 25)
        a, b = ({f"p{i}": random.random(4) < chance for i, chance in enumerate(chances)} for _ in range(2))
        alarms += compare(made(a), made(b)).significant
    assert alarms <= 10  # 5% of 60 is 3; more than 10 has a chance of about 1 in 3,000


def test_frozen_results():
    with pytest.raises(dataclasses.FrozenInstanceError):
        compare(made({"p": [1]}), made({"p": [1]})).a = 2
