"""`make versions`: it fails if one of its runs does."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/usr/bin/env bash
# Stands for the Python of an environment: pip works, and of the four runs of pytest one fails.
case "$*" in *version_info*) echo 3.11 ;; *"$FAILS"*) exit 1 ;; esac
"""


@pytest.mark.parametrize(
    ("fails", "exit_code"),
    [
        ("loadgroup", 1),
        ("tests/faults", 1),
        ("test_pipelines", 1),
        ("test_sinks", 1),
        ("no run", 0),
    ],
)
def test_one_run_that_fails_is_a_failure(fails, exit_code, tmp_path):
    bin_ = tmp_path / "sparkstream-kit/versions/4.2.0-3.11/bin"
    bin_.mkdir(parents=True)
    (bin_.parent / "ready").touch()
    for name in ("python", "sparkstream"):
        (bin_ / name).write_text(PYTHON)
        (bin_ / name).chmod(0o755)
    env = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHON": str(bin_ / "python"),
        "FAILS": fails,
    }
    done = subprocess.run(
        ["bash", ROOT / "scripts/versions.sh", "4.2.0"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    assert done.stderr == ("failed on: 4.2.0-3.11\n" if exit_code else "")
