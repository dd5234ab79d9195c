"""The header of a CSV file, known by its place: the first line of its file that is not blank.

A header belongs to a file. No line can be told from a header by its looks alone:
`2020,name,city` can be a header, and `note,word,z` a row. Spark's text source does not
say which line is the first one, but it reads the lines of a file in their order and
says in which block of the file a line is. So a function in Python, which sees the lines
of a task one after the other, finds the first line of each file (`of_file`).
"""

from __future__ import annotations

import re
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.rows import BLOCK, FILE, RAW, block, has, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import Column, DataFrame


# What a line would be if it were the first one of its file.
_IS_HEADER, _IS_DATA, _IS_OTHER = range(3)
# What a line is by its place: a row, a header, or, in a file whose first line is no
# header: the first line, if it is a row of data, the first line otherwise, and a line
# below that.
_ROW, _HEADER, _FIRST_ROW, _FIRST_OTHER, _BELOW_OTHER = range(5)

_NOT_THE_HEADER = "not the header of the schema"
_OTHER_HEADER = "its file has another header"
_SEPARATORS = (",", ";", "\t", "|")

# In an analyzed plan: a source of lines of files, streaming or static.
_TEXT_FILES = r"FileSource\[.*\], \[value#|Relation \[value#.*\] text"
# In an analyzed plan: a step, at the beginning of a line such as "   +- Project [a#1]". A
# repartition that shuffles is another step than one that does not.
_STEP = re.compile(r"(?:\A|\n[ :]*[+:]- )~?(Repartition \d+, true|\w+)")
# The steps that keep lines in their order.
_IN_ORDER = {
    "CollectMetrics",
    "EventTimeWatermark",
    "FileSource",
    "Filter",
    "Project",
    "Relation",
    "Repartition",
    "StreamingRelation",
    "SubqueryAlias",
}


def has_places(lines: DataFrame) -> bool:
    """Return whether lines come from text files, so that the first line of each file can be known.

    Raises:
        InvalidInputError: they do, but a step before has mixed them, so that it cannot.
    """
    is_text, mixing = _text_below(lines)
    if not is_text:
        return False
    if not mixing and has(lines, block()):
        return True
    named = ""
    if mixing:
        step, _, _ = mixing[0].partition(" ")
        named = f" ({step})"
    raise InvalidInputError(
        "parse_csv(header=True) takes the first line of each file for its header,"
        f" and after another step{named} it is not known; parse the lines of"
        " sources.text first"
    )


def _text_below(lines: DataFrame) -> tuple[bool, list[str]]:
    """Return whether lines come from text files, and the steps that have mixed them."""
    from sparkstream_kit._internal.spark.logical_plan import analyzed_plan
    from sparkstream_kit._internal.spark.session import may_ask
    from sparkstream_kit._internal.spark.shapes import text_below

    if not may_ask(lines.sparkSession):
        return text_below(lines)
    plan = analyzed_plan(lines.alias("lines"))
    mixing = [step for step in steps_of(plan) if step not in _IN_ORDER]
    return re.search(_TEXT_FILES, plan) is not None, mixing


def steps_of(plan: str) -> list[str]:
    r"""Return the steps of a plan, as Spark prints it, from the last one to the sources.

    Examples:
        >>> steps_of("Project [a#1]\n+- Repartition 2, true\n   +- Relation [value#1] text")
        ['Project', 'Repartition 2, true', 'Relation']
    """
    return _STEP.findall(plan)


def placed(
    frame: DataFrame, *, is_header: Column, is_data: Column, names: list[str], sep: str
) -> tuple[DataFrame, Column, Column]:
    """Find the first line of each file, and whether it is the header.

    Args:
        frame: the lines of files, with RAW, FILE and BLOCK.
        is_header: whether a line would be the header if it were the first one of its
            file.
        is_data: whether it would be a row of a file without a header.
        names: the names of the columns.
        sep: the separator.

    Returns:
        The frame, with the place of each line; whether a line is the header of its
        file, or the first line of a file without one, else null; and a reason for which
        a line is bad: its file has another header.
    """
    # A step of its own: Spark then gives the function two numbers of each line, and
    # keeps the rest.
    looks = (
        F.when(is_header, F.lit(_IS_HEADER))
        .when(is_data, F.lit(_IS_DATA))
        .otherwise(F.lit(_IS_OTHER))
    )
    # As Spark's reader of CSV has it, which skips such lines
    is_blank = ~F.col(RAW).rlike(r"[^\x00-\x20]")
    file = F.when(~is_blank, F.col(BLOCK)["file"])
    frame = frame.select("*", file.alias("_at"), looks.alias("_looks"))
    # Not deterministic, so that Spark filters no line out before the function has seen
    # it.
    place_of = F.udf(_placing(), T.IntegerType(), useArrow=False).asNondeterministic()
    frame = frame.select("*", place_of("_at", "_looks").alias("_place"))

    place = F.col("_place")
    reason = F.when(place == _BELOW_OTHER, _OTHER_HEADER).when(
        place == _FIRST_OTHER, _not_the_header(names, sep)
    )
    is_first_no_header = place.isin(_FIRST_ROW, _FIRST_OTHER)
    is_the_header = F.when(place == _HEADER, F.lit(True)).when(
        is_first_no_header, F.lit(False)
    )
    return frame, is_the_header, reason


def _not_the_header(names: list[str], sep: str) -> Column:
    """Return the reason for the first line of a file with another header.

    If Spark reads the file in parts, the query fails instead: a part does not know the
    first line.
    """
    hint = other_separator(len(names), sep)
    reason = F.concat(F.lit(_NOT_THE_HEADER), hint)
    failure = F.raise_error(_other_header_error(names, hint)).cast("string")
    return F.when(F.col(BLOCK)["is_whole"], reason).otherwise(failure)


def _placing() -> Callable[[int | None, int], int]:
    """Return a function that takes a task's lines in order and says what each one is.

    It takes a number for the file of the line, which is null for a blank line and
    outside the first block of a file, and what the line would be as the first one. It
    stands in another function so that it is pickled with its code: a worker may not
    have this package.
    """
    current: int | None = None
    current_looks = _IS_HEADER

    def place(file: int | None, looks: int) -> int:
        nonlocal current, current_looks
        if file is None:
            return _ROW
        if file == current:
            return _BELOW_OTHER if current_looks == _IS_OTHER else _ROW
        current = file
        current_looks = looks
        if looks == _IS_HEADER:
            return _HEADER
        return _FIRST_ROW if looks == _IS_DATA else _FIRST_OTHER

    return place


def other_separator(fields: int, sep: str) -> Column:
    """Return a hint (string) if another separator gives as many fields as columns."""
    hint = F.lit("")
    for other in reversed(_SEPARATORS):
        if other not in sep:
            fits = F.col(RAW).contains(other)
            fits &= F.regexp_count(RAW, F.lit(re.escape(other))) == fields - 1
            hint = F.when(fits, F.lit(f"; give sep={other!r}")).otherwise(hint)
    return hint


def splits_elsewhere(fields: int, sep: str) -> Column:
    """Return whether another separator gives a line as many fields as columns."""
    return other_separator(fields, sep) != ""


def _other_header_error(names: list[str], hint: Column) -> Column:
    """Return the error for a file with another header that Spark reads in parts."""
    file = F.coalesce(readable(F.col(FILE)), F.lit("the input"))
    differs = (
        f" does not have the columns of the schema, {', '.join(names)}, in this order;"
        " it is "
    )
    fix = (
        "; Spark reads this large file in parts, so its other lines cannot be set"
        " aside: mend the header"
    )
    return F.concat(
        F.lit("the header of "), file, F.lit(differs), F.col(RAW), hint, F.lit(fix)
    )


def are_names(texts: Sequence[Column], names: Sequence[str]) -> Column:
    """Return whether the fields of a line are the names of the columns, each in its place.

    Case and blanks around a name are ignored. A name may be missing in the file, as
    pandas and R write none for an index, but not each of them. Where a name is there
    twice, Spark makes `a0` and `a2` of it by its places, and so do the schemas that
    `schemas.infer` returns.
    """
    fields = [F.coalesce(_folded(F.trim(text), names), F.lit("")) for text in texts]
    are_allowed = []
    for field, allowed in zip(fields, _allowed(_wanted(names)), strict=True):
        are_allowed.append(field.isin(*allowed))
    has_name = [field != "" for field in fields]
    return reduce(and_, are_allowed) & reduce(or_, has_name)


def _allowed(names: Sequence[str]) -> list[list[str]]:
    """Return for each column what its name in a file can be; an empty one is missing.

    Examples:
        >>> _allowed(["a0", "b", "a2"])  # of a file with a, b and a
        [['a0', '', 'a'], ['b', ''], ['a2', '', 'a']]
        >>> _allowed(["a0", "b"])
        [['a0', ''], ['b', '']]
    """
    stems = [
        name.removesuffix(str(index)) if name.endswith(str(index)) else None
        for index, name in enumerate(names)
    ]
    allowed = []
    for name, stem in zip(names, stems, strict=True):
        in_file = [name, ""]
        if stem is not None and stems.count(stem) > 1:
            in_file.append(stem)
        allowed.append(in_file)
    return allowed


def is_a_name(text: Column, names: Sequence[str]) -> Column:
    """Return whether a field is the name of a column, in whichever place."""
    return F.coalesce(_folded(F.trim(text), names).isin(*_wanted(names)), F.lit(False))


def has_two_names(texts: Sequence[Column], names: Sequence[str]) -> Column:
    """Return whether two or more of the column names are among the fields of a line."""
    fields = F.array(*[_folded(F.trim(text), names) for text in texts])
    wanted = F.array(*map(F.lit, _wanted(names)))
    return F.size(F.array_intersect(fields, wanted)) > 1


def _wanted(names: Sequence[str]) -> list[str]:
    """Return the names of the columns as those in a file are compared with them."""
    stripped = [name.strip() for name in names]
    if _differ_in_case(names):
        return stripped
    return [name.lower() for name in stripped]


def _folded(text: Column, names: Sequence[str]) -> Column:
    """Return a name in a file as it is compared: in lower case, if case makes no difference."""
    return text if _differ_in_case(names) else F.lower(text)


def _differ_in_case(names: Sequence[str]) -> bool:
    """Return whether two names differ in case alone, which Spark can tell apart."""
    stripped = {name.strip() for name in names}
    lower = {name.lower() for name in stripped}
    return len(lower) < len(stripped)
