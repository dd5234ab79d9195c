"""Truncated, emptied and missing files of a checkpoint: an error with the file and the way out, or the truth.

The checkpoint has the batches 0 to 2 of `sales_totals`, and there is one more file to read:

    metadata    offsets/{0,1,2}    commits/{0,1,2}    sources/0/{0,1,2}    state/0/0/{1,2,3}.delta
"""

import json
import os
import re
import shutil
import subprocess
import sys
from decimal import Decimal

import pytest
from conftest import environment, process
from faults.drivers import JOBS, SCRIPTS
from faults.sales import Sales

FILES = {
    "metadata": "metadata",
    "last plan": "offsets/2",
    "last commit": "commits/2",
    "last files": "sources/0/2",
    "first files": "sources/0/0",
    "last state": "state/0/0/3.delta",
    "first state": "state/0/0/1.delta",
}


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_without_checksum(file):
    cut(file)
    checksum_of(file).unlink()


def empty(file):
    file.write_bytes(b"")


def empty_without_checksum(file):
    empty(file)
    checksum_of(file).unlink()


def remove(file):
    file.unlink()


def remove_with_checksum(file):
    file.unlink()
    checksum_of(file).unlink()


def checksum_of(file):
    return file.with_name(f".{file.name}.crc")


DAMAGES = (cut, cut_without_checksum, empty, empty_without_checksum, remove, remove_with_checksum)

# Without its commit a batch runs again, and comes to the same.
HARMLESS = [("last commit", remove_with_checksum)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The input, and a checkpoint of its first three files; a fourth is there to be read."""
    folder = tmp_path_factory.mktemp("made")
    sales, checkpoint = Sales(folder / "in"), folder / "ckpt"
    sales.land(3)
    [(code, _, errors)] = runs(sales, [checkpoint])
    assert code == 0, errors
    sales.land(1)
    return sales, checkpoint


def damaged(checkpoint, what, damage, folder):
    """Return a copy of a checkpoint with a damaged file."""
    copy = folder / f"{what} {damage.__name__}".replace(" ", "-")
    shutil.copytree(checkpoint, copy)
    damage(copy / FILES[what])
    return copy


@pytest.mark.slow
def test_a_damaged_file_is_named_with_the_way_out(made, tmp_path):
    sales, checkpoint = made
    cases = [(what, damage) for what in FILES for damage in DAMAGES]
    copies = [damaged(checkpoint, what, damage, tmp_path) for what, damage in cases]
    for (what, damage), copy, (code, output, errors) in zip(cases, copies, runs(sales, copies), strict=True):
        if (what, damage) in HARMLESS:
            assert code == 0, (copy.name, errors)
            assert totals(output) == sales.totals()
            continue
        assert (code, output, errors.count("\n")) == (2, "", 1), (copy.name, errors)
        by_spark = "state" in what and damage not in (remove, remove_with_checksum)
        named = "Spark cannot read it" if by_spark else FILES[what]
        assert f"{copy} is damaged: {named}" in errors, (copy.name, errors)
        assert re.search("; (restore it|delete .2.crc too)", errors), (copy.name, errors)


@pytest.mark.fast("without a plan or a state")
@pytest.mark.parametrize(
    "cases",
    [
        [("last plan", remove), ("last state", remove)],
        [("last files", remove), ("last state", cut), ("last state", cut_without_checksum)],
    ],
    ids=["without a plan or a state", "without files or cut"],
)
def test_the_way_out_leads_to_the_truth(made, tmp_path, cases):
    sales, checkpoint = made
    copies = [damaged(checkpoint, what, damage, tmp_path) for what, damage in cases]
    for code, _, errors in runs(sales, copies):
        assert code == 2, errors
        advice = re.search(r"(sparkstream) (checkpoint rewind \S+ --to \d+)", errors)
        assert advice, errors
        command = [advice[1], *advice[2].split(), "--apply"]
        subprocess.run(command, env=environment(), check=True, capture_output=True)
    for code, output, errors in runs(sales, copies):
        assert (code, totals(output)) == (0, sales.totals()), errors


def runs(sales, checkpoints):
    """Run the job on each checkpoint; return exit codes, standard outputs and standard errors."""
    flags = ("--profile", "test", "--available-now", "--format", "json", "--checkpoint")
    lines = [json.dumps([str(sales.folder), *flags, str(path)]) + "\n" for path in checkpoints]
    done = process(
        [sys.executable, str(SCRIPTS / "many_runs.py"), str(JOBS)],
        input="".join(lines),
        env=environment(SPARK_SUBMIT_OPTS=os.environ["SPARK_SUBMIT_OPTS"]),
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def totals(output):
    """Return the job's JSON as `Sales.totals` has it."""
    rows = json.loads(output, parse_float=Decimal)
    return sorted((row["ProductKey"], row["Orders"], Decimal(row["TotalSales"])) for row in rows)
