"""Write 48 arithmetic problems of grade school, the same ones every time, and two solved ones."""

import json
from pathlib import Path
from random import Random

KINDS = [
    ("{name} has {a} apples and buys {b} more. How many apples does {name} have now?", lambda a, b, c: a + b),
    ("{name} has {a} pencils and gives {c} of them away. How many are left?", lambda a, b, c: a - c),
    ("A box holds {b} eggs. How many eggs are in {c} boxes?", lambda a, b, c: b * c),
    ("{name} has {a} books, buys {b} more and gives {c} away. How many are left?", lambda a, b, c: a + b - c),
    ("A pen costs {c} dollars. How much is left of 200 dollars after {b} pens?", lambda a, b, c: 200 - b * c),
    ("{b} children have {c} sweets each and eat {a} in all. How many are left?", lambda a, b, c: b * c - a),
]
SOLVED = [
    ("Eva has 14 apples and buys 5 more. How many apples does Eva have now?", "14 + 5 = 19\n#### 19"),
    ("A box holds 6 eggs. How many eggs are in 3 boxes?", "6 * 3 = 18\n#### 18"),
]
random, rows = Random(0), []
for number in range(48):
    text, rule = KINDS[number % len(KINDS)]
    numbers = {"a": random.randint(10, 30), "b": random.randint(5, 12), "c": random.randint(6, 9)}
    question = text.format(name=random.choice(["Ana", "Ben", "Chloe", "Dev"]), **numbers)
    rows.append((question, str(rule(**numbers))))
for name, pairs in (("arithmetic", rows), ("solved", SOLVED)):
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in pairs]
    Path(f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}.jsonl: {len(lines)} problems")
