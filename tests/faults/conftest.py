"""The fault suite: real processes, killed, cut off and damaged. `make faults`; not a part of `make test`."""

import os
import shutil
import sys
import tempfile
from functools import cache

import pytest
from conftest import HANGS, ROOT, environment, process
from faults.drivers import Driver
from faults.sales import Sales
from support import postgresql

NAMESPACE = ["unshare", "--map-root-user", "--mount"]


@pytest.fixture
def sales(tmp_path):
    """Sales files that land in a folder as a test goes on, and their truth."""
    return Sales(tmp_path / "in")


@pytest.fixture
def launch(tmp_path, temporary):
    """Start a driver, in a session of processes of its own; what is left of it at the end is killed."""
    drivers: list[Driver] = []
    home = tmp_path / "home"
    home.mkdir()

    def start(launcher, script, *args, **env):
        drivers.append(Driver(launcher, script, args, home, environment(**temporary, **env)))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.remove()


@cache
def _mounts():
    """Return the words that let a command mount: none, of sudo, of a user namespace; None if nothing does."""
    for words in ([], ["sudo", "-n"], NAMESPACE):
        with tempfile.TemporaryDirectory() as folder:
            try_it = ["sh", "-c", 'mount -t tmpfs none "$0" && umount "$0"', folder]
            if shutil.which(words[0] if words else "sh") and not process([*words, *try_it]).returncode:
                return words
    return None


@pytest.fixture
def small_disk(tmp_path):
    """An empty file system of eight megabytes."""
    disk, words = tmp_path / "disk", _mounts()
    disk.mkdir()
    if words is None:
        pytest.skip("needs a disk of its own: root, sudo without a password, or user namespaces")
    if words == NAMESPACE:
        yield None  # the test runs in the namespace, where nobody here sees the disk
        return
    options = f"size=8m,uid={os.getuid()}"
    process([*words, "mount", "-t", "tmpfs", "-o", options, "faults", disk], check=True)
    try:
        yield disk
    finally:
        # Lazily if need be: it must be gone before anything removes the folder.
        if process([*words, "umount", disk]).returncode:
            process([*words, "umount", "--lazy", disk], check=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Where only a user namespace may mount, run a test with a small disk in one, by a pytest of its own."""
    if "small_disk" not in pyfuncitem.funcargs or pyfuncitem.funcargs["small_disk"] is not None:
        return None
    there = f"--basetemp={pyfuncitem.funcargs['tmp_path'] / 'there'}"
    pytest_there = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", there]
    without = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    node = f"{pyfuncitem.path}::{pyfuncitem.name}"
    done = process(
        [*NAMESPACE, *pytest_there, node],
        env=without | {"PART": "", "ORDER": ""},
        cwd=ROOT,
        timeout=3 * HANGS,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    return True


@pytest.fixture
def server():
    """A real PostgreSQL."""
    return postgresql.server()
