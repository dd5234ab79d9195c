"""Split lines of CSV into their fields, or say why a line must not reach Spark's parser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from sparkstream_kit.quarantine.rows import RAW

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


# Spark's CSV parser fails the query at a line with more fields than this (its option
# maxColumns), so such a line is marked bad before it gets there.
_MOST_FIELDS = 20_000

# from_csv misreads quotes next to a separator of several characters, so this one
# character stands for it.
_SEP = "\ufffe"

# Appended to each line as one more field; no readable line can contain it. If it is
# read in the field after the last column, the line has the right number of fields.
_AFTER_LAST = "\0"


def split_fields(
    frame: DataFrame, sep: str, count: int
) -> tuple[DataFrame, list[Column], Column]:
    """Split lines into fields, as many as there are columns.

    Args:
        frame: the lines, as RAW.
        sep: the separator.
        count: the number of columns.

    Returns:
        The frame with a column `_unreadable`: the reason why a line cannot be split
        (string), or null; the fields (strings); and whether a line has exactly this
        number of fields.
    """
    if _is_one_character(sep):
        mark = sep
        line = F.col(RAW)
        unreadable = _unreadable(line, mark, count)
    else:
        mark = _SEP
        line = F.replace(RAW, F.lit(sep), F.lit(_SEP))
        unreadable = F.coalesce(
            _unclear_separators(line, sep), _unreadable(line, mark, count)
        )
    # Separate select steps: in a single step Spark would evaluate each expression again
    # for every use.
    frame = frame.select("*", unreadable.alias("_unreadable"))
    frame = frame.select("*", _parsed_by_spark(line, mark, count).alias("_read"))
    fields = [F.col(f"_read.c{index}") for index in range(count)]
    if not _is_one_character(sep):
        fields = [F.replace(field, F.lit(_SEP), F.lit(sep)) for field in fields]
    after_last = F.col(f"_read.c{count}")
    return frame, fields, F.equal_null(after_last, F.lit(_AFTER_LAST))


def not_so_many(fields: int) -> str:
    """Say in a reason that a line does not have this number of fields.

    Examples:
        >>> not_so_many(1), not_so_many(3)
        ('not 1 field', 'not 3 fields')
    """
    return "not 1 field" if fields == 1 else f"not {fields} fields"


def _is_one_character(sep: str) -> bool:
    """Return whether Java, whose characters have 16 bits, takes a text for one character."""
    return len(sep.encode("utf-16-le")) == 2  # noqa: PLR2004 - bytes


def _unclear_separators(line: Column, sep: str) -> Column:
    """Return why separators of several characters are unclear in a line; null if clear.

    Args:
        line: the line, in which `_SEP` stands for each separator.
        sep: the separator.
    """
    no_character = F.when(F.col(RAW).contains(_SEP), "U+FFFE, which is no character")
    if not _can_overlap(sep):
        return no_character
    # If the first separators from the left are not those from the right, they are
    # unclear.
    from_the_end = F.reverse(F.replace(F.reverse(RAW), F.lit(sep[::-1]), F.lit(_SEP)))
    is_clear = ~F.is_valid_utf8(RAW) | (from_the_end == line)
    return F.coalesce(
        no_character, F.when(~is_clear, "a separator that could begin at two places")
    )


def _can_overlap(sep: str) -> bool:
    """Return whether two separators can share characters, as || in a|||b.

    Examples:
        >>> _can_overlap("||"), _can_overlap("::-::"), _can_overlap("<>")
        (True, True, False)
    """
    return any(sep.startswith(sep[start:]) for start in range(1, len(sep)))


def _unreadable(line: Column, sep: str, fields: int) -> Column:
    """Return the reason why a line must not reach Spark's parser (string), or null if it may.

    Args:
        line: the line.
        sep: the separator in it, one character.
        fields: the number of columns.
    """
    raw = F.col(RAW)
    is_blank = F.coalesce(F.trim(raw), F.lit("")) == ""
    separators = F.regexp_count(line, F.lit(re.escape(sep)))
    is_long = F.octet_length(raw) >= _MOST_FIELDS
    has_too_many = is_long & (separators >= _MOST_FIELDS)
    return F.coalesce(
        F.when(is_blank, not_so_many(fields)),
        F.when(~F.is_valid_utf8(raw), "not valid UTF-8"),
        # from_csv ends a line at U+FFFF, because a line feed can be part of a value:
        # the parser drops the rest, and mixes it into the next line.
        F.when(raw.contains("\uffff"), "U+FFFF, which is no character"),
        # The parser would leave it out of a value in quotes.
        F.when(raw.contains("\0"), "a NUL character"),
        F.when(raw.contains('"'), _misquoted(line, sep)),
        F.when(has_too_many, not_so_many(fields)),
    )


def _misquoted(line: Column, sep: str) -> Column:
    """Return the error in the quotes of a line (string), or null if they are correct."""
    usual, with_quotes_within = _correct_quotes(sep)
    return (
        F.when(line.rlike(usual), None)
        # An odd number of quotes: often half of a value that contains a line feed.
        .when(F.regexp_count(line, F.lit('"')) % 2 == 1, "unbalanced quote")
        # Spark's parser would include the quotes, or the rest of the line, in the
        # value.
        .when(~line.rlike(with_quotes_within), "misplaced quote")
    )


def _correct_quotes(sep: str) -> tuple[str, str]:
    r"""Return regular expressions (of Java) for lines whose quotes are correct.

    The first is for most of them: each quote encloses a value, or is doubled within
    one. In lines for the second, a value that does not begin with a quote may contain
    quotes, too.

    Examples:
        >>> usual, within = (form.replace(r"\z", r"\Z") for form in _correct_quotes(","))
        >>> def verdict(line):  # as `_misquoted` has it
        ...     if re.search(usual, line):
        ...         return "usual"
        ...     if line.count('"') % 2 == 1:
        ...         return "unbalanced"
        ...     return "within" if re.search(within, line) else "misplaced"
        >>> lines = ['a,b', '"a,b",c', '"a""b",c', 'a,""', 'a "b",c']
        >>> lines += ['"a,b', 'a,b"', '"a","b', '"a" b,c', '""a"",b']
        >>> for line in lines:
        ...     print(f"{line:10} {verdict(line)}")
        a,b        usual
        "a,b",c    usual
        "a""b",c   usual
        a,""       usual
        a "b",c    within
        "a,b       unbalanced
        a,b"       unbalanced
        "a","b     unbalanced
        "a" b,c    misplaced
        ""a"",b    misplaced
    """
    mark = re.escape(sep)
    text = '[^"]*+'  # possessive, so that no line takes long
    begin = rf'(?<![^{mark}])"'
    end = rf'"(?![^{mark}])'
    value = rf'{begin}{text}(?:""{text})*+{end}'
    quote_within = rf'(?<=[^{mark}])"'
    usual = rf"^{text}(?:{value}{text})*+\z"
    with_quotes_within = rf"^{text}(?:(?:{value}|{quote_within}){text})*+\z"
    return usual, with_quotes_within


def _parsed_by_spark(line: Column, sep: str, count: int) -> Column:
    """Return a readable line's fields as a struct c0, c1, …, with one after the last."""
    # Read every column as a string: Spark then parses all of them, and changes no
    # value.
    names = ", ".join(f"c{index} STRING" for index in range(count + 1))
    marked = F.concat(line, F.lit(sep + _AFTER_LAST))
    readable = F.when(F.col("_unreadable").isNull(), marked)
    return F.from_csv(readable, names, {"sep": sep, "quote": '"', "escape": '"'})
