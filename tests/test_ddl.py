"""DDL without Spark: the same columns and types as Spark's own parser reads, or none."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyspark.errors import PySparkException
from pyspark.sql import types as T

from sparkstream_kit._internal import ddl
from sparkstream_kit._internal.spark.session import timestamp_type

PLAIN = [
    "BIGINT",
    "BINARY",
    "BOOLEAN",
    "BYTE",
    "DATE",
    "DEC",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "INTEGER",
    "INTERVAL",
    "LONG",
    "NUMERIC",
    "REAL",
    "SHORT",
    "SMALLINT",
    "STRING",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TIMESTAMP_NTZ",
    "TINYINT",
    "VARIANT",
    "VOID",
]
WITH_NUMBERS = (
    "DECIMAL(5)",
    "decimal(38, 38)",
    "NUMERIC( 9,2 )",
    "CHAR(3)",
    "CHARACTER(3)",
    "varchar(10)",
)
INTERVALS = (
    "INTERVAL YEAR",
    "INTERVAL MONTH",
    "interval year to month",
    "INTERVAL DAY",
    "INTERVAL DAY TO SECOND",
    "INTERVAL HOUR TO MINUTE",
    "INTERVAL SECOND",
)
NAMES = ("a", "_b", "date", "interval", "Struct", "`a b`", "`x``y`", "`ä.ö`", "n1")
ENDS = (
    "",
    " NOT NULL",
    " not null",
    " COMMENT 'it''s'",
    ' NOT NULL COMMENT "a ""word"""',
    " COMMENT ''",
)

scalars = st.sampled_from([*PLAIN, *map(str.lower, PLAIN), *WITH_NUMBERS, *INTERVALS])


def fields(kinds, separators):
    field = st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(separators),
        kinds,
        st.sampled_from(ENDS),
    ).map("".join)
    return st.lists(field, min_size=1, max_size=3).map(", ".join)


def nested(kinds):
    return st.one_of(
        kinds.map("ARRAY<{}>".format),
        st.tuples(scalars, kinds).map(lambda pair: "map<{}, {}>".format(*pair)),
        fields(kinds, (" ", ": ", ":")).map("STRUCT<{}>".format),
        st.just("STRUCT<>"),
    )


types = st.recursive(scalars, nested, max_leaves=4)
texts = st.one_of(types, fields(types, (" ", "\n", ": ")))
# A text with one more sign or word at some place, or less, is often none
torn = st.tuples(
    texts,
    st.integers(0, 60),
    st.sampled_from(["", " ", ",", "<", ">", "(", "'", "NOT"]),
).map(lambda all_: all_[0][: all_[1]] + all_[2] + all_[0][all_[1] + 1 :])

many = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def by_the_kit(spark, text):
    return ddl.read(text, timestamp_type(spark))


@pytest.mark.slow
@many
@given(texts)
def test_what_spark_writes_is_read_as_spark_reads_it(spark, text):
    assert by_the_kit(spark, text).jsonValue() == T.DataType.fromDDL(text).jsonValue()


@pytest.mark.slow
@many
@given(torn)
@example("a")
@example("a INT NOT NULL NOT NULL")
@example("a DECIMAL(39,2)")
@example("a DECIMAL(3,4)")
@example("a INTERVAL MONTH TO YEAR")
@example("a INTERVAL DAY TO MONTH")
@example("a INT COMMENT 'b\\n'")
@example("a INT DEFAULT 3")
@example("a STRING COLLATE UTF8_LCASE")
@example("a.b INT")
@example("ä INT")
@example("1a INT")
@example("a VARCHAR(0)")
@example("a CHAR")
@example("a INT;")
@example("a INT,")
@example("a ARRAY<INT")
@example("")
def test_no_text_is_read_in_another_way_than_by_spark(spark, text):
    try:
        kind = by_the_kit(spark, text)
    except ddl.UnreadError:
        return
    try:
        of_spark = T.DataType.fromDDL(text).jsonValue()
    except PySparkException as error:
        of_spark = str(error)
    assert kind.jsonValue() == of_spark


def test_columns_have_their_types_comments_and_nullability():
    text = "`unit price` DECIMAL(9,2) NOT NULL COMMENT 'net', tags: ARRAY<STRING>"
    schema = ddl.read(text, T.TimestampType())
    assert isinstance(schema, T.StructType)
    price, tags = schema.fields
    assert price == T.StructField(
        "unit price", T.DecimalType(9, 2), False, {"comment": "net"}
    )
    assert tags == T.StructField("tags", T.ArrayType(T.StringType()))


def test_the_session_says_which_type_a_timestamp_is():
    schema = ddl.read("t TIMESTAMP, a ARRAY<TIMESTAMP>", T.TimestampNTZType())
    assert schema.simpleString() == "struct<t:timestamp_ntz,a:array<timestamp_ntz>>"


@pytest.mark.parametrize(
    ("text", "word"),
    [("a SRING", "SRING"), ("a INT b", "b"), ("a ARRAY<", ""), ("a INT #", "#")],
)
def test_an_error_has_the_word_at_which_reading_stops(text, word):
    with pytest.raises(ddl.UnreadError) as found:
        ddl.read(text, T.TimestampType())
    assert found.value.word == word


@pytest.mark.parametrize("text", ["a INT\u00a0", "\u3000", "a INT \u00a0 b"])
def test_a_blank_that_is_none_of_sparks_is_not_read(text):
    with pytest.raises(ddl.UnreadError):
        ddl.read(text, T.TimestampType())
