"""What comes from a stream goes into the spool, and what was missed between two connections is counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparkstream_kit.connectors.posts.spool import Spool
    from sparkstream_kit.connectors.posts.wire import Message

__all__ = ["Intake"]

_IN_A_ROW = 20  # posts with ids that count up by one, until the ids are taken for numbers
_NOTE_EVERY = 10.0  # seconds between two notes that the connection lives
_RECENT = 60.0  # seconds over which the rate is averaged
_LEAST = 1.0  # the same, at least: one post within a millisecond is no thousand a second
_DIGITS = 30  # of an id that is taken for a number; servers have some twenty


class Intake:
    """Puts posts into a spool and keeps its facts; used by one thread.

    Args:
        spool: where the posts go.
        say: is told what a user should know.
    """

    def __init__(self, spool: Spool, say: Callable[[str], object]) -> None:
        self._spool = spool
        self._say = say
        self._gap: tuple[float, int] | None = None  # seconds, and about how many posts; not told yet
        self._fetched: tuple[float, int] | None = None  # the same, which the server is asked for
        self._counted_from: float | None = None  # while there is a connection
        self._new = self._later = 0
        self._told = set[str]()  # why lines of this connection could not be read
        self._noted = time.monotonic()

    def opened(self, *, resumes: float, fetches: bool) -> None:
        """Note a new connection, and the time since anything came by the one before.

        Args:
            resumes: of how many seconds without a connection the stream itself brings what was missed.
            fetches: what was missed is fetched from a timeline.
        """
        facts, now = self._spool.facts, time.time()
        self._fetched = None
        self._told.clear()
        if facts.heard:
            seconds = max(0.0, now - facts.heard)
            facts.cuts += 1
            facts.seconds += seconds
            self._gap = seconds, round(facts.rate * seconds)
            if fetches or seconds < resumes:
                self._fetched = self._gap
                if fetches or facts.row < _IN_A_ROW:  # else the numbers say whether it has
                    self._gap = None
                self._say(f"connected again, after {seconds:,.1f} s; the server is asked for what was missed")
            elif facts.row < _IN_A_ROW:
                self.gone(self._gap)
        facts.heard = now
        self._counted_from = time.monotonic()

    def closed(self) -> None:
        """Note that the connection has ended."""
        self._count_rate()
        self._counted_from = None

    def gone(self, gap: tuple[float, int]) -> None:
        """Count about how many posts were missed that the server does not send again."""
        seconds, about = gap
        self._gap = None
        self._spool.facts.about += about
        self._say(
            f"connected again, after {seconds:,.1f} s; about {about:,} posts were missed, "
            "which the server does not send again"
        )

    def take(self, message: Message, *, later: bool = False) -> None:
        """Take what a stream, or later its timeline, has given."""
        facts = self._spool.facts
        facts.heard = time.time()
        if message.kind == "other":
            facts.others += 1
            if message.says:
                self._say(f"the server says: {message.says}")
        elif message.kind == "unreadable":
            facts.unreadable += 1
            if message.says not in self._told:
                self._told.add(message.says)
                self._say(f"a line was left out: {message.says}")
        elif message.kind == "post":
            self._take_post(message, later)

    def _take_post(self, post: Message, later: bool) -> None:
        facts = self._spool.facts
        if not self._spool.add(post):
            facts.repeats += not later  # a timeline is read again from a little before the gap
            return
        if later:
            facts.later += 1
            self._later += 1
        else:
            self._new += 1
            self._count_by_number(post.id)
        facts.event = post.event or facts.event

    def _count_by_number(self, post: str) -> None:
        """Count the posts that are missing before this one, where ids are numbers without holes."""
        facts, former = self._spool.facts, self._spool.facts.last
        facts.last = post
        before, now = _number(former), _number(post)
        if before is None or now is None:
            facts.row = facts.row if not former else -1
        elif self._gap is None:
            facts.row = facts.row + 1 if facts.row >= 0 and now == before + 1 else -1
        elif now > before:
            seconds, _ = self._gap
            missed, self._gap = now - before - 1, None
            facts.missed += missed
            if missed or self._fetched is None:
                self._say(
                    f"connected again, after {seconds:,.1f} s; {missed:,} posts were missed, "
                    "which the server does not send again"
                )
        else:
            facts.row = -1
        if self._gap is not None and self._fetched is None:
            self.gone(self._gap)
        self._gap = None

    def not_fetched(self, line: str) -> None:
        """Note that the server does not give what was missed, and says so with this line."""
        self._say(f"{line}: what comes while there is no connection is missed")
        if self._fetched is not None:
            self.gone(self._fetched)
        self._fetched = None

    def left_at(self, post: str) -> None:
        """Note from which id the timeline is still to be read; "" where nothing is missed any more."""
        self._spool.facts.behind = post
        if not post and self._later:
            self._say(f"{self._later:,} posts were fetched that had been missed")
            self._later = 0

    def land(self) -> None:
        """Keep what has come."""
        self._count_rate()
        if self._spool.waits or time.monotonic() - self._noted >= _NOTE_EVERY:
            self._spool.land()
            self._noted = time.monotonic()

    def _count_rate(self) -> None:
        if self._counted_from is None:
            return
        facts, now = self._spool.facts, time.monotonic()
        seconds, self._counted_from = now - self._counted_from, now
        facts.connected += seconds
        if seconds > 0:
            share = min(1.0, seconds / min(max(facts.connected, _LEAST), _RECENT))
            facts.rate += share * (self._new / seconds - facts.rate)
        self._new = 0


def _number(post: str) -> int | None:
    """Return an id as the number that it is; None for any other."""
    return int(post) if post.isdecimal() and len(post) <= _DIGITS else None
