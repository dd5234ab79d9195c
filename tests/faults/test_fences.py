"""A driver thought dead wakes up: the target refuses it, and the newer driver goes on."""

import json
import os
import random
import re
import sqlite3
import sys
import time
from contextlib import closing
from signal import SIGTERM

import pytest
from faults.drivers import SCRIPTS, ended, one_line, until
from faults.targets import finish, nothing_halved
from faults.test_kills import killed  # noqa: F401 - a fixture
from faults.test_lost_plans import stream, stream_to  # noqa: F401 - fixtures
from sqlalchemy.exc import OperationalError
from support import iceberg, sink_contract
from support.kits_sinks import from_table

from sparkstream_kit import sinks, start
from sparkstream_kit.connectors.sql_table import table as sql_tables
from sparkstream_kit.errors import InvalidInputError

ROUNDS = int(os.environ.get("ROUNDS", "1"))  # of each sink
SEED = 28
FILES = 6  # of a round, so that the first driver is busy when it is stopped


@pytest.mark.fast(
    "sqlite append", "delta upsert", "iceberg append", "iceberg upsert", "directories"
)
def test_a_second_driver_shuts_the_first_out(stream):  # noqa: F811
    sink_contract.fenced(stream)


def test_a_dry_run_and_a_start_that_is_refused_take_no_epoch(stream_to):  # noqa: F811
    totals = stream_to("sqlite append")
    totals.land(3)
    totals.go()
    assert epochs(totals) == [(1,)]
    totals.started(dry_run=True)
    of_others = totals.input.parent / "of others"
    of_others.mkdir()
    (of_others / "1.json").write_text("{}")
    other = sinks.fan_out(totals.adaptor.sink, sinks.batch_files(of_others))
    with pytest.raises(
        InvalidInputError, match="has rows that no query of the kit has written"
    ):
        start(totals.frame(), other, name="contract", checkpoint=totals.checkpoint)
    sink_contract.cut(totals.checkpoint / "offsets" / "1")
    assert "rewind" in totals.refused()
    assert epochs(totals) == [(1,)]


@pytest.mark.fast("sqlite-append")
@pytest.mark.parametrize(
    "killed",
    [
        "sqlite-append",
        "files",
        "postgresql-append",
        "mariadb-append",
        "delta-append",
        "iceberg-append",
    ],
    indirect=True,
)
def test_a_driver_that_wakes_up_is_refused_and_the_newer_one_goes_on(
    killed,  # noqa: F811
    launch,
    request,
):
    sales, target = killed
    wakes_up(sales, target, launch, random.Random(f"{SEED} {request.node.callspec.id}"))  # noqa: S311 - times


def wakes_up(sales, target, launch, pick):
    """Stop a driver, start a second one where the lock does not count, and wake the first."""
    sales.land(1)
    refusals, driver = 0, launch("python", *target.command)
    while refusals < ROUNDS:
        wait_until_busy(driver, target, sales)
        # The moment of the stop, which no condition picks
        time.sleep(pick.uniform(0, 2))
        driver.freeze()
        # On another machine it does not count
        (target.checkpoint / "sparkstream-kit" / "lock").unlink()
        sales.land(1)
        newer = launch("python", *target.command)
        wait_until_through(newer, target, sales)
        driver.thaw()
        # The first one was stopped in the middle of a transaction
        if not newer.running:
            # Iceberg's catalog is SQLite's file here.
            assert re.search(
                "has locked the ledger for 30 s|database is locked", one_line(newer, 75)
            )
            continue
        refused_by(newer, target, one_line(driver, 1))
        driver, refusals = newer, refusals + 1
        sales.land(1)
        wait_until_through(driver, target, sales)
        nothing_halved(target)
    driver.signal(SIGTERM, "python")
    ended(driver)
    finish(target, launch)


def refused_by(newer, target, line):
    """See that the line names the newer driver, or says where to find it.

    It says where if Spark's log refused the first driver.
    """
    if re.search(
        r"another driver is using this checkpoint .* sparkstream-kit/lock\); this one"
        r" ends$",
        line,
    ):
        assert (
            json.loads((target.checkpoint / "sparkstream-kit" / "lock").read_text())[
                "pid"
            ]
            == newer.pid
        )
    else:
        assert re.search(sink_contract.FENCED, line), line
        assert f"process {newer.pid} on " in line


def wait_until_busy(driver, target, sales):
    """Land files, and wait until the driver has planned a batch of them."""
    before = target.planned()
    sales.land(FILES)
    driver.until(lambda: target.planned() > before)


def wait_until_through(driver, target, sales):
    """Wait until the driver has committed all that has landed, or has ended."""

    def is_through():
        batch = target.planned()
        return target.committed(batch) and target.files_until(batch) == sales.files

    until(lambda: is_through() or not driver.running, lambda: driver.errors)


def test_a_start_that_cannot_take_its_epoch_names_the_driver_that_holds_the_ledger(
    stream_to,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(sql_tables, "_AT_START", 1)
    totals = stream_to("sqlite append")
    totals.land(2)
    totals.go()
    with closing(sqlite3.connect(totals.folder / "t.db")) as stopped:
        stopped.execute("UPDATE sparkstream_ledger SET epoch = epoch")
        line = totals.refused()
    assert re.search(
        r"table t in .*: another process has locked the ledger for 1 s, such as the"
        r" query's last driver "
        rf"\(epoch 1, process {os.getpid()} on \S+ since .*\); end that process, and"
        r" start again$",
        line,
    )
    totals.go()
    assert epochs(totals) == [(2,)]


def epochs(totals):
    """Return the epochs that the ledger of SQLite has."""
    return from_table(totals.folder, "SELECT epoch FROM sparkstream_ledger")


@pytest.mark.fast("few")
@pytest.mark.parametrize(
    "rounds", [3, int(os.environ.get("ROUNDS", "200"))], ids=["few", "many"]
)
def test_a_writer_of_iceberg_that_wakes_up_at_any_moment_of_a_commit_is_refused(
    rounds, tmp_path, launch
):
    pick = random.Random(SEED)  # noqa: S311 - times, not secrets
    lake, refused = tmp_path / "lake", 0

    def begun(number, before=-1):
        writer = launch(
            sys.executable, SCRIPTS / "iceberg_batches.py", lake, f"driver {number}"
        )

        def is_through():
            try:
                return not writer.running or iceberg.last_batch(lake) >= before + 2
            except OperationalError:  # the one that was stopped has the lock of SQLite
                return False

        until(is_through, lambda: writer.errors)
        return writer

    older = begun(0)
    while refused < rounds:
        assert older.running, older.output + older.errors
        # The moment of the stop, which no condition picks
        time.sleep(pick.uniform(0, 0.2))
        before = iceberg.last_batch(lake)
        older.freeze()
        newer = begun(refused + 1, before)
        older.thaw()
        # The first one was stopped while it had the lock of SQLite
        if not newer.running:
            assert "database is locked" in newer.output + newer.errors
            continue
        assert older.ended() == 1, older.errors
        assert (
            f"another driver has started to write to Iceberg table shop.t in {lake}"
            in older.output
        )
        older, refused = newer, refused + 1
    older.kill("group")
    assert [n for _, n in sorted(iceberg.rows(lake), key=lambda row: row[1])] == list(
        range(iceberg.last_batch(lake) + 1)
    )
