"""`sources.kafka` and the arguments of `sinks.kafka`, step by step, without Spark and brokers."""

# ruff: noqa: SLF001 - the steps are the module's own
import json
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from sparkstream_kit import sinks, sources
from sparkstream_kit.connectors import _packages
from sparkstream_kit.connectors.kafka import brokers, sink, source
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.base import Target

SERVERS = {"kafka.bootstrap.servers": "h:1"}


# --- the options of the source


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("assign", "topics"),
        ("Subscribe", "topics"),
        ("subscribePattern", "pattern"),
        ("kafka.bootstrap.servers", "servers"),
        ("startingTimestamp", "starting"),
        ("sparkstream.lagGroup", "lag_group"),
        ("maxOffsetsPerTrigger", "max_offsets_per_trigger"),
    ],
)
def test_sparks_names_of_arguments_are_refused(name, argument):
    options = {"minPartitions": 1, name: "x"}
    assert refusal(source._refuse_sparks_names, options) == (
        f"sources.kafka(): {name} is called {argument} here; give {argument}=…"
    )
    source._refuse_sparks_names({"minPartitions": 1})


@pytest.mark.parametrize(
    ("options", "own", "found"),
    [
        ({}, {}, {"kafka.isolation.level": "read_committed"}),
        (
            {"kafka.isolation.level": "read_uncommitted", "minPartitions": 8},
            {},
            {"kafka.isolation.level": "read_uncommitted", "minPartitions": "8"},
        ),
        (
            {"IncludeHeaders": False, "a": 1},
            {"includeHeaders": "true", "a": "2"},
            {
                "kafka.isolation.level": "read_committed",
                "includeHeaders": "true",
                "a": "2",
            },
        ),
    ],
    ids=["none", "the user's", "the kit's first"],
)
def test_the_options_of_the_kit_come_before_the_users(options, own, found):
    assert source._with_user_options(options, own) == found


# --- where a query begins


@pytest.mark.parametrize("word", ["earliest", "latest"])
def test_a_query_begins_at_a_word(word):
    assert source._starting(word, []) == {"startingOffsets": word}


def test_a_query_begins_at_a_time():
    assert source._starting(datetime.fromtimestamp(5.5, UTC), []) == {
        "startingTimestamp": "5500",
        "startingOffsetsByTimestampStrategy": "latest",
    }


def test_a_query_begins_at_offsets():
    starting = {"a": {0: 25, 1: "earliest"}, "b": {0: "latest", 2: 0}}
    found = source._starting(starting, ["b", "a"])
    assert {name: json.loads(text) for name, text in found.items()} == {
        "startingOffsets": {"a": {"0": 25, "1": -2}, "b": {"0": -1, "2": 0}}
    }


WAYS = (
    "give 'earliest', 'latest', a datetime, or for topics by name their offsets:"
    " {'sales': {0: 25}}"
)


@pytest.mark.parametrize(
    ("starting", "names", "said"),
    [
        (
            {"a": {0: 1}},
            ["a", "b"],
            (
                "starting names the topics a, and the source reads a, b; give each of them"
                " its offsets"
            ),
        ),
        (
            {},
            ["a"],
            (
                "starting names the topics none, and the source reads a; give each of them"
                " its offsets"
            ),
        ),
        ("erliest", ["a"], "starting is the string 'erliest'; did you mean earliest?"),
        ("nowhere", ["a"], f"starting is the string 'nowhere'; {WAYS}"),
        (5, ["a"], f"starting is 5; {WAYS}"),
    ],
    ids=["a topic", "none", "a letter", "a word", "a number"],
)
def test_another_beginning_is_refused(starting, names, said):
    assert refusal(source._starting, starting, names) == f"sources.kafka(): {said}"


def test_offsets_need_topics_by_name():
    said = refusal(source._starting, {"a": {0: 1}}, [])
    assert said.endswith(f"; {WAYS}")


@pytest.mark.parametrize(
    ("parts", "described"),
    [({}, "empty"), (5, "5"), ([], "a list"), (None, "None")],
    ids=["empty", "a number", "a list", "nothing"],
)
def test_a_topic_has_offsets(parts, described):
    assert refusal(source._offsets, "a", parts).startswith(
        f"sources.kafka(): starting: a is {described}; give each partition an offset"
    )


@pytest.mark.parametrize(
    ("part", "value", "described"),
    [
        ("0", 5, "5"),
        (True, 5, "5"),
        (-1, 5, "5"),
        (0, True, "True"),
        (0, -3, "-3"),
        (0, "end", "the string 'end'"),
        (0, 1.5, "1.5"),
        (0, [1], "a list"),
    ],
)
def test_a_partition_has_a_number_and_an_offset(part, value, described):
    assert refusal(source._offsets, "a", {part: value}) == (
        f"sources.kafka(): starting: partition {part!r} of a is {described}; give the"
        " number of a partition and an offset, 'earliest' or 'latest'"
    )


def test_the_smallest_numbers_are_taken():
    parts = {0: -2, 1: -1, 2: 0, 3: "earliest", 4: "latest"}
    expected = {"0": -2, "1": -1, "2": 0, "3": -2, "4": -1}
    assert source._offsets("a", parts) == expected


# --- the brokers


class Client:
    """A client that knows the topics `sales` with two partitions, and `other`."""

    def __init__(self):
        self.asked: list[Any] = []

    def topics(self, names):
        known = {"sales": (0, 1), "other": (0,)}
        return {
            name: brokers.Topic("id", known[name]) for name in names if name in known
        }

    def names(self):
        self.asked.append("names")
        return ["sales", "other"]

    def matching(self, pattern):
        self.asked.append(pattern)
        return []

    def earliest(self, places):
        self.asked.append(("earliest", list(places)))
        return dict.fromkeys(places, 3)

    def latest(self, places):
        return dict.fromkeys(places, 9)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("sale", "; did you mean sales?"),
        ("nothing", "; create it first, or correct the name"),
    ],
)
def test_a_topic_that_does_not_exist_is_refused(name, fix):
    client: Any = Client()
    assert refusal(source.check_topics, client, "h:1", ["sales", name]) == (
        f"Kafka at h:1 has no topic {name}{fix}"
    )


def test_topics_that_exist_are_returned_without_a_further_question():
    client: Any = Client()
    found = source.check_topics(client, "h:1", ["sales"])
    assert found == {"sales": brokers.Topic("id", (0, 1))}
    assert client.asked == []


SALES = {"sales": brokers.Topic("id", (1, 0))}


@pytest.mark.parametrize(
    "parts",
    [{"0": 3, "1": 9}, {"1": -1, "0": -2}, {"0": -1, "1": 5}],
    ids=["the edges", "words", "both"],
)
def test_offsets_that_kafka_has_are_taken(parts):
    client: Any = Client()
    source._check_offsets(client, {"sales": parts}, SALES)
    exact = [("sales", int(part)) for part, offset in parts.items() if offset >= 0]
    assert client.asked == [("earliest", exact)]


def test_offset_zero_is_one():
    client: Any = Client()
    with pytest.raises(InvalidInputError, match="and not 0; give one of these"):
        source._check_offsets(client, {"sales": {"0": 0, "1": -1}}, SALES)


@pytest.mark.parametrize("offset", [2, 10])
def test_an_offset_that_kafka_does_not_have_is_refused(offset):
    client: Any = Client()
    requested = {"sales": {"0": -1, "1": offset}}
    assert refusal(source._check_offsets, client, requested, SALES) == (
        "sources.kafka(): starting: partition 1 of sales has the offsets 3 to 9, and"
        f" not {offset}; give one of these, 'earliest' or 'latest'"
    )


@pytest.mark.parametrize("numbers", [[0], [0, 1, 2], [10, 9]])
def test_each_partition_needs_an_offset(numbers):
    client: Any = Client()
    requested = {"sales": {str(number): -1 for number in numbers}}
    assert refusal(source._check_offsets, client, requested, SALES) == (
        f"sources.kafka(): starting has offsets for the partitions {sorted(numbers)} of"
        " sales, which has [0, 1]; give each of them one, such as 0: 'earliest'"
    )


@pytest.fixture
def client(monkeypatch):
    """The client of a session that can ask."""
    made = Client()

    @contextmanager
    def opened(spark, options):
        made.asked.append(("open", spark, options))
        yield made

    monkeypatch.setattr(brokers, "can_ask", lambda spark: spark != "connect")
    monkeypatch.setattr(brokers, "client", opened)
    monkeypatch.setattr(
        brokers, "try_to_read", lambda *given: made.asked.append(("read", *given))
    )
    return made


def checked(options, names, starting="earliest", spark="session"):
    source._check_broker(spark, SERVERS | options, names, starting)


def test_brokers_are_asked_for_topics_and_for_offsets(client):
    checked({}, ["sales"])
    assert client.asked == [("open", "session", SERVERS)]
    text = '{"sales": {"0": 5, "1": -1}}'
    checked({"startingOffsets": text}, ["sales"], {"sales": {}})
    assert client.asked[-1] == ("earliest", [("sales", 0)])
    with pytest.raises(InvalidInputError, match="has no topic gone"):
        checked({}, ["gone"])


def test_a_pattern_is_only_compiled(client):
    checked({"subscribePattern": "s.*"}, [], {"a": {}})
    assert client.asked[1:] == ["s.*"]


def test_on_connect_an_empty_read_stands_in(client):
    checked({}, ["gone"], spark="connect")
    assert client.asked == [("read", "connect", SERVERS)]
    with pytest.raises(InvalidInputError) as err:
        checked({brokers.GROUP: "g"}, ["sales"], spark="connect")
    assert str(err.value) == (
        "sources.kafka(): lag_group needs a session without Spark Connect; leave it out"
    )
    assert len(client.asked) == 1


# --- the frame


class Session:
    """A session that keeps the options of a stream."""

    def __init__(self, error=None):
        self.error = error
        self.asked: list[Any] = []
        self.readStream = self
        self.sparkSession = self

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
        return T.StructType([T.StructField("value", T.BinaryType())])


def test_a_stream_is_sparks_own_and_its_columns_are_asked_for():
    session: Any = Session()
    assert source._loaded(session, SERVERS) is session
    assert session.asked == ["kafka", SERVERS, "schema"]


@pytest.mark.parametrize(
    ("text", "missing", "said"),
    [
        ("\n  first line  \nsecond", None, "first line"),
        ("x", "Spark has no connector", "Spark has no connector"),
    ],
)
def test_options_that_spark_refuses_are_one_line(monkeypatch, text, missing, said):
    monkeypatch.setattr(source, "missing_source", lambda err: missing)
    error: PySparkException = AnalysisException(text)
    with pytest.raises(InvalidInputError) as err:
        source._loaded(Session(error), {})  # type: ignore[arg-type]
    assert str(err.value) == f"sources.kafka(): {said}"
    assert err.value.__suppress_context__


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
    """A function that calls `sources.kafka`; the options, what was checked, the columns."""
    seen: list[Any] = []
    frame = SimpleNamespace(select=lambda *columns: columns)

    def loaded(spark, options):
        seen.append(options)
        return frame

    monkeypatch.setattr(source, "_loaded", loaded)
    monkeypatch.setattr(
        source, "_check_broker", lambda spark, *given: seen.append(given)
    )
    monkeypatch.setattr(source, "F", SimpleNamespace(col=Column))

    def asked(*topics, **given):
        seen.clear()
        session = object.__new__(SparkSession)  # without a JVM, which nobody asks for
        columns: Any = sources.kafka(session, "h:1", *topics, **given)
        return [*seen, columns]

    return asked


REST = ("topic", "partition", "offset", "timestamp", "headers")
FIRST = {"kafka.isolation.level": "read_committed", **SERVERS, "includeHeaders": "true"}


@pytest.mark.parametrize(
    ("topics", "given", "options", "names"),
    [
        ("a", {}, {"subscribe": "a", "startingOffsets": "earliest"}, ["a"]),
        (
            ["a", "b"],
            {"starting": "latest", "max_offsets_per_trigger": 5, "lag_group": "g"},
            {
                "subscribe": "a,b",
                "startingOffsets": "latest",
                "maxOffsetsPerTrigger": "5",
                "sparkstream.lagGroup": "g",
            },
            ["a", "b"],
        ),
        (
            (),
            {"pattern": "s.*", "failOnDataLoss": False},
            {
                "subscribePattern": "s.*",
                "startingOffsets": "earliest",
                "failOnDataLoss": "False",
            },
            [],
        ),
    ],
    ids=["a topic", "two topics", "a pattern"],
)
def test_arguments_become_options(asks, topics, given, options, names):
    loaded, checks, _ = asks(topics, **given)
    assert loaded == FIRST | options
    assert checks == (loaded, names, given.get("starting", "earliest"))


def test_values_and_keys_are_texts_unless_they_are_to_be_bytes(asks):
    *_, columns = asks("a")
    assert columns == (
        "value as string called value",
        "key as string called key",
        *REST,
    )
    *_, columns = asks("a", binary=True)
    assert columns == ("value called value", "key called key", *REST)


@pytest.mark.parametrize(
    ("topics", "given", "said"),
    [
        ((), {}, "sources.kafka() takes topics or a pattern: "),
        ("a", {"pattern": "b"}, "sources.kafka() takes topics or a pattern: "),
        ("a", {"subscribe": "b"}, "sources.kafka(): subscribe is called topics here"),
        (
            "a",
            {"kafka.ssl.keystore.key": "hush"},
            "sources.kafka(): Spark would show kafka.ssl.keystore.key",
        ),
        ("a", {"startin": "x"}, "unknown keyword of sources.kafka() startin"),
        (
            "a",
            {"max_offsets_per_trigger": 0},
            "max_offsets_per_trigger must be 1 or more",
        ),
        ("a", {"lag_group": 5}, "sources.kafka(): lag_group is 5"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(asks, topics, given, said):
    assert refusal(asks, topics, **given).startswith(said)


# --- the arguments of the sink


def test_a_sink_without_transactions_says_what_it_promises():
    made: Any = sinks.kafka("h:1", "t", key="k")
    assert made.promise.startswith("at least once; exactly once with exactly_once=True")
    assert made.writes_to == (Target("topic", "t of h:1"),)
    assert made.needs_checkpoint is True
    target = made.open.__self__
    assert target == sink._TopicTarget("h:1", "t", "k", None, None, None, None, (), {})
    assert made.realtime.__self__ is target


OTHER_WAY = (
    "sinks.kafka(): row_id is for the headers, which exactly_once=True does not need;"
    " ledger and take_over are for exactly_once=True; leave out what belongs to the"
    " other way"
)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ledger": "l"}, OTHER_WAY),
        ({"take_over": True}, OTHER_WAY),
        ({"exactly_once": True, "row_id": ["a"]}, OTHER_WAY),
        (
            {"Topic": "x"},
            "sinks.kafka(): topic is set by the argument topic; leave it out",
        ),
        (
            {"Kafka.bootstrap.servers": "x"},
            (
                "sinks.kafka(): kafka.bootstrap.servers is set by the argument servers;"
                " leave it out"
            ),
        ),
        (
            {"kafka.ssl.keystore.key": "hush"},
            (
                "sinks.kafka(): Spark would show kafka.ssl.keystore.key in its plans; put"
                " the key into a file, and give kafka.ssl.keystore.location"
            ),
        ),
        (
            {"key": 5},
            (
                "sinks.kafka(): key is 5; give a string or a format, such as"
                " formats.avro(registry)"
            ),
        ),
    ],
    ids=["ledger", "take over", "row_id", "topic", "servers", "a secret", "a type"],
)
def test_arguments_of_the_sink_that_do_not_fit_are_refused(given, said):
    assert refusal(sinks.kafka, "h:1", "t", **given) == said


def test_a_sink_with_transactions_writes_exactly_once():
    pytest.importorskip("confluent_kafka")
    made: Any = sinks.kafka(
        "h:1",
        "t",
        exactly_once=True,
        ledger="l",
        take_over=True,
        **{"kafka.acks": "all"},
    )
    assert made.promise == "exactly once"
    [target] = made.open.args
    assert (target.servers, target.topic, target.ledger) == ("h:1", "t", "l")
    assert target.take_over is True
    assert target.options == {"kafka.acks": "all"}
    assert made.open.keywords == {"identity": target.identity}
    assert made.writes_to == (target.where,)


@pytest.mark.parametrize(
    ("topic", "ledger", "name"),
    [
        ("t", None, "t-sparkstream-ledger"),
        ("t", "", "t-sparkstream-ledger"),
        ("t", "l", "l"),
        ("t", "l" * 249, "l" * 249),
        ("t" * 230, None, f"{'t' * 230}-sparkstream-ledger"),
    ],
)
def test_a_topic_has_a_ledger(topic, ledger, name):
    assert sink._ledger_of(topic, ledger) == name


@pytest.mark.parametrize(
    ("topic", "ledger", "said"),
    [
        (
            "t",
            "t",
            (
                "sinks.kafka(): ledger is the topic t itself; give another topic, or leave"
                " it out"
            ),
        ),
        (
            "t",
            "l" * 250,
            (
                f"sinks.kafka(): the ledger {'l' * 250} has a name of 250 characters, and"
                " Kafka takes 249 at most; give ledger= a shorter one"
            ),
        ),
    ],
)
def test_a_ledger_that_kafka_does_not_take_is_refused(topic, ledger, said):
    assert refusal(sink._ledger_of, topic, ledger) == said


def target_of(**given):
    known = dict.fromkeys(("key", "value", "partition", "headers", "to"))
    return sink._TopicTarget(
        **{
            "servers": "h:1",
            "topic": "t",
            "row_id": (),
            "options": {},
            **known,
            **given,
        }
    )


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {**SERVERS, "topic": "t"}),
        ({"to": "c"}, SERVERS),
        ({"options": {"a": 1}}, {"a": 1, **SERVERS, "topic": "t"}),
    ],
    ids=["one topic", "topics of rows", "the user's"],
)
def test_sparks_writer_has_the_options_and_the_topic(given, options):
    assert target_of(**given).all_options == options


# --- the columns of the sink


@pytest.fixture
def frame(monkeypatch, client):
    """Rows of a session that can ask, and what is asked about it."""
    asked = client.asked
    monkeypatch.setattr(
        sink,
        "refuse_former_patterns",
        lambda *given: asked.append(("patterns", *given)),
    )
    monkeypatch.setattr(
        sink, "as_compared", lambda spark, names: [name.lower() for name in names]
    )
    monkeypatch.setattr(
        _packages, "check_session", lambda *given: asked.append(("jars", *given))
    )
    kinds = {
        "s": T.StringType(),
        "b": T.BinaryType(),
        "n": T.LongType(),
        "d": T.DateType(),
        "x": T.DoubleType(),
    }
    schema = T.StructType([T.StructField(*field) for field in kinds.items()])
    return SimpleNamespace(schema=schema, columns=schema.names, sparkSession="session")


PATTERNS = ("patterns", "sinks.kafka()", "session")
JARS = ("jars", "session", ("kafka",))


@pytest.mark.parametrize(
    ("given", "is_json"),
    [
        ({}, True),
        ({"value": "s"}, False),
        ({"value": "b", "row_id": ("n",)}, True),
        ({"value": "b", "key": "s"}, False),
        ({"value": "b", "key": "b"}, False),
        ({"value": "b", "key": "n"}, False),
        ({"value": "b", "key": "d"}, False),
    ],
)
def test_columns_that_a_record_can_have_are_taken(frame, client, given, is_json):
    target = target_of(topic="sales", options={"kafka.retries": 3}, **given)
    target.check(frame)
    options = {"kafka.retries": "3", **SERVERS, "topic": "sales"}
    assert client.asked == [
        *[PATTERNS] * is_json,
        JARS,
        ("open", "session", options),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"key": "k"}, "unknown column of sinks.kafka() k"),
        ({"row_id": ("k",)}, "unknown column of sinks.kafka() k"),
        ({"to": "k"}, "unknown column of sinks.kafka() k"),
        ({"partition": "k"}, "unknown column of sinks.kafka() k"),
        ({"headers": "k"}, "unknown column of sinks.kafka() k"),
        (
            {"value": "n"},
            (
                "sinks.kafka(): value n is bigint, not a string or binary; leave value out"
                " to write the whole row as JSON, or make it a text with F.to_json"
            ),
        ),
        (
            {"key": "x"},
            (
                "sinks.kafka(): key x is double, whose bytes are not plain; make it a text:"
                " frame.withColumn('key', …cast('string')) or F.to_json"
            ),
        ),
        ({"topic": "gone"}, "Kafka at h:1 has no topic gone"),
    ],
)
def test_columns_and_topics_that_do_not_fit_are_refused(frame, given, said):
    assert refusal(target_of(**{"topic": "sales", **given}).check, frame).startswith(
        said
    )


def test_two_columns_of_one_name_are_no_row_of_json(frame):
    frame.columns = ["s", "S"]
    said = refusal(target_of(topic="sales").check, frame)
    assert said.startswith("sinks.kafka(): column s")
    target_of(topic="sales", value="s").check(frame)


def test_on_connect_the_topic_is_not_asked_for(frame, client):
    frame.sparkSession = "connect"
    target_of(value="s").check(frame)
    assert client.asked == [("jars", "connect", ("kafka",))]
