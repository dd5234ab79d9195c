"""Spark's real-time mode: what it cannot run is refused in one line, before the query starts."""

from typing import Any

import pytest
from conftest import BEFORE_4_2, refusal

from sparkstream_kit import sinks, sources, start

KAFKA = sinks.kafka("localhost:9092", "out")
ANY = sinks.foreach_batch(lambda _, __: None)
BATCHES = "; give sinks.kafka, or processingTime='0 seconds'"


@pytest.mark.skipif(BEFORE_4_2, reason="this Spark has no real-time mode")
@pytest.mark.parametrize(
    ("sink", "mode", "message"),
    [
        (
            ANY,
            "update",
            f"trigger realTime cannot write to foreach_batch: it has no batches to hand over{BATCHES}",
        ),
        (sinks.console(), "update", "trigger realTime cannot write to console: it has no batches to hand"),
        (
            sinks.fan_out(KAFKA, ANY),
            "update",
            "trigger realTime cannot write to fan_out(kafka, foreach_batch)",
        ),
        (KAFKA, "append", "trigger realTime writes in mode update, not append; give mode='update'"),
    ],
)
def test_what_it_does_not_run_is_one_line(spark, tmp_path, sink, mode, message):
    how: dict[str, Any] = {"name": "now", "checkpoint": tmp_path / "ckpt", "realTime": "5 seconds"}
    assert refusal(start, sources.rate(spark), sink, mode=mode, **how).startswith(message)
    assert not (tmp_path / "ckpt").exists()


@pytest.mark.skipif(not BEFORE_4_2, reason="this Spark has a real-time mode")
def test_a_spark_without_it_is_one_line(spark, tmp_path):
    how: dict[str, Any] = {"name": "now", "checkpoint": tmp_path / "ckpt", "realTime": "5 seconds"}
    assert "trigger realTime is in Spark 4.2 and later, and this is 4.1" in refusal(
        start, sources.rate(spark), KAFKA, mode="update", **how
    )
