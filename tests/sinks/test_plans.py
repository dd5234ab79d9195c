"""The plan of a batch: what it has, when two read the same input, and how one is put back."""

import base64
import logging
import zlib

import pytest
from conftest import refusal
from support.checkpoint_files import (
    AT,
    commit,
    entry,
    place,
    plan,
    put,
    whole_checkpoint,
)
from support.kept_plans import DRAINED, packed, unpacked

from sparkstream_kit._internal.spark.place import RemotePlace
from sparkstream_kit.checkpoints.logs import DamagedError
from sparkstream_kit.sinks import plans
from sparkstream_kit.sinks.base import Target

WHERE = Target("table", "t")


@pytest.fixture
def root(tmp_path):
    """A checkpoint of a query that reads a folder, one file in each entry of its log.

    Batch 0 has read entry 0, and batch 1 the entries 1 and 2.
    """
    root = whole_checkpoint(tmp_path / "ckpt", 0)
    for number in range(3):
        entry(root, number, put(tmp_path / f"in/{number}.csv"))
    plan(root, 0, 0)
    plan(root, 1, 2, watermark=5)
    commit(root, 0)
    return root


def kept_of(root, batch, folders=None):
    """Return the plan of a batch as a sink keeps it."""
    kept = plans.plan_of(place(root), batch, folders or {})
    assert kept is not None
    return kept


def plan_of(root, batch, folders=None):
    return unpacked(kept_of(root, batch, folders))


# ---- What a plan has


def test_without_a_checkpoint_there_is_no_plan():
    assert plans.plan_of(None, 0, {}) is None


@pytest.mark.parametrize(("batch", "entries"), [(0, [0]), (1, [1, 2])])
def test_a_plan_has_the_files_that_its_batch_reads_and_no_others(
    root, tmp_path, batch, entries
):
    plan = plan_of(root, batch, {"0": f"{tmp_path}/in", "1": "another"})
    assert plan["logs"] == {
        "0": {
            "folder": f"{tmp_path}/in",
            "files": [
                [entry, 1_700_000_000_000, f"file://{tmp_path}/in/{entry}.csv"]
                for entry in entries
            ],
            "compact": [],
        }
    }
    assert plan["others"] == []
    assert plan["watermark"] == 5 * batch
    assert plan["offsets"] == (root / "offsets" / str(batch)).read_text()


def test_a_plan_of_spark_4_2_with_named_sources_is_kept_as_it_is(tmp_path):
    text = 'v2\n{"batchWatermarkMs":7,"conf":{}}\n0:3\n1:4'
    put(tmp_path / "offsets/0", text)
    found = plan_of(tmp_path, 0)
    assert (found["offsets"], found["others"]) == (text, [[None, "3"], [None, "4"]])


def test_a_folder_that_is_not_known_is_none(root):
    assert plan_of(root, 0)["logs"]["0"]["folder"] is None


def test_which_entries_of_its_batch_list_all_files_before_them(root, tmp_path):
    for number in (0, 1, 2, 3):
        entry(root, number, f"/{number}", compact=True)
    entry(root, 3, "/3")
    plan(root, 2, 3)
    compacted = [plan_of(root, batch)["logs"]["0"]["compact"] for batch in range(3)]
    assert compacted == [[0], [1, 2], [3]]


def test_of_a_source_that_is_not_of_files_a_plan_has_where_its_batch_begins_and_ends(
    tmp_path,
):
    entry(tmp_path, 0, "/a", log="1")
    entry(tmp_path, 1, "/b", log="1")
    plan(tmp_path, 0, "-", 0, '{"t":{"0":1}}')
    plan(tmp_path, 1, "5", 1, '{"t":{"0":2}}')
    assert plan_of(tmp_path, 0)["others"] == [[None, None], [None, '{"t":{"0":1}}']]
    assert plan_of(tmp_path, 1)["others"] == [
        [None, "5"],
        ['{"t":{"0":1}}', '{"t":{"0":2}}'],
    ]
    assert [file[0] for file in plan_of(tmp_path, 1)["logs"]["1"]["files"]] == [1]


def test_a_source_that_is_new_in_a_batch_begins_nowhere(tmp_path):
    plan(tmp_path, 0, "5")
    plan(tmp_path, 1, "5", "6")
    assert plan_of(tmp_path, 1)["others"] == [["5", "5"], [None, "6"]]


def test_a_plan_whose_batch_before_cannot_be_read_is_damage(root):
    (root / "offsets" / "0").unlink()
    with pytest.raises(DamagedError, match="offsets/0 is missing"):
        plans.plan_of(place(root), 1, {})


# ---- Whether two plans read the same input


def source(*files, folder="/in", compact=()):
    return {"0": {"folder": folder, "files": [*files], "compact": [*compact]}}


A, B = [0, 7, "file:///in/a%20b"], [1, 8, "file:///in/b"]
OF_FILES = packed(logs=source(A, B))
SAME = {
    "the same": (OF_FILES, OF_FILES),
    "no input": (packed(others=[]), packed(others=[])),
    "other settings": (packed(), packed(offsets="v1")),
    "files in another order": (OF_FILES, packed(logs=source(B, A))),
    "files in other entries": (
        OF_FILES,
        packed(logs=source([5, *A[1:]], [4, *B[1:]], compact=[5])),
    ),
    "a folder that has moved": (
        OF_FILES,
        packed(
            logs=source(
                [0, 7, "file:///a%20new/in/a%20b"],
                [1, 8, "file:///a%20new/in/b"],
                folder="/a new/in/",
            )
        ),
    ),
    "a folder that one does not know": (
        OF_FILES,
        packed(logs=source(A, B, folder=None)),
    ),
    "an offset with its keys in another order": (
        packed(others=[[None, '{"a": 1, "b": 2}']]),
        packed(others=[[None, '{"b": 2, "a": 1}']]),
    ),
    "an offset that is a list": (
        packed(others=[[None, "[1, 2]"]]),
        packed(others=[[None, "[1,2]"]]),
    ),
    "an offset that is no JSON": (
        packed(others=[["7 ", "a:{"]]),
        packed(others=[["7 ", "a:{"]]),
    ),
}
OTHERS = {
    "another watermark": (packed(), packed(watermark=1)),
    "another end": (packed(others=[["1", "2"]]), packed(others=[["1", "3"]])),
    "another beginning": (packed(others=[["1", "2"]]), packed(others=[["0", "2"]])),
    "another offset of a part": (
        packed(others=[[None, '{"a": 1, "b": 2}']]),
        packed(others=[[None, '{"a": 2, "b": 1}']]),
    ),
    "a list in another order": (
        packed(others=[[None, "[1, 2]"]]),
        packed(others=[[None, "[2, 1]"]]),
    ),
    "an offset with another space": (
        packed(others=[["1", "2"]]),
        packed(others=[["1", "2 "]]),
    ),
    "no row yet": (packed(others=[[None, "2"]]), packed(others=[["1", "2"]])),
    "one source more": (packed(), packed(logs=source(A))),
    "one file more": (OF_FILES, packed(logs=source(A))),
    "a file that was changed": (OF_FILES, packed(logs=source(A, [1, 9, B[2]]))),
    "another file": (OF_FILES, packed(logs=source(A, [1, 8, "file:///in/c"]))),
    "a file below another folder": (
        OF_FILES,
        packed(logs=source(A, [1, 8, "file:///in/b/b"])),
    ),
    "a folder that has moved, which one does not know": (
        OF_FILES,
        packed(
            logs=source(
                [0, 7, "file:///new/a%20b"], [1, 8, "file:///new/b"], folder=None
            )
        ),
    ),
    "a folder that has moved, which the other does not know": (
        packed(logs=source(A, B, folder=None)),
        packed(
            logs=source(
                [0, 7, "file:///new/a%20b"], [1, 8, "file:///new/b"], folder="/new"
            )
        ),
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_two_plans_read_the_same_input(case):
    one, other = SAME[case]
    assert plans.is_same_input(one, other) is True
    assert plans.is_same_input(other, one) is True


@pytest.mark.parametrize("case", OTHERS)
def test_two_plans_read_other_input(case):
    one, other = OTHERS[case]
    assert plans.is_same_input(one, other) is False
    assert plans.is_same_input(other, one) is False


@pytest.mark.parametrize(
    ("watermark", "ends"), [(DRAINED, True), (DRAINED - 1, False), (0, False)]
)
def test_the_batch_that_ends_the_input_is_known_by_its_watermark(watermark, ends):
    assert plans.ends_the_input(packed(watermark=watermark)) is ends


def text_of(content):
    return base64.b64encode(zlib.compress(content.encode())).decode()


@pytest.mark.parametrize(
    "damaged",
    [
        "é",
        packed()[:-9],
        base64.b64encode(b"not compressed").decode(),
        text_of("not JSON"),
        text_of("[]"),
        text_of("{}"),
        packed(logs=source([0, 7])),
        packed(logs={"0": {"folder": "/in", "compact": []}}),
        packed(logs={"0": None}),
    ],
    ids=[
        "no base64",
        "cut off",
        "not compressed",
        "no JSON",
        "a list",
        "no field",
        "a file without its name",
        "a source without its files",
        "a source that is nothing",
    ],
)
def test_a_text_that_is_no_plan_is_one_line_with_the_ways_on(damaged):
    for call in (
        plans.ends_the_input,
        lambda text: plans.is_same_input(text, packed()),
    ):
        assert (
            refusal(call, damaged)
            == "the plan that a sink keeps of its last batch is damaged; restore the"
            " sink from a backup, or start anew with another target and another"
            " checkpoint"
        )


def test_a_plan_that_was_made_can_be_read(root):
    for batch in (0, 1):
        text = kept_of(root, batch, {"0": "/in"})
        assert plans.is_same_input(text, text)
        assert not plans.ends_the_input(text)
    first, second = (kept_of(root, batch) for batch in (0, 1))
    assert not plans.is_same_input(first, second)


# ---- A plan is put back


def put_back(place, batch, plan, folders=None, *, makes=True):
    plans.put_back(place, batch, plan, folders or {}, WHERE, makes=makes)


def texts(folder):
    """Return the texts of all files of a checkpoint, by name."""
    return {
        str(file.relative_to(folder)): file.read_text(errors="replace")
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def lose(root, *names):
    for name in names:
        (root / name).unlink()


@pytest.fixture
def kept(root, tmp_path):
    """The plan of batch 1, as a sink keeps it."""
    return kept_of(root, 1, {"0": f"{tmp_path}/in"})


def test_a_checkpoint_that_has_the_plan_stays_as_it_is(root, kept, caplog):
    put(root / "offsets/.1.crc", "a checksum")
    before = texts(root)
    put_back(place(root), 1, kept)
    assert (texts(root), caplog.messages) == (before, [])


def test_the_plan_of_the_batch_that_ended_the_input_is_not_put_back(root, caplog):
    before = texts(root)
    lose(root, "offsets/1")
    put_back(place(root), 1, packed(watermark=DRAINED, offsets="v1"))
    before.pop("offsets/1")
    assert (texts(root), caplog.messages) == (before, [])


@pytest.mark.parametrize("lost", [["offsets/1"], ["offsets/1", "sources/0/2"]])
def test_a_plan_that_was_lost_is_put_back_with_what_it_reads(root, kept, caplog, lost):
    before = texts(root)
    lose(root, *lost)
    damaged = texts(root)
    # They are checksums of what was there, which Spark would not read then
    put(root / "offsets/.1.crc", "a checksum")
    put(root / "sources/0/.2.crc", "a checksum")
    said = (
        f"checkpoint {root} has lost the plan of batch 1, whose rows table t has;"
        " it is put back, so that the replayed batch has the same rows"
    )
    with caplog.at_level(logging.WARNING):
        put_back(place(root), 1, kept, makes=False)
        assert damaged == {
            name: text
            for name, text in texts(root).items()
            if not name.endswith(".crc")
        }
        put_back(place(root), 1, kept)
    assert caplog.messages == [said, said]
    now = texts(root)
    assert not [name for name in now if name.startswith(("offsets/.1", "sources/0/.2"))]
    rest = {name: text for name, text in now.items() if "rewound-" not in name}
    assert rest == before


def test_a_plan_of_other_files_is_set_aside_and_the_kept_one_put_back(
    root, kept, tmp_path, caplog
):
    before = texts(root)
    entry(root, 1, put(tmp_path / "in/other.csv"))
    lose(root, "sources/0/2")
    plan(root, 1, 1)
    put_back(place(root), 1, kept)
    assert "has another plan of batch 1, whose rows table t has; it is" in caplog.text
    now = texts(root)
    aside = {
        name.partition("/rewound-")[2].partition("/")[2]: text
        for name, text in now.items()
        if "rewound-" in name
    }
    assert sorted(aside) == ["offsets/1", "sources/0/1"]
    assert "other.csv" in aside["sources/0/1"]
    assert {name: now[name] for name in before} == before


def test_a_plan_whose_files_have_gone_is_refused_with_the_first_of_them(
    root, kept, tmp_path
):
    lose(root, "offsets/1")
    for name in ("1.csv", "2.csv"):
        (tmp_path / "in" / name).unlink()
    before = texts(root)
    for makes in (True, False):
        said = refusal(put_back, place(root), 1, kept, makes=makes)
        assert said.endswith(
            "has lost the plan of batch 1, whose rows table t has; to put the plan back"
            f" the files that it reads are needed, and {tmp_path}/in/1.csv has gone;"
            " restore it first"
        )
    assert texts(root) == before


def test_a_file_that_another_batch_read_may_have_gone(root, kept, tmp_path):
    lose(root, "offsets/1")
    (tmp_path / "in" / "0.csv").unlink()
    put_back(place(root), 1, kept)
    assert (root / "offsets" / "1").exists()


@pytest.mark.parametrize("now", ["moved", "the same", "not known"])
def test_the_files_of_a_folder_that_has_moved_get_the_names_that_they_have_now(
    root, kept, tmp_path, now
):
    lose(root, "offsets/1", "sources/0/1")
    folders = {
        "moved": {"0": f"{tmp_path}/new"},
        "the same": {"0": f"{tmp_path}/in"},
        "not known": {"1": f"{tmp_path}/new"},
    }
    if now == "moved":
        (tmp_path / "in").rename(tmp_path / "new")
    put_back(place(root), 1, kept, folders[now])
    name = "new" if now == "moved" else "in"
    text = (root / "sources" / "0" / "1").read_text()
    assert f'"file://{tmp_path}/{name}/1.csv","timestamp":1700000000000' in text


def test_a_file_whose_folder_is_not_known_keeps_its_name(root, tmp_path):
    kept = kept_of(root, 1)
    lose(root, "offsets/1", "sources/0/1")
    put_back(place(root), 1, kept, {"0": f"{tmp_path}/new"})
    assert f"{tmp_path}/in/1.csv" in (root / "sources/0/1").read_text()


def test_an_entry_that_lists_all_before_it_is_put_back_with_them(root, tmp_path):
    files = [(tmp_path / f"in/{number}.csv", AT, number) for number in range(3)]
    lose(root, "sources/0/2")
    whole = entry(root, 2, *files, compact=True).read_text()
    kept = kept_of(root, 1)
    lose(root, "offsets/1", "sources/0/1", "sources/0/2.compact")
    put_back(place(root), 1, kept)
    log = {file.name: file.read_text() for file in (root / "sources/0").iterdir()}
    assert sorted(log) == ["0", "1", "2.compact"]
    assert log["2.compact"] == whole
    assert '"batchId":1' in log["1"]
    assert '"batchId":2' not in log["1"]


def test_an_entry_that_is_no_log_of_files_any_more_is_replaced_with_its_checksum(
    root, tmp_path
):
    kept = kept_of(root, 0)
    lose(root, "offsets/0", "offsets/1", "commits/0", "sources/0/1", "sources/0/2")
    log = root / "sources" / "0"
    whole = (log / "0").read_text()
    (log / "0").write_text("of a broken disk")
    (log / ".0.crc").write_text("a checksum")
    put_back(place(root), 0, kept)
    assert {file.name: file.read_text() for file in log.iterdir()} == {"0": whole}


def test_a_damaged_plan_is_not_put_back(root):
    assert "is damaged; restore" in refusal(put_back, place(root), 1, "no plan")


# ---- Elsewhere than on this machine


@pytest.fixture
def elsewhere(spark, root):
    """The same checkpoint as one that only Hadoop reaches."""
    return RemotePlace(spark, f"file://{root}")


def test_a_plan_that_was_lost_elsewhere_is_put_back_there(root, kept, elsewhere):
    before = texts(root)
    lose(root, "offsets/1", "sources/0/1")
    put_back(elsewhere, 1, kept)
    now = texts(root)
    assert {name: text for name, text in now.items() if ".crc" not in name} == before


def test_another_plan_elsewhere_is_refused_with_the_way_on(root, kept, elsewhere):
    put_back(elsewhere, 1, kept)
    plan(root, 1, 1)
    before = texts(root)
    assert (
        refusal(put_back, elsewhere, 1, kept)
        == f"checkpoint file://{root} has another plan of batch 1, whose rows"
        " table t has; copy the checkpoint to this machine (hdfs dfs -get), run"
        " sparkstream checkpoint rewind COPY --to 0 --apply, remove COPY/offsets/1, and"
        " put the copy back"
    )
    assert texts(root) == before


# ---- The folders that a query reads


def test_the_folder_of_each_file_source_is_known_by_its_log(spark, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    rows = spark.readStream.text(str(one)).union(spark.readStream.text(str(two)))
    rate = spark.readStream.format("rate").load().selectExpr("'' AS value")
    assert plans.folders_read(rows.union(rate)) == {"0": str(one), "1": str(two)}
    assert plans.folders_read(rate) == {}
