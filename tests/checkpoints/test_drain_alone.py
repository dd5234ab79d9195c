"""The last batch of a drain as files of a checkpoint, without Spark."""

import json
import time

import pytest
from conftest import refusal
from support.checkpoint_files import AT, commit, plan

from sparkstream_kit.checkpoints.drain import (
    END,
    drained,
    is_being_drained,
    plan_empty_batch,
    reached,
)
from sparkstream_kit.checkpoints.logs import Logs

SECOND = 1000
CONF = {"spark.sql.shuffle.partitions": "2"}


def made(root, *, plans, commits):
    """Return the logs of a checkpoint with the given watermarks of plans and commits, by batch."""
    for batch, watermark in plans.items():
        plan(root, batch, '{"0":5}', "-", watermark=watermark, conf=CONF)
    for batch, watermark in commits.items():
        commit(root, batch, watermark)
    return Logs(root)


@pytest.mark.parametrize("first", [0, 7])
def test_an_empty_batch_reads_what_the_last_one_has_read(tmp_path, first):
    logs = made(tmp_path, plans={first: SECOND}, commits={first: 5 * SECOND})
    assert plan_empty_batch(logs, 6 * SECOND) == first + 1
    last, new = (
        (tmp_path / "offsets" / str(batch)).read_text().split("\n")
        for batch in (first, first + 1)
    )
    assert [new[0], *new[2:]] == ["v1", '{"0":5}', "-"]
    assert [last[0], *last[2:]] == [new[0], *new[2:]]
    of_query = json.loads(new[1])
    assert of_query["batchWatermarkMs"] == 6 * SECOND
    assert abs(of_query["batchTimestampMs"] / 1000 - time.time()) < 600
    assert of_query["conf"] == {"spark.sql.shuffle.partitions": "2"}
    assert logs.planned == first + 1
    assert logs.done == first


def test_an_empty_batch_of_named_sources_has_their_format(tmp_path):
    plan(tmp_path, 0, 'orders:{"0":5}', version="v2")
    commit(tmp_path, 0)
    assert plan_empty_batch(Logs(tmp_path), END) == 1
    new = (tmp_path / "offsets/1").read_text().split("\n")
    assert (new[0], new[2:]) == ("v2", ['orders:{"0":5}'])


@pytest.mark.parametrize(
    ("plans", "commits"),
    [({}, {}), ({0: 0}, {}), ({0: 0, 1: 0}, {0: 0}), ({}, {3: 0})],
    ids=[
        "no batch",
        "the first batch is not committed",
        "the last batch is not committed",
        "its plan is lost",
    ],
)
def test_a_batch_must_be_committed_before_an_empty_one(tmp_path, plans, commits):
    logs = made(tmp_path, plans=plans, commits=commits)
    said = refusal(plan_empty_batch, logs, END)
    assert said.startswith(
        f"checkpoint {tmp_path} has no batch that is committed after"
    )
    assert logs.refresh().planned == max(plans, default=-1)


@pytest.mark.parametrize(
    ("watermark", "builds", "before"),
    [
        (4999, False, "00:00:05"),
        (5000, False, None),
        (999, True, "00:00:01"),
        (1000, True, None),
        (4999, True, None),
    ],
)
def test_a_watermark_does_not_go_back(tmp_path, watermark, builds, before):
    #  the plan of the last batch: 1 s    its commit: 5 s
    logs = made(tmp_path, plans={0: SECOND}, commits={0: 5 * SECOND})
    if before is None:
        assert plan_empty_batch(logs, watermark, builds=builds) == 1
        return
    said = refusal(plan_empty_batch, logs, watermark, builds=builds)
    assert said.startswith(f"the watermark is at 1970-01-01 {before} UTC already, and")
    assert not (tmp_path / "offsets/1").exists()


def test_times_in_a_refusal_are_days_and_seconds(tmp_path):
    logs = made(tmp_path, plans={0: 0}, commits={0: END})
    assert refusal(plan_empty_batch, logs, AT) == (
        "the watermark is at 9999-12-31 23:59:59 UTC already, and cannot go back to"
        " 2023-11-14 22:13:20 UTC"
    )


@pytest.mark.parametrize(
    ("commits", "watermark"),
    [({}, 0), ({0: 3000}, 3000), ({0: 3000, 1: 7000}, 7000)],
    ids=["no batch", "the first batch", "the last of two"],
)
def test_the_watermark_after_the_last_batch(tmp_path, commits, watermark):
    logs = made(tmp_path, plans=dict.fromkeys(commits, 1000), commits=commits)
    assert reached(logs) == watermark


@pytest.mark.parametrize(
    ("plans", "commits", "being_drained", "was_drained"),
    [
        ({}, {}, False, False),
        ({0: 5}, {}, False, False),
        ({0: 5}, {0: 9}, False, False),
        ({0: END}, {}, True, False),
        ({0: 5, 1: END}, {0: 9}, True, False),
        ({0: 5, 1: END}, {0: 9, 1: END}, False, True),
        ({0: 5, 1: END, 2: END}, {0: 9, 1: END}, True, False),
        ({0: 5, 1: 9}, {0: 9}, False, False),
    ],
    ids=[
        "no batch",
        "a first batch is planned",
        "a batch is committed",
        "a draining batch is planned first",
        "a draining batch is planned",
        "a draining batch is committed",
        "a further one is planned",
        "another batch is planned",
    ],
)
def test_a_draining_batch_is_known_by_its_watermark(
    tmp_path, plans, commits, being_drained, was_drained
):
    logs = made(tmp_path, plans=plans, commits=commits)
    assert is_being_drained(logs) is being_drained
    said = drained(logs)
    if not was_drained:
        assert said is None
        return
    assert said is not None
    assert said.startswith(f"checkpoint {tmp_path} was drained: batch 1 has written")
    assert said.endswith(f": sparkstream checkpoint rewind {tmp_path} --to 0")
