"""How a line of CSV is split: by which separator, which lines are not split, and why."""

from typing import Any

import pytest
from pyspark.sql import functions as F

from sparkstream_kit.quarantine.fields import (
    _can_overlap,
    _is_one_character,
    split_fields,
)

NOT_2, BLANK, TWO_PLACES = (
    "not 2 fields",
    (None, None),
    "a separator that could begin at two places",
)
# A separator; and each line with the reason why it is not split, its two fields, and
# whether it has exactly two.
LINES: dict[str, Any] = {
    "a comma": (
        ",",
        {
            "a,1": (None, ("a", "1"), True),
            "a,": (None, ("a", None), True),
            ",": (None, BLANK, True),
            " a , 1 ": (None, (" a ", " 1 "), True),
            "a": (None, ("a", "\0"), False),
            "a,1,2": (None, ("a", "1"), False),
            "a,1,": (None, ("a", "1"), False),
            '"a,b",1': (None, ("a,b", "1"), True),
            '"a""b",""': (None, ('a"b', None), True),
            'a "b",1': (None, ('a "b"', "1"), True),
            "": (NOT_2, BLANK, False),
            "  ": (NOT_2, BLANK, False),
            None: (NOT_2, BLANK, False),
            'a,"': ("unbalanced quote", BLANK, False),
            'a","b""': ("misplaced quote", BLANK, False),
            '"a","b': ("unbalanced quote", BLANK, False),
            '"a","b""': ("unbalanced quote", BLANK, False),
            '"a"b,1': ("misplaced quote", BLANK, False),
            "a\uffff,1": ("U+FFFF, which is no character", BLANK, False),
            "a\0,1": ("a NUL character", BLANK, False),
            "a\ufffe,1": (None, ("a\ufffe", "1"), True),
            # As many fields as Spark's parser takes, and one more
            "," * 19_999: (None, BLANK, False),
            "," * 20_000: (NOT_2, BLANK, False),
            "a," + "x" * 20_000: (None, ("a", "x" * 20_000), True),
        },
    ),
    "a dot, which means any character in a pattern": (
        ".",
        {"a.1": (None, ("a", "1"), True), "." * 20_000: (NOT_2, BLANK, False)},
    ),
    "two signs that overlap": (
        "||",
        {
            "a||1": (None, ("a", "1"), True),
            "a|b||1": (None, ("a|b", "1"), True),
            '"a||b"||1': (None, ("a||b", "1"), True),
            "a||||1": (None, ("a", None), False),
            "a|||1": (TWO_PLACES, BLANK, False),
            "a\ufffe||1": ("U+FFFE, which is no character", BLANK, False),
            "a\uffff||1": ("U+FFFF, which is no character", BLANK, False),
            'a||"': ("unbalanced quote", BLANK, False),
            "": (NOT_2, BLANK, False),
            None: (NOT_2, BLANK, False),
            "||" * 20_000: (NOT_2, BLANK, False),
        },
    ),
    "two signs that cannot overlap": (
        "<>",
        {
            "a<>1": (None, ("a", "1"), True),
            "a<<>>1": (None, ("a<", ">1"), True),
            "a\ufffe<>1": ("U+FFFE, which is no character", BLANK, False),
        },
    ),
    "a sign of two characters of Java": (
        "😀",
        {"a😀1": (None, ("a", "1"), True), '"a😀"😀1': (None, ("a😀", "1"), True)},
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_is_split_at_its_separators_or_says_why_not(spark, case):
    sep, expected = LINES[case]
    lines = spark.createDataFrame([(line,) for line in expected], "_raw STRING")
    frame, fields, is_whole = split_fields(lines, sep, 2)
    rows = frame.select("_raw", "_unreadable", *fields, is_whole).collect()
    assert {row[0]: (row[1], (row[2], row[3]), row[4]) for row in rows} == expected


def test_a_line_that_is_not_valid_utf_8_is_not_split(spark):
    lines = spark.createDataFrame([(b'"\xff||"',)], "b BINARY").selectExpr(
        "CAST(b AS STRING) AS _raw"
    )
    for sep in (",", "||"):
        frame, _, is_whole = split_fields(lines, sep, 1)
        [row] = frame.select("_unreadable", is_whole).collect()
        assert tuple(row) == ("not valid UTF-8", False)


def test_a_line_of_one_column_is_one_field(spark):
    lines = spark.createDataFrame([("a",), ("a,b",), ("",)], "_raw STRING")
    frame, [field], is_whole = split_fields(lines, ",", 1)
    assert frame.select("_unreadable", field, F.col("_raw"), is_whole).collect() == [
        (None, "a", "a", True),
        (None, "a", "a,b", False),
        ("not 1 field", None, "", False),
    ]


def test_what_java_takes_for_one_character_and_what_can_overlap():
    one = {",": True, "\t": True, "é": True, "😀": False, "||": False, "": False}
    assert {sep: _is_one_character(sep) for sep in one} == one
    overlap = {"||": True, "aba": True, "ab": False, "aab": False, ",": False}
    assert {sep: _can_overlap(sep) for sep in overlap} == overlap
