"""The function of a batch: how Spark calls it, whose batch it gets, and where what it prints and shows goes.

On a classic session the JVM calls it in this process: a stop ends it quietly, and nothing of it stays open.
On Spark Connect it runs in a Python of the server.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, cast

from py4j.clientserver import ClientServer
from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.sql import DataFrame

from sparkstream_kit._spark import files
from sparkstream_kit._spark.session import is_connect
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._spark.files import Location

    Write = Callable[[DataFrame, int], None]

__all__ = [
    "bring_printed",
    "close_ended",
    "hand_over",
    "in_driver",
    "keep_printed",
    "none_of",
    "query_id",
    "query_of",
]

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


def hand_over(writer: DataStreamWriter, write: Write) -> DataStreamWriter:
    """Return a writer that calls `write` with each batch and its id."""
    return writer.foreachBatch(write if is_connect(writer) else _called_back(write))


def _called_back(write: Write) -> Write:
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
    gateway: Any = SparkContext._gateway
    if hasattr(_here, "noted") or not isinstance(gateway, ClientServer):
        return
    _here.noted = True  # this thread of Python belongs to that of the JVM
    client = JavaObject("GATEWAY_SERVER", gateway._gateway_client).getCallbackClient()
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


def query_of(spark: SparkSession, location: Location) -> str | None:
    """Return Spark's id of the query that wrote a checkpoint; None before a query's first start."""
    try:
        text = files.content(spark, location, "metadata")
        return None if text is None else str(json.loads(text)["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a damaged file is for Spark, or for `start`, to refuse


def query_id(batch: DataFrame, location: Location | None) -> str:
    """Return Spark's id of the query that a batch belongs to; its checkpoint keeps it over restarts.

    Raises:
        InvalidInputError: the frame is no batch of a query, or a batch on Spark Connect without checkpoint.
    """
    spark = batch.sparkSession
    if not is_connect(spark):
        found = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
        fix = "it writes the batches of a running query"
    else:
        found = None if location is None else query_of(spark, location)
        fix = "on Spark Connect start the query with start(frame, sink, checkpoint='folder')"
    if not found:
        raise InvalidInputError(f"this sink cannot tell which query a batch is of; {fix}")
    return str(found)


def keep_printed(write: Write, spark: SparkSession, name: str) -> Write:
    """Return the function of the query `name` so that `bring_printed` prints here what it prints.

    On Spark Connect its texts are kept in views, one a batch; here they are printed at once.
    """
    if not is_connect(spark):
        return write
    prefix = _views(name)

    def keep(batch: DataFrame, batch_id: int) -> None:
        text = io.StringIO()
        try:
            with contextlib.redirect_stdout(text):
                write(batch, batch_id)
        finally:
            if printed := text.getvalue():
                # The server's Python has the very session of the client, and so its views.
                rows = batch.sparkSession.createDataFrame([(printed,)], "text STRING")
                rows.createOrReplaceTempView(f"{prefix}{batch_id}")

    return keep


def bring_printed(spark: SparkSession, name: str) -> None:
    """Print what the query `name` has printed since the last time, to this process's standard output."""
    prefix = _views(name)
    found = [row.viewName for row in spark.sql(f"SHOW VIEWS LIKE '{prefix}*'").collect()]
    for view in sorted(found, key=lambda view: int(view.removeprefix(prefix))):
        sys.stdout.write(spark.table(view).collect()[0].text)
        sys.stdout.flush()
        spark.catalog.dropTempView(view)


def _views(name: str) -> str:
    """Return how the names of a query's views begin: one a batch, with its printed text as the only row."""
    return f"sparkstream_{hashlib.sha256(name.encode()).hexdigest()[:12]}_"


def in_driver(spark: SparkSession, batch: DataFrame) -> DataFrame | None:
    """Return a frame of `spark` with the batch's rows, computed once and kept in the driver's JVM.

    The batch's own frame belongs to a clone of the session, whose views nobody else sees.

    Returns:
        None on Spark Connect, where no driver is in reach.
    """
    if is_connect(spark):
        return None
    # Java's old calendar lacks ten days of 1582; which one a frame uses is fixed when it is made.
    batch.sparkSession.conf.set("spark.sql.datetime.java8API.enabled", "true")
    java: Any = batch.select("*")._jdf
    return _of_java(spark, java.collectAsList(), batch)


def none_of(frame: DataFrame) -> DataFrame | None:
    """Return a frame of no rows with the columns of `frame`, without a job; None on Spark Connect."""
    spark: Any = frame.sparkSession
    return None if is_connect(spark) else _of_java(spark, spark._jvm.java.util.ArrayList(), frame)


def _of_java(spark: SparkSession, rows: Any, like: DataFrame) -> DataFrame:
    """Return a frame of rows that the JVM has; to read what createDataFrame makes in Python takes a job."""
    session, java = cast("Any", spark)._jsparkSession, cast("Any", like)._jdf
    return DataFrame(session.createDataFrame(rows, java.schema()), spark)
