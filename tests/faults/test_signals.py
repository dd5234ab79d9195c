"""SIGTERM and SIGINT in mid-batch: a clean stop, whoever gets it, however launched."""

import os
import random
import time
from contextlib import suppress
from pathlib import Path
from signal import Signals

import pytest
from faults.drivers import JOBS, SCRIPTS, NobodyThereError, ended, no_stack_trace, until

ROUNDS = int(os.environ.get("ROUNDS", "16"))  # of two signals at random times
SEED = 9


@pytest.mark.fast("python-SIGTERM-group", "spark-submit-SIGINT-group")
@pytest.mark.parametrize(
    ("launcher", "number", "whom"),
    [
        (launcher, number, whom)
        for launcher in ("python", "spark-submit")
        for number in ("SIGTERM", "SIGINT")
        for whom in ("python", "jvm", "group")
        # Which has a test of its own
        if (launcher, number, whom) != ("python", "SIGINT", "jvm")
    ],
)
def test_a_signal_in_mid_batch_lets_the_batch_commit(
    launcher, number, whom, launch, sales, tmp_path, temporary
):
    out, commits = tmp_path / "out", tmp_path / "ckpt" / "commits"
    out.mkdir()
    sales.land(2)
    driver = launch(
        launcher, SCRIPTS / "slow_batches.py", sales.folder, tmp_path / "ckpt", out
    )
    driver.until((out / "begun-1").exists)
    driver.signal(Signals[number], whom)
    assert not (out / "done-1").exists()

    ended(driver)
    assert (out / "done-1").read_text() == "50"
    assert (commits / "1").exists()
    assert "last batch committed: 1" in driver.errors
    no_stack_trace(driver)
    assert not [path.name for path in Path(temporary["TMPDIR"]).iterdir()]


@pytest.mark.fast("python-SIGINT-group")
@pytest.mark.parametrize(
    ("launcher", "name", "whom"),
    [
        *(
            ("python", name, whom)
            for name in ("SIGINT", "SIGTERM")
            for whom in ("python", "group")
        ),
        ("spark-submit", "SIGINT", "group"),
        ("spark-submit", "SIGTERM", "group"),
        ("spark-submit", "SIGTERM", "python"),
    ],
)
def test_a_comparison_that_is_stopped_says_so_and_leaves_nothing(
    launcher, name, whom, launch, sales, tmp_path, temporary
):
    out = tmp_path / "out"
    sales.land(1)
    words = (
        SCRIPTS / "compared.py",
        sales.folder,
        out,
        "--checkpoint",
        tmp_path / "ckpt",
    )
    done = launch("python", *words, "--available-now")
    assert done.ended() == 0, done.errors
    (out / "wait").touch()
    driver = launch(launcher, *words, "--shadow")
    until((out / "begun").exists, lambda: driver.errors)
    driver.signal(Signals[name], whom)
    assert driver.ended() == 128 + Signals[name], driver.errors
    *working, last = driver.errors.splitlines()
    assert (
        last
        == f"compared.py: stopped by {name} before the comparison was done; nothing was"
        " changed"
    )
    if launcher == "python":  # spark-submit says more at its start
        assert all(line.startswith("query compared: ") for line in working), (
            driver.errors
        )
    no_stack_trace(driver)
    assert driver.output == ""
    assert not [path.name for path in Path(temporary["TMPDIR"]).iterdir()]


def test_a_jvm_that_python_has_started_is_deaf_to_sigint(launch, sales, tmp_path):
    # PySpark starts it so, for Ctrl-C in a notebook. Nothing is lost by it: the batches
    # go on.
    out, commits = tmp_path / "out", tmp_path / "ckpt" / "commits"
    out.mkdir()
    sales.land(2)
    driver = launch(
        "python", SCRIPTS / "slow_batches.py", sales.folder, tmp_path / "ckpt", out
    )
    driver.until((out / "begun-0").exists)
    driver.signal(Signals.SIGINT, "jvm")
    driver.until((commits / "1").exists)
    driver.signal(Signals.SIGTERM, "python")
    ended(driver)
    no_stack_trace(driver)


@pytest.mark.fast("python")
@pytest.mark.parametrize("launcher", ["python", "spark-submit"])
def test_a_jvm_without_memory_is_one_line_and_no_signal(
    launcher, launch, sales, tmp_path
):
    sales.land(2)
    job = (SCRIPTS / "no_memory.py", sales.folder, tmp_path / "ckpt")
    driver = launch(launcher, *job, SPARK_DRIVER_MEMORY="512m")
    assert driver.ended() == 1, driver.errors
    *_, said = driver.errors.splitlines()
    assert said.startswith("no_memory.py: query big failed: "), driver.errors
    assert "OutOfMemoryError" in said or "ended by itself" in said
    no_stack_trace(driver)


@pytest.mark.fast("3", "10")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_two_signals_at_any_time_are_a_stop_or_a_short_one(
    number, launch, sales, tmp_path
):
    #  the job:   imports    session    query    first batch     batches ...
    #  signals:        |<- 0.05 to 2 s ->|
    chance = random.Random(f"{SEED} {number}")  # noqa: S311
    launcher = ("python", "python", "spark-submit")[number % 3]
    whom = chance.choice(["python", "group"])
    sales.land(3)
    driver = launch(
        launcher,
        *(JOBS / "sales_totals.py", sales.folder, "--checkpoint", tmp_path / "ckpt"),
    )
    if number % 2:
        driver.until((tmp_path / "ckpt" / "commits" / "0").exists)
        time.sleep(chance.uniform(0, 1))
    else:
        driver.until(driver.hears)
        time.sleep(chance.uniform(0, 6))
    first, second = chance.choices([Signals.SIGINT, Signals.SIGTERM], k=2)
    gap = chance.uniform(0.05, 2)
    driver.signal(first, whom)
    time.sleep(gap)
    # The first one may have ended it meanwhile; under spark-submit the JVM ends last.
    with suppress(NobodyThereError, ProcessLookupError):
        driver.signal(second, whom)
    assert driver.ended(limit=120) in {
        0,
        130,
        143,
    }, f"{first}, {gap} s, {second}\n{driver.errors}"
    if launcher == "spark-submit" and "before it began to run" in driver.errors:
        # Spark logs that its own start was cut off, before the kit can tell it to be
        # quiet.
        assert "Traceback" not in driver.errors + driver.output, driver.errors
    else:
        no_stack_trace(driver)
