"""The documentation: its tables are those of the recorded runs, its programs run, and it builds without a
warning.
"""

import importlib
import importlib.util
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = sorted(DOCS.glob("examples/*.py"))


def test_the_pages_hold_the_tables_of_the_recorded_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    tables = importlib.import_module("tables")
    monkeypatch.setattr(tables, "TABLES", {name: cache(table) for name, table in tables.TABLES.items()})
    pages = {page: page.read_text(encoding="utf-8") for page in tables.PAGES}
    assert {slot[1] for page in pages.values() for slot in tables.SLOT.findall(page)} == set(tables.TABLES)
    for page, text in pages.items():
        assert tables.rendered(text) == text, f"{page.name} is old; run python docs/tables.py"


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_run(path, tmp_path, monkeypatch, capsys):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 30 and max(map(len, lines)) <= 110
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_every_example_stands_on_a_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    for path in EXAMPLES:
        assert f'--8<-- "docs/examples/{path.name}"' in pages


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the extra docs is not installed")
def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    build = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stderr[-3000:]
    notebooks = [path.stem for path in ROOT.glob("notebooks/*.ipynb")]
    assert all((tmp_path / "site" / "notebooks" / name / "index.html").is_file() for name in notebooks)
