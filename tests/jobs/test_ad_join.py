"""The job `ad_join`: pairs and unmatched views are as generated, late rows are counted."""

from datetime import timedelta

import ad_join
import pytest

from sparkstream_kit import feeds

TEN = timedelta(minutes=10)
# A row of each kind, so late that everything before it is closed.
LAST = [
    {"ad_id": f"last-{kind}", "event_type": kind, "event_time": "2024-06-01T00:00:00Z"}
    for kind in ("view", "click")
]


def lines(rows):
    return [(feeds.json_line(row),) for row in rows]


def event(kind, clock, ad="a"):
    return {"ad_id": ad, "event_type": kind, "event_time": f"2024-01-01T{clock}:00Z"}


def found(rows):
    """Return rows as the truth has them."""

    def text(time):
        return None if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"

    return sorted(
        (row.ad_id, str(text(row.shown_at)), text(row.clicked_at)) for row in rows
    )


# watermark        |---- 5 minutes ----|
# arriving  [file 0][file 1] late: before the newest of the files before, less 5 minutes


@pytest.mark.slow
def test_pairs_and_unmatched_views_are_those_of_the_truth_over_a_kill_and_a_restart(
    stream,
):
    made = feeds.disturb(
        feeds.ads_rows(600, seed=3), time="event_time", late=0.05, bad=0.02, ahead=0.02,
        delay="5 minutes", rows_per_file=100, seed=1,
    )  # fmt: skip
    assert made.late
    assert made.bad
    assert made.ahead
    source = stream("value STRING")
    query = stream.query(ad_join.transform(source.to_df(), delay="5 minutes"))
    batches = {}
    for start in range(0, len(made.arriving), 100):
        source.add_data(lines(made.arriving[start : start + 100]))
        if start == 200:
            query.kill_before_commit()
        if start == 400:
            query.restart()
        batches.update({batch.batch_id: batch for batch in query.step()})
    assert sum(batch.late_rows for batch in batches.values()) == len(made.late)
    source.add_data(lines(LAST))
    batches.update({batch.batch_id: batch for batch in query.step()})
    rows = [row for batch in batches.values() for row in batch.rows]
    assert found(rows) == feeds.ads_truth(made.counted, within=TEN)
    assert [
        each.numRowsTotal for each in batches[max(batches)].progress.stateOperators
    ] == [0, 2]


@pytest.mark.slow
def test_static_frames_give_the_truth(spark):
    rows = list(feeds.ads_rows(40, seed=5))
    static = ad_join.transform(spark.createDataFrame(lines(rows), "value STRING"))
    assert found(static.collect()) == feeds.ads_truth(rows, within=TEN)
    assert sorted(static.columns) == [
        "ad_id",
        "ad_type",
        "clicked_at",
        "page_id",
        "shown_at",
        "user_id",
    ]


@pytest.mark.slow
def test_the_watermark_is_that_of_all_events_and_not_of_the_clicks_alone(stream):
    source = stream("value STRING")
    query = stream.query(ad_join.transform(source.to_df()))
    source.add_data(lines([event("view", "00:25"), event("click", "00:20", "stray")]))
    source.add_data(
        lines([event("view", "02:00", "b"), event("click", "00:31", "stray")])
    )
    rows = [row for batch in query.step() for row in batch.rows]
    assert found(rows) == [("a", "2024-01-01T00:25:00Z", None)]


@pytest.mark.slow
def test_a_view_is_written_once_though_it_and_its_click_come_twice(stream):
    rows = [
        event("view", "00:25"),
        event("click", "00:29"),
        event("click", "00:29"),
        event("click", "00:27"),
    ]
    source = stream("value STRING")
    query = stream.query(ad_join.transform(source.to_df()))
    source.add_data(lines(rows[:3]))
    query.step()
    rows.append(event("view", "00:30", "b"))
    source.add_data(lines(rows))
    got = found(row for batch in query.drain() for row in batch.rows)
    assert [(ad, clicked and clicked[11:16]) for ad, _, clicked in got] == [
        ("a", "00:27"),
        ("b", None),
    ]
    assert got == feeds.ads_truth(rows, within=TEN)


@pytest.mark.slow
@pytest.mark.connect
def test_the_job_writes_each_view_once_over_two_runs(job, spark, folder, tmp_path):
    rows = list(feeds.ads_rows(300, seed=7))
    files = list(
        feeds.line_files(map(feeds.json_line, rows), rows=100, name="ads-{}.json")
    )
    out, checkpoint = tmp_path / "out", tmp_path / "ckpt"
    flags = (folder, out, "--available-now", "--checkpoint", checkpoint)
    feeds.drip(files[:2], folder)
    assert job("python", "ad_join", *flags).stdout == ""
    feeds.drip([*files[2:], ("bad.json", "no view\n")], folder)
    second = job("python", "ad_join", *flags, "--drain", "--max-bad", "0%", code=1)
    assert (
        second.stderr.splitlines()[-1]
        == "ad_join.py: bad lines: 1 of 101 (0.99%); --max-bad is 0%"
    )
    assert found(spark.read.parquet(str(out / "views")).collect()) == feeds.ads_truth(
        rows, within=TEN
    )
    [bad] = spark.read.parquet(str(out / "bad")).collect()
    assert bad["_raw"] == "no view"
