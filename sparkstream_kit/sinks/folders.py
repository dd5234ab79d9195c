"""Start and run: guard the folders that Spark's file sink writes, each for its query.

It is the guard of `sinks.files` and `sinks.table`.

Spark's file sink records its batches in the log `_spark_metadata`. It silently skips a
batch whose number is in that log, whichever query wrote it, and Spark's readers ignore
files that are not in the log. If an earlier batch is missing from the log, the query
fails a few batches later and cannot recover. So `start` records beside the log which
query owns the folder, and checks that record and the log before the query starts, and
`run` looks at them after each batch and at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._internal.spark.place import id_in_checkpoint, is_unseen
from sparkstream_kit._internal.spark.queries import running
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.sinks.base import Look


_LOG = "_spark_metadata"
# In what `Sink.read` returns: the column with the batch that wrote a row
BATCH = "sparkstream_batch"
# A file with the owner's query id; readers skip names that begin with _
OWNER = "_sparkstream_query"


def check_log(what: str, folder: Place, checkpoint: Place) -> None:
    """Refuse a folder of Spark's file sink that does not match the query's checkpoint.

    In such a folder Spark would skip batches of the query, hide files that are already
    there, or fail later because batches are missing. A folder or a checkpoint that only
    a Spark Connect server reaches cannot be checked: a warning says so.

    Args:
        what: the folder as messages name it, such as "files: folder out".
        folder: the folder of the files, on any file system.
        checkpoint: the query's checkpoint.

    Raises:
        InvalidInputError: the folder does not match the checkpoint; the message says
            what to do.
    """
    if is_unseen(what, folder, checkpoint):
        return
    names = folder.names()
    written = highest(folder, _LOG)
    planned = highest(checkpoint, "offsets")
    committed = highest(checkpoint, "commits")
    noted_owner = _owner(folder)
    own_id = id_in_checkpoint(checkpoint)
    _refuse_running(what, noted_owner, own_id)
    # A query that has ended without a batch has left nothing of its own.
    owner = noted_owner if written >= 0 else ""
    is_first_start = planned < 0
    if owner:
        is_of_others = owner != own_id
    else:
        is_of_others = is_first_start and written >= 0
    others = ""
    if is_of_others:
        others = (
            f"the batches of another query ({owner or 'unknown'}), up to its batch"
            f" {written}"
        )
    elif is_first_start and any(not name.startswith((".", "_")) for name in names):
        others = "files that no query has written"
    if others:
        raise InvalidInputError(
            f"{what} has {others}, which Spark would take for this query's, or no"
            " longer show; start on the checkpoint of the query that wrote them, use"
            " another folder, or remove this one"
        )
    missing = _first_missing(folder.entries(_LOG), written)
    if missing is not None or written < 0 <= committed:
        lacks = "all batches" if missing is None else f"batch {missing}"
        raise InvalidInputError(
            f"{what} lacks {lacks} of this query: it was removed, emptied or made"
            " again, or is another folder than before, in which Spark's file sink"
            " cannot go on; restore it, or start anew with another target and another"
            " checkpoint (sinks.batch_files can go on in a new folder, with"
            " continues=)"
        )
    _refuse_other_batches(what, checkpoint, written, planned, committed)


def _refuse_running(what: str, noted_owner: str, own_id: str | None) -> None:
    """Refuse a folder that another query has claimed and that runs; it may not have written yet."""
    names = {str(query.id): query.name for query, _ in running()}
    if noted_owner in names and noted_owner != own_id:
        raise InvalidInputError(
            f"{what} is written by query {names[noted_owner]}, which runs; end that query"
            " first, or give each query a target of its own"
        )


def _refuse_other_batches(
    what: str, checkpoint: Place, written: int, planned: int, committed: int
) -> None:
    """Refuse a folder whose last batch does not fit those of the checkpoint.

    Args:
        what: the folder, for messages.
        checkpoint: the query's checkpoint.
        written: the last batch in the folder's log.
        planned: the last batch that the checkpoint has a plan of.
        committed: the last batch that the checkpoint has a commit of.
    """
    if written > planned:
        raise InvalidInputError(
            f"{what} has batches up to {written}, and checkpoint {checkpoint} was"
            f" rewound or restored to batch {planned}: Spark would skip what comes"
            " between by its number, whatever is in it; start anew with another folder"
            " and another checkpoint"
        )
    if written < committed:
        raise InvalidInputError(
            f"{what} has batches up to {written} only, and checkpoint {checkpoint} has"
            f" committed batches up to {committed}: the others are missing; put the"
            " folder back as it was, or start anew with another folder and another"
            " checkpoint"
        )


def _first_missing(entries: Mapping[int, str], last: int) -> int | None:
    """Return the first batch up to `last` that a log of Spark's file sink lacks, or None.

    The log begins with batch 0, or with the last compacted entry, which lists all files
    up to its batch.
    """
    compacted = [
        number for number, name in entries.items() if name.endswith(".compact")
    ]
    first = max(compacted, default=0)
    for number in range(first, last + 1):
        if number not in entries:
            return number
    return None


def claim(folder: Place, checkpoint: Place | None) -> Look | None:
    """Record in a folder the id of the query that owns it, and return what looks at the folder.

    The id is recorded on file systems with an atomic rename. On others, such as S3, the
    record could not be replaced in one step.

    Args:
        folder: the folder of the files.
        checkpoint: the checkpoint of the query, which holds its id.

    Returns:
        What is called with the query's last batch, and returns what the folder has lost,
        with a way out, or None. It writes the record again if that alone is missing, as
        no row is lost then. None without a checkpoint, and for folders that are not in
        reach.
    """
    if checkpoint is None or not (checkpoint.is_in_reach and folder.is_in_reach):
        return None
    query = id_in_checkpoint(checkpoint)
    if query is None:
        return None
    is_recorded = folder.renames_in_one_step
    if is_recorded and _owner(folder) != query:
        folder.write(OWNER, f"{query}\n")

    def look(batch: int) -> str | None:
        where = folder.folder or folder
        missing = _first_missing(folder.entries(_LOG), batch)
        if missing is not None:
            return (
                f"folder {where} lacks batch {missing} of this query: it was removed,"
                " emptied or made again while the query wrote to it; restore it, or"
                " start anew with another target and another checkpoint"
            )
        owner = _owner(folder)
        if not is_recorded or owner == query:
            return None
        if owner:
            return (
                f"folder {where} was taken by another query ({owner}) while this one"
                " wrote to it: Spark skips the batches of one of them by their numbers;"
                " start anew with another target and another checkpoint"
            )
        folder.write(OWNER, f"{query}\n")
        return None

    return look


def _owner(folder: Place) -> str:
    """Return the id of the query that a folder's record names; empty without a record."""
    return (folder.read(OWNER) or "").strip()


def highest(place: Place, log: str) -> int:
    """Return the highest number in a numbered log or among the epochs; -1 if none."""
    return max(place.entries(log), default=-1)
