"""Jobs that cannot run are told so before anything loads; the commands and configurations that start those
that can.
"""

import importlib.util
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.rollout.checks import is_out_of_memory
from sdlab.scale import checks
from sdlab.scale.checks import check_job, memory_advice, sizes
from sdlab.scale.job import ACCELERATE, Job, read_job, write_job
from sdlab.scale.launch import CONFIGURATIONS, launch_command
from sdlab.scale.trl_config import trl_arguments
from sdlab.train.grpo import GRPOConfig
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.sft import SFTConfig


def job(config=None, method="sdpo", **settings):
    return Job(method, "organism", "train", config or SDPOConfig(), **{"per_device_rows": 8} | settings)


def test_the_papers_batch_is_two_minibatches_of_128():
    found = sizes(job(per_device_rows=1, num_processes=4))
    assert (found.rows, found.updates, found.micro_batches, found.accumulation) == (256, 2, 64, 32)
    arguments = trl_arguments(job(per_device_rows=1, num_processes=4))
    assert (
        arguments["steps_per_generation"] == 64
        and arguments["gradient_accumulation_steps"] == 32
        and arguments["max_steps"] == 200
    )


def fits(problems, generations, updates, processes, rows) -> bool:
    """By dealing rows out one by one: every update gets whole micro-batches on every process."""
    dealt = [[0] * processes for _ in range(updates)]
    for row in range(problems * generations):
        dealt[row % updates][row // updates % processes] += 1
    counts = {count for update in dealt for count in update}
    return len(counts) == 1 and counts.pop() % rows == 0


@pytest.mark.parametrize(
    "settings",
    [(32, 8, 2, 3, 1), (32, 8, 2, 4, 24), (7, 5, 2, 1, 1), (6, 4, 1, 4, 4), (4, 4, 2, 2, 2), (5, 3, 4, 1, 1)],
)
def test_the_numbers_named_in_the_message_fit(settings):
    problems, generations, updates, processes, rows = settings
    config = SDPOConfig(num_problems=problems, num_generations=generations, num_minibatches=updates)
    one = job(config, num_processes=processes, per_device_rows=rows)
    if fits(*settings):
        assert sizes(one).rows == problems * generations
        return
    with pytest.raises(SdlabError) as told:
        sizes(one)
    message = str(told.value)
    named = [
        int(number)
        for number in message.rsplit("choose", 1)[-1]
        .rsplit("may be", 1)[-1]
        .replace("num_minibatches among", "")
        .split(",")
    ]
    assert named
    for number in named:
        if "num_minibatches among" in message:
            assert fits(problems, generations, number, 1, 1)
        elif "num_processes may be" in message:
            assert fits(problems, generations, updates, number, 1)
        else:
            assert fits(problems, generations, updates, processes, number)


def test_sft_divides_its_traces():
    assert sizes(job(SFTConfig(batch_size=64), "sft", num_processes=2)).accumulation == 4
    with pytest.raises(SdlabError, match="batch_size=64 .* 1, 2, 4, 8, 16, 32, 64"):
        sizes(job(SFTConfig(batch_size=64), "sft", num_processes=3))


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"accelerate": "fsdp2", "num_processes": 2}, "fsdp2.* needs 2 GPUs, and it has 0"),
        ({"accelerate": "zero3"}, "zero3.* needs 1 GPUs, and it has 0"),
        ({"accelerate": "single_gpu", "num_processes": 2}, "one process, not 2"),
        ({"use_vllm": True}, "GPUs only; set use_vllm=False"),
        ({"num_processes": 4, "num_machines": 3}, "not a multiple of num_machines=3"),
    ],
)
def test_what_this_machine_cannot_do(settings, told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SdlabError, match=told):
        check_job(job(**settings))


@pytest.mark.parametrize(
    "package, settings",
    [
        ("deepspeed", {"accelerate": "zero3"}),
        ("peft", {"lora_rank": 8}),
        ("vllm", {"use_vllm": True, "accelerate": "ddp"}),
        ("trl", {}),
    ],
)
def test_a_package_that_is_not_there(package, settings, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(
        checks.importlib.util,
        "find_spec",
        lambda name, *rest: (
            None if name == package else found("json") if name in checks.NEEDS else found(name, *rest)
        ),
    )
    with pytest.raises(SdlabError, match=f"package {package}, which is not installed; pip install"):
        check_job(job(**settings))


def test_an_out_of_memory_is_answered_with_what_to_lower():
    with pytest.raises(RuntimeError) as full:
        torch.empty(2**60)
    assert is_out_of_memory(full.value)
    told = memory_advice(job(accelerate="ddp", per_device_rows=8, use_vllm=True))
    assert (
        told.startswith("per_device_rows=4")
        and "gradient_checkpointing=True" in told
        and "vllm_gpu_memory_utilization below 0.3" in told
    )
    least = memory_advice(job(accelerate="cpu", per_device_rows=1, gradient_checkpointing=True, lora_rank=4))
    assert least == "max_completion_length below 256"


@pytest.mark.parametrize("name", ACCELERATE)
def test_accelerate_reads_each_configuration(name):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    config = load_config_from_file(str(CONFIGURATIONS / f"{name}.yaml"))
    kinds = {
        "cpu": "MULTI_GPU",
        "single_gpu": "NO",
        "ddp": "MULTI_GPU",
        "fsdp2": "FSDP",
        "zero3": "DEEPSPEED",
    }
    assert (
        config.distributed_type == DistributedType(kinds[name])
        and config.use_cpu == (name == "cpu")
        and config.num_processes == 1
    )


@pytest.mark.parametrize("name", ACCELERATE)
def test_accelerate_understands_the_whole_command(name, monkeypatch):
    """accelerate's own parser and checks on our arguments: it would start the number of processes asked for,
    in the wanted way.
    """
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    one = job(accelerate=name, num_processes=1 if name == "single_gpu" else 4, bf16=name != "cpu")
    command = launch_command(one, "job.json")
    parsed = launch_command_parser().parse_args(command[command.index("launch") + 1 :])
    parsed, _, _ = _validate_launch_command(parsed)
    assert (
        parsed.num_processes == one.num_processes
        and parsed.num_machines == 1
        and parsed.main_process_port == 0
    )
    assert (parsed.multi_gpu, parsed.use_fsdp, parsed.use_deepspeed) == (
        name in ("cpu", "ddp"),
        name == "fsdp2",
        name == "zero3",
    )
    assert parsed.use_cpu == (name == "cpu") and parsed.mixed_precision == ("no" if name == "cpu" else "bf16")
    assert (
        parsed.module
        and parsed.training_script == "sdlab.scale.train"
        and parsed.training_script_args == ["job.json"]
    )
    if name == "fsdp2":
        assert parsed.fsdp_version == 2 and parsed.fsdp_state_dict_type == "FULL_STATE_DICT"
    if name == "zero3":
        assert (
            parsed.zero_stage == 3
            and parsed.gradient_accumulation_steps == "auto"
            and parsed.zero3_save_16bit_model
        )


def test_the_command_for_many_machines():
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    one = job(accelerate="fsdp2", num_processes=16, num_machines=2)
    parts = launch_command(one, "job.json")
    assert "$MACHINE_RANK" in parts and "$MAIN_PROCESS_IP" in parts
    command = launch_command(one, "job.json", machine_rank=1, main_process_ip="10.0.0.1")
    parsed, _, _ = _validate_launch_command(
        launch_command_parser().parse_args(command[command.index("launch") + 1 :])
    )
    prepare_multi_gpu_env(parsed)
    assert (parsed.nnodes, parsed.nproc_per_node, parsed.node_rank, parsed.rdzv_endpoint) == (
        "2",
        "8",
        1,
        "10.0.0.1:29500",
    )
    with pytest.raises(SdlabError, match="machine_rank=2 .* 0 to 1"):
        launch_command(one, "job.json", machine_rank=2)


def test_a_job_file_is_read_as_it_was_written(tmp_path):
    one = job(
        GRPOConfig(num_problems=4, temperature=0.7),
        "grpo",
        lora_rank=8,
        vllm_server_base_url="http://node:8000",
    )
    assert read_job(write_job(one, tmp_path / "job.json")) == one


def test_a_jobs_data_type_is_the_jobs_own():
    with pytest.raises(SdlabError, match="give the job itself bf16=True"):
        job(GRPOConfig(bf16=True), "grpo")


def test_the_program_says_what_is_wrong_before_anything_loads(tmp_path):
    path = write_job(replace(job(), per_device_rows=7), tmp_path / "job.json")
    code = (
        "import sys; from sdlab.scale.train import main; status = main(sys.argv[1:]); print(sorted({'trl', "
        "'torch', 'transformers'} & set(sys.modules))); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "per_device_rows=7 does not divide the 128 rows" in done.stdout
        and "'trl'" not in done.stdout
    )
