"""What the kit keeps for itself is this user's alone, whatever the umask.

It is so whatever was there before, too.
"""

import os
import sys

import pytest
from conftest import environment, process

SPARKSTREAM = [sys.executable, "-m", "sparkstream_kit"]


def sparkstream(cache, cwd, *args):
    """Run the command where all that is made is open to everyone, and return its output."""
    done = process(
        [*SPARKSTREAM, *args],
        cwd=cwd,
        env=environment(XDG_CACHE_HOME=str(cache)),
        umask=0,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def open_to_others(folder):
    """Return what others can read, write or enter in a tree.

    What Spark puts in folders of ours is left out.
    """
    found = []
    for where, folders, files in os.walk(folder):
        found += [
            path
            for path in (where, *(f"{where}/{name}" for name in files))
            if _mode(path) & 0o077
        ]
        folders[:] = [
            name
            for name in folders
            if _mode(f"{where}/{name}") & 0o077 or name not in SPARKS
        ]
    return found


SPARKS = ("tmp", "warehouse")


def _mode(path):
    return os.lstat(path).st_mode


@pytest.mark.parametrize("before", [None, 0o777])
def test_a_copy_of_a_private_profile_is_private(tmp_path, before):
    cache, secret = tmp_path / "cache", tmp_path / "secret.conf"
    secret.write_text("spark.hadoop.fs.s3a.secret.key XYZ\n")
    secret.chmod(0o600)
    if before is not None:
        (cache / "sparkstream-kit").mkdir(parents=True)
        (cache / "sparkstream-kit").chmod(before)
        (cache / "sparkstream-kit" / "log4j2.properties").touch(0o666)
    copy = sparkstream(cache, tmp_path, "conf", secret).strip()
    assert "XYZ" in open(copy, encoding="utf-8").read()  # noqa: PTH123, SIM115
    assert copy.startswith(str(cache))
    assert open_to_others(cache / "sparkstream-kit") == []


ATTACHED = """
import os
from sparkstream_kit import spark_session
from sparkstream_kit import server as serving
with spark_session("private") as spark:
    spark.range(3).write.saveAsTable("kept")
    port = int(spark.client._builder.endpoint.rpartition(":")[2])
    [client] = (serving.folder_of(port) / "clients").glob("[!.]*")
    print(oct(client.stat().st_mode))
"""


@pytest.mark.slow
def test_all_that_a_server_keeps_is_private(tmp_path, free_port):
    cache = tmp_path / "cache"
    said = sparkstream(
        cache, tmp_path, "serve", "start", "--port", free_port, "--profile", "test"
    )
    try:
        done = process(
            [sys.executable, "-c", ATTACHED],
            env=environment(
                XDG_CACHE_HOME=str(cache), SPARK_REMOTE=said.partition("=")[2].strip()
            ),
            umask=0,
        )
        assert done.stdout == "0o100600\n", done.stderr
        assert len(list(cache.rglob("*"))) > 8  # token, log, settings, ...
        assert open_to_others(cache) == []
    finally:
        sparkstream(cache, tmp_path, "serve", "stop", "--port", free_port)
