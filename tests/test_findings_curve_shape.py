"""The shape of a curve: what chooses its lowest point does not measure what follows."""

import numpy as np
import pandas

from sdlab.findings.curve_shape import SPLITS, change_between, rebound_words
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
