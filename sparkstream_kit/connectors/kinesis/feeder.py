"""Records for a Kinesis stream, to try things on; for `sparkstream feed kinesis`."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

from sparkstream_kit.connectors.kinesis.service import Service
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["create", "put"]

_MOST = 500  # records that Kinesis takes at once
_EVERY = 0.2  # seconds from one request to the next, at a given rate
_RETRY_FOR = 30.0
_LOOKS = 600


def create(stream: str, shards: int, *, region: str | None, endpoint: str | None) -> bool:
    """Make a stream, unless it is there; return whether it was made.

    Args:
        stream: its name.
        shards: how many shards it gets.
        region: as for `sources.kinesis`.
        endpoint: as for `sources.kinesis`.

    Raises:
        InvalidInputError: it cannot be made.
    """
    service = Service(stream, region, endpoint, _RETRY_FOR, by_command=True)
    try:
        service.call("create_stream", StreamName=stream, ShardCount=shards)
    except InvalidInputError as err:
        if "(ResourceInUseException)" not in str(err):
            raise
        return False
    for _ in range(_LOOKS):
        told = service.call("describe_stream_summary", StreamName=stream)
        if told["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":
            return True
        time.sleep(_EVERY)
    raise InvalidInputError(f"stream {stream} is not ready after {_LOOKS * _EVERY:g} s; look at it in AWS")


def put(
    stream: str,
    records: Iterable[tuple[str, str]],
    *,
    region: str | None,
    endpoint: str | None,
    rate: float | None = None,
    stop: threading.Event | None = None,
) -> Iterator[str]:
    """Write records to a stream, each of them once; yield the text of each that the stream has taken.

    A request whose answer is lost is not made again, as its records might be there twice.

    Args:
        stream: its name.
        records: each by its partition key and its text.
        region: as for `sources.kinesis`.
        endpoint: as for `sources.kinesis`.
        rate: records a second; None writes them as fast as the stream takes them.
        stop: ends it early, when it is set.

    Raises:
        InvalidInputError: the stream is not there, or does not take them.
        KitError: Kinesis cannot be reached; it may have taken records of the last request.
    """
    service = Service(stream, region, endpoint, retry_for=0.0, by_command=True)
    service.describe()  # said now, whatever is wrong
    return _taken(service, iter(records), rate, stop or threading.Event())


def _taken(
    service: Service, left: Iterator[tuple[str, str]], rate: float | None, stop: threading.Event
) -> Iterator[str]:
    """Write what is left; yield what the stream has taken."""
    size = _MOST if rate is None else max(1, min(_MOST, round(rate * _EVERY)))
    while not stop.is_set():
        some = list(itertools.islice(left, size))
        if not some:
            return
        while some:  # those that the stream has no room for, again and again
            given = [{"PartitionKey": key, "Data": text.encode()} for key, text in some]
            answer = service.call("put_records", StreamName=service.stream, Records=given)
            told = list(zip(some, answer["Records"], strict=True))
            yield from (text for (_, text), each in told if "ErrorCode" not in each)
            some = [record for record, each in told if "ErrorCode" in each]
            if some and stop.wait(_EVERY):
                return
        if rate is not None:
            stop.wait(size / rate)
