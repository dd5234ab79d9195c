"""The commands `sparkstream feed …`: input to try streams on, and the true answer to it."""

from __future__ import annotations

import inspect
import itertools
import json
import logging
import threading
from datetime import timedelta
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

from sparkstream_kit import _files, feeds
from sparkstream_kit.cli.common import flag as _flag
from sparkstream_kit.cli.common import say as _say
from sparkstream_kit.cli.common import stopped_by_signal as _stopped_by_signal
from sparkstream_kit.cli.posting import posts_command
from sparkstream_kit.cli.streaming import check_truth, feed_kinesis, write_totals
from sparkstream_kit.errors import InvalidInputError

try:
    import typer
except ImportError:  # main() says what to install
    typer = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["add_feeds"]

_TRUTH = "_truth.json"  # Spark skips a name that begins with _
_SHARES = ("late", "duplicates", "bad", "ahead")


def add_feeds(feed: typer.Typer) -> None:
    """Add the commands to the group `feed`."""
    feed.command("lines")(_lines)
    feed.command("sales")(_sales)
    feed.command("replay")(_replay)
    feed.command("kinesis")(feed_kinesis)
    doc = "Land CSV files of a shop's events."
    feed.command("events")(
        _generator(
            "events.csv", feeds.events_rows, feeds.events_truth, doc, line=feeds.csv_line, keeps_late=True
        )
    )
    doc = "Land posts of two networks as JSON lines."
    generated = _generator(
        "posts.json", feeds.posts_rows, feeds.posts_truth, doc, time="created_at", line=feeds.posts_line
    )
    feed.command("posts")(posts_command(generated))
    feed.command("ads")(_ads())
    feed.command("cards")(_cards())
    feed.command("messages")(_messages())
    feed.command("sensors")(_sensors())
    feed.command("actions")(
        _generator(
            "actions.json",
            feeds.actions_rows,
            feeds.actions_truth,
            "Land JSON lines of actions with their times. The truth is their count by hour and action.",
            shares=("late", "bad", "ahead"),
        )
    )
    feed.command("logs")(
        _generator(
            "access.log",
            feeds.log_rows,
            lambda rows: {"errors": feeds.log_errors(rows), "sessions": feeds.log_sessions(rows)},
            "Land lines of a web server's log. The truth: errors by path and minute, and sessions.",
            line=feeds.log_line,
            shares=("bad", "ahead"),
        )
    )


def _generator(
    file: str,
    rows: Callable[..., Iterable[dict[str, Any]]],
    truth: Callable[[list[dict[str, Any]]], object],
    doc: str,
    *,
    time: str = "time",
    line: Callable[[Any], str] = feeds.json_line,
    shares: Sequence[str] = _SHARES,
    delay: str = "10 minutes",
    keeps_late: bool = False,
) -> Callable[..., None]:
    """Return the command that lands files of a generator's rows, and writes the truth beside them at the end.

    Args:
        file: names the files, such as `cards.csv` for `cards-0-1.csv`, with the seed and their number.
        rows: the generator, called as `rows(count, seed=seed)`.
        truth: what a job should find, from the rows that count; what `json` cannot write becomes text.
        doc: the command's help, whose first sentence says what it lands.
        time: the field of the time, for `feeds.disturb`.
        line: writes a row as a line: `feeds.json_line`, `feeds.csv_line` or one of the generator's own.
        shares: which ways to disturb make sense for the data.
        delay: the watermark's delay that the job has by default.
        keeps_late: the job counts late rows, too, so that the truth does.
    """
    begins, _, ending = file.partition(".")

    def command(**given: Any) -> None:
        folder, files, size, every, seed = (
            given.pop(each) for each in ("folder", "files", "rows", "every", "seed")
        )
        _check_empty(folder)
        made = feeds.disturb(
            rows(files * size, seed=seed),
            time=time,
            rows_per_file=size,
            seed=seed,
            **{"delay": delay} | given,
        ).first(files * size)
        name = f"{begins}-{seed}-{{}}.{ending}"
        landed = _land(feeds.line_files(map(line, made.arriving), rows=size, name=name), folder, every)
        found = made.first(len(landed) * size)
        counted = found.counted + (found.late if keeps_late else [])
        answer: dict[str, Any] = {"truth": truth(counted), "counted": len(counted)}
        answer |= {share: getattr(found, share) for share in shares}
        text = json.dumps(answer, ensure_ascii=False, default=str, indent=1)
        _files.replace(folder / _TRUTH, [text, "\n"])

    flags = inspect.signature(_flags, eval_str=True)
    left_out = {*_SHARES, "delay"} - {*shares, *(["delay"] if {"late", "duplicates"} & {*shares} else [])}
    kept = [
        each.replace(default=delay if each.name == "delay" else each.default)
        for each in flags.parameters.values()
        if each.name not in left_out
    ]
    command.__signature__ = flags.replace(parameters=kept)  # type: ignore[attr-defined]
    command.__annotations__, command.__doc__ = {}, doc
    return command


def _ads() -> Callable[..., None]:
    """Return the command for `jobs/ad_join.py`."""
    doc = """Land JSON lines of views of ads and clicks on them, for jobs/ad_join.py.

    Three views in ten are clicked, and four in five of these clicks come within 10 minutes, which the truth
    counts: a list of ad, time of the view, and time of the click or null.
    """

    def truth(rows: list[dict[str, Any]]) -> object:
        return feeds.ads_truth(rows, within=timedelta(minutes=10))

    return _generator(
        "ads.json", feeds.ads_rows, truth, doc, time="event_time", shares=("late", "bad", "ahead")
    )


def _messages() -> Callable[..., None]:
    """Return the command for `jobs/score_posts.py`."""
    doc = """Land JSON lines of short texts labelled ham or spam, for jobs/score_posts.py.

    The truth is the likelier label of each text by the odds that made it, which no model can better.
    """
    return _generator("messages.json", feeds.messages_rows, feeds.messages_truth, doc, shares=("bad",))


def _sensors() -> Callable[..., None]:
    """Return the command for `jobs/sensor_alerts.py`."""
    doc = """Land JSON lines of temperatures, for jobs/sensor_alerts.py.

    The truth is each spike and each silence: device, time, what. It ends two minutes before the last reading,
    where the job's watermark stands.
    """

    def truth(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
        return feeds.sensors_truth(rows, delay=timedelta(minutes=2))

    shares = ("late", "bad", "ahead")
    return _generator("sensors.json", feeds.sensors_rows, truth, doc, shares=shares, delay="2 minutes")


def _cards() -> Callable[..., None]:
    """Return the command for `jobs/card_alerts.py`."""
    doc = """Land CSV lines of card payments, for jobs/card_alerts.py.

    The truth is each fraud among them: card, time, what. The job finds the last ones with --drain.
    """
    shares = ("late", "bad", "ahead")
    return _generator(
        "cards.csv", feeds.cards_rows, feeds.cards_truth, doc, line=feeds.csv_line, shares=shares
    )


def _share(text: str) -> Any:
    return _flag("SHARE", text, min=0, max=1)


def _flags(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the files.")],
    *,
    files: Annotated[int, _flag("N", "Number of files.", min=1)] = 20,
    rows: Annotated[int, _flag("N", "Lines in each file.", min=1)] = 100,
    every: Annotated[float, _flag("SECONDS", "Seconds from one file to the next.")] = 1.0,
    seed: Annotated[int, _flag("N", "The same seed gives the same files.")] = 0,
    late: Annotated[float, _share("Share of rows that come too late, such as 0.05.")] = 0.0,
    duplicates: Annotated[float, _share("Share of rows that come twice.")] = 0.0,
    bad: Annotated[float, _share("Share of rows that a line follows which is no row.")] = 0.0,
    ahead: Annotated[float, _share("Share of rows that one of the year 2099 follows.")] = 0.0,
    delay: Annotated[str, _flag("DURATION", "A late row comes later than this; the watermark's delay.")] = "",
) -> None:
    """Hold the flags of the generators' commands."""


def _land(
    files: Iterable[tuple[str, str]], folder: Path, every: float, stop: threading.Event | None = None
) -> list[Path]:
    stop = stop or threading.Event()
    with _stopped_by_signal(stop.set):
        return feeds.drip(files, folder, every=every, stop=stop, on_file=lambda path: _say(f"landed {path}"))


def _check_empty(folder: Path) -> None:
    """Refuse a folder with files in it, of which the truth would say nothing."""
    try:
        found = next(folder.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as err:
        raise InvalidInputError(f"cannot use {folder} ({err.strerror}); give a folder to write in") from err
    if found:
        raise InvalidInputError(
            f"{folder} holds {found.name} already, which {_TRUTH} would not count; give a new folder"
        )


def _replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header, or JSON lines.")],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for the files; created if missing.")
    ],
    *,
    time: Annotated[str, _flag("COLUMN", "The column of the time: epoch seconds or ISO 8601.")],
    speed: Annotated[float, _flag("N", "How many seconds of the file pass in a second.")] = 60.0,
    every: Annotated[float, _flag("SECONDS", "Seconds from one file to the next.")] = 1.0,
) -> None:
    """Replay a file by the clock of its rows. Small files land in a folder; Ctrl-C ends it.

    A row without a readable time, or out of order, comes right after the row before it.
    """
    logging.basicConfig(format="sparkstream: %(message)s")
    stop = threading.Event()
    _land(feeds.replay_files(file, time=time, speed=speed, every=every, stop=stop), folder, 0.0, stop)


def _lines(
    *,
    host: Annotated[str, _flag("ADDRESS", "Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, _flag("PORT", "Port to listen on; 0 takes a free one.")] = 9999,
    file: Annotated[Path | None, _flag("FILE", "Send the lines of this UTF-8 file.")] = None,
    seed: Annotated[
        int | None, _flag("N", "Send generated lines; the same seed gives the same lines.  [default: 0]")
    ] = None,
    count: Annotated[
        int | None,
        _flag(
            "N", "Lines to send to each client. Default: the whole file; generated lines never end.", min=1
        ),
    ] = None,
    rate: Annotated[
        float | None, _flag("LINES", "Lines a second for each client. Default: as fast as the client reads.")
    ] = None,
    clients: Annotated[
        int | None, _flag("N", "Stop after serving this many clients. Default: never.", min=1)
    ] = None,
) -> None:
    """Serve lines on a TCP socket. Each client gets all, whenever it connects; Ctrl-C ends it."""
    if file is not None and seed is not None:
        raise InvalidInputError("--file and --seed exclude each other; give one of them")
    lines = feeds.random_lines(seed or 0) if file is None else feeds.text_lines(file)
    server = feeds.LineServer(lambda: itertools.islice(lines, count), host=host, port=port, rate=rate)
    with server, _stopped_by_signal(server.close):
        _say(f"listening on {server.host} port {server.port}; stop with Ctrl-C")
        server.wait_served(clients)


def _sales(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for the files; created if missing.")
    ],
    *,
    files: Annotated[int | None, _flag("N", "Number of files. Default: no end.", min=1)] = None,
    rows: Annotated[int, _flag("N", "Rows in each file.")] = 100,
    seed: Annotated[int, _flag("N", "The same seed gives the same files.")] = 0,
    every: Annotated[float, _flag("SECONDS", "Seconds from one file to the next.")] = 1.0,
    truth: Annotated[Path | None, _flag("FILE", "Write the true totals here at the end, as CSV.")] = None,
) -> None:
    """Land CSV files of sales in a folder. One by one, each of them whole; Ctrl-C ends it."""
    if truth and truth.resolve().is_relative_to(folder.resolve()):
        raise InvalidInputError(f"--truth {truth} would be read as input in {folder}; put it elsewhere")
    check_truth(truth)
    landed = _land(feeds.sales_files(files, rows=rows, seed=seed), folder, every)
    if truth:
        write_totals(truth, feeds.sales_rows(len(landed) * rows, seed=seed))
