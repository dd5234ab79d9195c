"""`checkpoints.batch`: what one batch read, and what it gave the sink, run once more on a copy."""

import pytest
from conftest import pretend_master, refusal
from support import checkpoint_queries as queries

from sparkstream_kit import sinks
from sparkstream_kit.checkpoints import batch
from sparkstream_kit.errors import QueryFailed
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES


@pytest.mark.slow
@pytest.mark.parametrize("store", STATE_STORES)
def test_each_batch_gives_what_the_sink_got_and_what_it_read(
    store, as_local, tmp_path, finish
):
    as_local.conf.set(STATE_STORE, STATE_STORES[store])
    queries.land(tmp_path / "in", *range(5))
    got = {}

    def note(rows, number):
        got[number] = sorted(map(str, rows.collect()))

    frame = queries.totals(as_local, tmp_path / "in")
    finish(frame, sinks.foreach_batch(note))
    before = queries.contents(tmp_path / "ckpt")
    for number, rows in got.items():
        again = batch(as_local, tmp_path / "ckpt", number, frame)
        assert sorted(map(str, again.collect())) == rows
        assert again.count() > 0
        read = batch(
            as_local,
            tmp_path / "ckpt",
            number,
            queries.stream(as_local, tmp_path / "in"),
        )
        assert read.count() == 3
    assert queries.contents(tmp_path / "ckpt") == before


@pytest.mark.slow
def test_a_batch_that_failed_is_opened(as_local, tmp_path, finish):
    queries.land(tmp_path / "in", 0, 1)
    rows = queries.stream(as_local, tmp_path / "in")

    def fail(batch, number):
        if number:
            raise ValueError("no room")

    with pytest.raises(QueryFailed, match="no room"):
        finish(rows, sinks.foreach_batch(fail), "append")
    assert batch(as_local, tmp_path / "ckpt", 1, rows).count() == 3


@pytest.mark.connect
@pytest.mark.slow
def test_on_spark_connect_a_batch_is_opened(spark, tmp_path, finish):
    queries.land(tmp_path / "in", *range(3))
    rows = queries.totals(spark, tmp_path / "in")
    finish(rows, sinks.batch_files(tmp_path / "out"))
    assert (
        batch(
            spark, tmp_path / "ckpt", 2, queries.stream(spark, tmp_path / "in")
        ).count()
        == 3
    )
    assert sorted(batch(spark, tmp_path / "ckpt", 2, rows).collect()) == [
        ("a", 30),
        ("b", 33),
        ("c", 36),
    ]


@pytest.mark.slow
@pytest.mark.classic_only("a master is pretended in this process")
def test_what_cannot_be_opened_is_refused(as_local, tmp_path, monkeypatch, finish):
    queries.land(tmp_path / "in", *range(4))
    rows, ckpt = queries.stream(as_local, tmp_path / "in"), tmp_path / "ckpt"
    finish(rows, sinks.batch_files(tmp_path / "out"), "append")
    for number in range(2):
        (ckpt / "offsets" / f"{number}").unlink()
    for number in (1, 2, 7):
        said = refusal(batch, as_local, ckpt, number, rows)
        kept = (
            f"checkpoint {ckpt} does not keep the plans of batch {number} and of the"
            " one before"
        )
        assert said == f"{kept}; give one of the batches 3 to 3"
    assert batch(as_local, ckpt, 3, rows).count() == 3
    (tmp_path / "in" / "3 é%.json").unlink()
    said = refusal(batch, as_local, ckpt, 3, rows)
    assert said.startswith(f"batch 3 of checkpoint {ckpt} cannot be opened: ")
    assert "1 of the 1 file that it has read have gone, such as" in said
    assert "3 é%.json" in said
    pretend_master(as_local, monkeypatch, "spark://host:7077")
    assert "use a session of this process with the master" in refusal(
        batch, as_local, ckpt, 3, rows
    )
