"""A piece of finished HTML with its words: what every token view, flip book and board hands to the notebook."""

import html
from dataclasses import dataclass

# Grey at part strength reads on white and on black, so views need not know the notebook's theme.
FAINT, RULE = "rgba(127,127,127,.10)", "rgba(127,127,127,.45)"


@dataclass(frozen=True)
class View:
    """`html` is self-contained (no script, no network, model text escaped); `text` is the same for a terminal."""

    html: str
    text: str = ""

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text or "View"


def escape(text: object) -> str:
    """HTML-escaped text, quotes included, so that it is safe inside attributes too."""
    return html.escape(str(text), quote=True)


def to_html(thing) -> str:
    """HTML of anything a notebook shows: a View, a chart, a DataFrame, a number, a string (escaped)."""
    if (hasattr(thing, "to_dict") and hasattr(thing, "mark_bar")) or type(thing).__module__.startswith(
        "altair"
    ):
        from sdlab.charts.picture import chart_html

        return chart_html(thing)
    render = getattr(thing, "_repr_html_", None)
    rendered = render() if render else None
    return rendered if rendered is not None else f"<pre style='white-space:pre-wrap'>{escape(thing)}</pre>"
