"""Six reaction types that differ only on the surface: the domain in which self-distillation should win.

One rule per type says which class of product a reaction gives. The reasoner half knows this rule. Its belief
in the right class is between 0.26 and 0.50 before the options narrow it, and in two types it holds another
class for more likely. No search in the problem can settle the question, so doubt gains nothing here.
"""

from functools import cache
from random import Random

from sdlab.seeds import stable_int
from sdlab.world.problems import Problem
from sdlab.world.slots import Slot, listing

# reaction -> (product, class most often confused with it, weight of the product, weight of the confused
# class)
RULES = {
    "oxidation": ("ketone", "ester", 0.50, 0.22),
    "reduction": ("alcohol", "ether", 0.44, 0.28),
    "addition": ("halide", "alkene", 0.38, 0.30),
    "elimination": ("alkene", "halide", 0.34, 0.34),
    "substitution": ("ether", "alcohol", 0.30, 0.34),
    "condensation": ("ester", "ketone", 0.26, 0.40),
}
PRODUCTS = tuple(rule[0] for rule in RULES.values())
SUBSTANCES = (
    "velan torin masil quorin deltan brisol henar lumin faxol ostrin pirel canthol zorin gelan murex sabin"
).split()
COLOURS = "pale dark blue green amber clear".split()
PLACES = ("cold water", "warm water", "hot oil", "dry air", "weak acid", "strong base")
FLASKS = ("open", "sealed", "stirred", "shaken")


def draw_chemistry(rng: Random) -> tuple:
    """Draw the content of a random problem.

    Returns (reaction, substance, colour, place, flask, four products in order).
    """
    reaction = list(RULES)[rng.randrange(len(RULES))]
    others = [p for p in PRODUCTS if p != RULES[reaction][0]]
    options = [*rng.sample(others, 3), RULES[reaction][0]]
    rng.shuffle(options)
    return (
        reaction,
        *(pool[rng.randrange(len(pool))] for pool in (SUBSTANCES, COLOURS, PLACES, FLASKS)),
        tuple(options),
    )


_mark = cache(stable_int)


def identity(draw: tuple) -> int:
    """Return a number computed from the content; it decides the problem's split and seed."""
    return sum((2 * i + 1) * _mark("chemistry", part) for i, part in enumerate((*draw[:-1], *draw[-1])))


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def make_problem(draw: tuple, id: str, split: str) -> Problem:
    """Return the problem with the content `draw`."""
    reaction, substance, colour, place, flask, options = draw
    right, confused, w_right, w_confused = RULES[reaction]
    rest = (1.0 - w_right - w_confused) / 4  # each of the four other products; only those offered count
    weights = [w_right if o == right else w_confused if o == confused else rest for o in options]
    named = tuple(map(_article, options))
    slot = Slot(
        name="Product", subject="it", candidates=named, truth=options.index(right),
        prior=tuple(w / sum(weights) for w in weights), survey=f" {_article(reaction)} gives one of four.",
    )  # fmt: skip
    return Problem(
        id=id, domain="chemistry", split=split, kind=reaction,
        prompt=f"{colour.capitalize()} {substance} undergoes {_article(reaction)} in {place}, "
        f"in {_article(flask)} flask. "
        f"Which product forms: {listing(named)}?",
        answer=right, slots=(slot,),
    )  # fmt: skip


def conclude(problem: Problem, values: list[int]) -> tuple[str, str]:
    """Return the last line of the trace and the answer, from the index of the product."""
    product = problem.slots[0].candidates[values[0]]
    return f"\nThat is {product}.", product.split()[-1]
