"""The example `hourly_sales` as a job; `examples/test_hourly_sales.py` has its transform."""

import json

import hourly_sales
import pytest
from pyspark.sql import functions as F

from sparkstream_kit import windows


def written(folder):
    return [
        json.loads(line)
        for file in folder.glob("batch=*/part-*")
        for line in file.read_text().splitlines()
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_a_line_that_cannot_be_read_is_kept_and_may_end_the_job(tmp_path, capsys):
    doc, folder, out = str(hourly_sales.__doc__), tmp_path / "in", tmp_path / "out"
    [good] = [
        line.partition("sale: ")[2] for line in doc.splitlines() if "sale: {" in line
    ]
    folder.mkdir()
    (folder / "1.json").write_text(
        "\n".join([good, good.replace("2}", '"two"}'), "no sale"])
    )
    given = [str(folder), str(out), "--available-now"]
    assert hourly_sales.main([*given, "--max-bad", "50%"]) == 1
    assert "bad lines: 2 of 3 (66.7%); --max-bad is 50%" in capsys.readouterr().err
    (folder / "2.json").write_text(good.replace("T08:10", "T09:30"))
    assert hourly_sales.main([*given, "--max-bad", "50%"]) == 0
    assert sorted(row["_reason"] for row in written(out / "bad")) == [
        "amount: not an int",
        "not valid JSON, or a field twice",
    ]
    assert [(row["product"], row["total"]) for row in written(out / "totals")] == [
        ("tea", 2)
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_a_change_that_is_refused_leaves_the_old_job_as_it_was(
    tmp_path, capsys, monkeypatch
):
    """The first query of the two fits; the way out that the line names is a new target for both."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()

    def land(hour):
        sale = {"time": f"2024-01-01T{hour:02}:10:00Z", "product": "tea", "amount": 2}
        (folder / f"{hour}.json").write_text(f"{json.dumps(sale)}\nno sale\n")

    def job(target, *more):
        capsys.readouterr()
        return hourly_sales.main([str(folder), str(target), "--available-now", *more])

    def of_all(rows):
        hours = rows.groupBy(windows.tumbling("time", "1 hour"))
        return windows.flatten(hours.agg(F.sum("amount").alias("total")))

    land(8)
    land(9)
    assert job(out) == 0
    with monkeypatch.context() as changed:
        changed.setattr(hourly_sales, "transform", of_all)
        assert (
            job(out, "--checkpoint", f"{out}/_v2", "--continues", f"{out}/_checkpoint")
            == 2
        )
        assert "give it a new target" in capsys.readouterr().err
    land(10)
    assert job(out) == 0
    assert [len(written(out / name)) for name in ("bad", "totals")] == [3, 2]
    with monkeypatch.context() as changed:
        changed.setattr(hourly_sales, "transform", of_all)
        new = tmp_path / "new"
        assert job(new, "--continues", f"{out}/_checkpoint") == 0
        land(11)
        land(12)
        assert job(new, "--continues", f"{out}/_checkpoint") == 0
        assert len(written(new / "bad")) == 2
        assert [row["total"] for row in written(new / "totals")] == [2, 2]
    assert job(out) == 2
    assert "was continued by a changed query" in capsys.readouterr().err
