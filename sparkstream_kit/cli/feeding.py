"""The commands `sparkstream feed …`: input to try streams on, and posts of a server."""

from __future__ import annotations

import csv
import itertools
import logging
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sparkstream_kit import feeds
from sparkstream_kit._urls import is_url
from sparkstream_kit.cli.common import say, stopped_by_signal
from sparkstream_kit.cli.flags import flag, group
from sparkstream_kit.cli.generating import COMMANDS, land
from sparkstream_kit.connectors.posts.defaults import EVERY, STALL, TOKEN
from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["feed"]

_POSTS_OF_URL = "posts URL"


class _Feed(TyperGroup):
    """A group in which `posts FOLDER` and `posts URL FOLDER` are two commands, each with its own flags."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        places = list(itertools.takewhile(lambda word: not word.startswith("-"), rest))
        if name == "posts" and (len(places) > 1 or any(map(is_url, rest))):
            command = self.commands[_POSTS_OF_URL]
        return name, command, rest


feed = group("Make input for a stream.", cls=_Feed)

_Truth = Annotated[Path | None, flag("FILE", "Write the true totals here at the end, as CSV.")]


@feed.command("lines")
def _lines(
    *,
    host: Annotated[str, flag("ADDRESS", "Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, flag("PORT", "Port to listen on; 0 takes a free one.")] = 9999,
    file: Annotated[Path | None, flag("FILE", "Send the lines of this UTF-8 file.")] = None,
    seed: Annotated[
        int | None, flag("N", "Send generated lines; the same seed gives the same lines.  [default: 0]")
    ] = None,
    count: Annotated[
        int | None,
        flag("N", "Lines to send to each client. Default: the whole file; generated lines never end.", min=1),
    ] = None,
    rate: Annotated[
        float | None, flag("LINES", "Lines a second for each client. Default: as fast as the client reads.")
    ] = None,
    clients: Annotated[
        int | None, flag("N", "Stop after serving this many clients. Default: never.", min=1)
    ] = None,
) -> None:
    """Serve lines on a TCP socket. Each client gets all, whenever it connects; Ctrl-C ends it."""
    if file is not None and seed is not None:
        raise InvalidInputError("--file and --seed exclude each other; give one of them")
    lines = feeds.random_lines(seed or 0) if file is None else feeds.text_lines(file)
    server = feeds.LineServer(lambda: itertools.islice(lines, count), host=host, port=port, rate=rate)
    with server, stopped_by_signal(server.close):
        say(f"listening on {server.host} port {server.port}; stop with Ctrl-C")
        server.wait_served(clients)


@feed.command("sales")
def _sales(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for the files; created if missing.")
    ],
    *,
    files: Annotated[int | None, flag("N", "Number of files. Default: no end.", min=1)] = None,
    rows: Annotated[int, flag("N", "Rows in each file.")] = 100,
    seed: Annotated[int, flag("N", "The same seed gives the same files.")] = 0,
    every: Annotated[float, flag("SECONDS", "Seconds from one file to the next.")] = 1.0,
    truth: _Truth = None,
) -> None:
    """Land CSV files of sales in a folder. One by one, each of them whole; Ctrl-C ends it."""
    if truth and truth.resolve().is_relative_to(folder.resolve()):
        raise InvalidInputError(f"--truth {truth} would be read as input in {folder}; put it elsewhere")
    _check_truth(truth)
    landed = land(feeds.sales_files(files, rows=rows, seed=seed), folder, every)
    if truth:
        _write_totals(truth, feeds.sales_rows(len(landed) * rows, seed=seed))


@feed.command("replay")
def _replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header, or JSON lines.")],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for the files; created if missing.")
    ],
    *,
    time: Annotated[str, flag("COLUMN", "The column of the time.")],
    time_format: Annotated[
        str | None,
        flag(
            "FORMAT", "How times are written, such as '%m/%d/%Y %H:%M'. Default: epoch seconds or ISO 8601."
        ),
    ] = None,
    speed: Annotated[float, flag("N", "How many seconds of the file pass in a second.")] = 60.0,
    every: Annotated[float, flag("SECONDS", "Seconds from one file to the next.")] = 1.0,
) -> None:
    """Replay a file by the clock of its rows. Small files land in a folder; Ctrl-C ends it.

    A row without a readable time, or out of order, comes right after the row before it.
    """
    logging.basicConfig(format="sparkstream: %(message)s")
    stop = threading.Event()
    how = {"time": time, "time_format": time_format, "speed": speed, "every": every}
    land(feeds.replay_files(file, **how, stop=stop), folder, 0.0, stop)  # type: ignore[arg-type]


@feed.command("kinesis")
def _kinesis(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream to write to.")],
    *,
    rows: Annotated[int | None, flag("N", "Number of records. Default: no end.", min=1)] = None,
    rate: Annotated[
        float | None, flag("N", "Records a second. Default: as many as the stream takes.", min=0.1)
    ] = None,
    seed: Annotated[int, flag("N", "The same seed gives the same records.")] = 0,
    create: Annotated[
        int | None, flag("SHARDS", "If the stream is not there, make it with this number of shards.", min=1)
    ] = None,
    truth: _Truth = None,
    region: Annotated[str | None, flag("NAME", "The stream's region. Default: AWS_DEFAULT_REGION.")] = None,
    endpoint: Annotated[
        str | None, flag("URL", "Address of another service, such as http://localhost:4567.")
    ] = None,
) -> None:
    """Write sales to a Kinesis stream. Each record is a CSV line; Ctrl-C ends it.

    A sale's product is its partition key. boto3 finds the credentials, as in AWS's own commands.
    """
    from sparkstream_kit.connectors.kinesis import feeder

    _check_truth(truth)
    if create and feeder.create(stream, create, region=region, endpoint=endpoint):
        say(f"made stream {stream}")
    stop = threading.Event()
    records = ((row[9], feeds.csv_line(row)) for row in feeds.sales_rows(rows, seed=seed))
    taken = feeder.put(stream, records, region=region, endpoint=endpoint, rate=rate, stop=stop)
    written = 0
    failure: KitError | None = None

    def taken_rows() -> Iterator[tuple[str, ...]]:
        nonlocal written, failure
        try:
            for line in taken:
                written += 1
                yield tuple(next(csv.reader([line])))
        except KitError as err:  # for the end: what was written counts
            failure = err

    with stopped_by_signal(stop.set):
        if truth:
            _write_totals(truth, taken_rows())
        else:
            deque(taken_rows(), maxlen=0)
    unanswered = failure is not None and not isinstance(failure, InvalidInputError)
    more = ", and perhaps some of the last request, which was not answered" if unanswered else ""
    say(f"wrote {written:,} records to stream {stream}{more}")
    if failure is not None:
        raise failure


def _check_truth(truth: Path | None) -> None:
    """Refuse a file for the totals that cannot be written: now, and not after the last row."""
    try:
        if truth:
            truth.open("a").close()
    except OSError as err:
        raise InvalidInputError(f"cannot write --truth {truth} ({err.strerror}); give another file") from err


def _write_totals(truth: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Write the true totals of sales as CSV."""
    totals = feeds.sales_totals(rows)
    with truth.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([("ProductKey", "Orders", "TotalSales"), *totals])


for _name, _command in COMMANDS.items():
    feed.command(_name)(_command)


@feed.command(_POSTS_OF_URL, hidden=True)
def _posts_of_url(
    url: Annotated[str, typer.Argument(metavar="URL", help="The stream.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The spool.")],
    *,
    token_env: Annotated[str, flag("NAME", "The environment variable that holds the bearer token.")] = TOKEN,
    timeline: Annotated[
        str | None, flag("URL", "Where missed posts are asked for by min_id. Default: known for Mastodon.")
    ] = None,
    stall: Annotated[float, flag("SECONDS", "Connect anew when nothing has come for this long.")] = STALL,
    every: Annotated[float, flag("SECONDS", "Seconds from one file to the next.")] = EVERY,
) -> None:
    """Land the posts of a stream, each once, as whole files in a folder, the spool; Ctrl-C ends it.

    The URL is that of X's filtered or sampled stream, of a stream of Mastodon's, or of a server like these.
    What is missed while there is no connection is fetched afterwards where the server can send it, and
    counted where not.
    """
    from sparkstream_kit.connectors.posts.address import Token
    from sparkstream_kit.connectors.posts.feeder import Feeder

    stop, token = threading.Event(), Token.from_environment(token_env)
    with stopped_by_signal(stop.set):
        feeder = Feeder(url, folder, token=token, timeline=timeline, every=every, stall=stall, say=say)
        say(f"feeding {folder} with the posts of {url}; stop with Ctrl-C")
        say(feeder.run(stop))
