"""A PostgreSQL server for the tests: Debian's, on a free port, with data in a temporary folder."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from conftest import missing
from support import ports

_LIMIT = 60


class Server:
    """A running server, which can be stopped in the middle of things and started again on the same data.

    Attributes:
        password: of its user `kit`, made anew for each server.
        url: of its database `postgres`, for SQLAlchemy; `database` makes further ones.
    """

    def __init__(self, binaries):
        self._binaries = binaries
        self._home = Path(tempfile.mkdtemp(prefix="sparkstream-postgresql-"))
        self._process: subprocess.Popen[bytes] | None = None
        # As root, postgres refuses to run; its own user must reach its data.
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._home, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        self.password = secrets.token_hex(12)
        secret = self._home / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # in a folder that nobody else can enter
        options = ["--username=kit", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8"]
        self._run("initdb", *options, "--locale=C.UTF-8", "--no-sync", "-D", str(self._home / "data"))
        self._port = ports.free_port()
        self.url = f"postgresql+psycopg://kit:{self.password}@127.0.0.1:{self._port}/postgres"
        self.start()
        atexit.register(self.remove)

    def database(self):
        """Make an empty database and return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"{self.url.rpartition('/')[0]}/{name}"

    def start(self):
        """Start the server, unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        # Should this process be killed, the server goes too.
        command = [*self._as_user, str(self._binaries / "postgres"), "-D", str(self._home / "data")]
        if self._as_user:
            command.insert(1, "--pdeathsig=QUIT")
        address = ["-h", "127.0.0.1", "-p", str(self._port), "-c", "unix_socket_directories="]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *address], cwd=self._home, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + _LIMIT
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, f"not within {_LIMIT} s: PostgreSQL ready"
            time.sleep(0.05)  # between looks, within the limit

    def stop(self):
        """Stop the server at once, as a crash does: no transaction ends, no client is waited for."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_LIMIT)

    def log(self):
        """Return what the server has said."""
        return (self._home / "log").read_text()

    def remove(self):
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _run(self, name, *args):
        done = subprocess.run(
            [*self._as_user, str(self._binaries / name), *args],
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@functools.cache
def server():
    """Return the server of this test run, started when it is first asked for; skip where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        missing("needs PostgreSQL: apt-get install --no-install-recommends postgresql")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        missing("needs setpriv, to run PostgreSQL as another user than root")
    return Server(found[-1].parent)
