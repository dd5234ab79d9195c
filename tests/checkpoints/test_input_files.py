"""What a run knows about the files in its folders, from a folder and a log made by hand."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.checkpoint_files import entry, log_text, place, plan, put
from support.recorded import progress

from sparkstream_kit._internal import durations
from sparkstream_kit._internal.spark import logical_plan, queries
from sparkstream_kit._internal.spark.place import LocalPlace
from sparkstream_kit.checkpoints.input_files import (
    PASSED_OVER,
    Files,
    WatchedSource,
    _first_paths,
    _has_input,
)
from sparkstream_kit.checkpoints.logs import DamagedError, Logs

DAY = 86_400
NOW = 1_700_000_000  # in seconds since 1970
WEEK = 7 * DAY  # Spark's maxFileAge


@pytest.fixture(autouse=True)
def _now(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "ckpt"


def land(folder, name, at=NOW):
    """Write a file with a modification time in seconds, and return its path as text."""
    file = put(folder / name, "a row", "")
    os.utime(file, ns=(int(at * 1000) * 1_000_000,) * 2)
    return str(file)


def planned(root, number, *files, log="0"):
    """Write an entry of a source's log; a file is its path, or its path and time in seconds."""
    listed = [file if isinstance(file, tuple) else (file, NOW) for file in files]
    entry(root, number, *((path, int(at * 1000)) for path, at in listed), log=log)


def source(folder, root, done=-1, **options):
    """Return the source of a folder as a run knows it after the entry `done` of its log."""
    made = WatchedSource("0", str(folder), options)
    made.done = done
    made.read(Logs(root))
    return made


def findings(made, root):
    return made.findings(root, set())


def told(text, *paths):
    return f"{', '.join(paths)}: {text}"


CHANGED = (
    "changed after it was read, and not read again: land new content under a new name"
)
GONE = (
    "gone when its batch was committed: if it went before the batch read it, its rows"
    " are missing, without an error of Spark; put it back under a new name, and remove"
    " input only after its batch is committed"
)
AHEAD = (
    "dated in the future, so that it will hide older files (maxFileAge): touch it"
    " before it is read"
)
HIDDEN = (
    "not read, for it is too old beside the newest file read: set a longer maxFileAge"
    " on the source"
)


# How many wait and were read


def test_a_file_waits_until_a_batch_has_read_it(folder, root):
    for name in "abcd":
        land(folder, name)
    planned(root, 0, f"{folder}/a", f"{folder}/b")
    planned(root, 1, f"{folder}/c")
    assert source(folder, root, done=1).count() == (1, 3)
    assert source(folder, root, done=0).count() == (2, 2)
    assert source(folder, root, done=-1).count() == (4, 0)
    assert source(folder, root / "none").count() == (4, 0)


def test_a_file_that_has_gone_was_read_all_the_same(folder, root):
    planned(root, 0, f"{folder}/a")
    planned(root, 1, f"{folder}/b")
    assert source(folder, root, done=0).count() == (1, 1)


def test_the_count_is_not_known_if_the_log_has_not_been_read_so_far(folder, root):
    planned(root, 0, f"{folder}/a")
    assert source(folder, root, done=0).count() == (0, 1)
    assert source(folder, root, done=1).count() is None


@pytest.mark.parametrize(
    ("value", "is_known"), [("true", False), ("TRUE", False), ("false", True)]
)
def test_the_count_is_not_known_where_names_alone_count(folder, root, value, is_known):
    land(folder, "a")
    count = source(folder, root, fileNameOnly=value).count()
    assert count == ((1, 0) if is_known else None)


def test_a_file_that_is_too_old_beside_the_newest_one_read_does_not_wait(folder, root):
    planned(root, 0, (f"{folder}/a", NOW), (f"{folder}/b", NOW - 5))
    land(folder, "as old as may be", NOW - WEEK)
    land(folder, "too old", NOW - WEEK - 0.001)
    assert source(folder, root, done=0).count() == (1, 2)
    assert source(folder, root, done=0, maxFileAge="8d").count() == (2, 2)
    latest_first = {"latestFirst": "true", "maxFilesPerTrigger": "1"}
    assert source(folder, root, done=0, **latest_first).count() == (2, 2)


def test_the_oldest_file_of_all_waits(folder, root):
    land(folder, "a", 0)
    latest_first = {"latestFirst": "true", "maxFilesPerTrigger": "1"}
    assert source(folder, root).count() == (1, 0)
    assert source(folder, root, **latest_first).count() == (1, 0)
    planned(root, 0, (f"{folder}/b", 60))
    assert source(folder, root, done=0).count() == (1, 1)


def test_what_is_forgotten_still_counts_as_read(folder, root):
    old = NOW - WEEK
    planned(root, 0, (f"{folder}/a", old - 1), (f"{folder}/b", old - 1))
    planned(root, 1, (f"{folder}/c", NOW), (f"{folder}/d", old - 1))
    made = source(folder, root, done=0)
    for _ in range(2):
        made.forget()
        assert made.count() == (2, 2)
    made.done = 1
    for _ in range(2):
        made.forget()
        assert made.count() == (0, 4)


def test_only_files_that_spark_considers_no_more_are_forgotten(folder, root):
    """Of a file that is forgotten no change is told."""
    ages = {"a": WEEK + 0.001, "b": WEEK, "c": 0}
    for name, age in ages.items():
        planned(root, ord(name) - ord("a"), (land(folder, name), NOW - age))
        land(folder, name, NOW - 3 * DAY)
    made = source(folder, root, done=2)
    assert findings(made, root) == [told(CHANGED, *(f"{folder}/{n}" for n in "abc"))]
    made.forget()
    assert findings(made, root) == [told(CHANGED, *(f"{folder}/{n}" for n in "bc"))]
    latest_first = {"latestFirst": "true", "maxFilesPerTrigger": "1"}
    made = source(folder, root, done=2, **latest_first)
    made.forget()
    assert findings(made, root) == [told(CHANGED, *(f"{folder}/{n}" for n in "abc"))]


def test_a_file_of_a_batch_that_is_not_committed_is_not_forgotten(folder, root):
    planned(root, 0, (f"{folder}/a", NOW))
    planned(root, 1, (f"{folder}/b", NOW - 9 * DAY))
    made = source(folder, root, done=0)
    made.forget()
    assert made.count() == (1, 1)


# What is read of a log


def test_a_log_is_read_on_from_where_it_was_read(folder, root):
    planned(root, 0, f"{folder}/a b")
    made = source(folder, root)
    assert made.count() == (1, 0)
    # Spark has removed the first entry, and added one
    put(root / "sources/0/0")
    planned(root, 1, f"{folder}/c")
    made.read(Logs(root))
    made.done = 1
    assert made.count() == (0, 2)


@pytest.mark.parametrize("text", ["", "v1\n{", "v2\n{}"])
def test_what_was_read_of_a_log_stays_known_if_the_log_is_damaged(folder, root, text):
    planned(root, 0, f"{folder}/a")
    made = source(folder, root, done=0)
    put(root / "sources/0/1", text)
    made.read(Logs(root))
    assert made.count() == (0, 1)


def test_a_file_elsewhere_is_one_of_those_planned(folder, root):
    planned(root, 0, "hdfs://namenode/in/a%20b", f"{folder}/c d")
    land(folder, "c d")
    assert source(folder, root, done=0).count() == (0, 2)
    assert findings(source(folder, root, done=0), root) == []


def test_a_file_of_a_log_is_known_by_its_path_or_its_uri(root):
    planned(root, 0, "/in/a b", "hdfs://namenode/in/a%20b")
    made = source("/in", root, done=0)
    changed = made._changed  # noqa: SLF001
    later = NOW * 1000 + 1
    assert changed({"/in/a b": later}) == ["/in/a b"]
    assert changed({"hdfs://namenode/in/a b": later}) == ["hdfs://namenode/in/a b"]
    assert changed({"/in/a b": NOW * 1000, "/in/c": later}) == []


# Files that have gone


def dangers(made, files, root):
    """Return the paths that each danger has; the keys are the first words that are told."""
    told_of = made._dangers(files, root)  # noqa: SLF001
    return {text.split(" ", 1)[0]: paths for text, paths in told_of if paths}


def test_only_without_cleaning_is_a_file_that_has_gone_a_loss(root):
    planned(root, 0, "/in/a")
    for value, lost in (("off", ["/in/a"]), ("Off", ["/in/a"]), ("delete", [])):
        made = source("/in", root, cleanSource=value)
        made.look_for(-1, 0)
        assert dangers(made, {}, root).get("gone", []) == lost
    made = source("/in", root)
    made.look_for(-1, 0)
    assert dangers(made, {}, root) == {"gone": ["/in/a"]}


def test_the_dangers_of_times_begin_at_an_exact_millisecond(root):
    planned(root, 0, ("/in/a", NOW + WEEK), ("/in/b", NOW))
    now, week = NOW * 1000, WEEK * 1000
    made = source("/in", root, done=0)
    files = {"/in/ahead": now + 3_600_001, "/in/not": now + 3_600_000}
    files |= {"/in/old": now - 1, "/in/not old": now}
    assert dangers(made, files, root) == {"dated": ["/in/ahead"], "not": ["/in/old"]}
    planned(root, 1, ("/in/c", NOW + WEEK + 0.001))
    made = source("/in", root, done=1)
    assert dangers(made, {}, root) == {"read": ["/in/c"]}
    made = source("/in", root, done=1, maxFileAge=f"{week + 1}ms")
    assert dangers(made, {}, root) == {}


def test_a_file_that_is_known_is_not_looked_up_again(root):
    planned(root, 0, "/in/read", "hdfs://namenode/in/read")
    made = source("/in", root)
    unread = made._unread  # noqa: SLF001
    assert unread(["/in/read", "/in/old"], root) == ["/in/old"]
    log = root / "sources/0/0"
    kept = log.read_text()
    log.write_text("v1\n{")
    assert unread(["/in/read", "/in/old"], root) == ["/in/old"]
    assert unread(["/in/old"], root) == ["/in/old"]
    with pytest.raises(DamagedError):
        unread(["/in/read"], root)  # which had gone meanwhile
    log.write_text(kept)
    assert unread(["/in/read"], root) == []


def test_a_file_that_has_gone_is_told_once_after_its_batch(folder, root):
    for number, name in enumerate("abcde"):
        planned(root, number, f"{folder}/{name}")
    land(folder, "c")
    made = source(folder, root)
    made.look_for(0, 3)
    assert findings(made, root) == [told(GONE, f"{folder}/b", f"{folder}/d")]
    assert findings(made, root) == []
    made.look_for(3, 3)
    assert findings(made, root) == []
    made.look_for(3, 4)
    assert findings(made, root) == [told(GONE, f"{folder}/e")]
    made.look_for(-1, 4)
    assert findings(made, root) == []


@pytest.mark.parametrize(
    ("option", "is_told"),
    [
        ({}, True),
        ({"cleanSource": "OFF"}, True),
        ({"cleanSource": "delete"}, False),
        ({"CLEANSOURCE": "archive"}, False),
    ],
)
def test_a_file_that_spark_cleans_away_is_no_loss(folder, root, option, is_told):
    planned(root, 0, f"{folder}/a")
    made = source(folder, root, **option)
    made.look_for(-1, 0)
    assert findings(made, root) == ([told(GONE, f"{folder}/a")] if is_told else [])


# Files that have changed, and times


def test_a_file_has_changed_if_it_was_read_and_has_another_time(folder, root):
    planned(root, 0, land(folder, "same"), land(folder, "a"), land(folder, "b"))
    planned(root, 1, land(folder, "not read"))
    planned(root, 0, f"{folder}/same", f"{folder}/a", f"{folder}/b", f"{folder}/gone")
    land(folder, "a", NOW + 0.001)
    land(folder, "b", NOW - 0.001)
    land(folder, "not read", NOW + 5)
    lines = findings(source(folder, root, done=0), root)
    assert lines == [told(CHANGED, f"{folder}/a", f"{folder}/b")]
    lines = findings(source(folder, root, done=1), root)
    assert lines == [told(CHANGED, *(f"{folder}/{n}" for n in ("a", "b", "not read")))]


def test_a_file_is_dated_in_the_future_by_more_than_clocks_differ(folder, root):
    land(folder, "an hour", NOW + 3600)
    ahead = land(folder, "more", NOW + 3600.001)
    assert findings(source(folder, root), root) == [told(AHEAD, ahead)]
    planned(root, 0, (ahead, NOW + 3600.001))
    assert findings(source(folder, root, done=0), root) == []


def test_a_file_of_the_future_that_was_read_hides_new_files(folder, root):
    one = land(folder, "a", NOW + WEEK)
    planned(root, 0, (one, NOW + WEEK))
    assert findings(source(folder, root, done=0), root) == []
    other = land(folder, "b", NOW + WEEK + 0.001)
    planned(root, 1, (other, NOW + WEEK + 0.001))
    new = land(folder, "c", NOW)
    assert findings(source(folder, root, done=1), root) == [
        told(
            "read with a date 7 days ahead, so that new files are not read: set"
            ' maxFileAge="15d" on the source',
            other,
        ),
        told(HIDDEN, new),
    ]
    assert findings(source(folder, root, done=1, maxFileAge="15d"), root) == []


def test_without_an_age_no_file_hides_another(folder, root):
    options = {"latestFirst": "true", "maxFilesPerTrigger": "1"}
    planned(root, 0, (land(folder, "a", NOW + 90 * DAY), NOW + 90 * DAY))
    land(folder, "b", NOW)
    land(folder, "c", NOW + 30 * DAY)
    assert findings(source(folder, root, done=0, **options), root) == []


def test_an_old_file_is_hidden_unless_a_batch_has_read_it(folder, root):
    planned(root, 0, (land(folder, "new"), NOW))
    land(folder, "as old as may be", NOW - WEEK)
    old = land(folder, "old", NOW - WEEK - 0.001)
    made = source(folder, root, done=0)
    assert findings(made, root) == [told(HIDDEN, old)]
    assert findings(made, root) == [told(HIDDEN, old)]


@pytest.mark.parametrize("where", ["log", "trimmed"])
def test_an_old_file_that_an_earlier_run_has_read_is_not_hidden(folder, root, where):
    old = land(folder, "old", NOW - 9 * DAY)
    other = land(folder, "other", NOW - 9 * DAY)
    planned(root, 0, (old, NOW - 9 * DAY))
    planned(root, 1, (land(folder, "new"), NOW))
    made = WatchedSource("0", str(folder), {})
    made.read(Logs(root))
    made.done = 1
    made.forget()
    if where == "trimmed":
        trimmed = root / "sparkstream-kit/trimmed/0"
        trimmed.mkdir(parents=True)
        (root / "sources/0/0").rename(trimmed / "1.6.7")
        (root / "sources/0/1").rename(root / "sources/0/1.compact")
    again = WatchedSource("0", str(folder), {})
    again._newest = NOW * 1000  # noqa: SLF001 - as after batches that were forgotten
    for each in (made, again):
        assert findings(each, root) == [told(HIDDEN, other)]


def test_an_old_file_is_looked_up_in_the_log_once(folder, root):
    old = land(folder, "old", NOW - 9 * DAY)
    planned(root, 0, (f"{folder}/x", NOW))
    made = source(folder, root, done=0)
    assert findings(made, root) == [told(HIDDEN, old)]
    put(root / "sources/0/0", "v1", "{")
    assert findings(made, root) == [told(HIDDEN, old)]


# What Spark passes over


def kinds(folder, root, **options):
    """Return for each kind the names of the entries in a folder, by what is told of them."""
    lines = findings(source(folder, root, **options), root)
    names = {}
    for kind, warning in PASSED_OVER.items():
        for line in lines:
            if line.endswith(warning):
                names[kind] = line.removesuffix(f": {warning}").replace(
                    f"{folder}/", ""
                )
    assert len(names) == len(lines), lines
    return names


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a.csv", "_day=1/b.csv", "day=1/c.csv"], {"beside": "a.csv"}),
        (["a.csv", "day=1/c.csv", "d.csv"], {"beside": "a.csv and 1 more"}),
        (["day=1/b.csv"], {}),
        (["a.csv", "_b.csv", ".c.csv"], {"hidden": ".c.csv and 1 more"}),
        (["a._COPYING_"], {"hidden": "a._COPYING_"}),
        (["_SUCCESS", ".DS_Store", ".gitkeep", "_truth.json", "_sparkstream_plan"], {}),
        (["_a.crc", ".a.tmp", "_a.part", ".a.swp"], {}),
        (["_a/b.csv", ".c/d.csv"], {}),
        (["more/b.csv"], {"subfolder": "more"}),
        (["more/deep/b.csv"], {"subfolder": "more"}),
        (["more/_b.csv"], {}),
        (["a.csv", "more/b.csv"], {"subfolder": "more"}),
    ],
)
def test_what_spark_passes_over_has_a_kind(folder, root, names, wanted):
    for name in names:
        land(folder, name)
    assert kinds(folder, root) == wanted


def test_in_subfolders_that_are_read_nothing_lies_beside_others(folder, root):
    for name in ("a.csv", "more/b.csv", "day=1/c.csv", "more/_d.csv"):
        land(folder, name)
    made = source(folder, root, RecursiveFileLookup="true")
    assert made.count() == (3, 0)
    assert kinds(folder, root, recursiveFileLookup="true") == {"hidden": "more/_d.csv"}


def test_with_recursion_no_file_lies_beside_partitions(folder):
    paths = [land(folder, name) for name in ("a.csv", "day=1/c.csv")]

    def found(**options):
        scanned = WatchedSource("0", str(folder), options)._scan()  # noqa: SLF001
        return {kind: sorted(files) for kind, files in scanned.items() if files}

    assert found(recursiveFileLookup="true") == {"read": paths}
    assert found() == {"read": paths[1:], "beside": paths[:1]}


def test_a_kind_is_told_once_and_the_others_still(folder, root):
    land(folder, "_a.csv")
    made = source(folder, root)
    reported: set[str] = set()
    [line] = made.findings(root, reported)
    assert reported == {"hidden"}
    land(folder, "more/b.csv")
    assert line not in made.findings(root, reported)
    assert reported == {"hidden", "subfolder"}
    assert made.findings(root, {"hidden"})[0].startswith(f"{folder}/more: a subfolder")


@pytest.mark.parametrize(
    ("name", "is_folder", "kind"),
    [
        ("a.csv", False, "read"),
        ("day=1/a.csv", False, "read"),
        ("more", True, "subfolder"),
        ("_more", True, None),
        ("_a.csv", False, "hidden"),
        ("_SUCCESS", False, None),
        (".a.csv.crc", False, None),
        ("_sparkstream_epochs/1/driver.csv", False, "hidden"),
        ("_sparkstream_epochs/1/.driver.tmp", False, None),
        ("caf\udce9.csv", False, "undecodable"),
        ("a[1].csv", False, "misread"),
        ("a:b.csv", False, "misread"),
        ("a.md", False, None),
        ("a[1].md", False, None),
    ],
)
def test_the_kind_of_an_entry(name, is_folder, kind):
    watched = WatchedSource("0", "/in", {"PathGlobFilter": "{a,ax1x,axb,caf?}.csv"})
    assert watched._kind(f"/in/{name}", is_folder=is_folder) == kind  # noqa: SLF001


def test_a_pattern_reads_the_files_that_it_matches(folder, root):
    for name in ("a.csv", "b.csv", "c.md", "day=1/d.csv"):
        land(folder, name)
    assert source(f"{folder}/[ab].csv", root).count() == (2, 0)
    assert source(f"{folder}/*", root).count() == (4, 0)
    assert source(f"file:{folder}", root, pathGlobFilter="*.md").count() == (1, 0)


def test_what_cannot_be_read_hides_no_file_beside_it(folder, root):
    land(folder, "a.csv")
    (folder / "b.csv").symlink_to("nowhere")
    (folder / "c.csv").symlink_to("c.csv")
    assert source(folder, root).count() == (1, 0)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, ""),
        (1, "/in/a"),
        (3, "/in/a, /in/b, /in/c"),
        (4, "/in/a, /in/b, /in/c and 1 more"),
        (1503, "/in/a, /in/b, /in/c and 1,500 more"),
    ],
)
def test_the_first_paths_are_told_and_how_many_more_there_are(number, text):
    paths = [f"/in/z{n}" for n in range(number)]
    paths[:3] = ["/in/c", "/in/b", "/in/a"][3 - min(number, 3) :]
    assert _first_paths(paths) == text


def test_a_subfolder_counts_if_it_has_a_visible_file(tmp_path):
    land(tmp_path, "a/b/c.csv")
    land(tmp_path, "hidden/_b.csv")
    (tmp_path / "empty/b").mkdir(parents=True)
    far = Path("/elsewhere/ckpt")

    def has_input(name, root=far):
        return _has_input(str(tmp_path / name), root)

    assert has_input("a")
    assert not has_input("hidden")
    assert has_input("a", tmp_path / "ckpt")
    assert not has_input("a", tmp_path / "a/ckpt/1")
    assert not has_input("a", tmp_path / "a")


# A log that has grown long


def test_a_log_is_restored_if_spark_considers_older_files_now(folder, root):
    trimmed = root / "sparkstream-kit/trimmed/0"
    put(trimmed / f"1.6.{WEEK * 1000}", log_text(0, (folder / "a", 5)))
    entry(root, 1, folder / "b", compact=True)
    source(folder, root).trim(Logs(root))
    assert [each.entry for each in Logs(root).inputs("0")] == [1]
    source(folder, root, maxFileAge="8d").trim(Logs(root))
    assert [each.entry for each in Logs(root).inputs("0")] == [0, 1]
    assert list(trimmed.iterdir()) == []


def test_a_damaged_log_is_not_trimmed(folder, root):
    log = put(root / "sources/0/1.compact", "v1", "x" * 200_000)
    plan(root, 0, "-")
    source(folder, root).trim(Logs(root))
    assert list(log.parent.iterdir()) == [log]


# All sources of a query


def files_of(root, **sources):
    """Return the files of a query with these sources, by their positions: `s0=…`."""
    unknown: Any = SimpleNamespace(runId="of no query")
    files = Files(unknown)
    files._sources = {int(name[1:]): made for name, made in sources.items()}  # noqa: SLF001
    files._root = root  # noqa: SLF001
    return files


def batch(*ends, starts=None):
    """A progress in which each source has read its log up to an entry; None for none."""

    def offset(entry):
        return None if entry is None else {"logOffset": entry}

    told_of = [
        {
            "description": "FileStreamSource[file:/in]",
            "startOffset": offset(start),
            "endOffset": offset(end),
            "latestOffset": None,
            "numInputRows": 1,
            "inputRowsPerSecond": 1.0,
            "processedRowsPerSecond": 1.0,
        }
        for start, end in zip(starts or ends, ends, strict=True)
    ]
    return progress(sources=told_of)


def test_of_a_query_that_start_has_not_started_nothing_is_known(root):
    files = files_of(root)
    assert files.counted(batch(), now=True) is None
    assert files.findings(None) == files.findings(batch()) == []
    files.look_for(batch())
    files.trim_logs()


def test_the_files_of_all_sources_are_added_up(tmp_path, root):
    one, two = tmp_path / "one", tmp_path / "two"
    for name in "abc":
        land(one, name)
    land(two, "d")
    planned(root, 0, f"{one}/a")
    planned(root, 0, f"{two}/d", log="1")
    files = files_of(
        root, s0=WatchedSource("0", str(one), {}), s2=WatchedSource("1", str(two), {})
    )
    assert files.counted(batch(0, None, 0)) == (2, 2)
    assert files.counted(batch(None, None, 0), now=True) == (3, 1)
    # Another batch has been planned meanwhile
    planned(root, 1, f"{one}/b", f"{one}/c")
    assert files.counted(batch(1, None, 0), now=True) == (0, 4)


def test_a_source_that_is_not_known_is_left_out_of_the_count(tmp_path, root):
    one = tmp_path / "one"
    land(one, "a")
    by_name = WatchedSource("1", str(one), {"fileNameOnly": "true"})
    known = WatchedSource("0", str(one), {})
    assert files_of(root, s0=known, s1=by_name).counted(batch(None, None)) == (1, 0)
    assert files_of(root, s0=by_name).counted(batch(None)) is None


def test_a_folder_that_cannot_be_listed_is_left_out(tmp_path, root, monkeypatch):
    land(tmp_path / "one", "a")
    known, away = (WatchedSource("0", str(tmp_path / "one"), {}) for _ in range(2))

    def fail(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(away, "count", fail)
    monkeypatch.setattr(away, "findings", fail)
    files = files_of(root, s0=away, s1=known)
    assert files.counted(batch(None, None)) == (1, 0)
    land(tmp_path / "one", "_b")
    assert len(files.findings(None)) == 1


def test_files_are_counted_for_a_fiftieth_of_the_time(tmp_path, root, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(durations, "monotonic", lambda: clock[0])
    made = WatchedSource("0", str(tmp_path), {})
    count = made.count

    def slow():
        clock[0] += 1
        return count()

    monkeypatch.setattr(made, "count", slow)
    files = files_of(root, s0=made)
    land(tmp_path, "a")
    assert files.counted(batch(None)) == (1, 0)
    land(tmp_path, "b")
    clock[0] += 49
    assert files.counted(batch(None)) == (1, 0)
    clock[0] += 1
    assert files.counted(batch(None)) == (2, 0)
    land(tmp_path, "c")
    assert files.counted(batch(None)) == (2, 0)
    assert files.counted(batch(None), now=True) == (3, 0)


def test_the_files_of_a_batch_are_looked_for_in_the_new_entries(tmp_path, root):
    files = files_of(root, s1=WatchedSource("0", str(tmp_path), {}))
    for number, name in enumerate("abc"):
        planned(root, number, f"{tmp_path}/{name}")
    files.look_for(batch(None, 1, starts=(None, 0)))
    assert files.findings(None) == [told(GONE, f"{tmp_path}/b")]
    files.look_for(batch(None, 2, starts=(None, 1)))
    assert files.findings(None) == [told(GONE, f"{tmp_path}/c")]


def test_what_a_batch_has_read_is_known_to_the_findings(tmp_path, root):
    planned(root, 0, (land(tmp_path, "a"), NOW - 5))
    files = files_of(root, s0=WatchedSource("0", str(tmp_path), {}))
    assert files.findings(None) == files.findings(batch(None)) == []
    assert files.findings(batch(0)) == [told(CHANGED, f"{tmp_path}/a")]


def test_what_was_read_of_the_logs_outlives_the_checkpoint(tmp_path, root):
    planned(root, 0, (land(tmp_path / "in", "a"), NOW - 5))
    made = WatchedSource("0", str(tmp_path / "in"), {})
    files = files_of(root, s0=made)
    files.read_logs()
    (root / "sources/0/0").unlink()
    assert files.findings(batch(0)) == [told(CHANGED, f"{tmp_path}/in/a")]


def test_an_old_file_that_gets_a_new_date_waits_again(tmp_path, root):
    planned(root, 0, (land(tmp_path, "a", NOW - 3), NOW - 9 * DAY), f"{tmp_path}/b")
    files = files_of(root, s0=WatchedSource("0", str(tmp_path), {}))
    assert files.counted(batch(0)) == (1, 2)


def test_a_kind_is_told_once_for_all_sources(tmp_path, root):
    for name in ("one", "two"):
        land(tmp_path / name, "_a")
    one, two = (WatchedSource("0", str(tmp_path / name), {}) for name in ("one", "two"))
    files = files_of(root, s0=one, s1=two)
    assert files.findings(None) == [told(PASSED_OVER["hidden"], f"{tmp_path}/one/_a")]
    assert files.findings(None) == []


def test_the_logs_of_all_sources_are_trimmed(tmp_path, root):
    for log in "01":
        put(root / f"sparkstream-kit/trimmed/{log}/1.6.7", "v1")
    sources = {f"s{n}": WatchedSource(str(n), str(tmp_path), {}) for n in (0, 1)}
    files_of(root, **sources).trim_logs()
    assert list((root / "sparkstream-kit/trimmed").glob("*/*")) == []


class Query:
    """A query of which `start` has noted its frame and its checkpoint."""

    def __init__(self, frame, place):
        self.runId = f"of {place}"
        facts = queries.StartFacts(frame=frame, location=place)
        queries._start_facts[self.runId] = facts  # noqa: SLF001


def test_a_query_s_file_sources_are_those_of_its_frame(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(queries, "_start_facts", {})
    for name in ("one", "two"):
        land(tmp_path / name, "a.csv")
        land(tmp_path / name, "b.md")
    read = spark.readStream.format("text").option
    rate = spark.readStream.format("rate").load().selectExpr("string(value)")
    csv = read("pathGlobFilter", "*.csv").load(str(tmp_path / "one"))
    both = csv.union(rate).union(spark.readStream.text(str(tmp_path / "two")))
    root = tmp_path / "ckpt"
    query: Any = Query(both, place(root))
    files = Files(query)
    assert files.counted(batch(None, None, None)) == (3, 0)
    planned(root, 0, f"{tmp_path}/two/a.csv", log="2")
    assert files.counted(batch(None, None, 0), now=True) == (2, 1)


def test_without_a_checkpoint_on_this_machine_nothing_is_known():
    query: Any = Query(object(), None)
    assert Files(query).counted(batch(), now=True) is None


@pytest.mark.classic_only("sets Hadoop's own settings")
@pytest.mark.parametrize("elsewhere", ["in", "ckpt"])
def test_what_is_on_another_file_system_is_not_known(spark, tmp_path, elsewhere):
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001
    hadoop.set("fs.viewfs.mounttable.files.link./far", tmp_path.as_uri())
    land(tmp_path / "in", "a")
    paths = {"in": f"{tmp_path}/in", "ckpt": f"{tmp_path}/ckpt"}
    paths[elsewhere] = f"viewfs://files/far/{elsewhere}"
    frame = spark.readStream.text(paths["in"])
    query: Any = Query(frame, LocalPlace(paths["ckpt"], tmp_path / "ckpt"))
    assert Files(query).counted(batch(None), now=True) is None


def test_sources_without_options_that_are_known_are_not_watched(
    spark, folder, root, monkeypatch
):
    monkeypatch.setattr(queries, "_start_facts", {})
    monkeypatch.setattr(logical_plan, "file_options", lambda _: {})
    query: Any = Query(spark.readStream.text(str(folder)), place(root))
    assert Files(query).counted(batch(None), now=True) is None
