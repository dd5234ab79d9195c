"""The class-data archive: what a JVM has loaded of Spark, kept so that the next one need not load it again.

A third of the time to a first result goes into loading and checking some 15,000 classes. The archive is made
once, by `sparkstream warm` or by the set-up of this project, and each Java and each Spark has its own. From
Java 19 on the JVM renews it by itself, once it is there.

https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from sparkstream_kit import _files
from sparkstream_kit.errors import InvalidInputError

_RENEWS_ITSELF = 19  # the first Java that does
# Why an archive is left aside interests nobody who runs a job.
QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"


def java_options() -> str:
    """Return the flags that give a JVM the archive; none where there is none that fits.

    Example:
        >>> java_options() == "" or "-XX:SharedArchiveFile=" in java_options()
        True
    """
    try:
        archive = Archive.of_this_launch()
        if archive is None or not archive.usable():
            return ""
    except (InvalidInputError, OSError):  # no home folder, or files out of reach: there is no archive either
        return ""
    renewing = "-XX:+AutoCreateSharedArchive " if archive.renews_itself else ""
    # Without its check sums verified, a damaged archive crashes the JVM; to verify them costs nothing that
    # could be measured. Spark's launcher splits the options at blanks.
    return f'{renewing}"-XX:SharedArchiveFile={archive.path}" -XX:+VerifySharedSpaces {QUIET}'


@dataclass(frozen=True)
class Archive:
    """An archive's path, which names all that it depends on, so that what is stale is not even found."""

    path: Path
    renews_itself: bool

    @classmethod
    def of_this_launch(cls) -> Archive | None:
        """Return the archive, there or not, of the Java and the Spark that a launch from here would take."""
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

    def usable(self) -> bool:
        """Say whether the archive is there, as it was made: Java 17 crashes on one that is cut short."""
        if self.renews_itself:
            return self.path.exists()
        try:
            return self._note.read_text("utf-8") == str(self.path.stat().st_size)
        except OSError:
            return False

    def keep(self, made: Path) -> None:
        """Put a new archive in place, whole or not at all; what it replaces in this environment goes."""
        if _in_environment():  # else others may use what lies there
            for old in self.path.parent.glob(f"{self.path.name.partition('-')[0]}-*"):
                old.unlink(missing_ok=True)  # another `warm` may be at it
        size = made.stat().st_size
        made.chmod(0o600)  # who could write it could run what they like in our JVMs
        made.replace(self.path)
        _files.replace(self._note, [str(size)], private=True)

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(".jsa.size")


def _in_environment() -> bool:
    return sys.prefix != sys.base_prefix


def _folder() -> Path:
    """Return where archives are: in the virtual environment, with which they go, or in the user's cache."""
    return Path(sys.prefix, "share", "sparkstream-kit") if _in_environment() else _files.cache_folder()


def find_java() -> Path | None:
    """Return the Java that Spark's own scripts would start."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    return Path(os.path.realpath(java)) if java and Path(java).exists() else None


def _spark_jars() -> Path | None:
    home = os.environ.get("SPARK_HOME")
    root = Path(home) if home else _files.pyspark_folder()
    return root / "jars" if root and (root / "jars").is_dir() else None
