"""`sinks.cells`: rows as texts, without losing a value."""

from decimal import Decimal

import pytest

from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sinks.cells import cells

TWICE = "timestamp_micros(1792888200000000)"  # 2026-10-25 00:30 UTC, 02:30 in Berlin
AGAIN = "timestamp_micros(1792891800000000)"  # an hour later, and 02:30 in Berlin again


def test_values_are_texts_by_the_places_of_their_columns(spark):
    rows = spark.sql(
        "SELECT 1 AS `a.b`, 2.50BD AS n, 1e0 AS N, NULL AS v, array(1, NULL) AS `a`,"
        " true AS b, 'é' AS s, DATE'2026-01-31' AS d"
    )
    assert cells(rows) == [
        ("1", "2.50", "1.0", None, "[1, null]", "true", "é", "2026-01-31")
    ]
    assert cells(spark.sql("VALUES (1), (2) AS v(n)")) == [("1",), ("2",)]
    assert cells(rows.limit(0)) == []
    assert rows.first()["n"] == Decimal("2.50"), "the rows are as they were"


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Z"])
def test_times_in_utc_are_as_spark_casts_them(spark, zone):
    with in_force(spark, {"spark.sql.session.timeZone": zone}):
        rows = spark.sql(f"SELECT {TWICE} AS t, array({TWICE}) AS a")
        assert cells(rows) == [("2026-10-25 00:30:00", "[2026-10-25 00:30:00]")]


def test_times_in_another_zone_have_their_offset_also_inside(spark):
    with in_force(spark, {"spark.sql.session.timeZone": "Europe/Berlin"}):
        rows = spark.sql(
            f"SELECT {TWICE} AS t, {AGAIN} AS t, array({TWICE}, NULL) AS a,"
            f" map({AGAIN}, {TWICE}) AS m, struct(1 AS n, {AGAIN} AS t) AS s,"
            " CAST(NULL AS TIMESTAMP) AS v, TIMESTAMP_NTZ'2026-10-25 02:30:00' AS u,"
            " array(1) AS n, DATE'2026-10-25' AS d"
        )
        first, second = "2026-10-25 02:30:00+02:00", "2026-10-25 02:30:00+01:00"
        assert cells(rows) == [
            (
                first,
                second,
                f"[{first}, null]",
                f"{{{second} -> {first}}}",
                f"{{1, {second}}}",
                None,
                "2026-10-25 02:30:00",
                "[1]",
                "2026-10-25",
            )
        ]
