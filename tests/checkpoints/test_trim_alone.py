"""Which entries of a log are taken out and brought back, without Spark."""

# ruff: noqa: SLF001 - the lines of a log are its own
import pytest
from support.checkpoint_files import AT, commit, entry, line, plan, put

from sparkstream_kit.checkpoints import trim
from sparkstream_kit.checkpoints.logs import DamagedError, Logs

DAY = 86_400_000
AGE = 1000
NEWEST = AT
LIMIT = NEWEST - AGE  # files that are older are taken out
LINES = 40
OUT = "sparkstream-kit/trimmed/0"  # where the files with what was taken out are


@pytest.mark.parametrize(
    ("options", "age"),
    [
        ({}, 7 * DAY),
        ({"maxFileAge": "5"}, 5),
        ({"maxFileAge": "5ms"}, 5),
        ({"maxFileAge": "5 s"}, 5_000),
        ({"maxFileAge": "5m"}, 300_000),
        ({"maxFileAge": "5min"}, 300_000),
        ({"maxFileAge": "5h"}, 18_000_000),
        ({"MAXFILEAGE": " 2D "}, 2 * DAY),
        ({"maxFileAge": "5 weeks"}, None),
        ({"maxFileAge": "-5d"}, None),
        ({"maxFileAge": "soon"}, None),
        ({"maxFileAge": "1.5d"}, None),
        ({"latestFirst": "true"}, 7 * DAY),
        ({"maxFilesPerTrigger": "1"}, 7 * DAY),
        ({"maxBytesPerTrigger": "1g"}, 7 * DAY),
        ({"latestFirst": "false", "maxFilesPerTrigger": "1"}, 7 * DAY),
        ({"latestFirst": "true", "maxFilesPerTrigger": "1"}, None),
        ({"latestfirst": "TRUE", "maxBytesPerTrigger": "1g"}, None),
    ],
)
def test_the_age_from_which_spark_reads_no_file(options, age):
    assert trim.max_age(options) == age


@pytest.mark.parametrize(
    ("number", "time", "is_out"),
    [
        (7, LIMIT - 1, True),
        (8, LIMIT - 1, False),
        (9, LIMIT - 1, False),
        (7, LIMIT, False),
        (0, LIMIT + 1, False),
        (0, -1, True),
        (8, LIMIT, False),
    ],
)
def test_which_lines_are_taken_out(tmp_path, number, time, is_out):
    listed = line(number, ("/in/a.csv", time))
    file = put(tmp_path / "sources/0/9.compact", "v1", listed)
    taken = b"".join(trim._lines(file, 8, LIMIT, out=True)).decode()
    left = b"".join(trim._lines(file, 8, LIMIT, out=False)).decode()
    assert (taken, left) == (
        (f"v1\n{listed}", "v1") if is_out else ("v1", f"v1\n{listed}")
    )


def test_a_line_that_spark_has_not_written_is_damage(tmp_path):
    file = put(tmp_path / "sources/0/9.compact", "v1", '{"path":"file:///in/a.csv"}')
    with pytest.raises(DamagedError, match="9.compact is cut off or changed"):
        list(trim._lines(file, 8, LIMIT, out=True))
    with pytest.raises(ValueError, match="not a line of a file source's log: b'v1'"):
        trim._is_out(b"v1", 8, LIMIT)


def made(root, *, out=LINES, until=8, name="9.compact", newest=NEWEST):
    """Write a checkpoint whose oldest plan has read a log of 40 lines up to an entry.

    Args:
        root: its folder.
        out: how many files at the beginning of the log are a bit older than the limit.
        until: the entry.
        name: the name of the log's file.
        newest: the time of the files of entry 8.

    Returns:
        The checkpoint's logs, and the lines, which have one length.
    """
    lines = []
    for number in range(LINES):
        time = LIMIT - 1 if number < out else LIMIT
        # Of the entries 0 to 7
        lines.append(line(number // 5, (f"/in/{number:02}.csv", time)))
    lines.append(line(8, ("/in/40.csv", newest)))
    lines.append(line(9, ("/in/41.csv", NEWEST + 500)))
    put(root / "sources/0" / name, "v1", *lines)
    plan(root, 8, until)
    plan(root, 9, 9)
    commit(root, 8)
    return Logs(root), lines


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Every log is long."""
    monkeypatch.setattr(trim, "LONG", 0)


@pytest.mark.parametrize(
    ("out", "is_due"), [(0, False), (11, False), (12, True), (40, True)]
)
def test_a_log_is_trimmed_once_a_quarter_of_it_can_be_taken_out(tmp_path, out, is_due):
    logs, lines = made(tmp_path, out=out)
    make = trim.due(logs, "0", AGE)
    if not is_due:
        assert make is None
        return
    assert make is not None
    make()
    left = (tmp_path / "sources/0/9.compact").read_text()
    taken = tmp_path / OUT / f"9.{LIMIT}.{AGE}"
    assert left.split("\n") == ["v1", *lines[out:]]
    assert taken.read_text().split("\n") == ["v1", *lines[:out]]
    assert trim.trimmed(tmp_path, "0") == [taken]
    assert trim.due(Logs(tmp_path), "0", AGE) is None, "not once more"


def test_a_short_log_is_left_as_it_is(tmp_path, monkeypatch):
    logs, _ = made(tmp_path)
    size = (tmp_path / "sources/0/9.compact").stat().st_size
    monkeypatch.setattr(trim, "LONG", size + 1)
    assert trim.due(logs, "0", AGE) is None
    monkeypatch.setattr(trim, "LONG", size)
    assert trim.due(logs, "0", AGE) is not None


def test_a_log_of_a_source_whose_age_is_not_known_is_left_as_it_is(tmp_path):
    assert trim.due(made(tmp_path)[0], "0", None) is None


def test_a_log_without_a_compacted_file_is_left_as_it_is(tmp_path):
    logs, _ = made(tmp_path, name="9")
    assert trim.due(logs, "0", AGE) is None
    assert trim.due(logs, "1", AGE) is None, "of which there is no log"


def test_entries_after_the_compacted_file_do_not_hide_it(tmp_path):
    logs, _ = made(tmp_path)
    for number in (10, 11):
        entry(tmp_path, number, "/in/x.csv")
    make = trim.due(logs.refresh(), "0", AGE)
    assert make is not None
    make()
    assert [file.name for file in trim.trimmed(tmp_path, "0")] == [f"9.{LIMIT}.{AGE}"]


@pytest.mark.parametrize(
    ("until", "newest", "limit"),
    [
        # By what the oldest batch has read last, which has newer files after it
        (8, NEWEST, LIMIT),
        (8, NEWEST + 100, LIMIT + 100),
        (9, NEWEST, LIMIT + 500),
        # Its entry is in a later file: by the last one of the compacted file
        (12, NEWEST, LIMIT + 500),
    ],
)
def test_files_are_old_beside_those_that_the_oldest_batch_has_read(
    tmp_path, until, newest, limit
):
    logs, _ = made(tmp_path, until=until, newest=newest)
    make = trim.due(logs, "0", AGE)
    assert make is not None
    make()
    assert [file.name for file in trim.trimmed(tmp_path, "0")] == [f"9.{limit}.{AGE}"]


def test_files_before_those_of_the_oldest_batch_do_not_count_however_new(tmp_path):
    logs, _ = made(tmp_path)
    lines = (tmp_path / "sources/0/9.compact").read_text().split("\n")
    lines[LINES] = line(7, ("/in/39.csv", NEWEST + 5000))
    put(tmp_path / "sources/0/9.compact", *lines)
    make = trim.due(logs, "0", AGE)
    assert make is not None
    make()
    assert [file.name for file in trim.trimmed(tmp_path, "0")] == [f"9.{LIMIT}.{AGE}"]


def test_of_a_source_that_the_oldest_batch_has_not_read_all_stays(tmp_path):
    logs, _ = made(tmp_path)
    plan(tmp_path, 8, "-")
    assert trim.due(logs, "0", AGE) is None


def test_a_damaged_log_is_left_as_it_is(tmp_path):
    logs, _ = made(tmp_path)
    put(tmp_path / "sources/0/9.compact", "v1", *["x" * 100] * 20)
    assert trim.due(logs, "0", AGE) is None


@pytest.mark.parametrize(
    ("age", "comes_back"),
    [(AGE, False), (AGE + 1, True), (None, True)],
)
def test_a_log_comes_back_when_its_source_looks_further_back(tmp_path, age, comes_back):
    logs, lines = made(tmp_path, out=30)
    trim.trim(logs, tmp_path / "sources/0/9.compact", 8, LIMIT, AGE)
    assert len(trim.trimmed(tmp_path, "0")) == 1
    make = trim.due(logs, "0", age)
    if not comes_back:
        assert make is None
        return
    assert make is not None
    make()
    file = tmp_path / "sources/0/9.compact"
    assert file.read_text().split("\n") == ["v1", *lines]
    assert trim.trimmed(tmp_path, "0") == []
    trim.restore(logs, "0")
    assert file.read_text().split("\n") == ["v1", *lines], "once more, nothing changes"


def test_what_a_crash_has_left_in_both_comes_back_once(tmp_path):
    logs, lines = made(tmp_path, out=30)
    for limit, out in (("5", lines[:10]), ("7", lines[5:20])):
        put(tmp_path / f"{OUT}/9.{limit}.{AGE}", "v1", *out)
    put(tmp_path / f"{OUT}/.9.8.1000.1.tmp", "v1", "cut")
    trim.restore(logs, "0")
    assert (tmp_path / "sources/0/9.compact").read_text().split("\n") == ["v1", *lines]
    assert trim.trimmed(tmp_path, "0") == []


def test_after_a_rewind_a_log_has_all_entries_and_what_was_taken_out_goes(tmp_path):
    logs, lines = made(tmp_path, name="9")
    put(tmp_path / f"{OUT}/9.5.{AGE}", "v1", *lines[:5])
    trim.restore(logs, "0")
    assert (tmp_path / "sources/0/9").read_text().split("\n") == ["v1", *lines]
    assert trim.trimmed(tmp_path, "0") == []


def test_a_log_of_which_nothing_was_taken_out_is_not_written(tmp_path):
    logs, _ = made(tmp_path)
    file = tmp_path / "sources/0/9.compact"
    before = file.stat().st_ino
    trim.restore(logs, "0")
    assert file.stat().st_ino == before
