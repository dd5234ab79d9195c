"""Files that land in a folder as Spark's file source needs them, at a pace; a server of lines.

Lines come from `text_lines` or `random_lines`; `csv_line` and `json_line` write rows as
lines. `line_files` and `replay_files` cut lines into files, which `drip` lands in a
folder. `LineServer` sends lines to socket clients, such as Spark's socket source.
Iterables made here start from the beginning at each iteration.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import re
import socket
import socketserver
import struct
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from sparkstream_kit._internal import file_system, threads
from sparkstream_kit._internal.arguments import check, said
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR = 2099  # the year of rows that are dated in the future by mistake
_MILLISECONDS_FROM = 100_000_000_000  # as seconds the year 5138, as milliseconds 1973
# A number as text: 1469501107 or -1.5, but not 20240229, whose eight digits are a date.
_NUMBER = re.compile(r"-?(\d+\.\d+|(?!\d{8}$)\d+)")
_FEBRUARY = 2


def microseconds(value: object) -> int | None:
    """Convert a time to microseconds since 1970 UTC, or None if it cannot be read.

    A number, or a text that holds a number, means epoch seconds, or epoch milliseconds
    from 100,000,000,000 on. Any other text must be ISO 8601. Without a time zone a time
    is in UTC.

    Examples:
        >>> times = (5, "5.5", "1970-01-01T00:00:05Z", "soon")
        >>> [microseconds(time) for time in times]
        [5000000, 5500000, 5000000, None]
    """
    with suppress(ValueError, OverflowError):
        if isinstance(value, str):
            return _of_text(value)
        if isinstance(value, datetime):
            return _of_datetime(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _of_number(value)
    return None


def _of_text(text: str) -> int:
    if _NUMBER.fullmatch(text):
        return _of_number(_number(text))
    return _of_datetime(datetime.fromisoformat(text))


def _of_datetime(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _of_number(time: float) -> int:
    return round(time * (1_000_000 // _units(time)))


def in_far_year(value: Any) -> Any:
    """Move a time that `microseconds` can read to the year 2099; keep its type and its format.

    Examples:
        >>> in_far_year("2024-02-29 12:00:00"), in_far_year("20240229T12"), in_far_year(0)
        ('2099-02-28 12:00:00', '20990228T12', 4070908800)
    """
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return str(in_far_year(_number(value)))
        return re.sub(r"^(\d{4}-?02-?)29", r"\g<1>28", f"{_FAR}{value[4:]}")
    if isinstance(value, datetime):
        is_leap_day = value.month == _FEBRUARY and value.day == 29  # noqa: PLR2004
        day = 28 if is_leap_day else value.day
        return value.replace(year=_FAR, day=day)
    units = _units(value)
    moment = _EPOCH + timedelta(seconds=float(value) / units)
    moved = in_far_year(moment) - _EPOCH
    return type(value)(moved / timedelta(seconds=1) * units)


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)


def _units(time: float) -> int:
    """Return how many units of an epoch time make a second: 1, or 1000 of milliseconds."""
    return 1000 if abs(time) >= _MILLISECONDS_FROM else 1


_T = TypeVar("_T")

_SYLLABLES = (
    "ka", "lo", "mi", "ren", "tu", "sha", "vo", "pel", "dri", "no", "zu", "bem",
)  # fmt: skip
_PAIRS = itertools.product(_SYLLABLES, repeat=2)
_WORDS = (*_SYLLABLES, *(first + second for first, second in _PAIRS))


class Again(Generic[_T]):
    """An iterable that calls `make` for each iteration, so that each starts anew."""

    def __init__(self, make: Callable[[], Iterable[_T]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[_T]:
        return iter(self._make())


def paced(items: Iterable[_T], period: float, stop: threading.Event) -> Iterator[_T]:
    """Yield one item every `period` seconds until `stop` is set.

    Item n is due n periods after the start, so delays do not add up: after a delay,
    items follow at once until the pace is caught up.

    Args:
        items: the items to yield.
        period: seconds from one item to the next.
        stop: ends the iteration when it is set, also during a wait.
    """
    start = monotonic()
    for number, item in enumerate(items):
        seconds = start + number * period - monotonic()
        if seconds > 0:
            stop.wait(seconds)
        if stop.is_set():
            return
        yield item


def count_to(end: int | None) -> Iterable[int]:
    """Return the numbers from 0 up to and without `end`, or without an end if it is None.

    Raises:
        InvalidInputError: `end` is below 0.
    """
    if end is not None and end < 0:
        raise InvalidInputError(f"count is {end}; give 0 or more, or None for no end")
    if end is None:
        return Again(itertools.count)
    return range(end)


def zipf(ranks: int) -> list[float]:
    """Return cumulative weights for `random.choices` by Zipf's law: rank n has the weight 1 / n."""
    return list(itertools.accumulate(1 / rank for rank in range(1, ranks + 1)))


def text_lines(path: str | os.PathLike[str]) -> Iterable[str]:
    """Read the lines of a UTF-8 file without newlines; each iteration opens it again.

    Args:
        path: the file.

    Raises:
        InvalidInputError: the file does not exist (raised by the call), or it cannot be
            read as UTF-8 (raised during an iteration).

    Examples:
        >>> next(iter(text_lines(__file__)))[3:25]
        'Files that land in a f'
    """
    check(text_lines, locals())
    file = Path(path)
    if not file.is_file():
        raise InvalidInputError(f"no file {file}; give the path of a UTF-8 text file")
    return Again(lambda: (line.rstrip("\r\n") for line in _read(file)))


def _read(file: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file as they are, without a byte order mark."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidInputError(
            f"cannot read {file} ({err}); give a readable UTF-8 text file"
        ) from err


def random_lines(seed: int, *, count: int | None = None) -> Iterable[str]:
    """Make lines of 3 to 10 made-up words, a few frequent, most rare (Zipf: 1 / rank).

    Args:
        seed: the seed of the random choices; the same seed gives the same lines.
        count: the number of lines; None for lines without an end.

    Raises:
        InvalidInputError: the count is below 0.

    Examples:
        >>> list(random_lines(1, count=2))
        ['tusha mitu lo dri', 'kano mibem ka ka tulo sha']
    """
    check(random_lines, locals())
    numbers = count_to(count)
    weights = zipf(len(_WORDS))

    def make() -> Iterator[str]:
        pick = random.Random(seed).choices  # noqa: S311 - sample data, not secrets
        for _ in numbers:
            length = pick(range(3, 11))[0]
            yield " ".join(pick(_WORDS, cum_weights=weights, k=length))

    return Again(make)


def csv_line(row: Mapping[str, object] | tuple[object, ...] | str) -> str:
    r"""Format a row, a dict or a tuple of values, as a CSV record without a line end.

    A quote in a value is doubled (RFC 4180); Spark reads that with the option
    escape='"'. A value with a line end is in quotes; Spark reads that with
    multiLine=True. None becomes an empty value. A row that is a string, such as a bad
    row of `disturb`, is returned unchanged.

    Examples:
        >>> csv_line({"id": 7, "name": 'Bo "Bear" Lee', "price": None}), csv_line("not a row: 1 {")
        ('7,"Bo ""Bear"" Lee",', 'not a row: 1 {')
    """
    if isinstance(row, str):
        return row
    if isinstance(row, tuple):
        return file_system.csv_record(row)
    return file_system.csv_record(row.values())


def json_line(row: Mapping[str, object] | str) -> str:
    r"""Format a row as a line of JSON without a newline; a datetime becomes an ISO 8601 text.

    A row that is a string, such as a bad row of `disturb`, is returned unchanged.

    Examples:
        >>> json_line({"time": 1469501107, "action": "Öffnen"}), json_line("not a row: 1 {")
        ('{"time": 1469501107, "action": "Öffnen"}', 'not a row: 1 {')
    """
    if isinstance(row, str):
        return row
    return json.dumps(row, ensure_ascii=False, default=str)


def line_files(
    lines: Iterable[str], *, rows: int, name: str
) -> Iterable[tuple[str, str]]:
    r"""Cut lines into files of `rows` lines each, as (name, text) pairs for `drip`.

    The last file may be shorter.

    Args:
        lines: the lines, without newlines.
        rows: the number of lines in a file.
        name: a pattern for the names of the files, such as "clicks-{}.json"; {} stands
            for the number of the file, which counts from 0001.

    Raises:
        InvalidInputError: `rows` is below 1, or the pattern has no {} for the number.

    Examples:
        >>> list(line_files(["a", "b", "c"], rows=2, name="letters-{}.txt"))
        [('letters-0001.txt', 'a\nb\n'), ('letters-0002.txt', 'c\n')]
    """
    check(line_files, locals())
    if rows < 1:
        raise InvalidInputError(f"rows is {rows}; give at least 1 row per file")
    if "{}" not in name:
        raise InvalidInputError(
            f"name {name!r} has no {{}} for the number of the file; give"
            " 'rows-{}.csv'"
        )

    def make() -> Iterator[tuple[str, str]]:
        rest = iter(lines)
        for number in itertools.count(1):
            text = "".join(f"{line}\n" for line in itertools.islice(rest, rows))
            if not text:
                return
            yield name.replace("{}", f"{number:04}"), text

    return Again(make)


def drip(
    files: Iterable[tuple[str, str | bytes]],
    folder: str | os.PathLike[str],
    *,
    every: float = 0.0,
    stop: threading.Event | None = None,
    on_file: Callable[[Path], object] | None = None,
) -> list[Path]:
    """Land files in a folder as Spark reads them: whole, in order and under new names.

    Each file is written under a hidden name, which Spark skips, synced to disk, and
    then renamed. Spark reads files in the order of their modification times, so each
    file gets a time at least a millisecond after the one before, and after the newest
    file that was already in the folder.

    Args:
        files: (name, content) pairs; text is written as UTF-8.
        folder: the folder to land the files in; it is created if it is missing.
        every: seconds from one file to the next; the first file lands at once.
        stop: ends the drip when it is set, also during a wait.
        on_file: called with the path of each file after the file has landed.

    Returns:
        The paths of the landed files, in order.

    Raises:
        InvalidInputError: a name is already in the folder (Spark reads a name only
            once), or Spark skips such a name, the folder cannot be written, or `every`
            is below 0.

    Examples:
        >>> import tempfile
        >>> from sparkstream_kit.feeds import sales_files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in drip(sales_files(2, rows=10, seed=1), folder)]
        ['sales-1-0001.csv', 'sales-1-0002.csv']
    """
    check(drip, locals())
    if not every >= 0:
        raise InvalidInputError(f"every is {every} seconds; give 0 or more")
    target = file_system.local("folder", folder)
    landed = list[Path]()
    try:
        target.mkdir(parents=True, exist_ok=True)
        stamp = _newest_time(target)
    except OSError as err:
        raise InvalidInputError(
            f"cannot use {target} ({err.strerror}); give a folder to write in"
        ) from err
    for name, content in paced(files, every, stop or threading.Event()):
        data = content.encode() if isinstance(content, str) else content
        next_millisecond = (stamp // 1_000_000 + 1) * 1_000_000  # Spark compares those
        stamp = max(time_ns(), next_millisecond)
        path = _land(target, name, data, stamp)
        landed.append(path)
        if on_file:
            on_file(path)
    return landed


def _newest_time(folder: Path) -> int:
    """Return the newest modification time of a folder's files, in nanoseconds; 0 for no file."""
    files = [entry for entry in folder.iterdir() if entry.is_file()]
    return max((file.stat().st_mtime_ns for file in files), default=0)


def _land(folder: Path, name: str, content: bytes, stamp: int) -> Path:
    """Land one file with a modification time in nanoseconds, and return its path."""
    path = folder / name
    hidden = folder / f".{name}.part"
    if path.name != name or name.startswith((".", "_")):
        fix = "give one without / that does not begin with . or _, as Spark skips those"
        raise InvalidInputError(f"file name {name!r} cannot be used; {fix}")
    if path.exists():
        why = "exists already, and Spark reads a file name only once"
        raise InvalidInputError(f"{path} {why}; give a new name or folder")
    try:
        with hidden.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.utime(hidden, ns=(stamp, stamp))
        hidden.replace(path)
    except OSError as err:
        raise InvalidInputError(
            f"cannot write {path} ({err.strerror}); give a folder to write in"
        ) from err
    finally:
        hidden.unlink(missing_ok=True)
    return path


def replay_files(
    file: str | os.PathLike[str], *, rows: int = 100
) -> Iterable[tuple[str, str]]:
    r"""Cut a file in order into files of `rows` records: (name, text) pairs for `drip`.

    Each file of a CSV begins with its header. A record of CSV may contain newlines; in
    any other file, such as JSON lines or a log, a record is a line.

    Args:
        file: a UTF-8 file: CSV with a header if its name ends in .csv, or lines.
        rows: the number of records in a file; the last file may have fewer.

    Raises:
        InvalidInputError: the file does not exist, it is not UTF-8, it has no rows, or
            `rows` is below 1.

    Examples:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     print("id,text\n1,a\n2,b\n3,c", file=file, flush=True)
        ...     [text for _, text in replay_files(file.name, rows=2)]
        ['id,text\n1,a\n2,b\n', 'id,text\n3,c\n']
    """
    check(replay_files, locals())
    path = Path(file)
    lines = text_lines(path)
    header = ""
    if path.suffix.lower() == ".csv":
        records = Again(lambda: _records(path))
        header = "".join(f"{record}\n" for record in itertools.islice(records, 1))
        lines = Again(lambda: itertools.islice(records, 1, None))
    if next(iter(lines), None) is None:
        raise InvalidInputError(f"{file} has no rows; give a file that has some")
    # Spark skips names that begin with one of these.
    name_pattern = f"{path.stem}-{{}}{path.suffix}".lstrip("._")
    files = line_files(lines, rows=rows, name=name_pattern)
    return Again(lambda: ((name, header + text) for name, text in files))


def _records(path: Path) -> Iterator[str]:
    """Yield the text of each record of a CSV file, which may contain newlines."""
    csv.field_size_limit(2**31 - 1)  # by default a long text is refused
    to_parse, lines = itertools.tee(_read(path))
    reader = csv.reader(to_parse)
    taken = 0
    for _ in reader:
        lines_of_record = itertools.islice(lines, reader.line_num - taken)
        yield "".join(lines_of_record).rstrip("\r\n")
        taken = reader.line_num


class LineServer:
    """A TCP server that sends all of `lines`, from the first one, to every client that connects.

    The server listens from its construction until `close`, and also works as a context
    manager. It serves many clients at once, and closes a connection after the last
    line. A client that disconnects early is no error.

    Args:
        lines: the lines, each with or without a newline: a list, the result of
            `text_lines` or `random_lines`, or a function without arguments that returns
            a new iterator for each client.
        host: the address or host name to listen on.
        port: the port to listen on; 0 for any free port, which the attribute `port`
            then holds.
        rate: the number of lines per second for each client, on average: a client that
            fell behind gets the missed lines at once. None sends lines as fast as the
            client reads.

    Raises:
        InvalidInputError: the port is taken or cannot be used, the rate is not above 0,
            or `lines` can be iterated only once, so that only the first client would
            get them.

    Examples:
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
        check(LineServer, locals())
        self._lines: Iterable[str] = Again(lines) if callable(lines) else lines
        if isinstance(lines, str) or iter(self._lines) is self._lines:
            raise InvalidInputError(
                f"lines is {said(lines)}, which cannot be read line by line again for"
                " each client; give a list of lines or a function that returns an"
                " iterator"
            )
        if rate is not None and not rate > 0:
            fix = "give a number above 0, or leave it out"
            raise InvalidInputError(f"rate is {rate} lines per second; {fix}")
        self._period = 1 / rate if rate else 0.0
        self._closed = threading.Event()
        self._changed = threading.Condition()  # guards the next three attributes
        self._served = 0
        self._failure: Exception | None = None
        # The connection of each client by its thread. The entry of a thread that has
        # ended disappears by itself; a thread that is just ending is still here, so
        # that `close` can wait for it.
        self._clients = WeakKeyDictionary[threading.Thread, socket.socket]()
        serve: Any = self._serve  # a function in place of a class of handlers
        try:
            self._server = _Server((host, port), serve)
        except (OSError, OverflowError) as err:
            fix = "choose another host or port, or stop what listens there"
            cause = getattr(err, "strerror", None) or err
            raise InvalidInputError(
                f"cannot listen on {host} port {port}: {cause}; {fix}"
            ) from err
        self.host: str = host
        self.port: int = self._server.server_address[1]
        try:
            self._acceptor = threads.in_thread(
                "lines", partial(threads.serve, self._server, self._closed)
            )
        except BaseException:
            self._closed.set()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_served(
        self, clients: int | None = 1, timeout: float | None = None
    ) -> bool:
        """Wait until the server has sent all lines to `clients` clients, or until it is closed.

        Args:
            clients: the number of clients since the start, without those that
                disconnected early; None waits until `close`.
            timeout: the longest time to wait, in seconds; None for no limit.

        Returns:
            Whether all lines were sent to that many clients; False for `clients=None`.

        Raises:
            Exception: the error that `lines` raised for a client; the connection of
                that client was reset instead of closed, so that the client does not
                take its lines for all lines.
        """

        def enough() -> bool:
            return clients is not None and self._served >= clients

        with self._changed:
            self._changed.wait_for(
                lambda: self._failure or self._closed.is_set() or enough(), timeout
            )
            if self._failure:
                raise self._failure
            return enough()

    def close(self) -> None:
        """Stop listening and end every connection, even if its client does not read.

        The method may be called more than once. It waits up to 5 seconds for the thread
        of each client.
        """
        self._closed.set()
        self._acceptor.join()
        with self._changed:
            clients = dict(self._clients)
            self._changed.notify_all()
        for connection in clients.values():
            with suppress(OSError):
                # Ends a sendall() to a client that does not read
                connection.shutdown(socket.SHUT_RDWR)
        for thread in clients:
            thread.join(timeout=5)

    def _serve(self, connection: socket.socket, *_: object) -> None:
        """Serve one client in its own thread; keep an error of `lines` for `wait_served`."""
        with self._changed:
            self._clients[threading.current_thread()] = connection
        with connection:
            try:
                self._send(connection)
            except Exception as err:  # noqa: BLE001 - wait_served raises whatever the caller's lines raised
                # With this option, closing resets the connection, so that the client
                # does not take the lines that it has received for all lines.
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self._failure = err
        with self._changed:
            self._changed.notify_all()

    def _send(self, connection: socket.socket) -> None:
        """Send all lines at the rate, until the client disconnects or the server is closed."""
        for line in paced(self._lines, self._period, self._closed):
            data = (line.removesuffix("\n") + "\n").encode()
            try:
                connection.sendall(data)
            except OSError:
                return  # the client has disconnected
        if self._closed.is_set():
            return
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            with self._changed:
                self._served += 1
                self._changed.notify_all()
            # Read until the client closes: closing with unread input would reset the
            # connection, and the client would lose lines that are still on their way.
            while connection.recv(65536):
                pass


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    timeout = 0.05  # seconds, for `threads.serve`
