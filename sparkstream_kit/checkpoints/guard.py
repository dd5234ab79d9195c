"""Check before a start that a checkpoint is whole and fits the query and its inputs.

`start` calls `guard` with a query. `guard` locks the checkpoint and runs the checks in
`QUESTIONS`, at the end of this module. Each check refuses the checkpoint, or yields
answers: a `Remark` to log, a `Change` to make, or a `NoteEntry` to note in the checkpoint
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
from sparkstream_kit._internal.spark.place import (
    is_unseen,
    locate,
    refuse_many_disks,
)
from sparkstream_kit._internal.spark.session import active, in_force
from sparkstream_kit.checkpoints.damage import missing_inputs, restart
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
    from sparkstream_kit.checkpoints.logs import BatchPlan

    Question = Callable[["StartingQuery", Logs], Iterable["Answer"]]


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


class NoteEntry(NamedTuple):
    """A value to note with the query in the checkpoint for the next start, unless it is empty."""

    name: str
    value: Any


Answer = Remark | Change | NoteEntry


@dataclass(frozen=True)
class StartingQuery:
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

    def differences(self, former_fingerprint: str) -> list[str]:
        """Return a phrase for each difference between this query and the one with a fingerprint."""
        caseless = self.spark.conf.get("spark.sql.caseSensitive") != "true"
        return differences(
            former_fingerprint, self.described["fingerprint"], caseless=caseless
        )

    @contextmanager
    def in_force(
        self, further_settings: Mapping[str, str] | None = None
    ) -> Iterator[None]:
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
            further_settings: further settings.
        """
        settings = dict(further_settings or {})
        if has(self.frame, "TransformWithState"):
            settings[STATE_STORE] = STATE_STORES["rocksdb"]
            if not has(
                self.frame,
                "Aggregate|Deduplicate|Distinct|FlatMapGroups|GlobalLimit|Join",
            ):
                settings[_ENCODING] = "avro"
        with (
            in_force(self.spark, settings, alone=True),
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
        note: dict[str, Any] = {
            "name": self.name,
            "mode": self.mode,
            "fingerprint": fingerprint(self.frame, self.mode),
        }
        left_out = {
            source.log: source.leaves_out for source in self.inputs if source.leaves_out
        }
        if left_out:
            note["left out"] = left_out
        return note


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
    query: StartingQuery,
    checkpoint: Place | None,
    of_systems: Callable[[StartingQuery], Iterable[Question]] = lambda _: (),
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
    held_lock = lock(spark, checkpoint, name, dry_run=dry_run)
    try:
        with at_hand(checkpoint) as logs:
            answers = _answers_to(query, logs, (*QUESTIONS, *of_systems(query)))
            note_entries = _note_entries(answers)
            note_before = logs.note
            changes = [answer for answer in answers if isinstance(answer, Change)]
            if not dry_run:
                for change in changes:
                    change.make()
            _warn(name, logs, answers)

            def note() -> None:
                content = {**query.described, **note_entries, **(writes or {})}
                if note_before and _is_changed(note_before, content):
                    # Spark may yet refuse the state
                    content["before"] = [logs.done, {**note_before, "before": None}]
                if content != note_before:
                    write_note(checkpoint, content)

            with in_force(spark, _file_manager(spark, checkpoint)), _explained(logs):
                in_words = tuple(change.what for change in changes)
                yield Guarded(held_lock, logs, note, in_words)
    except BaseException:
        if held_lock is not None:
            held_lock.release()
        raise


def _answers_to(
    query: StartingQuery, logs: Logs, questions: Iterable[Question]
) -> list[Answer]:
    """Return the answers to questions about a checkpoint; the first refusal is raised."""
    answers: list[Answer] = []
    for question in questions:
        answers += question(query, logs)
    return answers


def _note_entries(answers: Iterable[Answer]) -> dict[str, Any]:
    """Return the values among answers that are to be noted, by their names."""
    return {
        answer.name: answer.value
        for answer in answers
        if isinstance(answer, NoteEntry) and answer.value
    }


def _is_changed(before: Mapping[str, Any], note: Mapping[str, Any]) -> bool:
    """Return whether two notes are of queries with another state or other columns."""
    fields = ("fingerprint", "columns")
    return any(before.get(field) != note.get(field) for field in fields)


def _warn(name: str, logs: Logs, answers: Iterable[Answer]) -> None:
    """Log the remarks among answers, and planned input files that no longer exist."""
    for answer in answers:
        if isinstance(answer, Remark):
            _log.warning("%s", answer.what)
    lost = list(missing_inputs(logs))
    if lost:
        others = f", and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        _log.warning("query %s: %s%s; %s", name, lost[0], others, lost[0].fix)


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
        reason = explained(logs.refresh(), f"{cause}\n{err}")
        if reason:
            raise InvalidInputError(f"{reason} (Spark: {cause})") from err
        raise


def explained(logs: Logs, cause: str = "", *, only_cause: bool = False) -> str | None:
    """Return in one line what is wrong with a checkpoint, and the way out; else None.

    Args:
        logs: the logs of the checkpoint.
        cause: the text of Spark's error, if there is one.
        only_cause: do not look at the files.
    """
    from sparkstream_kit.checkpoints.operate import check  # only then is it needed

    if not only_cause:
        damage = check.damage(logs)
        if damage:
            return damage
    return check.unreadable(logs, cause)


def _is_whole(_query: StartingQuery, logs: Logs) -> Iterable[Answer]:
    """Refuse a checkpoint that is damaged, drained, or continued elsewhere by a changed query.

    The messages are clearer than Spark's.
    """
    refusal = None
    if _is_damaged(logs):
        refusal = explained(logs)
    if not refusal:
        refusal = drained(logs)
    if not refusal:
        refusal = continued(logs)
    if refusal:
        raise InvalidInputError(refusal)
    return ()


def _is_damaged(logs: Logs) -> bool:
    """Return whether a restart would fail at a damaged file."""
    # The format of a newer Spark: nothing shows that it is damaged
    with suppress(InvalidInputError):
        return next(restart(logs), None) is not None
    return False


def continued(logs: Logs, by: Path | None = None) -> str | None:
    """Return the refusal of a checkpoint that a changed query continued on another; else None.

    Args:
        logs: the logs of the checkpoint.
        by: the new checkpoint that may continue it; one that continues there already is
            no reason to refuse.
    """
    file = logs.root / CONTINUED
    if not file.exists():
        return None
    new = file.read_text("utf-8")
    if new == str(by):
        return None
    return (
        f"checkpoint {logs.root} was continued by a changed query on {new}; start that"
        " one. To go back to this one before the other has written a batch: remove"
        f" {new} and {file}"
    )


def _is_of_this_query(query: StartingQuery, logs: Logs) -> Iterator[Answer]:
    """Refuse another query's checkpoint, and remark which settings Spark silently keeps."""
    plan = logs.last_plan
    note = logs.note
    if plan is None:  # no batch was ever planned
        return
    if note is None:
        yield Remark(
            f"checkpoint {logs.place} was not written by sparkstream-kit; assuming it"
            f" belongs to query {query.name}. Other queries will be refused from"
            " now on."
        )
        note = {}
    else:
        if not query.allow_changed:
            _refuse_other(query, note, logs)
        if is_part(note["fingerprint"]):
            yield Remark(
                f"checkpoint {logs.place} has a note in which an earlier version of"
                " sparkstream-kit kept only a part of its query; assuming it belongs"
                f" to query {query.name}. Other queries will be refused from now on."
            )
    yield NoteEntry("begins", note.get("begins"))
    _refuse_other_sources(query, plan, logs)
    if query.described["fingerprint"]:
        yield from _kept_settings(query, plan, logs)


def _refuse_other_sources(query: StartingQuery, plan: BatchPlan, logs: Logs) -> None:
    """Refuse a query with another number of sources than the plan of the last batch."""
    reads = sum(len(source.places) for source in query.inputs)
    has_numbers = all(name.isdecimal() for name in plan.names)
    if has_numbers and len(plan.names) != reads:
        raise InvalidInputError(
            f"checkpoint {logs.place} is of a query with"
            f" {count(len(plan.names), 'source')}, and query {query.name} has {reads},"
            " with which Spark cannot continue; give it a new checkpoint"
        )


def _kept_settings(
    query: StartingQuery, plan: BatchPlan, logs: Logs
) -> Iterator[Remark]:
    """Remark each setting of the session that has no effect, as Spark keeps that of the plan."""
    for key, setting in KEPT.items():
        stays = plan.conf.get(key)
        current = query.spark.conf.get(key)
        if stays is not None and stays != current:
            yield Remark(
                f"query {query.name} uses the {setting} stored in checkpoint {logs.place}"
                f" ({stays}); your setting {key}={current} has no effect. Start from a"
                " new checkpoint to change it."
            )


def _refuse_other(query: StartingQuery, note: Mapping[str, Any], logs: Logs) -> None:
    """Refuse a query of another name, or of another state, than the one in the note."""
    phrases = _differences(query, note)
    owner = note.get("name", query.name)
    if owner != query.name:
        changes = ""
        if phrases:
            changes = f" {query.name} {', and '.join(phrases)}."
        raise InvalidInputError(
            f"checkpoint {logs.place} belongs to query {owner}: query {query.name}"
            f" would read only the input that {owner} has not read yet.{changes} Give"
            f" {query.name} a checkpoint of its own; or, if it is {owner} under a new"
            " name, give allow_changed_query=True once"
        )
    if phrases:
        raise InvalidInputError(
            f"checkpoint {logs.place} was written by a different query: {query.name}"
            f" {', and '.join(phrases)}. Give it a checkpoint of its own, and"
            f" continues={str(logs.place)!r} to resume from this one (of a job:"
            " --continues with its former --checkpoint, or OUT_DIR/_checkpoint); or,"
            " to keep its state, allow_changed_query=True"
        )


def _differences(query: StartingQuery, note: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each difference of the state between a query and the one in the note."""
    phrases = query.differences(note["fingerprint"])
    becomes_complete = query.mode == "complete" and note["mode"] != "complete"
    if becomes_complete and WATERMARK in query.described["fingerprint"]:
        phrases.append(
            f"has mode complete; mode {note['mode']} has dropped from the state what"
            " the watermark had passed, and the result would lack it"
        )
    return phrases


def _has_numbers(query: StartingQuery, logs: Logs) -> Iterable[Answer]:
    """Refuse sources with names (`readStream.name()`): the kit knows their logs by number."""
    if query.spark.conf.get(_NAMED, "false") == "true":
        raise InvalidInputError(
            f"checkpoint {logs.place}: sources with names are not supported; leave"
            f" .name() out, and set {_NAMED} to false"
        )
    return ()


def _leftovers(_query: StartingQuery, logs: Logs) -> Iterator[Answer]:
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
    leftovers = [
        name
        for name in ("offsets", "commits", "state", *logs_of_files)
        if checkpoint.names(name)
    ]

    def remove() -> None:
        for name in leftovers:
            checkpoint.remove(name)

    if leftovers:
        yield Change("leftovers of a killed start are removed", remove)


def _has_its_folders(query: StartingQuery, logs: Logs) -> Iterator[Answer]:
    """Refuse file sources with other folders than before; a moved folder is a `Change`."""
    folders = bases(query.spark, query.inputs)
    forget = query.allow_changed
    reread_hint = "start(…, allow_changed_query=True)"
    # Forgotten files get local names, at which Spark fails on another file system
    paths = [each.path for each in query.inputs if each.path is not None]
    if any(locate(query.spark, path).folder is None for path in paths):
        forget = False
        reread_hint = "start anew on another checkpoint"
    try:
        moves = find_moves(
            query.spark,
            logs,
            folders,
            query.moved,
            forget=forget,
            reread_hint=reread_hint,
        )
    except InvalidInputError as err:
        raise InvalidInputError(explained(logs) or str(err)) from err
    if moves and logs.place.folder is None:
        raise InvalidInputError(
            f"checkpoint {logs.place} is not on a local path, where the names of the"
            " files that it has read could be changed; put the files back where they"
            " were, or start anew on another checkpoint"
        )
    for move in moves:
        description = (
            f"the files that source {move.log} has read are named under {move.new}"
        )
        yield Change(description, partial(rewrite, logs, move))


def _has_short_logs(query: StartingQuery, logs: Logs) -> Iterator[Answer]:
    """Shorten the logs of file sources by what Spark never looks at again; see `trim`."""
    if logs.place.folder is None:
        return
    options = file_options(query.frame)
    ages = {
        source.log: max_age(options[source.number])
        for source in query.inputs
        if source.number in options
    }
    for log in logs.until_planned:
        make = due(logs, log, ages.get(log))
        if make is not None:
            description = (
                f"the log of source {log} lists the files that Spark still considers"
            )
            yield Change(description, make)


def _file_manager(spark: SparkSession, checkpoint: Place) -> dict[str, None]:
    """Return settings by which Spark writes in its own way on another file system.

    A profile may set a file manager that works on local paths only; None as its value
    restores the default.
    """
    manager = str(spark.conf.get(_FILE_MANAGER, ""))
    only_local = manager.endswith(".FileSystemBasedCheckpointFileManager")
    if only_local and checkpoint.folder is None:
        return {_FILE_MANAGER: None}
    return {}


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
