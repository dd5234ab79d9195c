"""What `sources.kafka` refuses before it asks anybody.

With a broker: tests/systems/test_kafka_source.py.
"""

import json
from datetime import UTC, datetime

import pytest
from conftest import cases, refusal
from support import sink_contract
from support.recorded import TOLD, progress

from sparkstream_kit import sinks, sources, start
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.progress import QuerySummary

REFUSED = cases("""
topics=()
    sources.kafka() takes topics or a pattern: sources.kafka(spark, servers, 'sales') or
pattern='sales-.*'
    sources.kafka() takes topics or a pattern:
starting='erliest'
    sources.kafka(): starting is the string 'erliest'; did you mean earliest?
starting=5
    sources.kafka(): starting is 5; give 'earliest', 'latest', a datetime, or for topics
    by name their offsets: {'sales': {0: 25}}
starting={0: 5}
    sources.kafka(): starting: 0 is 5; give each partition an offset, such as {0: 25}
starting={'sales': {}}
    starting: sales is empty; give each partition an offset
starting={'sales': {'0': 5}}
    starting: partition '0' of sales is 5; give the number of a partition
starting={'sales': {0: True}}
    starting: partition 0 of sales is True; give the number
starting={'sales': {0: -3}}
    starting: partition 0 of sales is -3; give the number
starting={'sales': {0: 'end'}}
    starting: partition 0 of sales is the string 'end'; give the
starting={'other': {0: 5}}
    sources.kafka(): starting names the topics other, and the source reads sales; give each of them
starting=datetime(9999, 1, 1, tzinfo=UTC)
    starting is 9999-01-01 00:00:00+00:00, which is yet
max_offsets_per_trigger=0
    max_offsets_per_trigger must be 1 or more, not 0
startingOffsets='latest'
    sources.kafka(): startingOffsets is called starting here; give starting=…
subscribe='sales'
    sources.kafka(): subscribe is called topics here; give topics=…
**{'kafka.bootstrap.servers': 'a:1'}
    kafka.bootstrap.servers is called servers here; give servers=…
**{'kafka.ssl.keystore.key': 'hush'}
    Spark would show kafka.ssl.keystore.key in its plans; put the key
startin='latest'
    unknown keyword of sources.kafka() startin; did you mean starting?
""")


@pytest.mark.parametrize("given", REFUSED)
def test_what_cannot_be_read_is_one_line(spark, given):
    more = eval(f"dict({given})", {"UTC": UTC, "datetime": datetime})  # noqa: S307 - as a user would type it
    line = refusal(
        sources.kafka, spark, **{"servers": "localhost:9092", "topics": "sales"} | more
    )
    assert REFUSED[given] in line
    assert "hush" not in line


def test_what_is_missing_of_spark_is_one_line(spark, tmp_path):
    with pytest.raises(
        InvalidInputError,
        match="Spark has no connector kafka; launch with spark-submit",
    ):
        sources.kafka(spark, "localhost:9092", "sales")
    rows = sources.rate(spark).select("value")
    said = refusal(
        start,
        rows,
        sinks.kafka("localhost:9092", "sales"),
        name="q",
        checkpoint=tmp_path / "ck",
    )
    assert said.startswith("Spark has no connector kafka; launch with spark-submit")


# Spark 4.2 and later, and earlier ones
@pytest.mark.parametrize("form", [json.dumps, str])
def test_the_summary_adds_up_how_many_records_its_sources_are_behind(form):
    def source(average, *partitions):
        offsets = {"sales": {str(number): end for number, end in enumerate(partitions)}}
        metrics = {"avgOffsetsBehindLatest": average, "maxOffsetsBehindLatest": "9"}
        return {"endOffset": form(offsets), "metrics": metrics}

    files = {"endOffset": form({"logOffset": 3}), "metrics": {}}
    found = summary([source("3.3333333333333335", 7, 8, 9), files, source("2.5", 1, 1)])
    assert found.records_behind == 10 + 5
    assert ", 15 records behind, " in str(found)
    assert summary([files]).records_behind is None
    assert "behind" not in str(summary([files]))


def summary(sources):
    """Return the summary of a query of one batch."""
    made = [TOLD[0]["sources"][0] | source for source in sources]
    return QuerySummary("totals", "id").with_batch(progress(sources=made))


def test_a_sink_is_given_no_key_either_that_spark_would_show():
    said = refusal(
        sinks.kafka, "localhost:9092", "sales", **{"kafka.ssl.keystore.key": "hush"}
    )
    assert "sinks.kafka(): Spark would show kafka.ssl.keystore.key in" in said


def test_the_manners_of_its_sink_are_those_of_every_sink(spark, tmp_path):
    sink_contract.manners(
        "kafka", spark, sinks.kafka("localhost:1", "t"), tmp_path / "ckpt"
    )
