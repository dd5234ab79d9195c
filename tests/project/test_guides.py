"""Each guide runs as it stands, from top to bottom, and prints what it shows."""

import pytest
from conftest import ROOT
from support import postgresql
from support.pages import run_page

GUIDES = {path.stem: path for path in sorted((ROOT / "docs" / "guides").glob("*.md"))}
# These need a server: below, and in tests/systems/test_kafka_docs.py.
SERVED = {"kafka-to-delta", "kafka-to-iceberg", "kafka-to-kafka", "postgresql"}
DATABASE = "postgresql+psycopg://shop@localhost/shop"
# What plain PySpark waits for by the clock, the test waits for.
WAITS = {"from-pyspark": [("time.sleep(30)\nquery.stop()", "query.processAllAvailable()\nquery.stop()")]}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GUIDES.keys() - SERVED))
def test_a_guide_runs_from_top_to_bottom(name, tmp_path):
    run_page(GUIDES[name], tmp_path, WAITS.get(name, []))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "start", "testing"])
def test_a_page_runs_from_top_to_bottom(name, tmp_path):
    run_page(ROOT / "docs" / f"{name}.md", tmp_path)


@pytest.mark.slow
def test_the_skill_for_agents_runs_from_top_to_bottom(tmp_path):
    run_page(ROOT / "docs" / "agents" / "sparkstream" / "SKILL.md", tmp_path)


@pytest.mark.slow
def test_the_guide_to_postgresql_runs_from_top_to_bottom(tmp_path):
    run_page(GUIDES["postgresql"], tmp_path, [(DATABASE, postgresql.server().database())])
