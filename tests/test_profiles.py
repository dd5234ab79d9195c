"""Profiles as files: what is read, what is refused, and what spark-submit is given."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import process, refusal
from support.zips import zipped_kit

import sparkstream_kit
from sparkstream_kit._internal.java import java_options
from sparkstream_kit.profiles import (
    PROFILES,
    log4j2_file,
    parse_properties,
    read_profile,
    submit_properties,
)

PACKAGE = Path(sparkstream_kit.__file__).parent
CONF = next(
    path for path in (PACKAGE.parent / "conf", PACKAGE / "conf") if path.is_dir()
)


def test_settings_are_read_as_spark_reads_them():
    text = """
        # a comment
        ! another
        spark.a 1
        spark.b=2
        spark.c : 3
        spark.d =  -Da=b -Dc:d  \n
        spark.e\t5
        spark.a   last wins
    """
    assert parse_properties(text, "x") == {
        "spark.a": "last wins",
        "spark.b": "2",
        "spark.c": "3",
        "spark.d": "-Da=b -Dc:d",
        "spark.e": "5",
    }
    assert parse_properties("", "x") == {}


@pytest.mark.parametrize("line", ["spark.a =", "hive.a 1", "spark. 1"])
def test_a_line_that_is_no_setting_is_named(line):
    assert (
        refusal(parse_properties, f"# first\n{line}\n", "my.conf")
        == f"profile my.conf, line 2: {line!r} is not a setting; write: spark.some.key"
        " value"
    )


def test_a_profile_is_one_of_conf_or_a_file_of_ones_own(tmp_path):
    assert sorted(path.stem for path in CONF.glob("*.conf")) == sorted(PROFILES)
    for name in PROFILES:
        assert read_profile(name)["spark.sql.session.timeZone"] == "UTC"
    (tmp_path / "mine.conf").write_text("spark.sql.shuffle.partitions 9")
    assert read_profile(str(tmp_path / "mine.conf")) == {
        "spark.sql.shuffle.partitions": "9"
    }


def test_a_profile_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "bytes.conf").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "bytes.conf"):
        said = refusal(read_profile, str(path))
        assert re.fullmatch(
            rf"profile {path} cannot be read: .*; give a text file .*", said
        )
    known = "unknown profile prod; known: cluster, local, test, or the path of a file"
    assert refusal(read_profile, "prod") == known
    assert (
        refusal(read_profile, "Local") == "unknown profile Local; did you mean local?"
    )


def test_the_quick_compiler_has_as_much_room_for_code_as_java_gives_both():
    # A warm server for tests had filled the 48 MB that Java gives it alone.
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else "java"

    def room(options):
        flags = process(
            [java, *options.split(), "-XX:+PrintFlagsFinal", "-version"], check=True
        ).stdout
        size = next(
            line.split()[3]
            for line in flags.splitlines()
            if " ReservedCodeCacheSize " in line
        )
        return int(size) // 2**20  # Java 25 has one page more

    assert room(read_profile("test")["spark.driver.extraJavaOptions"]) == room("")


def test_the_file_for_spark_submit_has_the_profile_and_the_quiet_log(tmp_path):
    folder = tmp_path / "a new folder"
    settings = parse_properties(submit_properties("local", folder).read_text(), "x")
    options = settings["spark.driver.extraJavaOptions"]
    profile = read_profile("local")
    log4j2, given = (
        folder / "log4j2.properties",
        profile["spark.driver.extraJavaOptions"],
    )
    assert (
        options
        == f'{java_options()} {given} "-Dlog4j2.configurationFile={log4j2.as_uri()}"'.strip()
    )
    assert settings == profile | {"spark.driver.extraJavaOptions": options}
    assert log4j2.read_bytes() == log4j2_file().read_bytes()
    mine = tmp_path / "mine.conf"
    mine.write_text("spark.driver.extraJavaOptions -Xss16m")
    first = submit_properties(str(mine), folder)
    assert submit_properties(str(mine), folder) == first
    assert ' -Xss16m "-Dlog4j2.' in first.read_text()
    mine.write_text("spark.driver.extraJavaOptions -Xss8m")
    assert submit_properties(str(mine), folder) != first


def test_a_cluster_keeps_its_own_log(tmp_path):
    path = submit_properties("cluster", tmp_path)
    assert parse_properties(path.read_text(), "x") == read_profile("cluster")
    assert list(tmp_path.iterdir()) == [path]


def test_profiles_are_found_in_a_zip(tmp_path):
    archive = zipped_kit(tmp_path)
    code = (
        "import sparkstream_kit.profiles as p; f = p.log4j2_file(); "
        "print(p.__file__, p.read_profile('test')['spark.sql.shuffle.partitions'], "
        "f.is_file() and f == p.log4j2_file(), f)"
    )
    done = process(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(archive)}, cwd=tmp_path
    )
    home, partitions, is_file, copy = done.stdout.split()
    assert home.startswith(str(archive))
    assert (partitions, is_file) == ("1", "True")
    assert not Path(copy).exists()  # gone with the process


def test_the_class_is_there_in_the_spark_of_the_tests(spark):
    for profile in ("local", "test"):
        name = read_profile(profile)["spark.sql.streaming.checkpointFileManagerClass"]
        jvm: Any = spark._jvm  # noqa: SLF001
        assert jvm.java.lang.Class.forName(name).getName() == name
    assert "spark.sql.streaming.checkpointFileManagerClass" not in read_profile(
        "cluster"
    )
