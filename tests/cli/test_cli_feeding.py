"""The commands that land a generator's files and write their truth, and those that replay a file."""

import json
import signal
import subprocess
import sys
from typing import Any

import pytest
import typer
from conftest import HANGS, ROOT, process, running

from sparkstream_kit import feeds
from sparkstream_kit.cli import feeding, main
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.feeds.datasets import DATASETS, Dataset

REPLAY = [sys.executable, "-m", "sparkstream_kit", "feed", "replay"]


def ticks(count, *, seed):
    """Make ticks."""
    return [{"time": 60 * n, "n": n + seed} for n in range(count)]


def total(rows):
    return {"sum": sum(row["n"] for row in rows)}


def command(*args, **more):
    """Run the command of a generator as `sparkstream feed ticks …` would."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    dataset = Dataset("ticks.json", ticks, total, **more)
    app.command()(feeding._generator(dataset))  # noqa: SLF001
    typer.main.get_command(app)(list(map(str, args)), standalone_mode=False)


def landed(folder):
    """Return the rows of the files that Spark reads; a bad line stays a text."""
    rows: list[Any] = []
    for path in sorted(folder.glob("[!_.]*")):
        lines = path.read_text("utf-8").splitlines()
        rows += [line if line.startswith("not a row") else json.loads(line) for line in lines]
    return rows


def names(folder):
    return sorted(path.name for path in folder.iterdir())


SHARES = ("--late", 0.1, "--duplicates", 0.1, "--bad", 0.05, "--ahead", 0.05)


def test_the_truth_is_of_what_the_files_hold(tmp_path):
    folder, kept = tmp_path / "in", tmp_path / "truth.json"
    command(folder, "--files", 6, "--rows", 50, "--every", 0, "--seed", 3, "--truth", kept, *SHARES)
    assert names(folder) == [f"ticks-3-000{n}.json" for n in range(1, 7)]
    rows, truth = landed(folder), json.loads(kept.read_text("utf-8"))
    assert len(rows) == 300
    assert [row for row in rows if isinstance(row, str)] == truth["bad"] != []
    assert [row for row in rows if not isinstance(row, str) and row["time"] > 4e9] == truth["ahead"] != []
    for row in truth["late"] + truth["duplicates"] + truth["bad"] + truth["ahead"]:
        rows.remove(row)
    assert truth["late"]
    assert (truth["counted"], truth["truth"]) == (len(rows), total(rows))


CODE = """
import sys
sys.path.insert(0, {tests!r})
from cli.test_cli_feeding import command
command(*sys.argv[1:])
"""


@pytest.mark.parametrize(("number", "every"), [(signal.SIGINT, "0.01"), (signal.SIGTERM, "3600")])
def test_a_signal_ends_the_feed_with_the_truth_of_what_landed(tmp_path, number, every):
    folder = tmp_path / "in"
    code = CODE.format(tests=str(ROOT / "tests"))
    kept = tmp_path / "truth.json"
    args = [folder, "--files", 1000, "--rows", 20, "--every", every, "--bad", 0.1, "--truth", kept]
    with running(sys.executable, "-c", code, *args, stderr=subprocess.PIPE) as feed:
        assert feed.stderr
        assert feed.stderr.readline() == f"sparkstream: landed {folder / 'ticks-0-0001.json'}\n"
        feed.send_signal(number)
        rest = feed.communicate(timeout=HANGS)[1]
    assert feed.returncode == 0, rest
    truth = json.loads(kept.read_text("utf-8"))
    rows = [row for row in landed(folder) if not isinstance(row, str)]
    assert (truth["counted"], truth["truth"]) == (len(rows), total(rows))
    assert 0 < len(rows) < 20_000


def test_a_command_has_the_shares_that_make_sense_for_its_data(tmp_path, capsys):
    with pytest.raises(Exception, match="No such option: --late"):
        command(tmp_path / "in", "--late", 0.1, shares=("bad",))
    command("--help", shares=("bad", "ahead"))
    text = capsys.readouterr().out
    assert "--bad SHARE" in text
    assert "--duplicates" not in text
    assert "--delay" not in text  # nothing that it does would depend on it
    command("--help", delay="3 hours")
    assert "[default: 3 hours]" in " ".join(capsys.readouterr().out.split())
    kept = tmp_path / "truth.json"
    options = ("--files", 1, "--every", 0, "--truth", kept)
    command(tmp_path / "in", *options, shares=("bad",), line=feeds.csv_line)
    assert {*json.loads(kept.read_text())} == {"truth", "counted", "bad"}
    assert (tmp_path / "in/ticks-0-0001.json").read_text().startswith("0,0\n60,1\n")


def test_what_cannot_be_is_refused_before_the_first_file(tmp_path):
    (tmp_path / "old.json").write_text("{}\n")
    with pytest.raises(InvalidInputError, match=r"--truth .*truth\.json would be read as input in "):
        command(tmp_path, "--files", 1, "--truth", tmp_path / "truth.json")
    with pytest.raises(InvalidInputError, match=r"cannot use .*old\.json \(File exists\)"):
        command(tmp_path / "old.json", "--files", 1)
    with pytest.raises(InvalidInputError, match="no row can be late"):
        command(tmp_path / "in", "--files", 1, "--late", 1)
    with pytest.raises(Exception, match="less than or equal to 1|in the range"):
        command(tmp_path / "in", "--late", 2)
    assert names(tmp_path) == ["old.json"]


@pytest.mark.parametrize("name", DATASETS)
def test_each_feed_lands_its_rows_and_their_truth(name, tmp_path):
    dataset, folder, kept = DATASETS[name], tmp_path / "in", tmp_path / "truth.json"
    flags = ["--files", "2", "--rows", "600", "--every", "0", "--truth", str(kept)]
    assert main(["feed", name, str(folder), *flags]) == 0
    rows = list(dataset.rows(1200, seed=0))
    lines = [line for path in sorted(folder.iterdir()) for line in path.read_text("utf-8").splitlines()]
    assert lines == [dataset.line(row) for row in rows]
    told = json.loads(kept.read_text("utf-8"))
    assert (told["truth"], told["counted"]) == (
        json.loads(json.dumps(dataset.truth(rows), default=str)),
        1200,
    )
    assert told["truth"]


@pytest.mark.parametrize("name", DATASETS)
def test_the_truth_of_each_feed_is_of_what_counts(name, tmp_path):
    dataset, folder, kept = DATASETS[name], tmp_path / "in", tmp_path / "truth.json"
    shares = [word for share in dataset.shares for word in (f"--{share}", "0.05")]
    delay = ["--delay", "2 minutes"] if "late" in dataset.shares else []
    flags = ["--files", "4", "--rows", "100", "--every", "0", "--truth", str(kept), *delay, *shares]
    assert main(["feed", name, str(folder), *flags]) == 0
    told = json.loads(kept.read_text("utf-8"))
    assert all(told[share] for share in dataset.shares)
    counts = {share: len(told[share]) for share in dataset.shares}
    if dataset.keeps_late:  # its job counts late rows, too
        assert sum(events for _, events, _ in told["truth"]) == told["counted"]
        del counts["late"]
    assert told["counted"] + sum(counts.values()) == 400


@pytest.mark.parametrize(
    "url", [["https://host/stream"], ["host/stream", "spool"], ["--stall", "9", "http://host"]]
)
def test_posts_with_a_url_have_flags_of_their_own(url, capsys):
    assert main(["feed", "posts", "folder", "--help"]) == 0
    generated = capsys.readouterr().out
    assert main(["feed", "posts", *url, "--help"]) == 0
    fed = capsys.readouterr().out
    for flag, of_generated in (("--files N", True), ("--late SHARE", True), ("--stall SECONDS", False)):
        assert (flag in generated, flag in fed) == (of_generated, not of_generated)
    assert "--every SECONDS" in generated
    assert "--every SECONDS" in fed


# --- feed replay


def test_replay_lands_the_rows_of_a_file(tmp_path):
    file, folder = tmp_path / "trips.csv", tmp_path / "in"
    file.write_text("id,time\n1,0\n2,\n3,86400\n4,50\n")
    done = process([*REPLAY, file, folder, "--time", "time", "--speed", "864000", "--every", "0.05"])
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [f"sparkstream: landed {folder}/trips-000{n}.csv" for n in (1, 2)]
    assert [path.read_text() for path in sorted(folder.iterdir())] == [
        "id,time\n1,0\n2,\n",
        "id,time\n3,86400\n4,50\n",
    ]


def test_a_signal_ends_replay(tmp_path):
    file, folder = tmp_path / "trips.csv", tmp_path / "in"
    file.write_text("time\n0\n36000\n")
    words = (*REPLAY, file, folder, "--time", "time", "--every", "0.1")
    with running(*words, stderr=subprocess.PIPE) as feed:
        assert feed.stderr
        assert feed.stderr.readline() == f"sparkstream: landed {folder}/trips-0001.csv\n"
        feed.send_signal(signal.SIGINT)
        assert feed.communicate(timeout=HANGS)[1] == ""
    assert feed.returncode == 0
    assert [path.name for path in folder.iterdir()] == ["trips-0001.csv"]


def test_replay_refuses_a_wrong_column_in_a_line(tmp_path, capsys):
    file = tmp_path / "trips.csv"
    file.write_text("id,time\n1,0\n")
    assert main(["feed", "replay", str(file), str(tmp_path / "in"), "--time", "tme"]) == 2
    assert capsys.readouterr().err == f"sparkstream: {file} has no column 'tme'; did you mean time?\n"
    assert main(["feed", "replay", str(file), str(tmp_path / "in")]) == 2
    assert capsys.readouterr().err == "sparkstream: Missing option '--time'; see --help\n"
