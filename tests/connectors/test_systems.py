"""What is known of each system of `connectors` is true, and where users and tests look."""

import inspect
import re
import tomllib

import pytest
from conftest import ROOT

from sparkstream_kit import connectors, sinks, sources
from sparkstream_kit.errors import KitError

SYSTEMS = connectors.systems()
CALLS = [(part, name) for part in ("source", "sink") for name in connectors.names(part)]
PAGE = (ROOT / "docs" / "promises.md").read_text("utf-8")
TESTS = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
URL = "postgresql://kit:hush@host/db"


@pytest.mark.parametrize(("part", "name"), CALLS)
def test_editors_and_type_checkers_see_it(part, name):
    module = (
        f"{name}.{part}"
        if (ROOT / "sparkstream_kit" / "connectors" / name).is_dir()
        else name
    )
    line = f"    from sparkstream_kit.connectors.{module} import {name} as {name}\n"
    place = ROOT / "sparkstream_kit" / f"{part}s" / "__init__.py"
    assert line in place.read_text("utf-8"), f"add to {place}:\n{line}"
    room = sources if part == "source" else sinks
    assert getattr(room, name).__module__ == room.__name__
    assert name in room.__all__


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_row_is_in_the_table_of_systems(name):
    system = SYSTEMS[name]
    calls = {f"`sources.{name}`": system.source, f"`sinks.{name}`": system.sink}
    cells = [
        f"{call}: {promise}" if promise else "none" for call, promise in calls.items()
    ]
    row = f"{' | '.join(cells)} | {f'`{system.extra}`' if system.extra else 'none'} |"
    rows = re.findall(r"^\| \[[^\]]+\]\(\S+\.md\) \| (.*)$", PAGE, re.MULTILINE)
    assert rows.count(row) == 1, (
        f"enter it in docs/promises.md: | [its name](its page) | {row}"
    )


def test_its_extra_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    assert {system.extra for system in SYSTEMS.values()} - {""} <= {*extras}


@pytest.mark.parametrize("name", connectors.names("sink"))
def test_a_test_calls_the_contract_for_it(name):
    called = rf"(?s)sink_contract\.manners\(\s*\"{name}\""
    assert [text for text in TESTS if re.search(called, text)], (
        "call it in the tests of the sink"
    )


@pytest.mark.parametrize(
    "name", [name for name, system in SYSTEMS.items() if system.ways]
)
def test_no_argument_is_repeated_with_its_password(name):
    call = getattr(sinks, name)
    needed = [
        each
        for each in inspect.signature(call).parameters.values()
        if each.default is each.empty
    ]
    with pytest.raises(KitError) as raised:
        call(*[URL] * len(needed), how=URL)
    assert "hush" not in str(raised.value)
