"""How objects of the caller's own code reach Spark's workers."""

from __future__ import annotations

import sys
from typing import Any

from pyspark import cloudpickle as untyped

__all__ = ["by_value"]


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
    known = _cloudpickle.list_registry_pickle_by_value()
    added = [module for module in modules if module.__name__ not in known and module.__name__ != "__main__"]
    for module in added:
        _cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(_cloudpickle.dumps(objects))
    finally:
        for module in added:
            _cloudpickle.unregister_pickle_by_value(module)
