"""Jobs that train the organism through TRL: every method, LoRA, going on after a stop, memory, and two
processes under accelerate.

Slow: two steps of real sampling each, 3 to 8 s of a core; two processes import everything twice more and took
78 s on one busy core.
"""

import json
import math
import os
import subprocess
from dataclasses import asdict, replace

import pytest
import torch
from patience import PATIENCE

pytest.importorskip("trl")
pytest.importorskip("datasets")

from scale_agreement import swapped

from sdlab.errors import SdlabError
from sdlab.grading.score import grade
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import Rollouts, SamplingParams
from sdlab.runs.loading import load_run
from sdlab.scale import train as scale_train
from sdlab.scale.data import job_problems, read_traces, write_traces
from sdlab.scale.job import Job, write_job
from sdlab.scale.launch import launch_command
from sdlab.scale.train import last_checkpoint, main, train
from sdlab.seeds import stream
from sdlab.text.prompt import render_prompt
from sdlab.train.batch import Batch, draw
from sdlab.train.grpo import GRPOConfig
from sdlab.train.log import COLUMNS
from sdlab.train.repairs.named import RepairConfig, run_named
from sdlab.train.sdpo import SDPOConfig, run_sdpo
from sdlab.train.sft import SFTConfig, Trace, run_sft
from sdlab.world.solutions import write_correct
from sdlab.world.splits import load_split

pytestmark = pytest.mark.slow

SMALL = dict(
    steps=2,
    num_problems=2,
    num_generations=4,
    max_completion_length=48,
    warmup_steps=2,
    thinking=False,
    temperature=1.3,
)


def job(tmp_path, config, method, data="chemistry-train", **settings):
    return Job(
        method, "organism", data, config, **{"per_device_rows": 4, "output": str(tmp_path / "run")} | settings
    )


def moved(folder) -> float:
    """How far the largest weight of the saved model has moved from the organism's."""
    model, base = load_engine(str(folder / "model")).model, load_engine("organism").model
    return max((a - b).abs().max().item() for a, b in zip(model.parameters(), base.parameters(), strict=True))


def check_run(one: Job, tmp_path, updates: int) -> None:
    run = load_run(tmp_path / "run")
    assert (
        run.finished
        and run.method == one.method
        and run.config == asdict(one.config)
        and set(COLUMNS) <= set(run.steps)
    )
    assert list(run.steps["step"]) == [0, 1] and run.steps["updates"].max() == updates
    taught = run.steps[run.steps["updates"] > 0]
    assert (
        len(taught)
        and all(map(math.isfinite, [*taught["loss"], *taught["grad_norm"]]))
        and (taught["grad_norm"] > 0).all()
    )
    rates = [one.config.learning_rate * share for share in (0.5, 1.0)]
    assert list(run.steps["learning_rate"]) == pytest.approx(rates)
    assert 0 < moved(tmp_path / "run") < 0.1


def test_grpo_and_sdpo_train(tmp_path):
    for method, config in (("grpo", GRPOConfig(**SMALL)), ("sdpo", SDPOConfig(**SMALL))):
        folder = tmp_path / method
        one, seen = job(folder, config, method), []
        train(one, on_step=seen.append)
        check_run(one, folder, 2)
        row = seen[0]
        assert (
            row["density"] == pytest.approx(1000 * row["markers"] / row["length"])
            and 0 <= row["truncated"] <= 1
            and 1 <= row["length"] <= 48
            and row["entropy"] > 0
        )
        with pytest.raises(SdlabError, match="already holds a run"):
            train(one)


def test_sft_trains_as_ours_does(tmp_path):
    """The same traces in the same order: losses of TRL's steps and of `run_sft`."""
    problems, rng = load_split("kata", limit=6), stream("traces of a test")
    path = write_traces([Trace(p, write_correct(p, rng)) for p in problems], tmp_path / "traces.jsonl")
    traces = read_traces(path)
    assert [(t.problem.prompt, t.problem.answer) for t in traces] == [(p.prompt, p.answer) for p in problems]
    config = SFTConfig(steps=2, batch_size=4, max_completion_length=4, warmup_steps=2)
    one = job(tmp_path, config, "sft", str(path), per_device_rows=2)
    train(one)
    check_run(one, tmp_path, 1)
    mine = run_sft(load_engine("organism"), problems, traces, config)
    theirs = load_run(tmp_path / "run").steps
    assert list(theirs["loss"]) == pytest.approx(list(mine["loss"]), rel=2e-6, abs=2e-7) and list(
        theirs["grad_norm"]
    ) == pytest.approx(list(mine["grad_norm"]), rel=1e-4)


def test_lora_trains_and_is_merged(tmp_path):
    pytest.importorskip("peft")
    one = job(tmp_path, GRPOConfig(**SMALL | {"learning_rate": 3e-3}), "grpo", lora_rank=2)
    train(one)
    check_run(one, tmp_path, 2)
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    """Killed in its second step and resumed, a run ends as one that was not: same rollouts, same weights."""
    whole = job(tmp_path / "whole", GRPOConfig(**SMALL), "grpo", save_steps=1)
    train(whole)

    class Killed(Exception):
        pass

    def kill(row):
        if row["step"] == 1:
            raise Killed

    stopped = replace(whole, output=str(tmp_path / "stopped" / "run"))
    with pytest.raises(Killed):
        train(stopped, on_step=kill)
    train(stopped, resume=True)
    a, b = load_run(whole.output).steps, load_run(stopped.output).steps
    for column in ("step", "reward", "length", "loss", "grad_norm", "learning_rate"):
        assert list(a[column].fillna(-1)) == pytest.approx(list(b[column].fillna(-1)), rel=1e-5)
    weights = [load_engine(f"{one.output}/model").model.state_dict() for one in (whole, stopped)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-6) for name in weights[0])
    with pytest.raises(SdlabError, match="does not save the averaged teacher"):
        train(job(tmp_path / "ema", SDPOConfig(**SMALL, teacher_model_kind="ema"), "sdpo"), resume=True)


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path):
    one = job(tmp_path, GRPOConfig(**SMALL), "grpo")
    assert last_checkpoint(one) is None
    for step, whole in ((2, True), (10, True), (12, False)):
        folder = tmp_path / "run" / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if whole:
            (folder / "trainer_state.json").write_text("{}")
    assert last_checkpoint(one).name == "checkpoint-10"


def test_ctrl_c_is_one_line(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    write_job(job(tmp_path, GRPOConfig(**SMALL), "grpo"), tmp_path / "job.json")
    monkeypatch.setattr(scale_train, "train", interrupted)
    assert main([str(tmp_path / "job.json")]) == 130
    assert capsys.readouterr().out == "stopped; continue from the newest checkpoint with --resume\n"


def test_out_of_memory_says_what_to_lower(tmp_path, capsys):
    one = job(tmp_path, GRPOConfig(**SMALL), "grpo")
    import sdlab.scale.train as program

    class Trainer:
        def train(self, **_):
            torch.empty(2**60)

    with swapped(program, "make_trainer", lambda *_, **__: Trainer()):
        assert main([str(write_job(one, tmp_path / "job.json"))]) == 2
    assert (
        "out of memory; lower what the job needs, in this order: per_device_rows=2 (now 4; the result does "
        "not change), gradient_checkpointing=True" in capsys.readouterr().out
    )


def test_a_model_without_a_chat_template(tmp_path):
    from transformers import AutoTokenizer

    engine = load_engine("organism")
    engine.model.save_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(engine.tokenizer.name_or_path)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(SdlabError, match="has no chat template"):
        train(replace(job(tmp_path, GRPOConfig(**SMALL), "grpo"), model=str(tmp_path / "model")))
    with pytest.raises(SdlabError, match="the model folder .* does not exist"):
        train(replace(job(tmp_path, GRPOConfig(**SMALL), "grpo"), model=str(tmp_path / "nothing")))


def test_traces_that_are_not_there(tmp_path):
    with pytest.raises(SdlabError, match="no file .*; an SFT job learns from a file of traces"):
        read_traces(tmp_path / "traces.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x", "answer": "1"}\n')
    with pytest.raises(SdlabError, match="needed: completion"):
        read_traces(tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text('{"prompt": "x", "completion": ""}\n')
    with pytest.raises(SdlabError, match="row 0: prompt and completion must be texts"):
        read_traces(tmp_path / "empty.jsonl")


def test_traces_are_read_as_rollouts_are(tmp_path):
    user = [{"role": "user", "content": "1+1?"}]
    rows = [
        {
            "prompt": user,
            "completion": [{"role": "assistant", "content": "2", "reasoning_content": "hmm"}],
            "answer": 2**63 - 1,
        },
        {
            "prompt": "1+1?",
            "completion": [{"type": "text", "text": "It is "}, {"type": "text", "text": "2"}],
            "answer": None,
        },
    ]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(rows))  # an array under the name .jsonl
    traces = read_traces(path)
    assert [(t.problem.prompt, t.problem.answer, t.completion) for t in traces] == [
        ("1+1?", str(2**63 - 1), "<think>\nhmm\n</think>\n\n2"),
        ("1+1?", "", "It is 2"),
    ]
    path.write_text(json.dumps([{"prompt": user * 2, "completion": "2"}]))
    with pytest.raises(SdlabError, match="row 0: the prompt is a conversation of 2 turns"):
        read_traces(path)


@pytest.mark.parametrize("method", ["sdpo", "repair"])
def test_two_processes_train_under_accelerate(method, tmp_path):
    """gloo, two ranks. The first step learns from recorded completions and equals that of the study's own
    loop on them; the second samples for real. The repair, SRPO, weighs tokens by the teacher's entropy.

    All right completions belong to the first rank's question: the second has nothing to distil, where TRL by
    itself would hang.
    """
    sizes = SMALL | {
        "num_minibatches": 1, "max_completion_length": 64, "temperature": 1.0, "warmup_steps": 2,
    }  # fmt: skip
    config = {"sdpo": SDPOConfig(**sizes, distillation_is_clip=None),
              "repair": RepairConfig(**sizes, repair="srpo")}[method]  # fmt: skip
    one = job(tmp_path, config, method, num_processes=2, per_device_rows=2)
    engine = load_engine("organism")
    problems = draw(job_problems(one), 2, 0, 0)
    prompts = [render_prompt(engine.tokenizer, problem, thinking=False) for problem in problems]
    pool = engine.generate(prompts, SamplingParams(24, 64, 1.5, seed=1))
    right = torch.tensor(grade(pool.texts, [p.answer for p in problems for _ in range(24)])).bool()
    first, second = range(24), range(24, 48)
    rows = (
        [i for i in first if right[i]][:2]
        + [i for i in first if not right[i]][:2]
        + [i for i in second if not right[i]][:4]
    )
    assert len(rows) == 8 and right[rows].tolist() == [True, True, False, False] + [False] * 4
    completions = [pool.completions()[i] for i in rows]
    old = torch.zeros_like(pool.per_token_logps[rows])  # at temperature 1, to which SRPO's ratio is
    scored = engine.score([prompts[i // 24] for i in rows], completions).per_token_logps
    old[:, : scored.shape[1]] = scored
    kept = Rollouts(
        prompts,
        pool.prompt_ids,
        4,
        pool.completion_ids[rows],
        pool.completion_mask[rows],
        old,
        pool.truncated[rows],
        [pool.texts[i] for i in rows],
    )
    import sdlab.train.session as module

    with swapped(module, "sample_batch", lambda *_: Batch(problems, kept, right[rows].float())):
        run = {"sdpo": run_sdpo, "repair": run_named}[method]
        (mine,) = run(engine, problems, replace(config, steps=1)).to_dict("records")
    (tmp_path / "rollouts.json").write_text(json.dumps(kept.completions()))
    command = launch_command(one, write_job(one, tmp_path / "job.json"))
    script = command.index("sdlab.scale.train")
    command[script - 1 : script + 1] = [os.path.join(os.path.dirname(__file__), "scale_two.py")]
    done = subprocess.run(
        [*command, str(tmp_path / "rollouts.json")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs, later = load_run(tmp_path / "run").steps.to_dict("records")
    assert (
        done.stdout.count("TRL's defaults, the paper, and this run") == 1
        and done.stdout.count("step 0 ") == 1
    )  # one rank speaks
    for name in ("reward", "length", "markers", "density", "truncated", "used_rows", "learning_rate"):
        assert theirs[name] == pytest.approx(mine[name])
    assert theirs["used_rows"] == 4
    assert theirs["loss"] == pytest.approx(mine["loss"], rel=2e-6, abs=2e-7)
    assert theirs["grad_norm"] == pytest.approx(mine["grad_norm"], rel=1e-5)
    assert (
        later["step"] == 1
        and later["length"] > 0
        and later["learning_rate"] == pytest.approx(config.learning_rate)
    )
    assert 0 < moved(tmp_path / "run") < 0.1
