"""The job `hashtag_trends`: the tags of posts, each post once, in windows that slide and close."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import hashtag_trends
import pytest

from sparkstream_kit import feeds

SHARES: dict[str, Any] = {"late": 0.05, "duplicates": 0.1, "bad": 0.03, "ahead": 0.03}


def x(number, text):
    data = {
        "id": str(number),
        "text": text,
        "created_at": f"2010-01-01T12:{number % 60:02}:00.000Z",
    }
    return json.dumps(
        {"data": data, "matching_rules": [{"id": "1"}]}, ensure_ascii=False
    )


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


@pytest.mark.slow
def test_tags_are_told_by_the_rules_of_the_field(spark):
    lines = spark.createDataFrame(
        [(x(number, text),) for number, text in enumerate(TEXTS)], "value STRING"
    )
    found = hashtag_trends.transform(lines, window="1 minute", slide="1 minute")
    assert (
        found.schema.simpleString()
        == "struct<start:timestamp,end:timestamp,tag:string,posts:bigint>"
    )
    tags: dict[int, list[str]] = {number: [] for number in range(len(TEXTS))}
    for row in found.collect():
        assert row.posts == 1
        tags[row.start.minute].append(row.tag)
    assert {text: sorted(tags[n]) for n, text in enumerate(TEXTS)} == {
        text: sorted(wanted) for text, wanted in TEXTS.items()
    }


@pytest.mark.slow
@pytest.mark.connect
def test_posts_of_both_networks_count_once_and_what_is_no_post_does_not(spark):
    tags = [{"name": "spark", "url": "https://m.example/tags/spark"}, {"name": "Ünder"}]
    status = {
        "id": "7",
        "created_at": "2010-01-01T12:00:00.000Z",
        "content": "<p>#Not #read</p>",
    }
    lines = [
        x(0, "#spark #SPARK"), json.dumps({**status, "tags": tags}),
        json.dumps({**status, "tags": tags}), json.dumps({**status, "id": "8", "tags": []}),
        "not a row: 1 {", "", "[]", '{"data": {"id": "9"}}', '{"data": 5}', '{"data": null}',
        x(1, "#x").replace("2010", "soon"), x(2, "#ahead").replace("2010", "2099"),
    ]  # fmt: skip
    frame = spark.createDataFrame([(line,) for line in lines], "value STRING")
    found = hashtag_trends.transform(
        frame, window="1 minute", slide="1 minute"
    ).collect()
    assert sorted((row.tag, row.posts) for row in found) == [("spark", 2), ("ünder", 1)]


@pytest.mark.slow
def test_the_state_falls_when_windows_close(stream):
    source = stream("value STRING")
    query = stream.query(hashtag_trends.transform(source.to_df()))
    rows, kept = list(feeds.posts_rows(20_000, seed=1)), []
    for first in range(0, 20_000, 4000):
        source.add_data(
            [(feeds.posts_line(row),) for row in rows[first : first + 4000]]
        )
        kept.append(
            sum(part.numRowsTotal for part in query.step()[-1].progress.stateOperators)
        )
    # Ten minutes of delay and ten of a window hold 600 posts, and 20 windows of 20
    # tags.
    assert max(kept) < 1200, kept


@pytest.mark.slow
def test_the_job_goes_on_where_it_stopped(job, folder, tmp_path):
    posts = feeds.disturb(
        feeds.posts_rows(800, seed=2),
        time="created_at",
        rows_per_file=200,
        seed=2,
        **SHARES,
    )
    files = list(
        feeds.line_files(
            map(feeds.posts_line, posts.arriving), rows=200, name="posts-{}.json"
        )
    )
    table = f"sqlite:///{tmp_path}/trends.db"
    # Profile `local`: two partitions
    flags = ("--available-now", "--checkpoint", tmp_path / "ckpt")
    printed = ""
    for file in files:  # each a batch, as what is late depends on it
        feeds.drip([file], folder)
        more = ("--drain",) if file == files[-1] else ()
        printed += job(
            "python", "hashtag_trends", folder, *flags, *more, "--database", table
        ).stdout
    truth = feeds.posts_truth(posts.counted, n=10, length=600, slide=60)
    found = [line.split() for line in printed.splitlines()]
    assert [
        (f"{day}T{clock}Z", tag, int(count)) for day, clock, _, _, tag, count in found
    ] == truth
    with closing(sqlite3.connect(tmp_path / "trends.db")) as database:
        rows = database.execute(
            "SELECT start, tag, posts FROM hashtag_trends ORDER BY start, posts"
            " DESC, tag"
        )
        assert [
            (f"{start[:10]}T{start[11:19]}Z", tag, count) for start, tag, count in rows
        ] == truth


def test_a_length_that_cannot_be_is_one_line(folder, capsys):
    assert (
        hashtag_trends.main([str(folder), "--available-now", "--window", "soon"]) == 2
    )
    assert "cannot read length 'soon'" in capsys.readouterr().err.splitlines()[-1]
