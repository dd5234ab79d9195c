"""Verdicts from the progress of three queries, as it was or with one field changed."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.recorded import TOLD, progress

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit.verdicts import record, verdicts

# 30 files, one a batch, on Spark 4.2
LINES = (
    Path(__file__)
    .with_name("recorded")
    .joinpath("files.jsonl")
    .read_text("utf-8")
    .splitlines()
)
FILES = [json.loads(line) for line in LINES]


def recorded(name):
    """Return the batches of a query: `action_windows`, `sales_clean` or `score_payments`."""
    return [record(progress(each)) for each in TOLD if each["name"] == name]


def said(records, **more):
    return [str(each) for each in verdicts(records, **more)]


def test_a_query_that_keeps_up_has_no_verdict():
    assert said(recorded("action_windows")) == []


def test_state_that_grows_without_a_watermark():
    batches = recorded("score_payments")
    (text,) = said(batches)
    assert text.startswith(
        "its state grows without a watermark, over 25 batches from 1"
    )
    assert (
        said([replace(each, has_watermark=True, watermark=each.at) for each in batches])
        == []
    )
    (text,) = said(batches, mode="complete")
    assert (
        "mode complete keeps all keys; give mode='update' and, with an event time, give"
        " the input" in text
    )
    # Totals by key: each batch brings fewer new keys.
    full = [
        replace(each, state_rows=1000 - 700 // (number + 1))
        for number, each in enumerate(batches)
    ]
    assert said(full) == []


@pytest.mark.parametrize(
    ("interval", "level", "text"),
    [
        (0.5, "bad", "slower than its trigger: batches take "),
        (1.0, "warn", "busy for "),
        (2.0, None, ""),
        (None, None, ""),
    ],
)
def test_the_trigger_s_interval(interval, level, text):
    found = verdicts(recorded("action_windows"), interval=interval)
    assert [(each.level, each.text[: len(text)]) for each in found] == (
        [(level, text)] if level else []
    )


@pytest.mark.parametrize(
    ("backlog", "text"),
    [
        (
            lambda n: 100 + 20 * n,
            "falling behind: over 25 batches, its backlog has grown from 1",
        ),
        (lambda n: 100 + n % 2, None),
        (lambda n: 600 - 20 * n, None),
        (lambda n: 0, None),
        (lambda n: None, None),
    ],
)
def test_what_waits(backlog, text):
    batches = [
        replace(each, records_behind=backlog(n))
        for n, each in enumerate(recorded("action_windows"))
    ]
    assert [each[: len(text or "")] for each in said(batches)] == (
        [text] if text else []
    )


def test_the_watermark():
    batches = recorded("action_windows")
    ahead = replace(batches[-1], watermark=batches[-1].at + timedelta(days=365))
    assert said([*batches[:-1], ahead])[0].startswith(
        "its watermark is at 2027-11-21 01:16 UTC, ahead"
    )
    still = [replace(each, watermark=batches[0].watermark) for each in batches]
    assert said(still)[0].startswith(
        "its watermark has stood still at 2026-11-21 01:15:3"
    )
    assert (
        said(still, mode="complete") == said([*still, ahead], mode="complete") == []
    ), "no row is late"
    assert said(still[:9]) == [], "too few batches to say anything"
    never = [replace(each, watermark=None) for each in batches]
    assert said(never)[0].startswith(
        "its watermark has not moved yet, over 25 batches with rows:"
    )
    assert said([replace(each, rows=0) for each in still]) == [], "nothing arrives"
    assert said([replace(each, state_rows=None) for each in never]) == [], (
        "no window, and nothing that waits"
    )


def test_many_partitions_for_few_rows_and_the_worst_comes_first():
    batches = recorded("action_windows")
    many = [replace(each, partitions=200) for each in batches]
    assert said(many)[0].startswith("200 partitions for 6 rows")
    assert [each.level for each in verdicts(many, interval=0.5)] == ["bad", "warn"]
    assert (
        said([replace(each, partitions=200, state_rows=1000) for each in batches]) == []
    )
    assert said([replace(each, partitions=16) for each in batches]) == []


# A metric that a test writes is one that a real source has given: those of Kafka as a
# broker's source gives them in tests/systems/test_kafka_source.py. Spark's own source
# of files gives none, in 4.1, 4.2 and 4.3: the kit counts its files, as
# tests/checkpoints/test_checkpoints_backlog.py sees in a run.
OF_KAFKA = {
    "avgOffsetsBehindLatest",
    "maxOffsetsBehindLatest",
    "minOffsetsBehindLatest",
}


def test_a_backlog_is_read_out_of_files_and_kafka():
    of_files = [record(progress(each), tuple(each["files"])) for each in FILES]
    assert [each.backlog for each in of_files] == list(range(29, 16, -1))
    assert [each.files for each in of_files] == list(range(1, 14))
    source = TOLD[0]["sources"][0] | {"endOffset": {"sales": {"0": 10, "1": 12}}}
    source["metrics"] = {"avgOffsetsBehindLatest": "2.5", "maxOffsetsBehindLatest": "4"}
    assert record(progress(sources=[source])).backlog == 5
    source["metrics"] = {"numFilesOutstanding": "7"}  # of another vendor's source
    assert record(progress(sources=[source])).backlog is None


def test_files_and_records_are_counted_apart():
    of_kafka = TOLD[0]["sources"][0] | {"endOffset": {"sales": {"0": 10}}}
    of_kafka["metrics"] = {"avgOffsetsBehindLatest": "5000"}
    both = [
        (progress(each | {"sources": [*each["sources"], of_kafka]}), each["files"])
        for each in FILES
    ]
    batches = [record(each, tuple(files)) for each, files in both]
    assert [(each.files_waiting, each.records_behind) for each in batches[:2]] == [
        (29, 5000),
        (28, 5000),
    ]
    grow = [
        replace(each, records_behind=5000 + 500 * n) for n, each in enumerate(batches)
    ]
    assert said(grow)[0].startswith(
        "falling behind: over 13 batches, its backlog has grown from 5,750 to 10,250"
    )
    assert "records; give it more cores" in said(grow)[0]
    fewer = [
        replace(each, records_behind=9000 - 500 * n) for n, each in enumerate(batches)
    ]
    grow = [replace(each, files_waiting=10 + 10 * n) for n, each in enumerate(fewer)]
    assert "its backlog has grown from 25 to 115 files; give it" in said(grow)[0]


def test_no_test_makes_up_a_metric():
    root = Path(__file__).parent
    texts = [
        path.read_text("utf-8")
        for path in (*root.rglob("*.py"), *root.rglob("*.jsonl"))
    ]
    named = {
        name
        for text in texts
        for name in re.findall(r'"([a-z]\w+(?:BehindLatest|Waiting))"', text)
    }
    assert named <= OF_KAFKA
    assert [
        of for each in (*TOLD, *FILES) for of in each["sources"] if of.get("metrics")
    ] == []


def at_once(batches, **columns):
    """Return batches of which each begins when the one before has ended.

    `columns` gives other fields by the number of a batch.
    """
    made, at = [], batches[0].at
    for number, each in enumerate(batches):
        made.append(
            replace(
                each, at=at, **{name: value(number) for name, value in columns.items()}
            )
        )
        at += timedelta(seconds=made[-1].seconds)
    return made


BUSY = "busy all the time: over 25 batches, each began when the one before had ended"


@pytest.mark.parametrize(
    ("columns", "level", "text"),
    [
        ({"files_waiting": lambda n: 90 - n}, None, ""),  # it is catching up
        (
            {"files_waiting": lambda _: 90},
            "warn",
            f"{BUSY}, and 90 files wait, no fewer than before; give",
        ),
        (
            {"files_waiting": lambda n: 12 + 5 * n},
            "bad",
            "falling behind: over 25 batches, its backlog has",
        ),
        # Each batch reads all that has landed meanwhile
        ({"files_waiting": lambda n: n % 2}, None, ""),
        ({"files_waiting": lambda _: None, "files": lambda _: None}, None, ""),
        ({"files_waiting": lambda _: 0, "seconds": lambda n: 1 + n / 5}, None, ""),
    ],
)
def test_busy_all_the_time(columns, level, text):
    batches = at_once(recorded("action_windows"), **({"files": lambda n: n} | columns))
    found = [(each.level, each.text[: len(text)]) for each in verdicts(batches)]
    assert found == ([(level, text)] if level else [])
    said = f"a query whose input ends is meant to be busy: {columns}"
    assert [each.level for each in verdicts(batches, ends=True)] == (
        ["bad"] if level == "bad" else []
    ), said
    pauses = [
        replace(each, at=each.at + timedelta(seconds=9 * n))
        for n, each in enumerate(batches)
    ]
    assert [each.level for each in verdicts(pauses)] == (
        ["bad"] if level == "bad" else []
    ), "it rests"


def test_a_file_more_is_not_falling_behind():
    batches = recorded("action_windows")
    few = [
        replace(each, files_waiting=4 + n // 8, files=5 * n)
        for n, each in enumerate(batches)
    ]
    assert said(few) == [], "less than a batch reads"


@pytest.mark.slow
def test_the_summary_of_a_run_has_them(spark, folder):
    feeds.drip([(f"{number}.txt", "a line\n") for number in range(11)], folder)
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    sink = sinks.foreach_batch(
        lambda batch, _: batch.write.format("noop").mode("append").save()
    )
    summary = run(
        start(lines, sink, name="slow", processingTime="0.01 seconds"), max_batches=11
    )
    (found,) = summary.queries[0].verdicts
    assert f"\nverdict: query slow: {found}\n" in str(summary)
    assert found.text.startswith("slower than its trigger: batches take ")
