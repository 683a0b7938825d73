"""Every row of the differences table, proved against the installed TRL: what TRL does by itself, and what the
job does.

Each `proves(...)` names the rows that its test proves, `test_every_row_is_proved` that none is left. Losses
and gradients of whole steps are compared in test_scale_agreement.py. Slow for its imports and ten small
models: about 30 s of a core.
"""

from types import SimpleNamespace

import pytest
import torch

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from trl.experimental.sdpo import SDPOConfig as TRLSDPOConfig  # noqa: E402
from trl.experimental.sdpo import SDPOTrainer  # noqa: E402
from trl.experimental.sdpo.sdpo_trainer import DistillationLogits  # noqa: E402

from sdlab import paths  # noqa: E402
from sdlab.errors import SdlabError  # noqa: E402
from sdlab.scale import job as job_module  # noqa: E402
from sdlab.scale.data import fitting, job_problems, question_rows, trace_rows  # noqa: E402
from sdlab.scale.differences import differences, render  # noqa: E402
from sdlab.scale.job import Job  # noqa: E402
from sdlab.scale.study_trainer import right_answer, spread  # noqa: E402
from sdlab.scale.train import make_trainer  # noqa: E402
from sdlab.scale.trl_config import trl_arguments  # noqa: E402
from sdlab.text.prompt import REPROMPT, SOLUTION, render_prompt, strip_thinking  # noqa: E402
from sdlab.train.batch import draw, learning_rate, minibatches  # noqa: E402
from sdlab.train.grpo import GRPOConfig  # noqa: E402
from sdlab.train.repairs.named import RepairConfig  # noqa: E402
from sdlab.train.sdpo import SDPOConfig  # noqa: E402
from sdlab.train.sft import SFTConfig, Trace  # noqa: E402
from sdlab.world.problems import Problem  # noqa: E402
from sdlab.world.splits import load_split  # noqa: E402

MODEL = str(paths.data_dir() / "organism")
G = 4
SMALL = dict(
    steps=3,
    num_problems=4,
    num_generations=G,
    max_completion_length=64,
    warmup_steps=4,
    max_grad_norm=0.5,
    temperature=0.8,
    thinking=False,
    learning_rate=3e-4,
)
PROVED: set[str] = set()


def proves(*rows):
    PROVED.update(rows)
    return lambda test: test


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("scale")


def study(tmp, method="sdpo", data="kata", settings=None, **changes):
    config = job_module.CONFIGS[method](**SMALL | (settings or {}))
    return make_trainer(
        Job(method, "organism", data, config, per_device_rows=4, output=str(tmp / "study"), **changes)
    )


def stock(tmp, method="sdpo", model=MODEL, **settings):
    """TRL's trainer with TRL's defaults, but for what a CPU needs and a small batch: 4 problems x 4
    generations in 4 micro-batches.
    """
    Config, Trainer = (TRLSDPOConfig, SDPOTrainer) if method == "sdpo" else (trl.GRPOConfig, trl.GRPOTrainer)
    args = Config(
        output_dir=str(tmp / "stock"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        num_generations=G,
        max_steps=6,
        **settings,
    )
    problems = load_split("kata", limit=16)
    rows = datasets.Dataset.from_list(
        [{"prompt": [{"role": "user", "content": p.prompt}], "answer": p.answer} for p in problems]
    )
    return Trainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(MODEL),
    )


@pytest.fixture(scope="module")
def sdpo(tmp):
    return study(tmp)


@pytest.fixture(scope="module")
def trl_sdpo(tmp):
    return stock(tmp)


@pytest.fixture(scope="module")
def grpo(tmp):
    return study(tmp, "grpo")


@pytest.fixture(scope="module")
def trl_grpo(tmp):
    return stock(tmp, "grpo")


def rows_of(method, **settings):
    config = {"sdpo": SDPOConfig, "grpo": GRPOConfig, "sft": SFTConfig}[method](**settings.pop("config", {}))
    return {
        row.what: row
        for row in differences(Job(method, "organism", "train", config, per_device_rows=1, **settings))
    }


def default(Config, name):
    return Config.__dataclass_fields__[name].default


CONFIGS = {"sdpo": TRLSDPOConfig, "grpo": trl.GRPOConfig, "sft": trl.SFTConfig}
JOBS = {
    "sdpo": Job("sdpo", "organism", "train", SDPOConfig()),
    "grpo": Job("grpo", "organism", "train", GRPOConfig()),
    "sft": Job("sft", "organism", "x", SFTConfig()),
}
BF16 = {
    name: Config(output_dir="x", use_cpu=True, report_to="none").bf16 for name, Config in CONFIGS.items()
}  # before there is a trainer: it resets accelerate


# ---- settings: the default is TRL's, the value arrives ----


@proves(
    "learning rate",
    "weight decay",
    "gradient clip",
    "gradient checkpointing",
    "number format",
    "completion limit",
    "completions cut at the limit",
    "temperature of rollouts",
)
def test_defaults_named_in_the_table_are_trls(sdpo, grpo):
    for method, Config in CONFIGS.items():
        rows = rows_of(method)
        assert float(rows["learning rate"].trl) == default(Config, "learning_rate")
        assert float(rows["gradient clip"].trl) == default(Config, "max_grad_norm")
        assert (
            float(rows["weight decay"].trl)
            == default(Config, "weight_decay")
            == trl_arguments(JOBS[method])["weight_decay"]
        )
        assert (
            rows["gradient checkpointing"].trl == "on" and default(Config, "gradient_checkpointing") is True
        )
        assert rows["number format"].trl.startswith("bfloat16") and BF16[method] is True
    for method, trainer in (("sdpo", sdpo), ("grpo", grpo)):
        rows = rows_of(method, config=SMALL)
        assert int(rows["completion limit"].trl) == default(CONFIGS[method], "max_completion_length")
        assert float(rows["temperature of rollouts"].trl) == default(CONFIGS[method], "temperature")
        assert (
            default(CONFIGS[method], "mask_truncated_completions") is False
            and trainer.mask_truncated_completions is False
        )
        assert trainer.generation_config.max_new_tokens == int(rows["completion limit"].run) == 64
        assert trainer.generation_config.temperature == float(rows["temperature of rollouts"].run) == 0.8
        assert (
            trainer.args.learning_rate == float(rows["learning rate"].run)
            and not trainer.args.bf16
            and trainer.model.dtype == torch.float32
        )
        assert not trainer.model.is_gradient_checkpointing and not trainer.args.gradient_checkpointing
        for parameter in trainer.model.parameters():
            parameter.grad = torch.full_like(parameter, 3.0)
        trainer._clip_grad_norm(trainer.model)
        assert torch.nn.utils.get_total_norm(
            [p.grad for p in trainer.model.parameters()]
        ).item() == pytest.approx(float(rows["gradient clip"].run), rel=1e-4)
    lora = Job("sdpo", "organism", "train", SDPOConfig(), lora_rank=8, bf16=True, accelerate="ddp")
    assert (
        trl_arguments(lora)["model_init_kwargs"] == {"dtype": "bfloat16"}
        and "bfloat16 weights" in {r.what: r for r in differences(lora)}["number format"].run
    )


@proves("advantages divided by", "clip range", "KL to the base model", "importance ratio", "updates per step")
def test_settings_of_the_policy_loss(grpo, trl_grpo, sdpo, trl_sdpo):
    assert trl_grpo.scale_rewards == "group" and grpo.scale_rewards == "none"
    assert (trl_grpo.epsilon_low, trl_grpo.epsilon_high) == (0.2, 0.2) and (
        grpo.epsilon_low,
        grpo.epsilon_high,
    ) == (0.2, 0.28)
    assert (
        trl_grpo.beta == grpo.beta == trl_sdpo.beta == 0.0
        and trl_grpo.ref_model is None
        and grpo.ref_model is None
    )
    assert trl_grpo.importance_sampling_level == grpo.importance_sampling_level == "token"
    for one, updates in ((trl_grpo, 1), (trl_sdpo, 1), (grpo, 2), (sdpo, 2)):
        assert (
            one.args.steps_per_generation // one.args.gradient_accumulation_steps == updates
            and one.args.generation_batch_size == 16
        )


@proves("objective", "divergence", "tokens compared", "tail bucket", "ratio to the rollout, at most")
def test_settings_of_the_distillation_loss(sdpo, trl_sdpo):
    a, b = trl_sdpo.args, sdpo.args
    assert (
        a.distillation_mode,
        a.distillation_alpha,
        a.distillation_topk,
        a.distillation_add_tail,
        a.distillation_is_clip,
    ) == ("sampled_token", 1.0, None, False, 2.0)
    assert (
        b.distillation_mode,
        b.distillation_alpha,
        b.distillation_topk,
        b.distillation_add_tail,
        b.distillation_is_clip,
    ) == ("topk_logits", 0.5, 100, True, 2.0)
    whole = trl_arguments(Job("sdpo", "organism", "train", SDPOConfig(distillation_topk=None)))
    assert whole["distillation_mode"] == "full_logits"


@proves("vLLM's probabilities")
def test_vllms_probabilities_are_compared_per_token_and_capped_at_2(sdpo):
    Config = trl.GRPOConfig
    assert (
        default(Config, "vllm_importance_sampling_mode"),
        default(Config, "vllm_importance_sampling_clip_max"),
    ) == ("sequence_mask", 3.0)
    found = trl_arguments(Job("grpo", "organism", "train", GRPOConfig(), use_vllm=True, accelerate="ddp"))
    assert (found["vllm_importance_sampling_mode"], found["vllm_importance_sampling_clip_max"]) == (
        "token_truncate",
        2.0,
    )
    assert {
        "use_vllm",
        "vllm_mode",
        "vllm_gpu_memory_utilization",
        "vllm_tensor_parallel_size",
        "vllm_max_model_length",
    } <= set(found)
    asked = SimpleNamespace(
        generate=lambda **given: (given["prompts"], [[5, 6], [7]], [[[-0.5], [None]], [[-0.25]]], None),
        sync_weights=lambda: None,
    )
    sdpo.vllm_generation, sdpo._last_loaded_step, sdpo.use_vllm = asked, 0, True
    try:
        assert sdpo._generate_vllm([[1], [2]])[1] == [[5, 6], [7]]
        old = sdpo._compute_rollout_logps()
    finally:
        sdpo.use_vllm = False
    assert old[0, 0] == -0.5 and old[0, 1].isnan() and old[1].tolist() == [-0.25, 0.0]


# ---- the optimizer ----


@proves("schedule")
def test_the_schedule_is_the_studys(sdpo, trl_sdpo):
    def rates(trainer, count=8):
        trainer.create_optimizer()
        trainer.lr_scheduler = None
        schedule = trainer.create_scheduler(6)
        found = []
        for _ in range(count):
            found.append(trainer.optimizer.param_groups[0]["lr"])
            trainer.optimizer.step()
            schedule.step()
        return found

    assert rates(sdpo) == pytest.approx([learning_rate(sdpo.job.config, update // 2) for update in range(8)])
    theirs = rates(trl_sdpo)
    assert (
        theirs[0] == 5e-5 and theirs[1] < theirs[0] and theirs[6] == 0
    )  # no warm-up, falls with every update


@proves("gradient not finite")
def test_a_gradient_that_is_not_finite_stops_the_run(sdpo, trl_sdpo):
    assert trl_sdpo.args.logging_nan_inf_filter and not sdpo.args.logging_nan_inf_filter
    for trainer in (trl_sdpo, sdpo):
        next(trainer.model.parameters()).grad = torch.full_like(
            next(trainer.model.parameters()), float("nan")
        )
    assert torch.tensor(float(trl_sdpo._clip_grad_norm(trl_sdpo.model))).isnan()
    with pytest.raises(
        SdlabError,
        match="step 0: the gradient's norm nan is not finite; train with a learning rate below 0.0003",
    ):
        sdpo._clip_grad_norm(sdpo.model)


@proves("update that teaches nothing")
def test_an_update_that_teaches_nothing_is_left_out(sdpo):
    callback = next(c for c in sdpo.callback_handler.callbacks if type(c).__name__ == "StudyCallback")
    parameter = torch.nn.Parameter(torch.ones(3))
    model, optimizer = torch.nn.ParameterList([parameter]), torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(3)
    optimizer.step()
    parameter.grad.zero_()
    before = parameter.detach().clone()
    optimizer.step()
    assert (parameter != before).all()  # what TRL does with a loss of zero
    before = parameter.detach().clone()
    sdpo.teaching, sdpo.norms = [True, False], [1.0]
    callback.on_pre_optimizer_step(None, SimpleNamespace(global_step=3), None, model=model)
    optimizer.step()
    assert (parameter == before).all() and sdpo.norms == []
    parameter.grad = torch.zeros(3)
    callback.on_pre_optimizer_step(None, SimpleNamespace(global_step=4), None, model=model)
    assert parameter.grad is not None


# ---- questions and rows ----


@proves("order of problems")
def test_questions_come_in_the_studys_order(sdpo, trl_sdpo):
    order = [place for step in range(3) for place in draw(range(len(sdpo.problems)), 4, 0, step)]
    assert sdpo.train_dataset["problem"] == order
    mine = list(sdpo._get_train_sampler())
    assert list(dict.fromkeys(mine)) == list(range(12))  # step after step
    assert list(sdpo._get_train_sampler())[: 4 * G] == [i for i in range(4) for _ in range(G)]
    theirs = list(trl_sdpo._get_train_sampler())[: 4 * G : G]
    assert theirs != sorted(theirs)


@proves("rows of a minibatch")
def test_rows_are_not_shuffled(grpo, trl_grpo):
    def batch(_):
        return {
            "completion_mask": torch.ones(16, 3, dtype=torch.long),
            "advantages": torch.arange(16.0),
            "num_items_in_batch": torch.tensor(48),
        }

    def order(trainer):
        trainer._step, trainer._buffered_inputs, trainer._generate_and_score_completions = 0, None, batch
        trainer.model.train()
        found = []
        for trainer._step in range(4):
            found += trainer._prepare_inputs([{}] * 16)["advantages"].tolist()
        return found

    torch.manual_seed(0)
    assert order(trl_grpo) != list(range(16)) and sorted(order(trl_grpo)) == list(range(16))
    assert order(grpo) == list(range(16))
    for teaches in ([True] * 3 + [False] * 5, [False] * 8, [True, False] * 4, [False] * 4 + [True] * 4):
        laid = spread(teaches, 2)
        chosen = [i for i in range(8) if teaches[i]]
        assert sorted(laid) == list(range(8))
        assert [
            [i for i in part if teaches[i]] for part in (laid[:4], laid[4:]) if any(teaches[i] for i in part)
        ] == minibatches(chosen, 2)


@proves("long prompts")
def test_long_questions_are_left_out_not_cut(tmp, sdpo, trl_sdpo, trl_grpo):
    tokenizer = sdpo.processing_class
    long = Problem("long", "x", "x", "", "number 7 is odd. " * 300, "7")
    messages = [[{"role": "user", "content": long.prompt}]]
    whole = tokenizer(render_prompt(tokenizer, long), add_special_tokens=False)["input_ids"]
    assert len(whole) > 512 and trl_sdpo._tokenize_prompts(messages)[0] == whole[-512:]
    assert (
        not hasattr(trl_grpo.args, "max_prompt_length")
        and trl_grpo._tokenize_prompts(messages)[0][0] == whole
    )
    short = load_split("kata", limit=2)
    job = Job("grpo", "organism", "kata", GRPOConfig(), max_prompt_length=512)
    assert fitting([short[0], long, short[1]], tokenizer, job) == short
    with pytest.raises(SdlabError, match="all 1 prompts are longer than max_prompt_length=512"):
        fitting([long], tokenizer, job)
    with pytest.raises(
        SdlabError, match="exceed the model's context of 256; choose max_completion_length at most"
    ):
        fitting(short, tokenizer, job, context=256)


@proves("thinking")
def test_thinking_is_switched_through_the_template(sdpo, trl_sdpo):
    problem = sdpo.problems[0]
    messages, tokenizer = [[{"role": "user", "content": problem.prompt}]], sdpo.processing_class
    ids = {
        flag: tokenizer(render_prompt(tokenizer, problem, thinking=flag), add_special_tokens=False)[
            "input_ids"
        ]
        for flag in (True, False)
    }
    assert ids[True] != ids[False]
    assert sdpo._tokenize_prompts(messages) == [ids[False]] and trl_sdpo._tokenize_prompts(messages) == [
        ids[True]
    ]


@proves("text that is graded")
def test_think_tags_that_are_special_tokens_survive():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    end = tokenizer.eos_token_id
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    ids = [
        tokenizer("<think>\nso \\boxed{3}\n</think>\n\n\\boxed{4}.", add_special_tokens=False)["input_ids"]
        + [end]
    ]
    assert (
        "think" not in tokenizer.batch_decode(ids, skip_special_tokens=True)[0]
    )  # what TRL hands to its reward functions
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdlab.scale.study_trainer.grade", lambda texts, truths: seen.extend(texts) or [1.0])
        right_answer(tokenizer)([["x"]], ids, ["4"])
    assert seen[0].startswith("<think>") and "</think>" in seen[0] and not seen[0].endswith("<|im_end|>")
    assert right_answer(tokenizer)(
        completions=[["x"]] * 2, completion_ids=ids * 2, answer=["4", "3"], other=1
    ) == [1.0, 0.0]


# ---- the teacher's prompt ----

THINKING = "<think>\nI check each number. Perhaps 3? No.\n</think>\n\nThe answer is \\boxed{4}."
OPENED = THINKING.removeprefix("<think>\n")  # a template like R1's has opened the thinking already
CUT = "I check each number."


def contexts(trainer, texts, rewards, feedback=False):
    """The teacher's prompts as texts, and the mask, of one group of G completions, by the trainer's own
    builder.
    """
    problem = load_split("kata", limit=1)[0]
    tokenizer = trainer._tokenizer
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    width = max(map(len, ids))
    trainer.model.train()
    batch = {
        "completion_ids": torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids]),
        "completion_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
        "raw_completion_lengths": torch.tensor([len(row) for row in ids]),
    }  # fmt: skip
    trainer.rows, trainer.problems = [{"problem": 0}] * len(texts), [problem]
    prompts = [[{"role": "user", "content": problem.prompt}]] * len(texts)
    built = trainer.teacher_context_builder.build(
        batch, prompts, torch.tensor(rewards), [problem.feedback] * len(texts) if feedback else None
    )
    heads, masks = built["teacher_input_ids"][:, :-width], built["teacher_attention_mask"][:, :-width].bool()
    return (
        problem,
        [tokenizer.decode(row[mask]) for row, mask in zip(heads, masks, strict=True)],
        built["self_distillation_mask"].tolist(),
    )


@pytest.fixture
def changed(sdpo):
    """The study's trainer with other settings of its config, for one test."""
    before = sdpo.job

    def change(**settings):
        sdpo.job = Job("sdpo", "organism", "kata", SDPOConfig(**SMALL | settings), per_device_rows=4)
        return sdpo

    yield change
    sdpo.job = before


@proves("teacher's prompt", "demonstration")
def test_the_teachers_prompt_is_the_studys(changed, trl_sdpo):
    texts, rewards = [CUT, THINKING, "other \\boxed{4}", CUT + "!"], [0.0, 1.0, 1.0, 0.0]
    row = rows_of("sdpo")["teacher's prompt"]
    problem, prompts, mask = contexts(changed(), texts, rewards)
    tokenizer = changed()._tokenizer
    shown = [THINKING, "other \\boxed{4}", THINKING, THINKING]  # never its own, else the first right one
    assert prompts == [render_prompt(tokenizer, problem, one, thinking=False) for one in shown] and mask == [
        1,
        1,
        1,
        1,
    ]
    assert (
        eval(row.paper) == REPROMPT.format(prompt="{prompt}", context=SOLUTION)
        and SOLUTION.format(demonstration=THINKING) in prompts[0]
    )
    _, theirs, mask = contexts(trl_sdpo, texts, rewards)
    assert (
        mask == [1, 1, 1, 1]
        and f"\nCorrect solution:\n\n{THINKING}\n\n\n\nCorrectly solve the original question.\n" in theirs[0]
    )
    drawn = {contexts(changed(demonstration="random", seed=seed), texts, rewards)[1][0] for seed in range(8)}
    assert len(drawn) == 2  # both right siblings turn up


@proves("thinking in the demonstration")
def test_thinking_is_removed_also_where_the_template_opened_it(changed, trl_sdpo):
    trl_sdpo.args.remove_thinking_from_demonstration = True
    try:
        for demonstration, kept in ((THINKING, False), (OPENED, True)):
            texts, rewards = [CUT, demonstration, CUT, CUT], [0.0, 1.0, 0.0, 0.0]
            assert ("Perhaps 3?" in contexts(trl_sdpo, texts, rewards)[1][0]) is kept
            problem, mine, _ = contexts(changed(context="solution_no_think"), texts, rewards)
            assert (
                mine[0]
                == render_prompt(trl_sdpo._tokenizer, problem, strip_thinking(demonstration), thinking=False)
                and "Perhaps 3?" not in mine[0]
            )
            assert "Perhaps 3?" in contexts(changed(), texts, rewards)[1][0]
    finally:
        trl_sdpo.args.remove_thinking_from_demonstration = False


@proves("demonstration's text")
def test_a_demonstration_keeps_think_tags_that_are_special(changed, trl_sdpo):
    texts, rewards = [CUT, THINKING, CUT, CUT], [0.0, 1.0, 0.0, 0.0]
    for trainer, kept in ((trl_sdpo, False), (changed(), True)):
        before = trainer._tokenizer
        tokenizer = AutoTokenizer.from_pretrained(MODEL)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
        trainer._tokenizer = trainer.processing_class = tokenizer
        try:
            assert ("<think>\nI check" in contexts(trainer, texts, rewards)[1][0]) is kept
        finally:
            trainer._tokenizer = trainer.processing_class = before


@proves("right is a reward of")
def test_a_reward_above_a_half_is_right(changed, trl_sdpo):
    texts = [CUT, THINKING, CUT + "!", CUT]
    assert contexts(trl_sdpo, texts, [0.0, 0.9, 0.0, 0.0])[2] == [0, 0, 0, 0]
    assert contexts(changed(), texts, [0.0, 0.9, 0.0, 0.0])[2] == [
        1,
        0,
        1,
        1,
    ]  # the only right one has no sibling
    assert contexts(changed(), texts, [0.0, 0.5, 0.0, 0.0])[2] == [0, 0, 0, 0]


@proves("feedback")
def test_feedback_is_for_wrong_completions(changed, trl_sdpo):
    texts, rewards = [CUT, THINKING, CUT, CUT + "!"], [0.0, 1.0, 0.0, 0.0]
    assert contexts(trl_sdpo, texts, [0.0] * 4, feedback=True)[2] == [0, 0, 0, 0]  # switched off
    trl_sdpo.args.include_environment_feedback = True
    try:
        problem, prompts, _ = contexts(trl_sdpo, texts, rewards, feedback=True)
        assert problem.feedback and all(
            problem.feedback in prompt for prompt in prompts
        )  # also the right one's
    finally:
        trl_sdpo.args.include_environment_feedback = False
    _, prompts, mask = contexts(changed(context="feedback"), texts, rewards)
    assert [problem.feedback in prompt for prompt in prompts] == [True, False, True, True] and mask == [
        1,
        0,
        1,
        1,
    ]
    assert not any("Correct solution" in prompt for prompt in prompts)
    _, prompts, mask = contexts(changed(context="solution_feedback"), texts, rewards)
    assert prompts[0] == render_prompt(
        trl_sdpo._tokenizer, problem, THINKING, problem.feedback, thinking=False
    ) and mask == [1, 0, 1, 1]


@proves("long teacher's prompts")
def test_a_teacher_whose_prompt_is_too_long_is_not_asked(changed, trl_sdpo):
    texts, rewards = [CUT, THINKING * 3, THINKING, CUT], [0.0, 1.0, 1.0, 0.0]
    problem, prompts, _ = contexts(trl_sdpo, texts, rewards)
    # room for the short demonstration alone
    limit = len(trl_sdpo._tokenizer(prompts[1], add_special_tokens=False)["input_ids"]) + 5
    for trainer in (trl_sdpo, changed()):
        before, trainer.args.max_reprompt_len = trainer.args.max_reprompt_len, limit
        try:
            _, prompts, mask = contexts(trainer, texts, rewards)
        finally:
            trainer.args.max_reprompt_len = before
        if trainer is trl_sdpo:
            assert (
                mask == [1, 1, 1, 1]
                and not prompts[0].startswith("<|im_start|>")
                and problem.prompt not in prompts[0]
            )
        else:
            assert (
                mask == [0, 1, 0, 0]
                and trainer.teacher_context_builder.last_metrics["self_distillation/reprompt_too_long"]
                == 0.75
            )


# ---- the teacher and the loss ----


@proves("teacher", "teacher's first weights")
def test_the_teacher(tmp, sdpo, trl_sdpo):
    def averaging(trainer):
        return [
            c for c in trainer.callback_handler.callbacks if type(c).__name__ == "SyncTeacherModelCallback"
        ]

    assert (
        trl_sdpo.args.teacher_model_kind,
        trl_sdpo.args.teacher_update_rate,
        trl_sdpo.args.teacher_sync_steps,
    ) == ("ema", 0.05, 1) and averaging(trl_sdpo)
    assert sdpo.args.teacher_model_kind == "base" and not averaging(sdpo)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            sdpo.teacher_model.parameters(),
            AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).parameters(),
            strict=True,
        )
    )
    ema = study(tmp, settings={"teacher_model_kind": "ema", "teacher_update_rate": 0.25})
    (callback,) = averaging(ema)
    with torch.no_grad():
        for parameter in ema.model.parameters():
            parameter.add_(1.0)
    first = next(ema.teacher_model.parameters()).detach().clone()
    for update in (1, 2, 3, 4):  # two updates are one step
        callback.on_step_end(ema.args, SimpleNamespace(global_step=update), None, model=ema.model)
        expected = 1 - 0.75 ** (update // 2)
        assert (next(ema.teacher_model.parameters()) - first).mean().item() == pytest.approx(
            expected, abs=1e-5
        )
    moved = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    with torch.no_grad():
        next(moved.parameters()).add_(1.0)
    loaded = stock(tmp, model=moved)
    assert not torch.equal(
        next(loaded.teacher_model.parameters()), next(moved.parameters())
    )  # TRL's teacher is not the student it was given


@proves("averaged adapter starts from")
def test_an_averaged_adapter_starts_as_the_students(tmp):
    pytest.importorskip("peft")
    from peft import get_peft_model_state_dict

    trainer = study(tmp, settings={"teacher_model_kind": "ema", "teacher_update_rate": 0.25}, lora_rank=2)
    callback = next(
        c for c in trainer.callback_handler.callbacks if type(c).__name__ == "PEFTAdapterEMACallback"
    )
    before = {name: value.clone() for name, value in get_peft_model_state_dict(trainer.model).items()}
    assert any(value.abs().sum() for value in before.values())  # one factor of a new adapter is not zero
    callback.on_train_begin(trainer.args, None, None)
    assert all(
        torch.equal(value, before[name])
        for name, value in get_peft_model_state_dict(trainer.model, adapter_name="teacher").items()
    )
    with torch.no_grad():
        for _name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    callback.on_step_end(trainer.args, SimpleNamespace(global_step=2), None)
    after = get_peft_model_state_dict(trainer.model, adapter_name="teacher")
    assert all(torch.allclose(value, before[name] + 0.25, atol=1e-6) for name, value in after.items())
    fresh = type(callback)(model=trainer.model, teacher_adapter_name="other", update_rate=0.25)
    fresh._initialize_teacher_adapter()
    assert all(not value.any() for value in fresh.shadow_weights.values())  # what TRL does by itself


@proves("mean of the loss", "process with nothing to distil")
def test_the_mean_of_the_loss(sdpo, trl_sdpo, grpo, trl_grpo):
    """Two micro-batches of two rows; lengths 3, 1, 2, 0 of which the rows 0, 2 are distilled."""
    torch.manual_seed(1)
    student, teacher = torch.randn(4, 3, 200), torch.randn(4, 3, 200)
    ids, mask, distilled = (
        torch.randint(200, (4, 3)),
        torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]]),
        torch.tensor([1.0, 0, 1, 0]),
    )
    logits = DistillationLogits(ids, mask, mask * distilled[:, None], student, teacher)
    trl_sdpo.args.distillation_mode, trl_sdpo.args.distillation_alpha = "full_logits", 0.0
    sdpo.args.distillation_mode, before = "full_logits", sdpo.args.distillation_alpha
    sdpo.args.distillation_alpha, sdpo.current_gradient_accumulation_steps = 0.0, 1
    p, q = teacher.softmax(-1), student.log_softmax(-1)
    kl = (p * (p.log() - q)).sum(-1)
    rows = [kl[0].mean(), kl[2, :2].mean()]
    gathered, gather = [], trl_sdpo.accelerator.gather
    trl_sdpo.accelerator.gather = lambda tensor: gathered.append(1) or gather(tensor)
    try:
        assert trl_sdpo._compute_self_distillation_loss(trl_sdpo.model, {}, logits).item() == pytest.approx(
            (sum(rows) / 4).item(), rel=1e-5
        )
        assert len(gathered) == 1
        empty = DistillationLogits(ids, mask, mask * 0, student, teacher)
        trl_sdpo._compute_self_distillation_loss(trl_sdpo.model, {}, empty)
        assert (
            len(gathered) == 1
        )  # a process that has nothing to distil does not take part, the others wait for it
        weights = (mask * distilled[:, None]) / 5
        total = sum(
            sdpo._compute_self_distillation_loss(
                sdpo.model, {"token_weights": weights[part]}, part_of(logits, part)
            )
            for part in (slice(0, 2), slice(2, 4))
        )
        assert total.item() == pytest.approx(((kl[0].sum() + kl[2, :2].sum()) / 5).item(), rel=1e-5)
        assert (
            sdpo._compute_self_distillation_loss(sdpo.model, {"token_weights": weights * 0}, logits) == 0
            and len(gathered) == 1
        )
    finally:
        trl_sdpo.accelerator.gather = gather
        trl_sdpo.args.distillation_mode, trl_sdpo.args.distillation_alpha = "sampled_token", 1.0
        sdpo.args.distillation_mode, sdpo.args.distillation_alpha = "topk_logits", before
    lengths = torch.arange(1, 17)
    batch = {
        "completion_mask": (torch.arange(16)[None] < lengths[:, None]).long(),
        "advantages": torch.ones(16),
        "num_items_in_batch": lengths.sum(),
    }
    parts = grpo.divide(batch)
    assert [part["num_items_in_batch"].item() / 2 for part in parts] == [
        36,
        36,
        100,
        100,
    ]  # TRL: 136 / 2 for all four
    assert sum(part["token_weights"].sum() for part in parts[:2]).item() == pytest.approx(1)


def part_of(logits, part):
    return DistillationLogits(
        logits.completion_ids[part],
        logits.completion_mask[part],
        logits.loss_mask[part],
        logits.student_logits[part],
        logits.teacher_logits[part],
    )


@proves("logits", "rollout's probabilities")
def test_logits_are_float32_and_made_a_few_rows_at_a_time(sdpo, trl_sdpo):
    ids, mask = torch.randint(5, 100, (16, 6)), torch.ones(16, 6, dtype=torch.long)
    half = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
    assert (
        trl_sdpo._forward_logits(half, ids, mask, 3).dtype == torch.bfloat16
        and sdpo._forward_logits(half, ids, mask, 3).dtype == torch.float32
    )
    found = {}
    for name, trainer in (("trl", trl_sdpo), ("study", sdpo)):
        sizes, forward = [], trainer.model.forward
        before, trainer.args.gradient_accumulation_steps = (
            trainer.args.gradient_accumulation_steps,
            3,
        )  # so that TRL keeps the old probabilities
        trainer.temperature, was = 1.0, trainer.temperature
        trainer.model.forward = lambda *args, _inner=forward, _sizes=sizes, **kwargs: (
            _sizes.append(len(kwargs["input_ids"])) or _inner(*args, **kwargs)
        )
        try:
            logps = trainer._compute_rollout_logps(
                prompt_ids=ids[:, :3],
                prompt_mask=mask[:, :3],
                completion_ids=ids[:, 3:],
                completion_mask=mask[:, 3:],
            )
        finally:
            del trainer.model.forward
            trainer.args.gradient_accumulation_steps, trainer.temperature = before, was
        found[name] = (sizes, logps)
    assert found["trl"][0] == [16] and found["study"][0] == [4, 4, 4, 4]
    assert found["study"][1].shape == (16, 3)


# ---- repairs ----


@proves("method", "what the teacher sees", "weights of tokens", "loss of a token", "state between steps")
def test_the_hooks_of_a_repair_are_in_the_places_of_trls_parts(tmp, trl_sdpo):
    """SRPO routes: wrong rows with a right sibling are distilled, right rows are reinforced."""
    trainer = study(tmp, "repair", settings={"repair": "srpo", "num_problems": 1, "num_minibatches": 1})
    texts, rewards = [CUT, THINKING, "other \\boxed{4}", CUT + "!"], [0.0, 1.0, 1.0, 0.0]
    problem, prompts, mask = contexts(trainer, texts, rewards)
    shown = [THINKING, "other \\boxed{4}", THINKING, THINKING]
    assert prompts == [render_prompt(trainer._tokenizer, problem, one, thinking=False) for one in shown]
    assert mask == [1, 1, 1, 1] and trainer.repair_state == {}
    ids = [trainer._tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    width = max(map(len, ids))
    batch = {
        "prompt_ids": torch.full((4, 2), 5), "prompt_mask": torch.ones(4, 2, dtype=torch.long),
        "completion_ids": torch.tensor([row + [0] * (width - len(row)) for row in ids]),
        "completion_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
    }  # fmt: skip
    batch["old_per_token_logps"] = trainer.student_logps(batch)
    (view,) = trainer.teacher_context_builder.views
    batch |= {"view_0_ids": view[0], "view_0_mask": view[1]}
    (part,) = trainer.divide(dict(batch))
    assert (part["distil"] > 0).any(1).tolist() == [True, False, False, True]
    assert (part["policy"] > 0).any(1).tolist() == [False, True, True, False] and trainer.teaching == [True]
    assert part["advantage"][:, 0].tolist() == [-0.5, 0.5, 0.5, -0.5]
    assert trl_sdpo.args.distillation_weight == 1.0 and "policy" not in trl_sdpo.__dict__
    with torch.no_grad():
        found = trainer.compute_loss(trainer.model, part).item()
        only = part | {"policy": part["policy"] * 0}
        assert found != trainer.compute_loss(trainer.model, only).item()
        # the ratio is 1, so the policy loss is minus the mean advantage of the reinforced tokens
        share = (part["policy"] * part["advantage"]).sum().item()
        assert found == pytest.approx(trainer.compute_loss(trainer.model, only).item() - share, rel=1e-4)


# ---- SFT ----


@proves("long traces", "tokens of a trace", "tokens with a loss", "order of traces")
def test_traces(tmp):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    problems = load_split("kata", limit=3)
    traces = [Trace(problem, THINKING * (40 if i == 0 else 1)) for i, problem in enumerate(problems)]
    config = SFTConfig(steps=2, batch_size=3)
    job = Job("sft", "organism", "x", config, per_device_rows=3, output=str(tmp / "sft"))
    rows = trace_rows(traces, tokenizer, job)
    order = [place for step in range(2) for place in draw(range(3), 3, 0, step, key="traces")]
    for row, place in zip(rows, order, strict=True):
        prompt = tokenizer(render_prompt(tokenizer, problems[place]), add_special_tokens=False)["input_ids"]
        completion = tokenizer(traces[place].completion, add_special_tokens=False)["input_ids"] + [
            tokenizer.eos_token_id
        ]
        assert row["input_ids"] == prompt + completion and row["labels"] == [-100] * len(prompt) + completion
    longest = max(map(len, rows["input_ids"]))
    assert longest > 1024
    lengths = {}
    for name, given in (
        ("stock", {"use_cpu": True, "bf16": False, "report_to": "none", "output_dir": str(tmp / "x")}),
        ("study", trl_arguments(job)),
    ):
        trainer = trl.SFTTrainer(
            model=MODEL, args=trl.SFTConfig(**given), train_dataset=rows, processing_class=tokenizer
        )
        lengths[name] = max(map(len, trainer.train_dataset["input_ids"]))
        sampler = list(trainer._get_train_sampler(trainer.train_dataset))
        assert name == "stock" or sampler == list(range(6))
        assert type(trainer._get_train_sampler(trainer.train_dataset)).__name__ == (
            "RandomSampler" if name == "stock" else "SequentialSampler"
        )
    assert lengths == {"stock": 1024, "study": longest}
    template = AutoTokenizer.from_pretrained(
        MODEL
    )  # one that drops the thinking of finished turns, as R1's does
    template.chat_template = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    messages = {
        "prompt": [{"role": "user", "content": "x"}],
        "completion": [{"role": "assistant", "content": THINKING}],
    }
    theirs = trl.SFTTrainer(
        model=MODEL,
        args=trl.SFTConfig(output_dir=str(tmp / "y"), use_cpu=True, bf16=False, report_to="none"),
        train_dataset=datasets.Dataset.from_list([messages]),
        processing_class=template,
    )
    assert (
        "Perhaps 3?" not in template.decode(theirs.train_dataset[0]["input_ids"])
        and theirs.train_dataset[0]["labels"][0] == -100
    )
    assert "Perhaps 3?" in template.decode(trace_rows(traces[1:], template, job)[0]["input_ids"])


# ---- the table ----


def test_every_row_is_proved():
    jobs = [
        Job("sft", "organism", "x", SFTConfig()),
        Job("grpo", "organism", "train", GRPOConfig()),
        Job("sdpo", "organism", "train", SDPOConfig()),
        Job("grpo", "organism", "train", GRPOConfig(), use_vllm=True, accelerate="ddp"),
        Job("repair", "organism", "train", RepairConfig(repair="srpo")),
        Job(
            "sdpo",
            "organism",
            "train",
            SDPOConfig(teacher_model_kind="ema"),
            use_vllm=True,
            accelerate="ddp",
            lora_rank=4,
        ),
    ]
    rows = {row.what for job in jobs for row in differences(job)}
    assert rows == PROVED


def test_the_table_is_printed_whole(capsys):
    rows = differences(
        Job(
            "sdpo",
            "organism",
            "train",
            SDPOConfig(context="solution_no_think", demonstration="random", distillation_topk=None),
        )
    )
    render(rows)
    shown = capsys.readouterr().out
    assert (
        all(row.what in shown for row in rows)
        and "a random right sibling" in shown
        and "whole vocabulary" in shown
    )


def test_the_data_of_a_job(tmp_path):
    job = Job("grpo", "organism", "kata", GRPOConfig(steps=2, num_problems=3, seed=5), num_questions=4)
    problems = job_problems(job)
    from sdlab.runs.questions import training_questions

    assert problems == training_questions("kata", 4, None, 5)  # the questions that `sdlab train` takes
    rows = question_rows(problems, job)
    assert [problems[i].answer for i in rows["problem"]] == rows["answer"] and len(rows) == 6
    with pytest.raises(SdlabError, match="no file .*questions.jsonl"):
        job_problems(Job("grpo", "organism", str(tmp_path / "questions.jsonl"), GRPOConfig()))
    path = tmp_path / "questions.jsonl"
    path.write_text('{"prompt": "one", "answer": "1"}\n{"prompt": "two", "answer": "2"}\n')
    assert [p.answer for p in job_problems(Job("grpo", "organism", str(path), GRPOConfig()))] == ["1", "2"]
    with pytest.raises(SdlabError, match="num_questions=3 .* has 2"):
        job_problems(Job("grpo", "organism", str(path), GRPOConfig(), num_questions=3))
