"""What a batch reads, kept by a sink beside the batch's rows: to know the batch again, and to plan it again.

Spark knows a batch by its number alone. Where its plan is lost, by a file that is cut off, a power cut or a
checkpoint from a backup, Spark plans a batch of the same number anew, with what the sources hold by then. A
sink that knows only numbers takes it for the one that it has, and loses its rows. So a sink with a ledger
keeps each batch's plan as a text (`plan_of`). It compares it when a number comes again (`same`), and `start`
puts it back into a checkpoint that has lost it (`put_back`): the batch then comes with the rows that it had.
"""

from __future__ import annotations

import base64
import json
import logging
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from sparkstream_kit import _dry_run
from sparkstream_kit._spark.plan import inputs_of
from sparkstream_kit.checkpoints import logs
from sparkstream_kit.checkpoints.drain import END
from sparkstream_kit.checkpoints.logs import Input, file_logs, inputs, log_text
from sparkstream_kit.checkpoints.moved import Move, bases, renamed
from sparkstream_kit.checkpoints.rewind import set_aside
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.place import Place

    _Plan = dict[str, Any]

__all__ = ["ends_input", "folders_read", "next_batch", "plan_of", "put_back", "same"]

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
    with logs.of_batch(location, batch) as root:
        return _packed(_read(root, batch, folders))


def _read(root: Path, batch: int, folders: Mapping[str, str]) -> _Plan:
    file = root / "offsets" / str(batch)
    plan, before = logs.plan(file), logs.plan(file.with_name(str(batch - 1))) if batch else None
    begins = file_logs(root, before) if before else {}
    former = dict(zip(before.names, before.offsets, strict=True)) if before else {}
    sources = zip(plan.files, plan.names, plan.offsets, strict=True)
    files = {}
    for log, last in file_logs(root, plan).items():
        first = begins.get(log, -1)
        files[log.name] = {
            "folder": folders.get(log.name),
            "files": inputs(log, after=first, until=last),
            "compact": [n for n, each in logs.numbered(log).items() if each.suffix and first < n <= last],
        }
    return {
        "offsets": "\n".join(logs.versioned(file, "v1", "v2")),
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
    spark: SparkSession, location: Place, batch: int, plan: str, folders: Mapping[str, str], where: str
) -> None:
    """Give a checkpoint the plan of its next batch as a sink keeps it, if it has lost it or has another one.

    What the checkpoint has instead, such as the files that a lost batch's successor would have read, is set
    aside as by a rewind. Those files are found again, and read by the batch after it.

    Args:
        spark: the session.
        location: the checkpoint; no query runs on it.
        batch: the batch after the last committed one.
        plan: what `plan_of` has said of it when its rows were written.
        folders: from `folders_read`.
        where: the sink's target, for messages.

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
    if _dry_run.making():
        with logs.at_hand(spark, location) as root:
            if location.folder is not None:
                set_aside(root, batch)
            _note(there, root, batch, kept, folders)
    _log.warning("%s; it is put back, so that the batch comes again with the same rows", lacks)


def _note(there: Place, root: Path, batch: int, plan: _Plan, folders: Mapping[str, str]) -> None:
    """Write the entries of the files' logs, and then the plan, which makes them count."""
    for name, log in plan["logs"].items():
        found = _where_they_are(log, folders.get(name))
        for entry in sorted({each.entry for each in found}):
            new = [each for each in found if each.entry == entry]
            if entry in log["compact"]:  # it holds all that came before, too
                earlier = inputs(root / "sources" / name, until=entry - 1)
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
    move = Move(Path(), Path(log["folder"]), Path(now))
    return [each._replace(uri=renamed(each.uri, move)) for each in log["files"]]
