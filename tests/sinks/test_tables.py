"""`sinks.table`: what a table of the catalog takes, without a query."""

import re
from typing import Any

import pytest
from conftest import pretend_master, refusal
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sinks import formats, tables
from sparkstream_kit.sinks.tables import _change, _lost, _Stored, _Table, _within_limits

pytestmark = pytest.mark.classic_only("the server's warehouse is not known here")


def named(name, kind, *partition_by, **given):
    return _Table(name, formats.of(tables.table, kind, given), partition_by)


def table_sink(name, **options):
    """Return the sink of a table; it is one of Spark's own."""
    sink = sinks.table(name, **options)
    assert isinstance(sink, sinks.SparkSink)
    return sink


def stored(provider, columns="s string", *partitions, limited=(), **options):
    """Return a table; its columns have the names of types that JSON has."""
    schema = T.StructType()
    for column in columns.split(", "):
        schema.add(*column.split())
    return _Stored(
        provider=provider,
        folder="file:/there",
        columns=schema,
        limited=dict(limited),
        partitions=[*partitions],
        options=options,
    )


@pytest.fixture
def made(spark):
    """Return a function that creates a table by the rest of a statement; returns its name."""
    names: list[str] = []

    def make(rest):
        names.append(f"made_{len(names)}")
        spark.sql(f"CREATE TABLE {names[-1]} {rest}")
        return names[-1]

    yield make
    for name in names:
        spark.sql(f"DROP TABLE IF EXISTS {name}")


def test_a_table_says_what_it_promises():
    sink = table_sink("Shop.T", format="CSV")
    assert (sink.kind, sink.modes, sink.needs_checkpoint) == (
        "table",
        ("append",),
        True,
    )
    assert sink.promise == "exactly once, read through Spark"
    assert [str(target) for target in sink.writes_to] == ["table Shop.T"]
    assert sink.form.texts == "csv"
    other = table_sink("t", format="delta")
    assert (other.modes, other.form) == (("append", "complete"), None)
    assert other.promise == "that of delta"
    assert refusal(sinks.table, " ").startswith(
        "sinks.table(): the name is empty; give"
    )


# --- the format in which a table is written


def test_a_new_table_has_what_the_caller_asks_for():
    table = named("t", "csv", "k", sep=";")
    assert table._written(None) == (table.form, ("k",))  # noqa: SLF001


def test_a_table_that_is_there_decides_its_spelling_options_and_partitions():
    table = named("t", "csv", Sep=";", header=True, compression="none")
    there = stored(
        "CSV",
        "s string, k integer",
        "k",
        sep=";",
        header="TRUE",
        quote="'",
        path="file:/there",
        emptyValue="",
        locale="en-US",
        **{"serialization.format": "1"},
    )
    form, partitions = table._written(there)  # noqa: SLF001
    assert (form.kind, form.spelled, form.in_table) == ("csv", "CSV", True)
    assert form.given == {
        "sep": ";",
        "header": True,
        "quote": "'",
        "locale": "en-US",
        "Sep": ";",
        "compression": "none",
    }
    assert partitions == ["k"]


@pytest.mark.parametrize(
    ("kind", "given", "provider", "options", "words"),
    [
        ("json", {}, "CSV", {}, "has the format csv, not json; give format='csv'"),
        (
            "csv",
            {"sep": "|"},
            "csv",
            {},
            "was created without the option sep='|', so it",
        ),
        ("csv", {"SEP": "|"}, "csv", {"sep": ";"}, "without the option SEP='|'"),
        ("csv", {"header": False}, "csv", {}, "without the option header=False"),
        (
            "csv",
            {},
            "csv",
            {"emptyValue": "N"},
            "was created with the option emptyvalue='N', with which Spark reads other",
        ),
        ("csv", {}, "csv", {"Locale": "de"}, "the option locale='de', with which"),
        ("csv", {}, "csv", {"maxColumns": "9"}, "the option maxcolumns='9', with"),
        ("json", {}, "json", {"multiLine": "True"}, "the option multiline='True'"),
        ("text", {}, "text", {"wholetext": "true"}, "the option wholetext='true'"),
        ("csv", {}, "csv", {"quote": ""}, ": quote is no character, and a text"),
    ],
    ids=[
        *("a format", "a separator", "another separator", "a header"),
        *("a word for empty", "a locale", "columns", "lines", "whole files", "a quote"),
    ],
)
def test_a_table_that_is_read_otherwise_than_written_is_refused(
    kind, given, provider, options, words
):
    table = named("shop.t", kind, **given)
    said = refusal(table._written, stored(provider, **options))  # noqa: SLF001
    assert said.startswith("table shop.t")
    assert words in said


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("csv", {"emptyValue": "", "LOCALE": "EN-us", "maxCharsPerColumn": "-1"}),
        ("json", {"multiline": "FALSE", "emptyValue": "x"}),
        ("orc", {"multiline": "true", "wholetext": "true"}),
        ("text", {"multiline": "true"}),
    ],
    ids=["csv", "json", "orc", "text"],
)
def test_options_of_a_table_that_do_no_harm_are_accepted(kind, options):
    form, _ = named("t", kind)._written(stored(kind, **options))  # noqa: SLF001
    assert form.spelled == kind


# --- rows that fit a table


def rows_of(spark, columns):
    return spark.sql(f"SELECT {columns}")


@pytest.mark.parametrize(
    ("kind", "asked", "columns"),
    [
        ("csv", [], "'x' AS s, 1 AS n, 2L AS k"),
        ("csv", ["K"], "2L AS K, 'x' AS S, 1 AS N"),
        ("parquet", [], "1 AS n, 2L AS k"),
        ("json", ["k"], "2L AS k, 1 AS n, 'x' AS s"),
    ],
    ids=["all", "in another case", "some", "in another order"],
)
def test_rows_that_fit_a_table_are_accepted(spark, kind, asked, columns):
    there = stored(
        kind, "s string, N integer, k long", "k", limited=[("s", "varchar(3)")]
    )
    named("t", kind, *asked)._check_rows(there, rows_of(spark, columns))  # noqa: SLF001


@pytest.mark.parametrize(
    ("kind", "asked", "columns", "words"),
    [
        ("orc", ["n"], "1 AS n", "is partitioned by k, M; leave partition_by out"),
        ("orc", ["m", "k"], "1 AS n", "is partitioned by k, M; leave partition_by out"),
        ("orc", [], "1 AS nn", "has no column nn; did you mean n?"),
        ("orc", [], "1 AS q", "has no column q; leave it out, or use another table"),
        (
            "orc",
            [],
            "1L AS n",
            ": column n is bigint, and int in the table; cast it, or",
        ),
        ("orc", [], "1 AS n, 'x' AS k", ": column k is string, and int in the table"),
        ("csv", [], "'x' AS s, 1 AS n", " has the columns n, s, and csv knows them by"),
        ("text", [], "'x' AS s, 1 AS k", " has the columns n, s, and text knows them"),
        ("csv", [], "1 AS n, 2 AS k", " has the columns n, s, and csv knows them by"),
    ],
    ids=[
        *("one partition", "another order of them", "a name near", "a name", "a type"),
        *("a type of a partition", "an order", "a missing one", "missing in csv"),
    ],
)
def test_rows_that_do_not_fit_a_table_are_refused(spark, kind, asked, columns, words):
    there = stored(kind, "n integer, s string, k integer, M integer", "k", "M")
    table = named("t", kind, *asked)
    said = refusal(table._check_rows, there, rows_of(spark, columns))  # noqa: SLF001
    assert said.startswith("table t")
    assert words in said


def test_a_table_without_partitions_says_so(spark):
    there, rows = stored("orc", "n integer"), rows_of(spark, "1 AS n")
    said = refusal(named("t", "orc", "n")._check_rows, there, rows)  # noqa: SLF001
    assert said == "table t is partitioned by no column; leave partition_by out"


@pytest.mark.parametrize("kind", ["char(3)", "array<varchar(3)>", "struct<a:char(2)>"])
def test_a_limit_that_spark_does_not_keep_is_refused(spark, kind):
    there = stored("orc", limited=[("s", kind)])
    said = refusal(named("t", "orc")._check_rows, there, rows_of(spark, "'x' AS s"))  # noqa: SLF001
    assert said.startswith(f"table t: column s is {kind}, and Spark neither checks nor")


def test_a_text_longer_than_its_varchar_fails_the_batch(spark):
    limited = {"s": "varchar(3)", "c": "char(1)"}
    rows = spark.sql("SELECT '日本語' AS S, 'four' AS c, 'four' AS o")
    assert _within_limits("table t", rows, limited).collect() == rows.collect()
    with pytest.raises(PySparkException) as caught:
        longer = rows.withColumn("S", F.lit("four"))
        _within_limits("table t", longer, limited).collect()
    said = "table t: column S has a text that is longer than varchar(3)"
    assert said in str(caught.value)
    other = rows.select("c", "o")
    assert _within_limits("table t", other, limited) is other


# --- tables of the catalog


@pytest.mark.parametrize("name", ["no_such", "default.no_such", "`no_such`"])
def test_a_table_that_is_missing_is_none(spark, name):
    assert named(name, "csv")._stored(spark) is None  # noqa: SLF001


def test_a_table_is_what_the_catalog_says_of_it(spark, made):
    name = made(
        "(S VARCHAR(3), char STRING, a ARRAY<CHAR(2)>, k INT) USING JSON"
        " OPTIONS (lineSep ';') PARTITIONED BY (k)"
    )
    there = named(name, "csv")._stored(spark)  # noqa: SLF001
    assert there is not None
    assert there.provider.lower() == "json"
    assert there.folder.endswith(f"/warehouse/{name}")
    assert there.columns.names == ["S", "char", "a", "k"]
    assert there.limited == {"s": "varchar(3)", "a": "array<char(2)>"}
    assert (there.partitions, there.options) == (["k"], {"lineSep": ";"})
    plain = named(made("(n INT) USING orc"), "orc")._stored(spark)  # noqa: SLF001
    assert plain is not None
    assert (plain.limited, plain.partitions, plain.options) == ({}, [], {})
    # Of another system, or a view
    assert named(name, "delta")._stored(spark) is None  # noqa: SLF001
    spark.range(1).createOrReplaceTempView("of_one")
    try:
        assert named("of_one", "csv")._stored(spark) is None  # noqa: SLF001
        table_sink("of_one", format="csv").check(spark.sql("SELECT 1 AS id"), None)
    finally:
        spark.catalog.dropTempView("of_one")


def folder_of(spark, name):
    return named(name, "csv")._folder_of_new(spark)  # noqa: SLF001


def test_a_new_table_has_a_folder_in_that_of_its_schema(spark):
    home = str(spark.conf.get("spark.sql.warehouse.dir"))
    for name in ("New_T", "default.new_t", "spark_catalog.default.`New_T`"):
        assert folder_of(spark, name) == f"{home}/new_t"
    assert folder_of(spark, "`a.b``c`") == f"{home}/a.b`c"
    with in_force(spark, {"spark.sql.caseSensitive": "TRUE"}):
        assert folder_of(spark, "New_T") == f"{home}/New_T"
    assert folder_of(spark, "of_others.default.t") is None
    spark.sql("CREATE DATABASE other_shop")
    try:
        assert folder_of(spark, "other_shop.T") == f"{home}/other_shop.db/t"
        spark.sql("USE other_shop")
        assert folder_of(spark, "t") == f"{home}/other_shop.db/t"
    finally:
        spark.sql("USE default")
        spark.sql("DROP DATABASE other_shop")


def test_the_statement_of_a_table_has_all_that_it_needs(spark):
    frame = spark.sql("SELECT 'x' AS `a ``b`, 1 AS k, array(1) AS A")
    plain = named("shop.t", "ORC", compression="none")
    columns = "`a ``b` string, `k` int, `A` array<int>"
    made = f"CREATE TABLE shop.t ({columns}) USING orc"
    assert plain._statement(frame, None) == made  # noqa: SLF001
    assert plain._over(frame, "file:/o") == f"{made} LOCATION 'file:/o'"  # noqa: SLF001
    full = named("shop.t", "csv", "k", "A", Sep=";", header=True, compression="none")
    made = (
        f"CREATE TABLE shop.t ({columns}) USING csv OPTIONS (Sep ';', header 'True')"
        " PARTITIONED BY (`k`, `A`)"
    )
    assert full._statement(frame, "file:/o") == f"{made} LOCATION 'file:/o'"  # noqa: SLF001
    assert full._over(frame, "file:/o") == (  # noqa: SLF001
        f"{made} LOCATION 'file:/o/_empty'; ALTER TABLE shop.t SET LOCATION 'file:/o'"
    )


@pytest.fixture
def numbers(spark):
    return spark.sql("SELECT 1 AS n, 2 AS k")


@pytest.fixture
def left(spark, tmp_path):
    """A folder with a file, as a dropped table leaves it, and a checkpoint of no query."""
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "part-0").touch()
    return tmp_path / "left", locate(spark, tmp_path / "ckpt")


def test_a_new_table_is_checked_for_options_types_and_its_checkpoint(
    numbers, left, tmp_path
):
    folder, checkpoint = left

    def check(location=None, path=tmp_path / "none", **more):
        table_sink("new_t", path=str(path), **more).check(numbers, location)

    check()
    check(partition_by=["k"])
    check(path=folder)  # Spark takes the files as they are
    check(checkpoint)
    assert "is left, over which Spark would not create it as it was; to go on" in (
        refusal(check, path=folder, partition_by=["k"])
    )
    said = refusal(check, checkpoint, path=folder)
    assert said.startswith(
        f"table new_t is not in the catalog, and its folder {folder}"
    )
    assert " has files that no query has written, which Spark" in said
    said = refusal(check, format="csv", sep=";")
    assert said.startswith("table new_t: Spark creates it without the option sep, so")
    assert said.endswith(f"USING csv OPTIONS (sep ';') LOCATION '{tmp_path}/none'")
    said = refusal(check, format="text")
    assert said.startswith("table new_t: column n is int, and a file of text")
    assert "table new_t: partition_by: there is no column kk" in (
        refusal(check, partition_by=["kk"])
    )


def test_a_table_of_another_system_is_asked_for_names_and_shared_folders_alone(
    spark, numbers, left, monkeypatch
):
    folder, checkpoint = left
    sink = table_sink("new_t", format="delta", sep=";", path=str(folder))
    sink.check(numbers, checkpoint)
    assert sink.checked(numbers) is numbers
    said = refusal(sink.check, numbers.toDF("n", "N"), None)
    assert said == "table new_t: column n appears twice; rename or drop one"
    with monkeypatch.context() as pretended:
        pretend_master(spark, pretended, "spark://host:7077")
        said = refusal(sink.check, numbers, None)
    assert f"{folder} is a local path, but the master is spark://host:7077" in said


def test_the_folder_that_a_dropped_table_left_is_refused(spark, numbers, tmp_path):
    table_sink("new_t").check(numbers, None)
    spark.sql(f"CREATE DATABASE left_shop LOCATION '{tmp_path}/shop'")
    try:
        (tmp_path / "shop" / "t").mkdir()
        (tmp_path / "shop" / "t" / "part-0").touch()
        said = refusal(table_sink("left_shop.t").check, numbers, None)
        way = said.partition("to go on with it, run ")[2]
        assert re.fullmatch(
            r"CREATE TABLE left_shop\.t \(`n` int, `k` int\) USING parquet LOCATION"
            r" 'file:/.*/shop/t'",
            way,
        )
    finally:
        spark.sql("DROP DATABASE left_shop")


def test_a_table_that_is_there_is_checked_for_its_rows_and_its_checkpoint(
    spark, made, numbers, left
):
    folder, checkpoint = left
    outside = made(f"(n INT, k INT) USING parquet LOCATION '{folder}'")
    table_sink(outside).check(numbers, None)
    said = refusal(table_sink(outside).check, numbers, checkpoint)
    assert said.startswith(f"table {outside}: folder file:{folder} has files that no")
    inside = made("(n INT, k INT) USING parquet PARTITIONED BY (k)")
    table_sink(inside).check(numbers, checkpoint)
    said = refusal(table_sink(inside).check, numbers.select("k"), None)
    assert f"table {inside}: partition_by has each column" in said
    assert "has no column m" in refusal(
        table_sink(inside).check, numbers.withColumnRenamed("n", "m"), None
    )


def test_rows_are_written_under_the_names_of_the_table_and_checked(spark, made):
    name = made("(Key VARCHAR(3), n INT) USING JSON")
    rows = spark.sql("SELECT 1 AS N, 'abc' AS KEY")
    sink = table_sink(name, format="json")
    checked = sink.checked(rows)
    assert checked.columns == ["n", "Key"]
    assert checked.collect() == [(1, "abc")]
    with pytest.raises(PySparkException, match="column Key has a text that is longer"):
        sink.checked(rows.withColumn("KEY", F.lit("abcd"))).collect()
    same = rows.toDF("n", "Key").select("n")
    assert sink.checked(same) is same
    plain = table_sink("no_such", format="text")
    with pytest.raises(PySparkException, match="table no_such: column s has NULL"):
        plain.checked(spark.sql("SELECT nullif('x', 'x') AS s")).collect()
    with in_force(spark, {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MILLIS"}):
        times = spark.sql("SELECT timestamp_micros(1) AS t")
        cut = table_sink("no_such").checked(times)
        with pytest.raises(PySparkException, match="has a time with microseconds"):
            cut.collect()


def test_a_writer_and_a_comparison_have_the_format_of_the_table(spark, made, tmp_path):
    name = made("(s STRING, n INT) USING CSV OPTIONS (sep ';')")
    writer = spark.readStream.format("rate").load().writeStream
    assert table_sink(name, format="csv").configure(writer) is writer
    rows = spark.sql("SELECT 'a;b' AS s, 1 AS n")
    form = table_sink(name, format="csv").form
    assert form.texts == "csv"
    assert form.written(rows, str(tmp_path / "kept")).collect() == [("a;b", 1)]
    [file] = (tmp_path / "kept").glob("part-*")
    assert file.read_text() == '"a;b";1\n'
    read = table_sink(name, format="csv").read
    assert read(spark, rows.schema, locate(spark, tmp_path)).columns == ["s", "n"]


# --- what becomes of a table under its query


def test_a_claimed_table_is_looked_at(spark, made, tmp_path):
    name = made("(n INT) USING parquet")
    assert table_sink("no_such").claim(spark, None) is None
    look = table_sink(name).claim(spark, None)
    assert look(0) is None
    spark.sql(f"ALTER TABLE {name} ADD COLUMNS (m INT)")
    assert look(0) is None
    (tmp_path / "metadata").write_text('{"id":"of-this-query"}')
    with_checkpoint = table_sink(name).claim(spark, locate(spark, tmp_path))
    assert "lacks batch 0 of this query" in str(with_checkpoint(0))
    assert with_checkpoint(-1) is None
    spark.sql("CREATE DATABASE elsewhere_now")
    try:
        spark.sql("USE elsewhere_now")
        assert look(0) is None
    finally:
        spark.sql("USE default")
        spark.sql("DROP DATABASE elsewhere_now")
    spark.sql(f"DROP TABLE {name}")
    ways = "put it back as it was, or start anew with another target and another"
    gone = f"table {name} was dropped while the query wrote to it; {ways} checkpoint"
    assert look(0) == with_checkpoint(0) == gone
    spark.sql(f"CREATE TABLE {name} (n INT) USING orc")
    said = f"table {name} was changed or made again while the query wrote to it: its"
    assert str(look(0)).startswith(f"{said} format, before parquet, is now orc; put")


def test_a_catalog_that_cannot_be_asked_is_no_dropped_table(spark):
    with pytest.raises(AnalysisException, match="no_such_catalog"):
        _lost(spark, "`no_such_catalog`.`s`.`t`", {})


DESCRIBED: dict[str, Any] = {
    "location": "file:/t",
    "partition_columns": ["k"],
    "provider": "csv",
    "storage_properties": {"sep": ";"},
    "columns": [{"name": "n", "type": {"name": "int"}}, {"name": "k", "type": "x"}],
}
INT, LONG = {"name": "n", "type": {"name": "int"}}, {"name": "n", "type": "bigint"}
COLUMN = "its column n has gone, or is of another type"


@pytest.mark.parametrize(
    ("now", "change"),
    [
        ({}, None),
        ({"owner": "another"}, None),
        ({"columns": [{"name": "m", "type": "x"}, *DESCRIBED["columns"]]}, None),
        ({"columns": [DESCRIBED["columns"][1]]}, COLUMN),
        ({"columns": [LONG, DESCRIBED["columns"][1]]}, COLUMN),
        ({"location": "file:/u"}, "its folder, before file:/t, is now file:/u"),
        ({"provider": "orc"}, "its format, before csv, is now orc"),
        ({"partition_columns": None}, "its partitions, before ['k'], is now None"),
        (
            {"storage_properties": {}},
            "its options, before {'sep': ';'}, is now {}",
        ),
    ],
    ids=[
        *("nothing", "of no matter", "one more column", "a column less", "a type"),
        *("a folder", "a format", "partitions", "options"),
    ],
)
def test_a_table_has_changed_if_new_rows_do_not_fit_it(now, change):
    assert _change(DESCRIBED, DESCRIBED | now) == change


def test_parts_that_a_table_never_had_have_not_changed():
    without = {"location": "x", "provider": "orc", "columns": []}
    assert _change(without, dict(without)) is None
    more = {**without, "partition_columns": ["k"]}
    assert _change(without, more) == "its partitions, before None, is now ['k']"
