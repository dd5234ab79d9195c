"""What the guide "From a job to a pipeline, and back" says of each, done to both."""

import re
import sys

import pyarrow.lib
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, environment
from systems.launching import LOOPBACK

PAGE = ROOT / "docs/guides/job-and-pipeline.md"
TITLED = re.compile(r"```python title=\"(\w+\.py)\"\n(.*?)```", re.DOTALL)
LINES = re.compile(r"cat >data/1.json <<'END'\n(.*?)END", re.DOTALL)
SPEC = """
name: sales
storage: {storage}
libraries:
  - glob:
      include: tables.py
configuration:
  spark.sql.session.timeZone: UTC
"""
RUN = ("run", "--conf", "spark.sql.catalogImplementation=hive")
SUM = 'F.sum("amount").alias("total")'
FIRST = [("ink", 1), ("tea", 5)]  # of the hour that is over
COUNT = f'{SUM}, F.count("*").alias("sales")'


@pytest.fixture(scope="module", autouse=True)
def connector_jars():
    """No jars, which neither needs."""


class Both:
    """The guide's job and its pipeline, each in its own folder, over the same input."""

    def __init__(self, begin, tmp_path):
        self._begin = begin
        self._root = tmp_path
        self._folder = tmp_path / "guide"
        self._folder.mkdir()
        self.home = tmp_path / "home"
        self.data = self.home / "data"
        self.data.mkdir(parents=True)
        text = PAGE.read_text("utf-8")
        for name, code in TITLED.findall(text):
            (self._folder / name).write_text(code)
        spec = SPEC.format(storage=(tmp_path / "storage").as_uri())
        (self._folder / "spark-pipeline.yml").write_text(spec)
        self.land(1, LINES.findall(text)[0])
        self.sales = self._folder / "sales.py"

    def land(self, number, lines):
        (self.data / f"{number}.json").write_text(lines)

    def change(self, old, new):
        text = self.sales.read_text()
        assert old in text
        self.sales.write_text(text.replace(old, new))

    def job(self):
        path = f"{environment()['PYTHONPATH']}:{self._folder}"
        return self._begin(
            sys.executable, self._folder / "job.py", **LOOPBACK, PYTHONPATH=path
        )

    def pipeline(self, *more):
        path = f"{environment()['PYTHONPATH']}:{self._folder}"
        command = f"{sys.prefix}/bin/spark-pipelines"
        spec = ("--spec", self._folder / "spark-pipeline.yml")
        return self._begin(command, *RUN, *spec, *more, **LOOPBACK, PYTHONPATH=path)

    def batches(self):
        """Return how many batches all queries have begun."""
        return len([*self._root.rglob("offsets/[0-9]*")])

    def of_job(self, table):
        return self.home / "out" / table

    def of_pipeline(self, table):
        return self.home / "spark-warehouse" / table


def ended(driver):
    """Wait for the end, and return the exit code and all that was printed."""
    code = driver.ended()
    return code, driver.output + driver.errors


def did_well(driver):
    code, printed = ended(driver)
    assert code == 0, printed
    return printed


def parts(folder):
    """Return the files with rows, finished or not, anywhere in a folder."""
    return {path for path in folder.rglob("*part-*.parquet") if path.name[0] != "."}


def killed_at_a_file(driver, folder):
    """Kill a driver as soon as there is one more file with rows."""
    before = parts(folder)
    driver.until(lambda: parts(folder) - before)
    driver.remove()


def refused(driver):
    code, printed = ended(driver)
    assert code != 0, printed
    return printed


def hours(folder):
    rows = pq.read_table(folder("hours"))
    pairs = zip(rows["product"].to_pylist(), rows["total"].to_pylist(), strict=True)
    return sorted(pairs)


def killed_between_a_file_and_the_commit(both):
    """The job has each row once. The pipeline leaves a file that is in no commit."""
    both.land(2, '{"amount": "a bad row more"}\n')
    killed_at_a_file(both.job(), both.of_job("bad"))
    did_well(both.job())
    assert pq.read_table(both.of_job("bad")).num_rows == 2

    bad = both.of_pipeline("bad")
    killed_at_a_file(both.pipeline(), bad)
    did_well(both.pipeline())
    commits = [path.read_text() for path in (bad / "_spark_metadata").glob("[0-9]*")]
    committed = set(re.findall(r"part-[\w.-]+", "".join(commits)))
    [left] = {path.name for path in parts(bad)} - committed
    if (bad / left).stat().st_size == 0:
        with pytest.raises(pyarrow.lib.ArrowInvalid, match="0 bytes"):
            pq.read_table(bad)
    else:
        assert pq.read_table(bad).num_rows == 3
    (bad / left).unlink()


def told_of_late_rows_and_changed_files(both):
    """Both leave the rows out. The job says so."""
    both.land(3, '{"time": "2026-01-14T09:15:00Z", "product": "tea", "amount": 9}\n')
    with (both.data / "1.json").open("a") as file:
        file.write('{"amount": "appended"}\n')
    printed = did_well(both.job())
    assert "1 late row dropped" in printed
    assert "1.json: changed after it was read, and not read again" in printed
    printed = did_well(both.pipeline())
    assert "late row" not in printed
    assert "1.json" not in printed
    for folder in (both.of_job, both.of_pipeline):
        assert hours(folder) == FIRST
        assert pq.read_table(folder("bad")).num_rows == 2


def changed(both):
    """The job refuses a changed query. The pipeline does when state is read, or not at all."""
    both.change(SUM, COUNT)
    said = refused(both.job())
    assert "hours computes count(1); the checkpoint's query does not" in said
    did_well(both.pipeline())
    both.land(4, '{"time": "2026-01-14T13:15:00Z", "product": "tea", "amount": 1}\n')
    assert "STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE" in refused(both.pipeline())
    both.change(COUNT, SUM)

    both.change('"10 minutes"', '"5 minutes"')
    assert "hours has a watermark of 5 minutes on time" in refused(both.job())
    did_well(both.pipeline())

    both.land(5, '{"time": "2026-01-14T13:20:00Z", "product": "tea", "amount": 1}\n')
    batches = both.batches()
    both.change('F.sum("amount")', 'F.sum("amont")')
    assert "amont" in refused(both.job())
    assert "UNRESOLVED_COLUMN" in refused(both.pipeline())
    assert both.batches() == batches
    both.change('F.sum("amont")', 'F.sum("amount")')


def computed_anew(both):
    """The late row is in its hour."""
    did_well(both.pipeline("--full-refresh", "hours"))
    assert hours(both.of_pipeline) == [("ink", 1), ("tea", 4), ("tea", 14)]


@pytest.mark.slow
def test_what_the_guide_says_of_a_job_and_of_a_pipeline(begin, tmp_path):
    both = Both(begin, tmp_path)
    did_well(both.job())
    did_well(both.pipeline())
    assert hours(both.of_job) == hours(both.of_pipeline) == FIRST
    killed_between_a_file_and_the_commit(both)
    told_of_late_rows_and_changed_files(both)
    changed(both)
    computed_anew(both)
