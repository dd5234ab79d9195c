"""Rows as they really arrive: some late, some twice, some broken, some dated far in the future.

`disturb` takes clean rows in time order and returns a `Disturbed`: the rows in the
order of their arrival, each labelled with its kind. The true answer stays known,
because a job must compute it from the `counted` rows alone.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit._internal.durations import Duration, to_microseconds
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.feeds.files import in_far_year, microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_Row = dict[str, Any]


@dataclass(frozen=True)
class Disturbed:
    """The result of `disturb`: rows in the order of their arrival, each labelled with its kind.

    Attributes:
        arriving: the rows as dicts; a bad row is a string.
        kinds: for each row, "counted", "late", "duplicate", "bad" or "ahead".
    """

    arriving: Sequence[_Row | str]
    kinds: Sequence[str]

    def first(self, count: int) -> Disturbed:
        """Return the first `count` arriving rows, as when only a part of the input has landed."""
        return Disturbed(self.arriving[:count], self.kinds[:count])

    @property
    def counted(self) -> list[_Row]:
        """The rows that a job must count, in time order: each is on time and appears once."""
        return self._of("counted")

    @property
    def late(self) -> list[_Row]:
        """The rows that arrive after the watermark has passed their time."""
        return self._of("late")

    @property
    def duplicates(self) -> list[_Row]:
        """The rows that arrive a second time; they are not late."""
        return self._of("duplicate")

    @property
    def bad(self) -> list[str]:
        """The strings that are not rows."""
        return self._of("bad")

    @property
    def ahead(self) -> list[_Row]:
        """The copies of rows that are dated in the year 2099."""
        return self._of("ahead")

    def _of(self, wanted: str) -> list[Any]:
        arrived = zip(self.arriving, self.kinds, strict=True)
        return [row for row, kind in arrived if kind == wanted]


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
    """Reorder rows and add some that do not count, so that the true answer stays known.

    The true answer is what a job should compute from the `counted` rows alone. Cut
    `arriving` into files of `rows_per_file` rows, and let the stream read one file in
    each batch (`max_files_per_trigger=1`). Then Spark treats each late row as late, and
    no other row. A row is late if its time is at or before the watermark, which is the
    newest time of the earlier batches minus the delay (Structured Streaming guide,
    "Handling Late Data and Watermarking"). Spark's own operators may still use the
    watermark of one batch earlier, so each late row is late by that watermark, too.

    Each share is a probability for a row, from 0 to 1:

    - `late`: the row arrives late, and does not count. The last rows cannot be late, as
      nothing follows them.
    - `duplicates`: the row arrives a second time, up to two files later, and before any
      row whose time is `delay` newer.
    - `bad`: the text "not a row: 7 {" follows row 7, and so on. The text is not valid
      JSON, and as CSV it has a single column, so only a schema of one string column
      could accept it as a row.
    - `ahead`: a copy of the row, dated in the year 2099, follows the row. The job must
      drop such rows before its watermark, as they would move the watermark of Spark to
      the year 2099.

    Args:
        rows: a finite number of rows as dicts, with times that never decrease.
        time: the name of the event-time field. Its values are epoch seconds (or
            milliseconds), as numbers or texts, ISO 8601 texts or datetimes. Texts and
            datetimes without a time zone are in UTC.
        late: the share of rows that become late.
        duplicates: the share of rows that arrive twice.
        bad: the share of rows that are followed by a bad text.
        ahead: the share of rows that are followed by a copy in the far future.
        delay: the watermark delay, such as "10 minutes" or a `timedelta`; cut to whole
            milliseconds.
        rows_per_file: the number of arriving rows in a file.
        seed: the seed of the random choices; the same seed gives the same result.

    Raises:
        InvalidInputError: a share is out of range, times are missing, unreadable or
            decrease, the delay cannot be read or is below a millisecond,
            `rows_per_file` is below 1, or no row at all can be late, because the rows
            cover less time than `delay`, or fewer than three files.

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
    delay_in_us = _delay_of(shares, rows_per_file, delay)
    clean = list(rows)
    times = _times(clean, time)
    rng = random.Random(seed)  # noqa: S311 - sample data, not secrets
    draws = [_draw(rng) for _ in clean]
    arrival = _Arrival(clean, times, delay_in_us, rows_per_file)
    chosen = {number for number, draw in enumerate(draws) if draw.late < late}
    if chosen and not any(map(arrival.can_be_late, chosen)):
        raise InvalidInputError(
            f"no row can be late: {len(clean)} rows in files of {rows_per_file} span"
            f" less than {delay} and two files; give more rows, smaller files or a"
            " shorter delay"
        )
    for number, (row, draw) in enumerate(zip(clean, draws, strict=True)):
        arrival.land_before(number)
        if number in chosen and arrival.can_be_late(number):
            arrival.hold(number, int(draw.late_by * rows_per_file))
            continue
        arrival.put("counted", row, times[number])
        if draw.bad < bad:
            arrival.put("bad", f"not a row: {number + 1} {{")
        if draw.ahead < ahead:
            arrival.put("ahead", {**row, time: in_far_year(row[time])})
        if draw.duplicate < duplicates:
            arrival.repeat(number, int(draw.duplicate_by * 2 * rows_per_file))
    arrival.land_rest()
    return Disturbed(arrival.rows, arrival.kinds)


class _Draw(NamedTuple):
    """Random numbers from 0 to 1 for a row, in the order in which they are drawn.

    Attributes:
        late: the row is late if this is below the share of late rows.
        duplicate: the row arrives twice if this is below the share of duplicates.
        bad: a bad text follows if this is below the share of bad texts.
        ahead: a copy in the far future follows if this is below the share of those.
        duplicate_by: when the duplicate arrives, as a part of two files of rows.
        late_by: when a late row arrives, as a part of a file of rows.
    """

    late: float
    duplicate: float
    bad: float
    ahead: float
    duplicate_by: float
    late_by: float


def _draw(rng: random.Random) -> _Draw:
    return _Draw(*(rng.random() for _ in _Draw._fields))


def _delay_of(shares: dict[str, float], rows_per_file: int, delay: Duration) -> int:
    """Check the numbers that `disturb` takes, and return the delay in microseconds."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InvalidInputError(
                f"{name} is {share}; give a share of the rows from 0 to 1, such as 0.05"
            )
    if rows_per_file < 1:
        raise InvalidInputError(
            f"rows_per_file is {rows_per_file}; give at least 1 row per file"
        )
    delay_in_us = to_microseconds("delay", delay) // 1000 * 1000
    if delay_in_us <= 0:
        raise InvalidInputError(f"delay must be at least a millisecond, not {delay}")
    return delay_in_us


def _times(rows: Sequence[_Row], time: str) -> list[int]:
    """Return the times of rows in microseconds since 1970.

    Rows without a time, or out of order, are refused.
    """
    times: list[int] = []
    for number, row in enumerate(rows, 1):
        if time not in row:
            raise InvalidInputError(
                f"row {number} has no field {time!r}{hint(time, list(row))}; give"
                " time=…"
            )
        moment = microseconds(row[time])
        if moment is None:
            fix = "give epoch seconds, an ISO text or a datetime"
            raise InvalidInputError(
                f"{time} of row {number} is {said(row[time])}; {fix}"
            )
        if times and moment < times[-1]:
            raise InvalidInputError(
                f"row {number} is older than the row before it; sort the rows by {time}"
            )
        times.append(moment)
    return times


@dataclass
class _Arrival:
    """The rows in the order of their arrival, and those that are still to come.

    Attributes:
        clean: the rows in time order; a row's number is its index here.
        times: their times, in microseconds since 1970.
        delay: the watermark delay in microseconds.
        rows_per_file: the number of arriving rows in a file.
        rows: the rows that have arrived.
        kinds: the kind of each of them.
        newest: for each of them, the newest time so far.
        held: the numbers of rows that wait for the watermark to pass them, each with
            how many further rows come before it then.
        due: a heap of (number of the row to arrive before, number of the row, kind).
    """

    clean: Sequence[_Row]
    times: Sequence[int]
    delay: int
    rows_per_file: int
    rows: list[_Row | str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    newest: list[int] = field(default_factory=list)
    held: deque[tuple[int, int]] = field(default_factory=deque)
    due: list[tuple[int, int, str]] = field(default_factory=list)

    def put(self, kind: str, row: _Row | str, moment: int | None = None) -> None:
        """Add an arriving row; `moment` is its time, or None to keep the newest time."""
        self.rows.append(row)
        self.kinds.append(kind)
        if moment is None:
            moment = self.newest[-1]  # there is one: the first arriving row has a time
        elif self.newest:
            moment = max(self.newest[-1], moment)
        self.newest.append(moment)

    def can_be_late(self, number: int) -> bool:
        """Return whether two files of rows follow a row, after one that is newer by the delay."""
        end = len(self.clean) - 2 * self.rows_per_file
        return end > 0 and self.times[number] <= self._watermark(self.times[end])

    def hold(self, number: int, after: int) -> None:
        """Let a row come `after` rows after the watermark has passed it."""
        self.held.append((number, after))

    def repeat(self, number: int, after: int) -> None:
        """Let a row come again `after` rows later, but before one newer by the delay."""
        newer = bisect_left(self.times, self.times[number] + self.delay)
        heapq.heappush(self.due, (min(number + 1 + after, newer), number, "duplicate"))

    def land_before(self, number: int) -> None:
        """Add the rows that arrive before row `number`."""
        self._release(number)
        while self.due and self.due[0][0] <= number:
            self._land_first()

    def land_rest(self) -> None:
        """Add all rows that are still to come."""
        self._release(len(self.clean))
        while self.due:
            self._land_first()

    def _release(self, number: int) -> None:
        """Make the held rows due that the watermark has passed when row `number` comes."""
        # The files whose newest time is surely in the watermark: all complete files but
        # the last one.
        complete_files = len(self.rows) // self.rows_per_file
        rows_in_watermark = (complete_files - 1) * self.rows_per_file
        if rows_in_watermark <= 0:
            return
        watermark = self._watermark(self.newest[rows_in_watermark - 1])
        while self.held and self.times[self.held[0][0]] <= watermark:
            late, after = self.held.popleft()
            heapq.heappush(self.due, (number + after, late, "late"))

    def _watermark(self, newest: int) -> int:
        """Return Spark's watermark, of whole milliseconds, after a newest time."""
        return newest // 1000 * 1000 - self.delay

    def _land_first(self) -> None:
        """Add the row that is due first."""
        _, number, kind = heapq.heappop(self.due)
        self.put(kind, dict(self.clean[number]), self.times[number])
