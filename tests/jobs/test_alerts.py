"""`card_alerts` and `sensor_alerts` find what was put into their input, and no more."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import card_alerts
import pytest
import sensor_alerts

from sparkstream_kit import feeds
from sparkstream_kit.feeds.datasets import DATASETS, Dataset

WHAT = {
    "Often": "burst", "ZScore": "amount", "Travel": "place", "Ewma": "spike", "Silent": "silence",
}  # fmt: skip


class Case(NamedTuple):
    """A job with its data.

    Attributes:
        job: the module.
        data: what it reads.
        delay: its watermark's.
        alerts: the folder of its alerts in OUT_DIR.
        reasons: by rule, a part of the reason that an alert has.
    """

    job: Any
    data: Dataset
    delay: timedelta
    alerts: str
    reasons: dict[str, str]

    def truth(self, rows, delay):
        """Return what is found when the watermark is `delay` behind the last row."""
        if self.job is sensor_alerts:
            return sorted(feeds.sensors_truth(rows, delay=delay))
        last = datetime.fromisoformat(rows[-1]["time"]) - delay
        return sorted(
            each
            for each in feeds.cards_truth(rows)
            if datetime.fromisoformat(each[1]) <= last
        )


CASES = {
    "card_alerts": Case(
        card_alerts,
        DATASETS["cards"],
        timedelta(minutes=10),
        ".",
        {
            "Often": "5 rows in ",
            "ZScore": "deviations above the mean",
            "Travel": " km in ",
        },
    ),
    "sensor_alerts": Case(
        sensor_alerts,
        DATASETS["sensors"],
        timedelta(minutes=2),
        "alerts",
        {"Ewma": "deviations above the moving mean ", "Silent": ""},
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    """Each of the jobs."""
    return CASES[request.param]


def found(alerts):
    """Return alerts in the form of the truth."""
    return sorted(
        (row[0], f"{row.time:%Y-%m-%dT%H:%M:%SZ}", WHAT[row.rule]) for row in alerts
    )


@pytest.mark.slow
def test_alerts_found_are_those_injected_over_kills_and_restarts(case, stream):
    shares = {"late": 0.02, "bad": 0.01, "ahead": 0.005}
    made = feeds.disturb(
        case.data.rows(3000, seed=4),
        time="time",
        delay=case.delay,
        rows_per_file=600,
        seed=4,
        **shares,
    )
    assert (len(made.late) > 20, len(made.bad) > 5, len(made.ahead) > 2) == (
        True,
        True,
        True,
    )
    source = stream("value STRING")
    query, alerts = stream.query(case.job.transform(source.to_df())), []
    for start in range(0, len(made.arriving), 600):
        source.add_data(
            [(case.data.line(row),) for row in made.arriving[start : start + 600]]
        )
        delivered = query.step()
        alerts += [row for batch in delivered for row in batch.rows]
        if start == 1200:
            assert [batch.rows for batch in query.replay()] == [delivered[-1].rows]
            query.restart()
    expected = case.truth(made.counted, case.delay)
    assert {what for *_, what in expected} == {WHAT[rule] for rule in case.reasons}
    assert found(alerts) == expected
    reasons = {row.rule: row.reason for row in alerts}
    assert all(part in reasons[rule] for rule, part in case.reasons.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "drained"), [("card_alerts", True), ("sensor_alerts", False)]
)
def test_the_job_finds_the_truth_in_two_runs_over_a_fed_folder(
    name, drained, job, spark, folder, tmp_path
):
    case, out, printed = CASES[name], tmp_path / "out", ""
    made = feeds.disturb(
        case.data.rows(1500, seed=2), time="time", bad=0.01, rows_per_file=300, seed=2
    )
    files = list(
        feeds.line_files(map(case.data.line, made.arriving), rows=300, name="lines-{}")
    )
    for some, more in ((files[:3], ()), (files[3:], ("--drain",) * drained)):
        feeds.drip(some, folder)
        done = job(
            "python", name, folder, out, "--available-now", "--max-bad", "5%", *more
        )
        assert "Python worker" not in done.stderr  # what PySpark says of its own
        printed += done.stdout
    expected = (
        sorted(feeds.cards_truth(made.counted))
        if drained
        else case.truth(made.counted, case.delay)
    )
    assert found(spark.read.parquet(str(out / case.alerts)).collect()) == expected
    assert len(printed.splitlines()) == len(expected)
    if name == "sensor_alerts":
        assert spark.read.parquet(str(out / "bad")).count() == len(made.bad)


PAID = [
    *((minute, 10.0 + minute % 3, 40.7) for minute in range(0, 24, 2)),
    (24, 900.0, 40.7), (30, 10.0, -33.9), *((40 + part / 10, 10.0, 40.7) for part in range(5)),
]  # fmt: skip


READ = [
    *(("d1", minute, 20.0 + minute % 2) for minute in range(26)), ("d1", 26, 60.0),
    *(("d2", minute, 5.0) for minute in (0, 3, 17, 18)),
]  # fmt: skip


@pytest.mark.slow
def test_static_frames_give_alerts_too(spark):
    def alerts(job, lines):
        return found(
            job.transform(
                spark.createDataFrame([(line,) for line in lines], "value STRING")
            ).collect()
        )

    first = datetime(2024, 6, 1)  # noqa: DTZ001
    times = (
        f"{first + timedelta(minutes=minute):%Y-%m-%dT%H:%M:%SZ}"
        for minute, _, _ in PAID
    )
    given = zip(times, PAID, strict=True)
    payments = [
        f'40,{time},"Cinema, Ltd",x,{amount},{lat},0.5'
        for time, (_, amount, lat) in given
    ]
    assert [what for *_, what in alerts(card_alerts, payments)] == [
        "amount",
        "place",
        "place",
        "burst",
    ]
    names = ("device", "time", "temperature")
    readings = [
        (device, f"2024-03-01T00:{minute:02}:00Z", degrees)
        for device, minute, degrees in READ
    ]
    silent = ("d2", "2024-03-01T00:13:00Z", "silence")
    read = alerts(
        sensor_alerts,
        [feeds.json_line(dict(zip(names, row, strict=True))) for row in readings],
    )
    assert {("d1", "2024-03-01T00:26:00Z", "spike"), silent} <= {*read}


def test_the_truth_of_readings_is_known():
    rows = [
        {
            "device": "d1",
            "time": f"2024-03-01T00:{minute:02}:00Z",
            "temperature": degrees,
        }
        for minute, degrees in ((0, 18.0), (20, 40.0), (29, 18.0))
    ]
    assert feeds.sensors_truth(rows) == [
        ("d1", "2024-03-01T00:10:00Z", "silence"), ("d1", "2024-03-01T00:20:00Z", "spike"),
    ]  # fmt: skip
