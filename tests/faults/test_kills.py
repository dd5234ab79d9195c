"""SIGKILL at the worst points and at random: no sink loses a row or counts one twice.

    batch N:    plan: offsets/N          rows in the sink            commits/N
                     |                         |                         |
    killed:          |- before the sink -|     |- before the commit -|   |- after the commit -|

The driver is frozen before a look, so that the point is sure, and goes on if it has
come past it.
"""

import os
import random
import time
from collections.abc import Callable
from functools import partial

import pytest
from conftest import HANGS
from faults import targets
from faults.drivers import until
from faults.targets import Target, finish, keep_going, nothing_halved
from support import mariadb

ROUNDS = int(os.environ.get("ROUNDS", "30"))  # of kills at random times, over all sinks
SEED = 20

POINTS: dict[str, Callable[[Target, int], bool]] = {
    "before the sink": lambda target, n: not target.committed(n) and not target.has(n),
    "before the commit": lambda target, n: target.has(n) and not target.committed(n),
    "after the commit": lambda target, n: target.committed(n) and target.planned() == n,
}
KILLS = [(point, "group") for point in POINTS]
# Python alone: its JVM outlives it, for seconds.
ALSO = [*KILLS, ("before the commit", "python")]

JOBS = ["files", "sqlite", "postgresql", "mariadb", "events", "delta", "iceberg"]
SINKS = [
    "spark-files",
    "sqlite-upsert",
    "postgresql-append",
    "mariadb-append",
    "mariadb-upsert",
]
SINKS += ["delta-append", "delta-upsert", "iceberg-append", "iceberg-upsert"]


@pytest.fixture
def killed(request, tmp_path):
    """The input of a job, and the job with its sink, by the sink's name."""
    if request.param == "files":
        return targets.clean_files(tmp_path)
    if request.param == "events":
        return targets.events(tmp_path, request.getfixturevalue("server").database())
    if request.param == "spark-files":
        return targets.spark_files(tmp_path, request.getfixturevalue("spark"))
    kind, _, how = request.param.partition("-")
    if kind in ("delta", "iceberg"):
        return getattr(targets, kind)(tmp_path, how or "replace")
    url = {
        "sqlite": lambda: f"sqlite:///{tmp_path}/totals.db",
        "postgresql": lambda: request.getfixturevalue("server").database(),
        "mariadb": lambda: mariadb.server().database(),
    }[kind]()
    return targets.database(tmp_path, url, how or "replace")


@pytest.mark.fast("files")
@pytest.mark.parametrize(
    ("killed", "kills"),
    [*((job, ALSO) for job in JOBS), *((sink, KILLS) for sink in SINKS)],
    indirect=["killed"],
    ids=[*JOBS, *SINKS],
)
def test_killed_at_each_point(killed, kills, launch):
    sales, target = killed
    killed_at(kills, sales, target, launch)


def frozen_at(driver, target, sales, point, first):
    """Freeze a driver at a point of one of the batches from `first` on; return that batch.

    It takes as many batches as are needed.
    """

    def reached(batch):
        return (
            batch >= first
            and target.planned() == batch
            and POINTS[point](target, batch)
        )

    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        batch = target.planned()
        if driver.frozen_if(partial(reached, batch)):
            return batch
        keep_going(driver, target, sales)
    raise AssertionError(f"never {point}: {driver.errors}")


def wait_for_start(driver, target):
    """Wait until `start` has locked the checkpoint, which it does anew for each driver."""
    lock = target.checkpoint / "sparkstream-kit" / "lock"
    until(
        # It names its Python and its JVM; the one that was launched is either.
        lambda: (
            (lock.exists() and f": {driver.pid}, " in lock.read_text())
            or not driver.living()
        ),
        lambda: driver.errors,
    )


@pytest.mark.fast("python-group")
@pytest.mark.parametrize(
    ("launcher", "victim"),
    [("python", "group"), ("python", "python"), ("spark-submit", "group")],
    ids=["python-group", "python-python", "spark-submit-group"],
)
def test_killed_between_two_targets_of_a_batch(launcher, victim, launch, tmp_path):
    sales, target = targets.by_value(tmp_path)
    for _ in range(2):
        sales.land(2)
        # The batch of the kill before is in some targets from the start
        first = target.planned() + 1
        driver = launch(launcher, *target.command)

        def reached(first=first):
            return target.planned() >= first and targets.is_between(
                target, target.planned()
            )

        driver.until(lambda driver=driver, reached=reached: driver.frozen_if(reached))
        assert not target.committed(target.planned())
        driver.kill(victim)
    finish(target, launch)


def killed_at(kills, sales, target, launch, also=lambda: None):
    """Kill a driver at points of its batches, and call `also` before the job is let through."""
    for point, victim in kills:
        sales.land(2)
        first = target.planned() + 1  # what comes before has been in the sink before
        driver = launch("python", *target.command)
        batch = frozen_at(driver, target, sales, point, first)
        driver.kill(victim)
        if victim == "group":
            assert POINTS[point](target, batch)
        also()
        nothing_halved(target)
    finish(target, launch)


@pytest.mark.slow
@pytest.mark.parametrize("killed", JOBS, indirect=True)
def test_killed_at_random_times(killed, launch, request):
    sales, target = killed
    pick = random.Random(f"{SEED} {request.node.callspec.id}")  # noqa: S311 - times, not secrets
    for _ in range(-(-ROUNDS // len(JOBS))):
        sales.land(3)
        launcher, victim = (
            pick.choice(["python", "spark-submit"]),
            pick.choice(["group", "python", "jvm"]),
        )
        driver = launch(launcher, *target.command)
        wait_for_start(driver, target)
        # The moment of the kill, which no condition picks
        time.sleep(pick.uniform(0, 3))
        driver.kill(victim)
        # As the system does when memory is short; py4j, too, has its say then
        if victim == "jvm":
            assert "Spark's JVM ended by itself" in driver.errors
        else:
            assert "Traceback" not in driver.errors
        nothing_halved(target)
    finish(target, launch)
