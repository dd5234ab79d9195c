"""The function of a batch: how Spark calls it, whose batch it gets, how it reaches workers, what it prints.

On a classic session the JVM calls it in this process: a stop ends it quietly, and nothing of it stays open.
On Spark Connect it runs in a Python of the server.

Frames of rows that the driver's JVM holds: a frame of rows from Python costs its first reader a job.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import traceback
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, cast
from uuid import NAMESPACE_OID, uuid4, uuid5

from py4j.clientserver import ClientServer
from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JError
from pyspark import SparkContext, cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from sparkstream_kit._spark.place import Place, locate
from sparkstream_kit._spark.session import is_connect, server_folder
from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    Write = Callable[[DataFrame, int], None]


def session_with_views(frame: DataFrame) -> SparkSession:
    """Return the session whose views the user sees: that of a batch is a clone of it.

    Raises:
        InvalidInputError: the frame is a batch on Spark Connect, from where nobody finds that session.
    """
    if frame.isStreaming:
        return frame.sparkSession
    if is_connect(frame.sparkSession):
        raise InvalidInputError(
            "a batch on Spark Connect cannot show its client a view; start the query with start(frame, sink)"
        )
    return SparkSession.builder.getOrCreate()


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


def show(rows: DataFrame, table: str) -> Callable[[DataFrame], None]:
    """Show rows as a temporary view of their session, and return what shows others in their place.

    On Spark Connect a function of a batch can call that, too, though its session may be a copy, whose views
    the client does not see: the view reads a global one.
    """
    spark: Any = rows.sparkSession
    if not is_connect(spark):
        rows.createOrReplaceTempView(table)
        return lambda others: others.createOrReplaceTempView(table)
    from sparkstream_kit._columns import quoted  # on Spark Connect alone

    _end_views_of_others(spark)
    shared = f"{_shared(spark)}_{uuid4().hex}"
    rows.createOrReplaceGlobalTempView(shared)
    # As SQL: Spark looks up the global view each time that this one is read.
    view = f"CREATE OR REPLACE TEMPORARY VIEW {quoted(table)}"
    spark.sql(f"{view} AS TABLE {_GLOBAL}.{shared}")
    return lambda others: others.createOrReplaceGlobalTempView(shared)


def _shared(spark: Any) -> str:
    """Return how the names of a session's global views begin."""
    served = "sparkstream" if server_folder(spark) is None else _SERVED
    return f"{served}_{spark.session_id.replace('-', '_')}"


def _end_views_of_others(spark: Any) -> None:
    """Drop the global views of clients that have gone, which Spark would keep as long as the server runs.

    Which clients live is known of a server of `sparkstream serve` alone.
    """
    if (folder := server_folder(spark)) is None:
        return
    live = tuple(f"{_SERVED}_{each.name.replace('-', '_')}" for each in (folder / "clients").iterdir())
    for row in spark.sql(f"SHOW VIEWS IN {_GLOBAL} LIKE '{_SERVED}_*'").collect():
        if not row.viewName.startswith(live):
            spark.catalog.dropGlobalTempView(row.viewName)


def none_of(frame: DataFrame) -> DataFrame:
    """Return a frame of no rows with the columns of `frame`, without a job."""
    spark: Any = frame.sparkSession
    if is_connect(spark):
        return cast("DataFrame", spark.createDataFrame([], frame.schema))
    return _of_java(spark, spark._jvm.java.util.ArrayList(), frame)


def _of_java(spark: SparkSession, rows: Any, like: DataFrame) -> DataFrame:
    session, java = cast("Any", spark)._jsparkSession, cast("Any", like)._jdf
    return DataFrame(session.createDataFrame(rows, java.schema()), spark)


_GLOBAL = "global_temp"  # where Spark has the views that all sessions of its driver see
_SERVED = "sparkstream_served"  # on a server of `sparkstream serve`

_cloudpickle: Any = cloudpickle


def by_value(objects: Any) -> bytes:
    """Return objects as bytes for `pickle.loads`, with the code of their classes.

    A worker has the kit, but not always the script or the notebook from which the classes are.

    Args:
        objects: a list of objects, each with an attribute `state` that is a class.
    """
    names = {type(each).__module__ for each in objects} | {each.state.__module__ for each in objects}
    ours = __name__.partition(".")[0]
    modules = [sys.modules[name] for name in names if name.partition(".")[0] != ours and name in sys.modules]
    # Those of a module that runs as a script go by value in any case.
    with modules_by_value(module for module in modules if module.__name__ != "__main__"):
        return bytes(_cloudpickle.dumps(objects))


@contextmanager
def modules_by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    """Send the code of some modules, in a `with` block, with what is pickled of them."""
    known = _cloudpickle.list_registry_pickle_by_value()
    added = [module for module in modules if module.__name__ not in known]
    for module in added:
        _cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            _cloudpickle.unregister_pickle_by_value(module)


# Spark takes a failed batch for a stopped one if the exception's text has the first of these and, after it,
# one of the others. Its pattern overflows the JVM's stack on some thousand characters (SPARK-48717).
_FROM_JAVA = "py4j.protocol.Py4JJavaError: An error occurred while calling"
_INTERRUPTED = (
    "java.lang.InterruptedException",
    "java.io.InterruptedIOException",
    "java.nio.channels.ClosedByInterruptException",
)

_SLOW_PYTHON, _TRIES = "Python worker failed to connect back", 12

_log = logging.getLogger(__name__)
_mutex = threading.Lock()
# Of each query: its JVM thread, and py4j's client and connection through which that thread calls Python.
_connections: list[tuple[Any, Any, Any]] = []
_here = threading.local()
_KEPT = 10_000  # batches whose rows set aside are known, of all queries
_aside: dict[tuple[str, int], int] = {}


class _BatchError(Exception):
    """What the function of a batch has raised, in a text that Spark can look through."""


def hand_over(writer: DataStreamWriter, write: Write) -> DataStreamWriter:
    """Return a writer that calls `write` with each batch and its id."""
    return writer.foreachBatch(write if is_connect(writer) else _called_back(write))


def begin(writer: DataStreamWriter) -> StreamingQuery:
    """Start a query; on Spark Connect again where Python did not start in time.

    The server waits ten seconds for the Python that is to run the function of a batch, which can be too short
    on a busy machine: the kit tries for two minutes. The server waits before it starts the query, so that
    nothing has happened yet.

    Raises:
        KitError: Python has not started.
    """
    for _ in range(_TRIES):
        try:
            return writer.start()
        except PySparkException as err:
            if not is_connect(writer) or _SLOW_PYTHON not in str(err):
                raise
            _log.warning("the server's Python did not start within ten seconds; trying for two minutes")
    raise KitError("the server's Python does not start; look into the server's log, or try again later")


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
    with suppress(Py4JError, OSError):  # the JVM may have gone, and its connections with it
        if thread.isAlive():
            return False
        client.connectionStopped(connection)  # the client forgets it
        connection.shutdown()
    return True


def id_in_checkpoint(location: Place) -> str | None:
    """Return Spark's id of the query that wrote a checkpoint; None before a query's first start."""
    try:
        text = location.read("metadata")
        return None if text is None else str(json.loads(text)["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a damaged file is for Spark, or for `start`, to refuse


def id_of_batch(batch: DataFrame, location: Place | None) -> str:
    """Return Spark's id of the query that a batch belongs to; its checkpoint keeps it over restarts.

    Raises:
        InvalidInputError: the frame is no batch of a query, or a batch on Spark Connect without checkpoint.
    """
    spark = batch.sparkSession
    if not is_connect(spark):
        found = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
        fix = "it writes the batches of a running query"
    else:
        found = None if location is None else id_in_checkpoint(location)
        fix = "on Spark Connect start the query with start(frame, sink, checkpoint='folder')"
    if not found:
        raise InvalidInputError(f"this sink cannot tell which query a batch is of; {fix}")
    return str(found)


def checkpoint_of_batch(batch: DataFrame) -> Place | None:
    """Return the checkpoint of the query that a batch belongs to, where `start` has not been given it.

    None on Spark Connect, and of a frame that is no batch of a running query.
    """
    spark: Any = batch.sparkSession
    if is_connect(spark):
        return None
    query = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
    if query is None:
        return None
    # The batch's session is a copy, whose own `streams` know no query.
    running = spark._jsparkSession.sharedState().activeStreamingQueries()
    return locate(spark, running.get(spark._jvm.java.util.UUID.fromString(query)).resolvedCheckpointRoot())


def count_aside(rows: DataFrame, location: Place | None, batch_id: int) -> None:
    """Count the rows of a batch that were set aside; not on Spark Connect, where this is another process."""
    if not is_connect(rows.sparkSession):
        _aside[id_of_batch(rows, location), batch_id] = rows.coalesce(1).count()  # without a shuffle
        if len(_aside) > _KEPT:
            del _aside[next(iter(_aside))]


def rows_set_aside(query_id: str, batch_id: int) -> int | None:
    """Return how many rows of a batch were set aside; None where that is not known."""
    return _aside.get((query_id, batch_id))


def keep_printed(write: Write, spark: SparkSession, name: str) -> Write:
    """Return the function of the query `name` so that `bring_printed` prints here what it prints.

    On Spark Connect its texts are kept in global views, one a batch. On a classic session it prints in this
    process anyway.
    """
    if not is_connect(spark):
        return write
    prefix = _printed(spark, name)

    def keep(batch: DataFrame, batch_id: int) -> None:
        text = io.StringIO()
        try:
            with redirect_stdout(text):
                write(batch, batch_id)
        finally:
            if printed := text.getvalue():
                rows = batch.sparkSession.createDataFrame([(printed,)], "text STRING")
                rows.createOrReplaceGlobalTempView(f"{prefix}{batch_id}")

    return keep


def bring_printed(spark: SparkSession, name: str) -> None:
    """Print what the query `name` has printed since the last time, to this process's standard output."""
    if not is_connect(spark):
        return
    prefix = _printed(spark, name)
    views = spark.sql(f"SHOW VIEWS IN {_GLOBAL} LIKE '{prefix}*'").collect()
    for view in sorted((row.viewName for row in views), key=lambda view: int(view.removeprefix(prefix))):
        sys.stdout.write(spark.table(f"{_GLOBAL}.{view}").collect()[0].text)
        sys.stdout.flush()
        spark.catalog.dropGlobalTempView(view)


def _printed(spark: SparkSession, name: str) -> str:
    """Return how the names of a query's views begin: one a batch, with its printed text as the only row."""
    return f"{_shared(spark)}_{uuid5(NAMESPACE_OID, name).hex}_"
