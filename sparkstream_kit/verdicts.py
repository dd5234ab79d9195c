"""What the batches of a query mean, in words: whether it keeps up, and what is wrong if not.

A `Record` is a batch; `verdicts` looks at the last ones. Both work on Spark's progress alone, so that they
say the same of a query that runs and of one whose progress was kept in a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit._spark.query import records_behind, times_computed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql.streaming.listener import SourceProgress, StreamingQueryProgress

__all__ = ["KEPT", "Record", "Verdict", "of_rules", "record", "verdicts"]

KEPT = 40  # batches that a verdict can be about
_FEWEST = 10  # before that, a query is starting
_ROOM = 0.8  # of the time from one batch to the next, which a query may be busy
_GROWN, _STILL_GROWN = 1.2, 1.05  # times as much as before, and as a third of the batches ago
_PARTITIONS = 16  # so many cost nothing to speak of
# Batches from one compaction to the next: spark.sql.streaming.fileSink.log.compactInterval.
_COMPACTS = 10
_AHEAD = timedelta(minutes=1)  # clocks of other machines may be off by less


@dataclass(frozen=True)
class Record:
    """One batch, as Spark's progress has it.

    Attributes:
        batch: its number.
        at: when it began.
        seconds: how long it took.
        rows: how many rows it read.
        backlog: how much waited in the sources when it was planned: files, or records of Kafka; None where
            the source does not say, as without a limit for a batch.
        state_rows: rows in the state after it; None without state.
        partitions: in how many partitions that state is; None without state.
        watermark: the watermark that held in it; None without one, and before it has moved.
        has_watermark: whether the query has one.
        to_files: whether Spark's file sink writes it.
    """

    batch: int
    at: datetime
    seconds: float
    rows: int
    backlog: int | None
    state_rows: int | None
    partitions: int | None
    watermark: datetime | None
    has_watermark: bool
    to_files: bool


@dataclass(frozen=True)
class Verdict:
    """What the last batches mean.

    Attributes:
        level: `bad` where the query gets worse by itself or waits for ever; `warn` where it could do better.
        text: what is so, with its numbers, and what to do about it.
    """

    level: str
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def record(progress: StreamingQueryProgress) -> Record:
    """Read a batch out of Spark's progress."""
    check(record, locals())
    text = progress.eventTime.get("watermark")
    watermark = None if text is None else datetime.fromisoformat(text)
    waiting = [found for source in progress.sources if (found := _waiting(source)) is not None]
    states = progress.stateOperators
    return Record(
        batch=progress.batchId,
        at=datetime.fromisoformat(progress.timestamp),
        seconds=progress.durationMs.get("triggerExecution", 0) / 1000,
        rows=progress.numInputRows,
        backlog=sum(waiting) if waiting else None,
        state_rows=sum(state.numRowsTotal // times_computed(state) for state in states) if states else None,
        partitions=max(state.numShufflePartitions for state in states) if states else None,
        watermark=watermark if watermark and watermark > datetime(1970, 1, 1, tzinfo=UTC) else None,
        has_watermark=watermark is not None,
        to_files=progress.sink.description.startswith("FileSink["),
    )


def _waiting(source: SourceProgress) -> int | None:
    """Return what waits in a source; None if it does not say."""
    metrics: dict[str, Any] = source.metrics or {}
    if "numFilesOutstanding" in metrics:
        return int(metrics["numFilesOutstanding"])
    return records_behind(source)


def verdicts(records: Sequence[Record], *, interval: float | None = None) -> list[Verdict]:
    """Say what the last batches of a query mean, the worst first.

    Args:
        records: its batches in order; the last 40 count, and of these the ones with rows. Fewer than ten say
            nothing yet.
        interval: seconds from one batch to the next that its trigger asks for; None if batches follow each
            other at once.

    Returns:
        What is wrong, nothing if all is well. The rules:

        - it falls behind: what waits in its sources has grown by a fifth. (Rates do not tell: under a limit
          for each batch, rows come in as fast as they are read.)
        - it is slower than its trigger: batches take longer than `interval`; or it has little room: they take
          more than 80% of it.
        - its state grows without a watermark: never less, by a fifth, and by a twentieth in the last third.
        - its watermark is ahead of the clock by more than a minute.
        - its watermark stands still, over ten batches with rows or more.
        - it has more than 16 partitions, and four times as many as rows in its state.
        - every tenth batch takes twice as long, as Spark's file sink compacts its log then.

    Example:
        >>> from datetime import datetime, timedelta
        >>> each = Record(0, datetime(2026, 1, 31), 1.9, 500, None, None, None, None, False, False)
        >>> from dataclasses import replace
        >>> batches = [replace(each, batch=n, at=each.at + timedelta(seconds=2 * n)) for n in range(20)]
        >>> verdicts(batches, interval=2.0)[0].text.partition(":")[0]
        'busy for 95% of the time'
    """
    check(verdicts, locals())
    last = [each for each in records[-KEPT:] if each.rows]
    if len(last) < _FEWEST:
        return []
    found = [
        _falling_behind(last),
        _slow(last, interval),
        _growing_state(last),
        _watermark(last),
        _partitions(last),
        _compacting(last),
    ]
    return sorted((each for each in found if each), key=lambda each: each.level != "bad")


def of_rules(broken: Mapping[str, int]) -> list[Verdict]:
    """Say which rules of `quarantine.expect` were broken, the one with the most rows first.

    Args:
        broken: by each rule, how many rows broke it (`QuerySummary.broken`).

    Example:
        >>> [str(each) for each in of_rules({"amount > 0": 3, "shop IS NOT NULL": 0})]
        ['rule amount > 0: 3 rows break it']
    """
    check(of_rules, locals())
    most_first = sorted(broken.items(), key=lambda each: -each[1])
    return [
        Verdict("warn", f"rule {rule}: {rows:,} {'row breaks' if rows == 1 else 'rows break'} it")
        for rule, rows in most_first
        if rows
    ]


def _falling_behind(last: list[Record]) -> Verdict | None:
    waits = [each.backlog for each in last if each.backlog is not None]
    if len(waits) < _FEWEST:
        return None
    third = len(waits) // 3
    before, now = median(waits[:third]), median(waits[-third:])
    if now <= _GROWN * before or now < 1:
        return None
    return Verdict(
        "bad",
        f"falling behind: over {len(waits)} batches, what waits in its sources has grown from {before:,.0f} "
        f"to {now:,.0f} files or records; give it more cores, or allow more a batch",
    )


def _slow(last: list[Record], interval: float | None) -> Verdict | None:
    work = median(each.seconds for each in last)
    if not interval or work <= _ROOM * interval:
        return None
    if work > interval:
        return Verdict(
            "bad",
            f"slower than its trigger: batches take {work:.1f} s, and the trigger asks for one every "
            f"{interval:g} s; give it more cores, or a longer interval",
        )
    share = work / interval
    return Verdict("warn", f"busy for {share:.0%} of the time: little room is left for a peak")


def _growing_state(last: list[Record]) -> Verdict | None:
    rows = [each.state_rows for each in last if each.state_rows is not None]
    if last[-1].has_watermark or len(rows) < _FEWEST or rows != sorted(rows):
        return None
    lately = rows[-len(rows) // 3 :]
    if rows[-1] <= _GROWN * max(rows[0], 1) or lately[-1] <= _STILL_GROWN * lately[0]:
        return None
    return Verdict(
        "warn",
        f"its state grows without a watermark, over {len(rows)} batches from {rows[0]:,} to {rows[-1]:,} "
        "rows; if new keys never end, it will not fit some day: with an event time, give the input a "
        "watermark (windows.with_watermark)",
    )


def _watermark(last: list[Record]) -> Verdict | None:
    marks = [each.watermark for each in last]
    if not last[-1].has_watermark:
        return None
    now = marks[-1]
    if now is not None and now > last[-1].at + _AHEAD:
        return Verdict(
            "bad",
            f"its watermark is at {now:%Y-%m-%d %H:%M} UTC, ahead of the clock: a row is dated in the "
            "future, and all others count as late until then; windows.with_watermark sets such rows aside",
        )
    still = next((number for number, mark in enumerate(reversed(marks)) if mark != now), len(marks))
    if still < _FEWEST:
        return None
    since = "has not moved yet" if now is None else f"has stood still at {now:%Y-%m-%d %H:%M:%S} UTC"
    return Verdict(
        "warn",
        f"its watermark {since}, over {still} batches with rows: no window closes; the times of the rows do "
        "not advance, or one of several sources sends none",
    )


def _partitions(last: list[Record]) -> Verdict | None:
    partitions, rows = last[-1].partitions, max(each.state_rows or 0 for each in last)
    if partitions is None or partitions <= _PARTITIONS or partitions < 4 * rows:
        return None
    return Verdict(
        "warn",
        f"{partitions} partitions for {rows:,} rows of state: each batch starts {partitions} tasks; set "
        "spark.sql.shuffle.partitions to the number of cores, and start on a new checkpoint",
    )


def _compacting(last: list[Record]) -> Verdict | None:
    if not last[-1].to_files:
        return None
    ends = [each.seconds for each in last if each.batch % _COMPACTS == _COMPACTS - 1]
    others = [each.seconds for each in last if each.batch % _COMPACTS != _COMPACTS - 1]
    if len(ends) < 2 or min(ends) < 2 * median(others):  # noqa: PLR2004 - more than one, and twice as long
        return None
    return Verdict(
        "warn",
        f"every tenth batch takes {median(ends):.1f} s in place of {median(others):.1f} s: Spark's file sink "
        "compacts its log; sinks.batch_files has no such log",
    )
