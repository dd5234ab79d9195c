"""`sinks.batch_files`: a directory a batch, whole or not there, whoever reads it."""

import errno
import json
import re
import shutil
import subprocess
from datetime import datetime

import pyarrow.parquet as pq
import pytest
from conftest import refusal
from pyspark.sql import functions as F
from support.sink_streams import finish, forget_commit, refused

from sparkstream_kit import feeds, sinks, sources, start
from sparkstream_kit._internal.spark import place
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.sinks import directories, formats, ledger, plans
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.ledger import Batch


@pytest.fixture
def stream(spark, folder):
    """Three batches of two rows: 1, 2; 3, 4; 5, 6."""
    feeds.drip([("1.csv", "1\n2\n"), ("2.csv", "3\n4\n"), ("3.csv", "5\n6\n")], folder)
    return sources.csv(spark, str(folder), schema="n INT", max_files_per_trigger=1)


def plain_read(out):
    """Return what a reader finds that knows nothing of Spark."""
    lines = [
        line
        for part in out.glob("[!._]*/part-*")
        for line in part.read_text().splitlines()
    ]
    return sorted(json.loads(line)["n"] for line in lines)


@pytest.mark.slow
def test_a_batch_that_comes_again_counts_once(stream, tmp_path):
    out, checkpoint = tmp_path / "out of here", tmp_path / "ckpt"
    finish(stream, sinks.batch_files(out, format="json"), checkpoint)
    assert plain_read(out) == [1, 2, 3, 4, 5, 6]
    (out / ".batch=000002").mkdir()
    (out / ".batch=000001.old").mkdir()
    forget_commit(checkpoint, 2)
    finish(stream, sinks.batch_files(f"file://{out}", format="json"), checkpoint)
    assert plain_read(out) == [1, 2, 3, 4, 5, 6]
    names = [
        "_sparkstream_epochs",
        "_sparkstream_query",
        "batch=000000",
        "batch=000001",
        "batch=000002",
    ]
    assert sorted(path.name for path in out.iterdir()) == names
    rows = stream.sparkSession.read.json(str(out)).orderBy("n").collect()
    assert [(row.n, row.batch) for row in rows] == [
        (1, 0),
        (2, 0),
        (3, 1),
        (4, 1),
        (5, 2),
        (6, 2),
    ]


@pytest.mark.slow
@pytest.mark.classic_only("the functions of a batch run in this process")
def test_a_batch_has_one_plan_whatever_the_number_of_sinks(
    stream, tmp_path, monkeypatch
):
    made, planned = [], plans.plan_of

    def plan_of(location, batch, folders):
        made.append(batch)
        return planned(location, batch, folders)

    monkeypatch.setattr(ledger, "plan_of", plan_of)
    each = [sinks.batch_files(tmp_path / name, format="json") for name in "abc"]
    finish(stream, sinks.fan_out(*each), tmp_path / "ckpt")
    assert made == [0, 1, 2]
    kept = {(tmp_path / name / "_sparkstream_query").read_text() for name in "abc"}
    assert len(kept) == 1, "the same plan in each"


def test_the_plan_of_a_batch_has_the_offsets_of_sources_other_than_files(
    spark, tmp_path
):
    def plan(rows):
        reader = spark.readStream.format("rate-micro-batch")
        writer = reader.option("rowsPerBatch", rows).load().writeStream.format("noop")
        checkpoint = tmp_path / str(rows)
        writer = writer.option("checkpointLocation", str(checkpoint))
        writer.trigger(once=True).start().awaitTermination()
        return plans.plan_of(locate(spark, checkpoint), 0, {})

    assert plans.is_same_input(plan(1), plan(1))
    assert not plans.is_same_input(plan(1), plan(2))


def test_the_folder_is_listed_at_the_first_batch_of_a_start_alone(
    stream, tmp_path, monkeypatch
):
    listed, names = [], place.LocalPlace.names

    def counted(self, name=""):
        listed.append(f"{self.text}/{name}")
        return names(self, name)

    monkeypatch.setattr(place.LocalPlace, "names", counted)
    finish(
        stream, sinks.batch_files(tmp_path / "out", format="json"), tmp_path / "ckpt"
    )
    # When it starts, at batch 0, and when that takes the first epoch.
    assert len([text for text in listed if text.endswith("/out/")]) == 3


def test_what_another_driver_has_done_meanwhile_is_found(stream, tmp_path):
    out, checkpoint = tmp_path / "out", tmp_path / "ckpt"
    finish(stream, sinks.batch_files(out, format="json"), checkpoint)
    here, query = (
        place.locate(stream.sparkSession, out),
        (out / "_sparkstream_query").read_text().strip(),
    )
    driver = (out / "_sparkstream_epochs" / "1" / "driver").read_text()
    rows = stream.sparkSession.createDataFrame([(9,)], "n INT")

    def folder(last):  # as a driver has it that has written the batches up to this one
        form = formats.of(sinks.batch_files, "json", {}, out)
        return directories._Folder(here, Target("folder", str(out)), form, [last, 1])  # noqa: SLF001

    forget_commit(checkpoint, 2)
    plan = (out / "batch=000002" / "_sparkstream_plan").read_text()
    folder(1).write(Batch(query, 2, plan, driver=driver), rows)  # is there
    assert plain_read(out) == [1, 2, 3, 4, 5, 6]
    folder(2).take(query, "the newer one", rows)
    with pytest.raises(
        InvalidInputError,
        match=r"another driver has started .* \(epoch 2, the newer one\)",
    ):
        folder(2).write(Batch(query, 3, driver=driver), rows)
    assert not (out / "batch=000003").exists()


@pytest.mark.fast("9999")
@pytest.mark.parametrize("year", [1, 1024, 9999])
def test_other_readers_find_every_timestamp_as_it_is(spark, folder, year):
    feeds.drip([("1.csv", f"{year:04}-02-03 04:05:06.789012\n")], folder)
    times = sources.csv(spark, folder, schema="time TIMESTAMP")
    out = folder.parent / "out"
    finish(times, sinks.batch_files(out), folder.parent / "ckpt")
    [[time]] = [
        pq.read_table(part)["time"].to_pylist()
        for part in out.glob("batch=0*/*.parquet")
    ]
    assert time.replace(tzinfo=None) == datetime(year, 2, 3, 4, 5, 6, 789012)  # noqa: DTZ001 - in UTC


@pytest.mark.slow
def test_a_folder_of_another_query_is_refused(stream, out, tmp_path):
    sink = sinks.batch_files(out, format="json")
    finish(stream, sink, tmp_path / "first")
    message = (
        r"folder .*out was written by another query \([-0-9a-f]{36}, up to its batch"
        r" 2\); start on that"
    )
    assert re.search(message, refusal(finish, stream, sink, tmp_path / "second"))
    without_the_kit = (
        sink(stream.writeStream)
        .option("checkpointLocation", str(tmp_path / "third"))
        .start()
    )
    with pytest.raises(Exception, match="was written by another query"):
        without_the_kit.processAllAvailable()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "part-0.json").touch()
    assert (
        "has rows that no query of the kit has written; use another folder, or remove"
        " this one"
        in refusal(
            finish, stream, sinks.batch_files(tmp_path / "full"), tmp_path / "fourth"
        )
    )
    assert plain_read(out) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_directories_that_have_gone_are_refused_with_the_ways_on(stream, tmp_path):
    out, checkpoint = tmp_path / "out of here", tmp_path / "my ckpt"
    sink = sinks.batch_files(out, format="json")
    finish(stream, sink, checkpoint)
    for number in (1, 2):
        shutil.rmtree(out / f"batch={number:06}")
    feeds.drip([("4.csv", "7\n")], tmp_path / "in")
    message = (
        f"batch 3 is next, but folder {out} holds this query's batches up to 0 only:"
        " .*; or, to write the missing batches again, run sparkstream checkpoint"
        f" rewind '{checkpoint}' --to 0; or, to go on without their rows, run mkdir -p "
    )
    for _ in range(2):
        assert re.search(message, refused(stream, sink, checkpoint))
    assert plain_read(out) == [1, 2]
    rewind(checkpoint, to=0, apply=True)
    finish(stream, sink, checkpoint)
    assert plain_read(out) == [1, 2, 3, 4, 5, 6, 7]

    # An older one, which a reader may have taken away
    shutil.rmtree(out / "batch=000000")
    feeds.drip([("5.csv", "8\n")], tmp_path / "in")
    finish(stream, sink, checkpoint)
    assert plain_read(out) == [3, 4, 5, 6, 7, 8]


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", "the folder", "the marker"])
def test_a_folder_that_has_gone_is_refused_with_the_way_on(stream, tmp_path, left):
    out, checkpoint = tmp_path / "out of here", tmp_path / "ckpt"
    sink = sinks.batch_files(out, format="json")
    finish(stream, sink, checkpoint)
    for path in out.glob("*" if left == "the folder" else "batch=*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if left == "nothing":
        shutil.rmtree(out)
    feeds.drip([("4.csv", "7\n")], tmp_path / "in")
    for _ in range(2):
        said = refused(stream, sink, checkpoint)
    way_on = re.search(
        r"holds none of this query's batches.*without their rows, run (mkdir -p '.*')",
        said,
    )
    assert way_on is not None
    subprocess.run(way_on[1], shell=True, check=True)  # noqa: S602 - as a user would paste it
    for number in (5, 6):
        finish(stream, sink, checkpoint)
        feeds.drip([(f"{number}.csv", f"{number + 3}\n")], tmp_path / "in")
    assert plain_read(out) == [7, 8]
    assert {row.n for row in stream.sparkSession.read.json(str(out)).collect()} == {
        7,
        8,
    }


def test_a_disk_that_is_full_at_a_start_is_one_line(stream, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", f"{tmp_path}/out")

    finish(stream, sinks.batch_files(tmp_path / "out"), tmp_path / "ckpt")
    monkeypatch.setattr(place.LocalPlace, "write", full)
    assert refusal(
        finish, stream, sinks.batch_files(tmp_path / "out"), tmp_path / "ckpt"
    ).endswith(
        f"{tmp_path}/out cannot be written or read: No space left on device; make room,"
        " or correct its rights"
    )


def test_hdfs_that_only_a_connect_server_reaches_is_refused_for_that(
    stream, tmp_path, monkeypatch
):
    monkeypatch.setattr(directories, "locate", lambda *_: place.Place("hdfs://nn/out"))
    with pytest.raises(
        InvalidInputError, match="^hdfs://nn/out is on a Spark Connect server"
    ):
        finish(stream, sinks.batch_files("hdfs://nn/out"), tmp_path / "ckpt")


def test_what_it_cannot_do_it_says(stream, tmp_path):
    assert "s3a://b/rows: only a local path and hdfs:// have a" in refusal(
        sinks.batch_files, "s3a://b/rows"
    )
    taken = stream.withColumn("Batch", F.lit(1))
    line = refused(taken, sinks.batch_files(tmp_path / "out"), tmp_path / "ckpt")
    assert "column batch has the name of the directories; rename it" in line
    with pytest.raises(InvalidInputError, match="sink batch_files needs a checkpoint"):
        start(stream, sinks.batch_files(tmp_path / "out"), name="q")


@pytest.mark.slow
def test_a_second_stream_reads_a_batch_of_several_files_that_comes_again_once(
    stream, tmp_path
):
    out, later = tmp_path / "out", tmp_path / "later"
    sink = sinks.batch_files(out, format="json").taking(
        lambda batch: batch.repartition(2)
    )
    for _ in range(2):
        finish(stream, sink, tmp_path / "ckpt")
        second = sources.json(stream.sparkSession, out, schema="n INT").select("n")
        finish(second, sinks.batch_files(later, format="json"), tmp_path / "second")
        assert plain_read(later) == [1, 2, 3, 4, 5, 6]
        forget_commit(tmp_path / "ckpt", 2)


@pytest.mark.slow
def test_no_half_batch_is_ever_seen(stream, tmp_path):
    out = tmp_path / "out"

    def fails_at_six(parts):
        import pyarrow as pa

        for part in parts:
            # Two parts: the first is written, the second never comes.
            yield pa.RecordBatch.from_pydict({"n": part.column(0)[:1]})
            if 6 in part.column(0).to_pylist():
                raise ValueError("no six")
            yield pa.RecordBatch.from_pydict({"n": part.column(0)[1:]})

    frame = stream.coalesce(1).mapInArrow(fails_at_six, "n INT")
    with pytest.raises(QueryFailed, match="no six"):
        finish(frame, sinks.batch_files(out, format="json"), tmp_path / "ckpt")
    assert plain_read(out) == [1, 2, 3, 4]
    assert stream.sparkSession.read.json(str(out)).count() == 4
    finish(stream, sinks.batch_files(out, format="json"), tmp_path / "ckpt")
    assert plain_read(out) == [1, 2, 3, 4, 5, 6]
