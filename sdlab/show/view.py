"""Finished HTML with the same content as text: the result of every view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

# Half-transparent grey is visible on white and on black, so views work with every theme of the notebook.
FAINT, RULE = "rgba(127,127,127,.10)", "rgba(127,127,127,.45)"
DARK = "#111111"
# Completions are in <pre>: MathJax would turn "$a+b$" elsewhere into a formula.
PRE = (
    "margin:0;padding:0;border:0;background:none;font-family:system-ui,sans-serif;font-size:14px;"
    "line-height:1.65;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
)
CARD = (
    f"border:1px solid {RULE};border-radius:8px;padding:10px 14px;margin:4px 0;font-size:14px;line-height:1.5"
)


@dataclass(frozen=True)
class View:
    """Self-contained `html`, and the same content as `text` for a terminal.

    The HTML has no script and needs no network. Text of a model is escaped in it.
    """

    html: str
    text: str = ""

    def _repr_html_(self) -> str:
        return self.html

    def __html__(self) -> str:
        """Return the HTML for a template, which does not escape it again."""
        return self.html

    def __repr__(self) -> str:
        return self.text or "View"


def render(template: str, **values: Any) -> str:
    """Return a template of sdlab/show/templates with `values`: text is escaped, a View is not."""
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("sdlab.show"), autoescape=True, undefined=StrictUndefined)
    environment.globals |= {"faint": FAINT, "rule": RULE, "dark": DARK, "pre": PRE, "card": CARD}
    return environment


def to_html(thing: Any) -> str:
    """Return the HTML of anything a notebook shows: a View, chart, frame, number or string (escaped)."""
    if (hasattr(thing, "to_dict") and hasattr(thing, "mark_bar")) or type(thing).__module__.startswith(
        "altair"
    ):
        from sdlab.charts.picture import chart_html

        return chart_html(thing)
    own = getattr(thing, "_repr_html_", None)
    html = own() if own else None
    return html if html is not None else render("text.html", text=str(thing))
