"""What a file source loses or hides without an error: shown by real queries, and said by `findings`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.errors import StreamingQueryException

from sparkstream_kit.sources.watch import findings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

DAY = 86_400


class Stream:
    """A query that counts the lines of a folder, one file a batch, from one checkpoint."""

    def __init__(self, spark: SparkSession, folder: Path, checkpoint: Path) -> None:
        self.spark, self.folder, self.checkpoint = spark, folder, checkpoint
        self.sources: list[str] = []

    def land(self, name: str, *lines: str, age: float = 0) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines))
        os.utime(path, (time.time() - age,) * 2)
        return path

    def read(self, write: Callable[[DataFrame, int], None] | None = None, **options: Any) -> int:
        """Read what is there and return how many lines it were."""
        reader = self.spark.readStream.option("maxFilesPerTrigger", 1).options(**options)
        writer = reader.text(str(self.folder)).writeStream.trigger(availableNow=True)
        writer = writer.foreachBatch(write) if write else writer.format("noop")
        query = writer.option("checkpointLocation", str(self.checkpoint)).start()
        query.awaitTermination()
        self.sources = [source.description for each in query.recentProgress[:1] for source in each.sources]
        return sum(each.numInputRows for each in query.recentProgress)

    def findings(self) -> list[str]:
        return findings(str(self.checkpoint), self.sources)


@pytest.fixture
def stream(spark: SparkSession, folder: Path, tmp_path: Path) -> Stream:
    return Stream(spark, folder, tmp_path / "ckpt")


def test_a_planned_file_that_vanished_is_said_before_its_rows_are_lost(stream: Stream) -> None:
    stream.land("1.txt", "a", age=20)
    stream.land("2.txt", "b", age=10)

    def fail_on_the_second(batch: DataFrame, batch_id: int) -> None:
        if batch_id == 1:
            raise ValueError("the sink is away")

    with pytest.raises(StreamingQueryException, match="the sink is away"):
        stream.read(fail_on_the_second)
    assert stream.findings() == []
    stream.folder.joinpath("1.txt").unlink()  # committed: it may go
    vanished = stream.folder / "2.txt"
    vanished.rename(stream.folder / ".2.txt")
    assert stream.findings() == [
        f"{vanished}: planned for a batch that was not committed, and gone: put back, or the rows are lost"
    ]
    stream.folder.joinpath(".2.txt").rename(vanished)
    assert stream.findings() == []
    vanished.unlink()
    assert stream.read() == 0  # this is the loss: Spark commits the batch, empty, and says nothing
    assert stream.findings() == []


@pytest.mark.parametrize("change", ["overwritten", "appended to", "replaced"])
def test_a_file_that_changed_after_it_was_read_is_said(stream: Stream, change: str) -> None:
    path = stream.land("1.txt", "a", age=10)
    stream.land("2.txt", "b", age=10)
    assert stream.read() == 2
    if change == "appended to":
        with path.open("a") as file:
            file.write("more\n")
    elif change == "replaced":
        stream.land("new", "c").rename(path)
    else:
        stream.land("1.txt", "c")
    assert stream.read() == 0
    assert stream.findings() == [
        f"{path}: changed after it was read, and not read again: land new content under a new name"
    ]


def test_a_file_dated_in_the_future_is_said_before_and_after_it_hides_others(stream: Stream) -> None:
    stream.land("1.txt", "a")
    stream.read()
    stream.land("soon.txt", "b", age=-60)  # clocks differ
    assert stream.findings() == []
    future = stream.land("future.txt", "c", age=-10 * DAY - 60)
    (before,) = stream.findings()
    assert before.startswith(f"{future}: dated in the future, so that it will hide files 7 days older")
    assert before.endswith("touch it before it is read")

    assert stream.read() == 2
    later = stream.land("later.txt", "d")
    assert stream.read() == 0
    hiding, hidden = stream.findings()
    assert hiding.startswith(
        f"{future}: read with a date 10 days ahead, so that new files are not read: set "
    )
    assert hidden.startswith(f"{later}: not read, for it is 7 days older than the newest file read: set a ")
    assert stream.read(maxFileAge=hiding.split('"')[1]) == 1  # the fix, as it is said
    assert stream.findings() == []


def test_touching_a_file_of_the_future_before_it_is_read_is_enough(stream: Stream) -> None:
    stream.land("1.txt", "a")
    stream.read()
    stream.land("future.txt", "b", age=-10 * DAY).touch()
    assert stream.findings() == []
    assert stream.read() == 1
    stream.land("later.txt", "c")
    assert stream.read() == 1


def test_an_old_file_that_arrives_late_is_said(stream: Stream) -> None:
    stream.land("1.txt", "a")
    stream.read()
    old = stream.land("old.txt", "b", age=8 * DAY)  # unpacked, or copied with its date
    stream.land("README.md", age=90 * DAY)  # another kind of file, for another reader
    assert stream.read() == 0
    (line,) = stream.findings()
    assert line.startswith(f"{old}: not read, for it is 7 days older than the newest file read: set a longer")


def test_nothing_is_said_of_what_is_as_it_should_be(spark: SparkSession, tmp_path: Path) -> None:
    stream = Stream(spark, tmp_path / "in it's #1 & 100%", tmp_path / "ckpt #2")
    stream.folder.mkdir()
    for number in range(12):  # the log is compacted at the tenth
        stream.land(f"day={number % 2}/ß {number}.txt", "a", age=6 * DAY - number)
    assert stream.read() == 12
    assert (stream.checkpoint / "sources" / "0" / "9.compact").exists()
    assert stream.sources == [f"FileStreamSource[file:{stream.folder}]"]
    for name in ("_SUCCESS", ".hidden.txt"):
        stream.land(name, age=-30 * DAY)
    stream.land("day=1/waiting.txt", "b")
    assert stream.findings() == []
    # Of all of these the log is read, compacted or not.
    for path in stream.folder.glob("day=*/ß*"):
        path.write_text("changed")
    (line,) = stream.findings()
    assert line.startswith(f"{stream.folder}/day=0/ß 0.txt, {stream.folder}/day=0/ß 10.txt, ")
    assert " and 9 more: changed after it was read" in line


def test_before_the_first_start_only_the_folder_can_be_looked_at(stream: Stream) -> None:
    future = stream.land("future.txt", "a", age=-2 * DAY)
    stream.land("old.txt", "a", age=90 * DAY)
    assert findings(str(stream.checkpoint)) == []
    for name in (stream.folder, f"{stream.folder.parent}/i?"):
        (line,) = findings(f"file://{stream.checkpoint}", [f"FileStreamSource[file:{name}]"])
        assert line.startswith(f"{future}: dated in the future")


def test_other_sources_and_other_file_systems_are_passed_over(spark: SparkSession, tmp_path: Path) -> None:
    query = spark.readStream.format("rate").option("rowsPerSecond", 10).load().writeStream.format("noop")
    running = query.option("checkpointLocation", str(tmp_path)).trigger(once=True).start()
    running.awaitTermination()
    assert findings(str(tmp_path), ["RateStreamV2[rowsPerSecond=10]", "FileStreamSource[s3a://b/in]"]) == []
    assert findings("hdfs://host/ckpt", ["FileStreamSource[file:/tmp]"]) == []
    assert findings(str(tmp_path / "missing")) == []


def test_what_spark_removes_at_this_moment_is_no_finding(stream: Stream) -> None:
    """As it does with a temporary checkpoint when its query ends."""
    stream.land("1.txt", "a")
    stream.read()
    (stream.checkpoint / "offsets" / "0").unlink()
    assert stream.findings() == []


def test_a_damaged_log_is_said_and_does_not_end_the_run(stream: Stream) -> None:
    stream.land("1.txt", "a")
    stream.read()
    log = stream.checkpoint / "sources" / "0" / "0"
    log.write_text(log.read_text()[:-5])
    (line,) = stream.findings()
    assert line.startswith(f"{stream.checkpoint}: what source 0 has read cannot be told: ")
    assert "\n" not in line
