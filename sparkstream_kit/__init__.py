"""Helpers for Spark streams in Python: native Spark objects go in, native Spark objects come out.

`start` starts a streaming query and `run` waits for queries and ends them;
`get_session` and `spark_session` start Spark. Everything else is in the submodules,
such as `sources`, `sinks` and `checkpoints`.

`import sparkstream_kit` alone loads none of them, nor PySpark: a name is imported when
it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparkstream_kit.queries import start
    from sparkstream_kit.runs import run
    from sparkstream_kit.session import get_session, spark_session

__all__ = ["get_session", "run", "spark_session", "start"]

_HOMES = {
    "get_session": "session",
    "run": "runs",
    "spark_session": "session",
    "start": "queries",
}


def __getattr__(name: str) -> object:
    """Import one of the names in `__all__`, or a submodule, when it is first used."""
    home = _HOMES.get(name)
    if home is not None:
        return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as err:
            if err.name != f"{__name__}.{name}":
                raise
    from sparkstream_kit._internal.arguments import missing

    raise missing(
        __name__,
        name,
        __all__,
        (known for known in __dir__() if not known.startswith("_")),
    )


def __dir__() -> list[str]:
    """Return `__all__` and the submodules, for completion, without importing any."""
    from pkgutil import iter_modules

    modules = (
        module.name
        for module in iter_modules(__path__)
        if not module.name.startswith("_")
    )
    return sorted(
        {*(name for name in globals() if name.startswith("__")), *__all__, *modules}
    )
