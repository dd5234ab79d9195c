"""Tables about Delta Lake and Iceberg: batches by the kit, and by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from running import HERE, Limit, Program, Table, tuned

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["delta", "iceberg"]


def delta(scale: float) -> Iterator[Table]:
    """Ten totals of 1,000 rows upserted into a Delta table: the median of 20 warm batches."""
    del scale

    def program(name: str, *command: str, **more: Any) -> Program:
        file, *words = command
        path = (str(HERE / "delta" / file), *words, "{work}/table")
        return Program(
            name, path, figure=lambda run: float(run.result["seconds"]), **more
        )

    yield Table(
        "An upsert into a Delta table, exactly once",
        [
            program("kit, delta-rs", "kit.py", "delta-rs"),
            program("kit, Delta's writer for Spark", "kit.py", "spark"),
            program(
                "by hand, with the kit's settings", "by_hand.py", env=tuned("local")
            ),
        ],
        truth=[10, True],
        limits=(
            Limit(
                "kit, Delta's writer for Spark", 1.2, "by hand, with the kit's settings"
            ),
        ),
    )


def iceberg(scale: float) -> Iterator[Table]:
    """A batch of 1,000,000 rows appended to an Iceberg table: the median of four warm batches.

    And what a batch of one row costs after many others: the mean of 40.
    """

    def program(name: str, file: str) -> Program:
        path = (str(HERE / "iceberg" / file), "{work}/lake")
        return Program(name, path, figure=lambda run: float(run.result["seconds"]))

    yield Table(
        "A million rows appended to an Iceberg table",
        [
            program("kit, exactly once", "kit.py"),
            program("pyiceberg by hand, at least once", "by_hand.py"),
        ],
        truth=[0, 0],
    )

    def after(batches: int) -> Program:
        command = (str(HERE / "iceberg" / "many.py"), str(batches), "{work}/lake")
        figure = lambda run: float(run.result["seconds"])  # noqa: E731
        return Program(
            f"after {batches:,} batches", command, figure=figure, runs=1, limit=1800
        )

    yield Table(
        "One row appended to an Iceberg table, without Spark",
        [*map(after, (50, 500, 5_000) if scale >= 1 else (50, 500))],
        limits=(
            (Limit("after 5,000 batches", 1.2, "after 50 batches"),)
            if scale >= 1
            else ()
        ),
    )
