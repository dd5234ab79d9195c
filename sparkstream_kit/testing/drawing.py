"""A test's rows, windows and watermark on one axis of time, for the report of a test that fails."""

from __future__ import annotations

from datetime import MAXYEAR, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from sparkstream_kit._timeline import Mark, Span, draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparkstream_kit.testing.harness import Source
    from sparkstream_kit.testing.queries import Query

__all__ = ["drawn"]


def drawn(sources: Sequence[Source], queries: Sequence[Query]) -> str:
    """Return the timeline of each query that has a watermark; nothing for the others.

    The rows are those that the sources got, by batch; one that came at or below the watermark of its batch is
    drawn as late. The windows are those of the results, and the watermark is that of the last batch
    before the end of the input.
    """
    timelines = []
    for number, query in enumerate(queries):
        known = (batch.watermark for batch in query.batches)
        moved = [watermark for watermark in known if watermark is not None and watermark.year < MAXYEAR]
        if not moved:
            continue
        marks = [mark for source in sources for mark in _drawn_rows(source, query)]
        picture = draw(_windows(query), marks, watermark=moved[-1])
        timelines.append(
            f"query {number}: its rows, windows and watermark (! is a row that the watermark had passed)\n\n"
            f"{picture}"
        )
    return "\n\n".join(timelines)


def _drawn_rows(source: Source, query: Query) -> Iterator[Mark]:
    """Yield the rows of a source's batches, by its first column of times."""
    import pyarrow.parquet as pq
    from pyspark.sql.types import TimestampType

    time = next((field.name for field in source.schema if isinstance(field.dataType, TimestampType)), None)
    if time is None:
        return
    files = source.files()
    fed = {batch.batch_id: batch.watermark for batch in query.batches if batch.progress.numInputRows}
    # A batch has read one file, unless there were more of them than files.
    watermarks = list(fed.values()) if len(fed) <= len(files) else []
    for number, (file, watermark) in enumerate(zip_longest(files, watermarks)):
        for value in pq.read_table(file, columns=[time])[time].to_pylist():
            if value is not None:
                at = value.astimezone().replace(tzinfo=None)
                yield Mark(f"{time}, added {number}", at, late=watermark is not None and at <= watermark)


def _windows(query: Query) -> list[Span]:
    """Return the windows of the results, each once and in their order."""
    found = set()
    for batch in query.batches:
        for row in batch.rows:
            named = row.asDict()
            for start, end in [(named.get("start"), named.get("end")), *map(_ends, named.values())]:
                if isinstance(start, datetime) and isinstance(end, datetime):
                    found.add((start, end))
    return [Span(f"{start:%H:%M:%S} to {end:%H:%M:%S}", start, end) for start, end in sorted(found)]


def _ends(value: Any) -> tuple[Any, Any]:
    """Return the start and the end of a value that is a window."""
    names = getattr(value, "__fields__", ())
    return (value["start"], value["end"]) if list(names) == ["start", "end"] else (None, None)
