"""The lock of a checkpoint, without Spark: who has it, and what is refused."""

# ruff: noqa: SLF001 - the query of a lock is its own
import fcntl
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import refusal
from support.played import Played

from sparkstream_kit import server
from sparkstream_kit._internal.spark import place as places
from sparkstream_kit._internal.spark.place import (
    LocalPlace,
    LockedError,
    LockFile,
    Place,
)
from sparkstream_kit.checkpoints import lock as locks
from sparkstream_kit.checkpoints.lock import Lock, lock, used_by, user_of
from sparkstream_kit.errors import TransientError


@pytest.fixture
def place(tmp_path):
    return LocalPlace("the ckpt", tmp_path / "ckpt")


@pytest.fixture
def file(place):
    """The lock file of the checkpoint, which is not there yet."""
    return place.folder / "sparkstream-kit" / "lock"


@pytest.fixture
def take(place, monkeypatch):
    """Lock the checkpoint for a query, as on Spark Connect: this process has the lock."""

    def lock_file(_spark, path):
        return LockFile(path.open("w+b", buffering=0), None, {"jvm": 7})

    monkeypatch.setattr(places, "lock_file", lock_file)
    taken: list[Lock] = []

    def take_lock(name="sales", **how):
        held = lock(None, place, name, **how)  # type: ignore[arg-type]
        if held is not None:
            taken.append(held)
        return held

    yield take_lock
    for held in taken:
        held.release()


OTHER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(file):
    """Lock a byte of the file in another process, with a text about its holder."""
    begun: list[subprocess.Popen[str]] = []

    def lock_it(text, byte=0):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        command = [sys.executable, "-S", "-c", OTHER, str(file), str(byte)]
        pipe = subprocess.PIPE
        begun.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        assert begun[-1].stdout.readline() == "locked\n"  # type: ignore[union-attr]

    yield lock_it
    for process in begun:
        process.communicate()


HOLDER = {"query": "sales", "pid": 5, "jvm": 7, "host": "h1", "since": "now"}


def test_a_checkpoint_without_a_lock_file_is_free(place, file):
    assert user_of(place.folder) is None
    file.mkdir(parents=True)
    assert user_of(place.folder) is None, "a folder is no lock file"


@pytest.mark.parametrize("text", ["", json.dumps(HOLDER), "{"])
def test_a_file_that_nobody_has_locked_is_free(place, file, text):
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert user_of(place.folder) is None
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            json.dumps(HOLDER),
            (
                "query sales of process 5 (JVM 7) on h1 since now; end it first (its JVM"
                " takes up to two seconds more)"
            ),
        ),
        (
            json.dumps(HOLDER | {"jvm": None}),
            (
                "query sales of process 5 (Spark Connect) on h1 since now; end it first"
                " (its JVM takes up to two seconds more)"
            ),
        ),
        (json.dumps({"query": "sales"}), "another process; end its query first"),
        ("[5]", "another process; end its query first"),
    ],
    ids=["a JVM", "Spark Connect", "a part of its text", "another text"],
)
def test_a_file_that_another_process_has_locked_tells_its_user(
    place, other, text, says
):
    other(text)
    assert user_of(place.folder) == says


def test_a_lock_on_any_part_of_the_file_counts(place, other):
    other("", byte=2**40)
    assert user_of(place.folder) is not None


def test_what_a_killed_client_left_running_at_its_server_is_told(
    place, file, monkeypatch
):
    file.parent.mkdir(parents=True)
    file.write_text('{"client": "x"}')
    assert user_of(place.folder) is None, "its server has ended"
    monkeypatch.setattr(server, "left_running", lambda text: f"left: {text.decode()}")
    assert user_of(place.folder) == 'left: {"client": "x"}'
    file.write_text("{}")
    assert user_of(place.folder) is None


def test_an_error_names_the_checkpoint_and_its_user():
    error = used_by(Place("s3a://bucket/ckpt"), "query sales")
    assert type(error) is TransientError
    assert str(error) == "checkpoint s3a://bucket/ckpt is in use by query sales"


def test_a_lock_is_described_for_others(place, file, take):
    held = take()
    assert held.name == "sales"
    told = json.loads(file.read_text())
    since = told.pop("since")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", since)
    host = os.uname().nodename
    assert told == {"query": "sales", "pid": os.getpid(), "jvm": 7, "host": host}


def test_of_a_process_one_query_has_the_checkpoint(place, file, take):
    held = take()
    says = "query sales of this process; end it first"
    assert user_of(place.folder) == says
    assert refusal(take, "other") == (
        f"checkpoint the ckpt is in use by {says}, or give this query a checkpoint of"
        " its own"
    )
    held.release()
    assert file.read_text() == "", "as the sign of a clean end"
    assert user_of(place.folder) is None
    assert take("other") is not held


def test_a_lock_of_a_query_that_has_just_ended_is_released_by_the_next(place, take):
    first, query = take(), Played()
    query.isActive = False
    first._query = query
    assert user_of(place.folder) is None
    assert first.file._file.closed
    second = take()
    first.release()
    assert user_of(place.folder) is not None, "it releases its own lock only"
    second.release()
    assert user_of(place.folder) is None


@pytest.mark.parametrize(
    ("begun", "active", "in_use"),
    [(False, False, True), (True, True, True), (True, False, False)],
    ids=["starting", "running", "ended"],
)
def test_a_lock_is_in_use_while_its_query_starts_or_runs(take, begun, active, in_use):
    held, query = take(), Played()
    query.isActive = active
    held._query = query if begun else None
    assert held.in_use() is in_use


def test_a_lock_is_released_when_its_query_has_ended(place, take, until):
    held, query = take(), Played()
    held.until_end_of(query)
    until(lambda: query.calls == ["awaitTermination"])
    assert user_of(place.folder) is not None
    assert held.in_use()
    query.end()
    until(lambda: held.file._file.closed)
    assert user_of(place.folder) is None


def test_a_dry_run_only_refuses(place, file, take):
    assert take(dry_run=True) is None
    assert not place.folder.exists()
    take()
    assert "is in use by query sales" in refusal(take, "other", dry_run=True)


def test_a_checkpoint_elsewhere_is_not_locked():
    elsewhere = Place("s3a://bucket/ckpt")
    assert lock(None, elsewhere, "sales") is None  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["ckpt", "above", "ckpt/sparkstream-kit"])
def test_a_file_where_a_folder_should_be_is_refused(tmp_path, take, place, what):
    if what == "above":
        place.folder = tmp_path / "above" / "ckpt"
    (tmp_path / "ckpt" if "/" in what else tmp_path).mkdir(exist_ok=True)
    (tmp_path / what).touch()
    assert refusal(take) == (
        f"checkpoint the ckpt cannot be written: {tmp_path / what} is no folder that"
        " this user may write to; correct the path or its rights"
    )


def test_a_folder_without_rights_is_refused(tmp_path, take, place, monkeypatch):
    asked: list[object] = []

    def access(path, mode):
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", access)
    assert f"cannot be written: {tmp_path} is no folder" in refusal(take)
    assert asked == [(tmp_path, os.W_OK | os.X_OK)], "the nearest one that is there"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(37, "No locks available"),
            "No locks available; make room, correct its rights, or use a disk that",
        ),
        (OSError("of Java"), "of Java; make room, correct its rights, or use a disk"),
    ],
)
def test_a_file_that_cannot_be_locked_is_refused_with_the_fix(
    take, file, monkeypatch, error, says
):
    def lock_file(_spark, path):
        raise error

    monkeypatch.setattr(places, "lock_file", lock_file)
    said = refusal(take)
    assert said.startswith(f"checkpoint the ckpt cannot be locked: {says}")


def test_a_folder_in_the_place_of_the_lock_file_is_to_be_deleted(take, file):
    file.mkdir(parents=True)
    said = refusal(take)
    assert said.startswith("checkpoint the ckpt cannot be locked: Is a directory; ")
    assert said.endswith(f"; delete the folder {file}")


def test_a_process_that_was_faster_is_told(take, file, monkeypatch):
    def lock_file(_spark, path):
        path.write_text(json.dumps(HOLDER))
        raise LockedError

    monkeypatch.setattr(places, "lock_file", lock_file)
    said = refusal(take)
    assert said.startswith("checkpoint the ckpt is in use by query sales of process 5")


def test_a_file_that_cannot_be_asked_for_its_lock_is_an_error(place, file, monkeypatch):
    def without(*_):
        raise OSError(37, "No locks available")

    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(fcntl, "fcntl", without)
    with pytest.raises(OSError, match="No locks available"):
        user_of(place.folder)
    assert locks.by_path == {} or str(file) not in locks.by_path
