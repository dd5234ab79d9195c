"""What the tests of real systems share: the jars of each, which `scripts/systems.sh` fetches."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless they are asked for by their path: they start servers."""
    return None if any("systems" in arg for arg in config.args) else True


@pytest.fixture(scope="session", autouse=True)
def connector_jars() -> Path:
    """The folder of the jars that Spark needs, named by SPARKSTREAM_JARS for all that is started."""
    os.environ["SPARKSTREAM_JARS"] = str(jars("spark"))
    return jars("spark")


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def jars(name: str) -> Path:
    """Return the folder with the jars of a system, fetched where they are missing."""
    subprocess.run([ROOT / "scripts" / "systems.sh", name], check=True)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "sparkstream-kit" / "systems" / name
