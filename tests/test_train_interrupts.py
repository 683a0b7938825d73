"""A step is finished or has not happened: interrupts and errors at every line of all loops.

After each of them the table, the weights and the run folder must be those of an uninterrupted run after as
many steps, and going on must end as that run ended. `SDLAB_EVERY_LINE=1` tries every line, not a random
choice.
"""

import copy
import inspect
import itertools
import os
import random
import signal
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pandas
import pytest
import rollout_models as tiny
import torch

from sdlab import files, interrupts, provenance
from sdlab.errors import SdlabError
from sdlab.interrupts import HeldInterrupts, uninterrupted
from sdlab.organism.pretrain import PretrainConfig, build_model
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.runs import files as run_files
from sdlab.runs import folder as runs
from sdlab.runs.folder import open_run
from sdlab.runs.loading import load_run
from sdlab.show import LiveBoard
from sdlab.train import batch, grpo, log, sdpo, session, sft, teacher
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.train.log import TIMED
from sdlab.train.repairs import advantages, loop, scoring, signals, teachers, weighed
from sdlab.train.repairs.hooks import TeacherRule
from sdlab.train.repairs.loop import run_repair
from sdlab.train.sdpo import SDPOConfig, run_sdpo
from sdlab.train.sft import SFTConfig, Trace, run_sft
from sdlab.world.splits import load_split

pytestmark = pytest.mark.usefixtures("one_thread", "graded")

STEPS = 2
SIZES = dict(
    steps=STEPS,
    num_problems=2,
    num_generations=2,
    max_completion_length=4,
    learning_rate=1e-2,
    warmup_steps=0,
    batch_tokens=150,
)
PROBLEMS = [replace(problem, answer=str(i)) for i, problem in enumerate(load_split("train", limit=4))]
TRACES = [Trace(problem, f"maybe \\boxed{{{problem.answer}}}") for problem in PROBLEMS]
CONFIGS = {
    "sft": SFTConfig(**SIZES, batch_size=2),
    "grpo": GRPOConfig(**SIZES),
    "sdpo": SDPOConfig(**SIZES, teacher_model_kind="ema"),
    "repair": TrainConfig(**SIZES),
}
# a policy loss that reads student and teacher, and a teacher and a state that are stored
REPAIR = replace(advantages.rlsd(), teacher=TeacherRule("ema", 0.5))
LOOPS = {
    "sft": lambda engine, config, **rest: run_sft(engine, PROBLEMS, TRACES, config, **rest),
    "grpo": lambda engine, config, **rest: run_grpo(engine, PROBLEMS, config, **rest),
    "sdpo": lambda engine, config, **rest: run_sdpo(engine, PROBLEMS, config, **rest),
    "repair": lambda engine, config, **rest: run_repair(engine, PROBLEMS, REPAIR, config, **rest),
}
REPAIR_CODE = (loop, scoring, signals, teachers, weighed, advantages)
LOOP_CODE = (sft, grpo, sdpo, *REPAIR_CODE, batch, log, teacher, runs, run_files, files)
SESSION_CODE = (session, interrupts)
PLACES = 1000 if os.environ.get("SDLAB_EVERY_LINE") else 6


@pytest.fixture(scope="module")
def start():
    tokenizer = build_tokenizer()
    shape = PretrainConfig(hidden_size=64, num_layers=1, intermediate_size=64)
    model = build_model(shape, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    return tiny.sharpen(model, 2.0, 5.0), tokenizer


@pytest.fixture
def graded(monkeypatch):
    """The first of two completions is right, so that every method has something to learn."""
    monkeypatch.setattr(batch, "grade", lambda texts, truths: [float(i % 2 == 0) for i in range(len(texts))])
    monkeypatch.setattr(provenance, "_commit", lambda: None)  # git is slow


@pytest.fixture(scope="module")
def wanted(start):
    """By method: the weights after 0, 1, ... steps, and the rows, of a run that nothing interrupts."""
    made = {}

    def of(method: str) -> SimpleNamespace:
        if method not in made:
            engine = new_engine(start)
            states = [weights(engine)]
            table = LOOPS[method](engine, CONFIGS[method], on_step=lambda row: states.append(weights(engine)))
            assert table["updates"].min() > 0 and not table.attrs["stopped"]
            assert not any(same(one, two) for one, two in itertools.pairwise(states))
            made[method] = SimpleNamespace(weights=states, rows=untimed(table.to_dict("records")))
        return made[method]

    return of


def new_engine(start) -> TorchEngine:
    return TorchEngine(copy.deepcopy(start[0]), start[1])


def weights(engine) -> dict:
    return {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def untimed(rows: list[dict]) -> list[str]:
    return [repr({name: x for name, x in row.items() if name not in TIMED}) for row in rows]


def train(method: str, engine, folder, config=None, save_every: int = 1, **options):
    """The loop's table, or the exception that ended it."""
    config = config or CONFIGS[method]
    try:
        if folder is None:
            return LOOPS[method](engine, config, **options)
        with open_run(folder, config, method=method, model="nobody/toy", save_every=save_every) as run:
            return LOOPS[method](engine, config, run=run, **options)
    except (KeyboardInterrupt, SdlabError, ArithmeticError) as error:
        return type(error)(*error.args)  # without its frames, which would keep the folder's lock


def check(result, engine, folder, wanted, *, going_on=None, started: bool = True) -> int:
    """Check that table, weights and folder agree with the uninterrupted run; returns the finished steps."""
    places = [n for n, state in enumerate(wanted.weights) if same(weights(engine), state)]
    assert len(places) == 1, "the weights are not those of any finished step"
    (steps,) = places
    if isinstance(result, pandas.DataFrame):
        assert untimed(result.to_dict("records")) == wanted.rows[:steps]
        assert result.attrs["stopped"] or steps == STEPS
    if folder is not None and (folder / "checkpoint.pt").exists():
        kept = torch.load(folder / "checkpoint.pt", weights_only=True)
        if not isinstance(result, pandas.DataFrame) and steps == 0 != kept["steps"]:
            steps = kept[
                "steps"
            ]  # interrupted before the finished steps were restored: the model is as it came
        assert kept["steps"] == steps and same(kept["state"]["model"], wanted.weights[steps])
        assert untimed(run_files.read_lines(folder / "steps.jsonl")) == wanted.rows[:steps]
        assert sorted(row["step"] for row in run_files.read_lines(folder / "samples.jsonl")) == [
            step for step in range(steps) for _ in range(2)
        ]
    return steps


def check_going_on(method: str, start, folder, wanted) -> None:
    engine = new_engine(start)
    table = train(method, engine, folder)
    assert isinstance(table, pandas.DataFrame), table
    assert untimed(table.to_dict("records")) == wanted.rows and same(weights(engine), wanted.weights[STEPS])


class Tracer:
    """Calls act(n) before the n-th line that is executed in the files of `modules`; keeps all places."""

    def __init__(self, modules, act=lambda n: None):
        self.names, self.act, self.places = {module.__file__ for module in modules}, act, []

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename not in self.names:
            return None
        if event == "line":
            self.places.append((os.path.basename(frame.f_code.co_filename), frame.f_lineno))
            self.act(len(self.places))
        return self

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)


def cleaning() -> set[tuple[str, int]]:
    """The lines that write the folder's tables; an error inside leaves them to the next `restore`."""
    lines = set()
    for function in (runs.Run.settle, runs.Run._cut, runs.Run._rewrite, runs.Run._append):
        source, first = inspect.getsourcelines(function)
        lines |= {("folder.py", first + offset) for offset in range(len(source))}
    return lines


def chosen_lines(modules, method: str, start, folder, seed, without=frozenset()) -> list[int]:
    """Choose among the lines of an uninterrupted run, or take them all; each at one of its times."""
    rng, times = random.Random(f"{method} {seed}"), {}
    with Tracer(modules) as trace:
        train(method, new_engine(start), folder)
    for n, place in enumerate(trace.places, 1):
        if place in without:
            continue
        times.setdefault(place, []).append(n)
    everywhere = [rng.choice(numbers) for numbers in times.values()]
    return rng.sample(everywhere, min(PLACES, len(everywhere)))


@pytest.fixture
def handler():
    """Python's own handler, which a shell's background job does not have; the session must put it back."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    now = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert now is signal.default_int_handler


@pytest.mark.parametrize("presses", ["once", "twice", "and again later"])
@pytest.mark.parametrize("method", LOOPS)
def test_ctrl_c_at_any_line(start, wanted, handler, tmp_path, method, presses):
    """A signal before a line of the loops, the session or the run folder; once, twice, or again later."""
    rng = random.Random(f"{method} {presses}")
    lines = chosen_lines((*LOOP_CODE, *SESSION_CODE), method, start, tmp_path / "whole", presses)
    for number, line in enumerate(lines):
        at = {line}
        if presses != "once":
            at.add(line + (1 if presses == "twice" else rng.randrange(2, 400)))
        folder = tmp_path / str(number)
        act = lambda n, at=at: n in at and signal.raise_signal(signal.SIGINT)  # noqa: E731
        engine = new_engine(start)
        try:
            with Tracer((*LOOP_CODE, *SESSION_CODE), act) as trace:
                result = train(method, engine, folder)
        except KeyboardInterrupt:  # the second press, when the loop had already returned
            result = KeyboardInterrupt()
        place = trace.places[line - 1]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, place
        check(result, engine, folder, wanted(method))
        check_going_on(method, start, folder, wanted(method))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ArithmeticError])
@pytest.mark.parametrize("method", LOOPS)
def test_an_exception_at_any_line(start, wanted, tmp_path, method, error):
    """Raised by the line itself, in another thread than the main one, where no signal arrives."""

    def act(n):
        if n == line:
            raise error("here")

    def work():
        with Tracer(LOOP_CODE, act) as trace:
            found.extend([train(method, engine, folder), trace.places[line - 1 : line]])

    lines = chosen_lines(LOOP_CODE, method, start, tmp_path / "whole", error.__name__, cleaning())
    for number, line in enumerate(lines):  # noqa: B007  `work` reads the line
        engine, found, folder = new_engine(start), [], tmp_path / str(number)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        result, place = found
        print(place)  # shown where the test fails
        assert isinstance(result, (error, pandas.DataFrame))
        check(result, engine, folder, wanted(method))
        check_going_on(method, start, folder, wanted(method))


@pytest.mark.parametrize("method", LOOPS)
def test_without_a_run_folder_weights_and_table_agree(start, wanted, handler, method):
    """Every update, every log and every call of on_step, interrupted from inside."""
    wanted(method)  # before anything is patched
    for name, calls in {"apply_update": 4, "step_row": 2, "sample_batch": 2, "accumulate": 4}.items():
        for call in range(1, calls + 1):
            for after in (False, True):
                counted, engine = itertools.count(1), new_engine(start)
                with pytest.MonkeyPatch.context() as patched:
                    original = getattr(session, name)

                    def interrupted(*arguments, **options):
                        last = next(counted) == call
                        if last and not after:
                            raise KeyboardInterrupt
                        result = original(*arguments, **options)
                        if last:
                            raise KeyboardInterrupt
                        return result

                    patched.setattr(session, name, interrupted)
                    table = train(method, engine, None)
                steps = check(table, engine, None, wanted(method))
                assert steps < STEPS or next(counted) <= call + 1  # SFT has half as many updates


def test_the_first_press_finishes_the_step_and_the_second_drops_it(start, wanted, handler):
    wanted("grpo")  # before anything is patched
    for presses, finished in ((1, 1), (2, 0)):
        engine, update, sent = new_engine(start), session.apply_update, []

        def pressed(*arguments):
            while len(sent) < presses:
                sent.append(signal.raise_signal(signal.SIGINT))
            return update(*arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(session, "apply_update", pressed)
            table = train("grpo", engine, None)
        assert len(table) == check(table, engine, None, wanted("grpo")) == finished


def test_a_press_while_sampling_acts_at_once(start, wanted, handler, monkeypatch):
    wanted("sdpo")  # before anything is patched
    sample, after = session.sample_batch, []

    def pressed(*arguments):
        signal.raise_signal(signal.SIGINT)
        after.append(sample(*arguments))

    monkeypatch.setattr(session, "sample_batch", pressed)
    engine = new_engine(start)
    table = train("sdpo", engine, None)
    assert not after and check(table, engine, None, wanted("sdpo")) == 0


def test_a_press_in_the_last_step_is_told(start, wanted, handler, monkeypatch):
    wanted("grpo")  # before anything is patched
    log_row = session.step_row

    def pressed(config, step, *rest, **options):
        if step == STEPS - 1:
            signal.raise_signal(signal.SIGINT)
        return log_row(config, step, *rest, **options)

    monkeypatch.setattr(session, "step_row", pressed)
    engine = new_engine(start)
    table = train("grpo", engine, None)
    assert check(table, engine, None, wanted("grpo")) == STEPS and table.attrs["stopped"]


@pytest.mark.parametrize("method", LOOPS)
def test_the_stop_button_leaves_whole_steps(start, wanted, tmp_path, method):
    """`LiveBoard.update` raises KeyboardInterrupt once its button is pressed."""
    engine, board = new_engine(start), LiveBoard(("reward",), show=lambda view: None)
    board._stop = SimpleNamespace(pressed=threading.Event(), close=lambda: None)
    board._stop.pressed.set()
    table = train(method, engine, tmp_path / "run", on_step=board.update)
    assert check(table, engine, tmp_path / "run", wanted(method)) == 1 == len(board.rows)
    check_going_on(method, start, tmp_path / "run", wanted(method))


class Interrupted:
    """A file whose n-th write is cut off by an exception, as Ctrl-C does off the main thread."""

    def __init__(self, file, at: int):
        self.file, self.left = file, itertools.count(1)
        self.at = at

    def write(self, data):
        if next(self.left) == self.at:
            raise KeyboardInterrupt
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("at", [1, 2, 5, 20])
def test_an_interrupt_inside_torch_save_is_an_interrupt(start, wanted, tmp_path, monkeypatch, at):
    """torch reports it as a RuntimeError of its own."""
    wanted("sdpo")  # before anything is patched
    save, calls = torch.save, itertools.count()

    def interrupted(content, file):
        save(content, Interrupted(file, at) if next(calls) == 2 else file)  # of the second step

    monkeypatch.setattr(torch, "save", interrupted)
    engine, folder = new_engine(start), tmp_path / "run"
    table = train("sdpo", engine, folder)
    assert check(table, engine, folder, wanted("sdpo")) == 1 == len(table)
    check_going_on("sdpo", start, folder, wanted("sdpo"))


def test_signals_at_random_times(start, wanted, handler, tmp_path):
    """Real ones, from another thread, while the main thread trains; until the run is finished."""
    rng, folder, lives = random.Random(0), tmp_path / "run", itertools.count()
    began = time.perf_counter()
    train("sdpo", new_engine(start), tmp_path / "whole")
    seconds = time.perf_counter() - began
    while not isinstance(result := None, pandas.DataFrame):
        life, engine = next(lives), new_engine(start)
        timer = threading.Timer(rng.uniform(0, seconds), signal.raise_signal, (signal.SIGINT,))
        try:
            timer.start()
            result = train("sdpo", engine, folder)
            timer.cancel()
            timer.join()
        except KeyboardInterrupt:
            result = KeyboardInterrupt()
        steps = check(result, engine, folder, wanted("sdpo"))
        if steps == STEPS or life == 40:
            break
    check_going_on("sdpo", start, folder, wanted("sdpo"))


def test_between_two_checkpoints_a_stop_keeps_what_is_finished(start, wanted, tmp_path):
    def stop(row):
        raise KeyboardInterrupt

    engine, folder = new_engine(start), tmp_path / "run"
    table = train("sdpo", engine, folder, save_every=2, on_step=stop)
    assert check(table, engine, folder, wanted("sdpo")) == 1
    check_going_on("sdpo", start, folder, wanted("sdpo"))


def test_a_loss_that_is_not_finite_drops_the_whole_step(start, wanted, tmp_path, monkeypatch):
    """In the second minibatch of the second step, after the first has moved the weights."""
    wanted("grpo")  # before anything is patched
    update, calls = session.apply_update, itertools.count(1)

    def poisoned(model, optimizer, config, step, loss):
        return update(model, optimizer, config, step, float("nan") if next(calls) == 4 else loss)

    monkeypatch.setattr(session, "apply_update", poisoned)
    engine, folder = new_engine(start), tmp_path / "run"
    error = train("grpo", engine, folder)
    assert isinstance(error, SdlabError) and "step 1: loss nan" in str(error)
    assert check(error, engine, folder, wanted("grpo")) == 1
    monkeypatch.undo()


def test_a_full_disk_drops_the_step_and_its_rows(start, wanted, tmp_path, monkeypatch):
    wanted("grpo")  # before anything is patched
    save, calls = torch.save, itertools.count()

    def full(content, file):
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    engine, folder = new_engine(start), tmp_path / "run"
    error = train("grpo", engine, folder)
    assert isinstance(error, SdlabError) and "No space left on device" in str(error)
    assert check(error, engine, folder, wanted("grpo")) == 1 == len(load_run(folder).steps)


def test_a_loop_that_leaves_a_step_unfinished_is_told(start):
    engine = new_engine(start)
    before = weights(engine)
    with (
        pytest.raises(SdlabError, match="step 0 was not finished; call session.finish_step"),
        session.Session(engine, CONFIGS["grpo"]) as training,
    ):
        for _ in training.steps():
            with torch.no_grad():
                engine.model.model.norm.weight.zero_()
    assert same(weights(engine), before)


# Holding interrupts back


def test_held_presses_act_at_the_end_once(handler):
    done = []
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("the block")
        done.append("after it")
    assert done == ["the block"]


def test_inside_another_hold_a_press_waits_for_the_outer_end(handler):
    done = []
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
            done.append("between")
        done.append("after")
    assert done == ["between"]


def test_a_sealed_function_is_not_left_by_a_press_that_an_inner_hold_hands_on(handler):
    done = []

    def ending():
        for _ in range(3):
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
        done.append("ended")

    hold = HeldInterrupts(presses=1, sealed=(ending.__code__,))
    with pytest.raises(KeyboardInterrupt), hold:
        ending()
    assert done == ["ended"]


def test_an_error_inside_is_not_hidden_by_a_press(handler):
    with pytest.raises(ArithmeticError), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise ArithmeticError


def test_a_handler_of_ones_own_is_called_when_the_hold_is_over():
    calls = []
    before = signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    try:
        with HeldInterrupts(presses=1) as hold:
            signal.raise_signal(signal.SIGINT)
            assert not calls
            signal.raise_signal(signal.SIGINT)
            assert calls == [signal.SIGINT]
            hold.held = False
            signal.raise_signal(signal.SIGINT)
            assert len(calls) == 2
        assert len(calls) == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
