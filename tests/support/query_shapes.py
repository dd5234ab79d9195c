"""Some sixty shapes of stateful queries, each of which is the same query whenever it is built."""

import datetime as dt
import decimal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from sparkstream_kit import joins, quarantine, schemas, sources, state, windows

HERE = str(Path(__file__).parent)  # a file source wants a folder that is there
SCHEMA = (
    "k STRING, p STRING, a DOUBLE, n INT, x_1 INT, t TIMESTAMP, w ARRAY<INT>, v"
    " ARRAY<ARRAY<INT>>, m MAP<STRING,INT>, s STRUCT<x_1: INT, y_2: STRING>, line"
    " STRING"
)
ALL_TYPES = (
    "k STRING NOT NULL, tiny TINYINT, small SMALLINT, n INT, big BIGINT, f FLOAT, a"
    " DOUBLE, price DECIMAL(10,2), tax DECIMAL(20,9), id DECIMAL(38,0), yes BOOLEAN,"
    " day DATE, t TIMESTAMP"
)
NESTED = (
    "prices ARRAY<DECIMAL(10,2)>, taxes MAP<STRING,DECIMAL(20,9)>, item STRUCT<price:"
    " DECIMAL(10,2), n: INT, days: ARRAY<DATE>>, items ARRAY<STRUCT<a: DOUBLE, at:"
    " TIMESTAMP>>"
)


def rows(spark):
    return spark.readStream.schema(SCHEMA).json(HERE)


def timed(spark):
    return rows(spark).withWatermark("t", "10 minutes")


def table(spark):
    return spark.createDataFrame([("a", 1)], "k STRING, code INT")


def in_sql(spark, query):
    rows(spark).createOrReplaceTempView("shapes")
    return spark.sql(query)


def parsed(spark, **given):
    lines = sources.text(spark, HERE)
    return quarantine.parse_csv(
        lines, schemas.from_ddl("k STRING NOT NULL, n INT, t TIMESTAMP"), **given
    )


def by_all(frame):
    """Group by all columns; `distinct` orders them in another way on Spark Connect."""
    return frame.groupBy(*frame.columns).count()


def as_text(frame):
    """Group by all columns also where some are maps."""
    return by_all(frame.select(F.to_json(F.struct("*")).alias("row")))


def with_itself(frame):
    return frame.union(frame)


def mapped(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    yield from batches


vectorized: Any = pandas_udf  # its types say less than it takes


def doubled(values: pd.Series) -> pd.Series:
    return values * 2


# What is grouped by: functions of Spark that take a lambda, in all their places, and
# much else.
KEYS: dict[str, Callable[[], Column]] = {
    "transform": lambda: F.transform("w", lambda x: x + 1),
    "transform with the index": lambda: F.transform("w", lambda x, i: x * i),
    "aggregate": lambda: F.aggregate(
        "w", F.lit(0), lambda total, x: total + x, lambda total: total * 2
    ),
    "zip_with": lambda: F.zip_with("w", "w", lambda x, y: x - y),
    "a lambda in a lambda": lambda: F.transform(
        "v", lambda x: F.transform(x, lambda y: y + F.size(x))
    ),
    "a lambda of SQL": lambda: F.expr("transform(w, x -> x + 1)"),
    "a UDF": lambda: F.udf(lambda n: n + 1, "int")("n"),
    "a pandas UDF": lambda: vectorized(doubled, "double")("a"),
    "random numbers": lambda: F.rand() + F.randn() + F.expr("uniform(1, 9)"),
    "random texts": lambda: F.concat(F.expr("uuid()"), F.expr("randstr(5)")),
    "literals": lambda: F.concat_ws(
        "-",
        F.lit(decimal.Decimal("1.50")),
        F.lit(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        F.lit(dt.timedelta(hours=1)).cast("string"),
        F.lit([1, 2]).cast("string"),
    ),
    "a struct": lambda: F.col("s").withField("z", F.lit(1)).dropFields("y_2"),
    "from_json": lambda: F.from_json("line", "a INT, b STRING", {"mode": "PERMISSIVE"}),
    "a regular expression": lambda: F.regexp_replace(
        "line", r"(\d+)#x_1, lambda", "$1"
    ),
    "a date": lambda: F.to_date("line", "MM/dd/yyyy"),
    "now": F.current_timestamp,
    "the file of a row": lambda: F.col("_metadata.file_name"),
    "an interval": lambda: F.col("t") + F.expr("INTERVAL 1 HOUR"),
}

FRAMES: dict[str, Callable[[SparkSession], DataFrame]] = {
    "a sum": lambda s: rows(s).groupBy("k").agg(F.sum("a").alias("total")),
    "percentiles and sketches": lambda s: (
        rows(s)
        .groupBy("k")
        .agg(F.approx_count_distinct("p"), F.percentile_approx("a", 0.5))
    ),
    "a sample": lambda s: rows(s).sample(0.5).groupBy("k").count(),
    "a sample by key": (
        lambda s: rows(s).sampleBy("k", {"a": 0.5, "b": 0.1}).groupBy("k").count()
    ),
    "windows": (
        lambda s: timed(s).groupBy(F.window("t", "5 minutes", "1 minute"), "k").count()
    ),
    "windows of the kit": lambda s: (
        windows.with_watermark(rows(s), "t", "1 hour")
        .groupBy(windows.tumbling("t", "5 minutes"))
        .count()
    ),
    "days of a time zone": lambda s: (
        windows.calendar(timed(s), "t", "day", zone="Europe/Berlin")
        .groupBy("window", "k")
        .count()
    ),
    "sessions": (
        lambda s: timed(s).groupBy(F.session_window("t", "5 minutes"), "k").count()
    ),
    "windows of windows": lambda s: (
        timed(s)
        .groupBy(F.window("t", "1 minute"))
        .count()
        .groupBy(F.window("window", "1 hour"))
        .agg(F.max("count"))
    ),
    "a rollup": lambda s: rows(s).rollup("k", "p").count(),
    "a cube": lambda s: rows(s).cube("k", "p").count(),
    "exploded": (
        lambda s: rows(s).select(F.explode("w").alias("each")).groupBy("each").count()
    ),
    "unpivoted": (
        lambda s: (
            rows(s).unpivot("k", ["n", "x_1"], "what", "value").groupBy("what").count()
        )
    ),
    "drop duplicates": lambda s: rows(s).dropDuplicates(["k", "p"]),
    "drop duplicates within the watermark": (
        lambda s: timed(s).dropDuplicatesWithinWatermark(["k"])
    ),
    "distinct": lambda s: rows(s).select("k", "p").distinct(),
    "a limit": lambda s: rows(s).limit(5),
    "a union": (
        lambda s: rows(s).select("k").union(rows(s).select("p")).groupBy("k").count()
    ),
    "a union of itself": lambda s: with_itself(rows(s)).groupBy("k").count(),
    "joined with a table": (
        lambda s: rows(s).join(table(s), "k").groupBy("code").count()
    ),
    "joined with a table by the kit": lambda s: (
        joins.with_table(rows(s), table(s), on="k").groupBy("code").count()
    ),
    "two streams joined": lambda s: (
        timed(s)
        .alias("one")
        .join(
            timed(s).alias("other"),
            F.expr(
                "one.k = other.k AND other.t BETWEEN one.t AND one.t + INTERVAL 1 HOUR"
            ),
        )
        .select("one.k", F.transform("other.w", lambda x: x + 1).alias("next"))
    ),
    "SQL": lambda s: in_sql(
        s, "SELECT k, sum(a) AS total FROM shapes WHERE n > 1 GROUP BY k"
    ),
    "a common table expression": lambda s: in_sql(
        s,
        "WITH c AS (SELECT k, transform(w, x -> x + 1) AS u FROM shapes) SELECT u,"
        " max(k) FROM c GROUP BY u",
    ),
    "a subquery": lambda s: in_sql(
        s,
        "SELECT k, count(*) FROM shapes WHERE n > (SELECT max(id) FROM range(3)) GROUP"
        " BY k",
    ),
    "mapInPandas": lambda s: (
        rows(s)
        .select("k", "n")
        .mapInPandas(mapped, "k STRING, n INT")
        .groupBy("k")
        .count()
    ),
    "parsed lines": lambda s: parsed(s).groupBy("k", "_reason").count(),
    "good rows of parsed lines": (
        lambda s: quarantine.good_rows(parsed(s, sep=";")).dropDuplicates(["k"])
    ),
    "parsed lines of all types": lambda s: by_all(
        quarantine.parse_csv(sources.text(s, HERE), ALL_TYPES, nulls=["NA", ""])
    ),
    "parsed JSON of all types": lambda s: as_text(
        quarantine.parse_json(sources.text(s, HERE), f"{ALL_TYPES}, {NESTED}")
    ),
    "parsed JSON with formats of dates": lambda s: as_text(
        quarantine.parse_json(
            sources.text(s, HERE),
            "day DATE, at ARRAY<TIMESTAMP>, price DECIMAL(10,2)",
            date_format="dd.MM.yyyy",
            timestamp_format="dd.MM.yyyy HH:mm",
        )
    ),
    "parsed logs of a web server": lambda s: by_all(
        quarantine.parse_log(sources.text(s, HERE))
    ),
    "expectations": lambda s: by_all(
        quarantine.expect(
            rows(s).select("k", "n"),
            {"n > 0": "quarantine", "k IS NOT NULL": "warn", "n < 9": "fail"},
        )
    ),
    "marked rows": lambda s: by_all(
        quarantine.mark_bad(parsed(s), F.when(F.col("n") < 0, "below zero"))
    ),
    "strict JSON": lambda s: as_text(
        sources.json(s, HERE, schema=f"{ALL_TYPES}, {NESTED}")
    ),
    "strict CSV": lambda s: by_all(sources.csv(s, HERE, schema=ALL_TYPES)),
    "strict Parquet": lambda s: as_text(
        sources.parquet(s, HERE, schema=f"{ALL_TYPES}, {NESTED}")
    ),
    "sliding windows of the kit": lambda s: windows.flatten(
        windows.with_watermark(rows(s), "t", "1 hour")
        .groupBy(windows.sliding("t", "1 hour", "10 minutes"), "k")
        .count()
    ),
    "months of a time zone": lambda s: windows.flatten(
        windows.calendar(timed(s), "t", "month", zone="America/St_Johns")
        .groupBy("window")
        .count()
    ),
    "two streams joined by the kit": lambda s: joins.within(
        timed(s).select("k", F.col("t").alias("one")),
        timed(s).select("k", F.col("t").alias("other"), "n"),
        on="k",
        left_time="one",
        right_time="other",
        within="5 minutes",
        how="left",
    ),
    "alerts by key": lambda s: state.alert_when(
        timed(s), "k", "t", "a", state.ZScore(sigmas=5)
    ),
    "observed, cached by nobody": lambda s: (
        rows(s).observe("seen", F.count("*").alias("n")).groupBy("k").count()
    ),
    "state by key": lambda s: state.once(timed(s), "k", "t", "1 hour"),
}


def grouped(key):
    return lambda spark: rows(spark).select(key().alias("o")).groupBy("o").count()


SHAPES = {name: grouped(key) for name, key in KEYS.items()} | FRAMES
