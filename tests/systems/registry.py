"""A schema registry for the tests: Apicurio's, one Java process with its data in memory.

It speaks Confluent's API below a path, from the archive that `scripts/systems.sh
registry` has fetched.
"""

import os
import socket
import threading
from contextlib import suppress
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

from systems.daemons import Daemon, java

_OF_A_REGISTRY = "/apis/ccompat/v7"
_RUNNER = "apicurio-registry-app-*-runner.jar"


class ASchemaRegistry:
    """A running registry, which can be stopped and started again, without its schemas.

    Args:
        jars: the folder of its jars.
        home: a folder for its log.
        port: where it listens.

    Attributes:
        url: its address, with the path of Confluent's API.
    """

    def __init__(self, jars, home, port):
        self.url = f"http://127.0.0.1:{port}{_OF_A_REGISTRY}"
        [runner] = jars.rglob(_RUNNER)
        env = {
            **os.environ,
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(port),
        }
        # Half of it is too little for its start
        command = [java(), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-jar", str(runner)]
        self._daemon = Daemon("the registry", command, home / "registry.log", env)

    def start(self):
        """Start it, unless it runs, and wait until it answers."""
        self._daemon.start()
        self._daemon.until(self._answers)

    def begin(self):
        """Start it, and do not wait."""
        self._daemon.start()

    def stop(self):
        """Stop it; what it knew is gone."""
        self._daemon.stop()

    def _answers(self):
        try:
            with urlopen(f"{self.url}/subjects", timeout=5) as response:  # noqa: S310 - http
                return response.status == 200
        except HTTPError:
            return False


class Gate:
    """Stands before a registry, which keeps its schemas while it is away behind a closed gate.

    Args:
        url: the address of the registry.

    Attributes:
        url: the address of the gate, with the same path.
        turned_away: how many requests it has hung up on.
    """

    def __init__(self, url):
        parts = urlsplit(url)
        self._behind = (parts.hostname, parts.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        host, port = self._server.getsockname()
        self.url = urlunsplit(parts._replace(netloc=f"{host}:{port}"))
        self.turned_away = 0
        self._is_open = True
        threading.Thread(target=self._serve, daemon=True).start()

    def open(self):
        """Let requests through."""
        self._is_open = True

    def close(self):
        """Hang up on requests, as what stands before a registry that is away does."""
        self._is_open = False

    def remove(self):
        """Take the gate away."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # it was removed
                return
            if not self._is_open:
                self.turned_away += 1
                client.close()
                continue
            server = socket.create_connection(self._behind)
            for one, other in ((client, server), (server, client)):
                threading.Thread(
                    target=_pass_on, args=(one, other), daemon=True
                ).start()


def _pass_on(one, other):
    """Send what comes from a connection to another one, until it ends."""
    with suppress(OSError):
        while content := one.recv(65536):
            other.sendall(content)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
