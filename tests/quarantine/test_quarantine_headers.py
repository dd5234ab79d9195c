"""The header of a file by itself: which line it is, by its place and by its names."""

from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from sparkstream_kit.quarantine.headers import (
    _allowed,
    _placing,
    are_names,
    has_places,
    has_two_names,
    is_a_name,
    other_separator,
    placed,
    splits_elsewhere,
)

# What a line would be as the first one of its file, and what it is by its place.
HEADER, DATA, OTHER = 0, 1, 2
ROW, IS_HEADER, FIRST_ROW, FIRST_OTHER, BELOW_OTHER = range(5)
# The lines of a task in their order: the number of the file, what each would be, and
# what it is.
TASKS: dict[str, Any] = {
    "a header and rows": [(7, HEADER, IS_HEADER), (7, DATA, ROW), (7, OTHER, ROW)],
    "a second line like a header": [(7, HEADER, IS_HEADER), (7, HEADER, ROW)],
    "no header": [(7, DATA, FIRST_ROW), (7, DATA, ROW), (7, HEADER, ROW)],
    "another header": [
        (7, OTHER, FIRST_OTHER),
        (7, DATA, BELOW_OTHER),
        (7, HEADER, BELOW_OTHER),
    ],
    "a blank line first": [(None, OTHER, ROW), (7, HEADER, IS_HEADER)],
    "a blank line below another header": [
        (7, OTHER, FIRST_OTHER),
        (None, OTHER, ROW),
        (7, DATA, BELOW_OTHER),
    ],
    "a later part of a file": [(None, DATA, ROW), (None, HEADER, ROW)],
    "several files": [
        (7, OTHER, FIRST_OTHER),
        (8, HEADER, IS_HEADER),
        (8, DATA, ROW),
        (9, DATA, FIRST_ROW),
        (9, OTHER, ROW),
        (6, OTHER, FIRST_OTHER),
        (6, DATA, BELOW_OTHER),
    ],
}


@pytest.mark.parametrize("case", TASKS)
def test_a_line_is_known_by_its_place_in_its_file(case):
    place = _placing()
    assert [place(file, looks) for file, looks, _ in TASKS[case]] == [
        expected for *_, expected in TASKS[case]
    ]


def test_each_task_begins_anew():
    assert _placing()(7, OTHER) == FIRST_OTHER
    assert _placing()(7, DATA) == FIRST_ROW


NOT_THE_HEADER, BELOW = "not the header of the schema", "its file has another header"


def lines_in_blocks(spark, *lines):
    """Return lines with their file, its number, and whether their block is all of it."""
    schema = "_raw STRING, _file STRING, _block STRUCT<file: BIGINT, is_whole: BOOLEAN>"
    return spark.createDataFrame(lines, schema).coalesce(1)


def placed_by_name(frame):
    """Find the headers of lines: `k,n` is one, and what has an equals sign is data."""
    return placed(
        frame,
        is_header=F.col("_raw") == "k,n",
        is_data=F.col("_raw").contains("="),
        names=["k", "n"],
        sep=",",
    )


def test_the_first_line_that_is_not_blank_decides_for_its_file(spark):
    expected = [
        ("\0 \t", 1, None, None),
        ("k,n", 1, True, None),
        ("k,n", 1, None, None),
        ("=", 2, False, None),
        ("x", 2, None, None),
        ("a;b", 3, False, f"{NOT_THE_HEADER}; give sep=';'"),
        ("k,n", 3, None, BELOW),
        ("", 3, None, None),
        ("b", 4, False, NOT_THE_HEADER),
        ("x", None, None, None),
    ]
    lines = [(raw, f"file:/{file}", (file, True)) for raw, file, *_ in expected]
    frame, is_header, reason = placed_by_name(lines_in_blocks(spark, *lines))
    found = frame.select("_raw", "_block.file", is_header, reason).collect()
    assert [tuple(row) for row in found] == expected


@pytest.mark.parametrize(
    ("line", "file", "message"),
    [
        (
            "m;n",
            "file:/in/a%20b.csv",
            (
                "the header of /in/a b.csv does not have the columns of the schema, k, n,"
                " in this order; it is m;n; give sep=';'; Spark reads this large file in"
                " parts, so its other lines cannot be set aside: mend the header"
            ),
        ),
        ("m", None, "the header of the input does not have the columns of the schema"),
    ],
)
def test_another_header_of_a_file_in_parts_fails_the_query(spark, line, file, message):
    frame, _, reason = placed_by_name(lines_in_blocks(spark, (line, file, (1, False))))
    with pytest.raises(PySparkException) as caught:
        frame.select(reason).collect()
    assert message in str(caught.value)


def test_a_first_line_is_known_of_lines_that_no_step_has_mixed(spark, folder):
    (folder / "a.csv").write_text("k,n\na,1\n")
    lines = spark.read.text(str(folder))
    in_order = {
        "as they are": lines,
        "filtered": lines.where("value <> ''").withColumn("day", F.lit(1)),
        "in fewer parts": lines.coalesce(1),
        "named": lines.alias("l"),
        "counted": lines.observe("rows", F.count("*").alias("rows")),
        "a stream": spark.readStream.text(str(folder)),
    }
    assert {how: has_places(frame) for how, frame in in_order.items()} == dict.fromkeys(
        in_order, True
    )
    assert has_places(spark.range(1).selectExpr("'a' AS value")) is False
    mixed = {
        " (Repartition)": lines.repartition(2),
        " (Union)": lines.union(lines),
        " (Join)": lines.join(spark.range(1)),
        " (Sort)": lines.where("true").sort("value"),
        " (Deduplicate)": lines.dropDuplicates(),
        # Not by a step, but they do not say any more where they come from
        "": lines.withColumn("_metadata", F.lit(1)),
    }
    for step, frame in mixed.items():
        assert refusal(has_places, frame) == (
            "parse_csv(header=True) takes the first line of each file for its header,"
            f" and after another step{step} it is not known; parse the lines of"
            " sources.text first"
        )


# The number of fields and the separator; and each line with the hint.
SEPARATORS = {
    "two columns": (
        (2, ","),
        {
            "a;1": "; give sep=';'",
            "a\t1": r"; give sep='\t'",
            "a|1": "; give sep='|'",
            "a,1": "",
            "a;b;1": "",
            "a": "",
            "": "",
            "a;b|1": "; give sep=';'",  # the first of both
        },
    ),
    "three columns": ((3, ";"), {"a,b,1": "; give sep=','", "a,1": "", "a;b;1": ""}),
    "one column": ((1, ","), {"a;1": "", "a": "", "": ""}),
    "a separator with both": (
        (2, ";,"),
        {"a;1": "", "a,1": "", "a|1": "; give sep='|'"},
    ),
}


@pytest.mark.parametrize("case", SEPARATORS)
def test_a_line_that_has_as_many_fields_by_another_separator_says_so(spark, case):
    given, expected = SEPARATORS[case]
    lines = spark.createDataFrame([(line,) for line in expected], "_raw STRING")
    rows = lines.select("_raw", other_separator(*given), splits_elsewhere(*given))
    assert {line: (hint, splits) for line, hint, splits in rows.collect()} == {
        line: (hint, hint != "") for line, hint in expected.items()
    }


# The columns; and the fields of a line: whether they are the names, each in its place;
# whether two of them are names; and whether the first one is a name.
NAMES = {
    "k,n": {
        "k,n": (True, True, True),
        " K ,N": (True, True, True),
        ",n": (True, False, False),
        "k,": (True, False, True),
        ",": (False, False, False),
        "n,k": (False, True, True),
        "k,k": (False, False, True),
        "k,x": (False, False, True),
        "x,y": (False, False, False),
    },
    # In a session that tells them apart
    "k,K": {
        "k,K": (True, True, True),
        "K,k": (False, True, True),
        "K,K": (False, False, True),
        " k,K": (True, True, True),
        "a,A": (False, False, False),
    },
    # A name that is there twice in the file
    "a0, a1": {
        "a,a": (True, False, False),
        "a0,A1": (True, True, True),
        "a1,a0": (False, True, True),
    },
}


@pytest.mark.parametrize("columns", NAMES)
def test_fields_are_names_without_case_and_blanks_and_may_be_missing(spark, columns):
    names = columns.split(",")
    rows = [tuple(line.split(",")) for line in NAMES[columns]]
    frame = spark.createDataFrame([*rows, (None, None)], "a STRING, b STRING")
    fields = [F.col("a"), F.col("b")]
    found = frame.select(
        are_names(fields, names),
        has_two_names(fields, names),
        is_a_name(fields[0], names),
    ).collect()
    assert [tuple(row) for row in found] == [
        *NAMES[columns].values(),
        (False, False, False),
    ]


def test_a_name_that_is_there_once_stands_for_itself():
    assert _allowed(["a", "a1", "b2"]) == [["a", ""], ["a1", ""], ["b2", ""]]
