"""Lines of JSON in the plain form give what the way of all other lines gives, to the value."""

import json
import random
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from sparkstream_kit import quarantine
from sparkstream_kit.quarantine.plain_json import IS_PLAIN, PlainLines
from sparkstream_kit.schemas import from_ddl

DDL = (
    "id BIGINT NOT NULL, byte TINYINT, short SMALLINT, int INT, text STRING, amount DOUBLE,"
    " small FLOAT, ok BOOLEAN, price DECIMAL(6,2), whole DECIMAL(5,0), part DECIMAL(2,2),"
    " day DATE, at TIMESTAMP, `a.b c` STRING, _corrupt_record STRING,"
    " item STRUCT<n: INT NOT NULL, at: TIMESTAMP, in: STRUCT<x: DOUBLE, day: DATE>>,"
    " tags ARRAY<STRING>, times ARRAY<TIMESTAMP>,"
    " parts ARRAY<STRUCT<id: BIGINT, day: DATE, codes: ARRAY<SMALLINT>>>"
)
INTEGERS = (
    "0 -0 1 7 -9 42 99 127 128 -128 999 9999 32767 32768 999999999 2147483648 01 +1"
)
INTEGERS += " 2147483647 999999999999999999 9223372036854775807 9999999999999999999"
NUMBERS = "0.0 -0.0 -0.00 1.5 -2.25 0.1 123.45 9999.99 1234.567 0.123456789012345678 1.50 8.16"
NUMBERS += (
    " 1e3 1E-2 1.5e+10 -0e5 1e400 1e-400 .5 5. 0E-8 16777217 3.4028236e38 NaN . - 0e0"
)
NUMBERS += f" 123456789012345.12345678901234567 0.30000000000000004 {'1' * 39}"
TEXTS = (
    r'''"" "a" "é😀" "a\n\"b\\" "\u00e9" "\ud83d\ude00" "\ud83d" "\x" "NA" "\u004eA"'''
)
TEXTS += f''' "12.5" "1" "true" "\ufffd" "\x01" "{(chr(92) + "n") * 30}"'''
DAYS = "2024-02-29 2023-02-29 0000-01-01 0001-01-01 9999-12-31 2024-1-5 29.2.24 5.13.24"
TIMES = "T10:30:00Z T10:30:00+02:00 T02:30:00 T24:00:00Z T10:30Z T10:30:00.123456Z"
TIMES += " T10:30:00.1234567Z T23:59:59-18:00 T10:30:00+19:00 T10:30:60Z t10:30:00z"
MOMENTS = ["2024-03-31T02:30:00", "2024-10-27T02:30:00", "2024-03-10T02:30:00"]
MOMENTS += [
    "31.3.24 02:30",
    "2024-02-29 10:30:00.5",
    "2024-02-29T10:30:00 Europe/Berlin",
]
SPACES = ["", "", "", " ", "  ", "\t"]


class Lines:
    """Lines of JSON, most of them as programs write them, and the rest nearly so."""

    def __init__(self, seed, schema):
        self.schema = schema
        self.pick = random.Random(seed)  # noqa: S311 - it makes data, no secrets

    def line(self):
        """Return a line: in order or not, with fields missing or twice, now and then damaged."""
        fields = [
            field
            for field in self.schema
            if self.pick.random() < 0.5 or not field.nullable
        ]
        if self.pick.random() < 0.3:
            self.pick.shuffle(fields)
        if self.pick.random() < 0.05:
            fields.append(self.pick.choice(self.schema.fields))
        line = self.record(fields)
        if self.pick.random() < 0.1:
            place = self.pick.randrange(len(line))
            other = self.pick.choice(
                ["", ",", '"', "}", "[", "null", "0", " ", "\\", "é"]
            )
            line = line[:place] + other + line[place + self.pick.randrange(2) :]
        return line

    def record(self, fields):
        """Return an object of JSON."""
        comma, colon = ",", ":"
        if self.pick.random() < 0.5:
            comma, colon = ", ", ": "
        if self.pick.random() < 0.05:
            comma += self.pick.choice(SPACES)
        parts = [
            f"{json.dumps(each.name)}{colon}{self.value(each.dataType)}"
            for each in fields
        ]
        if self.pick.random() < 0.02:
            parts.append('"unknown": 1')
        return "{" + comma.join(parts) + "}"

    def value(self, kind):
        """Return a value of JSON, most often one that a column of this type can hold."""
        if self.pick.random() < 0.02:
            return "null"
        if self.pick.random() < 0.005:
            return self.pick.choice(
                [*INTEGERS, *NUMBERS, *TEXTS, "[]", "{}", "tru", "[[1]]"]
            )
        name = kind.typeName()
        if name == "struct":
            return self.record(
                [each for each in kind if self.pick.random() < 0.8 or not each.nullable]
            )
        if name == "array":
            count = self.pick.choice([0, 0, 1, 1, 2, 2, 3, 4])
            if self.pick.random() < 0.02:
                count = self.pick.choice([64, 65, 66])
            elements = [self.value(kind.elementType) for _ in range(count)]
            return f"[{self.pick.choice([',', ', ']).join(elements)}]"
        return self.scalar(name)

    def scalar(self, name):
        """Return a value of a type with nothing inside."""
        if self.pick.random() < 0.97:
            return self.usual(name)
        number = self.pick.choice([*INTEGERS.split(), *NUMBERS.split()])
        day = self.pick.choice(DAYS.split())
        moment = day + self.pick.choice(TIMES.split())
        rare = {
            "string": self.pick.choice(TEXTS.split()),
            "boolean": self.pick.choice(["false", '"true"', "1"]),
            "date": f'"{day}{self.pick.choice(["", "", "T00:00:00", " "])}"',
            "timestamp": f'"{self.pick.choice([moment, day, *MOMENTS])}"',
        }
        return rare.get(name, self.pick.choice([number, number, f'"{number}"']))

    def usual(self, name):
        """Return a value of a type as most programs write it."""
        number = self.pick.randrange(100)
        usual = {
            "string": '"text"',
            "boolean": "true",
            "date": '"2024-02-29"',
            "timestamp": '"2024-02-29T10:30:00Z"',
            "double": f"{number}.25",
            "float": f"{number}.5",
            "decimal": "0.25" if number < 50 else '"0.5"',
        }
        return usual.get(name, str(number))


def both_ways(spark, lines, schema, **options):
    """Return the rows of parse_json, and those of lines none of which is plain; and the types."""
    frame = spark.createDataFrame([(line,) for line in lines], "line STRING")
    found = quarantine.parse_json(frame, schema, **options)
    with patch.object(PlainLines, "exist", False):
        expected = quarantine.parse_json(frame, schema, **options)
    types = [one.schema.simpleString() for one in (found, expected)]
    # As texts, which tell NULL, NaN and -0.0 apart, and hold the year 0
    row = F.struct("*")
    as_texts = [row.cast("string"), F.to_json(row)]
    return (
        found.select(*as_texts).collect(),
        expected.select(*as_texts).collect(),
        types,
    )


def plain_of(spark, lines, schema, **options):
    """Return whether each line is plain."""
    frame = spark.createDataFrame([(line,) for line in lines], "_raw STRING")
    read = PlainLines(from_ddl(schema), **options).read(frame)
    return [is_plain for (is_plain,) in read.select(IS_PLAIN).collect()]


PATTERNS = {"date_format": "d.M.yy", "timestamp_format": "d.M.yy HH:mm"}


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    "options",
    [{}, {"nulls": ["NA", "1"], "refuse_unknown": True}, PATTERNS],
    ids=["plain", "nulls", "patterns"],
)
def test_a_plain_line_gives_what_any_other_way_gives(spark, zone, options):
    schema = from_ddl(DDL)

    @settings(max_examples=4, deadline=None, suppress_health_check=[*HealthCheck])
    @given(st.integers(0, 2**32))
    def check(seed):
        made = Lines(seed, schema)
        lines = [made.line() for _ in range(700)]
        found, expected, types = both_ways(spark, lines, schema, **options)
        for line, one, other in zip(lines, found, expected, strict=True):
            assert one == other, line
        assert types[0] == types[1]

    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        check()
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        '{"a":1,"t":"x"}',
        '{"t": "x", "a": 1}',
        '{"t":  null,  "a": 1}',
        r'{"t":"\u00e9\n"}',
        '{"d":"2024-02-29","l":[1,2, 3]}',
        '{"l":[' + ",".join(["1"] * 65) + "]}",
        '{"s":{"x":1.5}}',
        '{"d":null,"l":null,"s":null}',
    ],
)
def test_a_line_as_programs_write_it_is_plain(spark, line):
    schema = "a INT, t STRING, d DATE, l ARRAY<INT>, s STRUCT<x: DOUBLE>"
    assert plain_of(spark, [line], schema) == [True]


@pytest.mark.parametrize(
    "line",
    [
        '{"a":1,"a":1}',
        '{"a":1,"t":"x","a":1}',
        '{"t":"x","a":1,"t":"x"}',
        '{"s":{"x":1.5,"x":1.5}}',
        '{"a":1,}',
        '{"a":1, }',
        '{,"a":1}',
        '{"a":1 "t":"x"}',
        '{"a":1}}',
        '{"a":1}\n',
        ' {"a":1}',
        '{"a":01}',
        '{"a":"1"}',
        '{"a":1.0}',
        '{"a":9999999999}',
        '{"t":1}',
        '{"t":"\ufffd"}',
        '{"t":"a\tb"}',
        r'{"t":"\ud83d"}',
        r'{"t":"\x"}',
        '{"d":"2023-02-29"}',
        '{"d":"0000-01-01"}',
        '{"s":{"x":-0.0}}',
        '{"s":{"x":NaN}}',
        '{"l":[' + ",".join(["1"] * 66) + "]}",
        '{"l":[1,]}',
        '{"other":1}',
        "",
        None,
    ],
)
def test_a_line_that_from_json_would_change_is_not_plain(spark, line):
    schema = "a INT, t STRING, d DATE, l ARRAY<INT>, s STRUCT<x: DOUBLE>"
    assert plain_of(spark, [line], schema) == [False]


def test_a_line_without_a_column_that_is_not_null_is_not_plain(spark):
    schema = "a INT NOT NULL, b INT, c STRUCT<x: INT NOT NULL>"
    lines = ['{"a":1}', '{"b":2,"a":1}', '{"a":1,"c":{"x":1}}']
    assert plain_of(spark, lines, schema) == [True, True, True]
    lines = ["{}", '{"b":2}', '{"a":null}', '{"b":1,"a":null}', '{"a":1,"c":{}}']
    assert plain_of(spark, lines, schema) == [False] * 5


@pytest.mark.parametrize(
    "ddl", ["a VARIANT", "a MAP<STRING, INT>", '`a"b` INT', "a STRUCT<`x\\y`: INT>"]
)
def test_a_schema_of_which_no_line_can_be_plain(spark, ddl):
    assert not PlainLines(from_ddl(ddl)).exist


@pytest.mark.slow
def test_a_very_long_line_is_read_without_deep_calls(spark):
    names = [f"column_{number}" for number in range(59)]
    schema = "".join(f"{name} BIGINT, " for name in names) + "x ARRAY<ARRAY<STRING>>"
    text = '"' + r"\n" * 20 + '"'
    rows = "[" + ",".join([f"[{','.join([text] * 65)}]"] * 65) + "]"
    fields = [f'"{name}":{number}' for number, name in enumerate(names)]
    in_order = "{" + ",".join([*fields, f'"x":{rows}']) + "}"
    backwards = "{" + ",".join([f'"x":{rows}', *fields[::-1]]) + "}"
    longer = '{"x":[[' + ",".join([text] * 100_000) + "]]}"
    escapes = '{"x":[["' + r"\n" * 500_000 + '"]]}'
    lines = [in_order, backwards, longer, escapes]
    assert plain_of(spark, lines, schema) == [True, True, False, False]
    found, expected, _ = both_ways(spark, lines, from_ddl(schema))
    assert found == expected


def test_spark_prints_the_code_of_a_parse(spark, capsys):
    lines = spark.createDataFrame([('{"a":1}',)], "line STRING")
    quarantine.parse_json(lines, "a INT, b STRUCT<c: STRING>").explain("codegen")
    assert "Generated code:" in capsys.readouterr().out


def test_most_lines_that_programs_write_are_plain(spark):
    schema = from_ddl(DDL)
    made = Lines(7, schema)
    lines = [made.line() for _ in range(150)]
    found, expected, types = both_ways(spark, lines, schema)
    assert found == expected
    assert types[0] == types[1]
    frame = spark.createDataFrame([(line,) for line in lines], "_raw STRING")
    plain = PlainLines(schema).read(frame).where(IS_PLAIN).count()
    assert plain > 40
