"""What `start` looks at in a checkpoint, and what it finds, without Spark."""

import pytest
from support.checkpoint_files import (
    AT,
    commit,
    entry,
    metadata,
    plan,
    put,
    state,
    whole_checkpoint,
)

from sparkstream_kit.checkpoints.damage import missing_inputs, newer_state, restart
from sparkstream_kit.checkpoints.logs import DamagedError, Logs


def found(root, **how):
    """Return the damage, each as the path in the checkpoint and what is wrong."""
    return [
        (str(each.file.relative_to(root)), each.what)
        for each in restart(Logs(root), **how)
    ]


@pytest.fixture
def ckpt(tmp_path):
    """A checkpoint whose batches 0 to 3 are committed, and whose batch 4 is planned."""
    return whole_checkpoint(tmp_path, 4, planned=1)


def test_a_whole_checkpoint_and_none_at_all_have_no_damage(ckpt, tmp_path):
    assert found(ckpt) == []
    assert found(tmp_path / "not there") == []


@pytest.mark.parametrize(
    ("name", "is_needed"),
    [
        ("metadata", True),
        ("offsets/4", True),
        ("offsets/3", True),
        ("offsets/2", False),
        ("commits/3", True),
        ("commits/2", False),
        ("sources/0/4", True),
        ("sources/0/3", True),
        ("sources/0/0", True),
    ],
)
@pytest.mark.parametrize("content", ["", "v1"], ids=["empty", "cut off"])
def test_each_file_that_a_restart_needs_is_looked_at(ckpt, name, is_needed, content):
    (ckpt / name).write_text(content)
    damage = found(ckpt)
    assert [file for file, _ in damage] == ([name] if is_needed else [])


@pytest.mark.parametrize("name", ["offsets/3", "sources/0/3", "metadata"])
def test_a_file_that_has_gone_is_missing(ckpt, name):
    (ckpt / name).unlink()
    assert found(ckpt) == [(name, "is missing")]


def test_an_id_that_is_lost_has_a_way_out_and_other_files_none(ckpt):
    (ckpt / "metadata").write_text("{}")
    (ckpt / "commits" / "3").write_text("v1")
    lost, cut = restart(Logs(ckpt))
    assert (lost.file.name, lost.what) == ("metadata", "does not hold a query's id")
    assert 'write {"id": "…"} into metadata' in lost.fix
    assert (cut.file.name, cut.fix) == ("3", "")


@pytest.mark.parametrize(
    ("plans", "commits", "needed"),
    [
        ((), (), []),
        ((0,), (), ["metadata", "offsets/0"]),
        ((0,), (0,), ["metadata", "offsets/0", "commits/0"]),
        ((0, 1), (0,), ["metadata", "offsets/0", "offsets/1", "commits/0"]),
        ((1, 2), (1,), ["metadata", "offsets/1", "offsets/2", "commits/1"]),
        ((5, 6), (6,), ["metadata", "offsets/5", "offsets/6", "commits/6"]),
    ],
    ids=[
        "nothing",
        "a first batch is planned",
        "a first batch is committed",
        "a second batch is planned",
        "a later batch is planned",
        "old batches are deleted",
    ],
)
def test_which_files_a_restart_needs(tmp_path, plans, commits, needed):
    for batch in plans:
        plan(tmp_path, batch, "-")
    for batch in commits:
        commit(tmp_path, batch)
    asked: list[str] = []

    def read_file(reader, file):
        asked.append(str(file.relative_to(tmp_path)))
        return reader

    assert found(tmp_path, read_file=read_file) == []
    assert asked == needed


def test_the_id_is_needed_once_it_is_written(tmp_path):
    (tmp_path / "metadata").write_text("")
    assert found(tmp_path) == [("metadata", "is empty")]


def test_a_log_is_needed_from_its_compacted_file_to_its_last_entry(ckpt):
    entry(ckpt, 2, ("/in/0.csv", AT, 0), "/in/2.csv", compact=True)
    entry(ckpt, 5, "/in/5.csv")
    asked: list[str] = []

    def read_file(reader, file):
        if file.parent.parent.name == "sources":
            asked.append(file.name)
        return reader

    assert found(ckpt, read_file=read_file) == []
    assert asked == ["2.compact", "3", "4", "5"]


@pytest.mark.parametrize(
    ("checksum", "is_lost"),
    [
        ("offsets/.5.crc", True),
        ("offsets/.4.crc", False),
        ("offsets/.1.crc", False),
        ("commits/.4.crc", True),
        ("commits/.3.crc", False),
        ("sources/0/.5.crc", True),
        ("sources/0/.5.compact.crc", True),
        ("sources/0/.4.crc", False),
        ("offsets/.metadata.crc", False),
        ("offsets/.x.9.crc", False),
    ],
)
def test_a_checksum_without_its_file_is_damage_if_spark_will_write_it(
    ckpt, checksum, is_lost
):
    (ckpt / checksum).touch()
    damage = list(restart(Logs(ckpt)))
    if not is_lost:
        assert damage == []
        return
    [lost] = damage
    log, _, name = checksum.rpartition("/")
    assert lost.file == ckpt / log / name.split(".")[1]
    assert lost.what == "is missing, but not its checksum"
    assert lost.fix == f"delete {name} too, and the batch runs again"


def test_a_compacted_file_stands_for_the_entry_of_a_checksum(ckpt):
    (ckpt / "sources/0/4").rename(ckpt / "sources/0/4.compact")
    (ckpt / "sources/0/.4.crc").touch()
    assert found(ckpt) == []


def test_a_file_that_came_since_the_log_was_listed_is_not_lost(ckpt):
    logs = Logs(ckpt)
    assert list(restart(logs)) == []
    (ckpt / "commits" / ".4.crc").touch()
    commit(ckpt, 4)
    assert list(restart(logs)) == []


@pytest.mark.parametrize(
    ("version", "is_damage"),
    [("1", False), ("2", True), ("3", True)],
)
def test_state_without_a_batch_is_damage_but_for_that_of_a_failed_first_one(
    tmp_path, version, is_damage
):
    state(tmp_path, version)
    (tmp_path / "offsets").mkdir()
    (tmp_path / "offsets" / ".0.crc").touch()  # `start` removes it
    wrong = ("offsets", "has no batch, but state has been written")
    assert found(tmp_path) == ([wrong] if is_damage else [])


@pytest.mark.parametrize("batch", [0, 1])
def test_state_of_a_batch_is_no_damage(tmp_path, batch):
    metadata(tmp_path)
    plan(tmp_path, batch, "-")
    if batch:
        plan(tmp_path, batch - 1, "-")
        commit(tmp_path, batch - 1)
    state(tmp_path, 9)
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "is_newer"),
    [
        ("state/0/0/3.delta", False),
        ("state/0/0/4.delta", True),
        ("state/0/0/4.snapshot", True),
        ("state/0/0/4.changelog", True),
        ("state/0/0/4.zip", True),
        ("state/0/0/.4.delta.crc", True),
        ("state/0/0/.3.delta.crc", False),
        ("state/0/0/10.zip", True),
        ("state/0/1/left/5_1f0c4a4e-0000-4000-8000-000000000000.zip", True),
        ("state/0/1/left/2_1f0c4a4e-0000-4000-8000-000000000000.zip", False),
        ("state/0/0/4.txt", False),
        ("state/0/_metadata/metadata", False),
        ("state/0/_metadata/v2/4", True),
        ("state/0/_metadata/v2/3", False),
        ("state/0/_metadata/v2/.4.crc", True),
        ("state/0/_metadata/v2/4.delta", False),
        ("state/0/0/4", False),
        ("offsets/4.delta", False),
    ],
)
def test_which_files_of_the_state_are_newer_than_a_version(tmp_path, name, is_newer):
    file = put(tmp_path / name)
    assert newer_state(tmp_path, 3) == ([file] if is_newer else [])


def test_of_the_newer_files_of_the_state_checksums_come_last(tmp_path):
    for name in (".4.delta.crc", "4.delta", ".5.delta.crc", "5.delta"):
        put(tmp_path / "state/0/0" / name)
    names = [file.name for file in newer_state(tmp_path, 3)]
    assert sorted(names[:2]) == ["4.delta", "5.delta"]
    assert sorted(names[2:]) == [".4.delta.crc", ".5.delta.crc"]


def test_planned_input_that_has_gone_is_named(ckpt, tmp_path):
    inputs = tmp_path / "in"
    there = put(inputs / "there.csv")
    entry(ckpt, 4, there, inputs / "gone.csv", "s3a:///in/x")
    [gone] = missing_inputs(Logs(ckpt))
    assert isinstance(gone, DamagedError)
    assert gone.file == inputs / "gone.csv"
    assert gone.what == "is planned to be read and has gone"
    assert gone.fix.startswith("put it back first")


def test_input_that_was_read_may_have_gone(ckpt):
    entry(ckpt, 4, "/in/gone.csv")
    commit(ckpt, 4)
    assert list(missing_inputs(Logs(ckpt))) == []
