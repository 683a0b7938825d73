"""From a plan to a finished run folder: data, loop, evaluations during training and at the end."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pandas

from sdlab.errors import SdlabError, unknown
from sdlab.measure.commits import COMMITMENTS, commitment_counts
from sdlab.measure.evaluation import evaluate
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.runs.folder import Run, open_run
from sdlab.runs.loading import LoadedRun, load_run
from sdlab.runs.needs import LARGE, cautions, parameters, training_forecast
from sdlab.runs.plan import PROBLEM_SETTINGS, Plan, evaluation_problems, plan_problems
from sdlab.runs.sft_data import build_traces
from sdlab.seeds import stable_int
from sdlab.settings import unused
from sdlab.text.chat_template import template_record
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.train.repairs.named import RepairConfig, run_named
from sdlab.train.sdpo import SDPOConfig, run_sdpo
from sdlab.train.session import RunFolder
from sdlab.train.sft import SFTConfig, run_sft
from sdlab.world.problems import Problem

# "base" is not trained, only evaluated
METHODS = {
    "base": TrainConfig,
    "sft": SFTConfig,
    "grpo": GRPOConfig,
    "sdpo": SDPOConfig,
    "repair": RepairConfig,
}
SUMS = ("reward", "length", "markers", "truncated")  # of an evaluation, summed per problem
LAST_STEPS = 5  # the end of training is the mean over these steps
SFT_ONLY = ("traces", "num_traces")
# the settings that "base" reads, which is only evaluated
UNTRAINED = (
    "seed",
    "thinking",
    "max_completion_length",
    "final_splits",
    "final_problems",
    "num_eval_generations",
    "chat_template",
    "eval_seed",
    "commitments",
    *PROBLEM_SETTINGS,
)
EVALUATIONS = ("eval_every", "eval_splits", "eval_problems")  # before the first step, where "base" ends


def train(
    method: str,
    config: TrainConfig,
    folder: str | Path,
    plan: Plan = Plan(),
    *,
    model: str = "organism",
    resume: bool = True,
    overwrite: bool = False,
    tracker: str | None = None,
    save_every: int = 1,
    save_optimizer: bool | None = None,
    on_step: Callable[[dict], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> LoadedRun:
    """Train `model` by `method` (see METHODS) in a run folder, or resume the run in that folder.

    The model is evaluated after every `plan.eval_every` steps and at the end. Evaluations are keyed by (seed,
    step, split), so a resumed run ends with the same numbers. Ctrl-C returns the run with its finished steps;
    the same call continues it. save_every: steps between checkpoints. save_optimizer: whether checkpoints
    hold the optimizer, without which a run cannot resume; None: for models of up to LARGE parameters. Warns
    when a larger model trains with the organism's learning rate, or needs more memory than there is. note:
    called with a forecast of its time and memory before such a model trains.

    Raises SdlabError for bad settings, settings that `method` does not read, a file of problems that cannot
    be read, a folder with another or a finished run, and losses that are not finite.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if not isinstance(config, METHODS[method]):
        raise SdlabError(
            f"method {method!r} takes a {METHODS[method].__name__}, not a {type(config).__name__}"
        )
    check_read(method, config, plan)
    # Files first: their errors come at once, and a model may take minutes to load.
    problems = plan_problems(plan, config.seed)
    records = {"problems": plan.record(), "chat_template": template_record(plan.chat_template)}
    engine = load_engine(model, chat_template=plan.chat_template)
    for sentence in cautions(engine.model, method, config):
        warnings.warn(sentence, stacklevel=2)
    if note is not None and (forecast := training_forecast(engine, method, config, plan, problems)):
        note(forecast)
    if save_optimizer is None:
        save_optimizer = parameters(engine.model) <= LARGE
    run = open_run(
        folder,
        config,
        method=method,
        model=model,
        settings=plan,
        origin={name: record for name, record in records.items() if record},
        resume=resume,
        overwrite=overwrite,
        tracker=tracker,
        save_every=save_every,
        keep_optimizer=save_optimizer,
    )
    with run, suppress(KeyboardInterrupt):  # the folder holds every finished step
        table = run_method(
            method, engine, problems, config, plan, _Judged(engine, run, plan, config), on_step
        )
        if len(table) == (0 if method == "base" else config.steps) and not table.attrs.get("stopped"):
            judge(engine, run, plan, config, len(table), final=True)
            run.finish(engine.model, engine.tokenizer)
    return load_run(folder)


def run_method(
    method: str,
    engine: Engine,
    problems: Sequence[Problem],
    config: TrainConfig,
    plan: Plan,
    run: RunFolder | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place by `method` and return one row per step.

    SFT first samples its traces. `run` and `on_step` are as in the loops of `sdlab.train`.
    """
    arguments: tuple[Any, ...] = (engine, problems)
    if method == "sft":
        unguided, guided = build_traces(
            engine,
            problems,
            plan.num_traces,
            config.seed,
            max_completion_length=config.max_completion_length,
            thinking=config.thinking,
        )
        arguments += (unguided if plan.traces == "unguided" else guided,)
    loops: dict[str, Callable[..., pandas.DataFrame]]
    loops = {"base": _stay, "sft": run_sft, "grpo": run_grpo, "sdpo": run_sdpo, "repair": run_named}
    return loops[method](*arguments, config, run, on_step)


def settings_of(method: str) -> dict[str, object]:
    """Return the settings that change what a method does, with their types."""
    kinds = {"method": str, **get_type_hints(Plan), **get_type_hints(METHODS[method])}
    if method == "base":
        return {name: kind for name, kind in kinds.items() if name in ("method", *UNTRAINED)}
    left_out = ("num_minibatches",) if method == "sft" else SFT_ONLY
    return {name: kind for name, kind in kinds.items() if name not in left_out}


def check_read(method: str, config: TrainConfig, plan: Plan) -> None:
    """Raise SdlabError when a setting is changed that `method` does not read."""
    read = {*settings_of(method), *(EVALUATIONS if method == "base" else ())}
    for settings in (config, plan):
        for field in fields(settings):
            unused(settings, field.name, field.name in read, "another method")


def _stay(
    engine: Engine,
    problems: Sequence[Problem],
    config: TrainConfig,
    run: RunFolder,
    on_step: Callable[[dict], None] | None,
) -> pandas.DataFrame:
    """Return the rows of a run without training: the model as it is, for comparison with conditions."""
    return pandas.DataFrame(run.restore({}))


class _Judged:
    """A run that is evaluated when it is due, before the step is saved.

    So every saved step has its evaluation.
    """

    def __init__(self, engine: Engine, run: Run, plan: Plan, config: TrainConfig) -> None:
        self.engine, self.run, self.plan, self.config = engine, run, plan, config

    def restore(self, state: dict[str, Any]) -> list[dict]:
        """Restore the run, and evaluate the untrained model if there are no steps."""
        rows = self.run.restore(state)
        if self.plan.eval_every and not rows:
            judge(self.engine, self.run, self.plan, self.config, 0)
        return rows

    def save_step(self, row: dict, samples: list[dict], state: dict[str, Any]) -> None:
        """Evaluate the model if it is due, then save the step."""
        done = row["step"] + 1
        if self.plan.eval_every and done % self.plan.eval_every == 0 and done < self.config.steps:
            judge(self.engine, self.run, self.plan, self.config, done)
        self.run.save_step(row, samples, state)

    def settle(self, steps: int, state: dict[str, Any]) -> None:
        """Bring the run to the end of the first `steps` steps."""
        self.run.settle(steps, state)


def judge(engine: Engine, run: Run, plan: Plan, config: TrainConfig, step: int, final: bool = False) -> None:
    """Evaluate the model after `step` steps on fixed problems and save the sums per problem."""
    for split in plan.evaluated(final):
        run.save_evaluation(
            step,
            split,
            evaluation_sums(
                engine, split, plan.final_problems if final else plan.eval_problems, plan, config, step
            ),
        )


def evaluation_sums(
    engine: Engine, split: str, num_problems: int, plan: Plan, config: TrainConfig, step: int
) -> pandas.DataFrame:
    """Return one row per problem of a split: problem_id, generations, and the sums over them.

    The sums are of reward, length, markers and truncated; with `plan.commitments` also of the columns of
    `sdlab.measure.commits.commitment_counts`.
    """
    problems = evaluation_problems(plan, split, num_problems, config.seed)
    seed = stable_int("evaluation", config.seed, step, split)
    params = SamplingParams(plan.num_eval_generations, config.max_completion_length, 1.0, seed=seed)
    frame, columns = evaluate(engine, problems, params, thinking=config.thinking), SUMS
    if plan.commitments:
        each = [problem for problem in problems for _ in range(plan.num_eval_generations)]
        counts = commitment_counts(frame["completion"].tolist(), each)
        frame, columns = frame.join(counts), (*SUMS, *COMMITMENTS)
    groups = frame.groupby("problem_id", sort=False)
    return groups[list(columns)].sum().astype(int).assign(generations=groups.size()).reset_index()
