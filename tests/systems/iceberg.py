"""A REST catalog of Iceberg on this machine, with its data in a file and its tables in a folder."""

from pathlib import Path

import requests
from support.ports import free_ports
from systems.daemons import SMALL, Daemon, java

_MAIN = Path(__file__).parent / "IcebergMain.java"


class Server:
    """The server; it can be stopped, killed, and started again on the same data.

    Attributes:
        url: its address.
        properties: what `sinks.iceberg(catalog=…)` takes.
    """

    def __init__(self, home, jars):
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.properties = {"type": "rest", "uri": self.url}
        files = (home / "catalog.db", home / "warehouse")
        command = [
            java(),
            *SMALL,
            "-cp",
            f"{jars}/*",
            str(_MAIN),
            str(port),
            *map(str, files),
        ]
        self.daemon = Daemon("Iceberg's catalog", command, home / "iceberg.log")

    def start(self):
        """Start it, and wait until it answers."""
        self.daemon.start()
        self.daemon.until(lambda: requests.get(f"{self.url}/v1/config", timeout=5).ok)

    def stop(self):
        """End it."""
        self.daemon.kill()
