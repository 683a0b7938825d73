"""Write 35 small sums and differences, the same ones every time, and three solved ones."""

import json
from pathlib import Path
from random import Random

BUYS = "{name} has {a} apples and buys {b} more. How many apples does {name} have now?"
TWICE = "{name} has {a} apples, buys {b} more and then {c} more. How many apples does {name} have now?"
GIVES = "{name} has {a} pencils and gives {b} of them away. How many are left?"
KINDS = [  # text, the least and the largest a, those of b, and the answer; c is a number from 1 to 9
    (BUYS, (1, 9), (1, 9), lambda a, b, c: a + b),
    (BUYS, (10, 30), (1, 9), lambda a, b, c: a + b),
    (BUYS, (10, 50), (10, 50), lambda a, b, c: a + b),
    (TWICE, (1, 9), (1, 9), lambda a, b, c: a + b + c),
    (GIVES, (10, 20), (1, 9), lambda a, b, c: a - b),
]
SOLVED = [
    (BUYS.format(name="Eva", a=14, b=5), "14 + 5 = 19\n#### 19"),
    (GIVES.format(name="Tom", a=9, b=3), "9 - 3 = 6\n#### 6"),
    (BUYS.format(name="Lea", a=21, b=32), "21 + 32 = 53\n#### 53"),
]
random, names, rows = Random(0), ["Ana", "Ben", "Chloe", "Dev"], []
for number in range(35):
    text, *ranges, rule = KINDS[number % len(KINDS)]
    a, b, c = (random.randint(*ends) for ends in (*ranges, (1, 9)))
    rows.append((text.format(name=random.choice(names), a=a, b=b, c=c), str(rule(a, b, c))))
for name, pairs in (("arithmetic", rows), ("solved", SOLVED)):
    lines = (json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in pairs)
    print(f"{name}.jsonl:", Path(f"{name}.jsonl").write_text("".join(lines), encoding="utf-8"), "letters")
