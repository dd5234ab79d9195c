"""The logs of a checkpoint are read once: a start and its run ask the same questions of the same files."""

import os
import sys
from collections import Counter

import pytest
from support.checkpoint_queries import land, totals

from sparkstream_kit import run, sinks, start
from sparkstream_kit.checkpoints import rewind
from sparkstream_kit.errors import CheckpointDamaged


def test_a_start_and_its_run_read_each_file_at_most_twice(spark, tmp_path):
    read: Counter[str] = Counter()
    counting = False

    def count(event, args):
        if counting and event == "open" and isinstance(args[0], str | os.PathLike):
            name = os.path.relpath(args[0], tmp_path / "ckpt")
            if not name.startswith("..") and args[1] in {"r", "rb"}:
                read[name] += 1

    sys.addaudithook(count)  # which cannot be taken away, and does nothing after this test
    try:
        for number in range(3):
            land(tmp_path / "in", number)
            counting = number == 2
            how = {"name": "q", "mode": "complete", "checkpoint": tmp_path / "ckpt", "availableNow": True}
            query = start(totals(spark, tmp_path / "in"), sinks.latest("totals"), **how)
            assert run(query).queries[0].input_rows == 3
    finally:
        counting = False
    assert max(read.values()) <= 2, (
        read
    )  # a source's log is read once more by what counts the files that wait
    assert sum(read.values()) <= 16, read


def test_a_batch_that_is_read_in_part_is_named_and_comes_again_whole(spark, tmp_path):
    got = []

    def late(batch, number):
        if number == 0:  # as one that returns early where there is nothing to do
            got.extend(batch.collect())

    def begun(function):
        how = {"name": "q", "mode": "complete", "checkpoint": tmp_path / "ckpt", "availableNow": True}
        return start(totals(spark, tmp_path / "in"), sinks.foreach_batch(function), **how)

    land(tmp_path / "in", 0)
    run(begun(late))
    land(tmp_path / "in", 1)
    with pytest.raises(
        CheckpointDamaged, match=r"did not read all of it .*rewind \S+ --to 0 \(Spark: "
    ) as said:
        run(begun(late))
    assert "\n" not in str(said.value)
    rewind(tmp_path / "ckpt", to=0, apply=True)
    got.clear()
    run(begun(lambda batch, _: got.extend(batch.collect())))
    assert sorted(map(tuple, got)) == [("a", 10), ("b", 12), ("c", 14)]
