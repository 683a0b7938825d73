"""The shape of a curve: what chooses its lowest point does not measure what follows."""

import numpy as np
import pandas

from sdlab.findings.curve_shape import (
    SPLITS,
    alarm_words,
    change_between,
    changes_since_start,
    rebound_words,
    shape,
    shape_table,
    since_start_table,
)
from sdlab.study.recorded import Recorded

STEPS = (0, 10, 20, 30, 40)


def curve(dips: np.ndarray) -> Recorded:
    """One condition with the score 0.5, and 0.5 - dips (P,) at step 20, with a little noise."""
    rng, rows = np.random.default_rng(0), []
    for step in STEPS:
        for seed in range(3):
            scores = 0.5 - dips * (step == 20) + 0.01 * rng.standard_normal(len(dips))
            rows += [{"condition": "sdpo", "seed": seed, "step": step, "split": split, "generations": 1.0,
                      "problem_id": f"p{number:02d}", "reward": score}
                     for split in SPLITS for number, score in enumerate(scores)]  # fmt: skip
    return Recorded(pandas.DataFrame(columns=["condition", "seed"]), pandas.DataFrame(rows), {})


def test_a_low_point_of_the_problems_that_choose_it_is_no_recovery():
    half = curve(np.tile([0.2, 0.0], 8))  # every second problem is low at step 20, as by chance
    for split, line in zip(SPLITS, rebound_words(half, "sdpo", "SDPO"), strict=True):
        assert "lowest at step 20 (0.50)" in line and "A recovery is not shown" in line
        assert change_between(half, "sdpo", split, 20, 40).significant  # on all problems it looks like one
    real = rebound_words(curve(np.full(16, 0.2)), "sdpo", "SDPO")
    assert all("lowest at step 20 (0.30)" in line and "It recovers a part" in line for line in real)


def test_a_peak_at_the_start_has_no_gain_and_one_at_the_end_no_loss():
    """What is 0 by definition is a dash and not a measurement that is not significant."""
    late = curve(np.full(16, 0.2))
    last = late.evaluations["step"] == 40
    late.evaluations.loc[last, "reward"] += 0.3
    early = curve(np.full(16, 0.2))
    early.evaluations.loc[early.evaluations["step"] == 0, "reward"] += 0.3
    shapes = {"early": shape(early, "sdpo"), "late": shape(late, "sdpo")}
    table = shape_table(shapes, {"early": "early", "late": "late"})
    first, end = table.loc["early"], table.loc["late"]
    assert first["gained until then"] == "–" and first["then, in-domain"].startswith("-0.3")
    assert end["gained until then"].startswith("+0.3")
    assert end["then, in-domain"] == end["then, unseen types"] == "–"


def test_readers_see_unseen_types_without_a_hyphen():
    dip = curve(np.full(16, 0.2))
    changes = changes_since_start(dip, "sdpo")
    assert list(since_start_table(changes).columns) == ["in-domain", "unseen types"]
    lines = [*alarm_words(changes, "SDPO"), *rebound_words(dip, "sdpo", "SDPO")]
    assert "SDPO, on unseen types: the first significant loss is at step 20." in lines
    assert not any("unseen-types" in line for line in lines)
