"""The fault suite: real processes, killed, cut off and damaged.

`make faults` runs it; it is not a part of `make test`.
"""

import os
import shutil
import tempfile
from functools import cache

import pytest
from conftest import environment, process
from faults.drivers import Driver
from faults.sales import Sales
from support import postgresql


@pytest.fixture
def sales(tmp_path):
    """Sales files that land in a folder as a test goes on, and their truth."""
    return Sales(tmp_path / "in")


@pytest.fixture
def launch(tmp_path, temporary):
    """Start a driver in its own session of processes; what is left is killed at the end."""
    drivers: list[Driver] = []
    home = tmp_path / "home"
    home.mkdir()

    def start(launcher, script, *args, **env):
        drivers.append(
            Driver(launcher, script, args, home, environment(**temporary, **env))
        )
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.remove()


@cache
def _mounts():
    """Return the words that let a command mount: none, or those of sudo; None if nothing does."""
    for words in ([], ["sudo", "-n"]):
        with tempfile.TemporaryDirectory() as folder:
            try_it = ["sh", "-c", 'mount -t tmpfs none "$0" && umount "$0"', folder]
            if (
                shutil.which(words[0] if words else "sh")
                and not process([*words, *try_it]).returncode
            ):
                return words
    return None


@pytest.fixture
def small_disk(tmp_path):
    """An empty file system of eight megabytes."""
    disk, words = tmp_path / "disk", _mounts()
    disk.mkdir()
    if words is None:
        pytest.skip("needs a disk of its own: root, or sudo without a password")
    process(
        [
            *words,
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size=8m,uid={os.getuid()}",
            "faults",
            disk,
        ],
        check=True,
    )
    try:
        yield disk
    finally:
        # Lazily if need be: it must be gone before anything removes the folder.
        if process([*words, "umount", disk]).returncode:
            process([*words, "umount", "--lazy", disk], check=True)


@pytest.fixture
def server():
    """A real PostgreSQL."""
    return postgresql.server()
