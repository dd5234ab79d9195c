"""Extra: make input for streams: lines, files and rows whose true results are known.

`LineServer` sends lines to socket clients, `drip` lands files in a folder, and
`replay_files` cuts a file into small files for it. The functions whose names end in
`_rows` generate rows from a seed, and matching functions such as `events_truth` compute
without Spark what a job should find in them. `disturb` adds late, duplicate, bad and
far-future rows to rows that are dicts.

The functions that make lines, rows and files check their arguments when they are
called. Their results can be iterated any number of times, each time from the start. A
seed gives the same data on every Python version (a test checks the digests).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import attributes

if TYPE_CHECKING:  # the names of this package
    from sparkstream_kit.feeds.disturbing import Disturbed as Disturbed
    from sparkstream_kit.feeds.disturbing import disturb as disturb
    from sparkstream_kit.feeds.files import LineServer as LineServer
    from sparkstream_kit.feeds.files import csv_line as csv_line
    from sparkstream_kit.feeds.files import drip as drip
    from sparkstream_kit.feeds.files import json_line as json_line
    from sparkstream_kit.feeds.files import line_files as line_files
    from sparkstream_kit.feeds.files import random_lines as random_lines
    from sparkstream_kit.feeds.files import replay_files as replay_files
    from sparkstream_kit.feeds.files import text_lines as text_lines
    from sparkstream_kit.feeds.generators.incidents import cards_rows as cards_rows
    from sparkstream_kit.feeds.generators.incidents import cards_truth as cards_truth
    from sparkstream_kit.feeds.generators.incidents import sensors_rows as sensors_rows
    from sparkstream_kit.feeds.generators.incidents import (
        sensors_truth as sensors_truth,
    )
    from sparkstream_kit.feeds.generators.shop import events_rows as events_rows
    from sparkstream_kit.feeds.generators.shop import events_truth as events_truth
    from sparkstream_kit.feeds.generators.shop import sales_files as sales_files
    from sparkstream_kit.feeds.generators.shop import sales_rows as sales_rows
    from sparkstream_kit.feeds.generators.shop import sales_totals as sales_totals
    from sparkstream_kit.feeds.generators.texts import messages_rows as messages_rows
    from sparkstream_kit.feeds.generators.texts import messages_truth as messages_truth
    from sparkstream_kit.feeds.generators.texts import posts_line as posts_line
    from sparkstream_kit.feeds.generators.texts import posts_rows as posts_rows
    from sparkstream_kit.feeds.generators.texts import posts_truth as posts_truth
    from sparkstream_kit.feeds.generators.users import actions_rows as actions_rows
    from sparkstream_kit.feeds.generators.users import actions_truth as actions_truth
    from sparkstream_kit.feeds.generators.users import ads_rows as ads_rows
    from sparkstream_kit.feeds.generators.users import ads_truth as ads_truth
    from sparkstream_kit.feeds.generators.users import log_errors as log_errors
    from sparkstream_kit.feeds.generators.users import log_line as log_line
    from sparkstream_kit.feeds.generators.users import log_rows as log_rows
    from sparkstream_kit.feeds.generators.users import log_sessions as log_sessions

__getattr__ = attributes(__name__)
