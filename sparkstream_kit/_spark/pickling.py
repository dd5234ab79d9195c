"""How objects of the caller's own code reach Spark's workers."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyspark import cloudpickle as untyped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

_cloudpickle: Any = untyped


def by_value(objects: Any) -> bytes:
    """Return objects as bytes for `pickle.loads`, with the code of their classes.

    A worker has the kit, but not always the script or the notebook from which the classes are.

    Args:
        objects: a list of objects, each with an attribute `state` that is a class.
    """
    names = {type(each).__module__ for each in objects} | {each.state.__module__ for each in objects}
    ours = __name__.partition(".")[0]
    modules = [sys.modules[name] for name in names if name.partition(".")[0] != ours and name in sys.modules]
    # Those of a module that runs as a script go by value in any case.
    with modules_by_value(module for module in modules if module.__name__ != "__main__"):
        return bytes(_cloudpickle.dumps(objects))


@contextmanager
def modules_by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    """Send the code of some modules, in a `with` block, with what is pickled of them."""
    known = _cloudpickle.list_registry_pickle_by_value()
    added = [module for module in modules if module.__name__ not in known]
    for module in added:
        _cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            _cloudpickle.unregister_pickle_by_value(module)
