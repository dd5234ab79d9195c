"""Asks an object store for what it does not have, and prints what the kit says: a line each.

Run: spark-submit s3_refused.py
"""

import sys

from sparkstream_kit import sinks, sources, spark_session, start
from sparkstream_kit.errors import InvalidInputError


def asks(spark):
    """Return what is asked for, in turn."""
    lines, away = sources.text(spark, "s3a://kit/in"), "s3a://no-such-bucket"
    return [
        lambda: sources.text(spark, "s3a://kit/none"),
        lambda: sources.text(spark, f"{away}/in"),
        lambda: start(lines, sinks.console(), name="lines", checkpoint=f"{away}/ckpt"),
        lambda: start(
            lines, sinks.files(f"{away}/out"), name="rows", checkpoint="s3a://kit/ckpt"
        ),
        lambda: sinks.batch_files("s3a://kit/out"),
    ]


if __name__ == "__main__":
    with spark_session("s3-refused", profile="cluster") as spark:
        for ask in asks(spark):
            try:
                ask()
            except InvalidInputError as err:
                sys.stdout.write(f"{err}\n")
