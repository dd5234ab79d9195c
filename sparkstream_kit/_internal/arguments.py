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
    home = sys.modules[package]
    systems = "sparkstream_kit.connectors"  # opened for `sinks` and `sources`

    def known() -> list[str]:
        names = list(_homes(package, part))
        if part:
            names += importlib.import_module(systems).names(part)
        return names

    def __getattr__(name: str) -> Any:  # noqa: N807 - what Python calls
        if name == "__all__":
            return sorted(known(), key=_by_kind)
        if part and importlib.util.find_spec(f"{package}.{name}"):
            raise missing(package, name)  # a module, which Python imports next
        homes = _homes(package, part)
        if name in homes:
            attribute = getattr(importlib.import_module(homes[name]), name)
        elif part and name in known():
            attribute = importlib.import_module(systems).call(part, name)
        else:
            raise missing(package, name, known())
        # So that Python does not call __getattr__ for it again
        setattr(home, name, attribute)
        return attribute

    def __dir__() -> list[str]:  # noqa: N807 - what Python calls
        return sorted({*vars(home), *known()})

    vars(home)["__dir__"] = __dir__
    return __getattr__


@cache
def _homes(package: str, part: str) -> dict[str, str]:
    """Return the names that a package's source imports as themselves, with their modules.

    Args:
        package: the full name of the package.
        part: "source" or "sink": what is imported from one system is left out.
    """
    # In a file or a zip, also under pytest.
    source = pkgutil.get_data(package, "__init__.py") or b""
    homes: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = str(node.module)
        if part and re.match(r"sparkstream_kit\.connectors\.[^_]", module):
            continue
        for imported in node.names:
            if imported.name == imported.asname:
                homes[imported.name] = module
    return homes


def _by_kind(name: str) -> tuple[bool, bool, str]:
    """Sort names by what they are: constants, then classes, then functions."""
    return not name.isupper(), not name[0].isupper(), name


def missing(package: str, name: str, *known: Iterable[str]) -> AttributeError:
    """Return the error for a name that a package lacks, with the name that may be meant.

    Args:
        package: the full name of the package.
        name: the unknown name.
        *known: names that the package has, in groups; the likelier groups come first.
    """
    near = ""
    if not name.startswith("_"):
        for names in known:
            near = hint(name, names)
            if near:
                break
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

    def fits(value: Any) -> bool:
        if isinstance(value, bool):
            return bool in types
        return isinstance(value, types)

    return fits


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


def _is_function(value: Any) -> bool:
    return callable(value) and not is_a("Sink", value)


# Classes of Spark and of the kit, which are compared by their names, and what to give,
# for the message.
_CLASSES = {
    "Column": "a Column",
    "DStream": "a DStream",
    "DataFrame": "a DataFrame",
    "DataStreamWriter": "a DataStreamWriter",
    "DataType": "a DataType",
    "Format": "a format, such as formats.avro(registry)",
    "Part": "a Part",
    "Query": "a Query",
    "Registry": "a registry, such as schemas.registry('http://localhost:8081')",
    "Sink": "a sink, such as sinks.console()",
    "Source": "a stream of the test: stream('name STRING')",
    "SparkSession": "a session, such as get_session('name')",
    "StreamingContext": "a StreamingContext",
    "StreamingQuery": "a query that start(…) returned",
    "StructType": "a StructType, such as schemas.from_ddl('name STRING, amount INT')",
}
# For each type name in a signature: what to give, for the message, and a test of the
# value.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Callable": ("a function", _is_function),
    "Mapping": ("a dict", _is(Mapping)),
    "None": ("None", _is(type(None))),
    "Path": ("a path", _is(os.PathLike)),
    "PathLike": ("a path", _is(os.PathLike)),
    "Sequence[str]": ("a list of strings", _is_strings),
    "bool": ("True or False", _is(bool)),
    "float": ("a number", _is(Real)),
    "int": ("a whole number", _is(Integral)),
    "str": ("a string", _is(str)),
    **{name: (words, partial(is_a, name)) for name, words in _CLASSES.items()},
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


def check(call: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse an argument whose type does not match the signature; use `check(start, locals())`.

    Args:
        call: the public function or method, which calls this on its first line.
        arguments: the arguments, by name.

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
        if not kinds or name not in arguments:
            continue
        for value in _values(parameter, arguments[name]):
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
    parameters = _parameters(call)
    ours = [name for name, each, _ in parameters if each.kind is not each.VAR_KEYWORD]
    sparks: list[str] = []
    if spark:
        names = inspect.signature(spark).parameters
        sparks = [_MISNAMED.get(name, name) for name in names]
    keywords = [name for name in [*sparks, *ours] if name not in never]
    # As they are compared: without underscores and upper-case letters
    known = {name.lower().replace("_", ""): name for name in keywords}
    for name in given:
        plain = name.lower().replace("_", "")
        camel = re.sub("_(.)", lambda found: found[1].upper(), name)
        near = next((word for word in known if _a_letter_off(plain, word)), None)
        # No option of Spark's has an underscore: they are written as maxFileAge.
        is_misspelt = near or "_" in name or camel in never
        if "." in name or not is_misspelt:
            continue
        meant = known.get(near or plain)
        if meant is None and camel not in never:
            meant = camel
        fix = f"did you mean {meant}?" if meant else f"known: {', '.join(sorted(ours))}"
        raise InvalidInputError(f"unknown keyword of {_name(call)}() {name}; {fix}")


def _a_letter_off(one: str, other: str) -> bool:
    """Say whether a letter is missing, added or changed, or two neighbours swapped.

    Examples:
        >>> [_a_letter_off(word, "rows") for word in ("rws", "rowss", "raws", "rwos", "rows")]
        [True, True, True, True, False]
    """
    if one == other:
        return False
    same = len(os.path.commonprefix([one, other]))  # noqa: RUF071 - letters, not paths
    a = one[same:]
    b = other[same:]
    is_missing = a == b[1:]
    is_added = a[1:] == b
    is_changed = a[1:] == b[1:]
    is_swapped = a == b[1:2] + b[:1] + b[2:]
    return is_missing or is_added or is_changed or is_swapped


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
        if not text:
            return "an empty string"
        if len(text) > _SHOWN:
            text = text[:_SHOWN] + "…"
        return f"the string {text!r}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {_name(value)}"
    name = _type(value)
    article = "an" if name[0] in "AEIOUaeiou" else "a"
    return f"{article} {name}"


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
    """Return a parameter's type names; an empty list (no check) if one is unknown.

    Examples:
        >>> def write(path: str | os.PathLike[str] | None, rows: int | Row): ...
        >>> [_kinds(each) for each in inspect.signature(write).parameters.values()]
        [['str', 'PathLike', 'None'], []]
    """
    kinds: list[str] = []
    # Split at each | that is not inside of brackets
    for part in re.split(r" \| (?![^[]*\])", str(parameter.annotation)):
        # "Sequence[str]" is known as such; "os.PathLike[str]" is PathLike
        kind = part
        if kind not in _KINDS:
            kind = part.partition("[")[0].rpartition(".")[2]
        if kind not in _KINDS:
            return []
        kinds.append(kind)
    return kinds


def _values(parameter: inspect.Parameter, argument: Any) -> Iterable[Any]:
    """Return the values given for a parameter; `*names` and `**names` have any number of values."""
    if parameter.kind is parameter.VAR_KEYWORD:
        return list(argument.values())
    if parameter.kind is parameter.VAR_POSITIONAL:
        return list(argument)
    return [argument]


def _fits(value: object, kinds: list[str]) -> bool:
    takes_path = not _PATHS.isdisjoint(kinds)
    # An empty text is no path, and Python does not expand ~ or ~name
    if takes_path and re.match(r"$|~\w*(/|$)", str(value)):
        return False
    return any(_KINDS[kind][1](value) for kind in kinds)


def _fix(parameter: inspect.Parameter, value: object, kinds: list[str]) -> str:
    if parameter.kind is parameter.VAR_POSITIONAL and isinstance(value, list | tuple):
        return f"give them one by one, or with a star: *{parameter.name}"
    if inspect.isroutine(value):
        return f"call it: {_name(value)}(…)"
    if str(value).startswith("~"):
        return f"Python does not expand ~: give os.path.expanduser({str(value)!r})"
    for kind in kinds:
        if (kind, _type(value)) in _FIXES:
            return _FIXES[kind, _type(value)]
    left_unsaid = {"None"}
    if not _PATHS.isdisjoint(kinds):
        left_unsaid.add("str")
    words = {_KINDS[kind][0] for kind in kinds if kind not in left_unsaid}
    # Examples last
    return "give " + " or ".join(sorted(words, key=lambda word: (len(word), word)))


def _name(call: Callable[..., Any]) -> str:
    """Return a function's name as its caller writes it, such as `feeds.text_lines`."""
    home, _, module = (getattr(call, "__module__", None) or "").partition(".")
    name = call.__qualname__.removesuffix(".__call__").rpartition("<locals>.")[2]
    if home != "sparkstream_kit":
        return name
    room = module.partition(".")[0] + "."
    if room in _EVERYDAY:
        return name
    return room + name


def _type(value: object) -> str:
    """Name a value's type, with its library unless that is Python, Spark or the kit."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library in ("builtins", "datetime", "pathlib", "pyspark", "sparkstream_kit"):
        return kind.__name__
    return f"{library}.{kind.__name__}"
