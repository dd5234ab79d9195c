"""HDFS for real, a NameNode and a DataNode: jobs read it, write it, keep checkpoints on it, outlive it."""

from functools import partial

import pytest
from faults.drivers import ended
from systems.conftest import JOBS, ROUNDS
from systems.launching import SMALL, Sales, cleaned, cut_off, newest, refused, shown

ONE_MACHINE = "local[2]"


@pytest.mark.slow
def test_totals_are_exact_through_a_namenode_that_stops_and_one_that_is_killed(hdfs, launch, tmp_path):
    sales, table = Sales(hdfs, "/outage/in"), tmp_path / "totals.csv"
    sales.land(2)
    checkpoint = ("--checkpoint", f"{hdfs.url}/outage/checkpoint")
    command = (ONE_MACHINE, "sales_totals", sales.url, *checkpoint, "--snapshot", table)
    driver = launch.job(*command, "--stop-file", stop := tmp_path / "stop")
    driver.until(lambda: shown(table) == sales.totals())
    for number in range(ROUNDS):
        planned = newest(hdfs, "/outage/checkpoint/offsets")
        sales.land(2)
        driver.until(lambda: newest(hdfs, "/outage/checkpoint/offsets") > planned)  # noqa: B023
        if number % 2:
            hdfs.namenode.kill()
        else:
            hdfs.namenode.stop()
        hdfs.start()
        sales.land(1)
        driver.until(lambda: shown(table) == sales.totals())
    stop.touch()
    ended(driver)
    # Away for longer than the client tries, which here is six seconds: the next start is exact.
    sales.land(1)
    impatient = ("--conf", "spark.hadoop.dfs.client.retry.policy.spec=200,5", *SMALL)
    job = (JOBS / "sales_totals.py", *command[2:], "--profile", "cluster")
    driver = launch.submit("--master", ONE_MACHINE, *impatient, *job)
    driver.until(lambda: shown(table) == sales.totals())
    hdfs.namenode.stop()
    assert "query sales_totals failed: " in refused(driver, 1)
    hdfs.start()
    sales.land(1)
    ended(launch.job(*command, "--available-now"))
    assert shown(table) == sales.totals()


def test_a_job_s_rows_on_hdfs_are_exact_when_its_driver_is_killed(hdfs, launch):
    sales, out = Sales(hdfs, "/clean/in"), f"{hdfs.url}/clean/out"
    begin = partial(launch.job, ONE_MACHINE, "sales_clean", sales.url, out)
    cut_off(ROUNDS, partial(begin, "--max-files-per-trigger", 1), sales, hdfs, "/clean/out/_checkpoint")
    ended(begin("--available-now"))
    assert cleaned(hdfs, "/clean/out") == sales.totals()
    # A replayed batch without its commit takes the place of the first.
    last = newest(hdfs, "/clean/out/_checkpoint/commits")
    hdfs.remove(f"/clean/out/_checkpoint/commits/{last}")
    ended(begin("--available-now"))
    assert cleaned(hdfs, "/clean/out") == sales.totals()
    assert newest(hdfs, "/clean/out/_checkpoint/commits") == last
    assert [name for name in hdfs.names("/clean/out/good") if name.startswith(".")] == []


def test_a_checkpoint_on_hdfs_is_guarded(hdfs, launch):
    sales, place = Sales(hdfs, "/look/in"), f"{hdfs.url}/look/checkpoint"
    sales.land(3)
    run_all = ("--available-now", "--checkpoint", place)
    ended(launch.job(ONE_MACHINE, "sales_totals", sales.url, *run_all, "--max-files-per-trigger", 1))
    # Damage is named, with the way out.
    plan = "/look/checkpoint/offsets/2"
    hdfs.put(plan, hdfs.read(plan)[:40])
    again = refused(launch.job(ONE_MACHINE, "sales_totals", sales.url, *run_all))
    assert f"checkpoint {place} is damaged: offsets/2 is cut off or changed; " in again
