"""`sinks.latest`: what it saves, and what the view shows, without a query."""

import pytest
from conftest import refusal
from support import rows
from support.spark_jobs import counting_jobs

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.place import LocalPlace, Place, locate
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.sinks.base import Opening, open_batch_sink, open_sink
from sparkstream_kit.sinks.views import _kept_type, _lines

pytestmark = pytest.mark.classic_only("the view is the session's")


def test_a_view_says_what_it_promises():
    sink = sinks.latest("Totals")
    assert (sink.kind, sink.modes, sink.needs_checkpoint) == (
        "latest",
        ("complete",),
        False,
    )
    assert sink.promise == "the last batch's result, whole"
    assert [str(target) for target in sink.writes_to] == ["view totals"]


# --- the saved lines


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves bytes and returns the lines that are read of them."""

    def lines(text, columns=None):
        (tmp_path / "v.rows").write_bytes(text)
        return _lines(LocalPlace(str(tmp_path), tmp_path), "v.rows", columns)

    return lines


ONE, TWO = '{"a":1,"b":2}', '{"a":"x\u2028y","b":null}'


def test_saved_lines_are_read_as_they_are(saved, tmp_path, caplog):
    whole = f"{ONE}\n{TWO}\n".encode()
    assert saved(whole) == saved(whole, ["a", "b"]) == [ONE, TWO]
    assert saved(f"{ONE}\n\n{TWO}\ncrc32 1234".encode(), ["a", "b"]) == [ONE, TWO]
    assert saved(b"", ["a"]) == []
    place = LocalPlace(str(tmp_path), tmp_path)
    assert _lines(place, "another.rows", ["a"]) == _lines(None, "v.rows", ["a"]) == []
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (f"{ONE}\n".encode(), ["a"]),
        (f"{ONE}\n".encode(), ["b", "a"]),
        (f'{ONE}\n{{"a":1}}\n'.encode(), ["a", "b"]),
        (ONE[:-2].encode(), None),
        (b"1", None),
        (b'{"a":"\xff"}', None),
    ],
    ids=["one more", "another order", "one of two", "cut off", "a number", "no text"],
)
def test_lines_that_are_not_what_was_kept_are_none_with_a_warning(
    saved, tmp_path, caplog, text, columns
):
    assert saved(text, columns) == []
    [said] = caplog.messages
    assert said.startswith("the table is empty until the next batch: ")
    assert said.endswith(f"{tmp_path}/v.rows is not what was kept")


def test_a_folder_in_place_of_the_saved_lines_is_refused(tmp_path):
    (tmp_path / "v.rows").mkdir()
    place = LocalPlace(str(tmp_path), tmp_path)
    said = refusal(_lines, place, "v.rows")
    assert said.startswith(
        f"latest: {tmp_path}/v.rows is a folder; delete it: the rows"
    )


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("int", "int"),
        ("variant", "string"),
        ("array<variant>", "array<string>"),
        ("struct<a:variant,b:date>", "struct<a:string,b:date>"),
        ("map<string,variant>", "map<string,string>"),
        ("map<string,map<string,int>>", "map<string,map<string,int>>"),
        ("map<int,variant>", "array<struct<key:int,value:string>>"),
        (
            "map<struct<a:date>,map<date,int>>",
            "array<struct<key:struct<a:date>,value:array<struct<key:date,value:int>>>>",
        ),
    ],
)
def test_json_keeps_a_variant_as_text_and_a_map_as_entries(spark, kind, kept):
    given = spark.sql(f"SELECT CAST(NULL AS {kind}) AS c").schema["c"].dataType
    assert _kept_type(given).simpleString() == kept


# --- the view


@pytest.fixture
def shown(spark):
    """Return a function that gives what the view shows; the view is dropped."""
    yield lambda: spark.table("shown").collect()
    spark.catalog.dropTempView("shown")


def test_the_view_has_the_rows_of_the_last_batch_and_after_a_start_the_saved_ones(
    spark, shown, tmp_path
):
    totals = spark.sql("VALUES ('a', 1), ('b', NULL) AS v(`k.d`, n)")
    checkpoint = locate(spark, tmp_path)
    sink = sinks.latest("shown")
    write = open_batch_sink(sink, totals, checkpoint)
    assert shown() == []
    write(totals, 0)
    assert shown() == totals.collect()
    saved = tmp_path / "sparkstream-kit" / "shown.rows"
    text = saved.read_text()
    assert text.startswith('{"k.d":"a","n":1}\n{"k.d":"b","n":null}')
    spark.catalog.dropTempView("shown")
    write = open_batch_sink(sink, totals, checkpoint)
    assert shown() == totals.collect()
    assert spark.table("shown").schema.simpleString() == "struct<k.d:string,n:int>"
    assert sink.read is not None
    read = sink.read(spark, totals.schema, checkpoint)
    assert read.collect() == [('"a"', "1"), ('"b"', None)]
    write(totals.limit(0), 1)
    assert shown() == []
    assert '"k.d"' not in saved.read_text()


def test_without_a_local_checkpoint_nothing_is_saved(spark, shown):
    totals = spark.sql("SELECT 1 AS n")
    for checkpoint in (None, Place("sc://elsewhere/ckpt")):
        write = open_batch_sink(sinks.latest("shown"), totals, checkpoint)
        assert shown() == []
        write(totals, 0)
        assert shown() == [(1,)]


def test_a_check_alone_shows_nothing(spark, tmp_path):
    totals = spark.sql("SELECT 1 AS n")
    dry = Opening(makes=False)
    write = open_sink(sinks.latest("not_shown"), totals, locate(spark, tmp_path), dry)
    assert write is not None
    write(totals, 0)
    assert not spark.catalog.tableExists("not_shown")
    assert [*tmp_path.iterdir()] == []
    twice = spark.sql("SELECT 1 AS n, 2 AS N")
    said = refusal(open_sink, sinks.latest("not_shown"), twice, None, dry)
    assert said == "latest: column n appears twice; rename or drop one"


def test_patterns_of_spark_2_are_refused_where_rows_are_saved(spark, tmp_path):
    totals = spark.sql("SELECT 1 AS n")
    dry = Opening(makes=False)
    with in_force(spark, {"spark.sql.legacy.timeParserPolicy": "LEGACY"}):
        assert open_sink(sinks.latest("not_shown"), totals, None, dry) is not None
        place = locate(spark, tmp_path)
        said = refusal(open_sink, sinks.latest("not_shown"), totals, place, dry)
    assert said.startswith("latest: ")
    assert "Policy=LEGACY takes patterns of dates and times in the way" in said


@pytest.mark.parametrize("saves", [True, False])
def test_a_batch_is_computed_once_and_the_view_costs_nothing(
    spark, shown, tmp_path, saves
):
    totals = spark.range(3, numPartitions=1).selectExpr("id", "CAST(id AS STRING) AS s")
    checkpoint = locate(spark, tmp_path) if saves else None
    write = open_batch_sink(sinks.latest("shown"), totals, checkpoint)
    with counting_jobs(spark) as jobs:
        write(totals, 0)
        assert len(jobs()) == 1
        assert shown() == [(0, "0"), (1, "1"), (2, "2")]
        assert len(jobs()) == 1


def test_saved_rows_have_each_value_as_it_was(spark, shown, tmp_path):
    kinds = [
        rows.STRING,
        rows.DATE,
        rows.VARIANT,
        *(rows.ODD_MAPS[0], rows.map_of(rows.STRING, rows.VARIANT)),
        rows.array_of(rows.map_of(rows.DATE, rows.VARIANT)),
        rows.struct_of(a=rows.INT, b=rows.VARIANT, c=rows.ODD_MAPS[1]),
    ]
    table = rows.wide(kinds)
    frame = table.frame(spark)
    open_batch_sink(sinks.latest("shown"), frame, locate(spark, tmp_path))(frame, 0)
    open_batch_sink(sinks.latest("shown"), frame, locate(spark, tmp_path))
    again = spark.table("shown")
    assert again.dtypes == frame.dtypes
    assert table.told(again) == table.told(frame)


def test_a_comparison_has_rows_as_they_are_saved(spark):
    frame = spark.sql("SELECT map(1, 'a') AS m, parse_json('[1]') AS v, 'x' AS `s.t`")
    form = sinks.latest("t").form
    assert form is not None
    assert form.texts == "json"
    kept = form.written(frame, "unused")
    assert kept.columns == ["m", "v", "s.t"]
    assert kept.collect() == [('[{"key":1,"value":"a"}]', '"[1]"', '"x"')]
