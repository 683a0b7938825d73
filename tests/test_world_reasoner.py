"""The reasoner samples, scores and enumerates one distribution, and its doubt follows its belief."""

import math
import re
from collections import Counter, defaultdict

import pytest

from sdlab.errors import SdlabError
from sdlab.organism.corpus import draw_problem, write_document
from sdlab.seeds import stream
from sdlab.text.prompt import strip_thinking
from sdlab.world import hunts
from sdlab.world.evidence import BARE_CLAIM, CHECKED_CLAIM, NOTHING, Evidence, read_evidence
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.likelihood import enumerate_traces, explain, log_prob
from sdlab.world.problems import Problem
from sdlab.world.reasoner import believe, doubtfulness, entropy, sample
from sdlab.world.solutions import is_right, write_correct
from sdlab.world.splits import load_split

MARKER = re.compile(r"\b(wait|hmm|perhaps|maybe|actually|alternatively|seems|might|likely|check)\b", re.I)


def small_problem(candidates: int) -> Problem:
    """A hunt for one number with few candidates, so that all its traces can be written down."""
    rng = stream("test", "small", candidates)
    while True:
        picks = hunts.draw_hunt(rng, hunts.SEEN_TYPES, 1)
        if len(picks[0][2][1]) == candidates:
            return hunts.make_problem(picks, "small", "test")


SMALL = small_problem(3)
MOVED = Knobs(0.9, 0.5, 0.4, 0.8, 0.6, 0.3, 0.4, 0.2, 0.7, 0.1)  # every knob away from its default
KNOBS = {"blind": BLIND, "intuition": Knobs(intuition=0.45), "all moved": MOVED}
CONTEXTS = {
    "nothing": NOTHING,
    "right hint": Evidence({0: (SMALL.slots[0].truth, 0.8)}),
    "wrong hint": Evidence({0: ((SMALL.slots[0].truth + 1) % 3, 0.6)}),
    "answer": Evidence(answer=SMALL.answer),
}


@pytest.mark.parametrize("knobs", [BLIND, KNOBS["intuition"]], ids=["blind", "intuition"])
@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("evidence", CONTEXTS.values(), ids=CONTEXTS)
def test_probabilities_of_all_traces_sum_to_one(evidence, thinking, knobs):
    traces = list(enumerate_traces(SMALL, evidence, thinking, knobs=knobs))
    assert len({t.text for t in traces}) == len(traces), (
        "two paths write the same text: scoring would be ambiguous"
    )
    assert math.isclose(math.fsum(math.exp(t.log_prob) for t in traces), 1.0, abs_tol=1e-9)
    for trace in traces[:: max(1, len(traces) // 50)]:
        assert math.isclose(
            log_prob(trace.text, SMALL, evidence, thinking, knobs), trace.log_prob, abs_tol=1e-9
        )


@pytest.mark.slow
@pytest.mark.parametrize("knobs", KNOBS.values(), ids=KNOBS)
def test_log_probabilities_equal_sampling_frequencies(knobs):
    problem, n = small_problem(2), 20_000
    rng = stream("test", "frequencies")
    counts = Counter(sample(problem, rng, knobs=knobs).text for _ in range(n))
    exact = {t.text: math.exp(t.log_prob) for t in enumerate_traces(problem, knobs=knobs)}
    assert set(counts) <= set(exact)
    common = {text: p for text, p in exact.items() if p * n >= 8}
    chi2 = sum((counts[t] - n * p) ** 2 / (n * p) for t, p in common.items())
    rest = n - sum(counts[t] for t in common)
    p_rest = 1 - sum(common.values())
    chi2 += (rest - n * p_rest) ** 2 / (n * p_rest) if p_rest > 1e-9 else 0
    freedom = len(common)
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("knobs", KNOBS.values(), ids=KNOBS)
@pytest.mark.parametrize("domain", ["in-domain", "unseen-types", "kata", "chemistry-test", "deeper"])
def test_scoring_a_sampled_trace_gives_its_own_log_probability(domain, knobs):
    rng = stream("test", "own", domain)
    for problem in load_split(domain, limit=25):
        solution = write_correct(problem, rng, knobs=knobs)
        again = write_correct(problem, rng, solution, knobs=knobs)
        for text in (None, solution, strip_thinking(solution), again):
            for thinking in (True, False):
                evidence = read_evidence(problem, text, problem.feedback or None)
                trace = sample(problem, rng, evidence, thinking, knobs=knobs)
                explained = explain(trace.text, problem, evidence, thinking, knobs)
                assert math.isclose(explained.log_prob, trace.log_prob, abs_tol=1e-9)
                assert "".join(c.options[i] for c, i in explained.steps) == trace.text
    assert log_prob("The answer is 3.", problem) == -math.inf
    assert log_prob(trace.text + " Indeed.", problem, evidence, thinking) == -math.inf


def intended_rate(n: int, q: float = 0.0) -> float:
    """Return P(the right one of n candidates is committed), by recursion over the remaining candidates.

    It uses the dispositions alone. q is the intuition: before any check the right candidate has q + (1 -
    q)/n. Afterwards the odds among the remaining ones stay the same.
    """

    def right(left: int) -> float:
        if left == 1:
            return 1.0
        good, bad = q + (1 - q) / n, (1 - q) / n
        total = good + (left - 1) * bad
        good, bad = good / total, bad / total
        h = -good * math.log(good) - (left - 1) * bad * math.log(bad)
        doubt = 1 - math.exp(-1.7 * h**2)
        rash = (1 - doubt) * (1 - 0.3 * (1 - math.exp(-4 * h)))
        back = rash * 0.15 * doubt  # a rash commitment that is looked at again is as good as a check
        return good + (1 - good) * (1 - rash + back) * right(left - 1)

    return right(n)


@pytest.mark.parametrize(
    "q, split", [(0.0, "in-domain"), (0.45, "in-domain"), (0.45, "unseen-types"), (0.45, "deeper")]
)
def test_unguided_traces_are_right_at_the_intended_rate(q, split):
    rng, problems, knobs = stream("test", "rate"), load_split(split), Knobs(intuition=q)
    felt = 0.0 if split == "unseen-types" else q
    expected = observed = 0.0
    variance = 0.0
    for problem in problems:
        p = math.prod(intended_rate(len(slot.candidates), felt) for slot in problem.slots)
        expected, variance = expected + p, variance + p * (1 - p) / 4
        observed += sum(is_right(problem, sample(problem, rng, knobs=knobs).text) for _ in range(4)) / 4
    assert abs(observed - expected) < 4 * math.sqrt(variance)
    assert 0.7 < expected / len(problems) < (0.9 if felt else 0.85)


def test_markers_rise_with_belief_entropy():
    rng, hedged, seen = stream("test", "entropy"), Counter(), Counter()
    for problem in load_split("in-domain", limit=300):
        for choice, taken in sample(problem, rng).steps:
            if choice.role == "propose":
                bin = round(choice.entropy, 3)
                seen[bin] += 1
                hedged[bin] += bool(MARKER.search(choice.options[taken]))
    rates = [(h, hedged[h] / seen[h]) for h in sorted(seen) if seen[h] >= 30]
    assert len(rates) >= 4 and [r for _, r in rates] == sorted(r for _, r in rates)
    for h, rate in rates:
        expected = 1 - math.exp(-1.7 * h * h)
        assert abs(rate - expected) < 4 * math.sqrt(expected * (1 - expected) / seen[h]) + 1e-9


def test_richer_context_makes_traces_shorter_surer_and_right():
    rng, table = stream("test", "contexts"), defaultdict(list)
    for problem in load_split("in-domain", limit=150):
        solution = write_correct(problem, rng)
        for name, text in (
            ("none", None),
            ("solution", solution),
            ("bare", strip_thinking(solution)),
            ("again", write_correct(problem, rng, solution)),
        ):
            trace = sample(problem, rng, read_evidence(problem, text)).text
            table[name].append((is_right(problem, trace), len(trace), len(MARKER.findall(trace))))
    mean = {
        name: [sum(column) / len(rows) for column in zip(*rows, strict=True)] for name, rows in table.items()
    }
    assert mean["solution"][0] > 0.95 and mean["again"][0] > 0.9 and mean["none"][0] < 0.85
    assert mean["solution"][1] < mean["again"][1] < mean["bare"][1]
    assert mean["solution"][2] < mean["again"][2] < mean["bare"][2] < mean["none"][2]


def test_evidence_is_read_from_text():
    problem = load_split("in-domain", limit=1)[0]
    a, b = problem.slots
    right = [s.candidates[s.truth] for s in problem.slots]
    worked = (
        f"<think>\nA: Maybe {right[0]}. Check: {a.tests[a.truth][0]} So A is {right[0]}.\n"
        f"B: So B is {right[1]}.\n</think>\n\nThe answer is \\boxed{{{problem.answer}}}."
    )
    found = read_evidence(problem, worked)
    assert (
        found.claims == {0: (a.truth, CHECKED_CLAIM), 1: (b.truth, BARE_CLAIM)}
        and found.answer == problem.answer
    )
    assert read_evidence(problem, strip_thinking(worked)) == Evidence({}, problem.answer)
    assert read_evidence(problem, "So A is 99. <script>\\boxed{x}").claims == {}
    assert read_evidence(problem, None) == NOTHING


def test_belief_follows_bayes():
    slot = load_split("in-domain", limit=1)[0].slots[0]
    n = len(slot.candidates)
    belief = believe(slot, (0, 0.9), {1})
    weights = [0.9, 0.0] + [0.1 / (n - 1)] * (n - 2)
    assert belief == pytest.approx([w / sum(weights) for w in weights])
    assert doubtfulness([1.0]) == 0 and doubtfulness([0.2] * 5) > 0.98
    assert entropy([0.25] * 4) == pytest.approx(math.log(4))


@pytest.mark.slow
def test_detours_start_uninformed_and_recover():
    rng, right, seen = stream("test", "detours"), 0, 0
    while seen < 150:
        document = write_document(draw_problem(rng), rng)
        if document.given and document.problem.domain == "hunt":
            seen += 1
            assert 0 < document.given <= len(document.completion)
            right += is_right(document.problem, document.completion)
    assert right / seen > 0.8  # an uninformed rash commitment may already stand in the prefix
    problem = load_split("in-domain", limit=1)[0]
    with pytest.raises(SdlabError, match="cannot continue"):
        sample(problem, rng, prefix="<think>\nA: I know it.")


def test_explain_shows_the_steps_and_domains_it_cannot_work_on_are_named():
    problem = load_split("in-domain", limit=1)[0]
    trace = sample(problem, stream("test", "explain"))
    again = explain(trace.text, problem)
    assert "".join(c.options[i] for c, i in again.steps) == trace.text
    with pytest.raises(SdlabError, match="cannot work on"):
        sample(Problem("x", "math", "s", "k", "p", "1"), stream("x"))
    with pytest.raises(SdlabError, match="more than 10 traces"):
        list(enumerate_traces(SMALL, limit=10))
