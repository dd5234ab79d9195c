"""A database stopped in mid-transaction: one line, and the restarted job is exact."""

import time

from conftest import HANGS
from faults import targets
from faults.drivers import one_line

COPIES = (
    "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY"
    " sparkstream_stage %'"
)


def test_a_database_that_stops_in_mid_transaction(server, tmp_path, launch, request):
    url = server.database()
    sales, target = targets.database(tmp_path, url, "append", rows=100_000)
    sales.land(1)
    driver, end = launch("python", *target.command), time.monotonic() + HANGS
    while not driver.frozen_if(lambda: bool(targets.query(url, COPIES))):
        assert time.monotonic() < end, f"never in mid-transaction: {driver.errors}"
        targets.keep_going(driver, target, sales)
    targets.nothing_halved(target)
    request.addfinalizer(server.start)  # whatever happens here: others need it
    server.stop()
    targets.disconnect()
    driver.thaw()

    line = one_line(driver, 1)
    assert line.startswith("sales_to.py: query sales_to failed: ")
    assert url.replace(server.password, "***") in line
    assert server.password not in driver.output + driver.errors

    driver = launch("python", *target.command)  # still down
    assert "cannot be reached" in one_line(driver, 75)
    assert server.password not in driver.output + driver.errors

    server.start()
    targets.finish(target, launch)
