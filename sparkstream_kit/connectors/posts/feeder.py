"""The feeder: reads a stream of posts without end and keeps them in a spool, over cuts, stalls and limits.

What was missed meanwhile: Mastodon's timelines are read from the last post on (`min_id`, "timelines API
methods"); a server of events is asked by `Last-Event-ID` ("Server-sent events" in the HTML standard); a URL
of X with `backfill_minutes` brings what is younger ("Recovery and redundancy"). Where there is nothing of
this kind, the posts are gone, and their number is told.
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
import time
from collections import deque
from functools import partial
from queue import Empty, Queue
from sqlite3 import Error as DatabaseError
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from sparkstream_kit.connectors.posts.address import Token, check_url
from sparkstream_kit.connectors.posts.again import backfill_of, timeline_of, wait_after
from sparkstream_kit.connectors.posts.defaults import EVERY, STALL
from sparkstream_kit.connectors.posts.intake import Intake
from sparkstream_kit.connectors.posts.spool import Spool
from sparkstream_kit.connectors.posts.wire import (
    LONGEST_ID,
    Message,
    Stream,
    TurnedAway,
    by_age,
    fetch,
    id_of,
    why,
)
from sparkstream_kit.errors import InvalidInputError, nobody_listens, printable, unknown_host

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from sparkstream_kit.connectors.posts.spool import Facts

__all__ = ["Feeder"]

_FAILED = (OSError, http.client.HTTPException)
_BRIEF = 5.0  # seconds: what ends sooner has not been up
_OVERLAP = 200  # posts: a post of another server gets its place among the ids by when it was written
_PAGE = 40  # posts, the most that Mastodon gives at once
_REMEMBERED = 1000  # ids, of which the highest may have come some posts ago
_FEEDER_PATIENCE = 5.0  # seconds until a timeline is asked again, and for a reader to end
_WAKE_EVERY = 0.1  # seconds until a stop is seen


class Feeder:
    """Keeps the posts of a stream in a spool, until it is told to stop.

    Its first connection is made here, so that a wrong address or token is said at once; from then on it tries
    again, whatever happens.

    Args:
        url: of the stream.
        folder: the spool.
        token: for the server.
        timeline: a URL that gives the posts after `min_id`, as Mastodon's do; by default that of the stream.
        every: seconds from one file to the next.
        stall: seconds without anything from the server, after which the connection counts as dead.
        say: is told what a user should know, a line for each.

    Raises:
        InvalidInputError: the server cannot be reached or is no stream, the token is refused, or the folder
            cannot be written or has a feeder.
    """

    def __init__(
        self,
        url: str,
        folder: str | os.PathLike[str],
        *,
        token: Token,
        timeline: str | None = None,
        every: float = EVERY,
        stall: float = STALL,
        say: Callable[[str], object],
    ) -> None:
        for each in (url, *([timeline] if timeline else [])):
            check_url(each, token)
        for name, seconds in (("every", every), ("stall", stall)):
            if not seconds > 0:
                raise InvalidInputError(f"{name} is {seconds} seconds; give a number above 0")
        self._url, self._token, self._stall, self._every = url, token, stall, every
        self._tell = say
        self._timeline = timeline or timeline_of(url)
        self._inbox: Queue[Callable[[], object]] = Queue(10_000)  # a slow disk slows the reading down
        self._stop = threading.Event()
        self._ask_at, self._failed = 0.0, False  # of the timeline
        self._refusal: TurnedAway | None = None  # of the first connection, if it may do better later
        self._unwritten = ""
        self._stream: Stream | None = None
        self._spool = Spool(folder)
        try:
            self._intake = Intake(self._spool, self._say)
            self._event = self._spool.facts.event
            self._behind = self._spool.facts.behind
            self._recent = deque(self._spool.latest(_REMEMBERED), _REMEMBERED)
            self._stream = self._first()
        except BaseException:
            self._spool.close()
            raise

    @property
    def facts(self) -> Facts:
        """What is known of the spool."""
        return self._spool.facts

    def _first(self) -> Stream | None:
        """Return the first connection; None where the server asks to wait."""
        host = urlsplit(self._url)
        try:
            return self._connected()
        except TurnedAway as err:
            if not err.passes:
                raise InvalidInputError(err.line) from None
            self._refusal = err
            self._say(self._again(err, 1))
        except ConnectionRefusedError:
            port = host.port or (443 if host.scheme == "https" else 80)
            line = nobody_listens(f"{host.hostname}:{port}").partition("; ")[0]
            raise InvalidInputError(f"{line}; correct the address") from None
        except _FAILED as err:
            if isinstance(err, socket.gaierror):
                raise InvalidInputError(unknown_host(str(host.hostname))) from None
            raise InvalidInputError(f"{self._url} cannot be read: {why(err)}") from None
        return None

    def _say(self, line: str) -> None:
        """Tell the user a line; there may be words of the server's in it."""
        self._tell(printable(line))

    def _connected(self) -> Stream:
        return Stream(self._url, self._token, stall=self._stall, event=self._event or None)

    # --- in the thread that calls: what has come goes into the spool

    def run(self, stop: threading.Event) -> Facts:
        """Feed until `stop` is set, keep what has come, and return what was done."""
        self._stop = stop
        reader = threading.Thread(target=self._read, name="sparkstream-posts", daemon=True)
        reader.start()
        try:
            while not stop.is_set():
                self._take_for(self._every)
                self._land()
            end = time.monotonic() + _FEEDER_PATIENCE
            while reader.is_alive() and time.monotonic() < end:
                self._hang_up()  # again, as it may just have connected
                reader.join(_WAKE_EVERY)
                self._take_rest()
            self._take_rest()
        finally:
            stop.set()
            self._hang_up()
            try:
                self._intake.closed()
                self._land()  # also what came before an error
            finally:
                self._spool.close()
        return self.facts

    def _take_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stop.is_set():
            try:
                take = self._inbox.get(timeout=min(left, _WAKE_EVERY))
            except Empty:
                continue
            self._take(take)

    def _take_rest(self) -> None:
        while not self._inbox.empty():
            self._take(self._inbox.get())

    def _take(self, take: Callable[[], object]) -> None:
        while True:
            try:
                take()
            except DatabaseError as err:  # it has taken nothing
                self._not_written(err)
                self._stop.wait(_WAKE_EVERY)
            else:
                return

    def _land(self) -> None:
        try:
            self._intake.land()
            self._unwritten = ""
        except (OSError, DatabaseError) as err:
            self._not_written(err)

    def _not_written(self, err: Exception) -> None:
        line = f"cannot write in {self._spool.folder} ({getattr(err, 'strerror', None) or err})"
        if self._stop.is_set():
            raise InvalidInputError(f"{line}; the posts of the last moments are lost") from err
        if line != self._unwritten:
            self._say(f"{line}; it is tried again")
        self._unwritten = line

    def _hang_up(self) -> None:
        if (stream := self._stream) is not None:
            stream.close()

    # --- in a thread of its own: the connections

    def _do(self, function: Callable[..., object], *args: object, **more: object) -> None:
        self._inbox.put(partial(function, *args, **more))

    def _read(self) -> None:
        try:
            self._connect_again_and_again()
        except BaseException as err:  # noqa: BLE001 - raised in the thread that waits
            self._do(_raised, err)

    def _connect_again_and_again(self) -> None:
        error: Exception | None = self._refusal
        failures = 1 if error else 0
        self._stop.wait(wait_after(error, failures))
        while not self._stop.is_set():
            error, began = None, time.monotonic()
            try:
                self._stream = self._stream or self._connected()
                if not self._stop.is_set():
                    self._follow(self._stream)
            except (TurnedAway, *_FAILED) as err:
                error = err
            if self._stream is not None:
                self._stream.close()
                self._stream = None
                self._do(self._intake.closed)
            if self._stop.is_set():
                return
            up = time.monotonic() - began >= _BRIEF and not isinstance(error, TurnedAway)
            failures = 0 if up else failures + 1
            self._do(self._say, self._again(error, failures))
            self._stop.wait(wait_after(error, failures))

    def _again(self, error: Exception | None, failures: int) -> str:
        wait = wait_after(error, failures)
        ended = "the connection has ended" + (f": {why(error)}" if error else "")
        line = error.line if isinstance(error, TurnedAway) else ended
        return f"{line}; next try {f'in {wait:,.1f} s' if wait else 'now'}"

    def _follow(self, stream: Stream) -> None:
        """Hand on what a connection brings until it ends."""
        fetches = bool(self._timeline and self._recent)
        resumes = math.inf if self._event else backfill_of(self._url)
        self._do(self._intake.opened, resumes=resumes, fetches=fetches)
        if fetches:
            # The highest ids but some: among the last to come may be one from hours ago.
            highest = sorted(self._recent, key=by_age)[-_OVERLAP:]
            self._behind = self._behind or highest[0]
            self._do(self._intake.left_at, self._behind)
            self._catch_up()
        for message in stream.messages():
            is_post = message.kind == "post"
            if is_post:
                self._recent.append(message.id)
                self._event = message.event or self._event
            self._do(self._intake.take, message)
            # Mastodon answers a little before it listens for new posts: what came between is in the timeline
            # once the stream has brought something.
            if self._behind and ((is_post and not self._failed) or time.monotonic() >= self._ask_at):
                self._catch_up(to_end=is_post)

    def _catch_up(self, *, to_end: bool = False) -> None:
        """Read the timeline from where it was left.

        Args:
            to_end: nothing more can be missed after this reading.
        """
        self._ask_at, self._failed = time.monotonic() + _FEEDER_PATIENCE, True
        # What is read again after this begins some posts before its end: a post may rank before others that
        # came sooner.
        read = deque([self._behind], _OVERLAP)
        try:
            # A short page is not the end: a server may leave posts out of any page. An empty one is, but it
            # never comes where posts come in faster than the server answers.
            newest = self._newest()
            while not self._stop.is_set() and (page := self._page(read[-1])):
                for post in page:
                    self._recent.append(post.id)
                    self._do(self._intake.take, post, later=True)
                read.extend(post.id for post in page)
                self._behind = read[0]
                self._do(self._intake.left_at, self._behind)
                if newest and by_age(read[-1]) >= by_age(newest):
                    break
        except TurnedAway as err:
            if err.passes:
                self._ask_at = time.monotonic() + wait_after(err, 1)
                return
            self._do(self._intake.not_fetched, err.line)
            self._timeline, to_end = None, True
        except _FAILED:
            return  # it is asked again with what comes next
        if self._stop.is_set():  # perhaps in the middle: the next feeder goes on
            return
        self._failed = False
        if to_end:
            self._behind = ""
            self._do(self._intake.left_at, "")

    def _newest(self) -> str:
        """Return the newest id of the timeline, which it gives without `min_id`; "" where it does not."""
        try:
            page = self._page("")
        except TurnedAway as err:
            if err.passes:
                raise
            return ""
        newest = page[-1].id if page else ""
        return newest if by_age(newest) > by_age(self._behind) else ""

    def _page(self, after: str) -> list[Message]:
        asked = urlencode(({"min_id": after} if after else {}) | {"limit": _PAGE})
        url = f"{self._timeline}{'&' if '?' in str(self._timeline) else '?'}{asked}"
        page = fetch(url, self._token, timeout=self._stall)
        if not isinstance(page, list):
            raise TurnedAway(200, f"{self._timeline} is no timeline", None)
        posts = {id_of(post): post for post in page if isinstance(post, dict)}
        known = [each for each in posts if 0 < len(each) <= LONGEST_ID]
        newer = sorted((each for each in known if by_age(each) > by_age(after)), key=by_age)
        return [Message("post", each, json.dumps(posts[each]).encode()) for each in newer]


def _raised(error: BaseException) -> None:
    raise error
