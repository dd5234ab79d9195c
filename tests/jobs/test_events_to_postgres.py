"""The job `events_to_postgres`: each event once in a table, what is wrong in another.

Late events are in the table, too. `tests/faults/` kills it.
"""

from collections import Counter
from typing import Any

import events_to_postgres
import pytest
import sqlalchemy as sa
from support import postgresql

from sparkstream_kit import feeds

SHARES: dict[str, Any] = {"late": 0.05, "duplicates": 0.1, "bad": 0.03, "ahead": 0.03}
GOOD = "{id},2010-01-01T12:00:00Z,user-1,socks,view,7.99"


def totals(rows):
    """Count and sum events, as the feed's truth does."""
    return feeds.events_truth(
        [{"type": row["type"], "price": str(row["price"])} for row in rows]
    )


@pytest.mark.slow
@pytest.mark.connect
def test_what_is_wrong_with_a_line_is_said_and_nothing_is_lost(spark):
    wrong = {
        "junk": "not 6 fields",
        GOOD.format(id=""): "event_id: empty",
        GOOD.format(id=2).replace("7.99", "7.999"): "price: not a decimal(10,2)",
        GOOD.format(id=3).replace(
            "view", "steal"
        ): "type: none of view, cart, purchase",
        GOOD.format(id=4).replace("7.99", "-7.99"): "price: below 0",
        GOOD.format(id=5).replace(
            "2010", "2099"
        ): "time: 2099-01-01 12:00:00 is more than 1 hour ahead",
    }
    lines = [*wrong, *wrong, GOOD.format(id=1), GOOD.format(id=1)]
    frame = spark.createDataFrame([(line,) for line in lines], "value STRING")
    rows = events_to_postgres.transform(frame).collect()
    assert [row.event_id for row in rows if row["_reason"] is None] == ["1"]
    assert Counter(
        (row["_raw"], row["_reason"]) for row in rows if row["_reason"]
    ) == dict.fromkeys(wrong.items(), 2)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_the_job_goes_on_where_it_stopped(where, job, folder, tmp_path):
    url = (
        f"sqlite:///{tmp_path}/shop.db"
        if where == "sqlite"
        else postgresql.server().database()
    )
    events = feeds.disturb(
        feeds.events_rows(380, seed=2), time="time", rows_per_file=100, seed=2, **SHARES
    )
    header = "event_id,time,user,product,type,price"
    made = feeds.line_files(
        map(feeds.csv_line, events.arriving), rows=100, name="events-{}.csv"
    )
    files = [(name, f"{header}\n{text}") for name, text in made]
    flags = (
        "--available-now",
        "--max-files-per-trigger",
        1,
        "--header",
        "--profile",
        "test",
    )
    for part in (files[:2], files[2:], []):
        feeds.drip(part, folder)
        done = job(
            "python", "events_to_postgres", folder, "--database", "env:SHOP", *flags,
            "--checkpoint", tmp_path / "ckpt", SHOP=url,
        )  # fmt: skip
        assert done.stdout == ""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = (
            connection.execute(sa.text("SELECT event_id, type, price FROM events"))
            .mappings()
            .all()
        )
        bad = connection.execute(
            sa.text("SELECT _reason, count(*) FROM events_bad GROUP BY 1")
        ).all()
    engine.dispose()
    assert totals(rows) == feeds.events_truth(events.counted + events.late)
    assert len({row["event_id"] for row in rows}) == len(rows)
    assert sum(count for _, count in bad) == len(events.bad) + len(events.ahead)


@pytest.mark.slow
def test_the_state_falls_when_the_time_for_duplicates_is_over(stream):
    source = stream("value STRING")
    query = stream.query(
        events_to_postgres.transform(source.to_df(), within="30 minutes")
    )
    rows = list(feeds.events_rows(20_000, seed=1))
    kept = []
    for first in range(0, 20_000, 4000):
        source.add_data([(feeds.csv_line(row),) for row in rows[first : first + 4000]])
        query.step()
        kept.append(query.batches[-1].progress.stateOperators[0].numRowsTotal)
    # Forty minutes are 400 events; a batch is 4,000, and its ids wait for the watermark
    # of the next.
    assert max(kept) < 6000, kept
    assert kept[-1] < 1000, kept
