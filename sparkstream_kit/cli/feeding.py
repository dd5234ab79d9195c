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
        how = {
            "late": late,
            "duplicates": duplicates,
            "bad": bad,
            "ahead": ahead,
            "delay": delay,
        }
        generated = dataset.rows(files * rows, seed=seed)
        made = feeds.disturb(
            generated,
            time=dataset.time,
            rows_per_file=rows,
            seed=seed,
            **how,  # type: ignore[arg-type]
        )
        arriving = map(dataset.line, made.first(files * rows).arriving)
        name = dataset.file.replace(".", f"-{seed}-{{}}.")
        landed = land(feeds.line_files(arriving, rows=rows, name=name), folder, every)
        if truth:
            found = made.first(len(landed) * rows)
            counted = found.counted + (found.late if dataset.keeps_late else [])
            answer = {"truth": dataset.truth(counted), "counted": len(counted)}
            _write_truth(
                truth,
                answer | {share: getattr(found, share) for share in dataset.shares},
            )

    left_out = {"late", "duplicates", "bad", "ahead"} - {*dataset.shares}
    if "late" in left_out:
        left_out.add("delay")
    flags = inspect.signature(command, eval_str=True)
    kept = [each for each in flags.parameters.values() if each.name not in left_out]
    command.__signature__ = flags.replace(parameters=kept)  # type: ignore[attr-defined]
    # The help begins with the description of the rows, the first line of the
    # generator's docstring.
    what = (inspect.getdoc(dataset.rows) or "").partition("\n")[0].removeprefix("Make ")
    command.__doc__ = f"Land {what} --truth writes what a job must find in them."
    return command


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
        places = list(itertools.takewhile(lambda word: not word.startswith("-"), rest))
        if name == "posts" and (len(places) > 1 or any(map(is_url, rest))):
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
    lines = feeds.random_lines(seed or 0) if file is None else feeds.text_lines(file)
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


for _name, _dataset in DATASETS.items():
    feed.command(_name, epilog=_OF_URL if _name == "posts" else None)(
        _generator(_dataset)
    )


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
