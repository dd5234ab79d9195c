"""`start(…, dry_run=True)` and `--dry-run`: all checks are made, nothing starts or stays."""

import re
import sqlite3
from importlib import import_module
from typing import Any

import pytest
from conftest import JOBS, refusal
from pyspark.sql import functions as F
from support.checkpoint_queries import contents

from sparkstream_kit import feeds, models, run, sinks, sources, start
from sparkstream_kit.cli.projects import LIKE
from sparkstream_kit.connectors._packages import missing
from sparkstream_kit.errors import DryRun


@pytest.fixture
def lines(spark, folder):
    """A stream of three lines: one file."""
    (folder / "a.txt").write_text("tea\nink\ntea\n")
    return sources.text(spark, str(folder))


@pytest.mark.connect
def test_it_says_what_would_run_and_run_ends_with_it(lines, folder, tmp_path):
    counts, before = lines.groupBy("value").count(), contents(tmp_path)
    how: Any = {
        "name": "counts",
        "mode": "complete",
        "checkpoint": tmp_path / "ckpt",
        "dry_run": True,
    }
    planned = start(
        counts, sinks.snapshot(tmp_path / "t.csv"), processingTime="5 seconds", **how
    )
    said = f"""query counts
  mode       complete
  sink       snapshot to file {tmp_path}/t.csv: the last batch's result, whole
  checkpoint {tmp_path}/ckpt (new)
  input      files of {folder}
  trigger    processingTime=5 seconds"""
    assert str(planned) == said
    with pytest.raises(DryRun) as end:
        run(planned, run_for=5)
    assert (
        str(end.value)
        == f"a dry run: all checks have passed, and nothing is started\n{said}"
    )
    assert end.value.exit_code == 0
    assert lines.sparkSession.streams.active == []
    assert contents(tmp_path) == before


@pytest.mark.connect
def test_it_goes_on_where_the_checkpoint_stands_and_leaves_it_as_it_is(lines, tmp_path):
    sink = sinks.batch_files(tmp_path / "out")
    how: Any = {"name": "lines", "checkpoint": tmp_path / "ckpt", "availableNow": True}
    run(start(lines, sink, **how))
    before = contents(tmp_path)
    planned = start(lines, sink, dry_run=True, **how)
    assert f"checkpoint {tmp_path}/ckpt (resumes after batch 0)" in str(planned)
    assert "trigger    availableNow=True" in str(planned)
    assert contents(tmp_path) == before
    run(start(lines, sink, **how))  # the lock is free


def test_a_file_that_has_moved_is_found_and_no_log_is_rewritten(
    spark, lines, folder, tmp_path
):
    how: Any = {"name": "lines", "checkpoint": tmp_path / "ckpt"}
    run(start(lines, sinks.batch_files(tmp_path / "out"), availableNow=True, **how))
    moved, before = folder.rename(tmp_path / "moved"), contents(tmp_path)
    again = sources.text(spark, str(moved))
    planned = start(
        again,
        sinks.batch_files(tmp_path / "out"),
        moved={folder: moved},
        dry_run=True,
        **how,
    )
    assert (
        f"  change     the files that source 0 has read are named under {moved}\n"
        in str(planned)
    )
    assert contents(tmp_path) == before


def targets(folder):
    return {
        "batch_files": sinks.batch_files(folder / "new/rows"),
        "delta": sinks.delta(folder / "table", writer="delta-rs", how="replace"),
        "iceberg": sinks.iceberg("shop.t", catalog=folder / "lake", how="replace"),
        "latest": sinks.latest("only_planned"),
        "sql_table": sinks.sql_table(f"sqlite:///{folder}/t.db", "rows", how="replace"),
    }


@pytest.mark.connect
@pytest.mark.parametrize(
    "kind", ["batch_files", "delta", "iceberg", "latest", "sql_table"]
)
def test_a_sink_makes_nothing(kind, lines, tmp_path):
    before = contents(tmp_path)
    counts, sink = lines.groupBy("value").count(), targets(tmp_path)[kind]
    how: Any = {"name": "counts", "mode": "complete"}
    start(counts, sink, checkpoint=tmp_path / "a/b/ckpt", dry_run=True, **how)
    assert contents(tmp_path) == before
    assert not lines.sparkSession.catalog.tableExists("only_planned")


def test_each_sink_says_where_its_rows_would_go(lines, tmp_path):
    for sink, where in (
        (sinks.files(tmp_path / "out"), f"folder {tmp_path}/out"),
        (
            sinks.table("only_planned", path=str(tmp_path / "rows")),
            "table only_planned",
        ),
        (sinks.batch_files(tmp_path / "new"), f"folder {tmp_path}/new"),
        (sinks.snapshot(tmp_path / "all.csv"), f"file {tmp_path}/all.csv"),
        (sinks.memory("kept"), "memory kept"),
    ):
        how: Any = {
            "name": sink.query_name or "q",
            "mode": sink.modes[0],
            "dry_run": True,
        }
        frame = lines.groupBy("value").count() if sink.modes == ("complete",) else lines
        needed: Any = {"checkpoint": tmp_path / "ckpt"} if sink.needs_checkpoint else {}
        assert where in str(start(frame, sink, **how, **needed))


def test_a_database_with_tables_stays_as_it_is(lines, tmp_path):
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute("CREATE TABLE others (n INT)")
    before = contents(tmp_path)
    sink = sinks.sql_table(f"sqlite:///{tmp_path}/t.db", "rows", how="append")
    start(lines, sink, name="rows", checkpoint=tmp_path / "ckpt", dry_run=True)
    assert contents(tmp_path) == before


def refused(lines, folder):
    """Return arguments that `start` refuses, each for another reason."""
    with sqlite3.connect(folder / "t.db") as database:
        database.execute("CREATE TABLE rows (value TEXT)")
        database.execute("INSERT INTO rows VALUES ('of somebody')")
    (folder / "mine").mkdir()
    (folder / "mine/file").write_text("of somebody")
    (folder / "file").write_text("no folder")
    rows = sinks.batch_files(folder / "rows")
    return {
        "mode": {"sink": sinks.latest("t"), "mode": "append"},
        "no checkpoint": {"sink": rows, "checkpoint": None},
        "table": {"sink": sinks.sql_table(f"sqlite:///{folder}/t.db", "rows")},
        "folder": {"sink": sinks.batch_files(folder / "mine")},
        "checkpoint": {"sink": rows, "checkpoint": folder / "file/ckpt"},
        "another query": {
            "sink": rows,
            "frame": lines.groupBy("value").count(),
            "mode": "update",
        },
        "trigger": {"sink": rows, "processingTime": "-1 second"},
        "no stream": {"sink": rows, "frame": lines.sparkSession.range(1)},
        "by Spark": {"sink": rows, "frame": lines.groupBy("value").count()},
    }


WHAT = [
    "mode",
    "no checkpoint",
    "table",
    "folder",
    "checkpoint",
    "another query",
    "trigger",
    "no stream",
]


@pytest.mark.parametrize("what", [*WHAT, "by Spark"])
def test_it_refuses_what_a_start_refuses(what, lines, tmp_path):
    distinct = lines.groupBy("value").agg(F.max("value").alias("last"))
    how: Any = {"name": "q", "checkpoint": tmp_path / "ckpt"}
    if what == "another query":
        run(start(distinct, sinks.console(), mode="update", availableNow=True, **how))
    given: Any = {"frame": lines} | how | refused(lines, tmp_path)[what]
    before, said = contents(tmp_path), refusal(start, **given, dry_run=True)
    assert contents(tmp_path) == before
    assert said == refusal(start, **given)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_checkpoint_in_use_is_refused_in_the_same_words(lines, tmp_path, *, dry_run):
    running = start(lines, sinks.console(), name="first", checkpoint=tmp_path)
    assert (
        refusal(
            start,
            lines,
            sinks.console(),
            name="second",
            checkpoint=tmp_path,
            dry_run=dry_run,
        )
        == f"checkpoint {tmp_path} is in use by query first of this process; end it"
        " first, or give this query a checkpoint of its own"
    )
    assert running.isActive
    running.stop()


def test_other_inputs_are_named_without_their_passwords(spark, free_port):
    rate = spark.readStream.format("rate").load().selectExpr("string(value) AS value")
    both = sources.socket_lines(spark, "localhost", free_port).union(rate).union(rate)
    planned = str(start(both, sinks.console(), name="both", dry_run=True))
    assert f"  input      socket localhost:{free_port}\n  input      rate\n" in planned
    assert "checkpoint a temporary one, removed at the end" in planned


# --- the jobs

GIVEN: dict[str, str] = {
    "action_rows": "IN OUT",
    "action_windows": "IN OUT --drain --available-now",
    "ad_join": "IN OUT --trigger 5_seconds",
    "card_alerts": "IN OUT",
    "events_to_postgres": "IN --database sqlite:///TMP/e.db --checkpoint TMP/ckpt",
    "hashtag_trends": "IN --database sqlite:///TMP/e.db --checkpoint TMP/ckpt",
    "kafka_orders": (
        "OUT --kafka localhost:9 --topic a --registry http://localhost:9 --to b"
    ),
    "kafka_word_count": "--kafka localhost:9 --topic lines",
    "log_errors": "IN OUT",
    "sales_clean": "IN OUT",
    "sales_totals": "IN --snapshot TMP/t.csv --database sqlite:///TMP/t.db",
    "score_posts": "IN MODEL OUT",
    "sensor_alerts": "IN OUT --idle 5",
    "socket_wordcount": "localhost 9",
}
ELSEWHERE = {
    "kafka_orders",
    "kafka_word_count",
    "socket_wordcount",
}  # whose input is no folder
QUERIES = {
    "action_windows": ["action_counts"],
    "ad_join": ["ad_join_views", "ad_join_bad"],
    "events_to_postgres": ["events"],
    "log_errors": ["log_bad", "log_errors"],
    "sensor_alerts": ["alerts", "bad_readings"],
}


def arguments(name, folder, tmp_path):
    places = {
        "IN": folder,
        "OUT": tmp_path / "out",
        "MODEL": tmp_path / "model",
        "TMP": tmp_path,
    }
    words = GIVEN[name].split()
    for place, path in places.items():
        words = [
            str(path) if word == place else word.replace(f"{place}/", f"{path}/")
            for word in words
        ]
    return [word.replace("5_s", "5 s") for word in words]


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_each_job_says_what_would_run_and_leaves_nothing(
    name, spark, folder, tmp_path, capsys
):
    if name == "score_posts":
        posts = spark.createDataFrame(
            [tuple(row.values()) for row in feeds.messages_rows(50, seed=1)],
            "id STRING, time STRING, label STRING, text STRING",
        )
        models.publish(
            import_module("train_posts").train(posts, "sklearn"), tmp_path / "model"
        )
    main, before = import_module(name).main, contents(tmp_path)
    code = main([*arguments(name, folder, tmp_path), "--dry-run"])
    out, err = capsys.readouterr()
    assert contents(tmp_path) == before
    # The session of the tests has no connector: as in a run
    if name.startswith("kafka"):
        assert (code, out) == (2, "")
        assert err.strip().endswith(missing("kafka"))
        return
    assert (code, err) == (0, "")
    said = [
        line.removeprefix("query ")
        for line in out.splitlines()
        if line.startswith("query ")
    ]
    assert said == QUERIES.get(name, [name])
    assert out.startswith("a dry run: all checks have passed, and nothing is started\n")
    assert spark.streams.active == []


def test_a_refused_input_ends_a_dry_run_as_it_ends_a_run(
    spark, folder, tmp_path, capsys
):
    (tmp_path / "out/good").mkdir(parents=True)
    (tmp_path / "out/good/file").write_text("of somebody")

    def end(flag):
        code: int = import_module("sales_clean").main(
            [str(folder), f"{tmp_path}/out", flag]
        )
        return code, *capsys.readouterr()

    code, out, err = end("--dry-run")
    assert (code, out) == (2, "")
    assert "has rows that no query of the kit has written" in err
    assert end("--available-now") == (code, out, err)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted({*GIVEN} & {*LIKE} - {"action_windows", "score_posts", *ELSEWHERE})
)
def test_each_job_is_equal_to_what_it_has_written(name, folder, tmp_path, capsys):
    known, main = LIKE[name], import_module(name).main
    for number, (_, text) in enumerate(
        feeds.line_files(known.lines(200, 1), rows=50, name="{}")
    ):
        (folder / known.file.replace(".", f"-{number}.")).write_text(text)
    words = arguments(name, folder, tmp_path)
    if not {"OUT", "--checkpoint"} & {*GIVEN[name].split()}:
        words += ["--checkpoint", f"{tmp_path}/ckpt"]
    words = [word for word in words if word not in ("--trigger", "5 seconds")]
    assert (
        main(
            [
                *words,
                "--available-now",
                *(["--drain"] if "--drain" in known.run else []),
            ]
        )
        == 0
    )
    before, _ = contents(tmp_path), capsys.readouterr()
    code, said = main([*words, "--shadow"]), capsys.readouterr().out
    assert (code, contents(tmp_path)) == (0, before), said
    # 200 payments without an alert
    some = r"\d+" if name == "card_alerts" else r"[1-9]\d*"
    assert re.search(rf" {some} equal, 0 differ, 0 only new, 0 only old", said), said
