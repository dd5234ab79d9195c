"""The shape of the house: public names, what is imported when, and what the core needs."""

import ast
import importlib
import inspect
import re
import sys
from collections import defaultdict
from functools import cache
from runpy import run_path
from typing import Any

import pytest
from conftest import ROOT, process, ran
from project.test_house import PACKAGE, PATHS, is_extra, trees

import sparkstream_kit

# What users import: the modules at the top of the package, and its rooms.
PUBLIC = [name for name in PATHS if "._" not in name and name.count(".") <= 1]
# Public calls that nobody outside of the kit makes.
WITHOUT_EXAMPLE = {"jobflags.take_standard_streams"}
# What needs more than a session, and the test that runs the same calls.
ELSEWHERE = {
    "quarantine.parse_avro": "a broker: tests/systems/test_kafka_docs.py",
    "quarantine.parse_protobuf": "a registry: tests/systems/test_registry.py",
    "sources.delta": "Delta's jars: tests/systems/test_delta.py",
    "monitoring.live": "a notebook: tests/project/test_notebook.py",
}
SITE = ROOT / "scripts" / "site.py"
CORE = {"pyspark", "py4j", "sparkstream_kit", *sys.stdlib_module_names}


def exported(name):
    return getattr(importlib.import_module(name), "__all__", None)


def imported(module):
    """Return the top-level packages that a module imports anywhere."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_a_public_module_says_what_is_for_users():
    assert [name for name in PUBLIC if exported(name) is None] == [], (
        "it has an __all__"
    )


def test_no_module_hides_a_name_of_its_room():
    """`checkpoints.show` is the call, also once the module of that name is imported."""
    for name in [name for name in PATHS if name.count(".") > 1]:
        importlib.import_module(name)
    rooms = [
        importlib.import_module(name)
        for name, path in PATHS.items()
        if path.name == "__init__.py"
    ]
    named = [(room, name) for room in rooms for name in getattr(room, "__all__", ())]
    hidden = [
        (room.__name__, name)
        for room, name in named
        if inspect.ismodule(getattr(room, name))
    ]
    assert hidden == [], "once such a module is imported, it is what the name means"


def test_the_core_needs_pyspark_and_the_standard_library_alone():
    more = {
        name: imported(tree) - CORE
        for name, tree in trees().items()
        if not is_extra(name)
    }
    assert {name: libraries for name, libraries in more.items() if libraries} == {}


@pytest.mark.parametrize(
    "module",
    ["sparkstream_kit"]
    + [
        f"sparkstream_kit.{m}"
        for m in ("checkpoints", "errors", "feeds", "jobflags", "profiles")
    ]
    + ["sparkstream_kit.testing.plugin"],
)
def test_what_is_needed_before_spark_does_not_import_it(module):
    later = {"pyspark", "py4j", "pyarrow", "hypothesis", "typer", "rich"}
    assert (
        ran(f"import sys, {module}; print(sorted({later} & set(sys.modules)))").stdout
        == "[]\n"
    )


COMPLETED = """
import sys
import sparkstream_kit as kit
print({*dir(kit)} >= {"start", "run", "spark_session", "sinks", "windows"}, "importlib" in dir(kit))
print([name for name in sys.modules if name.startswith("sparkstream_kit.")])
print({*kit.sources.__all__} <= {*dir(kit.sources)}, "files" in dir(kit.sources))
"""
OPENED = """
import sys
from sparkstream_kit import sinks
names = {"sparkstream_kit.connectors", "sqlalchemy", "pyarrow", "pandas"}
print(sorted(names & {*sys.modules}))
sinks.sql_table
print(sorted(names & {*sys.modules}))
"""


def test_names_are_completed_and_opened_when_they_are_first_asked_for():
    assert ran(COMPLETED).stdout == "True False\n[]\nTrue False\n"
    assert ran(OPENED).stdout == "[]\n['sparkstream_kit.connectors']\n"


@pytest.mark.parametrize(
    ("package", "wrong", "meant"),
    [
        ("sparkstream_kit", "strat", "start"),
        ("sparkstream_kit.sinks", "consol", "console"),
        ("sparkstream_kit.state", "alert_wen", "alert_when"),
    ],
)
def test_a_misspelt_name_has_a_hint(package, wrong, meant):
    with pytest.raises(
        AttributeError,
        match=(
            rf"^module '{package}' has no attribute '{wrong}'; did you mean {meant}\?$"
        ),
    ):
        getattr(importlib.import_module(package), wrong)


def test_a_name_that_is_like_no_other_is_said_as_python_says_it():
    with pytest.raises(
        AttributeError, match="^module 'sparkstream_kit' has no attribute 'zzzzzz'$"
    ):
        _ = sparkstream_kit.zzzzzz
    with pytest.raises(
        ImportError, match="^cannot import name 'zzzzzz' from 'sparkstream_kit' "
    ):
        exec("from sparkstream_kit import zzzzzz")  # noqa: S102 - as a user writes it
    assert not hasattr(sparkstream_kit, "strat")
    # Not loaded yet, and like a name that there is
    ran("from sparkstream_kit.sinks import directories")


@cache
def referred():
    """Return the modules that have a page of the reference, which `make docs` writes."""
    return [
        f"sparkstream_kit.{room}".rstrip(".") for room in run_path(str(SITE))["ROOMS"]
    ]


def documented():
    """Return the public names of the pages of the reference, and what they are."""
    rooms = {room: importlib.import_module(room) for room in referred()}
    named = {
        f"{room}.{name}": getattr(of, name)
        for room, of in rooms.items()
        for name in of.__all__
    }
    return {
        name.removeprefix("sparkstream_kit."): found
        for name, found in named.items()
        if callable(found)
    }


def test_what_users_import_is_in_the_reference():
    """Names that are for the kit itself have no page there."""
    unlisted = {
        "cli",
        "connectors",
        "operate",
        "profiles",
        "queries",
        "server",
        "session",
        "runs",
    }
    assert {*PUBLIC} - {*referred()} <= {f"sparkstream_kit.{name}" for name in unlisted}
    assert {*referred()} <= {*PUBLIC}


def test_each_public_call_begins_with_what_it_is_for_and_has_an_example():
    calls = {
        name: inspect.getdoc(found) or ""
        for name, found in documented().items()
        if not isinstance(found, type)
    }
    assert not [
        name
        for name, text in calls.items()
        if re.match("Returns? |Say |Tell |Give what", text)
    ]
    assert {name for name, text in calls.items() if "Examples:\n" not in text} == set(
        WITHOUT_EXAMPLE
    )


@pytest.mark.slow
def test_the_examples_that_need_a_session_run(tmp_path):
    texts = {name: inspect.getdoc(found) or "" for name, found in documented().items()}
    names = [
        name
        for name, text in texts.items()
        if "In a session::" in text and name not in ELSEWHERE
    ]
    done = process(
        [sys.executable, ROOT / "tests" / "support" / "examples.py", *names],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]


def test_the_everyday_calls_and_the_modules_are_attributes_of_the_package():
    assert sparkstream_kit.__all__ == ["get_session", "run", "spark_session", "start"]
    assert sparkstream_kit.get_session is sparkstream_kit.session.get_session
    assert sparkstream_kit.quarantine is sys.modules["sparkstream_kit.quarantine"]


def test_a_connector_is_opened_when_it_is_first_asked_for():
    code = (
        "import sys; from sparkstream_kit import sinks; seen = set(sys.modules);"
        " sinks.sql_table; names = {'sparkstream_kit.connectors', 'sqlalchemy',"
        " 'pyarrow', 'pandas'}; print(sorted(names & seen), sorted(names &"
        " set(sys.modules)))"
    )
    env = {"PYTHONPATH": str(PACKAGE.parent)}
    done = process([sys.executable, "-c", code], env=env)
    assert (done.stdout, done.stderr) == ("[] ['sparkstream_kit.connectors']\n", "")
    with pytest.raises(AttributeError, match="has no attribute 'sql_tabel'"):
        getattr(sparkstream_kit.sinks, "sql_tabel")  # noqa: B009


def test_a_private_module_has_no_all():
    # Which runs when it is imported
    private = {*PATHS} - {*PUBLIC} - {"sparkstream_kit.__main__"}
    assert [name for name in private if exported(name) is not None] == [], (
        "nobody imports * from it"
    )


def defined(module):
    """Return the names that a module binds at its top level, other than by an import."""
    names = []
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [
                part.id
                for target in targets
                for part in ast.walk(target)
                if isinstance(part, ast.Name)
            ]
    return names


@cache
def taken():
    """Return the names that the kit's modules take from a module.

    The module is known by its name, and by the last part of its name.
    """
    found = defaultdict[Any, set[str]](set)
    for node in (node for tree in trees().values() for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom):
            found[node.module] |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found[node.value.id].add(node.attr)
        elif (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "importlib.import_module(systems)"
        ):
            found["connectors"].add(node.attr)
    return found


def test_all_is_sorted_and_complete():
    without, unsorted, left = [], [], []
    for name in PUBLIC:
        module = trees()[name]
        names = exported(name)
        if names is None:
            without.append(name)
            continue
        # ruff's order: constants, then classes, then functions.
        if names != sorted(
            names, key=lambda word: (not word.isupper(), not word[0].isupper(), word)
        ):
            unsorted.append(name)
        shared = taken()[name] | taken()[name.rpartition(".")[2]]
        left += [
            (name, word)
            for word in defined(module)
            if word[0] != "_" and word not in {*names, *shared}
        ]
    assert without == [], "a public module has an __all__"
    assert unsorted == []
    assert left == [], (
        "enter what is for users in __all__; begin what is of one module with an"
        " underscore"
    )


@cache
def site():
    """Return scripts/site.py."""
    spec = importlib.util.spec_from_file_location(
        "site_script", ROOT / "scripts" / "site.py"
    )
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_llms_txt_says_of_each_page_what_it_is_for(tmp_path, monkeypatch):
    monkeypatch.setattr(site(), "SOURCE", tmp_path)
    site().pages()
    menu = {
        title: [f"{name}.md" for name in names] for title, names in site().MENU.items()
    }
    listed = re.findall(
        r"^- \[(.+)\]\((\S+)\): (\S.*)$", site().llms(menu), re.MULTILINE
    )
    assert [page for _, page, _ in listed] == [
        page for pages in menu.values() for page in pages
    ]
    assert {*tmp_path.glob("*.md")} == {tmp_path / page for _, page, _ in listed}
    assert [
        page
        for title, page, said in listed
        if said[-1] not in ".:" or "](" in title + said
    ] == []
    # No page has its title alone.
    assert [page for title, page, said in listed if said == title] == []


def test_names_are_completed_without_an_import_of_what_they_are():
    shown = (
        "{*dir(k)} >= {'start', 'run', 'get_session', 'spark_session', 'sinks',"
        " 'sources', 'windows'}"
    )
    count = "[name for name in sys.modules if name.startswith('sparkstream_kit.')]"
    code = (
        f"import sys; import sparkstream_kit as k; print({shown}, {count}, 'importlib'"
        " in dir(k))"
    )
    done = process([sys.executable, "-c", code], check=True)
    assert done.stdout == "True [] False\n"
    code = (
        "from sparkstream_kit import sources as k; print({*k.__all__} <= {*dir(k)},"
        " 'files' in dir(k))"
    )
    done = process([sys.executable, "-c", code], check=True)
    assert done.stdout == "True False\n"


IMPORTS = re.compile(
    r"^\W*from (sparkstream_kit[\w.]*) import (\([\w\s,]+\)|\w[\w ,]*)", re.MULTILINE
)


MISSPELT = {"tests/project/test_package.py: from sparkstream_kit import zzzzzz"}


# Where texts (messages, scripts of tests) are searched for imports of the kit, and what
# is misspelt there.
ROOMS = ("sparkstream_kit", "jobs", "examples", "tests", "scripts", "benchmarks")


def test_what_a_text_imports_is_there():
    """Commands in messages, scripts that tests write: mypy finds no moved module in them."""
    missing = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        texts = [
            each.value
            for each in nodes
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        for module, names in (
            found for text in texts for found in IMPORTS.findall(text)
        ):
            there = importlib.import_module(module)
            for name in names.replace("(", "").replace(")", "").split(","):
                first = name.split()[0]
                if not hasattr(there, first) and f"{module}.{first}" not in PATHS:
                    missing.add(
                        f"{path.relative_to(ROOT)}: from {module} import {first}"
                    )
    assert missing == MISSPELT


def test_what_is_public_has_a_docstring():
    without = []
    for name in PUBLIC:
        public = exported(name) or []
        documented: list[tuple[str, Any]] = [("", trees()[name])]
        for node in trees()[name].body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public:
                documented.append((node.name, node))
                parts = node.body if isinstance(node, ast.ClassDef) else []
                functions = [
                    part for part in parts if isinstance(part, ast.FunctionDef)
                ]
                documented += [
                    (f"{node.name}.{each.name}", each)
                    for each in functions
                    if each.name[0] != "_"
                ]
        without += [
            (name, what) for what, node in documented if not ast.get_docstring(node)
        ]
    assert without == []
