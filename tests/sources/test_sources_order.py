"""Files of one time, as of `cp` and `unzip`: read by their names, and nothing else changes."""

import os
from datetime import datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import functions as F

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints import logs
from sparkstream_kit.checkpoints.fingerprint import fingerprint
from sparkstream_kit.errors import QueryFailed
from sparkstream_kit.sources import listing

pytestmark = pytest.mark.connect
NAMES = [f"f{number:02}.csv" for number in range(12)]


def land(folder, *names, at=1_700_000_000):
    """Put a file of one row at each name, all of one time; the row is the file's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{name}\n")
        os.utime(folder / name, (at, at))


def drop(batch, _):
    batch.collect()


def through(lines, sink, folder, **more):
    """Run over what is there, on the checkpoint of a folder."""
    return run(
        start(
            lines,
            sink,
            name="order",
            checkpoint=folder / "ckpt",
            availableNow=True,
            **more,
        )
    )


@pytest.fixture
def read(spark, tmp_path):
    """Read a folder on a checkpoint, one file a batch; return the rows batch by batch."""
    if "SPARK_REMOTE" in os.environ:
        pytest.skip("classic only: the batches are seen in this process")

    def values(path, *, plain=False, **more):
        rows: dict[int, list[str]] = {}

        def keep(batch, batch_id):
            rows[batch_id] = [row.value for row in batch.collect()]

        options: dict[str, Any] = {
            key: more.pop(key)
            for key in ("recursiveFileLookup", "pathGlobFilter")
            if key in more
        }
        with pytest.MonkeyPatch.context() as patch:
            if plain:
                patch.setattr(
                    listing,
                    "by_name",
                    lambda spark, path, place, options: (place, None),
                )
            lines = sources.text(
                spark, str(path), **{"max_files_per_trigger": 1, **options}
            )
        through(lines, sinks.foreach_batch(keep), tmp_path, **more)
        return [value for number in sorted(rows) for value in rows[number]]

    return values


@pytest.mark.slow
def test_files_of_one_time_are_read_by_their_names(read, folder):
    land(folder, *reversed(NAMES))
    assert read(folder) == NAMES
    land(folder, "g2.csv", "g0.csv", "g1.csv", at=1_700_000_001)
    land(folder, "a.csv", at=1_700_000_002)
    assert read(folder) == ["g0.csv", "g1.csv", "g2.csv", "a.csv"]


@pytest.mark.fast("in")
@pytest.mark.parametrize("root", ["in", "in[1]", "a b%20c", "däy=1"])
def test_nothing_else_is_read_and_nothing_less(read, tmp_path, root):
    folder = tmp_path / root
    names = [*NAMES[:3], "a file.txt", "c%20d", "é", "no_ending", "_k=1"]
    land(folder, *reversed(names))
    land(folder, "_hidden", ".hidden", "g._COPYING_")
    for below in ("archive", "v1.csv", "_staged", ".staged", "archive/deep"):
        land(folder / below, "not.csv")
    assert sorted(read(folder)) == sorted(names)
    land(folder / "later", "not.csv")
    land(folder, "z.csv", at=1_700_000_001)
    assert read(folder) == ["z.csv"]


@pytest.mark.slow
def test_names_that_spark_misreads_come_in_their_order_too(read, folder):
    names = ["a[1].csv", "b*.csv", "c d.csv", "e{f}.csv"]
    land(folder, *reversed(names))
    assert read(folder) == names
    land(folder, "f:g.csv", "h.csv")
    # Hadoop would fail at a pattern
    assert sorted(read(folder)) == ["f:g.csv", "h.csv"]


@pytest.mark.slow
def test_the_users_own_pattern_for_names_holds(read, folder):
    land(folder, *reversed(NAMES), "x.txt")
    assert read(folder, pathGlobFilter="*.csv") == NAMES


@pytest.mark.parametrize("below", ["day=1", "sub"])
def test_folders_that_are_read_stay_as_they_were(read, folder, below):
    """Partition folders and subfolders that are asked for: no pattern would list these by name."""
    land(folder / below, *NAMES[:4])
    assert (
        sorted(read(folder, **{"recursiveFileLookup": True} if below == "sub" else {}))
        == NAMES[:4]
    )


@pytest.mark.slow
def test_a_checkpoint_of_the_plain_path_goes_on_and_back(read, folder):
    land(folder, *NAMES[:4])
    assert sorted(read(folder, plain=True)) == NAMES[:4]
    assert read(folder) == []
    land(folder, *reversed(NAMES[4:8]))
    assert read(folder) == NAMES[4:8]
    land(folder, *NAMES[8:])
    assert sorted(read(folder, plain=True)) == NAMES[8:]


@pytest.mark.slow
def test_a_folder_that_has_moved_goes_on(read, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    land(old, *NAMES[:4])
    assert read(old) == NAMES[:4]
    old.rename(new)
    land(new, *reversed(NAMES[4:]))
    assert read(new, moved={old: new}) == NAMES[4:]


def test_the_state_of_a_query_does_not_tell_how_its_files_are_listed(
    spark, folder, monkeypatch
):
    land(folder, *NAMES)

    def queries():
        rows = sources.csv(
            spark, folder, schema="a INT, b STRING", max_files_per_trigger=1
        )
        file = rows.select("*", F.col("_metadata.file_path").alias("f"))
        return [
            rows.groupBy("b").count(),
            rows.union(rows).groupBy("a").count(),
            file.groupBy("f").count(),
        ]

    ours = queries()
    monkeypatch.setattr(
        listing, "by_name", lambda spark, path, place, options: (place, None)
    )
    texts = [
        (fingerprint(each, "update"), fingerprint(other, "update"))
        for each, other in zip(ours, queries(), strict=True)
    ]
    assert all(one == other and "RLIKE" not in one for one, other in texts), texts


@pytest.mark.slow
@pytest.mark.classic_only("a function of this module is no module of the server")
def test_a_dry_run_names_the_folder_and_a_subfolder_is_said_to_be_passed_over(
    spark, folder, tmp_path
):
    land(folder, *NAMES)
    land(folder / "sub", "not.csv")
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    text = str(start(lines, sinks.memory("order_dry"), checkpoint=None, dry_run=True))
    assert f"files of {folder}\n" in f"{text}\n"
    summary = through(lines, sinks.foreach_batch(drop), tmp_path)
    assert [line for line in summary.warnings if "subfolder" in line], summary.warnings
    found = [file.path for file in logs.Logs(tmp_path / "ckpt").inputs("0")]
    assert [path for path in found if path != str(folder / "sub/not.csv")] == [
        str(folder / n) for n in NAMES
    ]
    assert (
        through(lines, sinks.foreach_batch(drop), tmp_path).warnings == summary.warnings
    )
    ended = start(
        lines,
        sinks.foreach_batch(drop),
        name="order",
        checkpoint=tmp_path / "ckpt",
        availableNow=True,
    )
    # So that no event tells the run of a progress, which has no batch either
    ended.awaitTermination()
    assert run(ended).warnings == summary.warnings


@pytest.mark.slow
def test_a_folder_of_partitions_that_comes_while_files_are_read_by_name_is_not_lost(
    read, spark, folder
):
    land(folder, *NAMES)
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    land(folder / "day=2", "late.csv", at=1_700_000_001)
    with pytest.raises(
        QueryFailed,
        match="the first folder of partitions has come; start the query again",
    ):
        through(lines, sinks.foreach_batch(drop), folder.parent)
    assert read(folder) == ["late.csv"]


def test_a_folder_is_listed_as_ever_where_the_order_does_not_matter(
    spark, folder, monkeypatch
):
    def place(**options):
        given = {name.lower(): value for name, value in options.items()}
        return listing.by_name(spark, str(folder), str(folder), given)[0]

    land(folder, *NAMES)
    assert place(maxFilesPerTrigger=1) != str(folder)
    assert (
        place(maxFilesPerTrigger=len(NAMES))
        == place(maxBytesPerTrigger=1 << 20)
        == str(folder)
    )
    assert place(maxBytesPerTrigger=10) != str(folder)
    # Of a file sink, which lists what is committed
    (folder / "_spark_metadata").mkdir()
    assert place(maxFilesPerTrigger=1) == str(folder)
    (folder / "_spark_metadata").rmdir()
    with in_force(
        spark, {"spark.sql.sources.parallelPartitionDiscovery.threshold": "11"}
    ):
        # Spark would start a job to list them
        assert place(maxFilesPerTrigger=1) == str(folder)
    for number, name in enumerate(NAMES):
        os.utime(folder / name, (number, number))
    assert place(maxFilesPerTrigger=1) == str(folder)


@pytest.mark.slow
@pytest.mark.classic_only("the batches are seen in this process")
def test_twenty_days_copied_at_once_lose_no_row(spark, folder, tmp_path):
    for number in reversed(range(20)):
        day = datetime.fromisoformat("2026-01-01") + timedelta(days=number)
        (folder / f"{day:%F}.csv").write_text(
            "".join(f"{day + timedelta(hours=hour)},a\n" for hour in range(24))
        )
        os.utime(folder / f"{day:%F}.csv", (1_700_000_000,) * 2)
    rows = sources.csv(
        spark, folder, schema="at TIMESTAMP, k STRING", max_files_per_trigger=1
    )
    days = rows.withWatermark("at", "2 days").groupBy(F.window("at", "1 day")).count()
    totals: dict[object, int] = {}

    def keep(batch, _):
        totals.update({row.window.start: row["count"] for row in batch.collect()})

    (done,) = run(
        start(
            days,
            sinks.foreach_batch(keep),
            name="days",
            mode="update",
            availableNow=True,
        )
    ).queries
    assert (done.late_rows, sorted(totals.values())) == (0, [24] * 20)
