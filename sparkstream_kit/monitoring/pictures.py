"""Pictures of a run for its page, and the last rows that a query has written."""

from __future__ import annotations

import csv
import json
import logging
import math
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit import _waiting
from sparkstream_kit._spark import queries as asking
from sparkstream_kit.display import last_number
from sparkstream_kit.errors import innermost_cause, printable
from sparkstream_kit.sinks import builtin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Batch, Board, Picture

    _Row = Sequence[str | None]


_log = logging.getLogger(__name__)

_END_LIMIT = 10.0  # seconds that the last picture may take


@contextmanager
def drawing(draw: Callable[[threading.Event], None]) -> Iterator[None]:
    """Draw beside the block until it ends, and then once more; an error in it is logged, and ends it alone.

    Args:
        draw: draws until its event is set, and then for the last time.
    """
    over = threading.Event()

    def drawn() -> None:
        try:
            draw(over)
        except Exception as err:  # noqa: BLE001 - said, and the run goes on
            _log.warning("the run goes on without its picture: %s: %s", type(err).__name__, err)

    thread = _waiting.in_thread("picture", drawn)
    try:
        yield
    finally:
        over.set()
        thread.join(_END_LIMIT)


def moments(board: Board, over: threading.Event, *, every: float, beat: float) -> Iterator[None]:
    """Yield at once, whenever something on a board is new, and when it is over.

    Args:
        board: of a run.
        over: ends this.
        every: seconds from one moment to the next, at least.
        beat: and at most: silence is news, too.
    """
    seen = -1
    while not over.is_set():
        seen = board.wait(seen, beat)
        yield
        over.wait(every)
    yield


class Sent:
    """What one browser has been sent, so that it is sent no batch twice."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._batches: dict[str, int] = {}  # the last one of each run
        self._sent: dict[str, Result] = {}  # the last one of each query
        self._first = True

    def text(self, pictures: Sequence[Picture], *, ended: str, spark: str | None) -> str:
        """Return what the browser has not seen yet, as one line of JSON.

        Args:
            pictures: the queries, the worst first.
            ended: how the run has ended; empty while it goes on.
            spark: the address of Spark's own page.
        """
        told = {
            # A browser drops what it has from before: the job may have been started again meanwhile.
            "first": self._first,
            "ended": printable(ended),
            "spark": spark,
            "queries": [self._query(each, last=bool(ended)) for each in newest_runs(pictures)],
        }
        self._first = False
        return json.dumps(told)

    def _query(self, picture: Picture, *, last: bool) -> dict[str, Any]:
        seen = self._batches.get(picture.run_id, -1)
        new = [_batch(each) for each in picture.batches if each.batch > seen]
        if picture.batches:
            self._batches[picture.run_id] = picture.batches[-1].batch
        done = picture.summary
        query = {
            "name": printable(picture.name),
            "run": picture.run_id,
            "verdicts": [[said.level, printable(said.text)] for said in picture.verdicts],
            "batches": new,
            "totals": {"rows": done.input_rows, "late": done.late_rows, "bad": done.bad_rows},
        }
        found = self._results.of(picture.name, done.batches, last=last)
        if found is not None and found is not self._sent.get(picture.name):
            self._sent[picture.name] = found
            query["result"] = vars(found)
        return query


def newest_runs(pictures: Sequence[Picture]) -> list[Picture]:
    """Return of each query its last start: `run(…, drain=True)` starts it once more."""
    newest: dict[str, Picture] = {}
    for each in pictures:
        if each.name not in newest or _began(newest[each.name]) < _began(each):
            newest[each.name] = each
    return [each for each in pictures if newest[each.name] is each]


def _began(picture: Picture) -> float:
    """Return when the last batch of a query began; of one that still waits for its first, a later time."""
    return picture.batches[-1].at.timestamp() if picture.batches else math.inf


def _batch(batch: Batch) -> dict[str, Any]:
    """Return a batch with times in seconds; a page on a long run holds hundreds."""
    return {
        "id": batch.batch,
        "at": batch.at.timestamp(),
        "seconds": batch.seconds,
        "rows": batch.rows,
        "out": batch.rows_out,
        "parts": [batch.work, batch.planning, batch.log_writes, batch.looking],
        "state": batch.state_rows,
        "memory": batch.state_bytes,
        "lag": batch.lag,
        "waiting": batch.backlog,
        "files": batch.files,
    }


_ROWS = 50  # that a result shows
_BARS = 10
_EVERY = 2.0  # seconds from one look to the next: on Spark Connect each is a question to the server
# A zip code is no number, nor is an article's 007.
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_NUMERIC = re.compile("tinyint|smallint|int|bigint|float|double|decimal.*")  # as Spark names types


@dataclass(frozen=True)
class Result:
    """The first rows of what a query has written last.

    Attributes:
        place: where the rows are, such as "view totals".
        columns: their names.
        numeric: of each column whether it holds numbers.
        rows: the values as texts; None is null.
        more: whether there are more rows.
        bars: the ten largest values of the last numeric column: a label, the value, its share of the largest.
        problem: why there are no rows, if they could not be read.
    """

    place: str
    columns: Sequence[str] = ()
    numeric: Sequence[bool] = ()
    rows: Sequence[_Row] = ()
    more: bool = False
    bars: Sequence[tuple[str, str, float]] = ()
    problem: str | None = None


class Results:
    """Looks at the results of a run's queries when somebody asks, at most each two seconds."""

    def __init__(self, places: Mapping[str, tuple[SparkSession | None, str]]) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, Result] = {}
        self._looked: dict[str, tuple[int, float]] = {}  # of each query: after which batch, and when
        self._places = places

    def of(self, name: str, batches: int, *, last: bool) -> Result | None:
        """Return the result of a query, the same object until the next look at it.

        None if the driver does not have the query's rows.

        Args:
            name: the query's name.
            batches: how many it has had.
            last: whether the run ends, so that there is no later look.
        """
        if name not in self._places:
            return None
        with self._lock:
            after, when = self._looked.get(name, (0, -math.inf))
            if batches and batches != after and (last or time.monotonic() - when >= _EVERY):
                self._looked[name] = batches, time.monotonic()
                self._found[name] = _look(*self._places[name])
            return self._found.get(name)


def places(
    queries: Iterable[StreamingQuery], *, memory: bool = False
) -> dict[str, tuple[SparkSession | None, str]]:
    """Return by the name of each query where its result is, if the driver has that: `view totals`.

    Args:
        queries: of a run.
        memory: with the tables of `sinks.memory`, for which a small Spark job runs at each look.
    """
    found: dict[str, tuple[SparkSession | None, str]] = {}
    for query in queries:
        known = asking.started(query)
        shown = [
            place for place in known.targets if _is_shown(place) or (memory and place.startswith("memory "))
        ]
        if known.frame is not None and shown:
            in_session = shown[0].startswith(("memory ", "view "))
            found[query.name or query.id] = known.frame.sparkSession if in_session else None, shown[0]
    return found


def _is_shown(place: str) -> bool:
    kind, _, path = place.partition(" ")
    return kind == "view" or (kind == "file" and Path(path).suffix in (".csv", ".json"))


def _look(spark: SparkSession | None, place: str) -> Result:
    name = place.partition(" ")[2]
    shown = f"file {Path(name).name}" if place.startswith("file ") else place.replace("memory ", "table ", 1)
    shown = printable(shown)
    try:
        newest = place.startswith("memory ")
        columns, numeric, rows = (
            _of_file(Path(name)) if spark is None else _of_view(spark, name, newest=newest)
        )
    except Exception as err:  # noqa: BLE001 - shown in its place, and the run goes on
        return Result(shown, problem=printable(f"it cannot be read: {innermost_cause(err)}"))
    more, columns = len(rows) > _ROWS, list(map(printable, columns))
    first = [tuple(value and printable(value) for value in row) for row in rows[:_ROWS]]
    return Result(shown, columns, numeric, first, more, bars(numeric, first))


_Table = tuple[list[str], list[bool], list["_Row"]]


def _of_view(spark: SparkSession, name: str, *, newest: bool) -> _Table:
    """Return the first rows of a view, or its last ones; `sinks.latest` holds rows, for which no job runs."""
    quoted = f"`{name.replace('`', '``')}`"
    frame = spark.table(quoted)
    frame = frame.offset(max(frame.count() - _ROWS, 0)) if newest else frame.limit(_ROWS + 1)
    numeric = [_NUMERIC.fullmatch(kind) is not None for _, kind in frame.dtypes]
    return frame.columns, numeric, list(builtin.cells(frame))


def _of_file(path: Path) -> _Table:
    """Return the first rows of a file that `sinks.snapshot` has written."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            lines = csv.reader(file)
            columns = next(lines)
            rows = [[cell or None for cell in row] for row in islice(lines, _ROWS + 1)]
            known = [[row[place] for row in rows if row[place]] for place in range(len(columns))]
            return columns, [bool(all_) and all(map(_is_number, all_)) for all_ in known], list(rows)
        objects = (line.strip().rstrip(",") for line in islice(file, 1, _ROWS + 2))  # one on each line
        read = [json.loads(line, parse_int=_Text, parse_float=_Text) for line in objects if line != "]"]
    names = list(read[0]) if read else []
    numeric = [any(isinstance(row[name], _Text) for row in read) for name in names]
    return names, numeric, [[_as_text(row[name]) for name in names] for row in read]


class _Text(str):
    """A number of JSON, in full."""

    __slots__ = ()


def _is_number(cell: str | None) -> bool:
    return cell is not None and _NUMBER.fullmatch(cell) is not None


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def bars(numeric: Sequence[bool], rows: Sequence[_Row]) -> list[tuple[str, str, float]]:
    """Return the ten largest values of the last numeric column, each with a label of the other columns.

    Examples:
        >>> bars([False, True, True], [("ink", "1", "2.5"), ("tea", "1", "5")])
        [('tea', '5', 1.0), ('ink', '2.5', 0.5)]
    """
    value = last_number(numeric)
    if value is None:
        return []
    words = [place for place, is_number in enumerate(numeric) if not is_number]
    words = words or [place for place in range(len(numeric)) if place != value][:1]
    known = [(float(row[value] or "nan"), row) for row in rows]
    largest = sorted(
        ((number, row) for number, row in known if math.isfinite(number)), key=lambda each: -each[0]
    )[:_BARS]
    most = max((number for number, _ in largest), default=0)
    return [
        (
            " · ".join(row[place] or "NULL" for place in words),
            str(row[value]),
            max(number, 0) / most if most > 0 else 0.0,
        )
        for number, row in largest
    ]
