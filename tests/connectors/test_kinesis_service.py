"""Kinesis step by step: offsets, the calls of boto3 with its own Stubber, and the look ahead.

Whole streams are in test_sources_kinesis.py; with a server: tests/systems/test_kinesis.py.
"""

# ruff: noqa: SLF001 - the steps are the module's own
import pickle
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal

from sparkstream_kit.connectors.kinesis import service
from sparkstream_kit.connectors.kinesis.service import (
    Ahead,
    Page,
    Range,
    Service,
    Shard,
    ShardRecords,
    Stream,
)
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, TransientError

boto3 = pytest.importorskip("boto3")
errors = pytest.importorskip("botocore.exceptions")
stub = pytest.importorskip("botocore.stub")

NOW = 1000.0
HERE = "http://localhost:4567"
OPEN, CLOSED = Shard((), "10", closed=False), Shard((), "10", closed=True)


def offset_of(shards, *, begin="", seen=0.0, records=0):
    return {
        "stream": "sales",
        "records": records,
        "shards": shards,
        "from": begin,
        "seen": seen,
        "created": 5.0,
    }


def place(after, records=1, **more):
    return {"after": after, "records": records, **more}


# --- offsets


def test_a_query_begins_without_shards():
    assert service.beginning("sales", 5.0, "@9") == offset_of({}, begin="@9")


@pytest.mark.parametrize(
    ("shards", "listed", "found"),
    [
        ({}, {}, {}),
        ({}, {"b": OPEN, "a": OPEN}, {"a": "@9", "b": "@9"}),
        ({"a": place("17")}, {"a": OPEN}, {"a": "17"}),
        ({"a": place("17", ended=True)}, {"a": CLOSED}, {}),
        ({"a": place("17", ended=False)}, {"a": CLOSED}, {"a": "17"}),
        ({}, {"a": CLOSED, "b": Shard(("a",), "5", closed=False)}, {"a": "@9"}),
        (
            {"a": place("17", ended=True)},
            {"a": CLOSED, "b": Shard(("a",), "5", closed=False)},
            {"b": "@9"},
        ),
        ({}, {"b": Shard(("gone",), "5", closed=False)}, {"b": "@9"}),
        (
            {"a": place("17", ended=True)},
            {
                "a": CLOSED,
                "b": CLOSED,
                "c": Shard(("a", "b"), "5", closed=False),
            },
            {"b": "@9"},
        ),
        (
            {"c": place("18")},
            {"a": CLOSED, "c": Shard(("a",), "5", closed=False)},
            {"a": "@9", "c": "18"},
        ),
    ],
    ids=[
        "no shards",
        "unread ones",
        "a read one",
        "one that was read to its end",
        "one that was not",
        "a child of an unread one",
        "a child of one that was read",
        "a child of one that is gone",
        "a child of two",
        "a child that is read already",
    ],
)
def test_shards_are_read_where_they_were_left_and_after_their_parents(
    shards, listed, found
):
    assert service.readable(offset_of(shards, begin="@9"), listed) == found
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("shards", "found", "after"),
    [
        ({}, ShardRecords("17", 3), place("17", 3)),
        ({"a": place("5", 4)}, ShardRecords("17", 3), place("17", 7)),
        (
            {"a": place("5", 4)},
            ShardRecords("", 0, ended=True),
            place("5", 4, ended=True),
        ),
        ({}, ShardRecords("", 0, ended=True), place("@9", 0, ended=True)),
        (
            {"a": place("5", 4)},
            ShardRecords("6", 1, ended=True),
            place("6", 5, ended=True),
        ),
    ],
    ids=["the first", "further ones", "an end", "an end alone", "both"],
)
def test_an_offset_moves_by_what_was_found(shards, found, after):
    offset = offset_of(shards, begin="@9", records=40)
    moved = service.moved(offset, {"a": found}, {"a": OPEN})
    assert moved == offset | {
        "shards": {"a": after},
        "records": 40 + found.records,
    }
    assert offset["shards"] == shards


@pytest.mark.parametrize(
    "shards", [{"a": place("5")}, {}], ids=["a read shard", "an unread one"]
)
def test_an_offset_does_not_move_without_records(shards):
    offset = offset_of(shards)
    found = {"a": ShardRecords(seen=9e9)}
    assert service.moved(offset, found, {"a": OPEN}) is offset


@pytest.mark.parametrize(("seen", "moves"), [(160, False), (160.5, True)])
def test_an_idle_offset_moves_by_its_time(seen, moves):
    offset = offset_of({"a": place("5")}, seen=60.0, records=1)
    found = {"a": ShardRecords(seen=seen)}
    moved = service.moved(offset, found, {"a": OPEN}, refresh=100)
    assert (moved is offset) is not moves
    if moves:
        assert moved == offset | {"seen": seen}


def test_an_offset_has_its_shards_in_order_without_those_that_are_gone():
    offset = offset_of({"gone": place("5"), "b": place("6")})
    found = {"a": ShardRecords("7", 1)}
    moved = service.moved(offset, found, {"b": OPEN, "a": OPEN})
    assert list(moved["shards"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("found", "seen"),
    [
        ({"a": 70.0, "b": 60.0}, 60.0),
        ({"a": 70.0, "b": 0.0}, 50.0),
        ({"a": 70.0}, 50.0),
        ({"a": 70.0, "b": 60.0, "c": 1.0}, 60.0),
        ({}, 50.0),
    ],
    ids=["the earliest", "unknown", "not looked at", "a child", "none"],
)
def test_the_time_of_an_offset_is_that_of_its_slowest_shard(found, seen):
    listed = {"a": OPEN, "b": OPEN, "c": Shard(("a",), "1", closed=False)}
    records = {name: ShardRecords(seen=each) for name, each in found.items()}
    assert service.seen_until(offset_of({}, seen=50.0), records, listed) == seen


def test_without_shards_the_time_stays():
    assert service.seen_until(offset_of({}, seen=50), {}, {}) == 50.0


@pytest.mark.parametrize(
    ("start", "parts"),
    [
        (
            offset_of({}, begin="@1"),
            [Range("a", "@2", "9", 5), Range("b", "@2", "8", 2)],
        ),
        (
            offset_of({}, begin="@1", seen=3.0),
            [Range("a", "@1", "9", 5), Range("b", "@1", "8", 2)],
        ),
        (
            offset_of({"a": place("4", 3)}, begin="@1"),
            [Range("a", "4", "9", 2), Range("b", "@1", "8", 2)],
        ),
        (
            offset_of({"a": place("9", 5), "b": place("7", 1)}),
            [Range("b", "7", "8", 1)],
        ),
    ],
    ids=[
        "the first batch",
        "an idle query's",
        "a later one",
        "a shard without records",
    ],
)
def test_a_batch_has_a_range_of_each_shard_with_records(start, parts):
    end = offset_of({"a": place("9", 5), "b": place("8", 2)}, begin="@2")
    assert service.ranges(start, end) == parts


@pytest.mark.parametrize(
    ("after", "first", "is_recreated"),
    [("9", "10", True), ("10", "10", False), ("11", "10", False), ("@5", "10", False)],
    ids=["before it", "at it", "behind it", "not read"],
)
def test_a_shard_that_begins_after_what_was_read_is_another(after, first, is_recreated):
    listed = {"a": Shard((), first, closed=False)}
    offset = offset_of({"z": place("1"), "a": place(after)})
    assert service.is_recreated(offset, listed) is is_recreated


def test_shards_that_are_gone_are_missing_unless_they_were_read_to_their_ends():
    shards = {
        "c": place("1"),
        "b": place("1", ended=True),
        "a": place("1", ended=False),
        "there": place("1"),
    }
    assert service.missing_shards(offset_of(shards), {"there": OPEN}) == ["a", "c"]


# --- the address


@pytest.mark.parametrize(
    ("given", "variables", "found"),
    [
        (None, {}, None),
        (None, {"AWS_ENDPOINT_URL": "http://a:1"}, "http://a:1"),
        (
            None,
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_KINESIS": "https://b/"},
            "https://b/",
        ),
        ("http://c:2", {"AWS_ENDPOINT_URL": "http://a"}, "http://c:2"),
        (None, {"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_KINESIS": ""}, None),
    ],
    ids=["none", "a variable", "two variables", "the user's", "empty variables"],
)
def test_the_users_address_comes_before_those_of_the_environment(
    monkeypatch, given, variables, found
):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert service.address(given) == found


@pytest.mark.parametrize("given", ["", "localhost:1", "http://h/path", "ftp://h"])
def test_an_address_that_is_none_is_refused(given):
    assert refusal(service.address, given) == (
        f"endpoint is {given!r}; give scheme, host and port, such as"
        " 'http://localhost:4567'"
    )


def test_an_address_with_a_password_is_refused_without_it():
    said = refusal(service.address, "http://me:hush@h")
    assert said.startswith("endpoint is 'http://me:***@h'; give scheme")


# --- clients


@pytest.fixture(scope="module")
def client():
    """A client of boto3, whose answers a Stubber gives."""
    return boto3.client(
        "kinesis",
        region_name="us-east-1",
        endpoint_url=HERE,
        aws_access_key_id="kit",
        aws_secret_access_key="hush",  # noqa: S106 - of nobody
    )


@pytest.fixture
def stubbed(client, monkeypatch):
    """The answers that the client gives, in order."""
    clients = service._Clients({("us-east-1", HERE): client})
    monkeypatch.setattr(service, "_clients", clients)
    with stub.Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def clock(monkeypatch):
    """A clock at 1,000 s, which goes on when somebody sleeps; how long each has slept."""
    clock = SimpleNamespace(now=NOW, slept=[], spread=1.0)

    def sleep(seconds):
        clock.slept.append(seconds)
        clock.now += seconds

    def spread(least, most):
        assert (least, most) == (0.5, 1)
        return clock.spread

    monkeypatch.setattr(
        service,
        "time",
        SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep, time=lambda: 1234.9),
    )
    monkeypatch.setattr(service, "random", SimpleNamespace(uniform=spread))
    return clock


def service_of(retry_for=0):
    return Service("sales", "us-east-1", HERE, retry_for)


def dated(**answer):
    """Return an answer with the service's clock: half past midnight."""
    date = {"date": "Thu, 01 Jan 1970 00:30:00 GMT"}
    return {**answer, "ResponseMetadata": {"HTTPHeaders": date}}


def test_without_boto3_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError) as err:
        service_of()
    assert str(err.value) == (
        "sources.kinesis() needs an optional library; run: pip install"
        " 'sparkstream-kit[kinesis]'"
    )
    assert err.value.__suppress_context__


def test_an_address_of_a_service_is_checked():
    assert "give scheme, host and port" in refusal(Service, "sales", None, "h", 0)


def test_a_service_and_its_clients_are_pickled_without_a_client(stubbed):
    made = pickle.loads(pickle.dumps(service_of(7)))  # noqa: S301 - its own
    assert (made.stream, made._retry_for, made._place) == (
        "sales",
        7,
        ("us-east-1", HERE),
    )
    copy = pickle.loads(pickle.dumps(service._clients))  # noqa: S301 - its own
    assert type(copy) is service._Clients
    assert copy == {}


def test_a_client_is_made_once_and_does_not_retry_by_itself(monkeypatch):
    made: list[Any] = []

    class Session:
        def client(self, name, **given):
            made.append((name, given))
            return f"client {len(made)}"

    monkeypatch.setattr(service, "_clients", service._Clients())
    monkeypatch.setattr(boto3, "Session", Session)
    assert service._client("r", HERE) == "client 1"
    assert service._client("r", HERE) == "client 1"
    assert service._client("r", None) == "client 2"
    name, given = made[0]
    config = given.pop("config")
    assert (name, given) == ("kinesis", {"region_name": "r", "endpoint_url": HERE})
    assert config.retries == {"total_max_attempts": 1}
    assert (config.connect_timeout, config.read_timeout) == (5, 20)


def test_of_two_clients_that_are_made_at_once_the_first_stays(monkeypatch):
    clients = service._Clients()

    class Session:
        def client(self, *_, **__):
            clients["r", HERE] = "of another thread"
            return "of this one"

    monkeypatch.setattr(service, "_clients", clients)
    monkeypatch.setattr(boto3, "Session", Session)
    assert service._client("r", HERE) == "of another thread"


# --- calls


def test_a_stream_is_described_in_seconds(stubbed):
    summary = {
        "StreamName": "sales",
        "StreamARN": "arn",
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": datetime.fromtimestamp(77, UTC),
        "EnhancedMonitoring": [],
        "OpenShardCount": 1,
    }
    stubbed.add_response(
        "describe_stream_summary",
        dated(StreamDescriptionSummary=summary),
        {"StreamName": "sales"},
    )
    assert service_of().describe() == Stream(77.0, 24 * 3600.0, 1800.0)


def described(name, *, end=None, **parents):
    numbers = {"StartingSequenceNumber": "10"}
    if end:
        numbers["EndingSequenceNumber"] = end
    return {
        "ShardId": name,
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
        "SequenceNumberRange": numbers,
        **parents,
    }


def test_shards_are_listed_page_by_page(stubbed):
    child = described("c", ParentShardId="a", AdjacentParentShardId="b")
    stubbed.add_response(
        "list_shards",
        {"Shards": [described("a", end="20"), described("b")], "NextToken": "more"},
        {"StreamName": "sales"},
    )
    stubbed.add_response("list_shards", {"Shards": [child]}, {"NextToken": "more"})
    assert service_of().shards() == {
        "a": CLOSED,
        "b": OPEN,
        "c": Shard(("a", "b"), "10", closed=False),
    }


def test_of_parents_that_the_service_does_not_name_there_are_none():
    one = service._shard(described("c", ParentShardId="a", AdjacentParentShardId=""))
    assert one == Shard(("a",), "10", closed=False)


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        ("", {"ShardIteratorType": "TRIM_HORIZON"}),
        ("@5.5", {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 5.5}),
        (
            "49",
            {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": "49",
            },
        ),
    ],
    ids=["the oldest", "a time", "a number"],
)
def test_an_iterator_begins_after_a_position(stubbed, after, kind):
    stubbed.add_response(
        "get_shard_iterator",
        {"ShardIterator": "it"},
        {"StreamName": "sales", "ShardId": "a", **kind},
    )
    assert service_of().iterator("a", after) == "it"


def sent(number):
    return {
        "SequenceNumber": str(number),
        "Data": b"v",
        "PartitionKey": "k",
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(number, UTC),
    }


@pytest.mark.parametrize(
    ("answer", "most", "is_last"),
    [
        ({"NextShardIterator": "next"}, 5, True),
        ({"NextShardIterator": "next", "MillisBehindLatest": 0}, 5, True),
        ({"NextShardIterator": "next", "MillisBehindLatest": 1}, 5, False),
        ({"NextShardIterator": "next"}, 2, False),
        ({"NextShardIterator": "next"}, 3, True),
        ({"MillisBehindLatest": 1}, 2, True),
    ],
    ids=["unknown", "at the end", "behind", "a full page", "one less", "closed"],
)
def test_a_page_says_whether_it_is_the_last(stubbed, answer, most, is_last):
    records = [sent(1), sent(2)]
    stubbed.add_response(
        "get_records",
        dated(Records=records, **answer),
        {"ShardIterator": "it", "Limit": most},
    )
    page = service_of().page("it", most)
    assert page == Page(records, answer.get("NextShardIterator"), is_last, 1800.0)


@pytest.mark.parametrize(
    ("most", "limit"), [(9_999, 9_999), (10_000, 10_000), (10_001, 10_000)]
)
def test_a_page_has_as_many_records_as_kinesis_gives(stubbed, most, limit):
    stubbed.add_response(
        "get_records", dated(Records=[]), {"ShardIterator": "it", "Limit": limit}
    )
    page = service_of().page("it", most)
    assert page == Page([], None, True, 1800.0)


def test_an_iterator_that_has_expired_gives_no_page(stubbed):
    stubbed.add_client_error("get_records", "ExpiredIteratorException")
    assert service_of().page("it", 5) is None


@pytest.mark.parametrize(
    "metadata",
    [{}, {"HTTPHeaders": {}}, {"HTTPHeaders": {"date": ""}}],
    ids=["no headers", "no date", "an empty date"],
)
def test_without_a_date_it_is_this_machines_second(clock, metadata):
    now = service._clock({"ResponseMetadata": metadata})
    assert (now, type(now)) == (1234.0, float)


def test_the_address_is_the_clients(stubbed):
    assert service_of().where == HERE


# --- calls that are repeated


DOWN = "InternalFailure"


@pytest.mark.parametrize(
    ("retry_for", "spread", "slept"),
    [
        (0, 1.0, []),
        (0.1, 1.0, []),
        (0.2, 1.0, [0.2]),
        (1, 1.0, [0.2, 0.4]),
        (30, 1.0, [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]),
        (1, 0.5, [0.1, 0.2]),
    ],
)
def test_a_call_is_repeated_with_longer_pauses_until_its_time_is_over(
    stubbed, clock, retry_for, spread, slept
):
    clock.spread = spread
    for _ in range(len(slept) + 1):
        stubbed.add_client_error("list_shards", DOWN, http_status_code=500)
    with pytest.raises(TransientError) as err:
        service_of(retry_for).shards()
    assert clock.slept == pytest.approx(slept)
    better = f", and has not done better for {retry_for:g} s" if retry_for else ""
    assert str(err.value) == (
        f"Kinesis at {HERE} says InternalFailure{better}; start it, correct the"
        " endpoint, or try again later"
    )


def test_a_call_that_works_the_second_time_has_an_answer(stubbed, clock):
    stubbed.add_client_error("list_shards", DOWN, http_status_code=500)
    stubbed.add_response("list_shards", {"Shards": []})
    assert service_of(5).shards() == {}
    assert clock.slept == [0.2]


def test_a_connection_that_fails_is_tried_again(monkeypatch, clock):
    left = [errors.EndpointConnectionError(endpoint_url=HERE), None]

    def list_shards(**_):
        error = left.pop(0)
        if error is not None:
            raise error
        return {"Shards": []}

    client = SimpleNamespace(list_shards=list_shards)
    monkeypatch.setattr(service, "_client", lambda *place: client)
    assert service_of(5).shards() == {}
    assert left == []


def test_a_call_that_is_refused_is_not_repeated(stubbed, clock):
    stubbed.add_client_error("list_shards", "AccessDeniedException")
    said = refusal(service_of(60).shards)
    assert said == (
        f"Kinesis at {HERE} refuses ListShards for stream sales"
        " (AccessDeniedException); AWS documents this code; check the credentials and"
        " what they may do"
    )
    assert service._clients == {}, "the next call has new credentials"
    assert clock.slept == []


def client_error(code, status=400):
    answer: dict[str, Any] = {"Error": {"Code": code}}
    if code is None:
        answer["Error"] = {}
    if status is not None:
        answer["ResponseMetadata"] = {"HTTPStatusCode": status}
    return errors.ClientError(answer, "ListShards")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (client_error("ThrottlingException"), "says ThrottlingException"),
        (client_error("LimitExceededException"), "says LimitExceededException"),
        (
            client_error("ProvisionedThroughputExceededException", None),
            "says ProvisionedThroughputExceededException",
        ),
        (client_error("RequestTimeout"), "says RequestTimeout"),
        (client_error("Strange", 500), "says Strange"),
        (client_error(None, 503), "says 503"),
        (
            errors.EndpointConnectionError(endpoint_url=HERE),
            "cannot be reached (EndpointConnectionError)",
        ),
        (
            errors.ReadTimeoutError(endpoint_url=HERE),
            "cannot be reached (ReadTimeoutError)",
        ),
        (
            errors.ProxyConnectionError(proxy_url=HERE, error="no"),
            "cannot be reached (ProxyConnectionError)",
        ),
    ],
    ids=[
        "throttling",
        "a limit",
        "throughput",
        "a time-out",
        "a server's error",
        "one without a code",
        "nobody",
        "late",
        "a proxy",
    ],
)
def test_trouble_that_may_pass_is_told_in_words(error, why):
    assert service_of()._passing_trouble(error, "list_shards") == why


HINT = "give the region, and set the credentials before Spark starts, or in ~/.aws"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            client_error("Strange", 499),
            (
                f"Kinesis at {HERE} refuses ListShards for stream sales (Strange); AWS"
                " documents this code; check the credentials and what they may do"
            ),
        ),
        (
            client_error("ResourceNotFoundException", None),
            (
                f"Kinesis at {HERE} has no stream sales, or lost a shard of it; create"
                " it first, or correct the name or the region"
            ),
        ),
        (
            errors.SSLError(endpoint_url=HERE, error="self\n signed"),
            (
                f"Kinesis at {HERE}: SSL validation failed for {HERE} self signed; name"
                " the file of its certificates in AWS_CA_BUNDLE, or correct the endpoint"
            ),
        ),
        (
            errors.NoCredentialsError(),
            f"stream sales: Unable to locate credentials; {HINT}",
        ),
        (
            errors.CredentialRetrievalError(provider="p", error_msg="hush"),
            f"stream sales: CredentialRetrievalError; {HINT}",
        ),
    ],
    ids=["a code", "no stream", "a certificate", "no log-in", "a log-in program"],
)
def test_trouble_that_does_not_pass_is_a_refusal(stubbed, error, said):
    with pytest.raises(InvalidInputError) as err:
        service_of()._passing_trouble(error, "list_shards")
    assert str(err.value) == said
    assert err.value.__suppress_context__
    assert ("us-east-1", HERE) not in service._clients


def test_a_refusal_needs_no_client_to_drop(monkeypatch):
    monkeypatch.setattr(service, "_clients", service._Clients({("other", None): 1}))
    assert str(service_of()._invalid("no")) == "no"
    assert service._clients == {("other", None): 1}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"Error": {"Code": "A"}}, "A"),
        ({"Error": {}}, ""),
        ({"Error": {"Code": 5}}, "5"),
    ],
    ids=["a code", "none", "a number"],
)
def test_a_refusal_has_a_code(answer, code):
    assert service._code(SimpleNamespace(response=answer)) == code


# --- the look ahead


class Pages:
    """A service whose pages a test has written; None is an iterator that has expired.

    Attributes:
        calls: what was asked of it.
        listed: its shards.
    """

    def __init__(self, listed=None, **pages):
        self.calls: list[Any] = []
        self.listed = listed or dict.fromkeys(pages, OPEN)
        self._pages = {name: list(each) for name, each in pages.items()}

    def shards(self):
        self.calls.append("shards")
        return self.listed

    def iterator(self, shard, after):
        self.calls.append(("iterator", shard, after))
        return shard

    def page(self, iterator, most):
        self.calls.append(("page", iterator, most))
        return self._pages[iterator].pop(0)


def page_of(shard: str | None, *numbers, last=False, now=NOW):
    return Page([sent(number) for number in numbers], shard, last, now)


def ahead_of(pages, now=0.0):
    """Return a look ahead that has listed the shards."""
    ahead = Ahead(pages, now)
    ahead.shards()
    pages.calls.clear()
    return ahead


def test_a_look_ahead_begins_with_the_services_time():
    ahead = Ahead(Pages(), 77.0)  # type: ignore[arg-type]
    assert ahead.now == 77.0
    assert ahead._until == float("inf")


def test_shards_are_listed_again_after_a_minute(clock):
    pages = Pages(a=[])
    ahead = Ahead(pages, 0.0)  # type: ignore[arg-type]
    assert ahead.shards() == {"a": OPEN}
    clock.now += 60
    assert ahead.shards() is pages.listed
    assert pages.calls == ["shards"]
    clock.now += 0.1
    pages.listed = {"b": OPEN}
    assert ahead.shards() == {"b": OPEN}
    assert pages.calls == ["shards"] * 2


def test_records_after_a_position_are_found(clock):
    ahead = ahead_of(Pages(a=[page_of("a", 3, 4), page_of("a", 5, last=True)]))
    found = ahead.look({"a": "2"}, 10)
    assert found == {"a": ShardRecords("5", 3, ended=False, seen=NOW)}
    assert ahead._service.calls == [
        ("iterator", "a", "2"),
        ("page", "a", 10),
        ("page", "a", 8),
    ]
    assert clock.slept == [0.0]


def test_a_look_goes_on_where_the_last_one_ended(clock):
    pages = Pages(a=[page_of("a", 3), page_of("a", 4), page_of("a", 5)])
    ahead = ahead_of(pages)
    ahead.look({"a": "2"}, 1)
    assert ahead.look({"a": "3"}, 1) == {"a": ShardRecords("4", 1, seen=4.0)}
    assert [call[0] for call in pages.calls] == ["iterator", "page", "page"]
    # Another position, as after a batch that was not planned
    ahead.look({"a": "3"}, 1)
    assert pages.calls[-2:] == [("iterator", "a", "3"), ("page", "a", 1)]


def test_a_look_that_finds_nothing_lets_the_next_one_wait(clock):
    ahead = ahead_of(Pages(a=[page_of("a", last=True)] * 3))
    assert ahead.look({"a": ""}, 5) == {"a": ShardRecords(seen=NOW)}
    ahead.look({"a": ""}, 5)
    clock.now += 7
    ahead.look({"a": ""}, 5)
    assert clock.slept == pytest.approx([0.0, 0.4, 0.0])


@pytest.mark.parametrize(
    "page", [page_of("a", 3, last=True), page_of(None, last=True)], ids=["one", "end"]
)
def test_a_look_that_finds_something_needs_no_rest(clock, page):
    ahead = ahead_of(Pages(a=[page]))
    ahead.look({"a": ""}, 5)
    assert ahead._rests_until == float("-inf")


def test_after_the_end_of_a_shard_the_shards_are_listed_again(clock):
    pages = Pages(
        {"a": CLOSED}, a=[page_of("a", 3, last=True), page_of(None, last=True)]
    )
    ahead = ahead_of(pages)
    found = ahead.look({"a": ""}, 5)
    assert found == {"a": ShardRecords("3", 1, ended=True, seen=NOW)}
    ahead.shards()
    assert pages.calls[-1] == "shards"
    other = Pages(a=[page_of("a", 3, last=True)])
    ahead = ahead_of(other)
    ahead.look({"a": ""}, 5)
    ahead.shards()
    assert "shards" not in other.calls


def test_with_a_small_limit_each_shard_gets_its_turn(clock):
    one = [page_of("", 3)] * 9
    pages = Pages(a=one, b=one, c=one)
    ahead = ahead_of(pages)
    places = dict.fromkeys("cba", "")
    looks = [list(ahead.look(places, 1)) for _ in range(4)]
    assert looks == [["b"], ["c"], ["a"], ["b"]]
    assert list(ahead.look(places, 2)) == ["c", "a"]


def test_shards_share_the_limit_and_what_one_does_not_use_the_others_can(clock):
    pages = Pages(
        a=[page_of("a", 1, last=True)],
        b=[page_of("b", 1, 2, 3), page_of("b", 4, 5, 6)],
    )
    ahead = ahead_of(pages)
    found = ahead.look({"a": "", "b": ""}, 7)
    assert {name: news.records for name, news in found.items()} == {"a": 1, "b": 6}
    asked = sorted(call for call in pages.calls if call[0] == "page")
    assert asked == [("page", "a", 3), ("page", "b", 3), ("page", "b", 3)]


def test_a_look_without_a_limit_or_a_shard_asks_nothing(clock):
    pages = Pages(a=[])
    ahead = ahead_of(pages)
    assert ahead.look({"a": ""}, 0) == {}
    assert ahead.look({}, 5) == {}
    assert pages.calls == []


def tracked(pages, **track):
    """Return a look ahead in the shard a, and what it has found there."""
    ahead = ahead_of(pages)
    ahead._tracks["a"] = service._Track("2", **track)
    return ahead, {"a": ShardRecords()}


LATER = NOW + 5


@pytest.mark.parametrize(
    ("shard", "pages", "taken", "has_more"),
    [
        (OPEN, [page_of("a", 3)], 1, True),
        (OPEN, [page_of("a"), page_of("a", 3)], 1, True),
        (OPEN, [page_of("a", last=True)], 0, False),
        (CLOSED, [page_of("a", last=True), page_of("a", 3)], 1, True),
        (CLOSED, [page_of(None, last=True)], 0, False),
        (OPEN, [page_of(None, 3, last=True)], 1, False),
    ],
    ids=["full", "an empty page", "at rest", "closed", "ended", "ended with a record"],
)
def test_a_shard_is_read_until_it_rests_or_ends(clock, shard, pages, taken, has_more):
    ahead, found = tracked(Pages({"a": shard}, a=pages))
    assert ahead._look_at("a", found, 1, LATER) == (taken, has_more)
    assert found["a"].records == taken


def test_a_shard_whose_next_record_is_too_late_is_left_alone(clock):
    pages = Pages(a=[])
    ahead, found = tracked(pages, over=True)
    assert ahead._look_at("a", found, 5, LATER) == (0, False)
    assert pages.calls == []


def test_an_iterator_that_has_expired_is_asked_for_again(clock):
    pages = Pages(a=[None, page_of("a", 3)])
    ahead, found = tracked(pages, iterator="a")
    assert ahead._look_at("a", found, 1, LATER) == (1, True)
    assert pages.calls == [("page", "a", 1), ("iterator", "a", "2"), ("page", "a", 1)]


@pytest.mark.parametrize(("late", "pages"), [(0, 2), (0.1, 1)])
def test_a_look_ends_when_its_time_is_over(clock, late, pages):
    made = Pages(a=[page_of("a"), page_of("a", last=True)])
    ahead, found = tracked(made, iterator="a")
    ahead._look_at("a", found, 5, NOW - late)
    assert len(made.calls) == pages


@pytest.mark.parametrize(
    ("until", "news", "is_over"),
    [
        (None, ShardRecords(), True),
        (NOW, ShardRecords(), False),
        (NOW, ShardRecords(records=1), True),
        (NOW, ShardRecords(ended=True), True),
    ],
    ids=["no limit of records", "nothing yet", "a record", "an end"],
)
def test_a_look_that_may_end_the_query_has_no_limit_before_it_has_found_something(
    clock, until, news, is_over
):
    ahead = ahead_of(Pages(a=[]))
    if until is not None:
        ahead.leave_out(until)
    assert ahead._is_over({"a": news}, NOW - 1) is is_over
    assert ahead._is_over({"a": news}, NOW) is False


def test_what_is_left_out_is_looked_for_anew(clock):
    ahead, _ = tracked(Pages(a=[]), over=True)
    ahead.leave_out(55.0)
    assert ahead._until == 55.0
    assert ahead._tracks == {}


@pytest.mark.parametrize(
    ("page", "until", "found", "over"),
    [
        (page_of("x", 3, 4), None, ShardRecords("4", 2, seen=4.0), False),
        (page_of("x", 3, last=True), None, ShardRecords("3", 1, seen=NOW), False),
        (page_of(None, 3, last=True), None, ShardRecords("3", 1, True, 3.0), False),
        (page_of("x", 3, 4), 4.0, ShardRecords("3", 1, seen=3.0), True),
        (page_of("x", 3, 4), 4.5, ShardRecords("4", 2, seen=4.0), False),
        (page_of("x", 5, last=True), 4.0, ShardRecords(), True),
        (page_of(None, 5, last=True), 4.0, ShardRecords(), True),
        (page_of("x"), None, ShardRecords(), False),
    ],
    ids=[
        "records",
        "the last ones",
        "those of the end",
        "one too late",
        "all in time",
        "none in time",
        "none of the end",
        "an empty page",
    ],
)
def test_a_page_is_taken_as_far_as_its_records_arrived_in_time(
    clock, page, until, found, over
):
    ahead = ahead_of(Pages(a=[]))
    if until is not None:
        ahead.leave_out(until)
    track = service._Track("2", iterator="former")
    news = ShardRecords()
    assert ahead._take(page, track, news) == found.records
    assert news == found
    assert track == service._Track(found.after or "2", page.iterator, over)
    assert ahead.now == NOW


def test_pages_add_up_and_the_clock_does_not_go_back(clock):
    ahead = ahead_of(Pages(a=[]), now=2000.0)
    news = ShardRecords("1", 4, seen=1.0)
    assert ahead._take(page_of("x", 3), service._Track("1"), news) == 1
    assert news == ShardRecords("3", 5, seen=3.0)
    assert ahead.now == 2000.0


@pytest.mark.parametrize(
    ("found", "is_any"),
    [
        ({}, False),
        ({"a": ShardRecords(seen=5.0)}, False),
        ({"a": ShardRecords(), "b": ShardRecords(records=1)}, True),
        ({"a": ShardRecords(ended=True)}, True),
    ],
    ids=["no shards", "nothing", "a record", "an end"],
)
def test_a_look_has_found_a_record_or_an_end(found, is_any):
    assert service._is_any(found) is is_any
