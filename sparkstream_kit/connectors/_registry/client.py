"""Ask a schema registry, by the API of Confluent's, which other registries speak too.

`Registry` is the client; `made` makes one of what a user gives to `schemas.registry`,
and `of` takes a registry or the text of its address. `Schema` is what a registry gives,
with the schemas that it refers to.

The standard library's HTTP client is enough: a worker sends few requests, one for each
id of a schema, and so a job with a registry needs no further library.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import ssl
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, OpenerDirector, Request, build_opener

from sparkstream_kit.errors import InvalidInputError, KitError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import SupportsRead

_SECONDS = 10.0  # timeout of one request to the registry
_WAIT = 60.0  # seconds for which a registry that is away is asked again
_PAUSE = 0.1  # seconds before it is asked again for the first time; they double
_LONGEST_PAUSE = 5.0
# Seconds until the registry is asked again for an id that it did not know
_AGAIN = 60.0
# Ids in the cache, which is bounded because damaged records can contain any id
_MOST = 10_000

_NOT_FOUND = 404
_AWAY = {429, 500, 502, 503, 504}  # codes of a registry that may answer in a moment
_NO_LOGIN = {401, 403}
# What a registry says in the answer 404: no such subject, version or schema
_UNKNOWN = {40401, 40402, 40403}
_ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"
_JSON = "application/vnd.schemaregistry.v1+json"

# The cache of this process, by registry and id: the schema, None if the registry does
# not know it, and the monotonic time in seconds until which the entry is valid.
_answers: dict[tuple[Registry, int], tuple[Schema | None, float]] = {}


@dataclass(frozen=True)
class Reference:
    """The name by which a schema refers to another one, and the version that is meant.

    Attributes:
        name: the full name of the type for Avro, the path of the import for Protobuf,
            the address in `$ref` for JSON.
        subject: the subject of the other schema.
        version: its version there.
        schema: the other schema, as the registry has given it; None if the reference
            was made by hand, to register a schema.
    """

    name: str
    subject: str
    version: int
    schema: Schema | None = dataclasses.field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Schema:
    """A schema, as a registry gives or takes it.

    Attributes:
        kind: "AVRO", "PROTOBUF" or "JSON".
        text: the schema itself: JSON, or the text of a `.proto` file.
        references: the schemas that it refers to.
        id: its id; None if it is not registered.
        version: its version in its subject, if it was asked for by its subject.
    """

    kind: str
    text: str
    references: tuple[Reference, ...] = ()
    id: int | None = None
    version: int | None = None

    def imported(self) -> dict[str, Schema]:
        """Return all schemas that it refers to, by name, each after those that itself refers to."""
        found: dict[str, Schema] = {}
        for reference in self.references:
            if reference.schema is not None:
                found |= reference.schema.imported()
                found[reference.name] = reference.schema
        return found


@dataclass(frozen=True)
class Registry:
    """A schema registry with the API of Confluent's; `schemas.registry` makes one.

    A registry that is away (no answer, or one of the codes 429, 500, 502, 503 and 504)
    is asked again until `wait` seconds are over. Only what `schema` returns is cached.

    Attributes:
        place: its address, without a login and without a slash at the end.
        login: the value of the header `Authorization`; None to send no such header.
        ca: the certificates to trust, PEM; None for those of the system.
        certificate: the certificate to log in with and its key, PEM; None without one.
        wait: the seconds for which a registry that is away is asked again.
    """

    place: str
    login: str | None = dataclasses.field(default=None, repr=False)
    ca: str | None = dataclasses.field(default=None, repr=False)
    certificate: str | None = dataclasses.field(default=None, repr=False)
    wait: float = _WAIT

    def schema(self, number: int) -> Schema | None:
        """Return the schema with an id, and those that it refers to; None if the id is unknown.

        Each process asks once for an id, as a schema of an id never changes. It asks
        again after a minute for an id that the registry does not know.

        Raises:
            KitError: the registry cannot be reached, refuses the login, or answers with
                an error or without a schema.
        """
        key = (self, number)
        if key in _answers:
            schema, until = _answers[key]
            if until > time.monotonic():
                return schema
        if len(_answers) >= _MOST:
            _answers.clear()
        what = f"gives no schema {number}"
        answer = self._asked(f"/schemas/ids/{number}", what)
        if answer is None:
            schema = None
            until = time.monotonic() + _AGAIN
        else:
            schema = self._read(answer, what, number)
            until = float("inf")
        _answers[key] = schema, until
        return schema

    def latest(self, subject: str) -> Schema | None:
        """Return the newest schema of a subject; None if there is no such subject.

        Raises:
            KitError: as for `schema`.
        """
        return self.version(subject, "latest")

    def version(self, subject: str, version: int | str) -> Schema | None:
        """Return the schema of a subject in a version; None if there is none.

        Raises:
            KitError: as for `schema`.
        """
        what = f"gives no version {version} of {subject}"
        answer = self._asked(f"{_path(subject)}/versions/{version}", what)
        return None if answer is None else self._read(answer, what)

    def look_up(self, subject: str, schema: Schema) -> int | None:
        """Return the id of a schema that is registered in a subject; None if it is not.

        Raises:
            KitError: as for `schema`.
            InvalidInputError: the registry cannot read the schema.
        """
        what = f"does not look up a schema of {subject}"
        answer = self._asked(_path(subject), what, schema)
        return None if answer is None else _number(answer, self, what)

    def register(self, subject: str, schema: Schema) -> int:
        """Register a schema in a subject, if it is not there yet, and return its id.

        Raises:
            KitError: as for `schema`.
            InvalidInputError: the registry cannot read the schema, or it breaks the
                subject's rule of compatibility.
        """
        what = f"does not register a schema of {subject}"
        answer = self._asked(f"{_path(subject)}/versions", what, schema)
        return _number(answer or {}, self, what)

    def compatible(self, subject: str, schema: Schema) -> list[str]:
        """Ask whether a schema may be registered in a subject, and return what breaks.

        Returns:
            What the registry says against it, one text for each point; an empty list if
            the schema may be registered, as in a subject that has no schema yet.

        Raises:
            KitError: as for `schema`.
            InvalidInputError: the registry cannot read the schema.
        """
        what = f"does not compare a schema with those of {subject}"
        path = f"/compatibility{_path(subject)}/versions?verbose=true"
        answer = self._asked(path, what, schema)
        if answer is None or answer.get("is_compatible"):
            return []
        messages = answer.get("messages") or ["the registry does not say why"]
        return [str(each) for each in messages]

    def _read(
        self, answer: Mapping[str, Any], what: str, number: int | None = None
    ) -> Schema:
        """Return the schema in an answer, with those that it refers to."""
        try:
            references = tuple(
                self._referred(str(each["name"]), str(each["subject"]), each["version"])
                for each in answer.get("references") or ()
            )
            return Schema(
                kind=answer.get("schemaType") or "AVRO",
                text=_text(answer["schema"]),
                references=references,
                id=answer.get("id", number),
                version=answer.get("version"),
            )
        except (LookupError, TypeError, ValueError) as err:
            raise self.error(what, err) from None

    def _referred(self, name: str, subject: str, version: int) -> Reference:
        found = self.version(subject, version)
        if found is None:
            raise ValueError(f"it refers to version {version} of {subject}")
        return Reference(name, subject, version, found)

    def _asked(
        self, path: str, what: str, schema: Schema | None = None
    ) -> dict[str, Any] | None:
        """Send a request, again and again to a registry that is away.

        Args:
            path: of the request.
            what: what the registry did not do, for messages.
            schema: what to send; None for a request that reads.

        Returns:
            The answer; None if the registry knows no such subject, version or schema.
        """
        end = time.monotonic() + self.wait
        pause = _PAUSE
        while True:
            try:
                return _answer(self._response(path, schema))
            except HTTPError as err:
                with err:
                    if err.code == _NOT_FOUND and _is_unknown(err):
                        return None
                    away = self._refused(err, what)
            except ssl.SSLCertVerificationError as err:
                raise self._distrusted(what, err) from None
            except (OSError, HTTPException) as err:
                reason = getattr(err, "reason", None)
                # A peer that hangs up is away, like one that does not answer
                hung_up = isinstance(reason, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
                if isinstance(reason, ssl.SSLError) and not hung_up:
                    raise self._distrusted(what, err) from None
                away = self.error(what, err, TransientError)
            except (ValueError, LookupError, TypeError, AttributeError) as err:
                raise self.error(what, err) from None
            if time.monotonic() + pause > end:
                raise away from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _response(self, path: str, schema: Schema | None) -> bytes:
        headers = {"Accept": _ACCEPT}
        content = None
        if schema is not None:
            headers["Content-Type"] = _JSON
            content = _sent(schema)
        request = Request(self.place + path, data=content, headers=headers)  # noqa: S310 - http or https
        if self.login:
            request.add_unredirected_header("Authorization", self.login)
        opener = _opener(self.ca, self.certificate)
        with opener.open(request, timeout=_SECONDS) as response:
            found: bytes = response.read()
        return found

    def _refused(self, err: HTTPError, what: str) -> KitError:
        """Return the error of a registry that is away; raise that of one that refuses.

        Raises:
            KitError: another try would end as this one.
        """
        if err.code in _AWAY:
            return self.error(what, err, TransientError)
        if err.code in _NO_LOGIN:
            raise InvalidInputError(
                f"schema registry {self.place} {what}: {err}; give user= and password=,"
                " token=, or certificate="
            ) from None
        said = _said(err)
        kind = KitError if err.code == _NOT_FOUND else InvalidInputError
        raise self.error(what, f"{err}{said and f': {said}'}", kind) from None

    def _distrusted(self, what: str, err: Exception) -> KitError:
        return InvalidInputError(
            f"schema registry {self.place} {what}: {err}; give the certificates to trust"
            " as ca=, and the own one as certificate="
        )

    def error(
        self, what: str, why: object, kind: type[KitError] = KitError
    ) -> KitError:
        """Make the error that says what the registry did not do, and why."""
        return kind(f"schema registry {self.place} {what}: {why}")


def _path(subject: str) -> str:
    return f"/subjects/{quote(subject, safe='')}"


def _text(schema: Any) -> str:
    if not isinstance(schema, str):
        raise TypeError("its schema is no text")
    return schema


def _sent(schema: Schema) -> bytes:
    """Return a schema as a request has it."""
    content: dict[str, Any] = {"schemaType": schema.kind, "schema": schema.text}
    if schema.references:
        content["references"] = [
            {"name": each.name, "subject": each.subject, "version": each.version}
            for each in schema.references
        ]
    return json.dumps(content).encode()


def _answer(content: bytes) -> dict[str, Any]:
    answer = json.loads(content)
    if not isinstance(answer, dict):
        raise TypeError("its answer is no JSON object")
    return answer


def _number(answer: Mapping[str, Any], registry: Registry, what: str) -> int:
    number = answer.get("id")
    if not isinstance(number, int):
        raise registry.error(what, "its answer has no id")
    return number


def _is_unknown(response: SupportsRead[bytes]) -> bool:
    """Say whether the answer 404 is that of a registry, and not of another server."""
    try:
        return json.load(response).get("error_code") in _UNKNOWN
    except (ValueError, AttributeError, OSError):
        return False


def _said(response: SupportsRead[bytes]) -> str:
    """Return the words of a registry's refusal, on one line."""
    try:
        return " ".join(str(json.load(response).get("message", "")).split())
    except (ValueError, AttributeError, OSError):
        return ""


@cache
def _opener(ca: str | None, certificate: str | None) -> OpenerDirector:
    """Return what opens addresses, with these certificates, PEM."""
    if ca is None and certificate is None:
        return build_opener()
    return build_opener(HTTPSHandler(context=_context(ca, certificate)))


def _context(ca: str | None, certificate: str | None) -> ssl.SSLContext:
    """Make the settings of TLS.

    Raises:
        OSError: it is no certificate, or its key is not with it.
    """
    context = ssl.create_default_context(cadata=ca)
    if certificate is not None:
        # OpenSSL reads it from a file alone; this one is readable by its owner only
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(certificate)
            file.flush()
            context.load_cert_chain(file.name, password="")
    return context


def of(registry: Registry | str) -> Registry:
    """Return a registry, which was given as such or by the text of its address.

    Raises:
        InvalidInputError: the text is not an address with http or https.
    """
    return made(registry) if isinstance(registry, str) else registry


def made(
    address: str,
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    ca: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
    wait: float = _WAIT,
) -> Registry:
    """Make a registry of what `schemas.registry` takes; it says what this raises."""
    if not re.fullmatch(r"https?://(.*@)?[^/@:\s]+(:\d+)?(/.*)?", address):
        raise InvalidInputError(
            f"registry {address!r} is no address, such as http://localhost:8081"
        )
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")
    if parts.username is not None and user is None and token is None:
        user = unquote(parts.username)
        password = unquote(parts.password or "")
    if token is not None and user is not None:
        raise InvalidInputError(
            f"registry {url}: a user and a token are two ways to log in; give one"
        )
    if password is not None and user is None:
        raise InvalidInputError(f"registry {url}: a password needs user=; give both")
    if key is not None and certificate is None:
        raise InvalidInputError(f"registry {url}: key= needs certificate=; give both")
    login = None
    if token is not None:
        login = f"Bearer {token}"
    if user is not None:
        pair = f"{user}:{password or ''}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    trusted = None if ca is None else _pem(ca)
    own = None if certificate is None else _pem(certificate)
    if own is not None and key is not None:
        own = f"{own}\n{_pem(key)}"
    try:
        _opener(trusted, own)
    except (OSError, ValueError) as err:
        raise InvalidInputError(
            f"registry {url}: the certificates cannot be used: {err}; give files in PEM,"
            " the key without a password"
        ) from None
    return Registry(url, login, trusted, own, float(wait))


def _pem(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as err:
        raise InvalidInputError(
            f"certificate {path} cannot be read: {err}; correct the file"
        ) from None
