"""Delta's writer for Spark, killed at the worst points; and a job that changes its writer."""

from functools import partial
from itertools import cycle, islice

import pytest
from faults import targets
from faults.test_kills import KILLS, killed_at
from systems.conftest import ROUNDS


@pytest.mark.slow
def test_killed_at_each_point(tmp_path, begin, connector_jars):
    launch = partial(begin, SPARKSTREAM_JARS=str(connector_jars))
    sales, target = targets.delta(tmp_path, "upsert", connectors=("delta",))
    killed_at(islice(cycle(KILLS), ROUNDS), sales, target, launch)
