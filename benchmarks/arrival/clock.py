"""Sends numbered rows at a rate, and looks when each can be read from the target of a stream.

Run: clock.py kafka|files SERVERS_OR_FOLDER TOPIC delta|sql TARGET ROWS_A_SECOND
SECONDS; prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.02  # seconds from one record, or group of records, to the next
A_FILE = 0.2  # seconds from one file to the next
WARM = 20  # seconds in which the JVM compiles what runs often: they do not count
LEFT = 60  # seconds to wait for the last row


def to_kafka(servers: str, topic: str) -> Callable[[range], None]:
    """Return what sends rows as JSON records."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 0,
            "queue.buffering.max.messages": 500_000,
        }
    )

    def send(numbers: range) -> None:
        for number in numbers:
            producer.produce(
                topic, b'{"id": %d, "amount": %d}' % (number, number % 100)
            )
        producer.poll(0)

    return send


def to_files(folder: str) -> Callable[[range], None]:
    """Return what writes rows into a file of JSON lines, and renames it."""

    def send(numbers: range) -> None:
        hidden = Path(folder, f".{numbers.start:012}.json")
        hidden.write_text(
            "".join(f'{{"id": {n}, "amount": {n % 100}}}\n' for n in numbers)
        )
        hidden.rename(Path(folder, hidden.name[1:]))

    return send


def in_delta(folder: str) -> Callable[[], int]:
    """Return a function that reads how many rows a Delta table's log has committed.

    An entry of the log names the highest number of its rows.
    """
    version, seen = 0, 0

    def read() -> int:
        nonlocal version, seen
        while (entry := Path(folder, "_delta_log", f"{version:020}.json")).exists():
            added = [
                json.loads(line).get("add") for line in entry.read_text().splitlines()
            ]
            stats = [json.loads(each["stats"]) for each in added if each]
            seen = max(
                [
                    seen,
                    *(
                        each["maxValues"]["id"] + 1
                        for each in stats
                        if each["numRecords"]
                    ),
                ]
            )
            version += 1
        return seen

    return read


def in_sql(url: str) -> Callable[[], int]:
    """Return what asks for the highest number in the table `arrivals`, which is its primary key."""
    import sqlalchemy as sa

    connection = sa.create_engine(url, isolation_level="AUTOCOMMIT").connect()
    query = sa.text("SELECT max(id) FROM arrivals")

    def read() -> int:
        last = connection.execute(query).scalar()
        return 0 if last is None else int(last) + 1

    return read


def main() -> None:
    """Send and look, by turns, until each row has arrived."""
    source, place, topic, kind, target, *numbers = sys.argv[1:]
    rate, seconds = map(int, numbers)
    send = to_kafka(place, topic) if source == "kafka" else to_files(place)
    read = in_delta(target) if kind == "delta" else in_sql(target)
    tick = TICK if source == "kafka" else A_FILE
    total = rate * (seconds + WARM)
    sent, took = np.zeros(total), np.zeros(total)
    done = seen = 0
    begun = time.perf_counter()
    deadline = begun + seconds + WARM + LEFT
    while seen < total:
        now = time.perf_counter()
        if now > deadline:
            raise SystemExit(f"{seen} of {total} rows have arrived")
        due = min(total, int((now - begun) // tick * tick * rate))
        if due > done:
            send(range(done, due))
            sent[done:due] = time.perf_counter() if source == "files" else now
            done = due
        arrived = min(read(), done)
        took[seen:arrived] = time.perf_counter() - sent[seen:arrived]
        seen = max(seen, arrived)
        time.sleep(0.002)
    counted = took[rate * WARM :] * 1000
    curve = [round(float(np.median(part))) for part in np.array_split(counted, 10)]
    p50, p95, p99 = (
        round(float(value)) for value in np.percentile(counted, [50, 95, 99])
    )
    result = {
        "rows": total,
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "most": round(float(counted.max())),
        "curve": curve,
    }
    os.write(1, (json.dumps(result) + "\n").encode())


if __name__ == "__main__":
    main()
