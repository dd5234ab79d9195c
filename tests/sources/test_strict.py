"""How the values of a source are read: each rule by itself, without a query or a file.

`values_of` says as which types and with which options Spark reads a file, and how each
value is then converted. Here a row of SQL stands for what Spark has read. The pages and
the other tests of this folder read files.
"""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import PySparkException
from pyspark.sql import types as T

from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources.strict import values_of

ASIDE = "set such lines aside with quarantine.parse_csv"
LENIENT = f"{ASIDE}, or read NULL with mode='PERMISSIVE'"
WINDOWS = (
    "if it is windows-1252, as Excel writes on Windows, convert the files: iconv -f"
    " windows-1252 -t UTF-8 IN > OUT"
)


def values(spark, kind, schema, **options):
    lower = {name.lower(): value for name, value in options.items()}
    return values_of(spark, kind, from_ddl(schema), lower)


def frame_of(spark, name, *raw):
    """Return rows as Spark has read them from a file; their values are written in SQL."""
    file = "named_struct('file_path', 'file:/in/x')"
    rows = ", ".join(f"({sql}, {file})" for sql in raw)
    return spark.sql(f"SELECT * FROM VALUES {rows} AS t(`{name}`, _metadata)")  # noqa: S608 - literals


def read(spark, of, name, *raw):
    """Return the values of a column as the source gives them."""
    rows = frame_of(spark, name, *raw).select(*of.select([name])).collect()
    return [row[0] for row in rows]


def said(spark, of, name, raw):
    """Return what is said of a value at which the query fails."""
    with pytest.raises(PySparkException) as caught:
        read(spark, of, name, raw)
    [text] = re.findall(rf"column {name}: (.*); file:/in/x", str(caught.value))
    return text


# --- what is refused


def test_a_type_that_a_format_cannot_hold_is_refused(spark):
    def refused(kind, schema, **options):
        return refusal(values, spark, kind, schema, **options)

    nested = "column b: CSV cannot hold {}; declare it as STRING"
    assert refused("csv", "a INT, b ARRAY<INT>") == nested.format("array<int>")
    assert refused("csv", "b MAP<STRING, INT>") == nested.format("map<string,int>")
    assert refused("csv", "b STRUCT<c: INT>") == nested.format("struct<c:int>")
    length = (
        "column b: {}: Spark's readers do not check the length of a text; declare"
        " STRING, and check it with quarantine.expect"
    )
    for kind in ("csv", "json", "orc", "parquet", "text"):
        assert refused(kind, "a INT, b VARCHAR(3)") == length.format("varchar(3)")
    assert refused("json", "b ARRAY<CHAR(3)>") == length.format("array<char(3)>")
    assert refused("csv", "b VARIANT") == (
        "column b: variant: Spark would guess the type of each value, so that 007 is 7;"
        " declare STRING"
    )
    keys = "column b: JSON cannot hold {}; the keys in JSON are texts: declare MAP<STRING, …>"
    assert refused("json", "b MAP<INT, INT>") == keys.format("map<int,int>")
    assert refused("json", "b ARRAY<MAP<DATE, INT>>") == keys.format(
        "array<map<date,int>>"
    )
    # Also where nothing is checked
    assert refused("csv", "b ARRAY<INT>", mode="PERMISSIVE") == nested.format(
        "array<int>"
    )


def test_a_type_that_a_format_can_hold_is_taken(spark):
    assert not values(spark, "csv", "b VARIANT", singleVariantColumn="b").marks
    assert not values(spark, "json", "a VARIANT, b MAP<STRING, ARRAY<INT>>").marks
    assert not values(spark, "parquet", "a MAP<INT, INT>, b ARRAY<INT>").marks
    with in_force(spark, {"spark.sql.legacy.charVarcharAsString": "true"}):
        assert not values(spark, "csv", "b VARCHAR(3)").marks


def test_an_option_with_which_spark_would_read_other_values_is_refused(spark):
    def refused(kind="csv", schema="a INT, b STRING", **options):
        return refusal(values, spark, kind, schema, **options)

    assert refused("json", encoding="windows-1252") == (
        "sources.json() cannot read the encoding windows-1252; convert the files: iconv"
        " -f windows-1252 -t UTF-8 IN > OUT"
    )
    assert refused(charset="UTF8") == (
        "sources.csv() cannot read the encoding UTF8; did you mean UTF-8?"
    )
    way = "; write it as a language and a country, such as 'de-DE'"
    for locale in ("de_DE", "d", "", 5, "de-"):
        assert refused("json", locale=locale) == f"locale is {locale!r}{way}"
    assert refused(escape="").startswith(
        "escape is ''; with it Spark reads a last field"
    )
    assert refused(header=True, ignoreCorruptFiles=True).endswith(
        "leave ignoreCorruptFiles out, or give enforceSchema=True if the names do not"
        " count"
    )
    assert refused("json", mode="FAILFST") == (
        "unknown mode of sources.json() FAILFST; did you mean FAILFAST?"
    )


def test_an_option_that_spark_reads_as_it_is_meant_is_taken(spark):
    for given in (
        {"encoding": "utf-16le"},
        {"locale": "de"},
        {"locale": "zh-Hant-TW"},
        {"escape": "\\"},
        {"header": True},
        {"mode": "dropMalformed"},
    ):
        values(spark, "csv", "a INT, b STRING", **given)
    with in_force(spark, {"spark.sql.legacy.javaCharsets": "true"}):
        values(spark, "csv", "a INT, b STRING", encoding="windows-1252")


def test_only_what_fails_a_query_asks_for_a_locale_and_patterns(spark):
    given: dict[str, Any] = {
        "schema": "a DECIMAL(9,2), b DATE",
        "locale": "de-DE",
        "dateFormat": "dd.MM.yyyy",
    }
    assert values(spark, "csv", **given).marks == (",", ".")
    assert values(spark, "csv", mode="PERMISSIVE", **given).marks is None
    with in_force(spark, {"spark.sql.legacy.timeParserPolicy": "LEGACY"}):
        assert "dateFormat='dd.MM.yyyy': " in refusal(values, spark, "csv", **given)
        assert not values(spark, "csv", mode="PERMISSIVE", **given).is_strict


# --- the options and the types with which Spark reads


STRICT = {
    "mode": "FAILFAST",
    "escape": '"',
    "enforceschema": False,
    "columnpruning": False,
    "multiline": False,
    "unescapedquotehandling": "RAISE_ERROR",
}
LEFT = {key: STRICT[key] for key in STRICT if key != "unescapedquotehandling"}


def test_csv_is_read_by_the_rfc_unless_the_arguments_say_otherwise(spark):
    def options(schema="a STRING, b STRING", **given):
        return values(spark, "csv", schema, **given).strict_options()

    assert options() == STRICT
    # A value of a single column may not be torn at its line end
    assert options("a STRING") == STRICT | {"multiline": True}
    assert options(quote="'") == STRICT | {"escape": "'"}
    assert options(quote="") == STRICT
    assert options(multiLine=True) == STRICT | {"linesep": "\n"}
    assert options(mode="failfast") == STRICT
    lenient = LEFT | {"mode": "PERMISSIVE"}
    assert options(mode="permissive") == lenient
    assert options(mode="PERMISSIVE", multiLine=True) == lenient
    assert options("a STRING, _corrupt_record STRING") == lenient
    assert options("a INT, _bad STRING", columnNameOfCorruptRecord="_bad") == lenient
    named = {"columnNameOfCorruptRecord": "_bad"}
    assert options("a STRING, _corrupt_record STRING", **named) == STRICT
    assert options("a STRING, _corrupt_record STRING", mode="FAILFAST") == STRICT


def test_json_is_read_by_its_standard_and_other_formats_as_they_are(spark):
    def options(kind, **given):
        return values(spark, kind, "a STRING", **given).strict_options()

    assert options("json") == {"mode": "FAILFAST", "allowsinglequotes": False}
    assert options("json", mode="PERMISSIVE") == {"mode": "PERMISSIVE"}
    assert [options(kind) for kind in ("orc", "parquet", "text")] == [{}, {}, {}]
    ignored = {"ignorecorruptfiles": False}
    with in_force(spark, {"spark.sql.files.ignoreCorruptFiles": "true"}):
        assert options("parquet") == ignored
        assert options("json", mode="PERMISSIVE") == ignored | {"mode": "PERMISSIVE"}


def test_the_column_for_broken_lines_is_the_one_that_the_session_names(spark):
    def options(kind, **given):
        return values(spark, kind, "a INT, _bad STRING", **given).options

    assert options("csv", SEP=";") == {"sep": ";"}
    with in_force(spark, {"spark.sql.columnNameOfCorruptRecord": "_bad"}):
        assert options("csv") == {"columnnameofcorruptrecord": "_bad"}
        assert options("json", columnNameOfCorruptRecord="_c") == {
            "columnnameofcorruptrecord": "_c"
        }
        assert options("parquet") == {}
        assert not values(spark, "csv", "a INT, _bad STRING").is_strict
        assert values(spark, "csv", "a INT, _corrupt_record STRING").is_strict


ALL = (
    "a DECIMAL(5,2), b DOUBLE, c FLOAT, d STRING, e BINARY, f DATE, g TIMESTAMP,"
    " h TIMESTAMP_NTZ, i INT, j BOOLEAN, k SMALLINT, l TINYINT"
)


def read_as(spark, kind, schema=ALL, **options):
    return values(spark, kind, schema, **options).schema().simpleString()


def changed(**types):
    schema = T.StructType()
    for field in from_ddl(ALL).fields:
        schema.add(field.name, types.get(field.name, field.dataType))
    return schema.simpleString()


def test_values_of_csv_that_spark_would_change_are_read_as_texts(spark):
    texts = dict.fromkeys("abcdefgh", "string")
    assert read_as(spark, "csv") == changed(**texts)
    assert read_as(spark, "csv", mode="PERMISSIVE") == changed()
    # Nothing in a text shows that it is not UTF-8
    decoded = {name: texts[name] for name in "abcfgh"}
    assert read_as(spark, "csv", encoding="utf-8") == changed(**decoded)
    assert read_as(spark, "csv", encoding="UTF-8", sep="::") == changed(**texts)


def test_values_that_spark_reads_right_are_read_as_they_are(spark):
    for kind in ("orc", "text"):
        assert read_as(spark, kind) == changed()
    assert read_as(spark, "parquet") == changed(k="integer", l="integer")


def test_values_of_json_that_spark_would_change_are_read_as_another_type(spark):
    variants = dict.fromkeys("fgh", "variant")
    widened = {"c": "double", "l": "short"}
    assert read_as(spark, "json") == changed(**variants, **widened, a="string")
    assert read_as(spark, "json", mode="PERMISSIVE", encoding="UTF-8") == changed()
    # As a text a decimal would lose digits, or whether it was in quotes
    with_variant = changed(**variants, **widened, a="variant")
    assert read_as(spark, "json", encoding="UTF-8") == with_variant
    assert read_as(spark, "json", locale="de-DE") == with_variant
    with in_force(spark, {"spark.sql.json.enableExactStringParsing": "false"}):
        assert read_as(spark, "json") == with_variant
    nested = "a ARRAY<TINYINT>, b MAP<STRING, DATE>, c STRUCT<d: DECIMAL(5,2), e: INT>"
    assert read_as(spark, "json", nested) == (
        "struct<a:array<smallint>,b:map<string,variant>,c:struct<d:string,e:int>>"
    )


def test_dates_with_options_that_only_spark_knows_are_read_by_spark(spark):
    def by_spark(**options):
        schema = "d DATE, t TIMESTAMP, n TIMESTAMP_NTZ"
        read = values(spark, "csv", schema, **options).schema()
        return "".join(field.name for field in read if field.dataType != T.StringType())

    assert by_spark() == ""
    assert by_spark(dateFormat="dd.MM.yyyy", timestampFormat="dd.MM.yyyy") == ""
    assert by_spark(locale="de-DE") == ""
    assert by_spark(dateFormat="d. MMMM yyyy", locale="de-DE") == "d"
    assert by_spark(timestampFormat="d. MMMM yyyy", locale="de-DE") == "t"
    assert by_spark(timestampNTZFormat="dd.MM.yyyy") == "n"
    assert by_spark(timeZone="Europe/Berlin") == "t"
    assert by_spark(enableDateTimeParsingFallback=True) == "dtn"
    assert by_spark(enableDateTimeParsingFallback=True, mode="PERMISSIVE") == "dtn"


def test_a_format_whose_columns_spark_reads_right_has_no_step_more(spark):
    def given(kind, schema, **options):
        return values(spark, kind, schema, **options).select(["a"])

    for kind, schema in (
        ("csv", "a INT, b BOOLEAN, c BIGINT"),
        ("json", "a INT, b STRING, c DOUBLE, d ARRAY<STRING>"),
        ("parquet", "a INT, b DECIMAL(5,2), c ARRAY<DATE>"),
        ("orc", "a TINYINT, b DATE"),
        ("text", "a STRING"),
    ):
        assert given(kind, schema) is None
    assert given("csv", "a DECIMAL(5,2) NOT NULL", mode="PERMISSIVE") is None
    assert given("csv", "a STRING, b STRING", encoding="UTF-8") is None


def selected(spark, kind, schema):
    """Return the columns that are selected, as texts; the last one is a partition."""
    names = [*from_ddl(schema).names, "part.x"]
    columns = values(spark, kind, schema, header=True).select(names)
    return [str(each).removeprefix("Column<'")[:-2] for each in columns]


def test_only_the_columns_that_need_it_are_converted_or_checked(spark):
    texts = selected(spark, "csv", "a INT, b DOUBLE, c INT NOT NULL")
    assert (texts[0], texts[3]) == ("a", "`part.x`")
    assert "is no double" in texts[1]
    assert "NOT NULL" not in texts[1]
    assert "is no" not in texts[2]
    assert "NOT NULL" in texts[2]


def test_only_the_parts_that_need_it_are_converted_or_checked(spark):
    nested = "a ARRAY<INT>, b ARRAY<STRUCT<c: INT, d: DATE>>, e STRUCT<f: INT NOT NULL>"
    texts = selected(spark, "json", nested)
    assert (texts[0], texts[3]) == ("a", "`part.x`")
    assert "is no date" in texts[1]
    assert "NOT NULL" in texts[2]
    # A part of a struct in which nothing is checked stays in one piece
    [whole, _] = selected(spark, "json", "a STRUCT<b: DATE, c: STRUCT<d: INT, e: INT>>")
    assert "is no date" in whole
    assert "['d']" not in whole


def test_the_metadata_of_a_column_stays_with_it(spark):
    comment = {"comment": "x"}
    schema = T.StructType().add("a", T.ByteType(), metadata=comment)
    schema.add("b", T.IntegerType(), nullable=False)
    of = values_of(spark, "parquet", schema, {})
    assert [field.metadata for field in of.schema()] == [comment, {}]
    frame = spark.sql(
        "SELECT 1 AS a, 2 AS b, named_struct('file_path', '') AS _metadata"
    )
    columns = of.select(["a", "b"]) or []
    assert [field.metadata for field in frame.select(*columns).schema] == [comment, {}]


# --- texts


def test_a_text_that_is_not_utf_8_fails(spark):
    of = values(spark, "csv", "a STRING, b BINARY")
    bad = (
        f" is not UTF-8; {WINDOWS}; else give encoding='ISO-8859-1', or"
        " encoding='UTF-8' if the file itself has U+FFFD"
    )
    assert read(spark, of, "a", "'x'", "'Mü\n'", "''", "NULL") == [
        "x",
        "Mü\n",
        "",
        None,
    ]
    assert read(spark, of, "b", "'ü'") == ["ü".encode()]
    assert said(spark, of, "a", "'M\ufffdl'") == f"M\ufffdl{bad}"
    assert said(spark, of, "b", "'\ufffd'") == f"\ufffd{bad}"


def test_a_text_of_another_encoding_fails_at_what_that_does_not_have(spark):
    latin = values(spark, "csv", "a STRING, b INT", encoding="iso-8859-1")
    kept = ["\x7f", "\xa0", "\ufffd"]
    assert read(spark, latin, "a", *(f"'{text}'" for text in kept)) == kept
    json = values(spark, "json", "a STRING, b INT", charset="ISO-8859-1")
    for of, text in ((latin, "\x80"), (json, "\x9f")):
        assert said(spark, of, "a", f"'{text}'") == (
            f"{text} is not ISO-8859-1; {WINDOWS}, and leave encoding= out"
        )
    ascii_ = values(spark, "csv", "a STRING, b INT", encoding="US-ASCII")
    assert read(spark, ascii_, "a", "'\x85'") == ["\x85"]
    wrong = "\ufffd is not US-ASCII; correct encoding="
    assert said(spark, ascii_, "a", "'\ufffd'") == wrong
    # Spark's reader of JSON fails by itself
    assert values(spark, "json", "a STRING", encoding="US-ASCII").select(["a"]) is None


QUOTE = " has a quote, which Spark misreads beside a separator of several characters"
BEGIN = " begins with a part of the separator, which could begin at two places"


SPLIT: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    # The options, a text that is read, and texts that fail
    ({"sep": "||"}, "x|", {'x"y': QUOTE, "|x": BEGIN}),
    ({"delimiter": "||"}, "x|", {"|x": BEGIN}),
    ({"sep": "e1"}, "1", {'x"y': QUOTE}),
    ({"sep": "::", "quote": "."}, 'x"y', {"x.y": QUOTE}),
    ({"sep": "::", "quote": ""}, 'x"y', {":x": BEGIN}),
    ({"sep": "::", "encoding": "UTF-8"}, "\ufffd", {'\ufffd"': QUOTE}),
    ({"sep": ";", "delimiter": "||"}, '|"', {}),
]


def test_a_text_that_spark_may_have_split_wrongly_fails(spark):
    for options, good, wrong in SPLIT:
        of = values(spark, "csv", "a STRING, b INT", **options)
        assert read(spark, of, "a", f"'{good}'") == [good], options
        sep = options.get("sep", "||")
        way = f"read the lines with sources.text and quarantine.parse_csv(sep='{sep}')"
        for text, why in wrong.items():
            assert said(spark, of, "a", f"'{text}'") == f"{text}{why}; {way}", options


TORN = (
    r"a value has a line end; if it is within quotes, give multiLine=True; if lines end"
    r" in different ways (\n, \r\n, \r), give multiLine=False"
)
LAST = r"a value ends with \r; if lines end with \r\n, give lineSep='\r\n'"
MANY = "a STRING, b STRING, c STRING"


def test_a_text_whose_line_end_spark_has_changed_fails(spark):
    def of(schema, **options):
        return values(spark, "csv", schema, **options)

    for encoding in ({}, {"encoding": "UTF-8"}):
        one = of("a STRING", **encoding)
        assert said(spark, one, "a", "'x\ny'") == TORN
        assert said(spark, one, "a", "'x\r'") == TORN
        assert read(spark, one, "a", "'x'") == ["x"]
        lines = of(MANY, multiLine=True, **encoding)
        assert said(spark, lines, "c", "'x\r'") == LAST
        assert read(spark, lines, "c", "'x\r\ny'", "'x\n'") == ["x\r\ny", "x\n"]
        assert read(spark, lines, "b", "'x\r'") == ["x\r"]
    of_bytes = of("a BINARY", multiLine=True, encoding="UTF-8")
    assert said(spark, of_bytes, "a", "'x\r'") == LAST
    assert read(spark, of_bytes, "a", "'x\ny'") == [b"x\ny"]


def test_a_line_end_that_spark_leaves_as_it_is_may_be_in_a_text(spark):
    cases: list[tuple[str, dict[str, Any]]] = [
        ("a STRING", {"multiLine": False}),
        ("a STRING", {"lineSep": "\n"}),
        (MANY, {}),
        (MANY, {"multiLine": False}),
        (MANY, {"multiLine": True, "lineSep": "\n"}),
    ]
    for schema, options in cases:
        of = values(spark, "csv", schema, **options)
        last = of.columns.names[-1]
        kept = ["x\r", "x\ny"]
        assert read(spark, of, last, "'x\r'", "'x\ny'") == kept, (schema, options)
        plain = values(spark, "csv", schema, encoding="UTF-8", **options)
        assert plain.select([last]) is None, (schema, options)


def test_a_number_or_a_date_of_a_torn_line_fails_with_its_line_end(spark):
    one = values(spark, "csv", "a DOUBLE")
    assert said(spark, one, "a", "'1\r2'") == TORN
    assert said(spark, values(spark, "csv", "a DATE"), "a", "'1\r2'") == TORN
    many = values(spark, "csv", "a DOUBLE, b DATE", multiLine=True)
    assert said(spark, many, "b", "'x\r'") == LAST
    assert said(spark, many, "a", "'x\r'").startswith("x\r is no double; ")


# --- numbers


def test_a_number_of_csv_that_does_not_fit_fails_and_says_what_can_be_done(spark):
    of = values(spark, "csv", "a DECIMAL(5,2), b DOUBLE, c FLOAT", header=True)
    wider = "declare a wider type or STRING"
    raw = ("'2.50'", "'2.500'", "'1e2'", "NULL")
    assert read(spark, of, "a", *raw) == [Decimal("2.5"), Decimal("2.5"), 100, None]
    assert said(spark, of, "a", "'2.505'") == (
        f"2.505 is no decimal(5,2); {wider}, say by locale='de-DE' what a comma is, or"
        f" {ASIDE}"
    )
    assert read(spark, of, "b", "'2.50'", "'-1e300'", "NULL") == [2.5, -1e300, None]
    assert said(spark, of, "b", "'1d'") == f"1d is no double; {wider}, or {ASIDE}"
    assert said(spark, of, "c", "'1e39'") == f"1e39 is no float; {wider}, or {ASIDE}"


def test_a_decimal_of_a_locale_is_read_by_its_marks(spark):
    of = values(spark, "csv", "a DECIMAL(9,2), b DOUBLE", locale="de-DE", header=True)
    mark = "in locale de-DE the decimal mark is ,; declare a wider type or STRING"
    assert read(spark, of, "a", "'1.234,50'", "NULL") == [Decimal("1234.5"), None]
    assert said(spark, of, "a", "'2.50'") == f"2.50 is no decimal(9,2); {mark}"
    assert said(spark, of, "a", "'2,505'") == f"2,505 is no decimal(9,2); {mark}"
    # A DOUBLE has a point in each locale
    assert read(spark, of, "b", "'2.5'") == [2.5]
    assert said(spark, of, "b", "'2,5'") == f"2,5 is no double; {mark}"


def test_a_text_that_stands_for_nan_or_infinity_is_read_as_it(spark):
    names = {"nanValue": "n/a", "positiveInf": "big", "negativeInf": "-big"}
    of = values(spark, "csv", "a DOUBLE, b FLOAT, c DECIMAL(5,2)", header=True, **names)
    for name in "ab":
        raw = ("'big'", "'-big'", "'1.5'", "NULL", "'n/a'")
        *found, no_number = read(spark, of, name, *raw)
        assert found == [float("inf"), float("-inf"), 1.5, None]
        assert no_number != no_number  # noqa: PLR0124 - NaN
    assert said(spark, of, "c", "'n/a'").startswith("n/a is no decimal(5,2); ")
    none = values(spark, "csv", "a DOUBLE, b INT", nanValue="n/a", header=True)
    assert said(spark, none, "a", "'big'").startswith("big is no double; ")


def test_a_value_that_is_the_name_of_its_column_is_said_to_be_a_header(spark):
    schema = T.StructType().add(" Price", T.DoubleType()).add("b", T.DateType())
    of = values_of(spark, "csv", schema, {})
    header = ", but the name of the column: give header=True; otherwise "
    assert said(spark, of, " Price", "' pRICE '") == (
        f" pRICE  is no double{header}declare a wider type or STRING, or {ASIDE}"
    )
    assert said(spark, of, "b", "'B'").startswith(f"B is no date{header}write it as ")
    assert said(spark, of, "b", "'c'").startswith("c is no date; write it as ")
    known = values(spark, "csv", "a INT, b DATE", header="true")
    assert said(spark, known, "b", "'b'").startswith("b is no date; write it as ")


def test_a_number_of_json_is_read_as_it_stands(spark):
    of = values(spark, "json", "a DECIMAL(5,2), b FLOAT, c TINYINT")
    assert read(spark, of, "a", "'2.50'", "NULL") == [Decimal("2.50"), None]
    assert said(spark, of, "a", "'2.505'") == (
        "2.505 is no decimal(5,2); declare a wider type or STRING, say by locale='de-DE'"
        " what a comma is, or set such lines aside with quarantine.parse_json"
    )
    infinite = float("inf")
    raw = ("1.5D", "CAST(NULL AS DOUBLE)", "DOUBLE('inf')")
    assert read(spark, of, "b", *raw) == [1.5, None, infinite]
    assert said(spark, of, "b", "1e39D") == (
        "1.0E39 is no float; declare a wider type, DOUBLE"
    )
    raw = ("127S", "-128S", "CAST(NULL AS SMALLINT)")
    assert read(spark, of, "c", *raw) == [127, -128, None]
    assert said(spark, of, "c", "128S") == "128 is no tinyint; declare a wider type"


def variants(*texts):
    return [f"parse_json('{text}')" for text in texts]


def test_a_decimal_of_json_that_spark_would_write_anew_keeps_its_digits(spark):
    of = values(spark, "json", "a DECIMAL(20,8)", encoding="UTF-8")
    raw = variants("1.5", "7", '"1.50"', "null", "0e-8", "0E1")
    assert read(spark, of, "a", *raw, "CAST(NULL AS VARIANT)") == [
        Decimal("1.5"), 7, Decimal("1.5"), None, 0, 0, None
    ]  # fmt: skip
    for text in ("1e1", '"1,5"', "true"):
        [wrong] = variants(text)
        assert " is no decimal(20,8); declare a" in said(spark, of, "a", wrong), text


def test_a_decimal_of_json_in_a_locale_is_a_number_or_a_text(spark):
    of = values(spark, "json", "a DECIMAL(9,2)", locale="de-DE")
    raw = variants('"2,50"', "2.50", '"1.234,5"', "null")
    assert read(spark, of, "a", *raw) == [
        Decimal("2.5"), Decimal("2.5"), Decimal("1234.5"), None
    ]  # fmt: skip
    mark = "in locale de-DE the decimal mark is ,; declare a wider type or STRING"
    for text in ('"2.50"', "2.505"):
        [wrong] = variants(text)
        number = text.strip('"')
        assert said(spark, of, "a", wrong) == f"{number} is no decimal(9,2); {mark}"


def test_a_whole_number_of_parquet_that_does_not_fit_fails(spark):
    of = values(spark, "parquet", "a TINYINT, b ARRAY<SMALLINT>")
    assert read(spark, of, "a", "127", "NULL") == [127, None]
    assert said(spark, of, "a", "128") == "128 is no tinyint; declare a wider type"
    assert read(spark, of, "b", "array(-32768, NULL)") == [[-32768, None]]
    wrong = "32768 is no smallint; declare a wider type"
    assert said(spark, of, "b", "array(1, 32768)") == wrong


# --- dates and times


REST = f"declare STRING, {LENIENT}"
AT = "write it as 2026-01-31 10:30:00, give"


def test_a_date_of_csv_that_is_written_otherwise_fails(spark):
    of = values(spark, "csv", "a DATE, b INT")
    raw = ("'2026-01-31'", "'2026-01-31 00:00'", "NULL")
    assert read(spark, of, "a", *raw) == [date(2026, 1, 31), date(2026, 1, 31), None]
    assert said(spark, of, "a", "'31.01.2026'") == (
        f"31.01.2026 is no date; write it as 2026-01-31, give dateFormat='dd.MM.yyyy', {REST}"
    )


@pytest.mark.parametrize(
    ("kind", "option"),
    [("TIMESTAMP", "timestampFormat"), ("TIMESTAMP_NTZ", "timestampNTZFormat")],
)
def test_a_time_of_csv_that_is_written_otherwise_fails(spark, kind, option):
    of = values(spark, "csv", f"a {kind}, b INT")
    raw = ("'2026-01-31 10:30:00.1000000'", "'2026-01-31'", "NULL")
    assert read(spark, of, "a", *raw) == [
        datetime(2026, 1, 31, 10, 30, 0, 100_000),  # noqa: DTZ001 - of Spark
        datetime(2026, 1, 31),  # noqa: DTZ001 - of Spark
        None,
    ]
    assert said(spark, of, "a", "'10:30'") == (
        f"10:30 is no timestamp; {AT} {option}='dd.MM.yyyy HH:mm', {REST}"
    )


def test_a_date_with_a_pattern_is_read_by_it(spark):
    of = values(spark, "csv", "a DATE, b TIMESTAMP", dateFormat="dd.MM.yyyy")
    assert read(spark, of, "a", "'31.01.2026'") == [date(2026, 1, 31)]
    assert said(spark, of, "a", "'2026-01-31'") == (
        f"2026-01-31 is no date; correct dateFormat='dd.MM.yyyy', {REST}"
    )
    assert said(spark, of, "b", "'31.01.2026'").startswith(
        f"31.01.2026 is no timestamp; {AT} "
    )


def test_a_date_that_spark_has_read_must_be_within_four_digits_of_a_year(spark):
    of = values(spark, "csv", "a DATE, b INT", dateFormat="d. MMMM y", locale="de-DE")
    raw = ("DATE'0001-01-01'", "DATE'9999-12-31'", "NULL")
    assert read(spark, of, "a", *raw) == [date(1, 1, 1), date(9999, 12, 31), None]
    assert said(spark, of, "a", "DATE'+10000-01-01'") == (
        f"+10000-01-01 is no date; correct dateFormat='d. MMMM y', {REST}"
    )


def test_a_date_or_a_time_of_json_is_a_text_or_seconds(spark):
    of = values(spark, "json", "a DATE, b TIMESTAMP, c MAP<STRING, DATE>")
    raw = variants('"2026-01-31 10:30:00"', "0", "null")
    assert read(spark, of, "b", *raw, "CAST(NULL AS VARIANT)") == [
        datetime(2026, 1, 31, 10, 30),  # noqa: DTZ001 - of Spark
        datetime(1970, 1, 1),  # noqa: DTZ001 - of Spark
        None,
        None,
    ]
    assert said(spark, of, "b", "parse_json('1700000000000')") == (
        "1700000000000 is no timestamp; write it as 2026-01-31 10:30:00 or in seconds,"
        " not milliseconds, give timestampFormat='dd.MM.yyyy HH:mm', declare STRING, set"
        " such lines aside with quarantine.parse_json, or read NULL with"
        " mode='PERMISSIVE'"
    )
    assert said(spark, of, "a", "parse_json('20260131')").startswith(
        "20260131 is no date; write it as 2026-01-31, give"
    )
    whole = """map('x', parse_json('"2026-01-31"'), 'y', NULL)"""
    assert read(spark, of, "c", whole) == [{"x": date(2026, 1, 31), "y": None}]


# --- what must not be null


def test_a_value_that_must_be_there_and_is_not_fails(spark):
    missing = "no value, and the schema says NOT NULL; leave that out, "
    of = values(spark, "csv", "a INT NOT NULL, b DOUBLE NOT NULL")
    assert read(spark, of, "b", "'1.5'") == [1.5]
    assert said(spark, of, "a", "INT(NULL)") == f"{missing}{LENIENT}"
    assert said(spark, of, "b", "STRING(NULL)") == f"{missing}{LENIENT}"
    json = values(spark, "json", "a STRUCT<b: INT NOT NULL>, c ARRAY<INT> NOT NULL")
    way = LENIENT.replace("parse_csv", "parse_json")
    assert said(spark, json, "a", "named_struct('b', INT(NULL))") == f"{missing}{way}"
    raw = ("named_struct('b', 7)", "NULL")
    assert read(spark, json, "a", *raw) == [(7,), None]
    assert said(spark, json, "c", "CAST(NULL AS ARRAY<INT>)") == f"{missing}{way}"
    assert read(spark, json, "c", "array(1, NULL)") == [[1, None]]
