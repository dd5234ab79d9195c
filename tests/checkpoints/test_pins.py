"""The versions that a checkpoint notes for its batches, without Spark."""

import json

import pytest
from conftest import refusal
from support.checkpoint_files import commit, put

from sparkstream_kit._internal.spark.place import LocalPlace, Place
from sparkstream_kit.checkpoints.pins import (
    copies_of,
    first_kept,
    pinned,
    versions_in_use,
)


@pytest.fixture
def place(tmp_path):
    return LocalPlace("the ckpt", tmp_path)


def pins(place):
    """Return what is noted, by batch."""
    folder = place.folder / "sparkstream-kit" / "pins"
    return {int(file.name): json.loads(file.read_text()) for file in folder.iterdir()}


def never(*_):
    raise AssertionError("a version was chosen for a batch that has one")


def test_a_batch_gets_its_version_once_and_each_subject_its_own(place):
    assert pinned(place, 4, "model spam", lambda: "v1") == "v1"
    assert pinned(place, 4, "model spam", never) == "v1"
    assert pinned(place, 4, "table shops", lambda: "v7") == "v7"
    assert pinned(place, 4, "model spam", never) == "v1"
    assert pinned(place, 5, "model spam", lambda: "v2") == "v2"
    assert pinned(place, 4, "model spam", never) == "v1", "a replay"
    assert pins(place) == {
        4: {"model spam": "v1", "table shops": "v7"},
        5: {"model spam": "v2"},
    }


def test_versions_of_batches_that_can_be_replayed_are_in_use(place):
    assert versions_in_use(place, "model spam") == set()
    pinned(place, 4, "model spam", lambda: "v1")
    pinned(place, 5, "model spam", lambda: "v2")
    pinned(place, 6, "model spam", lambda: "v2")
    assert versions_in_use(place, "model spam") == {"v1", "v2"}


def test_records_go_with_the_commits_of_their_batches(place, tmp_path):
    for batch in range(5):
        pinned(place, batch, "model spam", lambda: "v1")
    assert first_kept(place) == 0, "no batch is committed: the first may run again"
    assert set(pins(place)) == {0, 1, 2, 3, 4}
    for batch in (3, 4):
        commit(tmp_path, batch)
    assert first_kept(place) == 3
    pinned(place, 4, "model spam", never)
    assert set(pins(place)) == {0, 1, 2, 3, 4}, "nothing new was noted"
    pinned(place, 5, "model spam", lambda: "v2")
    assert set(pins(place)) == {3, 4, 5}


def test_a_record_that_cannot_be_read_is_named_with_the_way_out(place, tmp_path):
    file = put(tmp_path / "sparkstream-kit/pins/4", "{")
    said = refusal(pinned, place, 4, "model spam", lambda: "v1")
    assert said.startswith(f"{file} is damaged, which says what batch 4 was made with;")
    assert "put it back, or delete it" in said
    assert file.read_text() == "{"


@pytest.mark.parametrize("content", ["5", "[5]", "null"])
def test_a_record_of_another_kind_is_damaged_too(place, tmp_path, content):
    put(tmp_path / "sparkstream-kit/pins/4", content)
    assert "is damaged" in refusal(versions_in_use, place, "model spam")


def test_out_of_reach_no_version_can_be_kept():
    said = refusal(pinned, Place("s3a://bucket/ckpt"), 4, "model spam", lambda: "v1")
    assert said.startswith("model spam: its version for each batch is kept beside")
    assert "checkpoint s3a://bucket/ckpt is not on a local path" in said


def test_copies_of_a_table_need_a_local_checkpoint_or_none(place):
    part = copies_of("shops", never, never)
    said = refusal(part.open, Place("s3a://bucket/ckpt"))
    assert said.startswith("table shops: its version for each batch is kept beside")
    for location in (None, place):
        assert callable(part.open(location))
