"""A server of MongoDB's protocol on this machine, with its data in a file."""

from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from support.ports import free_ports
from systems.daemons import SMALL, Daemon, java

_MAIN = Path(__file__).parent / "MongoMain.java"


class Server:
    """The server; it can be stopped, killed, and started again on the same data.

    Attributes:
        host: host and port.
    """

    def __init__(self, home, jars):
        [port] = free_ports(1)
        self.host = f"127.0.0.1:{port}"
        command = [
            java(),
            *SMALL,
            "-cp",
            f"{jars}/*",
            str(_MAIN),
            str(port),
            str(home / "data.mv"),
        ]
        self.daemon = Daemon("MongoDB", command, home / "mongodb.log")
        self._client: MongoClient[dict[str, Any]] = MongoClient(
            self.host,
            directConnection=True,
            connect=False,
            serverSelectionTimeoutMS=1000,
        )
        self._databases = 0

    def start(self):
        """Start it, and wait until it answers."""
        self.daemon.start()
        self.daemon.until(self._answers)

    def _answers(self):
        try:
            return bool(self._client.admin.command("ping"))
        except PyMongoError:
            return False

    def database(self):
        """Return a database of its own for a test."""
        self._databases += 1
        return self._client[f"test{self._databases}"]

    def url(self, database):
        """Return the URL of a database."""
        return f"mongodb://{self.host}/{database.name}?directConnection=true"

    def stop(self):
        """End it."""
        self._client.close()
        self.daemon.kill()
