"""Measures the kit beside what one would do without it.

`make bench` and `make bench-full` run all of it.

Every result is compared with the truth, which the generators know without Spark, before
its time counts. Programs take turns, every second round backwards. A time is that from
the start of the process to its result.
Run: python benchmarks/run.py [NAME …] [--full]
"""

from __future__ import annotations

import argparse
import compileall
import inspect
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import report
from brokers import arrival, kafka
from lakes import delta, iceberg
from latencies import (
    batch,
    history,
    listener,
    monitoring,
    overhead,
    start,
    suite,
    waiting,
)
from running import ROOT, measure
from templates import jobs
from volumes import quarantine, sql, throughput, yahoo

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCHMARKS = {
    each.__name__: each
    for each in (
        *(
            start,
            batch,
            throughput,
            yahoo,
            sql,
            delta,
            iceberg,
            overhead,
            quarantine,
            kafka,
            arrival,
            jobs,
        ),
        *(listener, suite, waiting, monitoring, history),
    )
}


def run(name: str, *, scale: float, runs: int | None, engines: bool) -> dict[str, Any]:
    """Run one benchmark and return its figures."""
    tables = []
    for table in BENCHMARKS[name](scale):
        programs = [
            program for program in table.programs if engines or not program.engine
        ]
        say(f"{name}: {table.title}")
        tables.append(measure(replace(table, programs=programs), runs, say))
    size = " --full" if scale >= 1 else f" --scale {scale:g}"
    size += f" --runs {runs}" if runs and scale >= 1 else ""
    return {
        "name": name,
        "about": inspect.getdoc(BENCHMARKS[name]),
        "command": f"python benchmarks/run.py {name}{size}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": report.machine(),
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
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (all)"
    )
    parser.add_argument(
        "--full", action="store_true", help="ten times the data, and all repetitions"
    )
    parser.add_argument(
        "--scale", type=float, default=0.1, help="part of the full data (0.1)"
    )
    parser.add_argument(
        "--runs",
        type=int,
        help="of each program (1; with --full as many as its table asks for)",
    )
    parser.add_argument(
        "--no-engines", action="store_true", help="Spark alone: installs nothing"
    )
    parser.add_argument(
        "--page",
        type=Path,
        help="put the figures into this page, its chart and its .json, beside others",
    )
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(
            f"unknown benchmark {', '.join(sorted(unknown))}; known:"
            f" {', '.join(BENCHMARKS)}"
        )
    # spark-submit and sparkstream of this environment, and the python3 that they look
    # for.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Compiled as an installed package is; where Python writes no bytecode, each start
    # would do it again.
    compileall.compile_dir(ROOT / "sparkstream_kit", quiet=1)
    scale, runs = (1.0, args.runs) if args.full else (args.scale, args.runs or 1)
    for name in args.names or BENCHMARKS:
        found = run(name, scale=scale, runs=runs, engines=not args.no_engines)
        print(
            f"### {name}\n\n" + "\n".join(map(report.markdown, found["tables"])),
            flush=True,
        )
        if args.page:
            kept = args.page.with_suffix(".json")
            results = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
            results[name] = found
            kept.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
            ordered = [results[known] for known in BENCHMARKS if known in results]
            report.write_page(args.page, ordered, args.page.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
