"""Totals by product of a folder of sales files, kept up to date as files arrive.

The files are headerless CSV of the twelve sales columns; lines that cannot be read are counted by reason.
Guarantee: exactly once per file, over restarts on the same --checkpoint.
Run: spark-submit jobs/sales_totals.py --help
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sparkstream_kit import display, jobflags
from sparkstream_kit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

SALES = """OrderID BIGINT, OrderDate DATE, Quantity INT, DiscountPct DECIMAL(9,4), Rate DECIMAL(12,2),
    SaleAmount DECIMAL(12,2) NOT NULL, CustomerName STRING, State STRING, Region STRING,
    ProductKey STRING NOT NULL, RowCount INT, ProfitMargin DECIMAL(9,4)"""


def transform(lines: DataFrame) -> DataFrame:
    """Return Orders and TotalSales by ProductKey, and for bad lines their number by Problem."""
    from pyspark.sql import functions as F

    from sparkstream_kit import quarantine, schemas

    sales = quarantine.parse_csv(lines, schemas.from_ddl(SALES), date_format="M/d/yy")
    return sales.groupBy("ProductKey", sales[quarantine.REASON].alias("Problem")).agg(
        F.count("*").alias("Orders"), F.sum("SaleAmount").alias("TotalSales")
    )
