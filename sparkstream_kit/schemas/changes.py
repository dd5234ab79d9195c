"""Extra: what a new version of a data contract means for a query that runs with the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql import types as T

from sparkstream_kit.quarantine.contract_values import Rule
from sparkstream_kit.quarantine.contracts import checks_of
from sparkstream_kit.schemas.contracts import formats, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparkstream_kit.schemas.contracts import Contract

_CHECKPOINT = "where the state or a table has it, start on a new checkpoint"


class Change(NamedTuple):
    """A difference between two versions of a contract.

    Attributes:
        breaks: whether a running query must be changed, or loses rows that it had.
        what: the difference, and what it does.
    """

    breaks: bool
    what: str


class _Column(NamedTuple):
    """A column, or a field in one: its type without what lies in it, and if it may be null."""

    kind: str
    nullable: bool


def changes(old: Contract, new: Contract) -> list[Change]:
    """Compare two versions of a contract, object by object.

    Raises:
        InvalidInputError: a column has a type that is not known, or a rule a value that
            is not of its column's type.
    """
    found = []
    names = {table.name for table in new.tables}
    former_names = {table.name for table in old.tables}
    for name in [str(table.name) for table in old.tables]:
        if name not in names:
            found.append(Change(True, f"{name} is gone"))
            continue
        found += _of_columns(name, old, new)
        found += _of_formats(name, old, new)
        found += _of_rules(name, old, new)
    for table in new.tables:
        if table.name not in former_names:
            found.append(Change(False, f"{table.name} is new"))
    return found


def _of_columns(name: str, old: Contract, new: Contract) -> Iterator[Change]:
    """Yield the differences of an object's columns."""
    former = dict(_columns(_schema(old, name), name))
    now = dict(_columns(_schema(new, name), name))
    for place, column in former.items():
        if place not in now:
            yield _gone(place, column)
        else:
            yield from _changed(place, column, now[place])
    for place, column in now.items():
        if place in former:
            continue
        if column.nullable:
            what = f"{place} {column.kind} is new; it is left out until it is read"
        else:
            what = (
                f"{place} {column.kind} is new and required: rows from before lack it"
            )
        yield Change(not column.nullable, what)


def _schema(contract: Contract, name: str) -> T.StructType:
    """Return the columns of an object, which may have none in the contract."""
    if not contract.table(name).properties:
        return T.StructType()
    return schema_of(contract, name, lambda _: None)


def _gone(place: str, column: _Column) -> Change:
    if column.nullable:
        return Change(True, f"{place} is gone: it is NULL in new rows")
    return Change(True, f"{place} is gone, and was required: new rows are set aside")


def _changed(place: str, former: _Column, now: _Column) -> Iterator[Change]:
    """Yield what has changed of a column."""
    if former.kind != now.kind:
        what = f"{place} is {now.kind}, and was {former.kind}; {_CHECKPOINT}"
        yield Change(True, what)
    if former.nullable and not now.nullable:
        what = f"{place} is required, and was not: rows without it are set aside"
        yield Change(True, what)
    if now.nullable and not former.nullable:
        what = f"{place} may be missing: the old contract sets such rows aside"
        yield Change(True, what)


def _columns(
    kind: T.DataType, place: str, *, nullable: bool = True
) -> Iterator[tuple[str, _Column]]:
    """Yield all columns and fields of a type, with their places."""
    if isinstance(kind, T.StructType):
        yield place, _Column("struct", nullable)
        for field in kind:
            inner = f"{place}.{field.name}"
            yield from _columns(field.dataType, inner, nullable=field.nullable)
    elif isinstance(kind, T.ArrayType):
        yield place, _Column("array", nullable)
        inside = kind.containsNull
        yield from _columns(kind.elementType, f"{place}[]", nullable=inside)
    elif isinstance(kind, T.MapType):
        yield place, _Column("map", nullable)
        yield from _columns(kind.keyType, f"{place}[key]", nullable=False)
        inside = kind.valueContainsNull
        yield from _columns(kind.valueType, f"{place}[]", nullable=inside)
    else:
        yield place, _Column(kind.simpleString(), nullable)


def _of_formats(name: str, old: Contract, new: Contract) -> Iterator[Change]:
    """Yield the differences of the formats of dates and times."""
    former = formats(old, name)
    now = formats(new, name)
    for key in dict.fromkeys([*former, *now]):
        before = former.get(key, "ISO 8601")
        after = now.get(key, "ISO 8601")
        if before != after:
            yield Change(True, f"{name}: {key} is {after}, and was {before}")


def _of_rules(name: str, old: Contract, new: Contract) -> Iterator[Change]:
    """Yield the differences of the rules that a row decides, but for `required`."""
    former = _rules(old, name)
    now = _rules(new, name)
    for key, rule in former.items():
        if key not in now:
            yield Change(False, f"{name}: rule {key} is gone")
        elif now[key] != rule:
            yield Change(
                False, f"{name}: rule {key} is another one: {_effect(now[key])}"
            )
    for key, rule in now.items():
        if key not in former:
            yield Change(False, f"{name}: rule {key} is new: {_effect(rule)}")


def _rules(contract: Contract, name: str) -> dict[str, Rule]:
    rules = [each for each in checks_of(contract, name) if isinstance(each, Rule)]
    return {rule.name: rule for rule in rules if not rule.name.endswith(": required")}


def _effect(rule: Rule) -> str:
    if rule.level == "warn":
        return "rows that break it are counted"
    return "rows that break it are set aside"
