"""Read and write the files of a checkpoint as Spark 4 writes them, without Spark.

`Logs` lists and caches the logs of one checkpoint, `BatchPlan` is the content of
`offsets/N`, and `InputFile` is a file that a file source has found. All other modules of
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


class BatchPlan(NamedTuple):
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
    lines = _text(file).split("\n")
    version = lines[0]
    if re.fullmatch(r"v\d+", version) and version not in versions:
        raise InvalidInputError(
            f"{file} has format {version}, which this version of the kit does not know;"
            " restore it from a backup, or use a newer kit"
        )
    if version not in versions or len(lines) == 1:
        raise DamagedError(file)
    return lines


def query_id(file: Path) -> str:
    """Return the id of the checkpoint's query from the file `metadata`.

    Raises:
        DamagedError: the file cannot be read, or holds no id.
    """
    with reading(file):
        identifier = file_system.query_id(_text(file))
    if identifier is None:
        raise DamagedError(file, "does not hold a query's id")
    return identifier


def plan(file: Path) -> BatchPlan:
    """Return the plan in a file `offsets/N`.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    with reading(file):
        return plan_in("\n".join(versioned(file, "v1", "v2")))


def plan_in(text: str) -> BatchPlan:
    """Return the plan in the text of `offsets/N`.

    Raises:
        Exception: any error of Python's parsers, if the text is not one that Spark
            wrote.
    """
    version, query, first, *other_lines = text.split("\n")
    lines = [first, *other_lines]
    of_query = json.loads(query)
    sources: list[tuple[int | str, str]]
    if version == "v1":
        sources = list(enumerate(lines))
    else:
        sources = sorted(_by_name(line) for line in lines)
    offsets = tuple(None if offset == "-" else offset for _, offset in sources)
    return BatchPlan(
        conf=dict(of_query.get("conf", {})),
        offsets=offsets,
        files=tuple(_files_until(offset) for offset in offsets),
        watermark=int(of_query.get("batchWatermarkMs", 0)),
        names=tuple(str(name) for name, _ in sources),
        time=int(of_query.get("batchTimestampMs", 0)),
    )


def _by_name(line: str) -> tuple[int | str, str]:
    """Split a source's line in format v2 into the source's name or position, and its offset.

    Examples:
        >>> _by_name('orders:{"logOffset":3}'), _by_name("1:-")
        (('orders', '{"logOffset":3}'), (1, '-'))
    """
    name, offset = line.split(":", 1)
    if name.isdecimal():
        return int(name), offset
    return name, offset


def _files_until(offset: str | None) -> int | None:
    """Return the log's entry that a file source's offset names; None for other sources.

    Examples:
        >>> _files_until('{"logOffset":3}')
        3
        >>> _files_until('{"topic":{"0":12}}')
    """
    if offset is None or not offset.startswith(("{", "[")):
        return None
    value = json.loads(offset)
    if not isinstance(value, dict) or set(value) != {"logOffset"}:
        return None
    return int(value["logOffset"])


def commit(file: Path) -> dict[str, Any]:
    """Return the content of a file `commits/N`.

    Returns:
        Spark's JSON. `nextBatchWatermarkMs` is in milliseconds since 1970, and 0 if
        Spark wrote none.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    with reading(file):
        content: dict[str, Any] = json.loads(versioned(file, "v1", "v2", "v3")[1])
        watermark = int(content.get("nextBatchWatermarkMs", 0))
        return content | {"nextBatchWatermarkMs": watermark}


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
        note = dict(json.loads(newest.read_text("utf-8")))
        _check_note(note)
    except (OSError, TypeError, ValueError, LookupError) as err:
        raise InvalidInputError(
            f"checkpoint file {file} is damaged: not what the kit wrote; put it back,"
            " or delete it, and the query that starts next is taken for the one that"
            " wrote the checkpoint"
        ) from err
    return note


def _check_note(note: dict[str, Any]) -> None:
    """Check the fields of a note on which the kit relies.

    Raises:
        LookupError, TypeError: the note was not written by `write_note`.
    """
    required = ["mode", "fingerprint"]
    if "name" in note:
        required.append("name")
    for field in required:
        if not isinstance(note[field], str):
            raise TypeError(f"{field} is not a text")


# A line of a file source's log as Spark writes it; a URI has no quote in it, so the
# JSON needs no parser.
_LINE = re.compile(
    r'\{"path":"(?P<uri>[^"]*)","timestamp":(?P<time>-?\d+),"batchId":(?P<entry>\d+)\}'
)


class InputFile(NamedTuple):
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
        if not self.uri.startswith("file:///"):
            return None
        return unquote(self.uri.removeprefix("file://"))

    @property
    def is_gone(self) -> bool:
        """Whether this is a local file that no longer exists."""
        return self.path is not None and not os.path.exists(self.path)  # noqa: PTH110 - faster for many files

    @property
    def is_changed(self) -> bool:
        """Whether this is a local file with another modification time than when it was found."""
        if self.path is None:
            return False
        modified = os.stat(self.path).st_mtime_ns // 1_000_000  # noqa: PTH116 - as in `is_gone`
        return modified != self.time


def log_file(file: Path) -> list[InputFile]:
    """Return the input files that are listed in one file of a file source's log.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    with reading(file):
        lines = versioned(file, "v1")[1:]
        return list(inputs_in(lines))


_END = 65_536  # bytes: what is read first of the end of a log, some 500 input files


def log_after(file: Path, entry: int) -> list[InputFile]:
    """Return the input files in one file of a log that were added after an entry of the log.

    The file is read from its end, as far as needed: a compacted one lists all files
    that the source has read.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    with reading(file):
        inputs = _end_of_log(file, entry)
        if inputs is None:
            inputs = log_file(file)
    return [each for each in inputs if each.entry > entry]


def _end_of_log(file: Path, entry: int) -> list[InputFile] | None:
    """Return input files at the end of a log, which begin with one that is not after an entry.

    None if only the whole file shows them: it is short, its last quarter does not begin
    early enough, or it has an unknown format.
    """
    with file.open("rb") as log:
        size = file.stat().st_size
        if log.readline() != b"v1\n":
            return None
        length = _END
        while length < size:
            log.seek(size - length)
            lines = log.read().decode(errors="replace").split("\n")
            # The first line may be cut off.
            inputs = list(inputs_in(lines[1:]))
            if inputs and inputs[0].entry <= entry:
                return inputs
            length *= 4
    return None


def log_lines(file: Path) -> Iterator[bytes]:
    """Yield the lines of one file of a file source's log, without the line of its version.

    Raises:
        DamagedError: the file cannot be read.
    """
    with reading(file), file.open("rb") as lines:
        next(lines)
        for line in lines:
            yield line.rstrip(b"\n")


def inputs_in(lines: Iterable[str]) -> Iterator[InputFile]:
    """Yield the input files in the lines of a file source's log, without the line of its version.

    Raises:
        TypeError: a line is not one that Spark wrote.
    """
    for line in lines:
        if not line:
            continue
        fields = _LINE.fullmatch(line)
        if fields is None:
            raise TypeError(f"not a line of a file source's log: {line}")
        yield InputFile(int(fields["entry"]), int(fields["time"]), fields["uri"])


def log_text(inputs: Iterable[InputFile]) -> str:
    """Return the text of a file of a file source's log that lists the given input files.

    Examples:
        >>> print(log_text([InputFile(entry=0, time=1700000000000, uri="file:///in/a.csv")]))
        v1
        {"path":"file:///in/a.csv","timestamp":1700000000000,"batchId":0}
    """
    lines = [
        f'{{"path":"{each.uri}","timestamp":{each.time},"batchId":{each.entry}}}'
        for each in inputs
    ]
    return "\n".join(["v1", *lines])


_PATH = b'{"path":"'


class Logs:
    """The logs of a checkpoint. Each log is listed once, and each file is read once and cached.

    Call `refresh` to see the files that Spark has written since.

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

    def refresh(self) -> Logs:
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
        self._read = {
            (reader, path): content
            for (reader, path), content in self._read.items()
            if path != file
        }

    @property
    def planned(self) -> int:
        """The number of the last planned batch; -1 before the first."""
        return max(self.entries("offsets"), default=-1)

    @property
    def done(self) -> int:
        """The number of the last committed batch; -1 before the first."""
        return max(self.entries("commits"), default=-1)

    def plan(self, batch: int) -> BatchPlan:
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
                seconds_later = planned.stat().st_mtime - self.plan(batch).time / 1000
                if abs(seconds_later) <= _WRITTEN_WITHIN:
                    return datetime.fromtimestamp(commit.stat().st_mtime, UTC)
        return None

    @property
    def last_plan(self) -> BatchPlan | None:
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
        if not file.exists():
            return None
        note = self.read(_query, file)
        if not note.get("before"):
            return note
        # The last batch of the query before this one, and the note about that query
        last_batch: int
        note_before: dict[str, Any] | None
        last_batch, note_before = note["before"]
        if self.done <= last_batch < self.planned:
            return note_before
        return note

    @property
    def noted(self) -> dict[str, Any]:
        """The note of `start`; empty if there is none, or if it is damaged."""
        with suppress(InvalidInputError):
            return self.note or {}
        return {}

    @property
    def sources(self) -> list[str]:
        """The folders in `sources/`, sorted: the number or name of each source with a log."""
        names: list[str] = []
        with suppress(FileNotFoundError, NotADirectoryError):  # as in `numbered`
            folders = (self.root / "sources").iterdir()
            names = [folder.name for folder in folders if folder.is_dir()]
        return sorted(names, key=lambda name: (len(name), name))

    def names(self, batch_plan: BatchPlan) -> tuple[str, ...]:
        """Return the name of each source's log in the plan's order: the source's number or name.

        The position of a source in the plan is not always the number of its log: a
        DataFrame that is read twice, as in a join with itself, has two lines in the
        plan and one log.
        """
        logs = [name for name in self.sources if self.is_of_files(name)]
        sources = zip(batch_plan.names, batch_plan.files, strict=True)
        of_files = {name for name, last in sources if last is not None}
        if of_files.issubset(logs):
            return batch_plan.names
        last_entries = {
            int(name): max(self.entries(f"sources/{name}"), default=-1)
            for name in logs
            if name.isdecimal()
        }
        assigned = _assignment(batch_plan, last_entries)
        if assigned is None:
            # A log may have lost its last entries, so take every log as complete
            furthest = max(last for last in batch_plan.files if last is not None)
            assigned = _assignment(batch_plan, dict.fromkeys(last_entries, furthest))
        if assigned is None:
            return batch_plan.names
        return tuple(str(number) for number in assigned)

    def is_of_files(self, log: str) -> bool:
        """Return whether a log is that of a file source."""
        entries = list(self.entries(f"sources/{log}").values())
        # Another source writes one entry, at its start, and no more
        if len(entries) != 1:
            return True
        beginning = b'v1\n{"path":'
        # A power cut may have left it short, empty or as zeros
        with entries[0].open("rb") as file:
            return beginning.startswith(file.read(len(beginning)).rstrip(b"\0"))

    def read_by(self, batch_plan: BatchPlan) -> dict[str, int]:
        """Return for each file source the name of its log and the last entry that a plan reads."""
        sources = zip(self.names(batch_plan), batch_plan.files, strict=True)
        return {log: last for log, last in sources if last is not None}

    @property
    def until_planned(self) -> dict[str, int]:
        """For each file source the name of its log and the last entry that the last plan reads."""
        last_plan = self.last_plan
        if last_plan is None:
            return {}
        return self.read_by(last_plan)

    def until(self, batch: int) -> dict[str, int]:
        """Return for each file source the name of its log and the last entry that a batch has read.

        The result is empty for batch -1, before the first one.

        Raises:
            DamagedError, InvalidInputError: the plan of the batch cannot be read.
        """
        if batch < 0:
            return {}
        return self.read_by(self.plan(batch))

    def first_offset(self, log: str) -> str:
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
        entries = self.entries(f"sources/{log}")
        compacted = [number for number, file in entries.items() if file.suffix]
        first = max((number for number in compacted if number <= until), default=0)
        return [
            entries.get(number, folder / str(number))
            for number in range(first, until + 1)
        ]

    def inputs(
        self, log: str, after: int = -1, until: int | None = None
    ) -> list[InputFile]:
        """Return the input files that a file source found in a range of the entries of its log.

        Args:
            log: the number or name of the source.
            after: leave out this entry and those before it.
            until: the last entry of the range. Default: the last one of the log.

        Raises:
            DamagedError, InvalidInputError: as for `versioned`.
        """
        last = until
        if last is None:
            last = max(self.entries(f"sources/{log}"), default=-1)
        inputs: list[InputFile] = []
        for file in self.files(log, last):
            if int(file.stem) > after:
                inputs += log_after(file, after)
        return [each for each in inputs if each.entry <= last]

    def folders(self, log: str, until: int) -> set[str]:
        """Return the URIs of the folders of the input files in a file source's log, up to an entry.

        Raises:
            DamagedError: a file is missing, or has a line that Spark did not write.
        """
        beginnings: set[bytes] = set()
        for file in self.files(log, until):
            # Line by line, and without a pattern: the log may list a million files.
            beginnings.update(line.rpartition(b"/")[0] for line in log_lines(file))
            if not all(beginning.startswith(_PATH) for beginning in beginnings):
                raise DamagedError(file)
        return {beginning.removeprefix(_PATH).decode() for beginning in beginnings}

    def pending(self, batch: int) -> list[InputFile]:
        """Return the files that file sources found and no batch up to a given one has read.

        A damaged log counts as empty.
        """
        inputs: list[InputFile] = []
        for log in self.until_planned:
            with suppress(DamagedError):
                inputs += self.inputs(log, self.until(batch).get(log, -1))
        return inputs


def _assignment(
    batch_plan: BatchPlan, last_entries: dict[int, int]
) -> tuple[int, ...] | None:
    """Return the number of the log of each source in a plan, so that each log has a source.

    None if there is no such assignment.

    Args:
        batch_plan: the plan.
        last_entries: the last entry of each log of a file source, by its number.

    Examples:
        A join of one source with itself, a union of two sources, and both together:

        >>> def of_files(*lasts):
        ...     offsets = tuple(f'{{"logOffset":{last}}}' for last in lasts)
        ...     return BatchPlan({}, offsets, lasts, 0, tuple(map(str, range(len(lasts)))), 0)
        >>> _assignment(of_files(3, 3), {0: 3})
        (0, 0)
        >>> _assignment(of_files(3, 3), {0: 3, 1: 3})
        (0, 1)
        >>> _assignment(of_files(3, 3, 5), {0: 3, 1: 5})
        (0, 0, 1)
    """
    for logs in _assignments(batch_plan, last_entries, ()):
        if set(last_entries).issubset(logs):
            return logs
    return None


def _assignments(
    batch_plan: BatchPlan, last_entries: dict[int, int], assigned: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """Yield the possible assignments of logs, by number, to the sources of a plan in their order.

    A source has the next log, which must reach the source's offset, or it shares the
    log of an earlier source with the same offset.

    Args:
        batch_plan: the plan.
        last_entries: the last entry of each log, by its number.
        assigned: the logs of the first sources, which the recursion has assigned.
    """
    if len(assigned) == len(batch_plan.offsets):
        yield assigned
        return
    offset = batch_plan.offsets[len(assigned)]
    last = batch_plan.files[len(assigned)]
    next_log = max(assigned, default=-1) + 1
    before = zip(assigned, batch_plan.offsets, strict=False)
    shared = dict.fromkeys(
        log for log, earlier_offset in before if earlier_offset == offset
    )
    if last is None or last_entries.get(next_log, -1) >= last:
        yield from _assignments(batch_plan, last_entries, (*assigned, next_log))
    for log in shared:
        yield from _assignments(batch_plan, last_entries, (*assigned, log))


def write_note(checkpoint: Place, query: dict[str, Any]) -> None:
    """Write the note about a checkpoint's query, which `Logs.note` reads at the next start."""
    file = _QUERY
    # Elsewhere, and so in a copy from there, a folder: an object store may lose a file
    # that is replaced.
    if checkpoint.folder is None or (checkpoint.folder / _QUERY).is_dir():
        file = f"{_QUERY}/part-{time.time_ns()}"
    checkpoint.write(file, json.dumps(query) + "\n")


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
                str(text).replace(copy, checkpoint.text) for text in err.args
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
    with tempfile.TemporaryDirectory(prefix="sparkstream-checkpoint-") as copy:
        root = Path(copy)
        for batch in range(max(number - 1, 0), number + 1):
            checkpoint.bring(f"offsets/{batch}", root)
        _bring_listings(checkpoint, root)
        logs = Logs(root)
        before = logs.until(number - 1)
        for log, last in logs.until(number).items():
            for entry, file in logs.entries(f"sources/{log}").items():
                if before.get(log, -1) < entry <= last:
                    checkpoint.bring(f"sources/{log}/{file.name}", root)
        yield logs


def _bring_listings(checkpoint: Place, root: Path) -> None:
    """Copy the logs of a checkpoint's sources, but with empty files.

    The file of a log with one entry is copied: it says of what kind the source is.
    """
    for source in checkpoint.names("sources"):
        (root / "sources" / source).mkdir(parents=True)
        for name in checkpoint.names(f"sources/{source}"):
            (root / "sources" / source / name).touch()
        entries = list(checkpoint.entries(f"sources/{source}").values())
        if len(entries) == 1:
            checkpoint.bring(f"sources/{source}/{entries[0]}", root)
