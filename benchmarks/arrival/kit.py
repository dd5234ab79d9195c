"""Rows from Kafka or files into a table, exactly once.

Run: kit.py kafka|files PLACE TOPIC delta|sql TARGET RATE SECONDS.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

from sparkstream_kit import get_session, schemas, sinks, sources, start
from sparkstream_kit.quarantine import good_rows, parse_json

source, place, topic, kind, target, *_ = sys.argv[1:]

if source == "files":
    Path(place).mkdir()
if kind == "sql":
    with sa.create_engine(target).begin() as made:
        for table in ("arrivals", "sparkstream_ledger"):
            made.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
        made.execute(
            sa.text("CREATE TABLE arrivals (id BIGINT PRIMARY KEY, amount INTEGER)")
        )
connectors = ["kafka"] if source == "kafka" else []
with (
    get_session("arrival", connectors=connectors) as spark,
    tempfile.TemporaryDirectory() as checkpoint,
):
    shape = schemas.from_ddl("id BIGINT NOT NULL, amount INT")
    if source == "kafka":
        rows = good_rows(
            parse_json(sources.kafka(spark, place, topic).select("value"), shape)
        )
    else:
        rows = sources.json(spark, place, schema=shape)
    sink = (
        sinks.delta(target) if kind == "delta" else sinks.sql_table(target, "arrivals")
    )
    query = start(rows, sink, name="arrival", checkpoint=checkpoint)
    clock = [sys.executable, str(Path(__file__).with_name("clock.py")), *sys.argv[1:]]
    subprocess.run(clock, check=True)
    query.stop()
