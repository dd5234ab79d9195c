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
from typing import TYPE_CHECKING, NamedTuple

from sparkstream_kit._internal.durations import MICROSECONDS, to_microseconds
from sparkstream_kit._internal.spark.logical_plan import analyzed_plan
from sparkstream_kit.errors import InvalidInputError, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import DataFrame


_FORMAT = "facts 3"  # the first line of a fingerprint
# A column that `sources` checks and does not change: its text depends on options and on
# words of the kit.
_CHECKED = re.compile(
    r"(coalesce|CASE)\b.*raise_error\(.*concat\(column .*_metadata(?:#\d+)?\.file_path"
)
WATERMARK = "has a watermark of"
_ZONE = "computes dates and hours in the time zone"
# A column that `state` keeps by its position, such as `Amount#3 AS c0#7`
_PACKED = re.compile(r"(?P<name>.+?)#\d+L?(?:-T\d+ms)? AS c\d+#")

# A quarantine's parser belongs to the kit and may change with its version, so its
# columns count as read.
_PARSER = re.compile(
    r"(?s)SubqueryAlias sparkstream_(?:csv|json)\n.*? sparkstream_lines"
)
# The end of a list that Spark has cut, as earlier versions of the kit noted it of a
# start in another thread, such as `groups by: k#0, ... 16 more fields`.
_CUT = re.compile(
    r"""
    (?: ^ \w [\w ]* :[ ] | [\[(] | ,[ ] )   # a verb, a bracket, or a comma
    \.\.\.[ ]\d+[ ]more[ ]fields
    (?= [\])] | ,[ ] | $ )
    """,
    re.VERBOSE | re.MULTILINE,
)
# Of an aggregation of all rows, earlier versions of the kit noted the results as its
# keys, such as `groups by: sum(n#0) AS total#1`.
_OF_ALL_ROWS = re.compile(r"^groups by: .* AS [^,()]+#\d+$", re.MULTILINE)
# A column's number, and the delay of its watermark: `n#7L`, `time#3-T600000ms`
_COLUMN = re.compile(r"#(\d+)L?(?:-T\d+ms)?")
# The variable of a lambda, which PySpark numbers in each process: `lambda x_1#12`
_VARIABLE = re.compile(r"(?<=\blambda )([xyz])_\d+(?=#)")

# The expressions into which Spark turns window() and session_window(); lengths are in
# microseconds. `_in_words` has an example of each.
_TIME = (
    r"precisetimestampconversion\((?P<time>[^(),]+(?:\(\w+\)#\d+)?), TimestampType,"
    r" LongType"
)
# … (time - start) % slide … is where a window starts, and … + length where it ends.
_WINDOW = re.compile(
    _TIME
    + r".*?- (?P<start>\d+)\) % (?P<slide>\d+)\)"
    + r".*\+ (?P<length>\d+)\), LongType"
)
_SESSION = re.compile(_TIME + r".*\+ cast\((?P<gap>.+?) as interval\)")
# A length, as a fingerprint has it
_LENGTH = re.compile(
    r"(?:(?<=windows of )|(?<= every )|(?<= from ))([\d.]+) (s)\b|\b(\d+) (microseconds)\b"
)
# The window of `windows.calendar`, where a unit longer than a day is an argument of
# trunc().
_DAYS = re.compile(
    r"^struct\(start, timestamp_micros\(CASE"
    r".*?from_utc_timestamp\((?P<time>[^,]+), (?P<zone>[^)]+)\)"
    r"(?:.*?\), (?P<unit>[a-z]+)\))?"
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


class _Fact(NamedTuple):
    """A fact of a query, such as "groups by" and "State#0".

    Attributes:
        verb: what the query does.
        text: what it does that with, as Spark prints it.
        column: the number of the column that the fact defines; None for the fact of an
            operator with state, or of a watermark.
    """

    verb: str
    text: str
    column: str | None = None


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
    zone = frame.sparkSession.conf.get("spark.sql.session.timeZone")
    return _of_plan(analyzed_plan(frame), mode, str(zone))


def _of_plan(plan: str, mode: str, zone: str) -> str:
    r"""Return the fingerprint of the query with a printed plan.

    Args:
        plan: the analyzed plan, as Spark prints it.
        mode: the output mode.
        zone: the time zone of the session.

    Examples:
        >>> plan = "~Aggregate [k#7], [k#7, sum(n#8) AS total#9L]\n+- ~Project [k#7, n#8]"
        >>> _of_plan(plan, "complete", "UTC")
        'facts 3\ngroups by: k#0\ncomputes: sum(n#1)'
    """
    facts = _facts(plan, mode)
    if not facts:
        return ""
    if _needs_zone(facts, zone):
        facts.append(_Fact(_ZONE, zone))
    volatile = _volatile(zone)
    lines = []
    for fact in facts:
        stable = _COLUMN.sub(r"#\1", volatile.sub("", fact.text))
        lines.append(f"{fact.verb}: {_in_words(stable)}")
    text = "\n".join(dict.fromkeys(lines))
    text = _of_any_process(_VARIABLE.sub(r"\1", text))
    return f"{_FORMAT}\n{_renumbered(text)}"


def _needs_zone(facts: Iterable[_Fact], zone: str) -> bool:
    """Return whether the result of a fact depends on the time zone of the session.

    Spark prints the time zone in most expressions that use it, but not in a cast to a
    date.
    """
    return any(
        f"Some({zone})" in fact.text or "as date)" in fact.text for fact in facts
    )


def _volatile(zone: str) -> re.Pattern[str]:
    """Return a pattern of what differs between two runs, sessions or versions of Spark.

    It finds flags such as the ANSI mode, time zones, seeds, and the default collation,
    which only Spark Connect prints.

    Args:
        zone: the time zone of the session.

    Examples:
        >>> _volatile("UTC").sub("", "lambdafunction(lambda x#1, false), hour(at#2, Some(UTC))")
        'lambdafunction(lambda x#1), hour(at#2)'
        >>> _volatile("UTC").sub("", "rand(2601866529857979187), lpad(k#0, 12, true)")
        'rand(), lpad(k#0, 12)'
    """
    return re.compile(
        rf"""
        (?: ,[ ] | (?<=\() )                # an argument: after a comma, or the first one
        (?:
            true | false
            | Some\( (?: {re.escape(zone)} | -?\d{{10,}} ) \)
            | -?\d{{12,}}
        )
        (?= [,)] )
        | [ ]collate[ ]UTF8_BINARY
        """,
        re.VERBOSE,
    )


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


def _renumbered(text: str) -> str:
    r"""Number the columns of a text in their order, as Spark numbers those of a session.

    Examples:
        >>> _renumbered("computes: upper(k#31) AS u#40\ngroups by: u#40")
        'computes: upper(k#0) AS u#1\ngroups by: u#1'
    """
    numbers: dict[str, str] = {}

    def renumber(column: re.Match[str]) -> str:
        return "#" + numbers.setdefault(column[1], str(len(numbers)))

    return re.sub(r"#(\d+)", renumber, text)


def _facts(plan: str, mode: str) -> list[_Fact]:
    """Return the facts of a printed plan in its order; none if no operator keeps state.

    They are the facts of the operators that keep state, the watermarks, and how the
    columns that these use are computed.
    """
    nodes = _nodes(_PARSER.sub("Parsed", plan))
    facts: list[_Fact] = []
    keeps_state = False
    for index, node in enumerate(nodes):
        of_state = list(_of_state(node, nodes[index + 1 :], mode))
        if of_state:
            keeps_state = True
        facts += of_state
        facts += _of_step(node)
    if not keeps_state:
        return []
    used = _columns_used(facts)
    return [fact for fact in facts if fact.column is None or fact.column in used]


def _columns_used(facts: list[_Fact]) -> set[str]:
    """Return the numbers of the columns that the state uses, directly or through other columns.

    Examples:
        >>> keys = _Fact("groups by", "u#2")
        >>> defined = _Fact("computes", "upper(k#0) AS u#2", column="2")
        >>> unused = _Fact("computes", "lower(m#1) AS l#3", column="3")
        >>> sorted(_columns_used([keys, defined, unused]))
        ['0', '2']
    """
    used: set[str] = set()
    to_follow = [fact for fact in facts if fact.column is None]
    while to_follow:
        fact = to_follow.pop()
        new_columns = set(_COLUMN.findall(fact.text)) - used
        used |= new_columns
        to_follow += [fact for fact in facts if fact.column in new_columns]
    return used


def _nodes(plan: str) -> list[_Node]:
    r"""Return the nodes of a printed plan, from the top down.

    A line without a branch of the tree belongs to the node before it, whose text has a
    line break.

    Examples:
        >>> for node in _nodes("~Aggregate [k#0], [k#0]\n+- ~Project [k#0, n#1]"):
        ...     print(node)
        _Node(depth=0, operator='~Aggregate', parts=['[k#0]', '[k#0]'])
        _Node(depth=1, operator='~Project', parts=['[k#0, n#1]'])
    """
    nodes = []
    for line in re.split(r"\n(?=(?:[: ]  )*[:+]- )", plan):
        text = re.sub(r"^(?:[: ]  )*(?:[:+]- )?", "", line)
        operator, _, rest = text.replace("\n", r"\n").partition(" ")
        depth = (len(line) - len(text)) // 3
        nodes.append(_Node(depth, operator, top_level(rest)))
    return nodes


def top_level(text: str) -> list[str]:
    """Split a text at the commas that are not inside brackets.

    Examples:
        >>> top_level("a, f(b, c) AS d, [e, g]")
        ['a', 'f(b, c) AS d', '[e, g]']
    """
    parts = []
    start = 0
    depth = 0
    for index, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    parts.append(text[start:].strip())
    return parts


def _columns(part: str) -> list[str]:
    """Return the columns in a list of a plan, such as `[a, f(b, c) AS d]`."""
    columns = part[1:-1]
    return top_level(columns) if columns else []


def _lists(nodes: Iterable[_Node]) -> list[list[str]]:
    """Return the lists of columns in nodes from the top down; of a node, its last list first."""
    lists = []
    for node in nodes:
        for part in reversed(node.parts):
            if part.startswith("["):
                columns = _columns(part)
                lists.append(columns)
    return lists


def _of_state(node: _Node, below: list[_Node], mode: str) -> Iterator[_Fact]:
    """Yield the facts of a node if it keeps state.

    Args:
        node: the node.
        below: the nodes after it in the plan.
        mode: the output mode.
    """
    operator = node.operator
    if operator == "~Aggregate":
        yield from _of_aggregate(node)
    elif operator.startswith("~Deduplicate"):
        yield _of_deduplicate(node)
    elif operator.startswith("~Distinct"):
        yield _Fact(_runs(node), ", ".join(_lists(below)[0]))
    elif operator.startswith("~TransformWithState"):
        yield from _of_transform(node, below)
    elif operator.startswith("~FlatMapGroups"):
        yield _of_groups(node)
    elif operator == "~Join":
        yield from _of_join(node, below)
    elif operator == "~GlobalLimit" and mode == "append":
        yield _Fact("keeps no more rows than", node.parts[0])


def _runs(node: _Node) -> str:
    """Return the verb of an operator that has none of its own."""
    return f"runs {node.operator.removeprefix('~')} by"


def _of_aggregate(node: _Node) -> Iterator[_Fact]:
    """Yield by what an aggregation groups, and each value that it computes.

    Examples:
        >>> [node] = _nodes("~Aggregate [k#0], [k#0, sum(n#1) AS total#2L]")
        >>> for fact in _of_aggregate(node):
        ...     print(fact.verb, fact.text)
        groups by k#0
        computes sum(n#1)
    """
    keys: list[str] = []
    # Without keys Spark prints the list of the results alone
    if len(node.parts) > 1:
        keys = _columns(node.parts[0])
    yield _Fact("groups by", ", ".join(keys) or "nothing")
    for column in _columns(node.parts[-1]):
        result = column.partition(" AS ")[0]
        if result not in keys:
            yield _Fact("computes", result)


def _of_deduplicate(node: _Node) -> _Fact:
    """Return by what duplicates are dropped.

    Examples:
        >>> [node] = _nodes("~DeduplicateWithinWatermark [k#0, p#1]")
        >>> print(*_of_deduplicate(node)[:2])
        drops duplicates within the watermark by k#0, p#1
    """
    verb = "drops duplicates by"
    if "Within" in node.operator:
        verb = "drops duplicates within the watermark by"
    return _Fact(verb, ", ".join(_columns(node.parts[0])))


def _of_transform(node: _Node, below: list[_Node]) -> Iterator[_Fact]:
    r"""Yield the key of a `transformWithState`, and the columns that the kit's own ones keep.

    Spark prints how many columns the key has, and these are the first ones of the list
    below.

    Examples:
        >>> node, *below = _nodes(
        ...     "~TransformWithStateInPySpark keeps(k#0, n#1)#2, 1, [k#5], Append\n"
        ...     "+- ~Project [k#0, n#1]"
        ... )
        >>> for fact in _of_transform(node, below):
        ...     print(fact.verb, fact.text)
        runs TransformWithStateInPySpark by k#0
    """
    lists = _lists(below)
    if len(node.parts) == 1 or not node.parts[1].isdecimal():
        yield _Fact(_runs(node), ", ".join(lists[0]))
        return
    number = int(node.parts[1])
    key = ", ".join(lists[0][:number])
    yield _Fact(_runs(node), key)
    # The kit's own keep their rows by position; `once`, whose key is `group`, keeps
    # none.
    if number == 0 or key.startswith("group#"):
        return
    for columns in lists:
        names = _packed_names(columns)
        if names:
            yield _Fact("keeps the columns", ", ".join(names))


def _packed_names(columns: list[str]) -> list[str]:
    """Return the names of columns that `state` keeps by position; none if one is not of these.

    Examples:
        >>> _packed_names(["Amount#3 AS c0#7", "n#4L AS c1#8L"])
        ['amount', 'n']
        >>> _packed_names(["Amount#3 AS c0#7", "n#4L"])
        []
    """
    names = []
    for column in columns:
        packed = _PACKED.match(column)
        if packed is None:
            return []
        names.append(packed["name"].lower())
    return names


def _of_groups(node: _Node) -> _Fact:
    """Return the key and the types of the state of `applyInPandasWithState`.

    Examples:
        >>> [node] = _nodes(
        ...     "~FlatMapGroupsInPandasWithState counted(k#0, n#1)#5,"
        ...     " [k#0], [k#7], [StructField(c,LongType,true)], Append, NoTimeout"
        ... )
        >>> print(_of_groups(node).text)
        [k#0] with the state [StructField(c,LongType,true)]
    """
    _function, *lists = node.parts
    key = lists[:1]
    state = lists[2:3]  # after the columns of the result
    return _Fact(_runs(node), " with the state ".join(key + state))


def _of_join(node: _Node, below: list[_Node]) -> Iterator[_Fact]:
    r"""Yield the kind and condition of a join of two streams; a table's rows are not kept.

    Examples:
        >>> plan = "~Join Inner, (k#0 = k#5)\n:- ~Project [k#0]\n+- {} [k#5]"
        >>> node, *below = _nodes(plan.format("~Project"))
        >>> [fact.text for fact in _of_join(node, below)]
        ['Inner, (k#0 = k#5)']
        >>> node, *below = _nodes(plan.format("Relation"))
        >>> [*_of_join(node, below)]
        []
    """
    children = [child for child in below if child.depth == node.depth + 1]
    sides = children[:2]
    if all(side.operator.startswith(("~", "StreamingRelation")) for side in sides):
        yield _Fact("joins", ", ".join(node.parts))


def _of_step(node: _Node) -> Iterator[_Fact]:
    """Yield the watermark that a node sets, or how each column that it defines is computed.

    Examples:
        >>> [node] = _nodes("~EventTimeWatermark 6e16-bc, at#1: timestamp, 10 minutes")
        >>> [*_of_step(node)]
        [_Fact(verb='has a watermark of', text='10 minutes on at#1', column=None)]
        >>> [node] = _nodes("~Project [k#0, upper(k#0) AS u#2]")
        >>> [*_of_step(node)]
        [_Fact(verb='computes', text='upper(k#0) AS u#2', column='2')]
    """
    if node.operator == "~EventTimeWatermark":
        time, delay = node.parts[-2:]
        yield _Fact(WATERMARK, f"{delay} on {time.partition(':')[0]}")
        return
    for name, text in _definitions(node):
        numbers = _COLUMN.findall(name)
        if numbers:
            yield _Fact("computes", text, column=numbers[-1])


def _definitions(node: _Node) -> Iterator[tuple[str, str]]:
    """Yield each column that a node computes, at whose end is its number, and how."""
    if node.operator == "~Project":
        for column in _columns(node.parts[0]):
            if " AS " in column and not _CHECKED.match(column):
                yield column, column
    elif node.operator == "~Generate":
        for name in _columns(node.parts[-1]):
            yield name, f"{node.parts[0]} AS {name}"
    elif node.operator == "~Expand":  # sliding windows, too
        yield from _expanded(node)


def _expanded(node: _Node) -> Iterator[tuple[str, str]]:
    """Yield each column that differs in the rows that a node makes of one row, and how.

    Examples:
        >>> [node] = _nodes("~Expand [[f(t#0), k#1], [g(t#0), k#1]], [window#2, k#1]")
        >>> [*_expanded(node)]
        [('window#2', 'f(t#0), g(t#0) AS window#2')]
    """
    names = _columns(node.parts[-1])
    rows = [_columns(row) for row in _columns(node.parts[0])]
    for name, *expressions in zip(names, *rows, strict=False):
        if set(expressions) != {name}:
            yield name, f"{', '.join(expressions)} AS {name}"


def _in_words(expression: str) -> str:
    """Return a window as text with its lengths or its unit, and other expressions unchanged.

    Examples:
        >>> time = "precisetimestampconversion(t#4, TimestampType, LongType)"
        >>> start = f"({time} - (({time} - 0) % 60000000))"
        >>> _in_words(f"struct(start, {start}, end, ({start} + 60000000), LongType))")
        'windows of 60 s every 60 s on t#4'
        >>> day = "from_utc_timestamp(t#4, Europe/Berlin)"
        >>> _in_words(f"struct(start, timestamp_micros(CASE … trunc(cast({day} as date), month)")
        'the month in Europe/Berlin of t#4'
        >>> _in_words(f"struct(start, {time}, end, {time} + cast(5 minutes as interval))")
        'session windows with a gap of 5 minutes on t#4'
        >>> _in_words("(n#1 + 1) AS next#2")
        '(n#1 + 1) AS next#2'
    """
    if window := _WINDOW.search(expression):
        start = _seconds(window["start"])
        since = "" if start == "0 s" else f" from {start}"
        length = _seconds(window["length"])
        slide = _seconds(window["slide"])
        return f"windows of {length} every {slide}{since} on {window['time']}"
    if days := _DAYS.search(expression):
        return f"the {days['unit'] or 'day'} in {days['zone']} of {days['time']}"
    if session := _SESSION.search(expression):
        return f"session windows with a gap of {session['gap']} on {session['time']}"
    return expression


def _seconds(microseconds: str) -> str:
    """Return a length in microseconds as text in seconds.

    Examples:
        >>> _seconds("2500000")
        '2.5 s'
    """
    return f"{int(microseconds) / 1e6:g} s"


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
    old = _as_noted_now(old)
    # Spark 4.2 prints the zone of more expressions than 4.1
    if (_ZONE in old) != (_ZONE in new):
        old = _without_zone(old)
        new = _without_zone(new)
    if _are_equal(old, new, caseless=caseless):
        return []
    is_of_other_facts = old != "" and not old.startswith(_FORMAT)
    if is_of_other_facts or is_part(old):
        return []
    phrases = Counter(_phrases(new))
    former_phrases = Counter(_phrases(old))
    added = phrases - former_phrases
    removed = former_phrases - phrases
    verbs = dict.fromkeys(verb for verb, _ in [*added, *removed])
    described = [
        _difference(verb, _objects(added, verb), _objects(removed, verb))
        for verb in verbs
    ]
    return described or [
        "does the same steps in another order, or on other columns of the same names"
    ]


def _as_noted_now(text: str) -> str:
    r"""Return a fingerprint of an earlier version of the kit as this version writes it.

    Examples:
        >>> _as_noted_now("facts 3\ngroups by: sum(n#0) AS x#1\ncomputes: max(m#2)")
        'facts 3\ngroups by: nothing\ncomputes: max(m#0)'
    """
    text = _OF_ALL_ROWS.sub("groups by: nothing", text)
    return _renumbered(_of_any_process(text))


def _without_zone(text: str) -> str:
    """Return a fingerprint without the time zone, which is its last line."""
    return text.partition(f"\n{_ZONE}")[0]


def _are_equal(old: str, new: str, *, caseless: bool) -> bool:
    """Return whether two fingerprints are of equal queries."""
    old = _in_seconds(old)
    new = _in_seconds(new)
    return old == new or (caseless and _caseless(old) == _caseless(new))


def _objects(phrases: Counter[tuple[str, ...]], verb: str) -> str:
    """Return the objects of a verb in phrases as one text, such as "State, ProductKey"."""
    return ", ".join(text for other, text in phrases.elements() if other == verb)


def _difference(verb: str, now: str, before: str) -> str:
    """Return the phrase for the objects of a verb that only one of two queries has.

    Args:
        verb: the verb.
        now: the objects that only this query has; "" for none.
        before: the objects that only the checkpoint's query has; "" for none.
    """
    short_now = _shortened(now, before)
    short_before = _shortened(before, now)
    if not now:
        return f"has no step that {verb} {short_before}, as the checkpoint's query has"
    former = f"{verb} {short_before}" if before else "does not"
    return f"{verb} {short_now}; the checkpoint's query {former}"


def _in_seconds(text: str) -> str:
    """Return a fingerprint with session gaps in seconds, as far as their length is fixed.

    Examples:
        >>> _in_seconds("computes: session windows with a gap of 5 minutes on at#0")
        'computes: session windows with a gap of 300 s on at#0'
    """

    def seconds(gap: re.Match[str]) -> str:
        with suppress(InvalidInputError):  # an expression, or months
            return f"{to_microseconds('gap', gap[0]) / 1e6:g} s"
        return gap[0]

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
    readable = _LENGTH.sub(_in_units, re.sub(r"#\d+", "", text))
    return [tuple(line.split(": ", 1)) for line in readable.split("\n")[1:]]


def _in_units(length: re.Match[str]) -> str:
    """Return a length of a fingerprint in the largest unit of which it is a whole number.

    Examples:
        >>> text = "windows of 2700 s every 86400 s from 2.5 s, 1500000 microseconds"
        >>> _LENGTH.sub(_in_units, text)
        'windows of 45 minutes every 1 day from 2.5 seconds, 1.5 seconds'
    """
    number, unit = filter(None, length.groups())
    size = int(number) if unit == "microseconds" else round(float(number) * 1_000_000)
    for name in ("day", "hour", "minute"):
        if size and size % MICROSECONDS[name] == 0:
            return count(size // MICROSECONDS[name], name)
    if size == MICROSECONDS["second"]:
        return "1 second"
    seconds = f"{size / MICROSECONDS['second']:.6f}".rstrip("0").rstrip(".")
    return f"{seconds} seconds"


def _shortened(text: str, other: str, length: int = 160) -> str:
    """Cut a long text to the part around its first difference from another text."""
    if len(text) <= length:
        return text
    start = max(0, _first_difference(text, other) - 20)
    begin = "…" if start else ""
    end = "…" if len(text) > start + length else ""
    return f"{begin}{text[start : start + length]}{end}"


def _first_difference(text: str, other: str) -> int:
    """Return where two texts differ first; 0 if one is the beginning of the other."""
    for index, (one, two) in enumerate(zip(text, other, strict=False)):
        if one != two:
            return index
    return 0
