"""A page of this machine that shows a run, its metrics, and who may ask; `run(…, ui=PORT)` opens it."""

from __future__ import annotations

import errno
import json
import logging
import re
import secrets
import socketserver
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sparkstream_kit import _files, _waiting
from sparkstream_kit._arguments import check
from sparkstream_kit._spark import queries as asking
from sparkstream_kit._spark.session import web_page
from sparkstream_kit.checkpoints import logs
from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError, innermost_cause, printable
from sparkstream_kit.monitoring.board import batch_line, end_line, first_line
from sparkstream_kit.monitoring.pictures import Results, Sent, moments, newest_runs, places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from prometheus_client import Metric
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.monitoring.board import Board, Picture


# By the name of the metric: an attribute of the summary, and what it counts.
_TOTALS = {
    "batches": ("batches", "Batches committed."),
    "input_rows": ("input_rows", "Rows read."),
    "output_rows": ("output_rows", "Rows written, where the sink says so."),
    "late_rows": ("late_rows", "Late rows that were dropped: the fewest that it can be."),
    "bad_rows": ("bad_rows", "Bad rows that the quarantine has found."),
    "busy_seconds": ("busy_seconds", "Time that batches took."),
}
# An attribute of the last batch.
_LAST = {
    "last_batch_id": ("batch", "Number of the last batch."),
    "last_batch_rows": ("rows", "Rows that the last batch read."),
    "last_batch_seconds": ("seconds", "Time that the last batch took."),
    "state_rows": ("state_rows", "Rows in state."),
    "state_bytes": ("state_bytes", "Memory of the state."),
    "watermark_lag_seconds": ("lag", "From the watermark to the begin of the last batch."),
    "waiting": ("backlog", "What waits in the sources: files, or records of Kafka."),
}
_PARTS = {"work": "work", "planning": "planning", "log_writes": "log writes", "looking": "looking for input"}


def scraped(board: Board, accept: str) -> tuple[bytes, str]:
    """Return the metrics of a run, and their content type.

    Args:
        board: the queries.
        accept: the formats that the scraper takes, as in its header `Accept`.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """
    try:
        from prometheus_client import exposition
    except ImportError as err:
        raise MissingExtraError("/metrics", "metrics") from err
    encode, kind = exposition.choose_encoder(accept)
    # The library writes metrics, and escapes what is in a name; all that it asks of a registry is `collect`.
    return encode(SimpleNamespace(collect=partial(_metrics, board.pictures()))), kind


def _metrics(pictures: Sequence[Picture]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, (attribute, says) in _TOTALS.items():
        # Of each query over all of its starts in this run: a counter must not fall.
        totals: dict[str, float] = defaultdict(int)
        for each in pictures:
            if (value := getattr(each.summary, attribute)) is not None:
                totals[each.name] += value
        yield _family(CounterMetricFamily, name, says, totals)
    newest = newest_runs(pictures)
    last = {each.name: each.batches[-1] for each in newest if each.batches}
    for name, (attribute, says) in _LAST.items():
        values = {query: getattr(batch, attribute) for query, batch in last.items()}
        known = {query: value for query, value in values.items() if value is not None}
        yield _family(GaugeMetricFamily, name, says, known)
    began = {query: batch.at.timestamp() for query, batch in last.items()}
    yield _family(GaugeMetricFamily, "last_batch_begin_seconds", "When it began, in Unix time.", began)
    parts = {
        (query, part): getattr(batch, attribute)
        for query, batch in last.items()
        for attribute, part in _PARTS.items()
    }
    yield _family(GaugeMetricFamily, "last_batch_part_seconds", "Parts of that time.", parts, "part")
    said = {
        (each.name, level): sum(one.level == level for one in each.verdicts)
        for each in newest
        for level in ("warn", "bad")
    }
    yield _family(GaugeMetricFamily, "verdicts", "Verdicts on the last batches.", said, "level")


def _family(kind: Any, name: str, says: str, values: Mapping[Any, float], *more: str) -> Metric:
    """Return a metric by the name of the query, and by another label."""
    made: Any = kind(f"sparkstream_{name}", says, labels=["query", *more])
    for labels, value in values.items():
        made.add_metric(labels if more else [labels], value)
    return made  # type: ignore[no-any-return]


LOOPBACK = "127.0.0.1"
_log = logging.getLogger(__name__)
# By what a browser of this machine asks. The port is not compared, as it may be forwarded from another one.
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
_EVERY = 0.25  # seconds from one picture to the next, at least
_BEAT = 2.0  # and at most: silence is a verdict too, and a browser that has gone is noticed
_LAST_WORDS = 2.0  # seconds that an open page may take to be told how the run ended
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/uplot.js": ("uplot.js", "text/javascript"),
    "/uplot.css": ("uplot.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    # No script, style, picture or connection but from this very server, and in no other site's frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass
class Page:
    """What a page shows, and what it can do.

    Attributes:
        board: the queries.
        results: what they have written last.
        stop: ends the run, with what it was ended by.
        spark: the address of Spark's own page.
        begin: the line that a recording of the run begins with.
        token: what all asks for that shows what the run does, or ends it.
        ended: how the run has ended; empty while it goes on.
        over: set when the run has ended.
    """

    board: Board
    results: Results
    stop: Callable[[str], None]
    spark: str | None = None
    begin: str = ""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    ended: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    _failure: str = ""
    _readers: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def end(self, how: str) -> None:
        """Tell who watches how the run has ended, and wait for that a little."""
        self.ended = how
        self.over.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._readers, _LAST_WORDS)

    @contextmanager
    def read(self) -> Iterator[None]:
        """Count who reads, so that the run's end waits for them a little."""
        with self._changed:
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def pictures(self) -> Iterator[str]:
        """Yield what is new for a browser, until the run ends."""
        sent = Sent(self.results)
        for _ in moments(self.board, self.over, every=_EVERY, beat=_BEAT):
            yield self._picture(sent)

    def recording(self) -> Iterator[str]:
        """Yield lines of a recording, from the last batches on until the run ends; empty ones in silence."""
        yield self.begin
        seen = 0
        for _ in moments(self.board, self.over, every=_EVERY, beat=_BEAT):
            new, seen = self.board.since(seen)
            yield "".join(map(batch_line, new)) or "\n"
        yield end_line()

    def _picture(self, sent: Sent) -> str:
        """Return what is new as JSON; an error is shown in its place, and logged once."""
        if self.board.problem:
            return self._failed(self.board.problem)
        try:
            return sent.text(self.board.pictures(), ended=self.ended, spark=self.spark)
        except Exception as err:  # noqa: BLE001 - said, and the run goes on
            return self._failed(innermost_cause(err))

    def _failed(self, said: str) -> str:
        if said != self._failure:
            self._failure = said
            _log.warning("the page of the run shows no queries: %s", said)
        return json.dumps({"error": printable(said), "ended": printable(self.ended)})


class Server(ThreadingHTTPServer):
    """Serves a page to this machine alone, a thread for each browser."""

    daemon_threads = True

    def __init__(self, port: int, page: Page) -> None:
        self.page = page
        folder = resources.files("sparkstream_kit.monitoring") / "web"  # in a zip, too
        self.files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """Take the port; the usual way also asks the machine's name servers for a name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.socket.getsockname()[1]

    def handle_error(self, *_: Any) -> None:
        """Say what went wrong, but not that a browser has gone."""
        err = sys.exception()
        if not isinstance(err, OSError):
            _log.warning("the page of the run could not answer: %s: %s", type(err).__name__, err)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sparkstream", ""
    timeout = 20  # seconds that a browser may neither send nor take anything

    def do_GET(self) -> None:
        """Answer with a file or with the stream of pictures."""
        if not self._is_of_this_machine():
            return
        path = urlsplit(self.path).path
        if path in self.server.files:
            self._answer(HTTPStatus.OK, *self.server.files[path])
        elif path in ("/events", "/record"):
            if self._has_token("to look at the run"):
                self._stream(*self._told(path))
        elif path == "/metrics":
            self._metrics()
        elif path == "/stop":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "to end the run: POST /stop, with the token")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing at this address; the page is at /")

    def do_POST(self) -> None:
        """End the run."""
        if not self._is_of_this_machine():
            return
        if urlsplit(self.path).path != "/stop":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "only /stop takes a POST")
            return
        origin = self.headers.get("Origin")  # each browser says so; a script of this machine does not
        if origin not in (None, f"http://{self.headers['Host']}"):
            self._refuse(HTTPStatus.FORBIDDEN, "a page of another site may not end the run")
            return
        if self._has_token("to end the run"):
            self.server.page.stop("the web page")
            self._answer(HTTPStatus.ACCEPTED, b"the run ends after the batch in flight\n", "text/plain")

    def _has_token(self, what: str) -> bool:
        """Refuse who does not have the token: other users of this machine can open its ports, too."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if secrets.compare_digest(given.encode(), self.server.page.token.encode()):
            return True
        self._refuse(
            HTTPStatus.UNAUTHORIZED,
            f"{what} takes the token of the address that it printed: Authorization: Bearer TOKEN",
        )
        return False

    def _told(self, path: str) -> tuple[str, Iterator[str]]:
        """Return the kind of a stream, and its texts."""
        if path == "/record":
            return "application/jsonl", self.server.page.recording()
        return "text/event-stream", (f"data: {text}\n\n" for text in self.server.page.pictures())

    def _is_of_this_machine(self) -> bool:
        """Refuse a page of another site whose name was made to mean this machine (DNS rebinding)."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) == 1 and _HOST.fullmatch(hosts[0]):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "ask by the printed address: 127.0.0.1 or localhost")
        return False

    def _stream(self, kind: str, texts: Iterator[str]) -> None:
        """Send texts until they end, or until the reader has gone."""
        self._head(HTTPStatus.OK, kind)
        with self.server.page.read():
            for text in texts:
                self.wfile.write(text.encode())

    def _metrics(self) -> None:
        try:
            self._answer(HTTPStatus.OK, *scraped(self.server.page.board, self.headers.get("Accept", "")))
        except MissingExtraError as err:
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, str(err))

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self._head(status, kind, length=len(body))
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._answer(status, f"{why}\n".encode(), "text/plain")

    def _head(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind if "charset=" in kind else f"{kind}; charset=utf-8")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, *_: Any) -> None:
        """Answer a request that is none, in text; the usual page of it repeats what was asked."""
        status = HTTPStatus(code)
        if status == HTTPStatus.NOT_IMPLEMENTED:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self._refuse(status, status.phrase)

    def log_message(self, *_: object) -> None:
        """Log no requests."""


_LAST_PORT = 65535
_LOOK = 0.1  # seconds that the server takes to notice that it is to end


@contextmanager
def served(
    board: Board,
    queries: Sequence[StreamingQuery],
    *,
    port: int,
    stop: Callable[[str], None],
) -> Iterator[None]:
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
            yield
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
