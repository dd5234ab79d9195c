"""The archive of loaded classes, with which a JVM starts sooner: where it is, and the flags to use it.

A third of the time to the first result is spent on loading and checking some 15,000 classes. The archive
holds these classes, loaded and checked. `sparkstream warm` or the set-up of this project makes it once for
each combination of Java and Spark. From Java 19 on, the JVM renews an existing archive by itself.
`java_options` returns the flags, which each launch asks for.

https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sparkstream_kit import _files
from sparkstream_kit.errors import InvalidInputError

_RENEWS_ITSELF = 19  # the first version of Java that renews the archive
# Silences the JVM's log of why it does not use an archive, which does not concern someone who runs a job.
QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"


def java_options() -> str:
    """Return the JVM flags to use the class-data archive; an empty string if no archive fits.

    Examples:
        >>> java_options() == "" or "-XX:SharedArchiveFile=" in java_options()
        True
    """
    with suppress(InvalidInputError, OSError):  # no home folder, or unreadable files: no archive can be used
        if (archive := Archive.of_this_launch()) is not None and archive.path.exists():
            renewing = "-XX:+AutoCreateSharedArchive " if archive.renews_itself else ""
            # A damaged archive crashes the JVM unless its checksums are verified; verifying takes no
            # measurable time. The path is quoted because Spark's launcher splits the options at blanks.
            return f'{renewing}"-XX:SharedArchiveFile={archive.path}" -XX:+VerifySharedSpaces {QUIET}'
    return ""


class Archive(NamedTuple):
    """A class-data archive. Its path names all that it depends on, so that a stale one is not found."""

    path: Path
    renews_itself: bool

    @classmethod
    def of_this_launch(cls) -> Archive | None:
        """Return the archive for the Java and Spark that would be launched now; its file may not exist."""
        java, jars = find_java(), _spark_jars()
        if java is None or jars is None:
            return None
        file = java.parent.parent / "release"
        release = file.read_text("utf-8") if file.is_file() else ""
        version = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
        major = int(version[1]) if version else 0
        parts = [str(java), release, os.environ.get("SPARK_CONF_DIR", ""), str(jars)]
        for file in (java, *sorted(jars.glob("*.jar"))):
            stat = file.stat()
            parts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        return cls(_folder() / f"java{major}-{key}.jsa", major >= _RENEWS_ITSELF)

    def keep(self, made: Path) -> None:
        """Install a new archive as a whole; in a virtual environment, remove those that it replaces."""
        if _in_environment():  # the user's cache is shared, and others may use the archives there
            for old in self.path.parent.glob(f"{self.path.name.partition('-')[0]}-*"):
                old.unlink(missing_ok=True)  # another `warm` may have removed it
        made.chmod(0o600)  # anyone who can write to the archive can run code in our JVMs
        with made.open("rb") as file:
            os.fsync(file.fileno())  # Java 17 crashes on an archive that a power cut has left short
        made.replace(self.path)


def _in_environment() -> bool:
    return sys.prefix != sys.base_prefix


def _folder() -> Path:
    """Return the folder for archives: in the virtual environment, or without one in the user's cache."""
    return Path(sys.prefix, "share", "sparkstream-kit") if _in_environment() else _files.cache_folder()


def find_java() -> Path | None:
    """Return the path of the Java that Spark's own scripts would start, or None."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    return Path(os.path.realpath(java)) if java and Path(java).exists() else None


def _spark_jars() -> Path | None:
    home = os.environ.get("SPARK_HOME")
    root = Path(home) if home else _files.pyspark_folder()
    return root / "jars" if root and (root / "jars").is_dir() else None
