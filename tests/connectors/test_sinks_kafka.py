"""`sinks.kafka` without a broker: the row as JSON, as another reader has it."""

import base64
import datetime as dt
import json
import math
import struct
from decimal import Decimal
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import types as T
from support import rows

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.connectors.kafka import transactions
from sparkstream_kit.connectors.kafka.sink import _TopicTarget

TARGET = _TopicTarget("localhost:9092", "t", None, None, None, None, None, (), {})
AS_TEXT = ("INTERVAL", "VARIANT", "MAP", "TIME(")  # whose texts are Spark's own


def as_json(value, kind):
    """Return a value as Python's reader of JSON has it, by the promise of the docstring."""
    if value is None:
        return None
    if isinstance(kind, T.ArrayType):
        return [as_json(each, kind.elementType) for each in value]
    if isinstance(kind, T.StructType):
        return {
            field.name: as_json(each, field.dataType)
            for field, each in zip(kind, value, strict=True)
        }
    if isinstance(kind, T.FloatType | T.DoubleType) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(kind, T.BinaryType):
        return base64.b64encode(value).decode()
    return value


def read(text, kind):  # noqa: PLR0911 - one for each type
    """Return what JSON has, with times as Python reads them."""
    if text is None:
        return None
    if isinstance(kind, T.ArrayType):
        return [read(each, kind.elementType) for each in text]
    if isinstance(kind, T.StructType):
        return {field.name: read(text[field.name], field.dataType) for field in kind}
    if isinstance(kind, T.TimestampType):
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    if isinstance(kind, T.TimestampNTZType):
        return dt.datetime.fromisoformat(text)
    if isinstance(kind, T.DateType):
        return dt.date.fromisoformat(text)
    if isinstance(kind, T.DecimalType):
        return Decimal(text)
    if isinstance(kind, T.FloatType) and isinstance(text, Decimal):
        # The digits are those of 32 bits
        return struct.unpack("f", struct.pack("f", text))[0]
    if isinstance(kind, T.DoubleType) and isinstance(text, Decimal):
        return float(text)
    return text


@pytest.mark.fast("Europe/Berlin")
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_each_value_is_in_the_json_of_its_record(spark, zone):
    for kind in (kind for kind in rows.ALL if not kind.ddl.startswith(AS_TEXT)):
        made = rows.corners(kind)
        with in_force(spark, {"spark.sql.session.timeZone": zone}):
            frame = made.frame(spark)
            found = [row.value for row in TARGET.records(frame).collect()]
        [field] = frame.schema
        texts = [json.loads(value, parse_float=Decimal)["v"] for value in found]
        expected = [as_json(row[0], field.dataType) for row in made.rows]
        assert repr([read(text, field.dataType) for text in texts]) == repr(expected), (
            kind
        )


def test_a_session_with_the_patterns_of_spark_2_is_refused(spark):
    rows_to_send = spark.createDataFrame([("a",)], "value STRING")
    with in_force(spark, {"spark.sql.legacy.timeParserPolicy": "LEGACY"}):
        said = refusal(TARGET.check, rows_to_send)
    assert said.startswith("sinks.kafka(): the session's spark.sql.legacy.timeParser")


def test_a_ledger_that_is_the_topic_itself_is_refused():
    line = refusal(sinks.kafka, "localhost:9092", "t", exactly_once=True, ledger="t")
    assert (
        line
        == "sinks.kafka(): ledger is the topic t itself; give another topic, or leave"
        " it out"
    )


def test_a_topic_whose_name_leaves_no_room_for_that_of_the_ledger_asks_for_one():
    topic = "t" * 240
    line = refusal(sinks.kafka, "localhost:9092", topic, exactly_once=True)
    assert line.endswith(
        "-ledger has a name of 259 characters, and Kafka takes 249 at most; give"
        " ledger= a shorter one"
    )
    assert (
        sinks.kafka("localhost:9092", topic, exactly_once=True, ledger="l").kind
        == "kafka"
    )


WRONG = [  # a partition, headers and a topic of a row, and what is said of them
    (-1, None, None, "a row has partition -1; give 0 or more"),
    (
        0,
        [{"key": "a", "value": b""}, None],
        None,
        "a row has a header without a key; give each header a key",
    ),
    (
        0,
        [{"key": None, "value": b""}],
        "other",
        "a row has a header without a key; give each header a key",
    ),
    (0, [], "", "a row goes to a topic without a name; give its name, or null for t"),
    (
        0,
        None,
        "ledger",
        "a row goes to topic ledger, which is the ledger; leave it out",
    ),
]


def test_a_row_that_no_producer_takes_is_told():
    target = transactions.TransactionalTarget(
        "h:1", "t", "ledger", False, {}, lambda _: None, lambda rows: rows
    )
    writer = object.__new__(transactions._TransactionWriter)  # noqa: SLF001 - without brokers
    sent = list[Any]()
    writer.__dict__ |= {"_target": target, "_topics": set(), "_send": sent.extend}
    for partition, headers, topic, said in WRONG:
        row = (b"v", b"k", partition, headers, topic)
        assert refusal(writer._send_rows, [row]).startswith(f"topic t of h:1: {said}")
    writer._send_rows([(b"v", None, None, [{"key": "", "value": None}], None)])
    assert sent == [(b"v", None, None, [{"key": "", "value": None}], "t")]
