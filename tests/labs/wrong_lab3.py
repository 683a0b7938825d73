"""Typical wrong answers to lab 3, and exactly the points that each must lose.

WRONG: (name, {grade_id: new source of the solution cell}, {grade_id of the test cell: points lost}).
"""

STRIP_PAIR = '''
import re


def without_thinking(text: str, opened: bool = False) -> str:
    """Looks for the pair of tags: keeps everything where the prompt opened the thinking."""
    return re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).strip()
'''

OWN_SIBLING = '''
def demonstrations(rewards: torch.Tensor, num_generations: int) -> list[int | None]:
    """The first right one of the group, even if it is the one that is judged."""
    chosen = []
    for row in range(len(rewards)):
        start = row - row % num_generations
        right = [i for i in range(start, start + num_generations) if rewards[i] > 0.5]
        chosen.append(right[0] if right else None)
    return chosen
'''

NO_SPECIAL_ENDS = '''
def divergence(student_logps: torch.Tensor, teacher_logps: torch.Tensor, alpha: float) -> torch.Tensor:
    """The formula of the middle everywhere, from probabilities: 0 at both ends, NaN where both are far."""
    p, q = student_logps.exp(), teacher_logps.exp()
    m = (1 - alpha) * p + alpha * q
    return ((1 - alpha) * p * (p / m).log() + alpha * q * (q / m).log()).sum(-1)
'''

TEACHER_NOT_DETACHED = '''
def divergence(student_logps: torch.Tensor, teacher_logps: torch.Tensor, alpha: float) -> torch.Tensor:
    """The right numbers, and a gradient into the teacher."""
    def kl(p, q):
        return (p.exp() * (p - q)).sum(-1)

    if alpha in (0, 1):
        return kl(student_logps, teacher_logps) if alpha else kl(teacher_logps, student_logps)
    middle = torch.logaddexp(student_logps + math.log(1 - alpha), teacher_logps + math.log(alpha))
    return (1 - alpha) * kl(student_logps, middle) + alpha * kl(teacher_logps, middle)
'''

NO_DETACH = "The right numbers, and a gradient into the teacher."
ENDS_SWAPPED = TEACHER_NOT_DETACHED.replace(
    NO_DETACH, "KL(student || teacher) at 0 and KL(teacher || student) at 1."
).replace(
    "kl(student_logps, teacher_logps) if alpha else kl(teacher_logps, student_logps)",
    "kl(teacher_logps, student_logps) if alpha else kl(student_logps, teacher_logps)",
)

SOFTMAX_OVER_TOKENS = TEACHER_NOT_DETACHED.replace(
    NO_DETACH, "Normalises over the tokens instead of the vocabulary."
).replace(
    "    def kl",
    "    student_logps, teacher_logps = student_logps.log_softmax(0), "
    "teacher_logps.detach().log_softmax(0)\n\n    def kl",
)

NO_TAIL = '''
def top_k_with_tail(student_logps: torch.Tensor, teacher_logps: torch.Tensor, k: int) -> tuple:
    """The k alone, made to sum to one."""
    student, ids = student_logps.topk(k, dim=-1)
    return student.log_softmax(-1), teacher_logps.gather(-1, ids).log_softmax(-1)
'''

UNSAFE_TAIL = '''
def top_k_with_tail(student_logps: torch.Tensor, teacher_logps: torch.Tensor, k: int) -> tuple:
    """The tail without a floor: log 0 where nothing is left over."""
    student, ids = student_logps.topk(k, dim=-1)

    def with_tail(logps):
        return torch.cat([logps, torch.log(1 - logps.exp().sum(-1, keepdim=True))], dim=-1)

    return with_tail(student), with_tail(teacher_logps.gather(-1, ids))
'''

ANY_CHANGE = '''
from scipy import stats


def first_alarm(table: pandas.DataFrame, split: str, confidence: float = 0.95) -> int | None:
    """Rings at a significant rise too."""
    wide = table[table["split"] == split].pivot(index="seed", columns="step", values="score")
    for step in sorted(wide.columns)[1:]:
        change = wide[step] - wide[0]
        error = change.std(ddof=1) / math.sqrt(len(change))
        half = stats.t.ppf((1 + confidence) / 2, len(change) - 1) * error
        if abs(change.mean()) > half:
            return int(step)
    return None
'''

POPULATION_DEVIATION = (
    ANY_CHANGE.replace("Rings at a significant rise too.", "Divides by n instead of n - 1.")
    .replace("ddof=1", "ddof=0")
    .replace("abs(change.mean()) > half", "change.mean() + half < 0")
)

WRONG = [
    ("the pair of tags alone", {"strip-thinking": STRIP_PAIR}, {"strip-thinking-test": 4}),
    ("own sibling allowed", {"choose-demonstration": OWN_SIBLING}, {"choose-demonstration-test": 3}),
    ("ends of alpha swapped", {"divergence": ENDS_SWAPPED}, {"divergence-test": 5}),
    ("softmax over the wrong axis", {"divergence": SOFTMAX_OVER_TOKENS}, {"divergence-test": 5}),
    ("teacher not detached", {"divergence": TEACHER_NOT_DETACHED}, {"divergence-test": 5}),
    ("tail forgotten", {"top-k-tail": NO_TAIL}, {"top-k-tail-test": 4}),
    (
        "no special ends, a tail of log 0, deviation over n",
        {
            "divergence": NO_SPECIAL_ENDS,
            "top-k-tail": UNSAFE_TAIL,
            "first-alarm": POPULATION_DEVIATION,
        },
        {"divergence-test": 5, "top-k-tail-test": 4, "first-alarm-test": 4},
    ),
]
