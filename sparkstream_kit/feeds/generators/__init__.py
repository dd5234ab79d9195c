"""Generated rows, each kind with its true answer, which is computed without Spark.

Each function whose name ends in `_rows` makes one kind of rows from a count and a seed;
`feeds.datasets` lists the kinds for `sparkstream feed`. The functions that compute the
true answers are independent of the jobs, so that tests can compare the output of a job
with them.

`users` has actions, views of ads and requests to a web server; `incidents` has frauds
among payments and spikes among temperatures; `shop` has events and sales; `texts` has
messages and posts. This module has what they share.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from functools import partial, wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.feeds.files import Again, count_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_Arguments = ParamSpec("_Arguments")
_Row = TypeVar("_Row")


def seeded(
    make: Callable[_Arguments, Iterator[_Row]],
) -> Callable[_Arguments, Iterable[_Row]]:
    """Decorate a generator of a count and a seed, so that its rows can be iterated again and again.

    The decorated function checks its arguments when it is called, and not at the first
    row.
    """

    @wraps(make)
    def rows(*args: _Arguments.args, **keywords: _Arguments.kwargs) -> Iterable[_Row]:
        arguments = inspect.signature(make).bind(*args, **keywords).arguments
        check(make, arguments)
        count_to(arguments["count"])  # raises an error for a count below 0
        return Again(partial(make, *args, **keywords))

    return rows


def iso_time(moment: datetime) -> str:
    """Write a time in UTC as ISO 8601, such as "2024-05-01T12:00:00Z"."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def plain_time(seconds: int) -> str:
    """Write seconds since 1970 as Spark shows a timestamp, such as "2024-05-01 12:00:00"."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
