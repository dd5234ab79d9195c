"""Pictures of a run for its page, and the last rows that a query has written.

`drawing` and `moments` run and pace any view in a thread of its own. `Sent` turns
pictures into the JSON that the web page receives. `Results` reads what the sinks
`sinks.latest` and `sinks.memory` have written, so that the page and the notebook can
show it. `status` is what a program is told of a run. Texts are cleaned of control
characters.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from heapq import nlargest
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal import threads
from sparkstream_kit._internal.columns import quoted
from sparkstream_kit._internal.file_system import JSON_VERSION, as_json
from sparkstream_kit._internal.spark.queries import start_facts
from sparkstream_kit.display import last_number
from sparkstream_kit.errors import innermost_cause, printable
from sparkstream_kit.sinks import cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Board, Picture
    from sparkstream_kit.sinks.base import Target

    _Row = Sequence[str | None]


_log = logging.getLogger(__name__)

_END_LIMIT = 10.0  # seconds to wait for the last picture at the end of a run


@contextmanager
def drawing(draw: Callable[[threading.Event], object]) -> Iterator[None]:
    """Call `draw` in a thread while the block runs, and wait up to 10 seconds for its last picture.

    An error in `draw` is logged and ends only the view.

    Args:
        draw: draws until the event that it is given is set, then draws for the last
            time and returns.
    """

    def drawn(over: threading.Event) -> None:
        try:
            draw(over)
        except Exception as err:  # noqa: BLE001 - said, and the run goes on
            _log.warning(
                "the run goes on without its picture: %s: %s", type(err).__name__, err
            )

    with threads.beside("picture", drawn, _END_LIMIT):
        yield


def moments(
    board: Board, over: threading.Event, *, every: float, beat: float
) -> Iterator[None]:
    """Yield when a view has to draw: at once, after changes of the board, at the end.

    While the board is not live, there is nothing to draw.

    Args:
        board: the board of a run.
        over: the event that ends the iteration, after one last moment.
        every: the least time between two moments, in seconds.
        beat: the longest time to wait for a change, in seconds: views also show how
            long a query is silent.
    """
    version = -1
    while not over.is_set():
        version = board.wait(version, beat)
        if board.live:
            yield
        over.wait(every)
    if board.live:
        yield


class Sent:
    """Remembers which batches and results a browser has, to send each only once."""

    def __init__(self, results: Results) -> None:
        self._results = results
        # By query id: the id of the last batch that was sent
        self._batches: dict[str, int] = {}
        # By query name: the last result that was sent
        self._sent: dict[str, Result] = {}
        self._first = True

    def text(
        self, pictures: Sequence[Picture], *, ended: str, spark: str | None
    ) -> str:
        """Return everything that is new for the browser, as one line of JSON.

        Args:
            pictures: the queries, the one with the worst verdict first.
            ended: how the run has ended; empty while it goes on.
            spark: the URL of Spark's own web UI; None if there is none.
        """
        message = {
            # The browser drops its old batches on the first message of a connection,
            # because it may have reconnected to a job that was restarted meanwhile.
            "first": self._first,
            "ended": printable(ended),
            "spark": spark,
            "queries": [self._query(picture, last=bool(ended)) for picture in pictures],
        }
        self._first = False
        return as_json(message)

    def _query(self, picture: Picture, *, last: bool) -> dict[str, Any]:
        """Return what is new about a query; `last` is for the end of the run."""
        summary = picture.summary
        sent = self._batches.get(summary.query_id, -1)
        new_batches = [batch for batch in picture.batches if batch.batch > sent]
        if picture.batches:
            self._batches[summary.query_id] = picture.batches[-1].batch
        query = {
            "name": printable(picture.name),
            "verdicts": [
                [verdict.level, printable(verdict.text)] for verdict in picture.verdicts
            ],
            "batches": new_batches,
            "totals": {
                "rows": summary.input_rows,
                "late": summary.late_rows,
                "bad": summary.bad_rows,
            },
        }
        result = self._results.of(picture.name, summary.batches, last=last)
        if result is not None and result is not self._sent.get(picture.name):
            self._sent[picture.name] = result
            query["result"] = vars(result)
        return query


def status(board: Board, ended: str) -> str:
    """Return what `/status` answers, as one line of JSON whose fields docs/monitoring.md lists.

    Args:
        board: the board of the run.
        ended: how the run has ended; empty while it goes on.
    """
    queries = []
    for picture in board.pictures():
        last = picture.batches[-1] if picture.batches else None
        summary = replace(picture.summary, verdicts=picture.verdicts)
        queries.append({"batch": last, "summary": summary})
    answer = {
        "version": JSON_VERSION,
        "ended": ended,
        "problem": board.problem,
        "queries": queries,
    }
    return printable(as_json(answer))


_ROWS = 50  # rows that a result shows
_BARS = 10  # bars in a chart of a result
# Least seconds between two reads of a result, because each is a request on Spark
# Connect
_EVERY = 2.0
# As Spark names types
_NUMERIC = re.compile("tinyint|smallint|int|bigint|float|double|decimal.*")


@dataclass(frozen=True)
class Result:
    """The rows of a query's result that a view shows.

    These are the first rows, or the newest ones of a table of `sinks.memory`.

    Attributes:
        place: where the rows are, such as "view totals".
        columns: the names of the columns.
        numeric: for each column, whether it holds numbers.
        rows: the values as text, at most 50 rows; None stands for NULL.
        more: whether further rows follow these.
        bars: the ten largest values of the last numeric column, each as a label, the
            value as text, and its share of the largest value, from 0 to 1.
        problem: why the rows could not be read; None if they could.
    """

    place: str
    columns: Sequence[str] = ()
    numeric: Sequence[bool] = ()
    rows: Sequence[_Row] = ()
    more: bool = False
    bars: Sequence[tuple[str, str, float]] = ()
    problem: str | None = None


class Results:
    """Reads and caches results of a run's queries, each at most every two seconds."""

    def __init__(self, places: Mapping[str, tuple[SparkSession, Target]]) -> None:
        self._lock = threading.Lock()
        self._results: dict[str, Result] = {}  # by query name
        # By query name: the number of batches, and the time, at the last read.
        self._last_read: dict[str, tuple[int, float]] = {}
        self._places = places

    def of(self, name: str, batches: int, *, last: bool) -> Result | None:
        """Return a query's result, read again after a new batch and two seconds.

        Between two reads, the method returns the same object. It returns None before
        the first batch, and if the driver cannot reach the rows of the query.

        Args:
            name: the name of the query.
            batches: the number of batches that the query has completed.
            last: whether the run ends; the result is then read without waiting for the
                two seconds.
        """
        if name not in self._places:
            return None
        with self._lock:
            read_batches, read_at = self._last_read.get(name, (0, -math.inf))
            is_new = batches > 0 and batches != read_batches
            if is_new and (last or time.monotonic() - read_at >= _EVERY):
                self._last_read[name] = batches, time.monotonic()
                self._results[name] = _read_result(*self._places[name])
            return self._results.get(name)


def places(
    queries: Iterable[StreamingQuery], *, memory: bool = False
) -> dict[str, tuple[SparkSession, Target]]:
    """Find the views of `sinks.latest` to which queries write, by the name of the query.

    Args:
        queries: the queries of a run.
        memory: whether to include the tables of `sinks.memory`; each read of such a
            table runs a small Spark job.

    Returns:
        For each such query, the session that reads its result, and its view or table.
    """
    by_query: dict[str, tuple[SparkSession, Target]] = {}
    kinds = ("view", "memory") if memory else ("view",)
    for query in queries:
        facts = start_facts(query)
        views = [target for target in facts.targets if target.kind in kinds]
        if facts.frame is not None and views:
            by_query[query.name or query.id] = facts.frame.sparkSession, views[0]
    return by_query


def _read_result(spark: SparkSession, place: Target) -> Result:
    """Read a result from its place; an error becomes the `problem` of the result."""
    is_table = place.kind == "memory"
    kind = "table" if is_table else place.kind
    label = printable(f"{kind} {place.name}")
    try:
        columns, numeric, rows = _of_view(spark, place.name, newest=is_table)
    except Exception as err:  # noqa: BLE001 - shown in its place, and the run goes on
        problem = printable(f"it cannot be read: {innermost_cause(err)}")
        return Result(label, problem=problem)
    first = [_printable_row(row) for row in rows[:_ROWS]]
    return Result(
        label,
        list(map(printable, columns)),
        numeric,
        first,
        more=len(rows) > _ROWS,
        bars=bars(numeric, first),
    )


def _printable_row(row: _Row) -> _Row:
    """Return a row with the control characters in its values escaped."""
    return tuple(value and printable(value) for value in row)


def _of_view(
    spark: SparkSession, name: str, *, newest: bool
) -> tuple[list[str], list[bool], list[_Row]]:
    """Return a view's columns, which of them are numeric, and its first or newest rows.

    Without `newest` no Spark job runs, because the view of `sinks.latest` holds its
    rows in the driver.
    """
    table = spark.table(quoted(name))
    if newest:
        frame = table.offset(max(table.count() - _ROWS, 0))
    else:
        frame = table.limit(_ROWS + 1)
    numeric = [_NUMERIC.fullmatch(kind) is not None for _, kind in frame.dtypes]
    return frame.columns, numeric, list(cells.cells(frame))


def bars(numeric: Sequence[bool], rows: Sequence[_Row]) -> list[tuple[str, str, float]]:
    """Return bars of the last numeric column's ten largest values, the largest first.

    Each bar is a label from the columns without numbers, the value as text, and its
    share of the largest value. If every column is numeric, the first other column is
    the label.

    Examples:
        >>> bars([False, True, True], [("ink", "1", "2.5"), ("tea", "1", "5")])
        [('tea', '5', 1.0), ('ink', '2.5', 0.5)]
    """
    value_place = last_number(numeric)
    if value_place is None:
        return []
    label_places = _label_places(numeric, value_place)
    finite = []
    for row in rows:
        number = float(row[value_place] or "nan")
        if math.isfinite(number):
            finite.append((number, row))
    largest = nlargest(_BARS, finite, key=itemgetter(0))
    largest_value = max((number for number, _ in largest), default=0)
    result = []
    for number, row in largest:
        texts = [row[place] for place in label_places]
        label = " · ".join("NULL" if text is None else text for text in texts)
        share = max(number, 0) / largest_value if largest_value > 0 else 0.0
        result.append((label, str(row[value_place]), share))
    return result


def _label_places(numeric: Sequence[bool], value_place: int) -> list[int]:
    """Return the indexes of the columns that label a bar (see `bars`)."""
    text_places = [place for place, is_number in enumerate(numeric) if not is_number]
    if text_places:
        return text_places
    others = [place for place in range(len(numeric)) if place != value_place]
    return others[:1]
