"""What a checkpoint says: `show`, and `check` and `damage`, which say it before Spark does."""

import json
import os
import re
import shutil
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from conftest import BEFORE_4_2, refusal
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException, StreamingQueryException
from support.checkpoint_files import commit, metadata, plan
from support.checkpoint_queries import land, noted, run, stream, totals
from support.sink_streams import forget_commit

from sparkstream_kit import checkpoints
from sparkstream_kit.checkpoints.damage import restart
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate.check import damage
from sparkstream_kit.errors import InvalidInputError


def uncommitted(checkpoint):
    forget_commit(checkpoint, 5)
    return checkpoint


# --- show


@pytest.mark.slow
def test_a_query_with_state_and_a_batch_to_replay(made, checkpoint):
    uncommitted(checkpoint)
    noted(checkpoint)
    os.utime(checkpoint / "commits/4", (1_700_000_000, 1_700_000_000))
    query_id = json.loads((checkpoint / "metadata").read_text())["id"]
    seen = checkpoints.show(checkpoint.as_uri())
    assert (
        re.sub(r"(?m)^size .*\n", "", str(seen)) == f"checkpoint  {checkpoint}\n"
        f"query       totals, {query_id}\n"
        "committed   batch 4, 2023-11-14 22:13:20 UTC\n"
        "planned     batch 5, not committed\n"
        "kept        batches 0 to 5\n"
        f"source 0    files of {made[0]}, offset 4, planned to 5\n"
        "state 0     stateStoreSave, 1 partition, HDFSBacked\n"
        "\n"
        "A restart runs batch 5 again, with 1 file:\n"
        f"     159 B  {made[0]}/5 é%.json"
    )
    assert (seen.committed, seen.planned, seen.oldest, seen.damage) == (4, 5, 0, None)
    assert seen.committed_at == datetime.fromtimestamp(1_700_000_000, UTC)
    offsets = (checkpoint / "offsets").glob("[!.]*")
    assert seen.sizes["offsets"] == sum(file.stat().st_size for file in offsets)
    assert f", of it offsets {seen.sizes['offsets'] / 1024:.1f} KiB, " in str(seen)


def test_a_checkpoint_before_its_first_commit(tmp_path):
    (tmp_path / "metadata").write_text('{"id": "7"}')
    assert str(checkpoints.show(tmp_path)).endswith(
        "\n\nA restart runs nothing again; the next batch is 0."
    )
    assert checkpoints.check(tmp_path) == []


@pytest.mark.slow
def test_a_join_of_two_sources_has_four_stores_and_a_watermark(spark, tmp_path):
    land(tmp_path / "left", 0, 1, 2)
    land(tmp_path / "right", 0)
    sides = (stream(spark, tmp_path / side) for side in ("left", "right"))
    left, right = (side.withWatermark("time", "1 minute") for side in sides)
    run(left.join(right, ["key", "time"]), tmp_path / "checkpoint", "append")
    seen = checkpoints.show(tmp_path / "checkpoint")
    assert [str(source) for source in seen.sources] == [
        f"files of {tmp_path}/left, offset 2",
        f"files of {tmp_path}/right, offset 0",
    ]
    assert [str(state) for state in seen.states] == [
        "symmetricHashJoin, 4 stores, 1 partition, HDFSBacked"
    ]
    assert seen.watermark is not None
    assert f"watermark   {seen.watermark:%Y-%m-%d %H:%M:%S} UTC\n" in str(seen)
    assert checkpoints.check(tmp_path / "checkpoint") == []
    lost = tmp_path / f"checkpoint/state/0/0/right-keyToNumValues/{seen.planned}.delta"
    lost.unlink()
    assert [problem.file for problem in checkpoints.check(tmp_path / "checkpoint")] == [
        lost
    ]


def test_another_source_shows_its_offset_as_spark_wrote_it(tmp_path):
    metadata(tmp_path)
    for batch, end in enumerate(('{"t":{"0":23}}', '{"t":{"0":40}}')):
        plan(tmp_path, batch, end, "-")
    commit(tmp_path, 0)
    seen = checkpoints.show(tmp_path)
    assert str(seen.sources[0]) == 'offset {"t":{"0":23}}, planned to {"t":{"0":40}}'
    assert str(seen.sources[1]) == "nothing read yet"
    assert str(seen).endswith("\nA restart runs batch 1 again.")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (
            "s3a://b",
            (
                "checkpoint s3a://b is not on a local path; copy it to this machine"
                " first, and put"
            ),
        ),
        (
            "nowhere",
            "no checkpoint nowhere; give the folder that the query was started with",
        ),
        (".", ". is no checkpoint (no metadata, offsets or commits in it)"),
    ],
)
def test_what_is_no_checkpoint_is_said(path, line, folder, monkeypatch):
    monkeypatch.chdir(folder)
    clone, rewind = (
        partial(checkpoints.clone, target="copy"),
        partial(checkpoints.rewind, to=1),
    )
    for call in (checkpoints.show, checkpoints.check, clone, rewind):
        assert refusal(call, path).startswith(line)


@pytest.mark.slow
def test_a_newer_format_is_not_taken_for_damage(checkpoint):
    (checkpoint / "offsets/5").write_text("v9\n{}\n{}")
    (checkpoint / "offsets/.5.crc").unlink()
    assert damage(Logs(checkpoint)) is None
    with pytest.raises(
        InvalidInputError,
        match="has format v9, which this version of the kit does not know",
    ):
        checkpoints.check(checkpoint)


# --- check, and damage


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


RESTORE = (
    "restore it from a backup, or go back: sparkstream checkpoint rewind {} --to 4"
)
WRITE_ID = (
    'restore it; or delete .metadata.crc and write {{"id": "…"}} into metadata, with'
    " the id from the query's progress or a sink's ledger"
)
DAMAGES = [
    ("metadata", empty, "is empty", WRITE_ID),
    ("metadata", cut, "is cut off or changed", WRITE_ID),
    ("metadata", Path.unlink, "is missing", WRITE_ID),
    ("offsets/5", empty, "is empty", RESTORE),
    ("offsets/5", cut, "is cut off or changed", RESTORE),
    ("offsets/5", Path.unlink, "is missing", RESTORE),
    ("offsets/4", cut, "is cut off or changed", RESTORE.replace("4", "3")),
    ("offsets/4", Path.unlink, "is missing", RESTORE.replace("4", "3")),
    ("commits/5", empty, "is empty", RESTORE),
    ("commits/5", cut, "is cut off or changed", RESTORE),
    ("sources/0/5", cut, "is cut off or changed", RESTORE),
    ("sources/0/5", Path.unlink, "is missing", RESTORE),
    ("sources/0/3", Path.unlink, "is missing", RESTORE.replace("4", "2")),
    ("state/0/0/6.delta", Path.unlink, "is missing", RESTORE),
    ("state/0/0/3.delta", Path.unlink, "is missing", RESTORE.replace("4", "1")),
]
IDS = [f"{name}-{how.__name__}" for name, how, *_ in DAMAGES]


@pytest.mark.parametrize(("name", "how", "what", "fix"), DAMAGES, ids=IDS)
def test_damage_is_one_line_with_the_file_and_the_way_out(
    checkpoint, name, how, what, fix
):
    assert (damage(Logs(checkpoint)), checkpoints.check(checkpoint)) == (None, [])
    assert callable(how)
    how(checkpoint / name)
    fix = fix.format(checkpoint)
    (problem,) = checkpoints.check(checkpoint)
    assert str(problem) == f"{checkpoint}/{name} {what}; {fix}"
    line = damage(Logs(checkpoint))
    assert line is not None
    assert line.startswith(f"checkpoint {checkpoint} is damaged: {name} {what}; {fix}")
    assert line in str(checkpoints.show(checkpoint))
    # A start finds it as well; of the state Spark finds it, as the next test shows, and
    # the line is the same.
    assert bool(list(restart(Logs(checkpoint)))) != name.startswith("state")


@pytest.mark.parametrize(("name", "how", "what", "fix"), DAMAGES, ids=IDS)
@pytest.mark.slow
def test_spark_fails_on_each_and_the_way_out_leads_back_to_exact_totals(
    spark, made, checkpoint, name, how, what, fix
):
    assert callable(how)
    query_id = checkpoints.show(checkpoint).query_id
    how(checkpoint / name)
    broken = shutil.copytree(checkpoint, checkpoint.with_name("broken"))
    land(made[0], 6)
    try:
        # Before 4.2, Spark makes up a new id in silence, and goes on.
        silent = BEFORE_4_2 and (name, what) == ("metadata", "is missing")
        with (
            nullcontext()
            if silent
            else pytest.raises((PySparkException, Py4JJavaError))
        ):
            run(totals(spark, made[0]), broken)
        if name == "metadata":
            (checkpoint / ".metadata.crc").unlink()
            (checkpoint / "metadata").write_text(json.dumps({"id": query_id}))
        else:
            checkpoints.rewind(checkpoint, to=int(fix[-1]), apply=True)
        last = run(totals(spark, made[0]), checkpoint)[-1]
    finally:
        (made[0] / "6 é%.json").unlink()
    assert last == (6, [["a", "210"], ["b", "217"], ["c", "224"]])
    assert checkpoints.check(checkpoint) == []


def test_a_checksum_without_its_file_stops_spark_too(spark, made, checkpoint):
    # A user's copy is not the file
    (checkpoint / "commits/5").rename(checkpoint / "commits/5.bak")
    assert (
        damage(Logs(checkpoint))
        == f"checkpoint {checkpoint} is damaged: commits/5 is missing, but not its"
        " checksum; delete .5.crc too, and the batch runs again"
    )
    # With the file manager of the local profiles the batch would run again; a
    # checkpoint may have either.
    own = spark.newSession()
    own.conf.unset("spark.sql.streaming.checkpointFileManagerClass")
    with pytest.raises(
        StreamingQueryException, match="Multiple streaming queries are concurrently"
    ):
        run(
            totals(own, made[0]),
            shutil.copytree(checkpoint, checkpoint.with_name("broken")),
        )
    (checkpoint / "commits/.5.crc").unlink()
    assert run(totals(spark, made[0]), checkpoint) == [
        (5, [["a", "150"], ["b", "156"], ["c", "162"]])
    ]


def test_a_batch_that_is_committed_while_one_looks_is_no_damage(checkpoint, tmp_path):
    names = ("commits/5", "commits/.5.crc")
    for name in names:
        shutil.move(checkpoint / name, tmp_path)
    logs = Logs(checkpoint)
    assert logs.done == 4
    for name in names:
        shutil.move(tmp_path / Path(name).name, checkpoint / name)
    assert damage(logs) is None


def test_without_a_whole_batch_there_is_no_way_back(checkpoint):
    shutil.rmtree(checkpoint / "state/0/0")
    line = (
        "state/0/0/6.delta is missing; restore it from a backup, or start anew on"
        " another checkpoint"
    )
    assert line in str(damage(Logs(checkpoint)))


def test_state_without_a_batch_is_damage(checkpoint):
    for log in ("offsets", "commits"):
        shutil.rmtree(checkpoint / log)
    line = (
        "offsets has no batch, but state has been written; restore it from a backup, or"
        " start anew on"
    )
    assert line in str(damage(Logs(checkpoint)))


def test_a_change_by_hand_is_for_check_alone(checkpoint):
    file = checkpoint / "offsets/5"
    file.write_text(file.read_text().replace('{"logOffset":5}', '{"logOffset":4}'))
    assert list(restart(Logs(checkpoint))) == []  # a start reads no checksum
    (problem,) = checkpoints.check(checkpoint)
    assert (
        str(problem)
        == f"{file} was changed after Spark wrote it (delete .5.crc, its checksum, if"
        " that was meant); restore it from a backup, or go back: sparkstream"
        f" checkpoint rewind {checkpoint} --to 4"
    )
    (checkpoint / "offsets/.5.crc").unlink()
    assert checkpoints.check(checkpoint) == []


def test_names_that_are_no_numbers_belong_to_the_source(checkpoint):
    before = str(checkpoints.show(checkpoint)).partition("size")
    # Such as a connector keeps, beside or in place of a log.
    for name in (
        "sources/0/shard-commit",
        "sources/1/shard-commit/0",
        "sources/_metadata",
        "offsets/7x",
    ):
        (checkpoint / name).mkdir(parents=True)
    for name in (
        "sources/0/_metadata",
        "sources/0/.9x.crc",
        "sources/_metadata/3",
        "commits/note.txt",
    ):
        (checkpoint / name).write_text("mine")
    assert (damage(Logs(checkpoint)), checkpoints.check(checkpoint)) == (None, [])
    assert str(checkpoints.show(checkpoint)).partition("size")[0] == before[0]
    assert str(checkpoints.rewind(checkpoint, to=4)).startswith(
        f"{checkpoint}: batch 5 runs again"
    )


def test_a_watermark_that_python_has_no_date_for_is_left_out(checkpoint):
    file = checkpoint / "commits/5"
    file.write_text('v1\n{"nextBatchWatermarkMs":999999999999999}')
    assert checkpoints.show(checkpoint).watermark is None
    file.write_text('v1\n{"nextBatchWatermarkMs":1700000000000}')
    assert "watermark   2023-11-14 22:13:20 UTC\n" in str(checkpoints.show(checkpoint))


# What is in the files: changed in ways that no checksum file is there to tell.
CONTENTS = [
    ("metadata", b"\xff", "is cut off or changed"),
    ("metadata", b"[]", "does not hold a query's id"),
    ("offsets/5", b'v1\n{"conf":5}\n{}', "is cut off or changed"),
    ("offsets/5", b'v1\n{"conf":{}}\n{"logOffset":null}', "is cut off or changed"),
    ("offsets/5", b'v1\n{"conf":{}}\n{"logOffset":', "is cut off or changed"),
    ("offsets/5", b"v1\n5\n{}", "is cut off or changed"),
    ("offsets/5", b'v1\n{"conf":{}}\n{"logOffset":1e999}', "is cut off or changed"),
    ("commits/5", b'v1\n{"nextBatchWatermarkMs":"x"}', "is cut off or changed"),
    ("commits/5", b"v1\n[]", "is cut off or changed"),
    ("sources/0/5", b"v1\n[5]}", "is cut off or changed"),
    ("state/0/_metadata/metadata", b"v1\n\xff", None),
    ("sources/0/5", b"v1\n\xff}", "is cut off or changed"),
    ("sources/0/5", b'v1\n{"path":null,"batchId":{}}', "is cut off or changed"),
    ("state/0/_metadata/metadata", b'v1\n{"operatorInfo":5,"stateStoreInfo":[]}', None),
    ("sparkstream-kit/query.json", b"[]", None),
]


@pytest.mark.parametrize(("name", "data", "what"), CONTENTS)
def test_no_content_of_a_file_is_a_stack_trace(checkpoint, name, data, what):
    file = checkpoint / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    line = damage(Logs(checkpoint))
    says = str(line).startswith(f"checkpoint {checkpoint} is damaged: {name} {what}")
    assert line is None if what is None else says
    with suppress(InvalidInputError):
        list(restart(Logs(checkpoint)))  # as a start does
    checkpoints.check(checkpoint)
    str(checkpoints.show(checkpoint))
    with suppress(InvalidInputError):
        checkpoints.rewind(checkpoint, to=4)


@pytest.fixture
def lost(made, tmp_path):
    """The file of batch 5, taken away."""
    file = made[0] / "5 é%.json"
    file.rename(tmp_path / "away")
    yield file
    (tmp_path / "away").rename(file)


def test_a_planned_file_that_has_gone_is_a_problem_and_a_read_one_is_not(
    checkpoint, lost
):
    assert checkpoints.check(checkpoint) == []
    uncommitted(checkpoint)
    (problem,) = checkpoints.check(checkpoint)
    assert (
        str(problem)
        == f"{lost} is planned to be read and has gone; put it back first: without it"
        " Spark runs the batch with no error and without its rows"
    )
    assert str(checkpoints.show(checkpoint)).endswith(f"\n      gone  {lost}")


def test_nothing_is_looked_at_where_nothing_is_or_where_it_is_far(tmp_path):
    assert damage(Logs(tmp_path / "new")) is None
    assert damage(Logs(tmp_path)) is None
