"""Sources with names (`readStream.name()`): Spark 4.2 keeps logs by name, and offsets, too, if asked."""

import functools
import re

import pytest
from conftest import BEFORE_4_2, refusal
from pyspark.sql import functions as F
from support.checkpoint_queries import SCHEMA, land
from support.checkpoint_queries import run as run_plainly
from support.sink_streams import forget_commit

from sparkstream_kit import checkpoints, sinks
from sparkstream_kit._spark.place import locate
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.lost import Source
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.operate.check import damage

pytestmark = pytest.mark.skipif(BEFORE_4_2, reason="readStream.name() is in Spark 4.2 and later")

FORMAT = "spark.sql.streaming.offsetLog.formatVersion"
BY_PLACE, BY_NAME = "1", "2"  # how a line of offsets/N says which source it is of


@pytest.fixture(params=[BY_PLACE, BY_NAME])
def named(as_local, request):
    """A session of the profile `local` that takes names of sources."""
    as_local.conf.set("spark.sql.streaming.queryEvolution.enableSourceEvolution", "true")
    as_local.conf.set(FORMAT, request.param)
    return as_local


@pytest.mark.classic_only("PySpark has no call yet that names a sink")
def test_a_checkpoint_of_a_sink_with_a_name(as_local, tmp_path):
    as_local.conf.set("spark.sql.streaming.queryEvolution.enableSinkEvolution", "true")
    land(tmp_path / "in", 0, 1)
    counts = as_local.readStream.schema(SCHEMA).json(str(tmp_path / "in")).groupBy("key").count()
    writer = counts.writeStream.format("noop").outputMode("complete").trigger(availableNow=True)
    writer._jwrite.name("totals")  # noqa: SLF001
    query = writer.start(checkpointLocation=str(tmp_path / "ckpt"))
    query.awaitTermination()
    assert (tmp_path / "ckpt/commits/0").read_text().startswith("v3\n")
    assert checkpoints.check(tmp_path / "ckpt") == []
    assert checkpoints.show(tmp_path / "ckpt").committed == 0


@pytest.fixture
def total(named, tmp_path, finish):
    """Total the folders of two named sources from the checkpoint `ckpt`, to the end of their input."""

    def go_on(folders=None, **options):
        found: dict[str, int] = {}

        def keep(batch, _batch_id):
            found.update({row.key: row.n for row in batch.collect()})

        frame = summed(named, tmp_path, folders or NAMES)
        finish(frame, sinks.foreach_batch(keep), "complete", **options)
        return found

    land(tmp_path / "lines", 0, 1, 2)
    land(tmp_path / "Other", 5)
    return go_on


NAMES = {"lines": "lines", "Other": "Other"}  # the names of sources, and of the folders that they read


def summed(spark, root, folders):
    frames = [
        spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).name(name).json(str(root / folder))
        for name, folder in folders.items()
    ]
    rows = functools.reduce(lambda one, other: one.union(other), frames)
    return rows.groupBy("key").agg(F.sum("n").alias("n"))


def sums(*numbers):
    return {key: sum(10 * number + i for number in numbers) for i, key in enumerate("abc")}


@pytest.mark.fast("2")
def test_a_query_goes_on_and_its_checkpoint_is_read(total, tmp_path):
    assert total() == sums(0, 1, 2, 5)
    land(tmp_path / "lines", 3)
    assert total() == sums(0, 1, 2, 3, 5)
    shown = checkpoints.show(tmp_path / "ckpt")
    assert {source.name: (source.folder, source.planned) for source in shown.sources} == {
        "lines": (str(tmp_path / "lines"), "3"),
        "Other": (str(tmp_path / "Other"), "0"),
    }
    assert f"source lines  files of {tmp_path}/lines, offset 3\n" in str(shown)
    assert (shown.damage, checkpoints.check(tmp_path / "ckpt")) == (None, [])


@pytest.mark.fast("2-lines")
@pytest.mark.parametrize("name", ["lines", "Other"])
def test_what_is_missing_of_a_log_is_said(total, tmp_path, name):
    total()
    last = max((tmp_path / "ckpt/sources" / name).glob("[0-9]*"))
    last.unlink()
    assert f"sources/{name}/{last.name} is missing; restore it" in str(damage(Logs(tmp_path / "ckpt")))
    assert f"sources/{name}/{last.name} is missing" in refusal(total)


@pytest.mark.fast("2")
def test_a_rewind_and_a_copy_bring_the_same_rows(named, total, tmp_path):
    total()
    checkpoints.clone(tmp_path / "ckpt", tmp_path / "copy")
    assert checkpoints.check(tmp_path / "copy") == []
    rewound = checkpoints.rewind(tmp_path / "ckpt", to=0, apply=True)
    assert [each.path for each in rewound.inputs] == [str(tmp_path / f"lines/{n} é%.json") for n in (1, 2)]
    assert checkpoints.check(tmp_path / "ckpt") == []
    if named.conf.get(FORMAT) == BY_NAME:  # Spark 4.2 fails when it runs a batch again: "None.get"
        return
    land(tmp_path / "lines", 3)
    land(tmp_path / "Other", 6)
    assert total() == sums(0, 1, 2, 3, 5, 6)


@pytest.mark.slow
def test_a_folder_that_has_moved(total, tmp_path):
    total()
    (tmp_path / "lines").rename(tmp_path / "moved")
    land(tmp_path / "moved", 3)
    with pytest.raises(InvalidInputError, match=f"source lines .* has read files of {tmp_path}/lines, and"):
        total(NAMES | {"lines": "moved"})
    moved = {tmp_path / "lines": tmp_path / "moved"}
    assert total(NAMES | {"lines": "moved"}, moved=moved) == sums(0, 1, 2, 3, 5)
    land(tmp_path / "moved", 4)
    assert total(NAMES | {"lines": "moved"}) == sums(0, 1, 2, 3, 4, 5)


@pytest.mark.fast("2")
def test_folders_that_have_changed_places_are_refused(total):
    total()
    said = refusal(total, {"lines": "Other", "Other": "lines"})
    assert re.search("source (lines .* source Other|Other .* source lines) of this", said)


@pytest.mark.fast("2")
def test_the_order_of_sources_counts_where_the_checkpoint_has_no_names(named, total, tmp_path):
    total()
    land(tmp_path / "Other", 6)
    turned = dict(reversed(NAMES.items()))
    if named.conf.get(FORMAT) == BY_NAME:
        assert total(turned) == sums(0, 1, 2, 5, 6)
        return
    for allow in (False, True):
        assert "reads the sources lines, Other, in this order, and this" in refusal(
            total, turned, allow_changed_query=allow
        )
    assert total() == sums(0, 1, 2, 5, 6)


def test_what_was_lost_is_said_of_the_right_source(named, total, tmp_path):
    total()
    forget_commit(tmp_path / "ckpt")
    gone, changed = tmp_path / "lines/2 é%.json", tmp_path / "Other/5 é%.json"
    gone.unlink()
    changed.write_text("{}")
    (problem,) = checkpoints.check(tmp_path / "ckpt")
    assert str(problem).startswith(f"{gone} is planned to be read and has gone")
    source = Source(named, "Other", f"file:{tmp_path}/Other", {})
    source.read(locate(named, tmp_path / "ckpt"))
    source.done = 0
    (said,) = source.findings(tmp_path / "ckpt", set())
    assert said.startswith(f"{changed}: changed after it was read")


@pytest.mark.fast("2")
def test_a_checkpoint_of_plain_spark_is_taken_over(named, total, tmp_path):
    sums_by_key = summed(named, tmp_path, NAMES)
    run_plainly(sums_by_key, tmp_path / "ckpt", "complete")
    shown = checkpoints.show(tmp_path / "ckpt")
    assert {source.name: source.folder for source in shown.sources} == {
        name: str(tmp_path / name) for name in NAMES
    }
    assert checkpoints.check(tmp_path / "ckpt") == []
    land(tmp_path / "Other", 6)
    assert total() == sums(0, 1, 2, 5, 6)
