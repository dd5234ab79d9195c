"""What tests share; `spark` and `stream` are the fixtures of the kit's own pytest plugin."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import pyspark
import pytest
from support import ports, skips

import sparkstream_kit
from sparkstream_kit import feeds
from sparkstream_kit import server as serving
from sparkstream_kit._internal.java import java_options
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.errors import InvalidInputError, QueryFailed
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES, read_profile

ROOT = Path(__file__).resolve().parent.parent
# Choose a part of the tests; see pytest_collection_modifyitems
PARTS = ("PART", "SLOW")
# Seconds: what has not come by then hangs. On two busy cores a driver has taken minutes
HANGS = 600.0

# What is started in the background (`make ci &`) begins with SIGINT ignored, and all
# that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Every JVM that a test starts lives for seconds: the quick compiler alone will do.
os.environ["SPARK_SUBMIT_OPTS"] = (
    f"{read_profile('test')['spark.driver.extraJavaOptions']} {java_options()}"
)


@pytest.fixture(scope="session")
def connect(tmp_path_factory):
    """The URL of a server of `sparkstream serve`: that of SPARK_REMOTE, or one for this run.

    A process of its own attaches to it.
    """
    if "SPARK_REMOTE" in os.environ:
        yield os.environ["SPARK_REMOTE"]
        return
    port = ports.free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(tmp_path_factory.mktemp("server"))
        server = serving.serve(port, "test")
        patch.chdir(ROOT)
        try:
            yield server.url
        finally:
            serving.stop(port)


def pytest_ignore_collect(collection_path, config):
    """Leave out what starts servers, needs a browser or takes minutes, unless asked for.

    It is asked for by its path.
    """
    asked_for = set().union(*(_room(Path(argument)) for argument in config.args))
    return True if _room(collection_path) - asked_for else None


def _room(path):
    """Return the folder of such tests that a path is in, if it is in one."""
    return {"browser", "faults", "systems"} & {*path.resolve().parts[len(ROOT.parts) :]}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Make a skip a failure where CI says so, unless its reason is on the list of allowed ones."""
    report = yield
    if report.skipped and "CI_NO_SKIPS" in os.environ:
        reason = str(call.excinfo.value)
        if not reason.startswith(skips.ALLOWED):
            report.outcome = "failed"
            report.longrepr = (
                f"skipped, which CI does not allow (tests/support/skips.py): {reason}"
            )
    return report


def pytest_collection_modifyitems(config, items):
    """Mark what is slow and what Connect cannot run; ORDER=7 is a random order.

    SLOW=1/4 leaves all fast tests and the slow ones of a quarter of the files, and
    PART=1/4 a quarter of the slow tests alone.
    """
    _mark_slow(config, items)
    if share := os.environ.get("SLOW"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        _leave_files_of(share, slow, config, items)
    if part := os.environ.get("PART"):
        number, parts = map(int, part.split("/"))
        # Every sixteenth, say, and not by a hash: no part is empty, and pytest never
        # says that no tests ran.
        slow = [item for item in items if item.get_closest_marker("slow")]
        mine = slow[number - 1 :: parts]
        if slow and not mine:  # there are fewer of them than parts
            mine = [slow[(number - 1) % len(slow)]]
        config.hook.pytest_deselected(
            items=[item for item in items if item not in mine]
        )
        items[:] = mine
    if order := os.environ.get("ORDER"):
        random.Random(order).shuffle(items)  # noqa: S311 - the same in each worker
    for item in items if "SPARK_REMOTE" in os.environ else []:
        for mark in item.iter_markers("classic_only"):
            item.add_marker(pytest.mark.skip(reason=f"classic only: {mark.args[0]}"))


def _leave_files_of(share, candidates, config, items):
    """Leave the candidates out that are not in this share of their files."""
    number, parts = map(int, share.split("/"))
    shared = sorted({item.path for item in candidates})[number - 1 :: parts]
    left_out = {item for item in candidates if item.path not in shared}
    config.hook.pytest_deselected(items=[*left_out])
    items[:] = [item for item in items if item not in left_out]


def _mark_slow(config, items):
    """Make the cases of a test slow that its mark `fast` does not name."""
    of_test: dict[tuple[Path, str], dict[str, bool]] = {}
    for item in items:
        for mark in item.iter_markers("fast"):
            case = getattr(item, "callspec").id  # noqa: B009 - of a test with cases alone
            fast = any(fnmatchcase(case, pattern) for pattern in mark.args)
            of_test.setdefault((item.path, getattr(item, "originalname", "")), {})[
                item.nodeid
            ] = fast
            if not fast:
                item.add_marker("slow")
    if not any("[" in argument for argument in config.args):
        without = [
            name for (_, name), cases in of_test.items() if not any(cases.values())
        ]
        if without:
            raise pytest.UsageError(
                f"no case of {', '.join(without)} is one that its mark `fast` names"
            )


@pytest.fixture(autouse=True)
def nothing_left_running(request):
    """Fail a test that leaves a query, a feeder or a job group behind, and end the query."""
    before = set(threading.enumerate())
    yield
    if "spark" in request.fixturenames:
        spark = request.getfixturevalue("spark")
        left = [query for query in spark.streams.active if query.isActive]
        for query in left:
            query.stop()
        assert not left, f"queries left running: {[query.name for query in left]}"
        if "SPARK_REMOTE" not in os.environ:
            group = spark.sparkContext.getLocalProperty("spark.jobGroup.id")
            assert group is None, f"job group left: {group}"
    started = {thread.name for thread in set(threading.enumerate()) - before}
    assert "sparkstream-feeder" not in started, (
        "a feeder of a posts' source left running"
    )


@pytest.fixture
def until():
    """Wait until a condition holds."""

    def wait(condition, limit=HANGS):
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, f"not within {limit:g} s: {condition}"
            time.sleep(0.05)  # between looks, within the limit

    return wait


@contextmanager
def running(*command, **how):
    """Run a command beside the test; a test that fails ends it, and does not wait for it."""
    with subprocess.Popen([str(word) for word in command], text=True, **how) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def interrupted_starts(monkeypatch):
    """Ctrl+C comes while a thread of the kit starts; the threads that have started."""
    started: list[threading.Thread] = []

    class Interrupted(threading.Thread):
        def start(self):
            super().start()
            if self.name.startswith("sparkstream-"):
                started.append(self)
                if threading.current_thread() is threading.main_thread():
                    raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Thread", Interrupted)
    return started


@pytest.fixture
def free_port():
    """A port that nobody listens on."""
    return ports.free_port()


@pytest.fixture
def out(tmp_path):
    """A folder for output, which is not there yet."""
    return tmp_path / "out"


@pytest.fixture
def folder(tmp_path):
    """An empty input folder."""
    path = tmp_path / "in"
    path.mkdir()
    return path


# Of Spark's versions that the kit supports; `scripts/versions.sh` runs the tests on
# them.
BEFORE_4_2 = pyspark.__version__.startswith("4.1.")

Job = Callable[..., subprocess.CompletedProcess[str]]
# The jobs that are queries of Structured Streaming.
JOBS = sorted(
    path.stem
    for path in (ROOT / "jobs").glob("*.py")
    if not path.stem.startswith(("dstream", "train"))
)


def command(launcher, job, *args):
    """Return the command line of a job of this checkout, as a user would type it."""
    return [
        shutil.which(launcher) or launcher,
        str(ROOT / "jobs" / f"{job}.py"),
        *map(str, args),
    ]


@pytest.fixture
def job(tmp_path):
    """Run a job as a process of its own, in an empty folder, and return its output.

    Its exit code must be the expected one.
    """
    home = tmp_path / "home"
    home.mkdir()

    def run_job(launcher, name, *args, code=0, **env):
        env = {**os.environ, **env}
        done = process(
            command(launcher, name, *args), cwd=home, env=env, stdin=subprocess.DEVNULL
        )
        assert done.returncode == code, done.stderr
        return done

    return run_job


def environment(**changes):
    """Return this environment without what Spark reads or left, and what chooses tests."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if "SPARK" not in key and key not in PARTS
    }
    # Where a machine does not know its own name, no JVM of Spark starts without this
    # one.
    if "SPARK_LOCAL_IP" in os.environ:
        kept["SPARK_LOCAL_IP"] = os.environ["SPARK_LOCAL_IP"]
    kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
    kept["PYTHONPATH"] = str(Path(sparkstream_kit.__file__).parent.parent)
    return kept | changes


def self_signed(folder):
    """Make a certificate for localhost; return its file, and a file with the key in it, too."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    key, certificate, both = folder / "key", folder / "certificate", folder / "both"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
    ]
    made += [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    process(made, check=True)
    both.write_text(key.read_text() + certificate.read_text())
    return certificate, both


def built_wheel(folder):
    """Build the wheel of this checkout in a folder."""
    process(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
    )
    return next(folder.glob("*.whl"))


def process(command, **how):
    """Run a command to its end; return it with its exit code and what it has printed, as text."""
    how = {"check": False, "timeout": HANGS} | how
    return subprocess.run([*map(str, command)], capture_output=True, text=True, **how)  # noqa: PLW1510


def ran(code, *given, **settings):
    """Run code with arguments in a Python of its own; return what it has printed."""
    done = process([sys.executable, "-c", code, *given], env=environment(**settings))
    assert done.returncode == 0, done.stderr
    return done


def in_this_session(job, *args):
    """Run a job's main without what ends a process."""
    assert job.main.__wrapped__([str(arg) for arg in args]) == 0


def program(path, text):
    """Make a program out of a script, in a folder that may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def refusal(call, *given, **named):
    """Return the one line with which a call is refused, as a user's mistake is."""
    return _one_line(InvalidInputError, call, *given, **named)


def failure(call, *given, **named):
    """Return the one line with which a query fails."""
    return _one_line(QueryFailed, call, *given, **named)


def _one_line(error, call, /, *given, **named):
    with pytest.raises(error) as caught:
        call(*given, **named)
    said = str(caught.value)
    assert "\n" not in said
    return said


def cases(text):
    """Return what each call is told, from a text of calls with indented lines below each."""
    return {
        call: " ".join(told.split())
        for call, told in re.findall(r"(?m)^(\S.*)\n((?:    .*\n)+)", text)
    }


@pytest.fixture
def terminal():
    """Both ends of a pseudo-terminal: ours, and the one for a process."""
    try:
        return pty.openpty()
    except OSError as err:
        pytest.skip(f"needs a pseudo-terminal, which /dev/pts gives: {err}")


@pytest.fixture
def temporary(tmp_path):
    """An environment in which Python and the JVM put their temporary files in an empty folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    options = f"{os.environ['SPARK_SUBMIT_OPTS']} -Djava.io.tmpdir={folder}"
    return {"TMPDIR": str(folder), "SPARK_SUBMIT_OPTS": options}


def left_behind(temporary):
    """Return the checkpoints that a job left in such an environment."""
    checkpoints = ("temporary-", "sparkstream-dstream-")
    return [
        path.name
        for path in Path(temporary["TMPDIR"]).iterdir()
        if path.name.startswith(checkpoints)
    ]


@pytest.fixture
def no_pyspark(tmp_path, monkeypatch):
    """An environment in which importing pyspark fails: what runs there never needed it."""
    # A server would have to say whether a folder is there
    monkeypatch.delenv("SPARK_REMOTE", raising=False)
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "pyspark.py").write_text(
        "raise SystemExit('pyspark was imported')"
    )
    return {
        "PYTHONPATH": (
            f"{tmp_path / 'fake'}:{Path(sparkstream_kit.__file__).parent.parent}"
        )
    }


# Runs a job once for each list of arguments of its standard input; no process for each.
_EACH = """
import io, json, runpy, sys
from contextlib import redirect_stderr, redirect_stdout

for sys.argv[1:] in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


@pytest.fixture
def refused(job, tmp_path, monkeypatch):
    """See that a job refuses wrong arguments in one line, before it starts Spark."""

    monkeypatch.delenv("SPARK_REMOTE", raising=False)

    def refuse(name, cases):
        script = str(ROOT / "jobs" / f"{name}.py")
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.argv = [{script!r}]\n{_EACH}"],
            cwd=tmp_path / "home",
            # Without a JVM, and without a server, which would have to say whether a
            # folder is there.
            env={**os.environ, "PYTHONPATH": str(ROOT), "JAVA_HOME": "/none"},
            input=json.dumps([args for args, _ in cases]),
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=True,
        )
        for (args, message), line in zip(cases, done.stdout.splitlines(), strict=True):
            code, out, err = json.loads(line)
            assert (code, out) == (2, ""), (args, err)
            assert err.startswith(f"{name}.py: "), (args, err)
            assert message in err, args
            assert "hush" not in err, args
            assert err.count("\n") == 1, (args, err)

    return refuse


@pytest.fixture(params=["made", "published"])
def sales_log(request, tmp_path):
    """The files of a sales log and their totals as CSV: made here, or published ones.

    The published ones are beside the checkout.
    """
    published = ROOT.parent / "shared" / "data"
    if request.param == "published":
        if not published.is_dir():
            pytest.skip("the published sales log is not in ../shared/data")
        return published / "sales_log", (published / "sales_log_totals.csv").read_text()
    feeds.drip(feeds.sales_files(42, rows=100, seed=9), tmp_path / "log")
    truth = feeds.sales_totals(feeds.sales_rows(4200, seed=9))
    head = ("ProductKey", "Orders", "TotalSales")
    return tmp_path / "log", "".join(
        feeds.csv_line(row) + "\n" for row in (head, *truth)
    )


@pytest.fixture(params=[("memory", 1), ("rocksdb", 3)], ids=["memory-1", "rocksdb-3"])
def keeping(request, spark):
    """Run with each state store, in one partition and in three."""
    store, partitions = request.param
    with in_force(
        spark,
        {
            STATE_STORE: STATE_STORES[store],
            "spark.sql.shuffle.partitions": str(partitions),
        },
    ):
        yield


@pytest.fixture
def hadoop(spark):
    """Hadoop's settings, as core-site.xml of a cluster would set them; the default is put back."""
    conf = spark._jsc.hadoopConfiguration()  # noqa: SLF001 - no public way
    former = conf.get("fs.defaultFS")
    yield conf
    conf.set("fs.defaultFS", former)


def pretend_master(spark, monkeypatch, master):
    """Let the running session say that it has another master; a real one takes a cluster."""
    conf = type(spark.conf)
    former = conf.get
    monkeypatch.setattr(
        conf,
        "get",
        lambda of, key, *default: (
            master if key == "spark.master" else former(of, key, *default)
        ),
    )
