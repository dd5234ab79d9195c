"""Use `foreachBatch` on any session: hand over the function, identify a batch, print.

A batch function is the `write(batch, batch_id)` that a sink passes to `foreachBatch`.
On a classic session the JVM calls it in this process. `hand_over` wraps it there, so
that a stop does not look like a failure, and `close_ended` closes the py4j connections
that Spark leaves open. On Spark Connect the function runs in a Python process of the
server; `connect` has what that needs.

`id_of_batch`, `checkpoint_of_batch` and `count_aside` relate a batch to its query.
`in_driver` and `none_of` create DataFrames from rows in the driver's JVM: reading a
DataFrame that was created from Python rows costs an extra Spark job.
"""

from __future__ import annotations

import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from py4j.clientserver import ClientServer
from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession

from sparkstream_kit._internal.spark.place import Place, id_in_checkpoint, locate
from sparkstream_kit._internal.spark.session import is_connect
from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    Write = Callable[[DataFrame, int], None]


def session_with_views(frame: DataFrame) -> SparkSession:
    """Return the session in which the user reads views; a batch has only a clone of it.

    Raises:
        InvalidInputError: the frame is a batch on Spark Connect, where a batch does not
            lead to the user's session.
    """
    if frame.isStreaming:
        return frame.sparkSession
    if is_connect(frame.sparkSession):
        raise InvalidInputError(
            "a batch on Spark Connect cannot show its client a view; start the query"
            " with start(frame, sink)"
        )
    query = _query_of(frame)
    if query is None:
        return SparkSession.builder.getOrCreate()
    return SparkSession(frame.sparkSession.sparkContext, query.sparkSession())


def in_driver(spark: SparkSession, batch: DataFrame) -> DataFrame | None:
    """Return a batch as a DataFrame of `spark`: computed once, kept in the driver's JVM.

    The batch itself belongs to a clone of the session, and views of a clone are
    invisible elsewhere.

    Returns:
        The DataFrame, or None on Spark Connect, where this process has no access to the
        driver.
    """
    if is_connect(spark):
        return None
    # Collect java.time values: the calendar of Java's older classes lacks ten days of
    # 1582. A DataFrame fixes this choice when it is created, so change the setting
    # before the select.
    batch.sparkSession.conf.set("spark.sql.datetime.java8API.enabled", "true")
    return _of_java(spark, batch.select("*")._jdf.collectAsList(), batch)


def show(rows: DataFrame, table: str) -> Callable[[DataFrame], None]:
    """Make `rows` the temporary view `table`; return a function that replaces its rows.

    On Spark Connect a batch function can call the returned function, too.
    """
    if is_connect(rows):
        from sparkstream_kit._internal.spark import connect

        return connect.show(rows, table)
    rows.createOrReplaceTempView(table)
    return lambda others: others.createOrReplaceTempView(table)


def none_of(frame: DataFrame) -> DataFrame:
    """Return an empty DataFrame with the columns of `frame`, without running a Spark job."""
    spark: Any = frame.sparkSession
    if is_connect(spark):
        return cast("DataFrame", spark.createDataFrame([], frame.schema))
    return _of_java(spark, spark._jvm.java.util.ArrayList(), frame)


def _of_java(spark: SparkSession, rows: Any, like: DataFrame) -> DataFrame:
    """Create a DataFrame of `spark` from a Java list of rows, with the schema of `like`."""
    session = cast("Any", spark)._jsparkSession
    java = cast("Any", like)._jdf
    return DataFrame(session.createDataFrame(rows, java.schema()), spark)


# If the text of a batch's exception has the first of these strings and, after it, one
# of the others, Spark treats the batch as stopped instead of failed. The regular
# expression by which Spark checks this overflows the JVM's stack on texts of a few
# thousand characters (SPARK-48717), so `_called_back` rewrites such texts.
_FROM_JAVA = "py4j.protocol.Py4JJavaError: An error occurred while calling"
_INTERRUPTED = (
    "java.lang.InterruptedException",
    "java.io.InterruptedIOException",
    "java.nio.channels.ClosedByInterruptException",
)

_mutex = threading.Lock()
# For each query: its JVM thread, and the py4j client and connection through which that
# thread calls Python.
_connections: list[tuple[Any, Any, Any]] = []
_here = threading.local()
# Entries of `_aside` over all queries; beyond that the oldest one is dropped
_KEPT = 10_000
# By query id and batch id: the number of rows set aside
_aside: dict[tuple[str, int], int] = {}


class _BatchError(Exception):
    """An error of a batch function in words that Spark's regular expression can handle."""


def hand_over(writer: DataStreamWriter, write: Write) -> DataStreamWriter:
    """Return a writer that calls `write` with each batch and its id, as `foreachBatch` does."""
    if is_connect(writer):
        # The server may lack the kit
        return writer.foreachBatch(_without_result(write, RuntimeError))
    return writer.foreachBatch(_called_back(_without_result(write, KitError)))


def _without_result(write: Write, error: type[Exception]) -> Write:
    """Wrap a batch function: a returned DataFrame or an exit becomes an error of its query.

    A DataFrame that the function returns was not written.

    On Spark Connect the wrapper is pickled, so it uses nothing but the standard
    library.

    Args:
        write: the function.
        error: the class of the exceptions to raise.
    """

    def call(batch: DataFrame, batch_id: int) -> None:
        try:
            returned = cast("Any", write)(batch, batch_id)
        except SystemExit as err:  # Spark would wait for an answer for ever
            raise error(
                f"the function of the batch ended with SystemExit: {err}"
            ) from None
        kind = type(returned).__name__
        if kind.startswith("DataFrame"):
            raise error(
                f"the function of the batch returned a {kind}; end it with"
                " .write….save(…)"
            )

    return call


def begin(writer: DataStreamWriter) -> StreamingQuery:
    """Start a query; on Spark Connect, retry if the server's Python starts too slowly.

    Raises:
        KitError: the server's Python has not started within two minutes.
    """
    if is_connect(writer):
        from sparkstream_kit._internal.spark import connect

        return connect.begin(writer)
    return writer.start()


def _called_back(write: Write) -> Write:
    """Wrap a batch function for py4j: note its connection, and word its errors for Spark.

    An interrupt, which is how Spark stops a query, becomes a short text that Spark
    recognises as a stop. Any other error keeps its text, without the words at which
    Spark's regular expression would begin.
    """
    close_ended()

    def call(batch: DataFrame, batch_id: int) -> None:
        _note_connection()
        try:
            write(batch, batch_id)
        except Exception:
            words = _for_spark(traceback.format_exc())
            if words is None:
                raise
            raise _BatchError(words) from None

    return call


def _for_spark(text: str) -> str | None:
    """Return the text of a batch's error in words for Spark; None if it can stay as it is."""
    _, from_java, rest = text.partition(_FROM_JAVA)
    if not from_java:
        return None
    for name in _INTERRUPTED:
        if name in rest:
            return f"{_FROM_JAVA} the function of the batch: {name}"
    # Keep the whole text, but leave nothing in it at which Spark's pattern could begin
    # to match.
    return text.replace(_FROM_JAVA, _FROM_JAVA.rpartition(".")[2])


def _note_connection() -> None:
    """Note this JVM thread's py4j connection: py4j leaves it open when the thread ends."""
    gateway: Any = SparkContext._gateway
    if hasattr(_here, "noted") or not isinstance(gateway, ClientServer):
        return
    # Once is enough: py4j serves each JVM thread by one Python thread
    _here.noted = True
    client = JavaObject("GATEWAY_SERVER", gateway._gateway_client).getCallbackClient()
    thread = gateway.jvm.java.lang.Thread.currentThread()
    with _mutex:
        _connections.append((thread, client, client.getPerThreadConnection()))


def close_ended() -> None:
    """Close the py4j connections of ended queries; this also ends their Python threads."""
    with _mutex:
        _connections[:] = [noted for noted in _connections if not _closed(*noted)]


def _closed(thread: Any, client: Any, connection: Any) -> bool:
    """Close a query's connection unless its JVM thread still runs; return whether it is closed."""
    # If the JVM has ended, its connections are closed, too
    with suppress(Py4JError, OSError):
        if thread.isAlive():
            return False
        # Removes the connection from the client's list
        client.connectionStopped(connection)
        connection.shutdown()
    return True


def id_of_batch(batch: DataFrame, location: Place | None) -> str:
    """Return Spark's id of the query of a batch; the id stays the same across restarts.

    Args:
        batch: the DataFrame that Spark passes to a batch function.
        location: the query's checkpoint. Only Spark Connect needs it: the id is read
            from it there.

    Raises:
        InvalidInputError: the DataFrame is not a batch of a running query, or on Spark
            Connect the checkpoint is missing or has no id.
    """
    spark = batch.sparkSession
    if not is_connect(spark):
        query_id = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
        fix = "it writes the batches of a running query"
    else:
        query_id = None
        if location is not None:
            query_id = id_in_checkpoint(location)
        fix = (
            "on Spark Connect start the query with start(frame, sink,"
            " checkpoint='folder')"
        )
    if not query_id:
        raise InvalidInputError(
            f"this sink cannot tell which query a batch is of; {fix}"
        )
    return str(query_id)


def checkpoint_of_batch(batch: DataFrame) -> Place | None:
    """Ask Spark for the checkpoint of a batch's query, for callers without its location.

    Returns:
        The checkpoint. None on Spark Connect, and for a DataFrame that is not a batch
        of a running query.
    """
    query = _query_of(batch)
    if query is None:
        return None
    return locate(batch.sparkSession, query.resolvedCheckpointRoot())


def _query_of(batch: DataFrame) -> Any:
    """Return the JVM's query of a batch; None on Spark Connect, and if it is no batch."""
    spark: Any = batch.sparkSession
    if is_connect(spark):
        return None
    query_id = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
    if query_id is None:
        return None
    # The batch's session is a copy with an empty `streams`; the shared state has the
    # queries of all sessions.
    running = spark._jsparkSession.sharedState().activeStreamingQueries()
    return running.get(spark._jvm.java.util.UUID.fromString(query_id))


def count_aside(rows: DataFrame, location: Place | None, batch_id: int) -> None:
    """Count the late rows of a batch that were set aside, for `rows_set_aside`.

    On Spark Connect nothing is counted: the batch function runs in another process than
    the summary.
    """
    if not is_connect(rows.sparkSession):
        # In one partition the count needs no shuffle.
        _aside[id_of_batch(rows, location), batch_id] = rows.coalesce(1).count()
        if len(_aside) > _KEPT:
            del _aside[next(iter(_aside))]


def rows_set_aside(query_id: str, batch_id: int) -> int | None:
    """Return how many rows `count_aside` counted for a batch; None if it was not called."""
    return _aside.get((query_id, batch_id))


def keep_printed(write: Write, spark: SparkSession, name: str) -> Write:
    """Wrap the function of the query `name` so that `queries.bring_printed` prints its output.

    On Spark Connect the function prints in a process of the server. On a classic
    session it prints in this process anyway and is returned unchanged.
    """
    if not is_connect(spark):
        return write
    from sparkstream_kit._internal.spark import connect

    return connect.keep_printed(write, spark, name)
