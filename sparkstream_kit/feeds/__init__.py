"""Extra: input for streams: a line server, a file dripper, a replay, seeded generators with known truth.

`LineServer` sends lines to socket clients, `drip` lands files in a folder, and `replay_files` gives the
lines of a file as small files, at the pace of their times. The functions whose names end in `_rows` generate
rows from a seed, and matching functions such as `events_truth` compute without Spark what a job should find
in them. `disturb` adds late, duplicate, bad and far-future rows to rows that are dicts.

The functions that make lines, rows and files check their arguments when they are called. Their results can be
iterated any number of times, each time from the start. A seed gives the same data on every Python version (a
test checks the digests).
"""

from sparkstream_kit.feeds.disturbing import Disturbed, disturb
from sparkstream_kit.feeds.files import (
    LineServer,
    csv_line,
    drip,
    json_line,
    line_files,
    random_lines,
    replay_files,
    text_lines,
)
from sparkstream_kit.feeds.generators import (
    actions_rows,
    actions_truth,
    ads_rows,
    ads_truth,
    cards_rows,
    cards_truth,
    events_rows,
    events_truth,
    log_errors,
    log_line,
    log_rows,
    log_sessions,
    messages_rows,
    messages_truth,
    posts_line,
    posts_rows,
    posts_truth,
    sales_files,
    sales_rows,
    sales_totals,
    sensors_rows,
    sensors_truth,
)

__all__ = [
    "Disturbed",
    "LineServer",
    "actions_rows",
    "actions_truth",
    "ads_rows",
    "ads_truth",
    "cards_rows",
    "cards_truth",
    "csv_line",
    "disturb",
    "drip",
    "events_rows",
    "events_truth",
    "json_line",
    "line_files",
    "log_errors",
    "log_line",
    "log_rows",
    "log_sessions",
    "messages_rows",
    "messages_truth",
    "posts_line",
    "posts_rows",
    "posts_truth",
    "random_lines",
    "replay_files",
    "sales_files",
    "sales_rows",
    "sales_totals",
    "sensors_rows",
    "sensors_truth",
    "text_lines",
]
