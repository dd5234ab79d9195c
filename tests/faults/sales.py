"""Input that lands bit by bit, and what is in it, computed without Spark."""

import itertools
from decimal import Decimal

from sparkstream_kit import feeds

Totals = list[tuple[str, int, Decimal]]  # ProductKey, Orders, TotalSales; by key

SEED = 3


class Sales:
    """A folder of sales files of one seeded series; `broken`: each has an unreadable line."""

    def __init__(self, folder, *, rows=50, broken=False):
        self.folder = folder
        self._rows = rows  # a file
        self._broken, self.files = broken, 0
        self._series = iter(feeds.sales_files(None, rows=rows, seed=SEED))
        folder.mkdir()

    def land(self, files):
        """Land the next files."""
        for name, text in itertools.islice(self._series, files):
            self.files += 1
            more = f"broken,{self.files}\n" if self._broken else ""
            feeds.drip([(name, text + more)], self.folder)

    def broken(self, files=None):
        """Return the count and the sum of the numbers in the broken lines, shaped as totals."""
        count = self.files if files is None else files
        return [("broken", count, Decimal(sum(range(1, count + 1))))] if count else []

    def totals(self, files=None):
        """Return (ProductKey, Orders, TotalSales) by key, of the first files or of all.

        All are those that have landed.
        """
        rows = self._rows * (self.files if files is None else files)
        return sorted(feeds.sales_totals(feeds.sales_rows(rows, seed=SEED)))


class Events(Sales):
    """A folder of files of shop events; each has an unreadable line and an event twice."""

    def __init__(self, folder):
        super().__init__(folder, broken=True)
        lines = map(feeds.csv_line, feeds.events_rows(None, seed=SEED))
        self._series = iter(
            feeds.line_files(lines, rows=self._rows, name="events-{}.csv")
        )
        self._last = ""

    def land(self, files):
        """Land the next files, each with the last event of the file before."""
        for name, text in itertools.islice(self._series, files):
            self.files += 1
            feeds.drip(
                [(name, f"{self._last}{text}broken,{self.files}\n")], self.folder
            )
            self._last = text.splitlines(keepends=True)[-1]

    def totals(self, files=None):
        """Return (type, events, sum of prices) by type, of the first files or of all.

        All are those that have landed.
        """
        rows = self._rows * (self.files if files is None else files)
        return feeds.events_truth(feeds.events_rows(rows, seed=SEED))
