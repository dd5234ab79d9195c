"""Folders of versions: what is there, what is current, and how a version comes there whole."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _files
from sparkstream_kit._arguments import check, said
from sparkstream_kit._spark.place import locate
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.models.estimators import pickled

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "CURRENT",
    "FILE",
    "current",
    "find",
    "folder_of",
    "learned",
    "name_of",
    "publish",
    "switch",
    "without",
]

CURRENT, FILE = "current", ".joblib"


def publish(model: Any, path: str | Path, version: str | None = None) -> Path:
    """Save a model as a new version and make it the current one, each in one step that a reader sees whole.

    Args:
        model: a fitted `pyspark.ml.PipelineModel`, or a model of scikit-learn.
        path: a folder of versions on a local path; it is made when it is missing.
        version: the name, such as "2"; a version that is there is never replaced. Default: the time (UTC).

    Returns:
        The file or folder of the version.

    Raises:
        InvalidInputError: the path is not local, the version is there or cannot name a file, or the model is
            none.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> publish(None, "models/spam", "1")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: models.publish(): model is None; give a fitted ...
    """
    check(publish, locals())
    folder = folder_of(path)
    version = f"{datetime.now(UTC):%Y%m%dT%H%M%S}" if version is None else version
    if not re.fullmatch(r"\w[\w.-]*", version) or version == CURRENT or version.endswith(FILE):
        raise InvalidInputError(
            f"version {version!r} cannot name a file; use letters, digits, - and _, such as '2'"
        )
    if version in _versions_in(folder):
        raise InvalidInputError(
            f"version {version} of {folder} exists, and batches that come again are scored by it; give "
            "another name, or models.switch to make it current"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "write") and hasattr(model, "transform"):
        target = folder / version
        hidden = folder / f".{version}.{os.getpid()}.tmp"
        model.write().overwrite().save(_files.for_spark(hidden))
        hidden.rename(target)
    elif hasattr(model, "predict"):
        target = folder / f"{version}{FILE}"
        _files.replace(target, [pickled(model)])
    else:
        raise InvalidInputError(
            f"models.publish(): model is {said(model)}; give a fitted PipelineModel of pyspark.ml, or a "
            "model of scikit-learn"
        )
    switch(folder, version)
    return target


def switch(path: str | Path, version: str) -> None:
    """Make another version the current one, such as an earlier one; batches that were begun keep theirs.

    Args:
        path: a folder of versions on a local path.
        version: one that is there.

    Raises:
        InvalidInputError: the path is not local, or there is no such version.
    """
    check(switch, locals())
    folder = folder_of(path)
    _refuse_unknown(folder, version)
    _files.replace(folder / CURRENT, [version + "\n"])


def folder_of(path: str | Path) -> Path:
    """Return a folder of versions, which must be on a local path."""
    plain = _files.plain(str(path))
    if plain is None:
        raise InvalidInputError(
            f"models {path}: only on a local path does a version become current in one step; give a local "
            "one, or score with a fixed version (models.score)"
        )
    return Path(plain).absolute()


def _versions_in(folder: Path) -> list[str]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(FILE) for name in names if name != CURRENT and name[0] != ".")


def current(folder: Path) -> str:
    """Return the version in use."""
    file = folder / CURRENT
    if not file.is_file():
        there = ", ".join(_versions_in(folder))
        if there:
            fix = f"make one so by models.switch({str(folder)!r}, …) with one of: {there}"
        else:
            fix = "publish one by models.publish (of the job score_posts: LABELLED_DIR MODEL --train spark)"
        raise InvalidInputError(f"no model of {folder} is current; {fix}")
    return file.read_text("utf-8").strip()


def name_of(query: str) -> str:
    """Return how the names begin of the versions that a query learns."""
    return f"learned-{query[:8]}-"


def learned(version: str, query: str) -> int:
    """Return the last batch of a query that a version has learned; -1 of a version that it did not make."""
    number = version.removeprefix(name_of(query))
    return int(number) if number != version else -1


def without(batch_id: int, query: str, folder: Path) -> str:
    """Return the version in use, or, if that has learned a batch of the query, its last one without it.

    The version in use has learned the batch where the query's checkpoint is older than the models.

    Raises:
        InvalidInputError: no version from before the batch is left.
    """
    now = current(folder)
    if learned(now, query) < batch_id:
        return now
    earlier = [name for name in _versions_in(folder) if -1 < learned(name, query) < batch_id]
    if not earlier:
        raise InvalidInputError(
            f"models {folder}: version {now} has learned batch {batch_id} of this query already, and none "
            "of the query's versions from before it is left; make one current that has not learned the "
            f"batch: models.switch({str(folder)!r}, 'VERSION')"
        )
    return max(earlier, key=lambda name: learned(name, query))


def _refuse_unknown(folder: Path, version: str) -> None:
    if version not in (there := _versions_in(folder)):
        near = hint(version, there) or f"; there are: {', '.join(there) or 'none'}"
        raise InvalidInputError(f"{folder} has no version {version!r}{near}")


def find(spark: SparkSession, path: str | Path, version: str | None) -> tuple[Path | str, str]:
    """Return a model's file, or its folder as Spark is to be given it, and its version."""
    plain = _files.plain(str(path))
    if plain is not None and Path(plain).is_file():
        return Path(plain), version or Path(plain).name.removesuffix(FILE)
    place = locate(spark, path)
    if place.folder is None:  # where only Spark can look
        return place.text, version or place.text.rstrip("/").rpartition("/")[2]
    folder = place.folder
    if (folder / "metadata").is_dir():
        return _files.for_spark(folder), version or folder.name
    if not folder.is_dir():
        raise InvalidInputError(
            f"no model {path}; give a folder of pyspark.ml, a file, or a folder of versions"
        )
    if version is None:
        there = ", ".join(_versions_in(folder)) or "none"
        raise InvalidInputError(
            f"{path} is no model but a folder of versions ({there}); give version=, or use models.scorer for "
            "the one that is current"
        )
    _refuse_unknown(folder, version)
    file = folder / f"{version}{FILE}"
    return (file, version) if file.is_file() else (_files.for_spark(folder / version), version)
