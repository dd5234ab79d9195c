"""The Yahoo streaming benchmark: views of ads, counted by campaign and window of 10 seconds.

Guarantee: every event counts exactly once, over stops and restarts on the same
--checkpoint.
Run: spark-submit benchmarks/yahoo/kit.py EVENTS_DIR ADS_FILE
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import TYPE_CHECKING

from sparkstream_kit import jobflags

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

# Of the seven fields these are needed; a parser that is not asked for the others skips
# them.
EVENT = "ad_id STRING, event_type STRING, event_time BIGINT"
AD = "ad_id STRING, campaign_id STRING"


def transform(events: DataFrame, ads: DataFrame) -> DataFrame:
    """Return the number of views for each campaign and window.

    The columns are campaign_id (string), start (timestamp) and views (bigint).
    """
    from pyspark.sql import functions as F

    from sparkstream_kit import windows

    views = events.where("event_type = 'view'").withColumn(
        "time", F.timestamp_millis("event_time")
    )
    counted = views.join(F.broadcast(ads), "ad_id").groupBy(
        "campaign_id", windows.tumbling("time", "10 seconds")
    )
    return windows.flatten(counted.agg(F.count("*").alias("views"))).drop("end")


def flags() -> argparse.ArgumentParser:
    """Return the job's command line."""
    parser = jobflags.parser(__doc__, "--profile", "--checkpoint")
    parser.add_argument(
        "events_dir", metavar="EVENTS_DIR", type=jobflags.existing_folder
    )
    parser.add_argument("ads_file", metavar="ADS_FILE")
    parser.add_argument(
        "--format", choices=["json", "parquet"], default="json", help="of the events"
    )
    return parser


@jobflags.exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Count what is there, and print the counts as one JSON object."""
    args = flags().parse_args(argv)

    from sparkstream_kit import get_session, run, sinks, sources, start

    read = {"json": sources.json, "parquet": sources.parquet}[args.format]
    with (
        get_session("yahoo", profile=args.profile) as spark,
        tempfile.TemporaryDirectory() as temporary,
    ):
        print("session is up", flush=True)
        counts = transform(
            read(spark, args.events_dir, schema=EVENT),
            spark.read.schema(AD).json(args.ads_file),
        )
        query = start(
            counts,
            sinks.memory("counts"),
            mode="complete",
            checkpoint=args.checkpoint or temporary,
            availableNow=True,
        )
        run(query)
        found = spark.sql(
            "SELECT campaign_id, unix_millis(start), views FROM counts"
        ).collect()
        print(json.dumps({"rows": sorted(map(list, found))}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
