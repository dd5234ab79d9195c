"""Alerts on temperatures far from a device's moving mean, and on ten minutes of silence.

The files are JSON lines with device, time and temperature. Alerts are printed and kept
in OUT_DIR/alerts, other lines in OUT_DIR/bad. Readings are looked at in the order of
their times, once the watermark has passed them; readings that come later are dropped
and counted. A feed that ends is no silence: see --idle.
Guarantee: every alert exactly once in OUT_DIR, over stops and restarts on the same
OUT_DIR.
Run: spark-submit jobs/sensor_alerts.py INPUT_DIR OUT_DIR
"""

from pyspark.sql import DataFrame

from sparkstream_kit import (
    display,
    jobflags,
    quarantine,
    run,
    sinks,
    spark_session,
    start,
    windows,
)
from sparkstream_kit.state import Ewma, Silent, alert_when

READINGS = "device STRING NOT NULL, time TIMESTAMP NOT NULL, temperature DOUBLE"


def parse(lines: DataFrame, watermark: str) -> DataFrame:
    """Return the readings with a watermark; columns of `quarantine` say why a line is bad."""
    readings = quarantine.parse_json(lines, READINGS)
    return windows.with_watermark(readings, "time", watermark)


def transform(
    lines: DataFrame,
    *,
    watermark: str = "2 minutes",
    silent: str = "10 minutes",
    sigmas: float = 8,
) -> DataFrame:
    """Return the alerts: device, time, temperature, rule, score and reason."""
    readings = quarantine.good_rows(parse(lines, watermark))
    rules = Ewma(alpha=0.05, sigmas=sigmas), Silent(silent)
    return alert_when(readings, "device", "time", "temperature", rules)


@jobflags.exit_codes
def main(argv: list[str] | None = None) -> int:
    """Run the job: alerts go to standard output and OUT_DIR, all else to standard error."""
    parser = jobflags.parser(
        __doc__,
        *jobflags.LINES,
        "OUT_DIR",
        "--max-bad",
        *jobflags.EVENT_TIME,
        *jobflags.RUN,
        max_files_per_trigger=1,
        watermark="2 minutes",
    )
    args = parser.parse_args(argv)
    out = args.out_dir

    with spark_session("sensor-alerts", **jobflags.for_session(args)) as spark:
        lines = jobflags.lines(spark, args)
        alerts = transform(lines, watermark=args.watermark)
        bad = quarantine.bad_rows(parse(lines, args.watermark))
        alerts_query = start(
            alerts,
            sinks.fan_out(
                sinks.batch_files(f"{out}/alerts"), sinks.foreach_batch(display.show)
            ),
            name="alerts",
            **jobflags.for_start(args, "alerts"),
        )
        bad_query = start(
            bad,
            sinks.batch_files(f"{out}/bad"),
            name="bad_readings",
            **jobflags.for_start(args, "bad"),
        )
        summary = run(alerts_query, bad_query, **jobflags.for_run(args))
        return jobflags.finish(args, summary)


if __name__ == "__main__":
    raise SystemExit(main())
