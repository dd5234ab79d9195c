"""Logs of files, trimmed of what Spark never looks at again.

Every row comes once, as in plain Spark.
"""

import itertools
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from pyspark.sql import functions as F
from support.crashes import Crash, crash_at

from sparkstream_kit import checkpoints, errors, run, runs, sinks, sources, start
from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints import logs, trim
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

# In one process, for which the old checkpoint is made once
pytestmark = pytest.mark.xdist_group("trim")
SCHEMA = "key STRING, n INT"
# Files of long ago, which are read in one batch, and the batches after it
OLD, BATCHES = 60, 8
FEW = {  # so that a checkpoint of nine batches is as one of a year
    "spark.sql.streaming.minBatchesToRetain": "2",
    "spark.sql.streaming.fileSource.log.compactInterval": "2",
}
NOW = time.time() - 3_600
LONG_AGO = NOW - 30 * 86_400

numbers = itertools.count(1_000)


@pytest.fixture(autouse=True)
def short(monkeypatch, spark):
    """Sizes as if a log of 1 KB were long; each is read from its end in pieces of 300 bytes."""
    monkeypatch.setattr(trim, "LONG", 1_000)
    monkeypatch.setattr(logs, "_END", 300)
    with in_force(spark, FEW):
        yield


@pytest.fixture(params=["memory", "rocksdb"])
def store(spark, request):
    with in_force(spark, {STATE_STORE: STATE_STORES[request.param]}):
        yield


def land(folder, name, at=None, key="new"):
    """Write a file with a row of a number that no other has, and return the number."""
    number, file = next(numbers), folder / f"{name}.json"
    file.write_text(json.dumps({"key": key, "n": number}) + "\n")
    at = NOW + number if at is None else at
    os.utime(file, (at, at))
    return number


def read(spark, folder, *, limit=1, **options):
    return sources.json(
        spark, folder, schema=SCHEMA, max_files_per_trigger=limit, **options
    )


def drive(spark, work, *, plain=False, total=False, limit=1, **options):
    """Read what there is, with the kit or plain Spark, and return the numbers in order."""
    came, frame = [], read(spark, work / "in", limit=limit, **options)
    if total:
        frame = frame.groupBy("key").agg(F.sum("n").alias("n"))
    mode = "complete" if total else "append"

    def keep(batch, _number):
        came.append(sorted(row.n for row in batch.collect()))

    if plain:
        writer = (
            frame.writeStream.foreachBatch(keep)
            .outputMode(mode)
            .trigger(availableNow=True)
        )
        writer.option(
            "checkpointLocation", str(work / "ckpt")
        ).start().awaitTermination()
    else:
        run(begun(frame, sinks.foreach_batch(keep), work, mode=mode))
    return came


def begun(frame, sink, work, **how):
    """Start the query on its checkpoint with all that there is."""
    return start(
        frame, sink, name="trim", checkpoint=work / "ckpt", availableNow=True, **how
    )


def log(work):
    """Return the input files in the newest compacted file, and those that were taken out."""
    newest = max(
        (work / "ckpt/sources/0").glob("*.compact"), key=lambda file: int(file.stem)
    )
    past = (work / "ckpt/sparkstream-kit/trimmed").rglob("[0-9]*")
    return logs.log_file(newest), [
        each for file in past if file.is_file() for each in logs.log_file(file)
    ]


@pytest.fixture(scope="module")
def _grown(spark, tmp_path_factory):
    """A query that has read many files of 30 days ago and some of today."""
    work = tmp_path_factory.mktemp("grown")
    (work / "in").mkdir()
    with in_force(spark, FEW):
        for at in range(OLD):
            land(work / "in", f"old {at}", LONG_AGO + at, "old")
        drive(spark, work, limit=OLD)
        for at in range(BATCHES):
            land(work / "in", f"new {at}")
        drive(spark, work)
    return work


@pytest.fixture
def grown(_grown, tmp_path):
    """A copy of it that the log of its checkpoint names as the place of the files."""
    return moved_to(_grown, tmp_path / "work")


@pytest.fixture
def trimmed(spark, grown):
    """The same, and its log is trimmed."""
    land(grown / "in", "a")
    drive(spark, grown)
    return grown


def moved_to(made, work):
    shutil.copytree(made, work)
    for file in [
        *(work / "ckpt/sources/0").iterdir(),
        *(work / "ckpt").glob("sparkstream-kit/trimmed/0/*"),
    ]:
        file.write_bytes(
            file.read_bytes().replace(str(made).encode(), str(work).encode())
        )
        if file.suffix == ".crc":
            file.unlink()
    return work


def changes(work):
    """Land and touch files as users do after a trim; return the numbers that Spark reads."""
    fresh = land(work / "in", "fresh")
    # An old file is touched: Spark takes it for a new one
    os.utime(work / "in/old 3.json", (NOW, NOW))
    touched = json.loads((work / "in/old 3.json").read_text())["n"]
    anew = land(work / "in", "old 4")  # the same name, written anew
    land(work / "in", "late", LONG_AGO + 1_000)  # too old beside those that were read
    return sorted([fresh, touched, anew])


def flat(batches):
    return sorted(number for batch in batches for number in batch)


@pytest.mark.slow
def test_a_long_log_is_trimmed_and_each_row_comes_once(spark, grown, tmp_path):
    plain = moved_to(grown, tmp_path / "plain")
    assert len(log(grown)[0]) > OLD
    wanted, came = changes(grown), flat(drive(spark, grown))
    kept, out = log(grown)
    assert came == wanted
    assert {each.uri.rpartition("/")[2][:3] for each in out} == {"old"}
    assert len(out) == OLD
    assert len(kept) < 2 * BATCHES
    # And so does Spark alone, whose log has all of them.
    shutil.rmtree(plain / "in")
    shutil.copytree(grown / "in", plain / "in")
    assert flat(drive(spark, plain, plain=True)) == wanted
    # Which takes the checkpoint back, and gives it to the kit again.
    assert [land(grown / "in", "later")] == flat(drive(spark, grown, plain=True))
    assert [land(grown / "in", "last")] == flat(drive(spark, grown))
    assert checkpoints.check(grown / "ckpt") == []


def test_what_no_longer_is_in_the_log_can_be_brought_back(spark, grown):
    before, newest = log(grown)[0], land(grown / "in", "newest")
    assert flat(drive(spark, grown)) == [newest]
    assert checkpoints.untrim(grown / "ckpt") == 1
    kept, out = log(grown)
    assert out == []
    assert set(before) <= set(kept)
    assert [each.entry for each in kept] == sorted(each.entry for each in kept)
    assert checkpoints.untrim(grown / "ckpt") == 0
    assert checkpoints.check(grown / "ckpt") == []


@pytest.mark.fast("latest-first")
@pytest.mark.parametrize(
    "age", [{"maxFileAge": "60d"}, {"latestFirst": True}], ids=["older", "latest-first"]
)
def test_a_source_that_looks_further_back_gets_its_log_back(spark, trimmed, age):
    late = [land(trimmed / "in", "late", LONG_AGO + 1_000), land(trimmed / "in", "b")]
    # Spark now considers the old files again, and the log tells it that they were read.
    assert flat(drive(spark, trimmed, **age)) == late
    assert log(trimmed)[1] == []


@pytest.mark.slow
def test_a_rewind_after_it_brings_the_same_rows(spark, grown):
    new = [land(grown / "in", name) for name in "abcd"]
    assert flat(drive(spark, grown)) == new
    assert log(grown)[1] != []
    shown = checkpoints.show(grown / "ckpt")
    oldest = min(int(file.name) for file in (grown / "ckpt/commits").glob("[0-9]*"))
    checkpoints.rewind(grown / "ckpt", to=oldest, apply=True)
    assert shown.committed is not None
    assert flat(drive(spark, grown)) == new[-(shown.committed - oldest) :]
    assert checkpoints.check(grown / "ckpt") == []


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_a_changed_query_is_built_from_all_files(spark, grown):
    land(grown / "in", "a")
    drive(spark, grown)
    assert len(log(grown)[1]) == OLD
    shutil.move(grown / "ckpt", grown / "first")
    land(grown / "in", "b")
    came = []
    sink = sinks.foreach_batch(
        lambda batch, _: came.append({row.key: row.n for row in batch.collect()})
    )
    frame = read(spark, grown / "in").groupBy("key").agg(F.sum("n").alias("n"))
    run(begun(frame, sink, grown, mode="complete", continues=grown / "first"))
    rows = [json.loads(file.read_text()) for file in (grown / "in").glob("*.json")]
    assert came[-1] == {
        key: sum(row["n"] for row in rows if row["key"] == key)
        for key in ("old", "new")
    }


@pytest.mark.parametrize(
    ("copy", "age"), [(shutil.copy2, "60d"), (shutil.copyfile, "7d")]
)
def test_a_folder_that_has_moved_moves_with_what_was_taken_out(
    spark, trimmed, copy, age
):
    old, moved = trimmed / "in", trimmed / "moved"
    shutil.copytree(old, moved, copy_function=copy)
    number = land(moved, "b")
    came: list[int] = []
    frame = sources.json(spark, moved, schema=SCHEMA, maxFileAge=age)
    sink = sinks.foreach_batch(
        lambda batch, _: came.extend(row.n for row in batch.collect())
    )
    run(begun(frame, sink, trimmed, moved={old: moved}))
    run(begun(frame, sink, trimmed))
    assert came == [number]


@pytest.mark.slow
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("what", ["trim", "restore"])
def test_a_crash_at_any_step_loses_nothing(spark, grown, tmp_path, what, monkeypatch):
    shutil.rmtree(grown / "ckpt")
    monkeypatch.setattr(trim, "LONG", 10**9)
    drive(spark, grown, total=True, limit=OLD)
    for _ in range(4):
        land(grown / "in", f"n{next(numbers)}")
        drive(spark, grown, total=True)
    monkeypatch.setattr(trim, "LONG", 1_000)
    if what == "restore":
        assert went_through(grown, "trim")
    for at in itertools.count():
        work = moved_to(grown, tmp_path / f"at-{at}")
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, at, ((file_system, "replace"), (Path, "unlink")), [])
            ended = went_through(work, what)
        rows = [
            json.loads(file.read_text())["n"] for file in (work / "in").glob("*.json")
        ]
        wanted, came = changes(work), drive(spark, work, total=True)
        assert sum(came[-1]) == sum(rows) + sum(wanted)
        assert len({*log(work)[0], *log(work)[1]}) >= len(rows)
        assert checkpoints.check(work / "ckpt") == []
        if ended:
            break
    assert at == 3


def went_through(work, what):
    """Trim or restore a log; return whether there was no crash."""
    make = trim.due(
        logs.Logs(work / "ckpt"), "0", None if what == "restore" else 7 * 86_400_000
    )
    assert make is not None
    try:
        make()
    except Crash:
        return False
    return True


@pytest.mark.slow
def test_a_long_run_trims_while_it_runs(spark, grown, monkeypatch):
    monkeypatch.setattr(runs, "_LOOK_AT_FILES", 0)
    monkeypatch.setattr(trim, "LONG", 10**9)  # at the start nothing is long
    came: list[int] = []
    more = iter("abcdefgh")

    def keep(batch, _number):
        monkeypatch.setattr(trim, "LONG", 1_000)
        came.extend(row.n for row in batch.collect())
        if name := next(more, None):
            land(grown / "in", name)

    first = land(grown / "in", "first")
    query = start(
        read(spark, grown / "in"),
        sinks.foreach_batch(keep),
        name="trim",
        checkpoint=grown / "ckpt",
    )
    summary = run(query, max_batches=8)
    assert sorted(came)[:8] == list(range(first, first + 8))
    assert summary.warnings == ()
    # Spark may compact the log in the same moment: then the entries are taken out once
    # more.
    assert len({*log(grown)[1]}) == OLD
    assert checkpoints.check(grown / "ckpt") == []


def test_a_query_that_the_kit_has_not_started_is_left_alone(spark, grown, monkeypatch):
    monkeypatch.setattr(runs, "_LOOK_AT_FILES", 0)
    came: list[int] = []
    number = land(grown / "in", "a")
    writer = read(spark, grown / "in").writeStream.option(
        "checkpointLocation", str(grown / "ckpt")
    )
    writer = writer.foreachBatch(
        lambda batch, _: came.extend(row.n for row in batch.collect())
    )
    run(writer.start(), max_batches=1)
    assert came == [number]
    assert log(grown)[1] == []


def test_old_files_that_were_read_are_no_danger_and_others_are(spark, trimmed):
    land(trimmed / "in", "late", LONG_AGO + 1_000)
    land(trimmed / "in", "b")
    (warning,) = run(
        begun(read(spark, trimmed / "in"), sinks.console(), trimmed)
    ).warnings
    assert "late.json: not read, for it is too old" in warning


def test_a_start_that_is_refused_leaves_the_log(spark, grown):
    before, total = log(grown), read(spark, grown / "in").groupBy("key").count()
    with pytest.raises(errors.InvalidInputError, match="different query"):
        begun(total, sinks.console(), grown, mode="complete")
    with pytest.raises(errors.DryRun):
        run(begun(read(spark, grown / "in"), sinks.console(), grown, dry_run=True))
    assert log(grown) == before
