"""Posts over HTTP as a source: Spark's file source on a spool, which a feeder fills.

`posts` is the public function (`sources.posts`). With a URL it starts a `Feeder` in a
thread of the driver; `sparkstream feed posts` runs the same class. A feeder uses two
threads: one holds the connection, the other writes the posts to the spool.

Posts that were missed while there was no connection are recovered in one of three ways.
For Mastodon, the feeder reads the timeline from before the last post (`min_id`,
"timelines API methods"). A server of events is asked to resume with `Last-Event-ID`
("Server-sent events" in the HTML standard). X sends recent posts again if the URL has
`backfill_minutes` ("Recovery and redundancy"). If none of these applies, the posts are
lost. The feeder reports each gap.
"""

from __future__ import annotations

import atexit
import json
import logging
import ssl
import threading
import time
from collections import deque
from functools import partial
from sqlite3 import Error as DatabaseError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pyspark.sql import functions as F

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.file_system import is_url
from sparkstream_kit._internal.spark.place import locate, refuse_many_disks
from sparkstream_kit._internal.spark.session import has_ended
from sparkstream_kit._internal.threads import in_thread
from sparkstream_kit.connectors.posts import wire
from sparkstream_kit.connectors.posts.spool import OVERLAP, Spool
from sparkstream_kit.connectors.posts.wire import Message, Stream, Token, TurnedAway
from sparkstream_kit.errors import InvalidInputError, TransientError, printable
from sparkstream_kit.sources.files import text

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit.connectors.posts.spool import Facts


_BRIEF = 5.0  # seconds: a connection that ends sooner counts as failed
# Mastodon answers shortly before it listens for new posts. Such a post is missing on
# the stream, so the timeline is read when the connection is that many seconds old.
_LISTENS_AFTER = 1.0
_PAGE = 40  # posts per request: the most that Mastodon returns
_PATIENCE = 5.0  # seconds until a timeline is read again, and for a thread to end
_WAKE_EVERY = 0.1  # seconds: the longest time until a stop is noticed


class Feeder:
    """Writes the posts of a stream to a spool until it is stopped.

    The constructor makes the first connection, so that a wrong address or token is an
    error at once. After that the feeder reconnects after every error. Call `run` once
    to feed.

    Args:
        url: the URL of the stream.
        folder: the spool.
        token: the token for the server.
        timeline: a URL that returns the posts after `min_id`, as Mastodon's timelines
            do. Default: the timeline of a Mastodon stream, else none.
        every: seconds from one file to the next.
        stall: after this many seconds of silence the connection counts as dead.
        say: a function that shows a line to the user.

    Raises:
        InvalidInputError: the server cannot be reached, its answer is not a stream, it
            refuses the token, or the folder cannot be written or has another feeder.
    """

    def __init__(
        self,
        url: str,
        folder: str | os.PathLike[str],
        *,
        token: Token,
        timeline: str | None = None,
        every: float = wire.EVERY,
        stall: float = wire.STALL,
        say: Callable[[str], object],
    ) -> None:
        wire.check_url(url, token)
        if timeline:
            wire.check_url(timeline, token)
        for name, seconds in (("every", every), ("stall", stall)):
            if not seconds > 0:
                raise InvalidInputError(
                    f"{name} is {seconds} seconds; give a number above 0"
                )
        self._url = url
        self._token = token
        self._stall = stall
        self._every = every
        self._timeline = timeline or wire.timeline_of(url)
        self._tell = say
        self._stop = threading.Event()
        self._ask_at = 0.0  # when to read the timeline
        # Of the first connection, if a later one may succeed
        self._refusal: TurnedAway | None = None
        # Why the last file could not be written; until it is, no post is taken
        self._unwritten = ""
        # What ends the feeder, raised by `run`
        self._broken: BaseException | None = None
        self._stream: Stream | None = None
        self._spool = Spool(folder, self._say)
        try:
            self._stream = self._first()
        except BaseException:
            self._spool.close()
            raise

    @property
    def facts(self) -> Facts:
        """The totals of the spool, over all feeders that have filled it."""
        return self._spool.facts

    def _first(self) -> Stream | None:
        """Return the first connection; None if the server has a temporary error or asks to wait.

        Raises:
            InvalidInputError: the answer is neither a stream nor a temporary error, or
                the server's certificate is not accepted.
            TransientError: the server cannot be reached.
        """
        try:
            return self._connected()
        except TurnedAway as err:
            if not err.passes:
                raise InvalidInputError(err.line) from None
            self._refusal = err
            self._say(self._again(err, 1))
        except wire.FAILED as err:
            kind: type[InvalidInputError] = TransientError
            if isinstance(err, ssl.SSLError):
                kind = InvalidInputError
            raise kind(
                f"{self._url} cannot be read: {wire.why(err)}; correct the address, or"
                " try again later"
            ) from None
        return None

    def _say(self, line: str) -> None:
        """Show a line to the user, made printable because it may contain text of the server."""
        self._tell(printable(line))

    def _connected(self) -> Stream:
        return Stream(
            self._url, self._token, stall=self._stall, event=self.facts.event or None
        )

    # --- in the calling thread: write the posts that have arrived to the spool

    def run(self, stop: threading.Event) -> Facts:
        """Feed until `stop` is set, write what has arrived, and return the totals.

        Args:
            stop: set this event, in another thread or a signal handler, to end the
                call.

        Raises:
            InvalidInputError: the last posts cannot be written.
        """
        self._stop = stop
        try:
            reader = in_thread("posts", self._read)
            while not stop.wait(self._every):
                self._land()
            end = time.monotonic() + _PATIENCE
            while reader.is_alive() and time.monotonic() < end:
                # Again and again, because the thread may just have connected
                self._hang_up()
                reader.join(_WAKE_EVERY)
        finally:
            stop.set()
            self._hang_up()
            try:
                self._land()  # also posts that arrived before an error
            finally:
                self._spool.close()
        if self._broken is not None:
            raise self._broken
        return self.facts

    def _land(self) -> None:
        """Write the posts that have arrived to the spool; report an error once.

        Raises:
            InvalidInputError: they cannot be written, and the feeder is to stop.
        """
        trouble = ""
        try:
            self._spool.land()
        except (OSError, DatabaseError) as err:
            reason = getattr(err, "strerror", None) or err
            trouble = f"cannot write in {self._spool.folder} ({reason})"
            if self._stop.is_set():
                raise InvalidInputError(
                    f"{trouble}; the posts of the last moments are lost"
                ) from err
            if trouble != self._unwritten:
                self._say(f"{trouble}; it is tried again")
        self._unwritten = trouble

    def _hang_up(self) -> None:
        stream = self._stream  # the other thread may set it to None
        if stream is not None:
            stream.close()

    # --- in a thread of its own: the connections

    def _read(self) -> None:
        try:
            self._connect_again_and_again()
        except BaseException as err:  # noqa: BLE001 - raised by `run`
            self._broken = err
            self._stop.set()

    def _connect_again_and_again(self) -> None:
        error: Exception | None = self._refusal
        failures = 1 if error else 0
        while not self._stop.wait(wire.wait_after(error, failures)):
            error = None
            began = time.monotonic()
            try:
                self._stream = self._stream or self._connected()
                self._follow(self._stream)
            except (TurnedAway, DatabaseError, *wire.FAILED) as err:
                error = err
            self._hang_up()
            self._stream = None
            if self._stop.is_set():
                return
            is_brief = time.monotonic() - began < _BRIEF
            if is_brief or isinstance(error, TurnedAway):
                failures += 1
            else:
                failures = 0
            self._say(self._again(error, failures))

    def _again(self, error: Exception | None, failures: int) -> str:
        """Return a line on a connection that has ended, with the time of the next one."""
        line = "the connection has ended"
        if isinstance(error, TurnedAway):
            line = error.line
        elif error is not None:
            line += f": {wire.why(error)}"
        wait = wire.wait_after(error, failures)
        when = f"in {wait:,.1f} s" if wait else "now"
        return f"{line}; next try {when}"

    def _follow(self, stream: Stream) -> None:
        """Pass on the messages of a connection until it ends.

        Meanwhile missed posts are read from the timeline.
        """
        self._spool.note_connection(
            has_timeline=self._timeline is not None, resumes=wire.backfill_of(self._url)
        )
        self._ask_at = time.monotonic() + _LISTENS_AFTER
        for message in stream.messages():
            self._take(message)
            if self.facts.behind and time.monotonic() >= self._ask_at:
                self._catch_up()

    def _take(self, message: Message, *, later: bool = False) -> None:
        """Pass a message on to the spool, once the spool can be written."""
        while self._unwritten and not self._stop.wait(_WAKE_EVERY):
            pass  # the disk is full: read no further meanwhile
        self._spool.take(message, later=later)

    def _catch_up(self) -> None:
        """Read the timeline from the stored position on, and keep the posts that the stream missed.

        After a temporary error the position is kept, and the timeline is read again
        later.
        """
        self._ask_at = time.monotonic() + _PATIENCE
        # The next reading starts 200 posts before the end of this one, because a post
        # that arrives later can rank before posts that were read already.
        read = deque([self.facts.behind], OVERLAP)
        try:
            # A short page is not the end, because a server may leave posts out of any
            # page. An empty page is. But if posts arrive faster than the server
            # answers, no page is empty, so stop at the id that was the newest at the
            # beginning.
            ids = [post.id for post in self._page("")]
            newest = max(ids, key=wire.by_age, default="")
            while not self._stop.is_set() and (page := self._page(read[-1])):
                for post in page:
                    self._take(post, later=True)
                read.extend(post.id for post in page)
                self._spool.left_at(read[0])
                if wire.by_age(read[-1]) >= wire.by_age(newest):
                    break
        except TurnedAway as err:
            if err.passes:
                self._ask_at = time.monotonic() + wire.wait_after(err, 1)
                return
            self._say(f"{err.line}: what comes while there is no connection is missed")
            self._timeline = None
        except wire.FAILED:
            return  # try again with one of the next messages
        # Else the next feeder reads on from the stored position
        if not self._stop.is_set():
            self._spool.left_at("")

    def _page(self, after: str) -> list[Message]:
        """Return the posts right after an id, the oldest first; for "" the newest ones.

        They are those of the timeline.
        """
        query: dict[str, Any] = {}
        if after:
            query["min_id"] = after
        query["limit"] = _PAGE
        mark = "&" if "?" in str(self._timeline) else "?"
        url = f"{self._timeline}{mark}{urlencode(query)}"
        page = wire.fetch(url, self._token, timeout=self._stall)
        if not isinstance(page, list):
            raise TurnedAway(200, f"{self._timeline} is no timeline")
        posts = {wire.id_of(post): post for post in page if isinstance(post, dict)}
        messages = []
        for post in sorted(posts, key=wire.by_age):
            is_newer = wire.by_age(post) > wire.by_age(after)
            if is_newer and 0 < len(post) <= wire.LONGEST_ID:
                line = json.dumps(posts[post]).encode()
                messages.append(Message("post", post, line))
        return messages


_log = logging.getLogger(__name__)

# The fields of a post that are used, as X ("data dictionary: Post") and Mastodon
# ("Status") name them.
_POST = (
    "id STRING, created_at TIMESTAMP, text STRING, content STRING,"
    " tags ARRAY<STRUCT<name: STRING>>,\n"
    "    entities STRUCT<hashtags: ARRAY<STRUCT<tag: STRING>>>"
)
# Of `timeline`, `token_env`, `every` and `stall`, which are the feeder's
_DEFAULTS = (None, wire.TOKEN, wire.EVERY, wire.STALL)
_LOOK_EVERY = 1.0  # seconds between two checks whether the session has ended
_feeding: dict[Path, _Feeding] = {}  # the feeders of this process, by spool


def posts(
    spark: SparkSession,
    url: str | Path,
    *,
    spool: str | Path | None = None,
    timeline: str | None = None,
    token_env: str = wire.TOKEN,
    every: float = wire.EVERY,
    stall: float = wire.STALL,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream posts from a URL of X, Mastodon or any server of JSON lines or events.

    ::

        url = "https://mastodon.example/api/v1/streaming/public"
            posts = sources.posts(spark, url, spool="posts/")
        tags = posts.select("created_at", F.explode("tags").alias("tag"))

    A feeder in this process writes the posts as whole files to a folder, the spool, and
    Spark reads the spool. Each post in the spool counts exactly once up to the sink,
    and a repeat within the last 200,000 posts is dropped. Posts can be lost only before
    they reach the spool: if they arrive while there is no connection and the server
    does not send them again. The feeder reports each such gap. Posts that were missed
    on the public and hashtag streams of Mastodon are fetched from the timelines
    afterwards.

    The feeder starts with this call, and ends with the session or the process, even if
    the process is killed; it also feeds while no query reads the spool. `sparkstream
    feed posts URL FOLDER` runs the same feeder as a process of its own; read its folder
    with `sources.posts(spark, FOLDER)`.

    Args:
        spark: the session. With a URL, its Spark must read this machine's disks.
        url: the stream's URL, or the folder that another feeder fills.
        spool: with a URL, the folder for the posts. It is created if it is missing;
            give the same folder at each start. Files that have been read stay, unless
            you set Spark's option `cleanSource="delete"`.
        timeline: a URL that returns the posts after `min_id`, as Mastodon's timelines
            do. Default: the timeline of a Mastodon stream, else none.
        token_env: the environment variable with the bearer token. The token is never
            shown or stored.
        every: seconds from one file to the next. If the process is killed, the posts of
            this time are missed, as those of a gap.
        stall: after this many seconds without data from the server, the feeder
            reconnects.
        max_files_per_trigger: the most files that one batch reads. Default: files of
            256 MiB together.
        **options: further options of Spark's file source.

    Returns:
        A streaming DataFrame with `id` (string), `created_at` (timestamp), `text`
        (string; HTML from Mastodon), `tags` (array of string: the hashtags that the
        server sends, X only with `tweet.fields=entities`; null if it sends none) and
        `value` (string: the whole post, as JSON).

    Raises:
        InvalidInputError: the URL is invalid or is not a stream, the server cannot be
            reached or refuses the token, or the spool cannot be written or is filled by
            another feeder. The message is a single line.

    Examples:
        >>> posts(None, "https://api.x.com/2/tweets/sample/stream", spool="posts")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: sources.posts(): spark is None; ...
    """
    check(posts, locals())
    place = str(url)
    if spool is not None or is_url(place):
        token = Token.from_environment(token_env)
        feeder_options = {
            "token": token,
            "timeline": timeline,
            "every": every,
            "stall": stall,
        }
        place = _fed(spark, place, spool, feeder_options)
    elif (timeline, token_env, every, stall) != _DEFAULTS:
        raise InvalidInputError(
            f"{url} is a folder, which another process fills; give timeline, token_env,"
            " every and stall to its feeder, sparkstream feed posts"
        )
    lines = text(spark, place, max_files_per_trigger=max_files_per_trigger, **options)
    # A post of X is in `data`. A post with an id at the top level, as Mastodon's, may
    # have a `data` that is something else.
    inner = F.when(
        F.get_json_object("value", "$.id").isNull(),
        F.get_json_object("value", "$.data"),
    )
    post = F.from_json(F.coalesce(inner, "value"), _POST)
    return lines.select(post.alias("post"), "value").select(
        "post.id",
        "post.created_at",
        F.coalesce("post.text", "post.content").alias("text"),
        F.coalesce("post.tags.name", "post.entities.hashtags.tag").alias("tags"),
        "value",
    )


def _fed(
    spark: SparkSession,
    url: str,
    spool: str | Path | None,
    feeder_options: dict[str, Any],
) -> str:
    """Start a spool's feeder, unless one runs in this process; return the spool's path.

    Raises:
        InvalidInputError: there is no spool, Spark or its nodes do not read this
            machine's disk, another URL feeds the spool already, or the feeder cannot
            start.
    """
    if spool is None:
        raise InvalidInputError(
            f"posts of {url} need a folder; give spool='posts', the same at each start"
        )
    folder = locate(spark, spool).folder
    if folder is None:
        raise InvalidInputError(
            f"spool {spool}: this Spark does not read this machine's disks; run"
            " sparkstream feed posts URL FOLDER where it does, and give the FOLDER in"
            " place of the URL"
        )
    refuse_many_disks(spark, "spool", str(spool))
    running = _feeding.get(folder)
    if running is not None and running.lives and running.feeds(url, feeder_options):
        running.spark = spark
        return str(spool)
    # With another token, or another pace
    if running is not None and running.url == url:
        running.end()
    _feeding[folder] = _Feeding(spark, url, folder, feeder_options)
    return str(spool)


class _Feeding:
    """Runs a feeder in a thread until the session or the process ends.

    Args:
        spark: the session whose queries read the spool.
        url: the URL of the stream.
        folder: the spool.
        given: the other arguments of `Feeder`.

    Raises:
        InvalidInputError: the feeder cannot start (see `Feeder`).
    """

    def __init__(
        self,
        spark: SparkSession,
        url: str,
        folder: Path,
        feeder_options: dict[str, Any],
    ) -> None:
        self.spark = spark
        self.url = url
        self.feeder_options = feeder_options
        self._over = threading.Event()  # set when the session or the process ends
        # Raises if it cannot start
        feeder = Feeder(url, folder, say=self._say, **feeder_options)
        try:
            self._thread = in_thread("feeder", partial(self._feed, feeder))
            in_thread("session", self._watch)
        except BaseException:
            self._over.set()
            raise
        atexit.register(self.end)

    def feeds(self, url: str, feeder_options: dict[str, Any]) -> bool:
        """Return whether a feeder of these arguments would do the same."""
        return self.url == url and self.feeder_options == feeder_options

    @property
    def lives(self) -> bool:
        """Whether the feeder runs; one that was told to end has some seconds for it."""
        if self._over.is_set():
            self._thread.join(2 * _PATIENCE)
        return self._thread.is_alive()

    def _watch(self) -> None:
        """Wait for the end of the session, which ends the feeder."""
        while not has_ended(self.spark) and not self._over.wait(_LOOK_EVERY):
            pass
        self._over.set()

    def _feed(self, feeder: Feeder) -> None:
        try:
            self._say(str(feeder.run(self._over)))
        except Exception as err:  # noqa: BLE001 - said before the thread ends
            _log.error("posts of %s: %s; the feeder has ended", self.url, err)

    def _say(self, line: str) -> None:
        _log.warning("posts of %s: %s", self.url, line)

    def end(self) -> None:
        """End the feeder, and wait for it some seconds."""
        self._over.set()
        self._thread.join(2 * _PATIENCE)
