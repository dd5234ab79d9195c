"""The rules of a data contract at the door: which rows pass, which are set aside or counted."""

import json
import sys
from decimal import Decimal

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from support.contracts import written

from sparkstream_kit import quarantine, run, schemas, sinks, sources, start
from sparkstream_kit.errors import MissingExtraError
from sparkstream_kit.quarantine.contract_values import Left, Rule
from sparkstream_kit.quarantine.contracts import checks_of
from sparkstream_kit.quarantine.patterns import of_java, why_broken
from sparkstream_kit.schemas.contracts import read

# A property, the name of its rule, values that pass, and values that do not.
RULES = [
    ("logicalType: integer, required: true", "required", [0, 5], [None]),
    (
        "logicalType: integer, logicalTypeOptions: {minimum: 0}",
        "minimum 0",
        [0, None],
        [-1],
    ),
    (
        "logicalType: integer, logicalTypeOptions: {exclusiveMinimum: 0}",
        "exclusiveMinimum 0",
        [1, None],
        [0],
    ),
    (
        "logicalType: integer, logicalTypeOptions: {maximum: 9}",
        "maximum 9",
        [9, None],
        [10],
    ),
    (
        "logicalType: number, logicalTypeOptions: {exclusiveMaximum: 0.1}",
        "exclusiveMaximum 0.1",
        [0.09, None],
        [0.1],
    ),
    (
        "logicalType: number, physicalType: real, logicalTypeOptions: {exclusiveMinimum: 0.1}",
        "exclusiveMinimum 0.1",
        [0.2, None],
        [0.1],
    ),
    (
        "logicalType: number, logicalTypeOptions: {minimum: 1.0e+300}",
        "minimum 1e+300",
        [1e300, None],
        [1e299],
    ),
    # As ODCS 3.0 says it
    (
        (
            "logicalType: integer, logicalTypeOptions: {minimum: 0, exclusiveMinimum: true,"
            " exclusiveMaximum: false}"
        ),
        "exclusiveMinimum 0",
        [1],
        [0],
    ),
    (
        "logicalType: number, logicalTypeOptions: {multipleOf: 0.1}",
        "multipleOf 0.1",
        [0.3, -7.0, None],
        [0.35, 1e300],
    ),
    (
        "logicalType: integer, logicalTypeOptions: {format: u8}",
        "format u8",
        [0, 255, None],
        [-1, 256],
    ),
    (
        "logicalType: integer, physicalType: bigint, logicalTypeOptions: {format: i8}",
        "format i8",
        [-128, 127, None],
        [-129, 128],
    ),
    (
        "logicalType: integer, logicalTypeOptions: {format: u128}",
        "format u128",
        [Decimal(0), Decimal(10**38 - 1), None],
        [Decimal(-1)],
    ),
    (
        "logicalType: number, logicalTypeOptions: {format: u8}, physicalType: 'decimal(5,2)'",
        "format u8",
        [Decimal(0), Decimal("255.00"), None],
        [Decimal("-0.01"), Decimal("255.01")],
    ),
    (
        "logicalType: integer, physicalType: mediumint unsigned",
        "mediumint unsigned",
        [0, 2**24 - 1, None],
        [-1, 2**24],
    ),
    (
        'logicalType: date, logicalTypeOptions: {minimum: "2026-01-01"}',
        "minimum 2026-01-01",
        ["2026-01-01", None],
        ["2025-12-31"],
    ),
    # Without quotes, which YAML reads as a date
    (
        "logicalType: date, logicalTypeOptions: {maximum: 2026-01-01}",
        "maximum 2026-01-01",
        ["2026-01-01"],
        ["2026-01-02"],
    ),
    (
        (
            'logicalType: timestamp, logicalTypeOptions: {minimum: "2026-01-01T10:00:00",'
            " defaultTimezone: Australia/Sydney}"
        ),
        "minimum 2026-01-01T10:00:00",
        ["2025-12-31 23:00", None],
        ["2025-12-31 22:59"],
    ),
    (
        (
            "logicalType: timestamp, logicalTypeOptions:"
            ' {exclusiveMaximum: "2026-01-01T10:00:00+02:00"}'
        ),
        "exclusiveMaximum 2026-01-01T10:00:00+02:00",
        ["2026-01-01 07:59"],
        ["2026-01-01 08:00"],
    ),
    (
        (
            "logicalType: timestamp, physicalType: timestamp_ntz, logicalTypeOptions:"
            ' {minimum: "2026-01-01T10:00:00"}'
        ),
        "minimum 2026-01-01T10:00:00",
        ["2026-01-01 10:00"],
        ["2026-01-01 09:59"],
    ),
    (
        "logicalType: time, logicalTypeOptions: {format: 'HH:mm:ss'}",
        "time",
        ["00:00:00", "23:59:59", None],
        ["24:00:00", "9:30", "09:30:00\n", "09:30:00 x"],
    ),
    (
        "logicalType: string, logicalTypeOptions: {minLength: 2}",
        "minLength 2",
        ["ab", "\U0001f600a", None],
        ["a", ""],
    ),
    (
        "logicalType: string, logicalTypeOptions: {maxLength: 2}",
        "maxLength 2",
        ["", "\U0001f600a", None],
        ["abc"],
    ),
    ("logicalType: string, physicalType: varchar(2)", "varchar(2)", ["ab"], ["abc"]),
    (
        "logicalType: string, physicalType: varchar2(2 byte)",
        "varchar2(2 byte)",
        ["ab", "\u00e4"],
        ["abc", "\u00e4b"],
    ),
    (
        "logicalType: string, logicalTypeOptions: {pattern: '^{[^{]+}$'}",
        "pattern",
        ["{a}"],
        ["a", "{{}"],
    ),
    (
        (
            "logicalType: timestamp, enum: [{value: '2026-01-01T10:00:00'}],"
            " logicalTypeOptions: {defaultTimezone: Europe/Berlin}"
        ),
        "enum",
        ["2026-01-01 09:00", None],
        ["2026-01-01 10:00"],
    ),
    (
        (
            "logicalType: timestamp, logicalTypeOptions: {defaultTimezone: '-05:30',"
            " minimum: '2026-01-01T10:00:00'}"
        ),
        "minimum 2026-01-01T10:00:00",
        ["2026-01-01 15:30", None],
        ["2026-01-01 15:29"],
    ),
    (
        "logicalType: string, logicalTypeOptions: {pattern: '^[A-Z]{2}$'}",
        "pattern",
        ["AB", None],
        ["AB\n", "ABC", "ab", " AB"],
    ),
    (
        r"logicalType: string, logicalTypeOptions: {pattern: 'it''s \d'}",
        "pattern",
        ["it's 5", "and it's 5 too"],
        ["its 5", r"it's \d"],
    ),
    (
        "logicalType: string, logicalTypeOptions: {pattern: '^[[&&]$'}",
        "pattern",
        ["[", "&"],
        ["x", "[&"],
    ),
    (
        r"logicalType: string, enum: [{value: 'a'}, {value: 'it''s'}, {value: 'x\n'}]",
        "enum",
        ["a", "it's", r"x\n", None],
        ["A", "its", "x\n", ""],
    ),
    ("logicalType: integer, enum: [{value: 1}, {value: 2}]", "enum", [1, None], [3]),
    ("logicalType: boolean, enum: [{value: true}]", "enum", [True, None], [False]),
    (
        "logicalType: string, quality: [{metric: nullValues, mustBe: 0}]",
        "nullValues",
        ["", "a"],
        [None],
    ),
    (
        "logicalType: string, quality: [{metric: missingValues, mustBe: 0}]",
        "missingValues",
        ["a"],
        [None, ""],
    ),
    (
        (
            "logicalType: string, quality: [{metric: missingValues, mustBeLessThan: 1,"
            " arguments: {missingValues: ['', N/A]}}]"
        ),
        "missingValues",
        ["a", None],
        ["", "N/A"],
    ),
    (
        (
            "logicalType: integer, quality: [{metric: missingValues, mustBeLessOrEqualTo: 0,"
            " arguments: {missingValues: [null, -1]}}]"
        ),
        "missingValues",
        [1],
        [None, -1],
    ),
    (
        (
            "logicalType: string, quality: [{metric: invalidValues, mustBe: 0,"
            " arguments: {validValues: [kg, null]}}]"
        ),
        "invalidValues",
        ["kg", None],
        ["g"],
    ),
    (
        (
            "logicalType: string, quality: [{metric: invalidValues, name: unit,"
            " mustBeBetween: [0, 0], arguments: {pattern: '^k?g$'}}]"
        ),
        "unit",
        ["kg", "g", None],
        ["mg"],
    ),
    # As ODCS 3.0 says it
    (
        (
            "logicalType: string, quality: [{type: library, rule: validValues,"
            " validValues: [kg], mustBe: 0}]"
        ),
        "invalidValues",
        ["kg", None],
        ["g"],
    ),
    (
        (
            "logicalType: integer, quality: [{type: sql, id: even, mustBe: 0, query:"
            " 'SELECT COUNT(*) FROM {object} WHERE {property} % 2 = 1;'}]"
        ),
        "even",
        [2, None],
        [3],
    ),
    (
        (
            "logicalType: integer, quality: [{type: sql, description: Not  too big, mustBe:"
            ' 0, query: "select count(1) as n\\nfrom shop.orders -- all\\nwhere v > 9"}]'
        ),
        "Not too big",
        [9],
        [10],
    ),
    (
        "logicalType: array, items: {logicalType: integer}, logicalTypeOptions: {minItems: 1}",
        "minItems 1",
        [[1], None],
        [[]],
    ),
    (
        "logicalType: array, items: {logicalType: integer}, logicalTypeOptions: {maxItems: 1}",
        "maxItems 1",
        [[1], [], None],
        [[1, 2]],
    ),
    (
        (
            "logicalType: array, items: {logicalType: integer},"
            " logicalTypeOptions: {uniqueItems: true}"
        ),
        "uniqueItems",
        [[1, 2], [], None],
        [[1, 1]],
    ),
    (
        "logicalType: vector, logicalTypeOptions: {dimensions: 2}",
        "dimensions 2",
        [[1.0, 2.0]],
        [[1.0]],
    ),
]
INSIDE = [
    (
        "logicalType: object, properties: [{name: x, logicalType: integer, required: true}]",
        "v.x: required",
        [(1,), None],
        [(None,)],
    ),
    (
        (
            "logicalType: object, logicalTypeOptions: {required: [x]},"
            " properties: [{name: x, logicalType: integer}]"
        ),
        "v.x: required",
        [(1,), None],
        [(None,)],
    ),
    (
        "logicalType: array, items: {logicalType: integer, required: true}",
        "v[]: required",
        [[1], [], None],
        [[1, None]],
    ),
    (
        (
            "logicalType: array, items: {logicalType: array, items: {logicalType: integer,"
            " logicalTypeOptions: {minimum: 1}}}"
        ),
        "v[][]: minimum 1",
        [[[1], [], None, [None]], None],
        [[[1], [1, 0]]],
    ),
    (
        (
            "logicalType: array, items: {logicalType: object, properties: [{name: sku,"
            " logicalType: string, required: true}]}"
        ),
        "v[].sku: required",
        [[("x",), None], []],
        [[("x",), (None,)]],
    ),
    (
        (
            "logicalType: map, map: {key: {logicalType: string, logicalTypeOptions:"
            " {maxLength: 1}}, value: {logicalType: integer}}"
        ),
        "v[key]: maxLength 1",
        [{"a": None}, {}, None],
        [{"ab": 1}],
    ),
    (
        (
            "logicalType: map, map: {key: {logicalType: string}, value: {logicalType:"
            " integer, required: true}}"
        ),
        "v[]: required",
        [{"a": 1}, {}, None],
        [{"a": None}],
    ),
]


@pytest.mark.fast("7 *", "18 *", "21 *", "37 *", "40 *")
@pytest.mark.parametrize(
    ("words", "name", "good", "bad"),
    [
        *((words, f"v: {name}", good, bad) for words, name, good, bad in RULES),
        *INSIDE,
    ],
    ids=[f"{number} {rule[1]}" for number, rule in enumerate([*RULES, *INSIDE])],
)
def test_a_rule_lets_rows_pass_or_not(spark, tmp_path, words, name, good, bad):
    path = written(tmp_path, f"name: v, {words}", apiVersion="v3.2.0")
    rules = quarantine.rules_of(path, "orders")
    [condition] = [each for each in rules if each.endswith(f" /* {name} */")]
    assert rules[condition] == "quarantine"
    kind = schemas.from_contract(path)["v"].dataType.simpleString()
    is_text = any(isinstance(value, str) for value in good)
    rows = spark.createDataFrame(
        [(value,) for value in [*good, *bad]], f"v {'string' if is_text else kind}"
    )
    rows = rows.select(F.col("v").cast(kind))
    passes = rows.select(F.coalesce(F.expr(condition), F.lit(False))).collect()
    assert [row[0] for row in passes] == [True] * len(good) + [False] * len(bad)


# --- severity, limits, and what is left


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("mustBe: 0", "quarantine"),
        ("mustBe: 0, severity: error", "quarantine"),
        ("mustBe: 0, severity: P1", "quarantine"),
        ("mustBe: 0, severity: Warning", "warn"),
        ("mustBe: 0, severity: info", "warn"),
        ("mustBeLessThan: 1", "quarantine"),
        ("mustBeLessThan: 1, unit: percent", "warn"),
        ("mustBeLessOrEqualTo: 5", "warn"),
        ("mustBeBetween: [0, 5], severity: error", "warn"),
    ],
)
def test_severity_and_the_limit_say_what_becomes_of_a_row(tmp_path, words, level):
    path = written(
        tmp_path,
        f"name: v, logicalType: string, quality: [{{metric: nullValues, {words}}}]",
    )
    assert quarantine.rules_of(path) == {"`v` IS NOT NULL /* v: nullValues */": level}


def test_a_limit_that_some_rows_may_break_is_named(tmp_path):
    path = written(
        tmp_path,
        "name: v, logicalType: string, quality: [{metric: nullValues, unit: percent,"
        " mustBeLessThan: 5}]",
    )
    [rule] = checks_of(read("test", path), None)
    assert isinstance(rule, Rule)
    assert rule.more == "mustBeLessThan 5 percent is not checked"


ALL_ROWS = "it needs all rows of the table"
ONCE = f"{ALL_ROWS}; state.once(rows, {{}}, …) drops what comes again"
ONLY = f"{ALL_ROWS}: only SELECT COUNT(*) … WHERE … is of a row"
LEFT = {
    "logicalType: string, logicalTypeOptions: {minimum: '5'}": (
        "v: minimum",
        "the column is string",
    ),
    "physicalType: int, logicalTypeOptions: {pattern: x}": (
        "v: pattern",
        "the column is int",
    ),
    "physicalType: json, logicalTypeOptions: {multipleOf: 5}": (
        "v: multipleOf",
        "the column is variant",
    ),
    "logicalType: string, unique: true": ("v: unique", ONCE.format("'v'")),
    "logicalType: string, primaryKey: true": (
        "orders: primaryKey v",
        ONCE.format("'v'"),
    ),
    "logicalType: string, quality: [{metric: rowCount, mustBe: 5}]": (
        "v: rowCount",
        ALL_ROWS,
    ),
    "logicalType: string, quality: [{metric: duplicateValues, mustBe: 0}]": (
        "v: duplicateValues",
        ALL_ROWS,
    ),
    "logicalType: string, quality: [{rule: duplicateCount, mustBe: 0}]": (
        "v: duplicateValues",
        ALL_ROWS,
    ),
    "logicalType: string, quality: [{metric: freshness, mustBe: 0}]": (
        "v: freshness",
        "the metric freshness is not known here",
    ),
    "logicalType: string, quality: [{metric: invalidValues, mustBe: 0}]": (
        "v: invalidValues",
        "it has no validValues and no pattern",
    ),
    "logicalType: string, quality: [{metric: nullValues}]": (
        "v: nullValues",
        "it has no limit, such as mustBe: 0",
    ),
    "logicalType: string, quality: [{metric: nullValues, mustBeGreaterThan: 5}]": (
        "v: nullValues",
        f"{ALL_ROWS}: mustBeGreaterThan",
    ),
    "logicalType: string, quality: [{type: text, description: Verified by mail}]": (
        "v: Verified by mail",
        "it is a text for people",
    ),
    "logicalType: string, quality: [{type: custom, engine: soda, implementation: x}]": (
        "v: quality rule 1",
        "it is for soda",
    ),
    "logicalType: string, quality: [{type: other}]": (
        "v: quality rule 1",
        "a rule of type other is not known here",
    ),
    (
        "logicalType: string, quality: [{type: sql, id: a, mustBe: 0, query:"
        " SELECT COUNT(*) FROM shops WHERE v = 1}]"
    ): ("v: a", "it reads shops"),
    (
        "logicalType: string, quality: [{type: sql, id: a, mustBe: 0, query:"
        " SELECT COUNT(*) FROM orders WHERE v IN (SELECT v FROM shops)}]"
    ): ("v: a", ONLY),
    (
        "logicalType: string, quality: [{type: sql, id: a, mustBe: 0, query:"
        " SELECT AVG(v) FROM orders}]"
    ): ("v: a", ONLY),
    (
        "logicalType: array, items: {logicalType: integer, quality: [{type: sql, id: a,"
        " mustBe: 0, query: 'SELECT COUNT(*) FROM orders WHERE {property} < 0'}]}"
    ): ("v[]: a", "it is of a value in an array"),
    "logicalType: array, items: {logicalType: integer, unique: true}": (
        "v[]: unique",
        ALL_ROWS,
    ),
    "logicalType: array, logicalTypeOptions: {uniqueItems: true}": (
        "v: uniqueItems",
        "Spark cannot compare its elements",
    ),
    "logicalType: object, logicalTypeOptions: {maxProperties: 5}": (
        "v: maxProperties",
        "the number of fields is that of the type",
    ),
    "logicalType: object, logicalTypeOptions: {required: [a]}": (
        "v: required",
        "the object has no properties",
    ),
    "logicalType: string, logicalTypeOptions: {format: email}": (
        "v: format email",
        "it says what the text is for",
    ),
    "logicalType: string, physicalType: bytea, logicalTypeOptions: {maxLength: 5}": (
        "v: maxLength",
        "the column is binary",
    ),
    "logicalType: integer, logicalTypeOptions: {exclusiveMinimum: true}": (
        "v: exclusiveMinimum",
        "`minimum` or `maximum` has it",
    ),
}


def test_limits_of_a_time_of_a_day_are_not_compared_as_texts(tmp_path):
    words = "logicalType: time, logicalTypeOptions: {exclusiveMinimum: '09:00'}"
    path = written(tmp_path, f"name: v, {words}")
    time, limit = checks_of(read("test", path), None)
    assert time.name == "v: time"
    assert limit == Left("v: exclusiveMinimum", "the column is string")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT COUNT(*) FROM shop.Sales WHERE v < 0", None),
        ("SELECT COUNT(*) FROM sales WHERE v < 0", None),
        ("SELECT COUNT(*) FROM none WHERE v < 0", "it reads none"),
        (
            "SELECT COUNT(*) FROM orders WHERE v < 0 -- don't",
            "its condition has a comment",
        ),
        (
            "SELECT COUNT(*) FROM orders WHERE v < 0 /* it */",
            "its condition has a comment",
        ),
        (
            "SELECT COUNT(*) FROM orders WHERE orders.v < 0",
            "its condition has the name of the table before a column",
        ),
    ],
)
def test_which_queries_are_of_a_row_of_the_table(tmp_path, query, why):
    table = {
        "physicalName": "shop.Sales",
        "quality": [{"name": "negative", "type": "sql", "query": query, "mustBe": 0}],
    }
    path = written(tmp_path, "name: v, logicalType: integer", table=table)
    [found] = checks_of(read("test", path), None)
    assert getattr(found, "why", None) == why


@pytest.mark.parametrize("words", LEFT, ids=range(len(LEFT)))
def test_what_a_row_does_not_decide_is_named_and_not_checked(tmp_path, words):
    path = written(tmp_path, f"name: v, {words}")
    assert checks_of(read("test", path), None) == [Left(*LEFT[words])]
    assert refusal(quarantine.rules_of, path) == (
        f"{path}: orders has no rule that a row decides; leave out expect()"
    )


def test_a_key_of_several_columns_is_one_key(tmp_path):
    path = written(
        tmp_path,
        "name: line, logicalType: integer, primaryKey: true, primaryKeyPosition: 2",
        "name: order, logicalType: integer, primaryKey: true, primaryKeyPosition: 1",
    )
    [left] = checks_of(read("test", path), None)
    assert left == Left(
        "orders: primaryKey order, line", ONCE.format("['order', 'line']")
    )


# --- mistakes

WRONG = {
    (
        "logicalType: timestamp, logicalTypeOptions: {minimum: '2026-01-01T10:00:00',"
        " defaultTimezone: Europ/Berlin}"
    ): (
        "v: defaultTimezone: unknown time zone 'Europ/Berlin'; did you mean"
        " Europe/Berlin?"
    ),
    "logicalType: string, enum: [{value: no}]": (
        "v: enum has False, which is not a text; write it in quotes"
    ),
    "logicalType: boolean, enum: [{value: 'yes'}]": (
        "v: enum has 'yes', which is not true or false; write one of them"
    ),
    "logicalType: integer, logicalTypeOptions: {minimum: '1'}": (
        "v: minimum has '1', which is not a number; write one, without quotes"
    ),
    "logicalType: number, logicalTypeOptions: {minimum: .inf}": (
        "v: minimum has inf, which is not a number; write one, without quotes"
    ),
    "logicalType: date, logicalTypeOptions: {minimum: 1.1.2026}": (
        "v: minimum has '1.1.2026', which is not a date; write it like 2026-01-31"
    ),
    "logicalType: timestamp, logicalTypeOptions: {minimum: soon}": (
        "v: minimum has 'soon', which is not a time; write it like 2026-01-31 10:30:00"
    ),
    "logicalType: string, logicalTypeOptions: {maxLength: -1}": (
        "v: maxLength has -1, which is not a whole number; write 0 or more"
    ),
    "logicalType: string, logicalTypeOptions: {pattern: 5}": (
        "v: pattern has 5, which is not a text; write it in quotes"
    ),
    "logicalType: string, logicalTypeOptions: {pattern: '[a'}": (
        "v: pattern has '[a', which is not a regular expression (unterminated character"
        " set); correct it"
    ),
    "logicalType: object, logicalTypeOptions: {required: x}, properties: [{name: x}]": (
        "v: required has 'x', which is not a list of names; write it like [id, time]"
    ),
    "logicalType: object, logicalTypeOptions: {required: true}": (
        "v: required has True, which is not a list of names; write it like [id, time]"
    ),
    (
        "logicalType: object, logicalTypeOptions: {required: [emial]},"
        " properties: [{name: email, logicalType: string}]"
    ): (
        "v: required names emial, and the object has no such property; did you mean"
        " email?; it has: email"
    ),
    f"logicalType: integer, logicalTypeOptions: {{minimum: {10**400}}}": (
        f"v: minimum has {10**400}, which is not a number; write one, without quotes"
    ),
    "logicalType: integer, logicalTypeOptions: {multipleOf: 0}": (
        "v: multipleOf has 0, which is not a step; give another number"
    ),
    "logicalType: string, quality: [{metric: nullValues, mustBe: '0'}]": (
        "v: mustBe has '0', which is not a number; write one, without quotes"
    ),
    (
        "logicalType: string, quality: [{metric: missingValues, mustBe: 0,"
        " arguments: {missingValues: NA}}]"
    ): "v: missingValues has 'NA', which is not a list; write it like [NA, none]",
    (
        "logicalType: string, quality: [{metric: invalidValues, mustBe: 0,"
        " arguments: {validValues: abc}}]"
    ): "v: validValues has 'abc', which is not a list; write it like [NA, none]",
    "logicalType: array, items: {logicalType: date}, enum: [{value: 1}]": (
        "v: enum is for single values, and the column is array<date>; leave it out of the"
        " contract"
    ),
}


@pytest.mark.parametrize("words", WRONG, ids=range(len(WRONG)))
def test_a_value_of_another_type_is_one_line(tmp_path, words):
    path = written(tmp_path, f"name: v, {words}", apiVersion="v3.2.0")
    assert refusal(quarantine.rules_of, path) == f"{path}: orders.{WRONG[words]}"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("[z-a]", "bad character range z-a"),
        ("abc\\", "bad escape (end of pattern)"),
        ("a{3,1}", "min repeat greater than max repeat"),
        ("(?P<y>a)", "(?P is a form of Python's"),
        (r"[\t-a(?P]", None),
        (r"[\p{L}-Z]", None),
        ("(?<y>a)", None),
    ],
    ids=["range", "backslash", "repeat", "name", "class", "escape", "name of Java"],
)
def test_a_pattern_that_java_refuses_is_found(pattern, why):
    assert why_broken(pattern) == why


@pytest.mark.parametrize(
    ("given", "pattern"),
    [
        (r"^\p{L}+$", r"^\p{L}+\z"),
        (r"^[$]\$$", r"^[$]\$\z"),
        (r"[\]$]", r"[\]$]"),
        ("[a[]b[c]", r"[a\[]b[c]"),
    ],
)
def test_a_pattern_of_the_standard_is_written_for_java(given, pattern):
    assert of_java(given) == pattern


def test_names_are_those_of_the_contract_and_each_another_one(tmp_path):
    path = written(
        tmp_path,
        "name: a.b, logicalType: string, required: true, quality: [{name: x */ y /*,"
        " metric: nullValues, mustBe: 0}, {id: x */ y /*, metric: nullValues, mustBe: 0}]",
    )
    assert list(quarantine.rules_of(path)) == [
        "`a.b` IS NOT NULL /* a.b: required */",
        "`a.b` IS NOT NULL /* a.b: x * / y / * */",
        "`a.b` IS NOT NULL /* a.b: x * / y / * (2) */",
    ]


def test_without_the_library_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "open_data_contract_standard", None)
    with pytest.raises(MissingExtraError) as caught:
        quarantine.rules_of(tmp_path / "a.yaml")
    assert str(caught.value).startswith(
        "quarantine.rules_of needs an optional library;"
    )


# --- streams

ORDERS = (
    "name: id, logicalType: integer, required: true",
    (
        'name: total, logicalType: number, physicalType: "decimal(8,2)",'
        " logicalTypeOptions: {minimum: 0}"
    ),
    'name: day, logicalType: date, logicalTypeOptions: {format: "d.M.yyyy"}',
    (
        "name: mail, logicalType: string, quality: [{metric: nullValues, mustBe: 0,"
        " severity: info}]"
    ),
    (
        "name: lines, logicalType: array, items: {logicalType: object, properties: [{name: qty,"
        " logicalType: integer, logicalTypeOptions: {minimum: 1}}]}"
    ),
)


@pytest.mark.slow
@pytest.mark.connect
def test_a_stream_is_read_and_checked_by_its_contract(spark, folder, tmp_path):
    path = written(
        tmp_path,
        *ORDERS,
        table={
            "quality": [
                {
                    "type": "sql",
                    "name": "no_big_gift",
                    "query": "SELECT COUNT(*) FROM orders WHERE total = 0 AND size(lines) > 1",
                    "mustBe": 0,
                }
            ]
        },
    )
    good = {
        "id": 1,
        "total": "5.00",
        "day": "1.2.2026",
        "mail": "x",
        "lines": [{"qty": 1}],
    }
    rows = [
        good,
        {**good, "id": None},
        {**good, "total": -1},
        {**good, "day": "2026-02-01"},
        {**good, "mail": None},
        {**good, "lines": [{"qty": 1}, {"qty": 0}]},
        {**good, "total": 0, "lines": [{"qty": 1}, {"qty": 1}]},
    ]
    (folder / "1.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    schema = schemas.from_contract(path, "orders")
    formats = schemas.formats_of(path, "orders")
    rules = quarantine.rules_of(path, "orders")

    lines = sources.text(spark, str(folder))
    parsed = quarantine.parse_json(lines, schema, **formats)
    checked = quarantine.expect(parsed, rules)
    query = start(checked, sinks.memory("by_contract"), availableNow=True)
    [done] = run(query).queries
    reasons = [row[0] for row in spark.table("by_contract").select("_reason").collect()]
    assert sorted(filter(None, reasons)) == [
        "breaks lines[].qty: minimum 1",
        "breaks orders: no_big_gift",
        "breaks total: minimum 0",
        "day: not a date",
        "id: missing",
    ]
    assert reasons.count(None) == 2
    assert done.broken == {
        "id: required": 0,
        "total: minimum 0": 1,
        "mail: nullValues": 1,
        "lines[].qty: minimum 1": 1,
        "orders: no_big_gift": 1,
    }


def test_two_rules_of_one_name_are_refused(spark):
    rules = {"id > 0 /* a */": "warn", "id < 9 /* a */": "warn"}
    said = refusal(quarantine.expect, spark.range(1), rules)
    assert said == "expect(): rule a appears twice; rename or drop one"
