"""Each step of `evolve` by itself, on checkpoints that are written by hand.

Spark runs no batch here: where a build would have Spark run one, the test commits it.
"""

import json
from functools import partial

import pytest
from conftest import pretend_master, refusal
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from support.checkpoint_files import (
    ID,
    commit,
    entry,
    logs,
    metadata,
    noted,
    place,
    plan,
    put,
    until,
    whole_checkpoint,
)

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.place import Place
from sparkstream_kit.checkpoints import lock
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.fingerprint import fingerprint
from sparkstream_kit.checkpoints.guard import StartingQuery
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import replay
from sparkstream_kit.checkpoints.operate.evolve import (
    Build,
    _check_old,
    _check_sink,
    _check_target,
    _checked,
    _exists,
    _first_batches,
    _has_other_files,
    _in_batches,
    _keys,
    _misfit,
    _renumber,
    _settings,
    evolve,
)
from sparkstream_kit.checkpoints.operate.replay import InputSplit, Unreadable
from sparkstream_kit.profiles import STATE_STORE
from sparkstream_kit.sinks.base import Opening

PARTITIONS = "spark.sql.shuffle.partitions"
BUILD = {
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "false"
}


def query(frame, mode="append", name="q"):
    return StartingQuery(frame, name, mode, False, {})


@pytest.fixture
def old(tmp_path, folder):
    """A checkpoint that has read three files of the folder in three batches."""
    return whole_checkpoint(tmp_path / "old", 3, folder)


def files_of(root):
    return {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}


# --- evolve


@pytest.fixture
def openings():
    """Whether each opening of the last `continued` may make something."""
    return []


@pytest.fixture
def continued(lines, old, tmp_path, openings):
    """Continue the old checkpoint by a query that keeps no state."""
    (tmp_path / "out/batch=000002").mkdir(parents=True)  # as if its batches had come

    def go(frame=lines, *, dry_run=False, new=None, mode="append", sink=None, was=old):
        openings.clear()

        def open_all(*, makes):
            openings.append(makes)
            return Opening(makes=makes)

        return evolve(
            query(frame, mode),
            sink or sinks.batch_files(tmp_path / "out"),
            new or place(tmp_path / "new"),
            place(was) if hasattr(was, "parts") else was,
            open_all,
            dry_run=dry_run,
        )

    return go


def test_a_query_without_state_is_continued_and_nothing_runs(
    continued, openings, old, tmp_path, caplog
):
    noted(old)
    assert continued() == (
        ("continues", f"{old}, after batch 2"),
        ("build", "nothing: the query keeps no state"),
    )
    assert openings == [False, True]
    [warning] = caplog.records
    assert f"query q keeps the same state as that of checkpoint {old}. " in (
        warning.getMessage()
    )
    new = tmp_path / "new"
    assert files_of(new) == {
        "commits/2",
        "metadata",
        "offsets/1",
        "offsets/2",
        "sources/0/0",
        "sources/0/1",
        "sources/0/2",
        "sparkstream-kit/query.json",
    }
    assert json.loads((new / "metadata").read_text()) == {"id": ID}
    assert Logs(new).plan(1).offsets == (until(2),)
    assert Logs(new).note == {
        "name": "q",
        "mode": "append",
        "fingerprint": "",
        "targets": [f"folder {tmp_path}/out"],
        "begins": {},
    }
    assert (old / "sparkstream-kit/continued").read_text() == str(new)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "new", "old", "out"}
    assert lock.user_of(old) is None
    # The next start finds it there
    assert continued() == ()
    assert openings == []


def test_a_dry_run_makes_nothing(continued, openings, old, tmp_path, caplog):
    noted(old, mode="update", targets=["table t"])
    assert continued(dry_run=True) == (
        ("continues", f"{old}, after batch 2"),
        ("change", "mode append in place of update"),
        ("build", "nothing: the query keeps no state"),
    )
    assert openings == [False]
    assert caplog.records == []
    assert {path.name for path in tmp_path.iterdir()} == {"in", "old", "out"}
    assert files_of(old / "sparkstream-kit") == {"query.json"}


def test_what_a_sink_restores_in_the_old_checkpoint_is_seen(
    continued, lines, old, tmp_path, monkeypatch
):
    restored = []

    def read_note(_, note):
        assert note == {"begins": {}}
        # At the second time, which may make something
        restored.append(note)
        if len(restored) == 2:
            entry(old, 3, (tmp_path / "in/0.txt", 1))
            plan(old, 3, until(3))

    noted(old)
    ledgers = type(Opening().ledgers)
    monkeypatch.setattr(ledgers, "read_note", read_note)
    continued()
    assert Logs(tmp_path / "new").planned == 3


def test_the_new_checkpoint_is_a_local_folder_as_the_old_one_is(continued, old):
    args = (None, None, None, place(old), None)
    assert refusal(evolve, *args, dry_run=False) == (
        "start(): continues= needs a new checkpoint; give checkpoint='folder'"
    )
    far = Place("hdfs://node/ckpt")
    both = (
        "start(): continues={} and checkpoint={} must both be on a local path; copy the"
        " checkpoint to this machine first, or start anew on a new checkpoint"
    )
    assert refusal(continued, new=far) == both.format(old, far)
    new = place(old.with_name("new"))
    assert refusal(continued, was=far) == both.format(far, new)


def test_a_disk_of_each_node_is_refused(continued, spark, monkeypatch, tmp_path):
    pretend_master(spark, monkeypatch, "spark://host:7077")
    said = refusal(continued)
    assert said.startswith(f"checkpoint {tmp_path}/new is a local path, but the master")


def test_a_checkpoint_that_cannot_be_continued_says_why(continued, old, spark):
    rate = spark.readStream.format("rate").load()
    assert refusal(continued, rate) == (
        f"checkpoint {old} cannot be continued by a changed query: only files, topics"
        " and Delta tables are read again from their beginning, not rate; start anew on"
        " a new checkpoint, without continues="
    )
    assert lock.user_of(old) is None
    assert refusal(continued, rate, dry_run=True).startswith(f"checkpoint {old} cannot")


def test_a_query_that_spark_would_not_start_is_not_continued(continued, lines, old):
    noted(old)
    with pytest.raises(AnalysisException, match="mode: complete"):
        continued(lines, mode="complete", sink=sinks.foreach_batch(print))
    assert not (old / "sparkstream-kit/continued").exists()
    assert lock.user_of(old) is None


def test_a_sink_is_opened_with_the_first_batches_of_its_targets(lines, old, tmp_path):
    noted(old, targets=["table t"], begins={"table t": 1})
    opening = Opening(makes=False)
    sink = sinks.batch_files(tmp_path / "out")
    _check_sink(query(lines), sink, place(old), Logs(old), opening)
    assert opening.ledgers.begins == {f"folder {tmp_path}/out": 3}


def test_a_sink_may_refuse_the_changed_query(lines, old, folder):
    with pytest.raises(Exception, match=f"{folder}"):
        _check_sink(
            query(lines), sinks.batch_files(folder), place(old), Logs(old), Opening()
        )


# --- the new checkpoint


def test_a_new_checkpoint_that_is_there_continues_the_old_one(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    exists = partial(_exists, place(new), new, old)
    metadata(old)
    assert exists() is False
    new.mkdir()
    assert exists() is False
    put(new / "sparkstream-kit/lock", "")
    assert exists() is False
    metadata(new)
    assert refusal(exists) == (
        f"checkpoint {old} was taken up again after {new} was built from it; remove"
        f" {new}, and it is built anew"
    )
    put(old / "sparkstream-kit/continued", str(new))
    assert exists() is True
    metadata(new, ID.replace("1", "2"))
    assert refusal(exists) == (
        f"checkpoint {new} is of another query than {old}, which it is to continue;"
        " give a new folder"
    )
    (old / "metadata").unlink()
    assert exists() is True, "the old one was removed, or what is left of it"


def test_a_new_checkpoint_is_not_the_old_one_and_holds_no_other_files(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    metadata(old)
    for same in (old, tmp_path / "old/../old", tmp_path / "link"):
        if same.name == "link":
            same.symlink_to(old)
        assert refusal(_exists, place(same), same, old) == (
            f"start(): continues={same} is the checkpoint itself; give a new folder"
        )
    says = f"checkpoint {new} is a folder with other files; give a new folder"
    put(new, "a file")
    assert refusal(_exists, place(new), new, old) == says
    new.unlink()
    put(new / "data/part-0", "rows")
    assert refusal(_exists, place(new), new, old) == says


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("sparkstream-kit/lock", False),
        ("sparkstream-kit/query.json", True),
        ("lock", True),
        ("data/sparkstream-kit/lock", True),
    ],
)
def test_the_lock_file_of_a_refused_start_is_no_other_file(name, others, tmp_path):
    put(tmp_path / name, "")
    assert _has_other_files(tmp_path) is others


def test_folders_alone_are_no_other_files(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    assert _has_other_files(tmp_path) is False
    assert _has_other_files(tmp_path / "none") is False


# --- the checks


def test_a_checkpoint_that_no_query_can_continue_is_refused(old, tmp_path):
    new = tmp_path / "new"
    check = partial(_check_old, new=new)
    check(Logs(old))
    put(old / "sparkstream-kit/continued", str(new))
    check(Logs(old))
    put(old / "sparkstream-kit/continued", "/other")
    assert "was continued by a changed query on /other" in refusal(check, Logs(old))
    (old / "sparkstream-kit/continued").unlink()
    plan(old, 3, until(2), watermark=END)
    with pytest.raises(Unreadable, match="cut off while it wrote its last windows"):
        check(Logs(old))
    commit(old, 3, END)
    assert "was drained: batch 3" in refusal(check, Logs(old))
    put(old / "offsets/3", "v1", "{")
    assert "is damaged: offsets/3" in refusal(check, Logs(old))


def test_a_checkpoint_without_a_committed_batch_is_refused(tmp_path, folder):
    old = whole_checkpoint(tmp_path / "old", 0, folder, planned=1)
    with pytest.raises(Unreadable, match="^it has no committed batch$"):
        _check_old(Logs(old), tmp_path / "new")
    commit(old, 0)
    _check_old(Logs(old), tmp_path / "new")


def test_a_query_with_state_reads_again_what_the_old_one_has_read(
    lines, old, folder, tmp_path
):
    counts = lines.groupBy("value").count()
    noted(
        old,
        mode="update",
        targets=["table t"],
        begins={"table t": 1, "table s": 0},
        topics={"0": {"a": "id"}},
    )
    build, differences = _checked(
        query(counts, "update"), ["table t", "table u"], Logs(old), tmp_path / "new"
    )
    assert differences == [
        "groups by value; the checkpoint's query does not",
        "computes count(1); the checkpoint's query does not",
    ]
    assert build.batches == [{"0": until(2)}]
    assert str(build) == (
        "the state, from 3 files in 1 batch; nothing is written meanwhile"
    )
    assert build.moves == []
    assert (build.changed.frame, build.old.root) == (counts, old)
    assert build.note == {
        "name": "q",
        "mode": "update",
        "fingerprint": fingerprint(counts, "update"),
        "targets": ["table t", "table u"],
        "begins": {"table t": 1, "table u": 3},
        "topics": {"0": {"a": "id"}},
    }


def test_a_query_without_state_reads_nothing_again(lines, old, folder, tmp_path):
    (folder / "0.txt").unlink()
    build, differences = _checked(query(lines), [], Logs(old), tmp_path / "new")
    assert (build.batches, build.read, differences) == ([], "no input", [])
    assert "topics" not in build.note
    assert build.note["begins"] == {}
    counts = query(lines.groupBy("value").count(), "update")
    with pytest.raises(Unreadable, match="1 of the 3 files that it has read have gone"):
        _checked(counts, [], Logs(old), tmp_path / "new")


def test_changed_settings_are_among_the_differences(lines, old, tmp_path):
    noted(old, mode="update")
    _, differences = _checked(query(lines), [], Logs(old), tmp_path / "new")
    assert differences == ["mode append in place of update"]


def test_each_check_is_made_before_a_build(lines, old, tmp_path):
    new = tmp_path / "new"
    noted(old, mode="update")
    assert "has mode append; the checkpoint's query has mode update" in refusal(
        _checked, query(lines), ["table t"], Logs(old), new
    )
    put(old / "sparkstream-kit/continued", "/other")
    assert "was continued" in refusal(_checked, query(lines), [], Logs(old), new)


def splits(*sizes):
    return [
        InputSplit("0", f"end {number}", size, 1, "file")
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("sizes", "done", "watermark", "ends"),
    [
        ([], 0, 0, [None]),
        ([0.5, 0.5], 1, 0, [1]),
        ([0.5, 0.6], 1, 0, [0, 1]),
        ([1, 1, 1, 1], 3, 0, [0, 1, 2, 3]),
        ([1, 1, 1, 1], 2, 0, [1, 3]),
        ([1, 1, 1, 1], 3, 1, [1, 3]),
        ([1, 1, 1, 1], 4, 1, [0, 1, 2, 3]),
        ([1, 1, 1, 1], 0, 0, [3]),
        ([1, 1, 1, 1], 1, 1, [3]),
        ([1, 1, 1], 1, 0, [1, 2]),
    ],
    ids=[
        "nothing is read",
        "a full batch",
        "more than a full batch",
        "as many batches as before",
        "one batch less",
        "one batch less, for the watermark",
        "one batch more, for the watermark",
        "one batch",
        "two, one of them for the watermark",
        "a part of a larger batch",
    ],
)
def test_a_build_has_no_more_batches_than_the_old_query_had(
    sizes, done, watermark, ends, tmp_path
):
    plan(tmp_path, done, until(0), watermark=watermark)
    commit(tmp_path, done)
    batches = _in_batches(Logs(tmp_path), splits(*sizes))
    expected = [{} if end is None else {"0": f"end {end}"} for end in ends]
    assert batches == expected


def test_a_setting_that_the_old_checkpoint_has_otherwise_is_told(spark, lines, old):
    here = {key: spark.conf.get(key) for key in (PARTITIONS, STATE_STORE)}
    ask = partial(_settings, query(lines))

    def with_plan(mode="append", **conf):
        plan(old, 2, until(2), conf=here | conf)
        return ask(Logs(old), mode)

    assert with_plan() == []
    assert with_plan("complete", **{PARTITIONS: "77", STATE_STORE: "Other"}) == [
        f"number of state partitions {here[PARTITIONS]} in place of 77",
        f"state store {here[STATE_STORE]} in place of Other",
        "mode append in place of complete",
    ]
    plan(old, 2, until(2))
    assert ask(Logs(old), "append") == []


@pytest.mark.parametrize(
    ("note", "targets", "begins"),
    [
        ({}, ["t"], {}),
        ({"targets": ["t"]}, ["t", "u"], {"u": 7}),
        ({"targets": ["t"]}, ["t"], {}),
        ({"targets": ["t"], "begins": {"t": 2, "s": 1}}, ["t"], {"t": 2}),
        ({"targets": ["s"], "begins": {"t": 2}}, ["t"], {"t": 7}),
        ({"targets": []}, ["t"], {"t": 7}),
    ],
    ids=[
        "an old note",
        "one target more",
        "the same target",
        "a target that began later, one that is left out",
        "a target that comes back",
        "none before",
    ],
)
def test_a_new_target_begins_with_the_next_batch(note, targets, begins):
    assert _first_batches(note, targets, 7) == begins


@pytest.fixture
def counts(lines):
    return lines.groupBy("value").count()


def by(frame, mode="update"):
    return {"fingerprint": fingerprint(frame, mode)}


COLUMNS = [["value", "string"], ["count", "bigint"]]


def test_rows_that_stay_must_fit_those_to_come(lines, counts):
    others = lines.groupBy(F.length("value").alias("value")).count()
    asking = query(counts, "update")

    def misfit(differences=("computes sum", "groups by value"), **note):
        return _misfit(asking, {"mode": "update"} | note, differences)

    assert misfit() is None
    assert _misfit(asking, {}, ()) is None
    assert misfit(mode="append") == (
        "has mode update; the checkpoint's query has mode append"
    )
    assert misfit(columns=COLUMNS) is None
    assert misfit(columns=[["value", "string"], ["n", "int"]]) == (
        "has other columns than value, n, or of other types"
    )
    assert misfit(columns=[["value", "string"], ["count", "int"]]) == (
        "has other columns than value, count, or of other types"
    )
    assert misfit(**by(others)) == "groups by value"
    assert misfit(["computes sum"], **by(others)) == "computes sum"
    assert misfit([], **by(others)) is None
    assert misfit(**by(counts)) is None
    assert misfit(fingerprint="") is None
    no_state = query(lines)
    assert _misfit(no_state, by(others), ["groups by other"]) is None


def test_a_target_that_stays_is_refused_where_rows_would_not_fit(lines, old, tmp_path):
    changed = query(lines)
    note = noted(old, mode="update", targets=["table t", "table s"])
    says = (
        "query q has mode append; the checkpoint's query has mode update. The rows in"
        " table s stay, and would not fit those to come; give it a new target"
    )
    targets = ["table t", "table u", "table s"]
    assert refusal(_check_target, changed, targets, Logs(old), []) == says
    assert refusal(_check_target, changed, targets[:1], Logs(old), []) == says.replace(
        "table s", "table t"
    )
    _check_target(changed, ["table u"], Logs(old), [])
    _check_target(query(lines, "complete"), targets, Logs(old), [])
    noted(old, **note | {"mode": "append"})
    _check_target(changed, targets, Logs(old), [])
    # A note of an earlier version names no targets: they are those of the query
    noted(old, mode="update")
    assert refusal(_check_target, changed, ["table u"], Logs(old), []).startswith(
        "query q has mode append"
    )
    _check_target(changed, [], Logs(old), [])
    (old / "sparkstream-kit/query.json").unlink()
    _check_target(changed, ["table u"], Logs(old), [])


@pytest.mark.parametrize("mode", ["append", "complete"])
def test_a_copy_is_not_continued_into_the_target_of_its_original(
    mode, lines, old, tmp_path, folder
):
    original = whole_checkpoint(tmp_path / "original", 3, folder)
    put(old / "sparkstream-kit/copied-from", f"{original}\n")
    noted(old, mode=mode, targets=["table t", "table s"])
    changed = query(lines, mode)
    assert refusal(_check_target, changed, ["table t", "table s"], Logs(old), []) == (
        f"checkpoint {old} is a copy of {original}, whose query writes to table s, too;"
        f" give continues='{original}', or a new target; or remove {original}, if it is"
        " not used any more"
    )
    _check_target(changed, ["table u"], Logs(old), [])


# --- the build


@pytest.fixture
def ran(monkeypatch):
    """Commit what Spark would run, with a version of a state; the batches are kept."""
    batches = []

    def run(_query, new_logs, _writer, settings):
        number = new_logs.refresh().planned
        planned = new_logs.plan(number)
        batches.append((number, planned.offsets[0], planned.watermark))
        assert settings == BUILD
        commit(new_logs.root, number, planned.watermark)
        put(new_logs.root / f"state/0/0/{number + 1}.delta", f"of run {len(batches)}")
        new_logs.refresh()

    monkeypatch.setattr(replay, "run_planned", run)
    return batches


def built(lines, old, new, *ends, mode="update", note=None):
    """Build a checkpoint in batches that end with these entries of the log of files."""
    batches = [{"0": until(end)} for end in ends]
    note = note or {"mode": mode, "fingerprint": ""}
    noted(old)
    Build(query(lines, mode), logs(old), batches, note, "files", []).make(new)
    return Logs(new)


def states(new):
    return {file.name: file.read_text() for file in (new / "state/0/0").iterdir()}


def test_the_batches_of_a_build_end_with_the_number_of_the_last_one(
    lines, tmp_path, folder, ran, capsys
):
    old = whole_checkpoint(tmp_path / "old", 5, folder)
    new = built(lines, old, tmp_path / "new", 1, 4)
    assert ran == [(0, None, 0), (3, until(1), 0), (4, until(4), 0)]
    assert {*new.entries("offsets")} == {2, 3, 4}
    assert {*new.entries("commits")} == {2, 3, 4}
    assert states(new.root) == {
        "3.snapshot": "of run 1",
        "4.delta": "of run 2",
        "5.delta": "of run 3",
    }
    assert capsys.readouterr().err == (
        "query q: running batch 1 of 2 …\nquery q: running batch 2 of 2 …\n"
    )
    assert new.note == {"mode": "update", "fingerprint": ""}
    assert (old / "sparkstream-kit/continued").read_text() == str(tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "old", "new"}


def test_a_build_with_all_numbers_has_no_batch_before(lines, tmp_path, folder, ran):
    old = whole_checkpoint(tmp_path / "old", 2, folder)
    new = built(lines, old, tmp_path / "new", 0, 1)
    assert ran == [(0, until(0), 0), (1, until(1), 0)]
    assert states(new.root) == {"1.delta": "of run 1", "2.delta": "of run 2"}
    assert new.commit(1)["nextBatchWatermarkMs"] == 0


def test_the_watermark_of_the_old_query_is_set_by_a_last_batch(
    lines, tmp_path, folder, ran
):
    marks = [0, 0, 1, 5, 9]
    old = whole_checkpoint(tmp_path / "old", 4, folder, watermarks=marks)
    new = built(lines, old, tmp_path / "new", 3)
    assert ran == [(0, None, 0), (2, until(3), 0), (3, until(3), 5)]
    assert {*new.entries("commits")} == {1, 2, 3}
    assert new.commit(3)["nextBatchWatermarkMs"] == 9
    assert new.planned == 3


def test_a_watermark_takes_a_number_of_the_build(lines, tmp_path, folder, ran):
    old = whole_checkpoint(tmp_path / "old", 2, folder, watermarks=[0, 1, 9])
    built(lines, old, tmp_path / "new", 1)
    assert ran == [(0, until(1), 0), (1, until(1), 1)]


def test_a_batch_that_was_planned_is_planned_again(lines, tmp_path, folder, ran):
    old = whole_checkpoint(
        tmp_path / "old", 2, folder, planned=1, watermarks=[0, 0, 7, 7]
    )
    new = built(lines, old, tmp_path / "new", 1, mode="complete")
    assert (new.done, new.planned) == (1, 2)
    assert (new.plan(2).offsets, new.plan(2).watermark) == ((until(2),), 7)


def test_the_whole_result_is_written_by_a_batch_that_reads_nothing(
    lines, tmp_path, folder, ran
):
    old = whole_checkpoint(tmp_path / "old", 2, folder, watermarks=[0, 0, 7])
    new = built(lines, old, tmp_path / "new", 1, mode="complete")
    assert (new.done, new.planned) == (1, 2)
    assert (new.plan(2).offsets, new.plan(2).watermark) == ((until(1),), 7)
    assert len(ran) == 1 + 1


def test_without_state_the_last_two_batches_are_planned(lines, tmp_path, folder):
    marks = [0, 5, 6, 9]
    old = whole_checkpoint(tmp_path / "old", 3, folder, watermarks=marks)
    new = built(lines, old, tmp_path / "new", mode="append")
    plans = {number: new.plan(number) for number in new.entries("offsets")}
    assert {number: plan.offsets for number, plan in plans.items()} == {
        1: (until(2),),
        2: (until(2),),
    }
    assert {plan.watermark for plan in plans.values()} == {6}
    assert {*new.entries("commits")} == {2}
    assert new.commit(2) == {"nextBatchWatermarkMs": 9}


def test_without_state_a_first_batch_is_planned_alone(lines, tmp_path, folder):
    old = whole_checkpoint(tmp_path / "old", 1, folder, planned=1, watermarks=[0, 3, 4])
    new = built(lines, old, tmp_path / "new", mode="append")
    assert {*new.entries("offsets")} == {0, 1}
    assert {*new.entries("commits")} == {0}
    assert (new.plan(1).offsets, new.plan(1).watermark) == ((until(1),), 3)


def test_a_build_that_fails_changes_nothing(lines, old, tmp_path, monkeypatch):
    def fail(*_):
        raise Unreadable("a batch could not be run again (no memory)")

    monkeypatch.setattr(replay, "run_planned", fail)
    noted(old)
    before = files_of(tmp_path)
    assert refusal(built, lines, old, tmp_path / "new", 2) == (
        f"query q: its state was not built from what {old} has read (a batch could not"
        " be run again (no memory)); nothing was changed"
    )
    assert files_of(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"in", "old"}


def test_a_build_begins_anew_after_one_that_was_killed(lines, old, tmp_path):
    put(tmp_path / ".new.evolving/offsets/7", "v1")
    put(tmp_path / "new/sparkstream-kit/lock", "")
    new = built(lines, old, tmp_path / "new", mode="append")
    assert {*new.entries("offsets")} == {1, 2}
    assert not (tmp_path / "new/sparkstream-kit/lock").exists()


def test_the_schemas_of_the_state_are_named_in_the_new_folder(
    lines, old, tmp_path, ran
):
    new = tmp_path / "new"
    former = replay.run_planned

    def run(changed, new_logs, writer, settings):
        former(changed, new_logs, writer, settings)
        state = new_logs.root / "state/0"
        schema = f'"file:{state}/_stateSchema/default/1"'
        put(state / "_metadata/v2/0", "v2", f"{{{schema}}}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "run_planned", run)
        built(lines, old, new, 2)
    assert (new / "state/0/_metadata/v2/0").read_text() == (
        f'v2\n{{"file:{new}/state/0/_stateSchema/default/1"}}'
    )


def test_files_that_have_moved_are_named_in_the_new_checkpoint(
    spark, folder, old, tmp_path
):
    new_folder = folder.rename(tmp_path / "moved")
    frame = spark.readStream.text(str(new_folder))
    changed = StartingQuery(frame, "q", "append", False, {folder: new_folder})
    build, _ = _checked(changed, [], Logs(old), tmp_path / "new")
    noted(old)
    build.make(tmp_path / "new")
    assert f"file://{new_folder}/0.txt" in (tmp_path / "new/sources/0/0").read_text()
    assert f"file://{folder}/0.txt" in (old / "sources/0/0").read_text()


def test_a_first_batch_gets_another_number(tmp_path):
    for name in (
        "offsets/0",
        "offsets/.0.crc",
        "commits/0",
        "state/0/0/1.delta",
        "state/0/0/.1.delta.crc",
        "state/0/1/left/1_7f-1.zip",
        "state/0/0/10.delta",
        "state/0/0/_metadata/schema",
        "state/1/_metadata/metadata",
        "state/0/0/1/part",
    ):
        put(tmp_path / name, name)
    _renumber(tmp_path, 0)
    assert (tmp_path / "offsets/0").exists()
    _renumber(tmp_path, 11)
    assert files_of(tmp_path) == {
        "offsets/11",
        "offsets/.11.crc",
        "commits/11",
        "state/0/0/12.snapshot",
        "state/0/0/.12.snapshot.crc",
        "state/0/1/left/12_7f-1.zip",
        "state/0/0/10.delta",
        "state/0/0/_metadata/schema",
        "state/1/_metadata/metadata",
        "state/0/0/1/part",
    }


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        ([], []),
        (["computes: sum(n#1)"], []),
        (["groups by: nothing"], ["groups by: nothing"]),
        (["groups by: K#0, f(a, b)#2"], ["groups by: k, f(a, b)"]),
        (
            ["groups by: k#0", "computes: f(p#1) AS k#0", "computes: g(p#1) AS j#4"],
            ["computes: f(p) as k", "groups by: k"],
        ),
        (
            ["computes: windows of 60 s every 60 s on t#4", "computes: the day in UTC of t#4"],
            ["computes: the day in utc of t", "computes: windows of 60 s every 60 s on t"],
        ),
        (
            ["computes: session windows with a gap of 5 s on t#4"],
            ["computes: session windows with a gap of 5 s on t"],
        ),
        (["computes: the sum(n#1)"], []),
    ],
)  # fmt: skip
def test_the_facts_about_keys_are_those_by_which_rows_are_told_apart(facts, keys):
    assert sorted(_keys("\n".join(["facts 3", *facts]))) == keys
