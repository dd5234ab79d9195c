"""The job `hashtag_trends`: the tags of posts, each post once, in windows that slide and close.

The tests of `transform` need the installed kit alone, so that they can be copied with the job.
"""

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import hashtag_trends
import pytest
from pyspark.sql import functions as F

from sparkstream_kit import feeds, windows
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES
from sparkstream_kit.testing import assert_stream_equals_batch

NOON = datetime(2010, 1, 1, 12)  # noqa: DTZ001 - in UTC
SHARES: dict[str, Any] = {"late": 0.05, "duplicates": 0.1, "bad": 0.03, "ahead": 0.03}


def x(number, text):
    data = {"id": str(number), "text": text, "created_at": f"2010-01-01T12:{number % 60:02}:00.000Z"}
    return json.dumps({"data": data, "matching_rules": [{"id": "1"}]}, ensure_ascii=False)


TEXTS: dict[str, list[str]] = {
    "#one two": ["one"],
    "(#in_brackets), #2026goals! #a": ["in_brackets", "2026goals", "a"],
    "＃fullwidth and #日本語。": ["fullwidth", "日本語"],  # noqa: RUF001
    "#हिन्दी #Việt #e\u0301tat #жжж_1": ["हिन्दी", "việt", "e\u0301tat", "жжж_1"],
    "#Straße #STRASSE #strasse #ЖЖ #жж": ["strasse", "жж"],
    "#42 #_ #1_000 C# # no #": [],
    "a#b 1#c é#d _#e &#38; x.org/#f": [],
    "##g #h#i #http://x.org": ["g"],
    "press #\ufe0f\u20e3 #\u20e3 now": [],
    "#\U00010400 #🙂 #j🙂": ["\U00010428", "j"],
    "": [],
}


def test_tags_are_told_by_the_rules_of_the_field(spark):
    lines = spark.createDataFrame([(x(number, text),) for number, text in enumerate(TEXTS)], "value STRING")
    found = hashtag_trends.transform(lines, window="1 minute", slide="1 minute")
    assert found.schema.simpleString() == ("struct<start:timestamp,end:timestamp,tag:string,posts:bigint>")
    tags: dict[int, list[str]] = {number: [] for number in range(len(TEXTS))}
    for row in found.collect():
        assert row.posts == 1
        tags[row.start.minute].append(row.tag)
    assert {text: sorted(tags[n]) for n, text in enumerate(TEXTS)} == {
        text: sorted(wanted) for text, wanted in TEXTS.items()
    }


@pytest.mark.connect
def test_posts_of_both_networks_count_once_and_what_is_no_post_does_not(spark):
    tags = [{"name": "spark", "url": "https://m.example/tags/spark"}, {"name": "Ünder"}]
    status = {"id": "7", "created_at": "2010-01-01T12:00:00.000Z", "content": "<p>#Not #read</p>"}
    lines = [
        x(0, "#spark #SPARK"), json.dumps({**status, "tags": tags}), json.dumps({**status, "tags": tags}),
        json.dumps({**status, "id": "8", "tags": []}),
        "not a row: 1 {", "", "[]", '{"data": {"id": "9"}}', '{"data": 5}', '{"data": null}',
        x(1, "#x").replace("2010", "soon"), x(2, "#ahead").replace("2010", "2099"),
    ]  # fmt: skip
    frame = spark.createDataFrame([(line,) for line in lines], "value STRING")
    found = hashtag_trends.transform(frame, window="1 minute", slide="1 minute").collect()
    assert sorted((row.tag, row.posts) for row in found) == [("spark", 2), ("ünder", 1)]


@pytest.mark.slow
def test_a_stream_gives_what_a_batch_run_gives(spark):
    posts = [
        (str(n % 20), NOON + timedelta(minutes=n % 20, seconds=n % 7), f"#a #{'bc'[n % 2]} #{n % 5}d")
        for n in range(0, 80, 3)
    ]
    rows = spark.createDataFrame(posts, "id STRING, created_at TIMESTAMP, text STRING").dropDuplicates(["id"])
    again = rows.union(rows.where("id < 5"))

    def transform(rows):
        lines = rows.select(F.to_json(F.struct("*")).alias("value"))
        return hashtag_trends.transform(lines, slide="5 minutes")

    assert_stream_equals_batch(transform, again, watermark=("created_at", "10 minutes"), examples=3)


@pytest.fixture(
    params=[("memory", 1), pytest.param(("rocksdb", 3), marks=pytest.mark.slow)], ids=["memory", "rocksdb"]
)
def state_store(request, spark):
    """Each of Spark's state stores, with one partition and with three."""
    store, partitions = request.param
    before = spark.conf.get(STATE_STORE) or ""
    spark.conf.set(STATE_STORE, STATE_STORES[store])
    spark.conf.set("spark.sql.shuffle.partitions", partitions)
    yield
    spark.conf.set(STATE_STORE, before)
    spark.conf.set("spark.sql.shuffle.partitions", 1)


def closed(rows, delay, **more):
    """Return the truth of the windows that the watermark has passed."""
    last = max(datetime.fromisoformat(row["created_at"]) for row in rows) - timedelta(seconds=delay)
    return [
        found
        for found in feeds.posts_truth(rows, **more)
        if datetime.fromisoformat(found[0]) + timedelta(seconds=more["length"]) <= last
    ]


def shown(spark, batches, n):
    """Return the top of each batch, as the job writes it."""
    top = windows.top(n, by="posts", each=["start", "end"])
    schema = "start TIMESTAMP, end TIMESTAMP, tag STRING, posts BIGINT"
    rows = [row for batch in batches for row in top(spark.createDataFrame(batch.rows, schema)).collect()]
    return [(f"{row.start:%Y-%m-%dT%H:%M:%SZ}", row.tag, row.posts) for row in rows]


@pytest.mark.slow
@pytest.mark.usefixtures("state_store")
def test_the_trends_are_those_that_the_feed_knows_over_a_kill_and_a_replay(spark, stream):
    posts = feeds.disturb(
        feeds.posts_rows(700, seed=5), time="created_at", delay="5 minutes", seed=1, **SHARES
    )
    assert min(posts.kinds.count(kind) for kind in ("late", "duplicate", "bad", "ahead")) > 8
    source = stream("value STRING")
    query = stream.query(
        hashtag_trends.transform(
            source.to_df(), window="5 minutes", slide="150 seconds", watermark="5 minutes"
        )
    )
    lines = [(feeds.posts_line(row),) for row in posts.arriving]
    files = [lines[first : first + 100] for first in range(0, len(lines), 100)]
    for file in files[:5]:
        source.add_data(file)
    first = query.step()
    query.kill_before_commit()
    for file in files[5:]:
        source.add_data(file)
    again, *rest = query.step()
    assert (again.batch_id, sorted(again.rows)) == (first[-1].batch_id, sorted(first[-1].rows))
    truth = closed(posts.counted, 300, n=50, length=300, slide=150)
    assert shown(spark, [batch for batch in (*first, *rest) if batch.rows], 50) == truth
    assert len({start for start, _, _ in truth}) > 5


@pytest.mark.slow
def test_the_state_falls_when_windows_close(stream):
    source = stream("value STRING")
    query = stream.query(hashtag_trends.transform(source.to_df()))
    rows = list(feeds.posts_rows(20_000, seed=1))
    kept = []
    for first in range(0, 20_000, 4000):
        source.add_data([(feeds.posts_line(row),) for row in rows[first : first + 4000]])
        last = query.step()[-1]
        kept.append(sum(part.numRowsTotal for part in last.progress.stateOperators))
    # Ten minutes of delay and ten of a window hold 600 posts, and 20 windows of 20 tags.
    assert max(kept) < 1200, kept


@pytest.mark.slow
def test_the_job_goes_on_where_it_stopped(job, folder, tmp_path):
    posts = feeds.disturb(
        feeds.posts_rows(800, seed=2), time="created_at", rows_per_file=200, seed=2, **SHARES
    )
    files = list(feeds.line_files(map(feeds.posts_line, posts.arriving), rows=200, name="posts-{}.json"))
    table = f"sqlite:///{tmp_path}/trends.db"
    flags = ("--available-now", "--profile", "test", "--checkpoint", tmp_path / "ckpt")
    printed = ""
    for file in files:  # each a batch, as what is late depends on it
        feeds.drip([file], folder)
        more = ("--drain",) if file == files[-1] else ()
        done = job("python", "hashtag_trends", folder, *flags, *more, "--database", table)
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    truth = feeds.posts_truth(posts.counted, n=10, length=600, slide=60)
    found = [line.split() for line in printed.splitlines()]
    assert [(f"{day}T{clock}Z", tag, int(count)) for day, clock, _, _, tag, count in found] == truth
    with closing(sqlite3.connect(tmp_path / "trends.db")) as database:
        rows = database.execute(
            "SELECT start, tag, posts FROM hashtag_trends ORDER BY start, posts DESC, tag"
        )
        assert [(f"{start[:10]}T{start[11:19]}Z", tag, count) for start, tag, count in rows] == truth


def test_a_length_that_cannot_be_is_one_line(folder, capsys):
    assert hashtag_trends.main([str(folder), "--available-now", "--window", "soon"]) == 2
    assert "cannot read length 'soon'" in capsys.readouterr().err.splitlines()[-1]
