"""The database stopped in mid-transaction and started again: one line, and the restarted job is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults import targets
from faults.drivers import one_line, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import postgresql
    from faults.drivers import Driver

COPIES = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY sparkstream_stage %'"


def test_a_database_that_stops_in_mid_transaction(
    server: postgresql.Server, tmp_path: Path, launch: Callable[..., Driver]
) -> None:
    url = server.database()
    sales, target = targets.database(tmp_path, url, "insert", rows=100_000)
    sales.land(1)
    driver = launch("python", *target.command)
    until(lambda: targets.query(url, COPIES), lambda: driver.errors, every=0.001)
    driver.freeze()
    assert targets.query(url, COPIES)  # frozen in the middle of it
    assert target.sinks[0].totals() == []
    server.stop()
    targets.disconnect()
    driver.thaw()

    assert driver.ended() == 1, driver.errors
    line = one_line(driver)
    assert line.startswith("sales_to.py: query sales_to failed: ")
    assert url.replace(server.password, "***") in line
    assert server.password not in driver.output + driver.errors

    driver = launch("python", *target.command)  # still down
    assert driver.ended() == 2, driver.errors
    assert "cannot be reached" in one_line(driver)
    assert server.password not in driver.output + driver.errors

    server.start()
    targets.finish(target, launch)
