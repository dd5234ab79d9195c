"""The commands `sparkstream contract`, and `schema --contract`."""

import json
import sys

import pytest
from cli.test_cli import run
from support.contracts import written

ORDERS = (
    "name: id, logicalType: integer, required: true, unique: true",
    (
        'name: total, logicalType: number, physicalType: "decimal(8,2)",'
        " logicalTypeOptions: {minimum: 0}"
    ),
    (
        "name: mail, logicalType: string, quality: [{metric: nullValues, unit: percent,"
        " mustBeLessThan: 5}]"
    ),
)
SAID = """\
{}: version 1.0.0, of ODCS 3.1.0
orders: 3 columns
  id bigint not null
  total decimal(8,2)
  mail string
checked at the door: 3
  id: required (set aside)
  total: minimum 0 (set aside)
  mail: nullValues (counted; mustBeLessThan 5 percent is not checked)
not checked: 1
  id: unique: it needs all rows of the table; state.once(rows, 'id', …) drops what comes again
"""


def test_check_says_what_is_checked_and_what_is_not(tmp_path):
    path = written(tmp_path, *ORDERS)
    done = run("contract", "check", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == SAID.format(path)


def test_check_shows_each_object_formats_remarks_and_promises(tmp_path):
    path = written(
        tmp_path,
        "name: day, logicalType: date, logicalTypeOptions: {format: d.M.yyyy}, zzz: 1",
        "name: x, logicalType: object",
        slaProperties=[{"property": "latency", "value": 4}],
    )
    text = path.read_text().replace("schema:\n", "schema:\n- name: raw\n")
    path.write_text(text)
    done = run("contract", "check", path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == [
        f"  note: {path}: orders.day: zzz is not known here, and has no effect",
        "raw: 0 columns",
        "  note: raw has no properties, which another schema may have",
        "checked at the door: nothing",
        "orders: 2 columns",
        "  day date",
        "  x variant",
        "  date_format d.M.yyyy",
        "  note: orders.x: an object without properties is a VARIANT",
        "checked at the door: nothing",
        "not checked, as they are of the whole delivery: latency",
    ]
    done = run("contract", "check", path, "--object", "raw")
    assert "orders:" not in done.stdout.partition("\nraw")[2]
    done = run("contract", "check", path, tmp_path / "a.json")
    assert done.returncode == 2
    assert done.stderr == (
        f"sparkstream: {path} has 2 objects in its schema; name one of them: raw, orders\n"
    )


def test_a_broken_contract_is_one_line(tmp_path):
    path = written(tmp_path, "name: v, logicalType: integer, requierd: true")
    done = run("contract", "check", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"sparkstream: {path}: orders.v: unknown key of a contract: requierd; did you mean"
        " required?\n"
    )


@pytest.mark.slow
def test_check_tries_samples_of_each_format(spark, tmp_path):
    path = written(tmp_path, *ORDERS)
    rows = [
        {"id": 1, "total": 5, "mail": "x"},
        {"id": 2, "total": -5, "mail": "x"},
        {"id": 3, "total": -1},
        {"total": 1, "mail": "x"},
    ]
    (tmp_path / "a.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "a.csv").write_text("id,total,mail\n1,5,x\n2,4,\n")
    frame = spark.createDataFrame([(None, 5), (1, -1), (2, 1)], "id LONG, total INT")
    ours = frame.selectExpr("CAST(total AS DECIMAL(8,2)) AS total", "id", "'x' AS mail")
    ours.coalesce(1).write.parquet(str(tmp_path / "ours.parquet"))
    frame.write.orc(str(tmp_path / "others.orc"))
    given = [tmp_path / name for name in ("a.json", "a.csv", "ours.parquet")]
    done = run("contract", "check", path, *given, tmp_path / "others.orc")
    assert done.returncode == 1
    assert done.stdout.removeprefix(SAID.format(path)).splitlines() == [
        f"{given[0]}: 4 rows, 3 bad",
        "  2 bad: breaks total: minimum 0",
        "  1 bad: id: missing",
        "  1 counted: mail: nullValues",
        f"{given[1]}: 2 rows, 0 bad",
        "  1 counted: mail: nullValues",
        f"{given[2]}: 3 rows, 2 bad",
        "  1 bad: breaks id: required",
        "  1 bad: breaks total: minimum 0",
        f"{tmp_path}/others.orc: total is int, expected decimal(8,2)",
        f"{tmp_path}/others.orc: missing mail string",
    ]
    assert run("contract", "check", path, given[1]).returncode == 0
    done = run("contract", "check", path, tmp_path / "no.json")
    assert done.returncode == 2
    assert f"cannot read the sample {tmp_path}/no.json: " in done.stderr


def test_diff_says_what_breaks_a_running_query(tmp_path):
    old = written(tmp_path, *ORDERS)
    new = written(
        tmp_path, ORDERS[0], *ORDERS[2:], "name: x, logicalType: date", name="new"
    )
    new.write_text(new.read_text().replace("name: new", "name: orders"))
    done = run("contract", "diff", old, new)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "breaks a running query:\n"
        "  orders.total is gone: it is NULL in new rows\n"
        "does not break it:\n"
        "  orders.x date is new; it is left out until it is read\n"
        "  orders: rule total: minimum 0 is gone\n"
    )
    done = run("contract", "diff", old, old)
    assert (done.returncode, done.stdout) == (0, "no difference for a query\n")


@pytest.mark.slow
def test_schema_writes_a_contract_as_a_start(spark, tmp_path):
    (tmp_path / "my orders.json").write_text('{"id": 1, "lines": [{"x": "a"}]}\n')
    done = run("schema", tmp_path / "my orders.json", "--contract")
    assert done.returncode == 0
    path = tmp_path / "drafted.odcs.yaml"
    path.write_text(done.stdout)
    done = run("contract", "check", path)
    assert (done.returncode, done.stdout.splitlines()[1:4]) == (
        0,
        [
            "my_orders: 2 columns",
            "  id bigint",
            "  lines array<struct<x:string>>",
        ],
    )


def test_without_the_library_no_session_starts(monkeypatch, tmp_path):
    (tmp_path / "a.json").write_text("{}\n")
    monkeypatch.setitem(sys.modules, "open_data_contract_standard", None)
    done = run("schema", tmp_path / "a.json", "--contract")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sparkstream: schema --contract needs an optional library; run: pip install"
        " 'sparkstream-kit[contract]'\n"
    )
