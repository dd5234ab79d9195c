"""Start and run: the profiles in `conf/`, Spark's settings for each way of running.

They are in the format of spark-defaults.

A profile is `local`, `test` or `cluster`, or a file of the user's.
`session.get_session` applies one with `read_profile`, and `submit_properties` writes
one as a properties file for spark-submit. Nothing here needs a running Spark or imports
PySpark.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import re
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check
from sparkstream_kit.errors import InvalidInputError, hint

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = [
    "PROFILES",
    "is_local",
    "parse_properties",
    "read_profile",
    "submit_properties",
]

PROFILES = ("cluster", "local", "test")

STATE_STORE = "spark.sql.streaming.stateStore.providerClass"
# State stores by their common names; the values are Spark's provider classes:
# https://spark.apache.org/docs/latest/structured-streaming-programming-guide.html
STATE_STORES = {
    "memory": (
        "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider"
    ),
    "rocksdb": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
}

_opened = ExitStack()
atexit.register(_opened.close)


@functools.cache
def log4j2_file() -> Path:
    """Return the path of the kit's log4j2.properties.

    If the kit runs from a zip, the path is that of one extracted copy, which is deleted
    at exit.
    """
    return _opened.enter_context(
        resources.as_file(file_system.in_conf("log4j2.properties"))
    )


def is_local(master: str) -> bool:
    """Find out whether a master URL runs everything in the driver's own process.

    Examples:
        >>> is_local("local[2]"), is_local("spark://host:7077"), is_local("local-cluster[2,1,1024]")
        (True, False, False)
    """
    return master == "local" or master.startswith("local[")


def parse_properties(text: str, origin: str) -> dict[str, str]:
    r"""Read settings in spark-defaults format: a key, then white space, `=` or `:`, then the value.

    Args:
        text: the lines of the file; a line that begins with `#` or `!` is a comment.
        origin: the profile's name or path, for error messages.

    Returns:
        The settings by key, in the order of the lines.

    Raises:
        InvalidInputError: a line has no value, or a key does not begin with `spark.`.

    Examples:
        >>> parse_properties("# a comment\nspark.sql.shuffle.partitions  2", "local.conf")
        {'spark.sql.shuffle.partitions': '2'}
    """
    settings = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#!":
            continue
        # Such as: spark.ui.enabled false, or spark.ui.enabled=false
        found = re.fullmatch(r"(spark\.[^\s=:]+)(?>\s*[=:]\s*|\s+)(\S.*)", line)
        if not found:
            raise InvalidInputError(
                f"profile {origin}, line {number}: {line!r} is not a setting; write:"
                " spark.some.key value"
            )
        settings[found[1]] = found[2]
    return settings


def read_profile(profile: str | Path) -> dict[str, str]:
    """Read the settings of a profile.

    Args:
        profile: `local`, `test`, `cluster`, or the path of a file in spark-defaults
            format.

    Returns:
        The settings by key, in the order of the file's lines.

    Raises:
        InvalidInputError: the profile is unknown, its file cannot be read, or a line is
            not a setting.

    Examples:
        >>> read_profile("local")["spark.sql.shuffle.partitions"]
        '2'
        >>> read_profile("locale")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown profile locale; did you mean local?
    """
    check(read_profile, locals())
    name = str(profile)
    if name not in PROFILES and not Path(name).exists():
        known = f"; known: {', '.join(PROFILES)}, or the path of a file"
        raise InvalidInputError(
            f"unknown profile {name}{hint(name, PROFILES) or known}"
        )
    file: Traversable = Path(name)
    if name in PROFILES:
        file = file_system.in_conf(f"{name}.conf")
    try:
        return parse_properties(file.read_text("utf-8"), name)
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidInputError(
            f"profile {name} cannot be read: {err}; give a text file in spark-defaults"
            " format"
        ) from err


def submit_properties(profile: str, folder: Path) -> Path:
    """Write a profile for `spark-submit --properties-file`: quiet, with a fast start.

    Under spark-submit the JVM starts before Python, so settings that the JVM needs at
    its start can only come from such a file: the log settings, and the class-data
    archive of this machine's Java and Spark. The profile `cluster` gets neither.

    Args:
        profile: as for `read_profile`.
        folder: the folder for the file, which is created if it is missing. The same
            settings are always written to the same file. Only this user can read it,
            because a profile may contain keys.

    Returns:
        The path of the file.

    Raises:
        InvalidInputError: as for `read_profile`.
    """
    check(submit_properties, locals())
    settings = read_profile(profile)
    file_system.private_folder(folder)
    if profile != "cluster":
        # For a session of this process's own JVM
        from sparkstream_kit._internal.java import java_options

        log4j2 = folder / "log4j2.properties"
        # Replace the file atomically, because a JVM may be reading it.
        file_system.replace(log4j2, [log4j2_file().read_text("utf-8")], private=True)
        flag = f'"-Dlog4j2.configurationFile={log4j2.resolve().as_uri()}"'
        of_profile = settings.get("spark.driver.extraJavaOptions", "")
        options = filter(None, (java_options(), of_profile, flag))
        settings["spark.driver.extraJavaOptions"] = " ".join(options)
    body = "".join(f"{key} {value}\n" for key, value in settings.items())
    digest = hashlib.sha256(body.encode()).hexdigest()[:8]
    path = folder / f"{Path(profile).stem}-{digest}.conf"
    file_system.replace(path, [body], private=True)
    return path
