"""The commands `sparkstream feed …`: generated rows with the true answer beside them, posts of a server."""

from __future__ import annotations

import csv
import inspect
import itertools
import json
import logging
import threading
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sparkstream_kit import _files, feeds
from sparkstream_kit._files import check_writable
from sparkstream_kit.cli.common import flag, group, say, stopped_by_signal
from sparkstream_kit.connectors.posts.wire import EVERY, STALL, TOKEN
from sparkstream_kit.errors import InvalidInputError, KitError, is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


_TRUTH = "_truth.json"  # Spark skips a name that begins with _
_SHARES = ("late", "duplicates", "bad", "ahead")
_NO_DUPLICATES = ("late", "bad", "ahead")


def land(
    files: Iterable[tuple[str, str]], folder: Path, every: float, stop: threading.Event | None = None
) -> list[Path]:
    """Land files in a folder until a signal comes, and say which."""
    stop = stop or threading.Event()
    with stopped_by_signal(stop.set):
        return feeds.drip(files, folder, every=every, stop=stop, on_file=lambda path: say(f"landed {path}"))


def _share(text: str) -> Any:
    return flag("SHARE", text, min=0, max=1)


def _generator(
    file: str,
    generate: Callable[..., Iterable[dict[str, Any]]],
    truth: Callable[[list[dict[str, Any]]], object],
    doc: str,
    *,
    time: str = "time",
    line: Callable[[Any], str] = feeds.json_line,
    shares: Sequence[str] = _SHARES,
    usual_delay: str = "10 minutes",
    keeps_late: bool = False,
) -> Callable[..., None]:
    """Return the command that lands files of a generator's rows, and writes the truth beside them at the end.

    Args:
        file: names the files, such as `cards.csv` for `cards-0-1.csv`, with the seed and their number.
        generate: the generator, called as `generate(count, seed=seed)`.
        truth: what a job should find, from the rows that count; what `json` cannot write becomes text.
        doc: the command's help, whose first sentence says what it lands.
        time: the field of the time, for `feeds.disturb`.
        line: writes a row as a line: `feeds.json_line`, `feeds.csv_line` or one of the generator's own.
        shares: which ways to disturb make sense for the data; the command has no flags for the others.
        usual_delay: the watermark's delay that the job has by default.
        keeps_late: the job counts late rows, too, so that the truth does.
    """

    def command(
        folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the files.")],
        *,
        files: Annotated[int, flag("N", "Number of files.", min=1)] = 20,
        rows: Annotated[int, flag("N", "Lines in each file.", min=1)] = 100,
        every: Annotated[float, flag("SECONDS", "Seconds from one file to the next.")] = 1.0,
        seed: Annotated[int, flag("N", "The same seed gives the same files.")] = 0,
        late: Annotated[float, _share("Share of rows that come too late, such as 0.05.")] = 0.0,
        duplicates: Annotated[float, _share("Share of rows that come twice.")] = 0.0,
        bad: Annotated[float, _share("Share of rows that are followed by a broken line.")] = 0.0,
        ahead: Annotated[float, _share("Share of rows that are followed by one of the year 2099.")] = 0.0,
        delay: Annotated[
            str, flag("DURATION", "The watermark's delay: a late row comes later than this.")
        ] = usual_delay,
    ) -> None:
        _check_empty(folder)
        how = {"late": late, "duplicates": duplicates, "bad": bad, "ahead": ahead, "delay": delay}
        generated = generate(files * rows, seed=seed)
        made = feeds.disturb(generated, time=time, rows_per_file=rows, seed=seed, **how)  # type: ignore[arg-type]
        arriving = made.first(files * rows).arriving
        name = file.replace(".", f"-{seed}-{{}}.")
        landed = land(feeds.line_files(map(line, arriving), rows=rows, name=name), folder, every)
        found = made.first(len(landed) * rows)
        counted = found.counted + (found.late if keeps_late else [])
        answer = {"truth": truth(counted), "counted": len(counted)}
        answer |= {share: getattr(found, share) for share in shares}
        text = json.dumps(answer, ensure_ascii=False, default=str, indent=1)
        _files.replace(folder / _TRUTH, [text, "\n"])

    left_out = {*_SHARES} - {*shares}
    if "late" not in shares:
        left_out.add("delay")
    flags = inspect.signature(command, eval_str=True)
    kept = [each for each in flags.parameters.values() if each.name not in left_out]
    command.__signature__ = flags.replace(parameters=kept)  # type: ignore[attr-defined]
    command.__doc__ = doc
    return command


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


# By the command's name.
COMMANDS = {
    "events": _generator(
        "events.csv",
        feeds.events_rows,
        feeds.events_truth,
        "Land CSV files of a shop's events.",
        line=feeds.csv_line,
        keeps_late=True,
    ),
    "posts": _generator(
        "posts.json",
        feeds.posts_rows,
        feeds.posts_truth,
        """Land generated posts, or with a URL the posts of that stream.

        Generated ones are JSON lines in the shapes of two networks. With a URL there are other flags:
        sparkstream feed posts URL --help.
        """,
        time="created_at",
        line=feeds.posts_line,
    ),
    "ads": _generator(
        "ads.json",
        feeds.ads_rows,
        lambda rows: feeds.ads_truth(rows, within=timedelta(minutes=10)),
        """Land JSON lines of views of ads and clicks. For jobs/ad_join.py.

        Three views in ten are clicked, and four in five of these clicks come within 10 minutes, which the
        truth counts: a list of ad, time of the view, and time of the click or null.
        """,
        time="event_time",
        shares=_NO_DUPLICATES,
    ),
    "cards": _generator(
        "cards.csv",
        feeds.cards_rows,
        feeds.cards_truth,
        """Land CSV lines of card payments. For jobs/card_alerts.py.

        The truth is each fraud among them: card, time, what. The job finds the last ones with --drain.
        """,
        line=feeds.csv_line,
        shares=_NO_DUPLICATES,
    ),
    "messages": _generator(
        "messages.json",
        feeds.messages_rows,
        feeds.messages_truth,
        """Land JSON lines of texts labelled ham or spam. For jobs/score_posts.py.

        The truth is the likelier label of each text by the odds that made it, which no model can better.
        """,
        shares=("bad",),
    ),
    "sensors": _generator(
        "sensors.json",
        feeds.sensors_rows,
        lambda rows: feeds.sensors_truth(rows, delay=timedelta(minutes=2)),
        """Land JSON lines of temperatures. For jobs/sensor_alerts.py.

        The truth is each spike and each silence: device, time, what. It ends two minutes before the last
        reading, where the job's watermark stands.
        """,
        shares=_NO_DUPLICATES,
        usual_delay="2 minutes",
    ),
    "actions": _generator(
        "actions.json",
        feeds.actions_rows,
        feeds.actions_truth,
        "Land JSON lines of actions with their times. The truth is their count by hour and action.",
        shares=_NO_DUPLICATES,
    ),
    "logs": _generator(
        "access.log",
        feeds.log_rows,
        lambda rows: {"errors": feeds.log_errors(rows), "sessions": feeds.log_sessions(rows)},
        "Land lines of a web server's log. The truth: errors by path and minute, and sessions.",
        line=feeds.log_line,
        shares=("bad", "ahead"),
    ),
}


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
    if truth:
        check_writable("--truth", truth)
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
    from sparkstream_kit.connectors.kinesis import service

    if truth:
        check_writable("--truth", truth)
    if create and service.create(stream, create, region=region, endpoint=endpoint):
        say(f"made stream {stream}")
    stop = threading.Event()
    records = ((row[9], feeds.csv_line(row)) for row in feeds.sales_rows(rows, seed=seed))
    taken = service.put(stream, records, region=region, endpoint=endpoint, rate=rate, stop=stop)
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
    What is missed while there is no connection is fetched afterwards where the server can send it; where not,
    a line says so.
    """
    from sparkstream_kit.connectors.posts.source import Feeder
    from sparkstream_kit.connectors.posts.wire import Token

    stop, token = threading.Event(), Token.from_environment(token_env)
    with stopped_by_signal(stop.set):
        feeder = Feeder(url, folder, token=token, timeline=timeline, every=every, stall=stall, say=say)
        say(f"feeding {folder} with the posts of {url}; stop with Ctrl-C")
        say(feeder.run(stop))
