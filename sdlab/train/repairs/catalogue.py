"""The catalogue of repairs and controls: source, claim and cost; `sdlab repairs` prints it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sdlab.train.repairs import advantages, clip, controls, rewards, routing, targets, weighting
from sdlab.train.repairs.drift import drift
from sdlab.train.repairs.hooks import Repair

GRADES = {
    "code": "the authors' code",
    "paper": "the paper's text",
    "port": "a re-implementer's code",
    "note": "second-hand notes",
    "reconstructed": "a part is filled in; see the method's description",
    "own": "of this package",
}


@dataclass(frozen=True)
class Entry:
    """A repair of the catalogue."""

    build: Callable[[], Repair]
    paper: str  # arXiv id, or where it was published
    grade: str  # see GRADES
    changes: str  # the hooks
    passes: int  # forward passes per completion and step, besides the one with a gradient
    claim: str  # of its paper
    about: str  # one line

    @property
    def description(self) -> str:
        """Return the method's docstring, with its formula."""
        method = getattr(self.build, "func", self.build)
        return method.__doc__ or ""


BASELINES = {
    "sdpo": Entry(
        lambda: clip.SDPO, "2601.20802", "code", "nothing", 1, "works on science and tools",
        "The teacher with a right sibling in its context is distilled at every token.",
    ),
    "grpo": Entry(
        advantages.grpo, "2402.03300", "code", "advantage", 0, "none",
        "Completions are reinforced by their reward, compared with their siblings.",
    ),
}  # fmt: skip

REPAIRS = {
    "opsd_clip": Entry(
        clip.opsd_clip, "2601.18734", "code", "divergence", 1, "1.7B AIME24 47.7 -> 51.7",
        "Each entry of the forward KL is clipped.",
    ),
    "opsd_sampled": Entry(
        clip.opsd_sampled, "2601.18734", "code", "advantage", 2, "none",
        "Reverse KL at the sampled tokens only.",
    ),
    "opsd_ectr": Entry(
        targets.opsd_ectr, "2606.11709", "code", "views, target, weights, divergence", 2,
        "a baseline of RLCSD", "The target is a contrast of a right and a wrong demonstration.",
    ),
    "purified_opsd": Entry(
        targets.purified_opsd, "2607.02234", "note", "views, target", 3,
        "8B, mean of its sets 61.8 -> 66.0 (OPSD 60.9)",
        "What the demonstration alone makes likely is taken away (the divergence's alpha is a guess).",
    ),
    "veto": Entry(
        targets.veto, "in FIRE", "port", "target, state", 1, "not known",
        "The target is the product of teacher and student.",
    ),
    "demopsd": Entry(
        targets.demopsd, "2607.02502", "paper", "target", 2, "SciKnowEval: above GRPO and SDPO",
        "Less of the teacher where it disagrees with the base.",
    ),
    "fire": Entry(
        targets.fire, "lee3296/FIRE", "code", "views, target, advantage, weights", 4, "not known",
        "A teacher per left-out field, and a step of bounded size.",
    ),
    "avsd": Entry(
        rewards.avsd, "2605.20643", "code", "views, advantage", 4, "not known",
        "Three views of the solution; where they disagree, their consensus.",
    ),
    "avsd_full": Entry(
        targets.avsd_full, "2605.20643", "code", "views, target", 3, "not known",
        "The same over the whole vocabulary.",
    ),
    "sd_zero": Entry(
        clip.sd_zero, "2604.12002", "reconstructed", "views, divergence", 1,
        "4B-Instruct 49.8 -> 60.3 (GRPO 53.1); hurts thinking models",
        "The teacher reads the completion and a verdict, no solution (our words for the verdict).",
    ),
    "rlsd": Entry(
        advantages.rlsd, "2604.03128", "code", "advantage, state, teacher", 2,
        "in RLCSD's runs 75.0 (GRPO 77.0)",
        "GRPO; the teacher decides how much each token counts.",
    ),
    "rlsd_ectr": Entry(
        partial(advantages.rlsd, gain="contrast"), "2606.11709", "code", "views, advantage, state, teacher",
        2, "a baseline of RLCSD", "The same with a right against a wrong demonstration.",
    ),
    "rlcsd": Entry(
        advantages.rlcsd, "2606.11709", "code", "views, advantage, weights, teacher", 5,
        "4B math 78.0 (GRPO 77.0, OPSD 77.0, SRPO 74.7, SDPO 73.7)",
        "GRPO plus a bounded contrast of one right and four wrong demonstrations.",
    ),
    "antisd": Entry(
        advantages.antisd, "2605.11609", "paper", "advantage, state", 2,
        "8B without thinking 65.7 (GRPO 57.4, self-distillation 30.6)",
        "GRPO, pushed against the teacher while the teacher is unsure enough.",
    ),
    "rlrt": Entry(
        advantages.rlrt, "2605.10781", "port", "advantage", 1, "not known",
        "RLSD with the sign turned, on right rows only (the control of the sign).",
    ),
    "distilled_rl": Entry(
        rewards.distilled_rl, "2607.17247", "code", "advantage", 1,
        "mean of ten sets: 1.7B 46.37 (RL 44.76), 4B 58.96 (57.40)",
        "GRPO; likely tokens of good completions count more.",
    ),
    "topd": Entry(
        rewards.topd, "in FIRE", "port", "advantage", 1, "not known",
        "The teacher's likelihood is the reward of each token.",
    ),
    "tropd": Entry(
        weighting.tropd, "in FIRE", "port", "advantage, weights, divergence", 1, "not known",
        "Reverse KL at trusted tokens, forward KL at others.",
    ),
    "reopold": Entry(
        weighting.reopold, "2603.11137", "reconstructed", "advantage, weights, state", 2, "not known",
        "Reverse KL with a floor, then only at unsure tokens (the moment of the change is a guess).",
    ),
    "pw_opsd": Entry(
        weighting.pw_opsd, "2605.21606", "code", "weights, divergence", 1, "4B 70.27 -> 70.66, within noise",
        "OPSD with more weight on late tokens.",
    ),
    "eopd": Entry(
        weighting.eopd, "2603.07079", "port", "advantage, weights, divergence", 2, "not known",
        "Reverse KL, and forward KL where the teacher is unsure.",
    ),
    "rosd": Entry(
        weighting.rosd, "2605.28014", "reconstructed", "views, weights", 1, "not known",
        "Wrong rows are distilled from their first error on (the problem's key finds it).",
    ),
    "iw_opd": Entry(
        rewards.iw_opd, "2606.22600", "code", "advantage", 2, "not known",
        "Reverse KL with more weight on early tokens.",
    ),
    "srpo": Entry(
        routing.srpo, "2604.02288", "paper", "advantage, weights", 1,
        "8B, five tasks without math: 77.4 (GRPO 74.0, SDPO 71.1)",
        "Wrong rows are distilled by the teacher's sureness, others learn by GRPO.",
    ),
    "srpo_rlcsd": Entry(
        partial(routing.srpo, "advantage"), "2606.11709", "code", "advantage, weights", 1,
        "in RLCSD's runs 74.7 (GRPO 77.0)", "The same; all rows with A <= 0 are distilled.",
    ),
    "sdpg": Entry(
        routing.sdpg, "2606.04036", "code", "views, advantage, weights, regulariser, state, teacher", 2,
        "4B, six sets: .380 .408 .327 .335 .858 .870",
        "GRPO plus a little KL to a teacher that sees the answer.",
    ),
    "scope": Entry(
        routing.scope, "in FIRE", "port", "advantage, weights", 1, "not known",
        "Surprising right rows, and wrong rows that the teacher finds likely.",
    ),
    "drift": Entry(
        drift, "2606.30345", "reconstructed", "advantage, weights, state", 2,
        "five tasks 79.5 (SRPO 77.4, SDPO 72.0)",
        "Rows are weighed by the problem's pass rate (our normalisation, no rhythm).",
    ),
    "choice_gate": Entry(
        weighting.choice_gate, "none", "own", "advantage, weights", 2, "none",
        "Half GRPO; SDPO only where the teacher is no surer than the student.",
    ),
}  # fmt: skip

CONTROLS = {
    "opsa": Entry(
        controls.opsa, "2608.31046", "code", "advantage, weights", 1,
        "1.7B AIME24 13.4 -> 48.9 without reward or teacher",
        "The least likely tokens are pushed down; no teacher.",
    ),
    "other_problem": Entry(
        lambda: controls.OTHER_PROBLEM, "2608.09228", "paper", "views", 1, "competitive with OPSD",
        "The teacher sees another problem and its solution.",
    ),
    "srpo_shuffled": Entry(
        lambda: controls.shuffled(routing.srpo()), "none", "own", "weights", 1, "none",
        "SRPO with its weights permuted within each row.",
    ),
    "srpo_random": Entry(
        lambda: controls.random_weights(routing.srpo()), "none", "own", "weights", 1, "none",
        "SRPO with random weights of the same mean.",
    ),
    "rlsd_shuffled": Entry(
        lambda: controls.shuffled(advantages.rlsd()), "none", "own", "advantage", 2, "none",
        "RLSD with its advantages permuted within each row.",
    ),
    "rlrt_ungated": Entry(
        partial(advantages.rlrt, right_only=False), "2605.10781", "port", "advantage", 1,
        "diverges near step 40", "RLSD with the sign turned on all rows.",
    ),
    "grpo_entropy_bonus": Entry(
        controls.grpo_entropy_bonus, "in TRL", "code", "regulariser", 0, "none",
        "GRPO with a bonus for the student's entropy.",
    ),
    "grpo_top_entropy": Entry(
        controls.grpo_top_entropy, "2506.01939", "code", "weights", 1, "none",
        "GRPO on the 20% of tokens with the highest entropy.",
    ),
    "grpo_base_kl": Entry(
        controls.grpo_base_kl, "in TRL", "code", "regulariser", 1, "none",
        "GRPO with a penalty towards the base (k3).",
    ),
    "sdpo_base_kl": Entry(
        controls.sdpo_base_kl, "none", "own", "regulariser", 2, "none",
        "SDPO with KL to the base over the whole vocabulary.",
    ),
    **{
        f"mix_{weight:g}": Entry(
            partial(controls.mix, weight), "2604.02288", "paper", "advantage, weights", 1,
            "a baseline of SRPO (at 0.1: -3.3)" if weight == 0.1 else "none",
            f"{1 - weight:g} SDPO + {weight:g} GRPO.",
        )
        for weight in (0.1, 0.5, 0.9)
    },
}  # fmt: skip

CATALOGUE = BASELINES | REPAIRS | CONTROLS
