"""What tests of connectors share."""

import pytest
from support.sink_streams import three_batches


@pytest.fixture
def stream(spark, folder):
    """Three batches of two rows: (a, 1), (b, 1); (a, 2), (c, 2); (b, 3), (c, 3)."""
    return three_batches(spark, folder)
