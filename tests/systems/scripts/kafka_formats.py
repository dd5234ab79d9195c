"""Numbers of one topic into another, as Avro with a schema registry.

Run: python kafka_formats.py SERVERS FROM TO REGISTRY CHECKPOINT [--once]
"""

import sys

from sparkstream_kit import jobflags


@jobflags.exit_codes
def main(argv=None):
    """Run the query."""
    parser = jobflags.parser(__doc__, "--available-now")
    for name in ("servers", "given", "made", "registry", "checkpoint"):
        parser.add_argument(name)
    parser.add_argument("--once", action="store_true")
    args = parser.parse_args(argv)

    from sparkstream_kit import formats, run, sinks, sources, spark_session, start

    with spark_session("formats", profile="test", connectors=["kafka"]) as spark:
        records = sources.kafka(
            spark, args.servers, args.given, max_offsets_per_trigger=5000
        )
        numbers = records.selectExpr("bigint(value) AS n", "repeat(value, 50) AS more")
        sink = sinks.kafka(
            args.servers,
            args.made,
            value=formats.avro(args.registry, name="shop.Number"),
            exactly_once=args.once,
        )
        run(start(numbers, sink, name="formats", **jobflags.for_start(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
