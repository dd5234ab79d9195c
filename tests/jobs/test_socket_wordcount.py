"""The job `socket_wordcount`: its counts, and how it ends."""

import itertools
import re
import socket
import sqlite3
from collections import Counter
from contextlib import nullcontext

import pytest
import socket_wordcount
from chispa import assert_df_equality
from conftest import left_behind

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit.errors import InputUnavailable
from sparkstream_kit.monitoring.pictures import places


def test_words_are_split_at_any_white_space_and_none_is_empty(spark):
    lines = spark.createDataFrame(
        [("  b\ta b ",), ("",), ("\u00e9 b",)], "value STRING"
    )
    expected = spark.createDataFrame(
        [("b", 3), ("a", 1), ("\u00e9", 1)], "word STRING, count BIGINT"
    )
    assert_df_equality(
        socket_wordcount.transform(lines), expected, ignore_nullable=True
    )


def table(output):
    """Return the last batch that the console sink printed."""
    last = output.rpartition("Batch: ")[2]
    cells = [
        line.strip("|").split("|") for line in last.splitlines() if line.startswith("|")
    ]
    return {word.strip(): int(count) for word, count in cells[1:]}


@pytest.mark.slow
@pytest.mark.connect
def test_a_feed_is_counted_to_its_end_under_spark_submit(job):
    lines = ["to be or not", "to be", "a-word-of-more-than-twenty-characters"]
    with feeds.LineServer(lines) as server:
        done = job("spark-submit", "socket_wordcount", server.host, server.port)
    assert table(done.stdout) == Counter(
        word for line in lines for word in line.split()
    )
    assert "by: end of input" in done.stderr


@pytest.mark.fast("False")
@pytest.mark.parametrize("to_file", [True, False])
def test_a_page_shows_the_rows_that_a_file_or_the_terminal_gets(
    spark, tmp_path, monkeypatch, capfd, *, to_file
):
    shown = {}

    def watched(query, **how):
        summary = run(query, **how)
        shown.update(places([query]))
        return summary

    monkeypatch.setattr(socket_wordcount, "run", watched)
    monkeypatch.setattr(
        socket_wordcount, "spark_session", lambda *_, **__: nullcontext(spark)
    )
    file = tmp_path / "counts.csv"
    snapshot = ["--snapshot", str(file)] if to_file else []
    with feeds.LineServer(["to be or not", "to be"]) as server:
        assert (
            socket_wordcount.main([server.host, str(server.port), "--ui", *snapshot])
            == 0
        )
    counts = [("to", 2), ("be", 2), ("or", 1), ("not", 1)]
    [(session, place)] = shown.values()
    assert sorted(map(tuple, session.table(place.name).collect())) == sorted(counts)
    if to_file:
        assert file.read_text().splitlines()[0] == "word,count"
        assert len(file.read_text().splitlines()) == 5
    else:
        assert re.search(r"^to +2$", capfd.readouterr().out, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param("socket_wordcount", marks=pytest.mark.connect), "dstream_wordcount"],
)
def test_a_port_that_nobody_listens_on_is_one_line(job, name, temporary, free_port):
    done = job("spark-submit", name, "127.0.0.1", free_port, code=75, **temporary)
    assert not left_behind(temporary)
    ours = [
        line for line in done.stderr.splitlines() if line.startswith(f"{name}.py: ")
    ]
    assert len(ours) == 1
    assert (
        f"nothing listens on 127.0.0.1:{free_port}; start the server first, such as nc"
        f" -lk {free_port}" in ours[0]
    )
    assert not re.search("Traceback|\tat ", done.stderr)


def test_a_host_that_is_not_known_is_input_that_cannot_be_had(spark):
    query = start(
        sources.socket_lines(spark, "no-such-host.invalid", 9999),
        sinks.memory("unknown"),
    )
    with pytest.raises(InputUnavailable) as error:
        run(query)
    text = (
        "query unknown failed: unknown host no-such-host.invalid; correct the name, or"
        " give the address"
    )
    assert (str(error.value), error.value.exit_code) == (text, 75)


def test_a_server_that_says_nothing_is_idle(job, spark):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lines = sources.socket_lines(spark, "127.0.0.1", silent.getsockname()[1])
        summary = run(start(lines, sinks.memory("silent")), idle=1)
    assert summary.ended_by == "1 s without a row"


@pytest.mark.slow
def test_all_of_a_long_text_is_counted(spark):
    text = [*itertools.islice(feeds.random_lines(1), 40_000)]
    with feeds.LineServer(text) as server:
        counts = socket_wordcount.transform(
            sources.socket_lines(spark, server.host, server.port)
        )
        summary = run(start(counts, sinks.memory("long_text"), mode="complete"))
    expected = Counter(word for line in text for word in line.split())
    assert [tuple(row) for row in spark.table("long_text").collect()] == sorted(
        expected.items(), key=lambda pair: (-pair[1], pair[0])
    )
    assert summary.queries[0].input_rows == 40_000


@pytest.mark.slow
def test_counts_go_to_a_table_that_the_next_run_replaces(job, tmp_path):
    def counts(words):
        with feeds.LineServer([words]) as server:
            target = ("--database", f"sqlite:///{tmp_path}/counts.db")
            assert (
                job(
                    "spark-submit",
                    "socket_wordcount",
                    server.host,
                    server.port,
                    *target,
                ).stdout
                == ""
            )
        with sqlite3.connect(tmp_path / "counts.db") as database:
            return dict(
                database.execute("SELECT word, count FROM word_counts").fetchall()
            )

    assert counts("to be or not to be") == {"to": 2, "be": 2, "or": 1, "not": 1}
    assert counts("to") == {"to": 1}
