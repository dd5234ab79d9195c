import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import HANGS, environment, process, program, refusal

from sparkstream_kit._internal import file_system, threads
from sparkstream_kit._internal import java as _archive
from sparkstream_kit.cli import main
from sparkstream_kit.cli.archive import keep, warm
from sparkstream_kit.errors import KitError

RELEASE = 'IMPLEMENTOR="Debian"\nJAVA_VERSION="{}"\n'


@pytest.fixture
def java(tmp_path, monkeypatch):
    """The home of a Java 17, in an environment that has no archive yet."""
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch()
    (home / "release").write_text(RELEASE.format("17.0.1"))
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    return home


def made(size=100):
    """Put an archive in place, as the end of `warm` does."""
    archive = _archive.Archive.of(_archive.find_java())  # `warm` itself takes a minute
    assert archive is not None
    file_system.private_folder(archive.path.parent)
    new = archive.path.with_name("new")
    new.write_bytes(bytes(size))
    keep(archive, new)
    return archive.path


def test_an_archive_is_for_its_java_and_its_spark(java, monkeypatch, capsys):
    assert _archive.java_options() == ""
    archive = made()
    assert f'"-XX:SharedArchiveFile={archive}" ' in _archive.java_options()
    assert warm() == archive  # there already
    assert main(["warm"]) == 0
    assert capsys.readouterr() == (f"{archive}\n", ""), "no stream runs"

    with monkeypatch.context() as other:
        other.setenv("SPARK_CONF_DIR", "/etc/spark")  # which begins the class path
        assert _archive.java_options() == ""
    os.utime(java / "bin" / "java", (1, 1))  # as an update does
    assert _archive.java_options() == ""
    newer = made()
    assert not archive.exists()  # 160 MB that nothing would read again
    assert str(newer) in _archive.java_options()


def test_nobody_else_can_reach_an_archive(java):
    before = os.umask(0)
    try:
        archive = made()
    finally:
        os.umask(before)
    ours = [archive.parent.parent, archive.parent, *archive.parent.iterdir()]
    assert len(ours) == 3
    assert not [path for path in ours if path.stat().st_mode & 0o077]


@pytest.mark.parametrize(
    ("version", "flag"),
    [("21.0.1", "+AutoCreate"), ("25", "+AutoCreate"), ("25.0.3", "AOTCache=")],
)
def test_a_java_25_has_a_cache_unless_it_corrupts_data(java, version, flag):
    (java / "release").write_text(RELEASE.format(version))
    made()
    assert flag in _archive.java_options()


def test_two_at_once_make_one(java, tmp_path):
    program(java / "bin" / "java", f"#!/bin/sh\necho >>{tmp_path}/asked; exit 1\n")
    archive = _archive.Archive.of(_archive.find_java())
    assert archive is not None
    file_system.private_folder(archive.path.parent)
    with (archive.path.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=warm)
        second.start()
        archive.path.touch()
    second.join()
    assert not (tmp_path / "asked").exists(), "the second one has made it again"


def test_without_a_java_there_is_none(java):
    shutil.rmtree(java)
    assert _archive.java_options() == ""
    assert (
        refusal(warm) == "no Java was found: install Java 17 or newer, or set JAVA_HOME"
    )


def test_a_java_that_says_nothing_of_itself_costs_no_session(
    java, tmp_path, monkeypatch
):
    # As jenv and asdf put a script in the place of Java.
    program(tmp_path / "shims" / "java", "#!/bin/sh\n")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path / "shims"), prepend=os.pathsep)
    assert _archive.java_options() == ""


def test_a_jar_that_is_out_of_reach_costs_no_session(java, tmp_path, monkeypatch):
    made()
    assert _archive.java_options() != ""
    jars = tmp_path / "spark" / "jars"
    jars.mkdir(parents=True)
    (jars / "gone.jar").symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / "spark"))
    assert _archive.java_options() == ""


def test_what_went_wrong_in_the_training_run_is_said(java):
    program(java / "bin" / "java", "#!/bin/sh\necho this Java is broken >&2; exit 1\n")
    with pytest.raises(
        KitError,
        match="no class-data archive; the last words of its training run: .*Java",
    ):
        warm()
    assert _archive.java_options() == ""


def test_a_training_run_that_does_not_end_is_given_up(java, monkeypatch):
    program(java / "bin" / "java", "#!/bin/sh\nexec sleep 3\n")
    monkeypatch.setattr("sparkstream_kit.cli.archive._LIMIT", 0.1)
    with pytest.raises(
        KitError,
        match=r"no class-data archive after 0\.1 s; see if a Spark job runs here",
    ):
        warm()


def test_set_up_has_made_the_archive():
    """A training run that fails only makes each start slower: nothing else tells."""
    if not _archive.java_options():
        # Of CI it is a failure
        pytest.skip("needs the archive of this environment: sparkstream warm")
    assert warm().stat().st_size > 10_000_000


JOB = """
import os, sys
from pathlib import Path
from sparkstream_kit import get_session
from sparkstream_kit._internal import java
java._folder = lambda: Path(sys.argv[1])
os.environ["SPARK_SUBMIT_OPTS"] = f"-Xlog:class+load:file={sys.argv[2]} -XX:+UseG1GC"
with get_session("job", profile="local") as spark:
    print(spark.range(3).groupBy("id").count().count())
"""


def newer_java():
    """Return the home of a Java that has the newer kind of archive, if one is on this machine."""
    for home in sorted(Path("/usr/lib/jvm").glob("*")):
        if _archive.version(_archive.release(home / "bin/java")) >= (25, 0, 3):
            return str(home)
    pytest.skip("needs a Java 25.0.3 or newer in /usr/lib/jvm")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["that of set-up", "newer"])
def test_an_archive_is_used_and_a_damaged_one_does_no_harm(
    tmp_path, monkeypatch, which
):
    """As set-up has made it; then with a hole in it, which crashes a JVM that does not verify it.

    With G1, with which Java 25 warns on standard output of a part of it.
    """
    if which == "newer":
        monkeypatch.setenv("JAVA_HOME", newer_java())
        monkeypatch.delenv("SPARK_SUBMIT_OPTS")  # it has the flags of the other Java
        monkeypatch.setattr(_archive, "_folder", lambda: tmp_path / "newer")
    elif not _archive.java_options():
        pytest.skip("needs the archive of this environment: sparkstream warm")
    archive = warm()
    for path in archive.parent.glob(f"{archive.name}*"):
        # With its time: only a file of that time is not verified
        shutil.copy2(path, tmp_path / path.name)
    copy = tmp_path / archive.name
    copy.chmod(0o600)

    # Java 17 says `top` of the classes that are in ours, beside those of its own
    # archive; Java 25 has one.
    ours = (
        "shared objects file (top)"
        if archive.suffix == ".jsa"
        else "shared objects file"
    )

    def classes_from_archive():
        loaded = tmp_path / "loaded"
        command = [sys.executable, "-c", JOB, str(tmp_path), str(loaded)]
        done = process(command, cwd=tmp_path, env=environment())
        errors = [
            line
            for line in done.stderr.splitlines()
            if not line.startswith("WARNING: ")
        ]
        assert (done.returncode, done.stdout, errors) == (0, "3\n", [])
        return loaded.read_text().count(ours)

    assert classes_from_archive() > 5_000
    with copy.open("r+b") as file:
        file.seek(20_000_000)
        file.write(os.urandom(200_000))
    assert classes_from_archive() == 0
    # Java 17 crashes on a short one: it is written whole, and then renamed
    if which == "newer":
        os.truncate(copy, 1_000_000)
        assert classes_from_archive() == 0


IN_A_TERMINAL = """
from sparkstream_kit import get_session
with get_session("job", profile="test") as spark:
    spark.range(3).count()
"""


@pytest.mark.slow
def test_after_a_first_session_in_a_terminal_it_is_made_in_the_background(
    tmp_path, terminal
):
    """A Java that has no archive yet: a program that starts the Java of this machine."""
    wrapper = program(
        tmp_path / "bin" / "java", f"#!/bin/sh\nexec '{_archive.find_java()}' \"$@\"\n"
    )
    given = environment(JAVA_HOME=str(tmp_path))
    archive = _archive.Archive.of(wrapper)
    assert archive is not None
    ours, its = terminal
    job = [sys.executable, "-c", IN_A_TERMINAL]
    with subprocess.Popen(
        job, env=given, stdout=its, stderr=its, stdin=subprocess.DEVNULL
    ):
        os.close(its)
        seen = b""
        with contextlib.suppress(OSError):  # its end is closed
            while data := os.read(ours, 4096):
                seen += data
    try:
        assert "preparing a faster start of Spark in the background" in seen.decode()
        assert threads.until(archive.path.exists, HANGS)
        assert "SharedArchiveFile" in archive.options
    finally:
        for file in archive.path.parent.glob("java0-*"):
            file.unlink()
