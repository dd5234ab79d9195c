"""Each step of `shadow` by itself, on checkpoints that are written by hand.

Spark runs no batch here: the test gives the sink the rows, and commits the batch.
"""

from functools import partial
from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F
from support.checkpoint_files import (
    commit,
    entry,
    noted,
    place,
    plan,
    put,
    until,
    whole_checkpoint,
)

from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.fingerprint import fingerprint
from sparkstream_kit.checkpoints.guard import Change, StartingQuery
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.checkpoints.operate import replay
from sparkstream_kit.checkpoints.operate import shadow as module
from sparkstream_kit.checkpoints.operate.comparison import Compared
from sparkstream_kit.checkpoints.operate.replay import InputSplit, Unreadable
from sparkstream_kit.checkpoints.operate.shadow import (
    Planned,
    Shadow,
    _Batch,
    _changes_batches,
    _checkpoint_line,
    _depends_on_batches,
    _discard,
    _refuse_unsteady,
    _Replay,
    _Schedule,
    _sink_line,
    dry,
    planned,
    shadow,
)
from sparkstream_kit.sinks import BatchSink, SparkSink, fan_out
from sparkstream_kit.sinks.base import Opening, Target


def query(frame, mode="append", name="q"):
    return StartingQuery(frame, name, mode, False, {})


@pytest.fixture
def root(tmp_path, folder):
    """A checkpoint that has read four files of the folder in four batches."""
    return whole_checkpoint(tmp_path / "ckpt", 4, folder)


def sink(open=lambda *_: print, kind="kept", **more):  # noqa: A002 - as of the class
    modes = ("append", "update", "complete")
    return BatchSink(kind=kind, modes=modes, promise="once", open=open, **more)


# --- what is told


def test_a_planned_query_is_told_line_by_line():
    says = (("mode", "append"), ("checkpoint", "ckpt (new)"), ("a long label", "x"))
    assert str(Planned("q", says)) == (
        "query q\n  mode       append\n  checkpoint ckpt (new)\n  a long labelx"
    )
    assert Planned("q", says).exit_code == 0


no_rows: Any = None  # where they are not looked at


def compared(target, *counts, columns=()):
    rows = (no_rows, no_rows, no_rows, no_rows)
    return Compared(target, (), *rows, columns, counts)


@pytest.mark.parametrize(
    ("tables", "code"),
    [
        ([], 0),
        ([compared("a", 4, 0, 0, 0)], 0),
        ([compared("a", 4, 0, 0, 0), compared("b", 4, 0, 1, 0)], 3),
        ([compared("a", 4, 0, 0, 0, columns=("column n",)), compared("b", 1, 0)], 3),
    ],
    ids=["none", "equal", "a row", "a column"],
)
def test_a_comparison_ends_with_3_if_anything_differs(tables, code):
    assert Shadow("q", (), 7, tuple(tables)).exit_code == code


def test_a_comparison_is_told_target_by_target():
    tables = (
        compared("folder a", 1_000, 0, 0, 0, columns=("column n is only new",)),
        compared("table b", 2, 0, 0, 0),
    )
    assert str(Shadow("q", (), 7, tables, ("a note", "to switch"))) == (
        "query q, compared at batch 7\n"
        "folder a\n"
        "  1,000 equal, 0 differ, 0 only new, 0 only old\n"
        "  column n is only new\n"
        "table b\n"
        "  2 equal, 0 differ, 0 only new, 0 only old\n"
        "a note\n"
        "to switch"
    )


def test_a_dry_run_ends_with_all_queries_and_the_worst_code():
    a, b = Planned("a", ()), Planned("b", ())
    differs = Shadow("c", (), 7, (compared("t", 1, 0, 0, 0, columns=("column n",)),))
    end = dry([a, b])
    assert str(end) == f"{Planned.begins}\nquery a\nquery b"
    assert end.exit_code == 0
    end = dry([a, differs, b])
    assert str(end).startswith(f"{Planned.begins}\n{Shadow.begins}\nquery a\nquery c")
    assert end.exit_code == 3


def test_a_sink_is_told_with_its_targets():
    assert _sink_line(sink()) == "kept: once"
    targets = (Target("folder", "/a"), Target("table", "b"))
    assert _sink_line(sink(writes_to=targets)) == "kept to folder /a, table b: once"


def test_a_checkpoint_is_told_with_where_its_query_stands(tmp_path):
    where = place(tmp_path)
    assert _checkpoint_line(None, None) == "a temporary one, removed at the end"
    assert _checkpoint_line(where, None) == f"{tmp_path} (out of reach from here)"
    assert _checkpoint_line(where, Logs(tmp_path)) == f"{tmp_path} (new)"
    commit(tmp_path, 0)
    assert _checkpoint_line(where, Logs(tmp_path)) == (
        f"{tmp_path} (resumes after batch 0)"
    )


# --- a dry run


def plan_of(
    frame, given, location=None, trigger=None, carried=(), mode="append", *asks
):
    asking, opening = query(frame, mode), Opening(makes=False)

    def of_systems(query):
        assert query is asking
        return asks

    return planned(asking, given, location, trigger or {}, carried, opening, of_systems)


def test_a_dry_run_tells_what_would_run(lines, root, folder):
    noted(root, begins={"t": 3})
    opened = []

    def open_sink(*args):
        opened.append(args)
        return print

    changes = [Change("a log is shorter", print), Change("a folder has moved", print)]
    told = plan_of(
        lines,
        sink(open_sink),
        place(root),
        {"processingTime": "5 seconds"},
        (),
        "append",
        lambda *_: changes,
    )
    assert told.name == "q"
    assert told.says == (
        ("mode", "append"),
        ("sink", "kept: once"),
        ("checkpoint", f"{root} (resumes after batch 3)"),
        ("change", "a log is shorter"),
        ("change", "a folder has moved"),
        ("input", f"files of {folder}"),
        ("trigger", "processingTime=5 seconds"),
    )
    [(_, location, opening)] = opened
    assert location.folder == root
    assert opening.ledgers.begins == {"t": 3}


def test_a_dry_run_of_two_sinks_and_sources_tells_each(spark, lines, tmp_path):
    (tmp_path / "other").mkdir()
    both = lines.union(spark.readStream.text(str(tmp_path / "other")))
    both = both.union(spark.readStream.text(str(tmp_path / "in")))
    parts = (sink(kind="one"), sink(kind="two"))
    told = plan_of(both, sink(parts=parts))
    assert told.says == (
        ("mode", "append"),
        ("sink", "one: once"),
        ("sink", "two: once"),
        ("checkpoint", "a temporary one, removed at the end"),
        ("input", f"files of {tmp_path}/in"),
        ("input", f"files of {tmp_path}/other"),
        ("trigger", "a batch as soon as the last one has ended"),
    )


def test_a_dry_run_of_a_continuation_tells_what_it_does_and_checks_no_more():
    carried = [("continues", "old, after batch 3"), ("build", "nothing")]
    told = plan_of(None, sink(), None, {"once": True}, carried)
    assert told.says == (
        ("mode", "append"),
        ("sink", "kept: once"),
        *carried,
        ("trigger", "once=True"),
    )


def test_in_real_time_a_sink_is_asked_for_its_writer(lines):
    called = []
    given = sink(lambda *_: called.append("open"), realtime=called.append)
    plan_of(lines, given, None, {"realTime": "5 seconds"})
    assert called == [lines]
    called.clear()
    plan_of(lines, given, None, {"once": True})
    assert called == ["open"]
    called.clear()
    no_real_time = sink(lambda *_: called.append("open"))
    plan_of(lines, no_real_time, None, {"realTime": "5 seconds"})
    assert called == ["open"]


def test_a_dry_run_refuses_what_spark_and_the_sink_refuse(lines):
    with pytest.raises(AnalysisException, match="output mode: complete"):
        plan_of(lines, sink(), mode="complete")

    def refuse(*_):
        raise ValueError("no such table")

    with pytest.raises(ValueError, match="no such table"):
        plan_of(lines, sink(refuse))


# --- queries that cannot be compared, or only batch by batch


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("rand(7)", "rand"),
        ("randn()", "randn"),
        ("randstr(5)", "randstr"),
        ("uniform(1, 5)", "uniform"),
        ("uuid()", "uuid"),
        ("shuffle(array(id, 1))", "shuffle"),
        ("monotonically_increasing_id()", "monotonically_increasing_id"),
        ("spark_partition_id()", "spark_partition_id"),
    ],
)
def test_a_function_of_other_results_in_each_run_is_refused(spark, expression, name):
    frame = spark.range(1).selectExpr(expression)
    assert refusal(_refuse_unsteady, query(frame)) == (
        f"query q cannot be compared: {name}() gives other results in each run; leave it"
        " out of the query, or take its value from a column"
    )


def test_a_sample_is_refused_and_other_names_are_not(spark):
    with pytest.raises(Exception, match=r": sample\(\) gives other results"):
        _refuse_unsteady(query(spark.range(9).sample(0.5)))
    names = spark.range(1).selectExpr("id AS rand", "id AS uuid", "id AS Sample")
    _refuse_unsteady(query(names.where("rand > (1)")))


@pytest.mark.parametrize(
    "by_time", ["current_timestamp()", "current_date()", "localtimestamp()", "now()"]
)
def test_a_query_with_the_time_depends_on_its_batches(spark, by_time):
    assert _depends_on_batches(query(spark.range(1).selectExpr(f"{by_time} AS at")))


def test_rows_that_come_from_one_row_do_not_depend_on_batches(spark, lines):
    assert not _depends_on_batches(query(lines.where("value > 'a'").union(lines)))
    assert not _depends_on_batches(
        query(lines.selectExpr("explode(split(value, ' '))"))
    )
    assert not _depends_on_batches(query(lines.crossJoin(spark.range(3))))
    assert _depends_on_batches(query(lines.distinct()))
    other = lines.selectExpr("value AS other")
    assert _depends_on_batches(query(lines.join(other, F.expr("value = other"))))


def test_a_sink_that_changes_batches_is_known():
    plain = sink()
    taking = sink(parts=(plain,))
    several = sink(kind="fan_out", parts=(plain, plain))
    assert [
        _changes_batches(each)
        for each in (
            plain,
            taking,
            several,
            sink(kind="fan_out", parts=(plain,)),
            sink(kind="fan_out", parts=(plain, taking)),
            sink(kind="one", parts=(sink(kind="two", parts=(taking,)),)),
        )
    ] == [False, True, False, False, True, True]


def test_rows_that_are_not_kept_are_computed(spark):
    _discard(spark.range(1), 0)
    with pytest.raises(Exception, match="no such row"):
        _discard(spark.range(1).select(F.raise_error(F.lit("no such row"))), 0)


# --- the run


@pytest.fixture
def trial(lines, root, tmp_path):
    """Return the run of a query over what the checkpoint has read."""

    def make(frame=lines, mode="append", *, changes_batches=False):
        return _Replay(
            query(frame, mode), place(root), Logs(root), tmp_path / "kept", changes_batches
        )  # fmt: skip

    return make


@pytest.fixture
def ran(monkeypatch):
    """Give the sink no rows, and commit what Spark would run; the batches are kept."""
    batches = []

    def run(_query, new_logs, write):
        number = new_logs.planned
        planned = new_logs.plan(number)
        write("rows", number)
        batches.append((number, *planned.offsets, planned.watermark, planned.time))
        commit(new_logs.root, number, 100 * (number + 1))

    monkeypatch.setattr(module, "hand_over", lambda _writer, write: write)
    monkeypatch.setattr(replay, "run_planned", run)
    return batches


def readable(name="t", read=lambda *_: None):
    return sink(kind=name, read=read)


def test_the_sinks_that_can_be_read_back_are_kept_apart(trial, tmp_path, lines):
    run = trial()
    assert run.place_of("rows").text == f"file://{tmp_path}/kept/rows"
    assert run.place_of("rows").folder == tmp_path / "kept/rows"
    for each in (readable("a"), sink(kind="b"), readable("c")):
        write = run.add(each, lines.schema)
        if each.read is None:
            assert write is _discard
    assert [
        (target.sink.kind, target.schema, target.read, target.folder)
        for target in run.targets
    ] == [
        ("a", lines.schema, run.targets[0].sink.read, f"file://{tmp_path}/kept/rows0"),
        ("c", lines.schema, run.targets[1].sink.read, f"file://{tmp_path}/kept/rows1"),
    ]
    assert run.left_out == ["b"]
    assert write == run.targets[1].write


class Reads:
    """A target that the test reads: the first times another batch comes meanwhile."""

    def __init__(self, root, times=0, *, commits=True):
        self.root = root
        self.times = times
        self.commits = commits
        self.calls = []

    def keep_target(self, spark, location):
        assert location.folder == self.root
        self.calls.append(spark)
        if len(self.calls) <= self.times:
            number = 3 + len(self.calls)
            plan(self.root, number, until(3))
            if self.commits:
                commit(self.root, number)


@pytest.mark.parametrize(("times", "last"), [(0, 3), (1, 4), (2, 5)])
def test_the_targets_are_read_between_two_batches(times, last, trial, root, spark):
    run = trial()
    targets = [Reads(root, times), Reads(root)]
    run.targets += targets
    assert run.keep_targets() == last
    assert targets[0].calls == [spark] * (times + 1)
    assert len(targets[1].calls) == times + 1


@pytest.mark.parametrize("meanwhile", [True, False])
def test_targets_that_are_always_being_written_are_refused(
    meanwhile, trial, root, monkeypatch, capsys
):
    monkeypatch.setattr(module, "_AT_REST", 0.01)
    run = trial()
    target = Reads(root, int(meanwhile), commits=False)
    run.targets.append(target)
    if not meanwhile:
        plan(root, 4, until(3))
    assert refusal(run.keep_targets) == (
        f"checkpoint {root}: batch 4 is being written, or was cut off; to compare, stop"
        " its query, or start it once, so that it ends this batch"
    )
    assert len(target.calls) == int(meanwhile)
    assert (
        capsys.readouterr().err
        == "query q: reading its targets between two batches …\n"
    )


def test_a_query_row_by_row_reads_large_batches(trial, root):
    assert trial().planned(3) == _Schedule([], [{"0": until(3)}], range(0))
    (root / "offsets/0").unlink()
    assert trial().planned(2) == _Schedule([], [{"0": until(2)}], range(0))


@pytest.mark.parametrize("sink_changes", [True, False])
def test_any_other_reads_batch_by_batch(sink_changes, trial, lines, root, monkeypatch):
    run = trial(
        lines if sink_changes else lines.distinct(), changes_batches=sink_changes
    )
    assert run.planned(3) == _Schedule([], [{"0": until(0)}], range(1, 4))
    for number in (0, 1):
        (root / f"offsets/{number}").unlink()
    assert run.planned(3) == _Schedule([], [{"0": until(2)}], range(3, 4))
    monkeypatch.setattr(replay, "_MOST_FILES", 2)
    ends = [{"0": until(1)}, {"0": until(2)}]
    assert run.planned(3) == _Schedule([], ends, range(3, 4))


def test_input_that_cannot_be_read_again_is_refused_before_any_is_read(
    trial, lines, folder
):
    (folder / "3.txt").unlink()
    assert trial().planned(2).large == [{"0": until(2)}]
    for frame in (lines, lines.distinct()):
        with pytest.raises(
            Unreadable, match="of the 4 files that it has read have gone"
        ):
            trial(frame).planned(3)


def test_all_sources_are_read_again(trial, spark, lines, root, tmp_path, monkeypatch):
    entry(root, 0, (tmp_path / "in/0.txt", 1), log="1")
    plan(root, 3, until(3), until(0))
    other = spark.readStream.text(str(tmp_path))
    asked = []

    def splits_of(*args, **how):
        asked.append((args[2].log, args[3:], how))
        return [InputSplit(args[2].log, "end", 1, 1, "file")] * 2

    monkeypatch.setattr(replay, "splits_of", splits_of)
    found = trial(lines.union(other))._splits(3, ["moves"])  # noqa: SLF001
    assert [split.log for split in found] == ["0", "0", "1", "1"]
    assert asked == [
        ("0", (until(3), ["moves"]), {"refuses_loss": True}),
        ("1", (until(0), ["moves"]), {"refuses_loss": True}),
    ]


def test_a_large_batch_has_the_time_of_the_last_one_that_it_reads(trial, root):
    for number in range(4):
        plan(root, number, until(number), time=10 + number)
    batches_of = partial(trial()._batches, last=3)  # noqa: SLF001
    seen = Logs(root)
    large = [{"0": until(1)}, {"0": until(2)}]
    assert batches_of(_Schedule([], large, range(3, 4))) == [
        _Batch(large[0], seen.plan(2), is_large=True),
        _Batch(large[1], seen.plan(2), is_large=True),
        _Batch({"0": until(3)}, seen.plan(3), is_large=False),
    ]
    assert batches_of(_Schedule([], large, range(0))) == [
        _Batch(ends, seen.plan(3), is_large=True) for ends in large
    ]


def marked(spark, folder, delay):
    rows = spark.readStream.schema("at TIMESTAMP").json(str(folder))
    return rows.withWatermark("at", delay).groupBy("at").count()


MARKS = [0, 11, 12, END]


@pytest.mark.parametrize(
    ("noted_delay", "marks", "changes"),
    [
        ("5 minutes", [0, 11, 12, END], 0),
        ("6 minutes", [0, 100, 200, END], 1),
        (None, [0, 100, 200, END], 3),
    ],
    ids=["the same", "another", "none is noted"],
)
def test_a_batch_has_the_watermark_that_it_had_unless_that_has_changed(
    noted_delay, marks, changes, trial, ran, spark, folder, root, capsys
):
    frame = marked(spark, folder, "5 minutes")
    if noted_delay:
        former = marked(spark, folder, noted_delay)
        noted(root, fingerprint=fingerprint(former, "append"))
    for number, watermark in enumerate(MARKS):
        plan(root, number, until(number), watermark=watermark, time=10 + number)
    came = []
    notes = trial(frame).run(3, lambda _, number: came.append(number))
    assert ran == [
        (number, until(number), marks[number], 10 + number) for number in range(4)
    ]
    assert came == [0, 1, 2, 3]
    assert len(notes) == changes
    assert capsys.readouterr().err == "".join(
        f"query q: running batch {number} of 4 …\n" for number in range(1, 5)
    )


def test_a_watermark_never_goes_back(trial, ran, lines, root, monkeypatch):
    monkeypatch.setattr(replay, "_MOST_FILES", 1)
    for number in (0, 1):
        (root / f"offsets/{number}").unlink()
    plan(root, 2, until(2), watermark=7)
    plan(root, 3, until(3), watermark=8)
    frame = lines.distinct()
    noted(root, fingerprint=fingerprint(frame, "append"))
    trial(frame).run(3, lambda *_: None)
    # In large batches no row is late
    assert [batch[2] for batch in ran] == [0, 0, 0, 8]
    ran.clear()


def test_the_watermark_of_large_batches_is_that_of_the_next_one(
    trial, ran, spark, folder, root, tmp_path
):
    frame = marked(spark, folder, "5 minutes")
    (root / "offsets/0").unlink()
    trial(frame).run(3, lambda *_: None)
    assert [batch[2] for batch in ran] == [0, 100, 200]
    assert Logs(tmp_path / "kept/checkpoint").done == 2


def test_the_reader_is_told_what_was_changed_and_not_compared(trial):
    run = trial()
    run.left_out += ["console", "memory"]
    notes = run._notes  # noqa: SLF001
    changed = [
        "changed: groups by k",
        "not compared: sink console, which cannot be read back",
        "not compared: sink memory, which cannot be read back",
    ]
    large = [{"0": until(1)}, {"0": until(2)}]
    assert [*notes(["groups by k"], _Schedule([], large, range(0)))] == changed
    assert [*notes(["groups by k"], _Schedule([], large, range(1, 3)))] == changed
    run.left_out.clear()
    assert notes([], _Schedule([], large, range(2, 9))) == (
        (
            "the plans of the batches before 1 are no longer kept: their rows were read in"
            " 2 large batches, in which no row is late; what depends on batches can differ"
        ),
    )


# --- all together


@pytest.fixture
def kept(spark, ran, monkeypatch):
    """Give the sink two rows in each batch; its target holds one of them."""
    two = spark.createDataFrame([("a",), ("b",)], "value STRING")
    former: Any = replay.run_planned

    def run(asking, new_logs, write):
        former(asking, new_logs, lambda _, number: write(two, number))

    monkeypatch.setattr(replay, "run_planned", run)
    yield readable("table", lambda *_: two.limit(1))
    for folder in replay.KEPT:
        folder.cleanup()
    replay.KEPT.clear()


@pytest.mark.parametrize("mode", ["append", "complete"])
def test_a_query_is_compared_with_its_targets(mode, kept, lines, root, capsys):
    frame = lines if mode == "append" else lines.groupBy("value").count().drop("count")
    noted(root, mode=mode, fingerprint=fingerprint(frame, mode))
    two = fan_out(kept, sink(kind="console"))
    found = shadow(frame, two, checkpoint=root, name="totals", mode=mode)
    [table] = found.tables
    assert table.counts == (1, 0, 1, 0)
    assert (found.name, found.says, found.batch, found.exit_code) == (
        "totals",
        (),
        3,
        3,
    )
    *notes, switch = found.notes
    assert notes == ["not compared: sink console, which cannot be read back"]
    stay = "; rows that are written stay as they are, and those to come are the new"
    assert switch.startswith(
        f"to switch: start it on a new checkpoint, with continues='{root}' (of a job:"
    )
    assert (stay in switch) is (mode == "append")
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "query totals: reading its targets between two batches …"
    assert told[1].startswith("query totals: running batch 1 of ")
    assert told[-1] == "query totals: comparing the rows …"
    assert len(replay.KEPT) == 1


def test_what_cannot_be_compared_is_refused(lines, root, tmp_path, kept, folder):
    console = SparkSink(
        kind="console",
        modes=("append",),
        promise="none",
        configure=lambda writer: writer,
    )
    assert refusal(shadow, lines, console, checkpoint=root) == (
        "query query cannot be compared: sink console cannot be read back (files,"
        " snapshots, views, and tables of SQL, Delta, Iceberg and the catalog can); to"
        " see what the query gives it, open single batches: checkpoints.batch"
    )
    compare = partial(shadow, lines, kept, checkpoint=root)
    unsteady = lines.withColumn("n", F.rand())
    assert "rand() gives other results" in refusal(
        shadow, unsteady, kept, checkpoint=root
    )
    (folder / "1.txt").rename(tmp_path / "away")
    assert refusal(compare) == (
        f"checkpoint {root} cannot be compared: 1 of the 4 files that it has read have"
        f" gone, such as {folder}/1.txt"
    )
    (root / "commits").rename(tmp_path / "commits")
    assert refusal(compare) == (
        f"checkpoint {root} has no committed batch to compare with; let the query run"
        " until it has one"
    )
    put(root / "offsets/3", "v1", "{")
    assert f"checkpoint {root} is damaged: offsets/3" in refusal(compare)
    assert replay.KEPT == []
