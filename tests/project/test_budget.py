"""The list of fast tests that take long: each is there, and there are not more of them than there were."""

from conftest import ROOT
from support.budget import OVER


def test_the_list_only_shrinks_and_each_of_it_is_there():
    gone = [name for name in OVER if f"def {name.partition('::')[2]}(" not in _text(name)]
    assert gone == []
    assert len(OVER) <= 55, "make a test shorter, or slow, before another one may take long"


def _text(name):
    file = ROOT / name.partition("::")[0]
    return file.read_text("utf-8") if file.is_file() else ""
