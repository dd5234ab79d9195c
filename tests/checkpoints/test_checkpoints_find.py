"""`find`: the batch that read a file or a record, or why there is none; the checkpoint alone is read."""

import json
import os
from datetime import UTC, datetime, timedelta

from conftest import refusal
from support.sink_streams import finish, three_batches

from sparkstream_kit import checkpoints, sinks
from sparkstream_kit.cli import main

FILES = 100_000


def test_a_file_is_found_with_its_batch_and_its_commit(made, checkpoint):
    folder, _, _ = made
    found = checkpoints.find(checkpoint, str(folder / "3 é%.json"))
    assert (found.batch, found.committed, found.why) == (3, True, None)
    commit = (checkpoint / "commits" / "3").stat().st_mtime
    assert found.since == datetime.fromtimestamp(commit, UTC)
    assert str(found).startswith(f"{folder}/3 é%.json: batch 3, committed since 20")
    os.remove(checkpoint / "commits" / "5")  # noqa: PTH107 - one file
    found = checkpoints.find(checkpoint, str(folder / "5 é%.json"))
    assert (found.batch, found.committed, found.since) == (5, False, None)
    assert "not committed: a restart runs it again" in str(found)


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
    assert why("6.json", age=8 * 86_400).startswith("not read: it is more than 7 days older than the newest")
    assert why("6.json", age=6 * 86_400).startswith("not read: not seen yet, or left out by the source's")
    (tmp_path / "other").touch()
    elsewhere = checkpoints.find(checkpoint, str(tmp_path / "other"))
    assert elsewhere.why == f"not read: the query has read no file of {folder}"
    assert checkpoints.find(checkpoint, str(folder / "gone")).why == "not read, and there is no such file"


def test_a_file_whose_plan_is_not_kept_was_read_before(made, checkpoint):
    for batch in range(3):
        (checkpoint / "offsets" / str(batch)).unlink()
        (checkpoint / "commits" / str(batch)).unlink()
    for number, known in enumerate([None, None, None, None, 4, 5]):
        found = checkpoints.find(checkpoint, str(made[0] / f"{number} é%.json"))
        assert (found.batch, found.committed) == (known, True)
        assert known or found.why == (
            "read by batch 3 or an earlier one, of which no plan is kept; it is committed"
        )


def test_a_record_is_found_by_its_offset(tmp_path):
    for batch, end in enumerate([10, 10, 25]):
        text = "\n".join(["v1", '{"batchWatermarkMs":0}', json.dumps({"orders": {"0": end, "1": 5}})])
        for log, content in (("offsets", text), ("commits", 'v1\n{"nextBatchWatermarkMs":0}')):
            (tmp_path / log).mkdir(exist_ok=True)
            (tmp_path / log / str(batch)).write_text(content)
    (tmp_path / "sources" / "0").mkdir(parents=True)
    (tmp_path / "sources" / "0" / "0").write_bytes(b"\0v1\n" + b'{"orders":{"0":4,"1":5}}')
    (tmp_path / "commits" / "2").unlink()
    for offset, batch in ((4, 0), (9, 0), (10, 2), (24, 2)):
        found = checkpoints.find(tmp_path, f"orders:0:{offset}")
        assert (found.batch, found.committed) == (batch, batch == 0)
    whys = {
        "orders:0:25": "not read yet",
        "orders:0:3": "not read: the query began after it",
        "orders:1:4": "not read: the query began after it",
        "orders:2:0": "not read: the query has read nothing of partition 2 of topic orders",
        "clicks:0:0": "not read: the query has read nothing of partition 0 of topic clicks",
    }
    assert {what: checkpoints.find(tmp_path, what).why for what in whys} == whys


def test_a_time_finds_the_batch_that_was_committed_after_it(checkpoint):
    begin = datetime(2026, 1, 14, 9, tzinfo=UTC)
    for batch in range(6):
        at = (begin + timedelta(minutes=batch)).timestamp()
        os.utime(checkpoint / "commits" / str(batch), (at, at))
    assert checkpoints.find(checkpoint, "2026-01-14T09:01:30Z").batch == 2
    assert checkpoints.find(checkpoint, "2026-01-14T10:02:00+01:00").batch == 2
    assert checkpoints.find(checkpoint, "2026-01-14T09:06Z").why == "no batch was committed after it"
    assert "has no offset from UTC; give one, such as" in refusal(
        checkpoints.find, checkpoint, "2026-01-14T09:00"
    )


def test_the_targets_of_the_batch_are_named(spark, folder, tmp_path):
    sink = sinks.by_value("k", lambda k: sinks.batch_files(tmp_path / "out" / k))
    finish(three_batches(spark, folder), sink, tmp_path / "ckpt")
    found = checkpoints.find(tmp_path / "ckpt", str(folder / "3.csv"))
    assert found.targets == ("targets by k", "k b", "k c")
    assert "  written to k b\n" in str(found)


def test_the_command_prints_text_or_json_and_says_by_its_code_whether_it_was_read(made, checkpoint, capsys):
    file = str(made[0] / "2 é%.json")
    assert main(["checkpoint", "find", str(checkpoint), file, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["batch"], said["committed"], said["what"]) == (2, True, file)
    assert main(["checkpoint", "find", str(checkpoint), f"{file}.gone"]) == 1
    assert capsys.readouterr().out == f"{file}.gone: not read, and there is no such file\n"


def test_what_was_taken_out_of_a_long_log_is_found(made, checkpoint):
    past = checkpoint / "sparkstream-kit" / "trimmed" / "0"
    past.mkdir(parents=True)
    lines = "".join(
        f'{{"path":"file:///in/{number}.csv","timestamp":{number},"batchId":0}}\n' for number in range(FILES)
    )
    (past / "0.0.604800000").write_text(f"v1\n{lines}".rstrip("\n"))
    assert checkpoints.find(checkpoint, f"/in/{FILES - 7}.csv").batch == 0
