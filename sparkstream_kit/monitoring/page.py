"""A local page that shows a run, and its metrics: `run(…, ui=PORT, metrics=ADDRESS)`.

`served` starts an HTTP server on the loopback interface. The server answers `/` (the
page), `/events` (what the page shows, as server-sent events), `/status` (what the
queries do now, as JSON) and `POST /stop`. All but the page itself need the token that
`served` prints, because other users of the machine can open its ports, and so can a
page of another site. `exported` starts a server of metrics for Prometheus.
"""

from __future__ import annotations

import json
import logging
import secrets
import socketserver
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakSet

from sparkstream_kit._internal import threads
from sparkstream_kit._internal.spark.queries import start_facts
from sparkstream_kit._internal.spark.session import web_page
from sparkstream_kit.connectors import need
from sparkstream_kit.errors import (
    InvalidInputError,
    KitError,
    innermost_cause,
    printable,
)
from sparkstream_kit.monitoring.pictures import Results, Sent, moments, places, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Board, Picture


# Counters over the whole run: the name of the metric, the attribute of the summary, the
# help text.
_TOTALS = {
    "batches": ("batches", "Batches committed."),
    "input_rows": ("input_rows", "Rows read."),
    "output_rows": ("output_rows", "Rows written, where the sink says so."),
    "late_rows": ("late_rows", "Late rows that were dropped, at least."),
    "bad_rows": ("bad_rows", "Bad rows that the quarantine has found."),
    "busy_seconds": ("busy_seconds", "Time that batches took."),
}
# Gauges of the last batch: the name of the metric, the attribute of the batch, the help
# text.
_LAST = {
    "last_batch_id": ("batch", "Number of the last batch."),
    "last_batch_rows": ("rows", "Rows that the last batch read."),
    "last_batch_seconds": ("seconds", "Time that the last batch took."),
    "state_rows": ("state_rows", "Rows in state."),
    "state_bytes": ("state_bytes", "Memory of the state."),
    "watermark_lag_seconds": (
        "lag",
        "From the watermark to the begin of the last batch.",
    ),
    "waiting": ("backlog", "What waits in the sources: files, or records of Kafka."),
}
_PARTS = {
    "work": "work",
    "planning": "planning",
    "log_writes": "log writes",
    "looking": "looking for input",
}


@contextmanager
def exported(board: Board, address: str) -> Iterator[None]:
    """Serve a run's metrics at an address until the block ends, without token or page.

    Args:
        board: the board of the run.
        address: the host and port to listen on, such as "0.0.0.0:9108"; port 0 takes a
            free one.

    Raises:
        InvalidInputError: the address is not host:port, or cannot be listened on.
        MissingExtraError: prometheus-client is not installed.
    """
    need("run(…, metrics=…)", "metrics", "prometheus_client")
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.registry import Collector

    class OfARun(Collector):
        """What the library asks for metrics."""

        def collect(self) -> Iterator[Metric]:
            return metrics(board.pictures())

    registry = CollectorRegistry()  # the global one has the metrics of the process, too
    registry.register(OfARun())
    host, _, port = address.rpartition(":")
    try:
        server, _ = start_http_server(int(port), host.strip("[]"), registry)
    except (OSError, OverflowError, ValueError) as err:
        fix = "give another host:port, such as 127.0.0.1:9109"
        raise InvalidInputError(
            f"cannot serve metrics at {address} ({err}); {fix}"
        ) from err
    sys.stderr.write(
        f"metrics of this run: http://{host}:{server.server_port}/metrics\n"
    )
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def metrics(pictures: Sequence[Picture]) -> Iterator[Metric]:
    """Yield the metrics of the queries that are given."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    by_name = {each.name: each for each in pictures}
    for name, (attribute, says) in _TOTALS.items():
        counter = _family(CounterMetricFamily, name, says)
        for query, picture in by_name.items():
            _add(counter, [query], getattr(picture.summary, attribute))
        yield counter

    last = {each.name: each.batches[-1] for each in pictures if each.batches}
    for name, (attribute, says) in _LAST.items():
        gauge = _family(GaugeMetricFamily, name, says)
        for query, batch in last.items():
            _add(gauge, [query], getattr(batch, attribute))
        yield gauge

    began = _family(
        GaugeMetricFamily, "last_batch_begin_seconds", "When it began, in Unix time."
    )
    for query, batch in last.items():
        _add(began, [query], batch.at.timestamp())
    yield began

    parts = _family(
        GaugeMetricFamily, "last_batch_part_seconds", "Parts of that time.", "part"
    )
    for query, batch in last.items():
        for attribute, part in _PARTS.items():
            _add(parts, [query, part], getattr(batch, attribute))
    yield parts

    verdicts = _family(
        GaugeMetricFamily, "verdicts", "Verdicts on the last batches.", "level"
    )
    for query, picture in by_name.items():
        levels = [verdict.level for verdict in picture.verdicts]
        for level in ("warn", "bad"):
            _add(verdicts, [query, level], levels.count(level))
    yield verdicts


def _family(kind: Any, name: str, says: str, *more: str) -> Any:
    """Return a metric without values, with the label `query` and the labels in `more`.

    Args:
        kind: the class of the metric, from prometheus-client.
        name: its name without the prefix `sparkstream_`.
        says: its help text.
        *more: the name of the other label, if there is one.
    """
    return kind(f"sparkstream_{name}", says, labels=["query", *more])


def _add(family: Any, labels: list[str], value: float | None) -> None:
    """Add a value to a metric, unless a query does not have it."""
    if value is not None:
        family.add_metric(labels, value)


LOOPBACK = "127.0.0.1"
_log = logging.getLogger(__name__)
_EVERY = 0.25  # least seconds between two pictures
# Most seconds between two pictures, so that a verdict on silence appears and a closed
# browser is noticed.
_BEAT = 2.0
# Seconds to wait at the end until open pages have received how the run ended
_LAST_WORDS = 2.0
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/uplot.js": ("uplot.js", "text/javascript"),
    "/uplot.css": ("uplot.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    # Scripts, styles, images and connections come from this server alone; no other site
    # may frame the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors"
        " 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass
class Page:
    """The data and the actions behind one web page, shared by the threads of all its browsers.

    Attributes:
        board: the board of the run.
        results: the results of the queries.
        stop: ends the run; its argument is the reason that the summary gives.
        spark: the URL of Spark's own web UI; None if there is none.
        token: the secret that a client must send to see what the run does, or to end
            it.
        ended: how the run has ended; empty while it goes on.
        over: set when the run has ended.
        readers: the threads that send to a browser what the run does.
    """

    board: Board
    results: Results
    stop: Callable[[str], None]
    spark: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    ended: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    readers: WeakSet[threading.Thread] = field(default_factory=WeakSet)
    _problem: str = ""

    def end(self, how: str) -> None:
        """Tell open pages how the run ended; wait up to two seconds for each."""
        self.ended = how
        self.over.set()
        for reader in list(self.readers):
            reader.join(_LAST_WORDS)

    def pictures(self) -> Iterator[str]:
        """Yield the news for one browser as JSON, until the run has ended."""
        sent = Sent(self.results)
        for _ in moments(self.board, self.over, every=_EVERY, beat=_BEAT):
            yield self._picture(sent)

    def _picture(self, sent: Sent) -> str:
        """Return a browser's news as JSON; after an error its text, logged once."""
        problem = self.board.problem
        if not problem:
            try:
                pictures = self.board.pictures()
                return sent.text(pictures, ended=self.ended, spark=self.spark)
            except Exception as err:  # noqa: BLE001 - said, and the run goes on
                problem = innermost_cause(err)
        if problem != self._problem:
            self._problem = problem
            _log.warning("the page of the run shows no queries: %s", problem)
        return json.dumps({"error": printable(problem), "ended": printable(self.ended)})


class Server(ThreadingHTTPServer):
    """The HTTP server of a page, on the loopback interface, a thread per connection."""

    daemon_threads = True
    timeout = 0.1  # seconds, for `threads.serve`

    def __init__(self, port: int, page: Page) -> None:
        self.page = page
        # Works in a zip file, too
        folder = resources.files("sparkstream_kit.monitoring") / "web"
        self.files: dict[str, tuple[bytes, str]] = {}
        for path, (name, kind) in _FILES.items():
            self.files[path] = (folder / name).read_bytes(), kind
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """Bind the port without `HTTPServer`'s name lookup, which can wait for long."""
        socketserver.TCPServer.server_bind(self)
        self.server_port = self.socket.getsockname()[1]
        self.server_name = LOOPBACK

    def handle_error(self, *_: Any) -> None:
        """Log an error of a request, except an OSError: then the browser has gone."""
        err = sys.exception()
        if not isinstance(err, OSError):
            _log.warning(
                "the page of the run could not answer: %s: %s", type(err).__name__, err
            )


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "sparkstream"
    sys_version = ""
    # Seconds after which a connection is closed on which the browser sends or accepts
    # nothing
    timeout = 20

    def do_GET(self) -> None:
        """Answer a GET request with a file, a stream or the status."""
        path = urlsplit(self.path).path
        if path in self.server.files:
            self._answer(HTTPStatus.OK, *self.server.files[path])
        elif path not in {"/events", "/status"}:
            self._refuse(
                HTTPStatus.NOT_FOUND,
                "there is nothing at this address; the page is at /",
            )
        elif self._has_token("to look at the run"):
            if path == "/events":
                self._stream()
            else:
                body = status(self.server.page.board, self.server.page.ended)
                self._answer(HTTPStatus.OK, body.encode(), "application/json")

    def do_POST(self) -> None:
        """End the run after `POST /stop` with the token."""
        if urlsplit(self.path).path != "/stop":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "only /stop takes a POST")
        elif self._has_token("to end the run"):
            self.server.page.stop("the web page")
            self._answer(
                HTTPStatus.ACCEPTED,
                b"the run ends after the batch in flight\n",
                "text/plain",
            )

    def _has_token(self, what: str) -> bool:
        """Return whether the request has the token; if not, refuse it, naming the action `what`.

        The token is needed because other users of this machine can open its ports, and
        so can a page of another site, also one whose host name was pointed at this
        machine (DNS rebinding).
        """
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if secrets.compare_digest(given.encode(), self.server.page.token.encode()):
            return True
        self._refuse(
            HTTPStatus.UNAUTHORIZED,
            f"{what} takes the token of the address that it printed: Authorization:"
            " Bearer TOKEN",
        )
        return False

    def _stream(self) -> None:
        """Send pictures until the run ends, or a write fails since the browser left."""
        self._head(HTTPStatus.OK, "text/event-stream")
        self.server.page.readers.add(threading.current_thread())
        for text in self.server.page.pictures():
            self.wfile.write(f"data: {text}\n\n".encode())

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self._head(status, kind)
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._answer(status, f"{why}\n".encode(), "text/plain")

    def _head(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Connection", "close")  # which says where the body ends, too
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, *_: Any) -> None:
        """Refuse a malformed request as plain text: the default page repeats it."""
        self._refuse(HTTPStatus(code), HTTPStatus(code).phrase)

    def log_message(self, *_: object) -> None:
        """Log nothing; the default logs each request to standard error."""


@contextmanager
def served(
    board: Board,
    queries: Sequence[StreamingQuery],
    *,
    port: int,
    stop: Callable[[str], None],
) -> Iterator[None]:
    """Show a run on a local web page until the block ends.

    The page's address is printed to standard error.

    Other machines cannot open the page, because its server listens on the loopback
    interface alone. To see what the run does, or to end it, a client needs the token at
    the end of the printed address. The page works without a network and contacts no
    other server.

    Args:
        board: the board of the run; call `board.end()` before the block ends.
        queries: the queries of the run.
        port: the port to listen on; 0 for any free port.
        stop: ends the run; its argument is the reason that the summary gives.

    Raises:
        InvalidInputError: the port is taken or not allowed.
    """
    spark = _page_of_spark(queries)
    page = Page(board, Results(places(queries)), stop, spark)
    server = _server(port, page)
    with threads.beside("page", partial(threads.serve, server)):
        address = f"http://{LOOPBACK}:{server.server_port}/#token={page.token}"
        others = f" (Spark's own page: {spark})" if spark else ""
        sys.stderr.write(f"page of this run: {address}{others}\n")
        how = "the run has ended"
        try:
            yield
        except BaseException as err:
            cause = err if isinstance(err, KitError) else innermost_cause(err)
            how = f"the run has ended by an error: {cause}"
            raise
        finally:
            page.end(how)


def _page_of_spark(queries: Sequence[StreamingQuery]) -> str | None:
    """Return the URL of Spark's own web UI; None if no query tells its session."""
    for query in queries:
        frame = start_facts(query).frame
        if frame is not None:
            return web_page(frame.sparkSession)
    return None


def _server(port: int, page: Page) -> Server:
    """Open the port of a page."""
    try:
        return Server(port, page)
    except (OSError, OverflowError) as err:
        why = (
            f"cannot open port {port} for the page of the run"
            f" ({getattr(err, 'strerror', err)})"
        )
        raise InvalidInputError(
            f"{why}; give another one, or take a free one with ui=0 (of a job: --ui"
            " alone)"
        ) from err
