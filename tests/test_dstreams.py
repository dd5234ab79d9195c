"""The DStream helpers, and the job `dstream_wordcount`."""

import ast
import itertools
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from typing import cast
from unittest.mock import patch

import pytest
from conftest import refusal
from pyspark.streaming import StreamingContext

from sparkstream_kit import dstreams, feeds
from sparkstream_kit._internal import threads
from sparkstream_kit._internal.spark import queries
from sparkstream_kit.dstreams import _keep_counts, _read_counts
from sparkstream_kit.errors import (
    InputUnavailable,
    InvalidInputError,
    QueryFailed,
    TransientError,
)


@contextmanager
def serve(lines):
    """Serve lines and then keep still.

    A receiver whose peer closes connects again, and gets them again.
    """
    end = threading.Event()

    def then_wait():
        yield from lines
        end.wait(60)

    with feeds.LineServer(then_wait) as server:
        yield server
        end.set()


def test_a_context_is_stopped_whatever_happens_and_the_next_one_starts(spark, tmp_path):
    for _ in range(2):
        with (
            pytest.raises(KeyboardInterrupt),
            dstreams.streaming_context(spark, 0.5) as ssc,
        ):
            ssc.textFileStream(str(tmp_path)).foreachRDD(lambda rdd: None)
            ssc.start()
            raise KeyboardInterrupt
        assert StreamingContext.getActive() is None
    assert spark.range(3).count() == 3


def test_a_context_left_over_is_stopped_and_that_is_said(spark, tmp_path, caplog):
    with pytest.warns(FutureWarning, match="DStream"):
        leftover = StreamingContext(spark.sparkContext, 1)
    leftover.textFileStream(str(tmp_path)).foreachRDD(lambda rdd: None)
    leftover.start()
    with dstreams.streaming_context(spark, 0.5) as ssc:
        ssc.textFileStream(str(tmp_path)).foreachRDD(lambda rdd: None)
        assert dstreams.run(ssc, run_for=1).startswith("run_for is over")
    assert "stopping a StreamingContext that was still active" in caplog.text


@pytest.mark.slow
def test_what_waits_when_a_run_ends_is_told(spark, tmp_path):
    stop, shown = tmp_path / "stop", tmp_path / "shown"

    def slow(rdd):
        if rdd.isEmpty():
            return
        shown.write_text(str(rdd.count()))
        # Not `ssc` itself: Spark keeps what a function holds in its checkpoint.
        active = cast("StreamingContext", StreamingContext.getActive())
        assert threads.until(lambda: queries.unprocessed(active)[0] >= 4, 60)
        stop.touch()
        # Spark drops the others
        assert threads.until(lambda: StreamingContext.getActive() is None, 60)

    with (
        feeds.LineServer(lambda: itertools.repeat("a line"), rate=50) as server,
        dstreams.streaming_context(spark, 0.1) as ssc,
    ):
        ssc.socketTextStream(server.host, server.port).foreachRDD(slow)
        ended_by = dstreams.run(ssc, stop_file=stop)
        # For 0.1 s each, and not of those that wait
        with patch.object(queries, "_is_through") as asked:
            assert queries.unprocessed(ssc)[0] > asked.call_count
    left = r"; not processed: ([\d,]+) batch(?:es)? with ([\d,]+) records?"
    said = re.fullmatch(re.escape(f"stop file {stop}") + left, ended_by)
    assert said, ended_by
    batches, records = (int(number.replace(",", "")) for number in said.groups())
    assert records >= batches >= 3
    assert int(shown.read_text()) > 0


@pytest.mark.slow
def test_running_counts_go_on_from_their_snapshot(spark, tmp_path):
    snapshot = tmp_path / "counts.json"
    for round_number in (1, 2):
        stop, wanted = tmp_path / f"stop{round_number}", 3 * round_number
        with (
            serve(["b", '\u00e9 quote"', "b", "b"]) as server,
            dstreams.streaming_context(spark, 0.5) as ssc,
        ):
            lines = ssc.socketTextStream(server.host, server.port)
            counts = dstreams.running_counts(
                lines.map(lambda line: (line, 1)), snapshot=snapshot
            )

            def look(rdd):
                if dict(rdd.collect()).get("b") == wanted:  # noqa: B023 - its round ends first
                    stop.touch()  # noqa: B023

            counts.foreachRDD(look)
            assert dstreams.run(ssc, stop_file=stop, run_for=60).startswith(
                f"stop file {stop}"
            )
        assert dict(_read_counts(snapshot)) == {
            "b": wanted,
            '\u00e9 quote"': round_number,
        }


WHOLE = b'{"a": 3, "b": 12}'
DAMAGE = {
    "emptied": b"",
    "cut": WHOLE[:8],
    "not UTF-8": b"\xff" + WHOLE[1:],
    "a number": b"5\n",
    "a count that is none": b'{"a": "x"}',
}


@pytest.mark.parametrize("key", ["", "a", '\u00e9 quote"\n', "\ud800"], ids=ascii)
def test_a_key_comes_back_from_its_file(spark, tmp_path, key):
    snapshot = tmp_path / "counts.json"
    _keep_counts(snapshot, spark.sparkContext.parallelize([(key, 2), ("z", 10**20)], 2))
    assert _read_counts(snapshot) == [(key, 2), ("z", 10**20)]


@pytest.mark.parametrize(
    "pair", [(7, 1), (("user", "product"), 1), ("a", 1.5), ("a", None)], ids=repr
)
def test_what_the_file_cannot_give_back_is_refused_when_it_is_written(
    spark, tmp_path, pair
):
    snapshot = tmp_path / "counts.json"
    snapshot.write_bytes(WHOLE)
    pairs = spark.sparkContext.parallelize([pair], 1)
    assert re.search(
        r"cannot keep the count .* of key .*; a key must be a string",
        refusal(_keep_counts, snapshot, pairs),
    )
    assert snapshot.read_bytes() == WHOLE


@pytest.mark.parametrize("damage", [*DAMAGE, "a folder"])
def test_a_damaged_snapshot_is_said_and_is_no_new_start(spark, tmp_path, damage):
    snapshot = tmp_path / "counts.json"
    if damage == "a folder":
        snapshot.mkdir()
    else:
        snapshot.write_bytes(DAMAGE[damage])
    with dstreams.streaming_context(spark, 0.5) as ssc:
        pairs = ssc.textFileStream(str(tmp_path)).map(lambda line: (line, 1))
        said = refusal(dstreams.running_counts, pairs, snapshot=snapshot)
    assert re.search("does not hold counts.*; restore it", said)


@pytest.mark.slow
def test_a_snapshot_has_one_driver_at_a_time(spark, tmp_path):
    snapshot = tmp_path / "counts.json"
    snapshot.write_bytes(WHOLE)

    def count_into(path):
        with pytest.warns(FutureWarning, match="DStream"):
            ssc = StreamingContext(spark.sparkContext, 1)
        pairs = ssc.textFileStream(str(tmp_path)).map(lambda line: (line, 1))
        dstreams.running_counts(pairs, snapshot=path)
        pairs.foreachRDD(lambda rdd: None)
        return ssc, pairs

    used = (
        "is in use by query running_counts of this process; end it first, or give"
        " another file"
    )
    for end in (
        lambda ssc: ssc.stop(stopSparkContext=False),
        lambda ssc: dstreams.run(ssc, run_for=0.1),
    ):
        ssc, pairs = count_into(snapshot)
        dstreams.running_counts(pairs, snapshot=tmp_path / "others.json")
        with pytest.raises(
            TransientError, match=f"snapshot {re.escape(str(snapshot))} {used}"
        ):
            dstreams.running_counts(pairs, snapshot=snapshot)
        end(ssc)  # and another context may use the snapshot


@pytest.mark.slow
def test_a_word_that_has_left_the_window_leaves_the_output_and_the_state(
    spark, tmp_path
):
    #  a a a |-- window of 3 s passes --|        b keeps coming
    # Spark takes away what leaves, by the inverse, when the window is longer than five
    # slides.
    #  seen with a ─────────────────────► seen without a, and not as a zero
    stop, seen = tmp_path / "stop", tmp_path / "seen"
    phase_two = threading.Event()

    def lines():
        yield from ("a", "a", "a")
        phase_two.wait(60)
        while True:
            yield "b"

    def look(rdd):
        rows = dict(rdd.collect())
        if "a" in rows and not seen.exists():
            seen.touch()
        if seen.exists() and "a" not in rows:
            (tmp_path / "rows").write_text(json.dumps(rows))
            stop.touch()

    with (
        feeds.LineServer(lines, rate=20) as server,
        dstreams.streaming_context(spark, 0.5) as ssc,
    ):
        pairs = ssc.socketTextStream(server.host, server.port).map(
            lambda line: (line, 1)
        )
        dstreams.windowed_counts(pairs, window=3, slide=0.5).foreachRDD(look)
        phase_two.set()
        assert dstreams.run(ssc, stop_file=stop, run_for=60).startswith(
            f"stop file {stop}"
        )
    assert json.loads((tmp_path / "rows").read_text()).keys() == {"b"}


@pytest.mark.slow
def test_foreach_partition_opens_one_connection_for_each_partition_that_has_records(
    spark, tmp_path
):
    stop, sent = tmp_path / "stop", tmp_path / "sent"

    @contextmanager
    def connect():
        with sent.open("a") as file:
            file.write("open\n")
            yield file

    with (
        serve(["1", "2", "3"]) as server,
        dstreams.streaming_context(spark, 0.5) as ssc,
    ):
        numbers = ssc.socketTextStream(server.host, server.port)
        # Three records in one partition of four: three connections too many would show.
        spread = numbers.transform(
            lambda rdd: rdd.coalesce(1).union(rdd.ctx.parallelize([], 3))
        )
        dstreams.foreach_partition(
            spread, connect, lambda file, record: file.write(f"{record}\n")
        )
        numbers.foreachRDD(
            lambda rdd: (
                stop.touch() if sent.exists() and "3" in sent.read_text() else None
            )
        )
        dstreams.run(ssc, stop_file=stop, run_for=60)
    lines = sent.read_text().split()
    assert Counter(lines)["open"] <= 3  # one for each batch that had a record
    assert [line for line in lines if line != "open"] == ["1", "2", "3"]


@contextmanager
def own_context(spark):
    """A context that the kit has not made."""
    with pytest.warns(FutureWarning, match="DStream"):
        ssc = StreamingContext(spark.sparkContext, 1)
    yield ssc
    state = ssc._jssc.getState().toString()  # noqa: SLF001
    ssc.stop(stopSparkContext=False)
    assert state == "STOPPED"


@pytest.mark.slow
def test_run_stops_its_context_also_when_it_raises(spark, tmp_path):
    with (
        own_context(spark) as ssc,
        feeds.LineServer(feeds.random_lines(1), rate=20) as server,
    ):
        numbers = ssc.socketTextStream(server.host, server.port).map(
            lambda line: int(line[:0])
        )
        numbers.foreachRDD(lambda rdd: rdd.foreach(print))
        cause = (
            r"^DStream failed: ValueError: invalid literal for int\(\) with base"
            r" 10: '' "
            r"\(in <lambda>, .*test_dstreams.py line \d+\)$"
        )
        with pytest.raises(QueryFailed, match=cause):
            dstreams.run(ssc, run_for=60)
    with own_context(spark) as ssc:
        ssc.textFileStream(str(tmp_path)).foreachRDD(lambda rdd: None)
        assert "run_for" in refusal(dstreams.run, ssc, run_for=-1)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "nothing listens on 127.0.0.1:1"),
        ("no-such-host.invalid", "unknown host no-such-host.invalid; correct the name"),
    ],
)
def test_a_server_that_cannot_be_reached_ends_the_run(spark, host, said):
    with dstreams.streaming_context(spark, 0.5) as ssc:
        ssc.socketTextStream(host, 1).foreachRDD(lambda rdd: None)
        with pytest.raises(InputUnavailable, match=said):
            dstreams.run(ssc, run_for=60)


def test_receivers_that_would_hold_all_cores_are_an_error_with_the_fix(spark):
    with dstreams.streaming_context(spark, 0.5) as ssc:
        for port in (1, 2):
            ssc.socketTextStream("127.0.0.1", port).foreachRDD(lambda rdd: None)
        with pytest.raises(
            InvalidInputError,
            match=r"run\(\): master local\[2\] has 2 core\(s\).*; use local\[3\]",
        ):
            dstreams.run(ssc, run_for=1)


def results(output):
    """Return the rows that pprint printed."""
    return [
        ast.literal_eval(line) for line in output.splitlines() if line.startswith("(")
    ]


@pytest.mark.slow
def test_the_job_counts_by_batch_in_all_and_by_window_and_goes_on(job, tmp_path):
    flags = (
        "--checkpoint",
        tmp_path / "kept",
        "--batch-interval",
        1,
        "--window",
        4,
        "--slide",
        2,
    )
    with feeds.LineServer(["x x", "y"] * 5000, rate=20) as server:
        address = (server.host, server.port)
        first = job(
            "spark-submit",
            "dstream_wordcount",
            *address,
            *flags,
            "--run-for",
            7,
            "--graceful",
        )
        kept = json.loads((tmp_path / "kept" / "counts.json").read_text())
        second = job("python", "dstream_wordcount", *address, *flags, "--run-for", 15)
    rows = results(first.stdout)
    assert {len(row) for row in rows} == {2, 3}
    assert ("since the beginning", "x", kept["x"]) in rows
    assert any(row[:2] == ("in 4 s", "x") for row in rows)
    assert kept["x"] > kept["y"] > 0

    # The second run begins where the first ended, and its counts only grow.
    running = [
        row[2]
        for row in results(second.stdout)
        if row[:2] == ("since the beginning", "x")
    ]
    assert running == sorted(running)
    assert running[0] >= kept["x"]
    assert running[-1] > kept["x"]
    assert "ended by: run_for is over" in second.stderr
