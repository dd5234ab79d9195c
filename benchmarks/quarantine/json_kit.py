"""Orders as lines of JSON through the kit, to Parquet; bad lines are told from good ones.

Run: json_kit.py FOLDER flat|nested
"""

import json
import sys
import tempfile

from pyspark.sql import functions as F

from sparkstream_kit import get_session, quarantine, run, sinks, sources, start

ORDERS = {
    "flat": """id BIGINT, user STRING, product STRING, amount DOUBLE, ok BOOLEAN,
        time TIMESTAMP, note STRING""",
    "nested": """id BIGINT, time TIMESTAMP, user STRUCT<name: STRING, age: INT>,
        items ARRAY<STRUCT<product: STRING, price: DOUBLE, count: INT>>""",
}

folder, which = sys.argv[1:]
with get_session("quarantine") as spark, tempfile.TemporaryDirectory() as scratch:
    print("session is up", flush=True)
    parsed = quarantine.parse_json(sources.text(spark, folder), ORDERS[which])
    query = start(
        quarantine.good_rows(parsed),
        sinks.files(f"{scratch}/orders"),
        name="orders",
        checkpoint=f"{scratch}/checkpoint",
        availableNow=True,
    )
    run(query)
    written = spark.read.parquet(f"{scratch}/orders")
    counts = written.agg(F.count("*"), F.sum("id")).collect()
    print(json.dumps({"rows": [list(row) for row in counts]}), flush=True)
