"""A changed query, cut off while its checkpoint is built, begins again and is exact."""

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from faults.drivers import SCRIPTS, ended
from pyspark.sql import DataFrame
from support.crashes import Crash, crash_at
from support.shops import hourly, land_shops, stream, totals

from sparkstream_kit import run, sinks, start
from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints import check
from sparkstream_kit.checkpoints.operate import evolve, replay
from sparkstream_kit.profiles import STATE_STORE, STATE_STORES

ROUNDS = int(os.environ.get("ROUNDS", "4"))
OLD, ALL = 3, 4  # files


# Each call that changes something: a file of the checkpoint, or that Spark runs a
# batch.
STEPS = (
    *((shutil, name) for name in ("copytree", "copy")),
    *((Path, name) for name in ("rename", "mkdir")),
    (replay, "begin"),
    *((evolve, name) for name in ("point_at", "write_note")),
    (file_system, "replace"),
)


def numbered(patch, crash=None):
    """Count the steps of a build; crash instead of one, and leave everything as it is."""
    done: list[str] = []
    make = evolve.Build.make

    def dying():
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)

    def building(*given):
        with pytest.MonkeyPatch.context() as of_build:
            crash_at(of_build, crash, STEPS, done, dying)
            make(*given)

    patch.setattr(evolve.Build, "make", building)
    return done


def land(folder, *numbers):
    """Land files of sales; the last one closes the windows of those before it."""
    land_shops(
        folder,
        *numbers,
        third="dye",
        late=lambda number: -60 if number == ALL - 1 else 0,
    )


@dataclass(frozen=True)
class Case:
    """A change of a query, and how the old one ended."""

    mode: str
    old: Callable[[DataFrame], DataFrame]
    new: Callable[[DataFrame], DataFrame]
    store: str = "memory"
    cut_off: bool = False


CASES = {
    "whole": Case("complete", totals("product"), totals("shop")),
    "updated": Case(
        "update",
        totals("product"),
        totals("product", where="shop = 'a'"),
        store="rocksdb",
    ),
    "windows": Case("append", hourly("product"), hourly("product", where="shop = 'a'")),
    "planned": Case("complete", totals("product"), totals("shop"), cut_off=True),
}


def go(spark, case, home, transform, checkpoint, **more):
    sink = sinks.batch_files(home / "out", format="json")
    names = {"name": "totals", "mode": case.mode, "checkpoint": home / checkpoint}
    run(
        start(
            transform(stream(spark, home / "in")),
            sink,
            **names,
            **more,
            availableNow=True,
        )
    )


def result(home):
    """Return the rows of each batch, without Spark."""
    found: dict[int, Any] = {}
    for folder in (home / "out").glob("batch=*"):
        lines = (
            line
            for file in folder.glob("part-*")
            for line in file.read_text().splitlines()
        )
        found[int(folder.name[6:])] = Counter(lines)
    return found


def keep(home):
    """Keep the old checkpoint and the target as the old query has left them."""
    for name in ("v1", "out"):
        shutil.copytree(home / name, home / f"kept-{name}")


def put_back(home):
    for name in ("v1", "v2", ".v2.evolving", "out"):
        shutil.rmtree(home / name, ignore_errors=True)
    for name in ("v1", "out"):
        shutil.copytree(home / f"kept-{name}", home / name)


@pytest.mark.fast("whole")
@pytest.mark.parametrize("kind", CASES)
def test_a_build_that_crashes_at_any_step_begins_again_and_is_exact(
    spark, tmp_path, record_property, kind
):
    case = CASES[kind]
    land(tmp_path / "in", *range(OLD))
    with in_force(spark, {STATE_STORE: STATE_STORES[case.store]}):
        go(spark, case, tmp_path, case.old, "v1")
        if case.cut_off:
            for name in (f"{OLD - 1}", f".{OLD - 1}.crc"):
                (tmp_path / "v1" / "commits" / name).unlink(missing_ok=True)
        land(tmp_path / "in", *range(OLD, ALL))
        keep(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            steps = numbered(patch)
            go(spark, case, tmp_path, case.new, "v2", continues=tmp_path / "v1")
        truth, every = result(tmp_path), max(1, len(steps) // ROUNDS)
        for crash in range(0, len(steps), every):
            put_back(tmp_path)
            with pytest.MonkeyPatch.context() as patch:
                done = numbered(patch, crash)
                with pytest.raises(Crash):
                    go(spark, case, tmp_path, case.new, "v2", continues=tmp_path / "v1")
            assert done == steps[: crash + 1]
            assert not (tmp_path / "v2" / "offsets").exists()
            go(spark, case, tmp_path, case.new, "v2", continues=tmp_path / "v1")
            assert result(tmp_path) == truth, (
                f"after a crash at step {crash}, {steps[crash]}"
            )
            assert check(tmp_path / "v2") == []
            assert not (tmp_path / ".v2.evolving").exists()
        record_property("steps", f"{len(steps)}, a crash at each {every}.")


@pytest.mark.slow
def test_a_driver_killed_at_any_time_begins_again_and_is_exact(tmp_path, launch, until):
    folder, out = tmp_path / "in", tmp_path / "out"
    land(folder, *range(OLD))
    script = SCRIPTS / "changed_totals.py"
    ended(launch("python", script, folder, out, tmp_path / "v1"))
    keep(tmp_path)
    land(folder, *range(OLD, ALL))
    sold = [
        json.loads(line)
        for file in folder.iterdir()
        for line in file.read_text().splitlines()
    ]
    truth = None
    building = tmp_path / ".v2.evolving"
    chosen = random.Random(7)  # noqa: S311 - the same kills in each run
    for _ in range(max(ROUNDS // 4, 1)):
        put_back(tmp_path)
        parts = chosen.randrange(1, 60)
        driver = launch("python", script, folder, out, tmp_path / "v2", tmp_path / "v1")
        until(
            lambda parts=parts, driver=driver: (
                not driver.running
                or len([*building.rglob("*")]) >= parts
                or (tmp_path / "v2" / "offsets").exists()
            )
        )
        if driver.running:
            driver.kill("group")
        ended(launch("python", script, folder, out, tmp_path / "v2", tmp_path / "v1"))
        batches = result(tmp_path)
        found = batches[max(batches)]
        truth = truth or found
        assert found == truth
        total = sum(Decimal(str(json.loads(line)["total"])) for line in found)
        assert total == sum(Decimal(row["amount"]) for row in sold)
        assert check(tmp_path / "v2") == []
