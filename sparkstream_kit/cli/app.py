"""The command `sparkstream`, a thin layer over the kit's modules.

The work is done by the modules for feeds, checkpoints, settings, schemas, a server and
others.

Results go to standard output, all other messages to standard error. Only `schema`,
`serve` and `warm` start Spark. The docstring of a function decorated as a command is
its help text, unless the decorator has a longer one (`help=`).
"""

from __future__ import annotations

import shlex
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from sparkstream_kit import checkpoints
from sparkstream_kit import server as serving
from sparkstream_kit._internal.file_system import cache_folder
from sparkstream_kit.cli import common, doctor, projects
from sparkstream_kit.cli.archive import warm
from sparkstream_kit.cli.common import (
    Json,
    argument,
    flag,
    group,
    say,
    show,
    show_json,
    switch,
)
from sparkstream_kit.cli.contracts import contract
from sparkstream_kit.cli.feeding import feed
from sparkstream_kit.cli.schema import SCHEMA, schema
from sparkstream_kit.connectors import _packages
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.profiles import submit_properties

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparkstream_kit.monitoring.board import Board

_CHECKPOINT = "A checkpoint on a local path."
_Folder = Annotated[str, argument("DIR", _CHECKPOINT)]
_NAMES = "Connectors with commas between them, such as kafka,delta."

# In which a new user needs the commands.
_ORDER = "doctor new feed schema contract windows conf connectors warm serve watch checkpoint"


class _InOrder(TyperGroup):
    """Lists the commands in the order of `_ORDER`; typer would put groups last."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return sorted(self.commands, key=_ORDER.index)


app = group(
    "Tools for Spark streams, in the order of their use.", completion=True, cls=_InOrder
)
app.add_typer(feed, name="feed")
app.add_typer(contract, name="contract")
app.command("schema", help=SCHEMA)(schema)
_checkpoint = group("Look into a checkpoint, copy it, or rewind it.")
app.add_typer(_checkpoint, name="checkpoint")
_windows = group("Explain event time: draw the windows of a row.")
app.add_typer(_windows, name="windows")
_serve = group(
    "Keep a warm Spark in the background. What attaches to it starts in one to three"
    " seconds."
)
app.add_typer(_serve, name="serve")


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    *,
    version: Annotated[bool, switch("--version", "Print the version.")] = False,
) -> None:
    if version:
        typer.echo(
            f"sparkstream {doctor.version_of('sparkstream-kit') or 'of a checkout'}"
        )
        raise typer.Exit
    common.help_if_bare(context)


@app.command(
    "new",
    help="Make a folder with a job of your own. It copies one of the kit's, its test,"
    " sample data, a README.",
)
def _new(
    name: Annotated[
        str, argument("NAME", "The folder to make, and the job's name: such as my-job.")
    ],
    *,
    like: Annotated[
        str, flag("JOB", f"What to copy: {', '.join(projects.LIKE)}.")
    ] = projects.DEFAULT,
    pipeline: Annotated[
        bool, switch("--pipeline", "Make a pipeline of Spark, in place of a job.")
    ] = False,
) -> None:
    if pipeline and like != projects.DEFAULT:
        raise InvalidInputError(
            f"new: --like {like} copies a job, and --pipeline makes a pipeline; give one"
            " of the two"
        )
    if pipeline:
        made = projects.make_pipeline(name)
        what = "the pipeline, and its tests"
    else:
        made = projects.make(name, like.removesuffix(".py").replace("-", "_"))
        what = "the job, and its test"
    for file in made.files:
        show(f"{made.folder}/{file}")
    say(f"made {made.folder}{made.beside}; to run {what}:")
    for line in (f"cd {made.folder}", *made.commands):
        say(f"    {line}")


@app.command(
    "doctor",
    help="Check that this machine has what streams need. A line for each thing; exit"
    " code 1 if one is bad.",
)
def _doctor(
    folder: Annotated[
        str, argument("DIR", "Where input and checkpoints are. Default: this folder.")
    ] = ".",
    *,
    json: Json = False,
) -> int:
    if not Path(folder).is_dir():
        raise InvalidInputError(f"{folder} is no folder; give one that is there")
    found = []
    for each in doctor.examine(folder):
        found.append(each)
        if not json:
            show(each)
    if json:
        show_json(findings=found)
    return 1 if any(each.level == "bad" for each in found) else 0


@_windows.command("explain")
def _explain(
    *,
    length: Annotated[
        str, flag("DURATION", 'Length of the windows, such as "1 hour".')
    ],
    slide: Annotated[
        str | None, flag("DURATION", "From one start to the next. Default: the length.")
    ] = None,
    watermark: Annotated[
        str | None, flag("DURATION", "How late rows may be. Default: no watermark.")
    ] = None,
    at: Annotated[
        str | None, flag("TIME", 'When the row happened: "2026-01-14 12:47:30", UTC.')
    ] = None,
    offset: Annotated[
        str | None, flag("DURATION", "From 1970-01-01 00:00 UTC to a window's start.")
    ] = None,
) -> None:
    """Draw the windows of a row. Says when each closes, and when the row is too late for it.

    A DURATION is a number with its unit, such as "30 minutes", "1 hour 30 minutes" or
    "4 days".
    """
    from sparkstream_kit._internal import timeline

    typer.echo(timeline.explain(length, slide, watermark, at, offset))


@app.command(
    "conf",
    help="Write a profile for spark-submit, and print its path. PROFILE is local, test,"
    " cluster or a file.\n\n"
    'spark-submit --properties-file "$(sparkstream conf local)" jobs/x.py',
)
def _conf(
    profile: Annotated[str, argument("PROFILE", "A profile's name or path.")],
) -> None:
    try:
        written = submit_properties(profile, cache_folder())
    except OSError as err:
        raise InvalidInputError(
            f"cannot write the profile: {err}; set XDG_CACHE_HOME to a folder"
        ) from err
    typer.echo(written)


@app.command("connectors")
def _connectors(
    given: Annotated[list[str] | None, argument("NAMES", _NAMES)] = None,
    *,
    json: Json = False,
) -> None:
    """Print the flags that give spark-submit connectors. Without NAMES, list them all.

    spark-submit $(sparkstream connectors kafka) job.py
    """
    names = _split(",".join(given or []))
    spark = common.pyspark_version()
    known = _packages.connectors()
    reject_unknown("connector", names, known)
    found = {name: _packages.coordinates(known[name], spark) for name in names or known}
    if json:
        show_json(connectors=found)
    elif names:
        flags = {"spark.jars": "--jars", "spark.jars.packages": "--packages"}
        words: list[str] = []
        for key, value in _packages.needed(names, spark).items():
            if key in flags:
                words += [flags[key], value]
            else:
                words += ["--conf", f"{key}={value}"]
        typer.echo(shlex.join(words))
    else:
        for name, package in found.items():
            typer.echo(f"{name}\t{package or f'no package for Spark {spark}'}")


def _split(names: str) -> list[str]:
    """Return the names of connectors in a text with commas between them."""
    return [name for name in names.split(",") if name]


@app.command(
    "warm",
    help="Make Spark start faster on this machine. Keeps what Java loads of Spark in a"
    " file of 200 MB.",
)
def _warm() -> None:
    try:
        archive = warm(
            lambda: say("running a few small streams for Java to learn from")
        )
    except OSError as err:
        fix = (
            "give it room (outside of an environment, XDG_CACHE_HOME names another"
            " folder)"
        )
        raise InvalidInputError(f"cannot write the archive: {err}; {fix}") from err
    typer.echo(archive)


@_checkpoint.command(
    "show",
    help="Show what a checkpoint holds, and what a restart would run again. Its query"
    " may be running.",
)
def _show(folder: _Folder, *, json: Json = False) -> None:
    found = checkpoints.show(folder)
    if json:
        show_json(checkpoint=found)
    else:
        show(found)


@_checkpoint.command("find")
def _find(
    folder: _Folder,
    what: Annotated[
        str,
        argument(
            "WHAT",
            "A file, a record TOPIC:PARTITION:OFFSET, or a time 2026-01-14T09:00:00Z.",
        ),
    ],
    *,
    bad: Annotated[
        str | None,
        flag("FOLDER", "Also count the bad rows of the file in this folder."),
    ] = None,
    json: Json = False,
) -> int:
    """Say which batch has read a file or a record, or why none has. Exit code 1 if none has."""
    found = checkpoints.find(folder, what, bad=bad)
    if json:
        show_json(found=found)
    else:
        show(found)
    if found.batch is not None or found.committed:
        return 0
    return 1


@_checkpoint.command(
    "check",
    help="Report what is wrong with a checkpoint, one line for each problem. Exit code"
    " 1 if there is one.",
)
def _check(folder: _Folder, *, json: Json = False) -> int:
    problems = checkpoints.check(folder)
    if json:
        show_json(problems=problems)
    elif problems:
        show("\n".join(map(str, problems)))
    else:
        show(f"{folder}: no problem found")
    return 1 if problems else 0


@_checkpoint.command("clone")
def _clone(
    source: Annotated[str, argument("SRC", _CHECKPOINT)],
    target: Annotated[str, argument("DST", "Where the copy goes; must not exist.")],
    *,
    new_id: Annotated[
        bool, switch("--new-id", "Give the copy a new query id.")
    ] = False,
) -> None:
    """Copy a checkpoint that no query uses, whole or not at all."""
    copy = checkpoints.show(checkpoints.clone(source, target, new_id=new_id))
    show(f"copied to {copy.path}, query {copy.query_id}")
    if new_id:
        typer.echo(
            "Sinks take it for another query: give it a table or a folder of its own."
        )
    else:
        typer.echo(
            "Sinks take it for the same query, and know which batches they have: go on"
            " with"
        )
        typer.echo(
            "one of the two. To run both, each with sinks of its own: clone --new-id."
        )


@_checkpoint.command(
    "rewind",
    help="Go back to the end of batch N: what came after it runs again. Can be undone"
    " until the next start.",
)
def _rewind(
    folder: _Folder,
    *,
    to: Annotated[int, flag("N", "The batch that becomes the last committed one.")],
    apply: Annotated[
        bool, switch("--apply", "Do it. Without this, only show what would happen.")
    ] = False,
) -> None:
    found = checkpoints.rewind(folder, to=to, apply=apply)
    show(found)
    if found.moved and not apply:
        typer.echo("Run the command with --apply to do it.")


@_checkpoint.command(
    "untrim",
    help="Make a shortened log of read files whole again. Only plain Spark with a longer"
    " maxFileAge needs it.",
)
def _untrim(folder: _Folder) -> None:
    logs = checkpoints.untrim(folder)
    if logs:
        show(f"{logs} logs of files are whole again")
    else:
        show("the logs of files are whole")


_NOBODY = "no server runs on port {}"
_Port = Annotated[int, flag("PORT", "Port to listen on, on this machine only.")]


@_serve.command("start")
def _start(
    *,
    profile: Annotated[
        str, flag("NAME", "Settings profile: local, test, cluster or a path.")
    ] = "local",
    port: _Port = serving.PORT,
    connectors: Annotated[str, flag("NAMES", _NAMES)] = "",
) -> None:
    """Start a server, or find the one that runs. Prints how to attach to it.

    eval "$(sparkstream serve start)" sets SPARK_REMOTE. Jobs, notebooks and pytest then
    attach to it.
    """
    running = serving.status(port)
    server = serving.serve(port, profile, _split(connectors))
    stop = "sparkstream serve stop"
    if port != serving.PORT:
        stop += f" --port {port}"
    if running == server:
        say("a server runs already")
    else:
        say(f"started a server; {stop} ends it")
    _say_how_to_attach(server)


@_serve.command("stop")
def _stop(*, port: _Port = serving.PORT) -> None:
    """Stop the server and everything that runs on it."""
    if serving.stop(port):
        say(f"ended the server on port {port}; unset SPARK_REMOTE")
    else:
        say(_NOBODY.format(port))


@_serve.command("status")
def _status(*, port: _Port = serving.PORT) -> int:
    """Say whether a server runs. Prints how to attach to it; exit code 1 if none runs."""
    server = serving.status(port)
    if server is None:
        say(_NOBODY.format(port))
        return 1
    _say_how_to_attach(server)
    return 0


def _say_how_to_attach(server: serving.Server) -> None:
    about = (
        f"port {server.port}, profile {server.profile}, process {server.pid}, log"
        f" {server.log}"
    )
    say(f"{about}; to attach to it:")
    typer.echo(f"export SPARK_REMOTE={server.url}")


_LOOK_EVERY = 0.25  # seconds between two looks into a file that may have grown


@app.command("watch")
def _watch(
    path: Annotated[str, argument("FILE", "The file of a job's --record.")],
) -> None:
    """Show a recorded run in the terminal. A run that has not ended is followed, until Ctrl-C."""
    from sparkstream_kit.monitoring import terminal
    from sparkstream_kit.monitoring.board import Board, follow

    board = Board()
    stop = threading.Event()
    board.live = False
    try:
        with Path(path).open(encoding="utf-8", errors="replace", newline="\n") as file:
            # Reject a file that is no recording before a picture is drawn.
            follow([file.readline()], Board())
            file.seek(0)
            with common.stopped_by_signal(stop.set), terminal.shown(board, sys.stdout):
                follow(_growing(file, board, stop), board)
    except OSError as err:
        raise InvalidInputError(
            f"cannot read {path} ({err.strerror}); give what --record wrote"
        ) from err
    except InvalidInputError as err:
        raise InvalidInputError(f"{path}: {err}") from err


def _growing(file: TextIO, board: Board, stop: threading.Event) -> Iterator[str]:
    """Yield the complete lines of a growing file, until the run ends or `stop` is set.

    When the end of the file is reached for the first time, the board becomes live, and
    views draw it.
    """
    line = ""
    while not stop.is_set():
        line += file.readline()
        if line.endswith("\n"):
            yield line
            line = ""
        else:
            board.live = True
            if board.ended:
                return
            stop.wait(_LOOK_EVERY)
