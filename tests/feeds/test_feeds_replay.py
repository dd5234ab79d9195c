"""A file is replayed by the clock of its rows, whole and in order, whatever its times are like."""

import json
import socket
import threading

import pytest
from conftest import refusal
from feeds.test_feeds import FakeTime

from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.feeds import LineServer, drip, replay, replay_files

CSV = 'id,time,text\n1,100,"to be,\nor not"\n2,160,b\n3,150,c\n4,soon,d\n5,,e\n6,400,f\n'
RECORDS = ['1,100,"to be,\nor not"', "2,160,b", "3,150,c", "4,soon,d", "5,,e", "6,400,f"]


@pytest.fixture
def fake(monkeypatch):
    fake = FakeTime(0.0)
    monkeypatch.setattr("sparkstream_kit.feeds.files.monotonic", lambda: fake.now)
    return fake


def csv_file(tmp_path, text=CSV):
    file = tmp_path / "trips.csv"
    file.write_bytes(text.encode())
    return file


def test_lines_come_at_the_pace_of_their_times(tmp_path, fake):
    lines = replay(csv_file(tmp_path), time="time", speed=30, stop=fake)
    assert [(round(fake.now, 6), line) for line in lines] == [
        (0, RECORDS[0]),
        (2, RECORDS[1]),
        (2, RECORDS[2]),  # older than the one before it
        (2, RECORDS[3]),  # no time that can be read
        (2, RECORDS[4]),
        (10, RECORDS[5]),
    ]


def test_times_are_read_by_the_format_that_is_given(tmp_path, fake):
    file = csv_file(
        tmp_path, "id,time\n1,12/31/2010 8:26\n2,12/31/2010 8:28\n3,2011-01-01\n4,1/1/2011 0:00\n"
    )
    lines = replay(file, time="time", time_format="%m/%d/%Y %H:%M", stop=fake)
    assert [(fake.now, line[0]) for line in lines] == [(0, "1"), (2, "2"), (2, "3"), (934, "4")]
    for given, said in (
        (None, "give time_format='%m/%d/%Y %H:%M' or the like"),
        ("%H:%M", "it takes '%H:%M'"),
    ):
        with pytest.raises(InvalidInputError, match=f"no time can be read from 'time' in .*{said}"):
            replay(csv_file(tmp_path, "id,time\n1,12/31/2010 8:26\n"), time="time", time_format=given)


def test_json_lines_and_names_with_dots(tmp_path, fake):
    file = tmp_path / "posts.jsonl"
    rows = [{"data": {"created_at": f"2024-01-01T00:0{n}:00Z"}} for n in range(3)]
    texts = [*map(json.dumps, rows), "not a row", '{"data": 5}', "[]"]
    file.write_bytes("\r\n".join(texts).encode())
    lines = replay(file, time="data.created_at", stop=fake)
    assert [(round(fake.now, 6), line) for line in lines] == list(zip([0, 1, 2, 2, 2, 2], texts, strict=True))


def test_files_hold_the_lines_of_their_seconds_and_the_header(tmp_path, fake):
    files = replay_files(csv_file(tmp_path), time="time", speed=30, every=4, stop=fake)
    header = "id,time,text\n"
    assert [(round(fake.now, 6), name, text) for name, text in files] == [
        (4, "trips-0001.csv", header + "".join(f"{line}\n" for line in RECORDS[:5])),
        (12, "trips-0002.csv", header + f"{RECORDS[5]}\n"),  # none for the four seconds between
    ]
    shorter = replay_files(csv_file(tmp_path), time="time", speed=30, every=1, stop=FakeTime(0.0))
    assert [text.count("\n") - 1 for _, text in shorter] == [2, 4, 1]  # of lines; a value has one, too
    paths = drip(replay_files(csv_file(tmp_path), time="time", speed=1e9, every=0.01), tmp_path / "in")
    assert [path.name for path in paths] == ["trips-0001.csv"]


def test_a_line_server_serves_a_replay_to_each_client(tmp_path):
    file = csv_file(tmp_path, "time\n1\n2\n3\n")
    with LineServer(replay(file, time="time", speed=1000)) as server:
        for _ in range(2):
            with socket.create_connection((server.host, server.port), timeout=20) as client:
                assert client.makefile().read().splitlines() == ["1", "2", "3"]


def test_stop_ends_the_wait_for_the_next_line(tmp_path):
    stop = threading.Event()
    given = []
    for line in replay(csv_file(tmp_path, "time\n0\n86400\n"), time="time", speed=1, stop=stop):
        given.append(line)
        threading.Timer(0.05, stop.set).start()
    assert given == ["0"]
    assert list(replay_files(csv_file(tmp_path), time="time", every=3600, stop=stop)) == []


@pytest.mark.parametrize(
    ("text", "time", "problem"),
    [
        (CSV, "tme", "has no column 'tme'; did you mean time?"),
        (CSV, "zzzzz", "has no column 'zzzzz'; the columns are: id, time, text"),
        (CSV, "text", "no time can be read from 'text' in the first lines of"),
        ("time\n1\n\xff", "time", None),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_at_once(tmp_path, text, time, problem):
    file = csv_file(tmp_path, text)
    if problem is None:
        file.write_bytes(text.encode("latin-1"))
        problem = "give a readable UTF-8 file"
    assert problem in refusal(replay, file, time=time)


def test_arguments_that_make_no_sense(tmp_path):
    file = csv_file(tmp_path)
    with pytest.raises(InvalidInputError, match=r"no file .*nothing\.csv; give the path of a CSV file with"):
        replay(tmp_path / "nothing.csv", time="time")
    for speed in (0, -1, float("nan")):
        with pytest.raises(InvalidInputError, match=f"speed is {speed}; give a number above 0, such as 60"):
            replay(file, time="time", speed=speed)
    assert "every is 0 seconds; give a number above 0" in refusal(replay_files, file, time="time", every=0)


def test_an_empty_file_gives_no_lines(tmp_path):
    assert list(replay(csv_file(tmp_path, ""), time="time")) == []
    assert list(replay_files(csv_file(tmp_path, "time\n"), time="time", every=0.01)) == []
