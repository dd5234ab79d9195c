"""How commands, their flags and their groups are declared."""

from __future__ import annotations

from typing import Any

import typer


def flag(metavar: str, text: str, **more: Any) -> Any:
    """Return a command's flag."""
    return typer.Option(metavar=metavar, help=text, **more)


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
