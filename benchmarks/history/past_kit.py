"""40 batches of one file after a past of many files, through the kit: past_kit.py FILES STARTS."""

import sys
import tempfile
from pathlib import Path

from past import BATCHES, BEFORE, SHORT, land, measure, write

from sparkstream_kit import get_session, run, sinks, sources, start

files, starts = map(int, sys.argv[1:])
with get_session("history", conf=SHORT) as spark, tempfile.TemporaryDirectory() as made:
    work = Path(made)

    def go() -> int:
        """Read what there is, a file in each batch; return the number of rows."""
        rows = sources.csv(
            spark, work / "in", schema="k INT, v STRING", max_files_per_trigger=1
        )
        query = start(
            rows,
            sinks.batch_files(work / "out"),
            name="h",
            checkpoint=work / "ckpt",
            availableNow=True,
        )
        return run(query).queries[0].input_rows

    land(work / "in", range(BEFORE))
    go()
    write(work / "ckpt/sources/0", work / "in", files)
    for at in range(starts - 1):
        land(work / "in", range(200 + at, 201 + at))
        go()
    land(work / "in", range(300, 300 + BATCHES))
    measure(spark, go)
