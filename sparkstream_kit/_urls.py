"""What is a URL of HTTP, and which URLs hold something that nobody else may see."""

from __future__ import annotations

import re

from sparkstream_kit.errors import without_secrets

# What servers call a key or a signature in a query; `without_secrets` knows token=, password= and more.
_SECRET = re.compile(r"(?i)[?&;]([\w.-]*[._-])?(key|sig|signature|auth|authorization|credential)=")


def is_url(text: str) -> bool:
    """Say whether a text is a URL of HTTP.

    Example:
        >>> is_url("https://api.x.com/2"), is_url("posts/"), is_url("api.x.com/2")
        (True, False, False)
    """
    return re.match(r"https?:/", text, re.IGNORECASE) is not None


def shows_secret(url: str) -> bool:
    """Say whether a URL names a user, which for many servers is a key, or has a key in its query.

    Example:
        >>> shows_secret("https://sk_live_abc@host/stream"), shows_secret("https://host/stream?api_key=abc")
        (True, True)
        >>> shows_secret("https://host/@user?tag=keys")
        False
    """
    named = re.match(r"([\w.+-]*:)?[/\\]*[^/\\?#]*@", url)  # also one that lacks its https://
    return named is not None or _SECRET.search(url) is not None or without_secrets(url) != url
