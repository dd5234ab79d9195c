"""Show a streaming job at work: sales files land, and their totals grow in the terminal."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from sparkstream_kit import feeds

FILES, ROWS, SEED = 25, 40, 7


def main() -> int:
    """Run the job on a folder that fills up, and check its result against the truth.

    The truth is known without Spark.
    """
    job = Path(__file__).parent.parent / "jobs" / "sales_totals.py"
    with tempfile.TemporaryDirectory(prefix="sparkstream-demo-") as folder:
        incoming, result = Path(folder, "incoming"), Path(folder, "totals.csv")
        incoming.mkdir()
        print(
            f"{FILES} files of {ROWS} sales each are landing in {incoming}, one a"
            " second.\njobs/sales_totals.py sums them up by product, exactly once"
            " each, and ends when no more come.\n",
            file=sys.stderr,
        )
        stop = threading.Event()
        feeder = threading.Thread(
            target=feeds.drip,
            args=(feeds.sales_files(FILES, rows=ROWS, seed=SEED), incoming),
            kwargs={"every": 1.0, "stop": stop},
        )
        feeder.start()
        try:
            code = subprocess.run(
                [sys.executable, job, incoming, "--idle", "6", "--snapshot", result],
                check=False,
            ).returncode
        except KeyboardInterrupt:
            return 130
        finally:
            stop.set()
            feeder.join()
        landed = len(list(incoming.glob("*.csv")))
        if code == 0 and landed == FILES:
            return compare(result)
        print(
            f"\nStopped early, after {landed} of {FILES} files: nothing to compare.",
            file=sys.stderr,
        )
    return code


def compare(result: Path) -> int:
    """Say whether the job's totals equal the true ones, row by row and cent by cent."""
    truth = [
        (k, str(n), str(t))
        for k, n, t in feeds.sales_totals(feeds.sales_rows(FILES * ROWS, seed=SEED))
    ]
    with result.open(newline="", encoding="utf-8") as file:
        rows = [tuple(row) for row in csv.reader(file)][1:]
    same = rows == truth
    print(
        f"\n{'These are' if same else 'THESE ARE NOT'} the true totals of all"
        f" {FILES * ROWS:,} sales, computed without Spark.",
        file=sys.stderr,
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
