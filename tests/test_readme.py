"""The README keeps up with the package."""

import re
from pathlib import Path

from sdlab.study.conditions import CONDITIONS, LONG
from sdlab.study.recorded import load_recorded

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_map_names_every_file_and_no_other():
    block = README.split("## The package, one line per file")[1].split("```")[1]
    named = re.findall(r"^(sdlab/\S+\.py)\s+\S", block, re.MULTILINE)
    files = [str(p.relative_to(ROOT)) for p in ROOT.glob("sdlab/**/*.py") if p.name != "__init__.py"]
    assert sorted(named) == sorted(files)


def test_every_notebook_is_in_the_table_and_every_link_leads_somewhere():
    for path in ROOT.glob("notebooks/0*.ipynb"):
        assert f"notebooks/{path.name}" in README
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_two_commands_are_there():
    assert "pip install -e . && sdlab tour" in README and 'pip install -e ".[test]" && pytest' in README


def test_the_tables_of_training_are_what_is_recorded():
    """Label, seeds, score on three splits, markers and length of every main condition and of those of a hundred steps."""
    recorded, rows = (
        load_recorded(),
        [line.strip("| ").split(" | ") for line in README.splitlines() if line.startswith("| ")],
    )
    for name, one in (CONDITIONS | LONG).items():
        label = one.label.removesuffix(", 100 steps")
        seeds = recorded.evaluations.query("condition == @name")["seed"].nunique()
        scores = [
            str(recorded.interval(name, "reward", split)) for split in ("in-domain", "unseen-types", "deeper")
        ]
        rest = [str(recorded.interval(name, metric, "in-domain")) for metric in ("markers", "length")]
        assert [label, str(seeds), *scores, *rest] in [row[:7] for row in rows], name
