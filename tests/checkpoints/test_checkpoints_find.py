"""`find`: the batch that read a file or a record, or why there is none.

The checkpoint alone is read.
"""

import json
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import refusal
from support.checkpoint_files import commit, plan, put
from support.sink_streams import finish, three_batches

from sparkstream_kit import checkpoints, feeds, quarantine, sinks, sources
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate.rewind import set_aside as move_aside
from sparkstream_kit.cli import main

# In one process, for which the bad rows are made once
pytestmark = pytest.mark.xdist_group("find")
FILES = 100_000


@pytest.mark.slow
def test_a_file_is_found_with_its_batch_and_its_commit(made, checkpoint):
    folder, _, _ = made
    found = checkpoints.find(checkpoint, str(folder / "3 é%.json"))
    assert (found.batch, found.committed, found.why) == (3, True, None)
    assert found.since == datetime.fromtimestamp(
        (checkpoint / "commits" / "3").stat().st_mtime, UTC
    )
    assert str(found).startswith(f"{folder}/3 é%.json: batch 3, committed since 20")
    os.remove(checkpoint / "commits" / "5")  # noqa: PTH107 - one file
    found = checkpoints.find(checkpoint, str(folder / "5 é%.json"))
    assert (found.batch, found.committed, found.since) == (5, False, None)
    assert "not committed: a restart runs it again" in str(found)


@pytest.mark.slow
def test_why_a_file_was_not_read_is_said(made, checkpoint, tmp_path):
    folder, _, _ = made
    newest = (folder / "5 é%.json").stat().st_mtime

    def why(name, *, age=0.0):
        file = folder / name
        file.touch()
        os.utime(file, (newest - age, newest - age))
        try:
            return checkpoints.find(checkpoint, str(file)).why
        finally:
            file.unlink()

    assert "Spark passes over names that begin with _ or ." in why("_6.json")
    assert why("6.json", age=8 * 86_400).startswith(
        "not read: it is more than 7 days older than the newest"
    )
    assert why("6.json", age=6 * 86_400).startswith(
        "not read: not seen yet, or left out by the source's"
    )
    (tmp_path / "other").touch()
    elsewhere = checkpoints.find(checkpoint, str(tmp_path / "other"))
    assert (
        elsewhere.why
        == f"not read: the query reads {folder}, and nothing of {tmp_path}"
    )
    assert (
        checkpoints.find(checkpoint, str(folder / "gone")).why
        == "not read, and there is no such file"
    )


def test_a_file_whose_plan_is_not_kept_was_read_before(made, checkpoint):
    for batch in range(3):
        (checkpoint / "offsets" / str(batch)).unlink()
        (checkpoint / "commits" / str(batch)).unlink()
    for number, known in enumerate([None, None, None, None, 4, 5]):
        found = checkpoints.find(checkpoint, str(made[0] / f"{number} é%.json"))
        assert (found.batch, found.committed) == (known, True)
        why = (
            "read by batch 3 or an earlier one, of which no plan is kept; it is"
            " committed"
        )
        assert known or found.why == why


def test_a_record_is_found_by_its_offset(tmp_path):
    for batch, end in enumerate([10, 10, 25]):
        plan(tmp_path, batch, json.dumps({"orders": {"0": end, "1": 5}}))
        commit(tmp_path, batch)
    put(tmp_path / "sources/0/0", "\0v1", '{"orders":{"0":4,"1":5}}')
    (tmp_path / "commits" / "2").unlink()
    (tmp_path / "sources" / "1").mkdir()  # of a folder that has no file yet
    for offset, batch in ((4, 0), (9, 0), (10, 2), (24, 2)):
        found = checkpoints.find(tmp_path, f"orders:0:{offset}")
        assert (found.batch, found.committed) == (batch, batch == 0)
    whys = {
        "orders:0:25": "not read yet",
        "orders:0:3": "not read: the query began after it",
        "orders:1:4": "not read: the query began after it",
        "orders:2:0": (
            "not read: the query has read nothing of partition 2 of topic orders"
        ),
        "clicks:0:0": (
            "not read: the query has read nothing of partition 0 of topic clicks"
        ),
    }
    assert {what: checkpoints.find(tmp_path, what).why for what in whys} == whys
    move_aside(Logs(tmp_path), 1)
    # Where it began, which Spark does not write again
    assert (tmp_path / "sources" / "0" / "0").exists()


def test_a_time_finds_the_batch_that_was_committed_after_it(
    checkpoint, tmp_path, monkeypatch
):
    begin = datetime(2026, 1, 14, 9, tzinfo=UTC)
    for batch in range(6):
        at = (begin + timedelta(minutes=batch)).timestamp()
        os.utime(checkpoint / "commits" / str(batch), (at, at))
    assert checkpoints.find(checkpoint, "2026-01-14T09:01:30Z").batch == 2
    assert checkpoints.find(checkpoint, "2026-01-14T10:02:00+01:00").batch == 2
    assert (
        checkpoints.find(checkpoint, "2026-01-14T09:06Z").why
        == "no batch was committed after it"
    )
    assert checkpoints.find(checkpoint, "2026-01-14").batch == 0
    (checkpoint / "commits" / "0").unlink()
    earlier = str(checkpoints.find(checkpoint, "2020-01-01T00:00Z").why)
    assert "committed after it: batch 1 or an earlier" in earlier
    monkeypatch.chdir(tmp_path)
    Path("20260114").touch()  # a file counts as one, whatever its name
    assert "not read" in str(checkpoints.find(checkpoint, "20260114").why)


def test_a_copy_that_kept_no_times_says_that_it_does_not_know_them(
    made, checkpoint, tmp_path
):
    folder, original, _ = made
    copy = shutil.copytree(original, tmp_path / "copy", copy_function=shutil.copyfile)
    for file in (copy / "offsets").iterdir():
        # The copy was made an hour later
        os.utime(file, (file.stat().st_mtime + 3600,) * 2)
    found = checkpoints.find(copy, str(folder / "3 é%.json"))
    assert (found.batch, found.committed, found.since) == (3, True, None)
    assert "batch 3, committed\n" in f"{found}\n"
    assert checkpoints.show(copy).committed_at is None
    assert "committed   batch 5, but when is not known, as of a copy\n" in str(
        checkpoints.show(copy)
    )
    # Copied with its times
    assert checkpoints.show(checkpoint).committed_at is not None
    begin = datetime.fromtimestamp(Logs(copy).plan(0).time / 1000, UTC) - timedelta(
        hours=1
    )
    assert "not known: the files of batch 0 have other times" in str(
        checkpoints.find(copy, str(begin)).why
    )


@pytest.mark.slow
def test_the_targets_of_the_batch_are_named(spark, folder, tmp_path):
    sink = sinks.by_value("k", lambda k: sinks.batch_files(tmp_path / "out" / k))
    finish(three_batches(spark, folder), sink, tmp_path / "ckpt")
    found = checkpoints.find(tmp_path / "ckpt", str(folder / "3.csv"))
    assert found.targets == ("targets by k", "k b", "k c")
    assert "\n  written to k b\n" in str(found)


def test_the_command_prints_text_or_json_and_says_by_its_code_whether_it_was_read(
    made, checkpoint, capsys
):
    file = str(made[0] / "2 é%.json")
    assert main(["checkpoint", "find", str(checkpoint), file, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["found"]
    assert (said["batch"], said["committed"], said["what"]) == (2, True, file)
    assert main(["checkpoint", "find", str(checkpoint), f"{file}.gone"]) == 1
    assert (
        capsys.readouterr().out == f"{file}.gone: not read, and there is no such file\n"
    )


def test_what_was_taken_out_of_a_long_log_is_found(made, checkpoint):
    past = checkpoint / "sparkstream-kit" / "trimmed" / "0"
    past.mkdir(parents=True)
    lines = "".join(
        map(
            '{{"path":"file:///in/{0}.csv","timestamp":{0},"batchId":0}}\n'.format,
            range(FILES),
        )
    )
    (past / "0.0.604800000").write_text(f"v1\n{lines}".rstrip("\n"))
    assert checkpoints.find(checkpoint, f"/in/{FILES - 7}.csv").batch == 0


# --- bad rows

FORMATS = ("csv", "json", "orc", "parquet")
ODD = "2 é%, as it is.csv"


@pytest.fixture(scope="module")
def set_aside(spark, tmp_path_factory):
    """Three files with 2, 1 and no bad lines, each a batch; what queries wrote of them."""
    folder = tmp_path_factory.mktemp("aside")
    files = {
        "1.csv": "tea,x\nink,y\ntea,1\n",
        ODD: 'tea,"z, of 2"\n',
        "3.csv": "ink,3\n",
    }
    feeds.drip([*files.items()], folder / "in")
    lines = sources.text(spark, folder / "in", max_files_per_trigger=1)
    bad = quarantine.bad_rows(quarantine.parse_csv(lines, "product STRING, n INT"))
    # CSV cannot hold the column with the exact bytes of a line.
    of_csv = sinks.batch_files(folder / "csv", format="csv").taking(
        lambda rows: rows.drop("_bytes")
    )
    others = [
        sinks.batch_files(folder / each, format=each)
        for each in FORMATS
        if each != "csv"
    ]
    finish(bad, sinks.fan_out(of_csv, *others), folder / "ckpt")
    finish(bad, sinks.files(folder / "files", format="json"), folder / "of_files")
    return folder


@pytest.mark.fast("json")
@pytest.mark.parametrize("kind", FORMATS)
def test_the_bad_rows_of_a_file_are_counted_with_their_batch(set_aside, kind):
    def bad(name):
        return checkpoints.find(
            set_aside / "ckpt", str(set_aside / "in" / name), bad=set_aside / kind
        )

    assert bad("1.csv").bad == {f"{set_aside}/{kind}/batch=000000": 2}
    assert bad(ODD).bad == {f"{set_aside}/{kind}/batch=000001": 1}
    assert bad("3.csv").bad == {f"{set_aside}/{kind}": 0}
    assert str(bad("1.csv")).endswith(
        f"\n  2 bad rows in {set_aside}/{kind}/batch=000000"
    )
    assert str(bad("gone.csv")).endswith(
        f"no such file\n  0 bad rows in {set_aside}/{kind}"
    )


def test_of_sparks_file_sink_the_files_in_its_log_count(set_aside):
    parts = (set_aside / "files").glob("part-*.json")
    part = next(each for each in parts if "1.csv" in each.read_text("utf-8"))
    (set_aside / "files" / "part-of-a-driver-that-was-killed.json").write_bytes(
        part.read_bytes()
    )
    file = str(set_aside / "in" / "1.csv")
    assert checkpoints.find(
        set_aside / "of_files", file, bad=set_aside / "files"
    ).bad == {str(set_aside / "files"): 2}


def test_a_record_is_found_among_bad_rows(tmp_path, checkpoint):
    rows = [{"_file": f"kafka:orders/0/{offset}"} for offset in (17, 170, 17)]
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "1.json").write_text(
        "".join(f"{json.dumps(row)}\n" for row in [*rows, {"_file": None}])
    )
    assert checkpoints.find(checkpoint, "orders:0:17", bad=bad).bad == {str(bad): 2}


def test_the_command_counts_bad_rows(set_aside, capsys, monkeypatch):
    monkeypatch.chdir(set_aside)
    assert main(["checkpoint", "find", "ckpt", "in/1.csv", "--bad", "json"]) == 0
    assert capsys.readouterr().out.endswith("\n  2 bad rows in json/batch=000000\n")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("rows.json", b'{"a": 1}\n', "'_file'"),
        ("rows.json.gz", b"", "format 'gz' is not supported"),
        ("rows.csv", b"\xff", "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_what_is_no_bad_row_is_refused(name, content, why, checkpoint, tmp_path):
    (tmp_path / name).write_bytes(content)
    said = refusal(checkpoints.find, checkpoint, "x", bad=tmp_path)
    assert said.startswith(f"{tmp_path}/{name} cannot be read ({why}")
    assert (
        "; bad rows have a column _file, in JSON or CSV, or in Parquet or ORC (pip inst"
        in said
    )


def test_rows_of_parquet_without_the_column_are_refused(
    set_aside, checkpoint, spark, tmp_path
):
    spark.range(1).write.parquet(str(tmp_path / "rows"))
    assert "cannot be read (No match for FieldRef.Name(_file)" in refusal(
        checkpoints.find, checkpoint, "x", bad=tmp_path / "rows"
    )


def test_what_is_missing_is_said(set_aside, checkpoint, tmp_path, monkeypatch):
    said = refusal(checkpoints.find, checkpoint, "x", bad=tmp_path / "none")
    assert (
        said
        == f"no folder {tmp_path}/none; give the one that the bad rows are written to"
    )
    monkeypatch.setitem(sys.modules, "pyarrow.dataset", None)
    assert checkpoints.find(checkpoint, "x", bad=set_aside / "json").bad == {
        str(set_aside / "json"): 0
    }
    assert "(pip install pyarrow)" in refusal(
        checkpoints.find, checkpoint, "x", bad=set_aside / "orc"
    )
