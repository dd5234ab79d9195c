"""`start(…, continues=…)`: a changed query goes on where the old one stands.

The result is equal to that of a batch computation.

files    0  1  2  3 | 4  5  6
old      ──────────▶|           what it wrote stays
new      (no sink)  |────────▶  what comes after
"""

import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from conftest import failure, pretend_master, refusal
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from support.kits_sinks import from_table
from support.shops import SCHEMA, hourly, land_shops, stream, totals

from sparkstream_kit import quarantine, run, sinks, sources, start, state, windows
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints import check, clone
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import replay
from sparkstream_kit.errors import DryRun, InvalidInputError
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

PARTITIONS = "spark.sql.shuffle.partitions"
# The batches that close windows
WITHOUT_DATA = "spark.sql.streaming.noDataMicroBatches.enabled"
OLD, ALL = 4, 7  # files
land = partial(land_shops, third="pen", late=lambda number: 19 * (2 <= number < OLD))


def table(spark, folder, numbers):
    return spark.read.schema(SCHEMA).json(
        [str(folder / f"{number}.json") for number in numbers]
    )


def once_by(*keys):
    return lambda rows: rows.dropDuplicates([*keys]).select(*keys)


def remembered(*keys):
    def transform(rows):
        return state.once(
            rows.withWatermark("at", "5 minutes"), [*keys], "at", "10 hours"
        ).select(*keys)

    return transform


def pairs(rows):
    left = rows.where("n = 0").selectExpr("product", "amount AS first")
    right = rows.where("n = 1").selectExpr("product AS other", "amount AS second")
    return left.join(right, F.expr("product = other")).drop("other")


def two_windows(rows):
    small = rows.withWatermark("at", "5 minutes").groupBy(
        F.window("at", "10 minutes"), "product"
    )
    small = small.agg(F.sum("amount").alias("total"))
    large = small.groupBy(F.window(F.window_time("window"), "20 minutes")).agg(
        F.sum("total").alias("total")
    )
    return windows.flatten(large)


def sessions(rows):
    groups = rows.withWatermark("at", "5 minutes").groupBy(
        F.session_window("at", "4 minutes"), "product"
    )
    return windows.flatten(groups.agg(F.sum("amount").alias("total")), "session_window")


@dataclass(frozen=True)
class Change:
    """What is changed in a query: the old and the new one, and what the session has for each."""

    mode: str
    old: Callable[[DataFrame], DataFrame]
    new: Callable[[DataFrame], DataFrame]
    before: Mapping[str, str] | None = None
    after: Mapping[str, str] | None = None
    old_mode: str | None = None


BY_PRODUCT, BY_WINDOW = totals("product"), hourly("product")
ROCKSDB, MEMORY = ({STATE_STORE: STATE_STORES[name]} for name in ("rocksdb", "memory"))
CHANGES = {
    "another key": Change("complete", BY_PRODUCT, totals("shop")),
    "another key, to be updated": Change("update", BY_PRODUCT, totals("shop")),
    "no key": Change("complete", BY_PRODUCT, totals()),
    "an aggregate more": Change(
        "update", BY_PRODUCT, totals("product", what="struct(sum(n), count(*))")
    ),
    "more partitions": Change(
        "update", BY_PRODUCT, BY_PRODUCT, {PARTITIONS: "2"}, {PARTITIONS: "5"}
    ),
    "fewer partitions": Change(
        "complete", BY_PRODUCT, BY_PRODUCT, {PARTITIONS: "5"}, {PARTITIONS: "1"}
    ),
    "a filter removed": Change("update", totals("product", where="n > 1"), BY_PRODUCT),
    "to RocksDB": Change("update", BY_PRODUCT, BY_PRODUCT, MEMORY, ROCKSDB),
    "from RocksDB": Change("update", BY_PRODUCT, BY_PRODUCT, ROCKSDB, MEMORY),
    "windows on RocksDB": Change("append", BY_WINDOW, hourly("shop"), ROCKSDB, ROCKSDB),
    "another key of windows": Change("append", BY_WINDOW, hourly("shop")),
    "windows in place of totals": Change("update", BY_PRODUCT, BY_WINDOW),
    "totals in place of windows": Change("update", BY_WINDOW, BY_PRODUCT),
    "longer windows": Change(
        "append", BY_WINDOW, hourly("product", length="30 minutes")
    ),
    "the whole result of windows": Change(
        "complete", BY_WINDOW, hourly("shop"), old_mode="append"
    ),
    "windows that were not closed": Change(
        "append",
        BY_WINDOW,
        hourly("shop"),
        {WITHOUT_DATA: "false"},
        {WITHOUT_DATA: "true"},
    ),
    "a longer delay": Change(
        "append", BY_WINDOW, hourly("product", delay="12 minutes")
    ),
    "a shorter delay": Change("append", BY_WINDOW, hourly("product", delay="1 minute")),
    "sessions in place of windows": Change("append", BY_WINDOW, sessions),
    "a second window": Change("append", BY_WINDOW, two_windows),
    "duplicates dropped": Change(
        "append", lambda rows: rows.select("product", "n"), once_by("product", "n")
    ),
    "a join with itself": Change(
        "append", lambda rows: rows.select("product", "amount"), pairs
    ),
    "no state any more": Change(
        "append", once_by("product"), lambda rows: rows.select("product", "amount")
    ),
    "once": Change(
        "append", remembered("product", "n"), remembered("shop", "n"), ROCKSDB, ROCKSDB
    ),
    "the mode": Change("update", BY_PRODUCT, BY_PRODUCT, old_mode="complete"),
}


@pytest.fixture
def settings(spark):
    """Set what the session has; it has its own again after the test."""
    with ExitStack() as stack:
        yield lambda given: stack.enter_context(in_force(spark, given or {}))


def plain(rows):
    return [tuple(str(value) for value in row) for row in rows]


def into(batches):
    """Return a sink that keeps the rows of each batch; a batch that comes again is kept once."""

    def write(batch, number):
        batches[number] = plain(batch.collect())

    return sinks.foreach_batch(write)


def go(frame, sink, checkpoint, mode="update", **more):
    run(
        start(
            frame,
            sink,
            name="totals",
            mode=mode,
            checkpoint=checkpoint,
            availableNow=True,
            **more,
        )
    )


def planned(frame, old, new):
    """Return what a dry run says."""
    how: dict[str, Any] = {
        "name": "totals",
        "mode": "update",
        "checkpoint": new,
        "continues": old,
    }
    return str(start(frame, into({}), dry_run=True, **how))


def in_batch(spark, folder, transform, files):
    """Return the rows of a batch computation over the first files."""
    return Counter(plain(transform(table(spark, folder, range(files))).collect()))


def watermark(checkpoint):
    logs = Logs(checkpoint)
    return logs.plan(logs.done).watermark


def expected(spark, folder, change, closed, until):
    """Return what a batch computation of the new query says of what comes after the old one."""
    whole = change.new(table(spark, folder, range(ALL)))
    rows = plain(whole.collect())
    if change.mode == "complete":
        return Counter(rows)
    if "end" in whole.columns:
        ends = F.unix_millis("end")
        open_ones = plain(whole.where(ends > closed).collect())
        if change.mode == "append":
            return Counter(
                plain(whole.where((ends > closed) & (ends <= until)).collect())
            )
        rows = open_ones
    before = plain(change.new(table(spark, folder, range(OLD))).collect())
    if change.mode == "append":
        return Counter(rows) - Counter(before)
    keys = {
        row[:-1]
        for row in plain(change.new(table(spark, folder, range(OLD, ALL))).collect())
    }
    return Counter(row for row in rows if row[:-1] in keys)


def came(mode, batches):
    """Return the final rows of a sink: the last batch, the newest of each key, or all."""
    if mode == "complete":
        return Counter(batches[max(batches)])
    rows = [row for number in sorted(batches) for row in batches[number]]
    return (
        Counter(rows)
        if mode == "append"
        else Counter({row[:-1]: row for row in rows}.values())
    )


@pytest.mark.fast("another key")
@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_query_equals_its_batch_computation(spark, settings, tmp_path, kind):
    change, folder = CHANGES[kind], tmp_path / "in"
    old_batches: dict[int, Any] = {}
    batches: dict[int, Any] = {}
    settings({PARTITIONS: "2", **(change.before or {})})
    land(folder, *range(OLD))
    old, new = tmp_path / "v1", tmp_path / "v2"
    go(
        change.old(stream(spark, folder)),
        into(old_batches),
        old,
        change.old_mode or change.mode,
    )
    closed, last = watermark(old), Logs(old).done
    settings(change.after)
    land(folder, *range(OLD, ALL))
    go(
        change.new(stream(spark, folder)),
        into(batches),
        new,
        change.mode,
        continues=old,
    )
    assert min(batches) == last + 1
    assert (
        Logs(new).plan(last + 1).watermark
        == Logs(old).commit(last)["nextBatchWatermarkMs"]
    )
    assert came(change.mode, batches) == expected(
        spark, folder, change, closed, watermark(new)
    )
    assert check(new) == []

    # A restart goes on, and gives nothing new; the line of the job stays as it is.
    again: dict[int, Any] = {}
    go(change.new(stream(spark, folder)), into(again), new, change.mode, continues=old)
    assert [row for rows in again.values() for row in rows] == []


def refused(frame, old, new, mode="update", sink=None):
    return refusal(go, frame, sink or into({}), new, mode, continues=old)


@pytest.fixture
def begun(spark, tmp_path):
    """A query of totals by product after two files, its folder and its checkpoint."""
    folder, old = tmp_path / "in", tmp_path / "v1"
    land(folder, 0, 1)
    go(totals("product")(stream(spark, folder)), into({}), old)
    return stream(spark, folder), folder, old


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_done_and_makes_nothing(begun, tmp_path):
    rows, _, old = begun
    new, before = tmp_path / "v2", sorted(old.rglob("*"))
    said = planned(totals("shop")(rows), old, new)
    groups = "groups by shop; the checkpoint's query groups by product"
    build = "the state, from 2 files in 1 batch"
    assert all(
        part in said for part in (f"continues  {old}, after batch 1", groups, build)
    )
    assert not new.exists()
    assert sorted(old.rglob("*")) == before


@pytest.mark.slow
def test_a_dry_run_names_changed_settings_and_the_mode(begun, tmp_path):
    rows, _, old = begun
    spark = rows.sparkSession
    new = {
        "name": "totals",
        "checkpoint": tmp_path / "v2",
        "continues": old,
        "dry_run": True,
    }
    former = spark.conf.get(PARTITIONS)
    with in_force(spark, {PARTITIONS: "7"}):
        said = str(start(totals("product")(rows), into({}), mode="complete", **new))
    assert f"  change     number of state partitions 7 in place of {former}\n" in said
    assert "  change     mode complete in place of update\n" in said


@pytest.mark.slow
def test_a_query_of_the_same_state_does_not_need_to_continue(begun, tmp_path, caplog):
    rows, _, old = begun
    planned(totals("product")(rows), old, tmp_path / "v2")
    assert (
        f"query totals keeps the same state as that of checkpoint {old}. Filters"
        in caplog.text
    )


@pytest.mark.slow
def test_of_a_query_without_state_nothing_is_built(begun, tmp_path):
    rows, _, old = begun
    assert "  build      nothing: the query keeps no state\n" in planned(
        rows, old, tmp_path / "v2"
    )


@pytest.mark.slow
@pytest.mark.classic_only("Connect has a class of queries of its own")
def test_another_query_can_start_while_the_state_is_built(
    spark, begun, tmp_path, monkeypatch
):
    rows, folder, old = begun
    waits = StreamingQuery.awaitTermination
    seen: list[bool] = []

    def beside():
        start(stream(spark, folder), sinks.memory("beside")).stop()

    def wait(query, timeout=None):
        if query.name == "totals" and not seen:
            other = threading.Thread(target=beside)
            other.start()
            other.join(30)
            seen.append(other.is_alive())
        return waits(query, timeout)

    monkeypatch.setattr(StreamingQuery, "awaitTermination", wait)
    go(totals("shop")(rows), into({}), tmp_path / "v2", continues=old)
    assert seen == [False], "the other query has started before the build went on"


@pytest.mark.slow
def test_input_that_has_changed_or_gone_is_told_before_anything_runs(begun, tmp_path):
    rows, folder, old = begun
    (folder / "1.json").write_text((folder / "0.json").read_text())
    message = refused(totals("shop")(rows), old, tmp_path / "v2")
    assert (
        f"1 of the 2 files that it has read have changed since, such as {folder}/1.json"
        in message
    )
    assert "changed since" in refusal(
        planned, totals("shop")(rows), old, tmp_path / "v2"
    )
    (folder / "0.json").unlink()
    message = refused(totals("shop")(rows), old, tmp_path / "v2")
    assert (
        f"1 of the 2 files that it has read have gone, such as {folder}/0.json"
        in message
    )
    assert not (tmp_path / "v2" / "metadata").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", "by a link"])
def test_input_that_has_moved_is_continued(spark, begun, tmp_path, how):
    _, folder, old = begun
    new, moved = tmp_path / "now", {}
    if how == "moved":
        folder.rename(new)
        message = refused(totals("shop")(stream(spark, new)), old, tmp_path / "v2")
        assert message.endswith(
            "to read everything again: a new checkpoint, without continues="
        )
        moved = {folder: new}
        assert f"moved={{{str(folder)!r}: {str(new)!r}}}" in message
    else:
        new.symlink_to(folder)
    batches: dict[int, Any] = {}
    land(new, 2)
    rows = totals("shop")(stream(spark, new))
    go(rows, into(batches), tmp_path / "v2", continues=old, moved=moved)
    assert [*batches] == [2]
    assert Counter(batches[2]) == in_batch(spark, new, totals("shop"), 3)
    land(new, 3)
    go(rows, into(batches), tmp_path / "v2", continues=old, moved=moved)
    assert Counter(batches[3]) == in_batch(spark, new, totals("shop"), 4)


@pytest.mark.slow
def test_continues_builds_a_state_and_does_not_keep_one(begun, tmp_path):
    rows, _, old = begun
    keep: dict[str, Any] = {"continues": old, "allow_changed_query": True}
    said = refusal(go, totals("shop")(rows), into({}), tmp_path / "v2", **keep)
    assert (
        "allow_changed_query=True keeps the old state, and continues= builds a new one"
        in said
    )


@pytest.mark.slow
def test_a_copy_is_not_continued_into_the_target_of_its_original(
    spark, begun, tmp_path
):
    rows, *_ = begun
    snapshot = sinks.snapshot(tmp_path / "totals.csv")
    whole: dict[str, Any] = {"mode": "complete"}
    first = tmp_path / "first"
    go(totals("product")(rows), snapshot, first, **whole)
    copy = clone(clone(first, tmp_path / "copy"), tmp_path / "copy of it")
    message = refused(totals("shop")(rows), copy, tmp_path / "v2", "complete", snapshot)
    assert (
        f"checkpoint {copy} is a copy of {first}, whose query writes to file" in message
    )
    other = sinks.snapshot(tmp_path / "beside.csv")
    go(totals("shop")(rows), other, tmp_path / "v2", continues=copy, **whole)
    # A backup that takes the place of its original is no copy of it.
    shutil.rmtree(first)
    (tmp_path / "copy").rename(first)
    go(totals("shop")(rows), snapshot, tmp_path / "v3", continues=first, **whole)


@pytest.mark.slow
def test_other_sources_than_before_are_refused(spark, begun, tmp_path):
    rows, folder, old = begun
    assert (
        "only files, topics and Delta tables are read again from their beginning, not"
        " rate"
        in refused(
            spark.readStream.format("rate").load().groupBy("value").count(),
            old,
            tmp_path / "v2",
        )
    )

    land(tmp_path / "more", 0)
    both = rows.union(stream(spark, tmp_path / "more"))
    assert "more is a new source" in refused(totals("shop")(both), old, tmp_path / "v2")
    assert (
        f"has read files of {folder}, and this query reads {tmp_path}/more"
        in refused(
            totals("shop")(stream(spark, tmp_path / "more")), old, tmp_path / "v2"
        )
    )


@pytest.mark.slow
def test_the_old_checkpoint_is_refused_once_it_was_continued_until_it_is_taken_up_again(
    spark, begun, tmp_path
):
    rows, folder, old = begun
    go(totals("shop")(rows), into({}), tmp_path / "v2", continues=old)
    land(folder, 2)
    with pytest.raises(
        InvalidInputError,
        match="was continued by a changed query on .*v2; start that one",
    ):
        go(totals("product")(rows), into({}), old)
    assert "was continued by a changed query" in refused(
        totals("shop")(rows), old, tmp_path / "v3"
    )

    # The new one has written no batch, so that the old one may go on in its place.
    (old / "sparkstream-kit" / "continued").unlink()
    batches: dict[int, Any] = {}
    go(totals("product")(rows), into(batches), old)
    assert Counter(batches[2]) == in_batch(spark, folder, totals("product"), 3)

    message = refused(totals("shop")(rows), old, tmp_path / "v2")
    assert (
        f"checkpoint {old} was taken up again after {tmp_path}/v2 was built from it;"
        " remove" in message
    )
    shutil.rmtree(tmp_path / "v2")
    land(folder, 3)
    go(totals("shop")(rows), into(batches), tmp_path / "v2", continues=old)
    assert Counter(batches[3]) == in_batch(spark, folder, totals("shop"), 4)


@pytest.mark.slow
def test_a_checkpoint_that_is_in_use_or_has_no_batch_or_other_files_is_refused(
    begun, tmp_path
):
    rows, _, old = begun
    query = start(
        totals("product")(rows),
        into({}),
        name="other",
        mode="update",
        checkpoint=old,
        allow_changed_query=True,
    )
    try:
        assert "is in use by query other" in refused(
            totals("shop")(rows), old, tmp_path / "v2"
        )
    finally:
        query.stop()
    (tmp_path / "empty" / "offsets").mkdir(parents=True)
    assert "no committed batch" in refused(
        totals("shop")(rows), tmp_path / "empty", tmp_path / "v2"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    assert "a folder with other files" in refused(
        totals("shop")(rows), old, tmp_path / "full"
    )
    assert (tmp_path / "full" / "thesis.txt").exists()
    assert "is the checkpoint itself" in refused(totals("shop")(rows), old, old)


@pytest.mark.slow
@pytest.mark.classic_only("a master is pretended in this process")
def test_a_disk_of_each_node_is_refused_before_anything_is_built(
    spark, begun, tmp_path, monkeypatch
):
    rows, _, old = begun
    with monkeypatch.context() as pretended:
        pretend_master(spark, pretended, "spark://host:7077")
        assert "is a local path, but the master is" in refused(
            totals("shop")(rows), old, tmp_path / "v2"
        )
    assert not (old / "sparkstream-kit" / "continued").exists()


def sql(tmp_path, name="totals", **how):
    return sinks.sql_table(
        f"sqlite:///{tmp_path}/t.db", name, **({"how": "upsert", "keys": ["k"]} | how)
    )


def keyed(key):
    return lambda rows: rows.groupBy(F.col(key).alias("k")).agg(
        F.sum("n").alias("total")
    )


@pytest.mark.slow
def test_a_query_with_types_that_the_state_has_not_is_not_noted(
    spark, folder, tmp_path
):
    def counts(kind):
        rows = quarantine.parse_json(sources.text(spark, folder), f"k {kind} NOT NULL")
        return quarantine.good_rows(rows).groupBy("k").agg(F.count("*").alias("total"))

    old, other = tmp_path / "v1", counts("DECIMAL(9,2)")
    (folder / "1").write_text('{"k": 1.5}\n')
    go(counts("DECIMAL(9,3)"), sql(tmp_path), old)
    (folder / "2").write_text('{"k": 1.5}\n')
    assert "the state has other columns or types; start on" in failure(
        go, other, sql(tmp_path), old
    )
    assert "or of other types. The rows in" in refused(
        other, old, tmp_path / "v2", sink=sql(tmp_path)
    )


@pytest.mark.slow
def test_a_changed_key_is_refused_unless_the_target_is_a_new_one(spark, tmp_path):
    folder, old, new = tmp_path / "in", tmp_path / "v1", tmp_path / "v2"
    land(folder, 0, 1)
    rows = stream(spark, folder)
    go(keyed("product")(rows), sql(tmp_path), old)
    message = refused(keyed("shop")(rows), old, new, sink=sql(tmp_path))
    assert "groups by shop" in message
    assert "give it a new target" in message
    fewer = keyed("product")(rows).withColumn("total", F.col("total").cast("INT"))
    assert "has other columns than k, total" in refused(
        fewer, old, new, sink=sql(tmp_path)
    )
    upper = rows.withColumn("product", F.upper("product"))
    assert "upper(product) AS product" in refused(
        keyed("product")(upper), old, new, sink=sql(tmp_path)
    )
    hours = sql(tmp_path, "hours", how="append", keys=[])
    go(BY_WINDOW(rows), hours, tmp_path / "hourly", mode="append")
    for other in (hourly("product", length="30 minutes"), sessions):
        assert "it a new target" in refused(
            other(rows), tmp_path / "hourly", new, "append", hours
        )
    assert not new.exists()

    land(folder, 2)
    go(
        keyed("shop")(rows),
        sql(tmp_path, "by_shop", take_over=True),
        new,
        continues=old,
    )
    truth = keyed("shop")(table(spark, folder, range(3))).collect()
    assert Counter(from_table(tmp_path, "SELECT * FROM by_shop")) == Counter(
        map(tuple, truth)
    )


NEW_TARGETS: dict[str, Callable[[Any, str], Any]] = {
    "batch_files": lambda folder, name: sinks.batch_files(folder / name),
    "sql_table": sql,
    "fan_out": lambda folder, name: sinks.fan_out(
        sinks.batch_files(folder / name), sql(folder, "kept")
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEW_TARGETS)
def test_a_new_target_begins_with_the_first_batch_of_the_continuation(
    spark, tmp_path, kind
):
    """Also if that batch comes after a restart; a later loss is refused, as of any target."""
    target, folder = NEW_TARGETS[kind], tmp_path / "in"
    old, new = tmp_path / "v1", tmp_path / "v2"
    land(folder, 0, 1)
    rows = stream(spark, folder)
    begun_by = keyed("product")(rows)
    changed = begun_by if kind == "fan_out" else keyed("shop")(rows)
    go(begun_by, target(tmp_path, "one"), old)
    line = refusal(go, begun_by, target(tmp_path, "two"), old)
    assert "holds none of this query's batches: the query has written to " in line
    assert re.search(
        r"one\b.* so far; give it that target again; or, to write the missing", line
    )
    assert "deleted" not in line
    for dry_run in (True, False):
        with suppress(DryRun):
            go(changed, target(tmp_path, "two"), new, continues=old, dry_run=dry_run)
    land(folder, 2)
    for _ in range(2):
        go(changed, target(tmp_path, "two"), new, continues=old)
    land(folder, 3)
    go(changed, target(tmp_path, "two"), new)
    if kind != "sql_table":
        made = sorted(file.name for file in (tmp_path / "two").glob("batch=*"))
        assert made == ["batch=000002", "batch=000003"]
        shutil.rmtree(tmp_path / "two")
        land(folder, 4)
        line = refusal(go, changed, target(tmp_path, "two"), new)
        assert "none of this query's batches: it was deleted" in line


@pytest.mark.slow
def test_a_build_that_fails_shuts_no_driver_out_of_the_target(spark, tmp_path):
    epoch = partial(from_table, tmp_path, "SELECT epoch FROM sparkstream_ledger")
    folder, old, new = tmp_path / "in", tmp_path / "v1", tmp_path / "v2"
    land(folder, 0, 1)
    rows = stream(spark, folder)
    go(keyed("product")(rows), sql(tmp_path), old)
    assert epoch() == [(1,)]
    failing = rows.where("assert_true(n < 0, 'no such n') IS NULL")
    assert "no such n" in refused(
        keyed("product")(failing), old, new, sink=sql(tmp_path)
    )
    assert epoch() == [(1,)]
    go(keyed("product")(rows), sql(tmp_path), new, continues=old)
    assert epoch() == [(2,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["written", "not written", "written, and its plan lost"]
)
def test_a_batch_that_was_planned_and_not_committed_counts_once(
    spark, settings, tmp_path, kind
):
    """The old query was killed after its sink had the batch, or before."""
    written = kind != "not written"
    settings({PARTITIONS: "2"})
    folder, old, new = tmp_path / "in", tmp_path / "v1", tmp_path / "v2"
    target = tmp_path / "out"
    land(folder, 0, 1)
    rows = stream(spark, folder)
    go(totals("product")(rows), sinks.batch_files(target, format="json"), old)
    if not written:
        shutil.copytree(target, tmp_path / "before")
    land(folder, 2)
    go(totals("product")(rows), sinks.batch_files(target, format="json"), old)
    for name in ("2", ".2.crc"):
        (old / "commits" / name).unlink(missing_ok=True)
        if kind == "written, and its plan lost":
            (old / "offsets" / name).unlink(missing_ok=True)
    settings({PARTITIONS: "3"})
    if not written:
        shutil.rmtree(target)
        (tmp_path / "before").rename(target)
    land(folder, 3)
    changed = totals("product", what="CAST(max(amount) AS DECIMAL(20, 2))")
    go(changed(rows), sinks.batch_files(target, format="json"), new, continues=old)
    said = spark.read.json(str(target)).orderBy("batch", "product").collect()
    of_batch = {
        n: {row.product: row.total for row in said if row.batch == n} for n in range(4)
    }

    def truth(transform, files):
        return {
            row.product: float(row.total)
            for row in transform(table(spark, folder, files)).collect()
        }

    assert of_batch[1] == truth(totals("product"), range(2))
    assert of_batch[2] == truth(totals("product") if written else changed, range(3))
    assert of_batch[3] == truth(changed, range(4))


@pytest.mark.slow
def test_the_whole_result_is_there_before_any_new_row(spark, begun, tmp_path, capsys):
    rows, folder, old = begun
    target = tmp_path / "totals.csv"
    go(
        totals("shop")(rows),
        sinks.snapshot(target),
        tmp_path / "v2",
        "complete",
        continues=old,
    )
    assert capsys.readouterr().err.endswith(": running batch 1 of 1 …\n")
    truth = {
        row.shop: str(row.total)
        for row in totals("shop")(table(spark, folder, range(2))).collect()
    }
    assert (
        dict(line.split(",") for line in target.read_text().splitlines()[1:]) == truth
    )


@pytest.mark.slow
def test_a_build_is_cut_into_batches_of_bounded_size(
    spark, tmp_path, monkeypatch, capsys
):
    """Spark has joined the first entries of the log, as in a checkpoint of many batches."""
    folder, old, new = tmp_path / "in", tmp_path / "v1", tmp_path / "v2"
    land(folder, *range(11))
    rows = stream(spark, folder)
    go(totals("product")(rows), into({}), old)
    for file in Logs(old).entries("sources/0").values():
        if int(file.stem) < 9:
            file.unlink()
    monkeypatch.setattr(replay, "_MOST_FILES", 4)
    batches: dict[int, Any] = {}
    land(folder, 11)
    go(totals("shop")(rows), into(batches), new, continues=old)
    assert re.findall(r"running batch (\d) of 3", capsys.readouterr().err) == [
        "1",
        "2",
        "3",
    ]
    plans = {
        batch: Logs(new).plan(batch).files[0] for batch in Logs(new).entries("offsets")
    }
    assert plans == {7: None, 8: 3, 9: 7, 10: 10, 11: 11}
    assert Counter(batches[11]) == in_batch(spark, folder, totals("shop"), 12)
