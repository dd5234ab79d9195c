"""A schema registry for the tests: Apicurio's, one Java process with its data in memory.

It speaks Confluent's API below a path, from the archive that `scripts/systems.sh
registry` has fetched.
"""

import os
from urllib.error import HTTPError
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
