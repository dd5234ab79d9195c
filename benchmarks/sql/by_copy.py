"""A million rows into PostgreSQL by one plain COPY into a stage and a merge by hand.

No Spark: the rows are CSV text in memory before the clock starts.
Run: by_copy.py URL FOLDER_OF_PARQUET
"""

import io
import json
import sys
import time

import psycopg
from pyarrow import csv, parquet

url, folder = sys.argv[1:]
text = io.BytesIO()
sales = parquet.read_table(
    folder, columns=["OrderID", "State", "ProductKey", "SaleAmount"]
)
csv.write_csv(sales, text, csv.WriteOptions(include_header=False))
started = time.monotonic()
with (
    psycopg.connect(url.replace("+psycopg", "")) as connection,
    connection.cursor() as cursor,
):
    columns = (
        '("OrderID" BIGINT, "State" TEXT, "ProductKey" TEXT, "SaleAmount"'
        " NUMERIC(12,2))"
    )
    cursor.execute(f"CREATE TABLE sales {columns}".encode())
    cursor.execute(f"CREATE TEMPORARY TABLE stage {columns} ON COMMIT DROP".encode())
    with cursor.copy("COPY stage FROM STDIN (FORMAT CSV)") as copy:
        copy.write(text.getbuffer())
    cursor.execute("INSERT INTO sales SELECT * FROM stage")
print(json.dumps({"seconds": time.monotonic() - started}))
