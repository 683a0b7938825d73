"""Progress bars, with a clock that the test turns."""

import pytest

from sdlab.show.progress import Board, is_headless


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def board():
    clock, views = Clock(), []
    made = Board("sampling <b>", "rows", clock=clock, surface="notebook", show=views.append)
    return made, clock, views


def test_draws_at_most_every_interval_and_always_the_end(board):
    made, clock, views = board
    for done in range(101):
        made(done, 100)
        clock.now += 0.01
    assert 5 <= len(views) <= 8  # one second in steps of 0.2 s, first and last included
    assert views[-1].text == "sampling <b>: 100 of 100 rows in 1.0 s, 100 rows/s"
    assert "progressbar" not in views[-1].html and "progressbar" in views[0].html


def test_bar_is_labelled_and_escaped(board):
    made, clock, views = board
    made(0, 4)
    clock.now += 1
    made(1, 4)
    html = views[-1].html
    assert "aria-label='sampling &lt;b&gt;'" in html and "aria-valuenow='1'" in html and "width:25.0%" in html
    assert "<b>" not in html


def test_a_task_that_reports_only_at_its_end_has_taken_its_time(board):
    made, clock, _ = board
    with made:
        clock.now += 3
        made(96, 96)
    assert made.seconds == 3 and "96 of 96 rows in 3.0 s" in made.words


def test_a_second_stage_starts_a_new_clock(board):
    made, clock, views = board
    made(0, 10)
    clock.now += 50
    made(10, 10)
    made(0, 2)
    clock.now += 1
    made(2, 2)
    assert views[-1].text.endswith("2 of 2 rows in 1.0 s, 2 rows/s")


def test_close_draws_what_an_interrupt_left(board):
    made, clock, views = board
    with pytest.raises(KeyboardInterrupt), made:
        made(0, 10)
        clock.now += 0.1
        made(3, 10)  # too early to be drawn
        raise KeyboardInterrupt
    assert "3 of 10" in views[-1].text and "progressbar" not in views[-1].html


def test_unknown_total_and_no_calls(board):
    made, _, views = board
    made.close()
    assert views == []
    made(5, 0)
    assert "5 rows" in views[-1].text


def test_terminal_leaves_one_line(capsys):
    clock = Clock()
    made = Board("sampling", "rows", clock=clock, surface="terminal")
    made(0, 8)
    clock.now += 2
    made(8, 8)
    assert "sampling: 8 of 8 rows in 2.0 s, 4 rows/s" in capsys.readouterr().err


def test_no_surface_is_silent(capsys):
    made = Board("sampling", surface="none")
    made(8, 8)
    assert capsys.readouterr() == ("", "")


def test_headless_without_a_kernel_and_by_request(monkeypatch):
    assert is_headless()  # pytest is no notebook
    monkeypatch.setattr("sdlab.show.progress.in_notebook", lambda: True)
    monkeypatch.delenv("SDLAB_HEADLESS", raising=False)
    assert not is_headless()
    monkeypatch.setenv("SDLAB_HEADLESS", "0")
    assert not is_headless()
    monkeypatch.setenv("SDLAB_HEADLESS", "1")
    assert is_headless()
