"""The list of skips that CI allows has what tests say; any other skip is a failure."""

import sys

import pytest
from conftest import PARTS, ROOT, process
from support.skips import ALLOWED

SKIPS = """
import pytest

def test_allowed():
    pytest.skip("no IPv6 on this machine")

@pytest.mark.skipif(True, reason="needs actionlint (CONTRIBUTING, a workflow)")
def test_allowed_by_a_mark(): ...

def test_not_allowed():
    pytest.skip("needs a server")

@pytest.mark.skip(reason="needs a day off")
def test_not_allowed_by_a_mark(): ...
"""


@pytest.mark.slow
def test_a_skip_that_no_name_allows_is_a_failure_in_ci(tmp_path, monkeypatch):
    (tmp_path / "test_skips.py").write_text(SKIPS)
    monkeypatch.setenv("CI_NO_SKIPS", "1")
    for part in PARTS:  # the tests of this file are a part of none
        monkeypatch.delenv(part, raising=False)
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "conftest", f"--rootdir={ROOT}"]
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}:{ROOT}")
    done = process([sys.executable, "-m", "pytest", *quiet, tmp_path / "test_skips.py"])
    assert "1 failed, 2 skipped, 1 error" in done.stdout, done.stdout + done.stderr
    assert (
        "skipped, which CI does not allow (tests/support/skips.py): needs a server"
        in done.stdout
    )


def test_each_name_of_the_list_is_that_of_a_skip():
    texts = [
        path.read_text()
        for path in (ROOT / "tests").rglob("*.py")
        if not path.name.endswith("skips.py")
    ]
    assert [
        name for name in ALLOWED if not any(f'"{name}' in text for text in texts)
    ] == []
