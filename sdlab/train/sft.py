"""SFT on given traces: next-token cross-entropy on the completion (paper Section 4.1, Table 2).

It has no rollouts of its own; a small probe is sampled before every update so that its table has everybody's columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas
import torch

from sdlab.context import render_prompt
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.settings import Count, CountOrZero, Range
from sdlab.train.batch import Rows, accumulate, apply_update, draw, make_optimizer, sample_batch
from sdlab.train.config import TrainConfig
from sdlab.train.log import COLUMNS, Clock, samples, step_row
from sdlab.train.losses import token_logps
from sdlab.train.teacher import frozen_copy


@dataclass(frozen=True)
class Trace:
    """A problem and a completion to learn, thinking included."""

    problem: object
    completion: str


@dataclass(frozen=True)
class SFTConfig(TrainConfig):
    """What SFT adds to the settings every method has; num_problems and num_generations are the probe's."""

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
    engine,
    problems: Sequence,
    traces: Sequence[Trace],
    config: SFTConfig = SFTConfig(),
    run=None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place on `traces`, probed on `problems`; one row per step with the columns of `sdlab.train.log`.

    run: a run folder (`sdlab.study.runs`) that is written after every step and continued from; on_step(row) is called after
    that. Ctrl-C returns the finished steps. Raises SdlabError for bad settings and when loss or gradient is not finite.
    """
    student, base = engine.model, TorchEngine(frozen_copy(engine.model), engine.tokenizer)
    engine = engine.in_bf16(config.bf16)
    optimizer = make_optimizer(student, config)
    state = {"model": student, "optimizer": optimizer}
    table = run.restore(state) if run else []
    end = engine.tokenizer.eos_token_id
    try:
        for step in range(len(table), config.steps):
            clock = Clock()
            # 1. sample and grade the probe
            batch = sample_batch(engine, problems, config, step)
            clock.stage("sampling")
            # 2. draw the step's traces, the end-of-sequence token included
            drawn = draw(traces, config.batch_size, config.seed, step, key="traces")
            texts = engine.tokenizer([trace.completion for trace in drawn], add_special_tokens=False)[
                "input_ids"
            ]
            prompts = [
                render_prompt(engine.tokenizer, trace.problem, thinking=config.thinking) for trace in drawn
            ]
            rows = Rows(engine, prompts, [[*ids, end] for ids in texts])
            # 3. update
            tokens = sum(map(len, rows.completions))

            def loss_of(part):
                logits = rows.logits(student, part)
                ids = torch.tensor(
                    [token for i in part for token in rows.completions[i]], device=logits.device
                )
                return -token_logps(logits, ids).sum() / tokens

            loss = accumulate(student, rows.plan(range(len(drawn)), config.batch_tokens), loss_of)
            norm = apply_update(student, optimizer, config, step, loss)
            clock.stage("update")
            # 4. log
            row = step_row(
                config, step, batch, base, losses=[loss], norms=[norm], used_rows=len(drawn), clock=clock
            )
            table.append(row)
            if run:
                run.save_step(row, samples(step, batch), state)
            if on_step:
                on_step(row)
    except KeyboardInterrupt:
        pass  # what is finished is finished
    return pandas.DataFrame(table, columns=COLUMNS)
