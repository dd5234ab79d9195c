"""Thin: columns and types in DDL, read without Spark.

Spark's own parser is in the JVM or on a server. Where neither may be asked, as in a
function of a pipeline, `read` reads the columns and types that Spark itself writes. It
gives what Spark's parser gives, or refuses the text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql import types as T

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN: dict[str, type[T.DataType]] = {
    "BIGINT": T.LongType,
    "BINARY": T.BinaryType,
    "BOOLEAN": T.BooleanType,
    "BYTE": T.ByteType,
    "DATE": T.DateType,
    "DOUBLE": T.DoubleType,
    "FLOAT": T.FloatType,
    "INT": T.IntegerType,
    "INTEGER": T.IntegerType,
    "LONG": T.LongType,
    "REAL": T.FloatType,
    "SHORT": T.ShortType,
    "SMALLINT": T.ShortType,
    "STRING": T.StringType,
    "TIMESTAMP_LTZ": T.TimestampType,
    "TIMESTAMP_NTZ": T.TimestampNTZType,
    "TINYINT": T.ByteType,
    "VARIANT": T.VariantType,
    "VOID": T.NullType,
}
_MOST_DIGITS = 38  # of a decimal
# The units of an interval, with their numbers in Spark's types
_YEAR_MONTH = {"YEAR": 0, "MONTH": 1}
_DAY_TIME = {"DAY": 0, "HOUR": 1, "MINUTE": 2, "SECOND": 3}

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<word>[A-Za-z_]\w*)
    | `(?P<name>(?:[^`]|``)+)`
    | (?P<number>\d+)(?!\w)
    | '(?P<single>(?:[^'\\]|'')*)'
    | "(?P<double>(?:[^"\\]|"")*)"
    | (?P<sign>[<>(),:])
    """,
    re.VERBOSE | re.ASCII,
)


class UnreadError(ValueError):
    """A text of DDL that is not read here; Spark may be able to.

    Attributes:
        word: where reading has stopped; empty at the end of the text.
    """

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class _Token(NamedTuple):
    """A part of a text: a word, a name in backticks, a number, a string or a sign."""

    kind: str
    text: str


_END = _Token("end", "")


def read(ddl: str, timestamp: T.DataType) -> T.DataType:
    """Return the columns, or else the one type, that a DDL text names.

    Args:
        ddl: columns such as `a INT NOT NULL COMMENT 'text', b STRUCT<c: DATE>`, or a
            type alone.
        timestamp: the type that TIMESTAMP stands for.

    Raises:
        UnreadError: the text is none of these.

    Examples:
        >>> read("a INT NOT NULL, b ARRAY<DECIMAL(9,2)>", T.TimestampType()).simpleString()
        'struct<a:int,b:array<decimal(9,2)>>'
        >>> read("MAP<STRING, DATE>", T.TimestampType()).simpleString()
        'map<string,date>'
    """
    tokens = _tokens(ddl)
    try:
        return _Reader(tokens, timestamp).whole(_Reader.columns)
    except UnreadError as error:
        try:
            return _Reader(tokens, timestamp).whole(_Reader.type)
        except UnreadError:
            raise error from None


def _tokens(ddl: str) -> list[_Token]:
    tokens = []
    place = 0
    while place < len(ddl):
        found = _TOKEN.match(ddl, place)
        if found is None:
            words = ddl[place:].split(maxsplit=1)
            raise UnreadError(words[0] if words else ddl[place])
        place = found.end()
        kind = str(found.lastgroup)
        text = found[kind]
        if kind == "name":
            text = text.replace("``", "`")
        elif kind == "single":
            text = text.replace("''", "'")
        elif kind == "double":
            text = text.replace('""', '"')
        if kind != "space":
            tokens.append(_Token(kind, text))
    return tokens


class _Reader:
    """Reads the tokens of a text from left to right."""

    def __init__(self, tokens: list[_Token], timestamp: T.DataType) -> None:
        self._tokens = tokens
        self._place = 0
        self._timestamp = timestamp

    def whole(self, what: Callable[[_Reader], T.DataType]) -> T.DataType:
        """Read a text that is this and nothing more."""
        kind = what(self)
        if self._next() is not _END:
            raise self._unread()
        return kind

    def columns(self) -> T.StructType:
        """Read columns or fields, separated by commas: `a INT NOT NULL, b: DATE`."""
        columns = T.StructType()
        while True:
            token = self._take("word", "name")
            self._has(":")
            kind = self.type()
            is_required = self._has("NOT")
            if is_required:
                self._need("NULL")
            metadata = None
            if self._has("COMMENT"):
                comment = self._take("single", "double")
                metadata = {"comment": comment.text}
            columns.add(token.text, kind, not is_required, metadata)
            if not self._has(","):
                return columns

    def type(self) -> T.DataType:
        """Read a type, with those inside it."""
        name = self._take("word").text.upper()
        if name in _PLAIN:
            return _PLAIN[name]()
        if name == "TIMESTAMP":
            return self._timestamp
        if name not in _WITH_MORE:
            self._place -= 1
            raise self._unread()
        return _WITH_MORE[name](self)

    def array(self) -> T.DataType:
        """Read what follows ARRAY."""
        self._need("<")
        element = self.type()
        self._need(">")
        return T.ArrayType(element)

    def map(self) -> T.DataType:
        """Read what follows MAP."""
        self._need("<")
        key = self.type()
        self._need(",")
        value = self.type()
        self._need(">")
        return T.MapType(key, value)

    def struct(self) -> T.DataType:
        """Read what follows STRUCT."""
        self._need("<")
        if self._has(">"):
            return T.StructType()
        fields = self.columns()
        self._need(">")
        return fields

    def char(self) -> T.DataType:
        """Read what follows CHAR."""
        return T.CharType(self._length())

    def varchar(self) -> T.DataType:
        """Read what follows VARCHAR."""
        return T.VarcharType(self._length())

    def decimal(self) -> T.DataType:
        """Read what follows DECIMAL."""
        if not self._has("("):
            return T.DecimalType()
        precision = int(self._take("number").text)
        scale = 0
        if self._has(","):
            scale = int(self._take("number").text)
        self._need(")")
        if not scale <= precision <= _MOST_DIGITS:
            self._place -= 1
            raise self._unread()
        return T.DecimalType(precision, scale)

    def _length(self) -> int:
        self._need("(")
        length = int(self._take("number").text)
        self._need(")")
        return length

    def interval(self) -> T.DataType:
        """Read what follows INTERVAL."""
        unit = self._next().text.upper()
        if unit in _YEAR_MONTH:
            return T.YearMonthIntervalType(*self._range(_YEAR_MONTH))
        if unit in _DAY_TIME:
            return T.DayTimeIntervalType(*self._range(_DAY_TIME))
        return T.CalendarIntervalType()

    def _range(self, units: dict[str, int]) -> tuple[int, int]:
        """Read the units of an interval, such as `DAY TO SECOND`."""
        first = units[self._take("word").text.upper()]
        if not self._has("TO"):
            return first, first
        last = units.get(self._next().text.upper(), 0)
        if last <= first:
            raise self._unread()
        self._place += 1
        return first, last

    def _next(self) -> _Token:
        """Return the next token, and stay before it."""
        if self._place == len(self._tokens):
            return _END
        return self._tokens[self._place]

    def _take(self, *kinds: str) -> _Token:
        """Return the next token, which must be of one of these kinds, and go behind it."""
        token = self._next()
        if token.kind not in kinds:
            raise self._unread()
        self._place += 1
        return token

    def _has(self, text: str) -> bool:
        """Go behind the next token if it is this sign or word, and say whether it is."""
        token = self._next()
        is_it = token.kind in ("sign", "word") and token.text.upper() == text
        if is_it:
            self._place += 1
        return is_it

    def _need(self, text: str) -> None:
        if not self._has(text):
            raise self._unread()

    def _unread(self) -> UnreadError:
        return UnreadError(self._next().text)


# Types with more behind their name
_WITH_MORE: dict[str, Callable[[_Reader], T.DataType]] = {
    "ARRAY": _Reader.array,
    "CHAR": _Reader.char,
    "CHARACTER": _Reader.char,
    "DEC": _Reader.decimal,
    "DECIMAL": _Reader.decimal,
    "INTERVAL": _Reader.interval,
    "MAP": _Reader.map,
    "NUMERIC": _Reader.decimal,
    "STRUCT": _Reader.struct,
    "VARCHAR": _Reader.varchar,
}
