"""Records of Kafka through the kit: their latency, their sum, or a copy of them.

Run: kit.py SERVERS FROM TO latency|sum|copy [MODE COUNT|row_id|exactly_once]
"""

import json
import sys
import tempfile
from typing import Any

from pyspark.sql import functions as F

from sparkstream_kit import get_session, quarantine, run, schemas, sinks, sources, start

servers, given, made, what, *how = sys.argv[1:]
with (
    get_session("records", connectors=["kafka"]) as spark,
    tempfile.TemporaryDirectory() as checkpoint,
):
    print("session is up", flush=True)
    records = sources.kafka(spark, servers, given)
    once: dict[str, Any] = {
        "name": "records",
        "checkpoint": checkpoint,
        "availableNow": True,
    }
    if what == "latency":
        from travel import milliseconds  # type: ignore[import-not-found]

        mode, count = how
        trigger: dict[str, Any] = (
            {"realTime": "5 seconds"}
            if mode == "realTime"
            else {"processingTime": "0 seconds"}
        )
        # The key is each record's own: no shuffle.
        sink = sinks.kafka(servers, made, key="key", value="value", row_id=["key"])
        query = start(
            records,
            sink,
            name="records",
            mode="update",
            checkpoint=checkpoint,
            **trigger,
        )
        took = milliseconds(servers, given, made, int(count))
        query.stop()
        result: Any = {"rows": len(took), "milliseconds": took}
    elif what == "sum":
        rows = quarantine.parse_json(
            records.select("value"), schemas.from_ddl("id INT NOT NULL, amount INT")
        )
        total = quarantine.good_rows(rows).agg(
            F.count("*").alias("n"), F.sum("amount").alias("amount")
        )
        run(start(total, sinks.latest("total"), mode="complete", **once))
        result = {"rows": [list(row) for row in spark.table("total").collect()]}
    else:
        ways: dict[str, dict[str, Any]] = {
            "": {},
            "row_id": {"row_id": ["topic", "partition", "offset"]},
            "exactly_once": {"exactly_once": True},
        }
        more = ways[how[0] if how else ""]
        run(
            start(
                records,
                sinks.kafka(servers, made, key="key", value="value", **more),
                **once,
            )
        )
        result = {
            "rows": (
                spark.read.format("kafka")
                .options(**{"kafka.bootstrap.servers": servers, "subscribe": made})
                .load()
                .count()
            )
        }
print(json.dumps(result))
