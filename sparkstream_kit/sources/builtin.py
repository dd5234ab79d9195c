"""Sources that come with Spark: generated rows, lines of a TCP socket, and tables.

The functions `rate`, `socket_lines` and `table` are public in `sources`. `check_number`
and `moment` check the arguments of other sources, too.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException

from sparkstream_kit._internal.arguments import check, check_options
from sparkstream_kit._internal.columns import shape_of
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def check_number(name: str, number: int | None) -> None:
    """Refuse a number of rows or files that is less than 1; None means no limit.

    Raises:
        InvalidInputError: the number is 0 or negative.
    """
    if number is not None and number < 1:
        raise InvalidInputError(f"{name} must be 1 or more, not {number}")


def moment(starting: datetime) -> float:
    """Convert the time at which a source starts reading to seconds since 1970.

    A time without a time zone is in UTC.

    Raises:
        InvalidInputError: the time is in the future.
    """
    at = starting if starting.tzinfo else starting.replace(tzinfo=UTC)
    if at > datetime.now(UTC):
        raise InvalidInputError(
            f"starting is {starting}, which is yet to come; give starting='latest'"
        )
    return at.timestamp()


def rate(spark: SparkSession, *, rows_per_second: int = 1, **options: Any) -> DataFrame:
    """Stream generated rows at a steady rate, for trying things out.

    Args:
        spark: the session.
        rows_per_second: the number of rows that are generated in each second.
        **options: further options of Spark's rate source (`numPartitions=2`,
            `rampUpTime="5s"`).

    Returns:
        A streaming DataFrame with `timestamp` (timestamp) and `value` (bigint, counting
        from 0).

    Raises:
        InvalidInputError: the rate is not positive, or an option is misspelt.

    Examples:
        In a session::

            ticks = sources.rate(spark, rows_per_second=10)
    """
    check(rate, locals())
    check_number("rows_per_second", rows_per_second)
    check_options(rate, options)
    return (
        spark.readStream.format("rate")
        .option("rowsPerSecond", rows_per_second)
        .options(**options)
        .load()
    )


def socket_lines(
    spark: SparkSession, host: str, port: int, **options: Any
) -> DataFrame:
    """Stream the lines that a TCP server sends; at most once, because a socket cannot be replayed.

    Give such a query no checkpoint: after a restart Spark counts the lines from 0 again
    and would skip as many lines as it had read before. `run` ends the query when the
    server has closed the connection and all lines are processed.

    Args:
        spark: the session.
        host: the server's name or address.
        port: the server's port, 1 to 65535.
        **options: further options of Spark's socket source (`includeTimestamp=True`
            adds `timestamp`).

    Returns:
        A streaming DataFrame with one column, `value` (string): a line without its line
        end.

    Raises:
        InvalidInputError: the port is not a port number, the host is empty or a number,
            or an option is misspelt. An unknown host, or a port at which nobody
            listens, is noticed only in the first batch of the query: `run` then raises
            `InputUnavailable`.

    Examples:
        In a session::

            lines = sources.socket_lines(spark, "localhost", 9999)  # of: sparkstream feed lines
    """
    check(socket_lines, locals())
    if port not in range(1, 65536):
        raise InvalidInputError(
            f"socket_lines(): port must be from 1 to 65535, not {port}"
        )
    if not host.strip():
        raise InvalidInputError(
            "socket_lines(): the host is empty; give its name or address"
        )
    # The operating system accepts a bare number as an address, so a port given as host
    # would go unnoticed.
    if host.isdigit():
        raise InvalidInputError(
            f"socket_lines(): host {host} is a number, perhaps a port; give the host"
            " and then the port"
        )
    check_options(socket_lines, options)
    reader = spark.readStream.format("socket").option("host", host).option("port", port)
    return reader.options(**options).load()


def table(spark: SparkSession, name: str, **options: Any) -> DataFrame:
    """Stream the rows added to a table of the catalog, such as one of `sinks.table`.

    Args:
        spark: the session.
        name: the name of the table, as `table` or `schema.table`.
        **options: options of the format that the table is stored in.

    Returns:
        A streaming DataFrame with the table's columns.

    Raises:
        InvalidInputError: the catalog has no such table, or an option is misspelt.

    Examples:
        In a session::

            sales = sources.table(spark, "sales")
    """
    check(table, locals())
    if not name.strip():
        raise InvalidInputError(
            "sources.table(): the name is empty; give a table, as table or schema.table"
        )
    check_options(table, options)
    try:
        frame = spark.readStream.options(**options).table(name)
        shape_of(frame)  # on Connect, only this looks for the table
    except AnalysisException as err:
        if not re.match(
            "TABLE_OR_VIEW_NOT_FOUND|REQUIRES_SINGLE_PART|INVALID_IDENTIFIER|PARSE_",
            str(err.getCondition()),
        ):
            raise
        raise InvalidInputError(
            f"table {name} is not in the catalog; create it or correct the name"
            " (`my-table` needs backquotes)"
        ) from None
    return frame
