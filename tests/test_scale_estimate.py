"""Estimates: parameters and operations against transformers' own models, memory against torch's own count,
and how they must grow.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.scale.costs import (
    GIB,
    LOGIT_BYTES,
    STATE_BYTES,
    activation_bytes_per_layer,
    cache_bytes,
    forward_flops,
    has_teacher_copy,
    memory_lines,
    sampling_seconds,
    shards,
    time_lines,
    update_flops,
)
from sdlab.scale.estimate import estimate, evaluation_hours
from sdlab.scale.hardware import GPUS, SHAPES, shape_of
from sdlab.scale.job import Job
from sdlab.train.grpo import GRPOConfig
from sdlab.train.sdpo import SDPOConfig

PAPER = SDPOConfig(
    steps=100, num_problems=256, num_generations=8, max_completion_length=20480, learning_rate=1e-5
)
JOB = Job(
    "sdpo", "Qwen/Qwen3-8B", "dapo-math-17k", PAPER, num_processes=4, accelerate="fsdp2", use_vllm=True,
    vllm_gpu_memory_utilization=0.2, bf16=True, gradient_checkpointing=True,
)  # fmt: skip
LAYERS = {
    "Qwen/Qwen3-8B": "qwen3",
    "allenai/Olmo-3-7B-Instruct": "olmo3",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "qwen2",
}


def config_of(model: str):
    """transformers' configuration with the sizes of a model of the table."""
    from transformers import CONFIG_MAPPING

    family = next((family for name, family in LAYERS.items() if name == model), "qwen3")
    shape = SHAPES[model]
    names = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "tie_word_embeddings",
    )
    about = {name: getattr(shape, name) for name in names} | (
        {"head_dim": shape.head_dim} if family == "qwen3" else {}
    )
    return CONFIG_MAPPING[family](**about, pad_token_id=0)


def meta_model(config):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def count_flops(work) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_bytes(work) -> int:
    """The most memory that torch's CPU allocator held during `work`, above what was held before."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    held = most = 0
    for event in sorted(
        (event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    ):
        held += event.nbytes()
        most = max(most, held)
    return most


# Models.


@pytest.mark.parametrize("model", SHAPES)
def test_parameters_are_transformers_own(model):
    pytest.importorskip("transformers.models.olmo3" if "Olmo" in model else "transformers")
    assert shape_of(model).parameters == sum(p.numel() for p in meta_model(config_of(model)).parameters())


@pytest.mark.parametrize(
    "model, published",
    [
        ("Qwen/Qwen3-8B", 8.19e9),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.62e9),
        ("allenai/Olmo-3-7B-Instruct", 7.30e9),
        ("Qwen/Qwen3-0.6B", 0.596e9),
    ],
)
def test_parameters_are_the_published_ones(model, published):
    assert shape_of(model).parameters == pytest.approx(published, rel=2e-3)  # the model cards' figures


def test_the_organism_is_read_from_its_config_and_counted_to_the_last_parameter():
    from safetensors.torch import load_file

    stored = sum(
        tensor.numel()
        for name, tensor in load_file(paths.shipped("organism") / "model.safetensors").items()
        if name != "lm_head.weight"
    )
    assert shape_of("organism").parameters == stored
    assert shape_of("organism").head_dim == 32 and shape_of("organism").tie_word_embeddings


def test_sliding_layers_are_those_of_olmo():
    config = config_of("allenai/Olmo-3-7B-Instruct")
    shape = shape_of("allenai/Olmo-3-7B-Instruct")
    assert (
        shape.sliding_layers == config.layer_types.count("sliding_attention")
        and shape.sliding_window == config.sliding_window
    )


def test_a_folder_is_read_like_the_table(tmp_path):
    for model in LAYERS:
        config_of(model).save_pretrained(tmp_path)
        assert shape_of(str(tmp_path)) == shape_of(model)


@pytest.mark.parametrize(
    "text, told",
    [
        ("[]", "TypeError"),
        ("{", "JSONDecodeError"),
        ('{"model_type": "mamba"}', "unknown architecture 'mamba'"),
        ('{"model_type": "qwen3"}', "hidden_size"),
    ],
)
def test_unreadable_configs_are_told(tmp_path, text, told):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(SdlabError, match=told):
        shape_of(str(tmp_path))


def test_keys_and_values_are_those_of_a_real_cache():
    """A cache of transformers after one forward pass, byte by byte; the organism's cache is in float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(paths.shipped("organism"))
    cache = model(torch.ones(1, 37, dtype=torch.long), use_cache=True).past_key_values
    real = sum(tensor.numel() * 4 for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert shape_of("organism").kv_bytes(37, 4) == real
    olmo = shape_of("allenai/Olmo-3-7B-Instruct")
    assert olmo.kv_bytes(10_000) == 2 * 32 * 128 * 2 * (8 * 10_000 + 24 * 4096)


def test_lora_parameters_are_pefts_own():
    peft = pytest.importorskip("peft")
    config = config_of("Qwen/Qwen3-0.6B")
    wrapped = peft.get_peft_model(
        meta_model(config), peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    assert shape_of("Qwen/Qwen3-0.6B").lora_parameters(8) == sum(
        p.numel() for p in wrapped.parameters() if p.requires_grad
    )


# Operations.


@pytest.mark.parametrize("model", SHAPES)
def test_forward_operations_are_those_torch_counts(model):
    """On the meta device. Torch counts attention to all positions, so its attention is twice the causal one
    (and no window shows at 512).
    """
    length, shape = 512, shape_of(model)
    config = config_of(model)
    config._attn_implementation = "eager"
    network = meta_model(config)
    counted = count_flops(lambda: network(torch.ones(1, length, dtype=torch.long, device="meta")))
    pairs = length * (length + 1) / 2
    per_pair = 4 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim
    ours = forward_flops(shape, length) + per_pair * (length**2 - pairs)
    assert counted == pytest.approx(ours, rel=2e-3)


def test_backward_costs_twice_forward():
    """A whole update of the organism through transformers, counted by torch."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(paths.shipped("organism"), attn_implementation="eager")
    ids = torch.ones(1, 200, dtype=torch.long)
    forward = count_flops(lambda: model(ids))
    both = count_flops(lambda: model(ids).logits.sum().backward())
    assert both == pytest.approx(3 * forward, rel=0.02)
    job = Job("grpo", "organism", "train", GRPOConfig())
    assert list(update_flops(job, shape_of("organism"), 100)) == [
        "student: 3 x forward",
        "log-probabilities before the update",
    ]
    assert "student: 4 x forward" in update_flops(
        replace(job, gradient_checkpointing=True), shape_of("organism"), 100
    )
    assert "student: 2 x forward" in update_flops(replace(job, lora_rank=8), shape_of("organism"), 100)


def test_a_step_of_the_organism_is_the_designs_200_gflop():
    """32 x 8 completions of 100 tokens: sampling and an update on the completions alone, as sdlab's loop
    does.
    """
    shape, rows = shape_of("organism"), 256
    total = rows * (forward_flops(shape, 100) + 3 * forward_flops(shape, 100))
    assert 150e9 < total < 260e9


def test_a_window_saves_what_it_hides():
    """Pairs counted one by one."""
    olmo = shape_of("allenai/Olmo-3-7B-Instruct")
    length = 5000
    within, pairs = sum(min(i + 1, 4096) for i in range(length)), length * (length + 1) / 2
    saved = forward_flops(replace(olmo, sliding_window=None), length) - forward_flops(olmo, length)
    assert saved == pytest.approx(4 * 32 * 128 * 24 * (pairs - within), rel=1e-12)


# Memory.


def test_activations_are_what_autograd_keeps():
    """Bytes that transformers' own layers save for backward, parameters left out, per token and layer;
    float32.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(paths.shipped("organism"), attn_implementation="sdpa")
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def kept(tokens: int) -> int:
        found = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                found[storage.data_ptr()] = (
                    storage.nbytes(),
                    tensor,
                )  # the tensor stays, so that no address is used twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            states = model.model(torch.ones(1, tokens, dtype=torch.long)).last_hidden_state
        del states
        return sum(size for size, _ in found.values())

    measured = (kept(512) - kept(256)) / 256 / model.config.num_hidden_layers
    assert activation_bytes_per_layer(shape_of("organism"), 4) == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("method", ["sdpo", "grpo"])
def test_bytes_per_logit_are_what_trls_losses_hold_at_their_peak(method):
    """A bfloat16 output layer, float32 logits as accelerate makes them, temperature, TRL's loss and
    backward; by torch's own count.
    """
    pytest.importorskip("trl")
    from trl.experimental.sdpo.loss_utils import compute_topk_self_distillation_loss
    from trl.trainer.utils import selective_log_softmax

    tokens, vocab, width = 256, 8192, 32

    def logits(states, weight):
        return torch.nn.functional.linear(states, weight).float()[:, :-1][:, -tokens:] / 1.0

    def work():
        states, weight = (
            torch.randn(1, tokens + 1, width, dtype=torch.bfloat16, requires_grad=True),
            torch.randn(vocab, width, dtype=torch.bfloat16),
        )
        student = logits(states, weight)
        if method == "grpo":
            selective_log_softmax(student, torch.zeros(1, tokens, dtype=torch.long)).mean().backward()
            return
        with torch.no_grad():
            teacher = logits(states, weight)
        compute_topk_self_distillation_loss(
            student, teacher, distillation_topk=100, distillation_alpha=0.5, distillation_add_tail=True
        ).mean().backward()

    work()
    assert LOGIT_BYTES[method] == pytest.approx(peak_bytes(work) / (tokens * vocab), rel=0.1)


def test_states_of_adamw_are_those_torch_allocates():
    model = torch.nn.Linear(64, 64, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert STATE_BYTES["AdamW's two moments"] * 64 * 64 == sum(moment.nbytes for moment in moments)
    assert (
        STATE_BYTES["weights"] == model.weight.element_size()
        and STATE_BYTES["gradients"] == model.weight.grad.element_size()
    )
    assert sum(STATE_BYTES.values()) == 16  # ZeRO, Section 3.1


def test_the_papers_four_b200_hold_the_papers_job_by_hand():
    """Qwen3-8B, SDPO with a fixed teacher, sharded over four; every part once more by hand."""
    found = {line.what: line.value for line in estimate(JOB, "B200", 10_000).memory}
    n, tokens, teacher = 8_190_735_360, 2048 + 20480, 22528 + 20480
    layer = 2 * 4 * 4096 + 2 * (4 * 4096 + 3 * 4096 + 3 * 1024 + 4 * 12288)
    hand = {
        "bfloat16 working copy": 2 * 2 * 151936 * 4096,
        "weights": n,
        "gradients": n,
        "AdamW's two moments": 2 * n,
        "teacher": n,
        "activations": tokens * 36 * 4096 * 2 + teacher * layer,
        "logits and loss": 20480 * 151936 * 24,
        "vLLM (weights, keys and values)": 36 * GIB,
    }
    assert found == pytest.approx(hand)
    need = estimate(JOB, "B200", 10_000)
    assert need.fits and need.bytes == pytest.approx(sum(hand.values())) and need.bytes < 0.92 * 180 * GIB


@pytest.mark.parametrize(
    "change, part",
    [
        ({"lora_rank": 32}, "teacher"),
        ({"config": replace(PAPER, teacher_model_kind="live")}, "teacher"),
        ({"vllm_mode": "server"}, "vLLM (weights, keys and values)"),
    ],
)
def test_what_is_not_there_is_not_counted(change, part):
    def names(job):
        return [line.what for line in memory_lines(job, shape_of(job.model), GPUS["B200"])]

    assert part in names(JOB) and part not in names(replace(JOB, **change))


def test_what_does_not_fit_is_told_with_changes_that_help():
    large = replace(JOB, vllm_gpu_memory_utilization=0.3)
    need = estimate(large, "B200", 10_000)
    assert not need.fits and need.notes[0].startswith("does not fit: 178 GiB of 166 usable")
    for name, value in (("vllm_gpu_memory_utilization", 0.2), ("num_processes", 8)):
        assert f"{name}={value}" in need.notes[0] and estimate(replace(large, **{name: value}), "B200").fits
    two = estimate(replace(JOB, num_processes=8), "H100").notes[0]  # no single change is enough here
    assert "vllm_gpu_memory_utilization=0.3 and max_completion_length=5120" in two
    assert estimate(
        replace(
            JOB,
            num_processes=8,
            vllm_gpu_memory_utilization=0.3,
            config=replace(PAPER, max_completion_length=5120),
        ),
        "H100",
    ).fits
    small = estimate(replace(JOB, num_processes=1, accelerate="single_gpu"), "T4")
    assert any("no bfloat16" in note for note in small.notes) and not small.fits


def test_vllms_share_must_hold_weights_and_a_sequence():
    need = estimate(replace(JOB, vllm_gpu_memory_utilization=0.05), "B200")
    assert not need.fits and "one sequence" in need.notes[0]
    assert cache_bytes(replace(JOB, vllm_gpu_memory_utilization=0.05), shape_of(JOB.model), GPUS["B200"]) < 0


def test_rollouts_by_generate_and_the_update_take_turns():
    """Together they need what the larger of the two needs."""
    job = replace(JOB, use_vllm=False)
    parts = {line.what: line.value for line in memory_lines(job, shape_of(job.model), GPUS["B200"])}
    turns = ("activations", "logits and loss", "keys and values of rollouts")
    assert sum(parts[name] for name in turns) == pytest.approx(512 * 2 * 36 * 8 * 128 * 2 * (200 + 20480))
    short = replace(job, config=replace(PAPER, num_problems=2))
    assert {line.what: line.value for line in memory_lines(short, shape_of(job.model), GPUS["B200"])}[
        "keys and values of rollouts"
    ] == 0


# Time.


def test_sampling_time_by_hand():
    """One engine with room for everything: every step reads the weights and all keys and values, half
    written on average.
    """
    job = replace(
        JOB,
        config=replace(PAPER, num_problems=1, num_generations=4),
        num_processes=1,
        accelerate="single_gpu",
        vllm_gpu_memory_utilization=0.9,
    )
    seconds, _ = sampling_seconds(job, shape_of(job.model), GPUS["H200"], 1000)
    weights, cache = 2 * 8_190_735_360, 2 * 36 * 8 * 128 * 2 * (200 + 500)
    assert seconds == pytest.approx(
        (1000 * (weights + 4 * cache) + (20480 - 1000) * weights) / (4.8e12 * 0.6)
    )


def test_a_run_is_so_many_steps():
    need = estimate(JOB, "B200", 10_000)
    assert need.hours == pytest.approx(100 * sum(line.value for line in need.time) / 3600)
    assert estimate(replace(JOB, config=replace(PAPER, steps=50)), "B200", 10_000).hours == pytest.approx(
        need.hours / 2
    )


def test_bad_input_is_told():
    with pytest.raises(SdlabError, match="unknown GPU 'B300'.*H100"):
        estimate(JOB, "B300")
    with pytest.raises(SdlabError, match="mean_length=30000"):
        estimate(JOB, "B200", 30_000)
    with pytest.raises(SdlabError, match="size of 'Qwen/Qwen9' is not known"):
        estimate(replace(JOB, model="Qwen/Qwen9"), "B200")


JOBS = st.builds(
    lambda model, method, rows, length, problems, processes, share, checkpointing, lora, vllm, accelerate: (
        Job(
            method,
            model,
            "x",
            {"sdpo": SDPOConfig, "grpo": GRPOConfig}[method](
                max_completion_length=length, num_problems=problems
            ),
            per_device_rows=rows,
            num_processes=processes,
            accelerate=accelerate,
            use_vllm=vllm,
            vllm_gpu_memory_utilization=share,
            bf16=True,
            gradient_checkpointing=checkpointing,
            lora_rank=lora,
        )
    ),
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from(["sdpo", "grpo"]),
    st.integers(1, 8),
    st.integers(256, 20480),
    st.integers(1, 256),
    st.sampled_from([1, 2, 4, 8]),
    st.floats(0.2, 0.6),
    st.booleans(),
    st.sampled_from([None, 8, 64]),
    st.booleans(),
    st.sampled_from(["ddp", "fsdp2", "zero3"]),
)


@settings(max_examples=60, deadline=None)
@given(JOBS, st.sampled_from(sorted(GPUS)))
def test_estimates_grow_with_what_they_are_of(job, gpu):
    shape, kind = shape_of(job.model), GPUS[gpu]

    def memory(other):
        return sum(line.value for line in memory_lines(other, shape_of(other.model), kind))

    def seconds(other, mean=200):
        return sum(line.value for line in time_lines(other, shape_of(other.model), kind, mean))

    longer = replace(
        job, config=replace(job.config, max_completion_length=2 * job.config.max_completion_length)
    )
    assert memory(longer) > memory(job) and seconds(longer, 400) > seconds(job, 200)
    wider = memory(replace(job, per_device_rows=job.per_device_rows + 1))
    assert (
        wider > memory(job) if job.use_vllm else wider >= memory(job)
    )  # rollouts by `generate` may need more than any update
    assert seconds(
        replace(job, config=replace(job.config, num_problems=2 * job.config.num_problems))
    ) > seconds(job)
    if job.method == "grpo" and job.use_vllm:
        assert memory(replace(job, gradient_checkpointing=True)) < memory(
            replace(job, gradient_checkpointing=False)
        )
    if shards(job) > 1:
        assert memory(job) < memory(replace(job, accelerate="ddp"))
    if job.lora_rank is None:
        assert memory(replace(job, lora_rank=8)) < memory(job)
        assert has_teacher_copy(job) == (job.method == "sdpo")
    if (
        shape.parameters < shape_of("Qwen/Qwen3-8B").parameters
        and gpu == "B200"
        and shape.kv_bytes(1) <= shape_of("Qwen/Qwen3-8B").kv_bytes(1)
    ):
        assert seconds(job) < seconds(replace(job, model="Qwen/Qwen3-8B"))
    assert evaluation_hours(job, gpu, 1600, 200, 2048) > evaluation_hours(job, gpu, 16, 200, 2048)


def test_a_faster_gpu_is_faster():
    times = [estimate(JOB, gpu, 10_000).hours for gpu in ("B200", "H200", "A100-80")]
    assert times == sorted(times)
