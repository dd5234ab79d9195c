"""The commands `sparkstream contract`: check a data contract, try it on data, compare two."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, NamedTuple

from sparkstream_kit.cli.common import argument, flag, group, say, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sparkstream_kit.quarantine.contract_values import Left, Rule
    from sparkstream_kit.schemas.contracts import Contract, Formats

_File = Annotated[
    str, argument("FILE", "A contract of ODCS 3, such as orders.odcs.yaml.")
]
_Object = Annotated[
    str | None, flag("NAME", "The object of its schema. Default: the only one, or all.")
]
_LEVELS = {"quarantine": "set aside", "warn": "counted"}

contract = group("Read a data contract (ODCS): check it, try it on data, compare two.")


@contract.command(
    "check",
    help="Read a contract: its columns, which rules are checked at the door, and which are"
    " not. With DATA, try it: exit code 1 if rows are bad.",
)
def _check(
    path: _File,
    data: Annotated[
        list[str] | None,
        argument(
            "DATA", "Sample files: CSV with a header, JSON lines, ORC or Parquet."
        ),
    ] = None,
    *,
    object: _Object = None,  # noqa: A002 - the standard's word
) -> int:
    from sparkstream_kit.schemas import contracts

    found = contracts.read("sparkstream contract check", path)
    names = [str(found.table(object).name)] if object or data else []
    names = names or [str(table.name) for table in found.tables]
    version = f"version {found.model.version or '?'}"
    show(f"{path}: {version}, of ODCS {found.version}")
    for remark in found.remarks:
        show(f"  note: {remark}")
    tables = [_looked_at(found, name) for name in names]
    for table in tables:
        _show(table)
    promises = [str(each.property) for each in found.model.slaProperties or []]
    if promises:
        show(f"not checked, as they are of the whole delivery: {', '.join(promises)}")
    if not data:
        return 0
    return _tried(tables[0], data)


class _Table(NamedTuple):
    """What a contract says of one of its objects.

    Attributes:
        name: its name.
        schema: its columns.
        formats: the formats of its dates and times.
        checks: its rules, those that are checked and those that are not.
        remarks: on the types of its columns.
    """

    name: str
    schema: StructType
    formats: Formats
    checks: list[Rule | Left]
    remarks: list[str]

    @property
    def rules(self) -> list[Rule]:
        """The rules that are checked."""
        from sparkstream_kit.quarantine.contract_values import Rule

        return [each for each in self.checks if isinstance(each, Rule)]


def _looked_at(found: Contract, name: str) -> _Table:
    from pyspark.sql.types import StructType

    from sparkstream_kit.quarantine.contracts import checks_of
    from sparkstream_kit.schemas import contracts

    remarks: list[str] = []
    schema = StructType()
    if found.table(name).properties:
        schema = contracts.schema_of(found, name, remarks.append)
    else:
        remarks.append(f"{name} has no properties, which another schema may have")
    checks = checks_of(found, name)
    remarks = [each.removeprefix(f"{found.path}: ") for each in remarks]
    return _Table(name, schema, contracts.formats(found, name), checks, remarks)


def _show(table: _Table) -> None:
    """Print the columns of an object, and its rules."""
    show(f"{table.name}: {len(table.schema)} columns")
    for field in table.schema:
        nullability = "" if field.nullable else " not null"
        show(f"  {field.name} {field.dataType.simpleString()}{nullability}")
    for key, pattern in table.formats.items():
        show(f"  {key} {pattern}")
    for remark in table.remarks:
        show(f"  note: {remark}")
    show(f"checked at the door: {len(table.rules) or 'nothing'}")
    for rule in table.rules:
        more = f"; {rule.more}" if rule.more else ""
        show(f"  {rule.name} ({_LEVELS[rule.level]}{more})")
    left = [each for each in table.checks if each not in table.rules]
    if left:
        show(f"not checked: {len(left)}")
    for each in left:
        show(f"  {each.name}: {each[1]}")


# --- a sample


class _Sample(NamedTuple):
    """The rows of sample files, as far as they can be checked.

    Attributes:
        rows: the rows, with `_reason` if they come from text; None if their columns are
            not those of the contract.
        problems: how the columns differ.
    """

    rows: DataFrame | None
    problems: list[str]


def _tried(table: _Table, data: list[str]) -> int:
    """Check sample files by a contract, print what is bad, and return the exit code."""
    from sparkstream_kit import spark_session

    code = 0
    say(f"trying {table.name} on {', '.join(data)}")
    with spark_session("sparkstream contract", profile="local") as spark:
        for path in data:
            sample = _read(spark, path, table)
            for problem in sample.problems:
                show(f"{path}: {problem}")
                code = 1
            if sample.rows is not None:
                total, reasons = _counted(sample.rows, table.rules)
                bad = sum(reasons.values())
                show(f"{path}: {total} rows, {bad} bad")
                by_count = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
                for reason, count in by_count:
                    show(f"  {count} bad: {reason}")
                for rule, count in _warned(sample.rows, table.rules):
                    show(f"  {count} counted: {rule}")
                code = 1 if bad else code
    return code


def _read(spark: SparkSession, path: str, table: _Table) -> _Sample:
    """Read sample files as a stream would read them.

    Raises:
        InvalidInputError: the path does not exist.
    """
    from pyspark.errors import AnalysisException

    from sparkstream_kit import quarantine
    from sparkstream_kit.errors import InvalidInputError, said_by_spark
    from sparkstream_kit.schemas import diff
    from sparkstream_kit.schemas.samples import format_of

    form = format_of(path)
    schema = table.schema
    try:
        if form == "json":
            lines = spark.read.text(path)
            return _Sample(quarantine.parse_json(lines, schema, **table.formats), [])
        if form == "csv":
            lines = spark.read.text(path)
            rows = quarantine.parse_csv(lines, schema, header=True, **table.formats)
            return _Sample(rows, [])
        rows = spark.read.format(form).load(path)
    except AnalysisException as err:
        raise InvalidInputError(
            f"cannot read the sample {path}: {said_by_spark(err)}; give the path of"
            " its files"
        ) from None
    problems = [
        line
        for line in diff(rows, schema, ignore_extra=True)
        if not line.startswith("order is ")
    ]
    return _Sample(None if problems else rows, problems)


def _counted(rows: DataFrame, rules: list[Rule]) -> tuple[int, Counter[str]]:
    """Return how many rows there are, and how many are bad for each reason."""
    from sparkstream_kit import quarantine
    from sparkstream_kit.quarantine.contracts import named

    aside = named([rule for rule in rules if rule.level == "quarantine"])
    checked = quarantine.expect(rows, aside) if aside else rows
    if quarantine.REASON not in checked.columns:
        return checked.count(), Counter()
    groups = checked.groupBy(quarantine.REASON).count().collect()
    counts = {str(reason): count for reason, count in groups if reason is not None}
    return sum(count for _, count in groups), Counter(counts)


def _warned(rows: DataFrame, rules: list[Rule]) -> Iterator[tuple[str, int]]:
    """Yield each rule that only counts rows, and how many rows break it, if there are any."""
    from pyspark.sql import functions as F

    from sparkstream_kit import quarantine

    counted = [rule for rule in rules if rule.level == "warn"]
    if not counted:
        return
    if quarantine.REASON in rows.columns:
        rows = quarantine.good_rows(rows)
    broken = [
        F.count_if(~F.coalesce(F.expr(rule.condition), F.lit(False)))
        for rule in counted
    ]
    [counts] = rows.agg(*broken).collect()
    for rule, count in zip(counted, counts, strict=True):
        if count:
            yield rule.name, count


@contract.command("diff")
def _diff(
    old: Annotated[str, argument("OLD", "The contract that a query runs with.")],
    new: Annotated[str, argument("NEW", "Its new version.")],
) -> int:
    """Say what a new version of a contract means for a running query. Exit code 1 if it breaks."""
    from sparkstream_kit.schemas import contracts
    from sparkstream_kit.schemas.changes import changes

    call = "sparkstream contract diff"
    found = changes(contracts.read(call, old), contracts.read(call, new))
    breaking = [each.what for each in found if each.breaks]
    others = [each.what for each in found if not each.breaks]
    if breaking:
        show("breaks a running query:")
    for what in breaking:
        show(f"  {what}")
    if others:
        show("does not break it:")
    for what in others:
        show(f"  {what}")
    if not found:
        show("no difference for a query")
    return 1 if breaking else 0
