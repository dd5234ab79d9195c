"""The function of a batch, as the JVM calls it: a stop ends it quietly, and nothing of it stays open."""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, Any

from py4j.clientserver import ClientServer
from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JError
from pyspark import SparkContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame

__all__ = ["called_back", "close_ended"]

# Spark takes a failed batch for a stopped one if the exception's text has the first of these and, after it,
# one of the others. Its pattern overflows the JVM's stack on some thousand characters (SPARK-48717).
_FROM_JAVA = "py4j.protocol.Py4JJavaError: An error occurred while calling"
_INTERRUPTED = (
    "java.lang.InterruptedException",
    "java.io.InterruptedIOException",
    "java.nio.channels.ClosedByInterruptException",
)

_mutex = threading.Lock()
# Of each query: its JVM thread, and py4j's client and connection through which that thread calls Python.
_connections: list[tuple[Any, Any, Any]] = []
_here = threading.local()


class _BatchError(Exception):
    """What the function of a batch has raised, in a text that Spark can look through."""


def called_back(write: Callable[[DataFrame, int], None]) -> Callable[[DataFrame, int], None]:
    """Return a batch function for Spark to call in this process."""
    close_ended()

    def call(batch: DataFrame, batch_id: int) -> None:
        _note_connection()
        try:
            write(batch, batch_id)
        except Exception:
            text = traceback.format_exc()
            _, from_java, rest = text.partition(_FROM_JAVA)
            if not from_java:
                raise
            for name in _INTERRUPTED:
                if name in rest:
                    raise _BatchError(f"{_FROM_JAVA} the function of the batch: {name}") from None
            # The whole text, but nothing in it for Spark's pattern to begin at.
            raise _BatchError(text.replace(_FROM_JAVA, _FROM_JAVA.rpartition(".")[2])) from None

    return call


def _note_connection() -> None:
    """Note the connection of this query's JVM thread: when the thread has ended, py4j does not close it."""
    gateway: Any = SparkContext._gateway  # noqa: SLF001
    if hasattr(_here, "noted") or not isinstance(gateway, ClientServer):
        return
    _here.noted = True  # this thread of Python belongs to that of the JVM
    client = JavaObject("GATEWAY_SERVER", gateway._gateway_client).getCallbackClient()  # noqa: SLF001
    thread = gateway.jvm.java.lang.Thread.currentThread()
    with _mutex:
        _connections.append((thread, client, client.getPerThreadConnection()))


def close_ended() -> None:
    """Close the connections of queries that have ended; the threads of Python that served them end, too."""
    with _mutex:
        _connections[:] = [noted for noted in _connections if not _closed(*noted)]


def _closed(thread: Any, client: Any, connection: Any) -> bool:
    try:
        if thread.isAlive():
            return False
        client.connectionStopped(connection)  # the client forgets it
        connection.shutdown()
    except (Py4JError, OSError):
        pass  # the JVM has gone, and its connections with it
    return True
