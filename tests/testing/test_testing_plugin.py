"""The plugin as a user has it: an installed wheel, and a test file in an empty folder."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT, built_wheel, environment, process

TEMPLATE = [
    ROOT / "examples" / name for name in ("hourly_sales.py", "test_hourly_sales.py")
]

FAILS = """
import time
from sparkstream_kit.testing import run_script

def test_fails(stream):
    assert time.tzname == ("UTC", "UTC")
    source = stream("n INT")
    query = stream.query(source.to_df())
    source.add_data([(1,)])
    assert query.step()[0].rows == [(2,)]

def test_gives_a_word_for_a_number(stream):
    stream("n INT").add_data([("one",)])

def test_expects_other_rows(stream):
    source = stream("n INT")
    run_script(stream.query(source.to_df()), [(source, [(1,)], [(2,)])])

def test_saves(spark):
    assert spark.streams.active == []
    spark.range(3).write.saveAsTable("kept")
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_an_empty_folder_and_the_installed_package(tmp_path, temporary, workers):
    site, empty = tmp_path / "site", tmp_path / "empty"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site]
    process([*pip, built_wheel(tmp_path)], check=True)
    empty.mkdir()
    for file in TEMPLATE:
        shutil.copy(file, empty)
    (empty / "test_fails.py").write_text(FAILS)
    done = process(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            *workers,
        ],
        cwd=empty,
        env=environment(
            **temporary,
            PYTHONPATH=str(site),
            PYTHONDONTWRITEBYTECODE="1",
            TZ="Asia/Tokyo",
        ),
    )
    assert "\n3 failed, 6 passed in " in done.stdout, done.stdout + done.stderr
    assert "FAILED test_fails.py::test_fails" in done.stdout
    assert "sparkstream_kit/testing/" not in done.stdout, (
        "the kit's own lines are left out"
    )
    files = {path.name for path in empty.iterdir()}
    expected = {"test_fails.py", *(file.name for file in TEMPLATE)}
    assert files - {".hypothesis"} == expected  # hypothesis's own cache stays
    left = [path.name for path in Path(temporary["TMPDIR"]).iterdir()]
    assert [name for name in left if name.startswith("sparkstream")] == []


UNUSED = """
import json, logging, os, signal, sys, time, warnings
import pytest

@pytest.fixture
def spark():
    return "a fixture of the project"

def test_what_there_is(spark):
    assert spark == "a fixture of the project"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST_")
    }
    handlers = [str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM)]
    logs = str(logging.root.handlers)
    state = [environment, time.tzname, handlers, str(warnings.filters), logs, sys.path]
    print("\\n" + json.dumps([state, sorted(name.partition(".")[0] for name in sys.modules)]))
"""


@pytest.mark.slow
def test_a_project_that_asks_for_no_fixture_is_as_without_the_plugin(tmp_path):
    (tmp_path / "test_unused.py").write_text(UNUSED)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
    found = []
    for more in ([], ["-p", "no:sparkstream"]):
        done = process(
            [*command, *more], cwd=tmp_path, env=environment(TZ="Asia/Tokyo")
        )
        assert done.returncode == 0, done.stdout
        found.append(json.loads(done.stdout.splitlines()[1]))
    (state, modules), (state_without, modules_without) = found
    assert state == state_without
    assert "sparkstream_kit" in modules
    assert not {*modules} & {"pyspark", "py4j", "pandas", "pyarrow"} - {
        *modules_without
    }
