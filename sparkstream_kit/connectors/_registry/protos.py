"""Messages of Protobuf: classes for them, from the text of a `.proto` file or a descriptor.

A registry has the text, which the compiler of the package grpcio-tools turns into a
descriptor (`compiled`). It is that of Protobuf's own project, and has the files of the
well-known types beside it. `Messages` makes classes of a descriptor, and `indexes` reads
which message of its file a record is, as Confluent's format counts them.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparkstream_kit.connectors._registry.client import Schema

_MAIN = "sparkstream_record.proto"  # the file of the schema itself
_SECONDS = 60.0  # that the compiler may take
# Modules of the well-known types, which a descriptor may name without having them
_KNOWN = ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")


def compiled(schema: Schema) -> bytes:
    """Compile a schema of Protobuf, with those that it refers to.

    Confluent's serializers of Python and others register a file as its descriptor in
    Base64, which some registries give back as it is; Confluent's own makes text of it.

    Returns:
        A `FileDescriptorSet` whose last file is the schema itself.

    Raises:
        ValueError: it is not Protobuf, or does not compile.
    """
    texts = {name: each.text for name, each in schema.imported().items()}
    kinds = {each.kind for each in (schema, *schema.imported().values())}
    if kinds != {"PROTOBUF"}:
        raise ValueError("not Protobuf")
    from google.protobuf import descriptor_pb2

    with tempfile.TemporaryDirectory(prefix="sparkstream-proto-") as folder:
        described = descriptor_pb2.FileDescriptorSet()
        for name, text in {**texts, _MAIN: schema.text}.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{name} is no name of an import")
            descriptor = _descriptor_of(text)
            if descriptor is not None:
                descriptor.name = name
                described.file.append(descriptor)
                continue
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        given = Path(folder, "sparkstream_given.bin")
        given.write_bytes(described.SerializeToString())
        result = Path(folder, "sparkstream_descriptor.bin")
        _compile(folder, given, result)
        return result.read_bytes()


def _descriptor_of(text: str) -> Any:
    """Return the descriptor that a text is in Base64; None for the text of a `.proto` file."""
    from google.protobuf import descriptor_pb2
    from google.protobuf.message import DecodeError

    try:
        content = base64.b64decode(text.strip(), validate=True)
        descriptor = descriptor_pb2.FileDescriptorProto.FromString(content)
    except (ValueError, DecodeError):
        return None
    return descriptor if content else None


def _compile(folder: str, given: Path, result: Path) -> None:
    """Compile the files of a folder, beside which there are descriptors of others."""
    import grpc_tools

    known = Path(grpc_tools.__file__).parent / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc"]
    # The well-known types first: nobody can give another file in their place
    command += [f"--proto_path={known}", f"--proto_path={folder}"]
    command += [f"--descriptor_set_in={given}"]
    command += ["--include_imports", f"--descriptor_set_out={result}", _MAIN]
    # A process of its own: in this one it would print its errors
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["the compiler failed"]
        # Before what is wrong it may warn of its own log
        said = [line for line in lines if ".proto:" in line] or lines
        raise ValueError(said[0].replace(f"{folder}/", ""))


class Messages:
    """The messages of a `FileDescriptorSet`.

    Args:
        descriptor: the set, as bytes.

    Raises:
        ValueError: the bytes are no such set, or a file that it imports is missing.
    """

    def __init__(self, descriptor: bytes) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool
        from google.protobuf.message import DecodeError

        try:
            files = descriptor_pb2.FileDescriptorSet.FromString(descriptor).file
        except DecodeError:
            raise ValueError("it is no FileDescriptorSet") from None
        if not files:
            raise ValueError("it has no file")
        self._last = files[-1]
        self._pool = descriptor_pool.DescriptorPool()
        given = {file.name: file for file in files}
        done: set[str] = set()
        try:
            for file in files:
                self._add(file, given, done)
        except TypeError as err:
            raise ValueError(str(err)) from None
        self._classes: dict[str, Any] = {}

    def _add(self, file: Any, given: dict[str, Any], done: set[str]) -> None:
        """Add a file to the pool, after those that it imports, which may stand behind it."""
        if file.name in done:
            return
        done.add(file.name)
        for name in file.dependency:
            found = given.get(name) or _well_known(name)
            if found is not None:
                self._add(found, given, done)
        self._pool.AddSerializedFile(file.SerializeToString())

    def by_index(self, indexes: Sequence[int]) -> str:
        """Return the full name of a message of the last file.

        Args:
            indexes: the number of the message in its file, then those of messages
                inside of it.

        Raises:
            LookupError: there is no such message, or it is the entry of a map.
        """
        if min(indexes, default=-1) < 0:
            raise IndexError("no message")
        found = self._last.message_type[indexes[0]]
        names = [found.name]
        for index in indexes[1:]:
            found = found.nested_type[index]
            if found.options.map_entry:
                # Protobuf's own form of a map field, never the message of a record
                raise LookupError("an entry of a map")
            names.append(found.name)
        package = [self._last.package] if self._last.package else []
        return ".".join(package + names)

    def names(self) -> list[str]:
        """Return the full names of the messages at the top of the last file."""
        return [self.by_index([each]) for each in range(len(self._last.message_type))]

    def of(self, name: str) -> Any:
        """Return the class of a message by its full name.

        Raises:
            LookupError: there is no such message.
        """
        from google.protobuf import message_factory

        if name not in self._classes:
            found = self._pool.FindMessageTypeByName(name)
            self._classes[name] = message_factory.GetMessageClass(found)
        return self._classes[name]


def _well_known(name: str) -> Any:
    """Return a file of the well-known types; None if it is none of them."""
    from google.protobuf import descriptor_pb2

    for known in _KNOWN:
        if name == f"google/protobuf/{known}.proto":
            module = import_module(f"google.protobuf.{known}_pb2")
            file = descriptor_pb2.FileDescriptorProto()
            module.DESCRIPTOR.CopyToProto(file)
            return file
    return None


def indexes(record: bytes, start: int) -> tuple[list[int], int]:
    """Read the indexes of a message, as Confluent's format has them after the schema's id.

    They are varints of whole numbers with a sign (zigzag): how many there are, and each
    of them; a single 0 stands for the first message.

    Returns:
        The indexes, and where the message begins.

    Raises:
        ValueError: there are none.
    """
    count, place = _varint(record, start)
    if count == 0:
        return [0], place
    if not 0 < count <= len(record):
        raise ValueError("no indexes of a message")
    found = []
    for _ in range(count):
        index, place = _varint(record, place)
        found.append(index)
    return found, place


def _varint(record: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if place >= len(record):
            break
        byte = record[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more bytes follow
            return (value >> 1) ^ -(value & 1), place
    raise ValueError("no indexes of a message")
