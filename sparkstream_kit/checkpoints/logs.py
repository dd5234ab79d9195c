"""Read and write the files of a checkpoint as Spark 4 writes them, without Spark.

`Logs` lists and caches the logs of one checkpoint, `Plan` is the content of
`offsets/N`, and `Input` is a file that a file source has found. All other modules of
this package read checkpoints through this one. The files are on a local path; `at_hand`
and `of_batch` first copy those of a checkpoint on another file system.

metadata       {"id": the query's id}
offsets/N      the plan of batch N: "v1", a line about the query, then one line for each
               source, by position; in "v2" the line of a source begins with its name,
               or its position
commits/N      batch N is committed: "v1" (or "v2", with the ids of the state's files,
               or "v3", with the name of the sink), then one line
sources/I/     the log of source I (its number or its name); a file source logs its files there
state/         see `check`
sparkstream-kit/   the kit's own files, which Spark ignores

sources/I/K            the files that entry K added to the log of file source I, one line
                       of JSON for each
sources/I/K.compact    the same, and all entries before K; Spark removes the files of
                       those entries once it no longer keeps the batches that need them
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import unquote

from sparkstream_kit._internal import file_system
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sparkstream_kit._internal.spark.place import Place


_T = TypeVar("_T")

KIT = "sparkstream-kit"
# Holds the path of the checkpoint on which a changed query continues
CONTINUED = f"{KIT}/continued"
# One file for each batch: the version of a model or table that the batch used
PINS = f"{KIT}/pins"
MISSING = "is missing"  # what is wrong with a file that does not exist
# Seconds between the time in a plan and that of its file, unless it was copied
_WRITTEN_WITHIN = 60.0


class DamagedError(InvalidInputError):
    """A file of a checkpoint is missing, cut off or changed.

    Attributes:
        file: the path of the file.
        what: the problem, as a phrase that follows the file's name, such as "is
            missing".
        fix: how to repair the file; empty if there is no better way than a backup or a
            rewind.
    """

    def __init__(
        self, file: Path, what: str = "is cut off or changed", fix: str = ""
    ) -> None:
        super().__init__(f"{file} {what}")
        self.file = file
        self.what = what
        self.fix = fix


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn any error of the block, which parses a file, into a DamagedError that names it."""
    try:
        yield
    except InvalidInputError:
        raise
    except FileNotFoundError:
        raise DamagedError(file, MISSING) from None
    except OSError as err:
        raise DamagedError(file, f"cannot be read ({err.strerror})") from None
    except Exception as err:
        # a parser may raise anything for a file that is cut off or changed
        raise DamagedError(file) from err


class Plan(NamedTuple):
    """The plan of a batch: the content of `offsets/N`.

    `offsets`, `files` and `names` have one item for each source, in the same order.

    Attributes:
        conf: the Spark settings that the batch was planned with.
        offsets: the offset up to which the batch reads each source, as Spark's text;
            None for a source that has given no row yet.
        files: the last entry of a file source's log that the batch reads; None for any
            other source.
        watermark: the watermark in milliseconds since 1970; 0 if there is none, or none
            yet.
        names: the name of each source, or its position in the query as text ("0", "1").
        time: the time at which it was planned, in milliseconds since 1970:
            `current_timestamp` in the batch.
    """

    conf: dict[str, Any]
    offsets: tuple[str | None, ...]
    files: tuple[int | None, ...]
    watermark: int
    names: tuple[str, ...]
    time: int


def local(path: str | Path) -> Path | None:
    """Return a checkpoint's local path, without `file:`; None if it is on another file system."""
    text = file_system.plain(str(path))
    return None if text is None else Path(text)


def numbered(folder: Path) -> dict[int, Path]:
    """Return the files in the folder of one of Spark's logs, by number and in order.

    The result is empty if the folder does not exist. If an entry K has a file
    `K.compact`, that file counts.
    """
    names: list[str] = []
    # Spark may be removing a temporary checkpoint
    with suppress(FileNotFoundError, NotADirectoryError):
        names = os.listdir(folder)  # noqa: PTH208 - one call, as Spark may add and remove files meanwhile
    return {
        number: folder / name for number, name in file_system.log_entries(names).items()
    }


def _text(file: Path) -> str:
    with reading(file):
        text = file.read_bytes().decode()
    if not text.strip():
        raise DamagedError(file, "is empty")
    return text


def versioned(file: Path, *versions: str) -> list[str]:
    """Return the lines of a log file; the first line is the version of its format.

    Args:
        file: the file.
        *versions: the versions that the caller can read, such as "v1".

    Raises:
        DamagedError: the file is missing, empty, cut off or changed.
        InvalidInputError: the file has another version, which a newer Spark may have
            written.
    """
    found = _text(file).split("\n")
    version = found[0]
    if re.fullmatch(r"v\d+", version) and version not in versions:
        raise InvalidInputError(
            f"{file} has format {version}, which this version of the kit does not know;"
            " restore it from a backup, or use a newer kit"
        )
    if version not in versions or len(found) == 1:
        raise DamagedError(file)
    return found


def query_id(file: Path) -> str:
    """Return the id of the checkpoint's query from the file `metadata`.

    Raises:
        DamagedError: the file cannot be read, or holds no id.
    """
    with reading(file):
        found = file_system.query_id(_text(file))
    if found is None:
        raise DamagedError(file, "does not hold a query's id")
    return found


def plan(file: Path) -> Plan:
    """Return the plan in a file `offsets/N`.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    with reading(file):
        return plan_in("\n".join(versioned(file, "v1", "v2")))


def plan_in(text: str) -> Plan:
    """Return the plan in the text of `offsets/N`.

    Raises:
        Exception: any error of Python's parsers, if the text is not one that Spark
            wrote.
    """
    version, query, first, *more = text.split("\n")
    texts = [first, *more]
    said = json.loads(query)
    each = (
        list(enumerate(texts))
        if version == "v1"
        else sorted(_by_name(text) for text in texts)
    )
    offsets = tuple(None if text == "-" else text for _, text in each)
    files = tuple(_files_until(offset) for offset in offsets)
    names = tuple(str(name) for name, _ in each)
    watermark, time = (
        int(said.get(f"batch{name}Ms", 0)) for name in ("Watermark", "Timestamp")
    )
    return Plan(dict(said.get("conf", {})), offsets, files, watermark, names, time)


def _by_name(line: str) -> tuple[int | str, str]:
    """Split a source's line in format v2 into the source's name or position, and its offset."""
    name, offset = line.split(":", 1)
    return int(name) if name.isdecimal() else name, offset


def _files_until(offset: str | None) -> int | None:
    """Return the log's entry that a file source's offset names; None for other sources."""
    value = json.loads(offset) if offset and offset.startswith(("{", "[")) else None
    return (
        int(value["logOffset"])
        if isinstance(value, dict) and set(value) == {"logOffset"}
        else None
    )


def commit(file: Path) -> dict[str, Any]:
    """Return the content of a file `commits/N`.

    Returns:
        Spark's JSON. `nextBatchWatermarkMs` is in milliseconds since 1970, and 0 if
        Spark wrote none.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    with reading(file):
        found: dict[str, Any] = json.loads(versioned(file, "v1", "v2", "v3")[1])
        return found | {
            "nextBatchWatermarkMs": int(found.get("nextBatchWatermarkMs", 0))
        }


def replace(file: Path, text: str | Iterable[str | bytes]) -> None:
    """Replace one of Spark's files atomically by a text or its parts, without a checksum file."""
    # Remove the checksum first: after a crash in between, a missing checksum is fine, a
    # wrong one is damage.
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    file_system.replace(file, [text] if isinstance(text, str) else text)


def command(name: str, root: Path) -> str:
    """Return the shell command for an action on a checkpoint, for the user to copy.

    Args:
        name: the action, such as "rewind".
        root: the folder of the checkpoint.

    Examples:
        >>> command("rewind", Path("my ckpt"))
        "sparkstream checkpoint rewind 'my ckpt'"
    """
    return f"sparkstream checkpoint {name} {shlex.quote(str(root))}"


_QUERY = f"{KIT}/query.json"


def _query(file: Path) -> dict[str, Any]:
    """Return the note of `write_note`.

    On a file system that is not local the note is a folder, in which the newest file
    counts.

    Raises:
        InvalidInputError: the file is not one that `write_note` wrote.
    """
    try:
        newest = max(
            file.glob("part-*"), key=lambda part: part.stat().st_mtime_ns, default=file
        )
        kept = dict(json.loads(newest.read_text("utf-8")))
        texts = (
            ("name", "mode", "fingerprint")
            if "name" in kept
            else ("mode", "fingerprint")
        )
        return kept | {name: "" + kept[name] for name in texts}
    except (OSError, TypeError, ValueError, LookupError) as err:
        raise InvalidInputError(
            f"checkpoint file {file} is damaged: not what the kit wrote; put it back,"
            " or delete it, and the query that starts next is taken for the one that"
            " wrote the checkpoint"
        ) from err


# A line of a file source's log as Spark writes it; a URI has no quote in it, so the
# JSON needs no parser.
_LINE = re.compile(r'\{"path":"([^"]*)","timestamp":(-?\d+),"batchId":(\d+)\}')


class Input(NamedTuple):
    """An input file that a file source has found.

    Attributes:
        entry: the entry of the source's log that added the file.
        time: the file's modification time when it was found, in milliseconds since
            1970.
        uri: the URI of the file, such as "file:///in/a%20b.csv".
    """

    entry: int
    time: int
    uri: str

    @property
    def path(self) -> str | None:
        """The local path of the file; None if the file is on another file system."""
        return (
            unquote(self.uri.removeprefix("file://"))
            if self.uri.startswith("file:///")
            else None
        )

    @property
    def gone(self) -> bool:
        """Whether this is a local file that no longer exists."""
        return self.path is not None and not os.path.exists(self.path)  # noqa: PTH110 - faster for many files

    @property
    def changed(self) -> bool:
        """Whether this is a local file with another modification time than when it was found."""
        return (
            self.path is not None
            and os.stat(self.path).st_mtime_ns // 1_000_000 != self.time  # noqa: PTH116
        )


def log_file(file: Path) -> list[Input]:
    """Return the input files that are listed in one file of a file source's log.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    with reading(file):
        return [*inputs_in(versioned(file, "v1")[1:])]


_END = 65_536  # bytes: what is read first of the end of a log, some 500 input files


def log_after(file: Path, entry: int) -> list[Input]:
    """Return the input files in one file of a log that were added after an entry of the log.

    The file is read from its end, as far as needed: a compacted one lists all files
    that the source has read.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    with reading(file), file.open("rb") as log:
        size = file.stat().st_size
        length = _END
        is_known = log.readline() == b"v1\n"
        while is_known and length < size:
            log.seek(size - length)
            # The first line may be cut off.
            found = [*inputs_in(log.read().decode(errors="replace").split("\n")[1:])]
            if found and found[0].entry <= entry:
                break
            length *= 4
        else:
            found = log_file(file)
    return [each for each in found if each.entry > entry]


def log_lines(file: Path) -> Iterator[bytes]:
    """Yield the lines of one file of a file source's log, without the line of its version.

    Raises:
        DamagedError: the file cannot be read.
    """
    with reading(file), file.open("rb") as lines:
        next(lines)
        for line in lines:
            yield line.rstrip(b"\n")


def inputs_in(lines: Iterable[str]) -> Iterator[Input]:
    """Yield the input files in the lines of a file source's log, without the line of its version.

    Raises:
        TypeError: a line is not one that Spark wrote.
    """
    for match in map(_LINE.fullmatch, filter(None, lines)):
        yield Input(int(match[3]), int(match[2]), match[1])  # type: ignore[index]


def log_text(found: Iterable[Input]) -> str:
    """Return the text of a file of a file source's log that lists the given input files."""
    texts = [
        f'{{"path":"{each.uri}","timestamp":{each.time},"batchId":{each.entry}}}'
        for each in found
    ]
    return "\n".join(["v1", *texts])


_PATH = b'{"path":"'


class Logs:
    """The logs of a checkpoint. Each log is listed once, and each file is read once and cached.

    Call `again` to see the files that Spark has written since.

    Attributes:
        root: the folder of the checkpoint, or of a local copy.
        place: the checkpoint itself, which may be on another file system; set by
            `at_hand`, else None.
    """

    def __init__(self, root: Path, place: Place | None = None) -> None:
        self.place = cast("Place", place)
        self.root = root
        self._listed: dict[str, dict[int, Path]] = {}
        self._read: dict[tuple[Callable[[Path], Any], Path], Any] = {}

    def again(self) -> Logs:
        """Forget the listings, to see new files; files stay cached, as Spark never changes one."""
        self._listed.clear()
        return self

    def entries(self, log: str) -> dict[int, Path]:
        """Return the files of a log, such as `offsets` or `sources/0`, by number and in order."""
        if log not in self._listed:
            self._listed[log] = numbered(self.root / log)
        return self._listed[log]

    def read(self, reader: Callable[[Path], _T], file: Path) -> _T:
        """Return the result of a function that reads a file, from the cache if possible.

        Args:
            reader: a function such as `plan`, `commit` or `log_file`.
            file: the file.

        Raises:
            DamagedError, InvalidInputError: as for `versioned`.
        """
        if (reader, file) not in self._read:
            self._read[reader, file] = reader(file)
        return cast("_T", self._read[reader, file])

    def replace(self, file: Path, text: str | Iterable[str | bytes]) -> None:
        """Replace one of Spark's files atomically, and drop it from the cache."""
        replace(file, text)
        self._listed.clear()
        self._read = {key: found for key, found in self._read.items() if key[1] != file}

    @property
    def planned(self) -> int:
        """The number of the last planned batch; -1 before the first."""
        return max(self.entries("offsets"), default=-1)

    @property
    def done(self) -> int:
        """The number of the last committed batch; -1 before the first."""
        return max(self.entries("commits"), default=-1)

    def plan(self, batch: int) -> Plan:
        """Return the plan of a batch; errors as of `read`."""
        return self.read(plan, self.root / "offsets" / str(batch))

    def commit(self, batch: int) -> dict[str, Any]:
        """Return the commit of a batch, as the function `commit` does; errors as of `read`."""
        return self.read(commit, self.root / "commits" / str(batch))

    def committed_at(self, batch: int) -> datetime | None:
        """Return the time of a commit, in UTC; None if unknown, as in a copy without times.

        Spark notes no such time, so it is the time of the file. A plan has its time in
        itself, by which a file is known that was written later.
        """
        commit = self.entries("commits").get(batch)
        planned = self.entries("offsets").get(batch)
        with suppress(DamagedError, FileNotFoundError):
            if commit is not None and planned is not None:
                later = planned.stat().st_mtime - self.plan(batch).time / 1000
                if abs(later) <= _WRITTEN_WITHIN:
                    return datetime.fromtimestamp(commit.stat().st_mtime, UTC)
        return None

    @property
    def last_plan(self) -> Plan | None:
        """The last plan that is not damaged; None if there is none."""
        for batch in reversed(self.entries("offsets")):
            with suppress(DamagedError):
                return self.plan(batch)
        return None

    @property
    def note(self) -> dict[str, Any] | None:
        """The note that `start` keeps about the query; None if there is none, as after plain Spark.

        It has the query's `name`, `mode`, `fingerprint`, `sinks` (what they do after a
        rewind), `targets` and `columns`, and if they apply its `sources` (names),
        `topics` (ids), and `begins` (the first batch of each target that the query got
        when it continued an earlier one). A query that took over with
        `allow_changed_query` does not count if Spark has not committed its first batch.

        Raises:
            InvalidInputError: the note is damaged.
        """
        file = self.root / _QUERY
        found = self.read(_query, file) if file.exists() else None
        # `before` has the last batch of the query before this one, and the note about
        # that query.
        batch, before = (found or {}).get("before") or (-2, None)
        return before if self.done <= batch < self.planned else found

    @property
    def noted(self) -> dict[str, Any]:
        """The note of `start`; empty if there is none, or if it is damaged."""
        with suppress(InvalidInputError):
            return self.note or {}
        return {}

    @property
    def sources(self) -> list[str]:
        """The folders in `sources/`, sorted: the number or name of each source with a log."""
        found: list[str] = []
        with suppress(FileNotFoundError, NotADirectoryError):  # as in `numbered`
            found = [
                folder.name
                for folder in (self.root / "sources").iterdir()
                if folder.is_dir()
            ]
        return sorted(found, key=lambda name: (len(name), name))

    def names(self, of: Plan) -> tuple[str, ...]:
        """Return the name of each source's log in the plan's order: the source's number or name.

        The position of a source in the plan is not always the number of its log: a
        DataFrame that is read twice, as in a join with itself, has two lines in the
        plan and one log.
        """
        there = [name for name in self.sources if self.is_of_files(name)]
        if all(
            name in there
            for name, last in zip(of.names, of.files, strict=True)
            if last is not None
        ):
            return of.names
        ends = {
            name: max(self.entries(f"sources/{name}"), default=-1) for name in there
        }
        by_number = {int(name): last for name, last in ends.items() if name.isdecimal()}
        # A log may have lost its last entries, so as a second try take every log as
        # complete.
        furthest = max((last for last in of.files if last is not None), default=-1)
        for reached in (by_number, dict.fromkeys(by_number, furthest)):
            for found in _shared(of, reached, ()):
                if set(by_number) <= set(found):
                    return tuple(map(str, found))
        return of.names

    def is_of_files(self, log: str) -> bool:
        """Return whether a log is that of a file source."""
        entries = list(self.entries(f"sources/{log}").values())
        # Another source writes one entry, at its start, and no more
        if len(entries) != 1:
            return True
        begins = b'v1\n{"path":'
        # A power cut may have left it short, empty or as zeros
        with entries[0].open("rb") as file:
            return begins.startswith(file.read(len(begins)).rstrip(b"\0"))

    def read_by(self, of: Plan) -> dict[str, int]:
        """Return for each file source the name of its log and the last entry that a plan reads."""
        return {
            log: last
            for log, last in zip(self.names(of), of.files, strict=True)
            if last is not None
        }

    @property
    def until_planned(self) -> dict[str, int]:
        """For each file source the name of its log and the last entry that the last plan reads."""
        return self.read_by(last) if (last := self.last_plan) else {}

    def until(self, batch: int) -> dict[str, int]:
        """Return for each file source the name of its log and the last entry that a batch has read.

        The result is empty for batch -1, before the first one.

        Raises:
            DamagedError, InvalidInputError: the plan of the batch cannot be read.
        """
        return self.read_by(self.plan(batch)) if batch >= 0 else {}

    def begun(self, log: str) -> str:
        """Return the offset, as text, at which a query began to read a source such as Kafka."""
        # The file begins with a zero byte and a version; the offset is its last line.
        return self.read(_text, self.root / "sources" / log / "0").rpartition("\n")[2]

    def files(self, log: str, until: int) -> list[Path]:
        """Return the files that together hold a file source's log up to an entry.

        They begin with the newest compacted file that is not after the entry, or with
        entry 0. A file that is missing is one of them, so that whoever reads them finds
        that.
        """
        folder = self.root / "sources" / log
        found = self.entries(f"sources/{log}")
        first = max(
            (
                number
                for number, file in found.items()
                if file.suffix and number <= until
            ),
            default=0,
        )
        return [
            found.get(number, folder / str(number))
            for number in range(first, until + 1)
        ]

    def inputs(
        self, log: str, after: int = -1, until: int | None = None
    ) -> list[Input]:
        """Return the input files that a file source found in a range of the entries of its log.

        Args:
            log: the number or name of the source.
            after: leave out this entry and those before it.
            until: the last entry of the range. Default: the last one of the log.

        Raises:
            DamagedError, InvalidInputError: as for `versioned`.
        """
        last = (
            max(self.entries(f"sources/{log}"), default=-1) if until is None else until
        )
        if last <= after:
            return []
        files = [file for file in self.files(log, last) if int(file.stem) > after]
        return [
            found
            for file in files
            for found in log_after(file, after)
            if found.entry <= last
        ]

    def folders(self, log: str, until: int) -> set[str]:
        """Return the URIs of the folders of the input files in a file source's log, up to an entry.

        Raises:
            DamagedError: a file is missing, or has a line that Spark did not write.
        """
        found: set[bytes] = set()
        for file in self.files(log, until):
            # Line by line, and without a pattern: the log may list a million files.
            found.update(line.rpartition(b"/")[0] for line in log_lines(file))
            if not all(each.startswith(_PATH) for each in found):
                raise DamagedError(file)
        return {each.removeprefix(_PATH).decode() for each in found}

    def pending(self, batch: int) -> list[Input]:
        """Return the files that file sources found and no batch up to a given one has read.

        A damaged log counts as empty.
        """
        found: list[Input] = []
        for log in self.until_planned:
            with suppress(DamagedError):
                found += self.inputs(log, self.until(batch).get(log, -1))
        return found


def _shared(
    of: Plan, reached: dict[int, int], found: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """Yield the possible assignments of logs, by number, to the sources of a plan in their order.

    A source has the next log, which must reach the source's offset, or it shares the
    log of an earlier source with the same offset.

    Args:
        of: the plan.
        reached: the last entry of each log, by its number.
        found: the logs of the first sources, which the recursion has assigned.
    """
    if len(found) == len(of.offsets):
        yield found
        return
    offset = of.offsets[len(found)]
    last = of.files[len(found)]
    equal = [
        log for log, other in zip(found, of.offsets, strict=False) if other == offset
    ]
    for log in dict.fromkeys((max(found, default=-1) + 1, *equal)):
        if log in equal or last is None or reached.get(log, -1) >= last:
            yield from _shared(of, reached, (*found, log))


def write_note(checkpoint: Place, query: dict[str, Any]) -> None:
    """Write the note about a checkpoint's query, which `Logs.note` reads at the next start."""
    # Elsewhere, and so in a copy from there, a folder: an object store may lose a file
    # that is replaced.
    is_file = (
        checkpoint.folder is not None and not (checkpoint.folder / _QUERY).is_dir()
    )
    checkpoint.write(
        _QUERY if is_file else f"{_QUERY}/part-{time.time_ns()}",
        json.dumps(query) + "\n",
    )


@contextmanager
def at_hand(checkpoint: Place) -> Iterator[Logs]:
    """Provide the logs of a checkpoint for the time of a block, which `start` needs.

    For a checkpoint that is not on this machine, its files without the state are copied
    to a temporary folder. An InvalidInputError of the block then names the checkpoint
    in place of the copy.

    Raises:
        InvalidInputError: the checkpoint cannot be copied.
    """
    if checkpoint.folder is not None:
        yield Logs(checkpoint.folder, checkpoint)
        return
    with tempfile.TemporaryDirectory(prefix="sparkstream-checkpoint-") as copy:
        try:
            for part in ("metadata", "offsets", "commits", "sources", _QUERY):
                checkpoint.bring(part, Path(copy))
        except OSError as err:
            cause = innermost_cause(err.__cause__ or err)
            raise file_system.unreached(cause)(
                f"checkpoint {checkpoint} cannot be read ({cause}); correct the path,"
                " or put the file back from a backup, or start anew on another"
                " checkpoint"
            ) from err
        try:
            yield Logs(Path(copy), checkpoint)
        except InvalidInputError as err:
            err.args = tuple(
                str(each).replace(copy, checkpoint.text) for each in err.args
            )
            raise


@contextmanager
def of_batch(checkpoint: Place, number: int) -> Iterator[Logs]:
    """Provide those parts of a checkpoint's logs that describe one batch, for the time of a block.

    A sink with a ledger needs them in every batch. For a checkpoint that is not on this
    machine, only the files that the batch needs are copied, one by one and without a
    Spark job.

    Args:
        checkpoint: the checkpoint.
        number: the number of the batch.
    """
    if checkpoint.folder is not None:
        yield Logs(checkpoint.folder)
        return
    with tempfile.TemporaryDirectory(prefix="sparkstream-checkpoint-") as made:
        root = Path(made)
        for each in range(max(number - 1, 0), number + 1):
            checkpoint.bring(f"offsets/{each}", root)
        for source in checkpoint.names("sources"):
            (root / "sources" / source).mkdir(parents=True)
            for name in checkpoint.names(f"sources/{source}"):
                (root / "sources" / source / name).touch()
            entries = list(checkpoint.entries(f"sources/{source}").values())
            if len(entries) == 1:  # which says of what kind the source is
                checkpoint.bring(f"sources/{source}/{entries[0]}", root)
        found = Logs(root)
        before = found.until(number - 1)
        for log, last in found.until(number).items():
            for entry, file in found.entries(f"sources/{log}").items():
                if before.get(log, -1) < entry <= last:
                    checkpoint.bring(f"sources/{log}/{file.name}", root)
        yield found
