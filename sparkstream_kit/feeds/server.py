"""A TCP server of lines, which gives every client all of them."""

from __future__ import annotations

import errno
import socket
import socketserver
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check, said
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.feeds.lines import Again, paced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

__all__ = ["LineServer"]

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
