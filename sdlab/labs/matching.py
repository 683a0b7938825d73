"""Match a submission with its source: the cells to run, their order, and problems of the submission."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdlab.labs.build import TEXT_STUB, without_hidden
from sdlab.labs.cells import assigned, imports, marking, tagged
from sdlab.labs.sandbox.answers import asked_of
from sdlab.labs.sandbox.reduced import Rules

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True)
class Step:
    """One cell to run.

    `kind` is "student" (the student's cell), "given" (the source's), "lab" (an experiment of the source, of
    which grading runs only the definitions) or "test" (the source's, worth points).
    """

    kind: str
    code: str
    name: str  # the grade_id, or "cell 7"


@dataclass(frozen=True)
class Plan:
    """The cells to run, the missing test cells (0 points), and notes for the person who grades."""

    steps: tuple[Step, ...]
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    imports: tuple[str, ...]  # the source's import statements
    rules: Rules  # what the lab asks for, and what its submissions may use
    runnable: bool = True


def match(submission: NotebookNode, source: NotebookNode) -> Plan:
    """Return the plan for grading `submission` (both are notebooks; `source` is checked).

    Cells are matched by grade_id. Locked cells are taken from the source. Additional cells of the student run
    unchanged, after the marked cell that they follow. The marked cells have the order of the source.

    Raises SdlabError when the source allows what does not exist.
    """
    problems: list[str] = []
    marked = {mark.grade_id: (cell, mark) for cell in source.cells if (mark := marking(cell))}
    statements = tuple(
        dict.fromkeys(
            line for cell in source.cells if cell.cell_type == "code" for line in imports(cell.source)
        )
    )
    runnable = _language(submission, problems)
    parameters = next(
        (cell for cell in source.cells if cell.cell_type == "code" and tagged(cell, "parameters")), None
    )
    settings = Step("given", parameters.source, "parameters") if parameters else None
    experiments = [
        _words(cell.source) for cell in source.cells if cell.cell_type == "code" and not marking(cell)
    ]
    head: list[Step] = []
    blocks: dict[str, list[Step]] = {}
    now, repeated, edited, placed = head, [], [], False
    for number, cell in enumerate(submission.cells, 1):
        own = marking(cell)
        identity = own.grade_id if own and own.grade_id in marked else None
        if identity:
            again = identity in blocks
            now = blocks.setdefault(identity, [])
            original, mark = marked[identity]
            if again:
                repeated.append(identity)
            if mark.by_hand and original.cell_type != "code":
                if cell.source.strip() in ("", TEXT_STUB):
                    problems.append(f"{identity}: not answered ({mark.points:g} points, graded by hand)")
                continue
            if not mark.solution:
                if settings and original is parameters:
                    _year(cell.source, settings.code, problems)
                    placed = True
                if original.cell_type == "code" and not again:
                    now.append(Step("test" if mark.test else "given", original.source, identity))
                    if _words(cell.source) not in (
                        _words(original.source),
                        _words(without_hidden(original.source)),
                    ):
                        edited.append(identity)
                continue
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        kind = "lab" if not identity and _words(cell.source) in experiments else "student"
        now.append(Step(kind, cell.source, identity or f"cell {number}"))
        if settings and (tagged(cell, "parameters") or "YEAR" in assigned(cell.source)):
            _year(cell.source, settings.code, problems)
            now.append(settings)
            placed = True
    if settings and not placed:
        head.insert(0, settings)
    if not blocks and marked:
        problems.append(
            "no cell of this lab is in it: another lab's notebook, or its metadata is lost; hand in the "
            "notebook that was given out"
        )
    order = list(blocks)
    if order != [identity for identity in marked if identity in blocks]:
        problems.append(f"cells were reordered ({', '.join(order)}); run in the lab's order")
    steps, missing = list(head), []
    for identity, (cell, mark) in marked.items():
        steps += blocks.get(identity, [])
        if identity not in blocks:
            if mark.test:
                missing.append(identity)
            elif not mark.solution and cell.cell_type == "code":
                steps.append(Step("given", cell.source, identity))
    for what, names in (
        ("deleted, so without points", missing),
        ("deleted", [i for i in marked if i not in blocks and marked[i][1].solution]),
        ("there more than once", repeated),
    ):
        if names and blocks:
            problems.append(f"{what}: {', '.join(dict.fromkeys(names))}")
    if edited:
        problems.append(f"edited test cells: {', '.join(edited)}; the lab's own were run")
    return Plan(
        tuple(steps),
        tuple(missing),
        tuple(dict.fromkeys(problems)),
        statements,
        rules_of(source),
        runnable,
    )


def whole_notebook(submission: NotebookNode, source: NotebookNode, preset: str) -> tuple[Step, ...]:
    """Return the cells of `submission` without its tests, in its own order, at another `preset`."""
    tests = {mark.grade_id for cell in source.cells if (mark := marking(cell)) and mark.test}
    steps = []
    for number, cell in enumerate(submission.cells, 1):
        mark = marking(cell)
        if cell.cell_type != "code" or not cell.source.strip() or (mark and mark.grade_id in tests):
            continue
        steps.append(Step("student", cell.source, mark.grade_id if mark else f"cell {number}"))
        if "PRESET" in assigned(cell.source):
            steps.append(Step("given", f"PRESET = {preset!r}", "parameters"))
    return tuple(steps)


def rules_of(source: NotebookNode) -> Rules:
    """Return what the lab `source` asks for, and what its metadata allow ("allowed", "libraries").

    Raises SdlabError when it allows what does not exist.
    """
    asked = [
        name
        for cell in source.cells
        if cell.cell_type == "code" and (mark := marking(cell)) and mark.solution
        for name in asked_of(cell.source)
    ]
    about = source.metadata.get("sdlab", {})
    return Rules(
        tuple(asked), tuple(about.get("allowed", ())), tuple(about.get("libraries", Rules.libraries))
    )


def _language(submission: NotebookNode, problems: list[str]) -> bool:
    """Return whether the notebook is for Python; a kernel with another name is noted and ignored."""
    spec, info = (
        value if isinstance(value := submission.metadata.get(key), dict) else {}
        for key in ("kernelspec", "language_info")
    )
    name, language = str(spec.get("name", "")), str(spec.get("language") or info.get("name") or "python")
    if language.lower() not in ("python", "ipython", "python3"):
        problems.append(f"made for the kernel {name!r} ({language}), which is not Python; nothing was run")
        return False
    if name and name != "python3":
        problems.append(f"made for the kernel {name!r}, which is not here; run with sdlab's own Python")
    return True


def _year(code: str, source: str, problems: list[str]) -> None:
    theirs, ours = (_constant(text, "YEAR") for text in (code, source))
    if theirs != ours:
        problems.append(f"made for YEAR {theirs}, this lab has YEAR {ours}; graded with YEAR {ours}")


def _constant(code: str, name: str) -> Any:
    value = assigned(code).get(name)
    if value is None:
        return None
    try:
        return ast.literal_eval(value)
    except ValueError:
        return ast.unparse(value)


def _words(code: str) -> list[str]:
    return code.split()
