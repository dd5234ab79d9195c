"""Paths that only this machine's disks can hold: `file:` is one, `hdfs:` is refused."""

import re
from functools import partial

import pytest
from conftest import refusal

from sparkstream_kit import dstreams, feeds, run, sinks, sources, start
from sparkstream_kit._internal import file_system
from sparkstream_kit._internal.stopping.waiting import Inbox
from sparkstream_kit.errors import InvalidInputError


def drip(_spark, folder):
    [file] = feeds.drip([("a.csv", "1,2\n")], folder)
    return file.read_text() == "1,2\n"


def stop_file(_spark, path):
    return Inbox(stop_file=f"{path}/stop").next(wake_after=0)[0] == "stop"


def snapshot(spark, path):
    with dstreams.streaming_context(spark, 1) as ssc:
        pairs = ssc.socketTextStream("localhost", 1).map(lambda line: (line, 1))
        try:
            dstreams.running_counts(pairs, snapshot=f"{path}/counts.json")
        except InvalidInputError as err:
            if "does not hold counts" in str(err):
                return True
            raise
    return False


@pytest.mark.parametrize("used", [drip, snapshot, stop_file])
@pytest.mark.parametrize("scheme", ["file:", "file://", ""])
def test_a_local_path_may_have_its_scheme(used, scheme, spark, tmp_path):
    here = tmp_path / "some [1] folder"
    here.mkdir()
    (here / "stop").touch()
    (here / "counts.json").write_text("5\n")  # not the kit's: seen if it is read
    assert used(spark, f"{scheme}{here}")


@pytest.mark.parametrize("used", [drip, snapshot, stop_file])
@pytest.mark.parametrize(
    "path", ["hdfs://namenode/in", "s3a://bucket/in", "s3a:bucket/in"]
)
def test_a_path_of_another_file_system_is_refused(
    used, path, spark, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert re.search(
        f"{path}.* is not on this machine; give a local path",
        refusal(used, spark, path),
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dot", ["", "./"])
def test_a_relative_path_may_have_a_colon(spark, tmp_path, monkeypatch, dot):
    monkeypatch.chdir(tmp_path)
    feeds.drip([("a.txt", "a\n")], "in-10:00")
    frame, sink = (
        sources.text(spark, f"{dot}in-10:00"),
        sinks.batch_files(f"{dot}out-10:00"),
    )
    run(start(frame, sink, name="q", availableNow=True, checkpoint=f"{dot}ck-10:00"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "in-10:00",
        "out-10:00",
        "ck-10:00",
    }


def test_after_a_change_of_folder_all_relative_paths_are_below_it(
    spark, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    feeds.drip([("a.txt", "a\n")], "in")
    begin = partial(
        start,
        sources.text(spark, "in"),
        sinks.files("out"),
        name="q",
        availableNow=True,
    )
    says = (
        f"query q has checkpoint {tmp_path}/in, which is the input folder"
        f" {tmp_path}/in; put it elsewhere"
    )
    assert refusal(begin, checkpoint="in") == says
    run(begin(checkpoint="ckpt"))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "ckpt"}


@pytest.mark.parametrize(
    ("before", "private", "after"),
    [(0o600, False, 0o600), (0o640, False, 0o640), (0o644, True, 0o600)],
)
def test_a_file_that_is_replaced_is_for_those_whom_it_was_for(
    before, *, private, after, tmp_path
):
    file = tmp_path / "totals.csv"
    file.write_text("old")
    file.chmod(before)
    file_system.replace(file, ["new"], private=private)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", after)
