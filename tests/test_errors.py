"""The kit's exceptions: their exit codes, their hints and their texts."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparkstream_kit import errors
from sparkstream_kit.checkpoints.logs import DamagedError
from sparkstream_kit.errors import (
    DryRun,
    InputUnavailable,
    InvalidInputError,
    KitError,
    QueryFailed,
)
from sparkstream_kit.progress import RunSummary


@pytest.mark.parametrize(
    ("error", "code", "also"),
    [
        (KitError("x"), 1, Exception),
        (QueryFailed("totals", "no such shop"), 1, KitError),
        (InvalidInputError("x"), 2, ValueError),
        (errors.MissingExtraError("Avro", "avro"), 2, ImportError),
        (errors.TransientError("x"), 75, InvalidInputError),
        (InputUnavailable("words", "connection refused"), 75, QueryFailed),
    ],
)
def test_each_error_has_its_exit_code_and_is_what_python_calls_it(error, code, also):
    assert error.exit_code == code
    assert isinstance(error, also)


ERRORS = [
    *(
        kind("x")
        for kind in (KitError, InvalidInputError, errors.TransientError, DryRun)
    ),
    errors.MissingExtraError("Avro", "avro"),
    *(
        kind("totals", "no such shop", summary=RunSummary("failure", 1.0, ()))
        for kind in (QueryFailed, InputUnavailable, errors.CheckpointDamaged)
    ),
    DamagedError(Path("ckpt/offsets/3"), "is empty", "remove it"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_whole_out_of_another_process(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - as a ProcessPoolExecutor does
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_each_error_is_sent_to_another_process():
    classes = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, KitError)
    }
    assert classes <= {type(error) for error in ERRORS}


def test_a_circle_of_causes_has_an_end():
    first, second, of_java = (
        ValueError("one"),
        ValueError("two"),
        ValueError("of PySpark"),
    )
    vars(first)["_cause"], vars(second)["_cause"] = second, first  # PySpark's own name
    assert errors.innermost_cause(first) in {"ValueError: one", "ValueError: two"}
    java = SimpleNamespace(
        getMessage=lambda: "no room", getSimpleName=lambda: "IOException"
    )
    java.getClass = java.getCause = lambda: java
    vars(of_java)["_origin"] = java
    assert errors.innermost_cause(of_java) == "IOException: no room"


WORKER = """Lost task 0.0 in stage 3.0 (TID 3): org.apache.spark.api.python.PythonException: \
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/pyspark/worker.py", line 9, in main
    process()
  File "/jobs/shop.py", line 12, in inv
    return helper(x)
  File "/jobs/shop.py", line 4, in helper
    return 1 // x
ZeroDivisionError: integer division or modulo by zero

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.read(PythonRunner.scala:581)"""
PROXY = """An exception was raised by the Python Proxy. Return Message: \
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/py4j/clientserver.py", line 642, in _call_proxy
    return_value = getattr(self.pool[obj_id], method)(*params)
  File "/home/me/sparkstream_kit/_internal/spark/batch.py", line 140, in call
    left = write(batch, batch_id)
  File "/jobs/shop.py", line 4, in write
    return 1 // x
ZeroDivisionError: integer division or modulo by zero
"""
SPILL = """Task 0 in stage 3.0 failed: java.io.IOException: No space left on device
\tat java.base/sun.nio.ch.FileDispatcherImpl.write0(Native Method)
\tat org.apache.spark.storage.DiskBlockObjectWriter.commitAndGet(DiskBlockObjectWriter.scala:171)"""
BOTH = (
    'Traceback (most recent call last):\n  File "/jobs/shop.py", line 9, in <lambda>\n'
    f"    rows.collect()\npy4j.protocol.Py4JJavaError: o1.collect\n: {WORKER}"
)
TEMPORARY = "Spark's temporary folder (spark.local.dir, SPARK_LOCAL_DIRS or TMPDIR)"
ZERO = "ZeroDivisionError: integer division or modulo by zero (in"
MEMORY = (
    "OutOfMemoryError: Java heap space; give Spark's JVM more memory (spark-submit"
    " --driver-memory 4g, or conf={'spark.driver.memory': '4g'} in a new process), or"
    " less at once: one very long line, and a file that is unpacked as a whole,"
    " must fit"
)
NUMBER = "1d8b396c-99c7-4065-a14b-9c2fe7650348"
EMPTIED = (
    "Spark's temporary folder in /t was emptied while Spark ran, as by a program that"
    " cleans up /tmp; start a new process, and give Spark a folder that is left alone"
    " (SPARK_LOCAL_DIRS or spark.local.dir): a query goes on from its checkpoint"
)
NO_ROWS = (
    "; if its rows are CSV or JSON, read it with sources.csv or sources.json; else write"
    " it again, or move it out of the input"
)
IN_PART = "STATE_STORE_COMMIT_VALIDATION_FAILED"
NO_ROOM = "IOException: No space left on device; make room"
CAUSES = {
    WORKER: f"{ZERO} helper, called by inv, /jobs/shop.py line 4)",
    WORKER.replace("in helper", "in inv"): f"{ZERO} inv, /jobs/shop.py line 4)",
    PROXY: f"{ZERO} write, /jobs/shop.py line 4)",
    BOTH: f"{ZERO} helper, called by inv, /jobs/shop.py line 4)",
    WORKER.replace(
        "by zero", "by\n  zero"
    ): f"{ZERO} helper, called by inv, /jobs/shop.py line 4)",
    SPILL: f"{NO_ROOM} in {TEMPORARY}, or set it to a larger disk",
    "org.apache.hadoop.fs.FSError: java.io.IOException: No space left on device\n\tat x.Y.z": (
        f"{NO_ROOM} on the disk of the checkpoint, of the target or of {TEMPORARY}"
    ),
    "java.lang.OutOfMemoryError: Java heap space": MEMORY,
    f"java.nio.file.NoSuchFileException: /t/blockmgr-{NUMBER}/0c": EMPTIED,
    f"FileNotFoundError: [Errno 2] No such file: '/t/spark-{NUMBER}/pyspark-1/b'": EMPTIED,
    f"java.io.IOException: No space left on device (/t/spark-{NUMBER}/b)": (
        f"in {TEMPORARY}, or set it to a larger disk"
    ),
    "java.lang.RuntimeException: file:/in/a.csv is not a Parquet file (length 4)": NO_ROWS,
    "org.apache.orc.FileFormatException: Malformed ORC file file:/in/a.csv. x": NO_ROWS,
    f"x.StateStoreCommitValidationFailed: [{IN_PART}] State store …": (
        f"[{IN_PART}] the function of the batch has read only a part of it (show, limit,"
        " an early return); let it write, count or collect the whole batch"
    ),
    'x.Y: bad\n== DataFrame ==\n"cast" was called from\njdk.internal.A.b(C)\n': "Y: bad",
}


@pytest.mark.parametrize("text", CAUSES)
def test_a_raw_error_is_one_line_with_the_place_or_the_fix(text):
    line = errors.innermost_cause(SparkError(text))
    assert "\n" not in line
    assert line.endswith(CAUSES[text])


class SparkError(Exception):
    """As PySpark has it, of which the text is Java's."""
