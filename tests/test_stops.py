"""A signal is a clean stop, whoever gets it: Python, the JVM of spark-submit, or both."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANGS, ROOT, command, environment, process
from faults.drivers import living

from sparkstream_kit import feeds

Signal = signal.Signals


def begun(command, **how):
    """Start a command whose output is read, in a group of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, start_new_session=True, stdout=pipe, stderr=pipe, text=True, **how
    )


def ended_cleanly(started):
    """Wait for the end, and return what it has printed and what it has said."""
    output, errors = started.communicate(timeout=HANGS)
    assert started.returncode == 0, errors
    assert not any(sign in errors for sign in ("Traceback", "\tat "))
    return output, errors


# `tests/faults/test_signals.py` sends each signal to a run, to each process, under both
# launchers.


# Under spark-submit the JVM answers a signal in this time by itself: with 130 or 143.
@pytest.mark.parametrize(
    ("number", "reached"),
    [
        (Signal.SIGINT, "sparkstream_kit._internal.spark.launch"),
        pytest.param(Signal.SIGTERM, "pyspark.sql.session", marks=pytest.mark.slow),
    ],
)
def test_a_signal_before_the_run_ends_the_job_at_once(
    number, reached, folder, tmp_path, until
):
    # The job says when it has got there, by a profile hook of Python's own.
    script, function = tmp_path / "job.py", WATCHED_FUNCTIONS[reached]
    script.write_text(
        WATCHED.format(jobs=str(ROOT / "jobs"), module=reached, function=function)
    )
    started = begun([sys.executable, str(script), str(folder)], env=environment())
    assert started.stdout.readline() == "reached\n"
    os.killpg(started.pid, number)
    output, errors = started.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if "incubator" not in line]
    assert lines == [f"job.py: stopped by {number.name} before it began to run"]
    assert (started.returncode, output) == (0, "")
    until(lambda: not living(started.pid))


STARTING = """
import os, signal, sys, time
from pyspark import SparkContext
from sparkstream_kit.jobflags import exit_codes

@exit_codes
def main(argv=None):
    SparkContext._ensure_initialized()  # as at the start of a session, before the JVM has one
    signal.raise_signal(signal.SIGINT)

jvm = os.getppid()
code = main()
end = time.monotonic() + 30
while os.getppid() == jvm and time.monotonic() < end:
    time.sleep(0.05)
open(sys.argv[1], "w").write("it waits" if os.getppid() == jvm else "it has ended")
sys.exit(code)
"""


@pytest.mark.slow
def test_the_jvm_of_spark_submit_ends_a_start_of_a_session_by_itself(tmp_path, until):
    # If it waited for Python, it would interrupt what it is doing, and could end with
    # an exit code for that.
    (tmp_path / "job.py").write_text(STARTING)
    said = tmp_path / "said"
    done = process(["spark-submit", tmp_path / "job.py", said], env=environment())
    assert done.returncode == 0, done.stderr
    until(lambda: said.exists() and said.read_text())
    assert said.read_text() == "it has ended"


TWICE = """
import os, signal, sys
from sparkstream_kit import get_session, run, sinks, sources, start
from sparkstream_kit._internal import threads
from sparkstream_kit.jobflags import exit_codes

@exit_codes
def main(argv):
    spark = get_session("twice")
    rows = sources.rate(spark, rows_per_second=1)
    run(start(rows, sinks.memory("first")), max_batches=1)
    ending = spark._jvm.org.apache.hadoop.util.ShutdownHookManager.get()
    os.kill(os.getppid(), signal.SIGTERM)
    threads.until(ending.isShutdownInProgress, 30)
    print(run(start(rows, sinks.memory("second")), run_for=60).ended_by)
    return 0

sys.exit(main([]))
"""


@pytest.mark.slow
def test_a_run_that_begins_while_the_jvm_ends_is_stopped_as_the_one_before(tmp_path):
    (tmp_path / "job.py").write_text(TWICE)
    done = process(["spark-submit", tmp_path / "job.py"], env=environment())
    assert done.stdout == "a signal to the JVM\n"
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


WATCHED_FUNCTIONS = {
    "sparkstream_kit._internal.spark.launch": "_launch",
    "pyspark.sql.session": "__init__",
}
WATCHED = """
import sys, threading
sys.path.insert(0, {jobs!r})
def watch(frame, event, _):
    where = frame.f_globals.get("__name__"), frame.f_code.co_name
    if event == "call" and where == ({module!r}, {function!r}):
        sys.setprofile(None)
        print("reached", flush=True)
import sales_totals
sys.setprofile(watch)
sys.exit(sales_totals.main([sys.argv[1], "--run-for", "60"]))  # should it never get there
"""


RESET = """
import os, signal, sys, threading
from py4j.protocol import Py4JError
from sparkstream_kit import get_session
from sparkstream_kit._internal.stopping import shutdown, waiting
from sparkstream_kit.jobflags import exit_codes

class Unread:
    def __init__(self, socket):
        self._socket = socket
    def __getattr__(self, name):
        return getattr(self._socket, name)
    def sendall(self, data):
        self._socket.sendall(data + b"x" * 100_000 * (b"halt" in data))

over = threading.Event()

class Late:  # it learns of the JVM's end when the job has ended
    def __init__(self, stream):
        self._stream = stream
    def readline(self):
        if line := self._stream.readline():
            return line
        over.wait()
        raise ConnectionResetError("Connection reset by peer")

def ask(gateway):  # as py4j's own thread, which tells the JVM of objects that are no longer held
    gateway.jvm.System.nanoTime()
    connection = gateway._gateway_client.get_thread_connection()
    connection.stream = Late(connection.stream)
    try:
        gateway.jvm.Thread.sleep(60_000)
    except Py4JError:
        print("it has gone")

@exit_codes
def main(argv):
    global late
    gateway = get_session("reset").sparkContext._gateway
    late = threading.Thread(target=ask, args=[gateway])
    late.start()
    inbox = waiting.Inbox(run_for=None, stop_file=None)
    with shutdown.jvm_waits_for(inbox, 30):
        os.kill(gateway.proc.pid, signal.SIGTERM)
        print(inbox.get(30))
    connection = gateway._gateway_client.get_thread_connection()
    connection.socket = Unread(connection.socket)
    return 0

code = main([])
over.set()
late.join()
sys.exit(code)
"""


@pytest.mark.slow
def test_a_jvm_that_goes_is_no_error_to_show():
    # What it has not read makes the system reset the connection; without that, its end
    # is an empty answer.
    ended = process([sys.executable, "-c", RESET])
    assert ended.stdout == "('stop', 'a signal to the JVM')\nit has gone\n"
    assert [line for line in ended.stderr.splitlines() if "incubator" not in line] == []
    assert ended.returncode == 0


LOST = """
import socket, sys, threading
from py4j.java_gateway import CallbackServerParameters, GatewayParameters, JavaGateway
from sparkstream_kit.jobflags import exit_codes

server = socket.create_server(("127.0.0.1", 0))

def die():  # as a JVM that is killed while it is asked
    while True:
        connection, _ = server.accept()
        connection.recv(1000)
        connection.close()

threading.Thread(target=die, daemon=True).start()

@exit_codes
def main(argv=None):
    asked = GatewayParameters(port=server.getsockname()[1])
    called = CallbackServerParameters(port=0, daemonize=True, daemonize_connections=True)
    gateway = JavaGateway(gateway_parameters=asked, callback_server_parameters=called)
    try:
        gateway.jvm.java.lang.System.nanoTime()
    except Exception as err:
        print(type(err).__name__)
    port = gateway.get_callback_server().get_listening_port()
    # Its last call, of what is known no more.
    with socket.create_connection(("127.0.0.1", port)) as jvm:
        jvm.sendall(b"c\\nt\\nrun\\ne\\n")
        print(jvm.makefile().readline()[:2])
    return 0

sys.exit(main())
"""


def test_what_py4j_logs_of_a_jvm_that_was_killed_is_not_shown():
    # Its first log makes a handler of the root logger, which wrote what other threads
    # of py4j log then.
    ended = process([sys.executable, "-c", LOST])
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "Py4JError\n!x\n")


@pytest.mark.slow
def test_a_signal_to_the_group_ends_a_dstream_cleanly(tmp_path):
    with feeds.LineServer(feeds.random_lines(1), rate=20) as server:
        job = "dstream_wordcount", server.host, server.port, "--checkpoint", tmp_path
        started = begun(command("spark-submit", *job))
        for line in started.stdout:
            if line.startswith("('since"):
                break
        os.killpg(started.pid, Signal.SIGTERM)
        _, errors = ended_cleanly(started)
    assert "ended by: " in errors
    assert (tmp_path / "counts.json").exists()


# `tests/faults/test_signals.py` sends each signal, to each process, under both
# launchers.
@pytest.mark.slow
def test_a_signal_ends_a_query_cleanly_and_its_result_is_printed(
    folder, tmp_path, temporary, until
):
    feeds.drip(feeds.sales_files(2, rows=5, seed=1), folder)
    job = command(
        "spark-submit",
        "sales_totals",
        folder,
        "--checkpoint",
        tmp_path / "ckpt",
        "--format",
        "csv",
    )
    started = begun(job, env={**os.environ, **temporary})
    until((tmp_path / "ckpt" / "commits" / "1").exists)
    os.killpg(started.pid, Signal.SIGINT)
    output, errors = ended_cleanly(started)
    assert output.startswith("ProductKey,Orders,TotalSales\n")
    assert "last batch committed: 1" in errors
    until(lambda: not living(started.pid))
    assert not [path.name for path in Path(temporary["TMPDIR"]).iterdir()]
