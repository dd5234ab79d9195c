"""A batch's function as the JVM calls it: a stop cuts it off, and nothing is left open.

It is cut off without a word.
"""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import failure, ran
from pyspark import SparkContext, cloudpickle

from sparkstream_kit import feeds, run, sinks, sources, start
from sparkstream_kit._internal.spark.batch import _without_result
from sparkstream_kit.sinks import Sink

pytestmark = pytest.mark.classic_only(
    "on Spark Connect the server's Python runs the function"
)


def plain(batch, _batch_id):
    batch.collect()


def chained(batch, _batch_id):
    try:
        batch.collect()
    except Exception as err:
        raise ValueError("the shop is closed") from err


def writes(batch, _batch_id):
    batch.write.format("noop").mode("overwrite").save()


SINKS: dict[str, Callable[[Path], Sink]] = {
    "a function": lambda _: sinks.foreach_batch(plain),
    "a function that writes": lambda _: sinks.foreach_batch(writes),
    "a function that raises its own error": lambda _: sinks.foreach_batch(chained),
    "batch_files": lambda path: sinks.batch_files(path / "out"),
    "sql_table": lambda path: sinks.sql_table(
        f"sqlite:///{path}/cut.db", "cut", how="replace"
    ),
    "fan_out": lambda path: sinks.fan_out(
        sinks.latest("cut_off"), sinks.snapshot(path / "cut.json")
    ),
}


class Gate:
    """A part of a batch's function: it holds the batch until the test lets it go on."""

    def __init__(self):
        self.begun, self.open = threading.Event(), threading.Event()

    def hold(self, batch):
        if not batch.isStreaming:  # `taking` asks for the columns first
            self.begun.set()
            self.open.wait(60)
        return batch

    def stop_in_mid_batch(self, query, until):
        """Stop the query while its batch is held, and then let the batch go on."""
        until(self.begun.is_set)
        stopping = threading.Thread(target=query.stop)
        stopping.start()
        until(lambda: is_interrupted(f"stream execution thread for {query.name}"))
        self.open.set()
        stopping.join(60)
        assert not stopping.is_alive()


def is_interrupted(name):
    jvm: Any = SparkContext._jvm  # noqa: SLF001
    threads = jvm.java.lang.Thread.getAllStackTraces().keySet()
    return any(
        thread.isInterrupted()
        for thread in threads
        if thread.getName().startswith(name)
    )


@pytest.fixture
def counts(spark, folder):
    feeds.drip([("0.txt", "a\nb\n")], folder)
    return sources.text(spark, str(folder)).groupBy("value").count()


@pytest.mark.fast("a function*", "sql_table")
@pytest.mark.parametrize("sink", SINKS)
def test_a_stop_in_mid_batch_is_no_error(sink, counts, tmp_path, until):
    gate, made = Gate(), SINKS[sink](tmp_path)
    mode = "complete" if "complete" in made.modes else "update"
    query = start(
        counts,
        made.taking(gate.hold),
        name="cut",
        mode=mode,
        checkpoint=tmp_path / "ckpt",
    )
    gate.stop_in_mid_batch(query, until)
    # Its last word where Spark knows the stop; a stack that overflows on the way there
    # leaves another.
    assert query.status["message"] == "Stopped"
    assert query.exception() is None


def reads_what_is_not_there(_batch, _batch_id):
    jvm: Any = SparkContext._jvm  # noqa: SLF001
    jvm.java.io.FileReader("/not/there")


def not_there(batch, batch_id):
    """Raise, for one call into the JVM, as many frames of Java as a call of Spark has."""
    try:
        reads_what_is_not_there(batch, batch_id)
    except Exception as err:
        raise RuntimeError(str(err) * 20) from err


@pytest.mark.fast("not_there")
@pytest.mark.parametrize("write", [reads_what_is_not_there, not_there])
def test_an_error_of_java_is_one_line_also_during_a_stop(counts, write, until):
    gate = Gate()
    query = start(
        counts,
        sinks.foreach_batch(write).taking(gate.hold),
        name="cut",
        mode="complete",
    )
    if write == not_there:
        gate.stop_in_mid_batch(query, until)
    gate.open.set()
    said = (
        "query cut failed: FileNotFoundException: /not/there (No such file or"
        " directory)"
    )
    assert failure(run, query).startswith(said)


def descriptors(process):
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def in_use():
    """Return how many threads and descriptors this process and its JVM have."""
    gateway: Any = SparkContext._gateway  # noqa: SLF001
    java = gateway.jvm.java.lang
    names = [thread.getName() for thread in java.Thread.getAllStackTraces().keySet()]
    return {
        "threads": threading.active_count(),
        "descriptors": descriptors("self"),
        "descriptors of the JVM": descriptors(java.ProcessHandle.current().pid()),
        # Others are of Spark's own pools, each with a limit.
        "threads of the JVM": sum(
            name.startswith(("Thread-", "stream execution")) for name in names
        ),
    }


@pytest.mark.slow
def test_ended_queries_leave_no_thread_and_no_descriptor(
    spark, folder, tmp_path, until
):
    feeds.drip([("0.txt", "a\n")], folder)
    lines = sources.text(spark, str(folder))

    def start_and_end(number):
        checkpoint = tmp_path / f"{number}"
        query = start(
            lines,
            sinks.foreach_batch(plain),
            name=f"one{number}",
            checkpoint=checkpoint,
        )
        if number % 2:
            run(query, max_batches=1)
        else:
            query.processAllAvailable()
            query.stop()

    for number in range(4):  # what the first ones leave is there for all
        start_and_end(number)
    before = in_use()
    for number in range(4, 34):
        start_and_end(number)
    # The last one's may be open until the next one starts; without the mend each of
    # them is.
    until(lambda: all(now <= before[what] + 5 for what, now in in_use().items()), 20)


SCRIPT = """
import sys, threading
from sparkstream_kit import get_session, sinks, sources, start

spark = get_session("stops")
begun, stopped = threading.Event(), threading.Event()

def hold(batch):
    if not batch.isStreaming:
        begun.set()
        stopped.wait(60)
    return batch

lines = sources.rate(spark, rows_per_second=50).groupBy("value").count()
for sink in (sinks.latest("t"), sinks.foreach_batch(lambda batch, _: batch.collect())):
    begun.clear()
    stopped.clear()
    query = start(lines, sink.taking(hold), name="q", mode="complete")
    begun.wait(60)
    stopping = threading.Thread(target=query.stop)
    stopping.start()
    while query.isActive:
        pass
    stopped.set()
    stopping.join()
spark.stop()
"""


@pytest.mark.slow
def test_a_stop_in_mid_batch_prints_nothing():
    done = ran(SCRIPT)
    for word in ("StackOverflow", "Traceback", "\tat ", "Exception"):
        assert word not in done.stdout + done.stderr, done.stderr


class DataFrame:
    """Named as Spark's own."""


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (
            lambda _batch, _number: sys.exit(3),
            "the function of the batch ended with SystemExit: 3",
        ),
        (
            lambda _batch, _number: DataFrame(),
            "the function of the batch returned a DataFrame; end it with",
        ),
        (lambda _batch, _number: 5, ""),
    ],
)
def test_what_a_server_without_the_kit_checks_of_a_function(write, says):
    """On Spark Connect the function runs in a process that may lack the kit."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        pickled = cloudpickle.dumps(_without_result(write, RuntimeError))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    script = (
        "import sys, pickle; sys.modules['sparkstream_kit'] = None;"
        f" pickle.loads({pickled!r})(None, 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, says in done.stderr) == (
        1 if says else 0,
        True,
    ), done.stderr
