"""The command `sparkstream`, a thin face on the modules: feeds, checkpoints, settings, schemas, a server.

Results go to standard output, all else to standard error. Only `schema`, `serve` and `warm` start Spark.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from sparkstream_kit import _explained, _packages, checkpoints
from sparkstream_kit import server as serving
from sparkstream_kit._files import cache_folder, plain, pyspark_version
from sparkstream_kit.cli import doctor, projects
from sparkstream_kit.cli.common import say, show
from sparkstream_kit.cli.feeding import feed
from sparkstream_kit.cli.flags import flag, group, help_if_bare
from sparkstream_kit.cli.warm import warm
from sparkstream_kit.cli.watching import watch
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.profiles import submit_properties

__all__ = ["app"]

_CHECKPOINT = "A checkpoint on a local path."
_FORMATS = ("csv", "json", "orc", "parquet")

app = group("Tools for Spark streams: input, runs, checkpoints, windows, settings, schemas, a warm server.")
app.add_typer(feed, name="feed")
_checkpoint = group("Look into a checkpoint, copy it, or rewind it.")
app.add_typer(_checkpoint, name="checkpoint")
_windows = group("Event time, explained.")
app.add_typer(_windows, name="windows")


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        found = importlib.metadata.distributions(name="sparkstream-kit")
        typer.echo(f"sparkstream {next((kit.version for kit in found), 'of a checkout')}")
        raise typer.Exit
    help_if_bare(context)


@app.command("new")
def _new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The folder to make, and the job's name: such as my-job.")
    ],
    *,
    like: Annotated[
        str, flag("JOB", f"The job to begin with: {', '.join(projects.LIKE)}.")
    ] = projects.DEFAULT,
) -> None:
    """Make a folder with a job of your own. It copies one of the kit's, its test, sample data, a README."""
    made = projects.make(name, like.removesuffix(".py").replace("-", "_"))
    for file in made.files:
        show(f"{made.folder}/{file}")
    say(f"made {made.folder}; to run the job, and its test:")
    for line in (f"cd {made.folder}", *made.commands):
        say(f"    {line}")


@app.command("doctor")
def _doctor() -> int:
    """Check that this machine has what streams need. A line for each thing; exit code 1 if one is bad."""
    found = []
    for each in doctor.examine():
        show(each)
        found.append(each.level)
    return 1 if "bad" in found else 0


@_windows.command("explain")
def _explain(
    *,
    length: Annotated[str, flag("DURATION", 'Length of the windows, such as "1 hour".')],
    slide: Annotated[
        str | None, flag("DURATION", "From one window's start to the next one's. Default: the length.")
    ] = None,
    watermark: Annotated[
        str | None, flag("DURATION", 'How late rows may be, such as "10 minutes". Default: no watermark.')
    ] = None,
    at: Annotated[
        str | None, flag("TIME", 'When the row happened, in UTC: 12:47 or "2026-01-14 12:47:30".')
    ] = None,
    offset: Annotated[
        str | None, flag("DURATION", "Moves the windows' starts off 1970-01-01 00:00 UTC.")
    ] = None,
) -> None:
    """Draw the windows of a row. Says when each closes, and when the row is too late for it."""
    typer.echo(_explained.explain(length, slide, watermark, at, offset))


@app.command("conf")
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


@app.command("connectors")
def _connectors(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="Such as kafka.")] = None,
) -> None:
    """Print the flags that give spark-submit connectors. Without a NAME, list them all.

    spark-submit $(sparkstream connectors kafka) job.py
    """
    spark = pyspark_version()
    if names:
        typer.echo(shlex.join(_packages.arguments(names, spark)))
        return
    for name, known in _packages.CONNECTORS.items():
        typer.echo(f"{name}\t{known.of(spark) or f'no package for Spark {spark}'}")


@app.command("warm")
def _warm() -> None:
    """Make Spark start faster on this machine. Keeps what Java loads of Spark in an archive of 160 MB."""
    say("running a few small streams for Java to learn from")
    try:
        typer.echo(warm())
    except OSError as err:
        raise InvalidInputError(
            f"cannot write the archive: {err}; give it room (outside of an environment, XDG_CACHE_HOME names "
            "another folder)"
        ) from err


@app.command("schema")
def _schema(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Sample files: a file, a folder or a glob.")],
    *,
    format: Annotated[  # noqa: A002
        str | None,
        flag(
            "NAME", f"What the files are: {', '.join(_FORMATS)}. Default: what the first of them looks like."
        ),
    ] = None,
    header: Annotated[bool, typer.Option("--header", help="CSV files begin with column names.")] = False,
) -> None:
    """Print the schema of sample files, as Python code. Spark infers double for money; make it decimal."""
    reject_unknown("--format", [format] if format else [], _FORMATS)
    if plain(path) is not None and not re.search(r"[*?\[{]", path) and not Path(path).exists():
        raise InvalidInputError(f"{path} does not exist; give the path of a file, a folder or a glob")
    from sparkstream_kit import schemas, spark_session

    with spark_session("sparkstream schema", profile="local") as spark:
        typer.echo(schemas.to_code(schemas.infer(spark, path, format=format, header=header)), nl=False)


@_checkpoint.command("show")
def _show(folder: Annotated[str, typer.Argument(metavar="DIR", help=_CHECKPOINT)]) -> None:
    """Show what a checkpoint holds, and what a restart would run again. Its query may be running."""
    show(checkpoints.show(folder))


@_checkpoint.command("check")
def _check(folder: Annotated[str, typer.Argument(metavar="DIR", help=_CHECKPOINT)]) -> int:
    """Report what is wrong with a checkpoint, one line for each problem. Exit code 1 if there is one."""
    problems = checkpoints.check(folder)
    show("\n".join(map(str, problems)) or f"{folder}: no problem found")
    return 1 if problems else 0


@_checkpoint.command("clone")
def _clone(
    source: Annotated[str, typer.Argument(metavar="SRC", help=_CHECKPOINT)],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where the copy goes; must not exist.")],
    *,
    new_id: Annotated[bool, typer.Option("--new-id", help="Give the copy a new query id.")] = False,
) -> None:
    """Copy a checkpoint that no query uses, whole or not at all."""
    copy = checkpoints.show(checkpoints.clone(source, target, new_id=new_id))
    show(f"copied to {copy.path}, query {copy.query_id}")
    if new_id:
        typer.echo("Sinks take it for another query: give it a table or a folder of its own.")
    else:
        typer.echo("Sinks take it for the same query, and know which batches they have: go on with")
        typer.echo("one of the two. To run both, each with sinks of its own: clone --new-id.")


@_checkpoint.command("rewind")
def _rewind(
    folder: Annotated[str, typer.Argument(metavar="DIR", help=_CHECKPOINT)],
    *,
    to: Annotated[int, flag("N", "The batch that becomes the last committed one.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it. Without this flag, only show what would happen.")
    ] = False,
) -> None:
    """Go back to the end of batch N: what came after it runs again. Can be undone until the next start."""
    found = checkpoints.rewind(folder, to=to, apply=apply)
    show(found)
    if found.moved and not apply:
        typer.echo("Run the command with --apply to do it.")


@app.command("serve")
def _serve(
    *,
    profile: Annotated[str, flag("NAME", "Settings profile: local, test, cluster or a path.")] = "local",
    port: Annotated[int, flag("PORT", "Port to listen on, on this machine only.")] = serving.PORT,
    connectors: Annotated[str, flag("NAMES", "Connectors to start it with, such as kafka,delta.")] = "",
    status: Annotated[
        bool, typer.Option("--status", help="Only report whether a server runs; exit code 1 if not.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop the server and everything that runs on it.")
    ] = False,
) -> int:
    """Keep a warm Spark in the background. What attaches to it by Spark Connect starts in two seconds.

    eval "$(sparkstream serve)" sets SPARK_REMOTE. Jobs, notebooks and pytest then attach to it.
    """
    if stop and status:
        raise InvalidInputError("--stop and --status exclude each other; give one of them")
    nobody = f"no server runs on port {port}"
    if stop:
        say(f"ended the server on port {port}; unset SPARK_REMOTE" if serving.stop(port) else nobody)
        return 0
    running = serving.status(port)
    if status:
        if running is None:
            say(nobody)
            return 1
        server = running
    else:
        server = serving.serve(port, profile, [name for name in connectors.split(",") if name])
        say("a server runs already" if running == server else "started a server; --stop ends it")
    say(f"port {port}, profile {server.profile}, process {server.pid}, log {server.log}; to attach to it:")
    typer.echo(f"export SPARK_REMOTE={server.url}")
    return 0


app.command("watch")(watch)
