import dataclasses
import gzip
import json
import os
import re
import signal
import time

import numpy as np
import pandas
import pytest
import torch
from patience import PATIENCE

from sdlab.benchmarks.problems import ProblemSource
from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.findings import real_models
from sdlab.measure.evaluation import evaluate, summarise
from sdlab.measure.intervals import difference_interval
from sdlab.paper import PAPER_SAMPLING, paper_sampling
from sdlab.results import evaluate as evaluations
from sdlab.results.comparison import comparison, sentences, wide
from sdlab.results.evaluate import evaluate_benchmarks
from sdlab.results.result import slug
from sdlab.results.store import load_result, load_results, save_result
from sdlab.rollout.types import Rollouts, SamplingParams, Scores
from sdlab.text.markers import count_markers, total_markers
from sdlab.world.problems import Problem


class Tokenizer:
    def get_vocab(self):
        return {}

    chat_template = "<think>{{ messages }}"

    def apply_chat_template(self, messages, tokenize, add_generation_prompt, enable_thinking):
        return messages[0]["content"] + ("<think>" if enable_thinking else "")

    def __call__(self, text, add_special_tokens):
        return {"input_ids": list(map(list, text))}


class Engine:
    """Says what `texts` holds for a question, in turn; a token is a character, and a row is cut at the
    completion limit.
    """

    tokenizer = Tokenizer()
    cheap_entropy = False

    def __init__(self, texts, context=None):
        self.texts, self.asked, self.context_length = texts, [], context

    def generate(self, prompts, params, progress=None):
        self.asked.append((prompts, params))
        texts = [
            self.texts[p.removesuffix("<think>")][i] for p in prompts for i in range(params.num_generations)
        ]
        lengths = torch.tensor([min(len(text), params.max_completion_length) for text in texts])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        progress and progress(len(texts), len(texts))
        cut = torch.tensor([len(text) > params.max_completion_length for text in texts])
        return Rollouts(
            prompts,
            [[1]] * len(prompts),
            params.num_generations,
            mask.long(),
            mask,
            -mask.float(),
            cut,
            texts,
        )


PROBLEMS = [Problem(f"toy/{i}", "toy", "test", "sum", f"Question {i}?", str(30 + i)) for i in range(3)]
TEXTS = {
    "Question 0?": ["Wait, check. \\boxed{30}", "\\boxed{30} and then unlikely, " + "so " * 40],
    "Question 1?": ["<think>hmm \\boxed{31}</think> It is \\boxed{7}", "Maybe \\boxed{31}"],
    "Question 2?": ["\\boxed{32}", "\\boxed{32}"],
}
SAMPLING = SamplingParams(2, 60)


def run(engine=None, **options):
    return evaluate_benchmarks(
        engine or Engine(TEXTS), {"toy": PROBLEMS}, name="m", sampling=SAMPLING, **options
    )


def test_the_papers_settings_and_overrides():
    on, off = paper_sampling(True), paper_sampling(False)
    assert (on.num_generations, on.max_completion_length, on.temperature, on.top_p, on.top_k) == (
        16,
        38912,
        0.6,
        0.95,
        20,
    )
    assert (off.num_generations, off.max_completion_length, off.temperature, off.top_p, off.top_k) == (
        16,
        38912,
        0.7,
        0.8,
        20,
    )
    assert paper_sampling(True, num_generations=4, top_k=None) == dataclasses.replace(
        PAPER_SAMPLING["thinking"], num_generations=4
    )
    with pytest.raises(SdlabError, match="unknown sampling setting 'n'"):
        paper_sampling(n=3)
    with pytest.raises(SdlabError, match="temperature=-1"):
        paper_sampling(temperature=-1)


def test_a_cut_response_counts_as_wrong_and_the_verdict_is_kept():
    (result,) = run()
    samples = result.samples
    assert samples["truncated"].tolist() == [0, 1, 0, 0, 0, 0]
    assert samples["verdict"].tolist() == [1, 1, 0, 1, 1, 1] and samples["reward"].tolist() == [
        1,
        0,
        0,
        1,
        1,
        1,
    ]
    assert result.problems["right"].tolist() == [1, 1, 2] and result.problems["rate"].tolist() == [
        0.5,
        0.5,
        1.0,
    ]
    assert any(
        note.startswith(
            "1 of 6 completions (16.7%) were cut at the length limit of 60 tokens: they count as wrong (1 of "
            "them had boxed"
        )
        for note in result.notes
    )
    assert any("Entropy is left out" in note for note in result.notes) and "entropy" not in samples
    assert samples["markers"].tolist() == [2, 0, 1, 1, 0, 0]
    assert samples["markers_substring"].tolist() == [2, 1, 1, 1, 0, 0]  # unlikely
    told = result.summary().set_index("metric")
    assert told.loc["reward", "mean"] == pytest.approx(4 / 6) and told.loc[
        "truncated", "mean"
    ] == pytest.approx(1 / 6)
    assert told.loc["pass@2", "mean"] == 1 and "pass@3" not in told.index
    assert told.loc["density_substring", "mean"] == pytest.approx(1000 * 5 / samples["length"].sum())
    assert told.loc["length", "unit"] == "tokens"


def test_thinking_reaches_the_prompt_and_the_name():
    engine = Engine(TEXTS)
    run(engine, thinking=False)
    assert engine.asked[0][0] == [p.prompt for p in PROBLEMS]
    run(engine)
    assert engine.asked[1][0] == [p.prompt + "<think>" for p in PROBLEMS]


def test_the_limit_is_lowered_to_the_models_context_and_said():
    engine = Engine(TEXTS, context=120)
    (result,) = evaluate_benchmarks(engine, {"toy": PROBLEMS}, name="m", sampling=SamplingParams(2, 38912))
    assert engine.asked[0][1].max_completion_length == 120 - len("Question 0?<think>")
    assert any("102 tokens instead of 38,912" in note for note in result.notes)
    with pytest.raises(
        SdlabError, match="problem toy.2 has 18 tokens, which leaves no room in the model's context of 70"
    ):
        evaluate_benchmarks(Engine(TEXTS, context=70), {"toy": PROBLEMS}, name="m")


def test_problems_without_truth_have_no_score():
    untold = [dataclasses.replace(PROBLEMS[0], answer=""), *PROBLEMS[1:]]
    (result,) = evaluate_benchmarks(Engine(TEXTS), {"toy": untold}, name="m", sampling=SAMPLING)
    assert result.samples["reward"].isna().tolist() == [True, True, False, False, False, False]
    assert result.summary().set_index("metric").loc["reward", "problems"] == 2
    assert any(note.startswith("1 problems have no ground truth") for note in result.notes)
    (result,) = evaluate_benchmarks(
        Engine(TEXTS),
        {"toy": [dataclasses.replace(p, answer="") for p in PROBLEMS]},
        name="m",
        sampling=SAMPLING,
    )
    assert "reward" not in set(result.summary()["metric"]) and "length" in set(result.summary()["metric"])


def test_what_is_saved_is_what_was_measured(tmp_path):
    tricky = [
        dataclasses.replace(PROBLEMS[0], prompt='NA, "quoted"\r\n\n line\u2028 end ', answer="007", id="007"),
        dataclasses.replace(PROBLEMS[1], answer="NA"),
        PROBLEMS[2],
    ]
    texts = TEXTS | {tricky[0].prompt: ["\\boxed{007}\ud7ff\u2028 wait", ""]}
    (result,) = evaluate_benchmarks(
        Engine(texts), {"toy": tricky}, name="org/m 1", sampling=SAMPLING, output=tmp_path
    )
    assert result.folder == tmp_path / "org_m_1" / "toy" and sorted(os.listdir(result.folder)) == [
        "problems.csv",
        "result.json",
        "samples.jsonl.gz",
        "summary.csv",
    ]
    (fresh,) = evaluate_benchmarks(Engine(texts), {"toy": tricky}, name="org/m 1", sampling=SAMPLING)
    for a, b in ((result, fresh), (load_result(result.folder), fresh)):
        pandas.testing.assert_frame_equal(a.samples, b.samples, check_dtype=False)
        pandas.testing.assert_frame_equal(a.problems, b.problems)
    assert (
        result.problems["truth"].tolist() == ["007", "NA", "32"] and result.problems["problem_id"][0] == "007"
    )
    with gzip.open(result.folder / "samples.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    assert [line["completion"] for line in lines[:2]] == texts[tricky[0].prompt] and lines[0][
        "length"
    ] == len(lines[0]["completion"])
    about = json.loads((result.folder / "result.json").read_text())
    assert (
        about["sampled"]["max_completion_length"] == 60
        and about["provenance"]["sdlab"]
        and about["settings"]["thinking"] is True
    )
    assert all(sha256(result.folder / name) == told for name, told in about["sha256"].items())


def test_a_finished_benchmark_is_not_sampled_again_and_other_settings_are_refused(tmp_path):
    engine = Engine(TEXTS)
    before = run(engine, output=tmp_path)
    again = run(engine, output=tmp_path)
    assert len(engine.asked) == 1
    pandas.testing.assert_frame_equal(before[0].samples, again[0].samples)
    with pytest.raises(SdlabError, match="holds another result: seed is 0 there and 1 here"):
        run(engine, output=tmp_path, seed=1)
    with pytest.raises(SdlabError, match="holds another result: limit is None there and 2 here"):
        run(engine, output=tmp_path, limit=2)
    with pytest.raises(SdlabError, match="holds another result: problems_sha256"):
        evaluate_benchmarks(engine, {"toy": PROBLEMS[::-1]}, name="m", sampling=SAMPLING, output=tmp_path)
    assert len(engine.asked) == 1
    (new,) = run(engine, output=tmp_path, limit=2, overwrite=True)
    assert len(new.problems) == 2 and len(load_result(tmp_path / "m" / "toy").problems) == 2
    assert not [p for p in (tmp_path / "m").iterdir() if p.is_dir() and p.name != "toy"]


def test_a_kill_loses_the_benchmark_it_hit_and_no_finished_one(tmp_path):
    """The process is killed, for real, while the second benchmark is being sampled."""

    class Deadly(Engine):
        def generate(self, prompts, params, progress=None):
            if self.asked:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().generate(prompts, params, progress)

    both = {"first": PROBLEMS, "second": PROBLEMS[:2]}
    child = os.fork()
    if child == 0:
        try:
            evaluate_benchmarks(Deadly(TEXTS), both, name="m", sampling=SAMPLING, output=tmp_path)
        finally:
            os._exit(1)
    until = time.monotonic() + PATIENCE
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    assert os.WIFSIGNALED(ended[1])
    assert [p.name for p in (tmp_path / "m").iterdir() if p.is_dir()] == ["first"]
    engine = Engine(TEXTS)
    results = evaluate_benchmarks(engine, both, name="m", sampling=SAMPLING, output=tmp_path)
    assert [len(prompts) for prompts, _ in engine.asked] == [2]  # the second only
    whole = evaluate_benchmarks(Engine(TEXTS), both, name="m", sampling=SAMPLING)
    for a, b in zip(results, whole, strict=True):
        pandas.testing.assert_frame_equal(a.samples, b.samples)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_write_that_fails_leaves_the_old_result(tmp_path, monkeypatch, fails_at):
    run(output=tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "m" / "toy").iterdir()}
    real, calls = os.rename, []

    def rename(a, b):
        calls.append(a)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        real(a, b)

    monkeypatch.setattr("sdlab.results.store.os.rename", rename)
    with pytest.raises(SdlabError, match="could not write .*No space left"):
        run(output=tmp_path, seed=5, overwrite=True)
    monkeypatch.undo()
    engine = Engine(TEXTS)
    run(engine, output=tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "m" / "toy").iterdir()} == before and not engine.asked


def test_damage_and_foreign_folders_are_told(tmp_path):
    (result,) = run(output=tmp_path)
    samples = result.folder / "samples.jsonl.gz"
    samples.write_bytes(samples.read_bytes()[:-1])
    with pytest.raises(SdlabError, match="samples.jsonl.gz is missing or damaged"):
        load_result(result.folder)
    (result.folder / "result.json").write_text("{")
    with pytest.raises(SdlabError, match="is damaged or does not belong to a result"):
        load_result(result.folder)
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(SdlabError, match="holds no result, so it is not replaced"):
        save_result(run()[0], other, overwrite=True)
    with pytest.raises(SdlabError, match="no result in"):
        load_results([other])
    assert (other / "thesis.txt").read_text() == "precious"


def own_file(path, answers):
    rows = [{"question": f"Question {i}?", "answer": a} for i, a in enumerate(answers)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return ProblemSource(str(path), instruction="")


def test_a_file_of_problems_carries_its_name_and_checksum(tmp_path):
    source = own_file(tmp_path / "my.jsonl", ["30", "31"])
    options = {"name": "m", "sampling": SAMPLING, "output": tmp_path / "out"}
    (result,) = evaluate_benchmarks(Engine(TEXTS), [source], **options)
    assert result.benchmark == "my.jsonl" and result.folder == tmp_path / "out" / "m" / "my.jsonl"
    recorded = {"name": "my.jsonl", "sha256": sha256(tmp_path / "my.jsonl"), "instruction": ""}
    assert result.about["settings"]["problems"] == recorded
    again = Engine(TEXTS)
    evaluate_benchmarks(again, [source], **options)
    assert not again.asked
    with pytest.raises(SdlabError, match="holds another result: problems is"):
        evaluate_benchmarks(again, [own_file(tmp_path / "my.jsonl", ["30", "32"])], **options)
    (tmp_path / "other").mkdir()
    twin = own_file(tmp_path / "other" / "my.jsonl", ["30"])
    with pytest.raises(SdlabError, match="two files of problems are called my.jsonl"):
        evaluate_benchmarks(again, [source, twin], **options)


def test_a_file_is_not_stored_as_a_benchmark(tmp_path):
    own_file(tmp_path / "my.jsonl", ["30"])
    with pytest.raises(SdlabError, match="my.jsonl is not the file of math500.*use --problems .*my.jsonl"):
        evaluate_benchmarks(Engine(TEXTS), ["math500"], name="m", source=str(tmp_path / "my.jsonl"))


def test_bad_requests_are_told_before_anything_is_sampled(tmp_path):
    engine = Engine(TEXTS)
    with pytest.raises(SdlabError, match="needs a name"):
        evaluate_benchmarks(engine, {"toy": PROBLEMS})
    with pytest.raises(SdlabError, match="no benchmarks"):
        evaluate_benchmarks(engine, [], name="m")
    with pytest.raises(SdlabError, match="unknown split or benchmark 'aime1824'.*aime24.*in-domain"):
        evaluate_benchmarks(engine, ["in-domain", "aime1824"], name="m", output=tmp_path)
    with pytest.raises(SdlabError, match="cannot name a folder"):
        slug("///")
    assert not engine.asked and not list(tmp_path.iterdir())


def test_two_processes_do_not_sample_the_same_benchmark(tmp_path):
    class Impatient(Engine):
        def generate(self, *arguments, **options):
            with pytest.raises(SdlabError, match="another process is evaluating"):
                run(output=tmp_path)
            return super().generate(*arguments, **options)

    assert run(Impatient(TEXTS), output=tmp_path)[0].folder


@pytest.fixture(scope="module")
def organism(tmp_path_factory):
    """The shipped organism on two splits, 4 problems x 4: the slow part of this file."""
    folder = tmp_path_factory.mktemp("evaluations")
    options = dict(
        sampling=paper_sampling(True, num_generations=4, max_completion_length=256), limit=4, output=folder
    )
    told = []
    results = evaluate_benchmarks(
        "organism", ["in-domain", "unseen-types"], progress=lambda *at: told.append(at), **options
    )
    return folder, options, results, told


def test_the_organism_end_to_end(organism):
    folder, options, results, told = organism
    from sdlab.rollout.loading import load_engine
    from sdlab.seeds import stable_int
    from sdlab.world.splits import load_split

    assert [result.folder for result in results] == [
        folder / "organism" / "in-domain",
        folder / "organism" / "unseen-types",
    ]
    assert {at[0] for at in told} == {"in-domain", "unseen-types"} and told[-1] == ("unseen-types", 16, 16)
    result, params = (
        results[0],
        dataclasses.replace(options["sampling"], seed=stable_int("evaluation", "in-domain", 0)),
    )
    frame = evaluate(load_engine("organism"), load_split("in-domain", 0, 4), params)
    for column in ("problem_id", "generation", "completion", "length", "truncated", "truth", "kind"):
        assert result.samples[column].tolist() == frame[column].tolist()
    assert result.samples["verdict"].tolist() == frame["reward"].tolist()
    assert [sum(count_markers(text, "word").values()) for text in frame["completion"]] == result.samples[
        "markers"
    ].tolist()
    assert [total_markers(text, "substring") for text in frame["completion"]] == result.samples[
        "markers_substring"
    ].tolist()
    assert result.about["provenance"]["model_sha256"]["model.safetensors"]
    assert result.samples["entropy"].between(0, 3).all()
    per_word = result.markers().set_index("marker")["mean"]
    assert per_word["wait"] == pytest.approx(
        np.mean([count_markers(text)["wait"] for text in frame["completion"]])
    )


def test_the_entropy_is_the_engines(organism):
    from sdlab.rollout.loading import load_engine
    from sdlab.text.prompt import render_prompt
    from sdlab.world.splits import load_split

    engine, samples = load_engine("organism"), organism[2][0].samples
    row = samples[samples["truncated"] == 0].iloc[0]
    problem = next(p for p in load_split("in-domain", 0, 4) if p.id == row["problem_id"])
    ids = engine.tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + [
        engine.tokenizer.eos_token_id
    ]
    assert len(ids) == row["length"]
    text = torch.tensor(
        [
            engine.tokenizer(render_prompt(engine.tokenizer, problem), add_special_tokens=False)["input_ids"]
            + ids
        ]
    )
    with torch.no_grad():
        logps = engine.model(text).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
    assert row["entropy"] == pytest.approx(-(logps.exp() * logps).sum(-1).mean().item(), abs=1e-4)


def test_the_organisms_results_are_reused_without_loading_it(organism, monkeypatch):
    _folder, options, results, _ = organism
    monkeypatch.setattr(
        "sdlab.rollout.loading.load_engine", lambda *_, **__: pytest.fail("the model was loaded")
    )
    again = evaluate_benchmarks("organism", ["in-domain", "unseen-types"], **options)
    pandas.testing.assert_frame_equal(again[1].samples, results[1].samples)


def test_other_weights_are_another_result(organism, monkeypatch):
    _, options, _, _ = organism
    real = evaluations.provenance
    monkeypatch.setattr(
        evaluations,
        "provenance",
        lambda **about: (
            (found := real(**about)) | {"model_sha256": found["model_sha256"] | {"model.safetensors": "0"}}
        ),
    )
    with pytest.raises(SdlabError, match="the model's model.safetensors differs"):
        evaluate_benchmarks("organism", ["in-domain"], **options)


def test_a_real_benchmark_and_the_engine_reach_the_loaders(sdlab_real_data, monkeypatch):
    pytest.importorskip("datasets")
    source = sdlab_real_data("aime24.parquet")
    asked = []

    class Silent(Engine):
        def generate(self, prompts, params, progress=None):
            self.texts = {
                prompt.removesuffix("<think>"): ["\\boxed{204}"] * params.num_generations
                for prompt in prompts
            }
            return super().generate(prompts, params, progress)

    monkeypatch.setattr(
        "sdlab.rollout.loading.load_engine",
        lambda model, **options: asked.append((model, options)) or Silent({}),
    )
    (result,) = evaluate_benchmarks(
        "some/model",
        ["aime24"],
        engine="vllm",
        engine_settings={"max_model_len": 999},
        source=str(source),
        sampling=SAMPLING,
    )
    assert asked == [("some/model", {"engine": "vllm", "max_model_len": 999})] and len(result.problems) == 30
    assert result.problems["rate"].sum() == (result.problems["truth"] == "204").sum() > 0


def test_entropy_is_left_out_where_it_does_not_fit_the_memory():
    from sdlab.rollout.checks import OutOfMemory

    class Small(Engine):
        def score(self, *_, **__):
            raise OutOfMemory("too much")

    class Untold(Engine):
        def score(self, prompts, ids, **_):
            return Scores(torch.zeros(6, 3), torch.ones(6, 3, dtype=torch.bool), None)

    for engine in (Small(TEXTS), Untold(TEXTS)):
        frame = evaluate(engine, PROBLEMS, SAMPLING, entropy=True)
        assert len(frame) == 6 and "entropy" not in frame


def better(rate, name, seed, benchmark="toy", problems=range(20), samples=16):
    """A result of a model that solves every problem at about `rate`."""
    rng = np.random.default_rng(seed)
    texts = {
        f"Question {i}?": [
            f"wait so \\boxed{{{30 + i if rng.random() < rate else 0}}}" for _ in range(samples)
        ]
        for i in problems
    }
    asked = [
        Problem(
            f"{name}/{i}",
            "toy",
            "test",
            "sum",
            f"Question  {i}?" if name == "b" else f"Question {i}?",
            str(30 + i),
        )
        for i in problems
    ]
    texts |= {question.replace(" ", "  "): said for question, said in texts.items()}
    return evaluate_benchmarks(
        Engine(texts), {benchmark: asked}, name=name, sampling=SamplingParams(samples, 60)
    )[0]


def test_a_comparison_is_paired_by_prompt_and_says_what_is_not_significant():
    a, b, c = better(0.4, "a", 1), better(0.4, "b", 2), better(0.9, "c", 3)
    table = comparison([a, b, c], metrics=("reward", "pass@4", "length"))
    reward = table[table["metric"] == "reward"].set_index("model")
    assert (
        reward.loc["a", "verdict"] == ""
        and reward.loc["b", "verdict"] == "not significant"
        and reward.loc["c", "verdict"] == "significant"
    )
    assert (reward["common"] == [0, 20, 20]).all()  # their ids differ, their prompts do not (but for spaces)
    rates = [result.problems["rate"].to_numpy() for result in (a, c)]
    expected = difference_interval(rates[0], np.ones(20), rates[1], np.ones(20))
    assert tuple(reward.loc["c", ["difference", "difference_low", "difference_high"]]) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert reward.loc["c", "mean"] == pytest.approx(c.samples["reward"].mean())
    told = sentences(table, ["reward"])
    assert (
        len(told) == 2
        and told[0].startswith("toy, score: b minus a is")
        and told[0].endswith("20 problems): not significant.")
    )
    assert comparison([a, c], "c", ["reward"]).set_index("model").loc["a", "difference"] == pytest.approx(
        -expected.mean
    )
    assert (
        summarise(c.samples, metrics=["length"])["mean"][0]
        == table[(table.metric == "length") & (table.model == "c")]["mean"].item()
    )


def test_tables_for_readers_name_the_score_and_keep_the_numbers():
    a = better(0.1, "a", 1)
    table = comparison([a], metrics=("reward", "length", "density", "truncated"))
    shown, plain = real_models.comparison_table(table), wide(table)
    assert list(shown.columns) == ["score", "length", "markers per 1,000", "cut off"][: len(plain.columns)]
    assert shown.to_numpy().tolist() == plain.to_numpy().tolist()
    summary = real_models.summary_table(a, ("reward", "length"))
    assert summary.index.tolist() == ["score", "length"]
    assert summary["mean [95% interval]"].tolist() == plain.loc[("toy", "a"), ["reward", "length"]].tolist()


def test_a_comparison_says_why_there_is_no_difference():
    a, few, other = (
        better(0.1, "a", 1),
        better(1.0, "few", 2, problems=range(4)),
        better(0.5, "other", 3, problems=range(50, 60)),
    )
    far = better(0.5, "far", 4, benchmark="elsewhere")
    words = dataclasses.replace(better(0.4, "words", 5), about=a.about | {"length_unit": "words"})
    table = comparison([a, few, other, far, words], metrics=("reward", "length", "density"))
    verdict = table.set_index(["model", "metric"])["verdict"]
    assert verdict["few", "reward"] == "not significant: too few problems"
    assert (
        verdict["other", "reward"] == "no problem in common"
        and verdict["far", "reward"] == "the baseline has no result here"
    )
    assert verdict["words", "length"] == verdict["words", "density"] == "tokens and words cannot be compared"
    assert verdict["words", "reward"] in ("significant", "not significant")
    cells = wide(table, ["reward", "length", "entropy"])
    assert (
        list(cells.columns) == ["reward", "length"]
        and cells.loc[("toy", "words"), "length"].endswith(" words")
        and not cells.loc[("toy", "a"), "length"].endswith(" words")
    )
    with pytest.raises(SdlabError, match="two results of a on toy"):
        comparison([a, better(0.5, "a", 9)])
    with pytest.raises(SdlabError, match="unknown baseline 'z'"):
        comparison([a], "z")
    with pytest.raises(SdlabError, match="unknown metric 'speed'"):
        comparison([a], metrics=["speed"])
    with pytest.raises(SdlabError, match="nothing to compare"):
        comparison([])


def test_completions_without_a_readable_answer_are_counted_everywhere(tmp_path, capsys):
    from sdlab.commands.evaluate import compare

    texts = TEXTS | {"Question 2?": ["It is 32.", "So \\boxed{32"]}
    (result,) = run(Engine(texts), output=tmp_path)
    assert result.unreadable == "2 of 6" and load_result(result.folder).unreadable == "2 of 6"
    assert result.summary(["no_answer"])["mean"].tolist() == [pytest.approx(2 / 6)]
    assert result.pass_at_k()["no_answer"].unique().tolist() == [pytest.approx(2 / 6)]
    assert compare((tmp_path,)) == 0
    printed = capsys.readouterr().out
    assert "2 of 6" in printed and "No answer: completions without a readable answer" in printed
    assert max(map(len, printed.splitlines()[:6])) <= 80


def test_other_problems_prompts_and_sampling_are_said(tmp_path):
    from sdlab.results.conditions import differing_conditions

    def on(name, problems, sampling=SAMPLING, texts=TEXTS):
        (result,) = evaluate_benchmarks(Engine(texts), {"toy": problems}, name=name, sampling=sampling)
        return result

    a, same = on("a", PROBLEMS), on("same", PROBLEMS)
    assert differing_conditions([a, same], "a") == []
    assert differing_conditions([a, on("more", PROBLEMS, SamplingParams(1, 60))], "a") == []
    (sentence,) = differing_conditions([a, on("b", PROBLEMS[:2], SamplingParams(2, 60, 0.5))], "a")
    assert sentence.startswith(
        "toy: b and a differ in more than the model: other problems (2 and 3, 2 in common"
    )
    assert "temperature 0.5 and 1.0" in sentence
    asked = [dataclasses.replace(problem, prompt=problem.prompt + " Please.") for problem in PROBLEMS]
    texts = {one.prompt: TEXTS[one.prompt.removesuffix(" Please.")] for one in asked}
    (sentence,) = differing_conditions([a, on("polite", asked, texts=texts)], "a")
    assert "other prompts for 3 problems, so none can be paired" in sentence


def test_a_folder_of_results_has_an_index_page(tmp_path, capsys):
    from sdlab.commands.evaluate import compare
    from sdlab.results.index import write_index

    with pytest.raises(SdlabError, match="no result in"):
        write_index(tmp_path)
    evaluate_benchmarks(Engine(TEXTS), {"toy": PROBLEMS}, name="<b>m", sampling=SAMPLING, output=tmp_path)
    other = SamplingParams(2, 60, 0.5)
    evaluate_benchmarks(Engine(TEXTS), {"toy": PROBLEMS}, name="n", sampling=other, output=tmp_path)
    text = write_index(tmp_path).read_text()
    assert "&lt;b&gt;m" in text and "<b>m" not in text and "0.67 [" in text
    assert "temperature" in text and "were cut at the length limit" in text
    links = re.findall(r'href="([^"]+)"', text)
    assert len(links) == 8 and all((tmp_path / link).is_file() for link in links)
    assert compare((tmp_path,), baseline="n") == 0
    assert "differ in more than the model: temperature 1.0 and 0.5" in capsys.readouterr().out


def test_markers_are_counted_in_a_results_folder(tmp_path):
    from sdlab.commands.markers import markers_report

    (result,) = run(output=tmp_path)
    expected = sum(total_markers(text) for text in result.samples["completion"])
    for place in (tmp_path, result.folder, result.folder / "samples.jsonl.gz"):
        table = markers_report(place)
        assert table.attrs["source"].startswith("6 texts of column 'completion' in 1 file;")
        assert table.set_index("marker").loc["total", "count"] == expected


def test_the_commands(organism, tmp_path, capsys, monkeypatch):
    from sdlab.commands.evaluate import compare, evaluate

    monkeypatch.setenv("COLUMNS", "200")
    folder, _options, results, _ = organism
    assert (
        evaluate(
            "organism",
            "in-domain, unseen-types",
            output=folder,
            num_generations=4,
            max_completion_length=256,
            limit=4,
        )
        == 0
    )
    told = capsys.readouterr().out
    score = wide(comparison(results)).loc[("in-domain", "organism"), "reward"]
    assert "score (avg@n)" in told and score in told and f"wrote {folder / 'organism' / 'in-domain'}" in told
    assert compare((folder,), output=tmp_path / "table.csv") == 0
    assert score in capsys.readouterr().out
    assert set(pandas.read_csv(tmp_path / "table.csv")["benchmark"]) == {"in-domain", "unseen-types"}
