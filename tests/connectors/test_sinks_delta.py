"""`sinks.delta` by delta-rs, without Spark's jars: every row once, whatever is stopped, and as it was."""

import datetime as dt
import json
import shlex
import shutil
import subprocess
import sys
import threading
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import environment, process, ran, refusal
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import functions as F
from support import sink_contract
from support.sink_streams import CASES, TOTALS, finish, forget_commit, refused, three_batches, totals

from sparkstream_kit import _files, feeds, run, sinks, sources, start
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.connectors import _arrow as arrow
from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors.delta import rust, writers
from sparkstream_kit.errors import MissingExtraError, QueryFailed
from sparkstream_kit.sinks.base import Target


@pytest.fixture
def stream(spark, folder):
    """Three batches of two rows: (a, 1), (b, 1); (a, 2), (c, 2); (b, 3), (c, 3)."""
    return three_batches(spark, folder)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def rows(out):
    """Return the rows that the table has, sorted."""
    files = [uri.removeprefix("file://") for uri in DeltaTable(out).file_uris()]
    parts = [pq.read_table(file).to_pylist() for file in files]
    return sorted(tuple(row.values()) for part in parts for row in part)


def table_target(*, take_over):
    where = Target("Delta table", "t")
    return _tables.Target(where=where, how="append", keys=(), merge_schema=False, take_over=take_over)


def history(out):
    """Return the batches in the table's history, in the order of its versions."""
    said = [commit.get("userMetadata") for commit in DeltaTable(out).history()]
    return [json.loads(each)["batch"] for each in reversed(said) if each]


@pytest.mark.fast("upsert")
@pytest.mark.parametrize("how", CASES)
def test_a_batch_that_comes_again_counts_once(stream, out, tmp_path, how):
    mode, more, expected = CASES[how]
    frame, checkpoint = stream if how == "append" else totals(stream), tmp_path / "ckpt"
    sink = sinks.delta(out, how=how, **more)
    finish(frame, sink, checkpoint, mode)
    assert rows(out) == expected
    forget_commit(checkpoint, 2)
    finish(frame, sink, checkpoint, mode)
    assert rows(out) == expected
    again = [2] if how == "replace" else []  # which is always written
    assert history(out) == [0, 1, 2, *again]
    # A stateful batch that is skipped must be read to its end all the same.
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    finish(frame, sink, checkpoint, mode)
    assert rows(out) == (sorted([*expected, ("a", 10)]) if how == "append" else [("a", 13), *TOTALS[1:]])
    assert history(out) == [0, 1, 2, *again, 3]


def test_a_crash_between_two_tables_leaves_both_exact(stream, out, tmp_path):
    crash = [1]

    def maybe(_, batch_id):
        if batch_id in crash:
            crash.remove(batch_id)
            raise ValueError("crash")

    both = sinks.fan_out(sinks.delta(out), sinks.foreach_batch(maybe), sinks.delta(tmp_path / "second"))
    with pytest.raises(QueryFailed):
        finish(stream, both, tmp_path / "ckpt")
    finish(stream, both, tmp_path / "ckpt")
    assert rows(out) == rows(tmp_path / "second") == CASES["append"][2]


@pytest.mark.fast("order")
@pytest.mark.parametrize("name", ["order", "a.b", 'a"b', "a'b", "a`b", "Käse"])
def test_a_key_may_have_any_name(stream, out, tmp_path, name):
    named = totals(stream).withColumnRenamed("k", name)
    finish(named, sinks.delta(out, how="upsert", keys=[name]), tmp_path / "ckpt", "update")
    assert rows(out) == TOTALS


@pytest.mark.fast("upsert")
@pytest.mark.parametrize("how", ["append", "upsert", "replace"])
def test_a_batch_without_rows_is_a_commit_without_files(stream, out, tmp_path, how):
    # Else the batch after it would be taken for one after a gap.
    mode, more, _ = CASES[how]
    frame = (stream if how == "append" else totals(stream)).where("k = 'c'")
    finish(frame, sinks.delta(out, how=how, **more), tmp_path / "ckpt", mode)
    assert history(out) == [0, 1, 2]
    assert rows(out) == ([("c", 2), ("c", 3)] if how == "append" else [("c", 5)])
    assert len(list(out.glob("*.parquet"))) == 2


def test_the_last_batch_is_known_after_a_checkpoint_of_the_table(stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    DeltaTable(out).alter.set_table_properties({"somebody": "else"}, raise_if_not_exists=False)
    DeltaTable(out).create_checkpoint()
    for commit in sorted((out / "_delta_log").glob("*.json"))[:-1]:  # Delta keeps the checkpoint's own
        commit.unlink()
    forget_commit(tmp_path / "ckpt", 2)
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    assert rows(out) == CASES["append"][2]


@pytest.mark.slow
def test_a_new_checkpoint_is_another_query(stream, out, tmp_path):
    # By a fixed name of the application, Delta would skip its batches 0 to 2 without a word.
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    line = refused(stream, sinks.delta(out), tmp_path / "other")
    assert f"Delta table {out} was written by another query (" in line
    assert ", up to its batch 2); start on that query's checkpoint, use another table, or give" in line
    finish(stream, sinks.delta(out, take_over=True), tmp_path / "other")
    assert len(rows(out)) == 12
    finish(stream, sinks.delta(out), tmp_path / "ckpt")  # both may go on
    forget_commit(tmp_path / "other", 2)
    finish(stream, sinks.delta(out), tmp_path / "other")
    assert len(rows(out)) == 12
    feeds.drip([("4.csv", "d,4\n")], tmp_path / "in")
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    finish(stream, sinks.delta(out), tmp_path / "other")  # its batch of the same number is another one
    assert rows(out)[-2:] == [("d", 4), ("d", 4)]


@pytest.mark.slow
def test_a_query_whose_rows_were_replaced_does_not_go_on(stream, out, tmp_path):
    finish(totals(stream), sinks.delta(out, how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    taken = sinks.delta(out, how="replace", take_over=True)
    finish(totals(stream.where("k = 'a'")), taken, tmp_path / "other", "complete")
    assert rows(out) == [("a", 3)]
    line = refused(totals(stream), sinks.delta(out, how="upsert", keys=["k"]), tmp_path / "ckpt", "update")
    assert "was written by another query" in line


def test_rows_of_somebody_else_are_kept(stream, out, tmp_path):
    write_deltalake(out, pa.table({"k": ["x"], "n": pa.array([1], pa.int32())}))
    line = refused(stream, sinks.delta(out), tmp_path / "ckpt")
    assert f"Delta table {out} has rows that no query of the kit has written; use another table" in line
    finish(stream, sinks.delta(out, take_over=True), tmp_path / "ckpt")
    assert len(rows(out)) == 7


def test_a_table_that_is_gone_is_not_begun_anew(stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    out.rename(tmp_path / "elsewhere")
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    assert "holds none of this query's batches" in refused(stream, sinks.delta(out), tmp_path / "ckpt")


def test_a_gap_is_said(stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    newest = max((out / "_delta_log").glob("*.json"))  # as in a backup from before the last batch
    newest.unlink()
    feeds.drip([("4.csv", "a,10\n")], tmp_path / "in")
    line = refused(stream, sinks.delta(out), tmp_path / "ckpt")
    assert f"batch 3 is next, but Delta table {out} holds this query's batches up to 1 only" in line
    assert f"run sparkstream checkpoint rewind {tmp_path / 'ckpt'} --to 1" in line


@pytest.mark.slow
def test_after_a_rewind_the_command_of_the_message_sets_the_table_back(stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    rewind(tmp_path / "ckpt", to=0, apply=True)
    line = refused(stream, sinks.delta(out), tmp_path / "ckpt")
    assert f"batch 1 is replayed, but Delta table {out} has all batches up to 2" in line
    table = DeltaTable(out)
    said = {each["version"]: each.get("userMetadata") for each in table.history()}
    table.restore(next(version for version, of in said.items() if of and json.loads(of)["batch"] == 0))
    _, *command = shlex.split(line.partition("then run ")[2])
    (tmp_path / "deltalake.py").write_text("raise ImportError('it need not be installed')")
    python_path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    done = subprocess.run([sys.executable, *command], env=environment(PYTHONPATH=python_path), check=False)
    assert done.returncode == 0
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    assert rows(out) == CASES["append"][2]


@pytest.mark.slow
@pytest.mark.classic_only("the server has its own file systems")
def test_a_table_on_another_file_system_is_set_back_too(stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    before = DeltaTable(out)
    query = json.loads(before.history(1)[0]["userMetadata"])["query"]
    (tmp_path / "core-site.xml").write_text(  # Hadoop's own view of it, which is no local path
        "<configuration><property><name>fs.viewfs.mounttable.far.link./out</name>"
        f"<value>file://{out}</value></property></configuration>"
    )
    command = rust.RustTable("viewfs://far/out").set_back(query, 0)
    done = process(
        [sys.executable, *shlex.split(command)[2:]], env=environment(HADOOP_CONF_DIR=str(tmp_path))
    )
    assert done.returncode == 0, done.stderr
    after = DeltaTable(out)
    assert after.version() == before.version() + 1
    assert (
        after.transaction_version(writers.application(query)),
        before.transaction_version(writers.application(query)),
    ) == (0, 2)


def test_set_back_takes_no_commit_of_another_writer(stream, out, tmp_path, monkeypatch):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    newest = max((out / "_delta_log").glob("*.json"))
    other = newest.with_name(f"{int(newest.stem) + 1:020}.json")
    write = _files.replace

    def written_late(target, parts):
        other.write_text("theirs")
        write(target, parts)

    monkeypatch.setattr(_files, "replace", written_late)  # it has looked for the newest commit by then
    assert "another writer has just committed" in refusal(writers.set_back, str(out), "q", 1)
    assert other.read_text() == "theirs"
    assert not list((out / "_delta_log").glob(".*.tmp"))
    assert "is no Delta table; give the folder of one" in refusal(writers.set_back, str(tmp_path), "q", 1)


@pytest.mark.slow
def test_a_column_more_is_added_only_when_asked(spark, stream, out, tmp_path):
    finish(stream, sinks.delta(out), tmp_path / "ckpt")
    feeds.drip([("4.csv", "d,4\n")], tmp_path / "in")
    wider = stream.withColumn("twice", F.col("n") * 2)
    line = refused(wider, sinks.delta(out), tmp_path / "ckpt")
    assert f"Delta table {out} has no column twice; give merge_schema=True to add it" in line
    finish(wider, sinks.delta(out, merge_schema=True), tmp_path / "ckpt")
    assert DeltaTable(out).schema().to_arrow().names == ["k", "n", "twice"]
    assert ("d", 4, 8) in rows(out)
    feeds.drip([("5.csv", "e,5\n")], tmp_path / "in")
    finish(stream.select("n", "k"), sinks.delta(out), tmp_path / "ckpt")  # a column less is null
    assert ("e", 5, None) in rows(out)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"k": "k", "n": "CAST(n AS BIGINT)"}, "column n is bigint, and int in Delta table"),
        ({"K": "k", "n": "n"}, "column K is called k in Delta table"),
        ({"count(1)": "n"}, "column count(1): Delta allows no '(' in a name; rename it"),
        ({"k": "k", "K": "n"}, "columns k and K: Delta sees no case; rename one"),
        ({"k": "k", "wait": "INTERVAL '1' DAY"}, "column wait has the type interval day, which Delta cannot"),
        ({"k": "k", "none": "array(null)"}, "column none has the type void, which Delta cannot hold"),
    ],
)
def test_columns_that_do_not_fit_are_refused(stream, out, tmp_path, columns, said):
    DeltaTable.create(out, pa.schema({"k": pa.string(), "n": pa.int32()}))
    frame = stream.selectExpr(*(f"{column} AS `{name}`" for name, column in columns.items()))
    assert said in refused(frame, sinks.delta(out), tmp_path / "ckpt")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("IF(n = 3, NULL, k)", "key key is null; fill it"),
        ("'one'", "key key is the same in two rows; use"),
    ],
)
def test_keys_that_do_not_tell_rows_apart(stream, out, tmp_path, key, said):
    frame = stream.selectExpr(f"{key} AS key", "n")
    assert said in refused(frame, sinks.delta(out, how="upsert", keys=["key"]), tmp_path / "ckpt", "update")


def test_values_of_every_type_come_back(spark, folder, out, tmp_path):
    (folder / "1.txt").write_text("1\n")
    (folder / "2.txt").write_text("2\n")
    frame = sources.text(spark, folder, max_files_per_trigger=1).selectExpr(
        "value AS key",
        "'ü\\u0000' AS `naïve.name`",
        "CAST(1.50 AS DECIMAL(12,2)) AS price",
        "TIMESTAMP '2026-01-31 12:00:00.123456' AS at",
        "TIMESTAMP_NTZ '0001-01-01 00:00:00' AS local",
        "DATE '9999-12-31' AS day",
        "X'00ff' AS raw",
        "array(named_struct('x', 1, 'y', array(2.5F))) AS nested",
        "map('m', CAST(NULL AS SMALLINT)) AS mapped",
        "CAST('NaN' AS DOUBLE) AS nan",
        "CAST(NULL AS BOOLEAN) AS nothing",
    )
    sink = sinks.delta(out, how="upsert", keys=["key", "naïve.name"])
    finish(frame, sink, tmp_path / "ckpt", "update")
    finish(frame, sinks.delta(tmp_path / "appended"), tmp_path / "ckpt2")
    for table in (out, tmp_path / "appended"):
        files = [uri.removeprefix("file://") for uri in DeltaTable(table).file_uris()]
        found = sorted((row for file in files for row in pq.read_table(file).to_pylist()), key=str)
        assert len(found) == 2
        assert str(found[0].pop("nan")) == "nan"
        assert found[0] == {
            "key": "1",
            "naïve.name": "ü\0",
            "price": Decimal("1.50"),
            "at": dt.datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=dt.UTC),
            "local": dt.datetime(1, 1, 1),  # noqa: DTZ001 - Spark's timestamp without a zone
            "day": dt.date(9999, 12, 31),
            "raw": b"\x00\xff",
            "nested": [{"x": 1, "y": [2.5]}],
            "mapped": [("m", None)],
            "nothing": None,
        }


def test_two_queries_may_make_one_table_at_once(spark, stream, out, tmp_path):
    target = table_target(take_over=True)
    errors: list[Exception] = []
    together = threading.Barrier(4)

    def first():
        together.wait()
        try:
            _tables.prepare(target, rust.RustTable(str(out)), stream.schema, None)
        except Exception as err:  # noqa: BLE001 - whatever it is
            errors.append(err)

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert DeltaTable(out).version() == 0


def test_a_query_that_comes_between_is_found(stream, out, tmp_path):
    # Both have looked at an empty table; who owns it is a commit that only one can make.
    target = table_target(take_over=False)
    _tables.prepare(target, rust.RustTable(str(out)), stream.schema, None)
    one, two = rust.RustTable(str(out)), rust.RustTable(str(out))
    assert one.properties() == two.properties() == {}
    one.note({_tables.OWNERS: "one"})
    with pytest.raises(_tables.ConflictError):
        two.note({_tables.OWNERS: "two"})


def test_a_batch_of_many_parts_is_whole(spark, out, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "_PART", 10_000)
    rate = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 20_000).load()
    finish_one = start(rate.select("value"), sinks.delta(out), name="q", checkpoint=tmp_path / "c", once=True)
    run(finish_one)
    assert rows(out) == [(number,) for number in range(20_000)]


@pytest.mark.slow
def test_a_query_without_start_and_without_checkpoint(stream, out, tmp_path):
    writer = sinks.delta(out)(stream.writeStream).trigger(availableNow=True)
    writer.option("checkpointLocation", str(tmp_path / "ckpt")).start().awaitTermination()
    assert rows(out) == CASES["append"][2]
    finish(totals(stream), sinks.delta(tmp_path / "again", how="replace"), None, "complete")
    finish(totals(stream), sinks.delta(tmp_path / "again", how="replace", take_over=True), None, "complete")
    assert rows(tmp_path / "again") == TOTALS


def test_a_folder_of_something_else_is_left_alone(stream, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    assert f"{other} is no Delta table, but not empty" in refused(
        stream, sinks.delta(other), tmp_path / "ckpt"
    )
    assert not (other / "_delta_log").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give a path or a table of the catalog"),
        ({"path": "t", "table": "t"}, "give a path or a table of the catalog"),
        ({"path": "t", "how": "insert"}, "unknown way to write (how=) insert"),
        ({"path": "t", "writer": "rust"}, "unknown writer rust"),
        ({"path": "t", "keys": ["k"]}, "how='upsert' and keys belong together"),
        ({"table": "t", "writer": "delta-rs"}, "delta-rs knows no catalog"),
    ],
)
def test_arguments_that_cannot_be(arguments, said):
    assert said in refusal(sinks.delta, **arguments)


def test_what_the_session_cannot_do_is_said_at_the_start(stream, tmp_path):
    for sink, said in (
        (sinks.delta("out", writer="spark"), "writer='spark' needs a session with Delta's extension"),
        (
            sinks.delta(table="t"),
            "table t is in the catalog, which needs get_session(…, connectors=['delta'])",
        ),
        (sinks.delta("s3a://bucket/t"), "delta-rs writes to local folders alone"),
        (sinks.delta("out", how="upsert", keys=["x"]), "unknown key x"),
    ):
        assert said in refused(stream, sink, tmp_path / "ckpt", sink.modes[0])


def test_the_source_says_what_the_session_lacks(spark, tmp_path):
    assert "Spark has no connector delta; launch with" in refusal(sources.delta, spark, tmp_path)


def test_without_the_extra(stream, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sparkstream-kit\[delta\]'"):
        finish(stream, sinks.delta(tmp_path / "t"), tmp_path / "ckpt")


def test_sparks_writer_and_the_source_need_no_delta_rs():
    code = "import sys; sys.modules['deltalake'] = None\n"
    code += "import sparkstream_kit.connectors.delta{} as m; print(m)"
    for name in (".source", ".sink", ".writers"):
        ran(code.format(name))


def test_its_manners_are_those_of_every_sink(spark, out, tmp_path):
    sink_contract.manners("delta", spark, sinks.delta(out), tmp_path / "ckpt")
