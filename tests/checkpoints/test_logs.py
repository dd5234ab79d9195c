"""The logs of a checkpoint are read once: a start and its run ask the same questions of the same files."""

import os
import sys
from collections import Counter

from support.checkpoint_queries import land, totals

from sparkstream_kit import run, sinks, start


def test_a_start_and_its_run_read_each_file_at_most_twice(spark, tmp_path):
    read = Counter()

    def count(event, args):
        if counting and event == "open" and isinstance(args[0], str | os.PathLike):
            name = os.path.relpath(args[0], tmp_path / "ckpt")
            if not name.startswith("..") and args[1] in {"r", "rb"}:
                read[name] += 1

    counting = False
    sys.addaudithook(count)  # which cannot be taken away, and does nothing after this test
    try:
        for number in range(3):
            land(tmp_path / "in", number)
            counting = number == 2
            frame = totals(spark, tmp_path / "in")
            sink = sinks.foreach_batch(lambda batch, _: batch.collect())
            query = start(
                frame, sink, name="q", mode="update", checkpoint=tmp_path / "ckpt", availableNow=True
            )
            assert run(query).queries[0].input_rows == 3
    finally:
        counting = False
    assert max(read.values()) <= 2, read
    assert sum(read.values()) <= 15, read
