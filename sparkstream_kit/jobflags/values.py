"""Readers of flag values, for argparse's `type=`: each takes a text and says what is wrong with it."""

from __future__ import annotations

import argparse
import glob
import math
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._files import plain
from sparkstream_kit.errors import InvalidInputError, check_file, without_secrets
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES, read_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "check_apart",
    "check_multiple",
    "checkpoint_folder",
    "database",
    "existing_folder",
    "host",
    "interval",
    "output_file",
    "percent",
    "port",
    "positive_int",
    "profile",
    "seconds",
    "state_store",
]

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
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds, such as 60 or 0.5")
    return value


def positive_int(text: str) -> int:
    """Read a whole number from 1.

    Example:
        >>> positive_int("3")
        3
    """
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def percent(text: str) -> Decimal:
    """Read a percentage, 0% to 100%.

    Example:
        >>> percent("0.5%")
        Decimal('0.5')
    """
    if not re.fullmatch(r"\d+(\.\d+)?%", text, re.ASCII) or Decimal(text[:-1]) > 100:  # noqa: PLR2004 - all
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0% to 100%, such as 1% or 0.5%")
    return Decimal(text[:-1])


def port(text: str) -> int:
    """Read a TCP port, 1 to 65535.

    Example:
        >>> port("9999")
        9999
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to {_LAST_PORT}")
    return int(text)


def host(text: str) -> str:
    """Read the name or address of a machine; a number alone is most likely a port.

    Example:
        >>> host("localhost")
        'localhost'
    """
    if text.isdigit():
        raise argparse.ArgumentTypeError(
            f"{text} is a number, perhaps a port; give the host and then the port"
        )
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
        raise argparse.ArgumentTypeError(f"{text} is a file; give the folder that it is in")
    # What Spark takes for a pattern may match later.
    if not Path(local).is_dir() and not set(local) & set("*?[]{}\\") and not _may_be_elsewhere(text):
        raise argparse.ArgumentTypeError(f"folder {text} does not exist; create it or correct the path")
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
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"checkpoint {text} is a file; give a folder")
    return text


def interval(text: str) -> str:
    """Read an interval between batches, such as "5 seconds".

    Example:
        >>> interval("500 milliseconds")
        '500 milliseconds'
    """
    if not re.fullmatch(r"\s*\d+ *(milliseconds?|seconds?|minutes?|hours?)\s*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval, such as '5 seconds' or '1 minute'")
    return text


def profile(text: str) -> str:
    """Read the name of a profile, or the path of one, and see that it can be read.

    Example:
        >>> profile("local")
        'local'
    """
    try:
        read_profile(text)
    except InvalidInputError as err:
        raise argparse.ArgumentTypeError(str(err)) from err
    return text


def database(text: str) -> str:
    """Read a database's URL, or the name of an environment variable that holds it, as env:NAME.

    Everyone on the machine can see a command line, and Spark's web page shows it: a password is refused
    there. A URL that is wrong is not shown, as it may hold one.

    Example:
        >>> database("sqlite:///totals.db")
        'sqlite:///totals.db'
        >>> database("postgresql://kit:hush@host/db")
        Traceback (most recent call last):
        ...
        argparse.ArgumentTypeError: others can see a password on the command line; leave it out and set ...
    """
    url = text
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        url = os.environ.get(name, "")
        if not url:
            raise argparse.ArgumentTypeError(f"the environment variable {name} is not set; put the URL there")
    elif without_secrets(text) != text:
        raise argparse.ArgumentTypeError(
            "others can see a password on the command line; leave it out and set PGPASSWORD or ~/.pgpass, or "
            "put the URL into an environment variable and give env:NAME"
        )
    if not re.match(r"\w+(\+\w+)?://", url):
        raise argparse.ArgumentTypeError(
            "this is not a URL, such as sqlite:///totals.db or postgresql+psycopg://user@host/name"
        )
    return url


def state_store(text: str) -> dict[str, str]:
    """Read where a query keeps its state, as settings for `get_session`.

    Example:
        >>> list(state_store("rocksdb"))
        ['spark.sql.streaming.stateStore.providerClass']
    """
    if text not in STATE_STORES:
        raise argparse.ArgumentTypeError(f"{text!r} is no state store; give {' or '.join(STATE_STORES)}")
    return {STATE_STORE: STATE_STORES[text]}


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a reader of the path of a file to write, with one of these endings, in a folder that exists.

    Example:
        >>> output_file(".csv", ".json")("totals.csv").name
        'totals.csv'
    """

    def read(text: str) -> Path:
        try:
            return check_file("file", text, *suffixes)
        except InvalidInputError as err:
            raise argparse.ArgumentTypeError(str(err)) from err

    return read


def check_apart(input_dir: str, outputs: Mapping[str, str | Path | None]) -> None:
    """Refuse to write into the input folder, where a job would read its own files.

    Args:
        input_dir: the folder that the job reads, or a pattern for folders.
        outputs: what it writes, by the name of its argument, such as "--snapshot" or "OUT_DIR"; None for
            what was not given.

    Raises:
        InvalidInputError: an output is the input folder or a file in it.

    Example:
        >>> check_apart("incoming", {"--snapshot": "incoming/totals.csv"})
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: --snapshot incoming/totals.csv lies in the input folder ...
    """
    folder = plain(input_dir)
    if folder is None:
        return
    read = {Path(each).resolve() for each in [folder, *glob.glob(folder)]}  # noqa: PTH207 - of any path
    for name, path in outputs.items():
        local = None if path is None else plain(re.sub("^sqlite:///", "", str(path)))
        if local is None:
            continue
        target = Path(local).resolve()
        # A pattern may match what is made later.
        made = any(each.match(str(Path(folder).absolute())) for each in (target, target.parent))
        if made or {target, target.parent} & read:
            lies = "is" if target in read else "lies in"
            raise InvalidInputError(
                f"{name} {path} {lies} the input folder {input_dir}, and would be read; put it elsewhere"
            )


def check_multiple(flag: str, value: float, of_flag: str, of: float) -> None:
    """Refuse a time that is not a whole multiple of another, and name the nearest that are.

    Raises:
        InvalidInputError: `value` is not a multiple of `of`, to the millisecond, or `of` is less than one.

    Example:
        >>> check_multiple("--window", 25, "--batch-interval", 2)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: --window 25 is not a multiple of --batch-interval 2; use ...
    """
    if round(of * 1000) == 0:
        raise InvalidInputError(f"{of_flag} {of:g} is less than a millisecond; use 0.001 or more")
    number = value / of
    if round(value * 1000) % round(of * 1000):
        near = " or ".join(f"{math.floor(number + up) * of:g}" for up in (0, 1) if math.floor(number + up))
        raise InvalidInputError(f"{flag} {value:g} is not a multiple of {of_flag} {of:g}; use {near}")
