"""Extra: sources and sinks of other systems: each system has one module or folder.

`sources.NAME` and `sinks.NAME` are the function NAME of the module `NAME` here; of a
folder `NAME`, they are the function NAME of its `source` or `sink`. The module, or the
folder's `__init__`, also has a `System` as `SYSTEM`: what the kit, its tests and its
pages must know of the system. A module whose name begins with an underscore is no
system.

A module is imported when its function is first used, so that a program needs only the
packages of the systems that it uses. `call` finds a function, and `systems` all
systems. Several sinks share `mode_for`, which turns the argument `how` into an output
mode, and `check_row_keys` and `other_driver`, which refuse a batch that cannot be
written safely. `modules_by_value` sends modules to Spark's workers.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit.errors import InvalidInputError, MissingExtraError, reject_unknown

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from types import ModuleType

    from pyspark.sql.streaming.listener import StreamingQueryProgress

    from sparkstream_kit.checkpoints.guard import StartingQuery


__all__: list[str] = []

_MODES = {"append": "append", "upsert": "update", "replace": "complete"}


class Connector(NamedTuple):
    """How to add to Spark what reads and writes a system.

    Attributes:
        package: the Maven coordinates; names in braces are filled in from
            `conf/versions.toml` and Spark's version.
        jars: the prefixes of the names of its jar files.
        settings: the session settings that it needs.
    """

    package: str
    jars: tuple[str, ...]
    settings: Mapping[str, str] = {}


# A format
AVRO = Connector("org.apache.spark:spark-avro_2.13:{spark}", jars=("spark-avro_2.13-",))


@dataclass(frozen=True, kw_only=True)
class System:
    """What is known of another system beside its code; the module of each has one, as `SYSTEM`.

    Attributes:
        source: the promise of its source; empty without one.
        sink: the delivery promise of its sink; empty without one.
        ways: the values of the sink's argument `how`; empty without that argument.
        extra: the extra of the kit that installs its libraries; empty if it needs none.
        libraries: the top-level packages of the extra that its modules import.
        connector: what Spark itself needs, as jars; None if it needs nothing.
        watched_by: the module of the folder whose `question` is asked before a query of
            the source goes on, and whose `progress_listener` makes a function for it, which `run`
            calls with each progress, once its batch is committed; empty if there is
            nothing to ask.
        failures: what patterns in Spark's errors mean for a query of the source.
    """

    source: str = ""
    sink: str = ""
    ways: tuple[str, ...] = ()
    extra: str = ""
    libraries: tuple[str, ...] = ()
    connector: Connector | None = None
    watched_by: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)

    def need(self, call: str) -> None:
        """Import the libraries, so that a missing one is noticed now and not in the first batch.

        Args:
            call: the function that needs them, for the message.

        Raises:
            MissingExtraError: one is not installed.
        """
        need(call, self.extra, *self.libraries)


def need(call: str, extra: str, *libraries: str) -> None:
    """Import libraries, so that a missing one is noticed now and not in the first batch.

    Args:
        call: what needs them, for the message.
        extra: the extra of the kit that installs them.
        *libraries: their top-level packages.

    Raises:
        MissingExtraError: one is not installed.
    """
    try:
        for name in libraries:
            import_module(name)
    except ImportError as err:
        raise MissingExtraError(call, extra) from err


def systems() -> dict[str, System]:
    """Return all systems, by the names of their functions."""
    modules = sorted(module.name for module in iter_modules(__path__))
    return {name: _module(name).SYSTEM for name in modules if name[0] != "_"}


def names(part: str) -> list[str]:
    """Return the names of the systems that have a "source" or a "sink"."""
    return [name for name, system in systems().items() if getattr(system, part)]


def call(part: str, name: str) -> Callable[..., Any]:
    """Return the function of a system's "source" or "sink"."""
    module = _module(name)
    if hasattr(module, "__path__"):  # a folder
        module = _module(f"{name}.{part}")
    function: Callable[..., Any] = getattr(module, name)
    # Where users find it: messages name it so
    function.__module__ = f"sparkstream_kit.{part}s"
    return function


def questions(kinds: Collection[str]) -> list[Any]:
    """Return the questions to ask before a query goes on that reads these kinds of sources."""
    return [module.question for module in _watching(kinds)]


def progress_listeners(
    query: StartingQuery,
) -> tuple[Callable[[StreamingQueryProgress], None], ...]:
    """Return the functions to call with each progress of a query, once its batch is committed."""
    kinds = {source.kind for source in query.inputs}
    return tuple(module.progress_listener(query) for module in _watching(kinds))


def meaning(kinds: Collection[str], error: str) -> str | None:
    """Return what an error of Spark means for these kinds of sources; None if unknown.

    The error is that of a query which reads sources of these kinds.
    """
    for name, system in systems().items():
        if name not in kinds:
            continue
        for pattern, words in system.failures.items():
            if re.search(pattern, error):
                return words
    return None


def _watching(kinds: Collection[str]) -> list[Any]:
    """Return the modules that watch these kinds of sources; see `System.watched_by`."""
    modules = []
    for name, system in systems().items():
        if name in kinds and system.watched_by:
            modules.append(_module(f"{name}.{system.watched_by}"))
    return modules


def _module(name: str) -> Any:
    return import_module(f"{__name__}.{name}")


def mode_for(
    sink: str, target: str, how: str, keys: Sequence[str], ways: Sequence[str]
) -> str:
    """Return the output mode that a sink needs for its argument `how`.

    Args:
        sink: the name of the sink, for messages.
        target: the first argument of the sink as the user wrote it, for messages.
        how: "append", "upsert" or "replace".
        keys: the key columns of an upsert; empty for the other two.
        ways: the values of `how` that the sink supports.

    Returns:
        "append" for "append", "update" for "upsert", "complete" for "replace".

    Raises:
        InvalidInputError: the sink does not support `how`, keys are given without an
            upsert, or an upsert has no keys.

    Examples:
        >>> ways = ["append", "upsert"]
        >>> mode_for("mongodb", "url, 'totals'", "upsert", ["shop"], ways)
        'update'
        >>> mode_for("mongodb", "url, 'totals'", "upsert", [], ways)
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: mongodb: how='upsert' and keys ...
    """
    reject_unknown("way to write (how=)", [how], ways)
    if (how == "upsert") != bool(keys):
        raise InvalidInputError(
            f"{sink}: how='upsert' and keys belong together: {sink}({target},"
            f" how='upsert', keys=['shop']); given: how={how!r}, keys={list(keys)}"
        )
    return _MODES[how]


def check_row_keys(
    where: object,
    keys: Sequence[str],
    batch_id: int,
    *,
    null: bool = False,
    twice: bool = False,
) -> None:
    """Refuse a batch whose keys do not identify its rows.

    Args:
        where: the target of the sink, for messages.
        keys: the key columns.
        batch_id: the number of the batch, for messages.
        null: whether the caller has found a row with a null key.
        twice: whether the caller has found two rows with the same key.

    Raises:
        InvalidInputError: a key is null, which equals nothing, so an upsert cannot find
            its row; or two rows have the same key, so one of them would be lost.
    """
    named = f"batch {batch_id} for {where}: key {', '.join(keys)}"
    if null:
        raise InvalidInputError(
            f"{named} is null; fill it with F.coalesce, or leave such rows out"
        )
    if twice:
        raise InvalidInputError(
            f"{named} is the same in two rows; use the columns that the query groups by"
        )


def other_driver(batch_id: int) -> InvalidInputError:
    """Return the error for a batch that a second driver of the same query has written meanwhile."""
    return InvalidInputError(
        f"batch {batch_id} was written by another driver of this query in the meantime;"
        " stop one of them"
    )


@contextmanager
def modules_by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    """Let cloudpickle include the code of these modules, within a `with` block."""
    from pyspark import cloudpickle

    pickler: Any = cloudpickle
    packages = pickler.list_registry_pickle_by_value()
    added = [module for module in modules if module.__name__ not in packages]
    for module in added:
        pickler.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            pickler.unregister_pickle_by_value(module)
