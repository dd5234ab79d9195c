"""Whether a query may append files to a folder: Spark's log of the folder, held against the checkpoint.

In `_spark_metadata` Spark notes each batch that is in the folder. Without a word it skips a batch whose
number stands there, whichever query wrote it, and its readers show no file that is not noted. Where an
earlier batch is missing, the query fails some batches later, for good. So `start` notes beside it which
query writes there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._spark.batch import id_in_checkpoint
from sparkstream_kit._spark.place import through_spark
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sparkstream_kit._spark.place import Place

__all__ = ["OWNER", "check_log", "claim"]

_LOG = "_spark_metadata"
OWNER = "_sparkstream_query"  # a file with the query's id; readers skip what begins with _


def check_log(spark: SparkSession, what: str, folder: Place, checkpoint: Place) -> None:
    """Refuse a folder in which Spark would skip batches of the query, or that lacks some, or hides files.

    On a Spark Connect server elsewhere only the first start of a query is checked, for a folder with files.

    Args:
        spark: the session.
        what: the folder, for messages.
        folder: where the files are, on any file system.
        checkpoint: the query's.

    Raises:
        InvalidInputError: a refusal, with the way out.
    """
    if not folder.is_in_reach:
        is_new = through_spark(spark, f"{checkpoint}/offsets") is None
        found = through_spark(spark, folder.text, below=True) if is_new else None
        if found is not None and found.inputFiles():  # of any format, and without a job
            raise _of_others(what, "has files already")
        return
    names = folder.names()
    written = _newest(folder, _LOG)
    owner = folder.read(OWNER) if written >= 0 and OWNER in names else None
    if owner is not None and owner.strip() != id_in_checkpoint(checkpoint):
        raise _of_others(
            what, f"has the batches of another query ({owner.strip()}), up to its batch {written}"
        )
    planned, committed = (_newest(checkpoint, log) for log in ("offsets", "commits"))
    if planned < 0 <= written:
        raise _of_others(what, f"has the batches of another query, up to its batch {written}")
    if planned < 0 and any(not name.startswith((".", "_")) for name in names):
        raise _of_others(what, "has files that no query has written")
    if written > planned:
        raise InvalidInputError(
            f"{what} has batches up to {written}, and checkpoint {checkpoint} was rewound or restored to "
            f"batch {planned}: Spark would skip what comes between by its number, whatever is in it; start "
            "anew with another folder and another checkpoint"
        )
    if written < committed:
        has = f"batches up to {written} only" if written >= 0 else "no batch of a query"
        raise InvalidInputError(
            f"{what} has {has}, and checkpoint {checkpoint} has committed batches up to {committed}: the "
            "others are missing; put the folder back as it was, or start anew with another folder and "
            "another checkpoint"
        )


def claim(folder: Place, checkpoint: Place | None) -> None:
    """Note in a folder which query writes there, where a file can be put in place whole."""
    query = None if checkpoint is None else id_in_checkpoint(checkpoint)
    if query is None or not folder.is_in_reach:
        return
    if folder.renames_in_one_step and folder.read(OWNER) != f"{query}\n":
        folder.write(OWNER, f"{query}\n")


def _of_others(what: str, has: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} {has}, which Spark would take for this query's, or no longer show; start on the checkpoint "
        "of the query that wrote them, use another folder, or remove this one"
    )


def _newest(place: Place, log: str) -> int:
    """Return the highest batch of one of Spark's logs; -1 if it has none."""
    return max(place.entries(log), default=-1)
