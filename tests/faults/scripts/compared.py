"""The lengths of lines, in Python workers that wait for as long as there is a file OUT_DIR/wait.

Run: python compared.py INPUT_DIR OUT_DIR --checkpoint CHECKPOINT
"""

import sys
import time
from pathlib import Path

from sparkstream_kit import jobflags


@jobflags.exit_codes
def main(argv=None):
    """Run until the end of the input, or compare."""
    flags = jobflags.parser(__doc__, "INPUT_DIR", "OUT_DIR", *jobflags.RUN)
    args = flags.parse_args(argv)

    from pyspark.sql import functions as F
    from pyspark.sql.types import LongType

    from sparkstream_kit import run, sinks, sources, spark_session, start

    waits, begun = Path(args.out_dir, "wait"), Path(args.out_dir, "begun")

    def slowly(line):
        while waits.exists():
            begun.touch()
            time.sleep(0.05)
        return len(line)

    with spark_session("compared", profile="test") as spark:
        lines = sources.text(spark, args.input_dir)
        lengths = lines.select(F.udf(slowly, LongType())("value").alias("n"))
        sink = sinks.batch_files(f"{args.out_dir}/rows", format="json")
        query = start(lengths, sink, name="compared", **jobflags.for_start(args))
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    sys.exit(main())
