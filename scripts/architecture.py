"""Draw the map in docs/architecture.md from the code: what each room is, and which box of rooms uses which.

A room is a module or a folder at the top of the package; a box has the rooms that belong together.

Run: python scripts/architecture.py [--check]    # --check: exit code 1 if the page is not up to date
"""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
_BEGIN, _END = "<!-- map: begin -->", "<!-- map: end -->"

# The boxes, and their rooms; those of the extras come first. What is in no box is a small thing.
EXTRAS = {
    "commands": ("cli", "jobflags", "_exits", "operate"),
    "tests": ("testing", "feeds"),
    "dashboards": ("monitoring", "display"),
    "systems": ("connectors",),
    "functions with memory": ("state", "models", "_pins", "dstreams"),
}
CORE = {
    "queries": ("queries", "runs"),
    "streams in and out": ("sources", "schemas", "quarantine", "windows", "joins", "sinks"),
    "reports": ("progress", "verdicts"),
    "checkpoints": ("checkpoints",),
    "sessions": ("session", "server"),
    "Spark's inside": ("_spark",),
}
SMALL = "small things"


def rooms(package: Path) -> dict[str, set[str]]:
    """Return for each module or folder at the top of the package which others it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if not room.startswith("__"):
            tree = ast.parse(path.read_text("utf-8"))
            uses = _imported(tree, package) | _named(tree, package)
            found.setdefault(room, set()).update(uses - {room})
    return found


def _imported(node: ast.AST, package: Path) -> set[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    found = set()
    if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == package.name:
        parts = str(node.module).split(".")
        names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        found = {name for name in names if (package / name).is_dir() or (package / f"{name}.py").exists()}
    return found.union(*(_imported(child, package) for child in ast.iter_child_nodes(node)))


def _named(tree: ast.Module, package: Path) -> set[str]:
    """Return the rooms that a module imports by their names, when one of its attributes is asked for."""
    if "attributes(__name__" not in ast.unparse(tree):
        return set()
    texts = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text.split(".")[1] for text in texts if text.startswith(f"{package.name}.")}


def purposes(package: Path) -> list[tuple[str, str]]:
    """Return for each room the first line of its docstring."""
    found = []
    for path in sorted([*package.glob("*.py"), *package.glob("*/__init__.py")]):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        if text and not room.startswith("__"):
            found.append((room, text.splitlines()[0]))
    order = [*EXTRAS, *CORE, SMALL]
    return sorted(found, key=lambda each: (order.index(box_of(each[0])), each[0]))


def box_of(room: str) -> str:
    """Return the box that a room is in."""
    return next((box for box, members in (EXTRAS | CORE).items() if room in members), SMALL)


def boxes(graph: dict[str, set[str]]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
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
            there: set().union(*(reached[each] for each in graph[here] - {there})) for there in graph[here]
        }
        found += [(here, there) for there, seen in by_others.items() if there not in seen]
        reached[here] = graph[here].union(*(reached[each] for each in graph[here]))
    return sorted(found)


def page() -> str:
    """Return the page's text with the map as the code has it now."""
    package = ROOT / "sparkstream_kit"
    uses, opens = boxes(rooms(package))
    number = {box: f"b{count}" for count, box in enumerate(uses)}
    table = [f"| {box_of(room)} | `{room}` | {purpose} |" for room, purpose in purposes(package)]
    picture = [
        *(f'    {number[box]}["{box}"]' for box in uses),
        *(f"    {number[here]} --> {number[there]}" for here, there in shortest(uses)),
        *(f"    {number[here]} -.-> {number[there]}" for here in opens for there in sorted(opens[here])),
    ]
    head = ["| box | room | what it is |", "| --- | --- | --- |"]
    drawn = "\n".join(["```mermaid", "flowchart TD", *picture, "```", "", *head, *table])
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    return f"{before}{_BEGIN}\n{drawn}\n{_END}{rest.partition(_END)[2]}"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv and text != PAGE.read_text("utf-8"):
        sys.exit("docs/architecture.md is not up to date; run: python scripts/architecture.py")
    PAGE.write_text(text, "utf-8")
