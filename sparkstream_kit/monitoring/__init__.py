"""Extra: watch a run: in the terminal, in a notebook, on a page, from a scraper, and later from a file.

from sparkstream_kit import monitoring
monitoring.live(counts, run_for=20)  # a streaming DataFrame, beneath the cell of a notebook

`watching` opens the views that `run(..., show=, ui=, record=)` asks for: a picture in the terminal, the
output of a notebook cell, a local web page that also serves Prometheus metrics, and a recording in a file.
All views read one `board.Board`, which keeps the last batches of each query in memory. `sparkstream watch
FILE` shows a recording later. A view that fails during the run does not stop it.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import attributes
from sparkstream_kit.errors import reject_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import live
    from sparkstream_kit.progress import Batch


__all__ = ["live"]

__getattr__ = attributes(__name__, {"sparkstream_kit.monitoring.board": ["live"]})

_log = logging.getLogger(__name__)


@contextmanager
def watching(
    queries: Sequence[StreamingQuery],
    *,
    stop: Callable[[str], None],
    show: str | None = None,
    ui: int | None = None,
    record: str | Path | None = None,
) -> Iterator[Callable[[Batch], None]]:
    """Open the views of a run that were asked for, and close them when the block ends.

    Args:
        queries: the queries of the run.
        stop: ends the run; its argument is the reason that the summary gives, such as "the web page".
        show: `terminal`: draw the run on standard error; `notebook`: draw the run beneath the cell; None:
            neither.
        ui: the port of the web page; 0 for any free port; None for no page.
        record: the file to which the run appends one line of JSON for each batch; None for no file.

    Yields:
        A function to call with each batch. If a view fails on a batch, the function logs the error and calls
        that view no more; the run continues.

    Raises:
        InvalidInputError: `show` is not one of the two names, the file cannot be written or holds something
            else, or the port is taken or not allowed.
    """
    if show is not None:
        reject_unknown("face (show=)", [show], ["notebook", "terminal"])
    from sparkstream_kit.monitoring.board import Board, recording

    board = Board()
    board.watch(queries)
    told: list[Callable[..., None]] = [board.add]
    with ExitStack() as faces:
        if record is not None:
            told.append(faces.enter_context(recording(record, queries)))
        if ui is not None:
            from sparkstream_kit.monitoring import page

            faces.enter_context(page.served(board, queries, port=ui, stop=stop))
        if show == "terminal":
            from sparkstream_kit.monitoring import terminal

            faces.enter_context(terminal.shown(board, queries=queries))
        if show == "notebook":
            from sparkstream_kit.monitoring import notebook

            faces.enter_context(notebook.shown(board, queries))

        def tell(batch: Batch) -> None:
            for each in list(told):
                try:
                    each(*batch)
                except Exception as err:  # noqa: BLE001 - said, and the run goes on
                    told.remove(each)
                    said = f"{type(err).__name__}: {err}"
                    if each == board.add:
                        board.problem = said
                    _log.warning("a display of the run failed, and the run continues without it: %s", said)

        try:
            yield tell
        finally:
            board.end()
