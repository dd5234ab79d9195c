"""Sinks as people write them, each with one defect: a crash loses or doubles rows.

Each is a function of the folder that it writes to, and returns a sink or the function
of a batch. It is named after its defect. `BROKEN` has all of them with the function
that reads the result; `SOUND` has some that are right.
"""

import itertools
import json
import os
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from sparkstream_kit import sinks

SALES = "product STRING, amount INT"
ROWS = [("tea", 2), ("ink", 1), ("tea", 2)]
TOTALS = [("tea", 4), ("ink", 1)]


def expected_of(name):
    """Return the true result of one of the sinks."""
    return TOTALS if name.startswith("totals_") else ROWS


def job(make):
    """Return the job of a sink, or of the function of a batch."""

    def build(sales, folder):
        made = make(folder)
        return sales, (
            made if isinstance(made, sinks.Sink) else sinks.foreach_batch(made)
        )

    return build


def rows_of(batch):
    return [tuple(row) for row in batch.select("product", "amount").collect()]


def lines_of(batch):
    return "".join(f"{product},{amount}\n" for product, amount in rows_of(batch))


def from_table(folder):
    with closing(sqlite3.connect(folder / "t.db")) as db:
        return db.execute("SELECT product, amount FROM sales").fetchall()


def from_lines(folder):
    files = sorted(
        path for path in folder.rglob("*.csv") if not path.name.startswith(".")
    )
    lines = [
        line.split(",") for path in files for line in path.read_text().splitlines()
    ]
    return [(product, int(amount)) for product, amount in lines]


def from_totals(folder):
    return list(json.loads((folder / "totals.json").read_text())[1].items())


def database(folder, **options):
    db = sqlite3.connect(folder / "t.db", **options)
    db.execute("CREATE TABLE IF NOT EXISTS sales (product TEXT, amount INT)")
    db.execute("CREATE TABLE IF NOT EXISTS ledger (query TEXT, batch INT)")
    return closing(db)


def last(db, query=""):
    return db.execute(
        "SELECT coalesce(max(batch), -1) FROM ledger WHERE query = ?", [query]
    ).fetchone()[0]


def insert(db, rows):
    db.executemany("INSERT INTO sales VALUES (?, ?)", rows)


def enter(db, batch_id, query=""):
    db.execute("INSERT INTO ledger VALUES (?, ?)", [query, batch_id])


Broken = tuple["Callable[[Path], Any]", "Callable[[Path], list[tuple[str, int]]]"]
BROKEN: dict[str, Broken] = {}


def of_each_batch(write):
    """Return what makes the function of a batch for a folder, of a function of both."""

    @wraps(write)
    def make(folder):
        return partial(write, folder)

    return make


def broken(make, read=from_table):
    """Enter what makes a sink for a folder; it writes to a table, if it is not said otherwise."""
    BROKEN[make.__name__] = make, read
    return make


def in_a_table(write):
    return broken(of_each_batch(write))


def in_files(write):
    return broken(of_each_batch(write), from_lines)


def add(db, batch, number, query=""):
    insert(db, rows_of(batch))
    enter(db, number, query)


def once(folder, batch, number, query=""):
    """Write a batch and its number in one transaction, unless a batch of that number is there."""
    with database(folder) as db, db:
        if number > last(db, query):
            add(db, batch, number, query)


# In a database.


@in_a_table
def no_ledger(folder, batch, batch_id):
    with database(folder) as db, db:
        insert(db, rows_of(batch))


@in_a_table
def marker_before_data(folder, batch, batch_id):
    with database(folder) as db:
        if batch_id > last(db):
            with db:
                enter(db, batch_id)
            with db:
                insert(db, rows_of(batch))


@in_a_table
def marker_in_a_second_transaction(folder, batch, batch_id):
    with database(folder) as db:
        if batch_id > last(db):
            with db:
                insert(db, rows_of(batch))
            with db:
                enter(db, batch_id)


@in_a_table
def id_of_the_run(folder, batch, batch_id):
    run = batch.sparkSession.sparkContext.getLocalProperty(
        "sql.streaming.runId"
    ) or str(uuid.uuid4())
    once(folder, batch, batch_id, run)


@broken
def number_counted_in_memory(folder):
    number = itertools.count()
    return lambda batch, _: once(folder, batch, next(number))


@in_a_table
def last_batch_is_written_again(folder, batch, batch_id):
    with database(folder) as db, db:
        if batch_id >= last(db):
            add(db, batch, batch_id)


@in_a_table
def first_batch_is_known_already(folder, batch, batch_id):
    with database(folder) as db, db:
        if batch_id > max(last(db), 0):
            add(db, batch, batch_id)


@broken
def only_the_first_batch_is_checked(folder):
    checked: list[int] = []

    def write(batch, batch_id):
        with database(folder) as db, db:
            if checked or batch_id != last(db) or batch_id == 0:
                add(db, batch, batch_id)
            checked.append(batch_id)

    return write


@in_a_table
def error_is_swallowed(folder, batch, batch_id):
    with suppress(Exception):
        once(folder, batch, batch_id)


@in_a_table
def tried_again_without_a_rollback(folder, batch, batch_id):
    with database(folder) as db:
        if batch_id > last(db):
            for _ in range(2):
                with suppress(sqlite3.Error):
                    add(db, batch, batch_id)
                    db.commit()
                    break


@in_a_table
def keys_made_in_the_batch(folder, batch, batch_id):
    rows = [tuple(row) for row in batch.withColumn("id", F.expr("uuid()")).collect()]
    with database(folder) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS ids (id TEXT PRIMARY KEY)")
        for product, amount, made in rows:
            if db.execute("INSERT OR IGNORE INTO ids VALUES (?)", [made]).rowcount:
                insert(db, [(product, amount)])


@in_a_table
def equal_rows_are_one(folder, batch, batch_id):
    with database(folder) as db, db:
        db.execute("CREATE UNIQUE INDEX IF NOT EXISTS one ON sales (product, amount)")
        db.executemany("INSERT OR IGNORE INTO sales VALUES (?, ?)", rows_of(batch))


@broken
def rows_wait_in_memory(folder):
    waiting: list[Any] = []

    def write(batch, batch_id):
        waiting.extend(rows_of(batch))
        with database(folder) as db, db:
            if batch_id > 0 or len(waiting) > 2:
                insert(db, waiting)
                waiting.clear()

    return write


# In files.


def put(file, text, *, mode="w", sync=True):
    with file.open(mode) as opened:
        opened.write(text)
        if sync:
            opened.flush()
            os.fsync(opened.fileno())


def put_in_place(file, text, *, sync=True):
    """Put a file in place whole, by a name beside it."""
    beside = file.with_name(f".{file.name}")
    put(beside, text, sync=sync)
    beside.replace(file)


def marked(folder):
    marker = folder / "last"
    return int(marker.read_text()) if marker.exists() else -1


def mark(folder, batch_id, *, sync=True):
    put_in_place(folder / "last", str(batch_id), sync=sync)


@in_files
def marker_without_sync(folder, batch, batch_id):
    if batch_id > marked(folder):
        put(folder / f"{batch_id}.csv", lines_of(batch))
        mark(folder, batch_id, sync=False)


@in_files
def file_of_a_random_name(folder, batch, batch_id):
    put(folder / f"{uuid.uuid4()}.csv", lines_of(batch))


@in_files
def file_that_exists_is_whole(folder, batch, batch_id):
    if not (file := folder / f"{batch_id}.csv").exists():
        put(file, lines_of(batch))


@in_files
def rename_before_sync(folder, batch, batch_id):
    if not (file := folder / f"{batch_id}.csv").exists():
        put_in_place(file, lines_of(batch), sync=False)


@in_files
def temporary_file_is_added_to(folder, batch, batch_id):
    if not (file := folder / f"{batch_id}.csv").exists():
        put(folder / ".new.csv", lines_of(batch), mode="a")
        (folder / ".new.csv").replace(file)


@in_files
def marker_before_the_rename(folder, batch, batch_id):
    if batch_id > marked(folder):
        put(folder / f".{batch_id}.csv", lines_of(batch))
        mark(folder, batch_id)
        (folder / f".{batch_id}.csv").replace(folder / f"{batch_id}.csv")


def with_totals(put_back, *, checks=True):
    """Return a sink that adds a batch to totals in a file, which it puts back its own way."""

    def make(folder):
        def write(batch, batch_id):
            file = folder / "totals.json"
            last, totals = json.loads(file.read_text()) if file.exists() else (-1, {})
            if batch_id > last or not checks:
                for product, amount in rows_of(batch):
                    totals[product] = totals.get(product, 0) + amount
                put_back(file, json.dumps([batch_id, totals]))

        return write

    return make


def old_one_is_removed(file, text):
    put(file.with_name(".totals.json"), text)
    file.unlink(missing_ok=True)
    file.with_name(".totals.json").replace(file)


# With Spark's own writers, and around the kit's sinks.


@in_files
def spark_adds_files(folder, batch, batch_id):
    batch.write.mode("append").csv(f"{folder}/out")


@broken
def plain_beside_exactly_once(folder):
    exact = sinks.sql_table(f"sqlite:///{folder}/exact.db", "sales")
    return sinks.fan_out(exact, sinks.foreach_batch(no_ledger(folder)))


@broken
def written_on_the_way(folder):
    def add(batch):
        if not batch.isStreaming:  # at the start only its columns are asked for
            no_ledger(folder)(batch, 0)
        return batch

    return sinks.sql_table(f"sqlite:///{folder}/exact.db", "sales").taking(add)


def another_folder_at_each_start(folder):
    return sinks.batch_files(folder / f"out-{uuid.uuid4()}", format="csv")


BROKEN["totals_in_place"] = (with_totals(put), from_totals)
BROKEN["totals_old_one_is_removed"] = (with_totals(old_one_is_removed), from_totals)
BROKEN["totals_without_a_batch"] = (
    with_totals(put_in_place, checks=False),
    from_totals,
)
broken(another_folder_at_each_start, from_lines)
assert len(BROKEN) == 26, "one of them has lost its decorator, or is new"


# The same without a defect.


@of_each_batch
def file_replaced_whole(folder, batch, batch_id):
    put_in_place(folder / f"{batch_id}.csv", lines_of(batch))


SOUND: dict[str, Broken] = {
    "ledger_in_one_transaction": (of_each_batch(once), from_table),
    "file_replaced_whole": (file_replaced_whole, from_lines),
    "totals_replaced": (with_totals(put_in_place), from_totals),
}
