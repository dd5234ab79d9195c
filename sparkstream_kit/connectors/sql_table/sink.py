"""The public function `sinks.sql_table`: checks its arguments, and builds the `Sink`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sparkstream_kit._internal.arguments import check
from sparkstream_kit.connectors import mode_for
from sparkstream_kit.connectors.sql_table import SYSTEM
from sparkstream_kit.sinks.base import Form
from sparkstream_kit.sinks.ledger import exactly_once, open_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparkstream_kit.sinks.base import Sink


def sql_table(
    url: str,
    table: str,
    *,
    how: str = "append",
    keys: Sequence[str] = (),
    take_over: bool = False,
) -> Sink:
    r"""Write each batch to a table of SQLite, PostgreSQL or MariaDB in one transaction.

    The same transaction writes the batch's row in a ledger.

    The argument `how` selects how batches change the table:

    - `append` inserts the rows of append mode.
    - `upsert` inserts the rows of update mode, or overwrites the rows that have the
      same keys.
    - `replace` makes the table equal to the whole result of complete mode: rows that
      are no longer in the result are deleted from the table.

    A reader sees all of a batch or nothing of it.

    The table is created if it is missing; an existing table must have the columns of
    the query, of types that change no value. A text that is too long for its column
    fails the batch, also if blanks alone would be cut off, and so does NULL in a column
    that counts by itself (AUTO_INCREMENT). SQLite has neither decimals nor times:
    decimals are stored there as exact texts (sort by `CAST(total AS REAL)`), timestamps
    as texts in UTC, NaN as null, and -0.0 as 0.0. Names keep their case, so PostgreSQL
    needs quotes around them: "ProductKey".

    A value that the database cannot hold is changed and does not stop the query; a
    warning says how many values of a batch were changed, NaN not counted. Bytes that
    are not UTF-8 are written as `\xff` and the like; for PostgreSQL a NUL character is
    written as `\x00`. Times outside of the years 1 to 9999 become null. MariaDB stores
    timestamps in UTC without a zone; NaN and infinity become null there, and -0.0
    becomes 0.0.

    In MariaDB the table uses InnoDB and compares texts exactly: case and trailing
    spaces count. All keys together have at most 3072 bytes (768 characters), which
    several keys share equally. A longer key, or a value larger than the server's
    `max_allowed_packet`, fails the query.

    The table `sparkstream_ledger` in the same schema keeps, for each query, the number
    of its last batch and that batch's plan (which input the batch read):

    - A batch that is replayed with the same plan, as after a crash, is skipped.
    - If the checkpoint has lost the last batch's plan, or is one batch older than the
      table, the plan is put back when the query starts.
    - A batch before the last one is replayed only after a rewind of the checkpoint.
      Spark may then split the input differently, so these batches can be neither
      skipped nor rewritten safely: the query fails, and the message contains the SQL
      that resets the ledger.
    - If batches are missing, because the database was restored from a backup or the
      query wrote elsewhere before, `append` and `upsert` fail the query; the message
      says how to write the missing batches, or how to continue without them.
    - If the table was deleted, or has no rows although the query has written some,
      `append` and `upsert` refuse the query when it starts, or fail it with its next
      batch. Rows that are removed while others stay, such as those that are too old,
      are no loss. Where others take all rows out of the table, as out of a queue, give
      take_over=True.

    With `replace` each batch is the whole result, and is always written. A transaction
    that the database gives up for another one, as in a deadlock, is tried again.

    Spark first computes the batch, onto the workers' disks. Then the rows pass through
    the driver in small parts into a temporary table, and from there into the table, so
    the driver's memory use is bounded. The workers need the extra too. On Spark Connect
    the server's Python needs the kit, and both the server and the client must reach the
    database by this URL.

    Delivery: exactly once from replayable sources. Without a checkpoint each start is a
    new query.

    Args:
        url: `sqlite:///totals.db`; `postgresql+psycopg://user@host/name`, with the
            password after the user or, to keep it secret, in PostgreSQL's own
            PGPASSWORD or ~/.pgpass; or `mariadb+pymysql://user:password@host/name`.
        table: the table, as `table` or `schema.table`; SQLite has no schemas, so there
            a dot is a part of the name. Not `sparkstream_ledger`.
        how: `append`, `upsert` or `replace`.
        keys: the columns that identify a row, for `upsert` only; the table must have a
            primary key or a unique index on exactly these columns.
        take_over: write to the table although another query or program has written to
            it, or although earlier batches of this query are missing from it.

    Raises:
        InvalidInputError: the URL, table or keys cannot be used; when the query starts,
            the database cannot be reached, a column has a type that SQL cannot hold, or
            the table has other columns or rows that this query has not written.
        MissingExtraError: SQLAlchemy, pyarrow, pandas or the database's driver is not
            installed.

    Examples:
        >>> sql_table("sqlite:///totals.db", "totals", how="replace").modes
        ('complete',)
        >>> sql_table("sqlite://", "totals")
        Traceback (most recent call last):
        ...
        sparkstream_kit.errors.InvalidInputError: an SQLite database without a file ...
    """
    check(sql_table, locals())
    SYSTEM.need("sinks.sql_table")
    from sparkstream_kit.connectors.sql_table.database import parse
    from sparkstream_kit.connectors.sql_table.table import SqlTarget

    mode = mode_for("sql_table", "url, 'totals'", how, keys, SYSTEM.ways)
    target = SqlTarget.of(parse(url), table, how, tuple(keys), take_over=take_over)
    return exactly_once(
        "sql_table",
        target.where,
        (mode,),
        partial(open_target, target, identity=target.identity),
        keys=keys,
        read=target.rows,
        form=Form(target.written, "json"),
    )
