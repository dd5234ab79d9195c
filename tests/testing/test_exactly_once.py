"""What `assert_exactly_once` says and refuses.

What it finds is in tests/faults/test_every_crash.py.
"""

import json
import os
import re
import sqlite3
from typing import Any, cast

import pytest
from support.broken_sinks import BROKEN, ROWS, SALES, SOUND, from_table, job

from sparkstream_kit import sinks
from sparkstream_kit._internal.spark import session
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.testing import assert_exactly_once, exactly_once

pytestmark = pytest.mark.classic_only("crashes of the driver's own Python")


@pytest.fixture
def rows(spark):
    return spark.createDataFrame(ROWS, SALES)


@pytest.mark.slow
def test_a_failure_names_the_crash_and_runs_again_alone(rows):
    make, read = BROKEN["no_ledger"]
    with pytest.raises(AssertionError) as found:
        assert_exactly_once(job(make), rows, read=read)
    first, *more = str(found.value).splitlines()
    assert first.startswith(
        "not exactly once, with rows in batches of 3: crash before "
    )
    assert re.search(
        r"\(batch 0.*\); in the end row \('tea', 2\) is there twice", first
    )
    # Whether a line or the next call tells it is Python's
    again = re.search(r"only='(3:[\d.]+)'", more[-2])
    assert again
    assert "sinks.sql_table" in more[-1]
    with pytest.raises(AssertionError, match=re.escape(first)):
        assert_exactly_once(job(make), rows, read=read, only=again[1])


@pytest.mark.slow
def test_a_certificate_is_kept_and_nothing_is_watched_afterwards(rows, tmp_path):
    make, read = SOUND["file_replaced_whole"]
    before = os.fsync, sqlite3.connect
    how = {"read": read, "most": 1, "report": tmp_path / "report.json"}
    made = assert_exactly_once(job(make), rows, **how, expected=iter(ROWS))
    assert str(made).startswith(
        f"1 schedules, 0 differences: {made.calls} calls, over the inputs 3, in "
    )
    assert "; not covered: the moments while executors write files; " in str(made)
    kept = json.loads((tmp_path / "report.json").read_text())
    assert (kept["schedules"], kept["inputs"], kept["calls"]) == (1, ["3"], made.calls)
    assert kept["not_covered"] == [*made.not_covered]
    assert (os.fsync, sqlite3.connect, exactly_once._watches) == (  # noqa: SLF001
        *before,
        [],
    )


def test_rows_come_in_up_to_three_batches_with_a_stop_after_each():
    assert list(exactly_once._ways(3)) == [  # noqa: SLF001
        *("3", "3|", "1-2", "1|2", "1-2|", "1-1-1", "1|1-1", "1-1|1", "1-1-1|")
    ]


@pytest.mark.slow
def test_what_cannot_be_tried_is_refused(spark, rows, monkeypatch):
    build, read = job(BROKEN["no_ledger"][0]), from_table
    none = spark.createDataFrame([], SALES)
    with pytest.raises(
        InvalidInputError, match="rows is empty; give a static DataFrame with some rows"
    ):
        assert_exactly_once(build, none, read=read)
    with pytest.raises(
        InvalidInputError, match="only is '3-x:4'; give what a failure has printed"
    ):
        assert_exactly_once(build, rows, read=read, only="3-x:4")
    with pytest.raises(
        InvalidInputError, match="most is 0; give 1 or more, as no schedule would prove"
    ):
        assert_exactly_once(build, rows, read=read, most=0)
    with pytest.raises(
        InvalidInputError, match=r"build gave .*; return \(frame, sink\)"
    ):
        assert_exactly_once(cast(Any, lambda sales, _: sales), rows, read=read)
    with pytest.raises(InvalidInputError, match="works? batch by batch"):
        assert_exactly_once(
            lambda sales, folder: (sales, sinks.files(folder / "x")), rows, read=read
        )
    monkeypatch.setattr(session, "on_server", lambda _: True)
    with pytest.raises(
        InvalidInputError,
        match="on Spark Connect another one writes; unset SPARK_REMOTE",
    ):
        assert_exactly_once(build, rows, read=read)
