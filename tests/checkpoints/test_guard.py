"""Each check of `guard` by itself, on checkpoints that are written by hand."""

import json
import os
from functools import partial
from typing import Any

import pytest
from checkpoints.test_checkpoints_guards import applied
from conftest import pretend_master, refusal
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from support.checkpoint_files import (
    commit,
    entry,
    logs,
    noted,
    place,
    plan,
    put,
    state,
    until,
    whole_checkpoint,
)

from sparkstream_kit._internal.spark.logical_plan import Input
from sparkstream_kit._internal.spark.place import Place
from sparkstream_kit.checkpoints import lock, trim
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.fingerprint import fingerprint
from sparkstream_kit.checkpoints.guard import (
    Change,
    NoteEntry,
    Remark,
    StartingQuery,
    _answers_to,
    _explained,
    _file_manager,
    _has_its_folders,
    _has_numbers,
    _has_short_logs,
    _is_changed,
    _is_of_this_query,
    _is_whole,
    _leftovers,
    _note_entries,
    _one_at_a_time,
    _warn,
    continued,
    explained,
    guard,
)
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

PARTITIONS = "spark.sql.shuffle.partitions"
AVRO = "spark.sql.streaming.stateStore.encodingFormat"
NAMES = "spark.sql.streaming.queryEvolution.enableSourceEvolution"
MANAGER = "spark.sql.streaming.checkpointFileManagerClass"
BY_SPARK = "org.apache.spark.sql.execution.streaming.checkpointing"


no_query: Any = None  # for checks that do not look at it


def query(frame, mode="append", name="q", moved=None, *, allow_changed=False):
    return StartingQuery(frame, name, mode, allow_changed, moved or {})


@pytest.fixture
def root(tmp_path, folder):
    """A checkpoint that has read two files of the folder, and planned a third one."""
    return whole_checkpoint(tmp_path / "ckpt", 2, folder, planned=1)


def note_of(root):
    return json.loads((root / "sparkstream-kit/query.json").read_text())


# --- the answers


def test_the_questions_are_asked_in_order_until_one_refuses():
    asked = []
    about: Any = "query"
    seen: Any = "logs"

    def question(name, *answers):
        asked.append(name)
        return answers

    def refuse(*_):
        raise InvalidInputError("no")

    first, second = Remark("a"), Change("b", print)
    questions = [
        lambda query, logs: question(f"1 of {query} and {logs}", first, second),
        lambda *_: question("2"),
        lambda *_: question("3", second),
    ]
    assert _answers_to(about, seen, questions) == [first, second, second]
    assert asked == ["1 of query and logs", "2", "3"]
    asked.clear()
    with pytest.raises(InvalidInputError, match="no"):
        _answers_to(about, seen, [questions[1], refuse, questions[2]])
    assert asked == ["2"]


def test_values_are_noted_by_their_names_unless_they_are_empty():
    answers: list[Any] = [
        Remark("begins"),
        NoteEntry("begins", {"table t": 3}),
        Change("sources", print),
        NoteEntry("topics", {}),
        NoteEntry("sources", ["a"]),
        NoteEntry("none", None),
    ]
    assert _note_entries(answers) == {"begins": {"table t": 3}, "sources": ["a"]}


def test_a_note_is_changed_by_another_state_or_other_columns_alone():
    before = {"name": "q", "fingerprint": "facts 3", "columns": [["n", "int"]]}
    others: dict[str, Any] = {
        "nothing": {},
        "name": {"name": "r"},
        "fingerprint": {"fingerprint": "facts 4"},
        "columns": {"columns": [["n", "bigint"]]},
    }
    changed = [what for what in others if _is_changed(before, before | others[what])]
    assert changed == ["fingerprint", "columns"]
    assert _is_changed({"fingerprint": "facts 3"}, before), "columns were not noted"


def told(caplog):
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("lost", "others"), [(1, ""), (2, ", and 1 more"), (1_002, ", and 1,001 more")]
)
def test_remarks_and_planned_files_that_have_gone_are_told(
    lost, others, tmp_path, caplog
):
    root = whole_checkpoint(tmp_path / "ckpt", 0, tmp_path / "in", planned=1)
    gone = [(tmp_path / f"in/gone {number:04}", 1) for number in range(lost)]
    entry(root, 0, *gone)
    answers: list[Any] = [
        Remark("first: 100 %"),
        Change("no remark", print),
        Remark("second"),
    ]
    _warn("q", logs(root), answers)
    *remarks, of_files_gone = told(caplog)
    assert remarks == ["first: 100 %", "second"]
    assert of_files_gone.startswith(
        f"query q: {tmp_path}/in/gone 0000 is planned to be read and has gone{others};"
        " put it back first"
    )


def test_of_files_that_are_there_nothing_is_told(root, caplog):
    _warn("q", logs(root), [])
    assert told(caplog) == []


# --- is it whole?


def broken(root):
    put(root / "offsets/2", "v1", "{")


def drained(root):
    plan(root, 2, until(2), watermark=END)
    commit(root, 2, END)


def passed_on(root):
    put(root / "sparkstream-kit/continued", "/new")


WHOLE = {
    "whole": ([], None),
    "a damaged plan": ([broken], "{0} is damaged: offsets/2 is cut off"),
    "drained": ([drained], "{0} was drained: batch 2 has written"),
    "continued": ([passed_on], "{0} was continued by a changed query on /new"),
    "damaged before continued": ([broken, passed_on], "{0} is damaged: offsets/2"),
    "drained before continued": ([drained, passed_on], "{0} was drained: batch 2"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_checkpoint_is_refused_that_is_damaged_drained_or_continued(what, root):
    changes, says = WHOLE[what]
    for change in changes:
        change(root)
    ask = partial(_is_whole, no_query, logs(root))
    if says is None:
        assert list(ask()) == []
    else:
        assert refusal(ask).startswith(f"checkpoint {says.format(root)}")


def test_a_newer_format_is_not_damage(root):
    put(root / "commits/1", "v9", "{}")
    assert list(_is_whole(no_query, Logs(root))) == []
    put(root / "offsets/2", "v9", "{}", "{}")
    assert "offsets/2 has format v9, which" in refusal(_is_whole, no_query, Logs(root))


def test_spark_itself_looks_at_the_files_of_the_state(root):
    (root / "state/0/0").mkdir(parents=True)
    assert list(_is_whole(no_query, Logs(root))) == []
    assert "state/0/0/2.delta is missing" in str(explained(Logs(root)))


def test_a_damaged_file_of_the_plan_is_told_although_state_is_missing_too(root):
    broken(root)
    (root / "state/0/0").mkdir(parents=True)
    assert "is damaged: offsets/2 is cut off" in refusal(
        _is_whole, no_query, Logs(root)
    )


def test_a_continued_checkpoint_is_refused_to_all_but_the_one_that_continues_it(
    tmp_path,
):
    root, new = tmp_path / "old", tmp_path / "new"
    assert continued(Logs(root)) is None
    file = put(root / "sparkstream-kit/continued", str(new))
    assert continued(Logs(root), by=new) is None
    says = (
        f"checkpoint {root} was continued by a changed query on {new}; start that one."
        " To go back to this one before the other has written a batch: remove"
        f" {new} and {file}"
    )
    assert continued(Logs(root)) == says
    assert continued(Logs(root), by=tmp_path / "other") == says


# --- errors of Spark


CHECKSUM = "ChecksumException: Checksum error: file:{}/state/0/0/2.delta at 0"


def raised(error, seen):
    with _explained(seen):
        raise error


@pytest.mark.parametrize("kind", [PySparkException, Py4JError])
def test_an_error_of_spark_names_the_damaged_file(kind, root):
    seen = logs(root)
    assert seen.planned == 2, "which is seen before the file is damaged"
    plan(root, 3, "{")
    said = refusal(raised, kind("no such batch"), seen)
    assert said.startswith(f"checkpoint {root} is damaged: offsets/3 is cut off or")
    assert said.endswith(f" (Spark: {kind.__name__}: no such batch)")


def test_an_error_of_spark_about_a_file_of_the_checkpoint_is_told_as_one(root):
    error = PySparkException(f"Job aborted\nCaused by: {CHECKSUM.format(root)}")
    with pytest.raises(InvalidInputError, match="damaged: Spark cannot read it; "):
        raised(error, logs(root))


@pytest.mark.parametrize("error", [PySparkException("no"), ValueError("offsets")])
def test_any_other_error_stays_as_it_is(error, root):
    if not isinstance(error, PySparkException):
        broken(root)
    with pytest.raises(type(error)) as caught:
        raised(error, logs(root))
    assert caught.value is error


def test_the_cause_alone_explains_where_the_files_are_not_to_be_looked_at(root):
    seen, cause = Logs(root), CHECKSUM.format(root)
    assert explained(seen) is None
    assert explained(seen, "division by zero") is None
    assert "Spark cannot read it" in str(explained(seen, cause))
    broken(root)
    seen = Logs(root)
    assert "offsets/2 is cut off" in str(explained(seen, cause))
    assert "Spark cannot read it" in str(explained(seen, cause, only_cause=True))
    assert explained(seen, only_cause=True) is None


# --- is it of this query?


def answers_about(asking, root):
    return list(_is_of_this_query(asking, logs(root)))


def test_a_checkpoint_without_a_plan_is_of_any_query(lines, root):
    noted(root, name="other")
    (root / "offsets").rename(root / "away")
    assert answers_about(query(lines), root) == []


def test_a_checkpoint_without_a_note_is_taken_for_that_of_the_query(lines, root):
    remark, begins = answers_about(query(lines), root)
    assert remark == Remark(
        f"checkpoint {root} was not written by sparkstream-kit; assuming it belongs to"
        " query q. Other queries will be refused from now on."
    )
    assert begins == NoteEntry("begins", None)


def test_the_first_batches_of_the_targets_are_noted_again(lines, root):
    noted(root, begins={"table t": 3})
    assert answers_about(query(lines), root) == [NoteEntry("begins", {"table t": 3})]


def test_a_note_of_a_part_of_a_query_is_taken_for_that_of_the_query(lines, root):
    noted(root, fingerprint="facts 3\ngroups by: k#0, ... 16 more fields")
    remark, _ = answers_about(query(lines), root)
    assert f"checkpoint {root} has a note in which an earlier version" in remark.what
    assert "assuming it belongs to query q. Other" in remark.what


def test_a_query_of_another_name_is_refused(lines, root):
    noted(root, name="p")
    assert refusal(answers_about, query(lines), root) == (
        f"checkpoint {root} belongs to query p: query q would read only the input that"
        " p has not read yet. Give q a checkpoint of its own; or, if it is p under a"
        " new name, give allow_changed_query=True once"
    )
    [begins] = answers_about(query(lines, allow_changed=True), root)
    assert begins == NoteEntry("begins", None)
    counts = lines.groupBy("value").count()
    assert (
        "p has not read yet. q groups by value; the checkpoint's query does not, and"
        " computes count(1); the checkpoint's query does not. Give q a"
    ) in refusal(answers_about, query(counts, "update"), root)


def test_a_note_without_a_name_is_of_a_query_of_any_name(lines, root):
    note = noted(root)
    del note["name"]
    put(root / "sparkstream-kit/query.json", json.dumps(note))
    assert answers_about(query(lines), root) == [NoteEntry("begins", None)]


def test_a_query_of_another_state_is_refused(lines, root):
    by_value = lines.groupBy("value").count()
    noted(root, mode="update", fingerprint=fingerprint(by_value, "update"))
    assert len(answers_about(query(by_value, "update"), root)) == 1
    by_size = lines.groupBy(F.length("value").alias("size")).count()
    said = refusal(answers_about, query(by_size, "update"), root)
    assert said.startswith(
        f"checkpoint {root} was written by a different query: q groups by "
    )
    assert f"Give it a checkpoint of its own, and continues='{root}' to resume" in said
    assert said.endswith("or, to keep its state, allow_changed_query=True")
    changed = query(by_size, "update", allow_changed=True)
    assert answers_about(changed, root) == [NoteEntry("begins", None)]


@pytest.mark.parametrize("marked", [True, False], ids=["a watermark", "no watermark"])
@pytest.mark.parametrize("before", ["append", "complete"])
def test_complete_mode_is_refused_where_state_was_dropped(marked, before, spark, root):
    rate = spark.readStream.format("rate").load()
    if marked:
        rate = rate.withWatermark("timestamp", "1 minute")
    counts = rate.groupBy("timestamp").count()
    noted(root, mode=before, fingerprint=fingerprint(counts, "complete"))
    ask = partial(answers_about, query(counts, "complete"), root)
    if marked and before == "append":
        assert (
            "by a different query: q has mode complete; mode append has dropped from"
            " the state what the watermark had passed, and the result would lack it."
        ) in refusal(ask)
    else:
        assert ask() == [NoteEntry("begins", None)]


def test_another_mode_than_complete_may_follow(spark, root):
    rate = spark.readStream.format("rate").load()
    counts = rate.withWatermark("timestamp", "1 minute").groupBy("timestamp").count()
    noted(root, mode="update", fingerprint=fingerprint(counts, "append"))
    assert answers_about(query(counts), root) == [NoteEntry("begins", None)]


def test_another_number_of_sources_is_refused_where_they_have_numbers(
    lines, root, spark
):
    noted(root)
    twice = lines.union(lines)
    says = (
        f"checkpoint {root} is of a query with {{}}, and query q has {{}}, with which"
        " Spark cannot continue; give it a new checkpoint"
    )
    assert refusal(answers_about, query(twice), root) == says.format("1 source", 2)
    plan(root, 2, until(2), until(2))
    assert answers_about(query(twice), root) == [NoteEntry("begins", None)]
    assert refusal(answers_about, query(lines), root) == says.format("2 sources", 1)
    put(root / "offsets/2", "v2", "{}", "a:-", "b:-")
    assert answers_about(query(lines), root) == [NoteEntry("begins", None)]


def test_settings_that_the_checkpoint_keeps_are_told(spark, lines, root):
    here = {key: spark.conf.get(key) for key in (PARTITIONS, STATE_STORE)}
    counts = lines.groupBy("value").count()
    asking = query(counts, "update")
    noted(root, **asking.described)

    def remarks(frame, **conf):
        plan(root, 2, until(2), conf=here | conf)
        found = answers_about(frame, root)
        assert found[0] == NoteEntry("begins", None)
        return [remark.what for remark in found[1:]]

    assert remarks(asking) == []
    assert remarks(asking, **{PARTITIONS: "77", STATE_STORE: "Other"}) == [
        (
            f"query q uses the number of state partitions stored in checkpoint {root} (77);"
            f" your setting {PARTITIONS}={here[PARTITIONS]} has no effect. Start from a new"
            " checkpoint to change it."
        ),
        (
            f"query q uses the state store stored in checkpoint {root} (Other); your setting"
            f" {STATE_STORE}={here[STATE_STORE]} has no effect. Start from a new checkpoint"
            " to change it."
        ),
    ]
    assert remarks(asking, **{PARTITIONS: None}) == []
    # A query without state uses neither
    assert remarks(query(lines, allow_changed=True), **{PARTITIONS: "77"}) == []


def test_sources_with_names_are_refused(spark, lines, root):
    own = spark.newSession()
    asking = query(own.readStream.text(str(root)))
    assert list(_has_numbers(asking, logs(root))) == []
    for value in ("false", "true"):
        own.conf.set(NAMES, value)
        if value == "false":
            assert list(_has_numbers(asking, logs(root))) == []
    assert refusal(_has_numbers, asking, logs(root)) == (
        f"checkpoint {root}: sources with names are not supported; leave .name() out,"
        f" and set {NAMES} to false"
    )


def test_columns_of_another_case_are_others_in_a_session_that_tells_them_apart(
    spark, folder
):
    def counts(session, name):
        return session.readStream.text(str(folder)).toDF(name).groupBy(name).count()

    for setting, number in (("false", 0), ("true", 1)):
        own = spark.newSession()
        own.conf.set("spark.sql.caseSensitive", setting)
        former = fingerprint(counts(own, "key"), "update")
        found = query(counts(own, "Key"), "update").differences(former)
        assert bool(found) == bool(number)


# --- what is left of a start that failed


def begun(root):
    """Write what a query leaves that has planned no batch: a log of files, and one of Kafka."""
    whole_checkpoint(root, 1, root.parent / "in")
    for file in (root / "offsets/0", root / "commits/0"):
        file.rename(file.with_name(".0.tmp"))
    entry(root, 1, (root.parent / "in/0.txt", 1))
    put(root / "sources/1/0", "\0v1", '{"orders":{"0":4}}')
    state(root, 1)
    (root / "sources/2").mkdir()
    noted(root)
    return root


def test_what_a_start_without_a_plan_has_left_is_removed(tmp_path):
    root = begun(tmp_path / "ckpt")
    [change] = _leftovers(no_query, logs(root))
    assert isinstance(change, Change)
    assert change.what == "leftovers of a killed start are removed"
    before = sorted(root.rglob("*"))
    assert len(before) > 8
    change.make()
    left = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    assert left == {"metadata", "sources/1/0", "sparkstream-kit/query.json"}
    assert list(_leftovers(no_query, logs(root))) == []


@pytest.mark.parametrize("left", ["offsets", "commits", "state", "sources/0"])
def test_each_folder_of_leftovers_is_removed(left, tmp_path):
    put(tmp_path / left / ".0.tmp", "")
    [change] = _leftovers(no_query, logs(tmp_path))
    assert isinstance(change, Change)
    change.make()
    assert not (tmp_path / left).exists()


def test_nothing_is_a_leftover_once_a_batch_was_planned(tmp_path):
    root = begun(tmp_path / "ckpt")
    plan(root, 0, until(0))
    assert list(_leftovers(no_query, logs(root))) == []


# --- its folders, and the lengths of its logs


def test_folders_that_have_moved_are_renamed_in_the_log(spark, folder, root):
    here = query(spark.readStream.text(str(folder)))
    assert list(_has_its_folders(here, logs(root))) == []
    new = folder.rename(folder.with_name("moved"))
    frame = spark.readStream.text(str(new))
    asking = query(frame, moved={folder: new})
    [change] = _has_its_folders(asking, logs(root))
    assert isinstance(change, Change)
    assert change.what == f"the files that source 0 has read are named under {new}"
    assert f"file://{folder}/1.txt" in (root / "sources/0/1").read_text()
    change.make()
    assert f"file://{new}/1.txt" in (root / "sources/0/1").read_text()
    assert list(_has_its_folders(asking, logs(root))) == []

    of_hdfs = Logs(root, Place("hdfs://node/ckpt"))
    assert list(_has_its_folders(asking, of_hdfs)) == []
    new.rename(folder)
    back = query(spark.readStream.text(str(folder)), moved={new: folder})
    assert refusal(lambda: list(_has_its_folders(back, of_hdfs))) == (
        "checkpoint hdfs://node/ckpt is not on a local path, where the names of the"
        " files that it has read could be changed; put the files back where they were,"
        " or start anew on another checkpoint"
    )


def test_another_folder_is_refused_unless_the_query_may_change(spark, tmp_path, root):
    (tmp_path / "other").mkdir()
    commit(root, 2)
    frame = spark.readStream.text(str(tmp_path / "other"))
    ask = partial(_has_its_folders, query(frame), logs(root))
    assert "and this query reads" in refusal(lambda: list(ask()))
    asking = query(frame, allow_changed=True)
    [change] = _has_its_folders(asking, logs(root))
    assert isinstance(change, Change)
    assert f"are named under {tmp_path}/other" in change.what
    broken(root)
    # The damage is what is wrong, and not what the damaged checkpoint says
    put(root / "sources/0/1", "v1", "{")
    assert "is damaged: " in refusal(
        lambda: list(_has_its_folders(query(frame), logs(root)))
    )


DAY = 86_400_000


@pytest.mark.parametrize(
    ("age", "is_due"),
    [({}, True), ({"maxFileAge": "40d"}, False), ({"maxFileAge": "20d"}, True)],
    ids=["7 days", "40 days", "20 days"],
)
def test_a_log_is_shortened_by_files_that_are_older_than_the_source_reads(
    age, is_due, spark, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(trim, "LONG", 1_000)
    root = whole_checkpoint(tmp_path / "ckpt", 3, folder)
    old = [(folder / f"old {number}", DAY, 0) for number in range(20)]
    entry(root, 2, *old, (folder / "2.txt", 31 * DAY, 2), compact=True)
    for number in (0, 1):
        (root / f"offsets/{number}").unlink()
    plain = spark.readStream.text(str(folder))
    aged = spark.readStream.options(**age).text(str(folder))
    # The second source has read nothing
    asking = query(aged.union(plain.where("false")))
    answers: list[Any] = list(_has_short_logs(asking, logs(root)))
    assert [answer.what for answer in answers] == [
        "the log of source 0 lists the files that Spark still considers"
    ] * is_due
    assert list(_has_short_logs(asking, Logs(root, Place("hdfs://node/ckpt")))) == []
    for answer in answers:
        answer.make()
        assert list(_has_short_logs(asking, logs(root))) == []


# --- the settings of a start


@pytest.mark.parametrize(
    ("manager", "where", "restored"),
    [
        (f"{BY_SPARK}.FileSystemBasedCheckpointFileManager", "hdfs", True),
        (f"{BY_SPARK}.FileSystemBasedCheckpointFileManager", "here", False),
        (f"{BY_SPARK}.FileContextBasedCheckpointFileManager", "hdfs", False),
        (None, "hdfs", False),
    ],
    ids=["a local one, elsewhere", "a local one, here", "one of Hadoop", "none"],
)
def test_a_file_manager_of_local_paths_writes_nowhere_else(
    manager, where, restored, spark, tmp_path
):
    own = spark.newSession()
    own.conf.unset(MANAGER)
    if manager:
        own.conf.set(MANAGER, manager)
    places = {"hdfs": Place("hdfs://node/ckpt"), "here": place(tmp_path)}
    assert _file_manager(own, places[where]) == ({MANAGER: None} if restored else {})


def test_a_query_starts_with_the_settings_that_its_operators_need(spark, folder):
    pytest.importorskip("pandas")
    rate = spark.readStream.format("rate").load()
    own = applied(rate)
    before = {key: spark.conf.get(key, None) for key in (STATE_STORE, AVRO)}
    rocksdb = STATE_STORES["rocksdb"]
    assert before[STATE_STORE] != rocksdb
    needs = {
        "no state": (rate, before),
        "totals": (rate.groupBy("value").count(), before),
        "its own": (own, {STATE_STORE: rocksdb, AVRO: "avro"}),
        "both": (own.distinct(), {STATE_STORE: rocksdb, AVRO: before[AVRO]}),
    }
    for what, (frame, settings) in needs.items():
        with query(frame, "update").in_force({PARTITIONS: "77"}):
            applying = {key: spark.conf.get(key, None) for key in settings}
            assert applying == settings, what
            assert spark.conf.get(PARTITIONS) == "77"
            assert not lock_is_free()
        assert {key: spark.conf.get(key, None) for key in before} == before
        assert lock_is_free()
    with query(rate).in_force():
        assert spark.conf.get(PARTITIONS) != "77"


def lock_is_free():
    """Return whether another thread could start a query now."""
    from concurrent.futures import ThreadPoolExecutor

    def take():
        taken = _one_at_a_time.acquire(blocking=False)
        if taken:
            _one_at_a_time.release()
        return taken

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).result()


def test_a_query_is_described_with_what_it_reads(spark, lines, folder):
    asking = query(lines, "complete", "lines")
    assert asking.described == {"name": "lines", "mode": "complete", "fingerprint": ""}
    assert asking.spark is spark
    [source] = asking.inputs
    assert source.path == str(folder)


def test_options_by_which_rows_of_a_delta_table_are_left_out_are_described(lines):
    asking = query(lines)
    options = {"path": "/t", "ignoredeletes": "true"}
    vars(asking)["inputs"] = [
        Input("delta", None, {"path": "/s"}, 0, (0,)),
        Input("delta", None, options, 1, (1,)),
    ]
    assert asking.described["left out"] == {"1": ["ignoredeletes"]}


# --- all together


def asked(lines, root, *answers, allow_changed=False, **how):
    """Guard a checkpoint with one question more, which gives these answers."""
    asking = query(lines, allow_changed=allow_changed)

    def questions(given):
        assert given is asking
        return [lambda *_: answers]

    return guard(asking, place(root), questions, **how)


def test_a_guard_changes_a_checkpoint_and_notes_the_query_when_it_runs(
    lines, root, caplog
):
    made = []
    answers = [
        Remark("be careful"),
        Change("a log is shorter", lambda: made.append("done")),
        NoteEntry("sources", ["a"]),
    ]
    with asked(lines, root, *answers, writes={"targets": ["table t"]}) as guarded:
        assert made == ["done"]
        assert guarded.changes == ("a log is shorter",)
        assert told(caplog)[1:] == ["be careful"]
        assert "was not written by sparkstream-kit" in told(caplog)[0]
        assert guarded.lock.name == "q"
        assert (guarded.logs.root, guarded.logs.done) == (root, 1)
        assert not (root / "sparkstream-kit/query.json").exists()
        guarded.note()
        assert lock.user_of(root) == "query q of this process; end it first"
    guarded.lock.release()
    assert note_of(root) == {
        "name": "q",
        "mode": "append",
        "fingerprint": "",
        "sources": ["a"],
        "targets": ["table t"],
    }


def test_a_dry_run_tells_the_changes_and_makes_none(lines, tmp_path, root):
    made = []
    change = Change("a log is shorter", lambda: made.append("done"))
    with asked(lines, root, change, dry_run=True) as guarded:
        assert (guarded.lock, guarded.changes) == (None, ("a log is shorter",))
    assert made == []
    assert not (root / "sparkstream-kit").exists()
    with (
        pytest.raises(ValueError, match="in the block"),
        asked(lines, root, dry_run=True),
    ):
        raise ValueError("in the block")


def test_after_an_error_the_checkpoint_is_free(lines, root):
    with pytest.raises(ValueError, match="in the block"), asked(lines, root):
        raise ValueError("in the block")
    assert lock.user_of(root) is None
    broken(root)
    assert "is damaged: offsets/2" in refusal(asked(lines, root).__enter__)
    assert lock.user_of(root) is None


def test_an_error_of_spark_in_the_block_is_explained(lines, root):
    error = PySparkException(CHECKSUM.format(root))
    with (
        pytest.raises(InvalidInputError, match="damaged: Spark cannot read it"),
        asked(lines, root),
    ):
        raise error


def noting(lines, root, *answers, **how):
    with asked(lines, root, *answers, **how) as guarded:
        guarded.note()
    guarded.lock.release()
    return note_of(root)


def test_a_note_keeps_the_one_before_it_until_spark_has_taken_the_state(lines, root):
    former = noted(root, columns=[["n", "int"]], before=[0, {"name": "older"}])
    now = noting(lines, root, writes={"columns": [["value", "string"]]})
    assert now["columns"] == [["value", "string"]]
    assert now["before"] == [1, former | {"before": None}]


def test_a_note_of_the_same_state_keeps_no_other(lines, root):
    noted(root, targets=["table t"])
    now = noting(lines, root, writes={"targets": ["table u"]})
    assert now["targets"] == ["table u"]
    assert "before" not in now


def test_a_note_that_is_the_same_is_not_written_again(lines, root):
    noted(root)
    file = root / "sparkstream-kit/query.json"
    os.utime(file, (1, 1))
    noting(lines, root)
    assert file.stat().st_mtime == 1
    noting(lines, root, writes={"targets": []})
    assert file.stat().st_mtime > 1


def test_a_checkpoint_out_of_reach_is_not_checked_and_that_is_told(lines, caplog):
    with guard(query(lines), Place("hdfs://node/ckpt")) as guarded:
        assert (guarded.lock, guarded.logs, guarded.changes) == (None, None, ())
        guarded.note()
    [said] = told(caplog)
    assert said.startswith("query q: its checkpoint is not checked, as hdfs://node/")


def test_a_local_checkpoint_is_refused_where_nodes_have_disks_of_their_own(
    spark, lines, root, monkeypatch
):
    pretend_master(spark, monkeypatch, "yarn")
    said = refusal(asked(lines, root).__enter__)
    assert said.startswith(f"checkpoint {root} is a local path, but the master is yarn")


def test_a_guard_without_a_checkpoint_does_nothing(lines, caplog):
    with guard(query(lines), None) as guarded:
        assert (guarded.lock, guarded.logs, guarded.changes) == (None, None, ())
        guarded.note()
    assert told(caplog) == []
