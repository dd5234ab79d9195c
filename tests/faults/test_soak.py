"""Many batches: nothing that a driver holds grows with their number."""

import contextlib
import json
import os
import sqlite3
from collections import Counter

import pytest
from conftest import HANGS
from faults.drivers import SCRIPTS

from sparkstream_kit import connectors, sinks

# Batches after which Spark keeps no more of its executions, logs and progress than
# before
FIRST = 30
LAST = int(os.environ.get("BATCHES", "70"))  # what leaks with each batch shows in forty
# A few come and go with a batch
MAY_GROW = {"megabytes": 10, "descriptors": 10, "threads": 20, "files": 10}
# Those that need a server or jars: tests/systems/soak.py
SYSTEMS = connectors.names("sink")
# Own sinks: in `make soak` alone
SPARKS = () if "BATCHES" in os.environ else ("files", "memory", "table")
KINDS = (
    # Without classes, such as BatchSink
    *(
        each
        for each in sinks.__all__
        if each.islower() and each not in (*SYSTEMS, *SPARKS)
    ),
    *(f"sql_table-{how}" for how in connectors.systems()["sql_table"].ways),
    "year",  # files dated as they come in a year, into a table by `upsert`
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "database"),
    [*((kind, "sqlite") for kind in KINDS), ("sql_table-append", "postgresql")],
)
def test_a_driver_holds_no_more_after_many_batches(
    kind, database, tmp_path, launch, request
):
    if database == "postgresql":
        url = request.getfixturevalue("server").database()
    else:
        url = f"sqlite:///{tmp_path}/totals.db"
    holds_no_more(
        launch("python", SCRIPTS / "soak.py", kind, f"{url} t", tmp_path, FIRST, LAST),
        tmp_path,
    )
    if kind == "year":
        with contextlib.closing(sqlite3.connect(tmp_path / "totals.db")) as table:
            rows = dict(table.execute("SELECT k, v FROM t"))
            [[last]] = table.execute("SELECT batch_id FROM sparkstream_ledger")
        assert last >= LAST
        assert rows == {
            key: max(map(str, range(key, last + 1, 7))) for key in range(7)
        }  # a file in each batch


def holds_no_more(driver, folder, *, batch=2):
    """See that a driver ends well, and held no more at its last look than at its first.

    Args:
        driver: of the script `soak.py`.
        folder: where it writes what it held.
        batch: seconds that a batch may take.
    """
    assert driver.ended(limit=HANGS + batch * LAST) == 0, driver.errors
    first, last = map(json.loads, (folder / "looks").read_text().splitlines())
    names = Counter(last.pop("names"))
    names.subtract(first.pop("names"))
    print(f"{folder.name}: {first} {last}")  # noqa: T201 - `make soak` shows it
    grown = {name: last[name] - first[name] for name in MAY_GROW}
    assert all(grown[name] < limit for name, limit in MAY_GROW.items()), (
        first,
        last,
        +names,
    )
