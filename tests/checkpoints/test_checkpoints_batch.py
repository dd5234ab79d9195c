"""`checkpoints.batch`: what one batch read, and what it gave the sink, run once more on a copy."""

import pytest
from support import checkpoint_queries as queries

from sparkstream_kit import run, sinks, start
from sparkstream_kit.checkpoints import batch
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES


@pytest.mark.slow
@pytest.mark.parametrize("store", STATE_STORES)
def test_each_batch_gives_what_the_sink_got_and_what_it_read(store, as_local, tmp_path):
    as_local.conf.set(STATE_STORE, STATE_STORES[store])
    queries.land(tmp_path / "in", *range(5))
    got = {}

    def note(rows, number):
        got[number] = sorted(map(str, rows.collect()))

    def made():
        return queries.totals(as_local, tmp_path / "in")

    how = {"name": "q", "mode": "update", "checkpoint": tmp_path / "ckpt"}
    run(start(made(), sinks.foreach_batch(note), availableNow=True, **how))
    before = {each: each.read_bytes() for each in (tmp_path / "ckpt").rglob("*") if each.is_file()}
    for number, rows in got.items():
        again = batch(as_local, tmp_path / "ckpt", number, made())
        assert sorted(map(str, again.collect())) == rows
        assert again.count() > 0
        read = batch(as_local, tmp_path / "ckpt", number, queries.stream(as_local, tmp_path / "in"))
        assert read.count() == 3
    assert {each: each.read_bytes() for each in (tmp_path / "ckpt").rglob("*") if each.is_file()} == before


@pytest.mark.slow
def test_a_batch_that_failed_is_opened(as_local, tmp_path):
    queries.land(tmp_path / "in", 0, 1)
    rows = queries.stream(as_local, tmp_path / "in")

    def fail(batch, number):
        if number:
            raise ValueError("no room")

    how = {"name": "q", "checkpoint": tmp_path / "ckpt", "availableNow": True}
    with pytest.raises(Exception, match="no room"):
        run(start(rows, sinks.foreach_batch(fail), **how))
    assert batch(as_local, tmp_path / "ckpt", 1, rows).count() == 3
