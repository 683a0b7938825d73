"""The loop of repairs: bit for bit SDPO and GRPO, resume, passes, and what a bad hook is told."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import rollout_models as tiny
import torch

from sdlab import provenance
from sdlab.errors import SdlabError
from sdlab.organism.pretrain import PretrainConfig, build_model
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.runs.folder import open_run
from sdlab.train import batch, session, teacher
from sdlab.train.config import TrainConfig
from sdlab.train.divergences import divergence
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.train.log import TIMED
from sdlab.train.repairs import scoring, teachers
from sdlab.train.repairs.advantages import antisd, grpo, rlcsd, rlsd
from sdlab.train.repairs.catalogue import CATALOGUE
from sdlab.train.repairs.controls import grpo_top_entropy, mix, opsa
from sdlab.train.repairs.drift import drift
from sdlab.train.repairs.hooks import Divergence, Repair, Surrogate, TeacherRule
from sdlab.train.repairs.loop import run_repair
from sdlab.train.repairs.named import repair_named
from sdlab.train.repairs.routing import scope, sdpg, srpo
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.targets import opsd_ectr
from sdlab.train.repairs.views import View, solution_no_think
from sdlab.train.repairs.weighting import reopold
from sdlab.train.sdpo import SDPOConfig, run_sdpo
from sdlab.world.splits import load_split

pytestmark = pytest.mark.usefixtures("one_thread", "graded")

P, G, T = 3, 4, 12
SIZES = dict(
    steps=2,
    num_problems=P,
    num_generations=G,
    max_completion_length=T,
    learning_rate=1e-3,
    warmup_steps=0,
    batch_tokens=100,
)
PROBLEMS = [replace(problem, answer=str(i)) for i, problem in enumerate(load_split("train", limit=6))]


@pytest.fixture(scope="module")
def start():
    tokenizer = build_tokenizer()
    shape = PretrainConfig(hidden_size=64, num_layers=1, intermediate_size=64)
    model = build_model(shape, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    model = tiny.sharpen(model, 2.0, 5.0)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(100, 140)]
    return model, tokenizer


@pytest.fixture
def engine(start):
    return new_engine(start)


def new_engine(start):
    return TorchEngine(copy.deepcopy(start[0]), start[1])


@pytest.fixture
def graded(monkeypatch):
    """Of problem 0 every completion is right, of others the second and, in every other group, the third."""

    def grade(texts, truths):
        return [
            float(truth == "0" or i % G == 1 or (i % G == 2 and i // G % 2 == 1))
            for i, truth in enumerate(truths)
        ]

    monkeypatch.setattr(batch, "grade", grade)
    monkeypatch.setattr(provenance, "_commit", lambda: None)


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def assert_equal_runs(one, two, engine, other):
    columns = [column for column in one if column not in TIMED]
    assert len(one) == len(two) > 0 and one[columns].equals(two[columns])
    assert all(torch.equal(a, b) for a, b in zip(weights(engine.model), weights(other.model), strict=True))


SAME_AS_SDPO = {
    "default": ({}, Repair()),
    "no_think": (dict(context="solution_no_think"), Repair(views=(View(solution_no_think),))),
    "ema": (
        dict(teacher_model_kind="ema", teacher_update_rate=0.3),
        Repair(teacher=TeacherRule("ema", 0.3)),
    ),
    "live": (dict(teacher_model_kind="live"), Repair(teacher=TeacherRule("live"))),
    "kl": (
        dict(distillation_alpha=1.0, distillation_topk=7, distillation_add_tail=False),
        Repair(divergence=Divergence(1.0, 7, rest="renormalise", ratio_clip=2.0)),
    ),
    "whole": (
        dict(distillation_topk=None, distillation_is_clip=None, num_minibatches=3, temperature=0.9),
        Repair(divergence=Divergence(top_k=None)),
    ),
}


@pytest.mark.parametrize("name", SAME_AS_SDPO)
def test_without_a_change_it_is_sdpo_bit_for_bit(start, engine, name):
    changes, repair = SAME_AS_SDPO[name]
    other = new_engine(start)
    shared = {key: value for key, value in changes.items() if key in ("num_minibatches", "temperature")}
    expected = run_sdpo(other, PROBLEMS, SDPOConfig(**SIZES, **changes))
    assert expected["updates"].min() > 0
    assert_equal_runs(
        expected, run_repair(engine, PROBLEMS, repair, TrainConfig(**SIZES, **shared)), engine, other
    )


def graded_by_group(texts, truths):
    """The first group is all wrong, of the second only row 1 is right, the last is all right."""
    return [float(i // G == 2 or i == G + 1) for i in range(len(truths))]


def test_groups_without_a_teacher_change_no_bit_of_sdpo(start, engine, monkeypatch):
    monkeypatch.setattr(batch, "grade", graded_by_group)
    other = new_engine(start)
    expected = run_sdpo(other, PROBLEMS, SDPOConfig(**SIZES, num_minibatches=3))
    assert expected["updates"].tolist() == [3, 3] and expected["idle_groups"].min() > 0
    actual = run_repair(engine, PROBLEMS, Repair(), TrainConfig(**SIZES, num_minibatches=3))
    assert_equal_runs(expected, actual, engine, other)


def recorded(repair):
    """The repair, and what its weights gave at each call: rows in the signals, sums over both tables."""
    calls = []

    def weigh(signals, state):
        pair = repair.weights(signals, state)
        calls.append((signals.included.clone(), [None if x is None else x.clone() for x in pair]))
        return pair

    return replace(repair, weights=weigh), calls


FEW = {  # most rows have no token with a weight
    "opsa": opsa(fraction=0.03),
    "80/20": grpo_top_entropy(share=0.03),
    "reopold": reopold(beta=0.03, explore=0.0),
    "scope": scope(),
}


@pytest.mark.parametrize("name", FEW)
def test_means_and_quantiles_of_a_minibatch_are_over_all_its_rows(start, monkeypatch, name):
    monkeypatch.setattr(batch, "grade", graded_by_group)
    for count in (1, 3):
        repair, calls = recorded(FEW[name])
        config = TrainConfig(**SIZES | {"steps": 1}, num_minibatches=count)
        run_repair(new_engine(start), PROBLEMS, repair, config)
        (everything, whole), *parts = calls
        assert everything.all() and 1 <= len(parts) <= count
        assert not all((weight > 0).any(1).all() for weight in whole if weight is not None)
        assert torch.equal(sum(included.int() for included, _ in parts), everything.int())
        if count == 1:
            for one, other in zip(parts[0][1], whole, strict=True):
                assert (one is None and other is None) or torch.equal(one, other)


def test_a_row_of_weight_zero_counts_as_one_of_advantage_zero(start, engine):
    """Two ways to write: only right rows push, and the mean is over all tokens."""
    other, config = new_engine(start), TrainConfig(**SIZES, num_minibatches=1)

    def advantage(signals, state):
        return signals.advantages() * signals.right[:, None]

    def right_only(signals, state):
        return None, signals.token_mean(signals.mask) * signals.right[:, None]

    one = replace(grpo(), advantage=advantage)
    two = replace(grpo(), weights=right_only)
    tables = [run_repair(*pair, config) for pair in ((engine, PROBLEMS, one), (other, PROBLEMS, two))]
    assert tables[0]["used_rows"].min() > 0
    assert_equal_runs(*tables, engine, other)


def test_sdpg_s_teacher_is_not_divided_by_the_temperature(start, engine):
    seen, repair = {}, sdpg()

    def weigh(signals, state):
        if not seen:
            seen.update(s=signals.s, t=signals.t[0])
        return repair.weights(signals, state)

    config = TrainConfig(**SIZES | {"steps": 1}, temperature=0.5)
    first = batch.sample_batch(engine, PROBLEMS, config, 0)
    run_repair(engine, PROBLEMS, replace(repair, weights=weigh), config)
    for row, ids in enumerate(first.rollouts.completions()):
        n, at = len(ids), torch.tensor(ids)[:, None]
        shown = prompt_with(start[1], first, row, f"\\boxed{{{first.problems[row // G].answer}}}")
        compare(seen["s"][row, :n], predicted(start, first.prompts[row], ids, 0.5).gather(1, at)[:, 0])
        compare(seen["t"][row, :n], predicted(start, shown, ids, 1.0).gather(1, at)[:, 0])


@pytest.mark.parametrize(
    ("kind", "copies"), [("base", 1), ("trust_region", 1), ("live", 1), ("ema", 2), ("snapshot", 2)]
)
def test_a_teacher_that_never_moves_is_also_the_base(start, engine, monkeypatch, kind, copies):
    made = []

    def counted(model):
        made.append(copy.deepcopy(model).eval().requires_grad_(False))
        return made[-1]

    for module in (teacher, teachers, session):
        monkeypatch.setattr(module, "frozen_copy", counted)
    before = weights(engine.model)
    run_repair(engine, PROBLEMS, Repair(teacher=TeacherRule(kind)), TrainConfig(**SIZES | {"steps": 1}))
    assert len(made) == copies
    still = [all(map(torch.equal, before, weights(model))) for model in made]
    assert not all(map(torch.equal, before, weights(engine.model))) and any(still)


@pytest.mark.parametrize("changes", [{}, dict(num_minibatches=1, temperature=0.8)])
def test_the_grpo_repair_is_grpo_bit_for_bit(start, engine, changes):
    other = new_engine(start)
    expected = run_grpo(other, PROBLEMS, GRPOConfig(**SIZES, **changes))
    assert expected["updates"].min() > 0
    assert_equal_runs(
        expected, run_repair(engine, PROBLEMS, grpo(), TrainConfig(**SIZES, **changes)), engine, other
    )


def test_the_signals_are_those_of_the_plain_model(start, engine):
    """s, t, entropies and KL against full rows through the Hugging Face model, row by row."""
    seen = {}

    def weigh(signals: Signals, state: dict):
        if not seen:  # the whole step; its minibatches follow
            seen.update(signals=signals, s=signals.s, t=signals.t, HT=signals.teacher_entropy)
            seen.update(HS=signals.student_entropy, kl=signals.kl(0, 1, None), p2=signals.collision)
            seen.update(base=signals.base, whole=signals.distributions("student"))
        return signals.token_mean(signals.taught), None

    config = TrainConfig(**SIZES | {"steps": 1})
    first = batch.sample_batch(engine, PROBLEMS, config, 0)
    repair = replace(opsd_ectr(), weights=weigh)
    run_repair(engine, PROBLEMS, repair, config)
    signals = seen["signals"]
    siblings = [rule(first) for rule in (right_sibling, wrong_sibling)]
    ends = {True: 0, False: 0}
    for row, ids in enumerate(first.rollouts.completions()):
        n, own = len(ids), predicted(start, first.prompts[row], ids)
        at = torch.tensor(ids)
        compare(seen["s"][row, :n], own.gather(1, at[:, None])[:, 0])
        compare(seen["base"][row, :n], own.gather(1, at[:, None])[:, 0])
        compare(seen["HS"][row, :n], -(own.exp() * own).sum(-1))
        compare(seen["p2"][row, :n], own.exp().square().sum(-1))
        compare(seen["whole"][row, :n].exp(), own.exp())
        views = []
        for m, chosen in enumerate(siblings):
            informed = bool(signals.informed[m, row])
            assert informed == (chosen[row] is not None)
            ends[informed] += 1
            if not informed:
                assert torch.equal(seen["t"][m, row, :n], first.rollouts.per_token_logps[row, :n])
                assert not signals.u[m, row].any()
                continue
            prompt = prompt_with(start[1], first, row, first.rollouts.texts[chosen[row]])
            views.append(predicted(start, prompt, ids))
            compare(seen["t"][m, row, :n], views[-1].gather(1, at[:, None])[:, 0])
            compare(seen["HT"][m, row, :n], -(views[-1].exp() * views[-1]).sum(-1))
        if len(views) == 2:
            compare(seen["kl"][row, :n], (views[0].exp() * (views[0] - views[1])).sum(-1))
        for table in (seen["s"], seen["base"], seen["HS"]):
            assert not table[row, n:].any()
    assert min(ends.values()) > 0


def right_sibling(first):
    return sibling_of(first, lambda reward: reward > 0.5)


def wrong_sibling(first):
    return sibling_of(first, lambda reward: reward < 0.5)


def sibling_of(first, chosen):
    rewards = first.rewards.tolist()
    return [
        next((i for i in range(row - row % G, row - row % G + G) if i != row and chosen(rewards[i])), None)
        for row in range(P * G)
    ]


def prompt_with(tokenizer, first, row, text):
    from sdlab.text.prompt import render_prompt

    return render_prompt(tokenizer, first.problems[row // G], text)


def predicted(start, prompt, ids, temperature=1.0):
    """Log-probabilities (T, V) at every token of `ids`, by the plain Hugging Face model."""
    asked = start[1](prompt, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = start[0](torch.tensor([asked + ids])).logits[0, len(asked) - 1 : -1]
    return (logits / temperature).log_softmax(-1)


def compare(actual, expected):
    torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-3)


def own_weights(signals, state):
    """Half of everything, and SDPO's half by the teacher's sureness."""
    each = signals.token_mean(signals.mask)
    return 0.5 * each * signals.taught * (-signals.teacher_entropy[0]).exp(), 0.5 * each


BRUTE = {
    "half": (Repair(advantage=grpo().advantage, weights=own_weights), 0.5),
    "srpo": (srpo(), None),
}


@pytest.mark.parametrize("name", BRUTE)
def test_the_loss_is_that_of_full_rows_computed_one_by_one(start, engine, name):
    repair, share = BRUTE[name]
    repair = replace(repair, divergence=Divergence(top_k=None))
    config = TrainConfig(**SIZES | {"steps": 1}, num_minibatches=1, temperature=0.8)
    first = batch.sample_batch(engine, PROBLEMS, config, 0)
    loss = run_repair(engine, PROBLEMS, repair, config)["loss"].iloc[0]

    rewards, siblings = first.rewards.tolist(), right_sibling(first)
    factors, sdpo, push, ways = [], [], 0.0, set()
    for row, ids in enumerate(first.rollouts.completions()):
        informed = siblings[row] is not None
        distilled = informed if share else informed and not rewards[row]
        policy = share or float(not distilled)
        ways.add((distilled, policy))
        student = predicted(start, first.prompts[row], ids, 0.8)
        group = rewards[row - row % G : row - row % G + G]
        ratio = (student[range(len(ids)), ids] - first.rollouts.per_token_logps[row, : len(ids)]).exp()
        push -= policy * (ratio * (rewards[row] - sum(group) / G)).sum().item()
        if distilled:
            prompt = prompt_with(start[1], first, row, first.rollouts.texts[siblings[row]])
            teacher = predicted(start, prompt, ids, 0.8)
            factors += (teacher.exp() * teacher).sum(-1).exp().tolist()
            sdpo += divergence(student, teacher, 0.5).tolist()
    mean = 1.0 if share else sum(factors) / len(factors)
    pull = sum((share or 1.0) * factor / mean * value for factor, value in zip(factors, sdpo, strict=True))
    assert len(ways) == 2
    tokens = int(first.rollouts.completion_mask.sum())
    assert loss == pytest.approx((push + pull) / tokens, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_method_trains_and_costs_the_passes_it_says(start, monkeypatch, name):
    """Two steps; no distribution without a gradient is computed more often than the catalogue says."""
    steps, groups = 2, 6 if name == "rlcsd" else G
    counts, compute = {}, scoring.Scoring.logps

    def count(self, source, part):
        if not all(row in self._kept.get(source, {}) for row in part):
            for row in part:
                key = source, row
                counts[key] = counts.get(key, 0) + 1
        return compute(self, source, part)

    monkeypatch.setattr(scoring.Scoring, "logps", count)
    engine, repair = new_engine(start), repair_named(name)
    table = run_repair(engine, PROBLEMS, repair, TrainConfig(**SIZES | {"num_generations": groups}))
    assert len(table) == steps and table["updates"].max() > 0
    assert math.isfinite(table["loss"].mean()) and math.isfinite(table["grad_norm"].mean())
    changed = [not torch.equal(a, b) for a, b in zip(weights(engine.model), weights(start[0]), strict=True)]
    assert any(changed)
    rows = P * groups
    costs = [sum(counts.get((source, row), 0) for source in sources(repair)) for row in range(rows)]
    assert max(costs) == steps * CATALOGUE[name].passes


def sources(repair):
    return ["student", "base", *range(len(repair.views))]


STATES = {
    "antisd": antisd(warmup=1),
    "drift": drift(),
    "snapshot": replace(rlsd(), teacher=TeacherRule("snapshot", every=2)),
    "ema": Repair(teacher=TeacherRule("ema", 0.5)),
    "trust_region": Repair(teacher=TeacherRule("trust_region", 0.3)),
    "mix": mix(0.5),
    "rlcsd": rlcsd(negatives=2),
}


@pytest.mark.parametrize("name", STATES)
def test_a_killed_run_resumes_with_the_same_numbers(start, tmp_path, name):
    config = TrainConfig(**SIZES | {"steps": 3})
    whole, killed = new_engine(start), new_engine(start)
    expected = run_repair(whole, PROBLEMS, STATES[name], config)

    def stop(row):
        if row["step"] == 1:
            raise KeyboardInterrupt

    with open_run(tmp_path / "run", config, method="repair", model="nobody/toy") as run:
        table = run_repair(killed, PROBLEMS, STATES[name], config, run, stop)
        assert len(table) == 2 and table.attrs["stopped"]
    again = new_engine(start)
    with open_run(tmp_path / "run", config, method="repair", model="nobody/toy") as run:
        resumed = run_repair(again, PROBLEMS, STATES[name], config, run)
    assert_equal_runs(expected, resumed, whole, again)


def test_another_temperature_is_fine_where_no_ratio_is_taken(start):
    for repair in (
        Repair(temperature=1.1, divergence=Divergence()),
        replace(grpo(), temperature=1.1, surrogate=Surrogate(old="student")),
    ):
        table = run_repair(new_engine(start), PROBLEMS, repair, TrainConfig(**SIZES | {"steps": 1}))
        assert table["updates"].tolist() == [2]


def bad(**hooks) -> Repair:
    return Repair(name="mine", **hooks)


def ones(signals, state):
    return torch.ones_like(signals.old)


def policy(signals, state):
    return None, signals.token_mean(signals.mask)


BAD = {
    "shape": (bad(weights=lambda s, state: (torch.ones(3), None)), r"weights \(distil\) gave shape \(3,\)"),
    "negative": (bad(weights=lambda s, state: (-s.mask.float(), None)), "distil.*-1; weights must be"),
    "infinite": (bad(weights=lambda s, state: (s.mask / 0.0, None)), "distil.*not finite"),
    "no pair": (bad(weights=lambda s, state: s.mask.float()), "the pair"),
    "no tensor": (bad(weights=lambda s, state: (1.0, None)), "gave a float"),
    "no advantage": (bad(weights=policy), "policy weights but no advantage"),
    "no policy": (bad(advantage=ones), "advantage but no policy weights"),
    "no view": (bad(views=()), "no view"),
    "advantage": (bad(advantage=lambda s, state: s.old[:2], weights=policy), "advantage gave shape"),
    "nan": (bad(advantage=lambda s, state: s.old * math.nan, weights=policy), "advantage gave numbers"),
    "target": (bad(target=lambda student, views, base, state: views[0][:, :2]), "target gave shape"),
    "target inf": (
        bad(target=lambda student, views, base, state: views[0] - math.inf),
        "target gave numbers",
    ),
    "regulariser": (bad(regulariser=lambda student, base, ids: student), "regulariser gave shape"),
    "view": (bad(views=(View(lambda step: (["?"], [True])),)), r"views\[0\] gave 1 prompts"),
    "state": (bad(advance=lambda state, s: None), "advance gave a NoneType; it must give a dict"),
    "state that is lost": (
        bad(advance=lambda state, s: {"rate": [np.float64(0.5)]}),
        r"advance gave a state with a numpy\.float64, which a checkpoint cannot hold",
    ),
    "ratio of two temperatures": (
        bad(temperature=1.1, divergence=Divergence(ratio_clip=2.0)),
        r"temperature=1\.1 the ratio .* use Divergence\(ratio_clip=None\), or",
    ),
    "PPO at another temperature": (
        replace(grpo(), name="mine", temperature=0.9),
        r'temperature=0\.9 the ratio .* use Surrogate\(old="student"\), or',
    ),
    "group": (replace(rlcsd(negatives=4), name="mine"), r"views\[4\] needs 5 .* num_generations is 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_hook_is_named_and_changes_nothing(start, engine, name):
    repair, message = BAD[name]
    with pytest.raises(SdlabError, match="'mine'.*" + message):
        run_repair(engine, PROBLEMS, repair, TrainConfig(**SIZES))
    assert all(torch.equal(a, b) for a, b in zip(weights(engine.model), weights(start[0]), strict=True))


def test_a_hook_that_fails_later_keeps_the_finished_steps(start, tmp_path):
    def late(signals, state):
        weight = signals.token_mean(signals.taught)
        return (weight if signals.step < 2 else -weight), None

    config, engine, whole = TrainConfig(**SIZES | {"steps": 3}), new_engine(start), new_engine(start)
    expected = run_repair(whole, PROBLEMS, Repair(), TrainConfig(**SIZES | {"steps": 2}))
    with open_run(tmp_path / "run", config, method="repair", model="nobody/toy") as run:
        with pytest.raises(SdlabError, match="'late': weights"):
            run_repair(engine, PROBLEMS, Repair(name="late", weights=late), config, run)
    rows = (tmp_path / "run" / "steps.jsonl").read_text().splitlines()
    assert len(rows) == len(expected) == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(engine.model), weights(whole.model), strict=True))
