"""The leaderboard: ranks on fixed tables, and submissions from file to rank.

Slow: those that start submissions' processes, 20 in all, each of which imports torch (about 4 s of processor
time each).
"""

import csv
import io
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE
from rich.console import Console

from sdlab.commands.leaderboard import rank_submissions, ranks_table
from sdlab.errors import SdlabError
from sdlab.labs import leaderboard as board
from sdlab.labs.leaderboard import UNTRAINED, Budget, hidden_problems, leaderboard, training_seeds
from sdlab.labs.ranking import Entry, rank
from sdlab.labs.sandbox import bubblewrap
from sdlab.labs.sandbox.training import train
from sdlab.measure.evaluation import evaluate
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import SamplingParams
from sdlab.seeds import stable_int
from sdlab.train.config import TrainConfig
from sdlab.world.splits import load_split

SOURCES = Path(__file__).parents[1] / "notebooks" / "labs" / "source"


WAVE = np.sin(np.arange(120)).reshape(
    3, 40
)  # three seeds, forty problems; means of rolled waves differ by chance only


def entry(score, tokens, k):
    return score + np.roll(WAVE, k, 1), tokens + 5 * np.roll(WAVE, k, 1)


def test_ranks_by_score_then_by_tokens_with_ties():
    table = {
        "long": entry(9, 100, 0),
        "long, too": entry(9.01, 100, 7),
        "short": entry(8.99, 50, 3),
        "low": entry(5, 10, 1),
        "lower": entry(4, 1, 2),
    }
    assert rank(table) == {"short": 1, "long": 2, "long, too": 2, "low": 4, "lower": 5}
    assert rank(dict(reversed(table.items()))) == rank(table)
    assert rank({}) == {} and rank({"alone": entry(1, 1, 0)}) == {"alone": 1}


def test_a_tie_is_with_the_first_of_its_group_not_a_chain():
    table = {
        name: (score + WAVE * 0 + np.roll(WAVE, k, 1), np.ones((3, 40)))
        for k, (name, score) in enumerate({"a": 0.42, "b": 0.28, "c": 0.14, "d": 0.0}.items())
    }
    assert rank(table) == {"a": 1, "b": 1, "c": 3, "d": 3}  # a chain of neighbours would tie all four


def test_two_equal_seeds_are_no_measurement_of_a_spread():
    assert rank({"a": (np.ones((2, 9)), np.ones((2, 9))), "b": (np.zeros((2, 9)), np.zeros((2, 9)))}) == {
        "a": 1,
        "b": 1,
    }


@pytest.mark.parametrize("split", [*board.OUT_OF_DISTRIBUTION, *board.IN_DOMAIN])
def test_hidden_problems_are_a_secret_s_own_and_in_no_named_split(split):
    mine, again, other = (hidden_problems(split, 40, secret) for secret in ("plum", "plum", "pear"))
    assert mine == again and len({problem.id for problem in mine}) == 40
    assert {problem.prompt for problem in mine} != {problem.prompt for problem in other}
    for named in ("train", *board.OUT_OF_DISTRIBUTION, *board.IN_DOMAIN):
        assert not {problem.prompt for problem in mine} & {problem.prompt for problem in load_split(named)}
    assert {problem.split for problem in mine} == {split}


def test_training_seeds_are_a_secret_s_own_and_never_the_named_split():
    pairs = training_seeds(50, "plum")
    assert pairs == training_seeds(50, "plum") != training_seeds(50, "pear") and len(set(pairs)) == 50
    assert {split_seed for _, split_seed in pairs} <= set(range(1, 16))


SMALL = TrainConfig(steps=1, num_problems=4, num_generations=2, max_completion_length=40, warmup_steps=0)
BUDGET = Budget(SMALL, seeds=1, problems=2, generations=1, timeout=PATIENCE, model="organism-small")
TASK = {"model": "organism-small", "config": asdict(SMALL), "seeds": training_seeds(1, "plum")}


def test_the_board_is_readable_at_80_columns():
    name = "a_submission_with_a_very_long_name_and_[brackets]"
    tables = {"score": 4 * WAVE**2 / 2, "tokens": 3000 + 100 * WAVE, "in_domain": 4 * WAVE**2}
    ranked = [(1, Entry(name, **tables, generations=4)), (1, Entry("b", **tables, generations=4))]
    ranked.append((3, Entry("c", reason="took long " * 20)))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(ranks_table(ranked))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80 and sum(line.lstrip().startswith("1=") for line in lines) == 2
    first = next(line for line in lines if line.lstrip().startswith("1="))
    assert all(str(ranked[0][1].interval(what)) in first for what in tables)  # no interval is broken
    more = lines[lines.index(first) + 1 :]
    assert "".join([first.split()[1], *(line.strip() for line in more[:2])]).startswith(name)


@pytest.mark.slow
def test_submissions_from_file_to_rank(tmp_path, capsys, monkeypatch):
    """Two that work (one is lab 4's own notebook) and two that do not."""
    good, lazy, missing = tmp_path / "good.py", tmp_path / "[lazy].py", tmp_path / "missing.py"
    good.write_text(
        "import os\nfrom sdlab.train.repairs.controls import mix\nassert 'SDLAB_LEADERBOARD_SECRET' not in "
        "os.environ\nrepair = mix(0.5)\n"
    )
    lazy.write_text("print('1.0')\nrepair = 3\n")
    monkeypatch.setenv("SDLAB_LEADERBOARD_SECRET", "plum")
    output = tmp_path / "out" / "leaderboard.csv"
    files = [good, SOURCES / "lab4_repair_it.ipynb", lazy, missing]
    assert rank_submissions(files, None, BUDGET, output, jobs=2) == 1
    with open(output, newline="") as file:
        rows = {row["submission"]: row for row in csv.DictReader(file)}
    assert set(rows) == {
        "good",
        "lab4_repair_it",
        "[lazy]",
        "missing",
        "SDPO (reference)",
        "GRPO (reference)",
        UNTRAINED,
    }
    assert rows["[lazy]"]["rank"] == rows["missing"]["rank"] == "6"
    assert (
        "no `repair`" in rows["[lazy]"]["note"]
        and "No such file" in rows["missing"]["note"]
        and rows["[lazy]"]["score"] == ""
    )
    for name in ("good", "lab4_repair_it", "SDPO (reference)", "GRPO (reference)", UNTRAINED):
        assert rows[name]["rank"] == "1" and rows[name]["note"] == "tied", rows[
            name
        ]  # one seed decides nothing
        assert 0 <= float(rows[name]["score"]) <= 1 and 0 < float(rows[name]["tokens"]) <= 40
    said = capsys.readouterr().out
    assert "[lazy]" in said and "tied" in said


REPAIR = "from sdlab.train.repairs.hooks import Repair\nfrom sdlab.train.repairs.controls import mix\n"
# What it hands in, and what is said about it (one of two: without Landlock, bubblewrap shows no other's
# folder).
BAD = {
    "eats_memory": ("hog = bytearray(60 << 30)", "needs more than 4 GiB of memory (memory limit)"),
    "prints": ("while True: print('x' * 100_000)", "printed more than 20 MB"),
    "raises": ("raise ValueError('no idea')", "ValueError: no idea"),
    "exits": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "ends_its_process": ("import os; os._exit(3)", "its process ended with status 3"),
    "steals": (
        "import os\nfor other in os.listdir('..'): os.symlink(f'../{other}/0.safetensors', "
        "'0.safetensors'); "
        "os._exit(0)",
        ("PermissionError", "its process ended before it was trained"),
    ),
    "links": (
        "import os; os.symlink('/etc/hostname', '0.safetensors'); os._exit(0)",
        "its process ended before it was trained",
    ),
    "overwrites_others": (
        "import pathlib\nfor other in pathlib.Path('..').resolve().iterdir(): (other / "
        "'0.safetensors').write_bytes(b'')",
        ("PermissionError", "defines no `repair`"),
    ),
    "gives_nan": (
        REPAIR + "repair = Repair('mine', weights=lambda signals, state: (signals.old * float('nan'), None))",
        "repair 'mine': weights (distil) gave numbers that are not finite",
    ),
    "wrong_shape": (
        REPAIR + "repair = Repair('mine', weights=lambda signals, state: (signals.old[:2], None))",
        "repair 'mine': weights (distil) gave shape (2,",
    ),
}
NEEDS = {"steals": "files", "overwrites_others": "files"}  # what has to be closed off


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A board of all of BAD, one that calls home, one that deletes its folder and a good one, with its folder
    and who called.
    """
    folder = tmp_path_factory.mktemp("mixed")
    for name, (source, _) in BAD.items():
        (folder / f"{name}.py").write_text(source)
    (folder / "good.py").write_text(REPAIR + "repair = mix(0.5)")
    (folder / "deletes.py").write_text(
        REPAIR + "import os, shutil; shutil.rmtree(os.getcwd(), ignore_errors=True)\nrepair = mix(0.5)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        (folder / "calls_home.py").write_text(
            f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        )
        ranked = leaderboard(sorted(folder.glob("*.py")), "plum", BUDGET, jobs=2, kept=folder / "kept")
        try:
            server.accept()
            called = True
        except TimeoutError:
            called = False
    return folder, {entry.name: (place, entry) for place, entry in ranked}, called


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_submission_that_misbehaves_is_stopped_and_reported_in_one_line(mixed, name):
    entry = mixed[1][name][1]
    if NEEDS.get(name) not in (None, *entry.closed_off):
        pytest.skip(
            "files are not closed off here: a submission's folder is not protected; run the board in a "
            "container"
        )
    reasons = BAD[name][1] if isinstance(BAD[name][1], tuple) else (BAD[name][1],)
    assert any(reason in entry.reason for reason in reasons), entry.reason
    assert "\n" not in entry.reason and entry.score is None


@pytest.mark.slow
def test_the_network_is_out_of_reach(mixed):
    _, entries, called = mixed
    assert not called and "Error" in entries["calls_home"][1].reason


@pytest.mark.slow
def test_a_submission_is_closed_off_as_far_as_this_machine_allows(mixed):
    code = "print(*enter_namespaces() | restrict_files(Path.cwd(), [], []))"
    command = [sys.executable, "-c", f"from sdlab.labs.sandbox.isolation import *; {code}"]
    kernel = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    possible = {*kernel, *(bubblewrap.CLOSED_OFF if not bubblewrap.find()[1] else ())}
    trained = {name: entry for name, (_, entry) in mixed[1].items() if name != UNTRAINED}
    assert {name: set(entry.closed_off) for name, entry in trained.items()} == dict.fromkeys(
        trained, possible
    )


@pytest.mark.slow
def test_bad_submissions_lose_nobody_else_s_results_and_share_the_last_rank(mixed):
    _, entries, _ = mixed
    judged = {name for name, (_, entry) in entries.items() if not entry.reason}
    certain = {"good", "SDPO (reference)", "GRPO (reference)", UNTRAINED}
    assert certain <= judged <= certain | {"deletes"}
    assert {place for name, (place, _) in entries.items() if name not in judged} == {len(judged) + 1}
    assert all(entries[name][0] == 1 and entries[name][1].score.shape == (1, 4) for name in judged)


@pytest.mark.slow
def test_the_untrained_model_is_judged_on_the_hidden_problems(mixed):
    entry, engine = mixed[1][UNTRAINED][1], load_engine(BUDGET.model)
    right = []
    for split in ("unseen-types", "deeper"):
        seed = stable_int("leaderboard", "plum", "evaluation", 0, split)
        params = SamplingParams(1, SMALL.max_completion_length, 1.0, seed=seed)
        right += evaluate(engine, hidden_problems(split, 2, "plum"), params)["reward"].tolist()
    assert entry.score.tolist() == [right] and entry.generations == 1 and not entry.reason


@pytest.mark.slow
def test_a_board_run_again_trains_only_what_has_no_result(mixed, tmp_path, monkeypatch):
    folder, entries, _ = mixed
    asked, last = [], {"secret": "plum", "budget": BUDGET, "kept": folder / "kept"}
    monkeypatch.setattr(
        board,
        "train",
        lambda source, *_, **__: (asked.append(getattr(source, "stem", source)), ("again", ()))[1],
    )

    def again(**changed):
        asked.clear()
        settings = last | changed
        return {
            entry.name: entry
            for _, entry in leaderboard(files, settings["secret"], settings["budget"], kept=settings["kept"])
        }

    (tmp_path / "renamed.py").write_text((folder / "good.py").read_text())
    files = [tmp_path / "renamed.py", folder / "raises.py"]
    found = again(budget=replace(BUDGET, timeout=2 * PATIENCE))  # more time changes no result
    assert asked == ["raises"] and found["raises"].reason == "again"
    for name, before in (("renamed", "good"), ("SDPO (reference)",) * 2, ("GRPO (reference)",) * 2):
        assert all(
            np.array_equal(getattr(found[name], what), getattr(entries[before][1], what))
            for what in ("score", "tokens", "in_domain")
        )
    (tmp_path / "renamed.py").write_text((folder / "good.py").read_text() + "  # another content")
    again()
    assert asked == ["renamed", "raises"]
    again(secret="pear")
    assert len(asked) == 4
    again(budget=replace(BUDGET, problems=3))
    assert len(asked) == 4
    for file in (folder / "kept").iterdir():
        file.write_bytes(file.read_bytes()[:100])  # damaged
    again()
    assert len(asked) == 4


@pytest.mark.slow
def test_one_that_loops_is_stopped_when_its_time_is_over(tmp_path):
    (tmp_path / "bad.py").write_text("while True: pass")
    assert (
        train(tmp_path / "bad.py", tmp_path / "place", TASK, timeout=8, memory_gb=4)[0]
        == "stopped after 8 s (time limit)"
    )


@pytest.mark.slow
def test_an_interrupted_board_stops_what_runs(tmp_path):
    (tmp_path / "bad.py").write_text("while True: pass")
    stop = threading.Event()
    threading.Timer(1, stop.set).start()
    assert (
        train(tmp_path / "bad.py", tmp_path / "place", TASK, timeout=PATIENCE, memory_gb=4, stop=stop)[0]
        == "interrupted"
    )
    judged = []

    def enough(entry):
        judged.append(entry.reason)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # at once: the second would take until its time is over
        leaderboard([tmp_path / "x.txt", tmp_path / "bad.py"], "plum", BUDGET, on_done=enough)
    assert judged == ["x.txt is neither a Python file nor a notebook"]


def test_weights_that_are_none_are_not_judged(tmp_path):
    (tmp_path / "0.safetensors").write_bytes(b"no weights")
    assert "cannot be read" in board._evaluated("bad", tmp_path, "plum", BUDGET).reason


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(SdlabError, match="no submissions"):
        leaderboard([], "plum", BUDGET)
    with pytest.raises(SdlabError, match="secret"):
        leaderboard([tmp_path / "a.py"], "", BUDGET)
    with pytest.raises(SdlabError, match="seeds=0"):
        Budget(seeds=0)


def test_a_folder_in_place_of_the_table_is_refused_before_the_training(tmp_path):
    for place in (tmp_path, Path(".")):
        with pytest.raises(SdlabError, match="is a folder; name the csv file"):
            rank_submissions([tmp_path / "good.py"], "plum", BUDGET, place, jobs=1)
    assert list(tmp_path.iterdir()) == []
