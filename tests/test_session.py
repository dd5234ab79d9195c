"""Sessions in their own processes: which setting wins, what is said, how quiet it is.

Each process runs one script, which prints what it saw as JSON; the tests below read it.
"""

import json
import os
import shutil
import sys

import pytest
import sales_totals
from conftest import environment, process, program, refusal

from sparkstream_kit import get_session, sources, spark_session
from sparkstream_kit.errors import InvalidInputError

pytestmark = pytest.mark.xdist_group("session")

PROLOGUE = """
import json, logging, sys
from pyspark.errors import PySparkException
from sparkstream_kit import get_session
from sparkstream_kit.jobflags import take_standard_streams

take_standard_streams()  # under spark-submit; elsewhere it does nothing
print("python begins", file=sys.stderr, flush=True)
seen, warned = {}, []

class Keep(logging.Handler):
    def emit(self, record):
        warned.append(f"{record.levelname} {record.getMessage()}")

logging.getLogger("sparkstream_kit").addHandler(Keep())

def settings(spark, *keys):
    found = {}
    for key in keys:
        try:
            found[key] = spark.conf.get(key)
        except PySparkException:
            found[key] = None
    return found
"""
NOISE = """
try:
    spark.sql("SELECT 1 / 0").collect()
except PySparkException as err:
    seen["division"] = err.getCondition()
rows = spark.readStream.format("rate").load()
query = rows.writeStream.format("noop").trigger(availableNow=True).start()
query.awaitTermination()
seen["worker"] = spark.sparkContext.parallelize([0], 1).map(lambda _: sys.executable).collect()
"""
EPILOGUE = """
spark.stop()
print("python ends", file=sys.stderr, flush=True)
print(json.dumps(seen | {"warned": warned, "python": sys.executable}))
"""


def run(command, folder, body, **env):
    """Run a script, and return what it has seen and the lines on its standard error."""
    script = folder / "script.py"
    script.write_text(PROLOGUE + body + EPILOGUE)
    done = process([*command, str(script)], env=environment(**env), cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr.splitlines()


# --- python, with settings of the launch in PYSPARK_SUBMIT_ARGS and in
# spark-defaults.conf

LAUNCHED = """
spark = get_session("mine", profile="mine.conf", conf={
    "spark.sql.shuffle.partitions": 5,
    "spark.sql.session.timeZone": "Asia/Tokyo",
    "spark.sql.ansi.enabled": False,
    "spark.driver.memory": "500m",
    "spark.driver.extraJavaOptions": "-Dkit.test=1",
    "spark.ui.enabled": False,
    "spark.sql.shufle.partitions": 5,
})
seen["first"] = settings(
    spark, "spark.sql.shuffle.partitions", "spark.sql.session.timeZone",
    "spark.sql.ansi.enabled", "spark.driver.memory", "spark.sql.adaptive.enabled",
    "spark.sql.streaming.stopTimeout", "spark.app.name", "spark.master",
    "spark.executor.heartbeatInterval",
)
seen["option"] = spark._jvm.java.lang.System.getProperty("kit.test")
seen["heap"] = spark._jvm.java.lang.Runtime.getRuntime().maxMemory() >> 20
seen["first warned"] = list(warned)
warned.clear()
spark.stop()
spark = get_session("second", profile="test", conf={
    "spark.driver.memory": "700m", "spark.driver.extraJavaOptions": "-Dkit.test=2",
    "spark.ui.enabled": False, "spark.driver.blockManager.port": "0",
})
seen["second"] = settings(
    spark, "spark.sql.shuffle.partitions", "spark.sql.ansi.enabled", "spark.sql.adaptive.enabled",
    "spark.sql.streaming.stopTimeout", "spark.executor.heartbeatInterval",
    "spark.sql.shufle.partitions", "spark.driver.memory", "spark.driver.extraJavaOptions",
    "spark.app.name", "spark.driver.blockManager.port",
)
"""
SHUFFLE = "spark.sql.shuffle.partitions"
MINE = """
spark.sql.shuffle.partitions 4
spark.sql.adaptive.enabled = false
spark.sql.streaming.stopTimeout: 9s
spark.sql.ansi.enabled true
spark.executor.heartbeatInterval 9s
"""
DEFAULTS = """
spark.sql.session.timeZone Europe/Berlin
hive.some.key that Spark leaves alone
"""


@pytest.mark.slow
def test_launch_beats_conf_beats_profile_beats_defaults(tmp_path):
    (tmp_path / "mine.conf").write_text(MINE)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "spark-defaults.conf").write_text(DEFAULTS)
    arguments = (
        "--driver-memory 600m --conf spark.sql.shuffle.partitions=7 --master local[1]"
        " pyspark-shell"
    )
    given = {"PYSPARK_SUBMIT_ARGS": arguments, "SPARK_CONF_DIR": str(tmp_path / "conf")}
    launched, _ = run([sys.executable], tmp_path, LAUNCHED, **given)
    assert launched["first"] == {
        "spark.sql.shuffle.partitions": "7",  # submit arguments, over conf and profile
        "spark.sql.session.timeZone": "Europe/Berlin",  # spark-defaults.conf, over conf
        "spark.driver.memory": "600m",  # submit arguments, over conf
        "spark.master": "local[1]",
        "spark.sql.ansi.enabled": "false",  # conf, over the profile
        "spark.app.name": "mine",
        "spark.sql.adaptive.enabled": "false",  # the profile, over Spark
        "spark.sql.streaming.stopTimeout": "9s",
        "spark.executor.heartbeatInterval": "9s",
    }
    assert launched["option"] == "1"  # conf, which starts the JVM
    assert 500 < launched["heap"] <= 600
    lost = "WARNING conf {} is not in force: the launch gave {}, which wins"
    assert launched["first warned"] == [
        lost.format("spark.sql.shuffle.partitions=5", "7"),
        lost.format("spark.sql.session.timeZone=Asia/Tokyo", "Europe/Berlin"),
        lost.format("spark.driver.memory=500m", "600m"),
        (
            "WARNING Spark knows no setting spark.sql.shufle.partitions; did you mean"
            f" {SHUFFLE}?"
        ),
    ]
    # A session after stop() has nothing of the one before, and what only a starting JVM
    # takes is not claimed.
    assert "kit.test=2" not in launched["second"].pop("spark.driver.extraJavaOptions")
    assert launched["second"] == {
        "spark.app.name": "second",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.streaming.stopTimeout": "0ms",
        "spark.executor.heartbeatInterval": None,
        "spark.sql.shufle.partitions": None,
        "spark.sql.shuffle.partitions": "7",  # the launch's, as before
        "spark.driver.memory": "600m",
        "spark.driver.blockManager.port": "0",  # which Spark's context takes
    }
    assert launched["warned"] == [
        lost.format("spark.driver.memory=700m", "600m"),
        lost.format("spark.driver.extraJavaOptions=-Dkit.test=2", "-Dkit.test=1"),
    ]


# --- python, with nothing given

PLAIN = (
    """
spark = get_session("plain", conf={"spark.ui.enabled": False})
seen["local"] = settings(spark, "spark.master", "spark.app.name", "spark.sql.shuffle.partitions")
"""
    + NOISE
)

# A cluster's log says which executors were lost, and its workers have a Python of their
# own.
OWN_FILE = """
import os
os.environ.pop("PYSPARK_PYTHON", None)
spark = get_session("plain", profile="own.conf")
seen["cluster"] = settings(spark, "spark.master", "spark.sql.shuffle.partitions")
seen["log"] = spark._jvm.java.lang.System.getProperty("log4j2.configurationFile")
seen["workers"] = os.environ.get("PYSPARK_PYTHON")
"""


@pytest.mark.slow
def test_a_master_in_a_profile_of_one_s_own_counts_as_any_other(tmp_path):
    (tmp_path / "own.conf").write_text(
        "spark.master local-cluster[1,1,1024]\nspark.ui.enabled false\n"
    )
    seen, _ = run([sys.executable], tmp_path, OWN_FILE)
    assert seen["cluster"]["spark.master"] == "local-cluster[1,1,1024]"
    assert (seen["log"], seen["workers"]) == (None, None)


MASTER_BY_LAUNCH = """
spark = get_session("plain", conf={"spark.ui.enabled": False})
seen["log"] = spark._jvm.java.lang.System.getProperty("log4j2.configurationFile")
seen["partitions"] = spark.conf.get("spark.sql.shuffle.partitions")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "master", "quiet", "partitions"),
    [
        ("arguments", "local[1]", True, "2"),
        ("defaults", "local[1]", True, "2"),
        ("arguments", "local-cluster[1,1,1024]", False, "200"),
    ],
)
def test_a_local_master_of_the_launch_has_the_profile_local_and_a_quiet_log(
    tmp_path, where, master, partitions, *, quiet
):
    (tmp_path / "spark-defaults.conf").write_text(
        f"spark.master = {master}\n" if where == "defaults" else ""
    )
    arguments = (
        f"--master {master} pyspark-shell" if where == "arguments" else "pyspark-shell"
    )
    given = {"PYSPARK_SUBMIT_ARGS": arguments, "SPARK_CONF_DIR": str(tmp_path)}
    seen, _ = run([sys.executable], tmp_path, MASTER_BY_LAUNCH, **given)
    assert (seen["log"] is not None) == quiet
    assert seen["partitions"] == partitions


@pytest.mark.slow
def test_python_is_quiet_and_has_the_profile_local_and_its_own_python(tmp_path):
    # First on PATH, and no Python for a worker
    program(tmp_path / "python3", "#!/bin/sh\nexit 1\n")
    seen, lines = run(
        [sys.executable], tmp_path, PLAIN, PATH=f"{tmp_path}:{os.environ['PATH']}"
    )
    assert seen["local"] == {
        "spark.master": "local[*]",
        "spark.app.name": "plain",
        "spark.sql.shuffle.partitions": "2",
    }
    assert seen["worker"] == [seen["python"]]
    assert seen["division"] == "DIVIDE_BY_ZERO"
    assert lines == ["python begins", "python ends"]
    assert seen["warned"] == []


# --- spark-submit

SUBMITTED = (
    """
spark = get_session("submitted", conf={
    "spark.master": "local[2]", "spark.sql.shuffle.partitions": 5, "spark.driver.memory": "700m",
    "spark.ui.enabled": False,
})
seen["settings"] = settings(
    spark, "spark.master", "spark.app.name", "spark.sql.shuffle.partitions",
    "spark.sql.session.timeZone", "spark.driver.memory", "spark.ui.showConsoleProgress",
)
"""
    + NOISE
)


@pytest.mark.slow
def test_under_spark_submit_launch_beats_conf_beats_profile_and_python_is_quiet(
    tmp_path,
):
    seen, lines = run(
        ["spark-submit", "--conf", "spark.sql.shuffle.partitions=7"],
        tmp_path,
        SUBMITTED,
    )
    begin = lines.index("python begins")
    assert seen["division"] == "DIVIDE_BY_ZERO"
    assert lines[begin:] == ["python begins", "python ends"]
    assert not [line for line in lines if " INFO " in line]
    assert begin <= 12
    assert seen["settings"] == {
        "spark.master": "local[2]",  # conf: the local[*] is Spark's own
        "spark.app.name": "submitted",  # as is the name of the script
        "spark.sql.shuffle.partitions": "7",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.memory": None,  # too late for that, and not claimed
        "spark.ui.showConsoleProgress": "false",
    }
    partitions, memory = seen["warned"]
    assert partitions.startswith(
        "WARNING conf spark.sql.shuffle.partitions=5 is not in force: the launch gave 7"
    )
    assert memory.startswith(
        "WARNING conf spark.driver.memory=700m is not in force: the JVM must know it"
    )
    assert seen["worker"] == [seen["python"]]


def test_a_machine_without_java_is_told_what_to_install(tmp_path):
    for tool in (
        "bash",
        "cat",
        "dirname",
        "env",
        "ls",
        "ps",
        "sed",
        "sh",
        "tr",
        "uname",
    ):
        found = shutil.which(tool)
        if found:
            (tmp_path / tool).symlink_to(found)
    env = environment(PATH=str(tmp_path))
    env.pop("JAVA_HOME", None)
    script = "import sparkstream_kit.jobflags as j\n@j.exit_codes\ndef main(argv):\n"
    script += (
        "    import sparkstream_kit\n   "
        " sparkstream_kit.get_session('no-java')\nexit(main())"
    )
    done = process([sys.executable, "-c", script], env=env)
    assert done.returncode == 2
    assert (
        done.stderr
        == "-c: Spark's Java machine did not start: no Java was found, and Spark needs"
        " Java 17 or newer; install one (Debian: apt-get install"
        " openjdk-17-jre-headless; PyPI: pip install 'sparkstream-kit[java]') or set"
        " JAVA_HOME\n"
    )


# --- the same call again, as of a notebook's cell that is run twice

TWICE = """
from pathlib import Path
Path("a b.jar").touch(), Path("b.txt").touch()
asked = {
    "spark.ui.enabled": False, "spark.jars": "a b.jar",
    "spark.files": str(Path("b.txt").absolute()), "spark.driver.memory": "1024m",
    "spark.driver.extraJavaOptions": "-Dkit.test=1", "spark.sql.warehouse.dir": "tables",
    "spark.network.timeout": "2min", "spark.sql.shuffle.partitions": 3,
    "spark.extraListeners": "", "spark.redaction.regex": "(?i)secret",
}
first = get_session("twice", profile="local", conf=asked)
again = get_session("twice", profile="local", conf=asked)
# The same in other words.
spark = get_session("twice", conf=asked | {
    "spark.jars": str(Path("a b.jar").absolute()), "spark.sql.warehouse.dir": "./tables",
})
assert first is again is spark
seen["partitions"] = spark.conf.get("spark.sql.shuffle.partitions")
"""


@pytest.mark.slow
def test_the_same_call_again_asks_for_nothing_new(tmp_path):
    seen, _ = run([sys.executable], tmp_path, TWICE)
    assert seen["warned"] == []
    assert seen["partitions"] == "3"


# --- values that Spark cannot read

UNREADABLE = """
from pathlib import Path
from sparkstream_kit.errors import InvalidInputError

Path("typo.conf").write_text("spark.sql.shuffle.partitions fuor")
off = {"spark.ui.enabled": False}
seen["said"] = []
for how in (
    {"conf": off | {"spark.sql.shuffle.partitions": None}},
    {"conf": off, "profile": "typo.conf"},
    {"conf": {"spark.ui.enabled": "maybe"}},
    {"conf": off | {"spark.master": "nonsense"}},
):
    try:
        get_session("wrong", **how)
    except InvalidInputError as err:
        seen["said"].append(str(err))
spark = get_session("right", conf=off | {"spark.sql.shuffle.partitions": 3})
seen["right"] = settings(spark, "spark.app.name", "spark.sql.shuffle.partitions")
"""


@pytest.mark.slow
def test_a_value_that_spark_cannot_read_is_one_line_and_the_next_session_is_without_it(
    tmp_path,
):
    seen, _ = run([sys.executable], tmp_path, UNREADABLE)
    values = ("None", "fuor", "maybe", "nonsense")
    keys = [SHUFFLE] * 2 + ["spark.ui.enabled", "Master"]
    for said, value, key in zip(seen["said"], values, keys, strict=True):
        assert value in said
        assert key in said
        assert said.endswith("; correct that setting")
        assert "\n" not in said
    assert seen["right"] == {"spark.app.name": "right", SHUFFLE: "3"}
    assert seen["warned"] == []


# --- a session that runs already (this process has one)


REFUSED = """
import sys
from pyspark.sql import SparkSession
from sparkstream_kit import sinks, spark_session, start

stop = SparkSession.stop
SparkSession.stop = lambda spark: (print(query.isActive, flush=True), stop(spark))
with spark_session("refused", profile=sys.argv[1]) as spark:
    rows = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    query = start(rows.groupBy("value").count(), sinks.latest("t"), name="t", mode="complete")
    while query.lastProgress is None:
        query.awaitTermination(1)
    raise SystemExit("the second query was refused")
"""


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["local", "test"])
def test_a_block_that_fails_stops_its_queries_before_their_context(profile, tmp_path):
    done = process(
        [sys.executable, "-c", REFUSED, profile], cwd=tmp_path, env=environment()
    )
    assert (done.returncode, done.stdout) == (1, "False\n")
    # And no stack trace of a query without a context
    assert done.stderr == "the second query was refused\n"


HANGING = """
import threading
from pyspark.sql import SparkSession
from sparkstream_kit import sinks, spark_session, start

begun, stop = threading.Semaphore(0), SparkSession.stop

def stopped(spark):
    print([each.name for each in queries if each.isActive], flush=True)
    stop(spark)

SparkSession.stop = stopped

def hang(batch, _):
    begun.release()
    threading.Event().wait()

def work(batch, _):
    begun.release()
    batch.collect()

with spark_session("refused", profile="test") as spark:
    rows = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    todo = {"hang 1": hang, "work 1": work, "hang 2": hang, "work 2": work}
    queries = [start(rows, sinks.foreach_batch(do), name=name) for name, do in todo.items()]
    for _ in queries:
        begun.acquire()
    raise SystemExit("the next query was refused")
"""


@pytest.mark.slow
def test_a_batch_function_that_hangs_keeps_no_other_query_from_its_stop(tmp_path):
    done = process([sys.executable, "-c", HANGING], cwd=tmp_path, env=environment())
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert done.stderr == "the next query was refused\n"


AGAIN = """
import logging, sys
from sparkstream_kit import get_session

logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stdout)
for profile in (None, "local", "cluster"):
    get_session("again", profile=profile)
"""


@pytest.mark.slow
def test_the_profile_that_is_taken_by_itself_is_no_other_one_when_it_is_named(tmp_path):
    done = process([sys.executable, "-c", AGAIN], cwd=tmp_path, env=environment())
    says = (
        "profile cluster is not applied: a session with profile local runs; call"
        " spark.stop() first"
    )
    assert (done.returncode, done.stdout) == (0, f"{says}\n")


@pytest.fixture
def keys(spark):
    """Put a setting back when the test is over."""
    was = spark.conf.get("spark.sql.shuffle.partitions")
    yield "spark.sql.shuffle.partitions"
    spark.conf.set("spark.sql.shuffle.partitions", was or "1")


def test_a_second_call_applies_runtime_settings_and_no_profile(spark, keys, caplog):
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set(keys, "3")
    assert get_session("again", profile="test") is spark  # which it was started with
    assert caplog.messages == []
    assert get_session("again", profile="cluster") is spark
    assert caplog.messages == [
        (
            "profile cluster is not applied: a session with profile test runs; call"
            " spark.stop() first"
        )
    ]
    assert spark.conf.get(keys) == "3"  # the user's own; the profile has 200
    assert get_session("again", conf={keys: 4}) is spark
    assert spark.conf.get(keys) == "4"
    assert spark.conf.get("spark.sql.session.timeZone") == zone


@pytest.mark.slow
def test_a_second_call_refuses_a_static_setting_that_differs_and_changes_nothing(
    spark, keys
):
    # As they are
    get_session("again", conf={"spark.ui.enabled": False, "spark.master": "local[2]"})
    before = spark.conf.get(keys)
    assert (
        refusal(get_session, "again", conf={keys: 9, "spark.master": "local[7]"})
        == "spark.master=local[7] cannot be set in the running session, which has"
        " local[2]; call spark.stop() first, then get_session again"
    )
    misspelt = refusal(
        get_session, "again", conf={keys: 9, "spark.sql.shufle.partitions": 2}
    )
    assert misspelt.endswith("; did you mean spark.sql.shuffle.partitions?")
    assert (spark.conf.get("spark.master"), spark.conf.get(keys)) == (
        "local[2]",
        before,
    )


@pytest.mark.parametrize(
    ("key", "value"), [("spark.sql.session.timeZone", "Nowhere"), (SHUFFLE, None)]
)
def test_a_second_call_with_a_value_that_spark_cannot_read_changes_nothing(
    spark, keys, key, value
):
    wanted = {keys: 9, "spark.sql.ansi.enabled": False, key: value}
    before = {key: spark.conf.get(key) for key in wanted}
    with pytest.raises(
        InvalidInputError, match=rf"^[^\n]*{value}[^\n]*; correct that setting$"
    ):
        get_session("again", conf=wanted)
    assert {key: spark.conf.get(key) for key in wanted} == before


@pytest.mark.slow
def test_a_block_and_a_job_leave_a_session_that_they_have_not_started(spark, folder):
    (folder / "sales.csv").write_text("not a sale\n")
    query = sources.rate(spark, rows_per_second=1).writeStream.format("noop").start()
    with pytest.raises(RuntimeError), spark_session("inner") as inner:
        assert inner is spark
        raise RuntimeError
    assert sales_totals.main([str(folder), "--available-now"]) == 0
    assert query.isActive
    query.stop()
    assert spark.range(3).count() == 3
