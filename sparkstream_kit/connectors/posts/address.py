"""Which server is asked, and the token for it, which goes to no other one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sparkstream_kit._urls import is_url, shows_secret
from sparkstream_kit.errors import InvalidInputError, without_secrets

__all__ = ["Token", "check_url", "host_of", "may_follow"]

_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Token:
    """A bearer token from the environment, which no message shows.

    Attributes:
        name: of the environment variable.
        value: the token; None where the variable is not set.
    """

    name: str
    value: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, name: str) -> Token:
        """Return the token that an environment variable holds."""
        return cls(name, os.environ.get(name, "").strip() or None)

    def hidden(self, text: str) -> str:
        """Return a text of the server's without the token, should it repeat it."""
        return without_secrets(text.replace(self.value, "***") if self.value else text)

    def headers(self) -> dict[str, str]:
        """Return the header of a request that gives the token."""
        if not self.value:
            return {}
        if not re.fullmatch(r"[!-~]+", self.value):
            raise InvalidInputError(
                f"the token in {self.name} has a space, a line end or a letter that no token has; set it anew"
            )
        return {"Authorization": f"Bearer {self.value}"}


def host_of(url: str) -> str | None:
    """Return the host of a URL; None for a URL that cannot be asked.

    Example:
        >>> host_of("https://x.com/a"), host_of("http://127.0.0.1:abc/"), host_of("http://[x/")
        ('x.com', None, None)
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        str(host).encode("idna")
    except ValueError:
        return None
    return host if host and re.fullmatch(r"[!-~]+", url) else None


def check_url(url: str, token: Token) -> None:
    """Refuse a URL that cannot be asked, or that would show the token to others.

    Example:
        >>> check_url("api.x.com/2/tweets/sample/stream", Token("POSTS_TOKEN"))
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: api.x.com/2/tweets/sample/stream is no URL; did you mean ...
    """
    if shows_secret(url):
        raise InvalidInputError(
            f"others can see a token in a URL; leave it out, and put it into the environment variable "
            f"{token.name}"
        )
    if not is_url(url):
        raise InvalidInputError(f"{url} is no URL; did you mean https://{url.partition('://')[2] or url}?")
    host = host_of(url)
    if host is None:
        raise InvalidInputError(
            f"{url!r} is no URL of a server, such as https://api.x.com/2/tweets/search/stream"
        )
    if token.headers() and urlsplit(url).scheme == "http" and host not in _HERE:
        raise InvalidInputError(f"{url} would show the token to everyone on the way; give https://")


def may_follow(url: str, where: str) -> bool:
    """Say whether the token may go where a redirection leads: to the same host or one below it, encrypted.

    Example:
        >>> may_follow("https://x.com/a", "https://streaming.x.com/b")
        True
        >>> [may_follow("https://x.com/a", where) for where in ("ftp://x.com/b", "http://x.com/b")]
        [False, False]
    """
    old, new = host_of(url), host_of(where)
    if new is None:
        return False
    schemes = urlsplit(url).scheme, urlsplit(where).scheme
    # Without encryption a token goes to this machine alone: see `check_url`.
    return (schemes[1] == "https" and (new == old or new.endswith(f".{old}"))) or (
        schemes == ("http", "http") and new == old
    )
