"""Lines of web server logs: each is one good row or one bad one, whatever is in it."""

import random
from datetime import datetime
from typing import Any

import pytest

from sparkstream_kit import quarantine
from sparkstream_kit.errors import InvalidInputError

TIME = "[01/Jul/1995:00:00:01 -0400]"
AT = datetime.fromisoformat("1995-07-01 04:00:01")
GOOD: dict[str, tuple[Any, ...]] = {
    f'199.72.81.55 - - {TIME} "GET /history/apollo/ HTTP/1.0" 200 6245': (
        *(
            "199.72.81.55",
            None,
            AT,
            "GET /history/apollo/ HTTP/1.0",
            200,
            6245,
            None,
            None,
        ),
    ),
    (
        f'2001:db8::8a2e:370:7334 - ann {TIME} "GET /a" 404 - "http://x/?q=1 2"'
        ' "Mozilla/5.0 (X11; Linux)"'
    ): (
        *("2001:db8::8a2e:370:7334", "ann", AT, "GET /a", 404, None),
        *("http://x/?q=1 2", "Mozilla/5.0 (X11; Linux)"),
    ),
    f'host - - {TIME} "GET /search?q="moon" HTTP/1.0" 200 1 "-" "-"': (
        *("host", None, AT, 'GET /search?q="moon" HTTP/1.0', 200, 1, None, None),
    ),
    f'host - - {TIME} "GET /" 200 9223372036854775807': (
        *("host", None, AT, "GET /", 200, 2**63 - 1, None, None),
    ),
    f'host - - {TIME} "GET /"end"" 200 0': (
        "host",
        None,
        AT,
        'GET /"end"',
        200,
        0,
        None,
        None,
    ),
    f'host - - {TIME} "a "b" c d" 200 7 "r" "say \\"hi\\" 1"': (
        *("host", None, AT, 'a "b" c d', 200, 7, "r", 'say \\"hi\\" 1'),
    ),
    f'host - - {TIME} "GET /" 200 5 "-" "curl/8" 0.2 "10.0.0.1"': (  # as of nginx
        *("host", None, AT, "GET /", 200, 5, None, "curl/8"),
    ),
    f'host - two words {TIME} "" 400 -': (
        "host",
        "two words",
        AT,
        "",
        400,
        None,
        None,
        None,
    ),
    f'host - - {TIME} "GET /\u2028\x85x" 200 5 ': (
        "host",
        None,
        AT,
        "GET /\u2028\x85x",
        200,
        5,
        None,
        None,
    ),
}
BAD = {
    f'host - - {TIME} "GET /" 200 9223372036854775808': "bytes: neither a number nor -",
    "": "not a log line",
    "junk": "not a log line",
    f'host - - {TIME} "GET /" 200': "not a log line",
    f'host - - {TIME} "GET / 200 5': "not a log line",
    f'host - - {TIME} "GET / HTTP/1.0" 200 5 more of another format': "not a log line",
    f'host - - {TIME} "GET /" 200 5 "http://x/': "not a log line",
    f'host - - {TIME} "GET /" 200 5 "http://x/"': "not a log line",
    f'host - - {TIME} "GET /" 200 5 "-" "curl/8" 0.003 rubbish': "not a log line",
    f'host - - {TIME} "GET /" 200 5 "-" "Mozilla/5.0 (X11; Li': "not a log line",
    'host - - [01/Jul/1995:25:00:01 -0400] "GET /" 200 5': "time: not a timestamp",
    'host - - [31/Feb/1995:00:00:01 -0400] "GET /" 200 5': "time: not a timestamp",
    'host - - [] "GET /" 200 5': "time: not a timestamp",
    f'host - - {TIME} "GET /" OK 5': "status: not a number",
    f'host - - {TIME} "GET /" 20 5': "status: not a number",
    f'host - - {TIME} "GET /" 200 5k': "bytes: neither a number nor -",
    f'host - - {TIME} "GET /" 200 -5': "bytes: neither a number nor -",
    f'host - - {TIME} "GET /" 200 99999999999999999999': (
        "bytes: neither a number nor -"
    ),
}


def test_each_good_line_is_a_row(spark):
    rows = quarantine.parse_log(
        spark.createDataFrame([(line,) for line in GOOD], "value STRING")
    )
    assert rows.dtypes[:8] == [
        *(
            ("host", "string"),
            ("user", "string"),
            ("time", "timestamp"),
            ("request", "string"),
        ),
        *(
            ("status", "int"),
            ("bytes", "bigint"),
            ("referer", "string"),
            ("agent", "string"),
        ),
    ]
    for line, row in zip(GOOD, rows.collect(), strict=True):
        assert (row["_reason"], row["_raw"]) == (None, line)
        assert tuple(row)[:8] == GOOD[line]


@pytest.mark.connect
def test_each_bad_line_is_null_with_its_reason(spark):
    rows = quarantine.parse_log(
        spark.createDataFrame([(line,) for line in BAD], "value STRING")
    ).collect()
    assert [(row["_raw"], row["_reason"]) for row in rows] == list(BAD.items())
    assert {value for row in rows for value in tuple(row)[:8]} == {None}


def test_a_long_line_in_which_a_search_could_lose_its_way_is_one_row(spark, folder):
    lines = [
        b'h - - [] "' + piece * 9000
        for piece in (b'" 1 1 "', b"[", b'"', b" ", b'\\"', b'" "', b"\xff")
    ]
    (folder / "access.log").write_bytes(b"\n".join(lines))
    rows = quarantine.parse_log(spark.read.text(str(folder))).collect()
    assert [bytes(row["_bytes"] or row["_raw"].encode()) for row in rows] == lines
    assert None not in {row["_reason"] for row in rows}


def test_other_columns_are_kept_and_a_name_twice_is_refused(spark):
    lines = spark.createDataFrame([(next(iter(GOOD)), 7)], "value STRING, `a.b` INT")
    [row] = quarantine.good_rows(quarantine.parse_log(lines)).collect()
    assert (row["host"], row["a.b"]) == ("199.72.81.55", 7)
    with pytest.raises(
        InvalidInputError, match="column status: two columns have this name; rename"
    ):
        quarantine.parse_log(lines.withColumnRenamed("a.b", "status"))


def test_whatever_is_in_a_file_each_line_is_one_row(spark, folder):
    pick = random.Random(1)  # noqa: S311 - test data
    whole = [line.encode() for line in [*GOOD, *BAD] if line]
    lines = []
    for _ in range(1500):
        line = bytearray(pick.choice(whole))
        for _ in range(pick.randrange(4)):
            where = pick.randrange(len(line))
            line[where : where + pick.randrange(3)] = bytes(
                pick.choices(b'"\\[] \x00\xff\xc3-0', k=pick.randrange(3))
            )
        lines.append(bytes(line))
    # Long ones, with what a search could lose its way in.
    lines += [
        b'h - - [] "' + piece * 9000
        for piece in (b'" 1 1 "', b"[", b'"', b" ", b'\\"', b'" "', b"a")
    ]
    (folder / "access.log").write_bytes(b"\n".join(lines))
    rows = quarantine.parse_log(spark.read.text(str(folder))).collect()
    assert len(rows) == len(lines)
    for given, row in zip(lines, rows, strict=True):
        assert bytes(row["_bytes"] or row["_raw"].encode()) == given
        if row["_reason"] is None:
            assert (
                b'"' + row["request"].encode() + b'" ' in given
                or row["request"] is None
            )
            assert None not in (row["host"], row["time"], row["status"])
        else:
            assert row["time"] is None
    assert 100 < sum(row["_reason"] is None for row in rows) < 1300
