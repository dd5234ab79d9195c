"""What the kit asks Kafka's brokers before a query starts, and how it reads their answers.

Kafka's classes are played: they are in a JVM, which needs Spark's connector and brokers.
With brokers: tests/systems/test_kafka_source.py.
"""

# ruff: noqa: SLF001 - the questions are the module's own
import logging
import re
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from support.checkpoint_files import commit, plan

from sparkstream_kit._internal.spark.logical_plan import Input
from sparkstream_kit.checkpoints.guard import NoteEntry, Remark
from sparkstream_kit.checkpoints.logs import Logs
from sparkstream_kit.connectors.kafka import brokers
from sparkstream_kit.errors import InvalidInputError, TransientError

SERVERS = {"kafka.bootstrap.servers": "h:1"}


def raised_in_java(name, message):
    """Return an error as py4j raises it."""
    java = SimpleNamespace(
        _target_id="o1",
        getCause=lambda: None,
        getClass=lambda: SimpleNamespace(getSimpleName=lambda: name),
        getMessage=lambda: message,
    )
    return Py4JJavaError("An error occurred while calling o1.get", java)


def answered(value):
    """Return a future of Java."""

    def get():
        if isinstance(value, Exception):
            raise value
        return value

    return SimpleNamespace(get=get)


class Brokers:
    """Kafka's admin client in a JVM; it is its own answer where Java has an object for one.

    Attributes:
        ids: the id of each topic with its partitions, or the error instead.
        offsets: the offsets of each partition, as `earliest` and `latest`.
        calls: what has changed something, in order.
    """

    def __init__(self):
        self.ids: dict[str, Any] = {}
        self.offsets: dict[tuple[str, int], dict[str, int]] = {}
        self.calls: list[Any] = []

    def listTopics(self):
        return SimpleNamespace(names=lambda: answered({*self.ids}))

    def describeTopics(self, names):
        assert isinstance(names, list)
        answers = {name: answered(self._description(name)) for name in names}
        return SimpleNamespace(topicNameValues=lambda: answers)

    def _description(self, name):
        found = self.ids.get(
            name, raised_in_java("UnknownTopicOrPartitionException", "")
        )
        if isinstance(found, Exception):
            return found
        topic_id, numbers = found
        partitions = [
            SimpleNamespace(partition=lambda at=number: at) for number in numbers
        ]
        return SimpleNamespace(
            topicId=lambda: SimpleNamespace(toString=lambda: topic_id),
            partitions=lambda: partitions,
        )

    def listOffsets(self, wanted):
        def of(partition):
            offset = self.offsets[partition][wanted[partition]]
            return answered(SimpleNamespace(offset=lambda: offset))

        return SimpleNamespace(partitionResult=of)

    def alterConsumerGroupOffsets(self, group, committed):
        def get():
            self.calls.append((group, committed))

        return SimpleNamespace(all=lambda: SimpleNamespace(get=get))

    def close(self, limit):
        self.calls.append(("close", limit))


def jvm_of(admin):
    """Return the classes of a JVM that the kit uses."""

    def create(settings):
        admin.calls.append(("create", settings))
        return admin

    def compiled(pattern):
        return SimpleNamespace(
            matcher=lambda name: SimpleNamespace(
                matches=lambda: re.fullmatch(pattern, name) is not None
            )
        )

    def partition(name, number):
        assert type(number) is int
        return name, number

    spec = SimpleNamespace(earliest=lambda: "earliest", latest=lambda: "latest")
    made_by = SimpleNamespace(create=create)
    kafka = SimpleNamespace(
        clients=SimpleNamespace(
            admin=SimpleNamespace(AdminClient=made_by, OffsetSpec=spec),
            consumer=SimpleNamespace(OffsetAndMetadata=lambda offset: [offset]),
        ),
        common=SimpleNamespace(TopicPartition=partition),
    )
    java = SimpleNamespace(
        util=SimpleNamespace(
            regex=SimpleNamespace(Pattern=SimpleNamespace(compile=compiled))
        ),
        time=SimpleNamespace(Duration=SimpleNamespace(ZERO="zero")),
    )
    return SimpleNamespace(
        java=java, org=SimpleNamespace(apache=SimpleNamespace(kafka=kafka))
    )


@pytest.fixture
def admin():
    """The brokers' side of a client."""
    return Brokers()


@pytest.fixture
def client(admin):
    """A client of these brokers."""
    return brokers.Client(jvm_of(admin), admin)


# --- options


@pytest.mark.parametrize("name", ["kafka.ssl.keystore.key", "KAFKA.SSL.Keystore.Key"])
def test_a_key_that_spark_would_show_is_refused(name):
    options = {"kafka.ssl.keystore.location": "/f", name: "hush"}
    assert refusal(brokers.refuse_shown, "sources.kafka()", options) == (
        f"sources.kafka(): Spark would show {name} in its plans; put the key into a"
        " file, and give kafka.ssl.keystore.location"
    )


def test_other_options_may_be_shown():
    brokers.refuse_shown("sources.kafka()", {"kafka.ssl.keystore.location": "/f"})


@pytest.mark.parametrize(
    ("options", "limit"),
    [({}, "10000"), ({"kafka.default.api.timeout.ms": "5"}, "5")],
    ids=["ten seconds", "the user's"],
)
def test_an_answer_is_waited_for(options, limit):
    assert brokers._limit(options) == limit


@pytest.mark.parametrize("given", ["", "5s", "-1", "1.5"])
def test_a_limit_that_is_no_number_is_refused(given):
    options = {"kafka.default.api.timeout.ms": given}
    assert refusal(brokers._limit, options) == (
        f"kafka.default.api.timeout.ms is {given!r}; give a number of milliseconds"
    )


def test_only_a_session_with_a_jvm_can_ask(monkeypatch):
    asked: list[Any] = []
    jvms: list[Any] = ["a jvm", None]

    def java(spark):
        asked.append(spark)
        return jvms.pop(0)

    monkeypatch.setattr(brokers, "java", java)
    assert brokers.can_ask("s") is True  # type: ignore[arg-type]
    assert brokers.can_ask("s") is False  # type: ignore[arg-type]
    assert asked == ["s", "s"]


# --- the client


def test_topics_are_found_by_name_and_by_pattern(admin, client):
    admin.ids = dict.fromkeys(["sales-b", "sales-a", "other"])
    assert client.names() == ["other", "sales-a", "sales-b"]
    assert client.matching("sales-.*") == ["sales-a", "sales-b"]
    assert client.matching("sales") == [], "the whole name"


def test_a_topic_has_its_id_and_its_partitions_in_order(admin, client):
    admin.ids = {"a": ("id-a", [2, 0, 1]), "b": ("id-b", [])}
    assert client.topics(iter(["a", "b", "none"])) == {
        "a": brokers.Topic("id-a", (0, 1, 2)),
        "b": brokers.Topic("id-b", ()),
    }


def test_a_topic_that_cannot_be_described_is_an_error(admin, client):
    admin.ids = {"a": raised_in_java("TopicAuthorizationException", "no")}
    with pytest.raises(Py4JJavaError):
        client.topics(["a"])


def test_the_first_and_the_next_offset_of_partitions_are_asked_for(admin, client):
    admin.offsets = {
        ("a", 0): {"earliest": 3, "latest": 9},
        ("b", 1): {"earliest": 4, "latest": 8},
    }
    places = [("a", 0), ("b", 1)]
    assert client.earliest(iter(places)) == {("a", 0): 3, ("b", 1): 4}
    assert client.latest(iter(places)) == {("a", 0): 9, ("b", 1): 8}
    assert client.earliest([]) == {}


def test_offsets_are_committed_to_a_group(admin, client):
    client.commit("g", {"a": {"0": 5, "1": 6}, "b": {"2": 7}})
    assert admin.calls == [("g", {("a", 0): [5], ("a", 1): [6], ("b", 2): [7]})]


@pytest.fixture
def jvm(monkeypatch, admin):
    """A session whose JVM has these brokers' client."""
    jvm = jvm_of(admin)
    monkeypatch.setattr(brokers, "java", lambda spark: jvm)
    return jvm


def test_a_client_has_the_options_of_kafka_and_ten_seconds(admin, jvm):
    options = {
        "kafka.bootstrap.servers": "h:1",
        "Kafka.security.protocol": "SSL",
        "subscribe": "a",
        "kafka.request.timeout.ms": "99",
        "kafka.retries": 3,
    }
    with brokers.client(None, options) as found:  # type: ignore[arg-type]
        assert isinstance(found, brokers.Client)
        assert found._admin is admin
        assert found._java is jvm
        assert len(admin.calls) == 1, "it is open"
    settings = {
        "bootstrap.servers": "h:1",
        "security.protocol": "SSL",
        "retries": "3",
        "default.api.timeout.ms": "10000",
        "request.timeout.ms": "10000",
    }
    assert admin.calls == [("create", settings), ("close", "zero")]


def test_a_client_has_the_users_limit(admin, jvm):
    options = SERVERS | {"kafka.default.api.timeout.ms": "50"}
    with brokers.client(None, options):  # type: ignore[arg-type]
        pass
    [_, settings] = admin.calls[0]
    assert settings["default.api.timeout.ms"] == "50"
    assert settings["request.timeout.ms"] == "50"


@pytest.mark.parametrize(
    "error",
    [
        raised_in_java("SslException", "hush"),
        AnalysisException("SslException: hush"),
    ],
    ids=["of py4j", "of PySpark"],
)
def test_an_error_of_a_client_is_one_line_and_the_client_is_closed(
    admin, jvm, error, monkeypatch
):
    told: list[str] = []

    def refusal_of(options, cause):
        told.append(cause)
        return InvalidInputError("told")

    monkeypatch.setattr(brokers, "_refusal", refusal_of)
    with (
        pytest.raises(InvalidInputError, match="told") as err,
        brokers.client(None, SERVERS),  # type: ignore[arg-type]
    ):
        raise error
    assert told == ["SslException: hush"]
    assert err.value.__suppress_context__
    assert admin.calls[-1] == ("close", "zero")


def test_another_error_stays_as_it_is(admin, jvm):
    with pytest.raises(LookupError), brokers.client(None, SERVERS):  # type: ignore[arg-type]
        raise LookupError
    assert admin.calls[-1] == ("close", "zero")


# --- Spark Connect


class Reads:
    """A session that reads nothing, and keeps how it was asked."""

    def __init__(self, error=None):
        self.read = self
        self.error = error
        self.asked: list[Any] = []

    def format(self, name):
        self.asked.append(name)
        return self

    def options(self, **options):
        self.asked.append(options)
        return self

    def load(self):
        self.asked.append("load")
        return self

    def isEmpty(self):
        self.asked.append("isEmpty")
        if self.error is not None:
            raise self.error


def test_an_empty_read_finds_out_whether_topics_can_be_read(monkeypatch):
    monkeypatch.setattr(brokers, "time", SimpleNamespace(time=lambda: 1.2345))
    session: Any = Reads()
    options = {
        "Kafka.bootstrap.servers": "h:1",
        "subscribePattern": "a.*",
        "startingOffsets": "earliest",
        "failOnDataLoss": "false",
    }
    brokers.try_to_read(session, options)
    assert session.asked == [
        "kafka",
        {
            "Kafka.bootstrap.servers": "h:1",
            "subscribePattern": "a.*",
            "startingTimestamp": str(1234 + 100 * 365 * 24 * 3600 * 1000),
            "startingOffsetsByTimestampStrategy": "latest",
            "kafka.default.api.timeout.ms": "10000",
            "kafka.request.timeout.ms": "10000",
            "fetchOffset.numRetries": "1",
        },
        "load",
        "isEmpty",
    ]


def test_the_limit_of_an_empty_read_is_the_users():
    session: Any = Reads()
    brokers.try_to_read(session, SERVERS | {"kafka.default.api.timeout.ms": "50"})
    asked = session.asked[1]
    assert asked["kafka.default.api.timeout.ms"] == "50"
    assert asked["kafka.request.timeout.ms"] == "50"


def test_topics_that_cannot_be_read_are_refused():
    text = "(org.apache.kafka.TimeoutException) a.b.TimeoutException: late"
    session: Any = Reads(PySparkException(text))
    with pytest.raises(
        TransientError, match="no Kafka broker at h:1 has answered"
    ) as e:
        brokers.try_to_read(session, SERVERS)
    assert e.value.__suppress_context__


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("(a.B) a.b.TimeoutException: late", "TimeoutException: late"),
        ("KafkaException: no\nJVM stacktrace: c.OtherError: x", "KafkaException: no"),
        ("JVM stacktrace:\nc.OtherError: x", "JVM stacktrace:\nc.OtherError: x"),
        ("a.b.OutOfMemoryError: heap", "OutOfMemoryError: heap"),
        ("nothing of Java", "nothing of Java"),
    ],
    ids=["a class", "a stack below it", "a stack alone", "an error", "other words"],
)
def test_of_an_error_of_connect_that_of_java_is_told(error, cause):
    assert brokers._javas_cause(error) == cause


# --- refusals


NOT_TRUSTED = (
    "Kafka at h:1 has a certificate that is not trusted here; give the file of it, or"
    " of its authority: **{'kafka.ssl.truststore.type': 'PEM',"
    " 'kafka.ssl.truststore.location': …}"
)
LOG_IN = (
    "Kafka at h:1: kafka.sasl.jaas.config cannot be read; write it as …LoginModule"
    ' required username="…" password="***";'
)


@pytest.mark.parametrize(
    ("cause", "said", "kind"),
    [
        (
            "UnknownTopicOrPartitionException: x",
            "Kafka at h:1 has no topic a; create it first, or correct the name",
            InvalidInputError,
        ),
        (
            "TimeoutException: late",
            (
                "no Kafka broker at h:1 has answered within 1.5 s; start it, correct"
                " its address (of a job: --kafka), or give sources.kafka the protocol"
                " that it speaks, such as **{'kafka.security.protocol': 'SASL_SSL'}"
            ),
            TransientError,
        ),
        (
            "ConfigException: No resolvable bootstrap urls given",
            "Kafka: unknown host h:1; correct the name, or give the address",
            TransientError,
        ),
        ("SunCertPathBuilderException: x", NOT_TRUSTED, InvalidInputError),
        ("JAAS config hush", LOG_IN, InvalidInputError),
        ("no LoginModule hush", LOG_IN, InvalidInputError),
        (
            "SslException: handshake",
            "Kafka at h:1: SslException: handshake",
            InvalidInputError,
        ),
    ],
    ids=["topic", "late", "host", "certificate", "JAAS", "module", "another"],
)
def test_a_cause_is_told_with_its_fix(cause, said, kind):
    options = SERVERS | {"subscribe": "a", "kafka.default.api.timeout.ms": "1500"}
    told = brokers._refusal(options, cause)
    assert str(told) == said
    assert type(told) is kind


# --- the topics of a query


def read(number=0, places=None, **options):
    given = {"kafka.bootstrap.servers": "h:1"} | options
    return Input("kafka", None, given, number, places or (number,))


def topics_of(client, batch=3, offsets=None, **options):
    return brokers.Topics(client, read(**options), batch, offsets or {})


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"subscribe": "a, b,,none"}, ["a", "b"]),
        ({"assign": '{"b": [0]}'}, ["b"]),
        ({"subscribe": "a", "assign": '{"c": [0]}'}, ["a", "c"]),
        ({"subscribe": "a", "subscribepattern": "b|c"}, ["b", "c"]),
        ({}, []),
    ],
    ids=["names", "partitions", "both", "a pattern", "none"],
)
def test_a_source_has_the_topics_that_its_options_name(admin, client, options, names):
    admin.ids = {name: (f"id-{name}", [0]) for name in "abc"}
    found = topics_of(client, **options)
    assert list(found.topics) == names
    assert found.servers == "h:1"


@pytest.mark.parametrize(
    ("options", "fails"),
    [
        ({}, True),
        ({"failondataloss": "true"}, True),
        ({"failondataloss": "False"}, False),
    ],
    ids=["by default", "as asked", "not"],
)
def test_lost_records_are_an_error_unless_the_source_says_otherwise(
    client, options, fails
):
    assert topics_of(client, **options).fails_on_loss is fails


@pytest.mark.parametrize(
    ("batch", "offsets", "noted", "recreated"),
    [
        (3, {"a": {}}, {"a": "former"}, ["a"]),
        (3, {"a": {}}, {"a": "id-a"}, []),
        (3, {"a": {}}, {}, []),
        (3, {"b": {}}, {"a": "former"}, []),
        (None, {}, {"a": "former", "b": "id-b"}, ["a"]),
    ],
    ids=["made again", "the same", "not noted", "never read", "before a commit"],
)
def test_a_topic_that_was_read_and_has_another_id_was_made_again(
    admin, client, batch, offsets, noted, recreated
):
    admin.ids = {name: (f"id-{name}", [0]) for name in "ab"}
    found = topics_of(client, batch, offsets, subscribe="a,b")
    assert found.recreated(noted) == recreated


def test_topics_that_are_no_longer_read_and_those_that_are_gone_are_told(admin, client):
    admin.ids = {name: (f"id-{name}", [0]) for name in "abc"}
    offsets: dict[str, dict[int, int]] = {name: {} for name in "bcxya"}
    found = topics_of(client, 3, offsets, subscribe="a")
    assert list(found.losses()) == [
        "the query no longer reads topic b, c, of which it may not have read all",
        "Kafka at h:1 no longer has topic x, y",
    ]


def test_a_query_that_reads_all_its_topics_has_lost_none(admin, client):
    admin.ids = {"a": ("id-a", [0])}
    admin.offsets = {("a", 0): {"earliest": 0}}
    found = topics_of(client, 3, {"a": {0: 0}}, subscribe="a")
    admin.describeTopics = pytest.fail  # nothing more is asked
    assert list(found.losses()) == []


A_LOSS = (
    "Kafka at h:1 has deleted 1,001 records of topic a that were still to be read"
    " (partition 0: 1,000, partition 1: 1)"
)


def test_records_that_kafka_deleted_before_they_were_read_are_counted(admin, client):
    admin.ids = {"b": ("id-b", [0, 1]), "a": ("id-a", [0, 1, 2])}
    admin.offsets = {
        ("a", 0): {"earliest": 1010},
        ("a", 1): {"earliest": 11},
        ("a", 2): {"earliest": 10},
        ("b", 0): {"earliest": 9},
    }
    offsets = {"b": {0: 10, 5: 0}, "a": {2: 10, 1: 10, 0: 10}, "gone": {0: 1}}
    found = topics_of(client, 3, offsets, subscribe="a,b")
    assert found._lost_records() == {"a": {0: 1000, 1: 1}}
    assert list(found.losses())[1:] == [A_LOSS]


# --- where a query continues


def test_before_the_first_commit_nothing_was_read(tmp_path):
    plan(tmp_path, 0, '{"a":{"0":5}}')
    assert brokers._read_until(Logs(tmp_path), read()) == (None, {})


@pytest.mark.parametrize(
    ("places", "offsets"),
    [((0,), {"a": {0: 5}}), ((1,), {"b": {1: 6}}), ((7, 1), {"b": {1: 6}}), ((2,), {})],
    ids=["the first", "the second", "of two places", "not in the plan"],
)
def test_a_source_continues_where_the_last_commit_ended(tmp_path, places, offsets):
    plan(tmp_path, 0, '{"a":{"0":5}}', '{"b":{"1":6}}')
    plan(tmp_path, 1, '{"a":{"0":9}}', '{"b":{"1":9}}')
    commit(tmp_path, 0)
    assert brokers._read_until(Logs(tmp_path), read(places=places)) == (0, offsets)


def test_a_source_without_an_offset_has_read_nothing(tmp_path):
    plan(tmp_path, 0, "-")
    commit(tmp_path, 0)
    assert brokers._read_until(Logs(tmp_path), read()) == (0, {})


def test_offsets_are_by_topic_and_number():
    text = '{"sales":{"0":25,"1":7},"a":{}}'
    assert brokers.offsets_in(text) == {"sales": {0: 25, 1: 7}, "a": {}}


# --- the questions of a start


@pytest.fixture
def asks(monkeypatch, admin):
    """The brokers answer a session that can ask; the options with which it was asked."""
    opened: list[Any] = []

    @contextmanager
    def client(spark, options):
        assert spark == "session"
        opened.append(options)
        yield brokers.Client(jvm_of(admin), admin)

    monkeypatch.setattr(brokers, "client", client)
    monkeypatch.setattr(brokers, "can_ask", lambda spark: spark == "session")
    return opened


class Noted(Logs):
    """The logs of a checkpoint, with a note of the topics."""

    topics: Any = None

    @property
    def noted(self):
        return {} if self.topics is None else {"topics": self.topics}


def answers(folder, *inputs, topics=None) -> list[Any]:
    """Return what the start of a query is told."""
    logs = Noted(folder, "ckpt")  # type: ignore[arg-type]
    logs.topics = topics
    frame = SimpleNamespace(sparkSession="session")
    query: Any = SimpleNamespace(name="q", frame=frame, spark="session", inputs=inputs)
    return list(brokers.question(query, logs))


@pytest.mark.parametrize("topics", [None, {"0": {"a": "id-a"}}], ids=["no", "a note"])
def test_on_connect_a_remark_says_what_is_not_asked_and_the_note_is_kept(
    monkeypatch, tmp_path, topics
):
    monkeypatch.setattr(brokers, "can_ask", lambda spark: False)
    noted = NoteEntry("topics", topics or {})
    files = Input("files", "/in", {}, 0, (0,))
    assert answers(tmp_path, files, topics=topics) == [noted]
    assert answers(tmp_path, files, read(1), topics=topics) == [
        Remark(
            "query q: on Spark Connect Kafka cannot be asked whether a topic was"
            " deleted and made again while the query was stopped; Spark would skip its"
            " first records"
        ),
        noted,
    ]


def test_the_ids_of_all_topics_are_noted_with_the_former_ones(asks, admin, tmp_path):
    admin.ids = {name: (f"id-{name}", [0]) for name in "ab"}
    files = Input("files", "/in", {}, 0, (0,))
    found = answers(
        tmp_path,
        files,
        read(1, subscribe="a"),
        read(2, subscribe="b"),
        topics={"1": {"z": "id-z", "a": "id-a"}, "5": {"a": "x"}},
    )
    ids = {"1": {"z": "id-z", "a": "id-a"}, "2": {"b": "id-b"}}
    assert found == [NoteEntry("topics", ids)]
    assert asks == [SERVERS | {"subscribe": name} for name in "ab"]


def test_a_query_without_kafka_notes_no_topics(asks, tmp_path):
    files = Input("files", "/in", {}, 0, (0,))
    assert answers(tmp_path, files, topics={"0": {"a": "x"}}) == [
        NoteEntry("topics", {})
    ]
    assert asks == []


def test_a_topic_that_was_made_again_stops_the_start(asks, admin, tmp_path):
    admin.ids = {name: (f"id-{name}", [0]) for name in "ab"}
    said = refusal(
        answers, tmp_path, read(subscribe="a,b"), topics={"0": {"b": "x", "a": "y"}}
    )
    assert said == (
        "checkpoint ckpt: topic a at h:1 was deleted and made again after the query had"
        " read it, and Spark would skip its first records; start the query on a new"
        " checkpoint"
    )


LOST = (
    "Kafka at h:1 has deleted 2 records of topic a that were still to be read"
    " (partition 0: 2)"
)


def test_lost_records_stop_the_start_or_are_remarked(asks, admin, tmp_path):
    admin.ids = {"a": ("id-a", [0])}
    admin.offsets = {("a", 0): {"earliest": 7}}
    plan(tmp_path, 0, '{"a":{"0":5}}')
    commit(tmp_path, 0)
    assert refusal(answers, tmp_path, read(subscribe="a")) == (
        f"checkpoint ckpt: {LOST}; to go on without: sources.kafka(…,"
        " failOnDataLoss=False)"
    )
    lenient = read(subscribe="a", failondataloss="false")
    assert answers(tmp_path, lenient) == [
        Remark(f"query q: {LOST}; continuing without them"),
        NoteEntry("topics", {"0": {"a": "id-a"}}),
    ]


# --- the lag of a consumer group


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(brokers, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def listener_of(*inputs):
    query: Any = SimpleNamespace(name="q", spark="session", inputs=inputs)
    return brokers.progress_listener(query)


def batch(*offsets) -> Any:
    return SimpleNamespace(
        sources=[SimpleNamespace(endOffset=offset) for offset in offsets]
    )


GROUP = {"sparkstream.laggroup": "g"}


def test_the_offsets_of_a_batch_are_committed_to_the_sources_group(asks, admin, clock):
    commits = listener_of(read(0), read(1, **GROUP), read(2, **GROUP))
    commits(batch("{'a': {'0': 1}}", '{"a": {"0": 5}}', "{'b': {'1': 6}}"))
    assert admin.calls == [("g", {("a", 0): [5]}), ("g", {("b", 1): [6]})]
    assert asks == [SERVERS | GROUP] * 2


@pytest.mark.parametrize("offset", [None, ""])
def test_a_batch_without_an_offset_commits_none(asks, admin, clock, offset):
    listener_of(read(0, **GROUP))(batch(offset))
    assert admin.calls == []


def test_offsets_that_kafka_refuses_are_a_warning_and_tried_again_after_a_minute(
    asks, admin, clock, monkeypatch, caplog
):
    tries: list[Any] = []

    def refuses(spark, options):
        tries.append(spark)
        raise InvalidInputError("no")

    monkeypatch.setattr(brokers, "client", refuses)
    commits = listener_of(read(0, **GROUP), read(1, **GROUP))
    both = batch("{'a': {'0': 1}}", "{'a': {'0': 1}}")
    commits(both)
    assert len(tries) == 1, "nor for the next source"
    assert caplog.messages == ["query q: lag_group g shows no lag: no"]
    assert caplog.records[0].levelno == logging.WARNING
    clock.now = 1059.9
    commits(both)
    assert len(tries) == 1
    clock.now = 1060
    commits(both)
    assert len(tries) == 2
