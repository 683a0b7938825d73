"""A run on a file of problems: its questions, its evaluations, its identity."""

import json

import pytest

from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.runs.cell import Cell, is_done
from sdlab.runs.grid import Grid, cell_name, read_grid
from sdlab.runs.plan import Plan, evaluation_problems, plan_problems
from sdlab.runs.training import train
from sdlab.scale.data import check_same_problems, job_problems, job_record
from sdlab.scale.job import Job, read_job, write_job
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig
from sdlab.train.sft import SFTConfig
from sdlab.world.splits import TRAINING


def own_file(path, count=4, first=1):
    rows = [{"question": f"{n} + {n}?", "answer": str(2 * n)} for n in range(first, first + count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_the_seed_chooses_the_problems_and_small_sets_are_parts_of_larger_ones(tmp_path):
    path = own_file(tmp_path / "my.jsonl", 8)
    assert [one.answer for one in plan_problems(Plan(problems=path), 0)] == [str(2 * n) for n in range(1, 9)]
    few, more = (plan_problems(Plan(problems=path, num_questions=n), 3) for n in (2, 5))
    assert few == more[:2] and few != plan_problems(Plan(problems=path, num_questions=2), 4)
    with pytest.raises(SdlabError, match="num_questions=9 is not allowed; my.jsonl has 8"):
        plan_problems(Plan(problems=path, num_questions=9), 0)


def test_a_run_on_a_file_is_evaluated_on_its_own_problems_or_on_a_test_file(tmp_path):
    path, test = own_file(tmp_path / "my.jsonl"), own_file(tmp_path / "test.jsonl", 3, 50)
    plan = Plan(problems=path, num_questions=2)
    assert plan.evaluated(final=True) == plan.evaluated(final=False) == (TRAINING,)
    assert evaluation_problems(plan, TRAINING, 9, 1) == plan_problems(plan, 1)
    plan = Plan(problems=path, test_problems=test)
    assert plan.evaluated(final=True) == ("test.jsonl",)
    assert [one.answer for one in evaluation_problems(plan, "test.jsonl", 2, 1)] == ["100", "102"]
    assert Plan().evaluated(final=True) == ("in-domain", "unseen-types", "deeper") and Plan().record() is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"system": "x"}, "system='x' does nothing here; it needs problems"),
        ({"test_problems": "x"}, "test_problems='x' does nothing here"),
        ({"problems": "x", "split": "kata"}, "split='kata' does nothing here; it needs a run on a split"),
        ({"problems": "x", "num_types": 2}, "num_types=2 does nothing here"),
    ],
)
def test_settings_that_nothing_reads(settings, message):
    with pytest.raises(SdlabError, match=message):
        Plan(**settings)


def test_a_run_keeps_the_checksum_and_refuses_another_file(tmp_path, one_thread):
    path, folder = own_file(tmp_path / "my.jsonl"), tmp_path / "run"
    config = TrainConfig(max_completion_length=4)
    plan = Plan(problems=path, eval_every=0, final_problems=2, num_eval_generations=1)
    run = train("base", config, folder, plan)
    assert run.finished and set(run.evaluations["split"]) == {TRAINING}
    assert run.evaluations["problem_id"].tolist() == ["my/0000", "my/0001"]
    record = {"train": {"name": "my.jsonl", "sha256": sha256(tmp_path / "my.jsonl")}}
    assert run.provenance["problems"] == record == plan.record()
    cell = Cell("base", folder, "base", config, plan)
    assert is_done(cell)
    (folder / "finished.json").unlink()
    (tmp_path / "moved").mkdir()
    moved = Plan(
        problems=own_file(tmp_path / "moved" / "my.jsonl"),
        eval_every=0,
        final_problems=2,
        num_eval_generations=1,
    )
    assert train("base", config, folder, moved).finished  # the same content in another place
    own_file(tmp_path / "my.jsonl", 5)
    assert not is_done(cell)
    (folder / "finished.json").unlink()
    with pytest.raises(
        SdlabError, match="holds another run: the train problems is 'my.jsonl .sha256 .* there"
    ):
        train("base", config, folder, plan)


def test_a_sweep_takes_a_file_and_names_its_folders(tmp_path):
    path = own_file(tmp_path / "my.jsonl")
    grid = read_grid(["method=grpo", "seed=0,1"], {"problems": path})
    assert grid.axes["problems"] == (path,) and all(one.plan.problems == path for one in grid.points())
    names = [cell_name(one, {}) for one in Grid({"method": "grpo", "problems": [path, "b.jsonl"]}).points()]
    assert len(set(names)) == 2 and not any("/" in name for name in names)


def test_a_job_reads_its_file_and_refuses_another_on_resume(tmp_path):
    path = own_file(tmp_path / "my.jsonl")
    job = Job("grpo", "organism", path, GRPOConfig(), system="Be brief.", output=str(tmp_path / "out"))
    assert read_job(write_job(job, tmp_path / "job.json")) == job
    assert job_problems(job)[0].prompt.startswith("Be brief.\n\n1 + 1?")
    assert job_record(job)["train"] == {
        "name": "my.jsonl",
        "sha256": sha256(tmp_path / "my.jsonl"),
        "system": "Be brief.",
    }
    assert job_record(Job("grpo", "organism", "train", GRPOConfig())) is None
    (tmp_path / "out").mkdir()
    about = {"provenance": {"problems": job_record(job)}}
    (tmp_path / "out" / "config.json").write_text(json.dumps(about))
    check_same_problems(job)
    own_file(tmp_path / "my.jsonl", 5)
    with pytest.raises(SdlabError, match="was begun with other problems: my.jsonl .* there and my.jsonl"):
        check_same_problems(job)
    with pytest.raises(SdlabError, match="system='x' does nothing here"):
        Job("sft", "organism", "traces.jsonl", SFTConfig(), system="x")


def test_a_recipe_on_your_own_problems(tmp_path, capsys):
    from sdlab import cli

    path, out = own_file(tmp_path / "my.jsonl"), tmp_path / "out"
    command = ["recipe", "small-qwen3-0.6b-grpo", "--problems", path, "--output", str(out)]
    assert cli.main([*command, "--model", "my/model", "--system", "Be brief."]) == 0
    job = read_job(out / "job.json")
    assert (job.model, job.data, job.system) == ("my/model", path, "Be brief.")
    text = " ".join(capsys.readouterr().out.split())
    assert f"--problems {path} --system 'Be brief.'" in text and "No estimate: the size of 'my/model'" in text
    assert cli.main(["recipe", "small-qwen3-0.6b-grpo", "--tiny", "--problems", path]) == 2
    assert "--problems" in capsys.readouterr().err


def test_errors_of_settings_and_options_are_one_line(tmp_path, capsys):
    from sdlab import cli

    for arguments, message in (
        (["train", "grpo", "--split", "nowhere"], "sdlab: unknown split 'nowhere'; choose one of: "),
        (["train", "grpo", "--steps", "0"], "sdlab: steps=0 is not allowed; it must be a whole number"),
        (["measure", "contexts", "--system", "x"], "sdlab: --system needs --problems"),
        (["measure", "contexts", "--problems", "no.jsonl"], "sdlab: no file no.jsonl"),
        (["evaluate", "organism", "--problems", "no.jsonl"], "sdlab: no file no.jsonl"),
        (["sweep", str(tmp_path), "method=grpo", "--problems", "no.jsonl"], "sdlab: no file no.jsonl"),
    ):
        assert cli.main(arguments) == 2
        text = capsys.readouterr().err
        assert text.startswith(message) and text.count("\n") == 1 and "dummy" not in text
