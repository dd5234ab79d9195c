"""What a query reads, as Spark numbers it: lines of plans, and logs of sources."""

import json
import shutil
from collections.abc import Callable

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from support.checkpoint_queries import land, run, stream

from sparkstream_kit import checkpoints, sources
from sparkstream_kit._internal.spark import logical_plan
from sparkstream_kit._internal.spark.place import Place
from sparkstream_kit.checkpoints.logs import Logs, of_batch


class Far(Place):
    """A checkpoint on another file system, as a batch sees it: names, and copies by name."""

    def __init__(self, root):
        super().__init__(f"hdfs://{root}")
        self._root = root

    def names(self, name=""):
        return [path.name for path in (self._root / name).iterdir()]

    def bring(self, name, to):
        if (self._root / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._root / name, to / name)


def with_itself(frame):
    left = frame.withWatermark("time", "1 minute")
    right = left.selectExpr("key AS k", "time AS at", "n AS m")
    return left.join(right, F.expr("key = k AND time = at AND n = m")).select(
        *frame.columns
    )


SHAPES: dict[str, Callable[[DataFrame, DataFrame], DataFrame]] = {
    "a": lambda a, _: a,
    "aab": lambda a, b: a.union(a).union(b),
    "aba": lambda a, b: a.union(b).union(a),
    "a joined with itself, b": lambda a, b: with_itself(a).union(b),
    "b, a joined with itself": lambda a, b: b.union(with_itself(a)),
}


@pytest.mark.fast("a", "aba", "b, a joined with itself")
@pytest.mark.parametrize("shape", SHAPES)
def test_each_place_of_a_source_has_its_line_and_its_log(spark, tmp_path, shape):
    land(tmp_path / "a", 0, 1, 2)
    land(tmp_path / "b", 0)
    frame = SHAPES[shape](stream(spark, tmp_path / "a"), stream(spark, tmp_path / "b"))
    run(frame, tmp_path / "ckpt", "append")
    logs = Logs(tmp_path / "ckpt")
    last = logs.last_plan
    assert last is not None
    by_line = {
        place: each for each in logical_plan.inputs_of(frame) for place in each.places
    }
    assert sorted(by_line) == [*range(len(last.offsets))]
    for place, each in by_line.items():
        until = {"a": 2, "b": 0}[str(each.path)[-1]]
        assert last.offsets[place] == json.dumps(
            {"logOffset": until}, separators=(",", ":")
        )
        assert {
            str(file.path).rpartition("/")[0] for file in logs.inputs(each.log)
        } == {each.path}


def test_a_source_that_is_read_twice_beside_another_kind_is_no_damage(spark, tmp_path):
    land(tmp_path / "a", 0)
    files = stream(spark, tmp_path / "a").select("key")
    rows = files.union(files).union(
        sources.rate(spark).selectExpr("CAST(value AS STRING)")
    )
    for number in range(2):  # the second start looks at the logs of the first
        land(tmp_path / "a", number + 1)
        run(rows, tmp_path / "ckpt", "append")
    logs = Logs(tmp_path / "ckpt")
    last = logs.last_plan
    assert last is not None
    assert logs.names(last)[:2] == ("0", "0")
    assert len(logs.sources) == 2
    assert [*logs.until_planned] == ["0"]
    assert checkpoints.check(tmp_path / "ckpt") == []
    # What a sink with a ledger looks at
    with of_batch(Far(tmp_path / "ckpt"), logs.done) as there:
        assert [*there.until(logs.done)] == ["0"]


@pytest.mark.parametrize(
    "left", [b"", b"v1", bytes(9)], ids=["empty", "short", "zeros"]
)
def test_the_log_of_a_source_that_is_read_twice_is_known_by_what_a_power_cut_leaves(
    spark, tmp_path, left
):
    land(tmp_path / "a", 0, 1)
    land(tmp_path / "b", 0)
    a, b = stream(spark, tmp_path / "a"), stream(spark, tmp_path / "b")
    run(a.union(a).union(b), tmp_path / "ckpt", "append")
    (tmp_path / "ckpt" / "sources" / "0" / "1").write_bytes(left)
    logs = Logs(tmp_path / "ckpt")
    assert logs.last_plan is not None
    assert logs.names(logs.last_plan) == ("0", "0", "1")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_text_of_a_plan_says_the_same(spark, tmp_path, shape):
    """Spark Connect shows no more than this."""
    frames = {}
    for name in "ab":
        (tmp_path / name).mkdir()
        frames[name] = stream(spark, tmp_path / name)
    frame = SHAPES[shape](frames["a"], frames["b"])
    assert logical_plan.inputs_in_text(
        logical_plan.analyzed_plan(frame.select("*"))
    ) == logical_plan.inputs_of(frame)


def test_what_is_no_folder_is_told_by_its_kind_and_options(spark):
    lines = sources.socket_lines(spark, "localhost", 9999)
    both = lines.union(lines).union(
        sources.rate(spark).selectExpr("CAST(value AS STRING)")
    )
    server, rate = logical_plan.inputs_of(both)
    assert (server.kind, server.path, server.places) == ("socket", None, (0, 1))
    assert str(server) == "socket localhost:9999"
    assert server.options["port"] == "9999"
    assert (rate.kind, rate.log, rate.places) == ("rate", "1", (2,))
