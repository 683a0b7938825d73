"""The statements that notebooks 06 and 08 test: the paper's (arXiv 2603.24472) and questions of our own.

The paper's sentences are those of the project's literature notes, which are second-hand. A sentence is
tested for its direction, and for a size only where it states one that can carry over to another model
("about half the length"). The notes report sentences about several models; where those differ (Figures 3
and 4), both are listed here.
"""

import math
from collections.abc import Callable, Iterable

from sdlab.study.coverage_conditions import COUNTS, coverage_name
from sdlab.study.shapes import Course, LosesMore
from sdlab.study.statements import Test, asked, falls, rises, same, share, stated
from sdlab.world.splits import TRAINING

FIGURE_3 = "Figure 3, DeepSeek-R1-Distill-Qwen-7B"
FIGURE_4 = "Figure 4, Qwen3-8B, thinking on"
FIGURE_5 = "Figure 5, Qwen3-8B, thinking off"
GRPO = "GRPO: AIME24 from 54.7 to 56.0, AMC23 from 89.3 to 91.1; epistemic tokens slightly up"
SDPO = "SDPO with c = s: AIME24 about -40%, AMC23 about -15%"
COURSE = "training score: a sharp fall, then a recovery; the out-of-distribution scores stay down"
WORDS = "SDPO, change per response: wait -60.8, maybe -17.1, perhaps -17.1"
SMALLER = "SDPO with c = s without think: smaller drop, still below base"
CUT = "both GRPO and SDPO cut tokens, SDPO more"
GRPO_OFF = "GRPO lengthens and adds epistemic tokens; training score from 0.25 to above 0.75"
SDPO_OFF = "SDPO: AMC23 from 0.67 to 0.73 with about half the length; AIME24 from 0.25 to 0.23"
FIXED = "a fixed teacher is better than a moving one (EMA 0.05) in training and on AIME24"
SHARPER = "the slowly moving teacher gives a sharper cut in length"
RATES = "learning rate 1e-5 to 1e-6: only slows the decline, same end state"
TOP_K = "top-k 100 against 256: no real difference"
WINS = "training score: SDPO wins quickly for 128 problems and fewer"
HURTS = "training score: at 512 problems SDPO's shortening starts to hurt"
BROAD = "other problem sets: with 14,000 problems SDPO ends below base (one of two notes)"

START, TENTH, END = (1, 2), (6, 10), (91, 100)  # windows of the steps of the long runs

METHOD_STATEMENTS = (
    stated("GRPO raises the score", GRPO, FIGURE_3, rises("grpo", "reward")),
    stated("GRPO adds markers", GRPO, FIGURE_3, rises("grpo", "markers")),
    stated("SDPO lowers the score", SDPO, FIGURE_3, falls("sdpo", "reward")),
    stated("SDPO removes markers", WORDS, FIGURE_3, falls("sdpo", "markers")),
    asked("SDPO lowers the density of markers", falls("sdpo", "density")),
    stated(
        "SDPO's training score falls, then recovers in part", COURSE, FIGURE_4,
        Course("sdpo_long", "reward", START, TENTH, -math.inf, 0),
        Course("sdpo_long", "reward", TENTH, END, 0, math.inf),
    ),
    stated(
        "SDPO loses a larger share of the score on the harder problems", SDPO, FIGURE_3,
        LosesMore("sdpo"),
    ),
    asked(
        "SDPO loses at least 1.5 times the share on unseen types that it loses in-domain",
        LosesMore("sdpo", factor=1.5),
    ),
    asked(
        "after 100 steps, too, SDPO loses a larger share on unseen types than in-domain",
        LosesMore("sdpo_long"),
    ),
    stated("without think: SDPO ends below base", SMALLER, FIGURE_3, falls("sdpo_no_think", "reward")),
    stated("without think: the drop is smaller", SMALLER, FIGURE_3, rises("sdpo_no_think", "reward", "sdpo")),
    stated("GRPO and SDPO both shorten", CUT, FIGURE_4, falls("grpo", "length"), falls("sdpo", "length")),
    stated("SDPO shortens more than GRPO", CUT, FIGURE_4, falls("sdpo", "length", "grpo")),
    stated("thinking off: GRPO lengthens", GRPO_OFF, FIGURE_5, rises("grpo_off", "length")),
    stated("thinking off: GRPO adds markers", GRPO_OFF, FIGURE_5, rises("grpo_off", "markers")),
    stated(
        "thinking off: GRPO's training score rises", GRPO_OFF, FIGURE_5,
        rises("grpo_off", "reward", split=TRAINING),
    ),
    stated(
        "thinking off: SDPO leaves half the length (0.4 to 0.6)", SDPO_OFF, FIGURE_5,
        share("sdpo_off", "length", 0.4, 0.6),
    ),
    stated(
        "thinking off: SDPO raises the score on the easier problems", SDPO_OFF, FIGURE_5,
        rises("sdpo_off", "reward", split="in-domain"),
    ),
    stated(
        "thinking off: SDPO lowers the score on the harder problems", SDPO_OFF, FIGURE_5,
        falls("sdpo_off", "reward"),
    ),
    asked("thinking off: SDPO removes markers", falls("sdpo_off", "markers")),
    stated(
        "a moving teacher: the training score ends lower", FIXED, "Figure 6",
        falls("sdpo_ema", "reward", "sdpo", split=TRAINING),
    ),
    stated(
        "a moving teacher: the test score ends lower", FIXED, "Figure 6",
        falls("sdpo_ema", "reward", "sdpo"),
    ),
    stated(
        "a moving teacher: the completions end shorter", SHARPER, "Figure 6",
        falls("sdpo_ema", "length", "sdpo"),
    ),
    stated(
        "a tenth of the learning rate slows the decline", RATES, "Figure 20",
        rises("sdpo_slower", "reward", "sdpo", step=10),
    ),
    stated(
        "a tenth of the learning rate ends at the same score", RATES, "Figure 20",
        same("sdpo_slower", "reward", "sdpo", at_the_end=True),
    ),
    stated(
        "top-k makes no difference to the score", TOP_K, "Figure 20",
        same("sdpo_top20", "reward", "sdpo"),
    ),
)  # fmt: skip


def _at(counts: Iterable[int | None], test: Callable[[str, str], Test]) -> list[Test]:
    """Return one test per number of problems; test(SDPO run, GRPO run) takes the names of the conditions."""
    return [test(coverage_name("sdpo", count), coverage_name("grpo", count)) for count in counts]


def _up(condition: str, other: str | None = None) -> Test:
    """Return the test of: the training score rises, or is higher than under `other`."""
    return rises(condition, "reward", other, split=TRAINING)


def _down(condition: str, other: str | None = None) -> Test:
    """Return the test of: the training score falls, or is lower than under `other`."""
    return falls(condition, "reward", other, split=TRAINING)


COVERAGE_STATEMENTS = (
    stated(
        "training score: SDPO ends above GRPO at 1, 8, 64 and 128 problems", WINS, "Figure 7",
        *_at((1, 8, 64, 128), _up),
    ),
    stated(
        "training score: SDPO ends below GRPO at 512 problems", HURTS, "Figure 7",
        *_at((512,), _down),
    ),
    stated(
        "SDPO shortens at every number of problems", HURTS, "Figure 7",
        *_at(COUNTS, lambda sdpo, grpo: falls(sdpo, "length", split="in-domain")),
    ),
    asked(
        "SDPO removes markers at every number of problems",
        *_at(COUNTS, lambda sdpo, grpo: falls(sdpo, "markers", split="in-domain")),
    ),
    stated(
        "unseen types: SDPO on all problems ends below base", BROAD, "Figure 8",
        falls("cover_sdpo_all", "reward"),
    ),
    stated(
        "chemistry gains from SDPO", "SDPO helps in chemistry", "Figure 1",
        rises("chemistry_sdpo", "reward", split="chemistry-test"),
    ),
    stated(
        "SDPO lowers the score on hunts (our mathematics)", "SDPO hurts in mathematics", "Figure 1",
        falls("cover_sdpo_all", "reward", split="in-domain"),
    ),
    stated(
        "kata (training = test): SDPO ends above GRPO", "LiveCodeBench: SDPO 48.8, GRPO 41.2",
        "SDPO paper, arXiv 2601.20802", rises("kata_sdpo", "reward", "kata_grpo", split="kata"),
    ),
    asked(
        "few problems (1 and 8): SDPO's training score rises",
        *_at((1, 8), lambda sdpo, grpo: _up(sdpo)),
    ),
    asked(
        "many problems (512 and all): SDPO's training score falls",
        *_at((512, None), lambda sdpo, grpo: _down(sdpo)),
    ),
    asked(
        "few problems (1 and 8): unseen types fall all the same",
        *_at((1, 8), lambda sdpo, grpo: falls(sdpo, "reward")),
    ),
    asked(
        "unseen types fall as far with 8 problems as with all",
        same("cover_sdpo_8", "reward", "cover_sdpo_all"),
    ),
    asked(
        "unseen types: GRPO gains more from all problems than from 8",
        rises("cover_grpo_all", "reward", "cover_grpo_8"),
    ),
    asked(
        "unseen types: without think less is lost (all problems)",
        rises("cover_sdpo_no_think_all", "reward", "cover_sdpo_all"),
    ),
    asked(
        "without think: the training score falls with 8 problems",
        _down("cover_sdpo_no_think_8"),
    ),
    asked(
        "without think: the training score ends higher than with c = s (all problems)",
        _up("cover_sdpo_no_think_all", "cover_sdpo_all"),
    ),
    asked(
        "the small organism without intuition, too, rises with 8 problems and falls with all",
        _up("small_sdpo_8"), _down("small_sdpo_all"),
    ),
    asked(
        "chemistry: SDPO ends at the same score as GRPO",
        same("chemistry_sdpo", "reward", "chemistry_grpo", split="chemistry-test"),
    ),
    asked(
        "chemistry: SDPO writes less than GRPO",
        falls("chemistry_sdpo", "length", "chemistry_grpo", split="chemistry-test"),
    ),
    asked(
        "kata: SDPO with feedback alone leaves the score where it was",
        same("kata_sdpo_feedback", "reward", None, split="kata"),
    ),
    asked(
        "more problems of one type lower SDPO's training score",
        _down("cover_sdpo_128_of_1", "cover_sdpo_8_of_1"),
    ),
    asked(
        "more types, as many problems, lower SDPO's training score",
        _down("cover_sdpo_128", "cover_sdpo_128_of_1"),
    ),
)  # fmt: skip
