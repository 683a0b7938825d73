"""A hub that cannot be reached: one line soon, and no wait where a request could succeed."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sdlab.errors import SdlabError
from sdlab.results.imported import import_rollouts
from sdlab.rollout import checks
from sdlab.rollout.loading import load_engine
from sdlab.scale.job import Job
from sdlab.scale.train import load_tokenizer
from sdlab.train.grpo import GRPOConfig

NAME = "some-org/some-model"


def set_hub(monkeypatch, port: int) -> None:
    """Set what HF_ENDPOINT sets when huggingface_hub is imported."""
    mirror, template = f"http://127.0.0.1:{port}", "{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", mirror)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"{mirror}/{template}")


@pytest.fixture
def pauses(monkeypatch, tmp_path):
    """An empty cache, a hub that refuses connections, and the pauses that the code under test made."""
    made = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    set_hub(monkeypatch, port)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", made.append)  # of huggingface_hub too
    return made


def test_a_hub_that_cannot_be_reached_is_one_line_after_three_seconds(pauses, capsys):
    with pytest.raises(SdlabError, match=r"'some-org/some-model' is not .* hub cannot be reached") as caught:
        load_engine(NAME)
    assert "http://127.0.0.1:" in str(caught.value) and "\n" not in str(caught.value)
    assert sum(pauses) <= 3 and capsys.readouterr() == ("", "")  # no lines about retries


def test_the_tokenizer_of_an_import_is_asked_for_in_the_same_way(pauses, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1+1?", "response": "\\\\boxed{2}", "answer": "2"}\n')
    with pytest.raises(SdlabError, match="hub cannot be reached"):
        import_rollouts([rows], output=tmp_path / "out", tokenizer=NAME)
    assert sum(pauses) <= 3


def test_a_job_with_a_model_of_the_hub_asks_in_the_same_way(pauses, tmp_path):
    job = Job("grpo", NAME, "train", GRPOConfig(), per_device_rows=8, output=str(tmp_path))
    with pytest.raises(SdlabError, match="hub cannot be reached"):
        load_tokenizer(job)
    assert sum(pauses) <= 3


def test_a_model_in_the_cache_needs_no_hub(pauses, tmp_path):
    place = tmp_path / "cache" / "models--some-org--some-model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    (place / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (place / "snapshots" / ("a" * 40) / "config.json").write_text("{}")
    checks.require_hub(NAME)
    assert pauses == []


@pytest.mark.parametrize("status", [200, 401, 404, 503])
def test_any_answer_of_a_mirror_is_left_to_the_download(pauses, monkeypatch, status):
    asked = []

    class Mirror(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        set_hub(monkeypatch, server.server_port)
        checks.require_hub(NAME)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == ["/some-org/some-model/resolve/main/config.json"] and pauses == []


def test_a_connection_that_comes_back_is_used(pauses, monkeypatch):
    class ConnectError(Exception):
        pass

    answers = [ConnectError("no route"), ConnectError("no route"), None]

    def head(url):
        if error := answers.pop(0):
            raise error

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", head)
    checks.require_hub(NAME)
    assert answers == [] and sum(pauses) == 3
