"""A MongoDB server: its address, the connection to it, and what its errors mean.

`parse` checks a URL. `connected` opens a connection and reports errors in one line
without the URL's secrets.
"""

from __future__ import annotations

import dataclasses
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidName,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import parse_uri, split_hosts

from sparkstream_kit.errors import InvalidInputError, KitError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database


# The collection with the kit's own documents
LEDGER = "sparkstream_ledger"

# Seconds to wait for a server; pymongo's default of 30 is long for a misspelt host
_PATIENCE = 10
# A server's error codes: not allowed, wrong log-in; the last is Atlas's
_REFUSED = (13, 18, 8000)
# Where in an error's text that begins which pymongo and the server append
_APPENDED = re.compile(r" \(configured timeouts|, Timeout: |, full error: | dup key: ")
_SECRETS = re.compile(
    r"""
    (?<=:) [^:/@]+ (?=@)            # mongodb://user:SECRET@host
    | (?<=password=) [^&;]+         # ?tlsCertificateKeyFilePassword=SECRET
    | (?<=properties=) [^&;]+       # &authMechanismProperties=AWS_SESSION_TOKEN:SECRET
    """,
    re.IGNORECASE | re.VERBOSE,
)
_HOW = "write mongodb://user@host:27017/shop, with %40 for an @ in a password"


@dataclass(frozen=True)
class Address:
    """A database of a MongoDB server.

    Attributes:
        url: the user's URL; out of the repr, because it may hold a password.
        database: the name of the database.
    """

    url: str = dataclasses.field(repr=False)
    database: str

    @property
    def shown(self) -> str:
        """The address for messages, without the user, the password and the options."""
        # mongodb://user:password@hosts/database?options
        scheme, _, rest = self.url.partition("://")
        without_options = rest.partition("?")[0]
        without_user = without_options.rpartition("@")[2]
        hosts = without_user.partition("/")[0]
        return f"{scheme}://{hosts}/{self.database}"

    @property
    def known_as(self) -> str:
        """The address in one spelling, whatever the order of its hosts.

        This machine's own address is localhost.
        """
        server = self.shown.removesuffix(f"/{self.database}")
        hosts = server.partition("://")[2].split(",")
        spelt = sorted(_with_port(host) for host in hosts)
        return f"{','.join(spelt)}/{self.database}"


def _with_port(host: str) -> str:
    """Return a host with its port, in one spelling: `localhost:27017` for `127.0.0.1`."""
    name, port = split_hosts(host)[0]
    if name in ("127.0.0.1", "::1"):
        name = "localhost"
    return f"{name.lower()}:{port}"


def parse(url: str, database: str | None, collection: str) -> Address:
    """Check a URL and the names that a user gave, and return the database that they mean.

    Args:
        url: the URL.
        database: the database, which overrides the one in the URL; None to use that
            one.
        collection: the collection, which must not be the ledger. pymongo checks the
            names when it connects.

    Raises:
        InvalidInputError: the URL is not one of MongoDB (the message does not show it,
            because it may hold a password) or names no database, or the collection is
            the ledger.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in ("mongodb", "mongodb+srv"):
        raise InvalidInputError(f"mongodb: this is no URL of MongoDB; {_HOW}")
    try:
        # As mongodb://, which looks up no host, and without the options, some of which
        # only +srv allows.
        in_url = parse_uri(f"mongodb://{rest.partition('?')[0]}")["database"]
    except (PyMongoError, ValueError):
        raise InvalidInputError(f"mongodb: the URL cannot be read; {_HOW}") from None
    name = database or in_url
    if not name:
        raise InvalidInputError(
            "mongodb: the URL names no database; write mongodb://host:27017/shop, or"
            " give database='shop'"
        )
    if collection == LEDGER:
        raise InvalidInputError(
            f"mongodb: the kit needs the name {LEDGER} for its own; use another"
        )
    if collection.startswith("system."):
        raise InvalidInputError(
            f"mongodb: {collection} is a name of the server's own; use another"
        )
    return Address(url, name)


@contextmanager
def connected(address: Address) -> Iterator[Database[dict[str, Any]]]:
    """Connect to a database for a `with` block, and report errors in one line.

    The secrets of the URL are left out of the line.

    Raises:
        InvalidInputError: the URL cannot be used, or the server refuses the log-in; a
            TransientError if it does not answer, or went away.
        KitError: the server reported an error later.
    """
    # The ledger on a secondary may be out of date, and a write that only one server has
    # can be rolled back.
    options: dict[str, Any] = {
        "appname": "sparkstream-kit",
        "readPreference": "primary",
        "w": "majority",
    }
    if "serverselectiontimeoutms" not in address.url.lower():
        options["serverSelectionTimeoutMS"] = _PATIENCE * 1000
    where = f"MongoDB at {address.shown}"
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(address.url, **options)
    except (PyMongoError, ValueError, TypeError) as err:
        raise InvalidInputError(
            f"{where} cannot be used: {cause(err, address)}; correct the URL"
        ) from None
    with client:
        try:
            client.admin.command("ping")
            yield client[address.database]
        except (PyMongoError, BSONError) as err:
            raise _in_one_line(err, where, address) from None


def _in_one_line(error: Exception, where: str, address: Address) -> KitError:
    """Translate an error of pymongo's into one of the kit's, with the fix if it is known."""
    why = cause(error, address)
    if isinstance(error, ServerSelectionTimeoutError):
        return TransientError(
            f"{where} does not answer: {why}; start it, or correct the URL"
        )
    if _is_away(error):
        return TransientError(f"{where} went away: {why}; start again when it is back")
    if isinstance(error, ConfigurationError | InvalidName):
        return InvalidInputError(f"{where} cannot be used: {why}")
    if isinstance(error, OperationFailure) and error.code in _REFUSED:
        fix = (
            "correct the log-in in the URL, or give the user the role readWrite on"
            f" {address.database}"
        )
        return InvalidInputError(f"{where} refuses this: {why}; {fix}")
    return KitError(f"{where}: {why}")


def _is_away(error: Exception) -> bool:
    """Return whether the server went away, or another one became the primary."""
    if isinstance(error, ConnectionFailure):
        return True
    if not isinstance(error, PyMongoError):
        return False
    return error.has_error_label("RetryableWriteError")


def cause(error: object, address: Address) -> str:
    """Return an error in one line of up to 300 characters, without the URL's secrets."""
    text = " ".join(str(error).split())
    # Cut what pymongo appends to the error: its settings, and a description of all
    # servers; and values.
    text = _APPENDED.split(text)[0]
    for secret in _SECRETS.findall(address.url):
        text = text.replace(secret, "***").replace(unquote_plus(secret), "***")
    return text[:300]
