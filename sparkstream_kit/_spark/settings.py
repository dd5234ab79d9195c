"""Change a session's settings for a time, compare setting values as Spark does, and print them safely.

`in_force` and `put` change runtime settings. `same` finds out whether two texts mean the same value to Spark,
such as `1g` and `1024m`, so that no needless warning appears. `shown` formats a setting for a message and
hides its secrets.
"""

from __future__ import annotations

import glob
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException

from sparkstream_kit._spark.session import is_connect
from sparkstream_kit.errors import InvalidInputError, said_by_spark, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.sql import SparkSession

# Lists that Spark itself extends: for example, it adds the files of `spark.jars.packages` to `spark.jars`.
_GROWING = ("spark.archives", "spark.files", "spark.jars", "spark.submit.pyFiles")
_SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)  # spark.redaction.regex


@contextmanager
def in_force(spark: SparkSession, wanted: Mapping[str, str | None]) -> Iterator[None]:
    """Apply settings to a session within a block, and restore the former ones afterwards.

    Args:
        spark: the session.
        wanted: the settings by key; None stands for Spark's default.
    """
    former = put(spark, wanted)
    try:
        yield
    finally:
        _apply(spark, former)


def put(spark: SparkSession, wanted: Mapping[str, str | None]) -> dict[str, str | None]:
    """Apply settings to a session, and return the former values of these settings.

    Args:
        spark: the session.
        wanted: the settings by key; None stands for Spark's default.

    Returns:
        The former values by key; None for a setting that was not set.

    Raises:
        InvalidInputError: Spark cannot read a value. The former settings have been restored.
    """
    former = {key: spark.conf.get(key, None) for key in wanted}
    try:
        _apply(spark, wanted)
    except PySparkException as err:
        _apply(spark, former)
        raise InvalidInputError(f"{said_by_spark(err)}; correct that setting") from err
    return former


def _apply(spark: SparkSession, wanted: Mapping[str, str | None]) -> None:
    for key, value in wanted.items():
        if value is None:
            spark.conf.unset(key)
        else:
            spark.conf.set(key, value)


def same(key: str, wanted: str, actual: str, spark: SparkSession | None = None) -> bool:
    """Return whether a setting's value in Spark means the same as the wanted value.

    Args:
        key: the setting's key.
        wanted: the value that was asked for.
        actual: the value that Spark reports. It may be the same size, time or path in another notation.
        spark: a session whose JVM knows the types of its settings. Without a JVM (None, or Spark Connect)
            only different notations of paths are recognised.

    Examples:
        >>> same("spark.jars", "/opt/a.jar", "file:///opt/a.jar")
        True
        >>> same("spark.sql.warehouse.dir", "tables", "file:/elsewhere/tables")
        False
    """
    if wanted == actual:
        return True
    jvm = None if spark is None or is_connect(spark) else SparkContext._jvm
    if jvm is not None and _value(jvm, key, wanted) == _value(jvm, key, actual):
        return True
    ours, theirs = _paths(wanted), _paths(actual)
    return ours <= theirs if key in _GROWING else ours == theirs


def shown(key: str, value: str) -> str:
    """Format a setting as `key=value` for a message, with its secrets hidden.

    Examples:
        >>> shown("spark.hadoop.fs.s3a.secret.key", "XYZ")
        'spark.hadoop.fs.s3a.secret.key=(hidden)'
    """
    return f"{key}={shown_value(key, value)}"


def shown_value(key: str, value: str) -> str:
    """Return the value of a setting for a message, with its secrets hidden."""
    return "(hidden)" if _SECRET.search(key) else without_secrets(value)


def _value(jvm: Any, key: str, text: str) -> object:
    """Convert the text of a setting as Spark does: to a number of bytes or seconds, a list or a boolean.

    The text is returned as it is if Spark does not know the setting or cannot read the text.
    """
    entry = jvm.org.apache.spark.internal.config.ConfigEntry.findEntry(key)
    try:
        return text if entry is None else entry.valueConverter().apply(text)
    except (Py4JJavaError, PySparkException):  # Spark cannot read the text
        return text


def _paths(value: str) -> set[str]:
    """Split a comma-separated list of paths into absolute paths, with links and globs resolved.

    Spark reports paths in this form.
    """
    found = set()
    for item in filter(None, map(str.strip, value.split(","))):
        plain = re.sub(r"^file:(//)?(?=/)", "", item)
        path = plain if plain == item else unquote(plain)
        found |= {os.path.realpath(each) for each in glob.glob(path) or [path]}  # noqa: PTH207 - texts
    return found
