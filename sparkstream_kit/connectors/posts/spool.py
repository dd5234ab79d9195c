"""The spool, a folder of post files: whole files, each post once, filled by one feeder at a time.

`Spool` takes the messages of a connection, counts them in its `Facts`, writes the posts
to files and knows which posts they have. The feeder in `source` uses it from two
threads: one takes, the other one writes.

A file appears in three steps. First it is written under a hidden name, which Spark
skips, and synced to the disk. Then one transaction in `_feed.db`, a small SQLite
database in the same folder, records its posts as kept. Only then the file gets its
visible name. So a feeder that is killed at any point leaves nothing half done: the next
feeder renames a hidden file whose posts are in the database, and removes one whose
posts are not. Spark may delete files that it has read (`cleanSource="delete"`), because
the database still knows their posts.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from sparkstream_kit._internal import file_system
from sparkstream_kit.connectors.posts.wire import by_age
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sparkstream_kit.connectors.posts.wire import Message


# Ids kept to recognise repeated posts: those of about an hour at 50 posts per second
_KEPT = 200_000
_NOTE_EVERY = 10.0  # seconds between two updates of the facts if no post arrives
# A timeline is read from this number of posts before the last one. Mastodon orders the
# ids of posts from other servers by the time of writing, so such a post can arrive
# later and still rank before the last one. The highest id may have arrived some posts
# ago, so more of the last posts are looked at.
OVERLAP = 200
_LAST = 1000
_TABLES = """
    CREATE TABLE IF NOT EXISTS posts (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE
    );
    CREATE TABLE IF NOT EXISTS facts (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1), facts TEXT NOT NULL
    );
"""


@dataclass
class Facts:
    """The totals and the position of a spool, over all feeders that have filled it.

    They are stored in `_feed.db`, in the same transaction as the posts.

    Attributes:
        posts: the number of posts kept.
        files: the number of files written.
        repeats: the number of repeated posts, which were dropped.
        later: the number of posts that were missed on the stream and fetched from a
            timeline afterwards.
        others: the number of messages that were not posts, and of lines that cannot be
            read.
        cuts: how often a connection ended, on either side.
        seconds: the total time between the last message of a connection and the next
            connection.
        heard: when the server last sent something, in seconds since 1970; 0 if it never
            has.
        event: the id of the last server-sent event; "" if there was none.
        behind: the id of the post after which a timeline must still be read; "" if
            nothing was missed.
        stamp: the number in the name of the last file: milliseconds since 1970.
    """

    posts: int = 0
    files: int = 0
    repeats: int = 0
    later: int = 0
    others: int = 0
    cuts: int = 0
    seconds: float = 0.0
    heard: float = 0.0
    event: str = ""
    behind: str = ""
    stamp: int = 0

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Facts:
        """Return stored facts, without those of another version of the kit."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in names})

    def __str__(self) -> str:
        """Return the totals as one line, for the feeder's last message."""
        plural = "" if self.files == 1 else "s"
        parts = [f"{self.posts:,} posts in {self.files:,} file{plural}"]
        if self.repeats:
            parts.append(f"{self.repeats:,} repeats dropped")
        if self.others:
            parts.append(f"{self.others:,} messages that were no posts")
        if self.cuts:
            parts.append(
                f"{self.cuts:,} times cut, {self.seconds:,.0f} s without a connection"
            )
        if self.later:
            parts.append(f"{self.later:,} posts fetched afterwards")
        if self.behind:
            parts.append("what was missed last is fetched at the next start")
        return "; ".join(parts)


class Spool:
    """A folder of post files, locked by the feeder that fills it.

    One thread calls `note_connection`, `take` and `left_at`, another one `land`.

    Args:
        folder: the folder; it is created if it is missing.
        say: a function that shows a line to the user.

    Attributes:
        folder: the folder.
        facts: the totals of the spool, from its database.

    Raises:
        InvalidInputError: the folder cannot be written, another feeder fills it, or its
            database is damaged.
    """

    def __init__(
        self, folder: str | os.PathLike[str], say: Callable[[str], object]
    ) -> None:
        self.folder = file_system.local("spool", folder)
        self._say = say
        # By id: the line, and whether it came later
        self._waiting: dict[str, tuple[bytes, bool]] = {}
        # What this connection has reported about messages that are not posts
        self._reported = set[str]()
        self._fetched = 0  # posts that came later, since this was last reported
        self._noted = time.monotonic()
        # Held by each method that reads or changes what waits, or the facts
        self._busy = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "_feed.lock").open("wb")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._database = self._open_database()
            except BaseException:
                self._lock.close()
                raise
        except BlockingIOError:
            fix = "stop it, give another folder, or read this one without a URL"
            raise InvalidInputError(
                f"another feeder fills {folder} already; {fix}"
            ) from None
        except (OSError, sqlite3.Error) as err:
            reason = getattr(err, "strerror", None) or err
            raise InvalidInputError(
                f"cannot write in {folder} ({reason}); give a folder for the posts"
            ) from err

    def _open_database(self) -> sqlite3.Connection:
        """Open the database, read the facts, and finish what a killed feeder has left."""
        # The thread that creates the spool opens the database, so that it gets the
        # error for a wrong folder; later both threads use it, each while it holds
        # `_busy`, hence `check_same_thread`. If another process holds the database for
        # longer than the timeout, the feeder tries again.
        path = self.folder / "_feed.db"
        database = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
        try:
            database.executescript(_TABLES)
            row = database.execute("SELECT facts FROM facts").fetchone()
            self.facts = Facts.of(json.loads(row[0])) if row else Facts()
            self._name_decided()
            for hidden in self.folder.glob(".*posts-*.jsonl*"):  # also one half written
                hidden.unlink()  # its posts are not in the database
        except BaseException as err:
            database.close()
            # AttributeError and ValueError: the stored facts are not an object of JSON.
            is_damaged = isinstance(
                err, AttributeError | TypeError | ValueError | sqlite3.DatabaseError
            )
            if not is_damaged or isinstance(err, sqlite3.OperationalError):
                raise
            fix = (
                "remove it to go on: a post of before that comes again is then kept"
                " twice"
            )
            raise InvalidInputError(f"{path} is damaged ({err}); {fix}") from err
        return database

    def _name_decided(self) -> None:
        """Rename the last file to its visible name, unless that is done.

        The posts of the file must be in the database.
        """
        name = f"posts-{self.facts.stamp}.jsonl"
        with suppress(FileNotFoundError):
            (self.folder / f".{name}").rename(self.folder / name)

    def note_connection(self, *, has_timeline: bool, resumes: float) -> None:
        """Count a new connection and the time before it; report if posts were missed.

        The time is counted from the last message.

        If there is a timeline, this also notes from where it must be read.

        Args:
            has_timeline: whether missed posts can be fetched from a timeline.
            resumes: the longest gap, in seconds, whose posts the server has promised to
                send again.
        """
        with self._busy:
            facts = self.facts
            now = time.time()
            self._reported.clear()
            if not has_timeline:
                facts.behind = ""
            elif not facts.behind:
                facts.behind = self._overlap()
            if facts.heard:
                seconds = max(0.0, now - facts.heard)
                facts.cuts += 1
                facts.seconds += seconds
                missed = (
                    "what came meanwhile is missed, unless the server sends it again by"
                    " itself"
                )
                if facts.behind or facts.event or seconds < resumes:
                    missed = "the server is asked for what was missed"
                self._say(f"connected again, after {seconds:,.1f} s; {missed}")
            facts.heard = now

    def _overlap(self) -> str:
        """Return the id from which to read a timeline; "" if the spool has no post yet."""
        rows = self._database.execute(
            "SELECT id FROM posts ORDER BY number DESC LIMIT ?", (_LAST,)
        )
        ids: list[str] = [row[0] for row in rows]
        ids += self._waiting
        if not ids:
            return ""
        return sorted(ids, key=by_age)[-OVERLAP:][0]

    def take(self, message: Message, *, later: bool = False) -> None:
        """Count a message, and keep it in memory for the next file if it is a post.

        Args:
            message: the message from the stream or its timeline.
            later: whether the message comes from the timeline, and so was missed on the
                stream.
        """
        with self._busy:
            facts = self.facts
            facts.heard = time.time()
            if message.kind == "other":
                facts.others += 1
                if message.says and message.says not in self._reported:
                    self._reported.add(message.says)
                    self._say(message.says)
            elif message.kind == "post":
                # A timeline is read from before the gap, so its repeats are expected.
                if message.id in self._waiting and not later:
                    facts.repeats += 1
                self._waiting.setdefault(message.id, (message.line, later))
                facts.event = message.event or facts.event

    def left_at(self, post: str) -> None:
        """Note after which post to read the timeline; "" if nothing is missing now."""
        with self._busy:
            self.facts.behind = post

    def land(self) -> None:
        """Write the waiting posts to a file for Spark, and store the facts with them.

        The posts and the facts are stored in the same transaction.

        A post that is among the last 200,000 of the spool is dropped. Without any post,
        the facts are stored every ten seconds.

        Raises:
            OSError, sqlite3.Error: the file or the database cannot be written, for
                example because the disk is full. Nothing is lost: the posts still wait,
                and the call can be repeated.
        """
        with self._busy:
            if not self._waiting and time.monotonic() - self._noted < _NOTE_EVERY:
                return
            self._name_decided()
            kept = self._kept_posts()
            new = {
                post: line_and_later
                for post, line_and_later in self._waiting.items()
                if post not in kept
            }
            facts = replace(self.facts)
            for post in kept:
                _, later = self._waiting[post]
                if not later:
                    facts.repeats += 1
            for _, later in new.values():
                if later:
                    facts.later += 1
            if new:
                # Spark reads files in the order of modification times, to the
                # millisecond, and reads each name once. So each file gets a number that
                # is higher than all before, as its time and in its name.
                facts.stamp = max(int(time.time() * 1000), facts.stamp + 1)
                facts.posts += len(new)
                facts.files += 1
                self._write(facts.stamp, [line for line, _ in new.values()])
            # After this commit the posts are kept, even if the process is killed
            self._keep(new, facts)
            self._fetched += facts.later - self.facts.later
            self._noted = time.monotonic()
            self._waiting = {}
            self.facts = facts
            self._name_decided()
            if self._fetched and not facts.behind:
                self._say(f"{self._fetched:,} posts were fetched that had been missed")
                self._fetched = 0

    def _kept_posts(self) -> set[str]:
        """Return the waiting posts that the spool has already."""
        query = "SELECT 1 FROM posts WHERE id = ?"
        return {
            post
            for post in self._waiting
            if self._database.execute(query, (post,)).fetchone()
        }

    def _write(self, stamp: int, lines: Iterable[bytes]) -> None:
        """Write a file under its hidden name, and sync it and its folder to the disk."""
        hidden = self.folder / f".posts-{stamp}.jsonl"
        file_system.replace(hidden, (line + b"\n" for line in lines))
        os.utime(hidden, ns=(stamp * 1_000_000, stamp * 1_000_000))
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _keep(self, posts: Iterable[str], facts: Facts) -> None:
        """Record posts as kept, and the facts, in one transaction; forget the oldest posts."""
        rows = [(post,) for post in posts]
        stored = json.dumps(asdict(facts))
        with self._database as database:
            database.executemany("INSERT INTO posts (id) VALUES (?)", rows)
            database.execute(
                "DELETE FROM posts WHERE number <= (SELECT max(number) FROM posts) -?",
                (_KEPT,),
            )
            database.execute("REPLACE INTO facts VALUES (1, ?)", (stored,))

    def close(self) -> None:
        """Close the database and release the lock, so that another feeder can fill the folder."""
        self._database.close()
        self._lock.close()
