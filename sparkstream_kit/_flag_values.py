"""Readers of flag values, for argparse's `type=`: each takes a text, and says what is wrong with it."""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._durations import delay_of, not_negative
from sparkstream_kit._files import plain
from sparkstream_kit._urls import is_url, shows_secret
from sparkstream_kit.errors import InvalidInputError, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

_LAST_PORT = 65535


def seconds(text: str) -> float:
    """Read a positive number of seconds.

    Example:
        >>> seconds("1.5")
        1.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a positive number of seconds, such as 60 or 0.5")
    return value


def positive_int(text: str) -> int:
    """Read a whole number from 1.

    Example:
        >>> positive_int("3")
        3
    """
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def number_of_files(text: str) -> int | None:
    """Read a whole number from 1, or "all"."""
    return None if text == "all" else positive_int(text)


def percent(text: str) -> Decimal:
    """Read a percentage, 0% to 100%.

    Example:
        >>> percent("0.5%")
        Decimal('0.5')
    """
    if not re.fullmatch(r"\d+(\.\d+)?%", text, re.ASCII) or Decimal(text[:-1]) > 100:  # noqa: PLR2004 - all
        raise ArgumentTypeError(f"{text!r} is not a percentage from 0% to 100%, such as 1% or 0.5%")
    return Decimal(text[:-1])


def port(text: str) -> int:
    """Read a TCP port, 1 to 65535.

    Example:
        >>> port("9999")
        9999
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _LAST_PORT):
        raise ArgumentTypeError(f"{text!r} is not a port, 1 to {_LAST_PORT}")
    return int(text)


def host(text: str) -> str:
    """Read the name or address of a machine; a number alone is most likely a port.

    Example:
        >>> host("localhost")
        'localhost'
    """
    if text.isdigit():
        raise ArgumentTypeError(f"{text} is a number, perhaps a port; give the host and then the port")
    return text


def servers(text: str) -> str:
    """Read the addresses of servers, each with its port, with commas between them.

    Example:
        >>> servers("localhost:9092,other:9092")
        'localhost:9092,other:9092'
    """
    for each in text.split(","):
        name, _, number = each.strip().rpartition(":")
        if not name or not number.isascii() or not number.isdigit() or int(number) > _LAST_PORT:
            raise ArgumentTypeError(f"{each.strip()!r} is not host:port, such as localhost:9092")
    return text


def url(text: str) -> str:
    """Read a URL of HTTP. Everyone on the machine can see a command line: a token in it is refused.

    Example:
        >>> url("https://api.x.com/2/tweets/sample/stream")
        'https://api.x.com/2/tweets/sample/stream'
    """
    if shows_secret(text):
        raise ArgumentTypeError(
            "others can see a token on the command line; leave it out, and put it into POSTS_TOKEN"
        )
    if not is_url(text):
        raise ArgumentTypeError(f"{text!r} is no URL, such as https://api.x.com/2/tweets/sample/stream")
    return text


def interval(text: str) -> str:
    """Read the time from one batch to the next, in the words of Spark's trigger."""
    return _duration(text, not_negative, "an interval, such as '5 seconds' or '1 minute 30 seconds'")


def delay(text: str) -> str:
    """Read how late a row may come; with no delay at all, Spark drops rows as new as the newest."""
    return _duration(text, delay_of, "a delay, such as '10 minutes' or '1 hour 30 minutes'")


def _duration(text: str, read: Callable[[str, str], int], what: str) -> str:
    try:
        read("it", text)
    except InvalidInputError as err:
        raise ArgumentTypeError(f"{text!r} is not {what}") from err
    return text


def existing_folder(text: str) -> str:
    """Read the path of a folder, or a pattern for folders; what this process can look at must exist.

    A path of another file system is left to Spark, and so is one that Spark may look for elsewhere: on the
    machine of a Connect server (SPARK_REMOTE), or where a Hadoop configuration names another file system.

    Example:
        >>> existing_folder("s3a://bucket/sales")
        's3a://bucket/sales'
    """
    local = plain(text)
    if local is None or _is_elsewhere():
        return text
    if Path(local).is_file():
        raise ArgumentTypeError(f"{text} is a file; give the folder that it is in")
    # What Spark takes for a pattern may match later.
    if not Path(local).is_dir() and not set(local) & set("*?[]{}\\") and not _may_be_elsewhere(text):
        raise ArgumentTypeError(f"folder {text} does not exist; create it or correct the path")
    return text


def _is_elsewhere() -> bool:
    """Say whether paths are those of a Spark Connect server on another machine."""
    server = re.match(r"sc://(\[.*?\]|[^:/;]*)", os.environ.get("SPARK_REMOTE", ""))
    return server is not None and server[1] not in ("localhost", "127.0.0.1", "[::1]")


def _may_be_elsewhere(path: str) -> bool:
    """Say whether a path without a scheme may be one of another file system; only the JVM knows."""
    # Under spark-submit and on Connect it runs already: to ask it costs little.
    return ":" not in path and any(
        name in os.environ
        for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "PYSPARK_GATEWAY_PORT", "SPARK_REMOTE")
    )


def checkpoint_folder(text: str) -> str:
    """Read the path of a checkpoint: a folder, or nothing yet.

    Example:
        >>> checkpoint_folder("ckpt/totals")
        'ckpt/totals'
    """
    local = plain(text)
    if local is not None and Path(local).exists() and not Path(local).is_dir():
        raise ArgumentTypeError(f"checkpoint {text} is a file; give a folder")
    return text


def database(text: str) -> str:
    """Read a database's URL, or the name of an environment variable that holds it, as env:NAME.

    Everyone on the machine can see a command line, and Spark's web page shows it: a password is refused
    there. A URL that is wrong is not shown, as it may hold one.
    """
    url = text
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        url = os.environ.get(name, "")
        if not url:
            raise ArgumentTypeError(f"the environment variable {name} is not set; put the URL there")
    elif without_secrets(text) != text:
        raise ArgumentTypeError(
            "others can see a password on the command line; leave it out and set PGPASSWORD or ~/.pgpass, or "
            "put the URL into an environment variable and give env:NAME"
        )
    if not re.match(r"\w+(\+\w+)?://", url):
        raise ArgumentTypeError(
            "this is not a URL, such as sqlite:///totals.db or postgresql+psycopg://user@host/name"
        )
    return url
