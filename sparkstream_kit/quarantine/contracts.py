"""Extra: the rules of a data contract (ODCS) as conditions for `quarantine.expect`.

`rules_of` is the public function; users find it in `sparkstream_kit.quarantine`.
`checks_of` also says which rules are left, because one row cannot decide them. A rule is
a condition in SQL with its name in a comment, by which `expect` calls it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyspark.sql import types as T

from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.columns import holds, quoted
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.quarantine.contract_values import (
    TIMESTAMPS,
    Left,
    Rule,
    Value,
    is_one_of,
    literal,
    matches,
    number_in_sql,
    text_in_sql,
    whole,
    wrong,
)
from sparkstream_kit.schemas.contracts import (
    column_name,
    columns,
    inner_parts,
    is_required,
    keys_of,
    kind_of,
    logical_of,
    options_of,
    read,
    required_names,
)
from sparkstream_kit.schemas.physical import bits_of_unsigned, size_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from open_data_contract_standard.model import (
        DataQuality,
        SchemaObject,
        SchemaProperty,
    )

    from sparkstream_kit.schemas.contracts import Contract


# Words of `severity` that do not set a row aside; without a word a rule does
_COUNTED = ("debug", "info", "information", "low", "minor", "notice", "warn", "warning")
_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
}
# The smallest and the biggest value of a format of numbers, which has Rust's names
_BITS = (8, 16, 32, 64, 128)
_SIGNED = {f"i{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in _BITS}
_UNSIGNED = {f"u{bits}": (0, 2**bits - 1) for bits in _BITS}
_RANGES = _SIGNED | _UNSIGNED
_WHOLE: dict[type[T.DataType], str] = {
    T.ByteType: "i8",
    T.ShortType: "i16",
    T.IntegerType: "i32",
    T.LongType: "i64",
}
# A time of a day, which is a text: ISO 8601, or the format of the standard's examples
_TIME = r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?\z"
_TIMES = ("", "HH:mm", "HH:mm:ss", "HH:mm:ss.SSS", "HH:mm:ssZ", "HH:mm:ss.SSSZ")

_LIMITS = (
    "mustBe",
    "mustNotBe",
    "mustBeGreaterThan",
    "mustBeGreaterOrEqualTo",
    "mustBeLessThan",
    "mustBeLessOrEqualTo",
    "mustBeBetween",
    "mustNotBeBetween",
)
# Limits up to which a metric may count rows
_UPPER = ("mustBe", "mustBeLessThan", "mustBeLessOrEqualTo", "mustBeBetween")
# As ODCS 3.0 calls them
_FORMER = {"duplicateCount": "duplicateValues", "validValues": "invalidValues"}
_ALL_ROWS = "it needs all rows of the table"

# A query that counts rows by a condition, which each row decides by itself
_COUNT = re.compile(
    r"SELECT\s+COUNT\s*\(\s*(?:\*|1)\s*\)(?:\s+AS\s+\w+)?"
    r"\s+FROM\s+(?P<table>[^\s;]+)\s+WHERE\s+(?P<where>.+)",
    re.IGNORECASE | re.DOTALL,
)
_NOT_OF_A_ROW = re.compile(
    r"\b(SELECT|GROUP\s+BY|HAVING|ORDER\s+BY|LIMIT|UNION|INTERSECT|EXCEPT|JOIN|OVER)\b",
    re.IGNORECASE,
)
_OBJECT = r"\$?\{(?:object|table|model|schema)\}"
_PROPERTY = r"\$?\{(?:property|column|field)\}"
_SHOWN = 60  # characters of a description that names a rule


def rules_of(
    contract: str | os.PathLike[str], name: str | None = None
) -> dict[str, str]:
    """Read the rules of a data contract, for `quarantine.expect`.

    These are the rules that each row decides by itself: `required`, ranges, lengths,
    patterns, valid values, and the quality rules that count rows by a condition. Rules
    that need all rows, such as `unique` and `rowCount`, are left out;
    `sparkstream contract check` lists them. Call it once, above the function of a
    pipeline: it reads the file, and asks Spark nothing.

    Args:
        contract: the file, of the Open Data Contract Standard (ODCS) 3.
        name: the object in its schema (its name or physical name), such as a table or a
            topic. Default: the only one.

    Returns:
        Each condition, with the name of its rule in a comment, and what `expect` does
        with a row that breaks it. It is `quarantine`, but `warn` for a quality rule
        whose `severity` is info or warning, or that allows some rows to break it.

    Raises:
        InvalidInputError: the file cannot be read or is no contract of ODCS 3, there is
            no such object, it has no rule that a row decides, or a value in a rule is
            not of the column's type.
        MissingExtraError: open-data-contract-standard is not installed.

    Examples:
        In a session::

            rules = quarantine.rules_of("orders.odcs.yaml", "orders")
            rows = quarantine.expect(orders, rules)
    """
    check(rules_of, locals())
    found = read("quarantine.rules_of", contract)
    rules = [each for each in checks_of(found, name) if isinstance(each, Rule)]
    if not rules:
        raise InvalidInputError(
            f"{found.path}: {found.table(name).name} has no rule that a row decides; leave"
            " out expect()"
        )
    return named(rules)


def named(rules: list[Rule]) -> dict[str, str]:
    """Return rules as `expect` takes them: the condition with the name, and the level."""
    seen: Counter[str] = Counter()
    conditions = {}
    for rule in rules:
        name = " ".join(rule.name.replace("*/", "* /").replace("/*", "/ *").split())
        seen[name] += 1
        if seen[name] > 1:
            name = f"{name} ({seen[name]})"
        conditions[f"{rule.condition} /* {name} */"] = rule.level
    return conditions


def checks_of(contract: Contract, name: str | None) -> list[Rule | Left]:
    """Return the rules of an object of a contract, in the order of the file.

    Raises:
        InvalidInputError: there is no such object, or a value in a rule is not of the
            column's type.
    """
    table = contract.table(name)
    try:
        return list(_of_table(table))
    except InvalidInputError as err:
        raise InvalidInputError(f"{contract.path}: {table.name}.{err}") from None


def _of_table(table: SchemaObject) -> Iterator[Rule | Left]:
    for part in columns(table.properties or []):
        column = column_name(part)
        value = Value(column, quoted(column))
        yield from _of_property(part, value, table, required=is_required(part))
    whole = Value(str(table.name), "")
    for number, rule in enumerate(table.quality or [], 1):
        yield _of_quality(rule, number, whole, table, None)
    keys = keys_of(table)
    if keys:
        yield whole.left(f"primaryKey {', '.join(keys)}", _once(keys))


def _once(keys: list[str]) -> str:
    """Say why a key is not checked, and what drops the rows that come again."""
    names = repr(keys[0]) if len(keys) == 1 else repr(keys)
    return f"{_ALL_ROWS}; state.once(rows, {names}, …) drops what comes again"


def _of_property(
    part: SchemaProperty, value: Value, table: SchemaObject, *, required: bool
) -> Iterator[Rule | Left]:
    """Yield the rules of a property, and of what lies in it."""
    kind = kind_of(part, value.path, lambda _: None)
    zone = options_of(part).get("defaultTimezone")
    value = replace(value, zone=str(zone or "UTC"))
    if required:
        condition = f"{value.sql} IS NOT NULL"
        if value.within:
            condition = f"{value.within} IS NULL OR {condition}"
        yield value.rule("required", condition)
    yield from _of_options(part, value, kind)
    if part.enum:
        values = [each.value for each in part.enum]
        yield value.unless_null("enum", is_one_of(values, value, kind, "enum"))
    if part.unique:
        is_column = value.sql == quoted(value.path)
        yield value.left("unique", _once([value.path]) if is_column else _ALL_ROWS)
    for number, rule in enumerate(part.quality or [], 1):
        yield _of_quality(rule, number, value, table, kind)
    yield from _of_parts(part, value, table, kind)


def _of_parts(
    part: SchemaProperty, value: Value, table: SchemaObject, kind: T.DataType
) -> Iterator[Rule | Left]:
    """Yield the rules of what lies in a property: fields, elements, keys, values."""
    if isinstance(kind, T.StructType):
        names = required_names(part, value.path)
        for inner in columns(part.properties or []):
            field = value.field(column_name(inner))
            is_needed = is_required(inner, names)
            yield from _of_property(inner, field, table, required=is_needed)
    if isinstance(kind, (T.ArrayType, T.MapType)):
        for inner, mark in inner_parts(part):
            array = value.sql
            if isinstance(kind, T.MapType):
                array = f"{'map_keys' if mark == '[key]' else 'map_values'}({array})"
            element = value.each(array, mark)
            is_needed = is_required(inner)
            yield from _of_property(inner, element, table, required=is_needed)


# --- the options of a type


def _of_options(
    part: SchemaProperty, value: Value, kind: T.DataType
) -> Iterator[Rule | Left]:
    """Yield the rules of the options of a property's logical type."""
    options = options_of(part)
    if isinstance(kind, T.StringType):
        yield from _of_text(part, value)
    for key in _BOUNDS:
        bound = options.get(key)
        if bound is not None and bound is not False and _is_of(key, kind):
            yield _bound(key, part, value, kind)
    yield from _of_numbers(part, value, kind)
    if isinstance(kind, T.ArrayType):
        yield from _of_sizes(options, value, kind)
    for key in ("minProperties", "maxProperties"):
        if options.get(key) is not None:
            yield value.left(key, "the number of fields is that of the type")
    for key in options:
        if not _is_of(key, kind):
            yield value.left(key, f"the column is {kind.simpleString()}")
    if isinstance(kind, T.VariantType) and required_names(part, value.path):
        yield value.left("required", "the object has no properties")


def _is_of(key: str, kind: T.DataType) -> bool:
    """Return whether an option of a contract is for values of a type.

    Examples:
        >>> _is_of("minimum", T.LongType()), _is_of("minimum", T.StringType())
        (True, False)
    """
    if key in _BOUNDS:
        # A time of a day is a text, and 09:00 and 09:00:00 are two texts
        return isinstance(kind, (T.NumericType, T.DateType, *TIMESTAMPS))
    if key == "multipleOf":
        return isinstance(kind, T.NumericType)
    if key in ("minLength", "maxLength", "pattern"):
        return isinstance(kind, T.StringType)
    if key in ("minItems", "maxItems", "uniqueItems", "dimensions"):
        return isinstance(kind, T.ArrayType)
    return True


def _of_numbers(part: SchemaProperty, value: Value, kind: T.DataType) -> Iterator[Rule]:
    """Yield the rules of a number beside its range: its steps, and that it is unsigned."""
    options = options_of(part)
    step = options.get("multipleOf")
    if step == 0:
        raise wrong(step, value, "multipleOf", "a step", "give another number")
    if step is not None and _is_of("multipleOf", kind):
        number = number_in_sql(step, value, "multipleOf")
        exact = f"try_cast({value.sql} AS DECIMAL(38,18))"
        yield value.unless_null(f"multipleOf {step}", f"{exact} % {number} = 0")
    form = str(options.get("format"))
    if part.logicalType in ("integer", "number") and form in _RANGES:
        low, high = _RANGES[form]
        yield from _of_range(f"format {form}", low, high, value, kind)
    bits = bits_of_unsigned(part.physicalType)
    if bits is not None and isinstance(kind, T.NumericType):
        yield from _of_range(str(part.physicalType), 0, 2**bits - 1, value, kind)


def _of_range(
    name: str, low: int, high: int, value: Value, kind: T.DataType
) -> Iterator[Rule]:
    """Yield the rule of a range of whole numbers, if the type holds others, too."""
    least, most = _held(kind)
    ends = []
    if least < low:
        ends.append(f"{value.sql} >= {low}")
    if high < most:
        ends.append(f"{value.sql} <= {high}")
    if ends:
        yield value.unless_null(name, " AND ".join(ends))


def _held(kind: T.DataType) -> tuple[float, float]:
    """Return the smallest and the biggest number that a type holds, without fractions.

    Examples:
        >>> _held(T.ByteType()), _held(T.DecimalType(5, 2)), _held(T.DoubleType())
        ((-128, 127), (-999, 999), (-inf, inf))
    """
    if isinstance(kind, T.DecimalType):
        most = 10 ** (kind.precision - kind.scale) - 1
        return -most, most
    form = _WHOLE.get(type(kind))
    return (-math.inf, math.inf) if form is None else _RANGES[form]


def _of_text(part: SchemaProperty, value: Value) -> Iterator[Rule | Left]:
    """Yield the rules of a text; its format is checked if it is a time of a day."""
    options = options_of(part)
    length = f"char_length({value.sql})"
    fewest = options.get("minLength")
    if fewest is not None:
        size = whole(fewest, value, "minLength")
        yield value.unless_null(f"minLength {size}", f"{length} >= {size}")
    most = options.get("maxLength")
    if most is not None:
        size = whole(most, value, "maxLength")
        yield value.unless_null(f"maxLength {size}", f"{length} <= {size}")
    size_of_type = size_of(part.physicalType)
    if size_of_type is not None:
        size, unit = size_of_type
        measure = "octet_length" if unit == "byte" else "char_length"
        if unit == "byte" or most is None or size < most:
            condition = f"{measure}({value.sql}) <= {size}"
            yield value.unless_null(str(part.physicalType), condition)
    if options.get("pattern") is not None:
        yield value.unless_null("pattern", matches(options["pattern"], value))
    form = str(options.get("format") or "")
    if logical_of(part) == "time" and form.replace("'", "") in _TIMES:
        yield value.unless_null("time", f"{value.sql} RLIKE {text_in_sql(_TIME)}")
    elif form:
        yield value.left(f"format {form}", "it says what the text is for")


def _of_sizes(
    options: dict[str, Any], value: Value, kind: T.ArrayType
) -> Iterator[Rule | Left]:
    """Yield the rules of the number of elements in an array."""
    for key, sign in (("minItems", ">="), ("maxItems", "<="), ("dimensions", "=")):
        if options.get(key) is not None:
            size = whole(options[key], value, key)
            yield value.unless_null(f"{key} {size}", f"size({value.sql}) {sign} {size}")
    if options.get("uniqueItems") and holds(kind, T.MapType, T.VariantType):
        yield value.left("uniqueItems", "Spark cannot compare its elements")
    elif options.get("uniqueItems"):
        distinct = f"size(array_distinct({value.sql}))"
        yield value.unless_null("uniqueItems", f"{distinct} = size({value.sql})")


def _bound(
    key: str, part: SchemaProperty, value: Value, kind: T.DataType
) -> Rule | Left:
    """Return the rule of a smallest or a biggest value.

    In ODCS 3.0 `exclusiveMinimum: true` says how `minimum` is meant.
    """
    options = options_of(part)
    bound = options[key]
    sign = _BOUNDS[key]
    if bound is True:
        return value.left(key, "`minimum` or `maximum` has it")
    exclusive = f"exclusive{key[0].upper()}{key[1:]}"
    if options.get(exclusive) is True:
        sign = _BOUNDS[exclusive]
        key = exclusive
    limit = literal(bound, value, kind, key)
    return value.unless_null(f"{key} {bound}", f"{value.sql} {sign} {limit}")


# --- quality rules


def _of_quality(
    rule: DataQuality,
    number: int,
    value: Value,
    table: SchemaObject,
    kind: T.DataType | None,
) -> Rule | Left:
    """Return a quality rule of a property, or of the whole object (without a type)."""
    kind_of_rule = rule.type or "library"
    metric = rule.metric or rule.rule
    metric = _FORMER.get(str(metric), metric)
    name = _name(rule, metric if kind_of_rule == "library" else None, number)
    if kind_of_rule == "text":
        return value.left(name, "it is a text for people")
    if kind_of_rule == "custom":
        return value.left(name, f"it is for {rule.engine or 'another tool'}")
    if kind_of_rule == "sql":
        condition = _by_query(str(rule.query or ""), value, table)
    elif kind_of_rule == "library":
        condition = _by_metric(str(metric), rule, value, kind)
    else:
        return value.left(name, f"a rule of type {kind_of_rule} is not known here")
    if isinstance(condition, Left):
        return value.left(name, condition.why)
    return _limited(rule, value.rule(name, condition), value)


def _name(rule: DataQuality, metric: str | None, number: int) -> str:
    description = " ".join((rule.description or "").split())
    if len(description) > _SHOWN:
        description = description[:_SHOWN] + "…"
    return rule.name or rule.id or metric or description or f"quality rule {number}"


def _limited(rule: DataQuality, found: Rule, value: Value) -> Rule | Left:
    """Return a rule as its limit and its severity have it.

    If no row may break it, a row that does is bad. If some rows may, which only all rows
    of a table can show, it is counted.
    """
    for key in ("mustBe", "mustNotBe"):
        limit = getattr(rule, key)
        if isinstance(limit, (bool, str)):
            raise wrong(limit, value, key, "a number", "write one, without quotes")
    limits = {key: getattr(rule, key) for key in _LIMITS}
    given = {key: limit for key, limit in limits.items() if limit is not None}
    level = "quarantine"
    if (rule.severity or "").lower() in _COUNTED:
        level = "warn"
    name = found.name.removeprefix(f"{value.path}: ")
    if not given:
        return value.left(name, "it has no limit, such as mustBe: 0")
    if _is_none(given, rule.unit):
        return found._replace(level=level)
    if not set(given) <= set(_UPPER):
        return value.left(name, f"{_ALL_ROWS}: {', '.join(given)}")
    words = [f"{key} {limit}" for key, limit in given.items()]
    more = f"{' and '.join(words)} {rule.unit or 'rows'} is not checked"
    return found._replace(level="warn", more=more)


def _is_none(given: dict[str, Any], unit: str | None) -> bool:
    """Return whether limits allow no row at all.

    Examples:
        >>> _is_none({"mustBe": 0}, "percent"), _is_none({"mustBeLessThan": 1}, None)
        (True, True)
        >>> _is_none({"mustBeLessThan": 1}, "percent"), _is_none({"mustBe": 5}, None)
        (False, False)
    """
    if given.get("mustBe") == 0 or given.get("mustBeLessOrEqualTo") == 0:
        return True
    if given.get("mustBeBetween") == [0, 0]:
        return True
    return given.get("mustBeLessThan") == 1 and (unit or "rows") == "rows"


def _by_metric(
    metric: str, rule: DataQuality, value: Value, kind: T.DataType | None
) -> str | Left:
    """Return the condition of a metric of the standard's library, for a good row."""
    if metric in ("rowCount", "duplicateValues"):
        return Left(metric, _ALL_ROWS)
    if kind is None or metric not in ("nullValues", "missingValues", "invalidValues"):
        return Left(metric, f"the metric {metric} is not known here")
    arguments = rule.arguments or {}
    if metric == "nullValues":
        return f"{value.sql} IS NOT NULL"
    if metric == "missingValues":
        missing = _listed(arguments, "missingValues", value)
        if missing is None:
            missing = [None, ""] if isinstance(kind, T.StringType) else [None]
        return _is_not_missing(missing, value, kind)
    conditions = []
    valid = _listed(arguments, "validValues", value)
    if valid is not None:
        conditions.append(is_one_of(valid, value, kind, metric))
    if arguments.get("pattern") is not None:
        text = replace(value, sql=f"CAST({value.sql} AS STRING)")
        conditions.append(matches(arguments["pattern"], text))
    if not conditions:
        return Left(metric, "it has no validValues and no pattern")
    return f"{value.sql} IS NULL OR {' AND '.join(conditions)}"


def _listed(arguments: dict[str, Any], key: str, value: Value) -> list[Any] | None:
    """Return the list that a rule has as an argument, if it has it."""
    given = arguments.get(key)
    if given is None or isinstance(given, list):
        return given
    raise wrong(given, value, key, "a list", "write it like [NA, none]")


def _is_not_missing(missing: list[Any], value: Value, kind: T.DataType) -> str:
    texts = [
        literal(each, value, kind, "missingValues")
        for each in missing
        if each is not None
    ]
    listed = f"{value.sql} NOT IN ({', '.join(texts)})"
    if None in missing:
        return f"{value.sql} IS NOT NULL AND {listed}" if texts else _not_null(value)
    return f"{value.sql} IS NULL OR {listed}"


def _not_null(value: Value) -> str:
    return f"{value.sql} IS NOT NULL"


def _by_query(query: str, value: Value, table: SchemaObject) -> str | Left:
    """Return the condition of a query that counts rows, for a row that is not counted."""
    plain = re.sub(r"(?m)--[^'\n]*$", "", query).strip().removesuffix(";").strip()
    counted = _COUNT.fullmatch(plain)
    if counted is None or _NOT_OF_A_ROW.search(counted["where"]):
        return Left("", f"{_ALL_ROWS}: only SELECT COUNT(*) … WHERE … is of a row")
    names = [
        name.lower().rpartition(".")[2]
        for name in (table.name, table.physicalName)
        if name
    ]
    source = counted["table"].strip('`"').lower()
    is_own = re.fullmatch(_OBJECT, source) or source.rpartition(".")[2] in names
    if not is_own:
        return Left("", f"it reads {counted['table']}")
    if re.search(r"--|/\*", counted["where"]):
        return Left("", "its condition has a comment")
    with_table = "|".join(map(re.escape, names))
    if re.search(rf"(?i)\b({with_table})[`\"]?\.", counted["where"]):
        return Left("", "its condition has the name of the table before a column")
    if value.arrays:
        return Left("", "it is of a value in an array")
    where = re.sub(rf"{_OBJECT}\.", "", counted["where"])
    where = re.sub(_PROPERTY, lambda _: value.sql, where)
    return f"({where}) IS NOT TRUE"
