"""`quarantine.expect`: rules on data, what becomes of rows that break one, and counts."""

import logging
from typing import Any

import pytest
from conftest import failure, refusal
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import functions as F

from sparkstream_kit import quarantine, run, sinks, sources, start, windows
from sparkstream_kit._internal.spark.session import CONTEXT_LOGGERS
from sparkstream_kit.schemas import from_ddl

SCHEMA = "shop STRING, amount INT"
ROWS = [("north", 3), ("north", -1), ("south", 0), (None, 5), ("south", None)]


@pytest.fixture
def sales(spark):
    return spark.createDataFrame(ROWS, SCHEMA)


def parsed(spark, folder, *files):
    """Return a stream of parsed lines: a batch for each file."""
    for number, lines in enumerate(files):
        (folder / f"{number}.csv").write_text(f"{lines}\n")
    return quarantine.parse_csv(
        sources.text(spark, str(folder), max_files_per_trigger=1), from_ddl(SCHEMA)
    )


def reasons(frame):
    return [(row.shop, row.amount, row["_reason"]) for row in frame.collect()]


@pytest.mark.slow
def test_a_broken_rule_is_a_reason_and_null_breaks_it(sales):
    rules = {
        "amount > 0": "quarantine",
        "shop IS NOT NULL": "quarantine",
        "amount < 4": "warn",
    }
    found = quarantine.expect(sales, rules)
    assert found.columns == ["shop", "amount", "_reason"]
    assert reasons(found) == [
        ("north", 3, None),
        ("north", -1, "breaks amount > 0"),
        ("south", 0, "breaks amount > 0"),
        (None, 5, "breaks shop IS NOT NULL"),
        ("south", None, "breaks amount > 0"),
    ]
    assert quarantine.good_rows(found).collect() == [("north", 3)]
    assert quarantine.bad_rows(found).collect()[0] == ("north", -1, "breaks amount > 0")
    assert quarantine.bad_rows(found).count() == 4
    # The first broken rule gives the reason, and rules that only warn change nothing.
    found = quarantine.expect(
        sales, {"amount >\n  3": "quarantine", "amount > 0": "quarantine"}
    )
    assert {reason for *_, reason in reasons(found)} == {None, "breaks amount > 3"}
    found = quarantine.expect(sales, {"amount > 0": "warn"})
    assert found.columns == sales.columns
    assert found.collect() == sales.collect()


def test_null_passes_where_the_rule_says_so(sales):
    found = quarantine.expect(sales, {"amount IS NULL OR amount > 0": "quarantine"})
    assert [row.amount for row in quarantine.good_rows(found).collect()] == [3, 5, None]


def test_a_row_that_breaks_a_rule_of_failing_fails_a_static_frame_too(sales):
    with pytest.raises(PySparkException) as error:
        quarantine.expect(sales, {"amount > 0": "fail"}).collect()
    assert (
        "rule amount > 0: at least 1 row breaks it, and it says 'fail'; mend the data"
        in str(error.value)
    )
    assert quarantine.expect(
        sales, {"coalesce(amount, 0) > -2": "fail"}
    ).count() == len(ROWS)


def test_columns_of_any_name_can_be_in_a_rule(spark):
    frame = spark.createDataFrame([(1, 2)], "`a.b` INT, `_rule` INT")
    found = quarantine.expect(frame, {"`a.b` > 1": "quarantine", "_rule = 2": "fail"})
    assert [row["_reason"] for row in found.collect()] == ["breaks `a.b` > 1"]


@pytest.mark.connect
def test_a_wrong_column_in_a_rule_prints_nothing_beside_the_error(spark, capfd):
    # As in a session that the kit has not launched.
    loggers = [PySparkLogger.getLogger(name) for name in CONTEXT_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel("ERROR")
    try:
        said = refusal(quarantine.expect, spark.range(1), {"nope > 0": "warn"})
        assert [logger.level for logger in loggers] == [logging.ERROR] * len(loggers)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert "rule nope > 0 cannot be used: A column" in said
    assert "\n" not in said
    assert "JVM stacktrace" not in capfd.readouterr().err


# --- streams


@pytest.mark.slow
@pytest.mark.connect
def test_the_summary_counts_by_rule_and_says_it_in_words(spark, folder):
    rows = parsed(spark, folder, "north,3", "north,-1", "no row", "south,-2", ",7")
    rules = {"amount > 0": "quarantine", "shop <> ''": "warn", "amount < 100": "fail"}
    summary = run(
        start(quarantine.expect(rows, rules), sinks.memory("ruled"), availableNow=True)
    )
    [done] = summary.queries
    assert done.broken == {"amount > 0": 2, "shop <> ''": 1, "amount < 100": 0}
    # A line that cannot be read breaks no rule
    assert (done.parsed_rows, done.bad_rows) == (5, 3)
    said = [str(verdict) for verdict in done.verdicts]
    assert said == [
        "rule amount > 0: 2 rows break it",
        "rule shop <> '': 1 row breaks it",
    ]
    assert "verdict: query ruled: rule amount > 0: 2 rows break it" in str(summary)


@pytest.mark.slow
@pytest.mark.connect
def test_good_and_bad_rows_of_a_stream_are_apart(spark, folder, tmp_path):
    rows = parsed(spark, folder, "north,3\nnorth,-1\nno row")
    good, bad = (
        sinks.batch_files(tmp_path / "good"),
        sinks.batch_files(tmp_path / "bad"),
    )
    sink = sinks.fan_out(
        good.taking(quarantine.good_rows), bad.taking(quarantine.bad_rows)
    )
    found = quarantine.expect(rows, {"amount > 0": "quarantine"})
    run(
        start(
            found, sink, name="sales", checkpoint=tmp_path / "ckpt", availableNow=True
        )
    )
    assert spark.read.parquet(str(tmp_path / "good")).drop("batch").collect() == [
        ("north", 3)
    ]
    written = spark.read.parquet(str(tmp_path / "bad")).collect()
    assert sorted((row["_reason"], row["_raw"]) for row in written) == [
        ("breaks amount > 0", "north,-1"),
        ("not 2 fields", "no row"),
    ]


@pytest.mark.slow
def test_rows_that_no_parse_has_counted_are_counted(spark, folder):
    (folder / "a.json").write_text('{"amount": 3}\n{"amount": -1}\n')
    rows = sources.json(spark, str(folder), schema="amount INT")
    first = quarantine.expect(rows, {"amount > 0": "quarantine"})
    both = quarantine.expect(first, {"amount > 2": "warn", "amount > 0": "warn"})
    [done] = run(start(both, sinks.memory("ruled"), availableNow=True)).queries
    assert (done.parsed_rows, done.bad_rows) == (2, 1)
    # A row with a reason is not looked at again
    assert done.broken == {"amount > 0": 1, "amount > 2": 0}
    # Those that a parse has counted are counted once.
    (folder / "a.json").unlink()
    good = quarantine.good_rows(parsed(spark, folder, "north,3", "north,-1"))
    found = quarantine.expect(good, {"amount > 0": "quarantine"})
    [done] = run(start(found, sinks.memory("counted_once"), availableNow=True)).queries
    assert (done.parsed_rows, done.bad_rows) == (2, 1)


@pytest.mark.connect
def test_a_query_fails_before_its_batch_is_written(spark, folder, tmp_path):
    rows = quarantine.good_rows(parsed(spark, folder, "north,3", "north,-1"))
    # Behind the rule
    total = quarantine.expect(rows, {"amount > 0": "fail"}).where("shop = 'none'")
    how: Any = {"name": "sales", "checkpoint": tmp_path / "ckpt", "availableNow": True}
    assert (
        failure(run, start(total, sinks.files(tmp_path / "out"), **how))
        == "query sales failed: rule amount > 0: at least 1 row breaks it, and it says"
        " 'fail'; mend the data, or give the rule 'quarantine' to set such rows"
        " aside"
    )
    assert sorted(
        path.name for path in (tmp_path / "out/_spark_metadata").glob("[0-9]*")
    ) == ["0"]
    assert sorted(path.name for path in (tmp_path / "ckpt/commits").glob("[0-9]*")) == [
        "0"
    ]


# --- rows that a later step than their parse finds bad

FAR = "2099-01-01T00:00:00Z"


LINES = {
    "csv": f"7,{FAR}".encode(),
    "json": f'{{"n": 7, "time": "{FAR}"}}'.encode(),
    "log": b'host - - [01/Jan/2099:00:00:00 +0000] "GET /\0 HTTP/1.0" 200 5',
}
LATER = {
    "expect": lambda rows: quarantine.expect(
        rows, {"time < '2098-01-01'": "quarantine"}
    ),
    "mark_bad": lambda rows: quarantine.mark_bad(rows, F.lit("all are bad")),
    "with_watermark": lambda rows: windows.with_watermark(rows, "time", "1 hour"),
}


@pytest.mark.fast("mark_bad-csv")
@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("later", LATER)
def test_a_row_that_is_found_bad_later_keeps_its_line_and_its_file(
    spark, folder, kind, later
):
    (folder / "a.txt").write_bytes(LINES[kind])
    lines, schema = spark.read.text(str(folder)), from_ddl("n INT, time TIMESTAMP")
    parse: Any = {"csv": quarantine.parse_csv, "json": quarantine.parse_json}.get(kind)
    rows = quarantine.parse_log(lines) if kind == "log" else parse(lines, schema)
    assert quarantine.good_rows(rows).count() == 1
    [bad] = quarantine.bad_rows(LATER[later](rows)).collect()
    assert (bad["_raw"].encode() if bad["_bytes"] is None else bad["_bytes"]) == LINES[
        kind
    ]
    assert "\0" not in bad["_raw"]
    assert bad["_file"] == f"{folder}/a.txt"


# --- what is refused


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ({}, "expect() needs a rule, such as {'amount > 0': 'quarantine'}"),
        (
            {"amount > 0": "quarantin"},
            "unknown word for rule amount > 0: quarantin; did you mean quarantine?",
        ),
        (
            {"amount > 0": 3},
            "unknown word for rule amount > 0: 3; known: fail, quarantine, warn",
        ),
        (
            {"amuont > 0": "warn"},
            (
                "expect(): rule amuont > 0 cannot be used: A column, variable, or"
                " function parameter with name"
            ),
        ),
        ({"amount": "warn"}, "expect(): rule amount cannot be used: "),
        (
            {"amount >": "warn"},
            (
                "expect(): rule amount > cannot be used: Syntax error at or near end of"
                " input"
            ),
        ),
        (
            {"amonut(shop)": "warn"},
            "expect(): rule amonut(shop) cannot be used: Cannot resolve routine",
        ),
        (
            {"sum(amount) > 0": "warn"},
            "expect(): rule sum(amount) > 0 cannot be used: ",
        ),
    ],
)
def test_what_is_no_rule_is_one_line(rules, line, sales):
    assert sales.schema.names  # which a client of Spark Connect then remembers
    assert refusal(quarantine.expect, sales, rules).startswith(line)


@pytest.mark.slow
def test_a_rule_that_is_changed_or_added_keeps_the_checkpoint_of_a_query_without_state(
    spark, folder, tmp_path
):
    for rule in ("amount > 0", "amount > 1"):
        rows = quarantine.expect(parsed(spark, folder, "north,3"), {rule: "quarantine"})
        sink = sinks.files(tmp_path / "out")
        run(
            start(
                rows,
                sink,
                name="sales",
                checkpoint=tmp_path / "ckpt",
                availableNow=True,
            )
        )
        (folder / "more.csv").write_text("south,1\n")
    written = spark.read.parquet(str(tmp_path / "out")).collect()
    assert [
        (row["shop"], row["_reason"] is None) for row in sorted(written, key=str)
    ] == [
        ("north", True),
        ("south", False),  # under the second rule
    ]
