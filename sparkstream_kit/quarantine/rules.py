"""`expect`: rules on data as conditions of SQL, each with what becomes of the rows that break it."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from sparkstream_kit._arguments import check
from sparkstream_kit._columns import column
from sparkstream_kit.errors import InvalidInputError, reject_unknown, said_by_spark
from sparkstream_kit.quarantine.rows import REASON, count_bad, count_rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame

__all__ = ["LEVELS", "expect"]

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

    Example:
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
