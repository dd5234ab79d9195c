"""Things that make input: a TCP line server, a file dripper, and seeded generators with known truth.

The makers of lines, rows and files check their arguments when they are called; what they return can be read
from its start any number of times. A seed gives the same data on every Python (a test holds the digests).
"""

from __future__ import annotations

import csv
import errno
import io
import itertools
import os
import random
import socket
import struct
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

__all__ = ["LineServer", "drip", "random_lines", "sales_files", "sales_rows", "sales_totals", "text_lines"]

T = TypeVar("T")

_SYLLABLES = ("ka", "lo", "mi", "ren", "tu", "sha", "vo", "pel", "dri", "no", "zu", "bem")
_WORDS = (*_SYLLABLES, *(first + second for first in _SYLLABLES for second in _SYLLABLES))
_ZIPF = list(
    itertools.accumulate(1 / rank for rank in range(1, len(_WORDS) + 1))
)  # the most frequent is first
_PRODUCTS = (
    ("Build - Data Lake", "180"), ("Build - Web Shop", "149.5"), ("Workshop - Streaming", "210"),
    ("Advice - Cloud Cost", "195"), ("Build - Mobile App", "160"), ("Support - Night Desk", "87.25"),
    ("Workshop - Statistics", "125"), ("Advice - Security", "240"), ("Build - Search", "155"),
    ("Support - Upgrades", "95"), ("Workshop - Rust", "140"), ("Advice - Pricing", "170.75"),
    ("Build - Payments", "165"), ("Support - Backup", "72.5"), ("Workshop - Kotlin", "130"),
    ("Advice - Hiring", "110"), ("Support - Migration", "99.99"),
)  # fmt: skip
_STATES = (
    ("New York", "East"), ("Massachusetts", "East"), ("Pennsylvania", "East"), ("Maine", "East"),
    ("Oregon", "West"), ("Washington", "West"), ("Nevada", "West"), ("Utah", "West"),
    ("Illinois", "Central"), ("Iowa", "Central"), ("Kansas", "Central"), ("Wisconsin", "Central"),
    ("Georgia", "South"), ("Louisiana", "South"), ("North Carolina", "South"), ("Tennessee", "South"),
)  # fmt: skip
_CUSTOMERS = tuple(
    shape.format(first, last)
    for shape in ("{0} {1}", "{1}, {0}", '{0} "Bear" {1}')
    for first in ("Ann", "Bo", "Chidi", "Dana", "Zoë")
    for last in ("Smith", "Lee", "O'Hara", "Okafor", "Åkesson", "van Dijk")
)


class LineServer:
    """A TCP server that sends every client the whole of `lines` from its start, whenever the client connects.

    It listens from its construction until `close`, serves many clients at once, and ends a connection after
    the last line. A client that leaves early is no error.

    Args:
        lines: the lines, with or without a newline: a list, what `text_lines` or `random_lines` return, or
            a function without arguments that returns a fresh iterator for each client.
        host: the address or name to listen on.
        port: the port to listen on; 0 takes a free one, which the attribute `port` then tells.
        rate: lines a second for each client, on average (a client that fell behind gets what it missed at
            once); None sends as fast as the client reads.

    Raises:
        InvalidInputError: the port is taken or cannot be had, the rate is not above 0, or only the first
            client would get the lines.

    Example:
        >>> with LineServer(["to be", "or not"]) as server:
        ...     with socket.create_connection((server.host, server.port)) as client:
        ...         client.makefile().read().splitlines()
        ['to be', 'or not']
    """

    def __init__(
        self,
        lines: Iterable[str] | Callable[[], Iterable[str]],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        rate: float | None = None,
    ) -> None:
        self._lines: Iterable[str] = _Again(lines) if callable(lines) else lines
        if isinstance(lines, str) or iter(self._lines) is self._lines:
            what = f"lines is one {type(lines).__name__}, which is not read line by line anew for each client"
            raise InvalidInputError(f"{what}; give a list of lines or a function that returns an iterator")
        if rate is not None and not rate > 0:
            raise InvalidInputError(f"rate is {rate} lines a second; give a number above 0, or leave it out")
        self._period = 1 / rate if rate else 0.0
        self._listener = _listen(host, port)
        self.host: str = host
        self.port: int = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._changed = threading.Condition()  # guards the next three
        self._served = 0
        self._failure: Exception | None = None
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_served(self, clients: int | None = 1, timeout: float | None = None) -> bool:
        """Wait until `clients` clients were sent everything, or until the server is closed.

        Args:
            clients: how many since the start, without those that left early; None serves until `close`.
            timeout: seconds to wait at most; None is no limit.

        Returns:
            Whether that many clients were sent everything.

        Raises:
            Exception: what `lines` raised for a client, whose connection was then reset rather than ended.
        """

        def enough() -> bool:
            return clients is not None and self._served >= clients

        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._closed.is_set() or enough(), timeout)
            if self._failure:
                raise self._failure
            return enough()

    def close(self) -> None:
        """Stop listening and end every connection, even if its client does not read; may be called again."""
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not
        self._acceptor.join(timeout=5)
        self._listener.close()
        with self._changed:
            clients = dict(self._clients)
            self._changed.notify_all()
        for connection in clients.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes a sendall() whose client does not read
        for thread in clients:
            thread.join(timeout=5)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed, the client is gone already, or too many open files for the moment
                self._closed.wait(0.1)
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._changed:
                self._clients[thread] = connection
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                for line in _paced(self._lines, self._period, self._closed):
                    _send(connection, line)
                if not self._closed.is_set():
                    self._finish(connection)
            except _ClientLeftError:
                pass
            except Exception as err:  # noqa: BLE001 - wait_served raises whatever the caller's lines raised
                # Closing becomes a reset, so that a part of the lines does not look like all of them.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._failure = err
        with self._changed:
            del self._clients[threading.current_thread()]
            self._changed.notify_all()

    def _finish(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            with self._changed:
                self._served += 1
                self._changed.notify_all()
            # Closing with unread input would send a reset, and the client would lose lines on their way.
            while connection.recv(65536):
                pass


def text_lines(path: str | os.PathLike[str]) -> Iterable[str]:
    """Give the lines of a UTF-8 text file without their newlines; each reading opens the file anew.

    Raises:
        InvalidInputError: there is no such file (at once), or it is not readable as UTF-8 (when it is read).

    Example:
        >>> next(iter(text_lines(__file__)))[3:25]
        'Things that make input'
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidInputError(f"no file {file}; give the path of a UTF-8 text file")

    def make() -> Iterator[str]:
        try:
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    yield line.removesuffix("\n")
        except (OSError, UnicodeDecodeError) as err:
            raise InvalidInputError(f"cannot read {file} ({err}); give a readable UTF-8 text file") from err

    return _Again(make)


def random_lines(seed: int, *, count: int | None = None) -> Iterable[str]:
    """Make lines of 3 to 10 made-up words, a few of them frequent and most rare (Zipf's law: 1 / rank).

    Args:
        seed: the same seed gives the same lines.
        count: how many lines; None never ends.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> list(random_lines(1, count=2))
        ['tusha mitu lo dri', 'kano mibem ka ka tulo sha']
    """
    numbers = _numbers(count)

    def make() -> Iterator[str]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        for _ in numbers():
            yield " ".join(pick(_WORDS, cum_weights=_ZIPF, k=pick(range(3, 11))[0]))

    return _Again(make)


def sales_rows(count: int | None, *, seed: int) -> Iterable[tuple[str, ...]]:
    r"""Make sales rows: tuples of twelve texts, as they stand in a CSV file.

    OrderID, OrderDate (month/day/two-digit year, no leading zeros), Quantity, DiscountPct (0 to 0.1), Rate,
    SaleAmount (Quantity x Rate less the discount, rounded to the cent), CustomerName (some with commas or
    quotes), State (of the US), Region, ProductKey, RowCount (1), ProfitMargin. An order has one row or more;
    orders come by date, starting over after four years; the 17 products differ widely in their totals.

    Args:
        count: how many rows; None never ends.
        seed: the same seed gives the same rows; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> for row in sales_rows(2, seed=1):
        ...     print(row[1], row[5:10])
        1/2/24 ('4491.9', 'Bo "Bear" O\'Hara', 'Oregon', 'West', 'Workshop - Streaming')
        1/3/24 ('3850.2', "O'Hara, Bo", 'Georgia', 'South', 'Build - Data Lake')
    """
    numbers = _numbers(count)

    def make() -> Iterator[tuple[str, ...]]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        number, days = 10_000, 0
        order: tuple[str, ...] = ()
        for _ in numbers():
            if not order or pick((True, False), cum_weights=(6, 10))[0]:
                number, days = number + pick(range(1, 40))[0], days + pick((0, 0, 0, 1))[0]
                day = date(2024, 1, 1) + timedelta(days % 1461)  # a two-digit year can tell a century only
                order = (str(number), f"{day.month}/{day.day}/{day:%y}", *pick(_CUSTOMERS), *pick(_STATES)[0])
            product, rate = pick(_PRODUCTS, cum_weights=_ZIPF[: len(_PRODUCTS)])[0]
            quantity, discount = pick(range(1, 51))[0], Decimal(pick(range(11))[0]) / 100
            amount = (quantity * Decimal(rate) * (1 - discount)).quantize(Decimal("0.01"), ROUND_HALF_UP)
            sold = (str(quantity), _text(discount), rate, _text(amount))
            margin = _text(Decimal(pick(range(35, 81))[0]) / 100)
            yield (*order[:2], *sold, *order[2:], product, "1", margin)

    return _Again(make)


def sales_totals(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, int, Decimal]]:
    """Compute the true totals of rows from `sales_rows`, exactly and without Spark.

    Returns:
        (ProductKey, Orders, TotalSales) for each product, the biggest TotalSales first and equal ones by key;
        Orders counts rows.

    Example:
        >>> for product, orders, total in sales_totals(sales_rows(1000, seed=1))[:2]:
        ...     print(product, orders, total)
        Build - Data Lake 303 1322326.80
        Build - Web Shop 132 484016.88
    """
    amounts = defaultdict(list)
    for row in rows:
        amounts[row[9]].append(Decimal(row[5]))
    totals = [(product, len(each), sum(each, Decimal("0.00"))) for product, each in amounts.items()]
    return sorted(totals, key=lambda total: (-total[2], total[0]))


def sales_files(count: int | None, *, rows: int, seed: int) -> Iterable[tuple[str, str]]:
    """Make (name, text) pairs for `drip`: headerless CSV files that together hold `sales_rows(count * rows)`.

    So `sales_totals(sales_rows(count * rows, seed=seed))` is their truth. A quote in a name is doubled (RFC
    4180), which Spark reads with the option escape='"'.

    Args:
        count: how many files; None never ends.
        rows: how many rows are in each.
        seed: the same seed gives the same files; it is part of their names, so that two seeds share a folder.

    Raises:
        InvalidInputError: the count is below 0, or there is not a row in a file.

    Example:
        >>> [(name, len(text.splitlines())) for name, text in sales_files(2, rows=50, seed=1)]
        [('sales-1-0001.csv', 50), ('sales-1-0002.csv', 50)]
    """
    numbers = _numbers(count)
    if rows < 1:
        raise InvalidInputError(f"rows is {rows}; give 1 row a file or more")

    def make() -> Iterator[tuple[str, str]]:
        source = iter(sales_rows(None, seed=seed))
        for number in numbers():
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(itertools.islice(source, rows))
            yield f"sales-{seed}-{number + 1:04}.csv", text.getvalue()

    return _Again(make)


def drip(
    files: Iterable[tuple[str, str | bytes]],
    folder: str | os.PathLike[str],
    *,
    every: float = 0.0,
    stop: threading.Event | None = None,
    on_file: Callable[[Path], object] | None = None,
) -> list[Path]:
    """Land files in a folder as Spark's file source needs them: whole, in order, and each under a new name.

    A file is written under a hidden name, which Spark skips, synced to disk and renamed. Modification times
    (the order that Spark reads in) rise by a millisecond or more, also above the newest file that is there.

    Args:
        files: (name, content) pairs; text is written as UTF-8.
        folder: where they land; it is made if it is missing.
        every: seconds from one file to the next, the first one landing at once.
        stop: ends the drip when it is set, also during a wait.
        on_file: called with the path of each file that has landed.

    Returns:
        The paths that landed, in order.

    Raises:
        InvalidInputError: a name is in the folder already (Spark reads a name only once) or is one that Spark
            skips, the folder cannot be written, or `every` is below 0.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in drip(sales_files(2, rows=10, seed=1), folder)]
        ['sales-1-0001.csv', 'sales-1-0002.csv']
    """
    if not every >= 0:
        raise InvalidInputError(f"every is {every} seconds; give 0 or more")
    target, landed = Path(folder), list[Path]()
    try:
        target.mkdir(parents=True, exist_ok=True)
        stamp = max((entry.stat().st_mtime_ns for entry in target.iterdir() if entry.is_file()), default=0)
    except OSError as err:
        raise InvalidInputError(f"cannot use {target} ({err.strerror}); give a folder to write in") from err
    for name, content in _paced(files, every, stop or threading.Event()):
        stamp = max(time.time_ns(), (stamp // 1_000_000 + 1) * 1_000_000)  # Spark compares milliseconds
        landed.append(_land(target, name, content.encode() if isinstance(content, str) else content, stamp))
        if on_file:
            on_file(landed[-1])
    return landed


def _land(folder: Path, name: str, content: bytes, stamp: int) -> Path:
    path, hidden = folder / name, folder / f".{name}.part"
    if path.name != name or name.startswith((".", "_")):
        raise InvalidInputError(
            f"{name!r} is no name that Spark reads; give one without / and a leading . or _"
        )
    if path.exists():
        raise InvalidInputError(f"{path} exists, and Spark reads a name only once; give a new name or folder")
    try:
        with hidden.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.utime(hidden, ns=(stamp, stamp))
        hidden.replace(path)
    except OSError as err:
        raise InvalidInputError(f"cannot write {path} ({err.strerror}); give a folder to write in") from err
    finally:
        hidden.unlink(missing_ok=True)
    return path


class _Again(Generic[T]):
    """What `make` returns, made anew for each iteration."""

    def __init__(self, make: Callable[[], Iterable[T]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[T]:
        return iter(self._make())


class _ClientLeftError(Exception):
    """A line could not be sent: told apart from an OSError that making the line raised."""


def _send(connection: socket.socket, line: str) -> None:
    data = (line.removesuffix("\n") + "\n").encode()
    try:
        connection.sendall(data)
    except OSError as err:
        raise _ClientLeftError from err


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OverflowError as err:
        raise InvalidInputError(f"port {port} does not exist; choose one from 0 to 65535") from err
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            fix = "choose another with --port or stop what listens there"
            raise InvalidInputError(f"port {port} on {host} is taken; {fix}") from err
        raise InvalidInputError(f"cannot listen: {err.strerror}; choose another --host or --port") from err


def _paced(
    items: Iterable[T], period: float, stop: threading.Event, clock: Callable[[], float] = time.monotonic
) -> Iterator[T]:
    """Give an item each `period` seconds until `stop`, counted from the start: delays do not add up."""
    start = clock()
    for number, item in enumerate(items):
        wait = start + number * period - clock()
        if stop.wait(wait) if wait > 0 else stop.is_set():
            return
        yield item


def _numbers(count: int | None) -> Callable[[], Iterable[int]]:
    """Return what counts from 0 up to `count`, or for ever."""
    if count is not None and count < 0:
        raise InvalidInputError(f"count is {count}; give 0 or more, or None for no end")
    return itertools.count if count is None else lambda: range(count)


def _text(number: Decimal) -> str:
    """Write a number without trailing zeros and without an exponent."""
    return f"{number.normalize():f}"
