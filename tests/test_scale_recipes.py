"""Recipes: the paper's hyper-parameters, written out here once more by hand, and the command that runs them.

Slow: the two tests that train the organism through the real launcher (a minute on an idle machine, several on
a busy one).
"""

import json
import shlex
import sys
import tomllib
from dataclasses import asdict, replace

import pytest

from sdlab.commands import recipe, recipe_tables, recipe_tiny
from sdlab.errors import SdlabError
from sdlab.scale.checks import sizes
from sdlab.scale.estimate import estimate
from sdlab.scale.hardware import SHAPES
from sdlab.scale.job import read_job, write_job
from sdlab.scale.launch import launch_command
from sdlab.scale.recipes import (
    RECIPES,
    load_recipe,
    on_gpus,
    read_recipe,
    recipe_names,
    tiny_job,
    with_repair,
)
from sdlab.train.teacher import TEACHER_CONTEXTS

# the paper's models and whether they think, from the paper and the authors' scripts; no other file is read
# here
MODELS = {
    "deepseek-7b": ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", True),
    "qwen3-8b-on": ("Qwen/Qwen3-8B", True),
    "qwen3-8b-off": ("Qwen/Qwen3-8B", False),
    "qwen3-1.7b": ("Qwen/Qwen3-1.7B", True),
    "olmo3-7b": ("allenai/Olmo-3-7B-Instruct", True),
}
MAIN = [f"{model}-{method}" for model in MODELS for method in ("grpo", "sdpo", "sdpo-no-think")]
COVERAGE = [f"coverage-{n}-{method}" for n in (1, 8, 64, 128, 512) for method in ("grpo", "sdpo")]
SFT = ["deepseek-7b-sft-unguided", "deepseek-7b-sft-guided"]
SMALL = [
    "small-qwen3-0.6b-grpo",
    "small-qwen3-0.6b-sdpo",
    "small-qwen3-1.7b-grpo",
    "small-qwen3-1.7b-sdpo",
] + [f"small-qwen3-1.7b-on-{m}" for m in ("grpo", "sdpo", "sdpo-no-think", "opsd-clip")]
PAPERS = [*MAIN, "deepseek-7b-sdpo-ema", *COVERAGE]
REPAIRS = ["qwen3-8b-on-opsd-clip"]

ROLLOUTS = {
    "num_generations": 8,
    "max_completion_length": 20480,
    "warmup_steps": 10,
    "steps": 100,
    "aggregation": "token_mean",
    "temperature": 1.0,
}
GRPO = ROLLOUTS | {"learning_rate": 1e-6, "scale_rewards": False, "epsilon_low": 0.2, "epsilon_high": 0.28}
SDPO = ROLLOUTS | {
    "learning_rate": 1e-5,
    "distillation_alpha": 0.5,
    "distillation_topk": 100,
    "distillation_add_tail": True,
    "distillation_is_clip": 2.0,
    "demonstration": "first",
}
THINKING, PLAIN = {"temperature": 0.6, "top_p": 0.95}, {"temperature": 0.7, "top_p": 0.8}


def test_there_is_a_file_for_every_experiment():
    assert sorted(recipe_names()) == sorted(PAPERS + SFT + SMALL + REPAIRS)
    assert recipe_names()[:10] == [
        f"coverage-{n}-{method}" for n in (1, 8, 64, 128, 512) for method in ("grpo", "sdpo")
    ]


@pytest.mark.parametrize("name", PAPERS)
def test_hyper_parameters_are_the_papers(name):
    one = load_recipe(name)
    model, _, method = name.partition("-grpo" if name.endswith("grpo") else "-sdpo")
    method = "grpo" if name.endswith("grpo") else "sdpo"
    hub, thinking = MODELS.get(model, ("Qwen/Qwen3-8B", False))  # coverage: Qwen3-8B, thinking off
    wanted = (GRPO if method == "grpo" else SDPO) | {"thinking": thinking}
    wanted |= {"num_problems": 64 if name in COVERAGE else 256, "num_minibatches": 2}  # mini-batch 32, 128
    if method == "sdpo":
        wanted |= {"context": "solution_no_think" if name.endswith("no-think") else "solution"}
        wanted |= (
            {"teacher_model_kind": "ema", "teacher_update_rate": 0.05}
            if name.endswith("ema")
            else {"teacher_model_kind": "base", "teacher_update_rate": 0.0}
        )
    found = asdict(one.job.config)
    assert {key: found[key] for key in wanted} == wanted
    assert (one.job.method, one.job.model) == (method, hub)
    assert (one.job.max_prompt_length, one.job.max_reprompt_length, one.job.num_processes, one.gpu) == (
        2048,
        22528,
        4,
        "B200",
    )
    assert one.job.lora_rank is None and one.settings == "the paper's" and "paper" not in one.about.lower()
    data = {"1": "dapo-1x64", "8": "dapo-8x8", "64": "dapo-64", "128": "dapo-128", "512": "dapo-512"}
    assert one.job.data == (data[name.split("-")[1]] if name in COVERAGE else "dapo-math-17k")
    judged = asdict(one.evaluation)
    assert {"num_generations": 16, "top_k": 20, "max_completion_length": 38912, "thinking": thinking} | (
        THINKING if thinking else PLAIN
    ) == {k: v for k, v in judged.items() if k != "benchmarks"}
    assert one.evaluation.benchmarks == ("aime24", "aime25", "amc23", "math500") and any(
        "seeds" in line for line in one.unknown
    )


@pytest.mark.parametrize(
    "name, figure",
    [
        ("deepseek-7b-sdpo", "Figure 3"),
        ("qwen3-8b-on-grpo", "Figure 4"),
        ("qwen3-8b-off-sdpo", "Figures 5 and 16"),
        ("deepseek-7b-sdpo-ema", "Figure 6"),
        ("coverage-8-sdpo", "Figures 7 and 8"),
        ("qwen3-1.7b-sdpo", "Figure 17"),
        ("olmo3-7b-grpo", "Figure 18"),
        ("deepseek-7b-sft-guided", "Table 2"),
    ],
)
def test_figures(name, figure):
    assert load_recipe(name).paper == figure


def test_only_the_compared_setting_differs():
    """The moving teacher against the fixed one; whole solutions against their answers."""
    fixed, moving, bare = (
        asdict(load_recipe(f"deepseek-7b-sdpo{kind}").job) for kind in ("", "-ema", "-no-think")
    )

    def different(a, b):
        return {k for k in a["config"] if a["config"][k] != b["config"][k]} | {
            k for k in a if k not in ("config", "output") and a[k] != b[k]
        }

    assert different(fixed, moving) == {"teacher_model_kind", "teacher_update_rate"} and different(
        fixed, bare
    ) == {"context"}
    unguided, guided = (asdict(load_recipe(name).job) for name in SFT)
    assert different(unguided, guided) == {"data"}


@pytest.mark.parametrize("name, like", [(name, name.replace("opsd-clip", "sdpo")) for name in REPAIRS])
def test_a_repair_has_the_budget_of_the_papers_sdpo(name, like):
    """OPSD (arXiv 2601.18734) beside SDPO: its loss is `opsd_clip`, the rest is the paper's."""
    mine, theirs = load_recipe(name), load_recipe(like)
    shared = asdict(mine.job.config).keys() & asdict(theirs.job.config).keys()
    assert {key: getattr(mine.job.config, key) for key in shared} == {
        key: getattr(theirs.job.config, key) for key in shared
    }
    assert mine.job.config.repair == "opsd_clip" and "2601.18734" in mine.paper
    assert mine.evaluation == theirs.evaluation and any("not tried" in line for line in mine.unknown)


def test_a_recipe_of_a_repair_takes_another_repair(tmp_path, capsys):
    one = with_repair(load_recipe("small-qwen3-1.7b-on-opsd-clip"), "rlsd")
    assert (one.name, one.job.config.repair) == ("small-qwen3-1.7b-on-rlsd", "rlsd")
    assert "2604.03128" in one.paper and "75.0" in one.finding and "OPSD" not in one.about
    assert one.job.output.endswith("small-qwen3-1.7b-on-rlsd")
    assert estimate(one.job, one.gpu, one.mean_length).fits
    with pytest.raises(SdlabError, match="'qwen3-8b-on-sdpo' trains sdpo, which takes no repair; choose one"):
        with_repair(load_recipe("qwen3-8b-on-sdpo"), "rlsd")
    with pytest.raises(SdlabError, match="repair 'sdpg'"):
        with_repair(load_recipe("small-qwen3-1.7b-on-opsd-clip"), "sdpg")
    with pytest.raises(SdlabError, match="repair 'rlds'.*rlsd"):
        with_repair(load_recipe("small-qwen3-1.7b-on-opsd-clip"), "rlds")
    recipe.recipe("small-qwen3-1.7b-on-opsd-clip", repair="srpo", output=tmp_path)
    assert read_job(tmp_path / "job.json").config.repair == "srpo"
    assert "job.json" in capsys.readouterr().out


@pytest.mark.parametrize("name", SFT)
def test_sft_says_what_was_chosen(name):
    one = load_recipe(name)
    assert one.job.config.steps == -(-3 * 800 // one.job.config.batch_size)  # three epochs of 800 traces
    assert "the paper gives none" in one.settings and any(
        "learning rate, epochs, batch and length" in line for line in one.unknown
    )


@pytest.mark.parametrize("name", SMALL)
def test_small_recipes_are_labelled_and_fit_their_gpu(name):
    one = load_recipe(name)
    assert (
        one.settings.startswith("NOT the paper's")
        and one.about.startswith("one GPU")
        and one.job.num_processes == 1
        and one.job.lora_rank
    )
    assert estimate(one.job, one.gpu, one.mean_length).hours < 12


@pytest.mark.parametrize("name", PAPERS + SFT + SMALL + REPAIRS)
def test_every_recipe_resolves_fits_and_divides(name, tmp_path):
    one = load_recipe(name)
    assert read_job(write_job(one.job, tmp_path / "job.json")) == one.job
    sizes(one.job)  # refuses rows that do not divide
    need = estimate(one.job, one.gpu, one.mean_length)
    assert need.fits and 0 < need.hours < 100 and one.job.model in SHAPES
    tiny = tiny_job(one, tmp_path / "tiny")
    sizes(tiny)
    kept = {"method"} | (
        {"context", "demonstration", "teacher_model_kind", "teacher_update_rate"}
        | {k for k in asdict(one.job.config) if k.startswith("distillation")}
        if one.job.method == "sdpo"
        else set()
    )
    kept |= {"epsilon_low", "epsilon_high", "scale_rewards"} if one.job.method == "grpo" else set()
    kept |= {"repair"} if one.job.method == "repair" else set()

    def flat(job):
        return asdict(job) | asdict(job.config)

    assert {k: flat(tiny)[k] for k in kept | {"thinking", "num_minibatches"}} == {
        k: flat(one.job)[k] for k in kept | {"thinking", "num_minibatches"}
    }
    assert (tiny.model, tiny.accelerate, tiny.use_vllm) == ("organism", "cpu", False)


def test_benchmarks_are_known():
    catalogue = pytest.importorskip("sdlab.benchmarks.catalogue")
    for name in recipe_names():
        one = load_recipe(name)
        assert set(one.evaluation.benchmarks) <= set(catalogue.BENCHMARKS) and (
            one.job.method == "sft" or one.job.data in catalogue.BENCHMARKS
        )
    for name, count in recipe_tables.PROBLEMS.items():
        assert catalogue.BENCHMARKS[name].distinct["test"] == count


def test_coverage_recipes_are_as_narrow_on_the_organism(tmp_path):
    assert [
        tiny_job(load_recipe(f"coverage-{n}-grpo"), tmp_path).num_questions for n in (1, 8, 64, 128, 512)
    ] == [1, 8, 64, 128, 512]
    assert tiny_job(load_recipe("qwen3-8b-off-grpo"), tmp_path).num_questions is None


# Bad input.


def test_unknown_names_are_answered_with_the_closest():
    with pytest.raises(SdlabError, match="unknown recipe 'qwen3-8b-sdpo'; choose one of: .*qwen3-8b-on-sdpo"):
        load_recipe("qwen3-8b-sdpo")
    with pytest.raises(SdlabError) as told:
        load_recipe("olmo3")
    assert str(told.value).endswith("choose one of: olmo3-7b-grpo, olmo3-7b-sdpo, olmo3-7b-sdpo-no-think")
    with pytest.raises(SdlabError, match="coverage-1-grpo.*small-qwen3-1.7b-sdpo"):
        load_recipe("../../etc/passwd")


@pytest.mark.parametrize(
    "change, told",
    [
        (
            ("learning_rate = 1e-5", "learning_rat = 1e-5"),
            "unknown setting of sdpo in .*'learning_rat'.*learning_rate",
        ),
        (("learning_rate = 1e-5", "learning_rate = -1"), "learning_rate=-1"),
        (('accelerate = "fsdp2"', 'accelerate = "fsdp9"'), "'fsdp9'"),
        (('method = "sdpo"', 'method = "ppo"'), "unknown method 'ppo'"),
        (('gpu = "B200"', 'gpu = "B100"'), "unknown GPU 'B100'"),
        (('gpu = "B200"', ""), "recipe has no gpu"),
        (("top_k = 20", "topk = 20"), "'topk'"),
        (("[config]", "[settings]"), "no recipe .*config"),
        (("[job]", "[job"), "no recipe .*TOML"),
        (("bf16 = true", "bf17 = true"), "unknown setting of job in .*'bf17'"),
        (("steps = 100", "steps = 0"), "steps=0"),
    ],
)
def test_damaged_recipes_are_told(tmp_path, change, told):
    text = (RECIPES / "deepseek-7b-sdpo.toml").read_text()
    assert change[0] in text
    (tmp_path / "x.toml").write_text(text.replace(*change, 1))
    with pytest.raises(SdlabError, match=told):
        read_recipe(tmp_path / "x.toml")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(SdlabError, match="no recipe .FileNotFoundError"):
        read_recipe(tmp_path / "none.toml")


def test_other_hardware():
    job = load_recipe("deepseek-7b-sdpo").job
    assert on_gpus(job, "H100", 8) == replace(job, num_processes=8)
    assert on_gpus(job, "H100", 1).accelerate == "single_gpu"
    small = load_recipe("small-qwen3-0.6b-grpo").job
    old = on_gpus(small, "T4", 2)
    assert (old.accelerate, old.bf16, old.use_vllm, old.config) == ("ddp", False, False, small.config)
    with pytest.raises(SdlabError, match="unknown GPU 'TPU'"):
        on_gpus(job, "TPU", 1)
    with pytest.raises(SdlabError, match="gpus=0"):
        on_gpus(job, "H100", 0)


# The command.


def test_list_names_all(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert recipe.recipe(show=True) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in recipe_names():
        assert any(f" {name} " in line for line in lines)
    row = next(line for line in lines if " deepseek-7b-sdpo " in line)
    need = estimate(load_recipe("deepseek-7b-sdpo").job, "B200", load_recipe("deepseek-7b-sdpo").mean_length)
    assert "4 x B200" in row and f" {need.hours:.0f} " in row
    assert "Figure 3" in lines[lines.index(row) + 1]


def test_dry_run_prints_the_job_and_writes_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    assert recipe.recipe("qwen3-8b-off-sdpo", dry_run=True) == 0
    out = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    printed, _ = json.JSONDecoder().raw_decode(out[out.index("{\n") :])
    (tmp_path / "job.json").write_text(json.dumps(printed))
    job = load_recipe("qwen3-8b-off-sdpo").job
    assert read_job(tmp_path / "job.json") == job
    lines = out.splitlines()
    command = shlex.split(lines[lines.index("Would train with:") + 1])
    assert command == launch_command(job, "runs/recipes/qwen3-8b-off-sdpo/job.json")
    judge = shlex.split(lines[lines.index("Then evaluate with:") + 1])
    assert (
        judge[:3] == ["sdlab", "evaluate", "runs/recipes/qwen3-8b-off-sdpo/model"]
        and "--no-thinking" in judge
        and judge[judge.index("--top-p") + 1] == "0.8"
    )
    for text in (
        "8.191e9 trained x 8 bytes / 4 GPUs",
        "x 100 steps",
        "seeds and error bars",
        "Figures 5 and 16",
        "T=0.7, top_p=0.8, top_k=20",
    ):
        assert text in out


def test_the_evaluation_command_is_one_that_sdlab_reads():
    """Through tyro and the command's own signature; only the work behind it is left out."""
    evaluate_command = pytest.importorskip("sdlab.commands.evaluate")
    one = load_recipe("qwen3-8b-off-sdpo")
    parsed = _parse(evaluate_command.evaluate, recipe.evaluation_command(one, one.job)[2:])
    assert (
        parsed["thinking"],
        parsed["num_generations"],
        parsed["temperature"],
        parsed["top_p"],
        parsed["top_k"],
        parsed["max_completion_length"],
    ) == (False, 16, 0.7, 0.8, 20, 38912)
    assert parsed["benchmarks"] == "aime24,aime25,amc23,math500" and parsed["engine"] == "vllm"


def _parse(function, arguments):
    """What tyro hands to `function`."""
    import functools

    import tyro

    caught = {}

    @functools.wraps(function)
    def catch(**given):
        caught.update(given)
        return 0

    tyro.cli(catch, args=arguments)
    return caught


def test_a_recipe_writes_its_job(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert (
        recipe.recipe("small-qwen3-0.6b-sdpo", gpu="A100-40", gpus=2, output=tmp_path / "run with space") == 0
    )
    job = read_job(tmp_path / "run with space" / "job.json")
    assert (job.num_processes, job.accelerate, job.output) == (2, "ddp", str(tmp_path / "run with space"))
    out = capsys.readouterr().out
    lines = out.splitlines()
    command = shlex.split(lines[lines.index("Train with:") + 1])
    assert (
        command[0] == sys.executable
        and command[-1] == str(tmp_path / "run with space" / "job.json")
        and "2 x A100-40" in out
    )


def test_the_command_line_can_import_it_at_once():
    import subprocess

    code = (
        "import sys, sdlab.commands.recipe; assert not {'torch', 'trl', 'pandas', 'transformers'} & "
        "set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tiny_takes_no_gpu(tmp_path):
    with pytest.raises(SdlabError, match="--gpu H100 does not go with --tiny"):
        recipe.recipe("deepseek-7b-sdpo", tiny=True, gpu="H100", output=tmp_path)


def test_tiny_dry_run_writes_nothing(capsys, tmp_path):
    assert recipe.recipe("deepseek-7b-sdpo", tiny=True, dry_run=True, output=tmp_path / "t") == 0
    out = capsys.readouterr().out
    printed, _ = json.JSONDecoder().raw_decode(out[out.index("{\n") :])
    (tmp_path / "job.json").write_text(json.dumps(printed))
    assert (
        read_job(tmp_path / "job.json") == tiny_job(load_recipe("deepseek-7b-sdpo"), tmp_path / "t")
        and not (tmp_path / "t").exists()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepseek-7b-sdpo-no-think", "deepseek-7b-sft-guided"])
def test_tiny_runs_end_to_end(name, tmp_path, monkeypatch, capsys):
    """Slow. The launcher's own command, a model that loads, an evaluation of before and after; sizes even
    smaller than --tiny's.
    """
    pytest.importorskip("trl")
    pytest.importorskip("accelerate")
    from sdlab.results.store import load_results
    from sdlab.runs.loading import load_run

    monkeypatch.setenv("COLUMNS", "200")
    sampled = {"num_problems": 8, "num_generations": 4}
    sizes = {"steps": 1} | ({"batch_size": 16} if "sft" in name else sampled)
    one = load_recipe(name)
    assert recipe_tiny.run_tiny(one, tmp_path / "run", sizes=sizes, problems=2) == 0
    job = read_job(tmp_path / "run" / "job.json")
    assert job == replace(
        tiny_job(one, tmp_path / "run"), config=replace(tiny_job(one, tmp_path / "run").config, **sizes)
    )
    run = load_run(tmp_path / "run")
    assert run.finished and len(run.steps) == 1
    results = load_results([tmp_path / "run" / "evaluations"])
    assert {(result.model, result.benchmark) for result in results} == {
        (model, split) for model in ("organism", f"tiny {name}") for split in recipe_tiny.TINY_SPLITS
    }
    if "sft" in name:
        traces = [json.loads(line) for line in (tmp_path / "run" / "traces.jsonl").read_text().splitlines()]
        assert len(traces) == 4 * 16 and all(trace["completion"] for trace in traces)
    with pytest.raises(SdlabError, match="already holds a run"):
        recipe_tiny.run_tiny(one, tmp_path / "run")
    capsys.readouterr()


def test_files_are_plain_toml_that_shows_every_hyper_parameter():
    for path in RECIPES.glob("*.toml"):
        about = tomllib.loads(path.read_text())
        assert {"steps", "learning_rate", "warmup_steps", "max_completion_length", "thinking"} <= set(
            about["config"]
        ), path
        if about["job"]["method"] == "sdpo":
            assert about["config"]["context"] in TEACHER_CONTEXTS and {
                "teacher_model_kind",
                "teacher_update_rate",
                "distillation_alpha",
                "distillation_topk",
            } <= set(about["config"])
