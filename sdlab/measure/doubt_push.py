"""Does a repair's loss raise or lower the doubt? Its direction at the choice points of one batch.

A choice point is a token at which the student's next-token entropy is above half a nat. There p is the
student's distribution and M the set of markers, with probability p_M. A step against the gradient g of the
loss moves the logits by dz = -g, and to first order the probability of a marker by

    push = sum over v in M of p_v (dz_v - sum_w p_w dz_w).

The losses of different methods have different sizes, and each has a learning rate of its own. So dz is scaled
to a mean squared length of 1 over all completion tokens of the batch: methods are compared by direction.
What training makes of it also depends on the steps that follow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas
import torch

from sdlab.errors import SdlabError
from sdlab.measure.logit_change import marker_tokens
from sdlab.rollout.types import TrainableEngine
from sdlab.train.batch import Batch
from sdlab.train.config import TrainConfig
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.loop import BUDGET, tokens_of
from sdlab.train.repairs.loss import token_terms, total
from sdlab.train.repairs.scoring import Scoring, signals_of
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.teachers import RuledTeacher
from sdlab.train.repairs.weighed import check_group, weigh
from sdlab.train.session import Session
from sdlab.world.problems import Problem

CHOICE = 0.5  # nats of the student's next-token entropy
STEP = 10  # past the warm-up of the methods that have one


def doubt_push(
    engine: TrainableEngine,
    problems: Sequence[Problem],
    repairs: Mapping[str, Repair],
    config: TrainConfig = BUDGET,
    step: int = STEP,
) -> pandas.DataFrame:
    """Return the push of every repair at the choice points of one batch: one row per repair and token.

    No weights change. step: the number of the step that the repairs believe to be at; those with a state get
    there by seeing this batch `step` times. Columns: method, problem_id, row (of the batch), place (in the
    completion), completion ("right" or "wrong"), markers (p_M), push (of p_M), share (of the squared gradient
    that falls on choice points, the same in every row of a method).

    Raises SdlabError when the tokenizer has no marker that is one token, when no token is a choice point, and
    as `run_repair`.
    """
    marked = sorted({token for ids in marker_tokens(engine.tokenizer).values() for token in ids})
    if not marked:
        raise SdlabError("no marker is a single token of this model's tokenizer, so no push can be measured")
    session = Session(engine, config)  # samples and scores; it never updates
    batch, frames = session.sample(problems), []
    mask = batch.rollouts.completion_mask.bool()
    signals = signals_of(_scoring(session, batch, Repair(), 0), batch, 0)
    choices = mask & (signals.student_entropy > CHOICE)
    if not choices.any():
        raise SdlabError(f"no token has an entropy above {CHOICE} nats; sample more completions")
    for name, repair in repairs.items():
        check_group(repair, config.num_generations)
        push, markers, squares = _at_tokens(session, batch, repair, step, marked)
        size = np.sqrt(float(squares.sum()) / int(mask.sum())) or 1.0
        rows, places = (axis.tolist() for axis in choices.nonzero(as_tuple=True))
        frames.append(
            pandas.DataFrame(
                {
                    "method": name,
                    "problem_id": [batch.problems[row // config.num_generations].id for row in rows],
                    "row": rows,
                    "place": places,
                    "completion": ["right" if batch.rewards[row] >= 0.5 else "wrong" for row in rows],
                    "markers": markers[choices].numpy(),
                    "push": push[choices].numpy() / size,
                    "share": float(squares[choices].sum() / squares.sum().clamp(min=1e-30)),
                }
            )
        )
    return pandas.concat(frames, ignore_index=True)


def probability_push(logps: torch.Tensor, gradient: torch.Tensor, marked: Sequence[int]) -> torch.Tensor:
    """Return how fast the probability of the tokens `marked` changes along -gradient, (N,).

    logps (N, V): the student's log-probabilities. gradient (N, V): of the loss by the logits.
    """
    p, dz = logps.exp(), -gradient
    return (p * (dz - (p * dz).sum(-1, keepdim=True)))[:, marked].sum(-1)


def _scoring(session: Session, batch: Batch, repair: Repair, step: int) -> Scoring:
    return Scoring(session, batch, repair, RuledTeacher(session.student, repair.teacher), step)


def _state_at(repair: Repair, signals: Signals, step: int) -> dict:
    """Return the state of a repair that has seen the same signals at every step up to `step`."""
    state: dict = {}
    for number in range(step + 1):
        signals.step = number
        state = repair.advance(state, signals)
    return state


def _at_tokens(
    session: Session, batch: Batch, repair: Repair, step: int, marked: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return push, probability of the markers, and squared length of the gradient, (B, T) each."""
    scoring = _scoring(session, batch, repair, step)
    signals = signals_of(scoring, batch, step)
    state = _state_at(repair, signals, step)
    weights = weigh(repair, signals, state)
    mask = batch.rollouts.completion_mask.bool()
    push, markers, squares = (torch.zeros(mask.shape) for _ in range(3))
    everything, distils = range(len(mask)), weights.distils
    views = scoring.views[0] if scoring.views else scoring.rows
    parts = views.plan([i for i in everything if distils[i]], session.config.batch_tokens)
    parts += scoring.rows.plan([i for i in everything if not distils[i]], session.config.batch_tokens)
    for part in parts:
        with torch.no_grad():
            tokens = tokens_of(part, repair, scoring, weights, batch)
        logits = tokens.student.detach().requires_grad_()  # log-probabilities are logits, too
        student = logits.log_softmax(-1)
        terms = token_terms(repair, replace(tokens, student=student), state)
        gradient = torch.zeros_like(logits)
        if any(vars(terms)[kind] is not None for kind in ("distil", "policy", "regulariser")):
            (gradient,) = torch.autograd.grad(total(terms, tokens), logits)
        for table, values in (
            (push, probability_push(tokens.student, gradient, marked)),
            (markers, tokens.student.exp()[:, marked].sum(-1)),
            (squares, gradient.square().sum(-1)),
        ):
            rows = table[part]
            rows[mask[part]] = values.float().cpu()
            table[part] = rows
    return push, markers, squares
