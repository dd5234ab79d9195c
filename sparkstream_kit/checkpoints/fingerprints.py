"""What a query keeps in its state, as a text that can be kept and compared.

When a query restarts, Spark compares the types of the state's columns and the operators, and no more: another
group key of the same type goes on with the old totals. This text tells the two apart.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from sparkstream_kit._durations import to_microseconds
from sparkstream_kit.checkpoints import _plans
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["differences", "fingerprint"]

_VERBS = {
    "Deduplicate": "drops duplicates by",
    "DeduplicateWithinWatermark": "drops duplicates within the watermark by",
    "Expand": "computes",
    "Filter": "keeps rows where",
    "Join": "joins",
    "Stream": "reads a stream of",
    "Table": "reads a table of",
}
# How versions before this one parsed lines of CSV and JSON: from its first step to that which reads the line.
_PARSE = re.compile(r"Project \[CASE WHEN isnull\(_reason#\d+\) THEN v\d+#(?:.*\n)+?.* AS _raw#\d+.*")
# What Spark makes of window() and session_window(); lengths are in microseconds.
_TIME = r"precisetimestampconversion\((?P<time>[^(),]+), TimestampType, LongType.*"
_WINDOW = re.compile(
    _TIME + r"?- (?P<start>\d+)\) % (?P<slide>\d+)\).*\+ (?P<length>\d+)\), LongType, TimestampType"
)
_SESSION = re.compile(_TIME + r"\+ cast\((?P<gap>.+?) as interval\)")
# A variable of a Python lambda, and a field of a struct that has its name. PySpark counts these variables up:
# the same query has other numbers when it is built again.
_VARIABLE = re.compile(r"(?<=\blambda )([xyz])_\d+(?=#\d)")
_FIELD = re.compile(r"\b([xyz]_\d+)(?=, lambda \1#)")
_LONG = 160  # characters of one difference


def fingerprint(frame: DataFrame, mode: str) -> str:
    """Return what a streaming query keeps in its state, as text; equal on classic Spark and Spark Connect.

    It covers the topmost stateful operator and all below it that reaches its state: group keys, aggregates,
    deduplication keys in their order, join conditions, watermarks, filters, computed columns. It does not
    cover what is above, nor sources, sinks, paths, options, trigger, name, time zone and ANSI mode. The
    bodies of UDFs are not seen.

    Args:
        frame: a streaming DataFrame.
        mode: the output mode; a limit keeps state in append mode only.

    Returns:
        Lines of Spark's analyzed plan, made stable; empty for a query that keeps no state.
    """
    return _canonical("\n".join(_plans.stable_lines(frame, mode)))


def _canonical(text: str) -> str:
    """Return a fingerprint in the form in which two are compared, also one that an older version has kept.

    What says the same in other words is said in one way: an interval of 300 seconds is one of 5 minutes, the
    options of `from_csv` stand in one order, and steps that change nothing are left out.
    """
    lines: list[str] = []
    above: list[tuple[int, bool]] = []  # the steps that a line is under: how deep, and whether it is shown
    given = _without_numbered_variables(_PARSE.sub("Parse", text)).split("\n")
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
    """Return a fingerprint in which the variables of Python's lambdas are x, y and z, without a number."""
    read = set(re.findall(r"\b[xyz]_\d+(?=#)", "".join(re.findall(r"(?:Stream|Table) \[.*", text))))
    for field in {*_FIELD.findall(text)} - read:  # the steps above may name it, too
        text = re.sub(rf"\b{field}\b", field[0], text)
    return _VARIABLE.sub(r"\1", _FIELD.sub(lambda field: field[0][0], text))


def _caseless(text: str) -> str:
    """Return a text with the names of columns in lower case, as Spark compares them."""
    return re.sub(r"(?<= AS ).*?(?=#\d)|\w+(?=#\d)", lambda name: name[0].lower(), text)


def _in_one_way(step: str) -> str:
    step = re.sub(r"\bcast\(([^()]+) as interval\)", _interval, step)
    step = re.sub(r"(?:\(\w+,[^()]*\), )+\(\w+,[^()]*\)(?=, )", _in_order, step)
    return re.sub(r"(?<=^Stream \[)_metadata#\d+(, )?", "", step)  # the file of a line


def _renames_nothing(step: str, below: list[str]) -> bool:
    """Say whether a step hands on the columns of a source as they are, as `unionByName` does."""
    columns = re.fullmatch(r"Project (\[[^\[\]]*\])", step)
    return bool(columns and below and below[0].lstrip() in {f"Stream {columns[1]}", f"Table {columns[1]}"})


def _interval(found: re.Match[str]) -> str:
    try:
        return f"cast({to_microseconds('gap', found[1])} microseconds as interval)"
    except InvalidInputError:  # an expression, or months
        return found[0]


def _in_order(found: re.Match[str]) -> str:
    return ", ".join(sorted(re.findall(r"\(\w+,[^()]*\)", found[0])))


def differences(old: str, new: str, *, caseless: bool = True) -> list[str]:
    """Say in words how this query's fingerprint differs from that of a checkpoint.

    Args:
        old: the fingerprint of the checkpoint's query.
        new: the fingerprint of this one.
        caseless: whether `k` and `K` are one column, as they are unless `spark.sql.caseSensitive` is on.

    Returns:
        One phrase for each difference; none for equal fingerprints.

    Example:
        >>> differences("Aggregate [ProductKey#1], [ProductKey#1]", "Aggregate [State#1], [State#1]")
        ["groups by State; the checkpoint's query groups by ProductKey"]
    """
    old, new = _canonical(old), _canonical(new)
    if re.search(r"^ *Parse$", old, re.MULTILINE):  # by which settings, it does not say
        new = re.sub(r"(?m)^( *Parse) \w+$", r"\1", new)
    one, other = (re.sub(r"(?<=\blambda )\w+(?=#\d)", "", text) for text in (old, new))  # names of variables
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
    # What is read follows from the rest: it is worth a word only when it is all there is.
    telling = [text for text in found if not re.match(r"(has no step that )?reads ", text)]
    return telling or found or ["does the same steps in another order, or on columns of another source"]


def _phrases(text: str) -> list[tuple[str, str]]:
    """Return what a fingerprint says, as pairs of a verb and its object."""
    plain = re.sub(r"#\d+L?", "", text)
    return [phrase for line in plain.split("\n") for phrase in _of_line(line.strip())]


def _of_line(line: str) -> list[tuple[str, str]]:
    operator, _, rest = line.partition(" ")
    parts = _plans.top_level(rest)
    if operator == "Aggregate":
        keys = _plans.top_level(parts[0][1:-1])
        results = [part for part in _plans.top_level(parts[-1][1:-1]) if part not in keys]
        by = ("groups by", ", ".join(keys) or "nothing")
        return [by, *(("computes", _in_words(part)) for part in results)]
    if operator == "Project":
        return [("computes", _in_words(part)) for part in _plans.top_level(rest[1:-1])]
    if operator == "EventTimeWatermark":
        return [("has a watermark of", f"{parts[-1]} on {rest.partition(':')[0]}")]
    if operator == "Parse":
        return [
            ("parses", f"lines of {rest.partition('_')[0]} by schema and formats {rest.partition('_')[2]}")
        ]
    verb = _VERBS.get(operator, f"runs {operator} on")
    return [(verb, _in_words(rest.strip("[]")))] if operator else []


def _in_words(expression: str) -> str:
    """Return a window with its lengths in seconds, and any other expression as it is."""
    if window := _WINDOW.search(expression):
        time = window["time"]
        start, slide, length = (f"{int(window[name]) / 1e6:g} s" for name in ("start", "slide", "length"))
        return f"windows of {length} every {slide}{'' if start == '0 s' else f' from {start}'} on {time}"
    if session := _SESSION.search(expression):
        gap = re.sub(r"(\d+) microseconds", lambda found: f"{int(found[1]) / 1e6:g} s", session["gap"])
        return f"session windows with a gap of {gap} on {session['time']}"
    return expression


def _shortened(text: str, other: str) -> str:
    """Return the part of a long text in which it differs from another."""
    if len(text) <= _LONG:
        return text
    pairs = enumerate(zip(text, other, strict=False))
    start = max(0, next((at for at, (one, two) in pairs if one != two), 0) - 20)
    end = start + _LONG
    return f"…{text[start:end]}" + ("…" if end < len(text) else "")
