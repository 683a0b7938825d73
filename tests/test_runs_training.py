"""From a plan to a run folder: a killed training ends bit for bit as an uninterrupted one; recorded results
come back whole.
"""

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.runs.cell import run_cell
from sdlab.runs.loading import load_run
from sdlab.runs.sft_data import build_traces
from sdlab.runs.training import LAST_STEPS, Plan, train
from sdlab.study import conditions, reproduction
from sdlab.study.conditions import CONDITIONS, condition
from sdlab.study.rates import sweep_table
from sdlab.study.recorded import is_recorded, load_recorded
from sdlab.study.reproduction import pack
from sdlab.train.grpo import GRPOConfig
from sdlab.train.log import TIMED
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.sft import SFTConfig

SMALL = {"num_problems": 2, "num_generations": 2, "warmup_steps": 1, "max_completion_length": 128}
PLAN = Plan(
    eval_every=2,
    eval_problems=2,
    final_problems=2,
    num_eval_generations=1,
    eval_splits=("in-domain",),
    final_splits=("in-domain", "deeper"),
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(
        "sdpo",
        SDPOConfig(steps=6, teacher_model_kind="ema", **SMALL),
        tmp_path_factory.mktemp("sdpo") / "run",
        PLAN,
    )


def same(one, two):
    pandas.testing.assert_frame_equal(
        *(run.steps.drop(columns=[c for c in run.steps if c in TIMED]) for run in (one, two))
    )
    pandas.testing.assert_frame_equal(one.evaluations, two.evaluations)
    pandas.testing.assert_frame_equal(one.samples(), two.samples())
    a, b = (torch.load(run.folder / "checkpoint.pt", weights_only=True)["state"] for run in (one, two))
    assert a.keys() == b.keys() == {"model", "optimizer", "teacher"}
    assert all(torch.equal(a[part][name], b[part][name]) for part in ("model", "teacher") for name in a[part])
    moments = [
        (x["exp_avg"], y["exp_avg"])
        for x, y in zip(a["optimizer"]["state"].values(), b["optimizer"]["state"].values(), strict=True)
    ]
    assert moments and all(torch.equal(x, y) for x, y in moments)


def command(folder) -> list[str]:
    """What makes the run of `whole` from a shell."""
    options = {
        "steps": 6,
        "teacher-model-kind": "ema",
        "eval-every": 2,
        "eval-problems": 2,
        "final-problems": 2,
        "num-eval-generations": 1,
        "eval-splits": "in-domain",
        "final-splits": "in-domain deeper",
        "output": folder,
    } | {name.replace("_", "-"): value for name, value in SMALL.items()}
    words = [word for name, value in options.items() for word in (f"--{name}", *str(value).split())]
    return [sys.executable, "-m", "sdlab.cli", "train", "sdpo", *words]


# lines of a machine so slow that a run takes ten seconds, and of a run whose markers fall
REPORTS = r"^(?:step: \d of 6, |alarm at step \d: ).*\n"


@pytest.mark.slow
def test_a_killed_training_goes_on_bit_for_bit(tmp_path, whole):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(folder),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while len(steps(folder)) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said
    assert 1 <= torch.load(folder / "checkpoint.pt", weights_only=True)["steps"] < 6
    same(train("sdpo", SDPOConfig(steps=6, teacher_model_kind="ema", **SMALL), folder, PLAN), whole)


@pytest.mark.slow
def test_ctrl_c_at_random_times_is_one_line_and_goes_on_bit_for_bit(tmp_path, whole):
    """As from a terminal: SIGINT to all processes of the command, while it samples, updates, saves,
    evaluates or ends.
    """
    folder, rng, ends = tmp_path / "run", random.Random(0), []
    long = 0.6 * whole.steps["seconds"].sum()  # so that a fast machine is interrupted before the end, too
    for _ in range(int(os.environ.get("SDLAB_INTERRUPTS", "4"))):
        with subprocess.Popen(
            command(folder),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            before = changed(folder)
            while changed(folder) == before and process.poll() is None:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, long))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            out, err = (text.decode() for text in process.communicate())
        err = re.sub(REPORTS, "", err, flags=re.MULTILINE)
        ends.append(process.returncode)
        if process.returncode == -signal.SIGINT:  # all was done, and Python itself was ending
            assert err == "" and load_run(folder).finished
            break
        assert process.returncode in (0, 130) and "Traceback" not in err + out and "Error" not in err + out, (
            err
        )
        done = len(steps(folder))
        assert torch.load(folder / "checkpoint.pt", weights_only=True)["steps"] == done
        if process.returncode == 0:
            break
        assert (
            err == "" and out.splitlines()[-1] == f"stopped after {done} of 6 steps; the same command resumes"
        )
    assert 130 in ends
    if not load_run(folder).finished:
        train("sdpo", SDPOConfig(steps=6, teacher_model_kind="ema", **SMALL), folder, PLAN)
    same(load_run(folder), whole)


def changed(folder) -> float:
    """When the run was last begun or continued."""
    path = folder / ".lock"
    return path.stat().st_mtime if path.exists() else 0.0


def steps(folder):
    path = folder / "steps.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_a_run_is_judged_when_due_and_its_model_loads(whole):
    found = whole.evaluations.groupby(["step", "split"]).size()
    assert found.to_dict() == {
        (0, "in-domain"): 2,
        (2, "in-domain"): 2,
        (4, "in-domain"): 2,
        (6, "deeper"): 2,
        (6, "in-domain"): 2,
    }
    assert whole.finished and (whole.folder / "model" / "model.safetensors").exists()
    again = train(
        "base",
        conditions.TrainConfig(),
        whole.folder.parent / "judged",
        replace(PLAN, eval_every=0),
        model=str(whole.folder / "model"),
    )
    assert again.steps.empty and set(again.evaluations["split"]) == {"in-domain", "deeper"}


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_the_same_call_finishes(tmp_path, whole):
    def stop(row):
        if row["step"] == 2:
            raise KeyboardInterrupt

    part = train(
        "sdpo", SDPOConfig(steps=6, teacher_model_kind="ema", **SMALL), tmp_path / "run", PLAN, on_step=stop
    )
    assert len(part.steps) == 3 and not part.finished
    same(train("sdpo", SDPOConfig(steps=6, teacher_model_kind="ema", **SMALL), tmp_path / "run", PLAN), whole)


@pytest.mark.slow
def test_the_two_trace_sets_are_right_matched_and_different():
    from sdlab.grading.score import grade
    from sdlab.rollout.loading import load_engine
    from sdlab.world.splits import load_split

    engine, problems = load_engine("organism"), load_split("train", limit=24)
    unguided, guided = build_traces(engine, problems, 24)
    assert [t.problem.id for t in unguided] == [t.problem.id for t in guided]
    for traces in (unguided, guided):
        assert grade([t.completion for t in traces], [t.problem.answer for t in traces]) == [1.0] * 24
    assert sum(len(t.completion) for t in guided) < 0.7 * sum(len(t.completion) for t in unguided)
    with pytest.raises(SdlabError, match="the run needs 4000"):
        build_traces(engine, problems[:2], 4000)


@pytest.mark.slow
def test_sft_trains_on_the_traces_asked_for(tmp_path):
    config = SFTConfig(steps=2, batch_size=4, **SMALL)
    runs = [
        train("sft", config, tmp_path / kind, replace(PLAN, traces=kind, num_traces=8, num_questions=32))
        for kind in ("unguided", "guided")
    ]
    assert runs[0].steps["loss"][0] != runs[1].steps["loss"][0]


DOMAINS = {"chemistry-train": "chemistry-test", "kata": "kata"}
WAYS = {
    "sft": (SFTConfig(steps=2, batch_size=4, **SMALL), {"num_traces": 8, "num_questions": 16}),
    "grpo": (GRPOConfig(steps=2, **SMALL | {"num_generations": 8}), {}),
    "sdpo": (SDPOConfig(steps=2, **SMALL | {"num_generations": 8}), {}),
    "sdpo, feedback": (SDPOConfig(steps=2, context="feedback", **SMALL | {"num_generations": 8}), {}),
}


@pytest.mark.parametrize(
    "split, way",
    [
        (split, way)
        for split in DOMAINS
        for way in WAYS
        if (split, way) != ("chemistry-train", "sdpo, feedback")
    ],
)
def test_every_method_trains_on_every_domain(tmp_path, split, way):
    config, extra = WAYS[way]
    run = train(
        way.partition(",")[0],
        config,
        tmp_path / "run",
        replace(PLAN, split=split, eval_every=0, final_splits=(DOMAINS[split],), **extra),
    )
    assert run.finished and (run.steps["updates"] > 0).any() and (run.steps["kl_to_base"].iloc[1:] > 0).all()
    assert run.evaluations["problem_id"].str.startswith(DOMAINS[split]).all()
    asked = set(run.samples()["prompt"].str.extract(r"(Kata|undergoes)", expand=False))
    assert asked == {"Kata" if split == "kata" else "undergoes"}


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Plan(split="nowhere"), "unknown split 'nowhere'"),
        (lambda: Plan(traces="holy"), "unknown kind of traces 'holy'"),
        (lambda: train("dpo", GRPOConfig(), "x"), "unknown method 'dpo'"),
        (lambda: train("sdpo", GRPOConfig(), "x"), "takes a SDPOConfig"),
        (lambda: GRPOConfig(num_generations=1), "num_generations=1 .* sibling"),
        (lambda: SDPOConfig(context="hints"), "unknown teacher context 'hints'"),
        (lambda: SDPOConfig(teacher_model_kind="oracle"), "unknown teacher 'oracle'"),
        (lambda: condition("dpo"), "unknown condition 'dpo'"),
    ],
)
def test_bad_input_is_named(make, words):
    with pytest.raises(SdlabError, match=words):
        make()


# Recorded results.


def make_record(folder, monkeypatch, seeds=(0, 1, 2)):
    """A condition run on the smallest sizes, one run per seed, packed."""
    small = conditions.Condition("tiny", "tiny", "grpo", GRPOConfig(steps=2, **SMALL), PLAN)
    monkeypatch.setitem(CONDITIONS, "tiny", small)
    for seed in seeds:
        assert not run_cell(reproduction.cell_of("tiny", seed, folder / "work"))
    return pack("tiny", seeds, folder / "work", folder / "runs")


@pytest.mark.slow
def test_recorded_results_come_back_with_provenance_and_intervals(tmp_path, monkeypatch):
    make_record(tmp_path, monkeypatch)
    data = load_recorded("tiny", folder=tmp_path / "runs")
    assert data.steps.groupby("seed").size().to_dict() == {0: 2, 1: 2, 2: 2}
    about = data.provenance["tiny"]
    assert about["command"] == "sdlab reproduce tiny" and set(about["runs"]) == {"0", "1", "2"}
    assert about["runs"]["0"]["model_sha256"]["model.safetensors"] and about["runs"]["0"]["torch"]
    over, under = data.table("tiny", "reward", "deeper")
    assert over.shape == (3, 2)
    rows = [
        load_run(tmp_path / "work" / "tiny" / str(s)).evaluations.query("split == 'deeper'")["reward"].sum()
        for s in range(3)
    ]
    assert (
        over.sum(axis=1).tolist() == rows
        and data.interval("tiny", "reward", "deeper").mean == sum(rows) / under.to_numpy().sum()
    )
    assert data.difference("tiny", "tiny", "length", "deeper").interval.mean == 0
    assert data.curve("tiny", "markers", "in-domain")["step"].tolist() == [0, 2]
    before = (tmp_path / "runs" / "tiny.steps.csv.gz").read_bytes()
    pack("tiny", (0, 1, 2), tmp_path / "work", tmp_path / "runs")
    assert (tmp_path / "runs" / "tiny.steps.csv.gz").read_bytes() == before  # same runs, same file
    with pytest.raises(SdlabError, match="no evaluation of condition 'tiny' on split 'kata'"):
        data.interval("tiny", "reward", "kata")
    table = tmp_path / "runs" / "tiny.steps.csv.gz"
    table.write_bytes(gzip.compress(b"step\n1\n"))
    with pytest.raises(SdlabError, match="missing or damaged"):
        load_recorded("tiny", folder=tmp_path / "runs")
    with pytest.raises(SdlabError, match="sdlab reproduce grpo"):
        load_recorded("grpo", folder=tmp_path / "nothing")


def test_a_run_that_is_not_finished_is_not_recorded(tmp_path, monkeypatch):
    before = make_record(tmp_path, monkeypatch, seeds=(0, 1)).read_bytes()
    (tmp_path / "work" / "tiny" / "1" / "finished.json").unlink()
    with pytest.raises(SdlabError, match="tiny is not finished with seed 1 in .*sdlab reproduce tiny"):
        pack("tiny", (0, 1), tmp_path / "work", tmp_path / "runs")
    assert (tmp_path / "runs" / "tiny.json").read_bytes() == before


def test_seeds_recorded_later_join_those_that_are_there(tmp_path, monkeypatch):
    make_record(tmp_path, monkeypatch)
    at_once = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    later = tmp_path / "later"
    for seeds in ((1,), (0, 2), (2,)):
        pack("tiny", seeds, tmp_path / "work", later)
    assert {path.name: path.read_bytes() for path in later.iterdir()} == at_once
    (later / "tiny.steps.csv.gz").write_bytes(b"damaged")
    with pytest.raises(SdlabError, match="missing or damaged"):
        pack("tiny", (0,), tmp_path / "work", later)  # the others' rows would be lost
    pack("tiny", (0, 1, 2), tmp_path / "work", later)
    assert {path.name: path.read_bytes() for path in later.iterdir()} == at_once
    # nor are results of other weights or of other settings mixed with these
    path = later / "tiny.json"
    about = json.loads(path.read_text())
    for seed in ("0", "2"):
        about["runs"][seed]["model_sha256"]["model.safetensors"] = "another"
    path.write_text(json.dumps(about))
    pack("tiny", (1,), tmp_path / "work", later)
    assert set(load_recorded("tiny", folder=later).steps["seed"]) == {1}
    pack("tiny", (0,), tmp_path / "work", later)
    monkeypatch.setitem(
        CONDITIONS,
        "tiny",
        conditions.replace(CONDITIONS["tiny"], plan=conditions.replace(PLAN, final_problems=1)),
    )
    pack("tiny", (1,), tmp_path / "work", later)
    assert set(load_recorded("tiny", folder=later).steps["seed"]) == {1}


def test_conditions_of_other_organisms_change_the_organism_alone():
    from sdlab.study.organism_conditions import ORGANISMS, REPEATED, organism_name

    for organism in ORGANISMS:
        names = conditions.chosen([organism])
        assert names == [organism_name(name, organism) for name in REPEATED]
        for name, own in zip(REPEATED, names, strict=True):
            there, here = condition(name), condition(own)
            assert (here.method, here.config, here.plan) == (there.method, there.config, there.plan)
            assert here.model == organism and here.label != there.label
            assert reproduction.cell_of(own, 2).model == organism
    with pytest.raises(SdlabError, match="unknown organism 'organism-9'"):
        organism_name("sdpo", "organism-9")


def test_results_of_another_model_never_take_the_place_of_the_shipped_ones():
    with pytest.raises(
        SdlabError, match="'organism-small' would take the place of the shipped ones; give another"
    ):
        reproduction.reproduce(["sdpo"], [0], model="organism-small")


def test_tables_of_an_older_version_stay_readable():
    """The recorded runs were made before the signals: those columns are nan, and curves leave them out."""
    from sdlab.charts.curves import run_curves
    from sdlab.train import log

    steps = load_recorded("sdpo", "grpo").steps
    assert set(log.COLUMNS) <= set(steps) and steps["entropy"].notna().all()
    older = steps.drop(columns=[name for name in log.COLUMNS if steps[name].isna().all()])
    assert log.with_all_columns(older)[list(steps)].equals(steps)
    assert run_curves(steps, ["entropy", "fork_rate"]).to_dict()["description"]
    assert log.with_all_columns(steps.iloc[:0]).empty


def test_results_of_two_organisms_under_one_name_are_refused(tmp_path, monkeypatch):
    path = make_record(tmp_path, monkeypatch, seeds=(0, 1))
    about = json.loads(path.read_text())
    about["runs"]["1"]["model_sha256"]["model.safetensors"] = "f" * 64
    path.write_text(json.dumps(about))
    with pytest.raises(
        SdlabError, match=r"tiny seed 1 and tiny seed 0 were made with different weights of 'organism'"
    ):
        load_recorded("tiny", folder=tmp_path / "runs")
    run = tmp_path / "work" / "tiny" / "1" / "config.json"
    settings = json.loads(run.read_text())
    settings["provenance"]["model_sha256"]["model.safetensors"] = "f" * 64
    run.write_text(json.dumps(settings))
    with pytest.raises(SdlabError, match="different weights of 'organism'"):
        pack("tiny", (0, 1), tmp_path / "work", tmp_path / "runs")
    about["runs"]["1"]["model"] = "another organism"  # two organisms under two names may stand side by side
    path.write_text(json.dumps(about))
    assert set(load_recorded("tiny", folder=tmp_path / "runs").steps["seed"]) == {0, 1}


def test_every_condition_has_its_name_and_seeds_are_set_when_run():
    for name, what in {
        name: one for group in conditions.groups().values() for name, one in group.items()
    }.items():
        assert what.name == name and what.config.seed == 0
        assert json.dumps(what.label)
    assert len({what.label for what in CONDITIONS.values()}) == len(CONDITIONS)
    assert CONDITIONS["sdpo"].config.steps == CONDITIONS["grpo"].config.steps  # they are overlaid


@pytest.mark.slow
def test_shipped_results_rest_on_the_shipped_organism():
    from sdlab import paths
    from sdlab.files import sha256

    folder = paths.data_dir() / "runs"
    if not list(folder.glob("*.json")):
        pytest.skip("nothing is recorded in this checkout")
    data = load_recorded()
    for name, about in data.provenance.items():
        weights = sha256(paths.shipped(condition(name).model) / "model.safetensors")
        assert {run["model_sha256"]["model.safetensors"] for run in about["runs"].values()} == {weights}, name
        rates = data.evaluations[data.evaluations["condition"] == name]
        assert (rates["reward"] <= rates["generations"]).all() and np.isfinite(
            rates[["reward", "length", "markers"]]
        ).all(axis=None)


def test_the_recorded_sweep_chose_the_rates():
    from sdlab import paths

    if not list((paths.data_dir() / "runs").glob("rate_*.json")):
        pytest.skip("no sweep is recorded in this checkout")
    table = sweep_table()
    methods = (("grpo", "reward", 1), ("sdpo", "loss", -1))
    for name, column, sign in methods:
        if not is_recorded(f"rate_{name}_3e-04"):
            continue
        ends = {}
        for rate in conditions.SWEPT:
            steps = load_recorded(f"rate_{name}_{rate:.0e}").steps.sort_values("step")
            ends[rate] = (
                sign
                * steps.groupby("seed")[column].apply(lambda column: column.tail(LAST_STEPS).mean()).mean()
            )
        best, used = max(ends, key=ends.get), CONDITIONS[name].config.learning_rate
        method = CONDITIONS[name].method
        assert table[(table["method"] == method) & table["best"]]["learning_rate"].tolist() == [best]
        assert best not in (conditions.SWEPT[0], conditions.SWEPT[-1])  # else the best may lie beyond
        if method == "grpo":
            assert best == used
        else:  # no better score
            assert best == 1e-3  # as sdlab/study/conditions.py says
            chosen, default = (f"rate_{name}_{rate:.0e}" for rate in (best, used))
            gain = load_recorded(chosen, default).difference(default, chosen, "reward", "unseen-types")
            assert gain.interval.mean < 0 or not gain.significant
