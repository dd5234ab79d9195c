"""How `shadow` compares the rows of a target with those of a changed query, part by part.

`test_checkpoints_shadow` compares what queries have written.
"""

import re
from dataclasses import replace
from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit.checkpoints.guard import StartingQuery
from sparkstream_kit.checkpoints.operate.alignment import Sides
from sparkstream_kit.checkpoints.operate.comparison import (
    Compared,
    KeptTarget,
    _by_rows,
    _can_match,
    _differing_values,
    _final_rows,
    _group_keys,
    _keys,
    _matched,
    _name_if_differing,
)

# --- the result

NOTHING: Any = None


def compared(*counts, columns=(), keys=(), notes=(), **frames):
    parts = {
        "equal": NOTHING,
        "differ": NOTHING,
        "only_new": NOTHING,
        "only_old": NOTHING,
    }
    return Compared(
        "t", keys, **(parts | frames), columns=columns, counts=counts, notes=notes
    )


@pytest.mark.parametrize(
    ("result", "same"),
    [
        (compared(0, 0, 0, 0), True),
        (compared(5, 0, 0, 0, notes=("column n is int",)), True),
        (compared(5, 1, 0, 0), False),
        (compared(5, 0, 1, 0), False),
        (compared(5, 0, 0, 1), False),
        (compared(5, 0, 0, 0, columns=("column n is int",)), False),
    ],
)
def test_sides_are_the_same_if_nothing_but_notes_is_told(result, same):
    assert result.same is same


def test_without_a_difference_the_text_has_no_table():
    told = compared(1000, 0, 0, 0, columns=("a", "b"), notes=("c",)).says()
    assert told == "1,000 equal, 0 differ, 0 only new, 0 only old\na\nb\nc"


def test_rows_of_one_side_are_shown_in_order_and_no_more_than_asked_for(spark):
    ids = spark.range(3).select(F.col("id").alias("the id"), (-F.col("id")).alias("b"))
    by_id = compared(0, 0, 1003, 0, only_new=ids).says(rows=2).splitlines()
    assert by_id[:2] == ["0 equal, 0 differ, 1,003 only new, 0 only old", "only new:"]
    assert by_id[-1] == "… and 1,001 more"
    shown = [line.split()[0] for line in by_id if re.match(r"\W*\d +-?\d", line)]
    assert shown == ["0", "1"]
    by_b = compared(0, 0, 0, 3, keys=("b",), only_old=ids).says(rows=3)
    assert by_b.splitlines()[1] == "only old:"
    assert "more" not in by_b
    assert by_b.index("-2") < by_b.index("-1")


def test_each_value_that_differs_is_a_row_with_both_values_as_texts(spark):
    rows = spark.sql(
        "SELECT 7 AS `the key`, named_struct('a', 1, 'b', 2, 'c', 'x') AS old,"
        " named_struct('a', 1, 'b', 3L, 'c', NULL) AS new, array('b', 'c') AS columns"
    )
    result = compared(0, 1, 0, 0, keys=("the key",), differ=rows)
    values = _differing_values(result)
    assert values.columns == ["the key", "column", "old", "new"]
    assert sorted(map(tuple, values.collect())) == [
        (7, "b", "2", "3"),
        (7, "c", "x", None),
    ]
    told = result.says()
    assert "\ndiffer:\n" in told
    assert "only" not in told.partition("\n")[2]


# --- keys

GROUPS = {
    "no state": ("facts 3", ["n"], []),
    "nothing": ("groups by: nothing\ncomputes: count(1)", ["count"], []),
    "a column": (
        "facts 3\ngroups by: shop#0\ncomputes: sum(n#1)",
        ["shop", "n"],
        ["shop"],
    ),
    "a column that is left out": ("groups by: shop#0", ["n"], ["shop"]),
    "columns": ("groups by: the shop#0, k#12", ["the shop", "k"], ["the shop", "k"]),
    "an expression with its name": ("groups by: (a#0 + b#1)", ["(a + b)"], ["(a + b)"]),
    "an expression": ("groups by: concat(a#0, bc#12)", ["x"], ["a", "bc"]),
    "a column twice": ("groups by: a#0, upper(a#0)", ["a"], ["a"]),
    "two steps": ("groups by: a#0\ngroups by: b#1", ["a", "b"], ["a", "b"]),
    "a window": ("groups by: k#0, window#1", ["window", "k"], ["k", "window"]),
    "a flat window": (
        "groups by: window#0, k#1",
        ["start", "end", "k"],
        ["start", "end", "k"],
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_the_columns_by_which_a_query_groups_are_in_its_fingerprint(case):
    fingerprint, columns, keys = GROUPS[case]
    assert _group_keys(fingerprint, columns) == keys


def query(frame, mode="append", fingerprint="facts 0"):
    """Return a query as it starts, with the fingerprint that it would have."""
    starting = StartingQuery(frame, "q", mode, False, {})
    vars(starting)["described"] = {"fingerprint": fingerprint}
    return starting


def kept(sink, *names):
    schema = T.StructType([T.StructField(name, T.StringType()) for name in names])
    return KeptTarget(sink, schema, NOTHING, "nowhere")


BY_SHOP = "groups by: shop#0"
UPSERT = sinks.sql_table("sqlite:///x.db", "t", how="upsert", keys=["n"])
BATCHES = sinks.batch_files("out")
NAMES = ["shop", "n"]
KEYS: dict[str, tuple[Any, str, str, list[str], list[str], list[str]]] = {
    "none": (BATCHES, "append", "facts 0", [], NAMES, []),
    "given": (BATCHES, "append", "facts 0", ["n", "shop"], NAMES, ["n", "shop"]),
    "of the sink": (UPSERT, "append", BY_SHOP, [], NAMES, ["n"]),
    "given, not of the sink": (UPSERT, "append", BY_SHOP, ["shop"], NAMES, ["shop"]),
    "of the groups": (BATCHES, "append", BY_SHOP, [], NAMES, ["shop"]),
    "of the groups, which the target lacks": (
        BATCHES,
        "complete",
        BY_SHOP,
        [],
        ["n"],
        [],
    ),
    "of an update": (BATCHES, "update", BY_SHOP, [], NAMES, ["shop"]),
    "of an update in one group": (
        BATCHES,
        "update",
        "groups by: nothing",
        [],
        NAMES,
        [],
    ),
    "given for an update": (BATCHES, "update", "facts 0", ["n"], NAMES, ["n"]),
    "of the sink for an update": (UPSERT, "update", "facts 0", [], NAMES, ["n"]),
}


@pytest.mark.parametrize("case", KEYS)
def test_rows_are_matched_by_the_keys_that_are_known(spark, case):
    sink, mode, fingerprint, given, names, keys = KEYS[case]
    starting = query(spark.createDataFrame([], "shop STRING, n INT"), mode, fingerprint)
    assert _keys(kept(sink), starting, given, names) == keys


REFUSED: dict[str, tuple[Any, str, str, list[str], list[str], str]] = {
    "no column": (
        BATCHES,
        "append",
        "",
        [],
        [],
        "has no column of this query; give a new",
    ),
    "an unknown key": (BATCHES, "append", "", ["m"], NAMES, "unknown key m"),
    "a key of the sink": (
        UPSERT,
        "append",
        "",
        [],
        ["shop"],
        "has no column n, a key of this",
    ),
    "the first of the keys": (
        *(BATCHES, "append", "", ["Column", "new"], ["new", "Column"]),
        ": key column has a name of the comparison; rename it in both, or give keys= without",
    ),
    "an update by no key": (
        BATCHES,
        "update",
        "",
        [],
        NAMES,
        "its rows have no keys that are",
    ),
    "an update by a key that is left out": (
        *(BATCHES, "update", "groups by: shop#0, m#1", [], NAMES),
        ": its rows have no keys that are known; give keys=",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_keys_that_do_not_match_rows_are_refused(spark, case):
    sink, mode, fingerprint, given, names, why = REFUSED[case]
    starting = query(spark.createDataFrame([], "shop STRING, n INT"), mode, fingerprint)
    assert why in refusal(_keys, kept(sink), starting, given, names)


def test_a_target_is_named_by_what_it_writes_to_else_by_the_kind_of_its_sink():
    assert (
        str(kept(sinks.fan_out(sinks.latest("a"), sinks.latest("b"))))
        == "view a, view b"
    )
    assert str(kept(sinks.console())) == "console"


# --- rows

FINAL: dict[str, tuple[str, list[str], list[int]]] = {
    "append": ("append", ["k"], [1, 2, 3, 4]),
    "complete": ("complete", ["k"], [3, 4]),
    "update": ("update", ["k"], [2, 3, 4]),
    "update in one group": ("update", [], [3]),
}


@pytest.mark.parametrize("mode", FINAL)
def test_the_rows_that_stand_in_the_end_are_those_of_the_mode(spark, mode):
    of_mode, keys, expected = FINAL[mode]
    rows = spark.sql(
        "SELECT * FROM VALUES ('a', 1, 0), ('b', 2, 1), ('a', 3, 10), ('c', 4, 10)"
        " AS t(k, n, sparkstream_batch)"
    )
    if not keys:
        rows = rows.where("n <> 4")
    final = _final_rows(rows, of_mode, keys)
    assert final.columns == ["k", "n"]
    assert sorted(row.n for row in final.collect()) == expected


def test_rows_of_a_target_without_batches_all_stand(spark):
    rows = spark.range(2)
    assert _final_rows(rows, "complete", []) is rows


def sides(old, new, *incomparable):
    return Sides(old, new, (), (), incomparable)


def test_rows_are_matched_by_keys_that_identify_them_on_both_sides(spark):
    twice = spark.sql("SELECT * FROM VALUES (1, 1), (1, 2) AS t(`the k`, n)")
    once = twice.where("n = 1")
    assert _can_match(sides(once, once, "n"), ["the k"])
    assert not _can_match(sides(twice, once), ["the k"])
    assert not _can_match(sides(once, twice), ["the k"])
    assert not _can_match(sides(once, once), [])
    assert not _can_match(sides(once, once, "n"), ["the k", "n"])


def test_whole_rows_are_counted_and_a_value_that_equals_no_other_sets_them_apart(spark):
    old = spark.sql(
        "SELECT * FROM VALUES (NULL, 1), (NULL, 1), (NULL, 2), ('x', 9) AS t(`an s`, n)"
    )
    new = spark.sql(
        "SELECT * FROM VALUES (NULL, 1), (NULL, 3), (NULL, 3), ('x', 9) AS t(`an s`, n)"
    )
    parts = _by_rows(sides(old, new, "an s"))
    equal, only_new, only_old = (
        sorted((row.n, row["an s"]) for row in part.collect())
        for part in (parts.equal, parts.only_new, parts.only_old)
    )
    assert equal == [(1, None)]
    assert only_new == [(3, None), (3, None), (9, "x")]
    assert only_old == [(1, None), (2, None), (9, "x")]
    assert {tuple(part.columns) for part in parts} == {("an s", "n")}
    assert parts.differ.isEmpty()


# Of a field: both values, the tolerance, and whether the field differs
FIELDS: dict[str, tuple[str, str, float, bool]] = {
    "equal": ("1", "1", 0.1, False),
    "other whole numbers": ("1000", "1001", 0.1, True),
    "NULL alone": ("1", "int(NULL)", 0.1, True),
    "NULL twice": ("int(NULL)", "int(NULL)", 0.1, False),
    "doubles": ("1.0D", "1.0D", 0.0, False),
    "doubles apart": ("100.0D", "101.0D", 0.0, True),
    "doubles within": ("96.0D", "128.0D", 0.25, False),  # a quarter of the larger one
    "doubles at the other edge": ("128.0D", "96.0D", 0.25, False),
    "doubles beyond": ("95.0D", "128.0D", 0.25, True),
    "below 0": ("-96.0D", "-128.0D", 0.25, False),
    "on both sides of 0": ("-1.0D", "1.0D", 0.25, True),
    "floats within": ("float(96)", "float(128)", 0.25, False),
    "floats apart": ("float(95)", "float(128)", 0.25, True),
    "a double and NULL": ("1.0D", "double(NULL)", 0.25, True),
    "NaN twice": ("double('NaN')", "double('NaN')", 0.25, False),
    "NaN alone": ("double('NaN')", "1.0D", 0.25, True),
    "infinite twice": ("double('inf')", "double('inf')", 0.25, False),
    "infinite alone": ("double('inf')", "1.0D", 0.25, True),
    "infinite apart": ("double('inf')", "double('-inf')", 2.0, True),
    "decimals": ("1.00BD", "1.01BD", 0.25, True),
}


def test_a_field_differs_beyond_the_tolerance_and_only_floats_have_one(spark):
    olds = ", ".join(f"{old} AS `{name}`" for name, (old, *_) in FIELDS.items())
    news = ", ".join(f"{new} AS `{name}`" for name, (_, new, *_) in FIELDS.items())
    both = spark.sql(f"SELECT struct({olds}) AS old, struct({news}) AS new")
    found = [
        _name_if_differing(field, FIELDS[field.name][2], is_incomparable=False)
        for field in both.schema["new"].dataType
    ]
    [names] = both.select(*found).collect()
    assert [name for name in names if name] == [
        name for name, (*_, differs) in FIELDS.items() if differs
    ]


def test_values_of_two_kinds_are_equal_if_both_are_null(spark):
    both = spark.sql(
        "SELECT named_struct('a', '1', 'b', '1', 'c', string(NULL)) AS old,"
        " named_struct('a', '1', 'b', string(NULL), 'c', string(NULL)) AS new"
    )
    found = [
        _name_if_differing(field, 0.0, is_incomparable=True)
        for field in both.schema["new"].dataType
    ]
    assert [*both.select(*found).collect()[0]] == ["a", "b", None]


# --- a target that is kept


def test_rows_that_match_by_their_keys_are_of_four_kinds(spark, tmp_path):
    old = spark.sql(
        "SELECT * FROM VALUES (1, 'a'), (2, 'b'), (NULL, 'n'), (4, 'd') AS t(k, s)"
    )
    new = spark.sql(
        "SELECT * FROM VALUES (1, 'a'), (2, 'c'), (NULL, 'n'), (5, 'e') AS t(k, s)"
    )
    parts = _matched(sides(old, new), ["k"], 0.0, str(tmp_path))
    equal, [differs], only_new, only_old = (part.collect() for part in parts)
    assert sorted(row.s for row in equal) == ["a", "n"]
    assert (differs.k, differs.columns) == (2, ["s"])
    assert (differs.old.s, differs.new.s) == ("b", "c")
    assert ([tuple(row) for row in only_new], [tuple(row) for row in only_old]) == (
        [(5, "e")],
        [(4, "d")],
    )


def test_rows_of_keys_alone_differ_in_nothing(spark, tmp_path):
    rows = spark.range(2)
    parts = _matched(sides(rows, rows), ["id"], 0.0, str(tmp_path))
    assert (parts.equal.count(), parts.differ.count()) == (2, 0)


def test_columns_that_only_one_side_has_are_named_and_the_others_are_compared(
    spark, tmp_path
):
    sink, folder = sinks.delta(str(tmp_path / "out")), str(tmp_path)
    rows = spark.sql("SELECT 1 AS n, 'a' AS s, 'z' AS z, 0 AS c")
    target = KeptTarget(sink, rows.schema, NOTHING, folder)
    target.write(rows, 0)
    target.read = lambda *_: spark.sql("SELECT 1L AS n, 'a' AS s, 'b' AS b, 1 AS d")
    target.keep_target(spark, locate(spark, tmp_path))
    result = target.compared(query(rows), [], 0.0)
    assert (result.keys, result.counts) == ((), (1, 0, 0, 0))
    assert result.columns == (
        "only the changed query has column c",
        "only the changed query has column z",
        "only the target has column b",
        "only the target has column d",
        "column n is bigint in the target, and int in the changed query",
    )
    assert result.equal.columns == ["n", "s"]
    assert (result.target, result.notes) == (str(target), ())
    by_key = target.compared(query(rows), ["s"], 0.0)
    assert (by_key.keys, by_key.counts) == (("s",), (1, 0, 0, 0))


def gone(path):
    return lambda spark, _schema, _place: spark.read.parquet(f"{path}/none")


def no_file(*_):
    raise FileNotFoundError


def test_a_target_that_is_gone_is_told(spark, tmp_path):
    target = replace(kept(BATCHES), folder=str(tmp_path / "kept"))
    place = locate(spark, tmp_path)
    for read in (gone(tmp_path), no_file):
        said = refusal(replace(target, read=read).keep_target, spark, place)
        assert said.endswith(
            "out is gone, but this query is compared with its rows; restore it"
        )
    other = replace(target, read=lambda *_: spark.range(1).select("none"))
    with pytest.raises(AnalysisException, match="none"):
        other.keep_target(spark, place)
