"""A batch that asks for far more memory than the JVM has.

Run: python no_memory.py INPUT_DIR CHECKPOINT
"""

import sys

from sparkstream_kit import jobflags


@jobflags.exit_codes
def main(argv=None):
    """Run to the end of the input, which it does not come to."""
    folder, checkpoint = sys.argv[1:] if argv is None else argv

    from pyspark.sql import functions as F

    from sparkstream_kit import get_session, run, sinks, sources, start

    with get_session("no-memory", profile="local") as spark:
        lines = sources.text(spark, folder, max_files_per_trigger=1)
        # 3.2 GB
        numbers = F.expr("size(sequence(0L, length(value) + 400000000L))").alias(
            "numbers"
        )
        query = start(
            lines.select(numbers), sinks.console(), name="big", checkpoint=checkpoint
        )
        sys.stderr.write(f"{run(query)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
