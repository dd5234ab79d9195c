"""Sources that come with Spark: generated rows, a socket and tables, without a query."""

from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest
from conftest import refusal
from pyspark.errors import AnalysisException

from sparkstream_kit import sources
from sparkstream_kit.sources import builtin


def test_a_limit_is_a_number_of_1_or_more():
    for number in (None, 1, 7):
        builtin.check_number("rows", number)
    for number in (0, -1):
        assert refusal(builtin.check_number, "rows", number) == (
            f"rows must be 1 or more, not {number}"
        )


def test_a_time_to_start_from_is_in_seconds_and_without_a_zone_in_utc():
    east = timezone(timedelta(hours=2))
    assert builtin.moment(datetime(1970, 1, 1, 0, 1)) == 60  # noqa: DTZ001 - without one
    assert builtin.moment(datetime(1970, 1, 1, 0, 1, tzinfo=UTC)) == 60
    assert builtin.moment(datetime(1970, 1, 1, 2, 1, tzinfo=east)) == 60


def test_a_time_to_start_from_may_not_be_yet_to_come(monkeypatch):
    now = datetime(2026, 1, 31, 10, 30, tzinfo=UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            assert tz is UTC
            return now

    monkeypatch.setattr(builtin, "datetime", Clock)
    assert builtin.moment(now) == 1_769_855_400
    later = now + timedelta(microseconds=1)
    assert refusal(builtin.moment, later) == (
        "starting is 2026-01-31 10:30:00.000001+00:00, which is yet to come; give"
        " starting='latest'"
    )


def test_generated_rows_have_a_time_and_a_number(spark):
    frame = sources.rate(spark, rows_per_second=2, numPartitions=1)
    assert frame.isStreaming
    assert frame.dtypes == [("timestamp", "timestamp"), ("value", "bigint")]
    assert refusal(sources.rate, spark, rows_per_second=0).endswith("not 0")
    assert "did you mean rows_per_second?" in refusal(
        sources.rate, spark, rowPerSecond=2
    )


@pytest.mark.classic_only("what Spark is told is seen in the JVM")
def test_generated_rows_come_one_a_second_unless_more_are_asked_for(spark):
    def rate(**more):
        frame = sources.rate(spark, **more)
        plan = frame._jdf.queryExecution().analyzed()  # noqa: SLF001
        return plan.extraOptions().get("rowsPerSecond")

    assert (rate(), rate(rows_per_second=7)) == ("1", "7")


@pytest.mark.parametrize(
    ("make", "argument", "wrong"),
    [
        (sources.rate, "rows_per_second", "2"),
        (partial(sources.socket_lines, host="a"), "port", "9999"),
        (sources.table, "name", 5),
    ],
    ids=["rate", "socket_lines", "table"],
)
def test_each_source_looks_at_its_arguments(spark, make, argument, wrong, request):
    call = request.node.callspec.id
    said = refusal(make, spark, **{argument: wrong})
    assert said.startswith(f"sources.{call}(): {argument} is ")


def test_a_socket_has_a_host_and_a_port_and_is_not_asked_yet(spark):
    for port in (1, 65535):
        frame = sources.socket_lines(spark, "no-such-host", port)
        assert frame.isStreaming
        assert frame.dtypes == [("value", "string")]
    frame = sources.socket_lines(spark, "10.0.0.1", 9999, includeTimestamp=True)
    assert frame.columns == ["value", "timestamp"]
    for port in (0, -1, 65536):
        assert refusal(sources.socket_lines, spark, "localhost", port) == (
            f"socket_lines(): port must be from 1 to 65535, not {port}"
        )
    for host in ("", " "):
        assert refusal(sources.socket_lines, spark, host, 9999) == (
            "socket_lines(): the host is empty; give its name or address"
        )
    assert refusal(sources.socket_lines, spark, "9999", 9999) == (
        "socket_lines(): host 9999 is a number, perhaps a port; give the host and then"
        " the port"
    )
    assert "did you mean" in refusal(
        sources.socket_lines, spark, "localhost", 9999, include_timestamp=True
    )


def test_a_table_is_looked_for_at_once(spark):
    spark.sql("CREATE TABLE of_builtin USING parquet AS SELECT 1 AS n")
    try:
        frame = sources.table(spark, "of_builtin")
        assert (frame.isStreaming, frame.columns) == (True, ["n"])
        assert "did you mean" in refusal(
            sources.table, spark, "of_builtin", max_files_per_trigger=1
        )
    finally:
        spark.sql("DROP TABLE of_builtin")
    for name in ("no_such", "no-such", "no.such.table", "a..b"):
        assert refusal(sources.table, spark, name) == (
            f"table {name} is not in the catalog; create it or correct the name"
            " (`my-table` needs backquotes)"
        )
    for name in ("", " "):
        assert refusal(sources.table, spark, name) == (
            "sources.table(): the name is empty; give a table, as table or schema.table"
        )


def test_another_error_of_a_table_is_left_to_spark(spark):
    spark.range(1).createOrReplaceTempView("static")
    try:
        with pytest.raises(AnalysisException, match="static"):
            sources.table(spark, "static")
    finally:
        spark.catalog.dropTempView("static")
