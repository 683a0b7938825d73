"""Capture what a block of code prints and displays, as HTML that needs no kernel."""

from __future__ import annotations

import base64
import io
from contextlib import redirect_stdout
from types import TracebackType
from typing import Any, Self

from sdlab.errors import SdlabError
from sdlab.show.progress import is_headless
from sdlab.show.view import View, render

WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURES = ("image/png", "image/jpeg")
NOT_STATIC = (WIDGET, "application/vnd.sdlab.result+json")


class Captured(io.TextIOBase):
    """The printed text and the displayed outputs of a block: `with Captured() as outputs: ...`.

    Afterwards `outputs.html()` has every output in its richest static form, and `outputs.text()` the same as
    text. Outputs that are redrawn in place (progress, a live board) stay visible while the block is running,
    and disappear from the page when it ends; their last state is kept here. Standard error is not captured.

    A widget and a record have no static form: displaying one in the block raises SdlabError.
    """

    def __init__(self) -> None:
        super().__init__()
        self._outputs: list[dict[str, Any]] = []
        self._places: dict[str, dict[str, Any]] = {}  # display id -> the output that it redraws
        self._printed = redirect_stdout(self)
        self._shell: Any = None
        self._publisher: Any = None
        self._is_live = not is_headless()

    def __enter__(self) -> Self:
        from IPython import get_ipython

        self._shell = get_ipython()
        if self._shell is not None:
            self._publisher = self._shell.display_pub
            self._shell.display_pub = _tap(self, self._publisher)
        self._printed.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._printed.__exit__(kind, error, trace)
        if self._shell is None:
            return
        self._shell.display_pub = self._publisher
        for display_id, output in list(self._places.items()):
            if self._is_live and WIDGET not in output:
                self._publisher.publish({"text/plain": ""}, transient={"display_id": display_id}, update=True)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Keep printed text; it joins the text printed just before."""
        if not self._outputs or "stream" not in self._outputs[-1]:
            self._outputs.append({"stream": ""})
        self._outputs[-1]["stream"] += text
        return len(text)

    def publish(self, data: dict[str, Any], display_id: str | None, update: bool, **options: Any) -> None:
        """Keep a displayed output, or redraw an earlier one; called in place of IPython's publisher."""
        is_elsewhere = update and display_id not in self._places
        if not is_elsewhere:
            _check_static(data, is_live=self._is_live and display_id is not None)
            if update and display_id is not None:
                place = self._places[display_id]
                place.clear()
            else:
                place = {}
                self._outputs.append(place)
            place.update(data)
            if display_id is not None:
                self._places[display_id] = place
        if is_elsewhere or (self._is_live and display_id is not None):
            self._publisher.publish(data, update=update, **options)

    def html(self) -> str:
        """Return all outputs as HTML, in order. Printed text and plain text are escaped."""
        return "".join(_html(output) for output in self._outputs if WIDGET not in output)

    def text(self) -> str:
        """Return all outputs as text, in order."""
        texts = (output.get("stream", output.get("text/plain", "")) for output in self._outputs)
        return "\n".join(str(text).rstrip("\n") for text in texts if str(text).strip())


def _tap(captured: Captured, publisher: Any) -> Any:
    """Return a publisher that gives every output to `captured`, and everything else to `publisher`."""
    from IPython.core.displaypub import DisplayPublisher

    class Tap(DisplayPublisher):
        def publish(self, data: Any, metadata: Any = None, *_: Any, **options: Any) -> None:
            display_id = (options.get("transient") or {}).get("display_id")
            update = options.pop("update", False)
            captured.publish(data, display_id, update, metadata=metadata, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(publisher, name)

    return Tap(shell=captured._shell)


def _check_static(data: dict[str, Any], is_live: bool) -> None:
    if not is_live and any(kind in data for kind in NOT_STATIC):
        raise SdlabError(
            "a live widget or a record cannot be displayed inside a reveal, which keeps pictures, tables and "
            "text; display it in a cell of its own"
        )


def _html(output: dict[str, Any]) -> str:
    """Return the richest static form of one output: HTML, a picture with its text, Markdown or text."""
    words = str(output.get("stream", output.get("text/plain", "")))
    if "text/html" in output:
        return f"<div>{output['text/html']}</div>"
    if "image/svg+xml" in output:
        code = base64.b64encode(str(output["image/svg+xml"]).encode()).decode()
        return render("picture.html", kind="image/svg+xml", code=code, words=words)
    for kind in PICTURES:
        if kind in output:
            code = output[kind]
            code = base64.b64encode(code).decode() if isinstance(code, bytes) else code
            return render("picture.html", kind=kind, code=code, words=words)
    if "text/markdown" in output:
        import mistune

        return str(mistune.create_markdown(escape=True, plugins=["table"])(str(output["text/markdown"])))
    return render("text.html", text=words) if words.strip() else ""


def as_view(captured: Captured) -> View:
    """Return the captured outputs as one View."""
    return View(captured.html(), captured.text())
