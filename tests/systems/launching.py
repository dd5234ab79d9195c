"""Jobs as processes of their own, on HDFS: launch, input, and what is in the output."""

import io
import itertools
import re
import sys
from decimal import Decimal

import pyarrow.parquet as pq
from conftest import ROOT
from faults.targets import added_up

from sparkstream_kit import feeds

SEED = 3
# A test's driver listens on this machine only
LOOPBACK = {"SPARK_LOCAL_IP": "127.0.0.1"}
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # for JVMs that live for seconds
SMALL = (
    *("--conf", "spark.sql.shuffle.partitions=2"),  # 200 are for large clusters
    *("--conf", "spark.ui.enabled=false"),
    *("--conf", f"spark.executor.extraJavaOptions={QUICK}"),
)


class Launcher:
    """Starts drivers by `spark-submit`.

    Args:
        begin: starts a driver, and kills what is left of it at the end.
    """

    def __init__(self, begin):
        self._begin = begin

    def submit(self, *command, **env):
        """Start `spark-submit` with a command line."""
        return self._begin(
            f"{sys.prefix}/bin/spark-submit", *command, **LOOPBACK, **env
        )

    def job(self, master, name, *args, kit=None, **env):
        """Start a job of this checkout with the profile `cluster`; `kit` is a zip for it."""
        job = ROOT / "jobs" / f"{name}.py"
        zipped = () if kit is None else ("--py-files", kit)
        if kit is not None:
            env = {"PYTHONPATH": "", **env}
        return self.submit(
            "--master",
            master,
            *zipped,
            *SMALL,
            job,
            *args,
            "--profile",
            "cluster",
            **env,
        )


class Sales:
    """A folder of sales files on HDFS or S3, and what is in them, computed without Spark."""

    def __init__(self, hdfs, folder, *, rows=50):
        self.url = f"{hdfs.url}{folder}"
        self._hdfs, self._folder, self._rows = hdfs, folder, rows
        self._series = iter(feeds.sales_files(None, rows=rows, seed=SEED))
        self.files = 0

    def land(self, files, *, named="{}"):
        """Land the next files, each by its name in a pattern."""
        for name, text in itertools.islice(self._series, files):
            self._hdfs.put(f"{self._folder}/{named.format(name)}", text.encode())
            self.files += 1

    def totals(self):
        """Return (ProductKey, Orders, TotalSales) by key, of all files that have landed."""
        return sorted(
            feeds.sales_totals(feeds.sales_rows(self._rows * self.files, seed=SEED))
        )


def cut_off(rounds, begin, sales, hdfs, checkpoint):
    """Land files and start a driver, again and again; kill it in its first or second batch."""
    for number in range(rounds):
        sales.land(3)
        wanted = newest(hdfs, f"{checkpoint}/offsets") + number % 2
        driver = begin()
        driver.until(lambda: newest(hdfs, f"{checkpoint}/offsets") > wanted)  # noqa: B023
        driver.kill("group")


def shown(snapshot):
    """Return the totals in a snapshot of `sales_totals`; none before the first."""
    return totals_of(snapshot.read_text()) if snapshot.exists() else []


def totals_of(text):
    """Return the totals in a result of `sales_totals` as CSV."""
    rows = [line.rsplit(",", 2) for line in text.splitlines()[1:]]
    return sorted((key, int(orders), Decimal(total)) for key, orders, total in rows)


def written(hdfs, folder):
    """Return the rows of a folder of `batch_files` on HDFS, as a reader without Spark sees them."""
    rows = []
    for batch in hdfs.names(folder):
        if batch.startswith("batch="):
            for name in hdfs.names(f"{folder}/{batch}"):
                if name.endswith(".parquet"):
                    file = io.BytesIO(hdfs.read(f"{folder}/{batch}/{name}"))
                    rows += pq.read_table(file, partitioning=None).to_pylist()
    return rows


def cleaned(hdfs, folder):
    """Return what the good rows of `sales_clean` add up to."""
    return added_up(
        (row["ProductKey"], row["SaleAmount"])
        for row in written(hdfs, f"{folder}/good")
    )


def newest(hdfs, folder):
    """Return the last number in one of Spark's logs; -1 if it has none."""
    found = (re.fullmatch(r"(\d+)(\.compact)?", name) for name in hdfs.names(folder))
    return max((int(match[1]) for match in found if match), default=-1)


def refused(driver, code=2):
    """Wait for the end of a driver that must refuse, and return the last line that it has said."""
    assert driver.ended() == code, driver.errors
    assert "Traceback" not in driver.errors, driver.errors
    return driver.errors.splitlines()[-1]
