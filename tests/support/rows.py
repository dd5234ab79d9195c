"""Rows of every type of Spark, by hypothesis: a property for sinks that one can read back.

A `Kind` is a type with the values that are worth trying: its corner cases, mixed with
values of hypothesis. `tables()` is a strategy of `Table`s: columns of some kinds, and
rows. A table becomes a DataFrame of one batch (`table.frame(spark)`) or of a stream
(`table.over(stream)`, where the stream has one row). Its values are SQL literals, so a
value is in Spark exactly what it is here, also a month interval, a VARIANT or a NaN,
which `createDataFrame` changes or refuses; and the same works on Spark Connect.

To compare two frames, `table.told(frame)` collects a frame as texts that lose nothing:
a TIMESTAMP as its microseconds, a DOUBLE in all digits with its sign, bytes as hex, a
NULL as None. So a property is::

    @given(table=rows.tables(rows.FLAT))
    def test_what_comes_back_is_equal(table):
        batch = table.frame(spark)
        ...                                    # write the batch, and read it back as `found`
        assert table.told(found) == table.told(batch)

For another reader (Python's csv, a database's client) the rows are in `table.rows` as
values of Python: TIMESTAMP is an aware datetime in UTC, TIMESTAMP_NTZ a naive one,
DECIMAL a Decimal, BINARY bytes, INTERVAL DAY TO SECOND a timedelta, INTERVAL YEAR TO
MONTH a number of months, VARIANT the text of its JSON, ARRAY a tuple, STRUCT a tuple,
MAP a tuple of pairs.

`corners(kind)` is a table of one kind with each corner case once, for a fast test
without hypothesis. The module loads neither Spark nor the kit. A sink that cannot take
a text (a NUL, of which there is none here, or two keys that differ in case) has kinds
of its own: `texts_of(corners, strategy)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from hypothesis import strategies as st

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Kind:
    """A type of Spark, and the values to try.

    Attributes:
        ddl: the type, as in a schema of Spark.
        corners: the values that are most likely to be changed on the way.
        values: a strategy of values, corner cases among them.
        literal: returns the SQL of a value, which is never None.
        shown: returns SQL of type STRING (or of nested texts) that shows a column's
            value without a loss.
    """

    ddl: str
    corners: tuple[Any, ...]
    values: st.SearchStrategy
    literal: Callable[[Any], str]
    shown: Callable[[str], str]

    def __repr__(self):
        return self.ddl

    def sql(self, value):
        """Return the SQL of a value or of NULL."""
        return f"CAST({'NULL' if value is None else self.literal(value)} AS {self.ddl})"


def _kind(ddl, corners, more, literal, shown=lambda x: f"CAST({x} AS STRING)"):
    corners = tuple(corners)
    return Kind(ddl, corners, st.sampled_from(corners) | more, literal, shown)


def _whole(ddl, bits):
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    suffix = {8: "Y", 16: "S", 32: "", 64: "L"}[bits]
    return _kind(
        ddl,
        (0, -1, least, most),
        st.integers(least, most),
        lambda value: f"{value}{suffix}",
    )


def _decimal(precision, scale):
    most = 10**precision - 1

    def scaled(number):
        return Decimal(f"{number}E-{scale}")  # exact; `scaleb` would round to 28 digits

    more = st.integers(-most, most).map(scaled)
    corners = [scaled(number) for number in (0, 1, -1, most, -most)]
    return _kind(
        f"DECIMAL({precision},{scale})", corners, more, lambda value: f"{value:f}BD"
    )


def _floating(ddl, width, corners):
    zero = "0F" if width == 32 else "0D"
    every = (*corners, 0.0, -0.0, float("nan"), float("inf"), -float("inf"))
    # Spark knows the sign of -0.0, and reads nan, inf and 1e+22. The zero makes the
    # column one that cannot be NULL, which a cast of text can be.
    return _kind(
        ddl,
        every,
        st.floats(width=width),
        lambda value: f"coalesce(CAST('{value!r}' AS {ddl}), {zero})",
    )


TEXTS = (
    "",
    "x",
    " ",
    "  both ends  ",
    "\t",
    "line\nfeed",
    "carriage\rreturn",
    "both\r\nends",
    "\n",
    "\r",
    "\r\n",
    "one\r",
    "one\n",
    'say "hi"',
    '"',
    '""',
    "'",
    "back\\slash",
    "\\",
    '\\"',
    "a,b;c|d\te",
    "#comment",
    "NULL",
    "null",
    "NA",
    "NaN",
    "007",
    "1e5",
    "true",
    "2026-01-31",
    "__HIVE_DEFAULT_PARTITION__",
    "a/b=c:d%e*f?[g]{h}",
    "%20",
    ".hidden",
    "_hidden",
    "é ü 日本 🎈",
    "e\u0301",
    "\u0085\u2028\u2029",
    "\ufeffx",
    "\x01\x7f",
    "x" * 300,
)
_SAFE = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12
)


def _hex(data):
    return f"X'{data.hex()}'"


def texts_of(corners=TEXTS, more=_SAFE):
    """Return the kind STRING, with other texts to try."""
    return _kind(
        "STRING",
        corners,
        more,
        lambda value: f"coalesce(CAST({_hex(value.encode())} AS STRING), '')",
    )


def _moment(year, *rest, tz=UTC):
    moment: Any = partial(datetime, tzinfo=tz)
    return moment(year, *rest)


def _micros(moment):
    return (moment - EPOCH) // MICROSECOND


# A day from the ends: in a zone west or east of UTC the first and last day are of
# another year, 0 or 10000.
_FIRST, _LAST = datetime(1, 1, 2), datetime(9999, 12, 30, 23, 59, 59, 999999)  # noqa: DTZ001 - moments without a zone
_MOMENTS = [
    (1970, 1, 1),
    (1969, 12, 31, 23, 59, 59, 999999),
    (2026, 1, 31, 10, 30),
    (2026, 1, 31, 10, 30, 0, 123456),
    (2026, 1, 31, 10, 30, 0, 1),
    (2026, 10, 25, 0, 30),  # 02:30 in Berlin, for the first time
    (2026, 10, 25, 1, 30),  # and for the second time
    (2026, 3, 29, 2, 30),  # without a zone: not there in Berlin
    (1883, 11, 18, 12),  # when zones were local times, with seconds in the offset
    (1582, 10, 10, 12),
    (1, 1, 2),
    (9999, 12, 30, 23, 59, 59, 999999),
]

BOOLEAN = _kind(
    "BOOLEAN", (True, False), st.booleans(), lambda value: str(value).upper()
)
TINYINT, SMALLINT = _whole("TINYINT", 8), _whole("SMALLINT", 16)
INT, BIGINT = _whole("INT", 32), _whole("BIGINT", 64)
FLOAT = _floating(
    "FLOAT",
    32,
    (1.5, 1.401298464324817e-45, 3.4028234663852886e38, 0.10000000149011612),
)
DOUBLE = _floating(
    "DOUBLE",
    64,
    (1.5, 5e-324, 1.7976931348623157e308, 0.1, 1e16, 1e22, 123456789.123456789),
)
MONEY, DIGITS = _decimal(9, 2), _decimal(38, 0)
FRACTIONS, SMALL = _decimal(38, 38), _decimal(20, 8)
STRING = texts_of()
BINARY = _kind(
    "BINARY",
    (b"", b"x", b"\x00\xff\x80", b"\n", b"a,b"),
    st.binary(max_size=12),
    _hex,
    lambda x: f"hex({x})",
)
DATE = _kind(
    "DATE",
    (
        date(1970, 1, 1),
        date(2026, 1, 31),
        date(1582, 10, 10),
        date(1, 1, 1),
        date(9999, 12, 31),
    ),
    st.dates(),
    lambda value: f"DATE'{value.isoformat()}'",
)
TIMESTAMP = _kind(
    "TIMESTAMP",
    [_moment(*parts) for parts in _MOMENTS],
    st.datetimes(_FIRST, _LAST, timezones=st.just(UTC)),
    lambda value: f"timestamp_micros({_micros(value)}L)",
    lambda x: f"CAST(unix_micros({x}) AS STRING)",
)
TIMESTAMP_NTZ = _kind(
    "TIMESTAMP_NTZ",
    [_moment(*parts, tz=None) for parts in _MOMENTS],
    st.datetimes(_FIRST, _LAST),
    lambda value: f"TIMESTAMP_NTZ'{value.isoformat(' ')}'",
)
# Only where spark.sql.timeType.enabled is true, which is not so by default
TIME = _kind(
    "TIME(6)",
    (time(0), time(23, 59, 59, 999999), time(10, 30), time(10, 30, 0, 1)),
    st.times(),
    lambda value: f"TIME'{value.isoformat()}'",
)
_DAYS = timedelta(days=100_000)
INTERVAL_DAYS = _kind(
    "INTERVAL DAY TO SECOND",
    (
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(days=-1, microseconds=-1),
        _DAYS,
    ),
    st.timedeltas(-_DAYS, _DAYS),
    lambda value: (
        f"make_dt_interval({value.days}, 0, 0,"
        f" {value.seconds}.{value.microseconds:06}BD)"
    ),
)
INTERVAL_MONTHS = _kind(
    "INTERVAL YEAR TO MONTH",
    (0, 1, -1, 119_999, -13),
    st.integers(-100_000, 100_000),
    lambda n: f"make_ym_interval(0, {n})",
)
_JSON = (
    "1",
    "-1.25",
    "null",
    "true",
    '""',
    '"a\\nb"',
    "[]",
    "{}",
    '{"a": [1, null, {"b": "x"}]}',
    "1e300",
)
VARIANT = _kind(
    "VARIANT",
    _JSON,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _SAFE,
        st.lists,
        max_leaves=4,
    ).map(json.dumps),
    lambda value: f"parse_json({STRING.literal(value)})",
    lambda x: f"concat(schema_of_variant({x}), ' ', to_json({x}))",
)


def array_of(kind):
    """Return the kind of arrays: empty ones, and with NULL inside."""
    return Kind(
        f"ARRAY<{kind.ddl}>",
        ((), (None,), kind.corners[:3], (*kind.corners[-2:], None)),
        st.lists(st.none() | kind.values, max_size=4).map(tuple),
        lambda value: f"array({', '.join(map(kind.sql, value))})",
        lambda x: f"transform({x}, e -> {kind.shown('e')})",
    )


def map_of(key, kind):
    """Return the kind of maps, with keys of any type that has an equality."""
    first = key.corners[0]
    entries = (
        f"e -> struct({key.shown('e.key')} AS key, {kind.shown('e.value')} AS value)"
    )
    pairs = st.lists(
        st.tuples(key.values, st.none() | kind.values),
        max_size=3,
        unique_by=lambda pair: pair[0],
    )
    return Kind(
        f"MAP<{key.ddl}, {kind.ddl}>",
        (
            (),
            ((first, None),),
            tuple(zip(key.corners[:2], kind.corners[:2], strict=False)),
        ),
        pairs.map(tuple),
        lambda value: (
            f"map({', '.join(f'{key.sql(k)}, {kind.sql(v)}' for k, v in value)})"
        ),
        lambda x: f"array_sort(transform(map_entries({x}), {entries}))",
    )


def struct_of(**fields):
    """Return the kind of structs with fields of these kinds."""
    kinds = [*fields.values()]

    def literal(value):
        parts = [
            f"'{name}', {kind.sql(each)}"
            for (name, kind), each in zip(fields.items(), value, strict=True)
        ]
        return f"named_struct({', '.join(parts)})"

    def shown(x):
        parts = ", ".join(
            f"{kind.shown(f'{x}.{name}')} AS {name}" for name, kind in fields.items()
        )
        return f"CASE WHEN {x} IS NOT NULL THEN struct({parts}) END"

    return Kind(
        f"STRUCT<{', '.join(f'{name}: {kind.ddl}' for name, kind in fields.items())}>",
        (
            tuple(None for _ in kinds),
            tuple(kind.corners[0] for kind in kinds),
            tuple(kind.corners[-1] for kind in kinds),
        ),
        st.tuples(*(st.none() | kind.values for kind in kinds)),
        literal,
        shown,
    )


NUMBERS = (
    TINYINT,
    SMALLINT,
    INT,
    BIGINT,
    FLOAT,
    DOUBLE,
    MONEY,
    DIGITS,
    FRACTIONS,
    SMALL,
)
TIMES = (DATE, TIMESTAMP, TIMESTAMP_NTZ)
PLAIN = (BOOLEAN, *NUMBERS, STRING, *TIMES)  # what most formats and databases have
RARE = (BINARY, INTERVAL_DAYS, INTERVAL_MONTHS, VARIANT)
FLAT = (*PLAIN, *RARE)
NESTED = (
    array_of(STRING),
    array_of(array_of(INT)),
    array_of(TIMESTAMP),
    map_of(STRING, STRING),
    map_of(STRING, TIMESTAMP),
    struct_of(a=INT, b=STRING, c=TIMESTAMP),
    array_of(struct_of(a=DOUBLE, b=array_of(STRING))),
)
ODD_MAPS = tuple(
    map_of(key, STRING)
    for key in (INT, DATE, TIMESTAMP, DOUBLE, BINARY, BOOLEAN, MONEY, struct_of(a=INT))
)
ALL = (*FLAT, *NESTED, *ODD_MAPS)


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its kind, and whether it can have NULL."""

    name: str
    kind: Kind
    nullable: bool = True

    @property
    def quoted(self):
        return "`" + self.name.replace("`", "``") + "`"


@dataclass(frozen=True)
class Table:
    """Columns and rows; `rows` are tuples of Python's values, None for NULL."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def ddl(self):
        """The schema, as `schemas.from_ddl` and Spark's readers take it."""
        return ", ".join(f"{each.quoted} {each.kind.ddl}" for each in self.columns)

    def over(self, one_row):
        """Return a frame with these rows for each row of another frame.

        The other frame may be a stream of one row. A column that is nullable is so for
        Spark, too, whatever its values are.
        """
        name = f"`{one_row.columns[0]}`"

        def cell(column, value):
            sql = column.kind.sql(value)
            # A CASE without ELSE is nullable.
            return (
                f"CASE WHEN {name} IS NOT NULL THEN {sql} END"
                if column.nullable
                else sql
            )

        rows = [
            "named_struct("
            + ", ".join(
                f"'c{n}', {cell(*each)}"
                for n, each in enumerate(zip(self.columns, row, strict=True))
            )
            + ")"
            for row in self.rows
        ]
        frame = one_row.selectExpr(f"inline(array({', '.join(rows)}))")
        return frame.toDF(*(column.name for column in self.columns))

    def frame(self, spark):
        """Return the rows as a static frame."""
        if not self.rows:
            return spark.createDataFrame([], self.ddl)
        return self.over(spark.sql("SELECT 1 AS one"))

    def told(self, frame):
        """Collect this table's columns from a frame, as sorted texts that lose nothing."""
        shown = [
            f"{each.kind.shown(each.quoted)} AS c{n}"
            for n, each in enumerate(self.columns)
        ]
        return sorted(
            (tuple(row) for row in frame.selectExpr(*shown).collect()), key=repr
        )


def corners(kind, *, beside=None, nulls=True):
    """Return a table with each corner case of a kind once, in the column `v`.

    Args:
        kind: the kind.
        beside: the kind of a second column `k`, which has its first value in each row;
            None for one column.
        nulls: whether a row has NULL.
    """
    columns = [Column("v", kind, nullable=nulls)]
    rows: list[tuple[Any, ...]]
    rows = [(value,) for value in (*kind.corners, *([None] if nulls else []))]
    if beside is not None:
        columns.append(Column("k", beside, nullable=False))
        rows = [(*row, beside.corners[0]) for row in rows]
    return Table(tuple(columns), tuple(rows))


def wide(kinds, *, nulls=True):
    """Return a table with a column for each kind, `c0` and so on, and each corner case."""
    columns = tuple(
        Column(f"c{number}", kind, nulls) for number, kind in enumerate(kinds)
    )
    height = max(len(kind.corners) for kind in kinds)
    rows = [
        tuple(kind.corners[n % len(kind.corners)] for kind in kinds)
        for n in range(height)
    ]
    if nulls:
        rows.append((None,) * len(kinds))
    return Table(columns, tuple(rows))


NAMES = ("a", "b c", "d.e", "é", "f`g", "h,i", "Key", "_j", "k=l")


@st.composite
def tables(draw, kinds=FLAT, *, columns=4, rows=6, names=NAMES):
    """Make tables of some columns, of which some cannot be NULL, and of 1 row or more."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=columns))
    called = draw(st.permutations(names))[: len(chosen)]
    made = tuple(
        Column(name, kind, nullable=draw(st.booleans()))
        for name, kind in zip(called, chosen, strict=True)
    )
    cells = [
        each.kind.values if not each.nullable else st.none() | each.kind.values
        for each in made
    ]
    return Table(
        made, tuple(draw(st.lists(st.tuples(*cells), min_size=1, max_size=rows)))
    )
