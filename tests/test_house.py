"""The rules of the house: what may import what, and how long a module and a function may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

import sparkstream_kit

PACKAGE = Path(sparkstream_kit.__file__).parent
# Rooms that a `--py-files` zip could leave out; every other room is the core.
EXTRAS = {"__main__", "cli", "connectors", "feeds", "monitoring", "server", "testing"}
# Where the core opens an extra, each when the caller asks for what lies behind it: a module and a room.
DOORS = {("sparkstream_kit.sinks", "connectors"), ("sparkstream_kit.sources", "connectors")}
MOST_LINES = {"module": 250, "function": 50}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


TREES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
PATHS = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(node: ast.AST) -> set[str]:
    """Return the kit's modules that are imported in a tree, in functions too, but not for types alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    found = set()
    if isinstance(node, ast.Import):
        found = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        full = {f"{node.module}.{alias.name}" for alias in node.names}
        found = {name if name in TREES else str(node.module) for name in full}
    return (found & set(TREES)).union(*map(imported, ast.iter_child_nodes(node)))


def imported_by_name(tree: ast.Module) -> set[str]:
    """Return the kit's modules whose full names are texts in a module that uses `importlib`."""
    if "import importlib" not in ast.unparse(tree):
        return set()
    return {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)} & set(TREES)


IMPORTS = {name: (imported(tree) | imported_by_name(tree)) - {name} for name, tree in TREES.items()}


def code_lines(path: Path, node: ast.AST) -> int:
    """Count the lines of a module or a function without docstrings, comments and blank lines."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        number
        for part in ast.walk(node)
        if isinstance(part, documented) and ast.get_docstring(part) is not None
        for number in range(part.body[0].lineno, (part.body[0].end_lineno or 0) + 1)
    }
    lines = path.read_text("utf-8").split("\n")
    first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", None) or len(lines)
    return sum(
        number not in docs and bool(text.strip()) and not text.lstrip().startswith("#")
        for number, text in enumerate(lines[first - 1 : last], first)
    )


def test_imports_run_in_no_circle() -> None:
    list(TopologicalSorter(IMPORTS).static_order())  # raises CycleError, which names the modules


def test_the_core_imports_no_extra() -> None:
    opened = {
        (importer, room(module))
        for importer, modules in IMPORTS.items()
        for module in modules
        if room(importer) not in EXTRAS and room(module) in EXTRAS
    }
    assert opened - DOORS == set()


@pytest.mark.parametrize("name", sorted(TREES))
def test_modules_and_functions_are_short(name: str) -> None:
    functions = [
        node for node in ast.walk(TREES[name]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert code_lines(PATHS[name], TREES[name]) <= MOST_LINES["module"]
    for function in functions:
        assert code_lines(PATHS[name], function) <= MOST_LINES["function"], function.name


def test_the_map_of_the_rooms_is_drawn_as_the_code_is() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "architecture.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
