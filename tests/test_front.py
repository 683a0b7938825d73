"""The front door: `import sdlab` is instant and offers what a notebook needs."""

import subprocess
import sys

import pytest

import sdlab
from sdlab.errors import SdlabError
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.world.splits import load_split


def test_the_import_loads_nothing_heavy_and_lists_its_names():
    code = (
        "import sys, sdlab; names = dir(sdlab); "
        "print([m for m in ('torch', 'pandas', 'numpy', 'transformers') if m in sys.modules], "
        "set(sdlab.__all__) <= set(names))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[] True"


def test_every_name_is_there_and_an_unknown_one_names_the_others():
    for name in sdlab.__all__:
        assert callable(getattr(sdlab, name))
    with pytest.raises(AttributeError, match="load_engine"):
        _ = sdlab.load_model


def test_problems_come_from_a_split_or_a_file(tmp_path):
    assert sdlab.load_problems("unseen-types", limit=3) == load_split("unseen-types")[:3]
    path = tmp_path / "sums.jsonl"
    path.write_text('{"prompt": "What is 2 + 2?", "answer": "4"}\n')
    assert [problem.answer for problem in sdlab.load_problems(path)] == ["4"]


@pytest.mark.parametrize(
    ("source", "limit", "message"),
    [
        ("unseen", None, "unknown split or benchmark 'unseen'; choose one of"),
        ("my.jsonl", None, "no file my.jsonl"),
        ("kata", 1000, "limit=1000 is not allowed for kata, which has 131 problems"),
        ("kata", 0, "limit=0 is not allowed"),
    ],
)
def test_problems_that_are_not_there(source, limit, message):
    with pytest.raises(SdlabError, match=message):
        sdlab.load_problems(source, limit)


def test_evaluate_takes_sampling_settings_by_name():
    engine, problems = sdlab.load_engine("organism"), sdlab.load_problems("in-domain", limit=2)
    by_name = sdlab.evaluate(engine, problems, num_generations=2, seed=3)
    by_object = sdlab.evaluate(engine, problems, SamplingParams(num_generations=2, seed=3))
    assert by_name.equals(by_object) and len(by_name) == 4
    with pytest.raises(SdlabError, match="unknown sampling setting 'temp'"):
        sdlab.evaluate(engine, problems, temp=1.0)
    with pytest.raises(SdlabError, match="both say how to sample"):
        sdlab.evaluate(engine, problems, SamplingParams(), seed=1)


def test_fit_trains_in_a_run_folder_and_resumes_nothing_by_itself(tmp_path):
    settings = {"steps": 2, "num_problems": 2, "num_generations": 2, "eval_every": 0, "final_problems": 2}
    rows = []
    run = sdlab.fit("grpo", folder=tmp_path / "run", on_step=rows.append, **settings)
    assert run.finished and len(run.steps) == len(rows) == 2 and set(run.evaluations["step"]) == {2}
    again = sdlab.fit("grpo", **settings)  # a folder of its own
    assert again.folder != run.folder and again.steps["reward"].equals(run.steps["reward"])


def test_fit_refuses_unknown_names():
    with pytest.raises(SdlabError, match="unknown method 'ppo'"):
        sdlab.fit("ppo")
    with pytest.raises(SdlabError, match="unknown setting of grpo 'context'"):
        sdlab.fit("grpo", context="solution")


def test_an_engine_that_does_not_train_is_refused():
    class Frozen(TorchEngine):
        trains = False

    engine = sdlab.load_engine("organism")
    frozen = Frozen(engine.model, engine.tokenizer)
    with pytest.raises(SdlabError, match="Frozen cannot train"):
        run_grpo(frozen, sdlab.load_problems("in-domain", limit=2), GRPOConfig(steps=1))
