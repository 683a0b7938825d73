"""A hub that cannot be reached: one line soon, and no wait where a request could succeed."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sdlab import hub
from sdlab.benchmarks.load import load_benchmark
from sdlab.benchmarks.problems import load_problems
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

    def head(url, timeout):
        if error := answers.pop(0):
            raise error

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", head)
    checks.require_hub(NAME)
    assert answers == [] and sum(pauses) == 3


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return datasets


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (lambda: load_problems("some-org/sums"), "no file some-org/sums, .*check the name"),
        (lambda: load_benchmark("aime25"), "aime25 is not on this machine, .*source="),
        (lambda: load_benchmark("livecodebench-v6"), "livecodebench-v6 is not on .*source="),
    ],
)
def test_a_data_set_without_a_hub_is_one_line_after_three_seconds(pauses, datasets, load, words):
    with pytest.raises(SdlabError, match=words) as caught:
        load()
    assert "(http://127.0.0.1:" in str(caught.value) and "cannot be reached: " in str(caught.value)
    assert sum(pauses) <= 3 and "\n" not in str(caught.value)
    assert not datasets.config.HF_HUB_OFFLINE  # the next call asks the hub again


def test_a_data_set_in_the_cache_needs_no_hub(pauses, datasets, tmp_path):
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(3)]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "sums" / "train.parquet")
    made = datasets.load_dataset(str(tmp_path / "sums"), split="train")
    (file,) = made.cache_files
    # the place where the library looks for a data set of the hub that it has read before
    place = tmp_path / "datasets" / "some-org___sums" / "default" / "0.0.0" / ("a" * 40)
    place.parent.mkdir(parents=True)
    Path(file["filename"]).parent.rename(place)
    (arrow,) = place.glob("*.arrow")
    arrow.rename(place / "sums-train.arrow")
    assert [problem.answer for problem in load_problems("some-org/sums:train")] == ["1", "2", "3"]
    assert sum(pauses) <= 3


def test_dropped_packets_are_recognised(pauses, monkeypatch):
    """A queue of connections that is full: the system drops the packets of another one."""
    monkeypatch.setattr(hub, "CONNECT", 0.3)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        set_hub(monkeypatch, server.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(SdlabError, match="cannot be reached .*no connection within 0.3 seconds"):
            checks.require_hub(NAME)
        assert time.monotonic() - began < 5 and pauses == []
        for one in waiting:
            one.close()


def test_a_silent_name_server_ends_the_wait(pauses, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: released.wait(30))
    monkeypatch.setattr(hub, "LONGEST", 0.2)
    with pytest.raises(SdlabError, match="no connection within 0.2 seconds"):
        checks.require_hub(NAME)
    released.set()
