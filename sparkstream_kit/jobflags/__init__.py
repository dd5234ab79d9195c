"""What jobs share on the command line: flags, exit codes, one-line errors, and their own standard streams.

Standard library only, so that a job's arguments are checked before pyspark is imported.
"""

from sparkstream_kit.jobflags.exits import exit_codes, take_standard_streams
from sparkstream_kit.jobflags.flags import check_bad_rows, check_needs, label, parser, trigger
from sparkstream_kit.jobflags.values import (
    check_apart,
    check_multiple,
    checkpoint_folder,
    database,
    existing_folder,
    host,
    interval,
    output_file,
    percent,
    port,
    positive_int,
    profile,
    seconds,
    state_store,
)

__all__ = [
    "check_apart",
    "check_bad_rows",
    "check_multiple",
    "check_needs",
    "checkpoint_folder",
    "database",
    "existing_folder",
    "exit_codes",
    "host",
    "interval",
    "label",
    "output_file",
    "parser",
    "percent",
    "port",
    "positive_int",
    "profile",
    "seconds",
    "state_store",
    "take_standard_streams",
    "trigger",
]
