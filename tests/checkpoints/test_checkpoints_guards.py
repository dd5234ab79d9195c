"""What `start` refuses, and says, when it is given a checkpoint."""

import json
import re
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from conftest import pretend_master, ran, refusal
from pyspark.sql import functions as F
from pyspark.sql.streaming.stateful_processor import StatefulProcessor

from sparkstream_kit import checkpoints, feeds, queries, run, sinks, sources, start
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints import guard as guards
from sparkstream_kit.checkpoints import logs
from sparkstream_kit.checkpoints.lock import Lock
from sparkstream_kit.connectors.kafka import brokers
from sparkstream_kit.errors import DryRun, InvalidInputError, QueryFailed
from sparkstream_kit.profiles import STATE_STORE, read_profile


@pytest.fixture
def total(spark, folder, finish):
    """Add a file with one row, and total the folder by a key from the checkpoint `ckpt`."""
    files = iter(range(10))

    def total_by(key, mode="complete", **options):
        feeds.drip(
            [(f"{next(files)}.json", '{"State":"CA","ProductKey":"tea","n":1}\n')],
            folder,
        )
        rows = sources.json(
            spark, str(folder), schema="State STRING, ProductKey STRING, n INT"
        )
        found: dict[Any, int] = {}

        def keep(batch, _batch_id):
            found.update({row[0]: row[1] for row in batch.collect()})

        totals = rows.groupBy(key).agg(F.sum("n"))
        finish(totals, sinks.foreach_batch(keep), mode, name="totals", **options)
        return found

    return total_by


def guarded_by(frame, place, name, mode="append"):
    return guards.guard(
        guards.StartingQuery(frame, name, mode, allow_changed=False, moved={}), place
    )


def released(frame, place, mode="append"):
    """Have a checkpoint guarded, and its lock released; the logs that were looked at."""
    with guarded_by(frame, place, "guarded", mode) as guarded:
        assert guarded.lock is not None
    guarded.lock.release()
    return guarded.logs


def applied(frame):
    # In here, for Spark's workers to get it whole: they cannot import tests
    class Keeps(StatefulProcessor):
        def init(self, handle):
            pass

        def handleInputRows(self, key, rows, timer_values):
            return iter(())

    return frame.groupBy("value").transformWithStateInPandas(
        Keeps(), "value LONG", "Update", "None"
    )


def noted(checkpoint):
    note = checkpoint / "sparkstream-kit" / "query.json"
    [file] = note.glob("part-*") if note.is_dir() else [note]
    return dict(json.loads(file.read_text()))


@pytest.mark.slow
def test_a_checkpoint_belongs_to_the_query_whose_name_it_has(
    spark, folder, finish, tmp_path
):
    """Also where neither query keeps state, and whatever the second one writes to."""
    feeds.drip([("1.txt", "tea\n")], folder)
    rows = sources.text(spark, folder)
    sink = sinks.foreach_batch(lambda *_: None)
    others = [
        sink,
        sinks.console(),
        sinks.batch_files(tmp_path / "out"),
        sinks.files(tmp_path / "files"),
    ]
    finish(rows, sink, "append", name="a")
    says = (
        f"checkpoint {tmp_path}/ckpt belongs to query a: query b would read only the"
        " input that a has not read yet. Give b a checkpoint of its own; or, if it is"
        " a under a new name, give allow_changed_query=True once"
    )
    for other in others:
        for dry_run in (True, False):
            assert (
                refusal(finish, rows, other, "append", name="b", dry_run=dry_run)
                == says
            )
    assert {file.name for file in tmp_path.iterdir()} == {"in", "ckpt"}
    totals = rows.groupBy("value").count()
    changed = refusal(finish, totals, sink, "update", name="b")
    assert (
        "has not read yet. b groups by value; the checkpoint's query does not"
        in changed
    )
    finish(rows, sink, "append", name="a")
    finish(rows, sink, "append", name="b", allow_changed_query=True)
    finish(rows, sink, "append", name="b")
    assert "belongs to query b: query a would" in refusal(
        finish, rows, sink, "append", name="a"
    )


def test_a_name_that_is_not_noted_is_noted_at_the_next_start(
    spark, folder, finish, tmp_path
):
    feeds.drip([("1.txt", "tea\n")], folder)
    rows = sources.text(spark, folder)
    sink = sinks.foreach_batch(lambda *_: None)
    finish(rows, sink, "append", name="a")
    note = tmp_path / "ckpt/sparkstream-kit/query.json"
    note.write_text(
        json.dumps(
            {
                key: value
                for key, value in noted(tmp_path / "ckpt").items()
                if key != "name"
            }
        )
    )
    finish(rows, sink, "append", name="b")
    assert noted(tmp_path / "ckpt")["name"] == "b"
    assert "belongs to query b" in refusal(finish, rows, sink, "append", name="a")


@pytest.mark.slow
def test_a_query_that_could_not_start_has_not_changed_whose_checkpoint_it_is(
    spark, total, folder, tmp_path
):
    total("State")
    before = noted(tmp_path / "ckpt")
    other = sources.text(spark, str(folder)).groupBy("value").count()

    def unreachable(_frame, _location, _opening):
        raise InvalidInputError("the database cannot be reached")

    sink = sinks.BatchSink(
        kind="mine", modes=("update",), promise="none", open=unreachable
    )
    with pytest.raises(InvalidInputError, match="cannot be reached"):
        start(
            other,
            sink,
            name="other",
            mode="update",
            checkpoint=tmp_path / "ckpt",
            allow_changed_query=True,
        )
    assert noted(tmp_path / "ckpt") == before
    assert total("State") == {"CA": 2}


@pytest.mark.slow
def test_a_changed_query_that_spark_refuses_does_not_become_the_owner(
    spark, folder, finish, tmp_path
):
    def total(*keys, **options):
        feeds.drip(
            [(f"{len(list(folder.iterdir()))}.json", '{"k":"CA","n":1}\n')], folder
        )
        rows = sources.json(spark, folder, schema="k STRING, n INT")
        finish(
            rows.groupBy(*keys).count(), sinks.latest("owned"), "complete", **options
        )
        return spark.table("owned").first()["count"]

    assert total("k") == 1
    with pytest.raises(
        QueryFailed, match="the state has other columns or types; start on"
    ):
        total("k", "n", allow_changed_query=True)
    assert "written by a different query" in refusal(total, "k", "n")
    assert total("k") == 4  # two files came meanwhile
    assert "before" not in noted(tmp_path / "ckpt")
    assert total("k") == 5


@pytest.mark.slow
def test_another_number_of_sources_is_refused(spark, folder, finish, tmp_path):
    feeds.drip([("1.txt", "tea\n")], folder)
    one, other = (
        sources.text(spark, folder),
        sources.text(spark, folder, wholetext=True),
    )
    twice = one.union(other)
    finish(twice, mode="append")
    says = (
        f"checkpoint {tmp_path}/ckpt is of a query with 2 sources, and query q has 1,"
        " with which "
    )
    for options in ({}, {"allow_changed_query": True}):
        assert refusal(finish, one, mode="append", **options).startswith(says)
    finish(twice, mode="append")
    finish(one.union(one), mode="append", checkpoint=tmp_path / "same")
    finish(one.union(one), mode="append", checkpoint=tmp_path / "same")


@pytest.mark.fast("in/ckpt-lies in the input folder")
@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        ("in", "is the input folder"),
        ("in/ckpt", "lies in the input folder"),
        ("out", "is the output folder"),
        ("out/ckpt", "lies in the output folder"),
    ],
)
def test_a_checkpoint_is_not_among_rows(checkpoint, says, spark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    feeds.drip([("1.txt", "tea\n")], "in")
    begin = partial(
        start,
        sources.text(spark, "in"),
        sinks.batch_files("out"),
        name="q",
        availableNow=True,
    )
    found = f"query q has checkpoint {tmp_path}/{checkpoint}, which {says} "
    assert refusal(begin, checkpoint=checkpoint).startswith(found)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "1.txt"]
    run(begin(checkpoint="out/_ckpt"))
    assert len(spark.read.parquet(f"{tmp_path}/out").collect()) == 1


def test_a_checkpoint_is_not_where_a_pattern_would_read_it(spark, tmp_path):
    feeds.drip([("1.txt", "tea\n")], tmp_path / "in/a")
    begin = partial(
        start,
        sources.text(spark, f"{tmp_path}/in/*"),
        sinks.console(),
        name="q",
        availableNow=True,
    )
    for name in ("_ckpt", "ckpt"):
        assert f"which lies in the input folder {tmp_path}/in/*" in refusal(
            begin, checkpoint=tmp_path / "in" / name
        )
    run(begin(checkpoint=tmp_path / "in/a/_ckpt"))


@pytest.mark.slow
def test_a_checkpoint_from_before_the_kit_is_adopted_and_that_is_said(
    total, tmp_path, caplog
):
    total("State")
    shutil.rmtree(tmp_path / "ckpt" / "sparkstream-kit")
    assert total("State") == {"CA": 2}
    (said,) = caplog.messages
    assert said.startswith(
        f"checkpoint {tmp_path}/ckpt was not written by sparkstream-kit; assuming it"
        " belongs to query totals."
    )
    assert "written by a different query" in refusal(total, "ProductKey")


@pytest.mark.slow
@pytest.mark.connect
def test_what_a_source_checks_of_a_column_is_no_part_of_the_state(
    spark, folder, tmp_path
):
    """The way out that the check of a text names, `encoding=`, leads to no other refusal."""
    feeds.drip([("1.csv", "tea,1\n")], folder)
    how: dict[str, Any] = {"mode": "complete", "availableNow": True}
    ways: list[dict[str, Any]] = [
        {},
        {"encoding": "ISO-8859-1"},
        {"locale": "de-DE"},
        {},
    ]
    for number, options in enumerate(ways):
        rows = sources.csv(
            spark, folder, schema="product STRING, n DECIMAL(9,2)", **options
        )
        totals = rows.groupBy("product").agg(F.sum("n").alias("n"))
        run(
            start(
                totals,
                sinks.latest("checked"),
                name="checked",
                checkpoint=tmp_path / "ckpt",
                **how,
            )
        )
        feeds.drip([(f"{number + 2}.csv", "tea,1\n")], folder)
        assert spark.table("checked").first().n == number + 1


def test_a_checkpoint_without_a_batch_is_anyones(spark, folder, tmp_path):
    rows = sources.text(spark, str(folder))
    for frame in (
        rows.groupBy("value").count(),
        rows.groupBy(F.upper("value")).count(),
    ):
        released(frame, locate(spark, tmp_path / "ckpt"), "update")


def half_written(checkpoint):
    """Leave what a query leaves that is killed while it writes the plan of its first batch."""
    for part in ("offsets", "commits", "state"):
        (checkpoint / part).mkdir(parents=True)
        left = checkpoint / part / ".0.8a3c6f1e-5d0c-4b57-9a53-2f0f7d1f2c11.tmp"
        left.write_text("v1\n")
        left.with_name(f".{left.name}.crc").write_bytes(b"crc\0")


def test_a_query_killed_before_its_first_batch_was_planned_starts_again(
    total, tmp_path
):
    half_written(tmp_path / "ckpt")
    with pytest.raises(DryRun):
        total("State", dry_run=True)
    assert len(list((tmp_path / "ckpt" / "offsets").iterdir())) == 2
    assert total("State") == {"CA": 2}
    assert not list((tmp_path / "ckpt").rglob(".0.*.tmp*"))


@pytest.mark.slow
def test_the_same_query_goes_on_and_settings_that_are_overruled_are_said(
    spark, total, tmp_path, caplog
):
    assert [total("State"), total("State", mode="update"), total("State")] == [
        {"CA": n} for n in (1, 2, 3)
    ]
    assert caplog.messages == []
    rocks = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    changed = {
        "spark.sql.shuffle.partitions": "3",
        "spark.sql.streaming.stateStore.providerClass": rocks,
    }
    with in_force(spark, changed):
        total("State")
    partitions, store = caplog.messages
    stored = f"stored in checkpoint {tmp_path}/ckpt"
    assert (
        partitions
        == f"query totals uses the number of state partitions {stored} (1); your"
        " setting spark.sql.shuffle.partitions=3 has no effect. Start from a new"
        " checkpoint to change it."
    )
    assert store.startswith(
        f"query totals uses the state store {stored}"
        f" ({rocks.replace('RocksDB', 'HDFSBacked')}); "
    )


@pytest.mark.slow
def test_complete_mode_after_one_that_dropped_state_is_refused(spark, folder, finish):
    #   update    [00:00, 00:01) ── the watermark passes, dropped     [00:05, 00:06)
    #   complete  would show the second window alone
    feeds.drip(
        [
            (
                "1.json",
                '{"time":"2024-01-01T00:00:10"}\n{"time":"2024-01-01T00:05:00"}\n',
            )
        ],
        folder,
    )
    rows = sources.json(spark, str(folder), schema="time TIMESTAMP").withWatermark(
        "time", "10 seconds"
    )
    counts = rows.groupBy(F.window("time", "1 minute")).count()
    finish(counts)
    with pytest.raises(
        InvalidInputError,
        match="has mode complete; mode update has dropped from the state",
    ):
        finish(counts, mode="complete")
    finish(counts, mode="append")


@pytest.fixture
def far(spark, tmp_path, hadoop):
    """A session, a checkpoint on a path that is not local to it, and where its files are."""
    (tmp_path / "far").mkdir()
    host = f"kit{uuid.uuid4().hex}"  # Hadoop keeps a file system by its host
    hadoop.set(f"fs.viewfs.mounttable.{host}.link./far", (tmp_path / "far").as_uri())
    return (
        spark.newSession(),
        f"viewfs://{host}/far/my [1] ckpt",
        tmp_path / "far" / "my [1] ckpt",
    )


@pytest.mark.slow
def test_damage_on_another_file_system_is_one_line(far, folder, finish):
    spark, checkpoint, files = far

    def count(read=folder, **options):
        rows = sources.text(spark, str(read)).groupBy("value").count()
        return (
            finish(rows, name="far", checkpoint=checkpoint, **options)
            .queries[0]
            .batches
        )

    half_written(files)
    feeds.drip([("0.txt", "a\n")], folder)
    assert count() == 1
    assert noted(files)["name"] == "far"
    moved = folder.parent / "moved"
    folder.rename(moved)
    with pytest.raises(
        InvalidInputError,
        match="is not on a local path, where the names of the files that",
    ):
        count(moved, moved={folder: moved})
    moved.rename(folder)
    feeds.drip([("1.txt", "a\n")], folder)
    assert count() == 1
    plan = files / "offsets/1"
    whole = plan.read_bytes()
    plan.with_name(".1.crc").unlink()
    for wrong in (
        b"",
        b"v1",
        b"v1\n",
        whole[:100],
        b"v1\n[]\n5",
        whole[:50] + b"\xff" + whole[51:],
    ):
        plan.write_bytes(wrong)
        said = refusal(count)
        what = "is cut off or changed" if wrong else "is empty"
        assert said.startswith(
            f"checkpoint {checkpoint} is damaged: offsets/1 {what}; restore it"
        )
    plan.write_bytes(whole)
    [part] = (files / "sparkstream-kit/query.json").glob("part-*")
    note = part.read_bytes()
    for wrong in (
        b"{}",
        b"[]",
        note[:-10],
        note[:20] + bytes([note[20] ^ 1]) + note[21:],
    ):
        part.write_bytes(wrong)
        said = refusal(count)
        assert said.startswith(
            f"checkpoint {checkpoint} cannot be read (ChecksumException: "
        )
        assert re.search(
            r"/sparkstream-kit/query.json/part-.*, or put the file back", said
        )
    part.write_bytes(note)
    # Brought here, as by hdfs dfs -get
    home = shutil.copytree(files, folder.parent / "home")
    finish(
        sources.text(spark, str(folder)).groupBy("value").count(),
        name="near",
        checkpoint=home,
        allow_changed_query=True,
    )
    assert {json.loads(each.read_text())["name"] for each in home.rglob("part-*")} == {
        "far",
        "near",
    }


@pytest.mark.slow
def test_a_checkpoint_on_another_file_system_is_drained(far, folder):
    spark, checkpoint, _ = far
    feeds.drip([("0.json", '{"time":"2024-01-01T00:00:10"}\n')], folder)
    rows = sources.json(spark, str(folder), schema="time TIMESTAMP").withWatermark(
        "time", "10 seconds"
    )
    counts = rows.groupBy(F.window("time", "1 minute")).count()
    closed: list[int] = []

    def count(**trigger):
        sink = sinks.foreach_batch(
            lambda batch, _: closed.extend(row["count"] for row in batch.collect())
        )
        run(
            start(counts, sink, name="far", checkpoint=checkpoint, availableNow=True),
            drain=True,
        )

    count()
    assert closed == [1]
    assert "is not on a local path; copy it to this machine first" in refusal(
        checkpoints.show, checkpoint
    )
    assert refusal(count).startswith(
        f"checkpoint {checkpoint} was drained: batch 2 has written the "
    )


@pytest.mark.slow
def test_a_note_on_another_file_system_is_kept_until_the_next_is_there(far):
    spark, checkpoint, files = far
    notes = [
        {"name": name, "mode": "update", "fingerprint": ""}
        for name in ("first", "second", "third")
    ]
    parts: list[Any] = []
    for note in notes:
        logs.write_note(locate(spark, checkpoint), note)
        assert logs.Logs(files).note == note
        parts.append(set((files / "sparkstream-kit/query.json").glob("part-*")))
    # Nothing is removed before the new one is written
    assert parts[0] < parts[1] < parts[2]


def test_without_a_checkpoint_nothing_is_asked(spark):
    with guarded_by(sources.rate(spark), None, "none") as guarded:
        assert guarded.lock is None


@pytest.mark.parametrize("master", ["spark://host:7077", "yarn", "k8s://https://host"])
def test_a_local_path_is_refused_where_other_nodes_must_reach_it(
    spark, tmp_path, monkeypatch, master
):
    pretend_master(spark, monkeypatch, master)
    guard = guarded_by(sources.rate(spark), locate(spark, f"{tmp_path}/ckpt"), "far")
    with pytest.raises(
        InvalidInputError, match=f"is a local path, but the master is {master}, "
    ) as caught:
        guard.__enter__()
    assert str(caught.value).endswith(
        f"or, if they share this folder, file://{tmp_path}/ckpt"
    )
    assert not (tmp_path / "ckpt").exists()
    assert (
        released(sources.rate(spark), locate(spark, f"file://{tmp_path}/ckpt")).root
        == tmp_path / "ckpt"
    )


@pytest.mark.parametrize("master", ["local", "local[4]", "local-cluster[2,1,1024]"])
def test_a_local_path_is_right_where_all_is_on_one_machine(
    spark, tmp_path, monkeypatch, master
):
    pretend_master(spark, monkeypatch, master)
    released(sources.rate(spark), locate(spark, tmp_path))


CONNECT = """
import sys, logging
from pyspark.sql import functions as F
from sparkstream_kit import get_session, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError
logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stdout)
folder, checkpoint = sys.argv[1:]
spark = get_session("attached", profile="test", conf={"spark.sql.shuffle.partitions": "1"})
rows = sources.json(spark, folder, schema="State STRING, ProductKey STRING, n INT")
def total(key, **options):
    frame = rows.groupBy(key).agg(F.sum("n"))
    try:
        query = start(frame, sinks.console(), name="totals", mode="complete", checkpoint=checkpoint,
                      availableNow=True, **options)
        query.awaitTermination()
        print("ran by", key)
    except InvalidInputError as err:
        print(err)
total("State")
total("ProductKey")
total("ProductKey", allow_changed_query=True)
total("ProductKey")
spark.conf.set("spark.sql.shuffle.partitions", "3")
total("ProductKey")
"""


def test_the_ids_of_topics_outlive_a_start_that_cannot_ask_kafka(
    total, tmp_path, monkeypatch
):
    ids = {"0": {"sales": "b1tQuX"}}
    with monkeypatch.context() as patch:
        patch.setattr(
            guards, "QUESTIONS", (lambda *_: [guards.NoteEntry("topics", ids)],)
        )
        total("State")
    assert logs.Logs(tmp_path / "ckpt").noted["topics"] == ids
    # As of a query of Kafka
    monkeypatch.setattr(queries, "_of_systems", lambda _: [brokers.question])
    monkeypatch.setattr(brokers, "can_ask", lambda _: False)  # as on Spark Connect
    total("State")
    assert logs.Logs(tmp_path / "ckpt").noted["topics"] == ids


@pytest.mark.slow
@pytest.mark.xdist_group("connect")
def test_on_connect_the_query_is_noted_through_spark(spark, connect, folder, tmp_path):
    feeds.drip([("1.json", '{"State":"CA","ProductKey":"tea","n":1}\n')], folder)
    checkpoint = tmp_path / "ckpt"
    done = ran(CONNECT, folder, checkpoint, SPARK_REMOTE=connect)
    first, refused, accepted, again, warned, last = done.stdout.splitlines()
    assert (first, accepted, again, last) == (
        "ran by State",
        *["ran by ProductKey"] * 3,
    )
    assert "groups by ProductKey; the checkpoint's query groups by State" in refused
    assert "number of state partitions" in warned
    # And a classic session reads what is noted there.
    rows = sources.json(
        spark, str(folder), schema="State STRING, ProductKey STRING, n INT"
    )
    guard = guarded_by(
        rows.groupBy("State").agg(F.sum("n")),
        locate(spark, checkpoint),
        "totals",
        "complete",
    )
    assert "groups by State; the checkpoint's query groups by Product" in refusal(
        guard.__enter__
    )


FAR_ON_CONNECT = """
import sys
from sparkstream_kit import get_session, run, sinks, sources, start
folder, host, far = sys.argv[1:]
spark = get_session("attached")
spark.conf.set(f"fs.viewfs.mounttable.{host}.link./far", far)
lines = sources.text(spark, folder)
query = start(lines, sinks.foreach_batch(lambda batch, _: None), name="far", availableNow=True,
              checkpoint=f"viewfs://{host}/far/ckpt")
print(run(query).queries[0].batches)
"""


@pytest.mark.slow
def test_on_connect_a_checkpoint_that_only_the_server_reaches_is_not_guarded(
    connect, folder, tmp_path
):
    feeds.drip([("1.txt", "a\n")], folder)
    (tmp_path / "far").mkdir()
    host, far = f"kit{uuid.uuid4().hex}", (tmp_path / "far").as_uri()
    assert ran(FAR_ON_CONNECT, folder, host, far, SPARK_REMOTE=connect).stdout == "1\n"
    assert not (tmp_path / "far" / "ckpt" / "sparkstream-kit").exists()


def test_a_query_that_cannot_be_noted_is_stopped_before_its_lock_is_released(
    spark, tmp_path, monkeypatch
):
    seen: list[list[str]] = []
    release = Lock.release

    def fail(*_):
        raise OSError("No space left on device")

    def released(self):
        seen.append([query.name for query in spark.streams.active])
        release(self)

    monkeypatch.setattr(guards, "write_note", fail)
    monkeypatch.setattr(Lock, "release", released)
    with pytest.raises(OSError, match="No space left"):
        start(
            sources.rate(spark),
            sinks.console(),
            name="unnoted",
            checkpoint=tmp_path / "ckpt",
        )
    assert seen == [[]]


@pytest.mark.slow
def test_dates_of_another_time_zone_are_refused(spark, folder, finish):
    feeds.drip([("1.txt", "1\n")], folder)

    def days(zone):
        with in_force(spark, {"spark.sql.session.timeZone": zone}):
            lines = sources.text(spark, str(folder))
            by_day = lines.groupBy(
                F.to_date(F.timestamp_seconds(F.col("value").cast("int")))
            ).count()
            finish(by_day, mode="complete")

    days("UTC")
    days("UTC")
    assert "in the time zone Asia/Tokyo; the checkpoint's query computes" in refusal(
        days, "Asia/Tokyo"
    )


@pytest.mark.slow
def test_two_threads_that_start_queries_do_not_change_each_others_settings(
    spark, tmp_path
):
    #  one thread starts queries that need RocksDB, the other ones that have what the session has
    pytest.importorskip("pandas")
    rate = sources.rate(spark)
    keyed, given = applied(rate), spark.conf.get(STATE_STORE)

    def begin(number):
        frame = keyed if number % 2 else rate.groupBy("value").count()
        how = {
            "name": f"q{number}",
            "mode": "update",
            "checkpoint": tmp_path / str(number),
            "once": True,
        }
        start(frame, sinks.console(), **how).awaitTermination()
        offsets = (tmp_path / str(number) / "offsets" / "0").read_text().split("\n")[1]
        return str(json.loads(offsets)["conf"][STATE_STORE]).rpartition(".")[2]

    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(begin, range(6)))
    assert [store.startswith("RocksDB") for store in stores] == [False, True] * 3
    assert spark.conf.get(STATE_STORE) == given


def test_a_planned_file_that_has_gone_is_said_before_its_batch_comes_again(
    spark, folder, tmp_path, caplog
):
    feeds.drip([("0.txt", "a\n")], folder)
    frame = sources.text(spark, str(folder))

    def fail(_batch, _batch_id):
        raise ValueError("no such shop")

    with pytest.raises(QueryFailed, match="no such shop"):
        run(
            start(
                frame,
                sinks.foreach_batch(fail),
                name="guarded",
                checkpoint=tmp_path / "ckpt",
            )
        )
    (folder / "0.txt").unlink()
    released(frame, locate(spark, tmp_path / "ckpt"))
    gone = (
        f"query guarded: {folder}/0.txt is planned to be read and has gone; put it back"
        " first: "
    )
    assert gone in caplog.text


def test_a_checkpoint_that_is_not_on_a_local_disk_is_written_in_sparks_own_way(
    spark, tmp_path
):
    key = "spark.sql.streaming.checkpointFileManagerClass"
    own = spark.newSession()  # the others of the test run keep theirs
    local = read_profile("local")[key]
    own.conf.set(key, local)
    with in_force(own, guards._file_manager(own, locate(own, tmp_path))):  # noqa: SLF001
        assert own.conf.get(key) == local
    with in_force(own, guards._file_manager(own, locate(own, "hdfs://namenode/ckpt"))):  # noqa: SLF001
        assert own.conf.get(key, None) != local
    assert own.conf.get(key) == local  # for the queries that come after it


@pytest.mark.slow
def test_in_a_session_that_is_case_sensitive_another_case_is_another_key(
    spark, folder, finish
):
    feeds.drip([("1.json", '{"k":"small","K":"great"}\n')], folder)
    own = spark.newSession()
    own.conf.set("spark.sql.caseSensitive", "true")
    rows = sources.json(own, str(folder), schema="k STRING, K STRING")
    finish(rows.groupBy("k").count())
    assert "groups by K; the checkpoint's query groups by k" in refusal(
        finish, rows.groupBy("K").count()
    )
    finish(rows.groupBy("k").count())
