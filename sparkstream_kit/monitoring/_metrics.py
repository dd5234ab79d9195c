"""The metrics of a run, as Prometheus and others that know its format scrape them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sparkstream_kit.errors import MissingExtraError
from sparkstream_kit.monitoring._pictures import newest_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from sparkstream_kit.monitoring.board import Board, Picture

# By the name of the metric: an attribute of the summary, and what it counts.
_TOTALS = {
    "batches": ("batches", "Batches committed."),
    "input_rows": ("input_rows", "Rows read."),
    "output_rows": ("output_rows", "Rows written, where the sink says so."),
    "late_rows": ("late_rows", "Late rows that were dropped: the fewest that it can be."),
    "bad_rows": ("bad_rows", "Bad rows that the quarantine has found."),
    "busy_seconds": ("busy_seconds", "Time that batches took."),
}
# An attribute of the last batch.
_LAST = {
    "last_batch_id": ("batch", "Number of the last batch."),
    "last_batch_rows": ("rows", "Rows that the last batch read."),
    "last_batch_seconds": ("seconds", "Time that the last batch took."),
    "state_rows": ("state_rows", "Rows in state."),
    "state_bytes": ("state_bytes", "Memory of the state."),
    "watermark_lag_seconds": ("lag", "From the watermark to the begin of the last batch."),
    "waiting": ("backlog", "What waits in the sources: files, or records of Kafka."),
}
_PARTS = {"work": "work", "planning": "planning", "log_writes": "log writes", "looking": "looking for input"}


def scraped(board: Board, accept: str) -> tuple[bytes, str]:
    """Return the metrics of a run, and their content type.

    Args:
        board: the queries.
        accept: the formats that the scraper takes, as in its header `Accept`.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ImportError as err:
        raise MissingExtraError("/metrics", "metrics") from err
    registry = CollectorRegistry()
    registry.register(_Collector(board.pictures()))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


class _Collector:
    """Makes metrics of pictures; the library writes them, and escapes what is in a name."""

    def __init__(self, pictures: list[Picture]) -> None:
        self._all = pictures
        self._newest = newest_runs(pictures)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, (attribute, says) in _TOTALS.items():
            yield _family(CounterMetricFamily, name, says, self._total(attribute))
        for name, (attribute, says) in _LAST.items():
            yield _family(GaugeMetricFamily, name, says, self._last(attribute))
        parts = GaugeMetricFamily(
            "sparkstream_last_batch_part_seconds", "Parts of that time.", labels=["query", "part"]
        )
        said = GaugeMetricFamily(
            "sparkstream_verdicts", "Verdicts on the last batches.", labels=["query", "level"]
        )
        for each in self._newest:
            for attribute, part in _PARTS.items() if each.batches else ():
                parts.add_metric([each.name, part], getattr(each.batches[-1], attribute))
            for level in ("warn", "bad"):
                said.add_metric([each.name, level], sum(one.level == level for one in each.verdicts))
        yield parts
        yield said
        began = {each.name: each.batches[-1].at.timestamp() for each in self._newest if each.batches}
        yield _family(GaugeMetricFamily, "last_batch_begin_seconds", "When it began, in Unix time.", began)

    def _total(self, attribute: str) -> dict[str, float]:
        """Return a total of each query, over all of its starts in this run: a counter must not fall."""
        totals: dict[str, float] = defaultdict(int)
        for each in self._all:
            if (value := getattr(each.summary, attribute)) is not None:
                totals[each.name] += value
        return totals

    def _last(self, attribute: str) -> dict[str, float]:
        values = {each.name: getattr(each.batches[-1], attribute) for each in self._newest if each.batches}
        return {name: value for name, value in values.items() if value is not None}


def _family(kind: Any, name: str, says: str, values: dict[str, float]) -> Metric:
    made: Any = kind(f"sparkstream_{name}", says, labels=["query"])
    for query, value in values.items():
        made.add_metric([query], value)
    return made  # type: ignore[no-any-return]
