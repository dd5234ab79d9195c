"""The board: what every face shows, from progress that real queries had."""

from datetime import UTC, datetime, timedelta

import pytest
from support.recorded import TOLD, filled, progress

from sparkstream_kit import sinks, sources, start
from sparkstream_kit.monitoring.board import SHOWN, Board


@pytest.fixture
def board():
    return filled()


def test_each_query_has_its_batches_and_its_totals(board):
    pictures = {each.name: each for each in board.pictures()}
    assert set(pictures) == {each["name"] for each in TOLD}
    for name, picture in pictures.items():
        mine = [each for each in TOLD if each["name"] == name]
        assert [batch.batch for batch in picture.batches] == [
            each["batchId"] for each in mine
        ][-SHOWN:]
        assert picture.summary.input_rows == sum(each["numInputRows"] for each in mine)
        for batch, each in zip(picture.batches, mine, strict=True):
            assert (
                0
                < batch.work + batch.planning + batch.log_writes + batch.looking
                <= batch.seconds + 0.01
            )
            assert batch.work == each["durationMs"]["addBatch"] / 1000
        for total, one in (("late_rows", "late"), ("bad_rows", "bad")):
            counts = [getattr(batch, one) for batch in picture.batches]
            known = getattr(picture.summary, total)
            assert (None if known is None else sum(counts)) == known


def test_the_worst_comes_first_and_silence_is_said(board):
    last = max(batch.at for picture in board.pictures() for batch in picture.batches)
    assert not any(
        "no batch" in str(said)
        for each in board.pictures(last)
        for said in each.verdicts
    )
    later = board.pictures(last + timedelta(minutes=2))
    assert all(each.verdicts[0].text.startswith("no batch for 1") for each in later)
    board.end()
    levels = [each.level for each in board.pictures(last + timedelta(minutes=2))]
    assert levels == sorted(levels, key=["bad", "warn", "ok"].index)
    assert not any(each.active for each in board.pictures())


def test_a_query_that_has_ended_is_not_silent(spark):
    queries = [
        start(sources.rate(spark), sinks.memory(name)) for name in ("ended", "goes_on")
    ]
    board = Board()
    board.watch(queries)
    queries[0].stop()
    later = board.pictures(datetime.now(UTC) + timedelta(minutes=2))
    queries[1].stop()
    assert [each.name for each in later if "no batch" in str(each.verdicts)] == [
        "goes_on"
    ]


def test_who_waits_is_told_of_a_batch_once(board):
    seen = board.wait(0, 0)
    board.add(progress())
    assert board.wait(seen, 0) == seen, "a batch that it has"
    board.end()
    assert board.wait(seen, 0) > seen


def test_silence_does_not_come_before_what_is_worse(board):
    told = [each for each in TOLD if each["name"] == "action_windows"]
    ahead = "2099-01-01T00:00:00.000Z"
    for number, each in enumerate(told * 2, 1000):
        board.add(
            progress(
                each, batchId=number, eventTime=each["eventTime"] | {"watermark": ahead}
            )
        )
    worst = board.pictures(datetime(2027, 1, 1, tzinfo=UTC))[0]
    assert worst.name == "action_windows"
    assert worst.level == "bad"
    assert [said.level for said in worst.verdicts] == [
        "bad",
        *["warn"] * (len(worst.verdicts) - 1),
    ]
    assert str(worst.verdicts[1]).startswith("no batch for ")
