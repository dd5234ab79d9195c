"""Ports of this machine for servers that are started later."""

import random
import socket
from contextlib import ExitStack

# Below those that Linux (from 32768) and macOS (from 49152) give to whoever asks for
# any port: one of those may be a connection's of another program before the server of
# the test has it, or starts again.
_PORTS = range(20_000, 32_768)


def free_port():
    """Return a port on which nobody listens."""
    return free_ports(1)[0]


def free_ports(number):
    """Return ports on which nobody listens."""
    choice = random.SystemRandom()  # tests of other processes choose at the same time
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < number:
            port = choice.choice(_PORTS)
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            ports.append(port)
    return ports
