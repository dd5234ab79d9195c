"""Private: what this machine or this user lacks that Spark needs, each with its fix.

A start that fails asks `lacks`, because Java names none of these causes; `sparkstream doctor` asks before.
"""

from __future__ import annotations

import os
import pwd
import resource
import sys
from contextlib import suppress

_FILES = 1024  # open files: Java and Spark alone need some 400
_ASCII = ("C", "POSIX", "")  # locales in which Java knows no names of files beyond ASCII


def user() -> str | None:
    """Return what is wrong if this user has no name, as in a container with a random user; else None."""
    number = os.getuid()
    with suppress(KeyError):
        pwd.getpwuid(number)
        return None
    entry = f"spark:x:{number}:0::/tmp:/bin/sh"
    return (
        f"this user ({number}) has no name, without which Java and Hadoop do not start; give it one, as root "
        f"or in the image: echo {entry} >> /etc/passwd"
    )


def open_files() -> str | None:
    """Return what is wrong if this process may open only a few files; else None."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY or allowed >= _FILES:
        return None
    return f"only {allowed} files may be open at once (ulimit -n); run ulimit -n 4096 first"


def names() -> str | None:
    """Return what is wrong if Python's names of files are not UTF-8; else None."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return None
    return f"names of files are {encoding} in this locale; set LC_ALL=C.UTF-8"


def lacks() -> list[str]:
    """Return all that is wrong, as `user`, `open_files` and `names` do."""
    return [said for said in (user(), open_files(), names()) if said is not None]


def locale_of(given: dict[str, str]) -> str:
    """Return the locale that an environment sets for names of files."""
    return given.get("LC_ALL") or given.get("LC_CTYPE") or given.get("LANG") or ""


def with_names(given: dict[str, str]) -> dict[str, str]:
    """Return an environment in which Java knows all names of files, where the locale is for ASCII alone."""
    if locale_of(given) in _ASCII and sys.platform.startswith("linux"):
        return given | {"LC_ALL": "C.UTF-8"}
    return given
