"""The fault suite: real processes, killed, cut off and damaged. `make faults`; not a part of `make test`."""

import subprocess

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


@pytest.fixture
def small_disk(tmp_path):
    """An empty file system of eight megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = process(["mount", "-t", "tmpfs", "-o", "size=8m", "faults", str(disk)])
    if done.returncode:
        pytest.skip(f"needs a tmpfs, and mount says: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        # Lazily if need be: it must be gone before anything removes the folder.
        if subprocess.run(["umount", str(disk)], capture_output=True, check=False).returncode:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def server():
    """A real PostgreSQL."""
    return postgresql.server()
