"""A piece of finished HTML with its words, the result of every view."""

from dataclasses import dataclass
from functools import cache

# Grey at part strength reads on white and on black, so views need not know the notebook's theme.
FAINT, RULE = "rgba(127,127,127,.10)", "rgba(127,127,127,.45)"
DARK = "#111111"
# MathJax would set "$a+b$" in a trace as a formula; it leaves <pre> alone.
PRE = (
    "margin:0;padding:0;border:0;background:none;font-family:system-ui,sans-serif;font-size:14px;line-height:1.65;"
    "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
)
CARD = (
    f"border:1px solid {RULE};border-radius:8px;padding:10px 14px;margin:4px 0;font-size:14px;line-height:1.5"
)


@dataclass(frozen=True)
class View:
    """Self-contained `html` and the same as `text` for a terminal.

    The HTML has no script, needs no network, and model text in it is escaped.
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


def render(template: str, **values) -> str:
    """Return a template of sdlab/show/templates with `values`: text is escaped, a View is not."""
    return _templates().get_template(template).render(**values)


@cache
def _templates():
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("sdlab.show"), autoescape=True, undefined=StrictUndefined)
    environment.globals |= {"faint": FAINT, "rule": RULE, "dark": DARK, "pre": PRE, "card": CARD}
    return environment


def to_html(thing) -> str:
    """Return HTML of anything a notebook shows: a View, a chart, a DataFrame, a number, a string (escaped)."""
    if (hasattr(thing, "to_dict") and hasattr(thing, "mark_bar")) or type(thing).__module__.startswith(
        "altair"
    ):
        from sdlab.charts.picture import chart_html

        return chart_html(thing)
    own = getattr(thing, "_repr_html_", None)
    html = own() if own else None
    return html if html is not None else render("text.html", text=str(thing))
