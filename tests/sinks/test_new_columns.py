"""What a new column does to each sink; docs/guides/change-a-job.md has the table.

Those of Delta Lake and Iceberg are in tests/connectors/test_tables.py, those of a SQL
table that fits in no other way in tests/connectors/test_sinks_sql.py.
"""

import sqlite3

import pytest
from pyspark.sql import functions as F
from support.sink_streams import finish, refused

from sparkstream_kit import feeds, sinks, sources


@pytest.fixture
def narrow(spark, folder):
    """The query that has run: two columns of a line of three."""
    return sources.csv(
        spark, folder, schema="product STRING, amount INT, shop STRING"
    ).select("product", "amount")


@pytest.fixture
def wide(spark, folder):
    """The same query with a further column."""
    return sources.csv(spark, folder, schema="product STRING, amount INT, shop STRING")


def arrive(folder, product, amount):
    feeds.drip([(f"{product}.csv", f"{product},{amount},a\n")], folder)


def read(spark, kind, path, **options):
    rows = spark.read.format(kind).options(**options).load(str(path))
    return {tuple(row) for row in rows.select("product", "amount", "shop").collect()}


@pytest.mark.slow
@pytest.mark.parametrize("make", [sinks.batch_files, sinks.files])
@pytest.mark.parametrize("kind", ["parquet", "orc", "json"])
def test_files_hold_it_from_the_next_batch_on(
    spark, folder, narrow, wide, tmp_path, make, kind
):
    out = tmp_path / "out"
    arrive(folder, "tea", 1)
    finish(narrow, make(out, format=kind), tmp_path / "ckpt")
    arrive(folder, "ink", 2)
    finish(wide, make(out, format=kind), tmp_path / "ckpt")
    merged = {} if kind == "json" else {"mergeSchema": "true"}
    both = {("tea", 1, None), ("ink", 2, "a")}
    assert read(spark, kind, out, **merged) == both


@pytest.mark.slow
@pytest.mark.parametrize("make", [sinks.batch_files, sinks.files])
def test_csv_has_lines_of_two_lengths(spark, folder, narrow, wide, tmp_path, make):
    out = tmp_path / "out"
    arrive(folder, "tea", 1)
    finish(narrow, make(out, format="csv"), tmp_path / "ckpt")
    arrive(folder, "ink", 2)
    finish(wide, make(out, format="csv"), tmp_path / "ckpt")
    lines = {
        line
        for path in out.rglob("*.csv")
        for line in path.read_text("utf-8").splitlines()
    }
    assert lines == {"tea,1", "ink,2,a"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["snapshot", "view"])
def test_the_whole_result_has_it_at_once(spark, folder, narrow, tmp_path, kind):
    file, view = tmp_path / "counts.csv", f"v_{tmp_path.name}".replace("-", "_")
    sink = sinks.snapshot(file) if kind == "snapshot" else sinks.latest(view)
    counts = narrow.groupBy("product").count()
    arrive(folder, "tea", 1)
    finish(counts, sink, tmp_path / "ckpt", "complete")
    arrive(folder, "ink", 2)
    doubled = counts.withColumn("double", F.col("count") * 2)
    finish(doubled, sink, tmp_path / "ckpt", "complete")
    shown = (
        spark.read.csv(str(file), header=True)
        if kind == "snapshot"
        else spark.table(view)
    )
    rows = {tuple(map(str, row)) for row in shown.collect()}
    assert rows == {("tea", "1", "2"), ("ink", "1", "2")}


@pytest.mark.slow
def test_a_table_of_the_catalog_refuses_it(spark, folder, narrow, wide, tmp_path):
    name = f"t_{tmp_path.name}".replace("-", "_").lower()
    arrive(folder, "tea", 1)
    try:
        finish(narrow, sinks.table(name), tmp_path / "ckpt")
        arrive(folder, "ink", 2)
        line = refused(wide, sinks.table(name), tmp_path / "ckpt")
        assert f"table {name} has no column shop" in line
    finally:
        spark.sql(f"DROP TABLE IF EXISTS {name}")


@pytest.mark.slow
def test_a_sql_table_refuses_it_until_it_has_the_column(folder, narrow, wide, tmp_path):
    file = tmp_path / "shop.db"
    sink = sinks.sql_table(f"sqlite:///{file}", "sales")
    arrive(folder, "tea", 1)
    finish(narrow, sink, tmp_path / "ckpt")
    arrive(folder, "ink", 2)
    line = refused(wide, sink, tmp_path / "ckpt")
    assert "table sales in" in line
    assert "it lacks shop TEXT" in line
    with sqlite3.connect(file) as database:
        database.execute("ALTER TABLE sales ADD COLUMN shop TEXT")
    finish(wide, sink, tmp_path / "ckpt")
    rows = {*database.execute("SELECT product, amount, shop FROM sales")}
    assert rows == {("tea", 1, None), ("ink", 2, "a")}


@pytest.mark.slow
def test_a_function_gets_it(folder, narrow, wide, tmp_path):
    columns = []
    sink = sinks.foreach_batch(lambda batch, _: columns.append(batch.columns))
    arrive(folder, "tea", 1)
    finish(narrow, sink, tmp_path / "ckpt")
    arrive(folder, "ink", 2)
    finish(wide, sink, tmp_path / "ckpt")
    assert columns == [["product", "amount"], ["product", "amount", "shop"]]
