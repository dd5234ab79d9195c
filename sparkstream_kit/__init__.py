"""Helpers for Spark streams in Python: native Spark objects go in, native Spark objects come out.

`import sparkstream_kit` loads nothing else; a name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparkstream_kit.queries import start
    from sparkstream_kit.runs import run
    from sparkstream_kit.session import get_session, spark_session

__all__ = ["get_session", "run", "spark_session", "start"]

_HOMES = {"get_session": "session", "run": "runs", "spark_session": "session", "start": "queries"}


def __getattr__(name: str) -> object:
    """Import one of the everyday calls, or a submodule, when it is first asked for."""
    home = _HOMES.get(name)
    if home is not None:
        return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as err:
            if err.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
