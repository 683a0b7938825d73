"""The answer of the walkthrough in one sentence, computed from the recorded runs."""

from sdlab.findings.before_after import direction
from sdlab.study.recorded import Recorded

NEEDED = ("base", "grpo", "sdpo", "sdpo_no_think")
UNSEEN = "unseen-types"


def answer(recorded: Recorded) -> str:
    """Return one sentence: what self-distillation does to doubt and to score, beside GRPO."""
    score = {name: recorded.interval(name, "reward", UNSEEN).mean for name in NEEDED}
    markers = {name: recorded.interval(name, "markers", UNSEEN).mean for name in ("base", "sdpo")}
    doubt = recorded.difference("base", "sdpo", "markers", UNSEEN)
    loss, gain = (recorded.difference("base", name, "reward", UNSEEN) for name in ("sdpo", "grpo"))
    more = (
        "writes more words of doubt",
        "writes fewer words of doubt",
        "writes about as many words of doubt",
    )
    moves = ("rises", "falls", "does not clearly change")
    return (
        f"Trained to imitate itself with the solution in view, the model {direction(doubt, *more)} "
        f"({markers['base']:.1f} before, {markers['sdpo']:.1f} after, per completion), and its score on new "
        f"types of problems {direction(loss, *moves)} ({score['base']:.2f} before, "
        f"{score['sdpo']:.2f} after); trained on right and wrong alone (GRPO), "
        f"it {direction(gain, *moves)} ({score['grpo']:.2f})."
    )
