"""A file becomes small files, whole and in its order, whatever its records hold."""

import json

import pytest
from conftest import refusal

from sparkstream_kit.feeds import drip, replay_files

HEADER = "id,text\n"
CSV = HEADER + '1,"to be,\nor not"\n2,\n3,"a ""b"""\n'


def csv_file(tmp_path, text=CSV, name="trips.csv"):
    file = tmp_path / name
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_file_has_the_header_and_whole_records(tmp_path, newline):
    file = csv_file(tmp_path, "\ufeff" + CSV.replace("\n", newline))
    assert list(replay_files(file, rows=2)) == [
        ("trips-0001.csv", f'{HEADER}1,"to be,{newline}or not"\n2,\n'),
        ("trips-0002.csv", f'{HEADER}3,"a ""b"""\n'),
    ]
    files = replay_files(file)
    assert [path.name for path in drip(files, tmp_path / "in")] == ["trips-0001.csv"]
    assert [name for name, _ in files] == ["trips-0001.csv"], "it begins anew each time"


def test_other_files_are_cut_by_lines_and_a_hidden_name_becomes_one_that_spark_reads(
    tmp_path,
):
    texts = [*(json.dumps({"n": n}) for n in range(3)), "not a row"]
    assert list(
        replay_files(
            csv_file(tmp_path, "\r\n".join(texts), "._posts.2024.jsonl"), rows=3
        )
    ) == [
        ("posts.2024-0001.jsonl", "".join(f"{text}\n" for text in texts[:3])),
        ("posts.2024-0002.jsonl", "not a row\n"),
    ]


def test_a_long_cell_is_read_and_a_file_that_is_not_utf8_is_refused(tmp_path):
    long = "1" * 200_000
    assert [text for _, text in replay_files(csv_file(tmp_path, f"n\n{long}\n"))] == [
        f"n\n{long}\n"
    ]
    (tmp_path / "trips.csv").write_bytes(b"caf\xe9\n1\n")
    said = refusal(lambda: list(replay_files(tmp_path / "trips.csv")))
    assert said.endswith("give a readable UTF-8 text file")


def test_arguments_that_make_no_sense(tmp_path):
    assert "nothing.csv; give the path" in refusal(
        replay_files, tmp_path / "nothing.csv"
    )
    assert "rows is 0; give at least 1 row per file" in refusal(
        replay_files, csv_file(tmp_path), rows=0
    )


@pytest.mark.parametrize("text", ["", "id\n"])
def test_a_file_without_rows_is_refused(tmp_path, text):
    assert "has no rows; give a file that has some" in refusal(
        replay_files, csv_file(tmp_path, text)
    )
