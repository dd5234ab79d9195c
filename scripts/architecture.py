"""Draw the map in docs/architecture.md from the code.

A room is a module or a folder at the top of the package or in `_internal`, or a module or
folder of another level than the folder that it is in. The first line of its docstring says
its level. A box has the rooms that belong together.

Run: python scripts/architecture.py [--check]
With --check, the exit code is 1 if the page is not up to date.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
_BEGIN, _END = "<!-- map: begin -->", "<!-- map: end -->"

# The levels, as docstrings name them, and what each may import. The package's own
# module is of the second.
THIN, START_AND_RUN, EXTRA = "Thin", "Start and run", "Extra"
LEVELS = {
    THIN: (
        "PySpark, the standard library, itself; small questions to `_internal/spark`"
        " and `_internal/file_system`"
    ),
    START_AND_RUN: "thin, and itself",
    EXTRA: "both, and other extras",
}

# The boxes, and their rooms; those of the extras come first. What is in no box is a
# small thing.
EXTRAS = {
    "commands": ("cli", "jobflags", "_internal/stopping/exits"),
    "operators": ("checkpoints/operate",),
    "tests": ("testing", "feeds", "schemas/samples"),
    "contracts": (
        "quarantine/contracts",
        "quarantine/patterns",
        "schemas/changes",
        "schemas/contracts",
        "schemas/drafts",
        "schemas/physical",
    ),
    "dashboards": ("monitoring", "display", "sinks/views"),
    "systems": (
        "connectors",
        "formats",
        "quarantine/avro",
        "quarantine/weblogs",
        "sinks/routing",
    ),
    "functions with memory": ("state", "models", "dstreams", "checkpoints/pins"),
}
CORE = {
    "queries": ("queries", "runs"),
    "streams in and out": (
        "sources",
        "schemas",
        "quarantine",
        "windows",
        "joins",
        "sinks",
    ),
    "reports": ("progress", "verdicts"),
    "checkpoints": ("checkpoints",),
    "sessions": ("session", "server"),
    "what ends a run": ("_internal/stopping",),
    "columns": ("_internal/columns",),
    "Spark's inside": ("_internal/spark",),
}
SMALL = "small things"


def module_of(place: Path) -> Path:
    """Return the file of a module or of a package, given without its suffix."""
    package = place / "__init__.py"
    # A folder alone may be what git leaves of a package that has moved.
    return package if package.exists() else place.with_suffix(".py")


def room_of(path: Path, package: Path) -> str:
    """Return the room that a module is in, such as "sinks", "sinks/views" or "_internal/spark"."""
    inside = path.relative_to(package).with_suffix("")
    if inside.name == "__init__":
        inside = inside.parent
    if not inside.parts:
        return ""
    folders = [*reversed(inside.parents), inside][1:]
    room = folders.pop(0)
    if str(room) == "_internal" and folders:
        room = folders.pop(0)
    for place in folders:
        if level_of(module_of(package / place)) != level_of(module_of(package / room)):
            room = place
    return str(room)


@cache
def rooms(package: Path) -> dict[str, set[str]]:
    """Return for each room which others it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = room_of(path, package)
        if path.name != "__main__.py" and room not in {"", "_internal"}:
            tree = ast.parse(path.read_text("utf-8"))
            uses = _imported(tree, package) | _named(tree, package)
            found.setdefault(room, set()).update(uses - {room})
    return found


def _imported(node: ast.AST, package: Path) -> set[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    found = set()
    if isinstance(node, ast.ImportFrom):
        module = str(node.module)
        full = (f"{module}.{alias.name}" for alias in node.names)
        found = {_room_of_name(name, package) for name in full} - {""}
    return found.union(
        *(_imported(child, package) for child in ast.iter_child_nodes(node))
    )


def _room_of_name(name: str, package: Path) -> str:
    """Return the room of a module, or of a name in it; empty for what is not the package's."""
    top, *parts = name.split(".")
    if top != package.name:
        return ""
    place = package.joinpath(*parts)
    while place != package and not module_of(place).exists():
        place = place.parent
    return room_of(module_of(place), package)


def _named(tree: ast.Module, package: Path) -> set[str]:
    """Return the rooms that a module imports by name when an attribute of it is asked for."""
    if "attributes(__name__" not in ast.unparse(tree):
        return set()
    texts = {
        str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)
    } | lazily(tree)
    # `sinks` has each system's
    texts |= {f"{package.name}.connectors" for _ in texts & {"sink", "source"}}
    return {_room_of_name(text, package) for text in texts} - {""}


def lazily(tree: ast.Module) -> set[str]:
    """Return the modules of the names that a package imports as themselves, for `attributes`."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {
        str(node.module)
        for node in imports
        for each in node.names
        if each.name == each.asname
    }


def purposes(package: Path) -> list[tuple[str, str, str]]:
    """Return each room with its level and purpose, from the first line of its docstring."""
    found = []
    for room in rooms(package):
        level, purpose = said(module_of(package / room)) or ("", "")
        found.append((room, level, purpose[:1].upper() + purpose[1:]))
    order = [*EXTRAS, *CORE, SMALL]
    return sorted(found, key=lambda each: (order.index(box_of(each[0])), each[0]))


@cache
def said(path: Path) -> tuple[str, str] | None:
    """Return the level and purpose that a module's docstring begins with.

    None if its first line says no level.
    """
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    level, _, purpose = text.partition("\n")[0].partition(": ")
    return (level, purpose) if level in LEVELS else None


def level_of(path: Path) -> str:
    """Return a module's level: the one that its own docstring says, or that of its room."""
    ways = [path, *(folder / "__init__.py" for folder in path.parents)]
    return next(
        (found[0] for each in ways if each.exists() and (found := said(each))),
        START_AND_RUN,
    )


def code_lines(path: Path, node: ast.AST) -> int:
    """Count the lines of a module or a function without docstrings, comments and blank lines."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        number
        for part in ast.walk(node)
        if isinstance(part, documented)
        and ast.get_docstring(part, clean=False) is not None
        for number in range(part.body[0].lineno, (part.body[0].end_lineno or 0) + 1)
    }
    lines = path.read_text("utf-8").split("\n")
    first, last = (
        getattr(node, "lineno", 1),
        getattr(node, "end_lineno", None) or len(lines),
    )
    return sum(
        number not in docs and bool(text.strip()) and not text.lstrip().startswith("#")
        for number, text in enumerate(lines[first - 1 : last], first)
    )


def levels(package: Path) -> list[str]:
    """Return the table of the levels, with their rooms."""
    names: dict[str, list[str]] = {level: [] for level in LEVELS}
    for room in sorted(rooms(package)):
        names[level_of(module_of(package / room))].append(f"`{room}`")
    return [
        "| level | rooms | what it may import |",
        "| --- | --- | --- |",
        *(
            f"| {level} | {', '.join(names[level])} | {may} |"
            for level, may in LEVELS.items()
        ),
    ]


def box_of(room: str) -> str:
    """Return the box that a room is in."""
    of_room = {
        member: box for box, members in (EXTRAS | CORE).items() for member in members
    }
    return of_room.get(room) or of_room.get(room.partition("/")[0], SMALL)


def boxes(
    graph: dict[str, set[str]],
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return for each box which others it imports, and which of the extras it opens on demand."""
    uses: dict[str, set[str]] = {box: set() for box in (*EXTRAS, *CORE, SMALL)}
    opens: dict[str, set[str]] = {box: set() for box in uses}
    for room, others in graph.items():
        box = box_of(room)
        for other in map(box_of, others):
            (opens if box not in EXTRAS and other in EXTRAS else uses)[box].add(other)
    return {box: found - {box} for box, found in uses.items()}, opens


def shortest(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows without those that a longer way says already.

    Raises:
        graphlib.CycleError: the boxes import each other in a circle.
    """
    reached: dict[str, set[str]] = {}
    found = []
    for here in TopologicalSorter(graph).static_order():  # what is imported comes first
        by_others = {
            there: set().union(*(reached[each] for each in graph[here] - {there}))
            for there in graph[here]
        }
        found += [
            (here, there) for there, seen in by_others.items() if there not in seen
        ]
        reached[here] = graph[here].union(*(reached[each] for each in graph[here]))
    return sorted(found)


def page() -> str:
    """Return the page's text with the map as the code has it now."""
    package = ROOT / "sparkstream_kit"
    uses, opens = boxes(rooms(package))
    number = {box: f"b{count}" for count, box in enumerate(uses)}
    table = [
        f"| {box_of(room)} | `{room}` | {level} | {purpose} |"
        for room, level, purpose in purposes(package)
    ]
    picture = [
        *(f'    {number[box]}["{box}"]' for box in uses),
        *(f"    {number[here]} --> {number[there]}" for here, there in shortest(uses)),
        *(
            f"    {number[here]} -.-> {number[there]}"
            for here in opens
            for there in sorted(opens[here])
        ),
    ]
    head = ["| box | room | level | what it is |", "| --- | --- | --- | --- |"]
    map_of_boxes = ["```mermaid", "flowchart TD", *picture, "```"]
    drawn = "\n".join([*levels(package), "", *map_of_boxes, "", *head, *table])
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    return f"{before}{_BEGIN}\n{drawn}\n{_END}{rest.partition(_END)[2]}"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv and text != PAGE.read_text("utf-8"):
        sys.exit(
            "docs/architecture.md is not up to date; run: python"
            " scripts/architecture.py"
        )
    PAGE.write_text(text, "utf-8")
