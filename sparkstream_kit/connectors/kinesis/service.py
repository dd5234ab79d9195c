"""Kinesis with boto3: its calls, the offsets of its shards, and reading ahead.

The first functions (`beginning`, `readable`, `moved`, `ranges`) compute offsets and do
not call Kinesis. `Service` makes the calls for one stream and repeats those that may
succeed later. `Ahead` reads ahead in the driver's worker to find where the next batch
ends. `source` uses these.

An offset is what Spark keeps in its checkpoint, as JSON:

    {"stream": "sales", "records": 120,
     "shards": {"shardId-000000000000": {"after": "4959…", "records": 120, "ended":
     true}}, "from": "", "seen": 1763765318.0, "created": 1763700000.0}

For each shard, `after` is the sequence number of the last record that has been read,
and `records` is the number of records read. `ended` is set for a shard that was closed
and has been read to its end. A shard that is missing from `shards` has not been read
yet: reading begins at `from`, which is empty for the oldest record that the stream
keeps, or "@" and a time in seconds since 1970. All records that arrived before `seen`
have been read; 0 means unknown. `created` is the time at which the stream was created.
It distinguishes the stream from a later one of the same name.
"""

from __future__ import annotations

import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkstream_kit.errors import (
    InvalidInputError,
    MissingExtraError,
    TransientError,
    without_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


Offset = dict[str, Any]


class Shard(NamedTuple):
    """A shard, as the service lists it.

    Attributes:
        parents: the ids of the shards that this shard came from by a split or a merge,
            as the service names them; empty for an original shard. They may no longer
            be listed.
        first: the first sequence number that a record of the shard can have.
        closed: whether the shard was split or merged and gets no more records.
    """

    parents: tuple[str, ...]
    first: str
    closed: bool


@dataclass
class ShardRecords:
    """The records that one look ahead has found in a shard.

    Attributes:
        after: the sequence number of the last record; empty if none was found.
        records: the number of records found.
        ended: whether the shard is closed and has no further records.
        seen: all records that arrived before this time (seconds since 1970) have been
            found; 0 if unknown.
    """

    after: str = ""
    records: int = 0
    ended: bool = False
    seen: float = 0.0


class Range(NamedTuple):
    """The records of one shard that belong to a batch; each range is a partition of the batch.

    Attributes:
        shard: the id of the shard.
        after: where to start reading: the sequence number before the first record, or
            `from` of an offset.
        until: the sequence number of the last record.
        records: the number of records in the range.
    """

    shard: str
    after: str
    until: str
    records: int


def beginning(stream: str, created: float, begin: str) -> Offset:
    """Return the offset from which a new query starts.

    Args:
        stream: the name of the stream.
        created: when the stream was created, in seconds since 1970.
        begin: where to begin, as `from` of an offset: empty for the oldest record, or
            "@" and a time.
    """
    return {
        "stream": stream,
        "records": 0,
        "shards": {},
        "from": begin,
        "seen": 0.0,
        "created": created,
    }


def readable(offset: Offset, listed: Mapping[str, Shard]) -> dict[str, str]:
    """Return the shards that a batch may read from an offset, each with the position to resume at.

    A shard that results from a split or a merge is not read until an earlier batch has
    read its parents to their ends. So records with the same key keep their order.

    Args:
        offset: where the batch begins.
        listed: the shards that the stream has now, by id.

    Returns:
        For each shard, in order of ids, its `after`, or `from` of the offset if it has
        not been read yet.

    Examples:
        >>> listed = {"a": Shard((), "1", True), "b": Shard(("a",), "5", False)}
        >>> begin = beginning("sales", 0.0, "")
        >>> readable(begin, listed)
        {'a': ''}
        >>> readable(moved(begin, {"a": ShardRecords("4", 2, True, 0.0)}, listed), listed)
        {'b': ''}
    """
    shards = offset["shards"]
    ended = {name for name, shard in shards.items() if shard.get("ended")}
    positions = {}
    for name, shard in sorted(listed.items()):
        if name in ended:
            continue
        if name in shards:
            positions[name] = shards[name]["after"]
        elif all(parent in ended or parent not in listed for parent in shard.parents):
            positions[name] = offset["from"]
    return positions


def moved(
    offset: Offset,
    found: Mapping[str, ShardRecords],
    listed: Mapping[str, Shard],
    *,
    refresh: float = float("inf"),
) -> Offset:
    """Return the offset after the records found; the same offset if nothing was found.

    The end of a closed shard counts as found, too. Spark runs a batch only if the
    offset changes.

    Args:
        offset: where the batch begins.
        found: the records found in the shards that are `readable`.
        listed: the shards that the stream has now; a shard that is not listed is
            dropped from the offset.
        refresh: also return a new offset if `seen` moves by more than this number of
            seconds, even without records.
    """
    shards = dict(offset["shards"])
    total = offset["records"]
    for name, news in found.items():
        total += news.records
        if news.records or news.ended:
            former = shards.get(name, {"after": offset["from"], "records": 0})
            shard = {
                "after": news.after or former["after"],
                "records": former["records"] + news.records,
            }
            if news.ended:
                shard["ended"] = True
            shards[name] = shard
    seen = seen_until(offset, found, listed)
    if shards == offset["shards"] and seen - offset["seen"] <= refresh:
        return offset
    existing = {name: shard for name, shard in sorted(shards.items()) if name in listed}
    return {**offset, "records": total, "shards": existing, "seen": seen}


def seen_until(
    offset: Offset, found: Mapping[str, ShardRecords], listed: Mapping[str, Shard]
) -> float:
    """Return the time before which every record has been read or found, in seconds since 1970.

    A shard that waits for its parents does not count, because its records arrived after
    those of its parents.

    Returns:
        The earliest `seen` of all shards that can be read. If one of these was not
        looked at, the `seen` of the offset; 0 if unknown.
    """
    names = readable(offset, listed).keys()
    if not names or not names <= found.keys():
        return float(offset["seen"])
    return float(min(found[name].seen or offset["seen"] for name in names))


def ranges(start: Offset, end: Offset) -> list[Range]:
    """Return the ranges that a batch reads, one for each shard with records.

    Spark does not store the start offset of a query's first batch. If that batch is
    replayed, the start is computed anew and can differ. So the first batch takes the
    beginning of unread shards from its end offset.
    """
    is_first = not start["shards"] and not start["seen"]
    unread = start["from"]
    if is_first:
        unread = end["from"]
    parts = []
    for name, shard in end["shards"].items():
        former = start["shards"].get(name, {"after": unread, "records": 0})
        records = shard["records"] - former["records"]
        if records:
            parts.append(Range(name, former["after"], shard["after"], records))
    return parts


def is_recreated(offset: Offset, listed: Mapping[str, Shard]) -> bool:
    """Whether a shard that has been read was deleted and recreated under the same id.

    Sequence numbers grow with time, so a recreated shard begins after the last record
    that was read.
    """
    for name, shard in offset["shards"].items():
        was_read = name in listed and shard["after"].isdecimal()
        if was_read and int(shard["after"]) < int(listed[name].first):
            return True
    return False


def missing_shards(offset: Offset, listed: Mapping[str, Shard]) -> list[str]:
    """Return the ids of shards that are gone and were not read to their ends."""
    missing = []
    for name, shard in offset["shards"].items():
        if name not in listed and not shard.get("ended"):
            missing.append(name)
    return sorted(missing)


_PAGE = 10_000  # records: the most that Kinesis returns for one call
_FIRST_WAIT = 0.2  # seconds between the first two attempts of a call
_LONGEST_WAIT = 5.0  # seconds between two attempts of a call
_CONNECT = 5  # seconds that one attempt may take to connect
_ANSWER = 20  # seconds that an answer may take
_SERVER_ERROR = 500
_ENDPOINT = re.compile(r"https?://[^/@\s]+/?")
# https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html#API_GetRecords_Errors
# Of the temporary errors these have a status below 500; those of 500 and above are all
# temporary.
_PASSING = re.compile("Throttl|LimitExceeded|ThroughputExceeded|RequestTimeout")


class _Clients(dict[tuple[str | None, str | None], Any]):
    """The open clients of this process, by region and endpoint.

    A client cannot be pickled. When Spark sends this module to another process, the
    copy arrives empty.
    """

    def __reduce__(self) -> Any:
        return _Clients, ()


_clients = _Clients()


class Stream(NamedTuple):
    """A stream, as the service describes it.

    Attributes:
        created: when the stream was created, in seconds since 1970.
        keeps: the retention period: for how many seconds the stream keeps a record.
        now: the service's clock, in seconds since 1970.
    """

    created: float
    keeps: float
    now: float


class Page(NamedTuple):
    """One answer to a request for records.

    Attributes:
        records: the records as boto3 returns them, a dict each.
        iterator: the shard iterator for the next page; None after the last record of a
            closed shard.
        is_last: whether the shard had no further record at this time.
        now: the service's clock, in seconds since 1970.
    """

    records: list[dict[str, Any]]
    iterator: str | None
    is_last: bool
    now: float


def address(endpoint: str | None) -> str | None:
    """Choose the service's address: the given one, the environment's, or boto3's own.

    Args:
        endpoint: the address that the user gave. None: take it from
            AWS_ENDPOINT_URL_KINESIS or AWS_ENDPOINT_URL.

    Returns:
        The address; None if none is set, so that boto3 finds it from the region.

    Raises:
        InvalidInputError: the address is not scheme, host and port, or it names a user.
    """
    if endpoint is None:
        endpoint = (
            os.environ.get("AWS_ENDPOINT_URL_KINESIS")
            or os.environ.get("AWS_ENDPOINT_URL")
            or None
        )
    if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
        raise InvalidInputError(
            f"endpoint is {without_secrets(endpoint)!r}; give scheme, host and port,"
            " such as 'http://localhost:4567'"
        )
    return endpoint


class Service:
    """Makes the calls of Kinesis for one stream, and repeats a call that may succeed later.

    An instance can be pickled: its client is opened in the process that makes the call.

    Args:
        stream: the name of the stream.
        region: the region of the stream; None: boto3 finds it.
        endpoint: the service's address; None: from the environment, or boto3 finds it.
        retry_for: for how many seconds a call is repeated while Kinesis throttles,
            fails or cannot be reached; 0 makes a single attempt.

    Raises:
        InvalidInputError: the endpoint is no address.
        MissingExtraError: boto3 is not installed.
    """

    def __init__(
        self, stream: str, region: str | None, endpoint: str | None, retry_for: float
    ) -> None:
        try:
            import boto3  # noqa: F401 - used with the first call
        except ImportError:
            raise MissingExtraError("sources.kinesis()", "kinesis") from None
        self.stream = stream
        self._retry_for = retry_for
        self._place = region, address(endpoint)

    def describe(self) -> Stream:
        """Return the stream's creation time and retention period, and the service's clock.

        Raises:
            InvalidInputError: the stream does not exist, or the service refuses the
                call.
            TransientError: the service has not answered in time.
        """
        answer = self.call("describe_stream_summary", StreamName=self.stream)
        summary = answer["StreamDescriptionSummary"]
        created = summary["StreamCreationTimestamp"].timestamp()
        keeps = summary["RetentionPeriodHours"] * 3600.0
        return Stream(created, keeps, _clock(answer))

    def shards(self) -> dict[str, Shard]:
        """Return the stream's shards by id, also closed ones that may have records."""
        shards: dict[str, Shard] = {}
        arguments = {"StreamName": self.stream}
        while arguments:
            answer = self.call("list_shards", **arguments)
            for shard in answer["Shards"]:
                shards[shard["ShardId"]] = _shard(shard)
            arguments = {}
            if answer.get("NextToken"):
                arguments["NextToken"] = answer["NextToken"]
        return shards

    def iterator(self, shard: str, after: str) -> str:
        """Return a shard iterator, with which `page` reads the records after a position.

        The iterator expires after five minutes.

        Args:
            shard: the id of the shard.
            after: the position, as in an offset: a sequence number, "@" and a time, or
                empty for the oldest record.
        """
        kind: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if after.startswith("@"):
            kind = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": float(after[1:])}
        elif after:
            kind = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": after,
            }
        answer = self.call(
            "get_shard_iterator", StreamName=self.stream, ShardId=shard, **kind
        )
        return str(answer["ShardIterator"])

    def page(self, iterator: str, most: int) -> Page | None:
        """Return the next records of a shard; None if the iterator has expired.

        Args:
            iterator: the shard iterator, from `iterator` or from the page before.
            most: the most records to return; Kinesis returns at most 10,000.
        """
        limit = min(most, _PAGE)
        answer = self.call("get_records", ShardIterator=iterator, Limit=limit)
        if answer is None:
            return None
        records = answer["Records"]
        is_behind = bool(answer.get("MillisBehindLatest")) or len(records) == limit
        following: str | None = answer.get("NextShardIterator")
        is_last = following is None or not is_behind
        return Page(records, following, is_last, _clock(answer))

    @property
    def where(self) -> str:
        """The service's address, for messages."""
        return str(_client(*self._place).meta.endpoint_url)

    def call(self, action: str, **given: Any) -> Any:
        """Call boto3's client, and repeat this for `retry_for` seconds if it may help.

        Args:
            action: the name of the client's method, such as "get_records".
            **given: the arguments of the method.

        Returns:
            The answer as boto3 returns it; None if a shard iterator has expired.

        Raises:
            InvalidInputError: the service refuses the call, its certificate is not
                accepted, or boto3 has no region or credentials; the message is a single
                line.
            TransientError: the service throttled, failed or could not be reached until
                `retry_for` was over.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        wait = _FIRST_WAIT
        end = time.monotonic() + self._retry_for
        while True:
            try:
                return getattr(_client(*self._place), action)(**given)
            except ClientError as err:
                if _code(err) == "ExpiredIteratorException":
                    return None
                why = self._passing_trouble(err, action)
            except BotoCoreError as err:
                why = self._passing_trouble(err, action)
            if time.monotonic() + wait > end:
                after = ""
                if self._retry_for:
                    after = f", and has not done better for {self._retry_for:g} s"
                raise TransientError(
                    f"Kinesis at {self.where} {why}{after}; start it, correct the"
                    " endpoint, or try again later"
                )
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - spreads the retries of many tasks
            wait = min(2 * wait, _LONGEST_WAIT)

    def _passing_trouble(self, err: Exception, action: str) -> str:
        """Return what Kinesis does, in words, if the call may succeed later.

        Raises:
            InvalidInputError: it will not, as the error is of another kind.
        """
        from botocore import exceptions as errors

        if isinstance(err, errors.SSLError):
            raise self._invalid(
                f"Kinesis at {self.where}: {_one_line(err)}; name the file of its"
                " certificates in AWS_CA_BUNDLE, or correct the endpoint"
            ) from None
        if isinstance(err, errors.HTTPClientError | errors.ConnectionError):
            return f"cannot be reached ({type(err).__name__})"
        if isinstance(err, errors.ClientError):
            code = _code(err)
            status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if not _PASSING.search(code) and status < _SERVER_ERROR:
                raise self._invalid(self._refusal(action, code)) from None
            return f"says {code or status}"
        cause = _one_line(err)
        if isinstance(err, errors.CredentialRetrievalError):
            # Its text is what the user's own program has printed, which may be a
            # secret.
            cause = type(err).__name__
        raise self._invalid(
            f"stream {self.stream}: {cause}; give the region, and set the credentials"
            " before Spark starts, or in ~/.aws"
        ) from None

    def _invalid(self, line: str) -> InvalidInputError:
        """Return an error, and drop the client.

        So the next call uses credentials that were corrected by then.
        """
        _clients.pop(self._place, None)
        return InvalidInputError(line)

    def _refusal(self, action: str, code: str) -> str:
        """Return a one-line message for a refused call.

        The text of Kinesis is left out, because it may contain a key.
        """
        called = "".join(word.title() for word in action.split("_"))
        if code == "ResourceNotFoundException":
            fix = "create it first, or correct the name or the region"
            return (
                f"Kinesis at {self.where} has no stream {self.stream}, or lost a shard"
                f" of it; {fix}"
            )
        return (
            f"Kinesis at {self.where} refuses {called} for stream {self.stream}"
            f" ({code}); AWS documents this code; check the credentials and what they"
            " may do"
        )


def _shard(description: Mapping[str, Any]) -> Shard:
    """Return a shard, as the service describes it."""
    parents = (
        description.get("ParentShardId"),
        description.get("AdjacentParentShardId"),
    )
    numbers = description["SequenceNumberRange"]
    return Shard(
        parents=tuple(parent for parent in parents if parent),
        first=numbers["StartingSequenceNumber"],
        closed="EndingSequenceNumber" in numbers,
    )


def _code(err: Any) -> str:
    """Return the code with which the service refuses a call; "" without one."""
    return str(err.response["Error"].get("Code", ""))


def _client(region: str | None, endpoint: str | None) -> Any:
    """Return this process's boto3 client; a Python worker keeps it open for the next batches."""
    if (region, endpoint) in _clients:
        return _clients[region, endpoint]
    import boto3
    from botocore.config import Config

    # boto3 must not retry by itself: `Service.call` does, within its own time limit.
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=_CONNECT,
        read_timeout=_ANSWER,
    )
    # Of a session of its own: boto3's default one keeps the first credentials that it
    # has found.
    client = boto3.Session().client(
        "kinesis", region_name=region, endpoint_url=endpoint, config=config
    )
    return _clients.setdefault((region, endpoint), client)


def _clock(answer: dict[str, Any]) -> float:
    """Return the time in an answer, in whole seconds; without one, this machine's."""
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    if date:
        return parsedate_to_datetime(date).timestamp()
    return float(int(time.time()))


def _one_line(err: Exception) -> str:
    return without_secrets(" ".join(str(err).split()))


# Seconds after a look that found nothing: Kinesis allows five reads per second and
# shard
_REST = 0.4
_LISTED_FOR = 60.0  # seconds until the shards are listed again
# The limit of a look in seconds, if the query can look again. Between two records there
# can be many empty pages, so a look could take long.
_LOOK = 10.0
_THREADS = 8  # shards that a look reads at the same time


@dataclass
class _Track:
    """The position of the look ahead in one shard.

    Attributes:
        after: the position after the last record that was found, as in an offset.
        iterator: a shard iterator for this position, or for a later one with no records
            in between; None if it must be requested.
        over: whether the shard's next record arrived too late to be read (see
            `Ahead.leave_out`).
    """

    after: str
    iterator: str | None = None
    over: bool = False


class Ahead:
    """Reads ahead in the shards of a stream to find the end of the next batch.

    It counts records and keeps sequence numbers, not the records themselves. Each look
    resumes where the last one ended, so that a shard is not read from the beginning
    each time.

    Args:
        service: the calls for the stream.
        now: the service's clock, in seconds since 1970.

    Attributes:
        now: the service's clock at the last look, in seconds since 1970.
    """

    def __init__(self, service: Service, now: float) -> None:
        self._until = float("inf")
        self.now = now
        self._service = service
        self._tracks: dict[str, _Track] = {}
        self._shards: dict[str, Shard] = {}
        self._listed_at = float("-inf")
        self._rests_until = float("-inf")
        self._turn = 0

    def leave_out(self, since: float) -> None:
        """Ignore new records; let a look go on until a record or the end of all shards.

        Args:
            since: ignore records that arrive at this time (seconds since 1970) or
                later.
        """
        self._until = since
        self._tracks.clear()

    def shards(self) -> dict[str, Shard]:
        """Return the shards of the stream by id, from a list that is at most 60 seconds old."""
        if time.monotonic() - self._listed_at > _LISTED_FOR:
            self._shards = self._service.shards()
            self._listed_at = time.monotonic()
        return self._shards

    def look(self, places: Mapping[str, str], most: int) -> dict[str, ShardRecords]:
        """Find the records after some positions.

        The shards share the limit evenly; what one shard does not use, the others can.

        Args:
            places: the position to resume at in each shard, from `readable`.
            most: the most records to find, over all shards.

        Returns:
            The records found in each shard that was looked at, by its id.
        """
        time.sleep(max(0.0, self._rests_until - time.monotonic()))
        for name, after in places.items():
            if name not in self._tracks or self._tracks[name].after != after:
                self._tracks[name] = _Track(after)
        found: dict[str, ShardRecords] = {}
        end = time.monotonic() + _LOOK
        left = most
        going = sorted(places)
        while left and going:
            # With a limit below the number of shards, each shard gets its turn
            self._turn += 1
            first = self._turn % len(going)
            names = (going[first:] + going[:first])[:left]
            for name, (taken, has_more) in self._look_at_each(
                names, found, left // len(names), end
            ):
                left -= taken
                if not has_more:
                    going.remove(name)
        if not _is_any(found):
            self._rests_until = time.monotonic() + _REST
        if any(news.ended for news in found.values()):
            # List again: other shards have taken its place
            self._listed_at = float("-inf")
        return found

    def _look_at_each(
        self,
        names: Sequence[str],
        found: dict[str, ShardRecords],
        most: int,
        end: float,
    ) -> list[tuple[str, tuple[int, bool]]]:
        """Look at some shards at the same time, as `_look_at` does.

        Returns:
            The name of each shard, the number of records read, and whether the shard
            may have more.
        """
        for name in names:
            found.setdefault(name, ShardRecords())

        def look_at(name: str) -> tuple[int, bool]:
            return self._look_at(name, found, most, end)

        with ThreadPoolExecutor(min(_THREADS, len(names))) as pool:
            return list(zip(names, pool.map(look_at, names), strict=True))

    def _look_at(
        self, name: str, found: Mapping[str, ShardRecords], most: int, end: float
    ) -> tuple[int, bool]:
        """Read the next records of a shard, and add them to what is found in it.

        Args:
            name: the id of the shard.
            found: what the look has found in all shards so far.
            most: the most records to read.
            end: the monotonic time until which a look may take, in seconds.

        Returns:
            The number of records read, and whether the shard may have more.
        """
        track = self._tracks[name]
        taken = 0
        has_more = not track.over
        while has_more and taken < most:
            if track.iterator is None:
                track.iterator = self._service.iterator(name, track.after)
            page = self._service.page(track.iterator, most - taken)
            if page is None:  # the iterator has expired
                track.iterator = None
                continue
            taken += self._take(page, track, found[name])
            # An open shard without further records rests. A closed one is read until
            # Kinesis reports its end, so that the shards after it can be read.
            rests = page.is_last and not self._shards[name].closed
            if found[name].ended or track.over or rests or self._is_over(found, end):
                has_more = False
        return taken, has_more

    def _is_over(self, found: Mapping[str, ShardRecords], end: float) -> bool:
        """Return whether the time for a look is over.

        Spark ends a query with availableNow after a look that found nothing. So such a
        look has no time limit before it has found something.
        """
        has_limit = self._until == float("inf") or _is_any(found)
        return has_limit and time.monotonic() > end

    def _take(self, page: Page, track: _Track, found: ShardRecords) -> int:
        """Add a page's records that arrived in time to `found`; return their number."""
        arrived = [
            record["ApproximateArrivalTimestamp"].timestamp() for record in page.records
        ]
        taken = len(list(takewhile(lambda at: at < self._until, arrived)))
        self.now = max(self.now, page.now)
        track.over = taken < len(arrived)
        track.iterator = page.iterator
        if taken:
            track.after = page.records[taken - 1]["SequenceNumber"]
            found.after = track.after
            found.records += taken
            found.seen = arrived[taken - 1]
        found.ended = page.iterator is None and not track.over
        if page.is_last and not found.ended and not track.over:
            found.seen = page.now
        return taken


def _is_any(records_by_shard: Mapping[str, ShardRecords]) -> bool:
    """Return whether a look has found a record, or the end of a shard."""
    return any(news.records or news.ended for news in records_by_shard.values())
