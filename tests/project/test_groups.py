"""Tests of one group share a worker, and with it what they start: servers, JVMs, kernels."""

import sys

import pytest
from conftest import process

TESTS = """
import os
import pytest

pytestmark = pytest.mark.xdist_group("server")

@pytest.mark.parametrize("number", range(6))
def test_where(number, request):
    (request.path.parent / f"worker {number}").write_text(os.environ["PYTEST_XDIST_WORKER"])
"""


@pytest.mark.slow
def test_a_group_of_tests_stays_on_one_worker(tmp_path):
    (tmp_path / "test_where.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "3",
        "--dist",
        "loadgroup",
        "-p",
        "no:sparkstream",
    ]
    done = process([*command, str(tmp_path)], cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    workers = [file.read_text() for file in tmp_path.glob("worker *")]
    assert (len(workers), len(set(workers))) == (6, 1)
