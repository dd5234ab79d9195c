"""A disk that fills: one clear line and exit code 1.

With space again, the job goes on and is exact.
"""

from contextlib import suppress
from functools import partial

import pytest
from conftest import refusal
from faults import targets
from faults.drivers import one_line

from sparkstream_kit import run, sinks, sources, start


@pytest.mark.fast("output")
@pytest.mark.parametrize("full", ["checkpoint", "output", "database", "iceberg"])
def test_a_disk_that_fills_is_one_line_and_nothing_is_lost(
    full, small_disk, tmp_path, launch
):
    url = f"sqlite:///{small_disk if full == 'database' else tmp_path}/totals.db"
    job = {
        "output": partial(targets.clean_files, out=small_disk / "out"),
        "iceberg": partial(targets.iceberg, how="append", lake=small_disk / "lake"),
        "database": partial(targets.database, url=url),
        "checkpoint": partial(
            targets.database, url=url, checkpoint=small_disk / "ckpt"
        ),
    }[full]
    sales, target = job(tmp_path)
    sales.land(2)
    driver = launch("python", *target.command)
    driver.until(lambda: target.committed(1))
    fill(small_disk / "ballast")
    sales.land(2)

    line = one_line(driver, 1)
    assert "failed: " in line
    assert "No space left on device" in line or "database or disk is full" in line

    (small_disk / "ballast").unlink()
    targets.finish(target, launch)


def test_a_start_on_a_full_disk_leaves_no_lock(spark, small_disk, folder):
    def begin():
        lines = sources.text(spark, str(folder))
        return start(
            lines,
            sinks.console(),
            name="full",
            checkpoint=small_disk / "ckpt",
            availableNow=True,
        )

    (small_disk / "ckpt" / "sparkstream-kit").mkdir(parents=True)
    fill(small_disk / "ballast")
    for _again in range(2):
        assert "cannot be locked: No space left on device; make room" in refusal(begin)
    (small_disk / "ballast").unlink()
    run(begin())


def fill(ballast):
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
