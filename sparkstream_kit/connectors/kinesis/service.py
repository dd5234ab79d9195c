"""The calls to Kinesis, by boto3: tried again while it throttles or is away, and refused in one line."""

from __future__ import annotations

import os
import random
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from sparkstream_kit.connectors.kinesis.offsets import Shard
from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError, without_secrets

__all__ = ["Page", "Service", "Stream", "address"]

_PAGE = 10_000  # records; Kinesis gives no more at once
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds between two tries
_CONNECT, _ANSWER = 5, 20  # seconds for one try
_SERVER_ERROR = 500
_ENDPOINT = re.compile(r"https?://[^/@\s]+/?")
# https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html#API_GetRecords_Errors
_PASSING = {
    "InternalFailure",
    "InternalFailureException",
    "KMSThrottlingException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestTimeout",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
}
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
        by_command: what is wrong is said to somebody at the command line.

    Raises:
        InvalidInputError: the endpoint is no address.
        MissingExtraError: boto3 is not installed.
    """

    def __init__(
        self,
        stream: str,
        region: str | None,
        endpoint: str | None,
        retry_for: float,
        *,
        by_command: bool = False,
    ) -> None:
        try:
            import boto3  # noqa: F401 - used with the first call
        except ImportError:
            raise MissingExtraError("sources.kinesis()", "kinesis") from None
        self.stream = stream
        self._retry_for = retry_for
        self._by_command = by_command
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
                raise KitError(f"Kinesis at {self.where} {self._waited(why)}")
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - so that not all come again at once
            wait = min(2 * wait, _LONGEST_WAIT)

    def _waited(self, why: str) -> str:
        """Say what to do where a call does not do better."""
        after = f", and has not done better for {self._retry_for:g} s" if self._retry_for else ""
        if self._by_command or not self._retry_for:
            return f"{why}{after}; start it, correct the endpoint, or try again later"
        return (
            f"{why}{after}; start it, correct the endpoint, or wait longer: "
            "sources.kinesis(…, retry_for=seconds)"
        )

    def _refusal(self, action: str, code: str, said: str) -> str:
        """Say in one line why the service refuses a call."""
        called = "".join(word.title() for word in action.split("_"))
        if code == "ResourceNotFoundException":
            return (
                f"Kinesis at {self.where} has no stream {self.stream}, or lost a shard of it; create it "
                "first, or correct the name or the region"
            )
        if "did not come from this stream" in said:
            return (
                f"stream {self.stream} was deleted and made again after the query had read it; start on a "
                "new checkpoint"
            )
        if code in ("AccessDeniedException", "AccessDenied"):
            reads = "DescribeStreamSummary, ListShards, GetShardIterator and GetRecords"
            allow = called if self._by_command else reads
            denied = f"stream {self.stream}: AWS denies kinesis:{called} to these credentials"
            return f"{denied}; allow kinesis:{allow}"
        if code in _LOG_IN:  # the service's own words may hold a key
            fix = "correct them" if self._by_command else "correct them where Spark's workers find them"
            return f"Kinesis at {self.where} does not accept the credentials ({code}); {fix}"
        return f"stream {self.stream}: Kinesis refuses {called} ({code}): {_one_line(said)}"

    def _unusable(self, error: Exception) -> str:
        """Say in one line what boto3 lacks."""
        kind = type(error).__name__
        if kind == "NoRegionError":
            given = "--region eu-central-1" if self._by_command else "region='eu-central-1'"
            return f"no region for Kinesis; give {given}, or set AWS_DEFAULT_REGION"
        if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
            here, when = (
                ("", "") if self._by_command else (" where Spark's workers run", " before Spark starts")
            )
            return (
                f"no AWS credentials{here}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY{when}, or use "
                "~/.aws or the machine's role"
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
