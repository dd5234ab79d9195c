"""No control character of the input acts in a terminal, on a page or in a notebook."""

import io
import json
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import PySparkException
from rich.console import Console
from support.recorded import progress

from sparkstream_kit import display
from sparkstream_kit._internal.stopping import exits, shutdown
from sparkstream_kit.cli import main
from sparkstream_kit.errors import InvalidInputError, printable
from sparkstream_kit.monitoring import board as recorder
from sparkstream_kit.monitoring import notebook, pictures, terminal
from sparkstream_kit.monitoring.board import Board, QueryState
from sparkstream_kit.monitoring.pictures import Results, Sent
from sparkstream_kit.progress import QuerySummary, RunSummary
from sparkstream_kit.sinks import builtin, cells
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.verdicts import Verdict

# The title of the terminal, its screen cleared (in two ways), a row forged, a line
# written over, and a text that runs to the left.
EVIL = "tea\x1b]0;taken\x07\x1b[2J\x9b2J\nforged  9\rover\u202egnp\u2028\x7f"
SHOWN = (
    r"tea\u001b]0;taken\u0007\u001b[2J\u009b2J\nforged  9\rover\u202egnp\u2028\u007f"
)


class Told(Board):
    """A board whose verdicts name something of the input, as those of rules do."""

    def pictures(self, now=None):
        return [
            replace(each, verdicts=(Verdict("bad", EVIL),))
            for each in super().pictures(now)
        ]


def board():
    made = Told()
    made.add(progress(name=EVIL))
    made.expect(QueryState(QuerySummary(f"{EVIL} starts", "2")))
    return made


def results(monkeypatch):
    monkeypatch.setattr(
        pictures,
        "_of_view",
        lambda *_, **__: ([EVIL, "n"], [False, True], [(EVIL, "3")]),
    )
    session: Any = None
    return Results({EVIL: (session, Target("view", EVIL))})


def lines_of_pictures():
    return "\n".join(
        line
        for each in board().pictures()
        for line in terminal.lines(each, datetime.now(UTC))
    )


def drawn():
    out = io.StringIO()
    Console(file=out, width=400).print(
        terminal._query_table(board().pictures(), datetime.now(UTC), 400)  # noqa: SLF001
    )
    return out.getvalue()


def in_notebook(monkeypatch):
    return "\n".join(
        notebook._bundle(board(), results(monkeypatch), last=True).values()  # noqa: SLF001
    )


def on_the_page(monkeypatch):
    told = json.loads(
        Sent(results(monkeypatch)).text(board().pictures(), ended=EVIL, spark=None)
    )

    def strings(value):
        if isinstance(value, dict):
            return [each for part in value.values() for each in strings(part)]
        if isinstance(value, list):
            return [each for part in value for each in strings(part)]
        return [value] if isinstance(value, str) else []

    return "\n".join(strings(told))


def recorded(folder):
    line = recorder.batch_line(progress(name=EVIL))
    (folder / "run.jsonl").write_text(line)
    return line


FACES: dict[str, Callable[[Path, pytest.MonkeyPatch], str]] = {
    "table": lambda *_: display.table([EVIL, "n"], [[EVIL, "1"], [None, "2"]]),
    "bars": lambda *_: display.bars([(EVIL, 2.0), ("ink", 1.0)]),
    "html": lambda *_: display.html_table([EVIL, "n"], [False, True], [[EVIL, "1"]]),
    "terminal, lines": lambda *_: lines_of_pictures(),
    "terminal, a picture": lambda *_: drawn(),
    "notebook": lambda _, monkeypatch: in_notebook(monkeypatch),
    "page": lambda _, monkeypatch: on_the_page(monkeypatch),
    "recording": lambda folder, _: recorded(folder),
    "error": (
        lambda *_: str(InvalidInputError(f"no column {EVIL}")).replace("\n", r"\n")
    ),
    "summary": lambda *_: str(
        RunSummary("end of input", 1.0, (QuerySummary(EVIL, "1"),), (EVIL,))
    ),
    "log": lambda *_: (
        exits._Plain()  # noqa: SLF001
        .format(logging.makeLogRecord({"msg": "no %s", "args": (EVIL,)}))
        .replace("\n", r"\n")
    ),
}


@pytest.mark.parametrize("face", FACES)
def test_no_face_of_the_kit_shows_control_characters(face, tmp_path, monkeypatch):
    text = FACES[face](tmp_path, monkeypatch)
    assert printable(text, lines=True) == text
    assert SHOWN in text.replace("&quot;", '"')
    assert "\nforged" not in text


@pytest.fixture
def frame(spark):
    return spark.createDataFrame([(EVIL, 1)], "name STRING, n INT")


@pytest.mark.parametrize(
    "form", ["table", "csv", "json", "show", "batch", "console of Spark Connect"]
)
def test_what_is_printed_of_a_frame_is_text(form, frame, monkeypatch, capsys):
    if form == "show":
        display.show(frame)
    elif form == "batch":
        display.show(frame, 3)
    elif form.startswith("console"):
        builtin._print(20, False, frame, 0)  # noqa: SLF001
    else:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        sys.stdout.write(display.render(frame, form))
    text = capsys.readouterr().out
    assert printable(text, lines=True) == text
    if form == "json":
        assert json.loads(text) == [{"name": EVIL, "n": 1}], "escaped as JSON has it"
    elif form != "csv":  # which quotes a line feed
        assert SHOWN in text


def test_csv_is_exact_where_a_file_takes_it(frame):
    assert EVIL in display.render(frame, "csv")
    assert cells.cells(frame) == [(EVIL, "1")]


def test_watch_shows_a_recording_of_somebody_elses(tmp_path, capsys):
    (tmp_path / "run.jsonl").write_text(
        recorder.first_line([]) + recorded(tmp_path) + recorder.end_line()
    )
    assert main(["watch", str(tmp_path / "run.jsonl")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"tea\\u001b\]0;taken", text)
    assert printable(text, lines=True) == text


def test_the_last_line_of_a_job_and_of_a_command_is_text(tmp_path, capsys):
    stop = exits._Stop(shutdown.Job())  # noqa: SLF001
    exits._end_with(PySparkException(f"no column {EVIL}"), stop)  # noqa: SLF001
    text = capsys.readouterr().err
    assert r"no column tea\u001b]0;taken" in text
    assert printable(text, lines=True) == text
    assert main(["checkpoint", "show", str(tmp_path / "a\x1b[2Jb")]) == 2
    assert r"a\u001b[2Jb" in capsys.readouterr().err
