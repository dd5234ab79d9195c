"""Fingerprints: what a query keeps in state, as text that equal queries share in any process.

When a query restarts, Spark compares only the operators and the types of the state's
columns. A query with another group key of the same type would silently continue the old
totals. `start` therefore keeps the `fingerprint` of a query in its checkpoint and
compares it at the next start; `differences` puts what has changed into words.

A fingerprint has one line for each fact of a stateful operator: by what it groups,
joins or drops duplicates, what it computes, its windows and watermarks, and how a
column that it uses is computed below it. All other steps, such as filters, do not
count. The facts are read from Spark's analyzed plan as text, which is all that Spark
Connect provides.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from sparkstream_kit._internal.durations import to_microseconds
from sparkstream_kit._internal.spark.logical_plan import analyzed_plan
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame


_FORMAT = "facts 3"  # the first line of a fingerprint
# A column that `sources` checks and does not change: its text depends on options and on
# words of the kit.
_CHECKED = re.compile(
    r"(coalesce|CASE)\b.*raise_error\(.*concat\(column .*_metadata(?:#\d+)?\.file_path"
)
WATERMARK = "has a watermark of"
_ZONE = "computes dates and hours in the time zone"
# By `state`, which gives all columns such names
_PACKED = re.compile(r"(.+?)#\d+L?(?:-T\d+ms)? AS c\d+#")

# A quarantine's parser belongs to the kit and may change with its version, so its
# columns count as read.
_PARSER = re.compile(
    r"(?s)SubqueryAlias sparkstream_(?:csv|json)\n.*? sparkstream_lines"
)
# The end of a list that Spark has cut, as earlier versions of the kit noted it of a
# start in another thread.
_CUT = re.compile(r"(?m)(?:^\w[\w ]*: |[\[(]|, )\.\.\. \d+ more fields(?=[\])]|, |$)")
# A column's number, and the delay of its watermark
_COLUMN = re.compile(r"#(\d+)L?(?:-T\d+ms)?")

# The expressions into which Spark turns window() and session_window(); lengths are in
# microseconds.
_TIME = (
    r"precisetimestampconversion\((?P<time>[^(),]+(?:\(\w+\)#\d+)?), TimestampType,"
    r" LongType.*"
)
_WINDOW = re.compile(
    _TIME + r"?- (?P<start>\d+)\) % (?P<slide>\d+)\).*\+ (?P<length>\d+)\), LongType"
)
_SESSION = re.compile(_TIME + r"\+ cast\((?P<gap>.+?) as interval\)")
# The window of `windows.calendar`, where a unit longer than a day is an argument of
# trunc().
_DAYS = re.compile(
    r"^struct\(start, timestamp_micros\(CASE.*?from_utc_timestamp\(([^,]+),"
    r" ([^)]+)\)(?:.*?\), ([a-z]+)\))?"
)


class _Node(NamedTuple):
    """One node of a plan, which Spark prints as one line.

    Attributes:
        depth: the depth in the tree; 0 for the root.
        operator: the first word of the line, with a ~ before it if the node is part of
            a stream.
        parts: the rest of the line, split at its commas.
    """

    depth: int
    operator: str
    parts: list[str]


def fingerprint(frame: DataFrame, mode: str) -> str:
    """Describe the state of a streaming query as text, so that a restart notices another query.

    The text is the same on classic Spark and Spark Connect. It covers each stateful
    operator: its group keys, aggregates, deduplication keys in their order, or join
    condition, the names of the columns that `as_of` and `alert_when` keep, the
    watermarks, and the expressions of the columns that these use, with the time zone if
    they need it. It does not cover filters and other steps, sources, how they parse,
    sinks, paths, options, the trigger, the names of results, the ANSI mode and other
    flags, nor the code of UDFs.

    Args:
        frame: a streaming DataFrame.
        mode: the output mode. It counts because a limit keeps state in append mode
            only.

    Returns:
        The format and one line for each fact; empty for a query that keeps no state.
    """
    zone = frame.sparkSession.conf.get("spark.sql.session.timeZone") or ""
    facts = _facts(frame, mode)
    # Spark prints the time zone in most expressions that use it, but not in a cast to a
    # date.
    if any(sign in what for _, what in facts for sign in (f"Some({zone})", "as date)")):
        facts.append((_ZONE, zone))
    # What differs between two runs, sessions or versions of Spark: flags such as the
    # ANSI mode, time zones, seeds, and the default collation, which only Spark Connect
    # prints.
    volatile = re.compile(
        r"(?:,"
        rf" |(?<=\())(?:true|false|Some\((?:{re.escape(zone)}|-?\d{{10,}})\)|-?\d{{12,}})(?=[,)])"
        "| collate UTF8_BINARY"
    )
    stable = [
        (verb, _COLUMN.sub(r"#\1", volatile.sub("", what))) for verb, what in facts
    ]
    lines = dict.fromkeys(f"{verb}: {_in_words(what)}" for verb, what in stable)
    # PySpark numbers the variables of a process' lambdas, and Spark the columns of a
    # session.
    text = _of_any_process(
        re.sub(r"(?<=\blambda )([xyz])_\d+(?=#)", r"\1", "\n".join(lines))
    )
    numbers: dict[str, str] = {}
    text = re.sub(
        r"#(\d+)",
        lambda found: "#" + numbers.setdefault(found[1], str(len(numbers))),
        text,
    )
    return f"{_FORMAT}\n{text}" if text else ""


def _of_any_process(text: str) -> str:
    """Take out the numbers of lambda variables that have become names of a struct's fields.

    Examples:
        >>> text = "transform(tags, lambdafunction(struct(y_6, lambda y#1), lambda y#1)) AS o.y_6"
        >>> _of_any_process(text)
        'transform(tags, lambdafunction(struct(y, lambda y#1), lambda y#1)) AS o.y'
    """
    for field in {*re.findall(r"\b([xyz]_\d+), lambda [xyz]#", text)}:
        text = re.sub(rf"\b{field}\b", field[0], text)
    return text


def _facts(frame: DataFrame, mode: str) -> list[tuple[str, str]]:
    """Return the facts of a query in the plan's order, as pairs of a verb and its object.

    The object is as Spark prints it.

    They are the facts of the operators that keep state, the watermarks, and how the
    columns that these use are computed; an empty list if no operator keeps state.
    """
    nodes = _nodes(_PARSER.sub("Parsed", analyzed_plan(frame)))
    # The number of the column that is defined, or "", and a fact
    found: list[tuple[str, str, str]] = []
    for at, node in enumerate(nodes):
        found += [("", *fact) for fact in _of_state(nodes, at, mode)]
        found += _of_step(node)
    # "" if state is kept
    used = {column for column, verb, _ in found if column == "" and verb != WATERMARK}
    while (
        more := {
            n
            for column, _, what in found
            if column in used
            for n in _COLUMN.findall(what)
        }
        - used
    ):
        used |= more
    return [(verb, what) for column, verb, what in found if column in used]


def _nodes(plan: str) -> list[_Node]:
    """Return the nodes of a printed plan, from the top down.

    A line without a branch of the tree belongs to the node before it, whose text has a
    line break.
    """
    nodes = []
    for line in re.split(r"\n(?=(?:[: ]  )*[:+]- )", plan):
        text = re.sub(r"^(?:[: ]  )*(?:[:+]- )?", "", line)
        operator, _, rest = text.replace("\n", r"\n").partition(" ")
        nodes.append(_Node((len(line) - len(text)) // 3, operator, top_level(rest)))
    return nodes


def top_level(text: str) -> list[str]:
    """Split a text at the commas that are not inside brackets.

    Examples:
        >>> top_level("a, f(b, c) AS d, [e, g]")
        ['a', 'f(b, c) AS d', '[e, g]']
    """
    depths = accumulate((char in "([{") - (char in ")]}") for char in text)
    commas = (at for at, depth in enumerate(depths) if depth == 0 and text[at] == ",")
    return [
        text[one + 1 : other].strip()
        for one, other in pairwise([-1, *commas, len(text)])
    ]


def _columns(part: str) -> list[str]:
    """Return the columns in a list of a plan, such as `[a, f(b, c) AS d]`."""
    return top_level(part[1:-1]) if part[1:-1] else []


def _of_state(nodes: list[_Node], at: int, mode: str) -> Iterator[tuple[str, str]]:
    """Yield the facts of a node, as pairs of a verb and its object, if it keeps state."""
    depth, operator, parts = nodes[at]
    below = nodes[at + 1 :]
    verb = f"runs {operator[1:]} by"
    if operator == "~Aggregate":
        keys = _columns(parts[0])
        results = [part.partition(" AS ")[0] for part in _columns(parts[-1])]
        yield "groups by", ", ".join(keys) or "nothing"
        yield from (("computes", result) for result in results if result not in keys)
    elif operator.startswith("~Deduplicate"):
        within = "within the watermark " if "Within" in operator else ""
        yield f"drops duplicates {within}by", ", ".join(_columns(parts[0]))
    elif operator.startswith(("~Distinct", "~TransformWithState")):
        # the next list below has the columns
        lists = [
            _columns(part)
            for node in below
            for part in reversed(node.parts)
            if part.startswith("[")
        ]
        number = int(parts[1]) if parts[1:] and parts[1].isdecimal() else None
        columns = ", ".join(lists[0][:number])
        yield verb, columns
        # The kit's own keep their rows by position; `once`, whose key is `group`, keeps
        # none.
        for each in lists if number and not columns.startswith("group#") else ():
            names = [match[1].lower() for match in map(_PACKED.match, each) if match]
            if names and len(names) == len(each):
                yield "keeps the columns", ", ".join(names)
    elif operator.startswith("~FlatMapGroups"):
        yield verb, " with the state ".join(parts[1:4:2])
    elif operator == "~Join":
        sides = [node.operator for node in below if node.depth == depth + 1][:2]
        # A table's rows are not kept
        if all(side.startswith(("~", "StreamingRelation")) for side in sides):
            yield "joins", ", ".join(parts)
    elif operator == "~GlobalLimit" and mode == "append":
        yield "keeps no more rows than", parts[0]


def _of_step(node: _Node) -> Iterator[tuple[str, str, str]]:
    """Yield the number of each column that a node computes, a verb and its object.

    For a watermark, the number is "".
    """
    _, operator, parts = node
    defined: list[tuple[str, str]] = []
    if operator == "~EventTimeWatermark":
        yield "", WATERMARK, f"{parts[-1]} on {parts[-2:][0].partition(':')[0]}"
    elif operator == "~Project":
        found = (
            part
            for part in _columns(parts[0])
            if " AS " in part and not _CHECKED.match(part)
        )
        defined = [(part, part) for part in found]
    elif operator == "~Generate":
        defined = [(name, f"{parts[0]} AS {name}") for name in _columns(parts[-1])]
    elif operator == "~Expand":  # sliding windows, too
        rows = zip(
            _columns(parts[-1]), *map(_columns, _columns(parts[0])), strict=False
        )
        defined = [
            (name, f"{', '.join(row)} AS {name}")
            for name, *row in rows
            if {*row} != {name}
        ]
    for name, what in defined:
        yield [" ", *_COLUMN.findall(name)][-1], "computes", what


def _in_words(expression: str) -> str:
    """Return a window as text with its lengths or its unit, and other expressions unchanged."""
    if window := _WINDOW.search(expression):
        start, slide, length = (
            f"{int(window[name]) / 1e6:g} s" for name in ("start", "slide", "length")
        )
        since = "" if start == "0 s" else f" from {start}"
        return f"windows of {length} every {slide}{since} on {window['time']}"
    if days := _DAYS.search(expression):
        return "the {2} in {1} of {0}".format(*days.groups("day"))
    if session := _SESSION.search(expression):
        return f"session windows with a gap of {session['gap']} on {session['time']}"
    return expression


def differences(old: str, new: str, *, caseless: bool = True) -> list[str]:
    r"""Describe how this query's fingerprint differs from that of a checkpoint's query.

    A fingerprint that an earlier version of the kit wrote, of other facts or of a part
    of the query, counts as equal.

    Args:
        old: the fingerprint of the checkpoint's query.
        new: the fingerprint of this query.
        caseless: whether `k` and `K` are the same column. They are unless
            `spark.sql.caseSensitive` is on.

    Returns:
        One phrase for each difference; an empty list for equal fingerprints.

    Examples:
        >>> differences("facts 3\ngroups by: product#0", "facts 3\ngroups by: state#0")
        ["groups by state; the checkpoint's query groups by product"]
    """
    old = _of_any_process(old)  # a note of an earlier version has these numbers
    # Spark 4.2 prints the zone of more expressions than 4.1
    if (_ZONE in old) != (_ZONE in new):
        old, new = (text.split(f"\n{_ZONE}")[0] for text in (old, new))
    one = _in_seconds(old)
    other = _in_seconds(new)
    if one == other or (caseless and _caseless(one) == _caseless(other)):
        return []
    if (old and not old.startswith(_FORMAT)) or is_part(old):
        return []
    here = Counter(_phrases(new))
    there = Counter(_phrases(old))
    found = []
    for verb in dict.fromkeys(verb for verb, _ in [*(here - there), *(there - here)]):
        mine, theirs = (
            ", ".join(what for each, what in phrases.elements() if each == verb)
            for phrases in (here - there, there - here)
        )
        shortened = _shortened(mine, theirs)
        theirs = _shortened(theirs, mine)
        mine = shortened
        if not mine:
            found.append(
                f"has no step that {verb} {theirs}, as the checkpoint's query has"
            )
        else:
            former = f"{verb} {theirs}" if theirs else "does not"
            found.append(f"{verb} {mine}; the checkpoint's query {former}")
    return found or [
        "does the same steps in another order, or on other columns of the same names"
    ]


def _in_seconds(text: str) -> str:
    """Return a fingerprint with session gaps in seconds, as far as their length is fixed.

    Examples:
        >>> _in_seconds("computes: session windows with a gap of 5 minutes on at#0")
        'computes: session windows with a gap of 300 s on at#0'
    """

    def seconds(found: re.Match[str]) -> str:
        with suppress(InvalidInputError):  # an expression, or months
            return f"{to_microseconds('gap', found[0]) / 1e6:g} s"
        return found[0]

    return re.sub(r"(?<=session windows with a gap of ).+?(?= on )", seconds, text)


def is_part(text: str) -> bool:
    r"""Return whether Spark has cut the plan of a fingerprint, so that its query is not known.

    Examples:
        >>> is_part("facts 3\ngroups by: k#0, ... 16 more fields")
        True
    """
    return _CUT.search(text) is not None


def _caseless(text: str) -> str:
    """Return a fingerprint with column names in lower case, as Spark compares them by default."""
    return re.sub(r"(?<= AS ).*?(?=#\d)|\w+(?=#\d)", lambda name: name[0].lower(), text)


def _phrases(text: str) -> list[tuple[str, ...]]:
    """Return a fingerprint's facts as pairs of verb and object, such as ("groups by", "State")."""
    shown = re.sub(r"#\d+", "", text)
    shown = re.sub(
        r"\b(\d+) microseconds\b", lambda size: f"{int(size[1]) / 1e6:g} s", shown
    )
    return [tuple(line.split(": ", 1)) for line in shown.split("\n")[1:]]


def _shortened(text: str, other: str, most: int = 160) -> str:
    """Cut a long text to the part around its first difference from another text."""
    if len(text) <= most:
        return text
    pairs = enumerate(zip(text, other, strict=False))
    differs = next((at for at, (one, two) in pairs if one != two), 0)
    start = max(0, differs - 20)
    begin = "…" if start else ""
    end = "…" if len(text) > start + most else ""
    return f"{begin}{text[start : start + most]}{end}"
