"""Each row of docs/faults.md is shown by tests of the suites; each test here shows one."""

import re
import sys
from pathlib import Path

from conftest import ROOT, environment, process

# The rows of the tables of faults, each below a heading; other tables have no third
# column.
ROWS = re.findall(
    r"^\| (?!fault |--- ).+ \| .+ \| .+ \|$",
    (ROOT / "docs" / "faults.md").read_text("utf-8"),
    re.MULTILINE,
)
NAMED = {line: re.findall(r"`(tests/[a-z\d_/]+\.py::\w+)`", line) for line in ROWS}
IN_SLOW = re.compile(r" \(in `make test-slow`\) \|$")


def test_each_line_is_shown_by_a_test_that_runs_where_the_page_says():
    """A test that CI collects was run: one that is skipped there has failed."""
    files = sorted(
        {test.partition("::")[0] for named in NAMED.values() for test in named}
    )
    collect = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-m",
        "not slow",
        *files,
    ]
    printed = process(collect, cwd=ROOT, env=environment()).stdout
    fast = {line.partition("[")[0] for line in printed.splitlines()}
    shown = {line for line, named in NAMED.items() if fast & {*named}}
    assert shown == {line for line in NAMED if not IN_SLOW.search(line)}


def test_each_test_of_this_folder_shows_a_line():
    there = {
        f"tests/faults/{path.name}::{name}"
        for path in Path(__file__).parent.glob("test_*.py")
        if path != Path(__file__)
        for name in re.findall(
            r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE
        )
    }
    assert there == {
        test
        for named in NAMED.values()
        for test in named
        if test.startswith("tests/faults/")
    }


def test_each_test_that_a_page_names_is_there():
    pages = [
        path.read_text("utf-8")
        for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    ]
    named = re.findall(r"`(tests/[a-z\d_/]+\.py)(?:::(\w+))?`", "".join(pages))
    assert len(named) > len(NAMED)
    for file, name in named:
        assert re.search(
            rf"^def {name}\b" if name else "",
            (ROOT / file).read_text("utf-8"),
            re.MULTILINE,
        ), f"{file}::{name}"
