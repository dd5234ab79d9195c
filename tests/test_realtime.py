"""Spark's real-time mode: what it cannot run is refused in one line, before the query starts."""

from typing import Any

import pytest
from conftest import BEFORE_4_2, refusal

from sparkstream_kit import sinks, sources, start, state, windows

KAFKA = sinks.kafka("localhost:9092", "out")
ANY = sinks.foreach_batch(lambda _, __: None)
NO_BATCHES = (
    "it has no batches to hand over; give sinks.kafka without exactly_once, or"
    " processingTime="
)


@pytest.mark.skipif(BEFORE_4_2, reason="this Spark has no real-time mode")
@pytest.mark.parametrize(
    ("sink", "mode", "message"),
    [
        (ANY, "update", f"cannot write to foreach_batch: {NO_BATCHES}"),
        (sinks.console(), "update", f"cannot write to console: {NO_BATCHES}"),
        (
            sinks.fan_out(KAFKA, ANY),
            "update",
            "cannot write to fan_out(kafka, foreach_batch)",
        ),
        (KAFKA, "append", "writes in mode update, not append; give mode='update'"),
    ],
)
def test_what_it_does_not_run_is_one_line(spark, tmp_path, sink, mode, message):
    how: dict[str, Any] = {
        "name": "now",
        "checkpoint": tmp_path / "ckpt",
        "realTime": "5 seconds",
    }
    assert refusal(start, sources.rate(spark), sink, mode=mode, **how).startswith(
        f"trigger realTime {message}"
    )
    assert not (tmp_path / "ckpt").exists()


@pytest.mark.skipif(BEFORE_4_2, reason="this Spark has no real-time mode")
def test_a_function_with_memory_is_one_line(spark, tmp_path):
    rows = windows.with_watermark(sources.rate(spark), "timestamp", "1 minute")
    once = state.once(rows, "value", "timestamp", "1 day")
    how: dict[str, Any] = {
        "name": "now",
        "checkpoint": tmp_path / "ckpt",
        "realTime": "5 seconds",
    }
    said = (
        "trigger realTime runs no function with memory; give processingTime='0 seconds'"
    )
    assert refusal(start, once, KAFKA, mode="update", **how) == said
    assert not (tmp_path / "ckpt").exists()


@pytest.mark.skipif(not BEFORE_4_2, reason="this Spark has a real-time mode")
def test_a_spark_without_it_is_one_line(spark, tmp_path):
    how: dict[str, Any] = {
        "name": "now",
        "checkpoint": tmp_path / "ckpt",
        "realTime": "5 seconds",
    }
    said = refusal(start, sources.rate(spark), KAFKA, mode="update", **how)
    assert said.startswith("unknown keyword of start() realTime")
