"""Names of a package that are imported when they are first used: most programs need one or two of them."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from inspect import currentframe
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


def attributes(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Return a package's `__getattr__`, and let `dir` have its names, for completion.

    Args:
        package: the package.
        modules: by the full name of each module, which of the package's names it has.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def __getattr__(name: str) -> object:  # noqa: N807 - what Python calls
        if name not in homes:
            raise missing(package, name, homes)
        found = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, found)  # not asked again
        return found

    vars(sys.modules[package])["__dir__"] = lambda: sorted({*vars(sys.modules[package]), *homes})
    return __getattr__


def missing(package: str, name: str, *known: Iterable[str]) -> Exception:
    """Return the error of a package that does not have a name, with the name that may be meant.

    Args:
        package: the package.
        name: what it does not have.
        *known: names that it has, the likelier ones first.
    """
    from sparkstream_kit.errors import hint

    near = "" if name.startswith("_") else next(filter(None, (hint(name, names) for names in known)), "")
    # Python looks for a module next.
    if near and _is_from_import() and find_spec(f"{package}.{name}") is None:
        return ImportError(f"cannot import name {name!r} from {package!r}{near}", name=package)
    return AttributeError(f"module {package!r} has no attribute {name!r}{near}")


def _is_from_import() -> bool:
    """Say whether `from package import name` asks, which drops the words of an AttributeError."""
    frame = currentframe()
    while frame is not None and frame.f_code.co_name in ("_is_from_import", "missing", "__getattr__"):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "_handle_fromlist"
