"""Small files, as they come in a year, through a query with state into a database and a folder.

File after file lands with the time at which it would have come, and leaves the folder once it was read, as by
a job that archives. Twice, after a fifth of the batches and at the end, a line of JSON in FOLDER/looks has
what the driver holds (see `soak.py`), the median milliseconds of the last tenth of the batches, and how many
files the source's log lists.
Run: python year.py URL FOLDER BATCHES
"""

import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

from sparkstream_kit import jobflags

YEAR = 365 * 86_400  # seconds
WAITING, KEPT = 20, 200  # files that wait in the folder, and that stay there after they were read


class Feeder(threading.Thread):
    """Lands a file whenever few wait, and removes old ones."""

    def __init__(self, folder, batches):
        super().__init__(daemon=True)
        self.folder, self.batches, self.read = folder, batches, 0
        self.more = threading.Condition()

    def run(self):
        """Land all files."""
        began = time.time() - YEAR
        for number in range(self.batches):
            with self.more:
                while number >= self.read + WAITING:
                    self.more.wait()
            file, hidden = self.folder / f"{number:07}.csv", self.folder / f".{number}"
            hidden.write_text(f"{number % 7},{number}\n")
            at = began + number * YEAR / self.batches
            os.utime(hidden, (at, at))
            hidden.rename(file)
            (self.folder / f"{number - KEPT:07}.csv").unlink(missing_ok=True)

    def told(self, progress):
        """Take the progress of a batch."""
        with self.more:
            self.read += progress.numInputRows
            self.more.notify()


@jobflags.exit_codes
def main(argv=None):
    """Run all batches."""
    url, place, number = sys.argv[1:] if argv is None else argv
    given, batches = Path(place), int(number)

    import soak  # which lies beside this script
    from pyspark.sql import functions as F

    from sparkstream_kit import get_session, run, sinks, sources, start

    conf = {f"spark.{name}": "10" for name in soak.KEPT} | {
        "spark.master": "local[2]",
        "spark.driver.extraJavaOptions": "-XX:SoftRefLRUPolicyMSPerMB=0",
    }
    with get_session("year", profile="local", conf=conf) as spark:
        (given / "in").mkdir()
        feeder, took = Feeder(given / "in", batches), []
        feeder.start()
        frame = sources.csv(spark, given / "in", schema="k INT, v LONG", max_files_per_trigger=1)
        frame = frame.groupBy("k").agg(F.max("v").alias("v"), F.count("*").alias("n"))
        sink = sinks.fan_out(
            sinks.sql_table(url, "t", how="upsert", keys=["k"]),
            sinks.foreach_batch(lambda batch, number: batch.write.parquet(f"{given}/out/{number}")),
        )

        def told(progress):
            feeder.told(progress)
            took.append(progress.durationMs["triggerExecution"])

        for until in (batches // 5, batches):
            query = start(frame, sink, name="year", mode="update", checkpoint=given / "ckpt")
            run(query, max_batches=until - len(took), idle=30, on_batch=told)
            newest = max((given / "ckpt/sources/0").glob("*.compact"), key=lambda file: int(file.stem))
            look = soak.least(spark) | {"batch": len(took)}
            look |= {"listed": len(newest.read_text().splitlines()) - 1}
            look |= {"milliseconds": statistics.median(took[-batches // 10 :])}
            with (given / "looks").open("a") as file:
                file.write(json.dumps(look) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
