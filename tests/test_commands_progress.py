"""Progress of commands: lines in a log, bars on a terminal, and nothing on stdout."""

import pytest

from sdlab import cli
from sdlab.commands import progress, train
from sdlab.commands.progress import LineProgress, long_progress
from sdlab.errors import SdlabError

CLEARED = "\x1b[2K"  # a terminal erases a line


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves: clock[0] is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def step(number: int) -> dict:
    return {"step": number, "reward": 0.25, "length": 31.0, "markers": 12.5}


def run_of(monkeypatch, work):
    """Let `sdlab train` call work(on_step) in place of a training."""

    class Finished:
        finished, steps = True, ()

    def trained(*_, on_step, **__):
        work(on_step)
        return Finished

    monkeypatch.setattr(train, "train", trained)


def test_training_without_a_terminal_prints_lines_now_and_then(monkeypatch, capsys, clock, tmp_path):
    def work(on_step):
        for number in range(40, 100):  # a resumed run: 5 seconds for each of 60 steps
            clock[0] += 5
            on_step(step(number))

    run_of(monkeypatch, work)
    command = ["train", "sdpo", "--output", str(tmp_path / "run"), "--steps", "100", "--no-alarm"]
    assert cli.main(command) == 0
    printed = capsys.readouterr()
    note = "score 0.25  length 31  markers 12.5"
    assert printed.out == f"wrote {tmp_path / 'run'}\n"
    lines = printed.err.splitlines()
    # at 10, 70, 130, 190, 250 seconds, and at the end
    assert [line.partition(",")[0] for line in lines] == [
        f"step: {number} of 100" for number in (42, 54, 66, 78, 90, 100)
    ]
    assert all(note in line for line in lines)
    # 5 seconds for each step that is left, not those of a run that began at step 0
    assert [line.partition("about ")[2] for line in lines] == [
        "5 min left", "4 min left", "3 min left", "2 min left", "50 s left", "",
    ]  # fmt: skip


def test_a_slow_first_step_has_a_line_without_a_guess_of_the_time(capsys, clock):
    board = LineProgress()
    clock[0] = 300.0
    board("step", 1, 100)
    board("step", 2, 100)
    assert capsys.readouterr() == ("", "step: 1 of 100\n")


def test_the_first_few_rows_of_many_give_no_estimate(capsys, clock):
    board = LineProgress()
    board("rows", 0, 384)
    for seconds, done in ((200.0, 3), (260.0, 49)):
        clock[0] = seconds
        board("rows", done, 384)
    assert capsys.readouterr().err.splitlines() == ["rows: 3 of 384", "rows: 49 of 384, about 30 min left"]


def test_short_work_prints_nothing_and_a_second_task_has_its_own_clock(capsys, clock):
    board = LineProgress()
    board("a", 0, 2)
    clock[0] = 9.0
    board("a", 2, 2)
    clock[0] = 12.0
    board("b", 0, 2)
    clock[0] = 21.0
    board("b", 1, 2)
    assert capsys.readouterr() == ("", "")
    clock[0] = 22.0
    board("b", 1, 2)
    board("b", 2, 2)
    board("b", 2, 2)
    assert capsys.readouterr().err.splitlines() == ["b: 1 of 2, about 10 s left", "b: 2 of 2"]


@pytest.mark.parametrize("terminal", [False, True])
def test_an_early_refusal_leaves_no_progress(monkeypatch, capsys, terminal, tmp_path):
    def work(on_step):
        on_step(step(0))
        raise SdlabError("the disk is full")

    run_of(monkeypatch, work)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    assert cli.main(["train", "grpo", "--output", str(tmp_path / "run"), "--no-alarm"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.endswith("sdlab: the disk is full\n")
    assert ("1/100" in printed.err) == terminal
    if terminal:
        assert CLEARED in printed.err.rpartition("1/100")[2]
    else:
        assert printed.err == "sdlab: the disk is full\n"


def test_a_refusal_before_the_first_step_is_the_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "run").write_text("a file")
    assert cli.main(["train", "grpo", "--output", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("sdlab: ") and printed.err.count("\n") == 1


def test_bars_stay_only_where_they_are_kept(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    for keep in (False, True):
        with long_progress(keep) as board:
            board("[b]name", 3, 3, "[a] note")
            board.tell("a [message]")
        printed = capsys.readouterr()
        assert printed.out == "" and "a [message]" in printed.err
        after = printed.err.rpartition("[b]name")[2]
        assert "3/3" in after and "[a] note" in after and (CLEARED not in after) == keep


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with long_progress() as board:
        assert isinstance(board, LineProgress)
