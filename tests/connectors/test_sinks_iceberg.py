"""`sinks.iceberg` on a SQLite catalog; what holds for Delta Lake too is in test_tables.py."""

import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pyarrow as pa
import pytest
from conftest import ROOT, environment, refusal
from pyiceberg.schema import Schema
from pyiceberg.types import (
    FixedType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimeType,
    UUIDType,
)
from pyspark.sql import functions as F
from pyspark.sql import types as T
from support import iceberg, sink_contract
from support.pages import run_page
from support.sink_streams import (
    CASES,
    TOTALS,
    finish,
    forget_commit,
    refused,
    table_target,
    totals,
)

from sparkstream_kit import feeds, sinks
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors.iceberg import table as tables
from sparkstream_kit.connectors.iceberg.table import IcebergTable
from sparkstream_kit.errors import KitError, TransientError
from sparkstream_kit.sinks.ledger import Batch

COLUMNS = T.StructType(
    [T.StructField("k", T.StringType()), T.StructField("n", T.IntegerType())]
)


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "my läke"


@pytest.fixture
def into(lake):
    """A sink into the table shop.t."""
    return lambda **more: sinks.iceberg("shop.t", catalog=lake, **more)


def row(key, number):
    return pa.table({"k": [key], "n": pa.array([number], pa.int32())})


def written(lake):
    """Return a table and a target to write to without Spark."""
    target = table_target()
    return IcebergTable("shop.t", str(lake), 20), target


def write(table, target, number, *, driver="d"):
    """Write a batch as a driver does that has computed its rows."""
    batch = Batch("q", number, "plan", "ckpt", driver)
    if not _tables.is_written(target, table, COLUMNS, batch):
        table.commit(row("a", number), target, batch)


@pytest.mark.slow
def test_keys_may_have_any_name_and_any_type(stream, lake, into, tmp_path):
    keys = {
        "a`b": "k",
        "Käse 'x'": "CAST(k = 'a' AS BOOLEAN)",
        "price": "CAST(IF(k = 'a', -1.5, 2.25) AS DECIMAL(9, 2))",
        "day": "IF(k = 'a', DATE '1969-12-31', DATE '2026-01-01')",
        "at": (
            "IF(k = 'a', TIMESTAMP '1969-12-31 12:00:00.000001', TIMESTAMP '2026-01-01"
            " 00:00:00')"
        ),
        "local": "CAST('2026-01-01 00:00:00.5' AS TIMESTAMP_NTZ)",
        "raw": "IF(k = 'a', X'00ff', X'80')",
        "weight": "IF(k = 'a', CAST('NaN' AS DOUBLE), 0.5)",
        "long": (
            "CAST(IF(k = 'a', -9223372036854775808, 9223372036854775807) AS BIGINT)"
        ),
    }
    named = totals(stream).selectExpr(
        *(f"{what} AS `{name.replace('`', '``')}`" for name, what in keys.items()),
        "total",
    )
    finish(named, into(how="upsert", keys=[*keys]), tmp_path / "ckpt", "update")
    assert [(row[0], row[-1]) for row in iceberg.rows(lake)] == TOTALS
    assert (lake / "shop" / "t" / "data").is_dir()


@pytest.mark.slow
def test_an_upsert_leaves_the_rows_between_its_keys(stream, lake, into, tmp_path):
    finish(
        stream.where("n = 1"),
        into(how="upsert", keys=["k"]),
        tmp_path / "ckpt",
        "update",
    )
    iceberg.table(lake).append(
        pa.table({"k": ["aa", "zz", None], "n": pa.array([7, 8, 9], pa.int32())})
    )
    feeds.drip([("4.csv", "a,1\nc,1\n")], tmp_path / "in")
    finish(
        stream.where("n = 1"),
        into(how="upsert", keys=["k"]),
        tmp_path / "ckpt",
        "update",
    )
    found = iceberg.table(lake).scan().to_arrow().to_pylist()
    assert sorted(map(str, (row["k"] for row in found))) == [
        "None",
        "a",
        "aa",
        "b",
        "c",
        "zz",
    ]
    # Between two keys of a file, and none of them
    feeds.drip([("5.csv", "ab,1\n")], tmp_path / "in")
    finish(
        stream.where("n = 1"),
        into(how="upsert", keys=["k"]),
        tmp_path / "ckpt",
        "update",
    )
    found = iceberg.table(lake).scan().to_arrow().to_pylist()
    assert sorted(map(str, (row["k"] for row in found))) == [
        "None",
        "a",
        "aa",
        "ab",
        "b",
        "c",
        "zz",
    ]


@pytest.mark.slow
def test_the_last_batch_is_known_when_its_snapshot_has_expired(
    stream, lake, into, tmp_path
):
    finish(stream, into(), tmp_path / "ckpt")
    iceberg.table(lake).append(row("z", 9))  # as somebody else does
    past = [each.snapshot_id for each in iceberg.table(lake).snapshots()][:-1]
    iceberg.table(lake).maintenance.expire_snapshots().by_ids(past).commit()
    assert iceberg.batches(lake) == []
    forget_commit(tmp_path / "ckpt", 2)
    finish(stream, into(), tmp_path / "ckpt")
    assert iceberg.rows(lake) == [*CASES["append"][2], ("z", 9)]


@pytest.mark.slow
def test_a_table_that_was_rolled_back_is_refused_with_the_way_on(
    stream, lake, into, tmp_path
):
    finish(stream, into(), tmp_path / "ckpt")
    made, first, *_ = [each.snapshot_id for each in iceberg.table(lake).snapshots()]
    iceberg.table(lake).manage_snapshots().rollback_to_snapshot(first).commit()
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    line = refused(stream, into(), tmp_path / "ckpt")
    assert (
        f"batch 3 is next, but Iceberg table shop.t in {lake} holds this query's"
        " batches up to 0" in line
    )
    assert f"run sparkstream checkpoint rewind {tmp_path / 'ckpt'} --to 0" in line
    iceberg.table(lake).manage_snapshots().rollback_to_snapshot(made).commit()
    assert "holds none of this query's batches" in refused(
        stream, into(), tmp_path / "ckpt"
    )
    iceberg.table(lake).manage_snapshots().set_current_snapshot(first).commit()
    rewind(tmp_path / "ckpt", to=0, apply=True)
    finish(stream, into(), tmp_path / "ckpt")
    assert iceberg.rows(lake) == sorted([*CASES["append"][2], ("a", 10)])


@pytest.mark.slow
def test_after_a_rewind_the_command_of_the_message_sets_the_table_back(
    stream, lake, into, tmp_path
):
    finish(stream, into(), tmp_path / "ckpt")
    rewind(tmp_path / "ckpt", to=0, apply=True)
    line = refused(stream, into(), tmp_path / "ckpt")
    assert (
        f"batch 1 is replayed, but Iceberg table shop.t in {lake} has all batches up"
        " to 2" in line
    )
    iceberg.table(lake).delete("n > 1")
    _, *command = shlex.split(line.partition("then run ")[2])
    assert (
        subprocess.run(
            [sys.executable, *command], env=environment(), check=False
        ).returncode
        == 0
    )
    finish(stream, into(), tmp_path / "ckpt")
    assert iceberg.rows(lake) == CASES["append"][2]
    gone = [sys.executable, *(word.replace("shop.t", "shop.gone") for word in command)]
    done = subprocess.run(
        gone, env=environment(), check=False, capture_output=True, text=True
    )
    assert "there is no Iceberg table shop.gone" in done.stderr


@pytest.mark.slow
def test_an_upsert_with_a_column_less_or_more(stream, lake, into, tmp_path):
    frame = totals(stream)
    finish(frame, into(how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    wider = frame.withColumn("many", F.array("total"))
    sink = into(how="upsert", keys=["k"], merge_schema=True)
    finish(wider, sink, tmp_path / "ckpt", "update", allow_changed_query=True)
    assert iceberg.rows(lake) == [("a", 13, [13]), ("b", 4, None), ("c", 5, None)]
    feeds.drip([("5.csv", "b,1\n")], tmp_path / "in")
    finish(
        frame,
        into(how="upsert", keys=["k"]),
        tmp_path / "ckpt",
        "update",
        allow_changed_query=True,
    )
    assert iceberg.rows(lake) == [("a", 13, [13]), ("b", 5, None), ("c", 5, None)]


@pytest.mark.slow
def test_a_table_with_partitions_is_exact(stream, lake, into, tmp_path):
    columns = {"k": pa.string(), "total": pa.int64(), "at": pa.timestamp("us", "UTC")}
    with iceberg.make(lake, pa.schema(columns)).update_spec() as spec:
        spec.add_identity("k")
        spec.add_field("at", "day")
    timely = totals(stream).withColumn(
        "at", F.timestamp_seconds(F.lit(86_400) * F.col("total"))
    )
    finish(timely, into(how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    assert [row[:2] for row in iceberg.rows(lake)] == TOTALS
    only = iceberg.table(lake).scan("k = 'c' and at >= '1970-01-04T00:00:00+00:00'")
    # The others are left out by their partitions
    assert len(list(only.plan_files())) == 1
    assert only.to_arrow()["total"].to_pylist() == [5]


@pytest.mark.slow
def test_a_table_whose_columns_must_have_values(stream, lake, into, tmp_path):
    columns = [
        NestedField(1, "k", StringType(), required=True),
        NestedField(2, "total", LongType()),
    ]
    iceberg.make(lake, Schema(*columns))
    finish(totals(stream), into(how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    assert iceberg.rows(lake) == TOTALS


def test_a_format_version_that_cannot_keep_batches_is_refused(spark, lake):
    iceberg.make(lake, pa.schema({"k": pa.string(), "n": pa.int32()}))
    iceberg.catalog(lake).create_table(
        "shop.old",
        pa.schema({"k": pa.string(), "n": pa.int32()}),
        properties={"format-version": "1"},
    )
    target = replace(
        table_target(), open_table=lambda _: IcebergTable("shop.old", str(lake), 20)
    )
    frame = spark.createDataFrame([], COLUMNS)
    line = refusal(target.prepare, frame, None, None, True)
    assert (
        "Iceberg table shop.old has format version 1, and pyiceberg can note batches in"
        " version 2" in line
    )
    assert line.endswith(
        "upgrade it: ALTER TABLE … SET TBLPROPERTIES ('format-version' = '2'), or with"
        " pyiceberg"
    )
    with iceberg.table(lake, "shop.old").transaction() as change:
        change.upgrade_table_version(2)  # the way out
    target.prepare(frame, None, None, True)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_partitions_that_pyiceberg_cannot_make_are_refused(spark, lake, kind):
    with iceberg.make(lake, pa.schema({"x": kind})).update_spec() as spec:
        spec.add_identity("x")
    target = replace(
        table_target(), open_table=lambda _: IcebergTable("shop.t", str(lake), 20)
    )
    frame = spark.sql(
        f"SELECT CAST(0 AS {'FLOAT' if kind == pa.float32() else 'DOUBLE'}) AS x"
    )
    assert "is partitioned by x, a " in refusal(target.prepare, frame, None, None, True)


NULLS = {  # SQL of a value, and whether pyiceberg keeps the NULL in it
    "CAST(NULL AS ARRAY<STRUCT<a: INT>>)": False,
    "CAST(NULL AS MAP<STRING, STRUCT<a: INT>>)": False,
    "named_struct('x', CAST(NULL AS ARRAY<STRUCT<a: INT>>))": False,
    "array(named_struct('x', CAST(NULL AS MAP<STRING, STRUCT<a: INT>>)))": False,
    "CAST(NULL AS STRUCT<x: ARRAY<STRUCT<a: INT>>>)": True,
    "array(CAST(NULL AS ARRAY<STRUCT<a: INT>>))": True,
    "array(CAST(NULL AS STRUCT<a: INT>))": True,
    "CAST(NULL AS ARRAY<ARRAY<INT>>)": True,
    "CAST(NULL AS MAP<STRING, ARRAY<INT>>)": True,
    "CAST(array() AS ARRAY<STRUCT<a: INT>>)": True,
}


@pytest.mark.fast(
    "CAST(NULL AS MAP<STRING, STRUCT<a: INT>>)", "array(CAST(NULL AS STRUCT<a: INT>))"
)
@pytest.mark.parametrize("value", NULLS)
def test_a_null_that_pyiceberg_would_make_an_empty_array_is_told(spark, lake, value):
    frame = spark.sql(f"SELECT {value} AS v UNION ALL SELECT {value}")
    target = replace(
        table_target(), open_table=lambda _: IcebergTable("shop.t", str(lake), 20)
    )
    target.prepare(frame, None, None, True)
    if NULLS[value]:
        target.write(Batch("q", 0, driver="d"), frame)
        assert target.rows(spark).collect() == frame.collect()
    else:
        line = refusal(target.write, Batch("q", 0, driver="d"), frame)
        assert (
            "batch 0 for table t: column v has a NULL array or map of structs" in line
        )
        assert iceberg.rows(lake) == []


def test_a_type_that_spark_lacks_is_in_nobody_s_way(spark, lake):
    fields = [
        ("k", StringType()),
        ("n", IntegerType()),
        ("z", UUIDType()),
        ("f", FixedType(2)),
        ("t", TimeType()),
    ]
    iceberg.make(
        lake,
        Schema(
            *(NestedField(n, name, kind) for n, (name, kind) in enumerate(fields, 1))
        ),
    )
    target = replace(
        table_target(), open_table=lambda _: IcebergTable("shop.t", str(lake), 20)
    )
    frame = spark.createDataFrame([("a", 1)], COLUMNS)
    target.prepare(frame, None, None, True)
    for number in range(2):
        target.write(Batch("q", number, driver="d"), frame)
    assert iceberg.rows(lake) == [("a", 1, None, None, None)] * 2
    keyed = replace(target, how="upsert", keys=("k",))
    keyed.write(Batch("q", 2, driver="d"), frame)
    assert iceberg.rows(lake) == [("a", 1, None, None, None)]
    wrong = frame.withColumn("z", F.lit("x"))
    line = refusal(target.prepare, wrong, "q", None, True)
    assert (
        "column z is string, and extension<arrow.uuid> in table t; cast it, or write to"
        " another table" in line
    )


def test_a_table_with_two_columns_that_differ_in_case_takes_each_by_its_name(
    spark, lake
):
    iceberg.make(lake, pa.schema({"k": pa.string(), "n": pa.int32(), "N": pa.string()}))
    target = replace(
        table_target(), open_table=lambda _: IcebergTable("shop.t", str(lake), 20)
    )
    frame = spark.createDataFrame([("a", 1)], COLUMNS)
    target.prepare(frame, None, None, True)
    target.write(Batch("q", 0, driver="d"), frame)
    assert iceberg.rows(lake) == [("a", 1, None)]


def test_a_year_of_which_there_is_no_partition_is_told(spark, lake):
    columns = pa.schema({"at": pa.timestamp("us", "UTC")})
    with iceberg.make(lake, columns).update_spec() as spec:
        spec.add_field("at", "day")
    target = replace(
        table_target(), open_table=lambda _: IcebergTable("shop.t", str(lake), 20)
    )
    frame = spark.sql("SELECT timestamp_micros(1700000000000000000) AS at")
    target.prepare(frame, None, None, True)
    with pytest.raises(
        KitError, match="is partitioned has a date or time outside the years 1 to 9999"
    ) as error:
        target.write(Batch("q", 0, driver="d"), frame)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_old_snapshots_expire_and_a_reader_that_has_begun_ends(
    stream, lake, into, tmp_path
):
    finish(
        totals(stream),
        into(how="replace", keep_snapshots=2),
        tmp_path / "ckpt",
        "complete",
    )
    begun = iceberg.table(lake).scan()
    tagged = iceberg.table(lake).current_snapshot().snapshot_id
    iceberg.table(lake).manage_snapshots().create_tag(tagged, "mine").commit()
    for number in range(4, 8):
        feeds.drip([(f"{number}.csv", "a,10\n")], tmp_path / "in")
        finish(
            totals(stream),
            into(how="replace", keep_snapshots=2),
            tmp_path / "ckpt",
            "complete",
        )
    kept = [each.snapshot_id for each in iceberg.table(lake).snapshots()]
    assert len(kept) <= 2 + 3  # those of the last commit, and the tag's
    assert tagged in kept
    assert (
        sorted(map(tuple, (row.values() for row in begun.to_arrow().to_pylist())))
        == TOTALS
    )
    assert iceberg.rows(lake) == [("a", 43), *TOTALS[1:]]


@pytest.mark.slow
def test_what_a_commit_rewrites_does_not_grow_with_the_table(lake, monkeypatch):
    monkeypatch.setitem(tables._MERGING, "commit.manifest.target-size-bytes", "20000")  # noqa: SLF001
    table, target = written(lake)
    rewritten = []
    for number in range(300):
        write(table, target, number)
        snapshot = iceberg.table(lake).current_snapshot()
        made = snapshot.manifests(iceberg.table(lake).io)
        new = [each for each in made if each.added_snapshot_id == snapshot.snapshot_id]
        rewritten.append(sum(each.existing_files_count for each in new))
    assert 4 <= sum(map(bool, rewritten[-100:])) <= 5  # every twentieth commit
    # The files of the one that is not full, and the newest ones
    assert max(rewritten) <= 150
    assert len(made) <= 30
    assert iceberg.table(lake).scan().count() == 300


def test_a_newer_driver_that_writes_between_two_looks_at_a_first_batch_is_found(
    lake, monkeypatch
):
    one, target = written(lake)
    prepare = _tables.prepare

    def after_the_newer(*given):
        monkeypatch.undo()
        other, _ = written(lake)
        prepare(target, other, COLUMNS, "q")
        _tables.take(target, other, "q", "newer")
        write(other, target, 0, driver="newer")
        return prepare(*given)

    monkeypatch.setattr(_tables, "prepare", after_the_newer)
    assert "another driver has started to write to" in refusal(write, one, target, 0)
    assert iceberg.rows(lake) == [("a", 0)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"table": "t"}, "table 't' names no namespace; give one: 'shop.totals'"),
        (
            {"table": "shop.t", "keep_snapshots": 0},
            "keep_snapshots is 0; give 1 or more",
        ),
        ({"table": "shop.t", "catalog": "lake #1"}, "has a # or ? in its path"),
        (
            {"table": "shop.t", "catalog": "s3://lake"},
            "catalog s3://lake is not on this machine",
        ),
        ({"table": "shop.t", "catalog": 5}, "sinks.iceberg(): catalog is 5; give"),
    ],
)
def test_arguments_that_cannot_be(arguments, said):
    assert said in refusal(sinks.iceberg, **arguments)


@pytest.mark.parametrize(
    ("catalog", "said"),
    [
        ({"type": "rest", "uri": "http://kit:hush@127.0.0.1:9"}, "ConnectionError"),
        (
            {"type": "sql", "uri": "postgresql+psycopg://kit:hush@127.0.0.1:9/db"},
            "OperationalError",
        ),
        ({"type": "hive", "uri": "thrift://127.0.0.1:9"}, "NotInstalledError"),
        ({"name": "nowhere"}, "URI missing, please provide using --uri"),
    ],
)
def test_a_catalog_that_cannot_be_reached_is_one_line(stream, tmp_path, catalog, said):
    line = refused(stream, sinks.iceberg("shop.t", catalog=catalog), tmp_path / "ckpt")
    assert line.startswith("Iceberg table shop.t: the catalog or its storage failed (")
    assert said in line
    assert "hush" not in line


@pytest.mark.slow
def test_a_catalog_that_another_process_locks_may_succeed_later(stream, into, tmp_path):
    finish(stream, into(), tmp_path / "ckpt")
    [catalog] = tmp_path.rglob("catalog.db")
    with closing(sqlite3.connect(catalog)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TransientError, match="database is locked"):
            finish(stream, into(), tmp_path / "ckpt")


def test_its_manners_are_those_of_every_sink(spark, into, tmp_path):
    sink_contract.manners("iceberg", spark, into(), tmp_path / "ckpt")


@pytest.mark.slow
def test_the_page_on_iceberg_runs_from_top_to_bottom(tmp_path):
    run_page(ROOT / "docs" / "iceberg.md", tmp_path)


def test_a_type_that_iceberg_does_not_have_is_refused(stream, into, tmp_path):
    line = refused(
        stream.selectExpr("CAST(n AS SMALLINT) AS few"), into(), tmp_path / "ckpt"
    )
    assert "column few has the type smallint, which Iceberg cannot" in line


@pytest.mark.parametrize("before", [0, 2])
def test_what_comes_between_the_look_and_the_commit_is_found(lake, before):
    one, target = written(lake)
    for number in range(before):
        write(one, target, number)
    late = Batch("q", before, "plan", "ckpt", "d")
    # The first look makes the query the owner
    assert not _tables.is_written(target, one, COLUMNS, late)
    other, _ = written(lake)
    _tables.take(target, other, "q", "other")
    with pytest.raises(_tables.ConflictError):
        one.commit(row("z", 9), target, late)
    assert "another driver has started to write to" in refusal(
        _tables.is_written, target, one, COLUMNS, late
    )
    assert iceberg.rows(lake) == [("a", number) for number in range(before)]
