"""What Spark says of the plan of a query that has not been started."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pyspark.sql import DataFrame, SparkSession

from sparkstream_kit._spark.session import is_connect
from sparkstream_kit._spark.settings import in_force
from sparkstream_kit.errors import KitError, said_by_spark

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def inputs(frame: DataFrame) -> list[str]:
    """Say what a query reads: folders, topics, a server; each once, and nothing that may be a password."""
    found: Any = frame
    if is_connect(frame.sparkSession):
        sources = _sources_in_text(analyzed_plan(frame))
    else:
        sources = sources_in(found._jdf.queryExecution().analyzed())
    return list(dict.fromkeys(_said(name, options) for name, options in sources))


def sources_in(analyzed: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name of each source in a plan of the JVM's, by its number in a checkpoint.

    With it come its options, by their names in lower case; none of a source of files.
    """
    leaves = analyzed.collectLeaves()
    found: list[Any] = []
    for leaf in map(leaves.apply, range(leaves.size())):
        # A source that two branches share stands in the plan twice, and is one; `==` asks Spark.
        if leaf.isStreaming() and leaf not in found:
            found.append(leaf)
            of_files = leaf.getClass().getSimpleName() == "StreamingRelation"
            given = {} if of_files else dict(leaf.extraOptions().asCaseSensitiveMap())
            yield leaf.sourceName(), {key.lower(): value for key, value in given.items()}


def _sources_in_text(plan: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the same of a plan as Spark Connect prints it."""
    for line in plan.split("\n"):
        if found := re.search(r"(FileSource\[.*?\])(?:, \[|$)", line):
            yield found[1], {}
        elif found := re.search(r"StreamingRelationV2 [^,]*, ([^,]*), [^,]*, \[(.*?)\], \[", line):
            pairs = (pair.partition("=") for pair in found[2].split(", "))
            yield found[1], {key.lower(): value for key, _, value in pairs}


def _said(name: str, options: dict[str, str]) -> str:
    if found := re.fullmatch(r"FileSource\[(.*)\]", name, re.DOTALL):
        return f"files of {found[1]}"
    if name == "kafka":
        topics = options.get("subscribe") or options.get("subscribepattern") or options.get("assign")
        return f"topic {topics} of Kafka at {options.get('kafka.bootstrap.servers')}"
    return f"{name} {options['host']}:{options['port']}" if {"host", "port"} <= {*options} else name


def analyzed_plan(frame: DataFrame) -> str:
    """Return Spark's analyzed plan of a query as text, with all columns."""
    if frame not in _texts:
        _texts[frame] = _ask_for_plan(frame)
    return _texts[frame]


def _ask_for_plan(frame: DataFrame) -> str:
    # The public `explain("extended")` says the same, but on classic it plans the whole query first, which
    # takes a new JVM half a second, and it prints.
    plan: Any = frame
    # Spark prints the first 25 columns, if the session that is active in this thread does not say otherwise.
    all_columns = {"spark.sql.debug.maxToStringFields": "100000"}
    with ExitStack() as stack:
        for spark in {frame.sparkSession, SparkSession.getActiveSession() or frame.sparkSession}:
            stack.enter_context(in_force(spark, all_columns))
        if not is_connect(frame.sparkSession):
            return str(plan._jdf.queryExecution().analyzed().toString()).rstrip("\n")
        explained = plan._explain_string(extended=True)
    analyzed = explained.partition("\n== Analyzed Logical Plan ==\n")[2]
    # Its first line is the schema.
    lines = analyzed.partition("\n== Optimized Logical Plan ==\n")[0].strip("\n").split("\n")[1:]
    if not lines:
        raise KitError(
            f"Spark {frame.sparkSession.version} explains a plan in a form that the kit does not know, and "
            "its checkpoint cannot be guarded; start without the kit: sink(frame.writeStream).start()"
        )
    return "\n".join(lines)
