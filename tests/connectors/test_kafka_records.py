"""The records of `sinks.kafka`: their columns, their ids and their headers, by Spark itself."""

# ruff: noqa: SLF001 - the steps are the sink's own
import hashlib
import json
from typing import Any

import pytest

from sparkstream_kit.connectors.kafka import sink
from sparkstream_kit.sinks.base import Opening

ROWS = [("a", 1, "x"), ("a", 1, "x"), (None, 2, "y")]


@pytest.fixture(scope="module")
def frame(spark):
    """Three rows, of which two are equal."""
    return spark.createDataFrame(ROWS, "k STRING, n INT, v STRING").coalesce(1)


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


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - no secret


def test_a_record_has_the_columns_that_the_user_has_named(frame):
    made = target_of().records(frame)
    assert made.dtypes == [("value", "binary"), ("key", "binary")]
    [first, *_] = made.collect()
    assert json.loads(first.value) == {"k": "a", "n": 1, "v": "x"}
    assert first.key is None
    all_of_them = target_of(key="n", value="v", partition="n", to="k")
    more = all_of_them.records(frame, extra=frame.n)
    assert more.dtypes == [
        ("value", "binary"),
        ("key", "binary"),
        ("extra", "int"),
        ("partition", "int"),
        ("topic", "string"),
    ]
    assert [tuple(row) for row in more.collect()] == [
        (b"x", b"1", 1, 1, "a"),
        (b"x", b"1", 1, 1, "a"),
        (b"y", b"2", 2, 2, "t"),
    ]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ({"key": "k", "value": "v"}, ["1 1 ax", "1 1 ax", "-1 1 y"]),
        ({"value": "v"}, ["-1 1 x", "-1 1 x", "-1 1 y"]),
        (
            {"value": "v", "row_id": ("n", "k")},
            ['{"n":1,"k":"a"}', '{"n":1,"k":"a"}', '{"n":2,"k":null}'],
        ),
    ],
    ids=["key and value", "value", "columns"],
)
def test_the_id_of_a_row_is_a_hash_of_what_identifies_it(frame, given, texts):
    found = frame.select(target_of(**given).id_column.alias("id")).collect()
    assert [row.id for row in found] == [md5(text) for text in texts]


class Written:
    """A writer that keeps the rows, and how they were to be written."""

    def __init__(self):
        self.frame: Any = None
        self.asked: list[Any] = []

    def format(self, name):
        self.asked.append(name)
        return self

    def options(self, **options):
        self.asked.append(options)
        return self

    def save(self):
        self.asked.append("save")


@pytest.fixture
def written(frame, monkeypatch):
    """What a batch has written."""
    kept = Written()

    def write(batch):
        kept.frame = batch
        return kept

    monkeypatch.setattr(type(frame), "write", property(write))
    monkeypatch.setattr(
        sink, "id_of_batch", lambda batch, location: f"query at {location}"
    )
    return kept


def ids_of(written):
    """Return the id of each record, by its headers, which are checked."""
    found = []
    for row in written.frame.collect():
        *_, query, batch, one = row.headers[:3]
        assert (query.key, query.value) == ("sparkstream.query", b"query at ckpt")
        assert (batch.key, batch.value) == ("sparkstream.batch", b"7")
        assert one.key == "sparkstream.row"
        found.append(one.value.decode())
    return found


@pytest.mark.parametrize("key", ["k", None], ids=["a key", "no key"])
def test_equal_rows_of_a_batch_are_numbered(frame, written, key):
    sink._write(target_of(key=key, value="v"), "ckpt", frame, 7)  # type: ignore[arg-type]
    first, last = (md5("1 1 ax"), md5("-1 1 y"))
    if key is None:
        first = md5("-1 1 x")
    assert sorted(ids_of(written)) == sorted([f"{first}-1", f"{first}-2", f"{last}-1"])
    assert written.frame.columns == ["value", "key", "headers"]
    options = {"kafka.bootstrap.servers": "h:1", "topic": "t"}
    assert written.asked == ["kafka", options, "save"]


def test_rows_with_ids_of_their_own_are_not_numbered_and_keep_their_headers(
    spark, written
):
    rows = [("x", [("h", b"1")]), ("y", None)]
    frame = spark.createDataFrame(
        rows, "v STRING, h ARRAY<STRUCT<key: STRING, value: BINARY>>"
    ).coalesce(1)
    target = target_of(value="v", row_id=("v",), headers="h")
    sink._write(target, "ckpt", frame, 7)  # type: ignore[arg-type]
    assert ids_of(written) == [md5('{"v":"x"}'), md5('{"v":"y"}')]
    own = [[tuple(one) for one in row.headers[3:]] for row in written.frame.collect()]
    assert own == [[("h", b"1")], []]


def test_rows_with_the_same_key_keep_their_order(spark):
    rows = [("a", f"{number}") for number in (3, 1, 2)]
    frame = spark.createDataFrame(rows, "key STRING, _id STRING").coalesce(1)
    found = sink._with_distinct_ids(frame, "key").collect()
    assert [row._id for row in found] == ["3-1", "1-1", "2-1"]


def test_the_real_time_trigger_has_sparks_writer_with_all_options(frame, monkeypatch):
    checked: list[Any] = []
    writer = Written()
    monkeypatch.setattr(type(frame), "writeStream", property(lambda rows: writer))
    monkeypatch.setattr(
        sink._TopicTarget, "check", lambda *given: checked.append(given)
    )
    target = target_of(value="v")
    assert target.stream(frame) is writer
    assert writer.asked == ["kafka", target.all_options]
    assert checked == [(target, frame)]


def test_a_batch_writer_is_opened_once_the_columns_were_checked(frame, monkeypatch):
    checked: list[Any] = []
    monkeypatch.setattr(
        sink._TopicTarget, "check", lambda *given: checked.append(given)
    )
    target = target_of(value="v")
    write: Any = target.open(frame, "ckpt", Opening())
    assert (write.func, write.args) == (sink._write, (target, "ckpt"))
    assert checked == [(target, frame)]
