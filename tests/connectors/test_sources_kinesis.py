"""What `sources.kinesis` refuses, and its offsets; with a server: tests/systems/test_kinesis.py."""

import json
import os
import random
import re
import ssl
import sys
import threading
from collections import defaultdict
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from conftest import ran, refusal, self_signed
from connectors.test_sources_kafka import summary

from sparkstream_kit import sources
from sparkstream_kit.connectors.kinesis import service
from sparkstream_kit.connectors.kinesis.service import (
    Page,
    Range,
    Service,
    Shard,
    ShardRecords,
    beginning,
    moved,
)
from sparkstream_kit.errors import KitError, MissingExtraError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"stream": "a,b"},
            (
                "sources.kinesis(): 'a,b' is no name of a stream; give up to 128"
                " letters, digits"
            ),
        ),
        (
            {"retry_for": float("inf")},
            "retry_for is inf; give a number of seconds, 0 or more",
        ),
        ({"retry_for": -1}, "retry_for is -1; give a number of seconds, 0 or more"),
        (
            {"starting": "lastest"},
            "starting is the string 'lastest'; did you mean latest?",
        ),
        (
            {"starting": "TRIM_HORIZON"},
            "'TRIM_HORIZON'; give earliest, latest or a datetime",
        ),
        (
            {"starting": 5},
            "sources.kinesis(): starting is 5; give earliest, latest or a datetime",
        ),
        (
            {"starting": datetime(9999, 1, 1, tzinfo=UTC)},
            "starting is 9999-01-01 00:00:00+00:00, which is yet",
        ),
        (
            {"max_records_per_trigger": 0},
            "max_records_per_trigger must be 1 or more, not 0",
        ),
        ({"endpoint": "http://me:hush@host"}, "give scheme, host and port"),
        (
            {"endpoint": "localhost:4567"},
            "give scheme, host and port, such as 'http://localhost:4567'",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(spark, given, said):
    line = refusal(sources.kinesis, spark, **{"stream": "sales"} | given)
    assert said in line
    assert "hush" not in line


class Tree:
    """A stream whose shards are split and merged: each record is a number that grows with time."""

    def __init__(self, pick, shards):
        self._pick, self._clock = pick, 0
        self.parents: dict[str, tuple[str, ...]] = {}
        self.first: dict[str, int] = {}
        self.records: dict[str, list[int]] = defaultdict(list)
        self.open: list[str] = []
        self.unlisted: set[str] = set()
        for _ in range(shards):
            self._new()

    def _new(self, *parents):
        self._clock += 1
        name = f"shard-{len(self.parents):04}"
        self.parents[name], self.first[name] = parents, self._clock
        self.open.append(name)

    def put(self):
        self._clock += 1
        self.records[self._pick.choice(self.open)].append(self._clock)

    def reshard(self):
        merged = len(self.open) > 1 and self._pick.random() < 0.5
        closed = self._pick.sample(self.open, 2 if merged else 1)
        self.open = [name for name in self.open if name not in closed]
        for _ in range(1 if merged else 2):
            self._new(*closed)

    def listed(self):
        return {
            name: Shard(parents, str(self.first[name]), name not in self.open)
            for name, parents in self.parents.items()
            if name not in self.unlisted
        }

    def look(self, places, most):
        """Find up to so many records in a shard, as a look ahead does.

        It need not reach each of them.
        """
        found = {}
        for name, after in places.items():
            behind = [
                number for number in self.records[name] if number > int(after or 0)
            ]
            some = behind[: self._pick.randint(0, most)]
            ended = name not in self.open and some == behind
            found[name] = ShardRecords(
                str(some[-1]) if some else "", len(some), ended, float(self._clock)
            )
        return found

    def read(self, part):
        after, until = int(part.after or 0), int(part.until)
        return [
            number for number in self.records[part.shard] if after < number <= until
        ]

    def ancestors(self, name):
        return set(self.parents[name]).union(*map(self.ancestors, self.parents[name]))

    def expire(self, offset):
        """Take away a shard that was read, as Kinesis does once its records are too old."""
        ended = [name for name, shard in offset["shards"].items() if shard.get("ended")]
        if ended:
            self.unlisted.add(self._pick.choice(ended))


@pytest.mark.parametrize("seed", range(150))
def test_each_record_is_read_once_and_after_those_of_the_shards_before_its_own(seed):
    pick = random.Random(seed)  # noqa: S311 - a tree, not secrets
    tree = Tree(pick, shards=pick.randint(1, 4))
    offset = beginning("sales", 0.0, "")
    rows: dict[str, list[int]] = defaultdict(list)

    def batch(most):
        nonlocal offset
        listed = tree.listed()
        end = moved(offset, tree.look(service.readable(offset, listed), most), listed)
        if end == offset:
            return False
        parts = service.ranges(offset, end)
        for part in parts:  # nobody knows which of them is read first
            for before in tree.ancestors(part.shard):
                assert rows[before] == tree.records[before], (
                    "an earlier batch has read them"
                )
        for part in parts:
            assert len(tree.read(part)) == part.records
            rows[part.shard] += tree.read(part)
        assert service.missing_shards(end, tree.listed()) == []
        assert not service.is_recreated(end, tree.listed())
        offset = end
        return True

    steps: list[Any] = [
        tree.put,
        tree.reshard,
        lambda: tree.expire(offset),
        lambda: batch(3),
    ]
    for step in pick.choices(steps, weights=(60, 10, 2, 28), k=200):
        step()
    quiet = 0
    while quiet < 100:  # a look may find nothing by chance
        quiet = 0 if batch(most=50) else quiet + 1
    assert rows == {name: tree.records[name] for name in rows}
    assert {name for name, records in tree.records.items() if records} <= set(rows)
    assert offset["records"] == sum(map(len, tree.records.values()))


A = {"a": Shard((), "10", False)}


def test_the_first_batch_comes_again_from_where_it_began_though_its_start_is_not_kept():
    end = moved(
        beginning("sales", 0.0, "@100.0"), {"a": ShardRecords("17", 3, False, 0.0)}, A
    )
    # As `starting="latest"` works it out at the next start
    later = beginning("sales", 0.0, "@900.0")
    assert service.ranges(later, end) == [Range("a", "@100.0", "17", 3)]


def test_a_shard_that_was_made_again_or_is_gone_is_told():
    offset = moved(
        beginning("sales", 0.0, ""), {"a": ShardRecords("17", 3, False, 0.0)}, A
    )
    assert not service.is_recreated(offset, A)
    assert service.is_recreated(offset, {"a": Shard((), "18", False)})
    assert service.missing_shards(offset, {"b": Shard((), "18", False)}) == ["a"]


def test_an_offset_says_until_when_all_shards_have_been_read_also_of_an_idle_query():
    begin, two = beginning("sales", 0.0, ""), A | {"b": Shard((), "11", False)}
    assert moved(begin, {"a": ShardRecords("17", 3, False, 50.0)}, two)["seen"] == 0
    both = {
        "a": ShardRecords("17", 3, False, 50.0),
        "b": ShardRecords("", 0, False, 70.0),
    }
    offset = moved(begin, both, two, refresh=100)
    assert offset["seen"] == 50
    idle = {
        "a": ShardRecords("", 0, False, 150.0),
        "b": ShardRecords("", 0, False, 300.0),
    }
    assert moved(offset, idle, two, refresh=100) is offset
    aged = moved(offset, idle, two, refresh=99)
    assert (aged["seen"], service.ranges(offset, aged)) == (150, [])


class Gaps:
    """A service with one record in each shard, behind so many empty pages; None: it never comes."""

    def __init__(self, **pages):
        self._gaps, self.asked = pages, 0

    def shards(self):
        return {name: Shard((), "1", False) for name in self._gaps}

    def iterator(self, shard, after):
        return f"{shard}/{2**31 if after else 0}"

    def page(self, iterator, _):
        self.asked += 1
        assert self.asked < 10_000, "it looks without end"
        shard, number = iterator.split("/")
        gap, at = self._gaps[shard], int(number)
        record = {
            "SequenceNumber": "55",
            "ApproximateArrivalTimestamp": datetime.fromtimestamp(500.0, UTC),
        }
        return Page(
            [record] if at == gap else [],
            f"{shard}/{at + 1}",
            gap is not None and at >= gap,
            1000.0,
        )


@pytest.mark.parametrize("gap", [0, 1, 300])
def test_available_now_reads_on_until_it_finds_a_record(monkeypatch, gap):
    monkeypatch.setattr(service, "_LOOK", 0.0)  # the time is over at the first page
    gaps = Gaps(a=gap)
    ahead, begin = service.Ahead(gaps, 0.0), beginning("sales", 0.0, "")  # type: ignore[arg-type]
    ahead.leave_out(since=1001.0)
    found = ahead.look(service.readable(begin, ahead.shards()), 100)
    assert found == {"a": ShardRecords("55", 1, False, 1000.0)}
    end = moved(begin, found, ahead.shards())
    assert ahead.look(service.readable(end, ahead.shards()), 100)["a"].records == 0
    assert gaps.asked == gap + 2
    goes_on = Gaps(a=3)  # a query that goes on looks again
    assert service.Ahead(goes_on, 0.0).look({"a": ""}, 100)["a"].records == 0  # type: ignore[arg-type]
    assert goes_on.asked == 1


def test_a_look_does_not_wait_for_a_shard_when_another_has_records(monkeypatch):
    monkeypatch.setattr(service, "_LOOK", 0.0)
    ahead = service.Ahead(Gaps(a=None, b=5), 0.0)  # type: ignore[arg-type]
    ahead.leave_out(since=1001.0)
    found = ahead.look(dict.fromkeys(ahead.shards(), ""), 100)
    assert (found["a"].records, found["b"].records) == (0, 1)


def asked(**given):
    """Return in which words a stream cannot be asked for."""
    place = {"region": "us-east-1", "endpoint": "http://127.0.0.1:9"} | given
    with pytest.raises(KitError) as raised:
        Service("sales", retry_for=0, **place).describe()
    return str(raised.value)


@pytest.fixture
def log_in(monkeypatch, tmp_path):
    """A log-in for boto3, when it is called; until then there is none."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(service, "_clients", {})  # not those that other tests have left

    def given():
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "kit")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")

    return given


def test_what_boto3_lacks_is_one_line(monkeypatch, log_in, tmp_path):
    fix = "give the region, and set the credentials before Spark starts, or in ~/.aws"
    assert asked() == f"stream sales: Unable to locate credentials; {fix}"
    assert asked(region=None) == f"stream sales: You must specify a region.; {fix}"
    config = tmp_path / ".aws" / "config"
    config.parent.mkdir()
    config.write_text("[default]\ncredential_process = sh -c 'echo hush >&2; exit 1'\n")
    hidden = "what the user's program prints may be a secret"
    assert asked() == f"stream sales: CredentialRetrievalError; {fix}", hidden
    config.unlink()
    log_in()
    said = "Kinesis at http://127.0.0.1:9 cannot be reached (EndpointConnectionError)"
    assert asked().startswith(
        f"{said}; start it, correct the endpoint, or try again later"
    ), "corrected"
    monkeypatch.setitem(sys.modules, "boto3", None)
    said = (
        "sources.kinesis() needs an optional library; run: pip install"
        " 'sparkstream-kit[kinesis]'"
    )
    with pytest.raises(MissingExtraError, match=f"^{re.escape(said)}$"):
        Service("sales", "us-east-1", "http://127.0.0.1:11", 0).describe()
    without = "import sys; sys.modules['boto3'] = sys.modules['botocore'] = None"
    ran(f"{without}; import sparkstream_kit.connectors.kinesis.source")


class KnowsOneKey(BaseHTTPRequestHandler):
    """An endpoint that knows the key "kit", and no stream."""

    def do_POST(self):
        known = "Credential=kit/" in self.headers["Authorization"]
        body = json.dumps(
            {
                "__type": (
                    "ResourceNotFoundException"
                    if known
                    else "UnrecognizedClientException"
                )
            }
        )
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def knows_one_key():
    """Such an endpoint."""
    with HTTPServer(("localhost", 0), KnowsOneKey) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


# In a notebook, say, which goes on.
def test_credentials_that_are_corrected_count_at_once(
    monkeypatch, log_in, knows_one_key
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    endpoint = f"http://localhost:{knows_one_key.server_port}"
    refused = (
        "refuses DescribeStreamSummary for stream sales (UnrecognizedClientException);"
        " AWS documents"
    )
    assert refused in asked(endpoint=endpoint)
    log_in()
    assert "has no stream sales" in asked(endpoint=endpoint)


def test_a_certificate_that_is_trusted_later_counts_at_once(
    monkeypatch, log_in, knows_one_key, tmp_path
):
    certificate, both = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    knows_one_key.socket = context.wrap_socket(knows_one_key.socket, server_side=True)
    log_in()
    endpoint = f"https://localhost:{knows_one_key.server_port}"
    assert "certificate verify failed" in asked(endpoint=endpoint)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    assert "has no stream sales" in asked(endpoint=endpoint)


def test_the_summary_says_how_many_seconds_behind_a_query_is():
    told = json.dumps({"stream": "sales", "seconds_behind": 12.4})
    found = summary(
        [
            {"endOffset": "{}", "metrics": {}, "latestOffset": each}
            for each in (told, None)
        ]
    )
    assert found.seconds_behind == 12.4
    assert ", 12 s behind, " in str(found)
