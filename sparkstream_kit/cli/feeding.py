"""The commands `sparkstream feed …`: generated rows whose true answer is known, posts of a server.

Each entry of `feeds.datasets.DATASETS` becomes one command, made by `_generator`. The
other commands serve lines, land sales files, replay a file, or land the posts of a
stream of X or Mastodon.
"""

from __future__ import annotations

import inspect
import itertools
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer.core import TyperGroup

from sparkstream_kit import feeds
from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.file_system import check_writable, is_url
from sparkstream_kit.cli.common import argument, flag, group, say, stopped_by_signal
from sparkstream_kit.connectors.posts.wire import EVERY, STALL, TOKEN
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.feeds.datasets import DATASETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sparkstream_kit.feeds.datasets import Dataset
    from sparkstream_kit.feeds.disturbing import Disturbed


_Truth = Annotated[
    Path | None, flag("FILE", "Write the true answer here at the end, as JSON.")
]


def land(files: Iterable[tuple[str, str]], folder: Path, every: float) -> list[Path]:
    """Land files in a folder until the last one or a signal.

    The path of each landed file is printed to standard error.

    Args:
        files: (name, text) pairs.
        folder: the folder to land the files in.
        every: seconds from one file to the next.

    Returns:
        The paths of the landed files.
    """
    stop = threading.Event()
    with stopped_by_signal(stop.set):
        return feeds.drip(
            files,
            folder,
            every=every,
            stop=stop,
            on_file=lambda path: say(f"landed {path}"),
        )


def _check_truth(truth: Path | None, folder: Path) -> None:
    """Refuse a file that cannot be written or would be input, before the first row."""
    if truth and truth.resolve().is_relative_to(folder.resolve()):
        raise InvalidInputError(
            f"--truth {truth} would be read as input in {folder}; put it elsewhere"
        )
    if truth:
        check_writable("--truth", truth)


def _write_truth(truth: Path, answer: dict[str, Any]) -> None:
    file_system.replace(
        truth, [json.dumps(answer, ensure_ascii=False, default=str, indent=1), "\n"]
    )


def _share(text: str) -> Any:
    """Declare a flag whose value is a share from 0 to 1."""
    return flag("SHARE", text, min=0, max=1)


def _generator(dataset: Dataset) -> Callable[..., None]:
    """Return the command that lands the files of a dataset, and writes the truth at the end.

    The command has only those flags of `disturb` that make sense for the dataset.
    """

    def command(
        folder: _Folder,
        *,
        files: Annotated[int, flag("N", "Number of files.", min=1)] = 20,
        rows: Annotated[int, flag("N", "Lines in each file.", min=1)] = 100,
        every: Annotated[
            float, flag("SECONDS", "Seconds from one file to the next.")
        ] = 1.0,
        seed: Annotated[int, flag("N", "The same seed gives the same files.")] = 0,
        late: Annotated[
            float, _share("Share of rows that come too late, such as 0.05.")
        ] = 0.0,
        duplicates: Annotated[float, _share("Share of rows that come twice.")] = 0.0,
        bad: Annotated[
            float, _share("Share of rows that are followed by a broken line.")
        ] = 0.0,
        ahead: Annotated[
            float, _share("Share of rows that are followed by one of the year 2099.")
        ] = 0.0,
        delay: Annotated[
            str,
            flag(
                "DURATION",
                'Delay of the watermark, such as "10 minutes"; late rows exceed it.',
            ),
        ] = dataset.delay,
        truth: _Truth = None,
    ) -> None:
        _check_truth(truth, folder)
        disturbed = feeds.disturb(
            dataset.rows(files * rows, seed=seed),
            time=dataset.time,
            rows_per_file=rows,
            seed=seed,
            late=late,
            duplicates=duplicates,
            bad=bad,
            ahead=ahead,
            delay=delay,
        )
        arriving = map(dataset.line, disturbed.first(files * rows).arriving)
        name = dataset.file.replace(".", f"-{seed}-{{}}.")
        landed = land(feeds.line_files(arriving, rows=rows, name=name), folder, every)
        if truth:
            _write_truth(truth, _answer(dataset, disturbed.first(len(landed) * rows)))

    command.__doc__ = _help_of(dataset)
    _leave_out_flags(command, dataset)
    return command


def _answer(dataset: Dataset, landed: Disturbed) -> dict[str, Any]:
    """Return what a job must find in the rows that have landed, for `--truth`."""
    counted = landed.counted
    if dataset.keeps_late:
        counted = counted + landed.late
    answer = {"truth": dataset.truth(counted), "counted": len(counted)}
    for share in dataset.shares:
        answer[share] = getattr(landed, share)
    return answer


def _help_of(dataset: Dataset) -> str:
    """Return the help of the command, from the first line of the generator's docstring.

    From "Make readings of sensors." it is "Land readings of sensors. --truth writes …".
    """
    first_line = (inspect.getdoc(dataset.rows) or "").partition("\n")[0]
    what = first_line.removeprefix("Make ")
    return f"Land {what} --truth writes what a job must find in them."


def _leave_out_flags(command: Callable[..., None], dataset: Dataset) -> None:
    """Hide flags that make no sense for a dataset from typer, which reads the signature."""
    left_out = {"late", "duplicates", "bad", "ahead"} - {*dataset.shares}
    if "late" in left_out:
        left_out.add("delay")
    signature = inspect.signature(command, eval_str=True)
    flags = [
        flag for flag in signature.parameters.values() if flag.name not in left_out
    ]
    command.__signature__ = signature.replace(parameters=flags)  # type: ignore[attr-defined]


_POSTS_OF_URL = "posts URL"
_OF_URL = (
    "With a URL, land the posts of that stream: sparkstream feed posts URL --help."
)


class _Feed(TyperGroup):
    """A group in which `posts` is two commands, with and without a URL.

    They are `posts URL FOLDER` and `posts FOLDER`, each with its own flags.
    """

    def resolve_command(
        self, ctx: Any, args: list[str]
    ) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        # The words before the first flag: FOLDER, or URL FOLDER
        places = list(itertools.takewhile(lambda word: not word.startswith("-"), rest))
        has_url = len(places) > 1 or any(map(is_url, rest))
        if name == "posts" and has_url:
            command = self.commands[_POSTS_OF_URL]
        return name, command, rest


feed = group("Make input for a stream.", cls=_Feed)

_Folder = Annotated[
    Path, argument("FOLDER", "Folder for the files; created if missing.")
]


@feed.command("lines")
def _lines(
    *,
    host: Annotated[str, flag("ADDRESS", "Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, flag("PORT", "Port to listen on; 0 takes a free one.")] = 9999,
    file: Annotated[
        Path | None, flag("FILE", "Send the lines of this UTF-8 file.")
    ] = None,
    seed: Annotated[
        int | None, flag("N", "Send generated lines, by this seed. Default: 0.")
    ] = None,
    count: Annotated[
        int | None, flag("N", "Lines for each client. Default: all there are.", min=1)
    ] = None,
    rate: Annotated[
        float | None,
        flag("LINES", "Lines a second for each client. Default: no limit."),
    ] = None,
    clients: Annotated[
        int | None, flag("N", "Stop after N clients. Default: never.", min=1)
    ] = None,
) -> None:
    """Serve lines on a TCP socket. Each client gets all, whenever it connects; Ctrl-C ends it."""
    if file is not None and seed is not None:
        raise InvalidInputError(
            "--file and --seed exclude each other; give one of them"
        )
    if file is None:
        lines = feeds.random_lines(seed or 0)
    else:
        lines = feeds.text_lines(file)
    server = feeds.LineServer(
        lambda: itertools.islice(lines, count), host=host, port=port, rate=rate
    )
    with server, stopped_by_signal(server.close):
        say(f"listening on {server.host} port {server.port}; stop with Ctrl-C")
        server.wait_served(clients)


@feed.command("sales")
def _sales(
    folder: _Folder,
    *,
    files: Annotated[
        int | None, flag("N", "Number of files. Default: no end.", min=1)
    ] = None,
    rows: Annotated[int, flag("N", "Rows in each file.")] = 100,
    seed: Annotated[int, flag("N", "The same seed gives the same files.")] = 0,
    every: Annotated[
        float, flag("SECONDS", "Seconds from one file to the next.")
    ] = 1.0,
    truth: _Truth = None,
) -> None:
    """Land CSV files of sales in a folder. One by one, each of them whole; Ctrl-C ends it."""
    _check_truth(truth, folder)
    landed = land(feeds.sales_files(files, rows=rows, seed=seed), folder, every)
    if truth:
        count = len(landed) * rows
        totals = feeds.sales_totals(feeds.sales_rows(count, seed=seed))
        _write_truth(truth, {"truth": totals, "counted": count})


@feed.command("replay")
def _replay(
    file: Annotated[
        Path,
        argument("FILE", "CSV with a header (.csv), or lines, such as JSON lines."),
    ],
    folder: _Folder,
    *,
    rows: Annotated[int, flag("N", "Rows in each file.")] = 100,
    every: Annotated[
        float, flag("SECONDS", "Seconds from one file to the next.")
    ] = 1.0,
) -> None:
    """Land the rows of a file as small files. Each has the header of a CSV; Ctrl-C ends it."""
    land(feeds.replay_files(file, rows=rows), folder, every)


_EPILOGS = {"posts": _OF_URL}
for _name, _dataset in DATASETS.items():
    feed.command(_name, epilog=_EPILOGS.get(_name))(_generator(_dataset))


@feed.command(_POSTS_OF_URL, hidden=True)
def _posts_of_url(
    url: Annotated[str, argument("URL", "The stream.")],
    folder: Annotated[Path, argument("FOLDER", "The spool.")],
    *,
    token_env: Annotated[
        str, flag("NAME", "The environment variable that holds the bearer token.")
    ] = TOKEN,
    timeline: Annotated[
        str | None,
        flag(
            "URL",
            "Where missed posts are asked for by min_id. Default: known for Mastodon.",
        ),
    ] = None,
    stall: Annotated[
        float, flag("SECONDS", "Seconds of silence after which to connect anew.")
    ] = STALL,
    every: Annotated[
        float, flag("SECONDS", "Seconds from one file to the next.")
    ] = EVERY,
) -> None:
    """Land the posts of a stream, each once, as whole files in a folder, the spool; Ctrl-C ends it.

    The URL is that of X's filtered or sampled stream, of a stream of Mastodon's, or of
    a server like these. What is missed while there is no connection is fetched
    afterwards where the server can send it; where not, a line says so.
    """
    from sparkstream_kit.connectors.posts.source import Feeder
    from sparkstream_kit.connectors.posts.wire import Token

    stop = threading.Event()
    token = Token.from_environment(token_env)
    with stopped_by_signal(stop.set):
        feeder = Feeder(
            url,
            folder,
            token=token,
            timeline=timeline,
            every=every,
            stall=stall,
            say=say,
        )
        say(f"feeding {folder} with the posts of {url}; stop with Ctrl-C")
        say(feeder.run(stop))
