"""Micro-batches of a few rows through the kit, and how long each took.

Run: kit.py sum|stateless PROFILE FOLDER BATCHES
"""

import json
import sys
import tempfile

from sparkstream_kit import get_session, run, sinks, sources, start

SALES = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct DOUBLE, Rate DOUBLE,
    SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount INT, ProfitMargin DOUBLE"""

kind, profile, folder, batches = sys.argv[1:]
noop = sinks.SparkSink(
    kind="noop",
    modes=("append", "update"),
    promise="none",
    configure=lambda writer: writer.format("noop"),
)
with (
    get_session("batch", profile=profile) as spark,
    tempfile.TemporaryDirectory() as checkpoint,
):
    sales = sources.csv(
        spark, folder, schema=SALES, max_files_per_trigger=1, escape='"'
    )
    frame, mode = sales.where("SaleAmount > 0"), "append"
    if kind == "sum":
        frame, mode = sales.groupBy("ProductKey").agg({"SaleAmount": "sum"}), "update"
    query = start(frame, noop, name="batch", mode=mode, checkpoint=checkpoint)
    run(query, max_batches=int(batches))
    done = query.recentProgress
print(
    json.dumps(
        {
            "rows": sum(progress.numInputRows for progress in done),
            "milliseconds": [
                progress.durationMs["triggerExecution"] for progress in done
            ],
        }
    )
)
