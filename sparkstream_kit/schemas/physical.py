"""Extra: the types of databases and formats, by their names in contracts, as Spark's types."""

from __future__ import annotations

import re

from pyspark.sql import types as T

# Types that Spark reads without loss. Databases disagree on FLOAT (4 or 8 bytes) and on
# INT8 (8 bits or bytes): the bigger one holds both.
_NAMES: dict[T.DataType, str] = {
    T.BinaryType(): "binary blob bytea bytes image longblob mediumblob raw varbinary",
    T.BooleanType(): "bit bool boolean",
    T.ByteType(): "byte tinyint",
    T.DateType(): "date",
    T.DoubleType(): "binary_double double double precision float float64 float8",
    T.FloatType(): "binary_float float32 float4 real",
    T.IntegerType(): "int int32 int4 integer mediumint serial",
    T.LongType(): "bigint bigserial int64 int8 long",
    T.ShortType(): "int16 int2 short smallint",
    # A time of a day is a text, too: Spark's readers of text have no type for it
    T.StringType(): (
        "bpchar char character character varying citext clob enum longtext mediumtext"
        " nchar nclob ntext nvarchar nvarchar2 string text time timetz tinytext"
        " uniqueidentifier uuid varchar varchar2 xml"
    ),
    T.TimestampNTZType(): "timestamp_ntz",
    T.TimestampType(): (
        "datetime datetime2 datetimeoffset smalldatetime timestamp timestamp_ltz"
        " timestamp_tz timestamptz"
    ),
    T.VariantType(): "json jsonb super variant",
}
_IN_TWO_WORDS = ("double precision", "character varying")
_DECIMALS = ("bignumeric", "dec", "decimal", "number", "numeric")
_MONEY = {"money": T.DecimalType(19, 4), "smallmoney": T.DecimalType(10, 4)}
# Without digits a database keeps as many as there are; Spark needs a number of them
_ANY_DECIMAL = T.DecimalType(38, 18)
_MOST_DIGITS = 38
_UNSIGNED: dict[T.DataType, T.DataType] = {
    T.ByteType(): T.ShortType(),
    T.ShortType(): T.IntegerType(),
    T.IntegerType(): T.LongType(),
    T.LongType(): T.DecimalType(20, 0),
}
_BITS: dict[T.DataType | None, int] = {
    T.ByteType(): 8,
    T.ShortType(): 16,
    T.IntegerType(): 32,
    T.LongType(): 64,
}


def _by_name() -> dict[str, T.DataType]:
    """Return the types by their names."""
    found: dict[str, T.DataType] = {}
    for kind, text in _NAMES.items():
        names = text
        for name in _IN_TWO_WORDS:
            if f" {name} " in f" {names} ":
                found[name] = kind
                names = names.replace(name, "")
        found |= dict.fromkeys(names.split(), kind)
    return found


_KINDS = _by_name()


def physical_type(name: str | None) -> T.DataType | None:
    """Return the type of Spark for a type of a database; None if it is not known.

    Examples:
        >>> names = ["NUMBER(12, 2)", "varchar(18)", "int unsigned", "timestamp(6) with time zone"]
        >>> for name in names:
        ...     print(physical_type(name).simpleString())
        decimal(12,2)
        string
        bigint
        timestamp
        >>> physical_type("array<struct<a: int, b: map<string, date>>>").simpleString()
        'array<struct<a:int,b:map<string,date>>>'
        >>> physical_type("geography")
    """
    given = " ".join(str(name or "").split())
    nested = re.fullmatch(r"(?i)(array|map|struct) ?<(.*)>", given)
    if nested:
        return _nested(nested[1].lower(), _top_level(nested[2]))
    if given.endswith("[]"):
        element = physical_type(given.removesuffix("[]"))
        return None if element is None else T.ArrayType(element)
    text = given.lower()
    word = word_of(text)
    if word in _DECIMALS:
        return _decimal(text)
    if word in _MONEY:
        return _MONEY[word]
    if word.endswith(" unsigned"):
        signed = _KINDS.get(word.removesuffix(" unsigned"))
        return None if signed is None else _UNSIGNED.get(signed, signed)
    return _KINDS.get(word)


def word_of(name: str | None) -> str:
    """Return the name of a type without its digits and zone.

    Examples:
        >>> word_of("Timestamp(6) WITHOUT TIME ZONE"), word_of("varchar[15]")
        ('timestamp', 'varchar')
    """
    text = re.sub(r"\([^)]*\)|\[\d+\]", " ", str(name or "").lower())
    word = " ".join(text.split())
    return re.sub(r"^(time(?:stamp)?) (with|without)( local)? time ?zone$", r"\1", word)


def size_of(name: str | None) -> tuple[int, str] | None:
    """Return how many characters or bytes a type of a database holds, if it says so.

    Examples:
        >>> size_of("VARCHAR(18)"), size_of("varchar2(18 byte)"), size_of("text")
        ((18, 'char'), (18, 'byte'), None)
    """
    pattern = r".+?[(\[] ?(\d+)(?: (char|byte))? ?[)\]]"
    found = re.fullmatch(pattern, str(name or "").lower())
    word = word_of(name)
    is_text = _KINDS.get(word) == T.StringType() and not word.startswith("time")
    if found and is_text:
        return int(found[1]), found[2] or "char"
    return None


def bits_of_unsigned(name: str | None) -> int | None:
    """Return the bits of an unsigned whole number of a database; None for other types.

    Examples:
        >>> bits_of_unsigned("INT UNSIGNED"), bits_of_unsigned("int(10) unsigned")
        (32, 32)
        >>> bits_of_unsigned("mediumint unsigned"), bits_of_unsigned("int")
        (24, None)
    """
    word = word_of(name)
    signed = word.removesuffix(" unsigned")
    if signed == word:
        return None
    return 24 if signed == "mediumint" else _BITS.get(_KINDS.get(signed))


def _decimal(text: str) -> T.DataType:
    """Return the type of a decimal, such as that of "number(12, 2)".

    Examples:
        >>> [_decimal(text).simpleString() for text in ("number", "number(9)", "dec(40,2)")]
        ['decimal(38,18)', 'decimal(9,0)', 'decimal(38,18)']
    """
    digits = [int(each) for each in re.findall(r"\d+", text)]
    precision = digits[0] if digits else 0
    scale = digits[1] if len(digits) > 1 else 0
    if 0 < precision <= _MOST_DIGITS and scale <= precision:
        return T.DecimalType(precision, scale)
    return _ANY_DECIMAL


def _nested(word: str, parts: list[str]) -> T.DataType | None:
    """Return the type of an array, a map or a struct; None if a part is not known."""
    if word == "struct":
        schema = T.StructType()
        for part in parts:
            name, _, inner = part.partition(":")
            kind = physical_type(inner)
            if kind is None:
                return None
            schema.add(name.strip(" `"), kind)
        return schema
    kinds = [kind for kind in map(physical_type, parts) if kind is not None]
    if word == "array" and len(kinds) == len(parts) == 1:
        return T.ArrayType(kinds[0])
    if word == "map" and len(kinds) == len(parts) == 2:  # noqa: PLR2004 - a key and a value
        return T.MapType(kinds[0], kinds[1])
    return None


def _top_level(text: str) -> list[str]:
    """Split a text at the commas that are not inside brackets.

    Examples:
        >>> _top_level("a: decimal(5,2), b: map<string, int>")
        ['a: decimal(5,2)', 'b: map<string, int>']
    """
    parts = [""]
    depth = 0
    for char in text:
        if char in "(<":
            depth += 1
        elif char in ")>":
            depth -= 1
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]
