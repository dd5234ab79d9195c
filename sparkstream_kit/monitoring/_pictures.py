"""What the page is sent: the board's pictures as JSON, each batch once to each browser."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from sparkstream_kit.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparkstream_kit.monitoring._results import Result, Results
    from sparkstream_kit.monitoring.board import Batch, Picture


class Sent:
    """What one browser has been sent, so that it is sent no batch twice."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._batches: dict[str, int] = {}  # the last one of each run
        self._sent: dict[str, Result] = {}  # the last one of each query
        self._first = True

    def text(self, pictures: Sequence[Picture], *, ended: str, spark: str | None) -> str:
        """Return what the browser has not seen yet, as one line of JSON.

        Args:
            pictures: the queries, the worst first.
            ended: how the run has ended; empty while it goes on.
            spark: the address of Spark's own page.
        """
        told = {
            # A browser drops what it has from before: the job may have been started again meanwhile.
            "first": self._first,
            "ended": printable(ended),
            "spark": spark,
            "queries": [self._query(each, last=bool(ended)) for each in newest_runs(pictures)],
        }
        self._first = False
        return json.dumps(told)

    def _query(self, picture: Picture, *, last: bool) -> dict[str, Any]:
        seen = self._batches.get(picture.run_id, -1)
        new = [_batch(each) for each in picture.batches if each.batch > seen]
        if picture.batches:
            self._batches[picture.run_id] = picture.batches[-1].batch
        done = picture.summary
        query = {
            "name": printable(picture.name),
            "run": picture.run_id,
            "verdicts": [[said.level, printable(said.text)] for said in picture.verdicts],
            "batches": new,
            "totals": {"rows": done.input_rows, "late": done.late_rows, "bad": done.bad_rows},
        }
        found = self._results.of(picture.name, done.batches, last=last)
        if found is not None and found is not self._sent.get(picture.name):
            self._sent[picture.name] = found
            query["result"] = vars(found)
        return query


def newest_runs(pictures: Sequence[Picture]) -> list[Picture]:
    """Return of each query its last start: `run(…, drain=True)` starts it once more."""
    newest: dict[str, Picture] = {}
    for each in pictures:
        if each.name not in newest or _began(newest[each.name]) < _began(each):
            newest[each.name] = each
    return [each for each in pictures if newest[each.name] is each]


def _began(picture: Picture) -> float:
    """Return when the last batch of a query began; of one that still waits for its first, a later time."""
    return picture.batches[-1].at.timestamp() if picture.batches else math.inf


def _batch(batch: Batch) -> dict[str, Any]:
    """Return a batch with times in seconds; a page on a long run holds hundreds."""
    return {
        "id": batch.batch,
        "at": batch.at.timestamp(),
        "seconds": batch.seconds,
        "rows": batch.rows,
        "out": batch.rows_out,
        "parts": [batch.work, batch.planning, batch.log_writes, batch.looking],
        "state": batch.state_rows,
        "memory": batch.state_bytes,
        "lag": batch.lag,
        "waiting": batch.backlog,
        "files": batch.files,
    }
