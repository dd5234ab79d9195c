"""Tables about Kafka: from record to record, a backlog; and from a record or a file to a reader."""

from __future__ import annotations

import itertools
import sys
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from running import HERE, ROOT, Limit, Measured, Program, Table, properties, tuned
from volumes import postgresql_url

from sparkstream_kit.connectors import _packages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["arrival", "kafka"]

ROWS = 1_000_000
SECONDS = 300  # for which rows are sent
TIMED = 1000  # records


def kafka(scale: float) -> Iterator[Table]:
    """From one topic to another, timed at both ends, and a backlog of JSON records.

    There is one broker, on this machine.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from systems import kafka as brokers
    from systems.conftest import jars

    broker = brokers.broker()
    env = {_packages.JARS: str(jars("spark"))}
    given = ",".join(map(str, jars("spark").glob("*.jar")))
    hand = env | {
        "PYSPARK_SUBMIT_ARGS": (
            f"--properties-file {properties('local')} --jars {given} pyspark-shell"
        )
    }
    timed = str(max(200, int(TIMED * scale)))

    def program(name: str, file: str, source: str, *how: str, **more: Any) -> Program:
        # Topics of its own: what one program has written is not there for the next.
        command: tuple[str | Path, ...] = (
            HERE / "records" / file,
            broker.servers,
            source or broker.topic(),
            broker.topic(),
            *how,
        )
        return Program(
            name, command, env=env if file == "kit.py" else hand, **{"runs": 1, **more}
        )

    modes = {"real-time mode": "realTime", "micro-batches": "processingTime"}
    yield Table(
        f"Kafka to Kafka, {timed} records at 50 a second: p50 of a record",
        [
            program(f"{name}, {mode}", file, "", "latency", word, timed, figure=median)
            for (mode, word), (name, file) in itertools.product(
                modes.items(), {"kit": "kit.py", "plain PySpark": "plain.py"}.items()
            )
        ],
        truth=int(timed),
        unit="ms",
        runs=1,
        more={"p99, ms": p99},
    )
    rows = int(ROWS * scale)
    backlog = broker.topic(partitions=2)
    broker.send(backlog, (f'{{"id": {n}, "amount": {n % 100}}}' for n in range(rows)))
    yield Table(
        f"{rows:,} JSON records, count and sum",
        [
            program("plain PySpark, from_json", "plain.py", backlog, "sum"),
            program("kit, quarantine.parse_json", "kit.py", backlog, "sum"),
        ],
        truth=[[rows, sum(n % 100 for n in range(rows))]],
        runs=1,
        rows=rows,
    )
    yield Table(
        f"{rows:,} records, Kafka to Kafka",
        [
            program("plain PySpark", "plain.py", backlog, "copy"),
            program("kit, row_id=", "kit.py", backlog, "copy", "row_id"),
            program("kit", "kit.py", backlog, "copy"),
            program(
                "kit, exactly_once=True", "kit.py", backlog, "copy", "exactly_once"
            ),
        ],
        truth=rows,
        runs=1,
        rows=rows,
        limits=(Limit("kit, exactly_once=True", 1.25, "plain PySpark"),),
    )


def arrival(scale: float) -> Iterator[Table]:
    """From a record's send, or a file's rename, until a reader of the target sees the row.

    The JVM has 20 seconds to warm up. The topic has one partition, which one core reads
    and parses: at 20,000 rows a second, with the check of each value, that core is busy
    all the time. *First tenth* and *last tenth* are the medians of these parts of the
    time.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from systems import kafka as brokers
    from systems.conftest import jars

    broker, seconds = brokers.broker(), max(20, int(SECONDS * scale))
    database = postgresql_url()
    hand = tuned("local") | {_packages.JARS: str(jars("spark"))}

    def program(name: str, rate: int, source: str, kind: str, target: str) -> Program:
        file = "plain.py" if "plain" in name else "kit.py"
        place = broker.servers if source == "kafka" else "{work}/in"
        words = source, place, broker.topic(), kind, target, str(rate), str(seconds)
        return Program(
            name,
            (HERE / "arrival" / file, *words),
            env=(
                hand
                if name.endswith("by hand")
                else {_packages.JARS: str(jars("spark"))}
            ),
            figure=lambda run: float(run.result["p50"]),
            limit=seconds + 200,
        )

    for rate in (1000, 20_000):
        yield Table(
            f"{rate:,} rows a second for {seconds} s, to a reader: p50 of a row",
            [
                program(
                    "Kafka to Delta, kit (delta-rs)",
                    rate,
                    "kafka",
                    "delta",
                    "{work}/table",
                ),
                program(
                    "the same, plain PySpark, tuned by hand",
                    rate,
                    "kafka",
                    "delta",
                    "{work}/table",
                ),
                program(
                    "the same, plain PySpark", rate, "kafka", "delta", "{work}/table"
                ),
                program("Kafka to PostgreSQL, kit", rate, "kafka", "sql", database),
                program(
                    "files to SQLite, kit",
                    rate,
                    "files",
                    "sql",
                    "sqlite:///{work}/rows.db",
                ),
            ],
            truth=rate * (seconds + 20),
            unit="ms",
            runs=1,
            more={
                "p95, ms": lambda run: run.result["p95"],
                "p99, ms": lambda run: run.result["p99"],
                "first tenth, ms": lambda run: run.result["curve"][0],
                "last tenth, ms": lambda run: run.result["curve"][-1],
            },
            limits=(Limit("Kafka to Delta, kit (delta-rs)", 800),),
        )


def median(run: Measured) -> float:
    """Return the milliseconds that half of the records took at most."""
    return float(quantiles(run.result["milliseconds"], n=2)[0])


def p99(run: Measured) -> float:
    """Return the milliseconds that 99 of 100 records took at most."""
    return float(quantiles(run.result["milliseconds"], n=100)[98])
