"""Sales as tables of one of Spark's pipelines: good rows, bad rows, totals by hour.

Each line is a sale: {"time": "2024-03-01T09:00:01Z", "product": "tea", "amount": 2}
"""

from pyspark import pipelines as dp
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkstream_kit import quarantine, sources, windows

spark = SparkSession.active()

SALES = "time TIMESTAMP NOT NULL, product STRING NOT NULL, amount INT NOT NULL"
RULES = {"amount > 0": "quarantine"}


def lines() -> DataFrame:
    """Return the lines of the files in data/."""
    return sources.text(spark, "data")


def sales() -> DataFrame:
    """Return time, product and amount; columns of `quarantine` say why a row is bad."""
    rows = quarantine.parse_json(lines(), SALES)
    timed = windows.with_watermark(rows, "time", "10 minutes")
    return quarantine.expect(timed, RULES)


@dp.table
def good() -> DataFrame:
    """Good rows: time (timestamp), product (string), amount (int)."""
    return quarantine.good_rows(sales())


@dp.table
def bad() -> DataFrame:
    """Bad rows: the reason, the line as it was, and the file that it is from."""
    return quarantine.bad_rows(sales())


@dp.materialized_view
def broken() -> DataFrame:
    """How many rows are bad for which reason: _reason (string), rows (bigint)."""
    bad_ones = spark.read.table("bad")
    return bad_ones.groupBy("_reason").agg(F.count("*").alias("rows"))


@dp.table
def hours() -> DataFrame:
    """The total of each product in each hour that is over.

    It reads the lines and not `good`: Spark cannot take the watermark of another table.
    The columns are start and end (timestamp), product (string) and total (bigint).
    """
    by_hour = sales().groupBy(windows.tumbling("time", "1 hour"), "product")
    return windows.flatten(by_hour.agg(F.sum("amount").alias("total")))
