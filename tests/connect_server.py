"""Spark's own Connect server on this machine, for tests that attach to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparkstream_kit.profiles import read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"

_START_LIMIT = 120.0


@contextmanager
def connect_server(folder: Path) -> Iterator[str]:
    """Start a server with the test profile on a free port of loopback; give its URL, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = read_profile("test") | {
        "spark.master": "local[2]",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": (folder / "warehouse").as_uri(),
    }
    conf = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    log = folder / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            ["spark-submit", *conf, "--class", SERVER, "spark-internal"],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key != "SPARK_REMOTE"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _START_LIMIT
        while not _listens(port):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, f"no server within {_START_LIMIT:g} s: {log.read_text()}"
            time.sleep(0.1)  # between looks, within the limit
        yield f"sc://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
