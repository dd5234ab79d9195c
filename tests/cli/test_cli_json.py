"""What docs/json.md says of the answers to programs is what they have."""

import dataclasses
import re

import pytest
from cli.test_cli import commands
from conftest import ROOT

from sparkstream_kit.checkpoints import Checkpoint
from sparkstream_kit.checkpoints.operate.check import Problem, State
from sparkstream_kit.checkpoints.operate.find import Found
from sparkstream_kit.checkpoints.operate.show import Source
from sparkstream_kit.cli.doctor import Finding
from sparkstream_kit.cli.topics import Described
from sparkstream_kit.progress import QuerySummary, RunSummary, Verdict

PAGE = (ROOT / "docs" / "json.md").read_text("utf-8")
# Each part of the page, and the values whose fields it names, by what stands before
# their names there.
PARTS: dict[str, dict[str, type]] = {
    "sparkstream doctor --json": {"findings": Finding},
    "sparkstream checkpoint show DIR --json": {
        "checkpoint": Checkpoint,
        "checkpoint.sources": Source,
        "checkpoint.states": State,
    },
    "sparkstream checkpoint check DIR --json": {"problems": Problem},
    "sparkstream checkpoint find DIR WHAT --json": {"found": Found},
    "--summary-json FILE": {"": RunSummary, "queries": QuerySummary},
}
MORE = {"--summary-json FILE": {"error"}}  # which are not fields of a value


def named(part):
    """Return the fields that a part of the page names."""
    text = PAGE.partition(f"\n## `{part}`")[2].partition("\n## ")[0]
    return {
        name
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall("`(.*?)`", row)
    }


def fields(value, before):
    """Return the fields of a value that JSON has, with what stands before them."""
    return {
        f"{before}.{each.name}".strip(".")
        for each in dataclasses.fields(value)
        if each.repr
    }


@pytest.mark.parametrize("part", PARTS)
def test_the_page_names_each_field_and_no_other(part):
    expected = set().union(
        *(fields(value, before) for before, value in PARTS[part].items())
    )
    tops = {before.partition(".")[0] for before in PARTS[part]} - {""}
    assert named(part) - tops == expected - tops | MORE.get(part, set())


def test_the_page_names_each_field_of_a_topic():
    part = "sparkstream schema PATH --json"
    found = {name for name in named(part) if name.startswith("topic.")}
    assert found == fields(Described, "topic")


def test_the_page_names_the_fields_of_a_verdict_and_each_command_that_has_json():
    [row] = re.findall(r"\| `queries.verdicts` \| (.*) \|", PAGE)
    assert {field.name for field in dataclasses.fields(Verdict)} <= {
        *re.findall(r"`(\w+)`", row)
    }

    parts = {
        re.sub(r" [A-Z]+", "", part)
        for part in re.findall(r"## `sparkstream (.*) --json`", PAGE)
    }
    has = {
        " ".join(words)
        for words, command in commands()
        if any("--json" in each.opts for each in command.params)
    }
    assert parts == has
