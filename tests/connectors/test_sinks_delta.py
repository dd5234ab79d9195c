"""`sinks.delta` by delta-rs, without Spark's jars.

What holds for Iceberg too is in test_tables.py.
"""

import json
import shlex
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import environment, process, ran, refusal
from deltalake import DeltaTable, Field, Schema, write_deltalake
from deltalake.schema import PrimitiveType
from pyspark.sql import functions as F
from support import sink_contract
from support.sink_streams import (
    CASES,
    TOTALS,
    finish,
    forget_commit,
    refused,
    table_target,
    totals,
)

from sparkstream_kit import feeds, sinks, sources
from sparkstream_kit._internal import file_system
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors.delta import rust, writers
from sparkstream_kit.errors import KitError
from sparkstream_kit.sinks.ledger import Batch


def rows(out):
    """Return the rows that the table has, sorted."""
    files = [uri.removeprefix("file://") for uri in DeltaTable(out).file_uris()]
    parts = [pq.read_table(file).to_pylist() for file in files]
    return sorted(tuple(row.values()) for part in parts for row in part)


@pytest.mark.slow
def test_keys_may_have_any_names(stream, out, tmp_path):
    names = ["order", "a.b", 'a"b', "a'b", "a`b", "Käse"]
    named = totals(stream).select(*(F.col("k").alias(name) for name in names), "total")
    finish(
        named, sinks.delta(out, how="upsert", keys=names), tmp_path / "ckpt", "update"
    )
    assert rows(out) == [(*[key] * len(names), total) for key, total in TOTALS]


@pytest.mark.slow
def test_after_a_rewind_the_command_of_the_message_sets_the_table_back(
    stream, out, tmp_path
):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    rewind(tmp_path / "ckpt", to=0, apply=True)
    line = refused(stream, sinks.delta(out), tmp_path / "ckpt")
    assert f"batch 1 is replayed, but Delta table {out} has all batches up to 2" in line
    table = DeltaTable(out)
    said = {each["version"]: each.get("userMetadata") for each in table.history()}
    table.restore(
        next(
            version
            for version, of in said.items()
            if of and json.loads(of)["batch"] == 0
        )
    )
    _, *command = shlex.split(line.partition("then run ")[2])
    (tmp_path / "deltalake.py").write_text(
        "raise ImportError('it need not be installed')"
    )
    python_path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, *command], env=environment(PYTHONPATH=python_path), check=False
    )
    assert done.returncode == 0
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    assert rows(out) == CASES["append"][2]


@pytest.mark.slow
@pytest.mark.classic_only("the server has its own file systems")
def test_a_table_on_another_file_system_is_set_back_too(stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    before = DeltaTable(out)
    query = json.loads(before.history(1)[0]["userMetadata"])["query"]
    # Hadoop's own view of it, which is no local path
    (tmp_path / "core-site.xml").write_text(
        "<configuration><property><name>fs.viewfs.mounttable.far.link./out</name>"
        f"<value>file://{out}</value></property></configuration>"
    )
    command = rust.RustTable("viewfs://far/out").set_back_command(query, 0)
    env = environment(HADOOP_CONF_DIR=str(tmp_path))
    done = process([sys.executable, *shlex.split(command)[2:]], env=env)
    assert done.returncode == 0, done.stderr
    after = DeltaTable(out)
    assert after.version() == before.version() + 1
    assert [
        table.transaction_version(writers.application(query))
        for table in (before, after)
    ] == [2, 0]


@pytest.mark.slow
def test_set_back_takes_no_commit_of_another_writer(stream, out, tmp_path, monkeypatch):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    newest = max((out / "_delta_log").glob("*.json"))
    other = newest.with_name(f"{int(newest.stem) + 1:020}.json")
    write = file_system.replace

    def written_late(target, parts):
        other.write_text("theirs")
        write(target, parts)

    # It has looked for the newest commit by then
    monkeypatch.setattr(file_system, "replace", written_late)
    assert "another writer has just committed" in refusal(
        writers.set_back, str(out), "q", 1
    )
    assert other.read_text() == "theirs"
    assert not list((out / "_delta_log").glob(".*.tmp"))
    assert "is no Delta table; give the folder of one" in refusal(
        writers.set_back, str(tmp_path), "q", 1
    )


def test_what_cannot_be_is_said(stream, tmp_path):
    (other := tmp_path / "other").mkdir()
    (other / "file").touch()
    for arguments, said in (
        ({}, "give a path or a table of the catalog"),
        ({"path": "t", "table": "t"}, "give a path or a table of the catalog"),
        ({"path": "t", "writer": "rust"}, "unknown writer rust"),
        ({"table": "t", "writer": "delta-rs"}, "delta-rs knows no catalog"),
    ):
        assert said in refusal(sinks.delta, **arguments)
    for sink, said in (
        (
            sinks.delta("out", writer="spark"),
            "writer='spark' needs a session with Delta's extension",
        ),
        (
            sinks.delta(table="t"),
            "table t is in the catalog, which needs get_session(…, connectors=['delta",
        ),
        (sinks.delta("s3a://bucket/t"), "delta-rs writes to local folders alone"),
        (sinks.delta("out", how="upsert", keys=["x"]), "unknown key x"),
        (sinks.delta(other), f"{other} is no Delta table, but not empty"),
    ):
        assert said in refused(stream, sink, tmp_path / "ckpt", sink.modes[0])
    assert [each.name for each in other.iterdir()] == ["file"]
    (log := tmp_path / "torn" / "_delta_log").mkdir(parents=True)
    (log / f"{0:020}.json").write_text("theirs")
    # A frame of Rust's stack
    with pytest.raises(KitError, match="^(?!.*start_thread)"):
        finish(stream, sinks.delta(log.parent), tmp_path / "ckpt")
    with (
        pytest.raises(KitError, match="^Delta table t: No space$"),
        rust._in_one_line("t"),  # noqa: SLF001
    ):
        raise OSError("\x1b[31mNo\n  space\n   0: rust")
    line = refused(
        stream.selectExpr("n AS `count(1)`"),
        sinks.delta(tmp_path / "out"),
        tmp_path / "ckpt",
    )
    assert "column count(1): Delta allows no '(' in a name; rename it" in line


def test_a_table_that_delta_rs_cannot_write_is_refused_at_the_start(spark, tmp_path):
    field, frame = (
        Field("k", PrimitiveType("string")),
        spark.createDataFrame([("a",)], "k STRING"),
    )
    for name, said, how in (
        (
            "columnMapping.mode=name",
            "has column mapping, with which delta-rs cannot add rows; use",
            "append",
        ),
        (
            "appendOnly=true",
            "takes appends alone (delta.appendOnly), and how='upsert' changes rows",
            "upsert",
        ),
        (
            "appendOnly=true",
            "takes appends alone (delta.appendOnly), and how='replace'",
            "replace",
        ),
    ):
        key, _, value = name.partition("=")
        place = str(tmp_path / f"{key}-{how}")
        DeltaTable.create(place, Schema([field]), configuration={f"delta.{key}": value})
        keys = ("k",) if how == "upsert" else ()
        target = replace(
            table_target(),
            how=how,
            keys=keys,
            open_table=lambda _, place=place: rust.RustTable(place),
        )
        assert said in refusal(target.prepare, frame, None, None, True)
        assert DeltaTable(place).version() == 0


@pytest.mark.slow
def test_partitions_that_cannot_be_read_again_are_refused(spark, tmp_path):
    types = ("binary", "decimal(9,2)", "double", "float", "string")
    for number, kind in enumerate(types):
        place = str(tmp_path / f"t{number}")
        fields = [Field("k", PrimitiveType("string")), Field("p", PrimitiveType(kind))]
        DeltaTable.create(place, Schema(fields), partition_by=["p"])
        target = replace(
            table_target(), open_table=lambda _, place=place: rust.RustTable(place)
        )
        frame = spark.createDataFrame([], f"k STRING, p {kind}")
        if kind != "string":
            said = refusal(target.prepare, frame, None, None, True)
            assert (
                f"is partitioned by p, a {kind}, of which delta-rs makes no partitions"
                " that can be" in said
            )
    target.prepare(frame, None, None, True)
    for text in ("", "__HIVE_DEFAULT_PARTITION__"):
        given = spark.createDataFrame([("a", "x"), ("b", text)], "k STRING, p STRING")
        line = refusal(target.write, Batch("q", 0, driver="d"), given)
        assert (
            "batch 0: column p, by which table t is partitioned, has a text that Delta"
            " reads as NULL" in line
        )
    kept = given.selectExpr("k", "IF(k = 'b', NULL, 'Käse/1 %') AS p")
    target.write(Batch("q", 0, driver="d"), kept)
    assert sorted(map(str, target.rows(spark).collect())) == sorted(
        map(str, kept.collect())
    )


def test_a_column_that_the_table_computes_may_be_missing(spark, tmp_path):
    computed = {"delta.generationExpression": "upper(k)"}
    fields = [
        Field("k", PrimitiveType("string")),
        Field("g", PrimitiveType("string"), nullable=False, metadata=computed),
    ]
    DeltaTable.create(str(tmp_path / "t"), Schema(fields))
    target = replace(
        table_target(), open_table=lambda _: rust.RustTable(str(tmp_path / "t"))
    )
    frame = spark.createDataFrame([("a",)], "k STRING")
    target.prepare(frame, None, None, True)
    target.write(Batch("q", 0, driver="d"), frame)
    assert rows(tmp_path / "t") == [("a", "A")]


def test_a_row_that_breaks_a_constraint_names_it(spark, tmp_path):
    write_deltalake(
        tmp_path / "t", pa.table({"k": ["x"], "n": pa.array([1], pa.int32())})
    )
    DeltaTable(tmp_path / "t").alter.add_constraint({"positive": "n > 0"})
    target = replace(
        table_target(take_over=True),
        open_table=lambda _: rust.RustTable(str(tmp_path / "t")),
    )
    frame = spark.createDataFrame([("a", -1)], "k STRING, n INT")
    target.prepare(frame, None, None, True)
    with pytest.raises(
        KitError, match=r"a row breaks a rule of the table \(positive: n > 0\)"
    ):
        target.write(Batch("q", 0, driver="d"), frame)


def test_the_source_says_what_the_session_lacks(spark, tmp_path):
    assert "Spark has no connector delta; launch with" in refusal(
        sources.delta, spark, tmp_path
    )


@pytest.mark.slow
def test_sparks_writer_and_the_source_need_no_delta_rs():
    code = "import sys; sys.modules['deltalake'] = None\n"
    code += "import sparkstream_kit.connectors.delta{} as m; print(m)"
    for name in (".source", ".sink", ".writers"):
        ran(code.format(name))


def test_its_manners_are_those_of_every_sink(spark, out, tmp_path):
    sink_contract.manners("delta", spark, sinks.delta(out), tmp_path / "ckpt")


@pytest.mark.slow
def test_a_gap_is_said(stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    # As in a backup from before the last batch
    newest = max((out / "_delta_log").glob("*.json"))
    newest.unlink()
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    line = refused(stream, sinks.delta(out), tmp_path / "ckpt")
    assert (
        f"batch 3 is next, but Delta table {out} holds this query's batches up to 1"
        " only" in line
    )
    assert f"run sparkstream checkpoint rewind {tmp_path / 'ckpt'} --to 1" in line


def test_a_query_that_comes_between_is_found(stream, out, tmp_path):
    # Both have looked at an empty table; who owns it is a commit that only one can
    # make.
    target = table_target()
    _tables.prepare(target, rust.RustTable(str(out)), stream.schema, None)
    one, two = rust.RustTable(str(out)), rust.RustTable(str(out))
    assert one.properties() == two.properties() == {}
    one.note({_tables.OWNERS: "one"})
    with pytest.raises(_tables.ConflictError):
        two.note({_tables.OWNERS: "two"})


@pytest.mark.slow
def test_the_last_batch_is_known_after_a_checkpoint_of_the_table(stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    DeltaTable(out).alter.set_table_properties(
        {"somebody": "else"}, raise_if_not_exists=False
    )
    DeltaTable(out).create_checkpoint()
    # Delta keeps the checkpoint's own
    for commit in sorted((out / "_delta_log").glob("*.json"))[:-1]:
        commit.unlink()
    forget_commit(tmp_path / "ckpt", 2)
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    assert rows(out) == CASES["append"][2]
