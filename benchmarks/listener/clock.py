"""A clock around what Python does when the JVM calls it with a batch's progress."""

import time
from collections.abc import Callable
from typing import Any

milliseconds: list[float] = []


def timed(callback: Callable[..., None]) -> Callable[..., None]:
    """Return the callback so that each call of it leaves its time in `milliseconds`."""

    def call(*args: Any) -> None:
        started = time.perf_counter()
        callback(*args)
        milliseconds.append((time.perf_counter() - started) * 1000)

    return call
