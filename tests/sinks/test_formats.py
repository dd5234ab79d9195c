"""`sinks.formats`: options that keep every value, and what a format is asked to hold.

Whether the files themselves give back what they got is in test_written.py.
"""

from dataclasses import replace
from functools import partial

import pytest
from conftest import refusal
from pyspark.sql import functions as F

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sinks import formats
from sparkstream_kit.sinks.formats import Format


def form_of(kind, **given):
    return Format(kind, kind, given)


def table_of(kind, **given):
    return Format(kind, kind, given, in_table=True)


# --- names, and what the caller gives


@pytest.mark.parametrize(
    ("name", "path", "kind", "spelled", "in_table"),
    [
        pytest.param("csv", "out", "csv", "csv", False, id="a folder"),
        pytest.param(" CSV ", "out", "csv", "CSV", False, id="in capitals"),
        pytest.param("csv", "out.csv", "csv", "csv", False, id="a folder named so"),
        pytest.param("json", "out.d", "json", "json", False, id="a folder with a dot"),
        pytest.param("orc", None, "orc", "orc", True, id="a table"),
        pytest.param(" delta ", None, " delta ", "delta", True, id="of others"),
    ],
)
def test_a_format_is_what_the_caller_names(name, path, kind, spelled, in_table):
    given = {"compression": "none"}
    assert formats.of(sinks.files, name, given, path) == Format(
        kind, spelled, {"compression": "none"}, in_table=in_table
    )


@pytest.mark.parametrize(
    ("name", "options", "path", "words"),
    [
        ("delta", {}, "out", "unknown file format delta; known: csv, json, orc,"),
        ("csv", {}, "a/out.orc", "a/out.orc is a folder of csv; give format='orc'"),
        ("Xml", {}, None, "sinks.files(): format is 'Xml', and Spark reads texts"),
        ("csv", {"headr": True}, "out", "headr; did you mean header?"),
        ("csv", {"partitionBy": "k"}, "out", "did you mean partition_by?"),
        ("csv", {"emptyValue": "x"}, None, "sinks.files(): emptyValue is 'x', which"),
    ],
    ids=["unknown", "other name", "xml", "misspelt", "of another call", "no reader"],
)
def test_a_format_that_cannot_be_is_refused(name, options, path, words):
    assert words in refusal(formats.of, sinks.files, name, options, path)


KEEPS = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
AS_IT_IS = {
    **KEEPS,
    "ignoreLeadingWhiteSpace": "false",
    "ignoreTrailingWhiteSpace": "false",
}


def test_the_options_of_a_format_keep_every_value_unless_the_caller_has_others():
    for kind in ("parquet", "orc", "text", "delta"):
        assert form_of(kind).options == form_of(kind).reading == {}
        assert form_of(kind, a=1).options == form_of(kind, a=1).reading == {"a": 1}
    assert form_of("json").options == KEEPS
    own = form_of("json", timestampFormat="yyyy", a=1).options
    assert own == {**KEEPS, "timestampFormat": "yyyy", "a": 1}
    assert form_of("csv").options == {**AS_IT_IS, "escape": '"'}
    assert table_of("csv").options == AS_IT_IS
    given = {"header": True, "escape": "\\"}
    assert form_of("csv", **given).options == {**AS_IT_IS, **given}


@pytest.mark.parametrize("name", ["quote", "Quote"])
def test_an_empty_text_has_the_quotes_of_the_caller_and_is_read_without_a_word(name):
    quoted = {**AS_IT_IS, name: "'"}
    assert form_of("csv", **{name: "'"}).options == {
        **quoted,
        "escape": "'",
        "emptyValue": "''",
    }
    assert form_of("csv", **{name: "'"}).reading == {**quoted, "escape": "'"}
    assert table_of("csv", **{name: "'"}).options == {**quoted, "emptyValue": "''"}


# --- options with which rows cannot be read


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("parquet", {"encoding": "latin1", "pretty": True, "lineSep": ";"}),
        ("orc", {"emptyValue": "x", "quote": ""}),
        ("json", {"encoding": "utf_8", "pretty": False, "lineSep": "\r\n"}),
        ("json", {"charset": "UTF-8", "lineSep": "\n", "emptyValue": "x"}),
        ("text", {"Encoding": "UTF8", "lineSep": ";", "pretty": True}),
        ("csv", {"encoding": "latin1", "pretty": True, "lineSep": ";"}),
        ("csv", {"emptyValue": '""', "escapeQuotes": True, "sep": "\\t"}),
        ("csv", {"charToEscapeQuoteEscaping": "#", "escape": "#", "quote": "'"}),
        ("csv", {"sep": "\\\\", "escape": '"'}),
        ("csv", {"delimiter": "||", "quote": "'"}),
        ("csv", {"sep": ";", "SEP": "|"}),
    ],
    ids=[
        *("parquet", "orc", "json", "json in UTF-8", "text", "csv in an encoding"),
        *("csv as it is", "an escape", "a backslash", "two characters", "a name twice"),
    ],
)
def test_options_that_do_no_harm_are_accepted(kind, options):
    form_of(kind, **options).check_options("here")


HARMFUL = {
    "encoding": "encoding is given, and Spark reads back {kind} of UTF-8 alone; leave",
    "pretty": "pretty=True writes a row over several lines",
    "line end": "lineSep can be a part of a value; leave it out",
    "empty": "emptyValue is {value!r}, which readers do not take for an empty text",
    "bare": "escapeQuotes is False, and other readers take a quote in a text for",
    "of escape": "charToEscapeQuoteEscaping is not escape, which tears a text with",
    "backslash": "sep is {value!r}, and Spark reads a backslash as the begin of \\t",
    "no quote": "quote is no character, and a text with a separator needs quotes",
    "no escape": "escape is no character, and a text with a quote needs it",
    "taken": "sep is {value!r}, which has another meaning in CSV; give another one",
}


@pytest.mark.parametrize(
    ("kind", "what", "value", "options"),
    [
        ("json", "encoding", 0, {"encoding": "UTF-16"}),
        ("text", "encoding", 0, {"charset": "latin1"}),
        ("json", "pretty", 0, {"pretty": "True"}),
        ("json", "line end", 0, {"LineSep": ";\n"}),
        ("csv", "empty", "''", {"emptyvalue": "''"}),
        ("csv", "empty", "", {"emptyValue": ""}),
        ("csv", "bare", 0, {"escapeQuotes": False}),
        ("csv", "of escape", 0, {"charToEscapeQuoteEscaping": "\\"}),
        ("csv", "of escape", 0, {"charToEscapeQuoteEscaping": "#", "escape": "'"}),
        ("csv", "backslash", "\\|", {"sep": "\\|"}),
        ("csv", "backslash", "\\", {"sep": "\\"}),
        ("csv", "backslash", "\\t\\x", {"delimiter": "\\t\\x"}),
        ("csv", "no quote", 0, {"quote": ""}),
        ("csv", "no quote", 0, {"quote": "''"}),
        ("csv", "no quote", 0, {"quote": "\0"}),
        ("csv", "no escape", 0, {"escape": ""}),
        ("csv", "taken", "", {"sep": ""}),
        ("csv", "taken", '"', {"sep": '"'}),
        ("csv", "taken", "'", {"sep": "'", "quote": "'"}),
        ("csv", "taken", "#", {"delimiter": "#", "escape": "#"}),
        ("csv", "taken", "\\", {"sep": "\\\\"}),
        ("csv", "taken", "\r", {"sep": "\\r"}),
        ("csv", "taken", "\n", {"sep": "\n"}),
    ],
    ids=[
        *("encoding of json", "encoding of text", "several lines", "line end"),
        *("other quotes for empty", "nothing for empty", "quotes as they are"),
        *("escape of the default", "escape of another", "a pair of none"),
        *("half a pair", "a second pair of none", "no quote", "two quotes"),
        *("a NUL as quote", "no escape", "no separator", "the quote", "an own quote"),
        *("an own escape", "the escape", "a return", "a line feed"),
    ],
)
def test_options_with_which_rows_are_lost_say_what_to_give(kind, what, value, options):
    said = refusal(form_of(kind, **options).check_options, "here")
    assert said.startswith(f"here: {HARMFUL[what].format(kind=kind, value=value)}")
    assert "; " in said


# --- columns that a format cannot hold


def test_a_session_cuts_the_times_of_parquet_alone(spark):
    with in_force(spark, {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MILLIS"}):
        assert form_of("parquet").in_session(spark) == replace(
            form_of("parquet"), cuts_times=True
        )
        assert form_of("orc").in_session(spark) == form_of("orc")
    assert form_of("parquet").in_session(spark) == form_of("parquet")


@pytest.fixture
def checked(spark):
    """Return a function that checks the columns of SQL for a format, and returns what it says."""

    def check(form, columns, *folders, fine=False):
        frame = spark.sql(f"SELECT {columns}")
        call = partial(form.check, "here", frame, folders)
        return call() if fine else refusal(call)

    return check


def test_another_format_is_asked_about_names_that_come_twice_alone(checked):
    checked(form_of("delta"), "NULL AS n, named_struct() AS s", "no_such", fine=True)
    said = checked(form_of("delta"), "1 AS n, 2 AS N")
    assert said == "here: column n appears twice; rename or drop one"


def test_a_field_twice_is_refused_at_any_depth_with_its_column(checked):
    twice = "array(named_struct('f', 1, 'F', 2)) AS a"
    for kind in ("parquet", "json", "orc"):
        assert checked(form_of(kind), f"1 AS n, {twice}") == (
            "here: column a: field f appears twice; rename or drop one"
        )
    checked(form_of("json"), "named_struct('f', 1) AS f, 1 AS g", fine=True)


def test_the_name_of_the_column_of_corrupt_records_is_refused_where_a_reader_has_it(
    spark, checked
):
    columns = "1 AS _corrupt_record, 2 AS n"
    for kind in ("csv", "json"):
        said = checked(form_of(kind, nullValue="-"), columns)
        assert said == (
            "here: column _corrupt_record has the name of the one in which Spark's"
            f" reader of {kind} puts what it cannot read; rename it"
        )
    for kind in ("parquet", "orc"):
        checked(form_of(kind), columns, fine=True)
    with in_force(spark, {"spark.sql.columnNameOfCorruptRecord": "n"}):
        assert "column n has the name of the one" in checked(form_of("json"), columns)


def test_orc_alone_is_asked_for_collations_and_for_names_of_fields(checked):
    collated = "array('x' COLLATE UNICODE) AS a"
    unnamed = "named_struct('', 1) AS s"
    for kind in ("parquet", "json"):
        checked(form_of(kind), f"{collated}, {unnamed}", fine=True)
    said = checked(form_of("orc"), collated)
    assert said.startswith("here: column a has a string collate UNICODE, which Spark")
    said = checked(form_of("orc"), unnamed)
    assert said.startswith("here: column s has a field without a name, which Spark")
    checked(form_of("orc"), "array('x') AS a, named_struct('f', 1) AS s", fine=True)


def test_folders_and_types_are_looked_at_each_for_its_own_columns(checked):
    unfit = "1 AS n, X'00' AS k"
    assert "no column kk; did you mean k?" in checked(form_of("csv"), unfit, "kk")
    said = checked(form_of("csv"), unfit)
    assert "column k is binary, and a file of csv cannot hold it" in said
    said = checked(form_of("csv"), unfit, "k")
    assert "column k is binary, of which no folder has the name" in said
    checked(form_of("text"), "'x' AS s, 1 AS k", "K", fine=True)


def test_patterns_of_spark_2_are_refused_where_times_are_texts(spark, checked):
    with in_force(spark, {"spark.sql.legacy.timeParserPolicy": "LEGACY"}):
        for kind in ("csv", "json"):
            said = checked(form_of(kind), "1 AS a, 2 AS b")
            assert "Policy=LEGACY takes patterns of dates and times" in said
        for kind in ("parquet", "orc"):
            checked(form_of(kind), "1 AS a, 2 AS b", fine=True)


QUOTES_NULL = "spark.sql.legacy.nullValueWrittenAsQuotedEmptyStringCsv"
NULL_TEXT, NULL_INT = "nullif('x', 'y') AS s", "nullif(1, 2) AS n"


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        pytest.param({}, "1 AS n", id="one that cannot be NULL"),
        pytest.param({"nullValue": "-"}, NULL_TEXT, id="a text for NULL"),
        pytest.param({}, f"{NULL_INT}, {NULL_TEXT}", id="two that can be NULL"),
        pytest.param(
            {"quoteAll": True}, f"'x' AS t, {NULL_INT}", id="quotes, and no such text"
        ),
        pytest.param(
            {"quoteAll": True, "nullValue": "-"},
            f"1 AS m, {NULL_TEXT}",
            id="quotes, and a text for NULL",
        ),
        pytest.param(
            {"quoteAll": False}, f"1 AS m, {NULL_TEXT}", id="a text without quotes"
        ),
    ],
)
def test_csv_of_columns_whose_null_is_seen_is_accepted(checked, options, columns):
    checked(form_of("csv", **options), columns, fine=True)


def test_csv_of_one_column_that_can_be_null_is_refused(checked):
    for columns, *folders in ((NULL_TEXT,), ("1 AS k, nullif('x', 'y') AS s", "k")):
        said = checked(form_of("csv"), columns, *folders)
        assert said.startswith("here: column s is the only one and can be NULL, of")
        assert said.endswith("nullValue='NULL', a second column, or format='json'")
    # Readers take a text of blanks for none
    assert "is the only one" in checked(form_of("csv", nullValue=" \t"), NULL_INT)
    for kind in ("json", "orc", "text"):
        checked(form_of(kind), NULL_TEXT, fine=True)


def test_csv_with_quotes_around_null_is_refused_for_texts(spark, checked):
    columns = f"{NULL_INT}, 'x' AS t, {NULL_TEXT}"
    said = checked(form_of("csv", quoteAll=True), columns)
    assert said.startswith("here: quoteAll=True writes NULL as an empty text, and")
    assert "and column s can have both; give nullValue='NULL', too" in said
    with in_force(spark, {QUOTES_NULL: "True"}):
        said = checked(form_of("csv"), columns)
        assert f"here: the session's {QUOTES_NULL}=true writes NULL as" in said
        checked(form_of("csv"), f"1 AS m, {NULL_INT}", fine=True)
    with in_force(spark, {QUOTES_NULL: "false"}):
        checked(form_of("csv"), columns, fine=True)


# --- values that a format would change

NO_UTF8 = "CAST(X'61FF' AS STRING)"


@pytest.fixture
def told(spark, monkeypatch):
    """Return a function: what each row would be told where it fails the batch.

    `guarded` returns these words in place of the values, so that one frame can have
    many rows that fail.
    """

    def say(refusals, value, _kind, subject):
        every = [
            F.when(is_wrong, F.lit(f"{subject} {words.partition(';')[0]}"))
            for is_wrong, words in refusals
        ]
        return F.concat_ws(" + ", *every) if every else value

    monkeypatch.setattr(formats, "stopped", say)

    def words_of(form, rows, *folders, names="s"):
        values = ", ".join(f"({row})" for row in rows)
        frame = spark.sql(f"VALUES {values} AS v({names})")
        guarded = form.guarded("here", frame, folders)
        assert guarded.columns == frame.columns
        found = []
        for row in guarded.collect():
            words = [cell for cell in row if str(cell).startswith("here: column ")]
            found.append(" + ".join(words))
        return dict(zip(rows, found, strict=True))

    return words_of


def agree(told, form, rows, *folders, **names):
    assert told(form, rows, *folders, **names) == rows


def test_text_is_told_of_null_and_of_lines(told):
    null = "here: column s has NULL, of which text has no sign"
    two = "here: column s has a text with a line end, which would be two rows"
    mark = (
        "here: column s begins with a byte order mark, which readers take for none of"
        " its characters"
    )
    rows = {"'a'": "", "''": "", "NULL": null, r"'a\nb'": two, r"'\r'": two}
    agree(told, form_of("text"), rows | {r"'\ufeffa'": mark, r"'a\ufeff'": ""})
    rows = {"'a||b'": two, "'a|'": two, "'a|b'": "", r"'a\nb'": "", "NULL": null}
    agree(told, form_of("text", lineSep="||"), rows)


def test_csv_is_told_of_what_stands_for_null(told):
    words = "here: column s has {!r}, which stands for NULL"
    rows = {"'1,5'": words.format("1,5"), "'1'": "", "NULL": ""}
    agree(told, form_of("csv", nullValue="1,5"), rows)
    rows = {"""'"'""": words.format('"'), "'a'": "", "NULL": ""}
    agree(told, form_of("csv", nullValue='"'), rows)
    rows = {"1": words.format("1"), "2": "", "NULL": ""}
    for more in ({}, {"quoteAll": True}, {"delimiter": "1"}, {"sep": "1"}):
        agree(told, form_of("csv", NullValue="1", **more), rows)
    own = {"dateFormat": "yyyy,MM", "nullValue": "2026,02"}
    rows = {"DATE'2026-02-03'": words.format("2026,02"), "DATE'2026-03-02'": ""}
    agree(told, form_of("csv", **own), rows)


def test_a_table_of_csv_is_told_of_empty_texts_and_lines(told):
    empty = "here: column s has an empty text, which a table of csv reads as NULL"
    two = "here: column s has a text with a line end, which a table of csv reads as two"
    rows = {"''": empty, r"'a\nb'": f"{two} rows", r"'\r'": f"{two} rows", "'a'": ""}
    agree(told, table_of("csv"), rows)
    agree(told, table_of("csv", nullValue="-"), rows | {"''": ""})
    lines = {r"'a\nb'": "", r"'\r'": ""}
    agree(told, table_of("csv", multiLine=True), rows | lines)
    agree(told, form_of("csv"), rows | lines | {"''": ""})
    agree(told, table_of("csv"), {"1": "", "2": ""})


def test_csv_is_told_of_a_nul_in_quotes(told):
    words = (
        "here: column s has a text with a NUL character in quotes, which Spark's reader"
        " leaves out"
    )
    quoted = {r"'a,\0'": words, r"""'a"\0'""": words, r"'a\n\0'": words}
    agree(told, form_of("csv"), {r"'a\0'": "", "'a,'": ""} | quoted)
    agree(told, form_of("csv", quoteAll=True), {r"'a\0'": words, "'a'": ""} | quoted)
    own = {r"'a,\0'": "", r"""'a"\0'""": "", r"'a;\0'": words, r"'a#\0'": words}
    agree(told, form_of("csv", sep=";", quote="#"), own)


def test_csv_is_told_of_a_text_that_ends_as_a_long_separator_begins(told):
    words = "here: column s has a text that ends like sep begins"
    in_quotes = {"'a||b'": "", """'"|'""": "", r"'a\n|'": ""}
    rows = {"'a|'": words, "'|'": words, "'a|b'": ""}
    agree(told, form_of("csv", sep="||"), rows | in_quotes)
    rows = {"'a|'": "", "'|'": "", "'a|b'": ""}
    agree(told, form_of("csv", sep="||", quoteAll=True), rows | in_quotes)


def test_csv_is_told_of_line_ends_that_an_own_one_changes(told):
    words = "here: column s has a text with a line end, which lineSep changes"
    both = {r"'a\nb'": words, r"'a\r\nb'": words, r"'a\r'": "", r"'a\rb'": ""}
    agree(told, form_of("csv", lineSep="\r\n"), both | {"'a'": ""})
    rows = {r"'a\nb'": words, "'a;b'": words, "'a;'": words, "'a'": ""}
    agree(told, form_of("csv", lineSep=";"), rows)
    for more in ({}, {"lineSep": "\n"}):
        agree(told, form_of("csv", **more), dict.fromkeys([*both, *rows], ""))


def test_csv_is_told_of_what_its_encoding_cannot_write(told):
    words = "here: column s has a text that the encoding cannot write"
    every = {r"'\u007f'": "", r"'\u0080'": "", "'ÿ'": "", "'Ā'": "", "'日'": ""}
    beyond_latin = {"'Ā'": words, "'日'": words}
    beyond_ascii = {r"'\u0080'": words, "'ÿ'": words}
    agree(told, form_of("csv", encoding="ISO-8859-1"), every | beyond_latin)
    ascii_ = every | beyond_latin | beyond_ascii
    agree(told, form_of("csv", charset="us_ascii"), ascii_)
    for more in ({}, {"encoding": "UTF-16LE"}):
        agree(told, form_of("csv", **more), every)


BLANK = "here: column s begins a line of blanks alone, which readers skip"


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        pytest.param(
            {},
            {"' '": BLANK, r"'\t \0'": BLANK, "NULL": BLANK}
            | {"''": "", r"' \n'": "", r"'\r'": "", "' a'": "", "'!'": ""},
            id="one text",
        ),
        pytest.param({}, {"NULL": BLANK, "1": ""}, id="one number"),
        pytest.param(
            {"nullValue": "-"}, {"' '": BLANK, "NULL": "", "'a'": ""}, id="NULL is seen"
        ),
        pytest.param({"nullValue": "-"}, {"NULL": "", "1": ""}, id="of a number"),
        pytest.param({"quoteAll": True}, {"' '": "", "NULL": ""}, id="in quotes"),
    ],
)
def test_csv_of_one_column_is_told_of_lines_of_blanks(told, options, rows):
    agree(told, form_of("csv", **options), rows)


def test_csv_of_more_columns_is_told_of_them_if_its_separator_is_blank(told):
    rows = {
        "' ', NULL, NULL": BLANK,
        "NULL, ' ', NULL": BLANK,
        "NULL, NULL, NULL": BLANK,
        "' ', 'a', NULL": "",
        "'a', ' ', NULL": "",
        "' ', ' ', 1": "",
    }
    agree(told, form_of("csv", sep="\t"), rows, names="s, t, n")
    agree(told, form_of("csv", sep="\\t "), rows, names="s, t, n")
    seen = dict.fromkeys(rows, "")
    agree(told, form_of("csv"), seen, names="s, t, n")
    agree(told, form_of("csv", sep="\t,"), seen, names="s, t, n")
    # A column of folders stands in no line
    folder = {"' ', 1": BLANK, "'a', 1": ""}
    agree(told, form_of("csv"), folder, "N", names="s, n")


def test_json_and_csv_are_told_of_bytes_that_are_no_text(told):
    words = "has a text that is not UTF-8, of which other characters would be written"
    rows = {f"{NO_UTF8}, 'a'": f"here: column s {words}", "'é', 'a'": ""}
    for kind in ("csv", "json"):
        agree(told, form_of(kind), rows, names="s, t")
    for kind in ("orc", "parquet"):
        agree(told, form_of(kind), dict.fromkeys(rows, ""), names="s, t")


def test_orc_is_told_of_times_also_inside(told, spark):
    day = "here: column s has a time of 4 to 15 October 1582, which ORC moves"
    second = "here: column s has a time in the last second of 1969, which ORC moves"
    form = form_of("orc")
    agree(told, form, {"DATE'1582-10-04'": day, "DATE'1582-10-03'": ""})
    agree(told, form, {"timestamp_micros(-1)": second, "timestamp_micros(0)": ""})
    agree(told, form_of("parquet"), {"DATE'1582-10-04'": "", "NULL": ""})
    frame = spark.sql(
        "SELECT array(DATE'1582-10-04') AS s, map('k', struct(timestamp_micros(-1) AS"
        " t)) AS m, struct(1 AS n, DATE'1582-10-04' AS d) AS r, array('x') AS a"
    )
    [row] = form.guarded("here", frame).collect()
    assert row.s == [day]
    assert row.m["k"].t == second.replace("column s", "column m")
    assert row.r == (1, day.replace("column s", "column r"))
    assert row.a == ["x"]


def test_parquet_is_told_of_microseconds_where_the_session_cuts_them(told):
    words = (
        "here: column s has a time with microseconds, and the session's spark.sql"
        ".parquet.outputTimestampType=TIMESTAMP_MILLIS cuts them"
    )
    rows = {
        "timestamp_micros(1000)": "",
        "timestamp_micros(1001)": words,
        "timestamp_micros(1999)": words,
        "timestamp_micros(-1000)": "",
        "timestamp_micros(-1)": words,
        "NULL": "",
    }
    cuts = replace(form_of("parquet"), cuts_times=True)
    agree(told, cuts, rows)
    agree(told, cuts, {"DATE'1582-10-04'": ""})
    agree(told, form_of("parquet"), dict.fromkeys(rows, ""))


def test_a_column_of_folders_is_told_of_names_alone(told):
    words = (
        "column k has an empty text or __HIVE_DEFAULT_PARTITION__, which Spark takes"
    )
    rows = {
        "'', 'a'": f"here: {words} for NULL in the name of a folder",
        "' ', 'a'": "",
        "'a', ' '": "here: column s begins a line of blanks alone, which readers skip",
    }
    agree(told, form_of("csv"), rows, "K", names="k, s")


@pytest.mark.parametrize(
    ("form", "columns"),
    [
        pytest.param(form_of("delta"), "DATE'1582-10-04' AS d", id="of others"),
        pytest.param(form_of("parquet"), "'x' AS s, now() AS t", id="parquet"),
        pytest.param(form_of("orc"), "'x' AS s, array('x') AS a", id="orc"),
        pytest.param(form_of("json"), "now() AS t, array(1) AS a", id="json"),
        pytest.param(form_of("csv"), "1 AS n, now() AS t", id="csv"),
    ],
)
def test_a_frame_that_no_format_would_change_is_the_same_frame(spark, form, columns):
    frame = spark.sql(f"SELECT {columns}")
    assert form.guarded("here", frame) is frame


def test_only_what_can_be_wrong_with_a_column_is_looked_for(spark, monkeypatch):
    looked_for = []

    def note(refusals, value, _kind, _subject):
        looked_for.append(
            [words.split(", ")[0].split("; ")[0] for _, words in refusals]
        )
        return value

    monkeypatch.setattr(formats, "stopped", note)

    def found(form, columns):
        looked_for.clear()
        form.guarded("here", spark.sql(f"SELECT {columns}"))
        return [*looked_for]

    bytes_, nul = (
        "has a text that is not UTF-8",
        "has a text with a NUL character in quotes",
    )
    mark, blank = "begins with a byte order mark", "begins a line of blanks alone"
    sep, lines = "has a text that ends like sep begins", "has a text with a line end"
    encoding = "has a text that the encoding cannot write"
    assert found(form_of("csv"), "'x' AS s") == [[bytes_, nul, mark, blank]]
    assert found(form_of("csv"), "'x' AS s, 1 AS n, 'x' AS t") == [
        [bytes_, nul, mark],
        [],
        [bytes_, nul],
    ]
    own = form_of("csv", sep="||", lineSep=";", encoding="US-ASCII", nullValue="-")
    assert found(own, "1 AS n, 'x' AS s") == [
        ["has '-'"],
        [bytes_, "has '-'", nul, sep, lines, encoding],
    ]
    assert found(form_of("json"), "'x' AS s, now() AS t") == [[bytes_], []]
    assert found(form_of("text"), "'x' AS s") == [["has NULL", lines, mark]]
    day, second = (
        "has a time of 4 to 15 October 1582",
        "has a time in the last second of 1969",
    )
    assert found(form_of("orc"), "'x' AS s, current_date() AS d, now() AS t") == [
        [],
        [day],
        [day, second],
    ]


def test_a_value_that_fails_names_the_sink_and_the_column_and_others_stay(spark):
    rows = spark.sql("SELECT 1 AS n, 'x' AS `a b.c`, DATE'2026-01-31' AS d")
    marked = rows.select(
        F.col("n").alias("n", metadata={"k": 1}),
        F.col("`a b.c`").alias("a b.c", metadata={"unit": "kg"}),
        "d",
    )
    guarded = form_of("csv").guarded("here", marked)
    assert guarded.dtypes == marked.dtypes
    assert [field.metadata for field in guarded.schema] == [
        {"k": 1},
        {"unit": "kg"},
        {},
    ]
    assert guarded.collect() == rows.collect()
    wrong = spark.sql("SELECT 1 AS n, '\"\\0' AS `a b.c`")
    with pytest.raises(
        Exception, match="here: column a b.c has a text with a NUL char"
    ):
        form_of("csv").guarded("here", wrong).collect()
