"""The arguments of `sinks.delta`, `sinks.iceberg` and `sinks.sql_table`, without Spark."""

# ruff: noqa: SLF001 - the steps of the modules are their own
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit._internal.spark.place import LocalPlace, Place
from sparkstream_kit.connectors.delta import sink as delta
from sparkstream_kit.connectors.delta import writers
from sparkstream_kit.connectors.iceberg import sink as iceberg
from sparkstream_kit.connectors.sql_table.sink import sql_table
from sparkstream_kit.errors import MissingExtraError
from sparkstream_kit.sinks.base import Target

SPARK: Any = SimpleNamespace(conf=SimpleNamespace(get=lambda *_: ""))
JARS = "get_session(…, connectors=['delta'])"
MODES = {"append": ("append",), "upsert": ("update",), "replace": ("complete",)}


def keys_for(how):
    return ["k"] if how == "upsert" else []


# --- delta


@pytest.mark.parametrize(
    ("path", "table", "target"),
    [
        ("out/t", None, Target("Delta table", "out/t", "out/t")),
        (Path("out/t"), None, Target("Delta table", "out/t", "out/t")),
        (None, "t", Target("Delta table", "t")),
        (None, "c.shop.t", Target("Delta table", "c.shop.t", within="c.shop")),
    ],
    ids=["a path", "a Path", "a table", "a table of a schema"],
)
def test_a_table_of_delta_has_a_path_or_a_name(path, table, target):
    assert delta._where(path, table, "auto") == target


@pytest.mark.parametrize(("path", "table"), [(None, None), ("out", "t")])
def test_a_table_of_delta_has_one_of_them(path, table):
    assert refusal(delta._where, path, table, "auto") == (
        "delta: give a path or a table of the catalog: delta('out/totals') or"
        " delta(table='shop.totals')"
    )


def test_delta_rs_knows_no_catalog():
    assert refusal(delta._where, None, "t", "delta-rs") == (
        "delta: delta-rs knows no catalog; give the table's path, or writer='spark'"
    )
    assert delta._where("out", None, "delta-rs").name == "out"
    assert delta._where(None, "t", "spark").name == "t"


@pytest.mark.parametrize("how", MODES)
def test_a_sink_of_delta_has_the_mode_of_its_way(how):
    sink = delta.delta("out/t", how=how, keys=keys_for(how))
    assert (sink.kind, sink.modes) == ("delta", MODES[how])
    assert sink.keys == tuple(keys_for(how))
    assert sink.writes_to == (Target("Delta table", "out/t", "out/t"),)


@pytest.fixture
def session(monkeypatch):
    """Return a function that says what the session is."""

    def be(*, is_extended=False, on_server=False):
        monkeypatch.setattr(writers, "is_extended", lambda _: is_extended)
        monkeypatch.setattr(delta, "on_server", lambda _: on_server)

    be()
    return be


WRITERS = {  # of the session, the writer, how, and whether Spark writes
    "no jars": ({}, "auto", "append", False),
    "no jars but delta-rs": ({}, "delta-rs", "append", False),
    "jars": ({"is_extended": True}, "auto", "upsert", True),
    "jars and spark": ({"is_extended": True}, "spark", "upsert", True),
    "jars but delta-rs": ({"is_extended": True}, "delta-rs", "append", False),
    "a server": ({"is_extended": True, "on_server": True}, "auto", "append", True),
    "an upsert there": (
        {"is_extended": True, "on_server": True},
        "auto",
        "upsert",
        False,
    ),
    "a server by spark": (
        {"is_extended": True, "on_server": True},
        "spark",
        "replace",
        True,
    ),
}


@pytest.mark.parametrize("what", WRITERS)
def test_the_session_says_which_writer_is_used(session, what):
    facts, writer, how, by_spark = WRITERS[what]
    session(**facts)
    assert delta._is_sparks(SPARK, writer, how) is by_spark


def test_sparks_writer_needs_jars_and_to_upsert_a_session_of_its_own(session):
    assert refusal(delta._is_sparks, SPARK, "spark", "append") == (
        f"delta: writer='spark' needs a session with Delta's extension: {JARS}; it must"
        " be the first session of the process"
    )
    session(is_extended=True, on_server=True)
    assert refusal(delta._is_sparks, SPARK, "spark", "upsert") == (
        "delta: on Spark Connect writer='spark' cannot upsert: its transactions would get"
        " into other writes of the session; give writer='delta-rs' and a local folder"
    )


@pytest.mark.parametrize("cuts", [True, False], ids=["cut", "kept"])
def test_times_that_the_session_cuts_are_refused(monkeypatch, cuts):
    monkeypatch.setattr(delta, "cuts_microseconds", lambda _: cuts)
    schema = T.StructType().add("k", "string")
    frame: Any = SimpleNamespace(sparkSession=SPARK, schema=schema)
    delta._refuse_cut_times(frame)
    schema.add("at", T.ArrayType(T.TimestampType())).add("then", "timestamp")
    if not cuts:
        delta._refuse_cut_times(frame)
        return
    assert refusal(delta._refuse_cut_times, frame) == (
        "delta: column at is timestamp, and the session's"
        " spark.sql.parquet.outputTimestampType=TIMESTAMP_MILLIS cuts its microseconds;"
        " set it to TIMESTAMP_MICROS, or give writer='delta-rs'"
    )


@pytest.fixture
def places(monkeypatch):
    """What is asked of the places of a session: paths on many disks, or elsewhere."""
    asked: list[Any] = []

    def locate(_spark, path):
        return Place(path) if "://" in path else LocalPlace(path, Path(path))

    monkeypatch.setattr(delta, "locate", locate)
    for name in ("refuse_many_disks", "refuse_elsewhere"):
        monkeypatch.setattr(
            delta, name, lambda _spark, *given, name=name: asked.append((name, *given))
        )
    return asked


def test_a_table_of_the_catalog_has_no_place_and_needs_sparks_writer(session, places):
    assert delta._place(SPARK, None, "t", by_spark=True) is None
    said = f"delta: table t is in the catalog, which needs {JARS}"
    assert refusal(delta._place, SPARK, None, "t", by_spark=False) == said
    session(is_extended=True)
    assert refusal(delta._place, SPARK, None, "t", by_spark=False) == (
        f"{said}, and to upsert a session without Spark Connect"
    )
    assert places == []


def test_a_folder_is_one_that_the_writer_can_write_to(places):
    assert str(delta._place(SPARK, "out", None, by_spark=False)) == "out"
    assert places == []
    assert str(delta._place(SPARK, "out", None, by_spark=True)) == "out"
    assert str(delta._place(SPARK, "s3://t", None, by_spark=True)) == "s3://t"
    assert places == [
        ("refuse_many_disks", "delta", "out"),
        ("refuse_many_disks", "delta", "s3://t"),
    ]
    places.clear()
    assert refusal(delta._place, SPARK, "s3://t", None, by_spark=False) == (
        f"delta s3://t: delta-rs writes to local folders alone; for this use {JARS}"
    )
    instead = f"writer='spark' on a server with {JARS}"
    assert places == [("refuse_elsewhere", "delta s3://t", instead)]


# --- iceberg


@pytest.mark.parametrize(
    ("catalog", "shown"),
    [
        ("/lake", "/lake"),
        ({"uri": "https://x", "name": "prod"}, "https://x"),
        ({"name": "prod"}, "catalog prod"),
        ({"uri": ""}, "catalog default"),
    ],
    ids=["a folder", "an address", "a name", "nothing"],
)
def test_a_catalog_is_shown_by_its_address_or_name(catalog, shown):
    assert iceberg._shown(catalog) == shown


def test_a_catalog_is_a_whole_path_or_properties(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert iceberg._checked("lake") == f"{tmp_path}/lake"
    assert iceberg._checked(tmp_path / "lake") == f"{tmp_path}/lake"
    given = {"name": "prod"}
    checked = iceberg._checked(given)
    assert checked == given
    assert checked is not given


@pytest.mark.parametrize("name", ["lake #1", "lake?"])
def test_a_folder_that_pyiceberg_takes_for_another_is_refused(name):
    assert refusal(iceberg._checked, name) == (
        f"iceberg: catalog {name} has a # or ? in its path; give another folder"
    )


@pytest.mark.parametrize("how", MODES)
def test_a_sink_of_iceberg_has_the_mode_of_its_way(tmp_path, how):
    lake = tmp_path / "lake"
    sink = iceberg.iceberg("a.b.t", catalog=lake, how=how, keys=keys_for(how))
    assert (sink.kind, sink.modes) == ("iceberg", MODES[how])
    assert sink.keys == tuple(keys_for(how))
    where = Target("Iceberg table", f"a.b.t in {lake}", within="a.b")
    assert sink.writes_to == (where,)
    assert not lake.exists()


def test_a_sink_of_iceberg_shows_no_password():
    catalog = {"uri": "postgresql+psycopg://kit:hush@host/db"}
    [where] = iceberg.iceberg("shop.t", catalog=catalog).writes_to
    assert where.name == "shop.t in postgresql+psycopg://kit:***@host/db"


@pytest.mark.parametrize("table", ["t", "shop.", ".t", "a..t", ""])
def test_a_table_of_iceberg_has_a_namespace(table):
    assert refusal(iceberg.iceberg, table) == (
        f"iceberg: table {table!r} names no namespace; give one: 'shop.totals'"
    )


@pytest.mark.parametrize("number", [0, -1])
def test_a_table_of_iceberg_keeps_a_snapshot(number):
    assert refusal(iceberg.iceberg, "shop.t", keep_snapshots=number) == (
        f"iceberg: keep_snapshots is {number}; give 1 or more"
    )
    assert iceberg.iceberg("shop.t", keep_snapshots=1).kind == "iceberg"


# --- sql


@pytest.mark.parametrize("how", MODES)
def test_a_sink_of_sql_has_the_mode_of_its_way(tmp_path, how):
    url = f"sqlite:///{tmp_path}/t.db"
    sink = sql_table(url, "t", how=how, keys=keys_for(how))
    assert (sink.kind, sink.modes) == ("sql_table", MODES[how])
    assert sink.keys == tuple(keys_for(how))
    path = f"{tmp_path}/t.db"
    where = Target("table", f"t in {url}", path, f"t in {path}")
    assert sink.writes_to == (where,)
    assert not (tmp_path / "t.db").exists()
    assert sink.form is not None
    assert sink.form.texts == "json"


def test_a_sink_of_sql_refuses_what_it_cannot_use(tmp_path):
    url = f"sqlite:///{tmp_path}/t.db"
    assert refusal(sql_table, url, "t", keys=["k"]).startswith(
        "sql_table: how='upsert' and keys belong together: sql_table(url, 'totals', how="
    )
    assert refusal(sql_table, f"{url}?timeot=5", "t") == (
        "unknown option of an SQLite URL timeot; did you mean timeout?"
    )
    number: Any = 5
    assert "sql_table(): table is 5; give a string" in refusal(sql_table, url, number)


# --- libraries and writers


@pytest.mark.parametrize(
    ("call", "library"),
    [
        (lambda: iceberg.iceberg("shop.t"), "pyiceberg"),
        (lambda: sql_table("sqlite:////tmp/t.db", "t"), "sqlalchemy"),
    ],
    ids=["iceberg", "sql"],
)
def test_a_library_that_is_missing_is_named_by_the_call(monkeypatch, call, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError):
        call()


def test_a_writer_that_there_is_not_is_refused():
    said = refusal(delta.delta, "out/t", writer="rust")
    assert said == "unknown writer rust; known: auto, delta-rs, spark"
