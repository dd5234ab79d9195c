"""Alerts on card payments: many in a minute, far from the card's own mean, impossible travel.

The files are CSV: card,time,merchant,category,amount,lat,lon. Bad lines and late
payments are counted.
Guarantee: every alert exactly once in OUT_DIR, over stops and restarts on the same
OUT_DIR.
Run: spark-submit jobs/card_alerts.py INPUT_DIR OUT_DIR
"""

from dataclasses import dataclass, field
from math import asin, cos, radians, sin

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
from sparkstream_kit.state import Alert, Often, ZScore, alert_when

PAYMENTS = """card STRING NOT NULL, time TIMESTAMP NOT NULL, merchant STRING, category STRING,
    amount DECIMAL(12,2) NOT NULL, lat DOUBLE NOT NULL, lon DOUBLE NOT NULL"""
ON_EARTH = {"abs(lat) <= 90 AND abs(lon) <= 180": "quarantine"}


class Travel:
    """Faster than 1,000 km/h on a ball: R. W. Sinnott, "Virtues of the Haversine" (1984)."""

    @dataclass(frozen=True)
    class state:  # noqa: D106, N801 - when and where a card has paid last: in seconds, and in radians
        last: list[float] = field(default_factory=list)

    def step(
        self, state: state, time: float, value: dict[str, float]
    ) -> tuple[state, Alert | None]:
        """Return the new place, and an alert if it is too far from the last one."""
        here = [time, radians(value["lat"]), radians(value["lon"])]
        then, lat, lon = state.last or here  # the first payment is where it is
        half = (
            sin((here[1] - lat) / 2) ** 2
            + cos(lat) * cos(here[1]) * sin((here[2] - lon) / 2) ** 2
        )
        km = 2 * 6371 * asin(min(half, 1) ** 0.5)
        hours = max(time - then, 180) / 3600  # within a city one needs no time
        speed = km / hours
        if speed <= 1000:  # noqa: PLR2004
            return self.state(here), None
        reason = f"{km:,.0f} km in {hours:.1f} hours: {speed:,.0f} km/h"
        return self.state(here), Alert(speed, reason)


def transform(lines: DataFrame, watermark: str = "10 minutes") -> DataFrame:
    """Return the alerts: card, time, payment (a struct of all columns), rule, score and reason."""
    rows = quarantine.expect(quarantine.parse_csv(lines, PAYMENTS), ON_EARTH)
    rows = windows.with_watermark(rows, "time", watermark)
    paid = quarantine.good_rows(rows).selectExpr("card", "time", "struct(*) AS payment")
    rules = (
        Often(most=4, within="1 minute"),
        Travel(),
        ZScore(sigmas=8, warmup=10, of="amount"),
    )
    return alert_when(paid, "card", "time", "payment", rules)


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
    )
    args = parser.parse_args(argv)

    sink = sinks.fan_out(
        sinks.batch_files(args.out_dir), sinks.foreach_batch(display.show)
    )
    with spark_session("card-alerts", **jobflags.for_session(args)) as spark:
        alerts = transform(jobflags.lines(spark, args), args.watermark)
        query = start(alerts, sink, name="card_alerts", **jobflags.for_start(args))
        return jobflags.finish(args, run(query, **jobflags.for_run(args)))


if __name__ == "__main__":
    raise SystemExit(main())
