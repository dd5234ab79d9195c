"""Two queries on one topic: its records in directories, and totals by region in SQLite."""

import sys
from typing import Any

from pyspark.sql import functions as F

from sparkstream_kit import jobflags, run, sinks, sources, spark_session, start


@jobflags.exit_codes
def main(argv=None):
    """Run until a signal, or with a fourth argument over all that is there."""
    servers, topic, folder, *rest = sys.argv[1:] if argv is None else argv
    trigger: dict[str, Any] = (
        {"availableNow": True} if rest else {"processingTime": "0 seconds"}
    )
    with spark_session("kafka-sales", profile="test", connectors=["kafka"]) as spark:
        lines = sources.kafka(spark, servers, topic, max_offsets_per_trigger=200)
        sales = lines.select(
            F.from_json("value", "id BIGINT, region STRING, cents BIGINT").alias("sale")
        )
        sales = sales.select("sale.*")
        files = sinks.batch_files(f"{folder}/rows")
        rows = start(
            sales, files, name="rows", checkpoint=f"{folder}/ckpt-rows", **trigger
        )
        counted = sales.groupBy("region").agg(
            F.count("*").alias("sales"), F.sum("cents").alias("cents")
        )
        table = sinks.sql_table(
            f"sqlite:///{folder}/totals.db", "totals", how="replace"
        )
        kept = f"{folder}/ckpt-totals"
        totals = start(
            counted, table, name="totals", mode="complete", checkpoint=kept, **trigger
        )
        print(run(rows, totals))
    return 0


if __name__ == "__main__":
    sys.exit(main())
