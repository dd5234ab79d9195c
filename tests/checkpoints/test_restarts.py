"""Every stateful operator goes on from its checkpoint, in as many partitions as users have."""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from spark.test_inputs import SHAPES
from support.checkpoint_queries import land, stream

from sparkstream_kit import checkpoints, run, sinks, start
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate.check import damage
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

Rows = list[list[str]]
Build = Callable[[SparkSession, Path], DataFrame]

PARTITIONS = "spark.sql.shuffle.partitions"


def keeping(found):
    """Return the function of a batch that keeps its rows as texts."""
    return lambda batch, _: found.extend(
        [str(value) for value in row] for row in batch.collect()
    )


def go_on(frame, checkpoint, mode):
    """Start the query on its checkpoint, run it to the end of its input, return its rows."""
    found: Rows = []
    sink = sinks.foreach_batch(keeping(found))
    run(
        start(
            frame,
            sink,
            name="again",
            mode=mode,
            checkpoint=checkpoint,
            availableNow=True,
        )
    )
    return found


# --- the operators: each with its output mode; rows of three keys come a minute after
# those before them


def timed(spark, folder):
    return stream(spark, folder).withWatermark("time", "1 minute")


def joined(spark, folder, how):
    right = stream(spark, folder.with_name("right")).where("key < 'c'")
    right = right.selectExpr("key AS k", "n AS m", "time AS at").withWatermark(
        "at", "1 minute"
    )
    near = "key = k AND at BETWEEN time AND time + INTERVAL 1 minute"
    return timed(spark, folder).join(right, F.expr(near), how)


def counted_in_pandas(spark, folder):
    import pandas as pd  # type: ignore[import-untyped]
    from pyspark.sql.streaming.state import GroupStateTimeout

    def count(key, frames, state):
        number = (state.get[0] if state.exists else 0) + sum(
            len(frame) for frame in frames
        )
        state.update((number,))
        yield pd.DataFrame({"key": [key[0]], "n": [number]})

    keyed, timeout = stream(spark, folder).groupBy("key"), GroupStateTimeout.NoTimeout
    return keyed.applyInPandasWithState(
        count, "key STRING, n INT", "n INT", "update", timeout
    )


def transformed(spark: SparkSession, folder: Path, *, in_pandas: bool):
    import pandas as pd
    from pyspark.sql import Row
    from pyspark.sql.streaming.stateful_processor import StatefulProcessor

    class Count(StatefulProcessor):
        def init(self, handle: Any) -> None:
            self.seen = handle.getValueState("seen", "n INT")

        def handleInputRows(self, key: Any, rows: Any, timerValues: Any) -> Any:  # noqa: N803 - Spark's
            more = sum(len(frame) for frame in rows) if in_pandas else len(list(rows))
            number = (self.seen.get()[0] if self.seen.exists() else 0) + more
            self.seen.update((number,))
            yield (
                pd.DataFrame({"key": [key[0]], "n": [number]})
                if in_pandas
                else Row(key=key[0], n=number)
            )

        def close(self) -> None:
            pass

    keyed = stream(spark, folder).groupBy("key")
    how = keyed.transformWithStateInPandas if in_pandas else keyed.transformWithState
    return how(Count(), "key STRING, n INT", "Update", "None")


def windowed(spark, folder):
    return (
        timed(spark, folder)
        .groupBy(F.window("time", "2 minutes"), "key")
        .agg(F.sum("n").alias("n"))
    )


def windows_of_windows(spark, folder):
    return (
        windowed(spark, folder).groupBy(F.window("window", "4 minutes")).agg(F.sum("n"))
    )


def sessions(spark, folder):
    return (
        timed(spark, folder)
        .groupBy(F.session_window("time", "30 seconds"), "key")
        .count()
    )


OPERATORS: dict[str, tuple[str, Build]] = {
    "sum of all": (
        "update",
        lambda spark, folder: stream(spark, folder).agg(F.sum("n")),
    ),
    "count of all": (
        "complete",
        lambda spark, folder: stream(spark, folder).groupBy().count(),
    ),
    "sum by key": (
        "update",
        lambda spark, folder: stream(spark, folder).groupBy("key").agg(F.sum("n")),
    ),
    "sum by window": ("append", windowed),
    "window of windows": ("append", windows_of_windows),
    "session windows": ("append", sessions),
    "limit": (
        "append",
        lambda spark, folder: stream(spark, folder).select("key", "n").limit(7),
    ),
    "limit of totals": (
        "complete",
        lambda spark, folder: (
            stream(spark, folder).groupBy("key").count().orderBy("key").limit(2)
        ),
    ),
    "dropDuplicates": (
        "append",
        lambda spark, folder: stream(spark, folder).dropDuplicates(["key"]),
    ),
    "dropDuplicates in time": (
        "append",
        lambda spark, folder: timed(spark, folder).dropDuplicates(["key", "time"]),
    ),
    "dropDuplicatesWithinWatermark": (
        "append",
        lambda spark, folder: timed(spark, folder).dropDuplicatesWithinWatermark(
            ["key"]
        ),
    ),
    "count of the distinct": (
        "update",
        lambda spark, folder: (
            stream(spark, folder).select("key").distinct().groupBy().count()
        ),
    ),
    **{
        f"{how} join": ("append", functools.partial(joined, how=how))
        for how in ("inner", "left_outer", "right_outer", "full_outer", "left_semi")
    },
    "applyInPandasWithState": ("update", counted_in_pandas),
    "transformWithStateInPandas": (
        "update",
        functools.partial(transformed, in_pandas=True),
    ),
    "transformWithState": ("update", functools.partial(transformed, in_pandas=False)),
}
IN_ONE_PARTITION: dict[str, list[int | None]] = {
    "sum of all": [1],
    "count of all": [1],
    "limit": [1],
    "count of the distinct": [1, None],
}
TIMES = [(0, 1), (2, 3), (4, 5)]  # the files that land before each start


@pytest.fixture(scope="module")
def truth(spark, tmp_path_factory):
    """Return what plain Spark gives for an operator in one partition, without a stop."""
    own = spark.newSession()
    own.conf.set(PARTITIONS, 1)
    own.conf.set(STATE_STORE, STATE_STORES["rocksdb"])
    return functools.cache(
        lambda operator: without_a_stop(own, operator, tmp_path_factory.mktemp("truth"))
    )


def without_a_stop(spark, operator, folder):
    mode, build = OPERATORS[operator]
    found: Rows = []
    for name in ("in", "right"):
        (folder / name).mkdir()
    query = (
        build(spark, folder / "in")
        .writeStream.foreachBatch(keeping(found))
        .outputMode(mode)
        .start()
    )
    try:
        for files in TIMES:
            for name in ("right", "in"):
                land(folder / "landing", *files)
                # Whole, as the query is running
                for file in sorted((folder / "landing").iterdir()):
                    file.rename(folder / name / file.name)
            query.processAllAvailable()
    finally:
        query.stop()
    assert found
    return sorted(found)


# Each store and each number of partitions with every operator; all pairs of them with
# FULL=1.
@pytest.mark.parametrize(
    ("store", "partitions"),
    [
        ("memory", 2),
        ("rocksdb", 3),
        *([("memory", 3), ("rocksdb", 2)] if "FULL" in os.environ else []),
    ],
)
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.slow
def test_every_operator_goes_on_as_if_it_had_not_been_stopped(
    truth, as_local, tmp_path, operator, store, partitions, caplog
):
    mode, build = OPERATORS[operator]
    as_local.conf.set(PARTITIONS, partitions)
    # TransformWithState gets RocksDB from `start`
    as_local.conf.set(STATE_STORE, STATE_STORES[store])
    checkpoint, found = tmp_path / "check point", []
    for files in TIMES:
        for name in ("right", "in"):
            land(tmp_path / name, *files)
        found += go_on(build(as_local, tmp_path / "in"), checkpoint, mode)
        assert checkpoints.check(checkpoint) == []
    assert sorted(found) == truth(operator)
    # What `start` gives to transformWithState is no setting of the session's, and no
    # word is said of it.
    assert as_local.conf.get(STATE_STORE) == STATE_STORES[store]
    if operator.startswith("transform"):
        assert caplog.messages == []
    states = checkpoints.show(checkpoint).states
    expected = IN_ONE_PARTITION.get(operator, [None] * len(states))
    assert [state.partitions for state in states] == [
        known or partitions for known in expected
    ]
    real_damage_is_told(checkpoint)


def real_damage_is_told(checkpoint):
    """Take away each partition of each store in turn: its newest file, then the whole.

    A last partition that is gone as a whole is told by Spark alone, which does not
    start without it.
    """
    files = checkpoint.glob("state/**/*")
    named = (
        (re.match(r"(\d+)[._].*(delta|changelog)$", file.name), file) for file in files
    )
    newest = dict(
        sorted((file.parent, (int(match[1]), file)) for match, file in named if match)
    )
    assert newest
    for folder, (version, file) in newest.items():
        is_partition = folder.name.isdecimal() and folder.name != "0"
        is_last = is_partition and folder == max(folder.parent.glob("[0-9]*"))
        for lost in (file,) if is_last else (file, folder):
            lost.rename(checkpoint / "away")
            said = damage(Logs(checkpoint))
            (checkpoint / "away").rename(lost)
            assert f" {folder.relative_to(checkpoint)}/{version}." in str(said)
    assert damage(Logs(checkpoint)) is None


@pytest.mark.fast("aba")
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) > 2])
def test_a_frame_that_is_read_twice_goes_on(as_local, tmp_path, shape):
    """It stands twice in Spark's plans, and has one log; a later source has the next one."""
    joined = "with itself" in shape
    order = shape if not joined else "aab" if shape[0] == "a" else "baa"
    logs = [*dict.fromkeys(order)]
    folders = {name: tmp_path / name for name in "ab"}
    checkpoint, found = tmp_path / "checkpoint", []
    for landing in (
        {"a": (0, 1), "b": (0,)},
        {"a": (), "b": (1, 2, 3)},
        {"a": (2,), "b": ()},
    ):
        for name, numbers in landing.items():
            land(folders[name], *numbers)
        frame = SHAPES[shape](
            *(stream(as_local, folder) for folder in folders.values())
        )
        found += go_on(frame.select("n"), checkpoint, "append")
        assert checkpoints.check(checkpoint) == []
        last = {
            name: str(len([*folder.iterdir()]) - 1) for name, folder in folders.items()
        }
        seen = [
            (source.folder, source.committed)
            for source in checkpoints.show(checkpoint).sources
        ]
        assert seen == [(str(folders[name]), last[name]) for name in order]
    read, names = {"a": (0, 1, 2), "b": (0, 1, 2, 3)}, logs if joined else order
    expected = [
        10 * number + i for name in names for number in read[name] for i in range(3)
    ]
    assert sorted(int(row[0]) for row in found) == sorted(expected)
    checkpoints.rewind(checkpoint, to=1, apply=True)
    assert checkpoints.check(checkpoint) == []
    for log in range(2):
        newest = max(
            checkpoint.glob(f"sources/{log}/[0-9]*"), key=lambda path: int(path.name)
        )
        newest.rename(tmp_path / "away")
        assert f"sources/{log}/{newest.name} is missing" in str(
            damage(Logs(checkpoint))
        )
        (tmp_path / "away").rename(newest)
