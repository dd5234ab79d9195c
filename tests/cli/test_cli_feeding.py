"""The commands that land generated files and their truth, and those that replay a file."""

import json
import re
import signal
import subprocess
import sys

import pytest
from conftest import HANGS, process, running

from sparkstream_kit.cli import main
from sparkstream_kit.feeds.datasets import DATASETS

REPLAY = [sys.executable, "-m", "sparkstream_kit", "feed", "replay"]


def test_a_command_has_the_shares_that_make_sense_for_its_data(tmp_path, capsys):
    def said(*words, code=0):
        assert main(["feed", *map(str, words)]) == code
        return " ".join("".join(capsys.readouterr()).split())

    assert "No such option: --late" in said(
        "messages", tmp_path / "in", "--late", 0.1, code=2
    )
    text = said("logs", "--help")
    assert "--bad SHARE" in text
    # Nothing that it does would depend on a delay
    assert not re.search("--duplicates|--delay", text)
    assert "[default: 2 minutes]" in said("sensors", "--help")
    kept = tmp_path / "truth.json"
    said("messages", tmp_path / "in", "--files", 1, "--every", 0, "--truth", kept)
    assert {*json.loads(kept.read_text())} == {"truth", "counted", "bad"}
    assert "no row can be late" in said(
        "actions", tmp_path / "no", "--files", 1, "--late", 1, code=2
    )
    line = said("actions", tmp_path / "no", "--late", 2, code=2)
    assert re.search("'--late': .*(less than or equal to 1|in the range)", line)
    assert not (tmp_path / "no").exists()


def landed(folder):
    return [
        line
        for path in sorted(folder.iterdir())
        for line in path.read_text("utf-8").splitlines()
    ]


@pytest.mark.parametrize("name", DATASETS)
def test_each_feed_lands_its_rows_and_the_truth_of_what_counts(name, tmp_path):
    dataset, folder, kept = DATASETS[name], tmp_path / "plain", tmp_path / "truth.json"
    flags = ["--files", "2", "--rows", "600", "--every", "0", "--truth", str(kept)]
    assert main(["feed", name, str(folder), *flags]) == 0
    rows, told = list(dataset.rows(1200, seed=0)), json.loads(kept.read_text("utf-8"))
    assert landed(folder) == [dataset.line(row) for row in rows]
    assert (
        told["truth"] == json.loads(json.dumps(dataset.truth(rows), default=str)) != []
    )
    assert told["counted"] == 1200

    folder = tmp_path / "disturbed"
    shares = [word for share in dataset.shares for word in (f"--{share}", "0.05")]
    delay = ["--delay", "2 minutes"] if "late" in dataset.shares else []
    flags = [
        "--files",
        "4",
        "--rows",
        "100",
        "--every",
        "0",
        "--truth",
        str(kept),
        *delay,
        *shares,
    ]
    assert main(["feed", name, str(folder), *flags]) == 0
    told = json.loads(kept.read_text("utf-8"))
    assert [line for line in landed(folder) if line.startswith("not a row")] == told[
        "bad"
    ]
    assert all(told[share] for share in dataset.shares)
    counts = {share: len(told[share]) for share in dataset.shares}
    if dataset.keeps_late:  # its job counts late rows, too
        assert sum(events for _, events, _ in told["truth"]) == told["counted"]
        del counts["late"]
    assert told["counted"] + sum(counts.values()) == 400


@pytest.mark.parametrize(
    "url",
    [
        ["https://host/stream"],
        ["host/stream", "spool"],
        ["--stall", "9", "http://host"],
    ],
)
def test_posts_with_a_url_have_flags_of_their_own(url, capsys):
    assert main(["feed", "posts", "folder", "--help"]) == 0
    generated = capsys.readouterr().out
    assert main(["feed", "posts", *url, "--help"]) == 0
    fed = capsys.readouterr().out
    for flag, of_generated in (("--late SHARE", True), ("--stall SECONDS", False)):
        assert (flag in generated, flag in fed) == (of_generated, not of_generated)


# --- feed replay


def test_replay_lands_the_rows_of_a_file_until_a_signal(tmp_path):
    file, folder = tmp_path / "trips.csv", tmp_path / "in"
    file.write_text("id,time\n1,0\n2,\n3,5\n")
    with running(
        *REPLAY, file, folder, "--rows", "2", "--every", "1000", stderr=subprocess.PIPE
    ) as feed:
        assert feed.stderr
        assert (
            feed.stderr.readline() == f"sparkstream: landed {folder}/trips-0001.csv\n"
        )
        feed.send_signal(signal.SIGINT)
        assert feed.communicate(timeout=HANGS)[1] == ""
    assert feed.returncode == 0
    done = process([*REPLAY, file, tmp_path / "all", "--rows", "2", "--every", "0"])
    assert (done.returncode, done.stdout) == (0, "")
    texts = [path.read_text() for path in sorted((tmp_path / "all").iterdir())]
    assert texts == ["id,time\n1,0\n2,\n", "id,time\n3,5\n"]
    assert [path.read_text() for path in folder.iterdir()] == texts[:1]
