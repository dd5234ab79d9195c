"""Databases of the tests: SQLite, and servers that are started when they are asked for."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from support import mariadb, postgresql

SERVERS: dict[str, Callable[[], postgresql.Server | mariadb.Server]] = {
    "postgresql": postgresql.server,
    "mariadb": mariadb.server,
}
DATABASES = [
    "sqlite",
    *(pytest.param(name, marks=pytest.mark.slow) for name in SERVERS),
]


def new(name, folder):
    """Return the URL of an empty database."""
    return (
        f"sqlite:///{folder}/test.db"
        if name == "sqlite"
        else SERVERS[name]().database()
    )


def sql(url, statement):
    """Run a statement of standard SQL and return its rows."""
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        if url.startswith("mariadb"):
            connection.exec_driver_sql("SET SESSION sql_mode = 'ANSI'")
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []
