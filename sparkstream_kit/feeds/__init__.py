"""Things that make input: a TCP line server, a file dripper, and seeded generators with known truth.

The makers of lines, rows and files check their arguments when they are called; what they return can be read
from its start any number of times. A seed gives the same data on every Python (a test holds the digests).
"""

from sparkstream_kit.feeds.files import drip
from sparkstream_kit.feeds.lines import random_lines, text_lines
from sparkstream_kit.feeds.sales import sales_files, sales_rows, sales_totals
from sparkstream_kit.feeds.server import LineServer

__all__ = ["LineServer", "drip", "random_lines", "sales_files", "sales_rows", "sales_totals", "text_lines"]
