"""How connectors come to Spark, and what is said without them.

They come under python, spark-submit and Spark Connect.
"""

import os
import sys

import pytest
from conftest import process

SUBMIT = f"{sys.prefix}/bin/spark-submit"
PROGRAM = """
import sys
from sparkstream_kit import jobflags, spark_session

@jobflags.exit_codes
def main(argv=None):
    with spark_session("connectors", profile="test", connectors=["kafka", "delta"]) as spark:
        path = sys.argv[1]
        spark.range(3).write.format("delta").save(path)
        print(spark.read.format("delta").load(path).count())
        print(spark.read.format("kafka").option("kafka.bootstrap.servers", "localhost:1")
            .option("subscribe", "t").load().columns)
    return 0

if __name__ == "__main__":
    sys.exit(main())
"""
SHOWS = (
    "3\n['key', 'value', 'topic', 'partition', 'offset', 'timestamp',"
    " 'timestampType']\n"
)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_python_gives_spark_the_jars_of_a_folder(program, tmp_path):
    done = run(sys.executable, program, tmp_path / "table")
    assert (done.returncode, done.stdout) == (0, SHOWS), done.stderr


def test_spark_submit_takes_what_the_command_prints(program, tmp_path):
    flags = run("sparkstream", "connectors", "kafka", "delta").stdout.split()
    done = run(SUBMIT, *flags, program, tmp_path / "table")
    assert (done.returncode, done.stdout) == (0, SHOWS), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "jars"), [("kafka", "none.jar"), ("delta", "*.jar")]
)
def test_spark_submit_without_jars_or_their_settings_is_one_line(
    missing, jars, program, tmp_path, connector_jars
):
    files = ",".join(map(str, connector_jars.glob(jars)))
    done = run(
        SUBMIT, *(["--jars", files] if files else []), program, tmp_path / "table"
    )
    assert done.returncode == 2
    assert (
        f"program.py: Spark has no connector {missing}; launch with spark-submit $("
        in done.stderr
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif("SPARK_REMOTE" in os.environ, reason="it serves for itself")
def test_a_warm_server_has_them_too(program, tmp_path, free_port):
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    port = ("--port", str(free_port))
    serve = ("sparkstream", "serve", "start", "--profile", "test", *port)
    try:
        served = run(*serve, "--connectors", "kafka,delta", **env)
        assert served.returncode == 0, served.stderr
        remote = served.stdout.strip().partition("=")[2]
        done = run(
            sys.executable, program, tmp_path / "table", SPARK_REMOTE=remote, **env
        )
        assert (done.returncode, done.stdout) == (0, SHOWS), done.stderr
        other = run(*serve, "--connectors", "kafka,avro", **env, SPARKSTREAM_JARS="")
        assert other.returncode == 2
        assert (
            f" and without connector avro runs on port {free_port}; end it first"
            in other.stderr
        )
    finally:
        run("sparkstream", "serve", "stop", *port, **env)


def run(*command, **env):
    return process(command, env=os.environ | env)
