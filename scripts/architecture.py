"""Draw the map of the rooms in docs/architecture.md from the code: what each is, and what it imports.

Run: python scripts/architecture.py [--check]    # --check: exit code 1 if the page is not up to date
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
_BEGIN, _END = "<!-- map: begin -->", "<!-- map: end -->"


def rooms(package: Path) -> dict[str, set[str]]:
    """Return for each module or folder at the top of the package which others it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if not room.startswith("__"):
            uses = _imported(ast.parse(path.read_text("utf-8")), package)
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


def purposes(package: Path) -> list[tuple[str, str]]:
    """Return for each room the first line of its docstring."""
    found = []
    for path in sorted([*package.glob("*.py"), *package.glob("*/__init__.py")]):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        if text and not room.startswith("__"):
            found.append((room, text.splitlines()[0]))
    return sorted(found, key=lambda each: (each[0].startswith("_"), each[0]))


def shortest(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows without those that a longer way says already."""

    def reached(room: str, without: tuple[str, str]) -> set[str]:
        seen: set[str] = set()
        waiting = [room]
        while waiting:
            here = waiting.pop()
            for there in graph[here] - seen:
                if (here, there) != without:
                    seen.add(there)
                    waiting.append(there)
        return seen

    arrows = [(here, there) for here in sorted(graph) for there in sorted(graph[here])]
    return [arrow for arrow in arrows if arrow[1] not in reached(arrow[0], arrow)]


def page() -> str:
    """Return the page's text with the map as the code has it now."""
    arrows = [f"    {here} --> {there}" for here, there in shortest(rooms(ROOT / "sparkstream_kit"))]
    table = [f"| `{room}` | {purpose} |" for room, purpose in purposes(ROOT / "sparkstream_kit")]
    drawn = "\n".join(
        ["| room | what it is |", "| --- | --- |", *table, "", "```mermaid", "flowchart TD", *arrows, "```"]
    )
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    return f"{before}{_BEGIN}\n{drawn}\n{_END}{rest.partition(_END)[2]}"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv and text != PAGE.read_text("utf-8"):
        sys.exit("docs/architecture.md is not up to date; run: python scripts/architecture.py")
    PAGE.write_text(text, "utf-8")
