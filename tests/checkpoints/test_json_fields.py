"""Which columns no line of the files of a run has, from files made by hand."""

import gzip
import os

import pytest
from support.checkpoint_files import entry

from sparkstream_kit.checkpoints.input_files import WatchedSource
from sparkstream_kit.checkpoints.json_fields import other_fields
from sparkstream_kit.checkpoints.logs import Logs

RENAMED = (("amount",), ("price",))
RIGHT = ((), ())


def found(tmp_path, *texts, columns=("id", "amount"), name="{}.json"):
    """Return what is found in files with these texts, of which the first is the newest."""
    files = []
    for number, text in enumerate(texts):
        file = tmp_path / name.format(number)
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
        files.append(str(file))
    return other_fields(files, columns)


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 1, "price": 2}\n{"id": 2, "price": 3}\n',
        '\n{"price": 2, "id": 1}',
        '[\n  {"id": 1, "price": 2},\n  {"id": 2}\n]\n',
        '{\n  "id": 1,\n  "price": 2\n}\n',
        '{"id": 1, "price": "amount"}',
    ],
    ids=["lines", "a blank line", "an array", "an object", "the name as a value"],
)
def test_a_field_that_was_renamed(text, tmp_path):
    assert found(tmp_path, text) == RENAMED


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 1, "amount": 2, "note": ""}',
        '{"id": 1, "note": ""}\n{"id": 2, "amount" : 2}',
        '{"id": 1}\n{"id": 2}',
        '{"ID": 1, "Amount": 2, "note": ""}',
        '{"id": 1, "amo\\u0075nt": 2, "note": ""}',
        '{"a":' + "[" * 100_000 + "]" * 100_000 + ',"note": ""}',
        '{"id": 1, "note": {"amount": 2}}',
        "id,price\n1,2\n",
        "",
    ],
    ids=[
        "all are there",
        "in another line",
        "no other field in its place",
        "in another case",
        "with an escape",
        "too deep to be read",
        "inside of another",
        "no JSON",
        "no line",
    ],
)
def test_good_input_is_not_told(text, tmp_path):
    assert found(tmp_path, text) == RIGHT


def test_an_older_file_of_the_run_counts_too(tmp_path):
    renamed = '{"id": 1, "price": 2}'
    assert found(tmp_path, renamed, renamed) == RENAMED
    assert found(tmp_path, renamed, '{"id": 1, "amount": 2}') == RIGHT


def test_of_more_than_8_mb_nothing_is_said(tmp_path):
    line = '{"id": 1, "price": 2}\n'
    most = line + " " * (8_000_000 - len(line))
    assert found(tmp_path, most) == RENAMED
    assert found(tmp_path, f"{most} ") == RIGHT
    assert found(tmp_path, most, line) == RIGHT


def test_a_column_of_a_folder_is_no_field(tmp_path):
    columns = ("id", "day")
    text = '{"id": 1, "price": 2}'
    assert found(tmp_path, text, columns=columns, name="day=1/{}.json") == RIGHT
    assert found(tmp_path, text, columns=columns) == (("day",), ("price",))


def test_a_packed_file_is_read_and_a_missing_one_is_not(tmp_path):
    file = tmp_path / "a.json.gz"
    file.write_bytes(gzip.compress(b'{"id": 1, "price": 2}\n'))
    assert other_fields([str(file)], ("id", "amount")) == RENAMED
    for damaged in (b"not packed", gzip.compress(b"")[:10] + b"no such block"):
        file.write_bytes(damaged)
        assert other_fields([str(file)], ("id", "amount")) == RIGHT
    assert other_fields([str(tmp_path / "gone.json")], ("id",)) == RIGHT


def test_the_files_of_a_run_are_those_of_its_batches_the_newest_first(tmp_path):
    root = tmp_path / "ckpt"
    for number in range(4):
        file = tmp_path / f"in/{number}.json"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.utime(file, (number, number))
        entry(root, number, (str(file), number * 1000), log="0")
    source = WatchedSource("0", str(tmp_path / "in"), {})
    assert source.newest_read() == [], "before a batch"
    source.read(Logs(root))
    source.look_for(0, 1)
    source.look_for(1, 2)
    source.done = 2
    names = [path.rpartition("/")[2] for path in source.newest_read()]
    assert names == ["2.json", "1.json"]


def test_of_a_checkpoint_that_is_gone_the_files_are_those_of_the_folder(tmp_path):
    for number in (3, 7):
        file = tmp_path / f"{number}.json"
        file.touch()
        os.utime(file, (number, number))
    source = WatchedSource("0", str(tmp_path), {})
    source.look_for(-1, 0)
    source.done = 0
    names = [path.rpartition("/")[2] for path in source.newest_read()]
    assert names == ["7.json", "3.json"]


def test_a_source_in_another_encoding_is_not_looked_at():
    assert WatchedSource("0", "/in", {}).is_utf8
    assert not WatchedSource("0", "/in", {"encoding": "UTF-16"}).is_utf8
