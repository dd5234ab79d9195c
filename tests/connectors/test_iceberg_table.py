"""`connectors.iceberg.table` without Spark: a table of a folder's catalog, step by step."""

# ruff: noqa: SLF001 - the steps of the module are its own
import datetime as dt
import fcntl
import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from conftest import refusal
from pyiceberg.exceptions import (
    CommitFailedException,
    NotInstalledError,
    RESTError,
    ServiceUnavailableError,
)
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    GreaterThanOrEqual,
    LessThanOrEqual,
    Reference,
)
from pyiceberg.expressions.literals import literal
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyspark.sql import types as T
from sqlalchemy.exc import IntegrityError, OperationalError
from support import iceberg
from support.sink_streams import table_target

from sparkstream_kit.connectors import _arrow as arrow
from sparkstream_kit.connectors._tables import ConflictError
from sparkstream_kit.connectors.iceberg import table as tables
from sparkstream_kit.connectors.iceberg.table import IcebergTable
from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks.ledger import Batch

SCHEMA = T.StructType(
    [T.StructField("k", T.StringType(), False), T.StructField("n", T.IntegerType())]
)
COLUMNS = T.StructType().add("k", "string").add("n", "integer")
APPEND = table_target()
UPSERT = replace(APPEND, how="upsert", keys=("k",))
REPLACE = replace(APPEND, how="replace")
SPARK: Any = SimpleNamespace(createDataFrame=lambda *given: given)
FAR = 400_000_000_000_000_000  # microseconds: the year 14645
A_DAY = 86_400_000_000


@pytest.fixture
def lake(tmp_path):
    """The folder of a catalog, which is not there yet."""
    return tmp_path / "lake"


def opened(lake, keep=20):
    return IcebergTable("shop.t", str(lake), keep)


@pytest.fixture
def table(lake):
    """A table that was made just now."""
    made = opened(lake)
    made.create(SCHEMA)
    made.schema()
    return made


def rows_of(*rows):
    """Return rows as they come from Spark."""
    keys, numbers = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"k": pa.array(keys, "string"), "n": pa.array(numbers, "int32")})


def commit(table, number, *rows, target=APPEND):
    """Write a batch, to the newest version."""
    table.schema()
    table.commit(rows_of(*rows), target, Batch("q", number, f"plan {number}"))
    table.schema()


def operations(lake):
    """Return what the snapshots of a table have done, in their order."""
    snapshots = sorted(
        iceberg.table(lake).snapshots(), key=lambda each: each.sequence_number
    )
    return [each.summary.operation.value for each in snapshots]


# --- columns


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        (pa.field("c", pa.string(), nullable=False), T.StringType()),
        (pa.field("c", pa.timestamp("us")), T.TimestampNTZType()),
        (pa.field("c", pa.timestamp("us", "UTC")), T.TimestampType()),
    ],
    ids=["a text", "a local time", "a time"],
)
def test_a_column_has_sparks_type(field, kind):
    assert tables._column(field) == T.StructField("c", kind, field.nullable)


def test_a_type_that_spark_lacks_has_its_own_name():
    column = tables._column(pa.field("c", pa.uuid(), nullable=False))
    assert column.dataType.simpleString() == "extension<arrow.uuid>"
    assert (column.name, column.nullable) == ("c", False)


# --- catalogs


def test_the_catalog_of_a_folder_is_made_by_one_process_at_a_time(lake, monkeypatch):
    def load(*given, **properties):
        with (
            (lake / "catalog.lock").open("a") as other,
            pytest.raises(BlockingIOError),
        ):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return given, properties

    monkeypatch.setattr(tables, "load_catalog", load)
    loaded: Any = tables._load_folder(lake / "catalog.db")
    assert loaded == (
        ("default",),
        {
            "type": "sql",
            "uri": f"sqlite:///{lake}/catalog.db?timeout=30",
            "warehouse": f"file://{lake}",
        },
    )
    assert tables._load_folder(lake / "catalog.db") == loaded  # the folder is there


@pytest.mark.parametrize(
    ("given", "loaded"),
    [
        ({"uri": "x"}, {"name": "default", "uri": "x"}),
        ({"name": "prod"}, {"name": "prod"}),
    ],
    ids=["properties", "a name"],
)
def test_a_catalog_is_loaded_once_by_its_properties(monkeypatch, given, loaded):
    found = []

    def load(**properties):
        found.append(properties)
        return properties

    monkeypatch.setattr(tables, "load_catalog", load)
    table = IcebergTable("shop.t", given, 20)
    assert table._catalog is table._catalog
    assert found == [loaded]


def test_a_look_makes_no_catalog(lake):
    table = opened(lake)
    assert table.schema() is None
    assert table.last_batch("q") is None
    assert not lake.exists()


def test_a_table_or_a_namespace_that_is_missing_is_none(lake):
    iceberg.make(lake, pa.schema({"k": pa.string()}))
    assert IcebergTable("shop.other", str(lake), 20).schema() is None
    assert IcebergTable("other.t", str(lake), 20).schema() is None
    assert opened(lake).schema() == T.StructType().add("k", "string")


def test_a_table_that_is_gone_is_none_again(table, lake):
    assert table.schema() == COLUMNS
    iceberg.catalog(lake).drop_table("shop.t")
    assert table.schema() is None
    with pytest.raises(KitError) as no:
        table.properties()
    assert type(no.value) is KitError
    assert str(no.value) == (
        "the Iceberg table shop.t was removed while a query writes to it"
    )


# --- errors of pyiceberg


AWAY = "; repair it, or the catalog's properties, and start again"
ERRORS: dict[str, tuple[Exception, type[KitError], str]] = {
    "a conflict": (
        CommitFailedException("theirs"),
        ConflictError,
        "another writer was quicker, or a file has gone (theirs)",
    ),
    "a file that is gone": (
        FileNotFoundError("old.json"),
        ConflictError,
        "another writer was quicker, or a file has gone (old.json)",
    ),
    "a year": (
        OverflowError("date"),
        tables._FarError,
        (
            "a column by which the table is partitioned has a date or time outside the years"
            " 1 to 9999, of which pyiceberg makes no partition; leave such rows out"
        ),
    ),
    "no library": (
        ImportError("no thrift\nmore"),
        InvalidInputError,
        f"the catalog or its storage failed (ImportError: no thrift){AWAY}",
    ),
    "no extra": (
        NotInstalledError("no hive"),
        InvalidInputError,
        f"the catalog or its storage failed (NotInstalledError: no hive){AWAY}",
    ),
    "no right": (
        PermissionError("no"),
        InvalidInputError,
        f"the catalog or its storage failed (PermissionError: no){AWAY}",
    ),
    "of the server": (
        RESTError("no"),
        InvalidInputError,
        f"the catalog or its storage failed (RESTError: no){AWAY}",
    ),
    "for now": (
        ServiceUnavailableError("busy"),
        TransientError,
        f"the catalog or its storage failed (ServiceUnavailableError: busy){AWAY}",
    ),
    "locked": (
        OperationalError("x", {}, Exception("database is locked")),
        TransientError,
        (
            "the catalog or its storage failed (OperationalError: (builtins.Exception)"
            f" database is locked){AWAY}"
        ),
    ),
    "a value": (
        ValueError("URI missing"),
        InvalidInputError,
        f"the catalog or its storage failed (ValueError: URI missing){AWAY}",
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_an_error_of_pyiceberg_is_one_line(what):
    raised, kind, line = ERRORS[what]
    table = IcebergTable("shop.t", {}, 20)
    with pytest.raises(KitError) as no, table._in_one_line():
        raise raised
    assert type(no.value) is kind
    assert str(no.value) == f"Iceberg table shop.t: {line}"
    assert no.value.__cause__ is raised


def test_an_error_of_the_kit_is_raised_as_it_is():
    raised = InvalidInputError("ours")
    with (
        pytest.raises(InvalidInputError) as no,
        IcebergTable("shop.t", {}, 20)._in_one_line(),
    ):
        raise raised
    assert no.value is raised


def test_what_pyiceberg_refuses_of_a_table_is_no_error_of_the_catalog(table):
    with pytest.raises(KitError) as no, table._in_one_line():
        raise ValueError("no such type\nmore")
    assert type(no.value) is KitError
    assert str(no.value) == (
        "Iceberg table shop.t: pyiceberg refuses this (ValueError: no such type)"
    )
    with (
        pytest.raises(InvalidInputError, match="its storage failed"),
        table._in_one_line(),
    ):
        raise OSError("no")


def test_a_catalog_that_has_failed_is_closed():
    closed = []
    table: Any = IcebergTable("shop.t", {}, 20)
    table._loaded = SimpleNamespace(close=lambda: closed.append(1))
    with pytest.raises(InvalidInputError), table._in_one_line():
        raise OSError("no")
    assert closed == [1]
    with pytest.raises(ConflictError), table._in_one_line():
        raise CommitFailedException("theirs")
    assert closed == [1]


# --- what a table tells


def test_a_table_is_made_with_its_namespace(lake):
    table = IcebergTable("shop.sales.t", str(lake), 20)
    table.create(SCHEMA)
    assert table.schema() == COLUMNS
    assert table.properties() == {
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "20",
    }
    assert ("shop", "sales") in iceberg.catalog(lake).list_namespaces("shop")


def test_a_table_that_another_query_has_made_is_left(table, lake):
    before = table.identity()
    opened(lake).create(T.StructType().add("other", "long"))
    assert table.schema() == COLUMNS
    assert table.identity() == before == str(iceberg.table(lake).metadata.table_uuid)


def test_a_namespace_that_another_query_makes_just_then_is_taken(lake, monkeypatch):
    table: Any = opened(lake)
    create = table._catalog.create_namespace

    def create_late(name):
        create(name)
        raise IntegrityError("INSERT", {}, Exception("it is there"))

    monkeypatch.setattr(table._catalog, "create_namespace_if_not_exists", create_late)
    table.create(SCHEMA)
    assert table.schema() == COLUMNS


def test_a_folder_that_cannot_be_made_is_refused(lake):
    lake.write_text("a file")
    assert refusal(opened(lake).create, SCHEMA).startswith(
        "Iceberg table shop.t: the catalog or its storage failed (FileExistsError: "
    )


@pytest.mark.parametrize(
    ("version", "fix"),
    [
        (
            1,
            (
                "upgrade it: ALTER TABLE … SET TBLPROPERTIES ('format-version' = '2'), or"
                " with pyiceberg"
            ),
        ),
        (3, "write to another table"),
    ],
)
def test_another_format_version_is_refused(monkeypatch, version, fix):
    table: Any = IcebergTable("shop.t", {}, 20)
    # pyiceberg cannot write a table of version 3
    known = SimpleNamespace(format_version=version)
    monkeypatch.setattr(table, "_now", lambda: known)
    assert refusal(table.schema) == (
        f"Iceberg table shop.t has format version {version}, and pyiceberg can note"
        f" batches in version 2 alone; {fix}"
    )


@pytest.mark.parametrize(
    ("kind", "shown"), [(pa.float32(), "float"), (pa.float64(), "double")], ids=str
)
def test_partitions_of_numbers_with_a_point_are_refused(lake, kind, shown):
    columns = pa.schema({"day": pa.date32(), "x": kind})
    with iceberg.make(lake, columns).update_spec() as spec:
        spec.add_identity("day")
        spec.add_identity("x")
    assert refusal(opened(lake).schema) == (
        f"Iceberg table shop.t is partitioned by x, a {shown}, of which pyiceberg makes"
        " no partitions; write to another table, or take it out of the partitions"
    )


def test_other_partitions_are_taken(lake):
    columns = pa.schema({"day": pa.date32(), "x": pa.float64()})
    with iceberg.make(lake, columns).update_spec() as spec:
        spec.add_identity("day")
    found = opened(lake).schema()
    assert found == T.StructType().add("day", "date").add("x", "double")


def test_columns_are_added_that_may_be_null(table, lake):
    table.add_columns([T.StructField("more", T.TimestampType(), False)])
    more = T.StructField("more", T.TimestampType())
    assert table.schema() == T.StructType([*COLUMNS.fields, more])


def test_a_note_is_a_snapshot_and_a_property(table, lake):
    table.note({"sparkstream.queries": "q"})
    table.schema()
    assert table.properties()["sparkstream.queries"] == "q"
    [snapshot] = iceberg.table(lake).snapshots()
    assert snapshot.summary.additional_properties["sparkstream.queries"] == "q"
    assert not table.has_rows()


def test_of_two_commits_at_once_one_is_not_made(table, lake):
    other = opened(lake)
    other.schema()
    other.note({"sparkstream.epoch.q": "2 other"})
    with pytest.raises(
        ConflictError, match="^Iceberg table shop.t: another writer was"
    ):
        table.note({"sparkstream.epoch.q": "1 mine"})
    with pytest.raises(ConflictError):
        table.commit(rows_of(("a", 1)), APPEND, Batch("q", 0))
    assert opened(lake).schema() is not None
    assert iceberg.rows(lake) == []


def test_a_table_has_rows_or_has_none(table):
    assert table.has_rows() is False
    commit(table, 0)
    assert table.has_rows() is False
    commit(table, 1, ("a", 1))
    assert table.has_rows() is True


def test_rows_are_read_back(table):
    commit(table, 0, ("a", 1))
    rows, schema = table.rows(SPARK)
    assert rows.to_pylist() == [{"k": "a", "n": 1}]
    assert schema == COLUMNS


def test_the_history_is_of_the_last_batch_of_each_query(table):
    commit(table, 0, ("a", 1))
    commit(table, 1, ("a", 1))
    table.commit(rows_of(), APPEND, Batch("r", 5))
    table.schema()
    assert [json.loads(each) for each in table.history()] == [
        {"query": "q", "batch": 1, "plan": "plan 1"},
        {"query": "r", "batch": 5, "plan": None},
    ]


# --- the last batch


def snapshot(number, parent=None, **summary):
    """Return a snapshot whose sequence number is its id."""
    known: dict[str, Any] = {
        "snapshot_id": number,
        "parent_snapshot_id": parent,
        "sequence_number": number,
        "timestamp_ms": number,
        "manifest_list": "m",
    }
    return Snapshot(**known, summary=Summary(Operation.APPEND, **summary))


def knowing(*snapshots, refs=None, keep=20, **properties):
    """Return a table with these snapshots, of which the last one is the current."""
    by_id = {each.snapshot_id: each for each in snapshots}
    table: Any = IcebergTable("shop.t", {}, keep)
    table._known = SimpleNamespace(
        current_snapshot=lambda: snapshots[-1] if snapshots else None,
        snapshot_by_id=by_id.get,
        snapshots=lambda: list(snapshots),
        refs=lambda: refs or {},
        properties=properties,
        metadata=SimpleNamespace(properties=properties),
        last_sequence_number=len(snapshots),
    )
    return table


OF_Q = {"sparkstream.batch.q": "3"}
NOTED = {"sparkstream.batch.q": "7", "sparkstream.after.q": "5"}


def test_the_last_batch_is_that_of_the_newest_snapshot_that_has_one():
    assert knowing(snapshot(1, **OF_Q)).last_batch("q") == 3
    with_other = knowing(
        snapshot(1, **{"sparkstream.batch.q": "2"}),
        snapshot(2, 1, **OF_Q),
        snapshot(3, 2, **{"sparkstream.batch.r": "9"}),
        snapshot(4, 3),
    )
    assert with_other.last_batch("q") == 3
    assert with_other.last_batch("r") == 9
    assert with_other.last_batch("s") is None


def test_a_snapshot_beside_the_current_one_does_not_count():
    table = knowing(snapshot(1), snapshot(2, 1, **OF_Q), snapshot(3, 1))
    assert table.last_batch("q") is None


def test_a_snapshot_may_have_no_summary():
    bare = snapshot(2, 1).model_copy(update={"summary": None})
    assert knowing(snapshot(1, **OF_Q), bare).last_batch("q") == 3


def test_a_batch_whose_snapshot_has_expired_is_noted_in_the_properties():
    assert knowing(snapshot(6), snapshot(7, 6), **NOTED).last_batch("q") == 7
    assert knowing(snapshot(6, 4), **NOTED).last_batch("q") == 7
    assert knowing(snapshot(6, 4), **NOTED).last_batch("r") is None


@pytest.mark.parametrize("oldest", [1, 5])
def test_a_table_that_was_rolled_back_does_not_have_its_batch(oldest):
    assert knowing(snapshot(oldest), snapshot(8, oldest), **NOTED).last_batch("q") is (
        None
    )


def test_a_table_without_snapshots_has_no_batch():
    assert knowing(**NOTED).last_batch("q") is None


def test_a_snapshot_without_a_sequence_number_is_an_old_one():
    old = snapshot(6).model_copy(update={"sequence_number": None})
    assert knowing(old, **NOTED).last_batch("q") is None
    first = {"sparkstream.batch.q": "7", "sparkstream.after.q": "0"}
    assert knowing(old, **first).last_batch("q") is None


# --- a batch


@pytest.fixture
def frame(monkeypatch):
    """Return a function that makes the batch of some rows; Spark would compute them."""

    def make(rows):
        @contextmanager
        def gathered(_frame, schema):
            yield rows.cast(schema)

        monkeypatch.setattr(arrow, "gathered", gathered)
        return SimpleNamespace(columns=rows.column_names)

    return make


def gathered(table, frame, target=APPEND):
    with table.gathered(frame, target, Batch("q", 7)) as rows:
        return rows.to_pylist()


def test_the_rows_of_a_batch_are_gathered(table, frame):
    rows = [("a", 1), ("a", 2), (None, 3)]
    expected = [{"k": key, "n": number} for key, number in rows]
    assert gathered(table, frame(rows_of(*rows))) == expected
    assert gathered(table, frame(rows_of(*rows)), REPLACE) == expected
    assert gathered(table, frame(rows_of()), UPSERT) == []


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([("a", 1), ("a", 2)], "the same in two rows; use the columns that the query"),
        ([(None, 1)], "null; fill it with F.coalesce, or leave such rows out"),
    ],
    ids=["twice", "null"],
)
def test_keys_that_tell_no_rows_apart_are_refused(table, frame, rows, wrong):
    said = refusal(gathered, table, frame(rows_of(*rows)), UPSERT)
    assert said.startswith(f"batch 7 for table t: key k is {wrong}")


def test_a_null_in_a_column_that_must_have_a_value_is_refused(lake, frame):
    columns = [pa.field("k", pa.string(), nullable=False), pa.field("n", pa.int32())]
    iceberg.make(lake, pa.schema(columns))
    table = opened(lake)
    table.schema()
    # of which Arrow itself makes no table
    rows = rows_of(("a", None), (None, 1))

    class Uncast:
        column_names = rows.column_names

        def cast(self, schema):
            return pa.Table.from_arrays(rows.columns, schema=schema)

    assert refusal(gathered, table, frame(Uncast())) == (
        "batch 7 for table t: column k is null, of which the table requires a value;"
        " fill it with F.coalesce, or leave such rows out"
    )
    assert gathered(table, frame(rows_of(("a", None)))) == [{"k": "a", "n": None}]


WAYS = {
    "append": (APPEND, [("a", 1), ("b", 2)], [("a", 5)], "a1 a5 b2", ["append"]),
    "append nothing": (APPEND, [("a", 1)], [], "a1", ["append"]),
    "upsert of new keys": (
        UPSERT,
        [("a", 1), ("b", 2)],
        [("c", 5)],
        "a1 b2 c5",
        ["append"],
    ),
    "upsert between keys": (
        UPSERT,
        [("a", 1), ("c", 2)],
        [("b", 5)],
        "a1 b5 c2",
        ["append"],
    ),
    "upsert": (
        UPSERT,
        [("a", 1), ("b", 2), ("c", 3)],
        [("a", 5), ("c", 6)],
        "a5 b2 c6",
        ["delete", "append"],
    ),
    "upsert of some": (
        UPSERT,
        [("a", 1), ("b", 2), ("c", 3)],
        [("c", 6), ("d", 7)],
        "a1 b2 c6 d7",
        ["overwrite", "append"],
    ),
    "upsert nothing": (UPSERT, [("a", 1)], [], "a1", ["append"]),
    "replace": (REPLACE, [("a", 1), ("b", 2)], [("a", 5)], "a5", ["delete", "append"]),
    "replace by nothing": (REPLACE, [("a", 1)], [], "", ["delete", "append"]),
}


@pytest.mark.parametrize("what", WAYS)
def test_a_batch_changes_the_table(table, lake, what):
    target, first, second, expected, done = WAYS[what]
    commit(table, 0, *first, target=target)
    commit(table, 1, *second, target=target)
    assert [f"{key}{number}" for key, number in iceberg.rows(lake)] == expected.split()
    assert operations(lake) == ["append", *done]
    assert table.last_batch("q") == 1


def test_a_batch_is_noted_with_its_plan(table, lake):
    commit(table, 0, ("a", 1))
    commit(table, 1, ("a", 1))
    marks = {"sparkstream.batch.q": "1", "sparkstream.after.q": "1"}
    newest = iceberg.table(lake).current_snapshot().summary.additional_properties
    assert {name: newest[name] for name in marks} == marks
    assert "sparkstream.plan.q" not in newest
    properties = iceberg.table(lake).properties
    assert {name: properties[name] for name in marks} == marks
    assert json.loads(properties["sparkstream.plan.q"])["plan"] == "plan 1"
    assert table.marks("r", 5) == {
        "sparkstream.batch.r": "5",
        "sparkstream.after.r": "2",
    }


def test_old_snapshots_expire(lake):
    table = opened(lake, keep=2)
    table.create(SCHEMA)
    for number in range(5):
        commit(table, number, ("a", number))
    # those that were kept, and the batch's own
    assert iceberg.batches(lake) == [2, 3, 4]
    assert len(iceberg.rows(lake)) == 5


def test_the_newest_snapshots_and_heads_stay():
    # Not in their order, as in metadata
    made = [snapshot(number) for number in (3, 1, 5, 2, 4)]
    heads = {
        "main": SimpleNamespace(snapshot_id=5),
        "mine": SimpleNamespace(snapshot_id=2),
    }
    assert knowing(*made, keep=2)._old() == [1, 2, 3]
    assert knowing(*made, refs=heads, keep=2)._old() == [1, 3]
    assert knowing(*made, refs=heads, keep=4)._old() == [1]
    assert knowing(*made, refs=heads, keep=5)._old() == []
    assert knowing(*made, refs=heads, keep=1)._old() == [1, 3, 4]


@pytest.mark.parametrize(
    ("before", "now", "merges"),
    [
        (None, 19, "False"),
        (None, 20, "True"),
        (19, 20, "True"),
        (20, 21, "False"),
        (20, 39, "False"),
        (20, 40, "True"),
        (39, 61, "True"),
    ],
)
def test_every_twentieth_commit_merges_manifests(before, now, merges):
    table = knowing()
    table._known.last_sequence_number = now
    properties = table._known.properties
    if before is not None:
        properties["sparkstream.after.q"] = str(before)
    table._set_for_one_commit("q", statistics=True)
    assert properties.pop("commit.manifest-merge.enabled") == merges
    properties.pop("sparkstream.after.q", None)
    assert properties == {
        "commit.manifest.target-size-bytes": "131072",
        "commit.manifest.min-count-to-merge": "2",
    }


METRICS = {
    "write.metadata.metrics.default": "full",
    "write.metadata.metrics.column.k": "full",
    "write.metadata.other": "x",
    "commit.manifest.min-count-to-merge": "9",
}


def test_the_settings_of_the_table_stay():
    table = knowing(**METRICS)
    table._set_for_one_commit("q", statistics=True)
    found = table._known.properties
    assert {name: found[name] for name in METRICS} == METRICS


def test_a_commit_can_have_no_statistics():
    table = knowing(**METRICS)
    table._set_for_one_commit("q", statistics=False)
    found = table._known.properties
    assert {name for name in found if "metrics" in name} == {
        "write.metadata.metrics.default"
    }
    assert found["write.metadata.metrics.default"] == "counts"
    assert found["write.metadata.other"] == "x"


def test_settings_of_a_commit_are_not_written(table, lake):
    commit(table, 0, ("a", 1))
    found = [*iceberg.table(lake).properties]
    assert not [name for name in found if name.startswith("commit.")]


def test_columns_come_in_the_order_that_is_asked(table):
    columns = table._columns("n", "k")
    assert columns.names == ["n", "k"]
    assert not columns.field("n").metadata
    assert table._columns().names == ["k", "n"]


def times(**columns):
    return pa.table(
        {name: pa.array(values, pa.timestamp("us")) for name, values in columns.items()}
    )


def test_years_beyond_9999_are_written_without_statistics(lake):
    table = opened(lake)
    table.create(T.StructType().add("k", "string").add("at", T.TimestampNTZType()))
    table.schema()
    rows = times(at=[FAR]).append_column("k", pa.array(["a"])).select(["k", "at"])
    table.commit(rows, UPSERT, Batch("q", 0))
    table.schema()
    # A row beside it, which is written again with one of the batch
    more = times(at=[0]).append_column("k", pa.array(["b"])).select(["k", "at"])
    table.commit(more, UPSERT, Batch("q", 1))
    table.schema()
    both = times(at=[1, 2]).append_column("k", pa.array(["", "b"])).select(["k", "at"])
    table.commit(both, UPSERT, Batch("q", 2))
    found = iceberg.table(lake).scan().to_arrow()
    numbers = found["at"].cast(pa.int64()).to_pylist()
    assert sorted(zip(found["k"].to_pylist(), numbers, strict=True)) == [
        ("", 1),
        ("a", FAR),
        ("b", 2),
    ]


@pytest.mark.parametrize("is_far", [True, False], ids=["of the batch", "beside it"])
def test_a_commit_that_fails_at_a_far_year_is_made_once_more(monkeypatch, is_far):
    table = IcebergTable("shop.t", {}, 20)
    tried = []

    def commit(*_given, statistics):
        tried.append(statistics)
        if len(tried) == 1:
            raise tables._FarError("far")

    monkeypatch.setattr(table, "_commit", commit)
    rows = times(at=[FAR if is_far else 0], b=[0])
    if is_far:
        with pytest.raises(tables._FarError):
            table.commit(rows, APPEND, Batch("q", 0))
        assert tried == [False]
    else:
        table.commit(rows, APPEND, Batch("q", 0))
        assert tried == [True, False]


# --- the way back


def test_the_way_back_is_a_command(lake):
    said = IcebergTable("shop.t", {"uri": "x"}, 20).set_back_command("q", 3)
    assert said == (
        "run python -c 'from sparkstream_kit.connectors.iceberg.table import set_back;"
        """ set_back('"'"'shop.t'"'"', '"'"'q'"'"', 3, {'"'"'uri'"'"': '"'"'x'"'"'})'"""
    )


def test_a_query_is_set_back(table, lake):
    for number in range(3):
        commit(table, number, ("a", number))
    tables.set_back("shop.t", "q", 0, str(lake))
    table.schema()
    assert table.last_batch("q") == 0
    assert len(iceberg.rows(lake)) == 3


def test_a_table_that_there_is_not_is_not_set_back(lake):
    assert refusal(tables.set_back, "shop.t", "q", 0, str(lake)) == (
        "there is no Iceberg table shop.t; give the name of one"
    )


# --- rows that are deleted


def within(name, least, greatest):
    term = Reference(name)
    return And(
        GreaterThanOrEqual(term=term, value=literal(least)),
        LessThanOrEqual(term=term, value=literal(greatest)),
    )


RANGES = {
    "texts": (pa.array(["b", "a", None]), within("k", "a", "b")),
    "numbers": (pa.array([3, 1]), within("k", 1, 3)),
    "dates": (pa.array([5, 3_000_000], pa.date32()), within("k", 5, 3_000_000)),
    "times": (
        pa.array([FAR, 0], pa.timestamp("us", "UTC")),
        within("k", 0, FAR),
    ),
    "numbers with a point": (pa.array([1.5]), AlwaysTrue()),
    "booleans": (pa.array([True]), AlwaysTrue()),
}


@pytest.mark.parametrize("what", RANGES)
def test_keys_are_between_the_least_and_the_greatest(what):
    column, expected = RANGES[what]
    assert tables._range(pa.table({"k": column}), ("k",)) == expected


def test_all_keys_are_in_their_ranges():
    rows = pa.table({"a": [1, 2], "x": [0.5, 0.5], "b": ["u", "v"], "c": [9, 9]})
    assert tables._range(rows, ("a", "x", "b")) == And(
        within("a", 1, 2), within("b", "u", "v")
    )
    assert tables._range(rows, ()) == AlwaysTrue()


def test_other_rows_are_those_with_other_keys():
    existing = pa.table(
        {
            "v": [[1], [2], [3], [4]],
            "a": pa.array([0.0, 0.0, 1.0, 2.0], pa.float32()),
            "b": ["x", "y", "x", "x"],
        }
    )
    rows = pa.table({"a": [-0.0, 2.0], "b": ["x", "x"], "v": [[7], [8]]})
    others = tables._others(existing, rows, ["a", "b"])
    assert others.schema == existing.schema
    assert sorted(others["v"].to_pylist()) == [[2], [3]]


# --- nulls that would be lost


STRUCT = pa.struct({"a": pa.int32()})
LOST = {
    "a null array of structs": ([None], pa.list_(STRUCT), True),
    "a large one": ([None], pa.large_list(STRUCT), True),
    "a null map of structs": ([None], pa.map_(pa.string(), STRUCT), True),
    "no null": ([[{"a": 1}]], pa.list_(STRUCT), False),
    "no null in a map": ([[("k", {"a": 1})]], pa.map_(pa.string(), STRUCT), False),
    "an empty array": ([[]], pa.list_(STRUCT), False),
    "a null struct in an array": ([[None]], pa.list_(STRUCT), False),
    "a null array of numbers": ([None], pa.list_(pa.int32()), False),
    "a null map of numbers": ([None], pa.map_(pa.string(), pa.int32()), False),
    "a null number": ([None], pa.int32(), False),
    "a null struct": ([None], pa.struct({"x": pa.list_(STRUCT)}), False),
    "a null array in a struct": (
        [{"y": 1, "x": None}],
        pa.struct({"y": pa.int32(), "x": pa.list_(STRUCT)}),
        True,
    ),
    "a null array in an array": (
        [[{"x": None}]],
        pa.list_(pa.struct({"x": pa.list_(STRUCT)})),
        True,
    ),
    "a null array in a map": (
        [[("k", {"x": None})]],
        pa.map_(pa.string(), pa.struct({"x": pa.list_(STRUCT)})),
        True,
    ),
    "a null array of arrays": ([None], pa.list_(pa.list_(STRUCT)), False),
}


@pytest.mark.parametrize("what", LOST)
def test_a_null_that_pyiceberg_would_write_as_an_empty_one(what):
    values, kind, loses = LOST[what]
    assert tables._loses_null(pa.array(values, kind)) is loses


def test_such_a_null_is_refused():
    ours = pa.table({"k": ["a"], "v": pa.array([[]], pa.list_(STRUCT))})
    tables._check_nulls(ours, APPEND, Batch("q", 7))
    theirs = pa.table({"k": ["a"], "v": pa.array([None], pa.list_(STRUCT))})
    both = pa.concat_tables([ours, theirs])
    assert refusal(tables._check_nulls, both, APPEND, Batch("q", 7)) == (
        "batch 7 for table t: column v has a NULL array or map of structs, which"
        " pyiceberg writes as an empty one; fill it with F.coalesce, or write"
        " F.to_json('v')"
    )


def test_and_so_it_is_before_the_commit(lake):
    iceberg.make(lake, pa.schema({"v": pa.list_(STRUCT)}))
    table = opened(lake)
    table.schema()
    rows = pa.table({"v": pa.array([None], pa.list_(STRUCT))})
    refusal(table.commit, rows, APPEND, Batch("q", 0))
    assert iceberg.rows(lake) == []


def test_a_year_of_which_there_is_no_partition_is_told(lake):
    kind = pa.timestamp("us", "UTC")
    with iceberg.make(lake, pa.schema({"at": kind})).update_spec() as spec:
        spec.add_field("at", "day")
    table = opened(lake)
    table.schema()
    far = pa.table({"at": pa.array([FAR], kind)})
    with pytest.raises(tables._FarError, match="by which the table is partitioned has"):
        table.commit(far, APPEND, Batch("q", 0))
    table.schema()
    table.commit(pa.table({"at": pa.array([A_DAY], kind)}), APPEND, Batch("q", 0))
    assert iceberg.rows(lake) == [(dt.datetime(1970, 1, 2, tzinfo=dt.UTC),)]
