"""A PostgreSQL server for the tests: Debian's, on a free port, with data in a temporary folder."""

import atexit
import functools
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import psycopg
from conftest import missing, process
from support import ports
from systems.daemons import Daemon


class Server:
    """A running server, which can be stopped in the middle of things and started again on the same data.

    Attributes:
        password: of its user `kit`, made anew for each server.
        url: of its database `postgres`, for SQLAlchemy; `database` makes further ones.
    """

    def __init__(self, binaries):
        self._home = Path(tempfile.mkdtemp(prefix="sparkstream-postgresql-"))
        as_user = []
        if os.geteuid() == 0:  # as root it refuses to run; its own user must reach its data
            user = pwd.getpwnam("postgres")
            os.chown(self._home, user.pw_uid, user.pw_gid)
            # It ends with this process; a change of user would forget that, so that it is said here too.
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=QUIT"]
        self.password = secrets.token_hex(12)
        secret = self._home / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # in a folder that nobody else can enter
        data, port = ["-D", str(self._home / "data")], ports.free_port()
        options = ["--username=kit", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8"]
        made = [*as_user, binaries / "initdb", *options, "--locale=C.UTF-8", "--no-sync", *data]
        done = process(made, cwd=self._home)
        assert done.returncode == 0, done.stderr
        address = ["-h", "127.0.0.1", "-p", str(port)]
        command = [*as_user, str(binaries / "postgres"), *data, *address, "-c", "unix_socket_directories="]
        self._server = Daemon("PostgreSQL", command, self._home / "log")
        self._ready = [binaries / "pg_isready", "-q", *address]
        self.url = f"postgresql+psycopg://kit:{self.password}@127.0.0.1:{port}/postgres"
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
        self._server.start()
        self._server.until(lambda: process(self._ready).returncode == 0)

    def stop(self):
        """Stop the server at once, as a crash does: no transaction ends, no client is waited for."""
        self._server.stop(signal.SIGQUIT)

    def remove(self):
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)


@functools.cache
def server():
    """Return the server of this test run, started when it is first asked for; skip where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        missing("needs PostgreSQL: apt-get install --no-install-recommends postgresql")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        missing("needs setpriv, to run PostgreSQL as another user than root")
    return Server(found[-1].parent)
