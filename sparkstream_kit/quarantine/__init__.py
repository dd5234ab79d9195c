"""Thin: parse lines of text into typed good rows, and bad rows with a reason; nothing is dropped.

`spark.readStream.csv` misses most bad rows: it does not parse columns that the query
does not use, rounds decimals to the scale of the schema, and turns a value that does
not parse into null. `spark.readStream.json` keeps the last of two fields with the same
name, ignores any text after the object on its line, and reads a number as a string
where the schema has a string.

`parse_csv`, `parse_json`, `parse_log`, `parse_avro` and `parse_protobuf` add a column
`_reason` to the parsed columns: null in a good row, else the reason why the row is bad.
`expect` and `mark_bad` find further bad rows by rules of your own, or by those of a
data contract (`rules_of`). `good_rows` and `bad_rows` select one kind of rows, and
`split` writes both kinds in one query:

parsed = quarantine.parse_csv(sources.text(spark, "in/"), schema)
good, bad = sinks.batch_files("out/good"), sinks.batch_files("out/bad")
sink = quarantine.split(good, bad)  # both in one batch
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import attributes

if TYPE_CHECKING:  # the names of this package
    from sparkstream_kit.quarantine.avro import parse_avro as parse_avro
    from sparkstream_kit.quarantine.contracts import rules_of as rules_of
    from sparkstream_kit.quarantine.lines import parse_csv as parse_csv
    from sparkstream_kit.quarantine.lines import parse_json as parse_json
    from sparkstream_kit.quarantine.protobuf import parse_protobuf as parse_protobuf
    from sparkstream_kit.quarantine.rows import BYTES as BYTES
    from sparkstream_kit.quarantine.rows import FILE as FILE
    from sparkstream_kit.quarantine.rows import RAW as RAW
    from sparkstream_kit.quarantine.rows import REASON as REASON
    from sparkstream_kit.quarantine.rows import bad_rows as bad_rows
    from sparkstream_kit.quarantine.rows import expect as expect
    from sparkstream_kit.quarantine.rows import good_rows as good_rows
    from sparkstream_kit.quarantine.rows import mark_bad as mark_bad
    from sparkstream_kit.quarantine.rows import split as split
    from sparkstream_kit.quarantine.weblogs import parse_log as parse_log

__getattr__ = attributes(__name__)
