"""`state.alert_when` and its rules, and `as_of`: in the order of event time."""

import importlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass, replace
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from conftest import process, refusal
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from state.test_state import at, rows

from sparkstream_kit import state
from sparkstream_kit.state import Alert, alerts
from sparkstream_kit.state.rules import is_usable
from sparkstream_kit.testing import assert_stream_equals_batch

RULES: list[Any] = [
    state.ZScore(sigmas=3, warmup=3),
    state.Jump(by=10),
    state.Silent("20 seconds"),
]
# Key a: a jump and back; key b: silent from 5 to 50.
READINGS = [
    *[("a", second, 20.0 + second % 3) for second in range(0, 60, 4)],
    ("a", 30, 90.0), ("b", 1, 1.0), ("b", 5, 2.0), ("b", 50, 3.0),
]  # fmt: skip
ALERTS = {
    ("a", 30, 90.0, "Jump"), ("a", 32, 22.0, "Jump"),
    ("a", 30, 90.0, "ZScore"), ("b", 25, None, "Silent"),
}  # fmt: skip


def told(found):
    return {
        (row[0], (row[1] - at(0)).total_seconds(), row[2], row.rule) for row in found
    }


def test_a_value_as_old_as_the_duration_does_not_count():
    rule = state.Often(most=1, within="100 milliseconds")
    known, _ = rule.step(rule.state(), 1767225600.0, 1.0)
    assert rule.step(known, 1767225600.1, 1.0)[1] is None


@pytest.mark.slow
@pytest.mark.connect
def test_alerts_come_in_event_time_over_kills_and_restarts(stream):
    source = stream("`the key` STRING, `a.time` TIMESTAMP, `v``l` DOUBLE")
    frame = source.to_df().withWatermark("`a.time`", "40 seconds")
    query = stream.query(state.alert_when(frame, "the key", "a.time", "v`l", RULES))
    assert query.frame.columns == [
        "the key",
        "a.time",
        "v`l",
        "rule",
        "score",
        "reason",
    ]
    # Within the delay
    shuffled = sorted(READINGS, key=lambda reading: (reading[1] // 20, -reading[1]))
    found = []
    for start in range(0, len(shuffled), 10):
        source.add_data(
            [
                (key, at(second), value)
                for key, second, value in shuffled[start : start + 10]
            ]
        )
        found += rows(query.step())
        if start == 0:
            query.restart()
    nobody = [
        (None, at(60), 1.0),
        ("a", None, 1e9),
        ("a", at(60), None),
        ("a", at(61), math.nan),
    ]
    source.add_data([*nobody, ("c", at(400), 1.0)])
    last = query.step()
    # Once more, from the state that the batch before left
    assert query.replay()[-1].rows == last[-1].rows
    found += rows(last)
    assert told(found) == ALERTS | {
        ("a", 81, None, "Silent"),
        ("b", 70, None, "Silent"),
    }
    reasons = {(row[0], row.rule): row.reason for row in found if row[1] < at(31)}
    assert reasons["a", "Jump"] == "90 is 69 above 21, the value before (limit 10)"
    assert (
        reasons["b", "Silent"]
        == "no row since 2026-01-01 00:00:05 UTC, for more than 20 seconds"
    )
    source.add_data([("a", at(60), 1e9)])
    [late] = query.step()
    assert (late.rows, late.late_rows) == ([], 1)


FULL = "k STRING NOT NULL, time TIMESTAMP NOT NULL, v DOUBLE NOT NULL"
ON_FULL: dict[str, Callable[[DataFrame], DataFrame]] = {
    "alert_when": lambda frame: state.alert_when(frame, "k", "time", "v", RULES),
    "as_of": lambda frame: state.as_of(
        frame.select("k", "time"), frame.where("v > 20"), "k", "time"
    ),
}


@pytest.mark.fast("alert_when")
@pytest.mark.parametrize("call", ON_FULL)
def test_columns_that_hold_no_null_may_get_one(spark, call):
    data = [(key, at(second), value) for key, second, value in READINGS]
    full = spark.createDataFrame(data, FULL).withWatermark("time", "1 minute")
    assert not any(field.nullable for field in full.schema)
    found = ON_FULL[call](full)
    got = found.collect()
    assert len(got) >= 3
    nulls = {name for name in found.columns if any(row[name] is None for row in got)}
    assert nulls <= {field.name for field in found.schema if field.nullable}
    if call == "alert_when":
        assert {(row["rule"], row["v"]) for row in got if row["v"] is None} == {
            ("Silent", None)
        }


@pytest.mark.slow
def test_alerts_of_a_stream_are_those_of_a_batch(spark):
    data = [(key, at(second), value) for key, second, value in READINGS]
    frame = spark.createDataFrame(
        [*data, ("b", at(5), 1e3)], "key STRING, time TIMESTAMP, value DOUBLE"
    )

    def transform(frame):
        return state.alert_when(
            frame.withWatermark("time", "30 seconds"), "key", "time", "value", RULES
        )

    assert told(transform(frame).collect()) >= ALERTS
    assert_stream_equals_batch(
        transform, frame, watermark=("time", "30 seconds"), examples=2
    )


@dataclass(frozen=True)
class Passed:
    """What `Often` knows."""

    times: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class PassedNow:
    """The same in the next version of the job."""

    times: list[float] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    most: int = 3


@dataclass(frozen=True)
class Often:
    """A rule of a job's own: more than `most` rows within ten seconds."""

    most: int
    state: ClassVar[type[Any]] = Passed

    def step(self, state, time, value):
        times = [each for each in state.times if each > time - 10] + [int(time)]
        alert = (
            Alert(len(times), f"{len(times)} at {value['place']}")
            if len(times) > self.most
            else None
        )
        return replace(state, times=times), alert


@dataclass(frozen=True)
class OftenNow(Often):
    """Its next version, which keeps more."""

    state: ClassVar[type[Any]] = PassedNow


@pytest.mark.slow
def test_a_rule_of_ones_own_goes_on_when_its_state_has_gained_a_field(stream):
    source = stream("card BIGINT, time TIMESTAMP, place STRING")
    frame = (
        source.to_df()
        .withWatermark("time", "1 second")
        .withColumn("what", F.struct("place"))
    )
    # A rule's state has its class's name
    next_rule = type("Often", (OftenNow,), {"__module__": __name__})
    query = stream.query(
        state.alert_when(frame, ["card"], "time", "what", [Often(most=2)])
    )
    source.add_data([(7, at(1), "a"), (7, at(2), "b")])
    source.add_data([(8, at(5), "c")])
    assert rows(query.step()) == []
    query.restart(
        state.alert_when(frame, ["card"], "time", "what", [next_rule(most=2)])
    )
    source.add_data([(7, at(8), "d"), (8, at(30), "e")])
    [alert] = rows(query.step())
    assert (alert.card, alert.time, alert.what.place, alert.rule) == (
        7,
        at(8),
        "d",
        "Often",
    )
    assert (alert.score, alert.reason) == (3.0, "3 at d")


@pytest.mark.connect
def test_a_rule_of_a_script_reaches_a_worker_that_does_not_have_the_script(
    tmp_path, monkeypatch
):
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "own_rules.py").write_text(
        "from dataclasses import dataclass, replace\n@dataclass(frozen=True)\nclass"
        " Known:\n    count: int = 0\n@dataclass(frozen=True)\nclass Own:\n    most:"
        " int\n    state = Known\n    def step(self, known, time, value):\n       "
        " return replace(known, count=LEAST + time), None\nLEAST = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "script")
    own_rules = importlib.import_module("own_rules")
    (tmp_path / "rules").write_bytes(alerts._by_value([own_rules.Own(most=0)]))  # noqa: SLF001
    code = (
        "import pickle; [rule] = pickle.load(open('rules', 'rb'));"
        " print(rule.step(rule.state(), 5, None))"
    )
    done = process([sys.executable, "-c", code], cwd=tmp_path, env={})
    assert (done.stdout, done.stderr) == ("(Known(count=7), None)\n", "")


@pytest.mark.slow
def test_the_rows_that_wait_leave_the_state_when_the_watermark_has_passed(
    spark, stream
):
    source = stream("key BIGINT, time TIMESTAMP, value INT")
    frame = source.to_df().withWatermark("time", "30 seconds")
    query = stream.query(
        state.alert_when(frame, "key", "time", "value", state.Jump(by=9))
    )

    def waiting():
        reader = spark.read.format("statestore").option("stateVarName", "waiting")
        return reader.load(str(stream.folder / "query-0" / "checkpoint")).count()

    source.add_data([(n % 10, at(n / 1000), n) for n in range(20_000)])
    assert rows(query.step()) == []
    assert waiting() == 10  # the rows of each key together
    source.add_data([(10, at(60), 0)])
    assert sorted(row.value for row in rows(query.step())) == list(range(10, 20_000))
    assert waiting() == 1


@pytest.mark.slow
def test_as_of_gives_the_last_right_row_at_or_before_the_left_one(stream):
    orders = stream("item STRING, time TIMESTAMP, n INT")
    prices = stream("time TIMESTAMP, item STRING, price DATE")
    joined = state.as_of(
        orders.to_df().withWatermark("time", "5 seconds"),
        prices.to_df().withWatermark("time", "9 seconds"),
        "item", "time",
    )  # fmt: skip
    assert joined.columns == ["item", "time", "n", "last_time", "price"]
    days = [datetime(2026, 1, day).date() for day in (1, 2, 3)]  # noqa: DTZ001
    orders.add_data(
        [
            ("x", at(10), 1),
            ("x", at(20), 2),
            ("y", at(20), 3),
            ("x", at(5), 4),
            (None, at(5), 5),
        ]
    )
    prices.add_data(
        [(at(10), "x", days[0]), (at(21), "x", days[1]), (at(15), "x", days[2])]
    )
    orders.add_data([("z", at(99), 9)])
    prices.add_data([(at(99), "z", None)])
    assert {row.n: (row.last_time, row.price) for row in rows(stream.query(joined).step())} == {
        1: (at(10), days[0]), 2: (at(15), days[2]),
        3: (None, None), 4: (None, None), 5: (None, None),
    }  # fmt: skip


def without_right_rows(left, right):
    return state.as_of(left.drop("value"), right.drop("value"), "key", "time", [])


@pytest.mark.slow
@pytest.mark.fast("alert_when")
@pytest.mark.parametrize(
    "step",
    [
        without_right_rows,
        lambda f, _: state.alert_when(
            f, "key", "time", "value", [state.Jump(by=1), state.Ewma()]
        ),
    ],
    ids=["as_of", "alert_when"],
)
def test_a_key_of_which_nothing_is_known_leaves_no_state(stream, step):
    schema = "key BIGINT, time TIMESTAMP, value INT"
    source, other = stream(schema), stream(schema)
    query = stream.query(
        step(
            *(
                each.to_df().withWatermark("time", "0 seconds")
                for each in (source, other)
            )
        )
    )
    source.add_data([(n, at(n), None) for n in range(50)])
    query.drain()
    assert (
        sum(state.numRowsTotal for state in query.batches[-1].progress.stateOperators)
        == 0
    )


RULE = partial(SimpleNamespace, step=print)
MANY = "k STRING, time TIMESTAMP, at TIMESTAMP, v INT, n STRING"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": state.Ewma}, "rule is the class Ewma; give state.Ewma(), "),
        ({"rule": []}, "needs at least one rule, such as state.ZScore()"),
        ({"value": "n"}, "column n is string, not a number"),
        ({"time": "at"}, "column at has no watermark"),
        ({"value": "k"}, "alert_when(): column k appears twice"),
        (
            {"rule": state.Often(most=1, within="1 minute", of="z")},
            "of='z' is for a struct, and column v is",
        ),
        (
            {"rule": RULE(state=dict)},
            (
                "SimpleNamespace.state is the class dict; give a dataclass (the class"
                " itself)"
            ),
        ),
        (
            {"rule": RULE(state=state.Jump.state, due=print)},
            "and `expire` if it has `due`",
        ),
        (
            {"rule": RULE(state=make_dataclass("A", [("n", int | None, 5)]))},
            "a default (None, if it may be",
        ),
    ],
)
def test_alerts_that_cannot_be_are_one_line(stream, given, message):
    frame = stream(MANY).to_df().withWatermark("time", "10 seconds")
    how = {"key": "k", "time": "time", "value": "v", "rule": state.Ewma()} | given
    assert message in refusal(state.alert_when, frame, **how)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: state.as_of(f, f, "k", "time"), "column at exists already"),
        (
            lambda f: state.as_of(f, f, "k", "time", ["v", "V"]),
            "as_of(): column v appears twice",
        ),
        (
            lambda _: state.Ewma(alpha=2),
            "Ewma(): alpha is 2; give a number above 0 and at most 1",
        ),
        (
            lambda _: state.ZScore(warmup=1),
            "ZScore(): warmup is 1; give a number at least 2",
        ),
        (
            lambda _: state.Jump(by=cast("Any", "5")),
            "Jump(): by is the string '5'; give a number above 0",
        ),
        (lambda _: state.Silent("0 hours"), "Silent(): after must be longer than zero"),
    ],
)
def test_what_cannot_work_is_one_line(stream, call, message):
    assert message in refusal(
        call, stream(MANY).to_df().withWatermark("time", "10 seconds")
    )


@pytest.mark.parametrize("rule", [state.Ewma(warmup=3), state.ZScore(warmup=3)])
def test_a_number_whose_square_is_infinite_does_not_silence_a_key(rule):
    known, found = rule.state(), []
    for second, value in enumerate(
        [20.0, 21.0, -1.797e308, 20.0, 21.0, 20.0, 21.0, 99_999.0]
    ):
        alert = None
        if is_usable(value):
            known, alert = rule.step(known, float(second), value)
        found.append(alert)
    assert [each is not None for each in found] == [False] * 7 + [True]
