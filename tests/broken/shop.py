"""The sales of a shop from JSON lines in in/, as a table or as totals by product.

They go into the table sales, or their totals into totals.csv. Lines that cannot be read
are kept in bad/. All is in the folder of this file.
Run: python shop.py sales, or python shop.py totals; with forever, until it is stopped
"""

import sys
from pathlib import Path

from pyspark.sql import functions as F

from sparkstream_kit import (
    jobflags,
    quarantine,
    run,
    sinks,
    sources,
    spark_session,
    start,
)

HERE = Path(__file__).parent
SALES = (
    "id INT NOT NULL, product STRING NOT NULL, shop STRING NOT NULL, amount INT NOT"
    " NULL"
)


def totals(sales):
    """Return the sales and their amount of each product."""
    return sales.groupBy("product").agg(
        F.count("*").alias("sales"), F.sum("amount").alias("amount")
    )


@jobflags.exit_codes
def main(argv=None):
    """Run one of the two queries."""
    what, *forever = argv or sys.argv[1:]
    # One batch at once, and none after it while a test looks.
    trigger = {"processingTime": "1000 hours"} if forever else {"availableNow": True}
    with spark_session("shop", profile="test") as spark:
        rows = quarantine.parse_json(
            sources.text(spark, f"{HERE}/in", max_files_per_trigger=1), SALES
        )
        bad = sinks.batch_files(f"{HERE}/bad", format="json")
        sink = quarantine.split(
            sinks.sql_table(f"sqlite:///{HERE}/shop.db", "sales"), bad
        )
        mode = "append"
        if what == "totals":
            rows, sink = (
                totals(quarantine.good_rows(rows)),
                sinks.snapshot(f"{HERE}/totals.csv"),
            )
            mode = "complete"
        query = start(
            rows,
            sink,
            name=what,
            mode=mode,
            checkpoint=f"{HERE}/ckpt/{what}",
            **trigger,
        )
        sys.stderr.write(f"{run(query)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
