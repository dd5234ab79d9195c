"""Things that make input: a line server, a file dripper, a replay, and seeded generators with known truth.

The makers of lines, rows and files check their arguments when they are called; what they return can be read
from its start any number of times. A seed gives the same data on every Python (a test holds the digests).
"""

from sparkstream_kit.feeds.ads import ads_rows, ads_truth
from sparkstream_kit.feeds.disturbing import Disturbed, disturb
from sparkstream_kit.feeds.events import event_rows, event_truth
from sparkstream_kit.feeds.files import csv_line, drip, json_line, line_files
from sparkstream_kit.feeds.lines import random_lines, text_lines
from sparkstream_kit.feeds.messages import messages_rows, messages_truth
from sparkstream_kit.feeds.posts import post_line, post_rows, post_truth
from sparkstream_kit.feeds.replaying import replay, replay_files
from sparkstream_kit.feeds.sales import sales_files, sales_rows, sales_totals
from sparkstream_kit.feeds.server import LineServer

__all__ = [
    "Disturbed",
    "LineServer",
    "ads_rows",
    "ads_truth",
    "csv_line",
    "disturb",
    "drip",
    "event_rows",
    "event_truth",
    "json_line",
    "line_files",
    "messages_rows",
    "messages_truth",
    "post_line",
    "post_rows",
    "post_truth",
    "random_lines",
    "replay",
    "replay_files",
    "sales_files",
    "sales_rows",
    "sales_totals",
    "text_lines",
]
