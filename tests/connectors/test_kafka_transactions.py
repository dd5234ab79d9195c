"""The exactly-once sink for Kafka, step by step: its settings, its ledger and its producer.

The brokers are played, with confluent_kafka's own errors, messages and topics.
With brokers: tests/systems/.
"""

# ruff: noqa: SLF001 - the steps of the sink are its own
import json
import logging
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from conftest import refusal
from support.kept_plans import packed

from sparkstream_kit.errors import InvalidInputError, KitError, TransientError
from sparkstream_kit.sinks.base import Target
from sparkstream_kit.sinks.ledger import Batch, Epoch

confluent = pytest.importorskip("confluent_kafka")
transactions = pytest.importorskip("sparkstream_kit.connectors.kafka.transactions")

KafkaError, KafkaException = confluent.KafkaError, confluent.KafkaException
TIMED_OUT, NO_BROKER, NO_CONNECTION = -185, -187, -195
NO_PARTITION, NO_LOCAL_TOPIC, END = -190, -188, -191
NO_TOPIC, TOO_LARGE, NOT_ALLOWED, IS_THERE, FENCED = 3, 10, 29, 36, -144
NOW = 1000.0
PLAN = packed(others=[[None, "7"]])


def fails(code, *more):
    """Return an error as a client raises it."""
    return KafkaException(KafkaError(code, *more))


def done(result):
    """Return what an admin client answers: a result or an error, when it is asked for."""
    answer: Future[Any] = Future()
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
    return answer


class Cluster:
    """Brokers as a test plays them: `confluent_kafka` has no client without real ones.

    Attributes:
        calls: what the clients were asked for, in order.
        ids: the id of each topic, or the error with which it is described.
        ledger: what the reader of the ledger finds.
        end: the offset behind the last record of the ledger.
        errors: what some calls raise, one after the other; None: that one works.
    """

    def __init__(self):
        self.calls: list[tuple[Any, ...]] = []
        self.ids: dict[str, Any] = {"t": "id-t"}
        self.ledger: list[Any] = []
        self.end = 0
        self.errors: dict[str, list[Exception | None]] = {}

    def called(self, name, *given):
        self.calls.append((name, *given))
        left = self.errors.get(name)
        error = left.pop(0) if left else None
        if error is not None:
            raise error

    def named(self, name):
        """Return what a call was given, each time."""
        return [given for called, *given in self.calls if called == name]


class Admin:
    """A client that asks about topics and makes them."""

    def __init__(self, cluster, settings):
        self._cluster = cluster
        cluster.called("admin", settings)

    def list_topics(self, timeout):
        self._cluster.called("list", timeout)
        return SimpleNamespace(topics=dict.fromkeys(self._cluster.ids))

    def create_topics(self, topics, operation_timeout):
        self._cluster.calls.append(("create", topics, operation_timeout))
        errors = self._cluster.errors.get("create", [None])
        return {topic.topic: done(errors.pop(0)) for topic in topics}

    def describe_topics(self, topics, request_timeout):
        names = topics.topic_names
        self._cluster.called("describe", sorted(names), request_timeout)
        answers = {}
        for name in names:
            found = self._cluster.ids.get(name, fails(NO_TOPIC))
            if not isinstance(found, Exception):
                found = SimpleNamespace(topic_id=found)
            answers[name] = done(found)
        return answers


class Reader:
    """A consumer of the ledger."""

    def __init__(self, cluster, settings):
        self._cluster = cluster
        cluster.called("reader", settings)

    def list_topics(self, timeout):
        self._cluster.called("list", timeout)
        return SimpleNamespace(topics=dict.fromkeys(self._cluster.ids))

    def assign(self, parts):
        [part] = parts
        self._cluster.called("assign", part.topic, part.partition, part.offset)

    def poll(self, seconds):
        self._cluster.called("poll", seconds)
        return self._cluster.ledger.pop(0) if self._cluster.ledger else None

    def get_watermark_offsets(self, part, cached):
        self._cluster.called("end", part.topic, cached)
        return 0, self._cluster.end

    def close(self):
        self._cluster.called("close")


class Sender:
    """A producer, which keeps what it was given."""

    def __init__(self, cluster, settings):
        self._cluster = cluster
        cluster.called("producer", settings)

    def init_transactions(self, seconds):
        self._cluster.called("init", seconds)

    def begin_transaction(self):
        self._cluster.called("begin")

    def produce(self, topic, value, key, partition, headers):
        self._cluster.called("produce", topic, value, key, partition, headers)

    def poll(self, seconds):
        self._cluster.called("wait", seconds)

    def commit_transaction(self):
        self._cluster.called("commit")

    def abort_transaction(self, seconds):
        self._cluster.called("abort", seconds)


@pytest.fixture
def cluster(monkeypatch):
    """Brokers that the clients of the sink reach, a clock at 1,000 s, and no writers yet."""
    cluster = Cluster()
    for name, client in (
        ("AdminClient", Admin),
        ("Consumer", Reader),
        ("Producer", Sender),
    ):
        monkeypatch.setattr(
            transactions, name, lambda given, kind=client: kind(cluster, given)
        )
    monkeypatch.setattr(transactions, "_writers", {})
    monkeypatch.setattr(
        transactions,
        "time",
        SimpleNamespace(
            monotonic=lambda: NOW, sleep=lambda given: cluster.called("sleep", given)
        ),
    )
    return cluster


@dataclass(frozen=True)
class Given(transactions.TransactionalTarget):  # type: ignore[misc, name-defined]
    """The topic t of h:1, whose steps a test may play."""

    servers: str = "h:1"
    topic: str = "t"
    ledger: str = "led"
    take_over: bool = False
    options: Any = None
    check: Any = id
    records: Any = id
    read: Any = None  # the entries of the ledger
    once: Any = None  # what a try to write a batch returns

    def __post_init__(self):
        object.__setattr__(self, "options", self.options or {})

    def entries(self, *, all_of_them):
        if self.read is None:
            return super().entries(all_of_them=all_of_them)
        return self.read(all_of_them)

    def _write_once(self, batch, frame, extra_settings=None):
        if self.once is None:
            return super()._write_once(batch, frame, extra_settings)
        return self.once(batch, frame, extra_settings)


def undelivered(code, topic="t", partition=None, size=0):
    return transactions._Undelivered(KafkaError(code), topic, partition, size)


def ledger_of(entries, known="", **changes):
    return transactions._TopicLedger(Given(**changes), entries, known)


def writer_of(cluster, **found):
    """Return a writer of the query q, whose producer is played, at the start of a transaction."""
    target = Given(read=lambda _: {"q": found} if found else {})
    writer = transactions._TransactionWriter(target, "q", "me")
    writer.deadline = NOW + 1
    cluster.calls.clear()
    return writer


# --- settings


STORE = "kafka.ssl.truststore"


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {}),
        (
            {"Kafka.Linger.MS": 5, "acks": "all"},
            {"linger.ms": "5", "acks": "all"},
        ),
        ({"kafka.default.api.timeout.ms": 7}, {}),
        (
            {"kafka.sasl.jaas.config": r'M required username="a\"b" password="c\\d";'},
            {"sasl.username": 'a"b', "sasl.password": r"c\d"},
        ),
        ({f"{STORE}.type": "PEM"}, {}),
        (
            {f"{STORE}.type": "PEM", f"{STORE}.location": "/f"},
            {"ssl.ca.location": "/f"},
        ),
        (
            {f"{STORE}.type": "PEM", f"{STORE}.certificates": "-"},
            {"ssl.ca.pem": "-"},
        ),
        (
            {f"{STORE}.type": "JKS", f"{STORE}.location": "/f"},
            {"ssl.truststore.location": "/f"},
        ),
    ],
    ids=[
        "none",
        "names in another case",
        "a setting of Java's client alone",
        "a log-in with backslashes",
        "a store without certificates",
        "a file of certificates",
        "certificates as a text",
        "a store that is no PEM",
    ],
)
def test_options_of_javas_client_become_settings_of_librdkafka(options, settings):
    assert transactions.settings_of(options) == settings


def test_what_the_user_sets_comes_before_the_kits_settings_but_not_the_servers():
    options = {
        "kafka.transaction.timeout.ms": 1500,
        "kafka.bootstrap.servers": "other:1",
        "kafka.linger.ms": "5",
    }
    target = Given(options=options)
    assert target.settings == transactions._SETTINGS | {
        "transaction.timeout.ms": "1500",
        "linger.ms": "5",
        "bootstrap.servers": "h:1",
        "logger": logging.getLogger(f"{transactions.__name__}.librdkafka"),
    }
    assert target.seconds == 1.5
    assert Given().seconds == 300
    assert target.where == Target("topic", "t of h:1")


# --- what Kafka says


IS_TOO_LARGE = (
    "a record of 1,234 bytes is too large (MSG_SIZE_TOO_LARGE); raise the topic's"
    " max.message.bytes, or leave such rows out"
)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (TOO_LARGE, IS_TOO_LARGE),
        (
            NO_PARTITION,
            "there is no partition 7; correct the rows, or add partitions to the topic",
        ),
        (NO_TOPIC, "there is no such topic; create it, or correct the rows"),
        (NOT_ALLOWED, "Broker: Topic authorization failed"),
    ],
    ids=["too large", "no partition", "no topic", "another reason"],
)
def test_the_reason_of_a_record_that_was_not_delivered_has_its_fix(code, said):
    assert str(undelivered(code, "t", 7, 1234)) == said


@pytest.mark.parametrize(
    ("code", "kind", "raised"),
    [
        (TIMED_OUT, KitError, TransientError),
        (NO_CONNECTION, InvalidInputError, TransientError),
        (NO_BROKER, InvalidInputError, TransientError),
        (NOT_ALLOWED, KitError, KitError),
        (NOT_ALLOWED, InvalidInputError, InvalidInputError),
    ],
    ids=["timed out", "no connection", "no broker", "in a batch", "at a start"],
)
def test_an_error_of_the_client_is_one_line(code, kind, raised):
    with pytest.raises(KitError) as err, Given()._errors_in_one_line(kind):
        raise fails(code, "why")
    assert type(err.value) is raised
    assert str(err.value) == "topic t of h:1: why"
    assert err.value.__suppress_context__


def test_another_error_stays_as_it_is():
    with pytest.raises(LookupError), Given()._errors_in_one_line(KitError):
        raise LookupError


def test_a_ledger_that_is_gone_is_told_with_the_ways_on():
    assert Given()._without_ledger == (
        "the ledger of topic t of h:1, topic led, is gone; restore it, or start again:"
        " the next start makes a new one, and says how to go on without what was in"
        " the former"
    )


# --- the ids of topics


def test_topics_have_ids_unless_they_are_gone_or_not_to_be_asked_for(cluster):
    cluster.ids = {
        "t": "id-t",
        "old": transactions._NO_ID,
        "hidden": fails(NOT_ALLOWED),
    }
    admin = Admin(cluster, {})
    names = iter(["t", "old", "hidden", "gone"])
    assert transactions.topic_ids(admin, names) == {
        "t": "id-t",
        "old": "",
        "hidden": "",
        "gone": None,
    }
    assert cluster.named("describe") == [[["gone", "hidden", "old", "t"], 10]]


def test_a_topic_that_cannot_be_asked_for_is_an_error(cluster):
    cluster.ids["t"] = fails(TIMED_OUT)
    with pytest.raises(KafkaException):
        transactions.topic_ids(Admin(cluster, {}), ["t"])


@pytest.mark.parametrize(
    ("entry", "topics"),
    [(None, {}), ({"batch": 1}, {}), ({"topics": {"t": "id"}}, {"t": "id"})],
    ids=["no entry", "of an older kit", "with topics"],
)
def test_an_entry_names_the_topics_that_the_query_has_written_to(entry, topics):
    found = transactions._topics_of(entry)
    assert found == topics
    found["more"] = "a copy"
    assert "more" not in (entry or {}).get("topics", {})


@pytest.mark.parametrize(
    ("topic_id", "known_as"),
    [("id-t", "id-t"), (transactions._NO_ID, "topic t of h:1"), (None, None)],
    ids=["an id", "brokers without ids", "no topic"],
)
def test_a_topic_is_known_by_its_id_or_else_by_its_name(cluster, topic_id, known_as):
    cluster.ids = {} if topic_id is None else {"t": topic_id}
    assert Given().identity() == (known_as or "topic t of h:1")
    assert cluster.named("describe") == [[["t"], 10]]
    assert cluster.named("admin") == [[Given().settings]]


def test_no_answer_about_a_topic_is_one_line(cluster):
    cluster.ids["t"] = fails(TIMED_OUT, "late")
    with pytest.raises(TransientError, match="topic t of h:1: late"):
        Given().identity()


# --- the topic of the ledger


def test_a_ledger_that_is_there_is_not_made(cluster):
    cluster.ids["led"] = "id-led"
    Given()._make()
    assert cluster.named("list") == [[10]]
    assert cluster.named("create") == []


@pytest.mark.parametrize(
    "error", [None, fails(IS_THERE)], ids=["it works", "another driver was sooner"]
)
def test_a_missing_ledger_is_made_compacted_with_one_partition(cluster, error):
    cluster.errors["create"] = [error]
    Given()._make()
    [[[topic], timeout]] = cluster.named("create")
    assert (topic.topic, topic.num_partitions, topic.replication_factor) == (
        "led",
        1,
        -1,
    )
    assert topic.config == {
        "cleanup.policy": "compact",
        "segment.bytes": "1048576",
        "max.message.bytes": "50000000",
    }
    assert timeout == 10


def test_a_ledger_that_cannot_be_made_is_an_error(cluster):
    cluster.errors["create"] = [fails(NOT_ALLOWED)]
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        Given()._make()


# --- reading the ledger


def record(offset, query="q", value=b'{"batch": 1}', topic="t"):
    return confluent.Message(
        topic="led", partition=0, offset=offset, key=f"{topic}/{query}".encode(),
        value=value,
    )  # fmt: skip


def error(code, offset=0):
    return confluent.Message(
        topic="led", partition=0, offset=offset, error=KafkaError(code)
    )


def test_a_ledger_that_does_not_exist_has_no_entries(cluster):
    assert Given().entries(all_of_them=False) == {}
    assert [call[0] for call in cluster.calls] == ["reader", "list", "close"]
    assert cluster.named("list") == [[10]]
    assert cluster.named("reader") == [[Given().settings]]


def test_a_ledger_is_read_from_its_beginning_to_the_end_of_what_is_committed(cluster):
    cluster.ids["led"] = "id-led"
    cluster.end = 9
    cluster.ledger = [record(0), record(1, "r"), error(END, 2), record(3, "unread")]
    assert Given().entries(all_of_them=False) == {"q": {"batch": 1}, "r": {"batch": 1}}
    assert cluster.named("assign") == [["led", 0, confluent.OFFSET_BEGINNING]]
    assert cluster.named("poll") == [[300]] * 3
    assert cluster.named("close") == [[]]


@pytest.mark.parametrize(
    ("end", "read"), [(1, 1), (2, 2), (3, 3)], ids=["one", "two", "three"]
)
def test_a_ledger_is_read_to_the_end_that_it_had_at_first(cluster, end, read):
    cluster.end = end
    cluster.ledger = [record(number, f"q{number}") for number in range(5)]
    assert len(Given().entries(all_of_them=True)) == read
    assert cluster.named("list") == []
    assert cluster.named("end") == [["led", True]]


def test_an_end_that_is_not_known_yet_is_asked_for_again(cluster):
    cluster.end = -1
    cluster.ledger = [record(0), record(1, "r")]
    with pytest.raises(KafkaException, match="ledger led cannot be read to its end"):
        Given().entries(all_of_them=True)
    assert cluster.named("end") == [["led", True]] * 2


def test_an_end_of_zero_is_known(cluster):
    cluster.end = 0
    cluster.ledger = [error(END, 0), record(1)]
    assert Given().entries(all_of_them=True) == {}
    assert len(cluster.named("poll")) == 1


def test_open_transactions_are_waited_for(cluster):
    """The mark of the end of a transaction has an offset, too, which is not read."""
    cluster.end = 3
    cluster.ledger = [record(0), error(END, 1), error(END, 3), record(4, "unread")]
    assert Given().entries(all_of_them=True) == {"q": {"batch": 1}}


@pytest.mark.parametrize("all_of_them", [True, False], ids=["all", "the committed"])
def test_a_ledger_without_an_end_is_a_time_out(cluster, all_of_them):
    cluster.ids["led"] = "id-led"
    cluster.end = 5
    cluster.ledger = [record(0)]
    with pytest.raises(KafkaException) as err:
        Given().entries(all_of_them=all_of_them)
    [why] = err.value.args
    assert (why.code(), why.str()) == (
        TIMED_OUT,
        "ledger led cannot be read to its end",
    )
    assert cluster.named("close") == [[]]


@pytest.mark.parametrize("code", [NO_TOPIC, NO_PARTITION, NO_LOCAL_TOPIC])
def test_a_ledger_that_was_removed_is_told_when_it_is_read(cluster, code):
    cluster.ledger = [error(code)]
    line = refusal(Given().entries, all_of_them=True)
    assert line == Given()._without_ledger


def test_another_error_of_the_reading_is_raised(cluster):
    cluster.ledger = [error(NOT_ALLOWED)]
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        Given().entries(all_of_them=True)


def test_the_last_entry_of_a_query_counts_and_those_of_other_topics_do_not():
    entries = {"r": {"batch": 0}}
    target = Given()
    for message in (
        record(0, "q", b'{"batch": 1}'),
        record(1, "q", b'{"batch": 2}'),
        record(2, "s", b'{"batch": 9}', topic="other"),
        record(3, "s", b"no entry", topic="other"),
        record(4, "r", None),
        record(5, "never/there", None),
    ):
        target._add_entry(message, entries)
    assert entries == {"q": {"batch": 2}}


NO_ENTRY = (
    "topic led of h:1 has a record that is no entry of a ledger; give the ledger a"
    " topic of its own: sinks.kafka(…, ledger='t-sparkstream-ledger')"
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"\xff/q", b"{}"),
        (b"t", b"{}"),
        (b"other", b"{}"),
        (b"t/q", b"{"),
        (b"t/q", b"[]"),
        (b"t/q", b"1"),
        (b"t/q", b"\xff"),
    ],
    ids=[
        "no key",
        "a key that is no text",
        "the topic alone",
        "no query of another topic",
        "no JSON",
        "a list",
        "a number",
        "bytes",
    ],
)
def test_a_record_that_is_no_entry_is_refused(key, value):
    entries: dict[str, Any] = {}
    message = SimpleNamespace(key=lambda: key, value=lambda: value)
    assert refusal(Given()._add_entry, message, entries) == NO_ENTRY
    assert entries == {}


# --- the rules of the ledger


@pytest.mark.parametrize(
    ("entry", "known", "found"),
    [
        ({}, "", None),
        ({"batch": 3}, "id-t", ("q", 3)),
        ({"batch": -1}, "id-t", ("q", 0)),
        ({"batch": 3, "topics": {"t": "id-t"}}, "id-t", ("q", 3)),
        ({"batch": 3, "topics": {"t": "id-t"}}, "", ("q", 3)),
        ({"batch": 3, "topics": {"t": "former"}}, "id-t", None),
        ({"batch": 3, "topics": {"t": "former"}}, None, None),
        ({"batch": 3, "topics": {"other": "x"}}, "id-t", ("q", 3)),
        ({"topics": {"t": "id-t"}}, "id-t", None),
    ],
    ids=[
        "no batch",
        "of an older kit",
        "its first batch",
        "the same topic",
        "an id that is not known",
        "a former topic",
        "a topic that is gone",
        "another topic",
        "no batch yet",
    ],
)
def test_another_query_counts_if_its_rows_are_in_the_topic(entry, known, found):
    assert ledger_of({"q": entry}, known).any_query() == found


def test_of_several_queries_the_first_that_has_rows_counts():
    entries = {"q": {"batch": None}, "r": {"batch": 4}, "s": {"batch": 5}}
    assert ledger_of(entries).any_query() == ("r", 4)
    assert ledger_of({}).any_query() is None


def test_a_ledger_knows_its_target():
    ledger = ledger_of({"q": {"batch": 4}}, take_over=True)
    assert (ledger.where, ledger.how, ledger.what) == (
        "topic t of h:1",
        "append",
        "topic",
    )
    assert ledger.take_over is True
    assert ledger.entries() == {"q": {"batch": 4}}
    assert ledger.has_rows() is False


WRITTEN = {"batch": 3, "topics": {"t": "id-t", "u": "id-u"}}


@pytest.mark.parametrize(
    ("entry", "ids", "take_over"),
    [
        (WRITTEN, {"t": "id-t", "u": "id-u"}, False),
        (WRITTEN, {"t": "", "u": ""}, False),
        (WRITTEN, {"new": None, "other": "id"}, False),
        (WRITTEN, {"t": None, "u": "again"}, True),
        ({"topics": {"t": "id-t"}}, {"t": "again"}, False),
        ({"batch": 3}, {"t": "again"}, False),
    ],
    ids=[
        "the same",
        "ids that are not known",
        "topics that it has not written to",
        "taken over",
        "no batch yet",
        "of an older kit",
    ],
)
def test_topics_that_have_all_rows_of_the_query_are_taken(entry, ids, take_over):
    ledger_of({"q": entry}, take_over=take_over).check_topics("q", ids)
    ledger_of({}).check_topics(None, ids)


@pytest.mark.parametrize(
    ("ids", "happened"),
    [
        ({"t": None, "u": "id-u"}, "topic t of h:1 was deleted"),
        ({"t": "id-t", "u": "x"}, "topic u of h:1 was deleted and made again"),
    ],
    ids=["deleted", "made again"],
)
def test_a_topic_that_lacks_rows_of_the_query_is_refused(ids, happened):
    assert refusal(ledger_of({"q": WRITTEN}).check_topics, "q", ids) == (
        f"{happened} after this query had written its batches up to 3; to write all"
        " rows again, start with a new checkpoint folder (and a new target for each"
        " other sink); or, to go on without them, give take_over=True"
    )


def test_a_ledger_is_set_back_by_a_record_of_kafkas_own_tool():
    ledger = ledger_of({"q": {"batch": 7, "plan": "p", "driver": "it's me"}})
    assert ledger.set_back_command("q", 4) == (
        "run printf '%s\\t%s\\n' 't/q'"
        """ '{"batch": 4, "plan": null, "driver": "it'"'"'s me"}'"""
        " | kafka-console-producer.sh --bootstrap-server h:1 --topic led --property"
        " parse.key=true"
    )


# --- a start


def prepared(cluster, entries, *, number=None, makes=False, query: Any = "q", **how):
    """Return what the check of a target returns, and what was asked for the entries."""
    asked: list[Any] = []

    def read(all_of_them):
        asked.append(all_of_them)
        cluster.called("entries")
        return entries

    batch = None if number is None else Batch("q", number)
    target = Given(read=read, check=lambda frame: cluster.called("check", frame), **how)
    plan = target.prepare("frame", query, batch, makes)
    assert asked == [False]
    return plan


@pytest.mark.parametrize(
    ("number", "plan"),
    [(3, "p"), (4, None), (2, None), (None, None)],
    ids=["the topic has it", "it is new", "it is earlier", "no next batch"],
)
def test_the_plan_of_a_batch_that_the_topic_has_is_found(cluster, number, plan):
    entry = {"batch": 3, "plan": "p", "topics": {"t": "id-t", "u": "id-u"}}
    cluster.ids["u"] = "id-u"
    assert prepared(cluster, {"q": entry}, number=number) == plan
    assert cluster.calls == [
        ("check", "frame"),
        ("entries",),
        ("admin", Given().settings),
        ("describe", ["t", "u"], 10),
    ]


def test_a_start_makes_the_ledger_and_a_dry_run_does_not(cluster):
    prepared(cluster, {}, query=None)
    assert cluster.named("create") == []
    prepared(cluster, {}, query=None, makes=True)
    assert len(cluster.named("create")) == 1
    names = [call[0] for call in cluster.calls]
    assert names.index("create") > names.index("check")


def test_columns_that_cannot_be_written_are_refused_before_kafka_is_asked(cluster):
    def check(frame):
        raise InvalidInputError("no value")

    assert refusal(Given(check=check).prepare, "frame", "q", None, True) == "no value"
    assert cluster.calls == []


def test_a_topic_of_another_query_and_one_that_was_made_again_are_refused(cluster):
    entry = {"batch": 3, "topics": {"t": "id-t"}}
    assert "another query (other, up to its batch 3)" in refusal(
        prepared, cluster, {"other": entry}
    )
    former = {"batch": 3, "topics": {"t": "former"}}
    assert prepared(cluster, {"other": former}) is None
    assert "topic t of h:1 was deleted and made again" in refusal(
        prepared, cluster, {"q": former}
    )
    assert prepared(cluster, {"q": former}, take_over=True) is None


def test_an_error_at_a_start_is_one_line(cluster):
    cluster.errors["list"] = [fails(NOT_ALLOWED, "no")]
    assert refusal(prepared, cluster, {}, makes=True) == "topic t of h:1: no"


class Taking:
    """A writer whose commits may fail.

    Attributes:
        made: the writers that were made, in order.
        fails: what their commits raise, one after the other.
    """

    made: list[Any]
    fails: list[Exception | None]
    entry: dict[str, Any]

    def __init__(self, target, query, driver, more=None):
        self.given = target, query, driver
        self.ledger = ledger_of({"q": self.entry})
        self.did: list[Any] = []
        self.made.append(self)

    def begin(self):
        self.did.append("begin")

    def commit(self, entry):
        self.did.append(entry)
        error = self.fails.pop(0)
        if error is not None:
            raise error


def taking(monkeypatch, *errors, **entry):
    class OfThisTest(Taking):
        pass

    OfThisTest.made, OfThisTest.fails, OfThisTest.entry = [], [*errors], entry
    monkeypatch.setattr(transactions, "_TransactionWriter", OfThisTest)
    return OfThisTest.made


@pytest.mark.parametrize(
    ("entry", "number"),
    [({}, 1), ({"epoch": 1, "driver": "old"}, 2), ({"epoch": 7, "driver": "old"}, 8)],
    ids=["the first", "the second", "a later one"],
)
def test_a_start_takes_the_next_epoch(cluster, monkeypatch, entry, number):
    made = taking(monkeypatch, None, **entry)
    target = Given()
    target.take("q", "me", None)
    [writer] = made
    assert writer.given == (target, "q", "me")
    assert writer.did == ["begin", {"epoch": number, "driver": "me"}]
    assert transactions._writers == {("h:1", "t", "q"): writer}


FATAL = KafkaException(KafkaError(FENCED, "fenced", True))


@pytest.mark.parametrize("times", [1, 2])
def test_an_older_driver_that_takes_the_id_back_is_overcome(
    cluster, monkeypatch, times
):
    made = taking(monkeypatch, *[FATAL] * times, None)
    Given().take("q", "me", None)
    assert len(made) == times + 1
    assert transactions._writers == {("h:1", "t", "q"): made[-1]}


@pytest.mark.parametrize(
    ("errors", "tries", "said"),
    [
        ([FATAL] * 4, 3, "topic t of h:1: fenced"),
        ([fails(NOT_ALLOWED, "no"), None], 1, "topic t of h:1: no"),
    ],
    ids=["three times", "an error that does not pass"],
)
def test_an_id_that_cannot_be_taken_is_one_line(
    cluster, monkeypatch, errors, tries, said
):
    made = taking(monkeypatch, *errors)
    assert refusal(Given().take, "q", "me", None) == said
    assert len(made) == tries


# --- a batch: how often it is tried


LARGE, LATE, OTHER = (
    undelivered(TOO_LARGE, "u", None, 12),
    undelivered(TIMED_OUT),
    undelivered(NOT_ALLOWED),
)
NOTHING: dict[str, str] | None = None
SMALL = {"batch.size": "16384"}


@pytest.mark.parametrize(
    ("results", "settings", "said"),
    [
        ([None], [NOTHING], None),
        ([OTHER, None], [NOTHING, NOTHING], None),
        ([LARGE, None], [NOTHING, SMALL], None),
        ([OTHER, LARGE, None], [NOTHING, NOTHING, SMALL], None),
        (
            [LARGE, LARGE],
            [NOTHING, SMALL],
            f"topic u of h:1: batch 3: {LARGE}",
        ),
        (
            [OTHER, OTHER],
            [NOTHING, NOTHING],
            "topic t of h:1: batch 3: Broker: Topic authorization failed",
        ),
        (
            [LATE, LATE],
            [NOTHING, NOTHING],
            "topic t of h:1: batch 3: Local: Timed out",
        ),
    ],
    ids=[
        "at once",
        "the second time",
        "in small packages",
        "in small packages, the third time",
        "too large",
        "not allowed",
        "late",
    ],
)
def test_a_batch_is_tried_again_and_records_too_large_in_small_packages(
    results, settings, said
):
    asked: list[Any] = []
    left = [*results]

    def once(batch, frame, extra_settings):
        asked.append((batch.number, frame, extra_settings))
        return left.pop(0)

    target = Given(once=once)
    if said is None:
        target.write(Batch("q", 3), "frame")
    else:
        with pytest.raises(KitError) as err:
            target.write(Batch("q", 3), "frame")
        assert str(err.value) == said
        kind = TransientError if results[-1] is LATE else KitError
        assert type(err.value) is kind
    assert asked == [(3, "frame", more) for more in settings]


def test_an_error_of_kafka_in_a_batch_is_one_line():
    def once(*_):
        raise fails(NOT_ALLOWED, "no")

    with pytest.raises(KitError, match="topic t of h:1: no") as err:
        Given(once=once).write(Batch("q", 3), None)
    assert type(err.value) is KitError


# --- a batch: one try


class Writes:
    """The writer of a batch, which may fail."""

    def __init__(self, cluster, error=None, *, driver="me", **entry):
        self.driver = driver
        self.deadline = NOW + 1
        self.ledger = ledger_of({"q": entry} if entry else {})
        self.producer = Sender(cluster, {})
        self.undelivered = None
        self._cluster = cluster
        self._error = error
        cluster.calls.clear()

    def write(self, batch, records):
        self._cluster.called("write", batch.number, records)
        if self._error is not None:
            raise self._error


BATCH = Batch("q", 0, PLAN, driver="me")
KEY = ("h:1", "t", "q")


def once(target, batch=BATCH, **how):
    return target._write_once(batch, "frame", **how)


def test_a_batch_is_written_by_the_writer_of_its_driver(cluster):
    writer = transactions._writers[KEY] = Writes(cluster)
    target = Given(records=lambda frame: f"records of {frame}")
    assert once(target) is None
    assert cluster.calls == [("write", 0, "records of frame")]
    assert transactions._writers == {KEY: writer}


@pytest.mark.parametrize(
    ("former", "more"),
    [(None, None), ("another", None), (None, SMALL)],
    ids=["the first", "of another driver", "with settings of its own"],
)
def test_a_driver_without_a_writer_makes_one(cluster, monkeypatch, former, more):
    if former:
        transactions._writers[KEY] = Writes(cluster, driver=former)
    made: list[Any] = []

    def make(*given):
        made.append(given)
        return Writes(cluster)

    monkeypatch.setattr(transactions, "_TransactionWriter", make)
    target = Given()
    assert once(target, extra_settings=more) is None
    assert made == [(target, "q", "me", more or {})]
    assert transactions._writers[KEY].driver == "me"
    assert cluster.named("write") == [[0, id("frame")]]


def test_a_batch_that_the_topic_has_is_passed_over(cluster, monkeypatch):
    passed: list[Any] = []
    monkeypatch.setattr(transactions, "pass_over", lambda *given: passed.append(given))
    transactions._writers[KEY] = Writes(cluster, batch=0, plan=PLAN)
    assert once(Given()) is None
    assert passed == [("frame", BATCH, Target("topic", "t of h:1"))]
    assert cluster.named("write") == []


def test_a_batch_of_an_older_driver_is_refused(cluster):
    transactions._writers[KEY] = Writes(cluster, epoch=2, driver="me")
    transactions._writers[KEY].ledger.found["q"]["driver"] = "newer"
    assert "another driver has started" in refusal(once, Given())
    assert cluster.named("write") == []


def test_another_error_of_a_batch_ends_the_transaction_and_the_writer(cluster):
    transactions._writers[KEY] = Writes(cluster, LookupError("mine"))
    with pytest.raises(LookupError, match="mine"):
        once(Given())
    assert cluster.named("abort") == [[10]]
    assert transactions._writers == {}
    assert cluster.named("sleep") == []


def test_a_transaction_that_cannot_be_ended_is_left_to_the_next_writer(cluster):
    transactions._writers[KEY] = Writes(cluster, LookupError("mine"))
    cluster.errors["abort"] = [fails(TIMED_OUT)]
    with pytest.raises(LookupError, match="mine"):
        once(Given())


def failed(cluster, error, record=None, *, read: Any = lambda _: {}, left=1):
    """Return what one try of a batch returns that fails so."""
    writer = transactions._writers[KEY] = Writes(cluster, error)
    writer.undelivered = record
    writer.deadline = NOW + left
    return once(Given(read=read))


def test_a_record_that_was_not_delivered_is_the_reason(cluster):
    record = undelivered(TOO_LARGE)
    assert failed(cluster, fails(TIMED_OUT), record) is record
    assert cluster.named("abort") == [[10]]
    assert cluster.named("sleep") == [[1]]
    assert transactions._writers == {}


def test_without_such_a_record_the_error_is_the_reason(cluster):
    error = fails(NOT_ALLOWED)
    assert failed(cluster, error) == (error.args[0], "t", None, 0)


@pytest.mark.parametrize(
    ("code", "topic", "is_told"),
    [
        (NO_TOPIC, "led", True),
        (NO_PARTITION, "led", True),
        (NO_LOCAL_TOPIC, "led", True),
        (NO_TOPIC, "t", False),
        (TOO_LARGE, "led", False),
    ],
    ids=["gone", "no partition", "no topic", "another topic", "another reason"],
)
def test_a_ledger_that_was_removed_is_told_when_it_is_written(
    cluster, code, topic, is_told
):
    record = undelivered(code, topic)
    if is_told:
        said = refusal(failed, cluster, fails(code), record)
        assert said == Given()._without_ledger
        assert cluster.named("sleep") == []
    else:
        assert failed(cluster, fails(code), record) is record


def test_a_driver_that_is_no_longer_the_newest_ends(cluster):
    asked: list[bool] = []

    def read(all_of_them):
        asked.append(all_of_them)
        return {"q": {"epoch": 2, "driver": "newer"}}

    said = refusal(failed, cluster, fails(FENCED), read=read)
    assert said == (
        "another driver has started to write to topic t of h:1 (epoch 2, newer); this"
        " one ends"
    )
    assert asked == [False]


def test_a_ledger_that_no_broker_shows_is_no_reason_to_end(cluster):
    def read(_):
        raise fails(TIMED_OUT)

    record = undelivered(NOT_ALLOWED)
    assert failed(cluster, fails(FENCED), record, read=read) is record


@pytest.mark.parametrize("left", [0, -1], ids=["just over", "over"])
def test_a_batch_whose_time_is_over_fails(cluster, left):
    with pytest.raises(KitError) as err:
        failed(cluster, fails(TIMED_OUT), left=left)
    assert str(err.value) == (
        "topic t of h:1 has not taken batch 0 within 300 s (Local: Timed out); if no"
        " broker answered, start again; a large batch needs more time, up to the"
        " brokers' transaction.max.timeout.ms: sinks.kafka(…,"
        " **{'kafka.transaction.timeout.ms': 900000})"
    )
    assert type(err.value) is KitError


# --- a writer


def told(writer) -> Any:
    """Return the record that a writer names as the reason."""
    return writer.undelivered


def test_a_writer_takes_the_id_before_it_reads_the_ledger(cluster):
    def read(all_of_them):
        cluster.called("entries", all_of_them)
        return {"q": {"batch": 2}}

    target = Given(read=read)
    writer = transactions._TransactionWriter(target, "q", "me", SMALL)
    assert [call[0] for call in cluster.calls] == [
        "admin",
        "producer",
        "init",
        "entries",
    ]
    assert cluster.named("init") == [[300]]
    assert cluster.named("entries") == [[True]]
    assert cluster.named("admin") == [[target.settings]]
    [[settings]] = cluster.named("producer")
    report = settings.pop("on_delivery")
    assert settings == {
        **target.settings,
        **SMALL,
        "transactional.id": "sparkstream/t/q",
        "delivery.report.only.error": True,
    }
    assert (writer.driver, writer.deadline) == ("me", 0)
    assert writer.ledger.found == {"q": {"batch": 2}}
    assert told(writer) is None
    report(KafkaError(TOO_LARGE), record(0))
    assert told(writer).topic == "led"


def test_a_writer_has_no_settings_of_its_own_by_default(cluster):
    transactions._TransactionWriter(Given(read=lambda _: {}), "q", "me")
    [[settings]] = cluster.named("producer")
    assert settings["transactional.id"] == "sparkstream/t/q"
    assert "batch.size" not in settings


def message(topic, key, value, partition=0):
    return confluent.Message(topic=topic, partition=partition, key=key, value=value)


def test_of_the_records_that_failed_the_largest_is_told(cluster):
    writer = writer_of(cluster)
    assert told(writer) is None
    writer._failed = [undelivered(NOT_ALLOWED, "t", None, 4)]
    assert told(writer) == writer._failed[0]
    writer._reports = [
        (KafkaError(TOO_LARGE), message("u", b"kk", b"vvv", 6)),
        (KafkaError(-151), message("v", b"k" * 9, b"v" * 9)),
        (KafkaError(-152), message("w", b"k" * 9, b"v" * 9)),
        (KafkaError(NO_TOPIC), message("x", None, None)),
    ]
    found = told(writer)
    assert (found.error.code(), *found[1:]) == (TOO_LARGE, "u", 6, 5)
    writer._failed = [undelivered(NOT_ALLOWED, "t", None, 6)]
    assert told(writer).size == 6


def test_records_that_went_with_another_one_are_no_reason(cluster):
    writer = writer_of(cluster)
    writer._reports = [(KafkaError(-151), message("v", b"k", b"v"))]
    assert told(writer) is None


def test_a_transaction_begins_with_its_time_and_its_topic(cluster):
    writer = writer_of(cluster)
    writer._topics = {"t", "of the former"}
    writer.begin()
    assert writer._topics == {"t"}
    assert writer.deadline == NOW + 300
    assert cluster.calls == [("begin",)]


# --- the records of a batch


@pytest.fixture
def batch_of(monkeypatch):
    """A function that returns the rows of a batch in parts, as Spark's workers leave them."""

    def made(names, *parts):
        @contextmanager
        def kept(records):
            assert records is frame
            yield [
                pa.record_batch([pa.array(column) for column in part], names)
                for part in parts
            ]

        frame = SimpleNamespace(columns=names)
        monkeypatch.setattr(transactions._arrow, "kept", kept)
        return frame

    return made


def test_a_batch_goes_with_its_entry_in_one_transaction(cluster, batch_of):
    writer = writer_of(cluster)
    frame = batch_of(
        ["key", "value"],
        [[b"k", None], [b"v", b"w"]],
        [[b"l"], [None]],
    )
    writer.write(Batch("q", 4, "plan"), frame)
    *sent, entry = cluster.named("produce")
    assert sent == [
        ["t", b"v", b"k", -1, None],
        ["t", b"w", None, -1, None],
        ["t", None, b"l", -1, None],
    ]
    assert entry[0] == "led"
    found = json.loads(entry[1])
    assert (found["batch"], found["plan"], found["rows"]) == (4, "plan", 3)
    assert [call[0] for call in cluster.calls] == [
        "begin",
        "produce",
        "produce",
        "produce",
        "describe",
        "produce",
        "commit",
    ]


def test_rows_say_their_partition_their_headers_and_their_topic(cluster, batch_of):
    writer = writer_of(cluster)
    names = ["topic", "headers", "partition", "value", "key"]
    headers = [[{"key": "a", "value": b"1"}], None]
    frame = batch_of(names, [["u", None], headers, [2, None], [b"v", b"w"], [b"k"] * 2])
    cluster.ids["u"] = "id-u"
    writer.write(Batch("q", 0), frame)
    assert cluster.named("produce")[:2] == [
        ["u", b"v", b"k", 2, [("a", b"1")]],
        ["t", b"w", b"k", -1, None],
    ]
    assert cluster.named("describe") == [[["t", "u"], 10]]


def test_a_batch_without_rows_has_an_entry(cluster, batch_of):
    writer = writer_of(cluster)
    writer.write(Batch("q", 0), batch_of(["key", "value"]))
    [[_, value, *_]] = cluster.named("produce")
    assert json.loads(value)["rows"] == 0


KEYED = {"key": "a", "value": None}


@pytest.mark.parametrize(
    ("partition", "headers", "topic", "goes_to"),
    [
        (None, None, None, "t"),
        (0, [], "u", "u"),
        (1, [KEYED], "t", "t"),
        (0, [{"key": "", "value": b""}], None, "t"),
    ],
    ids=["nothing", "the first partition", "a header", "an empty key"],
)
def test_a_row_goes_to_its_topic(cluster, partition, headers, topic, goes_to):
    writer = writer_of(cluster)
    rows = [(b"v", b"k", partition, headers, topic)]
    assert [*writer._checked(rows)] == [(b"v", b"k", partition, headers, goes_to)]
    assert writer._topics == {"t", goes_to}


WRONG_PARTITION = (
    "a row has partition -1; give 0 or more, or null to leave the choice to Kafka"
)
WITHOUT_KEY = (
    "a row has a header without a key; give each header a key, or leave such headers"
    " out: F.filter(…)"
)
WITHOUT_NAME = "a row goes to a topic without a name; give its name, or null for t"
TO_THE_LEDGER = (
    "a row goes to topic led, which is the ledger; leave it out, or give another"
    " ledger="
)


@pytest.mark.parametrize(
    ("partition", "headers", "topic", "said"),
    [
        (-1, None, None, WRONG_PARTITION),
        (None, [KEYED, None], None, WITHOUT_KEY),
        (None, [{"key": None, "value": b""}], None, WITHOUT_KEY),
        (None, None, "", WITHOUT_NAME),
        (None, None, "led", TO_THE_LEDGER),
    ],
    ids=["a partition", "no header", "no key", "no name", "the ledger"],
)
def test_a_row_that_cannot_be_sent_is_refused(cluster, partition, headers, topic, said):
    writer = writer_of(cluster)
    rows = [(b"v", b"k", partition, headers, topic)]
    assert refusal(writer._send_rows, rows) == f"topic t of h:1: {said}"
    assert cluster.calls == []


def test_rows_are_sent_as_they_are_checked(cluster):
    writer = writer_of(cluster)
    writer._send_rows([(b"v", b"k", 1, [KEYED], "u")])
    assert cluster.calls == [("produce", "u", b"v", b"k", 1, [("a", None)])]


def test_a_full_queue_is_waited_for(cluster):
    writer = writer_of(cluster)
    cluster.errors["produce"] = [BufferError(), BufferError(), None]
    writer._send([(b"v", None, 0, None, "t")])
    assert [call[0] for call in cluster.calls] == [
        *["produce", "wait"] * 2,
        "produce",
    ]
    assert cluster.named("wait") == [[0.01]] * 2
    assert cluster.named("produce") == [["t", b"v", None, 0, None]] * 3


@pytest.mark.parametrize(
    ("key", "value", "size"),
    [(b"kk", b"vvv", 5), (None, b"vvv", 3), (b"kk", None, 2)],
    ids=["both", "no key", "no value"],
)
def test_a_record_that_is_not_taken_is_kept_as_the_reason(cluster, key, value, size):
    writer = writer_of(cluster)
    raised = fails(TOO_LARGE)
    cluster.errors["produce"] = [raised]
    with pytest.raises(KafkaException) as err:
        writer._send([(value, key, 4, None, "u"), (b"next", None, 0, None, "u")])
    assert err.value is raised
    assert writer._failed == [(raised.args[0], "u", 4, size)]
    assert len(cluster.named("produce")) == 1


@pytest.mark.parametrize(("left", "sends"), [(1, True), (0, False), (-1, False)])
def test_nothing_is_sent_once_the_time_is_over(cluster, left, sends):
    writer = writer_of(cluster)
    writer.deadline = NOW + left
    if sends:
        writer._send([(b"v", None, 0, None, "t")])
    else:
        with pytest.raises(KafkaException) as err:
            writer._send([(b"v", None, 0, None, "t")])
        assert err.value.args[0].code() == TIMED_OUT
    assert len(cluster.named("produce")) == sends


# --- the commit


def committed(cluster, writer, **entry):
    """Return the entry that a commit leaves, which the ledger and the writer both have."""
    before = datetime.now(UTC).replace(microsecond=0)
    writer.commit(entry)
    [*_, [topic, value, key, partition, headers]] = cluster.named("produce")
    assert (topic, key, partition, headers) == ("led", "t/q", 0, None)
    found = json.loads(value)
    assert writer.ledger.found["q"] == found
    assert cluster.calls[-1] == ("commit",)
    assert before <= datetime.fromisoformat(found.pop("time")) <= datetime.now(UTC)
    return found


def test_the_first_entry_of_a_query_has_the_first_epoch(cluster):
    found = committed(cluster, writer_of(cluster), batch=0, plan=None, rows=2)
    assert found == {
        "epoch": 1,
        "driver": "me",
        "batch": 0,
        "plan": None,
        "rows": 2,
        "topics": {"t": "id-t"},
    }


def test_an_entry_is_added_to_the_former_one(cluster):
    former = {
        "epoch": 5,
        "driver": "me",
        "batch": 1,
        "plan": "p",
        "topics": {"t": "id-t", "s": "id-s"},
    }
    writer = writer_of(cluster, **former)
    writer._topics = {"t", "u", "nameless"}
    cluster.ids |= {"u": "id-u", "nameless": ""}
    found = committed(cluster, writer, batch=2, plan="r")
    topics = {"t": "id-t", "s": "id-s", "u": "id-u"}
    assert found == former | {"batch": 2, "plan": "r", "topics": topics}
    assert writer.ledger.epoch("q") == Epoch(5, "me")


def test_a_topic_that_was_made_again_is_found_before_the_commit(cluster):
    writer = writer_of(cluster, batch=1, topics={"t": "former"})
    assert "was deleted and made again" in refusal(writer.commit, {"batch": 2})
    assert cluster.named("produce") == []
    assert cluster.named("commit") == []
    assert writer.ledger.found["q"]["batch"] == 1


def test_a_commit_that_fails_leaves_the_ledger_as_it_was(cluster):
    writer = writer_of(cluster, batch=1)
    cluster.errors["commit"] = [fails(TIMED_OUT)]
    with pytest.raises(KafkaException):
        writer.commit({"batch": 2})
    assert writer.ledger.found["q"] == {"batch": 1}
