"""The Yahoo streaming benchmark in PyFlink SQL, as a stream.

`join` joins and then counts, as the other programs do. `count` is what a second look
finds: it counts by ad and window first, so that the join, which keeps its input in
state, gets a hundredth of the rows.
Run: with_flink.py join|count EVENTS_DIR ADS_FILE
"""

import json
import sys

from pyflink.table import EnvironmentSettings, TableEnvironment

first, folder, ads_file = sys.argv[1:]
table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
# Without mini-batches it sends a new count downstream for every row.
for key, value in {
    "parallelism.default": "2",
    "table.local-time-zone": "UTC",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "1 s",
    "table.exec.mini-batch.size": "100000",
    "table.optimizer.agg-phase-strategy": "TWO_PHASE",
}.items():
    table.get_config().set(key, value)
# Two tasks read the files out of order: with a short watermark it would drop views as
# late.
table.execute_sql(
    "CREATE TABLE events (ad_id STRING, event_type STRING, event_time BIGINT, moment"
    " AS TO_TIMESTAMP_LTZ(event_time, 3), WATERMARK FOR moment AS moment - INTERVAL"
    f" '1' DAY) WITH ('connector' = 'filesystem', 'path' = 'file://{folder}', 'format'"
    " = 'json')"
)
table.execute_sql(
    "CREATE TABLE ads (ad_id STRING, campaign_id STRING) WITH ('connector' ="
    f" 'filesystem', 'path' = 'file://{ads_file}', 'format' = 'json')"
)
query = {
    "join": (
        """
        SELECT campaign_id, event_time - MOD(event_time, 10000), COUNT(*)
        FROM events JOIN ads ON events.ad_id = ads.ad_id
        WHERE event_type = 'view' GROUP BY campaign_id, event_time - MOD(event_time, 10000)"""
    ),
    "count": (
        """
        SELECT campaign_id, start_ms, SUM(seen) FROM (
            SELECT ad_id, COUNT(*) AS seen,
                1000 * CAST(
                    TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', window_start) AS BIGINT
                ) AS start_ms
            FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(moment), INTERVAL '10' SECOND))
            WHERE event_type = 'view' GROUP BY ad_id, window_start, window_end
        ) AS counted JOIN ads ON counted.ad_id = ads.ad_id
        GROUP BY campaign_id, start_ms"""
    ),
}[first]
counts = {}
with table.execute_sql(query).collect() as changes:
    for row in changes:  # of counts: the last one of a campaign and window counts
        counts[row[0], row[1]] = row[2]
print(
    json.dumps(
        {
            "rows": sorted(
                [campaign, start, views] for (campaign, start), views in counts.items()
            )
        }
    )
)
