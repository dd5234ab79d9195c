"""`start(…, dry_run="compare")` and `checkpoints.shadow`: a changed query, compared.

It is compared with what the earlier query wrote.

files    0  1  2  3  4  5
old      ─────────────▶|  what its target holds
new      ─────────────▶|  kept aside, and compared
"""

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from conftest import pretend_master, refusal
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from support.checkpoint_queries import contents
from support.shops import hourly, land_shops, stream, totals

from sparkstream_kit import run, sinks, sources, start, windows
from sparkstream_kit.checkpoints import shadow
from sparkstream_kit.errors import DryRun

# Each compares by a run of its own; the guide `change-a-job` has the shortest
pytestmark = pytest.mark.slow

FILES = 6
land = partial(land_shops, third=None, late=lambda number: 30 * (number >= 3))


def rows_of(*names, where="true"):
    return lambda rows: rows.where(where).selectExpr(*names)


def once(*keys):
    def transform(rows):
        return (
            rows.withWatermark("at", "5 minutes")
            .dropDuplicatesWithinWatermark([*keys])
            .select("at", *keys)
        )

    return transform


def timely(where="true"):
    def transform(rows):
        marked = windows.with_watermark(rows.where(where), "at", "5 minutes")
        return windows.flatten(
            marked.groupBy(windows.tumbling("at", "20 minutes"), "shop").count()
        )

    return transform


def pairs(within="5 minutes", on="shop", how="inner"):
    """Teas with the inks of the same shop soon after."""

    def transform(rows):
        timely = rows.withWatermark("at", "5 minutes")
        teas = timely.where("product = 'tea'").selectExpr(
            f"{on} AS key", "at AS tea_at"
        )
        inks = timely.where("product = 'ink'").selectExpr(
            f"{on} AS other", "at AS ink_at"
        )
        soon = F.expr(
            f"key = other AND ink_at BETWEEN tea_at AND tea_at + INTERVAL {within}"
        )
        return teas.join(inks, soon, how)

    return transform


def table(folder, **how):
    return sinks.sql_table(f"sqlite:///{folder}/totals.db", "totals", **how)


def replace(folder):
    return table(folder, how="replace")


def upsert(*keys):
    return lambda folder: table(folder, how="upsert", keys=keys)


def files(folder):
    return sinks.files(folder / "out")


def batch_files(folder):
    return sinks.batch_files(folder / "out", format="json")


def snapshot(folder):
    return sinks.snapshot(folder / "totals.csv")


def begins(**how):
    return lambda rows: hourly("shop", **how)(rows).drop("end")


BY_PRODUCT = ("complete", replace, totals("product"))
BY_WINDOW = ("append", batch_files, hourly("shop"))
BY_SHOP = ("update", upsert("shop"), totals("shop"))
WINDOWS_NOW = ("update", upsert("start", "shop"), begins())
ROWS = ("append", files, rows_of("at", "product", "n", "weight"))
STAMPED = ("append", batch_files, rows_of("n", "current_timestamp() AS stamp"))
ONCE = ("append", files, once("shop", "n"))
PAIRS = ("append", files, pairs())
LOOSE_PAIRS = ("append", batch_files, pairs(how="left"))
WEIGHTS = ("complete", snapshot, totals("shop", what="sum(weight)"))


def keys_alone(rows):
    return rows.select("shop").dropDuplicates(["shop"])


def by(name, what="sum(amount)"):
    return lambda rows: totals(name, what=what)(rows.withColumnRenamed("shop", name))


def by_upper(rows, what="sum(weight)"):
    return rows.groupBy(F.upper("shop").alias("shop")).agg(F.expr(what).alias("total"))


def first_of_each(rows):
    return rows.dropDuplicates(["shop"]).select("at", "shop", "n")


def into_json(folder):
    return sinks.snapshot(folder / "totals.json")


def counted_in_batches(folder):
    """The number of rows of each batch, which no one large batch has."""
    return sinks.batch_files(folder / "out").taking(
        lambda batch: batch.groupBy("shop").count()
    )


FIRST = ("append", files, first_of_each)
OF_EACH = (
    "named_struct('f', first(n), 'l', last(weight), 'c', collect_list(n), 's',"
    " collect_set(n), 'v', "
)
OF_EACH += (
    "any_value(product), 'm', max_by(n, shop), 'o', mode(n), 'p', approx_percentile(n,"
    " 0.5))"
)
LISTS = ("complete", into_json, totals("shop", what=OF_EACH))
EACH_FIRST = ("update", upsert("shop"), totals("shop", what="first(n) * 100 + last(n)"))
WHOLE = ("complete", into_json, totals(what="sum(weight / 7)"))
BATCHES = ("append", counted_in_batches, rows_of("shop", "n"))


def other_order(rows):
    found = rows.where("amount >= 0").select("weight", "n", "product", "at")
    return found.select("at", "product", "n", "weight")


KAFKA = sinks.kafka("localhost:9", "totals", exactly_once=True)
KINDS = "differ", "only new", "only old"
HARMLESS: dict[str, tuple[Any, Any]] = {
    "nothing": (BY_PRODUCT, totals("product")),
    "windows, a filter before it": (BY_WINDOW, hourly("shop", where="n >= 0")),
    "windows, the same delay in seconds": (
        BY_WINDOW,
        hourly("shop", delay="300 seconds"),
    ),
    "an upsert, the same": (BY_SHOP, totals("shop")),
    "a key that is computed under its old name, a little off": (
        ("complete", replace, by_upper),
        partial(by_upper, what="sum(weight + 1) - count(*)"),
    ),
    "an upsert of keys alone": (("update", upsert("shop"), keys_alone), keys_alone),
    "windows in mode update": (WINDOWS_NOW, begins()),
    "rows, in another order of columns": (ROWS, other_order),
    "duplicates, the same": (ONCE, once("shop", "n")),
    "pairs, in seconds": (PAIRS, pairs(within="300 seconds")),
    "pairs with those that have none": (LOOSE_PAIRS, pairs(how="left")),
    "the kit's watermark, which looks at the time": (
        ("append", batch_files, timely()),
        timely(where="n >= 0"),
    ),
    "the time of each batch": (
        STAMPED,
        rows_of("n", "current_timestamp() AS stamp", where="n >= 0"),
    ),
    "-0.0 for 0.0": (
        ROWS,
        rows_of("at", "product", "n", "IF(weight = 0, -0.0D, weight) AS weight"),
    ),
    "the first row of each shop": (FIRST, first_of_each),
    "what depends on the order of the rows": (LISTS, totals("shop", what=OF_EACH)),
    "the first and the last row, by key": (
        EACH_FIRST,
        totals("shop", what="first(n) * 100 + last(n)"),
    ),
    "one sum of doubles": (WHOLE, totals(what="sum(weight / 7)")),
    "a sink that counts in each batch": (BATCHES, rows_of("shop", "n", where="n >= 0")),
    "a sum of doubles in another order": (
        WEIGHTS,
        totals("shop", what="sum(weight + 1) - count(*)"),
    ),
}
HARMFUL: dict[str, tuple[Any, Any]] = {
    "a rounding": (
        ("update", upsert("shop"), totals("shop", what="round(avg(amount), 2)")),
        totals("shop", what="round(avg(amount), 1)"),
    ),
    "a type alone": (ROWS, rows_of("at", "product", "bigint(n) AS n", "weight")),
    "a lost filter": (
        ("complete", replace, totals("product", where="n <> 1")),
        totals("product"),
    ),
    "NULL is filled": (
        BY_PRODUCT,
        lambda rows: totals("product")(rows.fillna("?", ["product"])),
    ),
    "another window": (BY_WINDOW, hourly("shop", length="30 minutes")),
    "a shorter watermark": (
        ("append", batch_files, hourly("shop", delay="1 hour")),
        hourly("shop"),
    ),
    "doubled rows": (
        BY_PRODUCT,
        lambda rows: totals("product")(rows.unionByName(rows)),
    ),
    "a longer watermark": (BY_WINDOW, hourly("shop", delay="30 minutes")),
    "a watermark in mode update": (WINDOWS_NOW, begins(delay="1 hour")),
    "a key of two words": (
        ("complete", replace, by("the shop")),
        by("the shop", "sum(amount * 1.01)"),
    ),
    "a wrong factor": (BY_SHOP, totals("shop", what="sum(amount * 1.01)")),
    "rows, a lost filter": (
        ("append", files, rows_of("at", "n", where="n > 0")),
        rows_of("at", "n"),
    ),
    "rows, one column less": (ROWS, rows_of("at", "product", "n")),
    "duplicates by one key more": (
        ONCE,
        lambda rows: once("shop", "n", "product")(rows).drop("product"),
    ),
    "a wrong join key": (PAIRS, pairs(on="n")),
    "a sum of doubles, a little off": (
        WEIGHTS,
        totals("shop", what="sum(weight) + 0.0001"),
    ),
}


@pytest.fixture
def wrote(as_local, tmp_path):
    """Run the earlier version over six files; return a function that compares a changed one."""

    def of(mode, sink_of, before, more=()):
        land(tmp_path / "in", *range(FILES))
        how: dict[str, Any] = {
            "name": "q",
            "mode": mode,
            "checkpoint": tmp_path / "ckpt",
        }
        run(
            start(
                before(stream(as_local, tmp_path / "in")),
                sink_of(tmp_path),
                availableNow=True,
                **how,
            )
        )

        def compare(after, **options):
            return shadow(
                after(stream(as_local, tmp_path / "in")),
                sink_of(tmp_path),
                **how,
                **options,
            )

        return compare

    return of


@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change_differs_in_no_row(change, wrote):
    case, after = HARMLESS[change]
    found = wrote(*case)(after)
    [table], said = found.tables, str(found)
    assert (table.same, table.counts[0] > 0, found.exit_code) == (True, True, 0), said


@pytest.mark.parametrize("change", HARMFUL)
def test_a_harmful_change_is_found(change, wrote):
    case, after = HARMFUL[change]
    found = wrote(*case)(after)
    [table], said = found.tables, str(found)
    assert (table.same, found.exit_code) == (False, 3), said
    assert all(
        f"  {what}:" in said
        for what, number in zip(KINDS, table.counts[1:], strict=True)
        if number
    )


def test_what_differs_is_there_as_text_as_counts_and_as_rows(wrote):
    compare = wrote("complete", replace, totals("product"))
    found = compare(
        totals("product", where="product IS NOT NULL AND (product <> 'tea' OR n <> 0)")
    )
    [table] = found.tables
    assert (table.keys, table.counts) == (("product",), (1, 1, 0, 1))
    [differs] = table.differ.collect()
    assert (differs.product, differs.columns) == ("tea", ["total"])
    assert differs.old.total > differs.new.total
    assert [row.product for row in table.only_old.collect()] == [None]
    said = str(found).splitlines()
    assert said[0] == "query q, compared at batch 5"
    assert said[1].startswith("table totals in sqlite")
    assert said[2] == "  1 equal, 1 differ, 0 only new, 1 only old"
    assert said[-1].startswith(
        "to switch: start it on a new checkpoint, with continues="
    )


def test_a_key_with_a_name_of_the_comparison_is_refused(wrote):
    by_old = totals("old")
    compare = wrote(
        "complete", replace, lambda rows: by_old(rows.withColumnRenamed("shop", "old"))
    )
    said = refusal(compare, lambda rows: by_old(rows.withColumnRenamed("shop", "old")))
    assert "key old has a name of the comparison; rename it in both" in said


TEXTS = ["a\nb", "", None, " c ", 'd "e",', "\\", "f\r\ng", "null", "1"]
ODD = {
    "csv in a folder like a pattern": lambda folder: sinks.batch_files(
        folder / "o[1]{2}*?\\", format="csv"
    ),
    "files of csv in a folder like a pattern": lambda folder: sinks.files(
        folder / "o[1]*", format="csv"
    ),
    "json in a folder like a pattern": lambda folder: sinks.batch_files(
        folder / "o[1]", format="json"
    ),
    "parquet in a folder like a pattern": lambda folder: sinks.batch_files(
        folder / "o{1}"
    ),
    "sqlite": table,
}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("kind", ODD)
def test_odd_texts_and_times_are_equal_and_a_change_is_told(
    kind, zone, spark, tmp_path
):
    (tmp_path / "in").mkdir()
    for number in range(3):
        given = [
            {"s": text, "t": f"2026-10-25T0{number}:30:00Z"}
            for text in TEXTS[number * 3 :][:3]
        ]
        (tmp_path / "in" / f"{number}.json").write_text(
            "".join(json.dumps(row) + "\n" for row in given)
        )
    zoned = "spark.sql.session.timeZone"
    before = spark.conf.get(zoned)
    spark.conf.set(zoned, zone)
    try:
        rows = sources.json(spark, str(tmp_path / "in"), schema="s STRING, t TIMESTAMP")
        how: dict[str, Any] = {"name": "q", "checkpoint": tmp_path / "ckpt"}
        run(start(rows, ODD[kind](tmp_path), availableNow=True, **how))
        [same] = shadow(rows, ODD[kind](tmp_path), **how).tables
        assert (same.same, same.counts) == (True, (9, 0, 0, 0)), same.says()
        hours = rows.withColumn("t", F.to_utc_timestamp("t", "Europe/Berlin"))
        [other] = shadow(hours, ODD[kind](tmp_path), **how).tables
        assert other.counts == (0, 0, 9, 9), other.says()
    finally:
        spark.conf.set(zoned, before)


def test_a_column_that_json_lacks_is_named_and_the_others_are_compared(wrote):
    compare = wrote("append", batch_files, rows_of("n", "shop"))
    [more] = compare(rows_of("n", "shop", "'z' AS z")).tables
    assert (more.counts, more.columns) == (
        (36, 0, 0, 0),
        ("only the changed query has column z",),
    )
    [fewer] = compare(rows_of("n")).tables
    assert (fewer.counts, fewer.columns) == (
        (36, 0, 0, 0),
        ("only the target has column shop",),
    )


def test_several_comparisons_of_one_query_run_at_once(wrote):
    compare = wrote("append", batch_files, rows_of("n", "shop"))
    with ThreadPoolExecutor(3) as pool:
        found = [*pool.map(lambda _: compare(rows_of("n", "shop")), range(3))]
    assert [each.exit_code for each in found] == [0, 0, 0]


def test_a_float_may_differ_by_the_tolerance_and_nan_is_nan(wrote):
    compare = wrote(*WEIGHTS)
    almost = totals("shop", what="sum(weight) * 1.001")
    assert compare(almost).exit_code == 3
    assert compare(almost, tolerance=0.01).exit_code == 0
    [table] = compare(totals("shop", what="sum(weight * double('NaN'))")).tables
    assert [math.isnan(row.new.total) for row in table.differ.collect()] == [True, True]
    assert (
        compare(totals("shop", what="sum(weight * double('Infinity'))")).exit_code == 3
    )


def test_a_job_ends_with_3_and_says_what_differs(wrote, tmp_path, as_local):
    wrote("complete", snapshot, totals("product"))
    changed = totals("product", where="n > 1")(stream(as_local, tmp_path / "in"))
    how: Any = {
        "name": "q",
        "mode": "complete",
        "checkpoint": tmp_path / "ckpt",
        "dry_run": "compare",
    }
    says = r"^a comparison: nothing is started, and nothing is written\nquery q"
    with pytest.raises(DryRun, match=says) as end:
        run(start(changed, snapshot(tmp_path), **how))
    assert end.value.exit_code == 3


def test_several_targets_are_compared_each_with_its_part(wrote, tmp_path, as_local):
    def both(folder):
        tea = sinks.latest("tea").taking(lambda batch: batch.where("product = 'tea'"))
        return sinks.fan_out(
            tea, snapshot(folder), sinks.foreach_batch(lambda batch, _: batch.show())
        )

    found = wrote("complete", both, totals("product"))(
        totals("product", where="product = 'tea' OR n > 1")
    )
    tea, whole = found.tables
    assert (tea.target, tea.same, whole.same) == ("view tea", True, False)
    assert "not compared: sink foreach_batch, which cannot be read back" in found.notes


def test_batches_whose_plans_are_removed_meanwhile_are_compared(as_local, tmp_path):
    land(tmp_path / "in", *range(FILES))
    comparing = False

    def remove(batch):
        """Do what Spark does for a running query."""
        for number in range(FILES) if comparing and not batch.isStreaming else ():
            for log in ("offsets", "commits"):
                (tmp_path / "ckpt" / log / f"{number}").unlink(missing_ok=True)
        return batch

    sink, rows = (
        batch_files(tmp_path).taking(remove),
        hourly("shop")(stream(as_local, tmp_path / "in")),
    )
    run(start(rows, sink, name="q", checkpoint=tmp_path / "ckpt", availableNow=True))
    # Between listing and copy
    (tmp_path / "ckpt" / "sources" / "0" / ".1.tmp").symlink_to("removed")
    comparing = True
    found = shadow(rows, sink, checkpoint=tmp_path / "ckpt")
    assert found.exit_code == 0, str(found)
    assert [file.name for file in (tmp_path / "ckpt" / "offsets").glob("[0-9]*")] == [
        str(found.batch)
    ]


def test_batches_whose_plans_are_gone_are_read_in_large_ones(wrote, tmp_path):
    compare = wrote(*BY_WINDOW)
    for number in range(3):
        for file in (f"{number}", f".{number}.crc"):
            (tmp_path / "ckpt" / "offsets" / file).unlink()
            (tmp_path / "ckpt" / "commits" / file).unlink()
    found = compare(hourly("shop"))
    assert any(
        "the batches before 3 are no longer kept" in note for note in found.notes
    ), found.notes
    assert found.tables[0].counts[0] > 0


def test_the_running_query_may_go_on(wrote, tmp_path, as_local):
    compare = wrote(*BY_PRODUCT)
    rows = totals("product")(stream(as_local, tmp_path / "in"))
    how: Any = {"name": "q", "mode": "complete", "checkpoint": tmp_path / "ckpt"}
    query = start(rows, replace(tmp_path), processingTime="0 seconds", **how)
    try:
        land(tmp_path / "in", FILES, FILES + 1)
        query.processAllAvailable()
        assert compare(totals("product")).exit_code == 0
        # By the same name
        seen: Any = start(rows, replace(tmp_path), dry_run="compare", **how)
        assert seen.exit_code == 0
        assert query.isActive
    finally:
        query.stop()


def drop_input(tmp_path):
    """Remove a file, and the target: the file is named before the target is read."""
    (tmp_path / "in" / "2.json").unlink()
    (tmp_path / "totals.db").unlink()


def cut_off(tmp_path):
    for file in ("5", ".5.crc"):
        (tmp_path / "ckpt" / "commits" / file).unlink()


@pytest.mark.parametrize(
    ("harm", "after", "says"),
    [
        (
            drop_input,
            totals("product"),
            "1 of the 6 files that it has read have gone, such as",
        ),
        (
            cut_off,
            totals("product"),
            "batch 5 is being written, or was cut off; to compare, stop its query",
        ),
        (
            None,
            lambda rows: rows.groupBy(F.uuid().alias("product")).agg(
                F.expr("sum(n) AS total")
            ),
            "cannot be compared: uuid() gives other results in each run",
        ),
        (
            None,
            lambda rows: totals("product")(rows.sample(0.5)),
            "cannot be compared: sample() gives other results in each run",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    harm, after, says, wrote, tmp_path, monkeypatch
):
    monkeypatch.setattr("sparkstream_kit.checkpoints.operate.shadow._AT_REST", 0.5)
    compare = wrote(*BY_PRODUCT)
    if harm:
        harm(tmp_path)
    assert says in refusal(compare, after)


def test_rows_of_mode_update_without_keys_are_refused(wrote):
    once_each = once("shop", "n")
    said = refusal(wrote("update", batch_files, once_each), once_each)
    assert "its rows have no keys that are known" in said


@pytest.mark.parametrize(
    ("name", "sink"),
    [
        ("console", sinks.console()),
        ("by_value(product)", sinks.by_value("product", sinks.latest)),
        (
            "fan_out(foreach_batch, kafka)",
            sinks.fan_out(sinks.foreach_batch(print), KAFKA),
        ),
    ],
)
def test_a_sink_that_cannot_be_read_back_is_refused(name, sink, as_local, tmp_path):
    land(tmp_path / "in", 0)
    rows = stream(as_local, tmp_path / "in")
    run(
        start(
            rows,
            batch_files(tmp_path),
            name="q",
            checkpoint=tmp_path / "ckpt",
            availableNow=True,
        )
    )
    said = refusal(
        start, rows, sink, name="q", checkpoint=tmp_path / "ckpt", dry_run="compare"
    )
    assert said.startswith(
        f"query q cannot be compared: sink {name} cannot be read back (files,"
        " snapshots,"
    )


@pytest.mark.classic_only("a master is pretended in this process")
def test_on_a_cluster_it_is_refused(wrote, as_local, monkeypatch):
    compare = wrote("complete", snapshot, totals("product"))
    pretend_master(as_local, monkeypatch, "spark://host:7077")
    assert (
        refusal(compare, totals("product"))
        == "checkpoints.shadow(): it keeps its rows in a temporary folder of this"
        " machine, which spark://host:7077 does not have; use a session of this"
        " process with the master local[*]"
    )


@pytest.mark.connect
def test_on_spark_connect_it_compares(spark, tmp_path):
    land(tmp_path / "in", *range(FILES))
    how: Any = {"name": "q", "checkpoint": tmp_path / "ckpt"}
    rows, sink = stream(spark, tmp_path / "in"), batch_files(tmp_path)
    run(start(hourly("shop")(rows), sink, availableNow=True, **how))
    before = contents(tmp_path)
    seen: Any = start(
        hourly("shop", where="n >= 0")(rows), sink, dry_run="compare", **how
    )
    [table] = seen.tables
    assert (table.same, table.counts[0] > 0) == (True, True), str(seen)
    changed: Any = start(
        hourly("shop", where="n <> 3")(rows), sink, dry_run="compare", **how
    )
    assert changed.exit_code == 3
    assert contents(tmp_path) == before


TYPED = rows_of(
    "at", "product", "n", "amount", "weight", "n > 1 AS many", "date(at) AS day"
)
BY_KEY = totals("product", what="max(at)", where="product IS NOT NULL")
UPSERT: dict[str, Any] = {"how": "upsert", "keys": ["product"]}
TARGETS: dict[str, tuple[str, Any, Any]] = {
    "delta, append": ("append", lambda folder: sinks.delta(folder / "out"), TYPED),
    "delta, upsert": (
        "update",
        lambda folder: sinks.delta(folder / "out", **UPSERT),
        BY_KEY,
    ),
    "iceberg": (
        "append",
        lambda folder: sinks.iceberg("shop.rows", catalog=folder / "lake"),
        TYPED,
    ),
    "sql, append": ("append", table, TYPED),
    "sql, bytes": ("append", table, rows_of("at", "n", "unhex('ff00') AS raw")),
    "files of CSV": (
        "append",
        lambda folder: sinks.files(folder / "out", format="csv"),
        TYPED,
    ),
    "files by n": (
        "append",
        lambda folder: sinks.files(folder / "out", partition_by=["n"]),
        TYPED,
    ),
    "batch_files, update": ("update", batch_files, BY_KEY),
    "batch_files, complete": ("complete", batch_files, BY_KEY),
    "snapshot of JSON": (
        "complete",
        lambda folder: sinks.snapshot(folder / "t.json"),
        BY_KEY,
    ),
    "a table of the catalog": (
        "append",
        lambda folder: sinks.table(f"t_{folder.name}"),
        TYPED,
    ),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_each_kind_of_target_is_read_back_with_its_types_and_nothing_is_written(
    kind, wrote, tmp_path
):
    mode, sink_of, before = TARGETS[kind]
    compare, there = wrote(mode, sink_of, before), contents(tmp_path)
    [same] = compare(before).tables
    assert (same.same, same.counts[0] > 0) == (True, True), same.says()
    [other] = compare(
        lambda rows: before(rows.where("at < '2026-03-01 10:30:00'"))
    ).tables
    assert not other.same
    assert contents(tmp_path) == there


def remove(name):
    def of(folder):
        found = folder / name
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return of


REMOVED: dict[str, tuple[str, Any]] = {
    "delta, append": ("Delta table ", remove("out")),
    "iceberg": ("Iceberg table shop.rows in ", remove("lake")),
    "sql, append": ("table totals in sqlite", remove("totals.db")),
    "files of CSV": ("folder ", remove("out")),
    "batch_files, update": ("folder ", remove("out")),
    "snapshot of JSON": ("file ", remove("t.json")),
    "a table of the catalog": (
        "table t_",
        lambda folder: SparkSession.active().sql(f"DROP TABLE t_{folder.name}"),
    ),
}


@pytest.mark.parametrize("kind", REMOVED)
def test_a_target_that_is_gone_is_one_line_and_is_not_made_again(kind, wrote, tmp_path):
    (named, remove_it), (mode, sink_of, before) = REMOVED[kind], TARGETS[kind]
    compare = wrote(mode, sink_of, before)
    remove_it(tmp_path)
    there, said = contents(tmp_path), refusal(compare, before)
    assert said.startswith(named)
    assert said.endswith(
        " is gone, but this query is compared with its rows; restore it"
    )
    assert contents(tmp_path) == there


def test_it_says_at_which_part_it_is_in_few_lines(wrote, monkeypatch, capsys):
    compare = wrote(*BY_WINDOW)  # which runs batch by batch
    monkeypatch.setattr("sparkstream_kit.checkpoints.operate.replay._LINES", 3)
    capsys.readouterr()
    compare(hourly("shop"))
    assert capsys.readouterr().err.splitlines() == [
        "query q: reading its targets between two batches …",
        *(f"query q: running batch {number} of 7 …" for number in (1, 4, 7)),
        "query q: comparing the rows …",
    ]
