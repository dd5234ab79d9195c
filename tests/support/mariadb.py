"""A MariaDB server for the tests: Debian's, on a free port, with data in a temporary folder."""

import functools
import secrets
import shutil
import signal

import pymysql
import pytest
from support.databases import DatabaseServer
from support.ports import free_ports


class Server(DatabaseServer):
    """A running MariaDB."""

    def __init__(self, program):
        super().__init__("MariaDB", "mysql", signal.SIGKILL)
        # At its start it removes the temporary tables of every MariaDB that has the
        # same folder for them.
        data = [f"--datadir={self._home}/data", f"--tmpdir={self._home}"]
        made = ["mariadb-install-db", "--no-defaults", *data, "--skip-test-db"]
        self._install(*made, "--auth-root-authentication-method=normal")
        [self._port] = free_ports(1)
        self._socket = f"{self._home}/socket"
        places = [*data, f"--socket={self._socket}", f"--pid-file={self._home}/pid"]
        self._begin(
            program,
            "--no-defaults",
            *places,
            f"--port={self._port}",
            "--bind-address=127.0.0.1",
        )
        self._execute(f"CREATE USER kit@'127.0.0.1' IDENTIFIED BY '{self.password}'")
        self._execute("GRANT ALL ON *.* TO kit@'127.0.0.1'")

    def database(self):
        """Make an empty database and return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        # The collation that a server has by itself, which takes "a" and "A" for the
        # same.
        self._execute(f"CREATE DATABASE {name} CHARACTER SET latin1")
        return f"mariadb+pymysql://kit:{self.password}@127.0.0.1:{self._port}/{name}"

    def user(self, name, password):
        """Make a user who may do everything."""
        self._execute("CREATE USER %s@'127.0.0.1' IDENTIFIED BY %s", (name, password))
        self._execute("GRANT ALL ON *.* TO %s@'127.0.0.1'", (name,))

    def _answers(self):
        try:
            self._execute("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def _execute(self, statement, values=None):
        with (
            pymysql.connect(unix_socket=self._socket, user="root") as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, values)


@functools.cache
def server():
    """Return this test run's server, started when first asked for; skip where there is none."""
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    if program is None:
        pytest.skip(
            "needs MariaDB: apt-get install --no-install-recommends mariadb-server"
        )
    return Server(program)
