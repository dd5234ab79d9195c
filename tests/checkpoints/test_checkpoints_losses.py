"""What a file source loses or hides without an error: a `WatchedSource` finds it."""

import os
import shutil
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import StreamingQueryException

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.checkpoints.damage import missing_inputs
from sparkstream_kit.checkpoints.input_files import PASSED_OVER, WatchedSource
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.errors import QueryFailed

DAY = 86_400


class Stream:
    """A query that counts the lines of a folder, one file a batch, from one checkpoint."""

    def __init__(self, spark, folder, checkpoint):
        self.spark, self.folder, self.checkpoint = spark, folder, checkpoint
        self.options: dict[str, object] = {}

    def land(self, name, *lines, age=0):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines))
        os.utime(path, (time.time() - age,) * 2)
        return path

    def read(self, write=None, **options):
        """Read what is there and return how many lines it were."""
        self.options = {"maxFilesPerTrigger": 1} | options
        reader = self.spark.readStream.options(**self.options)
        writer = reader.text(str(self.folder)).writeStream.trigger(availableNow=True)
        writer = writer.foreachBatch(write) if write else writer.format("noop")
        query = writer.option("checkpointLocation", str(self.checkpoint)).start()
        query.awaitTermination()
        return sum(each.numInputRows for each in query.recentProgress)

    def source(self, path=None):
        """Return its source as a run knows it after the last batch."""
        given = {name: str(value) for name, value in self.options.items()}
        source, logs = (
            WatchedSource("0", f"file:{path or self.folder}", given),
            Logs(self.checkpoint),
        )
        source.done = logs.until(logs.done).get("0", -1)
        source.read(logs)
        return source

    def findings(self, said=None):
        return self.source().findings(self.checkpoint, set() if said is None else said)

    def gone(self):
        return [str(each) for each in missing_inputs(Logs(self.checkpoint))]


@pytest.fixture
def stream(spark, folder, tmp_path):
    return Stream(spark, folder, tmp_path / "ckpt")


@pytest.mark.parametrize("change", ["overwritten", "appended to", "replaced"])
def test_a_file_that_changed_after_it_was_read_is_said(stream, change):
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
    said = [
        (
            f"{path}: changed after it was read, and not read again: land new content under"
            " a new name"
        )
    ]
    assert stream.findings() == said
    source = stream.source()
    # As Spark does with a temporary one when its query ends
    shutil.rmtree(stream.checkpoint)
    source.read(Logs(stream.checkpoint))
    assert source.findings(stream.checkpoint, set()) == said


def test_a_file_dated_in_the_future_is_said_before_and_after_it_hides_others(stream):
    stream.land("1.txt", "a")
    stream.read()
    stream.land("soon.txt", "b", age=-60)  # clocks differ
    assert stream.findings() == []
    future = stream.land("future.txt", "c", age=-10 * DAY - 60)
    (before,) = stream.findings()
    assert before.startswith(
        f"{future}: dated in the future, so that it will hide older files"
        " (maxFileAge): "
    )
    assert before.endswith("touch it before it is read")

    assert stream.read() == 2
    later = stream.land("later.txt", "d")
    assert stream.read() == 0
    hiding, hidden = stream.findings()
    assert hiding.startswith(
        f"{future}: read with a date 10 days ahead, so that new files are not read:"
        " set "
    )
    assert hidden.startswith(
        f"{later}: not read, for it is too old beside the newest file read: set a "
    )
    assert stream.read(maxFileAge=hiding.split('"')[1]) == 1  # the fix, as it is said
    assert stream.findings() == []


def test_touching_a_file_of_the_future_before_it_is_read_is_enough(stream):
    stream.land("1.txt", "a")
    stream.read()
    stream.land("future.txt", "b", age=-10 * DAY).touch()
    assert stream.findings() == []
    assert stream.read() == 1
    stream.land("later.txt", "c")
    assert stream.read() == 1


@pytest.mark.slow
def test_nothing_is_said_of_what_is_as_it_should_be(spark, tmp_path):
    stream = Stream(spark, tmp_path / "in it's #1 & 100%", tmp_path / "ckpt #2")
    stream.folder.mkdir()
    for number in range(12):  # the log is compacted at the tenth
        stream.land(f"day={number % 2}/ß {number}.txt", "a", age=6 * DAY - number)
    assert stream.read() == 12
    assert (stream.checkpoint / "sources" / "0" / "9.compact").exists()
    for name in ("_SUCCESS", "_truth.json", ".0.txt.crc", ".1.txt.part"):
        stream.land(name, age=-30 * DAY)
    stream.land("_temporary/1.txt")
    stream.land("day=1/_sparkstream_plan", "what batch_files keeps")
    stream.land("day=1/waiting.txt", "b")
    assert stream.findings() == []
    # Of all of these the log is read, compacted or not.
    for path in stream.folder.glob("day=*/ß*"):
        path.write_text("changed")
    (line,) = stream.findings()
    assert line.startswith(
        f"{stream.folder}/day=0/ß 0.txt, {stream.folder}/day=0/ß 10.txt, "
    )
    assert " and 9 more: changed after it was read" in line


def test_before_the_first_start_only_the_folder_can_be_looked_at(stream):
    future = stream.land("future.txt", "a", age=-2 * DAY)
    stream.land("old.txt", "a", age=90 * DAY)
    for path in (stream.folder, f"{stream.folder.parent}/i?"):
        (line,) = stream.source(path).findings(stream.checkpoint, set())
        assert line.startswith(f"{future}: dated in the future")


@pytest.mark.parametrize("kept", [0, 1, -5])
def test_a_damaged_log_does_not_end_the_run(stream, kept):
    stream.land("1.txt", "a")
    stream.read()
    log = stream.checkpoint / "sources" / "0" / "0"
    log.write_text(log.read_text()[:kept])
    assert stream.findings() == []
    assert stream.source().count() is None


@pytest.mark.parametrize("age", ["7d", "1d", "3600s"])
def test_an_old_file_that_arrives_late_is_said(stream, age):
    options = {"maxFileAge": age, "pathGlobFilter": "*.txt"}
    stream.land("1.txt", "a")
    stream.read(**options)
    old = stream.land("2.txt", "b", age=8 * DAY)  # unpacked, or copied with its date
    stream.land("README.md", age=90 * DAY)  # for another reader
    assert stream.read(**options) == 0
    (line,) = stream.findings()
    assert line.startswith(
        f"{old}: not read, for it is too old beside the newest file read: set a longer"
    )
    assert stream.read(**options | {"maxFileAge": "9d"}) == 1
    assert stream.findings() == []


def test_what_spark_passes_over_for_its_name_or_place_is_said_once_a_kind(stream):
    stream.land("1.txt", "a")
    for name in (
        "_2.txt",
        ".3.txt",
        ".gitkeep",
        ".DS_Store",
        "4.txt._COPYING_",
        ".git/x",
        "_tmp/x",
        "more/5.txt",
        "more/deep/6.txt",
        "_sparkstream_epochs/1/driver",
    ):
        stream.folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        stream.land(name, "b")
    stream.folder.joinpath("empty").mkdir()
    with open(os.fsencode(stream.folder) + b"/caf\xe9.txt", "w") as file:  # noqa: PTH123 - a name in latin-1
        file.write("c\n")
    assert stream.read() == 1
    said: set[str] = set()
    assert stream.findings(said) == [
        f"{stream.folder}/.3.txt and 2 more: {PASSED_OVER['hidden']}",
        rf"{stream.folder}/caf\xe9.txt: not read, as the name is not UTF-8: rename it",
        (
            f"{stream.folder}/more: a subfolder, which Spark reads only with"
            " recursiveFileLookup=True"
        ),
    ]
    stream.land(".7.txt", "d")
    assert stream.findings(said) == []
    assert stream.read(recursiveFileLookup=True) == 2
    assert [line for line in stream.findings() if "a subfolder" in line] == []


@pytest.mark.fast("True")
@pytest.mark.parametrize("together", [True, False])
def test_a_file_beside_folders_of_partitions_is_said_and_read_once_it_is_moved(
    stream, caplog, together
):
    def rows():
        batches: list[Any] = []
        frame = sources.text(stream.spark, stream.folder)
        sink = sinks.foreach_batch(
            lambda batch, _: batches.extend(map(tuple, batch.collect()))
        )
        query = start(
            frame, sink, name="lines", checkpoint=stream.checkpoint, availableNow=True
        )
        with suppress(QueryFailed) if not together and path.exists() else nullcontext():
            run(query)
        return batches

    path = stream.folder / "b.txt"
    stream.land("day=1/a.txt", "a")
    if not together:  # in a batch of its own Spark fails, and says nothing of the place
        assert rows() == [("a", "1")]
    stream.land(path.name, "b")
    assert rows() == [("a", "1")] * together
    assert f"{path}: {PASSED_OVER['beside']}" in caplog.text
    path.rename(path.parent / "day=1" / path.name)
    assert rows() == [("b", "1")]


def test_nothing_lies_beside_folders_that_a_pattern_itself_matches(stream):
    stream.land("day=1/a.txt", "a")
    stream.land("b.txt", "b")
    stream.folder /= "*"
    assert stream.read(maxFilesPerTrigger=2) == 2
    assert stream.findings() == []


def test_the_checkpoint_in_the_folder_is_no_subfolder_to_say(spark, folder):
    stream = Stream(spark, folder, folder / "checkpoints" / "1")
    stream.land("1.txt", "a")
    stream.read()
    assert stream.findings() == []


def test_a_link_to_nothing_or_to_itself_hides_no_file_beside_it(stream):
    for number in range(6):
        stream.land(f"{number}.txt", "a", age=10 - number)

    def fail(batch, batch_id):
        raise ValueError("the sink is away")

    with pytest.raises(StreamingQueryException, match="the sink is away"):
        stream.read(fail, maxFilesPerTrigger=6)
    for number in range(6):
        stream.folder.joinpath(f"{number}.").symlink_to(
            "nowhere" if number % 2 else f"{number}."
        )
    assert stream.findings() == []
    assert stream.source().count() == (6, 0)
    future = stream.land("z.txt", age=-2 * DAY)
    (line,) = stream.findings()
    assert line.startswith(f"{future}: dated in the future")


def test_a_file_that_goes_while_the_folder_is_looked_at_hides_no_other(
    stream, monkeypatch
):
    for number in range(6):
        stream.land(f"{number}.txt", "a", age=-2 * DAY)

    class Going(os.PathLike[str]):
        """A listing whose entries are looked at when every second file has gone."""

        def __enter__(self):
            with scandir(stream.folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            for entry in found[::2]:
                os.unlink(entry.path)  # noqa: PTH108 - it has a path, and is none
            return found

        def __exit__(self, *_): ...

        def __fspath__(self):
            return str(stream.folder)

    scandir = os.scandir
    monkeypatch.setattr(
        "os.scandir",
        lambda path: Going() if path == str(stream.folder) else scandir(path),
    )
    (line,) = stream.findings()
    assert line.count(".txt") == 3


def test_other_names_in_a_sources_log_are_of_another_kind_of_source(stream):
    path = stream.land("1.txt", "a", age=10)
    stream.read()
    log = stream.checkpoint / "sources" / "0"
    (log / "shard-commit").mkdir()
    (log / "_metadata").write_text("{}")
    (log / "notes.compact").write_text("v1")
    (stream.checkpoint / "sources" / "1").mkdir()
    (stream.checkpoint / "sources" / "1" / "shard-commit").mkdir()
    assert stream.findings() == []
    path.write_text("changed")
    (line,) = stream.findings()
    assert "changed after it was read" in line


@pytest.mark.parametrize(
    "kind", ["one a batch", "with others", "under another name", "Spark removes it"]
)
def test_a_planned_file_that_goes_before_its_batch_is_said(
    spark, folder, tmp_path, caplog, kind
):
    """Spark passes over it: the batch is committed without its rows. What goes later is no loss."""
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"{number}\n")
        os.utime(folder / f"{number}.txt", (1_700_000_000 + number,) * 2)
    options: dict[str, Any] = {
        "max_files_per_trigger": 2 if kind == "with others" else 1
    }
    if kind == "Spark removes it":
        options["cleanSource"] = "delete"
    rows = sources.text(spark, folder, **options)
    told = folder / "3.txt"

    def lose(_batch, number):
        if number == 0 and kind == "under another name":
            told.rename(folder / "9.txt")
        elif number == 0 and kind != "Spark removes it":
            told.unlink()

    def clean(progress):
        if progress.batchId == 1 and kind != "Spark removes it":
            (folder / "0.txt").unlink()  # as a user does with what is read

    sink = sinks.foreach_batch(lose)
    how: dict[str, Any] = {
        "name": "q",
        "checkpoint": tmp_path / "ckpt",
        "availableNow": True,
    }
    summary = run(start(rows, sink, **how), on_batch=clean)
    warnings = [
        line for line in summary.warnings if "gone when its batch was committed" in line
    ]
    if kind == "Spark removes it":
        assert summary.warnings == ()
        return
    [line] = warnings
    assert line.startswith(
        f"query q: {told}: gone when its batch was committed: if it went before"
    )
    assert line in caplog.text


def test_a_name_that_waits_for_the_next_start_is_said(
    spark, folder, tmp_path, caplog, finish
):
    def count(batch, _):
        batch.count()

    def read():
        return list(
            finish(frame, sinks.foreach_batch(count), "append", name="waits").warnings
        )

    stream = Stream(spark, folder, tmp_path)
    stream.land("1.txt", "a", age=9)
    frame = sources.text(spark, str(folder))
    stream.land("2[1].txt", "b", age=8)
    stream.land("3:4.txt", "c", age=7)
    (line,) = read()
    assert line.startswith(
        f"query waits: {folder}/2[1].txt: not read while this query runs, as its name"
        " has one"
    )
    frame = sources.text(spark, str(folder))
    caplog.clear()
    assert read() == []


def test_a_planned_file_that_vanished_is_said_before_its_rows_are_lost(stream):
    stream.land("1.txt", "a", age=20)
    stream.land("2.txt", "b", age=10)

    def fail_on_the_second(batch, batch_id):
        if batch_id == 1:
            raise ValueError("the sink is away")

    with pytest.raises(StreamingQueryException, match="the sink is away"):
        stream.read(fail_on_the_second)
    assert stream.gone() == []
    stream.folder.joinpath("1.txt").unlink()  # committed: it may go
    vanished = stream.folder / "2.txt"
    elsewhere = stream.folder.parent / "2.txt"
    vanished.rename(elsewhere)
    assert stream.gone() == [f"{vanished} is planned to be read and has gone"]
    elsewhere.rename(vanished)
    assert stream.gone() == []
    vanished.unlink()
    # This is the loss: Spark commits the batch, empty, and says nothing
    assert stream.read() == 0
    assert stream.gone() == []


def test_a_range_of_a_source_s_log_has_the_files_of_its_entries(stream):
    for number in range(3):
        stream.land(f"{number}.txt", "a", age=20 - number)
    stream.read()
    logs = Logs(stream.checkpoint)

    def names(**limits):
        return [Path(str(file.path)).name for file in logs.inputs("0", **limits)]

    assert names() == ["0.txt", "1.txt", "2.txt"]
    assert names(until=1) == ["0.txt", "1.txt"]
    assert names(after=0) == ["1.txt", "2.txt"]
    assert names(after=0, until=1) == ["1.txt"]
    assert names(after=1, until=1) == []
