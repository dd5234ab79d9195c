"""`assert_exactly_once` step by step, without Spark: calls, what they leave, and schedules."""

# ruff: noqa: SLF001 - the steps of the module are its own
import errno
import json
import os
import sqlite3
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame

import sparkstream_kit
from sparkstream_kit import sinks
from sparkstream_kit.errors import QueryFailed
from sparkstream_kit.sinks.base import Opening
from sparkstream_kit.testing import exactly_once as module
from sparkstream_kit.testing.exactly_once import Certificate, Crash, Watch

# --- a folder


def test_a_folder_is_read_and_written_whole(tmp_path):
    folder = tmp_path / "run"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "file").write_bytes(b"tea")
    (folder / "empty").touch()
    disk, inodes = module.read_disk(folder)
    assert disk == {"a": None, "a/b": None, "a/file": b"tea", "empty": b""}
    assert inodes == {name: (folder / name).stat().st_ino for name in disk}
    (tmp_path / "again").mkdir()
    module.write_disk(tmp_path / "again", dict(reversed(disk.items())))
    assert module.read_disk(tmp_path / "again")[0] == disk


def test_a_file_that_goes_while_it_is_read_is_left_out(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    real = Path.read_bytes

    def read(path):
        if path.name == "a":
            raise FileNotFoundError
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert module.read_disk(tmp_path)[0] == {"b": b"b"}


# --- calls


@pytest.fixture
def watch(tmp_path):
    return Watch(tmp_path, set())


def in_batch(watch):
    """Let this thread be the one that writes batch 0."""
    watch._writer = threading.get_ident()
    watch._doing = "batch 0"
    return watch


def labels(watch):
    return [crash.label for crash in watch.crashes]


def test_calls_of_the_start_are_numbered_apart_and_do_not_fail(watch, tmp_path):
    watch.call("open a")
    (tmp_path / "a").mkdir()
    watch.call("open b")
    assert watch.crashes == [
        Crash("start 1", "crash before call start 1 (the start: open a)"),
        Crash(
            "start 2",
            "crash before call start 2 (the start: open b)",
            None,
            {"a": None},
        ),
    ]
    assert watch.calls == 2


def test_each_call_of_a_batch_can_fail_too(watch):
    in_batch(watch).call("open a")
    watch._lines = 3
    watch.call("the end", can_fail=False)
    assert watch._lines == 0, "lines are counted from the last call on"
    assert watch.crashes == [
        Crash("1", "crash before call 1 (batch 0: open a)"),
        Crash("1 error", "an I/O error in place of call 1 (batch 0: open a)", "1"),
    ], "and a folder that is as before is no other crash"
    assert watch.calls == 2


def test_the_call_that_is_to_fail_fails_and_nothing_is_kept(tmp_path):
    watch = in_batch(Watch(tmp_path, set(), "2"))
    watch.call("one")
    with pytest.raises(OSError, match="an error made by assert_exactly_once") as caught:
        watch.call("two")
    assert caught.value.errno == errno.EIO
    watch.call("three")
    assert [crash.label for crash in watch.crashes if not crash.fails_at] == []


def test_a_call_of_the_start_has_another_label_than_one_of_a_batch(tmp_path):
    watch = Watch(tmp_path, set(), "1")
    watch.call("of the start")
    with pytest.raises(OSError, match="an error made"):
        in_batch(watch).call("of the batch")


def heard(watch, event, *args):
    """Return the words of the calls that an event is."""
    before = watch.calls
    watch.handle_audit_event(event, args)
    words = [crash.words for crash in watch.crashes if crash.fails_at]
    return words[-1].partition("batch 0: ")[2][:-1] if watch.calls > before else None


@pytest.mark.parametrize(
    ("event", "args", "words"),
    [
        ("open", ("IN/a", "w", os.O_WRONLY), "open a"),
        ("open", ("IN/a", "r", os.O_RDONLY), None),
        ("open", ("IN/a", None, os.O_CREAT), "open a"),
        ("open", ("IN/a", None, os.O_APPEND), "open a"),
        ("open", (b"IN/a", None, os.O_RDWR), "open a"),
        ("open", (5, "w", os.O_WRONLY), None),
        ("open", ("/elsewhere/a", "w", os.O_WRONLY), None),
        ("open", ("IN", "w", os.O_WRONLY), None),
        ("os.mkdir", ("IN/a", 0o777, -1), "mkdir a"),
        ("os.rename", ("IN/a", "IN/b/c", -1, -1), "rename a to b/c"),
        ("os.rename", ("/elsewhere/a", "IN/b", -1, -1), "rename b"),
        ("os.remove", ("IN/a", -1), "remove a"),
        ("shutil.rmtree", ("IN/a", None), "shutil.rmtree a"),
        ("sqlite3.connect", ("IN/a.db",), "sqlite3.connect a.db"),
        ("os.listdir", ("IN/a",), None),
        ("os.scandir", ("IN/a",), None),
    ],
)
def test_an_event_that_changes_the_folder_is_a_call(
    event, args, words, watch, tmp_path
):
    def placed(arg):
        if isinstance(arg, bytes):
            return arg.replace(b"IN", os.fsencode(tmp_path))
        return arg.replace("IN", str(tmp_path)) if isinstance(arg, str) else arg

    assert heard(in_batch(watch), event, *map(placed, args)) == words


@pytest.mark.parametrize(
    ("content", "flags", "kept"),
    [
        (b"tea", os.O_WRONLY | os.O_APPEND, 3),
        (b"tea", os.O_WRONLY | os.O_TRUNC, 0),
        (None, os.O_WRONLY | os.O_CREAT, 0),
    ],
    ids=["append", "truncate", "new"],
)
def test_what_a_file_had_when_it_was_opened_stays_after_a_power_cut(
    content, flags, kept, watch, tmp_path
):
    path = tmp_path / "a"
    if content is not None:
        path.write_bytes(content)
    heard(in_batch(watch), "open", str(path), None, flags)
    assert watch._opened == {str(path): kept}


def test_another_event_than_open_opens_nothing(watch, tmp_path):
    heard(in_batch(watch), "os.mkdir", str(tmp_path / "a"), 0o777, -1)
    assert watch._opened == {}


# --- what a crash leaves


def opened(watch, path, content, *, before=b""):
    """Write a file as a batch does: opened with some content, and not synced."""
    path.write_bytes(before)
    watch._opened[str(path)] = len(before)
    path.write_bytes(before + content)


def test_the_last_file_is_cut_in_half_and_what_is_not_synced_is_lost(watch, tmp_path):
    opened(watch, tmp_path / "a", b"1234")
    watch._update_unsynced({(tmp_path / "a").stat().st_ino})
    opened(watch, tmp_path / "b", b"5678", before=b"ab")
    (tmp_path / "synced").write_bytes(b"tea")
    watch._keep("7", "a call")
    whole: dict[str, Any] = {"a": b"1234", "b": b"ab5678", "synced": b"tea"}
    assert watch.crashes == [
        Crash("7", "crash before a call", None, whole),
        Crash(
            "7 half",
            "crash before a call, with the last file written cut in half",
            None,
            whole | {"b": b"ab56"},
        ),
        Crash(
            "7 lost",
            "power cut before a call, which loses what was not synced",
            None,
            whole | {"a": b"", "b": b"ab"},
        ),
    ]


def test_a_folder_left_before_is_no_other_crash(watch, tmp_path):
    watch._keep("1", "one")
    watch._keep("2", "two")
    assert labels(watch) == ["1"]
    again = Watch(tmp_path, watch._seen)
    again._keep("3", "three")
    assert again.crashes == [], "nor in another start"
    (tmp_path / "a").touch()
    again._keep("4", "four")
    assert labels(again) == ["4"]


def test_a_run_that_is_to_fail_keeps_nothing(tmp_path):
    watch = Watch(tmp_path, set(), "1")
    watch._keep("1", "one")
    assert watch.crashes == []


def test_equal_contents_are_kept_once(watch):
    one, other = bytes([1] * 50), bytes([1] * 50)
    assert one is not other
    watch._add("1", "one", {"a": one, "b": other, "c": None, "d": b""})
    [crash] = watch.crashes
    assert crash.disk["a"] is crash.disk["b"]
    assert (crash.disk["c"], crash.disk["d"]) == (None, b"")


def test_a_file_that_is_gone_is_forgotten(watch, tmp_path):
    opened(watch, tmp_path / "a", b"tea")
    watch._opened[str(tmp_path / "gone")] = 9
    inode = (tmp_path / "a").stat().st_ino
    watch._update_unsynced({inode})
    assert (watch._unsynced, watch._opened) == ({inode: 0}, {})
    watch._opened[str(tmp_path / "a")] = 3
    watch._update_unsynced({inode})
    assert watch._unsynced == {inode: 0}, "what was not synced before is not synced now"
    watch._update_unsynced({inode + 1})
    assert watch._unsynced == {}


@pytest.mark.parametrize("by_number", [True, False], ids=["number", "file"])
def test_what_is_synced_stays_after_a_power_cut(by_number, watch, tmp_path):
    path = tmp_path / "a"
    opened(in_batch(watch), path, b"tea")
    inode = path.stat().st_ino
    with path.open("rb+") as file:
        watch.fsync(file.fileno() if by_number else file)
    assert watch._unsynced == {}
    assert inode
    assert labels(watch) == ["1", "1 half", "1 lost", "1 error"]
    with path.open("rb+") as file:
        watch.fsync(file)  # a file that nobody opened: no error
    assert watch.calls == 2


# --- SQLite


def test_statements_that_change_data_are_calls(watch, tmp_path):
    in_batch(watch)
    with closing(watch.connect(tmp_path / "t.db", isolation_level=None)) as db:
        for statement in (
            "create   table t (a)",
            f"INSERT INTO t VALUES ('{'x' * 90}')",  # noqa: S608 - of this test
            "SELECT * FROM t",
            "explain SELECT * FROM t",
            "PRAGMA user_version",
        ):
            db.execute(statement)
    words = [crash.words for crash in watch.crashes if crash.fails_at]
    assert [each.partition("batch 0: ")[2] for each in words] == [
        "create table t (a))",
        f"INSERT INTO t VALUES ('{'x' * 37})",  # noqa: S608 - of this test
    ]
    assert watch.calls == 2


def test_a_statement_that_is_to_fail_is_interrupted(tmp_path):
    watch = in_batch(Watch(tmp_path, set(), "1"))
    with (
        closing(watch.connect(tmp_path / "t.db")) as db,
        pytest.raises(sqlite3.OperationalError, match="interrupted"),
    ):
        db.execute("CREATE TABLE t (a)")


# --- lines and batches


def frame_of(file, line=3):
    return SimpleNamespace(f_code=SimpleNamespace(co_filename=file), f_lineno=line)


def test_lines_of_the_user_s_code_are_kept(watch, tmp_path):
    in_batch(watch)._calls[""] = 4
    mine: Any = frame_of("/home/me/job.py")
    assert watch._trace(mine, "call", None) == watch._trace
    assert watch.crashes == []
    assert watch._trace(mine, "line", None) == watch._trace
    (tmp_path / "a").touch()
    watch._trace(mine, "line", None)
    assert [(crash.label, crash.words) for crash in watch.crashes] == [
        ("4.1", "crash before line 3 of job.py (batch 0)"),
        ("4.2", "crash before line 3 of job.py (batch 0)"),
    ]


@pytest.mark.parametrize("file", [os.__file__, pytest.__file__, module.__file__, "<x>"])
def test_lines_of_others_are_not_kept(file, watch):
    other: Any = frame_of(file)
    assert watch._trace(other, "line", None) is None
    assert watch.crashes == []
    assert watch._lines == 0


@pytest.mark.parametrize("fails_at", [None, "9"])
def test_a_batch_is_traced_between_its_first_line_and_its_commit(fails_at, tmp_path):
    watch = Watch(tmp_path, set(), fails_at)
    seen: list[Any] = []

    def write(batch, batch_id):
        seen.append((batch, batch_id, sys.gettrace()))

    before = sys.gettrace()
    mine: Any = sinks.foreach_batch(write)
    made: Any = watch.sink(mine)
    assert made.realtime is None
    made.open(None, None, Opening())("rows", 7)
    assert sys.gettrace() is before
    [(batch, batch_id, trace)] = seen
    assert (batch, batch_id) == ("rows", 7)
    assert trace == (before if fails_at else watch._trace)
    assert watch._doing == "batch 7"
    assert watch._writer == threading.get_ident()
    assert watch.calls == 2
    if not fails_at:
        assert watch.crashes[0].words == (
            "crash before call 1 (batch 7: the first line of the sink)"
        )
        (tmp_path / "a").touch()
        made.open(None, None, Opening())("rows", 8)
        assert "1 error" not in labels(watch), "these two do not fail"


def test_a_batch_that_fails_is_traced_no_longer(watch):
    def write(*_):
        raise LookupError("mine")

    before = sys.gettrace()
    mine: Any = sinks.foreach_batch(write)
    made: Any = watch.sink(mine)
    with pytest.raises(LookupError, match="mine"):
        made.open(None, None, Opening())("rows", 0)
    assert sys.gettrace() is before
    assert watch.calls == 1, "Spark does not commit it"


def test_the_commit_after_a_batch_is_a_call(watch, tmp_path):
    mine: Any = sinks.foreach_batch(lambda *_: (tmp_path / "a").touch())
    made: Any = watch.sink(mine)
    made.open(None, None, Opening())("rows", 0)
    assert watch.crashes[-1].words == (
        "crash before call 2 (batch 0: Spark's commit, after the sink)"
    )


def test_what_is_watched_is_watched_during_the_block(watch):
    real = os.fsync, os.fdatasync, sqlite3.connect, sqlite3.dbapi2.connect
    with module.watching(watch):
        assert os.fsync == os.fdatasync == watch.fsync
        assert sqlite3.connect == sqlite3.dbapi2.connect == watch.connect
        assert module._watches == [watch]
        assert module._hooks == [module._hear]
        with module.watching(watch):
            assert len(module._hooks) == 1, "a hook cannot be removed"
    assert (os.fsync, os.fdatasync, sqlite3.connect, sqlite3.dbapi2.connect) == real
    assert module._watches == []


# --- the certificate, and what is refused


def test_a_certificate_is_a_line():
    text = str(Certificate(5, 9, ("2-1", "2|1"), 1.5, ("this", "that")))
    assert text == (
        "5 schedules, 0 differences: 9 calls, over the inputs 2-1, 2|1, in 1.5 s; not"
        " covered: this; that"
    )


class Rows(DataFrame):
    """Rows of a test, as a DataFrame without Spark."""

    sparkSession: Any = None  # noqa: N815 - Spark's name
    schema: Any = "columns"

    def __new__(cls, *rows):
        return object.__new__(cls)

    def __init__(self, *rows):
        self.rows = list(rows)

    def collect(self):
        return self.rows


def nothing(*_):
    return []


@pytest.fixture
def on_server(monkeypatch):
    where = SimpleNamespace(there=False)
    monkeypatch.setattr(
        "sparkstream_kit._internal.spark.session.on_server", lambda _: where.there
    )
    return where


@pytest.mark.usefixtures("on_server")
@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        (
            Rows(1),
            {"most": 0},
            ": most is 0; give 1 or more, as no schedule would prove",
        ),
        (
            Rows(),
            {"most": 1},
            ": rows is empty; give a static DataFrame with some rows",
        ),
        (
            Rows(1),
            {"mode": "Append"},
            "unknown output mode Append; did you mean append?",
        ),
    ],
    ids=["most", "rows", "mode"],
)
def test_what_proves_nothing_is_refused(rows, how, said):
    found = refusal(module.assert_exactly_once, nothing, rows, read=nothing, **how)
    assert found.removeprefix("assert_exactly_once()").startswith(said)


def test_on_connect_another_process_writes(on_server):
    on_server.there = True
    said = refusal(module.assert_exactly_once, nothing, Rows(1), read=nothing)
    assert said == (
        "assert_exactly_once() watches this process, and on Spark Connect another one"
        " writes; unset SPARK_REMOTE"
    )


class Streams:
    """A workspace whose sources keep what is added."""

    def __init__(self, _session=None):
        self.sources: list[Any] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, schema):
        self.sources.append(Source(schema))
        return self.sources[-1]


class Source:
    def __init__(self, schema):
        self.schema = schema
        self.added: list[Any] = []
        self.published: list[int] = []

    def add_data(self, rows):
        self.added.append(rows)

    def publish(self):
        self.published.append(len(self.added))

    def to_df(self):
        return "a frame"


@pytest.fixture
def proofs(monkeypatch, on_server):
    """The proofs that were made; their schedules are named by numbers, and all hold."""
    made: list[Any] = []

    class Holds(module._Proof):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)
            self.held: list[Any] = []
            self.calls = 7

        def schedules(self):
            number = 0
            while True:
                yield f"way {number % 2}"
                number += 1

        def named(self, name):
            return f"named {name}"

        def hold(self, schedule):
            self.held.append(schedule)
            return schedule

    monkeypatch.setattr(module, "_Proof", Holds)
    monkeypatch.setattr(module, "streams", Streams)
    return made


def test_a_proof_holds_the_schedules_and_gives_a_certificate(proofs, tmp_path):
    report = tmp_path / "report"
    certificate = module.assert_exactly_once(
        nothing,
        Rows("a", "b"),
        read=nothing,
        mode="update",
        expected=iter(["c"]),
        most=3,
        report=report,
    )
    [proof] = proofs
    assert proof.held == ["way 0", "way 1", "way 0"]
    assert (proof.fed, proof.expected, proof.mode) == (["a", "b"], ["c"], "update")
    assert proof.folder.name == "run"
    assert not proof.folder.parent.exists(), "it is removed"
    assert (certificate.schedules, certificate.calls) == (3, 7)
    assert certificate.inputs == ("way 0", "way 1")
    assert 0 <= certificate.seconds < 600
    assert certificate.seconds == round(certificate.seconds, 1)
    kept = json.loads(report.read_text("utf-8"))
    assert (kept["schedules"], kept["inputs"]) == (3, ["way 0", "way 1"])
    assert report.read_text("utf-8").endswith("}\n")


def test_one_schedule_runs_alone(proofs):
    certificate = module.assert_exactly_once(
        nothing, Rows("a"), read=nothing, only="2|1:17"
    )
    assert certificate.schedules == 1
    assert proofs[0].held == ["named 2|1:17"]
    assert proofs[0].expected is None


def test_without_a_number_two_hundred_schedules_are_tried(proofs):
    certificate = module.assert_exactly_once(nothing, Rows("a"), read=nothing)
    assert certificate.schedules == 200


# --- schedules


@pytest.mark.parametrize(
    ("rows", "ways"),
    [
        (0, []),
        (1, ["1", "1|"]),
        (2, ["2", "2|", "1-1", "1|1", "1-1|"]),
        (
            5,
            [
                *("5", "5|", "2-3", "2|3", "2-3|"),
                *("1-2-2", "1|2-2", "1-2|2", "1-2-2|"),
            ],
        ),
    ],
)
def test_rows_come_in_one_to_three_batches_and_with_a_stop_after_each(rows, ways):
    assert list(module._ways(rows)) == ways


class Proof(module._Proof):
    """A proof whose starts a test plays.

    Each start writes a file `out/N`, and a start with a watch gives it the crashes that
    the test has said.
    """

    def __init__(self, folder, *, expected=None, fed="abc", result=()):
        streams: Any = Streams()
        rows: Any = SimpleNamespace(schema="columns")
        self.results = list(result)
        read: Any = self._look
        super().__init__(
            streams, folder / "run", nothing, read, "append", rows, list(fed), expected
        )
        self.starts: list[Any] = []
        self.read_from: list[Path] = []
        self.found: Any = []

    def _look(self, path):
        self.read_from.append(path)
        return self.results.pop(0) if self.results else ["a row"]

    def run(self, source, watch=None):
        self.starts.append((sum(source.published[-1:]), watch and watch._fails_at))
        name = f"{len(list((self.folder / 'out').iterdir()))}"
        (self.folder / "out" / name).touch()
        if watch is not None:
            watch.crashes += self.found
            watch.call("a call")


def names(proof):
    return sorted(path.name for path in (proof.folder / "out").iterdir())


def test_a_schedule_begins_with_an_undisturbed_start(tmp_path):
    proof = Proof(tmp_path)
    schedule = proof.start_schedule("2-1")
    [source] = proof.stream.sources  # type: ignore[attr-defined]
    assert source.schema == "columns"
    assert source.added == [["a", "b"], ["c"]]
    assert proof.starts == [(2, None)]
    assert proof.read_from == [proof.folder / "out"]
    assert schedule == module._Schedule(
        "2-1", source, Crash("the start", "the start", None, {"out": None}), ["a row"]
    )


def test_a_stop_is_a_start_of_its_own(tmp_path):
    proof = Proof(tmp_path)
    schedule = proof.start_schedule("1|1-1")
    [source] = proof.stream.sources  # type: ignore[attr-defined]
    assert source.added == [["a"], ["b"], ["c"]]
    assert source.published == [1, 3]
    assert proof.starts == [(1, None), (3, None)]
    assert schedule.begins.disk == {"out": None, "out/0": b""}


def test_a_result_that_is_not_the_expected_one_is_an_error(tmp_path):
    proof = Proof(tmp_path, expected=["another row"])
    with pytest.raises(AssertionError) as caught:
        proof.start_schedule("3")
    assert str(caught.value).startswith(
        "without any crash, with rows in batches of 3: in the end row 'another row' is"
        " missing\n"
    )
    assert Proof(tmp_path, expected=["a row"]).start_schedule("3").way == "3"
    with pytest.raises(AssertionError):
        Proof(tmp_path, expected=[]).start_schedule("3")


def crash(label, fails_at=None, **disk):
    return Crash(label, f"crash {label}", fails_at, {"out": None, **disk})


def test_a_schedule_is_extended_by_each_crash_the_last_first_and_errors_last(tmp_path):
    proof = Proof(tmp_path)
    schedule = proof.start_schedule("3")
    proof.found = [crash("1"), crash("1 error", "1"), crash("2"), crash("2 error", "2")]
    found = proof.crashed(schedule)
    own = [each.crashes for each in found]
    assert [[each.label for each in crashes] for crashes in own] == [
        *(["start 1"], ["2"], ["1"], ["2 error"], ["1 error"]),
    ]
    assert {each.way for each in found} == {"3"}
    assert proof.calls == 1
    again = proof.crashed(found[1])
    assert all(each.crashes[0] == own[1][0] for each in again)
    assert proof.calls == 2


def test_a_crash_leaves_its_folder(tmp_path):
    proof = Proof(tmp_path)
    schedule = proof.start_schedule("3")
    proof.starts.clear()
    last = crash("1", **{"out/kept": b""})
    proof.arrive(replace(schedule, crashes=(crash("0"), last)))
    assert names(proof) == ["kept"]
    assert proof.starts == []
    proof.arrive(schedule)
    assert names(proof) == []


def test_an_error_is_made_in_a_start_after_the_crashes_before_it(tmp_path):
    proof = Proof(tmp_path)
    schedule = proof.start_schedule("3")
    proof.starts.clear()
    crashes = (crash("1", **{"out/kept": b""}), crash("5 error", "5"))
    proof.arrive(replace(schedule, crashes=crashes))
    assert proof.starts == [(1, "5")]
    assert names(proof) == ["1", "kept"]


def test_an_error_that_comes_out_of_the_job_is_the_one_that_was_made(tmp_path):
    proof = Proof(tmp_path)
    schedule = proof.start_schedule("3")
    failing: Any = proof

    def run(*_):
        raise QueryFailed("q", "an error")

    failing.run = run
    proof.arrive(replace(schedule, crashes=(crash("5 error", "5"),)))


def test_the_folder_is_put_as_it_was(tmp_path):
    proof = Proof(tmp_path)
    proof.put({"a": b"tea"})
    assert module.read_disk(proof.folder)[0] == {"a": b"tea"}
    proof.put({})
    assert module.read_disk(proof.folder)[0] == {"out": None}


def test_schedules_with_one_crash_come_before_those_with_two(tmp_path):
    proof = Proof(tmp_path, fed="a")
    proof.found = [crash("1")]
    found = []
    for schedule in proof.schedules():
        found.append((schedule.way, len(schedule.crashes)))
        if len(schedule.crashes) == 2:
            break
    assert found[-1][1] == 2
    assert {way for way, crashes in found if crashes == 1} == {"1", "1|"}


def test_when_no_start_crashes_the_schedules_end(tmp_path):
    proof = Proof(tmp_path, fed="a")
    quiet: Any = proof
    quiet.crashed = lambda _: []
    assert list(proof.schedules()) == []


def test_a_schedule_is_found_by_its_name(tmp_path):
    proof = Proof(tmp_path)
    proof.found = [crash("1"), crash("2 lost")]
    one = proof.named("2|1:2 lost")
    assert (one.way, [each.label for each in one.crashes]) == ("2|1", ["2 lost"])
    two = proof.named("3|:1:2 lost")
    assert [each.label for each in two.crashes] == ["1", "2 lost"]


@pytest.mark.parametrize(
    "name", ["", "3", "x:1", "3:7", "3:1:7", "3||:1", "|3:1", "3-:1", "3:1x"]
)
def test_a_name_of_no_schedule_is_refused(name, tmp_path):
    proof = Proof(tmp_path)
    proof.found = [crash("1")]
    assert refusal(proof.named, name) == (
        f"assert_exactly_once(): only is {name!r}; give what a failure has printed"
    )


@pytest.mark.parametrize("sizes", ["", "1", "1-1", "10"])
def test_rows_are_landed_in_batches(sizes, tmp_path):
    source: Any = Source(None)
    Proof(tmp_path).land(source, iter("abc"), sizes)  # type: ignore[arg-type]
    assert (
        source.added
        == {
            "": [],
            "1": [["a"]],
            "1-1": [["a"], ["b"]],
            "10": [["a", "b", "c"]],
        }[sizes]
    )
    assert source.published == [len(source.added)]


def test_a_schedule_that_holds_gives_its_way(tmp_path):
    proof = Proof(tmp_path)
    schedule = proof.start_schedule("2-1")
    crashed = replace(schedule, crashes=(crash("1", **{"out/kept": b""}),))
    assert proof.hold(crashed) == "2-1"
    assert names(proof) == ["1", "kept"], "it was started on what the crash left"


def failing(tmp_path, *, result=("a row",), error=None):
    """Return what a schedule of two crashes is told that does not hold."""
    proof: Any = Proof(tmp_path, result=[["a row"], list(result)])
    schedule = proof.start_schedule("2|1")
    if error:

        def run(*_):
            raise error

        proof.run = run
    crashes = (crash("1"), crash("2 lost"))
    with pytest.raises(AssertionError) as caught:
        proof.hold(replace(schedule, crashes=crashes))
    return str(caught.value).splitlines()


def test_a_schedule_that_does_not_hold_says_how_to_run_it_alone(tmp_path):
    lines = failing(tmp_path, result=["a row", "a row"])
    assert lines == [
        (
            "not exactly once, with rows in batches of 2|1: crash 1; after a restart crash"
            " 2 lost; in the end row 'a row' is there twice"
        ),
        *("missing: none", "unexpected:", "  'a row'", "expected:", "  'a row'"),
        "To run this schedule alone: assert_exactly_once(…, only='2|1:1:2 lost')",
        module._ADVICE,
    ]


def test_a_start_that_fails_does_not_hold(tmp_path):
    lines = failing(tmp_path, error=ValueError("no room"))
    assert lines[0].endswith("; the next start fails: ValueError: no room")


@pytest.mark.parametrize(
    ("expected", "found", "headline"),
    [
        ([1, 2], [2, 1], ""),
        ([1, 2], [2], "in the end row 1 is missing"),
        ([1], [3], "in the end row 1 is missing"),
        ([1], [1, 3], "in the end row 3 should not be there"),
        ([1], [1, 1], "in the end row 1 is there twice"),
        ([], [3], "in the end row 3 should not be there"),
    ],
)
def test_a_difference_names_its_first_row(expected, found, headline):
    assert module._difference(expected, found).partition("\n")[0] == headline


# --- a start


class Query:
    def __init__(self, error=None):
        self.error = error
        self.waited = 0

    def awaitTermination(self):
        self.waited += 1
        if self.error:
            raise self.error


@pytest.fixture
def started(monkeypatch):
    played = SimpleNamespace(calls=[], query=Query(), watched=[])

    def start(*given, **how):
        played.calls.append((given, how))
        played.watched.append(list(module._watches))
        return played.query

    monkeypatch.setattr(sparkstream_kit, "start", start)
    return played


def proof_of(tmp_path, build):
    streams: Any = None
    rows: Any = None
    return module._Proof(
        streams, tmp_path / "run", build, nothing, "update", rows, [], None
    )


def test_a_start_runs_the_job_to_the_end_of_its_input(started, tmp_path):
    built: list[Any] = []
    sink = sinks.foreach_batch(print)

    def build(frame, folder):
        built.append((frame, folder))
        return "the job's frame", sink

    proof = proof_of(tmp_path, build)
    source: Any = Source(None)
    proof.run(source)
    assert built == [("a frame", proof.folder / "out")]
    how = {
        "name": "exactly_once",
        "mode": "update",
        "checkpoint": proof.folder / "checkpoint",
        "availableNow": True,
    }
    assert started.calls == [(("the job's frame", sink), how)]
    assert started.query.waited == 1
    assert started.watched == [[]]


def test_a_watch_sees_a_start(started, tmp_path):
    sink = sinks.foreach_batch(print)
    proof = proof_of(tmp_path, lambda *_: ("a frame", sink))
    watch = Watch(tmp_path, set())
    source: Any = Source(None)
    proof.run(source, watch)
    assert started.watched == [[watch]]
    [((_, watched), _)] = started.calls
    assert watched is not sink
    assert module._watches == []


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (None, "None"),
        ("ab", "the string 'ab'"),
        (("frame",), "a tuple"),
        (("frame", "sink", 3), "a tuple"),
        (["frame", "sink"], "a list"),
    ],
)
def test_what_build_gives_is_a_frame_and_a_sink(job, said, started, tmp_path):
    source: Any = Source(None)
    found = refusal(proof_of(tmp_path, lambda *_: job).run, source)
    assert found == (f"assert_exactly_once(): build gave {said}; return (frame, sink)")
    assert started.calls == []


def test_a_sink_of_spark_s_own_is_refused(started, tmp_path):
    source: Any = Source(None)
    proof = proof_of(tmp_path, lambda *_: ("a frame", sinks.console()))
    said = refusal(proof.run, source)
    assert said.startswith("assert_exactly_once() takes sinks that work batch by batch")


def test_a_job_that_fails_is_named(started, tmp_path):
    started.query.error = StreamingQueryException("no room")
    proof = proof_of(tmp_path, lambda *_: ("a frame", sinks.foreach_batch(print)))
    source: Any = Source(None)
    with pytest.raises(QueryFailed) as caught:
        proof.run(source)
    assert str(caught.value).startswith("exactly_once failed: ")
