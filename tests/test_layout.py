"""The layout: imports run one way, no circles, no folder too large, no module or line too long."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sdlab"
# From the ground up: a room imports rooms of earlier lines only.
ROOMS = """
    errors
    paths seeds files settings hub
    interrupts ending
    presets
    text
    grading
    reading
    world
    provenance
    rollout
    paper
    train
    measure
    organism
    benchmarks
    runs
    results
    study
    findings
    scale
    labs
    charts
    show
    walkthrough
    explore
    front
    commands
    cli
    __main__
"""
RANKS = {room: rank for rank, line in enumerate(ROOMS.split("\n")) for room in line.split()}
LARGEST_SHARE = 0.12  # of the package's lines, for a folder
LONGEST_MODULE = 300  # lines
LONGEST_LINE = 110  # columns
LONG_LINES = 8  # still to be broken up: this number only falls


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package is named as itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(known: dict[str, Path]) -> dict[str, set[str]]:
    """What each module imports of the package, inside functions and for type checking too."""
    found = {}
    for module, path in known.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: relative import"
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in known else node.module for name in full}
        found[module] = {name for name in names if name in known and name != module}
    return found


def room(module: str) -> str:
    """The folder, or top-level module, that holds `module`."""
    return module.split(".")[1] if "." in module else "sdlab"


def test_every_room_has_a_place_in_the_order():
    rooms = {room(module) for module in modules()} - {"sdlab"}
    assert rooms == set(RANKS)


def test_imports_run_downwards_only():
    upward = [
        f"{module} imports {other}"
        for module, others in imports(modules()).items()
        for other in others
        if "sdlab" not in (room(module), room(other)) and room(module) != room(other)
        if RANKS[room(other)] >= RANKS[room(module)]
    ]
    assert not upward, "\n".join(sorted(upward))


def test_only_the_commands_import_the_labs():
    users = {room(module) for module, others in imports(modules()).items() if "labs" in map(room, others)}
    assert users <= {"labs", "commands", "cli"}


def test_no_circle_of_imports():
    tree = imports(modules())
    del tree[
        "sdlab"
    ]  # the front door imports when a name is first used; its other imports are for type checkers
    try:
        TopologicalSorter(tree).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {' -> '.join(error.args[1])}") from None


def test_no_folder_is_too_large():
    lines = Counter()
    for path in modules().values():
        place = path.relative_to(PACKAGE)
        folder = str(place.parent if len(place.parts) > 1 else place)
        lines[folder] += len(path.read_text(encoding="utf-8").splitlines())
    total = lines.total()
    large = {place: f"{n / total:.1%}" for place, n in lines.items() if n > LARGEST_SHARE * total}
    assert not large


def test_no_module_is_too_long():
    long = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values()}
    assert not {path: n for path, n in long.items() if n > LONGEST_MODULE}


def test_long_lines_only_become_fewer():
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("sdlab", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LONGEST_LINE
    ]
    assert len(long) <= LONG_LINES, f"{len(long)} lines over {LONGEST_LINE} columns; {LONG_LINES} allowed"


def unannotated(path: Path) -> list[str]:
    """Public functions and methods of a module, inside public classes too, that lack a type somewhere."""
    lacking = []

    def visit(node: ast.AST, owner: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", None) or ""
            special = name.startswith("__") and name.endswith("__")
            if isinstance(child, ast.ClassDef) and not name.startswith("_"):
                visit(child, f"{owner}{name}.")
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
                special or not name.startswith("_")
            ):
                every = child.args
                extra = [one for one in (every.vararg, every.kwarg) if one]
                parameters = every.posonlyargs + every.args + every.kwonlyargs + extra
                if owner and parameters and parameters[0].arg in ("self", "cls"):
                    parameters = parameters[1:]
                if child.returns is None or any(one.annotation is None for one in parameters):
                    lacking.append(f"{path.relative_to(ROOT)}:{child.lineno} {owner}{name}")
            elif isinstance(child, (ast.If, ast.Try, ast.With)):
                visit(child, owner)

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return lacking


def test_public_functions_have_types():
    lacking = [name for path in modules().values() for name in unannotated(path)]
    assert not lacking, "\n".join(lacking)


def test_the_count_sees_what_has_no_type(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "some.py").write_text(
        "def whole(a: int, *b: int, **c: int) -> int: ...\n"
        "def no_result(a: int): ...\n"
        "def no_parameter(a) -> int: ...\n"
        "def no_rest(*a) -> int: ...\n"
        "def _private(a): ...\n"
        "class Public:\n    def __init__(self): ...\n    def whole(self) -> int: ...\n"
        "class _Private:\n    def method(self, a): ...\n"
        "try:\n    def tried(a): ...\nexcept OSError:\n    pass\n"
    )
    assert [name.split()[1] for name in unannotated(tmp_path / "some.py")] == [
        "no_result",
        "no_parameter",
        "no_rest",
        "Public.__init__",
        "tried",
    ]
