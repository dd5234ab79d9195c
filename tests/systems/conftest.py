"""What the tests of real systems share: the jars of each, which `scripts/systems.sh` fetches."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import built_wheel, environment
from connectors.conftest import stream  # noqa: F401 - a fixture
from faults.conftest import launch as begin  # noqa: F401 - a fixture
from support import ports
from systems.cluster import Cluster
from systems.daemons import running
from systems.hadoop import Hdfs
from systems.launching import Launcher
from systems.registry import ASchemaRegistry

from sparkstream_kit import spark_session

ROOT = Path(__file__).parent.parent.parent
JOBS, SCRIPTS = ROOT / "jobs", Path(__file__).parent / "scripts"
# Of kills, of which most are at random times
ROUNDS = int(os.environ.get("ROUNDS", "3"))
# boto3 signs with it. Servers of these tests check nothing, and Spark's workers have it
# from the launch.
AWS_LOGIN = {
    "AWS_ACCESS_KEY_ID": "kit",
    "AWS_SECRET_ACCESS_KEY": "hush-kinesis",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session", autouse=True)
def connector_jars():
    """The folder of jars that Spark needs, named by SPARKSTREAM_JARS for what is started."""
    os.environ["SPARKSTREAM_JARS"] = str(jars("spark"))
    os.environ.update(AWS_LOGIN)
    return jars("spark")


@pytest.fixture(scope="session")
def spark(connector_jars, tmp_path_factory):
    """A session for the test run, with connectors; on SPARK_REMOTE those of its server."""
    local = {
        "spark.master": "local[2]",
        "spark.sql.warehouse.dir": tmp_path_factory.mktemp("warehouse").as_uri(),
    }
    options: dict[str, Any] = {"conf": local, "connectors": ["kafka", "delta"]}
    with spark_session(
        "systems", profile="test", **({} if "SPARK_REMOTE" in os.environ else options)
    ) as spark:
        yield spark


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory):
    """HDFS for the test run; a test that stops its NameNode starts it again."""
    yield from running(
        Hdfs(tmp_path_factory.mktemp("hdfs"), sorted(jars("hadoop").glob("*.jar")))
    )


@pytest.fixture(scope="session")
def broker():
    """The Kafka broker of the test run; a test that stops it starts it again."""
    from systems import kafka

    return kafka.broker()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A schema registry for the tests of a file; a test that stops it starts it again."""
    home = tmp_path_factory.mktemp("registry")
    port = ports.free_port()
    yield from running(ASchemaRegistry(jars("registry"), home, port))


@pytest.fixture
def topic(spark, broker, tmp_path):
    """A query on a topic of its own, and its batches."""
    from systems.test_continues import Job

    return Job(spark, broker, tmp_path)


@pytest.fixture
def table(spark, tmp_path):
    """The same on a Delta table."""
    from systems.test_continues import TableJob

    return TableJob(spark, tmp_path)


@pytest.fixture(params=["topic", "table"])
def any_job(request):
    """Each of the two."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def connect_to_kafka(connector_jars, tmp_path_factory):
    """The environment that attaches a process to Spark Connect with Kafka's connector."""
    if "SPARK_REMOTE" in os.environ:
        pytest.skip("it serves for itself")
    home = tmp_path_factory.mktemp("served")
    env = environment(SPARKSTREAM_JARS=str(connector_jars), XDG_CACHE_HOME=str(home))
    port = ["--port", str(ports.free_port())]
    serve = [
        "sparkstream",
        "serve",
        "start",
        "--profile",
        "test",
        "--connectors",
        "kafka",
        *port,
    ]
    remote = (
        subprocess.check_output(serve, cwd=home, env=env, text=True)
        .strip()
        .partition("=")[2]
    )
    # The server's token lies there
    yield {"SPARK_REMOTE": remote, "XDG_CACHE_HOME": str(home)}
    subprocess.run(
        ["sparkstream", "serve", "stop", *port],
        env=env,
        stdout=subprocess.DEVNULL,
        check=True,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A master and two workers, for a module."""
    yield from running(Cluster(tmp_path_factory.mktemp("cluster")))


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    """The zip for `--py-files`."""
    wheel = built_wheel(tmp_path_factory.mktemp("dist"))  # as `make zip` does
    return wheel.rename(wheel.with_name("sparkstream_kit.zip"))


@pytest.fixture
def launch(begin):  # noqa: F811 - the fixture
    """Starts drivers of this test."""
    return Launcher(begin)


# Before a test's server of Spark Connect sets another one.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def jars(name):
    """Return the folder with the jars of a system, fetched where they are missing."""
    env = {**os.environ, "XDG_CACHE_HOME": str(_CACHE)}
    subprocess.run([ROOT / "scripts" / "systems.sh", name], check=True, env=env)
    return _CACHE / "sparkstream-kit" / "systems" / name
