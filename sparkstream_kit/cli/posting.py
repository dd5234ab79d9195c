"""The command `sparkstream feed posts`: generated posts, or with a URL those of a server."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sparkstream_kit._urls import is_url, shows_secret
from sparkstream_kit.cli.common import flag as _flag
from sparkstream_kit.cli.common import say as _say
from sparkstream_kit.cli.common import stopped_by_signal as _stopped_by_signal
from sparkstream_kit.connectors.posts.defaults import STALL, TOKEN
from sparkstream_kit.errors import InvalidInputError

try:
    import typer
except ImportError:  # main() says what to install
    typer = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["posts_command"]

_BOTH = ("every",)


def posts_command(generate: Callable[..., None]) -> Callable[..., None]:
    """Return the command: with one word, a folder, it is `generate`; with two, a URL and a folder, it feeds.

    Two kinds of posts for one job have one name, so that nobody looks for the other; a flag of the one is
    refused with the other.

    Args:
        generate: the command of the generated posts.
    """

    def command(context: typer.Context, places: list[str], **given: Any) -> None:
        if len(places) > 2:  # noqa: PLR2004 - a URL and a folder
            raise InvalidInputError(
                f"feed posts takes a URL and a folder, not {len(places)} words; see --help"
            )
        with_url = len(places) > 1
        if not with_url and is_url(places[0]):
            shown = "URL" if shows_secret(places[0]) else places[0]
            raise InvalidInputError(f"give a folder for the posts after the URL: feed posts {shown} FOLDER")
        wrong = _FLAGS_OF_GENERATED if with_url else _FLAGS_OF_URL
        for name in given:
            source = context.get_parameter_source(name)
            if name in wrong and source is not None and source.name == "COMMANDLINE":
                fix = "leave it out with a URL" if with_url else "give a URL before the folder"
                raise InvalidInputError(f"--{name.replace('_', '-')} is not for these posts; {fix}")
        if with_url:
            _feed(*places, **{name: given[name] for name in (*_FLAGS_OF_URL, *_BOTH)})
        else:
            generate(folder=Path(places[0]), **{name: given[name] for name in given if name not in wrong})

    own = list(inspect.signature(_flags, eval_str=True).parameters.values())
    shared = [
        each
        for name, each in inspect.signature(generate).parameters.items()
        if name not in ("folder", "places")
    ]
    _FLAGS_OF_GENERATED = {each.name for each in shared} - {*_BOTH}  # noqa: N806 - as the other one
    _FLAGS_OF_URL = {each.name for each in own} - {"context", "places"}  # noqa: N806
    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {}
    command.__doc__ = """Land generated posts of two networks, or with a URL the posts of that stream.

    The URL is that of X's filtered or sampled stream, of a stream of Mastodon's, or of a server like these.
    The posts go into FOLDER as whole files, each once, until Ctrl-C. What is missed while there is no
    connection is fetched afterwards where the server can send it, and counted where not.
    """
    return command


def _flags(
    context: typer.Context,
    places: Annotated[
        list[str], typer.Argument(metavar="[URL] FOLDER", help="A new folder; with a URL, the spool.")
    ],
    *,
    token_env: Annotated[
        str, _flag("NAME", "With a URL: the environment variable that holds the bearer token.")
    ] = TOKEN,
    timeline: Annotated[
        str | None,
        _flag("URL", "With a URL: where missed posts are asked for by min_id. Default: known for Mastodon."),
    ] = None,
    stall: Annotated[
        float, _flag("SECONDS", "With a URL: connect anew when nothing has come for this long.")
    ] = STALL,
) -> None:
    """Hold the flags for a URL."""


def _feed(url: str, folder: str, *, token_env: str, **given: Any) -> None:
    from sparkstream_kit.connectors.posts.address import Token
    from sparkstream_kit.connectors.posts.feeder import Feeder

    stop = threading.Event()
    with _stopped_by_signal(stop.set):
        feeder = Feeder(url, folder, token=Token.from_environment(token_env), say=_say, **given)
        _say(f"feeding {folder} with the posts of {url}; stop with Ctrl-C")
        _say(feeder.run(stop))
