"""Any damage to any file of a checkpoint: one line with the way out, or the truth.

The line names the file.

A case is a copy of a checkpoint of three batches with one damaged file; the query is
started on it, and the commands look at it. SEED=N damages other bytes.
"""

import os
import random
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.checkpoint_queries import FORMAT_V2, ROCKSDB, land, totals

from sparkstream_kit import cli, run, sinks, start
from sparkstream_kit.jobflags import exit_codes

Damage = Callable[[Path, random.Random], None]

SEED = int(os.environ.get("SEED", "0"))
STORES: dict[str, dict[str, str]] = {
    "hdfs": {},
    "zips": ROCKSDB,
    "format-v2": FORMAT_V2,
}
KEPT, QUERY = "sparkstream-kit/shown.rows", "sparkstream-kit/query.json"
NEWEST = re.compile(r"offsets/2$|sources/0/2$|state/0/0/3[._]")
WAY_OUT = (
    "; (restore it|delete|put it back|put the file back|give another|or, to keep its"
    " state)"
)


def cut(file, dice):
    file.write_bytes(file.read_bytes()[: dice.randrange(max(file.stat().st_size, 1))])


def halve_without_checksum(file, dice):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


def empty(file, dice):
    file.write_bytes(b"")


def flip(file, dice):
    data = bytearray(file.read_bytes())
    if data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


def remove(file, dice):
    file.unlink()
    if dice.random() < 0.5:
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


def replace_by_a_folder(file, dice):
    file.unlink()
    file.mkdir()


DAMAGES: Sequence[Damage] = (
    cut,
    halve_without_checksum,
    empty,
    flip,
    remove,
    replace_by_a_folder,
)


@pytest.fixture(scope="module", params=STORES)
def session(spark, request):
    """A session with one of the state stores, and two partitions."""
    own = spark.newSession()
    for key, value in (
        STORES[request.param] | {"spark.sql.shuffle.partitions": "2"}
    ).items():
        own.conf.set(key, value)
    return own


@pytest.fixture(scope="module")
def made(session, tmp_path_factory):
    """A folder of three files, and the checkpoint of a query that has summed them."""
    folder = tmp_path_factory.mktemp("made")
    land(folder / "in", 0, 1, 2)
    run(query(totals(session, folder / "in"), folder / "check [1] point"))
    return folder / "in", folder / "check [1] point"


def query(frame, checkpoint):
    sink = sinks.latest("shown")
    return start(
        frame,
        sink,
        name="sums",
        mode="complete",
        checkpoint=checkpoint,
        availableNow=True,
    )


@pytest.fixture
def job(session, made, capfd):
    """Run the query as a job does; return its exit code, standard output and standard error."""

    def run_job(checkpoint):
        def main(_):
            run(query(totals(session, made[0]), checkpoint))
            sys.stdout.write(
                f"{sorted(map(tuple, session.table('shown').collect()))}\n"
            )
            return 0

        capfd.readouterr()
        return (exit_codes(main)(), *capfd.readouterr())

    return run_job


@pytest.fixture
def one_more(made):
    """Land a fourth file, and return what the job prints when it has read it."""
    land(made[0], 3)
    yield "[('a', 60), ('b', 64), ('c', 68)]\n"
    (made[0] / "3 é%.json").unlink()


READ = "[('a', 30), ('b', 33), ('c', 36)]\n"  # without the fourth file


def files(checkpoint):
    """Return the files of a checkpoint, and those of Hadoop's checksums."""
    found = sorted(
        str(path.relative_to(checkpoint))
        for path in checkpoint.rglob("*")
        if path.is_file()
    )
    checksums = [name for name in found if re.search(r"(^|/)\.", name)]
    return [name for name in found if name not in checksums], checksums


def told(checkpoint, name, result):
    """Say whether a job has ended with one line that names a file.

    Of a checksum, the line may name the file that it is of.

    A note of the query that has other letters, and is one, is of another query: so it
    is refused.
    """
    code, output, errors = result
    of_checksum = re.sub(r"(^|/)\.(.*)\.crc$", r"\1\2", name)
    # Only an older batch knows the file's id
    without_id = re.sub(r"(\d_)[0-9a-f-]{36}", r"\1*", name)
    by_spark = f"checkpoint {checkpoint} is damaged: Spark cannot read it" in errors
    other = name == QUERY and "was written by a different query" in errors
    named = (
        by_spark
        or other
        or any(known in errors for known in (name, of_checksum, without_id))
    )
    return (
        (code, output, errors.count("\n")) == (2, "", 1)
        and named
        and bool(re.search(WAY_OUT, errors))
    )


def looked_at(checkpoint, capfd):
    """See that no command ends in a stack trace, which is what it would raise here."""
    path = str(checkpoint)
    for command in (["show", path], ["check", path], ["rewind", path, "--to", "1"]):
        assert cli.main(["checkpoint", *command]) in {0, 1, 2}
    capfd.readouterr()


@pytest.mark.fast("hdfs-cut")
@pytest.mark.parametrize("damage", DAMAGES)
def test_any_file_damaged_in_any_way_is_told_or_harmless(
    made, one_more, job, tmp_path, capfd, damage
):
    dice = random.Random(SEED)  # noqa: S311
    names, checksums = files(made[1])
    names += dice.sample(checksums, 6)
    some = (
        "metadata",
        "offsets/2",
        "commits/2",
        "sources/0/0",
        "state/0/0/_metadata/schema",
        KEPT,
        QUERY,
    )
    assert {*some} < {*names}
    number_told = ways = 0
    for number, name in enumerate(names):
        copy = shutil.copytree(made[1], tmp_path / f"copy {number}")
        damage(copy / name, dice)
        looked_at(copy, capfd)
        result = job(copy)
        number_told += told(copy, name, result)
        assert told(copy, name, result) or result == (0, one_more, ""), (
            SEED,
            name,
            result,
        )
        way = re.search(r"sparkstream (checkpoint rewind .+? --to \d+)", result[2])
        if way and NEWEST.match(name):
            ways += 1
            assert cli.main([*shlex.split(way[1]), "--apply"]) == 0
            assert job(copy) == (0, one_more, ""), (SEED, name)
        shutil.rmtree(copy)
    assert number_told > len(names) // 5  # not all is harmless
    assert ways or damage is flip


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "5",
        "null",
        "",
        '{"name": 1, "mode": "m", "fingerprint": ""}',
        "\xff",
    ],
)
def test_a_note_of_the_query_that_is_none_is_told(made, job, tmp_path, capfd, text):
    copy = shutil.copytree(made[1], tmp_path / "copy")
    (copy / QUERY).write_bytes(text.encode("latin-1"))
    looked_at(copy, capfd)
    assert told(copy, QUERY, job(copy)), job(copy)


def test_rows_that_are_shown_again_are_those_that_were_kept(
    made, job, tmp_path, caplog
):
    copy = shutil.copytree(made[1], tmp_path / "copy")
    assert job(copy) == (0, READ, "")
    # As before 0.1.0
    (copy / KEPT).write_text(f"crc32 01234567\n{(copy / KEPT).read_text()}\n")
    assert job(copy) == (0, READ, "")
    halve_without_checksum(copy / KEPT, random)
    assert job(copy) == (0, "[]\n", "")
    assert (
        f"the table is empty until the next batch: {copy / KEPT} is not what was kept"
        in caplog.text
    )
    replace_by_a_folder(copy / KEPT, random)
    assert told(copy, KEPT, job(copy))
