"""Your own measure: does the model check before it commits? Any number gets a mean and an interval."""

import sdlab

engine = sdlab.load_engine("organism")
problems = sdlab.load_problems("unseen-types", limit=16)
table = sdlab.evaluate(engine, problems, num_generations=2)
before_commit = table["completion"].str.split(" So ").str[0]
table["checks_first"] = before_commit.str.contains("Check|Test").astype(float)
print(sdlab.summarise(table, metrics=["reward", "checks_first"]))
