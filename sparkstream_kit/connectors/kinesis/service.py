"""Kinesis, by boto3: its calls, offsets in its shards, the look ahead into them, records to try things on.

An offset is what Spark keeps in its checkpoint, as JSON:

    {"stream": "sales", "records": 120,
     "shards": {"shardId-000000000000": {"after": "4959…", "records": 120, "ended": true}},
     "from": "", "seen": 1763765318.0, "created": 1763700000.0}

`after` is the sequence number of the last record that has been read of a shard, and `records` is how many
that were. `ended` stands where a shard was closed and has been read to its end. A shard that is not there has
not been read: it begins at `from`, which is empty for the oldest record that the stream keeps, or "@" and a
time in seconds. All records that arrived before `seen` have been read; 0 where nothing is known. `created` is
when the stream was made, by which it is told from another one of the same name.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


Offset = dict[str, Any]


class Shard(NamedTuple):
    """A shard, as the service lists it.

    Attributes:
        parents: the shards that it has come from by a split or a merge, if they are still listed.
        first: the sequence number at which it begins.
        closed: whether it gets no more records.
    """

    parents: tuple[str, ...]
    first: str
    closed: bool


@dataclass
class Found:
    """What a look ahead has found in a shard.

    Attributes:
        after: the sequence number of the last record; empty if there was none.
        records: how many there were.
        ended: whether the shard is closed and has no others.
        seen: every record that arrived before this time, in seconds, has been found; 0 if unknown.
    """

    after: str = ""
    records: int = 0
    ended: bool = False
    seen: float = 0.0


class Range(NamedTuple):
    """Records of one shard that belong to a batch: those behind `after`, up to `until`, which is the last."""

    shard: str
    after: str
    until: str
    records: int


def beginning(stream: str, created: float, begin: str) -> Offset:
    """Return the offset from which a new query starts."""
    return {"stream": stream, "records": 0, "shards": {}, "from": begin, "seen": 0.0, "created": created}


def readable(offset: Offset, listed: Mapping[str, Shard]) -> dict[str, str]:
    """Return the shards of which a batch from this offset may read, each with the place where it goes on.

    A shard that came out of a split or a merge waits until its parents have been read to their ends by an
    earlier batch. So records of the same key keep their order.

    Examples:
        >>> listed = {"a": Shard((), "1", True), "b": Shard(("a",), "5", False)}
        >>> begin = beginning("sales", 0.0, "")
        >>> readable(begin, listed)
        {'a': ''}
        >>> readable(moved(begin, {"a": Found("4", 2, True, 0.0)}, listed), listed)
        {'b': ''}
    """
    known = offset["shards"]
    ended = {name for name, shard in known.items() if shard.get("ended")}
    return {
        name: known[name]["after"] if name in known else offset["from"]
        for name, shard in sorted(listed.items())
        if name not in ended
        and (name in known or all(parent in ended or parent not in listed for parent in shard.parents))
    }


def moved(
    offset: Offset, found: Mapping[str, Found], listed: Mapping[str, Shard], *, refresh: float | None = None
) -> Offset:
    """Return the offset behind what was found; the same offset where there was nothing.

    Args:
        offset: where the batch begins.
        found: what was found in shards that are `readable`.
        listed: the shards that the stream has now; what is not among them is forgotten.
        refresh: return another offset, too, where `seen` would be so many seconds later.
    """
    shards = dict(offset["shards"])
    for name, each in found.items():
        if each.records or each.ended:
            former = shards.get(name, {"after": offset["from"], "records": 0})
            records = former["records"] + each.records
            shards[name] = {"after": each.after or former["after"], "records": records}
            shards[name] |= {"ended": True} if each.ended else {}
    seen = seen_until(offset, found, listed)
    aged = refresh is not None and seen - offset["seen"] > refresh
    if shards == offset["shards"] and not aged:
        return offset
    kept = {name: shard for name, shard in sorted(shards.items()) if name in listed}
    records = offset["records"] + sum(each.records for each in found.values())
    return {**offset, "records": records, "shards": kept, "seen": seen}


def seen_until(offset: Offset, found: Mapping[str, Found], listed: Mapping[str, Shard]) -> float:
    """Return before which time all records have arrived that were read before, or found now; 0 if unknown.

    Records of a shard that waits for its parents have arrived after theirs.
    """
    places = readable(offset, listed)
    known = [found[name].seen or offset["seen"] for name in places if name in found]
    return float(min(known) if known and len(known) == len(places) else offset["seen"])


def ranges(start: Offset, end: Offset) -> list[Range]:
    """Return what a batch reads, one range for each shard with records.

    Spark does not keep the start of a query's first batch. If that batch is replayed, another start of it may
    have been worked out; so what has not been read begins where the end says.
    """
    is_first = not start["shards"] and not start["seen"]
    fresh = {"after": (end if is_first else start)["from"], "records": 0}
    found = []
    for name, shard in end["shards"].items():
        former = start["shards"].get(name, fresh)
        if records := shard["records"] - former["records"]:
            found.append(Range(name, former["after"], shard["after"], records))
    return found


def made_again(offset: Offset, listed: Mapping[str, Shard]) -> bool:
    """Say whether a shard that has been read is another one by now; sequence numbers grow with time."""
    return any(
        shard["after"].isdecimal() and name in listed and int(shard["after"]) < int(listed[name].first)
        for name, shard in offset["shards"].items()
    )


def gone(offset: Offset, listed: Mapping[str, Shard]) -> list[str]:
    """Return the shards that were not read to their ends, and are not there any more."""
    known = offset["shards"].items()
    return sorted(name for name, shard in known if name not in listed and not shard.get("ended"))


_PAGE = 10_000  # records; Kinesis gives no more at once
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds between two tries
_CONNECT, _ANSWER = 5, 20  # seconds for one try
_SERVER_ERROR = 500
_ENDPOINT = re.compile(r"https?://[^/@\s]+/?")
# https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html#API_GetRecords_Errors
_PASSING = {  # with a status below 500
    "KMSThrottlingException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
}
_TO_READ = "DescribeStreamSummary, ListShards, GetShardIterator and GetRecords"
_LOG_IN = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}


class _Clients(dict[tuple[str | None, str | None], Any]):
    """The open clients of a process, by region and endpoint; to another process none of them goes."""

    def __reduce__(self) -> Any:
        return _Clients, ()


_clients = _Clients()


class Stream(NamedTuple):
    """A stream: when it was made, how many seconds it keeps a record, and the service's clock."""

    created: float
    keeps: float
    now: float


class Page(NamedTuple):
    """An answer to a request for records.

    Attributes:
        records: as boto3 has them.
        iterator: where the next page is; None behind the last record of a closed shard.
        is_last: whether no further record was there.
        now: the service's clock, in seconds.
    """

    records: list[dict[str, Any]]
    iterator: str | None
    is_last: bool
    now: float


def address(endpoint: str | None) -> str | None:
    """Return the address of a service: the given one, or that of the environment; None where boto3 knows it.

    Raises:
        InvalidInputError: it is no address, or has a user in it.
    """
    if endpoint is None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_KINESIS") or os.environ.get("AWS_ENDPOINT_URL") or None
    if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
        raise InvalidInputError(
            f"endpoint is {without_secrets(endpoint)!r}; give scheme, host and port, such as "
            "'http://localhost:4567'"
        )
    return endpoint


class Service:
    """Asks about one stream.

    Args:
        stream: its name.
        region: its region; None where boto3 shall find it.
        endpoint: the service's address; None where boto3 shall find it.
        retry_for: for how many seconds a call that may do better later is tried again.

    Raises:
        InvalidInputError: the endpoint is no address.
        MissingExtraError: boto3 is not installed.
    """

    def __init__(self, stream: str, region: str | None, endpoint: str | None, retry_for: float) -> None:
        try:
            import boto3  # noqa: F401 - used with the first call
        except ImportError:
            raise MissingExtraError("sources.kinesis()", "kinesis") from None
        self.stream = stream
        self._retry_for = retry_for
        self._place = region, address(endpoint)

    def describe(self) -> Stream:
        """Return what the stream is.

        Raises:
            InvalidInputError: there is no such stream, or it cannot be asked.
        """
        answer = self.call("describe_stream_summary", StreamName=self.stream)
        found = answer["StreamDescriptionSummary"]
        keeps = found["RetentionPeriodHours"] * 3600.0
        return Stream(found["StreamCreationTimestamp"].timestamp(), keeps, _clock(answer))

    def shards(self) -> dict[str, Shard]:
        """Return the stream's shards; closed ones are listed as long as they may have records."""
        found: dict[str, Shard] = {}
        which = {"StreamName": self.stream}
        while which:
            answer = self.call("list_shards", **which)
            for each in answer["Shards"]:
                parents = (each.get("ParentShardId"), each.get("AdjacentParentShardId"))
                numbers = each["SequenceNumberRange"]
                found[each["ShardId"]] = Shard(
                    tuple(filter(None, parents)),
                    numbers["StartingSequenceNumber"],
                    "EndingSequenceNumber" in numbers,
                )
            which = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
        return found

    def iterator(self, shard: str, after: str) -> str:
        """Return where the records behind a place are, as offsets have it; it holds for five minutes."""
        kind: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if after.startswith("@"):
            kind = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": float(after[1:])}
        elif after:
            kind = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        answer = self.call("get_shard_iterator", StreamName=self.stream, ShardId=shard, **kind)
        return str(answer["ShardIterator"])

    def page(self, iterator: str, most: int) -> Page | None:
        """Return the next records; None where the iterator does not hold any more."""
        asked = min(most, _PAGE)
        answer = self.call("get_records", ShardIterator=iterator, Limit=asked)
        if answer is None:
            return None
        records = answer["Records"]
        behind = bool(answer.get("MillisBehindLatest")) or len(records) == asked
        following: str | None = answer.get("NextShardIterator")
        return Page(records, following, following is None or not behind, _clock(answer))

    @property
    def where(self) -> str:
        """The service's address, for messages."""
        return str(_client(*self._place).meta.endpoint_url)

    def call(self, action: str, **given: Any) -> Any:
        """Make a call of boto3's client; return None where an iterator has expired.

        Args:
            action: the name of the client's method.
            **given: its arguments.

        Raises:
            InvalidInputError: the service refuses it, in one line.
            KitError: it has not been answered in time.
        """
        from botocore import exceptions as errors

        wait, end = _FIRST_WAIT, time.monotonic() + self._retry_for
        while True:
            try:
                return getattr(_client(*self._place), action)(**given)
            except errors.SSLError as err:
                raise InvalidInputError(f"Kinesis at {self.where}: {_one_line(err)}") from None
            except (errors.HTTPClientError, errors.ConnectionError) as err:
                why = f"cannot be reached ({type(err).__name__})"
            except errors.ClientError as err:
                code, said = err.response["Error"].get("Code", ""), err.response["Error"].get("Message", "")
                if code == "ExpiredIteratorException":
                    return None
                status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                if code not in _PASSING and status < _SERVER_ERROR:
                    raise InvalidInputError(self._refusal(action, code, said)) from None
                why = f"says {code or status}"
            except errors.BotoCoreError as err:
                raise InvalidInputError(self._unusable(err)) from None
            if time.monotonic() + wait > end:
                after = f", and has not done better for {self._retry_for:g} s" if self._retry_for else ""
                fix = "start it, correct the endpoint, or try again later"
                raise KitError(f"Kinesis at {self.where} {why}{after}; {fix}")
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - so that not all come again at once
            wait = min(2 * wait, _LONGEST_WAIT)

    def _refusal(self, action: str, code: str, said: str) -> str:
        """Say in one line why the service refuses a call."""
        called = "".join(word.title() for word in action.split("_"))
        if code == "ResourceNotFoundException":
            return (
                f"Kinesis at {self.where} has no stream {self.stream}, or lost a shard of it; create it "
                "first, or correct the name or the region"
            )
        if code in ("AccessDeniedException", "AccessDenied"):
            allow = _TO_READ if called in _TO_READ else called
            denied = f"stream {self.stream}: AWS denies kinesis:{called} to these credentials"
            return f"{denied}; allow kinesis:{allow}"
        if code in _LOG_IN:  # the service's own words may hold a key
            return f"Kinesis at {self.where} does not accept the credentials ({code}); correct them"
        return f"stream {self.stream}: Kinesis refuses {called} ({code}): {_one_line(said)}"

    def _unusable(self, error: Exception) -> str:
        """Say in one line what boto3 lacks."""
        kind = type(error).__name__
        if kind == "NoRegionError":
            return "no region for Kinesis; give the region, such as eu-central-1, or set AWS_DEFAULT_REGION"
        if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
            return (
                "no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for a query before "
                "Spark starts), or use ~/.aws or the machine's role"
            )
        return f"stream {self.stream}: {kind}: {_one_line(error)}"


def _client(region: str | None, endpoint: str | None) -> Any:
    """Return the client of this process; a Python worker keeps it for the next batches."""
    if (region, endpoint) in _clients:
        return _clients[region, endpoint]
    import boto3
    from botocore.config import Config

    # It shall not try by itself: `call` does, for as long as it was told.
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=_CONNECT, read_timeout=_ANSWER)
    made = boto3.client("kinesis", region_name=region, endpoint_url=endpoint, config=config)
    return _clients.setdefault((region, endpoint), made)


def _clock(answer: dict[str, Any]) -> float:
    """Return the time of an answer, to the second below; this machine's where the service tells none."""
    said = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(said).timestamp() if said else float(int(time.time()))


def _one_line(text: object) -> str:
    return without_secrets(" ".join(str(text).split()))


_REST = 0.4  # seconds between two looks that found nothing: Kinesis allows five reads a second of a shard
_LISTED_FOR = 60.0  # seconds that a list of the shards is good for
_LOOK = 10.0  # seconds for a look, if the query can look again: many empty pages may lie between two records
_THREADS = 8


@dataclass
class _Track:
    """How far the look has come in a shard.

    Attributes:
        after: the place behind the last record that was found, as offsets have it.
        iterator: Kinesis's own word for that place, or for a later one without records in between.
        over: whether a record was found that came too late to be read.
    """

    after: str
    iterator: str | None = None
    over: bool = False


class Ahead:
    """Looks ahead, and goes on where its last look ended.

    Attributes:
        now: the service's clock at the last look, in seconds.
    """

    def __init__(self, service: Service, now: float) -> None:
        self.now = now
        self._until = float("inf")
        self._service = service
        self._tracks: dict[str, _Track] = {}
        self._shards: dict[str, Shard] = {}
        self._listed_at = self._rests_until = float("-inf")
        self._turn = 0

    def leave_out(self, since: float) -> None:
        """Take no record that arrives at this time or later, and find one if there is one."""
        self._until = since
        self._tracks.clear()

    def shards(self) -> dict[str, Shard]:
        """Return the shards of the stream."""
        if time.monotonic() - self._listed_at > _LISTED_FOR:
            self._shards, self._listed_at = self._service.shards(), time.monotonic()
        return self._shards

    def look(self, places: Mapping[str, str], most: int) -> dict[str, Found]:
        """Return what comes next behind some places, up to so many records over all shards.

        Shards share the number fairly; what one does not use, others do.
        """
        time.sleep(max(0.0, self._rests_until - time.monotonic()))
        for name, after in places.items():
            if name not in self._tracks or self._tracks[name].after != after:
                self._tracks[name] = _Track(after)
        found: dict[str, Found] = {}
        end, left, going = time.monotonic() + _LOOK, most, sorted(places)

        def is_over() -> bool:
            # Spark ends a query with availableNow after a look that found nothing.
            return (_is_any(found) or self._until == float("inf")) and time.monotonic() > end

        while left and going:
            self._turn += 1  # with fewer records than shards, each has its turn
            first = self._turn % len(going)
            names = (going[first:] + going[:first])[:left]
            share = left // len(names)
            given = [(name, found.setdefault(name, Found()), share, is_over) for name in names]
            with ThreadPoolExecutor(min(_THREADS, len(names))) as pool:
                looks = dict(zip(names, pool.map(lambda each: self._look_at(*each), given), strict=True))
            left -= sum(taken for taken, _ in looks.values())
            going = [name for name in going if name not in looks or looks[name][1]]
        if not _is_any(found):
            self._rests_until = time.monotonic() + _REST
        if any(each.ended for each in found.values()):
            self._listed_at = float("-inf")  # there are others in its place
        return found

    def _look_at(self, name: str, found: Found, most: int, is_over: Callable[[], bool]) -> tuple[int, bool]:
        """Look at the next records of a shard, up to so many; return how many, and if it may have more."""
        track, taken = self._tracks[name], 0
        more = not track.over
        while more and taken < most:
            if track.iterator is None:
                track.iterator = self._service.iterator(name, track.after)
            page = self._service.page(track.iterator, most - taken)
            if page is None:  # it has expired
                track.iterator = None
                continue
            taken += self._take(page, track, found)
            # A closed shard is read until Kinesis says that this is its end.
            rests = page.is_last and not self._shards[name].closed
            more = not (found.ended or track.over or rests or is_over())
        return taken, more

    def _take(self, page: Page, track: _Track, found: Found) -> int:
        """Take a page's records; return their number."""
        arrived = [record["ApproximateArrivalTimestamp"].timestamp() for record in page.records]
        taken = len(list(takewhile(lambda at: at < self._until, arrived)))
        self.now = max(self.now, page.now)
        track.over = taken < len(arrived)
        track.iterator = page.iterator
        if taken:
            track.after = found.after = page.records[taken - 1]["SequenceNumber"]
            found.records += taken
            found.seen = arrived[taken - 1]
        found.ended = page.iterator is None and not track.over
        if page.is_last and not found.ended and not track.over:
            found.seen = page.now
        return taken


def _is_any(found: Mapping[str, Found]) -> bool:
    return any(each.records or each.ended for each in found.values())


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
    service = Service(stream, region, endpoint, _RETRY_FOR)
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
    service = Service(stream, region, endpoint, retry_for=0.0)
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
