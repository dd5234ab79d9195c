"""Schemas of Avro by their ids, in a worker: those that the driver has sent, or those of a registry."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 10  # for one answer
_AGAIN = 60.0  # seconds until an id that was not known is asked for again
_MOST = 10_000  # ids that are remembered; damaged records have any
_NOT_FOUND = 404

# Of this process, by registry and id: the schema, or why there is none, and until when this is so.
_answers: dict[tuple[str, int], tuple[Any, str | None, float]] = {}


@dataclass(frozen=True)
class Schemas:
    """Where the schemas of records are.

    Attributes:
        place: the address of their registry, without a slash at the end; or a name for `known`.
        known: of a folder, the schemas by their ids; None of a registry.
        login: what the header `Authorization` says, if the registry asks for one.
    """

    place: str
    known: dict[int, Any] | None = field(default=None, repr=False)
    login: str | None = field(default=None, repr=False)


def in_folder(folder: Path) -> Schemas:
    """Read the schemas of a folder: each in a file that is named by its id.

    Raises:
        InvalidInputError: no such folder, none in it, or a file that is not a schema.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"schemas {folder}: there is no such folder; create it or correct the path")
    found = {}
    for path in sorted(folder.glob("*.avsc")):
        if path.stem.isascii() and path.stem.isdigit():
            try:
                found[int(path.stem)] = json.loads(path.read_text("utf-8"))
                _parsed(found[int(path.stem)])
            except ValueError as err:
                raise InvalidInputError(f"schema {path} cannot be read: {err}; correct the file") from None
    if not found:
        raise InvalidInputError(
            f"schemas {folder}: no file there is named by the id of its schema; name them 7.avsc and the like"
        )
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return Schemas(digest, found)


def of_registry(text: str) -> Schemas:
    """Read a registry's address, with a login in it or without.

    Raises:
        InvalidInputError: not an address of HTTP.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidInputError(f"registry {text!r} is no address, such as http://localhost:8081")
    shown = f"[{host}]" if ":" in host else host
    url = urlunsplit((parts.scheme, shown if port is None else f"{shown}:{port}", parts.path, "", ""))
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Schemas(url.rstrip("/"), login=login)


def schema_by_id(number: int, schemas: Schemas) -> tuple[Any, str | None]:
    """Return a schema that fastavro has parsed; else None, and why there is none.

    Raises:
        KitError: the registry cannot be reached, or answers with an error of its own.
    """
    place = (schemas.place, number)
    if place in _answers and _answers[place][2] > time.monotonic():
        return _answers[place][:2]
    if len(_answers) >= _MOST:
        _answers.clear()
    schema = _asked(schemas, number) if schemas.known is None else schemas.known.get(number)
    why, until = None, float("inf")
    if schema is None:
        why, until = "unknown schema id", time.monotonic() + _AGAIN
    else:
        try:
            schema = _parsed(schema)
        except ValueError:
            schema, why = None, "a schema that cannot be read"
    _answers[place] = schema, why, until
    return schema, why


def _parsed(schema: Any) -> Any:
    """Return a schema as fastavro reads by it.

    Raises:
        ValueError: it is not a schema of Avro.
    """
    import fastavro

    try:
        return fastavro.parse_schema(schema)
    except (TypeError, LookupError, fastavro.schema.SchemaParseException) as err:
        raise ValueError(str(err) or type(err).__name__) from None


def _asked(registry: Schemas, number: int) -> Any:
    """Return what a registry has for an id; None where it knows no such id."""
    headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
    if registry.login:
        headers["Authorization"] = registry.login
    request = Request(f"{registry.place}/schemas/ids/{number}", headers=headers)  # noqa: S310 - http or https
    try:
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - as above
            found = json.load(answer)
    except HTTPError as err:
        if err.code == _NOT_FOUND:
            return None
        raise KitError(f"schema registry {registry.place} answers {err.code} {err.reason}") from None
    except (URLError, OSError, ValueError) as err:
        cause = getattr(err, "reason", None) or err
        raise KitError(f"schema registry {registry.place} cannot be reached: {cause}") from None
    if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
        raise KitError(f"schema registry {registry.place} gives no schema for the id {number}")
    if found.get("schemaType", "AVRO") != "AVRO":
        return {"type": "not Avro"}  # which no reader of Avro knows
    try:
        return json.loads(found["schema"])
    except ValueError:
        return found["schema"]  # the bare name of a type
