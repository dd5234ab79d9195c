"""Queries that write real checkpoints for the tests: sums by key of small files."""

import json
import os
import uuid

from pyspark.sql import functions as F

from sparkstream_kit._internal.spark.session import in_force

Batches = list[tuple[int, list[list[str]]]]

SCHEMA = "key STRING, n INT, time TIMESTAMP"
ROCKSDB = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "false",
}
CHANGELOG = {
    **ROCKSDB,
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
}
FORMAT_V2 = {**CHANGELOG, "spark.sql.streaming.stateStore.checkpointFormatVersion": "2"}


def land(folder, *numbers):
    """Write a file of three rows for each number; they are read in this order, one a batch."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        file = folder / f"{number} é%.json"
        rows = [
            {
                "key": "abc"[i],
                "n": 10 * number + i,
                "time": f"2026-01-01 00:0{number}:00",
            }
            for i in range(3)
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.utime(file, (number, number))


def noted(checkpoint, **more):
    """Write the kit's note of the query into its checkpoint; return the file."""
    file = checkpoint / "sparkstream-kit" / "query.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        json.dumps({"name": "totals", "mode": "complete", "fingerprint": "", **more})
    )
    return file


def contents(folder):
    """Return all that is below a folder: files with what is in them, folders with None."""
    return {
        each: each.read_bytes() if each.is_file() else None
        for each in folder.rglob("*")
    }


def stream(spark, folder):
    return (
        spark.readStream.schema(SCHEMA)
        .option("maxFilesPerTrigger", 1)
        .json(str(folder))
    )


def totals(spark, folder):
    return stream(spark, folder).groupBy("key").agg(F.sum("n"))


def run(frame, checkpoint, mode="update", **conf):
    """Run a query until its input is done; return its sink's batches with their rows."""
    out = checkpoint.with_name(f"out-{uuid.uuid4()}")
    out.mkdir()

    def write(batch, batch_id):
        rows = sorted([str(value) for value in row] for row in batch.collect())
        (out / f"{len(list(out.iterdir())):03}").write_text(
            json.dumps([batch_id, rows])
        )

    with in_force(frame.sparkSession, conf):
        writer = (
            frame.writeStream.foreachBatch(write)
            .outputMode(mode)
            .trigger(availableNow=True)
        )
        writer.option("checkpointLocation", str(checkpoint)).start().awaitTermination()
    return [
        (batch, rows)
        for batch, rows in (
            json.loads(file.read_text()) for file in sorted(out.iterdir())
        )
    ]
