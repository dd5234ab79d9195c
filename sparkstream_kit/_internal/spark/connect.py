"""What only Spark Connect needs, where this process has no access to the JVM of its queries.

The other modules of `_internal.spark` open this one when a session is on Spark Connect. A batch
function runs there in a Python process of the server: `show` and `keep_printed` bring
what it shows and prints to the client, by global temporary views. `begin` waits for
that process, and `stop_telling` ends the stream of a query's events. `leaves`, `reads`
and `analyzed` read a plan without the JVM, `threads` names the JVM's threads, and
`lock` locks a file for this process.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import re
import struct
import sys
import time
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from pyspark.errors import PySparkException

from sparkstream_kit.errors import KitError
from sparkstream_kit.profiles import is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from sparkstream_kit._internal.spark.batch import Write

# Spark's database of the views that all sessions of one driver share
_GLOBAL = "global_temp"
_SLOW_PYTHON = "Python worker failed to connect back"
# Seconds before each attempt, which takes ten. A process that came too late still runs
# for a while: at once, each attempt would slow down the next one.
_PAUSES = (0, 1, 4, 8, 16, 32)
# Formats of files
_OF_FILES = ("csv", "json", "orc", "parquet", "text", "binaryFile", "xml", "avro")

_log = logging.getLogger(__name__)


def show(rows: DataFrame, table: str) -> Callable[[DataFrame], None]:
    """Make `rows` the temporary view `table`; return a function that replaces its rows.

    The session of a batch may be a copy whose temporary views the client cannot see. So
    the client's view reads from a global temporary view, and the returned function
    replaces that one.
    """
    spark = rows.sparkSession
    shared = f"{_shared(spark)}_{uuid4().hex}"
    rows.createOrReplaceGlobalTempView(shared)
    in_sql = table.replace("`", "``")
    # A view defined in SQL: Spark looks up the global view on every read and so finds
    # its latest rows.
    spark.sql(
        f"CREATE OR REPLACE TEMPORARY VIEW `{in_sql}` AS TABLE {_GLOBAL}.{shared}"
    )
    return lambda others: others.createOrReplaceGlobalTempView(shared)


def _shared(spark: Any) -> str:
    """Return the prefix of the names of a session's global views."""
    return f"sparkstream_{spark.session_id.replace('-', '_')}"


def _printed(spark: Any, name: str) -> str:
    """Return the prefix of the names of a query's views of printed text.

    The batch id follows the prefix. A view has one row with the column `text STRING`.
    """
    return f"{_shared(spark)}_{uuid5(NAMESPACE_OID, name).hex}_"


def keep_printed(write: Write, spark: Any, name: str) -> Write:
    """Wrap the batch function of the query `name` so that `bring_printed` prints its output.

    The wrapper keeps what the function prints in global views, one for each batch that
    prints.
    """
    prefix = _printed(spark, name)

    def keep(batch: DataFrame, batch_id: int) -> None:
        text = io.StringIO()
        try:
            with redirect_stdout(text):
                write(batch, batch_id)
        finally:
            printed = text.getvalue()
            if printed:
                rows = batch.sparkSession.createDataFrame([(printed,)], "text STRING")
                rows.createOrReplaceGlobalTempView(f"{prefix}{batch_id}")

    return keep


def bring_printed(spark: Any, name: str) -> None:
    """Print here what the batches of the query `name` have printed since the previous call."""
    prefix = _printed(spark, name)
    views = spark.sql(f"SHOW VIEWS IN {_GLOBAL} LIKE '{prefix}*'").collect()
    names = [row.viewName for row in views]
    names.sort(key=lambda name: int(name.removeprefix(prefix)))  # by the batch id
    for view in names:
        sys.stdout.write(spark.table(f"{_GLOBAL}.{view}").collect()[0].text)
        sys.stdout.flush()
        spark.catalog.dropGlobalTempView(view)


def begin(writer: DataStreamWriter) -> StreamingQuery:
    """Start a query; retry for two minutes, more and more seldom, if the server's Python is slow.

    The server waits ten seconds for the Python process that will run the batch
    function, which can be too short on a busy machine. A retry is safe, because the
    server starts the query only after this wait.

    Raises:
        KitError: the server's Python has not started within two minutes.
    """
    for pause in _PAUSES:
        time.sleep(pause)
        try:
            return writer.start()
        except PySparkException as err:
            if _SLOW_PYTHON not in str(err):
                raise
            _log.warning(
                "the server's Python did not start within ten seconds; trying for two"
                " minutes"
            )
    raise KitError(
        "the server's Python does not start; look into the server's log, or try again"
        " later"
    )


def stop_telling(bus: Any, listener: object) -> None:
    """Remove a listener; it has received all earlier events when this function returns.

    PySpark's `removeListener` can deadlock: it joins the thread that delivers events
    while it holds the lock that this thread needs to deliver the next one. This
    function joins without the lock.

    Args:
        bus: what delivers the server's events to the listeners of a session.
        listener: the listener.
    """
    from pyspark.sql.connect.proto import Command

    with bus._lock:
        teller = bus._execution_thread
        if bus._listener_bus != [listener] or teller is None:
            others = [each for each in bus._listener_bus if each is not listener]
            bus._listener_bus[:] = others
            return
    end = Command()
    end.streaming_query_listener_bus_command.remove_listener_bus_listener = True
    with suppress(Exception):  # if the server has ended, so has its stream of events
        bus._sqm._session.client.execute_command(end)
    teller.join()
    with bus._lock:
        bus._listener_bus.clear()
        bus._execution_thread = None


# The groups are the source, such as FileSource[/data/in] or delta; the latter follows
# the name of the leaf.
_LEAF_OF_FIRST_API = re.compile(
    r"(FileSource\[.*?\]|(?<=StreamingRelation )\w+)(?:, \[|$)"
)
# The groups are the source, such as kafka, and its options; around them stand the
# classes of the provider and the table, and the columns.
_LEAF_OF_SECOND_API = re.compile(
    r"StreamingRelationV2 [^,]*, ([^,]*), [^,]*, \[(.*?)\], \["
)


def leaves(plan: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    r"""Yield each streaming leaf in a plan's text, with its source and the source's options.

    Examples:
        >>> files = ":- ~StreamingRelation FileSource[/data/in], [value#7]"
        >>> rate = "+- ~StreamingRelationV2 p.Provider, rate, p.Table, [rows=5, to=2], [value#9L]"
        >>> plan = f"Union\n{files}\n{rate}"
        >>> [(source, options) for _, source, options in leaves(plan)]
        [('FileSource[/data/in]', {}), ('rate', {'rows': '5', 'to': '2'})]
    """
    for line in plan.split("\n"):
        leaf = line.lstrip(" :+-~")
        first_api = _LEAF_OF_FIRST_API.search(leaf)
        if first_api:
            yield leaf, first_api[1], {}
            continue
        second_api = _LEAF_OF_SECOND_API.search(leaf)
        if second_api:
            pairs = [pair.partition("=") for pair in second_api[2].split(", ")]
            yield leaf, second_api[1], {key: value for key, _, value in pairs}


def file_options(frame: Any) -> list[dict[str, str]]:
    """Return the reader's options of each source of a query that reads files."""
    reads = _reads(frame._plan.to_proto(frame.sparkSession.client))
    # A protobuf map has no order, so without `deterministic` equal messages can differ
    # as bytes.
    once = {read.SerializeToString(deterministic=True): read for read in reads}
    of_files = [read for read in once.values() if read.format.lower() in _OF_FILES]
    return [dict(read.options) for read in of_files]


def _reads(message: Any) -> Iterator[Any]:
    """Yield the streaming sources in a protobuf message of a plan, in order."""
    if message.DESCRIPTOR.name == "Read":
        if message.is_streaming and message.HasField("data_source"):
            yield message.data_source
        return
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if hasattr(value, "DESCRIPTOR"):  # one message
            yield from _reads(value)
        else:
            for each in value:
                yield from _reads(each)


def analyzed(frame: Any) -> str:
    """Return the analyzed plan of a query from the text of an extended `explain`.

    Raises:
        KitError: this version of Spark prints plans in an unknown form.
    """
    explained: str = frame._explain_string(extended=True)
    rest = explained.partition("\n== Analyzed Logical Plan ==\n")[2]
    analyzed_part = rest.partition("\n== Optimized Logical Plan ==\n")[0]
    # The first line is the plan's schema.
    plan = analyzed_part.strip("\n").partition("\n")[2]
    if not plan:
        raise KitError(
            f"Spark {frame.sparkSession.version} explains a plan in a form that the kit"
            " does not know, and its checkpoint cannot be guarded; start without the"
            " kit: sink(frame.writeStream).start()"
        )
    return plan


def threads(spark: Any) -> str | None:
    """Return the thread names of a query's JVM, as text; None if they cannot be asked for."""
    if not is_local(str(spark.conf.get("spark.master", None))):
        return None
    # On a local master the SQL function runs in the JVM that has the threads: it is its
    # own executor.
    asked = spark.sql("SELECT reflect('java.lang.Thread', 'getAllStackTraces')")
    return str(asked.collect()[0][0])


def lock(path: Path) -> Any:
    """Lock a file for this process, create it if it is missing, and return it open.

    Raises:
        BlockingIOError: another holder has the lock.
        OSError: the file cannot be opened or locked.
    """
    file = path.open("ab", buffering=0)
    try:
        # Lock the open file and not the process: a lock of the process would be dropped
        # as soon as the process opens the file once more, to read it, and closes it.
        whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole_file)
    except OSError:
        file.close()
        raise
    return file
