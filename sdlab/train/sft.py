"""SFT on given traces: next-token cross-entropy on the completion (paper Section 4.1, Table 2).

SFT needs no rollouts. A small probe is sampled before every update so that its table has the columns of the
other methods.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas
import torch

from sdlab.rollout.types import TrainableEngine
from sdlab.settings import Count, CountOrZero, Range
from sdlab.text.prompt import render_prompt
from sdlab.train.batch import Rows, draw
from sdlab.train.config import TrainConfig
from sdlab.train.losses import all_logps
from sdlab.train.session import RunFolder, Session
from sdlab.world.problems import Problem


@dataclass(frozen=True)
class Trace:
    """A problem and a completion to learn, thinking included."""

    problem: Problem
    completion: str


@dataclass(frozen=True)
class SFTConfig(TrainConfig):
    """Settings of SFT in addition to those of every method.

    num_problems and num_generations are those of the probe.
    """

    steps: Count = 38  # three epochs of 800 traces
    batch_size: Count = 64  # traces per step
    num_problems: Count = 8
    num_minibatches: Annotated[
        int,
        Range(
            1,
            1,
            hint="SFT makes one update per step: for more updates take more steps of a smaller batch_size",
        ),
    ] = 1
    warmup_steps: CountOrZero = 5


def run_sft(
    engine: TrainableEngine,
    problems: Sequence[Problem],
    traces: Sequence[Trace],
    config: SFTConfig = SFTConfig(),
    run: RunFolder | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place on `traces` and return one row per step; `problems` are for the probe.

    The columns are those of `sdlab.train.log`. run: a run folder (`sdlab.runs.folder`); it is restored first
    and written after every step. on_step(row) is called after that. Ctrl-C returns the finished steps
    (`sdlab.train.session`).

    Raises SdlabError for bad settings, and when the loss or the gradient is not finite.
    """
    tokenizer, end = engine.tokenizer, engine.tokenizer.eos_token_id
    with Session(engine, config, run, on_step) as session:
        for step in session.steps():
            # 1. sample and grade the probe
            batch = session.sample(problems)
            # 2. draw the step's traces, the end-of-sequence token included
            drawn = draw(traces, config.batch_size, config.seed, step, key="traces")
            prompts = [render_prompt(tokenizer, trace.problem, thinking=config.thinking) for trace in drawn]
            texts = tokenizer([trace.completion for trace in drawn], add_special_tokens=False)["input_ids"]
            rows = Rows(session.engine, prompts, [[*ids, end] for ids in texts])
            tokens = sum(map(len, rows.completions))

            # 3. update: the mean cross-entropy of the traces' tokens
            def loss_of(part: list[int]) -> torch.Tensor:
                logits = rows.logits(session.student, part)
                ids = torch.tensor([token for i in part for token in rows.completions[i]])
                logps = all_logps(logits)
                session.signals.add_forks(part, logps)
                return -logps.gather(-1, ids.to(logits.device)[:, None]).squeeze(-1).sum() / tokens

            session.update((rows.plan(range(len(drawn)), config.batch_tokens), loss_of))
            # 4. log and save
            session.finish_step(batch, used_rows=len(drawn))
    return session.table
