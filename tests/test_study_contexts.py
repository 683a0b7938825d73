"""Table 1 and the model card, with the rational reasoner itself in the place of a model: its answers are
known exactly.
"""

import json
import re
from types import SimpleNamespace

import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import summarise
from sdlab.organism import card
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.rollout.types import Rollouts
from sdlab.seeds import stream
from sdlab.study import contexts
from sdlab.text.prompt import CONTEXTS
from sdlab.world.evidence import read_evidence
from sdlab.world.problems import Problem
from sdlab.world.reasoner import sample
from sdlab.world.splits import SPLITS, load_split


class ReasonerEngine:
    """Answers prompts as the reasoner would: it finds the problem and the solution in the text."""

    trains, model = True, torch.nn.Linear(1, 1)  # as small as an organism

    context_length = None

    def __init__(self):
        self.tokenizer, self.asked = build_tokenizer(), []
        self.model = SimpleNamespace(config={})  # no stored knobs
        self.problems = {
            p.prompt: p for split in SPLITS for p in load_split(split, limit=512 if split == "train" else 131)
        }

    def generate(self, prompts, params, progress=None):
        self.asked.append((list(prompts), params))
        texts = []
        for prompt in prompts:
            user = prompt.split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
            solution = re.search(r"Correct solution: (.*)\n\nCorrectly solve", user, re.DOTALL)
            problem = self.problems[user.split("\n\n")[0]]
            evidence = read_evidence(problem, solution and solution[1])
            for g in range(params.num_generations):
                texts.append(
                    sample(
                        problem, stream(prompt, params.seed, g), evidence, "</think>" not in prompt[-20:]
                    ).text
                )
        ids = [self.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        longest = max(map(len, ids))
        mask = torch.tensor([[i < len(row) for i in range(longest)] for row in ids])
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        return Rollouts(
            prompts,
            [],
            params.num_generations,
            padded,
            mask,
            mask * 0.0,
            torch.zeros(len(ids), dtype=torch.bool),
            texts,
        )


@pytest.fixture(scope="module")
def engine():
    return ReasonerEngine()


@pytest.mark.slow
def test_selection_keeps_middling_problems_and_their_first_right_answer(engine):
    problems = load_split("train", limit=512)
    chosen = contexts.select(engine, problems, 12)
    rates = chosen.base.groupby("problem_id")["reward"].mean()
    assert len(chosen.problems) == len(chosen.solutions) == 12
    for problem, solution in zip(chosen.problems, chosen.solutions, strict=True):
        assert 1 / 8 <= rates[problem.id] <= 1 / 2
        rows = chosen.base[(chosen.base["problem_id"] == problem.id) & (chosen.base["reward"] == 1)]
        assert rows["completion"].iloc[0] == solution and solution.endswith(f"{{{problem.answer}}}.")
    # every eligible problem that comes before the last chosen one was taken
    order = [p.id for p in problems]
    last = order.index(chosen.problems[-1].id)
    assert [i for i in order[: last + 1] if 1 / 8 <= rates[i] <= 1 / 2] == [p.id for p in chosen.problems]


def test_no_middling_problem_is_an_error(engine):
    with pytest.raises(SdlabError, match="none of 20 problems has a base pass rate"):
        contexts.select(engine, load_split("train", limit=20), 5, low=2.0, high=3.0)


class Constant(ReasonerEngine):
    """Answers every prompt with the same texts in turn, and counts its completions."""

    def __init__(self, *texts):
        self.tokenizer, self.texts, self.prompts = build_tokenizer(), texts, []

    def generate(self, prompts, params, progress=None):
        self.prompts += prompts
        texts = [self.texts[i % len(self.texts)] for i in range(len(prompts) * params.num_generations)]
        mask = torch.ones(len(texts), 1, dtype=torch.bool)
        cut = torch.zeros(len(texts), dtype=torch.bool)
        return Rollouts(prompts, [], params.num_generations, mask.long(), mask, mask * 0.0, cut, texts)


def sums(count):
    return [Problem(f"my/{n}", "my", "my", "", f"{n} + {n}?", str(2 * n)) for n in range(1, count + 1)]


def test_a_model_that_writes_no_box_is_recognised_after_the_first_problems():
    engine = Constant("The sum is four.")
    with pytest.raises(SdlabError, match="0 of 128 completions were right and 0 had a box: the format, not"):
        contexts.select(engine, sums(4096), 100)
    assert len(engine.prompts) == contexts.PROBE


@pytest.mark.parametrize(("text", "cause"), [("\\boxed{-1}", "too hard"), ("\\boxed{0}", "too easy")])
def test_a_search_without_hope_ends(text, cause):
    engine = Constant(text)
    problems = [Problem(f"my/{n}", "my", "my", "", f"{n} - {n}?", "0") for n in range(4096)]
    with pytest.raises(SdlabError, match=rf"none of the first {contexts.HOPELESS} .*likely {cause} for this"):
        contexts.select(engine, problems, 100)
    assert len(engine.prompts) == contexts.HOPELESS


def test_the_parts_grow_and_cover_every_problem_once():
    for count, step in ((4096, 200), (20, 16), (7, 200), (400, 200), (33, 40)):
        parts = contexts._chunks(count, step)
        assert [place for start, end in parts for place in range(start, end)] == list(range(count))
        assert parts[0] == (0, min(contexts.PROBE, count))
        assert {*range(0, count, step)} <= {start for start, _ in parts}


def test_an_estimate_comes_once_and_solutions_without_thinking_leave_a_context_out():
    wrong = ["\\boxed{-1}"] * 7
    engine, notes = Constant("So \\boxed{0}.", *wrong), []
    problems = [Problem(f"my/{n}", "my", "my", "", f"{n} - {n}?", "0") for n in range(64)]
    selection = contexts.select(engine, problems, 32, note=notes.append)
    assert len(selection.problems) == 32 and len(notes) == 1
    assert re.match(r"16 of the first 16 problems fit .*selecting 32 needs about 32 problems", notes[0])
    contexts.select(engine, problems[:20], 32, note=notes.append)
    assert re.search(
        r"16 of the first 16 problems fit .*; all 20 are sampled, and about 20 of them", notes[1]
    )
    assert not contexts.has_thinking(engine, selection)
    frame = contexts.run_contexts(engine, selection, 8)
    assert list(dict.fromkeys(frame["context"])) == ["none", "solution", "regenerated"]


class OnlyAlone(Constant):
    """Is right without a demonstration only."""

    def generate(self, prompts, params, progress=None):
        shown = any("Correct solution:" in prompt for prompt in prompts)
        self.texts = ("\\boxed{-1}",) if shown else ("\\boxed{0}", "\\boxed{-1}")
        return super().generate(prompts, params, progress)


def test_without_a_right_completion_under_the_solution_nothing_is_regenerated():
    engine = OnlyAlone()
    problems = [Problem(f"my/{n}", "my", "my", "", f"{n} - {n}?", "0") for n in range(3)]
    frame = contexts.run_contexts(engine, contexts.select(engine, problems, 2), 2)
    assert list(dict.fromkeys(frame["context"])) == ["none", "solution"]


def test_a_context_too_short_for_the_demonstration_names_the_problem_and_the_remedy():
    engine = Constant("So " + "and so on " * 30 + "\\boxed{0}.", *["\\boxed{-1}"] * 7)
    problems = [Problem("my/7", "my", "my", "", "7 - 7?", "0")]
    selection = contexts.select(engine, problems, 1)
    engine.context_length = 300
    with pytest.raises(SdlabError, match=r"problem my/7 has (\d+) tokens with its demonstration") as caught:
        contexts.run_contexts(engine, selection, 8)
    size, limit = map(int, re.findall(r"has (\d+) tokens.* at most (\d+)", str(caught.value))[0])
    assert size + limit == 300 and "\n" not in str(caught.value)
    contexts.run_contexts(engine, selection, 8, max_completion_length=limit)


@pytest.mark.slow
def test_four_contexts_show_what_they_should_and_order_as_the_paper(engine):
    chosen = contexts.select(engine, load_split("train", limit=512), 20)
    engine.asked.clear()
    frame = contexts.run_contexts(engine, chosen, 4)
    assert list(dict.fromkeys(frame["context"])) == list(CONTEXTS)
    seeds = {params.seed for _, params in engine.asked}
    assert len(seeds) == 4  # no two contexts, and not the base samples, share random numbers
    bare = engine.asked[CONTEXTS.index("solution_no_think")][0]
    assert all(
        "Correct solution: The answer is" in p and "<think>" not in p.split("assistant")[0] for p in bare
    )
    guided = (
        frame[(frame["context"] == "solution") & (frame["reward"] == 1)]
        .groupby("problem_id")["completion"]
        .first()
    )
    for prompt in engine.asked[CONTEXTS.index("regenerated")][0]:
        problem = engine.problems[prompt.split("user\n")[1].split("\n\n")[0]]
        assert guided[problem.id] in prompt
    means = summarise(frame, "context").pivot(index="context", columns="metric", values="mean")
    assert means.loc["solution", "length"] < means.loc["regenerated", "length"] < means.loc["none", "length"]
    assert (
        means.loc["solution", "markers"]
        < means.loc["solution_no_think", "markers"]
        < means.loc["none", "markers"]
    )
    assert means.loc["none", "reward"] < 0.85 < 0.95 < means.loc["solution", "reward"]


@pytest.mark.slow
def test_only_the_card_of_an_organism_with_intuition_says_what_was_tried():
    from sdlab.world.knobs import Knobs

    text = card.describe_intuition(Knobs(intuition=0.4))
    assert "q = 0.4" in text and "Tried before q = 0.4 was settled" in text and "hypothesis" in text
    assert "Tried" not in card.describe_intuition(Knobs())


def test_the_card_holds_the_measured_scores_and_the_sums_of_every_file(engine, tmp_path):
    from sdlab.organism.pretrain import PretrainConfig, pretrain
    from sdlab.rollout.loading import check_organism

    config = PretrainConfig(steps=1, documents=2, hidden_size=64, num_layers=1, intermediate_size=64)
    folder = pretrain(tmp_path, config, device="cpu")
    measured = card.measure_splits(engine, 6)
    assert len(measured) == 5 * 5 * len(card.MEASURES)
    text = card.write_card(folder, measured).read_text()
    assert (
        not re.search(r"\{\w+\}", text.split("## Scores")[1].replace("{scores}", ""))
        and "| deeper | full solution |" in text
    )
    cell = measured.query("split == 'kata' and mode == 'regenerated' and metric == 'reward'")["mean"].iloc[0]
    assert f"| kata | regenerated | {cell:.2f}" in text
    assert "rest, float32, weights" in text
    config = json.loads((folder / "config.json").read_text())
    config["sdlab"]["bf16"] = True
    (folder / "config.json").write_text(json.dumps(config))
    assert "rest, matrix products in bfloat16, weights" in card.write_card(folder, measured).read_text()
    check_organism(folder)
    (folder / "config.json").write_text(json.dumps(config | {"x": 1}))
    with pytest.raises(SdlabError, match="config.json is damaged"):
        check_organism(folder)
    with pytest.raises(SdlabError, match="holds no organism"):
        card.write_card(tmp_path / "nowhere", measured)
