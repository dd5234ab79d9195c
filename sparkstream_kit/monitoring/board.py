"""What the queries of a run have done and do now: a record of each batch, in memory and in a file.

A `Board` collects the progress of each batch in memory and hands out `Picture` objects,
one for each query, which the terminal, the notebook and the web page draw. `live` shows
one stream in a notebook.

A recording is the flight recorder of a run: a file of JSON lines that shows afterwards
what the run did. Its first line names the queries. One line for each batch follows,
with Spark's own progress, and the last line gives the time at which the run ended. A
run that was killed has no last line. The next run appends to the same file. `recording`
writes such a file, and `follow` reads one.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pyspark.sql.streaming.listener import StreamingQueryProgress

from sparkstream_kit import run, sinks, start
from sparkstream_kit._internal.arguments import check, is_a
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark.queries import (
    is_active,
    start_facts,
    table,
    times_computed,
)
from sparkstream_kit.errors import InvalidInputError, reject_unknown, without_secrets
from sparkstream_kit.progress import QuerySummary, first_summary
from sparkstream_kit.verdicts import LEVELS, Record, Verdict, of_query, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery


# Batches over which a rate is averaged, because the rate of a single batch jumps
_LAST = 5
# From which value on a number is divided by what, and its unit then. 999,950 is 1.0M:
# as 1000.0k it would have seven characters.
_UNITS = (
    (999_950e6, 1e12, "T"),
    (999_950e3, 1e9, "G"),
    (999_950, 1e6, "M"),
    (10_000, 1e3, "k"),
)


def arriving(batches: Sequence[BatchRecord]) -> float | None:
    """Return the recent input rate in rows per second; None before the second batch.

    The rate covers the last five batches. It counts the rows that these batches read
    plus the change of the backlog, so a growing backlog raises the rate above the
    processing rate. A file in the backlog counts with the average number of rows of the
    files that these batches read. For a query that reads both files and Kafka, only the
    rows read are counted.
    """
    last = batches[-_LAST - 1 :]
    if len(last) < 2:  # noqa: PLR2004 - a time from one to the next
        return None
    begin = last[0]
    end = last[-1]
    rows_read: float = sum(batch.rows for batch in last[1:])
    rows = max(rows_read + _backlog_growth(begin, end, rows_read), 0)
    return rate(rows, (end.at - begin.at).total_seconds())


def _backlog_growth(begin: BatchRecord, end: BatchRecord, rows_read: float) -> float:
    """Return by how many rows the backlog has grown from one batch to another.

    The result is 0 if the backlog is not known, or is in files and in records.

    Args:
        begin: the earlier batch.
        end: the later batch.
        rows_read: the rows that the batches after `begin` have read, up to `end`.
    """
    has_two_units = end.files_waiting is not None and end.records_behind is not None
    if has_two_units or begin.backlog is None or end.backlog is None:
        return 0
    growth = end.backlog - begin.backlog
    if begin.files is None or end.files is None:  # records, each of which is a row
        return growth
    files_read = end.files - begin.files
    if files_read == 0:
        return 0
    return growth * (rows_read / files_read)


def done(batches: Sequence[BatchRecord]) -> float | None:
    """Return the processing rate of the last five batches, in rows per second of batch time.

    None before the first batch.
    """
    last = batches[-_LAST:]
    return rate(sum(batch.rows for batch in last), sum(batch.seconds for batch in last))


def rate(rows: float, seconds: float) -> float | None:
    """Return `rows` per second; None if `seconds` is not positive."""
    return rows / seconds if seconds > 0 else None


def short(value: float | None) -> str:
    """Format a number in at most six characters for a narrow column; None becomes "-".

    A number from 10^15 on has more.

    Examples:
        >>> [short(value) for value in (None, 0, 3.25, 812, 9999, 12345, 3_400_000)]
        ['-', '0', '3.2', '812', '9,999', '12.3k', '3.4M']
    """
    if value is None:
        return "-"
    for limit, divisor, unit in _UNITS:
        if value >= limit:
            return f"{value / divisor:.1f}{unit}"
    if value >= 100 or value == int(value):  # noqa: PLR2004 - three digits are enough
        return f"{value:,.0f}"
    return f"{value:.1f}"


def height(values: Sequence[float]) -> float:
    """Return the value at the top of a small chart of `values`.

    The top is at most three times the median, so that a slow first batch does not
    flatten all others; if the median is 0, the top is the largest value.

    Examples:
        >>> height([40.0, 1.0, 2.0, 1.0]), height([0.0, 0.0, 5.0]), height([])
        (4.5, 5.0, 0.0)
    """
    if not values:
        return 0.0
    largest = max(values)
    return min(largest, 3 * median(values)) or largest


def starting(picture: Picture, now: datetime) -> str:
    """Return the text to show for a query that has not completed a batch yet."""
    if not picture.active:
        return "ended before its first batch"
    seconds = max((now - picture.since).total_seconds(), 0)
    return f"starting Spark's first batch … {seconds:.0f} s"


def live(
    shown: DataFrame | StreamingQuery,
    *,
    name: str = "live",
    mode: str | None = None,
    run_for: float | None = None,
    idle: float | None = None,
    max_batches: int | None = None,
    **trigger: Any,
) -> DataFrame | None:
    """Show a stream beneath the cell of a notebook: its result, progress and problems.

    The call waits as `run` does. It ends the query after `run_for` or `idle` seconds,
    after `max_batches` batches, at the end of input, or when the cell is interrupted.
    Outside of a notebook, the progress is shown on standard error, as by `run(…,
    show="terminal")`.

    ::

        counts = events.groupBy(windows.tumbling("time", "1 hour"), "action").count()
        monitoring.live(counts, run_for=20)

    Args:
        shown: a streaming DataFrame, or a running query. For a DataFrame, `live` starts
            a query that keeps its result in the driver's memory.
        name: for a DataFrame: the name of the new query, and of the table with its
            result.
        mode: for a DataFrame: the output mode; by default `complete` for an
            aggregation, else `append`.
        run_for: end the query after this many seconds; by default there is no limit.
        idle: end the query after this many seconds without an input row.
        max_batches: end the query after this number of batches.
        **trigger: for a DataFrame: the trigger of the new query, such as
            `availableNow=True`.

    Returns:
        The result as a static DataFrame with the columns of the query; None for a
        running query whose result is not in the session, because `start` did not start
        it or its sink is not `sinks.memory` or `sinks.latest`.

    Raises:
        InvalidInputError: `start` or `run` rejects an argument, the DataFrame is not
            streaming, or a running query got an argument that is for a DataFrame.
        QueryFailed: the query failed.

    Examples:
        In a session::

            monitoring.live(totals, run_for=20)  # in a cell of its own
    """
    check(live, locals())
    frame_or_query: Any = shown
    if is_a("StreamingQuery", frame_or_query):
        for_a_frame = list(trigger)
        if mode:
            for_a_frame.append("mode")
        if name != "live":
            for_a_frame.append("name")
        reject_unknown(
            "keyword of live() with a running query",
            for_a_frame,
            ("run_for", "idle", "max_batches"),
        )
        query: StreamingQuery = frame_or_query
    else:
        query = _started(frame_or_query, name, mode, trigger)
    frame = start_facts(query).frame
    view = table(query)
    try:
        run(query, run_for=run_for, idle=idle, max_batches=max_batches, show="notebook")
    except KeyboardInterrupt:
        # it came before or after the time in which `run` itself handles it
        query.stop()
        raise
    if frame is None or view is None:
        return None
    return frame.sparkSession.table(view)


def _started(
    frame: DataFrame, name: str, mode: str | None, trigger: dict[str, Any]
) -> StreamingQuery:
    """Start a query that keeps its result in the driver's memory, under `name`."""
    if not frame.isStreaming:
        raise InvalidInputError(
            "live() shows a stream, and this DataFrame does not stream; show it with"
            " display.show(frame)"
        )
    if mode is None:
        mode = "complete" if logical_plan.has(frame, "Aggregate") else "append"
    sink = sinks.latest(name) if mode == "complete" else sinks.memory(name)
    return start(frame, sink, name=name, mode=mode, **trigger)


_BEGIN = b'{"recording":'  # the first bytes of each recording
_FORM = 1  # version of the line format; a later format gets another number


@contextmanager
def recording(
    path: str | Path, queries: Sequence[StreamingQuery]
) -> Iterator[Callable[..., object]]:
    """Append a recording of a run to a file; each line is written at once by a single write.

    The first line is written when the block begins, and the last line when the block
    ends.

    Args:
        path: the file; recordings of earlier runs stay in it.
        queries: the queries of the run.

    Yields:
        A function to call with each batch, as `batch_line`. It raises an OSError if the
        line cannot be written, as on a full disk.

    Raises:
        InvalidInputError: the file cannot be written, or it holds something other than
            recordings.
    """
    with _in_one_line(path):
        file = Path(path).open("a+b", buffering=0)  # noqa: SIM115 - closed below

    def add(line: str) -> None:
        data = line.encode()
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, f"no room in {path} for a whole line")

    with file:
        with _in_one_line(path):
            add(_before(file.fileno(), path) + first_line(queries))
        try:
            yield lambda *batch: add(batch_line(*batch))
        finally:
            # A disk that is full now must not fail a run that ended well
            with suppress(OSError):
                add(end_line())


@contextmanager
def _in_one_line(path: str | Path) -> Iterator[None]:
    """Turn an OSError of the block into an InvalidInputError with a one-line message."""
    try:
        yield
    except OSError as err:
        why = f"cannot write the recording {path} ({err.strerror or err})"
        raise InvalidInputError(f"{why}; give a file that can be written") from err


def _before(file: int, path: str | Path) -> str:
    """Return what to write before a new recording, so that it starts on its own line.

    The text is empty, or a line break after a last line that a killed run has left
    without its end. A file whose very first line is torn is emptied.

    Args:
        file: the descriptor of the file, which is open to read and append.
        path: the path of the file, for the message.

    Raises:
        InvalidInputError: the file holds something other than recordings.
    """
    with open(file, "rb", closefd=False) as content:
        content.seek(0)
        first = content.readline()
        is_torn = not first.endswith(b"\n")
        if is_torn and _BEGIN.startswith(first[: len(_BEGIN)]):
            os.ftruncate(file, 0)  # its run was killed, or the disk was full
            return ""
        if "recording" not in _read(first.decode(errors="replace")):
            raise InvalidInputError(
                f"{path} holds something else than recordings; give another file"
            )
        content.seek(-1, os.SEEK_END)
        return "" if content.read() == b"\n" else "\n"


# --- lines


def first_line(queries: Iterable[StreamingQuery]) -> str:
    """Return a recording's first line: the queries' names, ids, modes and triggers."""
    described = []
    for query in queries:
        facts = start_facts(query)
        described.append(
            {
                "name": query.name or query.id,
                "id": query.id,
                "mode": facts.mode,
                "interval": facts.interval,
                "ends": facts.ends,
            }
        )
    return _line(
        {
            "recording": _FORM,
            "by": "sparkstream-kit",
            "at": _now(),
            "queries": described,
        }
    )


def batch_line(
    progress: StreamingQueryProgress, files: tuple[int, int] | None = None
) -> str:
    """Return a batch's line: its progress as JSON, without passwords, and its files."""
    batch = json.loads(progress.json) | {"files": files}
    for part in (*batch.get("sources", []), batch.get("sink", {})):
        if "description" in part:
            part["description"] = without_secrets(part["description"])
    return _line(batch)


def end_line() -> str:
    """Return the last line of a recording, which holds the current time as the end of the run."""
    return _line({"end": _now()})


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":")) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _read(line: str) -> dict[str, Any]:
    """Return the JSON object on a line; an empty one for a torn line, which is not valid JSON."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def follow(lines: Iterable[str], board: Board) -> None:
    """Replay a recording onto a board, line by line, until the lines end.

    If the recording holds several runs, each run clears the board, so the last run
    remains.

    Args:
        lines: the lines of a file; torn lines are skipped.
        board: receives the queries and their batches; the line at the end of a run ends
            the board.

    Raises:
        InvalidInputError: the first line does not begin a recording in the format of
            this version of the kit, or a line is no progress of a query.
    """
    fix = "give a file that --record of this version has written"
    for number, line in enumerate(lines, 1):
        values = _read(line)
        if number == 1 and values.get("recording") != _FORM:
            raise InvalidInputError(f"line 1 does not begin a recording; {fix}")
        try:
            if "recording" in values:
                _expect(values, board)
            elif "end" in values:
                board.end()
            elif values:
                _replay(values, board)
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise InvalidInputError(
                f"line {number} is no progress that can be read; {fix}"
            ) from err


def _expect(first: dict[str, Any], board: Board) -> None:
    """Clear a board, and add the queries that the first line of a recording names."""
    board.clear()
    since = datetime.fromisoformat(first["at"])
    for query in first["queries"]:
        summary = QuerySummary(query["name"], query["id"], mode=query["mode"])
        ends = query.get("ends", True)
        board.expect(QueryState(summary, query["interval"], since, ends=ends))


def _replay(batch: dict[str, Any], board: Board) -> None:
    """Add the batch of a recording's line to a board."""
    files = batch.get("files")
    if files:
        files = (files[0], files[1])
    board.add(StreamingQueryProgress.fromJson(batch), files)


SHOWN = 300  # batches that the board keeps for each query
# Seconds without a batch, on top of twice the usual time of one, before a warning
_SILENT = 10.0
# Seconds that the first batch may usually take, as much of Spark starts in it
_FIRST = 10.0
# `durationMs` in Spark's progress has finer phases; views show four groups of them (the
# fourth is `work`).
_PLANNING = ("queryPlanning", "getBatch")
_LOG_WRITES = ("walCommit", "commitBatch", "commitOffsets")


@dataclass(frozen=True)
class BatchRecord(Record):
    """One batch, as views show it: a `Record` plus the numbers that charts need.

    Attributes:
        work: seconds in which Spark read, computed and wrote the rows of the batch.
        planning: seconds in which Spark planned the batch.
        log_writes: seconds in which Spark wrote the logs of the checkpoint.
        looking: seconds in which Spark looked for new input.
        rows_out: rows written; None if the sink does not report them.
        state_bytes: bytes of memory that the state takes; None without state.
        late: rows, or groups of rows, that the batch dropped as late; None without a
            watermark.
        bad: bad rows that `quarantine` found in the batch; None if the query does not
            use `quarantine`.
    """

    work: float = 0.0
    planning: float = 0.0
    log_writes: float = 0.0
    looking: float = 0.0
    rows_out: int | None = None
    state_bytes: int | None = None
    late: int | None = None
    bad: int | None = None

    @property
    def lag(self) -> float | None:
        """Seconds from the watermark to the start of the batch; None without a watermark."""
        if self.watermark is None:
            return None
        return (self.at - self.watermark).total_seconds()


@dataclass(frozen=True)
class Picture:
    """A snapshot of one query for a view to draw.

    Attributes:
        name: the name of the query, or its id.
        active: whether the run still goes on.
        summary: the totals of the query in this run.
        batches: the last batches, at most 300, the oldest first.
        verdicts: the diagnosis of these batches and totals, the worst finding first.
        since: the time at which the query was started.
    """

    name: str
    active: bool
    summary: QuerySummary
    batches: tuple[BatchRecord, ...]
    verdicts: tuple[Verdict, ...]
    since: datetime

    @property
    def level(self) -> str:
        """The level of the worst verdict: `bad`, `warn`, or `ok` without any."""
        return self.verdicts[0].level if self.verdicts else "ok"


class Board:
    """Keeps the last batches of each query of a run, from which every view is drawn.

    The board is thread-safe: one thread adds batches while any number of views read.

    Attributes:
        problem: the error that keeps further batches from being added; empty if there
            is none.
        ended: whether the run has ended, so that no more batches follow.
        live: whether batches are added while they happen. While the past of a recording
            is read, `live` is
            False: views draw nothing, and the board does not warn that a query has had
                no batch for long.
    """

    def __init__(self) -> None:
        self._queries: dict[str, QueryState] = {}  # by query id
        self._changed = threading.Condition()
        self._version = 0
        self.problem = ""
        self.ended = False
        self.live = True

    def watch(self, queries: Iterable[StreamingQuery]) -> None:
        """Add running queries, so that views show them before their first batch."""
        for query in queries:
            facts = start_facts(query)
            summary = first_summary(query.name or query.id, query.id, facts)
            self.expect(
                QueryState(summary, facts.interval, ends=facts.ends, query=query)
            )

    def expect(self, query: QueryState) -> None:
        """Add a query before its first batch."""
        with self._changed:
            self._queries[query.summary.query_id] = query
            self._notify_views()

    def clear(self) -> None:
        """Remove all queries, so that the board can show another run."""
        with self._changed:
            self._queries.clear()
            self.ended = False
            self._notify_views()

    def add(
        self, progress: StreamingQueryProgress, files: tuple[int, int] | None = None
    ) -> None:
        """Add a batch by its progress; a query that the board does not know yet is added, too.

        A query that was started again, as `run(drain=True)` does for the last batch,
        counts as the same query: its query id is the same, and only its run id is new.
        A batch that was added before is ignored.
        """
        query_id = str(progress.id)
        with self._changed:
            unknown = QueryState(QuerySummary(progress.name or query_id, query_id))
            if self._queries.setdefault(query_id, unknown).add(progress, files):
                self._notify_views()

    def end(self) -> None:
        """Mark the run as ended: no more batches follow."""
        with self._changed:
            self.ended = True
            self._notify_views()

    def wait(self, last_version: int, limit: float) -> int:
        """Wait until the board changes, and return its version, which grows with each change.

        Args:
            last_version: the version that the last call returned; -1 for the first call, which
                returns at once.
            limit: the longest time to wait, in seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version > last_version, limit)
            return self._version

    def pictures(self, now: datetime | None = None) -> list[Picture]:
        """Return a snapshot of each query, the one with the worst verdict first.

        Args:
            now: the time against which silence is measured; by default the current
                time.
        """
        moment = now or datetime.now(UTC)
        with self._changed:
            copies = [
                replace(query, batches=query.batches.copy())
                for query in self._queries.values()
            ]
            ended = self.ended
        live = self.live and not ended
        pictures = [query.picture(moment, not ended, live) for query in copies]
        levels = (*LEVELS, "ok")
        return sorted(pictures, key=lambda picture: levels.index(picture.level))

    def _notify_views(self) -> None:
        """Wake up the views that wait for a change; the caller holds the lock."""
        self._version += 1
        self._changed.notify_all()


@dataclass
class QueryState:
    """The state that the board keeps for one query.

    Attributes:
        summary: the totals of the query in this run.
        interval: the trigger interval in seconds; None without one.
        since: the time at which the query was started.
        ends: whether the query ends by itself, as with `availableNow`.
        query: Spark's query; None for a query of a recording.
        batches: the last batches, at most 300, the oldest first.
    """

    summary: QuerySummary
    interval: float | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    ends: bool = True
    query: StreamingQuery | None = None
    batches: deque[BatchRecord] = field(default_factory=lambda: deque(maxlen=SHOWN))

    def picture(self, now: datetime, active: bool, live: bool) -> Picture:
        """Return a snapshot at `now`; if `live`, with a warning after a long silence."""
        batches = tuple(self.batches)
        verdicts = of_query(self.summary, batches, self.interval, self.ends)
        silence = None
        if live:
            silence = _silent(batches, self.since, self.interval, now)
        # A query may end with its input, while others of the run go on
        if silence is not None and not self._has_ended():
            verdicts = [silence, *verdicts]
        verdicts = sorted(verdicts, key=lambda verdict: LEVELS.index(verdict.level))
        return Picture(
            self.summary.name,
            active,
            self.summary,
            batches,
            tuple(verdicts),
            self.since,
        )

    def _has_ended(self) -> bool:
        """Return whether Spark's query has ended; False for one of a recording."""
        return self.query is not None and not is_active(self.query)

    def add(
        self, progress: StreamingQueryProgress, files: tuple[int, int] | None
    ) -> bool:
        """Add a batch, unless it was counted before, and return whether it is new."""
        before = self.summary
        self.summary = before.with_batch(progress, files)
        if self.summary is before:
            return False
        rows_out = progress.sink.numOutputRows
        self.batches.append(
            BatchRecord(
                **vars(record(progress, files)),
                work=_seconds(progress, "addBatch"),
                planning=_seconds(progress, *_PLANNING),
                log_writes=_seconds(progress, *_LOG_WRITES),
                looking=_seconds(progress, "latestOffset"),
                rows_out=rows_out if rows_out >= 0 else None,
                state_bytes=_state_bytes(progress),
                late=_more(before.late_rows, self.summary.late_rows),
                bad=_more(before.bad_rows, self.summary.bad_rows),
            )
        )
        return True


def _seconds(progress: StreamingQueryProgress, *phases: str) -> float:
    """Return how long some phases of a batch took together."""
    return sum(progress.durationMs.get(phase, 0) for phase in phases) / 1000


def _state_bytes(progress: StreamingQueryProgress) -> int | None:
    """Return the memory of a batch's state; None without state."""
    if not progress.stateOperators:
        return None
    # Spark adds up the memory of each time that a batch's state was computed.
    return sum(
        operator.memoryUsedBytes // times_computed(operator)
        for operator in progress.stateOperators
    )


def _more(before: int | None, now: int | None) -> int | None:
    """Return by how much a total has grown; None if it is not counted."""
    if now is None:
        return None
    return now - (before or 0)


def _silent(
    batches: tuple[BatchRecord, ...],
    since: datetime,
    interval: float | None,
    now: datetime,
) -> Verdict | None:
    """Return a warning if a running query has had no batch for long, else None."""
    if batches:
        last = batches[-1]
        silence = (now - last.at).total_seconds() - last.seconds
        usual = last.seconds
    else:
        silence = (now - since).total_seconds()
        usual = _FIRST
    if silence <= _SILENT + 2 * max(interval or 0, usual):
        return None
    text = (
        f"no batch for {silence:,.0f} s: no new rows have come, or a batch takes long"
    )
    return Verdict("warn", text, "silence")
