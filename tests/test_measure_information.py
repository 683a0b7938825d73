"""Information against brute force, its laws on random tables, and the reasoner's and a model's against what
is known.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rollout_models import EOS, qwen3, word_tokenizer
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure import information as info
from sdlab.measure.chain import own_information, processing_chain, solutions
from sdlab.measure.evaluation import summarise
from sdlab.measure.model_information import model_information
from sdlab.measure.traces import REST, hints, likely_traces, sampled_information, trace_table
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.study.known_truth import compare_with_truth, draw_traces, mixed_families
from sdlab.world.evidence import NOTHING, Evidence, read_evidence
from sdlab.world.families import load_families
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.likelihood import enumerate_traces, log_prob
from sdlab.world.problems import Problem
from sdlab.world.solutions import is_right
from sdlab.world.splits import load_split

PROBLEM, SIBLINGS = load_families(2)[0]
few = settings(max_examples=40, deadline=None)


def tables(*sizes):
    """Random joint tables with zeros among their entries."""
    shape = st.tuples(*(st.integers(1, size) for size in sizes))
    entry = st.one_of(st.just(0.0), st.floats(0.01, 1.0))
    return (
        shape.flatmap(lambda s: arrays(float, s, elements=entry))
        .filter(lambda p: p.sum() > 0)
        .map(lambda p: p / p.sum())
    )


def by_hand(p_xyc) -> float:
    """I(y; c | x) by looping over every entry: sum_x p(x) KL(p(y,c|x) || p(y|x) p(c|x)), with scipy's own
    entropy.
    """
    total = 0.0
    for joint in p_xyc:
        p_x = joint.sum()
        if p_x > 0:
            apart = np.outer(joint.sum(1), joint.sum(0)) / p_x**2
            total += p_x * stats.entropy((joint / p_x).ravel(), apart.ravel())
    return total


@few
@given(tables(3, 4, 4))
def test_conditional_information_equals_brute_force_and_is_not_negative(p):
    value = info.conditional_mutual_information(p)
    assert value == pytest.approx(by_hand(p), abs=1e-9)
    assert value >= -1e-12
    loops = 0.0
    for x, y, c in itertools.product(*map(range, p.shape)):
        if p[x, y, c] > 0:
            loops += p[x, y, c] * math.log(p[x, y, c] * p[x].sum() / (p[x, y].sum() * p[x, :, c].sum()))
    assert value == pytest.approx(loops, abs=1e-9)


@few
@given(tables(4, 4))
def test_information_is_lost_entropy(p):
    value = info.mutual_information(p)
    assert value == pytest.approx(info.entropy(p.sum(1)) - info.conditional_entropy(p), abs=1e-9)
    assert value == pytest.approx(info.entropy(p.sum(0)) + info.entropy(p.sum(1)) - info.entropy(p), abs=1e-9)
    assert value == pytest.approx(info.conditional_mutual_information(p[None]), abs=1e-9)
    assert info.entropy(p) == pytest.approx(stats.entropy(p.ravel()), abs=1e-9)


@few
@given(tables(2, 3, 2, 3))
def test_chain_rule(p):
    x, y, c1, c2 = p.shape
    together = info.conditional_mutual_information(p.reshape(x, y, c1 * c2))
    first = info.conditional_mutual_information(p.sum(3))
    second = info.conditional_mutual_information(p.transpose(0, 2, 1, 3).reshape(x * c1, y, c2))
    assert together == pytest.approx(first + second, abs=1e-9)


@few
@given(tables(2, 4, 4), st.data())
def test_processing_the_context_never_adds_information(p, data):
    size = data.draw(st.integers(1, 4))
    channel = data.draw(arrays(float, (p.shape[2], size), elements=st.floats(0.01, 1.0)))
    channel /= channel.sum(1, keepdims=True)
    assert info.conditional_mutual_information(p @ channel) <= info.conditional_mutual_information(p) + 1e-12


@few
@given(tables(3, 3, 3), st.randoms())
def test_names_do_not_matter(p, rng):
    moved = p
    for axis, size in enumerate(p.shape):
        moved = np.take(moved, rng.sample(range(size), size), axis)
    assert info.conditional_mutual_information(moved) == pytest.approx(
        info.conditional_mutual_information(p), abs=1e-9
    )
    assert info.conditional_mutual_information(p.transpose(0, 2, 1)) == pytest.approx(
        info.conditional_mutual_information(p), abs=1e-9
    )


def test_known_values():
    copy = np.eye(4) / 4
    assert info.mutual_information(copy) == pytest.approx(math.log(4)) and info.conditional_entropy(
        copy
    ) == pytest.approx(0)
    assert info.mutual_information(copy) * info.BITS == pytest.approx(2)
    assert info.mutual_information(np.outer([0.2, 0.8], [0.5, 0.3, 0.2])) == pytest.approx(0, abs=1e-12)
    flip = 0.1  # binary symmetric channel: log 2 - H(flip)
    channel = np.array([[1 - flip, flip], [flip, 1 - flip]]) / 2
    assert info.mutual_information(channel) == pytest.approx(math.log(2) - stats.entropy([flip, 1 - flip]))
    xor = np.zeros((2, 2, 2))  # y = x xor c: c alone says nothing, c given x everything
    for x, c in itertools.product(range(2), repeat=2):
        xor[x, x ^ c, c] = 0.25
    assert info.mutual_information(xor.sum(0)) == pytest.approx(0, abs=1e-12)
    assert info.conditional_mutual_information(xor) == pytest.approx(math.log(2))
    assert info.kl_divergence([1, 0], [0, 1]) == math.inf


@pytest.mark.parametrize(
    "bad, told",
    [
        ([[0.5, -0.1], [0.3, 0.3]], "p_yc holds -0.1; probabilities must be"),
        ([[0.5, 0.1], [0.3, 0.3]], "p_yc sums to 1.2; a joint table must sum to 1"),
        ([0.5, 0.5], "p_yc has shape \\(2,\\); it needs 2 axes"),
        ([[0.5, math.nan], [0.25, 0.25]], "p_yc holds nan"),
        ([[]], "p_yc is empty"),
        ([["a", "b"]], "p_yc is no table of numbers"),
    ],
)
def test_what_is_no_table_is_told(bad, told):
    with pytest.raises(SdlabError, match=told):
        info.mutual_information(bad)


def test_shapes_of_two_tables_must_agree():
    with pytest.raises(SdlabError, match="one shape"):
        info.kl_divergence([0.5, 0.5], [1.0])


@pytest.mark.parametrize("evidence", [NOTHING, Evidence({0: (1, 0.7)})], ids=["alone", "hint"])
def test_likely_traces_are_all_traces_where_those_are_few(evidence):
    everything = {t.text: math.exp(t.log_prob) for t in enumerate_traces(PROBLEM, evidence)}
    assert likely_traces(PROBLEM, evidence, floor=1e-12) == pytest.approx(everything)
    pruned = likely_traces(PROBLEM, evidence, floor=0.01)
    assert pruned == pytest.approx({text: p for text, p in everything.items() if p >= 0.01})
    assert 0 < len(pruned) < len(everything)


def test_a_credible_claim_has_endless_traces_and_the_likely_ones_hold_nearly_everything():
    evidence = Evidence({0: (0, 0.98)})
    found = likely_traces(PROBLEM, evidence, floor=1e-8)
    assert 1 - 1e-4 < math.fsum(found.values()) < 1
    for text, p in list(found.items())[::20]:
        assert math.log(p) == pytest.approx(log_prob(text, PROBLEM, evidence), abs=1e-9)


@pytest.mark.parametrize("reliability", [0.55, 0.7, 0.9])
def test_exact_information_of_hints_against_its_definition(reliability):
    contexts = hints(PROBLEM, reliability)
    table = trace_table(PROBLEM, contexts)
    traces = [
        {t.text: math.exp(t.log_prob) for t in enumerate_traces(PROBLEM, evidence)}
        for _, evidence in contexts
    ]
    total = 0.0
    for (weight, _), row in zip(contexts, traces, strict=True):
        for text, p in row.items():
            total += (
                weight
                * p
                * math.log(p / sum(w * other[text] for (w, _), other in zip(contexts, traces, strict=True)))
            )
    assert table.information == pytest.approx(total, abs=1e-5) and table.unlisted < 1e-5
    assert table.plug_in == pytest.approx(table.information + table.gap, rel=1e-12)
    assert table.gap > 0.0001
    assert table.expect(lambda text: 1.0) == pytest.approx(1)


def test_hints_run_from_nothing_to_a_revelation():
    """The hint is worth 0 at chance and log n when it decides, and more the more reliable it is."""
    values = [trace_table(PROBLEM, hints(PROBLEM, r)).information for r in (0.5, 0.6, 0.75, 0.9, 1.0)]
    assert values[0] == pytest.approx(0, abs=1e-12) and values[-1] == pytest.approx(math.log(2), abs=1e-12)
    assert values == sorted(values)
    assert trace_table(PROBLEM, hints(PROBLEM, 1.0)).expect(
        lambda text: is_right(PROBLEM, text)
    ) == pytest.approx(0.5)


def test_hints_follow_the_prior():
    kata = load_split("kata", limit=1)[0]
    assert [p for p, _ in hints(kata, 0.7)] == pytest.approx([0.25] * 4)
    assert hints(kata, 0.7)[2][1] == Evidence({0: (2, 0.7)})
    with pytest.raises(SdlabError, match="reliability=1.5 is not allowed"):
        hints(kata, 1.5)
    with pytest.raises(SdlabError, match="no slot 3"):
        hints(kata, 0.5, slot=3)


def test_the_plug_in_is_infinite_where_a_context_allows_a_sentence_of_its_own():
    table = trace_table(PROBLEM, hints(PROBLEM, 0.97))
    assert table.plug_in == math.inf == table.gap and table.information < math.log(2)
    own = [
        t
        for t, mixed, alone in zip(table.texts, table.mixture, table.alone, strict=True)
        if mixed > 0 and alone == 0 and t != REST
    ]
    assert own and all("Actually no." in text for text in own)


def test_sampling_agrees_with_the_exact_value():
    problems = [problem for problem, _ in load_families(2)]
    frame = sampled_information(problems, lambda problem: hints(problem, 0.8), num_traces=400)
    tables = [trace_table(problem, hints(problem, 0.8)) for problem in problems]
    for column in ("information", "plug_in"):
        exact = np.mean([getattr(table, column) for table in tables])
        assert abs(frame[column].mean() - exact) < 4 * frame[column].std() / math.sqrt(len(frame))
    assert (frame["given"] - frame["alone"]).to_numpy() == pytest.approx(frame["plug_in"].to_numpy())
    long = summarise(frame, metrics=["information"])
    assert long["low"].iloc[0] <= long["mean"].iloc[0] <= long["high"].iloc[0]


def test_sampling_works_on_problems_too_big_to_list():
    frame = sampled_information(
        load_split("deeper", limit=3), lambda problem: hints(problem, 1.0, slot=1), num_traces=4
    )
    for problem in load_split(
        "deeper", limit=3
    ):  # a revelation about one slot is worth its whole entropy, in every trace
        found = frame.loc[frame["problem_id"] == problem.id, "information"]
        assert found.to_numpy() == pytest.approx(math.log(len(problem.slots[1].candidates)), abs=1e-9)
    with pytest.raises(SdlabError, match="sums to 0.5"):
        sampled_information([PROBLEM], lambda problem: [(0.5, NOTHING)])


def test_families_differ_in_the_hidden_value_alone():
    for size in (2, 3, 4, 5):
        for problem, siblings in load_families(size, limit=4):
            assert problem in siblings and len(siblings) == size
            assert [s.slots[0].truth for s in siblings] == list(range(size))
            assert {s.slots[0].candidates for s in siblings} == {problem.slots[0].candidates}
            assert len({s.prompt for s in siblings}) == size == len({s.id for s in siblings})
    with pytest.raises(SdlabError, match="families of 7 candidates"):
        load_families(7)
    with pytest.raises(SdlabError, match="choose 1 to"):
        load_families(2, limit=10_000)


def test_exact_values_are_those_of_the_reasoner_with_these_knobs():
    knobs = Knobs(doubt=1.2, intuition=0.45)
    truth = PROBLEM.slots[0].truth
    contexts = hints(PROBLEM, 0.8, knobs=knobs)
    right = 0.45 + 0.55 / 2  # the belief in the right one of two candidates
    chances = [right * 0.8 + (1 - right) * 0.2, right * 0.2 + (1 - right) * 0.8]
    assert [p for p, _ in contexts] == pytest.approx(chances if truth == 0 else chances[::-1])
    table = trace_table(PROBLEM, contexts, knobs=knobs)
    alone = {trace.text: math.exp(trace.log_prob) for trace in enumerate_traces(PROBLEM, knobs=knobs)}
    listed = dict(zip(table.texts[:-1], table.alone, strict=False))
    for text, p in alone.items():
        assert p < 1e-6 or listed[text] == pytest.approx(p)
    assert table.information <= stats.entropy([p for p, _ in contexts]) + 1e-9
    frame = sampled_information([PROBLEM], lambda _: contexts, 400, knobs=knobs)
    error = frame["information"].std() / math.sqrt(len(frame))
    assert abs(frame["information"].mean() - table.information) < 4 * error
    for row in frame.iloc[:20].itertuples():
        assert row.alone == pytest.approx(log_prob(row.text, PROBLEM, knobs=knobs))
        assert row.given == pytest.approx(log_prob(row.text, PROBLEM, contexts[row.context][1], knobs=knobs))
    for draw in draw_traces(load_families(3, limit=2), 2, knobs=knobs):
        under = [
            log_prob(draw.text, draw.problem, read_evidence(draw.problem, s), knobs=knobs)
            for s in draw.solutions
        ]
        assert draw.exact["given"] == pytest.approx(under[draw.chosen])
        assert draw.exact["alone"] == pytest.approx(log_prob(draw.text, draw.problem, knobs=knobs))


@pytest.mark.parametrize("knobs", [BLIND, Knobs(intuition=0.45)], ids=["blind", "intuition"])
def test_solutions_come_with_the_prior(knobs):
    found = solutions(PROBLEM, SIBLINGS, knobs)
    slot = PROBLEM.slots[0]
    assert math.fsum(p for p, _, _ in found) == pytest.approx(1)
    for v, sibling in enumerate(SIBLINGS):
        assert math.fsum(p for p, text, _ in found if is_right(sibling, text)) == pytest.approx(
            (1 - knobs.intuition) * slot.prior[v] + knobs.intuition * (v == slot.truth)
        )
    assert {e.claims[0][1] for _, _, e in found} == {0.9, 0.98}


@pytest.mark.parametrize("knobs", [BLIND, Knobs(intuition=0.45)], ids=["blind", "intuition"])
@pytest.mark.parametrize("number", range(len(load_families(2))))
def test_the_data_processing_chain_on_the_world(number, knobs):
    problem, siblings = load_families(2)[number]
    chain = processing_chain(problem, siblings, knobs)
    assert chain["solution"] > chain["regenerated"] > chain["solution_no_think"] > 0
    assert chain["solution"] <= math.log(2) + info.entropy([0.8, 0.2])  # H(what can be read in s)


def test_the_chain_against_the_full_table_of_solutions():
    """I(y; s) with every text s as a context of its own; processing merges texts, so it equals the grouped
    one.
    """
    contexts = [(p, evidence) for p, _, evidence in solutions(PROBLEM, SIBLINGS)]
    rows = {}
    for _, evidence in contexts:
        rows.setdefault(repr(evidence), likely_traces(PROBLEM, evidence, floor=1e-6))
    texts = list(dict.fromkeys(text for row in rows.values() for text in row))
    given_s = np.array([[rows[repr(e)].get(text, 0.0) for text in texts] for _, e in contexts])
    joint = np.array([p for p, _ in contexts])[:, None] * given_s
    chain = processing_chain(PROBLEM, SIBLINGS)
    assert info.mutual_information((joint / joint.sum()).T) == pytest.approx(chain["solution"], abs=1e-3)
    said = [e.answer for _, e in contexts]
    merged = np.array([joint[[a == answer for a in said]].sum(0) for answer in sorted(set(said))])
    assert info.mutual_information((merged / merged.sum()).T) == pytest.approx(
        chain["solution_no_think"], abs=1e-3
    )
    with pytest.raises(SdlabError, match="more than 20 traces"):
        likely_traces(PROBLEM, limit=20)
    with pytest.raises(SdlabError, match="choose a family of 2"):
        processing_chain(*load_families(3)[0])


def test_traces_written_from_each_context_carry_less_the_less_it_holds():
    own = own_information(PROBLEM, SIBLINGS)
    values = {name: table.information for name, table in own.items()}
    assert values["solution"] > values["regenerated"] > values["solution_no_think"] > 0.05
    lengths = [own[name].expect(len) for name in ("solution", "regenerated", "solution_no_think")]
    assert lengths == sorted(lengths)
    bare = read_evidence(PROBLEM, f"The answer is \\boxed{{{PROBLEM.answer}}}.")
    assert bare.claims == {} and bare.answer == PROBLEM.answer


# A language model whose whole distribution over answers of one token is known.

TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}"
VOCAB = 40


@pytest.fixture(scope="module")
def engine():
    tokenizer = word_tokenizer(VOCAB)
    tokenizer.chat_template = TEMPLATE
    return TorchEngine(qwen3(vocab=VOCAB, layers=2), tokenizer)


QUESTION = Problem("q", "math", "s", "k", "w3 w4 w5", "1")
SHOWN = ["w7 w8", "w9", "w10 w11 w12"]


def test_a_models_information_against_its_whole_table(engine):
    rows = [(shown, [token]) for shown in SHOWN for token in range(VOCAB)]
    found = model_information(
        engine,
        [QUESTION] * len(rows),
        [ids for _, ids in rows],
        [s for s, _ in rows],
        rivals=[SHOWN] * len(rows),
    )
    frame = found.frame.assign(shown=[shown for shown, _ in rows])
    p = np.exp(frame["given"].to_numpy()).reshape(3, VOCAB)
    assert p.sum(1) == pytest.approx([1, 1, 1], abs=1e-5)
    joint = p / p.sum()
    weights = joint.ravel()
    assert weights @ frame["information"] == pytest.approx(info.mutual_information(joint.T), abs=1e-5)
    alone = np.exp(frame["alone"].to_numpy()[:VOCAB])
    plug_in = np.mean([stats.entropy(row, alone) for row in p])
    assert weights @ frame["nats"] == pytest.approx(plug_in, abs=1e-5)
    gap = stats.entropy(joint.sum(0), alone)
    assert (
        weights @ frame["nats"] == pytest.approx(info.mutual_information(joint.T) + gap, abs=1e-5)
        and gap > 0.01
    )


def test_per_token_differences_against_plain_forward_passes(engine):
    text = "w13 w14 w15"
    found = model_information(engine, [QUESTION], [text], ["w7 w8"])
    sums = []
    for content in (
        "w3 w4 w5\n\nCorrect solution: w7 w8\n\nCorrectly solve the original question.",
        "w3 w4 w5",
    ):
        prompt = engine.tokenizer(content + " ", add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*prompt, 13, 14, 15, EOS]])
        with torch.no_grad():
            logps = engine.model(ids).logits.double().log_softmax(-1)[0]
        sums.append([float(logps[len(prompt) + t - 1, token]) for t, token in enumerate((13, 14, 15, EOS))])
    wanted = np.array(sums[0]) - np.array(sums[1])
    assert found.per_token[0] == pytest.approx(wanted, abs=1e-4)
    row = found.frame.iloc[0]
    assert row["nats"] == pytest.approx(wanted.sum(), abs=1e-4) and row["tokens"] == 4
    assert row["nats_per_token"] == pytest.approx(row["nats"] / 4)
    assert found.tokens[0][:3] == ["w13", "w14", "w15"]
    assert found.interval("nats", per="tokens").mean == pytest.approx(row["nats_per_token"])


def test_no_context_is_worth_nothing(engine):
    found = model_information(engine, [QUESTION], [[5, 6]], [None], rivals=[[None]])
    assert found.per_token[0] == pytest.approx([0, 0]) and found.frame[
        "information"
    ].tolist() == pytest.approx([0], abs=1e-9)


def test_traces_with_a_known_truth(engine):
    families = mixed_families()
    assert (
        len(families)
        == len({problem.id for problem, _ in families})
        == sum(len(load_families(n)) for n in (2, 3, 4, 5))
    )
    draws = draw_traces(families[:6], 3)
    assert [len(d.solutions) for d in draws[::3]] == [2, 3, 4, 5, 2, 3]
    assert draw_traces(families[:6], 3) == draws != draw_traces(families[:6], 3, seed=1)
    for draw in draws:
        under = [log_prob(draw.text, draw.problem, read_evidence(draw.problem, s)) for s in draw.solutions]
        assert draw.exact["given"] == pytest.approx(under[draw.chosen])
        assert draw.exact["information"] == pytest.approx(
            under[draw.chosen] - math.log(np.mean(np.exp(under)))
        )
        assert draw.exact["information"] <= math.log(len(under)) + 1e-9
        assert draw.right == is_right(draw.problem, draw.solutions[draw.chosen])
    frame, found = compare_with_truth(engine, draws)
    assert frame["exact_information"].tolist() == [d.exact["information"] for d in draws]
    assert len(found.per_token) == len(draws) and frame["right"].any() and not frame["right"].all()


@pytest.mark.parametrize(
    "change, told",
    [
        ({"completions": []}, "1 problems but 0 completions"),
        ({"demonstrations": ["a", "b"]}, "1 problems but 2 demonstrations"),
        ({"completions": [""]}, "completion 0 has no tokens"),
        ({"rivals": [["w9"]]}, "rivals\\[0\\] does not hold"),
    ],
)
def test_rows_that_do_not_fit_are_told(engine, change, told):
    arguments = {"problems": [QUESTION], "completions": ["w4"], "demonstrations": ["w7 w8"]} | change
    with pytest.raises(SdlabError, match=told):
        model_information(engine, **arguments)
    with pytest.raises(SdlabError, match="no column 'bits'"):
        model_information(engine, [QUESTION], ["w4"], ["w7"]).interval("bits")
