"""Posts over HTTP as a source: Spark's own file source on the spool, and a feeder that fills it."""

from __future__ import annotations

import atexit
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from sparkstream_kit._arguments import check
from sparkstream_kit._files import plain
from sparkstream_kit._spark.place import locate
from sparkstream_kit._spark.session import has_ended, other_master
from sparkstream_kit._urls import is_url
from sparkstream_kit._waiting import in_thread
from sparkstream_kit.connectors.posts.address import Token
from sparkstream_kit.connectors.posts.defaults import EVERY, STALL, TOKEN
from sparkstream_kit.connectors.posts.feeder import Feeder
from sparkstream_kit.errors import InvalidInputError, KitError, innermost_cause
from sparkstream_kit.sources.files import text

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["posts"]

_log = logging.getLogger(__name__)

# What X ("data dictionary: Post") and Mastodon ("Status") call what a post has.
_POST = """id STRING, created_at TIMESTAMP, text STRING, content STRING, tags ARRAY<STRUCT<name: STRING>>,
    entities STRUCT<hashtags: ARRAY<STRUCT<tag: STRING>>>"""
_LOOK_EVERY = 1.0  # seconds from one look at the queries to the next
_PATIENCE = 10.0  # seconds for a feeder to keep what has come
_AGAIN = 16.0  # seconds until a feeder that could not go on is made anew
_feeding: dict[Path, _Feeding] = {}  # by spool


def posts(
    spark: SparkSession,
    url: str | Path,
    *,
    spool: str | Path | None = None,
    timeline: str | None = None,
    token_env: str = TOKEN,
    every: float = EVERY,
    stall: float = STALL,
    max_files_per_trigger: int | None = None,
    **options: Any,
) -> DataFrame:
    """Stream posts from a URL of X, of Mastodon or of any server that streams lines of JSON or events.

    ::

        posts = sources.posts(spark, "https://mastodon.example/api/v1/streaming/public", spool="posts/")
        tags = posts.select("created_at", F.explode("tags").alias("tag"))

    A feeder in this process writes the posts as whole files into a folder, the spool, and Spark reads the
    spool: each post in it counts exactly once, and no post is in it twice. The only gap is between the server
    and the spool: posts that come while there is no connection, and that the server does not send again. The
    feeder counts and reports them. What Mastodon's public and hashtag streams missed, it fetches from their
    timelines.

    The feeder begins here, rests while no query reads the spool, and ends with the session or the process,
    however that ends. `sparkstream feed posts URL FOLDER` is the same feeder as a process of its own; read
    its folder with `sources.posts(spark, FOLDER)`.

    Args:
        spark: the session. With a URL, its Spark must read this machine's disks.
        url: the stream's URL, or the folder that another feeder fills.
        spool: with a URL, the folder for the posts: made if it is missing, the same at each start. Nothing
            removes what has been read, but `cleanSource="delete"`, an option of Spark's.
        timeline: a URL that gives the posts after `min_id`, as Mastodon's timelines do; for the streams of
            Mastodon it is known.
        token_env: the environment variable with the bearer token. Nothing shows or keeps the token.
        every: seconds from one file to the next.
        stall: seconds without anything from the server, after which it is connected to anew.
        max_files_per_trigger: the most files that one batch reads, in place of an amount of bytes.
        **options: further options of Spark's file source.

    Returns:
        A streaming DataFrame with `id` (string), `created_at` (timestamp), `text` (string; HTML from
        Mastodon), `tags` (array of string: the hashtags as the server tells them, X with
        `tweet.fields=entities`; null where it does not) and `value` (string: the whole post, as JSON).

    Raises:
        InvalidInputError: in one line: the URL is none or is no stream, the server cannot be reached or
            refuses the token, or the spool cannot be written or is filled by another feeder.

    Example:
        >>> posts(None, "https://api.x.com/2/tweets/sample/stream", spool="posts")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: sources.posts(): spark is None; give a session, such as ...
    """
    check(posts, locals())
    place = str(url)
    if spool is not None or is_url(place):
        given = {"timeline": timeline, "every": every, "stall": stall}
        place = _fed(spark, place, spool, Token.from_environment(token_env), given)
    lines = text(spark, place, max_files_per_trigger=max_files_per_trigger, **options)
    # A post with an id of its own may have `data` of another kind.
    inner = F.when(F.get_json_object("value", "$.id").isNull(), F.get_json_object("value", "$.data"))
    post = F.from_json(F.coalesce(inner, "value"), _POST)
    return lines.select(post.alias("post"), "value").select(
        "post.id",
        "post.created_at",
        F.coalesce("post.text", "post.content").alias("text"),
        F.coalesce("post.tags.name", "post.entities.hashtags.tag").alias("tags"),
        "value",
    )


posts.__module__ = "sparkstream_kit.sources"  # where users find it: messages name it so


def _fed(spark: SparkSession, url: str, spool: str | Path | None, token: Token, given: dict[str, Any]) -> str:
    """Return the spool that a feeder of this process fills from now on."""
    if spool is None:
        raise InvalidInputError(f"posts of {url} need a folder; give spool='posts', the same at each start")
    place = locate(spark, spool)
    if place.folder is None:
        raise InvalidInputError(
            f"spool {spool}: this Spark does not read this machine's disks; run sparkstream feed posts URL "
            "FOLDER where it does, and give the FOLDER in place of the URL"
        )
    if (master := other_master(spark)) is not None and plain(str(spool)) == str(spool):
        raise InvalidInputError(
            f"spool {spool} is a local path, but the master is {master}, whose nodes read disks of their "
            f"own; if they share this folder, give file://{place.folder}"
        )
    folder = place.folder
    running = _feeding.get(folder)
    if running is not None and running.lives:
        if (running.url, running.given) != (url, given):
            raise InvalidInputError(
                f"spool {spool} is filled from {running.url} already; give another folder"
            )
        running.spark = spark
    else:
        _feeding[folder] = _Feeding(spark, url, folder, token, given)
    return str(spool)


class _Feeding:
    """A feeder in a thread, which feeds while a query reads the spool, and until the first one does."""

    def __init__(
        self, spark: SparkSession, url: str, folder: Path, token: Token, given: dict[str, Any]
    ) -> None:
        self.spark = spark
        self.url = url
        self.given = given
        self._folder = folder
        self._token = token
        self._over = threading.Event()  # set when the process ends
        self._first: Feeder | None = self._feeder()  # raises what is wrong
        self._read_before = False
        self._thread = in_thread("feeder", self._follow_queries)
        atexit.register(self._end)

    @property
    def lives(self) -> bool:
        return self._thread.is_alive()

    def _follow_queries(self) -> None:
        """Feed while a query reads the spool, and before the first one does."""
        while self._goes_on():
            if self._is_wanted():
                stop = threading.Event()
                feeding = in_thread("feed", partial(self._feed, stop))
                while self._goes_on() and self._is_wanted() and feeding.is_alive():
                    self._over.wait(_LOOK_EVERY)
                stop.set()
                feeding.join(_PATIENCE)
            self._over.wait(_LOOK_EVERY)

    def _goes_on(self) -> bool:
        return not self._over.is_set() and not has_ended(self.spark)

    def _is_wanted(self) -> bool:
        try:
            active = [self._is_read_by(query) for query in self.spark.streams.active]
        except Exception as err:  # noqa: BLE001 - of Spark's JVM or of a server, which may have gone
            if self._goes_on():
                self._say(f"Spark does not say which queries run ({innermost_cause(err)}); the feeder ends")
            self._over.set()
            return False
        self._read_before |= True in active
        return not self._read_before or any(each is not False for each in active)

    def _is_read_by(self, query: StreamingQuery) -> bool | None:
        """Say whether a query reads the spool; None where its first batch is yet to tell."""
        if (last := query.lastProgress) is None:
            return None
        return any(
            source.description.replace("\\", "").endswith(f"[file:{self._folder}]") for source in last.sources
        )

    def _feed(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                feeder, self._first = self._first or self._feeder(), None
                self._say(str(feeder.run(stop)))
            except KitError as err:
                _log.error("posts of %s: %s", self.url, err)
            stop.wait(_AGAIN)

    def _feeder(self) -> Feeder:
        return Feeder(self.url, self._folder, token=self._token, say=self._say, **self.given)

    def _say(self, line: str) -> None:
        _log.warning("posts of %s: %s", self.url, line)

    def _end(self) -> None:
        self._over.set()
        self._thread.join(_PATIENCE)
