"""Rows of JSON files into a topic. With --stay the driver stays in the batch once it is written.

Run: python files_to_kafka.py INPUT_DIR --to SERVERS TOPIC --checkpoint DIR
"""

import sys
import threading
from pathlib import Path

from sparkstream_kit import jobflags


@jobflags.exit_codes
def main(argv=None):
    """Run the query."""
    flags = ("INPUT_DIR", "--max-files-per-trigger", "--checkpoint", "--available-now")
    parser = jobflags.parser(__doc__, *flags, max_files_per_trigger=1)
    parser.add_argument("--to", nargs=2, required=True)
    parser.add_argument(
        "--stay", type=Path, help="a file that is made once a batch is written"
    )
    args = parser.parse_args(argv)

    from sparkstream_kit import run, sinks, sources, spark_session, start

    def stay(_, __):
        if args.stay:
            args.stay.touch()
            threading.Event().wait()

    written = sinks.kafka(*args.to, key="shop")
    with spark_session("files-to-kafka", profile="test", connectors=["kafka"]) as spark:
        most, schema = args.max_files_per_trigger, "shop STRING, amount DECIMAL(12,2)"
        rows = sources.json(
            spark, args.input_dir, schema=schema, max_files_per_trigger=most
        )
        sink = sinks.fan_out(written, sinks.foreach_batch(stay))
        run(start(rows, sink, name="files_to_kafka", **jobflags.for_start(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
