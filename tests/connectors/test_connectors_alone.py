"""`connectors` and its `_packages` without Spark: systems, keys, packages and jars."""

# ruff: noqa: SLF001 - the steps of the modules are their own
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark import cloudpickle

from sparkstream_kit import connectors
from sparkstream_kit.connectors import AVRO, Connector, System, _packages
from sparkstream_kit.errors import InvalidInputError, MissingExtraError

WAYS = ("append", "upsert", "replace")


# --- systems


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    connectors.need("sinks.x", "sql", "json", "csv")
    monkeypatch.setitem(sys.modules, "csv", None)
    with pytest.raises(MissingExtraError) as no:
        connectors.need("sinks.x", "sql", "json", "csv")
    assert str(no.value).startswith("sinks.x needs")
    assert "sparkstream-kit[sql]" in str(no.value)
    with pytest.raises(MissingExtraError):
        System(extra="sql", libraries=("csv",)).need("sinks.x")
    System(extra="sql", libraries=("json",)).need("sinks.x")


def test_systems_are_the_modules_here():
    folder = Path(str(connectors.__file__)).parent
    modules = {path.stem for path in folder.iterdir() if path.name[0] not in "_."}
    assert {*connectors.systems()} == modules
    assert [*connectors.systems()] == sorted(modules)


def test_systems_are_found_by_what_they_have(monkeypatch):
    found = {"a": System(sink="once"), "b": System(source="again"), "c": System()}
    monkeypatch.setattr(connectors, "systems", lambda: found)
    assert connectors.names("sink") == ["a"]
    assert connectors.names("source") == ["b"]


def test_a_function_is_found_in_its_module_or_folder(monkeypatch):
    def one():
        pass

    asked = []

    def module(name):
        asked.append(name)
        if name == "one" and "folder" in sys.argv:
            return SimpleNamespace(__path__=[])
        return SimpleNamespace(one=one)

    monkeypatch.setattr(connectors, "_module", module)
    monkeypatch.setattr(sys, "argv", [])
    assert connectors.call("sink", "one") is one
    assert one.__module__ == "sparkstream_kit.sinks"
    monkeypatch.setattr(sys, "argv", ["folder"])
    assert connectors.call("source", "one") is one
    assert one.__module__ == "sparkstream_kit.sources"
    assert asked == ["one", "one", "one.source"]


@pytest.fixture
def watched(monkeypatch):
    """Two systems that watch their queries, and one that does not."""
    found = {
        "a": System(watched_by="log"),
        "b": System(failures={"disk.*full": "make room", "full": "another"}),
        "c": System(watched_by="log", failures={"full": "of c"}),
    }
    monkeypatch.setattr(connectors, "systems", lambda: found)

    def module(name):
        return SimpleNamespace(
            question=f"question of {name}",
            progress_listener=lambda query: f"{name} of {query.name}",
        )

    monkeypatch.setattr(connectors, "_module", module)


def test_the_systems_of_a_query_are_asked(watched):
    assert connectors.questions(["a", "b", "x"]) == ["question of a.log"]
    assert connectors.questions([]) == []
    assert connectors.questions(["c", "a"]) == [
        "question of a.log",
        "question of c.log",
    ]


def test_the_systems_of_a_query_listen_to_its_progress(watched):
    inputs = [SimpleNamespace(kind=kind) for kind in ("c", "b", "c")]
    query: Any = SimpleNamespace(name="q", inputs=inputs)
    listeners: tuple[Any, ...] = connectors.progress_listeners(query)
    assert listeners == ("c.log of q",)


@pytest.mark.parametrize(
    ("kinds", "error", "words"),
    [
        (["b"], "the disk is full", "make room"),
        (["b", "c"], "it is full", "another"),
        (["c"], "it is full", "of c"),
        (["a"], "it is full", None),
        (["b"], "no", None),
        ([], "it is full", None),
    ],
)
def test_an_error_means_what_the_systems_of_a_query_say(watched, kinds, error, words):
    assert connectors.meaning(kinds, error) == words


# --- ways to write, and keys


@pytest.mark.parametrize(
    ("how", "keys", "mode"),
    [
        ("append", [], "append"),
        ("upsert", ["k"], "update"),
        ("replace", (), "complete"),
    ],
)
def test_a_way_to_write_needs_an_output_mode(how, keys, mode):
    assert connectors.mode_for("x", "'t'", how, keys, WAYS) == mode


@pytest.mark.parametrize(
    ("how", "keys"), [("upsert", []), ("append", ["k"]), ("replace", ["k"])]
)
def test_an_upsert_and_its_keys_belong_together(how, keys):
    assert refusal(connectors.mode_for, "x", "'t'", how, keys, WAYS) == (
        "x: how='upsert' and keys belong together: x('t', how='upsert', keys=['shop']);"
        f" given: how='{how}', keys={keys}"
    )


def test_a_sink_may_lack_a_way_to_write():
    said = refusal(connectors.mode_for, "x", "'t'", "replace", [], WAYS[:2])
    assert said == "unknown way to write (how=) replace; known: append, upsert"


def test_keys_that_tell_no_rows_apart_are_refused():
    given = ("table t", ["a", "b"], 7)
    connectors.check_row_keys(*given)
    assert refusal(connectors.check_row_keys, *given, null=True) == (
        "batch 7 for table t: key a, b is null; fill it with F.coalesce, or leave such"
        " rows out"
    )
    assert refusal(connectors.check_row_keys, *given, twice=True) == (
        "batch 7 for table t: key a, b is the same in two rows; use the columns that the"
        " query groups by"
    )


def test_another_driver_is_told():
    error = connectors.other_driver(7)
    assert type(error) is InvalidInputError
    assert str(error) == (
        "batch 7 was written by another driver of this query in the meantime; stop one"
        " of them"
    )


def test_the_code_of_modules_is_sent_for_a_while():
    modules = [ModuleType("sent"), ModuleType("sent_before")]
    sys.modules.update({module.__name__: module for module in modules})
    pickler: Any = cloudpickle
    listed = pickler.list_registry_pickle_by_value
    pickler.register_pickle_by_value(modules[1])
    try:
        with connectors.modules_by_value(modules):
            assert {"sent", "sent_before"} <= listed()
        assert "sent" not in listed()
        assert "sent_before" in listed()
        with pytest.raises(KeyError), connectors.modules_by_value(modules):
            raise KeyError
        assert "sent" not in listed()
    finally:
        pickler.unregister_pickle_by_value(modules[1])
        for module in modules:
            del sys.modules[module.__name__]


# --- packages


ONE = Connector(
    "org:one_{feature}:{spark}", jars=("one-", "more-"), settings={"s": "1"}
)
TWO = Connector(
    "org:two:{delta}", jars=("two-",), settings={"spark.sql.extensions": "E"}
)


@pytest.fixture(autouse=True)
def no_jars(monkeypatch):
    """Without a folder of jars, whatever the machine has; a test may name one."""
    monkeypatch.delenv(_packages.JARS, raising=False)


@pytest.fixture
def known(monkeypatch):
    """Two connectors, of which the second has a package for some of Spark's versions."""
    monkeypatch.setattr(_packages, "connectors", lambda: {"one": ONE, "two": TWO})
    versions = {"4.0": {}, "4.1": {"delta": "1"}, "4.10": {"delta": "2"}}
    monkeypatch.setattr(_packages, "versions", lambda: versions)


def test_connectors_are_those_of_the_systems_and_avro(monkeypatch):
    found = {"a": System(connector=ONE), "b": System()}
    monkeypatch.setattr(connectors, "systems", lambda: found)
    assert _packages.connectors() == {"avro": AVRO, "a": ONE}


@pytest.mark.parametrize(
    ("connector", "version", "package"),
    [
        (ONE, "4.1.2", "org:one_4.1:4.1.2"),
        (ONE, "5.0.0-SNAPSHOT", "org:one_5.0:5.0.0-SNAPSHOT"),
        (TWO, "4.1.2", "org:two:1"),
        (TWO, "4.10.0", "org:two:2"),
        (TWO, "4.0.1", None),
        (TWO, "5.0", None),
    ],
)
def test_a_connector_has_a_package_for_a_version(known, connector, version, package):
    assert _packages.coordinates(connector, version) == package


def test_a_version_without_a_package_is_refused_with_those_that_have_one(known):
    assert _packages._package("two", TWO, "4.1.0") == "org:two:1"
    assert refusal(_packages._package, "two", TWO, "4.0.0") == (
        "connector two has no package for Spark 4.0.0; use Spark 4.1 or 4.10, or name a"
        " folder with its jars: SPARKSTREAM_JARS=FOLDER"
    )


def test_settings_of_connectors_come_once_and_behind_those_of_the_user(known):
    assert _packages.needed(["one"], "4.1.0") == {
        "spark.jars.packages": "org:one_4.1:4.1.0",
        "s": "1",
    }
    given = {
        "spark.jars.packages": "a:b:1,,org:two:1",
        "spark.sql.extensions": "",
        "s": "1",
    }
    assert _packages.needed(["two", "one", "two"], "4.1.0", given) == {
        "spark.jars.packages": "a:b:1,org:two:1,org:one_4.1:4.1.0",
        "spark.sql.extensions": "E",
        "s": "1",
    }
    assert _packages.needed([], "4.1.0", given) == {}


def test_a_setting_that_contradicts_a_connector_is_refused(known):
    assert refusal(_packages.needed, ["one"], "4.1.0", {"s": "2"}) == (
        "connector one needs s=1, and not 2; leave that setting out"
    )
    mine = {"spark.sql.extensions": "M"}
    found = _packages.needed(["two"], "4.1.0", mine)
    assert found["spark.sql.extensions"] == "M,E"


def test_a_connector_that_there_is_not_is_refused(known):
    said = refusal(_packages.needed, ["one", "twoo"], "4.1.0")
    assert said == "unknown connector twoo; did you mean two?"


def test_jars_come_from_a_folder_that_is_named(known, monkeypatch, tmp_path):
    for name in ("one-4.1.9.jar", "one-4.1.10.jar", "more-1.jar", "two-1.jar"):
        (tmp_path / name).touch()
    monkeypatch.setenv(_packages.JARS, str(tmp_path))
    names = [f"{tmp_path}/{name}" for name in ("one-4.1.10.jar", "more-1.jar")]
    assert _packages.needed(["one"], "4.0.0", {"spark.jars": "mine.jar"}) == {
        "spark.jars": ",".join(["mine.jar", *names]),
        "s": "1",
    }
    assert _packages._in_folder("one", tmp_path) == names
    (tmp_path / "more-1.jar").unlink()
    assert refusal(_packages._in_folder, "one", tmp_path) == (
        f"connector one: SPARKSTREAM_JARS={tmp_path} has no more-*.jar; put it there, or"
        " unset SPARKSTREAM_JARS to have Spark fetch it"
    )


@pytest.mark.parametrize(
    ("older", "later"),
    [("a-9.jar", "a-10.jar"), ("a-1.1.jar", "a-1.2.jar"), ("a-1b.jar", "a-1c.jar")],
)
def test_versions_are_ordered_by_their_numbers(older, later):
    assert _packages._in_order(older) < _packages._in_order(later)


# --- a session without a connector


MISSING = (
    "Spark has no connector one; launch with spark-submit $(sparkstream connectors one)"
    " …, or give get_session(…, connectors=['one']) before Spark runs"
)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("parqet", "Spark has no data source parqet; did you mean parquet?"),
        ("TWO", MISSING.replace("one", "two")),
        (
            "org.example",
            (
                "Spark has no data source org.example; launch with spark-submit --packages"
                " ITS-PACKAGE, or give get_session(…, conf={'spark.jars.packages':"
                " 'ITS-PACKAGE'}) before Spark runs"
            ),
        ),
    ],
    ids=["near", "a connector", "another"],
)
def test_a_source_that_spark_lacks_is_told(known, name, line):
    error = ValueError(f"Failed to find the data source: {name}. Make sure")
    assert _packages.missing_source(error) == line
    assert _packages.missing_source(ValueError("no")) is None
    assert _packages.missing("one") == MISSING


class Session:
    """A session that has some data sources and settings."""

    def __init__(self, *sources, **settings):
        self._sources = sources
        self.conf = self
        self.read = self
        self._settings = settings

    def get(self, key, default):
        return self._settings.get(key, default)

    def format(self, name):
        self._name = name
        return self

    def load(self):
        if self._name not in self._sources:
            raise ValueError(f"Failed to find the data source: {self._name}. Make sure")
        return self

    @property
    def schema(self):
        raise ValueError("it has no path")


def test_a_session_has_connectors_or_lacks_them(known):
    whole: Any = Session("one", "two", s="0,1", **{"spark.sql.extensions": "M,E"})
    _packages.check_session(whole, ["one", "two"])
    _packages.check_session(whole, [])
    said = refusal(_packages.check_session, whole, ["one", "three"])
    assert said.startswith("unknown connector three")
    for lacking in (
        Session("two", s="1"),
        Session("one"),
        Session("one", s=None),
        Session("one", s="0"),
    ):
        given: Any = lacking
        assert refusal(_packages.check_session, given, ["one"]) == MISSING


def test_settings_are_there_alone_or_in_a_list():
    session: Any = Session(a="1", b="x,2")
    assert _packages._has_settings(session, {"a": "1", "b": "2"}) is True
    assert _packages._has_settings(session, {}) is True
    assert _packages._has_settings(session, {"a": "1", "c": "2"}) is False


def test_a_source_that_fails_for_another_reason_is_there():
    session: Any = Session("one")
    assert _packages._has_source(session, "one") is True
    assert _packages._has_source(session, "two") is False
    good: Any = SimpleNamespace(
        read=SimpleNamespace(
            format=lambda _: SimpleNamespace(load=lambda: SimpleNamespace(schema=1))
        )
    )
    assert _packages._has_source(good, "one") is True
