"""`find`: which batch of a query has read a file or a Kafka record, or why none has.

`sparkstream checkpoint find` calls `find`, which reads the checkpoint, and with `bad=`
a folder of bad rows, and returns a `Found`.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.arguments import check
from sparkstream_kit.checkpoints.logs import (
    KIT,
    DamagedError,
    Logs,
    log_file,
    log_lines,
    numbered,
)
from sparkstream_kit.checkpoints.operate.check import checkpoint
from sparkstream_kit.checkpoints.trim import max_age, trimmed
from sparkstream_kit.errors import InvalidInputError, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sparkstream_kit.checkpoints.logs import BatchPlan, InputFile


_RECORD = re.compile(r"([A-Za-z0-9._-]+):(\d+):(\d+)")  # TOPIC:PARTITION:OFFSET
# Milliseconds: Spark's default; the checkpoint does not know the source's own
_WEEK = max_age({}) or 0


@dataclass(frozen=True)
class Found:
    """What a checkpoint knows of a file, a Kafka record or a time; `str()` makes a report.

    Attributes:
        what: what was looked for.
        batch: the batch that read it; None if none has, or if its plan is not kept any
            more.
        committed: whether that batch is committed.
        since: the time of that commit, in UTC; None if it is not known, as in a copy
            that has not kept the times of the files (`cp -a` and `checkpoints.clone`
            keep them).
        targets: what the query writes to, as of its last start; of `sinks.by_value`
            also the values that the batch had, if they are known. Once the batch is
            committed, all of them have it, if the query had them then. Before that,
            each may have it or not.
        why: why no batch has read it, or why the batch is not known; None if the batch
            is known.
        bad: with `bad=`, how many rows of the file, or of the record, each folder there
            has, such as `{"bad/batch=000003": 2}` for two bad rows of batch 3; else
            None.
    """

    what: str
    batch: int | None = None
    committed: bool = False
    since: datetime | None = None
    targets: tuple[str, ...] = ()
    why: str | None = None
    bad: dict[str, int] | None = None

    def __str__(self) -> str:
        """Return the report: a line with the batch or the reason, its targets, and bad rows."""
        bad = [
            f"  {count(rows, 'bad row')} in {folder}"
            for folder, rows in (self.bad or {}).items()
        ]
        if self.batch is None:
            return "\n".join([f"{self.what}: {self.why}", *bad])
        if self.committed:
            state = "committed"
            if self.since is not None:
                state += f" since {self.since:%Y-%m-%d %H:%M:%S} UTC"
            has_it = "written to"
        else:
            state = "not committed: a restart runs it again"
            has_it = "each of these may have it or not:"
        targets = [f"  {has_it} {target}" for target in self.targets]
        first = f"{self.what}: batch {self.batch}, {state}"
        return "\n".join([first, *targets, *bad])


@dataclass(frozen=True)
class _NoBatch:
    """Why there is no batch to name.

    Attributes:
        why: the reason, as text.
        committed: whether a batch has read it and is committed, but is no longer kept.
    """

    why: str
    committed: bool = False


def find(path: str | Path, what: str, *, bad: str | Path | None = None) -> Found:
    """Find the batch of a query that has read a file or a Kafka record, without Spark.

    Args:
        path: a checkpoint on a local path; its query may be running.
        what: the path of a file, as it is now or as the source read it; a record as
            `TOPIC:PARTITION:OFFSET`; or a time, such as `2026-01-14T09:00:00Z` (in UTC
            if it has no offset), for the batch that was committed first after it.
        bad: a folder on this machine with the bad rows that `quarantine` has set aside:
            JSON, CSV, Parquet or ORC with the column `_file`, as `sinks.batch_files` or
            `sinks.files` writes it. Parquet and ORC need pyarrow.

    Returns:
        The batch, or the reason why there is none. The checkpoint keeps the plans of
        the last hundred batches or so, by default. Of what an earlier one has read,
        only this is known.

    Raises:
        InvalidInputError: there is no checkpoint at `path`, it is on another file
            system, or it is damaged; or the bad rows cannot be read.

    Examples:
        >>> find("ckpt/totals", "orders:0:17")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: no checkpoint ckpt/totals; give the folder ...
    """
    check(find, locals())
    logs = Logs(checkpoint(path))
    names = _names(what)
    answer = _search(logs, what, names)
    bad_rows = None
    if bad is not None:
        # A record has this name in the column of `jobflags.lines`.
        record_name = f"kafka:{what.replace(':', '/')}"
        bad_rows = _bad_rows(Path(bad), {*names, record_name})
    if isinstance(answer, _NoBatch):
        return Found(what, committed=answer.committed, why=answer.why, bad=bad_rows)
    return Found(
        what,
        batch=answer,
        committed=answer <= logs.done,
        since=logs.committed_at(answer),
        targets=tuple(_targets(logs, answer)),
        bad=bad_rows,
    )


def _names(what: str) -> set[str]:
    """Return the names under which a log may have a file: as given, or with and without links."""
    plain = file_system.plain(what)
    if plain is None:
        return {what}
    return {os.path.abspath(plain), os.path.realpath(plain)}  # noqa: PTH100


def _search(logs: Logs, what: str, names: set[str]) -> int | _NoBatch:
    """Return the batch of a file, a time or a record, by the form of the text."""
    if not os.path.exists(what):  # noqa: PTH110 - a text
        time = _time(what)
        if time is not None:
            return _at(logs, time)
        if record := _RECORD.fullmatch(what):
            topic, partition, offset = record.groups()
            return _of_record(logs, topic, partition, int(offset))
    return _of_file(logs, what, names)


def _time(text: str) -> datetime | None:
    """Return a time that is given as text, in UTC if it has no offset; None for any other text."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


_EARLIER = (
    "read by batch {} or an earlier one, of which no plan is kept; it is committed"
)


def _first_batch(logs: Logs, has_read: Callable[[BatchPlan], bool]) -> int | _NoBatch:
    """Return the first batch at whose end something has been read, or why it is not known."""
    plans = kept_plans(logs)
    for number, plan in plans.items():
        if has_read(plan):
            is_oldest = number == min(plans)
            if is_oldest and number > 0:
                return _NoBatch(_EARLIER.format(number), committed=True)
            return number
    return _NoBatch("not read yet")


def kept_plans(logs: Logs) -> dict[int, BatchPlan]:
    """Return the kept plans by number; a running query removes the first ones meanwhile."""
    plans = {}
    for number, file in logs.refresh().entries("offsets").items():
        try:
            plans[number] = logs.plan(number)
        except DamagedError:
            if file.exists():
                raise
    return plans


def every_input(logs: Logs, log: str, until: int) -> list[InputFile]:
    """Return every file that a source read up to an entry of its log, even if taken out."""
    trimmed_files = trimmed(logs.root, log)
    present = logs.inputs(log, until=until)
    past: list[InputFile] = []
    for file in trimmed_files:
        past += log_file(file)
    # After a crash some are in both
    inputs = dict.fromkeys([*past, *present])
    return sorted(inputs, key=lambda each: each.entry)


def _of_file(logs: Logs, what: str, names: set[str]) -> int | _NoBatch:
    """Return the batch that read a file, or why none did; a log may have any of its names."""
    folders = set()
    newest = 0
    for log, planned in logs.until_planned.items():
        until = max((planned, *logs.entries(f"sources/{log}")))
        for file in every_input(logs, log, until):
            name = file.path or file.uri
            if name in names:
                return _first_batch(logs, partial(_has_read, logs, log, file.entry))
            folders.add(name.rpartition("/")[0])
            newest = max(newest, file.time)
    return _NoBatch(_why_not_read(what, names, folders, newest))


def _has_read(logs: Logs, log: str, entry: int, plan: BatchPlan) -> bool:
    """Return whether an entry of a source's log has been read at the end of a batch."""
    return logs.read_by(plan).get(log, -1) >= entry


def _why_not_read(what: str, names: set[str], folders: set[str], newest: int) -> str:
    """Return why the query has not read a file.

    Args:
        what: the file, as it was given.
        names: the names that a log may have for it.
        folders: the folders of the files that the query has read.
        newest: the time of the newest of them, in milliseconds since 1970.
    """
    plain = file_system.plain(what)
    file = Path(plain or what)
    if plain is not None and not file.exists():
        why = "not read, and there is no such file"
        # A word such as `yesterday`, which names no file
        if "/" not in what and not file.suffix:
            why += (
                "; a record of Kafka is written as TOPIC:PARTITION:OFFSET, a time as"
                " 2026-01-14T09:00:00Z"
            )
        return why
    if file_system.is_hidden(file.name):
        return (
            "not read: Spark passes over names that begin with _ or . or end with"
            " ._COPYING_; rename it"
        )
    # As texts: a Path has one slash for the two of s3a://bucket
    above: set[str] = set()
    for name in names:
        parts = name.split("/")
        above.update("/".join(parts[:length]) for length in range(1, len(parts)))
    if folders.isdisjoint(above):
        folder = what.rpartition("/")[0] if plain is None else file.parent
        return (
            f"not read: the query reads {min(folders, default='nothing')}, and nothing"
            f" of {folder}"
        )
    if plain is not None and file.stat().st_mtime * 1000 < newest - _WEEK:
        return (
            "not read: it is more than 7 days older than the newest file read (see"
            " maxFileAge); touch it"
        )
    return (
        "not read: not seen yet, or left out by the source's pattern, which the"
        " checkpoint does not know"
    )


def _of_record(logs: Logs, topic: str, partition: str, offset: int) -> int | _NoBatch:
    """Return the batch that read a record of Kafka, or why there is none."""

    def end_of(offsets: Iterable[str | None]) -> int:
        ends = [_ends(text).get(topic, {}).get(partition, -1) for text in offsets]
        return max(ends, default=-1)

    last = logs.last_plan
    if last is None or end_of(last.offsets) < 0:
        return _NoBatch(
            f"not read: the query has read nothing of partition {partition} of topic"
            f" {topic}"
        )
    begin = end_of(
        logs.first_offset(log) for log in logs.sources if not logs.is_of_files(log)
    )
    if offset < begin:
        return _NoBatch("not read: the query began after it")
    return _first_batch(logs, lambda plan: end_of(plan.offsets) > offset)


def _ends(offset: str | None) -> dict[str, dict[str, int]]:
    """Return a source's offsets by topic and partition; empty if the source is not Kafka."""
    try:
        value = json.loads(offset or "{}")
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    is_by_topic = all(isinstance(part, dict) for part in value.values())
    return value if is_by_topic else {}


def _at(logs: Logs, time: datetime) -> int | _NoBatch:
    """Return the batch that was committed first at a time or after it."""
    commits = logs.entries("commits")
    plans = kept_plans(logs)
    for number in commits:
        committed = logs.committed_at(number)
        if committed is None:
            following = plans.get(number + 1)
            if following is None or following.time >= time.timestamp() * 1000:
                return _NoBatch(
                    f"not known: the files of batch {number} have other times than its"
                    " commit, as in a copy; cp -a keeps their times"
                )
        elif committed >= time:
            is_oldest = number == min(commits)
            if is_oldest and number > 0:
                return _NoBatch(
                    f"committed after it: batch {number} or an earlier one, of which no"
                    " commit is kept",
                    committed=True,
                )
            return number
    return _NoBatch("no batch was committed after it")


def _targets(logs: Logs, batch: int) -> Iterator[str]:
    """Yield a batch's targets; for `sinks.by_value` also each value with this batch noted."""
    yield from logs.noted.get("targets", ())
    for file in sorted((logs.root / KIT / "values").glob("*")):
        if file.suffix == ".driver":
            continue
        for value, *batches in json.loads(file.read_text("utf-8")):
            if batch in batches:
                yield f"{unquote(file.name)} {value}"


def _bad_rows(root: Path, names: set[str]) -> dict[str, int]:
    """Return how many rows with one of the names each folder below the folder of bad rows has."""
    if not root.is_dir():
        raise InvalidInputError(
            f"no folder {root}; give the one that the bad rows are written to"
        )
    # Spark's file sink lists its files; those of a driver that was killed are not in
    # its log.
    listed = set()
    for log in numbered(root / "_spark_metadata").values():
        for line in log_lines(log):
            listed.add(json.loads(line)["path"].rpartition("/")[2])
    by_folder = Counter[str]()
    for file in file_system.below(str(root)):
        if listed:
            is_data = file.name in listed
        else:
            is_data = not file_system.is_hidden(file.name)
        if is_data:
            by_folder[os.path.dirname(file.path)] += _rows(Path(file.path), names)  # noqa: PTH120
    with_bad_rows = {folder: rows for folder, rows in by_folder.items() if rows > 0}
    return dict(sorted(with_bad_rows.items())) or {str(root): 0}


def _rows(file: Path, names: set[str]) -> int:
    """Count a file's rows that have one of the names in `_file`, or in any column of CSV."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            if file.suffix == ".json":
                return sum(json.loads(line)["_file"] in names for line in lines)
            if file.suffix == ".csv":
                return sum(not names.isdisjoint(row) for row in csv.reader(lines))
        from pyarrow.dataset import dataset, field

        rows = dataset(file, format=file.suffix.removeprefix("."))
        return int(rows.count_rows(filter=field("_file").isin([*names])))
    except (ImportError, LookupError, OSError, TypeError, ValueError) as err:
        why = str(err).partition("\n")[0]
        fix = (
            "bad rows have a column _file, in JSON or CSV, or in Parquet or ORC (pip"
            " install pyarrow)"
        )
        raise InvalidInputError(f"{file} cannot be read ({why}); {fix}") from err
