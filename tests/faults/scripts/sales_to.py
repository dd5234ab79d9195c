"""Sales into one sink: rows by `append` and `files`, totals by a key by `upsert`.

Run: python sales_to.py HOW TARGET INPUT_DIR CHECKPOINT; HOW is append, upsert, values
(a table for each state), files (Spark's own sink), kafka-append, or append, upsert or
replace after delta- or iceberg-. TARGET is the URL of a database or a REST catalog, a
folder, or SERVERS/TOPIC. Into Delta goes Spark's writer with `--connectors`.
"""

import sys

from sparkstream_kit import jobflags

SALES = """OrderID BIGINT, OrderDate STRING, Quantity INT, DiscountPct STRING, Rate STRING,
    SaleAmount DECIMAL(12,2), CustomerName STRING, State STRING, Region STRING, ProductKey STRING,
    RowCount STRING, ProfitMargin STRING"""


@jobflags.exit_codes
def main(argv=None):
    """Run the query."""
    parser = jobflags.parser(
        __doc__,
        "--max-files-per-trigger",
        "--available-now",
        "--trigger",
        max_files_per_trigger=1,
    )
    for name in ("how", "target", "input_dir", "checkpoint"):
        parser.add_argument(name)
    parser.add_argument("--key", default="ProductKey")
    parser.add_argument("--allow-changed-query", action="store_true")
    parser.add_argument("--connectors", nargs="*", default=[])
    args = parser.parse_args(argv)

    from pyspark.sql import functions as F

    from sparkstream_kit import get_session, run, sinks, sources, start

    with get_session("sales-to", profile="test", connectors=args.connectors) as spark:
        rows = sources.csv(
            spark,
            args.input_dir,
            schema=SALES,
            max_files_per_trigger=args.max_files_per_trigger,
            escape='"',
        ).select("OrderID", "State", "ProductKey", "SaleAmount")
        kind, _, way = args.how.rpartition("-")
        keys = ["key"] if way == "upsert" else ()
        if way == "files":
            sink = sinks.files(args.target)
        elif way == "values":
            sink = sinks.by_value(
                "State", lambda state: sinks.sql_table(args.target, f"sales_{state}")
            )
        elif kind == "kafka":
            sink = sinks.kafka(*args.target.split("/"), exactly_once=True)
        elif kind == "delta":
            sink = sinks.delta(args.target, how=way, keys=keys)
        elif kind == "iceberg":
            catalog = (
                {"type": "rest", "uri": args.target}
                if args.target.startswith("http")
                else args.target
            )
            sink = sinks.iceberg("shop.t", catalog=catalog, how=way, keys=keys)
        else:
            table = "sales" if way == "append" else "sales_totals"
            sink = sinks.sql_table(args.target, table, how=way, keys=keys)
        mode, frame = (
            {"upsert": "update", "replace": "complete"}.get(way, "append"),
            rows,
        )
        if mode != "append":
            totals = F.count("*").alias("orders"), F.sum("SaleAmount").alias("total")
            frame = rows.groupBy(F.col(args.key).alias("key")).agg(*totals)
        how = {
            "mode": mode,
            "allow_changed_query": args.allow_changed_query,
            **jobflags.for_start(args),
        }
        sys.stderr.write(f"{run(start(frame, sink, name='sales_to', **how))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
