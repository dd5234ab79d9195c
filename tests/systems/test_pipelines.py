"""Spark's own pipelines: each helper gives in a function the rows that it gives outside."""

import json
import shutil
import sys

import pytest
from conftest import environment, process
from faults.drivers import ended
from systems.conftest import SCRIPTS
from systems.launching import LOOPBACK, SMALL
from systems.scripts import pipeline_flows

FLOWS = SCRIPTS / "pipeline_flows.py"
SPEC = """
name: flows
storage: {storage}
libraries:
  - glob:
      include: flows.py
"""
# Spark's own defaults for a pipeline, and a catalog that outlives a run
SETTINGS = (
    *SMALL,
    *("--conf", "spark.sql.catalogImplementation=hive"),
    *("--conf", "spark.sql.session.timeZone=UTC"),
)


@pytest.fixture(scope="module", autouse=True)
def connector_jars():
    """No jars, which the functions do not need."""


class Pipeline:
    """A pipeline with the functions of pipeline_flows, in a folder of its own."""

    def __init__(self, begin, folder, given):
        self._begin = begin
        self._given = given
        self._spec = folder / "spark-pipeline.yml"
        self._storage = folder / "storage"
        self.warehouse = folder.parent / "home" / "spark-warehouse"
        folder.mkdir()
        self._spec.write_text(SPEC.format(storage=self._storage.as_uri()))
        register = "import pipeline_flows\n\npipeline_flows.register()\n"
        (folder / "flows.py").write_text(register)

    def start(self):
        paths = f"{environment()['PYTHONPATH']}:{SCRIPTS}"
        settings = {pipeline_flows.INPUT: str(self._given), "PYTHONPATH": paths}
        command = f"{sys.prefix}/bin/spark-pipelines"
        return self._begin(
            command, "run", *SETTINGS, "--spec", self._spec, **LOOPBACK, **settings
        )

    def commits(self):
        """Return how many batches the tables have committed."""
        return len(list(self._storage.rglob("commits/[0-9]*")))


def without(rows, column):
    """Return rows, as JSON, without a column."""
    kept = []
    for row in map(json.loads, rows):
        row.pop(column, None)
        kept.append(json.dumps(row))
    return sorted(kept)


@pytest.mark.slow
def test_each_helper_gives_in_a_pipeline_what_it_gives_outside(begin, tmp_path):
    given = tmp_path / "in"
    outside = tmp_path / "outside"
    program = [sys.executable, FLOWS]
    process([*program, "run", given, outside, 1, 2, 3], check=True)

    shutil.rmtree(given)
    pipeline_flows.write(given, 1)
    pipeline = Pipeline(begin, tmp_path / "pipeline", given)
    ended(pipeline.start())
    # New input
    pipeline_flows.write(given, 2)
    ended(pipeline.start())
    # And killed amid the next
    pipeline_flows.write(given, 3)
    commits = pipeline.commits()
    killed = pipeline.start()
    killed.until(lambda: pipeline.commits() > commits)
    killed.remove()
    ended(pipeline.start())

    shown = process([*program, "show", outside, pipeline.warehouse], check=True)
    expected, found = json.loads(shown.stdout)
    tables = {*pipeline_flows.FLOWS, *pipeline_flows.VIEWS}
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
        assert mine["rows"] == other["rows"], name
        assert mine["rows"] or name == "days", name
