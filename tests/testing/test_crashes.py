"""What a crash, a power cut and an error leave on the disk, call by call; no Spark runs."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest

from sparkstream_kit import sinks
from sparkstream_kit.sinks.base import Opening, of_batches
from sparkstream_kit.testing.exactly_once import Watch, read_disk, watching, write_disk


def watched(folder, act, fails_at=None):
    """Return the watch of a batch that does something in a folder."""
    watch = Watch(folder, set(), fails_at)
    acts = sinks.foreach_batch(lambda _batch, _batch_id: act())
    sink: Any = watch.sink(of_batches(acts, ""))
    with watching(watch):
        sink.open(None, None, Opening())(None, 0)
    return watch


def errors(watch):
    """Return the calls that can fail."""
    found = [crash.words for crash in watch.crashes if crash.fails_at]
    return [words.partition("batch 0: ")[2].removesuffix(")") for words in found]


def left(watch):
    return {
        crash.label: crash.disk for crash in watch.crashes if crash.fails_at is None
    }


def test_a_file_that_is_put_in_place_without_sync_is_empty_after_a_power_cut(tmp_path):
    def act():
        (tmp_path / ".t").write_text("tea, ink")
        (tmp_path / ".t").replace(tmp_path / "t")

    watch = watched(tmp_path, act)
    assert errors(watch) == ["open .t", "rename .t to t"]
    assert left(watch) == {
        "1": {},
        "2.1": {".t": b"tea, ink"},  # a line further on
        "2.1 half": {".t": b"tea,"},
        "2.1 lost": {".t": b""},
        "4": {"t": b"tea, ink"},
        "4 half": {"t": b"tea,"},
        "4 lost": {"t": b""},
    }


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_what_is_synced_stays_and_what_is_added_later_goes(tmp_path, sync):
    def act():
        with (tmp_path / "t").open("w") as file:
            file.write("tea")
            file.flush()
            getattr(os, sync)(file.fileno())
        with (tmp_path / "t").open("a") as file:
            file.write("ink")

    found = left(watched(tmp_path, act)).values()
    assert all({"t": text} in found for text in (b"tea", b"teaink", b"teai"))
    assert {"t": b""} not in list(found)[list(found).index({"t": b"tea"}) + 1 :]


def test_statements_of_sqlite_are_calls_and_a_commit_is_whole(tmp_path):
    def act():
        with closing(sqlite3.connect(tmp_path / "t.db")) as db, db:
            db.execute("CREATE TABLE t (a)")
            db.execute("INSERT INTO t VALUES (1)")
            db.execute("SELECT * FROM t").fetchall()

    watch = watched(tmp_path, act)
    assert errors(watch) == [
        *(
            "sqlite3.connect t.db",
            "CREATE TABLE t (a)",
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "COMMIT",
        )
    ]
    rows = []
    for number, disk in enumerate(left(watch).values()):
        (tmp_path / f"{number}").mkdir()
        write_disk(tmp_path / f"{number}", disk)
        with closing(sqlite3.connect(tmp_path / f"{number}" / "t.db")) as db:
            made = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            rows.append(db.execute("SELECT * FROM t").fetchall() if made else None)
    assert [
        found for number, found in enumerate(rows) if found not in rows[:number]
    ] == [None, [], [(1,)]]


def test_folders_that_come_and_go_are_calls(tmp_path):
    def act():
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").touch()
        shutil.rmtree(tmp_path / "a")

    found = left(watched(tmp_path, act))
    assert {"a": None, "a/b": b""} in found.values()
    assert found["1"] == {}


def test_a_call_can_fail_once(tmp_path):
    def act():
        with pytest.raises(OSError, match="made by assert_exactly_once"):
            (tmp_path / "t").write_text("tea")
        (tmp_path / "t").write_text("ink")

    watched(tmp_path, act, fails_at="2")
    assert read_disk(tmp_path)[0] == {"t": b"ink"}


def test_a_statement_can_fail(tmp_path):
    def act():
        with closing(sqlite3.connect(tmp_path / "t.db")) as db:
            db.execute("CREATE TABLE t (a)")
            with pytest.raises(sqlite3.OperationalError, match="interrupted"), db:
                db.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
            assert db.execute("SELECT * FROM t").fetchall() == []

    watched(tmp_path, act, fails_at="6")


def test_a_file_that_is_gone_hands_on_nothing_to_the_next_one(tmp_path):
    def act():
        (tmp_path / "a").write_text("tea")
        (tmp_path / "a").unlink()
        # Gets its inode, as a rule
        subprocess.run(["bash", "-c", f"printf ink >{tmp_path}/b"], check=True)

    found = left(watched(tmp_path, act)).values()
    assert {"b": b"ink"} in found
    assert {"b": b""} not in found


def test_an_error_makes_its_way_out_and_nothing_stays_watched(tmp_path):
    before = os.fsync, sqlite3.connect, sys.gettrace()
    watch = Watch(tmp_path, set())

    def fail(_batch, _batch_id):
        raise ZeroDivisionError

    sink: Any = watch.sink(of_batches(sinks.foreach_batch(fail), ""))
    with pytest.raises(ZeroDivisionError), watching(watch):
        sink.open(None, None, Opening())(None, 0)
    (tmp_path / "t").write_text("tea")
    assert watch.calls == 1
    assert (os.fsync, sqlite3.connect, sys.gettrace()) == before


def test_a_disk_is_put_back_as_it_was(tmp_path):
    disk = {"a": None, "a/b": b"tea", "c": b"", "a/d": None}
    write_disk(tmp_path, disk)
    assert read_disk(tmp_path)[0] == disk
