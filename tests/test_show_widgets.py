"""Flip books, sliders and the trace explorer; the last tests run them in a real kernel, headless and not."""

import re

import altair as alt
import nbformat
import pandas as pd
import pytest
from patience import PATIENCE
from test_show_tokens import Reader

from sdlab.errors import SdlabError
from sdlab.show import check_callbacks, flipbook, slider_view, trace_explorer, trace_view, widgets

HOSTILE = "<script>x</script>"


def traces() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "problem_id": f"hunt/{i}",
                "context": context,
                "generation": g,
                "completion": f"wait, trace {i} {context} {g} {HOSTILE}",
                "length": 10,
                "reward": float(g),
                "truth": "36",
            }
            for i in range(5)
            for context in ("regenerated", "none", "solution")
            for g in range(2)
        ]
    )


def chart(value):
    return alt.Chart(pd.DataFrame({"a": [value]}), title=f"value {value}").mark_point().encode(x="a")


def test_flipbook_shows_the_start_where_styles_and_inputs_are_removed():
    html = flipbook({0.1: chart(0.1), 0.5: chart(0.5), 0.9: chart(0.9)}, label="reliability", start=0.5).html
    stripped = re.sub(r"<style>.*?</style>|<input[^>]*>|</?object[^>]*>", "", html, flags=re.S)
    assert re.findall(r'<img [^>]*?alt="([^"]*)"', stripped) == ["value 0.5."]
    shown = re.findall(r"<div style='display:(block|none)'>", html)
    assert shown == ["none", "block", "none"]
    assert html.count("type='radio'") == 3 and html.count("checked>") == 1
    assert "aria-label='reliability: 0.9'" in html and "<script" not in html


def test_flipbook_rules_pair_each_button_with_its_frame():
    view = flipbook({"a": "one", "b": "two"}, label="letters")
    name = re.search(r"name='(flip\w+)'", view.html)[1]
    for i in (1, 2):
        assert (
            f".{name}>input:nth-of-type({i}):checked~.{name}f>div:nth-child({i}){{display:block!important"
            in view.html
        )
    again = flipbook({"a": "one", "b": "two"}, label="letters")
    other = flipbook({"a": "one", "b": "three"}, label="letters")
    assert again.html == view.html and name not in other.html  # stable, yet no two books share buttons


def test_flipbook_escapes_labels_values_and_strings():
    tags = Reader(flipbook({HOSTILE: HOSTILE}, label=HOSTILE).html, "body").tags
    assert "script" not in {tag for tag, _ in tags}


def test_bad_starts_and_no_values():
    with pytest.raises(SdlabError, match="cannot start at 7; choose one of: 1, 2"):
        slider_view(str, [1, 2], "n", start=7)
    with pytest.raises(SdlabError, match="no values"):
        slider_view(str, [], "n")
    with pytest.raises(SdlabError, match="no frames"):
        flipbook({}, label="n")


def test_an_error_in_the_function_is_raised_in_the_cell():
    def broken(value):
        return 1 / (value - 2)

    for live in (False, True):  # headless runs try every value of a live slider too
        with pytest.raises(ZeroDivisionError):
            slider_view(broken, [1, 2], "n", start=1, live=live)


def test_guarded_shows_records_and_rethrows():
    view = widgets.guarded(lambda: int(HOSTILE))()
    assert "ValueError" in view.html and HOSTILE not in view.html and "traceback" in view.html
    with pytest.raises(ValueError):
        check_callbacks()
    check_callbacks()  # told once


def test_trace_view_orders_contexts_and_filters():
    view = trace_view(traces(), "hunt/3", 1)
    assert [view.text.index(f"trace 3 {c} 1") for c in ("none", "solution", "regenerated")] == sorted(
        view.text.index(f"trace 3 {c} 1") for c in ("none", "solution", "regenerated")
    )
    assert (
        "trace 2" not in view.text and "trace 3 none 0" not in view.text and "the answer is 36" in view.text
    )
    with pytest.raises(SdlabError, match="no completion of problem 'x'"):
        trace_view(traces(), "x")


def test_trace_explorer_headless_folds_the_first_problems():
    view = trace_explorer(traces(), static=2)
    assert (
        view.html.count("<summary>hunt/") == 2
        and view.html.count("<details style='margin-top:6px' open>") == 1
    )
    assert "2 of 5 problems" in view.html and "<script" not in view.html


CELLS = {
    "slider": "import sdlab.show as show\nshow.slider_view(lambda v: 1 / (v - 2), [1, 2], 'n', start=1, "
    "live=True)",
    "explorer": "import pandas as pd, sdlab.show as "
    "show\nshow.trace_explorer(pd.DataFrame([dict(problem_id=p, context='none', "
    "generation=0, completion='wait ' + p) for p in 'ab']))",
    "board": "from sdlab.show import Board, LiveBoard\nb = Board('sampling', 'rows')\nfor i in range(50): "
    "b(i, 49)\n"
    "live = LiveBoard(('reward',))\nfor i in range(3): live.update(dict(step=i, reward=i / 2))",
    "drive": "import ipywidgets\ns = [w for w in ipywidgets.Widget.widgets.values() if isinstance(w, "
    "ipywidgets.SelectionSlider)][0]\n"
    "s.value = 2\nshow.check_callbacks()",
}


def run(cells, monkeypatch, headless: bool):
    from nbclient import NotebookClient

    monkeypatch.setenv("SDLAB_HEADLESS", str(int(headless)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELLS[cell]) for cell in cells])
    NotebookClient(notebook, kernel_name="python3", timeout=PATIENCE, allow_errors=True).execute()
    return notebook.cells


@pytest.mark.slow
def test_headless_kernel(monkeypatch):
    slider, explorer, board = run(["slider", "explorer", "board"], monkeypatch, headless=True)
    assert slider.outputs[0].ename == "ZeroDivisionError"  # the run fails although only start=1 is shown
    assert "wait" in explorer.outputs[0].data["text/html"]
    texts = [output.data["text/plain"] for output in board.outputs]
    assert len(texts) == 2 and texts[0].startswith("sampling: 49 of 49 rows")
    assert texts[1] == "Training, step 2: score 1.00"  # drawn when the cell ended


@pytest.mark.slow
def test_live_kernel_callback_errors_are_seen(monkeypatch):
    slider, explorer, drive = run(["slider", "explorer", "drive"], monkeypatch, headless=False)
    assert "ZeroDivisionError" in str(slider.outputs[1].data["text/html"])  # shown where the picture was
    assert drive.outputs[-1].ename == "ZeroDivisionError"  # and raised by check_callbacks
    assert "application/vnd.jupyter.widget-view+json" in explorer.outputs[0].data
    assert explorer.outputs[1].data["text/html"].count("<b title") == 1
