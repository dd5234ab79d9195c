"""Batches that take seconds, in Python workers and in the driver.

Each is named in a file when it is done.

Run: python slow_batches.py INPUT_DIR CHECKPOINT OUTPUT_DIR
"""

import sys
import time
from pathlib import Path

from sparkstream_kit import jobflags


@jobflags.exit_codes
def main(argv=None):
    """Run until a signal."""
    folder, checkpoint, output = sys.argv[1:] if argv is None else argv

    from pyspark.sql import functions as F
    from pyspark.sql.types import LongType

    from sparkstream_kit import get_session, run, sinks, sources, start

    def slowly(line):
        time.sleep(0.04)
        return len(line)

    def write(batch, batch_id):
        Path(output, f"begun-{batch_id}").touch()
        lengths = batch.select(F.udf(slowly, LongType())("value")).collect()
        time.sleep(1)
        Path(output, f"done-{batch_id}").write_text(str(len(lengths)))

    with get_session("slow-batches", profile="test") as spark:
        lines = sources.text(spark, folder, max_files_per_trigger=1)
        query = start(
            lines, sinks.foreach_batch(write), name="slow", checkpoint=checkpoint
        )
        sys.stderr.write(f"{run(query)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
