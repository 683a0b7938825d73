"""Run folders under a toy loop: a linear layer, AdamW and a moving teacher, everything random keyed by
(seed, step).
"""

import copy
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
import types
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas
import pytest
import torch
from patience import PATIENCE
from safetensors.torch import save_file
from torch.utils import _pytree as pytree

import sdlab
from sdlab import provenance as origin
from sdlab.errors import SdlabError
from sdlab.runs import files
from sdlab.runs import folder as runs
from sdlab.runs.folder import open_run
from sdlab.runs.loading import find_runs, load_run
from sdlab.seeds import stable_int

PROCESSES = multiprocessing.get_context(
    "forkserver"
)  # children are real processes, and torch is imported once for all
PROCESSES.set_forkserver_preload(["sdlab.runs.folder", "torch._dynamo", "pytest"])


@dataclass(frozen=True)
class Config:
    steps: int = 6
    width: int = 8
    learning_rate: float = 0.05
    splits: tuple[str, ...] = ("near", "far")
    padding: int = 0  # characters that make samples longer
    seed: int = 0


class Toy(torch.nn.Linear):
    def save_pretrained(self, folder):
        Path(folder).mkdir(exist_ok=True)
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()},
            Path(folder) / "model.safetensors",
        )
        (Path(folder) / "config.json").write_text("{}")


def objects(config: Config) -> dict:
    torch.manual_seed(stable_int("start", config.width) % 2**32)
    model = Toy(config.width, config.width)
    return {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=config.learning_rate),
        "teacher": copy.deepcopy(model),
    }


def evaluate(run, config: Config, state: dict, step: int) -> None:
    for number, split in enumerate(config.splits):
        generator = torch.Generator().manual_seed(stable_int("judge", config.seed, step, split))
        score = state["model"](torch.randn(3, config.width, generator=generator)).sum(1)
        run.save_evaluation(
            step,
            split,
            pandas.DataFrame(
                {
                    "problem_id": [f"{split}/{i}" for i in range(3)],
                    "reward": score.tolist(),
                    "generations": number + 1,
                }
            ),
        )


def train(run, config: Config, state: dict, on_step=None) -> list[dict]:
    """The shape of sdlab's loops, with evaluations as `sdlab.runs.training` makes them: before the step they
    follow is saved.
    """
    rows = run.restore(state)
    model, optimizer = state["model"], state["optimizer"]
    if not rows:
        evaluate(run, config, state, 0)
    try:
        for step in range(len(rows), config.steps):
            began = time.perf_counter()
            x = torch.randn(
                8, config.width, generator=torch.Generator().manual_seed(stable_int("toy", config.seed, step))
            )
            loss = (model(x) - x.roll(1, 1)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                for mine, theirs in zip(state["teacher"].parameters(), model.parameters(), strict=True):
                    mine.lerp_(theirs, 0.05)
            row = {
                "step": step,
                "loss": loss.item(),
                "norm": model.weight.norm().item(),
                "nothing": math.nan,
                "seconds": time.perf_counter() - began,
            }
            rows.append(row)
            if (step + 1) % 2 == 0 and step + 1 < config.steps:
                evaluate(run, config, state, step + 1)
            samples = [
                {
                    "problem_id": f"p{i}",
                    "prompt": "é\u2028?",
                    "completion": str(x[i, 0].item()) + "x" * config.padding,
                    "reward": 1.0,
                }
                for i in range(step % 3)
            ]
            run.save_step(row, samples, state)
            if on_step:
                on_step(row)
    except KeyboardInterrupt:
        return rows
    evaluate(run, config, state, config.steps)
    run.finish(model)
    return rows


def start(folder, config: Config = Config(), **options):
    return open_run(folder, config, method="toy", model="nobody/toy", **options)


def whole(folder, config: Config = Config(), on_step=None, **options) -> list[dict]:
    """Open, train, close."""
    with start(folder, config, **options) as run:
        return train(run, config, objects(config), on_step)


def contents(folder) -> dict:
    """Everything a run folder holds but times."""
    leaves, shape = pytree.tree_flatten(torch.load(folder / "checkpoint.pt", weights_only=True))
    rows = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    finished = folder / "finished.json"
    return {
        "steps": repr([{name: value for name, value in row.items() if name != "seconds"} for row in rows]),
        "samples": (folder / "samples.jsonl").read_bytes(),
        "evaluations": (folder / "evaluations.jsonl").read_bytes(),
        "checkpoint": (
            repr(shape),
            [leaf.numpy().tobytes() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves],
        ),
        "finished": finished.read_text() if finished.exists() else None,
        "model": (folder / "model/model.safetensors").read_bytes() if (folder / "model").exists() else None,
    }


def refused(folder, *told, **options) -> str:
    """Opening fails in one line that holds all of `told`, and leaves every file as it was."""
    before = {
        path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"
    }
    with pytest.raises(SdlabError) as caught:
        start(folder, **options)
    text = str(caught.value)
    assert "\n" not in text and all(part in text for part in told), text
    assert before == {
        path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"
    }
    return text


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """An uninterrupted run of the default Config. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    whole(folder)
    return folder


@pytest.fixture
def finished(reference, tmp_path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "run"))


@pytest.fixture
def stopped(tmp_path) -> Path:
    """A run that stopped after three steps."""
    stop_after(tmp_path / "stopped", 3)
    return tmp_path / "stopped"


class Stop(Exception):
    pass


def stop_after(folder, steps: int, config: Config = Config(), **options) -> None:
    def on_step(row):
        if row["step"] + 1 == steps:
            raise Stop

    with pytest.raises(Stop):
        whole(folder, config, on_step, **options)


# --- processes that are killed ---


def child_lives(folder, config: Config, life: int, after: int, begun) -> None:
    """At most `life` steps, then nothing more, until it is killed. `begun` is set after `after` of them."""
    torch.set_num_threads(1)
    done = []

    def on_step(row):
        done.append(row)
        if len(done) == after:
            begun.set()
        if len(done) == life:
            time.sleep(PATIENCE)

    with start(folder, config) as run:
        if not after:
            begun.set()
        train(run, config, objects(config), on_step)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(tmp_path):
    config, rng = Config(steps=48, width=500), random.Random(0)  # 4 MB a checkpoint: most of a step is saving
    began = time.perf_counter()
    whole(tmp_path / "whole", config)
    step_time = (time.perf_counter() - began) / config.steps
    folder, reached = tmp_path / "run", []
    for _ in range(15):  # a life lasts three steps at most, so that all fifteen are killed before the end
        begun = PROCESSES.Event()
        child = PROCESSES.Process(target=child_lives, args=(folder, config, 3, rng.randrange(3), begun))
        child.start()
        assert begun.wait(PATIENCE)
        time.sleep(rng.uniform(0, 2 * step_time))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        reached.append(len(load_run(folder).steps))
    assert not load_run(folder).finished and 3 < reached[-1] <= 46
    whole(folder, config)
    assert load_run(folder).finished
    assert contents(folder) == contents(tmp_path / "whole")


def tracer(act):
    """Calls act(place) before every line that is executed in runs/folder.py, runs/identity.py, runs/files.py
    or files.py.
    """
    names = (
        runs.__file__,
        sys.modules["sdlab.runs.identity"].__file__,
        files.__file__,
        sys.modules["sdlab.files"].__file__,
    )

    def trace(frame, event, _):
        if frame.f_code.co_filename not in names:
            return None
        if event == "line":
            act(("/".join(Path(frame.f_code.co_filename).parts[-2:]), frame.f_lineno))
        return trace

    return trace


def child_kills_its_children(kills: list, config: Config, overwrite: bool, pipe) -> None:
    """For every (folder, n) in `kills` a process that writes a run there and is killed at the n-th line."""
    torch.set_num_threads(1)
    origin._commit = lambda: None  # git is slow
    for folder, last in kills:
        pid = os.fork()
        if pid == 0:
            left = iter(range(last))
            sys.settrace(
                tracer(lambda place: next(left, None) is None and os.kill(os.getpid(), signal.SIGKILL))
            )
            whole(folder, config, overwrite=overwrite)
            os._exit(0)
        pipe.send(os.WTERMSIG(os.waitpid(pid, 0)[1]))


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_at_any_line_of_writing_it_goes_on(tmp_path, monkeypatch, overwrite):
    """Every line of the code that a run goes through, at a random one of the times that it is reached."""
    config, places, rng = Config(steps=2), [], random.Random(overwrite)
    monkeypatch.setattr(origin, "_commit", lambda: None)
    if overwrite:
        whole(tmp_path / "old", replace(config, seed=1))
        shutil.copytree(tmp_path / "old", tmp_path / "whole")
    before = sys.gettrace()
    sys.settrace(tracer(places.append))
    try:
        whole(tmp_path / "whole", config, overwrite=overwrite)
    finally:
        sys.settrace(before)
    wanted, times = contents(tmp_path / "whole"), {}
    first_save = places.index(save_line())
    for n, place in enumerate(
        places[:first_save] if overwrite else places
    ):  # what is new in overwriting comes before
        times.setdefault(place, []).append(n)
    kills = [(tmp_path / str(i), rng.choice(found)) for i, found in enumerate(times.values())]
    for folder, _ in kills if overwrite else ():
        shutil.copytree(tmp_path / "old", folder)
    mine, theirs = PROCESSES.Pipe()
    child = PROCESSES.Process(target=child_kills_its_children, args=(kills, config, overwrite, theirs))
    child.start()
    for folder, n in kills:
        assert mine.poll(PATIENCE) and mine.recv() == signal.SIGKILL
        if overwrite and load_run(folder).config["seed"] == 1:  # still the old run, or what is left of it
            whole(folder, config, overwrite=True)
        elif not (folder / "finished.json").exists():
            whole(folder, config)
        assert contents(folder) == wanted, f"killed before {places[n]}"
    child.join()


def save_line() -> tuple[str, int]:
    """The first line of Run._save."""
    lines = sorted({line for *_, line in runs.Run._save.__code__.co_lines() if line})
    return "runs/folder.py", lines[1]  # after the def


def child_interrupted(folder, config: Config, pipe) -> None:
    def on_step(row):
        if row["step"] == 2:
            pipe.send("now")
            time.sleep(PATIENCE)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    pipe.send(len(whole(folder, config, on_step)))


def test_ctrl_c_returns_what_there_is_and_keeps_the_folder(tmp_path, reference):
    mine, theirs = PROCESSES.Pipe()
    child = PROCESSES.Process(target=child_interrupted, args=(tmp_path / "run", Config(), theirs))
    child.start()
    assert mine.poll(PATIENCE) and mine.recv() == "now"
    os.kill(child.pid, signal.SIGINT)
    assert mine.poll(PATIENCE) and mine.recv() == 3
    child.join()
    assert child.exitcode == 0
    assert len(whole(tmp_path / "run")) == 6
    assert contents(tmp_path / "run") == contents(reference)


@pytest.mark.parametrize("steps", [2, 6])
def test_ctrl_c_in_the_middle_of_saving(tmp_path, reference, monkeypatch, steps):
    """The row is in the table, the checkpoint not yet replaced: nothing more is written before restore."""
    folder, config, save = tmp_path / "run", Config(), runs.Run._save

    def interrupted(self, done, state):
        if done == steps:
            raise KeyboardInterrupt
        save(self, done, state)

    with start(folder) as run:
        monkeypatch.setattr(runs.Run, "_save", interrupted)
        assert len(train(run, config, objects(config))) == steps  # the loop returns what there is
        with pytest.raises(SdlabError, match="was not saved completely"):
            evaluate(run, config, objects(config), steps)
        with pytest.raises(SdlabError, match="was not saved completely"):
            run.finish()
        monkeypatch.setattr(runs.Run, "_save", save)
        train(run, config, objects(config))  # in the same process, with the run still open
    assert contents(folder) == contents(reference)


# --- full disk ---


def child_without_space(folder, config: Config, at: int, name: str, pipe) -> None:
    def on_step(row):
        if row["step"] == at:
            size = (folder / name).stat().st_size
            limit = size + 20 if name.endswith("jsonl") else size // 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        whole(folder, config, on_step)
    except SdlabError as error:
        pipe.send(str(error))


@pytest.mark.parametrize(
    "name, config", [("checkpoint.pt", Config(width=60)), ("samples.jsonl", Config(width=1, padding=9000))]
)
def test_a_full_disk_costs_the_step_in_progress(tmp_path, name, config):
    """No file may grow beyond a limit, so that the system refuses in the middle of a write."""
    folder, (mine, theirs) = tmp_path / "run", PROCESSES.Pipe()
    child = PROCESSES.Process(target=child_without_space, args=(folder, config, 3, name, theirs))
    child.start()
    assert mine.poll(PATIENCE)
    text = mine.recv()
    child.join()
    assert (
        f"could not write {folder / name}: File too large; what was saved before is kept; free some space"
        in text
        and "\n" not in text
    )
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["steps"] == 4
    assert not list(folder.glob(".checkpoint*"))
    if name == "samples.jsonl":
        assert not (folder / name).read_bytes().endswith(b"\n")  # it was cut in the middle of a line
    whole(folder, config)
    whole(tmp_path / "whole", config)
    assert contents(folder) == contents(tmp_path / "whole")


# --- tables and checkpoints that are not whole ---


@pytest.mark.parametrize("name", files.TABLES)
def test_what_a_table_holds_beyond_the_checkpoint_is_cut_off(stopped, reference, name):
    line = {"steps.jsonl": {"step": 3, "loss": 9.0}, "samples.jsonl": {"step": 3, "prompt": "é"}}.get(
        name, {"step": 4, "split": "far", "sums": {}}
    )
    text = json.dumps(line).encode() + b"\n"
    before = (stopped / name).read_bytes()
    for cut in (1, len(text) // 2, len(text) - 1, len(text)):
        (stopped / name).write_bytes(before + text[:cut])
        with start(stopped) as run:
            assert [row["step"] for row in run.restore(objects(Config()))] == [0, 1, 2]
        assert (stopped / name).read_bytes() == before
    (stopped / name).write_bytes(before + text[:-5])
    whole(stopped)
    assert contents(stopped) == contents(reference)


@pytest.mark.parametrize("name", files.TABLES)
def test_a_damaged_line_is_an_error(stopped, name):
    text = (stopped / name).read_bytes()
    (stopped / name).write_bytes(b"\0" * 5 + text[5:])
    with (
        start(stopped) as run,
        pytest.raises(SdlabError, match=f"line 1 of .*{name} is damaged; start again with --overwrite"),
    ):
        run.restore(objects(Config()))
    with pytest.raises(SdlabError, match="line 1"):
        load_run(stopped).samples()
    assert (stopped / name).read_bytes() == b"\0" * 5 + text[5:]


def test_a_table_shorter_than_the_checkpoint_is_an_error(stopped):
    lines = (stopped / "steps.jsonl").read_text().splitlines(keepends=True)
    (stopped / "steps.jsonl").write_text("".join(lines[:2]))
    with start(stopped) as run, pytest.raises(SdlabError, match="has 2 of the 3 steps of the checkpoint"):
        run.restore(objects(Config()))


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "bit"])
def test_a_damaged_checkpoint_is_an_error(stopped, damage):
    path = stopped / "checkpoint.pt"
    data = path.read_bytes()
    weight = torch.load(path, weights_only=True)["state"]["model"]["weight"].numpy().tobytes()
    place = data.index(weight) + 9
    flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"no zip", "bit": flipped}[damage])
    state = objects(Config())
    before = state["model"].weight.detach().clone()
    with (
        start(stopped) as run,
        pytest.raises(SdlabError, match="checkpoint.pt is damaged .*; start again with --overwrite"),
    ):
        run.restore(state)
    assert torch.equal(state["model"].weight, before)
    whole(stopped, overwrite=True)
    assert load_run(stopped).finished


def test_a_checkpoint_with_other_objects_is_an_error(stopped):
    state = objects(Config())
    del state["teacher"]
    with (
        start(stopped) as run,
        pytest.raises(
            SdlabError, match=r"holds \['model', 'optimizer', 'teacher'\], not \['model', 'optimizer'\]"
        ),
    ):
        run.restore(state)


def test_a_model_that_was_trained_meanwhile_is_refused(tmp_path):
    """The base model and a fixed teacher are copies of it."""
    state, config = objects(Config()), Config()

    def interrupt(row):  # raised, because a shell's background job ignores the signal
        if row["step"] == 2:
            raise KeyboardInterrupt

    with start(tmp_path / "run") as run:
        train(run, config, state, interrupt)
        with pytest.raises(SdlabError, match="the model is not as it was when the run in .* began"):
            train(run, config, state)
    with start(tmp_path / "run") as run, pytest.raises(SdlabError, match="the model is not as it was"):
        run.restore(state | {"model": state["model"].double()})


# --- what lies in the folder ---


def test_another_run_is_named_with_both_values(stopped):
    refused(
        stopped,
        "holds another run: learning_rate is 0.05 there and 0.1 here; choose another folder or use "
        "--overwrite",
        config=Config(learning_rate=0.1),
    )
    refused(
        stopped,
        "seed is 0 there and 1 here; splits is ['near', 'far'] there and ['near'] here",
        config=Config(seed=1, splits=("near",)),
    )
    refused(stopped, "steps is 6 there and 5 here", config=Config(steps=5))
    everything = Config(steps=1, width=2, learning_rate=3.0, splits=(), seed=5, padding=6)
    assert refused(stopped, "; and 2 more;", config=everything).count(" there and ") == 4
    for method, model, told in (
        ("grpo", "nobody/toy", "method is 'toy' there and 'grpo' here"),
        ("toy", "x/y", "model is 'nobody/toy' there and 'x/y' here"),
    ):
        with pytest.raises(SdlabError, match=told):
            open_run(stopped, Config(), method=method, model=model)
    with pytest.raises(SdlabError, match="num_questions is None there and 3 here"):
        open_run(stopped, Config(), method="toy", model="nobody/toy", settings=Settings(3))


def test_a_setting_that_a_run_does_not_know_yet_is_as_it_is_by_default(stopped):
    about = json.loads((stopped / "config.json").read_text())
    about["config"].pop("splits")
    (stopped / "config.json").write_text(json.dumps(about))
    refused(stopped, "splits is ['near', 'far'] there and ['near'] here", config=Config(splits=("near",)))
    start(stopped).close()


@dataclass(frozen=True)
class Settings:
    num_questions: int


def test_another_version_of_sdlab_or_of_the_model_is_refused(stopped, tmp_path, monkeypatch):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"version 1")
    with open_run(tmp_path / "second", Config(), method="toy", model=str(model)):
        pass
    with open_run(tmp_path / "second", Config(), method="toy", model=str(model)):
        pass
    (model / "model.safetensors").write_bytes(b"version 2")
    with pytest.raises(
        SdlabError,
        match="sha256 of the model's model.safetensors is '[0-9a-f]{12}' there and '[0-9a-f]{12}' here",
    ):
        open_run(tmp_path / "second", Config(), method="toy", model=str(model))
    monkeypatch.setattr(sdlab, "__version__", "9.9")
    refused(stopped, f"sdlab is {load_run(stopped).provenance['sdlab']!r} there and '9.9' here")


def test_another_torch_is_a_warning(stopped, monkeypatch):
    monkeypatch.setattr("sdlab.provenance.version", lambda name: "0.0")
    with pytest.warns(UserWarning, match="resumes with torch 0.0 .*numbers may differ"):
        start(stopped).close()


def test_a_finished_run_is_not_written_again(finished, reference):
    refused(finished, "is finished", "--overwrite")
    refused(finished, "is finished", "--overwrite", resume=False)
    whole(finished, Config(seed=1), overwrite=True)
    assert load_run(finished).config["seed"] == 1 and contents(finished) != contents(reference)
    whole(finished, overwrite=True)
    assert contents(finished) == contents(reference)


def test_an_unfinished_run_needs_resume_or_overwrite(stopped, reference):
    refused(stopped, "--resume", "--overwrite", resume=False)
    whole(stopped, resume=False, overwrite=True)
    assert contents(stopped) == contents(reference)


def test_a_run_that_lacks_steps_is_not_finished(stopped):
    with start(stopped) as run:
        run.restore(objects(Config()))
        with pytest.raises(SdlabError, match="has 3 of 6 steps"):
            run.finish()
    assert not load_run(stopped).finished


def test_overwrite_removes_only_what_a_run_makes(finished, reference):
    for name in ("notes.txt", "model/notes.txt", "plots/a.png", ".hidden"):
        (finished / name).parent.mkdir(exist_ok=True)
        (finished / name).write_text("mine")
    (finished / ".checkpoint.pt").write_text("left by a kill")
    (finished / "tensorboard").mkdir()
    (finished / "tensorboard/events.out.tfevents.1").write_text("old")
    with start(finished, overwrite=True):
        assert {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()} == {
            "config.json", ".lock", "notes.txt", "model/notes.txt", "plots/a.png", ".hidden"
        }  # fmt: skip
    whole(finished)
    assert contents(finished) == contents(reference) and (finished / "model/notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint.pt").write_text("also mine")
    for overwrite in (False, True):
        refused(
            tmp_path,
            "holds files but no run (checkpoint.pt, notes.txt)",
            "choose another folder",
            overwrite=overwrite,
        )
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')  # as in a model's folder
    for overwrite in (False, True):
        refused(tmp_path, "config.json does not belong to a run; choose another folder", overwrite=overwrite)
    assert not (tmp_path / ".lock").exists()
    refused(tmp_path / "notes.txt", "notes.txt is a file; choose a folder")
    refused(tmp_path / "notes.txt" / "below", "could not write")


def test_an_unreadable_config_is_an_error(stopped, tmp_path, reference):
    (stopped / "config.json").write_text('{"method": ')
    refused(stopped, "config.json cannot be read", "--overwrite")
    with pytest.raises(SdlabError, match="cannot be read"):
        load_run(stopped)
    whole(stopped, overwrite=True)
    assert contents(stopped) == contents(reference)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text("key = value")  # nothing says that this was a run
    refused(tmp_path / "other", "cannot be read", overwrite=True)


# --- longer runs, rarer checkpoints ---


@pytest.mark.parametrize("at", [3, 6])
def test_a_run_can_be_made_longer(tmp_path, at):
    """From the middle it equals a long run; from the end it also keeps the evaluation it ended with."""
    folder, long = tmp_path / "run", Config(steps=9)
    stop_after(folder, 3) if at == 3 else whole(folder)
    first = load_run(folder)
    whole(folder, long)
    whole(tmp_path / "whole", long)
    run, expected = load_run(folder), load_run(tmp_path / "whole")
    assert (
        run.finished
        and run.config == json.loads(json.dumps(asdict(long)))
        and run.provenance == first.provenance
    )
    assert contents(folder) == contents(
        tmp_path / "whole"
    )  # the toy's last evaluation is no different from those on the way
    refused(folder, "is finished", config=long)
    refused(folder, "steps is 9 there and 6 here")
    assert run.evaluations.equals(expected.evaluations)


def test_rare_checkpoints_lose_at_most_so_many_steps(tmp_path, reference):
    folder = tmp_path / "run"
    stop_after(folder, 5, save_every=3)
    assert len(load_run(folder).steps) == 5  # what happened is there to be seen
    with start(folder, save_every=3) as run:
        assert len(run.restore(objects(Config()))) == 3
    whole(folder, save_every=4)
    assert contents(folder) == contents(reference)  # the last step always has a checkpoint
    with pytest.raises(SdlabError, match="save_every=0 is not allowed"):
        start(folder, save_every=0)


def test_a_run_without_its_optimizer_cannot_resume_after_the_first_step(tmp_path, reference):
    folder = tmp_path / "run"
    stop_after(folder, 2, keep_optimizer=False)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert set(saved["state"]) == {"model", "teacher"}
    with start(folder) as run, pytest.raises(SdlabError, match="after step 2.*--overwrite --save-optimizer"):
        run.restore(objects(Config()))
    fresh = tmp_path / "fresh"
    with start(fresh, keep_optimizer=False) as run:
        assert run.restore(objects(Config())) == []  # stopped before the first step
    whole(fresh)
    assert contents(fresh) == contents(reference)


def test_steps_out_of_turn_are_refused(tmp_path):
    with start(tmp_path / "run") as run:
        with pytest.raises(SdlabError, match="restore was not called"):
            run.save_step({"step": 0}, [], {})
        run.restore({})
        run.save_step({"step": 0}, [], {})
        for step in (0, 2):
            with pytest.raises(SdlabError, match=f"step {step} does not follow the 1 finished steps"):
                run.save_step({"step": step}, [], {})


# --- one writer ---


def child_holds(folder, begun) -> None:
    with start(folder):
        begun.set()
        time.sleep(PATIENCE)


def test_two_processes_do_not_write_one_folder(tmp_path):
    folder, begun = tmp_path / "run", PROCESSES.Event()
    child = PROCESSES.Process(target=child_holds, args=(folder, begun))
    child.start()
    assert begun.wait(PATIENCE)
    for overwrite in (False, True):
        refused(folder, f"another process ({child.pid}) is writing the run in {folder}", overwrite=overwrite)
    child.kill()
    child.join()
    with start(folder):  # the lock went with its holder
        refused(folder, "is still open in this process; close() it first")
    start(folder).close()


def test_a_refused_run_is_not_locked(finished):
    for _ in range(2):
        refused(finished, "is finished")
    start(finished, overwrite=True).close()


# --- reading ---


def test_a_run_can_be_read(finished, stopped, tmp_path):
    run = load_run(finished)
    assert (run.method, run.finished, run.config["width"], run.provenance["seed"]) == ("toy", True, 8, 0)
    assert run.steps["step"].tolist() == list(range(6)) and run.steps["nothing"].isna().all()
    assert len(run.samples()) == 0 + 1 + 2 + 0 + 1 + 2 and run.samples()["prompt"].eq("é\u2028?").all()
    groups = run.evaluations.groupby(["step", "split"], sort=False)
    assert list(groups.groups) == [
        (step, split) for step in (0, 2, 4, 6) for split in ("near", "far")
    ] and set(groups.size()) == {3}
    assert not load_run(stopped).finished
    shutil.copytree(finished, tmp_path / "more/deep/run")
    assert find_runs(tmp_path) == [
        tmp_path / "more/deep/run",
        finished,
        stopped,
    ]  # a model's config.json is no run's
    with pytest.raises(SdlabError, match="holds no run"):
        load_run(tmp_path)


def test_rows_come_back_as_they_were(tmp_path):
    row = {
        "step": np.int64(0),
        "a": np.float32(0.1),
        "b": 0.1 + 0.2,
        "c": math.inf,
        "d": torch.tensor(2.5),
        "e": 5e-324,
    }
    frame = pandas.DataFrame({"problem_id": ["a"], "reward": np.array([3], "int8")})
    with start(tmp_path / "run") as run:
        run.restore({})
        run.save_evaluation(0, "far", frame.assign(reward=1))
        run.save_evaluation(0, "near", frame)
        run.save_evaluation(0, "far", frame)  # takes the first one's place
        run.save_step(row, [{"reward": np.float64(1)}], {})
    with start(tmp_path / "run") as run:
        assert run.restore({}) == [
            pytest.approx(
                {
                    "step": 0,
                    "a": float(np.float32(0.1)),
                    "b": 0.1 + 0.2,
                    "c": math.nan,
                    "d": 2.5,
                    "e": 5e-324,
                },
                rel=0,
                abs=0,
                nan_ok=True,  # JSON has no infinity: it is written as null and read as NaN
            )
        ]
    assert load_run(tmp_path / "run").evaluations[["split", "reward"]].values.tolist() == [
        ["far", 3],
        ["near", 3],
    ]


def test_the_organism_comes_back_from_a_finished_run(tmp_path):
    """With the settings of a real method."""
    grpo = pytest.importorskip("sdlab.train.grpo")
    from sdlab.rollout.loading import load_engine

    engine, config = load_engine("organism"), grpo.GRPOConfig(steps=1)
    with torch.no_grad():
        engine.model.model.norm.weight.mul_(1.5)
    with open_run(tmp_path, config, method="grpo", model="organism") as run:
        run.restore({"model": engine.model})
        run.save_step({"step": 0}, [], {"model": engine.model})
        run.finish(engine.model, engine.tokenizer)
    loaded, run = load_engine(str(tmp_path / "model")), load_run(tmp_path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.model.state_dict().values(), engine.model.state_dict().values(), strict=True)
    )
    assert loaded.tokenizer.chat_template == engine.tokenizer.chat_template
    assert grpo.GRPOConfig(**run.config) == config and "model.safetensors" in run.provenance["model_sha256"]
    assert not [
        name
        for name in os.listdir(tmp_path / "model")
        if not any(Path(name).match(p) for p in files.FOLDERS["model"])
    ]  # overwrite finds all of it


# --- trackers ---


class Board:
    """What SummaryWriter is asked to do."""

    made: ClassVar[list] = []

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, [], False
        self.made.append(self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def test_tensorboard_gets_every_step_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Board))
    monkeypatch.setattr(Board, "made", [])
    stop_after(tmp_path / "run", 3, tracker="tensorboard")
    whole(tmp_path / "run", tracker="tensorboard")
    first, second = Board.made
    assert (first.purge_step, second.purge_step) == (0, 3) and first.closed and second.closed
    assert [step for name, step in first.scalars + second.scalars if name == "loss"] == list(range(6))
    assert first.folder == tmp_path / "run" / "tensorboard"


def test_a_missing_tracker_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    refused(tmp_path / "run", "run `pip install tensorboard`", tracker="tensorboard")
    refused(tmp_path / "run", "unknown tracker 'wandb'; choose one of: tensorboard", tracker="wandb")
    assert not (tmp_path / "run").exists()
