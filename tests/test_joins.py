"""Joins, against plain Python: with a table, also one that reloads, and of two streams.

The two streams are joined within a bound.
"""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import functions as F

from sparkstream_kit import joins, quarantine, sinks, sources, start
from sparkstream_kit._internal.spark.place import Place
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.errors import QueryFailed
from sparkstream_kit.testing import assert_stream_equals_batch

SALES = "merchant STRING, amount INT"
MERCHANTS = [("tea", "Ada"), ("ink", "Bo"), (None, "nobody")]
EVENTS = "side STRING, key STRING, at TIMESTAMP, n INT"
START = datetime(2024, 1, 1)  # noqa: DTZ001 - the session's zone is Python's


def at(minute):
    return START + timedelta(minutes=minute)


def merchants(spark, rows=MERCHANTS):
    return spark.createDataFrame(rows, "merchant STRING, owner STRING")


# --- a stream with a table


@pytest.mark.fast("inner-expected1")
@pytest.mark.connect
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (
            "left",
            [("tea", 1, "Ada"), ("tea", 2, "Ada"), ("oak", 3, None), (None, 4, None)],
        ),
        ("inner", [("tea", 1, "Ada"), ("tea", 2, "Ada")]),
        ("left_semi", [("tea", 1), ("tea", 2)]),
        ("left_anti", [("oak", 3), (None, 4)]),
    ],
)
def test_a_stream_and_a_static_frame_get_the_same_columns_of_a_table(
    spark, stream, how, expected
):
    rows, sales = [("tea", 1), ("tea", 2), ("oak", 3), (None, 4)], stream(SALES)
    static = joins.with_table(
        spark.createDataFrame(rows, SALES), merchants(spark), on="merchant", how=how
    )
    assert sorted(map(tuple, static.collect()), key=str) == sorted(expected, key=str)
    if how == "inner":
        return  # the stream of one join tells as much as that of another
    streamed = stream.query(
        joins.with_table(sales.to_df(), merchants(spark), on="merchant", how=how)
    )
    sales.add_data(rows)
    [batch] = streamed.step()
    assert sorted(map(tuple, batch.rows), key=str) == sorted(expected, key=str)
    assert streamed.frame.columns == static.columns


def test_keys_may_have_any_names_and_be_several_and_their_columns_stand_where_they_stood(
    spark,
):
    left = spark.createDataFrame(
        [(1, "x", 2, 3)], "`a.b` INT, `c d` STRING, `e``f` INT, g INT"
    )
    right = spark.createDataFrame([(9, 2, 1)], "`h.i` INT, `E``F` INT, `a.b` BIGINT")
    joined = joins.with_table(left, right, on=["a.b", "e`f"], how="inner")
    assert joined.columns == ["a.b", "c d", "e`f", "g", "h.i"]
    assert [tuple(row) for row in joined.collect()] == [(1, "x", 2, 3, 9)]


def test_what_cannot_be_joined_with_a_table_is_said_in_one_line(spark, stream):
    sales, table = spark.createDataFrame([("tea", 1)], SALES), merchants(spark)
    for given, said in (
        (
            {"on": "mechant"},
            "stream: there is no column mechant; did you mean merchant?",
        ),
        (
            {"on": "amount"},
            "table: there is no column amount; the columns are: merchant, owner",
        ),
        (
            {"on": []},
            "on is an empty list; give the name of a column that both sides have",
        ),
        (
            {"on": "merchant", "how": "outer"},
            "unknown how of joins.with_table() outer; known: inner, left,",
        ),
    ):
        assert refusal(joins.with_table, sales, table, **given).startswith(said)
    for key, other, ours, theirs in (
        ("merchant", 1, "string", "int"),
        ("amount", 1.0, "int", "double"),
    ):
        said = refusal(
            joins.with_table, sales, table.withColumn(key, F.lit(other)), on=key
        )
        assert f"key {key} is {ours} in stream and {theirs} in table; cast one" in said
    clash = (
        "column amount is in stream and in table; rename one of them:"
        " table.withColumnRenamed"
    )
    clashing = table.withColumn("Amount", F.lit(1)).withColumnRenamed(
        "Amount", "amount"
    )
    assert clash in refusal(joins.with_table, sales, clashing, on="merchant")
    said = refusal(joins.with_table, sales, stream(SALES).to_df(), on="merchant")
    assert (
        said == "joins.with_table(): table is a stream; read it with spark.read, or use"
        " joins.within"
    )


# --- two streams


def split(events):
    """Return the left and the right events, each with a column of time and one of numbers."""
    if events.isStreaming:
        events = events.withWatermark("at", "1 minute")
    left, right = (
        events.where(F.col("side") == side).select(
            "key", F.col("at").alias(f"{side}_at"), F.col("n").alias(f"{side}_n")
        )
        for side in ("l", "r")
    )
    return left, right


def within(events, how, **options):
    left, right = split(events)
    return joins.within(
        left,
        right,
        on="key",
        left_time="l_at",
        right_time="r_at",
        within="5 minutes",
        how=how,
        **options,
    )


def plain(rows, how, before=0):
    """Join in Python: rows of (side, key, minute, n)."""
    timed = [row for row in rows if row[2] is not None]
    lefts, rights = ([row for row in timed if row[0] == side] for side in ("l", "r"))
    pairs = [
        (one, other)
        for one in lefts
        for other in rights
        if one[1] is not None
        and one[1] == other[1]
        and -before <= other[2] - one[2] <= 5
    ]
    if how == "left_semi":
        return [
            (one[1], at(one[2]), one[3])
            for one in lefts
            if any(one is left for left, _ in pairs)
        ]
    alone_left = [
        one
        for one in lefts
        if how in ("left", "full") and all(one is not pair[0] for pair in pairs)
    ]
    alone_right = [
        one
        for one in rights
        if how in ("right", "full") and all(one is not pair[1] for pair in pairs)
    ]
    return [
        *((one[1], at(one[2]), one[3], at(other[2]), other[3]) for one, other in pairs),
        *((one[1], at(one[2]), one[3], None, None) for one in alone_left),
        *((one[1], None, None, at(one[2]), one[3]) for one in alone_right),
    ]


# left  l: a1 at 1, b at 2, one without a key, one without a time
# right r: a at 0.5 (too early), 3, 6 (the bound) and 6.1 (too late), c at 3
ROWS = [
    ("l", "a", 1, 1), ("l", "b", 2, 2), ("r", "a", 3, 3), ("r", "c", 3, 4),
    ("l", None, 2, 5), ("r", None, 2, 6), ("l", "n", None, 7), ("r", "n", None, 11),
    ("r", "a", 0.5, 8), ("r", "a", 6, 9), ("r", "a", 6.1, 10),
]  # fmt: skip


@pytest.mark.connect
@pytest.mark.fast("rocksdb-3-full")
@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize("how", ["full", "left_semi"])
def test_two_streams_give_what_a_plain_join_gives_over_a_kill_and_forget_what_is_past(
    stream, how
):
    events = stream(EVENTS)
    query = stream.query(within(events.to_df(), how))
    events.add_data(
        [
            (side, key, None if minute is None else at(minute), n)
            for side, key, minute, n in ROWS
        ]
    )
    first = query.step()
    early = {row[0] for batch in first for row in batch.rows}
    assert early & {"a", "b"} == {"a"}  # b may yet find a partner
    query.kill_before_commit()
    events.add_data([("l", "end", at(60), 0), ("r", "last", at(61), 0)])
    later = query.step()
    # A batch that came again counts once
    rows = {batch.batch_id: batch.rows for batch in [*first, *later]}
    assert sorted(
        (tuple(row) for each in rows.values() for row in each), key=str
    ) == sorted(plain(ROWS, how), key=str)
    [state] = query.batches[-1].progress.stateOperators
    assert state.numRowsTotal == 2  # the two of the end; none without a time or a key


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        "left",
        *(pytest.param(how, marks=pytest.mark.slow) for how in ("inner", "right")),
    ],
)
def test_random_splits_and_orders_give_what_static_frames_give(spark, how):
    rows = [
        (side, key, at(minute), n)
        for side, key, minute, n in ROWS
        if minute is not None
    ]
    static = spark.createDataFrame(rows, EVENTS)
    assert sorted(
        map(tuple, within(static, how, before="30 seconds").collect()), key=str
    ) == sorted(
        plain([row for row in ROWS if row[2] is not None], how, before=0.5), key=str
    )
    assert_stream_equals_batch(
        lambda events: within(events, how),
        static,
        watermark=("at", "1 minute"),
        examples=3,
    )


def test_two_streams_without_a_watermark_or_a_bound_are_refused_with_the_fix(
    spark, stream
):
    left, right = split(stream(EVENTS).to_df())
    plain_right = stream(
        "key STRING, r_at TIMESTAMP, moved_at TIMESTAMP, r_n INT"
    ).to_df()
    names: dict[str, Any] = {
        "on": "key",
        "left_time": "l_at",
        "right_time": "r_at",
        "within": "5 minutes",
    }

    def refused(right=right, **changes):
        return refusal(joins.within, left, right, **{**names, **changes})

    fix = "give it one first: windows.with_watermark(frame, 'r_at', '10 minutes')"
    assert refused(plain_right) == f"right: column r_at has no watermark; {fix}"
    moved = plain_right.withWatermark("moved_at", "1 minute")
    assert (
        refused(moved)
        == f"right: column r_at has no watermark (column moved_at has it); {fix}"
    )
    assert refused(within=None).startswith(
        "within is None; give a duration, such as '10 seconds'"
    )
    assert refused(within="5 min").startswith("cannot read within '5 min'")
    assert refused(before="-1 minute") == "before must be zero or longer, not -1 minute"
    assert refused(left_time="l_n").startswith("left: event-time column l_n is int")
    assert (
        refused(left_time="l_att")
        == "left: there is no column l_att; did you mean l_at?"
    )
    assert refused(how="outer").startswith("unknown how of joins.within() outer")
    assert refused(on="k").startswith("left: there is no column k")
    _, static = split(spark.createDataFrame([], EVENTS))
    said = (
        "right does not stream; read it with spark.readStream, or use joins.with_table"
    )
    assert refused(static) == f"joins.within(): {said}"
    renamed = right.withColumnRenamed("r_n", "l_n")
    assert refused(renamed).startswith(
        "column l_n is in left and in right; rename one of them: right."
    )
    assert joins.within(left, renamed, how="left_semi", **names).columns == left.columns
    marked = [frame.withColumn("_reason", F.lit("")) for frame in (left, right)]
    clash = (
        "column _reason is in left and in right; join the good rows:"
        " quarantine.good_rows(right)"
    )
    assert refusal(joins.within, *marked, **names) == clash
    names["right_time"] = "l_at"
    clash = "column l_at is in left and in right"
    same_time = right.withColumnRenamed("r_at", "l_at")
    assert refused(same_time, how="left_semi").startswith(clash)
    names["on"] = ["key", "l_at"]
    assert (
        joins.within(left, same_time, how="left_semi", **names).columns == left.columns
    )


@pytest.mark.slow
def test_the_state_of_a_join_falls_when_the_watermark_has_passed(stream):
    events = stream(EVENTS)
    query = stream.query(within(events.to_df(), "left"))
    # 20,000 rows in two hours, of which each hour's go with the next
    for hour in (0, 1):
        events.add_data(
            [
                ("lr"[n % 2], f"k{n % 4999}", at(60 * hour + n / 500), n)
                for n in range(10_000)
            ]
        )
    events.add_data([("l", "end", at(240), 0), ("r", "end", at(240), 0)])
    sizes = [batch.progress.stateOperators[0].numRowsTotal for batch in query.step()]
    assert max(sizes) < 12_000
    assert sizes[-1] == 2


@pytest.mark.parametrize("how", ["full", "right"])
def test_what_spark_refuses_in_a_join_is_said_and_not_a_line_of_the_plan(
    spark, folder, how
):
    lines = quarantine.parse_json(sources.text(spark, folder), SALES)
    table = spark.createDataFrame([("tea", "Ann")], "merchant STRING, owner STRING")
    joined = quarantine.good_rows(lines).join(table, "merchant", how)
    said = refusal(start, joined, sinks.console(), name="q", availableNow=True)
    assert re.match(
        rf"query q: {how}.*outer joins? with .* not supported", said, re.IGNORECASE
    ), said


# --- a table that reloads


def reloaded(file):
    def read(session):
        return session.read.schema("merchant STRING, owner STRING").json(str(file))

    return joins.reloading("merchants", read, on="merchant")


@pytest.mark.slow
def test_a_batch_that_comes_again_meets_the_table_as_it_was(spark, stream, tmp_path):
    file = tmp_path / "merchants.json"

    def write(owner):
        file.write_text(json.dumps({"merchant": "tea", "owner": owner}) + "\n")

    path, sales = str(tmp_path / "owners"), stream(SALES)
    write("Ada")
    query = stream.query(
        sales.to_df(), sink=sinks.batch_files(path).taking(reloaded(file))
    )

    def owners():
        return sorted(
            (row.batch, row.owner) for row in spark.read.parquet(path).collect()
        )

    for amount in (1, 2):
        sales.add_data([("tea", amount)])
        query.step()
    write("Bo")
    query.replay()
    assert owners() == [(0, "Ada"), (1, "Ada")]
    copies = next(stream.folder.glob("*/checkpoint/sparkstream-kit/tables/merchants"))
    (copies / "left").mkdir()  # by a crash
    sales.add_data([("tea", 3)])
    query.step()
    query.restart()
    write("Cy")
    query.replay()
    assert owners() == [(0, "Ada"), (1, "Ada"), (2, "Bo")]
    assert len(list(copies.iterdir())) == 3  # a copy for each batch

    (copies.parents[1] / "pins" / "2").write_text("{")
    query.kill_before_commit()
    with pytest.raises(
        QueryFailed,
        match=r"pins/2 is damaged, which says what batch 2 was made with; put it",
    ):
        query.step()


@pytest.mark.slow
def test_pins_and_copies_go_with_sparks_commits(spark, stream, tmp_path):
    file = tmp_path / "merchants.json"
    with in_force(spark, {"spark.sql.streaming.minBatchesToRetain": "2"}):
        sales = stream(SALES)
        file.write_text("")
        query = stream.query(
            sales.to_df(),
            sink=sinks.foreach_batch(lambda batch, _: batch.collect()).taking(  # type: ignore[arg-type]
                reloaded(file)
            ),
        )
        for number in range(6):
            file.write_text(
                json.dumps({"merchant": "tea", "owner": str(number)}) + "\n"
            )
            sales.add_data([("tea", number)])
            query.step()
    kit = next(stream.folder.glob("*/checkpoint/sparkstream-kit"))
    commits = [path.name for path in (kit.parent / "commits").glob("[0-9]*")]
    pins = sorted(path.name for path in (kit / "pins").iterdir())
    assert pins == ["3", "4", "5"]
    assert set(commits) <= set(pins)
    assert len(list((kit / "tables" / "merchants").iterdir())) == len(pins)


def test_a_table_that_reloads_needs_a_checkpoint_of_this_machine(tmp_path):
    said = refusal(
        reloaded(tmp_path / "merchants.json").open, Place("s3a://bucket/ckpt")
    )
    assert said.startswith(
        "table merchants: its version for each batch is kept beside the checkpoint"
    )


def test_a_table_that_reloads_must_have_a_name_for_a_folder_and_a_join_that_is_known():
    def refused(name, **options):
        return refusal(
            joins.reloading, name, lambda session: session.range(1), on="id", **options
        )

    said = "joins.reloading(): name 'a/b' names a folder; use letters, digits, - and _"
    assert refused("a/b") == said
    assert refused("a", how="outer").startswith(
        "unknown how of joins.reloading() outer; known: inner"
    )
