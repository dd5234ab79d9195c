"""Names in a query, which Spark 4.2 takes behind switches of its own: of sources, and of a sink."""

import pytest
from conftest import BEFORE_4_2, refusal
from support.checkpoint_queries import SCHEMA, land

from sparkstream_kit import checkpoints

pytestmark = pytest.mark.skipif(BEFORE_4_2, reason="readStream.name() is in Spark 4.2 and later")

SWITCH = "spark.sql.streaming.queryEvolution.enableSourceEvolution"


@pytest.mark.classic_only("PySpark has no call yet that names a sink")
def test_a_checkpoint_of_a_sink_with_a_name(as_local, tmp_path):
    as_local.conf.set("spark.sql.streaming.queryEvolution.enableSinkEvolution", "true")
    land(tmp_path / "in", 0, 1)
    counts = as_local.readStream.schema(SCHEMA).json(str(tmp_path / "in")).groupBy("key").count()
    writer = counts.writeStream.format("noop").outputMode("complete").trigger(availableNow=True)
    writer._jwrite.name("totals")  # noqa: SLF001
    query = writer.start(checkpointLocation=str(tmp_path / "ckpt"))
    query.awaitTermination()
    assert (tmp_path / "ckpt/commits/0").read_text().startswith("v3\n")
    assert checkpoints.check(tmp_path / "ckpt") == []
    assert checkpoints.show(tmp_path / "ckpt").committed == 0


def test_sources_with_names_are_refused_in_one_line(as_local, tmp_path, finish):
    as_local.conf.set(SWITCH, "true")
    land(tmp_path / "in", 0)
    rows = as_local.readStream.schema(SCHEMA).name("lines").json(str(tmp_path / "in"))
    assert refusal(finish, rows) == (
        f"checkpoint {tmp_path}/ckpt: leave names of sources out, and set {SWITCH} to false"
    )
