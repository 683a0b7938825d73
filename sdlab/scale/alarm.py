"""The alarm in TRL: a callback that warns when a run's markers fall or rise, before its score falls.

The rule and the measures are those of `sdlab.study.watch`. The callback reads the completions in the reward
function, which every TRL trainer that samples calls (GRPOTrainer, RLOOTrainer, SDPOTrainer):

    alarm = AlarmCallback()
    trainer = GRPOTrainer(model, reward_funcs=alarm.around(my_reward), callbacks=[alarm], ...)

It costs one search for ten words in every completion, and changes nothing in the training.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sdlab.errors import SdlabError
from sdlab.runs.files import read_lines
from sdlab.scale.checks import sizes
from sdlab.scale.job import Job
from sdlab.study.watch import Rule, Watch
from sdlab.text.markers import total_markers

COLUMNS = ("reward", "length", "markers", "density")  # the measures that a reward function can see


class AlarmCallback(TrainerCallback):
    """Apply a rule to the completions of every step, and write one line when a step breaks it.

    rule: a rule on one of COLUMNS. write: gets the message, on the first process only. stop: end the training
    when the rule is broken. earlier: rows of the run before this process, when it is resumed; without them a
    resumed run is compared with its first step here. updates: optimizer updates per step, if steps are not to
    be TRL's global steps.

    `rows` has one row per step with new completions: step and COLUMNS. `fired` is the step that broke the
    rule, or None.

    Raises SdlabError for a rule on another measure.
    """

    def __init__(
        self,
        rule: Rule = Rule(),
        *,
        write: Callable[[str], None] = print,
        stop: bool = False,
        earlier: Iterable[Mapping] = (),
        updates: int = 1,
    ) -> None:
        if rule.measure not in COLUMNS:
            raise SdlabError(
                f"an alarm in TRL cannot watch {rule.measure!r}; it sees {', '.join(COLUMNS)}; "
                "choose one of them"
            )
        self.write, self.stop, self.updates = write, stop, updates
        self.rows: list[dict] = []
        self.watch, self.step, self.sums = Watch(rule), None, [0.0] * 4
        for row in earlier:
            self.watch(row)

    @property
    def fired(self) -> int | None:
        """Return the step that broke the rule, or None."""
        return self.watch.fired

    def around(self, reward: Callable) -> Callable:
        """Return the reward function `reward`, watched: it gets the same arguments and returns the same."""

        @functools.wraps(reward)
        def watched(completions, completion_ids, **others):
            rewards = reward(completions=completions, completion_ids=completion_ids, **others)
            if self.step is not None:  # not in an evaluation
                known = [value for value in rewards if value is not None]
                added = (
                    sum(map(_markers, completions)), sum(map(len, completion_ids)), len(completions),
                    sum(known) / max(1, len(known)) * len(completions),
                )  # fmt: skip
                self.sums = [a + b for a, b in zip(self.sums, added, strict=True)]
            return rewards

        return watched

    def on_step_begin(
        self, args: TrainingArguments | None, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Count the completions from here on."""
        self.step, self.sums = state.global_step // self.updates, [0.0] * 4

    def on_step_end(
        self, args: TrainingArguments | None, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Apply the rule to the completions of this step, if it sampled any."""
        step, self.step = self.step, None
        markers, tokens, rows, reward = _over_processes(self.sums)
        if step is None or not rows or not tokens:
            return
        row = {
            "step": step, "reward": reward / rows, "length": tokens / rows, "markers": markers / rows,
            "density": 1000 * markers / tokens,
        }  # fmt: skip
        self.rows.append(row)
        message = self.watch(row)
        if message and state.is_world_process_zero:
            self.write(message)
        if self.fired == step and self.stop:
            control.should_training_stop = True


def with_alarm(reward: Callable, job: Job, write: Callable[[str], None] | None) -> dict:
    """Return the arguments reward_funcs and callbacks of a TRL trainer for a job, without alarm if not write.

    A resumed job is compared with the first row in its output folder.
    """
    if write is None:
        return {"reward_funcs": reward}
    rows = read_lines(Path(job.output) / "steps.jsonl")
    alarm = AlarmCallback(write=write, earlier=rows[:1], updates=sizes(job).updates)
    return {"reward_funcs": alarm.around(reward), "callbacks": [alarm]}


def _markers(completion) -> int:
    """Return the number of markers in a completion: a text, or a list of chat messages."""
    if isinstance(completion, str):
        return total_markers(completion)
    return sum(total_markers(message.get("content") or "") for message in completion)


def _over_processes(sums: list[float]) -> list[float]:
    """Return the sums over all processes of the job."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums
    from accelerate import PartialState
    from accelerate.utils import reduce

    total = reduce(torch.tensor(sums, dtype=torch.float64, device=PartialState().device), "sum")
    assert isinstance(total, torch.Tensor)  # as what was given
    return total.tolist()
