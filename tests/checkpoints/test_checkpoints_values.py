"""`shadow` compares values as the target holds them, and casts none to the type of the other side.

what the target holds    0.125   1   2026-03-01 10:11:12
the changed query        0.1    '1'  2026-03-01            equal to none of them
"""

import csv
import json
import sqlite3
from collections import Counter
from typing import Any

import pyarrow.dataset as pads
import pytest
from pyspark.sql import functions as F
from support import mariadb, postgresql

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.checkpoints import shadow
from sparkstream_kit.checkpoints.fingerprint import top_level
from sparkstream_kit.checkpoints.guard import StartingQuery
from sparkstream_kit.checkpoints.operate.alignment import side_by_side
from sparkstream_kit.checkpoints.operate.shadow import (
    _changes_batches,
    _depends_on_batches,
)

# Of a column: what the target has, what the changed query has, and whether the values
# are equal.
TYPES = {
    "rounded": ("0.125BD", "0.1BD", False),
    "more digits": ("1.25BD", "1.2500BD", True),
    "a whole number": ("0.75D", "0", False),
    "the same whole number": ("3.0D", "3", True),
    "half as exact": ("7.005D", "float(7.005)", False),
    "exact in both": ("0.5D", "float(0.5)", True),
    "larger": ("1", "1L", True),
    "a text of a number": ("1", "'1'", False),
    "a day of a time": ("timestamp'2026-03-01 00:00:00'", "date'2026-03-01'", False),
    "a time without a zone": (
        "timestamp'2026-03-01 10:00:00'",
        "timestamp_ntz'2026-03-01 10:00:00'",
        False,
    ),
    "bytes of a text": ("'a'", "binary('a')", False),
    "a number in a list": ("array(1)", "array(1L)", True),
    "a text in a list": ("array(1)", "array('1')", False),
    "a larger field": (
        "named_struct('n', 1, 's', 'a')",
        "named_struct('n', 1L, 's', 'a')",
        True,
    ),
    "another field": ("named_struct('n', 1)", "named_struct('m', 1)", False),
    "nothing": ("int(NULL)", "string(NULL)", True),
    "digits beyond a decimal": ("decimal(1)", "cast('0.1' AS decimal(38,38))", False),
}


def test_values_of_two_types_are_equal_as_numbers_or_not_at_all(spark, tmp_path):
    one = spark.range(1)
    old = one.select(
        *(F.expr(theirs).alias(name) for name, (theirs, _, _) in TYPES.items())
    )
    new = one.select(
        *(F.expr(ours).alias(name) for name, (_, ours, _) in TYPES.items())
    )
    sides = side_by_side(old, new, new.schema, new.columns, None, str(tmp_path))
    [theirs], [ours] = sides.old.collect(), sides.new.collect()
    equal = {
        name: (
            theirs[name] is ours[name] is None
            or (theirs[name] == ours[name] and name not in sides.incomparable)
        )
        for name in TYPES
    }
    assert equal == {name: are_equal for name, (_, _, are_equal) in TYPES.items()}
    told = [
        name
        for name in TYPES
        if any(f"column {name} is " in each for each in sides.types)
    ]
    assert told == [*TYPES]


ROWS = [
    (
        number,
        text,
        number / 7,
        f"{number}.5",
        f"2026-10-25T0{number % 3}:30:00Z",
        number % 2 == 0,
    )
    for number, text in enumerate(
        ["a", "", None, "a\nb", ' "x", ', "\\", "1", "null", "NULL", "é", "\r\n"]
    )
]
SCHEMA = "n INT, s STRING, x DOUBLE, d DECIMAL(12,3), t TIMESTAMP, b BOOLEAN"
WHOLE = (
    "n, s, x, d, t, b, cast(t AS timestamp_ntz) AS u, date(t) AS day, float(x) AS f,"
    " bigint(n) AS l"
)


def rows_of(spark, text=WHOLE):
    given = spark.createDataFrame(
        ROWS, "n INT, s STRING, x DOUBLE, d STRING, t STRING, b BOOLEAN"
    )
    typed = given.selectExpr(
        "n", "s", "x", "cast(d AS decimal(12,3)) AS d", "timestamp(t) AS t", "b"
    )
    return typed.selectExpr(*top_level(text))


FORMS = {
    "csv": lambda folder: sinks.files(folder / "o", format="csv"),
    "csv with a header": lambda folder: sinks.batch_files(
        folder / "o", format="csv", header=True
    ),
    "json": lambda folder: sinks.batch_files(folder / "o", format="json"),
    "json by n": lambda folder: sinks.files(
        folder / "o", format="json", partition_by=["n"]
    ),
    "parquet by n": lambda folder: sinks.files(folder / "o", partition_by=["n"]),
    "orc": lambda folder: sinks.files(folder / "o", format="orc"),
    "a snapshot of csv": lambda folder: sinks.snapshot(folder / "o.csv"),
    "a snapshot of json": lambda folder: sinks.snapshot(folder / "o.json"),
    "a view": lambda _: sinks.latest("totals"),
    "sqlite": lambda folder: sinks.sql_table(f"sqlite:///{folder}/o.db", "t"),
}


def beside(sink, old, new, folder):
    """Put rows that a sink has written beside others, without a query."""
    there = sink.form.written(old, f"{folder}/there")
    names = [name for name in new.columns if name in there.columns]
    return side_by_side(there, new, new.schema, names, sink.form, str(folder))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_equal_in_the_form_of_each_target_and_have_their_types(
    form, spark, tmp_path
):
    zone = "spark.sql.session.timeZone"
    before = spark.conf.get(zone)
    for name in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"):
        spark.conf.set(zone, name)
        try:
            rows, folder = rows_of(spark), tmp_path / name.replace("/", "-")
            folder.mkdir()
            sides = beside(FORMS[form](folder), rows, rows, folder)
            assert (sides.types, sides.incomparable) == ((), ()), name
            assert sides.old.exceptAll(sides.new).isEmpty(), name
            assert sides.new.exceptAll(sides.old).isEmpty(), name
            texts = {
                each.name
                for each in sides.new.schema
                if each.dataType.typeName() == "string"
            }
            assert texts - {"s"} <= ({"n"} if " by " in form else set()), name
        finally:
            spark.conf.set(zone, before)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_change_of_the_type_is_told_in_each_form(form, spark, tmp_path):
    old = rows_of(spark, "n, x, d, t")
    changed = rows_of(
        spark,
        "string(n) AS n, int(x) AS x, cast(d AS decimal(12,0)) AS d, date(t) AS t",
    )
    sides = beside(FORMS[form](tmp_path), old, changed, tmp_path)
    said = " ".join(sides.types)
    wanted = (
        {"x", "d", "t"} if "csv" in form or " by " in form else {"n", "x", "d", "t"}
    )
    # A number and its text are the same in CSV, and in the name of a folder.
    assert {name for name in "nxdt" if f"column {name} is" in said} == wanted, said


@pytest.mark.slow
def test_a_database_gives_texts_of_json(spark, tmp_path):
    sink = sinks.sql_table(f"sqlite:///{tmp_path}/o.db", "t")
    rows = spark.range(1).selectExpr(
        "1.50BD AS d", "'1' AS s", "1 AS n", "1.0D AS x", "true AS b", "unhex('00ff') AS raw",
        "timestamp'2026-03-01 10:11:12.5Z' AS t", "timestamp_ntz'2026-03-01 10:11:12.5' AS u",
    )  # fmt: skip
    assert sink.form is not None
    [row] = sink.form.written(rows, "").collect()
    assert row.asDict() == {
        "d": '"1.50"',  # SQLite has decimals as texts
        "s": '"1"',
        "n": "1",
        "x": "1",
        "b": "true",
        "raw": '"AP8="',
        "t": '"2026-03-01T10:11:12.500000Z"',
        "u": '"2026-03-01T10:11:12.500000"',
    }
    assert not (tmp_path / "o.db").exists()


BY_BATCH = {
    "rows": (
        False,
        lambda rows: rows.where("n > 1").selectExpr("explode(array(n, n)) AS n"),
    ),
    "a union": (False, lambda rows: rows.union(rows)),
    "a table": (
        False,
        lambda rows: rows.join(rows.sparkSession.range(3), F.col("n") == F.col("id")),
    ),
    "the time": (True, lambda rows: rows.withColumn("now", F.current_timestamp())),
    "duplicates": (True, lambda rows: rows.dropDuplicates(["s"])),
    "distinct rows": (True, lambda rows: rows.distinct()),
    "the first": (True, lambda rows: rows.groupBy("s").agg(F.first("n"))),
    "a sum": (True, lambda rows: rows.groupBy("s").agg(F.sum("x"))),
    "two streams": (
        True,
        lambda rows: rows.join(rows.selectExpr("n AS m"), F.expr("n = m")),
    ),
    "a watermark": (True, lambda rows: rows.withWatermark("t", "1 minute")),
    "parts of the rows": (
        True,
        lambda rows: rows.mapInPandas(lambda parts: parts, rows.schema),
    ),
}


@pytest.mark.fast("a union", "a table", "a watermark")
@pytest.mark.parametrize("what", BY_BATCH)
def test_what_depends_on_the_batches_is_known(what, spark, tmp_path):
    depends, transform = BY_BATCH[what]
    (tmp_path / "in").mkdir()
    frame = transform(sources.json(spark, str(tmp_path / "in"), schema=SCHEMA))
    assert (
        bool(_depends_on_batches(StartingQuery(frame, "q", "append", False, {})))
        == depends
    )


def test_a_sink_that_changes_each_batch_is_known(tmp_path):
    plain = sinks.latest("totals")
    changed = sinks.batch_files(tmp_path / "out").taking(lambda batch: batch.limit(1))
    several = sinks.fan_out(plain, changed)
    assert [
        _changes_batches(sink)
        for sink in (plain, changed, sinks.fan_out(plain), several)
    ] == [
        False,
        True,
        False,
        True,
    ]


# A job and twenty changes of it, which leave most rows alone.
JOB = "n, s, x, d, t, 'v' AS c"
CHANGES = {
    "rounded": "n, s, x, round(d, 1) AS d, t, 'v' AS c",
    "fewer digits": "n, s, x, cast(d AS decimal(12,1)) AS d, t, 'v' AS c",
    "more digits": "n, s, x, cast(d AS decimal(12,4)) AS d, t, 'v' AS c",
    "a whole number": "n, s, int(x) AS x, d, t, 'v' AS c",
    "half as exact": "n, s, float(x) AS x, d, t, 'v' AS c",
    "a text of a number": "string(n) AS n, s, x, d, t, 'v' AS c",
    "a larger number": "bigint(n) AS n, s, x, d, t, 'v' AS c",
    "a day": "n, s, x, d, date(t) AS t, 'v' AS c",
    "another zone": "n, s, x, d, to_utc_timestamp(t, 'Europe/Berlin') AS t, 'v' AS c",
    "a little later": "n, s, x, d, t + INTERVAL '0.000001' SECOND AS t, 'v' AS c",
    "without blanks": "n, trim(s) AS s, x, d, t, 'v' AS c",
    "no empty text": "n, nullif(s, '') AS s, x, d, t, 'v' AS c",
    "a default": "n, coalesce(s, '') AS s, x, d, t, 'v' AS c",
    "in capitals": "n, upper(s) AS s, x, d, t, 'v' AS c",
    "one row": "n, s, if(n = 3, x + 1, x) AS x, d, t, 'v' AS c",
    "one text": "n, if(n = 3, 'b', s) AS s, x, d, t, 'v' AS c",
    "no value": "n, s, if(n = 3, NULL, x) AS x, d, t, 'v' AS c",
    "the other sign": "n, s, x, if(n = 5, -d, d) AS d, t, 'v' AS c",
    "another constant": "n, s, x, d, t, 'w' AS c",
    "twice": "n, s, x, d, t, explode(if(n = 4, array('v', 'v'), array('v'))) AS c",
}


def of_sqlite(folder):
    with sqlite3.connect(folder / "o.db") as connection:
        return Counter(connection.execute("SELECT n, s, x, d, t, c FROM t"))


def of_parquet(folder):
    read = (
        pads.dataset([str(file) for file in folder.glob("o/batch=*/*.parquet")])
        .to_table()
        .to_pylist()
    )
    return Counter(tuple(row.values()) for row in read)


def of_json(folder):
    lines = [
        line
        for file in folder.glob("o/batch=*/*.json")
        for line in file.read_text().splitlines()
    ]
    return Counter(tuple(json.loads(line).values()) for line in lines)


def of_csv(folder):
    lines = [
        line
        for file in folder.glob("o/batch=*/*.csv")
        for line in file.read_text().splitlines()
    ]
    assert all(len(row) == 6 for row in csv.reader(lines))
    return Counter(lines)  # not as values, by which "" and nothing are the same


def batches_of(kind):
    return lambda folder: sinks.batch_files(folder / "o", format=kind)


def in_sqlite(folder):
    return sinks.sql_table(f"sqlite:///{folder}/o.db", "t")


READ = {
    "sqlite": (in_sqlite, of_sqlite),
    "parquet": (batches_of("parquet"), of_parquet),
    "json": (batches_of("json"), of_json),
    "csv": (batches_of("csv"), of_csv),
}


def job(spark, folder, text):
    rows = sources.json(spark, str(folder), schema=SCHEMA)
    return rows.selectExpr(*top_level(text))


@pytest.mark.slow
@pytest.mark.parametrize("kind", READ)
def test_twenty_changes_are_told_with_the_counts_of_two_true_runs(
    kind, spark, tmp_path
):
    sink_of, read = READ[kind]
    made = tmp_path / "in"
    made.mkdir()
    for number in range(3):
        texts = ["a", "", None, " b", "A"]
        rows = [
            {
                "n": n,
                "s": texts[n % 5],
                "x": n / 4 + 0.005,
                "d": f"{n}.{n % 10}25",
                "t": f"2026-03-0{n % 9 + 1}T10:11:12Z",
            }
            for n in range(number * 4, number * 4 + 4)
        ]
        (made / f"{number}.json").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )

    def compared(text, where):
        how: dict[str, Any] = {"name": "q", "checkpoint": tmp_path / "ckpt"}
        frame = job(spark, made, text)
        return shadow(frame, sink_of(where), **how)

    a = tmp_path / "a"
    a.mkdir()
    how: dict[str, Any] = {"name": "q", "availableNow": True}
    run(start(job(spark, made, JOB), sink_of(a), checkpoint=tmp_path / "ckpt", **how))
    held = read(a)
    assert compared(JOB, a).exit_code == 0
    wrong = {}
    for number, (change, text) in enumerate(CHANGES.items()):
        b = tmp_path / f"b{number}"
        b.mkdir()
        run(start(job(spark, made, text), sink_of(b), checkpoint=b / "ckpt", **how))
        would = read(b)
        true = (held & would).total(), 0, (would - held).total(), (held - would).total()
        found = compared(text, a)
        [table] = found.tables
        is_told = bool(found.exit_code) == (held != would or bool(table.columns))
        if table.counts != true or not is_told:
            wrong[change] = (true, table.counts, table.columns)
    assert wrong == {}


IN_DATABASE = (
    "n, s, x, d, t, b, cast(t AS timestamp_ntz) AS u, date(t) AS day, float(x) AS f,"
    " bigint(n) AS l"
)
IN_DATABASE += ", cast(s AS binary) AS raw"


@pytest.mark.slow
@pytest.mark.parametrize("server", [postgresql.server, mariadb.server])
def test_each_database_is_compared_in_another_zone_than_utc(server, spark, tmp_path):
    url = server().database()
    sink = sinks.sql_table(url, "totals")
    made = tmp_path / "in"
    made.mkdir()
    rows = [dict(zip("nsxdtb", row, strict=True)) for row in ROWS]
    (made / "0.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = {"name": "q", "checkpoint": tmp_path / "ckpt"}
    zone = "spark.sql.session.timeZone"
    before = spark.conf.get(zone)
    spark.conf.set(zone, "Europe/Berlin")
    try:
        run(start(job(spark, made, IN_DATABASE), sink, availableNow=True, **how))
        found = shadow(job(spark, made, IN_DATABASE), sink, **how)
        [same] = found.tables
        assert (same.counts, same.columns, same.notes) == (
            (len(ROWS), 0, 0, 0),
            (),
            (),
        ), str(found)
        change = IN_DATABASE.replace(
            "d, t,", "d, to_utc_timestamp(t, 'Europe/Berlin') AS t,"
        )
        [later] = shadow(job(spark, made, change), sink, **how).tables
        assert later.counts == (0, 0, len(ROWS), len(ROWS)), later.says()
        change = IN_DATABASE.replace("s, x, d,", "s, x, cast(d AS decimal(12,2)) AS d,")
        [wider] = shadow(job(spark, made, change), sink, **how).tables
        assert wider.counts == (len(ROWS), 0, 0, 0), wider.says()
        assert ([what.split(" is ")[0] for what in wider.notes], wider.columns) == (
            ["column d"],
            (),
        )
        change = IN_DATABASE.replace("n, s,", "string(n) AS n, s,", 1)
        [text] = shadow(job(spark, made, change), sink, **how).tables
        assert text.counts == (0, 0, len(ROWS), len(ROWS)), text.says()
        assert [what.split(" is ")[0] for what in text.columns] == ["column n"]
    finally:
        spark.conf.set(zone, before)
