"""The command `sparkstream`, a thin face on the modules: feeds, checkpoints, settings, schemas, a server.

Results go to standard output, all else to standard error. Only `schema`, `serve` and `warm` start Spark, and
`checkpoint show` and `check` on another file system.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sparkstream_kit import _explained, _packages, checkpoints
from sparkstream_kit import server as serving
from sparkstream_kit._files import cache_folder, pyspark_version
from sparkstream_kit.cli import doctor, projects
from sparkstream_kit.cli.common import flag as _flag
from sparkstream_kit.cli.common import say as _say
from sparkstream_kit.cli.feeding import add_feeds
from sparkstream_kit.cli.warm import warm
from sparkstream_kit.cli.watching import watch
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    MissingExtraError,
    reject_unknown,
)
from sparkstream_kit.profiles import submit_properties

try:
    import typer
except ImportError:  # main() says what to install
    typer = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]
_CHECKPOINT = "A checkpoint on a local path."
_ANY_CHECKPOINT = "A checkpoint. From another file system, such as hdfs://, Spark brings it."
_FORMATS = ("csv", "json", "orc", "parquet")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if it ended as asked, 2 for wrong arguments or input, 130 if interrupted.

    Example:
        >>> main(["feed", "lines", "--count", "-1"])
        2
    """
    try:
        return int(_app()(argv, prog_name="sparkstream", standalone_mode=False) or 0)
    except KitError as err:
        error = err
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as err:
        if not hasattr(err, "format_message"):  # a usage error: by typer's version, its own class or click's
            raise
        error = InvalidInputError(f"{' '.join(err.format_message().split()).rstrip('.')}; see --help")
    _say(error)
    return error.exit_code


def _app() -> Any:
    if typer is None:
        raise MissingExtraError("sparkstream", "cli")
    plain: Any = {
        "add_completion": False,
        "pretty_exceptions_enable": False,
        "rich_markup_mode": None,
        "context_settings": {"help_option_names": ["-h", "--help"]},
    }
    app = typer.Typer(
        **plain,
        help="Tools for Spark streams: input, runs, checkpoints, windows, settings, schemas, a warm server.",
    )
    app.callback(invoke_without_command=True)(_options)
    feed = typer.Typer(**plain, help="Make input for a stream.")
    feed.callback(invoke_without_command=True)(_help)
    add_feeds(feed)
    app.add_typer(feed, name="feed")
    checkpoint = typer.Typer(**plain, help="Look into a checkpoint, copy it, or go back to an earlier batch.")
    checkpoint.callback(invoke_without_command=True)(_help)
    checkpoint.command("show")(_show)
    checkpoint.command("check")(_check)
    checkpoint.command("clone")(_clone)
    checkpoint.command("rewind")(_rewind)
    app.add_typer(checkpoint, name="checkpoint")
    windows = typer.Typer(**plain, help="Event time, explained.")
    windows.callback(invoke_without_command=True)(_help)
    windows.command("explain")(_explain)
    app.add_typer(windows, name="windows")
    app.command("new")(_new)
    app.command("doctor")(_doctor)
    app.command("conf")(_conf)
    app.command("connectors")(_connectors)
    app.command("schema")(_schema)
    app.command("serve")(_serve)
    app.command("warm")(_warm)
    app.command("watch")(watch)
    return typer.main.get_command(app)


def _options(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        found = importlib.metadata.distributions(name="sparkstream-kit")
        typer.echo(f"sparkstream {next((kit.version for kit in found), 'of a checkout')}")
        raise typer.Exit
    _help(context)


def _help(context: typer.Context) -> None:
    """Print the help where a command is missing, as an error: a script that calls it so is wrong."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The folder to make, and the job's name: such as my-job.")
    ],
    *,
    like: Annotated[
        str, _flag("JOB", f"The job to begin with: {', '.join(projects.LIKE)}.")
    ] = projects.DEFAULT,
) -> None:
    """Make a folder with a job of your own: a copy of one of the kit's, its test, sample data, a README."""
    made = projects.make(name, like.removesuffix(".py").replace("-", "_"))
    for file in made.files:
        typer.echo(f"{made.folder}/{file}")
    _say(f"made {made.folder}; to run the job, and its test:")
    for line in (f"cd {made.folder}", *made.commands):
        _say(f"    {line}")


def _doctor() -> int:
    """Look at what streams need of this machine. A line for each thing; exit code 1 if one is bad."""
    found = []
    for each in doctor.examine():
        typer.echo(each)
        found.append(each.level)
    return 1 if "bad" in found else 0


def _explain(
    *,
    length: Annotated[str, _flag("DURATION", 'Length of the windows, such as "1 hour".')],
    slide: Annotated[
        str | None, _flag("DURATION", "From one window's start to the next one's. Default: the length.")
    ] = None,
    watermark: Annotated[
        str | None, _flag("DURATION", 'How late rows may be, such as "10 minutes". Default: no watermark.')
    ] = None,
    at: Annotated[
        str | None, _flag("TIME", 'When the row happened, in UTC: 12:47 or "2026-01-14 12:47:30".')
    ] = None,
    offset: Annotated[
        str | None, _flag("DURATION", "Moves the windows' starts off 1970-01-01 00:00 UTC.")
    ] = None,
) -> None:
    """Draw the windows of a row. Says when each closes, and when the row is too late for it."""
    typer.echo(_explained.explain(length, slide, watermark, at, offset))


def _conf(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's name or path.")],
) -> None:
    """Write a profile for spark-submit, and print its path. PROFILE is local, test, cluster or a file.

    spark-submit --properties-file "$(sparkstream conf local)" jobs/x.py
    """
    try:
        typer.echo(submit_properties(profile, cache_folder()))
    except OSError as err:
        raise InvalidInputError(f"cannot write the profile: {err}; set XDG_CACHE_HOME to a folder") from err


def _connectors(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="Such as kafka.")] = None,
) -> None:
    """Print the flags by which spark-submit gives Spark some connectors. Without a NAME, list them all.

    spark-submit $(sparkstream connectors kafka) job.py
    """
    spark = pyspark_version()
    if names:
        typer.echo(shlex.join(_packages.arguments(names, spark)))
        return
    for name, known in _packages.CONNECTORS.items():
        typer.echo(f"{name}\t{known.of(spark) or f'no package for Spark {spark}'}")


def _warm() -> None:
    """Make Spark start faster on this machine. Keeps what Java loads of Spark in an archive of 160 MB."""
    _say("running a few small streams for Java to learn from")
    try:
        typer.echo(warm())
    except OSError as err:
        raise InvalidInputError(
            f"cannot write the archive: {err}; give it room (outside of an environment, XDG_CACHE_HOME names "
            "another folder)"
        ) from err


def _schema(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Sample files: a file, a folder or a glob.")],
    *,
    format: Annotated[str, _flag("NAME", f"What the files are: {', '.join(_FORMATS)}.")] = "csv",  # noqa: A002
    header: Annotated[bool, typer.Option("--header", help="CSV files begin with column names.")] = False,
) -> None:
    """Print the schema of sample files, as Python code. Spark infers it; money is yours to make decimal."""
    reject_unknown("--format", [format], _FORMATS)
    if not re.search(r"://|[*?\[{]", path) and not Path(path).exists():
        raise InvalidInputError(f"{path} does not exist; give the path of a file, a folder or a glob")
    from sparkstream_kit import schemas, spark_session

    with spark_session("sparkstream schema", profile="local") as spark:
        typer.echo(schemas.to_code(schemas.infer(spark, path, format=format, header=header)), nl=False)


def _show(folder: Annotated[str, typer.Argument(metavar="DIR", help=_ANY_CHECKPOINT)]) -> None:
    """Show what a checkpoint holds, and what a restart would run again. Its query may be running."""
    typer.echo(checkpoints.show(folder))


def _check(folder: Annotated[str, typer.Argument(metavar="DIR", help=_ANY_CHECKPOINT)]) -> int:
    """Report what is wrong with a checkpoint, one line for each problem. Exit code 1 if there is one."""
    problems = checkpoints.check(folder)
    typer.echo("\n".join(map(str, problems)) or f"{folder}: no problem found")
    return 1 if problems else 0


def _clone(
    source: Annotated[str, typer.Argument(metavar="SRC", help=_CHECKPOINT)],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where the copy goes; must not exist.")],
    *,
    new_id: Annotated[bool, typer.Option("--new-id", help="Give the copy a new query id.")] = False,
) -> None:
    """Copy a checkpoint that no query uses, whole or not at all."""
    copy = checkpoints.show(checkpoints.clone(source, target, new_id=new_id))
    typer.echo(f"copied to {copy.path}, query {copy.query_id}")
    if new_id:
        typer.echo("Sinks take it for another query: give it a table or a folder of its own.")
    else:
        typer.echo("Sinks take it for the same query, and know which batches they have: go on with")
        typer.echo("one of the two. To run both, each with sinks of its own: clone --new-id.")


def _rewind(
    folder: Annotated[str, typer.Argument(metavar="DIR", help=_CHECKPOINT)],
    *,
    to: Annotated[int, _flag("N", "The batch that becomes the last committed one.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it. Without this flag, only show what would happen.")
    ] = False,
) -> None:
    """Go back to the end of batch N: what came after it runs again. Can be undone until the next start."""
    found = checkpoints.rewind(folder, to=to, apply=apply)
    typer.echo(found)
    if found.moved and not apply:
        typer.echo("Run the command with --apply to do it.")


def _serve(
    *,
    profile: Annotated[str, _flag("NAME", "Settings profile: local, test, cluster or a path.")] = "local",
    port: Annotated[int, _flag("PORT", "Port to listen on, on this machine only.")] = serving.PORT,
    connectors: Annotated[
        str, _flag("NAMES", "What Spark shall know beside its own systems, such as kafka,delta.")
    ] = "",
    status: Annotated[
        bool, typer.Option("--status", help="Only report whether a server runs; exit code 1 if not.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop the server and everything that runs on it.")
    ] = False,
) -> int:
    """Keep a warm Spark in the background. What attaches to it, by Spark Connect, starts in a second.

    eval "$(sparkstream serve)" sets SPARK_REMOTE, by which jobs, notebooks and pytest attach to it.
    """
    if stop and status:
        raise InvalidInputError("--stop and --status exclude each other; give one of them")
    if stop or status:
        server = serving.stop(port) if stop else serving.status(port)
        if server is None:
            _say(f"no server runs on port {port}")
            return 0 if stop else 1
        if stop:
            _say(f"ended the server on port {port}; unset SPARK_REMOTE")
            return 0
    else:
        running = serving.status(port)
        server = serving.serve(port, profile, [name for name in connectors.split(",") if name])
        _say("a server runs already" if running == server else "started a server; --stop ends it")
    _say(f"port {port}, profile {server.profile}, process {server.pid}, log {server.log}; to attach to it:")
    typer.echo(f"export SPARK_REMOTE={server.url}")
    return 0
