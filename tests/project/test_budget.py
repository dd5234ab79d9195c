"""The list of fast tests that take long: each is there, and there are not more of them than there were."""

import re

from conftest import ROOT
from support.budget import OVER


def test_the_list_only_shrinks_and_each_of_it_is_there_once():
    there = [
        f"{path.name}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE)
    ]
    found = {name: sum(each.endswith(name) for each in there) for name in OVER}
    assert {name: count for name, count in found.items() if count != 1} == {}
    assert len(OVER) <= 52, "make a test shorter, or slow, before another one may take long"
