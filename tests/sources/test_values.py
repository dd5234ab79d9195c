"""What strict sources know of single values: each function by itself."""

from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources import values

INT, TEXT, DAY = T.IntegerType(), T.StringType(), T.DateType()


def evaluated(spark, make, *raw):
    """Return what a function gives for each value, which is written in SQL."""
    rows = ", ".join(f"({sql})" for sql in raw)
    frame = spark.sql(f"SELECT * FROM VALUES {rows} AS t(raw)")  # noqa: S608 - literals
    return [row[0] for row in frame.select(make(F.col("raw"))).collect()]


def struct(**fields):
    """Return a struct; a field whose name ends with an underscore must not be null."""
    made = T.StructType()
    for name, kind in fields.items():
        made.add(name.rstrip("_"), kind, nullable=not name.endswith("_"))
    return made


# --- options


def test_keys_of_maps_that_json_cannot_have_are_found_anywhere():
    good = T.MapType(TEXT, T.ArrayType(INT))
    bad = T.MapType(INT, TEXT)
    assert not values.has_other_keys(INT)
    assert not values.has_other_keys(good)
    assert values.has_other_keys(bad)
    assert values.has_other_keys(T.MapType(TEXT, bad))
    assert values.has_other_keys(T.ArrayType(struct(a=INT, b=good, c=bad)))


def test_a_setting_is_on_if_it_is_true_in_any_case(spark):
    def found():
        return values.is_set(spark, "charVarcharAsString"), values.no_file_left_out(
            spark
        )

    assert found() == (False, {})
    former = "spark.sql.legacy.charVarcharAsString"
    corrupt, missing = (
        f"spark.sql.files.ignore{x}Files" for x in ("Corrupt", "Missing")
    )
    with in_force(spark, {former: "TRUE", corrupt: "true"}):
        assert found() == (True, {"ignorecorruptfiles": False})
    with in_force(spark, {corrupt: "true", missing: "True"}):
        assert found() == (
            False,
            {"ignorecorruptfiles": False, "ignoremissingfiles": False},
        )


@pytest.mark.parametrize(
    ("options", "is_refused"),
    [
        ({"header": True, "ignorecorruptfiles": True}, True),
        (
            {"header": "TRUE", "ignorecorruptfiles": "true", "enforceschema": False},
            True,
        ),
        ({"header": True, "ignorecorruptfiles": True, "enforceschema": True}, False),
        ({"header": True}, False),
        ({"header": True, "ignorecorruptfiles": False}, False),
        ({"ignorecorruptfiles": True}, False),
        ({"header": False, "ignorecorruptfiles": True}, False),
    ],
    ids=str,
)
def test_a_header_and_files_left_out_are_refused_together(options, is_refused):
    if not is_refused:
        values.refuse_headers_left_out(options)
        return
    assert refusal(values.refuse_headers_left_out, options) == (
        "ignoreCorruptFiles=True with header=True: Spark would leave out each file with"
        " another header; leave ignoreCorruptFiles out, or give enforceSchema=True if"
        " the names do not count"
    )


def test_a_pattern_is_refused_where_a_column_is_read_by_it_in_the_former_way(spark):
    policy = {"spark.sql.legacy.timeParserPolicy": "LEGACY"}
    days = from_ddl("a INT, b ARRAY<DATE>")
    times = from_ddl("a TIMESTAMP, b TIMESTAMP_NTZ")
    values.refuse_patterns(spark, days, {"dateformat": "d.M.y"})
    with in_force(spark, policy):
        for columns, name in (
            (days, "dateFormat"),
            (times, "timestampFormat"),
            (times, "timestampNTZFormat"),
        ):
            options = {name.lower(): "d.M.y"}
            said = refusal(values.refuse_patterns, spark, columns, options)
            assert said.startswith(f"{name}='d.M.y': the session's spark.sql.legacy.")
        values.refuse_patterns(spark, days, {"timestampformat": "d.M.y"})
        values.refuse_patterns(spark, times, {"dateformat": "d.M.y"})
        values.refuse_patterns(spark, days, {})


def test_an_encoding_has_two_names():
    assert values.encoding_of({}) is None
    assert values.encoding_of({"charset": "UTF-16"}) == "UTF-16"
    assert values.encoding_of({"charset": "UTF-16", "encoding": "UTF-8"}) == "UTF-8"


def test_digits_are_kept_where_spark_does_not_decode_a_line_first(spark):
    assert values.keeps_digits(spark, {})
    assert not values.keeps_digits(spark, {"encoding": "UTF-8"})
    assert not values.keeps_digits(spark, {"charset": "UTF-8"})
    with in_force(spark, {"spark.sql.json.enableExactStringParsing": "false"}):
        assert not values.keeps_digits(spark, {})


def test_a_switch_is_read_as_spark_reads_it():
    given: dict[str, Any] = {"a": True, "b": "True", "c": False, "d": "yes", "e": 1}
    assert [name for name in "abcdef" if values.is_true(given, name)] == ["a", "b"]


@pytest.mark.parametrize(
    ("sep", "is_one"),
    [
        (",", True),
        ("ü", True),
        (r"\t", True),
        ("\\", True),
        (r"\\", True),
        ("", False),
        ("||", False),
        (r"\tt", False),
        ("😀", False),  # two of Java's characters
    ],
)
def test_a_separator_is_one_character_as_java_counts(sep, is_one):
    assert values.is_one_character(sep) == is_one


# --- types


def test_the_types_inside_a_type_are_in_the_order_of_its_parts():
    kind = struct(a=T.ArrayType(T.MapType(TEXT, DAY)), b=struct(c=INT, d=TEXT), e=DAY)
    assert values.leaves(kind) == [TEXT, DAY, INT, TEXT, DAY]
    assert values.leaves(INT) == [INT]


REQUIRED = {
    "a number": (INT, False),
    "an array": (T.ArrayType(INT), False),
    "an array without null": (T.ArrayType(INT, containsNull=False), True),
    "an array of such": (T.ArrayType(T.ArrayType(INT, containsNull=False)), True),
    "a map": (T.MapType(TEXT, INT), False),
    "a map without null": (T.MapType(TEXT, INT, valueContainsNull=False), True),
    "a map of such": (T.MapType(TEXT, struct(a_=INT)), True),
    "a struct": (struct(a=INT, b=TEXT), False),
    "a field that is not null": (struct(a=INT, b_=TEXT), True),
    "a field of such": (struct(a=struct(b_=INT), c=INT), True),
}


@pytest.mark.parametrize("name", REQUIRED)
def test_a_type_is_known_in_which_a_value_must_not_be_null(name):
    kind, required = REQUIRED[name]
    assert values.has_required(kind) == required


# --- values


def test_a_whole_number_is_one_that_loses_nothing(spark):
    def read(kind, *raw):
        texts = [f"'{text}'" for text in raw]
        return evaluated(spark, lambda text: values.whole_number(text, kind), *texts)

    zeros = "0" * 20
    exact = ["2.5", "2.500", f"2.5{zeros}", "1e2", "-2.5", "0"]
    assert [*map(str, read(T.DecimalType(5, 2), *exact))] == [
        "2.50", "2.50", "2.50", "100.00", "-2.50", "0.00"
    ]  # fmt: skip
    lost = ["2.505", f"2.5{zeros}1", "2.500000000000000001", "1e-9", "1e-20", "1234.5"]
    assert read(T.DecimalType(5, 2), *lost, "x", "2,5", "") == [None] * 9
    assert read(INT, "7", "7.0", "7e0", "7.5") == [7, None, None, None]
    assert read(T.DoubleType(), "2.5", "1e3", "1d") == [2.5, 1000.0, None]


def test_a_failure_has_the_type_of_its_column_and_says_column_and_file(spark):
    frame = spark.sql("SELECT named_struct('file_path', 'file:/in/x') AS _metadata")
    field = T.StructField("a.b", DAY)
    failed = frame.select(values.failing(field, F.lit("is wrong; "), DAY).alias("a"))
    assert failed.schema["a"].dataType == DAY
    with pytest.raises(PySparkException, match="column a.b: is wrong; file:/in/x"):
        failed.collect()


STRUCT = struct(a_=INT, b=TEXT)
LACKS = [
    # The type, whether it must be there, and values with what is said of each
    (INT, True, {"NULL": True, "1": False}),
    (INT, False, {"INT(NULL)": False, "1": False}),
    (
        T.ArrayType(INT, containsNull=False),
        False,
        {"array(1, NULL)": True, "array(1)": False},
    ),
    (T.ArrayType(INT), True, {"array(1, NULL)": False, "NULL": True}),
    (
        T.ArrayType(T.ArrayType(INT, containsNull=False)),
        False,
        {"array(array(1), array(NULL))": True, "array(array(1), array())": False},
    ),
    (
        T.MapType(TEXT, INT, valueContainsNull=False),
        False,
        {"map('k', 1, 'l', NULL)": True, "map('k', 1)": False},
    ),
    (
        T.MapType(TEXT, STRUCT),
        False,
        {
            "map('k', named_struct('a', INT(NULL), 'b', 'x'))": True,
            "map('k', named_struct('a', 1, 'b', 'x'))": False,
            "map('k', NULL)": False,
        },
    ),
    (
        STRUCT,
        False,
        {
            "named_struct('a', INT(NULL), 'b', 'x')": True,
            "named_struct('a', 1, 'b', STRING(NULL))": False,
            "NULL": False,
        },
    ),
    (STRUCT, True, {"NULL": True, "named_struct('a', 1, 'b', 'x')": False}),
    (
        struct(c=STRUCT, d=INT),
        False,
        {
            "named_struct('c', named_struct('a', INT(NULL), 'b', 'x'), 'd', 1)": True,
            "named_struct('c', NULL, 'd', 1)": False,
        },
    ),
    (
        struct(c_=STRUCT, d=INT),
        False,
        {
            "named_struct('c', named_struct('a', 1, 'b', 'x'), 'd', 1)": False,
            "named_struct('c', NULL, 'd', 1)": True,
        },
    ),
]


@pytest.mark.parametrize("number", range(len(LACKS)))
def test_a_null_is_found_where_none_may_be(spark, number):
    kind, required, wanted = LACKS[number]

    def lacks(value):
        return values.lacks(value, kind, required=required)

    found = evaluated(spark, lacks, *wanted)
    assert dict(zip(wanted, found, strict=True)) == wanted


# --- numbers of a locale


def test_a_number_of_a_locale_has_its_marks_where_they_belong(spark):
    def read(marks, *raw):
        texts = [f"'{text}'" for text in raw]
        return evaluated(spark, lambda text: values.with_point(text, marks), *texts)

    german = (",", ".")
    written = {
        "1.234,5": "1234.5",
        "1234,5": "1234.5",
        "1.234.567": "1234567",
        ",5": ".5",
        "5,": "5.",
        "1,5e3": "1.5e3",
        "1E-3": "1E-3",
        "-1,5": "-1.5",
        "+7": "+7",
        " 1,5 ": " 1.5 ",
        "12.34.567,8": "1234567.8",  # as in India
    }
    assert read(german, *written) == [*written.values()]
    others = [
        "1.23",
        "2.50",
        "1.2345",
        "1.234.56",
        "1.2.345",
        "1234.567",
        "1,5,5",
        ",",
        "",
        "x",
        "1e",
    ]
    assert read(german, *others) == [None] * len(others)
    # A space that does not break, or another one, is between thousands
    assert read((",", "\u00a0\u202f"), "1\u202f234,5", "1\u00a0234", "1.234") == [
        "1234.5", "1234", None
    ]  # fmt: skip
    assert read((",", ""), "1,5", "1234,5", "1.234") == ["1.5", "1234.5", None]


def test_the_marks_of_a_locale_are_those_of_java(spark):
    decimals = from_ddl("a INT, b ARRAY<DECIMAL(9,2)>")

    def marks(locale):
        return values.marks_of(spark, decimals, {"locale": locale})

    assert marks("de-DE") == (",", ".")
    assert marks("en-US") == (".", ",")
    assert marks("ar-EG") == ("\u066b", "\u066c")
    assert values.marks_of(spark, decimals, {}) is None
    assert values.marks_of(spark, from_ddl("a DOUBLE"), {"locale": "de-DE"}) is None


def test_a_locale_with_a_mark_that_is_not_known_is_refused(spark, monkeypatch):
    monkeypatch.setattr(values, "_MARKS", (".", "'"))
    decimals = from_ddl("a DECIMAL(9,2)")
    assert refusal(values.marks_of, spark, decimals, {"locale": "de-DE"}) == (
        "locale de-DE has a decimal mark or digits that are not read; declare the"
        " decimals as STRING"
    )
