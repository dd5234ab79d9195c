"""A target that is gone, but whose query has written to it: refused at the start, and nothing is made."""

import shutil
import sqlite3

import pytest
from conftest import refusal
from support.sink_streams import finish, three_batches

from sparkstream_kit import feeds, sinks, start

KINDS = {
    "sql_table": lambda folder: sinks.sql_table(f"sqlite:///{folder}/t.db", "t"),
    "delta": lambda folder: sinks.delta(folder / "t"),
    "iceberg": lambda folder: sinks.iceberg("shop.t", catalog=folder / "t"),
    "batch_files": lambda folder: sinks.batch_files(folder / "t"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused_before_anything_is_made(kind, spark, folder, tmp_path):
    stream, out, first = three_batches(spark, folder), tmp_path / "out", tmp_path / "first"
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
            start, stream, sink(), name="q", checkpoint=tmp_path / "ckpt", availableNow=True, dry_run=dry_run
        )
        assert "holds none of this query's batches: it was deleted" in line
        assert sorted(first.iterdir()) == written
        if kind == "sql_table" and (out / "t.db").exists():
            [tables] = sqlite3.connect(out / "t.db").execute("SELECT count(*) FROM sqlite_master")
            assert tables == (0,)
        elif kind != "iceberg":  # whose catalog is made where it is looked at
            assert [*out.iterdir()] == []
