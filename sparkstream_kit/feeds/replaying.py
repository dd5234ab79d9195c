"""A file of one's own, replayed by the clock of its rows.

A TCP server of lines, which gives every client all of them.
"""

from __future__ import annotations

import csv
import errno
import itertools
import json
import logging
import socket
import socketserver
import struct
import threading
import time as clock
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check, said
from sparkstream_kit.errors import InvalidInputError, hint
from sparkstream_kit.feeds.files import Again, paced
from sparkstream_kit.feeds.generators import microseconds

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self


_JSON = (".json", ".jsonl", ".ndjson")
_LOOKED_AT = 100  # lines in which a time must be readable, else the name is most likely wrong
_log = logging.getLogger(__name__)


def replay(
    file: str | os.PathLike[str],
    *,
    time: str,
    time_format: str | None = None,
    speed: float = 60.0,
    stop: threading.Event | None = None,
) -> Iterable[str]:
    r"""Give the lines of a file at the pace of their times: for a `LineServer`, or to write elsewhere.

    The first line comes at once, and each further one when as much time has passed, divided by `speed`, as
    lies between its time and the first line's. No line is left out or moved: one without a readable time, or
    with an earlier time than a line before it, comes right after the line before it. At the end a warning
    (by `logging`) says how many these were.

    Args:
        file: CSV with a header, which is not given, or lines of JSON (.json, .jsonl or .ndjson); UTF-8.
        time: the column or field of the time, such as "time" or "data.created_at": epoch seconds
            (milliseconds from 100,000,000,000 on) or ISO 8601; UTC where there is no time zone.
        time_format: how the times are written otherwise, in the letters of Python's `strptime`, such as
            "%m/%d/%Y %H:%M".
        speed: how many seconds of the file pass in a second; `float("inf")` does not wait.
        stop: ends the lines when it is set, also during a wait.

    Raises:
        InvalidInputError: there is no such file, it has no such column, its first 100 lines have no
            readable time, it is not UTF-8, or `speed` is not above 0.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     print("time,price\n2024-01-01 12:00,5\n2024-01-01 12:30,7", file=file, flush=True)
        ...     list(replay(file.name, time="time", speed=1_000_000))
        ['2024-01-01 12:00,5', '2024-01-01 12:30,7']
    """
    check(replay, locals())
    source, stopped = _Source(Path(file), time, time_format, speed), stop or threading.Event()

    def make() -> Iterator[str]:
        start = clock.monotonic()
        for due, line in source.due_lines():
            if _wait(start + due, stopped):
                return
            yield line

    return Again(make)


def replay_files(
    file: str | os.PathLike[str],
    *,
    time: str,
    time_format: str | None = None,
    speed: float = 60.0,
    every: float = 1.0,
    stop: threading.Event | None = None,
) -> Iterable[tuple[str, str]]:
    """Give the lines of a file as small files, at the pace of their times: (name, text) pairs for `drip`.

    The lines of each `every` seconds come together in one file at their end, with the header of a CSV file
    first; where no line is due there is no file. Lines keep their order, as with `replay`.

    Args:
        file: as for `replay`.
        time: as for `replay`.
        time_format: as for `replay`.
        speed: as for `replay`.
        every: seconds from one file to the next.
        stop: as for `replay`.

    Raises:
        InvalidInputError: as `replay`, and if `every` is not above 0.
    """
    check(replay_files, locals())
    if not every > 0:
        raise InvalidInputError(f"every is {every} seconds; give a number above 0")
    source, stopped = _Source(Path(file), time, time_format, speed), stop or threading.Event()

    def make() -> Iterator[tuple[str, str]]:
        start = clock.monotonic()
        name = f"{source.path.stem}-{{:04}}{source.path.suffix}".lstrip("._")  # Spark skips such names
        slots = itertools.groupby(source.due_lines(), key=lambda line: int(line[0] / every))
        for number, (slot, lines) in enumerate(slots, 1):
            text = "".join(f"{line}\n" for line in (*source.header, *(line for _, line in lines)))
            if _wait(start + (slot + 1) * every, stopped):
                return
            yield name.format(number), text

    return Again(make)


def _wait(until: float, stop: threading.Event) -> bool:
    left = until - clock.monotonic()
    return stop.wait(left) if left > 0 else stop.is_set()


class _Source:
    """The lines of a file, each with the second in which it is due."""

    def __init__(self, path: Path, time: str, time_format: str | None, speed: float) -> None:
        if not path.is_file():
            raise InvalidInputError(
                f"no file {path}; give the path of a CSV file with a header or of JSON lines"
            )
        if not speed > 0:
            raise InvalidInputError(
                f"speed is {speed}; give a number above 0, such as 60 for a minute in a second"
            )
        self.path, self.time, self.speed = path, time, speed
        self._format = time_format
        self._json = path.suffix.lower() in _JSON
        self.header = [] if self._json else [line for _, line in itertools.islice(self._records(), 1)]
        self._columns = next(csv.reader(self.header), [])
        if self.header and time not in self._columns:
            known = f"; the columns are: {', '.join(self._columns)}"
            raise InvalidInputError(f"{path} has no column {time!r}{hint(time, self._columns) or known}")
        times = [moment for moment, _ in itertools.islice(self._timed_lines(), _LOOKED_AT)]
        if times and set(times) == {None}:
            known = "epoch seconds and ISO 8601, such as 2024-01-31 12:00:00; for others give time_format"
            takes = f"{known}='%m/%d/%Y %H:%M' or the like" if time_format is None else repr(time_format)
            raise InvalidInputError(
                f"no time can be read from {time!r} in the first lines of {path}; it takes {takes}"
            )

    def due_lines(self) -> Iterator[tuple[float, str]]:
        """Give each line with the second in which it is due, which never decreases."""
        first: int | None = None
        newest = unreadable = earlier = lines = 0
        for moment, line in self._timed_lines():
            lines += 1
            if moment is None:
                unreadable += 1
            elif first is None:
                first = newest = moment
            else:
                earlier += moment < newest
                newest = max(newest, moment)
            yield (newest - (first or 0)) / 1_000_000 / self.speed if first is not None else 0.0, line
        if unreadable or earlier:
            _log.warning(
                "of %d lines of %s, %d have no readable time and %d an earlier time than a line before them; "
                "each came right after the line before it",
                lines,
                self.path,
                unreadable,
                earlier,
            )

    def _timed_lines(self) -> Iterator[tuple[int | None, str]]:
        for fields, line in itertools.islice(self._records(), len(self.header), None):
            value = (
                _field(fields, self.time)
                if self._json
                else dict(zip(self._columns, fields, strict=False)).get(self.time)
            )
            yield microseconds(value.strip() if isinstance(value, str) else value, self._format), line

    def _records(self) -> Iterator[tuple[Any, str]]:
        """Give each record, parsed, and its text as it stands in the file; one of CSV may hold newlines."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                if self._json:
                    for line in file:
                        yield _json(line), line.rstrip("\r\n")
                    return
                seen: list[str] = []
                for fields in csv.reader(_noting(file, seen)):
                    yield fields, "".join(seen).rstrip("\r\n")
                    seen.clear()
        except (OSError, UnicodeDecodeError, csv.Error) as err:
            raise InvalidInputError(f"cannot read {self.path} ({err}); give a readable UTF-8 file") from err


def _noting(lines: Iterable[str], seen: list[str]) -> Iterator[str]:
    for line in lines:
        seen.append(line)
        yield line


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _field(value: Any, name: str) -> Any:
    """Return a field of a JSON object, or of one in it by names with dots; None where there is none."""
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    outer, _, inner = name.partition(".")
    return _field(value.get(outer), inner) if inner else None


_LOOK_EVERY = 0.05  # seconds until a closed server notices


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
        InvalidInputError: the port is taken or cannot be used, the rate is not above 0, or only the first
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
        check(LineServer, locals())
        self._lines: Iterable[str] = Again(lines) if callable(lines) else lines
        if isinstance(lines, str) or iter(self._lines) is self._lines:
            what = f"lines is {said(lines)}, which cannot be read line by line again for each client"
            raise InvalidInputError(f"{what}; give a list of lines or a function that returns an iterator")
        if rate is not None and not rate > 0:
            raise InvalidInputError(
                f"rate is {rate} lines per second; give a number above 0, or leave it out"
            )
        self._period = 1 / rate if rate else 0.0
        self._closed = threading.Event()
        self._changed = threading.Condition()  # guards the next three
        self._served = 0
        self._failure: Exception | None = None
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._server = _listen(host, port, lambda connection, *_: self._serve(connection))
        self.host: str = host
        self.port: int = self._server.server_address[1]
        self._acceptor = threading.Thread(target=self._server.serve_forever, args=[_LOOK_EVERY], daemon=True)
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
        self._server.shutdown()
        self._acceptor.join()
        self._server.server_close()
        with self._changed:
            clients = dict(self._clients)
            self._changed.notify_all()
        for connection in clients.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes a sendall() whose client does not read
        for thread in clients:
            thread.join(timeout=5)

    def _serve(self, connection: socket.socket) -> None:
        with self._changed:
            self._clients[threading.current_thread()] = connection
        with connection:
            try:
                self._send(connection)
            except Exception as err:  # noqa: BLE001 - wait_served raises whatever the caller's lines raised
                # Closing becomes a reset, so that a part of the lines does not look like all of them.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._failure = err
        with self._changed:
            del self._clients[threading.current_thread()]
            self._changed.notify_all()

    def _send(self, connection: socket.socket) -> None:
        """Send all lines, at the rate, unless the client leaves or the server is closed."""
        for line in paced(self._lines, self._period, self._closed):
            data = (line.removesuffix("\n") + "\n").encode()
            try:
                connection.sendall(data)
            except OSError:
                return  # the client has left
        if self._closed.is_set():
            return
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            with self._changed:
                self._served += 1
                self._changed.notify_all()
            # Closing with unread input would send a reset, and the client would lose lines on their way.
            while connection.recv(65536):
                pass


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def _listen(host: str, port: int, serve: Callable[..., Any]) -> _Server:
    try:
        return _Server((host, port), serve)
    except OverflowError as err:
        raise InvalidInputError(f"port {port} does not exist; choose one from 0 to 65535") from err
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            fix = "choose another port or stop what listens there"
            raise InvalidInputError(f"port {port} on {host} is taken; {fix}") from err
        raise InvalidInputError(
            f"cannot listen on {host} port {port}: {err.strerror}; choose another host or port"
        ) from err
