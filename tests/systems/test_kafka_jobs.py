"""The jobs on a topic of Kafka: what they give is what the same lines in files give."""

import json
import sqlite3
from collections import Counter
from typing import Any

import events_to_postgres
import kafka_word_count
import pytest
import sales_clean
import sales_totals
from support.batch_folders import rows_in

from sparkstream_kit import feeds

# The jobs of this process find that session
pytestmark = pytest.mark.usefixtures("spark")


class Input:
    """Lines in files, and the same ones in a topic."""

    def __init__(self, broker, folder, lines):
        folder.mkdir()
        whole = [line.encode() if isinstance(line, str) else line for line in lines]
        half = len(whole) // 2
        for name, part in {"a": whole[:half], "b": whole[half:]}.items():
            (folder / name).write_bytes(b"\n".join(part))
        self.folder, self.topic = str(folder), broker.topic(partitions=2, records=whole)
        self.flags = ("--kafka", broker.servers, "--topic", self.topic)


def sales(count, seed):
    return [
        line
        for _, text in feeds.sales_files(1, rows=count, seed=seed)
        for line in text.splitlines()
    ]


def test_totals_are_those_of_the_files(broker, tmp_path, capsys):
    given, printed = Input(broker, tmp_path / "in", sales(400, seed=4)), []
    for words in ([given.folder], [*given.flags, "--max-offsets-per-trigger", "150"]):
        assert sales_totals.main([*words, "--available-now", "--format", "csv"]) == 0
        printed.append(capsys.readouterr())
    assert printed[0].out == printed[1].out
    assert printed[0].out.count("\n") > 3
    assert "3 batches" in printed[1].err


def test_clean_and_bad_rows_are_those_of_the_files(broker, tmp_path):
    wrong = [b"junk", b"1,2", b"\xff\xfe"]
    given = Input(broker, tmp_path / "in", [*sales(100, seed=5), *wrong])
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, words in {"files": [given.folder], "kafka": list(given.flags)}.items():
        out = tmp_path / name
        assert sales_clean.main([*words, str(out), "--available-now"]) == 0
        for kind in ("good", "bad"):
            found[name, kind] = rows_in(out / kind)
    assert Counter(map(str, found["files", "good"])) == Counter(
        map(str, found["kafka", "good"])
    )
    assert len(found["kafka", "good"]) == 100
    places = {row.pop("_file") for row in found["kafka", "bad"]}
    assert {row.pop("_file") for row in found["files", "bad"]} == {f"{given.folder}/b"}
    assert sorted(map(str, found["files", "bad"])) == sorted(
        map(str, found["kafka", "bad"])
    )
    records = {
        f"kafka:{given.topic}/{r.partition}/{r.offset}": r.value
        for r in broker.records(given.topic)
    }
    assert sorted(records[place] or b"" for place in places) == sorted(wrong)


def test_words_are_counted_over_a_restart(broker, tmp_path, capsys):
    lines, counts = broker.topic(partitions=2), broker.topic()
    job = ("--kafka", broker.servers, "--topic", lines, "--available-now")
    kept = ("--checkpoint", f"{tmp_path}/ckpt", "--to", counts)
    texts = ["to be or not to be", " that\tis ", "", "to be"]
    for number in (2, 4):
        broker.send(lines, texts[number - 2 : number])
        assert kafka_word_count.main([*job, *kept]) == 0
        truth = Counter(word for text in texts[:number] for word in text.split())
        last = {
            record.key: json.loads(record.value or b"")
            for record in broker.records(counts)
        }
        assert {each["word"]: each["count"] for each in last.values()} == truth
        assert all(each["word"].encode() == key for key, each in last.items())
    # The second run writes what has changed, and no more
    assert len(broker.records(counts)) == 6 + 2
    capsys.readouterr()
    assert kafka_word_count.main(list(job)) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    ordered = sorted(truth.items(), key=lambda pair: (-pair[1], pair[0]))
    assert [(word, int(count)) for word, count in shown] == ordered


def test_events_in_a_table_are_those_of_the_files(broker, tmp_path):
    given = Input(
        broker,
        tmp_path / "in",
        list(map(feeds.csv_line, feeds.events_rows(200, seed=7))),
    )
    tables = []
    for number, words in enumerate(([given.folder], given.flags)):
        database = tmp_path / f"{number}.db"
        more = (
            "--database",
            f"sqlite:///{database}",
            "--checkpoint",
            f"{tmp_path}/{number}",
        )
        assert events_to_postgres.main([*words, *more, "--available-now"]) == 0
        with sqlite3.connect(database) as connection:
            tables.append(sorted(connection.execute("SELECT * FROM events").fetchall()))
    assert tables[0] == tables[1]
    assert len(tables[0]) == 200
