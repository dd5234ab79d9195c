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
    from sparkstream_kit.connectors.posts.wire import Message

__all__ = ["Facts", "Spool"]

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
        missed: posts that the server did not send again, counted by their numbers.
        about: the same, estimated by the time without a connection.
        heard: when the server last sent anything, in seconds since 1970; 0 before the first time.
        connected: for how long there was a connection, in seconds.
        rate: posts a second, of late.
        last: the id of the last post.
        row: how many posts in a row had ids that count up by one; -1 once one had not.
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
    missed: int = 0
    about: int = 0
    heard: float = 0.0
    connected: float = 0.0
    rate: float = 0.0
    last: str = ""
    row: int = 0
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
            f"{self.missed:,} posts missed" if self.missed else "",
            f"about {self.about:,} posts missed" if self.about else "",
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
            # A later version may know more than this one.
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
