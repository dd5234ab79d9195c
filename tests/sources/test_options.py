"""Options that change how a value is read, as in docs/files.md.

Other tests have files that Spark cannot unpack.
"""

import ast
import gzip
import os
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from conftest import ROOT, failure, refusal

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.schemas import from_ddl
from sparkstream_kit.sources.strict import values_of

NAMES = {
    "Decimal": Decimal,
    "date": date,
    "datetime": datetime,
    "inf": float("inf"),
    "nan": float("nan"),
}
SOURCES: dict[str, Any] = {
    "csv": sources.csv,
    "json": sources.json,
    "text": sources.text,
}
FORMATS = ("csv", "json", "orc", "parquet", "text")


@dataclass
class Row:
    kind: str
    content: bytes
    schema: str
    options: dict[str, Any]
    gives: str


def rows():
    """Return the rows of the tables with three columns."""
    found = []
    for line in (ROOT / "docs" / "files.md").read_text("utf-8").splitlines():
        cells = line.strip("| ").split(" | ")
        if (
            not line.startswith("| `")
            or len(cells) != 3
            or not cells[1].startswith('`"')
        ):
            continue
        text, given, gives = cells
        text = text.strip("`")
        content = ast.literal_eval(f'''"""{text}\n"""''')
        encoding = "latin-1" if r"\x" in text else "utf-8"
        schema, _, options = given.strip("`").partition('"')[2].partition('"')
        kind = "json" if text.startswith("{") else "csv"
        read = eval(f"dict({options.lstrip(', ')})")  # noqa: S307 - as a reader of the page would type it
        found.append(Row(kind, content.encode(encoding), schema, read, gives))
    return found


ROWS = rows()


def read(spark, folder, row):
    return SOURCES[row.kind](spark, folder, schema=row.schema, **row.options)


def ran(frame):
    run(start(frame, sinks.memory("options"), name="options", availableNow=True))
    return [tuple(row) for row in frame.sparkSession.table("options").collect()]


def words_of(cell):
    return cell[cell.index("`") + 1 : cell.rindex("`")].replace(r"\\", "\\")


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.gives.startswith("refused:")], ids=str
)
def test_an_option_or_a_type_is_refused_at_once(spark, folder, row):
    (folder / "a.txt").write_bytes(row.content)
    assert words_of(row.gives) in refusal(read, spark, folder, row)


@pytest.mark.connect
@pytest.mark.fast("0", "1", "6", "15", "16", "25")
@pytest.mark.parametrize("number", range(len(ROWS)))
def test_a_source_gives_what_the_page_says_of_an_option(spark, folder, number):
    row = ROWS[number]
    if not row.gives.startswith("refused:"):
        check_given(spark, folder, row)


def check_given(spark, folder, row):
    (folder / "a.txt").write_bytes(row.content)
    if row.gives.startswith("fails:"):
        said = failure(ran, read(spark, folder, row))
        assert words_of(row.gives) in said
        assert str(folder / "a.txt") in said
        return
    wanted = list(eval(f"({words_of(row.gives)},)", NAMES))  # noqa: S307 - as above
    assert repr(ran(read(spark, folder, row))) == repr(wanted)


SPELT = [
    number
    for number, row in enumerate(ROWS)
    if {*row.options} - {"header", "nulls"} and not row.gives.startswith("refused:")
]
OTHERWISE = {"sep": "Delimiter", "encoding": "CharSet"}


@pytest.mark.fast(*map(str, SPELT[:2]))
@pytest.mark.parametrize("number", SPELT)
def test_an_option_in_other_letters_or_by_its_other_name_does_the_same(
    spark, folder, number
):
    row = ROWS[number]
    ours = "nulls"  # no option of Spark's
    others = {
        name: OTHERWISE.get(name, name.upper()) for name in row.options if name != ours
    }
    options = {others.get(name, name): value for name, value in row.options.items()}
    row = Row(row.kind, row.content, row.schema, options, row.gives)
    check_given(spark, folder, row)


@pytest.mark.slow
def test_settings_of_the_session_change_no_value(spark, folder):
    """They name the column for lines that do not fit, and make Spark write numbers of JSON anew."""
    (folder / "a.txt").write_text("1,2.505\n")
    with in_force(spark, {"spark.sql.columnNameOfCorruptRecord": "_bad"}):
        frame = sources.csv(
            spark, folder, schema="_corrupt_record STRING, b DECIMAL(5,2)"
        )
        assert "2.505 is no decimal(5,2)" in failure(ran, frame)
        assert ran(sources.csv(spark, folder, schema="a INT, b INT, _bad STRING")) == [
            (1, None, "1,2.505")
        ]
    (folder / "a.txt").write_text('{"a": 0.12345678901234567890}\n')
    with in_force(spark, {"spark.sql.json.enableExactStringParsing": "false"}):
        frame = sources.json(spark, folder, schema="a DECIMAL(38,20)")
        assert ran(frame) == [(Decimal("0.12345678901234567890"),)]


@pytest.mark.parametrize("read", [sources.csv, sources.json])
def test_a_pattern_that_the_session_reads_as_spark_2_is_refused(spark, folder, read):
    with in_force(spark, {"spark.sql.legacy.timeParserPolicy": "LEGACY"}):
        said = refusal(read, spark, folder, schema="b DATE", dateFormat="dd.MM.yyyy")
        assert said.startswith("dateFormat='dd.MM.yyyy': the session's spark.sql.")
        read(spark, folder, schema="b DATE")
        read(spark, folder, schema="b STRING", dateFormat="dd.MM.yyyy")
        read(spark, folder, schema="b DATE", dateFormat="dd.MM.yyyy", mode="PERMISSIVE")


SETTINGS = ("spark.sql.files.ignoreCorruptFiles", "spark.sql.files.ignoreMissingFiles")


@pytest.mark.parametrize("mode", ["FAILFAST", "PERMISSIVE"])
def test_a_setting_of_the_session_leaves_no_file_out(spark, folder, mode):
    (folder / "a.csv").write_text("b,a\n1,x\n")
    with in_force(spark, dict.fromkeys(SETTINGS, "true")):
        frame = sources.csv(
            spark, folder, schema="a STRING, b STRING", header=True, mode=mode
        )
        assert "CSV header does not conform" in failure(ran, frame)


@pytest.mark.slow
def test_no_format_leaves_out_a_file_by_a_setting(spark, folder):
    (folder / "a.gz").write_bytes(gzip.compress(b"x\n" * 100_000)[:50])
    with in_force(spark, dict.fromkeys(SETTINGS, "true")):
        assert str(folder / "a.gz") in failure(ran, sources.text(spark, folder))
        (folder / "a.gz").rename(folder / "b.parquet")
        frame = sources.parquet(spark, folder, schema="a STRING")
        assert "b.parquet" in failure(ran, frame)
        # The argument of a source still does
        frame = sources.parquet(
            spark, folder, schema="a STRING", ignoreCorruptFiles=True
        )
        assert ran(frame) == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_option_is_given_only_where_a_setting_is_on(spark, setting):
    def given(options):
        columns = from_ddl("a STRING")
        values = [values_of(spark, kind, columns, options) for kind in FORMATS]
        return [{*each.strict_options(), *each.options} for each in values]

    name = setting.rpartition(".")[2].lower()
    assert not any(name in options for options in given({}))
    with in_force(spark, {setting: "true"}):
        assert all(name in options for options in given({}))


def test_a_header_that_nobody_checks_may_be_with_files_that_are_left_out(spark, folder):
    (folder / "a.csv").write_text("b,a\n1,x\n")
    given: dict[str, Any] = {
        "schema": "a STRING, b STRING",
        "header": True,
        "IGNORECORRUPTFILES": True,
    }
    said = refusal(sources.csv, spark, folder, **given)
    assert said.startswith("ignoreCorruptFiles=True with header=True: Spark would")
    assert ran(sources.csv(spark, folder, **given, enforceSchema=True)) == [("1", "x")]


def test_the_page_has_rows_of_each_kind_and_end():
    assert {row.kind for row in ROWS} == {"csv", "json"}
    assert {row.gives.partition(":")[0] for row in ROWS} >= {"refused", "fails"}
    assert len(ROWS) > 40


def test_plain_files_have_a_plain_plan_and_no_word(spark, folder, caplog):
    frame = sources.csv(spark, folder, schema="a INT, b BIGINT, c BOOLEAN", header=True)
    assert "Project" not in frame._jdf.queryExecution().analyzed().toString()  # noqa: SLF001
    frame = sources.json(
        spark, folder, schema="a INT, b STRING, c DOUBLE, d ARRAY<STRING>"
    )
    assert "Project" not in frame._jdf.queryExecution().analyzed().toString()  # noqa: SLF001
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("DATE", "write it as 2026-01-31, give dateFormat='dd.MM.yyyy'"),
        (
            "TIMESTAMP",
            "write it as 2026-01-31 10:30:00, give timestampFormat='dd.MM.yyyy HH:mm'",
        ),
    ],
)
def test_a_date_that_is_written_otherwise_says_how_to_write_it(
    spark, folder, kind, way
):
    (folder / "a.csv").write_text("31.01.2026,1\n")
    frame = sources.csv(spark, folder, schema=f"a {kind}, b INT")
    assert f"column a: 31.01.2026 is no {kind.lower()}; {way}, " in failure(ran, frame)


# --- files that Hadoop unpacks wrongly

LZ4 = bytes.fromhex("04224d186440a7") + b"\x08\x00\x00\x80a,b\n1,2\n" + b"\0" * 20
SNAPPY = bytes.fromhex("ff060000") + b"sNaPpY" + b"\x01\x0c\x00\x00" + b"\0" * 20
PACKED = {"a.lz4": LZ4, "A.csv.LZ4": LZ4, "b.snappy": SNAPPY}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize(
    "options", [{}, {"recursiveFileLookup": True}, {"max_files_per_trigger": 1}]
)
def test_a_file_at_which_java_would_end_is_refused_by_its_name(
    spark, folder, name, options
):
    (folder / name).write_bytes(PACKED[name])
    for form, call in SOURCES.items():
        more = {} if form == "text" else {"schema": "a STRING, b STRING"}
        said = refusal(call, spark, folder, **more, **options)
        assert (
            f"has the file {folder / name}: Spark cannot read what tools write as ."
            in said
        )
        assert "pack it as .gz" in said
    assert sources.text(spark, folder, pathGlobFilter="*.txt", **options).isStreaming


NEAR = [
    "a",
    "4",
    "z4",
    "lz4",
    "xlz4",
    "a.lz",
    "a.lz4.gz2",
    "y",
    "snappy",
    "a.lz40",
    "a.xz4",
    "part-4",
    "b.txt",
]


@pytest.mark.parametrize(
    ("options", "left_out"),
    [
        ({}, []),
        ({"recursiveFileLookup": True}, []),
        ({"max_files_per_trigger": 1}, []),
        ({"pathGlobFilter": "*.*"}, [name for name in NEAR if "." not in name]),
        ({"pathGlobFilter": "a*"}, [name for name in NEAR if not name.startswith("a")]),
    ],
    ids=str,
)
def test_one_that_comes_while_the_query_runs_is_left_alone(
    spark, folder, options, left_out
):
    """And no other file is: each name that is nearly such a name is read."""
    for name in NEAR:
        (folder / name).write_text(f"{name}\n")
    frame = sources.text(spark, folder, **options)
    for name, data in PACKED.items():
        (folder / name).write_bytes(data)
    assert sorted(row[0] for row in ran(frame)) == sorted({*NEAR} - {*left_out})


@pytest.mark.parametrize("options", [{}, {"recursiveFileLookup": True}], ids=str)
def test_files_in_a_format_that_says_its_packing_itself_may_have_such_a_name(
    spark, tmp_path, options
):
    spark.range(1).coalesce(1).write.parquet(str(tmp_path / "made"))
    (made,) = (tmp_path / "made").glob("part-*")
    (tmp_path / "in").mkdir()
    made.rename(tmp_path / "in" / "a.lz4")
    rows = sources.parquet(spark, tmp_path / "in", schema="id BIGINT", **options)
    assert ran(rows) == [(0,)]


def test_a_colon_in_the_path_to_a_folder_is_no_hindrance(spark, tmp_path):
    folder = tmp_path / "run-10:00" / "in"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.json").write_text(f'{{"a":{number}}}\n')
        os.utime(folder / f"{number}.json", (1, 1))
    assert sorted(
        ran(sources.json(spark, folder, schema="a INT", max_files_per_trigger=1))
    ) == [
        (0,),
        (1,),
        (2,),
    ]


@pytest.mark.parametrize(
    ("option", "value", "fix"),
    [
        ("maxFileAge", "2 hours", "such as '12h' or '30d'"),
        ("maxFileAge", "-1h", "such as '12h' or '30d'"),
        ("maxFilesPerTrigger", 0, "a whole number of 1 or more"),
        ("maxBytesPerTrigger", "many", "a whole number of 1 or more"),
        ("latestFirst", "yes", "True or False"),
        ("cleanSource", "move", "'archive', 'delete' or 'off'"),
        ("maxCachedFiles", -1, "a whole number"),
    ],
)
def test_an_option_at_which_the_running_query_would_fail_is_refused(
    spark, folder, option, value, fix
):
    said = refusal(sources.text, spark, folder, **{option: value})
    assert said.startswith(f"{option} is {value!r}; give ")
    assert said.endswith(fix)
