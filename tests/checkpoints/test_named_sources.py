"""What Spark 4.2 writes into a checkpoint behind switches of its own.

These are a sink's name, and offsets by name.
"""

import pytest
from conftest import BEFORE_4_2, refusal
from support.checkpoint_queries import SCHEMA, land

from sparkstream_kit import checkpoints

pytestmark = pytest.mark.skipif(
    BEFORE_4_2, reason="readStream.name() is in Spark 4.2 and later"
)


@pytest.mark.classic_only("PySpark has no call yet that names a sink")
def test_a_checkpoint_of_a_sink_with_a_name(as_local, tmp_path):
    as_local.conf.set("spark.sql.streaming.queryEvolution.enableSinkEvolution", "true")
    land(tmp_path / "in", 0, 1)
    counts = (
        as_local.readStream.schema(SCHEMA)
        .json(str(tmp_path / "in"))
        .groupBy("key")
        .count()
    )
    writer = (
        counts.writeStream.format("noop")
        .outputMode("complete")
        .trigger(availableNow=True)
    )
    writer._jwrite.name("totals")  # noqa: SLF001
    writer.start(checkpointLocation=str(tmp_path / "ckpt")).awaitTermination()
    assert (tmp_path / "ckpt/commits/0").read_text().startswith("v3\n")
    assert checkpoints.check(tmp_path / "ckpt") == []
    assert checkpoints.show(tmp_path / "ckpt").committed == 0


SWITCH = "spark.sql.streaming.queryEvolution.enableSourceEvolution"


def test_sources_with_names_are_refused_in_one_line(as_local, tmp_path, finish):
    as_local.conf.set(SWITCH, "true")
    land(tmp_path / "in", 0)
    rows = as_local.readStream.schema(SCHEMA).name("lines").json(str(tmp_path / "in"))
    assert (
        refusal(finish, rows)
        == f"checkpoint {tmp_path}/ckpt: sources with names are not supported; leave"
        f" .name() out, and set {SWITCH} to false"
    )


@pytest.mark.slow
def test_offsets_that_name_their_sources_are_read(as_local, tmp_path, finish):
    """In format 2 a line of a plan begins with its source's name, or without one its number."""
    as_local.conf.set("spark.sql.streaming.offsetLog.formatVersion", "2")

    def both():
        read = as_local.readStream.schema(SCHEMA).json
        one, other = (read(str(tmp_path / name)) for name in ("one", "other"))
        return one.union(other).groupBy("key").count()

    land(tmp_path / "one", 0)
    land(tmp_path / "other", 1)
    finish(both())
    land(tmp_path / "other", 2)
    finish(both())
    # In any order
    lines = {*(tmp_path / "ckpt/offsets/1").read_text().splitlines()[2:]}
    assert lines == {'0:{"logOffset":0}', '1:{"logOffset":1}'}
    shown = checkpoints.show(tmp_path / "ckpt")
    assert {
        source.name: (source.folder, source.planned) for source in shown.sources
    } == {
        "0": (str(tmp_path / "one"), "0"),
        "1": (str(tmp_path / "other"), "1"),
    }
    assert checkpoints.check(tmp_path / "ckpt") == []
    rewound = checkpoints.rewind(tmp_path / "ckpt", to=0, apply=True)
    assert [each.path for each in rewound.inputs] == [str(tmp_path / "other/2 é%.json")]
