"""Functions that remember rows by key and by event time, on Spark's `transformWithState`.

late = state.split_late(events, "time").where("late")
alerts = state.alert_when(events, "device", "time", "temperature", state.ZScore(sigmas=5))

They need Spark 4.1 or later with pandas, pyarrow and protobuf, and the RocksDB state store, which `start`
sets. Rows pass through Python, some 15,000 a second and core. Where Spark's own aggregates do (`groupBy`
with `avg` or `stddev`), use these: they are four times as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._lazy import attributes

if TYPE_CHECKING:
    from sparkstream_kit.state.late import once, split_late

__all__ = ["once", "split_late"]

__getattr__ = attributes(
    __name__,
    {
        "once": "sparkstream_kit.state.late",
        "split_late": "sparkstream_kit.state.late",
    },
)
