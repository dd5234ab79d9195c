"""Views over Spark's memory sink, where the function of a batch would cost two seconds to start."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparkstream_kit._spark.session import starts_python_for_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit._spark.files import Location
    from sparkstream_kit.sinks import Sink

__all__ = ["show", "views_of"]


def views_of(
    sink: Sink, spark: SparkSession, name: str, location: Location | None
) -> Mapping[str, Callable[[DataFrame], DataFrame]]:
    """Return the views that make a sink over Spark's memory sink; none if that cannot be.

    A function of a batch would first start a Python at the server, for two seconds. Memory forgets what it
    had at a restart, so that it is for queries that have none; and its table has the query's name, until the
    views are made, which must be free.
    """
    if not sink.views or location is not None or not starts_python_for_batches(spark):
        return {}
    free = re.fullmatch(r"\w+", name) and name not in sink.views and not spark.catalog.tableExists(name)
    return sink.views if free else {}


def show(
    views: Mapping[str, Callable[[DataFrame], DataFrame]],
    spark: SparkSession,
    name: str,
    query: StreamingQuery,
) -> None:
    """Make the views of a query's table in memory, whose own name is free again then."""
    try:
        for view, part in views.items():
            # In one partition, as memory has it in two and an order would shuffle it: 50 ms, not 200.
            part(spark.table(name).coalesce(1)).createOrReplaceTempView(view)
    except BaseException:
        query.stop()
        raise
    finally:
        spark.catalog.dropTempView(name)
