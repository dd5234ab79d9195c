"""Continue a changed query at its old offsets on a new checkpoint: `start(…, continues=…)`.

`start` calls `evolve`, which checks that the query can be continued and plans a
`Build`. The build backfills the state of the new query: it reads the sources from their
beginning up to the offsets of the old checkpoint's last committed batch, and writes no
row to the sink. Spark runs a batch that is in `offsets` and not in `commits` exactly as
it was planned, so the kit plans each batch of the build and runs it with the trigger
`once`. These batches have the watermark 0, so that no row is late. If the old query has
a watermark, one more batch, which reads nothing, sets it in the new checkpoint; that
drops from the state what the old query had closed.

The new checkpoint has the query id of the old one and continues its batch numbers. A
sink identifies a query by its id and a batch by its number, so to the sink the next
batch is the next one of the same query. That also holds for a batch that the old query
had planned, and perhaps written, before it was killed.

The version of a state is its batch number plus one, and the build usually has fewer
batches than the old query had. The build therefore begins with a batch that reads
nothing and makes an empty state, and renames the files of this batch so that they have
the number before the first batch that reads.

Everything is built in a folder beside the new checkpoint's path, and that folder is
renamed to this path at the end. If a build is interrupted, the next start begins it
again.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.spark.logical_plan import check_mode
from sparkstream_kit._internal.spark.place import LocalPlace, refuse_many_disks
from sparkstream_kit.checkpoints.drain import (
    drained,
    is_being_drained,
    plan_empty_batch,
)
from sparkstream_kit.checkpoints.fingerprint import top_level
from sparkstream_kit.checkpoints.guard import KEPT, StartingQuery, continued
from sparkstream_kit.checkpoints.lock import lock
from sparkstream_kit.checkpoints.logs import (
    CONTINUED,
    KIT,
    Logs,
    query_id,
    versioned,
    write_note,
)
from sparkstream_kit.checkpoints.operate import replay
from sparkstream_kit.checkpoints.operate.check import checkpoint, damage
from sparkstream_kit.checkpoints.operate.clone import copied_from, point_at
from sparkstream_kit.errors import InvalidInputError, count
from sparkstream_kit.sinks.base import open_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sparkstream_kit._internal.spark.place import Place
    from sparkstream_kit.checkpoints.moved import Move
    from sparkstream_kit.checkpoints.operate.replay import EndOffsets, InputSplit
    from sparkstream_kit.sinks import Sink
    from sparkstream_kit.sinks.base import Opening


_log = logging.getLogger(__name__)

# A changelog holds only the changes of one batch, and only a whole state can be
# renumbered.
_BUILD = {
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "false"
}

_SAME_STATE = (
    "query %s keeps the same state as that of checkpoint %s. Filters, durations and"
    " UDFs are not compared: continues= is needed only if one of them has changed and"
    " must apply to the rows that were read before"
)


def evolve(
    changed: StartingQuery,
    sink: Sink,
    new: Place | None,
    old: Place,
    new_opening: Callable[..., Opening],
    *,
    dry_run: bool,
) -> tuple[tuple[str, str], ...]:
    """Build a new checkpoint on which a changed query continues at the offsets of the old one.

    If the new checkpoint exists already, it is left as it is: the query already
    continues there.

    Args:
        changed: the changed query.
        sink: its sink, which can refuse a target that does not fit.
        new: the new checkpoint, a local folder that does not exist yet.
        old: the checkpoint to continue, which no query may be using. Afterwards `start`
            refuses it.
        new_opening: returns what the sinks of one start share, which may make what they need
            if `makes` is true.
        dry_run: check everything, but lock and create nothing.

    Returns:
        Pairs of a kind (`continues`, `change`, `build`) and a text for the user: what
        was done, or in a dry run would be done. Empty if the new checkpoint exists.

    Raises:
        InvalidInputError: the new checkpoint is missing; a checkpoint is not on a local
            path; the old one is in use, damaged, drained, has no committed batch, was
            continued elsewhere, or is a copy of another one whose query writes to the
            same target; the query reads other sources than before, or ones that are
            neither files, Kafka topics nor Delta tables; some of the input has changed
            or no longer exists; the rows in the target would not fit the new ones; or a
            batch of the build failed.
    """
    if new is None:
        raise InvalidInputError(
            "start(): continues= needs a new checkpoint; give checkpoint='folder'"
        )
    if new.folder is None or old.folder is None:
        raise InvalidInputError(
            f"start(): continues={old} and checkpoint={new} must both be on a local"
            " path; copy the checkpoint to this machine first, or start anew on a new"
            " checkpoint"
        )
    refuse_many_disks(changed.spark, "checkpoint", new.text)
    if _exists(new, new.folder, old.folder):
        return ()
    logs = Logs(checkpoint(old.folder))
    targets = [str(target) for target in sink.writes_to]
    held_lock = lock(changed.spark, old, changed.name, dry_run=dry_run)
    try:
        with changed.in_force():
            _check_sink(changed, sink, old, logs, new_opening(makes=False))
            build, differences = _checked(changed, targets, logs, new.folder)
        if not differences:
            _log.warning(_SAME_STATE, changed.name, old)
        if not dry_run:
            with changed.in_force():
                # The sink may restore a plan that the old checkpoint has lost
                _check_sink(changed, sink, old, logs, new_opening(makes=True))
            logs.refresh()
            build.make(new.folder)
        changes = [("change", difference) for difference in differences]
        continued_at = f"{old}, after batch {logs.done}"
        return (("continues", continued_at), *changes, ("build", str(build)))
    except replay.Unreadable as err:
        raise InvalidInputError(
            f"checkpoint {logs.root} cannot be continued by a changed query: {err};"
            " start anew on a new checkpoint, without continues="
        ) from None
    finally:
        if held_lock is not None:
            held_lock.release()


def _check_sink(
    changed: StartingQuery, sink: Sink, old: Place, logs: Logs, opening: Opening
) -> None:
    """Check that the sink takes the changed query; its targets stay those of the old one.

    The opening is not ended: only the real start may take a new epoch.
    """
    targets = [str(target) for target in sink.writes_to]
    opening.ledgers.read_note(
        {"begins": _first_batches(logs.noted, targets, logs.done + 1)}
    )
    open_sink(sink, changed.frame, old, opening)
    check_mode(changed.frame, changed.mode)


def _exists(new: Place, root: Path, old: Path) -> bool:
    """Return whether the new checkpoint exists.

    Raises:
        InvalidInputError: it is the old checkpoint itself, belongs to another query, or
            is a folder with other files; or the old checkpoint was taken up again
            since.
    """
    if root.resolve() == old.resolve():
        raise InvalidInputError(
            f"start(): continues={new} is the checkpoint itself; give a new folder"
        )
    if not (root / "metadata").exists():
        if root.is_file() or _has_other_files(root):
            raise InvalidInputError(
                f"checkpoint {new} is a folder with other files; give a new folder"
            )
        return False
    if (old / "metadata").exists():
        if query_id(root / "metadata") != query_id(old / "metadata"):
            raise InvalidInputError(
                f"checkpoint {new} is of another query than {old}, which it is to"
                " continue; give a new folder"
            )
        if not (old / CONTINUED).exists():
            stale = f"checkpoint {old} was taken up again after {new} was built from it"
            raise InvalidInputError(f"{stale}; remove {new}, and it is built anew")
    return True


def _has_other_files(root: Path) -> bool:
    """Return whether a folder has more in it than the lock file of a refused start."""
    lock_file = root / KIT / "lock"
    return any(file.is_file() and file != lock_file for file in root.rglob("*"))


def _checked(
    changed: StartingQuery, targets: Sequence[str], logs: Logs, new: Path
) -> tuple[Build, list[str]]:
    """Return the build, and a phrase for each difference of the queries and their settings.

    Raises:
        InvalidInputError: the old checkpoint cannot be continued by the changed query.
    """
    _check_old(logs, new)
    last = logs.done
    old_note = logs.note or {}
    end_offsets = replay.end_offsets_of(logs, last)
    moves = replay.moves_of(changed, logs, end_offsets)
    differences = changed.differences(old_note.get("fingerprint", ""))
    _check_target(changed, targets, logs, differences)
    differences += _settings(changed, logs, old_note.get("mode", changed.mode))
    batches: list[EndOffsets] = []
    splits: list[InputSplit] = []
    if changed.described["fingerprint"]:  # the query keeps a state
        for source in changed.inputs:
            splits += replay.splits_of(
                changed, logs, source, end_offsets[source.log], moves
            )
        batches = _in_batches(logs, splits)
    note = {
        **changed.described,
        "targets": [*targets],
        "begins": _first_batches(old_note, targets, last + 1),
    }
    if "topics" in old_note:
        note["topics"] = old_note["topics"]
    return Build(
        changed, logs, batches, note, replay.amounts(splits), moves
    ), differences


def _check_old(logs: Logs, new: Path) -> None:
    """Refuse an old checkpoint that no query can continue.

    Raises:
        InvalidInputError: it is damaged, drained, or continued by a checkpoint other
            than `new`.
        Unreadable: it has no committed batch, or is in the middle of a drain.
    """
    if refusal := damage(logs) or drained(logs) or continued(logs, by=new):
        raise InvalidInputError(refusal)
    if logs.done < 0:
        raise replay.Unreadable("it has no committed batch")
    if is_being_drained(logs):
        raise replay.Unreadable("it was cut off while it wrote its last windows")


def _in_batches(logs: Logs, splits: Sequence[InputSplit]) -> list[EndOffsets]:
    """Group splits into the batches of the build: no more than the old query had.

    Where it had fewer than batches of the usual size, the batches are larger. If it has
    a watermark, one of its batch numbers is left for the batch that sets it.
    """
    max_batches = logs.done + 1
    if logs.plan(logs.done).watermark > 0:
        max_batches -= 1
    full = 1.0
    batches = replay.in_batches(splits, full)
    while len(batches) > max_batches:
        full *= 2
        batches = replay.in_batches(splits, full)
    return batches


def _settings(changed: StartingQuery, logs: Logs, mode: str) -> list[str]:
    """Return a phrase for each setting, or the mode, that is not as in the old checkpoint.

    Args:
        changed: the changed query.
        logs: the logs of the old checkpoint.
        mode: the mode of the query of the old checkpoint.
    """
    differences = []
    old_conf = logs.plan(logs.done).conf
    for key, setting in KEPT.items():
        current = changed.spark.conf.get(key)
        if key in old_conf and current != old_conf[key]:
            differences.append(f"{setting} {current} in place of {old_conf[key]}")
    if mode != changed.mode:
        differences.append(f"mode {changed.mode} in place of {mode}")
    return differences


def _first_batches(
    old_note: dict[str, Any], targets: Sequence[str], following: int
) -> dict[str, int]:
    """Return the first batch of each target to which the old query has not written.

    Args:
        old_note: the note of the old checkpoint. One that names no targets is of an earlier
            version of the kit: then the targets count as those of the old query.
        targets: the targets of the changed query.
        following: the batch after the last one that the old query has committed.
    """
    former = old_note.get("targets", targets)
    first_batches = {
        target: batch
        for target, batch in old_note.get("begins", {}).items()
        if target in targets
    }
    for target in targets:
        if target not in former:
            first_batches[target] = following
    return first_batches


def _check_target(
    changed: StartingQuery,
    targets: Sequence[str],
    logs: Logs,
    differences: Sequence[str],
) -> None:
    """Refuse a target whose rows stay there and would not fit the rows to come.

    Mode `complete` replaces all rows, so its targets always fit. A copy of a checkpoint
    whose query writes to the same target is refused in each mode: the two queries would
    be one to the sink, and take turns there.
    """
    old_note = logs.note or {}
    shared_targets = {*old_note.get("targets", targets)} & {*targets}
    if not shared_targets:
        return
    if copies := copied_from(logs.root):
        raise InvalidInputError(
            f"checkpoint {logs.root} is a copy of {copies[0]}, whose query writes to"
            f" {min(shared_targets)}, too; give continues={str(copies[0])!r}, or a new target; or"
            f" remove {copies[0]}, if it is not used any more"
        )
    if changed.mode == "complete":
        return
    if misfit := _misfit(changed, old_note, differences):
        raise InvalidInputError(
            f"query {changed.name} {misfit}. The rows in {min(shared_targets)} stay, and would"
            " not fit those to come; give it a new target"
        )


def _misfit(
    changed: StartingQuery, old_note: dict[str, Any], differences: Sequence[str]
) -> str | None:
    """Return how the changed query's rows differ from those of the old one; None if they fit.

    Args:
        changed: the changed query.
        old_note: the note of the old checkpoint.
        differences: a phrase for each difference of the queries.
    """
    mode = old_note.get("mode", changed.mode)
    if mode != changed.mode:
        return f"has mode {changed.mode}; the checkpoint's query has mode {mode}"
    columns = [list(name_and_type) for name_and_type in changed.frame.dtypes]
    kept_columns = old_note.get("columns", columns)
    if kept_columns != columns:
        names = ", ".join(name for name, _ in kept_columns)
        return f"has other columns than {names}, or of other types"
    now = _keys(changed.described.get("fingerprint", ""))
    before = _keys(old_note.get("fingerprint", ""))
    if differences and now and before and now != before:
        by_keys = [each for each in differences if each.startswith("groups by")]
        return by_keys[0] if by_keys else differences[0]
    return None


class Build(NamedTuple):
    """The build of a new checkpoint: `make` plans and runs its batches in a temporary folder.

    Attributes:
        changed: the changed query.
        old: the logs of the checkpoint that the query continues.
        batches: for each batch of the build, the offsets up to which it reads the
            sources; empty for a query that keeps no state.
        note: the note about the query for the new checkpoint.
        read: the amount of input that the batches read, as text, such as "12 files".
        moves: the rewrites of the logs of sources whose folders have moved.
    """

    changed: StartingQuery
    old: Logs
    batches: Sequence[EndOffsets]
    note: dict[str, Any]
    read: str
    moves: Sequence[Move]

    def __str__(self) -> str:
        """Return what the build computes.

        Examples:
            >>> str(Build(None, None, [{}, {}], {}, "12 files", []))
            'the state, from 12 files in 2 batches; nothing is written meanwhile'
            >>> str(Build(None, None, [], {}, "", []))
            'nothing: the query keeps no state'
        """
        if not self.batches:
            return "nothing: the query keeps no state"
        batches = count(len(self.batches), "batch")
        return f"the state, from {self.read} in {batches}; nothing is written meanwhile"

    def make(self, new: Path) -> None:
        """Build the checkpoint in a hidden folder beside `new`; rename it when it is complete."""
        old = self.old.root
        hidden_folder = new.with_name(f".{new.name}.evolving")
        shutil.rmtree(hidden_folder, ignore_errors=True)
        try:
            replay.copy_sources(self.old, hidden_folder, self.moves)
            shutil.copy(old / "metadata", hidden_folder / "metadata")
            self._build(Logs(hidden_folder))
            write_note(LocalPlace(str(hidden_folder), hidden_folder), self.note)
            point_at(hidden_folder, new)
            # Mark the old checkpoint before the rename: after a crash in between
            # `start` refuses the old one, so that two queries never continue it, and
            # builds the new one again.
            file_system.replace(old / CONTINUED, [str(new)])
            # It holds at most the lock file of a refused start
            shutil.rmtree(new, ignore_errors=True)
            hidden_folder.rename(new)
        finally:
            shutil.rmtree(hidden_folder, ignore_errors=True)

    def _build(self, new_logs: Logs) -> None:
        """Build the state up to the old query's last committed batch; plan the next, if any."""
        old = self.old
        last = old.done
        watermark = old.plan(last).watermark
        following_watermark = old.commit(last)["nextBatchWatermarkMs"]
        if self.batches:
            self._run_batches(new_logs, watermark)
        else:
            self._plan_without_state(new_logs, watermark)
        self._set_following_watermark(new_logs, following_watermark)
        if old.planned > last:
            end_offsets = replay.end_offsets_of(old, last + 1)
            self._plan(new_logs, last + 1, end_offsets, old.plan(last + 1).watermark)
        elif self.changed.mode == "complete":
            # the planned batch writes the new query's whole result
            plan_empty_batch(new_logs.refresh(), following_watermark, builds=True)

    def _plan_without_state(self, new_logs: Logs, watermark: int) -> None:
        """Plan the last two batches and commit the last without running it: there is no state."""
        last = self.old.done
        for number in [last] if last == 0 else [last - 1, last]:
            self._plan(
                new_logs, number, replay.end_offsets_of(self.old, last), watermark
            )
        (new_logs.root / "commits").mkdir()
        # An empty commit
        new_logs.replace(new_logs.root / "commits" / str(last), "v1\n{}")

    def _run_batches(self, new_logs: Logs, watermark: int) -> None:
        """Run the batches of the build; the last has the number of the old query's last one.

        Before them comes a batch that reads nothing, if a number is left for it. If the
        old query has a watermark, one more batch, which reads nothing, sets it.
        """
        first = self.old.done + 1 - len(self.batches)
        if watermark > 0:
            first -= 1
        if first > 0:
            self._plan(new_logs, 0, {})
            self._run_planned(new_logs)
            _renumber(new_logs.root, first - 1)
        for number, end_offsets in enumerate(self.batches, first):
            replay.say_batch(self.changed, number - first, len(self.batches))
            self._plan(new_logs.refresh(), number, end_offsets)
            self._run_planned(new_logs)
        if watermark > 0:
            plan_empty_batch(new_logs.refresh(), watermark, builds=True)
            self._run_planned(new_logs)

    def _set_following_watermark(self, new_logs: Logs, watermark: int) -> None:
        """Note in the last commit of the build the watermark of the next batch."""
        file = new_logs.root / "commits" / str(self.old.done)
        version, text = versioned(file, "v1", "v2", "v3")[:2]
        commit = json.loads(text)
        commit["nextBatchWatermarkMs"] = watermark
        new_logs.replace(file, f"{version}\n{json.dumps(commit)}")

    def _plan(
        self, new_logs: Logs, number: int, end_offsets: EndOffsets, watermark: int = 0
    ) -> None:
        replay.write_plan(
            self.changed, self.old, new_logs, number, end_offsets, watermark
        )

    def _run_planned(self, new_logs: Logs) -> None:
        """Have Spark run the planned batch and discard its rows.

        Raises:
            InvalidInputError: the batch was not committed.
        """
        changed = self.changed
        writer = changed.frame.writeStream.format("noop").queryName(changed.name)
        try:
            replay.run_planned(changed, new_logs, writer, _BUILD)
        except replay.Unreadable as err:
            raise InvalidInputError(
                f"query {changed.name}: its state was not built from what"
                f" {self.old.root} has read ({err}); nothing was changed"
            ) from None


def _renumber(root: Path, number: int) -> None:
    """Rename the log and state files of batch 0, which has read nothing, to another number.

    Args:
        root: the folder of the new checkpoint.
        number: the new number of the batch; 0 changes nothing.
    """
    if number == 0:
        return
    for log in ("offsets", "commits"):
        for file in [*(root / log).iterdir()]:
            file.rename(file.with_name(file.name.replace("0", str(number))))
    # Batch 0 has made version 1 of the state: `1.delta`, `1_ID.zip`, `.1.delta.crc`
    for file in [*root.glob("state/**/*")]:
        if re.match(r"\.?1[._]", file.name):
            before, after = file.name.split("1", 1)
            # The changes since the empty state are a whole state
            after = after.replace(".delta", ".snapshot")
            file.rename(file.with_name(f"{before}{number + 1}{after}"))


def _keys(text: str) -> set[str]:
    r"""Return a fingerprint's facts about group keys: names, windows, how each is computed.

    Examples:
        >>> text = "facts 3\ngroups by: k#0\ncomputes: count(1)\ncomputes: upper(p#1) AS k#0"
        >>> sorted(_keys(text))
        ['computes: upper(p) as k', 'groups by: k']
    """
    facts = text.split("\n")[1:]
    grouped_by = [fact for fact in facts if fact.startswith("groups by: ")]
    keys: set[str] = set()
    for fact in grouped_by:
        keys.update(top_level(fact.partition(": ")[2]))
    key_values = [fact for fact in facts if fact.rpartition(" AS ")[2] in keys]
    windows = [
        fact
        for fact in facts
        if re.match(r"computes: (windows of|session windows|the \w+ in) ", fact)
    ]
    about_keys = (*grouped_by, *key_values, *windows)
    return {re.sub(r"#\d+", "", fact).lower() for fact in about_keys}
