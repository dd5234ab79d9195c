"""The job `events_to_postgres`: each event once in a table, late ones too, and what is wrong in another.

The tests of `transform` need the installed kit alone, so that they can be copied with the job.
`tests/faults/` kills it.
"""

from collections import Counter
from typing import Any

import events_to_postgres
import pytest
import sqlalchemy as sa
from pyspark.sql import functions as F
from support import postgresql

from sparkstream_kit import feeds, quarantine
from sparkstream_kit.testing import assert_stream_equals_batch

SHARES: dict[str, Any] = {"late": 0.05, "duplicates": 0.1, "bad": 0.03, "ahead": 0.03}
GOOD = "{id},2010-01-01T12:00:00Z,user-1,socks,view,7.99"


def good(rows):
    return [row for row in rows if row[quarantine.REASON] is None]


def delivered(batches):
    return [row for batch in batches for row in batch.rows]


def totals(rows):
    """Count and sum events, as the feed's truth does."""
    return feeds.events_truth([{"type": row["type"], "price": str(row["price"])} for row in rows])


@pytest.mark.connect
def test_what_is_wrong_with_a_line_is_said_and_nothing_is_lost(spark):
    wrong = {
        "junk": "not 6 fields",
        GOOD.format(id=""): "event_id: empty",
        GOOD.format(id=2).replace("7.99", "7.999"): "price: not a decimal(10,2)",
        GOOD.format(id=3).replace("view", "steal"): "type: none of view, cart, purchase",
        GOOD.format(id=4).replace("7.99", "-7.99"): "price: below 0",
        GOOD.format(id=5).replace("2010", "2099"): "time: 2099-01-01 12:00:00 is more than 1 hour ahead",
    }
    lines = [*wrong, *wrong, GOOD.format(id=1), GOOD.format(id=1)]
    frame = spark.createDataFrame([(line,) for line in lines], "value STRING")
    rows = events_to_postgres.transform(frame).collect()
    assert [row.event_id for row in good(rows)] == ["1"]
    assert Counter((row["_raw"], row["_reason"]) for row in rows if row["_reason"]) == dict.fromkeys(
        wrong.items(), 2
    )


@pytest.mark.slow
def test_the_rows_are_those_that_the_feed_knows_over_a_kill_and_a_replay(stream):
    events = feeds.disturb(feeds.events_rows(400, seed=5), time="time", rows_per_file=60, seed=1, **SHARES)
    assert min(events.kinds.count(kind) for kind in ("late", "duplicate", "bad", "ahead")) > 4
    source = stream("value STRING")
    query = stream.query(events_to_postgres.transform(source.to_df()))
    lines = [(feeds.csv_line(row),) for row in events.arriving]
    files = [lines[first : first + 60] for first in range(0, len(lines), 60)]
    for file in files[:4]:
        source.add_data(file)
    first = query.step()
    query.kill_before_commit()
    for file in files[4:]:
        source.add_data(file)
    again, *rest = query.step()
    assert (again.batch_id, sorted(again.rows, key=str)) == (
        first[-1].batch_id,
        sorted(first[-1].rows, key=str),
    )
    rows = delivered([*first, *rest])
    assert totals(good(rows)) == feeds.events_truth(events.counted + events.late)
    assert Counter(row["_raw"] for row in rows if row["_reason"]) == Counter(
        [*events.bad, *map(feeds.csv_line, events.ahead)]
    )


@pytest.mark.slow
def test_a_stream_gives_what_a_batch_run_gives(spark):
    made = [feeds.csv_line(row).replace("2024", "2010") for row in feeds.events_rows(25, seed=1)]
    lines = spark.createDataFrame([(line,) for line in [*made, *made[:5]]], "value STRING")
    time = F.to_timestamp(F.split("value", ",")[1])

    def transform(rows):
        # The line's time is that of the column, which the last rows have ten years later.
        moved = F.regexp_replace("value", "2010[^,]*", F.date_format("time", "yyyy-MM-dd'T'HH:mm:ss'Z'"))
        return events_to_postgres.transform(rows.select(moved.alias("value"))).drop("_file")

    rows = lines.select("value", time.alias("time"))
    assert_stream_equals_batch(transform, rows, watermark=("time", "10 minutes"), examples=3)


@pytest.mark.slow
def test_the_state_falls_when_the_time_for_duplicates_is_over(stream):
    source = stream("value STRING")
    query = stream.query(events_to_postgres.transform(source.to_df(), within="30 minutes"))
    rows = list(feeds.events_rows(20_000, seed=1))
    kept = []
    for first in range(0, 20_000, 4000):
        source.add_data([(feeds.csv_line(row),) for row in rows[first : first + 4000]])
        query.step()
        kept.append(query.batches[-1].progress.stateOperators[0].numRowsTotal)
    # Forty minutes are 400 events; a batch is 4,000, and its ids wait for the watermark of the next.
    assert max(kept) < 6000, kept
    assert kept[-1] < 1000, kept


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_the_job_goes_on_where_it_stopped(where, job, folder, tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db" if where == "sqlite" else postgresql.server().database()
    events = feeds.disturb(feeds.events_rows(380, seed=2), time="time", rows_per_file=100, seed=2, **SHARES)
    header = "event_id,time,user,product,type,price"
    made = feeds.line_files(map(feeds.csv_line, events.arriving), rows=100, name="events-{}.csv")
    files = [(name, f"{header}\n{text}") for name, text in made]
    flags = ("--available-now", "--max-files-per-trigger", 1, "--header", "--profile", "test")
    for part in (files[:2], files[2:], []):
        feeds.drip(part, folder)
        done = job(
            "python", "events_to_postgres", folder, "--database", "env:SHOP", *flags,
            "--checkpoint", tmp_path / "ckpt", SHOP=url,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT event_id, type, price FROM events")).mappings().all()
        bad = connection.execute(sa.text("SELECT _reason, count(*) FROM events_bad GROUP BY 1")).all()
    engine.dispose()
    assert totals(rows) == feeds.events_truth(events.counted + events.late)
    assert len({row["event_id"] for row in rows}) == len(rows)
    assert sum(count for _, count in bad) == len(events.bad) + len(events.ahead)
