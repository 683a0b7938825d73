"""Train a job with TRL; `accelerate launch` starts it as `python -m sdlab.scale.train JOB.json`.

The output folder of the job is a run that `sdlab.runs.loading.load_run` reads: config.json, steps.jsonl with
the columns of `sdlab.train.log`, model/ in Hugging Face format, finished.json. With LoRA, adapter/ holds the
adapter and model/ the merged model. checkpoints/ holds the state from which --resume continues.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlab.errors import SdlabError
from sdlab.files import to_json, write_atomic
from sdlab.rollout.checks import is_out_of_memory
from sdlab.scale.checks import check_job, memory_advice
from sdlab.scale.differences import differences, render
from sdlab.scale.job import Job, read_job
from sdlab.scale.repair_rules import not_resumed, repair_of
from sdlab.scale.trl_config import lora_arguments, trl_arguments, weight_dtype
from sdlab.text.templates import check_template, template_options
from sdlab.train.repairs.named import RepairConfig
from sdlab.train.sdpo import SDPOConfig

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerBase, Trainer


def train(
    job: Job, *, resume: bool = False, on_step: Callable[[dict], None] | None = None, alarm: bool = True
) -> Path:
    """Train a job in this process, one of job.num_processes that accelerate starts; return its output folder.

    on_step(row) is called on the first process after every step. alarm: print a line when the markers of the
    completions fall or rise far (`sdlab.scale.alarm`); SFT samples nothing, so it has no alarm.

    Raises SdlabError, before anything loads, for a job that cannot run. Out of memory is also an SdlabError,
    which names the settings to lower.
    """
    folder = Path(job.output)
    checkpoint = last_checkpoint(job) if resume else None
    if not resume and (folder / "steps.jsonl").exists() and (folder / "steps.jsonl").stat().st_size:
        raise SdlabError(
            f"{folder} already holds a run; choose another output, remove it, or continue it with --resume"
        )
    check_job(job)
    if resume:
        from sdlab.scale.data import check_same_problems

        check_same_problems(job)
    first = int(os.environ.get("RANK", "0")) == 0
    if first:
        render(differences(job))
    try:
        trainer = make_trainer(job, on_step=on_step, alarm=alarm)
        if first:
            write_about(job)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        save(trainer, job)
    except Exception as error:
        if is_out_of_memory(error):
            raise SdlabError(
                f"out of memory; lower what the job needs, in this order: {memory_advice(job)}"
            ) from error
        raise
    return folder


def make_trainer(job: Job, on_step: Callable[[dict], None] | None = None, alarm: bool = False) -> "Trainer":
    """Return the TRL trainer of a job, ready to train.

    on_step and alarm as in `train`.

    Raises SdlabError when the model or the data cannot be read or do not fit each other.
    """
    from transformers import PrinterCallback

    from sdlab.scale.alarm import with_alarm
    from sdlab.scale.data import fitting, job_problems, question_rows, read_traces, trace_rows
    from sdlab.scale.study_callback import StudyCallback
    from sdlab.scale.study_trainer import StudyGRPOTrainer, StudySFTTrainer, right_answer

    path, tokenizer, context = load_tokenizer(job)
    arguments = trl_arguments(job)
    if job.method != "sft":
        options = template_options(tokenizer, job.config.thinking)
        tokenizer.chat_template = options.pop("chat_template", tokenizer.chat_template)  # with a fixed date
        arguments["chat_template_kwargs"] = options
    common: dict[str, Any] = {
        "model": path,
        "processing_class": tokenizer,
        "peft_config": lora_config(job),
        "job": job,
    }
    if job.method == "sft":
        from trl.trainer.sft_config import SFTConfig

        trainer = StudySFTTrainer(
            args=SFTConfig(**arguments),
            train_dataset=trace_rows(read_traces(job.data), tokenizer, job),
            **common,
        )
    else:
        all_problems = job_problems(job)
        problems = fitting(all_problems, tokenizer, job, context)
        if len(problems) < len(all_problems):
            print_once(
                f"left out {len(all_problems) - len(problems)} of {len(all_problems)} problems, "
                f"whose prompts are longer than {job.max_prompt_length} tokens"
            )
        common |= {"problems": problems, "train_dataset": question_rows(problems, job)}
        common |= with_alarm(right_answer(tokenizer), job, print_once if alarm else None)
        if job.method == "grpo":
            from trl.trainer.grpo_config import GRPOConfig

            trainer = StudyGRPOTrainer(args=GRPOConfig(**arguments), **common)
        else:
            from trl.experimental.sdpo import SDPOConfig as TRLSDPOConfig

            from sdlab.scale.repair_trainer import StudyRepairTrainer
            from sdlab.scale.sdpo_trainer import StudySDPOTrainer

            common["args"] = TRLSDPOConfig(**arguments)
            trainer = (
                StudyRepairTrainer(repair=repair_of(job.config), **common)
                if isinstance(job.config, RepairConfig)
                else StudySDPOTrainer(**common)
            )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StudyCallback(trainer, Path(job.output) / "steps.jsonl", on_step))
    return trainer


def load_tokenizer(job: Job) -> "tuple[str, PreTrainedTokenizerBase, int | None]":
    """Return (folder or hub name, tokenizer, context length or None) of the model that a job trains.

    TRL reads the model itself, and reads the teacher again.

    Raises SdlabError when the model is missing or damaged, when the hub cannot be reached, and when the chat
    template does not support config.thinking.
    """
    from transformers import AutoConfig, AutoTokenizer

    from sdlab.rollout.loading import explain_load_errors, reachable_model

    path = str(reachable_model(job.model))
    with explain_load_errors(job.model):
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, padding_side="left", truncation_side="left"
        )
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    check_template(tokenizer, job.config.thinking)
    return path, tokenizer, getattr(config.get_text_config(), "max_position_embeddings", None)


def lora_config(job: Job) -> "LoraConfig | None":
    """Return peft's configuration for a job with lora_rank, else None."""
    arguments = lora_arguments(job)
    if arguments is None:
        return None
    from peft import LoraConfig

    return LoraConfig(**arguments)


def write_about(job: Job) -> None:
    """Write the run's config.json: method, settings, model and data."""
    from sdlab.provenance import provenance
    from sdlab.scale.data import job_record

    about = asdict(job)
    config = about.pop("config")
    record = {
        "method": job.method,
        "model": job.model,
        "config": config,
        "settings": about,
        "provenance": provenance(job.model, job.config.seed, **versions(), problems=job_record(job)),
    }
    write_atomic(Path(job.output) / "config.json", to_json(record, indent=1) + "\n")


def versions() -> dict[str, str]:
    """Return the versions of the installed training libraries."""
    from importlib.metadata import PackageNotFoundError, version

    installed = {}
    for name in ("trl", "accelerate", "datasets", "peft", "deepspeed", "vllm"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def save(trainer: "Trainer", job: Job) -> None:
    """Save the whole trained model in output/model, where `load_engine` reads it.

    Every process takes part.
    """
    folder = Path(job.output)
    trainer.save_model(str(folder / ("adapter" if job.lora_rank else "model")))
    trainer.accelerator.wait_for_everyone()
    if not trainer.accelerator.is_main_process:
        return
    if job.lora_rank:
        merge(job)
    write_atomic(folder / "finished.json", to_json({"steps": job.config.steps}) + "\n")


def merge(job: Job) -> None:
    """Write output/model: the base model with output/adapter added to its weights."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sdlab.rollout.loading import find_model

    folder, path = Path(job.output), find_model(job.model)
    base = AutoModelForCausalLM.from_pretrained(path, dtype=weight_dtype(job), trust_remote_code=False)
    PeftModel.from_pretrained(base, str(folder / "adapter")).merge_and_unload().save_pretrained(
        folder / "model"
    )
    AutoTokenizer.from_pretrained(path, trust_remote_code=False).save_pretrained(folder / "model")


def last_checkpoint(job: Job) -> Path | None:
    """Return the newest complete checkpoint of a job, or None.

    Raises SdlabError where continuing from it would not be the same run.
    """
    if isinstance(job.config, SDPOConfig) and job.config.teacher_model_kind == "ema":
        raise SdlabError(
            'a run with teacher_model_kind="ema" cannot be resumed: TRL does not save the averaged teacher; '
            "start it again without --resume"
        )
    if isinstance(job.config, RepairConfig) and (lost := not_resumed(repair_of(job.config))):
        raise SdlabError(
            f"a run of repair {job.config.repair!r} cannot be resumed: TRL does not save {lost}; "
            "start it again without --resume"
        )
    # trainer_state.json is written last: a checkpoint without it is incomplete
    files = (Path(job.output) / "checkpoints").glob("checkpoint-*/trainer_state.json")
    complete = [path.parent for path in files]
    return max(complete, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def print_once(message: str) -> None:
    """Print a line on the first process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(message, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Train the job that the arguments name, and return the exit status.

    0: finished. 2: the job cannot run. 130: interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sdlab.scale.train",
        description="Train a job; accelerate starts one of these per process.",
    )
    parser.add_argument("job", help="the job's JSON file")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint")
    parser.add_argument("--no-alarm", action="store_true", help="do not warn when the markers fall or rise")
    options = parser.parse_args(arguments)

    def follow(row: dict) -> None:
        print_once(
            f"step {row['step']}  score {row['reward']:.3f}  length {row['length']:.0f}  markers "
            f"{row['markers']:.1f}  loss {row['loss']:.5f}  {row['seconds']:.0f} s"
        )

    try:
        folder = train(
            read_job(options.job), resume=options.resume, on_step=follow, alarm=not options.no_alarm
        )
    except SdlabError as error:
        print_once(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        print_once("stopped; continue from the newest checkpoint with --resume")
        return 130
    print_once(f"wrote {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
