"""What the commands share: how they and their flags are declared, how they answer, what a signal does."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparkstream_kit import _waiting
from sparkstream_kit._files import as_json
from sparkstream_kit.errors import printable, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def flag(metavar: str, text: str, **more: Any) -> Any:
    """Return a command's flag."""
    return typer.Option(metavar=metavar, help=text, **more)


def argument(metavar: str, text: str) -> Any:
    """Return what a command is given without a flag."""
    return typer.Argument(metavar=metavar, help=text)


def switch(name: str, text: str) -> Any:
    """Return a command's flag that takes no value."""
    return typer.Option(name, help=text)


# Of each command whose answer programs read; docs/jobs.md, "For programs", has the shapes.
Json = Annotated[bool, switch("--json", "Answer on one line of JSON, for programs.")]


def group(text: str, **more: Any) -> typer.Typer:
    """Return a group of commands."""
    made = typer.Typer(
        help=text,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **more,
    )
    made.callback(invoke_without_command=True)(help_if_bare)
    return made


def help_if_bare(context: typer.Context) -> None:
    """Print the help where a command is missing, as an error: a script that calls it so is wrong."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def say(what: object) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"sparkstream: {printable(without_secrets(str(what)), lines=True)}\n")


def show(what: object) -> None:
    """Write a text, as a command's answer, to standard output."""
    sys.stdout.write(f"{printable(str(what), lines=True)}\n")


def show_json(what: object) -> None:
    """Write what a program asked for to standard output, on one line."""
    sys.stdout.write(f"{as_json(what)}\n")


@contextmanager
def stopped_by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at SIGINT or SIGTERM, in a thread: in a handler it could wait for what it interrupted."""
    inbox = _waiting.Inbox(run_for=None, stop_file=None)

    def wait() -> None:
        inbox.get()
        stop()

    _waiting.in_thread("stop", wait)
    with _waiting.signals_posted_to(inbox):
        yield
