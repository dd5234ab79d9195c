"""Good rows and bad ones: the columns beside the values, texts as typed values, rules of SQL, counts."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from functools import reduce
from itertools import count
from operator import or_
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import OBSERVED, RULES, column, quoted
from sparkstream_kit.errors import InvalidInputError, reject_unknown, said_by_spark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import Column, DataFrame

    from sparkstream_kit.sinks import Sink


LEVELS = ("warn", "quarantine", "fail")
_BROKEN = "_rule{}_broken"


def expect(frame: DataFrame, rules: Mapping[str, str]) -> DataFrame:
    """Hold rows against rules, such as that an amount is positive; count and set aside those that break one.

    A rule is a condition in SQL. A row breaks it where the condition is false or NULL: write
    `amount IS NULL OR amount > 0` to let rows without an amount pass. Rows that have a reason in `_reason`
    already, such as lines that could not be read, are not looked at.

    The summary of `run` has how many rows broke each rule (`QuerySummary.broken`), with a verdict for each
    rule that was broken. A batch that is computed twice counts twice.

    Args:
        frame: a stream, or a static DataFrame.
        rules: by each condition, what becomes of the rows that break it:

            - `warn`: they are counted, and stay as they are.
            - `quarantine`: they get a reason in `_reason`, as bad lines have, so that `good_rows` leaves
              them out and `bad_rows` has them: of a parse with their lines, else with their values. The
              first broken rule gives the reason.
            - `fail`: the query fails at the first of them, before their batch is committed. Spark stops
              there, so that the error says the rule, and that at least one row breaks it.

    Returns:
        The same columns; where a rule quarantines also `_reason` (string), if it was not there.

    Raises:
        InvalidInputError: no rule, an unknown word for what becomes of rows, or a condition that cannot be
            read, is no condition, or has a column that is not there.

    Examples:
        In a session::

            rows = quarantine.expect(sales, {"amount > 0": "quarantine", "shop IS NOT NULL": "warn"})
            good, bad = quarantine.good_rows(rows), quarantine.bad_rows(rows)
    """
    check(expect, locals())
    if not rules:
        raise InvalidInputError("expect() needs a rule, such as {'amount > 0': 'quarantine'}")
    for condition, level in rules.items():
        reject_unknown(f"word for rule {condition}:", [str(level)], LEVELS)
        _check_condition(frame, str(condition))
    names = {condition: _BROKEN.format(number) for number, condition in enumerate(rules)}
    # A step of its own, which works each rule out once.
    looked_at = F.col(REASON).isNull() if REASON in frame.columns else F.lit(True)
    broken = [
        (looked_at & ~F.coalesce(F.expr(condition), F.lit(False))).alias(name)
        for condition, name in names.items()
    ]
    counted = count_rules(
        frame.select("*", *broken), {_said(condition): F.col(name) for condition, name in names.items()}
    )
    for condition, name in names.items():
        if rules[condition] == "fail":
            stop = F.raise_error(F.lit(_failure(condition)))
            counted = counted.where(F.when(F.col(name), stop).otherwise(F.lit(True)))
    aside = [condition for condition in rules if rules[condition] == "quarantine"]
    if aside:
        bad = reduce(or_, (F.col(names[condition]) for condition in aside))
        reasons = [F.when(F.col(names[each]), F.lit(f"breaks {_said(each)}")) for each in aside]
        if REASON in frame.columns:
            counted = count_bad(counted, bad).withColumn(REASON, F.coalesce(column(REASON), *reasons))
        else:
            counted = count_bad(counted, bad, rows=F.count("*")).withColumn(REASON, F.coalesce(*reasons))
    return counted.drop(*names.values())


def _said(condition: str) -> str:
    """Return a condition on one line."""
    return " ".join(condition.split())


def _failure(condition: str) -> str:
    return (
        f"rule {_said(condition)}: at least 1 row breaks it, and it says 'fail'; mend the data, or give the "
        "rule 'quarantine' to set such rows aside"
    )


def _check_condition(frame: DataFrame, condition: str) -> None:
    """Refuse a condition that Spark cannot work out for each row."""
    rule = f"expect(): rule {_said(condition)}"
    try:
        kind = frame.withColumn(_BROKEN.format(""), F.expr(condition)).schema[-1].dataType.simpleString()
    except AnalysisException as err:
        fix = "give a condition in SQL, such as amount > 0"
        raise InvalidInputError(f"{rule} cannot be used: {said_by_spark(err)}; {fix}") from None
    if kind != "boolean":
        raise InvalidInputError(f"{rule} is {kind}, and no condition; compare it, such as amount > 0")


REASON = "_reason"
RAW = "_raw"
BYTES = "_bytes"
FILE = "_file"

# The types that a text can be.
SCALARS = (
    *(T.BooleanType, T.ByteType, T.DateType, T.DecimalType, T.DoubleType, T.FloatType),
    *(T.IntegerType, T.LongType, T.ShortType, T.StringType, T.TimestampType),
)

# What a cast takes and should not: Java's 1d, 1f and 0x1p3; a clock time alone, which becomes today.
_JAVA_FLOAT = r"(?i)[\d.][df]\s*$|0x"
_ISO_DATE = r"^\s*\d{4}-\d\d?-\d\d?"

# The years that Python, PostgreSQL and others can read.
_FIRST, _LAST = "0001-01-01", "9999-12-31 23:59:59.999999"

# Session time zones without daylight saving time, which most sessions have: there is nothing to look for.
_STEADY = ("UTC", "Etc/UTC", "GMT", "Z", "+00:00")
# The end of a time that says no zone. A date alone is the begin of its day, whenever that is.
_LOCAL = r"[ T]\d[\d:.]*\s*$"
_WITH_ZONE, _WITH_HOUR = "[VzOXxZ]", "[HhKk]"  # letters of a pattern

# Of a pattern: a text in quotes, or more digits of a second than a timestamp holds.
_TOO_FINE = r"('[^']*')|S{7,}"

# Two parses in one query must not have the same name; the number is no part of what a checkpoint knows.
_numbers = count(1)

# Names for the plan: what lies between the two is how the kit parses, and no part of what a user decides.
_LINES, _PARSED = "sparkstream_lines", "sparkstream_{}_{}"


def split(good: Sink, bad: Sink) -> Sink:
    """Write the good rows of each batch to one sink and the bad rows to another.

    Each batch is computed once, and every row is in one of the two. Delivery is that of the weaker sink.

    Args:
        good: takes what `good_rows` returns.
        bad: takes what `bad_rows` returns.

    Examples:
        >>> from sparkstream_kit import sinks
        >>> split(sinks.batch_files("out/good"), sinks.batch_files("out/bad")).promise
        'batch_files: exactly once'
    """
    from sparkstream_kit.sinks import fan_out

    check(split, locals())
    return fan_out(good.taking(good_rows), bad.taking(bad_rows))


def good_rows(rows: DataFrame) -> DataFrame:
    """Keep the good rows of a parse, of `expect` or of `windows.with_watermark`: those without a reason.

    Returns:
        The columns of values; of a parse also the other columns of `lines`.

    Examples:
        In a session::

            rows = quarantine.parse_csv(lines, "product STRING, amount INT")
            totals = quarantine.good_rows(rows).groupBy("product").sum("amount")
    """
    check(good_rows, locals())
    return rows.where(F.col(REASON).isNull()).drop(REASON, RAW, BYTES, FILE)


def bad_rows(rows: DataFrame) -> DataFrame:
    """Keep the bad rows of a parse, of `expect` or of `windows.with_watermark`: those with a reason.

    Returns:
        Of a parse `_reason`, `_raw`, `_bytes` and `_file`, as `parse_csv` says, and the other columns of
        `lines`, also for a row that a later step has found to be bad; else all columns.

    Examples:
        In a session::

            rows = quarantine.parse_csv(lines, "product STRING, amount INT")
            start(quarantine.bad_rows(rows), sinks.batch_files("bad"), name="bad", checkpoint="ckpt")
    """
    check(bad_rows, locals())
    names = rows.columns[rows.columns.index(REASON) :] if RAW in rows.columns else rows.columns
    return rows.where(F.col(REASON).isNotNull()).select(*map(quoted, names))


def parsed(
    lines: DataFrame,
    schema: T.StructType,
    read: Callable[[DataFrame], tuple[DataFrame, Column, Column | None]],
    kind: str,
    **settings: object,
) -> DataFrame:
    """Return the values of each line (all null in a bad row) and what stands beside them.

    Spark's progress then has, in `observedMetrics`, how many `rows` and `bad_rows` each parse gave, how many
    `headers` it left out, and how many of the bad rows are `like_headers`; as with Spark's input rows, a
    batch that is computed twice counts twice.

    Args:
        lines: as in `parse_csv`.
        schema: the columns.
        read: adds the values as `_v0`, `_v1`, … to a frame that has each line as RAW. It returns the frame;
            why a row is bad (null where it is good, and of a header); and whether a line is a header, which
            gives no row (false where a bad line looks like one), or None where headers are not looked for.
        kind: of the parse, for its name in the plan.
        settings: what the user decides; a query's fingerprint holds a digest of it.

    Raises:
        InvalidInputError: two columns would have the same name.
    """
    others = _others(lines, schema)
    lines, path = _with_file(lines)
    frame, reason, header = read(lines.select(column(lines.columns[0]).alias(RAW), path.alias(FILE), *others))
    # Steps of their own: Spark would work out each value a second time for the reason, and the reason for
    # each column.
    values = [f"_v{index}" for index in range(len(schema))]
    header = F.lit(None).cast("boolean") if header is None else header
    frame = frame.select(*values, reason.alias(REASON), RAW, FILE, header.alias("_header"), *others)
    good = F.col(REASON).isNull()
    # Of good rows, too: `expect`, `mark_bad` or a watermark can find them bad later.
    no_text = ~F.is_valid_utf8(RAW) | F.col(RAW).contains("\0")
    text = F.replace(F.make_valid_utf8(RAW), F.lit("\0"), F.lit("\ufffd"))
    frame = frame.select(
        *[F.when(good, F.col(value)).alias(name) for value, name in zip(values, schema.names, strict=True)],
        REASON,
        F.when(no_text, text).otherwise(F.col(RAW)).alias(RAW),
        F.when(no_text, F.col(RAW).cast("binary")).alias(BYTES),
        readable(F.col(FILE)).alias(FILE),
        "_header",
        *others,
    )
    no_header = ~F.equal_null("_header", F.lit(True))
    frame = frame.observe(
        f"{OBSERVED}_{next(_numbers)}",
        F.count_if(no_header).alias("rows"),
        F.count(REASON).alias("bad_rows"),
        F.count_if("_header").alias("headers"),
        F.count_if(~F.col("_header")).alias("like_headers"),
    )
    columns = [(field.name, field.dataType.simpleString(), field.nullable) for field in schema.fields]
    digest = hashlib.sha256(json.dumps([columns, settings], sort_keys=True).encode()).hexdigest()
    return frame.where(no_header).drop("_header").alias(_PARSED.format(kind, digest[:12]))


def mark_bad(rows: DataFrame, reason: Column) -> DataFrame:
    """Give a reason to good rows that break a rule of your own, one that no column's type can say.

    The rows keep their values; `bad_rows` has their lines then, and the summary of `run` counts them.

    Args:
        rows: of a parse, or what else has a column `_reason`: from `expect` or `windows.with_watermark`.
        reason: why a row is bad (string), or null where it is good.

    Returns:
        The same columns; `_reason` is that of the parse where it has one, else `reason`.

    Raises:
        InvalidInputError: there is no column `_reason`.

    Examples:
        In a session::

            rows = quarantine.mark_bad(rows, F.when(F.col("price") < 0, "price: below 0"))
    """
    check(mark_bad, locals())
    if REASON not in rows.columns:
        raise InvalidInputError(
            f"mark_bad() needs the column {REASON}; give what a parse returned, or use expect()"
        )
    counted = count_bad(rows, F.col(REASON).isNull() & reason.isNotNull())
    return counted.withColumn(REASON, F.coalesce(REASON, reason))


def count_bad(frame: DataFrame, bad: Column, *, rows: Column | None = None) -> DataFrame:
    """Let Spark's progress count rows as bad that a later step than the parse has found to be so.

    Args:
        frame: the rows.
        bad: which of them are bad.
        rows: how many there are, where no parse has counted them.
    """
    none = F.count_if(F.lit(False))
    counts = {"rows": rows, "bad_rows": F.count_if(bad), "headers": None, "like_headers": None}
    named = [(none if each is None else each).alias(name) for name, each in counts.items()]
    return frame.observe(f"{OBSERVED}_{next(_numbers)}", *named)


def count_rules(frame: DataFrame, broken: Mapping[str, Column]) -> DataFrame:
    """Let Spark's progress count the rows that break each rule of `expect`."""
    return frame.observe(
        f"{RULES}_{next(_numbers)}", *[F.count_if(rows).alias(rule) for rule, rows in broken.items()]
    )


def _others(lines: DataFrame, schema: T.StructType) -> list[Column]:
    """Return the columns of lines beside the line itself."""
    names = [name for name in lines.columns[1:] if name != FILE]
    given = [name.lower() for name in (*schema.names, *names)]
    for place, name in enumerate([*schema.names, *names]):
        if given[place] in (REASON, RAW, BYTES, FILE):
            raise InvalidInputError(f"column {name}: the name is taken by the kit; rename the column")
        if given[place] in given[:place]:
            raise InvalidInputError(
                f"column {name}: the schema and the lines have two columns of that name; rename one of them"
            )
    return [column(name) for name in names]


def _with_file(lines: DataFrame) -> tuple[DataFrame, Column]:
    """Return lines by the name that a fingerprint knows, and the file that each is from; null: from none."""
    named, path, kept = lines.alias(_LINES), F.col("_metadata.file_path"), FILE in lines.columns[1:]
    if kept or _has(named, path):
        return named, F.col(FILE) if kept else path
    if _has(lines, path):  # before Spark 4.2 a name hides it, unless the files are read right below
        return lines.select("*", path.alias(FILE)).alias(_LINES), F.col(FILE)
    return named, F.lit(None).cast("string")


def _has(frame: DataFrame, what: Column) -> bool:
    with suppress(AnalysisException):
        return bool(frame.select(what).schema)  # Connect looks for the column only now
    return False


def readable(file: Column) -> Column:
    """Return Spark's URL of a file as people write it: a path if it is local."""
    path = F.regexp_replace(file, "^file:/+", "/")
    decoded = F.try_url_decode(F.replace(path, F.lit("+"), F.lit("%2B")))  # in Spark's URL a plus is a plus
    return F.when(file.contains("%"), decoded).otherwise(path)


def check_type(name: str, kind: T.DataType, also: tuple[type[T.DataType], ...], otherwise: str) -> None:
    """Refuse a type of a column that no value of a format with objects and lists has.

    Args:
        name: the column, for the message.
        kind: its type.
        also: the types that the format has beside those of texts.
        otherwise: the format, as in "JSON cannot hold {type}; read it as a string".

    Raises:
        InvalidInputError: with the column.
    """
    if isinstance(kind, T.StructType):
        for field in kind.fields:
            check_type(f"{name}.{field.name}", field.dataType, also, otherwise)
    elif isinstance(kind, T.ArrayType):
        check_type(name, kind.elementType, also, otherwise)
    elif isinstance(kind, T.MapType) and isinstance(kind.keyType, T.StringType):
        check_type(name, kind.valueType, also, otherwise)
    elif not isinstance(kind, (*SCALARS, *also)):
        raise InvalidInputError(f"column {name}: {otherwise.format(type=kind.simpleString())}")


def typed(text: Column, kind: T.DataType, pattern: str | None) -> Column:
    """Return a text as a value of a type, or null where it does not parse without loss.

    Args:
        text: the text.
        kind: the type.
        pattern: of a date or a timestamp, if it has one.
    """
    if isinstance(kind, T.StringType):
        return text
    fits, value = F.lit(True), text.try_cast(kind)
    if isinstance(kind, (T.DateType, T.TimestampType)):
        if pattern:
            value = F.try_to_timestamp(text, F.lit(re.sub(_TOO_FINE, _no_finer, pattern))).cast(kind)
        else:
            rest = r"\s*$" if isinstance(kind, T.DateType) else r"([ T](?!.*\.\d{7}).*)?$"
            fits = text.rlike(_ISO_DATE + rest)
        if isinstance(kind, T.TimestampType):
            fits &= _exists(text, value, pattern)
    elif isinstance(kind, T.DecimalType):
        # A cast rounds what the scale cannot hold: such a text is not a value of this type. (A regular
        # expression that says the same takes as long as the cast.)
        point = F.instr(text, ".")
        short = (point == 0) | (F.octet_length(F.rtrim(text)) - point <= kind.scale)
        fits = short & ~text.contains("e") & ~text.contains("E")
    elif isinstance(kind, (T.DoubleType, T.FloatType)):
        # A cast makes what is too big infinite.
        fits = ~text.rlike(_JAVA_FLOAT) & (finite(value) | text.rlike("(?i)inf|nan"))
    return F.when(fits, value)


def _exists(text: Column, value: Column, pattern: str | None) -> Column:
    """Say whether the time that a text names exists in the session's time zone: `value` is the very same.

    Spark takes an hour that the clock skips in spring for the hour after it.
    """
    if pattern:
        letters, pattern = re.sub("'[^']*'", "", pattern), re.sub(_TOO_FINE, _no_finer, pattern)
        if re.search(_WITH_ZONE, letters) or not re.search(_WITH_HOUR, letters):
            return F.lit(True)
        # Asked of what was read alone: it fails where the other function gives null.
        named = F.when(value.isNotNull(), F.to_timestamp_ntz(text, F.lit(pattern)))
        same = F.equal_null(value.cast("timestamp_ntz"), named)
    else:
        same = F.equal_null(value.cast("timestamp_ntz"), text.try_cast("timestamp_ntz"))
        same |= ~text.rlike(_LOCAL)
    # Whether the session's clock is never changed, Spark works out before it reads a row.
    return F.current_timezone().isin(*_STEADY) | same


def is_missing(value: Column, kind: T.DataType) -> Column:
    """Say whether a value did not parse, or is of a year that others cannot read.

    A step after `typed`, on the column that has its value: Spark would parse the text for each look at it.
    """
    missing = value.isNull()
    if isinstance(kind, (T.DateType, T.TimestampType)):
        return missing | ~value.between(F.lit(_FIRST).cast(kind), F.lit(_LAST).cast(kind))
    return missing


def _no_finer(found: re.Match[str]) -> str:
    """Return what reads the digits that a timestamp holds, then zeros only: Spark would cut others."""
    zeros = len(found[0]) - len("SSSSSS")
    return found[1] or "SSSSSS" + "['0'" * zeros + "]" * zeros


def finite(value: Column) -> Column:
    """Say whether a floating-point value is a number that can be written down."""
    return F.abs(value) < float("inf")
