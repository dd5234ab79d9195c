"""The processors of `state` in Spark's own tester, without a query: order, timers and state."""

import math
import pickle
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import pytest
from conftest import BEFORE_4_2, refusal
from pyspark.sql import Row
from pyspark.sql import types as T

from sparkstream_kit.schemas import schema_of
from sparkstream_kit.state import Alert, Ewma, Jump, Often, Silent, ZScore, alerts
from sparkstream_kit.state.processor import (
    Handler,
    InOrder,
    _AsOf,
    columns,
    in_order,
    read,
    timer_at,
    to_keep,
)
from sparkstream_kit.state.rules import Last

in_tester = pytest.mark.skipif(
    BEFORE_4_2, reason="this Spark has no tester of processors"
)
AT = 1  # the place of the time in a row, of whole milliseconds in microseconds


def in_memory(processor, *, streaming=True):
    """Return Spark's tester of a processor, which then is what runs in a worker."""
    from pyspark.sql.streaming.tws_tester import TwsTester

    # As a worker gets it
    processor = pickle.loads(pickle.dumps(processor))  # noqa: S301 - our own
    if not streaming:
        return TwsTester(processor, timeMode="None")

    def event_time(row):  # in milliseconds; only a row with a time can be late
        return math.inf if row[AT] is None else row[AT] / 1000

    return TwsTester(processor, timeMode="EventTime", eventTimeExtractor=event_time)


def values(rows):
    return [tuple(row) for row in rows]


# --- rows in the order of their times


class Told(Handler):
    """Tells each row that it sees, and once that none has come for five milliseconds."""

    def __init__(self) -> None:
        self.states = {"last": schema_of(at=T.LongType())}

    def load(self, kept: Any) -> list[Any]:
        [last] = kept
        return [last[0] if last else None]

    def save(self, known: Any) -> list[tuple[Any, ...]]:
        return [(known[0],)]

    def see(self, known: Any, key: Any, row: Any) -> Any:
        known[0] = row[AT]
        yield key[0], row[AT], row[2]

    def pass_by(self, row: Any) -> Any:
        yield row[0], row[AT], f"{row[2]} passed by"

    def due(self, known: Any) -> int | None:
        return None if known[0] is None else known[0] + 5000

    def expire(self, known: Any, key: Any) -> Any:
        yield key[0], known[0] + 5000, "silent"
        known[0] = None


def told(*, streaming=True):
    processor = InOrder(Told(), AT, ["key", "time", "text"], streaming=streaming)
    return in_memory(processor, streaming=streaming)


def row(key, time, text="x"):
    return Row(key=key, time=time, text=text)


def timers(tester, key):
    tester.handle.setGroupingKey(key)
    return list(tester.handle.listTimers())


@in_tester
def test_a_row_waits_until_the_watermark_has_passed_it():
    tester = told()
    assert tester.test("k", [row("k", 3000, "b"), row("k", 1000, "a")]) == []
    assert timers(tester, "k") == [1]
    assert values(tester.setWatermark(1)) == [("k", 1000, "a")]
    assert timers(tester, "k") == [3]
    assert tester.setWatermark(2) == []
    # Rows of a later batch come in their places
    assert tester.test("k", [row("k", 2500, "between")]) == []
    assert timers(tester, "k") == [3]
    assert values(tester.setWatermark(4)) == [
        ("k", 2500, "between"),
        ("k", 3000, "b"),
    ]
    assert tester.peekListState("waiting", "k") == []
    assert tester.peekValueState("last", "k") == (3000,)
    assert timers(tester, "k") == [8]
    assert tester.setWatermark(7) == []
    assert values(tester.setWatermark(8)) == [("k", 8000, "silent")]
    assert timers(tester, "k") == []
    assert tester.peekValueState("last", "k") == (None,)


@in_tester
def test_a_time_between_two_milliseconds_waits_for_the_second():
    tester = told()
    tester.test("k", [row("k", 1001)])
    assert timers(tester, "k") == [2]
    assert tester.setWatermark(1) == []
    assert values(tester.setWatermark(2)) == [("k", 1001, "x")]


@in_tester
def test_what_falls_due_comes_before_a_later_row():
    tester = told()
    texts = [row("k", time) for time in (12_001, 1000, 7000, 6000)]
    tester.test("k", texts)
    # A row just at that time ends the silence
    assert values(tester.setWatermark(13)) == [
        ("k", 1000, "x"),
        ("k", 6000, "x"),
        ("k", 7000, "x"),
        ("k", 12_000, "silent"),
        ("k", 12_001, "x"),
    ]
    assert timers(tester, "k") == [18]


@in_tester
def test_what_is_due_waits_for_the_rows_before_it():
    tester = told()
    tester.test("k", [row("k", 1000), row("k", 5500, "later")])
    assert values(tester.setWatermark(1)) == [("k", 1000, "x")]
    assert timers(tester, "k") == [6]
    tester.test("k", [row("k", 4000, "earlier")])
    assert timers(tester, "k") == [4]
    assert values(tester.setWatermark(20)) == [
        ("k", 4000, "earlier"),
        ("k", 5500, "later"),
        ("k", 10_500, "silent"),
    ]


@in_tester
def test_a_key_has_one_timer_for_the_first_of_its_times():
    tester = told()
    for time, expected in ((5000, 5), (9000, 5), (3000, 3), (4000, 3)):
        tester.test("k", [row("k", time)])
        assert timers(tester, "k") == [expected]
    tester.test("other", [row("other", 7000)])
    assert timers(tester, "other") == [7]
    assert timers(tester, "k") == [3]


@in_tester
def test_rows_still_wait_when_a_silence_is_told_before_them():
    tester = told()
    tester.test("k", [row("k", 1000), row("k", 9000, "later")])
    tester.setWatermark(1)
    assert values(tester.setWatermark(6)) == [("k", 6000, "silent")]
    assert values(tester.setWatermark(9)) == [("k", 9000, "later")]


@in_tester
def test_a_row_without_a_key_or_a_time_is_passed_by_at_once():
    tester = told()
    given = [row("k", None, "no time"), row("k", 1000, "a")]
    assert values(tester.test("k", given)) == [("k", None, "no time passed by")]
    nobody = values(tester.test(None, [row(None, 2000, "no key")]))
    assert nobody == [(None, 2000, "no key passed by")]
    assert timers(tester, None) == []
    assert values(tester.setWatermark(2)) == [("k", 1000, "a")]


@in_tester
def test_a_batch_query_has_all_rows_at_once_and_then_all_that_is_due():
    tester = told(streaming=False)
    given = [row("k", 9000, "b"), row("k", None, "no time"), row("k", 1000, "a")]
    assert values(tester.test("k", given)) == [
        ("k", None, "no time passed by"),
        ("k", 1000, "a"),
        ("k", 6000, "silent"),
        ("k", 9000, "b"),
        ("k", 14_000, "silent"),
    ]


def test_a_watermark_of_0_has_passed_nothing():
    def has_passed(due, now, streaming=True):
        processor = InOrder(Told(), AT, ["key"], streaming=streaming)
        return processor._has_passed(due, now)  # noqa: SLF001

    assert [has_passed(due, 0) for due in (-1, 0, 1)] == [False, False, False]
    assert [has_passed(due, 5) for due in (4, 5, 6)] == [True, True, False]
    assert has_passed(5, None, streaming=False) is True


def test_rows_are_sorted_by_their_times_and_then_by_their_text():
    rows = [("b", 2), ("a", 2), ("c", 1), ("z", None), ("y", None), ("d", 0), ("e", -1)]
    assert in_order(rows, 1) == [
        ("y", None), ("z", None), ("e", -1), ("d", 0), ("c", 1), ("a", 2), ("b", 2),
    ]  # fmt: skip
    assert [timer_at(micros) for micros in (-1001, -1000, -999, 0, 1, 1000)] == [
        -1, -1, 0, 0, 1, 1,
    ]  # fmt: skip


# --- `as_of`

RIGHT, LEFT = 0, 1


def side(which, key, time, *more):
    """Return a row of `as_of`: the side, three left columns and two right ones."""
    left = (key, time, more[0]) if which == LEFT else (key, time, None)
    right = (time, more[0]) if which == RIGHT else (None, None)
    return Row("side", "c0", "c1", "c2", "r0", "r1")(which, *left, *right)


def as_of(*, streaming=True):
    names = ["c0", "c1", "c2", "n0", "n1"]
    processor = InOrder(_AsOf(4), 2, names, streaming=streaming)
    return in_memory(processor, streaming=streaming)


@in_tester
def test_a_left_row_gets_the_last_right_row_at_or_before_its_time():
    given = [
        side(LEFT, "k", 2000, "before"),
        side(RIGHT, "k", 3000, 1.5),
        side(LEFT, "k", 3000, "at"),
        side(RIGHT, "k", 5000, 2.5),
        side(LEFT, "k", 4000, "between"),
        side(LEFT, "k", 9000, "after"),
    ]
    found = values(as_of(streaming=False).test("k", given))
    assert found == [
        ("k", 2000, "before", None, None),
        ("k", 3000, "at", 3000, 1.5),
        ("k", 4000, "between", 3000, 1.5),
        ("k", 9000, "after", 5000, 2.5),
    ]


@in_tester
def test_rows_without_a_time_come_back_only_from_the_left():
    given = [side(LEFT, "k", None, "left"), side(RIGHT, "k", None, 1.5)]
    found = values(as_of(streaming=False).test("k", given))
    assert found == [("k", None, "left", None, None)]


@in_tester
def test_the_last_right_row_stays_in_the_state_and_nothing_without_one():
    tester = as_of(streaming=False)
    tester.test("none", [side(LEFT, "none", 1000, "x")])
    assert tester.peekValueState("last", "none") is None
    tester.test("k", [side(RIGHT, "k", 1000, 1.5)])
    [kept] = cast("tuple[bytes]", tester.peekValueState("last", "k"))
    assert pickle.loads(kept) == (1000, 1.5)  # noqa: S301 - our own
    found = values(tester.test("k", [side(LEFT, "k", 2000, "x")]))
    assert found == [("k", 2000, "x", 1000, 1.5)]


# --- `alert_when`


def alerting(*rules, streaming=True):
    names = ["key", "time", "value", "rule", "score", "reason"]
    processor = InOrder(alerts._Rules(rules, AT), AT, names, streaming=streaming)  # noqa: SLF001
    return in_memory(processor, streaming=streaming)


def reading(key, time, value):
    return Row(key=key, time=time, value=value)


@in_tester
def test_each_rule_has_a_state_of_its_own_and_alerts_come_in_time_order():
    tester = alerting(Jump(by=10), Silent("4 milliseconds"), Jump(by=1))
    given = [
        reading("k", 1000, 20.0),
        reading("k", 2000, None),
        reading("k", 3000, math.nan),
        reading("k", 8000, 22.0),
    ]
    tester.test("k", given)
    small = "22 is 2 above 20, the value before (limit 1)"
    silent = "no row since 1970-01-01 00:00:00 UTC, for more than 4 milliseconds"
    # Rows without a value that the rule can use end a silence, and change no state
    assert values(tester.setWatermark(9)) == [
        ("k", 7000, None, "Silent", 0.004, silent),
        ("k", 8000, 22.0, "Jump", 2.0, small),
    ]
    assert tester.peekValueState("Jump", "k") == (0.008, 22.0, False)
    assert tester.peekValueState("Jump2", "k") == (0.008, 22.0, False)
    assert tester.peekValueState("Silent", "k") == (0.008, None, False)
    assert timers(tester, "k") == [12]
    assert values(tester.setWatermark(12)) == [
        ("k", 12_000, None, "Silent", 0.004, silent),
    ]
    nobody = [reading("k", None, 99.0), reading("k", 20_000, 40.0)]
    assert tester.test("k", nobody) == []
    both = [("Jump", 18.0), ("Jump", 18.0)]
    assert [(found[3], found[4]) for found in tester.setWatermark(20)] == both


@in_tester
def test_of_several_silences_the_first_comes_first():
    tester = alerting(
        Silent("6 milliseconds"), Silent("2 milliseconds"), streaming=False
    )
    found = tester.test("k", [reading("k", 1000, 1.0)])
    assert [(each[1], each[4]) for each in found] == [(3000, 0.002), (7000, 0.006)]


@in_tester
def test_a_rule_checks_its_field_of_a_struct():
    tester = alerting(
        Jump(by=1, of="b"), Often(1, within="1 second", of="a"), streaming=False
    )
    given = [
        reading("k", 1000, {"a": None, "b": 1}),
        reading("k", 2000, {"a": 1, "b": None}),
        reading("k", 3000, None),
        reading("k", 4000, {"a": 1, "b": 5}),
    ]
    assert [(each[1], each[3], each[4]) for each in tester.test("k", given)] == [
        (4000, "Jump", 4.0),
        (4000, "Often", 2.0),
    ]


def test_a_handler_reads_what_it_has_saved():
    handler = alerts._Rules([Jump(by=10), Silent("1 hour")], AT)  # noqa: SLF001
    assert list(handler.states) == ["Jump", "Silent"]
    known = handler.load([None, None])
    assert known == [Last(), Last()]
    assert handler.due(known) is None
    known = handler.load([(5.0, 7.0, None), (3.0, None, True)])
    assert known == [Last(5.0, 7.0), Last(3.0, None, told=True)]
    assert handler.save(known) == [(5.0, 7.0, False), (3.0, None, True)]
    assert handler.due(known) is None
    known[1] = Last(3.0)
    assert handler.due(known) == 3_603_000_000


def test_what_is_no_rule_is_refused():
    def rule(**parts: Any) -> Any:
        return type("Own", (), parts)()

    def step(*_: Any) -> None: ...

    own = rule(step=step, state=Last)
    waiting = rule(step=step, state=Last, due=step, expire=step)
    for good in (own, waiting, Jump(by=1)):
        assert alerts._rules("call()", good) == [good]  # noqa: SLF001
        assert alerts._rules("call()", (good, own)) == [good, own]  # noqa: SLF001
    others = [
        Jump,
        rule(state=Last),
        rule(step=1, state=Last),
        rule(step=step),
        rule(step=step, state=Last, due=step),
        rule(step=step, state=Last, expire=step),
        None,
    ]
    for other in others:
        said = refusal(alerts._rules, "call()", [own, other])  # noqa: SLF001
        assert said.startswith("call(): rule is ")
        assert said.endswith("with `state` and `step`, and `expire` if it has `due`")
    assert "needs at least one rule" in refusal(alerts._rules, "call()", [])  # noqa: SLF001


def test_a_rule_that_computes_needs_a_number():
    inner = T.StructType().add("n", "decimal(5,2)").add("s", "string")
    number = T.StructField("v", T.LongType())
    text = T.StructField("v", T.StringType())
    struct = T.StructField("v", inner)

    def check(column: Any, rule: Any) -> None:
        alerts._check_value("call()", column, rule)  # noqa: SLF001

    for rule in (Ewma(), ZScore(), Jump(by=1)):
        check(number, rule)
        said = "call(): column v is string, not a number; cast it first"
        assert refusal(check, text, rule) == said
        assert "column v is struct<" in refusal(check, struct, rule)
    for other in (Often(1, "1 hour"), Silent("1 hour")):
        check(text, other)
        check(struct, other)
    check(struct, Jump(by=1, of="n"))
    check(struct, Often(1, "1 hour", of="s"))
    assert "column s is string, not a number" in refusal(
        check, struct, Jump(by=1, of="s")
    )
    said = "call(): of='n' is for a struct, and column v is none"
    assert refusal(check, number, Jump(by=1, of="n")) == said
    said = refusal(check, struct, Jump(by=1, of="m"))
    assert said == "unknown field of v m; known: n, s"


# --- `once`


def packed_entries(*entries):
    return alerts._packed(list(entries))  # noqa: SLF001


def once(span, *, streaming=True):
    processor = alerts._Once(AT, span, timers=streaming)  # noqa: SLF001
    tester = in_memory(processor, streaming=streaming)
    # A late row passes here
    tester._eventTimeExtractor = None  # noqa: SLF001
    return tester


def event(text, time, first=1, second=1):
    return Row("text", "time", "h0", "h1", "group")(text, time, first, second, 7)


def texts(rows):
    return [each[0] for each in rows]


@in_tester
@pytest.mark.parametrize("streaming", [True, False])
def test_a_row_is_a_duplicate_of_one_at_most_so_far_away(streaming):
    tester = once(5000, streaming=streaming)
    given = [
        event("5 later", 15_000),
        event("first", 10_000),
        event("the same", 10_000),
        event("6 later", 15_001),
        event("other first hash", 10_000, first=2),
        event("other second hash", 10_000, second=2),
        event("no time", None),
    ]
    kept = ["no time", "first", "other first hash", "other second hash", "6 later"]
    assert texts(tester.test(7, given)) == kept
    # Of the batch before, and before it in time
    more = [event("again", 10_000), event("5 before", 5000), event("6 before", 4999)]
    assert texts(tester.test(7, more)) == ["6 before"]
    assert texts(tester.test(7, [event("no time", None)])) == ["no time"]
    assert len(tester.peekListState("kept", 7)) == 2


@in_tester
def test_a_row_without_an_id_always_passes():
    tester = once(5000)
    given = [event("b", 2000, first=None), event("a", 1000, first=None)]
    assert texts(tester.test(None, given)) == ["b", "a"]
    assert tester.peekListState("kept", None) == []


@in_tester
def test_an_id_is_forgotten_when_the_watermark_is_so_far_past_it():
    tester = once(5000)
    tester.test(7, [event("a", 10_000), event("b", 12_000, first=2)])
    assert timers(tester, 7) == [15]
    tester.setWatermark(14)
    assert texts(tester.test(7, [event("again", 10_000)])) == []
    tester.setWatermark(15)
    # Those that are left are looked at when they have passed, too
    assert tester.peekListState("kept", 7) == [packed_entries((2, 1, 12_000))]
    assert timers(tester, 7) == [20]
    # It passes, and is not kept: its time has passed
    for _ in range(2):
        assert texts(tester.test(7, [event("late", 10_000)])) == ["late"]
    assert tester.peekListState("kept", 7) == [packed_entries((2, 1, 12_000))]
    assert texts(tester.test(7, [event("b again", 12_000, first=2)])) == []
    tester.setWatermark(20)
    assert tester.peekListState("kept", 7) == []
    assert timers(tester, 7) == []


@in_tester
def test_the_parts_of_a_state_are_written_anew_when_they_are_many():
    tester = once(5000)
    parts = []
    for number in range(19):
        tester.test(7, [event(str(number), 20_000, first=number)])
        parts.append(len(tester.peekListState("kept", 7)))
    assert parts == [*range(1, 17), 1, 2, 3]
    again = [event("again", 20_000, first=number) for number in range(19)]
    assert tester.test(7, again) == []
    assert timers(tester, 7) == [25]


def test_the_entries_that_are_newer_than_a_time_are_found_by_their_hashes():
    parts = [packed_entries((1, 9, 100), (2, 8, 200)), packed_entries((1, 9, 300))]

    def found(forgotten, wanted):
        return dict(alerts._times_by_id(parts, forgotten, wanted))  # noqa: SLF001

    assert found(-math.inf, {1, 2}) == {(1, 9): [100, 300], (2, 8): [200]}
    assert found(100, {1}) == {(1, 9): [300]}
    assert found(99, {1}) == {(1, 9): [100, 300]}
    assert found(300, {1, 2}) == {}
    assert packed_entries() == (b"",)


# --- states


@dataclass(frozen=True)
class Known:
    """A state with each type that one can hold."""

    text: str = "none"
    count: int = 1
    share: float = 0.5
    flag: bool = True
    maybe: float | None = None
    times: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=lambda: ["a"])


KNOWN = T.StructType(
    [
        T.StructField("text", T.StringType()),
        T.StructField("count", T.LongType()),
        T.StructField("share", T.DoubleType()),
        T.StructField("flag", T.BooleanType()),
        T.StructField("maybe", T.DoubleType()),
        T.StructField("times", T.ArrayType(T.DoubleType(), containsNull=False)),
        T.StructField("names", T.ArrayType(T.StringType(), containsNull=False)),
    ]
)


def test_a_state_is_stored_by_its_fields_and_a_null_is_the_default():
    assert columns("state", Known) == KNOWN
    names = KNOWN.names
    assert read(Known, names, None) == Known()
    assert read(Known, names, (None,) * 7) == Known()
    # Of an older version, which had fewer fields
    assert read(Known, names, ("x", 2)) == Known("x", 2)
    whole: Any = ("x", 2, 1.5, False, 3.0, [1.0], [])
    assert read(Known, names, whole) == Known(*whole)


def test_a_value_is_stored_as_exactly_of_its_type():
    given: Any = (5, True, 2, 1, None, [1, 2.5, None], ())
    kept = to_keep(Known(*given), KNOWN)
    assert kept == ("5", 1, 2.0, True, None, [1.0, 2.5, None], [])
    assert [type(each) for each in kept] == [
        str, int, float, bool, type(None), list, list,
    ]  # fmt: skip
    assert [type(each) for each in kept[5]] == [float, float, type(None)]


@dataclass
class WithoutDefault:
    count: int


@dataclass
class WithAnotherDefault:
    count: int | None = 5


@dataclass
class WithADict:
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class WithListsInside:
    counts: list[list[int]] = field(default_factory=list)


class NoDataclass:
    count: ClassVar[int] = 5


@pytest.mark.parametrize(
    "cls", [WithoutDefault, WithAnotherDefault, WithADict, WithListsInside]
)
def test_a_state_that_cannot_be_kept_is_refused(cls):
    said = refusal(columns, "Own.state", cls)
    assert f" of {cls.__name__} cannot be kept; give it a default" in said


@pytest.mark.parametrize("what", [NoDataclass, Known(), None])
def test_a_state_is_a_dataclass_itself(what):
    said = refusal(columns, "Own.state", what)
    assert said.startswith("Own.state is ")
    assert said.endswith("; give a dataclass (the class itself)")


def test_an_alert_is_a_row_with_its_key_and_its_rule():
    handler = alerts._Rules([Jump(by=1)], AT)  # noqa: SLF001
    alert = Alert(cast("Any", 3), cast("Any", 5))
    found = handler._alert_row(Jump(by=1), ("a", "b"), 7, 1.5, alert)  # noqa: SLF001
    assert found == ("a", "b", 7, 1.5, "Jump", 3.0, "5")
    assert type(found[5]) is float
