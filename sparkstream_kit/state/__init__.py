"""Extra: alerts and other functions with memory, on Spark's `transformWithState`.

::

    new = state.once(events, "event_id", "time", within="1 hour")
    rule = state.ZScore(sigmas=5)
    alerts = state.alert_when(events, "device", "time", "temperature", rule)

Which function to use:

- `once` drops duplicates and keeps late rows; if late rows may be dropped as well,
  `dropDuplicatesWithinWatermark` is faster;
- `alert_when` raises an alert for each unusual value or silence of a key;
- `as_of` adds the last row of another stream; for one result per key or window use
  Spark's own `groupBy`.

To set late rows aside, use `sinks.by_watermark`.

All of them need Spark 4.1 or later, the libraries of the extra `state` (pandas,
pyarrow, protobuf), and the RocksDB state store, which `start` sets. Rows pass through
Python, about 15,000 per second and core. If Spark's own aggregates are enough
(`groupBy` with `avg` or `stddev`), use those: they are four times as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import attributes

if TYPE_CHECKING:  # the names of this package
    from sparkstream_kit.state.alerts import alert_when as alert_when
    from sparkstream_kit.state.alerts import once as once
    from sparkstream_kit.state.processor import as_of as as_of
    from sparkstream_kit.state.rules import Alert as Alert
    from sparkstream_kit.state.rules import Ewma as Ewma
    from sparkstream_kit.state.rules import Jump as Jump
    from sparkstream_kit.state.rules import Often as Often
    from sparkstream_kit.state.rules import Rule as Rule
    from sparkstream_kit.state.rules import Silent as Silent
    from sparkstream_kit.state.rules import ZScore as ZScore

# Lazy, so that a rule can be named without importing PySpark, and a misspelt name gets
# a hint.
__getattr__ = attributes(__name__)
