"""A PostgreSQL server for the tests: Debian's, on a free port, with data in a temporary folder."""

import functools
import os
import secrets
import shutil
import signal
from pathlib import Path

import psycopg
import pytest
from conftest import process
from support import ports
from support.databases import DatabaseServer


class Server(DatabaseServer):
    """A running PostgreSQL.

    Attributes:
        url: of its database `postgres`, for SQLAlchemy; `database` makes further ones.
    """

    def __init__(self, binaries):
        super().__init__("PostgreSQL", "postgres", signal.SIGQUIT)
        secret = self._home / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # in a folder that nobody else can enter
        data, port = ["-D", str(self._home / "data")], ports.free_port()
        options = [
            "--username=kit",
            "--auth=scram-sha-256",
            f"--pwfile={secret}",
            "--encoding=UTF8",
        ]
        self._install(
            binaries / "initdb", *options, "--locale=C.UTF-8", "--no-sync", *data
        )
        address = ["-h", "127.0.0.1", "-p", str(port)]
        self._ready = [binaries / "pg_isready", "-q", *address]
        self.url = f"postgresql+psycopg://kit:{self.password}@127.0.0.1:{port}/postgres"
        self._begin(
            binaries / "postgres", *data, *address, "-c", "unix_socket_directories="
        )

    def _answers(self):
        return process(self._ready).returncode == 0

    def database(self):
        """Make an empty database and return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(
            self.url.replace("+psycopg", ""), autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"{self.url.rpartition('/')[0]}/{name}"


@functools.cache
def server():
    """Return this test run's server, started when first asked for; skip where there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: int(path.parts[4]),
    )
    if not found:
        pytest.skip(
            "needs PostgreSQL: apt-get install --no-install-recommends postgresql"
        )
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, to run PostgreSQL as another user than root")
    return Server(found[-1].parent)
