"""The example `hourly_sales` as a job; `examples/test_hourly_sales.py` has its transform."""

import json

import hourly_sales
import pytest


def written(folder):
    return [
        json.loads(line) for file in folder.glob("batch=*/part-*") for line in file.read_text().splitlines()
    ]


@pytest.mark.usefixtures("spark")
def test_a_line_that_cannot_be_read_is_kept_and_may_end_the_job(tmp_path, capsys):
    doc, folder, out = str(hourly_sales.__doc__), tmp_path / "in", tmp_path / "out"
    [good] = [line.partition("sale: ")[2] for line in doc.splitlines() if "sale: {" in line]
    folder.mkdir()
    (folder / "1.json").write_text("\n".join([good, good.replace("2}", '"two"}'), "no sale"]))
    given = [str(folder), str(out), "--available-now"]
    assert hourly_sales.main([*given, "--max-bad", "50%"]) == 1
    assert "bad lines: 2 of 3 (66.7%); --max-bad is 50%" in capsys.readouterr().err
    (folder / "2.json").write_text(good.replace("T08:10", "T09:30"))
    assert hourly_sales.main([*given, "--max-bad", "50%"]) == 0
    assert sorted(row["_reason"] for row in written(out / "bad")) == [
        "amount: not an int",
        "not valid JSON, or a field twice",
    ]
    assert [(row["product"], row["total"]) for row in written(out / "totals")] == [("tea", 2)]
