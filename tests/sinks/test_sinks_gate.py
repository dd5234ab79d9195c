"""`sinks.by_watermark`: each row to one of two sinks, by the watermark in the checkpoint."""

import json
from datetime import datetime, timedelta

import pytest
from conftest import refusal
from support.sink_streams import noting

from sparkstream_kit import sinks, start
from sparkstream_kit.errors import InvalidInputError

pytestmark = pytest.mark.connect
# Rows of each batch, in seconds; the watermark is 10 seconds behind the newest row of
# the batches before.
BATCHES: list[list[int | None]] = [
    [100],
    [200, None],
    [150, 201],
    [151, 190, 300],
    [290, 291, 400],
]
# And the watermark that each has missed
LATE = {150: 190, 151: 191, 190: 191, 290: 290}


def at(second):
    return datetime(2026, 1, 1) + timedelta(seconds=second)  # noqa: DTZ001 - in UTC


def gate(out, time="time"):
    return sinks.by_watermark(
        time,
        on_time=sinks.batch_files(out / "rows"),
        late=sinks.batch_files(out / "late"),
    )


def written(spark, out):
    """Return the times of rows on time, and the watermark that each late one has missed."""
    rows, late = (
        spark.read.parquet(str(out / name)).collect() for name in ("rows", "late")
    )
    return sorted(str(row[0]) for row in rows), {
        row[0]: row["watermark"] for row in late
    }


@pytest.mark.slow
def test_late_is_what_the_watermarks_of_the_checkpoint_say(spark, stream, tmp_path):
    source = stream("`a time.` TIMESTAMP, n INT")
    frame = source.to_df().withWatermark("`a time.`", "10 seconds")
    for batch in BATCHES:  # all at once: no batch without data comes between two
        source.add_data(
            [(None if second is None else at(second), 0) for second in batch]
        )
    # Spark's names have no case
    query = stream.query(frame, sink=gate(tmp_path, "A Time."))
    batches = query.step()
    checkpoint = stream.folder / "query-0" / "checkpoint" / "offsets"
    expected = {}
    for delivered in batches:
        plan = (checkpoint / str(delivered.batch_id)).read_text().split("\n")[1]
        watermark = datetime(1970, 1, 1) + timedelta(  # noqa: DTZ001
            milliseconds=json.loads(plan)["batchWatermarkMs"]
        )
        for row in delivered.rows:
            if row[0] is not None and row[0] <= watermark:
                expected[row[0]] = watermark
    assert expected == {at(second): at(missed) for second, missed in LATE.items()}
    on_time = [second for batch in BATCHES for second in batch if second not in LATE]
    texts = sorted("None" if second is None else str(at(second)) for second in on_time)
    # A batch that comes again, with a late row in it, is split the same way
    query.replay()
    assert written(spark, tmp_path) == (texts, expected)
    assert spark.read.parquet(str(tmp_path / "rows")).columns == [
        "a time.",
        "n",
        "batch",
    ]


def test_what_cannot_work_is_one_line(spark, stream, tmp_path):
    source = stream("time TIMESTAMP, n INT")
    frame = source.to_df().withWatermark("time", "10 seconds")

    def refused(frame, sink, **more):
        return refusal(
            start, frame, sink, name="gate", **{"checkpoint": tmp_path / "ckpt", **more}
        )

    sink = gate(tmp_path)
    own = sinks.foreach_batch(lambda batch, _: batch.foreach(print))
    printed = sinks.by_watermark("time", on_time=own, late=own)
    assert "supports output mode append, not update" in refused(
        frame, sink, mode="update"
    )
    assert "has no watermark; give it one first: windows.with_watermark(" in refused(
        source.to_df(), sink
    )
    assert "by_watermark(): there is no column tim; did you mean time?" in refused(
        frame, gate(tmp_path, "tim")
    )
    assert "event-time column n is int, not a timestamp" in refused(
        frame, gate(tmp_path, "n")
    )
    assert "column Watermark exists already" in refused(
        frame.withColumn("Watermark", frame.n), sink
    )
    assert "needs a checkpoint" in refused(frame, sink, checkpoint=None)
    assert "give start(…, checkpoint='folder')" in refused(
        frame, printed, checkpoint=None
    )
    with pytest.raises(
        InvalidInputError,
        match=r"by_watermark\(\) takes sinks that work batch by batch",
    ):
        sinks.by_watermark("time", on_time=sinks.console(), late=sinks.files("x"))
    with pytest.raises(
        InvalidInputError,
        match="append mode, which latest does not support; give another",
    ):
        sinks.by_watermark("time", on_time=own, late=sinks.latest("late"))


@pytest.mark.slow
@pytest.mark.classic_only("what a function counts is at the server")
def test_a_batch_is_computed_once_within_a_fan_out(stream, tmp_path):
    source = stream("time TIMESTAMP, n INT")
    counted = noting(tmp_path / "computed")("n")
    frame = source.to_df().withWatermark("time", "10 seconds").withColumn("n", counted)
    both = sinks.fan_out(gate(tmp_path), sinks.batch_files(tmp_path / "all"))
    query = stream.query(frame, sink=both)
    source.add_data([(at(1), 1), (at(2), 2)])
    query.step()
    assert (tmp_path / "computed").read_text() == "1\n2\n"
