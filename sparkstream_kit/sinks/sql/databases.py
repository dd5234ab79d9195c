"""Databases by URL: what can be connected to, and their errors in one line without a password."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from sparkstream_kit.errors import InvalidInputError, KitError, MissingExtraError, hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL, Connection

__all__ = ["connected", "parse", "shown"]

_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg"}
_BUSY = 60  # seconds to wait while another process has an SQLite file locked; Python's own 5 are soon over


def parse(text: str) -> URL:
    """Return the URL of a database that the kit can write to; an SQLite file's path is made absolute.

    Raises:
        InvalidInputError: no URL (it is not shown: it may hold a password), or another kind of database.
        MissingExtraError: the database's driver is not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise InvalidInputError(
            "the database's URL cannot be read; write sqlite:///totals.db or "
            "postgresql+psycopg://user@host/name, with %40 for an @ in a password"
        ) from None
    backend, _, driver = url.drivername.partition("+")
    if backend not in _DRIVERS:
        near = hint(backend, _DRIVERS) or "; write to others with sinks.foreach_batch"
        raise InvalidInputError(f"sql_table writes to sqlite and postgresql, not {backend}{near}")
    if driver not in ("", _DRIVERS[backend]):
        raise InvalidInputError(f"sql_table does not use {driver}; write {backend}+{_DRIVERS[backend]}://…")
    url = url.set(drivername=f"{backend}+{_DRIVERS[backend]}")
    if backend == "postgresql":
        try:
            import psycopg  # noqa: F401 - asked for here, so that it is missed before a query starts
        except ImportError as err:
            raise MissingExtraError("sinks.sql_table with PostgreSQL", "postgresql") from err
        return url
    if url.database in (None, "", ":memory:"):
        raise InvalidInputError(
            "an SQLite database without a file is lost at once; name one, such as sqlite:///totals.db"
        )
    file = Path(str(url.database)).resolve()  # by one name, whatever links lead to it
    if not file.parent.is_dir():
        raise InvalidInputError(f"database {file}: folder {file.parent} does not exist; create it")
    return url.set(database=str(file))


def shown(url: URL) -> str:
    """Return a URL for messages: without the password and the options, which can hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """Connect, and put what goes wrong in words; what is not committed when it ends has not happened.

    Raises:
        InvalidInputError: the database cannot be reached.
        KitError: it reported an error later.
    """
    options: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite" and "timeout" not in url.query:
        options["timeout"] = _BUSY
    # A connection a batch: one that was kept would be found dead after a restart of the database.
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=options)
    errors = (SQLAlchemyError, engine.dialect.loaded_dbapi.Error)
    try:
        connection = engine.connect()
    except errors as err:
        raise InvalidInputError(
            f"database {shown(url)} cannot be reached: {_cause(err, url)}; start it, or correct the URL"
        ) from None
    with connection:
        try:
            yield connection
        except errors as err:
            connection.invalidate()  # it may be dead: to roll back on it would be an error of its own
            raise KitError(f"database {shown(url)}: {_cause(err, url)}") from None


def _cause(error: BaseException, url: URL) -> str:
    """Return the first line of what the database said, without the URL's secrets."""
    lines = [line.strip() for line in str(getattr(error, "orig", None) or error).splitlines()]
    text = next((line for line in lines if line), type(error).__name__)
    secrets = [str(url.password or ""), *(str(v) for k, v in url.query.items() if "password" in k)]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text
