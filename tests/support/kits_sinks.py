"""The kit's sinks that need no server: a job of each, its reader, and the true result."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from pyspark.sql import functions as F
from support.broken_sinks import ROWS, TOTALS

from sparkstream_kit import sinks


def totals(sales):
    return sales.groupBy("product").agg(F.sum("amount").alias("total"))


def writing(sink_of, how, *keys):
    """Return what makes the job of one of the three systems below for a folder."""

    def build(sales, folder):
        return sales if how == "append" else totals(sales), sink_of(
            folder, how=how, keys=keys
        )

    return build


def table(folder, **how):
    return sinks.sql_table(f"sqlite:///{folder}/t.db", "t", **how)


def from_table(folder, statement="SELECT * FROM t"):
    with closing(sqlite3.connect(folder / "t.db")) as db:
        return db.execute(statement).fetchall()


def delta(folder, **how):
    return sinks.delta(folder / "t", **how)


def from_delta(folder):
    from deltalake import DeltaTable

    return [
        tuple(row.values())
        for row in DeltaTable(str(folder / "t")).to_pyarrow_table().to_pylist()
    ]


def iceberg(folder, **how):
    return sinks.iceberg("shop.t", catalog=folder / "lake", **how)


def from_iceberg(folder):
    from support.iceberg import rows

    return rows(folder / "lake")


def directories(sales, folder):
    return sales, sinks.batch_files(folder / "out", format="csv")


def from_directories(folder):
    files = (folder / "out").glob("batch=*/part-*")
    lines = [
        line.split(",") for file in files for line in file.read_text().splitlines()
    ]
    return [(product, int(amount)) for product, amount in lines]


def whole_file(sales, folder):
    return totals(sales), sinks.snapshot(folder / "t.json")


def from_file(folder):
    return [tuple(row.values()) for row in json.loads((folder / "t.json").read_text())]


def both(sales, folder):
    return sales, sinks.fan_out(table(folder), directories(sales, folder)[1])


def from_both(folder):
    return [*from_table(folder), *from_directories(folder)]


def gated(sales, folder):
    timely = sales.withColumn("time", F.timestamp_seconds("amount")).withWatermark(
        "time", "1 second"
    )
    late = sinks.sql_table(f"sqlite:///{folder}/t.db", "late")
    return timely, sinks.by_watermark("time", on_time=table(folder), late=late)


def from_gated(folder):
    return from_table(
        folder,
        "SELECT product, amount FROM t UNION ALL SELECT product, amount FROM late",
    )


def by_product(sales, folder):
    return sales, sinks.by_value(
        "product", lambda each: sinks.sql_table(f"sqlite:///{folder}/t.db", f"t_{each}")
    )


def from_each(folder):
    made = from_table(
        folder, "SELECT name FROM sqlite_master WHERE name LIKE 't~_%' ESCAPE '~'"
    )
    return [
        row
        for (name,) in made
        for row in from_table(folder, f'SELECT * FROM "{name}"')  # noqa: S608
    ]


Sound = tuple["Callable[..., Any]", "Callable[..., Any]", str, list[tuple[str, int]]]
KITS: dict[str, Sound] = {
    "sqlite append": (writing(table, "append"), from_table, "append", ROWS),
    "sqlite upsert": (
        writing(table, "upsert", "product"),
        from_table,
        "update",
        TOTALS,
    ),
    "sqlite replace": (writing(table, "replace"), from_table, "complete", TOTALS),
    "batch_files": (directories, from_directories, "append", ROWS),
    "delta append": (writing(delta, "append"), from_delta, "append", ROWS),
    "delta upsert": (writing(delta, "upsert", "product"), from_delta, "update", TOTALS),
    "delta replace": (writing(delta, "replace"), from_delta, "complete", TOTALS),
    "iceberg append": (writing(iceberg, "append"), from_iceberg, "append", ROWS),
    "iceberg upsert": (
        writing(iceberg, "upsert", "product"),
        from_iceberg,
        "update",
        TOTALS,
    ),
    "iceberg replace": (writing(iceberg, "replace"), from_iceberg, "complete", TOTALS),
    "snapshot": (whole_file, from_file, "complete", TOTALS),
    "fan_out": (both, from_both, "append", [*ROWS, *ROWS]),
    "by_watermark": (gated, from_gated, "append", ROWS),
    "by_value": (by_product, from_each, "append", ROWS),
}
