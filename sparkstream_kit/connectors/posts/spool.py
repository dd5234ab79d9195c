"""The folder that posts wait in: whole files, each post once, filled by one feeder at a time.

A file is written under a hidden name, which Spark skips, and synced to the disk. One transaction of a small
database beside it, `_feed.db`, then takes its posts as kept, and only after that the file gets its name. So a
feeder that is killed at any point leaves nothing half: the next one names a file that the database has, and
removes one that it does not have. Spark may delete files that it has read (`cleanSource="delete"`): what was
kept is known from the database.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparkstream_kit.connectors.posts.wire import Message


_KEPT = 200_000  # ids by which a post that comes again is told: at 50 posts a second, those of an hour
_TABLES = """
    CREATE TABLE IF NOT EXISTS posts (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS facts (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), facts TEXT NOT NULL);
"""


@dataclass
class Facts:
    """What is known of a spool, over all feeders that have filled it; kept with its posts.

    Attributes:
        posts: how many it got.
        files: how many files.
        repeats: posts that came again, and were dropped.
        later: posts that were missed on the stream and fetched afterwards.
        others: messages that were no posts.
        unreadable: lines that were no object of JSON.
        cuts: how often a connection ended, whoever ended it.
        seconds: how long it was without a connection.
        heard: when the server last sent anything, in seconds since 1970; 0 before the first time.
        event: the id of the last server-sent event.
        behind: the id from which a timeline has still to be read; "" where nothing is missed.
        stamp: of the last file, in its name: milliseconds since 1970.
    """

    posts: int = 0
    files: int = 0
    repeats: int = 0
    later: int = 0
    others: int = 0
    unreadable: int = 0
    cuts: int = 0
    seconds: float = 0.0
    heard: float = 0.0
    event: str = ""
    behind: str = ""
    stamp: int = 0

    def __str__(self) -> str:
        """Return the summary line."""
        parts = [
            f"{self.posts:,} posts in {self.files:,} file{'' if self.files == 1 else 's'}",
            f"{self.repeats:,} repeats dropped" if self.repeats else "",
            f"{self.unreadable:,} unreadable lines left out" if self.unreadable else "",
            f"{self.others:,} messages that were no posts" if self.others else "",
            f"{self.cuts:,} times cut, {self.seconds:,.0f} s without a connection" if self.cuts else "",
            f"{self.later:,} posts fetched afterwards" if self.later else "",
            "what was missed last is fetched at the next start" if self.behind else "",
        ]
        return "; ".join(part for part in parts if part)


class Spool:
    """A folder of posts, locked for the feeder that fills it.

    Args:
        folder: made if it is missing.

    Raises:
        InvalidInputError: the folder cannot be written, or another feeder fills it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._waiting: dict[str, bytes] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            try:
                self._database = self._opened()
            except BaseException:
                os.close(self._lock)
                raise
        except (OSError, sqlite3.OperationalError) as err:
            reason = getattr(err, "strerror", None) or err
            raise InvalidInputError(
                f"cannot write in {folder} ({reason}); give a folder for the posts"
            ) from err

    def _locked(self) -> int:
        lock = os.open(self.folder / "_feed.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()}".encode(), 0)
        except BlockingIOError:
            holder = os.read(lock, 100).decode() or "another process"
            os.close(lock)
            raise InvalidInputError(
                f"{holder} fills {self.folder} already; stop it, give another folder, or read this one "
                "without a URL"
            ) from None
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _opened(self) -> sqlite3.Connection:
        # Opened where a wrong folder is to be said, and then used by the thread that feeds alone. Where
        # another process holds it for longer than this timeout, it is tried again.
        path = self.folder / "_feed.db"
        database = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
        try:
            database.executescript(_TABLES)
            found = database.execute("SELECT facts FROM facts").fetchone()
            # Another version may know more than this one.
            known = {each.name for each in fields(Facts)}
            given = json.loads(found[0]) if found else {}
            self.facts = Facts(**{name: value for name, value in given.items() if name in known})
            self._name_decided()
            for hidden in self.folder.glob(".posts-*.jsonl"):
                hidden.unlink()  # the database does not have its posts
            stamps = [path.stem.removeprefix("posts-") for path in self.folder.glob("posts-*.jsonl")]
            self.facts.stamp = max(self.facts.stamp, *(int(each) for each in stamps if each.isdecimal()), 0)
        except BaseException as err:
            database.close()
            # Facts that are no object of JSON among them.
            damaged = isinstance(err, AttributeError | ValueError | sqlite3.DatabaseError)
            if not damaged or isinstance(err, sqlite3.OperationalError):
                raise
            raise InvalidInputError(
                f"{path} is damaged ({err}); remove it to go on: a post of before that comes again is then "
                "kept twice"
            ) from err
        return database

    def _name_decided(self) -> None:
        """Give the last file that the database has its name, if that is yet to be done."""
        name = f"posts-{self.facts.stamp}.jsonl"
        with suppress(FileNotFoundError):
            (self.folder / f".{name}").rename(self.folder / name)

    def latest(self, number: int) -> list[str]:
        """Return the ids of the last so many posts, the oldest first."""
        rows = self._database.execute(
            "SELECT id FROM posts ORDER BY number DESC LIMIT ?", (number,)
        ).fetchall()
        return [row[0] for row in reversed(rows)]

    @property
    def waits(self) -> bool:
        """Say whether a post waits for the next file."""
        return bool(self._waiting)

    def add(self, post: Message) -> bool:
        """Take a post for the next file; return False for one that came before."""
        known = self._database.execute("SELECT 1 FROM posts WHERE id = ?", (post.id,)).fetchone()
        if known or post.id in self._waiting:
            return False
        self._waiting[post.id] = post.line
        return True

    def land(self) -> Path | None:
        """Keep what waits, as a file that Spark can read, and the facts with it; None if nothing waited.

        Raises:
            OSError, sqlite3.Error: the disk does not take it; nothing is lost, and it can be tried again.
        """
        self._name_decided()
        if not self._waiting:
            self._keep(self.facts)
            return None
        # Spark reads in the order of modification times, to the millisecond, and each name once.
        stamp = max(int(time.time() * 1000), self.facts.stamp + 1)
        name = f"posts-{stamp}.jsonl"
        hidden = self.folder / f".{name}"
        with hidden.open("wb") as file:
            file.writelines(line + b"\n" for line in self._waiting.values())
            file.flush()
            os.fsync(file.fileno())
        os.utime(hidden, ns=(stamp * 1_000_000, stamp * 1_000_000))
        self._sync_folder()
        facts = Facts(**asdict(self.facts))
        facts.posts += len(self._waiting)
        facts.files += 1
        facts.stamp = stamp
        self._keep(facts)  # from here on these posts are kept, whatever happens
        self._waiting = {}
        self._name_decided()
        return self.folder / name

    def _keep(self, facts: Facts) -> None:
        with self._database as database:
            database.executemany("INSERT INTO posts (id) VALUES (?)", [(each,) for each in self._waiting])
            database.execute(
                "DELETE FROM posts WHERE number <= (SELECT max(number) FROM posts) - ?", (_KEPT,)
            )
            database.execute("REPLACE INTO facts VALUES (1, ?)", (json.dumps(asdict(facts)),))
        self.facts = facts

    def _sync_folder(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let the folder go."""
        self._database.close()
        os.close(self._lock)


_NOTE_EVERY = 10.0  # seconds between two notes that the connection lives


class Intake:
    """Puts posts into a spool and keeps its facts; used by one thread.

    Args:
        spool: where the posts go.
        say: is told what a user should know.
    """

    def __init__(self, spool: Spool, say: Callable[[str], object]) -> None:
        self._spool = spool
        self._say = say
        self._later = 0
        self._told = set[str]()  # why lines of this connection could not be read
        self._noted = time.monotonic()

    def opened(self, *, resumes: float, fetches: bool) -> None:
        """Note a new connection, and the time since anything came by the one before.

        Args:
            resumes: of how many seconds without a connection the stream itself brings what was missed.
            fetches: what was missed is fetched from a timeline.
        """
        facts, now = self._spool.facts, time.time()
        self._told.clear()
        if facts.heard:
            seconds = max(0.0, now - facts.heard)
            facts.cuts += 1
            facts.seconds += seconds
            what = "the server is asked for what was missed"
            if not fetches and seconds >= resumes:
                what = "what came meanwhile is missed, as the server does not send it again"
            self._say(f"connected again, after {seconds:,.1f} s; {what}")
        facts.heard = now

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
        facts.event = post.event or facts.event

    def not_fetched(self, line: str) -> None:
        """Note that the server does not give what was missed, and says so with this line."""
        self._say(f"{line}: what comes while there is no connection is missed")

    def left_at(self, post: str) -> None:
        """Note from which id the timeline is still to be read; "" where nothing is missed any more."""
        self._spool.facts.behind = post
        if not post and self._later:
            self._say(f"{self._later:,} posts were fetched that had been missed")
            self._later = 0

    def land(self) -> None:
        """Keep what has come."""
        if self._spool.waits or time.monotonic() - self._noted >= _NOTE_EVERY:
            self._spool.land()
            self._noted = time.monotonic()
