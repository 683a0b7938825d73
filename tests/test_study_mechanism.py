"""The recorded study of mechanisms: counted tables, one real model, resuming, verdicts and bad input."""

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from sdlab import charts
from sdlab.errors import SdlabError
from sdlab.files import to_json
from sdlab.findings import doubt_back, doubt_left
from sdlab.measure.intervals import tidy
from sdlab.measure.ladder import (
    AS_IT_IS,
    NEUTRAL_WORDS,
    NO_CHECKS,
    NO_WORDS,
    RANDOM,
    STEER,
    SUMS,
    climb,
    removals,
    returns,
)
from sdlab.measure.probes import ProbeScore, probe_table
from sdlab.measure.readouts import CHANGE, MARKER, RESIDUAL, TRUE, UNEMBEDDING
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import SamplingParams
from sdlab.study import mechanism
from sdlab.study.mechanism_claims import CLAIMS, Claim, claim_rows, claims_by_organism
from sdlab.study.mechanism_pack import pack, probe_rows
from sdlab.study.mechanism_recorded import Estimate, Interval, Point, load_mechanism, load_mechanisms
from sdlab.study.mechanism_unit import Sizes, measure_model, scored
from sdlab.world.splits import load_split

SPLITS = ("in-domain", "unseen-types")
SIZES = Sizes(probe_problems=60, ladder_problems=3, num_generations=1, doses=(0.5,), max_completion_length=48)


@dataclass
class Unit:
    organism: str
    condition: str
    seed: int | None
    folder: Path
    model: str


def probe_score(target, layer, control, value, seed):
    parts = np.random.default_rng(seed).normal(size=20) / 10
    problems = [f"p{i}" for i in range(20)]
    return ProbeScore(
        target, layer, control, "R2", value, pandas.Series(parts - parts.mean(), problems), 40, 8
    )


def write_unit(folder: Path, condition: str, seed: int | None, score: dict[str, float], shift=0.0) -> Unit:
    """A measured model with 20 problems; `score`: intervention -> share of right completions."""
    folder = folder / f"{condition}-{seed}"
    folder.mkdir(parents=True)
    rows = []
    for split in SPLITS:
        for source in ("own",) if condition == "base" else ("own", "base"):
            for target in ("entropy", "candidates", "right", "refuted"):
                for layer in (0, 1, 2):
                    value = (0.0, 0.5, 0.9)[layer] - shift * (source == "base") - shift / 10
                    rows.append(scored(split, source, probe_score(target, layer, "none", value, layer)))
        rows.append(scored(split, "own", probe_score("entropy", None, "position", 0.1, 5)))
    (folder / "probes.json").write_text(to_json(rows))
    problems = [f"p{i:02d}" for i in range(20)]
    measures = {MARKER: 0.6 - shift, CHANGE: -4.0, UNEMBEDDING: -0.4, RESIDUAL: -3.6, TRUE: 0.9}
    readouts = [
        {"measure": measure, "problem_id": name, "total": 2 * value, "count": 2, "split": split}
        for measure, value in measures.items() for split in SPLITS for name in problems
    ]  # fmt: skip
    pandas.DataFrame(readouts).to_csv(folder / "readouts.csv", index=False)
    steps = []
    for split in SPLITS:
        for (name, layer, dose), share in score.items():
            for i, problem in enumerate(problems):
                right = 4 * share + (0.2 if i % 2 else -0.2) + 0.1 * (seed or 0)
                sums = dict(zip(SUMS, (right, 20 * share, 8 * share, 400), strict=True))
                about = {"intervention": name, "layer": layer, "dose": dose, "problem_id": problem}
                steps.append(about | {"generations": 4, "split": split} | sums)
    pandas.DataFrame(steps).to_csv(folder / "interventions.csv", index=False)
    path = folder / "model.safetensors"
    path.write_bytes(condition.encode())
    return Unit("organism-small", condition, seed, folder, str(folder))


NONE = (float("nan"), float("nan"))
PLAIN = [
    NEUTRAL_WORDS,
    NO_WORDS,
    NO_CHECKS,
    "insert a word",
    "insert a check",
    "one nudge",
    "a nudge at every guess",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A base at 0.8, SDPO at 0.2 with two seeds; steering brings 0.6, a random direction nothing."""
    place = tmp_path_factory.mktemp("mechanism")
    base = {(AS_IT_IS, *NONE): 0.8} | {(name, *NONE): 0.8 for name in PLAIN} | {(NO_CHECKS, *NONE): 0.3}
    own = {(AS_IT_IS, *NONE): 0.2} | {(name, *NONE): 0.4 for name in PLAIN} | {("insert a check", *NONE): 0.6}
    own |= {(STEER, 1, 0.5): 0.3, (STEER, 2, 0.5): 0.6, (RANDOM, 1, 0.5): 0.2, (RANDOM, 2, 0.5): 0.2}
    own |= {("block of the base", 1, NONE[0]): 0.3, ("all blocks of the base", *NONE): 0.9}
    units = [write_unit(place / "units", "base", None, base)]
    units += [write_unit(place / "units", "sdpo", seed, own, shift=0.4) for seed in (0, 1)]
    pack("organism-small", units, SIZES, place / "data", "a command")
    return load_mechanism("organism-small", place / "data"), units


def test_means_and_differences_are_those_of_the_cells(study):
    one, _ = study
    after, before = Point("sdpo"), Point("base")
    assert one.mean(before, "reward", "unseen-types").mean == pytest.approx(0.8)
    assert one.mean(after, "reward", "unseen-types").mean == pytest.approx(0.2 + 0.1 / 8)
    lost = one.combine([(1, before), (-1, after)], "reward", "unseen-types")
    assert lost.interval.mean == pytest.approx(0.6 - 0.1 / 8) and lost.seeds == 2
    # the problems' part is the same in both models, so only the seeds vary: t with one degree of freedom
    assert lost.interval.high - lost.interval.mean == pytest.approx(12.706 * 0.025 / 2, rel=1e-3)
    half = one.combine(
        [(1, Point("sdpo", STEER, 2, 0.5)), (-0.5, after), (-0.5, before)], "reward", SPLITS[1]
    )
    assert half.interval.mean == pytest.approx(0.6 - 0.5 + 0.1 / 16)
    assert one.chosen_dose("sdpo") == Point("sdpo", STEER, 2, 0.5)


def test_readouts_are_compared_with_the_base(study):
    one, _ = study
    assert one.mean_readout("base", MARKER).mean == pytest.approx(0.6)
    assert one.readout_ratio("sdpo", MARKER, "base").interval.mean == pytest.approx(1 / 3)
    assert one.readout_ratio("sdpo", UNEMBEDDING, CHANGE).interval.mean == pytest.approx(0.1)
    assert one.readout_change("sdpo", TRUE).interval.mean == pytest.approx(0)


def test_a_share_of_a_change_is_judged_by_a_difference_and_only_where_a_change_is_shown(study):
    one, _ = study
    found = one.readout_excess("sdpo", UNEMBEDDING, CHANGE, 0.25)
    assert found.interval.mean == pytest.approx(0.6)  # -(0.25 * -4 + 0.4): 0.4 is less than a quarter of 4
    question = "less than a quarter of the change of the markers' logits is in the unembedding"
    (claim,) = (claim for claim in CLAIMS if claim.claim == question)
    assert claim.measure(one).verdict == "agrees"
    rows = one.readouts
    for scale, verdict in ((3.0, "disagrees"), (-1.0, "agrees")):  # 1.2 of 4; a part in the other direction
        part = rows["total"].where(rows["measure"] != UNEMBEDDING, scale * rows["total"])
        turned = type(one)("x", one.probes, rows.assign(total=part), one.interventions, one.about)
        assert claim.measure(turned).verdict == verdict
    # a change that is as often up as down has no direction, so nothing is a share of it
    signs = rows["problem_id"].str[1:].astype(int) % 2 * 2 - 1
    part = rows["total"].where(rows["measure"] != CHANGE, signs * rows["total"])
    none = claim.measure(type(one)("x", one.probes, rows.assign(total=part), one.interventions, one.about))
    assert (none.verdict, none.remark) == ("not settled", "no logit change is shown")


def test_points_with_different_seeds_are_refused_not_paired_by_place(study):
    one, _ = study
    rows = one.interventions
    other = (rows["model"] == "sdpo") & (rows["intervention"] == NO_WORDS)
    terms = [(1, Point("sdpo")), (-1, Point("sdpo", NO_WORDS))]
    for table in (
        rows.assign(seed=rows["seed"].where(~other, rows["seed"] + 5)),  # seeds 5 and 6
        rows[~(other & (rows["seed"] == 1))],  # seed 0 only, which is not the same model as seed 1
    ):
        turned = type(one)("x", one.probes, one.readouts, table, one.about)
        with pytest.raises(SdlabError, match="the points have the training seeds"):
            turned.combine(terms, "reward", SPLITS[1])


def test_probes_of_other_problems_are_not_packed(study, tmp_path):
    units = [shutil.copytree(unit.folder, tmp_path / unit.folder.name) for unit in study[1]]
    rows = json.loads((units[1] / "probes.json").read_text())
    turned = [row | {"problems": row["problems"][::-1]} for row in rows]
    (units[1] / "probes.json").write_text(json.dumps(turned))
    moved = [replace(unit, folder=folder) for unit, folder in zip(study[1], units, strict=True)]
    with pytest.raises(SdlabError, match="judged on different problems, or in another order"):
        probe_rows(moved)


def test_packed_probes_are_those_of_the_table_of_probes(study):
    one, units = study
    runs = [[probe_score("entropy", 2, "none", 0.86, 2)] for _ in (0, 1)]
    expected = probe_table(*runs).iloc[0]
    row = one.probe("sdpo", "in-domain")
    assert one.best_layer() == 2 and row["seeds"] == 2
    assert row[["mean", "low", "high"]].astype(float).tolist() == pytest.approx(
        expected[["mean", "low", "high"]].astype(float).tolist(), abs=1e-4
    )
    # equal parts cancel: the change has no width
    assert row[["change", "change_low", "change_high"]].astype(float).tolist() == pytest.approx([-0.04] * 3)
    table = probe_rows(units)
    assert math.isnan(table.loc[table["control"] == "position", "layer"].iloc[0])
    assert table.loc[table["model"] == "base", "change"].isna().all()


def test_verdicts_follow_from_the_cells(study):
    one, _ = study
    verdicts = {claim: row["verdict"] for claim, row in claim_rows(one).items()}
    assert verdicts["the base keeps its score when neutral words stand in for words of doubt"] == "yes"
    assert verdicts["the base loses score without checks, even with words of doubt"] == "yes"
    assert verdicts["after SDPO an inserted check helps more than an inserted word of doubt"] == "yes"
    assert verdicts["steering towards doubt raises the score"] == "yes"
    assert verdicts["it raises the score more than a random direction of the same size"] == "yes"
    assert verdicts["a nudge to check at every guess brings back at least half of the lost score"] == "no"
    assert verdicts["at the same places a marker is at most half as likely as before"] == "yes"
    assert verdicts["a probe reads the belief's entropy nearly as well as before, in-domain"] == "yes"


def test_one_seed_and_no_loss_settle_nothing(study):
    one, _ = study

    def estimate(seeds):
        return lambda _: Estimate(Interval(1.0, 0.9, 1.1), Interval(1.0, 0.9, 1.1), seeds)

    assert Claim("", "", "", estimate(1), low=0).measure(one).verdict == "not settled"
    assert Claim("", "", "", estimate(1), low=0, one_model=True).measure(one).verdict == "agrees"
    assert Claim("", "", "", estimate(2), low=0).measure(one).verdict == "agrees"
    assert Claim("", "", "", estimate(2), low=0, lost="reward").measure(one).verdict == "agrees"
    # where the base is no better than the trained model, no share of a loss can come back
    equal = one.interventions.assign(reward=2.0)
    turned = type(one)("x", one.probes, one.readouts, equal, one.about)
    lost = Claim("", "", "", estimate(2), low=0, lost="reward").measure(turned)
    assert (lost.verdict, lost.remark) == ("not settled", "no loss of score is shown")


def test_every_claim_has_its_own_words_and_a_way_to_fail(study):
    assert len({claim.claim for claim in CLAIMS}) == len(CLAIMS)
    assert all(math.isfinite(claim.low) or math.isfinite(claim.high) for claim in CLAIMS)
    table = claims_by_organism({"a": study[0], "b": study[0]})
    assert (table["all"] != "differs").all() and list(table.columns[-3:]) == ["a", "b", "all"]


def test_tables_sentences_and_charts(study):
    one, _ = study
    studies = {"organism-small": one}
    assert doubt_left.about({}).startswith("Nothing is recorded")
    assert "seeds 0, 1" in doubt_left.about(studies) and one.current
    assert "at layer 1, 2 (of 1 to 2, each judged by itself)" in doubt_left.layer_words(one)
    rows = doubt_back.ladder_table(one, "sdpo", (STEER,))
    assert list(rows.index) == ["as it is", "steer, layer 1, dose 0.5", "steer, layer 2, dose 0.5"]
    assert rows.loc["steer, layer 2, dose 0.5", "change"].startswith("+0.40")
    assert doubt_left.probe_table(one).loc["SDPO, c = s", "base's probe, in-domain"].startswith("0.46")
    assert len(doubt_left.answers(studies)) == 4 and len(doubt_left.claim_table(studies)) == len(CLAIMS)
    assert "dose 0.5 has the best score in-domain" in doubt_back.steering_words(one)
    rows = doubt_back.dose_rows(one)
    chart = charts.dose_curves(rows)
    strongest = rows.query("x == 0.5 and panel == 'markers per completion'").set_index("model")["mean"]
    title = doubt_back.dose_title(rows)
    assert (
        f"{strongest.idxmax()}: markers" in title and f" to {tidy(strongest.max())}, score 0.21 to" in title
    )
    assert "score, layer 2: 0.21 at 0, 0.61 at 0.5" in chart.description
    assert (
        "unseen types, base: 0.00 at 0, 0.50 at 1, 0.90 at 2"
        in charts.layer_curves(doubt_left.layer_rows(one)).description
    )


def test_damaged_missing_and_unknown(study, tmp_path):
    one, units = study
    with pytest.raises(SdlabError, match="nothing is recorded for 'organism'"):
        load_mechanism("organism", tmp_path)
    assert load_mechanisms(tmp_path) == {}
    pack("organism-small", units, SIZES, tmp_path, "a command")
    assert list(load_mechanisms(tmp_path)) == ["organism-small"]
    (tmp_path / "organism-small.probes.csv.gz").write_bytes(b"")
    with pytest.raises(SdlabError, match="missing or damaged"):
        load_mechanism("organism-small", tmp_path)
    with pytest.raises(SdlabError, match="no probe"):
        one.probe("sdpo", layer=9)
    with pytest.raises(SdlabError, match="is recorded for"):
        one.cells(Point("sdpo", "hypnosis"), "reward", SPLITS[0])
    with pytest.raises(SdlabError, match="with --output"):
        mechanism.reproduce_mechanism(quick=True)


def test_absent_organisms_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SDLAB_DATA", str(tmp_path))
    lines = []
    with pytest.raises(SdlabError, match="no organism is in"):
        mechanism.reproduce_mechanism(report=lines.append)
    assert [line.partition(":")[0] for line in lines] == ["organism", "organism-1", "organism-2"]


def test_the_trained_models_are_those_of_the_recorded_conditions():
    cell = mechanism.training_cell("sdpo", "organism-1", 2, Path("w"))
    assert (cell.model, cell.folder, cell.config.seed) == ("organism-1", Path("w/sdpo_1/2"), 2)
    small = mechanism.training_cell("grpo", "organism-small", 0, Path("w"), quick=True)
    assert (small.model, small.folder, small.config.steps) == (
        "organism-small", Path("w/organism-small/grpo/0"), 3,
    )  # fmt: skip


def test_rungs_of_the_ladder_change_the_text_and_leave_no_trace():
    engine, base = load_engine("organism-small"), load_engine("organism-small")
    problems = load_split("in-domain", limit=2)
    params = SamplingParams(1, 40, seed=1)
    width = engine.model.config.hidden_size
    push = {1: 20 * np.random.default_rng(2).normal(size=width)}
    table = climb(engine, problems, params, removals(engine, push, (0.5,)))
    texts = table.groupby("intervention", sort=False)["completion"].apply("".join)
    assert list(texts.index) == [AS_IT_IS, NEUTRAL_WORDS, NO_WORDS, NO_CHECKS, "neither", STEER]
    assert "Check" not in texts[NO_CHECKS] and "Maybe" not in texts[NO_WORDS]
    back = climb(
        engine, problems, params, [*returns(engine, base, push, (0.5,)), removals(engine, {}, ())[0]]
    )
    whole = back.groupby(["intervention", "layer"], dropna=False, sort=False)["completion"].apply("".join)
    same = texts[AS_IT_IS]
    # the blocks of an equal model change nothing, and the first and last rung are the model as it is
    assert all(text == same for (name, _), text in whole.items() if "base" in name)
    assert "".join(back["completion"].tail(2)) == same
    assert whole[STEER, 1.0] != same and whole[RANDOM, 1.0] != same
    pushed = [rung for rung in returns(engine, base, push, (0.5,), seed=1) if rung.name == RANDOM]
    assert "".join(climb(engine, problems, params, pushed)["completion"]) != whole[RANDOM, 1.0]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The small organism, and the same one with other embeddings of its markers as a trained model."""
    place = tmp_path_factory.mktemp("units")
    engine = load_engine("organism-small")
    vocabulary = engine.tokenizer.get_vocab()
    rows = [token for word, token in vocabulary.items() if "Maybe" in word or "Check" in word]
    with torch.no_grad():
        engine.model.get_output_embeddings().weight[rows] *= 0.5
    for part in (engine.model, engine.tokenizer):
        part.save_pretrained(place / "trained")
    units = [Unit("organism-small", "base", None, place / "base", "organism-small")]
    units += [Unit("organism-small", "sdpo", 0, place / "sdpo", str(place / "trained"))]
    for unit in units:
        unit.folder.mkdir()
        files = measure_model("organism-small", unit.condition, unit.model, SIZES, unit.seed)
        for name, text in files.items():
            (unit.folder / name).write_text(text)
    return units


@pytest.mark.slow
def test_a_real_model_is_measured(measured, tmp_path):
    pack("organism-small", measured, SIZES, tmp_path, "a command")
    one = load_mechanism("organism-small", tmp_path)
    assert one.current and one.layers() == [1, 2, 3, 4]
    assert one.probe("base")["mean"] > 0.7 > one.probes.loc[one.probes["control"] != "none", "mean"].max()
    # less likely markers, by the unembedding alone or nearly so: it is tied to the embedding
    assert one.readout_ratio("sdpo", MARKER, "base").interval.mean < 0.9
    parts = [one.mean_readout("sdpo", name).mean for name in (CHANGE, UNEMBEDDING, RESIDUAL)]
    assert parts[0] == pytest.approx(parts[1] + parts[2], abs=1e-4) and parts[1] < 0
    rows = claim_rows(one)
    assert {row["verdict"] for row in rows.values()} <= {"yes", "no", "not settled"}


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(measured, tmp_path, monkeypatch):
    units = []
    for unit in measured:
        shutil.copytree(unit.folder, tmp_path / unit.condition)
        units.append(
            mechanism.Unit("organism-small", unit.condition, unit.seed, tmp_path / unit.condition, unit.model)
        )
        identity = mechanism._identity(units[-1], SIZES)
        (tmp_path / unit.condition / "unit.json").write_text(json.dumps(identity))
    lines = []
    mechanism._measure(units, SIZES, 1, lines.append)
    assert lines == []
    monkeypatch.setattr(mechanism, "ProcessPoolExecutor", None)  # needed as soon as something differs
    with pytest.raises(TypeError):
        mechanism._measure(units, Sizes(), 1, lines.append)
