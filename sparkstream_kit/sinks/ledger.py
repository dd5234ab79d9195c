"""The contract of sinks with a ledger: which batch may be written next, free of any system.

A sink that writes exactly once keeps a ledger beside its rows: of each query the last batch, by its number
and by its plan, written in one step with the rows of that batch, or after them. A `Store` reads it in one
system; `Ledger` decides; `open_target` is the way of every such sink from a start to its batches.

Spark knows a batch by its number alone. Where its plan is lost, by a file that is cut off, a power cut or a
checkpoint from a backup, Spark plans a batch of the same number anew, with what the sources hold by then. A
sink that knows only numbers takes it for the one that it has, and loses its rows. So a sink with a ledger
keeps each batch's plan as a text (`plan_of`). It compares it when a number comes again (`same`), and `start`
puts it back into a checkpoint that has lost it (`put_back`): the batch then comes with the rows that it had.

Each start of a query takes the next epoch in the target, and each batch is written only while its epoch is
the newest. So a driver that was thought dead and wakes up, on whatever machine, is refused by the target.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import shlex
import socket
import uuid
import zlib
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from sparkstream_kit._spark.batch import checkpoint_of_batch, id_in_checkpoint, id_of_batch
from sparkstream_kit._spark.plan import inputs_of
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.logs import KIT, PINS, Input, Logs, at_hand, log_text, of_batch, versioned
from sparkstream_kit.checkpoints.moved import Move, bases, renamed
from sparkstream_kit.checkpoints.rewind import set_aside
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame

    from sparkstream_kit._spark.batch import Write
    from sparkstream_kit._spark.place import Place
    from sparkstream_kit.sinks.base import Opening

    _Plan = dict[str, Any]


def pinned(location: Place, batch_id: int, what: str, choose: Callable[[], str]) -> str:
    """Return the version of `what` that belongs to a batch: the one that it had when it first came.

    The version is on the disk before anything is made with it. Those of batches whose commits Spark has
    removed are removed, too, and a rewind takes away those of the batches that Spark plans anew.

    Args:
        location: the query's checkpoint.
        batch_id: Spark's number of the batch.
        what: the thing that has versions, such as "model /models/spam".
        choose: gives the version to take for a batch that comes for the first time.

    Raises:
        InvalidInputError: the checkpoint is on a Spark Connect server elsewhere, or the file of the batch is
            damaged.
    """
    there = _checkpoint(location, what)
    found = _versions(there, batch_id) or {}
    if what not in found:
        found[what] = choose()
        there.write(f"{PINS}/{batch_id}", json.dumps(found))
        oldest = first_kept(location)
        for batch in there.entries(PINS):
            if batch < oldest:
                there.remove(f"{PINS}/{batch}")
    return found[what]


def _checkpoint(location: Place, what: str) -> Place:
    if not location.is_in_reach:
        raise _refusal(location, what)
    return location


def _refusal(location: Place, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what}: its version for each batch is kept beside the checkpoint, and checkpoint {location} is "
        "not on a local path; give a local one, or use a fixed version (models.score, joins.with_table)"
    )


def folder_for(location: Place, what: str, name: str) -> Path:
    """Return a folder of the kit's in a checkpoint.

    Raises:
        InvalidInputError: the checkpoint is not on a local path.
    """
    if location.folder is None:
        raise _refusal(location, what)
    return location.folder / KIT / name


def first_kept(location: Place) -> int:
    """Return the oldest batch whose commit is in a checkpoint; no batch before it can come again."""
    return min(_checkpoint(location, "a checkpoint").entries("commits"), default=0)


def versions_in_use(location: Place, what: str) -> set[str]:
    """Return the versions of `what` that batches have, which may come again."""
    there = _checkpoint(location, what)
    return {(_versions(there, batch) or {}).get(what, "") for batch in there.entries(PINS)}


def _versions(there: Place, batch: int) -> dict[str, str] | None:
    try:
        text = there.read(f"{PINS}/{batch}")
        return None if text is None else dict(json.loads(text))
    except (OSError, TypeError, ValueError) as err:
        file = f"{there.folder or there}/{PINS}/{batch}"
        raise InvalidInputError(
            f"{file} is damaged, which says what batch {batch} was made with; put it back, or delete it, and "
            "the batch is made with what is current"
        ) from err


_log = logging.getLogger(__name__)


def folders_read(frame: DataFrame) -> dict[str, str]:
    """Return the folder that each file source of a query reads, by the name of the source's log."""
    found = bases(frame.sparkSession, inputs_of(frame))
    return {name: str(path) for name, path in found.items()}


def plan_of(location: Place | None, batch: int, folders: Mapping[str, str]) -> str | None:
    """Return what a planned batch reads, as a text.

    It holds what Spark's log says of the batch, the files that it reads with their times, and where each
    other source begins and ends.

    Args:
        location: the query's checkpoint.
        batch: the batch's number.
        folders: from `folders_read`; a file is known by its name below the folder of its source, so that it
            is the same file when the folder has moved.

    Returns:
        The text; None without a checkpoint, or where only a Spark Connect server elsewhere reaches it.

    Raises:
        DamagedError: a log of the checkpoint that the batch needs cannot be read.
    """
    if location is None or not location.is_in_reach:
        return None
    with of_batch(location, batch) as logs:
        return _packed(_read(logs, batch, folders))


def _read(logs: Logs, batch: int, folders: Mapping[str, str]) -> _Plan:
    plan, before = logs.plan(batch), logs.plan(batch - 1) if batch else None
    begins = logs.read_by(before)
    former = dict(zip(before.names, before.offsets, strict=True)) if before else {}
    sources = zip(plan.files, plan.names, plan.offsets, strict=True)
    files = {}
    for log, last in logs.read_by(plan).items():
        first, entries = begins.get(log, -1), logs.entries(f"sources/{log}")
        files[log] = {
            "folder": folders.get(log),
            "files": logs.inputs(log, after=first, until=last),
            "compact": [n for n, each in entries.items() if each.suffix and first < n <= last],
        }
    return {
        "offsets": "\n".join(versioned(logs.root / "offsets" / str(batch), "v1", "v2")),
        "watermark": plan.watermark,
        "others": [[former.get(name), end] for files, name, end in sources if files is None],
        "logs": files,
    }


def _packed(plan: _Plan) -> str:
    return base64.b64encode(zlib.compress(json.dumps(plan).encode())).decode()


def _unpacked(text: str) -> _Plan:
    try:
        plan = json.loads(zlib.decompress(base64.b64decode(text)))
        for log in plan["logs"].values():
            log["files"] = [Input(*each) for each in log["files"]]
        return dict(plan)
    except (ValueError, TypeError, LookupError, AttributeError, zlib.error) as err:
        raise InvalidInputError(
            "the plan that a sink keeps of its last batch is damaged; restore the sink from a backup, or "
            "start anew with another target and another checkpoint"
        ) from err


def same(one: str, other: str) -> bool:
    """Say whether two plans read the same: the same files, from and to the same offsets, at one watermark.

    Not compared are the settings and the clock that Spark notes with each plan, and the numbers of the
    entries by which a file source finds its files.
    """
    plans = [_unpacked(text) for text in (one, other)]
    relative = all(log["folder"] for plan in plans for log in plan["logs"].values())
    return _reads(plans[0], relative=relative) == _reads(plans[1], relative=relative)


def _reads(plan: _Plan, *, relative: bool) -> list[Any]:
    offsets = [[_parsed(text) for text in ends] for ends in plan["others"]]
    files = [
        sorted((_name(each, log["folder"] if relative else None), each.time) for each in log["files"])
        for log in plan["logs"].values()
    ]
    return [plan["watermark"], offsets, files]


def _parsed(offset: str | None) -> Any:
    """Return an offset as it is compared: JSON without the order of its keys."""
    return json.loads(offset) if offset and offset.startswith(("{", "[")) else offset


def _name(file: Input, above: str | None) -> str:
    """Return a file's name below its source's folder."""
    return file.uri if above is None else unquote(urlsplit(file.uri).path).removeprefix(above.rstrip("/"))


def ends_input(plan: str) -> bool:
    """Say whether a plan is that of the batch with which `run(…, drain=True)` ended the input."""
    return bool(_unpacked(plan)["watermark"] >= END)


def next_batch(location: Place | None) -> int | None:
    """Return the batch after the last committed one; None where there is no checkpoint to look into."""
    if location is None or not location.is_in_reach:
        return None
    return max(location.entries("commits"), default=-1) + 1


def put_back(
    location: Place,
    batch: int,
    plan: str,
    folders: Mapping[str, str],
    where: str,
    *,
    makes: bool,
) -> None:
    """Give a checkpoint the plan of its next batch as a sink keeps it, if it has lost it or has another one.

    What the checkpoint has instead, such as the files that a lost batch's successor would have read, is set
    aside as by a rewind. Those files are found again, and read by the batch after it.

    Args:
        location: the checkpoint; no query runs on it.
        batch: the batch after the last committed one.
        plan: what `plan_of` has said of it when its rows were written.
        folders: from `folders_read`.
        where: the sink's target, for messages.
        makes: change the checkpoint; else only say what would be done.

    Raises:
        InvalidInputError: a file that the batch reads has gone, or the checkpoint has another plan and is not
            on a local path.
    """
    there, kept = location, _unpacked(plan)
    if kept["watermark"] >= END:  # the input goes on: the ledger refuses the batch, and says what to do
        return
    planned = str(batch) in there.names("offsets")
    if planned and same(plan, plan_of(location, batch, folders) or plan):
        return
    gone = [
        file
        for name, log in kept["logs"].items()
        for file in _where_they_are(log, folders.get(name))
        if file.gone
    ]
    lacks = f"checkpoint {location} has {'another' if planned else 'lost the'} plan of batch {batch}, whose "
    lacks += f"rows {where} has"
    if gone:
        raise InvalidInputError(
            f"{lacks}; to put the plan back the files that it reads are needed, and {gone[0].path} has "
            "gone; restore it first"
        )
    if planned and location.folder is None:
        raise InvalidInputError(
            f"{lacks}; copy the checkpoint to this machine (hdfs dfs -get), run sparkstream checkpoint "
            f"rewind COPY --to {batch - 1} --apply, remove COPY/offsets/{batch}, and put the copy back"
        )
    if makes:
        with at_hand(location) as logs:
            if location.folder is not None:
                set_aside(logs, batch)
            _note(there, logs, batch, kept, folders)
    _log.warning("%s; it is put back, so that the replayed batch has the same rows", lacks)


def _note(there: Place, logs: Logs, batch: int, plan: _Plan, folders: Mapping[str, str]) -> None:
    """Write the entries of the files' logs, and then the plan, which makes them count."""
    for name, log in plan["logs"].items():
        found = _where_they_are(log, folders.get(name))
        for entry in sorted({each.entry for each in found}):
            new = [each for each in found if each.entry == entry]
            if entry in log["compact"]:  # it holds all that came before, too
                earlier = Logs(logs.root).inputs(name, until=entry - 1)
                _replace(there, f"sources/{name}", f"{entry}.compact", log_text([*earlier, *new]))
            else:
                _replace(there, f"sources/{name}", str(entry), log_text(new))
    _replace(there, "offsets", str(batch), plan["offsets"])


def _replace(there: Place, log: str, name: str, text: str) -> None:
    there.remove(f"{log}/.{name}.crc")  # first: a checksum that does not fit is damage, and none is not
    there.write(f"{log}/{name}", text)


def _where_they_are(log: dict[str, Any], now: str | None) -> list[Input]:
    """Return the files of a plan, by their new names where their folder has moved."""
    if now is None or log["folder"] in (None, now):
        return list(log["files"])
    move = Move("", Path(log["folder"]), Path(now))
    return [each._replace(uri=renamed(each.uri, move)) for each in log["files"]]


@dataclass(frozen=True)
class Batch:
    """A batch of a query, as a ledger knows it.

    Attributes:
        query: Spark's id of the query.
        number: Spark's number of the batch.
        plan: what the batch reads (see `plan_of`); None where that cannot be had, and then only the number
            counts.
        checkpoint: the query's checkpoint, for messages.
        driver: the start of the query that writes it, from `this_driver`.
    """

    query: str
    number: int
    plan: str | None = None
    checkpoint: str = "CHECKPOINT"
    driver: str = ""


class Epoch(NamedTuple):
    """The newest start of a query, as a target knows it.

    Attributes:
        number: 1 for the first, and one more for each after it.
        driver: who has started it, from `this_driver`.
    """

    number: int
    driver: str

    def __str__(self) -> str:
        """Return it for messages."""
        return f"epoch {self.number}, {self.driver}"


def this_driver() -> str:
    """Return what tells this start of a query from every other one."""
    since = datetime.now().astimezone().isoformat(" ")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"


class Store(Protocol):
    """A ledger in one system."""

    def last_batch(self, query_id: str | None) -> int | None:
        """Return the last batch that a query has written; None before its first, less than 0 within it."""

    def last_plan(self, query_id: str) -> str | None:
        """Return the plan of that batch; None where it was not kept."""

    def epoch(self, query_id: str) -> Epoch | None:
        """Return the newest start of a query; None before the first that has a checkpoint to go on from."""

    def any_query(self) -> tuple[str, int] | None:
        """Return a query that has written to the target, and its last batch."""

    def has_rows(self) -> bool:
        """Say whether the target has rows, whoever has written them."""

    def set_back(self, query_id: str, batch_id: int) -> str:
        """Return what a user does to make this the query's last batch, such as `run UPDATE …`."""


@dataclass(frozen=True)
class Ledger:
    """The rules for one target of a sink.

    Attributes:
        store: the ledger itself.
        name: the target for messages, such as `table totals`.
        where: the same with its database.
        how: `append`, `upsert` or `replace`.
        take_over: write although another query has written there, or earlier batches are missing; None of a
            sink that has no such argument.
        what: what a target is called in its system.
        removes: the sink removes the rows of batches that it writes again by itself.
    """

    store: Store
    name: str
    where: str
    how: str
    take_over: bool | None
    what: str = "table"
    removes: bool = False

    def check_owner(self, query_id: str | None) -> None:
        """Refuse a target with rows that this query has not written.

        Raises:
            InvalidInputError: another query has written to it, or somebody else.
        """
        if self.take_over or self.store.last_batch(query_id) is not None:
            return
        does = {"upsert": "overwrite and add to", "replace": "replace"}.get(self.how, "add to")
        accept = f"use another {self.what}, or "
        accept += "remove this one" if self.take_over is None else f"give take_over=True to {does} its rows"
        if other := self.store.any_query():
            raise InvalidInputError(
                f"{self.where} was written by another query ({other[0]}, up to its batch {other[1]}); start "
                f"on that query's checkpoint, {accept}"
            )
        if self.store.has_rows():
            raise InvalidInputError(f"{self.where} has rows that no query of the kit has written; {accept}")

    def check_lost(self, query_id: str | None) -> None:
        """Refuse to make a target anew that has gone with rows of this query.

        Raises:
            InvalidInputError: the query has written to it, and would not write those rows again.
        """
        last = self._last_whole(query_id)
        if last is not None and self.how != "replace":
            raise InvalidInputError(
                f"{self.where} is gone, but this query has written its batches up to {last} to it; restore "
                f"the {self.what}, or start with another checkpoint folder"
            )

    def check_epoch(self, batch: Batch) -> None:
        """Refuse a batch of a driver that is not the newest one of its query.

        Raises:
            InvalidInputError: the query was started again since.
        """
        epoch = self.store.epoch(batch.query)
        if epoch is not None and epoch.driver != batch.driver:
            raise InvalidInputError(
                f"another driver has started to write to {self.where} ({epoch}); this one ends"
            )

    def is_written(self, batch: Batch) -> bool:
        """Say whether a batch is in the target already; refuse one that may be neither skipped nor written.

        Raises:
            InvalidInputError: the query was started again elsewhere, the checkpoint was set back, the batch
                has other rows than it had, or the target lacks batches of the query.
        """
        self.check_epoch(batch)
        if self.how == "replace":  # each batch is the whole result: nothing is missing, nothing comes twice
            return False
        last = self._last_whole(batch.query)
        if last is None:
            if batch.number > 0 and not self.take_over:
                raise InvalidInputError(
                    f"batch {batch.number} comes, but {self.where} has no batch of this query: it has "
                    f"written them elsewhere, or the {self.what} was put back from an older backup; start "
                    "with a new checkpoint folder to write all rows, or "
                    f"{self._take_over(batch)} to go on without the earlier ones"
                )
            return False
        if batch.number > last + 1:
            raise InvalidInputError(
                f"batch {batch.number} comes, but {self.where} has this query's batches up to {last} only, "
                "as after a restore from an older backup; to write the missing ones, run sparkstream "
                f"checkpoint rewind {shlex.quote(batch.checkpoint)} --to {last}; to go on without their "
                "rows, " + self.store.set_back(batch.query, batch.number - 1)
            )
        if batch.number < last:
            raise self._came_again(batch, last, f"{self.name} has all batches up to {last}")
        if batch.number == last:
            kept = self.store.last_plan(batch.query)
            if kept and batch.plan and not same(kept, batch.plan):
                raise self._other_rows(batch, kept)
        return batch.number == last

    def _take_over(self, batch: Batch) -> str:
        if self.take_over is None:
            return self.store.set_back(batch.query, batch.number - 1)
        return "give take_over=True"

    def _came_again(self, batch: Batch, last: int, but: str) -> InvalidInputError:
        adds = self.how == "append" and not self.removes
        remove = f"remove their rows from the {self.what}, then " if adds else ""
        these = f"batches {batch.number} to {last}" if last > batch.number else f"batch {last}"
        return InvalidInputError(
            f"batch {batch.number} comes again, but {but}: the checkpoint was rewound or restored; to write "
            f"{these} again, {remove}{self.store.set_back(batch.query, batch.number - 1)}"
        )

    def _other_rows(self, batch: Batch, kept: str) -> InvalidInputError:
        """Return the refusal of a batch that was planned anew: to skip it would lose rows."""
        if ends_input(kept):
            but = f"{self.name} has the batch that ended the input under this number"
            return self._came_again(batch, batch.number, but)
        return InvalidInputError(
            f"batch {batch.number} comes with other rows than those that {self.where} has of it: its plan in "
            f"checkpoint {batch.checkpoint} was lost, and Spark made another one; start the query with "
            "sparkstream_kit.start, which puts the plan back that is kept with the rows"
        )

    def plan_of(self, query_id: str | None, batch_id: int | None) -> str | None:
        """Return the plan of a batch, for a checkpoint that may have lost it, if it is the query's last."""
        if query_id is None or batch_id is None or self.how == "replace":
            return None
        return self.store.last_plan(query_id) if self._last_whole(query_id) == batch_id else None

    def _last_whole(self, query_id: str | None) -> int | None:
        """Return the last batch that is there as a whole."""
        last = self.store.last_batch(query_id)
        return None if last is None or last < 0 else last


def open_target(
    prepare: Callable[[DataFrame, str | None, int | None, bool], str | None],
    take: Callable[[str, str], None],
    write: Callable[[Batch, DataFrame], None],
    where: str,
    frame: DataFrame,
    location: Place | None,
    opening: Opening,
) -> Write:
    """Open a sink with a ledger; for `Sink.open`.

    A checkpoint that has lost the plan of its next batch, although the target has the batch, gets it back.

    Args:
        prepare: is called when the query starts, with its rows, its id (None before the first start), its
            next batch, and whether it may make what is missing. It checks the target, and returns
            `Ledger.plan_of` that batch.
        take: is called last, with the query's id and `this_driver`: it makes this the newest start of the
            query, in one step. At the query's first start there is no id yet: its first batch does so, unless
            a second start has come before it.
        write: is called with each batch and its rows, on Spark Connect in another process.
        where: the target, for messages.
        frame: the query's rows, or its first batch if it was started without `start`.
        location: the query's checkpoint.
        opening: of all sinks of the query.

    Raises:
        InvalidInputError: two columns of the rows have one name; what `prepare` and `take` raise; or a plan
            that cannot be put back.
    """
    known, folders, driver = None, {}, this_driver()
    refuse_twice("column", frame.columns)
    if not frame.isStreaming:
        query: str | None = id_of_batch(frame, checkpoint_of_batch(frame))
    elif location is None:
        query = known = str(uuid.uuid4())  # a new query at each start
    else:
        query, folders = id_in_checkpoint(location), folders_read(frame)
    following = next_batch(location)
    plan = prepare(frame, query, following, opening.makes)
    if plan is not None and location is not None and following is not None:
        put_back(location, following, plan, folders, where, makes=opening.makes)
    if query is not None and known is None:
        opening.at_last(partial(take, query, driver))
    return partial(_write, write, location, known, folders, driver)


def _write(
    write: Callable[[Batch, DataFrame], None],
    location: Place | None,
    known: str | None,
    folders: Mapping[str, str],
    driver: str,
    rows: DataFrame,
    number: int,
) -> None:
    location = location or checkpoint_of_batch(rows)
    plan = plan_of(location, number, folders)
    checkpoint = Batch.checkpoint if location is None else location.text
    write(Batch(known or id_of_batch(rows, location), number, plan, checkpoint, driver), rows)


def pass_over(rows: DataFrame, batch: Batch, where: str) -> None:
    """Read a batch that the target has already: a stateful query fails when its batch is not read."""
    _log.info("batch %d is in %s already", batch.number, where)
    rows.write.format("noop").mode("append").save()


def refuse_twice(what: str, names: list[str]) -> None:
    """Refuse columns or fields of one name, which a join by an expression gives.

    Examples:
        >>> refuse_twice("column", ["id", "amount", "id"])
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: column id appears twice; rename or drop one
    """
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"{what} {name} appears twice; rename or drop one")
