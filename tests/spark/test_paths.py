"""Which file system a path is of, where the default one is not that of this machine."""

import json
import uuid
from typing import Any

import pytest
from conftest import refusal
from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer

from sparkstream_kit import feeds, joins, models, run, sinks, sources, start
from sparkstream_kit.errors import InvalidInputError

pytestmark = pytest.mark.classic_only("Spark Connect has no JVM in reach")


@pytest.mark.fast("by_watermark-file://")
@pytest.mark.parametrize("local", ["file:", "file://"])
@pytest.mark.parametrize(
    "kind", ["batch_files", "by_watermark", "files", "scorer", "reloading"]
)
def test_a_path_with_file_is_of_this_machine(spark, tmp_path, hadoop, kind, local):
    # No part of it is to be taken for a pattern, or for an escape
    here = tmp_path / "a b%20c [1]"
    out, given = here / "out", f"{local}{here}"
    model = PipelineModel(
        stages=[SQLTransformer(statement="SELECT *, 'x' AS more FROM __THIS__")]
    )
    if kind == "scorer":
        models.publish(model, f"{given}/models", "1")
    rows = sinks.batch_files(f"{given}/out", format="json")
    late = sinks.batch_files(f"{given}/late", format="json")
    sink = {
        "batch_files": rows,
        "by_watermark": sinks.by_watermark("time", on_time=rows, late=late),
        "files": sinks.files(f"{given}/out", format="json"),
        "scorer": rows.taking(models.scorer(f"{given}/models")),
        "reloading": rows.taking(
            joins.reloading(
                "t", lambda session: session.sql("SELECT 1 AS n, 'x' AS more"), on="n"
            )
        ),
    }[kind]

    def written(folder, **more):
        frame = sources.csv(spark, f"{given}/{folder}", schema="n INT, time TIMESTAMP")
        frame = frame.withWatermark("time", "1 day")
        run(
            start(
                frame,
                sink,
                name="q",
                checkpoint=f"{given}/ckpt",
                availableNow=True,
                **more,
            )
        )
        lines = [
            line
            for part in out.rglob("part-*")
            for line in part.read_text().splitlines()
        ]
        return sorted(json.loads(line)["n"] for line in lines)

    hadoop.set("fs.defaultFS", "hdfs://host:8020")
    feeds.drip([("1.csv", "1,2026-01-01\n")], here / "in")
    assert written("in") == [1]
    (here / "in").rename(here / "moved [2]")
    feeds.drip([("2.csv", "2,2026-01-01\n")], here / "moved [2]")
    assert written("moved [2]", moved={f"{given}/in": f"{given}/moved [2]"}) == [1, 2]


@pytest.mark.slow
def test_a_path_without_scheme_is_where_spark_takes_it(
    spark, tmp_path, hadoop, monkeypatch
):
    host = f"kit{uuid.uuid4().hex}"  # Hadoop keeps a file system by its host
    hadoop.set(f"fs.viewfs.mounttable.{host}.link./user", (tmp_path / "far").as_uri())
    hadoop.set("fs.defaultFS", f"viewfs://{host}")
    hadoops: Any = spark._jvm.org.apache.hadoop.security.UserGroupInformation  # noqa: SLF001
    # Whom Hadoop takes this user for
    far = tmp_path / "far" / hadoops.getCurrentUser().getUserName()
    (tmp_path / "[here]").mkdir()
    monkeypatch.chdir(tmp_path / "[here]")

    def written(path):
        how: Any = {
            "name": "q",
            "checkpoint": f"file://{tmp_path}/ckpt",
            "availableNow": True,
        }
        run(start(sources.text(spark, path), sinks.files("out"), **how))
        return spark.read.parquet("out").count()

    feeds.drip([("1.txt", "a\n"), ("2[3].txt", "b\n")], far / "in")
    assert written("in") == 2
    feeds.drip([("4.txt", "c\n")], far / "in")
    assert written("i?") == written("in") == 3
    assert (far / "out").is_dir()
    how: Any = {"name": "q", "checkpoint": f"file://{tmp_path}/new"}
    with pytest.raises(
        InvalidInputError, match="batch_files out: only a local path and hdfs:// have"
    ):
        start(sources.text(spark, "in"), sinks.batch_files("out"), **how)
    assert list((tmp_path / "[here]").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("s3a:bucket", "path s3a:bucket is misspelt; write s3a://bucket"),
        ("hdfs:in/a", "path hdfs:in/a is misspelt; write hdfs://in/a"),
        ("file:in", "path file:in is misspelt; write file:///in"),
        (
            "caf\udce9",
            (
                "path caf\\udce9 is not UTF-8 here; set LC_ALL=C.UTF-8, or give it"
                " another name"
            ),
        ),
    ],
)
def test_a_path_that_java_cannot_read_is_one_line(
    spark, tmp_path, monkeypatch, path, says
):
    monkeypatch.chdir(tmp_path)
    rows = spark.readStream.format("rate").load()
    for call in (
        lambda: sources.text(spark, path),
        lambda: start(rows, sinks.console(), name="q", checkpoint=path),
        lambda: start(
            rows, sinks.console(), name="q", checkpoint="new", continues=path
        ),
        lambda: start(rows, sinks.files(path), name="q", checkpoint="new"),
    ):
        assert refusal(call) == says
