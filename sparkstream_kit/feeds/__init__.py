"""Extra: input for streams: a line server, a file dripper, a replay, seeded generators with known truth.

The makers of lines, rows and files check their arguments when they are called; what they return can be read
from its start any number of times. A seed gives the same data on every Python (a test holds the digests).
"""

from sparkstream_kit.feeds.disturbing import Disturbed, disturb
from sparkstream_kit.feeds.files import csv_line, drip, json_line, line_files, random_lines, text_lines
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
from sparkstream_kit.feeds.replaying import LineServer, replay, replay_files

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
    "replay",
    "replay_files",
    "sales_files",
    "sales_rows",
    "sales_totals",
    "sensors_rows",
    "sensors_truth",
    "text_lines",
]
