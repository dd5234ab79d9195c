"""The look ahead into the shards of a stream, by which the next batch is cut; it keeps nothing on disk."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from sparkstream_kit.connectors.kinesis.offsets import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sparkstream_kit.connectors.kinesis.offsets import Shard
    from sparkstream_kit.connectors.kinesis.service import Page, Service

__all__ = ["Ahead"]

_REST = 0.4  # seconds between two looks that found nothing: Kinesis allows five reads a second of a shard
_LISTED_FOR = 60.0  # seconds that a list of the shards is good for
_LOOK = 10.0  # seconds for a look, if the query can look again: many empty pages may lie between two records
_THREADS = 8


@dataclass
class _Track:
    """How far the look has come in a shard.

    Attributes:
        after: the place behind the last record that was found, as offsets have it.
        iterator: Kinesis's own word for that place, or for a later one without records in between.
        over: whether a record was found that came too late to be read.
    """

    after: str
    iterator: str | None = None
    over: bool = False


class Ahead:
    """Looks ahead, and goes on where its last look ended.

    Attributes:
        now: the service's clock at the last look, in seconds.
    """

    def __init__(self, service: Service, now: float) -> None:
        self.now = now
        self._until = float("inf")
        self._service = service
        self._tracks: dict[str, _Track] = {}
        self._shards: dict[str, Shard] = {}
        self._listed_at = self._rests_until = float("-inf")
        self._turn = 0

    def leave_out(self, since: float) -> None:
        """Take no record that arrives at this time or later, and find one if there is one."""
        self._until = since
        self._tracks.clear()

    def shards(self) -> dict[str, Shard]:
        """Return the shards of the stream."""
        if time.monotonic() - self._listed_at > _LISTED_FOR:
            self._shards, self._listed_at = self._service.shards(), time.monotonic()
        return self._shards

    def look(self, places: Mapping[str, str], most: int) -> dict[str, Found]:
        """Return what comes next behind some places, up to so many records over all shards.

        Shards share the number fairly; what one does not use, others do.
        """
        time.sleep(max(0.0, self._rests_until - time.monotonic()))
        for name, after in places.items():
            if name not in self._tracks or self._tracks[name].after != after:
                self._tracks[name] = _Track(after)
        found: dict[str, Found] = {}
        end, left, going = time.monotonic() + _LOOK, most, sorted(places)

        def is_over() -> bool:
            # Spark ends a query with availableNow after a look that found nothing.
            return (_is_any(found) or self._until == float("inf")) and time.monotonic() > end

        while left and going:
            self._turn += 1  # with fewer records than shards, each has its turn
            first = self._turn % len(going)
            names = (going[first:] + going[:first])[:left]
            share = left // len(names)
            given = [(name, found.setdefault(name, Found()), share, is_over) for name in names]
            with ThreadPoolExecutor(min(_THREADS, len(names))) as pool:
                looks = dict(zip(names, pool.map(lambda each: self._look_at(*each), given), strict=True))
            left -= sum(taken for taken, _ in looks.values())
            going = [name for name in going if name not in looks or looks[name][1]]
        if not _is_any(found):
            self._rests_until = time.monotonic() + _REST
        if any(each.ended for each in found.values()):
            self._listed_at = float("-inf")  # there are others in its place
        return found

    def _look_at(self, name: str, found: Found, most: int, is_over: Callable[[], bool]) -> tuple[int, bool]:
        """Look at the next records of a shard, up to so many; return how many, and if it may have more."""
        track, taken = self._tracks[name], 0
        more = not track.over
        while more and taken < most:
            if track.iterator is None:
                track.iterator = self._service.iterator(name, track.after)
            page = self._service.page(track.iterator, most - taken)
            if page is None:  # it has expired
                track.iterator = None
                continue
            taken += self._take(page, track, found)
            # A closed shard is read until Kinesis says that this is its end.
            rests = page.is_last and not self._shards[name].closed
            more = not (found.ended or track.over or rests or is_over())
        return taken, more

    def _take(self, page: Page, track: _Track, found: Found) -> int:
        """Take a page's records; return their number."""
        arrived = [record["ApproximateArrivalTimestamp"].timestamp() for record in page.records]
        taken = len(list(takewhile(lambda at: at < self._until, arrived)))
        self.now = max(self.now, page.now)
        track.over = taken < len(arrived)
        track.iterator = page.iterator
        if taken:
            track.after = found.after = page.records[taken - 1]["SequenceNumber"]
            found.records += taken
            found.seen = arrived[taken - 1]
        found.ended = page.iterator is None and not track.over
        if page.is_last and not found.ended and not track.over:
            found.seen = page.now
        return taken


def _is_any(found: Mapping[str, Found]) -> bool:
    return any(each.records or each.ended for each in found.values())
