"""Sales of two shops in files of six rows, and queries over them, for tests of changed queries."""

import json
import os

from pyspark.sql import functions as F

from sparkstream_kit import sources, windows

SCHEMA = (
    "at TIMESTAMP, product STRING, shop STRING, amount DECIMAL(10,2), weight DOUBLE,"
    " n INT"
)


def land_shops(folder, *numbers, third, late):
    """Write files of six rows, ten minutes apart; `late` says in which one row is late."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        minutes = [10 * number + row for row in range(6)]
        minutes[0] -= late(number)
        rows = [
            {
                "at": f"2026-03-01 {10 + minute // 60}:{minute % 60:02}:00",
                "product": ["tea", "ink", third][row % 3],
                "shop": "ab"[(row + number) % 2],
                "amount": f"{number}.{row}7",
                "weight": 0.1 * row,
                "n": row % 4,
            }
            for row, minute in enumerate(minutes)
        ]
        file = folder / f"{number}.json"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.utime(file, (number + 1, number + 1))


def stream(spark, folder):
    return sources.json(spark, str(folder), schema=SCHEMA, max_files_per_trigger=1)


def totals(*keys, what="sum(amount)", where="true"):
    return lambda rows: (
        rows.where(where).groupBy(*keys).agg(F.expr(what).alias("total"))
    )


def hourly(
    *keys, length="20 minutes", delay="5 minutes", what="sum(amount)", where="true"
):
    def transform(rows):
        timely = rows.where(where).withWatermark("at", delay)
        return windows.flatten(
            timely.groupBy(F.window("at", length), *keys).agg(
                F.expr(what).alias("total")
            )
        )

    return transform
