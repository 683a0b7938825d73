"""Every repair against reference vectors in float64: loss, gradient, weights, targets to 1e-9.

The vectors run through the hooks and the loss of the training loop. SDLAB_REPAIR_VECTORS names another file
in the same form.
"""

import gzip
import json
import math
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from sdlab.train.repairs import advantages, clip, controls, drift, rewards, routing, targets, weighting
from sdlab.train.repairs.loss import Tokens, on_support, token_terms, total
from sdlab.train.repairs.signals import Facts, Signals

COPY = Path(__file__).parent / "data" / "repair_vectors.json.gz"
CLOSE = dict(atol=1e-9, rtol=1e-9)


@cache
def vectors() -> dict:
    path = Path(os.environ.get("SDLAB_REPAIR_VECTORS") or COPY)
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def hi(h):
    return dict(high=h["hi"], scale=h["scale"])


# name -> (repair from the hyperparameters, the names of the views that the batch holds)
ONE, TWO, THREE = ("teacher",), ("teacher", "view1"), ("teacher", "view1", "view2")
REPAIRS = {
    "opsd_clip": (
        lambda h: clip.opsd_clip(
            h["alpha"], h["clip"], h["top_k"], "bucket" if h["tail"] else "renormalise", h["temperature"]
        ),
        ONE,
    ),
    "opsd_sampled": (lambda h: clip.opsd_sampled(h["temperature"]), ONE),
    "opsd_ectr": (lambda h: targets.opsd_ectr(**h), TWO),
    "purified_opsd": (lambda h: targets.purified_opsd(**h), ("teacher", "view2")),
    "veto": (lambda h: targets.veto(h["beta"], h["objective"] == "reverse_kl"), ONE),
    "demopsd": (lambda h: targets.demopsd(h["beta"], h["alpha_max"]), ONE),
    "fire": (lambda h: targets.fire(**h), THREE),
    "avsd": (lambda h: rewards.avsd(**h), THREE),
    "avsd_full": (lambda h: targets.avsd_full(**h), THREE),
    "sd_zero": (lambda h: clip.sd_zero(h["top_k"], h["forward_weight"]), ONE),
    "rlsd": (
        lambda h: advantages.rlsd(
            h["lam"],
            h["eps_w"],
            h["decay"],
            h["scale"],
            "u" if h["variant"] == "rlcsd" else "old",
            None if h["variant"] == "rlcsd" else 3.0,
        ),
        ONE,
    ),
    "rlsd_ectr": (
        lambda h: advantages.rlsd(h["lam"], h["eps_w"], h["decay"], h["scale"], "contrast"),
        TWO,
    ),
    "rlcsd": (
        lambda h: advantages.rlcsd(
            **{name: value for name, value in h.items() if not name.startswith("clip")},
            clip=(h["clip_low"], h["clip_high"]),
            negatives=3,
        ),
        ONE,
    ),
    "antisd": (lambda h: antisd(h), ONE),
    "rlrt": (lambda h: advantages.rlrt(h["lam"], h["eps_w"], h["scale"], h["gate_right"]), ONE),
    "distilled_rl": (lambda h: rewards.distilled_rl(**h), ONE),
    "topd": (lambda h: rewards.topd(**h), ONE),
    "tropd": (lambda h: weighting.tropd(**h), ONE),
    "reopold": (
        lambda h: weighting.reopold(h["lam"], h["beta"], 0.5, h["temperature"]),
        ONE,
    ),
    "pw_opsd": (
        lambda h: weighting.pw_opsd(
            h["w_min"], h["tau"], h["s"], h["clip"], h["temperature"], h["reduction"] == "row", h["top_k"]
        ),
        ONE,
    ),
    "eopd": (lambda h: weighting.eopd(**h), ONE),
    "rosd": (lambda h: weighting.rosd(h["alpha"], h["top_k"], h["is_clip"], h["skip_all_right"]), ONE),
    "iw_opd": (lambda h: rewards.iw_opd(h["gamma"], h["rollout"], h["epsilon"], h["temperature"]), ONE),
    "srpo": (
        lambda h: routing.srpo(
            h["rule"],
            h["beta"],
            h["alpha"],
            h["top_k"],
            h["is_clip"],
            h["lo"],
            h["hi"],
            h["dual"],
            h["scale"],
        ),
        ONE,
    ),
    "scope": (lambda h: routing.scope(h["weight_temperature"]), ONE),
    "sdpg": (
        lambda h: routing.sdpg(
            h["alpha"],
            h["beta"],
            h["reg"],
            h["positive_only"],
            h["warmup"],
            h["decay"],
            "student" if h["old"] == "self" else "rollout",
            h["temperature"],
            h["lo"],
            h["hi"],
            h["dual"],
            h["scale"],
        ),
        ONE,
    ),
    "opsa": (
        lambda h: controls.opsa(
            h["mode"], h["fraction"], h["a_min"], h["a_max"], h["fixed"], h["reduction"] == "row"
        ),
        (),
    ),
    "grpo_top_entropy": (lambda h: controls.grpo_top_entropy(h["share"], **hi(h)), ()),
    "grpo_entropy_bonus": (lambda h: controls.grpo_entropy_bonus(h["coef"], **hi(h)), ()),
    "grpo_base_kl": (lambda h: controls.grpo_base_kl(h["beta"], **hi(h)), ()),
}
STATES = ("antisd_gate", "drift")  # tested on their own below


def antisd(h):
    """AntiSD with its gate open or closed."""
    repair = advantages.antisd(h["lam"], h["scale"], h["surrogate"])
    return replace(repair, advance=lambda state, signals: {"lam": h["lam"] * h["gate"]})


class Vectors:
    """A scorer that reads the logits of a batch, in one micro-batch."""

    def __init__(self, batch: dict, repair, views):
        self.mask = tensor(batch["mask"]).bool()
        own, of_views = repair.temperature, repair.teacher_temperature or repair.temperature
        self.z = tensor(batch["student_logits"]).requires_grad_()
        names = {"base": own, **dict.fromkeys(views, of_views)}
        logits = {name: tensor(batch[f"{name}_logits"]) / scale for name, scale in names.items()}
        self.tables = {"base": logits["base"].log_softmax(-1)}
        self.tables |= {i: logits[name].log_softmax(-1) for i, name in enumerate(views)}
        self.student = (self.z / own).log_softmax(-1)
        self.tables["student"] = self.student.detach()

    def scan(self, *sources):
        yield list(range(len(self.mask))), [self.tables[source][self.mask] for source in sources]


class Given(Signals):
    """Signals whose teacher has the log-probabilities `given` (M - 1, B, T) in further views."""

    given = None

    @property
    def t(self):
        return torch.cat([self._of(0)[0][None], self.given.masked_fill(~self.mask, 0)])


class Case:
    """A case after the hooks and the loss; tables are (B, T) and 0 where the mask is false."""

    def __init__(self, name: str, case: dict):
        self.h, batch = case["hyper"], vectors()["_batches"][case["batch"]]
        build, views = REPAIRS[name]
        self.repair = repair = build(self.h)
        scorer = Vectors(batch, repair, views)
        self.mask = mask = scorer.mask
        informed = torch.ones(len(views), len(mask), dtype=torch.bool)
        if name == "rlcsd":
            informed = torch.cat([informed, torch.tensor(batch["negative_valid"]).T.bool()])
        facts = Facts(
            mask=mask,
            ids=torch.tensor(batch["completion_ids"]),
            old=tensor(batch["old_logps"]),
            rewards=tensor(batch["rewards"]),
            informed=informed,
            num_generations=batch["num_generations"],
            problem_ids=[""] * len(mask),
            uniforms=tensor(batch["uniforms"]),
            step=step_of(name, self.h),
            steps=self.h.get("total", 2),
            first_errors=lambda: torch.tensor(batch["first_error"]),
        )
        self.signals = signals = Given(facts, scorer) if name == "rlcsd" else Signals(facts, scorer)
        signals.given = tensor(batch["negative_logps"]).transpose(0, 1)
        self.state = repair.advance({}, signals)
        self.distil, self.policy = repair.weights(signals, self.state)
        self.advantage = (
            repair.advantage(signals, self.state).expand(mask.shape) * mask if repair.advantage else None
        )
        self.tokens = Tokens(
            student=scorer.student[mask],
            ids=facts.ids[mask],
            old=signals.old[mask],
            views=torch.stack([scorer.tables[i][mask] for i in range(len(views))]) if views else None,
            base=scorer.tables["base"][mask] if repair.reads_base else None,
            distil=None if self.distil is None else self.distil[mask],
            policy=None if self.policy is None else self.policy[mask],
            advantage=None if self.advantage is None else self.advantage[mask],
            mean=signals.token_mean(mask)[mask],
        )
        self.terms = token_terms(repair, self.tokens, self.state)
        loss = total(self.terms, self.tokens)
        (self.gradient,) = torch.autograd.grad(loss, scorer.z)
        self.loss = loss.detach()
        self.D, self.PG, self.R = map(
            self.table, (self.terms.distil, self.terms.policy, self.terms.regulariser)
        )

    def table(self, values):
        """Values at tokens, (N,) or (N, V), as a table (B, T) or (B, T, V)."""
        if values is None:
            return None
        full = torch.zeros(*self.mask.shape, *values.shape[1:], dtype=torch.float64)
        full[self.mask] = values.detach()
        return full

    @property
    def A(self):
        return self.signals.advantages(self.h.get("scale", "none"))

    @property
    def N(self):
        return self.mask.sum().clamp(min=1)

    @property
    def lengths(self):
        return self.mask.sum(1, keepdim=True).clamp(min=1)

    def target(self):
        """The target (B, T, K) on its support, whose entries are in the order of the first view."""
        tokens, rule = self.tokens, self.repair.divergence
        student, views, base = on_support(rule, tokens.student, tokens.views, tokens.base)
        return self.table(self.repair.target(student, views, base, self.state))


def step_of(name: str, h: dict) -> int:
    """The step, counted from 0."""
    if name == "reopold":
        return {"explore": 0, "refine": 1}[h["phase"]]
    if h.get("variant") == "rlcsd" or name == "rlsd_ectr":
        return h["step"] - 1
    return h.get("step", 0)


def evidence_factor(c: Case, gain, largest=60.0):
    return advantages.evidence_factor(c.A, gain, c.h["eps_w"], largest) * c.mask


def rlsd_factor(c: Case):
    port = c.h["variant"] == "sdpg"
    gain = c.signals.t[0] - (c.signals.old if port else c.signals.s)
    return evidence_factor(c, gain, 20.0 if port else 60.0)


def rlrt_factor(c: Case):
    factor = evidence_factor(c, c.signals.old - c.signals.t[0], 20.0)
    rows = c.signals.right[:, None] if c.h["gate_right"] else True
    return torch.where(rows & c.mask, factor, c.mask.double())


def fire_parts(c: Case, number: int):
    return c.table(targets.fire_target(c.tokens.student, c.tokens.views, c.h["step_scale"])[1][number][:, 0])


def fire_trust(c: Case):
    trust = c.table(targets.fire_target(c.tokens.student, c.tokens.views, c.h["step_scale"])[2][:, 0])
    return torch.where(c.signals.right[:, None], c.policy * len(c.mask) * c.lengths, trust)


def fire_loss(c: Case):
    own = c.PG * c.policy * len(c.mask) * c.lengths
    return torch.where(c.signals.right[:, None], own, c.D)


def avsd_gate(c: Case):
    t = c.signals.t
    excess = (t.logsumexp(0) - math.log(3) - t.mean(0)).clamp(min=0)
    fixed = {"consensus": 0.0, "arithmetic": 1.0}.get(c.h["gate"])
    gate = targets.agreement(t - c.signals.s, excess) if fixed is None else torch.full_like(excess, fixed)
    return gate * c.mask


def distilled_weight(c: Case):
    w = rewards.likelihood_factor(c.signals, c.h["limit"], c.h["normalise"])
    where = {"positive": c.A > 0, "negative": c.A < 0, "all": torch.ones_like(c.A).bool()}[c.h["apply_to"]]
    return torch.where(where, w, 1.0) * c.mask


def topd_return(c: Case):
    return rewards.returns(rewards.token_rewards(c.signals, c.h["alpha"]), c.mask)


def pw_weight(c: Case):
    rows = (c.mask.sum(1) > 0).sum() * c.lengths
    return c.distil * (rows if c.h["reduction"] == "row" else c.N)


def rlcsd_residual(c: Case):
    e, h = advantages.evidence(c.signals), c.h
    res = (h["beta"] * h["lam"] * (e / h["tau"]).tanh()).clamp(h["clip_low"], h["clip_high"])
    return res * c.mask


# What a method's cases expect besides COMMON. Weights come from the hooks, times the denominator.
PARTS = {
    "opsd_ectr": dict(
        weight=lambda c: c.distil * c.N,
        target_logps=Case.target,
        token_loss=lambda c: c.D * c.distil * c.N,
    ),
    "purified_opsd": dict(target_logps=Case.target),
    "veto": dict(target_logps=Case.target),
    "demopsd": dict(
        target_logps=Case.target,
        disagreement=lambda c: c.table(
            targets.divergence(c.tokens.base, c.tokens.views[0], 0.5).clamp(min=0)
        ),
        attenuation=lambda c: c.table(
            targets.attenuation(c.tokens.base, c.tokens.views[0], c.h["beta"], c.h["alpha_max"])[:, 0]
        ),
    ),
    "fire": dict(
        field_weight_1=lambda c: fire_parts(c, 0),
        field_weight_2=lambda c: fire_parts(c, 1),
        trust=fire_trust,
        target_logps=lambda c: c.target() * ~c.signals.right[:, None, None],
        token_loss=fire_loss,
    ),
    "avsd": dict(gate=avsd_gate, target=lambda c: (c.advantage + c.signals.s) * c.mask),
    "avsd_full": dict(target_logps=Case.target),
    "rlsd": dict(lam_eff=lambda c: c.state["lam"], weight=rlsd_factor),
    "rlsd_ectr": dict(
        lam_eff=lambda c: c.state["lam"],
        weight=lambda c: evidence_factor(c, c.signals.t[0] - c.signals.t[1]),
    ),
    "rlcsd": dict(
        evidence=lambda c: advantages.evidence(c.signals) * c.mask,
        residual=rlcsd_residual,
        selected=lambda c: rlcsd_residual(c).abs() > c.h["delta"],
    ),
    "antisd": dict(phi=lambda c: advantages.disbelief(c.signals.u[0]) * c.mask),
    "rlrt": dict(weight=rlrt_factor),
    "distilled_rl": dict(weight=distilled_weight),
    "topd": {
        "reward": lambda c: rewards.token_rewards(c.signals, c.h["alpha"]),
        "return": topd_return,
    },
    "tropd": dict(trust=lambda c: c.policy > 0, token_loss=lambda c: torch.where(c.policy > 0, c.PG, c.D)),
    "reopold": dict(
        floor=lambda c: math.log(c.h["lam"]) / (1 - c.h["lam"]),
        keep=lambda c: c.policy > 0,
        reward=lambda c: c.advantage,
    ),
    "pw_opsd": dict(weight=pw_weight),
    "eopd": dict(gate=lambda c: c.distil > 0, token_loss=lambda c: c.PG + (c.distil > 0) * c.D),
    "rosd": dict(keep=lambda c: c.distil > 0, token_loss=lambda c: c.D * (c.distil > 0)),
    "iw_opd": dict(
        weight=lambda c: (
            c.mask
            * rewards.earliness(
                (c.signals.t[0] - (c.signals.s if c.h["rollout"] == "self" else c.signals.old)) * c.mask,
                c.h["gamma"],
                c.h["epsilon"],
            )
        )
    ),
    "srpo": dict(to_sdpo=lambda c: (c.distil > 0).any(1), weight=lambda c: c.distil * c.N),
    "scope": dict(
        row_weight=lambda c: c.policy.amax(1) * (len(c.mask) // c.signals.num_generations),
        row_loss=lambda c: c.PG.sum(1),
    ),
    "sdpg": dict(
        beta_eff=lambda c: c.state["beta"], kl_term=lambda c: c.D * c.distil * c.N, reg_term=lambda c: c.R
    ),
    "opsa": dict(selected=lambda c: c.policy > 0),
    "grpo_top_entropy": dict(keep=lambda c: c.policy > 0),
    "grpo_entropy_bonus": dict(entropy=lambda c: c.R / -c.h["coef"]),
    "grpo_base_kl": dict(kl=lambda c: c.R / c.h["beta"]),
}
COMMON = {
    "loss": lambda c: c.loss,
    "grad_student_logits": lambda c: c.gradient,
    "advantage": lambda c: c.advantage,
    "row_advantage": lambda c: c.A[:, 0],
    "token_loss": lambda c: c.D,
}


def test_every_method_of_the_vectors_has_a_repair():
    assert {name for name in vectors() if not name.startswith("_")} == {*REPAIRS, *STATES}


@pytest.mark.parametrize("name", REPAIRS)
def test_loss_gradient_weights_and_targets_are_those_of_the_reference(name):
    cases = vectors()[name]["cases"]
    assert cases
    for number, case in enumerate(cases):
        result, parts = Case(name, case), COMMON | PARTS.get(name, {})
        assert {"loss", "grad_student_logits"} <= set(case["expected"])
        for part, expected in case["expected"].items():
            actual = torch.as_tensor(parts[part](result), dtype=torch.float64)
            torch.testing.assert_close(
                actual, tensor(expected), **CLOSE, msg=lambda text: f"{name}, case {number}, {part}: {text}"
            )


class Step:
    """The signals of a step as far as a state reads them, and no model."""

    def __init__(self, **values):
        vars(self).update(values)


def test_antisd_s_gate_opens_and_closes_as_in_the_reference():
    for case in vectors()["antisd_gate"]["cases"]:
        h, state, lams = case["hyper"], {}, []
        advance = advantages.entropy_gate(h["lam_max"], h["warmup_steps"], h["down"])
        for entropies in map(tensor, h["entropies"]):
            taught = torch.ones(1, len(entropies), dtype=torch.bool)
            state = advance(state, Step(teacher_entropy=entropies[None, None], taught=taught))
            lams.append(state["lam"])
        torch.testing.assert_close(tensor(lams), tensor(case["expected"]["lam"]), **CLOSE)
        assert state["h_warm"] == pytest.approx(case["expected"]["h_warm"], abs=1e-9)


def test_drift_s_rates_gates_and_weights_are_those_of_the_reference():
    for case in vectors()["drift"]["cases"]:
        h, state = case["hyper"], {}
        levels = [[h[name][level] for level in drift.LEVELS] for name in ("fail", "success", "rebellious")]
        settings = drift.Settings(
            decay=h["decay"],
            prior=tuple(h["prior"]),
            confidence=h["confidence"],
            neutral=h["neutral"],
            hard=h["hard"],
            easy=h["easy"],
            soft_temperature=h["soft_temperature"],
            fail=levels[0],
            success=levels[1],
            rebellious=levels[2],
            hard_success=h["hard_success_sdpo"],
            binary=h["binary"],
            margin=h["margin"],
            gamma=h["gamma"],
            most=h["max_bonus"],
        )
        advance = drift.drift(settings).advance
        for step, expected in zip(h["steps"], case["expected"]["steps"], strict=True):
            right, taught = tensor(step["correct"]) > 0.5, torch.tensor(step["available"]).bool()
            state = advance(state, Step(step=step["step"], problem_ids=step["problem"], right=right))
            sdpo, grpo, bonus = drift.row_weights(state["gates"], right, taught, settings)
            actual = {"rate": state["rate"], "sdpo": sdpo, "grpo": grpo, "bonus_row": bonus}
            actual |= dict(zip(drift.LEVELS, state["gates"], strict=True))
            for part, values in expected.items():
                torch.testing.assert_close(actual[part], tensor(values), **CLOSE)
        openness, rhythm = 1.0, h["rhythm"]
        if rhythm:
            openness = drift.rhythm(
                tensor(rhythm["multipliers"]), rhythm["max"], rhythm["power"], rhythm["floor"]
            )
        tokens = drift.token_weights(tensor(h["s"]), tensor(h["t"]), bonus, settings, openness)
        torch.testing.assert_close(tokens, tensor(case["expected"]["token_weight"]), **CLOSE)


# Gates, schedules and routing, where they switch


def test_antisd_s_gate_has_two_thresholds():
    advance, state, lams = advantages.entropy_gate(0.5, warmup=2, down=0.9), {}, []
    for h in (1.0, 1.0, 0.91, 0.9, 0.89, 0.95, 0.999, 1.0, 0.95, 0.5):
        entropies = torch.full((1, 1, 3), h, dtype=torch.float64)
        state = advance(state, Step(teacher_entropy=entropies, taught=torch.ones(1, 3, dtype=torch.bool)))
        lams.append(state["lam"])
    assert lams == [0, 0, 0.5, 0.5, 0, 0, 0, 0.5, 0.5, 0]


@pytest.mark.parametrize("step, lam", [(0, 0.5), (1, 0.49), (25, 0.25), (49, 0.01), (50, 0), (60, 0)])
def test_rlsd_s_share_falls_to_zero(step, lam):
    assert advantages.rlsd().advance({}, Step(step=step))["lam"] == pytest.approx(lam)


@pytest.mark.parametrize("step, beta", [(0, 0), (5, 0.5), (10, 1), (79, 1), (80, 1), (90, 0.5), (99, 0.05)])
def test_sdpg_s_trapezoid(step, beta):
    repair = routing.sdpg(beta=1.0, warmup=10, decay=20)
    assert repair.advance({}, Step(step=step, steps=100))["beta"] == pytest.approx(beta)


@pytest.mark.parametrize("step, beta", [(0, 0.8), (1, 0.4)])
def test_veto_s_share_of_the_student_falls(step, beta):
    assert targets.veto().advance({}, Step(step=step, steps=2))["beta"] == pytest.approx(beta)


@pytest.mark.parametrize("step, refine", [(0, False), (1, False), (2, True), (3, True)])
def test_reopold_changes_its_phase_half_way(step, refine):
    assert weighting.reopold().advance({}, Step(step=step, steps=4))["refine"] is refine


@pytest.mark.parametrize(
    "rule, distilled",
    [
        # groups of two: mixed, all wrong, all right
        ("paper", [0, 1, 0, 0, 0, 0]),
        ("advantage", [0, 1, 1, 1, 1, 1]),
    ],
)
def test_srpo_sends_rows_where_its_rule_says(rule, distilled):
    mask = torch.ones(6, 3, dtype=torch.bool)
    facts = Facts(
        mask=mask,
        ids=torch.zeros(6, 3, dtype=torch.long),
        old=torch.zeros(6, 3, dtype=torch.float64),
        rewards=tensor([1, 0, 0, 0, 1, 1]),
        informed=torch.ones(1, 6, dtype=torch.bool),
        num_generations=2,
        problem_ids=[""] * 6,
        uniforms=torch.zeros(6, 3),
    )
    signals = Signals(facts, Uniform(mask))
    distil, policy = routing.srpo(rule).weights(signals, {})
    assert (distil > 0).any(1).tolist() == [bool(x) for x in distilled]
    assert (policy > 0).any(1).tolist() == [not x for x in distilled]
    torch.testing.assert_close((distil + policy).sum(), tensor(1.0))
    part = signals.within([1, 2])  # a minibatch has its own denominator
    distil, policy = routing.srpo(rule).weights(part, {})
    assert not (distil + policy)[[0, 3, 4, 5]].any()
    torch.testing.assert_close((distil + policy).sum(), tensor(1.0))


class Uniform:
    """A scorer whose every distribution is uniform over five tokens."""

    def __init__(self, mask):
        self.mask = mask

    def scan(self, *sources):
        logps = torch.full((int(self.mask.sum()), 5), 0.2, dtype=torch.float64).log()
        yield list(range(len(self.mask))), [logps for _ in sources]
