"""What Spark says of the plan of a query that has not been started."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DataType, StructType

from sparkstream_kit import _files
from sparkstream_kit._spark.session import is_connect
from sparkstream_kit._spark.settings import in_force
from sparkstream_kit.errors import KitError, said_by_spark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyspark.errors import AnalysisException

# What Spark says of a mode that does not fit, and what to do about it:
# https://spark.apache.org/docs/latest/streaming/apis-on-dataframes-and-datasets.html#output-modes
_FIXES = {
    r"(?is)append.*streaming aggregations.*without watermark": "writes a row once, when it is final, and "
    "without a watermark a total is never final; give mode='complete' or mode='update', or group by a window "
    "of the event time, after windows.with_watermark(frame, 'time', '10 minutes')",
    r"(?is)complete.*no streaming aggregations": "writes the whole result after each batch, which only an "
    "aggregation has; give mode='append', or aggregate first (groupBy(…).agg(…))",
    r"Sorting is not supported": "cannot sort, as later rows may belong before those that are written; sort "
    "after an aggregation in mode='complete', or leave out orderBy",
    r"Limits are not supported": "cannot limit the rows; give mode='append', or leave out limit",
}

# Spark's defaults and the profiles cut long plans.
_WHOLE = {"spark.sql.debug.maxToStringFields": "100000", "spark.sql.maxPlanStringLength": "2147483632"}
_OF_FILES = ("csv", "json", "orc", "parquet", "text", "binaryFile", "xml", "avro")

# To ask for a plan takes some milliseconds, on Spark Connect some tens; a DataFrame's never changes.
_texts: WeakKeyDictionary[DataFrame, str] = WeakKeyDictionary()


def has(frame: DataFrame, operators: str) -> bool:
    """Say whether a query has one of some operators, by how their names begin: `Aggregate|Join`."""
    return re.search(rf"^\W*({operators})", analyzed_plan(frame), re.MULTILINE) is not None


def keeps_states_by_name(frame: DataFrame) -> bool:
    """Say whether a query has states with names of their own (`transformWithState`)."""
    if is_connect(frame.sparkSession):  # what was asked for says it too, and asks no server
        connect: Any = frame
        plan = str(connect._plan.to_proto(connect.sparkSession.client))
        return re.search(r"^\s*transform_with_state_info \{", plan, re.MULTILINE) is not None
    return has(frame, "TransformWithState")


def keeps_other_states(frame: DataFrame) -> bool:
    """Say whether a query of `transformWithState` may have another operator that keeps state."""
    return has(frame, "Aggregate|Deduplicate|Distinct|FlatMapGroups|GlobalLimit|Join")


def runs_python(frame: DataFrame) -> bool:
    """Say whether a query calls Python functions, of single values or of many rows."""
    given: Any = frame
    if is_connect(frame.sparkSession):
        plan = str(given._plan.to_proto(given.sparkSession.client))
        return re.search(r"^\s*python_(udf|udtf|data_source) \{", plan, re.MULTILINE) is not None
    patterns = given.sparkSession._jvm.org.apache.spark.sql.catalyst.trees.TreePattern
    return bool(given._jdf.queryExecution().analyzed().containsPattern(patterns.PYTHON_UDF()))


def check_mode(frame: DataFrame, mode: str) -> None:
    """Have Spark refuse a plan that does not fit an output mode, as it does when a query starts.

    On Spark Connect only a start tells.

    Raises:
        AnalysisException: in Spark's own words.
    """
    spark: Any = frame.sparkSession
    if is_connect(spark):
        return
    modes = spark._jvm.org.apache.spark.sql.streaming.OutputMode
    checker = spark._jvm.org.apache.spark.sql.catalyst.analysis.UnsupportedOperationChecker
    plan: Any = frame
    checker.checkForStreaming(plan._jdf.queryExecution().analyzed(), getattr(modes, mode.capitalize())())


def refused(error: AnalysisException, mode: str) -> str:
    """Return why Spark does not start a query, and the fix where it is known."""
    text = str(error)
    for words, fix in _FIXES.items():
        if re.search(words, text):
            return f"mode {mode} {fix}"
    return said_by_spark(error)


@dataclass(frozen=True)
class Input:
    """A source of a query, which may stand in it several times, as in a union with itself.

    Attributes:
        kind: "files", or Spark's name for it, such as "kafka" or "socket".
        path: the folder of files, or a pattern; None for any other source.
        options: of a source that is none of files, with names in lower case. On Spark Connect secrets are
            not among them.
        number: which of the query's sources it is.
        name: the name that the user has given it (`readStream.name()`), or None.
        places: where it stands in the query: each place has a line in the plans of a checkpoint.
    """

    kind: str
    path: str | None
    options: Mapping[str, str]
    number: int
    name: str | None
    places: tuple[int, ...]

    def __str__(self) -> str:
        if self.path is not None:
            return f"files of {self.path}"
        options = self.options
        if self.kind == "kafka":
            topics = options.get("subscribe") or options.get("subscribepattern") or options.get("assign")
            return f"topic {topics} of Kafka at {options.get('kafka.bootstrap.servers')}"
        return (
            f"{self.kind} {options['host']}:{options['port']}"
            if {"host", "port"} <= {*options}
            else self.kind
        )

    @property
    def log(self) -> str:
        """The name of its log in a checkpoint."""
        return self.name or str(self.number)

    @property
    def lines(self) -> list[str]:
        """The names that its lines may have in a checkpoint's plans; their format decides which it is."""
        return [*filter(None, [self.name]), *map(str, self.places)]


def inputs_of(frame: DataFrame) -> list[Input]:
    """Return what a query reads, in the order in which Spark numbers it."""
    given: Any = frame
    if not is_connect(frame.sparkSession):
        return inputs_in(given._jdf.queryExecution().analyzed())
    text = analyzed_plan(frame)
    # Of a source alone Spark prints less than of one below another step.
    return inputs_in_text(text if "\n" in text else analyzed_plan(frame.select("*")))


def inputs_in(analyzed: Any) -> list[Input]:
    """Return what a query reads, from its plan in the JVM."""
    return _numbered(_leaves(analyzed))


def inputs_in_text(text: str) -> list[Input]:
    """Return what a query reads, from the text of its plan, which is all that Spark Connect has."""
    return _numbered(_leaves_in_text(text))


def _numbered(leaves: Iterable[tuple[Any, str, dict[str, str], str | None]]) -> list[Input]:
    """Return the sources of leaves: each leaf with Spark's words for it, its options and its name."""
    known: list[Any] = []
    found: list[Input] = []
    for place, (leaf, text, options, name) in enumerate(leaves):
        if leaf in known:  # `==` asks Spark
            number = known.index(leaf)
            found[number] = replace(found[number], places=(*found[number].places, place))
            continue
        files = re.fullmatch(r"FileSource\[(.*)\]", text, re.DOTALL)
        given = {key.lower(): value for key, value in options.items()}
        kind, path = ("files", _files.folder_of(files[1])) if files else (text, None)
        found.append(Input(kind, path, given, len(known), name, (place,)))
        known.append(leaf)
    return found


def _leaves(analyzed: Any) -> Iterator[tuple[Any, str, dict[str, str], str | None]]:
    leaves = analyzed.collectLeaves()
    for leaf in filter(lambda leaf: leaf.isStreaming(), map(leaves.apply, range(leaves.size()))):
        of_files = leaf.getClass().getSimpleName() == "StreamingRelation"
        options = {} if of_files else dict(leaf.extraOptions().asCaseSensitiveMap())
        yield leaf, leaf.sourceName(), options, _name_in(leaf.simpleString(1))


@dataclass(frozen=True)
class FileRead:
    """How a query reads a folder of files.

    Attributes:
        kind: their format, such as `csv`.
        schema: all columns, also those that the query does not use.
        path: the folder, or a pattern.
        options: of the format, and which files are read.
        malformed: the column for lines that cannot be read; None if the schema has no such column.
    """

    kind: str
    schema: StructType
    path: str
    options: dict[str, str]
    malformed: str | None


# Options of a file source that the reader of a batch does not have, and the path.
_OF_STREAMS = {
    *("path", "cleansource", "discardcachedinputratio", "filenameonly", "latestfirst", "maxbytespertrigger"),
    *("maxcachedfiles", "maxfileage", "maxfilespertrigger", "sourcearchivedir"),
}


def file_reads(frame: DataFrame) -> list[FileRead | None]:
    """Return how each source of a query reads files, by its number in a checkpoint; None if it does not."""
    return [None if each is None else _file_read(*each) for each in _file_sources(frame)]


def _file_sources(frame: DataFrame) -> list[tuple[str, str, list[str], dict[str, str]] | None]:
    """Return the format, schema, paths and options of each source that reads files; None for another one."""
    found: Any = frame
    if is_connect(frame.sparkSession):
        reads = _reads(found._plan.to_proto(found.sparkSession.client))
        # Copies of one message differ without `deterministic`, in some processes: a map has no order.
        once = {read.SerializeToString(deterministic=True): read for read in reads}.values()
        asked = [(read.format, read.schema, [*read.paths], dict(read.options)) for read in once]
        return [each if each[0] in _OF_FILES else None for each in asked]
    as_python = found.sparkSession._jvm.scala.jdk.javaapi.CollectionConverters.asJava
    made: list[tuple[str, str, list[str], dict[str, str]] | None] = []
    known: list[Any] = []
    for leaf, *_ in _leaves(found._jdf.queryExecution().analyzed()):
        if leaf in known:  # `==` asks Spark
            continue
        known.append(leaf)
        if leaf.getClass().getSimpleName() != "StreamingRelation":
            made.append(None)
            continue
        source = leaf.dataSource()
        schema = source.userSpecifiedSchema()
        text = schema.get().json() if schema.isDefined() else ""
        made.append((source.className(), text, [], dict(as_python(source.options()))))
    return made


def _file_read(kind: str, schema: str, paths: list[str], given: dict[str, str]) -> FileRead | None:
    lowered = {name.lower(): value for name, value in given.items()}
    [path] = paths or [lowered.get("path", "")]
    if not schema or not path:
        return None
    read = StructType.fromJson(json.loads(schema)) if schema.startswith("{") else DataType.fromDDL(schema)
    if not isinstance(read, StructType):
        return None
    options = {name: value for name, value in given.items() if name.lower() not in _OF_STREAMS}
    malformed = lowered.get("columnnameofcorruptrecord", "_corrupt_record")
    return FileRead(kind.lower(), read, path, options, malformed if malformed in read.names else None)


def _reads(message: Any) -> Iterator[Any]:
    """Yield the sources of streams in a plan of Spark Connect's."""
    if message.DESCRIPTOR.name == "Read":
        if message.is_streaming and message.HasField("data_source"):
            yield message.data_source
        return
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from _reads(each)


def file_options(frame: DataFrame) -> list[dict[str, str]]:
    """Return the options of each source of files that a query reads, in the order of Spark's progress."""
    return [options for _, _, _, options in filter(None, _file_sources(frame))]


def _leaves_in_text(plan: str) -> Iterator[tuple[Any, str, dict[str, str], str | None]]:
    """Yield the same of a plan as Spark Connect prints it."""
    for line in plan.split("\n"):
        leaf = line.lstrip(" :+-~")
        if found := re.search(r"(FileSource\[.*?\])(?:, \[|$)", leaf):
            yield leaf, found[1], {}, _name_in(leaf)
        elif found := re.search(r"StreamingRelationV2 [^,]*, ([^,]*), [^,]*, \[(.*?)\], \[", leaf):
            pairs = (pair.partition("=") for pair in found[2].split(", "))
            yield leaf, found[1], {key: value for key, _, value in pairs}, _name_in(leaf)


def _name_in(leaf: str) -> str | None:
    """Return the name that the user has given to a source, as Spark 4.2 and later print it."""
    found = re.search(r', name="(\w+)"$', leaf)
    return found[1] if found else None


def analyzed_plan(frame: DataFrame) -> str:
    """Return Spark's analyzed plan of a query as text, with all columns."""
    if frame not in _texts:
        _texts[frame] = _ask_for_plan(frame)
    return _texts[frame]


def _ask_for_plan(frame: DataFrame) -> str:
    # The public `explain("extended")` says the same, but on classic it plans the whole query first, which
    # takes a new JVM half a second, and it prints.
    plan: Any = frame
    if not is_connect(frame.sparkSession):
        with _all_columns(frame):
            return str(plan._jdf.queryExecution().analyzed().toString()).rstrip("\n")
    return plans(frame)[0]


@contextmanager
def _all_columns(frame: DataFrame) -> Iterator[None]:
    """Have Spark print more than the first 25 columns of a plan, whichever session is active here."""
    with ExitStack() as stack:
        for spark in {frame.sparkSession, SparkSession.getActiveSession() or frame.sparkSession}:
            stack.enter_context(in_force(spark, _WHOLE))
        yield


def plans(frame: DataFrame) -> tuple[str, str]:
    """Return Spark's analyzed and its optimized plan of a query, as texts."""
    plan: Any = frame
    with _all_columns(frame):
        if is_connect(frame.sparkSession):
            explained = plan._explain_string(extended=True)
        else:
            explain = plan.sparkSession._jvm.PythonSQLUtils.explainString
            explained = explain(plan._jdf.queryExecution(), "extended")
    rest = explained.partition("\n== Analyzed Logical Plan ==\n")[2].partition("\n== Physical Plan ==\n")[0]
    analyzed, _, optimized = rest.partition("\n== Optimized Logical Plan ==\n")
    # Its first line is the schema.
    lines = analyzed.strip("\n").split("\n")[1:]
    if not lines:
        raise KitError(
            f"Spark {frame.sparkSession.version} explains a plan in a form that the kit does not know, and "
            "its checkpoint cannot be guarded; start without the kit: sink(frame.writeStream).start()"
        )
    return "\n".join(lines), optimized.strip("\n")
