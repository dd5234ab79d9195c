"""A target that is gone after its query wrote to it: refused at the start, nothing made."""

import shutil
import sqlite3
import subprocess
from typing import Any

import pytest
from conftest import refusal
from support import sink_contract
from support.sink_contract import Adaptor, Stream
from support.sink_streams import finish, three_batches

from sparkstream_kit import feeds, sinks, sources, start

KINDS = {
    "sql_table": lambda folder: sinks.sql_table(f"sqlite:///{folder}/t.db", "t"),
    "delta": lambda folder: sinks.delta(folder / "t"),
    "iceberg": lambda folder: sinks.iceberg("shop.t", catalog=folder / "t"),
    "batch_files": lambda folder: sinks.batch_files(folder / "t"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused_before_anything_is_made(kind, spark, folder, tmp_path):
    stream, out, first = (
        three_batches(spark, folder),
        tmp_path / "out",
        tmp_path / "first",
    )
    out.mkdir()

    def sink():  # the other one is opened first, and must get nothing either
        return sinks.fan_out(sinks.batch_files(first), KINDS[kind](out))

    finish(stream, sink(), tmp_path / "ckpt")
    written = sorted(first.iterdir())
    shutil.rmtree(out)
    out.mkdir()
    feeds.drip([("9.csv", "d,10\n")], folder)
    for dry_run in (True, False):
        line = refusal(
            start,
            stream,
            sink(),
            name="q",
            checkpoint=tmp_path / "ckpt",
            availableNow=True,
            dry_run=dry_run,
        )
        assert "holds none of this query's batches: it was deleted" in line
        assert sorted(first.iterdir()) == written
        if kind == "sql_table" and (out / "t.db").exists():
            [tables] = sqlite3.connect(out / "t.db").execute(
                "SELECT count(*) FROM sqlite_master"
            )
            assert tables == (0,)
        elif kind != "iceberg":  # whose catalog is made where it is looked at
            assert [*out.iterdir()] == []


def made_anew(out):
    shutil.rmtree(out)
    out.mkdir()


def emptied(out):
    for file in out.glob("batch=*"):
        shutil.rmtree(file)


def emptied_by_hand(out):
    """As `rm -r out/*` does, which knows the owner's file, too."""
    for file in out.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()


LOSSES: dict[str, Any] = {
    "removed": shutil.rmtree,
    "made again": made_anew,
    "emptied": emptied,
    "all": emptied_by_hand,
}


@pytest.mark.fast("removed")
@pytest.mark.parametrize("how", LOSSES)
def test_a_folder_that_is_lost_while_its_query_runs_is_refused(how, spark, tmp_path):
    out = tmp_path / "out"

    def rows():
        return sorted(
            row.n
            for row in spark.read.schema("n INT").parquet(f"{out}/batch=*").collect()
        )

    stream = Stream(spark, tmp_path, Adaptor(sinks.batch_files(out), rows))
    sink_contract.a_target_made_again_under_a_running_query_is_refused(
        stream, lambda: LOSSES[how](out)
    )


@pytest.mark.slow
def test_rows_without_the_file_that_says_whose_they_are_are_refused_with_ways_that_work(
    spark, tmp_path
):
    """As a folder copied without its hidden files; earlier versions went on in such a one."""
    folder, out = tmp_path / "in", tmp_path / "my out"
    feeds.drip([("1.txt", "tea\n")], folder)
    rows = sources.text(spark, folder)
    finish(rows, sinks.batch_files(out), tmp_path / "ckpt")
    (out / "_sparkstream_query").unlink()
    feeds.drip([("2.txt", "ink\n")], folder)
    line = refusal(finish, rows, sinks.batch_files(out), tmp_path / "ckpt")
    assert (
        "has directories of batches, and no file _sparkstream_query, which says whose"
        " they are" in line
    )
    way = line.partition("and none is missing, run ")[2]
    subprocess.run(["bash", "-c", way], check=True)
    finish(rows, sinks.batch_files(out), tmp_path / "ckpt")
    assert spark.read.parquet(str(out)).count() == 2
