"""Records of one topic into another, each once: key, value and headers as they are.

Run: python kafka_copy.py SERVERS FROM TO CHECKPOINT
"""

import json
import os
import sys
from typing import Any

from sparkstream_kit import jobflags


@jobflags.exit_codes
def main(argv=None):
    """Run the query; further options of both topics are JSON in the environment, as OPTIONS."""
    parser = jobflags.parser(__doc__, "--available-now")
    for name in ("servers", "given", "made", "checkpoint"):
        parser.add_argument(name)
    args = parser.parse_args(argv)
    options: dict[str, Any] = json.loads(os.environ.get("OPTIONS", "{}"))

    from sparkstream_kit import run, sinks, sources, spark_session, start

    with spark_session("kafka-copy", profile="test", connectors=["kafka"]) as spark:
        read = {
            name: text for name, text in options.items() if "transaction" not in name
        }
        records = sources.kafka(
            spark, args.servers, args.given, max_offsets_per_trigger=300, **read
        )
        columns: dict[str, Any] = {"key": "key", "value": "value", "headers": "headers"}
        sink = sinks.kafka(
            args.servers, args.made, **columns, exactly_once=True, **options
        )
        run(start(records, sink, name="copy", **jobflags.for_start(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
