"""Servers as child processes: they end when this one does, and say what they said.

They end however this process ends.
"""

import os
import signal
import socket
import subprocess

from conftest import HANGS
from faults.drivers import until

# Enough for millions of small records; the quick compiler alone starts a second
# earlier.
SMALL = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def running(server):
    """Start a server, give it to tests, and stop it: what a fixture does."""
    server.start()
    yield server
    server.stop()


class Daemon:
    """A server that can be stopped, killed, and started again with the same command.

    Args:
        name: what it is, for messages.
        command: the program with its arguments.
        log: the file that its output goes to, after what an earlier start has written.
        env: its environment; by default this process's.
    """

    def __init__(self, name, command, log, env=None):
        self._name = name
        # Should this process be killed, the server goes too.
        self._command = ["setpriv", "--pdeathsig=KILL", *command]
        self._log, self._env = log, env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self):
        """Return the process id."""
        assert self._process is not None, f"{self._name} was not started"
        return self._process.pid

    @property
    def runs(self):
        """Say whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self):
        """Start the process, unless it runs; whether it is ready, its owner asks it."""
        if self.runs:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._log.parent,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the terminal is for its owner, who ends it in order
                start_new_session=True,
            )

    def stop(self, number=signal.SIGTERM):
        """Send a signal and wait for the end."""
        if self._process is None or not self.runs:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ended(self):
        """Wait until it has ended by itself, and return its exit code."""
        assert self._process is not None, f"{self._name} was not started"
        return self._process.wait(HANGS)

    def kill(self):
        """End the process as a crash does."""
        self.stop(signal.SIGKILL)

    def until(self, ready):
        """Wait until the server answers as it should."""
        until(
            lambda: self._is(ready),
            lambda: f"{self._name} ready:\n{self.log()[-3000:]}",
        )

    def _is(self, ready):
        assert self.runs, f"{self._name} has ended:\n{self.log()[-3000:]}"
        try:
            return bool(ready())
        except (OSError, LookupError, ValueError):  # it does not answer yet, or half
            return False

    def log(self):
        """Return what the server has said."""
        return self._log.read_text(errors="replace")


def listens(port):
    """Say that somebody listens on a port of this machine; raise an OSError if nobody does."""
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    return True


def java(program="java"):
    """Return a program of the Java that runs the servers, as Spark finds it."""
    home = os.environ.get("JAVA_HOME")
    return f"{home}/bin/{program}" if home else program
