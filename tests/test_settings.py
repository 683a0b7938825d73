"""Settings: refused values, values from NumPy, and every field changes something or is refused."""

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_origin, get_type_hints

import numpy as np
import pandas
import pytest
import rollout_models as tiny
import torch

from sdlab.benchmarks.coverage import SamplingPlan, draw_plan, measure_coverage
from sdlab.commands.train import Options
from sdlab.errors import SdlabError
from sdlab.labs import leaderboard as board
from sdlab.labs.leaderboard import Budget
from sdlab.labs.sandbox.steps import Limits
from sdlab.organism import pretrain
from sdlab.organism.pretrain import PretrainConfig
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.presets import Preset, preset
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.runs import training
from sdlab.runs.training import METHODS, Plan
from sdlab.scale.data import fitting, job_problems, question_rows
from sdlab.scale.job import Job
from sdlab.scale.launch import launch_command
from sdlab.scale.recipes import Evaluation
from sdlab.scale.trl_config import lora_arguments, trl_arguments
from sdlab.settings import Range, checked
from sdlab.study.condition import Condition
from sdlab.study.conditions import groups
from sdlab.train import batch
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.train.log import TIMED
from sdlab.train.repairs.hooks import Divergence, Repair, Surrogate, TeacherRule
from sdlab.train.repairs.named import run_named
from sdlab.train.repairs.views import View
from sdlab.train.sdpo import SDPOConfig, run_sdpo
from sdlab.train.sft import SFTConfig, Trace, run_sft
from sdlab.world.knobs import Knobs
from sdlab.world.splits import load_split

ROOT = Path(__file__).parents[1]
CLASSES = {
    **METHODS,
    "plan": Plan,
    "preset": lambda **changes: replace(preset("smoke"), **changes),
    "sampling": SamplingParams,
    "pretrain": PretrainConfig,
    "job": lambda **changes: Job(
        **{"method": "grpo", "model": "m", "data": "d", "config": GRPOConfig()} | changes
    ),
    "evaluation": lambda **changes: replace(Evaluation(("math500",), 4, 0.6, 0.95, 20, 256, True), **changes),
    "sampling plan": lambda **changes: SamplingPlan(**{"steps": 2, "num_problems": 3} | changes),
    "budget": Budget,
    "limits": Limits,
    "hooks": Repair,
    "divergence": Divergence,
    "surrogate": Surrogate,
    "teacher rule": TeacherRule,
    "view": View,
}
FIELDS = [(name, field) for name, make in CLASSES.items() for field in fields(make())]
NAMES = [f"{name}.{field.name}" for name, field in FIELDS]


def kinds_of(make, name: str) -> tuple:
    """The plain types that a field may have."""
    kind = get_type_hints(type(make()))[name]
    return get_args(kind) if get_origin(kind) not in (None, tuple, Callable) else (kind,)


def bad_values(make, name: str) -> list:
    """Values that no setting of this type may have, whatever its range."""
    kinds = kinds_of(make, name)
    if int in kinds or float in kinds:
        return ["x", True, math.nan, math.inf, -math.inf, -1, -0.5, (1,), *([1.5] if int in kinds else [])]
    if str in kinds:
        return [3, True, *([] if type(None) in kinds else [None])]
    return ["no", 1, 0, None, math.nan] if bool in kinds else ["nowhere", 3]


@pytest.mark.parametrize("name, field", FIELDS, ids=NAMES)
def test_a_value_of_the_wrong_kind_is_refused_in_one_line(name, field):
    make = CLASSES[name]
    for value in bad_values(make, field.name):
        with pytest.raises(SdlabError) as caught:
            make(**{field.name: value})
        message = str(caught.value)
        assert "\n" not in message and (field.name in message or message.startswith("unknown"))


@pytest.mark.parametrize("make, words", [
    (lambda: SDPOConfig(distillation_topk=0),
     "distillation_topk=0 is not allowed; it must be a whole number of at least 1 or None"),
    (lambda: SDPOConfig(distillation_is_clip=-1),
     "distillation_is_clip=-1 is not allowed; it must be a number above 0 or None"),
    (lambda: SDPOConfig(teacher_update_rate=5),
     "teacher_update_rate=5 is not allowed; it must be a number from 0 to 1"),
    (lambda: GRPOConfig(seed="x"), "seed='x' is not allowed; it must be a whole number of at least 0"),
    (lambda: GRPOConfig(bf16="no"), "bf16='no' is not allowed; it must be True or False"),
    (lambda: GRPOConfig(steps=np.float64(3)), "steps=.*3.0.* is not allowed"),
    (lambda: GRPOConfig(aggregation="mean"),
     "unknown aggregation 'mean'; choose one of: sequence_mean, token_mean"),
    (lambda: Plan(eval_splits=("deeper", "nowhere")), "unknown split 'nowhere'"),
    (lambda: Plan(final_splits="deeper"), "final_splits='deeper'|unknown split 'deeper'"),
    (lambda: Plan(final_splits=("deeper", "kata"), final_problems=132),
     "final_problems=132 is not allowed with split 'kata'; it has 131 problems"),
    (lambda: Plan(final_splits=("kata",), final_problems=9, eval_seed=3),
     "eval_seed=3 is not allowed with split 'kata', which has the same tasks for every seed"),
    (lambda: Plan(eval_splits=("chemistry-test",), eval_problems=241), "eval_problems=241 .* it has 240"),
    (lambda: PretrainConfig(hidden_size=96), "hidden_size=96 .* multiple of 64"),
])  # fmt: skip
def test_bad_values_are_named_with_what_is_allowed(make, words):
    with pytest.raises(SdlabError, match=words):
        make()


@pytest.mark.parametrize("name, field", FIELDS, ids=NAMES)
def test_numpys_numbers_are_taken_and_can_be_written(name, field):
    make = CLASSES[name]
    value = getattr(make(), field.name)
    if isinstance(value, (bool, int, float)):
        numpys = np.asarray(value)[()]
        assert isinstance(numpys, np.generic)
        kept = getattr(make(**{field.name: numpys}), field.name)
        assert type(kept) is type(value) and kept == value and json.dumps(kept)


def test_the_arguments_of_functions_are_checked_alike():
    from typing import Annotated

    @checked
    def twice(text, count: Annotated[int, Range(1)] = 1, *, rate: float | None = None):
        return text * count

    assert twice("a", np.int64(2)) == "aa" and twice("a", rate="left alone") == "a"
    for bad in (0, True, 1.0, "2", None):
        with pytest.raises(
            SdlabError, match=f"^count={bad!r} is not allowed; it must be a whole number of at least 1"
        ):
            twice("a", bad)
    with pytest.raises(TypeError, match="unexpected"):
        twice("a", number=2)


@pytest.mark.parametrize("call", [
    lambda: training.build_traces(None, [], -1),
    lambda: training.build_traces(None, [], 4, per_problem=0),
    lambda: training.build_traces(None, [], 4, seed="x"),
    lambda: draw_plan([1], SamplingPlan(1, 1), seed=-1),
    lambda: board.hidden_problems("deeper", 0, "secret"),
    lambda: pretrain.pretrain("nowhere", save_every=0),
])  # fmt: skip
def test_functions_refuse_bad_numbers_before_they_start(call):
    with pytest.raises(SdlabError, match="is not allowed; it must be a whole number"):
        call()


# Every field is read


READ_BY_NAME = (Condition, Options, Evaluation, Limits, Preset)


@pytest.mark.parametrize("settings", READ_BY_NAME, ids=lambda one: one.__name__)
def test_every_field_is_read_somewhere(settings):
    """The least that a setting can do. Those of training are tested by what they change, below."""
    text = "\n".join(
        path.read_text(encoding="utf-8") for folder, end in (("sdlab", "py"), ("notebooks", "ipynb"))
        for path in (ROOT / folder).rglob(f"*.{end}")
    )  # fmt: skip
    unread = [field.name for field in fields(settings) if not re.search(rf"\w\.{field.name}\b", text)]
    assert not unread


# Every field of the loops' settings changes the training

P, G, T = 2, 4, 10
PROBLEMS = [replace(problem, answer=str(i)) for i, problem in enumerate(load_split("kata", limit=5))]
TRACES = [
    Trace(problem, f"<think>\nmaybe {i}.\n</think>\n\n\\boxed{{{i}}}") for i, problem in enumerate(PROBLEMS)
]
SMALL = dict(
    steps=2, num_problems=P, num_generations=G, max_completion_length=T, learning_rate=1e-2, warmup_steps=0
)
CHANGES = {  # another value of every field, and what else must be set for it to count
    "steps": {"steps": 3},
    "num_problems": {"num_problems": 3},
    "num_generations": {"num_generations": 2},
    "max_completion_length": {"max_completion_length": 6},
    "temperature": {"temperature": 0.7},
    "thinking": {"thinking": False},
    "learning_rate": {"learning_rate": 1e-3},
    "warmup_steps": {"warmup_steps": 5},
    "max_grad_norm": {"max_grad_norm": 1e-4},
    "num_minibatches": {"num_minibatches": 1},
    "batch_tokens": {"batch_tokens": 60},
    "bf16": {"bf16": True},
    "seed": {"seed": 1},
    "batch_size": {"batch_size": 3},
    "scale_rewards": {"scale_rewards": True},
    "epsilon_low": {"epsilon_low": 1e-3},
    "epsilon_high": {"epsilon_high": 1e-3},
    "aggregation": {"aggregation": "sequence_mean"},
    "context": {"context": "feedback"},
    "demonstration": {"demonstration": "random"},
    "teacher_model_kind": {"teacher_model_kind": "live"},
    "teacher_update_rate": {"teacher_update_rate": 0.9},
    "distillation_alpha": {"distillation_alpha": 0.0},
    "distillation_topk": {"distillation_topk": 3},
    "distillation_add_tail": {"distillation_add_tail": False},
    "distillation_is_clip": {"distillation_is_clip": 0.5},
    "repair": {"repair": "grpo"},
}
WITH = {
    "teacher_update_rate": {"teacher_model_kind": "ema"},
    "distillation_add_tail": {"distillation_topk": 3},
}
LOOPS = {"sft": run_sft, "grpo": run_grpo, "sdpo": run_sdpo, "repair": run_named}


@pytest.fixture(scope="module")
def start():
    """A random model of one layer whose completions end here and there."""
    tokenizer = build_tokenizer()
    shape = PretrainConfig(hidden_size=64, num_layers=1, intermediate_size=64)
    ids = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = tiny.sharpen(pretrain.build_model(shape, len(tokenizer), *ids), 2.0, 5.0)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(100, 140)]
    return model, tokenizer


@pytest.fixture(scope="module")
def outcome(start):
    """Return a training's table without the seconds, and its weights; trained once for each setting."""
    kept = {}

    def train(method: str, **changes) -> list:
        config = METHODS[method](**SMALL | ({"batch_size": 4} if method == "sft" else {}) | changes)
        if (method, config) not in kept:
            model = copy.deepcopy(start[0])
            given = (TorchEngine(model, start[1]), PROBLEMS, *([TRACES] if method == "sft" else []))
            table = LOOPS[method](*given, config)
            numbers = table[[name for name in table if name not in TIMED]].to_numpy(dtype=float)
            weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
            kept[method, config] = [numbers.tobytes(), weights.numpy().tobytes()]
        return kept[method, config]

    return train


@pytest.fixture
def graded(monkeypatch):
    """A random model is never right: here the second of four is, and every third."""
    monkeypatch.setattr(
        batch, "grade", lambda texts, truths: [float(i % 4 == 1 or i % 3 == 0) for i in range(len(texts))]
    )


@pytest.mark.parametrize(
    "method, name", [(method, field.name) for method in LOOPS for field in fields(METHODS[method])]
)
def test_every_setting_of_a_loop_changes_the_training_or_is_refused(
    method, name, outcome, graded, one_thread
):
    before = WITH.get(name, {})
    if (method, name) == ("sft", "num_minibatches"):
        with pytest.raises(
            SdlabError, match="num_minibatches=2 is not allowed; it must be 1; SFT makes one update"
        ):
            SFTConfig(num_minibatches=2)
    else:
        assert outcome(method, **before) != outcome(method, **before | CHANGES[name])


def test_what_a_teacher_never_reads_is_refused():
    for changes in (
        {"teacher_update_rate": 0.2},
        {"context": "feedback", "demonstration": "random"},
        {"distillation_topk": None, "distillation_add_tail": False},
    ):
        with pytest.raises(SdlabError, match="does nothing here; it needs"):
            SDPOConfig(**changes)
    assert SDPOConfig(teacher_update_rate=0).teacher_update_rate == 0  # which is the fixed teacher


# Every field of a plan, and of the configs in `train`, changes what is trained on or how it is judged


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Return `seen(method, config, plan)`: what `train` requests of its parts (replaced by recorders)."""

    def ask(method: str, config, plan: Plan) -> list:
        notes = []

        def loop(engine, problems, *rest):
            traces, (config, run, _) = rest[:-3], rest[-3:]
            notes.append(([(problem.id, problem.prompt) for problem in problems], traces))
            rows = run.restore({})
            for step in range(config.steps):
                run.save_step({"step": step}, [], {})
                rows.append({"step": step})
            return pandas.DataFrame(rows)

        def traces(engine, problems, count, seed, **options):
            notes.append((count, seed, options))
            return ["unguided"], ["guided"]

        def evaluate(engine, problems, params, thinking):
            graded = [(problem.id, problem.prompt, problem.answer) for problem in problems]
            notes.append((graded, params, thinking))
            columns = {name: [0] for name in training.SUMS}
            return pandas.DataFrame({"problem_id": [problems[0].id], "completion": [""], **columns})

        def counts(texts, problems):
            notes.append(([problem.id for problem in problems], "commitments"))
            return pandas.DataFrame({name: [0] for name in training.COMMITMENTS})

        def load(model, chat_template):
            notes.append(("chat template", chat_template))
            return engine

        model = SimpleNamespace(parameters=list, save_pretrained=lambda folder: None)
        engine = SimpleNamespace(model=model, tokenizer=None)
        for name, part in {
            "load_engine": load,
            "build_traces": traces,
            "evaluate": evaluate,
            "commitment_counts": counts,
        }.items():
            monkeypatch.setattr(training, name, part)
        for name in ("run_sft", "run_grpo", "run_sdpo", "run_named"):
            monkeypatch.setattr(training, name, loop)
        training.train(method, config, tmp_path / "run", plan, overwrite=True)
        return notes

    return ask


PLANS = {
    "split": {"split": "kata"},
    "num_questions": {"num_questions": 3},
    "num_types": {"num_types": 2},
    "candidates": {"candidates": "few"},
    "traces": {"traces": "guided"},
    "num_traces": {"num_traces": 5},
    "eval_splits": {"eval_splits": ("deeper",)},
    "eval_every": {"eval_every": 2},
    "eval_problems": {"eval_problems": 3},
    "final_splits": {"final_splits": ("deeper",)},
    "final_problems": {"final_problems": 3},
    "num_eval_generations": {"num_eval_generations": 2},
    "eval_seed": {"eval_seed": 3},
    "commitments": {"commitments": True},
    "chat_template": {"chat_template": "plain"},
}
TINY_PLAN = dict(eval_every=1, eval_splits=("in-domain",), eval_problems=2, final_splits=("in-domain",),
                 final_problems=2,
                 num_eval_generations=1)  # fmt: skip


OWN_PLANS = {
    "problems": {"problems": "other.jsonl"},
    "test_problems": {"test_problems": "other.jsonl"},
    "question_column": {"question_column": "text"},
    "answer_column": {"answer_column": "key"},
    "instruction": {"instruction": "Box it."},
    "system": {"system": "Be brief."},
    "few_shot": {"few_shot": "other.jsonl"},
}


@pytest.fixture
def own_problems(tmp_path, monkeypatch):
    """Two files of problems in the working folder, and the settings of a tiny plan on the first."""
    monkeypatch.chdir(tmp_path)
    for name, start in (("own.jsonl", 1), ("other.jsonl", 50)):
        rows = [
            {"question": f"{n} + 1?", "answer": n + 1, "text": f"{n} and 1?", "key": n + 2}
            for n in range(start, start + 4)
        ]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    return {name: value for name, value in TINY_PLAN.items() if "splits" not in name} | {
        "problems": "own.jsonl"
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [field.name for field in fields(Plan)])
def test_every_field_of_a_plan_changes_a_run_or_is_refused(method, name, seen, own_problems):
    config = METHODS[method](steps=100 if method == "base" else 2)
    settings = own_problems if name in OWN_PLANS else TINY_PLAN
    plan, other = Plan(**settings), Plan(**settings | (OWN_PLANS | PLANS)[name])
    if name in training.settings_of(method) or (method == "base" and name in training.EVALUATIONS):
        other = replace(other, eval_every=0) if (method, name) == ("base", "eval_every") else other
        assert seen(method, config, plan) != seen(method, config, other)
    else:
        with pytest.raises(SdlabError, match=f"^{name}=.* does nothing here"):
            seen(method, config, other)


@pytest.mark.parametrize("name", ["thinking", "max_completion_length", "seed"])
def test_sfts_traces_follow_the_config(name, seen):
    plan = Plan(**TINY_PLAN)
    one, other = (seen("sft", SFTConfig(steps=2, **changes), plan)[1] for changes in ({}, CHANGES[name]))
    assert one != other and one[2] == {"max_completion_length": 256, "thinking": True}


@pytest.mark.parametrize("name", [field.name for field in fields(METHODS["base"])])
def test_the_base_model_refuses_what_only_training_reads(name, seen):
    config, plan = METHODS["base"](**CHANGES[name]), Plan(**TINY_PLAN)
    if name in training.UNTRAINED:
        assert seen("base", config, plan) != seen("base", METHODS["base"](), plan)
    else:
        with pytest.raises(SdlabError, match=f"^{name}=.* does nothing here"):
            seen("base", config, plan)


def test_no_recorded_condition_sets_what_its_method_does_not_read():
    for group in groups().values():
        for condition in group.values():
            training.check_read(condition.method, condition.config, condition.plan)


# The other classes


@pytest.mark.parametrize("changes", [
    {"num_generations": 3}, {"max_completion_length": 5}, {"temperature": 0.5}, {"top_p": 0.3}, {"top_k": 2},
    {"seed": 1},
], ids=str)  # fmt: skip
def test_every_sampling_parameter_changes_the_completions(changes, start):
    engine = TorchEngine(*start)
    base = SamplingParams(2, 12)
    assert set(changes) < {field.name for field in fields(base)}
    one, other = (
        engine.generate(["Maybe", "so"], params).completions() for params in (base, replace(base, **changes))
    )
    assert one != other


@pytest.mark.parametrize("changes", [
    {"steps": 3}, {"num_problems": 4}, {"num_generations": 2}, {"replacement": True},
], ids=str)  # fmt: skip
def test_every_part_of_a_sampling_plan_changes_the_coverage(changes):
    problems, plan = load_split("train", limit=40), SamplingPlan(2, 12)
    assert measure_coverage(problems, plan) != measure_coverage(problems, replace(plan, **changes))


PRETRAINED = {
    "seed": 1, "steps": 7, "documents": 3, "hidden_size": 128, "num_layers": 2, "intermediate_size": 128,
    "matrix_lr": 0.01,
    "adam_lr": 1e-3, "warmup": 3, "cooldown": 0.9, "micro_tokens": 100,
    "bf16": True, "knobs": Knobs(intuition=0.4),
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(PretrainConfig)])
def test_every_setting_of_pretraining_changes_model_data_or_schedule(name):
    def look(config):
        model = pretrain.build_model(config, 40, 1, 0)
        weights = [(key, tuple(value.shape), value.sum().item()) for key, value in model.state_dict().items()]
        rates = [rate for _, rate in pretrain._optimizers(model, config)]
        schedule = [pretrain.learning_rate(step, config) for step in range(config.steps)]
        data = pretrain.Batches(build_tokenizer(), config)[1]
        loss = pretrain.batch_loss(model, [([1, 2], [3, 4, 5])], config.bf16).item()
        return weights, rates, schedule, data, loss

    config = PretrainConfig(
        steps=6, documents=2, hidden_size=64, num_layers=1, intermediate_size=64, warmup=1
    )
    assert look(config) != look(replace(config, **{name: PRETRAINED[name]}))


JOBS = {
    "method": {"method": "sdpo", "config": SDPOConfig()}, "data": {"data": "kata"},
    "config": {"config": GRPOConfig(seed=3)},
    "num_questions": {"num_questions": 3}, "max_prompt_length": {"max_prompt_length": 70},
    "max_reprompt_length": {"max_reprompt_length": 9},
    "per_device_rows": {"per_device_rows": 2}, "num_processes": {"num_processes": 4},
    "num_machines": {"num_machines": 2},
    "accelerate": {"accelerate": "zero3"}, "use_vllm": {"use_vllm": False},
    "vllm_mode": {"vllm_mode": "server"},
    "vllm_gpu_memory_utilization": {"vllm_gpu_memory_utilization": 0.5},
    "vllm_tensor_parallel_size": {"vllm_tensor_parallel_size": 2},
    "vllm_server_base_url": {"vllm_server_base_url": "http://a:1"}, "lora_rank": {"lora_rank": 4},
    "bf16": {"bf16": True},
    "gradient_checkpointing": {"gradient_checkpointing": True}, "save_steps": {"save_steps": 3},
    "output": {"output": "elsewhere"},
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Job) if field.name != "model"])
def test_every_setting_of_a_job_changes_what_is_run_or_is_refused(name, own_problems):
    """`model` alone is left out: it is what everything else is done to."""
    pytest.importorskip("datasets")
    tokenizer = build_tokenizer()

    def look(job):
        fits = fitting(job_problems(job), tokenizer, job)
        rows = question_rows(fits, job)["problem"] if job.method != "sft" else []
        ids = [(problem.id, problem.prompt, problem.answer) for problem in fits]
        return ids, rows, trl_arguments(job), lora_arguments(job), launch_command(job, "job.json")

    config = GRPOConfig(steps=2)
    job = Job("grpo", "organism", "chemistry-test", config, use_vllm=True, accelerate="ddp", num_processes=2)
    if name == "max_reprompt_length":
        job = replace(job, method="sdpo", config=SDPOConfig(steps=2))
    if name in OWN_PLANS:
        job = replace(job, data=own_problems["problems"])
    assert look(job) != look(replace(job, **(OWN_PLANS | JOBS)[name]))


@pytest.mark.parametrize("method, changes", [
    ("grpo", {"config": GRPOConfig(batch_tokens=9)}),
    ("grpo", {"config": GRPOConfig(bf16=True)}),
    ("sft", {"config": SFTConfig(temperature=0.5)}),
    ("sft", {"config": SFTConfig(num_problems=9)}),
    ("sft", {"config": SFTConfig(num_generations=3)}),
    ("sft", {"config": SFTConfig(), "num_questions": 3}),
], ids=str)  # fmt: skip
def test_a_job_refuses_what_only_the_studys_own_loops_read(method, changes):
    with pytest.raises(SdlabError, match="does nothing here|is for the study's own loops"):
        Job(method, "organism", "x", **changes)


@pytest.mark.parametrize("changes", [
    {"config": replace(Budget().config, steps=9)}, {"seeds": 2}, {"problems": 3}, {"generations": 2},
    {"timeout": 9.0}, {"memory_gb": 2.0},
    {"model": "organism-small"},
], ids=lambda changes: next(iter(changes)))  # fmt: skip
def test_every_part_of_a_budget_reaches_training_or_judging(changes, tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(board, "check_system", lambda: None)
    monkeypatch.setattr(
        board,
        "train",
        lambda work, place, task, **limits: (
            notes.append((task, limits["timeout"], limits["memory_gb"])) or ("no", None)
        ),
    )
    engine = SimpleNamespace(model=SimpleNamespace(named_parameters=list))
    monkeypatch.setattr("sdlab.rollout.loading.load_engine", lambda model: notes.append(model) or engine)
    monkeypatch.setattr("safetensors.torch.load_file", lambda path: {})

    def evaluate(engine, problems, params, thinking):
        notes.append(([problem.id for problem in problems], params))
        return pandas.DataFrame({"problem_id": ["a"], "reward": [1.0], "length": [3]})

    monkeypatch.setattr("sdlab.measure.evaluation.evaluate", evaluate)

    def look(budget):
        notes.clear()
        board.leaderboard([tmp_path / "a.py"], "secret", budget)
        board._evaluated("a", tmp_path, "secret", budget)
        return [repr(note) for note in notes]

    budget = Budget(seeds=1, problems=2, generations=1)
    assert look(budget) != look(replace(budget, **changes))
