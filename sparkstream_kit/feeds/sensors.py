"""Temperatures of devices with known spikes and silences, in the fields of the Intel Berkeley lab's log."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sparkstream_kit._arguments import check
from sparkstream_kit.feeds.lines import Again, count_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["sensors_rows", "sensors_truth"]

_FIRST = datetime(2024, 3, 1, tzinfo=UTC)
_DEVICES, _EVERY = 8, 31  # seconds from one reading of a device to the next
_QUIET = (900, 2400)  # seconds that a silence lasts
_WARMUP, _APART = 40, 25  # readings before the first spike of a device, and between two
_USUAL, _NOISE, _SPIKE = 18.0, 0.5, 15.0  # degrees: of the first device, at most, at least


def sensors_rows(count: int | None, *, seed: int) -> Iterable[dict[str, Any]]:
    """Make readings of eight devices, each about every 31 seconds.

    Each is a dict of `device` ("d1" to "d8"), `time` (ISO 8601, UTC) and `temperature` (degrees Celsius). A
    device has a usual temperature of its own, one degree from that of the next, which drifts by at most half
    a degree, with a noise of at most half a degree. One reading in 150 is a spike of 15 to 25 degrees; after
    one in 300 the device is silent for 15 to 40 minutes. Times increase.

    Args:
        count: how many readings; None never ends.
        seed: the same seed gives the same readings; a smaller count gives the first of them.

    Raises:
        InvalidInputError: the count is below 0.

    Example:
        >>> for row in sensors_rows(2, seed=1):
        ...     print(row)
        {'device': 'd1', 'time': '2024-03-01T00:00:01Z', 'temperature': 18.1}
        {'device': 'd2', 'time': '2024-03-01T00:00:05Z', 'temperature': 18.84}
    """
    check(sensors_rows, locals())
    numbers = count_to(count)

    def make() -> Iterator[dict[str, Any]]:
        draw = random.Random(seed)  # noqa: S311 - sample data, not secrets
        drift, since_spike, silent_until = ([0.0] * _DEVICES, [_APART - _WARMUP] * _DEVICES, [0] * _DEVICES)
        slot = 0
        for _ in numbers:
            while True:  # the next device that is not silent
                turn, device = divmod(slot, _DEVICES)
                slot += 1
                second = turn * _EVERY + device * _EVERY // _DEVICES + draw.randrange(1, 3)
                if second >= silent_until[device]:
                    break
            drift[device] = min(0.5, max(-0.5, drift[device] + draw.choice((-0.01, 0, 0.01))))
            noise = sum(draw.uniform(-_NOISE, _NOISE) for _ in range(4)) / 4
            since_spike[device] += 1
            spike = since_spike[device] > _APART and draw.random() < 1 / 150
            if spike:
                since_spike[device] = 0
            elif draw.random() < 1 / 300:
                silent_until[device] = second + draw.randrange(*_QUIET)
            degrees = _usual(device) + drift[device] + noise + (draw.uniform(_SPIKE, 25) if spike else 0)
            yield {
                "device": f"d{device + 1}",
                "time": f"{_FIRST + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}",
                "temperature": round(degrees, 2),
            }

    return Again(make)


def sensors_truth(
    rows: Iterable[dict[str, Any]],
    *,
    silent: timedelta = timedelta(minutes=10),
    delay: timedelta = timedelta(0),
) -> list[tuple[str, str, str]]:
    """Find the spikes and the silences that were put into readings, without Spark.

    Args:
        rows: of `sensors_rows`, in the order of their times.
        silent: how long a device says nothing before it counts as silent.
        delay: how far the watermark stays behind the newest reading: what comes after it is not found yet.

    Returns:
        (device, time, "spike" or "silence"), by time: of the reading, or `silent` after the last one.

    Example:
        >>> found = sensors_truth(sensors_rows(2000, seed=1))
        >>> len(found), found[0]
        (9, ('d3', '2024-03-01T00:35:47Z', 'spike'))
    """
    check(sensors_truth, locals())
    found, last = list[tuple[datetime, str, str]](), dict[str, datetime]()
    now = _FIRST
    for row in rows:
        device, now = row["device"], datetime.fromisoformat(row["time"])
        if device in last and now - last[device] > silent:
            found.append((last[device] + silent, device, "silence"))
        if row["temperature"] > _usual(int(device[1:]) - 1) + _SPIKE / 2:
            found.append((now, device, "spike"))
        last[device] = now
    found += [(time + silent, device, "silence") for device, time in last.items()]
    due = [each for each in sorted(found) if each[0] <= now - delay]
    return [(device, f"{time:%Y-%m-%dT%H:%M:%SZ}", what) for time, device, what in due]


def _usual(device: int) -> float:
    return _USUAL + device
