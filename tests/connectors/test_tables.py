"""What databases, Delta Lake and Iceberg share: every row once, whatever is stopped."""

import datetime as dt
import json
import math
import re
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import refusal
from deltalake import DeltaTable, write_deltalake
from deltalake import Schema as DeltaSchema
from hypothesis import HealthCheck, given, settings
from pyspark.sql import functions as F
from support import iceberg, rows, sink_contract
from support.sink_streams import (
    CASES,
    KEYS,
    TOTALS,
    finish,
    forget_commit,
    refused,
    table_target,
    totals,
)
from support.sql import DATABASES, new, sql

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit._internal.columns import types_in
from sparkstream_kit.connectors import _arrow as arrow
from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors.delta.rust import RustTable
from sparkstream_kit.connectors.iceberg.table import IcebergTable
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, QueryFailed
from sparkstream_kit.sinks.ledger import Batch


class Sql:
    """Tables of a database."""

    def __init__(self, name, folder):
        self._url = new(name, folder)

    def sink(self, table="t", **more):
        return sinks.sql_table(self._url, table, **more)

    def make(self, rows):
        sql(self._url, "CREATE TABLE t (k TEXT, n INTEGER)")
        for row in rows.to_pylist():
            sql(self._url, f"INSERT INTO t VALUES ('{row['k']}', {row['n']})")  # noqa: S608 - ours

    def rows(self, table="t"):
        return [
            dict(enumerate(row))
            for row in sql(self._url, f"SELECT * FROM {table}")  # noqa: S608
        ]

    def last(self):
        [[last]] = sql(self._url, "SELECT batch_id FROM sparkstream_ledger")
        return last


class Delta:
    """Tables of Delta Lake, as delta-rs shows them."""

    system = "Delta"

    def __init__(self, folder):
        self._folder = folder

    def sink(self, table="t", **more):
        return sinks.delta(self._folder / table, **more)

    def writer(self):
        return RustTable(str(self._folder / "t"))

    def make(self, rows):
        write_deltalake(self._folder / "t", rows)

    def remove(self):
        shutil.rmtree(self._folder / "t")

    def drop_column(self, name):
        table = DeltaTable(self._folder / "t")
        fields = [field for field in table.schema().fields if field.name != name]
        empty = pa.schema(DeltaSchema(fields)).empty_table()
        write_deltalake(table, empty, mode="overwrite", schema_mode="overwrite")

    def in_files(self):
        """Return the rows as pyarrow finds them in the files."""
        files = [
            uri.removeprefix("file://")
            for uri in DeltaTable(self._folder / "t").file_uris()
        ]
        return [
            row for file in files for row in pq.ParquetFile(file).read().to_pylist()
        ]

    def read(self):
        return DeltaTable(self._folder / "t").to_pyarrow_table()

    def rows(self, table="t"):
        files = [
            uri.removeprefix("file://")
            for uri in DeltaTable(self._folder / table).file_uris()
        ]
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def batches(self):
        said = [
            commit.get("userMetadata")
            for commit in DeltaTable(self._folder / "t").history()
        ]
        return [json.loads(each)["batch"] for each in reversed(said) if each]

    def last(self):
        return self.batches()[-1]


class Iceberg:
    """Tables of an Iceberg catalog, as pyiceberg shows them."""

    system = "Iceberg"

    def __init__(self, folder):
        self._lake = folder / "lake"

    def sink(self, table="t", **more):
        return sinks.iceberg(f"shop.{table}", catalog=self._lake, **more)

    def writer(self):
        return IcebergTable("shop.t", str(self._lake), 20)

    def make(self, rows):
        iceberg.make(self._lake, rows.schema).append(rows)

    def remove(self):
        iceberg.catalog(self._lake).drop_table("shop.t")

    def drop_column(self, name):
        with iceberg.table(self._lake).update_schema() as change:
            change.delete_column(name)

    def in_files(self):
        """Return the rows as pyarrow finds them in the files."""
        files = [
            task.file.file_path
            for task in iceberg.table(self._lake).scan().plan_files()
        ]
        paths = [file.removeprefix("file://") for file in files]
        return [
            row for path in paths for row in pq.ParquetFile(path).read().to_pylist()
        ]

    def read(self):
        return iceberg.table(self._lake).scan().to_arrow()

    def rows(self, table="t"):
        return iceberg.table(self._lake, f"shop.{table}").scan().to_arrow().to_pylist()

    def batches(self):
        return iceberg.batches(self._lake)

    def last(self):
        return iceberg.last_batch(self._lake)


@pytest.fixture(params=[Delta, Iceberg], ids=["delta", "iceberg"])
def table(request, tmp_path):
    """A table of each of the formats."""
    return request.param(tmp_path)


@pytest.fixture(params=[*DATABASES, "delta", "iceberg"])
def any_table(request, tmp_path):
    """A table of each system."""
    made = {"delta": Delta, "iceberg": Iceberg}.get(request.param)
    return made(tmp_path) if made else Sql(request.param, tmp_path)


def name_of(table):
    """Return a table as messages name it."""
    return str(table.sink().writes_to[0])


def found(table, *name):
    """Return the rows of a table as tuples, sorted."""
    return sorted(tuple(row.values()) for row in table.rows(*name))


@pytest.mark.fast("sqlite-upsert", "delta-upsert")
@pytest.mark.parametrize("how", CASES)
def test_a_batch_that_comes_again_counts_once(any_table, stream, tmp_path, how):
    mode, more, expected = CASES[how]
    frame, checkpoint = stream if how == "append" else totals(stream), tmp_path / "ckpt"
    sink = any_table.sink(how=how, **more)
    finish(frame, sink, checkpoint, mode)
    assert found(any_table) == expected
    forget_commit(checkpoint, 2)
    finish(frame, sink, checkpoint, mode)
    assert (found(any_table), any_table.last()) == (expected, 2)
    if not isinstance(any_table, Sql):
        again = [2] if how == "replace" else []  # which is always written
        assert any_table.batches() == [0, 1, 2, *again]
    # A stateful batch that is skipped must be read to its end all the same.
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    finish(frame, sink, checkpoint, mode)
    expected = (
        sorted([*expected, ("a", 10)]) if how == "append" else [("a", 13), *TOTALS[1:]]
    )
    assert (found(any_table), any_table.last()) == (expected, 3)


@pytest.mark.fast("delta")
def test_a_crash_between_two_tables_leaves_both_exact(table, stream, tmp_path):
    crash = [1]

    def maybe(_, batch_id):
        if batch_id in crash:
            crash.remove(batch_id)
            raise ValueError("crash")

    both = sinks.fan_out(table.sink(), sinks.foreach_batch(maybe), table.sink("second"))
    with pytest.raises(QueryFailed):
        finish(stream, both, tmp_path / "ckpt")
    finish(stream, both, tmp_path / "ckpt")
    assert found(table) == found(table, "second") == CASES["append"][2]


@pytest.mark.fast("delta-upsert")
@pytest.mark.parametrize("how", CASES)
def test_a_batch_without_rows_is_a_commit_without_files(table, stream, tmp_path, how):
    # Else the batch after it would be taken for one after a gap.
    mode, more, _ = CASES[how]
    frame = (stream if how == "append" else totals(stream)).where("k = 'c'")
    finish(frame, table.sink(how=how, **more), tmp_path / "ckpt", mode)
    assert table.batches() == [0, 1, 2]
    assert found(table) == ([("c", 2), ("c", 3)] if how == "append" else [("c", 5)])
    assert len([*tmp_path.rglob("t/**/*.parquet")]) == 2


@pytest.mark.slow
def test_a_new_checkpoint_is_another_query(any_table, stream, tmp_path):
    # By a fixed name of the application, Delta would skip its batches 0 to 2 without a
    # word.
    finish(stream, any_table.sink(), tmp_path / "ckpt")
    line = refused(stream, any_table.sink(), tmp_path / "other")
    assert f"{name_of(any_table)} was written by another query (" in line
    assert (
        ", up to its batch 2); start on that query's checkpoint, use another table, or"
        " give" in line
    )
    finish(stream, any_table.sink(take_over=True), tmp_path / "other")
    assert len(found(any_table)) == 12
    finish(stream, any_table.sink(), tmp_path / "ckpt")  # both may go on
    forget_commit(tmp_path / "other", 2)
    finish(stream, any_table.sink(), tmp_path / "other")
    assert len(found(any_table)) == 12
    feeds.drip([("4.csv", "d,4\n")], tmp_path / "in")
    finish(stream, any_table.sink(), tmp_path / "ckpt")
    # Its batch of the same number is another one
    finish(stream, any_table.sink(), tmp_path / "other")
    assert found(any_table)[-2:] == [("d", 4), ("d", 4)]


@pytest.mark.slow
def test_a_query_whose_rows_were_replaced_does_not_go_on(any_table, stream, tmp_path):
    finish(
        totals(stream),
        any_table.sink(how="upsert", keys=["k"]),
        tmp_path / "ckpt",
        "update",
    )
    taken = any_table.sink(how="replace", take_over=True)
    finish(totals(stream.where("k = 'a'")), taken, tmp_path / "other", "complete")
    assert found(any_table) == [("a", 3)]
    line = refused(
        totals(stream),
        any_table.sink(how="upsert", keys=["k"]),
        tmp_path / "ckpt",
        "update",
    )
    assert "was written by another query" in line


@pytest.mark.fast("sqlite")
def test_a_whole_result_that_is_gone_is_refused_although_the_next_batch_has_it(
    any_table, stream, tmp_path
):
    finish(totals(stream), any_table.sink(how="replace"), tmp_path / "ckpt", "complete")
    line = refused(
        totals(stream),
        any_table.sink("u", how="replace"),
        tmp_path / "ckpt",
        "complete",
    )
    assert "holds none of this query's batches" in line
    assert "or, to let the next batch write all rows, give take_over=True" in line
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    for more in ({"take_over": True}, {}):
        finish(
            totals(stream),
            any_table.sink("u", how="replace", **more),
            tmp_path / "ckpt",
            "complete",
        )
    assert found(any_table, "u") == [("a", 13), *TOTALS[1:]]


@pytest.mark.fast("sqlite")
def test_rows_of_somebody_else_are_kept(any_table, stream, tmp_path):
    any_table.make(pa.table({"k": ["x"], "n": pa.array([1], pa.int32())}))
    line = refused(stream, any_table.sink(), tmp_path / "ckpt")
    assert (
        f"{name_of(any_table)} has rows that no query of the kit has written; use"
        " another" in line
    )
    finish(stream, any_table.sink(take_over=True), tmp_path / "ckpt")
    assert len(found(any_table)) == 7


@pytest.mark.slow
def test_a_column_more_is_added_only_when_asked(table, stream, tmp_path):
    finish(stream, table.sink(), tmp_path / "ckpt")
    feeds.drip([("4.csv", "d,4\n")], tmp_path / "in")
    wider = stream.withColumn("twice", F.struct(F.col("n"), F.array("k").alias("all")))
    line = refused(wider, table.sink(), tmp_path / "ckpt")
    assert (
        f"{name_of(table)} has no column twice; give merge_schema=True to add it"
        in line
    )
    finish(wider, table.sink(merge_schema=True), tmp_path / "ckpt")
    assert {"k": "d", "n": 4, "twice": {"n": 4, "all": ["d"]}} in table.rows()
    feeds.drip([("5.csv", "e,5\n")], tmp_path / "in")
    # A column less is null, in any order
    finish(stream.select("n", "k"), table.sink(), tmp_path / "ckpt")
    assert {"k": "e", "n": 5, "twice": None} in table.rows()


@pytest.mark.fast("delta")
def test_a_column_that_is_dropped_while_the_query_runs_is_named(
    table, stream, tmp_path
):
    def drop(_rows, batch_id):
        if batch_id == 0:
            table.drop_column("n")

    line = refused(
        stream,
        sinks.fan_out(table.sink(), sinks.foreach_batch(drop)),
        tmp_path / "ckpt",
    )
    assert f"{name_of(table)} has no column n; give merge_schema=True to add it" in line
    assert table.batches() == [0]
    finish(stream, table.sink(merge_schema=True), tmp_path / "ckpt")
    assert len(table.rows()) >= 4


def test_a_conflict_repeats_the_commit_and_not_the_computation(
    table, spark, monkeypatch
):
    frame, writer = spark.createDataFrame([("a", 1)], "k STRING, n INT"), table.writer()
    target = replace(table_target(), open_table=lambda _: writer)
    target.prepare(frame, None, None, True)
    commit, gathered, tries, gathers = writer.commit, writer.gathered, [], []

    def busy(*given):
        tries.append(1)
        if len(tries) < 9:
            raise _tables.ConflictError("another writer was quicker")
        commit(*given)

    monkeypatch.setattr(writer, "commit", busy)

    def counted(*given):
        gathers.append(1)
        return gathered(*given)

    monkeypatch.setattr(writer, "gathered", counted)
    target.write(Batch("q", 0, driver="d"), frame)
    assert (len(tries), len(gathers)) == (9, 1)
    assert found(table) == [("a", 1)]


# Microseconds: seconds that were taken for milliseconds, the year 55840
FAR = 1_700_000_000_000_000_000


@pytest.mark.fast("iceberg")
def test_years_beyond_9999_are_written(table, spark):
    frame = spark.sql(
        f"SELECT timestamp_micros({FAR}) AS at, date_from_unix_date(10000000) AS day, 1"
        f" AS n, array(named_struct('m', map(1, timestamp_micros(-{FAR})))) AS inside"
    )
    for number, (how, keys) in enumerate(
        (("append", ()), ("upsert", ("at", "day")), ("upsert", ("day",)))
    ):
        target = replace(
            table_target(take_over=True),
            how=how,
            keys=keys,
            open_table=lambda _: table.writer(),
        )
        target.prepare(frame, None, None, True)
        target.write(Batch(f"q{number}", 0, driver="d"), frame)
        exact = [
            "unix_micros(at)",
            "unix_date(day)",
            "n",
            "unix_micros(map_values(inside[0].m)[0])",
        ]
        assert target.rows(spark).selectExpr(*exact).collect() == [
            (FAR, 10_000_000, 1, -FAR)
        ]


def test_years_beyond_9999_stay_when_a_row_beside_them_changes(table):
    def rows(*given):
        keys, days, values = (list(column) for column in zip(*given, strict=True))
        day = pa.array(days, pa.int32()).cast(pa.date32())
        return pa.table({"k": pa.array(keys), "day": day, "v": pa.array(values)})

    first, changed = [(1, 4_000_000, 1), (2, 1, 1)], [(2, 1, 2)]
    table.make(rows(*first).slice(0, 0))
    target = replace(table_target(), how="upsert", keys=("k",))
    for number, batch in enumerate((first, changed, changed)):
        writer = table.writer()
        writer.schema()
        writer.commit(rows(*batch), target, Batch("q", number))
    there = table.read().select(["k", "day", "v"]).sort_by("k")
    # Python has no such dates
    there = there.set_column(1, "day", there["day"].cast(pa.int32()))
    assert [tuple(row.values()) for row in there.to_pylist()] == [
        (1, 4_000_000, 1),
        (2, 1, 2),
    ]


def test_a_zero_with_a_sign_is_the_same_key(table):
    def rows(*keys, number):
        return pa.table({"k": pa.array(keys), "v": pa.array([number] * len(keys))})

    table.make(rows(number=0).cast(pa.schema({"k": pa.float64(), "v": pa.int64()})))
    target = replace(table_target(), how="upsert", keys=("k",))
    for number, batch in enumerate(
        (rows(0.0, 1.0, math.nan, number=0), rows(-0.0, math.nan, number=1))
    ):
        writer = table.writer()
        writer.schema()
        writer.commit(batch, target, Batch("q", number))
    assert sorted(map(repr, table.read().to_pylist())) == [
        "{'k': -0.0, 'v': 1}",
        "{'k': 1.0, 'v': 0}",
        "{'k': nan, 'v': 1}",
    ]
    with pytest.raises(InvalidInputError, match="key k is the same in two rows"):
        arrow.check_keys(rows(0.0, -0.0, number=0), "t", ["k"], 0)


def test_names_that_differ_only_in_case_are_refused_before_a_table_is_made(
    table, spark
):
    target = replace(table_target(), open_table=lambda _: table.writer())
    for columns in (
        "1 AS n, 2 AS N",
        "named_struct('a', 1, 'b', array(named_struct('x', 1, 'X', 2))) AS s",
    ):
        frame = spark.sql(f"SELECT {columns}")
        assert re.search(
            "cannot tell the names (n and N|x and X) apart",
            refusal(target.prepare, frame, None, None, True),
        )
    assert table.writer().schema() is None


def test_a_null_in_a_required_column_is_named(table, spark):
    columns = pa.schema(
        [pa.field("k", pa.string()), pa.field("n", pa.int32(), nullable=False)]
    )
    table.make(columns.empty_table())
    target = replace(table_target(), open_table=lambda _: table.writer())
    lacks = spark.sql("SELECT 'a' AS k")
    assert (
        "requires a value of n in each row, and the query has no such column"
        in refusal(target.prepare, lacks, None, None, True)
    )
    frame = spark.sql("SELECT 'a' AS k, CAST(NULL AS INT) AS n UNION ALL SELECT 'b', 1")
    target.prepare(frame, None, None, True)
    line = refusal(target.write, Batch("q", 0, driver="d"), frame)
    assert (
        "batch 0 for table t: column n is null, of which the table requires a value"
        in line
    )
    target.write(Batch("q", 0, driver="d"), frame.where("n = 1"))
    assert found(table) == [("b", 1)]


AGAIN = [
    sink_contract.a_target_made_again_is_refused,
    sink_contract.a_target_made_again_under_a_running_query_is_refused,
]


@pytest.mark.fast("delta-a_target_made_again_under_a_running_query_is_refused")
@pytest.mark.parametrize("step", AGAIN, ids=lambda step: step.__name__)
def test_a_table_that_was_removed_or_made_again_is_refused(
    table, spark, tmp_path, step
):
    def again():
        table.remove()
        if step == AGAIN[1]:
            rows = pa.table({"n": pa.array([], pa.int32())})
            write_deltalake(tmp_path / "t", rows) if table.system == "Delta" else None

    adaptor = sink_contract.Adaptor(
        table.sink(), lambda: sorted(row["n"] for row in table.rows())
    )
    step(sink_contract.Stream(spark, tmp_path, adaptor), again)


def test_a_table_of_delta_that_was_made_again_with_more_commits_is_another_one(
    tmp_path,
):
    writer, table = Delta(tmp_path).writer(), Delta(tmp_path)
    row = pa.table({"n": pa.array([1], pa.int32())})
    table.make(row)
    assert writer.schema() is not None
    first = writer.identity()
    for _ in range(2):
        table.remove()
        for _ in range(3):
            write_deltalake(tmp_path / "t", row, mode="append")
        assert writer.schema() is not None
        assert writer.identity() == DeltaTable(tmp_path / "t").metadata().id != first


def test_one_table_by_two_names_is_one_target(spark, stream, tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/lake/catalog.db",
        "warehouse": f"file://{tmp_path}/lake",
    }
    both = [
        sinks.iceberg("shop.t", catalog=each)
        for each in (tmp_path / "lake", properties)
    ]
    line = refused(stream, sinks.fan_out(*both), tmp_path / "ckpt")
    assert "is the same as Iceberg table shop.t in" in line
    assert iceberg.rows(tmp_path / "lake") == []
    both = [
        sinks.iceberg("shop.u", catalog=tmp_path / each) for each in ("lake", "link")
    ]
    assert "is the same as Iceberg table shop.u in" in refused(
        stream, sinks.fan_out(*both), tmp_path / "ckpt"
    )


@pytest.mark.slow
def test_a_dot_in_a_value_leads_to_no_other_namespace(stream, tmp_path):
    feeds.drip([("0.csv", "v1.2,1\n")], tmp_path / "in")
    by = sinks.by_value(
        "k", lambda value: sinks.iceberg(f"shop.{value}", catalog=tmp_path / "lake")
    )
    line = refused(stream.where("k = 'v1.2'"), by, tmp_path / "ckpt")
    assert (
        "the dot in k v1.2 would lead to the schema shop.v1; replace it in the name of"
        " the table" in line
    )
    assert [
        sinks.delta(table=name).writes_to[0].within for name in ("t", "shop.v1.2")
    ] == ["", "shop.v1"]


COLUMNS = [
    ({"k": "k", "n": "CAST(n AS BIGINT)"}, "column n is bigint, and int in {} table"),
    ({"K": "k", "n": "n"}, "column K is called k in {} table"),
    (
        {"k": "k", "wait": "INTERVAL '1' DAY"},
        "column wait has the type interval day, which {} cannot hold",
    ),
    (
        {"k": "k", "none": "array(null)"},
        "column none has the type void, which {} cannot hold",
    ),
]


@pytest.mark.parametrize(
    "one",
    [rows.wide([kind]) for kind in rows.ALL],
    ids=[repr(kind) for kind in rows.ALL],
)
@pytest.mark.fast(
    "delta-DOUBLE", "iceberg-STRING", "delta-TIMESTAMP", "iceberg-MAP<DOUBLE, STRING>"
)
def test_each_corner_case_of_a_type_comes_back(table, spark, one):
    comes_back(table, spark, one)


@pytest.mark.slow
@pytest.mark.parametrize("table_of", [Delta, Iceberg])
def test_rows_of_every_type_come_back_as_they_were(spark, tmp_path_factory, table_of):
    @settings(max_examples=25, deadline=None, suppress_health_check=[*HealthCheck])
    @given(made=rows.tables(rows.ALL))
    def written(made):
        comes_back(table_of(tmp_path_factory.mktemp("t")), spark, made)

    written()


def comes_back(table, spark, made):
    """Write rows: they come back by the kit and another reader, or are refused with the fix."""
    frame, writer = made.frame(spark), table.writer()
    target = replace(table_target(), open_table=lambda _: writer)
    known = _tables.DELTA if table.system == "Delta" else _tables.ICEBERG
    kinds = {
        kind.typeName() for field in frame.schema for kind in types_in(field.dataType)
    }
    odd = {character for name in frame.columns for character in name} & {
        *known.not_in_names
    }
    if odd or kinds - known.types:
        assert re.search(
            "(cast it, or leave it out|rename it, as .*)$",
            refusal(target.prepare, frame, None, None, True),
        )
        return
    target.prepare(frame, None, None, True)
    told = ""
    try:
        target.write(Batch("q", 0, driver="d"), frame)
    except InvalidInputError as err:
        told = str(err)
    if told:
        assert table.system == "Iceberg"
        assert (
            "has a NULL array or map of structs, which pyiceberg writes as an empty"
            " one; fill" in told
        )
        assert table.rows() == []
        return
    if table.system == "Delta" and "variant" in kinds:
        assert "cannot read column" in refusal(target.rows, spark)
        return
    assert made.told(target.rows(spark)) == made.told(frame)
    flat = [each for each in made.columns if each.kind in rows.FLAT]
    expected = [
        tuple(_told(row[made.columns.index(each)]) for each in flat)
        for row in made.rows
    ]
    in_files = [
        tuple(repr(_plain(row[_name_in(row, made, each)])) for each in flat)
        for row in table.in_files()
    ]
    assert sorted(in_files) == sorted(expected)


def _name_in(row, made, column):
    # The files of Iceberg have other names for odd characters
    return [*row][made.columns.index(column)]


def _plain(value):
    """Return a value of pyarrow's as `rows` has it."""
    is_moment = isinstance(value, dt.datetime) and value.tzinfo is not None
    return value.astimezone(dt.UTC) if is_moment else value


def _told(value):
    return repr(value.replace(fold=0) if isinstance(value, dt.datetime) else value)


def test_columns_that_do_not_fit_are_refused(table, stream, tmp_path):
    table.make(pa.schema({"k": pa.string(), "n": pa.int32()}).empty_table())
    for columns, said in COLUMNS:
        frame = stream.selectExpr(
            *(f"{column} AS `{name}`" for name, column in columns.items())
        )
        assert said.format(table.system) in refused(
            frame, table.sink(), tmp_path / "ckpt"
        )


@pytest.mark.fast("delta")
def test_keys_that_do_not_tell_rows_apart(table, stream, tmp_path):
    for number, (key, said) in enumerate(KEYS):
        sink = table.sink(f"t{number}", how="upsert", keys=["key"])
        frame = stream.selectExpr(f"{key} AS key", "n")
        assert said in refused(frame, sink, tmp_path / f"ckpt{number}", "update")


@pytest.mark.fast("iceberg")
def test_values_of_every_type_come_back(table, spark, folder, tmp_path):
    (folder / "1.txt").write_text("1\n")
    (folder / "2.txt").write_text("2\n")
    frame = sources.text(spark, folder, max_files_per_trigger=1).selectExpr(
        "value AS key",
        "'ü\\u0000' AS `naïve-name`",
        "CAST(1.50 AS DECIMAL(12,2)) AS price",
        "CAST('-12345678901234567890123456789.123456789' AS DECIMAL(38,9)) AS"
        " long_price",
        "TIMESTAMP '2026-01-31 12:00:00.123456' AS at",
        "TIMESTAMP '1800-01-01 00:00:00.000001' AS long_ago",
        "TIMESTAMP_NTZ '0001-01-01 00:00:00' AS local",
        "DATE '9999-12-31' AS day",
        "DATE '0001-01-01' AS first_day",
        "X'00ff' AS raw",
        "CAST(X'4dff' AS STRING) AS not_utf8",
        "array(named_struct('x', 1, 'y', array(2.5F))) AS nested",
        f"map('m', CAST(NULL AS {'SMALLINT' if table.system == 'Delta' else 'BIGINT'}))"
        " AS mapped",
        "map(1, named_struct('d', DATE '2026-01-31')) AS of_structs",
        "CAST('NaN' AS DOUBLE) AS nan",
        "CAST(NULL AS BOOLEAN) AS nothing",
    )
    finish(
        frame,
        table.sink(how="upsert", keys=["key", "naïve-name"]),
        tmp_path / "ckpt",
        "update",
    )
    finish(frame, table.sink("appended"), tmp_path / "ckpt2")
    for name in ("t", "appended"):
        read = sorted(table.rows(name), key=str)
        assert len(read) == 2
        assert str(read[0].pop("nan")) == "nan"
        assert read[0] == {
            "key": "1",
            "naïve-name": "ü\0",
            "price": Decimal("1.50"),
            "long_price": Decimal("-12345678901234567890123456789.123456789"),
            "at": dt.datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=dt.UTC),
            "long_ago": dt.datetime(1800, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC),
            "local": dt.datetime(1, 1, 1),  # noqa: DTZ001 - Spark's timestamp without a zone
            "day": dt.date(9999, 12, 31),
            "first_day": dt.date(1, 1, 1),
            "raw": b"\x00\xff",
            "not_utf8": r"M\xff",
            "nested": [{"x": 1, "y": [2.5]}],
            "mapped": [("m", None)],
            "of_structs": [(1, {"d": dt.date(2026, 1, 31)})],
            "nothing": None,
        }


def test_two_queries_may_make_one_table_at_once(table, stream, tmp_path):
    target = table_target(take_over=True)
    together = threading.Barrier(4)

    def first(_):
        writer = table.writer()
        together.wait()
        _tables.prepare(target, writer, stream.schema, None)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(first, range(4)))  # raises an error of any of them
    assert found(table) == []
    assert len([*tmp_path.rglob("_delta_log/*.json")]) <= 1, (
        "of Delta: it was made once"
    )


@pytest.mark.fast("delta")
def test_a_batch_of_many_parts_is_whole(table, spark, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "_PART", 10_000)
    rate = (
        spark.readStream.format("rate-micro-batch")
        .option("rowsPerBatch", 20_000)
        .load()
    )
    run(
        start(
            rate.select("value"),
            table.sink(),
            name="q",
            checkpoint=tmp_path / "c",
            once=True,
        )
    )
    assert found(table) == [(number,) for number in range(20_000)]


def test_without_the_extra(table, stream, tmp_path, monkeypatch):
    monkeypatch.setitem(
        sys.modules, {"Delta": "deltalake", "Iceberg": "pyiceberg"}[table.system], None
    )
    with pytest.raises(
        MissingExtraError,
        match=rf"pip install 'sparkstream-kit\[{table.system.lower()}\]'",
    ):
        finish(stream, table.sink(), tmp_path / "ckpt")


def test_a_way_to_write_that_there_is_not_is_one_line(table):
    assert "unknown way to write (how=) insert" in refusal(table.sink, how="insert")
    assert "how='upsert' and keys belong together" in refusal(table.sink, keys=["k"])


@pytest.mark.slow
def test_a_query_without_start_and_without_checkpoint(table, stream, tmp_path):
    writer = table.sink()(stream.writeStream).trigger(availableNow=True)
    writer.option(
        "checkpointLocation", str(tmp_path / "ckpt")
    ).start().awaitTermination()
    assert found(table) == CASES["append"][2]
    again = table.sink("again", how="replace", take_over=True)
    finish(totals(stream), again, None, "complete")
    finish(totals(stream), again, None, "complete")
    assert found(table, "again") == TOTALS
