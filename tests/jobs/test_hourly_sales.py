"""The example `hourly_sales` as a job; `examples/test_hourly_sales.py` has its transform."""

import hourly_sales
import pytest


@pytest.mark.usefixtures("spark")
def test_a_line_that_cannot_be_read_is_counted(tmp_path, capsys):
    doc = str(hourly_sales.__doc__)
    [good] = [line.partition("sale: ")[2] for line in doc.splitlines() if "sale: {" in line]
    lines = [good, good.replace("2}", '"two"}'), "no sale"]
    (tmp_path / "1.json").write_text("\n".join(lines))
    assert hourly_sales.main([str(tmp_path), "--available-now"]) == 0
    assert ", 2 bad rows, " in capsys.readouterr().err
