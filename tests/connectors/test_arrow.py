"""A batch on its way through the driver: every value as it was, and each row once.

Memory holds only a part of it.
"""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import refusal
from pyspark.sql import functions as F

from sparkstream_kit._internal.spark.session import in_force, scratch_folder
from sparkstream_kit.connectors import _arrow as arrow
from sparkstream_kit.errors import KitError

# One row a value; a missing one is null.
VALUES = {
    "BINARY": ["X'00FF'", "X''"],
    "BOOLEAN": ["true", "false"],
    "TINYINT": ["-128", "127"],
    "SMALLINT": ["-32768", "32767"],
    "INT": ["-2147483648", "2147483647"],
    "BIGINT": ["-9223372036854775808", "9223372036854775807"],
    "FLOAT": ["'NaN'", "'-Infinity'", "1.17549435E-38"],
    "DOUBLE": ["'NaN'", "'Infinity'", "4.9E-324", "-0.0"],
    "DECIMAL(9,2)": ["-9999999.99", "0.01"],
    "DECIMAL(38,18)": ["'-99999999999999999999.999999999999999999'", "1E-18"],
    "STRING": ["''", "'a\\0b'", "'\\t\\n\\\\'", "X'FF41'", "'東京'"],
    "DATE": [
        "'-4712-01-01'",
        "'0000-02-29'",
        "'1582-10-10'",
        "'1970-01-01'",
        "'+999999-12-31'",
    ],
    "TIMESTAMP": [
        "'-4712-01-01 00:00:00'",
        "'1582-10-10 12:00:00.000001'",
        "'+290000-12-31 23:59:59.999999'",
    ],
    "TIMESTAMP_NTZ": [
        "'0000-02-29 00:00:00'",
        "'1582-10-10 12:00:00.000001'",
        "'+290000-12-31 23:59:59.999999'",
    ],
}
OLD = {  # other ways of Parquet to write times, which shift some of them
    "spark.sql.parquet.outputTimestampType": "INT96",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "LEGACY",
    "spark.sql.parquet.int96RebaseModeInWrite": "LEGACY",
    "spark.sql.parquet.writeLegacyFormat": "true",
    "spark.sql.session.timeZone": "Asia/Kolkata",
}
WAYS = {"files": arrow.in_files, "blobs": arrow.in_blobs}


def everything(spark):
    longest = max(map(len, VALUES.values()))
    made = [
        "SELECT "
        + ", ".join(
            f"CAST({[*texts, *['NULL'] * longest][row]} AS {kind})"
            for kind, texts in VALUES.items()
        )
        for row in range(longest + 1)
    ]
    # Names that Spark would look into, and twice the same.
    return spark.sql(" UNION ALL ".join(made)).toDF(
        *(["a.b", "a.b", "", "`", "x y=1"] * 3)[: len(VALUES)]
    )


@pytest.fixture
def spark_of_old_settings(spark):
    with in_force(spark, OLD):
        yield spark


def values(parts):
    """All values, which no Python type has to hold: times as numbers, texts as bytes."""
    return [
        row for part in parts for row in zip(*map(plain, part.columns), strict=True)
    ]


def plain(column):
    kind, shown = column.type, column
    if pa.types.is_timestamp(kind):
        assert kind.unit == "us"
        kind, shown = f"timestamp {kind.tz is not None}", column.cast(pa.int64())
    elif pa.types.is_date(kind):
        shown = column.cast(pa.int32())
    elif pa.types.is_string(kind) or pa.types.is_decimal(kind):
        shown = column.cast(pa.binary() if pa.types.is_string(kind) else pa.string())
    return [(str(kind), repr(value)) for value in shown.to_pylist()]


@pytest.mark.slow
def test_all_values_are_what_they_were_by_each_way(spark_of_old_settings):
    found = {}
    for name, way in WAYS.items():
        with way(everything(spark_of_old_settings)) as parts:
            found[name] = values(parts)
    assert found["files"] == found["blobs"]
    assert len(found["files"]) == 1 + max(map(len, VALUES.values()))


@pytest.mark.fast("files")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_batch_of_many_parts_is_whole_and_in_order(spark, way, monkeypatch):
    monkeypatch.setattr(arrow, "_PART", 10_000)
    kept = set(Path(str(scratch_folder(spark))).iterdir())
    limited = {"spark.sql.files.maxRecordsPerFile": "9000"}  # several files a partition
    with in_force(spark, limited), way(spark.range(0, 250_000, 1, 12)) as parts:
        found = list(parts)
    assert set(Path(str(scratch_folder(spark))).iterdir()) == kept
    assert len(found) > 12
    assert [number for part in found for number in part[0].to_pylist()] == list(
        range(250_000)
    )


@pytest.mark.fast("files")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_memory_holds_a_part_of_a_partition(spark, way, monkeypatch):
    monkeypatch.setattr(arrow, "_PART", 1_000_000)
    # 20 MB
    long = spark.range(0, 300_000, 1, 1).select(F.sha2(F.col("id").cast("string"), 256))
    with way(long) as parts:
        before = pa.total_allocated_bytes()
        assert max(pa.total_allocated_bytes() - before for _ in parts) < 4_000_000


@pytest.mark.fast("files")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_batch_without_rows(spark, way):
    with way(spark.range(0)) as parts:
        assert not list(parts)
    with way(spark.range(5, numPartitions=3).where("id > 7")) as parts:
        assert not [part for part in parts if part.num_rows]


@pytest.mark.fast("files")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_parts_are_read_again_as_a_transaction_is_tried_again(spark, way, monkeypatch):
    monkeypatch.setattr(arrow, "_PART", 1000)
    with way(spark.range(0, 2000, 1, 2)) as parts:
        next(iter(parts))
        for _ in range(2):
            assert [number for part in parts for number in part[0].to_pylist()] == list(
                range(2000)
            )


def test_a_temporary_folder_that_was_cleaned_away_is_made_again(spark):
    shutil.rmtree(str(scratch_folder(spark)))
    with arrow.in_files(spark.range(3)) as parts:
        assert sum(part.num_rows for part in parts) == 3
    assert Path(str(scratch_folder(spark))).stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_nested_columns_come_too(spark):
    nested = spark.range(2).select(
        F.struct("id").alias("s"), F.array("id").alias("a"), F.lit(None).alias("n")
    )
    with arrow.kept(nested) as parts:
        assert [row for part in parts for row in part.to_pylist()] == [
            {"c0": {"id": number}, "c1": [number], "c2": None} for number in range(2)
        ]


@pytest.mark.slow
def test_rows_that_spark_had_to_compute_again_are_not_taken_for_the_first_ones(spark):
    def now(parts):
        import time

        import pyarrow as pa

        for part in parts:
            yield pa.RecordBatch.from_arrays(
                [pa.array([time.time_ns()] * part.num_rows)], ["at"]
            )

    with arrow.in_blobs(spark.range(5).mapInArrow(now, "at LONG")) as parts:
        spark.catalog.clearCache()  # as when a worker goes with what it kept
        with pytest.raises(KitError, match="a worker lost rows of this batch"):
            list(parts)


def test_keys_that_no_join_can_match_are_refused():
    rows = pa.table({"window": [{"start": 1, "end": 2}], "rows": [5]})
    arrow.check_keys(rows, "table t", ["rows"], 0)
    said = refusal(arrow.check_keys, rows, "table t", ["window"], 0)
    assert said.startswith(
        "table t: key window is a struct<start: int64, end: int64>, by which no rows"
        " are "
    )


@pytest.mark.slow
def test_no_rows_are_in_files_where_spark_encrypts_what_it_puts_aside(spark):
    def holds_files():
        with arrow.kept(spark.range(5)) as parts:
            assert sum(part.num_rows for part in parts) == 5
            return any(Path(str(scratch_folder(spark))).glob("batch-*"))

    conf: Any = spark._jsparkSession.sessionState().conf()  # noqa: SLF001 - else a setting of the launch alone
    assert holds_files()
    conf.setConfString("spark.io.encryption.enabled", "TRUE")  # which Spark takes, too
    try:
        assert not holds_files()
    finally:
        conf.unsetConf("spark.io.encryption.enabled")
