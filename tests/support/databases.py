"""What the tests' database servers share: own user, own folder, a crash, an end."""

import atexit
import os
import pwd
import secrets
import shutil
import tempfile
from pathlib import Path

from conftest import process
from systems.daemons import Daemon


class DatabaseServer:
    """A running server, which can be stopped at any point and restarted on the same data.

    Args:
        name: of the system.
        user: who runs it where the tests are root's: as root it refuses to run.
        crash: the signal that stops it at once.

    Attributes:
        password: of its user `kit`, made anew for each server.
    """

    _server: Daemon

    def __init__(self, name, user, crash):
        self._name, self._crash = name, crash
        self._home = Path(tempfile.mkdtemp(prefix=f"sparkstream-{name.lower()}-"))
        self._as_user = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam(user)
            os.chown(self._home, owner.pw_uid, owner.pw_gid)  # who must reach its data
            # It ends with this process; a change of user would forget that, so that it
            # is said here too.
            ends = f"--pdeathsig={crash.name.removeprefix('SIG')}"
            self._as_user = [
                "setpriv",
                f"--reuid={user}",
                f"--regid={user}",
                "--init-groups",
                ends,
            ]
        self.password = secrets.token_hex(12)

    def _install(self, *command):
        done = process([*self._as_user, *command], cwd=self._home)
        assert done.returncode == 0, done.stderr

    def _begin(self, *command):
        self._server = Daemon(
            self._name, [*self._as_user, *map(str, command)], self._home / "log"
        )
        atexit.register(self.remove)
        self.start()

    def start(self):
        """Start the server, unless it runs, and wait until it answers."""
        self._server.start()
        self._server.until(self._answers)

    def _answers(self):
        raise NotImplementedError

    def stop(self):
        """Stop the server at once, as a crash does: it waits for no transaction and no client."""
        self._server.stop(self._crash)

    def remove(self):
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)
