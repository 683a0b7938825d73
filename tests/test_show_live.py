"""Live boards: with a clock that the test turns, and in a real kernel whose front end the test plays."""

import os
import time

import pytest
from patience import PATIENCE

from sdlab.show import LiveBoard


def test_live_board_throttles_and_shows_the_last_row():
    now, views = [100.0], []
    with LiveBoard(("reward", "length"), title="GRPO", clock=lambda: now[0], show=views.append) as made:
        for step in range(25):
            made.update({"step": step, "reward": 0.4 + 0.01 * step, "length": 70.0})
            now[0] += 0.1
    assert 3 <= len(views) <= 5
    assert views[-1].text == "GRPO, step 24: score 0.64, length (tokens) 70"
    assert "<object" in views[-1].html and len(made.rows) == 25
    made.close()
    assert len(views) <= 5  # nothing pending


def test_a_board_that_knows_its_end_counts_the_steps_and_draws_the_untrained_model():
    views = []
    board = LiveBoard(("reward",), title="GRPO", steps=40, baseline={"reward": 0.25}, show=views.append)
    board.update({"step": 2, "reward": 0.5})
    assert views[-1].text == "GRPO, step 3 of 40: score 0.50"
    assert "untrained 0.25" in views[-1].html
    board.is_stopped = True
    assert board.view().text.startswith("GRPO, step 3 of 40, stopped by you here: ")


def test_the_title_of_a_board_says_how_its_first_measure_has_moved():
    board = LiveBoard(("reward", "length"), title="SDPO", show=lambda view: None)
    board.update({"step": 0, "length": 70.0})
    assert "SDPO: length (tokens) 70" in board.view().html
    board.update({"step": 1, "reward": 0.7, "length": 60.0})
    board.update({"step": 2, "reward": 0.2, "length": 40.0})
    assert "SDPO: score 0.70 at the first step, 0.20 now" in board.view().html


def test_live_board_with_none_of_its_columns_says_so_in_words():
    views = []
    LiveBoard(("reward",), show=views.append).update({"step": 1})
    assert views[0].text.startswith("Training, step 1")


def test_a_live_board_outside_a_notebook_has_no_button():
    board = LiveBoard(("reward",))
    for step in range(3):
        board.update({"step": step, "reward": 0.5})
    assert board._stop is None and len(board.rows) == 3


STEPS = """
import time
from sdlab.show import LiveBoard
board = LiveBoard(("reward",), title="GRPO", interval=1e9)
try:
    for step in range({steps}):
        time.sleep(.05)
        board.update({{"step": step, "reward": .5}})
except KeyboardInterrupt:
    print("stopped,", end=" ")
print("rows:", len(board.rows))
"""


class FrontEnd:
    """What JupyterLab does for a button, message by message. `seen`: what the kernel published, in order."""

    def __init__(self, client):
        self.client, self.seen, self.subshell = client, [], None

    def run(self, code: str, **metadata) -> None:
        self.seen, request = (
            [],
            self.client.session.msg("execute_request", {"code": code, "silent": False}, metadata=metadata),
        )
        self.request = request["header"]["msg_id"]
        self.client.shell_channel.send(request)

    def open_subshell(self) -> None:
        self.client.control_channel.send(self.client.session.msg("create_subshell_request", {}))
        self.subshell = self.client.control_channel.get_msg(timeout=PATIENCE)["content"]["subshell_id"]

    def tell(self, comm: str, data: dict, subshell: str | None) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)

    def until(self, wanted, seconds: float = PATIENCE) -> dict:
        """The next message for which `wanted(type, content)` holds. Of states only the cell's count."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.client.get_iopub_msg(timeout=seconds)
            if message["msg_type"] == "status" and message["parent_header"].get("msg_id") != self.request:
                continue
            self.seen.append((message["msg_type"], message["content"]))
            if wanted(*self.seen[-1]):
                return message["content"]
        raise AssertionError(f"not published within {seconds} s; seen {[kind for kind, _ in self.seen]}")

    def until_done(self) -> str:
        """What the cell printed."""
        self.until(lambda kind, content: kind == "status" and content["execution_state"] == "idle")
        return "".join(content["text"] for kind, content in self.seen if kind == "stream")

    def button(self) -> tuple[str, str]:
        """The ids of the button's and its layout's comm, once it is on the page."""
        shown = self.until(
            lambda kind, content: (
                kind == "display_data" and "application/vnd.jupyter.widget-view+json" in content["data"]
            )
        )
        button = shown["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
        return button, self.opened()[button]["layout"].removeprefix("IPY_MODEL_")

    def opened(self) -> dict:
        return {
            content["comm_id"]: content["data"]["state"] for kind, content in self.seen if kind == "comm_open"
        }

    def closed(self) -> set:
        return {content["comm_id"] for kind, content in self.seen if kind == "comm_close"}

    def revealed(self, layout: str) -> list:
        return [
            content
            for kind, content in self.seen
            if kind == "comm_msg"
            and content["comm_id"] == layout
            and content["data"]["state"].get("display") == "inline-block"
        ]


@pytest.fixture(scope="module")
def front_end():
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(env=os.environ | {"SDLAB_HEADLESS": ""})
    try:
        yield FrontEnd(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_press_that_comes_through_a_subshell_ends_the_running_cell(front_end):
    front_end.run(STEPS.format(steps=1000), cellId="one")
    button, layout = front_end.button()
    assert (
        front_end.opened()[button]["description"] == "Stop after this step"
        and front_end.opened()[layout]["display"] == "none"
    )
    front_end.open_subshell()
    front_end.tell(button, {"method": "update", "state": {"_view_count": 1}}, front_end.subshell)
    front_end.until(lambda kind, content: bool(front_end.revealed(layout)))
    front_end.tell(button, {"method": "custom", "content": {"event": "click"}}, front_end.subshell)
    printed = front_end.until_done()
    rows = int(printed.split()[-1])
    assert printed == f"stopped, rows: {rows}\n" and 2 <= rows < 1000
    blanks = [
        content
        for kind, content in front_end.seen
        if kind == "update_display_data" and content["data"] == {"text/plain": ""}
    ]
    assert len(blanks) == 2 and front_end.closed() == set(front_end.opened())  # nothing of the button is left


def test_a_page_that_is_heard_only_between_cells_never_shows_a_button(front_end):
    front_end.run(STEPS.format(steps=20), cellId="two")
    button, layout = front_end.button()
    style = front_end.opened()[button]["style"].removeprefix("IPY_MODEL_")
    front_end.tell(
        button, {"method": "update", "state": {"_view_count": 1}}, None
    )  # waits until the main thread is free
    assert front_end.until_done() == "rows: 20\n"
    front_end.run("print('later')", cellId="three")
    assert front_end.until_done() == "later\n" and not front_end.revealed(layout)
    assert front_end.closed() == {button, layout, style}


def test_a_cell_that_nobody_watches_has_no_button(front_end):
    front_end.run(STEPS.format(steps=20))  # nbclient names no cell
    assert front_end.until_done() == "rows: 20\n" and not front_end.opened()
    front_end.run("import os; os.environ['SDLAB_HEADLESS'] = '1'")
    front_end.until_done()
    front_end.run(STEPS.format(steps=20), cellId="four")
    assert front_end.until_done() == "rows: 20\n" and not front_end.opened()
