"""Run a server of Kinesis's protocol to try things on, with sales coming in; Ctrl-C ends it."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from systems.kinesis import REGION, Server

from sparkstream_kit import feeds

STREAM = "sales"
NEXT = """\
Kinesis's protocol is spoken at {url}. Each second two sales come into the stream {stream}, as JSON. To read
them, type in another terminal:

  cd {here}
  . .venv/bin/activate
  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION={region} AWS_ENDPOINT_URL={url}
  python
  >>> from sparkstream_kit import get_session, run, sinks, sources, start
  >>> spark = get_session("sales")
  >>> lines = sources.kinesis(spark, "{stream}")
  >>> run(start(lines.select("value"), sinks.console(), name="sales"), run_for=30)

Ctrl-C here ends the server, and removes its data.
"""


def main() -> int:
    """Start the server and feed it until a signal comes."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    server = Server()
    try:
        server.start()
        server.create(STREAM, 2)
        here = Path(__file__).parent.parent
        print(NEXT.format(url=server.url, stream=STREAM, here=here, region=REGION), flush=True)
        for row in itertools.cycle(feeds.sales_rows(1000, seed=7)):
            if over.wait(0.5):
                break
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            sale = {"ProductKey": row[9], "SaleAmount": row[5], "sold": now}
            server.put(STREAM, [(row[9], json.dumps(sale))])
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
