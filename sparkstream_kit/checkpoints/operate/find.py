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
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
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
    from collections.abc import Callable, Iterator

    from sparkstream_kit.checkpoints.logs import Input, Plan


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
        bad = [
            f"  {count(rows, 'bad row')} in {folder}"
            for folder, rows in (self.bad or {}).items()
        ]
        if self.batch is None:
            return "\n".join([f"{self.what}: {self.why}", *bad])
        at = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        state = (
            f"committed{at}"
            if self.committed
            else "not committed: a restart runs it again"
        )
        has = "written to" if self.committed else "each of these may have it or not:"
        lines = [
            f"{self.what}: batch {self.batch}, {state}",
            *(f"  {has} {each}" for each in self.targets),
        ]
        return "\n".join([*lines, *bad])


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
    record = None
    time = None
    plain = file_system.plain(what)
    names = (
        {what} if plain is None else {os.path.abspath(plain), os.path.realpath(plain)}  # noqa: PTH100
    )
    if not os.path.exists(what):  # noqa: PTH110 - a text
        record = _RECORD.fullmatch(what)
        with suppress(ValueError):
            time = datetime.fromisoformat(what)
            time = time if time.tzinfo else time.replace(tzinfo=UTC)
    if time is not None:
        found: int | str = _at(logs, time)
    elif record is not None:
        found = _of_record(logs, record[1], record[2], int(record[3]))
    else:
        found = _of_file(logs, what, names)
    # A record has this name in the column of `jobflags.lines`.
    rows = (
        None
        if bad is None
        else _bad(Path(bad), {*names, f"kafka:{what.replace(':', '/')}"})
    )
    if isinstance(found, str):
        return Found(
            what,
            committed=found.startswith(("read by", "committed")),
            why=found,
            bad=rows,
        )
    since = logs.committed_at(found)
    return Found(
        what, found, found <= logs.done, since, tuple(_targets(logs, found)), bad=rows
    )


_EARLIER = (
    "read by batch {} or an earlier one, of which no plan is kept; it is committed"
)


def _batch(logs: Logs, has_read: Callable[[Plan], bool]) -> int | str:
    """Return the first batch at whose end something has been read, or why it is not known."""
    plans = kept_plans(logs)
    for number, plan in plans.items():
        if has_read(plan):
            return (
                _EARLIER.format(number) if number and number == min(plans) else number
            )
    return "not read yet"


def kept_plans(logs: Logs) -> dict[int, Plan]:
    """Return the kept plans by number; a running query removes the first ones meanwhile."""
    found = {}
    for number, file in logs.again().entries("offsets").items():
        try:
            found[number] = logs.plan(number)
        except DamagedError:
            if file.exists():
                raise
    return found


def every_input(logs: Logs, log: str, until: int) -> list[Input]:
    """Return every file that a source read up to an entry of its log, even if taken out."""
    past = (each for file in trimmed(logs.root, log) for each in log_file(file))
    # After a crash some are in both
    found = dict.fromkeys(chain(past, logs.inputs(log, until=until)))
    return sorted(found, key=lambda each: each.entry)


def _of_file(logs: Logs, what: str, names: set[str]) -> int | str:
    """Return the batch that read a file, or why none did; a log may have any of its names."""
    plain = file_system.plain(what)
    folders = set()
    newest = 0
    for log, until in logs.until_planned.items():
        for each in every_input(
            logs, log, max((until, *logs.entries(f"sources/{log}")))
        ):
            name = each.path or each.uri
            if name in names:
                return _batch(
                    logs,
                    lambda plan: logs.read_by(plan).get(log, -1) >= each.entry,  # noqa: B023 - called at once
                )
            folders.add(name.rpartition("/")[0])
            newest = max(newest, each.time)
    file = Path(plain or what)
    above = {str(each) for name in names for each in Path(name).parents}
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
    if not folders & above:
        return (
            f"not read: the query reads {min(folders, default='nothing')}, and nothing"
            f" of {file.parent}"
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


def _of_record(logs: Logs, topic: str, partition: str, offset: int) -> int | str:
    """Return the batch that read a record of Kafka, or why there is none."""

    def end(plan: Plan) -> int:
        return max(
            (_ends(each).get(topic, {}).get(partition, -1) for each in plan.offsets),
            default=-1,
        )

    last = logs.last_plan
    if last is None or end(last) < 0:
        return (
            f"not read: the query has read nothing of partition {partition} of topic"
            f" {topic}"
        )
    logged = [logs.begun(log) for log in logs.sources if not logs.is_of_files(log)]
    if offset < max(
        (_ends(text).get(topic, {}).get(partition, -1) for text in logged), default=-1
    ):
        return "not read: the query began after it"
    return _batch(logs, lambda plan: end(plan) > offset)


def _ends(offset: str | None) -> dict[str, dict[str, int]]:
    """Return a source's offsets by topic and partition; empty if the source is not Kafka."""
    with suppress(ValueError):
        found = json.loads(offset or "{}")
        if isinstance(found, dict) and all(
            isinstance(each, dict) for each in found.values()
        ):
            return found
    return {}


def _at(logs: Logs, at: datetime) -> int | str:
    """Return the batch that was committed first at a time or after it."""
    commits = logs.entries("commits")
    plans = kept_plans(logs)
    for number in commits:
        committed = logs.committed_at(number)
        following = plans.get(number + 1)
        if committed is None and (
            following is None or following.time >= at.timestamp() * 1000
        ):
            return (
                f"not known: the files of batch {number} have other times than its"
                " commit, as in a copy; cp -a keeps their times"
            )
        if committed is not None and committed >= at:
            if number and number == min(commits):
                return (
                    f"committed after it: batch {number} or an earlier one, of which no"
                    " commit is kept"
                )
            return number
    return "no batch was committed after it"


def _targets(logs: Logs, batch: int) -> Iterator[str]:
    """Yield a batch's targets; for `sinks.by_value` also each value with this batch noted."""
    yield from logs.noted.get("targets", ())
    for file in sorted((logs.root / KIT / "values").glob("*")):
        if file.suffix != ".driver":
            for value, *batches in json.loads(file.read_text("utf-8")):
                if batch in batches:
                    yield f"{unquote(file.name)} {value}"


def _bad(root: Path, names: set[str]) -> dict[str, int]:
    """Return how many rows with one of the names each folder below the folder of bad rows has."""
    if not root.is_dir():
        raise InvalidInputError(
            f"no folder {root}; give the one that the bad rows are written to"
        )
    # Spark's file sink lists its files; those of a driver that was killed are not in
    # its log.
    logs = [
        line
        for log in numbered(root / "_spark_metadata").values()
        for line in log_lines(log)
    ]
    listed = {json.loads(line)["path"].rpartition("/")[2] for line in logs}
    found = Counter[str]()
    for each in file_system.below(str(root)):
        if each.name in listed if listed else not file_system.is_hidden(each.name):
            found[os.path.dirname(each.path)] += _rows(Path(each.path), names)  # noqa: PTH120
    return dict(sorted((+found).items())) or {str(root): 0}


def _rows(file: Path, names: set[str]) -> int:
    """Count a file's rows that have one of the names in `_file`, or in any column of CSV."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            if file.suffix == ".json":
                return sum(json.loads(line)["_file"] in names for line in lines)
            if file.suffix == ".csv":
                return sum(not names.isdisjoint(row) for row in csv.reader(lines))
        from pyarrow.dataset import dataset, field

        return int(
            dataset(file, format=file.suffix[1:]).count_rows(
                filter=field("_file").isin([*names])
            )
        )
    except (ImportError, LookupError, OSError, TypeError, ValueError) as err:
        why = str(err).partition("\n")[0]
        fix = (
            "bad rows have a column _file, in JSON or CSV, or in Parquet or ORC (pip"
            " install pyarrow)"
        )
        raise InvalidInputError(f"{file} cannot be read ({why}); {fix}") from err
