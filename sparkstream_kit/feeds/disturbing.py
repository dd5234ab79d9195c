"""Rows as they really arrive: some late, some twice, some broken, some dated far in the future."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check, said
from sparkstream_kit._durations import Duration, to_microseconds
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.feeds.files import in_far_year, microseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence


_Row = dict[str, Any]


@dataclass(frozen=True)
class Disturbed:
    """Rows in the order in which they arrive, and what each of them is.

    Attributes:
        arriving: the rows; a bad one is a text.
        kinds: for each of them "counted", "late", "duplicate", "bad" or "ahead".
    """

    arriving: Sequence[_Row | str]
    kinds: Sequence[str]

    def first(self, count: int) -> Disturbed:
        """Return the first `count` that arrive: what has landed, when the rest has not yet."""
        return Disturbed(self.arriving[:count], self.kinds[:count])

    @property
    def counted(self) -> list[_Row]:
        """The rows that count, in time order: each is on time, and here once."""
        return self._of("counted")

    @property
    def late(self) -> list[_Row]:
        """The rows that arrive when the watermark has passed them."""
        return self._of("late")

    @property
    def duplicates(self) -> list[_Row]:
        """The rows that have arrived before; they are not late."""
        return self._of("duplicate")

    @property
    def bad(self) -> list[str]:
        """The texts that are no rows."""
        return self._of("bad")

    @property
    def ahead(self) -> list[_Row]:
        """The rows of the year 2099."""
        return self._of("ahead")

    def _of(self, wanted: str) -> list[Any]:
        return [row for row, kind in zip(self.arriving, self.kinds, strict=True) if kind == wanted]


def disturb(
    rows: Iterable[dict[str, Any]],
    *,
    time: str,
    late: float = 0.0,
    duplicates: float = 0.0,
    bad: float = 0.0,
    ahead: float = 0.0,
    delay: Duration = "10 minutes",
    rows_per_file: int = 100,
    seed: int,
) -> Disturbed:
    """Disturb the order of rows, and add rows that do not count, so that the true answer stays known.

    It is what a job should compute from `counted` alone. Cut `arriving` into files of `rows_per_file` and
    let the stream read one file in each batch (`max_files_per_trigger=1`). Then each late row is late for
    Spark, and no other row is: a row is late if its time is at or before the newest time of the batches
    before its own, less the delay (Structured Streaming guide, "Handling Late Data and Watermarking").
    Spark's own operators may still use the watermark of one batch before, so late rows are late by
    that one, too.

    Each share is a probability for a row, from 0 to 1:

    - `late`: the row arrives late, and does not count. The last rows cannot be late, as nothing follows.
    - `duplicates`: the row arrives once more, up to two files later, before any row that is `delay` newer.
    - `bad`: the text "not a row: 7 {" comes after row 7, and so on. It is no JSON, and a single column of CSV
      (only a schema of one text column could take it for a row).
    - `ahead`: a copy of the row comes after it, dated in the year 2099.

    Args:
        rows: finite, with times that never decrease.
        time: the field of the time: epoch seconds (or milliseconds), an ISO 8601 text or a datetime. Texts
            and datetimes without a time zone are UTC.
        late: share of rows that become late.
        duplicates: share of rows that come twice.
        bad: share of rows that a bad text follows.
        ahead: share of rows that a copy in the far future follows.
        delay: the watermark's delay, such as "10 minutes" or a `timedelta`; in whole milliseconds.
        rows_per_file: how many of the arriving rows a file holds.
        seed: the same seed gives the same result.

    Raises:
        InvalidInputError: a share is out of range, times are missing, unreadable or decrease, the delay
            cannot be read or is 0, there is not a row in a file, or no row at all can be late: the rows cover
            less time than `delay`, or fewer than three files.

    Examples:
        >>> hours = [{"time": n * 3600, "n": n} for n in range(9)]
        >>> disturbed = disturb(hours, time="time", late=0.2, bad=0.1, rows_per_file=2, seed=5)
        >>> [row if isinstance(row, str) else row["n"] for row in disturbed.arriving]
        [0, 2, 3, 4, 'not a row: 5 {', 1, 5, 6, 7, 8]
        >>> disturbed.late, len(disturbed.counted)
        ([{'time': 3600, 'n': 1}], 8)
    """
    check(disturb, locals())
    shares = {"late": late, "duplicates": duplicates, "bad": bad, "ahead": ahead}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InvalidInputError(f"{name} is {share}; give a share of the rows from 0 to 1, such as 0.05")
    if rows_per_file < 1:
        raise InvalidInputError(f"rows_per_file is {rows_per_file}; give at least 1 row per file")
    wait = to_microseconds("delay", delay) // 1000 * 1000
    if wait <= 0:
        raise InvalidInputError(f"delay must be at least a millisecond, not {delay}")
    given = list(rows)
    draw = random.Random(seed).random  # noqa: S311 - sample data, not secrets
    draws = [[draw() for _ in range(6)] for _ in given]
    plan = _Plan(given, _times(given, time), time, wait, rows_per_file, draws, shares)
    chosen = {number for number, (share, *_) in enumerate(draws) if share < late}
    asked = bool(chosen)
    # A row that no file can come late enough for arrives in its place; with it, the others still are late.
    while stuck := plan.arrange(chosen):
        chosen -= stuck
    if asked and not chosen:
        raise InvalidInputError(
            f"no row can be late: in {len(given)} rows, in files of {rows_per_file}, none comes a delay of "
            f"{delay} and two files after another; give more rows, smaller files or a shorter delay"
        )
    return Disturbed(plan.arriving, plan.kinds)


def _times(rows: Sequence[_Row], time: str) -> list[int]:
    """Return the times of rows in microseconds; refuse rows that lack one or are not in order."""
    times: list[int] = []
    for number, row in enumerate(rows, 1):
        if time not in row:
            raise InvalidInputError(f"row {number} has no field {time!r}{hint(time, list(row))}; give time=…")
        moment = microseconds(row[time])
        if moment is None:
            fix = "give epoch seconds, an ISO text or a datetime"
            raise InvalidInputError(f"{time} of row {number} is {said(row[time])}; {fix}")
        if times and moment < times[-1]:
            raise InvalidInputError(f"row {number} is older than the row before it; sort the rows by {time}")
        times.append(moment)
    return times


@dataclass
class _Plan:
    """The order of arrival, made anew for each choice of late rows."""

    rows: Sequence[_Row]
    times: Sequence[int]  # of the rows, in microseconds
    time: str
    wait: int
    size: int
    draws: Sequence[Sequence[float]]
    shares: Mapping[str, float]
    arriving: list[_Row | str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    newest: list[int] = field(default_factory=list)  # at each place in `arriving`, the newest time so far

    def arrange(self, late: Collection[int]) -> set[int]:
        """Arrange the rows; return those of `late` that found no place where they would be."""
        self.arriving, self.kinds, self.newest = [], [], []
        waiting: deque[int] = deque()
        due: list[tuple[int, int, str]] = []  # before which row, which row, as what
        for number in range(len(self.rows)):
            self._come_late(waiting, due, number)
            self._land(due, number)
            if number in late:
                waiting.append(number)
            else:
                self._put("counted", self.rows[number], self.times[number])
                for again in self._extras(number):
                    heapq.heappush(due, (again, number, "duplicate"))
        while due or self._come_late(waiting, due, len(self.rows)):
            self._land(due, 2 * len(self.rows) + 2 * self.size)
        return set(waiting)

    def _extras(self, number: int) -> Iterator[int]:
        """Put what follows a row; give before which row it comes again, if it does."""
        row = self.rows[number]
        _, again, bad, ahead, later, _ = self.draws[number]
        if bad < self.shares["bad"]:
            self._put("bad", f"not a row: {number + 1} {{")
        if ahead < self.shares["ahead"]:
            self._put("ahead", {**row, self.time: in_far_year(row[self.time])})
        if again < self.shares["duplicates"]:
            last = bisect_left(self.times, self.times[number] + self.wait)
            yield min(number + 1 + int(later * 2 * self.size), last)

    def _come_late(self, waiting: deque[int], due: list[tuple[int, int, str]], number: int) -> bool:
        """Make those of the waiting rows due, within a file's length, that would be late from now on."""
        passed = len(self.arriving) // self.size - 1  # the files whose newest time surely is the watermark's
        watermark = self.newest[passed * self.size - 1] // 1000 * 1000 - self.wait if passed > 0 else None
        found = False
        while waiting and watermark is not None and self.times[waiting[0]] <= watermark:
            row, found = waiting.popleft(), True
            heapq.heappush(due, (number + int(self.draws[row][5] * self.size), row, "late"))
        return found

    def _land(self, due: list[tuple[int, int, str]], number: int) -> None:
        while due and due[0][0] <= number:
            _, row, kind = heapq.heappop(due)
            self._put(kind, dict(self.rows[row]), self.times[row])

    def _put(self, kind: str, row: _Row | str, moment: int | None = None) -> None:
        self.arriving.append(row)
        self.kinds.append(kind)
        before = self.newest[-1:]  # none before the first, which is a row with a time
        self.newest.append(max(before if moment is None else [*before, moment]))
