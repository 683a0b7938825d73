"""Steps of TRL's GRPOTrainer and SDPOTrainer on a CPU: the peer that `bench_training.py` races against, in a
process of its own.

    echo '{"method": "sdpo", "steps": 2}' | PYTHONPATH=WHERE_TRL_IS python tests/benchmarks/_trl_steps.py

Each line of standard input is one run as JSON (keys and defaults: DEFAULTS); the answer is one line `result
{...}` or `failed MESSAGE`. Every run starts from the model's weights on disk.
"""

import inspect
import itertools
import json
import logging
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict

import torch

from sdlab import paths
from sdlab.grading.score import grade
from sdlab.world.splits import load_split

DEFAULTS = {
    "method": "grpo",
    "model": str(paths.data_dir() / "organism"),
    "split": "train",
    "steps": 3,
    "num_problems": 32,
    "num_generations": 8,
    "max_completion_length": 256,
    "learning_rate": 1e-4,
    "dtype": "float32",
    "threads": 0,
    "seed": 0,
    "rows": 64,
    "attention": "sdpa",
    "options": {},
    "clock": "wall",
}
# rows: per_device_train_batch_size; options: more settings of TRL's config, by name; clock: "cpu" counts this
# process's processor
# time, for looking around on a busy machine
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
END = "<|im_end|>"


def reward(completions, answer, **_):
    """TRL's reward function: sdlab's own grader."""
    return grade([turns[0]["content"] for turns in completions], answer)


class Stages:
    """Seconds by stage, measured around a trainer's own methods."""

    def __init__(self, clock):
        self.clock, self.seconds = clock, defaultdict(float)

    def around(self, owner, name: str, stage: str, then=lambda result: None) -> None:
        """Add the time owner.name takes to `stage`; `then` sees what it returned, off the clock."""
        inner = getattr(owner, name)

        def timed(*args, **kwargs):
            start = self.clock()
            result = inner(*args, **kwargs)
            self.seconds[stage] += self.clock() - start
            then(result)
            return result

        setattr(owner, name, timed)


def trainer_for(task: dict, folder: str):
    """TRL's trainer with the study's settings and whatever makes it fast on a CPU: no checkpointing,
    logging, saving or tracker.
    """
    import datasets
    from transformers import AutoTokenizer

    rows, total = task["rows"], task["num_problems"] * task["num_generations"]
    if total % rows:
        raise ValueError(f"rows={rows} does not divide the {total} rows of a step")
    options = {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "eval_strategy": "no",
        "seed": task["seed"],
        "max_steps": task["steps"] + 1,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": total // rows,
        "num_generations": task["num_generations"],
        "max_completion_length": task["max_completion_length"],
        "temperature": 1.0,
        "learning_rate": task["learning_rate"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "beta": 0.0,
        "epsilon": 0.2,
        "epsilon_high": 0.28,
        "loss_type": "dapo",
        "scale_rewards": "none",
        "model_init_kwargs": {"dtype": task["dtype"], "attn_implementation": task["attention"]},
    }
    if task["method"] == "grpo":
        from trl import GRPOConfig as Config
        from trl import GRPOTrainer as Trainer
    else:
        from trl.experimental.sdpo import SDPOConfig as Config
        from trl.experimental.sdpo import SDPOTrainer as Trainer

        options |= {
            "distillation_mode": "topk_logits",
            "distillation_topk": 100,
            "distillation_add_tail": True,
            "distillation_alpha": 0.5,
            "distillation_is_clip": 2.0,
            "teacher_model_kind": "base",
            "remove_thinking_from_demonstration": False,
            # together, these two are sdlab's reprompt
            "solution_template": "\n\nCorrect solution: {successful_previous_attempt}",
            "reprompt_template": "{prompt}{solution}{feedback}\n\nCorrectly solve the original question.",
        }
    problems = load_split(task["split"], limit=task["num_problems"] * (task["steps"] + 1))
    messages = [{"prompt": [{"role": "user", "content": p.prompt}], "answer": p.answer} for p in problems]
    return Trainer(
        model=task["model"],
        reward_funcs=reward,
        args=Config(**options | task["options"]),
        train_dataset=datasets.Dataset.from_list(messages),
        processing_class=AutoTokenizer.from_pretrained(task["model"]),
    )


def run(task: dict) -> dict:
    """One run of 1 + steps steps. Lists with one entry per step but the first, and seconds by stage per step.

    A step lasts from the end of one optimizer step to the end of the next, so nothing TRL does is left out.
    Raises RuntimeError when a completion neither ends at `<|im_end|>` nor fills its length.
    """
    from transformers import PrinterCallback, TrainerCallback

    clock = CLOCKS[task["clock"]]
    torch.set_num_threads(task["threads"] or torch.get_num_threads())
    folder = tempfile.mkdtemp(prefix="bench_trl_")
    try:
        trainer, stages, grpo = trainer_for(task, folder), Stages(clock), task["method"] == "grpo"
        end = trainer.processing_class.convert_tokens_to_ids(END)
        limit, ends, lengths, ended, rewards, teacher_tokens, by_stage = (
            task["max_completion_length"],
            [],
            [],
            [],
            [],
            [],
            [],
        )

        def look(result):
            completions = result[0] if grpo else result[1]
            for ids in completions:
                if (ids[-1] != end and len(ids) != limit) or end in ids[:-1]:
                    raise RuntimeError(
                        f"a completion of {len(ids)} tokens ends in token {ids[-1]}, not in {END} ({end})"
                    )
            lengths.append(sum(map(len, completions)) / len(completions))
            ended.append(sum(ids[-1] == end for ids in completions) / len(completions))

        class Watch(TrainerCallback):
            def on_step_end(self, *_, **__):
                ends.append(clock())
                by_stage.append(dict(stages.seconds))
                stages.seconds.clear()

            def on_teacher_context_built(self, *_, teacher_attention_mask, completion_mask, **__):
                teacher_tokens.append(
                    float((teacher_attention_mask.sum() - completion_mask.sum()) / len(completion_mask))
                )

        trainer.add_callback(Watch())
        trainer.remove_callback(PrinterCallback)
        stages.around(
            trainer, "_generate_single_turn" if grpo else "_generate_transformers", "sampling", look
        )
        stages.around(
            trainer, "_calculate_rewards", "grading", lambda result: rewards.append(float(result.mean()))
        )
        if grpo:
            stages.around(trainer, "_compute_loss", "forward and loss")
        else:
            stages.around(trainer.teacher_model, "forward", "teacher")
            stages.around(trainer, "compute_loss", "forward and loss")
        stages.around(trainer.accelerator, "backward", "backward")
        trainer.train()
    finally:
        shutil.rmtree(folder)
    seconds = [b - a for a, b in itertools.pairwise(ends)]
    mean = {
        stage: sum(step.get(stage, 0.0) for step in by_stage[1:]) / task["steps"] for stage in by_stage[-1]
    }
    if "teacher" in mean:  # it is part of the loss there
        mean["forward and loss"] -= mean["teacher"]
    mean["other"] = sum(seconds) / len(seconds) - sum(mean.values())
    return {
        "seconds": seconds,
        "reward": rewards[1:],
        "length": lengths[1:],
        "ended": ended[1:],
        "teacher_prompt": teacher_tokens[1:],
        "stages": mean,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main():
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import transformers
    import trl

    print(
        "ready",
        json.dumps({library.__name__: library.__version__ for library in (trl, torch, transformers)}),
        flush=True,
    )
    for line in sys.stdin:
        task = DEFAULTS | json.loads(line)
        try:
            unknown = sorted(set(task) - set(DEFAULTS))
            if unknown:
                raise ValueError(f"unknown keys {unknown}; allowed: {sorted(DEFAULTS)}")
            print("result", json.dumps(run(task)), flush=True)
        except Exception as error:  # the parent has to hear of it; it stops the race
            where = inspect.trace()[-1]
            print(
                "failed",
                f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})".replace("\n", " "),
                flush=True,
            )


if __name__ == "__main__":
    main()
