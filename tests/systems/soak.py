"""Many batches into the sinks of real systems: nothing that a driver holds grows with their number.

`make soak` runs it; pytest collects it only by its name: Delta takes a second or more a batch.
"""

import pytest
from faults.drivers import SCRIPTS
from faults.test_soak import FIRST, LAST, holds_no_more
from systems import kafka
from systems.conftest import jars
from systems.mongodb import Server


@pytest.mark.parametrize(
    ("kind", "connectors"),
    [
        *(
            (f"delta-{how}", connectors)
            for how in ("append", "replace", "upsert")
            for connectors in ("", "delta")
        ),
        ("kafka", "kafka"),
        ("mongodb-append", ""),
        ("mongodb-upsert", ""),
    ],
)
def test_a_driver_holds_no_more_after_many_batches(
    kind, connectors, tmp_path, begin, connector_jars, request
):
    url = "none"
    if kind == "kafka":
        broker = kafka.broker()
        url = f"{broker.servers}/{broker.topic()}"
    if kind.startswith("mongodb"):
        mongodb = Server(tmp_path, jars("mongodb"))
        request.addfinalizer(mongodb.remove)
        mongodb.start()
        url = mongodb.url(mongodb.database())
    env = {"SPARKSTREAM_JARS": str(connector_jars), "CONNECTORS": connectors}
    driver = begin("python", SCRIPTS / "soak.py", kind, url, tmp_path, FIRST, LAST, **env)
    holds_no_more(driver, tmp_path, batch=10)
