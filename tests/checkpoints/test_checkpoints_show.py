"""What `show` tells of a checkpoint, asked of checkpoints that are written by hand.

`test_checkpoints_problems` asks it of what Spark has written.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.checkpoint_files import (
    commit,
    entry,
    metadata,
    operator_text,
    plan,
    put,
    put_all,
    whole_checkpoint,
)

from sparkstream_kit import checkpoints
from sparkstream_kit.checkpoints.logs import InputFile, Logs
from sparkstream_kit.checkpoints.operate.check import State
from sparkstream_kit.checkpoints.operate.show import (
    Checkpoint,
    Source,
    _at,
    _short,
    _size,
    _sizes,
    _source_of_files,
    _sources,
    file_lines,
)
from sparkstream_kit.errors import InvalidInputError

NINE = datetime(2026, 1, 14, 9, 30, 5, tzinfo=UTC)
FILE = InputFile(5, 0, "s3a://in/5.csv")

# --- the report

SOURCES = {
    "nothing read": (Source(None, None, None, ()), "nothing read yet"),
    "nothing read, and planned": (
        Source(None, None, "7", ()),
        "nothing read yet, planned to 7",
    ),
    "read": (Source(None, "7", "7", ()), "offset 7"),
    "read, and planned": (Source(None, "7", "8", ()), "offset 7, planned to 8"),
    "no plan any more": (Source(None, "7", None, ()), "offset 7"),
    "files": (Source("/in", "4", "5", ()), "files of /in, offset 4, planned to 5"),
    "files, nothing read": (
        Source("/in", None, None, ()),
        "files of /in, nothing read yet",
    ),
    "long offsets": (
        Source(None, "a" * 61, "b" * 61, ()),
        f"offset {'a' * 59}…, planned to {'b' * 59}…",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_source_is_one_line(case):
    source, line = SOURCES[case]
    assert str(source) == line


def test_a_text_is_cut_off_where_there_is_no_room():
    assert [_short("a" * 60), _short("abc", 3), _short("abcd", 3)] == [
        "a" * 60,
        "abc",
        "ab…",
    ]


def told(**changes):
    """Return the report of a checkpoint with some facts changed, without its first line."""
    facts: dict[str, Any] = {
        "path": Path("ckpt"),
        "query_id": None,
        "name": None,
        "committed": None,
        "committed_at": None,
        "planned": None,
        "oldest": None,
        "watermark": None,
        "sources": (),
        "states": (),
        "sizes": {},
        "in_use": False,
        "damage": None,
    }
    first, *lines = str(Checkpoint(**(facts | changes))).splitlines()
    assert first.split() == ["checkpoint", "ckpt"]
    return lines


NEXT = "A restart runs nothing again; the next batch is {}."
NOTHING = ["query       unknown", "size        0 B", "", NEXT.format(0)]
REPORTS: dict[str, tuple[dict[str, object], list[str]]] = {
    "nothing": ({}, NOTHING),
    "a name": ({"name": "q"}, ["query       q", *NOTHING[1:]]),
    "an id": ({"query_id": "7"}, ["query       7", *NOTHING[1:]]),
    "a name and an id": (
        {"name": "q", "query_id": "7"},
        ["query       q, 7", *NOTHING[1:]],
    ),
    "in use": (
        {"in_use": True},
        [NOTHING[0], "in use      a query of the kit is running on it", *NOTHING[1:]],
    ),
    "the first batch": (
        {"committed": 0, "planned": 0, "oldest": 0, "committed_at": NINE},
        [
            NOTHING[0],
            "committed   batch 0, 2026-01-14 09:30:05 UTC",
            "kept        batches 0 to 0",
            *NOTHING[1:3],
            NEXT.format(1),
        ],
    ),
    "a time that is not known": (
        {"committed": 7, "planned": 7},
        [
            NOTHING[0],
            "committed   batch 7, but when is not known, as of a copy",
            *NOTHING[1:3],
            NEXT.format(8),
        ],
    ),
    "a first plan": (
        {"planned": 0, "oldest": 0},
        [
            NOTHING[0],
            "planned     batch 0, not committed",
            "kept        batches 0 to 0",
            *NOTHING[1:3],
            "A restart runs batch 0 again.",
        ],
    ),
    "a plan, a source and a state": (
        {
            "committed": 4,
            "planned": 5,
            "watermark": NINE,
            "sources": (
                Source(None, "7", "8", (), "a"),
                Source(None, "8", "8", (FILE,), "the orders"),
            ),
            "states": (State(Path("0"), "dedupe", ("default",), "RocksDB", 1),) * 2,
        },
        [
            "query              unknown",
            "committed          batch 4, but when is not known, as of a copy",
            "planned            batch 5, not committed",
            "watermark          2026-01-14 09:30:05 UTC",
            "source a           offset 7, planned to 8",
            "source the orders  offset 8",
            "state 0            dedupe, 1 partition, RocksDB",
            "state 1            dedupe, 1 partition, RocksDB",
            "size               0 B",
            "",
            "A restart runs batch 5 again, with 1 file:",
            "            s3a://in/5.csv",
        ],
    ),
    "damage": (
        {"planned": 5, "damage": "it is damaged"},
        [
            NOTHING[0],
            "planned     batch 5, not committed",
            *NOTHING[1:3],
            "it is damaged",
        ],
    ),
    "sizes": (
        {"sizes": {"a": 2048, "b": 5, "c": 4, "d": 3}},
        [
            NOTHING[0],
            "size        2.0 KiB, of it a 2.0 KiB, b 5 B, c 4 B",
            *NOTHING[2:],
        ],
    ),
}


@pytest.mark.parametrize("case", REPORTS)
def test_the_report_has_what_is_known_and_what_a_restart_does(case):
    changes, lines = REPORTS[case]
    assert told(**changes) == lines


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (5, "5 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (10_239, "10.0 KiB"),
        (10_240, "10 KiB"),
        (1024**2 - 1, "1,024 KiB"),
        (1024**2, "1.0 MiB"),
        (1024**3, "1.0 GiB"),
        (2000 * 1024**3, "2,000 GiB"),
    ],
)
def test_a_size_has_the_unit_in_which_it_is_read(number, text):
    assert _size(number) == text


def test_files_are_named_with_their_sizes_and_of_many_the_first_five(tmp_path):
    put(tmp_path / "a b", "12345")
    here = InputFile(0, 0, f"file://{tmp_path}/a%20b")
    gone = InputFile(0, 0, f"file://{tmp_path}/x")
    shown = [
        f"       5 B  {tmp_path}/a b",
        f"      gone  {tmp_path}/x",
        "            s3a://in/5.csv",
    ]
    assert file_lines([]) == []
    assert file_lines([here, gone, FILE]) == shown
    assert file_lines([here, gone, *[FILE] * 3]) == [*shown, *shown[2:] * 2]
    assert file_lines([FILE] * 6) == [*shown[2:] * 5, "            and 1 more"]
    assert file_lines([FILE] * 1005)[5] == "            and 1,000 more"


# --- what is read


def test_a_checkpoint_without_a_batch_is_shown(tmp_path):
    (tmp_path / "offsets").mkdir()
    seen = checkpoints.show(tmp_path)
    assert seen == Checkpoint(
        *(tmp_path, None, None, None, None, None, None, None, (), ()),
        sizes={},
        in_use=False,
        damage=None,
    )


def test_each_fact_is_that_of_the_last_batch_of_its_kind(tmp_path):
    whole_checkpoint(tmp_path, 3)
    metadata(tmp_path, "7")
    note = {"name": "totals", "mode": "update", "fingerprint": ""}
    put(tmp_path / "sparkstream-kit/query.json", json.dumps(note))
    commit(tmp_path, 1, 1_000)
    commit(tmp_path, 2, 1_768_383_005_000)
    plan(tmp_path, 2, 2, time=60_000)
    plan(tmp_path, 3, 3)
    entry(tmp_path, 3, ("s3a://in/3.csv", 0))
    put(tmp_path / "state/0/_metadata/metadata", operator_text("dedupe", "default"))
    put(tmp_path / "state/0/0/3.snapshot", "rows")
    for name, seconds in [("offsets/2", 60), ("commits/2", 75)]:
        os.utime(tmp_path / name, (seconds, seconds))
    (tmp_path / "offsets/0").unlink()
    seen = checkpoints.show(str(tmp_path))
    assert (seen.path, seen.query_id, seen.name) == (tmp_path, "7", "totals")
    assert (seen.oldest, seen.committed, seen.planned) == (1, 2, 3)
    assert seen.committed_at == datetime.fromtimestamp(75, UTC)
    assert seen.watermark == NINE
    assert seen.sources == (
        Source("s3a://in", "2", "3", (InputFile(3, 0, "s3a://in/3.csv"),), "0"),
    )
    assert [state.operator for state in seen.states] == ["dedupe"]
    assert (seen.in_use, seen.damage) == (False, None)
    assert seen.sizes == _sizes(tmp_path)


LOCKED = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_checkpoint_that_another_process_has_locked_is_in_use(tmp_path):
    whole_checkpoint(tmp_path, 1)
    lock = put(tmp_path / "sparkstream-kit/lock")
    assert not checkpoints.show(tmp_path).in_use
    with subprocess.Popen(
        [sys.executable, "-c", LOCKED, lock],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert checkpoints.show(tmp_path).in_use
        holder.communicate()


def test_what_cannot_be_read_is_not_known(tmp_path):
    whole_checkpoint(tmp_path, 2)
    put(tmp_path / "metadata", "[]")
    put(tmp_path / "commits/1", "v1")
    seen = checkpoints.show(tmp_path)
    assert (seen.query_id, seen.committed, seen.watermark) == (None, 1, None)
    assert seen.damage is not None
    put(tmp_path / "offsets/1", "v1")
    assert checkpoints.show(tmp_path).sources == ()
    put(tmp_path / "offsets/1", "v9", "{}", "-")
    with pytest.raises(InvalidInputError, match="has format v9"):
        checkpoints.show(tmp_path)


def test_a_plan_of_which_the_commit_is_not_kept_has_sources(tmp_path):
    whole_checkpoint(tmp_path, 2)
    for number in (0, 1):
        (tmp_path / f"commits/{number}").unlink()
    seen = checkpoints.show(tmp_path)
    assert (seen.committed, seen.planned) == (None, 1)
    [source] = seen.sources
    assert (source.committed, source.planned) == (None, "1")
    assert [file.entry for file in source.replayed] == [0, 1]


def test_sources_have_the_offsets_of_both_plans_by_their_names(tmp_path):
    logs = Logs(tmp_path)
    plan(tmp_path, 0, '{"t":{"0":1}}', 0, "-")
    plan(tmp_path, 1, '{"t":{"0":1}}', 1, "12")
    for number in (0, 1):
        entry(tmp_path, number, (f"s3a://in/{number}", 0), log="1")
    ended, last = logs.plan(0), logs.plan(1)
    files = InputFile(1, 0, "s3a://in/1")
    assert [*_sources(logs, ended, last)] == [
        Source(None, '{"t":{"0":1}}', '{"t":{"0":1}}', (), "0"),
        Source("s3a://in", "0", "1", (files,), "1"),
        Source(None, None, "12", (), "2"),
    ]
    assert [source.committed for source in _sources(logs, None, last)] == [None] * 3
    # One more than the committed batch had
    before = ended._replace(names=ended.names[:1], offsets=("9",), files=(None,))
    committed = [source.committed for source in _sources(logs, before, last)]
    assert committed == ["9", None, None]


FOLDERS: dict[str, tuple[int | None, int, str, str | None, list[int]]] = {
    "nothing to replay": (2, 2, "/in 2", "2", []),
    "one entry to replay": (1, 2, "/in 2", "1", [2]),
    "two entries to replay": (0, 2, "/in 2", "0", [1, 2]),
    "all to replay": (None, 2, "/in 2", None, [0, 1, 2]),
    "an earlier one": (0, 1, "/in 1", "0", [1]),
    "no file in the last entry": (3, 3, "?", "3", []),
    "a file elsewhere": (4, 4, "s3a://in%204", "4", []),
    "an entry that is missing": (4, 5, "?", "4", []),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_source_of_files_has_the_folder_of_its_newest_file(tmp_path, case):
    read, until, folder, committed, replayed = FOLDERS[case]
    for number in range(3):
        entry(tmp_path, number, f"/in {number}/a.csv", log="7")
    put(tmp_path / "sources/7/3", "v1", "")
    entry(tmp_path, 4, "s3a://in%204/a.csv", log="7")
    source = _source_of_files(Logs(tmp_path), "7", "orders", read, until)
    assert (source.folder, source.committed, source.name) == (
        folder,
        committed,
        "orders",
    )
    assert source.planned == str(until)
    assert [file.entry for file in source.replayed] == replayed


def test_sizes_are_those_of_folders_without_checksums_largest_first(tmp_path):
    names = {"metadata": 9, "a/1": 2, "a/.1.crc": 9, "b/1": 3, "b/c/d/2": 4, "e/1": 3}
    put_all(tmp_path, {name: "x" * size for name, size in names.items()})
    (tmp_path / "a/2").symlink_to("removed")  # as if it were, once it is listed
    assert [*_sizes(tmp_path).items()] == [("b", 7), ("e", 3), ("a", 2)]


def test_a_time_that_python_cannot_hold_is_none():
    assert _at(1_768_383_005) == NINE
    assert _at(1e18) is _at(1e12) is None
