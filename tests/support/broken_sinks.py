"""Sinks as people write them, each with one defect: a crash at the right moment loses or doubles rows.

Each is a function of the folder that it writes to, and returns a sink or the function of a batch. It is named
after its defect. `BROKEN` has all of them with the function that reads the result; `SOUND` has some that are
right.
"""

import itertools
import json
import os
import sqlite3
import time
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
        return sales, made if isinstance(made, sinks.Sink) else sinks.foreach_batch(made)

    return build


def rows_of(batch):
    return [tuple(row) for row in batch.select("product", "amount").collect()]


def lines_of(batch):
    return "".join(f"{product},{amount}\n" for product, amount in rows_of(batch))


def from_table(folder):
    with closing(sqlite3.connect(folder / "t.db")) as db:
        return db.execute("SELECT product, amount FROM sales").fetchall()


def from_lines(folder):
    files = sorted(path for path in folder.rglob("*.csv") if not path.name.startswith("."))
    lines = [line.split(",") for path in files for line in path.read_text().splitlines()]
    return [(product, int(amount)) for product, amount in lines]


def from_totals(folder):
    return list(json.loads((folder / "totals.json").read_text())[1].items())


def database(folder, **options):
    db = sqlite3.connect(folder / "t.db", **options)
    db.execute("CREATE TABLE IF NOT EXISTS sales (product TEXT, amount INT)")
    db.execute("CREATE TABLE IF NOT EXISTS ledger (query TEXT, batch INT)")
    return closing(db)


def last(db, query=""):
    return db.execute("SELECT coalesce(max(batch), -1) FROM ledger WHERE query = ?", [query]).fetchone()[0]


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


def once(folder, batch, number, query=""):
    """Write a batch and its number in one transaction, unless a batch of that number is there."""
    with database(folder) as db, db:
        if number > last(db, query):
            insert(db, rows_of(batch))
            enter(db, number, query)


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
def two_transactions_of_rows(folder, batch, batch_id):
    rows = rows_of(batch)
    with database(folder) as db:
        if batch_id > last(db):
            with db:
                insert(db, rows[:1])
            with db:
                insert(db, rows[1:])
                enter(db, batch_id)


@in_a_table
def ledger_in_another_database(folder, batch, batch_id):
    with database(folder) as db, closing(sqlite3.connect(folder / "ledger.db")) as other:
        other.execute("CREATE TABLE IF NOT EXISTS ledger (query TEXT, batch INT)")
        if batch_id > last(other):
            with db:
                insert(db, rows_of(batch))
            with other:
                enter(other, batch_id)


@in_a_table
def ledger_in_another_database_first(folder, batch, batch_id):
    with database(folder) as db, closing(sqlite3.connect(folder / "ledger.db")) as other:
        other.execute("CREATE TABLE IF NOT EXISTS ledger (query TEXT, batch INT)")
        if batch_id > last(other):
            with other:
                enter(other, batch_id)
            with db:
                insert(db, rows_of(batch))


@in_a_table
def every_statement_commits(folder, batch, batch_id):
    with database(folder, isolation_level=None) as db:
        if batch_id > last(db):
            insert(db, rows_of(batch))
            enter(db, batch_id)


@in_a_table
def every_statement_commits_the_ledger_first(folder, batch, batch_id):
    with database(folder, isolation_level=None) as db:
        if batch_id > last(db):
            enter(db, batch_id)
            insert(db, rows_of(batch))


@in_a_table
def id_of_the_run(folder, batch, batch_id):
    run = batch.sparkSession.sparkContext.getLocalProperty("sql.streaming.runId") or str(uuid.uuid4())
    once(folder, batch, batch_id, run)


@broken
def id_made_at_the_start(folder):
    return partial(once, folder, query=str(uuid.uuid4()))


@in_a_table
def number_from_the_clock(folder, batch, batch_id):
    once(folder, batch, time.time_ns())


@broken
def number_counted_in_memory(folder):
    number = itertools.count()
    return lambda batch, _: once(folder, batch, next(number))


@in_a_table
def number_after_the_last_one(folder, batch, batch_id):
    with database(folder) as db, db:
        insert(db, rows_of(batch))
        enter(db, last(db) + 1)


@in_a_table
def last_batch_is_written_again(folder, batch, batch_id):
    with database(folder) as db, db:
        if batch_id >= last(db):
            insert(db, rows_of(batch))
            enter(db, batch_id)


@in_a_table
def first_batch_is_known_already(folder, batch, batch_id):
    with database(folder) as db, db:
        if batch_id > max(last(db), 0):
            insert(db, rows_of(batch))
            enter(db, batch_id)


@broken
def only_the_first_batch_is_checked(folder):
    checked: list[int] = []

    def write(batch, batch_id):
        with database(folder) as db, db:
            if checked or batch_id != last(db) or batch_id == 0:
                insert(db, rows_of(batch))
                enter(db, batch_id)
            checked.append(batch_id)

    return write


@in_a_table
def error_is_swallowed(folder, batch, batch_id):
    with suppress(Exception), database(folder) as db, db:
        if batch_id > last(db):
            insert(db, rows_of(batch))
            enter(db, batch_id)


@in_a_table
def marker_is_written_whatever_happens(folder, batch, batch_id):
    with database(folder) as db:
        if batch_id > last(db):
            try:
                with db:
                    insert(db, rows_of(batch))
            finally:
                with db:
                    enter(db, batch_id)


@in_a_table
def tried_again_without_a_rollback(folder, batch, batch_id):
    with database(folder) as db:
        if batch_id > last(db):
            for _ in range(2):
                with suppress(sqlite3.Error):
                    insert(db, rows_of(batch))
                    enter(db, batch_id)
                    db.commit()
                    break


def rows_by_key(folder, batch, key):
    """Write each row unless its key is there."""
    rows = [tuple(row) for row in batch.withColumn("id", key).collect()]
    with database(folder) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS ids (id TEXT PRIMARY KEY)")
        for product, amount, made in rows:
            if db.execute("INSERT OR IGNORE INTO ids VALUES (?)", [made]).rowcount:
                insert(db, [(product, amount)])


@in_a_table
def keys_made_in_the_batch(folder, batch, batch_id):
    rows_by_key(folder, batch, F.expr("uuid()"))


@in_a_table
def keys_that_every_batch_has(folder, batch, batch_id):
    rows_by_key(folder, batch, F.monotonically_increasing_id())


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
def lines_are_added(folder, batch, batch_id):
    put(folder / "sales.csv", lines_of(batch), mode="a")


@in_files
def lines_are_added_before_the_marker(folder, batch, batch_id):
    if batch_id > marked(folder):
        put(folder / "sales.csv", lines_of(batch), mode="a")
        mark(folder, batch_id)


@in_files
def lines_are_added_after_the_marker(folder, batch, batch_id):
    if batch_id > marked(folder):
        mark(folder, batch_id)
        put(folder / "sales.csv", lines_of(batch), mode="a")


@in_files
def marker_without_sync(folder, batch, batch_id):
    if batch_id > marked(folder):
        put(folder / f"{batch_id}.csv", lines_of(batch))
        mark(folder, batch_id, sync=False)


@in_files
def file_of_a_random_name(folder, batch, batch_id):
    put(folder / f"{uuid.uuid4()}.csv", lines_of(batch))


@in_files
def file_named_by_the_clock(folder, batch, batch_id):
    put(folder / f"{time.time_ns()}.csv", lines_of(batch))


@in_files
def file_that_exists_is_whole(folder, batch, batch_id):
    if not (file := folder / f"{batch_id}.csv").exists():
        put(file, lines_of(batch))


@in_files
def rename_before_sync(folder, batch, batch_id):
    if not (file := folder / f"{batch_id}.csv").exists():
        put_in_place(file, lines_of(batch), sync=False)


@in_files
def sync_after_the_rename(folder, batch, batch_id):
    if not (file := folder / f"{batch_id}.csv").exists():
        put_in_place(file, lines_of(batch), sync=False)
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


@in_files
def temporary_file_is_added_to(folder, batch, batch_id):
    if not (file := folder / f"{batch_id}.csv").exists():
        put(folder / ".new.csv", lines_of(batch), mode="a")
        (folder / ".new.csv").replace(file)


@in_files
def folder_that_exists_is_whole(folder, batch, batch_id):
    if not (inside := folder / f"batch={batch_id}").exists():
        inside.mkdir()
        put_in_place(inside / "rows.csv", lines_of(batch))


@in_files
def done_with_the_first_of_two_files(folder, batch, batch_id):
    if not (folder / f"{batch_id}-0.csv").exists():
        for number in range(2):
            part = "".join(lines_of(batch).splitlines(keepends=True)[number::2])
            put_in_place(folder / f"{batch_id}-{number}.csv", part)


@in_files
def marker_before_the_rename(folder, batch, batch_id):
    if batch_id > marked(folder):
        put(folder / f".{batch_id}.csv", lines_of(batch))
        mark(folder, batch_id)
        (folder / f".{batch_id}.csv").replace(folder / f"{batch_id}.csv")


def with_totals(put_back, *, checks=True):
    """Return a sink that reads totals from a file, adds a batch, and puts the file back in its own way."""

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


def old_one_is_moved_away(file, text):
    if file.exists():
        file.replace(file.with_name("totals.bak"))
    put(file, text)


# With Spark's own writers, and around the kit's sinks.


@in_files
def spark_adds_files(folder, batch, batch_id):
    batch.write.mode("append").csv(f"{folder}/out")


@in_files
def spark_writes_two_tables(folder, batch, batch_id):
    batch.write.mode("overwrite").json(f"{folder}/copy/batch={batch_id}")
    batch.write.mode("append").csv(f"{folder}/out")


@in_files
def spark_writes_every_batch_over(folder, batch, batch_id):
    batch.write.mode("overwrite").csv(f"{folder}/out")


@in_files
def spark_writes_and_then_marks(folder, batch, batch_id):
    if batch_id > marked(folder):
        batch.write.mode("append").csv(f"{folder}/out")
        mark(folder, batch_id)


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


def another_table_at_each_start(folder):
    return sinks.sql_table(f"sqlite:///{folder}/t.db", f"sales_{time.time_ns()}", take_over=True)


def from_all_tables(folder):
    with closing(sqlite3.connect(folder / "t.db")) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'sales%'").fetchall()
        return [row for (name,) in names for row in db.execute(f"SELECT * FROM {name}")]  # noqa: S608


_PUT_BACK = {
    "in_place": put,
    "without_sync": partial(put_in_place, sync=False),
    "old_one_is_removed": old_one_is_removed,
    "old_one_is_moved_away": old_one_is_moved_away,
}
BROKEN |= {f"totals_{name}": (with_totals(put_back), from_totals) for name, put_back in _PUT_BACK.items()}
broken(another_folder_at_each_start, from_lines)
broken(another_table_at_each_start, from_all_tables)
BROKEN["totals_without_a_batch"] = (with_totals(put_in_place, checks=False), from_totals)
assert len(BROKEN) == 49, "one of them has lost its decorator, or is new"


# The same without a defect.


@of_each_batch
def file_replaced_whole(folder, batch, batch_id):
    put_in_place(folder / f"{batch_id}.csv", lines_of(batch))


SOUND: dict[str, Broken] = {
    "ledger_in_one_transaction": (of_each_batch(once), from_table),
    "file_replaced_whole": (file_replaced_whole, from_lines),
    "totals_replaced": (with_totals(put_in_place), from_totals),
}
