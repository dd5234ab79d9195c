"""What is read from a file is what was written, or there is a word: each row of docs/files.md."""

import ast
import os
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from conftest import ROOT, failure, refusal
from pyspark.sql import functions as F

from sparkstream_kit import quarantine, run, schemas, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError, QueryFailed

SOURCES: dict[str, Any] = {"csv": sources.csv, "json": sources.json}
PARSERS: dict[str, Any] = {"csv": quarantine.parse_csv, "json": quarantine.parse_json}
NAMES = {"Decimal": Decimal, "date": date, "datetime": datetime}


@dataclass
class Row:
    kind: str
    content: bytes
    schema: str
    options: dict[str, Any]
    source: str
    parser: str


def table(page):
    """Read the rows of the page's tables, with the code in their cells.

    Texts of bytes are told from other texts.
    """
    for line in page.splitlines():
        cells = re.split(r" \| ", line.strip("| "))
        if not line.startswith("| `") or len(cells) != 4 or "`" not in cells[1]:
            continue
        text, given, source, parser = cells
        kind = "json" if re.match(r"`(\\ufeff)?[\[{]", text) else "csv"
        text = text[1:].partition("`")[0]
        latin = r"\xfc" in text
        content = ast.literal_eval(f"'{text}'" if "'" not in text else f'"""{text}"""')
        schema, _, options = given.strip("`").partition('"')[2].partition('"')
        options = eval(f"dict({options.lstrip(', ')})")  # noqa: S307 - as a reader of the page would type it
        yield Row(
            kind,
            content.encode("latin-1" if latin else "utf-8"),
            schema,
            options,
            source,
            parser,
        )


ROWS = list(table((ROOT / "docs" / "files.md").read_text("utf-8")))
GOOD = defaultdict(lambda: "1", STRING="x", DATE="2026-01-01", TIMESTAMP="2026-01-01")


def expected(cell):
    """Return the rows, or the words of the failure or reason, that a cell of a table names."""
    code = cell[cell.index("`") + 1 : cell.rindex("`")]
    if cell.startswith(("fails:", "bad:")):
        return code
    return list(eval(f"({code},)", NAMES))  # noqa: S307 - as above


def good_file(row):
    """Return a file of the same kind that has one good row."""
    names, types = zip(
        *(each.split(" ", 1) for each in re.split(r", (?=\w+ [A-Z])", row.schema)),
        strict=True,
    )
    if row.kind == "json":
        return "{}\n"
    header = ",".join(names) + "\n" if row.options.get("header") else ""
    return header + ",".join(GOOD[each.split("(")[0]] for each in types) + "\n"


def landed(folder, row, third):
    folder.mkdir()
    files = [*([good_file(row).encode()] * 2 if third else []), row.content]
    for number, content in enumerate(files):
        (folder / f"{number}.txt").write_bytes(content)
        os.utime(folder / f"{number}.txt", (number + 1, number + 1))
    return folder / f"{len(files) - 1}.txt"


def ran(frame):
    run(start(frame, sinks.memory("written"), name="written", availableNow=True))
    return frame.sparkSession.table("written").collect()


def failed_with(frame, *words):
    """See that a query fails with some words, and return all that is said."""
    said = failure(ran, frame)
    assert all(each in said for each in words), said
    return said


@pytest.mark.connect
@pytest.mark.fast("first-0", "third-8", "third-11", "first-18", "first-40")
@pytest.mark.parametrize("number", range(len(ROWS)))
@pytest.mark.parametrize("place", ["first", "third"])
def test_a_source_gives_what_the_page_says(spark, tmp_path, number, place):
    row = ROWS[number]
    file = landed(tmp_path / "in", row, place == "third")
    frame = SOURCES[row.kind](
        spark,
        tmp_path / "in",
        schema=row.schema,
        max_files_per_trigger=1,
        **row.options,
    )
    if row.source.startswith("fails:"):
        said = failed_with(frame, expected(row.source), str(file))
        assert not re.search(
            r"java\.|py4j|#\d|\bat \w+\.\w+\(|Traceback|SQLSTATE|\n", said
        ), said
        ways = (
            "mode='PERMISSIVE'|enforceSchema=True|number of"
            " fields|escape=|encoding=|milliseconds|wider|multiLine=False"
        )
        assert re.search(ways, said)
    else:
        assert [tuple(each) for each in ran(frame)][
            2 if place == "third" else 0 :
        ] == expected(row.source)


@pytest.mark.connect
@pytest.mark.fast("first-0", "first-40")
@pytest.mark.parametrize("number", range(len(ROWS)))
@pytest.mark.parametrize("place", ["first", "third"])
def test_a_parser_gives_what_the_page_says(spark, tmp_path, number, place):
    row = ROWS[number]
    if row.parser == "no such option":
        *_, option = row.options
        with pytest.raises(TypeError, match=option):
            PARSERS[row.kind](None, row.schema, **row.options)
        return
    file = landed(tmp_path / "in", row, place == "third")
    lines = sources.text(spark, tmp_path / "in", max_files_per_trigger=1)
    frame = PARSERS[row.kind](lines, row.schema, **row.options)
    if row.parser.startswith("fails:"):
        failed_with(frame, expected(row.parser), str(file))
        return
    found = [each for each in ran(frame) if each["_file"] == str(file)]
    if row.parser.startswith("bad:"):
        assert expected(row.parser) in {each["_reason"] for each in found}
    else:
        assert [tuple(each)[: len(found[0]) - 4] for each in found] == expected(
            row.source if row.parser == "the same" else row.parser
        )
        assert {each["_reason"] for each in found} == {None}


def test_the_page_has_rows_of_each_kind():
    assert {row.kind for row in ROWS} == {"csv", "json"}
    assert len(ROWS) > 45


# --- lenient ways, partitions, patterns


def test_a_lenient_mode_reads_null_and_a_column_for_broken_lines_keeps_them(
    spark, folder
):
    (folder / "a").write_text('1,x\ny,"a"b\n3\n')
    lenient = sources.csv(spark, folder, schema="a INT, b STRING", mode="PERMISSIVE")
    assert [each[0] for each in ran(lenient)] == [1, None, 3]
    kept = sources.csv(spark, folder, schema="a INT, b STRING, _corrupt_record STRING")
    assert [tuple(each) for each in ran(kept)][::2] == [(1, "x", None), (3, None, "3")]
    assert ran(kept)[1]["_corrupt_record"] == 'y,"a"b'


PARTITIONED = {
    "csv": "1\n",
    "json": '{"v": 1}\n',
    "text": "1\n",
    "parquet": None,
    "orc": None,
}


def land(spark, folder, form):
    if PARTITIONED[form] is None:
        spark.sql("SELECT 1 AS v").coalesce(1).write.format(form).mode("append").save(
            str(folder)
        )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.txt").write_text(PARTITIONED[form])


@pytest.mark.fast("csv")
@pytest.mark.parametrize("form", PARTITIONED)
def test_the_text_in_the_name_of_a_folder_is_the_value(spark, tmp_path, form):
    def read(**more):
        schema = {} if form == "text" else {"schema": "v INT"}
        frame = getattr(sources, form)(spark, tmp_path / "in", **schema, **more)
        return [tuple(each)[1:] for each in sorted(ran(frame))], list(frame.dtypes[1:])

    land(spark, tmp_path / "in" / "store=007" / "day=01", form)
    texts = [("store", "string"), ("day", "string")]
    assert read() == ([("007", "01")], texts)
    assert read(partitions="day INT, store INT") == (
        [(7, 1)],
        [("store", "int"), ("day", "int")],
    )
    land(spark, tmp_path / "in" / "store=A12" / "day=2026-01-01", form)
    assert read() == ([("007", "01"), ("A12", "2026-01-01")], texts)
    with pytest.raises(
        InvalidInputError, match="'A12' .* column `store`.*; declare it as STRING$"
    ):
        read(partitions="store INT, day STRING")
    with pytest.raises(
        InvalidInputError, match="unknown partition sotre; did you mean store"
    ):
        read(partitions="sotre STRING, day STRING")
    for folder, said in (
        ("hour=1", "differ in names or depth"),
        ("store=", "has no value"),
    ):
        land(spark, tmp_path / "in" / folder, form)
        with pytest.raises(
            InvalidInputError,
            match=f"partition.* {said}; lay all files out alike, as in day=",
        ):
            read()
        shutil.rmtree(tmp_path / "in" / folder)


@pytest.mark.slow
def test_a_partition_that_comes_later_is_read_if_it_is_declared(
    spark, folder, tmp_path
):
    how: Any = {"name": "written", "checkpoint": tmp_path / "ck", "availableNow": True}

    def read():
        frame = sources.csv(spark, folder, schema="v INT", partitions="day STRING")
        run(start(frame, sinks.batch_files(tmp_path / "out"), **how))

    read()
    for day in ("01", "x2"):
        land(spark, folder / f"day={day}", "csv")
        read()
    found = spark.read.parquet(str(tmp_path / "out" / "*" / "*.parquet"))
    assert sorted(row.day for row in found.collect()) == ["01", "x2"]


def test_what_pandas_escapes_in_the_name_of_a_folder_is_read_as_the_page_says(
    spark, tmp_path
):
    written = pd.DataFrame({"v": [1, 2, 3], "city": ["München", "東京", "a b/c"]})
    written.to_parquet(tmp_path / "in", partition_cols=["city"])
    frame = sources.parquet(spark, tmp_path / "in", schema="v BIGINT")
    [given] = re.findall(
        r"`(frame\.withColumn.*)` it is München",
        (ROOT / "docs" / "files.md").read_text(),
    )
    assert sorted(map(tuple, ran(eval(given, {"F": F, "frame": frame})))) == [  # noqa: S307
        *map(tuple, written.to_numpy())
    ]


@pytest.mark.fast("o[*]")
@pytest.mark.parametrize("pattern", ["out/*", "out/*.parquet", "o*"])
def test_a_pattern_for_the_output_of_a_query_is_refused(
    spark, folder, out, tmp_path, pattern
):
    (folder / "a").write_text("1\n")
    how: Any = {"name": "written", "checkpoint": tmp_path / "ck", "availableNow": True}
    run(start(sources.text(spark, folder), sinks.files(out), **how))
    said = refusal(sources.parquet, spark, tmp_path / pattern, schema="value STRING")
    assert said.startswith(
        f"input {tmp_path / pattern} matches files that a query has written to {out}, "
    )
    assert said.endswith(f"; give the folder {out}")
    assert [
        tuple(row) for row in ran(sources.parquet(spark, out, schema="value STRING"))
    ] == [("1",)]


def test_a_text_with_a_collation_keeps_it(spark, tmp_path):
    (tmp_path / "1.csv").write_text("tea,1\nTEA,2\n")
    frame = sources.csv(spark, tmp_path, schema="a STRING COLLATE UTF8_LCASE, n INT")
    assert [row.n for row in ran(frame.where("a = 'Tea'"))] == [1, 2]


def test_csv_takes_one_text_for_a_missing_value(spark, tmp_path):
    assert sources.csv(spark, tmp_path, schema="a INT", nulls=()).columns == ["a"]
    said = refusal(sources.csv, spark, tmp_path, schema="a INT", nulls=("NA", "-"))
    assert (
        said
        == "sources.csv() takes one text for a missing value, not NA, -; give one, or"
        " read the lines with sources.text and give all to quarantine.parse_csv"
    )


WITH_NULLS = {
    "csv": ["NA,x", "1,-", "-,NA", "?,y"],
    "json": [
        '{"a": "NA", "b": "x"}',
        '{"a": 1, "b": "-"}',
        '{"a": "-", "b": "NA"}',
        '{"a": "?", "b": "y"}',
    ],
}


@pytest.mark.parametrize("kind", WITH_NULLS)
def test_a_parser_takes_several_texts_for_a_missing_value(spark, kind):
    given = spark.createDataFrame([(line,) for line in WITH_NULLS[kind]], "line STRING")
    rows = PARSERS[kind](given, "a INT, b STRING", nulls=("NA", "-")).collect()
    assert [tuple(row)[:3] for row in rows] == [
        (None, "x", None), (1, None, None), (None, None, None), (None, None, "a: not an int")
    ]  # fmt: skip


def test_a_text_for_a_missing_value_counts_within_arrays_and_structs(spark):
    given = spark.createDataFrame([('{"a": [{"b": "NA"}, {"b": 2}]}',)], "line STRING")
    [row] = quarantine.parse_json(
        given, "a ARRAY<STRUCT<b: INT>>", nulls="NA"
    ).collect()
    assert [each["b"] for each in row["a"]] == [None, 2]


@pytest.mark.fast("int16-32767-TINYINT")
@pytest.mark.parametrize(
    ("wrote", "big", "kind"),
    [
        *(
            ("int32", 40_000, "SMALLINT"),
            ("int16", 32_767, "TINYINT"),
            ("uint8", 255, "TINYINT"),
        ),
        *(
            ("int32", 40_000, "ARRAY<SMALLINT>"),
            ("int32", 40_000, "STRUCT<m: ARRAY<STRUCT<n: SMALLINT>>>"),
        ),
    ],
)
def test_a_whole_number_of_parquet_that_is_too_big_fails(
    spark, tmp_path, wrote, big, kind
):
    def within(value):
        return {"A": [value], "S": {"m": [None, {"n": value}]}}.get(
            kind[0] * ("<" in kind), value
        )

    cells = pd.Series([within(getattr(np, wrote)(each)) for each in (7, 7, big)])
    cells.to_frame("n").to_parquet(tmp_path / "a.parquet")
    frame = sources.parquet(spark, tmp_path, schema=f"n {kind}")
    with pytest.raises(
        QueryFailed, match=rf"column n: {big} is no \w+int; declare a wider type; file"
    ):
        ran(frame)
    cells[:2].to_frame("n").to_parquet(tmp_path / "a.parquet")
    assert [row.asDict(recursive=True)["n"] for row in ran(frame)] == [within(7)] * 2
    assert frame.schema == schemas.from_ddl(f"n {kind}")


def test_lines_of_another_encoding_are_decoded_as_the_refusal_says(spark, tmp_path):
    (tmp_path / "1.csv").write_bytes("1,Müller\n".encode("latin-1"))
    said = refusal(sources.text, spark, tmp_path, encoding="ISO-8859-1")
    way = said.rpartition("decode the lines: ")[2]
    lines = eval(way, {"F": F, "lines": sources.text(spark, tmp_path)})  # noqa: S307 - as a user would type it
    [row] = ran(quarantine.parse_csv(lines, "a INT, b STRING"))
    assert (row.a, row.b, row._reason) == (1, "Müller", None)  # noqa: SLF001 - a column
