"""Durations as the kit's calls take them."""

from datetime import timedelta

import pytest
from conftest import refusal

from sparkstream_kit._internal.durations import to_microseconds


@pytest.mark.parametrize(
    "duration",
    [
        "999999999999 days",
        "-999999999999 days",
        "9999999999999999999 seconds",
        timedelta.max,
        "3652060 days",
    ],
)
def test_a_duration_that_no_timestamp_of_spark_has_is_refused(duration):
    said = refusal(to_microseconds, "delay", duration)
    assert said == f"delay {duration} is too long; the longest is 3652059 days"


def test_the_longest_duration_is_read():
    assert to_microseconds("delay", "3652059 days") == 3_652_059 * 86_400_000_000
