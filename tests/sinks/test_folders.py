"""Folders of Spark's file sink: which fit a checkpoint, who owns them, and what they lost."""

import shutil
from types import SimpleNamespace

import pytest
from conftest import refusal
from support.checkpoint_files import ID, commit, metadata, place, plan, whole_checkpoint

from sparkstream_kit._internal.spark.place import LocalPlace, Place, RemotePlace
from sparkstream_kit.sinks import folders

OTHER = "00000000-1111-2222-3333-444444444444"


class Folder:
    """A folder of Spark's file sink, whose files a test makes."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    @property
    def place(self):
        return LocalPlace(str(self.path), self.path)

    @property
    def owner(self):
        file = self.path / "_sparkstream_query"
        return file.read_text() if file.exists() else None

    def has(self, *batches, owner=None):
        """Let its log have batches, a number or a name as `9.compact`, and an owner."""
        log = self.path / "_spark_metadata"
        log.mkdir(exist_ok=True)
        for batch in batches:
            (log / str(batch)).touch()
        if owner is not None:
            (self.path / "_sparkstream_query").write_text(f"{owner}\n")
        return self


@pytest.fixture
def target(tmp_path):
    return Folder(tmp_path / "out")


@pytest.fixture
def root(tmp_path):
    return whole_checkpoint(tmp_path / "ckpt", 0)


def check(target, root):
    folders.check_log("files: folder out", target.place, place(root))


def reached(root, planned, committed):
    """Let a checkpoint have plans and commits up to these batches."""
    for batch in range(planned + 1):
        plan(root, batch, batch)
    for batch in range(committed + 1):
        commit(root, batch)


# ---- A folder that fits its checkpoint


@pytest.mark.parametrize(
    ("planned", "committed", "written", "owner"),
    [
        (-1, -1, [], None),
        (-1, -1, [], ID),
        (-1, -1, [], OTHER),
        (0, -1, [], None),
        (0, -1, [], OTHER),
        (0, -1, [0], ID),
        (0, 0, [0], ID),
        (0, 0, [0], None),
        (3, 2, [0, 1, 2, 3], ID),
        (3, 2, [0, 1, 2], ID),
        (3, 3, [0, 1, 2, 3], ID),
        (3, 3, ["2.compact", 3], ID),
        (3, 3, ["1.compact", 2, "3.compact"], ID),
    ],
    ids=[
        "nothing there",
        "a first start that ended without a batch",
        "another query that ended without a batch",
        "the first batch was planned",
        "the first batch was planned, and another query ended without one",
        "the first batch was written, and not committed",
        "the first batch",
        "the first batch, of a query without the kit",
        "the last batch was written, and not committed",
        "the last batch was planned",
        "all batches",
        "all batches in one entry, and one after it",
        "all batches in the last entry",
    ],
)
def test_a_folder_fits_the_checkpoint_of_its_query(
    target, root, planned, committed, written, owner
):
    target.has(*written, owner=owner)
    reached(root, planned, committed)
    check(target, root)


def test_a_folder_may_have_hidden_names_before_its_query_starts(target, root):
    for name in (".hidden", "_hidden"):
        (target.path / name).touch()
    check(target, root)


def test_a_folder_may_have_files_that_a_crash_left_of_the_first_batch(target, root):
    reached(root, 0, -1)
    (target.path / "part-0").touch()
    check(target, root)


# ---- Others have written


@pytest.mark.parametrize(
    ("owner", "named"), [(OTHER, OTHER), (None, "unknown")], ids=["known", "unknown"]
)
def test_batches_of_another_query_are_refused_at_a_first_start(
    target, root, owner, named
):
    target.has(0, 1, owner=owner)
    assert (
        refusal(check, target, root)
        == f"files: folder out has the batches of another query ({named}), up to its"
        " batch 1, which Spark would take for this query's, or no longer show; start on"
        " the checkpoint of the query that wrote them, use another folder, or remove"
        " this one"
    )


def test_one_batch_of_another_query_is_enough(target, root):
    target.has(0)
    assert "another query (unknown), up to its batch 0," in refusal(check, target, root)


def test_batches_of_another_query_are_refused_at_any_start(target, root):
    target.has(0, 1, owner=OTHER)
    reached(root, 1, 1)
    assert f"another query ({OTHER}), up to its batch 1" in refusal(check, target, root)


def test_a_checkpoint_without_an_id_owns_no_folder(target, tmp_path):
    target.has(0, owner=OTHER)
    said = refusal(check, target, tmp_path / "ckpt")
    assert f"another query ({OTHER}), up to its" in said


def test_files_that_no_query_has_written_are_refused_at_a_first_start(target, root):
    for name in ("_hidden", "part-0"):
        (target.path / name).touch()
    said = refusal(check, target, root)
    assert said.startswith(
        "files: folder out has files that no query has written, which Spark would"
    )


@pytest.fixture
def running(monkeypatch):
    """One query runs, of which the folder may be."""
    query = SimpleNamespace(id=OTHER, name="sales")
    monkeypatch.setattr(folders, "running", lambda: [(query, None)])


@pytest.mark.usefixtures("running")
def test_a_folder_that_a_running_query_has_claimed_is_refused_before_its_first_batch(
    target, root
):
    target.has(owner=OTHER)
    assert (
        refusal(check, target, root)
        == "files: folder out is written by query sales, which runs; end that query"
        " first, or give each query a target of its own"
    )


@pytest.mark.usefixtures("running")
def test_a_running_query_that_has_not_claimed_the_folder_is_no_obstacle(target, root):
    check(target.has(), root)
    check(target.has(owner=ID), root)


@pytest.mark.usefixtures("running")
def test_a_folder_of_the_query_itself_which_runs_is_refused_by_others(target, tmp_path):
    metadata(tmp_path / "ckpt", OTHER)
    check(target.has(owner=OTHER), tmp_path / "ckpt")


# ---- Batches are missing, or too many


@pytest.mark.parametrize(
    ("planned", "committed", "written", "lacks"),
    [
        (0, 0, [], "all batches"),
        (3, 3, [], "all batches"),
        (3, 3, [1, 2, 3], "batch 0"),
        (3, 3, [0, 1, 3], "batch 2"),
        (3, 2, [0, 3], "batch 1"),
        (3, 3, ["1.compact", 3], "batch 2"),
    ],
    ids=[
        "the only one",
        "all",
        "the first",
        "one between",
        "the first of two",
        "the one after all others in one entry",
    ],
)
def test_a_folder_that_lacks_batches_is_refused(
    target, root, planned, committed, written, lacks
):
    target.has(*written, owner=ID)
    reached(root, planned, committed)
    assert (
        refusal(check, target, root)
        == f"files: folder out lacks {lacks} of this query: it was removed, emptied or"
        " made again, or is another folder than before, in which Spark's file sink"
        " cannot go on; restore it, or start anew with another target and another"
        " checkpoint (sinks.batch_files can go on in a new folder, with continues=)"
    )


def test_a_checkpoint_from_before_the_folder_is_refused(target, root):
    target.has(0, 1, 2, 3, owner=ID)
    reached(root, 2, 1)
    assert (
        refusal(check, target, root)
        == f"files: folder out has batches up to 3, and checkpoint {root} was"
        " rewound or restored to batch 2: Spark would skip what comes between by its"
        " number, whatever is in it; start anew with another folder and another"
        " checkpoint"
    )


def test_a_folder_from_before_the_checkpoint_is_refused(target, root):
    target.has(0, 1, owner=ID)
    reached(root, 3, 2)
    assert (
        refusal(check, target, root)
        == f"files: folder out has batches up to 1 only, and checkpoint {root}"
        " has committed batches up to 2: the others are missing; put the folder back as"
        " it was, or start anew with another folder and another checkpoint"
    )


def test_what_only_a_server_reaches_is_not_checked_and_a_warning_says_so(
    target, root, caplog
):
    target.has(0, owner=OTHER)
    folders.check_log("files: folder out", target.place, Place("hdfs://nn/ckpt"))
    folders.check_log("files: folder out", Place("hdfs://nn/out"), place(root))
    assert [message.split(", as ")[1] for message in caplog.messages] == [
        f"{place} is on a Spark Connect server; let no other query use it"
        for place in ("hdfs://nn/ckpt", "hdfs://nn/out")
    ]


# ---- A folder is claimed, and looked at while its query runs


def claimed(where, root):
    """Return what looks at a folder that a query has claimed."""
    look = folders.claim(where, place(root))
    assert look is not None
    return look


@pytest.mark.parametrize("before", [None, OTHER])
def test_a_query_that_starts_writes_its_id_into_its_folder(target, root, before):
    target.has(owner=before)
    assert claimed(target.place, root)(-1) is None
    assert target.owner == f"{ID}\n"


def test_a_folder_that_names_its_query_already_is_not_written_to(target, root):
    target.has(owner=ID)
    note = target.path / "_sparkstream_query"
    before = note.stat().st_ino
    assert claimed(target.place, root)(-1) is None
    assert note.stat().st_ino == before


def test_nothing_is_claimed_without_a_checkpoint_an_id_or_the_folder_in_reach(
    target, root, tmp_path
):
    without_id = place(tmp_path / "another")
    away = Place("hdfs://nn/path")
    for where, checkpoint in (
        (target.place, None),
        (target.place, without_id),
        (target.place, away),
        (away, place(root)),
    ):
        assert folders.claim(where, checkpoint) is None
    assert target.owner is None


@pytest.fixture
def look(target, root):
    """What looks at the folder, whose log has the batches 0 and 1."""
    return claimed(target.has(0, 1).place, root)


@pytest.mark.parametrize("batch", [-1, 0, 1])
def test_a_folder_with_all_batches_up_to_the_last_one_has_lost_nothing(look, batch):
    assert look(batch) is None


@pytest.mark.parametrize(("batch", "missing"), [(2, 2), (4, 2)])
def test_a_folder_that_lacks_the_last_batch_has_lost_it(look, target, batch, missing):
    assert (
        look(batch)
        == f"folder {target.path} lacks batch {missing} of this query: it was removed,"
        " emptied or made again while the query wrote to it; restore it, or start anew"
        " with another target and another checkpoint"
    )


def test_a_folder_that_has_gone_has_lost_its_first_batch_and_is_not_made_again(
    look, target
):
    shutil.rmtree(target.path)
    assert "lacks batch 0 of this query" in look(1)
    assert not target.path.exists()


def test_a_folder_that_another_query_took_is_told(look, target):
    target.has(owner=OTHER)
    assert (
        look(1)
        == f"folder {target.path} was taken by another query ({OTHER}) while this one"
        " wrote to it: Spark skips the batches of one of them by their numbers; start"
        " anew with another target and another checkpoint"
    )


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_note_of_the_owner_that_alone_has_gone_is_written_again(look, target, left):
    note = target.path / "_sparkstream_query"
    note.unlink()
    if left == "an empty file":
        note.touch()
    assert look(1) is None
    assert target.owner == f"{ID}\n"


class NoAtomicRename(LocalPlace):
    """As an object store, in which a file cannot be replaced in one step."""

    renames_in_one_step = False


def test_without_an_atomic_rename_no_owner_is_noted_and_batches_are_looked_for(
    target, root
):
    place = NoAtomicRename(str(target.path), target.path)
    look = claimed(place, root)
    target.has(0)
    assert look(0) is None
    assert target.owner is None
    target.has(owner=OTHER)
    assert look(0) is None
    assert "lacks batch 1" in (look(1) or "")


def test_a_folder_elsewhere_is_told_by_its_address(spark, target, root):
    place = RemotePlace(spark, f"file://{target.path}")
    said = claimed(place, root)(0) or ""
    assert f"folder file://{target.path} lacks batch 0" in said


@pytest.mark.parametrize(
    ("names", "number"),
    [([], -1), (["0"], 0), (["9", "10", ".11.crc"], 10), (["9.compact"], 9)],
    ids=["no log", "the first", "the tenth", "a compacted one"],
)
def test_the_highest_number_of_a_log(target, names, number):
    if names:
        target.has(*names)
    assert folders.highest(target.place, "_spark_metadata") == number
