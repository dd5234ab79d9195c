"""Adds numbers of JSON lines to a folder of Parquet; prints their count and sum.

Run: spark-submit s3_rows.py INPUT_DIR OUT_DIR CHECKPOINT
"""

import sys

from sparkstream_kit import run, sinks, sources, spark_session, start

if __name__ == "__main__":
    folder, out, checkpoint = sys.argv[1:]
    with spark_session("s3-rows", profile="cluster") as spark:
        rows = sources.json(
            spark, folder, schema="number BIGINT", max_files_per_trigger=1
        )
        run(
            start(
                rows,
                sinks.files(out),
                name="rows",
                checkpoint=checkpoint,
                availableNow=True,
            )
        )
        [found] = (
            spark.read.parquet(out).selectExpr("count(*)", "sum(number)").collect()
        )
        sys.stdout.write("{} {}\n".format(*found))
