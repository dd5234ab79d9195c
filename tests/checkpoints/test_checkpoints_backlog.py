"""What waits in the folders of a query: the count is held against what the next run reads."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit._internal import durations
from sparkstream_kit._internal.file_system import as_regex
from sparkstream_kit.checkpoints import input_files
from sparkstream_kit.sources.listing import _without_special_names


def reading():
    """A sink that reads each batch; a function of its own, which a server can be sent."""

    def read(batch, _number):
        batch.collect()

    return sinks.foreach_batch(read)


def fill(folder, files):
    """Land so many files of each name, of one row each; what is called old has an old date."""
    for name, count in files.items():
        for number in range(count):
            file = folder / name.format(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("a row\n")
            if name.startswith("old"):
                os.utime(file, (0, 0))


def text(spark, path, **options):
    return sources.text(spark, path, max_files_per_trigger=1, **options)


def with_itself(rows):
    return rows.where("value = 'a row'").union(rows.where("value <> 'a row'"))


# name -> the files that are there, and what reads them
SHAPES: dict[str, tuple[dict[str, int], Callable[[SparkSession, Path], DataFrame]]] = {
    "kinds": (
        {"part {:02}.txt": 4, "{}.md": 3, ".{}.txt": 2, "_{}.txt": 2},
        lambda spark, folder: text(
            spark, folder, pathGlobFilter="{part,whole}*.tx[!y]"
        ),
    ),
    "days": (
        {"day=1/hour=1/{}.txt": 2, "day=2/hour=1/{}.txt": 2},
        lambda spark, folder: text(spark, folder).select("value"),
    ),
    "pattern": (
        {"shop 1/{}.txt": 2, "shop 2/{}.txt": 2, "other/{}.txt": 2},
        lambda spark, folder: text(spark, f"{folder}/{{shop,mall}} [0-9]"),
    ),
    "of files": (
        {"{}.txt": 4, "_{}.txt": 2},
        lambda spark, folder: text(spark, f"{folder}/*"),
    ),
    "odd name": (
        {"sales[7] 100%/{}.txt": 3},
        lambda spark, folder: text(spark, folder / "sales[7] 100%"),
    ),
    "two": (
        {"a/{}.txt": 3, "b/{}.txt": 4, "b/{}.md": 2},
        lambda spark, folder: text(spark, folder / "a").union(
            text(spark, folder / "b", pathGlobFilter="*.txt")
        ),
    ),
    "twice": ({"{}.txt": 3}, lambda spark, folder: with_itself(text(spark, folder))),
    "nothing": ({"{}.txt": 1}, sources.text),
}


@pytest.mark.fast("two", "nothing")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_waits_is_what_the_next_run_reads(spark, folder, tmp_path, shape):
    files, read = SHAPES[shape]
    fill(folder, files)
    frame = read(spark, folder)

    def once(**trigger):
        query = start(
            frame, reading(), name="rows", checkpoint=tmp_path / "ckpt", **trigger
        )
        return run(query, max_batches=None if trigger else 1).queries[0]

    first = once()
    assert first.files_waiting is not None
    rest = once(availableNow=True)
    times = 2 if shape == "twice" else 1  # Spark counts a row as often as it reads it
    assert rest.input_rows == times * first.files_waiting, shape
    assert not rest.files_waiting
    waits = first.files_waiting
    assert (
        f", {waits} {'file' if waits == 1 else 'files'} waiting, " in str(first)
    ) == (waits > 0)
    assert "waiting" not in str(rest)


@pytest.mark.slow
def test_a_file_that_is_too_old_for_spark_does_not_wait(spark, folder, finish):
    fill(folder, {"{}.txt": 1})
    frame = text(spark, folder, maxFileAge="1d")
    assert finish(frame, reading(), "append").queries[0].input_rows == 1
    fill(folder, {"late {}.txt": 3})
    long_ago = time.time() - 2 * 86_400
    os.utime(folder / "late 1.txt", (long_ago, long_ago))
    found = finish(frame, reading(), "append").queries[0]
    assert (found.input_rows, found.files_waiting) == (2, 0)


@pytest.mark.fast("checkpoint")
@pytest.mark.parametrize("kept", [True, False], ids=["checkpoint", "temporary"])
def test_a_recording_says_how_many_files_wait_after_each_batch(
    spark, folder, tmp_path, kept
):
    feeds.drip([(f"{number}.txt", "a row\n") for number in range(15)], folder)
    lines, record = (
        sources.text(spark, folder, max_files_per_trigger=3),
        tmp_path / "record",
    )
    query = start(
        lines, reading(), name="told", checkpoint=tmp_path / "ckpt" if kept else None
    )
    found = run(query, max_batches=5, record=record).queries[0]
    told = [json.loads(line)["files"] for line in record.read_text().splitlines()[1:-1]]
    # The kit looks at each batch, unless the looks take more than a fiftieth of the
    # time.
    assert told[0] == [12, 3]
    assert [read for _, read in told] == sorted(read for _, read in told)
    assert all(waiting + read == 15 for waiting, read in told)
    assert found.files_waiting == 0


@pytest.mark.slow
def test_files_that_land_meanwhile_are_in_the_summary(spark, folder):
    feeds.drip([(f"{number}.txt", "a row\n") for number in range(3)], folder)

    def more(batch, number):
        batch.collect()
        feeds.drip(
            [(f"more-{number}-{each}.txt", "a row\n") for each in range(4)], folder
        )

    query = start(text(spark, folder), sinks.foreach_batch(more), name="behind")
    found = run(query, max_batches=3).queries[0]
    # A batch that begins while the query is stopped may be cut, and has landed files,
    # too.
    wanted = [
        3 + 4 * batches - found.input_rows
        for batches in (found.batches, found.batches + 1)
    ]
    assert found.files_waiting in wanted


def test_looks_take_a_fiftieth_of_the_time_at_most(
    spark, folder, tmp_path, monkeypatch
):
    feeds.drip([(f"{number}.txt", "a row\n") for number in range(4)], folder)
    clock, looks = [0.0], []
    counted = input_files.WatchedSource.count

    def slow(source):
        looks.append(clock[0])
        clock[0] += 1.0  # as for a folder of a million files
        return counted(source)

    def a_second_later(_progress):
        clock[0] += 1.0

    monkeypatch.setattr(input_files.WatchedSource, "count", slow)
    monkeypatch.setattr(durations, "monotonic", lambda: clock[0])
    query = start(
        text(spark, folder), reading(), name="slow", checkpoint=tmp_path / "ckpt"
    )
    found = run(query, max_batches=4, on_batch=a_second_later).queries[0]
    assert len(looks) == 2, "at the first batch, and at the end"
    assert found.files_waiting == 0


def test_a_pattern_of_hadoop_is_one_of_python():
    kept = _without_special_names("sales-*.{csv,txt}", unpacks=False)
    assert kept is not None
    wanted = as_regex(kept)
    assert wanted.fullmatch("sales-2026 (1).csv")
    assert wanted.fullmatch("sales-.txt")
    assert not wanted.fullmatch("sales-?.csv")
    assert not wanted.fullmatch("sales-1.md")
    assert as_regex(r"a\*[^b-c],{d,{e,f}}").fullmatch("a*d,f")
    assert not as_regex(r"a\*[^b-c],{d,{e,f}}").fullmatch("a*b,f")


@pytest.mark.fast("ckpt")
@pytest.mark.classic_only("sets Hadoop's own settings")
@pytest.mark.parametrize("elsewhere", ["in", "ckpt"])
def test_what_is_on_another_file_system_is_not_counted(
    spark, folder, tmp_path, elsewhere
):
    fill(folder, {"{}.txt": 2})
    host = f"backlog-{elsewhere}"
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001
    hadoop.set(f"fs.viewfs.mounttable.{host}.link./far", tmp_path.as_uri())
    places = {"in": str(folder), "ckpt": str(tmp_path / "ckpt")}
    places[elsewhere] = places[elsewhere].replace(str(tmp_path), f"viewfs://{host}/far")
    frame = text(spark, places["in"])
    found = run(
        start(
            frame, reading(), name="rows", checkpoint=places["ckpt"], availableNow=True
        )
    ).queries[0]
    assert (found.input_rows, found.files_waiting) == (2, None)
