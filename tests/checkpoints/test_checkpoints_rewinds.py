"""`clone` and `rewind`: the copy goes on, and what was rewound comes again with the same rows."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from checkpoints.test_restarts import transformed
from conftest import environment, process, refusal
from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer
from support.checkpoint_queries import (
    CHANGELOG,
    FORMAT_V2,
    ROCKSDB,
    land,
    noted,
    run,
    stream,
    totals,
)
from support.crashes import Crash, crash_at

from sparkstream_kit import checkpoints, joins, models, sinks, start
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate.check import damage
from sparkstream_kit.errors import InvalidInputError


def tree(folder):
    """Return the files of a checkpoint, without what belongs to the kit."""
    files = {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file()
    }
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if "sparkstream-kit" not in name
    }


# --- rewind


@pytest.mark.slow
def test_what_was_rewound_comes_again_with_the_same_rows(spark, made, checkpoint):
    folder, _, batches = made
    checkpoints.rewind(checkpoint, to=1, apply=True)
    assert damage(Logs(checkpoint)) is None
    assert checkpoints.check(checkpoint) == []
    assert run(totals(spark, folder), checkpoint) == batches[2:]
    assert checkpoints.show(checkpoint).committed == 5


@pytest.mark.slow
@pytest.mark.parametrize("what", ["model", "table"])
def test_a_batch_that_is_planned_anew_takes_the_version_that_is_current(
    spark, tmp_path, what, finish
):
    folder, checkpoint, table = (
        tmp_path / "in",
        tmp_path / "checkpoint",
        tmp_path / "table.json",
    )
    land(folder, 0, 1, 2, 3)
    for version in ("2", "1"):
        says = SQLTransformer(
            statement=f"SELECT key, '{version}' AS owner FROM __THIS__"  # noqa: S608
        )
        models.publish(PipelineModel([says]), tmp_path / "models", version)
    part = {
        "model": models.scorer(tmp_path / "models"),
        "table": joins.reloading(
            "owners", lambda session: session.read.json(str(table)), on="key"
        ),
    }[what]

    def versions(current):
        models.switch(tmp_path / "models", current)
        table.write_text(
            "".join(f'{{"key": "{key}", "owner": "{current}"}}\n' for key in "abc")
        )
        out = tmp_path / f"out-{current}"
        kept = sinks.foreach_batch(
            lambda batch, number: batch.write.json(f"{out}/batch={number}")
        )
        finish(
            stream(spark, folder).select("key"),
            kept.taking(part),
            "append",
            checkpoint=checkpoint,
        )
        rows = spark.read.json(str(out)).select("batch", "owner").distinct().collect()
        return {
            batch: {row.owner for row in rows if row.batch == batch}
            for batch in range(4)
        }

    assert versions("1") == {number: {"1"} for number in range(4)}
    said = checkpoints.rewind(checkpoint, to=0, apply=True)
    assert (
        "Batch 1 keeps the version of a model or table that it had. From batch 2 on\n"
        in str(said)
    )
    assert versions("2") == {0: set(), 1: {"1"}, 2: {"2"}, 3: {"2"}}


@pytest.mark.parametrize(
    "conf", [ROCKSDB, CHANGELOG, FORMAT_V2], ids=["zips", "changelog", "format-v2"]
)
@pytest.mark.slow
def test_so_it_does_from_rocksdb_whose_damage_is_told(spark, made, tmp_path, conf):
    folder, checkpoint, batches = made[0], tmp_path / "checkpoint", made[2]
    assert run(totals(spark, folder), checkpoint, **conf) == batches
    assert (
        str(checkpoints.show(checkpoint).states[0])
        == "stateStoreSave, 1 partition, RocksDB"
    )
    (newest,) = [
        file
        for file in checkpoint.glob("state/0/0/6*")
        if file.suffix in (".zip", ".changelog")
    ]
    newest.rename(tmp_path / "away")
    assert damage(Logs(checkpoint)) is not None
    (tmp_path / "away").rename(newest)
    assert damage(Logs(checkpoint)) is None
    assert checkpoints.check(checkpoint) == []
    checkpoints.rewind(checkpoint, to=1, apply=True)
    # Nothing of it is loaded yet
    copy = checkpoints.clone(checkpoint, tmp_path / "copy")
    assert run(totals(spark, folder), copy, **conf) == batches[2:]
    assert checkpoints.check(copy) == []


@pytest.mark.slow
def test_an_old_snapshot_is_not_read_as_if_it_were_of_the_new_batches(spark, tmp_path):
    folder, checkpoint = tmp_path / "in", tmp_path / "checkpoint"
    land(folder, 0, 1, 2)
    run(totals(spark, folder), checkpoint)
    # Here a delta holds every key, and so it is a snapshot, too: Spark's own come after
    # a minute.
    state = checkpoint / "state/0/0"
    shutil.copy(state / "3.delta", state / "3.snapshot")
    checkpoints.rewind(checkpoint, to=0, apply=True)
    (folder / "2 é%.json").write_text('{"key": "a", "n": 1000}\n')
    os.utime(folder / "2 é%.json", (2, 2))
    assert run(totals(spark, folder), checkpoint)[-1] == (2, [["a", "1010"]])
    # Whose state nobody has in memory yet
    copy = checkpoints.clone(checkpoint, tmp_path / "copy")
    land(folder, 3)
    assert run(totals(spark, folder), copy) == [
        (3, [["a", "1040"], ["b", "43"], ["c", "46"]])
    ]


@pytest.mark.slow
def test_the_file_log_of_a_long_run_can_be_gone_back_in(spark, tmp_path):
    retained = {
        "spark.sql.streaming.minBatchesToRetain": "3",
        "spark.sql.streaming.fileSource.log.compactInterval": "3",
        "spark.sql.streaming.fileSource.log.cleanupDelay": "0",
    }
    land(tmp_path / "in", *range(9))
    batches = run(
        stream(spark, tmp_path / "in").select("n"),
        tmp_path / "made",
        "append",
        **retained,
    )
    oldest = checkpoints.show(tmp_path / "made").oldest
    assert oldest
    assert not (tmp_path / "made/sources/0/2.compact").exists()
    for batch in range(oldest, 8):
        copy = checkpoints.clone(tmp_path / "made", tmp_path / f"copy-{batch}")
        checkpoints.rewind(copy, to=batch, apply=True)
        again = run(
            stream(spark, tmp_path / "in").select("n"), copy, "append", **retained
        )
        assert again == batches[batch + 1 :]


def test_a_dry_run_changes_nothing_and_says_what_would_be(made, checkpoint):
    noted(checkpoint, sinks=["latest totals: replaces what it has"])
    before, seen = tree(checkpoint), checkpoints.rewind(checkpoint, to=1)
    text = str(seen)
    assert tree(checkpoint) == before
    assert not seen.applied
    first = f"     159 B  {made[0]}/2 é%.json\n"
    assert text.startswith(
        f"{checkpoint}: batches 2 to 5 run again, with 4 files:\n{first}"
    )
    assert text.endswith(
        """
Batch 2 will have the same rows as before.
From batch 3 on Spark plans anew: the same rows, cut into batches by what the
sources hold then, and by maxFilesPerTrigger and the like.

What the sinks make of it:
  latest totals: replaces what it has

"""
        f"Nothing is changed yet. The rewind moves 14 files to\n  {seen.backup}"
    )


@pytest.mark.slow
def test_the_last_batch_alone_comes_again_exactly(checkpoint):
    text = str(checkpoints.rewind(checkpoint, to=4))
    assert f"{checkpoint}: batch 5 runs again, with 1 file:\n" in text
    assert (
        "\nBatch 5 will have the same rows as before.\n\nWhat the sinks make of it:\n "
        " one that keeps a record of its batches keeps a batch with the same rows"
        " once,\n" in text
    )
    assert "plans anew" not in text


@pytest.mark.slow
def test_a_plan_that_is_lost_comes_back_from_a_sink_with_a_ledger(
    spark, tmp_path, finish, caplog
):
    def load():
        out = sinks.batch_files(tmp_path / "out", format="json")
        finish(stream(spark, tmp_path / "in").select("n"), out, "append")
        return {
            path.parent.name: path.read_text()
            for path in (tmp_path / "out").glob("batch=*/part-*")
        }

    land(tmp_path / "in", 0, 1, 2)
    written = load()
    (tmp_path / "ckpt/offsets/2").write_text("v1\n")  # cut off
    said = str(checkpoints.rewind(tmp_path / "ckpt", to=1, apply=True))
    assert "\nFrom batch 2 on Spark plans anew: " in said
    assert (
        "\nBut if a sink with a ledger has appended or upserted batch 2, start puts the"
        " plan\n" in said
    )
    land(tmp_path / "in", 3)
    assert written.items() < load().items()
    assert f"folder {tmp_path}/out has; it is put back, so that " in caplog.text


def test_a_rewind_says_what_the_sinks_have_said_of_it(checkpoint):
    note = noted(checkpoint, sinks=["latest totals: replaces what it has"])
    text = str(checkpoints.rewind(checkpoint, to=1))
    assert (
        "\n\nWhat the sinks make of it:\n  latest totals: replaces what it"
        " has\n\nNothing" in text
    )
    note.write_text('{"name": "totals", "mode": "com')
    assert checkpoints.rewind(checkpoint, to=1).sinks == ()


@pytest.mark.slow
def test_start_notes_what_each_sink_makes_of_a_rewind(spark, tmp_path, finish):
    land(tmp_path / "in", *range(3))
    database = sinks.sql_table(
        f"sqlite:///{tmp_path}/totals.db", "totals", how="replace"
    )
    sink = sinks.fan_out(
        sinks.latest("rewound"), database, sinks.snapshot(tmp_path / "totals.csv")
    )
    frame = totals(spark, tmp_path / "in").withColumnRenamed("sum(n)", "n")
    finish(frame, sink, "complete")
    seen = checkpoints.rewind(tmp_path / "ckpt", to=0)
    assert [note.split()[0] for note in seen.sinks] == [
        "latest",
        "sql_table",
        "snapshot",
    ]
    assert " ".join(seen.sinks[1].split()[:5]) in str(seen)


@pytest.mark.slow
def test_a_checkpoint_is_free_once_its_query_has_ended(spark, tmp_path, monkeypatch):
    """`awaitTermination` returns before the thread that unlocks; here that one never runs."""
    monkeypatch.setattr("sparkstream_kit._internal.threads.in_thread", lambda *_: None)
    land(tmp_path / "in", *range(3))
    kept = tmp_path / "checkpoint"
    how = {
        "name": "totals",
        "mode": "complete",
        "checkpoint": kept,
        "availableNow": True,
    }
    for _ in range(2):
        query = start(totals(spark, tmp_path / "in"), sinks.latest("free"), **how)
        query.awaitTermination()
        assert not checkpoints.show(kept).in_use
        checkpoints.clone(kept, tmp_path / f"copy-{query.runId}")
        done = checkpoints.rewind(kept, to=0, apply=True)
        # As `start` has noted it
        assert [note.split()[0] for note in done.sinks] == ["latest"]


def test_a_rewind_can_be_undone_until_the_next_start(checkpoint):
    before = tree(checkpoint)
    nothing = checkpoints.rewind(checkpoint, to=5, apply=True)
    assert str(nothing) == f"{checkpoint} is at batch 5; nothing to rewind"
    assert tree(checkpoint) == before
    done = checkpoints.rewind(checkpoint, to=2, apply=True)
    assert not {"commits/3", "offsets/4", "sources/0/4", "state/0/0/4.delta"} & set(
        tree(checkpoint)
    )
    assert {"commits/2", "offsets/3", "sources/0/3", "state/0/0/3.delta"} <= set(
        tree(checkpoint)
    )
    *_, command = str(done).splitlines()
    subprocess.run(command, shell=True, check=True)  # noqa: S602 - as it is printed for the user
    assert tree(checkpoint) == before


@pytest.mark.slow
def test_a_command_to_copy_takes_any_path(checkpoint, tmp_path):
    folder = checkpoint.rename(tmp_path / "it's [1] & $HOME")
    before = tree(folder)
    (folder / "state/0/0/6.delta").rename(tmp_path / "away")
    line = damage(Logs(folder))
    assert line is not None
    back, look = re.findall("sparkstream checkpoint .*?(?=; all that is wrong|$)", line)
    looked = copied(look)
    assert (looked.returncode, looked.stdout.endswith(f"{back}\n")) == (1, True)
    done = copied(f"{back} --apply")
    assert damage(Logs(folder)) is None
    *_, undo = done.stdout.splitlines()
    assert copied(undo).returncode == 0
    (tmp_path / "away").rename(folder / "state/0/0/6.delta")
    assert tree(folder) == before


def copied(command):
    """Run a command as a user does who copies it."""
    return process(["bash", "-c", command], env=environment())


@pytest.mark.slow
def test_an_interrupted_rewind_is_damage_until_it_is_run_again(
    made, spark, checkpoint, tmp_path, monkeypatch
):
    """Killed after any move, it leaves what Spark refuses to go on from, or what it found."""
    moves = len(checkpoints.rewind(checkpoint, to=2).moved)
    assert moves > 8
    for kept in range(moves):
        copy = shutil.copytree(checkpoint, tmp_path / f"copy-{kept}")
        with monkeypatch.context() as patch, pytest.raises(Crash):
            crash_at(patch, kept, [(Path, "rename")], [])
            checkpoints.rewind(copy, to=2, apply=True)
        assert (damage(Logs(copy)) is None) == (kept == 0)
        checkpoints.rewind(copy, to=2, apply=True)
        assert damage(Logs(copy)) is None
        assert checkpoints.show(copy).committed == 2
    assert run(totals(spark, made[0]), copy) == made[2][3:]


@pytest.mark.parametrize(
    ("to", "line"),
    [
        (
            -1,
            (
                "{} cannot be rewound to batch -1: it keeps batches 0 to 5; give a"
                " batch that it keeps"
            ),
        ),
        (
            1,
            (
                "{0} cannot be rewound to batch 1: {0}/state/0/0/2.delta is missing; no"
                " other is whole"
            ),
        ),
    ],
)
def test_a_batch_that_cannot_be_gone_back_to_is_refused(checkpoint, to, line):
    for version in (1, 2):
        (checkpoint / f"state/0/0/{version}.delta").unlink()
    before = tree(checkpoint)
    assert refusal(checkpoints.rewind, checkpoint, to=to, apply=True) == line.format(
        checkpoint
    )
    assert tree(checkpoint) == before


def test_without_a_commit_there_is_nothing_to_rewind(tmp_path):
    (tmp_path / "metadata").write_text('{"id": "7"}')
    with pytest.raises(
        InvalidInputError,
        match="no batch of .* is committed; there is nothing to rewind",
    ):
        checkpoints.rewind(tmp_path, to=0)


def test_input_that_has_gone_is_refused_before_its_rows_are_lost(
    made, checkpoint, tmp_path
):
    file = made[0] / "3 é%.json"
    file.rename(tmp_path / "away")
    try:
        checkpoints.rewind(checkpoint, to=3)
        said = refusal(checkpoints.rewind, checkpoint, to=2)
    finally:
        (tmp_path / "away").rename(file)
    assert (
        said
        == f"{checkpoint} cannot be rewound to batch 2: input of the replayed batches"
        f" has gone (1 file, first {file}); put it back, or rewind to a later batch"
    )


def test_a_log_that_differs_from_its_checksum_is_not_asked_what_has_gone(checkpoint):
    log = checkpoint / "sources/0/3"
    log.write_bytes(log.read_bytes().replace(b"/3%20", b"/x%20"))
    assert not checkpoints.rewind(checkpoint, to=2).same


def test_a_checkpoint_in_use_is_shown_and_left_alone(spark, made, checkpoint, tmp_path):
    frame, sink = totals(spark, made[0]), sinks.console()
    query = start(frame, sink, name="totals", mode="update", checkpoint=checkpoint)
    assert "\nin use      a query of the kit is running on it\n" in str(
        checkpoints.show(checkpoint)
    )
    for refused in (
        lambda: checkpoints.rewind(checkpoint, to=2, apply=True),
        lambda: checkpoints.clone(checkpoint, tmp_path / "copy"),
    ):
        assert re.search(r"is in use by .*; end it", refusal(refused))
    assert not (tmp_path / "copy").exists()
    query.stop()
    assert not checkpoints.show(checkpoint).in_use
    checkpoints.rewind(checkpoint, to=2, apply=True)  # the lock file alone is no query


# --- clone


def test_a_copy_has_each_file_whatever_its_name_but_the_lock_and_what_was_rewound(
    checkpoint, tmp_path
):
    """As the note of `by_value` about a column `lock`, or the log of a source of that name."""
    kit = checkpoint / "sparkstream-kit"
    kept = [
        kit / "values/lock",
        kit / "values/rewound-1",
        checkpoint / "sources/lock/0",
    ]
    left_out = [kit / "lock", kit / "rewound-20260101T000000/offsets/1"]
    for file in kept + left_out:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a text")
    copy = checkpoints.clone(checkpoint, tmp_path / "copy")
    assert [(copy / file.relative_to(checkpoint)).exists() for file in kept] == [
        True
    ] * 3
    assert [(copy / file.relative_to(checkpoint)).exists() for file in left_out] == [
        False
    ] * 2


def test_a_copy_goes_on_as_the_same_query(spark, made, checkpoint, tmp_path):
    checkpoints.rewind(checkpoint, to=3, apply=True)
    noted(checkpoint)
    copy = checkpoints.clone(checkpoint, tmp_path / "copy")
    assert copy == tmp_path / "copy"
    assert tree(copy) == tree(checkpoint)
    there = {path.name for path in (copy / "sparkstream-kit").iterdir()}
    # Neither the lock nor what was moved aside.
    assert there == {
        "query.json",
        "copied-from",
    }, "and of which checkpoint it is a copy"
    assert checkpoints.show(copy).name == "totals"
    assert run(totals(spark, made[0]), copy) == made[2][4:]
    assert checkpoints.show(checkpoint).committed == 3


def test_a_copy_with_a_new_id_goes_on_as_another_query(
    spark, made, checkpoint, tmp_path
):
    copy = checkpoints.clone(checkpoint, tmp_path / "copy", new_id=True)
    known, new = (checkpoints.show(path).query_id for path in (checkpoint, copy))
    assert known != new
    assert new
    assert run(totals(spark, made[0]), copy) == []
    assert checkpoints.show(copy).query_id == new
    assert checkpoints.check(copy) == []


@pytest.mark.slow
def test_a_copy_of_transform_with_state_does_not_need_the_original(spark, tmp_path):
    land(tmp_path / "in", 0)
    counted = transformed(spark, tmp_path / "in", in_pandas=False)
    original = tmp_path / "checkpoint"
    run(counted, original, **ROCKSDB)
    copy = checkpoints.clone(original, tmp_path / "copy")
    original.rename(tmp_path / "moved by hand")
    line = damage(Logs(tmp_path / "moved by hand"))
    assert line is not None
    assert "state/0/_metadata/v2/0 names " in line
    assert line.endswith(
        f"sparkstream checkpoint clone '{tmp_path / 'moved by hand'}' COPY"
    )
    land(tmp_path / "in", 1)
    assert run(counted, copy, **ROCKSDB) == [(1, [["a", "2"], ["b", "2"], ["c", "2"]])]


def test_a_copy_that_cannot_be_or_fails_leaves_nothing(
    checkpoint, tmp_path, monkeypatch
):
    said = refusal(checkpoints.clone, checkpoint, checkpoint)
    assert said == f"copy {checkpoint} exists; give a folder that does not"
    inside = checkpoint / "state" / "copy"
    said = refusal(checkpoints.clone, checkpoint, inside)
    assert (
        said == f"copy {inside} lies in the checkpoint itself; give a folder beside it"
    )

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(
        InvalidInputError, match=r"cannot copy .*: \[Errno 28\] No space left on device"
    ):
        checkpoints.clone(checkpoint, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_copy_needs_no_lock_and_passes_over_what_a_killed_one_has_left(
    checkpoint, tmp_path, monkeypatch
):
    (tmp_path / f".copy.{os.getpid()}.tmp" / "old").mkdir(parents=True)
    # As on a file system that is mounted to be read
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr("sparkstream_kit.checkpoints.operate.clone.alone", None)
    assert tree(checkpoints.clone(checkpoint, tmp_path / "copy")) == tree(checkpoint)
