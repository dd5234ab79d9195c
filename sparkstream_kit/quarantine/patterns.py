"""Extra: regular expressions of data contracts, as Java reads them.

The standard has those of ECMA-262. `of_java` writes one for Spark, and `why_broken`
finds the mistakes at which a query would fail.
"""

from __future__ import annotations

import re
import warnings

# The beginnings of what Python says of a pattern that is none in Java either
_BROKEN = (
    "bad character range",
    "bad escape (end of pattern)",
    "min repeat greater than max repeat",
    "missing )",
    "multiple repeat",
    "nothing to repeat",
    "unbalanced",
    "unterminated character set",
)
# Of a pattern: an escape, how many times something comes, or a character
_PARTS = re.compile(r"\\[pPux]\{[^}]*\}|\\.|\{\d+(?:,\d*)?\}|.", re.DOTALL)
_ESCAPED = "\ue000"  # a character that no pattern has


def why_broken(pattern: str) -> str | None:
    r"""Return why a pattern is none in any language; None if it may be one.

    Examples:
        >>> why_broken("(a|[b"), why_broken(r"^\p{L}(?<year>[0-9]++)")
        ('unterminated character set', None)
    """
    # Python does not know all escapes of Java. An error about the sign in place of one
    # says nothing of the pattern.
    plain = re.sub(r"\\[pPux]\{[^}]*\}|\\.", _ESCAPED, pattern)
    if "(?P" in re.sub(r"\[[^\]]*\]", "", plain):
        return "(?P is a form of Python's"
    plain = plain.replace("(?<", "(?P<")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(plain)
    except re.error as err:
        if err.msg.startswith(_BROKEN) and _ESCAPED not in err.msg:
            return err.msg
    return None


def of_java(pattern: str) -> str:
    r"""Write a regular expression of ECMA-262, as contracts have it, as Java reads it.

    In Java `$` also matches before a last line feed, a class may hold others, and a `{`
    always begins a number of times.

    Examples:
        >>> print(of_java(r"^[A-Z[&]{2}\$\d+$"))
        ^[A-Z\[\&]{2}\$\d+\z
        >>> print(of_java(r"^\p{L}{2}{[^{]*}$"))
        ^\p{L}{2}\{[^{]*}\z
    """
    parts = []
    in_class = False
    for part in _PARTS.findall(pattern):
        if in_class and part in ("[", "&"):
            parts.append("\\" + part)
        elif part == "$" and not in_class:
            parts.append(r"\z")
        elif part == "{" and not in_class:
            parts.append(r"\{")
        else:
            parts.append(part)
        if part == "[":
            in_class = True
        elif part == "]":
            in_class = False
    return "".join(parts)
