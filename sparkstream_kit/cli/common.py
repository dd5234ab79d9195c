"""Helpers of all commands: to declare commands and flags, for output and signals."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparkstream_kit._internal import threads
from sparkstream_kit._internal.file_system import JSON_VERSION, as_json
from sparkstream_kit._internal.stopping import waiting
from sparkstream_kit.errors import printable, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def flag(metavar: str, text: str, **more: Any) -> Any:
    """Declare a flag of a command that takes a value.

    Args:
        metavar: the placeholder of the value in the help, such as "SECONDS".
        text: the help text.
        **more: further options of `typer.Option`, such as `min`.
    """
    return typer.Option(metavar=metavar, help=text, **more)


def argument(metavar: str, text: str) -> Any:
    """Declare a positional argument of a command, with the placeholder and the text of its help."""
    return typer.Argument(metavar=metavar, help=text)


def switch(name: str, text: str) -> Any:
    """Declare a flag of a command that takes no value."""
    return typer.Option(name, help=text)


# The flag of every command whose answer programs read; docs/json.md describes the
# answers.
Json = Annotated[bool, switch("--json", "Answer on one line of JSON, for programs.")]


def group(text: str, *, completion: bool = False, **more: Any) -> typer.Typer:
    """Make a group of commands with a help text, which prints its help if no command is given.

    Args:
        text: the help text.
        completion: whether to add the flags that print and install the completion of a
            shell.
        **more: further options of `typer.Typer`.
    """
    made = typer.Typer(
        help=text,
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **more,
    )
    made.callback(invoke_without_command=True)(help_if_bare)
    return made


def help_if_bare(context: typer.Context) -> None:
    """Print the help to standard error and exit with code 2 if no command is given.

    The exit code shows a script that its call is incomplete.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def say(what: object) -> None:
    """Write a message to standard error, after the name of the command and with secrets hidden."""
    sys.stderr.write(
        f"sparkstream: {printable(without_secrets(str(what)), lines=True)}\n"
    )


def show(what: object) -> None:
    """Write the answer of a command to standard output, with control characters escaped."""
    sys.stdout.write(f"{printable(str(what), lines=True)}\n")


def show_json(**answer: object) -> None:
    """Write the answer of a command to standard output as one line of JSON, for programs.

    Args:
        **answer: the one field of the answer beside `version`, which changes when a
            field changes or goes.
    """
    sys.stdout.write(f"{as_json({'version': JSON_VERSION, **answer})}\n")


@contextmanager
def stopped_by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in a thread when SIGINT or SIGTERM arrives during the block.

    In the signal handler itself, `stop` could wait for a lock that the interrupted code
    holds.
    """
    inbox = waiting.Inbox(run_for=None, stop_file=None)

    def wait() -> None:
        inbox.get()
        stop()

    threads.in_thread("stop", wait)
    with waiting.signals_posted_to(inbox):
        yield


def pyspark_version() -> str:
    """Return the version of PySpark; "" without PySpark.

    PySpark may also be in the zip that `spark-submit` adds.
    """
    try:
        from pyspark import __version__
    except ImportError:
        return ""
    return str(__version__)
