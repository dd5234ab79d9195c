"""docs/wrong.md leads from the words of each message of the kit to its cause and its fix.

The messages are those of the source: its texts, with … for what is filled in.
"""

import ast
import re
from collections import defaultdict
from functools import cache
from typing import NamedTuple

import pytest
from conftest import ROOT

from sparkstream_kit import errors
from sparkstream_kit._internal import arguments
from sparkstream_kit.checkpoints import input_files
from sparkstream_kit.sources import files

# One process reads the source: that takes three seconds, and is not slow, as whoever
# changes a message is to hear of its entry.
pytestmark = pytest.mark.xdist_group("messages")

PAGE = (ROOT / "docs" / "wrong.md").read_text("utf-8")
TOP, _, LISTED = PAGE.partition("## By the words of a message\n")
HOLE = "…"
# Calls that make a message: besides the kit's exceptions, which the source itself names,
# these log one, refuse a flag, or end the connection of a feeder.
ALSO = {
    "ArgumentTypeError",
    "AttributeError",
    "HTTPException",
    "Remark",
    "TurnedAway",
    "Verdict",
    "error",
    "warning",
}
# A call of it names a library and an extra, of which the class makes the message.
ALSO_NOT = {"MissingExtraError"}
# A text outside of these calls is a message if it has a cause, a semicolon and a fix; but
# not in modules that print results, help or pictures.
RESULTS = (
    "sparkstream_kit/_internal/timeline.py",  # windows explain
    "sparkstream_kit/checkpoints/operate/show.py",
    "sparkstream_kit/cli/app.py",  # what has been done
    "sparkstream_kit/cli/contracts.py",  # a report
    "sparkstream_kit/cli/doctor.py",  # a report, of which each line has its fix
    "sparkstream_kit/cli/feeding.py",  # what has been done
    "sparkstream_kit/feeds/generators/",  # made-up input
    "sparkstream_kit/jobflags/groups.py",  # --help
    "sparkstream_kit/monitoring/page.py",  # what a browser gets
    "sparkstream_kit/schemas/changes.py",  # a report
)
# Messages without an entry that has their words, and why.
EXCEPTIONS = {
    " is no …; …; ": "its words are a type: `is no int`",
    "(?P<quoted>(?:[^']|'')*)": "a regular expression",
    "Kafka at …: …": "has the words of Kafka's client",
    "at least once; exactly once with": "a promise",
    "cannot read …: …": "its words are the thing: `cannot read DDL`",
    "from sparkstream_kit.cli.archive import": "a program",
    "from … import …; …(…)": "a program",
    "nothing is written meanwhile": "a part of a dry run's report",
    "posts of %s: %s": "logs other messages",
    "query %s: %s%s; %s": "logs what `is planned to be read and has gone`",
    "schedules, 0 differences": "a test that has passed",
    "sources.kafka(): …": "has the words of Spark",
    "the server …: …; see …": "has the words of the server's log",
    'trap "" INT; exec': "a program",
    "… ¦ is empty": "a phrase after `is damaged:`",
    "…(): … is …; …": "its words are the type's: see KINDS",
    "… is …; give …": "its words are the option's: see _OF_STREAMS",
}
# Words of a message that the source puts together, and the parts that it has.
COMPOSED = {
    "cannot read DDL": ("cannot read ", "DDL "),
    "is no date": (" is no ", "date"),
    "is no decimal(5,2)": (" is no ",),
    "is no int": (" is no ",),
    "is no timestamp": (" is no ", "timestamp"),
}
MOST = 10  # messages that the words of an entry may be in
# What a message says to do, or which values there are
FIX = re.compile(r"[;:] |such as |must |needs |, not $")
# Refusals without it, and why.
WITHOUT_A_FIX = {
    "and cannot go back to": "of a test, which has the time",
    "is no checkpoint (no metadata": "the fix follows if one is known",
    "was removed while a query started": "another start",
}
KINDS = [words for words, _ in arguments._KINDS.values()]  # noqa: SLF001
FIXES = [
    *arguments._FIXES.values(),  # noqa: SLF001
    *(words for _, words in files._OF_STREAMS.values()),  # noqa: SLF001
    # What a run says of files
    *(
        vars(input_files)[name]
        for name in ("_CHANGED", "_GONE", "_AHEAD", "_HIDING", "_HIDDEN")
    ),
    *input_files.PASSED_OVER.values(),
]

# --- the page


class Entry(NamedTuple):
    """The words of messages, and what explains them."""

    words: tuple[str, ...]
    answer: str


CODE = r"``.+?``|`[^`]+`"


def entries():
    """Return the entries of the page, each on one line."""
    found = []
    for text in re.findall(
        r"^- (.*?)(?=\n- |\n\n|\Z)", LISTED, re.DOTALL | re.MULTILINE
    ):
        line = re.sub(r"\s+", " ", text)
        head = re.match(rf"(?:{CODE})(?:, (?:{CODE}))*: ", line)
        assert head, f"{line[:70]} begins with no words of a message"
        words = [word.strip("`").strip() for word in re.findall(CODE, head[0])]
        found.append(Entry(tuple(words), line[head.end() :]))
    return found


ENTRIES = entries()
WORDS = [word for entry in ENTRIES for word in entry.words]

# --- the messages in the source


@cache
def modules():
    """Return the parsed modules of the package and of the jobs, by their paths."""
    paths = [*(ROOT / "sparkstream_kit").rglob("*.py"), *(ROOT / "jobs").glob("*.py")]
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8"))
        for path in sorted(paths)
    }


def name_of(node):
    return getattr(node, "id", getattr(node, "attr", ""))


@cache
def makers():
    """Return the names of the calls that make a message."""
    classes = [
        (node.name, {name_of(base) for base in node.bases})
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    kit = {"KitError"}
    while more := {name for name, bases in classes if bases & kit} - kit:
        kit |= more
    return frozenset(kit | ALSO) - ALSO_NOT


def text_of(node, names, depth=3):
    """Return the text of an expression, with … for what is filled in and ¦ between choices.

    Args:
        node: the expression.
        names: what is assigned to each name where the expression stands.
        depth: how many names are followed.
    """

    def text(inner):
        return text_of(inner, names, depth)

    match node:
        case ast.Constant(value=str(value)):
            found = value
        case ast.JoinedStr(values=parts):
            found = "".join(map(text, parts))
        case ast.FormattedValue(value=value):
            found = text(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            found = text(left) + text(right)
        case ast.IfExp(body=body, orelse=other):
            found = f"{text(body)} ¦ {text(other)}"
        case ast.BoolOp(values=values):
            found = " ¦ ".join(map(text, values))
        case ast.Name(id=name) if depth and name in names:
            each = [text_of(value, names, depth - 1) for value in names[name]]
            found = " ¦ ".join(each)
        case _:
            found = HOLE
    return found


def words_in(text):
    return re.findall(r"[^\W\d_]{2,}", text.replace(HOLE, " "))


def assigned(scope):
    """Return what a module or a function assigns to each of its names."""
    found = defaultdict(list)

    def look(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                continue
            if isinstance(child, ast.Assign | ast.AugAssign | ast.AnnAssign):
                targets = getattr(child, "targets", [getattr(child, "target", None)])
                if len(targets) == 1 and isinstance(targets[0], ast.Name):
                    found[targets[0].id].append(child.value)
            look(child)

    look(scope)
    return dict(found)


def statements(node, names):
    """Yield each simple statement that is no docstring, with what names stand for in it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield from statements(child, names | assigned(child))
        elif not isinstance(child, ast.stmt) or hasattr(child, "body"):
            yield from statements(child, names)
        elif not (
            isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        ):
            yield child, names


def is_text(node):
    is_plain = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_plain or isinstance(node, ast.JoinedStr)


class Statement(NamedTuple):
    """A simple statement of the source that has a text, or makes a message of one."""

    place: str
    nodes: list[ast.AST]
    names: dict[str, list[ast.expr]]


@cache
def with_texts():
    """Return the simple statements of the source that have a text or make a message."""
    found = []
    for path, tree in modules().items():
        for statement, names in statements(tree, assigned(tree)):
            nodes = list(ast.walk(statement))
            if any(is_text(node) or makes(node) for node in nodes):
                found.append(Statement(f"{path}:{statement.lineno}", nodes, names))
    return found


def makes(node):
    return isinstance(node, ast.Call) and name_of(node.func) in makers()


def made_in(nodes, names):
    """Yield the calls among a statement's nodes that make a message, each with its text."""
    for node in nodes:
        if not (isinstance(node, ast.Call) and node.args):
            continue
        if name_of(node.func) == "reject_unknown":
            yield node, f"unknown {text_of(node.args[0], names)} {HOLE}"
        elif name_of(node.func) in makers():
            own = " ¦ ".join(text_of(each, {}) for each in node.args)
            full = " ¦ ".join(text_of(each, names) for each in node.args)
            # Else the message shows one that is made elsewhere
            if len(words_in(own)) > 1 or len(words_in(full)) > 3:
                yield node, full


def others_in(nodes, without):
    """Yield the other texts of a statement that have a cause, a semicolon and a fix."""
    passed = {id(inner) for node in without for inner in ast.walk(node)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            passed |= {id(inner) for inner in ast.walk(node) if inner is not node}
        if isinstance(node, ast.keyword) and node.arg == "help":
            passed |= {id(inner) for inner in ast.walk(node)}
    for node in filter(is_text, nodes):
        if id(node) not in passed:
            text = text_of(node, {})
            if re.search(r"\w.*; \S", text, re.DOTALL):
                yield node, text


@cache
def messages():
    """Return each message of the source, by the place of its text."""
    found = {}
    for place, nodes, names in with_texts():
        made = list(made_in(nodes, names))
        if not place.startswith(RESULTS):
            made += others_in(nodes, [node for node, _ in made])
        for number, (_, text) in enumerate(made):
            found[f"{place} {number}"] = text
    return found


@cache
def texts():
    """Return all texts of the source: also messages without a fix, such as a warning's."""
    nodes = [node for tree in modules().values() for node in ast.walk(tree)]
    plain = {text_of(node, {}) for node in nodes if is_text(node)}
    return frozenset(plain | {*messages().values()})


# --- what the page holds


@cache
def without_an_entry():
    """Return the messages of which the page has no words, by the place of their texts."""
    return {
        at: text
        for at, text in messages().items()
        if not any(word in text for word in WORDS)
    }


def test_the_words_of_each_message_are_on_the_page():
    missing = {
        at: text
        for at, text in without_an_entry().items()
        if not any(part in text for part in EXCEPTIONS)
    }
    assert missing == {}, "give each an entry: cause and fix"
    assert len(messages()) > 700


@pytest.mark.parametrize("part", EXCEPTIONS)
def test_an_exception_is_for_one_message(part):
    assert len({text for text in without_an_entry().values() if part in text}) == 1


def test_the_words_of_each_entry_are_those_of_a_message():
    known = set(COMPOSED)
    wrong = [
        word
        for word in WORDS
        if word not in known
        and not any(word in text for text in texts())
        and not any(f"give {kind}".startswith(word) for kind in KINDS)
    ]
    assert wrong == []
    parts = [part for word in COMPOSED for part in COMPOSED[word]]
    assert [part for part in parts if not any(part in text for text in texts())] == []


def test_the_words_of_an_entry_are_not_those_of_many_messages():
    counts = {word: sum(word in text for text in messages().values()) for word in WORDS}
    assert {word: count for word, count in counts.items() if count > MOST} == {}
    assert [word for word in WORDS if len(word) < 8] == []


@pytest.mark.parametrize("words", KINDS)
def test_each_type_of_an_argument_is_on_the_page(words):
    """`check` makes its messages of these words."""
    assert any(f"give {words}".startswith(word) for word in WORDS)


@pytest.mark.parametrize("fix", FIXES)
def test_each_fix_of_a_table_is_on_the_page(fix):
    assert any(word.removeprefix("give ") in fix for word in WORDS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.words[0])
def test_an_entry_is_short_and_explains(entry):
    plain = re.sub(rf"{CODE}|\]\([^)]*\)", "x", entry.answer)
    sentences = re.findall(r"[.!?](?=\s|$)", plain)
    assert 2 <= len(sentences) <= 3, "the cause, then the fix"
    assert 6 <= len(plain.split()) <= 45
    assert not re.search(r"(line|message) (says|names) (what|which|it)", plain)


def test_each_refusal_says_its_fix_itself():
    found = {
        place: HOLE.join(
            node.value
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        for place, nodes, _ in with_texts()
        if any(
            isinstance(node, ast.Call) and name_of(node.func) == "InvalidInputError"
            for node in nodes
        )
    }
    long = {at: text for at, text in found.items() if len(text.split()) > 6}
    without = {at: text for at, text in long.items() if not FIX.search(text)}
    assert len(long) > 350
    for part in WITHOUT_A_FIX:
        [at] = [at for at, text in without.items() if part in text]
        del without[at]
    assert without == {}


def test_groups_are_found_and_lines_are_short():
    groups = re.findall(r"^### (.*)$", LISTED, re.MULTILINE)
    assert len({*groups}) == len(groups) > 15
    assert [line for line in LISTED.splitlines() if len(line) > 88] == []
    assert re.findall(r"^\|", LISTED, re.MULTILINE) == []
    assert len(TOP.split("\n## ")[0].split("\n- ")) - 1 == 5


def test_each_exit_code_is_on_the_page():
    classes = [getattr(errors, name) for name in errors.__all__]
    codes = {getattr(each, "exit_code", 0) for each in classes}
    rows = re.findall(r"^\| ([\d, ]+) \|", TOP, re.MULTILINE)
    listed = {int(code) for row in rows for code in row.split(", ")}
    # With --shadow, and by signals: jobflags.exit_codes
    assert listed == codes | {3, 130, 143}
