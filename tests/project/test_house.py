"""The rules of the house: what may import what, and how long a module and a function may be."""

import ast
import re
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
from conftest import ROOT, process

import sparkstream_kit

# In one process, which reads the package once
pytestmark = pytest.mark.xdist_group("house")
PACKAGE = Path(sparkstream_kit.__file__).parent
# Where the core opens an extra, each when the caller asks for what lies behind it: a
# module and a room.
DOORS = {
    ("sparkstream_kit.checkpoints", "checkpoints/operate"),
    ("sparkstream_kit.checkpoints.guard", "checkpoints/operate"),
    ("sparkstream_kit.checkpoints.lock", "server"),
    ("sparkstream_kit.joins", "checkpoints/pins"),
    ("sparkstream_kit.quarantine", "quarantine/avro"),
    ("sparkstream_kit.quarantine", "quarantine/contracts"),
    ("sparkstream_kit.quarantine", "quarantine/protobuf"),
    ("sparkstream_kit.quarantine", "quarantine/weblogs"),
    ("sparkstream_kit.quarantine.lines", "quarantine/decoded"),
    ("sparkstream_kit.quarantine.lines", "quarantine/schema_ids"),
    ("sparkstream_kit.queries", "checkpoints/operate"),
    ("sparkstream_kit.queries", "connectors"),
    ("sparkstream_kit.runs", "checkpoints/operate"),
    ("sparkstream_kit.runs", "connectors"),
    ("sparkstream_kit.runs", "monitoring"),
    ("sparkstream_kit.schemas", "connectors"),
    ("sparkstream_kit.schemas", "schemas/contracts"),
    ("sparkstream_kit.schemas", "schemas/samples"),
    ("sparkstream_kit.session", "connectors"),
    ("sparkstream_kit.session", "server"),
    ("sparkstream_kit.sinks", "connectors"),
    ("sparkstream_kit.sinks", "sinks/routing"),
    ("sparkstream_kit.sinks", "sinks/views"),
    ("sparkstream_kit.sinks.plans", "checkpoints/operate"),
    ("sparkstream_kit.sources", "connectors"),
    ("sparkstream_kit.windows", "_internal/timeline"),
}
# Where the thin level opens the next one, beside small questions to `_internal/spark`
# and `_internal/file_system`: two modules.
THIN_DOORS = {
    ("sparkstream_kit.sinks", "sparkstream_kit.sinks.batches"),
    ("sparkstream_kit.sinks", "sparkstream_kit.sinks.directories"),
    ("sparkstream_kit.sinks", "sparkstream_kit.sinks.tables"),
    ("sparkstream_kit.sinks.builtin", "sparkstream_kit.sinks.folders"),
    ("sparkstream_kit.sinks.builtin", "sparkstream_kit.sinks.readback"),
}
# Of a module and of a function, without docstrings and comments. Nothing counts the
# lines of the whole.
MOST_LINES = {"module": 500, "function": 50}


def name_of(path):
    return ".".join(
        path.relative_to(PACKAGE.parent).with_suffix("").parts
    ).removesuffix(".__init__")


PATHS = {name_of(path): path for path in PACKAGE.rglob("*.py")}


@cache  # for the tests of this file; whoever only collects them does not wait for it
def trees():
    return {name: ast.parse(path.read_text("utf-8")) for name, path in PATHS.items()}


@cache
def room(module):
    return house().room_of(PATHS[module], PACKAGE)


def imported(node):
    """Return the kit's modules that a tree imports, in functions too, but not for types."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    found = set()
    if isinstance(node, ast.Import):
        found = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        full = {f"{node.module}.{alias.name}" for alias in node.names}
        found = {name if name in PATHS else str(node.module) for name in full}
    return (found & set(PATHS)).union(*map(imported, ast.iter_child_nodes(node)))


def imported_by_name(tree):
    """Return the kit's modules whose full names are texts in a module that imports by name."""
    if not re.search(
        r"import_module\((?!homes|systems)|attributes\(__name__", ast.unparse(tree)
    ):
        return set()
    texts = {
        str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)
    }
    texts |= house().lazily(tree)
    found = (texts & set(PATHS)) - {"sparkstream_kit"}
    # `sinks` has the function of each `connectors.NAME.sink`, and `sources` of each
    # source.
    parts = (
        texts & {"sink", "source"} if "attributes(__name__" in ast.unparse(tree) else ()
    )
    return found.union(
        *({name for name in PATHS if name.endswith(f".{part}")} for part in parts)
    )


@cache
def imports():
    return {
        name: (imported(tree) | imported_by_name(tree)) - {name}
        for name, tree in trees().items()
    }


@cache
def house():
    """Return what scripts/architecture.py defines, which reads levels and counts lines."""
    return SimpleNamespace(**run_path(str(ROOT / "scripts" / "architecture.py")))


@cache
def level(module):
    return house().level_of(PATHS[module])


def is_extra(module):
    return level(module) == house().EXTRA


def test_imports_run_in_no_circle():
    # Raises CycleError, which names the modules
    in_order = list(TopologicalSorter(imports()).static_order())
    assert {*in_order} == {*PATHS}


def test_the_core_imports_no_extra():
    opened = {
        (importer, room(module))
        for importer, modules in imports().items()
        for module in modules
        if not is_extra(importer) and is_extra(module)
    }
    assert opened == DOORS, (
        "a new door is a decision: enter it in DOORS, with docs/architecture.md"
    )


def is_thin(module):
    return level(module) == house().THIN


def test_each_room_says_its_level():
    rooms = {name: path for name, path in PATHS.items() if name.count(".") == 1}
    assert [name for name, path in rooms.items() if house().said(path) is None] == []
    assert {level(name) for name in PATHS} == {*house().LEVELS}


def test_the_thin_level_stands_alone():
    opened = {
        (importer, module)
        for importer, modules in imports().items()
        for module in modules
        if is_thin(importer) and not is_thin(module) and not is_extra(module)
        if room(module) not in {"_internal/spark", "_internal/file_system"}
    }
    assert opened == THIN_DOORS


def test_one_room_alone_reaches_into_spark():
    # What ruff refuses elsewhere, what calls into the JVM begin with, the question for
    # the kind of session.
    private = (
        r"SLF001|\._(?:jvm|jsc|jdf|jsq|jsparkSession|gateway|active_spark_context)\b"
        r"|is_connect"
    )
    found = {
        room(name)
        for name, path in PATHS.items()
        if re.search(private, path.read_text("utf-8"))
    }
    assert found == {"_internal/spark", "_internal/stopping"}, (
        "a question to the JVM or about Spark Connect is a function in _internal/spark"
    )


def test_an_import_loads_little():
    # `_internal` itself is a folder, and its module has nothing but a docstring.
    count = (
        "import sys; print(sum(name.startswith('sparkstream_kit') and"
        " name != 'sparkstream_kit._internal' for name in sys.modules))"
    )
    loads = {
        "import sparkstream_kit": 1,
        "from sparkstream_kit import sinks": 4,
        "from sparkstream_kit import sinks; sinks.console": 12,
        "from sparkstream_kit import sources; sources.csv": 12,
        **{
            f"from sparkstream_kit import {name}": 8
            for name in ("joins", "quarantine", "schemas", "windows")
        },
        "from sparkstream_kit import start": 26,
    }
    for what, most in loads.items():
        assert (
            int(process([sys.executable, "-c", f"{what}\n{count}"], check=True).stdout)
            <= most
        ), what


def test_a_system_is_few_modules():
    files = Counter(
        str(path.parent.relative_to(PACKAGE))
        for path in PATHS.values()
        if path.name != "__init__.py"
    )
    # A source, a sink, and at most two modules more.
    assert {
        room
        for room, count in files.items()
        if room.startswith("connectors/") and count > 4
    } == set()


def test_modules_and_functions_are_short():
    long = {}
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
                kind = "module" if isinstance(node, ast.Module) else "function"
                if (lines := house().code_lines(PATHS[name], node)) > MOST_LINES[kind]:
                    long[name, getattr(node, "name", "")] = lines
    assert long == {}, f"lines of code; {MOST_LINES} are allowed: split them"


def test_the_map_of_the_rooms_is_drawn_as_the_code_is():
    assert (
        process(
            [sys.executable, ROOT / "scripts" / "architecture.py", "--check"]
        ).stderr
        == ""
    )
