"""A server of posts in the formats of X and Mastodon that also cuts, stalls, repeats and limits.

What it sends is as their documentation has it: for X "Consuming streaming data" (lines
of JSON that end in \\r\\n, an empty line as a sign of life) and "Rate limits"; for
Mastodon "streaming API methods" (events and comments, `:)` first and `:thump` later)
and "timelines API methods" (`min_id`, the newest first).
"""

import http.server
import json
import random
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field

TOKEN = "sesame-open-7f3a"  # noqa: S105 - of this server alone
START = 1_700_000_000_000  # milliseconds since 1970, of the first post


@dataclass
class Site:
    """What the server has, and how it behaves.

    Attributes:
        rate: posts a second.
        ids: the id of each post by its number, as the network makes them.
        hostile: connections are limited, cut in the middle of a line, stalled, and
            posts come twice.
        left_out: posts by their numbers that the timeline does not give, so that its
            page is shorter.
        slow: seconds that each page of the timeline takes.
        answers: for the next connections to a stream, what each gets in place of the
            posts; a function that is given the handler.
    """

    rate: float = 0.0
    ids: Callable[[int], int] = lambda number: 10**17 + number
    hostile: bool = False
    left_out: frozenset[int] = frozenset()
    slow: float = 0.0
    answers: list[Callable[["Handler"], object]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def published(self):
        """Return how many posts there are by now."""
        return int((time.monotonic() - self.began) * self.rate)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1


def scattered(number):
    """Return ids that rise, and say nothing of how many posts there are."""
    return 10**17 + 1000 * number + random.Random(number).randrange(900)  # noqa: S311


def federated(number):
    """Return ids as Mastodon makes them, by time of writing; some come later than they rank."""
    late = 300 if number % 10 == 0 else 0
    return ((START + 5 * number - late) << 16) + number % 65536


def post(site, number):
    """Return a post as both networks have it."""
    moment = time.strftime(
        "%Y-%m-%dT%H:%M:%S", time.gmtime((START + 5 * number) / 1000)
    )
    text = f"post {number} #tag{number % 7} é☃"
    return {"id": str(site.ids(number)), "created_at": f"{moment}.000Z", "text": text}


def tweet(site, number):
    return json.dumps(
        {"data": post(site, number), "matching_rules": [{"id": "1", "tag": "t"}]},
        ensure_ascii=False,
    )


def status(site, number):
    made = post(site, number)
    content = f"<p>{made.pop('text')}</p>"
    return {
        **made,
        "content": content,
        "tags": [{"name": f"tag{number % 7}"}],
        "reblog": None,
    }


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.site.asked.append((self.path, dict(self.headers)))
        if (
            url.path == "/open"
            or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        ):
            routes = {
                "/2/tweets/search/stream": self.tweets,
                "/api/v1/streaming/public": self.statuses,
                "/api/v1/timelines/public": self.timeline,
                "/open": self.tweets,
            }
            with_query = dict(urllib.parse.parse_qsl(url.query))
            answer = routes.get(url.path)
            try:
                if answer is None:
                    self.whole(404, {"error": "Not found"})
                elif self.site.answers and answer != self.timeline:
                    self.site.answers.pop(0)(self)
                else:
                    answer(with_query)
            except OSError:  # the client has gone
                self.site.count("gone")
        elif "streaming" in url.path:
            self.whole(401, {"error": "Invalid access token"})
        else:
            # A server may repeat what it got
            detail = f"Unauthorized: {self.headers.get('Authorization')}"
            self.whole(
                401,
                {
                    "title": "Unauthorized",
                    "type": "about:blank",
                    "status": 401,
                    "detail": detail,
                },
            )

    def whole(self, code, body, kind="application/json", **headers):
        """Answer with a whole body."""
        text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def begin(self, kind):
        """Begin a stream."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def send(self, data):
        """Send a part of a stream."""
        part = data.encode() if isinstance(data, str) else data
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.flush()

    def end(self):
        """End a stream in order."""
        self.wfile.write(b"0\r\n\r\n")

    def cut(self):
        """End a stream as a broken network does."""
        self.site.count("cut")
        self.wfile.flush()
        self.connection.close()

    def tweets(self, _query):
        reset = str(int(time.time()) + 1)
        if self.site.hostile and random.random() < 0.15:  # noqa: S311
            self.site.count("limited")
            self.whole(
                429,
                {"title": "Too Many Requests", "status": 429},
                x_rate_limit_reset=reset,
            )
            return
        self.begin("application/json; charset=utf-8")
        self._run(lambda number: tweet(self.site, number) + "\r\n", "\r\n")

    def statuses(self, _query):
        self.begin("text/event-stream")
        self.send(":)\n")
        time.sleep(0.1)  # it listens for new posts a little after it has answered
        self._run(
            lambda number: (
                f"event: update\ndata: {json.dumps(status(self.site, number))}\n\n"
            ),
            ":thump\n",
        )

    def _run(self, written, beat):
        """Send what is published from now on."""
        site, pick = self.site, random.Random()  # noqa: S311
        number, end = site.published(), time.monotonic() + pick.uniform(1, 4)
        while not site.hostile or time.monotonic() < end:
            while number < site.published():
                data = written(number).encode()
                twice = site.hostile and pick.random() < 0.02
                place = pick.randrange(len(data))  # chunks end anywhere
                for part in (data[:place], data[place:]) if place else (data,):
                    self.send(part)
                if twice:
                    site.count("twice")
                    self.send(data)
                number += 1
            if pick.random() < 0.05:
                self.send(beat)
            time.sleep(0.02)  # the posts come by the clock
        if pick.random() < 0.5:
            self.send(written(number).encode()[:40])
            self.cut()
        elif pick.random() < 0.5:
            site.count("stalled")
            time.sleep(20)  # longer than the test's limit for a silence
        else:
            self.end()

    def timeline(self, query):
        """Answer with the posts right after `min_id`, or else the last ones; the newest first."""
        site, limit = self.site, min(int(query.get("limit", 20)), 40)
        if site.hostile and random.random() < 0.03:  # noqa: S311
            self.whole(429, {"error": "Too many requests"}, Retry_After="1")
            return
        time.sleep(site.slow)
        after = int(query.get("min_id", 0))
        newer = sorted(
            (number for number in range(site.published()) if site.ids(number) > after),
            key=site.ids,
        )
        page = newer[:limit] if "min_id" in query else newer[-limit:]
        # As Mastodon does with posts of those whom a user has blocked.
        page = [number for number in page if number not in site.left_out]
        self.whole(200, [status(site, number) for number in page[::-1]])


def streaming(kind, parts, *, cut=False):
    """Return an answer that sends these parts."""

    def answer(handler):
        handler.begin(kind)
        for part in parts:
            handler.send(part)
        if cut:
            handler.cut()
        else:
            handler.end()

    return answer


class PostsServer:
    """The server, on a free port, in threads of this process.

    Args:
        site: what it has.
        certificate: a file with a certificate for `localhost` and its key; the server
            then speaks TLS.
    """

    def __init__(self, site, certificate=None):
        self.site = site
        handler = type("SiteHandler", (Handler,), {"site": site})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True
            )
            self.url = f"https://localhost:{self._server.server_address[1]}"
        self.x = f"{self.url}/2/tweets/search/stream"
        self.mastodon = f"{self.url}/api/v1/streaming/public"
        threading.Thread(
            target=self._server.serve_forever, args=[0.05], daemon=True
        ).start()

    def close(self):
        """Take no more connections."""
        self._server.shutdown()
        self._server.server_close()
