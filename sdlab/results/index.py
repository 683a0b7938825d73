"""Write an index page into a folder of results: one table, and links to the files of every result."""

import html
import os
from collections.abc import Sequence
from pathlib import Path

from sdlab.files import write_atomic
from sdlab.results.comparison import comparison, wide
from sdlab.results.conditions import differing_conditions
from sdlab.results.result import ABOUT, PROBLEMS, SAMPLES, SUMMARY, Result
from sdlab.results.store import load_results

PAGE = "index.html"
LABELS = {
    "reward": "score",
    "pass@16": "pass@16",
    "length": "length",
    "markers": "markers",
    "density": "markers per 1,000",
    "no_answer": "no answer",
    "truncated": "cut off",
}
STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --back: #fff; --line: #d0d0d0; --soft: #5c5c5c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --back: #16181b; --line: #3c4046; --soft: #a5abb3; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .8rem; text-align: right;
  white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
a { color: inherit; }
.soft, li { color: var(--soft); }
"""


def write_index(folder: str | Path) -> Path:
    """Write index.html for all results in `folder` and return its path.

    Raises SdlabError when there is no result, when one is damaged, and for two results of one model on one
    benchmark, which cannot stand in one table.
    """
    folder = Path(folder)
    results = load_results([folder])
    return write_atomic(folder / PAGE, page(results, folder))


def page(results: Sequence[Result], folder: Path) -> str:
    """Return the index page of results, with links relative to `folder`."""
    compared = comparison(results, results[0].model)
    cells = wide(compared, tuple(LABELS))
    names = [str(name) for name in cells.columns]
    by = {(result.benchmark, result.model): result for result in results}
    head = "".join(f"<th scope=col>{html.escape(text)}</th>" for text in ("benchmark", "model"))
    head += "".join(f"<th scope=col>{html.escape(LABELS[name])}</th>" for name in names)
    rows = []
    for key, row in zip(cells.index, cells.to_numpy(), strict=True):
        texts = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in (*key, *row))
        rows.append(f"<tr>{texts}<td>{_links(by[str(key[0]), str(key[1])], folder)}</td></tr>")
    conditions = differing_conditions(results, results[0].model)
    notes = [
        f"{r.benchmark}, {r.model}: {note}"
        for r in results
        for note in dict.fromkeys([*r.warnings, *r.notes])
    ]
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>Results</title><style>{STYLE}</style></head><body><main>\n<h1>Results</h1>\n"
        "<p class=soft>Intervals are 95%, over problems. No answer: the share of completions without a "
        "readable answer, which count as wrong.</p>\n"
        f"<div class=scroll><table><thead><tr>{head}<th scope=col>files</th></tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
        + _list("Conditions that differ", conditions)
        + _list("Notes", notes)
        + "</main></body></html>\n"
    )


def _links(result: Result, folder: Path) -> str:
    """Return links to the files of a result."""
    if result.folder is None:
        return ""
    place = Path(os.path.relpath(result.folder, folder)).as_posix()
    words = {SUMMARY: "summary", PROBLEMS: "problems", SAMPLES: "completions", ABOUT: "settings"}
    return " ".join(
        f'<a href="{html.escape(f"{place}/{file}", quote=True)}">{word}</a>' for file, word in words.items()
    )


def _list(title: str, sentences: Sequence[str]) -> str:
    """Return a titled list, or "" without a sentence."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f"<h2>{title}</h2><ul>{items}</ul>\n" if items else ""
