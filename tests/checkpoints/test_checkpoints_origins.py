"""A query goes on with the files that it has read, and with no others, wherever they lie by now."""

import ast
import os
import re
import shutil
from collections.abc import Callable
from functools import reduce

import pytest
from conftest import refusal
from pyspark.sql import functions as F
from support.sink_streams import forget_commit

from sparkstream_kit import sinks, sources
from sparkstream_kit._internal.spark.session import in_force

Sum = Callable[..., int]


def land(folder, name, number):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f'{{"n":{number}}}\n')


@pytest.fixture(
    params=["2", pytest.param("3", marks=pytest.mark.slow)],
    ids=["2 partitions", "3 partitions"],
)
def total(spark, tmp_path, request, finish):
    """Sum up all files of some folders, one source each, from the checkpoint `my ckpt`."""

    def sum_of(*folders, read=None, **options):
        rows = [
            sources.json(spark, folder, schema="n INT", **(read or {}))
            for folder in folders
        ]
        sums = reduce(lambda one, other: one.union(other), rows).agg(
            F.sum("n").alias("n")
        )
        finish(
            sums,
            sinks.latest("sums"),
            "complete",
            checkpoint=tmp_path / "my ckpt",
            **options,
        )
        return int(spark.table("sums").first().n)

    with in_force(spark, {"spark.sql.shuffle.partitions": request.param}):
        yield sum_of


@pytest.mark.fast("2 partitions-a-b")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a", "b"),
        ("my data", "the [new] {data} é%20+"),
        ("deep/in/here", "up"),
        ("売上", "売上\u3000a\xa0b"),
    ],
)
def test_a_folder_that_has_moved_is_refused_until_it_is_said_and_then_exact(
    total, tmp_path, before, after
):
    old, new = tmp_path / before, tmp_path / after
    for number in range(12):  # more than ten batches: Spark packs its log
        land(old, f"{number}.json", 1)
        if number in {0, 10, 11}:
            assert total(old) == number + 1
    old.rename(new)
    land(new, "late.json", 1000)
    assert (
        refusal(total, new)
        == f"checkpoint {tmp_path}/my ckpt: source 0 of the query that wrote it has"
        f" read files of {old}, and this query reads {new} there; if the files have"
        f" moved: start(…, moved={{{str(old)!r}: {str(new)!r}}}); to read everything"
        " again: start(…, allow_changed_query=True)"
    )
    assert total(new, moved={old: new}) == 1012  # paths as `Path`
    land(new, "later.json", 1)
    assert total(new, moved={old: new}) == 1013  # said again: nothing is left to do
    assert total(new) == 1013


@pytest.mark.slow
def test_a_link_to_the_same_folder_is_the_same_folder(total, tmp_path):
    folder, link = tmp_path / "folder", tmp_path / "current"
    link.symlink_to(folder)
    for number, path in enumerate(
        [folder, link, folder, f"{tmp_path}/nowhere/../folder", f"file:{link}"]
    ):
        land(folder, f"{number}.json", 1)
        (tmp_path / "nowhere").mkdir(exist_ok=True)
        assert total(path) == number + 1


def test_sources_in_another_order_are_refused(total, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    land(one, "1.json", 1)
    land(two, "1.json", 10)
    assert total(one, two) == 11
    land(two, "2.json", 100)
    assert "one, which is source 1 of this query; put the sources back" in refusal(
        total, two, one
    )
    assert total(one, two) == 111


@pytest.mark.slow
def test_another_folder_is_read_from_the_start_if_that_is_asked_for(total, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    land(one, "1.json", 1)
    land(two, "1.json", 10)
    os.utime(two / "1.json", (0, 0))  # far older than what was read before
    assert total(one) == 1
    assert total(two, allow_changed_query=True) == 11
    land(two, "2.json", 100)
    assert total(two) == 111
    assert f"has read files of {two}, and this query reads {one} the" in refusal(
        total, one
    )
    assert total(one, allow_changed_query=True) == 112


@pytest.mark.slow
def test_after_another_folder_without_a_file_the_first_one_goes_on(total, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    land(one, "1.json", 1)
    two.mkdir()
    assert total(one) == 1
    assert total(two, allow_changed_query=True) == 1  # a typing error, such as this is
    land(one, "2.json", 10)
    assert total(one) == 11
    assert total(two, allow_changed_query=True) == 11
    assert total(one, allow_changed_query=True) == 22  # which reads it from the start


@pytest.mark.slow
def test_files_of_a_batch_that_will_come_again_are_not_forgotten(total, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, number in ((one, 1), (two, 10)):
        land(folder, "1.json", number)
    assert total(one) == 1
    land(one, "2.json", 1)
    assert total(one) == 2
    forget_commit(tmp_path / "my ckpt")
    said = refusal(total, two, allow_changed_query=True)
    assert re.search(
        "batch 1 was planned with files of .*/one and is not committed", said
    )
    assert total(one) == 2
    assert total(two, allow_changed_query=True) == 12


def test_without_a_committed_batch_the_way_out_is_another_checkpoint(total, tmp_path):
    for folder in ("one", "two"):
        land(tmp_path / folder, "1.json", 1)
    total(tmp_path / "one")
    shutil.rmtree(tmp_path / "my ckpt" / "commits")
    said = refusal(total, tmp_path / "two", allow_changed_query=True)
    assert re.search(
        r"once more on that folder, or start anew on another checkpoint$", said
    )


@pytest.mark.slow
def test_what_was_found_before_a_first_batch_was_planned_is_forgotten(total, tmp_path):
    for folder, number in (("one", 1), ("two", 10), ("more", 100)):
        land(tmp_path / folder, "1.json", number)
    total(tmp_path / "one")
    # The query was killed after its look into the folder
    for part in ("offsets", "commits", "state"):
        shutil.rmtree(tmp_path / "my ckpt" / part)
    assert total(tmp_path / "two", tmp_path / "more") == 110


@pytest.mark.slow
def test_partition_folders_and_patterns_lie_under_what_is_read(total, tmp_path):
    land(tmp_path / "in" / "day=1", "1.json", 1)
    assert total(tmp_path / "in") == 1
    land(tmp_path / "in" / "day=2", "1.json", 1)
    assert total(tmp_path / "in") == 2
    assert total(f"{tmp_path}/i*") == 2
    (tmp_path / "in").rename(tmp_path / "out")
    assert f"has read files of {tmp_path}/in, and" in refusal(total, tmp_path / "out")
    assert total(tmp_path / "out", moved={f"{tmp_path}/in": f"{tmp_path}/out"}) == 2


def test_what_the_message_says_of_a_pattern_is_right(total, tmp_path):
    land(tmp_path / "in" / "2026-01", "1.json", 1)
    assert total(f"{tmp_path}/in/2026-*") == 1
    (tmp_path / "in").rename(tmp_path / "out")
    land(tmp_path / "out" / "2026-02", "2.json", 10)
    moved = ast.literal_eval(
        re.findall(r"moved=({.*?})", refusal(total, f"{tmp_path}/out/2026-*"))[0]
    )
    assert total(f"{tmp_path}/out/2026-*", moved=moved) == 11


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"recursiveFileLookup": True}])
def test_a_subfolder_that_has_moved_is_read_once_if_that_is_said(
    total, tmp_path, options
):
    ins = tmp_path / "in"
    for day, number in (("day=1", 1), ("day=2", 10)):
        land(ins / day, f"{number}.json", number)
    assert total(ins, read=options) == 11
    (ins / "day=1").rename(ins / "day=01")
    land(ins / "day=01", "3.json", 100)
    for _ in range(2):
        assert total(ins, read=options, moved={ins / "day=1": ins / "day=01"}) == 111


@pytest.mark.slow
def test_files_that_have_new_times_after_a_move_are_read_once(total, tmp_path):
    old, new = tmp_path / "in", tmp_path / "copy"
    for number in range(4):
        land(old, f"{number}.json", 1)
        os.utime(
            old / f"{number}.json",
            (number + 1, 30 * 86_400 if number == 3 else number + 1),
        )
    assert total(old) == 4
    shutil.copytree(old, new, copy_function=shutil.copyfile)
    shutil.rmtree(old)
    land(new, "late.json", 10)
    assert total(new, moved={old: new}) == 14


@pytest.mark.slow
def test_every_folder_of_a_pattern_is_looked_at(total, tmp_path):
    # One batch, one file of the log: in/a/1.json and in/b/10.json, of which only the last
    # one is under in/b.
    ins, other = tmp_path / "in", tmp_path / "other"
    for folder, number in (("a", 1), ("b", 10)):
        land(ins / folder, f"{number}.json", number)
    assert total(f"{ins}/*") == 11
    assert f"has read files of {ins}/a, and this query reads {ins}/b " in refusal(
        total, ins / "b"
    )
    other.mkdir()
    for folder in ("a", "b"):
        (ins / folder).rename(other / f"{folder}-1")
    land(other / "a-1", "3.json", 100)
    both = {ins / "a": other / "a-1", ins / "b": other / "b-1"}
    assert f"has read files of {ins}/b, and" in refusal(
        total, f"{other}/*", moved={ins / "a": other / "a-1"}
    )
    assert total(f"{other}/*", moved=both) == 111
    land(other / "b-1", "4.json", 1000)
    # A-1 is forgotten, b-1 is not
    assert total(other / "b-1", allow_changed_query=True) == 1111
