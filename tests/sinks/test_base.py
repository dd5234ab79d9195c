"""The `Sink` type: what a call, a start and another sink ask of it."""

from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal

from sparkstream_kit import sinks
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks import base
from sparkstream_kit.sinks.base import (
    BatchSink,
    LedgerContext,
    Opening,
    Part,
    Sink,
    SparkSink,
    Target,
)

FRAME: Any = "the frame"  # of a call that hands it on
PLACE: Any = "the checkpoint"
HOW: dict[str, Any] = {"kind": "mine", "modes": ("append",), "promise": "none"}


class Recording:
    """A sink that notes with what it is opened, and what it gets."""

    def __init__(self, **more: Any) -> None:
        self.opened: list[tuple[Any, ...]] = []
        self.written: list[tuple[Any, ...]] = []
        self.sink = BatchSink(open=self.open, **(HOW | more))

    def open(self, *given: Any) -> Any:
        self.opened.append(given)
        return lambda *batch: self.written.append(batch)


def spark_sink(**more):
    how: dict[str, Any] = {"configure": lambda writer: writer, **HOW, **more}
    return SparkSink(**how)


@pytest.fixture
def stream(spark):
    """A stream that is not started."""
    return spark.readStream.format("rate").load()


@pytest.fixture
def recording():
    return Recording()


# ---- A sink


def test_a_target_is_named_by_its_kind_and_its_name():
    assert str(Target("table", "t", path="/t.db", known_as="T")) == "table t"


def test_a_sink_of_neither_kind_is_refused_and_says_what_to_make():
    assert (
        refusal(Sink, **HOW)
        == "sink mine writes nowhere; make a sinks.BatchSink(…, open=), or a"
        " sinks.SparkSink(…, configure=)"
    )


def test_a_kind_of_sink_that_configures_nothing_says_so(stream):
    class Unfinished(Sink):
        pass

    sink = Unfinished(**HOW)
    assert base.open_sink(sink, stream, None, Opening()) is None
    with pytest.raises(NotImplementedError):
        sink(stream.writeStream)


def test_a_sink_of_spark_configures_the_writer_that_it_is_called_with(stream):
    given = stream.writeStream
    configured = spark_sink(configure=lambda writer: (writer, "configured"))(given)
    assert configured == (given, "configured")
    assert (
        refusal(spark_sink(), stream)
        == "sinks.Sink(): writer is a DataFrame; give a DataStreamWriter"
    )


def test_a_sink_that_works_batch_by_batch_is_handed_to_a_writer(stream, recording):
    given = stream.writeStream
    assert recording.sink(given) is given
    assert recording.opened == []


# ---- A sink opens


def test_without_start_a_sink_opens_once_with_its_first_batch(recording):
    ended = []

    def open_it(frame, location, opening):
        opening.at_end.append(lambda: ended.append("its epoch"))
        return recording.open(frame, location)

    write = base._open_late(BatchSink(open=open_it, **HOW))  # noqa: SLF001
    assert recording.opened == []
    for number, batch in enumerate(("first", "second")):
        write(batch, number)  # type: ignore[arg-type]
    assert recording.opened == [("first", None)]
    assert recording.written == [("first", 0), ("second", 1)]
    assert ended == ["its epoch"]


def test_a_sink_that_shares_a_start_leaves_its_end_to_the_caller(recording):
    ended: list[str] = []
    opening = Opening(at_end=[lambda: ended.append("first")])
    opening.at_end.append(lambda: ended.append("second"))
    write = base.open_batch_sink(recording.sink, FRAME, PLACE, opening)
    assert recording.opened == [(FRAME, PLACE, opening)]
    write(FRAME, 7)
    assert recording.written == [(FRAME, 7)]
    assert ended == []
    opening.end()
    assert ended == ["first", "second"]


def test_a_sink_of_spark_writes_no_single_batch(stream):
    assert (
        refusal(base.open_batch_sink, spark_sink(), stream, None)
        == "sink mine writes no single batch; start a query of its own for it"
    )


def test_a_sink_of_spark_is_checked_when_it_opens(stream):
    checked = []
    sink = spark_sink(check=lambda *given: checked.append(given), on_connect=print)
    assert base.open_sink(sink, stream, PLACE, Opening()) is None
    assert checked == [(stream, PLACE)]


def test_a_sink_of_spark_that_prints_writes_each_batch_on_a_server(monkeypatch):
    monkeypatch.setattr(base, "on_server", lambda session: session == "its session")
    frame: Any = SimpleNamespace(sparkSession="its session")
    sink = spark_sink(on_connect=print)
    assert base.open_sink(sink, frame, None, Opening()) is print


def test_a_sink_in_the_place_of_another_is_opened_instead(recording):
    replaced = []

    def replacement(sink, schema):
        replaced.append((sink.kind, schema))
        return print

    frame: Any = SimpleNamespace(schema="its columns")
    opening = Opening(replacement=replacement)
    assert base.open_sink(recording.sink, frame, None, opening) is print
    assert base.open_sink(spark_sink(), frame, None, opening) is print
    assert replaced == [("mine", "its columns")] * 2
    assert recording.opened == []
    outer = Recording(kind="outer", parts=(recording.sink,))
    base.open_sink(outer.sink, frame, None, opening)
    assert len(outer.opened) == 1, "each of its own sinks is replaced"


# ---- A query of a sink begins


class Writer:
    """A writer that notes how a query is started."""

    def start(self):
        return "by start"

    def toTable(self, name):
        return f"on table {name}"


def test_a_query_is_started_on_the_table_of_its_sink_if_it_has_one(recording):
    writer: Any = Writer()
    begun: list[Any] = [
        base.begin_query(sink, writer)
        for sink in (spark_sink(to_table="t"), spark_sink(), recording.sink)
    ]
    assert begun == ["on table t", "by start", "by start"]


def test_spark_writes_the_frame_that_checks_its_values(stream, recording):
    sink = spark_sink(
        checked=lambda frame: frame.withColumn("checked", frame.value),
        configure=lambda writer: writer._df.columns,  # noqa: SLF001
    )
    written: Any = base.writer_of(sink, stream)
    assert written == ["timestamp", "value", "checked"]
    of_batches: Any = base.writer_of(recording.sink, stream)
    assert of_batches._df is stream, "a sink of batches checks them itself"  # noqa: SLF001


def test_only_a_sink_of_spark_notes_whose_its_folder_is(recording):
    look = base.claim(
        spark_sink(claim=lambda *given: lambda _: str(given)),
        "the session",  # type: ignore[arg-type]
        PLACE,
    )
    assert look is not None
    assert look(0) == "('the session', 'the checkpoint')"
    session: Any = "the session"
    assert base.claim(recording.sink, session, PLACE) is None
    assert base.claim(spark_sink(), session, PLACE) is None


# ---- Sinks inside others


def test_the_sinks_inside_are_all_that_hand_nothing_on():
    one, two, three = (Recording(kind=kind).sink for kind in ("one", "two", "three"))
    within = Recording(kind="within", parts=(two, three)).sink
    outer = Recording(kind="outer", parts=(one, within)).sink
    assert base.inner(outer) == [one, two, three]
    assert base.inner(one) == [one]


def test_a_sink_of_spark_gets_no_batch_of_another(recording):
    assert base.of_batches(recording.sink, "mine()") is recording.sink
    assert (
        refusal(base.of_batches, spark_sink(), "mine()")
        == "mine() takes sinks that work batch by batch (such as latest, sql_table,"
        " foreach_batch), not mine; start a query of its own for mine"
    )


# ---- A part of each batch


def test_a_sink_that_takes_a_part_opens_and_writes_with_it(stream, recording):
    sink = recording.sink.taking(lambda batch: batch.select("value"))
    opening = Opening()
    write = base.open_batch_sink(sink, stream, PLACE, opening)
    [(frame, place, shared)] = recording.opened
    assert (frame.columns, place, shared) == (["value"], PLACE, opening)
    write(stream, 7)
    [(batch, number)] = recording.written
    assert (batch.columns, number) == (["value"], 7)
    assert sink.parts == (recording.sink,)
    assert recording.sink.parts == ()


def test_a_part_of_the_kit_gets_the_checkpoint_and_the_number_of_its_batch(
    stream, recording
):
    got = []

    def open_part(location):
        def take(batch, number):
            got.append((location, number))
            return batch.select("value")

        return take

    sink = recording.sink.taking(Part(open_part))
    base.open_batch_sink(sink, stream, PLACE)(stream, 7)
    assert got == [(PLACE, None), (PLACE, 7)]
    assert recording.written[0][0].columns == ["value"]


@pytest.mark.parametrize(
    ("returned", "said"), [(None, "None"), ("a text", "the string 'a text'")]
)
def test_a_function_that_returns_no_frame_is_refused_at_the_start(
    stream, recording, returned, said
):
    sink = recording.sink.taking(lambda _: returned)
    assert (
        refusal(base.open_batch_sink, sink, stream, None)
        == f"sink mine, taking(): the function returned {said}; return the DataFrame to"
        " write"
    )
    assert recording.opened == []


def test_a_part_of_a_sink_of_spark_is_refused(recording):
    said = refusal(spark_sink().taking, print)
    assert said.startswith("taking() takes sinks that work batch by batch (such as")
    assert "taking(): part is 5" in refusal(recording.sink.taking, 5)


def test_in_real_time_a_function_changes_the_frame_and_a_part_of_the_kit_cannot():
    def realtime(frame: Any) -> Any:
        return f"writer of {frame}"

    def part(frame: Any) -> Any:
        return f"a part of {frame}"

    sink = Recording(realtime=realtime).sink
    taking = sink.taking(part)
    assert taking.realtime is not None
    written: Any = taking.realtime(FRAME)
    assert written == "writer of a part of the frame"
    assert taking.parts == (sink,)
    of_kit = sink.taking(Part(lambda _: lambda batch, _number: batch))
    assert (of_kit.realtime, of_kit.parts) == (None, (sink,))
    assert Recording().sink.taking(part).realtime is None


# ---- What a start hands to its sinks


@pytest.mark.parametrize(
    ("note", "begins", "former"),
    [
        ({}, {}, ()),
        ({"begins": {"table t": 3}}, {"table t": 3}, ()),
        ({"targets": ["table s", "table t"]}, {}, ("table s", "table t")),
        (
            {"targets": [], "sinks": ["foreach_batch gets the rows a second time"]},
            {},
            ("sinks.foreach_batch",),
        ),
        ({"targets": ["table t"], "sinks": ["sql_table writes"]}, {}, ("table t",)),
    ],
    ids=[
        "neither",
        "where a continuation begins",
        "the targets",
        "a sink without a target",
        "a sink with a target",
    ],
)
def test_what_the_note_of_a_checkpoint_says_to_ledgers(note, begins, former):
    context = LedgerContext(begins={"table a": 1}, former=("table a",))
    context.read_note(note)
    assert (context.begins, context.former) == (begins, former)


def test_a_start_allows_each_target_and_makes_what_is_missing_unless_told_otherwise(
    recording,
):
    opening = Opening()
    assert opening.makes
    opening.allows(recording.sink)
    assert opening.replacement is None


def test_what_fails_when_a_sink_opens_takes_no_epoch():
    ended: list[str] = []

    def open_it(_frame, _location, opening):
        opening.at_end.append(lambda: ended.append("its epoch"))
        raise InvalidInputError("refused")

    sink = BatchSink(open=open_it, **HOW)
    assert refusal(base.open_batch_sink, sink, FRAME, None) == "refused"
    assert ended == []


def test_the_sinks_of_the_kit_are_of_these_kinds():
    assert isinstance(sinks.console(), SparkSink)
    assert isinstance(sinks.foreach_batch(print), BatchSink)
