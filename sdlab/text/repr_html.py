"""The HTML view of a result object in a notebook."""

import html


class ReprHtml:
    """Gives a class `_repr_html_`: its one-line repr as HTML, with the text escaped."""

    def _repr_html_(self) -> str:
        return f"<code style='white-space:pre-wrap'>{html.escape(repr(self))}</code>"
