"""Folders that have moved: what a start says of them, and how their files are named then."""

import os
from pathlib import Path
from typing import Any

import pytest
from support.checkpoint_files import (
    AT,
    commit,
    entry,
    log_text,
    logs,
    metadata,
    plan,
    put,
)

from sparkstream_kit._internal.spark.logical_plan import Input
from sparkstream_kit.checkpoints.guard import StartingQuery, _has_its_folders
from sparkstream_kit.checkpoints.logs import InputFile, Logs
from sparkstream_kit.checkpoints.moved import (
    Move,
    _former_base,
    _is_still_read,
    _move,
    _moved_by_user,
    _reached_by_links,
    _rewritten,
    _set_aside_before,
    bases,
    find_moves,
    renamed,
    rewrite,
)
from sparkstream_kit.errors import InvalidInputError


def checkpoint(root, *sources, planned=0, committed=0):
    """Write a checkpoint whose sources have read these folders, one file of each an entry."""
    metadata(root)
    for batch in range(planned + 1):
        plan(root, batch, *(len(folders) - 1 for folders in sources))
    for batch in range(committed + 1):
        commit(root, batch)
    for source, folders in enumerate(sources):
        for number, folder in enumerate(folders):
            entry(root, number, f"{folder}/{number}.csv", log=str(source))
    return logs(root)


def moves_of(logs, reads, **how):
    """Return the moves of a query that reads these folders, without asking a session."""
    folders = {log: Path(folder) for log, folder in reads.items()}
    no_session: Any = None
    return find_moves(no_session, logs, folders, {}, **how)


# What a start finds


@pytest.mark.parametrize(
    "read",
    [
        ["/in"],
        ["/in/day=1", "/in/day=2"],
        ["hdfs://namenode/in"],
    ],
)
def test_folders_below_what_a_query_reads_are_as_before(tmp_path, read):
    assert moves_of(checkpoint(tmp_path, read), {"0": "/in"}) == []


def test_a_checkpoint_without_a_plan_has_read_nothing(tmp_path):
    assert moves_of(Logs(tmp_path), {"0": "/in"}) == []


def test_a_folder_that_was_found_after_the_last_plan_does_not_count(tmp_path):
    logs = checkpoint(tmp_path, ["/in", "/in"])
    entry(tmp_path, 2, "/elsewhere/2.csv")
    assert moves_of(logs, {"0": "/in"}) == []


@pytest.mark.parametrize(
    ("read", "reads", "says"),
    [
        pytest.param(
            [["/old in/day=1"]],
            {"0": "/new"},
            "source 0 of the query that wrote it has read files of /old in, and this"
            " query reads /new there; if the files have moved: start(…, moved={'/old"
            " in': '/new'}); to read everything again: start(…,"
            " allow_changed_query=True)",
            id="another folder",
        ),
        pytest.param(
            [["/in"], ["/more"]],
            {"0": "/in"},
            "source 1 of the query that wrote it has read files of /more, and this"
            " query reads no files there; to read everything again: start(…,"
            " allow_changed_query=True)",
            id="a source less",
        ),
        pytest.param(
            [["/a/day=1"], ["/b"]],
            {"0": "/b", "1": "/a"},
            "source 0 of the query that wrote it has read files of /a, which is source"
            " 1 of this query; put the sources back in their order, or give it a"
            " checkpoint of its own",
            id="another order",
        ),
        pytest.param(
            [["/in", "/old"]],
            {"0": "/in"},
            "source 0 of the query that wrote it has read files of /old, and this"
            " query reads /in there; if the files have moved: start(…,"
            " moved={'/old': '/in'}); to read everything again: start(…,"
            " allow_changed_query=True)",
            id="one of two folders",
        ),
    ],
)
def test_a_query_that_reads_another_folder_is_refused(tmp_path, read, reads, says):
    logs = checkpoint(tmp_path, *read)
    with pytest.raises(InvalidInputError) as told:
        moves_of(logs, reads)
    assert str(told.value) == f"checkpoint {tmp_path}: {says}"


def test_the_way_to_read_everything_again_is_that_of_the_caller(tmp_path):
    logs = checkpoint(tmp_path, ["/old"])
    with pytest.raises(InvalidInputError, match="again: a new target$"):
        moves_of(logs, {"0": "/new"}, reread_hint="a new target")


def test_files_that_are_forgotten_come_after_those_that_have_moved(tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    link = tmp_path / "z-link"
    link.symlink_to(new)
    logs = checkpoint(
        tmp_path / "ckpt", ["/a", "/b", link, new], ["/c"], planned=3, committed=3
    )
    assert moves_of(logs, {"0": new, "1": "/d"}, forget=True) == [
        Move("0", link, new),
        Move("0", None, new),
        Move("1", None, Path("/d")),
    ]


@pytest.mark.parametrize(
    ("planned", "committed", "back"),
    [
        (1, 0, "rewind: sparkstream checkpoint rewind {} --to 0"),
        (5, 3, "rewind: sparkstream checkpoint rewind {} --to 3"),
        (0, -1, "start anew on another checkpoint"),
    ],
)
def test_files_of_a_batch_that_is_not_committed_are_not_forgotten(
    tmp_path, planned, committed, back
):
    logs = checkpoint(tmp_path, ["/old"], planned=planned, committed=committed)
    with pytest.raises(InvalidInputError) as told:
        moves_of(logs, {"0": "/new"}, forget=True)
    assert str(told.value) == (
        f"checkpoint {tmp_path}: batch {planned} was planned with files of /old and is"
        " not committed; start the query once more on that folder, or"
        f" {back.format(tmp_path)}"
    )


def test_a_folder_that_has_moved_may_have_a_batch_that_is_not_committed(tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    (tmp_path / "link").symlink_to(new)
    logs = checkpoint(tmp_path / "ckpt", [tmp_path / "link"], planned=2, committed=1)
    assert moves_of(logs, {"0": new}) == [Move("0", tmp_path / "link", new)]


def test_folders_that_the_user_has_moved_are_as_spark_finds_them(spark, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    logs = checkpoint(tmp_path / "ckpt", [old / "day=1", old / "day=2"], [new / "x"])
    reads = {"0": new, "1": new}
    assert find_moves(spark, logs, reads, {f"file://{old}": f"{new}/x/.."}) == [
        Move("0", old, new)
    ]


# What becomes of the log


def test_a_log_names_its_files_under_the_new_folder(tmp_path, caplog):
    caplog.set_level("INFO")
    logs = checkpoint(tmp_path, ["/old/a b", "/other", "/old"])
    rewrite(logs, Move("0", Path("/old"), Path("/new")))
    assert [str(each.uri) for each in logs.inputs("0")] == [
        "file:///new/a%20b/0.csv",
        "file:///other/1.csv",
        "file:///new/2.csv",
    ]
    assert {each.time for each in logs.inputs("0")} == {AT}
    assert (
        f"checkpoint {tmp_path}: files that source 0 has read of /old are named under"
        " /new"
    ) in caplog.text


def test_another_source_s_log_stays_as_it_is(tmp_path):
    logs = checkpoint(tmp_path, ["/old"], ["/old"])
    rewrite(logs, Move("1", Path("/old"), Path("/new")))
    uris = [logs.inputs(log)[0].uri for log in ("0", "1")]
    assert uris == ["file:///old/0.csv", "file:///new/0.csv"]


def test_what_was_taken_out_of_a_log_comes_back_first(tmp_path):
    logs = checkpoint(tmp_path, ["/old"])
    folder = tmp_path / "sparkstream-kit/trimmed/0"
    put(folder / "1.6.7", log_text(0, ("/old/0.csv", 5)))
    entry(tmp_path, 1, "/old/1.csv", compact=True)
    rewrite(logs, Move("0", Path("/old"), Path("/new")))
    assert list(folder.iterdir()) == []
    assert logs.inputs("0") == [
        InputFile(0, 5, "file:///new/0.csv"),
        InputFile(1, AT, "file:///new/1.csv"),
    ]


@pytest.mark.parametrize(
    ("uri", "old", "new", "wanted"),
    [
        ("file:///in/a.csv", "/in", "/new", "file:///new/a.csv"),
        ("file:///in/x/y/a.csv", "/in/x", "/", "file:///y/a.csv"),
        ("file:///my%20in/a%20b.csv", "/my in", "/n", "file:///n/a%20b.csv"),
        (
            "file:///in/a.csv",
            "/in",
            "/é [1] 5%?",
            "file:///é%20%5B1%5D%205%25%3F/a.csv",
        ),
        ("file:///inner/a.csv", "/in", "/new", "file:///inner/a.csv"),
        ("file:///other/a.csv", "/in", "/new", "file:///other/a.csv"),
        ("hdfs://n/in/a.csv", "/in", "/new", "hdfs://n/in/a.csv"),
        ("file:///in/a.csv", None, "/b", "file:///b/.sparkstream-former/in/a.csv"),
        ("file:///b/a.csv", None, "/b", "file:///b/a.csv"),
        ("file:///my%20b/a.csv", None, "/my b", "file:///my%20b/a.csv"),
    ],
)
def test_a_file_has_another_name_after_a_move(uri, old, new, wanted):
    assert renamed(uri, Move("0", Path(old) if old else None, Path(new))) == wanted


def test_a_file_that_has_moved_has_the_time_that_it_has_there(tmp_path):
    (tmp_path / "a.csv").write_text("1")
    os.utime(tmp_path / "a.csv", (1_600_000_000, 1_600_000_000))
    move = Move("0", Path("/old"), tmp_path)

    def after(uri):
        return _rewritten(InputFile(3, AT, uri), move)

    there = f"file://{tmp_path}/a.csv"
    assert after("file:///old/a.csv") == InputFile(3, 1_600_000_000_000, there)
    gone = f"file://{tmp_path}/b.csv"
    assert after("file:///old/b.csv") == InputFile(3, AT, gone)
    assert after(there) == InputFile(3, AT, there)


def test_a_file_that_is_forgotten_hides_no_other_by_its_time(tmp_path):
    move = Move("0", None, tmp_path)
    forgotten = _rewritten(InputFile(3, AT, "file:///old/a.csv"), move)
    former = f"file://{tmp_path}/.sparkstream-former/old/a.csv"
    assert forgotten == InputFile(3, 0, former)
    of_now = InputFile(3, AT, f"file://{tmp_path}/a.csv")
    assert _rewritten(of_now, move) == of_now


# Which move it is


def test_a_source_still_reads_a_folder_unless_it_has_gone_and_was_moved(tmp_path):
    there = tmp_path / "there"
    there.mkdir()

    def is_read(folder, moved, base=tmp_path):
        return _is_still_read("0", f"file://{folder}", base, moved)

    gone = tmp_path / "gone"
    assert is_read(gone, {})
    assert is_read(there, {there: tmp_path / "new"})
    assert not is_read(gone, {gone: tmp_path / "new"})
    assert not is_read(gone / "day=1", {gone: tmp_path / "new"})
    assert is_read(gone, {gone: Path("/elsewhere")})
    assert not is_read(there, {}, base=tmp_path / "other")
    assert not is_read(there, {}, base=None)


def test_the_user_s_moves_go_before_links_and_those_before_what_is_forgotten(tmp_path):
    new, link = tmp_path / "new", tmp_path / "link"
    new.mkdir()
    link.symlink_to(new)

    def move(folder, moved=None, *, base=new, forget=False):
        return _move("0", f"file://{folder}", base, moved or {}, forget=forget)

    assert move(link, {link: new / "x"}) == Move("0", link, new / "x")
    assert move(link) == move(link, forget=True) == Move("0", link, new)
    assert move("/gone") is None
    assert move("/gone", forget=True) == Move("0", None, new)
    assert move("/gone", base=None, forget=True) is None
    former = "/b/.sparkstream-former/a"
    assert move(former, base=Path("/a")) == Move("0", Path(former), Path("/a"))
    assert move(former, base=Path("/a"), forget=True) == Move("0", None, Path("/a"))


@pytest.mark.parametrize(
    ("folder", "base", "old"),
    [
        ("/b/.sparkstream-former/a", "/a", "/b/.sparkstream-former/a"),
        ("/b/.sparkstream-former/a/x", "/a", "/b/.sparkstream-former/a"),
        ("/b/.sparkstream-former/a", "/c", None),
        ("/b/.sparkstream-former/ab", "/a", None),
        ("/b", "/a", None),
    ],
)
def test_a_folder_that_was_set_aside_comes_back(folder, base, old):
    wanted = Move("0", Path(old), Path(base)) if old else None
    assert _set_aside_before("0", f"file://{folder}", Path(base)) == wanted


@pytest.mark.parametrize(
    ("uri", "moved", "wanted"),
    [
        ("file:///old/x", {"/old": "/in"}, ("/old", "/in")),
        ("file:///old/x", {"/old/x": "/in/y"}, ("/old/x", "/in/y")),
        ("file:///old/x", {"/old": "/"}, None),
        ("file:///old/in/x", {"/old": "/"}, ("/old", "/")),
        ("file:///old/x", {"/other": "/in"}, None),
        ("file:///old/x", {"/old": "/out", "/old/x": "/in"}, ("/old/x", "/in")),
        ("hdfs://n/old/x", {"/old": "/in"}, None),
        ("file:///my%20old", {"/my old": "/in"}, ("/my old", "/in")),
    ],
)
def test_the_user_says_which_folder_is_below_that_of_the_source_now(uri, moved, wanted):
    folders = {Path(old): Path(new) for old, new in moved.items()}
    move = _moved_by_user("0", uri, Path("/in"), folders)
    assert move == (wanted and Move("0", Path(wanted[0]), Path(wanted[1])))


def test_a_folder_is_reached_by_links(tmp_path):
    deep = tmp_path / "real/day=1/hour=2"
    deep.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")

    def move(folder, base, scheme="file://"):
        return _reached_by_links("0", f"{scheme}{folder}", base)

    real = tmp_path / "real"
    assert move(link, real) == Move("0", link, real)
    assert move(link / "day=1/hour=2", real) == Move("0", link, real)
    assert move(deep, link) == Move("0", real, link)
    assert move(deep, link / "day=1") == Move("0", real / "day=1", link / "day=1")
    assert move(link, real / "day=1") is None
    assert move(tmp_path / "other", real) is None
    assert move(link / "day=9", real) is None
    assert move(link, real, scheme="hdfs://") is None


def test_what_a_source_has_read_is_told_without_its_partitions(tmp_path):
    (tmp_path / "now/2026-01/x").mkdir(parents=True)
    now = tmp_path / "now"

    def former(folder, base=None):
        return str(_former_base(Path(folder), base))

    assert former("/in/sales/day=1/hour=2") == "/in/sales"
    assert former("/in/day=1/sales") == "/in/day=1/sales"
    assert former("/in/sales") == "/in/sales"
    assert former("/old/2026-01", now) == "/old"
    assert former("/old/2026-01/x", now) == "/old"
    assert former("/old/2026-02", now) == "/old/2026-02"
    assert former("/old/2026-02/day=1", now) == "/old/2026-02"


# What a query reads


@pytest.mark.classic_only("a server has a working folder of its own")
def test_the_folder_of_a_source_is_that_before_its_pattern(spark, tmp_path):
    (tmp_path / "odd [1]").mkdir()

    def base(path):
        one = Input("files", path, {}, 1, (0,))
        other = Input("kafka", None, {}, 0, (1,))
        return bases(spark, [one, other])

    assert base(f"{tmp_path}/in") == {"1": tmp_path / "in"}
    assert base(f"file://{tmp_path}/in/x/..") == {"1": tmp_path / "in"}
    assert base(f"{tmp_path}/i*/x") == {"1": tmp_path}
    assert base(f"{tmp_path}/a/b{{c,d}}/e") == {"1": tmp_path / "a"}
    assert (
        base(f"{tmp_path}/a/b?") == base(f"{tmp_path}/a/[bc]") == {"1": tmp_path / "a"}
    )
    assert base(f"{tmp_path}/odd \\[1\\]") == {"1": tmp_path / "odd [1]"}
    assert base(f"{tmp_path}/odd [1]") == {"1": tmp_path / "odd [1]"}
    assert base("hdfs://namenode/in/sales") == {"1": Path("/in/sales")}
    assert base("hdfs://namenode/in/2026-*/x") == {"1": Path("/in")}


@pytest.mark.classic_only("sets Hadoop's own settings")
def test_files_on_another_file_system_are_not_forgotten(spark, tmp_path):
    """Spark would look for their new names there, and fail at each start."""
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001
    hadoop.set("fs.viewfs.mounttable.moved.link./far", tmp_path.as_uri())
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    logs = checkpoint(tmp_path / "ckpt", ["viewfs://moved/far/a"])

    def answers(folder):
        rows = spark.readStream.text(f"{folder}/b")
        query = StartingQuery(rows, "q", "append", allow_changed=True, moved={})
        return list(_has_its_folders(query, logs))

    again = r"files of /far/a, .* again: start anew on another checkpoint$"
    with pytest.raises(InvalidInputError, match=again):
        answers("viewfs://moved/far")
    assert len(answers(tmp_path)) == 1
