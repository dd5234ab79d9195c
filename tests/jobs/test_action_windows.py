"""`action_rows` and `action_windows`: each line is a row, late or bad; a row counts once."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import action_rows
import action_windows
import pytest
from conftest import in_this_session
from pyspark.sql import functions as F
from support.sink_streams import forget_commit

from sparkstream_kit import feeds
from sparkstream_kit.errors import InvalidInputError, KitError

SIZE = 40  # lines in a file
FLAGS = ("--available-now", "--max-files-per-trigger", "1")


def count(out, *flags):
    in_this_session(
        action_windows, out / "rows", out / "counts", "--available-now", *flags
    )


def disturbed():
    rows = feeds.actions_rows(240, seed=3)
    return feeds.disturb(
        rows, time="time", late=0.05, bad=0.03, ahead=0.03, rows_per_file=SIZE, seed=4
    )


def land(lines, folder, *, skip=0, files=99):
    feeds.drip(
        list(feeds.line_files(lines, rows=SIZE, name="actions-{}.json"))[
            skip : skip + files
        ],
        folder,
    )


def seconds(time):
    return int(time.replace(tzinfo=UTC).timestamp())


def found(spark, folder, columns="time, action"):
    rows = spark.read.parquet(str(folder)).selectExpr(*columns.split(", ")).collect()
    return sorted(
        tuple(seconds(v) if isinstance(v, datetime) else v for v in row) for row in rows
    )


def as_tuples(rows):
    return sorted((row["time"], row["action"]) for row in rows)


def counts(written):
    rows = written.select(F.col("start").cast("string"), "action", "count").collect()
    return sorted((row[0], row[1], row[2]) for row in rows)


def late_by_the_checkpoint(arriving, checkpoint):
    """Compute the late rows from the watermark that each batch had, one file in each batch."""
    late = []
    for batch in range(-(-len(arriving) // SIZE)):
        text = (checkpoint / "offsets" / str(batch)).read_text().splitlines()[1]
        watermark = json.loads(text)["batchWatermarkMs"]
        rows = [
            row
            for row in arriving[batch * SIZE : (batch + 1) * SIZE]
            if not isinstance(row, str)
        ]
        missed = [row for row in rows if row["time"] * 1000 <= watermark]
        late += [(row["time"], row["action"], watermark // 1000) for row in missed]
    return sorted(late)


@pytest.mark.slow
def test_late_rows_are_exactly_those_of_the_watermarks_and_the_rest_counts_once_over_a_restart_and_a_kill(  # noqa: E501 - a name has no place to break
    spark, folder, tmp_path, capsys
):
    out, given = tmp_path / "out", disturbed()
    lines = [feeds.json_line(row) for row in given.arriving]
    land(lines, folder, files=3)
    in_this_session(action_rows, folder, out, *FLAGS)
    count(out)
    for checkpoint in (out / "_checkpoint" / "rows", out / "counts" / "_checkpoint"):
        forget_commit(checkpoint)
    land(lines, folder, skip=3)
    in_this_session(action_rows, folder, out, *FLAGS)
    count(out, "--drain")

    late = found(spark, out / "late", "time, action, watermark")
    assert late == late_by_the_checkpoint(given.arriving, out / "_checkpoint" / "rows")
    assert [row[:2] for row in late] == as_tuples(given.late) != []
    assert found(spark, out / "rows") == as_tuples(given.counted)
    bad = Counter(
        row[0].partition(":")[0] for row in found(spark, out / "bad", "_reason")
    )
    assert bad == {
        "not valid JSON, or a field twice": len(given.bad),
        "time": len(given.ahead),
    }
    assert counts(spark.read.parquet(str(out / "counts"))) == feeds.actions_truth(
        given.counted
    )
    # What the kit itself has put there is no loss
    assert "not read" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.classic_only("what is set aside is counted at the server")
def test_more_late_rows_than_allowed_fail_the_job(folder, tmp_path, capsys):
    """The first of 40 rows comes again, in its own batch, when all others are days newer."""
    rows = [
        {"time": 1_469_500_000 + number * 86_400, "action": "Open"}
        for number in range(SIZE)
    ]
    land(map(feeds.json_line, [*rows, rows[0]]), folder)
    in_this_session(action_rows, folder, tmp_path / "out", *FLAGS, "--max-late", "2.5%")
    assert ", 1 late row set aside, " in capsys.readouterr().err
    with pytest.raises(
        KitError, match=r"1 set aside as late, of 41 rows; --max-late is 2\.4%$"
    ):
        in_this_session(
            action_rows, folder, tmp_path / "other", *FLAGS, "--max-late", "2.4%"
        )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["update", "complete"])
def test_update_and_complete_come_to_the_same_counts(spark, folder, tmp_path, mode):
    out, given = tmp_path / "out", disturbed()
    land(map(feeds.json_line, given.arriving), folder)
    in_this_session(action_rows, folder, out, *FLAGS)
    count(out, "--mode", mode, "--slide", "30 minutes")
    assert [row[:2] for row in found(spark, out / "late")] == as_tuples(given.late)
    written = spark.read.parquet(str(out / "counts"))
    if mode == "complete":
        written = written.where(
            F.col("batch") == written.agg(F.max("batch")).collect()[0][0]
        )
    last_of_each = written.groupBy("start", "action").agg(
        F.max_by("count", "batch").alias("count")
    )
    assert counts(last_of_each) == feeds.actions_truth(
        given.counted, slide="30 minutes"
    )


BAD = {
    '{"time": "1469501107", "action": "Open"}': "time: not a bigint",
    '{"time": 1469501107}': "action: missing",
    '{"time": 9223372036854775807, "action": "Open"}': (
        "time: +294247-01-10 04:00:54.775807 is more than 1"
    ),
    '{"time": 1469501107000, "action": "milliseconds"}': "time: +48536-",
    "Open": "not valid JSON",
}


def test_what_is_no_action_is_a_bad_line_with_its_reason(spark):
    lines = spark.createDataFrame(
        [(line,) for line in [*BAD, '{"time": 1, "action": ""}']], "value STRING"
    )
    rows = (
        action_rows.transform(lines, "10 minutes")
        .select("_reason", "_raw", "action")
        .collect()
    )
    for (line, reason), row in zip(BAD.items(), rows[:-1], strict=True):
        assert row["_raw"] == line
        assert str(row["_reason"]).startswith(reason)
    assert rows[-1]["_reason"] is None


def test_a_static_frame_gives_the_truth(spark):
    rows = list(feeds.actions_rows(300, seed=5))
    frame = spark.createDataFrame(
        [(row["time"], row["action"]) for row in rows], "seconds BIGINT, action STRING"
    )
    timed = frame.select(F.timestamp_seconds("seconds").alias("time"), "action")
    for slide in ("1 hour", "30 minutes", "25 minutes"):
        static = action_windows.transform(timed, "10 minutes", slide)
        assert counts(static) == feeds.actions_truth(rows, slide=slide)


def test_a_slide_that_cannot_be_is_one_line(folder, tmp_path):
    with pytest.raises(
        InvalidInputError, match="slide 2 hours is longer than length 1 hour"
    ):
        in_this_session(
            action_windows,
            folder,
            tmp_path / "out",
            "--slide",
            "2 hours",
            "--available-now",
        )


@pytest.mark.slow
@pytest.mark.connect
def test_as_a_process_of_its_own_it_goes_on_where_it_was(job, spark, folder, tmp_path):
    rows, out = list(feeds.actions_rows(160, seed=9)), tmp_path / "out"
    for number in range(2):
        land(map(feeds.json_line, rows), folder, skip=2 * number, files=2)
        done = job("python", "action_rows", folder, out, *FLAGS)
        assert done.stdout == ""
        assert "action_rows: 2 batches, 80 rows in" in done.stderr
        flags = ("--available-now", *(["--drain"] if number else []))
        done = job("python", "action_windows", out / "rows", out / "counts", *flags)
        assert done.stdout == ""
        assert "action_counts: " in done.stderr
    assert counts(spark.read.parquet(str(out / "counts"))) == feeds.actions_truth(rows)


@pytest.mark.slow
def test_the_state_is_bounded_by_the_windows_that_are_open(stream):
    # 20,000 rows over 200 hours in 5 batches: each closes the windows of the one
    # before.
    source = stream("time TIMESTAMP, action STRING")
    query = stream.query(action_windows.transform(source.to_df(), "10 minutes"))
    start, kept, closed = datetime.fromisoformat("2010-01-01"), [], 0
    for batch in range(5):
        times = (
            start + timedelta(hours=40 * batch, seconds=36 * number)
            for number in range(4000)
        )
        source.add_data([(time, f"a{number % 3}") for number, time in enumerate(times)])
        batches = query.step()
        kept.append(batches[-1].progress.stateOperators[0].numRowsTotal)
        closed += sum(row["count"] for each in batches for row in each.rows)
    # Windows that a row of 10 minutes ago falls in, by actions
    assert max(kept) <= 2 * 3
    assert closed == 19_900  # 100 rows are in the last hour
