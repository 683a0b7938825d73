"""Everything in a notebook's outputs that can be moved or pressed: found, used by mouse and then by keyboard
alone, and watched.
"""

import re

from browser import Lab

REACH = 60  # times Tab is pressed from a cell to one of its controls, at most
OUTPUT = ".jp-OutputArea-output"
ACTIVE = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"


def play(lab: Lab) -> list[str]:
    """Use every control; returns what was done, a line each. Fails where what is shown does not change or
    the keys do something else.
    """
    return [line for kind in KINDS for line in kind(lab)]


def drawings(lab: Lab) -> list[str]:
    """Draw every curve with the arrow keys, while its result is folded."""
    count = 0
    for box in lab.page.locator(f"{OUTPUT} fieldset:has([role=slider])").all():
        points = box.locator("[role=slider]")
        reach(lab, points.first)
        for _ in range(points.count()):
            press(lab, "ArrowUp")
            press(lab, "ArrowRight")
        assert points.last.evaluate("e => document.activeElement === e"), "ArrowRight does not go on"
        said = points.evaluate_all("all => all.map(e => e.getAttribute('aria-valuetext'))")
        assert "not drawn" not in said, said
        count += 1
    return [f"drawing: {count} curves by arrow keys"] if count else []


def guesses(lab: Lab) -> list[str]:
    """Answer every question, by mouse and with the arrow keys, and open its result, which stays open."""
    page, count = lab.page, 0
    for box in page.locator(f"{OUTPUT} fieldset[class^=guess]").all():
        radios, fold = box.locator("> label > input"), box.locator("> details")
        if radios.count():
            count += 1
            radios.last.click()
            reach(lab, radios.last)
            press(lab, "ArrowUp")
            assert radios.nth(radios.count() - 2).is_checked(), "ArrowUp does not choose the option above"
        if fold.count() and not fold.evaluate("e => e.open"):
            reach(lab, fold.locator("> summary"))
            press(lab, "Enter")
            assert fold.evaluate("e => e.open"), "Enter does not show the result"
    if count:
        page.get_by_text(re.compile(r"You guessed \d+ of \d+ right")).wait_for()
    return [f"guess: {count} questions answered, arrow keys, results opened"] if count else []


def flip_books(lab: Lab) -> list[str]:
    page, done = lab.page, []
    names = page.locator(f"{OUTPUT} input[type=radio]").evaluate_all(
        "all => [...new Set(all.map(one => one.name))]"
    )
    for name in (name for name in names if name.startswith("flip")):
        labels, frames = page.locator(f"label[for^='{name}-']"), page.locator(f".{name}f")
        count = labels.count()

        def shown() -> list[int]:
            return frames.evaluate(
                "box => [...box.children].flatMap((e, i) => { const s = getComputedStyle(e); return "
                "s.visibility === 'visible' && s.display !== 'none' ? [i] : [] })"
            )

        first = shown()[0]
        assert count > 1 and len(shown()) == 1, f"{name} shows the frames {shown()}"
        before = frames.screenshot()
        for i in [j for j in range(count) if j != first] + [first]:
            labels.nth(i).click()
            assert shown() == [i], f"{name}: pressed button {i}, shown {shown()}"
            after = frames.screenshot()
            assert after != before, f"{name}: the picture of button {i} looks like the one before"
            before = after
        reach(lab, page.locator(f"#{name}-{first}"))
        at = shown()[0]
        for key, step in (("ArrowRight", 1), ("ArrowDown", 1), ("ArrowUp", -1), ("ArrowLeft", -1)):
            press(lab, key)
            at = (at + step) % count
            assert shown() == [at], f"{name}: {key} shows {shown()}, not frame {at}"
        done.append(
            f"flip book {labels.first.locator('xpath=..').locator('span').first.inner_text()!r}: {count} "
            f"buttons, arrow keys"
        )
    return done


def folds(lab: Lab) -> list[str]:
    page, count = lab.page, 0
    for fold in page.locator(f"{OUTPUT} details").all():
        summary = fold.locator("> summary")
        if not summary.is_visible():
            continue  # on a page of a flip book that is not shown
        if fold.evaluate("e => e.parentElement.matches('fieldset[class^=guess]')"):
            continue  # a result that `guesses` has opened
        was = fold.evaluate("e => e.open")
        height = fold.bounding_box()["height"]
        summary.click()
        assert fold.evaluate("e => e.open") != was and fold.bounding_box()["height"] != height
        reach(lab, summary)
        press(lab, "Enter")
        assert fold.evaluate("e => e.open") == was, "Enter does not fold"
        press(lab, "Space")
        assert fold.evaluate("e => e.open") != was, "Space does not fold"
        count += 1
    return [f"fold: {count} opened and closed, Enter and Space"] if count else []


def dropdowns(lab: Lab) -> list[str]:
    done = []
    for menu in lab.page.locator(f"{OUTPUT} select").all():
        # choosing a problem makes the menu of samples anew: sizes are read when it is this menu's turn
        count, picture = menu.locator("option").count(), cell_of(menu)
        assert count > 1
        for i in [*range(1, count), 0]:
            changes(lab, picture, lambda i=i: menu.select_option(index=i))
        reach(lab, menu)
        for key, index in (("ArrowDown", 1), ("ArrowUp", 0)):
            changes(lab, picture, lambda key=key: press(lab, key))
            assert menu.evaluate("e => e.selectedIndex") == index, (
                f"{key} chooses entry {menu.evaluate('e => e.selectedIndex')}"
            )
        label = menu.evaluate("e => e.labels[0]?.textContent || e.parentElement.textContent")[:12].strip()
        done.append(f"dropdown {label!r}: {count} entries, arrow keys")
    return done


def sliders(lab: Lab) -> list[str]:
    page, done = lab.page, []
    for handle in page.locator(f"{OUTPUT} .noUi-handle").all():
        picture, bar = (
            cell_of(handle),
            handle.locator("xpath=ancestor::*[contains(@class, 'noUi-target')]").bounding_box(),
        )
        said = picture.locator(".widget-readout")

        def drag(share: float) -> None:
            box = handle.bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.mouse.down()
            page.mouse.move(bar["x"] + share * bar["width"], bar["y"] + bar["height"] / 2, steps=5)
            page.mouse.up()

        for share in (0.99, 0.01):
            changes(lab, picture, lambda share=share: drag(share))
        reach(lab, handle)
        for key in ("ArrowRight", "ArrowUp", "ArrowLeft"):
            changes(lab, picture, lambda key=key: press(lab, key))
        done.append(f"slider: dragged to both ends, arrow keys, now at {said.inner_text()!r}")
    return done


def buttons(lab: Lab) -> list[str]:
    done = []
    for button in lab.page.locator(f"{OUTPUT} button.jupyter-button:not([disabled])").all():
        if not button.is_visible():
            continue
        changes(lab, cell_of(button), button.click)
        reach(lab, button)
        for key in ("Enter", "Space"):
            changes(lab, cell_of(button), lambda key=key: press(lab, key))
        done.append(f"button {button.inner_text()!r}: pressed, Enter and Space")
    return done


KINDS = (drawings, guesses, flip_books, folds, dropdowns, sliders, buttons)  # curves before the results


def cell_of(control):
    return control.locator("xpath=ancestor::*[contains(concat(' ', @class, ' '), ' jp-CodeCell ')]")


def changes(lab: Lab, cell, act) -> None:
    """Do `act` and wait until the ordinary output of the cell (not the widget) is another one."""
    html = "cell => [...cell.querySelectorAll('.jp-RenderedHTMLCommon')].map(e => e.innerHTML).join('|')"
    before = cell.evaluate(html)
    act()
    lab.page.wait_for_function(
        f"([cell, before]) => {{ const now = ({html})(cell); return now && now !== before }}",
        arg=[cell.element_handle(), before],
    )
    lab.idle()


def reach(lab: Lab, control) -> None:
    """Go to the control by keyboard alone: from its cell, in command mode, with Tab."""
    element = control.element_handle()
    lab.page.evaluate(
        "e => { const book = window.jupyterapp.shell.currentWidget.content; "
        "book.activeCellIndex = book.widgets.findIndex(cell => cell.node.contains(e)); book.mode = "
        "'command'; book.activeCell.node.focus() }",
        element,
    )
    for _ in range(REACH):
        if element.evaluate("e => document.activeElement === e"):
            return
        lab.page.keyboard.press("Tab")
    raise AssertionError(
        f"{control} is not reached with {REACH} times Tab; at the end "
        f"{lab.page.evaluate('document.activeElement.outerHTML')[:200]}"
    )


def press(lab: Lab, key: str) -> None:
    """Press a key on the control that has the focus; JupyterLab must not take it for one of its own."""
    page = lab.page
    before = page.evaluate(ACTIVE), page.evaluate("() => document.activeElement.tagName")
    page.keyboard.press(key)
    mode = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.mode")
    after = page.evaluate(ACTIVE), page.evaluate("() => document.activeElement.tagName")
    assert after == before and mode == "command", f"{key} moved from cell {before} to {after}, {mode} mode"


def charts_without_words(lab: Lab) -> list[str]:
    """Pictures in outputs that have no text alternative."""
    pictures = lab.page.locator(f"{OUTPUT} :is(img, svg, object, canvas, [role=img])")
    return pictures.evaluate_all("""all => all.filter(e => {
        if (e.closest('[aria-hidden=true]')) return false
        const word = e.getAttribute('alt') || e.getAttribute('aria-label') || e.getAttribute('title')
            || e.querySelector(':scope > title')?.textContent
        return !(word || '').trim() }).map(e => e.outerHTML.slice(0, 120))""")


def contrast(one: str, other: str) -> float:
    """The contrast of two opaque colours, given as `rgb(1, 2, 3)`, by WCAG 2."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    low, high = sorted((light(one), light(other)))
    return high / low
