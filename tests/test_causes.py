"""A failed query's last line names what the user has: the file, the column, the record."""

import gzip
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import pytest
from pyspark.sql import functions as F

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.errors import KitError

ROWS = "k STRING, n INT"
CASES: dict[
    str, tuple[Callable[..., Any], str]
] = {}  # what fails, and a pattern of the words that a user needs


def case(words):
    """Note a function that makes a query, or a query, its sink and more arguments of `start`."""

    def note(make):
        CASES[make.__name__] = make, words
        return make

    return note


def put(home, name, data):
    """Write a file of the input, and return the input's folder."""
    file = home / "in" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(home / "in")


def lines(spark, home):
    return sources.text(spark, put(home, "a.txt", "a\nb\n"))


def rows(spark, home, text="a,1\nb,2\n", **options):
    return sources.csv(spark, put(home, "a.csv", text), schema=ROWS, **options)


def torn(spark, home):
    packed = gzip.compress(os.urandom(50_000).hex().encode())
    return sources.text(spark, put(home, "a.txt.gz", packed[:20_000]))


def raising(error):
    """Return a function that raises `error` with the value that it is called with."""

    def fail(value):
        raise error(f"no such shop: {value}")

    return fail


@case(
    r"EOFException: Unexpected end of input stream \(.* file file:/+\S+/in/a\.txt\.gz\)"
)
def a_torn_archive(spark, home):
    return torn(spark, home)


@case(
    r"EOFException: Unexpected end of input stream \(.* file file:/+\S+/in/a\.txt\.gz\)"
)
def a_torn_archive_in_a_batch(spark, home):
    return torn(spark, home), sinks.batch_files(home / "out")


@case(
    r".*column: \[n\], physicalType: INT64.* file file:/+\S+/in/part-0\S+\.parquet\. .*"
)
def a_parquet_column_of_another_type(spark, home):
    spark.range(3).withColumnRenamed("id", "n").write.parquet(str(home / "in"))
    return sources.parquet(spark, str(home / "in"), schema="n STRING")


@case(r"ChecksumException: Checksum error: file:/+\S+/in/part-0\S+\.parquet at 0 .*")
def a_file_that_changed_under_its_checksum(spark, home):
    spark.range(3).withColumnRenamed("id", "n").coalesce(1).write.parquet(
        str(home / "in")
    )
    for file in (home / "in").glob("part-*"):
        file.write_bytes(file.read_bytes().replace(b"n", b"m", 1))
    return sources.parquet(spark, str(home / "in"), schema="n LONG")


@case(
    r".*Failed to cast value 'A12' to data type \"INT\" for partition column `store`.*"
)
def a_folder_whose_name_is_no_number(spark, home):
    frame = sources.csv(
        spark, put(home, "store=7/a.csv", "a,1\n"), schema=f"{ROWS}, store INT"
    )
    put(home, "store=A12/a.csv", "a,1\n")
    return frame


@case(r"\S+: file:/+\S+/in/a\.parquet is not a Parquet file\. .*")
def a_file_that_is_no_parquet(spark, home):
    return sources.parquet(
        spark, put(home, "a.parquet", b"PAR1 nothing PAR0"), schema="n INT"
    )


@case(
    r"FileNotFoundException: File file:/+\S+/in/a\.txt does not exist \(in write,"
    r" \S+test_causes\.py line \d+\)"
)
def a_file_that_goes_while_it_is_read(spark, home):
    def write(batch, _batch_id):
        (home / "in" / "a.txt").unlink(missing_ok=True)
        batch.count()

    return lines(spark, home), sinks.foreach_batch(write)


@case(r"SparkException: Python worker exited unexpectedly \(crashed\)\. .*")
def a_worker_that_is_killed(spark, home):
    return lines(spark, home).select(
        F.udf(lambda _: os.kill(os.getpid(), signal.SIGKILL))("value")
    )


@case(r".*\[DIVIDE_BY_ZERO\] .*; SQL: 1 / length\(substr\(value, 9\)\)")
def a_batch_that_divides_by_zero(spark, home):
    def write(batch, _batch_id):
        batch.selectExpr("1 / length(substr(value, 9))").collect()

    return lines(spark, home), sinks.foreach_batch(write)


@case(r".*\[CAST_INVALID_INPUT\] The value 'a' .*; SQL: cast\(value as int\)")
def a_cast_that_fails(spark, home):
    return lines(spark, home).selectExpr("cast(value as int)")


@case(
    r".*INT64, logicalType: timestamp; if they are nanoseconds, .*"
    r" coerce_timestamps='us'; .*a\.parquet.*"
)
def times_in_nanoseconds(spark, home):
    nanoseconds = pd.DataFrame(
        {"t": pd.Series([0], dtype="datetime64[ns]")}
    ).to_parquet()
    return sources.parquet(
        spark, put(home, "a.parquet", nanoseconds), schema="t TIMESTAMP"
    )


@case(r"bad shop a")
def an_error_raised_in_sql(spark, home):
    return rows(spark, home).selectExpr(
        "if(n > 0, raise_error(concat('bad shop ', k)), k) AS k"
    )


@case(r"database sqlite\S*/t\.db: database is locked")
def a_table_that_is_locked(spark, home):
    file, held = str(home / "t.db"), []

    def lock(_batch, _batch_id):
        held.append(
            sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        )
        held[0].execute("BEGIN EXCLUSIVE")

    sink = sinks.sql_table(f"sqlite:///{home}/t.db?timeout=0", "t")
    return rows(spark, home), sinks.fan_out(sinks.foreach_batch(lock), sink)


@case(
    r"batch_files: folder /sys/out cannot be used: Operation not permitted; correct the"
    r" path, or its .*"
)
def a_folder_that_the_kit_may_not_make(spark, home):
    return lines(spark, home), sinks.batch_files("/sys/out")


@case(
    r"the input had the columns k,n when the query started, and has k,n,day now: .*"
    r" start the query .*"
)
def a_folder_that_adds_a_column(spark, home):
    frame = rows(spark, home)
    shutil.rmtree(home / "in")
    put(home, "day=01/a.csv", "a,1\n")
    return frame


@case(r"checkpoint \S+/ckpt is damaged: .*/state/0/\d+/\d+\.\w+ .*")
def a_state_that_is_damaged(spark, home):
    sink, more = (
        sinks.foreach_batch(lambda batch, _: batch.foreach(print)),
        {"mode": "update"},
    )
    run(begin(rows(spark, home).groupBy("k").count(), sink, home, **more))
    for file in (home / "ckpt" / "state").rglob("[0-9]*.*"):
        file.write_bytes(b"nothing")
    put(home, "b.csv", "a,1\n")
    return rows(spark, home).groupBy("k").count(), sink, more


def begin(frame, sink, home, **more):
    return start(
        frame, sink, name="failing", checkpoint=home / "ckpt", availableNow=True, **more
    )


@pytest.mark.fast("a_torn_archive", "a_cast_that_fails", "a_batch_that_divides_by_zero")
@pytest.mark.parametrize("what", CASES)
def test_the_line_of_a_failure_names_what_the_user_has(spark, tmp_path, what):
    make, words = CASES[what]
    with pytest.raises(Exception, match=r".") as failed:
        made = make(spark, tmp_path)
        made = (
            made if isinstance(made, tuple) else (made, sinks.files(tmp_path / "out"))
        )
        frame, sink, more = (*made, {})[:3]
        run(begin(frame, sink, tmp_path, **more))
    assert isinstance(failed.value, KitError)
    said = str(failed.value).removeprefix("query failing failed: ")
    assert re.fullmatch(words, said), said
    assert not re.search(
        r"java\.|py4j|#\d|\bat \w+\.\w+\(|Traceback|SQLSTATE|\n", said
    ), said
