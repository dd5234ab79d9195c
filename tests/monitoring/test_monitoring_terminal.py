"""The terminal's face: a picture in a terminal, lines elsewhere, no harm to a run.

The picture stays in place and is as wide as the terminal.
"""

import importlib.util
import io
import logging
import os
import sys
import termios
import threading
from datetime import UTC, datetime, timedelta

import pyte
import pytest
from conftest import refusal
from support.recorded import TOLD, filled, progress

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.monitoring import terminal as face
from sparkstream_kit.monitoring.board import Board
from sparkstream_kit.sinks.base import Target


def ended():
    """A board with the recorded batches of three queries, one of which has a bad verdict."""
    board = filled()
    board.end()
    return board


def screen(ends, columns, draw):
    """Draw on a terminal, and return what stands there then."""
    ours, its = ends
    termios.tcsetwinsize(its, (30, columns))
    text = b""

    def read():
        nonlocal text
        while not text.endswith(b"END"):
            text += os.read(ours, 65536)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with os.fdopen(its, "w") as stream:
        draw(stream)
        stream.write("END")
        stream.flush()
        reader.join(30)
    os.close(ours)
    seen = pyte.Screen(columns, 30)
    pyte.ByteStream(seen).feed(text.removesuffix(b"END"))
    return [line.rstrip() for line in seen.display if line.strip()]


def drawn(board, stream):
    with face.shown(board, stream):
        pass


@pytest.fixture
def plain_environment(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")


@pytest.mark.parametrize("columns", [80, 100, 140])
@pytest.mark.usefixtures("plain_environment")
def test_the_picture_fits_the_terminal(monkeypatch, terminal, columns):
    board = ended()
    monkeypatch.setenv("COLUMNS", str(columns))  # rich asks the process's own terminal
    lines = screen(terminal, columns, lambda stream: drawn(board, stream))
    wide = ("rows", "time") if columns >= 100 else ("", "")
    heads = "query batch rows/s in rows/s done {} batch ms {} state rows late".format(
        *wide
    )
    assert lines[0].split() == heads.split(), (
        "and no column that no query needs: behind, bad"
    )
    names = [picture.name for picture in board.pictures()]
    assert [line.split()[0] for line in lines[1:4]] == names, (
        "the worst first, each name whole"
    )
    assert lines[4].startswith(f"● {names[0]}: ")
    assert any(block in lines[1] for block in "▁▂▃▄▅▆▇█") == (columns >= 100)
    latest = {picture.name: picture.batches[-1] for picture in board.pictures()}
    for line, name in zip(lines[1:4], names, strict=True):
        assert line.split()[1] == str(latest[name].batch)


@pytest.mark.usefixtures("plain_environment")
def test_beneath_the_picture_are_the_bars_of_a_result(monkeypatch, terminal, spark):
    spark.createDataFrame(
        [("tea", 5), ("ink", 20)], "tag STRING, posts INT"
    ).createOrReplaceTempView("posts")
    board = ended()
    name = board.pictures()[0].name
    monkeypatch.setattr(
        face, "places", lambda _: {name: (spark, Target("view", "posts"))}
    )
    lines = screen(terminal, 100, lambda stream: drawn(board, stream))
    assert [line.split()[0] for line in lines[-2:]] == ["ink", "tea"]
    assert [line.count("█") for line in lines[-2:]] == [68, 17]


@pytest.mark.usefixtures("plain_environment")
def test_before_the_first_batch_it_says_what_spark_does(terminal):
    board = Board()
    board.add(progress())
    [query] = board._queries.values()  # noqa: SLF001 - a query that is watched has no batch yet
    query.batches.clear()
    query.since = datetime.now(UTC) - timedelta(seconds=7)
    lines = screen(terminal, 100, lambda stream: drawn(board, stream))
    assert lines[2] == f"○ {TOLD[0]['name']}: starting Spark's first batch … 7 s"
    assert lines[1].split()[:2] == [TOLD[0]["name"], "-"]


def test_where_there_is_no_terminal_each_query_has_a_line_when_something_has_changed(
    monkeypatch,
):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda _: pytest.fail("rich was asked for")
    )
    board, out = Board(), io.StringIO()
    with face.shown(board, out):
        for each in TOLD:
            board.add(progress(each))
        board.end()
    said = out.getvalue().splitlines()
    numbers = [line for line in said if ": batch " in line]
    for picture in board.pictures():
        assert len([line for line in numbers if line.startswith(picture.name)]) in (
            1,
            2,
            3,
        ), "within 5 s"
        last = next(line for line in reversed(numbers) if line.startswith(picture.name))
        assert last.startswith(f"{picture.name}: batch {picture.batches[-1].batch} in ")
        for verdict in picture.verdicts:
            assert f"{picture.name}: verdict: {verdict}" in said


def test_a_log_is_not_flooded(monkeypatch):
    board, out, over = Board(), io.StringIO(), threading.Event()

    def changes(*_, **__):
        for each in TOLD:  # within a second
            board.add(progress(each))
            yield
        over.set()
        yield

    monkeypatch.setattr(face, "moments", changes)
    face._write(board, out, over)  # noqa: SLF001
    numbers = [line for line in out.getvalue().splitlines() if ": batch " in line]
    assert len(TOLD) > 70
    assert len(numbers) == 2 * 3, "the first and the last of each query"


def test_without_rich_a_terminal_has_lines(monkeypatch, terminal):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "rich" else found(name),
    )
    lines = screen(terminal, 100, lambda stream: drawn(ended(), stream))
    assert not any("rows/s in  " in line for line in lines)
    assert sum(": batch " in line for line in lines) == 3


def test_an_error_in_the_picture_is_said_once_and_ends_no_query(
    lines, caplog, monkeypatch
):
    def broken(*_):
        raise RuntimeError("no room")

    monkeypatch.setattr(face, "lines", broken)
    query = start(lines, sinks.memory("shown"), availableNow=True)
    with caplog.at_level(logging.WARNING):
        summary = run(query, show="terminal")
    assert summary.queries[0].batches == 3
    said = [record.message for record in caplog.records if "picture" in record.message]
    assert said == ["the run goes on without its picture: RuntimeError: no room"]


@pytest.mark.connect
def test_a_run_is_shown_on_standard_error(lines, capsys):
    run(start(lines, sinks.memory("seen"), availableNow=True), show="terminal")
    out, err = capsys.readouterr()
    assert out == ""
    assert "seen: starting Spark's first batch … 0 s\n" in err
    last = err.splitlines()[-1]
    assert last.startswith("seen: batch 2 in ")
    assert " rows/s done" in last


def test_an_unknown_face_is_refused_and_the_query_is_stopped(spark, folder):
    query = start(sources.text(spark, str(folder)), sinks.memory("refused"))
    assert "unknown face (show=) terminl; did you mean terminal?" in refusal(
        run, query, show="terminl"
    )
    assert not query.isActive


@pytest.mark.usefixtures("plain_environment")
def test_what_is_printed_meanwhile_stays_readable_above_the_picture(
    monkeypatch, terminal
):
    board, asked = ended(), 0
    first_is_drawn, pictures = threading.Event(), board.pictures

    def counted():
        nonlocal asked
        asked += 1
        if asked > 1:
            first_is_drawn.set()
        return pictures()

    def printing(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(board, "pictures", counted)
        with face.shown(board):
            assert first_is_drawn.wait(30)
            sys.stderr.write("a warning\n")
        monkeypatch.undo()

    lines = screen(terminal, 100, printing)
    assert "a warning" in lines
    assert sum(line.startswith("query ") for line in lines) == 1, (
        "the picture stands there once"
    )
