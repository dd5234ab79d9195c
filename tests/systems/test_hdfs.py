"""A real HDFS: jobs read it, write it, keep checkpoints on it, and outlive it.

It is a NameNode and a DataNode.
"""

import json
import re
from functools import partial

import pytest
from conftest import ROOT
from faults.drivers import ended, until
from systems.conftest import JOBS, ROUNDS, jars
from systems.flume import Agent
from systems.launching import (
    SMALL,
    Sales,
    cleaned,
    cut_off,
    newest,
    refused,
    shown,
    written,
)

ONE_MACHINE = "local[2]"


@pytest.mark.slow
def test_totals_are_exact_through_a_namenode_that_stops_and_one_that_is_killed(
    hdfs, launch, tmp_path
):
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
    # Away for longer than the client tries, which here is six seconds: the next start
    # is exact.
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


def numbers(text):
    """Return the numbers of a JSON list."""
    return [int(each) for each in json.loads(text)]


def test_files_of_one_time_on_hdfs_are_read_in_the_order_of_their_names(hdfs, launch):
    names = [f"{number}.csv" for number in (7, 2, 11, 5, 0, 9, 1, 10, 3, 8, 6, 4)]
    for name in names:
        hdfs.put(f"/lines/{name}", b"no sale\n")
        hdfs.date(f"/lines/{name}", 1_700_000_000)
    one_by_one = ("--max-files-per-trigger", 1, "--available-now")
    checkpoint = ("--checkpoint", f"{hdfs.url}/lines-checkpoint")
    lines = f"{hdfs.url}/lines"
    ended(launch.job(ONE_MACHINE, "sales_totals", lines, *checkpoint, *one_by_one))
    log = hdfs.read("/lines-checkpoint/sources/0/9.compact").decode()
    assert re.findall(r"lines/(\d+\.csv)", log) == sorted(names)[:10]


def test_a_job_s_rows_on_hdfs_are_exact_when_its_driver_is_killed(hdfs, launch):
    sales, out = Sales(hdfs, "/clean/in"), f"{hdfs.url}/clean/out"
    begin = partial(launch.job, ONE_MACHINE, "sales_clean", sales.url, out)
    cut_off(
        ROUNDS,
        partial(begin, "--max-files-per-trigger", 1),
        sales,
        hdfs,
        "/clean/out/_checkpoint",
    )
    ended(begin("--available-now"))
    assert cleaned(hdfs, "/clean/out") == sales.totals()
    # A replayed batch without its commit takes the place of the first.
    last = newest(hdfs, "/clean/out/_checkpoint/commits")
    hdfs.remove(f"/clean/out/_checkpoint/commits/{last}")
    ended(begin("--available-now"))
    assert cleaned(hdfs, "/clean/out") == sales.totals()
    assert newest(hdfs, "/clean/out/_checkpoint/commits") == last
    assert [
        name for name in hdfs.names("/clean/out/good") if name.startswith(".")
    ] == []


def test_a_checkpoint_on_hdfs_is_guarded(hdfs, launch):
    sales, place = Sales(hdfs, "/look/in"), f"{hdfs.url}/look/checkpoint"
    sales.land(3)
    run_all = ("--available-now", "--checkpoint", place)
    ended(
        launch.job(
            ONE_MACHINE,
            "sales_totals",
            sales.url,
            *run_all,
            "--max-files-per-trigger",
            1,
        )
    )
    # Damage is named, with the way out.
    plan = "/look/checkpoint/offsets/2"
    hdfs.put(plan, hdfs.read(plan)[:40])
    again = refused(launch.job(ONE_MACHINE, "sales_totals", sales.url, *run_all))
    assert f"checkpoint {place} is damaged: offsets/2 is cut off or changed; " in again


@pytest.mark.slow
def test_the_last_windows_close_and_late_rows_go_aside_on_hdfs(hdfs, launch):
    start, hour = 1_704_067_200, 3600  # 2024-01-01 00:00 UTC
    #   file 0   00:10  00:50  03:00     the watermark passes 02:50
    #   file 1   00:20 (late)  03:30     drained: the window from 03:00 is written too
    times = [
        [start + 600, start + 3000, start + 3 * hour],
        [start + 1200, start + 3 * hour + 1800],
    ]
    for number, each in enumerate(times):
        lines = "".join(
            json.dumps({"time": time, "action": "open"}) + "\n" for time in each
        )
        hdfs.put(f"/windows/in/{number}.json", lines.encode())
    out = f"{hdfs.url}/windows/out"
    one_file = ("--available-now", "--max-files-per-trigger", 1)
    ended(
        launch.job(ONE_MACHINE, "action_rows", f"{hdfs.url}/windows/in", out, *one_file)
    )
    drained = ("--available-now", "--drain")
    command = (ONE_MACHINE, "action_windows", f"{out}/rows", f"{out}/counts", *drained)
    ended(launch.job(*command))
    counts = sorted(
        (row["start"].hour, row["count"])
        for row in written(hdfs, "/windows/out/counts")
    )
    assert counts == [(0, 2), (3, 2)]
    assert [row["time"].minute for row in written(hdfs, "/windows/out/late")] == [20]
    assert f"checkpoint {out}/counts/_checkpoint was drained" in refused(
        launch.job(*command)
    )


def test_a_flume_agent_lands_whole_files(hdfs, tmp_path):
    conf = ROOT / "examples" / "flume" / "flume.conf"
    agent = Agent(tmp_path / "agent", jars("flume"), conf, f"{hdfs.url}/flume")
    lines = [f"line {number}" for number in range(300)]

    def landed():
        names = [name for name in hdfs.names("/flume") if not name.startswith("_")]
        return [
            line
            for name in sorted(names)
            for line in hdfs.read(f"/flume/{name}").decode().splitlines()
        ]

    agent.start()
    try:
        agent.send(lines)
        until(lambda: len(landed()) >= len(lines), agent.daemon.log)
    finally:
        agent.daemon.kill()
    assert landed() == lines
