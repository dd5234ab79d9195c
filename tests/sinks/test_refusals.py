"""`sinks.refusals`: which values stop a batch, at their exact edges."""

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit.sinks import refusals

NO_UTF8 = "CAST(X'61FF' AS STRING)"


@pytest.fixture
def held(spark):
    """Return a function: for each value of SQL, the words of the refusals that hold."""

    def words_of(refuse, rows):
        values = ", ".join(f"({row})" for row in rows)
        frame = spark.sql(f"VALUES {values} AS v(s)")
        words = [
            F.when(is_wrong, F.lit(message))
            for is_wrong, message in refuse(F.col("s"), frame.schema["s"].dataType)
        ]
        found = frame.select(F.concat_ws(" + ", F.lit(None), *words)).collect()
        return dict(zip(rows, [row[0] for row in found], strict=True))

    return words_of


def test_the_last_refusal_that_holds_is_told_and_other_values_stay(spark):
    rows = spark.sql("VALUES (1), (2), (3), (NULL) AS v(n)")
    value = F.col("n")
    stops = [(value > 1, "is above 1"), (value > 2, "is above 2")]
    checked = refusals.stopped(stops, value, T.IntegerType(), "column n").alias("n")
    fine = rows.where("n = 1 OR n IS NULL").select(checked)
    assert fine.schema["n"].dataType == T.IntegerType()
    assert fine.collect() == [(1,), (None,)]
    for number, words in ((2, "column n is above 1"), (3, "column n is above 2")):
        with pytest.raises(PySparkException, match=words):
            rows.where(F.col("n") == number).select(checked).collect()
    assert refusals.stopped([], value, T.IntegerType(), "column n") is value


def test_rows_to_collect_have_their_texts_checked_by_place(spark):
    numbers = spark.sql("SELECT 1 AS n, array(2) AS a")
    assert refusals.only_texts("here", numbers) is numbers
    twice = spark.sql("SELECT 1 AS `a.b`, 'é' AS S, array('x') AS s, NULL AS n")
    checked = refusals.only_texts("here", twice)
    assert checked.columns == ["a.b", "S", "s", "n"]
    assert checked.collect() == [(1, "é", ["x"], None)]
    wrong = spark.sql(f"SELECT 1 AS n, 'x' AS s, array({NO_UTF8}) AS s")
    with pytest.raises(PySparkException) as caught:
        refusals.only_texts("here", wrong).collect()
    words = "here: column s has a text that is not UTF-8, of which other characters"
    assert words in str(caught.value)


def test_a_collation_is_one_of_a_text_that_has_another_than_its_bytes(spark):
    assert not refusals.is_collated(T.StringType())
    assert refusals.is_collated(T.StringType("UNICODE"))
    assert not refusals.is_collated(T.IntegerType())
    rows = spark.sql("SELECT 'x' COLLATE UNICODE_CI AS c, 'x' AS s")
    values = [F.col(name) for name in rows.columns]
    plain = [
        refusals.without_collation(value, field.dataType)
        for value, field in zip(values, rows.schema, strict=True)
    ]
    assert plain[1] is values[1]
    types = [field.dataType for field in rows.select(plain).schema]
    assert types == [T.StringType(), T.StringType()]


@pytest.mark.parametrize(
    ("mark", "texts"),
    [
        (
            "||",
            {"a||b": True, "||": True, "a|": True, "|": True}
            | {"a|b": False, "a": False, "": False, "|a": False},
        ),
        ("|", {"a|": True, "|": True, "a": False, "": False}),
        ("aba", {"xab": True, "ab": True, "xa": False, "xba": False, "xabab": True}),
        ("\r\n", {"a\r": False, "a\r\n": True, "\n": False}),
    ],
    ids=["two of one", "one", "others", "a line end"],
)
def test_a_text_meets_a_mark_that_a_reader_finds_before_the_text_ends(
    spark, mark, texts
):
    rows = spark.createDataFrame([(text,) for text in texts], "s STRING")
    found = rows.select(refusals.meets(F.col("s"), mark)).collect()
    assert dict(zip(texts, [row[0] for row in found], strict=True)) == texts


def test_a_text_that_is_not_utf8_is_found_wherever_a_type_has_texts(spark):
    places = {
        "{}": True,
        "array('x', {})": True,
        "array(array({}))": True,
        "map({}, 1)": True,
        "map(1, {})": True,
        "map('k', {})": True,
        "map({}, 'v')": True,
        "map(1, map({}, 2))": True,
        "named_struct('n', 1, 's', 'x', 't', {})": True,
        "named_struct('s', {}, 'n', 1, 't', 'x')": True,
        "named_struct('n', 1, 'a', array({}))": True,
    }

    def wrong(text):
        columns = [f"{place.format(text)} AS c{n}" for n, place in enumerate(places)]
        frame = spark.sql(f"SELECT {', '.join(columns)}")
        found = []
        for field in frame.schema:
            [(is_wrong, words)] = refusals.lost_bytes(F.col(field.name), field.dataType)
            assert words.startswith("has a text that is not UTF-8, of which other")
            assert words.endswith(
                "; give F.make_valid_utf8(column), or F.base64(bytes)"
            )
            found.append(is_wrong)
        [row] = frame.select(found).collect()
        return dict(zip(places, row, strict=True))

    assert wrong(NO_UTF8) == places
    assert wrong("'é'") == dict.fromkeys(places, False)


@pytest.mark.parametrize("kind", ["INT", "BINARY", "ARRAY<INT>", "MAP<INT, DATE>"])
def test_a_type_without_texts_has_none_that_is_not_utf8(spark, kind):
    [field] = spark.sql(f"SELECT CAST(NULL AS {kind}) AS c").schema
    assert [*refusals.lost_bytes(F.col("c"), field.dataType)] == []


NULL = (
    "has an empty text or __HIVE_DEFAULT_PARTITION__, which Spark takes for NULL in the"
    " name of a folder; replace it"
)
LONG = (
    "has a text that is too long for the name of a folder; shorten it, or leave it out"
    " of partition_by"
)


def in_folder(name):
    return lambda value, kind: refusals.in_a_folder(name, value, kind)


def test_no_folder_has_the_name_of_some_texts(held):
    rows = {
        "''": NULL,
        "'__HIVE_DEFAULT_PARTITION__'": NULL,
        "'__hive_default_partition__'": "",
        "NULL": "",
        "' '": "",
        r"'a\0'": "has a NUL character, which no name of a folder has; remove it",
    }
    assert held(in_folder("k"), rows) == rows
    found = held(in_folder("k"), [NO_UTF8])[NO_UTF8]
    assert found.startswith("has a text that is not UTF-8, of which other characters")
    assert held(in_folder("k"), ["1", "2"]) == {"1": "", "2": ""}


@pytest.mark.parametrize(
    ("name", "room"),
    [("k", 253), ("name", 250), ("日", 251), ("a:b", 249), ("a b", 251)],
    ids=["a letter", "a word", "three bytes", "a colon", "a blank"],
)
def test_the_name_of_a_folder_has_255_bytes(held, name, room):
    """Spark writes it as name=text, and three bytes for a character such as a colon."""
    fits = [
        f"repeat('x', {room})",
        f"concat(repeat('日', {room // 3}), repeat('x', {room % 3}))",
        f"concat(repeat(':', {room // 3}), repeat('x', {room % 3}))",
    ]
    longer = [f"concat({each}, 'x')" for each in fits]
    rows = dict.fromkeys(fits, "") | dict.fromkeys(longer, LONG)
    assert held(in_folder(name), rows) == rows


def test_spark_writes_a_folder_of_255_bytes_and_no_longer_one(spark, tmp_path):
    rows = spark.sql("SELECT repeat('x', 249) AS `a:b`, 1 AS n")
    rows.write.partitionBy("a:b").parquet(str(tmp_path / "out"))
    [folder] = (tmp_path / "out").glob("a*")
    assert len(folder.name) == 255
    assert folder.name.startswith("a%3Ab=xx")


def test_a_byte_order_mark_is_lost_at_the_beginning_of_texts_alone(held):
    mark = (
        "begins with a byte order mark, which readers take for none of its characters;"
        " remove it"
    )
    rows = {r"'\ufeff'": mark, r"'\ufeffa'": mark, r"'a\ufeff'": "", "NULL": ""}
    for name in ("csv", "text"):
        found = held(
            lambda *given, name=name: refusals.mark_at_the_beginning(name, *given), rows
        )
        assert found == rows
    for name, kind in (
        ("json", T.StringType()),
        ("parquet", T.StringType()),
        ("csv", T.IntegerType()),
    ):
        assert [*refusals.mark_at_the_beginning(name, F.col("s"), kind)] == []


DAYS = "has a time of 4 to 15 October 1582, which ORC moves; use format='parquet'"
SECOND = "has a time in the last second of 1969, which ORC moves; use format='parquet'"


def test_orc_moves_some_days_and_a_second(held):
    days = {
        "DATE'1582-10-03'": "",
        "DATE'1582-10-04'": DAYS,
        "DATE'1582-10-15'": DAYS,
        "DATE'1582-10-16'": "",
        "DATE'1969-12-31'": "",
        "NULL": "",
    }
    assert held(refusals.lost_in_orc, days) == days
    times = {
        "TIMESTAMP'1582-10-03 23:59:59.999999Z'": "",
        "TIMESTAMP'1582-10-04 00:00:00Z'": DAYS,
        "TIMESTAMP'1582-10-15 23:59:59.999999Z'": DAYS,
        "TIMESTAMP'1582-10-16 00:00:00Z'": "",
        "timestamp_micros(-1000000)": "",
        "timestamp_micros(-999999)": SECOND,
        "timestamp_micros(-1)": SECOND,
        "timestamp_micros(0)": "",
        "NULL": "",
    }
    assert held(refusals.lost_in_orc, times) == times
