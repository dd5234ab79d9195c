"""What the function of a batch prints: on Spark Connect it runs at the server, and this brings it here."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
from typing import TYPE_CHECKING

from sparkstream_kit._spark.session import is_connect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkstream_kit._spark.batch import Write


def keep_printed(write: Write, spark: SparkSession, name: str) -> Write:
    """Return the function of the query `name` so that `bring_printed` prints here what it prints.

    On Spark Connect its texts are kept in views, one a batch; here they are printed at once.
    """
    if not is_connect(spark):
        return write
    prefix = _views(name)

    def keep(batch: DataFrame, batch_id: int) -> None:
        text = io.StringIO()
        try:
            with contextlib.redirect_stdout(text):
                write(batch, batch_id)
        finally:
            if printed := text.getvalue():
                # The server's Python has the very session of the client, and so its views.
                rows = batch.sparkSession.createDataFrame([(printed,)], "text STRING")
                rows.createOrReplaceTempView(f"{prefix}{batch_id}")

    return keep


def bring_printed(spark: SparkSession, name: str) -> None:
    """Print what the query `name` has printed since the last time, to this process's standard output."""
    if not is_connect(spark):
        return
    prefix = _views(name)
    found = [row.viewName for row in spark.sql(f"SHOW VIEWS LIKE '{prefix}*'").collect()]
    for view in sorted(found, key=lambda view: int(view.removeprefix(prefix))):
        sys.stdout.write(spark.table(view).collect()[0].text)
        sys.stdout.flush()
        spark.catalog.dropTempView(view)


def _views(name: str) -> str:
    """Return how the names of a query's views begin: one a batch, with its printed text as the only row."""
    return f"sparkstream_{hashlib.sha256(name.encode()).hexdigest()[:12]}_"
