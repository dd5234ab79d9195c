"""docs/wrong.md has a row for each message that ends a stream or refuses a restart.

Other messages say their fix.
"""

import ast
import re
from pathlib import Path

from conftest import ROOT

import sparkstream_kit

PACKAGE = Path(sparkstream_kit.__file__).parent
# Where the messages are made that end a running stream, refuse one that starts again,
# or judge a run.
STOPS = (
    "checkpoints/*.py",
    "sinks/ledger.py",
    "sinks/plans.py",
    "sinks/folders.py",
    "sinks/directories.py",
    "sinks/batches.py",
    "queries.py",
    "runs.py",
    "verdicts.py",
    "checkpoints/operate/evolve.py",
    "checkpoints/operate/check.py",
    "connectors/_tables.py",
    "connectors/_arrow.py",
    "connectors/__init__.py",
    "sinks/routing.py",
    "_internal/spark/batch.py",
    "connectors/sql_table/table.py",
    "connectors/mongodb/collection.py",
    "connectors/kinesis/source.py",
    "connectors/iceberg/table.py",
    "connectors/delta/rust.py",
    "connectors/delta/writers.py",
    "connectors/kafka/brokers.py",
    "connectors/kafka/transactions.py",
)
MESSAGE = re.compile(
    r"(Error|Failed|Damaged|Unavailable|Remark|Verdict)$|^(warning|error)$"
)
# Three words: less is a name, or a part of a message
PROSE = re.compile(r"[a-z]+( [a-z]+){2,}")


def rows():
    """Return the words of messages, by the line of the page that has them."""
    page = (ROOT / "docs" / "wrong.md").read_text("utf-8")
    first = re.findall(
        r"^\| ([^|]*) \|",
        page.partition("## By the words of a message")[2],
        re.MULTILINE,
    )
    return [words for cell in first for words in re.findall(r"`([^`]+)`", cell)]


def simple_statements(tree):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and not hasattr(node, "body")
    ]


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def text_of(statement):
    """Return the constant parts of a statement's texts, with … for what is filled in."""
    nodes = [
        node.value for node in ast.walk(statement) if isinstance(node, ast.Constant)
    ]
    return "…".join(value for value in nodes if isinstance(value, str))


def names_called(statement):
    calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return [getattr(call, "id", getattr(call, "attr", "")) for call in calls]


def messages(path):
    """Yield a module's messages: each text that is raised, logged or built with a fix."""
    for statement in simple_statements(ast.parse(path.read_text("utf-8"))):
        text = text_of(statement)
        made = any(map(MESSAGE.search, names_called(statement)))
        if (
            PROSE.search(text)
            and not is_docstring(statement)
            and (made or "; " in text)
        ):
            yield f"{path.relative_to(PACKAGE)}:{statement.lineno}", text


STOPPING = dict(
    found
    for each in STOPS
    for path in sorted(PACKAGE.glob(each))
    for found in messages(path)
)


def test_each_message_that_stops_a_stream_has_its_row():
    known = rows()
    assert {
        at: text
        for at, text in STOPPING.items()
        if not any(words in text for words in known)
    } == {}


def test_each_row_has_words_of_a_message():
    texts = [text for path in PACKAGE.rglob("*.py") for _, text in messages(path)]
    assert [words for words in rows() if not any(words in text for text in texts)] == []


def test_each_other_message_says_its_fix():
    found = {
        f"{path.relative_to(PACKAGE)}:{statement.lineno}": text_of(statement)
        for path in PACKAGE.rglob("*.py")
        for statement in simple_statements(ast.parse(path.read_text("utf-8")))
        if "InvalidInputError" in names_called(statement)
    }
    found = {
        at: text
        for at, text in found.items()
        if at not in STOPPING and len(text.split()) > 6
    }
    # What to do, or which values there are
    fix = re.compile(r"[;:] |such as |must |needs |, not $")
    assert {at: text for at, text in found.items() if not fix.search(text)} == {}
    assert len(found) > 150
