"""Queries that a test steps: each batch leaves one file with its id and its rows, so that replays show.

On Spark Connect a function of a batch first starts a Python at the server, for a second. There the first run
of a query leaves its rows in Spark's memory instead, which forgets them at a restart, and in mode complete
all but those of the last batch.
"""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, datetime
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit._durations import moment
from sparkstream_kit.checkpoints import logs
from sparkstream_kit.checkpoints.drain import END, plan_empty_batch
from sparkstream_kit.errors import InvalidInputError, QueryFailed, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import DataFrame, Row
    from pyspark.sql.streaming.listener import StreamingQueryProgress
    from pyspark.sql.streaming.query import StreamingQuery

    from sparkstream_kit.sinks import Sink

__all__ = ["Batch", "Query"]


@dataclass(frozen=True)
class Batch:
    """What a query delivered in one batch.

    Attributes:
        batch_id: Spark's number of the batch.
        rows: the rows, as Spark gave them to the sink.
        progress: Spark's own progress record, such as `progress.stateOperators`.
    """

    batch_id: int
    rows: list[Row]
    progress: StreamingQueryProgress = field(repr=False, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether it read no row and gave none, as a batch for a new watermark that closes nothing."""
        return not self.rows and self.progress.numInputRows == 0

    @property
    def late_rows(self) -> int:
        """How many rows the watermark dropped; after a partial aggregation Spark counts groups."""
        return sum(state.numRowsDroppedByWatermark for state in self.progress.stateOperators)

    @property
    def watermark(self) -> datetime | None:
        """The watermark that held in this batch, in a drain the year 9999; its rows move that of the next."""
        at = moment(self.progress.eventTime.get("watermark"))
        # The end has no time in a zone to the east.
        return at and (at if at.year == MAXYEAR else at.astimezone()).replace(tzinfo=None)


class Query:
    """A query that runs when it is stepped, goes on from its checkpoint, and shows each delivery.

    Attributes:
        frame: the DataFrame that it runs.
        batches: all that it has delivered, those without rows, too.
    """

    def __init__(
        self,
        frame: DataFrame,
        mode: str,
        sink: Sink | None,
        folder: Path,
        publish: Callable[[], None],
    ) -> None:
        self._publish = publish
        self.frame = frame
        self.batches: list[Batch] = []
        self._mode = mode
        self._sink = sink
        self._checkpoint = folder / "checkpoint"
        self._batches = folder / "batches"
        self._name = re.sub(r"\W", "_", f"{folder.parent.name}_{folder.name}")  # tests may share a session
        self._running: StreamingQuery | None = None
        self._memory: DataFrame | None = None  # the rows of all batches, one after the other
        self._read = 0  # rows of it
        self._last = -1  # batch of which all has been kept
        self._taken: list[tuple[int, list[Row]]] = []  # from it, and not yet returned by a step
        self._progress: dict[int, StreamingQueryProgress] = {}

    def step(self, *, watermark: str | datetime | None = None) -> list[Batch]:
        """Process all that was added, and return the batches with rows of it, in order.

        A batch that moves the watermark is followed by one without data, which emits what is closed by it. A
        batch that has read no row and emits none is not returned; it is in `batches`.

        Args:
            watermark: then move the watermark to this time, such as "2026-01-31 12:10", or "12:10" for the
                day that it is at. No row is needed for that, so that none is in the results: a batch without
                data emits what the watermark closes.

        Raises:
            QueryFailed: a batch failed; the next step tries it again.
            InvalidInputError: a time that cannot be read, or that the watermark has passed; or no batch has
                run yet.
        """
        check(Query.step, locals())
        self._publish()
        found = self._processed(self._running or self._start())
        return found if watermark is None else found + self._move(self._milliseconds(watermark))

    def drain(self) -> list[Batch]:
        """Process all that was added and end the input, as `run(drain=True)` does; return the batches.

        The last batch emits what waits for the watermark, such as open windows. No step can follow.

        Raises:
            QueryFailed, InvalidInputError: as for `step`.
        """
        return self.step() + self._move(END)

    def _move(self, watermark: int) -> list[Batch]:
        """Run a batch without data at a watermark, in milliseconds."""
        self.restart()
        if not logs.numbered(self._checkpoint / "commits"):
            raise InvalidInputError("no batch has run yet, whose watermark could move; call add_data() first")
        plan_empty_batch(self._checkpoint, watermark)
        return self._processed(self._start())

    def _processed(self, query: StreamingQuery) -> list[Batch]:
        from pyspark.errors import StreamingQueryException

        self._running = query
        try:
            query.processAllAvailable()
        except StreamingQueryException as err:
            self._running = None
            raise QueryFailed(self._name, innermost_cause(err)) from err
        finally:
            self._take(query)
        return self._delivered()

    def _take(self, query: StreamingQuery) -> None:
        """Keep what Spark alone has of the batches of a run."""
        self._progress.update({progress.batchId: progress for progress in query.recentProgress})
        following, self._last = self._last + 1, logs.newest(self._checkpoint / "commits")
        if self._memory is None:
            return
        rows = self._memory.collect()
        for batch in range(following, self._last + 1):  # Spark may have removed the first commits already
            known, start = self._progress.get(batch), self._read
            self._read += known.sink.numOutputRows if known else 0
            self._taken.append((batch, rows[start : self._read]))

    def _milliseconds(self, watermark: str | datetime) -> int:
        """Return a time as milliseconds since 1970; one without a day is of the watermark's day."""
        try:
            if isinstance(watermark, str) and re.fullmatch(r"\d\d?:\d\d(:\d\d(\.\d+)?)?", watermark):
                last = logs.last_plan(self._checkpoint)
                day = datetime.fromtimestamp((last.watermark if last else 0) / 1000)  # noqa: DTZ006 - as rows are
                hour, _, rest = watermark.partition(":")
                watermark = f"{day:%Y-%m-%d} {hour:0>2}:{rest}"
            time = datetime.fromisoformat(watermark) if isinstance(watermark, str) else watermark
        except ValueError as err:
            raise InvalidInputError(
                f"step(): watermark is {watermark!r}; give a time, such as '12:10' or '2026-01-31 12:10'"
            ) from err
        return int(time.timestamp() * 1000)

    def restart(self, frame: DataFrame | None = None) -> None:
        """Stop the query; the next step starts it on its checkpoint.

        Args:
            frame: another DataFrame to go on with, such as that of the next version of a job.
        """
        check(Query.restart, locals())
        if self._running is not None:
            self._running.stop()
            if logs.newest(self._checkpoint / "commits") > self._last:
                self._take(self._running)  # a step of another query has given it a batch
            self._running = None
        if self._memory is not None:
            self._memory = None
            self.frame.sparkSession.catalog.dropTempView(self._name)
        self.frame = self.frame if frame is None else frame

    def kill_before_commit(self) -> None:
        """Leave the checkpoint as a driver that was killed between the last batch's sink and its commit.

        The last batch is the last one with rows: an empty one after it has then not been planned yet. The
        next step delivers that batch again, with the same id and the same rows.

        Raises:
            InvalidInputError: no batch is committed.
        """
        self.restart()
        commits = logs.numbered(self._checkpoint / "commits")
        if not commits:
            raise InvalidInputError(
                "no batch has been committed yet that could come again; call add_data() and step() first"
            )
        ids = {batch.batch_id for batch in self.batches if not batch.is_empty}
        killed = max(ids & commits.keys(), default=max(commits))
        plans = logs.numbered(self._checkpoint / "offsets")
        for gone in [commits[each] for each in commits if each >= killed] + [
            plans[each] for each in plans if each > killed
        ]:
            gone.unlink()
            gone.with_name(f".{gone.name}.crc").unlink(missing_ok=True)

    def replay(self) -> list[Batch]:
        """Deliver the last batch again, as after `kill_before_commit`, and return it and what followed."""
        self.kill_before_commit()
        return self.step()

    def _start(self) -> StreamingQuery:
        from sparkstream_kit import sinks, start
        from sparkstream_kit._spark.session import starts_python_for_batches

        self.restart()
        sink, spark = sinks.foreach_batch(_recorder(str(self._batches))), self.frame.sparkSession
        if self._sink is not None:
            sink = sinks.fan_out(self._sink, sink)
        elif starts_python_for_batches(spark) and self._mode != "complete" and not self._checkpoint.exists():
            sink = replace(sinks.memory(self._name), modes=("append", "update"))
            self._memory = spark.table(self._name)
        return start(self.frame, sink, name=self._name, mode=self._mode, checkpoint=self._checkpoint)

    def _delivered(self) -> list[Batch]:
        found, self._taken = self._taken, []
        for path in sorted(self._batches.glob("[!.]*")):
            found.append(pickle.loads(path.read_bytes()))  # noqa: S301 - the recorder's own
            path.unlink()
        if lost := [batch_id for batch_id, _ in found if batch_id not in self._progress]:
            raise InvalidInputError(
                f"this step ran {len(found)} batches, and Spark forgot the progress of batch {lost[0]}; "
                "step more often, or give spark.sql.streaming.numRecentProgressUpdates a higher number"
            )
        delivered = [Batch(batch_id, rows, self._progress[batch_id]) for batch_id, rows in found]
        self.batches += delivered
        return [batch for batch in delivered if not batch.is_empty]


def _recorder(folder: str) -> Callable[[DataFrame, int], None]:
    """Return the batch function; on Connect it runs in a process of the server, so it holds texts alone."""
    zone = os.environ.get("TZ")

    def record(batch: DataFrame, batch_id: int) -> None:
        import os
        import pickle
        import time
        from pathlib import Path

        if zone is not None:
            os.environ["TZ"] = zone  # of the test's process: Python's times have no zone of their own
            time.tzset()
        rows = batch.collect()
        name = f"{time.time_ns():020}"
        hidden = Path(folder, f".{name}")
        hidden.write_bytes(pickle.dumps((batch_id, rows)))
        hidden.rename(Path(folder, name))

    return record
