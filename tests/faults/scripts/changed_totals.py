"""Totals of a folder by product, or by shop as a changed query, in a folder of batches.

Run: python changed_totals.py INPUT_DIR OUTPUT_DIR CHECKPOINT [CONTINUES]
"""

import sys

from sparkstream_kit import jobflags


@jobflags.exit_codes
def main(argv=None):
    """Run until the input is done."""
    folder, output, checkpoint, *continues = sys.argv[1:] if argv is None else argv

    from pyspark.sql import functions as F

    from sparkstream_kit import get_session, run, sinks, sources, start

    old = continues[0] if continues else None
    schema = "product STRING, shop STRING, amount DECIMAL(10,2)"
    with get_session(
        "changed-totals", profile="test", conf={"spark.sql.shuffle.partitions": "2"}
    ) as spark:
        rows = sources.json(spark, folder, schema=schema, max_files_per_trigger=1)
        totals = rows.groupBy("shop" if continues else "product").agg(
            F.sum("amount").alias("total")
        )
        sink = sinks.batch_files(output, format="json")
        query = start(
            totals,
            sink,
            name="totals",
            mode="complete",
            checkpoint=checkpoint,
            continues=old,
            availableNow=True,
        )
        run(query)
    return 0


if __name__ == "__main__":
    sys.exit(main())
