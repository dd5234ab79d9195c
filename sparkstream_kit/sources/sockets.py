"""Lines from a TCP socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sources import _options

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["socket_lines"]

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
    # A system would take a bare number for an address.
    if host.isdigit():
        raise InvalidInputError(f"host {host} is a number, perhaps a port; give the host and then the port")
    _options.check("socket_lines", options, ["host", "port"], "socket")
    reader = spark.readStream.format("socket").option("host", host).option("port", port)
    return reader.options(**options).load()
