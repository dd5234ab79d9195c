"""`sparkstream doctor`: each thing that can be wrong is made wrong, and found, with its fix."""

import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, program

from sparkstream_kit import server as serving
from sparkstream_kit.cli import doctor, main
from sparkstream_kit.connectors import _packages


@pytest.fixture(autouse=True)
def healthy(monkeypatch, zone):
    """An environment in which nothing is set that could be wrong."""
    for name in ("SPARK_HOME", "SPARK_REMOTE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def zone(monkeypatch):
    """Let Python read the time zone anew, and again after the test."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def lines(found):
    return [
        f"{each.level}: {each.found}" + (f"; {each.fix}" if each.fix else "")
        for each in found
    ]


def java_that_says(folder, version, monkeypatch):
    java = program(
        folder / "jdk/bin/java",
        f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n",
    )
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{java.parent}:{os.environ['PATH']}")
    return java


@pytest.fixture
def on_spark_4_2(monkeypatch):
    """Which versions of Java fit is that of one Spark, whichever the tests run on."""
    monkeypatch.setattr(doctor, "goes_with_spark", lambda: _packages.versions()["4.2"])


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (
            "1.8.0_392",
            (
                "bad: 8 at {}; Spark 4 cannot run on it; install Java 17, 21 or 25, and"
                " set JAVA_HOME"
            ),
        ),
        ("21", "ok: 21 at {}"),
        ("23.0.1", "warn: 23 at {}; this Spark supports Java 17, 21 or 25"),
        ("25.0.3", "ok: 25 at {}"),
        ("none", "bad: {} does not say its version; install Java 17, 21 or 25"),
    ],
)
def test_the_java_on_the_path(version, said, tmp_path, monkeypatch, on_spark_4_2):
    java = java_that_says(tmp_path, version, monkeypatch)
    [line] = lines(doctor.java())
    assert line.startswith(said.format(java))


@pytest.mark.parametrize(
    ("version", "collector", "level"),
    [
        ("25", "G1", "bad"),
        ("25.0.2", "G1", "bad"),
        ("25.0.2", "Parallel", "ok"),
        ("25.0.3", "G1", "ok"),
    ],
)
def test_a_java_that_corrupts_data(
    version, collector, level, tmp_path, monkeypatch, on_spark_4_2
):
    java = java_that_says(tmp_path, version, monkeypatch)
    flags = f"echo '     bool Use{collector}GC   = true  {{product}}'\n"
    java.write_text(java.read_text() + flags)
    [found] = doctor.java()
    assert found.level == level
    assert (
        "can corrupt data with its garbage collector G1 (JDK-8377811)" in found.found
    ) is (level == "bad")


def test_the_python():
    own = ".".join(map(str, sys.version_info[:2]))
    assert lines(doctor.python()) == [f"ok: {own} at {sys.executable}"]


def test_a_java_that_cannot_be_run_is_one_line(tmp_path, monkeypatch, on_spark_4_2):
    java = java_that_says(tmp_path, "17", monkeypatch)
    java.write_text("not a program")  # as one for another processor
    [line] = lines(doctor.java())
    assert line.startswith(
        f"bad: {java} does not say its version; install Java 17, 21 or 25"
    )


def test_the_versions_that_go_together(monkeypatch):
    installed = {"pyspark": "4.3.1", "pandas": "3.0.1", "sparkstream-kit": "0.1.0"}
    monkeypatch.setattr(doctor, "version_of", installed.get)
    monkeypatch.setattr(doctor, "pyspark_version", lambda: installed["pyspark"])
    assert [str(each) for each in doctor.versions()][1:] == [
        "ok    PySpark       4.3.1",
        (
            "warn  pandas        3.0.1; Spark needs pandas 2.2 or newer, below 3: pip"
            " install 'pandas<3'"
        ),
    ]
    assert doctor.goes_with_spark() == _packages.versions()["4.3"]
    for version, said in {
        "4.0.1": (
            "bad   PySpark       4.0.1; the kit needs 4.1 or newer: pip install"
            " --upgrade pyspark"
        ),
        "4.9.0": "warn  PySpark       4.9.0; the kit is tested on Spark 4.1, 4.2, 4.3",
    }.items():
        installed |= {"pyspark": version, "pandas": "2.3.0"}
        assert [str(each) for each in doctor.versions()][1:] == [said]


def test_the_page_has_the_table():
    page = (ROOT / "docs" / "versions.md").read_text()
    for spark, each in _packages.versions().items():
        row = [
            spark,
            each["tested"],
            ", ".join(each["python"]),
            ", ".join(map(str, each["java"])),
        ]
        assert f"| {' | '.join([*row, each['delta'] or 'none yet'])} |\n" in page


def test_no_java(tmp_path, monkeypatch, on_spark_4_2):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert lines(doctor.java())[0].startswith(
        f"bad: JAVA_HOME={tmp_path} has no bin/java; install Java 17"
    )
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lines(doctor.java())[0].startswith(
        "bad: there is no java on PATH; install Java 17, 21 or 25"
    )


def test_a_spark_home_of_another_version(tmp_path, monkeypatch):
    spark = doctor.version_of("pyspark") or pytest.skip("needs an installed PySpark")
    assert [each.level for each in doctor.versions()] == ["ok", "ok"]
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    assert (
        lines(doctor.versions())[-1]
        == f"bad: {tmp_path} has no Spark 4 in jars/; correct it, or unset it"
    )
    (tmp_path / "jars").mkdir()
    jar = tmp_path / "jars/spark-core_2.13-4.0.9.jar"
    jar.touch()
    assert (
        lines(doctor.versions())[-1]
        == f"bad: {tmp_path} is Spark 4.0.9, and PySpark is {spark}; unset it, or pip"
        " install pyspark==4.0.9"
    )
    jar.rename(jar.with_name(f"spark-core_2.13-{spark}.jar"))
    assert lines(doctor.versions())[-1] == f"ok: Spark {spark} at {tmp_path}"


def test_a_machine_that_does_not_know_its_name(monkeypatch):
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert lines(doctor.host()) == ["ok: localhost is 127.0.0.1"]
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-host.invalid")
    fix = "add it to /etc/hosts, or set SPARK_LOCAL_IP=127.0.0.1"
    assert lines(doctor.host()) == [
        f"bad: no address is known for no-such-host.invalid; {fix}"
    ]
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    assert lines(doctor.host()) == ["ok: SPARK_LOCAL_IP=127.0.0.1"]


@pytest.mark.parametrize(("free", "level"), [(6e9, "ok"), (2e9, "warn"), (5e8, "bad")])
def test_disks(free, level, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    [found] = doctor.disks()
    assert (found.level, "make room" in found.fix) == (level, level != "ok")


def test_each_folder_for_temporary_files(tmp_path, monkeypatch):
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{spare},{tmp_path / 'no'}")
    gone, own, of_spark, no = doctor.disks()
    assert (gone.level, no.level) == ("bad", "bad")
    assert gone.found == f"TMPDIR={tmp_path / 'gone'} cannot be written"
    assert no.found == f"{tmp_path / 'no'} cannot be written"
    assert own.found.endswith(f"GB free in {tmp_path}")
    assert of_spark.found.endswith(f"GB free in {spare}")


def test_a_disk_that_takes_few_files_more(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    looks = os.statvfs(tmp_path)
    few = SimpleNamespace(f_files=10**6, f_favail=99, f_flag=looks.f_flag)
    monkeypatch.setattr(os, "statvfs", lambda _: few)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6e9))
    assert lines(doctor.disks()) == [
        f"warn: {tmp_path} takes 99 more files only; remove old files there"
    ]


def test_a_folder_from_which_java_can_load_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    disk = SimpleNamespace(f_files=0, f_favail=0, f_flag=os.ST_NOEXEC)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6e9))
    *_, last = lines(doctor.disks())
    assert last.startswith("bad: /tmp is mounted noexec, and Java loads its libraries")


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / /mnt/share rw shared:9 - {} server:/share rw
"""


@pytest.mark.parametrize(
    ("kind", "level", "why"),
    [
        ("nfs4", "warn", "is as safe as its locks are"),
        ("cifs", "warn", "is as safe as its locks are"),
        ("fuse.sshfs", "warn", "is as safe as its locks are"),
        ("fuse.s3fs", "bad", "a file there is not renamed in one step"),
    ],
)
def test_checkpoints_on_a_network_disk(kind, level, why, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_: MOUNTS.format(kind))
    [found] = doctor.checkpoints("/mnt/share/ckpt")
    assert (found.level, found.found) == (
        level,
        f"/mnt/share/ckpt is on a network disk ({kind})",
    )
    assert why in found.fix


def test_checkpoints_on_a_disk_of_this_machine(tmp_path):
    [found] = doctor.checkpoints(str(tmp_path))
    assert found.level == "ok"
    assert found.found.startswith(f"{tmp_path} is on a disk with locks (")
    # No file can be made in /proc, whoever asks
    [line] = lines(doctor.checkpoints("/proc"))
    assert line.startswith("warn: /proc: no file can be made and locked there (")


def test_a_clock_that_is_wrong(tmp_path, monkeypatch):
    assert [each.level for each in doctor.clock(str(tmp_path))] == ["ok"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 60)
    [line] = lines(doctor.clock(str(tmp_path)))
    assert line == (
        f"warn: that of the disk of {tmp_path} is 60 s ahead of this one; set the clock"
        " (timedatectl set-ntp true), here and on its server"
    )
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    assert lines(doctor.clock(str(tmp_path))) == [
        (
            "bad: 1970-01-02 00:00:00 UTC, before the kit was installed; set the clock"
            " (timedatectl set-ntp true)"
        )
    ]


def test_a_second_java(tmp_path, monkeypatch, on_spark_4_2):
    own = java_that_says(tmp_path, "17.0.9", monkeypatch)
    assert lines(doctor.other_java()) == []
    monkeypatch.setenv("JAVA_HOME", str(own.parent.parent))
    java_that_says(tmp_path / "same", "17.0.2", monkeypatch)
    monkeypatch.setenv("JAVA_HOME", str(own.parent.parent))
    assert lines(doctor.other_java()) == []
    other = java_that_says(tmp_path / "other", "11.0.2", monkeypatch)
    monkeypatch.setenv("JAVA_HOME", str(own.parent.parent))
    assert lines(doctor.other_java()) == [
        f"warn: 11 at {other}, which other programs start; the kit starts 17"
    ]


@pytest.mark.slow  # starts a server
def test_a_server_that_still_runs(tmp_path, free_port, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert lines(doctor.servers()) == []
    server = serving.serve(free_port, "test")
    try:
        [line] = lines(doctor.servers())
        url = f"sc://localhost:{free_port}"
        assert line == (
            f"warn: one runs on port {free_port} (profile test, process {server.pid});"
            f" SPARK_REMOTE is not set, so that jobs do not use it: export"
            f" SPARK_REMOTE={url}, or end it: sparkstream serve stop --port {free_port}"
        )
        monkeypatch.setenv("SPARK_REMOTE", url)
        assert [each.level for each in doctor.servers()] == ["ok"]
    finally:
        serving.stop(free_port)
    assert lines(doctor.servers()) == []


def test_a_machine_in_another_time_zone(monkeypatch):
    assert lines(doctor.time_zone()) == ["ok: sessions and Python have UTC"]
    # London: in winter it has UTC's time
    monkeypatch.setenv("TZ", "GMT0BST,M3.5.0/1,M10.5.0")
    time.tzset()
    [line] = lines(doctor.time_zone())
    assert line.startswith("warn: sessions have UTC, Python has ")
    assert (
        "(+0000 or +0100): collect() gives times of Python's; export TZ=UTC, or" in line
    )


def test_a_remote_without_a_server(free_port, monkeypatch):
    def found(remote):
        monkeypatch.setenv("SPARK_REMOTE", remote)
        [line] = lines(doctor.remote())
        return line

    assert lines(doctor.remote()) == ["ok: not set: sessions are of their own process"]
    line = found(f"sc://localhost:{free_port}/;token=hush")
    assert line.startswith(
        f"bad: no Spark Connect server answers at localhost port {free_port}"
        " (Connection "
    )
    assert (
        "; start it (on this machine: sparkstream serve start), or unset SPARK_REMOTE"
        in line
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (
            found(f"sc://localhost:{port}")
            == f"ok: a server listens on localhost:{port}"
        )
    assert found("sc://").startswith(
        "bad: SPARK_REMOTE=sc:// is no address of a Connect server; give one"
    )


def test_the_command_prints_columns_and_says_by_its_exit_code_if_all_is_well(
    tmp_path, monkeypatch, capsys
):
    java_that_says(tmp_path, "17.0.9", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out.splitlines()
    names = (
        "Java, Python, the kit, PySpark, user, host name, temporary, checkpoints,"
        " clock, time zone, SPARK_REMOTE"
    )
    assert ", ".join(line[6:20].strip() for line in out) == names
    assert {line[:6].strip() for line in out} <= {"ok", "warn"}
    java_that_says(tmp_path / "second", "11", monkeypatch)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.startswith("bad   Java          11 at ")
