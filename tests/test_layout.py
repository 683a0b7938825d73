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
    paths seeds files settings
    interrupts
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
    runs
    benchmarks
    results
    study
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
LONG_LINES = 233  # still to be broken up: this number only falls


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
