"""Run a Kafka broker to try things on, with sales coming in; Ctrl-C ends it, and its data goes with it."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from systems.conftest import jars
from systems.kafka import Broker

from sparkstream_kit import feeds

TOPIC = "sales"
NEXT = """\
Kafka runs at {servers}. Each second two sales come into its topic {topic}, as JSON. To read them,
type in another terminal:

  cd {here}
  . .venv/bin/activate
  export SPARKSTREAM_JARS={jars}
  python
  >>> from sparkstream_kit import get_session, run, sinks, sources, start
  >>> spark = get_session("sales", connectors=["kafka"])
  >>> lines = sources.kafka(spark, "{servers}", "{topic}")
  >>> run(start(lines.select("value"), sinks.console(), name="sales"), run_for=30)

Ctrl-C here ends the broker, and removes its data.
"""


def main() -> int:
    """Start the broker and feed it until a signal comes."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    broker = Broker(jars("kafka"))
    try:
        broker.topic(TOPIC, 2)
        here = Path(__file__).parent.parent
        print(NEXT.format(servers=broker.servers, topic=TOPIC, here=here, jars=jars("spark")), flush=True)
        for row in itertools.cycle(feeds.sales_rows(1000, seed=7)):
            if over.wait(0.5):
                break
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            broker.send(TOPIC, [json.dumps({"ProductKey": row[9], "SaleAmount": row[5], "sold": now})])
    finally:
        broker.stop()
        broker.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
