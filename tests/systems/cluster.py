"""Spark's standalone master and workers from the installed PySpark, on loopback."""

import json
import os
import signal
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import pyspark
from support.ports import free_ports
from systems.daemons import Daemon, listens

_HOST = "127.0.0.1"
_SPARK = Path(pyspark.__file__).parent


class Cluster:
    """A master and its workers.

    Attributes:
        url: for `--master`.
        web: host and port of the master's page.
        master: can be killed in the middle of things.
        workers: so can each of these; `start` starts them again.
    """

    def __init__(self, home, *, workers=2, cores=1, memory="1g"):
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._port, page = free_ports(2)
        self.url, self.web = f"spark://{_HOST}:{self._port}", f"{_HOST}:{page}"
        quick = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
        env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SPARK_", "PYSPARK_", "PYTHONPATH"))
        }
        env |= {
            # Executors run the first python3
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
            "SPARK_HOME": str(_SPARK),
            "SPARK_LOCAL_IP": _HOST,
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": quick,
        }
        run = [str(_SPARK / "bin" / "spark-class")]
        package = "org.apache.spark.deploy"
        at = ["--host", _HOST, "--webui-port"]
        master = [
            *run,
            f"{package}.master.Master",
            *at,
            str(page),
            "--port",
            str(self._port),
        ]
        self.master = Daemon("master", master, home / "master.log", env)
        worker = [
            *run,
            f"{package}.worker.Worker",
            *at,
            "0",
            "-c",
            str(cores),
            "-m",
            memory,
        ]
        self.workers = [
            Daemon(
                "worker",
                [*worker, "-d", str(home / f"w{n}"), self.url],
                home / f"w{n}.log",
                env,
            )
            for n in range(workers)
        ]

    def start(self):
        """Start what does not run, and wait until the master knows all workers."""
        self.master.start()
        self.master.until(lambda: listens(self._port))
        for worker in self.workers:
            worker.start()
        self.master.until(lambda: len(self._alive()) >= len(self.workers))

    def _alive(self):
        with urllib.request.urlopen(f"http://{self.web}/json/", timeout=5) as answer:
            return [
                worker
                for worker in json.load(answer)["workers"]
                if worker["state"] == "ALIVE"
            ]

    def executors(self):
        """Return the processes of this cluster's executors, known by their folders.

        They run in these folders.
        """
        found = []
        for process in Path("/proc").iterdir():
            with suppress(OSError):  # it has just ended
                if process.name.isdigit() and str(
                    (process / "cwd").readlink()
                ).startswith(f"{self.home}/w"):
                    command = (process / "cmdline").read_bytes()
                    if b"CoarseGrainedExecutorBackend" in command:
                        found.append(int(process.name))
        return found

    def kill_executors(self, most=None):
        """Kill all executors at once, or so many."""
        for process in self.executors()[:most]:
            os.kill(process, signal.SIGKILL)

    def stop(self):
        """End all; executors end with their workers."""
        for daemon in (*self.workers, self.master):
            daemon.kill()
