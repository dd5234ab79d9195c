"""Tables about volume: throughput, the Yahoo streaming benchmark, SQL sinks, the quarantine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import data
from running import HERE, ROOT, Limit, Measured, Program, Table, tuned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["quarantine", "sql", "throughput", "yahoo"]

ROWS = 10_000_000


def throughput(scale: float) -> Iterator[Table]:
    """Sum by key of a folder of sales, all of it in one run."""
    rows = int(ROWS * scale)
    folder, truth = data.sales(rows)

    def program(
        name: str, file: str, engine: str = "", *, only: str = "", **more: Any
    ) -> Program | None:
        if only and kind not in only:
            return None
        return Program(
            name, (HERE / "throughput" / file, kind, folder / kind), engine, **more
        )

    for kind in ("csv", "json", "parquet"):
        programs = [
            program("kit", "kit.py"),
            program("hand-tuned", "tuned.py", env=tuned("local")),
            program("naive", "naive.py", runs=1),
            program(
                "PyFlink",
                "with_flink.py",
                "flink",
                only="csv json",
                runs=2 if kind == "csv" else 1,
            ),
            program(
                "bytewax, one core", "with_bytewax.py", "bytewax", only="csv", runs=2
            ),
            program("Pathway", "with_pathway.py", "pathway", only="json", runs=1),
            program("DuckDB", "with_duckdb.py", "duckdb"),
            program("Polars", "with_polars.py", "polars"),
        ]
        limits = [Limit("kit", 0.5, "hand-tuned", seconds=True)]
        if kind == "csv":
            limits += [Limit("kit", 0.55, rate=True), Limit("kit", 1, "PyFlink")]
        yield Table(
            f"{rows:,} sales, {kind.upper() if kind != 'parquet' else 'Parquet'}, sum"
            " by key",
            [found for found in programs if found],
            truth,
            rows=rows,
            inputs=folder / kind,
            runs=3 if kind == "csv" else 2,
            limits=limits,
        )


def yahoo(scale: float) -> Iterator[Table]:
    """The Yahoo streaming benchmark: ad views counted by campaign and 10 s window.

    The views are joined with 1,000 ads.
    """
    count = int(ROWS * scale)
    folder, truth = data.events(count)
    ads = folder / "ads.json"
    for kind, rate in (("json", 0.4), ("parquet", 0.9)):
        args = (kind, folder / kind, ads)
        programs = [
            Program(
                "kit", (HERE / "yahoo" / "kit.py", folder / kind, ads, "--format", kind)
            ),
            Program(
                "hand-tuned", (HERE / "yahoo" / "tuned.py", *args), env=tuned("local")
            ),
            Program("naive", (HERE / "yahoo" / "naive.py", *args), runs=1),
        ]
        if kind == "json":
            flink = (HERE / "yahoo" / "with_flink.py",)
            programs += [
                Program(
                    "PyFlink, joined first",
                    (*flink, "join", folder / kind, ads),
                    "flink",
                    runs=1,
                ),
                Program(
                    "PyFlink, counted by ad first",
                    (*flink, "count", folder / kind, ads),
                    "flink",
                    runs=1,
                ),
            ]
        yield Table(
            f"Yahoo streaming benchmark, {count:,} events, {kind}",
            programs,
            truth,
            rows=count,
            inputs=folder / kind,
            limits=(
                Limit("kit", rate, rate=True),
                Limit("kit", 0.5, "hand-tuned", seconds=True),
            ),
        )


def sql(scale: float) -> Iterator[Table]:
    """Rows from Parquet into a table: the batch's time, without the start."""
    rows = int(ROWS * scale) // 10
    folder, truth = data.sales(rows)
    files = folder / "parquet"

    def rate(run: Measured) -> float:
        return float(rows / run.result["seconds"])

    def program(name: str, file: str, target: str, url: str) -> Program:
        env = tuned("local") if file == "tuned.py" else {}
        return Program(
            name,
            (HERE / "sql" / file, target, files),
            env=env,
            figure=rate,
            reads=table_in(url),
        )

    def table(where: str, programs: list[Program], *limits: Limit) -> Table:
        title = f"{rows:,} rows into {where}"
        return Table(
            title, programs, truth, unit="rows/s", runs=2, limits=limits, higher=True
        )

    data.HOME.mkdir(parents=True, exist_ok=True)
    path = str(data.HOME / "sales.db")
    url = f"sqlite:///{path}"
    forget(url)  # what an interrupted run left
    into_sqlite = [
        program("kit, exactly once", "kit.py", url, url),
        program("hand-tuned, at least once", "tuned.py", url, url),
        program("naive (toPandas, to_sql)", "naive.py", path, url),
    ]
    naive = into_sqlite[-1].name
    yield table("SQLite", into_sqlite, Limit("kit, exactly once", 1, naive))
    url = postgresql_url()
    into_postgresql = [
        program("one plain COPY and a merge by hand, no Spark", "by_copy.py", url, url),
        program("kit, exactly once", "kit.py", url, url),
        program("hand-tuned, one COPY, at least once", "tuned.py", url, url),
    ]
    by_copy = into_postgresql[0].name
    yield table("PostgreSQL", into_postgresql, Limit("kit, exactly once", 0.5, by_copy))


def postgresql_url() -> str:
    """Return the address of a server of the tests' making, which ends with this process."""
    import pytest

    sys.path.insert(0, str(ROOT / "tests"))
    from support import postgresql

    try:
        return str(postgresql.server().url)
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
            found = sorted(
                [key, f"{float(total):.2f}"]
                for key, total in connection.execute(sa.text(query))
            )
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


def quarantine(scale: float) -> Iterator[Table]:
    """Files read strictly, and bad lines kept, against plain `readStream.csv` and `from_json`.

    The figures are CPU seconds from the session's start to the result.
    """
    yield from _lines_of_csv(scale)
    yield from _lines_of_json(scale)


def _lines_of_json(scale: float) -> Iterator[Table]:
    """Lines of JSON with their bad lines kept, to Parquet."""
    rows = int(ROWS * scale)
    folder, truth = data.orders(rows)
    for which, title in (
        ("flat", "seven columns"),
        ("nested", "with a struct and an array of structs"),
    ):
        programs = [
            Program(
                name,
                (HERE / "quarantine" / file, folder / which, which),
                figure=lambda run: run.query[1],
                env=env,
            )
            for name, file, env in (
                ("plain from_json", "json_plain.py", tuned("local")),
                ("kit", "json_kit.py", {}),
            )
        ]
        yield Table(
            f"{rows:,} lines of JSON, {title}, to Parquet",
            programs,
            truth,
            unit="CPU s",
            inputs=folder / which,
            runs=3,
            limits=(Limit("kit", 2, "plain from_json"),),
        )


def _lines_of_csv(scale: float) -> Iterator[Table]:
    """Lines of CSV with their bad lines kept, summed by key."""
    rows = int(ROWS * scale)
    folder, truth = data.sales(rows)
    for which, title in (
        ("all", "all twelve columns used"),
        ("two", "two of twelve columns used"),
    ):

        def program(name: str, file: str, **more: Any) -> Program:
            command = (
                HERE / "quarantine" / file,
                folder / "csv",
                which,  # noqa: B023 - used at once
            )
            return Program(name, command, figure=lambda run: run.query[1], **more)

        yield Table(
            f"{rows:,} lines of CSV, {title}",
            [
                program("plain readStream.csv", "plain.py", env=tuned("local")),
                program("sources.csv", "strict.py"),
                program("kit", "kit.py"),
            ],
            truth if which == "two" else None,
            unit="CPU s",
            inputs=folder / "csv",
            runs=3 if which == "all" else 1,
            limits=(
                Limit("sources.csv", 1.05, "plain readStream.csv"),
                *(
                    [Limit("kit", 1.3, "plain readStream.csv")]
                    if which == "all"
                    else []
                ),
            ),
        )
