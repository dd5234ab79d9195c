"""Each step of `rewind` by itself, on checkpoints that are written by hand; without Spark."""

import json
import re
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from conftest import process, refusal, running
from support.checkpoint_files import (
    commit,
    entry,
    log_text,
    logs,
    plan,
    put,
    state,
    until,
    whole_checkpoint,
)

from sparkstream_kit.checkpoints import lock
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.logs import InputFile, Logs
from sparkstream_kit.checkpoints.operate.check import damage
from sparkstream_kit.checkpoints.operate.rewind import (
    Rewind,
    alone,
    backup,
    check_unused,
    later_files,
    move,
    rewind,
    set_aside,
    untrim,
)

BACKUP = re.compile(r"rewound-\d{8}T\d{6}")


@pytest.fixture
def root(tmp_path):
    """A checkpoint of four batches with a state and the versions of a model."""
    root = whole_checkpoint(tmp_path / "ckpt", 4, tmp_path / "in")
    for number in range(4):
        state(root, number + 1)
        put(root / f"state/0/0/.{number + 1}.delta.crc", "crc")
        put(root / f"sparkstream-kit/pins/{number}", "a model")
    return root


def names(root, files):
    return [str(file.relative_to(root)) for file in files]


def files_of(root):
    return {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}


# --- what is moved


def test_the_plan_of_the_first_batch_that_runs_again_stays(root, tmp_path):
    seen = rewind(root, to=1)
    pin, *state, entry_of_log, offsets, last, before_it = names(root, seen.moved)
    assert pin == "sparkstream-kit/pins/3"
    assert {*state[:2]} == {"state/0/0/3.delta", "state/0/0/4.delta"}
    assert {*state[2:]} == {"state/0/0/.3.delta.crc", "state/0/0/.4.delta.crc"}
    assert (entry_of_log, offsets) == ("sources/0/3", "offsets/3")
    assert (last, before_it) == ("commits/3", "commits/2")
    assert (seen.path, seen.to, seen.last) == (root, 1, 3)
    assert (seen.same, seen.applied, seen.sinks) == (True, False, ())
    assert [file.uri for file in seen.inputs] == [
        f"file://{tmp_path}/in/2.txt",
        f"file://{tmp_path}/in/3.txt",
    ]
    assert seen.backup.parent == root / "sparkstream-kit"
    assert BACKUP.fullmatch(seen.backup.name)


def damaged_plan(root):
    put(root / "offsets/2", "v1", "{")


def drained_plan(root):
    plan(root, 2, until(2), watermark=END)


@pytest.mark.parametrize("change", [damaged_plan, drained_plan])
def test_a_plan_that_cannot_stay_is_moved(change, root):
    change(root)
    seen = rewind(root, to=1)
    moved = names(root, seen.moved)
    assert seen.same is False
    assert [name for name in moved if "state" not in name] == [
        "sparkstream-kit/pins/3",
        "sparkstream-kit/pins/2",
        "sources/0/3",
        "sources/0/2",
        "offsets/3",
        "offsets/2",
        "commits/3",
        "commits/2",
    ]


def test_at_its_last_batch_there_is_nothing_to_rewind(root):
    entry(root, 4, (root / "metadata", 1))
    seen = rewind(root, to=3)
    assert (seen.moved, seen.to, seen.last, seen.same) == ((), 3, 3, False)
    assert str(seen) == f"{root} is at batch 3; nothing to rewind"


def test_a_plan_that_is_not_committed_is_the_last_batch(root):
    plan(root, 4, until(3))
    seen = rewind(root, to=3)
    assert (seen.moved, seen.last, seen.same) == ((), 4, True)
    seen = rewind(root, to=2)
    assert seen.last == 4
    assert "offsets/4" in names(root, seen.moved)
    commit(root, 5)
    assert rewind(root, to=3).last == 5


def test_a_source_that_began_to_read_later_loses_all_entries(root, tmp_path):
    for number in (0, 1):
        entry(root, number, (tmp_path / "in/0.txt", 1), log="1")
    for number in range(4):
        plan(root, number, until(number), "-" if number < 3 else until(1))
    moved = names(root, rewind(root, to=1).moved)
    assert [name for name in moved if name.startswith("sources")] == [
        "sources/0/3",
        "sources/1/1",
        "sources/1/0",
    ]


def test_the_first_and_the_last_batch_can_be_gone_back_to(root):
    says = (
        f"{root} cannot be rewound to batch {{}}: it keeps batches 1 to 3; give a batch"
        " that it keeps"
    )
    (root / "commits/0").unlink()
    assert refusal(rewind, root, to=0) == says.format(0)
    assert refusal(rewind, root, to=4) == says.format(4)
    assert rewind(root, to=1).moved
    assert rewind(root, to=3).moved == ()
    for number in (1, 2):
        (root / f"commits/{number}").unlink()
    assert "it keeps batch 3; give" in refusal(rewind, root, to=1)


def test_a_checkpoint_without_a_commit_has_nothing_to_rewind(tmp_path):
    whole_checkpoint(tmp_path / "ckpt", 0, tmp_path / "in", planned=1)
    assert refusal(rewind, tmp_path / "ckpt", to=0) == (
        f"no batch of {tmp_path}/ckpt is committed; there is nothing to rewind"
    )


def test_a_batch_is_a_number(root):
    assert refusal(rewind, root, to="1").startswith(
        "checkpoints.rewind(): to is the string '1'"
    )


def test_a_batch_that_is_not_whole_is_refused(root):
    (root / "state/0/0/3.delta").unlink()
    says = f"{root} cannot be rewound to batch 2: {root}/state/0/0/3.delta is missing; "
    assert refusal(rewind, root, to=2) == (f"{says}the newest that is whole is batch 1")
    for version in (1, 2):
        (root / f"state/0/0/{version}.delta").unlink()
    assert refusal(rewind, root, to=2) == f"{says}no other is whole"


def test_input_that_has_gone_is_refused(root, tmp_path):
    for number in (0, 2, 3):
        (tmp_path / f"in/{number}.txt").unlink()
    assert refusal(rewind, root, to=1) == (
        f"{root} cannot be rewound to batch 1: input of the replayed batches has gone"
        f" (2 files, first {tmp_path}/in/2.txt); put it back, or rewind to a later batch"
    )
    assert rewind(root, to=3).inputs == ()


# --- it is done, or only told


def test_nothing_is_changed_unless_the_rewind_is_applied(root):
    put(root / "sparkstream-kit/query.json", json.dumps({
        "mode": "append", "fingerprint": "", "sinks": ["latest t: replaces it"],
    }))  # fmt: skip
    before = files_of(root)
    seen = rewind(root, to=1)
    assert seen.sinks == ("latest t: replaces it",)
    assert files_of(root) == before
    done = rewind(root, to=1, apply=True)
    assert done.applied
    moved = {*names(root, done.moved)}
    below = done.backup.relative_to(root)
    assert files_of(root) == (
        (before - moved)
        | {f"{below}/{name}" for name in moved}
        | {"sparkstream-kit/lock"}
    )
    assert damage(Logs(root)) is None
    assert (Logs(root).done, Logs(root).planned) == (1, 2)


HELD = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_checkpoint_in_use_is_left_alone(root, monkeypatch):
    check_unused(root)
    file = put(root / "sparkstream-kit/lock", "")
    other = [sys.executable, "-c", HELD, file]
    with running(*other, stdin=-1, stdout=-1) as holder:
        assert holder.stdout.readline() == "held\n"
        says = f"checkpoint {root} is in use by another process; end its query first"
        for call in (
            partial(check_unused, root),
            partial(rewind, root, to=1),
            partial(rewind, root, to=1, apply=True),
            partial(untrim, root),
        ):
            assert refusal(call) == says
        # It is locked in the moment after the look
        monkeypatch.setattr(lock, "user_of", lambda _: None)
        assert refusal(rewind, root, to=1, apply=True) == (
            f"checkpoint {root} is in use by a query that starts just now; end it first"
        )
    assert len(rewind(root, to=1).moved) > 5


def test_a_checkpoint_is_locked_meanwhile(root):
    file = root / "sparkstream-kit/lock"
    other = [sys.executable, "-c", HELD, file]
    with alone(root):
        assert process(other, input="").returncode == 1
    done = process(other, input="")
    assert (done.returncode, done.stdout) == (0, "held\n")


def test_a_lock_is_made_where_the_kit_has_no_folder_yet(tmp_path):
    with alone(tmp_path):
        assert (tmp_path / "sparkstream-kit/lock").read_text() == ""


# --- what is told


ROOT = Path("/ckpt")


def report(to=1, last=3, *, same=True, inputs=(), pins=False, sinks=(), applied=False):
    moved = ["state/0/0/3.delta", "state/0/0/.3.delta.crc", "offsets/3"]
    moved += ["sparkstream-kit/pins/3"] * pins
    return Rewind(
        path=ROOT,
        to=to,
        last=last,
        same=same,
        inputs=tuple(InputFile(3, 1, f"file:///none/{name}") for name in inputs),
        moved=tuple(ROOT / name for name in moved),
        backup=ROOT / "sparkstream-kit/it's",
        sinks=sinks,
        applied=applied,
    )


def test_a_rewind_tells_which_batches_run_again():
    def first_line(*batches, **how):
        return str(report(*batches, **how)).split("\n")[0]

    assert first_line(1, 3) == "/ckpt: batches 2 to 3 run again."
    assert first_line(1, 2) == "/ckpt: batch 2 runs again."
    assert first_line(1, 2, inputs=["a"]) == "/ckpt: batch 2 runs again, with 1 file:"
    several = str(report(inputs=["a", "b"])).split("\n")[:4]
    assert several[0] == "/ckpt: batches 2 to 3 run again, with 2 files:"
    assert [line.rpartition("/")[2] for line in several[1:]] == ["a", "b", ""]


SAME = "Batch 2 will have the same rows as before.\n"
ANEW = (
    "From batch {} on Spark plans anew: the same rows, cut into batches by what the\n"
    "sources hold then, and by maxFilesPerTrigger and the like.\n"
)
LEDGER = (
    "But if a sink with a ledger has appended or upserted batch 2, start puts the plan\n"
    "of that batch back, unless the batch has ended the input (drain).\n"
)
CURRENT = "the version is taken that is current when the batch comes.\n"
SINKS = """
What the sinks make of it:
  one that keeps a record of its batches keeps a batch with the same rows once,
    and refuses others
  any other gets the rows a second time, or replaces what it has

Nothing is changed yet. The rewind moves {} files to
  /ckpt/sparkstream-kit/it's"""


@pytest.mark.parametrize(
    ("last", "same", "pins", "rows"),
    [
        (3, True, False, SAME + ANEW.format(3)),
        (2, True, False, SAME),
        (3, False, False, ANEW.format(2) + LEDGER),
        (2, False, False, ANEW.format(2) + LEDGER),
        (
            3,
            True,
            True,
            SAME
            + ANEW.format(3)
            + "Batch 2 keeps the version of a model or table that it had. From batch 3"
            " on\n" + CURRENT,
        ),
        (3, False, True, ANEW.format(2) + LEDGER + "From batch 2 on\n" + CURRENT),
    ],
    ids=[
        "the same, and anew",
        "the same alone",
        "anew",
        "one batch anew",
        "the same, with a model",
        "anew, with a model",
    ],
)
def test_a_rewind_tells_which_rows_come_again(last, same, pins, rows):
    text = str(report(1, last, same=same, pins=pins))
    assert text.split("\n\n", 1)[1] == rows + SINKS.format(2 + pins)


def test_a_rewind_tells_what_each_sink_makes_of_it():
    text = str(report(sinks=("latest t: replaces it", "w" * 76 + " ab")))
    assert text.split("What the sinks make of it:\n")[1].startswith(
        f"  latest t: replaces it\n  {'w' * 76}\n    ab\n\nNothing is"
    )


def test_a_rewind_that_is_done_tells_how_to_undo_it():
    assert str(report(applied=True)).endswith(
        "\n\nMoved 2 files. To undo it, before the next start:\n  cp -a"
        """ '/ckpt/sparkstream-kit/it'"'"'s/.' /ckpt/"""
    )


# --- files


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (10, []),
        (9, ["10"]),
        (8, ["10", ".9.compact.crc", "9.compact", ".9.crc", "9"]),
        (7, ["10", ".9.compact.crc", "9.compact", ".9.crc", "9", ".8.crc"]),
    ],
)
def test_later_files_are_the_last_first_each_after_its_checksum(
    number, found, tmp_path
):
    for name in ("9", ".9.crc", "9.compact", ".9.compact.crc", "10", ".8.crc", "a.11"):
        put(tmp_path / name, "")
    (tmp_path / "12.tmp").mkdir()
    later = [file.name for file in later_files(tmp_path, number)]
    assert [name for name in later if "9" not in name] == [
        name for name in found if "9" not in name
    ]
    assert sorted(later) == sorted(found)
    checksums = [name.startswith(".") for name in later if "9" in name]
    assert checksums == sorted(checksums, reverse=True)


def test_later_files_of_no_log_are_none(tmp_path):
    assert later_files(tmp_path / "none", -1) == []


def test_files_are_moved_in_order_to_the_same_places_of_a_backup(tmp_path, monkeypatch):
    files = [put(tmp_path / name, name) for name in ("b/c/1", "b/2", "a")]
    moved = []
    rename = Path.rename

    def rename_it(file, target):
        moved.append(file)
        return rename(file, target)

    monkeypatch.setattr(Path, "rename", rename_it)
    move(tmp_path, files, tmp_path / "kit/backup")
    assert moved == files
    assert files_of(tmp_path) == {
        f"kit/backup/{name}" for name in ("b/c/1", "b/2", "a")
    }


def test_a_backup_has_the_time_of_day_in_utc(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    name = backup(tmp_path).relative_to(tmp_path / "sparkstream-kit").name
    assert BACKUP.fullmatch(name)
    made = datetime.strptime(name, "rewound-%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert before <= made <= datetime.now(UTC)


def test_a_batch_that_gets_another_plan_is_set_aside(root, tmp_path):
    plan(root, 4, until(4))
    plan(root, 5, until(4))
    entry(root, 4, (tmp_path / "in/0.txt", 1))
    state(root, 5)
    put(root / "sources/1/0", "\0v1", '{"orders":{"0":4}}')
    put(root / "sparkstream-kit/pins/4", "a model")
    before = files_of(root)
    set_aside(logs(root), 4)
    [aside] = (root / "sparkstream-kit").glob("rewound-*")
    assert BACKUP.fullmatch(aside.name)
    moved = {"offsets/4", "offsets/5", "sources/0/4", "state/0/0/5.delta"}
    assert files_of(aside) == moved
    assert before - files_of(root) == moved


def test_a_first_batch_is_set_aside_with_all_entries_of_its_logs(tmp_path):
    root = whole_checkpoint(tmp_path / "ckpt", 0, tmp_path / "in", planned=1)
    set_aside(logs(root), 0)
    assert files_of(root) - {
        str(file.relative_to(root)) for file in root.glob("sparkstream-kit/*/**/*")
    } == {"metadata"}


def test_entries_that_were_taken_out_of_logs_come_back(root, tmp_path):
    assert refusal(untrim, 7).startswith("checkpoints.untrim(): path is 7; give a")
    assert untrim(root) == 0
    file = tmp_path / "in/0.txt"
    for log in ("0", "7"):
        entry(root, 3, (file, 5, 3), log=log, compact=True)
    put(root / "sources/1/0", "\0v1", '{"orders":{"0":4}}')
    taken = put(root / "sparkstream-kit/trimmed/0/3.4.9", log_text(0, (file, 3)))
    assert untrim(str(root)) == 1
    assert not taken.exists()
    listed = Logs(root).inputs("0")
    assert [(each.entry, each.time) for each in listed] == [(0, 3), (3, 5)]
    assert (root / "sparkstream-kit/lock").exists()
    assert untrim(root) == 0
