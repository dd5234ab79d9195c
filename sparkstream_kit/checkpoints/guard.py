"""Check before a start that a checkpoint is whole and fits the query and its inputs.

`start` calls `guard` with a query. `guard` locks the checkpoint and runs the checks in
`QUESTIONS`, at the end of this module. Each check refuses the checkpoint, or yields
answers: a `Remark` to log, a `Change` to make, or a `Known` to note in the checkpoint
for the next start.

A source of another system adds its own checks: `start` takes them from the module of
the system.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from sparkstream_kit._internal.spark.logical_plan import file_options, has, inputs_of
from sparkstream_kit._internal.spark.place import is_unseen, refuse_many_disks
from sparkstream_kit._internal.spark.session import active, in_force
from sparkstream_kit.checkpoints.damage import gone, restart
from sparkstream_kit.checkpoints.drain import drained
from sparkstream_kit.checkpoints.fingerprint import (
    WATERMARK,
    differences,
    fingerprint,
    is_part,
)
from sparkstream_kit.checkpoints.lock import Lock, lock
from sparkstream_kit.checkpoints.logs import CONTINUED, Logs, at_hand, write_note
from sparkstream_kit.checkpoints.moved import bases, find_moves, rewrite
from sparkstream_kit.checkpoints.trim import due, max_age
from sparkstream_kit.errors import InvalidInputError, count, innermost_cause
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._internal.spark.logical_plan import Input
    from sparkstream_kit._internal.spark.place import Place

    Question = Callable[["Query", Logs], Iterable["Answer"]]


_log = logging.getLogger(__name__)

_one_at_a_time = threading.RLock()
_ENCODING = "spark.sql.streaming.stateStore.encodingFormat"
_NAMED = "spark.sql.streaming.queryEvolution.enableSourceEvolution"
_FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"

# Settings that Spark takes from the checkpoint at a restart, whatever the session's
# values: key and name.
KEPT = {
    "spark.sql.shuffle.partitions": "number of state partitions",
    STATE_STORE: "state store",
}


class Remark(NamedTuple):
    """A warning for the user; the query may start."""

    what: str


class Change(NamedTuple):
    """A change that a checkpoint needs before Spark may use it.

    Attributes:
        what: the change, in words.
        make: makes the change; not called in a dry run.
    """

    what: str
    make: Callable[[], None]


class Known(NamedTuple):
    """A value to note with the query in the checkpoint for the next start, unless it is empty."""

    name: str
    value: Any


Answer = Remark | Change | Known


@dataclass(frozen=True)
class Query:
    """A query that is about to start on a checkpoint.

    Attributes:
        frame: the query's streaming DataFrame.
        name: the query's name, for messages.
        mode: the output mode.
        allow_changed: start even if a different query wrote the checkpoint.
        moved: folders of input files that have moved since the last start, as {old:
            new}.
    """

    frame: DataFrame
    name: str
    mode: str
    allow_changed: bool
    moved: Mapping[str | Path, str | Path]

    @property
    def spark(self) -> SparkSession:
        """The session of the query."""
        return self.frame.sparkSession

    def differences(self, kept: str) -> list[str]:
        """Return a phrase for each difference between this query and the one with a fingerprint."""
        caseless = self.spark.conf.get("spark.sql.caseSensitive") != "true"
        return differences(kept, self.described["fingerprint"], caseless=caseless)

    @contextmanager
    def in_force(self, more: Mapping[str, str] | None = None) -> Iterator[None]:
        """Apply in a block the settings that the query starts with; no other query starts then.

        Spark starts a query with the settings that the session has, also those of
        another thread's block. The session is the active one of this thread meanwhile,
        as it is in the thread that has created it.

        These are the state-store settings that `transformWithState` needs; none for
        other queries. Spark refuses such a query without RocksDB. With state encoded in
        Avro, the next version of the job can add fields, but Spark supports Avro for no
        other stateful operator, so it is used only if there is none.
        https://spark.apache.org/docs/latest/streaming/structured-streaming-transform-with-state.html

        Args:
            more: further settings.
        """
        wanted = dict(more or {})
        if has(self.frame, "TransformWithState"):
            wanted[STATE_STORE] = STATE_STORES["rocksdb"]
            if not has(
                self.frame,
                "Aggregate|Deduplicate|Distinct|FlatMapGroups|GlobalLimit|Join",
            ):
                wanted[_ENCODING] = "avro"
        with (
            in_force(self.spark, wanted, alone=True),
            _one_at_a_time,
            active(self.spark),
        ):
            yield

    @cached_property
    def inputs(self) -> list[Input]:
        """The sources of the query."""
        return inputs_of(self.frame)

    @cached_property
    def described(self) -> dict[str, Any]:
        """The note about the query for its checkpoint.

        It has the name, mode and fingerprint, and the options by which a Delta source
        leaves out rows.
        """
        kept = fingerprint(self.frame, self.mode)
        found: dict[str, Any] = {
            "name": self.name,
            "mode": self.mode,
            "fingerprint": kept,
        }
        if left_out := {
            each.log: each.leaves_out for each in self.inputs if each.leaves_out
        }:
            found["left out"] = left_out
        return found


class Guarded(NamedTuple):
    """A checkpoint that has passed all checks, for the caller of `guard`.

    Attributes:
        lock: the lock on the checkpoint, which the caller ties to the query with
            `until_end_of`; None if the checkpoint is not locked.
        logs: the logs of the checkpoint, or of a copy that is removed after the block;
            None if there is no checkpoint within reach.
        note: writes to the checkpoint which query uses it; to be called once the query
            has started.
        changes: what was changed in the checkpoint, or in a dry run would be, in words.
    """

    lock: Lock | None
    logs: Logs | None
    note: Callable[[], None]
    changes: tuple[str, ...] = ()


@contextmanager
def guard(
    query: Query,
    checkpoint: Place | None,
    of_systems: Callable[[Query], Iterable[Question]] = lambda _: (),
    *,
    writes: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> Iterator[Guarded]:
    """Check that a query may continue from a checkpoint, and lock the checkpoint.

    Start the query in the `with` block, and call `note` there once it runs: a query
    that could not start must not become the owner of the checkpoint. After an error in
    the block the lock is released, so the caller must stop a query that is already
    running before it raises.

    The guard refuses a local path that other nodes cannot reach, a checkpoint that
    another live driver uses, and whatever a check in `QUESTIONS` refuses. After all
    checks have passed, the guard makes their changes, then logs their remarks and
    planned input files that no longer exist: their batch would be replayed without the
    files' rows.

    For a checkpoint that is not on a local path, as on HDFS, the guard checks a copy of
    the logs and locks nothing. A checkpoint that only a Spark Connect server reaches is
    not checked, and a warning says so.

    Args:
        query: the query. If it is allowed to be another one than wrote the checkpoint,
            it is noted.
        checkpoint: the checkpoint; without one nothing is checked.
        of_systems: returns the checks of the systems that a query reads; they run after
            those in `QUESTIONS`.
        writes: what to note about the query's sinks: for `checkpoints.rewind`, what
            each sink does with replayed batches; for `start(…, continues=…)`, the
            targets and the columns that are written.
        dry_run: check everything, but lock and change nothing.

    Yields:
        The lock and logs of the checkpoint, and the function that notes the query.

    Raises:
        InvalidInputError: a refusal; the message says how to proceed.
    """
    spark = query.spark
    name = query.name
    if checkpoint is None or is_unseen(f"query {name}: its checkpoint", checkpoint):
        yield Guarded(None, None, lambda: None)
        return
    refuse_many_disks(spark, "checkpoint", checkpoint.text)
    held = lock(spark, checkpoint, name, dry_run=dry_run)
    try:
        with at_hand(checkpoint) as logs:
            asked = (*QUESTIONS, *of_systems(query))
            answers = [answer for question in asked for answer in question(query, logs)]
            kept = logs.note
            changes = [answer for answer in answers if isinstance(answer, Change)]
            known = {
                each.name: each.value
                for each in answers
                if isinstance(each, Known) and each.value
            }
            said = [answer.what for answer in answers if isinstance(answer, Remark)]
            for change in () if dry_run else changes:
                change.make()
            for line in said:
                _log.warning("%s", line)
            if lost := list(gone(logs)):
                more = f", and {len(lost) - 1:,} more" if lost[1:] else ""
                _log.warning("query %s: %s%s; %s", name, lost[0], more, lost[0].fix)

            def note() -> None:
                noted = {**query.described, **known, **(writes or {})}
                if kept and any(
                    kept.get(each) != noted.get(each)
                    for each in ("fingerprint", "columns")
                ):
                    # Spark may yet refuse the state
                    noted["before"] = [logs.done, {**kept, "before": None}]
                if noted != kept:
                    write_note(checkpoint, noted)

            with in_force(spark, _file_manager(spark, checkpoint)), _explained(logs):
                yield Guarded(
                    held, logs, note, tuple(change.what for change in changes)
                )
    except BaseException:
        if held is not None:
            held.release()
        raise


@contextmanager
def _explained(logs: Logs) -> Iterator[None]:
    """Turn an error of Spark in the block into one that names the damaged file, if there is one.

    Spark's own message often does not name the file, or the way out.

    Raises:
        InvalidInputError: the checkpoint is damaged.
    """
    try:
        yield
    except (Py4JError, PySparkException) as err:
        cause = innermost_cause(err)
        if found := explained(logs.again(), f"{cause}\n{err}"):
            raise InvalidInputError(f"{found} (Spark: {cause})") from err
        raise


def explained(logs: Logs, cause: str = "", *, only_cause: bool = False) -> str | None:
    """Return in one line what is wrong with a checkpoint, and the way out; else None.

    Args:
        logs: the logs of the checkpoint.
        cause: the text of Spark's error, if there is one.
        only_cause: do not look at the files.
    """
    from sparkstream_kit.checkpoints.operate import check  # only then is it needed

    return (None if only_cause else check.damage(logs)) or check.unreadable(logs, cause)


def _is_whole(_query: Query, logs: Logs) -> Iterable[Answer]:
    """Refuse a checkpoint that is damaged, drained, or continued elsewhere by a changed query.

    The messages are clearer than Spark's.
    """
    damaged = False
    # The format of a newer Spark: nothing shows that it is damaged
    with suppress(InvalidInputError):
        damaged = any(True for _ in restart(logs))
    if found := (damaged and explained(logs)) or drained(logs) or continued(logs):
        raise InvalidInputError(found)
    return ()


def continued(logs: Logs, by: Path | None = None) -> str | None:
    """Return the refusal of a checkpoint that a changed query continued on another; else None.

    Args:
        logs: the logs of the checkpoint.
        by: the new checkpoint that may continue it; one that continues there already is
            no reason to refuse.
    """
    file = logs.root / CONTINUED
    if not file.exists() or (new := file.read_text("utf-8")) == str(by):
        return None
    return (
        f"checkpoint {logs.root} was continued by a changed query on {new}; start that"
        " one. To go back to this one before the other has written a batch: remove"
        f" {new} and {file}"
    )


def _is_of_this_query(query: Query, logs: Logs) -> Iterator[Answer]:
    """Refuse another query's checkpoint, and remark which settings Spark silently keeps."""
    plan = logs.last_plan
    kept = logs.note
    if plan is None:  # no batch was ever planned
        return
    if kept is None:
        yield Remark(
            f"checkpoint {logs.place} was not written by sparkstream-kit; assuming it"
            f" belongs to query {query.name}. Other queries will be refused from"
            " now on."
        )
        kept = {}
    else:
        if not query.allow_changed:
            _refuse_other(query, kept, logs)
        if is_part(kept["fingerprint"]):
            yield Remark(
                f"checkpoint {logs.place} has a note in which an earlier version of"
                " sparkstream-kit kept only a part of its query; assuming it belongs"
                f" to query {query.name}. Other queries will be refused from now on."
            )
    yield Known("begins", kept.get("begins"))
    reads = sum(len(each.places) for each in query.inputs)
    if len(plan.names) != reads and all(map(str.isdecimal, plan.names)):
        raise InvalidInputError(
            f"checkpoint {logs.place} is of a query with"
            f" {count(len(plan.names), 'source')}, and query {query.name} has {reads},"
            " with which Spark cannot continue; give it a new checkpoint"
        )
    for key, what in KEPT.items() if query.described["fingerprint"] else ():
        stays = plan.conf.get(key)
        wanted = query.spark.conf.get(key)
        if stays is not None and stays != wanted:
            yield Remark(
                f"query {query.name} uses the {what} stored in checkpoint {logs.place}"
                f" ({stays}); your setting {key}={wanted} has no effect. Start from a"
                " new checkpoint to change it."
            )


def _refuse_other(query: Query, kept: Mapping[str, Any], logs: Logs) -> None:
    """Refuse a query of another name, or of another state, than the one in the note."""
    found = _differences(query, kept)
    owner = kept.get("name", query.name)
    if owner != query.name:
        differs = f" {query.name} {', and '.join(found)}." if found else ""
        raise InvalidInputError(
            f"checkpoint {logs.place} belongs to query {owner}: query {query.name}"
            f" would read only the input that {owner} has not read yet.{differs} Give"
            f" {query.name} a checkpoint of its own; or, if it is {owner} under a new"
            " name, give allow_changed_query=True once"
        )
    if found:
        raise InvalidInputError(
            f"checkpoint {logs.place} was written by a different query: {query.name}"
            f" {', and '.join(found)}. Give it a checkpoint of its own, and"
            f" continues={str(logs.place)!r} to resume from this one (of a job:"
            " --continues with its former --checkpoint, or OUT_DIR/_checkpoint); or,"
            " to keep its state, allow_changed_query=True"
        )


def _differences(query: Query, kept: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each difference of the state between a query and the one in the note."""
    now = query.described
    found = query.differences(kept["fingerprint"])
    if query.mode == "complete" != kept["mode"] and WATERMARK in now["fingerprint"]:
        found.append(
            f"has mode complete; mode {kept['mode']} has dropped from the state what"
            " the watermark had passed, and the result would lack it"
        )
    return found


def _has_numbers(query: Query, logs: Logs) -> Iterable[Answer]:
    """Refuse sources with names (`readStream.name()`): the kit knows their logs by number."""
    if query.spark.conf.get(_NAMED, "false") == "true":
        raise InvalidInputError(
            f"checkpoint {logs.place}: sources with names are not supported; leave"
            f" .name() out, and set {_NAMED} to false"
        )
    return ()


def _leftovers(_query: Query, logs: Logs) -> Iterator[Answer]:
    """Yield a change that removes what a killed or failed query left before its first plan.

    Spark takes half-written files for those of another query and would refuse the
    checkpoint for ever. The logs of file sources list files that were found and not
    read yet: Spark would read these files even if the query that starts now reads
    another folder. In real-time mode state is written before a plan.
    """
    checkpoint = logs.place
    if logs.planned >= 0:
        return
    logs_of_files = [f"sources/{log}" for log in logs.sources if logs.is_of_files(log)]
    left = [
        name
        for name in ("offsets", "commits", "state", *logs_of_files)
        if checkpoint.names(name)
    ]

    def remove() -> None:
        for name in left:
            checkpoint.remove(name)

    if left:
        yield Change("leftovers of a killed start are removed", remove)


def _has_its_folders(query: Query, logs: Logs) -> Iterator[Answer]:
    """Refuse file sources with other folders than before; a moved folder is a `Change`."""
    folders = bases(query.spark, query.inputs)
    try:
        moves = find_moves(
            query.spark, logs, folders, query.moved, forget=query.allow_changed
        )
    except InvalidInputError as err:
        raise InvalidInputError(explained(logs) or str(err)) from err
    if moves and logs.place.folder is None:
        raise InvalidInputError(
            f"checkpoint {logs.place} is not on a local path, where the names of the"
            " files that it has read could be changed; put the files back where they"
            " were, or start anew on another checkpoint"
        )
    for each in moves:
        what = f"the files that source {each.log} has read are named under {each.new}"
        yield Change(what, partial(rewrite, logs, each))


def _has_short_logs(query: Query, logs: Logs) -> Iterator[Answer]:
    """Shorten the logs of file sources by what Spark never looks at again; see `trim`."""
    if logs.place.folder is not None:
        options = file_options(query.frame)
        known = {
            each.log: max_age(options[each.number])
            for each in query.inputs
            if each.number in options
        }
        for log in logs.until_planned:
            if make := due(logs, log, known.get(log)):
                yield Change(
                    f"the log of source {log} lists the files that Spark still"
                    " considers",
                    make,
                )


def _file_manager(spark: SparkSession, checkpoint: Place) -> dict[str, None]:
    """Return settings by which Spark writes in its own way on another file system.

    A profile may set a file manager that works on local paths only; None as its value
    restores the default.
    """
    only_local = str(spark.conf.get(_FILE_MANAGER, "")).endswith(
        ".FileSystemBasedCheckpointFileManager"
    )
    return {_FILE_MANAGER: None} if only_local and checkpoint.folder is None else {}


# The checks that `guard` runs, in this order. A check gets the query and the logs of
# its checkpoint and changes neither. It raises InvalidInputError to refuse the start;
# else it returns answers, which `guard` logs, makes and notes once all checks have
# passed.
QUESTIONS: tuple[Question, ...] = (
    _is_whole,
    _is_of_this_query,
    _has_numbers,
    _leftovers,
    _has_its_folders,
    _has_short_logs,
)
