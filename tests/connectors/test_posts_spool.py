"""The spool of posts, step by step: its facts, its files and its database.

A feeder that fills it, and one that is killed, are in test_posts.py.
"""

# ruff: noqa: SLF001 - the steps are the spool's own
import json
import os
import sqlite3
import stat
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import refusal

from sparkstream_kit._internal import file_system
from sparkstream_kit.connectors.posts import spool as spools
from sparkstream_kit.connectors.posts.spool import Facts, Spool
from sparkstream_kit.connectors.posts.wire import Message

NOW = 1000.5


@pytest.fixture
def clock(monkeypatch):
    """Two clocks that a test sets: the time since 1970, and that of waits."""
    clock = SimpleNamespace(now=NOW, waits=50.0)
    monkeypatch.setattr(
        spools,
        "time",
        SimpleNamespace(time=lambda: clock.now, monotonic=lambda: clock.waits),
    )
    return clock


@pytest.fixture
def said():
    """What the spool has told the user."""
    return list[str]()


@pytest.fixture
def spool(tmp_path, clock, said):
    """An empty spool."""
    made = Spool(tmp_path / "in" / "spool", said.append)
    yield made
    made.close()


def post(number, event=None):
    return Message("post", str(number), b'{"id": %d}' % number, event)


def names(folder):
    """Return the names of all files in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def visible(spool):
    """Return the files that Spark reads, with what is in them."""
    return {path.name: path.read_bytes() for path in sorted(spool.folder.glob("p*"))}


# --- the facts


def test_facts_of_another_version_are_left_out():
    stored = {"posts": 3, "event": "e", "of the future": 1}
    assert Facts.of(stored) == Facts(posts=3, event="e")
    assert Facts.of({}) == Facts()


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (Facts(), "0 posts in 0 files"),
        (Facts(posts=1, files=1), "1 posts in 1 file"),
        (
            Facts(
                posts=1234,
                files=1000,
                repeats=1001,
                others=1002,
                cuts=1003,
                seconds=1004.4,
                later=1005,
                behind="7",
            ),
            (
                "1,234 posts in 1,000 files; 1,001 repeats dropped; 1,002 messages that were"
                " no posts; 1,003 times cut, 1,004 s without a connection; 1,005 posts"
                " fetched afterwards; what was missed last is fetched at the next start"
            ),
        ),
    ],
    ids=["none", "one", "all"],
)
def test_facts_are_a_line(facts, line):
    assert str(facts) == line


# --- a spool opens


def test_a_spool_makes_its_folder_and_knows_nothing_yet(spool):
    assert spool.folder.is_dir()
    assert spool.facts == Facts()
    assert names(spool.folder) == ["_feed.db", "_feed.lock"]


def test_a_spool_that_is_filled_by_another_feeder_is_refused(spool):
    assert refusal(Spool, spool.folder, print) == (
        f"another feeder fills {spool.folder} already; stop it, give another folder, or"
        " read this one without a URL"
    )
    spool.close()
    Spool(spool.folder, print).close()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(Spool, tmp_path / "file", print) == (
        f"cannot write in {tmp_path / 'file'} (File exists); give a folder for the"
        " posts"
    )


def test_a_database_that_cannot_be_opened_is_refused_and_leaves_no_lock(tmp_path):
    (tmp_path / "_feed.db").mkdir()
    assert refusal(Spool, tmp_path, print) == (
        f"cannot write in {tmp_path} (unable to open database file); give a folder for"
        " the posts"
    )
    (tmp_path / "_feed.db").rmdir()
    Spool(tmp_path, print).close()


@pytest.mark.parametrize("stored", ["[1]", "no json", "5"])
def test_a_database_that_is_damaged_is_told_with_what_removing_it_does(spool, stored):
    with spool._database as database:
        database.execute("REPLACE INTO facts VALUES (1, ?)", (stored,))
    spool.close()
    line = refusal(Spool, spool.folder, print)
    assert line.startswith(f"{spool.folder / '_feed.db'} is damaged (")
    assert line.endswith(
        "); remove it to go on: a post of before that comes again is then kept twice"
    )


def test_a_file_that_is_no_database_is_damaged(tmp_path):
    (tmp_path / "_feed.db").write_bytes(b"x" * 5000)
    line = refusal(Spool, tmp_path, print)
    assert line.startswith(
        f"{tmp_path / '_feed.db'} is damaged (file is not a database)"
    )


def test_the_next_spool_has_the_facts_and_names_the_file_that_was_decided(spool):
    spool._keep(["1"], Facts(posts=1, stamp=7))
    for name in (".posts-7.jsonl", ".posts-8.jsonl", "..posts-9.jsonl.x"):
        (spool.folder / name).write_text("x")
    (spool.folder / ".other").write_text("x")
    spool.close()
    again = Spool(spool.folder, print)
    again.close()
    assert again.facts == Facts(posts=1, stamp=7)
    assert names(spool.folder) == [
        ".other",
        "_feed.db",
        "_feed.lock",
        "posts-7.jsonl",
    ]


def test_both_threads_of_a_feeder_use_the_database(spool):
    thread = threading.Thread(target=spool._keep, args=[["1"], Facts()])
    thread.start()
    thread.join()
    assert spool._database.execute("SELECT id FROM posts").fetchall() == [("1",)]


def test_a_spool_that_is_closed_has_no_database(spool):
    spool.close()
    with pytest.raises(sqlite3.ProgrammingError):
        spool._database.execute("SELECT 1")


# --- a connection


def test_a_first_connection_is_no_cut(spool, said):
    spool.note_connection(has_timeline=True, resumes=0)
    assert spool.facts == Facts(heard=NOW)
    assert said == []


@pytest.mark.parametrize(
    ("facts", "resumes", "is_asked"),
    [
        ({}, 0, False),
        ({}, 20, False),
        ({}, 20.1, True),
        ({"event": "7"}, 0, True),
    ],
    ids=["nothing", "as long as the gap", "longer", "an event"],
)
def test_a_gap_is_told_with_what_becomes_of_it(
    spool, said, clock, facts, resumes, is_asked
):
    spool.facts = Facts(heard=NOW - 20, cuts=1, seconds=5.0, **facts)
    spool.note_connection(has_timeline=False, resumes=resumes)
    what = "what came meanwhile is missed, unless the server sends it again by itself"
    if is_asked:
        what = "the server is asked for what was missed"
    assert said == [f"connected again, after 20.0 s; {what}"]
    assert (spool.facts.cuts, spool.facts.seconds) == (2, 25)
    assert spool.facts.heard == NOW


def test_a_clock_that_went_back_makes_no_gap(spool, said):
    spool.facts = Facts(heard=NOW + 20)
    spool.note_connection(has_timeline=False, resumes=0)
    assert said[0].startswith("connected again, after 0.0 s; ")
    assert spool.facts.seconds == 0


@pytest.mark.parametrize(
    ("has_timeline", "before", "behind"),
    [(True, "", "5"), (True, "3", "3"), (False, "3", "")],
    ids=["from the last posts", "from where it was left", "no timeline"],
)
def test_a_timeline_is_read_from_a_post_on(spool, said, has_timeline, before, behind):
    spool.take(post(5))
    spool.facts.behind = before
    spool.note_connection(has_timeline=has_timeline, resumes=0)
    assert spool.facts.behind == behind
    asked = "the server is asked for what was missed"
    assert (asked in said[0]) is bool(behind)


@pytest.mark.parametrize(
    ("kept", "waiting", "begins"),
    [
        ([], [], ""),
        ([], [9, 10], "9"),
        ([8], [10], "8"),
        (range(200), [], "0"),
        (range(201), [], "1"),
        (range(200), [200], "1"),
        ([5, *range(1000, 2000)], [], "1800"),
        ([*range(1000), 5000], [4999], "802"),
        ([10**9, *range(1000)], [], "800"),
    ],
    ids=[
        "no posts",
        "waiting ones",
        "both",
        "200",
        "201",
        "one waits",
        "the last thousand",
        "a higher one",
        "one long ago",
    ],
)
def test_a_timeline_is_read_from_200_posts_before_the_end(spool, kept, waiting, begins):
    spool._keep([str(number) for number in kept], Facts())
    for number in waiting:
        spool.take(post(number))
    assert spool._overlap() == begins


# --- messages


def test_a_post_waits_with_its_event(spool, clock):
    spool.take(post(1, event="e"))
    spool.take(post(2), later=True)
    assert spool._waiting == {"1": (b'{"id": 1}', False), "2": (b'{"id": 2}', True)}
    assert spool.facts == Facts(heard=NOW, event="e")


@pytest.mark.parametrize(("later", "repeats"), [(False, 1), (True, 0)])
def test_a_post_that_waits_already_is_a_repeat_unless_it_is_fetched(
    spool, later, repeats
):
    spool.take(post(1))
    spool.take(Message("post", "1", b"another line"), later=later)
    assert spool.facts.repeats == repeats
    assert spool._waiting == {"1": (b'{"id": 1}', False)}


def test_a_heartbeat_is_heard_and_nothing_else(spool, clock):
    spool.facts.event = "e"
    clock.now = 2000.0
    spool.take(Message("beat", event="f"))
    assert spool.facts == Facts(heard=2000.0, event="e")
    assert spool._waiting == {}


def test_other_messages_are_counted_and_told_once_for_each_connection(spool, said):
    for says in ("a", "", "b", "a"):
        spool.take(Message("other", says=says))
    assert spool.facts.others == 4
    assert said == ["a", "b"]
    spool.note_connection(has_timeline=False, resumes=0)
    said.clear()
    spool.take(Message("other", says="a"))
    assert said == ["a"]
    assert spool._waiting == {}


def test_where_a_timeline_was_left_is_a_fact(spool):
    spool.left_at("7")
    assert spool.facts.behind == "7"


# --- files


def test_waiting_posts_land_in_a_file_with_the_time_in_its_name(spool, clock):
    spool.take(post(1, event="e"))
    spool.take(post(2))
    spool.land()
    assert visible(spool) == {"posts-1000500.jsonl": b'{"id": 1}\n{"id": 2}\n'}
    facts = Facts(posts=2, files=1, heard=NOW, event="e", stamp=1000500)
    assert spool.facts == facts
    [(stored,)] = spool._database.execute("SELECT facts FROM facts")
    assert Facts.of(json.loads(stored)) == facts
    rows = spool._database.execute("SELECT number, id FROM posts").fetchall()
    assert rows == [(1, "1"), (2, "2")]
    [file] = spool.folder.glob("p*")
    assert file.stat().st_mtime_ns == 1_000_500_000_000
    assert spool._waiting == {}
    assert not list(spool.folder.glob(".*"))


def test_the_next_file_has_a_higher_number_though_the_clock_stands(spool, clock):
    for number in (1, 2):
        spool.take(post(number))
        spool.land()
    assert list(visible(spool)) == ["posts-1000500.jsonl", "posts-1000501.jsonl"]
    clock.now = 2000.0
    spool.take(post(3))
    spool.land()
    assert spool.facts == Facts(posts=3, files=3, heard=2000.0, stamp=2000000)


@pytest.mark.parametrize(("later", "repeats"), [(False, 1), (True, 0)])
def test_a_post_that_the_spool_has_is_dropped(spool, later, repeats):
    spool.take(post(1))
    spool.land()
    spool.take(post(1), later=later)
    spool.land()
    assert len(visible(spool)) == 1
    assert (spool.facts.posts, spool.facts.files) == (1, 1)
    assert spool.facts.repeats == repeats
    assert spool.facts.later == 0
    assert spool._waiting == {}


def test_posts_that_were_missed_are_counted_and_told_once_all_are_there(spool, said):
    spool.facts.behind = "1"
    spool.take(post(2), later=True)
    spool.take(post(3))
    spool.land()
    assert (spool.facts.later, said) == (1, [])
    spool.take(post(4), later=True)
    spool.left_at("")
    spool.land()
    assert (spool.facts.later, said) == (
        2,
        ["2 posts were fetched that had been missed"],
    )
    spool.take(post(5), later=True)
    spool.land()
    assert said[1:] == ["1 posts were fetched that had been missed"]


def test_nothing_is_told_where_nothing_was_missed(spool, said):
    spool.take(post(1))
    spool.land()
    assert said == []


@pytest.mark.parametrize(("after", "notes"), [(9.9, False), (10, True)])
def test_without_posts_the_facts_are_stored_every_ten_seconds(
    spool, clock, after, notes
):
    spool.take(Message("beat"))
    clock.waits += after
    spool.land()
    rows = spool._database.execute("SELECT facts FROM facts").fetchall()
    assert len(rows) == notes
    assert visible(spool) == {}
    if notes:
        assert spool.facts == Facts(heard=NOW)
        clock.waits += 9.9
        spool.facts.others = 5
        spool.land()
        assert spool._database.execute("SELECT facts FROM facts").fetchall() == rows


def test_the_oldest_posts_are_forgotten(spool, monkeypatch):
    monkeypatch.setattr(spools, "_KEPT", 2)
    spool._keep(["a", "b"], Facts())
    spool._keep(["c"], Facts())
    rows = spool._database.execute("SELECT number, id FROM posts").fetchall()
    assert rows == [(2, "b"), (3, "c")]


def test_a_file_that_cannot_be_written_leaves_the_posts_waiting(spool, monkeypatch):
    spool.take(post(1))
    before = spool.facts

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file_system, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            spool.land()
    assert spool.facts is before
    assert spool._waiting == {"1": (b'{"id": 1}', False)}
    spool.land()
    assert spool.facts.posts == 1


def test_a_file_whose_name_was_not_reached_gets_it_before_the_next_one(
    spool, monkeypatch
):
    spool.take(post(1))
    with monkeypatch.context() as patch:
        patch.setattr(spool, "_name_decided", lambda: None)
        spool.land()
    assert visible(spool) == {}
    spool.take(post(2))
    spool.land()
    assert list(visible(spool)) == ["posts-1000500.jsonl", "posts-1000501.jsonl"]


def test_a_file_and_its_folder_are_synced_before_its_posts_are_kept(spool, monkeypatch):
    synced: list[bool] = []

    def fsync(number):
        synced.append(stat.S_ISDIR(os.fstat(number).st_mode))

    monkeypatch.setattr(os, "fsync", fsync)
    opened = len(names("/proc/self/fd"))
    spool._write(5, [b"a"])
    assert synced[-1] is True
    assert len(names("/proc/self/fd")) == opened
    found = spool.folder / ".posts-5.jsonl"
    times = found.stat()
    assert (times.st_atime_ns, times.st_mtime_ns) == (5_000_000, 5_000_000)
    assert found.read_bytes() == b"a\n"


def test_an_interrupt_while_a_spool_opens_is_none_of_its_errors(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "_name_decided", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Spool(tmp_path, print)
    Spool(tmp_path, print).close()
