"""A page of this machine that shows what the queries of a run do; `run(…, ui=PORT)` and `--ui` open it."""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparkstream_kit import _files, _waiting
from sparkstream_kit._arguments import check
from sparkstream_kit._spark import queries as asking
from sparkstream_kit._spark.session import web_page
from sparkstream_kit.checkpoints import logs
from sparkstream_kit.errors import InvalidInputError, KitError, innermost_cause
from sparkstream_kit.monitoring._requests import LOOPBACK, Page, Server
from sparkstream_kit.monitoring._results import Results, places
from sparkstream_kit.monitoring.recorder import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Board

__all__ = ["served"]

_LAST_PORT = 65535
_LOOK = 0.1  # seconds that the server takes to notice that it is to end


@contextmanager
def served(
    board: Board,
    queries: Sequence[StreamingQuery],
    *,
    port: int,
    stop: Callable[[str], None],
) -> Iterator[Callable[[StreamingQueryProgress], None]]:
    """Show a run on a page of this machine until the block ends; its address goes to standard error.

    Nobody on another machine can open the page: its server listens on the loopback interface alone. To see
    what the run does, or to end it, takes the token that the printed address ends with; the numbers of
    `/metrics` are for everybody on this machine. The page works without a network, and asks no other server
    for anything.

    Args:
        board: what the queries do; `board.end()` is called before the block ends.
        queries: those of the run.
        port: a port of this machine; 0 for one that is free.
        stop: ends the run, with what it was ended by.

    Yields:
        A function to call with each batch, for who records the run from elsewhere (`/record`).

    Raises:
        InvalidInputError: the port is taken or not allowed.
    """
    check(served, locals())
    frames = [frame for query in queries if (frame := asking.started(query).frame) is not None]
    spark = web_page(frames[0].sparkSession) if frames else None
    page = Page(board, Results(places(queries)), stop, spark, first_line(queries))
    with _open(port, page) as server:
        thread = _waiting.in_thread("page", lambda: server.serve_forever(_LOOK))
        address = f"http://{LOOPBACK}:{server.server_port}/#token={page.token}"
        others = f" (Spark's own page: {spark})" if spark else ""
        sys.stderr.write(f"page of this run: {address}{others}\n")
        how = "the run has ended"
        files: list[Path] = []
        try:
            for root in filter(None, map(_kept, queries)):
                _files.replace(logs.page_file(root), [address], private=True)
                files.append(logs.page_file(root))
            yield page.add
        except BaseException as err:
            said = err if isinstance(err, KitError) else innermost_cause(err)
            how = f"the run has ended by an error: {said}"
            raise
        finally:
            for file in files:
                file.unlink(missing_ok=True)
            page.end(how)
            server.shutdown()
            thread.join()


def _kept(query: StreamingQuery) -> Path | None:
    """Return the checkpoint of a query, where that is a folder of this machine which `start` has made."""
    root = logs.local(asking.checkpoint(query) or "")
    return root if root is not None and logs.page_file(root).parent.is_dir() else None


def _open(port: int, page: Page) -> Server:
    if not 0 <= port <= _LAST_PORT:
        raise InvalidInputError(f"ui={port} is no port; give one from 1 to {_LAST_PORT}, or 0 for a free one")
    try:
        return Server(port, page)
    except OSError as err:
        if err.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "is taken" if err.errno == errno.EADDRINUSE else f"may not be used ({err.strerror})"
        raise InvalidInputError(
            f"port {port} for the page of the run {why}; give another one, or run(…, ui=0) for a free one "
            "(of a job: --ui)"
        ) from err
