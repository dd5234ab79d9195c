"""`connectors.delta.writers` without Spark: the log of a table, and sessions that a test plays."""

# ruff: noqa: SLF001 - the steps of the module are its own
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import types as T

from sparkstream_kit._internal.spark.place import LocalPlace
from sparkstream_kit.connectors._tables import ConflictError
from sparkstream_kit.connectors.delta import writers
from sparkstream_kit.connectors.delta.writers import SparkTable
from sparkstream_kit.errors import TransientError

SCHEMA = T.StructType().add("k", "string").add("n", "long")


@pytest.fixture
def folder(tmp_path):
    """A table without rows, of which version 0 is there."""
    fields = [Field("k", PrimitiveType("string"))]
    DeltaTable.create(tmp_path / "t", Schema(fields))
    return tmp_path / "t"


# --- words


def test_a_text_that_has_no_partition_is_told():
    assert writers.not_in_partitions("table t", "k") == (
        "column k, by which table t is partitioned, has a text that Delta reads as NULL"
        " there (an empty one, or __HIVE_DEFAULT_PARTITION__); replace it, as in"
        " F.when(F.col('k') == '', 'none').otherwise(F.col('k'))"
    )


@pytest.mark.parametrize(("name", "is_text"), [("k", True), ("n", False), ("x", False)])
def test_a_column_is_a_text(name, is_text):
    assert writers.is_text(SCHEMA, name) is is_text


def test_the_id_of_a_query_is_in_that_of_its_transactions():
    assert writers.application("q") == "sparkstream-q"


@pytest.mark.parametrize(
    ("extensions", "is_extended"),
    [
        (None, False),
        ("", False),
        ("org.example.Mine", False),
        ("org.example.Mine,io.delta.sql.DeltaSparkSessionExtension", True),
    ],
    ids=["none", "empty", "another", "delta's"],
)
def test_a_session_has_the_extension(extensions, is_extended):
    conf = SimpleNamespace(get=lambda key, _: {"spark.sql.extensions": extensions}[key])
    spark: Any = SimpleNamespace(conf=conf)
    assert writers.is_extended(spark) is is_extended


# --- the way back


def test_a_query_is_set_back_by_a_commit(folder):
    before = int(time.time() * 1000)
    writers.set_back(str(folder), "q", 3)
    writers.set_back(str(folder), "q", 2)
    table = DeltaTable(folder)
    assert table.version() == 2
    assert table.transaction_version("sparkstream-q") == 2
    log = folder / "_delta_log"
    assert sorted(path.name for path in log.iterdir()) == [
        f"{version:020}.json" for version in range(3)
    ]
    info, transaction = map(
        json.loads, (log / f"{1:020}.json").read_text().splitlines()
    )
    now = info["commitInfo"]["timestamp"]
    assert before <= now <= int(time.time() * 1000)
    assert info["commitInfo"] == {
        "timestamp": now,
        "inCommitTimestamp": now,
        "operation": "SET BACK",
        "operationParameters": {},
        "userMetadata": '{"query": "q", "batch": 3, "plan": null}',
    }
    assert transaction == {
        "txn": {"appId": "sparkstream-q", "version": 3, "lastUpdated": now}
    }


def test_other_files_of_the_log_are_no_versions(folder):
    for name in ("_last_checkpoint", f"{7:020}.checkpoint.parquet", "x9.json"):
        (folder / "_delta_log" / name).touch()
    writers.set_back(str(folder), "q", 3)
    assert (folder / "_delta_log" / f"{8:020}.json").exists()


@pytest.mark.parametrize("what", ["nothing", "a file", "a folder"])
def test_what_is_no_table_is_not_set_back(tmp_path, what):
    place = tmp_path / "other"
    if what == "a file":
        place.touch()
    if what == "a folder":
        place.mkdir()
    assert refusal(writers.set_back, str(place), "q", 3) == (
        f"{place} is no Delta table; give the folder of one"
    )


def test_a_commit_of_another_writer_is_not_written_over(folder, monkeypatch):
    other = folder / "_delta_log" / f"{1:020}.json"
    actions = writers._actions_of_set_back

    def late(*given):
        other.write_text("theirs")
        return actions(*given)

    # It has looked for the newest commit by then
    monkeypatch.setattr(writers, "_actions_of_set_back", late)
    with pytest.raises(TransientError) as no:
        writers.set_back(str(folder), "q", 3)
    assert str(no.value).startswith(f"{folder}: another writer has just committed (")
    assert str(no.value).endswith("); try again")
    assert other.read_text() == "theirs"
    assert len(list((folder / "_delta_log").iterdir())) == 2


# --- files of a log


def files(*names):
    return writers._newest_files([f"/l/{name}" for name in names])


NEWEST = {
    "nothing": ((), []),
    "commits": (("0.json", "1.json"), [("json", ["/l/0.json", "/l/1.json"])]),
    "no files of a log": (("0.crc", "_last_checkpoint", "x.json", "0.json.tmp"), []),
    "a checkpoint": (
        ("4.json", "5.json", "5.checkpoint.parquet", "6.json"),
        [("json", ["/l/6.json"]), ("parquet", ["/l/5.checkpoint.parquet"])],
    ),
    "two checkpoints": (
        ("2.checkpoint.parquet", "4.checkpoint.parquet", "4.json"),
        [("parquet", ["/l/4.checkpoint.parquet"])],
    ),
    "all parts": (
        ("4.checkpoint.1.2.parquet", "4.checkpoint.2.2.parquet", "3.json"),
        [("parquet", ["/l/4.checkpoint.1.2.parquet", "/l/4.checkpoint.2.2.parquet"])],
    ),
    "a missing part": (
        ("4.checkpoint.1.2.parquet", "0.json"),
        [("json", ["/l/0.json"])],
    ),
    "with an id": (
        ("4.checkpoint.80a0-7026.json", "5.json"),
        [("json", ["/l/5.json"]), ("json", ["/l/4.checkpoint.80a0-7026.json"])],
    ),
    "the first version": (
        ("0.checkpoint.parquet", "0.json"),
        [("parquet", ["/l/0.checkpoint.parquet"])],
    ),
}


@pytest.mark.parametrize("what", NEWEST)
def test_the_files_since_the_newest_checkpoint_are_read(what):
    names, expected = NEWEST[what]
    assert files(*names) == expected


# --- a session that a test plays


class Rows(list[Any]):
    """A DataFrame of some rows."""

    def select(self, *_names):
        return self

    def first(self):
        return self[0] if self else None

    def collect(self):
        return self


class Session:
    """A session that answers statements, and keeps them."""

    def __init__(self, *rows, error=None):
        self._rows = Rows(rows)
        self._error = error
        self.said: list[str] = []
        self.read = self
        self.schema = SCHEMA

    def sql(self, statement):
        self.said.append(statement)
        if self._error:
            raise self._error
        return self._rows

    def table(self, name):
        return self.load(name)

    def format(self, _name):
        return self

    def load(self, place):
        self.said.append(place)
        if self._error:
            raise self._error
        return self


def table_in(session, folder=None, name=None):
    place = None if folder is None else LocalPlace(str(folder), folder)
    return SparkTable(session, place, name)


def of(condition):
    """Return Spark's error with a condition."""
    error = AnalysisException(condition)
    error.getCondition = lambda: condition  # type: ignore[method-assign]
    return error


def test_a_table_of_the_catalog_is_found_in_its_folder(monkeypatch):
    monkeypatch.setattr(
        writers, "locate", lambda _, path: SimpleNamespace(uri=f"file:{path}")
    )
    session = Session(SimpleNamespace(format="delta", location="/x"))
    table = table_in(session, name="shop.t")
    assert table.place == table.place == "file:/x"
    assert session.said == ["DESCRIBE DETAIL shop.t"]


@pytest.mark.parametrize(
    "rows", [(), (SimpleNamespace(format="parquet"),)], ids=["nothing", "another"]
)
def test_a_table_of_another_format_is_refused(rows):
    table = table_in(Session(*rows), name="shop.t")
    with pytest.raises(
        Exception, match="^table shop.t is no Delta table; use another$"
    ):
        _ = table.place


def test_the_columns_are_asked_by_name_or_by_folder(tmp_path):
    session = Session()
    assert table_in(session, name="shop.t").schema() == SCHEMA
    assert table_in(session, tmp_path).schema() == SCHEMA
    assert session.said[0] == "shop.t"
    assert str(session.said[1]).endswith(str(tmp_path))


@pytest.mark.parametrize("condition", writers._GONE)
def test_a_table_that_is_missing_is_none(tmp_path, condition):
    session = Session(error=of(condition))
    assert table_in(session, tmp_path / "t").schema() is None
    assert table_in(session, name="shop.t").schema() is None
    (tmp_path / "_delta_log").mkdir()
    assert table_in(session, tmp_path).schema() is None


def test_another_error_of_spark_is_raised_as_it_is(tmp_path):
    with pytest.raises(AnalysisException):
        table_in(Session(error=of("OTHER")), tmp_path).schema()


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path):
    (tmp_path / "file").touch()
    session = Session(error=of("PATH_NOT_FOUND"))
    said = refusal(table_in(session, tmp_path).schema)
    assert said.endswith(
        f"{tmp_path} is no Delta table, but not empty; use another folder"
    )
    session.said.clear()
    said = refusal(table_in(session, tmp_path / "file").schema)
    assert said.endswith("file is no Delta table, but not empty; use another folder")
    assert session.said == []


def test_what_a_table_tells_is_asked_by_sql(tmp_path):
    session = Session(("a", "1"), ("b", "2"))
    table = table_in(session, tmp_path)
    name = f"delta.`{table.place}`"
    assert table.properties() == {"a": "1", "b": "2"}
    assert session.said == [f"SHOW TBLPROPERTIES {name}"]
    session = Session({"id": "x"})
    assert table_in(session, tmp_path).identity() == "x"
    assert session.said == [f"DESCRIBE DETAIL {name}"]
    session = Session(
        SimpleNamespace(userMetadata="m"), SimpleNamespace(userMetadata=None)
    )
    assert table_in(session, tmp_path).history() == ["m", None]
    assert session.said == [f"DESCRIBE HISTORY {name} LIMIT 1000"]


def test_properties_and_columns_are_set_by_sql(tmp_path):
    session = Session()
    table = table_in(session, tmp_path)
    table.note({"a": "1", "b": "2"})
    table.add_columns([*SCHEMA.fields])
    assert session.said == [
        f"ALTER TABLE delta.`{table.place}` SET TBLPROPERTIES ('a' = '1', 'b' = '2')",
        f"ALTER TABLE delta.`{table.place}` ADD COLUMNS (`k` string, `n` bigint)",
    ]


def test_a_batch_that_is_known_is_not_read_from_the_log(tmp_path, monkeypatch):
    table = table_in(Session(), tmp_path)
    monkeypatch.setattr(table, "_in_log", lambda query: f"in the log: {query}")
    table._written["q"] = 3
    assert table.last_batch("q") == 3
    assert table.last_batch("r") == "in the log: r"


@pytest.mark.parametrize(
    "words",
    ["DELTA_CONCURRENT_APPEND", "DELTA_METADATA_CHANGED", "DELTA_PROTOCOL_CHANGED"],
)
def test_a_commit_that_another_writer_has_prevented_is_a_conflict(words):
    with pytest.raises(ConflictError) as no, writers._conflicts("out/t"):
        raise PySparkException(f"[{words}] more")
    assert str(no.value) == f"Delta table out/t: another writer was quicker ({words})"


def test_another_error_of_a_commit_is_raised_as_it_is():
    with pytest.raises(PySparkException, match="^no$"), writers._conflicts("out/t"):
        raise PySparkException("no")


def test_the_way_back_is_a_command(tmp_path):
    table = table_in(Session(), tmp_path)
    said = table.set_back_command("q", 3)
    assert said.startswith(
        "run python -c 'from sparkstream_kit.connectors.delta.writers import set_back;"
    )
    assert table.place in said
