"""Tables of a SQL database, each batch in one transaction with a ledger of what has been written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._arguments import check
from sparkstream_kit.connectors import import_arrow, mode_for
from sparkstream_kit.errors import InvalidInputError, MissingExtraError
from sparkstream_kit.sinks.base import Sink
from sparkstream_kit.sinks.ledger import open_target

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["sql_table"]

_OWN = ("sparkstream_ledger", "sparkstream_stage")


def sql_table(
    url: str, table: str, *, how: str = "append", keys: Sequence[str] = (), take_over: bool = False
) -> Sink:
    r"""Write each batch to a table of SQLite, PostgreSQL or MariaDB, in one transaction with a ledger row.

    `append` adds the rows of append mode. `upsert` adds or overwrites the rows of update mode by their keys.
    `replace` makes the table the whole result of complete mode: rows that are gone from the result go from
    the table. A reader sees all of a batch or nothing of it.

    The table is made when it is missing; an existing one must have the columns of the query. SQLite has no
    decimals and no times: there decimals are exact texts (order by `CAST(total AS REAL)`), timestamps are
    texts in UTC, and NaN is null. Names keep their case, so that PostgreSQL wants quotes: "ProductKey".

    What a database cannot hold is changed, and does not stop the query. Bytes that are not UTF-8, and for
    PostgreSQL a NUL character too, are written as `\xff` and `\x00`; a warning says in how many texts.
    PostgreSQL keeps the year 0 as 1 BC, and a date beyond its range (4713 BC to 5874897) as `infinity` or
    `-infinity`. MariaDB has timestamps in UTC without a zone; NaN, infinity and times outside of the years 1
    to 9999 are null there.

    Tables in MariaDB are of InnoDB, and compare texts exactly: case and trailing spaces count. The keys have
    3072 bytes at most, 768 characters, which several keys share equally; a longer key, or a value beyond the
    server's `max_allowed_packet`, fails the query.

    Beside the table, `sparkstream_ledger` keeps the last batch of each query: its number, and its plan, which
    says what the batch reads. A batch that is replayed with the same plan, as after a crash, is skipped. A
    checkpoint that has lost that plan, or is one batch older than the table, gets it back when the query
    starts. A batch before the last one comes only from a checkpoint that was rewound further. Spark may then
    split the input differently, so these batches can be neither skipped nor written again safely: the query
    fails, and the message contains the SQL that resets the ledger. A gap comes when the database was put back
    from a backup, or when the query has written elsewhere before: by `append` and `upsert` the query fails,
    and the message says how to write the missing batches or to go on without them. By `replace` each batch is
    the whole result, and is always written.

    Spark computes the batch first, onto the workers' disks; then the rows pass through the driver in small
    parts into a temporary table, and from there into the table: the driver's memory stays bounded. The
    workers need the extra too. On Spark Connect the server's Python needs the kit, and both it and the client
    reach the database by this URL.

    Delivery: exactly once from replayable sources. A query without a checkpoint is a new one at each start.

    Args:
        url: `sqlite:///totals.db`; `postgresql+psycopg://user@host/name`, with the password in PostgreSQL's
            own PGPASSWORD or ~/.pgpass, out of sight, or after the user; or
            `mariadb+pymysql://user:password@host/name`.
        table: the table, as `table` or `schema.table`.
        how: `append`, `upsert` or `replace`.
        keys: of `upsert`, the columns that a row is known by; the table must be unique in them.
        take_over: write to the table although another query has written to it, or somebody else, or
            although earlier batches of this query are not in it.

    Raises:
        InvalidInputError: a URL, a table or keys that cannot be used; when the query starts, a database
            that cannot be reached, a column that SQL cannot hold, a name that is too long for the database, a
            table with other columns or with rows that this query has not written.
        MissingExtraError: SQLAlchemy, pyarrow, pandas or the database's driver is not installed.

    Examples:
        >>> sql_table("sqlite:///totals.db", "totals", how="replace").modes
        ('complete',)
        >>> sql_table("sqlite://", "totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: an SQLite database without a file is lost at once; ...
    """
    check(sql_table, locals())
    try:
        import_arrow()
        from sparkstream_kit.connectors.sql.database import parse
        from sparkstream_kit.connectors.sql.table import Target, prepare, take, write
    except ModuleNotFoundError as err:
        raise MissingExtraError("sinks.sql_table", "sql") from err
    mode = mode_for("sql_table", "url, 'totals'", how, keys)
    schema, _, name = table.rpartition(".")
    if name.lower() in _OWN:
        raise InvalidInputError(
            f"sql_table: the kit needs the name {name} for a table of its own; use another"
        )
    target = Target(parse(url), schema or None, name, how, tuple(keys), take_over)
    return Sink(
        kind="sql_table",
        modes=(mode,),
        promise="exactly once",
        after_rewind="writes a replayed batch with the same rows once; it refuses others, and says how to "
        "reset its ledger; a database restored from a backup of that moment goes on exactly once",
        needs_checkpoint=how != "replace",
        advice="use how='append' for append, 'upsert' with keys for update, 'replace' for complete",
        writes_to=(target.where,),
        open=partial(
            open_target, partial(prepare, target), partial(take, target), partial(write, target), target.where
        ),
    )


sql_table.__module__ = "sparkstream_kit.sinks"  # where users find it: messages name it so
