"""`clone` and its steps, on checkpoints that are written by hand; without Spark."""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from checkpoints.test_rewind import HELD, files_of
from conftest import refusal, running
from support.checkpoint_files import (
    ID,
    metadata,
    put,
    whole_checkpoint,
)

from sparkstream_kit.checkpoints.operate.clone import (
    _left_out,
    _make_writable,
    clone,
    copied_from,
    point_at,
)


@pytest.fixture
def root(tmp_path):
    return whole_checkpoint(tmp_path / "ckpt", 1, tmp_path / "in")


def test_a_copy_has_all_files_and_names_what_it_is_of(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_of(root)
    copy = clone("ckpt", "copy")
    assert copy == tmp_path / "copy"
    assert files_of(copy) == before | {"sparkstream-kit/copied-from"}
    assert (copy / "metadata").read_text() == (root / "metadata").read_text()
    assert (copy / "sparkstream-kit/copied-from").read_text() == f"{root}\n"
    assert (root / "sparkstream-kit/lock").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt", "copy", "in"}
    again = clone(copy.as_uri(), tmp_path / "again")
    assert (again / "sparkstream-kit/copied-from").read_text() == f"{root}\n{copy}\n"
    assert not (again / "sparkstream-kit/lock").exists()


def test_a_copy_with_a_new_id_has_another_one(root, tmp_path):
    put(root / ".metadata.crc", "crc")
    copies = [clone(root, tmp_path / name, new_id=True) for name in "ab"]
    ids = {json.loads((copy / "metadata").read_text())["id"] for copy in copies}
    assert len(ids | {ID}) == 3
    assert not (copies[0] / ".metadata.crc").exists()


def test_a_copy_has_its_own_schemas_of_the_state(root, tmp_path):
    schema = '{{"a":"file:{0}/state/0/_stateSchema/default/1"}}'
    put(root / "state/0/_metadata/v2/0", "v2", schema.format(root))
    copy = clone(root, tmp_path / "copy")
    assert (copy / "state/0/_metadata/v2/0").read_text() == (
        f"v2\n{schema.format(copy)}"
    )


def test_a_copy_has_a_path(root):
    assert refusal(clone, root, 7).startswith("checkpoints.clone(): target is 7; give")


def test_a_copy_that_is_there_or_in_the_checkpoint_is_refused(root, tmp_path):
    there = "copy {} exists; give a folder that does not"
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "none")
    for name in ("folder", "link", "ckpt"):
        copy = tmp_path / name
        assert refusal(clone, root, copy) == there.format(copy)
    inside = root / "state/copy"
    assert refusal(clone, root, inside) == (
        f"copy {inside} lies in the checkpoint itself; give a folder beside it"
    )
    assert refusal(clone, root, "s3a://bucket/copy").startswith(
        "copy s3a://bucket/copy"
    )


def test_a_checkpoint_in_use_is_not_copied(root, tmp_path, monkeypatch):
    file = put(root / "sparkstream-kit/lock", "")
    with running(sys.executable, "-c", HELD, file, stdin=-1, stdout=-1) as holder:
        assert holder.stdout.readline() == "held\n"
        # Also where it cannot be locked
        for access in (os.access, lambda *_: False):
            monkeypatch.setattr(os, "access", access)
            said = refusal(clone, root, tmp_path / "copy")
            assert said.startswith(f"checkpoint {root} is in use by another process;")
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt", "in"}


def test_a_checkpoint_that_cannot_be_written_is_copied_without_a_lock(
    root, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        os, "access", lambda path, mode: (path, mode) != (root, os.W_OK)
    )
    clone(root, tmp_path / "copy")
    assert not (root / "sparkstream-kit").exists()
    assert (tmp_path / "copy/sparkstream-kit/copied-from").exists()


def test_what_a_killed_copy_has_left_is_no_part_of_the_copy(root, tmp_path):
    left = tmp_path / f".copy.{os.getpid()}.tmp"
    put(left / "offsets/7", "v1")
    copy = clone(root, tmp_path / "copy")
    assert not (copy / "offsets/7").exists()
    assert not left.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left"), shutil.Error("no")])
def test_a_copy_that_fails_leaves_nothing(error, root, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(Path, "rename", fail)
    said = refusal(clone, root, tmp_path / "copy")
    assert said == f"cannot copy {root} to {tmp_path}/copy: {error}"
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt", "in"}


def test_a_copy_of_a_backup_can_be_written_by_its_owner(tmp_path):
    folders = [tmp_path / name for name in ("copy", "copy/a", "copy/a/b")]
    for folder in folders:
        folder.mkdir()
    file = put(tmp_path / "copy/a/file", "")
    file.chmod(0o444)
    for folder in folders:
        folder.chmod(0o500)
    _make_writable(tmp_path / "copy")
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 3
    assert file.stat().st_mode & 0o777 == 0o444


def test_a_backup_that_may_not_be_written_is_copied_with_its_folders(root, tmp_path):
    for folder in (root / "offsets", root):
        folder.chmod(0o555)
    copy = clone(root, tmp_path / "copy")
    assert copy.stat().st_mode & 0o777 == 0o755
    assert (copy / "offsets").stat().st_mode & 0o777 == 0o755
    root.chmod(0o755)


def test_a_copy_knows_the_checkpoints_of_the_same_query_that_it_is_of(root, tmp_path):
    assert copied_from(root) == []
    other = whole_checkpoint(tmp_path / "other", 1, tmp_path / "in")
    metadata(other, ID.replace("1", "2"))
    same = whole_checkpoint(tmp_path / "same", 1, tmp_path / "in")
    put(tmp_path / "folder/file", "no checkpoint")
    named = [tmp_path / name for name in ("none", "folder", "other", "ckpt", "same")]
    put(root / "sparkstream-kit/copied-from", *map(str, named), "")
    assert copied_from(root) == [same]
    put(root / "metadata", (other / "metadata").read_text())
    assert copied_from(root) == [other]


def test_the_lock_and_what_was_rewound_are_left_out_of_the_kits_folder_alone(tmp_path):
    names = ["lock", "rewound-1", "query.json", "locked", "pins"]
    left_out = partial(_left_out, tmp_path)
    assert left_out(str(tmp_path / "sparkstream-kit"), names) == ["lock", "rewound-1"]
    for folder in (tmp_path, tmp_path / "sources", tmp_path / "a/sparkstream-kit"):
        assert left_out(str(folder), names) == []


def test_schemas_of_the_state_are_named_in_the_folder_of_the_copy(tmp_path):
    written, copy = tmp_path / ".copy.tmp", tmp_path / "copy"
    text = (
        '{{"a":"file:{0}/state/3/_stateSchema/default/0_1","b":"file:/elsewhere/1",'
        '"c":"file:{0}/state/3/_stateSchema/left/2"}}'
    )
    file = put(written / "state/3/_metadata/v2/0", "v2", text.format("/old ckpt"))
    others = [
        put(written / name, text.format("/old"))
        for name in ("state/3/_metadata/v2/.0.crc", "state/3/_metadata/metadata")
    ]
    point_at(written, copy)
    assert file.read_text() == f"v2\n{text.format(copy)}"
    # The checksum of a file that has changed goes with it
    assert [other.exists() for other in others] == [False, True]
    assert others[1].read_text() == text.format("/old")
