"""Each guide runs as it stands, from top to bottom, and prints what it shows."""

import pytest
from conftest import ROOT
from support import postgresql
from support.pages import run_page

DOCS = ROOT / "docs"
GUIDES = {path.stem: path for path in sorted((DOCS / "guides").glob("*.md"))}
OTHERS = [
    *(DOCS / f"{name}.md" for name in ("index", "start", "testing")),
    DOCS / "agents/sparkstream/SKILL.md",
]
# These need a server: below, and in tests/systems/test_kafka_docs.py.
SERVED = {
    "kafka-to-delta",
    "kafka-to-iceberg",
    "kafka-to-kafka",
    "postgresql",
    "schema-registry",
}
DATABASE = "postgresql+psycopg://shop@localhost/shop"
# What plain PySpark waits for by the clock, the test waits for.
WAITS = {
    "from-pyspark": [
        ("time.sleep(30)\nquery.stop()", "query.processAllAvailable()\nquery.stop()")
    ]
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [*(page for name, page in GUIDES.items() if name not in SERVED), *OTHERS],
    ids=lambda page: page.stem,
)
def test_a_page_runs_from_top_to_bottom(page, tmp_path):
    run_page(page, tmp_path, WAITS.get(page.stem, []))


@pytest.mark.slow
def test_the_guide_to_postgresql_runs_from_top_to_bottom(tmp_path):
    run_page(
        GUIDES["postgresql"], tmp_path, [(DATABASE, postgresql.server().database())]
    )
