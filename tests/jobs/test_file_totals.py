"""The job `file_totals`: counts and sums of files of any schema, exactly, and wrong flags in one line.

The tests of `transform` need the installed kit alone, so that they can be copied with the job.
"""

import json
from decimal import Decimal

import file_totals
import pytest

from sparkstream_kit import feeds, schemas
from sparkstream_kit.testing import assert_stream_equals_batch

EVENTS = "event_id STRING, time TIMESTAMP, user STRING, product STRING, type STRING, price DECIMAL(10,2)"


def test_totals_are_exact_for_any_names_and_a_bad_line_is_counted(spark):
    lines = ["a,1,2.50", "b,,1", "a,1,", "junk", ",1,0.10", "a,1,2.505", "sh`op,a.b,the price"]
    schema = schemas.from_ddl("`sh``op` STRING, `a.b` INT, `the price` DECIMAL(9,2)")
    counted = file_totals.transform(
        spark.createDataFrame([(line,) for line in lines], "value STRING"),
        schema, ["sh`op", "a.b"], "the price", header=True,
    )  # fmt: skip
    assert [tuple(row) for row in file_totals.totals(counted).collect()] == [
        (None, 1, 1, Decimal("0.10")),
        ("a", 1, 2, Decimal("2.50")),
        ("b", None, 1, Decimal("1.00")),
    ]
    bad = counted.where("_reason IS NOT NULL").select("_reason", "Rows").collect()
    assert sorted(map(tuple, bad)) == [("not 3 fields", 1), ("the price: not a decimal(9,2)", 1)]


def test_a_sum_of_whole_numbers_may_pass_their_range(spark):
    lines = spark.createDataFrame([(f"{2**63 - 1}",)] * 3, "value STRING")
    counted = file_totals.transform(lines, schemas.from_ddl("n BIGINT"), ["n"], "n")
    assert file_totals.totals(counted).collect()[0]["Total"] == 3 * (2**63 - 1)


@pytest.mark.slow
def test_a_stream_gives_what_a_batch_run_gives(spark):
    rows = [feeds.csv_line(row) for row in feeds.events_rows(40, seed=1)]
    schema = schemas.from_ddl(EVENTS)

    def transform(lines):
        return file_totals.transform(lines, schema, ["type"], "price")

    lines = spark.createDataFrame([(row,) for row in [*rows, "junk"]], "value STRING")
    assert_stream_equals_batch(transform, lines, mode="complete", examples=3)


@pytest.mark.slow
def test_the_job_gives_the_truth_over_a_restart(job, folder, tmp_path):
    rows = list(feeds.events_rows(400, seed=4))
    header = ",".join(schemas.from_ddl(EVENTS).names)
    made = feeds.line_files(map(feeds.csv_line, rows), rows=100, name="events-{}.csv")
    files = [(name, f"{header}\n{text}") for name, text in made]
    flags = ("--schema", EVENTS, "--key", "type", "--value", "price", "--header", "--format", "json")
    for part in (files[:2], files[2:]):
        feeds.drip(part, folder)
        done = job(
            "python", "file_totals", folder, *flags, "--available-now", "--checkpoint", tmp_path / "ckpt"
        )
        assert done.returncode == 0, done.stderr
    found = [(row["type"], row["Rows"], Decimal(str(row["Total"]))) for row in json.loads(done.stdout)]
    assert found == feeds.events_truth(rows)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"--key": "typ"}, "unknown column of --key typ; did you mean type?"),
        ({"--key": "type,usr"}, "unknown column of --key usr; did you mean user?"),
        ({"--value": "cost"}, "unknown column of --value cost"),
        ({"--value": "type"}, "--value type is string; give a column of numbers"),
        ({"--schema": "type TEXT"}, "TEXT"),
        ({"--schema": "rows INT", "--key": "rows", "--value": "rows"}, "--key: the result has a column rows"),
    ],
)
@pytest.mark.usefixtures("spark")
def test_wrong_columns_cost_one_line_before_anything_is_read(changed, problem, folder, capsys):
    given = {"--schema": EVENTS, "--key": "type", "--value": "price", **changed}
    flags = [part for pair in given.items() for part in pair]
    assert file_totals.main([str(folder), "--available-now", *flags]) == 2
    said = capsys.readouterr()
    last = said.err.splitlines()[-1]
    assert problem in last
    assert said.out == ""
    assert "Traceback" not in said.err
