"""Spark's own cluster and YARN, with HDFS: what a job gives there, and what it survives."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pyspark
import pytest
from faults.drivers import ended
from systems.conftest import JOBS, ROUNDS, jars
from systems.hadoop import Yarn
from systems.launching import (
    QUICK,
    SMALL,
    Sales,
    cleaned,
    newest,
    shown,
    totals_of,
    written,
)

from sparkstream_kit import feeds

ALL = ("--available-now", "--checkpoint")


def test_a_job_without_state_is_exact(hdfs, cluster, kit, launch):
    sales, out = Sales(hdfs, "/stateless/in"), f"{hdfs.url}/stateless/out"
    sales.land(3)
    # Beside such a name Spark itself counts the other files twice
    sales.land(1, named="[7] {}")
    ended(
        launch.job(
            cluster.url, "sales_clean", sales.url, out, "--available-now", kit=kit
        )
    )
    assert cleaned(hdfs, "/stateless/out") == sales.totals()


ALERTS = {"Often": "burst", "ZScore": "amount", "Travel": "place"}


@pytest.mark.slow
def test_a_job_with_a_python_function_is_exact(hdfs, cluster, kit, launch):
    rows = list(feeds.cards_rows(1000, seed=4))
    for name, text in feeds.line_files(
        map(feeds.csv_line, rows), rows=500, name="cards-{}.csv"
    ):
        hdfs.put(f"/cards/in/{name}", text.encode())
    places = (f"{hdfs.url}/cards/in", f"{hdfs.url}/cards/out")
    ended(
        launch.job(
            cluster.url, "card_alerts", *places, "--available-now", "--drain", kit=kit
        )
    )
    alerts = written(hdfs, "/cards/out")
    found = sorted(
        (row["card"], f"{row['time']:%Y-%m-%dT%H:%M:%SZ}", ALERTS[row["rule"]])
        for row in alerts
    )
    assert found == sorted(feeds.cards_truth(rows))
    assert {what for *_, what in found} == set(ALERTS.values())


@pytest.mark.slow
def test_a_job_with_state_is_exact_when_workers_executors_and_the_master_are_killed(
    hdfs, cluster, kit, launch, tmp_path
):
    sales, table, stop = (
        Sales(hdfs, "/killed/in"),
        tmp_path / "totals.csv",
        tmp_path / "stop",
    )
    sales.land(2)
    flags = (
        "--checkpoint",
        f"{hdfs.url}/killed/checkpoint",
        "--snapshot",
        table,
        "--stop-file",
        stop,
    )
    driver = launch.job(cluster.url, "sales_totals", sales.url, *flags, kit=kit)

    def land_and_wait(kill=None):
        planned = newest(hdfs, "/killed/checkpoint/offsets")
        sales.land(2)
        if callable(kill):
            driver.until(lambda: newest(hdfs, "/killed/checkpoint/offsets") > planned)
            kill()
        driver.until(lambda: shown(table) == sales.totals())

    land_and_wait()
    # A worker, which takes its executors with it; one executor; all of them.
    kills = (
        cluster.workers[0].kill,
        partial(cluster.kill_executors, 1),
        cluster.kill_executors,
    )
    for number in range(ROUNDS):
        land_and_wait(kills[number % 3])
        cluster.start()
    land_and_wait(cluster.master.kill)
    land_and_wait()
    stop.touch()
    assert "TotalSales" in ended(driver)
    assert shown(table) == sales.totals()


def test_a_temporary_checkpoint_is_on_the_default_file_system(
    hdfs, cluster, kit, launch
):
    cluster.stop()  # its master was killed
    cluster.start()
    sales = Sales(hdfs, "/refused/in")
    sales.land(1)
    default = ("--conf", f"spark.hadoop.fs.defaultFS={hdfs.url}")
    command = (
        "--master",
        cluster.url,
        "--py-files",
        kit,
        *SMALL,
        *default,
        JOBS / "sales_totals.py",
    )
    flags = ("--available-now", "--profile", "cluster", "--format", "csv")
    assert (
        totals_of(ended(launch.submit(*command, "/refused/in", *flags, PYTHONPATH="")))
        == sales.totals()
    )


@pytest.mark.slow
def test_a_job_on_yarn_is_exact_in_client_and_in_cluster_mode(
    hdfs, cluster, kit, launch, tmp_path
):
    cluster.stop()  # it would want the same two cores
    sales = Sales(hdfs, "/yarn/in")
    sales.land(2)
    yarn = Yarn(
        tmp_path / "yarn", sorted(jars("hadoop").glob("*.jar")), default_fs=hdfs.url
    )
    yarn.start()
    try:
        spark = Path(pyspark.__file__).parent
        flags = [
            *("--master", "yarn", "--py-files", kit, "--num-executors", 1, *SMALL),
            *(
                "--executor-memory",
                "512m",
                "--driver-memory",
                "768m",
                "--driver-java-options",
                QUICK,
            ),
            *(
                "--conf",
                f"spark.yarn.jars=local:{spark}/jars/*",
                "--conf",
                "spark.yarn.report.interval=500",
            ),
        ]
        for key, value in {
            "PYSPARK_PYTHON": sys.executable,
            "JAVA_HOME": (
                os.environ.get("JAVA_HOME")
                or str(Path(shutil.which("java") or "").resolve().parents[1])
            ),
            "SPARK_LOCAL_IP": "127.0.0.1",
        }.items():
            flags += ["--conf", f"spark.yarn.appMasterEnv.{key}={value}"]
            flags += ["--conf", f"spark.executorEnv.{key}={value}"]
        env = {
            "HADOOP_CONF_DIR": str(yarn.conf),
            "PYTHONPATH": "",
            "PYSPARK_PYTHON": sys.executable,
        }
        totals = [
            JOBS / "sales_totals.py",
            "/yarn/in",
            *ALL,
            "/yarn/checkpoint",
            "--format",
            "csv",
        ]
        client = launch.submit(*flags, *totals, "--profile", "cluster", **env)
        assert totals_of(ended(client)) == sales.totals()
        rows = [
            JOBS / "sales_clean.py",
            "/yarn/in",
            f"{hdfs.url}/yarn/out",
            "--available-now",
        ]
        ended(
            launch.submit(
                "--deploy-mode", "cluster", *flags, *rows, "--profile", "cluster", **env
            )
        )
        assert cleaned(hdfs, "/yarn/out") == sales.totals()
    finally:
        yarn.stop()
