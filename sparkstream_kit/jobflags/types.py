"""Readers of the values of flags, for `type=` of argparse: numbers, places, paths, URLs."""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._internal.durations import delay_of, not_negative
from sparkstream_kit._internal.file_system import plain
from sparkstream_kit.errors import InvalidInputError, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

# If one of these variables is set, Spark may look for a path on another machine or file
# system.
_ELSEWHERE = (
    "HADOOP_CONF_DIR",
    "YARN_CONF_DIR",
    "PYSPARK_GATEWAY_PORT",
    "SPARK_REMOTE",
)


def seconds(text: str) -> float:
    """Parse the value of a flag as a positive number of seconds; for `type=` of argparse.

    Raises:
        ArgumentTypeError: the text is not such a number.

    Examples:
        >>> seconds("1.5")
        1.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(
            f"{text!r} is not a positive number of seconds, such as 60 or 0.5"
        )
    return value


def positive_int(text: str, most: int | None = None) -> int:
    """Parse a whole number, 1 or more, and at most `most`.

    Examples:
        >>> positive_int("3")
        3
    """
    number = 0
    if text.isascii() and text.isdigit():
        number = int(text)
    if number < 1 or (most is not None and number > most):
        limit = f" to {most}" if most is not None else ""
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1{limit}")
    return number


_LAST_PORT = 65535
port = partial(positive_int, most=_LAST_PORT)


def number_of_files(text: str) -> int | None:
    """Parse a whole number, 1 or more, or "all", which becomes None."""
    if text == "all":
        return None
    return positive_int(text)


def percent(text: str) -> Decimal:
    """Parse a percentage from 0% to 100%.

    Examples:
        >>> percent("0.5%")
        Decimal('0.5')
    """
    if not re.fullmatch(r"\d+(\.\d+)?%", text, re.ASCII) or Decimal(text[:-1]) > 100:  # noqa: PLR2004 - all
        raise ArgumentTypeError(
            f"{text!r} is not a percentage from 0% to 100%, such as 1% or 0.5%"
        )
    return Decimal(text[:-1])


def host(text: str) -> str:
    """Parse the name or address of a machine; reject a number, which is most likely a port.

    Examples:
        >>> host("localhost")
        'localhost'
    """
    if text.isdigit():
        raise ArgumentTypeError(
            f"{text} is a number, perhaps a port; give the host and then the port"
        )
    return text


def _by(read: Callable[[str], object]) -> Callable[[str], str]:
    """Return a `type=` for argparse: `read` checks the text, which stays as it is."""

    def reader(text: str) -> str:
        try:
            read(text)
        except InvalidInputError as err:
            raise ArgumentTypeError(str(err)) from err
        return text

    return reader


def servers(text: str) -> str:
    """Parse the addresses of servers as host:port, separated by commas.

    Examples:
        >>> servers("localhost:9092,other:9092")
        'localhost:9092,other:9092'
    """
    for part in text.split(","):
        address = part.strip()
        name, _, number = address.rpartition(":")
        is_number = number.isascii() and number.isdigit()
        if not name or not is_number or int(number) > _LAST_PORT:
            raise ArgumentTypeError(
                f"{address!r} is not host:port, such as localhost:9092"
            )
    return text


@_by
def url(text: str) -> None:
    """Check the URL of a stream of posts, with the token in the environment."""
    from sparkstream_kit.connectors.posts.wire import TOKEN, Token, check_url

    check_url(text, Token.from_environment(TOKEN))


interval = _by(partial(not_negative, "the interval"))
delay = _by(partial(delay_of, "the delay"))


def existing_folder(text: str) -> str:
    """Parse the path of an input folder, or a pattern for folders; a local folder must exist.

    The check is left to Spark for a path of another file system, and where Spark may
    look for the path on another machine or file system: on a Connect server
    (SPARK_REMOTE), and with a Hadoop configuration. Under spark-submit it is left to
    Spark, too, because the JVM runs already and Spark's own error comes as fast.

    Raises:
        ArgumentTypeError: the path is a file, or there is no such folder.

    Examples:
        >>> existing_folder("s3a://bucket/sales")
        's3a://bucket/sales'
    """
    local = plain(text)
    if local is None or any(name in os.environ for name in _ELSEWHERE):
        return text
    if Path(local).is_file():
        raise ArgumentTypeError(f"{text} is a file; give the folder that it is in")
    # A pattern may match folders that are created later.
    if not Path(local).is_dir() and not set(local) & set("*?[]{}\\"):
        raise ArgumentTypeError(
            f"folder {text} does not exist; create it or correct the path"
        )
    return text


def checkpoint_folder(text: str) -> str:
    """Parse the path of a checkpoint: a folder, which need not exist yet.

    Raises:
        ArgumentTypeError: the path is a file.

    Examples:
        >>> checkpoint_folder("ckpt/totals")
        'ckpt/totals'
    """
    local = plain(text)
    if local is not None and Path(local).exists() and not Path(local).is_dir():
        raise ArgumentTypeError(f"checkpoint {text} is a file; give a folder")
    return text


def database(text: str) -> str:
    """Parse the URL of a database or of alerts; env:NAME reads it from the environment.

    A password in the URL on the command line is rejected, because every user of the
    machine can see a command line, and Spark's web UI shows it. `sinks.sql_table`
    checks the URL itself.

    Raises:
        ArgumentTypeError: the variable is not set, or the URL on the command line has a
            password.

    Examples:
        >>> database("sqlite:///totals.db")
        'sqlite:///totals.db'
    """
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        url = os.environ.get(name, "")
        if not url:
            raise ArgumentTypeError(
                f"the environment variable {name} is not set; put the URL there"
            )
        return url
    if without_secrets(text) != text:
        raise ArgumentTypeError(
            "others can see a password on the command line; put the URL into an"
            " environment variable and give env:NAME, or, for a database, set"
            " PGPASSWORD or ~/.pgpass"
        )
    return text


def registry(text: str) -> str:
    """Parse the address of a schema registry; env:NAME reads it from the environment.

    A user and a password can be in the address in the environment; on the command line
    a password is rejected, as for `database`.

    Raises:
        ArgumentTypeError: it is no address, or as for `database`.

    Examples:
        >>> registry("http://localhost:8081")
        'http://localhost:8081'
    """
    from sparkstream_kit.connectors._registry import client

    address = database(text)
    try:
        client.of(address)
    except InvalidInputError as err:
        raise ArgumentTypeError(str(err)) from None
    return address
