"""Which texts of a setting are one, as Spark keeps some in its own form.

Other tests are of settings for a block.
"""

import pytest

from sparkstream_kit._internal.spark.session import (
    in_force,
    same_setting,
    shown_setting,
)


@pytest.mark.parametrize(
    ("key", "wanted", "actual", "one"),
    [
        ("spark.driver.memory", "1g", "1g", True),
        ("spark.driver.memory", "1g", "1000m", False),
        (
            "spark.jars",
            "x.jar, lib/y.jar",
            "file://{here}/lib/y.jar,file://{here}/x.jar",
            True,
        ),
        (
            "spark.jars",
            "x.jar",
            "file:/root/.ivy2/of-a-package.jar,file://{here}/x.jar",
            True,
        ),
        ("spark.jars", "x.jar,z.jar", "file://{here}/x.jar", False),
        ("spark.jars", "hdfs://host/x.jar", "hdfs://other/x.jar", False),
        ("spark.archives", "/a.zip#name", "file:///a.zip#other", False),
        ("spark.sql.warehouse.dir", "tables", "file:{here}/tables", True),
    ],
)
def test_a_setting_that_spark_has_is_known(
    tmp_path, monkeypatch, key, wanted, actual, *, one
):
    monkeypatch.chdir(tmp_path)
    assert same_setting(key, wanted, actual.format(here=tmp_path)) == one


def test_a_secret_is_not_shown():
    for key in (
        "hadoop.fs.s3a.secret.key",
        "ssl.keyPassword",
        "x.accessKey",
        "y.token",
    ):
        assert shown_setting(f"spark.{key}", "hush") == f"spark.{key}=(hidden)"
    assert (
        shown_setting("spark.x", "postgresql://kit:hush@h/d")
        == "spark.x=postgresql://kit:***@h/d"
    )


def test_after_a_block_a_session_has_its_own_settings_again(spark):
    mine, new, partitions = (
        "spark.kit.mine",
        "spark.kit.new",
        "spark.sql.shuffle.partitions",
    )
    before = spark.conf.get(partitions)
    spark.conf.set(mine, "a")
    try:
        with (
            pytest.raises(ZeroDivisionError),
            in_force(spark, {mine: "b", new: "c", partitions: None}),
        ):
            assert [spark.conf.get(key) for key in (mine, new, partitions)] == [
                "b",
                "c",
                "200",
            ]
            _ = 1 / 0
        assert [spark.conf.get(key, None) for key in (mine, new, partitions)] == [
            "a",
            None,
            before,
        ]
    finally:
        spark.conf.unset(mine)
