"""What tests of the faces of a run share."""

import pytest

from sparkstream_kit import feeds, sources


@pytest.fixture
def lines(spark, folder):
    """A stream of three lines, each a batch."""
    feeds.drip(((f"{number}.txt", "a\n") for number in range(3)), folder)
    return sources.text(spark, str(folder), max_files_per_trigger=1)
