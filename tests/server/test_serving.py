"""`sparkstream serve`: a warm server, which asks for its token and forgets gone clients."""

import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyspark
import pytest
from conftest import command, environment, process, refusal, running
from pyspark.errors import PySparkException
from server.test_connect import attached
from support.zips import zipped_kit

import sparkstream_kit
from sparkstream_kit import checkpoints, cli
from sparkstream_kit import server as serving
from sparkstream_kit._internal.spark import connect as connect_only
from sparkstream_kit.errors import InvalidInputError, KitError

pytestmark = pytest.mark.xdist_group("connect")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sparkstream-kit"


def port_of(url):
    return int(url.rpartition(":")[2])


def of_somebody_else(url, folder):
    """Return the environment of another user, who was given the server's token."""
    token = (serving.folder_of(port_of(url)) / "token").read_text()
    return {"SPARK_CONNECT_AUTHENTICATE_TOKEN": token, "XDG_CACHE_HOME": str(folder)}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_one_line(cache, address, capsys):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        taken = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with taken as other:
        port = other.getsockname()[1]
        assert cli.main(["serve", "start", "--port", str(port)]) == 2
    said = f"sparkstream: port {port} is taken by another program; give another port\n"
    assert capsys.readouterr().err == said


def test_no_server_and_a_stale_one_are_told(cache, capsys):
    assert (serving.status(19019), serving.stop(19019)) == (None, None)
    assert not cache.exists()
    left = serving.folder_of(19)
    assert left.parent == cache
    left.mkdir(parents=True)
    # This very process, begun at another time: the pid was given again.
    server = serving.Server(19, "local", os.getpid(), "before")
    (left / "server.json").write_text(json.dumps(server.__dict__))
    (left / "token").write_text("old")
    assert cli.main(["serve", "status", "--port", "19"]) == 1
    assert cli.main(["serve", "stop", "--port", "19"]) == 0
    assert capsys.readouterr().err == "sparkstream: no server runs on port 19\n" * 2
    assert not (left / "token").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--profile", "lokal"], "unknown profile lokal; did you mean local?"),
        (["--port", "9"], "port must be from 1024 to 65535, not 9"),
        ([], "sparkstream serve needs Linux, where /proc shows"),
    ],
)
def test_wrong_arguments(cache, wrong, said, monkeypatch, capsys):
    if not wrong:
        monkeypatch.setattr(sys, "platform", "darwin")
    assert cli.main(["serve", "start", *wrong]) == 2
    assert said in capsys.readouterr().err
    assert not cache.exists()


def test_a_java_that_cannot_start_is_one_line_and_leaves_no_token(
    cache, free_port, tmp_path, monkeypatch, capsys
):
    java = tmp_path / "jdk/bin/java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'Error: no room for the heap' >&2; exit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert cli.main(["serve", "start", "--port", str(free_port)]) == 2
    log = serving.folder_of(free_port) / "server.log"
    said = "the server ended at its start: Error: no room for the heap"
    assert capsys.readouterr().err == f"sparkstream: {said}; see {log}\n"
    assert {path.name for path in log.parent.iterdir()} == {
        "lock",
        "server.conf",
        "server.log",
    }


@pytest.mark.slow
def test_a_server_that_ends_at_its_start_says_why(cache, tmp_path, free_port):
    (tmp_path / "odd.conf").write_text("spark.master nonsense\n")
    said = refusal(serving.serve, free_port, str(tmp_path / "odd.conf"))
    assert said.startswith(
        "the server ended at its start: SparkException: Master must either be "
    )
    assert said.endswith(f"; see {serving.folder_of(free_port)}/server.log")
    assert serving.folder_of(free_port).parent == cache
    assert serving.status(free_port) is None
    assert not (serving.folder_of(free_port) / "token").exists()


CUT_SHORT = (
    "import sys\nfrom sparkstream_kit import server\nserver.serve(int(sys.argv[1]))"
)


@pytest.mark.slow
def test_a_start_that_is_killed_leaves_no_server_that_nobody_can_end(
    cache, until, free_port
):
    starting = subprocess.Popen([sys.executable, "-c", CUT_SHORT, str(free_port)])
    log = serving.folder_of(free_port) / "server.log"
    # Java's first word, seconds before it answers
    until(lambda: log.exists() and log.stat().st_size > 0)
    starting.kill()
    starting.wait()
    left = serving.status(free_port)
    assert left is not None
    server = serving.serve(free_port, "test")
    assert server.pid != left.pid
    assert serving.stop(free_port) == server
    for each in (left, server):
        assert serving._started(each.pid) == ""  # noqa: SLF001 - gone, or dead and not yet buried


# The first thread ends and the other runs on, as in a Java that is being killed; so
# does a child.
ENDS_LAST = """
import ctypes, os, subprocess, sys, threading
{also}
threading.Thread(target=sys.stdin.read).start()
print(flush=True)
{ends}
"""


@pytest.mark.parametrize(
    ("also", "ends"),
    [
        ("", "ctypes.CDLL(None).syscall(60, 0)"),
        ("subprocess.Popen(['cat'])", "os._exit(0)"),
    ],
    ids=["a thread", "a child"],
)
@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the number of a system call"
)
def test_a_server_has_ended_when_nothing_of_it_runs(also, ends, until):
    ending = subprocess.Popen(
        [sys.executable, "-c", ENDS_LAST.format(also=also, ends=ends)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert ending.stdin is not None
    assert ending.stdout is not None
    with ending.stdin, ending.stdout:
        ending.stdout.readline()
        until(lambda: serving._started(ending.pid) == "")  # noqa: SLF001
        assert not serving._gone(ending.pid, 0.3)  # noqa: SLF001
        serving._end(serving.Server(1, "test", ending.pid, ""))  # noqa: SLF001
        assert serving._gone(ending.pid, 0.3)  # noqa: SLF001


@pytest.mark.slow
def test_nobody_else_can_be_localhost_on_the_server_s_port(connect):
    # By IPv6, which a client may try first: it would be given the token.
    try:
        other = socket.socket(socket.AF_INET6)
        other.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with (
        other,
        socket.socket(socket.AF_INET6) as another,
        pytest.raises(OSError, match="in use"),
    ):
        another.bind(("::1", port_of(connect)))


@pytest.mark.slow
def test_a_second_serve_says_that_one_runs(connect, capsys):
    port, profile = port_of(connect), serving.status(port_of(connect)).profile  # type: ignore[union-attr]
    for arguments in (
        ["start", "--port", str(port), "--profile", profile],
        ["status", "--port", str(port)],
    ):
        assert cli.main(["serve", *arguments]) == 0
        printed = capsys.readouterr()
        assert printed.out == f"export SPARK_REMOTE={connect}\n"
        assert f"port {port}, profile {profile}, process " in printed.err
    assert (
        cli.main(["serve", "start", "--port", str(port), "--profile", "cluster"]) == 2
    )
    assert (
        f"a server with profile {profile} runs on port {port}; end it first"
        in capsys.readouterr().err
    )


GOES_ON = """
import sys
from sparkstream_kit import run, sinks, sources, spark_session, start
from sparkstream_kit.errors import InvalidInputError
with spark_session("goes-on") as spark:
    sink = sinks.foreach_batch(lambda batch, _: batch.count())
    try:
        lines = sources.text(spark, sys.argv[1])
        start(lines, sink, name="q", checkpoint="ckpt", availableNow=True)
    except InvalidInputError as err:
        print(err)
"""


@pytest.mark.slow
def test_the_token_is_the_user_s_alone(connect):
    server = serving.status(port_of(connect))
    assert server is not None
    file = serving.folder_of(server.port) / "token"
    assert (
        stat.S_IMODE(server.log.stat().st_mode)
        == stat.S_IMODE(file.stat().st_mode)
        == 0o600
    )
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.read_bytes() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


BARE = """
import sys
from pyspark.sql import SparkSession
print(SparkSession.builder.remote(sys.argv[1]).getOrCreate().range(3).count())
"""


@pytest.mark.slow
def test_a_client_without_the_token_is_refused(connect, tmp_path):
    plain = attached(connect, tmp_path, BARE, connect)
    assert plain.returncode != 0
    assert "No authentication token provided" in plain.stderr
    # The kit of somebody else, who cannot read our file.
    script = "from sparkstream_kit import get_session\nget_session('x')"
    other = attached(connect, tmp_path, script, XDG_CACHE_HOME=str(tmp_path))
    assert (
        "takes only clients with its token; set SPARK_CONNECT_AUTHENTICATE_TOKEN"
        in other.stderr
    )
    token = (serving.folder_of(port_of(connect)) / "token").read_text()
    let_in = attached(
        connect, tmp_path, BARE, connect, SPARK_CONNECT_AUTHENTICATE_TOKEN=token
    )
    assert let_in.stdout == "3\n", let_in.stderr


ELSEWHERE = """
from sparkstream_kit import sinks, sources, spark_session, start
from sparkstream_kit.errors import InvalidInputError
with spark_session("elsewhere") as spark:
    for sink, mode in (
        (sinks.batch_files("out"), "append"),
        (sinks.snapshot("out.csv"), "complete"),
    ):
        frame = sources.rate(spark)
        if mode == "complete":
            frame = frame.groupBy("value").count()
        try:
            start(frame, sink, name="q", mode=mode, checkpoint="ckpt")
        except InvalidInputError as err:
            print(err)
"""


@pytest.mark.slow
def test_local_files_are_not_written_on_a_server_that_is_not_ours(connect, tmp_path):
    done = attached(connect, tmp_path, ELSEWHERE, **of_somebody_else(connect, tmp_path))
    assert done.stdout.splitlines() == [
        f"{what} would be on the Spark Connect server; use {instead}, or a server on"
        " this machine (sparkstream serve start)"
        for what, instead in (
            ("batch_files out", "sinks.files"),
            ("snapshot out.csv", "sinks.latest"),
        )
    ], done.stderr


SENT = """
from pyspark.sql import functions as F
import sparkstream_kit
from sparkstream_kit import spark_session

def where(_):
    from sparkstream_kit import sinks
    return sinks.__file__

with spark_session("sent") as spark:
    print(sparkstream_kit.__file__)
    print(spark.conf.get("spark.sql.shuffle.partitions"))
    print(spark.range(1).select(F.udf(where)("id")).collect()[0][0])
"""


@pytest.mark.slow
def test_a_server_elsewhere_is_sent_the_kit_out_of_its_zip_too(connect, tmp_path):
    given = of_somebody_else(connect, tmp_path)
    done = attached(
        connect, tmp_path, SENT, PYTHONPATH=str(zipped_kit(tmp_path)), **given
    )
    ours, partitions, theirs = done.stdout.splitlines()
    assert ours.startswith(f"{tmp_path}/kit.zip/"), done.stderr
    # It knows nothing of the server: the profile is by the master
    assert partitions == "2"
    assert re.search(
        r"/sparkstream_kit-\w{16}\.zip/sparkstream_kit/sinks/__init__\.py$", theirs
    )


def test_the_kit_of_a_server_is_this_one(tmp_path):
    package = Path(sparkstream_kit.__file__).parent
    sent = serving._own_sources()  # noqa: SLF001
    assert (
        sent["sparkstream_kit/sinks/__init__.py"]
        == (package / "sinks/__init__.py").read_bytes()
    )
    assert {name.partition("/")[0] for name in sent} == {"sparkstream_kit"}
    [first, *_] = serving._environment("token", tmp_path)["PYTHONPATH"].split(":")  # noqa: SLF001
    assert Path(first, "sparkstream_kit") == package


EDITED = """
import sys
from pyspark.sql import functions as F
from sparkstream_kit import run, sinks, sources, spark_session, start
import edited

def show(batch, batch_id):
    print(batch_id, edited.word(0), batch.count())

with spark_session("edited") as spark:
    print(spark.range(1).select(F.udf(edited.word)("id")).collect()[0][0])
    frame = sources.text(spark, sys.argv[1])
    run(start(frame, sinks.foreach_batch(show), name="edited", availableNow=True))
"""


@pytest.mark.slow
def test_after_an_edit_the_next_run_uses_the_edited_code(connect, tmp_path, folder):
    # The server was started in this folder, and its Pythons import what is there.
    module = Path(f"/proc/{serving.status(port_of(connect)).pid}/cwd", "edited.py")  # type: ignore[union-attr]
    (folder / "1.txt").write_text("a\n")
    try:
        # Of other lengths: Python looks at a file's size and its second
        for word in ("one", "three"):
            module.write_text(f"def word(_):\n    return {word!r}\n")
            (tmp_path / "edited.py").write_text(module.read_text())
            done = attached(connect, tmp_path, EDITED, folder)
            assert done.stdout == f"{word}\n0 {word} 1\n", done.stderr
    finally:
        module.unlink()


ENDLESS = """
import multiprocessing, signal, sys
from sparkstream_kit import get_session, run, sinks, sources, start
spark = get_session("killed")
# A forked child, which outlives the client: it must not keep the client's lock.
child = multiprocessing.get_context("fork").Process(target=signal.pause, daemon=True)
child.start()
print(child.pid, flush=True)
ticks = sources.rate(spark, rows_per_second=5)
query = start(ticks, sinks.files(sys.argv[1]), name="endless", checkpoint=sys.argv[2])
run(query, on_batch=lambda _: print("runs", flush=True))
"""


@pytest.mark.slow
def test_what_a_killed_client_has_left_ends_when_the_next_one_comes(
    connect, tmp_path, until, request
):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    words = [sys.executable, script, tmp_path / "out", tmp_path / "ckpt"]
    # It is killed at the end of the block.
    with running(
        *words, env=environment(SPARK_REMOTE=connect), stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        child = int(client.stdout.readline())
        request.addfinalizer(lambda: os.kill(child, signal.SIGKILL))
        assert client.stdout.readline() == "runs\n"
    commits = tmp_path / "ckpt" / "commits"

    def count():
        return len(list(commits.glob("[0-9]*")))

    before = count()
    until(lambda: count() > before)  # it runs on, which is Spark's way
    # Until then its checkpoint is refused to others: they would write to it at the same
    # time.
    left = "in use by query endless, which runs on in the Spark Connect server"
    done = process(words, env=environment())
    assert left in done.stderr
    with pytest.raises(InvalidInputError, match=left):
        checkpoints.rewind(tmp_path / "ckpt", to=0, apply=True)
    assert checkpoints.show(tmp_path / "ckpt").in_use
    done = attached(
        connect,
        tmp_path,
        "from sparkstream_kit import get_session\nget_session('next').stop()",
    )
    assert done.returncode == 0, done.stderr
    after = count()
    # Another query's batches take the time in which this one would have had some.
    assert attached(connect, tmp_path, COUNTS, 4).stdout == "max_batches are through\n"
    assert count() <= after + 1
    assert not list((serving.folder_of(port_of(connect)) / "clients").iterdir())
    assert not checkpoints.show(tmp_path / "ckpt").in_use


LEAVES = """
def test_leaves(spark):
    assert not spark.catalog.tableExists("kept")
    assert not spark.streams.active
    spark.range(3).write.saveAsTable("kept")
    spark.range(3).createTempView("seen")
    spark.readStream.format("rate").load().writeStream.format("noop").start()
    assert not "as planned"
"""


@pytest.mark.slow
def test_a_failed_test_run_leaves_nothing_for_the_next(connect, tmp_path, until):
    home = serving.folder_of(port_of(connect))
    (tmp_path / "test_leaves.py").write_text(LEAVES)
    for _again in range(2):
        done = process(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "test_leaves.py",
            ],
            cwd=tmp_path,
            env=environment(SPARK_REMOTE=connect),
        )
        assert "as planned" in done.stdout, done.stdout
        assert "1 failed" in done.stdout
        # The query's checkpoint
        until(lambda: not list((home / "tmp").glob("temporary-*")))
        assert not list((home / "warehouse").glob("pytest_*"))


@pytest.mark.slow
def test_a_dstream_job_says_that_it_needs_a_session_of_its_own(connect):
    job = command(sys.executable, "dstream_wordcount", "localhost", 9)
    done = process(job, env=environment(SPARK_REMOTE=connect))
    assert done.returncode == 2
    assert (
        done.stderr
        == "dstream_wordcount.py: DStreams need a Spark session of this process, and"
        " this one is on Spark Connect; unset SPARK_REMOTE\n"
    )


@pytest.mark.slow
def test_a_checkpoint_that_another_driver_has_is_refused(connect, tmp_path, folder):
    file = tmp_path / "ckpt" / "sparkstream-kit" / "lock"
    file.parent.mkdir(parents=True)
    with file.open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)  # as the JVM of another driver does it
        done = attached(connect, tmp_path, GOES_ON, folder)
    assert done.stdout.startswith(f"checkpoint {tmp_path}/ckpt is in use by "), (
        done.stderr
    )


class Slow:
    """A writer whose query starts at the third try: until then the server's Python is too slow."""

    tries = 0

    def start(self):
        self.tries += 1
        if self.tries < 3:
            raise PySparkException("Python worker failed to connect back.")
        return "a query"


def test_a_python_that_is_slow_to_start_is_started_again(monkeypatch, caplog):
    writer: Any = Slow()
    pauses: list[int] = []
    clock = SimpleNamespace(sleep=pauses.append)
    monkeypatch.setattr(connect_only, "time", clock)
    query: Any = connect_only.begin(writer)
    assert query == "a query"
    # Those that came too late have time to end
    assert pauses == [0, 1, 4]
    said = (
        "the server's Python did not start within ten seconds; trying for two minutes"
    )
    assert caplog.messages == [said] * 2
    monkeypatch.setattr(connect_only, "_PAUSES", (0,))
    writer.tries = 0
    with pytest.raises(
        KitError,
        match="the server's Python does not start; look into the server's log, or",
    ):
        connect_only.begin(writer)


@pytest.mark.slow
def test_a_run_whose_server_ends_says_so_in_one_line(cache, tmp_path, free_port):
    server = serving.serve(free_port, "test")
    try:
        how = {"cwd": tmp_path, "env": environment(SPARK_REMOTE=server.url)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with running(sys.executable, "-c", RUNS_ON, **how, **pipes) as job:
            assert job.stdout is not None
            assert job.stdout.readline() == "a batch\n"
            serving.stop(free_port)
            # PySpark alone would take more than ten minutes
            _, errors = job.communicate(timeout=200)
    finally:
        serving.stop(free_port)
    lines = [
        line
        for line in errors.splitlines()
        if "did not start within ten seconds" not in line
    ]
    assert lines == [
        (
            "-c: the Spark Connect server ended before the job did, or can no longer be"
            " reached"
        )
    ]
    assert job.returncode == 1


RUNS_ON = """
import sys
from sparkstream_kit import jobflags, run, sinks, sources, spark_session, start

@jobflags.exit_codes
def main(argv=None):
    with spark_session("endless") as spark:
        sink = sinks.foreach_batch(lambda batch, batch_id: None)
        query = start(sources.rate(spark), sink, name="rows")
        run(query, on_batch=lambda progress: print("a batch", flush=True))
    return 0

sys.exit(main())
"""

COUNTS = """
import sys
from sparkstream_kit import run, sinks, sources, spark_session, start
with spark_session("slow") as spark:
    sink = sinks.foreach_batch(lambda batch, batch_id: None)
    query = start(sources.rate(spark, rows_per_second=5), sink, name="rows")
    print(run(query, max_batches=int(sys.argv[1])).ended_by)
"""


BY_SPARK = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.remote("local[2]").getOrCreate()
print(spark.range(3).count())
"""


OURS = """
from sparkstream_kit import get_session
print(get_session("ours").range(3).count())
"""


@pytest.mark.skipif(
    pyspark.__version__ < "4.3",
    reason="Spark has a server of its own that is used again from 4.3 on",
)
def test_a_server_stands_beside_spark_s_own(connect, tmp_path):
    own = {
        "SPARK_LOCAL_CONNECT_REUSE": "1",
        "SPARK_LOCAL_CONNECT_DISCOVERY": str(tmp_path / "found.json"),
    }
    try:
        first, ours, second = (
            process([sys.executable, "-c", BY_SPARK], env=environment(**own)),
            attached(connect, tmp_path, OURS),
            process([sys.executable, "-c", BY_SPARK], env=environment(**own)),
        )
        assert (tmp_path / "found.json").exists(), "Spark's own server was not started"
    finally:
        stop = [sys.executable, "-m", "pyspark.sql.connect.local_server", "--stop"]
        process(stop, env=environment(**own), check=True)
    assert [each.stdout for each in (first, ours, second)] == ["3\n"] * 3, (
        first.stderr + second.stderr
    )
    assert serving.status(port_of(connect)) is not None


def test_a_spark_home_without_spark_is_one_line_and_leaves_no_token(
    cache, free_port, monkeypatch, capsys
):
    monkeypatch.setenv("SPARK_HOME", "/nowhere")
    assert cli.main(["serve", "start", "--port", str(free_port)]) == 2
    said = (
        "sparkstream: Spark cannot be started: no folder /nowhere/jars; correct or"
        " unset SPARK_HOME\n"
    )
    assert capsys.readouterr().err == said
    assert [path.name for path in serving.folder_of(free_port).iterdir()] == ["lock"]


OF_A_CLUSTER = """
from sparkstream_kit import spark_session
from sparkstream_kit._internal.spark import logical_plan
with spark_session("of a cluster") as spark:
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    print(partitions, logical_plan.is_being_read(spark, [("nobody", 1)]))
"""


@contextmanager
def served(port, profile, setting):
    """Start a server with a profile of one line."""
    profile.write_text(f"{setting}\n")
    try:
        yield serving.serve(port, str(profile))
    finally:
        serving.stop(port)


@pytest.mark.slow
def test_local_cluster_is_a_cluster_by_connect_too(cache, tmp_path, free_port):
    with served(
        free_port, tmp_path / "own.conf", "spark.master local-cluster[1,1,1024]"
    ) as server:
        # Whose kit knows nothing of the server: the profile is by the master.
        given = of_somebody_else(server.url, tmp_path)
        done = attached(server.url, tmp_path, OF_A_CLUSTER, **given)
        assert done.stdout == "200 True\n", done.stderr
