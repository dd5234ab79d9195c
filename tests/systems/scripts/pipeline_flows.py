"""Functions of a pipeline, one for each helper, and the same as queries of their own.

In a pipeline: `import pipeline_flows; pipeline_flows.register()`.
Outside: python pipeline_flows.py run INPUT OUTPUT PART …, and then, for the rows of all
tables as JSON: python pipeline_flows.py show OUTPUT WAREHOUSE.
"""

import io
import json
import os
import sys
from functools import partial
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkstream_kit import (
    get_session,
    joins,
    quarantine,
    schemas,
    sources,
    start,
    windows,
)
from sparkstream_kit.sinks import files

SALES = "shop STRING, product STRING NOT NULL, amount DECIMAL(9,2), time TIMESTAMP"
LIKES = "product STRING, liked TIMESTAMP, tags ARRAY<STRING>, who STRUCT<name: STRING>"
HOUR = "1 hour"
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: shop-likes
version: 1.0.0
status: active
schema:
  - name: likes
    properties:
      - name: product
        logicalType: string
        required: true
        logicalTypeOptions: {minLength: 3, pattern: "^[a-z]+$"}
      - name: liked
        logicalType: timestamp
    quality:
      - name: not_of_oats
        type: sql
        query: SELECT COUNT(*) FROM {object} WHERE product = 'oat'
        mustBe: 0
"""
PAYMENT = {
    "type": "record",
    "name": "Payment",
    "fields": [{"name": "amount", "type": "int"}],
}
RULES = {"amount > 10": "quarantine", "shop <> 'a'": "warn"}
SETTINGS = {
    "spark.master": "local[2]",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
}
INPUT = "PIPELINE_INPUT"  # the environment variable with the folder of all inputs
# That with a broker's address and a topic; the records are the test's, and without
# it no table reads Kafka
TOPIC = "PIPELINE_TOPIC"


def folder(name):
    return f"{os.environ[INPUT]}/{name}"


def lines(spark):
    return sources.text(spark, folder("csv"), pathGlobFilter="*.csv")


def parsed(spark):
    return quarantine.parse_csv(lines(spark), SALES, header=True)


def sales(spark):
    return sources.csv(spark, folder("good"), schema=SALES, header=True)


def timed(spark):
    return windows.with_watermark(sales(spark), "time", "10 minutes")


def by_contract(spark):
    contract = folder("contract/likes.odcs.yaml")
    rows = quarantine.parse_json(
        sources.text(spark, folder("json")),
        schemas.from_contract(contract),
        **schemas.formats_of(contract),
    )
    return quarantine.expect(rows, quarantine.rules_of(contract))


def payments(spark):
    records = sources.parquet(spark, folder("avro"), schema="value BINARY")
    return quarantine.parse_avro(records, "amount INT", schemas=folder("schemas"))


def likes(spark):
    schema = schemas.from_ddl(LIKES)
    rows = quarantine.parse_json(sources.text(spark, folder("json")), schema)
    return quarantine.good_rows(windows.with_watermark(rows, "liked", "10 minutes"))


def products(spark):
    reader = spark.read.schema("PRODUCT STRING, price DECIMAL(9,2)")
    return reader.csv(folder("products"))


def records(spark):
    servers, topic = os.environ[TOPIC].split()
    return sources.kafka(spark, servers, topic).select("value", "partition", "offset")


def by_hour(rows):
    return rows.groupBy(windows.tumbling("time", HOUR), "shop").agg(
        F.sum("amount").alias("total")
    )


# By its table: a function of the session and of what reads a table as a stream. Those
# that read another table come after it.
FLOWS = {
    # sources
    "text": lambda spark, _: lines(spark),
    "csv": lambda spark, _: sales(spark),
    "csv_lenient": lambda spark, _: sources.csv(
        spark, folder("csv"), schema=SALES, mode="PERMISSIVE", nulls="NA"
    ),
    "json": lambda spark, _: sources.json(spark, folder("json_good"), schema=LIKES),
    "parquet": lambda spark, _: sources.parquet(
        spark, folder("parquet"), schema="id BIGINT, n SMALLINT"
    ),
    "orc": lambda spark, _: sources.orc(spark, folder("orc"), schema="id BIGINT"),
    "by_day": lambda spark, _: sources.text(
        spark, folder("by_day"), partitions="day STRING"
    ),
    "rate": lambda spark, _: sources.rate(spark, rows_per_second=100),
    # quarantine, of a source
    "parsed_csv": lambda spark, _: parsed(spark),
    "parsed_json": lambda spark, _: quarantine.parse_json(
        sources.text(spark, folder("json")), LIKES
    ),
    "parsed_avro": lambda spark, _: payments(spark),
    "contract": lambda spark, _: by_contract(spark),
    "parsed_log": lambda spark, _: quarantine.parse_log(
        sources.text(spark, folder("log"))
    ),
    "bad_here": lambda spark, _: quarantine.bad_rows(parsed(spark)),
    "good_here": lambda spark, _: quarantine.good_rows(parsed(spark)),
    "marked_here": lambda spark, _: quarantine.mark_bad(
        parsed(spark), F.when(F.col("amount") < 0, "amount: below 0")
    ),
    "expected_here": lambda spark, _: quarantine.expect(parsed(spark), RULES),
    "strict_here": lambda spark, _: quarantine.expect(
        sales(spark), {"product IS NOT NULL": "fail"}
    ),
    # quarantine, of another table
    "good": lambda _, table: quarantine.good_rows(table("parsed_csv")),
    "bad": lambda _, table: quarantine.bad_rows(table("parsed_csv")),
    "marked": lambda _, table: quarantine.mark_bad(
        table("parsed_csv"), F.when(F.col("amount") < 0, "amount: below 0")
    ),
    "expected": lambda _, table: quarantine.expect(table("parsed_csv"), RULES),
    "checked": lambda _, table: quarantine.good_rows(
        quarantine.expect(table("csv"), RULES)
    ),
    "parsed_again": lambda _, table: quarantine.parse_csv(table("text"), SALES),
    # windows
    "timed": lambda spark, _: timed(spark),
    "hours": lambda spark, _: by_hour(timed(spark)),
    "hours_flat": lambda spark, _: windows.flatten(by_hour(timed(spark))),
    "slides": lambda spark, _: windows.flatten(
        timed(spark).groupBy(windows.sliding("time", HOUR, "30 minutes")).count()
    ),
    "sessions": lambda spark, _: windows.flatten(
        timed(spark).groupBy(windows.session("time", HOUR), "shop").count(),
        "session_window",
    ),
    "days": lambda spark, _: windows.flatten(
        windows.calendar(timed(spark), "time", "day", zone="Europe/Berlin")
        .groupBy("window")
        .count()
    ),
    "hours_of_table": lambda _, table: windows.flatten(table("hours")),
    # joins
    "priced": lambda spark, table: joins.with_table(
        table("csv"), products(spark), on="product"
    ),
    "priced_here": lambda spark, _: joins.with_table(
        sales(spark), products(spark), on="product", how="inner"
    ),
    "unpriced": lambda spark, table: joins.with_table(
        table("csv"), products(spark), on="product", how="left_anti"
    ),
    "liked": lambda spark, _: joins.within(
        quarantine.good_rows(timed(spark)),
        likes(spark),
        on="product",
        left_time="time",
        right_time="liked",
        within=HOUR,
        how="left",
    ),
}
if TOPIC in os.environ:
    FLOWS["kafka"] = lambda spark, _: records(spark)
# Tables of a batch, each from all rows of a table
VIEWS = {
    "top_sales": lambda table: windows.top(2, by="amount")(table("csv")),
    "top_of_shop": lambda table: windows.top(1, by="amount", each=["shop"])(
        table("csv")
    ),
}


def register():
    """Make the tables of the pipeline in whose file this is called."""
    from pyspark import pipelines as dp

    spark = SparkSession.active()
    for name, flow in FLOWS.items():
        dp.table(name=name)(partial(flow, spark, partial(sources.table, spark)))
    for name, view in VIEWS.items():
        dp.materialized_view(name=name)(partial(view, spark.table))


def write(given, part):
    """Write a file into each input folder: of the days, 1 to 9, one for each part."""
    day = f"2026-01-0{part}"
    header = "shop,product,amount,time"
    good = [
        f"a,tea,12.50,{day}T10:00:00",
        f"b,tea,3.00,{day}T10:20:00",
        f"a,rye,7.25,{day}T11:05:00",
        f"b,oat,99.00,{day}T13:40:00",
        f"a,oat,,{day}T15:00:00",
    ]
    bad = [
        f"a,,1.00,{day}T10:00:00",
        f"b,tea,1.005,{day}T10:00:00",
        "a,b",
        f"b,rye,-3.00,{day}T12:00:00",
    ]
    likes = [
        f'{{"product":"tea","liked":"{day}T10:10:00","tags":["x"],"who":{{"name":"n"}}}}',
        f'{{"product":"oat","liked":"{day}T13:45:00"}}',
    ]
    log = '::1 - frank [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 2326'
    texts = {
        f"good/{part}.csv": [header, *good],
        f"csv/{part}.csv": [header, *good, *bad],
        f"json_good/{part}.json": likes,
        f"json/{part}.json": [*likes, '{"product":7}', "no json"],
        f"log/{part}.log": [log, "nonsense"],
        f"by_day/day=0{part}/lines.txt": [f"line {part}"],
        "products/products.csv": ["tea,1.00", "rye,2.00"],
    }
    for name, lines_of_file in texts.items():
        path = Path(given, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines_of_file) + "\n")
    for name, text in (
        ("contract/likes.odcs.yaml", CONTRACT),
        ("schemas/7.avsc", json.dumps(PAYMENT)),
    ):
        path = Path(given, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    record = io.BytesIO(b"\0\0\0\0\7")
    record.seek(5)
    fastavro.schemaless_writer(record, PAYMENT, {"amount": part})
    records = pa.table({"value": [record.getvalue(), b"no record"]})
    Path(given, "avro").mkdir(exist_ok=True)
    pq.write_table(records, f"{given}/avro/{part}.parquet")
    numbers = pa.table({"id": pa.array([part]), "n": pa.array([part], pa.int32())})
    for name, write_file in (("parquet", pq.write_table), ("orc", orc.write_table)):
        Path(given, name).mkdir(exist_ok=True)
        write_file(numbers, f"{given}/{name}/{part}.{name}")


def run(given, output, *parts):
    """Run each function as a query, after each part of the input.

    A function that reads tables reads what the queries before it wrote.
    """
    os.environ[INPUT] = given
    connectors = ["kafka"] if TOPIC in os.environ else []
    spark = get_session("outside", conf=SETTINGS, connectors=connectors)

    def table(name):
        static = spark.read.parquet(f"{output}/{name}")
        return spark.readStream.schema(static.schema).parquet(f"{output}/{name}")

    for part in parts:
        write(given, int(part))
        for name, flow in FLOWS.items():
            query = start(
                flow(spark, table),
                files(f"{output}/{name}", format="parquet"),
                name=name,
                checkpoint=f"{output}-checkpoints/{name}",
                availableNow=True,
            )
            query.awaitTermination()
    for name, view in VIEWS.items():
        rows = view(lambda name: spark.read.parquet(f"{output}/{name}"))
        rows.write.mode("overwrite").parquet(f"{output}/{name}")


def show(*folders):
    """Print the columns and rows of each table in each folder."""
    spark = get_session("show", conf=SETTINGS)
    shown = []
    for folder in folders:
        tables = {}
        for path in Path(folder).iterdir():
            rows = spark.read.parquet(str(path))
            found = rows.select(F.to_json(F.struct("*"))).collect()
            tables[path.name] = {
                "columns": rows.schema.simpleString(),
                "rows": sorted(row[0] for row in found),
            }
        shown.append(tables)
    print(json.dumps(shown))


if __name__ == "__main__":
    {"run": run, "show": show}[sys.argv[1]](*sys.argv[2:])
