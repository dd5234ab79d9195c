"""`sinks.files` and `sinks.table`: whatever goes under a running query is told, with a way out."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import SparkSession
from support.sink_streams import finish, refused

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit._internal import durations
from sparkstream_kit._internal.spark import queries
from sparkstream_kit.errors import InvalidInputError, QueryFailed

pytestmark = pytest.mark.classic_only("the server's warehouse is not known here")


@dataclass
class Written:
    """A target that a query writes to.

    Attributes:
        spark: the session.
        kind: `files`, `table`, or `table with path`.
        name: the table's name; of `files` the folder's.
        folder: where its files are.
    """

    spark: SparkSession
    kind: str
    name: str
    folder: Path

    def sink(self):
        if self.kind == "files":
            return sinks.files(self.folder)
        if self.kind == "table":
            return sinks.table(self.name)
        return sinks.table(self.name, path=str(self.folder))

    def rows(self):
        if self.kind == "files":
            frame = self.spark.read.parquet(str(self.folder))
        else:
            frame = self.spark.table(self.name)
        return sorted(row.n for row in frame.collect())


@pytest.fixture
def target(spark, tmp_path):
    """Return a function that makes the target of a kind; its tables are dropped."""
    made = []

    def make(kind, more=""):
        name = f"t_{tmp_path.name}{more}".replace("-", "_").lower()
        folder = tmp_path / f"out{more}"
        if kind == "table":
            warehouse = spark.conf.get("spark.sql.warehouse.dir")
            folder = Path(warehouse.removeprefix("file:"), name)
        made.append(Written(spark, kind, name, folder))
        return made[-1]

    yield make
    for each in made:
        spark.sql(f"DROP TABLE IF EXISTS {each.name}")
        shutil.rmtree(each.folder, ignore_errors=True)


def begun(spark, folder, written, checkpoint, **source_options):
    """Start a query that ends when it has read all that is in the folder."""
    rows = sources.csv(spark, folder, schema="n INT", **source_options)
    return start(
        rows, written.sink(), name="q", checkpoint=checkpoint, availableNow=True
    )


def removed(target):
    shutil.rmtree(target.folder)


def emptied(target):
    shutil.rmtree(target.folder)
    target.folder.mkdir()


def log_removed(target):
    shutil.rmtree(target.folder / "_spark_metadata")


def taken(target):
    (target.folder / "_sparkstream_query").write_text("a-query-of-others\n")


def dropped(target):
    target.spark.sql(f"DROP TABLE {target.name}")


def truncated(target):
    target.spark.sql(f"TRUNCATE TABLE {target.name}")


def made_again(columns, how):
    def make(target):
        dropped(target)
        place = how.format(folder=target.folder)
        target.spark.sql(f"CREATE TABLE {target.name} ({columns}) USING {place}")

    return make


LACKS = "lacks batch 0 of this query: it was removed, emptied or made again while the"
DROPPED = "was dropped while the query wrote to it; put it back as it was, or start"
CHANGED = "was changed or made again while the query wrote to it: its"
# Of a kind of target, what goes, and what is said of it
LOSSES = {
    "files, removed": (removed, LACKS),
    "files, emptied": (emptied, LACKS),
    "files, log removed": (log_removed, LACKS),
    "files, taken": (taken, r"was taken by another query \(a-query-of-others\) while"),
    "table, removed": (removed, LACKS),
    "table, log removed": (log_removed, LACKS),
    "table, dropped": (dropped, DROPPED),
    "table, truncated": (truncated, LACKS),
    "table, elsewhere": (
        made_again("n INT", "parquet LOCATION '{folder}-2'"),
        f"{CHANGED} folder, before .*, is now .*-2; put it",
    ),
    "table with path, dropped": (dropped, DROPPED),
    "table with path, other column": (
        made_again("m INT", "parquet LOCATION '{folder}'"),
        f"{CHANGED} column n has gone, or is of another type; put it",
    ),
    "table with path, other type": (
        made_again("n STRING", "parquet LOCATION '{folder}'"),
        f"{CHANGED} column n has gone, or is of another type; put it",
    ),
    "table with path, other format": (
        made_again("n INT", "csv LOCATION '{folder}'"),
        f"{CHANGED} format, before parquet, is now csv; put it",
    ),
}


@pytest.mark.fast("files, log removed-at the end")
@pytest.mark.parametrize("when", ["between batches", "at the end"])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_goes_under_a_running_query_is_told_and_the_way_out_works(
    loss, when, spark, folder, target, tmp_path
):
    lose, words = LOSSES[loss]
    kind = loss.partition(",")[0]
    written = target(kind)
    feeds.drip([("1.csv", "1\n")], folder)
    rows = sources.csv(spark, folder, schema="n INT")

    def lose_after_the_first(progress):
        if progress.batchId == 0:
            lose(written)
            if when == "between batches":
                feeds.drip([("2.csv", "2\n")], folder)

    ends: dict[str, Any] = {"availableNow": True} if when == "at the end" else {}
    query = start(rows, written.sink(), name="q", checkpoint=tmp_path / "ckpt", **ends)
    with pytest.raises((InvalidInputError, QueryFailed), match=words) as told:
        run(query, on_batch=lose_after_the_first, run_for=60)
    assert told.value.exit_code == InvalidInputError.exit_code
    assert re.match(r"query q( failed)?: ", line := str(told.value)) is not None, line
    assert "\n" not in line
    assert "\\tat " not in line
    assert " another target and another checkpoint" in line
    feeds.drip([("3.csv", "3\n")], folder)
    again = target(kind, "_again")
    finish(rows, again.sink(), tmp_path / "again")
    everything = [1, 2, 3] if when == "between batches" else [1, 3]
    assert again.rows() == everything
    if loss == "table with path, dropped":  # whose rows are all there
        finish(rows, written.sink(), tmp_path / "ckpt")
        assert written.rows() == everything
    elif loss != "files, taken":
        refused(rows, written.sink(), tmp_path / "ckpt")


def test_the_note_of_the_owner_is_written_again_when_it_alone_has_gone(
    spark, folder, target, tmp_path
):
    written = target("files")
    feeds.drip([("1.csv", "1\n")], folder)
    note = written.folder / "_sparkstream_query"
    query = begun(spark, folder, written, tmp_path / "ckpt")
    run(query, on_batch=lambda _: note.unlink())
    assert note.read_text().strip() == str(query.id)
    assert written.rows() == [1]


@pytest.mark.slow
def test_added_columns_are_no_loss(spark, folder, target, tmp_path):
    written = target("table")
    feeds.drip([("1.csv", "1\n")], folder)
    query = begun(spark, folder, written, tmp_path / "ckpt")
    add = f"ALTER TABLE {written.name} ADD COLUMNS (added INT)"
    run(query, on_batch=lambda _: spark.sql(add))
    assert written.rows() == [1]


@pytest.mark.slow
def test_a_session_that_uses_another_schema_meanwhile_goes_on(
    spark, folder, target, tmp_path
):
    written = target("table")
    feeds.drip([("1.csv", "1\n"), ("2.csv", "2\n")], folder)
    query = begun(spark, folder, written, tmp_path / "ckpt", max_files_per_trigger=1)
    spark.sql("CREATE DATABASE elsewhere")
    try:
        run(query, on_batch=lambda _: spark.sql("USE elsewhere"))
    finally:
        spark.sql("USE default")
        spark.sql("DROP DATABASE elsewhere")
    assert written.rows() == [1, 2]


def test_looks_take_a_fiftieth_of_the_time_at_most(monkeypatch):
    now, looks = [0.0], []

    def slow(batch):
        looks.append(batch)
        now[0] += 1
        return "gone"

    monkeypatch.setattr(durations, "monotonic", lambda: now[0])
    target = queries.TargetLooks(slow)
    assert target.lost_rows(0, at_end=False) == "gone"
    for batch, seconds in ((0, 60), (1, 0), (2, 49)):
        now[0] += seconds
        target.lost_rows(batch, at_end=False)
    assert looks == [0, 1], "no batch twice, and not before 50 seconds"
    assert target.lost_rows(2, at_end=True) == "gone"


@pytest.mark.slow
def test_the_folder_that_a_dropped_table_left_is_refused_with_ways_that_work(
    spark, folder, target, tmp_path
):
    """Spark has made the folder again, with the batches after the drop."""
    written = target("table")
    feeds.drip([("1.csv", "1\n")], folder)
    rows = sources.csv(spark, folder, schema="n INT")

    def drop(progress):
        if progress.batchId == 0:
            dropped(written)
            feeds.drip([("2.csv", "2\n")], folder)

    query = start(rows, written.sink(), name="q", checkpoint=tmp_path / "ckpt")
    with pytest.raises((InvalidInputError, QueryFailed), match=DROPPED):
        run(query, on_batch=drop, run_for=60)
    assert written.folder.exists()
    feeds.drip([("3.csv", "3\n")], folder)
    line = refusal(finish, rows, written.sink(), tmp_path / "ckpt")
    assert (
        f"table {written.name} is not in the catalog, and its folder"
        f" file:{written.folder} lacks batch 0 of this query: it was" in line
    )
    assert "restore it, or start anew with another target and another" in line
    line = refusal(finish, rows, written.sink(), tmp_path / "new")
    assert "has the batches of another query (unknown), up to its batch 1" in line
    assert "use another folder, or remove this one" in line
    shutil.rmtree(written.folder)
    finish(rows, written.sink(), tmp_path / "new")
    assert written.rows() == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "partition_by", "options"),
    [
        ("table", [], {}),
        ("table", ["day"], {}),
        ("table", ["day"], {"format": "csv", "sep": ";"}),
        ("table with path", ["day"], {}),
        ("table with path", ["day"], {"format": "csv", "sep": ";"}),
    ],
)
def test_a_table_that_its_catalog_has_forgotten_is_made_again_as_the_message_says(
    spark, folder, target, tmp_path, kind, partition_by, options
):
    """As the catalog of a session without Hive does, at its end."""
    written = target(kind)
    if kind == "table with path":
        options = {**options, "path": str(written.folder)}
    feeds.drip([("1.csv", "1,1,07\n")], folder)
    rows = sources.csv(spark, folder, schema="n INT, m INT, day STRING")
    sink = sinks.table(written.name, partition_by=partition_by, **options)
    if "sep" in options:
        said = refusal(finish, rows, sink, tmp_path / "ckpt")
        spark.sql(said.partition("create it first: ")[2])
    finish(rows, sink, tmp_path / "ckpt")
    aside = tmp_path / "aside"
    shutil.copytree(written.folder, aside)
    dropped(written)
    shutil.copytree(aside, written.folder, dirs_exist_ok=True)
    feeds.drip([("2.csv", "2,2,08\n")], folder)
    line = refusal(finish, rows, sink, tmp_path / "ckpt")
    assert f"table {written.name} is not in the catalog, and its folder" in line
    for statement in line.partition("to go on with it, run ")[2].split("; "):
        spark.sql(statement)
    for number in (3, 4):
        finish(rows, sink, tmp_path / "ckpt")
        feeds.drip([(f"{number}.csv", f"{number},{number},08\n")], folder)
    found = spark.table(written.name).select("n", "day").collect()
    assert sorted(tuple(row) for row in found) == [(1, "07"), (2, "08"), (3, "08")]


@pytest.mark.slow
def test_a_table_dropped_between_two_runs_is_refused_at_the_start(
    spark, folder, target, tmp_path
):
    """Spark would make it anew, without the batches before and without a word."""
    written = target("table")
    feeds.drip([("1.csv", "1\n")], folder)
    rows = sources.csv(spark, folder, schema="n INT")
    finish(rows, written.sink(), tmp_path / "ckpt")
    dropped(written)
    feeds.drip([("2.csv", "2\n")], folder)
    line = refusal(finish, rows, written.sink(), tmp_path / "ckpt")
    assert "is not in the catalog, and its folder" in line
    assert "lacks all batches of this query" in line
    assert not spark.catalog.tableExists(written.name)
    finish(rows, written.sink(), tmp_path / "new")
    assert written.rows() == [1, 2]


@pytest.mark.slow
def test_an_outside_table_with_an_option_is_made_again_at_its_place(
    spark, folder, target, tmp_path
):
    written = target("table with path")
    feeds.drip([("1.csv", "1,7\n")], folder)
    rows = sources.csv(spark, folder, schema="n INT, m INT")
    sink = sinks.table(written.name, format="csv", sep=";", path=str(written.folder))
    for number in (2, 3):
        said = refusal(finish, rows, sink, tmp_path / "ckpt")
        spark.sql(said.partition("create it first: ")[2])
        finish(rows, sink, tmp_path / "ckpt")
        assert len(written.rows()) == number - 1
        dropped(written)
        feeds.drip([(f"{number}.csv", f"{number},7\n")], folder)
