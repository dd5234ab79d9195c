"""The ledger of `batch_files`, and how a batch gets into its folder: no query has to run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import refusal
from support.checkpoint_files import place, whole_checkpoint
from support.kept_plans import packed

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark.place import LocalPlace, Place, RemotePlace
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks import directories, formats
from sparkstream_kit.sinks.base import Opening, Target, open_batch_sink
from sparkstream_kit.sinks.formats import Format
from sparkstream_kit.sinks.ledger import Batch, Epoch

OWNER = "_sparkstream_query"
PLAN = packed()
NO_FRAME: Any = None  # of a call that is refused before it looks at its rows


class Folder:
    """A folder of `batch_files`, whose files a test makes."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    @property
    def place(self):
        return LocalPlace(str(self.path), self.path)

    @property
    def ledger(self):
        return directories._DirectoryLedger(self.place)  # noqa: SLF001

    @property
    def names(self):
        return sorted(file.name for file in self.path.iterdir())

    @property
    def epochs(self):
        """The driver of each epoch that is kept."""
        return {
            file.name: (file / "driver").read_text()
            for file in (self.path / "_sparkstream_epochs").glob("[0-9]*")
        }

    def has(self, *batches, owner=None, plan=PLAN):
        """Let it have directories of batches with a row each, and an owner."""
        for batch in batches:
            file = self.path / f"batch={batch:06}" / "part-0.json"
            file.parent.mkdir()
            file.write_text('{"n":1}\n')
            if plan is not None:
                (file.parent / "_sparkstream_plan").write_text(plan)
        if owner is not None:
            (self.path / OWNER).write_text(f"{owner}\n")
        return self

    def made(self, *names):
        """Let it have empty folders."""
        for name in names:
            (self.path / name).mkdir()
        return self

    def started(self, number, driver):
        """Let a driver have the newest epoch."""
        file = self.path / "_sparkstream_epochs" / str(number) / "driver"
        file.parent.mkdir(parents=True)
        file.write_text(driver)
        return self

    def target(self, *done, form=None, place=None):
        """Return it as the driver has it that has written the batches up to `done`."""
        return directories._Folder(  # noqa: SLF001
            place or self.place,
            Target("folder", str(self.path)),
            form or json_format(self.path),
            [*done],
        )


def json_format(path):
    return formats.of(sinks.batch_files, "json", {}, path)


@pytest.fixture
def folder(out):
    return Folder(out)


@pytest.fixture
def elsewhere(spark, folder):
    """The ledger of the same folder as one that only Hadoop reaches."""
    place = RemotePlace(spark, f"file://{folder.path}")
    return directories._DirectoryLedger(place)  # noqa: SLF001


# ---- What the names of the directories say


@pytest.mark.parametrize(
    ("names", "last"),
    [
        ([], -1),
        (["batch=000000"], 0),
        (["batch=000002", "batch=000010", "batch=000009"], 10),
        (["batch=1000000"], 1_000_000),
        ([".batch=000009.epoch=1", "batch=000003"], 3),
        (["batch=", "batch=x", "batch=-7", "7", "other=7", "abatch=7"], -1),
    ],
    ids=[
        "none",
        "the first",
        "several",
        "more than a million",
        "one that is being written",
        "names of others",
    ],
)
def test_the_last_batch_is_that_of_the_highest_directory(folder, names, last):
    folder.made(*names).has(owner="q")
    assert folder.ledger.last_batch("q") == last


@pytest.mark.parametrize("query", ["another", None])
def test_another_query_has_written_no_batch_there(folder, query):
    assert folder.has(0, 1, owner="q").ledger.last_batch(query) is None


@pytest.mark.parametrize(
    ("made", "written", "last"),
    [([], [], None), (["batch=000000"], [], 0), (["batch=000003"], [2], None)],
    ids=["an empty folder", "a directory that a user made", "rows"],
)
def test_without_an_owner_an_empty_directory_says_where_to_go_on(
    folder, made, written, last
):
    assert folder.made(*made).has(*written).ledger.last_batch("q") == last


def test_an_owner_that_cannot_be_read_is_another_one(folder):
    ledger = folder.has(0, owner="").ledger
    assert ledger.last_batch("q") is None
    assert ledger.any_query() == ("unknown", 0)


def test_the_plan_is_that_of_the_last_directory(folder):
    folder.has(1, plan="of 1").has(2, plan="of 2", owner="q")
    assert folder.ledger.last_plan("q") == "of 2"
    folder.has(3, plan=None)
    assert folder.ledger.last_plan("q") is None


@pytest.mark.parametrize("owner", ["q", None])
@pytest.mark.parametrize("number", [0, 1, 12])
def test_the_epoch_is_the_newest_one_with_its_driver(folder, owner, number):
    folder.has(owner=owner).started(number, "this one")
    if number == 12:
        folder.started(9, "an older one")
    assert folder.ledger.epoch("q") == Epoch(number, "this one")


def test_before_the_first_start_and_of_another_query_there_is_no_epoch(folder):
    assert folder.has(owner="q").ledger.epoch("q") is None
    assert folder.started(1, "this one").ledger.epoch("another") is None


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda path: None, False),
        (lambda path: (path / "a").mkdir(), False),
        (lambda path: (path / "_a").touch(), False),
        (lambda path: (path / ".a").touch(), False),
        (lambda path: (path / "a").touch(), True),
        (lambda path: (path / "a" / "b").mkdir(parents=True), True),
    ],
    ids=["nothing", "an empty folder", "_a", ".a", "a file", "a folder"],
)
def test_there_can_be_rows_in_files_and_folders_that_are_not_empty(folder, make, rows):
    make(folder.path)
    assert folder.ledger.has_rows() is rows


def test_which_query_has_written_is_known_as_long_as_there_are_rows(folder):
    assert folder.has(owner="q").ledger.any_query() is None
    assert folder.has(0, 2).ledger.any_query() == ("q", 2)
    (folder.path / OWNER).unlink()
    assert folder.ledger.any_query() is None


# ---- Whose the folder is


@pytest.mark.parametrize(
    ("written", "owner", "query"),
    [([], None, None), ([], None, "q"), ([0], "q", "q"), ([], "another", "q")],
    ids=[
        "nothing there at a first start",
        "nothing there",
        "its own",
        "another query has written nothing",
    ],
)
def test_a_query_may_write_to_an_empty_folder_and_to_its_own(
    folder, written, owner, query
):
    folder.has(*written, owner=owner).ledger.check_owner(query)


def test_a_directory_that_a_user_made_to_go_on_is_no_row_of_others(folder):
    folder.made("batch=000000").ledger.check_owner("q")


@pytest.mark.parametrize("query", ["q", None])
def test_a_folder_of_another_query_is_refused(folder, query):
    said = refusal(folder.has(0, owner="another").ledger.check_owner, query)
    assert said == (
        f"folder {folder.path} was written by another query (another, up to its batch"
        " 0); start on that query's checkpoint, use another folder, or remove this one"
    )


def test_files_of_others_are_refused(folder):
    (folder.path / "part-0").touch()
    said = refusal(folder.ledger.check_owner, "q")
    assert "has rows that no query of the kit has written; use another folder" in said


LOST = (
    "has directories of batches, and no file _sparkstream_query, which says whose they"
    " are: it was removed while its query ran, or put back in part; restore the folder"
    " from a backup, or use another one"
)


def test_directories_without_an_owner_are_refused_with_the_way_to_name_it(tmp_path):
    folder = Folder(tmp_path / "my out").has(0)
    assert refusal(folder.ledger.check_owner, None) == f"folder {folder.path} {LOST}"
    assert refusal(folder.ledger.check_owner, "q") == (
        f"folder {folder.path} {LOST}; or, if they are this query's and none is missing,"
        f" run echo q > '{folder.path}/_sparkstream_query'"
    )


def test_directories_elsewhere_without_an_owner_are_refused(folder, elsewhere):
    folder.has(0)
    assert refusal(elsewhere.check_owner, "q") == f"folder file://{folder.path} {LOST}"


# ---- How a user goes on without missing batches


@pytest.mark.parametrize(
    ("back", "way"),
    [
        (1, "remove the directories from batch=000002 on"),
        (2, "remove the directories from batch=000003 on"),
        (3, "run mkdir -p '{path}/batch=000003'"),
        (7, "run mkdir -p '{path}/batch=000007'"),
    ],
)
def test_the_folder_is_set_back_by_its_directories(tmp_path, back, way):
    folder = Folder(tmp_path / "my out").has(0, 3, owner="q")
    said = folder.ledger.set_back_command("q", back)
    assert said == way.format(path=folder.path)


def test_a_folder_elsewhere_is_set_back_by_hadoop(folder, elsewhere):
    assert (
        elsewhere.set_back_command("q", 3)
        == f"run hdfs dfs -mkdir -p file://{folder.path}/batch=000003"
    )


# ---- A query starts


@pytest.mark.parametrize("makes", [True, False])
def test_the_folder_is_made_at_the_start_but_not_in_a_dry_run(out, makes):
    target = directories._Folder(  # noqa: SLF001
        LocalPlace(str(out), out), Target("folder", str(out)), json_format(out)
    )
    assert target.prepare(NO_FRAME, None, None, makes) is None
    assert out.exists() == makes


def test_a_start_gets_the_plan_of_the_next_batch_if_it_is_there(folder):
    folder.has(0, owner="q").has(1, plan="of 1")
    target = folder.target()
    assert target.prepare(NO_FRAME, "q", Batch("q", 1), True) == "of 1"
    assert target.prepare(NO_FRAME, "q", Batch("q", 2), True) is None
    said = refusal(target.prepare, NO_FRAME, "q", Batch("q", 3), True)
    assert "holds this query's batches up to 1 only" in said
    said = refusal(target.prepare, NO_FRAME, "another", None, True)
    assert "was written by another query (q, up to its batch 1)" in said


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "out"
    target = directories._Folder(  # noqa: SLF001
        LocalPlace(str(path), path), Target("folder", str(path)), json_format(path)
    )
    said = refusal(target.prepare, NO_FRAME, None, None, True)
    assert said.startswith(
        f"batch_files: folder {path} cannot be used: Not a directory"
    )


def test_each_start_takes_the_next_epoch_and_the_last_two_are_kept(folder):
    target = folder.target()
    for number, kept in ((1, {"1"}), (2, {"1", "2"}), (3, {"2", "3"})):
        target.take("q", f"driver {number}", NO_FRAME)
        assert set(folder.epochs) == kept
        assert folder.epochs[str(number)] == f"driver {number}"
    assert folder.names == ["_sparkstream_epochs"]
    assert len([*(folder.path / "_sparkstream_epochs").iterdir()]) == 2


def test_what_an_older_driver_is_writing_is_removed_and_nothing_else(folder):
    folder.has(0, owner="q").made(".batch=000001.epoch=1", ".other")
    (folder.path / ".batch=000001.epoch=1" / "part-0").touch()
    folder.target().take("q", "this one", NO_FRAME)
    assert folder.names == [".other", "_sparkstream_epochs", OWNER, "batch=000000"]


class AMomentAgo(LocalPlace):
    """A folder that is listed with a directory which has just been renamed."""

    def names(self, name: str = "") -> list[str]:
        return [".batch=000001.epoch=1", *super().names(name)]


def test_a_directory_that_its_driver_has_just_renamed_counts(folder):
    folder.has(1).made(".batch=000002.epoch=1")
    place = AMomentAgo(str(folder.path), folder.path)
    folder.target(place=place).take("q", "this one", NO_FRAME)
    assert folder.names == ["_sparkstream_epochs", "batch=000001"]


def test_of_two_drivers_that_start_in_the_same_moment_one_is_refused(
    folder, monkeypatch
):
    folder.started(1, "the other one")
    monkeypatch.setattr(directories, "highest", lambda *_: 0)  # what it has seen before
    assert (
        refusal(folder.target().take, "q", "this one", NO_FRAME)
        == f"folder {folder.path}: another driver has started in the same moment"
    )
    assert folder.epochs == {"1": "the other one"}


# ---- A batch is written


@dataclass(frozen=True)
class Meanwhile(Format):
    """A format during whose writing something else happens."""

    then: Callable[[], object] = print

    def guarded(self, sink, frame, partition_by=()):
        self.then()
        return super().guarded(sink, frame, partition_by)


def while_written(then):
    return Meanwhile("json", "json", {}, then=then)


def batch(number, plan: str | None = PLAN, driver="this one"):
    return Batch("q", number, plan, driver=driver)


@pytest.fixture
def rows(spark):
    return spark.range(7, 8).toDF("n").coalesce(1)


def test_the_first_batch_makes_the_folder_with_its_owner_and_its_epoch(out, rows):
    folder = Folder(out)
    shutil.rmtree(out)
    target = folder.target()
    target.write(batch(0), rows)
    assert folder.names == ["_sparkstream_epochs", OWNER, "batch=000000"]
    assert (out / OWNER).read_text() == "q\n"
    assert folder.epochs == {"1": "this one"}
    [file] = (out / "batch=000000").glob("part-*")
    assert json.loads(file.read_text()) == {"n": 7}
    assert (out / "batch=000000" / "_sparkstream_plan").read_text() == PLAN
    assert target.done == [0, 1]


def test_the_next_batch_goes_on_and_a_restart_takes_no_epoch_of_its_own(folder, rows):
    folder.has(0, owner="q").started(3, "this one")
    note = (folder.path / OWNER).stat().st_ino
    for number, target in ((1, folder.target(0, 3)), (2, folder.target())):
        target.write(batch(number, plan=None), rows)
        assert target.done == [number, 3]
    assert folder.epochs == {"3": "this one"}
    assert (folder.path / OWNER).stat().st_ino == note
    assert not (folder.path / "batch=000002" / "_sparkstream_plan").exists()
    assert folder.names[-2:] == ["batch=000001", "batch=000002"]


class NotListed(LocalPlace):
    """A folder with a directory for each of a million batches."""

    def names(self, name: str = "") -> list[str]:
        assert name, "the whole folder is listed"
        return super().names(name)


def test_a_batch_after_the_last_one_of_its_process_lists_no_folder(folder, rows):
    folder.has(0, owner="q").started(3, "this one")
    place = NotListed(str(folder.path), folder.path)
    folder.target(0, 3, place=place).write(batch(1), rows)
    assert "batch=000001" in folder.names


def test_what_a_failed_attempt_of_this_driver_left_is_replaced(folder, rows):
    folder.has(owner="q").started(1, "this one").made(".batch=000000.epoch=1")
    (folder.path / ".batch=000000.epoch=1" / "part-of-it").touch()
    folder.target().write(batch(0), rows)
    assert not (folder.path / "batch=000000" / "part-of-it").exists()
    assert len([*(folder.path / "batch=000000").glob("part-*.json")]) == 1


def test_a_batch_that_is_there_is_passed_over(folder, rows):
    folder.has(0, owner="q").started(1, "this one")
    target = folder.target()
    target.write(batch(0), rows)
    [file] = (folder.path / "batch=000000").glob("part-*")
    assert (json.loads(file.read_text()), target.done) == ({"n": 1}, [])


def test_a_folder_of_others_gets_no_batch(folder):
    folder.has(0, owner="another")
    said = refusal(folder.target().write, batch(0), NO_FRAME)
    assert "was written by another query (another," in said
    assert folder.names == [OWNER, "batch=000000"]


def test_a_gap_is_refused_before_anything_is_written(folder):
    folder.has(0, owner="q")
    said = refusal(folder.target().write, batch(2), NO_FRAME)
    assert "batch 2 is next, but folder" in said
    assert folder.names == [OWNER, "batch=000000"]


def test_a_newer_driver_that_starts_during_a_batch_keeps_it_out(folder, rows):
    folder.has(0, owner="q").started(1, "this one")

    def start_again():
        folder.target().take("q", "the newer one", NO_FRAME)

    target = folder.target(0, 1, form=while_written(start_again))
    said = refusal(target.write, batch(1), rows)
    assert "(epoch 2, the newer one); this one ends" in said
    assert "batch=000001" not in folder.names
    assert target.done == [0, 1]


class Claimed(LocalPlace):
    """A folder for which another driver starts while this one writes its owner."""

    def write(self, name: str, text: str) -> None:
        super().write(name, text)
        if name == OWNER:
            super().write("_sparkstream_epochs/2/driver", "the newer one")


def test_a_newer_driver_that_starts_before_a_batch_keeps_its_directory_to_itself(
    folder,
):
    """Else this one would write into the directory of the newer one's epoch."""
    folder.started(1, "this one")
    written: list[str] = []
    target = folder.target(
        form=while_written(lambda: written.append("in the newer one's")),
        place=Claimed(str(folder.path), folder.path),
    )
    said = refusal(target.write, batch(0), NO_FRAME)
    assert "(epoch 2, the newer one); this one ends" in said
    assert not written


def test_what_fails_because_a_newer_driver_removed_it_is_told_so(folder):
    folder.has(0, owner="q").started(1, "this one")

    def fail():
        folder.target().take("q", "the newer one", NO_FRAME)
        raise OSError("no such directory")

    said = refusal(
        folder.target(0, 1, form=while_written(fail)).write, batch(1), NO_FRAME
    )
    assert "(epoch 2, the newer one); this one ends" in said


def test_what_fails_by_itself_is_raised_and_the_batch_is_still_the_next_one(folder):
    folder.has(0, owner="q").started(4, "this one")

    def fail():
        raise OSError("disk full")

    target = folder.target(form=while_written(fail))
    with pytest.raises(OSError, match="disk full"):
        target.write(batch(1), NO_FRAME)
    assert target.done == [0, 4]
    assert "batch=000001" not in folder.names


def test_a_folder_that_goes_during_its_first_batch_is_refused(folder, rows):
    folder.has(owner="q").started(1, "this one")
    target = folder.target(
        form=while_written((folder.path / OWNER).unlink),
    )
    said = refusal(target.write, batch(0), rows)
    assert "was removed while batch 0 was written to it" in said
    assert "batch=000000" not in folder.names


# ---- Whether a batch follows the last one that this process wrote


@pytest.mark.parametrize("plan", [PLAN, None])
def test_after_its_own_last_batch_a_process_does_not_look_at_the_whole_folder(
    folder, plan
):
    folder.has(1, owner="q", plan=plan)
    assert folder.target(1, 1)._continues_last_batch(batch(2, plan)) is True  # noqa: SLF001


@pytest.mark.parametrize(
    ("done", "batches", "owner", "plan"),
    [
        ([], [1], "q", PLAN),
        ([0, 1], [0, 1], "q", PLAN),
        ([2, 1], [1, 2], "q", PLAN),
        ([1, 1], [1], "another", PLAN),
        ([1, 1], [1], None, PLAN),
        ([1, 1], [], "q", PLAN),
        ([1, 1], [1, 2], "q", PLAN),
        ([1, 1], [1, 2], "q", None),
    ],
    ids=[
        "its first batch",
        "another batch was its last",
        "the batch comes again",
        "the owner is another one",
        "the owner has gone",
        "the last batch has gone",
        "another driver has written the batch",
        "another driver has written the batch, and the plan is not known",
    ],
)
def test_what_has_changed_the_folder_lets_a_process_look_at_it(
    folder, done, batches, owner, plan
):
    folder.has(*batches, owner=owner)
    assert folder.target(*done)._continues_last_batch(batch(2, plan)) is False  # noqa: SLF001


def test_a_plan_that_is_not_known_needs_none_of_the_batch_before(folder):
    target = folder.has(owner="q").target(1, 1)
    assert target._continues_last_batch(batch(2, None)) is True  # noqa: SLF001


# ---- Whether the folder has gone while a batch was written


def check_not_removed(folder, number):
    folder.target()._check_not_removed(batch(number))  # noqa: SLF001


def test_a_folder_that_still_has_its_owner_has_not_gone(folder):
    check_not_removed(folder.has(owner="q"), 7)


@pytest.mark.parametrize(
    ("batches", "owner", "number", "said"),
    [
        (
            [],
            None,
            0,
            "was removed while batch 0 was written to it; start the query aga",
        ),
        ([], None, 1, "holds none of this query's batches: it was deleted, or"),
        ([0], None, 1, "has directories of batches, and no file _sparkstream_query"),
        ([0], "another", 1, "was written by another query (another, up to its batch 0"),
    ],
    ids=["before the first", "with all batches", "its owner", "taken by others"],
)
def test_a_folder_that_has_gone_is_told(folder, batches, owner, number, said):
    folder.has(*batches, owner=owner)
    assert said in refusal(check_not_removed, folder, number)


# ---- The sink


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("hdfs://nn/out/", "hdfs://nn/out"),
        ("hdfs://nn/out", "hdfs://nn/out"),
        ("{folder}/link/out/", "{folder}/out"),
        ("file://{folder}/out", "{folder}/out"),
    ],
)
def test_a_folder_has_one_name_however_it_is_spelt(tmp_path, path, name):
    (tmp_path / "link").symlink_to(tmp_path)
    sink = sinks.batch_files(path.format(folder=tmp_path))
    expected = name.format(folder=tmp_path)
    assert sink.writes_to == (Target("folder", expected, expected),)
    assert (sink.kind, sink.modes) == ("batch_files", ("append", "complete", "update"))


def test_an_argument_of_another_type_and_an_unknown_format_are_refused():
    assert refusal(sinks.batch_files, 5).startswith("sinks.batch_files(): path is 5; ")
    assert "did you mean parquet?" in refusal(sinks.batch_files, "o", format="parqet")


@pytest.mark.parametrize(
    "path", ["s3a://bucket/out", "abfs://c@a/out", "s3://hdfs/out"]
)
def test_a_file_system_without_an_atomic_rename_is_refused(path):
    assert refusal(sinks.batch_files, path) == (
        f"batch_files {path}: only a local path and hdfs:// have a rename that is atomic;"
        " use sinks.files, read through Spark"
    )


@pytest.mark.parametrize(
    ("format_name", "texts"), [("json", "json"), ("csv", "csv"), ("parquet", "csv")]
)
def test_how_a_format_holds_values(out, format_name, texts):
    form = sinks.batch_files(out, format=format_name).form
    assert form is not None
    assert form.texts == texts


@pytest.fixture
def stream(spark):
    """A stream of one column that is not started."""
    return spark.readStream.format("rate").load().selectExpr("value AS n")


@pytest.mark.parametrize("name", ["batch", "BATCH"])
def test_a_column_with_the_name_of_the_directories_is_refused(stream, out, name):
    said = refusal(
        open_batch_sink, sinks.batch_files(out), stream.withColumn(name, stream.n), None
    )
    assert "column batch has the name of the directories; rename it" in said
    assert not out.exists()


def test_a_column_that_the_format_cannot_hold_is_refused(stream, out):
    two = stream.withColumn("m", stream.n)
    said = refusal(open_batch_sink, sinks.batch_files(out, format="text"), two, None)
    assert said.startswith("batch_files: ")
    assert not out.exists()


class OfAStore(LocalPlace):
    """As a path without a scheme whose file system is an object store."""

    renames_in_one_step = False


def test_a_path_in_an_object_store_is_refused_at_the_start(stream, out, monkeypatch):
    monkeypatch.setattr(directories, "locate", lambda *_: OfAStore("out", out))
    said = refusal(open_batch_sink, sinks.batch_files("out"), stream, None)
    assert said.startswith("batch_files out: only a local path and hdfs:// have a re")


def test_a_path_that_only_a_server_reaches_is_refused_at_the_start(stream, monkeypatch):
    def refused(*_):
        raise InvalidInputError("a path of another file system was taken for local")

    monkeypatch.setattr(directories, "locate", lambda *_: Place("hdfs://nn/out"))
    monkeypatch.setattr(directories, "refuse_elsewhere", refused)
    monkeypatch.setattr(directories, "refuse_many_disks", refused)
    said = refusal(open_batch_sink, sinks.batch_files("hdfs://nn/out"), stream, None)
    assert said.startswith("hdfs://nn/out is on a Spark Connect server, and its files")


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("refuse_many_disks", ("batch_files", "{out}")),
        ("refuse_elsewhere", ("batch_files {out}", "sinks.files")),
    ],
    ids=["on a cluster", "on a server"],
)
def test_a_local_path_that_would_be_on_other_disks_is_refused(
    stream, out, monkeypatch, question, asked
):
    def refused(_spark, *given):
        raise InvalidInputError(f"refused: {given}")

    monkeypatch.setattr(directories, question, refused)
    said = refusal(open_batch_sink, sinks.batch_files(out), stream, None)
    assert said == f"refused: {tuple(each.format(out=out) for each in asked)}"


def test_a_sink_that_opens_makes_its_folder_and_takes_an_epoch_at_the_end(
    stream, out, tmp_path
):
    checkpoint = place(whole_checkpoint(tmp_path / "ckpt", 0))
    dry_run = Opening(makes=False)
    open_batch_sink(sinks.batch_files(out), stream, checkpoint, dry_run)
    assert not out.exists()
    opening = Opening()
    open_batch_sink(sinks.batch_files(out), stream, checkpoint, opening)
    assert [*out.iterdir()] == []
    opening.end()
    assert [file.name for file in out.iterdir()] == ["_sparkstream_epochs"]


def test_rows_are_read_back_with_the_number_of_their_batch(spark, stream, folder):
    for name, text in (("000000", "a"), ("000012", "b"), ("x", "c")):
        folder.made(f"batch={name}")
        (folder.path / f"batch={name}" / "part-0").write_text(text)
    sink = sinks.batch_files(folder.path, format="text")
    assert sink.read is not None
    found = sink.read(spark, stream.schema, folder.place)
    assert found.dtypes == [("n", "string"), ("sparkstream_batch", "int")]
    assert sorted(map(tuple, found.collect())) == [("a", 0), ("b", 12), ("c", None)]


def test_rows_that_are_compared_are_as_the_sink_would_write_them(rows, tmp_path):
    form = sinks.batch_files(tmp_path / "out", format="csv", header=True).form
    assert form is not None
    found = form.written(rows, str(tmp_path / "compared"))
    assert [tuple(row) for row in found.collect()] == [("7",)]
    assert not (tmp_path / "out").exists()
