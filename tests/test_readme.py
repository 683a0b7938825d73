"""The README is short, and every link in it leads somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_fits_150_lines():
    assert len(README.splitlines()) <= 150


def test_every_notebook_is_in_the_table_and_every_link_leads_somewhere():
    for path in ROOT.glob("notebooks/0*.ipynb"):
        assert f"notebooks/{path.name}" in README
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            place = ROOT if page.parent == ROOT or target.startswith("notebooks/") else page.parent
            assert (place / target).exists(), f"{page.name}: {target}"


def test_the_two_commands_are_there():
    assert "pip install -e . && sdlab tour" in README
    command = re.search(r'^pip install -e "\.\[test\]" && (pytest.*)$', README, re.MULTILINE)[1]
    assert f"\n{command} " in (ROOT / ".ci" / "run").read_text(encoding="utf-8")  # the machine runs the same


def test_the_badges_name_the_projects_repository():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    repository = re.search(r'^Repository = "https://github.com/([^"]+)"', text, re.MULTILINE)[1]
    assert f"mybinder.org/v2/gh/{repository}/" in README
    assert f"colab.research.google.com/github/{repository}/" in README
