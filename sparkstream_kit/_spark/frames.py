"""Frames of rows that the driver's JVM holds: a frame of rows from Python costs its first reader a job."""

from __future__ import annotations

from typing import Any, cast

from pyspark.sql import DataFrame, SparkSession

from sparkstream_kit._spark.session import is_connect


def session_with_views(frame: DataFrame) -> SparkSession:
    """Return the session whose views the user sees: on a classic session a batch's own is a clone of it."""
    if frame.isStreaming or is_connect(frame.sparkSession):
        return frame.sparkSession
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


def none_of(frame: DataFrame) -> DataFrame:
    """Return a frame of no rows with the columns of `frame`, without a job."""
    spark: Any = frame.sparkSession
    if is_connect(spark):
        return cast("DataFrame", spark.createDataFrame([], frame.schema))
    return _of_java(spark, spark._jvm.java.util.ArrayList(), frame)


def _of_java(spark: SparkSession, rows: Any, like: DataFrame) -> DataFrame:
    session, java = cast("Any", spark)._jsparkSession, cast("Any", like)._jdf
    return DataFrame(session.createDataFrame(rows, java.schema()), spark)
