"""What the queries of a run have done and do now: a record of each batch, in memory and in a file.

A run's flight recorder: a file of JSON lines, which tells afterwards what the run did.

The first line says which queries ran. Each batch follows as Spark's own progress, and a line that says when
the run has ended. A run that was killed has no such line. The next run appends to the same file.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from pyspark.sql.streaming.listener import StreamingQueryProgress

from sparkstream_kit import run, sinks, start
from sparkstream_kit._arguments import check, is_a
from sparkstream_kit._spark import plan
from sparkstream_kit._spark import queries as asking
from sparkstream_kit.errors import InvalidInputError, without_secrets
from sparkstream_kit.progress import QuerySummary, drops
from sparkstream_kit.sources import samples
from sparkstream_kit.verdicts import LEVELS, Record, Verdict, of_late, of_rules, of_values, record, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.listener import StateOperatorProgress
    from pyspark.sql.streaming.query import StreamingQuery


_LAST = 5  # batches that a rate is of: one alone jumps
_UNITS = ((1e12, 1e9, "G"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))


def arriving(batches: Sequence[Batch]) -> float | None:
    """Return how many rows a second have arrived lately; None before the second batch.

    These are the rows that were read, and those by which there wait more than before; a file that waits
    counts with as many rows as those that were read have.
    """
    last = batches[-_LAST - 1 :]
    if len(last) < 2:  # noqa: PLR2004 - a time from one to the next
        return None
    begin, end = last[0], last[-1]
    rows: float = sum(batch.rows for batch in last[1:])
    if begin.backlog is not None and end.backlog is not None:
        files = None if begin.files is None or end.files is None else end.files - begin.files
        rows_each = 1 if files is None else rows / files if files else 0
        rows = max(rows + rows_each * (end.backlog - begin.backlog), 0)
    return rate(rows, (end.at - begin.at).total_seconds())


def done(batches: Sequence[Batch]) -> float | None:
    """Return how many rows a second of work its batches have done lately; None before the first."""
    last = batches[-_LAST:]
    return rate(sum(batch.rows for batch in last), sum(batch.seconds for batch in last))


def rate(rows: float, seconds: float) -> float | None:
    """Return rows a second; None where no time has passed."""
    return rows / seconds if seconds > 0 else None


def short(value: float | None) -> str:
    """Return a number in at most six characters.

    Examples:
        >>> [short(value) for value in (None, 0, 3.25, 812, 9999, 12345, 3_400_000)]
        ['-', '0', '3.2', '812', '9,999', '12.3k', '3.4M']
    """
    if value is None:
        return "-"
    for limit, of, unit in _UNITS:
        if value >= limit:
            return f"{value / of:.1f}{unit}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"  # noqa: PLR2004


def height(values: Sequence[float]) -> float:
    """Return the top of a small chart: a cold first batch of seconds must not flatten all others."""
    most = max(values, default=0.0)
    return min(most, 3 * median(values)) or most if values else 0.0


def starting(picture: Picture, now: datetime) -> str:
    """Say what Spark does before the first batch is through."""
    if not picture.active:
        return "ended before its first batch"
    return f"starting Spark's first batch … {max((now - picture.since).total_seconds(), 0):.0f} s"


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
    """Show a stream beneath the cell of a notebook: its result, its progress, and what is wrong in words.

    It waits as `run` does, and ends the query after `run_for` or `idle` seconds, after `max_batches`, at the
    end of input, or when the cell is interrupted. Outside of a notebook, the progress is shown as
    `run(…, show="terminal")` shows it.

    ::

        counts = events.groupBy(windows.tumbling("time", "1 hour"), "action").count()
        monitoring.live(counts, run_for=20)

    Args:
        shown: a streaming DataFrame, for which a query is started that keeps its result in the driver's
            memory; or a query that runs.
        name: the name of the query that is started, and of its table.
        mode: its output mode; by default `complete` for an aggregation, else `append`.
        run_for: seconds after which it ends.
        idle: seconds without an input row after which it ends.
        max_batches: it ends after this number of batches.
        **trigger: of the query that is started, such as `availableNow=True`.

    Returns:
        The result, as a static DataFrame; None of a query that keeps none in the session.

    Raises:
        InvalidInputError: as for `start` and `run`; a DataFrame that does not stream.
        QueryFailed: the query failed.

    Examples:
        In a session::

            monitoring.live(totals, run_for=20)  # in a cell of its own
    """
    check(live, locals())
    if is_a("StreamingQuery", shown):
        query = cast("StreamingQuery", shown)
    else:
        query = _started(cast("DataFrame", shown), name, mode, trigger)
    frame, table = asking.started(query).frame, asking.table(query)
    try:
        run(query, run_for=run_for, idle=idle, max_batches=max_batches, show="notebook")
    except KeyboardInterrupt:  # before or after `run` takes it for the end of the run
        query.stop()
        raise
    return None if frame is None or table is None else frame.sparkSession.table(table)


def _started(frame: DataFrame, name: str, mode: str | None, trigger: dict[str, Any]) -> StreamingQuery:
    if not frame.isStreaming:
        raise InvalidInputError(
            "live() shows a stream, and this DataFrame does not stream; show it with display.show(frame)"
        )
    if mode is None:
        mode = "complete" if plan.has(frame, "Aggregate") else "append"
    sink = sinks.latest(name) if mode == "complete" else sinks.memory(name)
    return start(frame, sink, name=name, mode=mode, **trigger)


_FORM = 1  # of the lines; a later form has another number
_READ = "give a file that --record has written"
_BEGIN = b'{"recording":'
_LINE = 1 << 16  # bytes; the last line is shorter


@contextmanager
def recording(
    path: str | Path, queries: Sequence[StreamingQuery]
) -> Iterator[Callable[[StreamingQueryProgress], None]]:
    """Append a run to a file, each line whole and at once.

    Args:
        path: the file; one that another run has written keeps what is in it.
        queries: those of the run.

    Yields:
        A function that gets each progress, and raises an OSError where there is no room for it.

    Raises:
        InvalidInputError: the file cannot be written, or holds something else.
    """
    with _in_one_line(path):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    whole = True

    def add(line: str) -> None:
        nonlocal whole
        whole, data = False, line.encode()
        whole = os.write(file, data) == len(data)
        if not whole:
            raise OSError(f"no room in {path}")

    try:
        with _in_one_line(path):
            add(_before(file, path) + first_line(queries))
        try:
            yield lambda progress: add(batch_line(progress))
        finally:
            if whole:  # after a line that is torn, this one could not be read either
                with suppress(OSError):  # the disk is full, and the run may have ended well
                    os.write(file, end_line().encode())
    finally:
        os.close(file)


@contextmanager
def _in_one_line(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        why = err.strerror or err
        raise InvalidInputError(
            f"cannot write the recording {path} ({why}); give a file that can be written"
        ) from err


def _before(file: int, path: str | Path) -> str:
    """Return what has to come before a line, for it to be a line of its own."""
    with open(file, "rb", closefd=False) as there:
        begin = there.readline()
        if not begin.endswith(b"\n") and _BEGIN.startswith(begin[: len(_BEGIN)]):
            os.ftruncate(file, 0)  # a run was killed, or the disk was full, in the very first line
            return ""
        if "recording" not in _read(begin.decode(errors="replace")):
            raise InvalidInputError(f"{path} holds something else than recordings; give another file")
        there.seek(-1, os.SEEK_END)
        return "" if there.read() == b"\n" else "\n"  # after the line that a killed run has left


# --- lines


def first_line(queries: Iterable[StreamingQuery]) -> str:
    """Return the line that a recording of these queries begins with."""
    told = [
        {
            "name": query.name or query.id,
            "id": query.id,
            "runId": str(query.runId),
            "mode": asking.started(query).mode,
            "interval": asking.started(query).interval,
            "ends": asking.started(query).ends,
        }
        for query in queries
    ]
    return _line({"recording": _FORM, "by": "sparkstream-kit", "at": _now(), "queries": told})


def batch_line(progress: StreamingQueryProgress) -> str:
    """Return the line of a batch: Spark's progress, without the passwords of addresses in it."""
    told = json.loads(progress.json)
    for part in (*told.get("sources", []), told.get("sink", {})):
        if "description" in part:
            part["description"] = without_secrets(part["description"])
    return _line(told)


def end_line() -> str:
    """Return the last line of a recording."""
    return _line({"end": _now()})


def _line(told: dict[str, Any]) -> str:
    return json.dumps(told, separators=(",", ":")) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _read(line: str) -> dict[str, Any]:
    """Return what a line tells; nothing of one that is torn."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def follow(lines: Iterable[str], board: Board) -> None:
    """Put the lines of a recording on a board, until they end; of several runs, the last one stays there.

    Args:
        lines: of a file or of a connection; a line that is torn is left out.
        board: is ended by the line at a run's end.

    Raises:
        InvalidInputError: these are no lines of a recording, or they are of a later version of the kit.
    """
    begun = False
    for number, line in enumerate(lines, 1):
        told = _read(line)
        if not begun and "recording" not in told:
            raise InvalidInputError(f"line {number} is not the first one of a recording; {_READ}")
        try:
            if "recording" in told:
                if told["recording"] != _FORM:
                    raise InvalidInputError("it was recorded by another version of the kit; use that one")
                begun = True
                _expect(told, board)
            elif "end" in told:
                board.end()
            elif told:
                board.add(StreamingQueryProgress.fromJson(told))
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            if isinstance(err, InvalidInputError):
                raise
            raise InvalidInputError(f"line {number} is no progress that can be read; {_READ}") from err


def _expect(told: dict[str, Any], board: Board) -> None:
    board.clear()
    since = datetime.fromisoformat(told["at"])
    for query in told["queries"]:
        summary = QuerySummary(query["name"], query["id"], mode=query["mode"])
        ends = query.get("ends", True)
        board.expect(query["runId"], Query(summary, query["interval"], since, ends=ends))


def has_ended(path: Path) -> bool:
    """Say whether the last run in a file has ended; one that was killed has not."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LINE))
        last = file.read().removesuffix(b"\n").rpartition(b"\n")[2]
    return "end" in _read(last.decode(errors="replace"))


SHOWN = 300  # batches of a query that a face can show
_RECORDED = 200  # batches that who comes late to a recording still gets
_SILENT = 10.0  # seconds without a batch, beyond what its trigger asks for, that are worth a word
_FIRST = 10.0  # seconds that a first batch may take, which starts much
# The parts of a batch by Spark's names, folded to four that people know.
_PLANNING = ("queryPlanning", "getBatch")
_LOG_WRITES = ("walCommit", "commitBatch", "commitOffsets")
_LOOKING = ("latestOffset",)


@dataclass(frozen=True)
class Batch(Record):
    """One batch, as views show it: a `Record` with what charts need.

    Attributes:
        work: seconds in which its rows were read, computed and written.
        planning: seconds in which Spark planned that.
        log_writes: seconds in which Spark wrote the checkpoint's logs.
        looking: seconds in which Spark looked for new input.
        rows_out: rows written; None where the sink does not say.
        state_bytes: the memory that its state takes; None without state.
        late: rows or groups that it dropped as late; None without a watermark.
        bad: bad rows that `quarantine` found in it; None where the query does not use that.
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
        """Seconds from the watermark to the batch's begin; None without a watermark."""
        return None if self.watermark is None else (self.at - self.watermark).total_seconds()


@dataclass(frozen=True)
class Picture:
    """A query at one moment.

    Attributes:
        name: the query's name.
        run_id: Spark's id of this start of the query.
        active: whether the run goes on.
        summary: what it has done in this run.
        batches: the last ones, at most 300, in order.
        verdicts: what they mean, the worst first.
        since: when it was started.
    """

    name: str
    run_id: str
    active: bool
    summary: QuerySummary
    batches: tuple[Batch, ...]
    verdicts: tuple[Verdict, ...]
    since: datetime

    @property
    def level(self) -> str:
        """How the query does: `bad`, `warn` or `ok`, as its worst verdict."""
        return self.verdicts[0].level if self.verdicts else "ok"


class Board:
    """Keeps the last batches of each query; one thread adds to it, and any number of others look at it.

    Attributes:
        problem: why no more batches are added, if that has failed.
        ended: whether no more batches come.
        live: whether its batches are added as they come; of a recording that is still being read nothing is
            said of how long ago the last one was.
    """

    def __init__(self) -> None:
        self._queries: dict[str, Query] = {}
        self._added = 0
        self._last: deque[StreamingQueryProgress] = deque(maxlen=_RECORDED)
        self._changed = threading.Condition()
        self._version = 0
        self.problem = ""
        self.ended = False
        self.live = True

    def watch(self, queries: Iterable[StreamingQuery]) -> None:
        """Add queries, before their first batch."""
        for query in queries:
            known = asking.started(query)
            by = drops(known.frame)
            summary = QuerySummary(query.name or query.id, query.id, mode=known.mode, drops=by)
            self.expect(str(query.runId), Query(summary, known.interval, ends=known.ends, query=query))

    def expect(self, run_id: str, query: Query) -> None:
        """Add a query, before its first batch, by Spark's id of this start of it."""
        with self._changed:
            self._queries[run_id] = query
            self._tell()

    def clear(self) -> None:
        """Forget what was, for another run."""
        with self._changed:
            self._queries.clear()
            self.ended = False
            self._tell()

    def add(self, progress: StreamingQueryProgress) -> None:
        """Add a batch, of a query that nobody has said to expect, too.

        A query that was started once more, as for its last batch, is the same one.
        """
        check(Board.add, locals())
        run_id, query_id = str(progress.runId), str(progress.id)
        with self._changed:
            if run_id not in self._queries:
                same = (key for key, each in self._queries.items() if each.summary.query_id == query_id)
                run_id = next(same, run_id)
            if run_id not in self._queries:
                self._queries[run_id] = Query(QuerySummary(progress.name or query_id, query_id))
            if self._queries[run_id].add(progress):
                self._last.append(progress)
                self._added += 1
                self._tell()

    def end(self) -> None:
        """Say that no more batches come."""
        with self._changed:
            self.ended = True
            self._tell()

    def since(self, seen: int) -> tuple[list[StreamingQueryProgress], int]:
        """Return the batches that came after the first `seen`, at most the last 200; and how many all are."""
        with self._changed:
            new = self._added - seen
            return list(self._last)[-new:] if new else [], self._added

    def wait(self, seen: int, limit: float) -> int:
        """Wait until there is something new, at most so many seconds.

        Args:
            seen: what this function returned last; -1 before.
            limit: seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version > seen, limit)
            return self._version

    def pictures(self, now: datetime | None = None) -> list[Picture]:
        """Return each query as it is now, the one with the worst verdict first.

        Args:
            now: the moment that they are shown at; by default the clock's.
        """
        moment = now or datetime.now(UTC)
        with self._changed:
            kept = {run_id: copy(query) for run_id, query in self._queries.items()}
            ended = self.ended
            for query in kept.values():
                query.batches = query.batches.copy()
        looked = self.live and not ended
        made = [query.picture(run_id, moment, not ended, looked) for run_id, query in kept.items()]
        return sorted(made, key=lambda each: LEVELS.index(each.level))

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()


@dataclass
class Query:
    """What the board keeps of a query.

    Attributes:
        summary: what it has done.
        interval: seconds from one batch to the next that its trigger asks for; None without one.
        since: when it was started.
        ends: whether it ends by itself, as with `availableNow`.
        query: Spark's own; none of a recording.
        batches: the last ones.
    """

    summary: QuerySummary
    interval: float | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    ends: bool = True
    query: StreamingQuery | None = None
    batches: deque[Batch] = field(default_factory=lambda: deque(maxlen=SHOWN))

    def picture(self, run_id: str, now: datetime, active: bool, live: bool) -> Picture:
        """Return the query as it is now; `live` is whether it is worth a word that nothing comes."""
        batches = tuple(self.batches)
        silent = _silent(batches, self.since, self.interval, now) if live else None
        if self.query is not None and silent and not asking.is_active(self.query):
            silent = None  # its input has ended, and not that of the others
        summary = replace(self.summary, **samples.seen(self.query))
        said = [
            *([silent] if silent else []),
            *verdicts(batches, interval=self.interval, ends=self.ends, mode=summary.mode),
            *of_late(summary),
            *of_rules(summary.broken),
            *of_values(summary),
        ]
        said.sort(key=lambda one: LEVELS.index(one.level))
        return Picture(summary.name, run_id, active, summary, batches, tuple(said), self.since)

    def add(self, progress: StreamingQueryProgress) -> bool:
        """Add a batch, and say whether it is a new one."""
        before, self.summary = self.summary, self.summary.with_batch(progress)
        if self.summary is before:
            return False
        times, out = progress.durationMs, progress.sink.numOutputRows
        self.batches.append(
            Batch(
                **vars(record(progress)),
                work=times.get("addBatch", 0) / 1000,
                planning=sum(times.get(part, 0) for part in _PLANNING) / 1000,
                log_writes=sum(times.get(part, 0) for part in _LOG_WRITES) / 1000,
                looking=sum(times.get(part, 0) for part in _LOOKING) / 1000,
                rows_out=out if out >= 0 else None,
                state_bytes=_bytes(progress.stateOperators),
                late=_more(before.late_rows, self.summary.late_rows),
                bad=_more(before.bad_rows, self.summary.bad_rows),
            )
        )
        return True


def _bytes(states: Sequence[StateOperatorProgress]) -> int | None:
    """Return the memory of a state; None without one."""
    return sum(each.memoryUsedBytes // asking.times_computed(each) for each in states) if states else None


def _more(before: int | None, now: int | None) -> int | None:
    return None if now is None else now - (before or 0)


def _silent(
    batches: tuple[Batch, ...], since: datetime, interval: float | None, now: datetime
) -> Verdict | None:
    """Say that a query has had no batch for long, although it runs."""
    last = batches[-1] if batches else None
    quiet = (now - (last.at if last else since)).total_seconds() - (last.seconds if last else 0)
    if quiet <= _SILENT + 2 * max(interval or 0, last.seconds if last else _FIRST):
        return None
    return Verdict("warn", f"no batch for {quiet:,.0f} s: no new rows have come, or a batch takes long")
