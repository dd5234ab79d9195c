"""The packages of other systems (Kafka, Delta, Avro) that Spark is launched with.

`needed` returns the settings for the connectors, `missing` and `missing_source` say how
to add one that is not there. A session opens this module when it is asked for
connectors, and `start` when Spark lacks a source.
"""

from __future__ import annotations

import os
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal import file_system
from sparkstream_kit.errors import InvalidInputError, hint, reject_unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pyspark.sql import SparkSession

    from sparkstream_kit.connectors import Connector


@cache
def versions() -> dict[str, dict[str, Any]]:
    """Return `conf/versions.toml`: which versions go together, for each feature version of Spark.

    Examples:
        >>> versions()["4.2"]["java"]
        [17, 21, 25]
    """
    return tomllib.loads(file_system.in_conf("versions.toml").read_text("utf-8"))


# Spark's error for a data source that it does not have, and the sources that every
# Spark has.
_NO_SOURCE = re.compile(r"Failed to find (?:the )?data source: ([^\s,]+?)\.(?:\s|$)")
_OWN_SOURCES = (
    "console",
    "csv",
    "json",
    "memory",
    "noop",
    "orc",
    "parquet",
    "rate",
    "socket",
    "text",
    "xml",
)

_LISTS = ("spark.jars", "spark.jars.packages", "spark.sql.extensions")

# Environment variable: a folder of jars, for machines without a network
JARS = "SPARKSTREAM_JARS"


def connectors() -> dict[str, Connector]:
    """Return Spark's connectors for other systems and formats, by name."""
    from sparkstream_kit.connectors import AVRO, systems

    connectors_by_name = {"avro": AVRO}
    for name, system in systems().items():
        if system.connector:
            connectors_by_name[name] = system.connector
    return connectors_by_name


def coordinates(connector: Connector, spark: str) -> str | None:
    """Return a connector's Maven coordinates for a Spark version; None if it has none."""
    feature = ".".join(re.findall(r"\d+", spark)[:2])
    delta = versions().get(feature, {}).get("delta")
    if "{delta}" in connector.package and not delta:
        return None
    return connector.package.format(spark=spark, feature=feature, delta=delta)


def missing_source(error: BaseException) -> str | None:
    """Return a line with what to install if an error is about a missing data source; else None.

    Examples:
        >>> missing_source(ValueError("Failed to find the data source: parqet. Make …"))
        'Spark has no data source parqet; did you mean parquet?'
    """
    found = _NO_SOURCE.search(str(error))
    if found is None:
        return None
    name = found[1]
    near = hint(name, _OWN_SOURCES)
    if near:
        return f"Spark has no data source {name}{near}"
    if name.lower() in connectors():
        return missing(name.lower())
    return (
        f"Spark has no data source {name}; launch with spark-submit --packages"
        " ITS-PACKAGE, or give get_session(…, conf={'spark.jars.packages':"
        " 'ITS-PACKAGE'}) before Spark runs"
    )


def missing(name: str) -> str:
    """Return a line that explains how to launch Spark with a connector.

    Examples:
        >>> missing("kafka").partition(", or")[0]
        'Spark has no connector kafka; launch with spark-submit $(sparkstream connectors kafka) …'
    """
    return (
        f"Spark has no connector {name}; launch with spark-submit $(sparkstream"
        f" connectors {name}) …, or give get_session(…, connectors=[{name!r}]) before"
        " Spark runs"
    )


def check_session(spark: SparkSession, names: Collection[str]) -> None:
    """Refuse a session without a connector or a setting of it, before a query fails.

    Raises:
        InvalidInputError: the session lacks one, or there is no connector of that name.
    """
    reject_unknown("connector", names, connectors())
    for name in names:
        has_settings = _has_settings(spark, connectors()[name].settings)
        if not _has_source(spark, name) or not has_settings:
            raise InvalidInputError(missing(name))


def _has_settings(spark: SparkSession, settings: Mapping[str, str]) -> bool:
    """Return whether a session has the settings of a connector, alone or in a list."""
    return all(
        value in (spark.conf.get(key, None) or "") for key, value in settings.items()
    )


def _has_source(spark: SparkSession, name: str) -> bool:
    """Return whether a session has the data source of a connector."""
    try:
        _ = spark.read.format(name).load().schema
    except Exception as err:  # noqa: BLE001 - a connector that Spark has fails too, for lack of options
        return missing_source(err) is None
    return True


def needed(
    names: Iterable[str], spark: str, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the session settings that add connectors.

    If the environment variable SPARKSTREAM_JARS names a folder, the connectors' jars
    are taken from it; otherwise Spark downloads the packages.

    Args:
        names: the names of the connectors, keys of `connectors()`.
        spark: the version of Spark, such as "4.2.0".
        given: the settings of the user. If a setting is a list in both, the result has
            the items of both.

    Raises:
        InvalidInputError: an unknown connector, a connector without a package for this
            Spark, a folder in which one of the jars is missing, or a user's setting
            that contradicts one a connector needs.

    Examples:
        >>> needed(["kafka"], "4.2.0", {"spark.jars.packages": "a:b:1"})
        {'spark.jars.packages': 'a:b:1,org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0'}
    """
    folder = os.environ.get(JARS)
    before = given or {}
    lists: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        reject_unknown("connector", [name], connectors())
        connector = connectors()[name]
        if folder:
            lists.setdefault("spark.jars", []).extend(_in_folder(name, Path(folder)))
        else:
            package = _package(name, connector, spark)
            lists.setdefault("spark.jars.packages", []).append(package)
        for key, value in connector.settings.items():
            if key not in _LISTS and before.get(key, value) != value:
                raise InvalidInputError(
                    f"connector {name} needs {key}={value}, and not {before[key]};"
                    " leave that setting out"
                )
            lists.setdefault(key, []).append(value)
    settings = {}
    for key, values in lists.items():
        of_user = [value for value in before.get(key, "").split(",") if value]
        settings[key] = ",".join(dict.fromkeys(of_user + values))
    return settings


def _package(name: str, connector: Connector, spark: str) -> str:
    """Return a connector's Maven coordinates for a Spark version.

    Raises:
        InvalidInputError: it has no package for this version.
    """
    package = coordinates(connector, spark)
    if package is None:
        supported = [
            version for version in versions() if coordinates(connector, version)
        ]
        raise InvalidInputError(
            f"connector {name} has no package for Spark {spark}; use Spark"
            f" {' or '.join(supported)}, or name a folder with its jars: {JARS}=FOLDER"
        )
    return package


def _in_order(name: str) -> list[tuple[int, str]]:
    """Return a sort key by which 4.2.10 comes after 4.2.9.

    Numbers are compared as numbers, and other text as text.

    Examples:
        >>> _in_order("a-4.2.10.jar")
        [(-1, 'a-'), (4, ''), (-1, '.'), (2, ''), (-1, '.'), (10, ''), (-1, '.jar')]
    """
    parts = []
    for part in re.split(r"(\d+)", name):
        if part.isdecimal():
            parts.append((int(part), ""))
        else:
            parts.append((-1, part))
    return parts


def _in_folder(name: str, folder: Path) -> list[str]:
    """Return one jar in a folder for each prefix of a connector, of several the latest version."""
    latest = []
    for prefix in connectors()[name].jars:
        jars = list(folder.glob(f"{prefix}*.jar"))
        if not jars:
            raise InvalidInputError(
                f"connector {name}: {JARS}={folder} has no {prefix}*.jar; put it there,"
                f" or unset {JARS} to have Spark fetch it"
            )
        latest.append(str(max(jars, key=lambda jar: _in_order(jar.name))))
    return latest
