"""A file is replayed by the clock of its rows, whole and in order, whatever its times are like."""

import json
import threading

import pytest
from conftest import refusal
from feeds.test_feeds import FakeTime

from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.feeds import drip, replay_files

HEADER = "id,time,text\n"
CSV = HEADER + '1,100,"to be,\nor not"\n2,160,b\n3,150,c\n4,soon,d\n5,,e\n6,400,f\n'
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


def lines_of(files, fake):
    """Return the lines of each file without the header, and when it comes."""
    return [(round(fake.now, 6), text.splitlines()[1:]) for _, text in files]


def test_lines_come_at_the_pace_of_their_times(tmp_path, fake):
    file = csv_file(tmp_path, CSV.replace(",\nor", ", or"))
    files = replay_files(file, time="time", speed=30, every=1, stop=fake)
    assert (
        lines_of(files, fake)
        == [
            (1, ['1,100,"to be, or not"']),
            (3, RECORDS[1:5]),  # one is older than the one before it, two have no time that can be read
            (11, RECORDS[5:]),
        ]
    )


def test_times_are_read_by_the_format_that_is_given(tmp_path, fake):
    file = csv_file(
        tmp_path, "id,time\n1,12/31/2010 8:26\n2,12/31/2010 8:28\n3,2011-01-01\n4,1/1/2011 0:00\n"
    )
    files = replay_files(file, time="time", time_format="%m/%d/%Y %H:%M", every=1, stop=fake)
    found = [(now, [line[0] for line in lines]) for now, lines in lines_of(files, fake)]
    assert found == [(1, ["1"]), (3, ["2", "3"]), (935, ["4"])]
    for given, said in (
        (None, "give time_format='%m/%d/%Y %H:%M' or the like"),
        ("%H:%M", "it takes '%H:%M'"),
    ):
        with pytest.raises(InvalidInputError, match=f"no time can be read from 'time' in .*{said}"):
            replay_files(csv_file(tmp_path, "id,time\n1,12/31/2010 8:26\n"), time="time", time_format=given)


def test_json_lines_and_names_with_dots(tmp_path, fake):
    file = tmp_path / "posts.jsonl"
    rows = [{"data": {"created_at": f"2024-01-01T00:0{n}:00Z"}} for n in range(3)]
    texts = [*map(json.dumps, rows), "not a row", '{"data": 5}', "[]"]
    file.write_bytes("\r\n".join(texts).encode())
    files = replay_files(file, time="data.created_at", every=0.5, stop=fake)
    found = [(round(fake.now, 6), text.splitlines()) for _, text in files]
    assert found == [(0.5, texts[:1]), (1.5, texts[1:2]), (2.5, texts[2:])]


def test_files_hold_the_lines_of_their_seconds_and_the_header(tmp_path, fake):
    files = replay_files(csv_file(tmp_path), time="time", speed=30, every=4, stop=fake)
    assert [(round(fake.now, 6), name, text) for name, text in files] == [
        (4, "trips-0001.csv", HEADER + "".join(f"{line}\n" for line in RECORDS[:5])),
        (12, "trips-0002.csv", HEADER + f"{RECORDS[5]}\n"),  # none for the four seconds between
    ]
    shorter = replay_files(csv_file(tmp_path), time="time", speed=30, every=1, stop=FakeTime(0.0))
    assert [text.count("\n") - 1 for _, text in shorter] == [2, 4, 1]  # of lines; a value has one, too
    paths = drip(replay_files(csv_file(tmp_path), time="time", speed=1e9, every=0.01), tmp_path / "in")
    assert [path.name for path in paths] == ["trips-0001.csv"]


def test_a_replay_begins_anew_each_time(tmp_path):
    files = replay_files(csv_file(tmp_path, "time\n1\n2\n3\n"), time="time", speed=1000, every=0.01)
    assert [*files] == [*files] == [("trips-0001.csv", "time\n1\n2\n3\n")]


def test_stop_ends_the_wait_for_the_next_file(tmp_path):
    stop = threading.Event()
    given = []
    file = csv_file(tmp_path, "time\n0\n86400\n")
    for _, text in replay_files(file, time="time", speed=1, every=0.01, stop=stop):
        given.append(text)
        threading.Timer(0.05, stop.set).start()
    assert given == ["time\n0\n"]


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
    assert problem in refusal(replay_files, file, time=time)


def test_arguments_that_make_no_sense(tmp_path):
    file = csv_file(tmp_path)
    with pytest.raises(InvalidInputError, match=r"no file .*nothing\.csv; give the path of a CSV file with"):
        replay_files(tmp_path / "nothing.csv", time="time")
    for speed in (0, -1, float("nan")):
        with pytest.raises(InvalidInputError, match=f"speed is {speed}; give a number above 0, such as 60"):
            replay_files(file, time="time", speed=speed)
    told = refusal(replay_files, file, time="time", every=0)
    assert "every is 0; give a number above 0, such as 60" in told


def test_an_empty_file_gives_no_lines(tmp_path):
    assert list(replay_files(csv_file(tmp_path, ""), time="time")) == []
    assert list(replay_files(csv_file(tmp_path, "time\n"), time="time", every=0.01)) == []
