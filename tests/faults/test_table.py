"""The table in docs/faults.md names every test of this folder, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import ROOT


def test_the_table_names_every_test() -> None:
    named = re.findall(
        r"`tests/faults/(test_\w+)\.py::(\w+)`", (ROOT / "docs" / "faults.md").read_text("utf-8")
    )
    there = [
        (path.stem, name)
        for path in Path(__file__).parent.glob("test_*.py")
        if path != Path(__file__)
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(named) == sorted(there)
