"""`assert_exactly_once` on sinks that are sound, and on each of the defects that people write."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F
from support.broken_sinks import BROKEN, SOUND

from sparkstream_kit import sinks
from sparkstream_kit._spark import session
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.testing import assert_exactly_once, crashes

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.classic_only("crashes of the driver's own Python")

SALES = "product STRING, amount INT"
ROWS = [("tea", 2), ("ink", 1), ("tea", 2)]
TOTALS = [("tea", 4), ("ink", 1)]
MOST = int(os.environ.get("SCHEDULES", "100"))  # of each sink


@pytest.fixture
def rows(spark):
    return spark.createDataFrame(ROWS, SALES)


def job(make):
    """Return the job of a sink, or of the function of a batch."""

    def build(sales, folder):
        made = make(folder)
        return sales, made if isinstance(made, sinks.Sink) else sinks.foreach_batch(made)

    return build


def from_table(folder):
    with closing(sqlite3.connect(folder / "t.db")) as db:
        return db.execute("SELECT * FROM t").fetchall()


def totals(sales):
    return sales.groupBy("product").agg(F.sum("amount").alias("total"))


def table(how, *keys):
    def build(sales, folder):
        frame = sales if how == "append" else totals(sales)
        return frame, sinks.sql_table(f"sqlite:///{folder}/t.db", "t", how=how, keys=keys)

    return build


def directories(sales, folder):
    return sales, sinks.batch_files(folder / "out", format="csv")


def from_directories(folder):
    files = (folder / "out").glob("batch=*/part-*")
    lines = [line.split(",") for file in files for line in file.read_text().splitlines()]
    return [(product, int(amount)) for product, amount in lines]


def delta(how, *keys):
    def build(sales, folder):
        frame = sales if how == "append" else totals(sales)
        return frame, sinks.delta(folder / "t", how=how, keys=keys)

    return build


def from_delta(folder):
    from deltalake import DeltaTable

    return [tuple(row.values()) for row in DeltaTable(str(folder / "t")).to_pyarrow_table().to_pylist()]


def whole_file(sales, folder):
    return totals(sales), sinks.snapshot(folder / "t.json")


def from_file(folder):
    return [tuple(row.values()) for row in json.loads((folder / "t.json").read_text())]


def both(sales, folder):
    return sales, sinks.fan_out(table("append")(sales, folder)[1], directories(sales, folder)[1])


def from_both(folder):
    return [*from_table(folder), *from_directories(folder)]


def gated(sales, folder):
    timely = sales.withColumn("time", F.timestamp_seconds("amount")).withWatermark("time", "1 second")
    late = sinks.sql_table(f"sqlite:///{folder}/t.db", "late")
    on_time = sinks.sql_table(f"sqlite:///{folder}/t.db", "t")
    return timely, sinks.by_watermark("time", on_time=on_time, late=late)


def from_gated(folder):
    with closing(sqlite3.connect(folder / "t.db")) as db:
        return db.execute(
            "SELECT product, amount FROM t UNION ALL SELECT product, amount FROM late"
        ).fetchall()


Sound = tuple["Callable[..., Any]", "Callable[..., Any]", str, list[tuple[str, int]]]
KITS: dict[str, Sound] = {
    "sqlite append": (table("append"), from_table, "append", ROWS),
    "sqlite upsert": (table("upsert", "product"), from_table, "update", TOTALS),
    "sqlite replace": (table("replace"), from_table, "complete", TOTALS),
    "batch_files": (directories, from_directories, "append", ROWS),
    "delta append": (delta("append"), from_delta, "append", ROWS),
    "delta upsert": (delta("upsert", "product"), from_delta, "update", TOTALS),
    "delta replace": (delta("replace"), from_delta, "complete", TOTALS),
    "snapshot": (whole_file, from_file, "complete", TOTALS),
    "fan_out": (both, from_both, "append", [*ROWS, *ROWS]),
    "by_watermark": (gated, from_gated, "append", ROWS),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KITS)
def test_the_kit_s_own_sinks_survive_every_crash(name, rows, tmp_path):
    build, read, mode, expected = KITS[name]
    report = tmp_path / "report.json"
    made = assert_exactly_once(build, rows, read=read, mode=mode, expected=expected, most=MOST, report=report)
    assert str(made).startswith(f"{made.schedules} schedules, 0 differences")
    assert json.loads(report.read_text())["schedules"] == made.schedules
    print(f"{name}: {made}")  # noqa: T201 - kept in the log of a full round


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_sound_sinks_of_a_user_s_own_survive_every_crash(name, rows):
    make, read = SOUND[name]
    expected = TOTALS if name.startswith("totals_") else ROWS
    made = assert_exactly_once(job(make), rows, read=read, expected=expected, most=MOST)
    print(f"{name}: {made}")  # noqa: T201 - kept in the log of a full round


@pytest.mark.fast("no_ledger")
@pytest.mark.parametrize("name", BROKEN)
def test_each_defect_is_found(name, rows):
    make, read = BROKEN[name]
    expected = TOTALS if name.startswith("totals_") else ROWS
    with pytest.raises(AssertionError, match=r"not exactly once|without any crash") as found:
        assert_exactly_once(job(make), rows, read=read, expected=expected)
    print(f"{name}: {found.value}")  # noqa: T201 - kept in the log of a full round


def test_a_failure_names_the_crash_and_runs_again_alone(rows):
    make, read = BROKEN["no_ledger"]
    with pytest.raises(AssertionError) as found:
        assert_exactly_once(job(make), rows, read=read)
    first, *more = str(found.value).splitlines()
    assert first.startswith("not exactly once, with rows in batches of 3: crash before ")
    assert re.search(r"\(batch 0.*\); in the end row \('tea', 2\) is there twice", first)
    again = re.search(r"only='(3:[\d.]+)'", more[-2])  # whether a line or the next call tells it is Python's
    assert again
    assert "sinks.sql_table" in more[-1]
    with pytest.raises(AssertionError, match=re.escape(first)):
        assert_exactly_once(job(make), rows, read=read, only=again[1])


def test_a_certificate_is_kept_and_nothing_is_watched_afterwards(rows, tmp_path):
    make, read = SOUND["file_replaced_whole"]
    before = os.fsync, sqlite3.connect
    made = assert_exactly_once(job(make), rows, read=read, most=1, report=tmp_path / "report.json")
    assert str(made).startswith(f"1 schedules, 0 differences: {made.calls} calls, over the inputs 3, in ")
    kept = json.loads((tmp_path / "report.json").read_text())
    assert (kept["schedules"], kept["inputs"], kept["calls"]) == (1, ["3"], made.calls)
    assert (os.fsync, sqlite3.connect, crashes._watches) == (*before, [])  # noqa: SLF001


def test_what_cannot_be_tried_is_refused(spark, rows, monkeypatch):
    build, read = job(BROKEN["no_ledger"][0]), from_table
    none = spark.createDataFrame([], SALES)
    with pytest.raises(InvalidInputError, match="rows is empty; give a static DataFrame with some rows"):
        assert_exactly_once(build, none, read=read)
    with pytest.raises(InvalidInputError, match="only is '3-x:4'; give what a failure has printed"):
        assert_exactly_once(build, rows, read=read, only="3-x:4")
    with pytest.raises(InvalidInputError, match="works? batch by batch"):
        assert_exactly_once(lambda sales, folder: (sales, sinks.files(folder / "x")), rows, read=read)
    monkeypatch.setattr(session, "starts_python_for_batches", lambda _: True)
    with pytest.raises(InvalidInputError, match="on Spark Connect another one writes; unset SPARK_REMOTE"):
        assert_exactly_once(build, rows, read=read)
