"""Connectors by their names: what spark-submit and a session get, and wrong names.

A wrong name is answered with a message.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError

import pyspark
import pytest
from conftest import environment, process, refusal

from sparkstream_kit import get_session
from sparkstream_kit.cli import main
from sparkstream_kit.connectors import _packages

KAFKA = (
    *("spark-sql-kafka-0-10_2.13", "spark-token-provider-kafka-0-10_2.13"),
    *("kafka-clients", "commons-pool2"),
)


@pytest.fixture(autouse=True)
def no_jars(monkeypatch):
    """Without a folder of jars, whatever the machine has; a test may name one."""
    monkeypatch.delenv(_packages.JARS, raising=False)


@pytest.mark.parametrize("version", ["4.1", "4.2"])
def test_each_spark_has_packages_of_its_own(version):
    found = _packages.needed(["kafka", "delta"], f"{version}.0")["spark.jars.packages"]
    kafka = f"org.apache.spark:spark-sql-kafka-0-10_2.13:{version}.0"
    assert found == f"{kafka},io.delta:delta-spark_{version}_2.13:4.4.0"


def test_what_is_given_stays_and_nothing_comes_twice():
    given = {"spark.sql.extensions": "org.example.Mine", "spark.jars.packages": "a:b:1"}
    found = _packages.needed(["delta", "delta"], "4.2.0", given)
    assert (
        found["spark.sql.extensions"]
        == "org.example.Mine,io.delta.sql.DeltaSparkSessionExtension"
    )
    assert found["spark.jars.packages"] == "a:b:1,io.delta:delta-spark_4.2_2.13:4.4.0"


@pytest.mark.parametrize(
    "key", ["spark.sql.catalog.spark_catalog", "spark.delta.logStore.file.impl"]
)
def test_a_setting_that_holds_one_value_is_not_made_a_list(key):
    needs = _packages.connectors()["delta"].settings[key]
    assert _packages.needed(["delta"], "4.2.0", {key: needs})[key] == needs
    said = refusal(_packages.needed, ["delta"], "4.2.0", {key: "org.example.Mine"})
    assert re.search(
        rf"^connector delta needs {key}={needs}, and not org\.example\.Mine; ", said
    )


# Jars without a class of Delta's: the session starts, and is refused for the lack of
# it.
LISTS = """
from pathlib import Path
from sparkstream_kit import get_session
from sparkstream_kit.errors import InvalidInputError

Path("mine.conf").write_text("spark.sql.extensions org.example.Mine\\nspark.jars mine.jar\\n")
how = {"profile": "mine.conf", "conf": {"spark.ui.enabled": False}}
try:
    get_session("lists", **how, connectors=["delta"])
except InvalidInputError as err:
    assert "Spark has no connector delta" in str(err), err
spark = get_session("lists", **how)  # which asks for what it has
print(*(spark.conf.get(key) for key in ("spark.sql.extensions", "spark.jars")), sep="\\n")
"""


@pytest.mark.slow
def test_a_connector_is_added_to_the_lists_of_the_user(tmp_path):
    names = ["mine.jar", "delta-spark_4.2_2.13-4.4.0.jar", "delta-storage-4.4.0.jar"]
    for name in names:
        (tmp_path / name).touch()
    given = environment(SPARKSTREAM_JARS=str(tmp_path))
    done = process([sys.executable, "-c", LISTS], cwd=tmp_path, env=given)
    assert done.returncode == 0, done.stderr
    extensions, jars = done.stdout.splitlines()
    assert extensions == "org.example.Mine,io.delta.sql.DeltaSparkSessionExtension"
    assert [re.sub(".*/", "", jar) for jar in jars.split(",")][:3] == names


@pytest.mark.parametrize(
    ("older", "later"), [("4.1.2", "4.2.0"), ("3.9.1", "3.10.0"), ("4.2.9", "4.2.10")]
)
def test_of_two_versions_in_a_folder_the_later_is_taken(
    older, later, tmp_path, monkeypatch
):
    for name in KAFKA:
        for version in (older, later):
            (tmp_path / f"{name}-{version}.jar").touch()
    monkeypatch.setenv(_packages.JARS, str(tmp_path))
    found = _packages.needed(["kafka"], "4.2.0")
    assert found == {
        "spark.jars": ",".join(f"{tmp_path}/{name}-{later}.jar" for name in KAFKA)
    }


def test_what_cannot_be_had_is_one_line():
    said = (
        "connector delta has no package for Spark 4.9.0; use Spark 4.1 or 4.2, or name"
        " a folder"
    )
    assert said in refusal(_packages.needed, ["delta"], "4.9.0")


def test_the_newest_spark_of_a_connector_is_named_by_its_number(monkeypatch):
    versions = {
        spark: {"delta": delta}
        for spark, delta in (("4.9", "1"), ("4.10", "1"), ("4.11", ""))
    }
    monkeypatch.setattr(_packages, "versions", lambda: versions)
    assert "; use Spark 4.9 or 4.10, or name a folder" in refusal(
        _packages.needed, ["delta"], "5.0.0"
    )


def test_a_folder_without_a_jar_is_one_line(tmp_path, monkeypatch):
    (tmp_path / f"{KAFKA[0]}-4.2.0.jar").touch()
    monkeypatch.setenv("SPARKSTREAM_JARS", str(tmp_path))
    said = refusal(_packages.needed, ["kafka"], "4.2.0")
    assert f"connector kafka: SPARKSTREAM_JARS={tmp_path} has no {KAFKA[1]}-" in said


@pytest.mark.parametrize("name", sorted(_packages.connectors()))
def test_a_session_that_runs_without_a_connector_says_how_it_comes(spark, name):
    said = refusal(get_session, "later", connectors=[name])
    assert f"Spark has no connector {name}; launch with spark-submit $(" in said


def test_the_command_lists_connectors_and_prints_flags(capsys, monkeypatch):
    monkeypatch.delenv("SPARKSTREAM_JARS", raising=False)
    assert main(["connectors"]) == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == sorted(_packages.connectors())
    assert main(["connectors", "avro"]) == 0
    assert capsys.readouterr().out.split()[0] == "--packages"
    assert main(["connectors", "kafak"]) == 2
    assert "unknown connector kafak; did you mean kafka?" in capsys.readouterr().err


def test_the_version_is_known_of_a_pyspark_that_was_not_installed(capsys, monkeypatch):
    """As that of a Spark distribution, which is on PYTHONPATH."""

    def no_metadata(name):
        raise PackageNotFoundError(name)

    monkeypatch.delenv("SPARKSTREAM_JARS", raising=False)
    monkeypatch.setattr("importlib.metadata.version", no_metadata)
    assert main(["connectors", "kafka"]) == 0
    assert f":{pyspark.__version__}" in capsys.readouterr().out
