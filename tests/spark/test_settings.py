"""Which texts of a setting are one, as Spark keeps some in a form of its own; and settings for a block."""

import pytest
from pyspark import SparkContext

from sparkstream_kit._spark.session import in_force, same_setting, shown_setting


@pytest.mark.classic_only("asks Spark's own JVM what a setting holds")
@pytest.mark.parametrize(
    ("key", "wanted", "actual", "one"),
    [
        ("spark.driver.memory", "1g", "1024m", True),
        ("spark.driver.memory", "1024", "1G", True),  # a number alone is one of MB there
        ("spark.driver.memory", "1g", "1000m", False),
        ("spark.driver.maxResultSize", "1g", "1073741824", True),  # and here of bytes
        ("spark.network.timeout", "120", "2min", True),
        ("spark.network.timeout", "120ms", "120", False),
        ("spark.executor.heartbeatInterval", "10s", "10000", True),
        ("spark.ui.enabled", "TRUE", "true", True),
        ("spark.ui.enabled", "true", "false", False),
        ("spark.extraListeners", "a.B, c.D", "a.B,c.D", True),
        ("spark.extraListeners", "a.B", "c.D", False),
        ("spark.driver.cores", "02", "2", True),
        ("spark.driver.cores", "many", "2", False),
        ("spark.no.such.key", "a", "a", True),
        ("spark.no.such.key", "a", "b", False),
    ],
)
def test_sizes_times_lists_and_flags(spark, key, wanted, actual, *, one):
    jvm = SparkContext._jvm  # noqa: SLF001
    assert same_setting(key, wanted, actual, jvm) == same_setting(key, actual, wanted, jvm) == one


@pytest.mark.parametrize(
    ("key", "wanted", "actual", "one"),
    [
        ("spark.jars", "/opt/x.jar", "file:///opt/x.jar", True),
        ("spark.jars", "/opt/x.jar", "file:/opt/x.jar", True),
        ("spark.jars", "file:/opt/x.jar", "file:///opt/x.jar", True),
        ("spark.jars", "/opt/a b.jar", "file:///opt/a%20b.jar", True),
        ("spark.jars", "x.jar", "file://{here}/x.jar", True),
        ("spark.jars", "*.jar", "file://{here}/x.jar,file://{here}/y.jar", True),
        ("spark.jars", "link.jar", "file://{here}/x.jar", True),
        ("spark.jars", "x.jar,y.jar", "file://{here}/y.jar, file://{here}/x.jar", True),
        ("spark.jars", "x.jar", "file:/root/.ivy2/of-a-package.jar,file://{here}/x.jar", True),
        ("spark.jars", "x.jar,z.jar", "file://{here}/x.jar", False),
        ("spark.jars", "hdfs://host/x.jar", "hdfs://host/x.jar", True),
        ("spark.jars", "hdfs://host/x.jar", "hdfs://other/x.jar", False),
        ("spark.files", "/a.txt", "file:///a.txt", True),
        ("spark.submit.pyFiles", "/a.zip", "file:///a.zip", True),
        ("spark.archives", "/a.zip#name", "file:///a.zip#name", True),
        ("spark.archives", "/a.zip#name", "file:///a.zip#other", False),
        ("spark.sql.warehouse.dir", "tables", "file:{here}/tables", True),
        ("spark.sql.warehouse.dir", "tables", "file:{here}/other", False),
        ("spark.sql.warehouse.dir", "tables", "file:{here}/tables,file:/more", False),
    ],
)
def test_paths(  # on Connect too, where no JVM can be asked
    tmp_path, monkeypatch, key, wanted, actual, *, one
):
    monkeypatch.chdir(tmp_path)
    for name in ("x.jar", "y.jar"):
        (tmp_path / name).touch()
    if "link" in wanted:
        (tmp_path / "link.jar").symlink_to("x.jar")
    assert same_setting(key, wanted, actual.format(here=tmp_path)) == one


def test_a_secret_is_not_shown():
    for key in (
        "spark.hadoop.fs.s3a.secret.key",
        "spark.ssl.keyPassword",
        "spark.x.accessKey",
        "spark.y.token",
    ):
        assert shown_setting(key, "hush") == f"{key}=(hidden)"
    assert (
        shown_setting("spark.app.name", "postgresql://kit:hush@h/d")
        == "spark.app.name=postgresql://kit:***@h/d"
    )


def test_after_a_block_a_session_has_its_own_settings_again(spark):
    mine, new, partitions = "spark.kit.mine", "spark.kit.new", "spark.sql.shuffle.partitions"
    before = spark.conf.get(partitions)
    spark.conf.set(mine, "a")
    try:
        with pytest.raises(ZeroDivisionError), in_force(spark, {mine: "b", new: "c", partitions: None}):
            assert [spark.conf.get(key) for key in (mine, new, partitions)] == ["b", "c", "200"]
            _ = 1 / 0
        assert [spark.conf.get(key, None) for key in (mine, new, partitions)] == ["a", None, before]
    finally:
        spark.conf.unset(mine)
