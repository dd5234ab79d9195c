"""Many batches into the sinks of real systems: nothing that a driver holds grows with their number.

`make soak` runs it; pytest collects it only by its name: Delta takes a second or more a
batch.
"""

from collections.abc import Callable

import pytest
from faults.drivers import SCRIPTS
from faults.test_soak import FIRST, LAST, holds_no_more
from systems import kafka
from systems.conftest import jars as jars_of
from systems.mongodb import Server

from sparkstream_kit import connectors


def _mongodb(folder, request):
    mongodb = Server(folder, jars_of("mongodb"))
    request.addfinalizer(mongodb.stop)
    mongodb.start()
    return f"{mongodb.url(mongodb.database())} t"


def _kafka(*_):
    broker = kafka.broker()
    return f"{broker.servers} {broker.topic()}"


# The first arguments of each sink that needs a server or jars, and the connectors of
# its sessions.
TARGETS: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "delta": (lambda folder, _: f"{folder}/out", ("", "delta")),
    "iceberg": (lambda *_: "shop.t", ("",)),
    "kafka": (_kafka, ("kafka",)),
    "mongodb": (_mongodb, ("",)),
}
KINDS = [
    (name, how, jars)
    for name, system in connectors.systems().items()
    if system.sink and name != "sql_table"  # tests/faults/test_soak.py
    for how in system.ways or ("",)
    for jars in TARGETS[name][1]
]


@pytest.mark.parametrize(("name", "how", "jars"), KINDS)
def test_a_driver_holds_no_more_after_many_batches(
    name, how, jars, tmp_path, begin, connector_jars, request
):
    target = TARGETS[name][0](tmp_path, request)
    env = {"SPARKSTREAM_JARS": str(connector_jars), "CONNECTORS": jars}
    kind = f"{name}-{how}" if how else name
    driver = begin(
        "python", SCRIPTS / "soak.py", kind, target, tmp_path, FIRST, LAST, **env
    )
    holds_no_more(driver, tmp_path, batch=10)
