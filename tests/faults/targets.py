"""Where a job writes, which batches are there, and what they add up to.

It is read without Spark where one may.
"""

import functools
import json
import os
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import sqlalchemy as sa
from deltalake import DeltaTable
from faults.drivers import JOBS, SCRIPTS, no_stack_trace
from faults.sales import Events, Sales, Totals
from support import iceberg as support_iceberg
from support.batch_folders import rows_in

ONE_FILE = ("--max-files-per-trigger", 1)  # a batch
QUICK = ("--profile", "test")  # a launch costs less without Spark's web pages


@dataclass(frozen=True)
class Sink:
    """What a job writes to.

    Attributes:
        last: returns the last batch that is in it; -1 before the first.
        totals: returns what is in it.
        truth: returns what should be, for the first so many files or for all that have
            landed.
    """

    last: Callable[[], int]
    totals: Callable[[], Totals]
    truth: Callable[..., Totals]


@dataclass(frozen=True)
class Target:
    """A job that is to be killed: its command, its checkpoint, and all that it writes to."""

    command: tuple[Any, ...]
    checkpoint: Path
    sinks: tuple[Sink, ...]

    def has(self, batch):
        """Say whether a batch is in every sink."""
        return all(sink.last() >= batch for sink in self.sinks)

    def planned(self):
        """Return the last batch whose plan is in the checkpoint."""
        return newest(self.checkpoint / "offsets")

    def files_until(self, batch):
        """Return how many files had been read at the end of a batch.

        Where a kill came between two files, a batch has both.
        """
        if batch < 0:
            return 0
        offset: int = json.loads(
            (self.checkpoint / "offsets" / str(batch)).read_text().split("\n")[2]
        )["logOffset"]
        return offset + 1

    def committed(self, batch):
        """Say whether a batch is committed."""
        return (self.checkpoint / "commits" / str(batch)).exists()


def newest(folder):
    """Return the highest number in the names of a folder: 5, 5.compact, batch=000005."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = (re.fullmatch(r"(?:batch=)?(\d+)(?:\.compact)?", name) for name in names)
    return max((int(match[1]) for match in found if match), default=-1)


def clean_files(folder, *, out=None):
    """The job `sales_clean`: good and bad rows in a directory a batch."""
    sales, out, checkpoint = (
        Sales(folder / "in", broken=True),
        out or folder / "out",
        folder / "ckpt",
    )

    def good():
        return added_up(
            (row["ProductKey"], row["SaleAmount"]) for row in rows_in(out / "good")
        )

    def bad():
        rows = (row["_raw"].partition(",") for row in rows_in(out / "bad"))
        return added_up((key, Decimal(number)) for key, _, number in rows)

    command = (
        JOBS / "sales_clean.py",
        sales.folder,
        out,
        "--checkpoint",
        checkpoint,
        *QUICK,
        *ONE_FILE,
    )
    both = (
        Sink(lambda: newest(out / "good"), good, sales.totals),
        Sink(lambda: newest(out / "bad"), bad, sales.broken),
    )
    return sales, Target(command, checkpoint, both)


def spark_files(folder, spark):
    """Spark's own file sink, which promises exactly once to those who read through Spark."""
    sales, out, checkpoint = Sales(folder / "in"), folder / "out", folder / "ckpt"

    def totals():
        rows = spark.read.parquet(str(out)).collect() if sink.last() >= 0 else []
        return added_up((row["ProductKey"], row["SaleAmount"]) for row in rows)

    command = (
        SCRIPTS / "sales_to.py",
        "files",
        out,
        sales.folder,
        checkpoint,
        *ONE_FILE,
    )
    sink = Sink(lambda: newest(out / "_spark_metadata"), totals, sales.totals)
    return sales, Target(command, checkpoint, (sink,))


def database(folder, url, how="replace", *, checkpoint=None, rows=50):
    """A table of a database: `sales_totals` replaces it, `sales_to.py` inserts or upserts."""
    sales, checkpoint = Sales(folder / "in", rows=rows), checkpoint or folder / "ckpt"
    command: tuple[Any, ...] = (
        SCRIPTS / "sales_to.py",
        how,
        url,
        sales.folder,
        checkpoint,
    )
    if how == "replace":
        # The job takes no password from its command line
        os.environ["KIT_DATABASE"] = url
        flags = ("--checkpoint", checkpoint, "--database", "env:KIT_DATABASE", *QUICK)
        command = (JOBS / "sales_totals.py", sales.folder, *flags)
    select = {
        "replace": 'SELECT "ProductKey", "Orders", "TotalSales" FROM sales_totals',
        "upsert": 'SELECT "key", orders, total FROM sales_totals',
        "append": 'SELECT "ProductKey", "SaleAmount" FROM sales',
    }[how]

    def totals():
        rows = query(url, select)
        if how == "append":
            return added_up((key, Decimal(amount)) for key, amount in rows)
        return sorted((key, orders, Decimal(total)) for key, orders, total in rows)

    return sales, Target(
        (*command, *ONE_FILE),
        checkpoint,
        (Sink(partial(last_in_ledger, url), totals, sales.totals),),
    )


def delta(folder, how="replace", *, connectors=()):
    """A Delta table, which `sales_to.py` replaces, appends to or upserts into."""
    sales, out, checkpoint = Sales(folder / "in"), folder / "out", folder / "ckpt"
    command: tuple[Any, ...] = (
        SCRIPTS / "sales_to.py",
        f"delta-{how}",
        out,
        sales.folder,
        checkpoint,
    )
    if connectors:
        command = (*command, "--connectors", *connectors)

    def totals():
        if sink.last() < 0:
            return []
        table = DeltaTable(out)
        said = [commit.get("userMetadata") for commit in reversed(table.history())]
        batches = [json.loads(each)["batch"] for each in said if each]
        if how == "replace":  # writes a replayed batch once more
            batches = [*dict.fromkeys(batches)]
        assert batches == list(range(sink.last() + 1))
        files = [uri.removeprefix("file://") for uri in table.file_uris()]
        rows = [
            tuple(row.values())
            for file in files
            for row in pq.read_table(file).to_pylist()
        ]
        return added_up(row[-2:] for row in rows) if how == "append" else sorted(rows)

    sink = Sink(lambda: last_in_delta(out), totals, sales.totals)
    return sales, Target((*command, *ONE_FILE), checkpoint, (sink,))


def by_value(folder):
    """A table of SQLite for each state that occurs in the sales."""
    sales, checkpoint, url = (
        Sales(folder / "in"),
        folder / "ckpt",
        f"sqlite:///{folder}/t.db",
    )

    def totals():
        names = query(url, "SELECT table_name FROM sparkstream_ledger")
        tables = (
            f'SELECT "ProductKey", "SaleAmount" FROM "{name}"'  # noqa: S608 - ours
            for (name,) in names
        )
        return added_up(
            (key, Decimal(amount))
            for each in tables
            for key, amount in query(url, each)
        )

    command = (
        SCRIPTS / "sales_to.py",
        "values",
        url,
        sales.folder,
        checkpoint,
        *ONE_FILE,
    )
    return sales, Target(
        command, checkpoint, (Sink(partial(last_in_ledger, url), totals, sales.totals),)
    )


def is_between(target, batch):
    """Say whether a batch of `by_value` is in some of its tables, and not in all."""
    noted, url = target.checkpoint / "sparkstream-kit/values/State", target.command[2]
    values = (
        [each for each in json.loads(noted.read_text()) if each[1] == batch]
        if noted.exists()
        else []
    )
    has = query(
        url,
        f"SELECT count(*) FROM sparkstream_ledger WHERE batch_id = {batch}",  # noqa: S608 - ours
    )
    return bool(has) and 0 < has[0][0] < len(values)


def iceberg(folder, how="replace", *, lake=None):
    """An Iceberg table, which `sales_to.py` replaces, appends to or upserts into."""
    sales, lake, checkpoint = (
        Sales(folder / "in"),
        lake or folder / "lake",
        folder / "ckpt",
    )
    command = (
        SCRIPTS / "sales_to.py",
        f"iceberg-{how}",
        lake,
        sales.folder,
        checkpoint,
    )

    def totals():
        if sink.last() < 0:
            return []
        rows = support_iceberg.rows(lake)
        return added_up(row[-2:] for row in rows) if how == "append" else rows

    sink = Sink(lambda: support_iceberg.last_batch(lake), totals, sales.totals)
    return sales, Target((*command, *ONE_FILE), checkpoint, (sink,))


def last_in_ledger(url, table="%"):
    """Return the last batch that is in a table of a database."""
    rows = query(
        url,
        f"SELECT max(batch_id) FROM sparkstream_ledger WHERE table_name LIKE '{table}'",  # noqa: S608 - ours
    )
    return -1 if not rows or rows[0][0] is None else int(rows[0][0])


def last_in_delta(table):
    """Return the last batch that is in a table, by its newest commit.

    To open the table would take longer.
    """
    for commit in sorted((table / "_delta_log").glob("*.json"), reverse=True):
        for line in commit.read_text().splitlines():
            if said := json.loads(line).get("commitInfo", {}).get("userMetadata"):
                return int(json.loads(said)["batch"])
    return -1


def events(folder, url):
    """The job `events_to_postgres`: each event once in one table, bad lines in another."""
    shop, checkpoint = Events(folder / "in"), folder / "ckpt"
    os.environ["KIT_DATABASE"] = url  # the job takes no password from its command line

    def good():
        return added_up(
            (kind, Decimal(price))
            for kind, price in query(url, "SELECT type, price FROM events")
        )

    def bad():
        rows = (
            raw.partition(",") for (raw,) in query(url, "SELECT _raw FROM events_bad")
        )
        return added_up((key, Decimal(number)) for key, _, number in rows)

    flags = (
        "--checkpoint",
        checkpoint,
        "--database",
        "env:KIT_DATABASE",
        *QUICK,
        *ONE_FILE,
    )
    both = (
        Sink(partial(last_in_ledger, url, "events"), good, shop.totals),
        Sink(partial(last_in_ledger, url, "events_bad"), bad, shop.broken),
    )
    return shop, Target(
        (JOBS / "events_to_postgres.py", shop.folder, *flags), checkpoint, both
    )


def finish(target, launch):
    """Let the job come to the end of its input, and hold the result against the truth."""
    driver = launch(
        "python", *target.command, "--available-now", "--max-files-per-trigger", 1000
    )
    assert driver.ended() == 0, driver.errors
    no_stack_trace(driver)
    for sink in target.sinks:
        assert sink.totals() == sink.truth()


def keep_going(driver, target, sales):
    """Land a file more if all are through: the moment that a test looks for lasts milliseconds."""
    batch = target.planned()
    if target.committed(batch) and target.files_until(batch) == sales.files:
        sales.land(1)
    assert driver.running, driver.errors
    time.sleep(0.0005)  # between looks, within the limit of who looks


def nothing_halved(target):
    """See that a reader finds whole batches after a kill, up to the last one, and none twice."""
    for sink in target.sinks:
        assert sink.totals() == sink.truth(files=target.files_until(sink.last()))


def query(url, statement):
    """Return the rows of a statement; none if the table is not there yet, or SQLite is locked."""
    try:
        if url.startswith("sqlite"):
            with closing(
                sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)
            ) as file:
                return file.execute(statement).fetchall()
        return _connection(url).exec_driver_sql(statement).fetchall()
    except sqlite3.OperationalError:
        return []
    except sa.exc.ProgrammingError as err:
        if not re.search(r"UndefinedTable|\(1146, ", str(err)):
            raise
        return []


def disconnect():
    """Forget the connections: their server has been stopped."""
    _connection.cache_clear()


@functools.cache  # a look must be quick: what is looked for lasts some ten milliseconds
def _connection(url):
    quotes = {"sql_mode": "ANSI_QUOTES"} if url.startswith("mariadb") else {}
    how = {
        "isolation_level": "AUTOCOMMIT",
        "execution_options": {"no_parameters": True},
    }
    return sa.create_engine(url, connect_args=quotes, **how).connect()


def added_up(rows):
    """Return counts and sums by product."""
    amounts = defaultdict(list)
    for key, amount in rows:
        amounts[key].append(amount)
    return sorted(
        (key, len(each), sum(each, Decimal("0.00"))) for key, each in amounts.items()
    )
