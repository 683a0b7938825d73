"""The command that starts a job: `accelerate launch` with a configuration of sdlab/scale/accelerate."""

import sys
from pathlib import Path

from sdlab.errors import SdlabError
from sdlab.scale.checks import sizes
from sdlab.scale.job import Job

CONFIGURATIONS = Path(__file__).with_name("accelerate")
PORT = 29500


def launch_command(
    job: Job, job_path: str | Path, *, machine_rank: int | None = None, main_process_ip: str | None = None
) -> list[str]:
    """Return the command for this machine as a list of arguments.

    job_path is the file of the job (`write_job`). On several machines, each runs the command with its own
    rank. Without a rank or an address, the command holds the shell variables $MACHINE_RANK and
    $MAIN_PROCESS_IP.

    Raises SdlabError when processes or rows do not divide.
    """
    sizes(job)
    if job.num_processes % job.num_machines:
        raise SdlabError(
            f"num_processes={job.num_processes} (over all machines) is not a multiple of "
            f"num_machines={job.num_machines}"
        )
    if machine_rank is not None and not 0 <= machine_rank < job.num_machines:
        raise SdlabError(
            f"machine_rank={machine_rank} is not allowed; it must be 0 to {job.num_machines - 1}"
        )
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.accelerate_cli",
        "launch",
        "--config_file",
        str(CONFIGURATIONS / f"{job.accelerate}.yaml"),
    ]
    command += [
        "--num_processes",
        str(job.num_processes),
        "--num_machines",
        str(job.num_machines),
        "--mixed_precision",
        "bf16" if job.bf16 else "no",
    ]
    if job.num_machines > 1:
        command += ["--machine_rank", "$MACHINE_RANK" if machine_rank is None else str(machine_rank)]
        command += [
            "--main_process_ip",
            main_process_ip or "$MAIN_PROCESS_IP",
            "--main_process_port",
            str(PORT),
        ]
    else:
        command += ["--main_process_port", "0"]  # any free one
    return [*command, "-m", "sdlab.scale.train", str(job_path)]
