"""What a query has written last, where the driver has those rows anyway: a view, or a file."""

from __future__ import annotations

import csv
import json
import math
import re
import threading
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit._html import last_number
from sparkstream_kit._spark import queries as asking
from sparkstream_kit.errors import innermost_cause, printable
from sparkstream_kit.sinks import builtin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    _Row = Sequence[str | None]

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

    Example:
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
