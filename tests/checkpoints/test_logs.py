"""The files of a checkpoint as Python reads and writes them, on files made by hand."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.checkpoint_files import (
    AT,
    commit,
    commit_text,
    log_text,
    place,
    plan,
    plan_text,
    put,
    put_all,
)

from sparkstream_kit._internal.spark.place import Place
from sparkstream_kit.checkpoints import logs
from sparkstream_kit.checkpoints.logs import (
    BatchPlan,
    DamagedError,
    InputFile,
    Logs,
    at_hand,
    log_after,
    log_file,
    log_lines,
    of_batch,
    write_note,
)
from sparkstream_kit.errors import InvalidInputError, TransientError


def dated(file, seconds):
    os.utime(file, (seconds, seconds))


def listed(*entries):
    """Return a file of a source's log, with a file `N.csv` for each entry N."""
    return log_text(0, *((f"/in/{each}.csv", AT + each, each) for each in entries))


def entries_of(inputs):
    return [each.entry for each in inputs]


class Far(Place):
    """A checkpoint on another file system, whose files are copied by name."""

    def __init__(self, root):
        super().__init__("hdfs://far/ckpt")
        self.root = root
        self.brought: list[str] = []

    def names(self, name=""):
        inside = self.root / name
        return [path.name for path in inside.iterdir()] if inside.exists() else []

    def bring(self, name, folder):
        source, target = self.root / name, folder / name
        if not source.exists():
            return
        self.brought.append(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)

    def write(self, name, text):
        put(self.root / name, text)


# What is wrong with a file


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No such file"), "is missing"),
        (IsADirectoryError(21, "Is a directory"), "cannot be read (Is a directory)"),
        (ValueError("no JSON"), "is cut off or changed"),
        (StopIteration(), "is cut off or changed"),
    ],
)
def test_an_error_of_a_parser_names_the_file(error, says):
    with pytest.raises(DamagedError) as told, logs.reading(Path("/ckpt/offsets/7")):
        raise error
    assert str(told.value) == f"/ckpt/offsets/7 {says}"
    assert (told.value.file, told.value.what) == (Path("/ckpt/offsets/7"), says)
    assert told.value.fix == ""


def test_an_error_that_names_a_file_already_is_left_alone():
    inner = DamagedError(Path("/ckpt/commits/3"), "is empty", "restore it")
    with pytest.raises(DamagedError) as told, logs.reading(Path("/ckpt/offsets/7")):
        raise inner
    assert told.value is inner
    assert inner.fix == "restore it"


def test_what_a_block_reads_without_an_error_is_kept():
    with logs.reading(Path("/ckpt/offsets/7")):
        text = "v1"
    assert text == "v1"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/ckpt", Path("/ckpt")),
        (Path("ckpt"), Path("ckpt")),
        ("file:///ckpt", Path("/ckpt")),
        ("hdfs://namenode/ckpt", None),
    ],
)
def test_a_checkpoint_is_local_or_elsewhere(path, wanted):
    assert logs.local(path) == wanted


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"v1\na\nb", ["v1", "a", "b"]),
        (b"v2\n", ["v2", ""]),
        ("v1\né".encode(), ["v1", "é"]),
    ],
)
def test_the_lines_of_a_log_file_are_returned(tmp_path, text, lines):
    put(tmp_path / "0", text)
    assert logs.versioned(tmp_path / "0", "v1", "v2") == lines


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(None, "is missing", id="missing"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \n\n", "is empty", id="blank"),
        pytest.param(b"v1", "is cut off or changed", id="the version alone"),
        pytest.param(b"1\n{}", "is cut off or changed", id="no version"),
        pytest.param(b"v1.5\n{}", "is cut off or changed", id="an odd version"),
        pytest.param(b"v1\n\xff", "is cut off or changed", id="no text"),
    ],
)
def test_a_log_file_that_is_damaged_is_told_apart(tmp_path, text, says):
    file = tmp_path / "0"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(DamagedError) as told:
        logs.versioned(file, "v1", "v2")
    assert str(told.value) == f"{file} {says}"


def test_a_log_file_of_a_newer_spark_is_not_damaged(tmp_path):
    put(tmp_path / "0", "v3\n{}")
    with pytest.raises(
        InvalidInputError, match=r"/0 has format v3, .* a newer kit"
    ) as told:
        logs.versioned(tmp_path / "0", "v1", "v2")
    assert not isinstance(told.value, DamagedError)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"id":"ad7c"}', "ad7c"),
        ('{"id":', "is cut off or changed"),
        ("{}", "does not hold a query's id"),
        ("", "is empty"),
    ],
)
def test_a_query_s_id_is_read_or_its_file_is_damaged(tmp_path, text, wanted):
    put(tmp_path / "metadata", text)
    try:
        found = logs.query_id(tmp_path / "metadata")
    except DamagedError as err:
        found = err.what
    assert found == wanted


# Plans and commits


def test_a_plan_has_what_its_lines_say(tmp_path):
    query = '{"batchWatermarkMs":5,"batchTimestampMs":1700000000000,"conf":{"a.b":"c"}}'
    put(tmp_path / "7", f'v1\n{query}\n{{"logOffset":3}}\n-\n12')
    assert logs.plan(tmp_path / "7") == BatchPlan(
        conf={"a.b": "c"},
        offsets=('{"logOffset":3}', None, "12"),
        files=(3, None, None),
        watermark=5,
        names=("0", "1", "2"),
        time=1_700_000_000_000,
    )


def test_a_plan_without_times_and_settings_has_zeros_and_none():
    assert logs.plan_in("v1\n{}\n-") == BatchPlan({}, (None,), (None,), 0, ("0",), 0)


@pytest.mark.parametrize(
    ("lines", "names", "offsets"),
    [
        (["10:5", "9:-", "0:a:b"], ("0", "9", "10"), ("a:b", None, "5")),
        (["orders:-", "lines:7"], ("lines", "orders"), ("7", None)),
    ],
    ids=["by number", "by name"],
)
def test_the_sources_of_a_plan_with_names_are_in_order(lines, names, offsets):
    plan = logs.plan_in("\n".join(["v2", "{}", *lines]))
    assert (plan.names, plan.offsets) == (names, offsets)


@pytest.mark.parametrize(
    "text",
    ["v1\n{}", "v1\n{\n-", 'v1\n{}\n{"logOffset":', "v2\n{}\n-", "v1\n[]\n-"],
    ids=["no source", "no JSON", "an offset cut off", "no name", "no settings"],
)
def test_a_plan_that_is_cut_off_is_damaged(tmp_path, text):
    put(tmp_path / "7", text)
    with pytest.raises(DamagedError, match=r"7 is cut off or changed$"):
        logs.plan(tmp_path / "7")


@pytest.mark.parametrize(
    ("offset", "entry"),
    [
        ('{"logOffset":0}', 0),
        ('{"logOffset":3}', 3),
        ('{"logOffset":3,"x":1}', None),
        ('{"topic":{"0":12}}', None),
        ("{}", None),
        ('["logOffset"]', None),
        ("12", None),
        (None, None),
    ],
)
def test_only_a_file_source_s_offset_is_an_entry_of_a_log(offset, entry):
    assert logs._files_until(offset) == entry  # noqa: SLF001


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('v1\n{"nextBatchWatermarkMs":5}', {"nextBatchWatermarkMs": 5}),
        ("v1\n{}", {"nextBatchWatermarkMs": 0}),
        (
            'v2\n{"stateUniqueIds":{"0":[]}}',
            {"stateUniqueIds": {"0": []}, "nextBatchWatermarkMs": 0},
        ),
        ('v3\n{"sink":"s"}\n', {"sink": "s", "nextBatchWatermarkMs": 0}),
    ],
)
def test_a_commit_has_spark_s_json_and_a_watermark(tmp_path, text, content):
    put(tmp_path / "commits/3", text)
    assert logs.commit(tmp_path / "commits/3") == content
    assert Logs(tmp_path).commit(3) == content


@pytest.mark.parametrize("text", ["v1\n", "v1\n[]"])
def test_a_commit_that_is_cut_off_is_damaged(tmp_path, text):
    put(tmp_path / "3", text)
    with pytest.raises(DamagedError, match=r"3 is cut off or changed$"):
        logs.commit(tmp_path / "3")


@pytest.mark.parametrize("text", ["v1\né", ["v1", "\né"], [b"v1\n", "é"]])
def test_a_file_is_replaced_and_loses_its_checksum(tmp_path, text):
    put(tmp_path / "7", "v1\nold and longer")
    put(tmp_path / ".7.crc", "of the old one")
    logs.replace(tmp_path / "7", text if isinstance(text, str) else iter(text))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "7": "v1\né"
    }


# Listings


def test_a_log_is_listed_by_number_and_its_compacted_files_count(tmp_path):
    names = ["10", "9", "9.compact", "8", ".8.crc", "8.tmp", "metadata"]
    put_all(tmp_path, {f"log/{name}": "" for name in names})
    assert list(logs.numbered(tmp_path / "log").items()) == [
        (8, tmp_path / "log/8"),
        (9, tmp_path / "log/9.compact"),
        (10, tmp_path / "log/10"),
    ]


@pytest.mark.parametrize("folder", ["gone", "file", "file/below"])
def test_a_log_that_is_not_there_is_empty(tmp_path, folder):
    put(tmp_path / "file")
    assert logs.numbered(tmp_path / folder) == {}


def test_a_log_is_listed_once_until_it_is_refreshed(tmp_path):
    commit(tmp_path, 0)
    plan(tmp_path, 0, "-")
    found = Logs(tmp_path)
    assert (found.planned, found.done) == (0, 0)
    commit(tmp_path, 1)
    plan(tmp_path, 2, "-")
    assert (found.planned, found.done) == (0, 0)
    assert found.refresh() is found
    assert (found.planned, found.done) == (2, 1)


def test_before_the_first_batch_the_last_one_is_minus_one(tmp_path):
    found = Logs(tmp_path)
    assert (found.planned, found.done, found.last_plan) == (-1, -1, None)
    assert (found.sources, found.until_planned, found.until(-1)) == ([], {}, {})


def test_a_file_is_read_once_until_it_is_replaced(tmp_path):
    plan(tmp_path, 0, 0)
    plan(tmp_path, 1, 1)
    found = Logs(tmp_path)
    assert [found.plan(batch).files for batch in (0, 1)] == [(0,), (1,)]
    plan(tmp_path, 0, 5)
    plan(tmp_path, 1, 6)
    assert [found.plan(batch).files for batch in (0, 1)] == [(0,), (1,)]
    found.replace(tmp_path / "offsets/1", plan_text(7))
    assert [found.plan(batch).files for batch in (0, 1)] == [(0,), (7,)]


def test_a_file_that_is_replaced_is_listed_then(tmp_path):
    plan(tmp_path, 0, 0)
    found = Logs(tmp_path)
    assert found.planned == 0
    found.replace(tmp_path / "offsets/1", plan_text(1))
    assert found.planned == 1


def test_a_result_is_kept_for_each_reader_and_file():
    read = []

    def number(file):
        read.append(file)
        return len(read)

    found = Logs(Path("/ckpt"))
    one, other = Path("/ckpt/offsets/1"), Path("/ckpt/offsets/2")
    assert [found.read(number, file) for file in (one, one, other, one)] == [1, 1, 2, 1]
    assert read == [one, other]


def test_of_one_file_each_reader_has_its_own_result(tmp_path):
    put(tmp_path / "sources/0/0", listed(4))
    found = Logs(tmp_path)
    file = tmp_path / "sources/0/0"
    assert entries_of(found.read(log_file, file)) == [4]
    assert found.read(lambda path: path.name, file) == "0"
    assert entries_of(found.read(log_file, file)) == [4]


@pytest.mark.parametrize(
    ("seconds", "is_known"),
    [(0, True), (60, True), (-60, True), (61, False), (-61, False)],
)
def test_a_commit_has_its_file_s_time_if_the_plan_s_file_has_its_own(
    tmp_path, seconds, is_known
):
    plan(tmp_path, 3, "-")
    commit(tmp_path, 3)
    dated(tmp_path / "offsets/3", AT / 1000 + seconds)
    dated(tmp_path / "commits/3", AT / 1000 + 5)
    # The 14th of November 2023, 22:13:20, is 1,700,000,000 seconds after 1970
    wanted = datetime(2023, 11, 14, 22, 13, 25, tzinfo=UTC) if is_known else None
    assert Logs(tmp_path).committed_at(3) == wanted


@pytest.mark.parametrize(
    "files",
    [
        {"offsets/3": plan_text("-")},
        {"commits/3": commit_text()},
        {"offsets/3": "v1", "commits/3": commit_text()},
        {"offsets/2": plan_text("-"), "commits/2": commit_text()},
    ],
    ids=["no commit", "no plan", "a damaged plan", "another batch"],
)
def test_the_time_of_a_commit_is_not_known(tmp_path, files):
    put_all(tmp_path, files)
    for name in files:
        dated(tmp_path / name, AT / 1000)
    assert Logs(tmp_path).committed_at(3) is None


def test_a_commit_that_spark_removes_meanwhile_has_no_time(tmp_path):
    plan(tmp_path, 3, "-")
    commit(tmp_path, 3)
    found = Logs(tmp_path)
    assert (found.planned, found.done) == (3, 3)
    dated(tmp_path / "offsets/3", AT / 1000)
    (tmp_path / "commits/3").unlink()
    assert found.committed_at(3) is None


def test_the_last_plan_is_the_newest_one_that_can_be_read(tmp_path):
    plan(tmp_path, 8, 1)
    plan(tmp_path, 9, 2)
    put(tmp_path / "offsets/10", "v1\n{")
    last = Logs(tmp_path).last_plan
    assert last is not None
    assert last.files == (2,)
    put(tmp_path / "offsets/11", "v9\n{}\n-")
    with pytest.raises(InvalidInputError, match="format v9"):
        _ = Logs(tmp_path).last_plan


def test_no_plan_is_the_last_one_if_all_are_damaged(tmp_path):
    put(tmp_path / "offsets/0", "v1")
    put(tmp_path / "offsets/1")
    found = Logs(tmp_path)
    assert found.last_plan is None
    assert found.until_planned == {}


# The note of the kit

NOTE = {"name": "totals", "mode": "complete", "fingerprint": ""}
NOTE_FILE = "sparkstream-kit/query.json"


def noted(root, note):
    put(root / NOTE_FILE, json.dumps(note))
    return Logs(root)


@pytest.mark.parametrize(
    "note", [NOTE, {"mode": "append", "fingerprint": "facts 3", "sinks": []}]
)
def test_the_note_is_what_was_written(tmp_path, note):
    found = noted(tmp_path, note)
    assert found.note == found.noted == note


def test_a_checkpoint_of_plain_spark_has_no_note(tmp_path):
    found = Logs(tmp_path)
    assert (found.note, found.noted) == (None, {})


@pytest.mark.parametrize(
    "note",
    [
        "{",
        "[1]",
        "null",
        "{}",
        '{"mode": "append"}',
        '{"fingerprint": ""}',
        '{"mode": "append", "fingerprint": 3}',
        '{"mode": null, "fingerprint": ""}',
        '{"name": 7, "mode": "append", "fingerprint": ""}',
        '{"name": null, "mode": "append", "fingerprint": ""}',
    ],
)
def test_a_damaged_note_is_refused_with_the_ways_out(tmp_path, note):
    put(tmp_path / NOTE_FILE, note)
    found = Logs(tmp_path)
    with pytest.raises(InvalidInputError, match="is damaged: .* put it back, or dele"):
        _ = found.note
    assert found.noted == {}


def test_on_another_file_system_the_newest_part_of_the_note_counts(tmp_path):
    for number, at in ((1, 20), (2, 30), (3, 10)):
        name = f"{NOTE_FILE}/part-{number}"
        put(tmp_path / name, json.dumps(NOTE | {"mode": str(number)}))
        dated(tmp_path / name, at)
    note = Logs(tmp_path).note
    assert note is not None
    assert note["mode"] == "2"


BEFORE = {"mode": "append", "fingerprint": "of the one before"}


@pytest.mark.parametrize(
    ("planned_batch", "done", "counts"),
    [
        pytest.param(3, 3, "this", id="not yet planned"),
        pytest.param(4, 3, "before", id="planned and not committed"),
        pytest.param(4, 4, "this", id="committed"),
        pytest.param(3, 2, "this", id="the last batch of the one before comes again"),
        pytest.param(5, 2, "before", id="commits lost"),
    ],
)
@pytest.mark.parametrize("before", [BEFORE, None], ids=["noted", "plain Spark"])
def test_a_query_that_took_over_counts_from_its_first_batch_on(
    tmp_path, before, planned_batch, done, counts
):
    plan(tmp_path, planned_batch, "-")
    commit(tmp_path, done)
    note = NOTE | {"before": [3, before]}
    found = noted(tmp_path, note)
    assert found.note == (before if counts == "before" else note)


def test_a_note_is_written_for_the_next_start(tmp_path):
    write_note(place(tmp_path), NOTE)
    assert (tmp_path / NOTE_FILE).read_text() == (
        '{"name": "totals", "mode": "complete", "fingerprint": ""}\n'
    )
    assert Logs(tmp_path).note == NOTE


@pytest.mark.parametrize(
    "is_copy", [False, True], ids=["there", "in a copy from there"]
)
def test_on_another_file_system_each_note_is_a_file_of_its_own(tmp_path, is_copy):
    where = place(tmp_path) if is_copy else Far(tmp_path)
    first = f"{NOTE_FILE}/part-1"
    put(tmp_path / first, json.dumps(BEFORE))
    dated(tmp_path / first, 1)
    write_note(where, NOTE)
    parts = [file.name for file in (tmp_path / NOTE_FILE).iterdir()]
    assert len(parts) == 2
    assert Logs(tmp_path).note == NOTE


def test_on_another_file_system_the_first_note_is_in_a_folder(tmp_path):
    write_note(Far(tmp_path), NOTE)
    [part] = (tmp_path / NOTE_FILE).iterdir()
    assert part.name.startswith("part-")


# The log of a file source


def test_a_file_of_a_log_knows_its_path(tmp_path):
    def path(uri):
        return InputFile(0, AT, uri).path

    assert path("file:///in/a%20b%25.csv") == "/in/a b%.csv"
    assert path("hdfs://namenode/in/a.csv") is None
    assert path("s3a://bucket/file:///in/a.csv") is None


def test_a_file_that_has_gone_or_changed_is_known(tmp_path):
    file = put(tmp_path / "a b.csv", "1")
    dated(file, AT / 1000)
    there = InputFile(0, AT, f"file://{tmp_path}/a%20b.csv")
    assert (there.is_gone, there.is_changed) == (False, False)
    assert there._replace(time=AT - 1).is_changed
    assert there._replace(time=AT + 1).is_changed
    file.unlink()
    assert there.is_gone


def test_of_a_file_elsewhere_nothing_is_known():
    elsewhere = InputFile(0, AT, "hdfs://namenode/in/a.csv")
    assert (elsewhere.is_gone, elsewhere.is_changed) == (False, False)


def test_a_file_of_a_log_is_read_with_its_times_and_entries(tmp_path):
    put(
        tmp_path / "3",
        'v1\n{"path":"file:///in/a%20b.csv","timestamp":-5,"batchId":3}\n\n'
        '{"path":"hdfs://n/c.csv","timestamp":1700000000000,"batchId":12}\n',
    )
    wanted = [
        InputFile(3, -5, "file:///in/a%20b.csv"),
        InputFile(12, 1_700_000_000_000, "hdfs://n/c.csv"),
    ]
    assert log_file(tmp_path / "3") == log_after(tmp_path / "3", -1) == wanted


@pytest.mark.parametrize("text", ["v1\n{", "v1\n\n{}", listed(1) + " ", "v1", "1\n"])
def test_a_line_that_spark_did_not_write_is_damage(tmp_path, text):
    file = put(tmp_path / "3", text)
    for read in (log_file, lambda file: log_after(file, -1)):
        with pytest.raises(DamagedError, match=r"3 is cut off or changed$"):
            read(file)


def test_the_error_about_a_line_shows_the_line():
    with pytest.raises(TypeError, match="not a line of a file source's log: some text"):
        list(logs.inputs_in(["", "some text"]))


def test_a_log_of_a_newer_spark_is_told_apart(tmp_path):
    file = put(tmp_path / "3", "v2\n{}")
    for read in (log_file, lambda file: log_after(file, -1)):
        with pytest.raises(InvalidInputError, match="has format v2"):
            read(file)


def test_the_lines_of_a_log_come_without_their_ends_and_the_version(tmp_path):
    put(tmp_path / "0", "v1\na \nb\n")
    put(tmp_path / "1", "v1")
    put(tmp_path / "2")
    assert list(log_lines(tmp_path / "0")) == [b"a ", b"b"]
    assert list(log_lines(tmp_path / "1")) == []
    for name in ("2", "gone"):
        with pytest.raises(DamagedError, match=name):
            list(log_lines(tmp_path / name))


def test_a_log_without_files_is_its_version():
    assert logs.log_text([]) == "v1"
    assert logs.log_text([InputFile(4, AT + 4, "file:///in/4.csv")]) == listed(4)


def test_what_was_added_after_an_entry_leaves_the_entry_out(tmp_path):
    file = put(tmp_path / "7.compact", listed(4, 5, 5, 6))
    assert entries_of(log_after(file, 3)) == [4, 5, 5, 6]
    assert entries_of(log_after(file, 4)) == [5, 5, 6]
    assert entries_of(log_after(file, 5)) == [6]
    assert entries_of(log_after(file, 6)) == []


def long_log(file, number):
    """Write a log with one file for each entry, as lines of 64 bytes with their ends."""
    lines = []
    for entry in range(number):
        line = f'{{"path":"file:///","timestamp":1,"batchId":{entry}}}'
        lines.append(line.replace("///", "///" + "x" * (63 - len(line))))
    file.write_text("\n".join(["v1", *lines]))
    return file


@pytest.mark.parametrize(
    ("number", "entry", "begins"),
    [
        # 65,536 bytes at its end are 1,024 lines, and four times that 4,096 lines
        pytest.param(1024, 1020, 0, id="as long as what is read first, but for v1"),
        pytest.param(1025, 1023, 1, id="one line longer"),
        pytest.param(1025, 1, 1, id="the first of the end"),
        pytest.param(1025, 0, None, id="one before the end"),
        pytest.param(4500, 3476, 3476, id="the first of a long end"),
        pytest.param(4500, 3475, 404, id="in four times the end"),
        pytest.param(4500, 404, 404, id="the first of four times the end"),
        pytest.param(4500, 403, None, id="in the beginning alone"),
    ],
)
def test_of_a_long_log_the_end_is_read_as_far_as_needed(
    tmp_path, number, entry, begins
):
    file = long_log(tmp_path / "9.compact", number)
    found = logs._end_of_log(file, entry)  # noqa: SLF001
    if begins is None:
        assert found is None
    else:
        assert found is not None
        assert entries_of(found) == [*range(begins, number)]
    assert entries_of(log_after(file, entry)) == [*range(entry + 1, number)]


def test_of_a_long_log_the_beginning_is_not_read_for_its_end(tmp_path):
    file = long_log(tmp_path / "9.compact", 1500)
    file.write_text(file.read_text().replace('"batchId":7}', '"batchId"=7}'))
    assert entries_of(log_after(file, 1498)) == [1499]
    with pytest.raises(DamagedError):
        log_after(file, 6)


def test_a_log_that_is_no_longer_than_its_end_is_read_whole(tmp_path):
    file = long_log(tmp_path / "9.compact", 1024)
    text = file.read_text()
    file.write_text(text[: 65_536 - len(text)])
    assert file.stat().st_size == 65_536
    assert logs._end_of_log(file, 5) is None  # noqa: SLF001


def test_a_log_that_begins_with_another_version_is_read_whole(tmp_path):
    file = long_log(tmp_path / "9.compact", 1500)
    file.write_text("v2" + file.read_text()[2:])
    assert logs._end_of_log(file, 1400) is None  # noqa: SLF001
    with pytest.raises(InvalidInputError, match="has format v2"):
        log_after(file, 1400)


# The sources of a checkpoint


def test_sources_are_in_the_order_of_their_numbers(tmp_path):
    names = ["10", "9", "0", "lines"]
    put_all(tmp_path, {f"sources/{name}/0": listed(0) for name in names})
    put(tmp_path / "sources/1", "a file")
    assert Logs(tmp_path).sources == ["0", "9", "10", "lines"]


@pytest.mark.parametrize(
    ("files", "is_of_files"),
    [
        ({"0": listed(0)}, True),
        ({"0": listed(0)[:7]}, True),
        ({"0": ""}, True),
        ({"0": bytes(12)}, True),
        ({"0": b"v1" + bytes(10)}, True),
        ({"0": "v1\n[5]"}, False),
        ({"0": b"\0v1\n{}"}, False),
        ({"0": "v1\n[5]", "1": "v1\n[6]"}, True),
        ({}, True),
    ],
    ids=[
        "whole",
        "cut off",
        "empty",
        "zeros",
        "zeros at its end",
        "rate",
        "kafka",
        "two",
        "none",
    ],
)
def test_the_log_of_a_file_source_is_known_by_its_beginning(
    tmp_path, files, is_of_files
):
    put_all(tmp_path, {f"sources/0/{name}": text for name, text in files.items()})
    assert Logs(tmp_path).is_of_files("0") is is_of_files


def logged(root, **lasts):
    """Write logs of file sources, by name with their last entries, such as `s0=3`."""
    for name, last in lasts.items():
        files = {
            f"sources/{name.removeprefix('s')}/{entry}": listed(entry)
            for entry in range(last + 1)
        }
        put_all(root, files)
    return Logs(root)


@pytest.mark.parametrize(
    ("offsets", "lasts", "names"),
    [
        pytest.param((3, "-"), {"s0": 3}, ("0", "1"), id="one of files, one not"),
        pytest.param((3, 3), {"s0": 3}, ("0", "0"), id="one that is read twice"),
        pytest.param((3, 3), {"s0": 3, "s1": 3}, ("0", "1"), id="two"),
        pytest.param((3, 3, 5), {"s0": 3, "s1": 5}, ("0", "0", "1"), id="twice, other"),
        pytest.param((3, 5, 5), {"s0": 3, "s1": 5}, ("0", "1", "1"), id="other, twice"),
        pytest.param(
            (3, 3, 5), {"s0": 3, "s1": 4}, ("0", "0", "1"), id="one cut short"
        ),
        pytest.param(
            (5, 5, 3, 3),
            {"s0": 5, "s1": 3, "s2": 3},
            ("0", "0", "1", "2"),
            id="not further than its log",
        ),
        pytest.param((3, 3, "-"), {"s0": 3}, ("0", "0", "1"), id="twice, another kind"),
        pytest.param((3, 3), {"s0": 3, "s7": 3}, ("0", "1"), id="no assignment"),
        pytest.param((3, 3), {"s0": 3, "lines": 0}, ("0", "0"), id="a log by name"),
    ],
)
def test_each_source_of_a_plan_has_its_log(tmp_path, offsets, lasts, names):
    plan = logs.plan_in(plan_text(*offsets))
    assert logged(tmp_path, **lasts).names(plan) == names


def test_the_sources_of_files_have_the_last_entries_of_a_plan(tmp_path):
    found = logged(tmp_path, s0=4, s2=6)
    plan(tmp_path, 0, 3, "-", 5)
    plan(tmp_path, 1, 4, "-", 6)
    assert found.read_by(found.plan(0)) == {"0": 3, "2": 5}
    assert found.until(0) == {"0": 3, "2": 5}
    assert found.until(1) == found.until_planned == {"0": 4, "2": 6}
    assert found.until(-1) == {}
    with pytest.raises(DamagedError, match="offsets/2 is missing"):
        found.until(2)


def test_where_a_source_began_is_the_last_line_of_its_log(tmp_path):
    put(tmp_path / "sources/1/0", b'\0v1\n{"topic":{"0":12}}')
    assert Logs(tmp_path).first_offset("1") == '{"topic":{"0":12}}'


@pytest.mark.parametrize(
    ("until", "names"),
    [
        (-1, []),
        (2, ["0", "1", "2"]),
        (3, ["3.compact"]),
        (5, ["3.compact", "4", "5"]),
        (6, ["6.compact"]),
        (8, ["6.compact", "7", "8"]),
    ],
)
def test_a_log_is_read_from_its_newest_compacted_file(tmp_path, until, names):
    there = ["2", "3", "3.compact", "4", "5", "6.compact", "7"]
    put_all(tmp_path, {f"sources/0/{name}": "" for name in there})
    folder = tmp_path / "sources/0"
    assert Logs(tmp_path).files("0", until) == [folder / name for name in names]


@pytest.mark.parametrize(
    ("limits", "entries"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"after": 0}, [1, 2, 3, 4]),
        ({"after": 2}, [3, 4]),
        ({"after": 3}, [4]),
        ({"after": 4}, []),
        ({"until": 3}, [0, 1, 2, 3]),
        ({"after": 1, "until": 3}, [2, 3]),
        ({"after": 2, "until": 2}, []),
    ],
)
def test_the_inputs_of_a_range_of_entries_are_found(tmp_path, limits, entries):
    put(tmp_path / "sources/0/2.compact", listed(0, 1, 2))
    put(tmp_path / "sources/0/3", listed(3))
    put(tmp_path / "sources/0/4", listed(4))
    assert entries_of(Logs(tmp_path).inputs("0", **limits)) == entries


def test_of_a_range_of_entries_no_file_before_or_after_it_is_read(tmp_path):
    put(tmp_path / "sources/0/1")
    put(tmp_path / "sources/0/2", listed(2))
    put(tmp_path / "sources/0/3")
    assert entries_of(Logs(tmp_path).inputs("0", after=1, until=2)) == [2]


def test_entries_of_a_compacted_file_after_a_range_are_left_out(tmp_path):
    put(tmp_path / "sources/0/2.compact", listed(0, 1, 2, 3))
    assert entries_of(Logs(tmp_path).inputs("0", until=2)) == [0, 1, 2]


def test_a_source_without_a_log_has_no_inputs(tmp_path):
    assert Logs(tmp_path).inputs("0") == []


def test_the_folders_of_a_log_are_those_of_its_files(tmp_path):
    line = '{{"path":"file:///in/day={}/a%20b.csv","timestamp":1,"batchId":{}}}'
    for entry, day in enumerate((1, 1, 2, 3)):
        text = f"v1\n{line.format(day, entry)}"
        put(tmp_path / f"sources/0/{entry}", text)
    found = Logs(tmp_path)
    assert found.folders("0", 0) == found.folders("0", 1) == {"file:///in/day=1"}
    assert found.folders("0", 2) == {"file:///in/day=1", "file:///in/day=2"}
    with pytest.raises(DamagedError, match="4 is missing"):
        found.folders("0", 4)


@pytest.mark.parametrize("text", ["v1\n{}", f"{listed(1)}\nfile:///in/a.csv"])
def test_a_log_with_another_line_has_no_folders(tmp_path, text):
    put(tmp_path / "sources/0/0", listed(0))
    put(tmp_path / "sources/0/1", text)
    with pytest.raises(DamagedError, match=r"sources/0/1 is cut off or changed$"):
        Logs(tmp_path).folders("0", 1)


def test_files_wait_that_no_batch_up_to_a_given_one_has_read(tmp_path):
    found = logged(tmp_path, s0=3, s1=2)
    plan(tmp_path, 0, 0, 1)
    plan(tmp_path, 1, 2, 1)

    def waiting(batch):
        return entries_of(found.pending(batch))

    assert waiting(1) == [3, 2]
    assert waiting(0) == [1, 2, 3, 2]
    assert waiting(-1) == [0, 1, 2, 3, 0, 1, 2]
    put(tmp_path / "sources/0/3", "v1\n{")
    assert waiting(1) == [2]


@pytest.mark.parametrize(
    ("offsets", "last_entries", "assigned"),
    [
        pytest.param((3, 4), {0: 3, 1: 4}, (0, 1), id="each its own"),
        pytest.param((3, 4), {0: 3, 1: 5}, (0, 1), id="a log that is further"),
        pytest.param((3, 4), {0: 3, 1: 3}, None, id="a log that is not so far"),
        pytest.param((3, 3, 3), {0: 3, 1: 3}, (0, 1, 0), id="of three two are one"),
        pytest.param((3, 3, 3), {0: 3}, (0, 0, 0), id="three are one"),
        pytest.param(("5", 3, "5"), {1: 3}, (0, 1, 2), id="other kinds"),
        pytest.param(("5", 3, "5", 3), {1: 3}, (0, 1, 2, 1), id="twice among others"),
        pytest.param(("5", "5", 3), {1: 3}, (0, 0, 1), id="another kind twice"),
        pytest.param((3,), {0: 3, 1: 3}, None, id="a log too many"),
        pytest.param((), {}, (), id="no source"),
    ],
)
def test_logs_are_assigned_so_that_each_has_a_source(offsets, last_entries, assigned):
    plan = (
        logs.plan_in(plan_text(*offsets))
        if offsets
        else BatchPlan({}, (), (), 0, (), 0)
    )
    assert logs._assignment(plan, last_entries) == assigned  # noqa: SLF001


# A checkpoint elsewhere


def test_the_logs_of_a_local_checkpoint_are_its_own(tmp_path):
    here = place(tmp_path)
    with at_hand(here) as found:
        assert (found.root, found.place) == (tmp_path, here)
    with of_batch(here, 3) as found:
        assert found.root == tmp_path


def test_the_logs_of_a_checkpoint_elsewhere_are_copied_for_the_time_of_a_block(
    tmp_path,
):
    there = {
        "metadata": '{"id":"ad7c"}',
        "offsets/0": plan_text(0),
        "commits/0": commit_text(),
        "sources/0/0": listed(0),
        NOTE_FILE: json.dumps(NOTE),
    }
    put_all(tmp_path, there | {"state/0/0/1.delta": "not needed"})
    place = Far(tmp_path)
    with at_hand(place) as found:
        copy = found.root
        assert found.place is place
        assert {
            str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file()
        } == {*there}
        assert (found.done, found.note) == (0, NOTE)
    assert not copy.exists()


def test_an_error_about_a_copy_names_the_checkpoint(tmp_path):
    put(tmp_path / "offsets/7", "v1")
    with (
        pytest.raises(DamagedError) as told,
        at_hand(Far(tmp_path)) as found,
    ):
        found.plan(7)
    assert str(told.value) == "hdfs://far/ckpt/offsets/7 is cut off or changed"


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("AccessControlException: no", InvalidInputError),
        ("ConnectException: refused", TransientError),
    ],
)
def test_a_checkpoint_that_cannot_be_copied_is_refused_with_its_cause(
    tmp_path, cause, kind
):
    class Away(Far):
        def bring(self, name, folder):
            raise OSError("hdfs://far/ckpt") from RuntimeError(cause)

    with (
        pytest.raises(
            InvalidInputError, match="hdfs://far/ckpt cannot be read"
        ) as told,
        at_hand(Away(tmp_path)),
    ):
        pass
    assert cause in str(told.value)
    assert "start anew on another checkpoint" in str(told.value)
    assert type(told.value) is kind


@pytest.mark.parametrize(
    ("number", "plans", "entries"),
    [
        (0, ["offsets/0"], ["0"]),
        (1, ["offsets/0", "offsets/1"], ["1", "2"]),
        (2, ["offsets/1", "offsets/2"], []),
        (3, ["offsets/2", "offsets/3"], ["3.compact"]),
    ],
)
def test_for_one_batch_only_the_files_that_it_needs_are_copied(
    tmp_path, number, plans, entries
):
    for batch, last in enumerate((0, 2, 2, 3)):
        plan(tmp_path, batch, last, "5")
    for entry in ("0", "1", "2", "3.compact", "4"):
        text = listed(*range(4)) if entry == "3.compact" else listed(int(entry))
        put(tmp_path / f"sources/0/{entry}", text)
    put(tmp_path / "sources/1/0", "v1\n[5]")
    place = Far(tmp_path)
    with of_batch(place, number) as found:
        copy = found.root
        until = found.until(number)
        assert until == {"0": [0, 2, 2, 3][number]}
        after = found.until(number - 1).get("0", -1)
        inputs = found.inputs("0", after=after, until=until["0"])
        assert entries_of(inputs) == [*range(after + 1, until["0"] + 1)]
    assert place.brought == [
        *plans,
        "sources/1/0",
        *(f"sources/0/{entry}" for entry in entries),
    ]
    assert not copy.exists()
