"""What holds for the lines of all jobs: each is in the result or aside, and none fails the job."""

import re
import sqlite3
from collections import Counter
from importlib import import_module
from typing import Any

import pytest
from conftest import ROOT, in_this_session

from sparkstream_kit import feeds
from sparkstream_kit.errors import KitError

ONE_FILE = ("--available-now", "--max-files-per-trigger", "1")


def refuses_bad_lines(name, bad, lines, *args):
    """Run a job that takes no bad line, and see that it counts each line once.

    It may have several queries.
    """
    with pytest.raises(KitError, match=f"^bad lines: {bad} of {lines} "):
        in_this_session(import_module(name), *args, *ONE_FILE, "--max-bad", "0%")


FED: dict[str, tuple[Any, str, Any]] = {
    "action_rows": (feeds.actions_rows, "time", feeds.json_line),
    "ad_join": (feeds.ads_rows, "event_time", feeds.json_line),
    "events_to_postgres": (feeds.events_rows, "time", feeds.csv_line),
    "log_errors": (feeds.log_rows, "time", feeds.log_line),
    "sensor_alerts": (feeds.sensors_rows, "time", feeds.json_line),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FED)
def test_what_is_bad_or_far_ahead_is_aside_and_every_query_counts_it(
    name, spark, folder, tmp_path, capsys
):
    rows, time, written = FED[name]
    made = feeds.disturb(
        rows(240, seed=3), time=time, bad=0.05, ahead=0.05, rows_per_file=80, seed=4
    )
    assert min(len(made.bad), len(made.ahead)) > 3
    feeds.drip(
        feeds.line_files(map(written, made.arriving), rows=80, name="lines-{}"), folder
    )
    aside = Counter([*made.bad, *map(written, made.ahead)])
    out, database = tmp_path / "out", tmp_path / "events.db"
    if name == "events_to_postgres":
        to = ("--database", f"sqlite:///{database}", "--checkpoint", tmp_path / "ckpt")
        refuses_bad_lines(name, aside.total(), len(made.arriving), folder, *to)
        with sqlite3.connect(database) as connection:
            found = [
                raw for (raw,) in connection.execute("SELECT _raw FROM events_bad")
            ]
    else:
        refuses_bad_lines(name, aside.total(), len(made.arriving), folder, out)
        found = [row["_raw"] for row in spark.read.parquet(str(out / "bad")).collect()]
    assert Counter(found) == aside
    counted = re.findall(r"([\d,]+) bad rows", capsys.readouterr().err)
    assert {int(each.replace(",", "")) for each in counted} - {0} == {aside.total()}


PAID = "4000,2024-06-01T00:0{}:00Z,m,c,5.00,{},{}"
LOG = 'h - - [01/Jan/2024:00:00:{:02} +0000] "GET / HTTP/1.0" 200 {}'
READ = '{{"device": "d", "time": "2024-01-01T00:{:02}:00Z", "temperature": {}}}'
POST = '{{"id": "{0}", "created_at": "2024-01-01T00:00:00Z", "text": {1}, "tags": {2}}}'
LEAST, MOST = -(2**63), 2**63 - 1
ODD: dict[str, list[str]] = {
    "action_rows": [
        f'{{"time": {time}, "action": ""}}'
        for time in (LEAST, LEAST // 10**6, -(10**11), 0, MOST)
    ],
    "ad_join": [
        f'{{"ad_id": "", "event_type": "{kind}", "event_time":'
        f' "{year}-01-01T00:00:00Z"}}'
        for year in ("0001", "9999")
        for kind in ("view", "click", "")
    ],
    "card_alerts": [
        PAID.format(0, lat, lon)
        for number in ("inf", "-inf", "nan", "1e308", "90.1", "-0.0")
        for lat, lon in ((number, 0), (0, number), (number, number))
    ],
    "hashtag_trends": [
        POST.format(number, text, tags)
        for number, text in enumerate(['""', "null", '"#a"'])
        for tags in ("null", "[]", "[null]", '[{"name": null}, {"name": ""}]')
    ],
    "log_errors": [LOG.format(second, "9" * 18) for second in range(30)],
    "sensor_alerts": [
        READ.format(minute, value)
        for minute, value in enumerate(
            ["1e308", "-1e308", "1.7976931348623157e308", "null", "0"] * 8
        )
    ],
}
RUNS = [*((name, ()) for name in ODD), ("log_errors", ("--report", "sessions"))]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flags"), RUNS)
def test_no_line_fails_a_job_whatever_its_values_are(
    name, flags, spark, folder, tmp_path
):
    (folder / "odd").write_text("\n".join(ODD[name]))
    to = () if name == "hashtag_trends" else (tmp_path / "out",)
    drained = () if name == "action_rows" else ("--drain",)
    in_this_session(
        import_module(name), folder, *to, *flags, "--available-now", *drained
    )
    if name == "action_rows":
        rows, counts = tmp_path / "out" / "rows", tmp_path / "counts"
        in_this_session(
            import_module("action_windows"), rows, counts, "--available-now", "--drain"
        )


WRONG: dict[str, list[tuple[list[str], str]]] = {
    "action_rows": [
        (["."], "the following arguments are required: OUT_DIR"),
        (
            ["in/*", "in", "--checkpoint", "c"],
            "OUT_DIR/rows in/rows lies in the input folder in/*",
        ),
    ],
    "action_windows": [
        (["in", "out", "--mode", "apend"], "argument --mode: invalid choice: 'apend'"),
        (
            ["in", "out", "--drain"],
            "--drain does nothing without --available-now; give both, or neither",
        ),
    ],
    "ad_join": [(["in", "in"], "OUT_DIR in is the input folder in")],
    "card_alerts": [(["in", "in/out"], "OUT_DIR in/out lies in the input folder in")],
    "dstream_wordcount": [
        (
            ["--batch-interval", "3"],
            "--window 20 is not a multiple of --batch-interval 3; use 18 or 21",
        ),
        (
            ["--slide", "5"],
            "--slide 5 is not a multiple of the default --batch-interval 2; use 4 or 6",
        ),
        (
            ["localhost", "70000"],
            "argument PORT: '70000' is not a whole number from 1 to 65535",
        ),
    ],
    "events_to_postgres": [
        (["in"], "the following arguments are required: --database, --checkpoint"),
        (
            ["in", "--checkpoint", "c", "--database", "sqlite:///in/x.db"],
            "would be read; put it elsewhere",
        ),
    ],
    "log_errors": [
        (
            ["in", "out", "--report", "error"],
            "argument --report: invalid choice: 'error'",
        )
    ],
    "sales_clean": [
        (["in/good", "in"], "OUT_DIR/good in/good is the input folder in/good"),
        (
            ["in", "s3a://bucket/out"],
            "only a local path and hdfs:// have a rename that is atomic",
        ),
    ],
    "sales_totals": [
        (["--profile", "lokal", "."], "unknown profile lokal; did you mean local?"),
        (
            [".", "--max-bad", "1"],
            "argument --max-bad: '1' is not a percentage from 0% to 100%, such as 1%",
        ),
        (
            [".", "--max-bad", "101%"],
            "argument --max-bad: '101%' is not a percentage from 0% to 100%",
        ),
        (
            [".", "--snapshot", "../t.xml"],
            "snapshot ../t.xml: the name must end in .csv or .json",
        ),
        (
            [".", "--snapshot", "totals.csv"],
            "--snapshot totals.csv lies in the input folder .",
        ),
        ([".", "--checkpoint", "."], "--checkpoint . is the input folder ."),
        ([".", "--max-files-per-trigger", "0"], "'0' is not a whole number from 1"),
        ([".", "--format", "xml"], "argument --format: invalid choice: 'xml'"),
        (
            [".", "--trigger", "5 parsecs"],
            "cannot read the interval '5 parsecs'; write it like",
        ),
        (
            [".", "--database", "env:"],
            "argument --database: the environment variable  is not set",
        ),
        (
            [".", "--database", "sqlite:///t.db"],
            "--database sqlite:///t.db lies in the input folder .",
        ),
        (
            ["in/*", "--checkpoint", "in/a/ckpt"],
            "--checkpoint in/a/ckpt lies in the input folder in/*",
        ),
        (
            ["file:/", "--snapshot", "/totals.csv"],
            "--snapshot /totals.csv lies in the input folder file:/",
        ),
        (
            [".", "--database", "hush@host/db"],
            "the database's URL cannot be read; write sqlite:///totals",
        ),
        (
            [".", "--database", "env:NOT_SET"],
            "the environment variable NOT_SET is not set; put the URL",
        ),
        (
            [".", "--database", "postgresql://h/d?password=hush"],
            "others can see a password on the command",
        ),
    ],
    "socket_wordcount": [
        (
            ["9999"],
            (
                "argument HOST: 9999 is a number, perhaps a port; give the host and"
                " then the port"
            ),
        ),
        (["--checkpoint", "c"], "unknown argument --checkpoint; see --help"),
    ],
}


@pytest.mark.fast("ad_join", "log_errors", "card_alerts")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_one_line(name, refused, tmp_path):
    (tmp_path / "home" / "in" / "good").mkdir(parents=True)
    refused(name, WRONG[name])


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))
)
def test_a_job_has_a_page_and_at_most_24_flags_in_their_groups(name, capsys):
    with pytest.raises(SystemExit):
        import_module(name).main(["--help"])
    flags = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    # DStreams have no progress to show; no stream
    without = {"dstream_wordcount", "train_posts"}
    assert ("--ui" in flags) == (name not in without)
    assert (1 if name == "train_posts" else 5) < len(flags) <= 24
