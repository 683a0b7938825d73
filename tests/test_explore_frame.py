"""The explorer in a notebook that nobody runs: completions of its models, and a link to the page."""

import pytest
from bs4 import BeautifulSoup

from sdlab.explore import frame
from sdlab.runs.checkpoints import list_checkpoints
from sdlab.world.splits import load_split


@pytest.mark.slow
def test_a_still_picture_has_a_completion_of_every_model_and_a_link(monkeypatch):
    monkeypatch.setenv("SDLAB_HEADLESS", "1")
    view = frame.explorer_view(load_split("in-domain", limit=1)[0])
    page = BeautifulSoup(view.html, "html.parser")
    titles = [title.get_text() for title in page.find_all("strong")]
    base = {entry.base for entry in list_checkpoints()}
    models = {entry.name for entry in list_checkpoints()} if len(base) == 1 else set()
    assert titles[0] == "base" and len(titles) in (1, 1 + len(models))
    assert page.find("a")["href"] == "explorer.html" and not page.find("iframe")
    assert "<think>" in page.get_text()


def test_a_reader_gets_a_frame(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(frame, "is_headless", lambda: False)
    monkeypatch.setattr(frame, "write_page", lambda path: (path.write_text("page"), path)[1])
    page = BeautifulSoup(frame.explorer_view(load_split("in-domain", limit=1)[0]).html, "html.parser")
    assert page.iframe["src"] == "explorer.html" and page.iframe["title"]
    assert (tmp_path / "explorer.html").read_text() == "page"
