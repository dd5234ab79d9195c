"""The job `log_errors`: errors by path and minute, sessions by host, and no line lost."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import log_errors
import pytest
from conftest import in_this_session
from pyspark.sql import functions as F
from support.sink_streams import forget_commit

from sparkstream_kit import feeds, windows

SIZE = 60  # lines in a file
FLAGS = ("--available-now", "--max-files-per-trigger", "1")
NIGHT = datetime.fromisoformat("1995-07-01 04:00:00")
COLUMNS = "host STRING, time TIMESTAMP, request STRING, status INT, bytes BIGINT"


def land(lines, folder, *, skip=0, files=99):
    feeds.drip(
        list(feeds.line_files(lines, rows=SIZE, name="access-{}.log"))[
            skip : skip + files
        ],
        folder,
    )


def as_rows(rows):
    """Return what the generator made, as the parse gives it."""
    return [
        (
            row["host"],
            datetime.fromtimestamp(row["time"], UTC).replace(tzinfo=None),
            *list(row.values())[2:5],
        )
        for row in rows
    ]


def reported(report):
    """Return the rows with their times as texts, without the end of a minute, in order."""
    times = [F.col(name).cast("string") for name in ("start", "end")]
    if "path" in report.columns:
        return sorted(
            map(tuple, report.select(times[0], "path", "requests", "errors").collect())
        )
    return sorted(
        map(tuple, report.select("host", *times, "requests", "errors").collect())
    )


@pytest.mark.slow
def test_the_report_is_the_truth_and_bad_lines_are_aside_over_a_restart_and_a_kill(
    spark, folder, tmp_path
):
    made = feeds.log_rows(240, seed=3)
    given = feeds.disturb(
        made, time="time", bad=0.03, ahead=0.03, rows_per_file=SIZE, seed=4
    )
    lines, out = [feeds.log_line(row) for row in given.arriving], tmp_path / "out"
    land(lines, folder, files=2)
    in_this_session(log_errors, folder, out, *FLAGS)
    for query in ("bad", "errors"):
        forget_commit(out / "_checkpoint" / query)
    land(lines, folder, skip=2)
    in_this_session(log_errors, folder, out, *FLAGS, "--drain")

    report = spark.read.parquet(str(out / "errors"))
    truth = feeds.log_errors(given.counted)
    assert reported(report) == [each[:4] for each in truth]
    p95 = {
        row[:2]: row[2]
        for row in report.select(F.col("start").cast("string"), "path", "p95").collect()
    }
    # Of less than a thousand sizes it is the exact one
    for start, path, _, _, sizes in truth:
        assert p95[start, path] == (
            sizes[-(-95 * len(sizes) // 100) - 1] if sizes else None
        )
    bad = spark.read.parquet(str(out / "bad")).collect()
    assert Counter(row["_reason"].partition(":")[0] for row in bad) == {
        "not a log line": len(given.bad),
        "time": len(given.ahead),
    }
    assert sorted(row["_raw"] for row in bad) == sorted(
        [*given.bad, *map(feeds.log_line, given.ahead)]
    )


@pytest.mark.slow
@pytest.mark.connect
def test_sessions_of_a_host_are_the_truth(spark, stream):
    made = [
        row | {"time": row["time"] + 400 * number}
        for number, row in enumerate(feeds.log_rows(60, seed=5))
    ]
    source = stream(COLUMNS)
    rows = windows.with_watermark(source.to_df(), "time", "10 minutes")
    query = stream.query(log_errors.transform(rows, "sessions"))
    source.add_data(as_rows(made[:40]))
    got = query.step()
    query.kill_before_commit()
    got = [*got[:-1], *query.step()]
    source.add_data(
        [
            *as_rows(made[40:]),
            *as_rows([made[-1] | {"time": made[-1]["time"] + 10**6, "host": "end"}]),
        ]
    )
    rows_out = [row for batch in [*got, *query.step()] for row in batch.rows]
    sessions = sorted(
        (r["host"], str(r["start"]), str(r["end"]), r["requests"], r["errors"])
        for r in rows_out
    )
    assert sessions == feeds.log_sessions(made)
    assert len(sessions) > 12
    static = log_errors.transform(
        spark.createDataFrame(as_rows(made), COLUMNS), "sessions"
    )
    assert reported(static) == sessions


def test_a_path_is_a_path_whatever_the_request_is(spark):
    requests = {
        "GET /a?b=1 HTTP/1.0": "/a",
        "GET /a": "/a",
        '\x16\x03 "odd" HTTP': '"odd"',
        "garbage": "garbage",
        "": "",
        None: None,
    }
    rows = spark.createDataFrame(
        [("h", NIGHT, request, 404, None) for request in requests], COLUMNS
    )
    got = (
        log_errors.transform(rows).select("path", "requests", "errors", "p95").collect()
    )
    assert Counter(
        row["path"] for row in got for _ in range(row["requests"])
    ) == Counter(requests.values())
    assert all(row["errors"] == row["requests"] and row["p95"] is None for row in got)


@pytest.mark.slow
def test_percentiles_of_many_rows_lie_within_the_stated_error_and_closed_minutes_leave_the_state(
    stream,
):
    # 20,000 rows of one path: 10,000 in each of two minutes, in four batches, then one
    # that closes both.
    random = Random(1)  # noqa: S311 - test data
    sizes = {
        minute: [int(random.paretovariate(1.2) * 1000) for _ in range(10_000)]
        for minute in (0, 1)
    }
    source = stream(COLUMNS)
    rows = windows.with_watermark(source.to_df(), "time", "1 minute")
    query = stream.query(log_errors.transform(rows))
    for number in range(4):
        minute, half = number // 2, number % 2 * 5000
        at = NIGHT + timedelta(minutes=minute, seconds=30)
        source.add_data(
            [
                ("h", at, "GET /a", 200, size)
                for size in sizes[minute][half : half + 5000]
            ]
        )
    open_states = query.step()[-1].progress.stateOperators[0].numRowsTotal
    source.add_data([("h", NIGHT + timedelta(hours=1), "GET /a", 200, 1)])
    batches = query.step()
    assert (open_states, batches[-1].progress.stateOperators[0].numRowsTotal) == (2, 1)
    got = {row["start"].minute: row for batch in batches for row in batch.rows}
    assert sorted(got) == [0, 1]
    for minute, row in got.items():
        assert row["requests"] == 10_000
        below = sum(size < row["p95"] for size in sizes[minute])
        up_to = sum(size <= row["p95"] for size in sizes[minute])
        assert row["p95"] in sizes[minute]
        assert below - 10 <= 9500 <= up_to + 10  # a thousandth of the rows


def test_requests_that_are_just_the_gap_apart_are_one_session_in_the_truth_too():
    row = next(iter(feeds.log_rows(1, seed=1)))
    made = [row | {"time": at} for at in (0, 1800, 3601)]
    assert [requests for _, _, _, requests, _ in feeds.log_sessions(made)] == [2, 1]
