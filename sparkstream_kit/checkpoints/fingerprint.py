"""Fingerprints: a text of what a query keeps in its state, which is equal for equal queries in any process.

When a query restarts, Spark compares only the operators and the types of the state's columns. A query with
another group key of the same type would silently continue the old totals. `start` therefore keeps the
`fingerprint` of a query in its checkpoint and compares it at the next start; `differences` puts what has
changed into words. A fingerprint consists of lines of Spark's analyzed plan, without anything that differs
between two runs of the same query.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from sparkstream_kit._durations import to_microseconds
from sparkstream_kit._spark.plan import analyzed_plan
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


# These steps do not change rows, so they are left out: names, hints, partitioning and observed metrics.
_TRANSPARENT = re.compile(
    r"(SubqueryAlias|View|ResolvedHint|UnresolvedHint|CollectMetrics|Repartition\w*|RebalancePartitions)\b"
)
# The plan of a quarantine's parser belongs to the kit and may change with its version. What the user has
# chosen (the format, and a hash of schema and options) is in the name of the alias, so only that counts.
_PARSER = re.compile(r"SubqueryAlias sparkstream_((?:csv|json)_[0-9a-f]{12})\b")
_LINES = "SubqueryAlias sparkstream_lines"
_WITH_FILE = re.compile(r"Project \[.*, _metadata#\d+\.file_path AS _file#\d+\]$")
_STATEFUL = re.compile(
    r"(Aggregate|Deduplicate\w*|Distinct|FlatMapGroups\w*WithState|TransformWithState\w*)\b"
)
# These operators depend on all columns below them, by position: prune nothing.
_WHOLE_ROWS = re.compile(r"(Union|Intersect|Except|Distinct|WithCTE|TransformWithState\w*)\b")

# The filter of the kit's sources: no file of a subfolder, and no time of JSON after the year 9999.
_OF_SOURCES = re.compile(r"Filter .*(\^file:/\+\(\[\^/\]|after the year 9999, as if milliseconds)")
_COLUMNS = re.compile(r"\[([^\[\]]*#\d[^\[\]]*)\]")

# Functions whose last printed argument is Spark's ANSI setting, which is no part of a fingerprint.
# `_ARGUMENTS` matches brackets that are nested up to three levels.
_ANSI = (
    "conv|element_at|elt|make_date|next_day|parse_url|size|to_date|to_timestamp|to_unix_timestamp|"
    "unix_timestamp"
)
_ARGUMENTS = r"[^()]*(?:\([^()]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)[^()]*)*\)[^()]*)*"
_ANSI_FLAG = re.compile(rf"\b({_ANSI})\(({_ARGUMENTS}), (?:true|false)\)")

# Text of a plan that differs between two runs of the same query, with its replacement.
_UNSTABLE = [
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:, )?"), ""),  # a watermark's id
    (re.compile(r"(#\d+L?)-T\d+ms"), r"\1"),  # a watermark's delay, which has a line of its own
    (re.compile(r"@[0-9a-f]{5,}\b"), ""),  # an address in memory
    (re.compile(r" collate UTF8_BINARY"), ""),  # the default, which only Spark Connect prints
    (re.compile(r"^(Sample [^,]*, [^,]*, \w+),.*"), r"\1"),  # here and in the next three: seeds
    (re.compile(r"\b(randn?)\(-?\d+\)"), r"\1()"),
    (re.compile(r"(?:, )?\bSome\(-?\d{10,}\)"), ""),
    (re.compile(r"\b(uniform|randstr)\(([^()]*), -?\d+, (?:true|false)"), r"\1(\2"),
    (re.compile(r"^(CTERelationDef \d+).*"), r"\1"),  # estimates
    (re.compile(r"^(CTERelationRef \d+)[^\[]*(\[.*\]).*"), r"\1 \2"),
]


class _Node(NamedTuple):
    """One node of a plan, which Spark prints as one line.

    Attributes:
        depth: the depth in the tree; 0 for the root.
        streams: whether the node is part of a stream, and not of a static table.
        text: the line without the tree's branches and without the mark of a stream.
    """

    depth: int
    streams: bool
    text: str


def fingerprint(frame: DataFrame, mode: str) -> str:
    """Describe the state of a streaming query as text, so that a restart can notice a different query.

    The text is the same on classic Spark and Spark Connect. It covers the topmost stateful operator and
    everything below it that reaches its state: group keys, aggregates, deduplication keys in their order,
    join conditions, watermarks, filters and computed columns. It does not cover the steps above that
    operator, sources, sinks, paths, options, the trigger, the name, the time zone and the ANSI mode, nor
    the code of UDFs.

    Args:
        frame: a streaming DataFrame.
        mode: the output mode. It counts because a limit keeps state in append mode only.

    Returns:
        Lines of Spark's analyzed plan, without what differs between two runs; empty for a query that keeps
        no state.
    """
    nodes = _stateful_part(frame, mode)
    if not nodes:
        return ""
    zone = re.escape(frame.sparkSession.conf.get("spark.sql.session.timeZone") or "")
    unstable = [*_UNSTABLE, (re.compile(rf"(?:, )?\bSome\({zone}\)"), "")]
    joins = any(_is_stateful_join(nodes, at) for at in range(len(nodes)))
    pruning = _Pruning(
        whole=any(_WHOLE_ROWS.match(node.text) for node in nodes),
        # A join stores whole rows, so every computed column below it counts, even one that nothing uses.
        every_alias=joins and not nodes[0].text.startswith("Aggregate"),
    )
    lines: list[str] = []
    left_out: list[int] = []  # the depths of the nodes above that are left out, for the indentation
    ours = 0  # the nodes before this index belong to the kit's parser
    for at, node in enumerate(nodes):
        while left_out and left_out[-1] >= node.depth:
            left_out.pop()
        text = node.text
        if parse := _PARSER.match(text):
            ours = _end_of_parse(nodes, at)
            pruning.use(" ".join(each.text for each in nodes[at:ours]))
            text = f"Parse {parse[1]}"
        elif at < ours:
            left_out.append(node.depth)
            continue
        elif _end(nodes, at) == at + 1 and not text.startswith("CTERelationRef"):
            text = pruning.of_leaf(node)
        elif _TRANSPARENT.match(text) or not (text := pruning.of(_without(unstable, text))):
            left_out.append(node.depth)
            continue
        lines.append("  " * (node.depth - nodes[0].depth - len(left_out)) + text)
    return _canonical("\n".join(lines))


def _stateful_part(frame: DataFrame, mode: str) -> list[_Node]:
    """Return the nodes from the topmost stateful operator down; an empty list if no operator keeps state."""
    nodes = _of_folders(_nodes(analyzed_plan(frame)))
    stateful = [
        at
        for at, node in enumerate(nodes)
        if node.streams
        and (
            _STATEFUL.match(node.text)
            or _is_stateful_join(nodes, at)
            or (mode == "append" and node.text.startswith("GlobalLimit"))
        )
    ]
    if not stateful:
        return []
    # The lowest node with every stateful operator at or below it.
    top = max(at for at in range(stateful[0] + 1) if _end(nodes, at) > stateful[-1])
    return nodes[top : _end(nodes, top)]


def time_zone(frame: DataFrame, mode: str) -> dict[str, str]:
    """Return the session's time zone, as a part of a query's note, if the query's state depends on it.

    It does, for example, if the query groups by a date. The result is empty otherwise.
    """
    zone = frame.sparkSession.conf.get("spark.sql.session.timeZone") or ""
    nodes = _stateful_part(frame, mode)
    ours = 0  # the nodes before this index belong to the kit's parser
    for at, node in enumerate(nodes):
        if _PARSER.match(node.text):
            ours = _end_of_parse(nodes, at)
        # The parser always has a time zone in its options, but only parsed timestamps depend on it.
        # Spark prints the time zone in most steps that use it, but not in a cast to a date.
        signs = ("as timestamp)",) if at < ours else (f"Some({zone})", "as date)")
        if any(sign in node.text for sign in signs):
            return {"time zone": zone}
    return {}


def _end_of_parse(nodes: list[_Node], at: int) -> int:
    """Return the index of the first node that is the user's: the lines that the quarantine's parser reads.

    Args:
        nodes: the nodes of a plan.
        at: the index of the parser's alias.
    """
    below = range(at + 1, _end(nodes, at))
    begin = next((other for other in below if nodes[other].text.startswith(_LINES)), at)
    # Before Spark 4.2 the parser may add the file's path in a Project below the alias; later versions read it
    # from the source.
    return begin + 2 if _WITH_FILE.match(nodes[begin + 1].text) else begin


def top_level(text: str) -> list[str]:
    """Split a text at the commas that are not inside brackets.

    Examples:
        >>> top_level("a, f(b, c) AS d, [e, g]")
        ['a', 'f(b, c) AS d', '[e, g]']
    """
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    parts.append(text[start:].strip())
    return parts


class _Pruning:
    """Leaves out the columns that no step above uses, as Spark does: they do not reach the state.

    Pass the nodes from the top of the plan down, as each node adds to the columns that are used.

    Args:
        whole: keep every column, as an operator depends on whole rows.
        every_alias: keep every computed column, as a join stores whole rows.
    """

    def __init__(self, *, whole: bool, every_alias: bool) -> None:
        self._whole = whole
        self._every_alias = every_alias
        self._used: set[str] = set()

    def of(self, text: str) -> str:
        """Return a node's text with the columns that are used; empty for a Project that computes none."""
        if not self._whole and text.startswith("Project ["):
            kept = [part for part in top_level(text[9:-1]) if " AS " in part and self._needs(part)]
            text = f"Project [{', '.join(kept)}]" if kept else ""
        elif not self._whole and text.startswith("Expand ["):
            text = self._of_expand(text)
        self.use(text)
        return text

    def use(self, text: str) -> None:
        """Mark the columns in the text of a node as used."""
        self._used.update(re.findall(r"#(\d+)", text))

    def of_leaf(self, node: _Node) -> str:
        """Return a line with the used columns of a source, without its kind, path and options."""
        lists = _COLUMNS.findall(node.text)
        columns = re.split(r", ?", lists[-1]) if lists else []
        if not self._whole:
            columns = sorted(column for column in columns if self._needs(column))
        kind = "Stream" if node.streams else "Table"
        return f"{kind} [{', '.join(columns)}]"

    def _needs(self, column: str) -> bool:
        ids = re.findall(r"#(\d+)", column)
        return (self._every_alias and " AS " in column) or (bool(ids) and ids[-1] in self._used)

    def _of_expand(self, text: str) -> str:
        """Keep the columns of `Expand [[a, b], [c, d]], [x, y]` whose names x, y, … are used."""
        rows, names = top_level(text[len("Expand ") :])
        lists = [top_level(row[1:-1]) for row in [*top_level(rows[1:-1]), names]]
        needed = [self._needs(name) for name in lists[-1]]
        if any(len(each) != len(needed) for each in lists):  # a bracket in a literal has misled the split
            return text
        short = [f"[{', '.join(compress(each, needed))}]" for each in lists]
        return f"Expand [{', '.join(short[:-1])}], {short[-1]}"


def _nodes(plan: str) -> list[_Node]:
    r"""Return the nodes of a printed plan, from the top down.

    A line without a branch of the tree belongs to the node before it, whose text has a line break; the two
    lines are joined by a `\n` in two characters.
    """
    nodes: list[_Node] = []
    for line in plan.split("\n"):
        branch = re.match(r"(?:[: ]  )*(?::- |\+- )", line)
        if nodes and not branch:
            nodes[-1] = _Node(nodes[-1].depth, nodes[-1].streams, f"{nodes[-1].text}\\n{line}")
            continue
        text = line[branch.end() :] if branch else line
        streams = text.startswith(("~", "StreamingRelation"))
        nodes.append(_Node(branch.end() // 3 if branch else 0, streams, text.removeprefix("~")))
    return nodes


def _of_folders(nodes: list[_Node]) -> list[_Node]:
    """Return the nodes with each source that the kit filters as Spark prints one that is not filtered.

    Such a source has two steps of the kit above it, the filter and a Project. Without them its query has the
    same fingerprint as with a plain folder.
    """
    ours = {at for at, node in enumerate(nodes) if _OF_SOURCES.match(node.text)}
    for at in ours:
        above, source = nodes[at - 1], nodes[at + 1]
        text = source.text
        *_, columns = _COLUMNS.finditer(text)
        text = text[: columns.start()] + above.text.removeprefix("Project ") + text[columns.end() :]
        nodes[at + 1] = _Node(above.depth, source.streams, text)
    return [node for at, node in enumerate(nodes) if not {at, at + 1} & ours]


def _end(nodes: list[_Node], at: int) -> int:
    """Return the index after the last node below `at`."""
    below = range(at + 1, len(nodes))
    return next((other for other in below if nodes[other].depth <= nodes[at].depth), len(nodes))


def _is_stateful_join(nodes: list[_Node], at: int) -> bool:
    """Return whether a node joins two streams; a join of a stream with a table keeps no state."""
    if not nodes[at].text.startswith("Join "):
        return False
    sides = [node for node in nodes[at + 1 : _end(nodes, at)] if node.depth == nodes[at].depth + 1]
    return all(side.streams for side in sides)


def _without(unstable: list[tuple[re.Pattern[str], str]], text: str) -> str:
    # Remove what differs between two runs, and then the ANSI settings, also those of nested calls.
    for pattern, kept in unstable:
        text = pattern.sub(kept, text)
    before = ""
    while text != before:
        before, text = text, _ANSI_FLAG.sub(r"\1(\2)", text)
    return text


_VERBS = {
    "Deduplicate": "drops duplicates by",
    "DeduplicateWithinWatermark": "drops duplicates within the watermark by",
    "Expand": "computes",
    "Filter": "keeps rows where",
    "Join": "joins",
    "Stream": "reads a stream of",
    "Table": "reads a table of",
}
# The expressions into which Spark turns window() and session_window(); lengths are in microseconds.
_TIME = r"precisetimestampconversion\((?P<time>[^(),]+), TimestampType, LongType.*"
_WINDOW = re.compile(
    _TIME + r"?- (?P<start>\d+)\) % (?P<slide>\d+)\).*\+ (?P<length>\d+)\), LongType, TimestampType"
)
_SESSION = re.compile(_TIME + r"\+ cast\((?P<gap>.+?) as interval\)")
# The window of `windows.calendar`, where a unit longer than a day is an argument of trunc().
_DAYS = re.compile(r"^struct\(start, .*?CASE.*?from_utc_timestamp\(([^,]+), ([^)]+)\)(?:.*?\), ([a-z]+)\))?")
# A variable of a Python lambda, and a field of a struct that is named after it. PySpark numbers the variables
# of a process, so the same query has other numbers when it is built again.
_VARIABLE = re.compile(r"(?<=\blambda )([xyz])_\d+(?=#\d)")
_FIELD = re.compile(r"\b([xyz]_\d+)(?=, lambda \1#)")
_LONG = 160  # the most characters that are shown of one difference


def _canonical(text: str) -> str:
    """Return a fingerprint in the canonical form in which two are compared, whatever Spark's version.

    Equivalent texts become equal: intervals are in microseconds (300 seconds and 5 minutes are the same), the
    options of `from_csv` are sorted, steps that change nothing are left out, and columns are numbered anew.
    """
    lines: list[str] = []
    above: list[tuple[int, bool]] = []  # the depth of each step above a line, and whether the step is shown
    given = _without_numbered_variables(text).split("\n")
    for at, line in enumerate(given):
        step = line.lstrip()
        depth = len(line) - len(step)
        while above and above[-1][0] >= depth:
            above.pop()
        indent = "  " * sum(shown for _, shown in above)
        above.append((depth, step != "Filter true" and not _renames_nothing(step, given[at + 1 : at + 2])))
        if above[-1][1]:
            lines.append(indent + _in_one_way(step))
    numbers: dict[tuple[str, str], str] = {}

    def renumbered(found: re.Match[str]) -> str:
        name, number = found.groups()
        return name + numbers.setdefault((name[0], number), str(len(numbers)))

    return re.sub(r"(#|CTERelationDef |CTERelationRef )(\d+)", renumbered, "\n".join(lines))


def _without_numbered_variables(text: str) -> str:
    """Return a fingerprint in which the variables of Python lambdas are named x, y and z, without a number.

    Columns that a source really has under such a name, as `x_1`, keep it.
    """
    read = set(re.findall(r"\b[xyz]_\d+(?=#)", "".join(re.findall(r"(?:Stream|Table) \[.*", text))))
    for field in {*_FIELD.findall(text)} - read:  # the steps above the lambda may name the field, too
        text = re.sub(rf"\b{field}\b", field[0], text)
    return _VARIABLE.sub(r"\1", _FIELD.sub(lambda field: field[0][0], text))


def _caseless(text: str) -> str:
    """Return a fingerprint with the names of columns in lower case, as Spark compares them by default."""
    return re.sub(r"(?<= AS ).*?(?=#\d)|\w+(?=#\d)", lambda name: name[0].lower(), text)


def _in_one_way(step: str) -> str:
    # Return one step of a fingerprint in its canonical form.
    step = re.sub(r"\bcast\(([^()]+) as interval\)", _interval, step)
    # In collect_list Spark 4.1 does not print the flag for dropping NULL.
    step = step.replace(", 0, 0, true)", ", 0, 0)")
    step = re.sub(r"(?:\(\w+,[^()]*\), )+\(\w+,[^()]*\)(?=, )", _in_order, step)
    # The path of each line's file, which a quarantine may read from the source, is no part of the state.
    return re.sub(r"(?<=^Stream \[)_metadata#\d+(, )?", "", step)


def _renames_nothing(step: str, below: list[str]) -> bool:
    """Return whether a step selects the columns of a source unchanged, as `unionByName` does.

    Args:
        step: the step.
        below: the line below the step, if any.
    """
    columns = re.fullmatch(r"Project (\[[^\[\]]*\])", step)
    return bool(columns and below and below[0].lstrip() in {f"Stream {columns[1]}", f"Table {columns[1]}"})


def _interval(found: re.Match[str]) -> str:
    # Return the matched cast with its interval in microseconds.
    try:
        return f"cast({to_microseconds('gap', found[1])} microseconds as interval)"
    except InvalidInputError:  # an expression, or months, which have no fixed length: leave it
        return found[0]


def _in_order(found: re.Match[str]) -> str:
    return ", ".join(sorted(re.findall(r"\(\w+,[^()]*\)", found[0])))


def differences(old: str, new: str, *, caseless: bool = True) -> list[str]:
    """Describe how this query's fingerprint differs from that of the query that wrote a checkpoint.

    Args:
        old: the fingerprint of the checkpoint's query.
        new: the fingerprint of this query.
        caseless: whether `k` and `K` are the same column. They are unless `spark.sql.caseSensitive` is on.

    Returns:
        One phrase for each difference; an empty list for equal fingerprints.

    Examples:
        >>> differences("Aggregate [ProductKey#1], [ProductKey#1]", "Aggregate [State#1], [State#1]")
        ["groups by State; the checkpoint's query groups by ProductKey"]
    """
    old, new = _canonical(old), _canonical(new)
    # The names of lambda variables do not count.
    one, other = (re.sub(r"(?<=\blambda )\w+(?=#\d)", "", text) for text in (old, new))
    if one == other or (caseless and _caseless(one) == _caseless(other)):
        return []
    here, there = Counter(_phrases(new)), Counter(_phrases(old))
    here, there = here - there, there - here
    found = []
    for verb in dict.fromkeys(verb for verb, _ in [*here, *there]):
        mine = ", ".join(what for each, what in here.elements() if each == verb)
        theirs = ", ".join(what for each, what in there.elements() if each == verb)
        mine, theirs = _shortened(mine, theirs), _shortened(theirs, mine)
        if mine and theirs:
            found.append(f"{verb} {mine}; the checkpoint's query {verb} {theirs}")
        elif mine:
            found.append(f"{verb} {mine}; the checkpoint's query does not")
        elif theirs:
            found.append(f"has no step that {verb} {theirs}, as the checkpoint's query has")
    # Other columns are read because other steps use them, so report them only if nothing else differs.
    telling = [text for text in found if not re.match(r"(has no step that )?reads ", text)]
    return telling or found or ["does the same steps in another order, or on columns of another source"]


def _phrases(text: str) -> list[tuple[str, str]]:
    """Return the steps of a fingerprint as pairs of a verb and its object, as ("groups by", "State")."""
    lines = re.sub(r"#\d+L?", "", text).split("\n")
    return [phrase for line in lines for phrase in _of_line(line.strip())]


def _of_line(line: str) -> list[tuple[str, str]]:
    # Return the pairs of a verb and its object for one line, whose column numbers have been removed.
    operator, _, rest = line.partition(" ")
    parts = top_level(rest)
    if operator == "Aggregate":
        keys = top_level(parts[0][1:-1])
        results = [part for part in top_level(parts[-1][1:-1]) if part not in keys]
        by = ("groups by", ", ".join(keys) or "nothing")
        return [by, *(("computes", _in_words(part)) for part in results)]
    if operator == "Project":
        return [("computes", _in_words(part)) for part in top_level(rest[1:-1])]
    if operator == "EventTimeWatermark":
        return [("has a watermark of", f"{parts[-1]} on {rest.partition(':')[0]}")]
    if operator == "Parse":
        kind, _, formats = rest.partition("_")
        return [("parses", f"lines of {kind} by schema and formats {formats}")]
    verb = _VERBS.get(operator, f"runs {operator} on")
    return [(verb, _in_words(rest.strip("[]")))] if operator else []


def _in_words(expression: str) -> str:
    """Return a window as text with its lengths in seconds or its unit, and other expressions unchanged."""
    if window := _WINDOW.search(expression):
        time = window["time"]
        start, slide, length = (f"{int(window[name]) / 1e6:g} s" for name in ("start", "slide", "length"))
        return f"windows of {length} every {slide}{'' if start == '0 s' else f' from {start}'} on {time}"
    if days := _DAYS.search(expression):
        return "the {2} in {1} of {0}".format(*days.groups("day"))
    if session := _SESSION.search(expression):
        gap = re.sub(r"(\d+) microseconds", lambda found: f"{int(found[1]) / 1e6:g} s", session["gap"])
        return f"session windows with a gap of {gap} on {session['time']}"
    return expression


def _shortened(text: str, other: str) -> str:
    """Return a text, cut to the part around its first difference from another text if it is long."""
    if len(text) <= _LONG:
        return text
    pairs = enumerate(zip(text, other, strict=False))
    start = max(0, next((at for at, (one, two) in pairs if one != two), 0) - 20)
    end = start + _LONG
    return f"…{text[start:end]}" + ("…" if end < len(text) else "")
