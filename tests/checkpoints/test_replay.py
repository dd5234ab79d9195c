"""Each step of `replay` by itself, on checkpoints that are written by hand.

Spark runs no batch here; where Kafka or a Delta table would answer, the test does.
"""

import json
import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checkpoints.test_rewind import files_of
from conftest import pretend_master, refusal
from pyspark.errors import PySparkException
from support.checkpoint_files import (
    ID,
    commit,
    entry,
    log_text,
    plan,
    put,
    state,
    until,
    whole_checkpoint,
)

from sparkstream_kit._internal.spark.logical_plan import Input
from sparkstream_kit._internal.spark.place import Place
from sparkstream_kit.checkpoints.fingerprint import fingerprint
from sparkstream_kit.checkpoints.guard import StartingQuery
from sparkstream_kit.checkpoints.logs import InputFile, Logs
from sparkstream_kit.checkpoints.moved import Move
from sparkstream_kit.checkpoints.operate import replay
from sparkstream_kit.checkpoints.operate.replay import (
    InputSplit,
    Unreadable,
    _begin_offsets,
    _check_plans,
    _check_state,
    _copy,
    _copy_entries,
    _file_splits,
    _kind,
    _present_files,
    _record_splits,
    _refuse_lost,
    _table_split,
    amounts,
    batch,
    copy_sources,
    end_offsets_of,
    in_batches,
    moves_of,
    run_planned,
    say_batch,
    scratch,
    splits_of,
    write_plan,
)
from sparkstream_kit.connectors.kafka import brokers

PARTITIONS = "spark.sql.shuffle.partitions"


def query(frame=None, mode="append", *, inputs=None, moved=None):
    asking = StartingQuery(frame, "q", mode, False, moved or {})
    if inputs is not None:
        vars(asking)["inputs"] = inputs
    return asking


def files_in(folder, number=0):
    return Input("files", str(folder), {}, number, (number,))


def topics(number=0, **options):
    named = {"kafka.bootstrap.servers": "host:9092", "subscribe": "a,b"}
    return Input("kafka", None, named | options, number, (number,))


def table(number=0, **options):
    return Input("delta", None, {"path": "/t"} | options, number, (number,))


@pytest.fixture
def root(tmp_path, folder):
    """A checkpoint that has read three files of the folder in three batches."""
    return whole_checkpoint(tmp_path / "ckpt", 3, folder)


# --- the folder of a run


def test_a_folder_for_rows_is_a_new_one_of_this_machine(spark):
    with scratch(spark, "shadow") as one, scratch(spark, "shadow") as other:
        assert Path(one).name.startswith("sparkstream-shadow-")
        assert one != other
        assert list(Path(one).iterdir()) == []


def test_a_folder_for_rows_that_other_machines_do_not_have_is_refused(
    spark, monkeypatch
):
    says = (
        "checkpoints.batch(): it keeps its rows in a temporary folder of this machine,"
        " which {} does not have; use a session of this process with the master local[*]"
    )
    with monkeypatch.context() as patch:
        patch.setattr(replay, "locate", lambda *_: Place("/tmp"))  # noqa: S108
        assert refusal(scratch, spark, "batch") == says.format(
            "a Spark Connect server elsewhere"
        )
        pretend_master(spark, patch, "yarn")
        assert refusal(scratch, spark, "batch") == says.format("yarn")


# --- what was read, and whether the query reads the same


def test_the_offsets_of_a_batch_have_the_names_of_the_logs(root):
    plan(root, 3, until(2), '{"a":{"0":4}}', "-")
    ends = {"0": until(2), "1": '{"a":{"0":4}}', "2": None}
    assert end_offsets_of(Logs(root), 3) == ends
    # Of a source that is read twice there is one log
    plan(root, 4, until(2), until(2))
    assert end_offsets_of(Logs(root), 4) == {"0": until(2)}


@pytest.mark.parametrize(
    ("inputs", "ends", "says"),
    [
        (
            [files_in("/in"), Input("rate", None, {}, 1, (1,)), table(2)],
            {},
            (
                "only files, topics and Delta tables are read again from their"
                " beginning, not rate"
            ),
        ),
        (
            [files_in("/in"), files_in("/b", 1)],
            {"0": None},
            "files of /b is a new source",
        ),
        (
            [files_in("/in")],
            {"0": None, "2": None, "1": None},
            "the new query does not read source 1 of the old one",
        ),
        (
            [files_in("/in"), topics(1)],
            {"0": until(1), "1": until(1)},
            "its source 1 did not read topic a,b of Kafka at host:9092",
        ),
        ([table()], {"0": "42"}, "its source 0 did not read delta"),
    ],
    ids=["another kind", "one more", "one less", "other kinds", "an unknown offset"],
)
def test_other_sources_than_before_are_refused(inputs, ends, says, root):
    with pytest.raises(Unreadable) as caught:
        moves_of(query(inputs=inputs), Logs(root), ends)
    assert str(caught.value) == says


def test_the_same_sources_are_read_again(spark, lines, folder, root, tmp_path):
    kinds = [files_in(folder), topics(1), table(2), files_in(folder, 3)]
    delta = '{"reservoirId":"id"}'
    ends = {"0": until(2), "1": '{"a":{"0":4}}', "2": delta, "3": None}
    assert moves_of(query(lines, inputs=kinds), Logs(root), ends) == []
    new = folder.rename(tmp_path / "moved")
    moved = query(lines, inputs=[files_in(new)], moved={folder: new})
    assert moves_of(moved, Logs(root), {"0": until(2)}) == [Move("0", folder, new)]
    other = query(lines, inputs=[files_in(tmp_path / "other")])
    said = refusal(moves_of, other, Logs(root), {"0": until(2)})
    assert said.endswith(
        "to read everything again: a new checkpoint, without continues="
    )


@pytest.mark.parametrize(
    ("offset", "kind"),
    [
        ('{"logOffset":4,"x":{}}', "files"),
        ('{"reservoirId":"id","index":-1}', "delta"),
        ('{"a":{"0":17},"b":{}}', "kafka"),
        ('{"a":{"0":17},"b":1}', ""),
        ("42", ""),
        ("-", ""),
    ],
)
def test_an_offset_shows_the_kind_of_its_source(offset, kind):
    assert _kind(offset) == kind


# --- splits of files


def listed(*files, time=None):
    """Return the files as a log lists them, with their own times or another one."""
    return [
        InputFile(
            number,
            file.stat().st_mtime_ns // 1_000_000 if time is None else time,
            file.as_uri(),
        )
        for number, file in enumerate(files)
    ]


def test_files_that_have_gone_or_changed_are_refused(tmp_path):
    files = [put(tmp_path / f"{number}.txt", "line") for number in range(4)]
    present = listed(*files)
    assert _present_files(present, "0", []) == present
    changed = present[:1] + listed(*files, time=7)[1:3]
    says = f"2 of the 3 files that it has read have changed since, such as {files[1]}"
    with pytest.raises(Unreadable, match=f"^{says}$"):
        _present_files(changed, "0", [])
    files[2].unlink()
    says = f"1 of the 3 files that it has read have gone, such as {files[2]}"
    with pytest.raises(Unreadable, match=f"^{says}$"):
        _present_files(changed, "0", [])


def test_files_are_looked_for_where_they_have_moved(tmp_path):
    before = listed(put(tmp_path / "old/0.txt", "line"))
    (tmp_path / "old").rename(tmp_path / "new")
    move = Move("0", tmp_path / "old", tmp_path / "new")
    of_another = Move("1", tmp_path / "old", tmp_path / "none")
    [file] = _present_files(before, "0", [of_another, move])
    assert file.path == f"{tmp_path}/new/0.txt"
    with pytest.raises(Unreadable, match="1 of the 1 file that it has read have gone"):
        _present_files(before, "0", [of_another])


def test_each_entry_of_a_log_is_a_split(tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "_MOST_BYTES", 1_000)
    monkeypatch.setattr(replay, "_MOST_FILES", 10)
    files = [
        put(tmp_path / name, "x" * size) for name, size in (("a", 500), ("b", 7), ("c", 200))
    ]  # fmt: skip
    times = [file.stat().st_mtime_ns // 1_000_000 for file in files]
    entry(tmp_path, 0, (files[2], times[2]))
    entry(tmp_path, 1, (files[0], times[0]), (files[1], times[1]))
    entry(tmp_path, 2, (tmp_path / "gone", 1))
    found = list(_file_splits(Logs(tmp_path), "0", until(1), []))
    assert found == [
        InputSplit("0", until(0), 0.2, 1, "file"),
        # The second file counts as a tenth, as ten files are a full batch
        InputSplit("0", until(1), 0.6, 2, "file"),
    ]
    with pytest.raises(Unreadable, match="1 of the 4 files that it has read have gone"):
        list(_file_splits(Logs(tmp_path), "0", until(2), []))


def test_files_that_were_taken_out_of_a_log_are_read_again(root, folder):
    file = put(folder / "old.txt", "line")
    [(_, time, _)] = listed(file)
    put(root / "sparkstream-kit/trimmed/0/2.4.9", log_text(0, (file, time)))
    found = list(_file_splits(Logs(root), "0", until(2), []))
    assert [split.amount for split in found] == [2, 1, 1]


def test_a_file_of_another_file_system_counts_as_one_of_many(tmp_path, monkeypatch):
    entry(tmp_path, 0, "hdfs://node/in/a")
    [split] = _file_splits(Logs(tmp_path), "0", until(0), [])
    assert split == InputSplit("0", until(0), 1 / 2_000, 1, "file")


def test_a_file_whose_name_is_a_pattern_is_refused(tmp_path):
    file = put(tmp_path / "a[1].txt", "line")
    entry(tmp_path, 0, (file, listed(file)[0].time))
    with pytest.raises(Unreadable) as caught:
        list(_file_splits(Logs(tmp_path), "0", until(0), []))
    assert str(caught.value) == (
        f"Spark reads {file} rightly only in a batch of its own"
    )


def test_each_kind_of_source_has_its_splits(lines, root, folder, kafka, monkeypatch):
    def units(source, end, **how):
        asking = query(lines, inputs=[source])
        return [
            (split.unit, split.end)
            for split in splits_of(asking, Logs(root), source, end, [], **how)
        ]

    assert units(files_in(folder), None) == []
    assert units(files_in(folder), until(1)) == [("file", until(0)), ("file", until(1))]
    end = '{"a":{"0":40}}'
    put(root / "sources/0/0", "\0v1", '{"a":{"0":10}}')
    assert units(topics(), end) == [("record", end)]
    kafka.first["a", 0] = 11
    lossy = topics(failondataloss="false")
    assert units(lossy, end) == [("record", end)]
    with pytest.raises(Unreadable, match="has deleted 1 records"):
        units(lossy, end, refuses_loss=True)
    monkeypatch.setattr(replay, "_gone_of_table", lambda *_: set())
    assert units(table(), OF_TABLE) == [("Delta table", OF_TABLE)]


# --- splits of topics


class Kafka:
    """What the brokers would answer: the topics, and the first record of each partition."""

    def __init__(self):
        self.there = {name: brokers.Topic(f"id of {name}", (0, 1)) for name in "ab"}
        self.first = {}

    def topics(self, names):
        return {name: self.there[name] for name in names if name in self.there}

    def earliest(self, partitions):
        return {each: self.first.get(each, 0) for each in partitions}


@pytest.fixture
def kafka(monkeypatch):
    answers = Kafka()

    @contextmanager
    def client(_spark, options):
        assert options["kafka.bootstrap.servers"] == "host:9092"
        yield answers

    monkeypatch.setattr(brokers, "client", client)
    monkeypatch.setattr(brokers, "can_ask", lambda _: True)
    return answers


@pytest.fixture
def of_kafka(tmp_path):
    """A checkpoint of a query that began to read topic `a` at offset 10."""
    put(tmp_path / "sources/0/0", "\0v1", '{"a":{"0":10}}')
    plan(tmp_path, 0, '{"a":{"0":20}}')
    commit(tmp_path, 0)
    return tmp_path


no_session: Any = None  # where the test answers for Kafka and Delta
END = '{"a":{"0":40,"1":7},"b":{"0":3}}'


def begun(root, source=None, since=None, *, refuses_loss=False):
    return _begin_offsets(
        no_session,
        Logs(root),
        source or topics(),
        END,
        since,
        refuses_loss=refuses_loss,
    )


def test_records_are_read_from_where_the_query_began(of_kafka, kafka):
    assert begun(of_kafka) == {"a": {0: 10, 1: 0}, "b": {0: 0}}
    since = '{"a":{"0":20,"1":6},"b":{"0":1}}'
    assert begun(of_kafka, since=since) == {"a": {0: 20, 1: 6}, "b": {0: 1}}


def test_records_that_are_lost_are_refused(of_kafka, kafka, caplog):
    kafka.first["a", 0] = 12
    lost = (
        "Kafka at host:9092 has deleted 2 records of topic a that were still to be read"
        " (partition 0: 2)"
    )
    with pytest.raises(Unreadable) as caught:
        begun(of_kafka)
    assert str(caught.value) == f"{lost}; {brokers.GO_ON}"
    with pytest.raises(Unreadable) as caught:
        begun(of_kafka, refuses_loss=True)
    assert str(caught.value) == lost
    assert caplog.records == []
    lossy = topics(failondataloss="false")
    assert begun(of_kafka, lossy)["a"] == {0: 10, 1: 0}
    assert [record.getMessage() for record in caplog.records] == [
        f"checkpoint {of_kafka} is continued without what is lost: {lost}"
    ]
    with pytest.raises(Unreadable) as caught:
        begun(of_kafka, lossy, refuses_loss=True)
    assert str(caught.value) == lost


def test_a_topic_that_was_made_again_is_refused(of_kafka, kafka):
    note = {"name": "q", "mode": "append", "fingerprint": ""}
    for noted, is_refused in (
        ({"topics": {"0": {"a": "id of a", "b": "id of b"}}}, False),
        ({"topics": {"1": {"a": "another"}}}, False),
        ({"topics": {"0": {"b": "another"}}}, True),
    ):
        put(of_kafka / "sparkstream-kit/query.json", json.dumps(note | noted))
        if is_refused:
            with pytest.raises(Unreadable) as caught:
                begun(of_kafka)
            assert str(caught.value) == "topic b was deleted and made again since"
        else:
            assert begun(of_kafka)


def test_kafka_that_cannot_be_asked_is_refused(of_kafka, kafka, monkeypatch):
    monkeypatch.setattr(brokers, "can_ask", lambda _: False)
    with pytest.raises(Unreadable, match="use a session of this process .unset SPARK_"):
        begun(of_kafka)


def test_records_are_split_into_equal_steps(of_kafka, kafka, monkeypatch):
    def found(most):
        monkeypatch.setattr(replay, "_MOST_RECORDS", most)
        return list(
            _record_splits(
                no_session, Logs(of_kafka), topics(), END, refuses_loss=False
            )
        )

    assert found(40) == [InputSplit("0", END, 1.0, 40, "record")]
    assert found(80) == [InputSplit("0", END, 0.5, 40, "record")]
    assert found(39) == [
        InputSplit("0", '{"a":{"0":25,"1":3},"b":{"0":1}}', 20 / 39, 20, "record"),
        InputSplit("0", END, 20 / 39, 20, "record"),
    ]
    three = found(14)
    assert [split.amount for split in three] == [13, 13, 14]
    assert [split.end for split in three] == [
        '{"a":{"0":20,"1":2},"b":{"0":1}}',
        '{"a":{"0":30,"1":4},"b":{"0":2}}',
        END,
    ]
    assert {split.size for split in three} == {40 / 3 / 14}


def test_no_record_is_a_split_too(of_kafka, kafka):
    end = '{"a":{"0":10}}'
    [split] = _record_splits(
        no_session, Logs(of_kafka), topics(), end, refuses_loss=False
    )
    assert split == InputSplit("0", end, 0.0, 0, "record")


# --- splits of Delta tables


def of_table(version, *, starts):
    offset = {"reservoirId": "id", "reservoirVersion": version}
    return json.dumps(offset | {"isStartingVersion": starts})


OF_TABLE = of_table(3, starts=True)


@pytest.mark.parametrize(("starts", "version"), [(True, 3), (False, 2)])
def test_a_delta_table_is_one_split(starts, version, tmp_path, monkeypatch):
    asked = []
    gone: set[str] = set()

    def gone_of_table(*args):
        asked.append(args)
        return gone

    monkeypatch.setattr(replay, "_gone_of_table", gone_of_table)
    end = of_table(3, starts=starts)
    found = partial(_table_split, no_session, Logs(tmp_path), table(), end)
    assert list(found()) == [InputSplit("0", end, 1, 1, "Delta table")]
    assert asked == [(no_session, "/t", "id", version)]
    gone.update({"a", "b"})
    with pytest.raises(Unreadable) as caught:
        list(found())
    assert str(caught.value) == (
        f"2 files of version {version} of its Delta table have gone"
    )


def test_a_delta_table_that_is_not_read_as_a_whole_is_refused(tmp_path, monkeypatch):
    def split(source, error=None):
        def gone_of_table(*_):
            if error:
                raise error
            return set()

        monkeypatch.setattr(replay, "_gone_of_table", gone_of_table)
        with pytest.raises(Unreadable) as caught:
            list(_table_split(no_session, Logs(tmp_path), source, OF_TABLE))
        return str(caught.value)

    unknown = Input("delta", None, {}, 0, (0,))
    assert "on Spark Connect the path of its Delta table is not known" in split(unknown)
    left_out = "with option {} not all rows of its Delta table are read"
    assert split(table(ignoredeletes="true")) == left_out.format("ignoredeletes")
    note = {"mode": "append", "fingerprint": "", "left out": {"0": ["startingversion"]}}
    file = put(tmp_path / "sparkstream-kit/query.json", json.dumps(note))
    assert split(table()) == left_out.format("startingversion")
    file.unlink()
    for error in (OSError("no disk"), PySparkException("no disk")):
        said = split(table(), error)
        assert said.startswith("its Delta table cannot be read again (")
        assert "no disk" in said
    another = Unreadable("another Delta table is at /t now")
    assert split(table(), another) == str(another)


# --- batches


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([], "no input"),
        ([(1, "file")], "1 file"),
        ([(7, "file"), (1_200, "record"), (5, "file")], "12 files and 1,200 records"),
    ],
)
def test_the_amount_of_input_is_told_in_words(counts, text):
    splits = [InputSplit("0", "", 1, number, unit) for number, unit in counts]
    assert amounts(splits) == text


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([], [{}]),
        ([("0", 0.5), ("0", 0.5)], [{"0": 1}]),
        ([("0", 0.5), ("0", 0.6)], [{"0": 0}, {"0": 1}]),
        ([("0", 5), ("0", 5)], [{"0": 0}, {"0": 1}]),
        ([("0", 0), ("0", 5)], [{"0": 1}]),
        (
            [("0", 0.9), ("1", 0.2), ("1", 0.9)],
            [{"0": 0}, {"0": 0, "1": 1}, {"0": 0, "1": 2}],
        ),
    ],
    ids=["none", "full", "too much", "large ones", "an empty one", "two sources"],
)
def test_splits_are_put_into_batches_in_their_order(sizes, batches):
    splits = [
        InputSplit(log, str(end), size, 1, "file")
        for end, (log, size) in enumerate(sizes)
    ]
    texts = [{log: str(end) for log, end in batch.items()} for batch in batches]
    assert in_batches(splits, 1.0) == texts


# --- a new checkpoint

OF_ALL = {"metadata", "sources/0/0", "sources/0/1", "sources/0/2"}


def test_the_logs_of_the_sources_are_copied_whole(root, folder, tmp_path):
    file = put(folder / "old.txt", "line")
    [listing] = listed(file)
    entry(root, 2, (file, listing.time, 2), compact=True)
    put(root / "sparkstream-kit/trimmed/0/2.4.9", log_text(0, (file, 3)))
    new = tmp_path / "new"
    moved = tmp_path / "moved"
    for target, moves, where in (
        (tmp_path / "same", [], folder),
        (new, [Move("0", folder, moved)], moved),
    ):
        copy_sources(Logs(root), target, moves)
        assert files_of(target) == OF_ALL | {"sources/0/2.compact"}
        paths = [each.path for each in Logs(target).inputs("0")]
        assert paths == [f"{where}/old.txt"] * 2
    new_id = json.loads((new / "metadata").read_text())["id"]
    assert len(new_id) == len(ID)
    assert new_id != ID
    assert (root / "sparkstream-kit/trimmed/0/2.4.9").exists()


def test_a_checkpoint_without_logs_of_sources_is_copied_too(tmp_path):
    (tmp_path / "old").mkdir()
    copy_sources(Logs(tmp_path / "old"), tmp_path / "new", [])
    assert files_of(tmp_path / "new") == {"metadata"}
    assert (tmp_path / "new/sparkstream-kit").is_dir()
    assert not (tmp_path / "new/sources").exists()


def test_a_file_that_goes_while_a_folder_is_copied_is_left_out(tmp_path):
    put(tmp_path / "from/kept", "text")
    os.utime(tmp_path / "from/kept", (1, 1))
    (tmp_path / "from/gone").symlink_to(tmp_path / "none")
    _copy(tmp_path / "from", tmp_path / "to")
    assert files_of(tmp_path / "to") == {"kept"}
    assert (tmp_path / "to/kept").stat().st_mtime == 1


def test_a_plan_has_the_settings_of_a_start_on_the_old_checkpoint(
    spark, lines, folder, root, tmp_path
):
    here = spark.conf.get(PARTITIONS)
    conf = {PARTITIONS: "77", "spark.sql.streaming.unknown": "kept"}
    plan(root, 2, until(2), conf=conf)
    other = spark.readStream.text(str(folder.parent))
    asking = query(lines.union(other).union(lines))
    new = tmp_path / "new"
    new.mkdir()
    write_plan(asking, Logs(root), Logs(new), 4, {"0": until(1)}, 5, 6)
    planned = Logs(new).plan(4)
    assert planned.conf == {PARTITIONS: here, "spark.sql.streaming.unknown": "kept"}
    assert planned.offsets == (until(1), None, until(1))
    assert (planned.watermark, planned.time) == (5, 6)
    before = int(Path(put(tmp_path / "now", "")).stat().st_mtime * 1000) - 1_000
    write_plan(asking, Logs(root), Logs(new), 5, {"0": None, "1": until(0)})
    planned = Logs(new).plan(5)
    assert planned.offsets == (None, until(0), None)
    assert planned.watermark == 0
    assert before < planned.time < before + 600_000
    assert {*Logs(new).entries("offsets")} == {4, 5}


@pytest.mark.parametrize(
    ("total", "told"),
    [
        (1, [1]),
        (20, [*range(1, 21)]),
        (21, [*range(1, 22, 2)]),
        (40, [*range(1, 41, 2)]),
        (2_000, [*range(1, 2_001, 100)]),
    ],
)
def test_at_most_twenty_lines_say_which_batch_is_run(total, told, capsys):
    for number in range(total):
        say_batch(query(), number, total)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"query q: running batch {each:,} of {total:,} …" for each in told]


class Running:
    """A query that ends as the test says."""

    def __init__(self, end):
        self.end = end
        self.stopped = False
        self.settings: dict[str, Any] = {}

    def awaitTermination(self):
        self.end()

    def stop(self):
        self.stopped = True


@pytest.fixture
def begins(monkeypatch):
    """Begin a query that ends as the test says; what it began with is kept."""

    def set_end(end):
        running = Running(end)

        def begin(writer):
            spark = writer._spark  # noqa: SLF001 - no public way
            running.settings = {
                key: spark.conf.get(key, None)
                for key in ("spark.sql.files.ignoreMissingFiles", PARTITIONS)
            }
            return running

        monkeypatch.setattr(replay, "begin", begin)
        return running

    return set_end


def test_a_planned_batch_is_run_to_its_commit(lines, root, begins):
    plan(root, 3, until(2))
    seen = Logs(root)
    assert (seen.done, seen.planned) == (2, 3)
    running = begins(lambda: commit(root, 3))
    run_planned(query(lines), seen, lines.writeStream, {PARTITIONS: "77"})
    assert running.stopped
    assert running.settings == {
        "spark.sql.files.ignoreMissingFiles": "false",
        PARTITIONS: "77",
    }
    plan(root, 4, until(2))
    running = begins(lambda: commit(root, 4))
    run_planned(query(lines), seen, lines.writeStream)
    assert running.settings[PARTITIONS] != "77"


def test_a_batch_that_is_not_committed_says_why(lines, root, begins):
    plan(root, 3, until(2))

    def fail():
        raise PySparkException("no memory")

    def interrupt():
        raise KeyboardInterrupt

    run = partial(run_planned, query(lines), Logs(root), lines.writeStream)
    for end, reason in (
        (lambda: None, "the query was stopped"),
        (fail, "PySparkException: no memory"),
    ):
        running = begins(end)
        with pytest.raises(Unreadable) as caught:
            run()
        assert str(caught.value) == f"a batch could not be run again ({reason})"
        assert running.stopped
    running = begins(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert running.stopped


# --- one batch


def test_a_batch_whose_input_is_lost_is_refused(lines, root, folder):
    asking = query(lines)
    (folder / "1.txt").unlink()
    _refuse_lost(asking, Logs(root), 0, [])
    _refuse_lost(asking, Logs(root), 2, [])
    with pytest.raises(Unreadable, match="1 of the 1 file that it has read have gone"):
        _refuse_lost(asking, Logs(root), 1, [])
    new = folder.rename(folder.with_name("moved"))
    put(new / "1.txt", "line 1")
    os.utime(new / "1.txt", ns=(0, Logs(root).inputs("0", 0, 1)[0].time * 1_000_000))
    _refuse_lost(asking, Logs(root), 1, [Move("0", folder, new)])


def test_a_batch_whose_records_are_lost_is_refused(lines, of_kafka, kafka):
    plan(of_kafka, 1, '{"a":{"0":40}}')
    plan(of_kafka, 2, "-")
    # Also where the source goes on without them
    asking = query(lines, inputs=[topics(failondataloss="false")])
    _refuse_lost(asking, Logs(of_kafka), 0, [])
    kafka.first["a", 0] = 20
    _refuse_lost(asking, Logs(of_kafka), 1, [])
    _refuse_lost(asking, Logs(of_kafka), 2, [])
    with pytest.raises(Unreadable, match="has deleted 10 records of topic a"):
        _refuse_lost(asking, Logs(of_kafka), 0, [])
    kafka.first["a", 0] = 21
    with pytest.raises(Unreadable, match="has deleted 1 records of topic a"):
        _refuse_lost(asking, Logs(of_kafka), 1, [])


@pytest.mark.parametrize(
    ("plans", "complete"),
    [((0, 1, 2), [0, 1, 2]), ((3, 4, 6, 7), [4, 7]), ((1, 2), [2])],
)
def test_a_batch_needs_its_plan_and_the_one_before(plans, complete, tmp_path):
    for number in plans:
        plan(tmp_path, number, "-")
    for number in complete:
        _check_plans("ckpt", Logs(tmp_path), number)
    for number in {*range(9)} - {*complete}:
        assert refusal(_check_plans, "ckpt", Logs(tmp_path), number) == (
            f"checkpoint ckpt does not keep the plans of batch {number} and of the one"
            f" before; give one of the batches {complete[0]} to {complete[-1]}"
        )


@pytest.mark.parametrize("plans", [(), (7,)])
def test_a_checkpoint_may_keep_no_batch(plans, tmp_path):
    for number in plans:
        plan(tmp_path, number, "-")
    assert refusal(_check_plans, "ckpt", Logs(tmp_path), 7) == (
        "checkpoint ckpt does not keep the plans of batch 7 and of the one before; it"
        " keeps no batch"
    )


def test_a_frame_must_keep_the_state_of_the_query(tmp_path):
    by_key, by_other = "facts 3\ngroups by: k#0", "facts 3\ngroups by: j#0"
    assert refusal(_check_state, "ckpt", Logs(tmp_path), by_key) == (
        "checkpoint ckpt has no note of its mode; start its query once by the kit"
    )
    note = {"mode": "update", "fingerprint": by_key}
    put(tmp_path / "sparkstream-kit/query.json", json.dumps(note))
    _check_state("ckpt", Logs(tmp_path), by_key)
    assert refusal(_check_state, "ckpt", Logs(tmp_path), by_other) == (
        "the frame groups by j; the checkpoint's query groups by k; give the frame of"
        " the job, or that of its source"
    )


def test_the_entries_of_a_log_that_are_there_are_copied(root, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    _copy_entries(Logs(root), new, "commits", [-1, 0, 2, 3])
    assert files_of(new) == {"commits/0", "commits/2"}
    assert (new / "commits/2").read_text() == (root / "commits/2").read_text()


@pytest.fixture
def copied(spark, monkeypatch):
    """Keep what is in the copy of the checkpoint where Spark would run the batch."""
    seen = {}

    def run(asking, new_logs, _writer):
        seen["files"] = files_of(new_logs.root)
        seen["mode"] = (asking.name, asking.mode)
        spark.range(2).write.parquet(f"{new_logs.root.parent}/rows")

    monkeypatch.setattr(replay, "run_planned", run)
    yield seen
    for folder in replay.KEPT:
        folder.cleanup()
    replay.KEPT.clear()


def test_a_batch_is_run_again_on_a_copy_of_what_it_needs(spark, lines, root, copied):
    state(root, 2)
    before = files_of(root)
    assert batch(spark, root, 2, lines).count() == 2
    assert copied["files"] == OF_ALL | {"offsets/1", "offsets/2", "commits/1"}
    assert copied["mode"] == ("batch 2", "append")
    batch(spark, str(root), 0, lines)
    assert copied["files"] == OF_ALL | {"offsets/0"}
    assert len(replay.KEPT) == 2
    assert files_of(root) == before


def test_a_batch_with_state_is_run_with_the_state_before_it(spark, lines, root, copied):
    counts = lines.groupBy("value").count()
    note = {"mode": "update", "fingerprint": fingerprint(counts, "update")}
    put(root / "sparkstream-kit/query.json", json.dumps(note))
    state(root, 1, 2, 3)
    schema = '{{"a":"file:{0}/state/0/_stateSchema/default/1"}}'
    put(root / "state/0/_metadata/v2/0", "v2", schema.format(root))
    batch(spark, root, 2, counts)
    assert copied["files"] == OF_ALL | {
        "offsets/1",
        "offsets/2",
        "commits/1",
        "state/0/0/1.delta",
        "state/0/0/2.delta",
        "state/0/_metadata/v2/0",
    }
    assert copied["mode"] == ("batch 2", "update")
    [folder] = replay.KEPT
    assert f"file:{folder.name}/checkpoint/state/0/_state" in (
        Path(folder.name, "checkpoint/state/0/_metadata/v2/0").read_text()
    )
    batch(spark, root, 0, counts)
    assert copied["files"] == OF_ALL | {"offsets/0"}
    # What it reads has no state
    batch(spark, root, 2, lines)
    assert copied["mode"] == ("batch 2", "append")
    others = lines.distinct()
    said = refusal(batch, spark, root, 2, others)
    assert said.startswith(
        "the frame drops duplicates by value; the checkpoint's query"
    )


def test_a_batch_that_cannot_be_run_again_says_why(
    spark, lines, root, folder, copied, monkeypatch
):
    (folder / "2.txt").unlink()
    says = f"batch {{}} of checkpoint {root} cannot be opened: {{}}"
    assert refusal(batch, spark, root, 2, lines) == says.format(
        2, f"1 of the 1 file that it has read have gone, such as {folder}/2.txt"
    )
    twice = spark.readStream.text(str(folder)).union(lines)
    assert refusal(batch, spark, root, 1, twice) == says.format(
        1, f"files of {folder} is a new source"
    )
    assert "does not keep the plans of batch 3" in refusal(batch, spark, root, 3, lines)
    for error in (OSError(28, "No space left"), Unreadable("the query was stopped")):

        def run(*_, error=error):
            raise error

        monkeypatch.setattr(replay, "run_planned", run)
        assert refusal(batch, spark, root, 1, lines) == says.format(1, error)
    assert replay.KEPT == []
