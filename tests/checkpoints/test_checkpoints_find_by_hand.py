"""What `find` answers, asked of checkpoints and bad rows that are written by hand.

`test_checkpoints_find` asks it of what Spark has written.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet
import pytest
from conftest import refusal
from support.checkpoint_files import (
    commit,
    entry,
    line,
    plan,
    put,
    put_all,
    whole_checkpoint,
)

from sparkstream_kit import checkpoints
from sparkstream_kit.checkpoints.logs import DamagedError, Logs
from sparkstream_kit.checkpoints.operate.find import (
    Found,
    _at,
    _bad_rows,
    _ends,
    _first_batch,
    _has_read,
    _names,
    _NoBatch,
    _of_file,
    _of_record,
    _rows,
    _search,
    _targets,
    _time,
    _why_not_read,
    every_input,
    kept_plans,
)

NINE = datetime(2026, 1, 14, 9, 30, 5, tzinfo=UTC)
WEEK = 7 * 86_400_000  # milliseconds

# --- the report

REPORTS = {
    "none": (Found("x", why="not read yet"), "x: not read yet"),
    "none, and bad rows": (
        Found("x", why="not read yet", bad={"a": 1, "b": 2000}),
        "x: not read yet\n  1 bad row in a\n  2,000 bad rows in b",
    ),
    "committed": (
        Found(
            "x", batch=0, committed=True, since=NINE, targets=("t", "u"), bad={"a": 0}
        ),
        (
            "x: batch 0, committed since 2026-01-14 09:30:05 UTC\n  written to t\n"
            "  written to u\n  0 bad rows in a"
        ),
    ),
    "committed at a time that is not known": (
        Found("x", batch=7, committed=True),
        "x: batch 7, committed",
    ),
    "not committed": (
        Found("x", batch=7, since=NINE, targets=("t",)),
        (
            "x: batch 7, not committed: a restart runs it again\n"
            "  each of these may have it or not: t"
        ),
    ),
}


@pytest.mark.parametrize("case", REPORTS)
def test_the_report_says_the_batch_or_the_reason(case):
    found, report = REPORTS[case]
    assert str(found) == report


# --- find


def test_a_file_is_found_in_its_batch(tmp_path):
    whole_checkpoint(tmp_path, 3)
    (tmp_path / "commits/2").unlink()
    entry(tmp_path, 3, "s3a://in/3.csv")
    found = [
        checkpoints.find(tmp_path, f"s3a://in/{number}.csv") for number in range(4)
    ]
    assert [(each.batch, each.committed, each.why) for each in found] == [
        (0, True, None),
        (1, True, None),
        (2, False, None),
        (None, False, "not read yet"),
    ]
    assert {each.bad for each in found} == {None}


def test_a_batch_that_is_not_kept_is_committed(tmp_path):
    whole_checkpoint(tmp_path, 3)
    (tmp_path / "offsets/0").unlink()
    found = checkpoints.find(str(tmp_path), "s3a://in/0.csv")
    assert (found.batch, found.committed) == (None, True)
    assert found.why == (
        "read by batch 1 or an earlier one, of which no plan is kept; it is committed"
    )
    assert checkpoints.find(str(tmp_path), "s3a://in/2.csv").batch == 2


def test_bad_rows_are_those_of_the_file_or_of_the_record(tmp_path):
    whole_checkpoint(tmp_path / "ckpt", 1)
    names = [
        "s3a://in/0.csv",
        "kafka:orders/0/17",
        "kafka:orders/0/17",
        "s3a://in/1.csv",
    ]
    rows = "".join(json.dumps({"_file": name}) + "\n" for name in names)
    bad = put(tmp_path / "bad/1.json", rows).parent
    for what, number in [("s3a://in/0.csv", 1), ("orders:0:17", 2), ("orders:0:1", 0)]:
        assert checkpoints.find(tmp_path / "ckpt", what, bad=bad).bad == {
            str(bad): number
        }


def test_a_file_has_its_name_with_and_without_links(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    both = {f"{tmp_path}/link/x", f"{tmp_path}/real/x"}
    assert _names("link/x") == _names(f"file://{tmp_path}/link/./x") == both
    assert _names("s3a://in/../x") == {"s3a://in/../x"}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-14T09:30:05", NINE),
        ("2026-01-14T10:30:05+01:00", NINE),
        ("2026-01-14", datetime(2026, 1, 14, tzinfo=UTC)),
        ("yesterday", None),
        ("orders:0:17", None),
    ],
)
def test_a_time_without_an_offset_is_in_utc(text, time):
    assert _time(text) == time


def test_the_form_of_a_text_says_what_it_is_unless_there_is_such_a_file(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    logs = Logs(whole_checkpoint(tmp_path, 1))
    (tmp_path / "commits/0").unlink()

    def why(what):
        answer = _search(logs, what, {what})
        assert isinstance(answer, _NoBatch)
        return answer.why

    assert why("2099-01-01") == "no batch was committed after it"
    assert "nothing of partition 0 of topic orders" in why("orders:0:17")
    assert "there is no such file" in why("orders:0")
    for name in ("2099-01-01", "orders:0:17"):
        Path(name).touch()
        assert why(name) == "not read: the query reads s3a://in, and nothing of ."


# --- plans and inputs


def reads(number):
    return lambda plan: plan.files[0] >= number


def test_the_first_batch_that_has_read_something_is_the_one(tmp_path):
    logs = Logs(whole_checkpoint(tmp_path, 4))
    assert [_first_batch(logs, reads(number)) for number in range(4)] == [0, 1, 2, 3]
    assert _first_batch(logs, reads(4)) == _NoBatch("not read yet")
    (tmp_path / "offsets/0").unlink()
    answer = _first_batch(logs, reads(0))
    assert isinstance(answer, _NoBatch)
    assert answer.committed
    assert answer.why.startswith("read by batch 1 or an earlier one, of which no plan")
    assert _first_batch(logs, reads(2)) == 2


def test_plans_that_were_written_or_removed_meanwhile_are_seen(tmp_path):
    logs = Logs(whole_checkpoint(tmp_path, 2))
    assert [*kept_plans(logs)] == [0, 1]
    plan(tmp_path, 2, 2)
    (tmp_path / "offsets/3").symlink_to("removed")  # as if it were, once it is listed
    assert {number: plan.files for number, plan in kept_plans(logs).items()} == {
        0: (0,),
        1: (1,),
        2: (2,),
    }
    (tmp_path / "offsets/1").write_text("v1")
    with pytest.raises(DamagedError, match="offsets/1 is cut off"):
        kept_plans(Logs(tmp_path))


def test_every_input_is_each_file_once_and_those_that_were_taken_out(tmp_path):
    logs = Logs(whole_checkpoint(tmp_path, 3))
    for name, *files in (("9.7.5", (1, "1"), (0, "00")), ("8.7.5", (0, "000"))):
        lines = [line(number, (f"s3a://in/{file}.csv", 0)) for number, file in files]
        put(tmp_path / "sparkstream-kit/trimmed/0" / name, "v1", *lines)
    found = every_input(logs, "0", 1)
    assert [each.entry for each in found] == [0, 0, 0, 1]
    assert {each.uri for each in found} == {
        *(f"s3a://in/{name}.csv" for name in ("0", "00", "000", "1"))
    }


def test_an_entry_is_read_at_the_end_of_the_batch_that_plans_it(tmp_path):
    logs = Logs(whole_checkpoint(tmp_path, 2))
    assert [_has_read(logs, "0", entry, logs.plan(1)) for entry in (0, 1, 2)] == [
        *(True, True, False)
    ]
    assert not _has_read(logs, "1", 0, logs.plan(1))


def test_a_file_of_a_log_is_known_by_any_of_its_names(tmp_path):
    logs = Logs(whole_checkpoint(tmp_path, 3))
    assert _of_file(logs, "x", {"x", "s3a://in/1.csv"}) == 1
    entry(tmp_path, 3, "/in/a b.csv")
    waiting = _of_file(Logs(tmp_path), "x", {"/in/a b.csv"})
    assert waiting == _NoBatch("not read yet")
    (tmp_path / "sources/0/2").unlink()
    with pytest.raises(DamagedError, match="sources/0/2 is missing"):
        _of_file(Logs(tmp_path), "x", {"x"})
    (tmp_path / "sources/0/3").unlink()  # and it is planned
    with pytest.raises(DamagedError, match="sources/0/2 is missing"):
        _of_file(Logs(tmp_path), "x", {"x"})


def test_a_file_is_old_beside_the_newest_that_was_read(tmp_path):
    folder = tmp_path / "in"
    old = put(folder / "old.csv")
    os.utime(old, (5000, 5000))
    for newest, says in [
        (WEEK + 5_000_001, "more than 7 days older"),
        (WEEK, "not seen yet"),
    ]:
        root = tmp_path / "ckpt"
        plan(root, 0, 1)
        entry(root, 0, (folder / "1.csv", newest))
        entry(root, 1, (folder / "2.csv", 1000))
        answer = _of_file(Logs(root), str(old), {str(old)})
        assert isinstance(answer, _NoBatch)
        assert says in answer.why


NEW = "not read: not seen yet, or left out by the source's pattern"
WORD = "; a record of Kafka is written as TOPIC:PARTITION:OFFSET, a time as 2026-01-"
# What is asked for, the folders that the query reads, and the newest file's time
WHYS: dict[str, tuple[str, set[str], int, str]] = {
    "a word": ("yesterday", set(), 0, f"not read, and there is no such file{WORD}"),
    "a missing file": ("x.csv", {"{}"}, 0, "not read, and there is no such file"),
    "a missing path": ("{}/x", {"{}"}, 0, "not read, and there is no such file"),
    "a hidden name": ("{}/_a", {"{}"}, 0, "not read: Spark passes over names that"),
    "a hidden name elsewhere": (
        "s3a://in/.a",
        {"s3a://in"},
        0,
        "not read: Spark passes",
    ),
    "nothing read": (
        "{}/a",
        set(),
        0,
        "not read: the query reads nothing, and nothing of {}",
    ),
    "another folder": (
        "{}/a",
        {"/y", "/x"},
        0,
        "not read: the query reads /x, and nothing of {}",
    ),
    "a folder that begins alike": (
        "{}/a",
        {"{}/a-2", "{}x"},
        0,
        "not read: the query reads {}",
    ),
    "another folder elsewhere": (
        *("s3a://in/b/a", {"s3a://in/a"}, 0),
        "not read: the query reads s3a://in/a, and nothing of s3a://in/b",
    ),
    "its folder": ("{}/a", {"{}"}, 0, NEW),
    "a file of the root": ("/etc", {""}, 0, NEW),
    "a folder above": ("{}/a", {"/y", "{above}"}, 0, NEW),
    "its folder elsewhere": ("s3a://in/b/a", {"s3a://in/b"}, 10**15, NEW),
    "a folder above elsewhere": ("s3a://in/b/a", {"s3a://in"}, 0, NEW),
    "a week older": ("{}/a", {"{}"}, 5_000_000 + WEEK, NEW),
    "more than a week older": (
        "{}/a",
        {"{}"},
        5_000_001 + WEEK,
        "not read: it is more than 7",
    ),
}


@pytest.mark.parametrize("case", WHYS)
def test_why_a_file_was_not_read_is_told(tmp_path, case):
    what, folders, newest, why = WHYS[case]
    for name in ("a", "_a"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (5000, 5000))
    what = what.format(tmp_path)
    above = tmp_path.parents[1]
    folders = {folder.format(tmp_path, above=above) for folder in folders}
    said = _why_not_read(what, {what}, folders, newest)
    assert said.startswith(why.format(tmp_path))
    assert (WORD in said) == (case == "a word")


# --- records

KAFKA = '{"orders":{"0":%d,"1":5}}'
RECORDS = {
    "before it began": ("0", 3, "not read: the query began after it"),
    "where it began": ("0", 4, 0),
    "the last of a batch": ("0", 9, 0),
    "the first of the next that reads it": ("0", 10, 2),
    "the last": ("0", 24, 2),
    "the next": ("0", 25, "not read yet"),
    "a partition where it began at the end": ("1", 5, "not read yet"),
    "another partition": (
        "2",
        0,
        "not read: the query has read nothing of partition 2 of topic orders",
    ),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_record_is_in_the_batch_whose_offsets_are_after_it(tmp_path, case):
    partition, offset, answer = RECORDS[case]
    for number, end in enumerate((10, 10, 25)):
        plan(tmp_path, number, 7, KAFKA % end)
    entry(tmp_path, 7, "s3a://in/7")
    put(tmp_path / "sources/1/0", "\0v1", KAFKA % 4)
    found = _of_record(Logs(tmp_path), "orders", partition, offset)
    assert (found.why if isinstance(found, _NoBatch) else found) == answer


def test_a_record_of_a_query_without_a_plan_or_another_topic_was_not_read(tmp_path):
    nothing = _NoBatch("not read: the query has read nothing of partition 0 of topic t")
    assert _of_record(Logs(tmp_path), "t", "0", 0) == nothing
    plan(tmp_path, 0, KAFKA % 4)
    assert _of_record(Logs(tmp_path), "t", "0", 0) == nothing


def test_a_record_of_a_partition_that_begins_at_its_first_one_may_be_read(tmp_path):
    plan(tmp_path, 0, '{"t":{"0":0}}')
    assert _of_record(Logs(tmp_path), "t", "0", 0) == _NoBatch("not read yet")
    # Without its beginning, as of a source that keeps none
    plan(tmp_path, 1, '{"t":{"0":1}}')
    assert _of_record(Logs(tmp_path), "t", "0", 0) == 1


@pytest.mark.parametrize(
    ("offset", "ends"),
    [
        (None, {}),
        ("12", {}),
        ("[1]", {}),
        ("a-token", {}),
        ('{"logOffset":3}', {}),
        ('{"t":{"0":3},"x":1}', {}),
        ('{"t":{"0":3},"u":{"1":4}}', {"t": {"0": 3}, "u": {"1": 4}}),
    ],
)
def test_offsets_by_topic_are_those_of_kafka(offset, ends):
    assert _ends(offset) == ends


# --- times


def timed(root, *seconds, first=0):
    """Write batches that were planned at these seconds and committed 10 seconds later."""
    for number, second in enumerate(seconds, first):
        os.utime(plan(root, number, 0, time=second * 1000), (second, second))
        os.utime(commit(root, number), (second + 10, second + 10))
    return Logs(root)


def at(logs, second):
    found = _at(logs, datetime.fromtimestamp(second, UTC))
    return (found.why, found.committed) if isinstance(found, _NoBatch) else found


def test_a_time_finds_the_first_batch_that_was_committed_then_or_later(tmp_path):
    logs = timed(tmp_path, 100, 200, 300)
    assert [at(logs, second) for second in (0, 110, 111, 210, 310)] == [0, 0, 1, 1, 2]
    assert at(logs, 311) == ("no batch was committed after it", False)
    assert at(Logs(tmp_path / "new"), 0) == ("no batch was committed after it", False)


def test_a_time_before_the_oldest_commit_may_be_that_of_an_earlier_batch(tmp_path):
    logs = timed(tmp_path, 100, 200, first=1)
    why = "committed after it: batch 1 or an earlier one, of which no commit is kept"
    assert [at(logs, second) for second in (0, 110, 111)] == [
        (why, True),
        (why, True),
        2,
    ]


def test_a_commit_without_its_time_is_before_the_next_plan(tmp_path):
    logs = timed(tmp_path, 100, 200, 300)
    why = (
        "not known: the files of batch {} have other times than its commit, as in a"
        " copy; cp -a keeps their times"
    )
    os.utime(tmp_path / "offsets/1", (9000, 9000))  # written later than planned
    assert at(logs, 110) == 0
    assert at(logs, 300) == (why.format(1), False)
    assert at(logs, 301) == 2
    os.utime(tmp_path / "offsets/2", (9000, 9000))
    assert at(logs, 301) == (why.format(2), False)  # no plan after it


# --- targets


def test_the_targets_of_a_batch_are_those_noted_and_its_values(tmp_path):
    logs = Logs(tmp_path)
    assert [*_targets(logs, 3)] == []
    note = {"mode": "append", "fingerprint": "", "targets": ["folder a", "table b"]}
    put_all(
        tmp_path / "sparkstream-kit",
        {
            "query.json": json.dumps(note),
            "values/view%20k": '[["x", 1, 3], ["y", 2], ["z", 3]]',
            "values/a": '[["w", 3]]',
            "values/x.driver": "no JSON",
        },
    )
    assert [*_targets(logs, 3)] == [
        "folder a",
        "table b",
        "a w",
        "view k x",
        "view k z",
    ]


# --- bad rows

JSON = '{"_file": "a"}\n'


def test_bad_rows_are_counted_in_each_folder(tmp_path):
    files = {
        "batch=2/1.json": JSON * 2,
        "batch=2/2.json": JSON,
        "batch=1/1.json": JSON + '{"_file": "b"}\n',
        "batch=3/1.json": '{"_file": "b"}\n',
        "batch=1/_hidden.json": JSON,
        "_log/x": "no JSON",
    }
    put_all(tmp_path, files)
    two, one = f"{tmp_path}/batch=2", f"{tmp_path}/batch=1"
    assert [*_bad_rows(tmp_path, {"a", "c"}).items()] == [(one, 1), (two, 3)]
    assert _bad_rows(tmp_path, {"c"}) == {str(tmp_path): 0}


def test_of_files_with_a_log_of_spark_those_in_it_count(tmp_path):
    log = "\n".join(
        f'{{"path":"file:///x/{name}.json","action":"add"}}' for name in "ab"
    )
    files = {f"day=1/{name}.json": JSON for name in "abc"}
    put_all(tmp_path, files | {"_spark_metadata/0": f"v1\n{log}"})
    assert _bad_rows(tmp_path, {"a"}) == {f"{tmp_path}/day=1": 2}


def test_a_folder_of_bad_rows_that_is_none_is_refused(tmp_path):
    said = refusal(_bad_rows, tmp_path / "x", {"a"})
    assert said.startswith(
        f"no folder {tmp_path}/x; give the one that the bad rows are"
    )


def table(**columns):
    return pa.table(columns)


def test_rows_are_counted_by_the_name_of_their_file_in_each_format(tmp_path):
    names = {"a", "b"}
    put_all(
        tmp_path,
        {
            "1.json": JSON * 2
            + '{"_file": null}\n{"_file": "b"}\n{"x": "a", "_file": "c"}\n',
            "1.csv": '1,a\na,b\n"a, b",c\n"x\ny",b\n',
        },
    )
    rows = table(_file=["a", "b", "c", None], x=[1, 2, 3, 4])
    pyarrow.parquet.write_table(rows, tmp_path / "1.parquet")
    pyarrow.orc.write_table(rows, tmp_path / "1.orc")
    assert {file.suffix: _rows(file, names) for file in sorted(tmp_path.iterdir())} == {
        ".csv": 3,
        ".json": 3,
        ".orc": 2,
        ".parquet": 2,
    }


UNREADABLE = {
    "no column": ("1.json", b'{"a": 1}\n', "'_file'"),
    "no object": ("1.json", b"[1]\n", "list indices must be"),
    "no JSON": ("1.json", b"{\n", "Expecting property name"),
    "no UTF-8": ("1.csv", b"\xff", "'utf-8' codec can't decode"),
    "another format": ("1.txt", b"a\n", "format 'txt' is not supported"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_without_bad_rows_is_refused_with_what_they_look_like(tmp_path, case):
    name, data, why = UNREADABLE[case]
    said = refusal(_rows, put(tmp_path / name, data), {"a"})
    assert said.startswith(f"{tmp_path}/{name} cannot be read ({why}")
    assert said.endswith("in JSON or CSV, or in Parquet or ORC (pip install pyarrow)")


def test_a_table_without_the_column_is_refused_in_one_line(tmp_path):
    pyarrow.parquet.write_table(table(x=[1]), tmp_path / "1.parquet")
    said = refusal(_rows, tmp_path / "1.parquet", {"a"})
    assert "No match for FieldRef.Name(_file)" in said
