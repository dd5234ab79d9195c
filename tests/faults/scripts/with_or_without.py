"""Two queries with state over a folder of JSON, by plain PySpark or by the kit.

Both use the same checkpoints.

Run: python with_or_without.py plain|kit FOLDER [stays]

Totals by key go into the table `totals` of FOLDER/totals.db, and the first row of each
id into FOLDER/first.
"""

import sqlite3
import sys
import threading
from pathlib import Path

from pyspark.sql import functions as F

from sparkstream_kit import get_session, run, sinks, start

TABLE = (
    "CREATE TABLE IF NOT EXISTS totals (key VARCHAR(9) NOT NULL PRIMARY KEY, rows"
    " BIGINT, total BIGINT)"
)


def main(how, root, *, stays):
    """Run both queries to the end of their input; with `stays` wait there to be killed."""
    spark = get_session("with-or-without", profile="test")
    reader = spark.readStream.schema("id BIGINT, key STRING, n BIGINT").option(
        "maxFilesPerTrigger", 1
    )
    rows = reader.json(str(root / "in"))
    totals = rows.groupBy("key").agg(
        F.count("*").alias("rows"), F.sum("n").alias("total")
    )
    (with_the_kit if how == "kit" else plainly)(
        totals, rows.dropDuplicates(["id"]), root
    )
    if stays:
        threading.Event().wait()
    spark.stop()


def plainly(totals, first, root):
    """As Spark's guide has it."""

    def write(batch, _batch_id):
        found = [tuple(row) for row in batch.collect()]
        with sqlite3.connect(root / "totals.db") as connection:
            connection.execute(TABLE)
            connection.executemany(
                "INSERT OR REPLACE INTO totals VALUES (?, ?, ?)", found
            )

    to_table = totals.writeStream.foreachBatch(write).outputMode("update")
    to_files = first.writeStream.format("json").option("path", str(root / "first"))
    for name, writer in (("totals", to_table), ("first", to_files)):
        kept = writer.option("checkpointLocation", str(root / f"ckpt-{name}"))
        kept.trigger(availableNow=True).start().awaitTermination()


def with_the_kit(totals, first, root):
    """On the same checkpoints, into the same table and folder."""
    table = sinks.sql_table(
        f"sqlite:///{root}/totals.db",
        "totals",
        how="upsert",
        keys=["key"],
        take_over=True,
    )
    files = sinks.files(root / "first", format="json")
    for name, frame, sink, mode in (
        ("totals", totals, table, "update"),
        ("first", first, files, "append"),
    ):
        run(
            start(
                frame,
                sink,
                name=name,
                mode=mode,
                checkpoint=root / f"ckpt-{name}",
                availableNow=True,
            )
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), stays="stays" in sys.argv)
