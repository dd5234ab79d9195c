"""The progress of three queries, as Spark once gave it, and a board that shows it."""

import json

from conftest import ROOT
from pyspark.sql.streaming.listener import StreamingQueryProgress

from sparkstream_kit.monitoring.board import Board

LINES = (ROOT / "tests" / "recorded" / "progress.jsonl").read_text("utf-8").splitlines()
TOLD = [json.loads(line) for line in LINES]
OTHER = "11111111-1111-4111-8111-111111111111"  # an id of Spark's


def progress(told=TOLD[0], **changes):
    """Return a batch, the first one by default, with something changed."""
    return StreamingQueryProgress.fromJson(told | changes)


def filled(**changes):
    """Return a board with the recorded batches."""
    board = Board()
    for each in TOLD:
        board.add(progress(each, **changes))
    return board
