"""The formulas behind an estimate: bytes per GPU and seconds per step, each line with its arithmetic.

Sources: memory of the optimizer, ZeRO (arXiv 1910.02054, Section 3.1); activations, Korthikanti et al. (arXiv
2205.05198, Section 4), adapted to RMSNorm and a gated MLP; floating-point operations, PaLM (arXiv
2204.02311, Appendix B) with causal attention; decoding limited by memory bandwidth, Pope et al. (arXiv
2211.05102, Section 2). The assumptions are the constants in capitals.
"""

from dataclasses import dataclass

from sdlab.scale.hardware import GPU, Shape
from sdlab.scale.job import Job
from sdlab.scale.repair_costs import repair_flops, repair_logit_bytes
from sdlab.scale.repair_rules import repair_of, teacher_arguments
from sdlab.train.repairs.named import RepairConfig
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.sft import SFTConfig

GIB = 2**30  # bytes
# Of the peak FLOP/s. Llama 3 405B trained at 0.38-0.43 (arXiv 2407.21783, Table 4); Hugging Face models reach
# less.
TRAIN_EFFICIENCY = 0.35
DECODE_EFFICIENCY = 0.6  # of the memory's bandwidth, by an engine such as vLLM
# Least time of a decoding step of `generate`, which launches every kernel from Python.
GENERATE_SECONDS = 0.03
STATE_BYTES = {"weights": 4, "gradients": 4, "AdamW's two moments": 8}  # per trained parameter, float32
# Peak per completion token and vocabulary entry, measured on TRL 1.16's losses (in the tests).
LOGIT_BYTES = {"sdpo": 24, "grpo": 16, "sft": 16}
MEAN_PROMPT = 200  # tokens of a mathematics question in its chat template
ANSWER_TOKENS = 600  # of a demonstration without its thinking


@dataclass(frozen=True)
class Line:
    """One part of an estimate: a number and its arithmetic."""

    what: str
    value: float  # bytes or seconds
    how: str


# Memory.


def shards(job: Job) -> int:
    """Return the number of GPUs that share one copy of the weights."""
    return job.num_processes if job.accelerate in ("fsdp2", "zero3") else 1


def has_teacher_copy(job: Job) -> bool:
    """Return whether the teacher has weights of its own.

    It has none when it is the live student, or the base model under a LoRA adapter.
    """
    config = job.config
    if isinstance(config, RepairConfig):
        kind = teacher_arguments(repair_of(config), config.num_minibatches)["teacher_model_kind"]
    else:
        kind = config.teacher_model_kind if isinstance(config, SDPOConfig) else "live"
    return kind != "live" and job.lora_rank is None


def activation_bytes_per_layer(shape: Shape, bytes_each: int = 2) -> float:
    """Return the bytes per token that one layer keeps for its backward pass.

    Without gradient checkpointing and with fused attention a layer keeps: the inputs of the two norms in
    float32 (RMSNorm computes in it); in the working precision the outputs of the norms, the two residual
    sums, queries, keys and values (before and after rotation), the output of attention, and four widths of
    the MLP (gate, its activation, up, their product).
    """
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    return 2 * 4 * shape.hidden_size + bytes_each * (
        4 * shape.hidden_size + 3 * queries + 3 * keys + 4 * shape.intermediate_size
    )


def memory_lines(job: Job, shape: Shape, gpu: GPU) -> list[Line]:
    """Return the bytes per GPU, part by part."""
    n, parts, width, config = shape.parameters, shards(job), 2 if job.bf16 else 4, job.config
    trained = n if job.lora_rank is None else shape.lora_parameters(job.lora_rank)
    over = f" / {parts} GPUs" if parts > 1 else ""
    lines = []
    if job.lora_rank:
        lines.append(
            Line("frozen weights", n * width / parts, f"{n / 1e9:.2f}e9 parameters x {width} bytes{over}")
        )
    elif job.bf16:
        unit = max(shape.layer_weights, shape.head_weights)
        copy, how = (
            (2 * 2 * unit, f"two gathered units of {unit / 1e6:.0f}e6 x 2 bytes")
            if parts > 1
            else (2 * n, f"{n / 1e9:.2f}e9 x 2 bytes")
        )
        lines.append(Line("bfloat16 working copy", copy, how))
    for name, size in STATE_BYTES.items():
        lines.append(
            Line(name, trained * size / parts, f"{trained / 1e9:.3f}e9 trained x {size} bytes{over}")
        )
    if has_teacher_copy(job):
        lines.append(Line("teacher", n * 4 / parts, f"{n / 1e9:.2f}e9 x 4 bytes{over}"))
    rows, completion = job.per_device_rows, job.config.max_completion_length
    tokens = rows * (job.max_prompt_length + completion)
    each, layers = activation_bytes_per_layer(shape, width), shape.num_hidden_layers
    if job.gradient_checkpointing:
        # The teacher's pass runs while the activations of the student are kept.
        informed = job.method == "sdpo" or (isinstance(config, RepairConfig) and repair_of(config).views)
        longest = rows * (job.max_reprompt_length + completion) if informed else tokens
        kept = tokens * layers * shape.hidden_size * width + longest * each
        how = (
            f"{tokens:,} tokens x {layers} layers x {shape.hidden_size} x {width} bytes + one layer of "
            f"{longest:,} tokens x {each / 1e3:.0f}e3 bytes"
        )
    else:
        kept, how = tokens * layers * each, f"{tokens:,} tokens x {layers} layers x {each / 1e3:.0f}e3 bytes"
    lines.append(Line("activations", kept, how))
    size = (
        repair_logit_bytes(repair_of(config)) if isinstance(config, RepairConfig) else LOGIT_BYTES[job.method]
    )
    logits = rows * completion * shape.vocab_size * size
    lines.append(
        Line(
            "logits and loss", logits, f"{rows} x {completion:,} tokens x {shape.vocab_size:,} x {size} bytes"
        )
    )
    if job.method == "sft":
        return lines
    if job.use_vllm and job.vllm_mode == "colocate":
        share = job.vllm_gpu_memory_utilization
        lines.append(
            Line(
                "vLLM (weights, keys and values)",
                share * gpu.memory * GIB,
                f"{share} x {gpu.memory} GiB, kept while training",
            )
        )
    elif not job.use_vllm:
        room = rows_per_gpu(job) * shape.kv_bytes(MEAN_PROMPT + completion, width)
        how = (
            f"{rows_per_gpu(job)} rows x {shape.kv_bytes(1, width) / 1e3:.0f}e3 bytes x "
            f"{MEAN_PROMPT + completion:,} tokens by `generate`, beyond activations and logits"
        )
        # They are freed before activations and logits are needed.
        lines.append(Line("keys and values of rollouts", max(0, room - kept - logits), how))
    return lines


def rows_per_gpu(job: Job) -> int:
    """Return the number of completions that each GPU samples in a step."""
    return -(-job.config.num_problems * job.config.num_generations // job.num_processes)


def cache_bytes(job: Job, shape: Shape, gpu: GPU) -> float:
    """Return the bytes that one vLLM engine has for keys and values.

    An engine runs on vllm_tensor_parallel_size GPUs. The value is negative when the weights do not fit.
    """
    # A server uses its GPUs alone.
    share = job.vllm_gpu_memory_utilization if job.vllm_mode == "colocate" else 0.9
    return job.vllm_tensor_parallel_size * share * gpu.memory * GIB - 2 * shape.parameters


# Time.


def forward_flops(shape: Shape, length: float, logits: float | None = None) -> float:
    """Return the FLOPs of the forward pass of one sequence of `length` tokens.

    logits: number of positions whose output distribution is computed; None: all. Two FLOPs per weight and
    token, and in every layer four per head width and pair of tokens that attend to each other: length^2 / 2
    pairs, and at most window x length in a layer with a sliding window.
    """
    pairs = length * (length + 1) / 2
    within = pairs
    if shape.sliding_window and length > shape.sliding_window:
        within = shape.sliding_window * (length - (shape.sliding_window - 1) / 2)
    full = shape.num_hidden_layers - shape.sliding_layers
    attention = (
        4 * shape.num_attention_heads * shape.head_dim * (full * pairs + shape.sliding_layers * within)
    )
    return (
        2 * shape.num_hidden_layers * shape.layer_weights * length
        + 2 * shape.head_weights * (length if logits is None else logits)
        + attention
    )


def teacher_prompt(config: SDPOConfig, mean: float) -> float:
    """Return the mean number of tokens of the teacher's prompt.

    It holds the problem and a demonstration, whole or without its thinking, or a short feedback.
    """
    whole = config.context in ("solution", "solution_feedback") or (
        config.context == "solution_no_think" and not config.thinking
    )
    return MEAN_PROMPT + (mean if whole else min(mean, ANSWER_TOKENS))


def update_flops(job: Job, shape: Shape, mean: float) -> dict[str, float]:
    """Return the FLOPs per row of an update.

    They are the passes of the student and of the teacher, and the log-probabilities before the update. The
    backward pass costs twice the forward pass, or once under LoRA (the frozen weights have no gradient).
    Checkpointing adds one forward pass.
    """
    forward = forward_flops(shape, MEAN_PROMPT + mean, mean)
    passes = (2 if job.lora_rank else 3) + job.gradient_checkpointing
    flops = {f"student: {passes} x forward": passes * forward}
    if isinstance(job.config, SDPOConfig):
        flops["teacher: forward on the informed prompt"] = forward_flops(
            shape, teacher_prompt(job.config, mean) + mean, mean
        )
    if isinstance(job.config, RepairConfig):
        informed = forward_flops(shape, MEAN_PROMPT + 2 * mean, mean)  # with a whole demonstration
        flops |= repair_flops(job.config, informed)
    # SDPO and repairs use the log-probabilities of vLLM, where vLLM samples.
    if job.method == "grpo" or (job.method in ("sdpo", "repair") and not job.use_vllm):
        flops["log-probabilities before the update"] = forward
    return flops


def sampling_seconds(job: Job, shape: Shape, gpu: GPU, mean: float) -> tuple[float, str]:
    """Return the seconds of the rollouts of a step, with their arithmetic.

    Each decoding step reads the weights once, and the keys and values of every running sequence. A running
    sequence is on average half written. Steps = rows x mean / running; at the end the longest completion runs
    alone.
    """
    config, width = job.config, 2 if job.bf16 else 4
    longest, rows = config.max_completion_length, rows_per_gpu(job)
    if not job.use_vllm:
        read = rows * shape.kv_bytes(MEAN_PROMPT + longest / 2, width) + shape.parameters * width
        compute = rows * 2 * shape.matmul_weights / (peak_tflops(job, gpu) * 1e12 * TRAIN_EFFICIENCY)
        step = max(GENERATE_SECONDS, compute, read / (gpu.bandwidth * 1e12 * DECODE_EFFICIENCY))
        return longest * step, f"{longest:,} steps (all rows wait for the longest) x {1e3 * step:.0f} ms"
    together = job.vllm_tensor_parallel_size
    context, weights = MEAN_PROMPT + mean / 2, 2 * shape.parameters
    speed = gpu.bandwidth * 1e12 * DECODE_EFFICIENCY * together
    running = max(
        1, min(rows * together, int(max(0, cache_bytes(job, shape, gpu)) / shape.kv_bytes(context)))
    )
    read = (weights + running * shape.kv_bytes(context)) / speed
    compute = (
        running * 2 * shape.matmul_weights / (peak_tflops(job, gpu) * 1e12 * TRAIN_EFFICIENCY * together)
    )
    steps, alone = rows * together * mean / running, longest - mean
    how = (
        f"{rows * together} rows x {mean:,.0f} tokens / {running} at once x {1e3 * max(read, compute):.1f} "
        f"ms + {alone:,.0f} x {1e3 * weights / speed:.1f} ms"
    )
    return steps * max(read, compute) + alone * weights / speed, how


def peak_tflops(job: Job, gpu: GPU) -> float:
    """Return the peak of the GPU at the precision that the job computes in, in 1e12 operations per second."""
    return gpu.tflops if job.bf16 else gpu.tflops_float32


def time_lines(job: Job, shape: Shape, gpu: GPU, mean: float) -> list[Line]:
    """Return the seconds per training step on all GPUs, part by part."""
    lines, config = [], job.config
    if job.method != "sft":
        lines.append(Line("sampling", *sampling_seconds(job, shape, gpu, mean)))
    rows = (
        config.batch_size if isinstance(config, SFTConfig) else config.num_problems * config.num_generations
    )
    peak = peak_tflops(job, gpu)
    speed = peak * 1e12 * TRAIN_EFFICIENCY * job.num_processes
    for what, flops in update_flops(job, shape, mean).items():
        how = (
            f"{rows:,} rows x {flops / 1e12:,.3g} TFLOP / ({job.num_processes} x {peak:g} x "
            f"{TRAIN_EFFICIENCY} TFLOP/s)"
        )
        lines.append(Line(what, rows * flops / speed, how))
    return lines
