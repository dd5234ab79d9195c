"""The flight recorder: what a run writes, and what `sparkstream watch` makes of it."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from conftest import HANGS, ROOT, refusal, running
from pyspark.sql import functions as F
from support.recorded import LINES as RECORDED
from support.recorded import progress

from sparkstream_kit import feeds, quarantine, run, schemas, sinks, sources, start
from sparkstream_kit.cli import app, main
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.monitoring import board as recorder
from sparkstream_kit.monitoring import terminal
from sparkstream_kit.monitoring.board import Board

WATCH = [sys.executable, "-m", "sparkstream_kit", "watch"]


def head(*batches):
    """The first line of a recording of the queries whose batches are given."""
    told = {each["id"]: each for each in map(json.loads, batches)}
    queries = [
        {
            "name": each["name"],
            "id": each["id"],
            "mode": "append",
            "interval": None,
            "ends": True,
        }
        for each in told.values()
    ]
    first = {
        "recording": 1,
        "by": "a test",
        "at": "2026-11-21T01:00:00.000+00:00",
        "queries": queries,
    }
    return json.dumps(first) + "\n"


def whole_file(path, *, ended=True):
    end = [recorder.end_line()] if ended else []
    path.write_text(
        "".join([head(*RECORDED), *(f"{line}\n" for line in RECORDED), *end]), "utf-8"
    )
    return path


def board_of(text):
    board = Board()
    recorder.follow(text.splitlines(keepends=True), board)
    return board


def recorded_run(spark, folder, path, name):
    """Run a query with bad lines and state, and record it."""
    lines = sources.text(spark, str(folder), max_files_per_trigger=1)
    rows = quarantine.parse_csv(lines, schemas.from_ddl("a INT, b STRING"))
    counts = rows.groupBy("b").agg(F.count("*").alias("n"))
    return run(
        start(counts, sinks.memory(name), mode="complete", availableNow=True),
        record=path,
    ).queries[0]


@pytest.mark.slow
@pytest.mark.connect
def test_a_recording_gives_the_board_that_the_run_had(spark, folder, tmp_path):
    feeds.drip([(f"{n}.csv", f"{n},x\nno number,y\n") for n in range(3)], folder)
    path = tmp_path / "run.jsonl"
    done = recorded_run(spark, folder, path, "first_one")
    board = board_of(path.read_text("utf-8"))
    [picture] = board.pictures()
    assert board.ended
    assert (picture.name, picture.summary.query_id) == ("first_one", done.query_id)
    assert picture.summary.mode == "complete"
    for count in ("batches", "input_rows", "bad_rows", "state_rows", "last_batch"):
        assert getattr(picture.summary, count) == getattr(done, count), count
    assert picture.summary.bad_rows == 3

    # The next run appends to the same file, and is the one that is shown.
    again = recorded_run(spark, folder, path, "second_one")
    [picture] = board_of(path.read_text("utf-8")).pictures()
    assert picture.summary.query_id == again.query_id
    assert len(re.findall('"recording":1', path.read_text("utf-8"))) == 2


def test_after_a_kill_the_torn_line_is_left_out_and_the_next_run_begins_a_line(
    spark, folder, tmp_path
):
    path = tmp_path / "killed.jsonl"
    path.write_text(
        "".join([head(RECORDED[0]), RECORDED[0] + "\n", RECORDED[1][:200]]), "utf-8"
    )
    board = board_of(path.read_text("utf-8"))
    assert [picture.summary.batches for picture in board.pictures()] == [1]
    assert not board.ended
    feeds.drip([("1.csv", "1,x\n")], folder)
    recorded_run(spark, folder, path, "after_kill")
    assert [
        picture.name for picture in board_of(path.read_text("utf-8")).pictures()
    ] == ["after_kill"]


def test_a_file_that_cannot_be_written_is_refused_and_the_query_is_stopped(
    spark, folder, tmp_path
):
    query = start(sources.text(spark, str(folder)), sinks.memory("not_recorded"))
    other = tmp_path / "data.csv"
    other.write_text("a,b\n1,2\n")
    assert "(Is a directory); give a file that can be" in refusal(
        run, query, record=tmp_path
    )
    assert not query.isActive
    said = refusal(recorder.recording(other, []).__enter__)
    assert said.endswith(
        "data.csv holds something else than recordings; give another file"
    )
    assert other.read_text() == "a,b\n1,2\n"


def little_room(patch, room, what=b""):
    """Open recordings on a disk that takes no more than `room` bytes of what is written."""
    real = Path.open

    class Full(io.FileIO):
        def write(self, data):
            if what not in data:
                return super().write(data)
            if not room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data[:room])

    def opened(path, mode="r", *args, **how):
        return Full(path, mode) if mode == "a+b" else real(path, mode, *args, **how)

    patch.setattr(Path, "open", opened)


def test_a_disk_that_is_full_is_said_once_and_ends_no_query(
    lines, tmp_path, caplog, monkeypatch
):
    query = start(lines, sinks.memory("full"), availableNow=True)
    path = tmp_path / "full.jsonl"
    little_room(monkeypatch, 9, b"batchId")  # /dev/full is no file of a recording
    assert run(query, record=path).queries[0].batches == 3
    said = [
        record.message
        for record in caplog.records
        if "a display of the run failed" in record.message
    ]
    assert len(said) == 1
    assert "no room in" in said[0]
    assert not board_of(path.read_text()).ended, (
        "the torn line and the last one are one line"
    )


@pytest.mark.parametrize("room", [9, 0])
def test_a_first_line_for_which_there_was_no_room_is_written_by_the_next_run(
    tmp_path, room
):
    path = tmp_path / "full.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        little_room(patch, room)
        with pytest.raises(InvalidInputError, match="cannot write the recording"):
            recorder.recording(path, []).__enter__()
    assert path.stat().st_size == room
    with recorder.recording(path, []) as add:
        add(progress())
    first, _, last = path.read_text("utf-8").splitlines()
    assert ("recording" in json.loads(first), "end" in json.loads(last)) == (True, True)


def test_no_password_of_an_address_is_in_a_recording():
    told = json.loads(RECORDED[0])
    told["sources"][0]["description"] = "FileStreamSource[s3a://me:hush@store/sales]"
    line = recorder.batch_line(progress(told))
    assert "hush" not in line
    assert "s3a://me:***@store/sales" in line
    assert line.count("\n") == 1


# --- watch


def test_a_run_that_has_ended_is_printed_once(tmp_path, capsys):
    path = whole_file(tmp_path / "run.jsonl")
    assert main(["watch", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    now = datetime.now(UTC)
    pictures = board_of(path.read_text("utf-8")).pictures()
    assert out.splitlines() == [
        line for picture in pictures for line in terminal.lines(picture, now)
    ]


NO_HEAD = (
    "{}: line 1 does not begin a recording; give a file that --record of this version"
    " has written"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read {} (No such file or directory); give what --record wrote"),
        ("", NO_HEAD),
        (RECORDED[0] + "\n", NO_HEAD),
        (head(RECORDED[0]).replace('"recording": 1', '"recording": 9'), NO_HEAD),
        (
            head(RECORDED[0]) + '{"batchId": 1}\n',
            "{}: line 2 is no progress that can be read; give a file",
        ),
    ],
    ids=["missing", "empty", "no head", "another version", "no progress"],
)
def test_what_is_no_recording_is_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "f"
    if text is not None:
        path.write_text(text, "utf-8")
    assert main(["watch", str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"sparkstream: {message.format(path)}")


@pytest.mark.parametrize("first", [True, False])
def test_a_line_of_many_brackets_is_no_line_of_a_recording(first, tmp_path, capsys):
    path = tmp_path / "run.jsonl"
    deep = "[" * 100_000 + "\n"
    lines = [head(RECORDED[0]), RECORDED[0] + "\n"]
    path.write_text("".join([deep, *lines] if first else [*lines, deep]))
    if first:
        assert main(["watch", str(path)]) == 2
        assert (
            "line 1 does not begin a recording; give a file" in capsys.readouterr().err
        )
    else:
        assert [
            picture.summary.batches for picture in board_of(path.read_text()).pictures()
        ] == [1]


def test_an_address_of_a_page_is_no_file_and_its_token_is_not_repeated(capsys):
    assert main(["watch", "http://127.0.0.1:1/#token=hush"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "hush" not in said
    assert "give what --record wrote" in said


def test_a_recording_that_does_not_say_whether_its_queries_end_is_read():
    told = json.loads(head(RECORDED[0]))
    for query in told["queries"]:
        del query["ends"]
    [picture] = board_of(f"{json.dumps(told)}\n{RECORDED[0]}\n").pictures()
    assert picture.summary.batches == 1


def test_a_past_that_is_still_being_read_is_no_silence():
    def quiet(board):
        return any(
            "no batch for" in str(said)
            for each in board.pictures()
            for said in each.verdicts
        )

    class Once(threading.Event):
        def wait(self, _limit=None):
            self.set()  # nothing more comes
            return True

    past = io.StringIO("".join([head(*RECORDED), *(f"{line}\n" for line in RECORDED)]))
    board, seen = Board(), list[bool]()
    board.live = False

    def looked_at(lines):
        for line in lines:
            seen.append(quiet(board))
            yield line

    recorder.follow(looked_at(app._growing(past, board, Once())), board)  # noqa: SLF001
    assert not any(seen[:-1]), "its batches are days old, and more of them come at once"
    assert quiet(board), "what is there has been read, and nothing comes"


@pytest.mark.slow
def test_a_run_that_goes_on_is_followed_until_its_end_line(tmp_path):
    path = tmp_path / "growing.jsonl"
    path.write_text(head(*RECORDED) + RECORDED[0] + "\n", "utf-8")
    with running(
        *WATCH, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as watch:
        assert watch.stdout
        first = next(iter(watch.stdout))
        with path.open("a") as file:
            for line in RECORDED[1:]:
                for part in (line[:100], line[100:] + "\n"):  # half a line is none
                    file.write(part)
                    file.flush()
            file.write(recorder.end_line())
        out, err = watch.communicate(timeout=HANGS)
        assert (watch.returncode, err) == (0, "")
    assert any(
        name in first for name in ("action_windows", "sales_clean", "score_payments")
    )
    for picture in board_of(path.read_text("utf-8")).pictures():
        assert f"{picture.name}: batch {picture.batches[-1].batch} in " in out


@pytest.mark.slow
def test_of_a_killed_run_it_says_that_nothing_comes_and_ctrl_c_ends_it(tmp_path):
    path = whole_file(tmp_path / "killed.jsonl", ended=False)
    with running(
        *WATCH, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as watch:
        assert watch.stdout
        shown = list(islice(watch.stdout, 2))
        watch.send_signal(signal.SIGINT)
        _, err = watch.communicate(timeout=HANGS)
        assert (watch.returncode, err) == (0, "")
    assert ": batch " in shown[0]
    assert ": verdict: no batch for " in shown[1]
