"""The table in docs/faults.md names every test of this folder, and of other folders such as there are."""

import re
from pathlib import Path

from conftest import ROOT

TABLE = (ROOT / "docs" / "faults.md").read_text("utf-8")


def test_the_table_names_every_test():
    named = re.findall(r"`tests/faults/(test_\w+)\.py::(\w+)`", TABLE)
    there = [
        (path.stem, name)
        for path in Path(__file__).parent.glob("test_*.py")
        if path != Path(__file__)
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(named) == sorted(there)


def test_each_test_that_a_page_names_is_there():
    pages = [path.read_text("utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))]
    named = re.findall(r"`(tests/[a-z\d_/]+\.py)(?:::(\w+))?`", "".join(pages))
    assert len(named) > len(TABLE.splitlines()) / 2
    for file, name in named:
        assert re.search(rf"^def {name}\b" if name else "", (ROOT / file).read_text("utf-8"), re.MULTILINE), (
            f"{file}::{name}"
        )
