"""The order of files: Spark reads them by their times, and those of one time in the order of its listing.

Files that are copied together often have one time, to the millisecond. Spark lists a local folder in no
order, so that their rows may come in any order, and late for a watermark. A pattern is listed by names, as
HDFS and object stores list a folder.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from sparkstream_kit._files import IN_ORDER
from sparkstream_kit._spark.place import locate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column, SparkSession

# From so many paths on, Spark lists them in a job of as many tasks, before each batch.
_JOBS_FROM = "spark.sql.sources.parallelPartitionDiscovery.threshold"


def by_name(
    spark: SparkSession, path: str, place: str, options: Mapping[str, Any]
) -> tuple[str, Column | None]:
    """Return the path by which Spark lists the files of a folder by their names, where that matters.

    A pattern for the files of a folder matches its subfolders, too, so that their files must be left out.

    Args:
        spark: the session.
        path: the path as the user wrote it.
        place: the same as Spark must be given it.
        options: all options of the source.

    Returns:
        The path, and the rows to keep. It is `place`, and None, where no two files have one time, where a
        batch takes them all, or where no pattern does: with subfolders that are read, with a pattern of the
        user's, with a colon in a name, and where Spark would start a job to list so many paths.
    """
    folder = locate(spark, path).folder
    if folder is None or not folder.is_dir():
        return place, None
    given = {name.lower(): str(value) for name, value in options.items()}
    with os.scandir(folder) as entries:
        found = list(entries)
    files = [entry for entry in found if entry.is_file() and not entry.name.startswith((".", "_"))]
    below = given.get("recursivefilelookup", "").lower() == "true" or any(
        "=" in entry.name for entry in found if entry.is_dir()
    )
    most = int(spark.conf.get(_JOBS_FROM) or 0)
    # Hadoop fails at a pattern in a folder with such a name (HADOOP-14217).
    below = below or any(":" in entry.name for entry in found)
    if below or len(found) > most or not _split_ties(files, given):
        return place, None
    depth = len(folder.parts) - 1
    only = F.col("_metadata.file_path").rlike(f"^file:/+([^/]+/){{{depth}}}[^/]+$")
    return place.rstrip("/") + IN_ORDER, only


def _split_ties(files: list[os.DirEntry[str]], options: Mapping[str, str]) -> bool:
    """Say whether some files have one time, and a batch does not take them all."""
    times, size = Counter[int](), 0
    for file in files:
        with suppress(FileNotFoundError):  # it went at this moment
            told = file.stat()
            times[told.st_mtime_ns // 1_000_000] += 1
            size += told.st_size
    if max(times.values(), default=0) < 2:  # noqa: PLR2004 - a tie is of two
        return False
    most_files, most_bytes = options.get("maxfilespertrigger"), options.get("maxbytespertrigger", "")
    if most_files is not None:
        return not most_files.isdigit() or int(most_files) < len(files)
    return not most_bytes.isdigit() or int(most_bytes) < size
