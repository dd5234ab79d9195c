"""Thin: check what callers give by the types in signatures, and the names of a package.

`check` compares the arguments of a call with the types in its signature, so no second
list of types has to be kept up to date. Classes of Spark are recognized by their names:
Spark Connect has other classes of the same names, and some callers must not import
pyspark. `attributes` makes the lazy imports of a package, `missing` its error for an
unknown name, and `said` describes a value in a message.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from numbers import Integral, Real
from typing import Any

from sparkstream_kit.errors import (
    InvalidInputError,
    hint,
    reject_unknown,
    without_secrets,
)


def attributes(package: str, part: str = "") -> Callable[[str], Any]:
    """Return a `__getattr__` that imports names on first use, and gives them as `__all__`.

    The names are those that the package's source imports as themselves (`import start
    as start`), below `if TYPE_CHECKING`: type checkers and editors read the same lines.
    `dir()` lists them, for completion.

    Args:
        package: the full name of the package.
        part: "source" or "sink": the package also has this function of each system in
            `connectors`.
    """
    systems = "sparkstream_kit.connectors"  # opened for `sinks` and `sources`

    @cache
    def homes() -> dict[str, str]:
        # In a file or a zip, also under pytest.
        tree = ast.walk(ast.parse(pkgutil.get_data(package, "__init__.py") or b""))
        imports = [
            (str(node.module), node.names)
            for node in tree
            if isinstance(node, ast.ImportFrom)
        ]
        ours = [
            each
            for each in imports
            if not (part and re.match(rf"{systems}\.[^_]", each[0]))
        ]
        return {
            to.name: module
            for module, names in ours
            for to in names
            if to.name == to.asname
        }

    def known() -> list[str]:
        return [
            *homes(),
            *(importlib.import_module(systems).names(part) if part else ()),
        ]

    def __getattr__(name: str) -> Any:  # noqa: N807 - what Python calls
        if name == "__all__":  # constants, classes, functions
            return sorted(
                known(),
                key=lambda each: (not each.isupper(), not each[0].isupper(), each),
            )
        if part and importlib.util.find_spec(f"{package}.{name}"):
            raise missing(package, name)  # a module, which Python imports next
        if name in homes():
            found = getattr(importlib.import_module(homes()[name]), name)
            if not homes()[name].startswith(package):
                found.__module__ = package  # where users find it: messages name it so
        elif part and name in known():
            found = importlib.import_module(systems).call(part, name)
        else:
            raise missing(package, name, known())
        # So that Python does not call __getattr__ for it again
        setattr(sys.modules[package], name, found)
        return found

    vars(sys.modules[package])["__dir__"] = lambda: sorted(
        {*vars(sys.modules[package]), *known()}
    )
    return __getattr__


def missing(package: str, name: str, *known: Iterable[str]) -> AttributeError:
    """Return the error for a name that a package lacks, with the name that may be meant.

    Args:
        package: the full name of the package.
        name: the unknown name.
        *known: names that the package has, in groups; the likelier groups come first.
    """
    near = (
        ""
        if name.startswith("_")
        else next(filter(None, (hint(name, names) for names in known)), "")
    )
    return AttributeError(f"module {package!r} has no attribute {name!r}{near}")


# By PySpark, to which Spark is deaf
_MISNAMED = {"allowNumericLeadingZero": "allowNumericLeadingZeros"}
_SHOWN = 60  # characters of a string that a message shows
_MODES = ("append", "complete", "update")
_PATHS = {"Path", "PathLike"}
# Modules whose functions are used from the package itself
_EVERYDAY = ("queries.", "runs.", "session.")


def _is(*types: type) -> Callable[[Any], bool]:
    """Return a test for the types of a value; True and False do not count as numbers."""
    return lambda value: (
        isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    )


def is_a(name: str, value: object) -> bool:
    """Say whether a value is an instance of Spark's or the kit's class of this name."""
    homes = ("pyspark.sql.", "pyspark.streaming.", "sparkstream_kit.")
    return any(
        each.__name__ == name and each.__module__.startswith(homes)
        for each in type(value).__mro__
    )


def _is_strings(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(map(_is(str), value))
    )


# Classes of Spark and of the kit, which are compared by their names, and what to give,
# for the message.
_CLASSES = {
    **dict.fromkeys(
        ("Column", "DStream", "DataFrame", "DataStreamWriter", "DataType"), "a {}"
    ),
    **dict.fromkeys(("Part", "Query", "StreamingContext"), "a {}"),
    "Sink": "a sink, such as sinks.console()",
    "SparkSession": "a session, such as get_session('name')",
    "StreamingQuery": "a query that start(…) returned",
    "StructType": "a StructType, such as schemas.from_ddl('name STRING, amount INT')",
}
# For each type name in a signature: what to give, for the message, and a test of the
# value.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Callable": (
        "a function",
        lambda value: callable(value) and not is_a("Sink", value),
    ),
    "Mapping": ("a dict", _is(Mapping)),
    "None": ("None", _is(type(None))),
    **dict.fromkeys(_PATHS, ("a path", _is(os.PathLike))),
    "Sequence[str]": ("a list of strings", _is_strings),
    "bool": ("True or False", _is(bool)),
    "float": ("a number", _is(Real)),
    "int": ("a whole number", _is(Integral)),
    "str": ("a string", _is(str)),
    **{
        name: (words.format(name), partial(is_a, name))
        for name, words in _CLASSES.items()
    },
}

# Known fixes, by the wanted type and the type that was given.
_FIXES = {
    ("DataFrame", "DataStreamReader"): "end it with .load(…)",
    ("DataFrame", "GroupedData"): "end it with an aggregation, such as .count()",
    (
        "DataFrame",
        "pandas.DataFrame",
    ): "make it a DataFrame of Spark's: spark.createDataFrame(…)",
    ("StructType", "type"): "a dataclass is read by schemas.from_dataclass",
    ("str", "Column"): "give the column's name",
}


def check(call: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse an argument whose type does not match the signature; use `check(start, locals())`.

    Args:
        call: the public function or method, which calls this on its first line.
        given: the arguments, by name.

    Raises:
        InvalidInputError: an argument does not match. The message is one line: which
            argument is wrong, what was given, and the fix.

    Examples:
        >>> from sparkstream_kit.feeds import text_lines
        >>> check(text_lines, {"path": 5})
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: feeds.text_lines(): path is 5; give a path
    """
    for name, parameter, kinds in _parameters(call):
        for value in _values(parameter, given[name]) if kinds and name in given else ():
            if not _fits(value, kinds):
                fix = _fix(parameter, value, kinds)
                raise InvalidInputError(
                    f"{_name(call)}(): {name} is {said(value)}; {fix}"
                )
            if name == "mode" and value is not None:
                reject_unknown("output mode", [value], _MODES)


def check_options(
    call: Callable[..., Any], given: Iterable[str], spark: Any = None, *never: str
) -> None:
    """Refuse an option that is a misspelt keyword of the call or of Spark's function.

    A name is misspelt if it is a letter off a keyword.

    Any other name is passed to Spark unchecked, because it can be an option of a
    format, of Hadoop or of Kafka's client.

    Args:
        call: the public function that takes the options.
        given: the names of the options that the user gave.
        spark: Spark's own function of the same kind, whose parameters are options.
        *never: parameters of Spark's functions that are not options: Spark would ignore
            them.

    Raises:
        InvalidInputError: a name is misspelt, has underscores in place of upper-case
            letters, or is one of `never`. The message has the right name, or else the
            keywords of the call.

    Examples:
        >>> from sparkstream_kit.sources import rate
        >>> check_options(rate, ["rowPerSecond"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: unknown keyword ... did you mean rows_per_second?
    """
    ours = [
        name for name, each, _ in _parameters(call) if each.kind is not each.VAR_KEYWORD
    ]
    sparks = [
        _MISNAMED.get(name, name)
        for name in (inspect.signature(spark).parameters if spark else ())
    ]
    known = {
        name.lower().replace("_", ""): name
        for name in [*sparks, *ours]
        if name not in never
    }
    for name in given:
        plain = name.lower().replace("_", "")
        camel = re.sub("_(.)", lambda found: found[1].upper(), name)
        near = next((each for each in known if _a_letter_off(plain, each)), None)
        # No option of Spark's has an underscore: they are written as maxFileAge.
        if "." not in name and (near or "_" in name or camel in never):
            meant = known.get(near or plain, None if camel in never else camel)
            fix = (
                f"did you mean {meant}?"
                if meant
                else f"known: {', '.join(sorted(ours))}"
            )
            raise InvalidInputError(f"unknown keyword of {_name(call)}() {name}; {fix}")


def _a_letter_off(one: str, other: str) -> bool:
    """Say whether a letter is missing, added or changed, or two neighbours swapped."""
    same = len(os.path.commonprefix([one, other]))  # noqa: RUF071 - letters, not paths
    a = one[same:]
    b = other[same:]
    return one != other and (a[1:] in (b, b[1:]) or a == b[1:] or a == b[1::-1] + b[2:])


def said(value: object) -> str:
    """Describe a value for its caller, without contents of objects that may be secret.

    Examples:
        >>> said(9), said(int), said(len), said(["a"]), said("postgresql://me:secret@host/name")
        ('9', 'the class int', 'the function len', 'a list', "the string 'postgresql://me:***@host/name'")
    """
    if value is None or isinstance(value, bool | Real):
        return str(value)
    if isinstance(value, str):
        # Before it is shortened: half a password is still a secret
        text = without_secrets(value)
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        return f"the string {shown!r}" if text else "an empty string"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {_name(value)}"
    name = _type(value)
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


@cache
def _parameters(
    call: Callable[..., Any],
) -> list[tuple[str, inspect.Parameter, list[str]]]:
    """Return the parameters of a call, with the type names that each accepts."""
    return [
        (name, each, _kinds(each))
        for name, each in inspect.signature(call).parameters.items()
    ]


def _kinds(parameter: inspect.Parameter) -> list[str]:
    """Return a parameter's type names; an empty list (no check) if one is unknown."""
    parts = re.split(r" \| (?![^[]*\])", str(parameter.annotation))
    kinds = [
        part if part in _KINDS else part.partition("[")[0].rpartition(".")[2]
        for part in parts
    ]
    return kinds if all(kind in _KINDS for kind in kinds) else []


def _values(parameter: inspect.Parameter, given: Any) -> Iterable[Any]:
    """Return the values given for a parameter; `*names` and `**names` have any number of values."""
    if parameter.kind is parameter.VAR_KEYWORD:
        return list(given.values())
    return list(given) if parameter.kind is parameter.VAR_POSITIONAL else [given]


def _fits(value: object, kinds: list[str]) -> bool:
    if not _PATHS.isdisjoint(kinds) and re.match(r"$|~\w*(/|$)", str(value)):
        return False
    return any(_KINDS[kind][1](value) for kind in kinds)


def _fix(parameter: inspect.Parameter, value: object, kinds: list[str]) -> str:
    if parameter.kind is parameter.VAR_POSITIONAL and isinstance(value, list | tuple):
        return f"give them one by one, or with a star: *{parameter.name}"
    if inspect.isroutine(value):
        return f"call it: {_name(value)}(…)"
    if str(value).startswith("~"):
        return f"Python does not expand ~: give os.path.expanduser({str(value)!r})"
    if known := [
        _FIXES[kind, _type(value)] for kind in kinds if (kind, _type(value)) in _FIXES
    ]:
        return known[0]
    left_unsaid = {"None"} if _PATHS.isdisjoint(kinds) else {"None", "str"}
    words = {_KINDS[kind][0] for kind in kinds if kind not in left_unsaid}
    # Examples last
    return "give " + " or ".join(sorted(words, key=lambda word: (len(word), word)))


def _name(call: Callable[..., Any]) -> str:
    """Return a function's name as its caller writes it, such as `feeds.text_lines`."""
    home, _, module = (getattr(call, "__module__", None) or "").partition(".")
    room = module.partition(".")[0] + "." if home == "sparkstream_kit" else ""
    name = call.__qualname__.removesuffix(".__call__").rpartition("<locals>.")[2]
    return ("" if room in _EVERYDAY else room) + name


def _type(value: object) -> str:
    """Name a value's type, with its library unless that is Python, Spark or the kit."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    ours = library in ("builtins", "datetime", "pathlib", "pyspark", "sparkstream_kit")
    return kind.__name__ if ours else f"{library}.{kind.__name__}"
