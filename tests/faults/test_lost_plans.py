"""A plan that a checkpoint lost or its backup never had: no sink loses or doubles a row."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import environment
from faults import targets
from faults.drivers import ended, one_line, take
from pyspark.errors import StreamingQueryException
from support import kits_sinks, mariadb, postgresql, sink_contract
from support.checkpoint_queries import contents
from support.sink_contract import DAMAGES, Adaptor, Stream, cut
from support.sql import sql

from sparkstream_kit import run, sinks, sources, start

# Of each way to write: the output mode and the keys.
MODES = {
    "append": ("append", ()),
    "upsert": ("update", ["k"]),
    "replace": ("complete", ()),
}


def adaptor(sink_of, read, folder, how):
    """Return one way to write to a system: totals are rows of two columns, and numbers of one."""
    mode, keys = MODES[how]

    def rows():
        return sorted(row[0] if how == "append" else tuple(row) for row in read(folder))

    return Adaptor(sink_of(folder, how=how, keys=keys), rows, mode)


def database(server, folder, how):
    url = server.server().database()

    def sink_of(_, **given):
        return sinks.sql_table(url, "t", **given)

    return adaptor(sink_of, lambda _: sql(url, "SELECT * FROM t"), folder, how)


def directories(folder, _):
    def rows():
        parts = (folder / "out").glob("[!._]*/part-*")
        return sorted(
            json.loads(line)["n"]
            for part in parts
            for line in part.read_text().splitlines()
        )

    return Adaptor(sinks.batch_files(folder / "out", format="json"), rows)


SYSTEMS: dict[str, Callable[[Path, str], Adaptor]] = {
    "sqlite": partial(adaptor, kits_sinks.table, kits_sinks.from_table),
    "postgresql": partial(database, postgresql),
    "mariadb": partial(database, mariadb),
    "delta": partial(adaptor, kits_sinks.delta, kits_sinks.from_delta),
    "iceberg": partial(adaptor, kits_sinks.iceberg, kits_sinks.from_iceberg),
    "directories": directories,
}
SINKS = [
    f"{system} {how}" for system in ("sqlite", "delta", "iceberg") for how in MODES
]
SINKS += ["postgresql append", "mariadb upsert", "directories"]


@pytest.fixture
def stream_to(spark, tmp_path):
    """A stream to one of the sinks."""

    def made(sink, target=tmp_path):
        system, _, how = sink.partition(" ")
        return Stream(spark, tmp_path, SYSTEMS[system](target, how))

    return made


@pytest.fixture
def restored(stream_to):
    """A stream into a table, whose checkpoint is from a backup of a batch before."""
    stream = stream_to("sqlite append")
    sink_contract.restored(stream, older=1)
    return stream


@pytest.fixture(params=SINKS)
def stream(request, stream_to):
    return stream_to(request.param)


# Every damage for one sink of each kind; the first two for systems that only keep a
# text elsewhere.
DAMAGED = [
    (sink, damage)
    for sink in SINKS
    for damage in (
        DAMAGES
        if sink in ("sqlite append", "sqlite upsert", "directories")
        else list(DAMAGES)[:2]
    )
]


@pytest.mark.fast(
    "sqlite append-*",
    "sqlite upsert-plan cut",
    "directories-files cut*",
    "delta append-plan cut",
    "iceberg append-plan cut",
)
@pytest.mark.parametrize(("sink", "damage"), DAMAGED)
def test_a_damaged_checkpoint_comes_back_exact(stream_to, sink, damage):
    sink_contract.damaged(stream_to(sink), damage)


@pytest.mark.fast(
    "sqlite append-*", "delta upsert-1", "iceberg append-1", "directories-1"
)
@pytest.mark.parametrize(
    ("sink", "older"), [*((sink, 1) for sink in SINKS), ("sqlite append", 0)]
)
def test_a_checkpoint_from_a_backup_goes_on_exact(stream_to, sink, older):
    stream = stream_to(sink)
    sink_contract.restored(stream, older)
    stream.finish()
    stream.check()


@pytest.mark.fast("sqlite *", "delta replace", "directories")
def test_a_batch_that_plain_pyspark_plans_anew_is_refused_and_then_comes_as_it_was(
    stream,
):
    sink_contract.restored(stream, older=1)
    writer = stream.adaptor.sink(stream.frame().writeStream).outputMode(
        stream.adaptor.mode
    )
    plain = (
        writer.option("checkpointLocation", str(stream.checkpoint))
        .trigger(availableNow=True)
        .start()
    )
    if stream.adaptor.mode == "complete":
        plain.awaitTermination()  # the whole result, which may be written again
    else:
        with pytest.raises(
            StreamingQueryException,
            match="has another one of this number: .* sparkstream_kit.start puts",
        ):
            plain.awaitTermination()
    stream.finish()
    stream.check()


@pytest.mark.parametrize(
    "sink", ["directories", "sqlite upsert", "delta upsert", "iceberg upsert"]
)
def test_a_checkpoint_two_batches_older_is_refused_with_the_way_on(
    stream_to, tmp_path, sink
):
    stream = stream_to(sink)
    sink_contract.restored(stream, older=2)
    line = stream.refused()
    assert "is replayed, but" in line
    if sink == "directories":
        assert line.endswith("again, remove the directories from batch=000001 on")
        for number in (1, 2):
            shutil.rmtree(tmp_path / "out" / f"batch={number:06}")
    elif sink == "sqlite upsert":
        sql(f"sqlite:///{tmp_path}/t.db", line.rpartition("again, run ")[2])
    else:
        subprocess.run(
            shlex.split(line.rpartition("again, run ")[2]),
            env=environment(),
            check=True,
        )
    stream.finish()
    stream.check()


@pytest.mark.parametrize("sink", ["sqlite upsert", "directories"])
def test_a_sink_put_back_from_an_older_backup(stream_to, tmp_path, sink):
    target, backup = tmp_path / "target", tmp_path / "backup"
    target.mkdir()
    stream = stream_to(sink, target)
    for copy in (True, False):
        stream.land(2 * sink_contract.FILES)
        stream.go()
        if copy:
            shutil.copytree(target, backup)
    shutil.rmtree(target)
    backup.rename(target)
    stream.land(1)
    assert "batch 4 is next, " in stream.refused()
    stream.finish()
    stream.check()


def test_a_job_with_state_on_two_partitions_comes_back_exact(tmp_path, launch):
    # As a user runs it: with the profile `local`, whose last batch of a run reads no
    # rows.
    shop, target = targets.events(tmp_path, f"sqlite:///{tmp_path}/shop.db")
    command = [word for word in target.command if word not in targets.QUICK]
    shop.land(2)
    ended(launch("python", *command, "--available-now"))
    last = target.checkpoint / "offsets" / str(target.planned())
    cut(last)
    shop.land(2)
    take(one_line(launch("python", *command, "--available-now"), 2))
    driver = launch("python", *command, "--available-now")
    ended(driver)
    assert f"has lost the plan of batch {last.name}, whose rows" in driver.errors
    for sink in target.sinks:
        assert sink.totals() == sink.truth()


def test_an_entry_that_holds_all_before_it_is_put_back_whole(stream_to):
    # Spark compacts every tenth entry of a file source's log.
    stream = stream_to("sqlite append")
    sink_contract.restored(stream, older=1, batches=9)
    stream.go()
    assert (stream.checkpoint / "sources" / "0" / "9.compact").exists()
    stream.land(1)
    stream.go()
    stream.check()


def test_a_plan_is_put_back_where_the_input_has_moved(restored, tmp_path):
    stream, moved = restored, tmp_path / "moved"
    stream.input.rename(moved)
    frame = sources.csv(
        stream.spark, moved, schema="n INT", max_files_per_trigger=sink_contract.FILES
    )
    how: dict[str, Any] = {
        "name": "contract",
        "checkpoint": stream.checkpoint,
        "availableNow": True,
    }
    run(start(frame, stream.adaptor.sink, moved={stream.input: moved}, **how))
    stream.check()


def test_a_batch_whose_files_have_gone_is_not_put_back_without_them(restored, tmp_path):
    lost = restored.input / "002.csv"
    lost.rename(tmp_path / "away")
    assert (
        f"the files that it reads are needed, and {lost} has gone; restore it first"
        in restored.refused()
    )
    (tmp_path / "away").rename(lost)
    restored.finish()
    restored.check()


def test_an_input_that_was_ended_goes_on_by_the_printed_way(stream_to, tmp_path):
    # Its last batch is the drain's, which a rewind gives up: what comes now is another
    # batch of that number.
    stream = stream_to("sqlite upsert")
    stream.land(2)
    run(stream.started(), drain=True)
    stream.land(1)
    stream.take(stream.refused())
    line = stream.refused()
    assert "has the batch that ended the input under this number" in line
    sql(f"sqlite:///{tmp_path}/t.db", line.rpartition("again, run ")[2])
    stream.finish()
    stream.check()


def test_a_dry_run_puts_nothing_back(restored):
    before = contents(restored.checkpoint)
    restored.started(dry_run=True)
    lock = restored.checkpoint / "sparkstream-kit" / "lock"
    assert {**contents(restored.checkpoint), lock: b""} == {**before, lock: b""}
