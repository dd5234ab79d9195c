r"""Orders from a topic, checked and written to another one, as Avro with a schema registry.

An order has order_id, time, product, quantity and price. A record of --to has these and
their total, and its product as the key. A record that cannot be read, or with a quantity
below 1, is in OUT_DIR/bad with the reason; an order that came too late is in
OUT_DIR/late.
Guarantee: every record is in one of the three places once, over stops and restarts on
the same OUT_DIR; of --to for readers of committed records.
Run: spark-submit $(sparkstream connectors kafka) jobs/kafka_orders.py OUT_DIR \
    --kafka HOST:9092 --topic orders --registry http://HOST:8081 --to checked
"""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkstream_kit import (
    formats,
    jobflags,
    quarantine,
    run,
    sinks,
    sources,
    spark_session,
    start,
    windows,
)

ORDERS = """order_id STRING NOT NULL, time TIMESTAMP NOT NULL, product STRING NOT NULL,
    quantity INT NOT NULL, price DECIMAL(10,2) NOT NULL"""
WRITTEN = ["order_id", "time", "product", "quantity", "price", "total"]


def transform(records: DataFrame, watermark: str, **schemas: Any) -> DataFrame:
    """Return the order of each record with its total (decimal), and why a record is bad.

    `schemas` is `registry=` or a folder `schemas=`, as of `quarantine.parse_avro`.
    """
    rows = quarantine.parse_avro(records, ORDERS, **schemas)
    wrong = F.when(rows.quantity < 1, "quantity: below 1")
    rows = quarantine.mark_bad(rows, wrong)
    rows = rows.withColumn("total", F.col("quantity") * F.col("price"))
    return windows.with_watermark(rows, "time", watermark)


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: orders go to a topic, and how many they were to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.LINES,
        *jobflags.FOLDER,
        "--watermark",
        "--max-late",
        "--max-bad",
        *jobflags.RUN,
        without=["INPUT_DIR", "--max-files-per-trigger"],
    )
    parser.add_argument(
        "--registry",
        metavar="URL",
        type=jobflags.registry,
        required=True,
        help="The schema registry of both topics. env:NAME reads the URL, with user and"
        " password, from the environment variable NAME.",
    )
    parser.add_argument(
        "--to", metavar="TOPIC", required=True, help="Write the orders to this topic."
    )
    args = parser.parse_args(argv)
    out = args.out_dir
    if args.to == args.topic:
        parser.error(f"--to {args.to} is the topic that is read; give another one")

    value = formats.avro(args.registry, columns=WRITTEN, name="shop.Order")
    orders = sinks.kafka(
        args.kafka, args.to, key="product", value=value, exactly_once=True
    )
    bad = sinks.batch_files(f"{out}/bad").taking(quarantine.bad_rows)
    late = sinks.batch_files(f"{out}/late").taking(quarantine.good_rows)
    on_time = sinks.fan_out(orders.taking(quarantine.good_rows), bad)
    sink = sinks.by_watermark("time", on_time=on_time, late=late)
    with spark_session("kafka-orders", **jobflags.for_session(args)) as spark:
        records = sources.kafka(
            spark,
            args.kafka,
            args.topic,
            binary=True,
            max_offsets_per_trigger=args.max_offsets_per_trigger,
        )
        rows = transform(records, args.watermark, registry=args.registry)
        query = start(rows, sink, name="kafka_orders", **jobflags.for_start(args))
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
