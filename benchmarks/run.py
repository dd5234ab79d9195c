"""Measures the kit beside what one would do without it; `make bench` and `make bench-full` run all of it.

Every result is compared with the truth, which the generators know without Spark, before its time counts.
Programs take turns, every second round backwards. A time is that from the start of the process to its
result.
Run: python benchmarks/run.py [NAME …] [--full]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import data
import report
from running import HERE, Measured, Program, Table, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = HERE.parent
TOTALS = ROOT / "jobs" / "sales_totals.py"
ROWS = 10_000_000
LOCAL, TEST = "hand-tuned, settings of local", "hand-tuned, settings of test"


def properties(profile: str) -> str:
    """Return the file that gives plain PySpark the settings of a profile."""
    made = subprocess.run(["sparkstream", "conf", profile], stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.strip()


def tuned(profile: str) -> dict[str, str]:
    """Return the environment that gives plain PySpark under `python` the settings of a profile."""
    return {"PYSPARK_SUBMIT_ARGS": f"--properties-file {properties(profile)} pyspark-shell"}


# ---- start


def start(scale: float) -> Iterator[Table]:
    """First result of `sales_totals` (one file of 500 rows) from process start, archive warm."""
    del scale
    if has_command("warm"):
        subprocess.run(["sparkstream", "warm"], stdout=sys.stderr, check=True)
    folder, truth = data.small_sales(1, 500)

    def program(
        name: str, *command: str | Path, env: dict[str, str] | None = None, runs: int = 100
    ) -> Program:
        return Program(name, command, env=env or {}, figure=first_result, runs=runs, reads=totals_printed)

    kit = (TOTALS, folder, "--available-now", "--format", "csv")
    plain = (HERE / "start" / "plain.py", folder)
    submit, with_file = "spark-submit", "--properties-file"
    yield Table(
        "First result from process start, under python",
        [
            program("kit, local", *kit),
            program("kit, test", *kit, "--profile", "test"),
            program(LOCAL, *plain, env=tuned("local")),
            program(TEST, *plain, env=tuned("test")),
            program("naive", *plain, runs=2),
        ],
        truth,
        runs=5,
        goal="at most 4.5 s in local, 3.5 s in test; naive takes at least 3.5 and 4.5 times as long",
    )
    yield Table(
        "First result from process start, under spark-submit with the properties file",
        [
            program("kit, local", submit, with_file, properties("local"), *kit),
            program("kit, test", submit, with_file, properties("test"), *kit, "--profile", "test"),
            program(LOCAL, submit, with_file, properties("local"), *plain),
            program("naive", submit, *plain, runs=2),
        ],
        truth,
        runs=5,
        goal="at most 5 s in local, 4 s in test",
    )
    if has_command("serve"):
        with warm_server() as remote:
            attached = program("kit, attached", *kit, env=remote)
            one_test = under_pytest(
                "one streaming test, attached", HERE / "start" / "one_test.py", tests=1, env=remote
            )
            goal = "at most 1.2 s"
            yield Table(
                "First result from process start, attached to a warm server",
                [attached],
                truth,
                runs=5,
                goal=goal,
            )
            yield Table("pytest, attached to a warm server", [one_test], runs=5, goal=goal)


def first_result(run: Measured) -> float:
    """Return the seconds to the first row of totals."""
    return next(at for at, _, text in run.lines if _total(text))


def totals_printed(run: Measured) -> list[list[str]]:
    """Return [product, total] of the CSV lines that were printed."""
    return sorted(row for _, _, text in run.lines if (row := _total(text)))


def _total(text: str) -> list[str] | None:
    fields = next(csv.reader([text]), [])
    known = len(fields) == 3 and re.fullmatch(r"[\d.E]+", fields[2])  # noqa: PLR2004 - product, orders, total
    return [fields[0], f"{float(fields[2]):.2f}"] if known else None


def has_command(name: str) -> bool:
    """Say whether this version of the kit has a command."""
    return subprocess.run(["sparkstream", name, "--help"], capture_output=True, check=False).returncode == 0


@contextmanager
def warm_server() -> Iterator[dict[str, str]]:
    """Give the environment that attaches to a server of the kit."""
    said = subprocess.run(["sparkstream", "serve"], stdout=subprocess.PIPE, text=True, check=True).stdout
    try:
        found = re.search(r"SPARK_REMOTE=[\"']?([^\s\"']+)", said)
        if found is None:
            raise RuntimeError(f"sparkstream serve said no SPARK_REMOTE: {said}")
        yield {"SPARK_REMOTE": found[1]}
    finally:
        subprocess.run(["sparkstream", "serve", "--stop"], stdout=sys.stderr, check=True)


# ---- batch


def batch(scale: float) -> Iterator[Table]:
    """A micro-batch of twelve rows from a CSV file: the median after the first third (the JVM warms up)."""
    batches = 60 if scale >= 1 else 30
    goals = {
        "sum": "at most 115 ms in local, 80 ms in test",
        "stateless": "at most 75 ms in local, 45 ms in test",
    }
    for kind, title in (("sum", "Micro-batch, sum by key"), ("stateless", "Micro-batch, stateless")):

        def kit(profile: str) -> Program:
            return small_batches(f"kit, {profile}", kind, batches, profile)  # noqa: B023 - used at once

        def plain(name: str, many: int = batches, **more: Any) -> Program:
            return small_batches(name, kind, many, **more)  # noqa: B023 - used at once

        few = 6 if kind == "sum" else batches
        yield Table(
            title,
            [
                kit("local"),
                kit("test"),
                plain(LOCAL, env=tuned("local")),
                plain(TEST, env=tuned("test")),
                plain("naive", few, runs=1 if kind == "sum" else 100),
            ],
            truth=12,
            unit="ms",
            goal=goals[kind],
        )


def small_batches(name: str, kind: str, batches: int, profile: str = "", **more: Any) -> Program:
    """Return a program of so many batches: the kit's with a profile, else plain PySpark's."""
    folder, _ = data.small_sales(batches, 12)
    folder_and_more = (profile, folder, str(batches)) if profile else (folder,)
    file = HERE / "batch" / ("kit.py" if profile else "plain.py")
    return Program(
        name, (file, kind, *folder_and_more), **{"figure": usual_batch, "reads": rows_a_batch, **more}
    )


def usual_batch(run: Measured) -> float:
    """Return the median batch after the first third."""
    took = run.result["milliseconds"]
    return float(median(took[len(took) // 3 :]))


def rows_a_batch(run: Measured) -> float:
    """Return how many rows a batch had."""
    return float(run.result["rows"] / len(run.result["milliseconds"]))


# ---- throughput


def throughput(scale: float) -> Iterator[Table]:
    """Sum by key of a folder of sales, all of it in one run."""
    rows = int(ROWS * scale)
    folder, truth = data.sales(rows)

    def program(name: str, file: str, engine: str = "", *, only: str = "", **more: Any) -> Program | None:
        if only and kind not in only:
            return None
        return Program(name, (HERE / "throughput" / file, kind, folder / kind), engine, **more)

    for kind in ("csv", "json", "parquet"):
        programs = [
            program("kit", "kit.py"),
            program("hand-tuned", "tuned.py", env=tuned("local")),
            program("naive", "naive.py", runs=2),
            program("PyFlink", "with_flink.py", "flink", only="csv json", runs=2),
            program("bytewax, one core", "with_bytewax.py", "bytewax", only="csv", runs=2),
            program("Pathway", "with_pathway.py", "pathway", only="json", runs=1),
            program("DuckDB", "with_duckdb.py", "duckdb"),
            program("Polars", "with_polars.py", "polars"),
        ]
        goals = {"csv": "at least 0.55 million rows/s/core, and faster than PyFlink"}
        yield Table(
            f"{rows:,} sales, {kind.upper() if kind != 'parquet' else 'Parquet'}, sum by key",
            [found for found in programs if found],
            truth,
            rows=rows,
            inputs=folder / kind,
            goal=goals.get(kind, ""),
        )


# ---- the Yahoo streaming benchmark


def yahoo(scale: float) -> Iterator[Table]:
    """The Yahoo streaming benchmark: views joined with 1,000 ads, counted by campaign and 10 s window."""
    count = int(ROWS * scale)
    folder, truth = data.events(count)
    ads = folder / "ads.json"
    for kind, goal in (
        ("json", "0.4 million events/s/core; 1.5 times less CPU than PyFlink"),
        ("parquet", "0.9 million events/s/core"),
    ):
        args = (kind, folder / kind, ads)
        programs = [
            Program("kit", (HERE / "yahoo" / "kit.py", folder / kind, ads, "--format", kind)),
            Program("hand-tuned", (HERE / "yahoo" / "tuned.py", *args), env=tuned("local")),
            Program("naive", (HERE / "yahoo" / "naive.py", *args), runs=2),
        ]
        if kind == "json":
            flink = (HERE / "yahoo" / "with_flink.py",)
            programs += [
                Program("PyFlink, joined first", (*flink, "join", folder / kind, ads), "flink", runs=2),
                Program(
                    "PyFlink, counted by ad first", (*flink, "count", folder / kind, ads), "flink", runs=2
                ),
            ]
        yield Table(
            f"Yahoo streaming benchmark, {count:,} events, {kind}",
            programs,
            truth,
            rows=count,
            inputs=folder / kind,
            goal=f"at least {goal}",
        )


# ---- SQL sink


def sql(scale: float) -> Iterator[Table]:
    """Rows from Parquet into a table: the batch's time, without the start."""
    rows = int(ROWS * scale) // 10
    folder, truth = data.sales(rows)
    files = folder / "parquet"

    def rate(run: Measured) -> float:
        return float(rows / run.result["seconds"])

    def program(name: str, file: str, target: str, url: str) -> Program:
        env = tuned("local") if file == "tuned.py" else {}
        return Program(name, (HERE / "sql" / file, target, files), env=env, figure=rate, reads=table_in(url))

    data.HOME.mkdir(parents=True, exist_ok=True)
    path = str(data.HOME / "sales.db")
    url = f"sqlite:///{path}"
    forget(url)  # what an interrupted run left
    yield Table(
        f"{rows:,} rows into SQLite",
        [
            program("kit, exactly once", "kit.py", url, url),
            program("hand-tuned, at least once", "tuned.py", path, url),
            program("naive (toPandas, to_sql)", "naive.py", path, url),
        ],
        truth,
        unit="rows/s",
        goal="at least 120,000 rows/s",
        higher=True,
    )
    url = postgresql_url()
    yield Table(
        f"{rows:,} rows into PostgreSQL",
        [
            program("one plain COPY and a merge by hand, no Spark", "by_copy.py", url, url),
            program("kit, exactly once", "kit.py", url, url),
        ],
        truth,
        unit="rows/s",
        goal="at least half of the COPY",
        higher=True,
    )


def postgresql_url() -> str:
    """Return the address of a server of the tests' making, which ends with this process."""
    import pytest

    sys.path.insert(0, str(ROOT / "tests"))
    import postgresql

    try:
        return postgresql.server().url
    except pytest.skip.Exception as err:
        raise SystemExit(f"benchmark sql: {err}") from None


def table_in(url: str) -> Callable[[Measured], object]:
    """Return what reads the totals of the table `sales` and then drops it."""

    def read(run: Measured) -> list[list[str]]:
        del run
        import sqlalchemy as sa

        query = 'SELECT "ProductKey", SUM("SaleAmount") FROM sales GROUP BY 1'
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            found = sorted([key, f"{float(total):.2f}"] for key, total in connection.execute(sa.text(query)))
        engine.dispose()
        forget(url)
        return found

    return read


def forget(url: str) -> None:
    """Drop the tables of a run."""
    import sqlalchemy as sa

    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for table in ("sales", "sparkstream_ledger"):
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
    engine.dispose()


# ---- the kit's own cost


def overhead(scale: float) -> Iterator[Table]:
    """The kit against hand-tuned plain PySpark with the same settings: CPU seconds of driver and JVM."""
    rows = int(ROWS * scale) // 10
    folder, truth = data.sales(rows)
    args = ("csv", folder / "csv", "5")

    def cpu(run: Measured) -> float:
        return run.cpu

    yield Table(
        f"{rows:,} CSV rows in 20 batches, sum by key",
        [
            Program("hand-tuned", (HERE / "throughput" / "tuned.py", *args), env=tuned("local"), figure=cpu),
            Program("kit", (HERE / "throughput" / "kit.py", *args), figure=cpu),
        ],
        truth,
        unit="CPU s",
        runs=10,
        goal="kit at most 1.05",
    )
    yield Table(
        "60 batches of twelve rows, sum by key",
        [
            small_batches("hand-tuned", "sum", 60, env=tuned("local"), figure=cpu),
            small_batches("kit", "sum", 60, "local", figure=cpu),
        ],
        truth=12,
        unit="CPU s",
        runs=10,
        goal="kit at most 1.05",
    )


def quarantine(scale: float) -> Iterator[Table]:
    """Bad lines kept, against plain `readStream.csv`: CPU seconds from the session's start to the result."""
    folder, truth = data.sales(int(ROWS * scale) // 5)
    for which, title in (("all", "all twelve columns used"), ("two", "two of twelve columns used")):

        def program(name: str, file: str, **more: Any) -> Program:
            command = (HERE / "quarantine" / file, folder / "csv", which)  # noqa: B023 - used at once
            return Program(name, command, figure=lambda run: run.query[1], **more)

        yield Table(
            f"{int(ROWS * scale) // 5:,} lines of CSV, {title}",
            [program("plain readStream.csv", "plain.py", env=tuned("local")), program("kit", "kit.py")],
            truth if which == "two" else None,
            unit="CPU s",
            goal="kit at most 1.3" if which == "all" else "",
        )


def listener(scale: float) -> Iterator[Table]:
    """What the kit's listener takes a batch, timed in the callback, and PySpark's part before it."""
    del scale
    folder, _ = data.small_sales(60, 12)
    command = (HERE / "listener" / "kit.py", folder, "60")
    yield Table(
        "Listener, a batch",
        [
            Program("kit's part", command, figure=usual_batch),
            Program(
                "PySpark's part, before it", command, figure=lambda run: median(run.result["pyspark"][20:])
            ),
        ],
        truth=60,
        unit="ms",
        goal="at most 5 ms",
    )


# ---- tests


def suite(scale: float) -> Iterator[Table]:
    """Thirty streaming tests of three batches, from the start of pytest to its end."""
    del scale
    plain = HERE / "suite" / "plain.py"
    yield Table(
        "30 streaming tests of 3 batches",
        [
            under_pytest("kit's harness", HERE / "suite" / "kit.py", tests=30),
            under_pytest(TEST, plain, tests=30, env=tuned("test")),
            under_pytest("naive (3 run, 27 more of the last one's time)", plain, tests=3, of=30, runs=1),
        ],
        goal="at most 18 s",
    )


def under_pytest(
    name: str,
    file: Path,
    *,
    tests: int,
    of: int | None = None,
    env: dict[str, str] | None = None,
    runs: int = 100,
) -> Program:
    """Return a run of pytest; of more tests than it runs, the rest take what the last one took."""

    def seconds(run: Measured) -> float:
        passed = [at for at, _, text in run.lines if " PASSED " in text]
        more = (of or tests) - tests
        return run.seconds + (more * (passed[-1] - passed[-2]) if more else 0)

    command = (sys.executable, "-m", "pytest", file, "-v", "-p", "no:cacheprovider", "--rootdir", ROOT)
    return Program(
        name,
        command,
        env={"PYTHONUNBUFFERED": "1", "TESTS": str(tests), **(env or {})},
        figure=seconds,
        runs=runs,
        reads=lambda run: sum(" PASSED " in text for _, _, text in run.lines) == tests,
    )


# ---- files waiting


def waiting(scale: float) -> Iterator[Table]:
    """Many files in the folder, one a batch: the batch that lists them."""
    most = 5 if scale >= 1 else 4
    for power in range(1, most + 1):
        folder, _ = data.small_sales(10**power, 1)
        args = (folder, "8")
        longest = lambda run: float(max(run.result["milliseconds"]))  # noqa: E731
        yield Table(
            f"{10**power:,} files waiting, the longest listing of 8 batches",
            [
                Program("kit", (HERE / "waiting" / "kit.py", *args), figure=longest),
                Program(
                    "hand-tuned", (HERE / "waiting" / "plain.py", *args), env=tuned("local"), figure=longest
                ),
            ],
            truth=8,
            unit="ms",
            runs=2,
        )


# ---- the command line

BENCHMARKS = {
    each.__name__: each
    for each in (start, batch, throughput, yahoo, sql, overhead, quarantine, listener, suite, waiting)
}


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    scale: float
    runs: int | None
    engines: bool


def run(name: str, options: Options) -> dict[str, Any]:
    """Run one benchmark and return its figures."""
    tables = []
    for table in BENCHMARKS[name](options.scale):
        programs = [program for program in table.programs if options.engines or not program.engine]
        say(f"{name}: {table.title}")
        tables.append(measure(Table(**{**vars(table), "programs": programs}), options.runs, say))
    size = " --full" if options.scale >= 1 else ""
    return {
        "name": name,
        "about": (BENCHMARKS[name].__doc__ or "").strip(),
        "command": f"python benchmarks/run.py {name}{size}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "tables": tables,
    }


def say(text: str) -> None:
    """Tell how it goes, on standard error."""
    sys.stderr.write(f"{text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks, print their tables, and put them into a page if one is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (all)")
    parser.add_argument("--full", action="store_true", help="ten times the data, and all repetitions")
    parser.add_argument("--scale", type=float, default=0.1, help="part of the full data (0.1)")
    parser.add_argument(
        "--runs", type=int, help="of each program (2; with --full as many as its table asks for)"
    )
    parser.add_argument("--no-engines", action="store_true", help="Spark alone: installs nothing")
    parser.add_argument(
        "--page", type=Path, help="put tables and chart into this page, with earlier results of others"
    )
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # spark-submit, and its python3
    )
    scale, runs = (1.0, args.runs) if args.full else (args.scale, args.runs or 2)
    kept = data.HOME / "results" / f"{scale:g}"
    kept.mkdir(parents=True, exist_ok=True)
    for name in args.names or BENCHMARKS:
        found = run(name, Options(scale, runs, not args.no_engines))
        (kept / f"{name}.json").write_text(json.dumps(found), "utf-8")
        print(f"### {name}\n\n" + "\n".join(map(report.markdown, found["tables"])), flush=True)
    if args.page:
        files = [kept / f"{name}.json" for name in BENCHMARKS]
        results = [json.loads(file.read_text("utf-8")) for file in files if file.exists()]
        report.write_page(args.page, results, args.page.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
