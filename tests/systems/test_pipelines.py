"""Spark's own pipelines: each helper gives in a function the rows that it gives outside."""

import json
import shutil
import sys

import pyarrow.parquet as pq
import pyspark
import pytest
from conftest import environment, process
from support.pages import run_page
from systems import kafka
from systems.conftest import SCRIPTS, jars
from systems.launching import LOOPBACK
from systems.scripts import pipeline_flows

from sparkstream_kit.cli import projects

FLOWS = SCRIPTS / "pipeline_flows.py"
SPEC = """
name: flows
storage: {storage}
libraries:
  - glob:
      include: flows.py
"""
# Of spark-defaults.conf; the catalog is one that outlives a run
SETTINGS = """
spark.sql.catalogImplementation hive
spark.sql.session.timeZone UTC
spark.sql.shuffle.partitions 2
spark.ui.enabled false
"""


@pytest.fixture(scope="module", autouse=True)
def connector_jars():
    """The jars of connectors, or None if they are for another version of Spark."""
    folder = jars("spark")
    is_ours = [*folder.glob(f"spark-sql-kafka-*-{pyspark.__version__}.jar")]
    return folder if is_ours else None


class Pipeline:
    """A pipeline with the functions of pipeline_flows, in a folder of its own.

    Args:
        begin: starts a process.
        folder: the folder, which is made.
        jars: files that Spark takes into its class path.
        env: further variables of the environment.
    """

    def __init__(self, begin, folder, jars, **env):
        self._begin = begin
        self._env = env
        self._spec = folder / "spark-pipeline.yml"
        self._storage = folder / "storage"
        self.warehouse = folder.parent / "home" / "spark-warehouse"
        folder.mkdir()
        self._spec.write_text(SPEC.format(storage=self._storage.as_uri()))
        register = "import pipeline_flows\n\npipeline_flows.register()\n"
        (folder / "flows.py").write_text(register)
        classes = ",".join(map(str, jars))
        settings = f"{SETTINGS}spark.jars {classes}\n" if classes else SETTINGS
        (folder / "spark-defaults.conf").write_text(settings)

    def start(self):
        paths = f"{environment()['PYTHONPATH']}:{SCRIPTS}"
        env = {
            **self._env,
            "PYTHONPATH": paths,
            "SPARK_CONF_DIR": str(self._spec.parent),
        }
        command = f"{sys.prefix}/bin/spark-pipelines"
        return self._begin(command, "run", "--spec", self._spec, **LOOPBACK, **env)

    def commits(self):
        """Return how many batches the tables have committed."""
        return len(list(self._storage.rglob("commits/[0-9]*")))


def done(driver):
    """Wait for a run that must do well; Spark merges its errors into the output."""
    assert driver.ended() == 0, driver.output


def without(rows, column):
    """Return rows, as JSON, without a column."""
    kept = []
    for row in map(json.loads, rows):
        row.pop(column, None)
        kept.append(json.dumps(row))
    return sorted(kept)


class Input:
    """The input of all functions: a folder of files, and a topic of Kafka if there are jars."""

    def __init__(self, folder, jars):
        self._folder = folder
        self.env = {pipeline_flows.INPUT: str(folder)}
        if jars is not None:
            self._broker = kafka.broker()
            self._topic = self._broker.topic(partitions=1)
            topic = f"{self._broker.servers} {self._topic}"
            self.env[pipeline_flows.TOPIC] = topic

    def write(self, part):
        """Add the files and the records of a part."""
        pipeline_flows.write(self._folder, part)
        self.send(part)

    def send(self, part):
        """Add the records of a part."""
        if pipeline_flows.TOPIC in self.env:
            self._broker.send(self._topic, kafka.ids(5, first=10 * part))


@pytest.mark.slow
def test_each_helper_gives_in_a_pipeline_what_it_gives_outside(
    begin, tmp_path, connector_jars
):
    folder = tmp_path / "in"
    outside = tmp_path / "outside"
    program = [sys.executable, FLOWS]
    given = Input(folder, connector_jars)
    for part in (1, 2, 3):
        given.send(part)
    env = environment(**given.env, SPARKSTREAM_JARS=str(connector_jars))
    process([*program, "run", folder, outside, 1, 2, 3], env=env, check=True)

    shutil.rmtree(folder)
    given = Input(folder, connector_jars)
    used = [] if connector_jars is None else connector_jars.glob("*.jar")
    pipeline = Pipeline(begin, tmp_path / "pipeline", used, **given.env)
    given.write(1)
    done(pipeline.start())
    # New input
    given.write(2)
    done(pipeline.start())
    # And killed amid the next
    given.write(3)
    commits = pipeline.commits()
    killed = pipeline.start()
    killed.until(lambda: pipeline.commits() > commits)
    killed.remove()
    done(pipeline.start())

    shown = process([*program, "show", outside, pipeline.warehouse], check=True)
    expected, found = json.loads(shown.stdout)
    tables = {*pipeline_flows.FLOWS, *pipeline_flows.VIEWS}
    if pipeline_flows.TOPIC in given.env:
        tables.add("kafka")
    assert found.keys() == expected.keys() == tables
    for name in tables:
        mine = found[name]
        other = expected[name]
        if name == "bad":
            # The function does not know which columns of the table had values
            assert mine["columns"].endswith(other["columns"].partition("<")[2])
        else:
            assert mine["columns"] == other["columns"], name
        if name == "parsed_again":
            # Outside the table is a folder, and its lines have a file
            other["rows"] = without(other["rows"], "_file")
            mine["rows"] = without(mine["rows"], "_file")
        if name == "rate":
            # As many as there is time for, each once
            values = sorted(json.loads(row)["value"] for row in mine["rows"])
            assert values == [*range(len(values))]
        else:
            assert mine["rows"] == other["rows"], name
        assert mine["rows"] or name == "days", name


@pytest.mark.slow
def test_the_pipeline_of_new_gives_what_its_readme_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = projects.make_pipeline("shop")
    run_page(made.folder / "README.md", tmp_path / "shop")

    # A second run reads what is new
    late = '{"time": "2024-03-02T09:00:00Z", "product": "tea", "amount": "many"}\n'
    (made.folder / "data" / "sales-3.json").write_text(late)
    command = [*made.commands[0].split()]
    process(command, cwd=made.folder, env=environment(**LOOPBACK), check=True)
    reasons = pq.read_table(made.folder / "spark-warehouse" / "bad")["_reason"]
    assert sorted(reasons.to_pylist()) == [
        "amount: not an int",
        "amount: not an int",
        "breaks amount > 0",
        "not valid JSON, or a field twice",
    ]
