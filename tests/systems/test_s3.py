"""Object storage: input, rows and checkpoints on s3a://, with a server of S3.

Hadoop's own client reads and writes them.
"""

import json
from functools import partial

import pytest
from faults.drivers import ended
from systems.conftest import JOBS, ROUNDS, SCRIPTS, jars
from systems.daemons import running
from systems.launching import SMALL, Sales, cut_off, shown
from systems.s3 import S3


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    yield from running(S3(tmp_path_factory.mktemp("s3"), jars("s3")))


def submit(launch, s3, *command):
    return launch.submit("--master", "local[2]", *s3.settings, *SMALL, *command)


@pytest.mark.slow
def test_totals_on_object_storage_are_exact_when_the_driver_is_killed(
    s3, launch, tmp_path
):
    sales, table = Sales(s3, "/totals/in"), tmp_path / "totals.csv"
    place = (
        "--checkpoint",
        f"{s3.url}/totals/checkpoint",
        "--profile",
        "cluster",
        "--snapshot",
        table,
    )
    command = (
        JOBS / "sales_totals.py",
        sales.url,
        *place,
        "--max-files-per-trigger",
        1,
    )
    cut_off(
        ROUNDS, partial(submit, launch, s3, *command), sales, s3, "/totals/checkpoint"
    )
    ended(submit(launch, s3, *command, "--available-now"))
    assert shown(table) == sales.totals()


def test_rows_on_object_storage_are_exact_for_readers_through_spark(s3, launch):
    for number in range(3):
        lines = [json.dumps({"number": 100 * number + each}) for each in range(100)]
        s3.put(f"/rows/in/{number}.json", "\n".join(lines).encode())
    places = [f"{s3.url}/rows/{name}" for name in ("in", "out", "checkpoint")]
    for _ in range(2):
        assert (
            ended(submit(launch, s3, SCRIPTS / "s3_rows.py", *places))
            == f"300 {sum(range(300))}\n"
        )
        # As if the driver had been killed before it
        s3.remove("/rows/checkpoint/commits/2")


def test_what_cannot_be_had_on_object_storage_is_one_line(s3, launch):
    s3.put("/in/1.txt", b"a line\n")
    said = ended(submit(launch, s3, SCRIPTS / "s3_refused.py")).splitlines()
    expected = [
        "input folder s3a://kit/none does not exist; ",
        "input s3a://no-such-bucket/in cannot be reached: NoSuchBucketException: ",
        "checkpoint s3a://no-such-bucket/ckpt cannot be read (NoSuchBucketException: ",
        (
            "files: folder s3a://no-such-bucket/out cannot be reached:"
            " NoSuchBucketException: "
        ),
        (
            "batch_files s3a://kit/out: only a local path and hdfs:// have a rename"
            " that is atomic; "
        ),
    ]
    assert [
        line[: len(start)] for line, start in zip(said, expected, strict=True)
    ] == expected
