"""Sales written to a system, their truth, and drivers killed while they read them."""

import json
import random
import threading
import time
from collections import Counter
from typing import Any

from support.batch_folders import rows_in
from support.sql import sql
from systems.conftest import ROUNDS

from sparkstream_kit import sinks, start

_REGIONS = ("north", "south", "east", "west")


class Sales:
    """Sales that are numbered from 0, and their truth; each is a line of JSON.

    Args:
        send: writes lines; what else `sell` is given goes to it.
    """

    def __init__(self, send):
        self._send, self.number = send, 0

    def sell(self, number, **more):
        """Write some more."""
        self._send(
            [
                json.dumps(_sale(each))
                for each in range(self.number, self.number + number)
            ],
            **more,
        )
        self.number += number

    def check(self, folder, database, query):
        """Compare what a driver has written with the truth.

        Rows in files are compared one by one, those in a table by region.
        """
        made = list(map(_sale, range(self.number)))
        assert sorted(rows_in(folder / "rows"), key=lambda row: row["id"]) == made
        counts, cents = Counter(row["region"] for row in made), Counter[str]()
        for row in made:
            cents[row["region"]] += row["cents"]
        found = sql(f"sqlite:///{folder}/{database}", query)
        assert sorted(found) == sorted(
            (region, counts[region], cents[region]) for region in counts
        )


class Reader:
    """A query, and the ids that it has read, by batch.

    Args:
        frame: the rows that it reads, each with a sale as JSON in its column `value`.
        checkpoint: that of the query.
        trigger: how it runs; without one it goes on and on.
    """

    def __init__(self, frame, checkpoint, **trigger):
        self.batches: dict[int, list[int]] = {}

        def keep(batch, number):
            assert number not in self.batches
            self.batches[number] = [
                json.loads(row.value)["id"] for row in batch.collect()
            ]

        trigger = trigger or {"processingTime": "0 seconds"}
        sink = sinks.foreach_batch(keep)
        self.query: Any = start(
            frame, sink, name="reader", checkpoint=checkpoint, **trigger
        )

    @property
    def ids(self):
        return [each for ids in list(self.batches.values()) for each in ids]

    def has(self, sales, first=0):
        """Say whether it has read all from a first one on, each once."""
        assert self.query.isActive, self.query.exception()
        assert len(self.ids) == len(set(self.ids))
        return sorted(self.ids) == list(range(first, sales.number))

    def stop(self):
        """Stop it when its last batch is committed; cut before that, the batch would come again."""
        self.query.processAllAvailable()
        self.query.stop()


def _sale(number):
    return {"id": number, "region": _REGIONS[number % 4], "cents": number % 997}


def kill_at_random_times(start, sales, checkpoint, change=None):
    """Start drivers that read sales while some are sold, and kill each of them.

    Args:
        start: starts a driver.
        sales: what is sold.
        checkpoint: by its lock it shows that the driver has begun.
        change: called in each round with its number, when its sales are written; else
            the kill comes before.
    """
    pick, lock = (
        random.Random(20),  # noqa: S311 - times, not secrets
        checkpoint / "sparkstream-kit" / "lock",
    )
    for number in range(ROUNDS):
        sales.sell(1000)
        driver = start()
        named = f": {driver.pid}, "
        while not (lock.exists() and named in lock.read_text()):  # it has begun
            assert driver.running, driver.errors
            time.sleep(0.02)  # between looks
        selling = threading.Thread(target=sales.sell, args=(1000,))
        selling.start()
        # The moment of the kill, which no condition picks
        time.sleep(pick.uniform(0, 4))
        if change:
            selling.join()
            change(number)
        driver.kill(pick.choice(["group", "python", "jvm"]))
        selling.join()
