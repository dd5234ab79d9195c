"""Read a query's plan: its operators and sources, and its sockets.

`inputs_of` lists the sources of a query, and `file_options` the options of those that
read files. `analyzed_plan` returns Spark's plan as text, and `check_mode` applies
Spark's rules for output modes. `sockets_in` and `is_being_read` find out whether a
socket's peer has closed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from pyspark import SparkContext

from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.spark.session import active, in_force, is_connect
from sparkstream_kit.errors import KitError, no_timestamp, said_by_spark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession


# Spark's error for a window over a column that is not a timestamp; the groups are the
# column and its type.
_NO_TIMESTAMP = re.compile(
    r'Cannot resolve "(?:session)?window\(.*however "(.*)" has the type "(.*?)"'
)
# Spark's errors about an unsuitable output mode (as patterns), and the texts that
# replace them:
# https://spark.apache.org/docs/latest/streaming/apis-on-dataframes-and-datasets.html#output-modes
_FIXES = {
    r"(?is)append.*streaming aggregations.*without watermark": (
        "writes a row once, when it is final, and without a watermark a total is never"
        " final; give mode='complete' or mode='update', or group by a window of the"
        " event time, after windows.with_watermark(frame, 'time', '10 minutes')"
    ),
    r"(?is)complete.*no streaming aggregations": (
        "writes the whole result after each batch, which only an "
        "aggregation has; give mode='append', or aggregate first (groupBy(…).agg(…))"
    ),
    r"Sorting is not supported": (
        "cannot sort, as later rows may belong before those that are written; sort "
        "after an aggregation in mode='complete', or leave out orderBy"
    ),
    r"statefulOperator\.checkCorrectness": (
        "cannot use a result that has state in a second step with state, as in two"
        " aggregations; give mode='append' and a watermark, or write the first result"
        " and read it in a second query"
    ),
    r"Window function is not supported": (
        "cannot number or compare rows over a Window, as later rows may belong between"
        " them; keep the highest rows of each batch by a sink such as"
        " sinks.foreach_batch(write).taking(windows.top(10, by='amount')), or compare a"
        " row with those before it by the functions of state"
    ),
    r"Limits are not supported": (
        "cannot limit the rows; give mode='append', or leave out limit"
    ),
}

# Settings under which Spark prints a plan in full; its defaults and the kit's profiles
# truncate long plans.
_WHOLE = {
    "spark.sql.debug.maxToStringFields": "100000",
    "spark.sql.maxPlanStringLength": "2147483632",
}
# Columns of a source of JSON that Spark fills
_OF_NO_FIELD = ("_metadata", "_corrupt_record")
# What `quarantine.parse_json` returns, before the columns of the kit; other steps may
# follow in a plan, but these two lines stand as they are.
_PARSED_JSON = re.compile(
    r"SubqueryAlias sparkstream_json\n.*?Project \[(.*?), _reason#"
)
# Options, as Delta reads them
_OF_WHOLE_TABLES = {"path", "maxfilespertrigger", "maxbytespertrigger"}

# A cache of analyzed plans: fetching one takes a few milliseconds, on Spark Connect a
# few tens. The plan of a DataFrame never changes.
_texts: WeakKeyDictionary[DataFrame, str] = WeakKeyDictionary()


def has(frame: DataFrame, operators: str) -> bool:
    """Return whether a query's analyzed plan has one of these operators.

    Args:
        frame: what the query computes.
        operators: a regular expression for the beginning of their names, such as
            `Aggregate|Join`.
    """
    return (
        re.search(rf"^\W*({operators})", analyzed_plan(frame), re.MULTILINE) is not None
    )


def check_mode(frame: DataFrame, mode: str) -> None:
    """Check whether Spark allows a plan in an output mode, as the start of a query does.

    On Spark Connect nothing is checked: only the start of a query finds out there.

    Raises:
        AnalysisException: Spark does not allow the plan in this mode; `refused`
            explains the error.
    """
    spark: Any = frame.sparkSession
    if is_connect(spark):
        return
    modes = spark._jvm.org.apache.spark.sql.streaming.OutputMode
    checker = (
        spark._jvm.org.apache.spark.sql.catalyst.analysis.UnsupportedOperationChecker
    )
    with active(spark):
        checker.checkForStreaming(_analyzed(frame), getattr(modes, mode.capitalize())())


def _analyzed(frame: Any) -> Any:
    """Return the analyzed plan of a query in the JVM."""
    return frame._jdf.queryExecution().analyzed()


def refused(error: PySparkException, mode: str) -> str:
    """Return the reason why Spark does not start a query, with a fix if one is known."""
    for words, fix in _FIXES.items():
        if re.search(words, str(error)):
            return f"mode {mode} {fix}"
    return said_by_spark(error)


def wrong_event_time(error: BaseException) -> str | None:
    """Explain, with the fix, Spark's error for a window whose column is no timestamp; else None.

    Examples:
        >>> error = ValueError('Cannot resolve "window(n, …)" …, however "n" has the type "INT"')
        >>> (wrong_event_time(error) or "").partition("; ")[0]
        'event-time column n is int, not a timestamp'
    """
    found = _NO_TIMESTAMP.search(str(error))
    if found is None:
        return None
    column, kind = found.groups()
    return no_timestamp(column, kind.lower())


def unknown_host(host: str) -> str:
    """Explain that the name of a host cannot be resolved."""
    return f"unknown host {host}; correct the name, or give the address"


class Input(NamedTuple):
    """A source of a query. A plan may contain it several times, as in a union with itself.

    Attributes:
        kind: "files", or Spark's name of the source, such as "kafka" or "socket".
        path: for files, their folder or a pattern; None for any other source.
        options: the source's options, with names in lower case; empty for files. On
            Spark Connect they do not include secrets, and are empty for Delta tables.
        number: the source's number in the query, from 0.
        places: the positions at which the plan contains the source, from 0. A
            checkpoint's offset file has one line for each position.
    """

    kind: str
    path: str | None
    options: Mapping[str, str]
    number: int
    places: tuple[int, ...]

    def __str__(self) -> str:
        if self.path is not None:
            return f"files of {self.path}"
        options = self.options
        if self.kind == "kafka":
            topics = (
                options.get("subscribe")
                or options.get("subscribepattern")
                or options.get("assign")
            )
            return (
                f"topic {topics} of Kafka at {options.get('kafka.bootstrap.servers')}"
            )
        if {"host", "port"} <= {*options}:
            return f"{self.kind} {options['host']}:{options['port']}"
        return self.kind

    @property
    def log(self) -> str:
        """The name of the source's log in a checkpoint."""
        return str(self.number)

    @property
    def leaves_out(self) -> list[str]:
        """The options with which a Delta source does not read all rows of its table."""
        if self.kind != "delta":
            return []
        return sorted({*self.options} - _OF_WHOLE_TABLES)


def inputs_of(frame: DataFrame) -> list[Input]:
    """Return the sources of a query, in the order in which Spark numbers them."""
    if not is_connect(frame.sparkSession):
        return _numbered(_leaves(_analyzed(frame)))
    text = analyzed_plan(frame)
    if "\n" not in text:
        # If the plan is a source alone, Spark prints it without details; below another
        # operator, with all.
        text = analyzed_plan(frame.select("*"))
    return inputs_in_text(text)


def inputs_in_text(text: str) -> list[Input]:
    """Return a query's sources from its plan's text, which is all that Spark Connect provides."""
    from sparkstream_kit._internal.spark import connect

    return _numbered(connect.leaves(text))


def _numbered(leaves: Iterable[tuple[Any, str, dict[str, str]]]) -> list[Input]:
    """Number the sources and merge equal leaves of a plan into one `Input` with several places.

    Args:
        leaves: for each streaming leaf of the plan, in order: the leaf, Spark's
            description of the source, and its options.
    """
    # By leaf; one of the JVM has the equality and the hash of Java
    inputs: dict[Any, Input] = {}
    for place, (leaf, text, options) in enumerate(leaves):
        if leaf in inputs:
            former = inputs[leaf]
            inputs[leaf] = former._replace(places=(*former.places, place))
            continue
        kind, path = text, None
        files = re.fullmatch(r"FileSource\[(.*)\]", text, re.DOTALL)
        if files:
            kind, path = "files", file_system.folder_of(files[1])
        lowered = {key.lower(): value for key, value in options.items()}
        inputs[leaf] = Input(kind, path, lowered, len(inputs), (place,))
    return list(inputs.values())


def _leaves(analyzed: Any) -> Iterator[tuple[Any, str, dict[str, str]]]:
    """Yield the streaming leaves of an analyzed plan in the JVM, as `_numbered` takes them."""
    leaves = analyzed.collectLeaves()
    for index in range(leaves.size()):
        leaf = leaves.apply(index)
        if not leaf.isStreaming():
            continue
        source = leaf.sourceName()
        options: dict[str, str] = {}
        if not source.startswith("FileSource["):
            options = _options(leaf)
        yield leaf, source, options


def _options(leaf: Any) -> dict[str, str]:
    """Return the options of a streaming leaf in the JVM, as they were given."""
    # Files and Delta tables are sources of Spark's first API, whose leaves have this
    # class.
    if leaf.getClass().getSimpleName() != "StreamingRelation":
        return dict(leaf.extraOptions().asCaseSensitiveMap())
    converters = SparkContext._jvm.scala.jdk.javaapi.CollectionConverters  # type: ignore[union-attr]
    return dict(converters.asJava(leaf.dataSource().options()))


def file_options(frame: DataFrame) -> dict[int, dict[str, str]]:
    """Return the reader's options of each file source of a query, by the source's number.

    The paths are left out. The result is empty if it is not known which options belong
    to which source.
    """
    numbers = [source.number for source in inputs_of(frame) if source.path is not None]
    found = _file_options(frame)
    for options in found:
        options.pop("path", None)
    if len(found) == len(numbers):
        return dict(zip(numbers, found, strict=True))
    are_equal = bool(found) and all(options == found[0] for options in found)
    if are_equal:  # it does not matter which source they are of
        return dict.fromkeys(numbers, found[0])
    return {}


def json_columns(frame: DataFrame) -> dict[int, list[str]]:
    """Return the columns of each source of JSON files of a query, by the source's number.

    They are those of `sources.json`, or of `quarantine.parse_json` if the query reads
    one source of text. The result is empty on Spark Connect.
    """
    if is_connect(frame.sparkSession):
        return {}
    found: dict[int, list[str]] = {}
    leaves = {leaf: text for leaf, text, _ in _leaves(_analyzed(frame))}
    for number, (leaf, text) in enumerate(leaves.items()):
        if not text.startswith("FileSource["):
            continue
        kind = leaf.dataSource().className()
        if kind == "json":
            names = list(leaf.schema().fieldNames())
            found[number] = [name for name in names if name not in _OF_NO_FIELD]
        elif kind == "text" and len(leaves) == 1:
            parsed = _PARSED_JSON.search(analyzed_plan(frame))
            if parsed is not None:
                found[number] = re.findall(r"(?:^|, )(.+?)#\d+L?", parsed[1])
    return found


def _file_options(frame: DataFrame) -> list[dict[str, str]]:
    if is_connect(frame):
        from sparkstream_kit._internal.spark import connect

        return connect.file_options(frame)
    leaves = {leaf: text for leaf, text, _ in _leaves(_analyzed(frame))}
    of_files = [leaf for leaf, text in leaves.items() if text.startswith("FileSource[")]
    return [_options(leaf) for leaf in of_files]


def analyzed_plan(frame: DataFrame) -> str:
    """Return Spark's analyzed plan of a query as text, with all columns; cached for each DataFrame.

    Raises:
        KitError: Spark would print only a part of the plan.
    """
    if frame not in _texts:
        spark = frame.sparkSession
        with in_force(spark, _WHOLE), active(spark):
            if is_connect(frame):
                from sparkstream_kit._internal.spark import connect

                _texts[frame] = connect.analyzed(frame)
            else:
                # `explain` prints the same, but plans the query first, which takes a
                # new JVM half a second
                _refuse_part(spark)
                _texts[frame] = str(_analyzed(frame).toString()).rstrip("\n")
    return _texts[frame]


def _refuse_part(spark: Any) -> None:
    """Refuse a JVM thread in which Spark would print only a part of a plan.

    The settings in force in that thread count, whatever the session's are.

    Raises:
        KitError: the settings of `_WHOLE` are not in force in the thread that prints.
    """
    seen = spark._jvm.org.apache.spark.sql.internal.SQLConf.get()
    if any(seen.getConfString(key) != value for key, value in _WHOLE.items()):
        raise KitError(
            "Spark would print only a part of the query's plan in this thread, and its"
            " checkpoint cannot be guarded; unset PYSPARK_PIN_THREAD, so that each"
            " thread of Python has its own one in the JVM"
        )


def sockets_in(text: str) -> list[tuple[str, int]]:
    """Return host and port of each socket that Spark names in a text, without duplicates.

    Args:
        text: the descriptions of a query's sources, or an error message.
    """
    found = re.findall(r"TextSocketV2\[host: (\S+), port: (\d+)\]", text)
    return [(host, int(port)) for host, port in dict.fromkeys(found)]


def is_being_read(spark: SparkSession | None, of: list[tuple[str, int]]) -> bool:
    """Return whether Spark still reads one of these sockets; call it only after the first batch.

    Spark reads a socket in a JVM thread, which ends when the peer closes the
    connection, so this function looks for that thread. It does not connect to the port,
    because a server may accept only one client.

    Args:
        spark: the session that runs the query; None if it is not known. A classic
            session is not needed: the JVM of this process answers.
        of: host and port of each socket.

    Returns:
        Also True if the threads cannot be seen from here, as on a Spark Connect server
        with a cluster.
    """
    threads = _threads(spark)
    if threads is None:
        return True
    names = [f"TextSocketSource({host}, {port})" for host, port in of]
    return any(name in threads for name in names)


def _threads(spark: SparkSession | None) -> str | None:
    """Return the names of the threads of the JVM that runs a query; None if not to be seen."""
    jvm: Any = SparkContext._jvm
    if jvm is not None and (spark is None or not is_connect(spark)):
        return str(jvm.java.lang.Thread.getAllStackTraces().keySet().toString())
    if spark is None:
        return None
    from sparkstream_kit._internal.spark import connect

    return connect.threads(spark)


def unavailable(failure: str) -> str | None:
    """Return one line on why a query could not connect to its socket; None for any other failure.

    Args:
        failure: the text of the query's error.
    """
    found = re.search(
        r"(?m)^(?:Caused by: )?[\w.]*\b(Connect|UnknownHost|NoRouteToHost)Exception\b",
        failure,
    )
    peers = sockets_in(failure)
    if not peers or found is None:
        return None
    host, port = peers[0]
    said = {
        "Connect": nobody_listens(f"{host}:{port}"),
        "UnknownHost": unknown_host(host),
    }
    return said.get(found[1], f"no route to host {host}; check its address")


def nobody_listens(address: str) -> str:
    """Explain that a connection to `host:port` was refused, and how to start a server.

    Examples:
        >>> nobody_listens("host:99")
        'connection refused: nothing listens on host:99; start the server first, such as nc -lk 99'
    """
    port = address.rpartition(":")[2]
    return (
        f"connection refused: nothing listens on {address}; start the server first,"
        f" such as nc -lk {port}"
    )
