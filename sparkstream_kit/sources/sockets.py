"""Lines from a TCP socket, and the answer to a question that Spark leaves open: has the peer closed?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pyspark import SparkContext

from sparkstream_kit import _connect
from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.profiles import is_local
from sparkstream_kit.sources import _options

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = [
    "addresses",
    "is_being_read",
    "nobody_listens",
    "refused",
    "socket_lines",
    "unavailable",
    "unknown_host",
]

_LAST_PORT = 65535


def socket_lines(spark: SparkSession, host: str, port: int, **options: Any) -> DataFrame:
    """Stream the lines that a TCP server sends; at most once, because a socket cannot be replayed.

    Give such a query no checkpoint: after a restart Spark counts the lines from the beginning and would
    skip as many as it had seen. `run` ends the query when the peer has closed and all lines are through.

    Args:
        spark: the session.
        host: the server's name or address.
        port: the server's port, 1 to 65535.
        **options: further options of Spark's socket source (`includeTimestamp=True` adds `timestamp`).

    Returns:
        A streaming DataFrame with one column, `value` (string): a line without its line end.

    Raises:
        InvalidInputError: the port is not a port number, the host is a number, or an option is misspelt. That
            the host is not known or nobody listens shows when the query starts its first batch: `run` then
            raises `InputUnavailable`.
    """
    check(socket_lines, locals())
    if not 1 <= port <= _LAST_PORT:
        raise InvalidInputError(f"port must be from 1 to {_LAST_PORT}, not {port}")
    _check_host(host)
    _options.check("socket_lines", options, ["host", "port"], "socket")
    reader = spark.readStream.format("socket").option("host", host).option("port", port)
    return reader.options(**options).load()


def _check_host(host: str) -> None:
    """Refuse a bare number, which a system would take for an address."""
    if str(host).isdigit():
        raise InvalidInputError(f"host {host} is a number, perhaps a port; give the host and then the port")


def addresses(query: StreamingQuery, progress: StreamingQueryProgress | None = None) -> list[tuple[str, int]]:
    """Return host and port of each socket that a query reads; on Connect, by a progress of it."""
    if not hasattr(query, "_jsq"):
        return _said(" ".join(source.description for source in progress.sources) if progress else "")
    leaves = query._jsq.streamingQuery().analyzedPlan().collectLeaves()  # noqa: SLF001
    found = []
    for leaf in (leaves.apply(index) for index in range(leaves.size())):
        if leaf.getClass().getSimpleName() == "StreamingRelationV2" and leaf.sourceName() == "socket":
            options = leaf.extraOptions()
            found.append((options.get("host"), int(options.get("port"))))
    return found


def refused(query: StreamingQuery, failure: str) -> list[tuple[str, int]]:
    """Return the sockets of a query that has failed, by what Spark says of the failure."""
    return addresses(query) or _said(failure)


def _said(text: str) -> list[tuple[str, int]]:
    """Return the addresses in Spark's descriptions of its sources."""
    found = re.findall(r"TextSocketV2\[host: (\S+), port: (\d+)\]", text)
    return [(host, int(port)) for host, port in dict.fromkeys(found)]


def is_being_read(spark: SparkSession | None, of: list[tuple[str, int]]) -> bool:
    """Say whether Spark still reads one of these sockets; call it once the first batch is through.

    Spark's reader is a JVM thread that ends when the peer has closed. The port itself is not asked: a
    server may serve one client only. The JVM of this process needs no session to be asked.
    """
    if spark is None or not _connect.is_connect(spark):
        jvm: Any = SparkContext._jvm  # noqa: SLF001
        threads = jvm.java.lang.Thread.getAllStackTraces().keySet().toString()
    elif is_local(str(spark.conf.get("spark.master", None))):
        # A query is run by the JVM that has the threads, where it is its own executor.
        threads = spark.sql("SELECT reflect('java.lang.Thread', 'getAllStackTraces')").collect()[0][0]
    else:
        return True
    return any(f"TextSocketSource({host}, {port})" in threads for host, port in of)


def unavailable(peers: list[tuple[str, int]], failure: str) -> str | None:
    """Return what to say of a query that could not connect to its socket; None for any other failure."""
    found = re.search(
        r"^(?:Caused by: )?java\.net\.(Connect|UnknownHost|NoRouteToHost)Exception\b", failure, re.MULTILINE
    )
    if not peers or found is None:
        return None
    host, port = peers[0]
    if found[1] == "Connect":
        return nobody_listens(f"{host}:{port}")
    return unknown_host(host) if found[1] == "UnknownHost" else f"no route to host {host}; check its address"


def unknown_host(host: str) -> str:
    """Return what to say of a host name that no name service knows."""
    return f"unknown host {host}; correct the name, or give the address"


def nobody_listens(address: str) -> str:
    """Return what to say of a refused connection to `host:port`.

    Example:
        >>> nobody_listens("localhost:9999")
        'connection refused: nothing listens on localhost:9999; start the server first, such as nc -lk 9999'
    """
    port = address.rpartition(":")[2]
    return f"connection refused: nothing listens on {address}; start the server first, such as nc -lk {port}"
