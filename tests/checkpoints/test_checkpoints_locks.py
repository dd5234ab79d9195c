"""One driver a checkpoint: the lock, the JVM's or on Connect Python's, goes with the query."""

import errno
import fcntl
import re
import subprocess
import sys
from typing import Any

import pytest
from conftest import environment, refusal
from pyspark.errors.exceptions.connect import SparkConnectGrpcException

from sparkstream_kit import sinks, sources, start
from sparkstream_kit._internal.spark.place import locate
from sparkstream_kit._internal.spark.queries import is_active
from sparkstream_kit.checkpoints.lock import lock
from sparkstream_kit.errors import InvalidInputError

StatusCode = pytest.importorskip("grpc").StatusCode
pytestmark = pytest.mark.connect


def begin(spark, checkpoint, name="one"):
    return start(
        sources.rate(spark, rows_per_second=5),
        sinks.console(),
        name=name,
        checkpoint=checkpoint,
    )


def is_free(checkpoint):
    """Say whether somebody else could lock the checkpoint."""
    with (checkpoint / "sparkstream-kit" / "lock").open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_two_queries_of_one_session_cannot_share_a_checkpoint(spark, tmp_path):
    query = begin(spark, tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for same in (tmp_path, tmp_path / "link"):
        assert "is in use by query one of this process; end it first" in refusal(
            begin, spark, same, "two"
        )
    assert not is_free(tmp_path), "a refusal must not unlock it"
    assert query.isActive
    query.stop()


def test_a_stopped_query_starts_again_at_once(spark, tmp_path, until):
    for _again in range(3):
        query = begin(spark, tmp_path)
        assert not is_free(tmp_path), (query.isActive, query.exception())
        query.stop()
    until(lambda: is_free(tmp_path))


class Unsure:
    """A query of Spark Connect whose status cannot be had."""

    def __init__(self, error):
        self.error = error

    @property
    def isActive(self):
        raise self.error


@pytest.mark.parametrize(
    ("error", "runs"),
    [
        (
            SparkConnectGrpcException(
                "(deadline) too slow", grpc_status_code=StatusCode.DEADLINE_EXCEEDED
            ),
            True,
        ),
        (
            SparkConnectGrpcException(
                "no connection", grpc_status_code=StatusCode.UNAVAILABLE
            ),
            False,
        ),
        (
            SparkConnectGrpcException(
                "[CONNECT_INVALID_PLAN.STREAMING_QUERY_NOT_FOUND] q is not found"
            ),
            False,
        ),
        (ValueError("Cannot invoke RPC on closed channel!"), False),
    ],
)
def test_a_query_of_connect_counts_as_running_while_that_is_not_known(error, runs):
    query: Any = Unsure(error)
    assert is_active(query) is runs, "else its lock would be released"


@pytest.mark.slow
def test_a_wait_that_fails_does_not_unlock_a_query_that_runs(
    spark, tmp_path, monkeypatch, until
):
    failures = []

    def fail(query):
        failures.append(query.name)
        raise ConnectionError("the server does not answer")

    query = begin(spark, tmp_path / "any")
    monkeypatch.setattr(type(query), "awaitTermination", fail)
    other = begin(spark, tmp_path / "ckpt", "other")
    until(lambda: len(failures) > 1)
    assert not is_free(tmp_path / "ckpt")
    other.stop()
    query.stop()
    until(lambda: is_free(tmp_path / "ckpt"))


def test_a_restart_does_not_wait_for_the_thread_that_unlocks(
    spark, tmp_path, monkeypatch
):
    # As if it were very late
    monkeypatch.setattr("sparkstream_kit._internal.threads.in_thread", lambda *_: None)
    runs = [begin(spark, tmp_path)]
    runs[0].stop()
    runs.append(begin(spark, tmp_path))
    runs[1].stop()
    assert runs[0].id == runs[1].id
    assert runs[0].runId != runs[1].runId


def test_a_failed_query_frees_the_checkpoint(spark, tmp_path, until):
    def fail(batch, batch_id):
        raise ValueError("no such shop")

    start(
        sources.rate(spark), sinks.foreach_batch(fail), name="bad", checkpoint=tmp_path
    )
    until(lambda: is_free(tmp_path))


def test_a_start_that_spark_refuses_frees_the_checkpoint(spark, tmp_path):
    with pytest.raises(
        InvalidInputError, match="query a: mode complete writes the whole result"
    ):
        start(
            sources.rate(spark), sinks.memory("a"), mode="complete", checkpoint=tmp_path
        )
    assert is_free(tmp_path)


@pytest.mark.classic_only("Spark Connect has no JVM in reach")
def test_a_lock_of_another_python_in_this_jvm_is_not_lost_by_looking(spark, tmp_path):
    # As in a cluster's notebooks, which share a JVM: POSIX drops a lock when any
    # descriptor is closed.
    (tmp_path / "sparkstream-kit").mkdir()
    jvm: Any = spark._jvm  # noqa: SLF001 - what that other Python would do
    file = jvm.java.io.RandomAccessFile(
        str(tmp_path / "sparkstream-kit" / "lock"), "rw"
    )
    held = file.getChannel().tryLock()
    assert "is in use by another process; end its" in refusal(
        lock, spark, locate(spark, tmp_path), "two"
    )
    assert not is_free(tmp_path)
    assert held.isValid()
    file.close()


def test_what_cannot_be_locked_is_refused(spark, tmp_path, monkeypatch):
    file, place = tmp_path / "sparkstream-kit" / "lock", locate(spark, tmp_path)
    file.mkdir(parents=True)
    said = refusal(lock, spark, place, "one")
    # Java's words have the path, too
    assert re.search(r"cannot be locked: .*Is a directory\)?; delete the folder", said)
    assert said.endswith(f"; delete the folder {file}")
    file.rmdir()
    file.touch()

    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", without)
    assert "cannot be locked: No locks available; make room, " in refusal(
        lock, spark, place, "one"
    )


@pytest.mark.classic_only("Spark Connect has no JVM in reach")
def test_which_paths_are_local(spark, tmp_path, hadoop):
    for written in (
        f"{tmp_path}/a b",
        f"file:{tmp_path}/a b",
        f"file://{tmp_path}/a b",
    ):
        assert locate(spark, written).folder == tmp_path / "a b"
    assert str(locate(spark, "a/b").folder).endswith("/a/b")
    for remote in ("hdfs://host/a", "s3a://bucket/a", "dbfs:/a"):
        assert locate(spark, remote).folder is None
        assert lock(spark, locate(spark, remote), "one") is None
    hadoop.set("fs.defaultFS", "hdfs://host:8020")
    assert locate(spark, "/a").folder is None


LOOKS = """
import sys
from pathlib import Path
from sparkstream_kit.checkpoints import show
root = Path(sys.argv[1])
while not (root / "enough").exists():
    for _ in range(20):
        show(root)
    (root / "looks").touch()
"""


@pytest.mark.slow
def test_a_look_at_the_moment_of_a_start_does_not_make_it_fail(spark, tmp_path, until):
    (tmp_path / "metadata").write_text('{"id":"1"}')
    place = locate(spark, tmp_path)
    looking = subprocess.Popen(
        [sys.executable, "-c", LOOKS, str(tmp_path)], env=environment()
    )
    try:
        until((tmp_path / "looks").exists)
        for _ in range(300):
            held = lock(spark, place, "one")
            assert held is not None
            held.release()
    finally:
        (tmp_path / "enough").touch()
        assert looking.wait(60) == 0
