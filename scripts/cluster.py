"""A small cluster on this machine, for `make cluster`, until Ctrl-C.

It is Spark's master, two workers and HDFS.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # whose fixtures start the same servers

from systems.cluster import Cluster  # noqa: E402
from systems.conftest import jars  # noqa: E402
from systems.hadoop import Hdfs  # noqa: E402

NEXT = """
A Spark master with two workers, and HDFS, run on this machine. Their files are in {home}.

  master   {master}   http://{web}
  HDFS     {hdfs}   http://{hdfs_web}

In another terminal, in this folder:

  . .venv/bin/activate
  export SPARK_LOCAL_IP=127.0.0.1
  sparkstream feed sales incoming --files 5 --every 0.1
  spark-submit --master {master} --py-files dist/sparkstream_kit.zip \\
      --conf spark.sql.shuffle.partitions=4 \\
      jobs/sales_totals.py "$PWD/incoming" --available-now --profile cluster \\
      --checkpoint {hdfs}/checkpoints/sales

The folder of input is one that all workers see, as they are on this machine; \
a job also reads and writes
{hdfs}/… . Ctrl-C here ends the cluster and removes its files.
"""


def main() -> int:
    """Start the servers, say what to type next, and wait for the end."""
    # A shell's background has the first one ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="sparkstream-cluster-"))
    # The workers' Python is this one
    os.environ["PATH"] = f"{sys.prefix}/bin:{os.environ['PATH']}"
    hdfs = Hdfs(home / "hdfs", sorted(jars("hadoop").glob("*.jar")))
    cluster = Cluster(home / "spark")
    try:
        print("starting HDFS, a Spark master and two workers", file=sys.stderr)
        hdfs.start()
        cluster.start()
        facts = {
            "master": cluster.url,
            "web": cluster.web,
            "hdfs": hdfs.url,
            "hdfs_web": hdfs.web,
        }
        print(NEXT.format(home=home, **facts), flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print("ending the cluster", file=sys.stderr)
    finally:
        cluster.stop()
        hdfs.stop()
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
