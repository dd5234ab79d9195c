"""Delta's writer for Spark, killed at the worst points; and a job that changes its writer."""

from functools import partial
from itertools import cycle, islice
from signal import SIGTERM

import pytest
from faults import targets
from faults.drivers import until
from faults.targets import finish, nothing_halved
from faults.test_kills import POINTS, frozen_at
from systems.conftest import ROUNDS

from sparkstream_kit._packages import connectors


@pytest.mark.slow
def test_killed_at_each_point(tmp_path, begin, connector_jars):
    sales, target = targets.delta(tmp_path, "upsert", connectors=("delta",))
    launch = partial(begin, SPARKSTREAM_JARS=str(connector_jars))
    for point in islice(cycle(POINTS), ROUNDS):
        sales.land(2)
        first = target.planned() + 1
        driver = launch("python", *target.command)
        batch = frozen_at(driver, target, sales, point, first)
        driver.kill("group")
        assert POINTS[point](target, batch)
        nothing_halved(target)
    finish(target, launch)


def test_the_job_stopped_restarted_and_killed_has_each_batch_once(tmp_path, begin, connector_jars):
    sales, target = targets.delta(tmp_path)
    [table] = target.sinks
    sales.land(3)
    stopped = begin("python", *target.command)  # by delta-rs
    until(lambda: table.last() >= 0 or not stopped.running, lambda: stopped.errors)
    stopped.signal(SIGTERM, "python")
    assert stopped.ended() == 0, stopped.errors
    nothing_halved(target)
    sales.land(2)
    jars = ",".join(str(jar) for jar in sorted(connector_jars.glob("delta-*.jar")))
    flags = " ".join(f"--conf {key}={value}" for key, value in connectors()["delta"].settings.items())
    # As spark-submit $(sparkstream connectors delta) gives them: Delta's writer for Spark goes on.
    killed = begin("python", *target.command, PYSPARK_SUBMIT_ARGS=f"--jars {jars} {flags} pyspark-shell")
    before = table.last()
    until(lambda: table.last() > before or not killed.running, lambda: killed.errors)
    killed.kill("group")
    nothing_halved(target)
    finish(target, begin)
