"""Extra: DStreams, Spark's older API: contexts that end, counts that survive a restart.

Spark deprecates DStreams; new work belongs in Structured Streaming. Only classic
sessions have DStreams, Spark Connect has none. `streaming_context` makes a context and
always stops it, `run` runs it, `running_counts` and `windowed_counts` count by key, and
`foreach_partition` sends records to another system.
"""

from __future__ import annotations

import json
import logging
import operator
import re
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pyspark.sql import SparkSession
from pyspark.streaming import StreamingContext, StreamingListener

from sparkstream_kit._internal import file_system, threads
from sparkstream_kit._internal.arguments import check
from sparkstream_kit._internal.spark import queries
from sparkstream_kit._internal.spark.logical_plan import nobody_listens, unknown_host
from sparkstream_kit._internal.spark.place import LocalPlace
from sparkstream_kit._internal.spark.session import refuse_dstreams
from sparkstream_kit._internal.stopping import shutdown, waiting
from sparkstream_kit.checkpoints.lock import Lock, lock, user_of
from sparkstream_kit.errors import (
    InputUnavailable,
    InvalidInputError,
    QueryFailed,
    TransientError,
    count,
    innermost_cause,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pyspark import RDD
    from pyspark.streaming import DStream

__all__ = [
    "foreach_partition",
    "run",
    "running_counts",
    "streaming_context",
    "windowed_counts",
]

_log = logging.getLogger(__name__)
# Seconds to wait for a batch that is still running after its context was stopped
_BATCH_LIMIT = 5.0
_SHORTEST_INTERVAL = 0.001  # seconds: Spark counts the interval in milliseconds
# Of a context's snapshots
_locks: WeakKeyDictionary[StreamingContext, list[Lock]] = WeakKeyDictionary()
# Seconds the JVM waits for a graceful stop, which may be long; a second signal ends it
_JVM_LIMIT = 3600


@contextmanager
def streaming_context(
    spark: SparkSession, batch_interval: float
) -> Iterator[StreamingContext]:
    """Make a StreamingContext that is always stopped at the end of the `with` block.

    A JVM runs one StreamingContext at a time. If another one is still active, left over
    from an interrupted notebook cell or test, it is stopped first, with a warning. The
    session stays active.

    Args:
        spark: a classic session.
        batch_interval: seconds between batches.

    Yields:
        Spark's own StreamingContext. Its checkpoint, which stateful operators need, is
        a temporary folder. On a cluster, call `ssc.checkpoint(…)` with a folder that
        all nodes share.

    Raises:
        InvalidInputError: the interval is shorter than a millisecond, or `spark` is a
            Spark Connect session.

    Examples:
        In a session::

            with dstreams.streaming_context(spark, batch_interval=1) as ssc:
                ssc.socketTextStream("localhost", 9999).pprint()
                dstreams.run(ssc, run_for=20)
    """
    check(streaming_context, locals())
    refuse_dstreams(spark)
    if batch_interval < _SHORTEST_INTERVAL:
        raise InvalidInputError(
            f"streaming_context(): batch_interval is {batch_interval:g} s; give 0.001"
            " or more"
        )
    leftover = StreamingContext.getActive()
    if leftover is not None:
        _log.warning(
            "stopping a StreamingContext that was still active: only one may run in"
            " a JVM"
        )
        leftover.stop(stopSparkContext=False)
    with warnings.catch_warnings():
        # Of the deprecation, which our docstring states
        warnings.simplefilter("ignore", FutureWarning)
        # Spark's type hint is int, but it accepts fractions of a second.
        ssc = StreamingContext(spark.sparkContext, batch_interval)  # type: ignore[arg-type]
    checkpoint = tempfile.mkdtemp(prefix="sparkstream-dstream-")
    ssc.checkpoint(checkpoint)
    try:
        yield ssc
    finally:
        _end(ssc)
        shutil.rmtree(checkpoint, ignore_errors=True)


def _end(ssc: StreamingContext, *, graceful: bool = False) -> None:
    """Stop a context, wait for the rest of its batch, and release the locks of its snapshots.

    A batch goes on after the stop with its jobs, its output, and the counts that it
    saves. Spark itself waits for two seconds and then continues as if the batch had
    ended. Counts that are saved later than that could overwrite those of the next
    context.
    """
    ssc.stop(stopSparkContext=False, stopGraceFully=graceful)
    tracker = ssc.sparkContext.statusTracker()
    threads.until(
        lambda: not (tracker.getActiveJobsIds() or queries.runs_batch()), _BATCH_LIMIT
    )
    _release_locks(ssc)


def run(
    ssc: StreamingContext,
    *,
    run_for: float | None = None,
    stop_file: str | Path | None = None,
    graceful: bool = False,
) -> str:
    """Start a StreamingContext, wait until it ends, and stop it.

    Call this function in the main thread.

    The run ends after `run_for` seconds, when the stop file appears, or on SIGINT or
    SIGTERM. The context is always stopped afterwards.

    Args:
        ssc: a context whose streams are set up but not started.
        run_for: seconds after which the run ends. Default: no limit.
        stop_file: a path; the run ends within about half a second after a file appears
            there.
        graceful: before stopping, process all records that have been received, which
            can take long while a peer keeps sending. Otherwise the batch in progress is
            the last one, and records received for later batches are lost.

    Returns:
        Why the run ended: "run_for is over", "stop file PATH", "SIGINT", "SIGTERM", "a
        signal to the JVM", or "stopped" if something else stopped the context. If
        batches were left, the text says so, as in "run_for is over; not processed: 4
        batches with 40 records". Records received after the last batch was formed are
        lost, too, and not counted.

    Raises:
        InvalidInputError: there are so many receivers that `local[…]` has no core left
            for batches.
        InputUnavailable: the address of a socket stream refuses the connection, or its
            host is unknown.
        QueryFailed: a batch failed, or the JVM ended by itself.

    Examples:
        In a session::

            with dstreams.streaming_context(spark, batch_interval=1) as ssc:
                ssc.socketTextStream("localhost", 9999).count().pprint()
                print(dstreams.run(ssc, run_for=20))  # what ended it
    """
    check(run, locals())
    kind = "look"
    try:
        _check_cores(ssc)
        inbox = waiting.Inbox(run_for=run_for, stop_file=stop_file)
        ssc.addStreamingListener(_Receivers(inbox))
        ssc.start()
        with (
            shutdown.jvm_waits_for(inbox, _JVM_LIMIT),
            waiting.signals_posted_to(inbox),
        ):
            threads.in_thread("await", partial(_await, ssc, inbox))
            while kind == "look":
                kind, what = inbox.next()
    finally:
        _end(ssc, graceful=graceful and kind == "stop")
    if kind == "refused":
        raise InputUnavailable("DStream", what)
    if kind == "failed":
        raise QueryFailed("DStream", innermost_cause(what)) from what
    if what == shutdown.BY_ITSELF:
        raise QueryFailed("DStream", shutdown.ENDED)
    batches, records = queries.unprocessed(ssc)
    if not batches:
        return str(what)
    left = f"{count(batches, 'batch')} with {count(records, 'record')}"
    return f"{what}; not processed: {left}"


def running_counts(
    pairs: DStream[tuple[Any, int]], *, snapshot: str | Path | None = None
) -> DStream[Any]:
    """Sum the values by key since the beginning, with `updateStateByKey`.

    Delivery: with a snapshot, the next run continues from its counts. A socket cannot
    send again, so what it sent after the last snapshot is lost: at most once.

    Args:
        pairs: keys and whole numbers. With a snapshot a key must be a string. Any other
            key fails the batch and leaves the file as it was.
        snapshot: a local file for the counts, an object in JSON. It is read when this
            function is called, and replaced atomically after each batch, before the
            batch is shown. Until the context has stopped, the file belongs to this
            driver: a lock in the folder `SNAPSHOT.lock` beside it refuses others.
            Spark's own recovery (`StreamingContext.getOrCreate`) would also restore the
            old host, interval and globals.

    Returns:
        A DStream of (key, count) with all keys in every batch.

    Raises:
        InvalidInputError: the snapshot is damaged, was not written by the kit, is not
            on this machine, or cannot be locked.
        TransientError: another driver uses the snapshot.

    Examples:
        In a session::

            with dstreams.streaming_context(spark, batch_interval=1) as ssc:
                words = ssc.socketTextStream("localhost", 9999).flatMap(str.split)
                pairs = words.map(lambda word: (word, 1))
                dstreams.running_counts(pairs, snapshot="counts.json").pprint()
                dstreams.run(ssc, run_for=20)
    """
    check(running_counts, locals())

    # Functions in this one are pickled with their code, so workers do not need the kit.
    def with_new(values: Iterable[int], total: int | None) -> int:
        return (total or 0) + sum(values)

    if snapshot is None:
        return pairs.updateStateByKey(with_new)
    file = file_system.local("snapshot", snapshot)
    ssc = pairs.context()
    _lock(ssc, file)
    first = None
    if file.exists():
        saved = _read_counts(file)
        if saved:
            first = ssc.sparkContext.parallelize(saved)
    counts = pairs.updateStateByKey(with_new, initialRDD=first)
    # Not partial(): Spark needs its __code__
    counts.foreachRDD(lambda rdd: _keep_counts(file, rdd))
    return counts


def windowed_counts(
    pairs: DStream[tuple[Any, int]], window: float, slide: float
) -> DStream[Any]:
    """Sum the values by key over a sliding window, with `reduceByKeyAndWindow` and its inverse.

    Each slide adds the batches that enter the window and subtracts those that leave it.
    A key whose sum is zero is dropped from the output and the state.

    Args:
        pairs: keys and whole numbers of at least 1.
        window: the length of the window in seconds; a multiple of the batch interval.
        slide: the seconds from one result to the next; a multiple of the batch
            interval.

    Returns:
        A DStream of (key, sum), with one result every `slide`.

    Raises:
        InvalidInputError: `window` or `slide` is not a multiple of the batch interval.

    Examples:
        In a session::

            with dstreams.streaming_context(spark, batch_interval=1) as ssc:
                words = ssc.socketTextStream("localhost", 9999).flatMap(str.split)
                pairs = words.map(lambda word: (word, 1))
                dstreams.windowed_counts(pairs, window=10, slide=2).pprint()
                dstreams.run(ssc, run_for=20)
    """
    check(windowed_counts, locals())
    # The type hints of this method say int, but it accepts fractions of a second.
    reduce: Callable[..., DStream[Any]] = pairs.reduceByKeyAndWindow

    def is_counted(pair: tuple[Any, int]) -> bool:
        _, total = pair
        return total != 0

    try:
        return reduce(operator.add, operator.sub, window, slide, filterFunc=is_counted)
    except ValueError as err:
        window_and_slide = f"window is {window:g} s and slide is {slide:g} s"
        fix = f"give multiples of the batch interval ({err})"
        raise InvalidInputError(
            f"windowed_counts(): {window_and_slide}; {fix}"
        ) from None


def foreach_partition(
    stream: DStream[Any],
    connect: Callable[[], AbstractContextManager[Any]],
    send: Callable[[Any, Any], object],
) -> None:
    """Send each record from the worker that holds it, over one connection for each partition.

    Delivery: at least once for receivers that can replay, because Spark retries a
    failed task.

    Args:
        stream: the records to send.
        connect: opens a connection, on the worker, as a context manager that closes it.
            It is not called for an empty partition. `connect` and `send` are pickled:
            open the connection inside `connect`, do not refer to one that is already
            open.
        send: called with the connection and a record.

    Examples:
        In a session::

            def connect():
                return open("/dev/null", "w")

            with dstreams.streaming_context(spark, batch_interval=1) as ssc:
                lines = ssc.socketTextStream("localhost", 9999)
                dstreams.foreach_partition(lines, connect, lambda file, line: file.write(line))
                dstreams.run(ssc, run_for=20)
    """
    check(foreach_partition, locals())

    def send_partition(records: Iterable[Any]) -> None:
        remaining = iter(records)
        for first in remaining:  # once, or never for an empty partition
            with connect() as connection:
                send(connection, first)
                for record in remaining:
                    send(connection, record)

    stream.foreachRDD(lambda rdd: rdd.foreachPartition(send_partition))


class _Receivers(StreamingListener):
    """Ends the run if the first connection of a socket fails.

    After a later loss Spark reconnects, every 2 s.
    """

    def __init__(self, inbox: waiting.Inbox) -> None:
        self._inbox = inbox
        self._first = True

    def onReceiverStopped(self, receiverStopped: Any) -> None:  # noqa: N803 - Spark's name
        is_first = self._first
        self._first = False
        if not is_first:
            return
        info = receiverStopped.receiverInfo()
        why = _why_refused(info.lastErrorMessage(), info.lastError())
        if why is not None:
            self._inbox.post("refused", why)


def _why_refused(message: str, error: str) -> str | None:
    """Return why a receiver got no connection; None if it stopped for another reason.

    Args:
        message: the last error of the receiver, such as "Restarting receiver with delay
            2000ms: Error connecting to localhost:9999".
        error: the stack trace, which has a line such as
            "java.net.UnknownHostException: nowhere.example".
    """
    _, is_refused, address = message.rpartition("Error connecting to ")
    if is_refused:
        return nobody_listens(address)
    unknown = re.search(r"UnknownHostException: ([^\s:]+)", error)
    if unknown is not None:
        return unknown_host(unknown[1])
    return None


def _await(ssc: StreamingContext, inbox: waiting.Inbox) -> None:
    """Post how a context has ended."""
    try:
        ssc.awaitTermination()
    except Exception as err:  # noqa: BLE001 - any error of a batch ends the run, in the main thread
        inbox.post("failed", err)
    else:
        inbox.post("stop", "stopped")


def _check_cores(ssc: StreamingContext) -> None:
    """Refuse a receiver on every core: Spark would then silently never run a batch."""
    context = ssc.sparkContext
    receivers = queries.receivers(ssc)
    cores = context.defaultParallelism
    if str(context.master).startswith("local") and 0 < cores <= receivers:
        master_and_cores = f"master {context.master} has {cores} core(s)"
        needed = f"{receivers} receiver(s) need one each, and a batch another"
        fix = f"use local[{receivers + 1}] or more"
        raise InvalidInputError(f"dstreams.run(): {master_and_cores}: {needed}; {fix}")


def _lock(ssc: StreamingContext, snapshot: Path) -> None:
    """Lock a snapshot against other drivers until the context has stopped."""
    for other in list(_locks):
        if queries.has_stopped(other):  # by Spark's own `stop`, which knows no locks
            _release_locks(other)
    folder = snapshot.absolute().with_name(f"{snapshot.name}.lock")
    user = user_of(folder)
    if user is not None:
        fix = f"{user}, or give another file"
        raise TransientError(
            f"running_counts(): snapshot {snapshot} is in use by {fix}"
        )
    held = lock(
        SparkSession.builder.getOrCreate(),
        LocalPlace(str(folder), folder),
        "running_counts",
    )
    if held is not None:  # always so for a folder of this machine
        _locks.setdefault(ssc, []).append(held)


def _release_locks(ssc: StreamingContext) -> None:
    """Unlock the snapshots of a context that has stopped, for another driver."""
    for held in _locks.pop(ssc, []):
        held.release()


_RESTORE = "restore it from a backup, give another file, or remove it to begin at zero"


def _read_counts(path: Path) -> list[tuple[Any, int]]:
    """Return the keys and counts of a snapshot.

    Raises:
        InvalidInputError: the file holds something else.
    """
    try:
        counts = json.loads(path.read_bytes())
    except (OSError, ValueError) as err:
        raise InvalidInputError(
            f"snapshot {path} does not hold counts ({err}); {_RESTORE}"
        ) from err
    if isinstance(counts, dict):
        pairs = list(counts.items())
        if all(type(total) is int for _, total in pairs):
            return pairs
    raise InvalidInputError(f"snapshot {path} does not hold counts; {_RESTORE}")


def _keep_counts(path: Path, rdd: RDD[tuple[Any, int]]) -> None:
    """Replace the snapshot by the counts of a batch; refuse one that JSON would not give back."""
    counts = dict(rdd.collect())
    for key, total in counts.items():
        if not isinstance(key, str) or type(total) is not int:
            fix = "a key must be a string, such as str(key), and a count a whole number"
            raise InvalidInputError(
                f"running_counts() cannot keep the count {total!r} of key {key!r};"
                f" {fix}"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    file_system.replace(path, [json.dumps(counts)])
