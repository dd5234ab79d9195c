"""JSON lines against Python's json: what is good or bad and why, and nothing changes."""

import json
import random
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from chispa import assert_df_equality
from conftest import BEFORE_4_2, refusal

from sparkstream_kit import sinks, start
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.quarantine import bad_rows, good_rows, parse_json
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources import text

EVENTS = """id INT NOT NULL, amount DECIMAL(5,2), share DOUBLE, ratio FLOAT, name STRING,
    paid BOOLEAN, day DATE, at TIMESTAMP, big BIGINT, prices ARRAY<DECIMAL(5,2)>,
    counts MAP<STRING, INT>,
    place STRUCT<x: DECIMAL(5,2), seen: ARRAY<STRUCT<day: DATE>>, id: INT NOT NULL>"""
NO_JSON, NO_OBJECT = "not valid JSON, or a field twice", "not one JSON object"
PLACE = "place: not a struct<x:decimal(5,2),seen:array<struct<day:date>>,id:int>"
BAD = {
    "": "a blank line",
    "   ": "a blank line",
    "junk": NO_JSON,
    '{"id":1': NO_JSON,
    "{'id':1}": NO_JSON,
    '{"id":1} x': NO_JSON,
    '{"id":1}{"id":2}': NO_JSON,  # Spark's reader takes the first
    '{"id":1,"id":2}': NO_JSON,  # Spark's reader takes the last
    '{"id":1,"share":NaN}': NO_JSON,
    '{"id":01}': NO_JSON,
    # Half of a pair; there it is read as ?
    **({} if BEFORE_4_2 else {'{"id":1,"name":"\\ud800"}': NO_JSON}),
    '{"id":1}]': NO_OBJECT,
    '{"id":1},"the end"] junk': NO_OBJECT,  # the kit puts a line into an array
    '{"id":1},{"id":2}': NO_OBJECT,
    '[{"id":1}]': NO_OBJECT,
    "5": NO_OBJECT,
    "null": NO_OBJECT,
    "{}": "id: missing",
    '{"id":null}': "id: missing",
    '{"ID":1}': "id: missing",
    '{"id":"1"}': "id: not an int",
    '{"id":1.0}': "id: not an int",
    '{"id":2147483648}': "id: not an int",
    '{"id":1,"big":9223372036854775808}': "big: not a bigint",
    '{"id":1,"amount":7.505}': "amount: not a decimal(5,2)",
    '{"id":1,"amount":"7.505"}': "amount: not a decimal(5,2)",
    '{"id":1,"amount":1000}': "amount: not a decimal(5,2)",
    '{"id":1,"amount":1e-9}': "amount: not a decimal(5,2)",
    '{"id":1,"amount":7.500000000000000000000000000000000000000000001}': (
        "amount: not a decimal(5,2)"
    ),
    '{"id":1,"amount":true}': "amount: not a decimal(5,2)",
    '{"id":1,"amount":""}': "amount: not a decimal(5,2)",
    '{"id":1,"share":1e400}': "share: not a double",
    '{"id":1,"share":"1.25"}': "share: not a double",
    '{"id":1,"ratio":1e39}': "ratio: not a float",
    '{"id":1,"name":5}': "name: not a string",
    '{"id":1,"name":{"first":"Ann"}}': "name: not a string",
    '{"id":1,"paid":1}': "paid: not a boolean",
    '{"id":1,"paid":"true"}': "paid: not a boolean",
    '{"id":1,"day":"2024-02-30"}': "day: not a date",
    '{"id":1,"day":"2024-02-28T10:00:00"}': "day: not a date",
    '{"id":1,"day":20240228}': "day: not a date",
    '{"id":1,"at":1700000000000}': "at: not a timestamp",  # in milliseconds
    '{"id":1,"at":1.5}': "at: not a timestamp",
    '{"id":1,"at":9223372036854775807}': "at: not a timestamp",
    '{"id":1,"at":true}': "at: not a timestamp",
    '{"id":1,"at":"5"}': "at: not a timestamp",
    '{"id":1,"at":"2024-02-28T10:00:00.1234567Z"}': "at: not a timestamp",
    '{"id":1,"prices":1}': "prices: not an array<decimal(5,2)>",
    '{"id":1,"prices":[1,2.555]}': "prices: not an array<decimal(5,2)>",
    '{"id":1,"counts":{"a":3000000000}}': "counts: not a map<string,int>",
    '{"id":1,"counts":[]}': "counts: not a map<string,int>",
    '{"id":1,"place":{"x":1.555,"id":1}}': PLACE,
    '{"id":1,"place":{"x":1.5}}': PLACE,
    '{"id":1,"place":{"id":1,"seen":[{"day":"2024-13-01"}]}}': PLACE,
    '{"id":1,"place":[]}': PLACE,
}
WHEN = datetime(2024, 2, 29, 10, 0, 0, 123456)  # noqa: DTZ001 - as PySpark gives it
GOOD: dict[str, dict[str, Any]] = {
    '{"id":1}': {},
    ' { "id" : 1 , "unknown" : [1, {"a": null}] } ': {},
    '{"id":1,"amount":null,"name":null,"place":null,"prices":null,"counts":null}': {},
    '{"id":1,"amount":7.5}': {"amount": Decimal("7.50")},
    '{"id":1,"amount":7.5000}': {"amount": Decimal("7.50")},  # the same number
    '{"id":1,"amount":"7.50"}': {"amount": Decimal("7.50")},
    '{"id":1,"amount":-999}': {"amount": Decimal(-999)},
    '{"id":1,"share":1e3,"ratio":0.5}': {"share": 1000.0, "ratio": 0.5},
    '{"id":1,"share":3,"big":9223372036854775807}': {"share": 3.0, "big": 2**63 - 1},
    '{"id":1,"name":"","paid":false}': {"name": "", "paid": False},
    '{"id":1,"name":"Z\\u00fcrich \\u6771 \\"a\\" \\n"}': {"name": 'Zürich 東 "a" \n'},
    '{"id":1,"day":"2024-02-29","at":"2024-02-29T10:00:00.123456Z"}': {
        "day": date(2024, 2, 29),
        "at": WHEN,
    },
    '{"id":1,"at":1700000000}': {"at": datetime(2023, 11, 14, 22, 13, 20)},  # noqa: DTZ001 - seconds, in UTC
    '{"id":1,"at":-1}': {"at": datetime(1969, 12, 31, 23, 59, 59)},  # noqa: DTZ001
    '{"id":1,"prices":[1,2.5,null,"0.25"]}': {
        "prices": [Decimal(1), Decimal("2.5"), None, Decimal("0.25")]
    },
    '{"id":1,"prices":[],"counts":{}}': {"prices": [], "counts": {}},
    '{"id":1,"counts":{"a":1,"b":null}}': {"counts": {"a": 1, "b": None}},
    '{"id":1,"place":{"id":7,"more":1}}': {"place": {"x": None, "seen": None, "id": 7}},
    '{"id":1,"place":{"x":1.25,"seen":[{"day":"2024-02-29"},{},null],"id":7}}': {
        "place": {
            "x": Decimal("1.25"),
            "seen": [{"day": date(2024, 2, 29)}, {"day": None}, None],
            "id": 7,
        }
    },
}


def lines_of(spark, *lines):
    return spark.createDataFrame([(line,) for line in lines], "value STRING")


@pytest.mark.slow
def test_a_good_line_gives_its_values_exactly(spark):
    rows = parse_json(lines_of(spark, *GOOD), from_ddl(EVENTS)).collect()
    empty = dict.fromkeys(from_ddl(EVENTS).names)
    assert [row.asDict(recursive=True) for row in rows] == [
        {
            **empty,
            "id": 1,
            **values,
            "_reason": None,
            "_raw": line,
            "_bytes": None,
            "_file": None,
        }
        for line, values in GOOD.items()
    ]


@pytest.mark.slow
def test_a_bad_line_is_kept_with_its_reason_in_either_ansi_mode(spark):
    for mode in ("true", "false"):
        with in_force(spark, {"spark.sql.ansi.enabled": mode}):
            rows = parse_json(lines_of(spark, *BAD, None), from_ddl(EVENTS)).collect()
        assert [(row["_raw"], row["_reason"]) for row in rows] == [
            *BAD.items(),
            (None, NO_JSON),
        ]
        assert [value for row in rows for value in row[:-4] if value is not None] == []


@pytest.mark.slow
def test_a_value_that_does_not_parse_is_bad_also_where_the_query_does_not_use_it(spark):
    frame = parse_json(lines_of(spark, *BAD, *GOOD), from_ddl(EVENTS))
    assert good_rows(frame).select("id").count() == len(GOOD)
    assert sorted(row[0] for row in frame.select("_raw").collect()) == sorted(
        [*BAD, *GOOD]
    )


NUMBERS = {
    "12345678901234567890123456789012345678": True,  # 38 digits
    "-0.1234567890123456789012345678901234567": True,
    "123456789012345678901234567890123456789": False,
    "0.12345678901234567890123456789012345678": False,
    "1.5e3": True,
    "-1.2345678901234567E+300": True,
    "1.23456789012345678e3": False,
    "1e400": False,
    "-1e400": False,
    "1e-400": False,
    "1.2345678901234567e-310": False,  # below the doubles of full precision
    "0e-999": True,
    "0": True,
}


@pytest.mark.fast(
    "{}-x STRUCT<any: VARIANT>",
    '[[]"1e400",{{"c":{}}},true]-x STRUCT<any: VARIANT>',
    "{}-any VARIANT, more ARRAY<VARIANT>",
)
@pytest.mark.parametrize(
    "ddl", ["any VARIANT, more ARRAY<VARIANT>", "x STRUCT<any: VARIANT>"]
)
@pytest.mark.parametrize(
    "around", ["{}", '{{"b":[1,"\\"",{}]}}', '["1e400",{{"c":{}}},true]']
)
def test_a_number_that_variant_would_change_is_bad(spark, around, ddl):
    inner = {f'"any":{around.format(number)}': fits for number, fits in NUMBERS.items()}
    lines = {f'{{"x":{{{part}}},{part}}}': fits for part, fits in inner.items()}
    rows = (
        parse_json(lines_of(spark, *lines), from_ddl(ddl))
        .selectExpr("_raw", "_reason")
        .collect()
    )
    reason = "a number that VARIANT cannot hold"
    assert {row["_raw"]: row["_reason"] for row in rows} == {
        line: None if fits else reason for line, fits in lines.items()
    }


@pytest.mark.slow
def test_a_new_name_is_bad_where_asked_for(spark):
    lines = lines_of(spark, '{"id":1,"Name":"a"}', '{"id":1,"name":"a"}', "[]")
    reasons = [
        [
            row["_reason"]
            for row in parse_json(
                lines, from_ddl(EVENTS), refuse_unknown=refuse
            ).collect()
        ]
        for refuse in (False, True)
    ]
    assert reasons == [
        [None, None, NO_OBJECT],
        ["a field that the schema does not have", None, NO_OBJECT],
    ]


@pytest.mark.slow
def test_null_in_a_column_that_is_not_null_is_missing_whatever_its_type(spark):
    kinds = [
        "INT",
        "STRING",
        "TIMESTAMP",
        "ARRAY<INT>",
        "MAP<STRING, INT>",
        "STRUCT<a: INT>",
        "VARIANT",
    ]
    frame = lines_of(spark, "{}", '{"x": null}')
    reasons = [
        [row["_reason"] for row in parse_json(frame, f"x {kind} NOT NULL").collect()]
        for kind in kinds
    ]
    assert reasons == [["x: missing", "x: missing"]] * len(kinds)


@pytest.mark.slow
def test_patterns_and_odd_names_and_any_value(spark):
    frame = lines_of(
        spark,
        '{"a.b": "1/31/24", "c`d e": "31.01.2024 10:30", "any": {"n": [1, 2.50]}}',
    )
    schema = from_ddl("`a.b` DATE, `c``d e` TIMESTAMP, any VARIANT")
    (row,) = parse_json(
        frame, schema, date_format="M/d/yy", timestamp_format="dd.MM.yyyy HH:mm"
    ).collect()
    assert row[:2] == (date(2024, 1, 31), datetime(2024, 1, 31, 10, 30))  # noqa: DTZ001
    assert row["any"].toPython() == {"n": [1, Decimal("2.5")]}
    number = parse_json(
        lines_of(spark, '{"at": 1704096000}'), "at TIMESTAMP", timestamp_format="yyyy"
    )
    assert [row["_reason"] for row in number.collect()] == ["at: not a timestamp"]


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        (
            "a BINARY",
            "column a: JSON cannot hold binary; read it as a string or as VARIANT",
        ),
        ("a STRUCT<b: ARRAY<BINARY>>", "column a: JSON cannot hold binary; read it"),
        (
            "a MAP<INT, INT>",
            (
                "column a: JSON cannot hold map<int,int>; read it as a string or as"
                " VARIANT"
            ),
        ),
        ("_raw STRING", "column _raw: the name is taken by the kit; rename the column"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(spark, ddl, message):
    assert message in refusal(parse_json, lines_of(spark, "{}"), from_ddl(ddl))


@pytest.mark.slow
def test_a_byte_order_mark_is_no_part_of_the_first_line(spark, folder):
    (folder / "mark.json").write_bytes(b'\xef\xbb\xbf{"id":2}\n')
    assert [
        row.id
        for row in good_rows(
            parse_json(spark.read.text(str(folder)), from_ddl(EVENTS))
        ).collect()
    ] == [2]


def test_a_good_timestamp_is_what_spark_s_own_reader_gives(spark, folder):
    lines = [line for line, values in GOOD.items() if "at" in values]
    (folder / "lines.json").write_text("\n".join(lines))
    read = spark.read.schema("at TIMESTAMP").json(str(folder)).collect()
    assert [row.at for row in read] == [GOOD[line]["at"] for line in lines]


def event(chance):
    return {
        "id": chance.randrange(-(2**31), 2**31),
        "amount": round(chance.uniform(-999, 999), 2),
        "share": chance.uniform(-1e9, 1e9) * 10 ** chance.randrange(-200, 200),
        "name": "".join(
            chance.choice('aß東😀"\\/\n\t {}[],:') for _ in range(chance.randrange(9))
        ),
        "prices": [chance.randrange(100_000) / 100 for _ in range(chance.randrange(4))],
        "counts": {
            chance.choice("abc\u2028"): chance.randrange(9)
            for _ in range(chance.randrange(3))
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_stream_reads_what_python_reads_and_loses_no_line(spark, folder, seed):
    chance = random.Random(seed)  # noqa: S311 - a seeded mix, not a secret
    good = {
        n: json.dumps({**event(chance), "id": n}, ensure_ascii=n % 2 == 0)
        for n in range(400)
    }
    bad = [chance.choice([line for line in BAD if line]) for _ in range(100)]
    lines = [*good.values(), *bad]
    chance.shuffle(lines)
    (folder / "lines.json").write_text("\n".join(lines), "utf-8")
    parsed = parse_json(text(spark, str(folder)), from_ddl(EVENTS))
    start(parsed, sinks.memory(f"json_{seed}"), availableNow=True).awaitTermination()
    found = spark.table(f"json_{seed}")
    assert sorted(row["_raw"] for row in bad_rows(found).collect()) == sorted(bad)
    rows = {row.id: row for row in good_rows(found).collect()}
    assert sorted(rows) == sorted(good)
    for n, line in good.items():
        exact, row = json.loads(line, parse_float=Decimal), rows[n].asDict()
        assert (row["amount"], row["name"], row["share"]) == (
            exact["amount"],
            exact["name"],
            json.loads(line)["share"],
        )
        assert (row["prices"], row["counts"]) == (exact["prices"], exact["counts"])
    static = parse_json(spark.read.text(str(folder)), from_ddl(EVENTS))
    # Maps cannot be put in order
    columns = [name for name in found.columns if name != "counts"]
    assert_df_equality(
        found.select(columns),
        static.select(columns),
        ignore_row_order=True,
        ignore_nullable=True,
    )
