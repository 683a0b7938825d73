"""Interactive views that also work without a running kernel.

`slider_view` draws the picture of every value in advance, and radio buttons with CSS choose between them. It
needs no JavaScript and no kernel, so it also works in exported HTML and with the keyboard. Where a viewer
removes form controls or styles (an untrusted notebook, GitHub) the starting picture remains. `live=True` and
`trace_explorer` use ipywidgets and redraw an ordinary output, which is saved.

An error in a callback appears in place of the picture and is recorded; `check_callbacks()` raises it.
Headless runs call every callback in the cell itself, so an error fails the run.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sdlab.errors import SdlabError
from sdlab.show.progress import is_headless, show_in_place
from sdlab.show.view import View, render, to_html

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

CALLBACK_ERRORS: list[BaseException] = []


def check_callbacks() -> None:
    """Raise the first error of a widget's callback since the last check, if there is one."""
    if CALLBACK_ERRORS:
        error = CALLBACK_ERRORS[0]
        CALLBACK_ERRORS.clear()
        raise error


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` for use as a callback: an error becomes a visible View and is recorded."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            CALLBACK_ERRORS.append(error)
            lines = "".join(traceback.format_exception(error))
            last = f"{type(error).__name__}: {error}"
            return View(render("error.html", error=last, traceback=lines), last)

    return call


def flipbook(frames: dict[Any, Any], *, label: str, start: Any = None) -> View:
    """Show several pictures in one place, chosen by radio buttons: HTML and CSS only.

    `frames`: value -> anything a notebook shows. `start`: the value that is visible first (default: the first
    one), and the only one where a viewer removes styles. Raises SdlabError without frames, or when `start` is
    not one of the values.
    """
    if not frames:
        raise SdlabError(f"flipbook {label!r} got no frames; give at least one value")
    values = list(frames)
    start = values[0] if start is None else start
    if start not in values:
        raise SdlabError(
            f"flipbook {label!r} cannot start at {start!r}; choose one of: {', '.join(map(str, values))}"
        )
    bodies = [_frame_html(frames[value], value == start) for value in values]
    # The name separates flip books on one page. It is a hash of the content, so a rerun gives the same name.
    name = "flip" + sha256("\0".join([label, *bodies]).encode()).hexdigest()[:10]
    pictures = [(value, View(body)) for value, body in zip(values, bodies, strict=True)]
    html = render("flipbook.html", name=name, label=label, start=start, frames=pictures)
    return View(html, f"{label}: {', '.join(map(str, values))}; shown: {start}\n{frames[start]!r}")


def _frame_html(thing: Any, first: bool) -> str:
    """Return the HTML of a frame.

    Only the first chart has a fallback picture; the others disappear where <object> is not allowed.
    """
    if type(thing).__module__.startswith("altair"):
        from sdlab.charts.picture import chart_html

        return chart_html(thing, fallback=first)
    return to_html(thing)


def slider_view(
    function: Callable[[Any], Any],
    values: Sequence[Any],
    label: str,
    start: Any = None,
    *,
    live: bool = False,
) -> View | None:
    """Show `function(value)` for a value that the reader chooses; display it as the last line of a cell.

    By default every value is computed now and put in a `flipbook`. Use about 15 values at most, since all
    pictures are stored. With `live=True` only `start` is computed; in an interactive notebook a slider
    recomputes and redraws it in place, and None is returned since the view is already displayed. Headless,
    `live` shows the start and also calls `function` with every other value, so that an error fails the run.

    Raises SdlabError without values, or when `start` is not one of them.
    """
    values = list(values)
    if not values:
        raise SdlabError(f"slider {label!r} got no values; give at least one")
    start = values[0] if start is None else start
    if start not in values:
        raise SdlabError(
            f"slider {label!r} cannot start at {start!r}; choose one of: {', '.join(map(str, values))}"
        )
    if not live:
        return flipbook({value: function(value) for value in values}, label=label, start=start)
    first = function(start)
    if is_headless():
        for value in values:
            if value != start:
                function(value)
        return captioned(first, f"{label}: {start}")
    import ipywidgets
    from IPython.display import display

    slider = ipywidgets.SelectionSlider(
        options=values,
        value=start,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout={"width": "420px"},
    )
    slider.tooltip = label
    display(slider)
    handle = show_in_place(captioned(first, f"{label}: {start}"))
    draw = guarded(lambda value: captioned(function(value), f"{label}: {value}"))
    slider.observe(lambda change: show_in_place(draw(change["new"]), handle), names="value")
    leave_keys()
    return None


# JupyterLab uses arrow keys pressed on a menu to move to another cell, unless the element that has the focus
# has this attribute. ipywidgets cannot set attributes, so this script does. Where scripts are not run, the
# arrow keys keep JupyterLab's meaning.
_KEYS = (
    "<script>{ const area = document.currentScript?.closest('.jp-OutputArea');"
    " area?.addEventListener('focusin', event => event.target.setAttribute('data-lm-suppress-shortcuts', "
    "'true'));%s }</script>"
)
_BACK = (
    " area?.addEventListener('click', event => event.target.closest('button') && "
    "area.closest('.jp-Cell')?.focus())"
)


def leave_keys(*, back: bool = False) -> DisplayHandle | None:
    """Let the widgets in this cell's outputs receive the keys pressed there; return the display handle.

    `back`: a pressed button returns the focus to its cell, because the button disappears.
    """
    from IPython.display import display

    return display(
        {"text/html": _KEYS % (_BACK if back else ""), "text/plain": ""}, raw=True, display_id=True
    )


def captioned(thing: Any, caption: str) -> View:
    """Return the View of `thing` with a caption below it."""
    return View(render("caption.html", view=View(to_html(thing)), caption=caption), f"{caption}\n{thing!r}")
