"""The rules of sinks with a ledger: which batch is written, skipped or refused, and why."""

import logging
import os
import re
import socket
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from conftest import refusal
from support.checkpoint_files import (
    AT,
    ID,
    commit,
    metadata,
    place,
    plan,
    put,
    whole_checkpoint,
)
from support.kept_plans import DRAINED, packed, unpacked
from support.spark_jobs import counting_jobs

from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks import ledger
from sparkstream_kit.sinks.base import LedgerContext, Opening, Target
from sparkstream_kit.sinks.ledger import Batch, Epoch, Ledger

OTHER_PLAN = packed(others=[[None, "8"]])
PLAN = packed(others=[[None, "7"]])


class Held(Ledger):
    """A ledger in memory, of the table t and the query q."""

    def __init__(
        self, *, how: str = "append", take_over: bool | None = False, **holds: Any
    ) -> None:
        super().__init__("table t", how, take_over)
        self.last: int | None = None
        self.plan: str | None = None
        self.newest: Epoch | None = None
        self.other: tuple[str, int] | None = None
        self.rows = False
        vars(self).update(holds)

    def last_batch(self, query_id: str | None) -> int | None:
        return self.last if query_id == "q" else None

    def last_plan(self, query_id: str) -> str | None:
        return self.plan if query_id == "q" else None

    def epoch(self, query_id: str) -> Epoch | None:
        return self.newest if query_id == "q" else None

    def any_query(self) -> tuple[str, int] | None:
        return self.other

    def has_rows(self) -> bool:
        return self.rows

    def set_back_command(self, query_id: str, batch_id: int) -> str:
        return f"set {query_id} back to {batch_id}"


# ---- Who may write to a target


@pytest.mark.parametrize(
    "held",
    [
        Held(),
        Held(last=3, other=("other", 4), rows=True),
        Held(last=-1, other=("other", 4), rows=True),
        Held(last=0, rows=True),
        Held(take_over=True, other=("other", 4), rows=True),
    ],
    ids=[
        "an empty target",
        "the query has written",
        "its first batch is being written",
        "it has written the first batch",
        "taken over",
    ],
)
def test_a_query_writes_to_an_empty_target_to_its_own_and_to_one_that_it_takes_over(
    held,
):
    held.check_owner("q")


@pytest.mark.parametrize("query", ["another", None], ids=["another", "a new one"])
def test_a_target_of_another_query_is_refused_with_the_ways_on(query):
    held = Held(last=4, other=("q", 4), rows=True)
    assert (
        refusal(held.check_owner, query)
        == "table t was written by another query (q, up to its batch 4); start on that"
        " query's checkpoint, use another table, or give take_over=True to add to its"
        " rows"
    )


@pytest.mark.parametrize(
    ("how", "verb"),
    [
        ("append", "add to"),
        ("upsert", "overwrite and add to"),
        ("replace", "replace"),
        ("a way of its own", "add to"),
    ],
)
def test_rows_of_nobody_are_refused_and_the_line_says_what_to_take_over_does(how, verb):
    assert (
        refusal(Held(how=how, rows=True).check_owner, "q")
        == "table t has rows that no query of the kit has written; use another table,"
        f" or give take_over=True to {verb} its rows"
    )


def test_a_sink_that_takes_nothing_over_names_other_ways():
    held = Held(take_over=None, rows=True, what="folder")
    assert (
        refusal(held.check_owner, None)
        == "table t has rows that no query of the kit has written; use another folder,"
        " or remove this one"
    )


# ---- Which driver may write


@pytest.mark.parametrize(
    "newest", [None, Epoch(4, "this one")], ids=["before the first", "its own"]
)
def test_the_driver_of_the_newest_epoch_writes(newest):
    Held(newest=newest).check_epoch(Batch("q", 3, driver="this one"))


def test_a_driver_whose_query_was_started_again_is_refused():
    held = Held(last=2, newest=Epoch(5, "the newer one"))
    batch = Batch("q", 3, driver="this one")
    said = (
        "another driver has started to write to table t (epoch 5, the newer one); this"
        " one ends"
    )
    assert refusal(held.check_epoch, batch) == said
    assert refusal(held.is_written, batch) == said
    held.check_epoch(Batch("another query", 3))


def test_a_driver_is_known_by_its_process_its_host_and_its_start():
    match = re.fullmatch(
        rf"process {os.getpid()} on {re.escape(socket.gethostname())} since (.+)",
        ledger.this_driver(),
    )
    assert match is not None
    since = datetime.fromisoformat(match[1])
    assert abs((datetime.now().astimezone() - since).total_seconds()) < 60
    assert ledger.this_driver() != match[0]


# ---- Gaps


@pytest.mark.parametrize(
    ("batch", "previous"),
    [
        (Batch("q", 4), 3),
        (Batch("q", 0), -1),
        (Batch("q", 4, before=1), 1),
        (Batch("q", 4, before=0), 0),
        (Batch("q", 4, before=-1), -1),
    ],
)
def test_a_batch_follows_the_number_before_it_or_the_one_that_its_target_got(
    batch, previous
):
    assert batch.previous == previous


@pytest.mark.parametrize(
    ("last", "batch", "take_over", "complete"),
    [
        (3, Batch("q", 4), False, 3),
        (3, Batch("q", 3), False, 3),
        (3, Batch("q", 1), False, 3),
        (0, Batch("q", 1), False, 0),
        (3, Batch("q", 9, before=3), False, 3),
        (None, Batch("q", 0), False, None),
        (-1, Batch("q", 0), False, None),
        (None, Batch("q", 9, before=-1), False, None),
        (None, Batch("q", 9), True, None),
        (-1, Batch("q", 9), True, None),
        (None, Batch("q", 0), None, None),
    ],
    ids=[
        "the next one",
        "the last one again",
        "an earlier one again",
        "the second one",
        "the next one of a target that does not get each",
        "the first one",
        "the first one, which was begun",
        "the first one of a target that does not get each",
        "a later one of a target that is taken over",
        "a later one, which was begun, of a target that is taken over",
        "the first one of a sink that takes nothing over",
    ],
)
def test_no_batch_is_missing_before(last, batch, take_over, complete):
    held = Held(last=last, take_over=take_over)
    assert held.check_earlier(batch) == complete


@pytest.mark.parametrize("take_over", [False, True])
@pytest.mark.parametrize(
    ("last", "batch"),
    [(3, Batch("q", 5)), (0, Batch("q", 2)), (3, Batch("q", 9, before=4))],
    ids=["one is missing", "the second is missing", "of a target that gets some"],
)
def test_a_target_that_lacks_batches_of_its_query_is_refused_also_if_taken_over(
    last, batch, take_over
):
    held = Held(last=last, take_over=take_over)
    said = refusal(held.check_earlier, batch)
    assert f"table t holds this query's batches up to {last} only: it was del" in said


@pytest.mark.parametrize("take_over", [False, None])
@pytest.mark.parametrize(
    ("last", "batch"),
    [(None, Batch("q", 1)), (-1, Batch("q", 1)), (None, Batch("q", 9, before=0))],
    ids=["nothing there", "the first was begun", "of a target that gets some"],
)
def test_a_target_without_the_first_batches_is_refused(last, batch, take_over):
    held = Held(last=last, take_over=take_over)
    said = refusal(held.check_earlier, batch)
    assert "table t holds none of this query's batches: it was deleted, or" in said


def test_batches_at_the_end_are_missing_the_line_says_why_and_three_ways_on():
    batch = Batch("q", 5, checkpoint="my ckpt", former=("table before",))
    assert (
        refusal(Held(last=3, what="folder").check_earlier, batch)
        == "batch 5 is next, but table t holds this query's batches up to 3 only: it"
        " was deleted, or put back from an older backup; restore the folder; or, to"
        " write the missing batches again, run sparkstream checkpoint rewind 'my ckpt'"
        " --to 3; or, to go on without their rows, set q back to 4"
    )


@pytest.mark.parametrize(
    ("take_over", "way"),
    [(False, "give take_over=True"), (None, "set q back to 4")],
)
def test_all_batches_are_missing_the_line_says_why_and_three_ways_on(take_over, way):
    assert (
        refusal(Held(take_over=take_over).check_earlier, Batch("q", 5))
        == "batch 5 is next, but table t holds none of this query's batches: it was"
        " deleted, or put back from an older backup; restore the table; or, to write"
        " the missing batches again, start with a new checkpoint folder (and a new"
        f" target for each other sink); or, to go on without their rows, {way}"
    )


def test_a_query_that_has_written_elsewhere_is_told_where():
    batch = Batch("q", 5, former=("table a", "folder b"))
    assert (
        "batches: the query has written to table a and folder b so far; give it that"
        " target again; or, to" in refusal(Held().check_earlier, batch)
    )


def test_where_each_batch_is_the_whole_result_the_next_one_fills_a_gap():
    said = refusal(Held(how="replace", last=3).check_earlier, Batch("q", 5))
    assert said.endswith("; or, to let the next batch write all rows, set q back to 4")


# ---- Replays


@pytest.mark.parametrize(
    ("last", "number", "kept", "given"),
    [
        (None, 0, None, PLAN),
        (-1, 0, PLAN, PLAN),
        (0, 1, PLAN, OTHER_PLAN),
        (3, 4, PLAN, PLAN),
    ],
    ids=["the first", "the first, which was begun", "the second", "the next"],
)
def test_a_batch_that_the_target_does_not_have_is_written(last, number, kept, given):
    held = Held(last=last, plan=kept)
    assert held.is_written(Batch("q", number, given)) is False


@pytest.mark.parametrize(
    ("kept", "given"),
    [(PLAN, PLAN), (None, PLAN), ("", PLAN), (PLAN, None), (PLAN, ""), (None, None)],
    ids=["the same", "none kept", "an empty one", "none given", "empty", "no plans"],
)
@pytest.mark.parametrize("number", [0, 3])
def test_a_batch_that_comes_again_with_the_same_plan_or_an_unknown_one_is_skipped(
    number, kept, given
):
    assert Held(last=number, plan=kept).is_written(Batch("q", number, given)) is True


def test_a_batch_that_is_missing_before_another_is_no_replay():
    said = refusal(Held(last=3, plan=PLAN).is_written, Batch("q", 5, PLAN))
    assert said.startswith("batch 5 is next, but table t holds this query's batches up")


@pytest.mark.parametrize(
    ("last", "newest"),
    [(None, None), (3, None), (9, None), (4, Epoch(1, "this one"))],
    ids=["a gap at the beginning", "a gap", "an earlier one", "another plan"],
)
def test_each_whole_result_is_written_whatever_the_target_has(last, newest):
    held = Held(how="replace", last=last, newest=newest, plan=PLAN)
    batch = Batch("q", 4, OTHER_PLAN, driver="this one")
    assert held.is_written(batch) is False


REPLAYS = {
    "another plan": (
        3,
        PLAN,
        (
            "another one of this number: the plan in my ckpt was lost, which"
            " sparkstream_kit.start puts back, or a rewind gave it up; to write the"
            " rows of batch 3 again, "
        ),
    ),
    "the batch that ended the input": (
        3,
        packed(watermark=DRAINED),
        (
            "the batch that ended the input under this number; to write the rows of"
            " batch 3 again, "
        ),
    ),
    "one batch later": (
        4,
        PLAN,
        (
            "all batches up to 4: the checkpoint was rewound or restored; to write the"
            " rows of batches 3 to 4 again, "
        ),
    ),
}


@pytest.mark.parametrize("case", REPLAYS)
@pytest.mark.parametrize(
    ("how", "removes", "remove"),
    [
        ("append", False, "remove them from the table, then "),
        ("append", True, ""),
        ("upsert", False, ""),
    ],
)
def test_a_batch_that_is_replayed_otherwise_is_refused_with_what_to_set_back(
    case, how, removes, remove
):
    last, kept, finding = REPLAYS[case]
    held = Held(how=how, removes=removes, last=last, plan=kept)
    batch = Batch("q", 3, OTHER_PLAN, checkpoint="my ckpt")
    assert (
        refusal(held.is_written, batch)
        == f"batch 3 is replayed, but table t has {finding}{remove}set q back to 2"
    )


# ---- The plan that a start puts back


@pytest.mark.parametrize(
    ("held", "batch", "plan"),
    [
        (Held(last=3, plan=PLAN), Batch("q", 3), PLAN),
        (Held(last=0, plan=PLAN), Batch("q", 0), PLAN),
        (Held(last=3, plan=None), Batch("q", 3), None),
        (Held(last=3, plan=PLAN), Batch("q", 4), None),
        (Held(last=3, plan=PLAN), Batch("q", 2), None),
        (Held(last=-1, plan=PLAN), Batch("q", 0), None),
        (Held(last=3, plan=PLAN, how="replace"), Batch("q", 3), None),
        (Held(last=3, plan=PLAN), None, None),
    ],
    ids=[
        "its last batch is next",
        "its first batch is next",
        "it kept no plan",
        "it does not have the next batch",
        "it has later ones",
        "the first batch was begun",
        "each batch is the whole result",
        "no batch is asked for",
    ],
)
def test_a_target_gives_the_plan_of_the_next_batch_if_it_has_that_batch(
    held, batch, plan
):
    assert held.plan_of(batch) == plan


@pytest.mark.parametrize("how", ["append", "replace"])
def test_a_plan_is_not_looked_up_in_a_target_that_lacks_batches(how):
    held = Held(last=3, plan=PLAN, how=how)
    assert "batches up to 3 only" in refusal(held.plan_of, Batch("q", 5))


# ---- A sink opens


@dataclass
class Recording:
    """A target that notes what it is asked."""

    name: str = "t"
    plan: str | None = None
    refuses: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def where(self) -> Target:
        return Target("table", self.name)

    def prepare(self, _frame, query, next_batch, makes):
        self.calls.append(("prepare", query, next_batch, makes))
        if self.refuses:
            raise InvalidInputError("refused")
        return self.plan

    def take(self, query, driver, _frame):
        self.calls.append(("take", query, driver))

    def write(self, batch, frame):
        self.calls.append(("write", batch, frame))


@pytest.fixture
def stream(spark):
    """A stream that is not of files, and is not started."""
    return spark.readStream.format("rate").load()


def test_a_query_that_starts_again_is_known_by_its_id_and_its_next_batch(
    stream, tmp_path
):
    root = whole_checkpoint(tmp_path / "ckpt", 2)
    target, opening = Recording(), Opening()
    write: Any = ledger.open_target(target, stream, place(root), opening)
    [(call, query, batch, makes)] = target.calls
    assert (call, query, makes) == ("prepare", ID, True)
    assert (batch.query, batch.number, batch.plan) == (ID, 2, None)
    assert batch.checkpoint == str(tmp_path / "ckpt")
    assert write.__self__.own_id is None
    opening.end()
    assert target.calls[1:] == [("take", ID, batch.driver)]
    assert batch.driver.startswith(f"process {os.getpid()} on ")


def test_a_query_without_a_commit_has_the_first_batch_next(stream, tmp_path):
    target, opening = Recording(), Opening(makes=False)
    root = whole_checkpoint(tmp_path, 0)
    ledger.open_target(target, stream, place(root), opening)
    [(_, _, batch, makes)] = target.calls
    assert (batch.number, makes) == (0, False)


def test_a_query_that_was_never_started_has_no_id_and_takes_nothing_yet(
    stream, tmp_path
):
    target, opening = Recording(), Opening()
    ledger.open_target(target, stream, place(tmp_path), opening)
    opening.end()
    assert target.calls == [("prepare", None, None, True)]


def test_each_start_without_a_checkpoint_is_a_new_query(stream):
    target, opening = Recording(), Opening()
    write: Any = ledger.open_target(target, stream, None, opening)
    ledger.open_target(target, stream, None, opening)
    opening.end()
    ids = [query for _, query, batch, _ in target.calls if batch is None]
    assert len(target.calls) == len(set(ids)) == 2
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", ids[0])
    assert write.__self__.own_id == ids[0]


def test_a_batch_of_a_running_query_opens_a_sink_without_looking_for_a_plan(
    spark, tmp_path
):
    metadata(tmp_path)
    commit(tmp_path, 0)
    target, opening = Recording(plan=PLAN), Opening()
    spark.sparkContext.setLocalProperty("sql.streaming.queryId", "of-spark")
    try:
        ledger.open_target(target, spark.range(1), place(tmp_path), opening)
    finally:
        spark.sparkContext.setLocalProperty("sql.streaming.queryId", None)
    opening.end()
    assert target.calls[0] == ("prepare", "of-spark", None, True)
    assert [call[:2] for call in target.calls[1:]] == [("take", "of-spark")]
    assert not (tmp_path / "offsets").exists()


def test_the_plan_that_a_target_keeps_is_put_back_into_a_checkpoint_that_lost_it(
    spark, folder, tmp_path
):
    frame = spark.readStream.text(str(folder))
    root = tmp_path / "ckpt"
    metadata(root)
    plan(root, 0, 0)
    commit(root, 0)
    offsets = 'v1\n{"conf":{}}\n{"logOffset":1}'
    file = [1, AT, put(folder / "1.txt").as_uri()]
    source = {"folder": str(folder), "files": [file], "compact": []}
    kept = packed(offsets=offsets, others=[], logs={"0": source})
    for makes in (False, True):
        opening = Opening(makes=makes)
        ledger.open_target(Recording(plan=kept), frame, place(root), opening)
        assert (root / "offsets" / "1").exists() == makes
        assert opening.ledgers.folders == {"0": str(folder)}
    assert (root / "offsets" / "1").read_text() == offsets


def test_a_target_that_refuses_gets_no_epoch(stream, tmp_path):
    target, opening = Recording(refuses=True), Opening()
    here = place(whole_checkpoint(tmp_path, 0))
    assert "refused" in refusal(ledger.open_target, target, stream, here, opening)
    assert opening.at_end == []


def test_a_column_that_appears_twice_is_refused_before_the_target_is_asked(stream):
    target = Recording()
    twice = stream.select("value", "value")
    said = refusal(ledger.open_target, target, twice, None, Opening())
    assert said.startswith("column value appears twice")
    assert target.calls == []


def test_two_names_of_one_target_are_refused_by_what_its_system_knows_it_by(stream):
    opening = Opening()

    def opened(name, known_as):
        ledger.open_target(
            Recording(name), stream, None, opening, identity=lambda: known_as
        )

    opened("a", "1")
    opened("b", "2")
    opened("a", "1")
    assert (
        refusal(opened, "c", "1")
        == "table c is the same as table a, to which this query writes, too; union"
        " their rows in the query"
    )


@pytest.mark.parametrize(
    ("former", "told"),
    [((), ()), (("table s",), ("table s",)), (("table s", "table t"), ())],
    ids=["not known", "another one", "this one, too"],
)
def test_a_batch_names_the_former_targets_if_this_is_none_of_them(
    stream, tmp_path, former, told
):
    target = Recording()
    opening = Opening(ledgers=LedgerContext(former=former))
    root = whole_checkpoint(tmp_path, 0)
    ledger.open_target(target, stream, place(root), opening)
    assert target.calls[0][2].former == told


# ---- A batch is written

ROWS: Any = "the rows"


def written(root, context=None, number=3, **more):
    """Return the batch that a target gets, of a query with an id of its own."""
    target = Recording()
    opening = Opening(ledgers=context or LedgerContext())
    how = {"driver": "this one", "former": (), "own_id": "q", **more}
    writer = ledger._Writer(target, place(root), opening, **how)  # noqa: SLF001
    writer.write(ROWS, number)
    [(_, batch, rows)] = target.calls
    assert rows is ROWS
    return batch


@pytest.fixture
def planned(tmp_path):
    """A checkpoint with the plans of the batches 2 and 3."""
    for number in (2, 3):
        plan(tmp_path, number, f"offset {number}")
    return tmp_path


def test_a_batch_has_all_by_which_a_ledger_knows_it(planned):
    batch = written(planned, former=("table s",))
    assert (batch.query, batch.number, batch.before) == ("q", 3, None)
    assert (batch.driver, batch.former) == ("this one", ("table s",))
    assert batch.checkpoint == str(planned)
    assert unpacked(batch.plan)["others"] == [["offset 2", "offset 3"]]


def test_all_sinks_of_a_query_share_the_plan_of_its_batch_and_forget_the_one_before(
    planned,
):
    context = LedgerContext(plans={2: "of the batch before"})
    first = written(planned, context)
    assert context.plans == {3: first.plan}
    plan(planned, 3, "offset 9")
    assert written(planned, context).plan == first.plan
    assert written(planned).plan != first.plan


@pytest.mark.parametrize(
    ("context", "before"),
    [
        (LedgerContext(), None),
        (LedgerContext(before={3: 1, 4: 2}), 1),
        (LedgerContext(before={4: 2}), None),
        (LedgerContext(begins={"table t": 3}), -1),
        (LedgerContext(before={3: 1}, begins={"table t": 3}), -1),
        (LedgerContext(begins={"table t": 2}), None),
        (LedgerContext(begins={"table s": 3}), None),
    ],
    ids=[
        "a target that gets each batch",
        "one that got an earlier one last",
        "of another batch",
        "the first of a continuation",
        "the first of a continuation, whatever came before",
        "a continuation that began earlier",
        "the first of another target",
    ],
)
def test_which_batch_a_target_must_have_got_before(planned, context, before):
    assert written(planned, context).before == before


def test_a_batch_of_plain_spark_has_the_id_that_spark_gives_and_no_plan(spark):
    target = Recording()
    context = LedgerContext(plans={3: "of an earlier start"})
    opening = Opening(ledgers=context)
    writer = ledger._Writer(target, None, opening, "this one", (), None)  # noqa: SLF001
    rows = spark.range(1)
    spark.sparkContext.setLocalProperty(
        "sql.streaming.queryId", "00000000-0000-0000-0000-000000000000"
    )
    try:
        writer.write(rows, 3)
    finally:
        spark.sparkContext.setLocalProperty("sql.streaming.queryId", None)
    [(_, batch, given)] = target.calls
    assert given is rows
    assert batch == Batch("00000000-0000-0000-0000-000000000000", 3, driver="this one")
    assert batch.checkpoint == "CHECKPOINT"


# ---- The sink


@pytest.mark.parametrize(
    ("modes", "needs"),
    [(("complete",), False), (("append",), True), (("append", "complete"), True)],
)
def test_a_sink_with_a_ledger_needs_a_checkpoint_unless_each_batch_is_the_whole_result(
    modes, needs
):
    where = Target("table", "t")
    sink = ledger.exactly_once("mine", where, modes, lambda *_: print, keys=["k"])
    assert (sink.kind, sink.modes, sink.promise) == ("mine", modes, "exactly once")
    assert (sink.needs_checkpoint, sink.writes_to) == (needs, (where,))
    assert (sink.keys, sink.read, sink.form) == (("k",), None, None)
    assert "says how to set the target back" in sink.after_rewind
    assert "how='append' for append" in sink.advice


def test_a_batch_that_is_there_is_read_to_its_end_and_said(spark, caplog):
    with caplog.at_level(logging.INFO), counting_jobs(spark) as jobs:
        ledger.pass_over(spark.range(3), Batch("q", 7), "table t")
        assert len(jobs()) == 1
    assert "batch 7 is in table t already" in caplog.messages
