"""Extra: watch a run: in the terminal, in a notebook, on a page, from a scraper, and later from a file.

from sparkstream_kit import monitoring
monitoring.live(counts, run_for=20)  # a streaming DataFrame, beneath the cell of a notebook
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkstream_kit._lazy import attributes

if TYPE_CHECKING:
    from sparkstream_kit.monitoring.board import live

__all__ = ["live"]

__getattr__ = attributes(__name__, {"sparkstream_kit.monitoring.board": ["live"]})
