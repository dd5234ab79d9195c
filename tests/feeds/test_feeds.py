"""Clients get every line, files land whole and in order, generated data has a known truth."""

import csv
import hashlib
import os
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import HANGS, refusal

from sparkstream_kit import feeds
from sparkstream_kit.feeds import (
    LineServer,
    drip,
    files,
    random_lines,
    sales_files,
    sales_rows,
    sales_totals,
)
from sparkstream_kit.feeds.datasets import DATASETS
from sparkstream_kit.feeds.files import paced


def connect(server):
    return socket.create_connection((server.host, server.port), timeout=HANGS)


def read(client):
    with client, client.makefile(encoding="utf-8") as lines:
        text = lines.read()
    assert text == "" or text.endswith("\n")
    return text.splitlines()


class FakeTime(threading.Event):
    """A clock, and a stop event whose waits move the clock instead of taking time."""

    def __init__(self, now=100.0):
        super().__init__()
        self.now = now
        self.waits: list[float] = []

    def wait(self, timeout=None):
        self.waits.append(timeout or 0)
        self.now += timeout or 0
        return self.is_set()


# --- the line server


def test_every_client_gets_every_line_whenever_it_connects():
    lines = [f"line {n} é" for n in range(20_000)]
    with LineServer(lines) as server:
        assert [read(client) for client in [connect(server) for _ in range(5)]] == [
            lines
        ] * 5
        assert read(connect(server)) == lines  # a late one
        assert server.wait_served(6, HANGS)


def test_lines_may_have_their_newline_already_and_a_served_client_keeps_its_lines():
    with LineServer(["a\n", "b", ""]) as server:
        client = connect(server)
        assert server.wait_served(1, HANGS)
    assert read(client) == ["a", "b", ""]
    with LineServer([]) as server:
        assert read(connect(server)) == []


def test_a_client_that_leaves_early_is_no_error_and_hurts_nobody():
    lines = [f"line {n}" for n in range(200_000)]
    with LineServer(lines) as server:
        with connect(server) as hasty:
            hasty.recv(1)
        assert read(connect(server)) == lines
        assert server.wait_served(1, HANGS)
        assert not server.wait_served(2, 0)  # the hasty one was not sent everything


def test_what_a_client_sends_does_not_cost_it_lines():
    """A close with unread input is a reset, which drops what waits for a slow client."""
    lines = [f"line {n}" for n in range(50_000)]
    with LineServer(lines) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((server.host, server.port))
        client.sendall(b"GET / HTTP/1.0\n\n")
        assert read(client) == lines


@pytest.mark.parametrize(
    ("line", "rate"),
    # More than the buffers hold; a wait of 1000 s
    [("x" * 20_000_000, None), ("x", 0.001)],
    ids=["sending", "waiting"],
)
def test_close_is_prompt_though_no_client_reads(line, rate):
    before = set(threading.enumerate())
    server = LineServer([line] * 2, rate=rate)
    clients = [connect(server) for _ in range(3)]
    # Being served, all at once; from here on nobody reads
    assert all(client.recv(1) for client in clients)
    server.close()
    server.close()
    # A join that runs into its limit leaves its thread
    assert set(threading.enumerate()) <= before
    assert not server.wait_served(1, 0)  # nobody was sent everything
    for client in clients:
        client.close()
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_wait_served_without_a_number_serves_until_closed():
    with LineServer(["a"]) as server:
        assert not server.wait_served(None, timeout=0)
        closer = threading.Timer(0.05, server.close)
        closer.start()
        assert not server.wait_served(None)
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        closer.join(HANGS)


def test_lines_that_fail_reset_the_connection_and_reach_the_waiter():
    def lines():
        yield "fine"
        raise OSError("the disk is gone")  # an OSError, as a lost client would be

    with LineServer(lines) as server:
        with pytest.raises(ConnectionResetError):  # not an end that looks complete
            read(connect(server))
        with pytest.raises(OSError, match="the disk is gone"):
            server.wait_served(1, HANGS)


def test_rate_holds_on_the_wire():
    with LineServer(["a"] * 11, rate=100) as server:
        began = time.monotonic()
        assert read(connect(server)) == ["a"] * 11
        assert time.monotonic() - began >= 0.1  # ten periods of 10 ms


def test_a_pace_does_not_drift(monkeypatch):
    """Four items, one each second; the consumer takes 0.3 s over each, and 1.5 s over the third."""
    fake, given = FakeTime(), []
    # Time itself, without waiting
    monkeypatch.setattr(files, "monotonic", lambda: fake.now)
    for item, takes in zip(
        paced("abcd", 1.0, fake),
        [0.3, 0.3, 1.5, 0],
        strict=True,
    ):
        given.append((item, round(fake.now - 100, 6)))
        fake.now += takes
    assert given == [("a", 0), ("b", 1), ("c", 2), ("d", 3.5)]
    assert fake.waits == pytest.approx([0.7, 0.7])


def test_addresses_that_cannot_be_had():
    with LineServer(["a"]) as first:
        said = (
            f"cannot listen on 127.0.0.1 port {first.port}: Address already in use;"
            " choose another host"
        )
        assert said in refusal(LineServer, ["b"], port=first.port)
        assert read(connect(first)) == ["a"]
    with LineServer(["b"], port=first.port) as second:  # it is free again
        assert read(connect(second)) == ["b"]
    assert "cannot listen on 127.0.0.1 port 70000: " in refusal(
        LineServer, [], port=70_000
    )


def test_lines_that_only_the_first_client_would_get_and_no_rate_are_refused():
    for lines in ("a\nb", iter(["a"]), (n for n in "ab")):
        assert "give a list of lines or a function that returns an iterator" in refusal(
            LineServer, lines
        )
    for rate in (0, -1, float("nan")):
        said = f"rate is {rate} lines per second; give a number above 0"
        assert said in refusal(LineServer, ["a"], rate=rate)


# --- makers of lines


def test_a_text_file_is_served_to_each_client_and_a_missing_one_refused_before(
    tmp_path,
):
    file = tmp_path / "poem.txt"
    file.write_bytes("no more é\r\n\nlast, without a newline".encode())
    with LineServer(feeds.text_lines(file)) as server:
        for _ in range(2):
            assert read(connect(server)) == ["no more é", "", "last, without a newline"]
    for path in (tmp_path / "nothing.txt", tmp_path):
        said = refusal(feeds.text_lines, path)
        assert said.startswith(f"no file {path}; give the path of a UTF-8 text file")


def test_random_lines_are_the_same_for_a_seed_and_skewed():
    lines = list(random_lines(7, count=2000))
    assert (
        lines
        == list(islice(random_lines(7), 2000))
        != list(random_lines(8, count=2000))
    )
    assert {len(line.split()) for line in lines} == set(range(3, 11))
    words = " ".join(lines).split()
    by_frequency = sorted((words.count(word) for word in set(words)), reverse=True)
    assert len(by_frequency) == 156
    assert by_frequency[0] > 1.5 * by_frequency[1] > 15 * by_frequency[100]


LINES: dict[str, Any] = {
    name: (each.rows, each.line, each.time) for name, each in DATASETS.items()
}
LINES["sales"] = (sales_rows, ",".join, None)
LINES["lines"] = (lambda count, *, seed: random_lines(seed, count=count), str, None)
DIGESTS = {
    "events": "8f084cb6c12c3f0d",
    "posts": "bdea43b1b94bc71f",
    "ads": "ff1cc4909ce4bcfb",
    "cards": "0abe0b037d94ac51",
    "messages": "99667d33229596db",
    "sensors": "a119ff2fcddb061f",
    "actions": "975b0ea6aa57e1cf",
    "logs": "855c5e92a9ad5029",
    "sales": "a47a1b6ac022aa6e",
    "lines": "9d4e232ddaa2a240",
}


@pytest.mark.parametrize("name", LINES)
def test_a_seed_gives_the_same_data_on_every_python(name):
    """Fixed digests show a Python whose `random` differs, or a change of the known truth."""
    make, line, time = LINES[name]
    rows = list(make(1000, seed=1))
    assert rows == list(make(1000, seed=1)) == list(islice(make(None, seed=1), 1000))
    assert rows[:100] == list(make(100, seed=1)) != list(make(100, seed=4))
    assert (
        hashlib.sha256("\n".join(map(line, rows)).encode()).hexdigest()[:16]
        == DIGESTS[name]
    )
    if time:
        assert [row[time] for row in rows] == sorted(row[time] for row in rows)


# --- ads and messages


def test_ads_hold_what_they_promise():
    rows = list(feeds.ads_rows(5000, seed=3))
    views, clicks = (
        [row["ad_id"] for row in rows if row["event_type"] == kind]
        for kind in ("view", "click")
    )
    assert len({*views}) == len(views)
    assert len({*clicks}) == len(clicks)
    assert 0.25 < len({*views} & {*clicks}) / len(views) < 0.35
    strays = {*clicks} - {*views}
    assert 0.01 < len(strays) / len(rows) < 0.03
    assert all(stray.startswith("stray-3-") for stray in strays)
    truth = feeds.ads_truth(rows, within=timedelta(minutes=10))
    assert [ad for ad, _, _ in truth] == sorted(views)
    in_time = [(ad, clicked) for ad, _, clicked in truth if clicked]
    assert 0.7 < len(in_time) / len({*views} & {*clicks}) < 0.9
    assert feeds.ads_truth(rows, within=timedelta(0)) == [
        (ad, shown, None) for ad, shown, _ in truth
    ]


def test_messages_can_be_told_apart_but_not_all_of_them():
    rows = list(feeds.messages_rows(2000, seed=3))
    assert 0.25 < sum(row["label"] == "spam" for row in rows) / len(rows) < 0.35
    assert all(4 <= len(row["text"].split()) <= 12 for row in rows)
    best = dict(feeds.messages_truth(rows))
    assert (
        0.93 < sum(best[row["id"]] == row["label"] for row in rows) / len(rows) < 0.99
    )


# --- sales


def test_sales_rows_hold_what_the_columns_promise():
    rows = list(sales_rows(5000, seed=3))
    dates = []
    for row in rows:
        (
            order,
            day,
            quantity,
            discount,
            rate,
            amount,
            _,
            state,
            region,
            product,
            one,
            margin,
        ) = row
        dates.append(datetime.strptime(day, "%m/%d/%y").replace(tzinfo=UTC))
        assert order.isdigit()
        assert not any(part.startswith("0") for part in day.split("/"))
        assert 1 <= int(quantity) <= 50
        assert 0 <= Decimal(discount) <= Decimal("0.1")
        exact = int(quantity) * Decimal(rate) * (1 - Decimal(discount))
        assert abs(Decimal(amount) - exact) <= Decimal("0.005")
        assert len(amount.partition(".")[2]) <= 2
        assert state
        assert region in {"East", "West", "Central", "South"}
        assert " - " in product
        assert one == "1"
        assert 0 < Decimal(margin) < 1
    assert dates == sorted(dates)
    assert len({row[0] for row in rows}) < len(rows)  # orders of more than one row
    names = {row[6] for row in rows}
    assert {"Smith, Ann", 'Bo "Bear" Lee', "Dana O'Hara"} <= names
    # A state has one region
    assert len({row[7:9] for row in rows}) == len({row[7] for row in rows}) == 16


def test_sales_never_run_out_of_dates():
    assert 24 <= int(list(sales_rows(30_000, seed=1))[-1][1].rpartition("/")[2]) <= 27


def test_equal_totals_are_ordered_by_key_and_exact():
    def row(product, amount):
        return ("",) * 5 + (amount,) + ("",) * 3 + (product, "1", "")

    rows = [row("b", "0.1"), row("b", "0.2"), row("a", "0.3"), row("c", "5")]
    assert sales_totals(rows) == [
        ("c", 1, Decimal(5)),
        ("a", 1, Decimal("0.3")),
        ("b", 2, Decimal("0.3")),
    ]


def test_files_hold_the_rows_names_with_commas_and_quotes_too(tmp_path):
    paths, read_back = drip(sales_files(4, rows=25, seed=2), tmp_path), []
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            read_back += [tuple(row) for row in csv.reader(file)]
    assert read_back == list(sales_rows(100, seed=2))
    assert sales_totals(read_back) == sales_totals(sales_rows(100, seed=2))
    drip(sales_files(4, rows=25, seed=3), tmp_path)  # two seeds share a folder
    assert len(list(tmp_path.iterdir())) == 8


MAKERS = [
    name
    for name in feeds.__all__
    if name.endswith("_rows") or name in ("random_lines", "sales_files")
]


@pytest.mark.parametrize("name", MAKERS)
def test_a_count_or_a_seed_that_is_none_is_refused_at_once(name):
    make, more = getattr(feeds, name), {"rows": 2} if name == "sales_files" else {}
    assert f"feeds.{name}(): count is " in refusal(make, count="5", seed=1, **more)
    assert f"feeds.{name}(): seed is " in refusal(make, count=5, seed=None, **more)
    assert "count is -1; give 0 or more, or None for no end" in refusal(
        make, count=-1, seed=1, **more
    )
    if more:
        assert "rows is 0; give at least 1 row per file" in refusal(
            make, 1, rows=0, seed=1
        )


# --- the dripper


def test_files_land_in_a_new_folder_in_order_with_rising_milliseconds(tmp_path):
    files = [(f"{n}.txt", f"é{n}\n") for n in range(50)]
    seen: list[Path] = []
    began = time.time_ns()
    paths = drip(files, tmp_path / "new" / "in", on_file=seen.append)
    assert paths == seen
    assert [(path.name, path.read_text(encoding="utf-8")) for path in paths] == files
    stamps = [path.stat().st_mtime_ns // 1_000_000 for path in paths]
    assert all(earlier < later for earlier, later in pairwise(stamps))
    assert began // 1_000_000 <= stamps[0]
    # At most a millisecond a file ahead
    assert stamps[-1] <= time.time_ns() // 1_000_000 + 50
    # Nothing left over
    assert sorted((tmp_path / "new" / "in").iterdir()) == sorted(paths)


def test_times_rise_above_the_newest_file_that_was_there(tmp_path):
    (tmp_path / "old.txt").write_bytes(b"")
    ahead = time.time_ns() + 3_600_000_000_000
    os.utime(tmp_path / "old.txt", ns=(ahead, ahead))
    (path,) = drip([("new.txt", b"\x00raw")], tmp_path)
    assert path.read_bytes() == b"\x00raw"
    assert path.stat().st_mtime_ns // 1_000_000 == ahead // 1_000_000 + 1


def test_a_file_is_visible_only_when_it_is_whole(tmp_path, monkeypatch):
    at_rename: list[tuple[str, str, bool]] = []
    replace = Path.replace

    def watched(self, target):
        (hidden,) = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert self == hidden
        at_rename.append(
            (target.name, hidden.read_text(encoding="utf-8"), target.exists())
        )
        stamp = hidden.stat().st_mtime_ns
        landed = replace(self, target)
        # The time was set before, so no scan sees another one
        assert landed.stat().st_mtime_ns == stamp
        return landed

    monkeypatch.setattr(Path, "replace", watched)
    drip([("a.csv", "1,2\n" * 1000), ("b.csv", "3,4\n")], tmp_path)
    assert at_rename == [("a.csv", "1,2\n" * 1000, False), ("b.csv", "3,4\n", False)]


def test_a_failed_landing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    said = refusal(drip, [("a.csv", "1\n")], tmp_path)
    assert re.search(
        r"cannot write .*a\.csv \(No space left on device\); give a folder", said
    )
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_there_is_refused_and_kept(tmp_path):
    (tmp_path / "b.csv").write_text("first\n")
    assert (
        "b.csv exists already, and Spark reads a file name only once; give a new name"
        in refusal(drip, [("a.csv", "1\n"), ("b.csv", "second\n")], tmp_path)
    )
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == [
        "1\n",
        "first\n",
    ]


def test_what_cannot_land_is_refused(tmp_path):
    for name in (".a.csv", "_a.csv", "../a.csv", "sub/a.csv", ""):
        assert "cannot be used; give one without /" in refusal(
            drip, [(name, "1\n")], tmp_path
        )
    (tmp_path / "file").write_bytes(b"")
    said = refusal(drip, [], tmp_path / "file")
    assert re.search(
        r"cannot use .*file \(File exists\); give a folder to write in", said
    )
    for every in (-1, float("nan")):
        assert f"every is {every} seconds; give 0 or more" in refusal(
            drip, [], tmp_path, every=every
        )


def test_stop_ends_a_drip_between_files(tmp_path):
    stop = threading.Event()

    def on_file(path):
        if path.name == "sales-1-0003.csv":
            stop.set()

    paths = drip(sales_files(10, rows=1, seed=1), tmp_path, stop=stop, on_file=on_file)
    assert [path.name for path in paths] == [
        "sales-1-0001.csv",
        "sales-1-0002.csv",
        "sales-1-0003.csv",
    ]


def test_the_first_file_lands_at_once_and_stop_ends_the_wait_for_the_next(tmp_path):
    class StoppedInItsWait(threading.Event):
        waited = 0.0

        def wait(self, timeout=None):
            self.waited = timeout or 0
            self.set()
            return super().wait(timeout)

    stop = StoppedInItsWait()
    paths = drip(sales_files(None, rows=1, seed=1), tmp_path, every=3600, stop=stop)
    assert [path.name for path in paths] == ["sales-1-0001.csv"]
    assert 3590 < stop.waited <= 3600
