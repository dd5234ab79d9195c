"""What is in a checkpoint's files, as Spark 4 writes them, on a local path or in a copy that Spark brings.

metadata       {"id": the query's id}
offsets/N      the plan of batch N: "v1", a line about the query, a line for each source, by its place in the
               query; in "v2" the line of a source begins with its name, or its place
commits/N      batch N is done: "v1" (or "v2", with the ids of the state's files), a line
sources/I/     what source I keeps, by its number or its name; of a file source a log of its files
state/         see `check`
sparkstream-kit/   the kit's own; Spark ignores it

sources/I/K            the files that entry K of source I added, a line of JSON each; I is its number or name
sources/I/K.compact    the same, and all that came before it, whose own files Spark removes when the batches
                       that need them are no longer kept
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import unquote

from sparkstream_kit import _files
from sparkstream_kit.errors import InvalidInputError, innermost_cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sparkstream_kit._spark.place import Place


_T = TypeVar("_T")

KIT = "sparkstream-kit"
CONTINUED = f"{KIT}/continued"  # holds the path of the checkpoint that another query goes on on
PINS = f"{KIT}/pins"  # a file for each batch: which version of a model or table it was made with
_MISSING = "is missing"


class DamagedError(InvalidInputError):
    """The `file` is not what Spark wrote: `what` is wrong with it, and the `fix` where it is known."""

    def __init__(self, file: Path, what: str = "is cut off or changed", fix: str = "") -> None:
        super().__init__(f"{file} {what}")
        self.file = file
        self.what = what
        self.fix = fix

    @property
    def is_missing(self) -> bool:
        """Whether there is no such file."""
        return self.what == _MISSING


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read and understood into a DamagedError that names it."""
    try:
        yield
    except InvalidInputError:
        raise
    except FileNotFoundError:
        raise DamagedError(file, _MISSING) from None
    except OSError as err:
        raise DamagedError(file, f"cannot be read ({err.strerror})") from None
    except Exception as err:  # whatever Python raises for a text or an archive that is none
        raise DamagedError(file) from err


@dataclass(frozen=True)
class Plan:
    """What `offsets/N` says of a batch; each source has its place in both tuples.

    Attributes:
        conf: the settings that the batch was planned with.
        offsets: up to where it reads each source, in Spark's words; None for one without rows yet.
        files: of a file source, the last entry of its log that it reads; None for another source.
        watermark: in milliseconds since 1970; 0 before the first one, and without one.
        names: of the sources, in the same order: each its name, or its place in the query as a text.
    """

    conf: dict[str, Any]
    offsets: tuple[str | None, ...]
    files: tuple[int | None, ...]
    watermark: int
    names: tuple[str, ...]

    @property
    def has_named_sources(self) -> bool:
        """Whether its sources have names (`readStream.name()`): in that case all of them have."""
        return self.conf.get("spark.sql.streaming.queryEvolution.enableSourceEvolution") == "true"


def local(path: str | Path) -> Path | None:
    """Return a checkpoint's local path, or None if it is on another file system."""
    text = _files.plain(str(path))
    return None if text is None else Path(text)


def checkpoint(path: str | Path) -> Path:
    """Return the folder of a checkpoint that Spark has written to.

    Raises:
        InvalidInputError: it is on another file system, not there, or no checkpoint.
    """
    root = local(path)
    if root is None:
        raise InvalidInputError(
            f"checkpoint {path} is not on a local path; copy it to this machine first, and put the copy "
            "back afterwards (hdfs dfs -get, hdfs dfs -put)"
        )
    if not root.is_dir():
        raise InvalidInputError(f"no checkpoint {path}; give the folder that the query was started with")
    if not any((root / name).exists() for name in ("metadata", "offsets", "commits")):
        raise InvalidInputError(f"{path} is no checkpoint (no metadata, offsets or commits in it)")
    return root


def numbered(folder: Path) -> dict[int, Path]:
    """Return the files of one of Spark's logs by their number, in order; none where there is no folder."""
    names: list[str] = []
    with suppress(FileNotFoundError, NotADirectoryError):  # Spark may be removing a temporary checkpoint
        names = os.listdir(folder)  # noqa: PTH208 - in one step
    return {number: folder / name for number, name in _files.log_entries(names).items()}


def _text(file: Path) -> str:
    with reading(file):
        text = file.read_bytes().decode()
    if not text.strip():
        raise DamagedError(file, "is empty")
    return text


def versioned(file: Path, *versions: str) -> list[str]:
    """Return the lines of a log's file, the first of which is its version.

    Raises:
        DamagedError: the file is missing, empty, cut off or changed.
        InvalidInputError: it is of a version that a newer Spark may have written.
    """
    found = _text(file).split("\n")
    version = found[0]
    if re.fullmatch(r"v\d+", version) and version not in versions and not _differs(file):
        raise InvalidInputError(f"{file} has format {version}, which this version of the kit does not know")
    if version not in versions or len(found) == 1:
        raise DamagedError(file)
    return found


def query_id(file: Path) -> str:
    """Return the id of the checkpoint's query, which `metadata` holds.

    Raises:
        DamagedError: it cannot be read.
    """
    text = _text(file)
    with reading(file):
        found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise DamagedError(file, "does not hold a query's id")
    return str(found["id"])


def plan(file: Path) -> Plan:
    """Return what `offsets/N` says.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    text = "\n".join(versioned(file, "v1", "v2"))
    with reading(file):
        return plan_in(text)


def plan_in(text: str) -> Plan:
    """Return what the text of `offsets/N` says, or raise what Python does for another text."""
    version, query, first, *more = text.split("\n")
    texts, said = [first, *more], json.loads(query)
    each = list(enumerate(texts)) if version == "v1" else sorted(_by_name(text) for text in texts)
    offsets = tuple(None if text == "-" else text for _, text in each)
    files = tuple(_files_until(offset) for offset in offsets)
    names = tuple(str(name) for name, _ in each)
    return Plan(dict(said.get("conf", {})), offsets, files, int(said.get("batchWatermarkMs", 0)), names)


def _by_name(line: str) -> tuple[int | str, str]:
    """Return the name of a source, or its place, and its offset."""
    name, offset = line.split(":", 1)
    return int(name) if name.isdecimal() else name, offset


def watermark(text: str) -> int:
    r"""Return the watermark of a batch in milliseconds since 1970, which the text of `offsets/N` says.

    Raises:
        ValueError: the text is cut off or changed.

    Examples:
        >>> watermark('v1\n{"batchWatermarkMs":1767225600000,"conf":{}}\n{"logOffset":0}')
        1767225600000
    """
    try:
        return int(json.loads(text.split("\n")[1])["batchWatermarkMs"])
    except (LookupError, TypeError) as err:
        raise ValueError("no watermark in it") from err


def _files_until(offset: str | None) -> int | None:
    """Return the entry of a file source's log that an offset names; None for that of another source."""
    value = json.loads(offset) if offset and offset.startswith(("{", "[")) else None
    return int(value["logOffset"]) if isinstance(value, dict) and set(value) == {"logOffset"} else None


def commit(file: Path) -> dict[str, Any]:
    """Return what `commits/N` says; its `stateUniqueIds` are of each operator, partition and store.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    text = versioned(file, "v1", "v2")[1]
    with reading(file):
        found = json.loads(text)
        ids = (found.get("stateUniqueIds") or {}).items()
        found["stateUniqueIds"] = {each: [frozenset(stores) for stores in parts] for each, parts in ids}
        found["nextBatchWatermarkMs"] = int(found.get("nextBatchWatermarkMs", 0))
        return dict(found)


def _differs(file: Path) -> bool:
    """Say whether a file is not what Hadoop's `.NAME.crc` beside it says; False without one.

    It holds "crc", a zero byte, the bytes that a checksum covers, and a CRC-32 for each such part. Hadoop
    reads on without a checksum file that has another head.
    """
    try:
        sums, data = file.with_name(f".{file.name}.crc").read_bytes(), file.read_bytes()
    except OSError:  # of the file itself, whoever reads it says what is wrong
        return False
    step = int.from_bytes(sums[4:8], "big")
    if sums[:4] != b"crc\0" or not step:
        return False
    parts = (data[at : at + step] for at in range(0, len(data), step))
    return sums[8:] != b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)


def replace(file: Path, text: str) -> None:
    """Write a file of Spark's anew, as a whole."""
    # First: a checksum that does not fit is damage, and none is not.
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    _files.replace(file, [text])


def command(name: str, root: Path) -> str:
    """Return a command on a checkpoint, for its user to copy.

    Examples:
        >>> command("rewind", Path("my ckpt"))
        "sparkstream checkpoint rewind 'my ckpt'"
    """
    return f"sparkstream checkpoint {name} {shlex.quote(str(root))}"


def page_file(root: Path) -> Path:
    """Return where a run notes the address of its page, for `sparkstream watch CHECKPOINT`."""
    return root / KIT / "page"


_QUERY = f"{KIT}/query.json"
_NO_NOTE = (
    "checkpoint file {} is damaged: not what the kit wrote; put it back, or delete it, and the query that "
    "starts next is taken for the one that wrote the checkpoint"
)


def _query(file: Path) -> dict[str, Any]:
    """Return what `write_note` has noted; of a folder the newest file counts."""
    try:
        newest = max(file.glob("part-*"), key=lambda part: part.stat().st_mtime_ns, default=file)
        kept = dict(json.loads(newest.read_text("utf-8")))
        return kept | {name: "" + kept[name] for name in ("name", "mode", "fingerprint")}
    except (OSError, TypeError, ValueError, LookupError) as err:
        raise InvalidInputError(_NO_NOTE.format(file)) from err


# As Spark writes it; a URI has no quote in it.
_LINE = re.compile(r'\{"path":"([^"]*)","timestamp":(-?\d+),"batchId":(\d+)\}')


class Input(NamedTuple):
    """A file that a file source has found.

    Attributes:
        entry: the entry of the log that added it.
        time: when it was changed last, in milliseconds since 1970.
        uri: where it lies.
    """

    entry: int
    time: int
    uri: str

    @property
    def path(self) -> str | None:
        """The file's local path; None if it lies elsewhere."""
        return unquote(self.uri.removeprefix("file://")) if self.uri.startswith("file:///") else None

    @property
    def gone(self) -> bool:
        """A local file that no longer exists."""
        return self.path is not None and not os.path.exists(self.path)  # noqa: PTH110 - of many files


def log_file(file: Path) -> list[Input]:
    """Return the inputs in a file of a file source's log.

    Raises:
        DamagedError, InvalidInputError: as for `versioned`.
    """
    texts = [text for text in versioned(file, "v1")[1:] if text]
    found = [match for match in map(_LINE.fullmatch, texts) if match]
    if len(found) < len(texts):
        raise DamagedError(file)
    with reading(file):
        return [Input(int(match[3]), int(match[2]), match[1]) for match in found]


def log_text(found: Iterable[Input]) -> str:
    """Return the text of a file of a file source's log."""
    texts = [f'{{"path":"{each.uri}","timestamp":{each.time},"batchId":{each.entry}}}' for each in found]
    return "\n".join(["v1", *texts])


_MOST_KEPT = 100  # files


class Logs:
    """The logs of a checkpoint in a folder: each is listed once, and each file read once and kept.

    Attributes:
        root: the checkpoint's folder, or that of a copy.
        place: where the checkpoint itself lies, of logs that a start looks at; None of others.
    """

    def __init__(self, root: Path, place: Place | None = None) -> None:
        self.root = root
        self.place = cast("Place", place)
        self._listed: dict[str, dict[int, Path]] = {}
        self._read: dict[tuple[Callable[[Path], Any], Path], Any] = {}

    def again(self) -> Logs:
        """Look anew at which files there are; Spark changes none that it has written."""
        self._listed.clear()
        return self

    def entries(self, log: str) -> dict[int, Path]:
        """Return the files of a log, such as `offsets` or `sources/0`, by number and in order."""
        if log not in self._listed:
            self._listed[log] = numbered(self.root / log)
        return self._listed[log]

    def read(self, reader: Callable[[Path], _T], file: Path, *, whole: bool = False) -> _T:
        """Return what a function reads in a file, the first time that it is asked.

        Raises:
            DamagedError, InvalidInputError: as for `versioned`; and if it is to be `whole`, where the file
                differs from its checksum.
        """
        key = (reader, file)
        found: _T = self._read.pop(key) if key in self._read else reader(file)
        self._read[key] = found  # the last one
        if len(self._read) > _MOST_KEPT:  # a query may run for months
            del self._read[next(iter(self._read))]
        if whole and _differs(file):
            fix = f"delete .{file.name}.crc, its checksum, if that was meant"
            raise DamagedError(file, f"was changed after Spark wrote it ({fix})")
        return found

    def damage(
        self, reader: Callable[[Path], Any], *files: Path, whole: bool = False
    ) -> Iterator[DamagedError]:
        """Yield what reading files raises, of each that is damaged."""
        for file in files:
            try:
                self.read(reader, file, whole=whole)
            except DamagedError as err:
                yield err

    def replace(self, file: Path, text: str) -> None:
        """Write a file of Spark's anew, as a whole."""
        replace(file, text)
        self._listed.clear()
        self._read = {key: found for key, found in self._read.items() if key[1] != file}

    def change_offsets(self, batch: int, changed: Mapping[str, str]) -> None:
        """Write new offsets of some sources, by their names in the plan, into the plan of a batch."""
        file = self.root / "offsets" / str(batch)
        version, query, *texts = versioned(file, "v1", "v2")
        for place, text in enumerate(texts):
            name = str(place) if version == "v1" else text.partition(":")[0]
            if name in changed:
                texts[place] = changed[name] if version == "v1" else f"{name}:{changed[name]}"
        self.replace(file, "\n".join([version, query, *texts]))

    @property
    def planned(self) -> int:
        """The last batch that was planned; -1 before the first."""
        return max(self.entries("offsets"), default=-1)

    @property
    def done(self) -> int:
        """The last batch that was committed; -1 before the first."""
        return max(self.entries("commits"), default=-1)

    def plan(self, batch: int, *, whole: bool = False) -> Plan:
        """Return the plan of a batch; errors as of `read`."""
        return self.read(plan, self.root / "offsets" / str(batch), whole=whole)

    def commit(self, batch: int, *, whole: bool = False) -> dict[str, Any]:
        """Return what `commits/N` says; errors as of `read`."""
        return self.read(commit, self.root / "commits" / str(batch), whole=whole)

    @property
    def last_plan(self) -> Plan | None:
        """The last plan that can be read."""
        for batch in reversed(self.entries("offsets")):
            with suppress(DamagedError):
                return self.plan(batch)
        return None

    @property
    def note(self) -> dict[str, Any] | None:
        """What `start` has noted of the query: its name, mode, fingerprint, sources, sinks; None if nothing.

        Raises:
            InvalidInputError: it is not what was noted.
        """
        file = self.root / _QUERY
        return self.read(_query, file) if file.exists() else None

    @property
    def noted(self) -> dict[str, Any]:
        """The same; nothing where it cannot be read."""
        with suppress(InvalidInputError):
            return self.note or {}
        return {}

    @property
    def sources(self) -> list[str]:
        """The names of the sources that keep a log: of each its number, or its own name."""
        found: list[str] = []
        with suppress(FileNotFoundError, NotADirectoryError):  # as in `numbered`
            found = [folder.name for folder in (self.root / "sources").iterdir() if folder.is_dir()]
        return sorted(found, key=lambda name: (len(name), name))

    def names(self, of: Plan) -> tuple[str, ...]:
        """Return the name of each source's log, in the order of the plan: a number, or the source's name.

        A DataFrame that is read twice, as in a join with itself, stands twice in the plan and has one log.
        """
        there = self.sources
        if all(name in there for name, last in zip(of.names, of.files, strict=True) if last is not None):
            return of.names
        ends = {name: max(self.entries(f"sources/{name}"), default=-1) for name in there}
        if of.has_named_sources:
            return self._by_place(of, ends)
        by_number = {int(name): last for name, last in ends.items() if name.isdecimal()}
        furthest = max(last for last in of.files if last is not None)
        for reached in (by_number, dict.fromkeys(by_number, furthest)):  # a log may have lost its end
            for found in _shared(of, reached, ()):
                if set(by_number) <= set(found):
                    return tuple(map(str, found))
        return of.names

    def _by_place(self, of: Plan, ends: Mapping[str, int]) -> tuple[str, ...]:
        """Return the names of the sources of a plan that has only their places; `start` notes them.

        Without a note the log that goes further is that of the source which has been read further.
        """
        names = self.noted.get("sources", ())
        if len(names) == len(of.names):
            return tuple(names)
        last = self.last_plan or of
        read = sorted((until, place) for place, until in enumerate(last.files) if until is not None)
        found = dict(enumerate(of.names))
        longest = sorted((end, name) for name, end in ends.items() if end >= 0 and self._is_of_files(name))
        found |= {
            place: name for (_, place), (_, name) in zip(reversed(read), reversed(longest), strict=False)
        }
        return tuple(found.values())

    def _is_of_files(self, log: str) -> bool:
        newest = next(reversed(self.entries(f"sources/{log}").values()))
        return newest.read_bytes().startswith(b'v1\n{"path":')

    def read_by(self, of: Plan | None) -> dict[str, int]:
        """Return the log of each file source by its name, with the last entry that a plan reads."""
        if of is None:
            return {}
        return {log: last for log, last in zip(self.names(of), of.files, strict=True) if last is not None}

    @property
    def until_planned(self) -> dict[str, int]:
        """The log of each file source, with the last entry that a batch was planned with."""
        return self.read_by(self.last_plan)

    def until(self, batch: int) -> dict[str, int]:
        """Return the log of each file source, with the last entry that was read by the end of a batch.

        Raises:
            DamagedError, InvalidInputError: the plan of the batch cannot be read.
        """
        return self.read_by(self.plan(batch)) if batch >= 0 else {}

    def begun(self, log: str) -> str:
        """Return from where a source that is none of files was read first, in Spark's words."""
        file = self.root / "sources" / log / "0"  # it begins with a zero byte and its version
        return self.read(_text, file).rpartition("\n")[2]

    def files(self, log: str, until: int) -> list[Path]:
        """Return the files that together hold a file source's log up to an entry.

        Raises:
            DamagedError: one of them is missing.
        """
        found = self.entries(f"sources/{log}")
        first = max((number for number, file in found.items() if file.suffix and number <= until), default=0)
        missing = next((number for number in range(first, until + 1) if number not in found), None)
        if missing is not None:
            raise DamagedError(self.root / "sources" / log / str(missing), _MISSING)
        return [found[number] for number in range(first, until + 1)]

    def inputs(self, log: str, after: int = -1, until: int | None = None) -> list[Input]:
        """Return the files that a file source's log added after one entry and up to another, or to its end.

        Raises:
            DamagedError, InvalidInputError: as for `versioned`.
        """
        last = max(self.entries(f"sources/{log}"), default=-1) if until is None else until
        if last <= after:
            return []
        files = [file for file in self.files(log, last) if int(file.stem) > after]
        return [found for file in files for found in self.read(log_file, file) if after < found.entry <= last]

    def pending(self, batch: int) -> list[Input]:
        """Return the files that were found after the end of a batch; a damaged log counts as empty."""
        found: list[Input] = []
        for log in self.until_planned:
            with suppress(DamagedError):
                found += self.inputs(log, self.until(batch).get(log, -1))
        return found


def _shared(of: Plan, reached: dict[int, int], found: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield which logs sources may have: each its own that reaches its offset, or that of an equal one."""
    if len(found) == len(of.offsets):
        yield found
        return
    offset, last = of.offsets[len(found)], of.files[len(found)]
    equal = [log for log, other in zip(found, of.offsets, strict=False) if other == offset]
    for log in dict.fromkeys((max(found, default=-1) + 1, *equal)):
        if log in equal or last is None or reached.get(log, -1) >= last:
            yield from _shared(of, reached, (*found, log))


def write_note(checkpoint: Place, query: dict[str, Any]) -> None:
    """Note which query uses the checkpoint."""
    text = json.dumps(query)
    if checkpoint.folder is None:
        # Where a file cannot be replaced in one step, each note is a file of its own: the newest counts.
        name = "kit" if checkpoint.renames_in_one_step else time.time_ns()
        checkpoint.write(f"{_QUERY}/part-{name}", text)
        return
    file = checkpoint.folder / _QUERY
    if file.is_dir():
        shutil.rmtree(file)
    _files.replace(file, [text + "\n"])


_COPIED = ("metadata", "offsets", "commits", "sources", _QUERY)


@contextmanager
def at_hand(checkpoint: Place) -> Iterator[Logs]:
    """Give the logs of a checkpoint, for `start`: those of its folder, or of a copy without the state.

    Errors in the block name the checkpoint, and not the copy.
    """
    if checkpoint.folder is not None:
        yield Logs(checkpoint.folder, checkpoint)
        return
    with tempfile.TemporaryDirectory(prefix="sparkstream-checkpoint-") as copy:
        try:
            for part in _COPIED:
                checkpoint.bring(part, Path(copy))
        except OSError as err:
            cause = innermost_cause(err.__cause__ or err)
            raise InvalidInputError(
                f"checkpoint {checkpoint} cannot be read ({cause}); correct the path, or put the "
                "file back from a backup, or start anew on another checkpoint"
            ) from err
        try:
            yield Logs(Path(copy), checkpoint)
        except InvalidInputError as err:
            err.args = tuple(str(each).replace(copy, checkpoint.text) for each in err.args)
            raise


@contextmanager
def of_batch(checkpoint: Place, number: int) -> Iterator[Logs]:
    """Give what the logs of a checkpoint say of one batch: those of its folder, or of a small copy.

    The files are read one by one, without a job of Spark's: it is done in each batch of a sink with a ledger.
    """
    if checkpoint.folder is not None:
        yield Logs(checkpoint.folder)
        return
    with tempfile.TemporaryDirectory(prefix="sparkstream-checkpoint-") as made:
        root = Path(made)
        for each in range(max(number - 1, 0), number + 1):
            checkpoint.bring(f"offsets/{each}", root)
        checkpoint.bring(_QUERY, root)  # it knows the names of the sources
        for source in checkpoint.names("sources"):
            (root / "sources" / source).mkdir(parents=True)
            for name in checkpoint.names(f"sources/{source}"):
                (root / "sources" / source / name).touch()
        found = Logs(root)
        before = found.until(number - 1)
        for log, last in found.until(number).items():
            for entry, file in found.entries(f"sources/{log}").items():
                if before.get(log, -1) < entry <= last:
                    checkpoint.bring(f"sources/{log}/{file.name}", root)
        yield found
