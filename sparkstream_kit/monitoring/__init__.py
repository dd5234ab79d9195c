"""Extra: watch a run in a terminal, a notebook, a page or a file, or get its alerts.

from sparkstream_kit import monitoring
monitoring.live(counts, run_for=20)  # a streaming DataFrame, beneath the cell of a notebook

`watching` opens the views that `run(..., show=, ui=, metrics=, record=)` asks for: a
picture in a terminal, the output of a notebook cell, a local web page, Prometheus
metrics (also at the page), a recording in a file. All views read one `board.Board`,
which keeps the last batches of each query in memory. `sparkstream watch FILE` shows a
recording later. A view that fails during the run does not stop it.

With `run(..., on_verdict=)` a function is called with an `Alert` when a verdict on a
query begins, and when it has ended; or the alert is posted to a URL. `summary_kept` is
for `run(..., summary_json=)`.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sparkstream_kit._internal.arguments import attributes
from sparkstream_kit._internal.file_system import JSON_VERSION, as_json, is_url
from sparkstream_kit._internal.threads import in_thread
from sparkstream_kit.connectors.posts.wire import host_of
from sparkstream_kit.errors import (
    InvalidInputError,
    QueryFailed,
    printable,
    reject_unknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Board, Picture
    from sparkstream_kit.monitoring.board import live as live
    from sparkstream_kit.progress import Verdict

    _Key = tuple[str, str, str]  # of a verdict: its query, kind and level


__all__ = ["Alert", "live"]

__getattr__ = attributes(__name__)

_log = logging.getLogger(__name__)

# A verdict has ended when neither the last batches of its query nor the last minute had
# it: a query with a batch each second, and one with a batch each hour, both keep a
# verdict that comes and goes.
_TIME = timedelta(minutes=1)
_BATCHES = 10
_ANSWERS_WITHIN = 10.0  # seconds in which the receiver of an alert must answer
_SLACK = 1.0  # seconds more until an answer that comes line by line is not waited for


@dataclass(frozen=True)
class Alert:
    """A verdict on a query that has begun, or that has ended; printing it gives one line.

    Attributes:
        query: the name of the query, or its id.
        verdict: the verdict as it was when it began: its level, its kind, and a text
            with the numbers and what to do about it.
        since: the time at which it began, in UTC.
        ended: the time at which it ended, in UTC; None if it has just begun.

    Examples:
        >>> from sparkstream_kit.verdicts import Verdict
        >>> behind = Verdict("bad", "falling behind: …; give it more cores", "backlog")
        >>> print(Alert("totals", behind, datetime(2026, 1, 14, 9, tzinfo=UTC)))
        bad: query totals: falling behind: …; give it more cores (since 2026-01-14 09:00:00 UTC)
    """

    query: str
    verdict: Verdict
    since: datetime
    ended: datetime | None = None

    def __str__(self) -> str:
        """Return the line."""
        state = "ended" if self.ended else self.verdict.level
        return (
            f"{state}: query {self.query}: {self.verdict} (since"
            f" {self.since:%Y-%m-%d %H:%M:%S} UTC)"
        )


@contextmanager
def summary_kept(path: str | Path | None) -> Iterator[Callable[..., Any]]:
    """Yield a function that appends a run's summary to a file, once, and returns the summary.

    If the block raises QueryFailed, the summary that the exception carries is appended,
    with the error.
    """
    is_kept = False

    def keep(summary: Any, error: str | None = None) -> Any:
        nonlocal is_kept
        if path is not None and not is_kept:
            _append_summary(path, summary, error)
            is_kept = True
        return summary

    try:
        yield keep
    except QueryFailed as err:
        keep(err.summary, str(err))
        raise


def _append_summary(path: str | Path, summary: Any, error: str | None) -> None:
    """Append a run's summary to a file, as a line of JSON; without one, only the error."""
    values = vars(summary) if summary else {}
    line = as_json({"version": JSON_VERSION, **values, "error": error})
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as err:
        # a file that cannot be written does not change how the run has ended
        _log.warning("the summary is not in %s: %s", path, err)


@contextmanager
def watching(
    queries: Sequence[StreamingQuery],
    stop: Callable[[str], None],
    *,
    show: str | None = None,
    ui: int | None = None,
    record: str | Path | None = None,
    metrics: str | None = None,
    on_verdict: Callable[[Alert], object] | str | None = None,
) -> Iterator[tuple[Callable[..., None], list[Callable[..., None]]]]:
    """Open the views of a run that were asked for, and close them when the block ends.

    Args:
        queries: the queries of the run.
        stop: ends the run; its argument is the reason that the summary gives, such as
            "the web page".
        show: `terminal`: draw the run on standard error; `notebook`: draw the run
            beneath the cell, or outside of a notebook on standard error; None: neither.
        ui: the port of the web page; 0 for any free port; None for no page.
        record: the file to which the run appends one line of JSON for each batch; None
            for no file.
        metrics: the address of Prometheus metrics, as host:port; None for none.
        on_verdict: a function to call when a verdict begins and when it has ended, or a
            URL to post that to.

    Yields:
        A function to call with each batch. If a view fails on a batch, the function
        logs the error and calls that view no more; the run continues. And a list with
        the function that calls `on_verdict`, to be called twice a second and at the end
        of the run; empty if there is none.

    Raises:
        InvalidInputError: `show` is not one of the two names, the file cannot be
            written or holds something else, the port is taken or not allowed, or
            nothing can be posted to the URL.
        MissingExtraError: `metrics` is given, and prometheus-client is not installed.
    """
    if show is not None:
        reject_unknown("face (show=)", [show], ["notebook", "terminal"])
    from sparkstream_kit.monitoring.board import Board, recording

    board = Board()
    board.watch(queries)
    batch_listeners: list[Callable[..., object]] = [board.add]
    with ExitStack() as faces:
        if record is not None:
            batch_listeners.append(faces.enter_context(recording(record, queries)))
        from sparkstream_kit.monitoring import page

        if metrics is not None:
            faces.enter_context(page.exported(board, metrics))
        if ui is not None:
            faces.enter_context(page.served(board, queries, port=ui, stop=stop))
        if show is not None:
            faces.enter_context(_face(show)(board, queries=queries))
        try:
            on_tick_callbacks = []
            if on_verdict is not None:
                on_alert = _alert_callback(on_verdict, faces)
                on_tick_callbacks.append(_VerdictWatch(board, on_alert).look)
            yield partial(_call_listeners, batch_listeners, board), on_tick_callbacks
        finally:
            board.end()


def _face(show: str) -> Callable[..., AbstractContextManager[None]]:
    """Return the view that `show` asks for; outside of a notebook, that in a terminal."""
    from sparkstream_kit.display import in_notebook
    from sparkstream_kit.monitoring import notebook, terminal

    if show == "notebook" and in_notebook():
        return notebook.shown
    return terminal.shown


def _call_listeners(
    listeners: list[Callable[..., object]], board: Board, *batch: Any
) -> None:
    """Call each listener with a batch; one that fails is removed, and the error is logged."""
    for listener in list(listeners):
        try:
            listener(*batch)
        except Exception as err:  # noqa: BLE001 - said, and the run goes on
            listeners.remove(listener)
            problem = f"{type(err).__name__}: {err}"
            if listener == board.add:
                board.problem = problem
            _log.warning(
                "a display of the run failed, and the run continues without it: %s",
                problem,
            )


def _alert_callback(
    on_verdict: Callable[[Alert], object] | str, faces: ExitStack
) -> Callable[[Alert], object]:
    """Return what to call with an alert: the function, or what posts it to the URL.

    Args:
        on_verdict: a function, or the URL to which a thread posts alerts until `faces`
            closes.
        faces: closed at the end of the run.
    """
    if not isinstance(on_verdict, str):
        return on_verdict
    url = on_verdict
    if not is_url(url) or host_of(url) is None or "@" in url.split("/")[2]:
        # The URL is not shown: it may be a secret.
        raise InvalidInputError(
            "on_verdict (--alert-url) is no URL, or one with a password; give"
            " https://HOST/PATH"
        )
    from sparkstream_kit.monitoring.pictures import drawing

    posts = _AlertPosts(url)
    # At the end these are called in the opposite order: no further alert comes, the
    # thread ends, and what it has not posted is logged.
    faces.callback(posts.give_up)
    faces.enter_context(drawing(posts.post_all))
    faces.callback(posts.add, None)
    return posts.add


class _VerdictWatch:
    """Tells of each verdict on a board that has begun or ended.

    Args:
        board: the board of a run.
        tell: called with each alert.
    """

    def __init__(self, board: Board, tell: Callable[[Alert], object]) -> None:
        self._board = board
        self._tell = tell
        # The verdicts that have begun and not ended, by query, kind and level: their
        # alerts, and the number of batches and the time at which they were last seen.
        self._begun: dict[_Key, Alert] = {}
        self._seen: dict[_Key, tuple[int, datetime]] = {}

    def look(self, at: datetime | None = None) -> None:
        """Look at the board, and tell what has changed since the last look."""
        now = at or datetime.now(UTC)
        for picture in self._board.pictures(now):
            for verdict in picture.verdicts:
                self._see(picture, verdict, now)
            for key in list(self._seen):
                if key[0] == picture.name and self._is_over(key, picture, now):
                    del self._seen[key]
                    self._tell(replace(self._begun.pop(key), ended=now))

    def _see(self, picture: Picture, verdict: Verdict, now: datetime) -> None:
        """Note a verdict, and tell it if it has begun."""
        key = picture.name, verdict.kind, verdict.level
        self._seen[key] = picture.summary.batches, now
        if key not in self._begun:
            alert = Alert(picture.name, verdict, now)
            self._begun[key] = alert
            self._tell(alert)

    def _is_over(self, key: _Key, picture: Picture, now: datetime) -> bool:
        """Return whether a verdict was not seen for enough batches and long enough."""
        batches, seen_at = self._seen[key]
        return picture.summary.batches >= batches + _BATCHES and now >= seen_at + _TIME


class _NoRedirects(HTTPRedirectHandler):
    """Refuses redirects, so that an alert is not lost without an error.

    urllib would follow with a GET, without the alert, and take that for success.
    """

    def redirect_request(self, *_: Any) -> None:
        """Return no new request, so that the redirect counts as an error."""


class _AlertPosts:
    """Posts alerts as JSON, each once, and logs those that could not be posted.

    Args:
        url: where to post them.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: SimpleQueue[Alert | None] = SimpleQueue()
        self._left: list[Alert] = []  # what is neither posted nor logged yet

    def add(self, alert: Alert | None) -> None:
        """Add an alert; None after the last one."""
        if alert is not None:
            self._left.append(alert)
        self._waiting.put(alert)

    def post_all(self, _over: object) -> None:
        """Post the alerts until there comes None."""
        while (alert := self._waiting.get()) is not None:
            if alert not in self._left:  # the run has ended, and has logged it
                continue
            failure = self._post(alert)
            if alert in self._left:
                self._left.remove(alert)
                if failure:
                    self._log(alert, failure)

    def give_up(self) -> None:
        """Log what is left at the end of a run, which waits no longer."""
        pending = self._left
        self._left = []
        for alert in pending:
            self._log(alert, "the run ended before there was an answer")

    def _post(self, alert: Alert) -> str:
        """Post an alert, and return why that failed, or an empty text.

        A thread does it: the limit of a socket is for each line of an answer, and an
        answer may have many.
        """
        data = as_json(alert).encode()
        request = Request(self._url, data, {"Content-Type": "application/json"})  # noqa: S310 - a URL of HTTP
        errors = [f"no answer within {_ANSWERS_WITHIN:g} seconds"]

        def send() -> None:
            try:
                opener = build_opener(_NoRedirects)
                opener.open(request, timeout=_ANSWERS_WITHIN).close()
                errors.clear()
            except Exception as err:  # noqa: BLE001 - said, and the run goes on
                errors[:] = [str(err)]

        in_thread("post", send).join(_ANSWERS_WITHIN + _SLACK)
        return " ".join(errors)

    def _log(self, alert: Alert, why: str) -> None:
        # Of the URL only the host: its path, as that of a webhook, may be a secret.
        _log.warning(
            "an alert was not posted to %s (%s): %s",
            host_of(self._url),
            printable(why),
            alert,
        )
