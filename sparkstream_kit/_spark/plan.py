"""What a query reads, by its plan: sources, sockets and topics of Kafka.

So the kit reaches Kafka as Spark does, with the same settings, and needs no library of its own. On Spark
Connect there is no JVM in reach: a batch that reads nothing tells there whether the topics can be read.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DataType, StructType

from sparkstream_kit import _files, errors
from sparkstream_kit._spark.session import is_connect
from sparkstream_kit._spark.settings import in_force
from sparkstream_kit.errors import InvalidInputError, KitError, innermost_cause, said_by_spark
from sparkstream_kit.profiles import is_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


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
        return _numbered(_leaves(given._jdf.queryExecution().analyzed()))
    text = analyzed_plan(frame)
    # Of a source alone Spark prints less than of one below another step.
    return inputs_in_text(text if "\n" in text else analyzed_plan(frame.select("*")))


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
        options = {} if _is_of_files(leaf) else dict(leaf.extraOptions().asCaseSensitiveMap())
        yield leaf, leaf.sourceName(), options, _name_in(leaf.simpleString(1))


def _is_of_files(leaf: Any) -> bool:
    return bool(leaf.getClass().getSimpleName() == "StreamingRelation")


@dataclass(frozen=True)
class FileRead:
    """How a query reads a folder of files.

    Attributes:
        kind: their format, such as `csv`.
        schema: all columns, also those that the query does not use; None where Spark inferred them.
        options: as they were given: of the format, and which files are read.
    """

    kind: str
    schema: StructType | None
    options: dict[str, str]


def file_reads(frame: DataFrame) -> list[FileRead | None]:
    """Return how each source of a query reads files, by its number in a checkpoint; None if it does not."""
    given: Any = frame
    if is_connect(frame.sparkSession):
        reads = _reads(given._plan.to_proto(given.sparkSession.client))
        # Copies of one message differ without `deterministic`, in some processes: a map has no order.
        once = {read.SerializeToString(deterministic=True): read for read in reads}.values()
        # A folder is the only path of a source, or its option `path`.
        return [
            _file_read(read.format, read.schema, {"path": "".join(read.paths), **read.options})
            for read in once
        ]
    as_python = given.sparkSession._jvm.scala.jdk.javaapi.CollectionConverters.asJava
    found: list[FileRead | None] = []
    known: list[Any] = []
    for leaf, *_ in _leaves(given._jdf.queryExecution().analyzed()):
        if leaf in known:  # `==` asks Spark
            continue
        known.append(leaf)
        if not _is_of_files(leaf):
            found.append(None)
            continue
        source = leaf.dataSource()
        schema = source.userSpecifiedSchema()
        text = schema.get().json() if schema.isDefined() else ""
        found.append(_file_read(source.className(), text, dict(as_python(source.options()))))
    return found


def _file_read(kind: str, schema: str, options: dict[str, str]) -> FileRead | None:
    if kind.lower() not in _OF_FILES:
        return None
    columns = None
    if schema:
        columns = StructType.fromJson(json.loads(schema)) if schema[0] == "{" else DataType.fromDDL(schema)
    return FileRead(kind.lower(), columns if isinstance(columns, StructType) else None, options)


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


def sockets_in(text: str) -> list[tuple[str, int]]:
    """Return host and port of each socket in what Spark says of a query's sources, or of its failure."""
    found = re.findall(r"TextSocketV2\[host: (\S+), port: (\d+)\]", text)
    return [(host, int(port)) for host, port in dict.fromkeys(found)]


def is_being_read(spark: SparkSession | None, of: list[tuple[str, int]]) -> bool:
    """Say whether Spark still reads one of these sockets; call it once the first batch is through.

    Spark's reader is a JVM thread that ends when the peer has closed. The port itself is not asked: a
    server may serve one client only. The JVM of this process needs no session to be asked.
    """
    jvm: Any = SparkContext._jvm
    if jvm is not None and (spark is None or not is_connect(spark)):
        threads = jvm.java.lang.Thread.getAllStackTraces().keySet().toString()
    elif spark is not None and is_local(str(spark.conf.get("spark.master", None))):
        # A query is run by the JVM that has the threads, where it is its own executor.
        threads = spark.sql("SELECT reflect('java.lang.Thread', 'getAllStackTraces')").collect()[0][0]
    else:
        return True
    return any(f"TextSocketSource({host}, {port})" in threads for host, port in of)


def unavailable(failure: str) -> str | None:
    """Return a line that says why a query could not connect to its socket; None for any other failure."""
    found = re.search(
        r"^(?:Caused by: )?java\.net\.(Connect|UnknownHost|NoRouteToHost)Exception\b", failure, re.MULTILINE
    )
    peers = sockets_in(failure)
    if not peers or found is None:
        return None
    host, port = peers[0]
    if found[1] == "Connect":
        return errors.nobody_listens(f"{host}:{port}")
    if found[1] == "UnknownHost":
        return errors.unknown_host(host)
    return f"no route to host {host}; check its address"


_LIMIT = 10_000  # milliseconds that the brokers have for an answer; Kafka's own clients wait for a minute
_TIMEOUT = "default.api.timeout.ms"
_CENTURY = 100 * 365 * 86_400_000


class Topic(NamedTuple):
    """A topic: its id, which another topic of the same name does not have, and its partitions."""

    id: str
    partitions: tuple[int, ...]


def refuse_shown(caller: str, options: Mapping[str, object]) -> None:
    """Refuse a secret that Spark would show, as it hides only what has a word like `password` in its name.

    Raises:
        InvalidInputError: a private key among the options.
    """
    for name in options:
        if name.lower() == "kafka.ssl.keystore.key":
            raise InvalidInputError(
                f"{caller}: Spark would show {name} in its plans; put the key into a file, and give "
                "kafka.ssl.keystore.location"
            )


def can_ask(spark: SparkSession) -> bool:
    """Say whether `client` can be used in a session."""
    return not is_connect(spark)


class Client:
    """Asks Kafka's brokers; made by `client`."""

    def __init__(self, jvm: Any, admin: Any) -> None:
        self._jvm = jvm
        self._admin = admin

    def names(self) -> list[str]:
        """Return the names of all topics that this user may see."""
        return sorted(self._admin.listTopics().names().get())

    def matching(self, pattern: str) -> list[str]:
        """Return the names of the topics that a regular expression of Java's matches."""
        expression = self._jvm.java.util.regex.Pattern.compile(pattern)
        return [name for name in self.names() if expression.matcher(name).matches()]

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Return those of the named topics that are there."""
        wanted = self._jvm.java.util.ArrayList()
        for name in names:
            wanted.add(name)
        found = {}
        for name, answer in dict(self._admin.describeTopics(wanted).topicNameValues()).items():
            try:
                said = answer.get()
            except Py4JJavaError as err:
                if innermost_cause(err).startswith("UnknownTopicOrPartitionException"):
                    continue
                raise
            numbers = sorted(part.partition() for part in said.partitions())
            found[name] = Topic(said.topicId().toString(), tuple(numbers))
        return found

    def offsets(self, of: Iterable[tuple[str, int]], *, earliest: bool) -> dict[tuple[str, int], int]:
        """Return the first offset that each partition has, or the one that its next record will have."""
        spec = self._jvm.org.apache.kafka.clients.admin.OffsetSpec
        asked = self._jvm.java.util.HashMap()
        parts = {each: self._jvm.org.apache.kafka.common.TopicPartition(*each) for each in of}
        for part in parts.values():
            asked.put(part, spec.earliest() if earliest else spec.latest())
        answer = self._admin.listOffsets(asked)
        return {each: int(answer.partitionResult(part).get().offset()) for each, part in parts.items()}


@contextmanager
def client(spark: SparkSession, options: Mapping[str, str]) -> Iterator[Client]:
    """Ask Kafka with the options of a source, in a `with` block.

    Args:
        spark: a session for which `can_ask` holds.
        options: those of the source; the ones of Kafka's clients begin with `kafka.`.

    Raises:
        InvalidInputError: no broker answers, the log-in fails, or an option cannot be used; in one line
            without what is secret in the options.
    """
    jvm: Any = spark._jvm
    given = {name[6:]: value for name, value in options.items() if name.lower().startswith("kafka.")}
    limit = _limit(options)
    settings = jvm.java.util.Properties()
    for name, value in (given | {_TIMEOUT: limit, "request.timeout.ms": limit}).items():
        settings.put(name, str(value))
    admin = None
    try:
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
        yield Client(jvm, admin)
    except (Py4JJavaError, PySparkException) as err:
        # The stack trace is left out: Java's words may show a setting.
        raise InvalidInputError(_refusal(options, innermost_cause(err))) from None
    finally:
        if admin is not None:
            admin.close(jvm.java.time.Duration.ZERO)


def try_to_read(spark: SparkSession, options: Mapping[str, str]) -> None:
    """See that the topics of a source can be read, by a batch of Spark's from which no record comes.

    Raises:
        InvalidInputError: no broker answers, the log-in fails, or a topic is not there.
    """
    limit = str(_limit(options))
    own = {
        # From a time at which no record is yet up to the end.
        "startingTimestamp": str(int(time.time() * 1000) + _CENTURY),
        "startingOffsetsByTimestampStrategy": "latest",
        f"kafka.{_TIMEOUT}": limit,
        "kafka.request.timeout.ms": limit,
        "fetchOffset.numRetries": "1",
    }
    kept = ("kafka.", "subscribe")
    given = {name: value for name, value in options.items() if name.lower().startswith(kept)}
    try:
        spark.read.format("kafka").options(**{**given, **own}).load().isEmpty()
    except PySparkException as err:
        cause = innermost_cause(err)
        found = re.search(r"(?:[\w.]+\.)?(\w+(?:Exception|Error): .*)", cause.partition("JVM stacktrace")[0])
        raise InvalidInputError(_refusal(options, found[1] if found else cause)) from None


def _refusal(options: Mapping[str, str], cause: str) -> str:
    """Say in one line why Kafka cannot be asked."""
    servers = options["kafka.bootstrap.servers"]
    limit = _limit(options) / 1000
    if "UnknownTopicOrPartition" in cause:
        topic = options.get("subscribe")
        return f"Kafka at {servers} has no topic {topic}; create it first, or correct the name"
    if "TimeoutException" in cause:
        return (
            f"no Kafka broker at {servers} has answered within {limit:g} s; start it, correct servers, or "
            "give the protocol that it speaks, such as **{'kafka.security.protocol': 'SASL_SSL'}"
        )
    if "No resolvable bootstrap urls" in cause:
        return f"Kafka: {errors.unknown_host(servers)}"
    if "CertPathBuilderException" in cause:
        return (
            f"Kafka at {servers} has a certificate that is not trusted here; give the file of it, or of its "
            "authority: **{'kafka.ssl.truststore.type': 'PEM', 'kafka.ssl.truststore.location': …}"
        )
    if re.search("JAAS|LoginModule", cause):  # Kafka's words may hold a part of the password
        return (
            f"Kafka at {servers}: kafka.sasl.jaas.config cannot be read; write it as "
            '…LoginModule required username="…" password="…";'
        )
    return f"Kafka at {servers}: {cause}"


def _limit(options: Mapping[str, str]) -> int:
    """Return how many milliseconds the brokers have for an answer."""
    given = options.get(f"kafka.{_TIMEOUT}", str(_LIMIT))
    if not given.isdecimal():
        raise InvalidInputError(f"kafka.{_TIMEOUT} is {given!r}; give a number of milliseconds")
    return int(given)
