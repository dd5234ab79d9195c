"""A MariaDB server for the tests: Debian's, on a free port, with data in a temporary folder."""

import atexit
import functools
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import pymysql
from conftest import missing, process
from support.ports import free_ports
from systems.daemons import Daemon


class Server:
    """A running server, which can be stopped in the middle of things and started again on the same data.

    Attributes:
        password: of its user `kit`, made anew for each server.
    """

    def __init__(self, program):
        self._home = Path(tempfile.mkdtemp(prefix="sparkstream-mariadb-"))
        as_user = []
        if os.geteuid() == 0:  # as root it refuses to run; its own user must reach its data
            user = pwd.getpwnam("mysql")
            os.chown(self._home, user.pw_uid, user.pw_gid)
            # It ends with this process; a change of user would forget that, so that it is said here too.
            as_user = ["setpriv", "--reuid=mysql", "--regid=mysql", "--init-groups", "--pdeathsig=KILL"]
        # At its start it removes the temporary tables of every MariaDB that has the same folder for them.
        data = [f"--datadir={self._home}/data", f"--tmpdir={self._home}"]
        made = ["mariadb-install-db", "--no-defaults", *data, "--skip-test-db"]
        done = process([*as_user, *made, "--auth-root-authentication-method=normal"], cwd=self._home)
        assert done.returncode == 0, done.stderr
        self.password = secrets.token_hex(12)
        [self._port] = free_ports(1)
        self._socket = f"{self._home}/socket"
        places = [*data, f"--socket={self._socket}", f"--pid-file={self._home}/pid"]
        address = [f"--port={self._port}", "--bind-address=127.0.0.1"]
        command = [*as_user, program, "--no-defaults", *places, *address]
        self._server = Daemon("MariaDB", command, self._home / "log")
        self.start()
        self._execute(f"CREATE USER kit@'127.0.0.1' IDENTIFIED BY '{self.password}'")
        self._execute("GRANT ALL ON *.* TO kit@'127.0.0.1'")
        atexit.register(self.remove)

    def database(self):
        """Make an empty database and return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        # The collation that a server has by itself, which takes "a" and "A" for the same.
        self._execute(f"CREATE DATABASE {name} CHARACTER SET latin1")
        return f"mariadb+pymysql://kit:{self.password}@127.0.0.1:{self._port}/{name}"

    def start(self):
        """Start the server, unless it runs, and wait until it answers."""
        self._server.start()
        self._server.until(self._answers)

    def stop(self):
        """Kill the server, as a crash does."""
        self._server.stop(signal.SIGKILL)

    def remove(self):
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _answers(self):
        try:
            self._execute("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def _execute(self, statement):
        with (
            pymysql.connect(unix_socket=self._socket, user="root") as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


@functools.cache
def server():
    """Return the server of this test run, started when it is first asked for; skip where there is none."""
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    if program is None:
        missing("needs MariaDB: apt-get install --no-install-recommends mariadb-server")
    return Server(program)
