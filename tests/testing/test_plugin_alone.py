"""The plugin's fixtures step by step, with sessions that a test plays."""

# ruff: noqa: SLF001 - the steps of the module are its own
import os
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sparkstream_kit
from sparkstream_kit import testing
from sparkstream_kit.testing import plugin


def function_of(fixture):
    """Return the function of a fixture, which pytest lets nobody call."""
    return fixture._get_wrapped_function()


class Session:
    """A session that keeps what it is told."""

    def __init__(self):
        self.told: list[Any] = []
        self.catalog = self

    def sql(self, statement):
        self.told.append(statement)

    def setCurrentDatabase(self, name):
        self.told.append(f"USE {name}")


@pytest.fixture
def on_server(monkeypatch):
    where = SimpleNamespace(there=False)
    monkeypatch.setattr(
        "sparkstream_kit._internal.spark.session.on_server", lambda _: where.there
    )
    return where


@pytest.mark.usefixtures("on_server")
def test_a_session_of_this_process_has_its_tables_to_itself():
    session: Any = Session()
    with plugin._own_tables(session):
        pass
    assert session.told == []


def test_on_a_server_tables_are_in_a_database_that_is_dropped(on_server):
    on_server.there = True
    names = set()
    for _ in range(2):
        session: Any = Session()
        with pytest.raises(LookupError), plugin._own_tables(session):
            assert len(session.told) == 2
            raise LookupError
        create, use, default, drop = session.told
        name = use.removeprefix("USE ")
        assert name.startswith("pytest_")
        assert create == f"CREATE DATABASE {name}"
        assert default == "USE default"
        assert drop == f"DROP DATABASE {name} CASCADE"
        names.add(name)
    assert len(names) == 2, "each run has one of its own"


@pytest.fixture
def opened(monkeypatch, on_server):
    """What the session was opened with, and its steps."""
    played = SimpleNamespace(calls=[], ended=False, session=Session())

    @contextmanager
    def spark_session(*given, **how):
        played.calls.append((given, how, time.tzname, os.environ["TZ"]))
        warehouse = how["conf"].get("spark.sql.warehouse.dir", "")
        played.folder = Path(warehouse.removeprefix("file://")).parent
        yield played.session
        played.ended = True

    monkeypatch.setattr(sparkstream_kit, "spark_session", spark_session)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield played
    monkeypatch.undo()
    time.tzset()


def test_the_session_of_a_run_is_local_and_in_utc(opened, monkeypatch):
    monkeypatch.delenv("SPARK_REMOTE", raising=False)
    fixture = function_of(plugin.spark)()
    assert next(fixture) is opened.session
    [(given, how, names, zone)] = opened.calls
    assert (given, how["profile"]) == (("pytest",), "test")
    assert how["conf"] == {
        "spark.master": "local[2]",
        "spark.sql.warehouse.dir": f"file://{opened.folder}/warehouse",
    }
    assert (names, zone) == (("UTC", "UTC"), "UTC")
    assert opened.folder.is_dir()
    assert next(fixture, None) is None
    assert opened.ended
    assert not opened.folder.exists()
    assert (os.environ["TZ"], time.tzname[0]) == ("Asia/Tokyo", "JST"), "as before"


def test_a_server_keeps_its_master_and_its_warehouse(opened, on_server, monkeypatch):
    monkeypatch.setenv("SPARK_REMOTE", "sc://localhost")
    on_server.there = True
    fixture = function_of(plugin.spark)()
    assert next(fixture) is opened.session
    assert opened.calls[0][1]["conf"] == {}
    assert len(opened.session.told) == 2
    assert next(fixture, None) is None
    assert len(opened.session.told) == 4


def test_a_stream_is_a_workspace_until_the_end_of_the_test(monkeypatch):
    steps: list[Any] = []

    @contextmanager
    def streams(session):
        steps.append(session)
        yield "a workspace"
        steps.append("its end")

    monkeypatch.setattr(testing, "streams", streams)
    fixture = function_of(plugin.stream)("session")
    assert next(fixture) == "a workspace"
    assert steps == ["session"]
    assert next(fixture, None) is None
    assert steps == ["session", "its end"]
