"""A state without a file of its log: the batch that left it so is named, and can come again."""

import pytest
from support.checkpoint_queries import land, totals

from sparkstream_kit import sinks
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.errors import CheckpointDamaged


@pytest.mark.slow
def test_a_batch_that_is_read_in_part_is_named_and_comes_again_whole(
    spark, tmp_path, finish
):
    got = []

    def late(batch, number):
        if number == 0:  # as one that returns early where there is nothing to do
            got.extend(batch.collect())

    def go(function):
        finish(
            totals(spark, tmp_path / "in"), sinks.foreach_batch(function), "complete"
        )

    land(tmp_path / "in", 0)
    go(late)
    land(tmp_path / "in", 1)
    says = r"did not read all of it .*rewind \S+ --to 0 \(Spark: "
    with pytest.raises(CheckpointDamaged, match=says) as said:
        go(late)
    assert "\n" not in str(said.value)
    rewind(tmp_path / "ckpt", to=0, apply=True)
    got.clear()
    go(lambda batch, _: got.extend(batch.collect()))
    assert sorted(map(tuple, got)) == [("a", 10), ("b", 12), ("c", 14)]
