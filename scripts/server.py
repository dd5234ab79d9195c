"""Run a server to try things on, `kafka` or `kinesis`, with sales coming in, until Ctrl-C."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# Whose fixtures start the same servers
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from systems.conftest import jars
from systems.daemons import listens
from systems.kafka import Broker
from systems.kinesis import REGION, Server

from sparkstream_kit import feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Send = Callable[[str, str], object]  # a key and a text

NEXT = """\
{what}. Each second two sales come into its {where} sales, as lines of CSV{more}.
To read them, type in another terminal:

  cd {root}
  . .venv/bin/activate
  export {exports}
  python
  >>> from sparkstream_kit import get_session, run, sinks, sources, start
  >>> spark = get_session({session})
  >>> lines = {source}
  >>> run(start(lines.select("value"), sinks.console(), name="sales"), run_for=30)
{job}
Ctrl-C here ends the server, and removes its data.
"""


@contextmanager
def kafka() -> Iterator[tuple[Send, dict[str, str]]]:
    """Run a Kafka broker; give what sends a sale to it, and what to type to read them."""
    # Kafka's own, as the pages have it
    broker = Broker(jars("kafka"), port=0 if _in_use(9092) else 9092)
    try:
        for topic in ("sales", "lines"):
            broker.topic(topic, 2)

        def send(key: str, text: str) -> None:
            broker.send("sales", [text])
            broker.send("lines", [key])

        yield (
            send,
            {
                "what": f"Kafka runs at {broker.servers}",
                "where": "topic",
                "more": ", and their products into its topic lines",
                "job": (
                    f"""
Or run a job on them:

  python jobs/sales_totals.py --kafka {broker.servers} --topic sales --run-for 30
  python jobs/kafka_word_count.py --kafka {broker.servers} --topic lines --run-for 30
"""
                ),
                "exports": f"SPARKSTREAM_JARS={jars('spark')}",
                "session": '"sales", connectors=["kafka"]',
                "source": f'sources.kafka(spark, "{broker.servers}", "sales")',
            },
        )
    finally:
        broker.stop()
        broker.remove()


@contextmanager
def kinesis() -> Iterator[tuple[Send, dict[str, str]]]:
    """Run a server of Kinesis's protocol, as `kafka` does."""
    server = Server()
    login = "AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any"
    try:
        server.start()
        server.create("sales", 2)
        yield (
            lambda key, text: server.put("sales", [(key, text)]),
            {
                "what": f"A server of Kinesis's protocol runs at {server.url}",
                "where": "stream",
                "more": "",
                "job": "",
                "exports": (
                    f"{login} AWS_DEFAULT_REGION={REGION} AWS_ENDPOINT_URL={server.url}"
                ),
                "session": '"sales"',
                "source": 'sources.kinesis(spark, "sales")',
            },
        )
    finally:
        server.stop()


def _in_use(port: int) -> bool:
    try:
        return bool(listens(port))
    except OSError:
        return False


def main() -> None:
    """Start the server that is named, and feed it until a signal comes."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with {"kafka": kafka, "kinesis": kinesis}[sys.argv[1]]() as (send, facts):
        print(NEXT.format(root=Path(__file__).parent.parent, **facts), flush=True)
        for row in itertools.cycle(feeds.sales_rows(1000, seed=7)):
            if over.wait(0.5):
                break
            send(row[9], feeds.csv_line(row))


if __name__ == "__main__":
    main()
