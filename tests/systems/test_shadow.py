"""`checkpoints.shadow` and `batch` over topics and Delta tables.

They read exactly what the query has read.

offsets  0   4   8  12  16  20  24
old      ─────────────────▶|         what its target holds
new      ─────────────────▶| · · ·   records that came since do not count
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import process, refusal
from systems.test_continues import hourly, plain, totals

from sparkstream_kit import run, sinks, sources, start
from sparkstream_kit.checkpoints import batch, shadow
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import replay


def few(*columns, where="true"):
    return lambda rows: rows.where(where).selectExpr("product", "n", *columns)


def rows_into(home):
    return sinks.batch_files(home / "out", format="json")


def total_into(home):
    return sinks.snapshot(home / "totals.csv")


# Output mode, sink, the query, a change that alters no row, and one that does.
CHANGES: dict[str, tuple[str, Any, Any, Any, Any]] = {
    "rows": ("append", rows_into, few(), few(where="n > -1"), few(where="n > 0")),
    "totals": (
        "complete",
        total_into,
        totals("product"),
        totals("product", what="sum(n + 1) - count(*)"),
        totals("product", where="n <> 7"),
    ),
    "windows": (
        "append",
        rows_into,
        hourly("shop"),
        hourly("shop", delay="300 seconds", where="n > -1"),
        hourly("shop", delay="1 hour"),
    ),
}
HOW: Any = {"name": "totals"}


def wrote(job, home, what="totals"):
    """Run a query in two starts over the sales of 70 minutes; return how to compare.

    One more sale is late.
    """
    mode, sink_of, before, *_ = CHANGES[what]
    how = {**HOW, "mode": mode, "checkpoint": job.old}
    for minutes in (range(34), (*range(34, 70), 3)):
        job.send(*minutes)
        run(start(before(job.rows()), sink_of(home), availableNow=True, **how))

    def compare(after, **options):
        return shadow(after(job.rows(**options)), sink_of(home), **how)

    return compare


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_compared_by_what_the_query_has_read(what, any_job, tmp_path):
    *_, harmless, harmful = CHANGES[what]
    compare = wrote(any_job, tmp_path, what)
    any_job.send(*range(70, 80))  # not read yet
    found = compare(harmless)
    [same] = found.tables
    assert (same.same, same.counts[0] > 0, found.exit_code) == (True, True, 0), str(
        found
    )
    found = compare(harmful)
    assert found.exit_code == 3, str(found)


def test_a_topic_is_read_in_large_batches_and_from_where_the_query_began(
    topic, tmp_path, monkeypatch
):
    monkeypatch.setattr(replay, "_MOST_RECORDS", 7)
    topic.send(*range(5))  # which are not read
    how = {**HOW, "mode": "complete", "checkpoint": topic.old, "availableNow": True}
    run(
        start(
            totals("product")(topic.rows(starting="latest")),
            total_into(tmp_path),
            **how,
        )
    )
    assert wrote(topic, tmp_path)(totals("product")).exit_code == 0


def test_the_running_query_reads_on(topic, tmp_path):
    compare = wrote(topic, tmp_path)
    how = {**HOW, "mode": "complete", "checkpoint": topic.old}
    query = start(totals("product")(topic.rows()), total_into(tmp_path), **how)
    try:
        topic.send(*range(70, 75))
        query.processAllAvailable()
        found = compare(totals("product"))
        assert (found.exit_code, found.tables[0].counts[0]) == (0, 3), str(found)
        topic.send(75)
        query.processAllAvailable()
        assert query.isActive
    finally:
        query.stop()


@pytest.mark.parametrize("fails", [True, False])
def test_records_that_are_gone_are_named_before_the_target_is_read(
    spark, broker, topic, tmp_path, fails
):
    compare, last = wrote(topic, tmp_path), Logs(topic.old).done
    broker.drop_before(topic.topic, {0: 4, 1: 1})
    (tmp_path / "totals.csv").unlink()
    gone = (
        f"5 records of topic {topic.topic} that were still to be read (partition 0: 4,"
        " partition 1: 1)"
    )
    assert (
        refusal(compare, totals("product"), failOnDataLoss=fails)
        == f"checkpoint {topic.old} cannot be compared: Kafka at {broker.servers} has"
        f" deleted {gone}"
    )
    rows = topic.rows(failOnDataLoss=fails)
    said = refusal(batch, spark, topic.old, 0, rows)
    assert said.startswith(
        f"batch 0 of checkpoint {topic.old} cannot be opened: Kafka at"
        f" {broker.servers} "
    )
    assert batch(spark, topic.old, last, rows).count() > 0
    broker.delete(topic.topic)
    broker.topic(topic.topic, 2)
    topic.send(*range(80))
    made_again = f"topic {topic.topic} was deleted and made again since"
    assert made_again in refusal(compare, totals("product"))
    assert made_again in refusal(batch, spark, topic.old, last, rows)


def test_a_table_of_which_files_are_gone_is_refused(spark, table, tmp_path):
    compare = wrote(table, tmp_path)
    read = [*Path(table.table).glob("part=*/*.parquet")]
    spark.sql(f"OPTIMIZE delta.`{table.table}`")
    assert compare(totals("product")).exit_code == 0, "as the query has read it"
    for file in read:  # as VACUUM does
        file.unlink()
    (tmp_path / "totals.csv").unlink()
    assert f"{len(read)} files of version" in refusal(compare, totals("product"))
    said = refusal(batch, spark, table.old, 0, table.rows())
    assert said.startswith(f"batch 0 of checkpoint {table.old} cannot be opened: ")
    assert any(file.name in said for file in read)


def opened(spark, job, numbers, made):
    """Return the rows of some batches of a job."""
    return [
        plain(batch(spark, job.old, number, made(job.rows()))) for number in numbers
    ]


def test_a_batch_is_opened_with_what_it_read_and_what_the_sink_got(spark, any_job):
    got: dict[int, Any] = {}
    for minutes in (range(9), range(9, 20)):
        any_job.send(*minutes)
        got |= any_job.go(totals("product"), any_job.old, "update")
    any_job.send(*range(20, 25))  # not read yet
    assert opened(spark, any_job, got, totals("product")) == [*got.values()]
    read = opened(spark, any_job, got, lambda rows: rows.select("n"))
    assert sorted(int(n) for each in read for (n,) in each.elements()) == [*range(20)]


def test_a_table_by_its_name_is_compared(spark, table, tmp_path):
    wrote(table, tmp_path)
    name = f"sales_{tmp_path.name}"
    spark.sql(f"CREATE TABLE {name} USING delta LOCATION '{table.table}'")
    by_name = totals("product")(sources.delta(spark, table=name))
    found = shadow(by_name, total_into(tmp_path), mode="complete", checkpoint=table.old)
    assert (found.exit_code, found.tables[0].counts[0]) == (0, 3), str(found)


CONNECTED = """
import sys
from sparkstream_kit import get_session, sinks, sources, start
from sparkstream_kit.checkpoints import batch, shadow
from sparkstream_kit.errors import InvalidInputError
servers, topic, old, new, out = sys.argv[1:]
spark = get_session("changed")
records = sources.kafka(spark, servers, topic)
rows, counts = records.select("value"), records.groupBy("partition").count()
latest = sinks.latest("totals")
for call in (
    lambda: shadow(rows, sinks.snapshot(out), mode="complete", checkpoint=old),
    lambda: batch(spark, old, 0, rows),
    lambda: start(counts, latest, name="t", mode="complete", checkpoint=new, continues=old),
):
    try:
        call()
    except InvalidInputError as error:
        print(error)
"""


def test_on_spark_connect_a_topic_is_refused(broker, topic, connect_to_kafka, tmp_path):
    topic.send(*range(6))
    topic.go(totals("product"), topic.old)
    out = tmp_path / "out.csv"
    out.write_text("product,total\n")
    program = [
        sys.executable,
        "-c",
        CONNECTED,
        broker.servers,
        topic.topic,
        topic.old,
        topic.new,
        out,
    ]
    compared, opened, continued = process(
        program, env=os.environ | connect_to_kafka
    ).stdout.splitlines()
    why = (
        "on Spark Connect Kafka cannot be asked what it still has; use a session of"
        " this process"
    )
    assert (
        compared
        == f"checkpoint {topic.old} cannot be compared: {why} (unset SPARK_REMOTE)"
    )
    assert (
        opened == f"batch 0 of checkpoint {topic.old} cannot be opened: {why} (unset"
        " SPARK_REMOTE)"
    )
    assert "on Spark Connect Kafka cannot be asked what it still has" in continued
    assert not topic.new.exists()
