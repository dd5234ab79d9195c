"""The settings of a session: whether two texts of one mean the same to Spark, and some for a block."""

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

# Spark adds to these lists, such as the files of `spark.jars.packages` to the jars.
_GROWING = ("spark.archives", "spark.files", "spark.jars", "spark.submit.pyFiles")
_SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)  # spark.redaction.regex


@contextmanager
def in_force(spark: SparkSession, wanted: Mapping[str, str | None]) -> Iterator[None]:
    """Give a session some settings for a block, then its own again; None is Spark's default."""
    former = put(spark, wanted)
    try:
        yield
    finally:
        _apply(spark, former)


def put(spark: SparkSession, wanted: Mapping[str, str | None]) -> dict[str, str | None]:
    """Give a session some settings, and return its own; None is Spark's default.

    Raises:
        InvalidInputError: Spark cannot read a value. The session has its own settings again.
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
    """Say whether a setting that has the value `actual` is in force as `wanted`.

    Args:
        key: the setting.
        wanted: what was asked for.
        actual: what Spark says of it, which may be a size, a time or a path written in another way.
        spark: a session, whose JVM knows what each of its settings holds; without one in reach, paths alone
            are compared.

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
    """Return a setting for a message, without what is secret in it.

    Examples:
        >>> shown("spark.hadoop.fs.s3a.secret.key", "XYZ")
        'spark.hadoop.fs.s3a.secret.key=(hidden)'
    """
    return f"{key}={shown_value(key, value)}"


def shown_value(key: str, value: str) -> str:
    """Return the value of a setting for a message, without what is secret in it."""
    return "(hidden)" if _SECRET.search(key) else without_secrets(value)


def _value(jvm: Any, key: str, text: str) -> object:
    """Return what Spark reads in the text of a setting: a number of bytes or seconds, a list, yes or no."""
    entry = jvm.org.apache.spark.internal.config.ConfigEntry.findEntry(key)
    try:
        return text if entry is None else entry.valueConverter().apply(text)
    except (Py4JJavaError, PySparkException):  # no value that Spark would take
        return text


def _paths(value: str) -> set[str]:
    """Return a list of paths as Spark writes them: absolute, without links, globs taken apart."""
    found = set()
    for item in filter(None, map(str.strip, value.split(","))):
        plain = re.sub(r"^file:(//)?(?=/)", "", item)
        path = plain if plain == item else unquote(plain)
        found |= {os.path.realpath(each) for each in glob.glob(path) or [path]}  # noqa: PTH207 - texts
    return found
