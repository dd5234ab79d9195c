"""What Spark says of the plan of a query that has not been started."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pyspark.sql import DataFrame, SparkSession

from sparkstream_kit._spark.session import is_connect
from sparkstream_kit.errors import KitError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["analyzed_plan", "keeps_other_states", "keeps_states_by_name", "runs_python"]

# To ask for a plan takes some milliseconds, on Spark Connect some tens; a DataFrame's never changes.
_texts: WeakKeyDictionary[DataFrame, str] = WeakKeyDictionary()


def keeps_states_by_name(frame: DataFrame) -> bool:
    """Say whether a query has states with names of their own (`transformWithState`)."""
    if is_connect(frame.sparkSession):  # what was asked for says it too, and asks no server
        connect: Any = frame
        plan = str(connect._plan.to_proto(connect.sparkSession.client))
        return re.search(r"^\s*transform_with_state_info \{", plan, re.MULTILINE) is not None
    return re.search(r"^\W*TransformWithState", analyzed_plan(frame), re.MULTILINE) is not None


def keeps_other_states(frame: DataFrame) -> bool:
    """Say whether a query of `transformWithState` may have another operator that keeps state."""
    others = "Aggregate|Deduplicate|Distinct|FlatMapGroups|GlobalLimit|Join"
    return re.search(rf"^\W*({others})", analyzed_plan(frame), re.MULTILINE) is not None


def runs_python(frame: DataFrame) -> bool:
    """Say whether a query calls Python functions, of single values or of many rows."""
    given: Any = frame
    if is_connect(frame.sparkSession):
        plan = str(given._plan.to_proto(given.sparkSession.client))
        return re.search(r"^\s*python_(udf|udtf|data_source) \{", plan, re.MULTILINE) is not None
    patterns = given.sparkSession._jvm.org.apache.spark.sql.catalyst.trees.TreePattern
    return bool(given._jdf.queryExecution().analyzed().containsPattern(patterns.PYTHON_UDF()))


def analyzed_plan(frame: DataFrame) -> str:
    """Return Spark's analyzed plan of a query as text, with all columns."""
    if frame not in _texts:
        _texts[frame] = _ask_for_plan(frame)
    return _texts[frame]


def _ask_for_plan(frame: DataFrame) -> str:
    # The public `explain("extended")` says the same, but on classic it plans the whole query first, which
    # takes a new JVM half a second, and it prints.
    plan: Any = frame
    with _unshortened(frame.sparkSession):
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


@contextmanager
def _unshortened(spark: SparkSession) -> Iterator[None]:
    """Let Spark print all columns, not the first 25; it asks the session that is active in this thread."""
    key = "spark.sql.debug.maxToStringFields"
    former = [
        (each, each.conf.get(key) or "25") for each in {spark, SparkSession.getActiveSession() or spark}
    ]
    for session, _ in former:
        session.conf.set(key, "100000")
    try:
        yield
    finally:
        for session, value in former:
            session.conf.set(key, value)
