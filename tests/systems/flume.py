"""A Flume agent on this machine, with a configuration file of the examples."""

import os
import socket

from support.ports import free_ports
from systems.daemons import SMALL, Daemon, java, listens
from systems.hadoop import LOG, SPARK_JARS

_FROM_SPARK = (
    "hadoop-client-api",
    "hadoop-client-runtime",
    "log4j-api",
    "log4j-core",
    "log4j-1.2-api",
)


class Agent:
    """An agent; it can be killed and started again.

    Args:
        home: for its channel and its log.
        jars: its folder of jars.
        conf: its configuration file, with an agent of the name `agent`.
        incoming: the folder that it lands files in, with file:// or hdfs://.

    Attributes:
        logs: the folder whose files `*.log` it follows.
        port: where it takes lines by TCP.
    """

    def __init__(self, home, jars, conf, incoming):
        [self.port] = free_ports(1)
        self.logs = home / "logs"
        self.logs.mkdir(parents=True)
        (home / "log4j2.properties").write_text(LOG)
        spark = [
            jar
            for name in _FROM_SPARK
            for jar in sorted(SPARK_JARS.glob(f"{name}*.jar"))
        ]
        classpath = ":".join([f"{jars}/*", *map(str, spark)])
        says = f"-Dlog4j2.configurationFile={home}/log4j2.properties"
        main = [
            "org.apache.flume.node.Application",
            "-n",
            "agent",
            "-f",
            str(conf),
            "--no-reload-conf",
        ]
        own = {
            "INCOMING": incoming,
            "SPOOL": f"{home}/spool",
            "LOGS": str(self.logs),
            "PORT": str(self.port),
        }
        self.daemon = Daemon(
            "Flume",
            [java(), *SMALL, says, "-cp", classpath, *main],
            home / "flume.log",
            os.environ | own,
        )

    def start(self):
        """Start it, and wait until it takes lines."""
        self.daemon.start()
        self.daemon.until(lambda: listens(self.port))

    def send(self, lines):
        """Send lines, and wait until its channel has each of them."""
        with (
            socket.create_connection(("127.0.0.1", self.port)) as client,
            client.makefile("rw") as stream,
        ):
            for line in lines:
                stream.write(f"{line}\n")
            stream.flush()
            for line in lines:
                assert stream.readline() == "OK\n", line
