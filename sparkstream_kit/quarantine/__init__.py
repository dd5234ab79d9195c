"""Parse lines of text into typed good rows, and bad rows with a reason; nothing is dropped or changed.

`spark.readStream.csv` misses most bad rows: it does not look at columns that the query does not use, rounds
decimals to the scale of the schema, and turns what does not parse into null. `spark.readStream.json` takes
the last of two fields of one name, ignores what follows an object on its line, and makes a number a string.

parsed = quarantine.parse_csv(sources.text(spark, "in/"), schema)
good, bad = sinks.batch_files("out/good"), sinks.batch_files("out/bad")
sink = sinks.fan_out(good.taking(quarantine.good_rows), bad.taking(quarantine.bad_rows))  # both in one batch
"""

from sparkstream_kit.quarantine.avro import parse_avro
from sparkstream_kit.quarantine.lines import parse_csv, parse_json, parse_log
from sparkstream_kit.quarantine.rows import BYTES, FILE, RAW, REASON, bad_rows, expect, good_rows, mark_bad

__all__ = [
    "BYTES",
    "FILE",
    "RAW",
    "REASON",
    "bad_rows",
    "expect",
    "good_rows",
    "mark_bad",
    "parse_avro",
    "parse_csv",
    "parse_json",
    "parse_log",
]
