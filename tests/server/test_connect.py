import importlib.util
import re
import socket
import sys

import pytest
from conftest import environment, process, refusal

from sparkstream_kit import get_session
from sparkstream_kit.errors import MissingExtraError

pytestmark = pytest.mark.xdist_group("connect")


def attached(url, folder, body, *args, **env):
    """Run a script in an empty folder, with SPARK_REMOTE set."""
    script = folder / "script.py"
    script.write_text(body)
    words = [sys.executable, str(script), *map(str, args)]
    return process(words, cwd=folder, env=environment(SPARK_REMOTE=url, **env))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "sc://127.0.0.1:1",
            (
                "no Spark Connect server answers at 127.0.0.1 port 1 (Connection"
                " refused); "
            ),
        ),
        (
            "localhost:15002/;token=x",
            "SPARK_REMOTE=localhost:15002 is no address of a Connect server; give",
        ),
    ],
)
def test_an_address_without_a_server_is_refused_at_once(url, said, monkeypatch):
    monkeypatch.setenv("SPARK_REMOTE", url)
    assert refusal(get_session, "x").startswith(said)


@pytest.mark.slow
def test_a_session_of_this_process_is_left_alone(monkeypatch, request):
    spark = request.getfixturevalue("spark")  # classic, from before SPARK_REMOTE is set
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(
            "SPARK_REMOTE", f"sc://127.0.0.1:{server.getsockname()[1]}/;token=secret"
        )
        said = refusal(get_session, "x")
    assert re.match(
        r"a session of this process runs, and sc://127.0.0.1:\d+ is asked for", said
    )
    assert spark.range(2).count() == 2


def test_a_missing_library_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "grpc" else find(name)
    )
    with pytest.raises(
        MissingExtraError, match=r"pip install 'sparkstream-kit\[connect\]'"
    ):
        get_session("x", conf={"spark.remote": "sc://127.0.0.1:1"})


SETTINGS = """
import logging
from pathlib import Path
from sparkstream_kit import get_session
from sparkstream_kit.errors import InvalidInputError
logging.basicConfig(format="%(message)s", level=logging.WARNING)
conf = {"spark.sql.shuffle.partitions": "3", "spark.driver.memory": "2g"}
spark = get_session("attached", profile="local", conf=conf)
print(type(spark).__module__)
print(spark.conf.get("spark.sql.shuffle.partitions"), spark.conf.get("spark.sql.session.timeZone"))
try:
    get_session("attached", conf={"spark.sql.warehouse.dir": "/elsewhere"})
except InvalidInputError as err:
    print(err)
spark.stop()

# Values that Spark cannot read, of a profile and of `conf`; then they are corrected.
partitions = "spark.sql.shuffle.partitions"
typo = Path("typo.conf")
for text, value in (("fuor", 5), (6, "abc"), (6, 7)):
    typo.write_text(f"{partitions} {text}\\nspark.sql.session.timeZone Asia/Tokyo")
    try:
        spark = get_session("attached", profile=typo, conf={"spark.sql.ansi.enabled": False})
        get_session("attached", conf={"spark.sql.session.timeZone": "UTC", partitions: value})
    except InvalidInputError as err:
        print(err)
    else:
        print(*(spark.conf.get(key) for key in (partitions, "spark.sql.session.timeZone")))
spark.stop()
"""


TWICE = """
import socket, threading
from sparkstream_kit import get_session, spark_session
from sparkstream_kit.errors import InvalidInputError
spark = get_session("first", profile="local", conf={"spark.sql.shuffle.partitions": "3"})
found = []
thread = threading.Thread(target=lambda: found.append(get_session("second", profile="local")))
thread.start()
thread.join()
with spark_session("inner", profile="cluster") as inner:
    print(inner is spark)
print(found[0] is spark, spark.conf.get("spark.sql.shuffle.partitions"))
with socket.create_server(("127.0.0.1", 0)) as other:
    try:
        get_session("third", conf={"spark.remote": f"sc://127.0.0.1:{other.getsockname()[1]}"})
    except InvalidInputError as err:
        print(err)
"""


@pytest.mark.slow
def test_a_session_that_runs_is_the_same_in_every_thread_and_of_one_server(
    connect, tmp_path
):
    done = attached(connect, tmp_path, TWICE)
    inner, same, refused = done.stdout.splitlines()
    assert (inner, same) == ("True", "True 3")
    assert (
        done.stderr
        == "profile cluster is not applied: a session with profile local runs; call"
        " spark.stop() first\n"
    )
    port = connect.rpartition(":")[2]
    assert refused.startswith(
        f"a session of the server at localhost port {port} runs, and sc://127.0.0.1:"
    )


@pytest.mark.slow
def test_settings_on_a_server(connect, tmp_path):
    done = attached(connect, tmp_path, SETTINGS)
    assert done.returncode == 0, done.stderr
    module, values, refused, *unreadable, corrected = done.stdout.splitlines()
    assert module == "pyspark.sql.connect.session"
    assert values == "3 UTC"
    assert refused.startswith(
        "spark.sql.warehouse.dir=/elsewhere cannot be set in the running session"
    )
    assert refused.endswith("; start the Connect server with it")
    for said, value in zip(unreadable, ("fuor", "abc"), strict=True):
        assert value in said
        assert said.endswith("; correct that setting")
    assert corrected == "7 UTC"
    assert (
        "conf spark.driver.memory=2g is not in force: the Spark Connect server has"
        " its own" in done.stderr
    )
