"""A query on a stream: its records in a directory a batch, and in a table of SQLite."""

import sys

from pyspark.sql import functions as F

from sparkstream_kit import jobflags, run, sinks, sources, spark_session, start


@jobflags.exit_codes
def main(argv=None):
    """Run until a signal, or with a fourth argument over all that is there."""
    endpoint, stream, folder, *rest = sys.argv[1:] if argv is None else argv
    trigger = {"availableNow": True} if rest else {"processingTime": "0 seconds"}
    with spark_session("kinesis-sales", profile="test") as spark:
        lines = sources.kinesis(
            spark,
            stream,
            endpoint=endpoint,
            region="us-east-1",
            max_records_per_trigger=500,
        )
        sales = lines.select(
            F.from_json("value", "id BIGINT, region STRING, cents BIGINT").alias("sale")
        )
        sink = sinks.fan_out(
            sinks.batch_files(f"{folder}/rows"),
            sinks.sql_table(f"sqlite:///{folder}/sales.db", "sales"),
        )
        print(
            run(
                start(
                    sales.select("sale.*"),
                    sink,
                    name="sales",
                    checkpoint=f"{folder}/ckpt",
                    **trigger,
                )
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
