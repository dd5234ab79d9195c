"""How Spark's workers read Kinesis, step by step: the ends of batches, their records, losses.

The calls of the service are played; test_kinesis_service.py has the real ones.
"""

# ruff: noqa: SLF001 - the steps are the reader's own
import logging
import sys
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.datasource import InputPartition

from sparkstream_kit import sources
from sparkstream_kit.connectors.kinesis import service, source
from sparkstream_kit.connectors.kinesis.service import (
    Page,
    Range,
    Shard,
    ShardRecords,
    Stream,
)
from sparkstream_kit.errors import InvalidInputError, MissingExtraError, TransientError

OPEN = Shard((), "10", closed=False)
HOUR = 3600.0
OPTIONS = {
    "stream": "sales",
    "starting": "",
    "max_records_per_trigger": "50",
    "retry_for": "7.0",
    "fail_on_data_loss": "true",
}


class Kinesis:
    """The service, with pages and descriptions that a test has written, in order."""

    stream = "sales"

    def __init__(self):
        self.streams = [Stream(5.0, 24 * HOUR, 1000.0)]
        self.pages: list[Any] = []
        self.calls: list[Any] = []

    def describe(self):
        self.calls.append("describe")
        return self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]

    def iterator(self, shard, after):
        self.calls.append(("iterator", shard, after))
        return f"after {after}"

    def page(self, iterator, most):
        self.calls.append(("page", iterator, most))
        return self.pages.pop(0)


class Looks:
    """A look ahead that finds what a test has said."""

    def __init__(self, now=1000.0):
        self.now = now
        self.listed = {"a": OPEN}
        self.found: dict[str, ShardRecords] = {}
        self.asked: list[Any] = []

    def shards(self):
        return self.listed

    def look(self, places, most):
        self.asked.append((places, most))
        return self.found

    def leave_out(self, since):
        self.asked.append(since)


@pytest.fixture
def kinesis(monkeypatch):
    """The service of each reader, without boto3."""
    kinesis = Kinesis()
    monkeypatch.setattr(source, "_service", lambda options: kinesis)
    return kinesis


def reader_of(**options) -> Any:
    """Return a reader of a query that has begun, whose look ahead is played."""
    reader: Any = source.Reader(OPTIONS | options)
    reader._state.ahead = Looks()
    reader._service.calls.clear()
    return reader


def offset_of(shards=None, **more):
    begin = service.beginning("sales", 5.0, "")
    return begin | {"shards": shards or {}} | more


def place(after, records=1):
    return {"after": after, "records": records}


# --- the data source


def test_the_service_has_the_options(monkeypatch):
    made: list[Any] = []
    monkeypatch.setattr(source, "Service", lambda *given: made.append(given))
    source._service(OPTIONS)
    source._service(OPTIONS | {"region": "r", "endpoint": "e"})
    assert made == [("sales", None, None, 7.0), ("sales", "r", "e", 7.0)]


def test_the_columns_are_those_of_a_stream_that_can_be_read(kinesis):
    made = source.KinesisSource(OPTIONS)
    assert source.KinesisSource.name() == "sparkstream_kinesis"
    assert made.schema() == (
        "value BINARY, partition_key STRING, sequence_number STRING, shard_id STRING,"
        " approximate_arrival_timestamp TIMESTAMP"
    )
    assert kinesis.calls == ["describe"]
    assert isinstance(made.streamReader(None), source.Reader)


# --- the ends of batches


@pytest.mark.parametrize(
    ("starting", "begin"), [("", ""), ("@7.0", "@7.0"), ("latest", "@1000.0")]
)
def test_a_new_query_begins_where_it_was_told_to(kinesis, starting, begin):
    reader = source.Reader(OPTIONS | {"starting": starting})
    assert kinesis.calls == []
    first = service.beginning("sales", 5.0, begin)
    assert reader.initialOffset() == first
    assert reader._state.first is reader.initialOffset()
    assert kinesis.calls == ["describe"], "once"
    assert reader._state.ahead.now == 1000.0


def test_a_batch_has_a_limit(kinesis):
    limit = source.Reader(OPTIONS).getDefaultReadLimit()
    assert limit.max_rows == 50


def test_available_now_leaves_out_what_arrives_after_this_second(kinesis):
    reader = reader_of()
    reader.prepareForTriggerAvailableNow()
    assert reader._state.ahead.asked == [1001.0]


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        (None, 50),
        (SimpleNamespace(max_rows=3), 3),
        (SimpleNamespace(), sys.maxsize),
    ],
    ids=["its own", "Spark's", "none"],
)
def test_a_batch_ends_where_the_look_ahead_has_ended(kinesis, limit, most):
    reader = reader_of()
    start = offset_of({"a": place("17")})
    ahead = reader._state.ahead
    ahead.found = {"a": ShardRecords("19", 2, seen=900.0)}
    end = reader.latestOffset(start, limit)
    assert end == offset_of({"a": place("19", 3)}, records=2, seen=900.0)
    assert ahead.asked == [({"a": "17"}, most)]
    assert reader._state.seen == 900.0


def test_without_a_start_a_batch_begins_where_the_last_one_ended(kinesis):
    reader = reader_of(starting="@7.0")
    reader.latestOffset()
    reader._state.at = offset_of({"a": place("17")})
    reader.latestOffset()
    assert [asked[0] for asked in reader._state.ahead.asked] == [
        {"a": "@7.0"},
        {"a": "17"},
    ]


@pytest.mark.parametrize(("seen", "moves"), [(6 * HOUR, False), (6 * HOUR + 1, True)])
def test_an_idle_query_notes_its_time_four_times_while_records_are_kept(
    kinesis, seen, moves
):
    reader = reader_of()
    reader._state.ahead.found = {"a": ShardRecords(seen=seen)}
    start = offset_of({"a": place("17")})
    assert (reader.latestOffset(start) != start) is moves


@pytest.mark.parametrize(
    ("seen", "report"),
    [
        (0, None),
        (987.66, {"stream": "sales", "seconds_behind": 12.3}),
        (1000.5, {"stream": "sales", "seconds_behind": 0.0}),
    ],
    ids=["unknown", "behind", "in time"],
)
def test_a_query_reports_how_far_it_is_behind(kinesis, seen, report):
    reader = reader_of()
    reader._state.seen = seen
    assert reader.reportLatestOffset() == report


def test_a_batch_has_a_partition_for_each_shard_with_records(kinesis):
    reader = reader_of()
    start = offset_of({"a": place("17", 1), "b": place("5", 1)})
    end = offset_of({"a": place("19", 3), "b": place("5", 1)})
    parts = reader.partitions(start, end)
    assert [part.value for part in parts] == [Range("a", "17", "19", 2)]
    assert reader._state.at is end


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (
            {"stream": "other"},
            (
                "the checkpoint's query has read other, and not stream sales; start on a"
                " new checkpoint"
            ),
        ),
        (
            {},
            (
                "the checkpoint's query has read something else, and not stream sales;"
                " start on a new checkpoint"
            ),
        ),
        (
            {"stream": "sales", "created": 6.0},
            (
                "stream sales was made again after the query had read it; start on a new"
                " checkpoint"
            ),
        ),
    ],
    ids=["another stream", "another source", "made again"],
)
def test_a_checkpoint_of_another_stream_is_refused(kinesis, known, said):
    reader = reader_of()
    assert refusal(reader._check, known) == said
    assert refusal(reader.latestOffset, known or {"x": 1}) == said
    assert refusal(reader.partitions, known, known) == said
    reader._check(offset_of())


# --- the records of a batch


def sent(number, zone=UTC):
    return {
        "SequenceNumber": str(number),
        "Data": b"v%d" % number,
        "PartitionKey": "k",
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(number, zone),
    }


def page_of(*numbers, last=False, iterator: str | None = "next"):
    return Page([sent(number) for number in numbers], iterator, last, 0.0)


def row(number):
    return (b"v%d" % number, "k", str(number), "a", datetime.fromtimestamp(number, UTC))


def read(reader, until="19", records=2):
    part = InputPartition(Range("a", "17", until, records))
    return list(reader.read(part))


@pytest.mark.parametrize(
    ("pages", "calls"),
    [
        ([page_of(18, 19)], [("page", "after 17", 2)]),
        (
            [page_of(18), page_of(), page_of(19, last=True)],
            [("page", "after 17", 2), ("page", "next", 1), ("page", "next", 1)],
        ),
        (
            [page_of(18), None, page_of(19)],
            [
                ("page", "after 17", 2),
                ("page", "next", 1),
                ("iterator", "a", "18"),
                ("page", "after 18", 1),
            ],
        ),
    ],
    ids=["one page", "several", "an iterator that has expired"],
)
def test_a_partition_has_its_records_as_rows(kinesis, pages, calls):
    kinesis.pages = pages
    assert read(source.Reader(OPTIONS)) == [row(18), row(19)]
    assert kinesis.calls == [("iterator", "a", "17"), *calls]


def test_the_time_of_a_row_is_in_utc(kinesis):
    zone = timezone(timedelta(hours=5))
    kinesis.pages = [Page([sent(18, zone)], None, True, 0.0)]
    [(*_, arrived)] = read(source.Reader(OPTIONS), until="18", records=1)
    assert arrived.tzinfo is UTC


LOST = (
    "stream sales no longer has all 2 records of a that belong to a batch, but {}: it"
    " has deleted them, or is another stream of this name"
)
ON = (
    "; start on a new checkpoint, or, to go on without: sources.kinesis(…,"
    " fail_on_data_loss=False)"
)


@pytest.mark.parametrize(
    ("pages", "until", "number"),
    [
        ([page_of(19)], "19", 1),
        ([page_of(20)], "19", 0),
        ([page_of(18, 20)], "19", 1),
        ([page_of(18, last=True)], "19", 1),
        ([page_of(18, iterator=None)], "19", 1),
        ([page_of(17, 18)], "19", 2),
    ],
    ids=["one is gone", "all are", "the last is", "at rest", "closed", "others"],
)
def test_records_that_are_gone_are_an_error_or_a_warning(
    kinesis, caplog, pages, until, number
):
    pages = [*pages, page_of(last=True)]
    said = LOST.format(number)
    kinesis.pages = [*pages]
    assert refusal(read, source.Reader(OPTIONS), until) == f"{said}{ON}"
    assert caplog.messages == []
    kinesis.pages = [*pages]
    lenient = source.Reader(OPTIONS | {"fail_on_data_loss": "false"})
    assert len(read(lenient, until)) == number
    assert caplog.messages == [f"{said}; the query goes on without"]
    assert caplog.records[0].levelno == logging.WARNING


# --- losses before a batch


def test_a_batch_without_losses_begins_where_it_should(kinesis):
    reader = reader_of()
    start = offset_of({"a": place("17")}, seen=1000.0 - 24 * HOUR)
    assert reader._checked_for_losses(start, {"a": OPEN}) is start
    assert kinesis.calls == [], "at the limit"
    unknown = offset_of({"a": place("17")}, seen=0.0)
    reader._state.ahead.now = 1e9
    assert reader._checked_for_losses(unknown, {"a": OPEN}) is unknown


def test_a_stream_that_was_made_again_under_the_query_is_refused(kinesis):
    reader = reader_of(fail_on_data_loss="false")
    said = refusal(
        reader._checked_for_losses, offset_of({"a": place("9")}), {"a": OPEN}
    )
    assert said == (
        "stream sales was deleted and made again under the query; start on a new"
        " checkpoint"
    )


GONE = "stream sales no longer has a, of which the query has not read all records"


def test_a_shard_that_is_gone_is_a_loss(kinesis, caplog):
    start = offset_of({"b": place("1"), "a": place("17"), "c": place("17")})
    listed = {"c": OPEN}
    said = refusal(reader_of()._checked_for_losses, start, listed)
    assert said == f"{GONE}{ON}"
    lenient = reader_of(fail_on_data_loss="false")
    assert lenient._checked_for_losses(start, listed) == start | {
        "shards": {"c": place("17")}
    }
    assert caplog.messages == [f"{GONE}; the query goes on without"]


def test_records_that_are_older_than_the_stream_keeps_them_are_a_loss(kinesis, caplog):
    reader = reader_of()
    start = offset_of({"a": place("17")}, seen=60.0)
    reader._state.ahead.now = 24 * HOUR + 60.5
    said = (
        "stream sales keeps records for 24 hours, and the query has read what arrived"
        " before 1970-01-01 00:01:00 UTC: later records may be gone"
    )
    told = refusal(reader._checked_for_losses, start, {"a": OPEN})
    assert told == f"{said}{ON}"
    assert kinesis.calls == ["describe"]
    lenient = reader_of(fail_on_data_loss="false")
    lenient._state.ahead.now = 24 * HOUR + 60.5
    assert lenient._checked_for_losses(start, {"a": OPEN}) is start
    assert caplog.messages == [f"{said}; the query goes on without"]


@pytest.mark.parametrize(("keeps", "loses"), [(30.0, False), (29.5, True)])
def test_a_stream_may_keep_records_longer_by_now(kinesis, keeps, loses):
    reader = reader_of()
    longer = Stream(5.0, keeps * HOUR, 1000.0)
    kinesis.streams = [longer]
    reader._state.ahead.now = 30 * HOUR + 60
    start = offset_of({"a": place("17")}, seen=60.0)
    if loses:
        told = refusal(reader._checked_for_losses, start, {"a": OPEN})
        assert "keeps records for 29.5 hours" in told
    else:
        assert reader._checked_for_losses(start, {"a": OPEN}) is start
    assert reader._state.stream is longer


# --- the arguments


@pytest.mark.parametrize(
    ("starting", "text"),
    [
        ("earliest", ""),
        ("latest", "latest"),
        (datetime.fromtimestamp(5.5, UTC), "@5.5"),
    ],
    ids=["earliest", "latest", "a time"],
)
def test_a_query_begins_at_a_word_or_a_time(starting, text):
    assert source._starting(starting) == text


@pytest.mark.parametrize(
    ("starting", "said"),
    [
        ("lastest", "the string 'lastest'; did you mean latest?"),
        ("now", "the string 'now'; give earliest, latest or a datetime"),
        (5, "5; give earliest, latest or a datetime"),
    ],
)
def test_another_beginning_is_refused(starting, said):
    assert refusal(source._starting, starting) == (
        f"sources.kinesis(): starting is {said}"
    )


class Column:
    """A column that says how it was made."""

    def __init__(self, name):
        self.name = name

    def cast(self, kind):
        return Column(f"{self.name} as {kind}")

    def alias(self, name):
        return f"{self.name} called {name}"


@pytest.fixture
def asks(monkeypatch):
    """A function that calls `sources.kinesis`; the options, and the columns."""
    seen: list[Any] = []
    frame = SimpleNamespace(
        columns=["value", "partition_key", "shard_id"],
        select=lambda *columns: columns,
    )

    def loaded(spark, options):
        seen.append(options)
        return frame

    for name in ("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(source, "_loaded", loaded)
    monkeypatch.setattr(source, "F", SimpleNamespace(col=Column))

    def asked(stream="sales", **given):
        seen.clear()
        session = object.__new__(SparkSession)  # without a JVM, which nobody asks for
        columns: Any = sources.kinesis(session, stream, **given)
        return (*seen, columns)

    return asked


FIRST = {
    "stream": "sales",
    "starting": "",
    "max_records_per_trigger": "100000",
    "retry_for": "300.0",
    "fail_on_data_loss": "true",
}


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {}),
        ({"region": "r"}, {"region": "r"}),
        ({"endpoint": "http://h:1"}, {"endpoint": "http://h:1"}),
        (
            {
                "starting": "latest",
                "retry_for": 0,
                "max_records_per_trigger": 1,
                "fail_on_data_loss": False,
            },
            {
                "starting": "latest",
                "retry_for": "0.0",
                "max_records_per_trigger": "1",
                "fail_on_data_loss": "false",
            },
        ),
    ],
    ids=["none", "a region", "an address", "the rest"],
)
def test_arguments_become_options(asks, given, options):
    assert asks(**given)[0] == FIRST | options


def test_the_region_of_the_environment_is_used_if_none_is_given(asks, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "there")
    assert asks()[0]["region"] == "there"
    assert asks(region="here")[0]["region"] == "here"


def test_values_are_texts_unless_they_are_to_be_bytes(asks):
    rest = ("partition_key", "shard_id")
    assert asks()[1] == ("value as string called value", *rest)
    assert asks(binary=True)[1] == ("value called value", *rest)


@pytest.mark.parametrize("name", ["a", "A-z_0.9", "a" * 128])
def test_a_name_of_a_stream_is_taken(asks, name):
    assert asks(name)[0]["stream"] == name


@pytest.mark.parametrize("name", ["", "a,b", "a" * 129, "ä"])
def test_what_is_no_name_of_a_stream_is_refused(asks, name):
    assert refusal(asks, name) == (
        f"sources.kinesis(): {name!r} is no name of a stream; give up to 128 letters,"
        " digits, dots, underscores and dashes"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"retry_for": -0.1},
            "retry_for is -0.1; give a number of seconds, 0 or more",
        ),
        (
            {"retry_for": float("inf")},
            "retry_for is inf; give a number of seconds, 0 or more",
        ),
        (
            {"max_records_per_trigger": 0},
            "max_records_per_trigger must be 1 or more, not 0",
        ),
        ({"region": 5}, "sources.kinesis(): region is 5; give a string"),
    ],
    ids=["less than nothing", "without end", "no records", "a type"],
)
def test_arguments_that_cannot_be_used_are_refused(asks, given, said):
    assert refusal(asks, **given) == said


class Session:
    """A session that keeps how it was asked for a stream."""

    def __init__(self, error=None):
        self.error = error
        self.registered: list[Any] = []
        self.asked: list[Any] = []
        self.dataSource = SimpleNamespace(register=self.registered.append)
        self.readStream = self

    def format(self, name):
        self.asked.append(name)
        return self

    def options(self, **options):
        self.asked.append(options)
        return self

    def load(self):
        return self

    @property
    def schema(self):
        self.asked.append("schema")
        if self.error is not None:
            raise self.error
        return "schema"


def test_the_source_is_registered_once_and_asked_for_its_columns():
    session: Any = Session()
    for _ in range(2):
        assert source._loaded(session, {"stream": "sales"}) is session
    assert session.registered == [source.KinesisSource]
    asked = ["sparkstream_kinesis", {"stream": "sales"}, "schema"]
    assert session.asked == asked * 2


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (
            "MissingExtraError: x",
            MissingExtraError,
            (
                "sources.kinesis() needs an optional library; run: pip install"
                " 'sparkstream-kit[kinesis]'"
            ),
        ),
        ("TransientError: late", TransientError, "sources.kinesis(): late"),
        ("InvalidInputError: no", InvalidInputError, "sources.kinesis(): no"),
    ],
)
def test_what_the_worker_cannot_do_is_one_line(monkeypatch, text, kind, said):
    monkeypatch.setattr(
        source, "innermost_cause", lambda err: str(err).partition(": ")[2]
    )
    session: Any = Session(PySparkException(text))
    with pytest.raises(kind) as err:
        source._loaded(session, {})
    assert (str(err.value), type(err.value)) == (said, kind)
    assert err.value.__suppress_context__
