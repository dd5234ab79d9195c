"""`check`: one look at the arguments of a public call, by the types that its own signature names.

A signature is the only list of what a call takes, so that nothing has to be kept in step with it. Classes of
Spark are told by their names: on Spark Connect they are others, and some callers must not import pyspark.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from types import ModuleType
from typing import Any

from sparkstream_kit.errors import InvalidInputError, hint, reject_unknown, without_secrets

_SHOWN = 60  # characters of a string
_CHOICES = {"mode": ("output mode", ("append", "complete", "update"))}

# What to give, by the type in the signature.
_KINDS = {
    "Callable": "a function",
    "Column": "a Column",
    "DStream": "a DStream",
    "DataFrame": "a DataFrame",
    "DataStreamWriter": "a DataFrame's writeStream",
    "DataType": "a DataType",
    "Mapping": "a dict",
    "None": "None",
    "Path": "a path",
    "PathLike": "a path",
    "Query": "what stream.query(…) returns",
    "Sequence[str]": "a list of strings",
    "Sink": "a sink, such as sinks.console()",
    "SparkSession": "a session, such as get_session('name')",
    "StreamingContext": "a StreamingContext",
    "StreamingQuery": "a query that start(…) returned",
    "StructType": "a StructType, such as schemas.from_ddl('name STRING, amount INT')",
    "bool": "True or False",
    "float": "a number",
    "int": "a whole number",
    "str": "a string",
}
_PATHS = {"Path", "PathLike"}
_EVERYDAY = ("queries.", "session.")  # what these hold is in the package itself

# All other kinds are classes of Spark's and of the kit's.
_PYTHON: dict[str, Callable[[Any], bool]] = {
    "Callable": lambda value: callable(value) and not is_a("Sink", value),
    "Mapping": lambda value: isinstance(value, Mapping),
    "None": lambda value: value is None,
    "Path": lambda value: isinstance(value, os.PathLike),
    "PathLike": lambda value: isinstance(value, os.PathLike),
    "Sequence[str]": lambda value: (
        isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value)
    ),
    "bool": lambda value: isinstance(value, bool),
    "float": lambda value: isinstance(value, Real) and not isinstance(value, bool),
    "int": lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
}

# The fix where it is known, by what is wanted and by the type that was given.
_FIXES = {
    ("DataFrame", "DataStreamReader"): "end it with .load(…)",
    ("DataFrame", "DataStreamWriter"): "give the DataFrame itself, without .writeStream",
    ("DataFrame", "GroupedData"): "end it with an aggregation, such as .count()",
    ("DataFrame", "NoneType"): "give a DataFrame (a function without a return gives None)",
    ("DataFrame", "pyspark.pandas.DataFrame"): "end it with .to_spark()",
    ("DataFrame", "pandas.DataFrame"): "make it a DataFrame of Spark's: spark.createDataFrame(…)",
    ("DataStreamWriter", "DataFrame"): "give its .writeStream",
    ("Mapping", "SparkConf"): "give a dict: dict(conf.getAll())",
    ("Sequence[str]", "str"): "put it in a list: ['name']",
    ("SparkSession", "Builder"): "end it with .getOrCreate()",
    ("SparkSession", "SparkContext"): "give the SparkSession that it is of",
    ("StreamingQuery", "DataFrame"): "start it first: start(frame, sink, name='totals')",
    ("StreamingQuery", "DataStreamWriter"): "start it first: start(frame, sink, name='totals')",
    ("StructType", "DataFrame"): "give its .schema",
    ("StructType", "StructField"): "put it in a StructType: StructType([…])",
    ("StructType", "list"): "make it a StructType: StructType([…])",
    ("StructType", "str"): "read it first: schemas.from_ddl('name STRING, amount INT')",
    ("StructType", "type"): "a dataclass is read by schemas.from_dataclass",
    ("str", "Column"): "give the column's name",
}


def check(call: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse an argument that is not of a type that the signature names; `check(start, locals())`.

    Args:
        call: the public function or method, on whose first line this stands.
        given: its arguments by name.

    Raises:
        InvalidInputError: in one line, which argument is wrong, what was given, and the fix.

    Example:
        >>> from sparkstream_kit.feeds import text_lines
        >>> check(text_lines, {"path": 5})
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: feeds.text_lines(): path is 5; give a path
    """
    parameters = inspect.signature(call).parameters
    for name in [name for name in parameters if name in given]:
        kinds = _kinds(parameters[name])
        variadic = parameters[name].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        values = given[name] if variadic else [given[name]]
        for value in (values.values() if isinstance(values, dict) else values) if kinds else ():
            if not _fits(value, kinds):
                fix = _swap(call, name, given) or _fix(name, value, kinds, variadic=variadic)
                raise InvalidInputError(f"{_name(call)}(): {name} is {said(value)}; {fix}")
            if name in _CHOICES:
                reject_unknown(_CHOICES[name][0], [value], _CHOICES[name][1])


def said(value: object) -> str:
    """Say what a value is, in the words of its caller; what else is in it may be secret.

    Example:
        >>> said(9), said(int), said(len), said(["a"]), said("postgresql://me:secret@host/name")
        ('9', 'the class int', 'the function len', 'a list', "the string 'postgresql://me:***@host/name'")
    """
    if value is None or isinstance(value, bool | Real):
        return str(value)
    if isinstance(value, str):
        text = without_secrets(value)  # before it is cut: half a password is one, too
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        return f"the string {shown!r}" if text else "an empty string"
    for what, told in (("class", isinstance(value, type)), ("module", isinstance(value, ModuleType))):
        if told:
            return f"the {what} {value.__name__.removeprefix('sparkstream_kit.')}"  # type: ignore[attr-defined]
    if inspect.isroutine(value):
        return f"the function {_name(value)}"
    name = _type(value)
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _kinds(parameter: inspect.Parameter) -> list[str]:
    """Return the types that a parameter takes; none where one of them is not looked at."""
    text = parameter.annotation if isinstance(parameter.annotation, str) else ""
    parts = re.split(r" \| (?![^[]*\])", text)
    kinds = [part if part in _KINDS else part.partition("[")[0].rpartition(".")[2] for part in parts]
    return kinds if all(kind in _KINDS for kind in kinds) else []


def _fits(value: object, kinds: list[str]) -> bool:
    if isinstance(value, str) and not value and not _PATHS.isdisjoint(kinds):
        return False
    return any(_PYTHON[kind](value) if kind in _PYTHON else is_a(kind, value) for kind in kinds)


def is_a(name: str, value: object) -> bool:
    """Say whether a value is of a class of Spark's or of the kit's, or of one that inherits from it."""
    homes = ("pyspark.sql.", "pyspark.streaming.", "sparkstream_kit.")
    return any(each.__name__ == name and each.__module__.startswith(homes) for each in type(value).__mro__)


def _swap(call: Callable[..., Any], name: str, given: Mapping[str, Any]) -> str:
    """Return the fix where two arguments have changed places, or an empty string."""
    positional = {
        each: _kinds(parameter)
        for each, parameter in inspect.signature(call).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and each in given and _kinds(parameter)
    }
    for other, kinds in positional.items():
        wrong = name in positional and not _fits(given[other], kinds)
        if wrong and _fits(given[name], kinds) and _fits(given[other], positional[name]):
            return f"swap it with {other}: {_name(call)}({', '.join(positional)})"
    return ""


def _fix(name: str, value: object, kinds: list[str], *, variadic: bool) -> str:
    if variadic and isinstance(value, list | tuple):
        return f"give them one by one, or with a star: *{name}"
    if inspect.isroutine(value):
        return f"call it: {_name(value)}(…)"
    if isinstance(value, str) and "Sink" in kinds:
        sinks = sys.modules["sparkstream_kit.sinks"]  # loaded by whatever takes a sink
        if near := hint(value, sinks.__all__):
            return near.removeprefix("; ").replace("mean ", "mean sinks.").replace("?", "(…)?")
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value) and {"int", "float"} & set(kinds):
        return f"give a number: {'int' if 'int' in kinds else 'float'}({value!r})"
    known = [_FIXES[kind, _type(value)] for kind in kinds if (kind, _type(value)) in _FIXES]
    if known:
        return known[0]
    left_unsaid = {"None", "str"} if not _PATHS.isdisjoint(kinds) else {"None"}
    words = {_KINDS[kind] for kind in kinds if kind not in left_unsaid}
    return "give " + " or ".join(sorted(words, key=lambda word: (len(word), word)))  # an example last


def _name(call: Callable[..., Any]) -> str:
    """Return a function's name as its caller writes it."""
    home, _, module = (getattr(call, "__module__", None) or "").partition(".")
    room = module.partition(".")[0] + "." if home == "sparkstream_kit" else ""
    name = call.__qualname__.removesuffix(".__call__").rpartition("<locals>.")[2]
    return ("" if room in _EVERYDAY else room) + name


def _type(value: object) -> str:
    """Return the name of a value's type, with its library where that is neither Python's nor Spark's."""
    kind = type(value)
    library = re.match(r"pyspark\.pandas|\w*", kind.__module__)[0]  # type: ignore[index]
    ours = library in ("builtins", "datetime", "pathlib", "pyspark", "sparkstream_kit")
    return kind.__name__ if ours else f"{library}.{kind.__name__}"
