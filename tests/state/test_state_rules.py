"""The rules of `alert_when` without Spark: each step from a known state, at its exact limits."""

import math
from datetime import timedelta
from typing import Any

import pytest
from conftest import refusal

from sparkstream_kit.state import Alert, Ewma, Jump, Often, Silent, ZScore
from sparkstream_kit.state.rules import Last, Seen, Times, _text, is_usable

EWMA, ZSCORE = Ewma(alpha=0.5, sigmas=2, warmup=2), ZScore(sigmas=2, warmup=2)
JUMP, OFTEN, SILENT = Jump(by=10), Often(2, within="1 minute"), Silent("10 minutes")
# A rule, its state, a time and a value; the next state, and the alert.
STEPS: dict[str, tuple[Any, Any, float, Any, Any, Alert | None]] = {
    "Ewma, the first value": (EWMA, Seen(), 0, 10, Seen(1, 10.0), None),
    "Ewma, the second": (EWMA, Seen(1, 10.0), 0, 12, Seen(2, 11.0, 1.0), None),
    "Ewma, before the warm-up is over": (
        *(EWMA, Seen(1, 10.0, 4.0), 0, 100, Seen(2, 55.0, 2027.0)),
        None,
    ),
    "Ewma, just at the limit": (
        *(EWMA, Seen(2, 11.0, 1.0), 0, 13, Seen(3, 12.0, 1.5)),
        None,
    ),
    "Ewma, above the limit": (
        *(EWMA, Seen(2, 11.0, 1.0), 0, 13.5, Seen(3, 12.0, 1.5)),
        Alert(2.5, "13.5 is 2.5 deviations above the moving mean 11 (limit 2)"),
    ),
    "Ewma, below the limit": (
        *(EWMA, Seen(2, 11.0, 1.0), 0, 8, Seen(3, 10.0, 1.5)),
        Alert(3.0, "8 is 3 deviations below the moving mean 11 (limit 2)"),
    ),
    "Ewma, after equal values": (EWMA, Seen(9, 7.0), 0, 9, Seen(10, 8.0, 1.0), None),
    "ZScore, the first value": (ZSCORE, Seen(), 0, 10, Seen(1, 10.0), None),
    "ZScore, the second": (ZSCORE, Seen(1, 10.0), 0, 14, Seen(2, 12.0, 8.0), None),
    "ZScore, just at the limit": (
        *(ZSCORE, Seen(3, 12.0, 8.0), 0, 16, Seen(4, 13.0, 20.0)),
        None,
    ),
    "ZScore, above the limit": (
        *(ZSCORE, Seen(3, 12.0, 8.0), 0, 17, Seen(4, 13.0, 20.0)),
        Alert(2.5, "17 is 2.5 deviations above the mean 12 (limit 2)"),
    ),
    "ZScore, below the limit": (
        *(ZSCORE, Seen(3, 12.0, 8.0), 0, 2, Seen(4, 11.0, 20.0)),
        Alert(5.0, "2 is 5 deviations below the mean 12 (limit 2)"),
    ),
    "ZScore, once the warm-up is over": (
        *(ZSCORE, Seen(2, 12.0, 2.0), 0, 18, Seen(3, 12 + math.sqrt(8) / 3, 22 / 3)),
        Alert(6 / math.sqrt(2), "18 is 4.243 deviations above the mean 12 (limit 2)"),
    ),
    "Jump, the first value": (JUMP, Last(), 5, 20, Last(5, 20.0), None),
    "Jump, just at the limit": (JUMP, Last(5, 20.0), 6, 30, Last(6, 30.0), None),
    "Jump, above the limit": (
        *(JUMP, Last(5, 20.0), 6, 30.5, Last(6, 30.5)),
        Alert(10.5, "30.5 is 10.5 above 20, the value before (limit 10)"),
    ),
    "Jump, below the limit": (
        *(JUMP, Last(5, 0.0), 6, -1010.5, Last(6, -1010.5)),
        Alert(1010.5, "-1,010 is 1,010 below 0, the value before (limit 10)"),
    ),
    "Often, as many as allowed": (OFTEN, Times([0]), 5, 1, Times([0, 5]), None),
    "Often, one more": (
        *(OFTEN, Times([0.5, 20]), 60, 1, Times([0.5, 20, 60])),
        Alert(3, "3 rows in 59.5 seconds (limit 2 within 1 minute)"),
    ),
    "Often, one that is too old": (OFTEN, Times([0, 20]), 60, 1, Times([20, 60]), None),
    "Often, times that come before": (
        *(OFTEN, Times([70, 61, 59]), 10, 1, Times([61, 59, 10])),
        Alert(3, "3 rows in 51 seconds (limit 2 within 1 minute)"),
    ),
    "Silent, the first row": (SILENT, Last(), 5, None, Last(5), None),
    "Silent, a later row": (SILENT, Last(5), 9, 1.0, Last(9), None),
    "Silent, a row of before": (SILENT, Last(9), 5, 1.0, Last(9), None),
    "Silent, a row after a silence": (SILENT, Last(5, None, True), 9, 1, Last(9), None),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_row_gives_the_next_state_and_an_alert_beyond_the_limit(case):
    rule, state, time, value, following, alert = STEPS[case]
    found, told = rule.step(state, time, value)
    assert type(found) is rule.state
    if isinstance(found, Seen):
        expected = pytest.approx((following.count, following.mean, following.spread))
        assert (found.count, found.mean, found.spread) == expected
    else:
        assert found == following
    if alert is None:
        assert told is None
    else:
        assert told == (pytest.approx(alert.score), alert.reason)


def test_a_silence_is_due_once():
    assert SILENT.seconds == 600.0
    assert Silent(timedelta(milliseconds=1500)).seconds == 1.5
    assert SILENT.due(Last()) is None
    assert SILENT.due(Last(0.0)) == 600.0
    assert SILENT.due(Last(5.0, told=True)) is None
    known, alert = SILENT.expire(Last(0.0))
    assert known == Last(0.0, told=True)
    since = "no row since 1970-01-01 00:00:00 UTC, for more than 10 minutes"
    assert alert == (600.0, since)
    assert "1970-01-01 00:01:05 UTC" in SILENT.expire(Last(65.9))[1].reason


def test_a_rule_can_compute_with_what_has_a_finite_square():
    usable = [0.0, -1.0, 9.9e149, 5, 10**200, "text", {"a": None}]
    assert [is_usable(value) for value in usable] == [True] * len(usable)
    others = [None, math.nan, math.inf, -math.inf, 1e150, -1e150]
    assert [is_usable(value) for value in others] == [False] * len(others)


@pytest.mark.parametrize(
    "rule",
    [
        lambda: Ewma(alpha=1, sigmas=0.5, warmup=0),
        lambda: Ewma(alpha=0.001, sigmas=1e9),
        lambda: ZScore(sigmas=0.5, warmup=2),
        lambda: Jump(by=0.5),
        lambda: Often(most=1, within=timedelta(microseconds=1)),
        lambda: Silent("1 microsecond"),
    ],
)
def test_an_argument_just_within_its_limits_is_taken(rule):
    assert rule()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            lambda: Ewma(alpha=0),
            "Ewma(): alpha is 0; give a number above 0 and at most 1",
        ),
        (
            lambda: Ewma(alpha=1.5),
            "Ewma(): alpha is 1.5; give a number above 0 and at most 1",
        ),
        (lambda: Ewma(sigmas=0), "Ewma(): sigmas is 0; give a number above 0"),
        (lambda: Ewma(sigmas=math.inf), "Ewma(): sigmas is inf; give a number above 0"),
        (lambda: Ewma(sigmas=math.nan), "Ewma(): sigmas is nan; give a number above 0"),
        (lambda: Ewma(warmup=-1), "Ewma(): warmup is -1; give a number at least 0"),
        (lambda: Ewma(warmup=True), "Ewma(): warmup is True; give a number at least 0"),
        (lambda: ZScore(sigmas=-1), "ZScore(): sigmas is -1; give a number above 0"),
        (lambda: ZScore(warmup=1), "ZScore(): warmup is 1; give a number at least 2"),
        (lambda: Jump(by=0), "Jump(): by is 0; give a number above 0"),
        (
            lambda: Often(most=0, within="1 minute"),
            "Often(): most is 0; give a number above 0",
        ),
    ],
)
def test_an_argument_beyond_its_limits_is_refused(rule, message):
    assert refusal(rule) == message


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda: Often(1, within="0 seconds"), "Often(): within must be longer"),
        (lambda: Silent("0 seconds"), "Silent(): after must be longer"),
    ],
)
def test_a_duration_is_longer_than_zero(rule, message):
    assert message in refusal(rule)


def test_a_number_is_shown_with_four_digits_or_as_a_whole():
    shown = {1000.0: "1,000", -1000.4: "-1,000", 999.4: "999.4", 0.0: "0"}
    assert {number: _text(number) for number in shown} == shown
