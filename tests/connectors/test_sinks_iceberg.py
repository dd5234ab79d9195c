"""`sinks.iceberg` on a SQLite catalog: every row once, whatever is stopped, and as it was."""

import datetime as dt
import shlex
import subprocess
import sys
import threading
from decimal import Decimal

import pyarrow as pa
import pytest
from conftest import ROOT, environment, refusal
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType
from pyspark.sql import functions as F
from pyspark.sql import types as T
from support import iceberg, sink_contract
from support.pages import run_page
from support.sink_streams import CASES, TOTALS, finish, forget_commit, refused, three_batches, totals

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.connectors import _arrow as arrow
from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors.iceberg import table as tables
from sparkstream_kit.connectors.iceberg.table import IcebergTable
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, QueryFailed
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.ledger import Batch

COLUMNS = T.StructType([T.StructField("k", T.StringType()), T.StructField("n", T.IntegerType())])


@pytest.fixture
def stream(spark, folder):
    """Three batches of two rows: (a, 1), (b, 1); (a, 2), (c, 2); (b, 3), (c, 3)."""
    return three_batches(spark, folder)


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def into(lake):
    """A sink into the table shop.t."""
    return lambda **more: sinks.iceberg("shop.t", catalog=lake, **more)


def written(lake, *, keep=20):
    """Return a table and a target to write to without Spark."""
    target = _tables.Target(
        where=Target("Iceberg table", "t"), how="append", keys=(), merge_schema=False, take_over=False
    )
    return IcebergTable("shop.t", str(lake), keep), target


def write(table, target, number, *, driver="d", how_many=1):
    """Write a batch as a driver does that has computed its rows."""
    batch = Batch("q", number, "plan", "ckpt", driver)
    if not _tables.is_written(target, table, COLUMNS, batch):
        rows = {"k": ["a"] * how_many, "n": pa.array([number] * how_many, pa.int32())}
        table.commit(pa.table(rows), target, batch)


@pytest.mark.fast("upsert")
@pytest.mark.parametrize("how", CASES)
def test_a_batch_that_comes_again_counts_once(stream, lake, into, tmp_path, how):
    mode, more, expected = CASES[how]
    frame, checkpoint = stream if how == "append" else totals(stream), tmp_path / "ckpt"
    finish(frame, into(how=how, **more), checkpoint, mode)
    assert iceberg.rows(lake) == expected
    forget_commit(checkpoint, 2)
    finish(frame, into(how=how, **more), checkpoint, mode)
    assert iceberg.rows(lake) == expected
    again = [2] if how == "replace" else []  # which is always written
    assert iceberg.batches(lake) == [0, 1, 2, *again]
    # A stateful batch that is skipped must be read to its end all the same.
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    finish(frame, into(how=how, **more), checkpoint, mode)
    assert iceberg.rows(lake) == (
        sorted([*expected, ("a", 10)]) if how == "append" else [("a", 13), *TOTALS[1:]]
    )
    assert iceberg.batches(lake) == [0, 1, 2, *again, 3]
    assert iceberg.last_batch(lake) == 3


@pytest.mark.slow
def test_a_crash_between_two_tables_leaves_both_exact(stream, lake, into, tmp_path):
    crash = [1]

    def maybe(_, batch_id):
        if batch_id in crash:
            crash.remove(batch_id)
            raise ValueError("crash")

    second = sinks.iceberg("shop.second", catalog=lake)
    both = sinks.fan_out(into(), sinks.foreach_batch(maybe), second)
    with pytest.raises(QueryFailed):
        finish(stream, both, tmp_path / "ckpt")
    finish(stream, both, tmp_path / "ckpt")
    assert iceberg.rows(lake) == iceberg.rows(lake, "shop.second") == CASES["append"][2]


def test_keys_may_have_any_name_and_any_type(stream, lake, into, tmp_path):
    keys = {
        "a`b": "k",
        "Käse 'x'": "CAST(k = 'a' AS BOOLEAN)",
        "price": "CAST(IF(k = 'a', -1.5, 2.25) AS DECIMAL(9, 2))",
        "day": "IF(k = 'a', DATE '1969-12-31', DATE '2026-01-01')",
        "at": "IF(k = 'a', TIMESTAMP '1969-12-31 12:00:00.000001', TIMESTAMP '2026-01-01 00:00:00')",
        "local": "CAST('2026-01-01 00:00:00.5' AS TIMESTAMP_NTZ)",
        "raw": "IF(k = 'a', X'00ff', X'80')",
        "weight": "IF(k = 'a', CAST('NaN' AS DOUBLE), 0.5)",
        "long": "CAST(IF(k = 'a', -9223372036854775808, 9223372036854775807) AS BIGINT)",
    }
    named = totals(stream).selectExpr(
        *(f"{what} AS `{name.replace('`', '``')}`" for name, what in keys.items()), "total"
    )
    finish(named, into(how="upsert", keys=[*keys]), tmp_path / "ckpt", "update")
    assert [(row[0], row[-1]) for row in iceberg.rows(lake)] == TOTALS


def test_an_upsert_leaves_the_rows_between_its_keys(stream, lake, into, tmp_path):
    finish(stream.where("n = 1"), into(how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    iceberg.table(lake).append(pa.table({"k": ["aa", "zz", None], "n": pa.array([7, 8, 9], pa.int32())}))
    feeds.drip([("4.csv", "a,1\nc,1\n")], tmp_path / "in")
    finish(stream.where("n = 1"), into(how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    found = iceberg.table(lake).scan().to_arrow().to_pylist()
    assert sorted(map(str, (row["k"] for row in found))) == ["None", "a", "aa", "b", "c", "zz"]


@pytest.mark.fast("append")
@pytest.mark.parametrize("how", CASES)
def test_a_batch_without_rows_is_a_snapshot_without_files(stream, lake, into, tmp_path, how):
    # Else the batch after it would be taken for one after a gap.
    mode, more, _ = CASES[how]
    frame = (stream if how == "append" else totals(stream)).where("k = 'c'")
    finish(frame, into(how=how, **more), tmp_path / "ckpt", mode)
    assert iceberg.batches(lake) == [0, 1, 2]
    assert iceberg.rows(lake) == ([("c", 2), ("c", 3)] if how == "append" else [("c", 5)])


def test_the_last_batch_is_known_when_its_snapshot_has_expired(stream, lake, into, tmp_path):
    finish(stream, into(), tmp_path / "ckpt")
    iceberg.table(lake).append(
        pa.table({"k": ["z"], "n": pa.array([9], pa.int32())})
    )  # as somebody else does
    past = [each.snapshot_id for each in iceberg.table(lake).snapshots()][:-1]
    iceberg.table(lake).maintenance.expire_snapshots().by_ids(past).commit()
    assert iceberg.batches(lake) == []
    forget_commit(tmp_path / "ckpt", 2)
    finish(stream, into(), tmp_path / "ckpt")
    assert iceberg.rows(lake) == [*CASES["append"][2], ("z", 9)]


def test_a_table_that_was_rolled_back_is_refused_with_the_way_on(stream, lake, into, tmp_path):
    finish(stream, into(), tmp_path / "ckpt")
    made, first, *_ = [each.snapshot_id for each in iceberg.table(lake).snapshots()]
    iceberg.table(lake).manage_snapshots().rollback_to_snapshot(first).commit()
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    line = refused(stream, into(), tmp_path / "ckpt")
    assert f"batch 3 is next, but Iceberg table shop.t in {lake} holds this query's batches up to 0" in line
    assert f"run sparkstream checkpoint rewind {tmp_path / 'ckpt'} --to 0" in line
    iceberg.table(lake).manage_snapshots().rollback_to_snapshot(made).commit()
    assert "holds none of this query's batches" in refused(stream, into(), tmp_path / "ckpt")
    iceberg.table(lake).manage_snapshots().set_current_snapshot(first).commit()
    rewind(tmp_path / "ckpt", to=0, apply=True)
    finish(stream, into(), tmp_path / "ckpt")
    assert iceberg.rows(lake) == sorted([*CASES["append"][2], ("a", 10)])


@pytest.mark.slow
def test_after_a_rewind_the_command_of_the_message_sets_the_table_back(stream, lake, into, tmp_path):
    finish(stream, into(), tmp_path / "ckpt")
    rewind(tmp_path / "ckpt", to=0, apply=True)
    line = refused(stream, into(), tmp_path / "ckpt")
    assert f"batch 1 is replayed, but Iceberg table shop.t in {lake} has all batches up to 2" in line
    iceberg.table(lake).delete("n > 1")
    _, *command = shlex.split(line.partition("then run ")[2])
    assert subprocess.run([sys.executable, *command], env=environment(), check=False).returncode == 0
    finish(stream, into(), tmp_path / "ckpt")
    assert iceberg.rows(lake) == CASES["append"][2]
    gone = [sys.executable, *(word.replace("shop.t", "shop.gone") for word in command)]
    done = subprocess.run(gone, env=environment(), check=False, capture_output=True, text=True)
    assert "there is no Iceberg table shop.gone" in done.stderr


@pytest.mark.slow
def test_a_new_checkpoint_is_another_query(stream, lake, into, tmp_path):
    finish(stream, into(), tmp_path / "ckpt")
    line = refused(stream, into(), tmp_path / "other")
    assert f"Iceberg table shop.t in {lake} was written by another query (" in line
    assert ", up to its batch 2); start on that query's checkpoint, use another table, or give" in line
    finish(stream, into(take_over=True), tmp_path / "other")
    assert len(iceberg.rows(lake)) == 12
    finish(stream, into(), tmp_path / "ckpt")  # both may go on
    forget_commit(tmp_path / "other", 2)
    finish(stream, into(), tmp_path / "other")
    assert len(iceberg.rows(lake)) == 12


def test_rows_of_somebody_else_are_kept(stream, lake, into, tmp_path):
    lake.mkdir()
    iceberg.catalog(lake).create_namespace("shop")
    rows = pa.table({"k": ["x"], "n": pa.array([1], pa.int32())})
    iceberg.catalog(lake).create_table("shop.t", rows.schema).append(rows)
    line = refused(stream, into(), tmp_path / "ckpt")
    assert (
        f"Iceberg table shop.t in {lake} has rows that no query of the kit has written; use another" in line
    )
    finish(stream, into(take_over=True), tmp_path / "ckpt")
    assert len(iceberg.rows(lake)) == 7


def test_a_table_that_is_gone_is_not_begun_anew(stream, lake, into, tmp_path):
    finish(stream, into(), tmp_path / "ckpt")
    iceberg.catalog(lake).drop_table("shop.t")
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    assert "holds none of this query's batches" in refused(stream, into(), tmp_path / "ckpt")


def test_a_column_more_is_added_only_when_asked(stream, lake, into, tmp_path):
    finish(stream, into(), tmp_path / "ckpt")
    feeds.drip([("4.csv", "d,4\n")], tmp_path / "in")
    wider = stream.withColumn("twice", F.struct(F.col("n"), F.array("k").alias("all")))
    line = refused(wider, into(), tmp_path / "ckpt")
    assert f"Iceberg table shop.t in {lake} has no column twice; give merge_schema=True to add it" in line
    finish(wider, into(merge_schema=True), tmp_path / "ckpt")
    found = iceberg.table(lake).scan().to_arrow().to_pylist()
    assert {"k": "d", "n": 4, "twice": {"n": 4, "all": ["d"]}} in found
    assert {"k": "a", "n": 1, "twice": None} in found
    feeds.drip([("5.csv", "e,5\n")], tmp_path / "in")
    finish(stream.select("n", "k"), into(), tmp_path / "ckpt")  # a column less is null, in any order
    assert {"k": "e", "n": 5, "twice": None} in iceberg.table(lake).scan().to_arrow().to_pylist()


@pytest.mark.slow
def test_an_upsert_with_a_column_less_or_more(stream, lake, into, tmp_path):
    frame = totals(stream)
    finish(frame, into(how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    wider = frame.withColumn("many", F.array("total"))
    finish(
        wider,
        into(how="upsert", keys=["k"], merge_schema=True),
        tmp_path / "ckpt",
        "update",
        allow_changed_query=True,
    )
    found = iceberg.table(lake).scan().to_arrow().to_pylist()
    assert sorted(map(str, (row["many"] for row in found))) == ["None", "None", "[13]"]
    feeds.drip([("5.csv", "b,1\n")], tmp_path / "in")
    finish(frame, into(how="upsert", keys=["k"]), tmp_path / "ckpt", "update", allow_changed_query=True)
    found = iceberg.table(lake).scan().to_arrow().to_pylist()
    assert sorted((row["k"], row["total"], row["many"]) for row in found) == [
        ("a", 13, [13]),
        ("b", 5, None),
        ("c", 5, None),
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"k": "k", "n": "CAST(n AS BIGINT)"}, "column n is bigint, and int in Iceberg table"),
        ({"K": "k", "n": "n"}, "column K is called k in Iceberg table"),
        ({"k": "k", "K": "n"}, "columns k and K: Iceberg sees no case; rename one"),
        ({"k": "k", "few": "CAST(n AS SMALLINT)"}, "column few has the type smallint, which Iceberg cannot"),
        ({"k": "k", "wait": "INTERVAL '1' DAY"}, "column wait has the type interval day, which Iceberg"),
        ({"k": "k", "none": "array(null)"}, "column none has the type void, which Iceberg cannot hold"),
    ],
)
def test_columns_that_do_not_fit_are_refused(stream, lake, into, tmp_path, columns, said):
    lake.mkdir()
    iceberg.catalog(lake).create_namespace("shop")
    iceberg.catalog(lake).create_table("shop.t", pa.schema({"k": pa.string(), "n": pa.int32()}))
    frame = stream.selectExpr(*(f"{column} AS `{name}`" for name, column in columns.items()))
    assert said in refused(frame, into(), tmp_path / "ckpt")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("IF(n = 3, NULL, k)", "key key is null; fill it"),
        ("'one'", "key key is the same in two rows; use"),
    ],
)
def test_keys_that_do_not_tell_rows_apart(stream, into, tmp_path, key, said):
    frame = stream.selectExpr(f"{key} AS key", "n")
    assert said in refused(frame, into(how="upsert", keys=["key"]), tmp_path / "ckpt", "update")


def test_what_every_type_holds_comes_back(spark, folder, lake, into, tmp_path):
    (folder / "1.txt").write_text("1\n")
    (folder / "2.txt").write_text("2\n")
    frame = sources.text(spark, folder, max_files_per_trigger=1).selectExpr(
        "value AS key",
        "'ü\\u0000' AS `naïve name`",
        "CAST(1.50 AS DECIMAL(12,2)) AS price",
        "CAST('-12345678901234567890123456789.123456789' AS DECIMAL(38,9)) AS long_price",
        "TIMESTAMP '2026-01-31 12:00:00.123456' AS at",
        "TIMESTAMP '1800-01-01 00:00:00.000001' AS long_ago",
        "TIMESTAMP_NTZ '0001-01-01 00:00:00' AS local",
        "DATE '9999-12-31' AS day",
        "DATE '0001-01-01' AS first_day",
        "X'00ff' AS raw",
        "array(named_struct('x', 1, 'y', array(2.5F))) AS nested",
        "map('m', CAST(NULL AS BIGINT)) AS mapped",
        "map(1, named_struct('d', DATE '2026-01-31')) AS of_structs",
        "CAST('NaN' AS DOUBLE) AS nan",
        "CAST(NULL AS BOOLEAN) AS nothing",
    )
    finish(frame, into(how="upsert", keys=["key", "naïve name"]), tmp_path / "ckpt", "update")
    finish(frame, sinks.iceberg("shop.appended", catalog=lake), tmp_path / "ckpt2")
    for name in ("shop.t", "shop.appended"):
        found = sorted(iceberg.table(lake, name).scan().to_arrow().to_pylist(), key=str)
        assert len(found) == 2
        assert str(found[0].pop("nan")) == "nan"
        assert found[0] == {
            "key": "1",
            "naïve name": "ü\0",
            "price": Decimal("1.50"),
            "long_price": Decimal("-12345678901234567890123456789.123456789"),
            "at": dt.datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=dt.UTC),
            "long_ago": dt.datetime(1800, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC),
            "local": dt.datetime(1, 1, 1),  # noqa: DTZ001 - Spark's timestamp without a zone
            "day": dt.date(9999, 12, 31),
            "first_day": dt.date(1, 1, 1),
            "raw": b"\x00\xff",
            "nested": [{"x": 1, "y": [2.5]}],
            "mapped": [("m", None)],
            "of_structs": [(1, {"d": dt.date(2026, 1, 31)})],
            "nothing": None,
        }
        kinds = {field.name: str(field.field_type) for field in iceberg.table(lake, name).schema().fields}
        assert (kinds["at"], kinds["local"], kinds["long_price"]) == (
            "timestamptz",
            "timestamp",
            "decimal(38, 9)",
        )


@pytest.mark.fast("upsert")
@pytest.mark.parametrize("how", ["append", "upsert"])
def test_a_table_with_partitions_is_exact(stream, lake, into, tmp_path, how):
    mode, more, expected = CASES[how]
    lake.mkdir()
    iceberg.catalog(lake).create_namespace("shop")
    value = "n" if how == "append" else "total"
    columns = {
        "k": pa.string(),
        value: pa.int32() if how == "append" else pa.int64(),
        "at": pa.timestamp("us", "UTC"),
    }
    with iceberg.catalog(lake).create_table("shop.t", pa.schema(columns)).update_spec() as spec:
        spec.add_identity("k")
        spec.add_field("at", "day")
    frame = stream if how == "append" else totals(stream)
    timely = frame.withColumn("at", F.timestamp_seconds(F.lit(86_400) * F.col(value)))
    finish(timely, into(how=how, **more), tmp_path / "ckpt", mode)
    assert [row[:2] for row in iceberg.rows(lake)] == expected
    only = iceberg.table(lake).scan("k = 'c' and at >= '1970-01-04T00:00:00+00:00'")
    assert len(list(only.plan_files())) == 1  # the others are left out by their partitions
    assert only.to_arrow()[value].to_pylist() == [3 if how == "append" else 5]


def test_a_table_whose_columns_must_have_values(stream, lake, into, tmp_path):
    lake.mkdir()
    iceberg.catalog(lake).create_namespace("shop")
    columns = [NestedField(1, "k", StringType(), required=True), NestedField(2, "total", LongType())]
    iceberg.catalog(lake).create_table("shop.t", Schema(*columns))
    finish(totals(stream), into(how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    assert iceberg.rows(lake) == TOTALS


def test_old_snapshots_expire_and_a_reader_that_has_begun_ends(stream, lake, into, tmp_path):
    finish(totals(stream), into(how="replace", keep_snapshots=2), tmp_path / "ckpt", "complete")
    begun = iceberg.table(lake).scan()
    tagged = iceberg.table(lake).current_snapshot().snapshot_id
    iceberg.table(lake).manage_snapshots().create_tag(tagged, "mine").commit()
    for number in range(4, 8):
        feeds.drip([(f"{number}.csv", "a,10\n")], tmp_path / "in")
        finish(totals(stream), into(how="replace", keep_snapshots=2), tmp_path / "ckpt", "complete")
    kept = [each.snapshot_id for each in iceberg.table(lake).snapshots()]
    assert len(kept) <= 2 + 3  # those of the last commit, and the tag's
    assert tagged in kept
    assert sorted(map(tuple, (row.values() for row in begun.to_arrow().to_pylist()))) == TOTALS
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
        rewritten.append(
            sum(each.existing_files_count for each in made if each.added_snapshot_id == snapshot.snapshot_id)
        )
    assert 4 <= sum(map(bool, rewritten[-100:])) <= 5  # every twentieth commit
    assert max(rewritten) <= 150  # the files of the one that is not full, and the newest ones
    assert len(made) <= 30
    assert iceberg.table(lake).scan().count() == 300


def test_two_queries_may_make_one_table_at_once(lake):
    errors: list[Exception] = []
    together = threading.Barrier(4)

    def first():
        table, target = written(lake)
        target.take_over = True
        together.wait()
        try:
            _tables.prepare(target, table, COLUMNS, None)
        except Exception as err:  # noqa: BLE001 - whatever it is
            errors.append(err)

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert iceberg.rows(lake) == []


def test_what_comes_between_the_look_and_the_commit_is_found(lake):
    one, target = written(lake)
    for number in range(2):
        write(one, target, number)
    late = Batch("q", 2, "plan", "ckpt", "d")
    assert not _tables.is_written(target, one, COLUMNS, late)
    other, _ = written(lake)
    _tables.take(target, other, "q", "other")
    rows = pa.table({"k": ["z"], "n": pa.array([9], pa.int32())})
    with pytest.raises(_tables.ConflictError):
        one.commit(rows, target, late)
    with pytest.raises(InvalidInputError, match="another driver has started to write to"):
        _tables.is_written(target, one, COLUMNS, late)
    assert iceberg.rows(lake) == [("a", 0), ("a", 1)]


def test_what_comes_between_the_first_look_and_the_first_commit_is_found(lake):
    one, target = written(lake)
    first = Batch("q", 0, "plan", "ckpt", "d")
    assert not _tables.is_written(target, one, COLUMNS, first)  # which makes the query the owner
    other, _ = written(lake)
    _tables.take(target, other, "q", "other")
    with pytest.raises(_tables.ConflictError):
        one.commit(pa.table({"k": ["z"], "n": pa.array([9], pa.int32())}), target, first)
    assert iceberg.rows(lake) == []


def test_a_newer_driver_that_writes_between_two_looks_at_a_first_batch_is_found(lake, monkeypatch):
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
    with pytest.raises(InvalidInputError, match="another driver has started to write to"):
        write(one, target, 0)
    assert iceberg.rows(lake) == [("a", 0)]


def test_a_batch_of_many_parts_is_whole(spark, lake, into, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "_PART", 10_000)
    rate = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 20_000).load()
    run(start(rate.select("value"), into(), name="q", checkpoint=tmp_path / "c", once=True))
    assert iceberg.rows(lake) == [(number,) for number in range(20_000)]


@pytest.mark.slow
def test_a_query_without_start_and_without_checkpoint(stream, lake, into, tmp_path):
    writer = into()(stream.writeStream).trigger(availableNow=True)
    writer.option("checkpointLocation", str(tmp_path / "ckpt")).start().awaitTermination()
    assert iceberg.rows(lake) == CASES["append"][2]
    again = sinks.iceberg("shop.again", catalog=lake, how="replace", take_over=True)
    finish(totals(stream), again, None, "complete")
    finish(totals(stream), again, None, "complete")
    assert iceberg.rows(lake, "shop.again") == TOTALS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"table": "t"}, "table 't' names no namespace; give one: 'shop.totals'"),
        ({"table": "shop."}, "table 'shop.' names no namespace"),
        ({"table": "shop.t", "how": "insert"}, "unknown way to write (how=) insert"),
        ({"table": "shop.t", "keys": ["k"]}, "how='upsert' and keys belong together"),
        ({"table": "shop.t", "keep_snapshots": 0}, "keep_snapshots is 0; give 1 or more"),
        ({"table": "shop.t", "catalog": 5}, "sinks.iceberg(): catalog is 5; give"),
    ],
)
def test_arguments_that_cannot_be(arguments, said):
    assert said in refusal(sinks.iceberg, **arguments)


@pytest.mark.parametrize(
    ("catalog", "said"),
    [
        ({"type": "rest", "uri": "http://kit:hush@127.0.0.1:9"}, "ConnectionError"),
        ({"type": "sql", "uri": "postgresql+psycopg://kit:hush@127.0.0.1:9/db"}, "OperationalError"),
        ({"name": "nowhere"}, "URI missing, please provide using --uri"),
        ({"type": "hive", "uri": "thrift://127.0.0.1:9"}, "NotInstalledError"),
        ({"type": "paper"}, "'paper' is not a valid CatalogType"),
    ],
)
def test_a_catalog_that_cannot_be_reached_is_one_line(stream, tmp_path, catalog, said):
    line = refused(stream, sinks.iceberg("shop.t", catalog=catalog), tmp_path / "ckpt")
    assert line.startswith("Iceberg table shop.t: the catalog or its storage failed (")
    assert said in line
    assert "hush" not in line


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sparkstream-kit\[iceberg\]'"):
        sinks.iceberg("shop.t")


def test_its_manners_are_those_of_every_sink(spark, into, tmp_path):
    sink_contract.manners("iceberg", spark, into(), tmp_path / "ckpt")


@pytest.mark.slow
def test_the_page_on_iceberg_runs_from_top_to_bottom(tmp_path):
    run_page(ROOT / "docs" / "iceberg.md", tmp_path)
