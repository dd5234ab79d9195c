"""Delta's writer for Spark, killed at the worst points; and a job that changes its writer."""

from functools import partial
from itertools import cycle, islice
from signal import SIGTERM

import pytest
from faults import targets
from faults.drivers import ended
from faults.targets import finish, nothing_halved
from faults.test_kills import KILLS, killed_at
from systems.conftest import ROUNDS

from sparkstream_kit.connectors._packages import connectors


@pytest.mark.slow
def test_killed_at_each_point(tmp_path, begin, connector_jars):
    launch = partial(begin, SPARKSTREAM_JARS=str(connector_jars))
    sales, target = targets.delta(tmp_path, "upsert", connectors=("delta",))
    killed_at(islice(cycle(KILLS), ROUNDS), sales, target, launch)


def test_the_job_stopped_restarted_and_killed_has_each_batch_once(
    tmp_path, begin, connector_jars
):
    sales, target = targets.delta(tmp_path)
    [table] = target.sinks
    sales.land(3)
    stopped = begin("python", *target.command)  # by delta-rs
    stopped.until(lambda: table.last() >= 0)
    stopped.signal(SIGTERM, "python")
    ended(stopped)
    nothing_halved(target)
    sales.land(2)
    jars = ",".join(str(jar) for jar in sorted(connector_jars.glob("delta-*.jar")))
    flags = " ".join(
        f"--conf {key}={value}" for key, value in connectors()["delta"].settings.items()
    )
    # As spark-submit $(sparkstream connectors delta) gives them: Delta's writer for
    # Spark goes on.
    killed = begin(
        "python",
        *target.command,
        PYSPARK_SUBMIT_ARGS=f"--jars {jars} {flags} pyspark-shell",
    )
    before = table.last()
    killed.until(lambda: table.last() > before)
    killed.kill("group")
    nothing_halved(target)
    finish(target, begin)
