"""A session's JVM: where it listens, what it says at its start, why it did not start."""

import json
import os
import re
import subprocess
import sys
import time

import pyspark
import pytest
from conftest import environment, process, ran

from sparkstream_kit._internal import java as _java
from sparkstream_kit._internal.spark import launch
from sparkstream_kit.errors import InvalidInputError

pytestmark = pytest.mark.xdist_group("session")

# --- where it listens

LISTENING = """
import json, os, re, sys
from pathlib import Path
from sparkstream_kit import get_session
from sparkstream_kit.jobflags import take_standard_streams

take_standard_streams()
spark = get_session("listens", profile=sys.argv[1] if sys.argv[1:] else None)
spark.sparkContext.parallelize([0], 1).map(lambda _: 1).collect()
query = spark.readStream.format("rate").load().writeStream
query = query.foreachBatch(lambda batch, _: batch.count()).trigger(availableNow=True).start()
query.awaitTermination()

def listens(pid):
    "Return the addresses at which a process listens, as the kernel writes them."
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in links:
                found.append(fields[1].partition(":")[0])
    return found

java = int(spark._jvm.java.lang.ProcessHandle.current().pid())
page = spark.sparkContext.uiWebUrl
print(json.dumps({"java": listens(java), "python": listens(os.getpid()), "page": page}))
left = spark._jvm.java.lang.System.getenv("SPARK_LOCAL_IP")
spark.stop()
print(left)
"""
LOOPBACK = {
    "0100007F",
    "0000000000000000FFFF00000100007F",
    "00000000000000000000000001000000",
}
ALL = {"00000000", "00000000000000000000000000000000"}


def listening(folder, launcher, *args, **env):
    script = folder / "listening.py"
    script.write_text(LISTENING)
    done = process([launcher, script, *args], env=environment(**env), cwd=folder)
    assert done.returncode == 0, done.stderr
    seen, left = done.stdout.splitlines()[-2:]
    return json.loads(seen), left


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "profile"), [(sys.executable, []), ("spark-submit", ["own.conf"])]
)
def test_a_local_session_listens_on_this_machine_only(tmp_path, launcher, profile):
    (tmp_path / "own.conf").write_text("spark.sql.shuffle.partitions 2\n")
    seen, left = listening(tmp_path, launcher, *profile)
    assert len(seen["java"]) >= 4  # py4j's, the driver's, the blocks', the web page
    assert {*seen["java"], *seen["python"]} <= LOOPBACK
    assert "://127.0.0.1:" in seen["page"] or "://localhost:" in seen["page"]
    assert left == "None"  # a later session may be one of a cluster


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [sys.executable, "spark-submit"])
def test_the_web_page_is_where_the_launch_puts_it(tmp_path, launcher):
    seen, _ = listening(tmp_path, launcher, SPARK_LOCAL_IP="0.0.0.0")  # noqa: S104 - as a user may ask
    assert set(seen["java"]) - LOOPBACK <= ALL
    assert len(set(seen["java"]) & ALL) == 1


# --- what it says

SAYS = """
import sys
from sparkstream_kit import get_session
spark = get_session("says", conf={"spark.ui.enabled": False})
print("python", file=sys.stderr, flush=True)
spark._jvm.java.lang.System.err.println("java")
spark.stop()
spark._jvm.java.lang.System.err.println("the last word")
"""


@pytest.mark.slow
def test_java_s_warning_is_left_out_and_its_own_words_are_not(tmp_path):
    done = ran(SAYS)
    assert sorted(done.stderr.splitlines()) == ["java", "python", "the last word"]
    assert done.stderr.endswith("the last word\n")


def test_the_last_words_are_passed_on_also_by_a_slow_machine(monkeypatch, capfd):
    read = os.read

    def slow(file, size):
        data = read(file, size)
        if data == b"the last word\n":
            time.sleep(0.5)
        return data

    monkeypatch.setattr("os.read", slow)
    words = launch._HeldOutput()  # noqa: SLF001 - no process ends at that moment by itself
    words.pass_on()
    os.write(words.end, b"the last word\n")
    words._settle()  # noqa: SLF001 - as at the end of this process
    assert capfd.readouterr().err == "the last word\n"
    words.closed()


WORKER = (  # as PySpark 4.2 prints it
    "Starting Streaming TransformWithStateInPandas Python worker.\n\nStreaming"
    " TransformWithStateInPandas Python worker finish init stage of Python runner. UDF:"
    " <f>.\n\n"
)


@pytest.mark.parametrize("size", [1, 64, 1000])
def test_what_pyspark_s_own_worker_says_is_left_out(size, capfd):
    words = launch._HeldOutput()  # noqa: SLF001
    words.pass_on()
    text = f"a\n\n{WORKER}Stream of mine\n\n{WORKER}\nStreaming Tr".encode()
    for at in range(0, len(text), size):
        os.write(words.end, text[at : at + size])
    words._settle()  # noqa: SLF001
    words.closed()
    words._thread.join(60)  # noqa: SLF001
    assert capfd.readouterr().err == "a\n\nStream of mine\n\n\nStreaming Tr"


IVY = """:: loading settings :: url = \
jar:file:/opt/ivy.jar!/org/apache/ivy/core/settings/ivysettings.xml
Ivy Default Cache set to: /root/.ivy2.5.2/cache
The jars for the packages stored in: /root/.ivy2.5.2/jars
org.apache.spark#spark-sql-kafka-0-10_2.13 added as a dependency
:: resolving dependencies :: org.apache.spark#spark-submit-parent-1;1.0
\tconfs: [default]
\tfound org.apache.spark#spark-sql-kafka-0-10_2.13;4.1.0 in central
:: resolution report :: resolve 200ms :: artifacts dl 5ms
\t---------------------------------------------------------------------
:: retrieving :: org.apache.spark#spark-submit-parent-1
\tconfs: [default]
\t0 artifacts copied, 11 already retrieved (0kB/5ms)
"""


IVY_FAILS = IVY.partition(":: retrieving")[0]


@pytest.mark.parametrize(
    ("said", "shown"), [(IVY, ""), (IVY_FAILS, IVY_FAILS)], ids=["found", "not found"]
)
def test_what_ivy_says_of_packages_that_it_has_found_is_left_out(
    said, shown, until, capfd
):
    words = launch._HeldOutput()  # noqa: SLF001
    text = f"before\n{said}after\n\tat x\n"
    os.write(words.end, text.encode())
    until(lambda: words._said.decode() == text)  # noqa: SLF001
    words.pass_on()
    words.closed()
    words._thread.join(60)  # noqa: SLF001
    assert capfd.readouterr().err == f"before\n{shown}after\n\tat x\n"


@pytest.mark.slow
def test_a_terminal_sees_that_spark_is_being_started(terminal):
    ours, its = terminal
    with subprocess.Popen(
        [sys.executable, "-c", SAYS],
        env=environment(),
        stdout=its,
        stderr=its,
        stdin=subprocess.DEVNULL,
    ) as started:
        os.close(its)
        seen = b""
        try:
            while data := os.read(ours, 4096):
                seen += data
        except OSError:  # its end is closed
            pass
    assert seen.decode().splitlines()[0] == "starting Spark …"
    assert started.returncode == 0


# --- why it did not start

JOB = """
import sparkstream_kit.jobflags as jobflags
@jobflags.exit_codes
def main(argv):
    from sparkstream_kit import get_session
    get_session("never", conf={"spark.ui.enabled": False, **%s})
exit(main())
"""
JAVA = """#!/bin/bash
case "$*" in
    *launcher.Main*) %s ;;
    *) %s ;;
esac
"""
REAL = 'exec {}/bin/java "$@"'.format(os.environ.get("JAVA_HOME", ""))
STOPPED = "Spark's Java machine did not start: "
JAVA_11 = (
    "{ echo 'Error: LinkageError occurred while loading main class"
    " org.apache.spark.launcher.Main'; echo 'java.lang.UnsupportedClassVersionError:"
    " org/apache/spark/launcher/Main has been compiled by a more recent version of the"
    " Java Runtime (class file version 61.0), this version of the Java Runtime only"
    " recognizes class file versions up to 55.0'; } >&2; exit 1"
)
NO_MODULES = "echo 'Unrecognized option: --add-modules=x' >&2; exit 1"


def never(*, conf=None, java=None, folder, **env):
    """Run what should start Spark, where it cannot."""
    if java is not None:
        (folder / "jdk/bin").mkdir(parents=True)
        (folder / "jdk/bin/java").write_text(JAVA % java)
        (folder / "jdk/bin/java").chmod(0o755)
        env["JAVA_HOME"] = str(folder / "jdk")
    (folder / "job.py").write_text(JOB % (conf or {}))
    return process(
        [sys.executable, str(folder / "job.py")], env=environment(**env), cwd=folder
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"conf": {"spark.driver.memory": "900000g"}},
            STOPPED + "Could not reserve enough space",
        ),
        (
            {"conf": {"spark.master": "nonsense"}},
            "SparkException: Could not parse Master URL: 'nonsense'; ",
        ),
        (
            {"conf": {"spark.driver.bindAddress": "203.0.113.9"}},
            "Spark did not start: BindException: ",
        ),
        ({"java": (REAL, "kill -9 $$")}, f"{STOPPED}without a word"),
        ({"java": ("exit 3", "")}, f"{STOPPED}without a word"),
        ({"java": (JAVA_11, "exit 1")}, f"{STOPPED}this is Java 11, {_java.NEEDS}"),
        (
            {"java": (REAL, NO_MODULES)},
            f"{STOPPED}this Java is too old or not whole, {_java.NEEDS}",
        ),
        (
            {"SPARK_SUBMIT_OPTS": "-Djava.io.tmpdir=/proc/self"},
            f"{STOPPED}NoSuchFileException: /proc/self/spark-",
        ),
        ({"JAVA_HOME": "/nowhere"}, f"{STOPPED}no Java was found, {_java.NEEDS}"),
        (
            {"java": (REAL, "echo 'that is the cause' >&2; exit 3")},
            f"{STOPPED}that is the cause",
        ),
    ],
    ids=str,
)
def test_the_cause_is_one_line(tmp_path, how, said):
    done = never(folder=tmp_path, **how)
    assert done.stderr.startswith(f"job.py: {said}"), done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")
    assert done.returncode == (1 if said.startswith("Spark did not start") else 2)


@pytest.mark.slow
def test_a_java_that_corrupts_data_is_one_line(spark, monkeypatch):
    beans = (
        spark._jvm.java.lang.management.ManagementFactory.getGarbageCollectorMXBeans()  # noqa: SLF001
    )
    collector = beans[0].getName().split()[0]
    # This Java in the place of a Java 25.0.2
    monkeypatch.setattr(_java, "CORRUPTS", re.compile(r".*"))
    monkeypatch.setattr(launch, "_CORRUPTS_WITH", "no collector")
    launch._refuse_versions()  # noqa: SLF001
    monkeypatch.setattr(launch, "_CORRUPTS_WITH", collector)
    with pytest.raises(
        InvalidInputError,
        match=r"^Java \S+ can corrupt data with its garbage collector G1",
    ):
        launch._refuse_versions()  # noqa: SLF001


@pytest.mark.slow
def test_a_java_machine_of_another_spark_is_one_line(tmp_path):
    # The first on its class path, from where Spark reads its version; nothing else of
    # it is different.
    (tmp_path / "spark-version-info.properties").write_text("version=4.9.1\n")
    home = os.path.dirname(pyspark.__file__)  # noqa: PTH120 - a text
    done = never(folder=tmp_path, SPARK_CONF_DIR=str(tmp_path), SPARK_HOME=home)
    assert (
        done.stderr == "job.py: Spark's Java machine is of Spark 4.9.1, and PySpark is"
        f" {pyspark.__version__}; unset SPARK_HOME ({home}), or run: pip install"
        " pyspark==4.9.1\n"
    )
    assert (done.returncode, done.stdout) == (2, "")
