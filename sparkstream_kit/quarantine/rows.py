"""Tell good rows from bad ones, by conversion of text and by rules, and count them.

`parsed` builds the rows of every parser of this package, and `typed` converts text to a
type without loss. `expect` and `mark_bad` find bad rows among rows that could be read;
`good_rows`, `bad_rows` and `split` take the two kinds apart. `_reason` decides: a row
is good if it is null. All counts are observations in the plan, which Spark reports as
the `observedMetrics` of its progress.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import reduce
from itertools import count
from operator import or_
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import (
    HEADERS,
    OBSERVED,
    RULES,
    STEADY,
    all_but,
    as_compared,
    column,
    number,
    refuse_twice,
    shape_of,
    with_column,
    without,
)
from sparkstream_kit.errors import InvalidInputError, reject_unknown, said_by_spark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import Column, DataFrame

    from sparkstream_kit.sinks import Sink

    Read = Callable[[DataFrame], tuple[DataFrame, Column, Column | None]]


LEVELS = ("warn", "quarantine", "fail")


def expect(frame: DataFrame, rules: Mapping[str, str]) -> DataFrame:
    """Check rows by rules such as `amount > 0`; count or set aside what breaks one.

    A rule is a condition in SQL. A row breaks the rule if the condition is false or
    NULL: write `amount IS NULL OR amount > 0` to let rows without an amount pass. Rows
    that already have a reason in `_reason`, such as lines that could not be parsed, are
    not checked. A comment at the end of a condition is the rule's name, which reasons
    and counts have in its place: `amount > 0 /* positive */`.

    The summary of `run` has the number of rows that broke each rule
    (`QuerySummary.broken`), and a verdict for each broken rule. A batch that is
    computed twice counts twice.

    Args:
        frame: a stream, or a static DataFrame.
        rules: each condition, with what happens to the rows that break it:

            - `warn`: they are counted and stay as they are.
            - `quarantine`: they get a reason in `_reason`, as bad lines have, so that
              `good_rows` leaves them out and `bad_rows` keeps them: parsed rows with
              their lines, other rows with their values. The first broken rule gives the
              reason.
            - `fail`: the query fails at the first of them, before their batch is
              committed. Spark stops at that row, so the error names the rule, but can
              only say that at least one row breaks it.

    Returns:
        The same columns. If a rule has `quarantine`, also `_reason` (string), unless
        `frame` has it already.

    Raises:
        InvalidInputError: `rules` is empty, the value of a rule is none of the three
            above, or a condition cannot be read, is not a boolean, or uses a column
            that does not exist.

    Examples:
        In a session::

            rules = {"amount > 0": "quarantine", "shop IS NOT NULL": "warn"}
            rows = quarantine.expect(sales, rules)
            good, bad = quarantine.good_rows(rows), quarantine.bad_rows(rows)
    """
    check(expect, locals())
    _check_rules(frame, rules)
    flags = {
        condition: f"_rule{number}_broken" for number, condition in enumerate(rules)
    }
    frame_with_reason, former = _with_former_reason(frame)
    is_checked = former.isNull() if former is not None else F.lit(True)
    # A select of its own, so that Spark evaluates each rule once.
    broken = [
        (is_checked & ~F.coalesce(F.expr(condition), F.lit(False))).alias(flag)
        for condition, flag in flags.items()
    ]
    counts = [
        F.count_if(flag).alias(_on_one_line(condition))
        for condition, flag in flags.items()
    ]
    checked = frame_with_reason.select("*", *broken).observe(
        f"{RULES}_{next(_numbers)}", *counts
    )
    for condition, flag in flags.items():
        if rules[condition] == "fail":
            checked = _failing_at(checked, flag, condition)
    aside = {
        condition: flag
        for condition, flag in flags.items()
        if rules[condition] == "quarantine"
    }
    if aside:
        is_first = former is None and not _are_counted(frame)
        checked = _with_reasons(checked, aside, former, count_rows=is_first)
    added = list(flags.values())
    if frame_with_reason is not frame:
        added.append(_FORMER)
    return checked.select(all_but(added))


def _with_former_reason(frame: DataFrame) -> tuple[DataFrame, Column | None]:
    """Return a frame, and its column `_reason`, or None if it has none.

    If it is not known whether it has one, the frame that is returned has a further
    column, `_FORMER`, with the reason or null.
    """
    from sparkstream_kit._internal.spark.shapes import table_of_pipeline

    shape = shape_of(frame)
    if REASON in shape.names:
        return frame, column(REASON)
    if shape.is_whole or table_of_pipeline(frame) is None:
        return frame, None
    # Spark takes a name for a column of the frame, or else for a name that the same
    # select gives.
    none = F.lit(None).cast("string").alias(REASON)
    row = F.struct("*").alias(_ROW)
    beside = frame.select(row, none, column(REASON).alias(_FORMER))
    return beside.select(f"{_ROW}.*", _FORMER), F.col(_FORMER)


def _check_rules(frame: DataFrame, rules: Mapping[str, str]) -> None:
    """Refuse rules that `expect` cannot check.

    Raises:
        InvalidInputError: as for `expect`.
    """
    from sparkstream_kit._internal.spark.session import may_ask, without_logged_errors

    if not rules:
        raise InvalidInputError(
            "expect() needs a rule, such as {'amount > 0': 'quarantine'}"
        )
    refuse_twice("expect(): rule", [_on_one_line(condition) for condition in rules])
    is_answered = may_ask(frame.sparkSession)
    for condition, level in rules.items():
        reject_unknown(f"word for rule {condition}:", [str(level)], LEVELS)
        if not is_answered:
            continue
        try:
            # On Connect only this reads the condition; `where` alone has the schema
            # that is known already.
            with without_logged_errors():
                frame.where(condition).select("*").schema  # noqa: B018
        except AnalysisException as err:
            why = f"{said_by_spark(err)}; give a condition in SQL, such as amount > 0"
            raise InvalidInputError(
                f"expect(): rule {_on_one_line(condition)} cannot be used: {why}"
            ) from None


def _failing_at(frame: DataFrame, flag: str, condition: str) -> DataFrame:
    """Let the query fail at the first row with a flag: it breaks the rule."""
    message = (
        f"rule {_on_one_line(condition)}: at least 1 row breaks it, and it says 'fail';"
        " mend the data, or give the rule 'quarantine' to set such rows aside"
    )
    stop = F.raise_error(F.lit(message))
    return frame.where(F.when(F.col(flag), stop).otherwise(F.lit(True)))


def _with_reasons(
    frame: DataFrame,
    flags: Mapping[str, str],
    former: Column | None,
    *,
    count_rows: bool,
) -> DataFrame:
    """Give the rows that break a rule a reason, and count them.

    Args:
        frame: rows with a flag for each rule.
        flags: the name of the flag for each rule.
        former: the column `_reason`, or None if the rows have none; a reason in it is
            kept.
        count_rows: count all rows, too: no parser has counted them.
    """
    is_bad = reduce(or_, (F.col(flag) for flag in flags.values()))
    reasons = [
        F.when(F.col(flag), F.lit(f"breaks {_on_one_line(condition)}"))
        for condition, flag in flags.items()
    ]
    counted = count_bad(frame, is_bad, rows=F.count("*") if count_rows else None)
    kept = [] if former is None else [former]
    return with_column(counted, REASON, F.coalesce(*kept, *reasons))


def _are_counted(frame: DataFrame) -> bool:
    """Return whether a step before has counted these rows, which only the plan shows.

    Metadata of `_reason` could show it, too, but a sink would write it with the column.
    """
    from sparkstream_kit._internal.spark.logical_plan import analyzed_plan
    from sparkstream_kit._internal.spark.session import may_ask
    from sparkstream_kit._internal.spark.shapes import counts_rows

    if not may_ask(frame.sparkSession):
        return counts_rows(frame, OBSERVED)
    return re.search(_COUNTS, analyzed_plan(frame)) is not None


def _on_one_line(condition: str) -> str:
    r"""Return a condition on one line, or its name, as messages and counts show it.

    Examples:
        >>> _on_one_line("amount\n  > 0"), _on_one_line("amount > 0 /* positive */")
        ('amount > 0', 'positive')
        >>> _on_one_line("path RLIKE r'^/*a' /* a path */")
        'a path'
    """
    # The last comment: a text such as r'/*' can stand before it
    name = re.search(r"/\*((?:(?!\*/|/\*).)*)\*/\s*$", condition, re.DOTALL)
    shown = name[1] if name and name[1].strip() else condition
    return " ".join(shown.split())


REASON = "_reason"
RAW = "_raw"
BYTES = "_bytes"
FILE = "_file"
BLOCK = "_block"  # of the file, in which a line is; dropped in the end
# Columns for a moment, where the names of others are not known: all columns of a row,
# those beside its line, and its former reason
_ROW = "_row"
_OTHERS = "_others"
_FORMER = "_former_reason"

# The types of a column that text can be converted to.
SCALARS = (
    T.BooleanType,
    T.ByteType,
    T.DateType,
    T.DecimalType,
    T.DoubleType,
    T.FloatType,
    T.IntegerType,
    T.LongType,
    T.ShortType,
    T.StringType,
    T.TimestampType,
)

# A cast also takes a time without a date, for one of today.
_ISO_DATE = r"^\s*\d{4}-\d\d?-\d\d?"
# What may follow the date, so that nothing is lost: nothing after a date, and at most
# six digits of a second after a timestamp, as in T10:30:00.123456.
_AFTER_DATE: dict[type[T.DataType], str] = {
    T.DateType: r"\s*$",
    T.TimestampType: r"([ T](?!.*\.\d{7}).*)?$",
    T.TimestampNTZType: r"([ T](?!.*\.\d{7})\d[\d:.]*)?\s*$",
}
# The same with zeros for which the type has no room, as in T00:00:00.000 after a date.
_WITH_ZEROS: dict[type[T.DataType], str] = {
    T.DateType: r"([ T]00:00(:00(\.0*)?)?)?\s*$",
    T.TimestampType: r"([ T](?!.*\.\d{6}\d*[1-9]).*)?$",
    T.TimestampNTZType: r"([ T](?!.*\.\d{6}\d*[1-9])\d[\d:.]*)?\s*$",
}

# The first and last time that Python, PostgreSQL and others can read.
_FIRST = "0001-01-01"
_LAST = "9999-12-31 23:59:59.999999"

# The end of a time without a zone. A date alone does not match: it means the start of
# its day.
_LOCAL = r"[ T]\d[\d:.]*\s*$"
_NAMED_ZONE = r"\s*([A-Za-z](?!\d\d?:)[\w/+:-]*)\s*$"  # as in T10:30 Europe/Berlin
# Letters of a datetime pattern.
_WITH_ZONE_NAME = "[Vz]"
_WITH_OFFSET = "[OXxZ]"
_WITH_HOUR = "[HhKk]"

# In a datetime pattern: text in quotes, or more digits of a second than a timestamp
# holds.
_QUOTED_OR_TOO_FINE = r"(?P<quoted>'[^']*')|S{7,}"

# The parts of a datetime pattern, such as yyyy-MM-dd' at 'HH:mm[ VV].
_PART_OF_PATTERN = re.compile(
    r"""
    '(?P<quoted>(?:[^']|'')*)'      # text as it is; '' is a quote, in it, too
    | (?P<zone>[Vz]+)               # the name of a time zone
    | (?P<field>(?P<letter>[A-Za-z])(?P=letter)*)  # digits or words, such as yyyy
    | (?P<bracket>[\[\]])           # around what may be missing
    | (?P<sign>.)                   # any other sign stands for itself
    """,
    re.VERBOSE,
)

# Spark refuses two observations of the same name in one query. A query's fingerprint
# ignores the number.
_numbers = count(1)
# In a plan: an observation that counts all rows. One that does not has
# `sparkstream_quarantine_7, [count_if(false) AS rows#12L, …`.
_COUNTS = rf"{OBSERVED}_\d+, \[(?!count_if\(false\))"

# Aliases in the plan. The steps between the two are the kit's way of parsing and may
# change from version to version. So a query's fingerprint leaves them out for CSV and
# JSON.
_LINES = "sparkstream_lines"
_PARSED = "sparkstream_{}"


def split(good: Sink, bad: Sink) -> Sink:
    """Write the good rows of each batch to one sink and the bad rows to another.

    Each batch is computed once, and every row goes to exactly one of the two sinks.

    Delivery: the promise of the weaker sink.

    Args:
        good: the sink for the good rows, with the columns that `good_rows` returns.
        bad: the sink for the bad rows, with the columns that `bad_rows` returns.

    Examples:
        >>> from sparkstream_kit import sinks
        >>> split(sinks.batch_files("out/good"), sinks.batch_files("out/bad")).promise
        'batch_files: exactly once'
    """
    from sparkstream_kit.sinks import fan_out

    check(split, locals())
    return fan_out(good.taking(good_rows), bad.taking(bad_rows))


def good_rows(rows: DataFrame) -> DataFrame:
    """Keep the good rows of a parser, `expect` or `windows.with_watermark`.

    Returns:
        The rows where `_reason` is null, without `_reason`, `_raw`, `_bytes` and
        `_file`. Parsed rows keep the columns of the schema and the other columns of
        `lines`.

    Examples:
        In a session::

            rows = quarantine.parse_csv(lines, "product STRING, amount INT")
            totals = quarantine.good_rows(rows).groupBy("product").sum("amount")
    """
    check(good_rows, locals())
    _need_reason("good_rows", rows)
    good = rows.where(F.col(REASON).isNull())
    return without(good, [REASON, RAW, BYTES, FILE])


def bad_rows(rows: DataFrame) -> DataFrame:
    """Keep the bad rows from a parser, `expect` or `windows.with_watermark`: those with a reason.

    Returns:
        The rows where `_reason` is not null. Parsed rows have `_reason`, `_raw`,
        `_bytes` and `_file`, as described in `parse_csv`, and the other columns of
        `lines`, also if a later step found the row to be bad. Other rows have all their
        columns, and so have the rows of a table in a function of a pipeline, where its
        columns are not known.

    Examples:
        In a session::

            rows = quarantine.parse_csv(lines, "product STRING, amount INT")
            bad = quarantine.bad_rows(rows)
            start(bad, sinks.batch_files("bad"), name="bad", checkpoint="ckpt")
    """
    check(bad_rows, locals())
    _need_reason("bad_rows", rows)
    bad = rows.where(F.col(REASON).isNotNull())
    before = _before_reason(rows)
    if not before:
        return bad.select("*")
    return bad.select(all_but(before))


def _before_reason(rows: DataFrame) -> list[str]:
    """Return the columns with values of parsed rows, which bad rows lack."""
    shape = shape_of(rows)
    if RAW not in shape.names:
        return []
    values = []
    for part in shape.parts:
        if part is None:
            return []
        if part.name == REASON:
            break
        values.append(part.name)
    return values


def parsed(
    lines: DataFrame,
    schema: T.StructType,
    read: Read,
    kind: str,
    *,
    with_blocks: bool = False,
) -> DataFrame:
    """Build a parser's result: the values of each line (null if bad), and extra columns.

    In `observedMetrics`, Spark's progress then reports for each parse how many `rows`
    and `bad_rows` it returned, how many `headers` it left out, and how many bad rows
    are `like_headers` (look like a header). As with Spark's input rows, a batch that is
    computed twice counts twice.

    Args:
        lines: a DataFrame whose first column is the line, as in `parse_csv`; or Kafka's
            `key`, `value`, ….
        schema: the columns of the result.
        read: takes a frame that has each line as RAW and adds the values as `_v0`,
            `_v1`, … It returns the frame; the reason why a row is bad (null for a good
            row and for a header); and whether a line is a header, which gives no row
            (false if a bad line looks like one), or None to look for no headers.
        kind: the name of the parser, for its alias in the plan.
        with_blocks: give `read` the block of the file in which each line is, too, as
            BLOCK; a header is then the first line of its file. `_header` is false for
            the first line of a file without one, and the progress reports how many
            files those are.

    Raises:
        InvalidInputError: the first column is neither text nor bytes, two columns would
            have the same name, or a column is named like one of the four that the kit
            adds.
    """
    lines = _with_line_first(lines)
    _refuse_values(lines, kind)
    beside, others = _others(lines, schema)
    named, hidden = _with_file(lines, with_blocks=with_blocks)
    # Kafka's own are bytes, which the cast keeps
    line = column(line_of(lines)).cast("string")
    frame, reason, header = read(named.select(line.alias(RAW), *hidden, *beside))
    if header is None:
        header = F.lit(None).cast("boolean")
    # Separate select steps: in a single step Spark would evaluate each value again for
    # the reason, and the reason again for each column.
    values = [f"_v{index}" for index in range(len(schema))]
    frame = frame.select(
        *values, reason.alias(REASON), RAW, FILE, header.alias("_header"), *others
    )
    is_good = F.col(REASON).isNull()
    values_if_good = [
        F.when(is_good, F.col(value)).alias(name)
        for value, name in zip(values, schema.names, strict=True)
    ]
    # In good rows, too: `expect`, `mark_bad` or a watermark can set them aside later.
    is_no_text = ~F.is_valid_utf8(RAW) | F.col(RAW).contains("\0")
    as_text = F.replace(F.make_valid_utf8(RAW), F.lit("\0"), F.lit("\ufffd"))
    frame = frame.select(
        *values_if_good,
        REASON,
        F.when(is_no_text, as_text).otherwise(F.col(RAW)).alias(RAW),
        F.when(is_no_text, F.col(RAW).cast("binary")).alias(BYTES),
        readable(F.col(FILE)).alias(FILE),
        "_header",
        *others,
    )
    frame = _with_counts_of_headers(frame, with_blocks=with_blocks)
    is_row = ~F.equal_null("_header", F.lit(True))
    rows = frame.where(is_row)
    if shape_of(lines).is_whole:
        rows = rows.select(all_but(["_header"]))
    else:
        rows = rows.select(all_but(["_header", _OTHERS]), f"{_OTHERS}.*")
    return rows.alias(_PARSED.format(kind))


def line_of(lines: DataFrame) -> str:
    """Return the name of the column with the lines or records of a parser.

    It is the first one; but of Kafka's records, and of rows whose first column is not
    known, it is `value`.
    """
    shape = shape_of(lines)
    if shape.names[:2] == ["key", "value"]:
        return "value"
    return shape.first() or "value"


def _with_line_first(lines: DataFrame) -> DataFrame:
    """Return lines with their line as the first column, if it is not that already."""
    shape = shape_of(lines)
    if shape.first() == line_of(lines):
        return lines
    return lines.select("value", all_but(["value"]))


def _refuse_values(lines: DataFrame, kind: str) -> None:
    """Refuse rows whose first column is no line, such as those that are parsed already."""
    from sparkstream_kit._internal.spark.shapes import is_known

    first = shape_of(lines).find(line_of(lines))
    if first is None or not is_known(first.dataType):
        return
    if not isinstance(first.dataType, (T.StringType, T.BinaryType)):
        raise InvalidInputError(
            f"parse_{kind}(): column {first.name} is {first.dataType.simpleString()}, and"
            " a line is a text; read lines with sources.text, which this parses, or leave"
            " the parser out"
        )


def _with_counts_of_headers(frame: DataFrame, *, with_blocks: bool) -> DataFrame:
    """Count a parser's rows, bad rows and headers, and the files without a header.

    A false `_header` is a bad line that looks like a header or, with blocks, the first
    line of a file without one.
    """
    is_header = F.col("_header")
    is_row = ~F.equal_null("_header", F.lit(True))
    is_like_header = ~is_header
    if with_blocks:
        files = F.count_if(~is_header).alias("files")
        frame = frame.observe(f"{HEADERS}_{next(_numbers)}", files)
        is_like_header = F.lit(False)
    return count_bad(
        frame,
        F.col(REASON).isNotNull(),
        rows=F.count_if(is_row),
        headers=(is_header, is_like_header),
    )


def mark_bad(rows: DataFrame, reason: Column) -> DataFrame:
    """Mark rows as bad by a check of your own, one that a column's type cannot express.

    The rows keep their values. `bad_rows` then returns them with their lines, and the
    summary of `run` counts them as bad.

    Args:
        rows: rows with a column `_reason`, from a parser, `expect` or
            `windows.with_watermark`.
        reason: why a row is bad (string), or null if it is good.

    Returns:
        The same columns. `_reason` keeps the reason that a row already has; in other
        rows it is `reason`.

    Raises:
        InvalidInputError: `rows` has no column `_reason`, or `reason` is no string.

    Examples:
        In a session::

            rows = quarantine.mark_bad(rows, F.when(F.col("price") < 0, "price: below 0"))
    """
    check(mark_bad, locals())
    from sparkstream_kit._internal.spark.shapes import is_known

    _need_reason("mark_bad", rows)
    [field] = shape_of(rows.select(reason)).parts
    kind = T.StringType() if field is None else field.dataType
    if is_known(kind) and not isinstance(kind, (T.StringType, T.NullType)):
        fix = "F.when(F.col('price') < 0, 'price: below 0')"
        raise InvalidInputError(
            f"mark_bad(): reason is {kind.simpleString()}; give a text: {fix}"
        )
    counted = count_bad(rows, F.col(REASON).isNull() & reason.isNotNull())
    return with_column(counted, REASON, F.coalesce(REASON, reason))


def _need_reason(call: str, rows: DataFrame) -> None:
    shape = shape_of(rows)
    if shape.is_whole and REASON not in shape.names:
        raise InvalidInputError(
            f"{call}(): no column {REASON}; give what a parse returned, or use expect()"
        )


def count_bad(
    frame: DataFrame,
    bad: Column,
    *,
    rows: Column | None = None,
    headers: tuple[Column, Column] | None = None,
) -> DataFrame:
    """Count in Spark's progress the rows that a parser, or a step after it, found to be bad.

    Args:
        frame: the rows.
        bad: whether a row is bad (boolean).
        rows: an aggregate that counts all rows, for a frame that no parser has counted;
            by default 0.
        headers: whether a row is a header, and whether it is a bad row that looks like
            one.
    """
    none = F.lit(False)
    if rows is None:
        rows = F.count_if(none)
    header, like_header = headers or (none, none)
    return frame.observe(
        f"{OBSERVED}_{next(_numbers)}",
        rows.alias("rows"),
        F.count_if(bad).alias("bad_rows"),
        F.count_if(header).alias("headers"),
        F.count_if(like_header).alias("like_headers"),
    )


def _others(
    lines: DataFrame, schema: T.StructType
) -> tuple[list[Column], list[Column | str]]:
    """Return the columns of `lines` after the first, without `_file`.

    Returns:
        What gives them in a select of `lines`, and what gives them in a later one: if
        they are not all known, a struct of them.

    Raises:
        InvalidInputError: a name occurs twice, or is one of the four that the kit adds.
    """
    shape = shape_of(lines)
    others = [name for name in shape.names[1:] if name != FILE]
    names = [*schema.names, *others]
    compared = as_compared(lines.sparkSession, names)
    for place, name in enumerate(names):
        if name.lower() in (REASON, RAW, BYTES, FILE):
            raise InvalidInputError(
                f"column {name}: the name is taken by the kit; rename the column"
            )
        if compared[place] in compared[:place]:
            fix = "rename one of them"
            if place >= len(schema.names):
                fix = (
                    "rename that of the lines, or read lines of text alone:"
                    " sources.text"
                )
            raise InvalidInputError(f"column {name}: two columns have this name; {fix}")
    if shape.is_whole:
        return [column(name) for name in others], [column(name) for name in others]
    first = [shape.names[0]]
    if FILE in shape.names[1:]:
        first.append(FILE)
    return [F.struct(all_but(first)).alias(_OTHERS)], [_OTHERS]


def _with_file(
    lines: DataFrame, *, with_blocks: bool
) -> tuple[DataFrame, list[Column]]:
    """Return lines under the alias that a fingerprint knows, and their file (or null).

    With blocks, the block of the file in which each line is follows.
    """
    path = F.col("_metadata.file_path")
    has_own_file = FILE in shape_of(lines).names[1:]
    own = [F.col(FILE)] if has_own_file else []
    hidden = {} if has_own_file else {FILE: path}
    if with_blocks:
        hidden[BLOCK] = block()
    read = [value.alias(name) for name, value in hidden.items()]
    named = lines.alias(_LINES)
    if not hidden or has(named, path):
        return named, [*own, *read]
    # Before Spark 4.2 an alias hides it, unless it is right above the file source
    if has(lines, path):
        named = lines.select("*", *read).alias(_LINES)
        return named, [*own, *(F.col(name) for name in hidden)]
    no_file = F.lit(None).cast("string")
    return named, [*own, *(no_file.alias(name) for name in hidden)]


def block() -> Column:
    """Return a number for a line's file, and whether its block is the whole file.

    The number is null outside the first block.
    """
    is_first = F.col("_metadata.file_block_start") == 0
    file = F.when(is_first, F.xxhash64("_metadata.file_path"))
    is_whole = F.col("_metadata.file_block_length") == F.col("_metadata.file_size")
    return F.struct(file.alias("file"), is_whole.alias("is_whole"))


def has(frame: DataFrame, what: Column) -> bool:
    """Return whether a frame can give a hidden column of its files, such as their path."""
    from sparkstream_kit._internal.spark.session import may_ask, without_logged_errors
    from sparkstream_kit._internal.spark.shapes import gives_file

    if not may_ask(frame.sparkSession):
        return gives_file(frame)
    with suppress(AnalysisException), without_logged_errors():
        # .schema, because Connect resolves the column only then
        return bool(frame.select(what).schema)
    return False


def readable(file: Column) -> Column:
    """Return a file's URL, as Spark writes it, in the form people use: a local file as a path."""
    path = F.regexp_replace(file, "^file:/+", "/")
    # It would decode a plus to a blank
    decoded = F.try_url_decode(F.replace(path, F.lit("+"), F.lit("%2B")))
    return F.when(file.contains("%"), decoded).otherwise(path)


def typed(
    text: Column, kind: T.DataType, pattern: str | None, *, zeros: bool = False
) -> Column:
    """Convert text to a type; null if the text does not parse, or would lose something.

    Args:
        text: a string column.
        kind: the type, one of `SCALARS` or, without a pattern, TIMESTAMP_NTZ.
        pattern: Spark's datetime pattern for a date or a timestamp; None for ISO.
        zeros: without a pattern, take midnight behind a date, and zeros behind the
            sixth digit of a second.
    """
    if isinstance(kind, T.StringType):
        return text
    if type(kind) not in _AFTER_DATE:
        return number(text, kind)
    if pattern:
        value = F.try_to_timestamp(text, F.lit(_with_zeros(pattern))).cast(kind)
        fits = F.lit(True)
        if isinstance(kind, T.TimestampType):
            fits &= _exists_by_pattern(text, value, pattern)
        return F.when(fits, value)
    after_date = _WITH_ZEROS if zeros else _AFTER_DATE
    value = text.try_cast(kind)
    fits = text.rlike(_ISO_DATE + after_date[type(kind)])
    if isinstance(kind, T.TimestampType):
        fits &= _exists(text, value)
    return F.when(fits, value)


def _exists(text: Column, value: Column) -> Column:
    """Return whether the local time of a text in ISO 8601 exists, as `value` has it.

    Spark moves a time in the hour that the clock skips in spring to the hour after it.
    """
    as_written = text.try_cast("timestamp_ntz")
    is_same = F.equal_null(value.cast("timestamp_ntz"), as_written)
    is_same |= ~text.rlike(_LOCAL)
    return (_is_in_steady_zone() | is_same) & _exists_in_its_zone(text, value)


def _exists_by_pattern(text: Column, value: Column, pattern: str) -> Column:
    """Return whether the local time of a text with a pattern exists, as `value` has it."""
    letters = re.sub("'[^']*'", "", pattern)
    if not re.search(_WITH_HOUR, letters):
        return F.lit(True)
    # Only for texts that could be read: to_timestamp_ntz fails where try_to_timestamp
    # returns null.
    in_pattern = F.to_timestamp_ntz(text, F.lit(_with_zeros(pattern)))
    as_written = F.when(value.isNotNull(), in_pattern)
    if re.search(_WITH_ZONE_NAME, letters):
        zone = F.regexp_extract(text, _around_zone(pattern), 1)
        as_iso = F.concat(as_written.cast("string"), F.lit(" "), zone)
        # If this is another time, the zone was not found: it stands there in words, or
        # for several zones.
        is_found = F.equal_null(as_iso.try_cast("timestamp"), value)
        return ~is_found | _exists_in_its_zone(as_iso, value)
    if re.search(_WITH_OFFSET, letters):
        return F.lit(True)
    is_same = F.equal_null(value.cast("timestamp_ntz"), as_written)
    return _is_in_steady_zone() | is_same


def _is_in_steady_zone() -> Column:
    """Return whether the session's time zone skips no hour.

    Spark evaluates this once, before it reads a row, so that it compares nothing there.
    """
    return F.current_timezone().isin(*STEADY)


def _around_zone(pattern: str) -> str:
    r"""Return a regular expression that finds the zone's name in text of a pattern.

    Examples:
        >>> print(_around_zone("yyyy' at 'HH:mm[ VV]"))
        ^.+?\ at\ .+?:.+?(?:\ ([\w/+:-]+))?\s*$
        >>> print(_around_zone("HH 'o''clock' VV''"))
        ^.+?\ o'clock\ ([\w/+:-]+)'\s*$
    """
    parts = []
    for part in _PART_OF_PATTERN.finditer(pattern):
        if part["bracket"] == "[":
            parts.append("(?:")
        elif part["bracket"] == "]":
            parts.append(")?")
        elif part["zone"]:
            parts.append(r"([\w/+:-]+)")
        elif part["field"]:
            parts.append(".+?")
        else:
            text = part["quoted"] or part["sign"] or "'"
            parts.append(re.escape(text.replace("''", "'")))
    return rf"^{''.join(parts)}\s*$"


def _exists_in_its_zone(text: Column, value: Column) -> Column:
    """Return whether a text's local time exists in the time zone that it names, if any.

    Both sides are the local time as if it were one in UTC.
    """
    zone = F.regexp_extract(text, _NAMED_ZONE, 1)
    without_zone = F.regexp_replace(text, _NAMED_ZONE, "")
    as_written = F.concat(without_zone, F.lit("Z")).try_cast("timestamp")
    is_same = F.equal_null(F.from_utc_timestamp(value, zone), as_written)
    has_zone = value.isNotNull() & (zone != "") & (zone != "Z")
    return F.when(has_zone, is_same).otherwise(F.lit(True))


def is_missing(value: Column, kind: T.DataType) -> Column:
    """Return whether a value did not parse, or is outside the years 1 to 9999.

    Call it in a step after `typed`, on the column with the value: in the same step
    Spark would parse the text again at each use.
    """
    if type(kind) not in _AFTER_DATE:
        return value.isNull()
    first = F.lit(_FIRST).cast(kind)
    last = F.lit(_LAST).cast(kind)
    return value.isNull() | ~value.between(first, last)


def not_a(kind: T.DataType) -> str:
    """Say in a reason that a value is not of a type.

    Examples:
        >>> not_a(T.IntegerType()), not_a(T.DateType())
        ('not an int', 'not a date')
    """
    name = kind.simpleString()
    return f"not {'an' if name[0] in 'aeiou' else 'a'} {name}"


def _with_zeros(pattern: str) -> str:
    """Return a datetime pattern that takes only zeros after the sixth digit of a second.

    Spark would cut off other digits.

    Examples:
        >>> _with_zeros("HH:mm:ss.SSSSSSSS 'SSSSSSS'")
        "HH:mm:ss.SSSSSS['0'['0']] 'SSSSSSS'"
    """

    def without_lost_digits(part: re.Match[str]) -> str:
        if part["quoted"]:
            return part["quoted"]
        zeros = len(part[0]) - len("SSSSSS")
        return "SSSSSS" + "['0'" * zeros + "]" * zeros

    return re.sub(_QUOTED_OR_TOO_FINE, without_lost_digits, pattern)
