"""Extra: alerts over each key's past, and other functions with memory, on Spark's `transformWithState`.

late = state.split_late(events, "time").where("late")
alerts = state.alert_when(events, "device", "time", "temperature", state.ZScore(sigmas=5))

What is wanted, and what does it:

- know which rows are late, and what they missed: `split_late`, or `sinks.by_watermark` for large volumes;
- drop rows that come twice: `once`; where late rows may go, too, `dropDuplicatesWithinWatermark` is faster;
- an alert for each strange value or silence of a key: `alert_when`;
- the last row of another stream: `as_of`; one result for each key or window: Spark's own `groupBy`.

They need Spark 4.1 or later, the libraries of the extra `state` (pandas, pyarrow, protobuf), and the RocksDB
state store, which `start` sets. Rows pass through Python, some 15,000 a second and core. Where Spark's own
aggregates are enough (`groupBy` with `avg` or `stddev`), use those: they are four times as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._arguments import attributes

if TYPE_CHECKING:
    from sparkstream_kit.state.alerts import alert_when, once, split_late
    from sparkstream_kit.state.rules import Alert, Ewma, Jump, Often, Rule, Silent, ZScore
    from sparkstream_kit.state.values import as_of

__all__ = [
    "Alert",
    "Ewma",
    "Jump",
    "Often",
    "Rule",
    "Silent",
    "ZScore",
    "alert_when",
    "as_of",
    "once",
    "split_late",
]

# Rules need no PySpark: a job names them before it has read its arguments.
__getattr__ = attributes(
    __name__,
    {
        "sparkstream_kit.state.alerts": ["alert_when", "once", "split_late"],
        "sparkstream_kit.state.rules": ["Alert", "Ewma", "Jump", "Often", "Rule", "Silent", "ZScore"],
        "sparkstream_kit.state.values": ["as_of"],
    },
)
