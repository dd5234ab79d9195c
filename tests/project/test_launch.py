"""The kit as people get it: an installed wheel, a zip for `--py-files`, a properties file."""

import os
import shutil
import sys
import zipfile

import pytest
from conftest import ROOT, built_wheel, process

from sparkstream_kit import feeds

pytestmark = pytest.mark.xdist_group("launch")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the checkout."""
    return built_wheel(tmp_path_factory.mktemp("dist"))


def launch(*args, cwd, **env):
    return process(args, cwd=cwd, env={**os.environ, **env})


def test_the_wheel_holds_the_kit_with_its_settings_and_jobs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "sparkstream_kit"
    }
    jobs = [
        path for path in (ROOT / "jobs").rglob("*") if path.suffix in (".py", ".md")
    ]
    for name in (
        "py.typed",
        *(
            f"conf/{name}"
            for name in ("local.conf", "test.conf", "cluster.conf", "log4j2.properties")
        ),
        *(str(path.relative_to(ROOT)) for path in jobs),
        *(
            f"monitoring/web/{path.name}"
            for path in (ROOT / "sparkstream_kit/monitoring/web").iterdir()
        ),
    ):
        assert f"sparkstream_kit/{name}" in names
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.parametrize("zipped", [False, True], ids=["installed", "zip"])
def test_a_job_of_ones_own_is_made_from_the_wheel_alone(wheel, tmp_path, zipped):
    site = tmp_path / "site"
    if not zipped:
        zipfile.ZipFile(wheel).extractall(site)
    new = (
        sys.executable,
        "-P",
        "-m",
        "sparkstream_kit",
        "new",
        "my-job",
        "--like",
        "sales_clean",
    )
    done = launch(*new, cwd=tmp_path, PYTHONPATH=str(wheel if zipped else site))
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "my-job/my_job.py").read_text().splitlines()
    job = (ROOT / "jobs/sales_clean.py").read_text().splitlines()
    assert [
        line.strip() for line, former in zip(made, job, strict=True) if line != former
    ] == [
        "Run: spark-submit my_job.py INPUT_DIR OUT_DIR",
        'with spark_session("my-job", **jobflags.for_session(args)) as spark:',
        'query = start(rows, sink, name="my_job", **jobflags.for_start(args))',
    ]


@pytest.mark.slow
def test_names_are_found_under_the_loader_of_pytest(wheel, tmp_path):
    # With the entry of the pytest plugin: pytest loads the kit
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (tmp_path / "test_names.py").write_text(
        "from sparkstream_kit.sinks import memory\ndef test(): memory\n"
    )
    done = launch(
        sys.executable,
        "-m",
        "pytest",
        "test_names.py",
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_job_of_ones_own_runs_beside_nothing_but_the_wheel(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)  # with the entry of the pytest plugin
    new = launch(
        sys.executable,
        "-m",
        "sparkstream_kit",
        "new",
        "my-job",
        cwd=tmp_path,
        PYTHONPATH=str(site),
    )
    assert new.returncode == 0, new.stderr
    job, python = ("my_job.py", "data", "out", "--available-now"), sys.executable
    totals = []
    for command in ((python, *job), ("spark-submit", *job), (python, "-m", "pytest")):
        done = launch(*command, cwd=tmp_path / "my-job", PYTHONPATH=str(site))
        assert done.returncode == 0, done.stderr + done.stdout
        assert "INFO" not in done.stderr  # the log settings were found in the wheel
        totals.append(sorted((tmp_path / "my-job" / "out" / "totals").rglob("*.json")))
    assert " passed" in done.stdout
    # The second run went on where the first one ended
    assert [] != totals[0] == totals[1] == totals[2]


@pytest.mark.slow
def test_the_zip_serves_a_cluster_by_py_files(wheel, tmp_path):
    kit = shutil.copy(wheel, tmp_path / "sparkstream_kit.zip")
    feeds.drip(feeds.sales_files(1, rows=10, seed=1), tmp_path / "in")
    (tmp_path / "job.py").write_text(
        "import sys\n"
        "from sparkstream_kit import get_session, profiles\n"
        "spark = get_session('zip', profile='local')\n"
        "def where(_): return __import__('sparkstream_kit').__file__\n"
        "executor = spark.sparkContext.parallelize([0], 1).map(where).first()\n"
        "print(where(0), executor, profiles.log4j2_file().is_file())\n"
        "spark.stop()\n"
    )
    # Two processes, as on a cluster: the driver, and an executor that gets the zip from
    # it.
    done = launch(
        *(
            "spark-submit",
            "--master",
            "local-cluster[1,1,1024]",
            "--py-files",
            kit,
            "job.py",
        ),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    driver, executor, found = done.stdout.split()
    assert "sparkstream_kit.zip/" in driver
    assert "sparkstream_kit.zip/" in executor
    assert driver != executor
    assert found == "True"


@pytest.mark.slow
def test_with_the_properties_file_the_log_is_quiet_from_the_first_line(tmp_path):
    feeds.drip(feeds.sales_files(1, rows=10, seed=1), tmp_path / "in")
    conf = launch(
        "sparkstream",
        "conf",
        "local",
        cwd=tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert conf.returncode == 0, conf.stderr
    done = launch(
        *("spark-submit", "--properties-file", conf.stdout.strip()),
        *(ROOT / "jobs" / "sales_totals.py", "in", "--available-now"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stderr.splitlines()
    assert first == "WARNING: Using incubator modules: jdk.incubator.vector"
    assert [line[:11] for line in rest] == ["sales_total", "the run end", "without --c"]
