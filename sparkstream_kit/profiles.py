"""The profiles in `conf/`: settings in spark-defaults format, one file for each way of running.

Everything here works before Spark does and without it.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import re
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

from sparkstream_kit import _files
from sparkstream_kit._arguments import check
from sparkstream_kit._packages import java_options
from sparkstream_kit.errors import InvalidInputError, hint

__all__ = [
    "PROFILES",
    "STATE_STORE",
    "STATE_STORES",
    "is_local",
    "log4j2_file",
    "parse_properties",
    "read_profile",
    "submit_properties",
]

PROFILES = ("cluster", "local", "test")

STATE_STORE = "spark.sql.streaming.stateStore.providerClass"
# By the names that people use: https://spark.apache.org/docs/latest/structured-streaming-programming-guide.html
STATE_STORES = {
    "memory": "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider",
    "rocksdb": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
}

_opened = ExitStack()
atexit.register(_opened.close)


@functools.cache
def log4j2_file() -> Path:
    """Return the kit's log4j2.properties as a real file (out of a zip, one copy, which goes at exit)."""
    return _opened.enter_context(resources.as_file(_files.in_conf("log4j2.properties")))


def is_local(master: str) -> bool:
    """Say whether a master URL runs everything in the driver's own process.

    Examples:
        >>> is_local("local[2]"), is_local("spark://host:7077"), is_local("local-cluster[2,1,1024]")
        (True, False, False)
    """
    return master == "local" or master.startswith("local[")


def parse_properties(text: str, origin: str) -> dict[str, str]:
    r"""Read settings in spark-defaults format: a key, then white space, `=` or `:`, then the value.

    Args:
        text: the lines; `#` and `!` begin a comment.
        origin: where the text is from, for the message.

    Returns:
        The settings in the order in which they stand.

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
        found = re.fullmatch(r"(spark\.[^\s=:]+)(?>\s*[=:]\s*|\s+)(\S.*)", line)
        if not found:
            raise InvalidInputError(
                f"profile {origin}, line {number}: {line!r} is not a setting; write: spark.some.key value"
            )
        settings[found[1]] = found[2]
    return settings


def _text(profile: str) -> str:
    """Return the text of a profile, given by its name or by the path of a file."""
    if profile in PROFILES:
        return _files.in_conf(f"{profile}.conf").read_text("utf-8")
    path = Path(profile)
    if not path.exists():
        near = hint(profile, PROFILES)
        raise InvalidInputError(
            f"unknown profile {profile}{near}; known: {', '.join(PROFILES)}, or the path of a file"
        )
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidInputError(
            f"profile {profile} cannot be read: {err}; give a text file in spark-defaults format"
        ) from err


def read_profile(profile: str | Path) -> dict[str, str]:
    """Return the settings of a profile.

    Args:
        profile: `local`, `test`, `cluster`, or the path of a file in spark-defaults format.

    Raises:
        InvalidInputError: no such profile, a file that cannot be read, or a line that is no setting.

    Examples:
        >>> read_profile("local")["spark.sql.shuffle.partitions"]
        '2'
        >>> read_profile("locale")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown profile locale; did you mean local?; known: ...
    """
    check(read_profile, locals())
    return parse_properties(_text(str(profile)), str(profile))


def submit_properties(profile: str, folder: Path) -> Path:
    """Write a profile as a file for `spark-submit --properties-file`, with quiet logs and fast start.

    Under spark-submit the JVM starts before Python does, so what the JVM must know first can only come
    from such a file: the log settings, and the class-data archive of this machine's Java and Spark.

    Args:
        profile: as for `read_profile`.
        folder: where the file goes; made when it is missing. The same settings give the same file, which
            only this user can read: a profile may hold keys.

    Raises:
        InvalidInputError: as for `read_profile`.
    """
    check(submit_properties, locals())
    settings = read_profile(profile)
    _files.private_folder(folder)
    if profile != "cluster":
        log4j2 = folder / "log4j2.properties"
        # Whole: a JVM may read it right now.
        _files.replace(log4j2, [log4j2_file().read_text("utf-8")], private=True)
        flag = f'"-Dlog4j2.configurationFile={log4j2.resolve().as_uri()}"'
        given = settings.get("spark.driver.extraJavaOptions", "")
        options = (java_options(), given, flag)
        settings["spark.driver.extraJavaOptions"] = " ".join(option for option in options if option)
    body = "".join(f"{key} {value}\n" for key, value in settings.items())
    digest = hashlib.sha256(body.encode()).hexdigest()[:8]
    path = folder / f"{Path(profile).stem}-{digest}.conf"
    _files.replace(path, [body], private=True)
    return path
