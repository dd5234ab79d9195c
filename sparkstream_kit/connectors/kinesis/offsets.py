"""Offsets of a Kinesis stream, and which of its shards are read next: functions of plain values.

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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Found",
    "Offset",
    "Range",
    "Shard",
    "beginning",
    "gone",
    "made_again",
    "moved",
    "ranges",
    "readable",
    "seen_until",
]

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

    Example:
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

    Spark does not keep the start of a query's first batch. If that batch comes again, another start of it may
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
