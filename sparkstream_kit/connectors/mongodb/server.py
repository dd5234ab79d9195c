"""The server: its URL, and its errors in one line without a password."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import parse_uri

from sparkstream_kit.errors import InvalidInputError, KitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database


LEDGER = "sparkstream_ledger"

_PATIENCE = 10  # seconds; pymongo's own 30 are long for a name that is wrong
_UNAUTHORIZED, _AUTHENTICATION_FAILED, _ATLAS = 13, 18, 8000  # codes of servers; the last of MongoDB's own
_NOT_IN_DATABASES = '/\\. "$*<>:|?\0'
_HOW = "write mongodb://user@host:27017/shop, with %40 for an @ in a password"


@dataclass(frozen=True)
class Address:
    """A database of a server."""

    url: str = field(repr=False)
    database: str

    @property
    def shown(self) -> str:
        """The address for messages: without user, password and options."""
        scheme, _, rest = self.url.partition("://")
        hosts = rest.partition("?")[0].rpartition("@")[2].partition("/")[0]
        return f"{scheme}://{hosts}/{self.database}"


def parse(url: str, database: str | None, collection: str) -> Address:
    """Return the database that is meant.

    Raises:
        InvalidInputError: no URL of MongoDB (it is not shown: it may hold a password), or a name that
            MongoDB does not take.
    """
    scheme, _, rest = url.partition("://")
    bare, _, options = rest.partition("?")
    if scheme not in ("mongodb", "mongodb+srv"):
        raise InvalidInputError(f"mongodb: this is no URL of MongoDB; {_HOW}")
    try:
        # Without the options, of which some are for mongodb+srv alone, and without looking its host up.
        named = parse_uri(f"mongodb://{bare}")["database"]
    except (PyMongoError, ValueError):
        raise InvalidInputError(f"mongodb: the URL cannot be read; {_HOW}") from None
    named = database or named
    if not named:
        raise InvalidInputError(
            "mongodb: the URL names no database; write mongodb://host:27017/shop, or give database='shop'"
        )
    if set(named) & set(_NOT_IN_DATABASES):
        raise InvalidInputError(f"mongodb: MongoDB takes no database of the name {named}; use another")
    if collection == LEDGER:
        raise InvalidInputError(f"mongodb: the kit needs the name {LEDGER} for its own; use another")
    if (
        not collection
        or {"$", "\0"} & set(collection)
        or ".." in collection
        or collection.startswith((".", "system."))
        or collection.endswith(".")
    ):
        raise InvalidInputError(
            f"mongodb: MongoDB takes no collection of the name {collection!r}; use another"
        )
    if any(re.fullmatch("(?i)w=0+", unquote_plus(each)) for each in re.split("[&;]", options)):
        raise InvalidInputError(
            "mongodb: with w=0 the server does not say whether it has written; leave w out of the URL"
        )
    return Address(url, named)


@contextmanager
def connected(address: Address) -> Iterator[Database[dict[str, Any]]]:
    """Connect, and put what goes wrong in words.

    Raises:
        InvalidInputError: the server does not answer, or refuses the log-in.
        KitError: it reported an error later.
    """
    options = _options(address.url)
    where = f"MongoDB at {address.shown}"
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(address.url, **options)
    except (PyMongoError, ValueError, TypeError) as err:
        raise InvalidInputError(f"{where} cannot be used: {cause(err, address)}; correct the URL") from None
    with client:
        try:
            client.admin.command("ping")
        except PyMongoError as err:
            told = _told(err, where, address)
            raise told if isinstance(told, InvalidInputError) else InvalidInputError(str(told)) from None
        try:
            yield client[address.database]
        except (PyMongoError, BSONError) as err:
            raise _told(err, where, address) from None


def _options(url: str) -> dict[str, Any]:
    """Return the options of a client beside those that a URL has."""
    given = {each.partition("=")[0].lower() for each in re.split("[&;]", url.partition("?")[2])}
    # A ledger that is read elsewhere could be an old one.
    options: dict[str, Any] = {"appname": "sparkstream-kit", "readPreference": "primary"}
    if "serverselectiontimeoutms" not in given:
        options["serverSelectionTimeoutMS"] = _PATIENCE * 1000
    if "w" not in given:
        options["w"] = "majority"  # what one server has written alone can be taken back by the others
    return options


def _told(error: Exception, where: str, address: Address) -> KitError:
    """Return an error in words, with the fix where it is known."""
    said = cause(error, address)
    if isinstance(error, ServerSelectionTimeoutError):
        return InvalidInputError(f"{where} does not answer: {said}; start it, or correct the URL")
    if isinstance(error, ConfigurationError):
        return InvalidInputError(f"{where} cannot be used: {said}")
    code = error.code if isinstance(error, OperationFailure) else None
    if code in (_AUTHENTICATION_FAILED, _ATLAS):
        return InvalidInputError(
            f"{where} refuses the log-in: {said}; correct the user, the password or authSource in the URL"
        )
    if code == _UNAUTHORIZED:
        return InvalidInputError(
            f"{where} does not allow this: {said}; give the user the role readWrite on {address.database}"
        )
    return KitError(f"{where}: {said}")


def cause(error: object, address: Address) -> str:
    """Return what the server or pymongo said, in one line without the URL's secrets."""
    text = " ".join(str(error).split())
    # pymongo goes on with its settings, and with all that it knows of the servers.
    text = re.split(r" \(configured timeouts|, Timeout: |, full error: ", text)[0]
    rest = address.url.partition("://")[2]
    password = rest.partition("?")[0].rpartition("@")[0].partition(":")[2]
    options = re.findall(r"(?i)(?:password|properties)=([^&;]+)", rest.partition("?")[2])
    for secret in filter(None, (password, *options)):
        text = text.replace(secret, "***").replace(unquote_plus(secret), "***")
    return text[:300]
