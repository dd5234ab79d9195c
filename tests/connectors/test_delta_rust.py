"""`connectors.delta.rust` without Spark: a Delta table in a folder, step by step."""

# ruff: noqa: SLF001 - the steps of the module are its own
import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from conftest import refusal
from deltalake import DeltaTable, Field, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import PrimitiveType
from pyspark.sql import types as T
from support.sink_streams import table_target

from sparkstream_kit.connectors import _arrow as arrow
from sparkstream_kit.connectors._tables import ConflictError
from sparkstream_kit.connectors.delta import rust
from sparkstream_kit.connectors.delta.rust import RustTable
from sparkstream_kit.errors import InvalidInputError, KitError
from sparkstream_kit.sinks.ledger import Batch

SCHEMA = T.StructType(
    [T.StructField("k", T.StringType(), False), T.StructField("n", T.IntegerType())]
)
APPEND = table_target()
UPSERT = replace(APPEND, how="upsert", keys=("k",))
REPLACE = replace(APPEND, how="replace")
FAR = 400_000_000_000_000_000  # microseconds: the year 14645
SPARK: Any = SimpleNamespace(createDataFrame=lambda *given: given)


@pytest.fixture
def folder(tmp_path):
    """The folder of a table, which is not there yet."""
    return tmp_path / "t"


@pytest.fixture
def table(folder):
    """A table that was made just now."""
    made = RustTable(str(folder))
    made.create(SCHEMA)
    made.schema()
    return made


def rows_of(*rows):
    """Return rows as they come from Spark."""
    keys, numbers = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"k": pa.array(keys, "string"), "n": pa.array(numbers, "int32")})


def there(folder):
    return sorted(DeltaTable(folder).to_pyarrow_table().to_pylist(), key=str)


def made(folder, *fields, **more):
    """Make a table with these columns of primitive types."""
    columns = [
        Field(name, PrimitiveType(kind), nullable=nullable)
        for name, kind, nullable in fields
    ]
    return DeltaTable.create(folder, Schema(columns), **more)


# --- which table is there


def test_no_folder_is_no_table(folder):
    table = RustTable(str(folder))
    assert table.schema() is None
    assert table.last_batch("q") is None
    assert table.history() == []
    assert not table.has_rows()
    assert table._stat() is None
    assert not folder.exists()


def test_an_empty_folder_is_no_table(folder):
    folder.mkdir()
    assert RustTable(str(folder)).schema() is None


@pytest.mark.parametrize(
    "path",
    ["t", "t/file", "t/_delta_log", "t/.hidden"],
    ids=["a file", "a folder with one", "a file as log", "a hidden file"],
)
def test_what_is_no_table_is_refused(folder, path):
    file = folder.parent / path
    file.parent.mkdir(exist_ok=True)
    file.write_text("theirs")
    said = f"{folder} is no Delta table, but not empty; use another folder"
    assert refusal(RustTable(str(folder)).schema) == said
    assert file.read_text() == "theirs"


def test_the_columns_are_those_of_the_newest_version(table, folder):
    columns = T.StructType().add("k", "string").add("n", "integer")
    assert table.schema() == columns
    RustTable(str(folder)).add_columns([T.StructField("more", T.LongType(), False)])
    assert table.schema() == columns.add("more", "long")


def test_a_column_that_must_have_a_value_is_known(folder):
    made(folder, ("k", "string", False), ("n", "integer", True))
    assert RustTable(str(folder)).schema() == SCHEMA


def test_a_table_that_is_gone_is_none_again(table, folder):
    shutil.rmtree(folder)
    assert table.schema() is None
    assert table.last_batch("q") is None


def test_a_table_that_was_made_again_is_another_one(table, folder):
    before = table.identity()
    table.commit(rows_of(("a", 1)), APPEND, Batch("q", 0))
    shutil.rmtree(folder)
    made(folder, ("other", "string", True))
    for text in ("a", "b"):
        rows = pa.table({"other": pa.array([text], "string")})
        write_deltalake(folder, rows, mode="append")
    assert table.schema() == T.StructType().add("other", "string")
    assert table.identity() == str(DeltaTable(folder).metadata().id) != before
    assert table.last_batch("q") is None


def test_a_table_that_was_not_made_again_is_read_on(table, folder, monkeypatch):
    table.schema()
    write_deltalake(folder, rows_of(("a", 1)), mode="append")
    # A table is loaded whole only once
    monkeypatch.setattr(rust, "DeltaTable", SimpleNamespace(is_deltatable=bool))
    table.schema()
    assert table.has_rows()


def test_a_file_of_a_commit_is_told_from_another_of_its_name(table, folder):
    file = folder / "_delta_log" / f"{0:020}.json"
    status = file.stat()
    assert table._stat() == (status.st_ino, status.st_mtime_ns)
    file.unlink()
    assert table._stat() is None


def test_a_table_with_column_mapping_is_refused(folder):
    mapped = {"delta.columnMapping.mode": "name"}
    made(folder, ("k", "string", True), configuration=mapped)
    assert refusal(RustTable(str(folder)).schema) == (
        f"Delta table {folder} has column mapping, with which delta-rs cannot add rows;"
        " use Delta's writer for Spark: get_session(…, connectors=['delta'])"
    )


def test_a_table_whose_column_mapping_is_off_is_taken(folder):
    mapped = {"delta.columnMapping.mode": "none"}
    made(folder, ("k", "string", True), configuration=mapped)
    assert RustTable(str(folder)).schema() == T.StructType().add("k", "string")


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("double", "double"),
        ("float", "float"),
        ("binary", "binary"),
        ("decimal(5,2)", "decimal(5,2)"),
    ],
)
def test_partitions_that_cannot_be_read_again_are_refused(folder, kind, shown):
    fields = [("day", "date", True), ("p", kind, True), ("v", "string", True)]
    made(folder, *fields, partition_by=["day", "p"])
    assert refusal(RustTable(str(folder)).schema) == (
        f"Delta table {folder} is partitioned by p, a {shown}, of which delta-rs makes"
        " no partitions that can be read again; use Delta's writer for Spark:"
        " get_session(…, connectors=['delta'])"
    )


def test_other_partitions_are_taken(folder):
    fields = [("day", "date", True), ("p", "string", True), ("v", "double", True)]
    made(folder, *fields, partition_by=["day", "p"])
    assert RustTable(str(folder)).schema() is not None


# --- a table that another query is making


@pytest.fixture
def sleeps(monkeypatch):
    """The sleeps of the module, which take no time; `then` is what happens in each."""
    asleep = SimpleNamespace(seconds=[], then=lambda: None)

    def sleep(seconds):
        asleep.seconds.append(seconds)
        asleep.then()

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: sum(asleep.seconds))
    monkeypatch.setattr(rust, "time", clock)
    return asleep


def test_the_first_commit_of_another_query_is_waited_for(folder, sleeps):
    (folder / "_delta_log").mkdir(parents=True)

    def make():
        if len(sleeps.seconds) == 2:
            made(folder, ("k", "string", True))

    sleeps.then = make
    assert RustTable(str(folder)).schema() == T.StructType().add("k", "string")
    assert sleeps.seconds == [0.02, 0.02]


def test_a_query_that_makes_no_commit_is_taken_for_dead(folder, sleeps):
    (folder / "_delta_log").mkdir(parents=True)
    assert RustTable(str(folder)).schema() is None
    assert sum(sleeps.seconds) == pytest.approx(5, abs=0.03)


def test_a_folder_without_a_log_is_not_waited_for(folder, sleeps):
    folder.mkdir()
    assert RustTable(str(folder)).schema() is None
    assert sleeps.seconds == []


def test_a_log_that_goes_away_is_waited_for_no_longer(folder, sleeps):
    (folder / "_delta_log").mkdir(parents=True)
    sleeps.then = (folder / "_delta_log").rmdir
    assert RustTable(str(folder)).schema() is None
    assert sleeps.seconds == [0.02]


def test_a_table_is_made_with_columns_that_may_be_null(folder):
    table = RustTable(str(folder))
    table.create(SCHEMA)
    columns = T.StructType().add("k", "string").add("n", "integer")
    assert table.schema() == columns
    assert DeltaTable(folder).version() == 0


def test_a_table_that_another_query_makes_is_not_made_again(folder, sleeps):
    (folder / "_delta_log").mkdir(parents=True)
    sleeps.then = lambda: made(folder, ("theirs", "string", True))
    RustTable(str(folder)).create(SCHEMA)
    assert [field.name for field in DeltaTable(folder).schema().fields] == ["theirs"]
    assert DeltaTable(folder).version() == 0
    assert len(sleeps.seconds) == 1


def test_a_log_folder_that_a_dead_query_has_left_is_used(folder, sleeps):
    (folder / "_delta_log").mkdir(parents=True)
    RustTable(str(folder)).create(SCHEMA)
    assert [field.name for field in DeltaTable(folder).schema().fields] == ["k", "n"]


def test_a_folder_that_cannot_be_made_is_refused(folder):
    folder.write_text("a file")
    inside = folder / "t"
    assert refusal(RustTable(str(inside)).create, SCHEMA) == (
        f"Delta table {inside} cannot be made (Not a directory); give another folder"
    )


# --- what a table tells


def test_properties_are_noted_in_a_commit(table, folder):
    table.note({"sparkstream.queries": "q"})
    table.note({"sparkstream.queries": "q r", "another": "x"})
    expected = {"sparkstream.queries": "q r", "another": "x"}
    assert table.properties() == expected
    assert DeltaTable(folder).metadata().configuration == expected
    assert DeltaTable(folder).version() == 2


def test_a_table_has_its_id(table, folder):
    assert table.identity() == str(DeltaTable(folder).metadata().id)
    assert RustTable(str(folder)).identity() == table.identity()


def test_batches_are_known_by_their_query(table, folder):
    assert table.last_batch("q") is None
    table.commit(rows_of(("a", 1)), APPEND, Batch("q", 4, "plan"))
    table.commit(rows_of(("a", 1)), APPEND, Batch("r", 1))
    write_deltalake(folder, rows_of(("b", 2)), mode="append")
    table.schema()
    assert (table.last_batch("q"), table.last_batch("r")) == (4, 1)
    assert table.last_batch("s") is None
    newest, *older = table.history()
    assert newest is None
    assert [json.loads(each or "null") for each in older] == [
        {"query": "r", "batch": 1, "plan": None},
        {"query": "q", "batch": 4, "plan": "plan"},
        None,
    ]


def test_the_history_has_the_newest_commits_alone(table, monkeypatch):
    monkeypatch.setattr(rust, "HISTORY", 2)
    for number in range(3):
        table.commit(rows_of(("a", 1)), APPEND, Batch("q", number))
    found = [json.loads(each)["batch"] for each in table.history()]
    assert found == [2, 1]


def test_a_table_has_rows_or_has_none(table):
    assert table.has_rows() is False
    table.commit(rows_of(), APPEND, Batch("q", 0))
    table.schema()
    assert table.has_rows() is False
    table.commit(rows_of(("a", 1)), APPEND, Batch("q", 1))
    assert table.has_rows() is True


def test_rows_are_read_back(table):
    table.commit(rows_of(("a", 1)), APPEND, Batch("q", 0))
    rows, schema = table.rows(SPARK)
    assert rows.to_pylist() == [{"k": "a", "n": 1}]
    assert schema == T.StructType().add("k", "string").add("n", "integer")


def test_a_variant_cannot_be_read_back(table, folder, monkeypatch):
    # delta-rs itself cannot make such a table
    variant = T.StructType().add("k", "string").add("v", T.ArrayType(T.VariantType()))
    monkeypatch.setattr(table, "schema", lambda: variant)
    assert refusal(table.rows, SPARK) == (
        f"Delta table {folder}: delta-rs cannot read column v back, a VARIANT; use"
        " Delta's writer for Spark: get_session(…, connectors=['delta'])"
    )


def test_a_table_that_is_gone_fails_the_query(folder):
    with pytest.raises(KitError) as no:
        RustTable(str(folder)).properties()
    assert type(no.value) is KitError
    assert str(no.value) == (
        f"the Delta table {folder} was removed while a query writes to it"
    )


def test_the_way_back_is_a_command(folder):
    said = RustTable("t").set_back_command("q", 3)
    assert said == (
        "run python -c 'from sparkstream_kit.connectors.delta.writers import set_back;"
        """ set_back('"'"'t'"'"', '"'"'q'"'"', 3)'"""
    )


def test_columns_are_added_that_may_be_null(table, folder):
    inner = T.StructType([T.StructField("x", T.IntegerType(), False)])
    table.add_columns([T.StructField("a", inner, False)])
    field = DeltaTable(folder).schema().fields[-1]
    assert (field.name, field.nullable) == ("a", True)
    assert json.loads(field.to_json())["type"]["fields"][0]["nullable"] is True


# --- a batch


@pytest.fixture
def frame(monkeypatch):
    """Return a function that makes the batch of some rows; Spark would compute them."""

    def make(rows):
        @contextmanager
        def gathered(_frame, schema):
            yield rows.cast(pa.schema([schema.field(name) for name in schema.names]))

        monkeypatch.setattr(arrow, "gathered", gathered)
        schema = T.StructType()
        for field in rows.schema:
            kind = T.StringType() if field.type == pa.string() else T.IntegerType()
            schema.add(field.name, kind)
        return SimpleNamespace(schema=schema)

    return make


def gathered(table, frame, target=APPEND, batch=Batch("q", 7)):  # noqa: B008 - a value
    with table.gathered(frame, target, batch) as rows:
        return rows.to_pylist()


def test_the_rows_of_a_batch_are_gathered(table, frame):
    rows = [("a", 1), ("a", 2), (None, 3)]
    expected = [{"k": key, "n": number} for key, number in rows]
    assert gathered(table, frame(rows_of(*rows))) == expected
    assert gathered(table, frame(rows_of(*rows)), REPLACE) == expected


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([("a", 1), ("a", 2)], "the same in two rows; use the columns that the query"),
        ([(None, 1)], "null; fill it with F.coalesce, or leave such rows out"),
    ],
    ids=["twice", "null"],
)
def test_keys_that_tell_no_rows_apart_are_refused(table, frame, rows, wrong):
    said = refusal(gathered, table, frame(rows_of(*rows)), UPSERT)
    assert said.startswith(f"batch 7 for table t: key k is {wrong}")


def test_an_upsert_without_rows_is_none(table, frame):
    assert gathered(table, frame(rows_of()), UPSERT) == []


def test_a_null_in_a_column_that_must_have_a_value_is_refused(folder, frame):
    made(folder, ("k", "string", False), ("n", "integer", True))
    table = RustTable(str(folder))
    assert refusal(gathered, table, frame(rows_of(("a", None), (None, 1)))) == (
        "batch 7 for table t: column k is null, of which the table requires a value;"
        " fill it with F.coalesce, or leave such rows out"
    )
    assert gathered(table, frame(rows_of(("a", None)))) == [{"k": "a", "n": None}]


@pytest.mark.parametrize("text", ["", "__HIVE_DEFAULT_PARTITION__"])
def test_a_text_that_has_no_partition_is_refused(folder, frame, text):
    fields = [("k", "string", True), ("n", "integer", True), ("p", "string", True)]
    made(folder, *fields, partition_by=["n", "k", "p"])
    table = RustTable(str(folder))
    said = refusal(gathered, table, frame(rows_of(("a", 1), (text, 1))))
    assert said.startswith(
        "batch 7: column k, by which table t is partitioned, has a text that Delta reads"
    )
    assert len(gathered(table, frame(rows_of(("a", 1), (None, None))))) == 2


def test_any_text_is_taken_where_there_are_no_partitions(table, frame):
    assert gathered(table, frame(rows_of(("", 1)))) == [{"k": "", "n": 1}]


WAYS = {
    "append": (APPEND, [("a", 1), ("b", 2)], [("a", 5)], "a1 a5 b2", "WRITE"),
    "upsert": (UPSERT, [("a", 1), ("b", 2)], [("a", 5), ("c", 6)], "a5 b2 c6", "MERGE"),
    "replace": (REPLACE, [("a", 1), ("b", 2)], [("a", 5)], "a5", "WRITE"),
    "append nothing": (APPEND, [("a", 1)], [], "a1", "WRITE"),
    "upsert nothing": (UPSERT, [("a", 1)], [], "a1", "WRITE"),
    "replace by nothing": (REPLACE, [("a", 1)], [], "", "WRITE"),
}


@pytest.mark.parametrize("what", WAYS)
def test_each_batch_is_a_commit(table, folder, what):
    target, first, second, expected, operation = WAYS[what]
    table.commit(rows_of(*first), target, Batch("q", 0))
    table.commit(rows_of(*second), target, Batch("q", 1, "plan"))
    assert [f"{row['k']}{row['n']}" for row in there(folder)] == expected.split()
    known = DeltaTable(folder)
    newest = known.history(1)[0]
    assert known.version() == 2
    assert newest["operation"] == operation
    assert json.loads(newest["userMetadata"]) == {
        "query": "q",
        "batch": 1,
        "plan": "plan",
    }
    assert known.transaction_version("sparkstream-q") == 1


def test_a_batch_without_rows_has_no_file(table, folder):
    table.commit(rows_of(), APPEND, Batch("q", 0))
    assert list(folder.glob("*.parquet")) == []
    assert DeltaTable(folder).transaction_version("sparkstream-q") == 0


def test_columns_that_only_the_table_has_become_null(table, folder):
    table.commit(pa.table({"n": pa.array([1], "int32")}), APPEND, Batch("q", 0))
    assert there(folder) == [{"k": None, "n": 1}]


def test_rows_are_merged_by_all_keys_with_any_names(folder):
    names = ["k`1", "k 2", "v.w"]
    made(folder, *[(name, "string", True) for name in names])
    target = replace(UPSERT, keys=("k`1", "k 2"))
    table = RustTable(str(folder))
    for number, rows in enumerate([["aax", "aby"], ["abz", "bax"]]):
        columns = {
            name: [row[position] for row in rows] for position, name in enumerate(names)
        }
        table.commit(pa.table(columns), target, Batch("q", number))
    found = sorted("".join(row.values()) for row in there(folder))
    assert found == ["aax", "abz", "bax"]


def test_of_two_commits_at_once_one_is_not_made(table, folder):
    other = RustTable(str(folder))
    other.schema()
    other.note({"sparkstream.epoch.q": "2 other"})
    with pytest.raises(ConflictError) as no:
        table.commit(rows_of(("a", 1)), APPEND, Batch("q", 0))
    assert str(no.value).startswith(f"Delta table {folder}: ")
    assert "\n" not in str(no.value)
    assert there(folder) == []
    table.schema()
    table.commit(rows_of(("a", 1)), APPEND, Batch("q", 0))
    assert len(there(folder)) == 1


def test_a_row_that_breaks_a_rule_names_it(table, folder):
    DeltaTable(folder).alter.add_constraint({"small": "n < 10"})
    table.schema()
    with pytest.raises(KitError) as no:
        table.commit(rows_of(("a", 10)), APPEND, Batch("q", 0))
    assert str(no.value).startswith(
        f"Delta table {folder}: a row breaks a rule of the table (small: n < 10); "
    )


# --- years beyond 9999


def test_columns_with_far_years_are_noted_once(table, folder):
    columns = {"a": [FAR, None], "b": [0, 1], "c": [-FAR, 0]}
    rows = pa.table(
        {name: pa.array(values, pa.timestamp("us")) for name, values in columns.items()}
    )
    assert table._far(rows.select(["b"])) == []
    assert DeltaTable(folder).version() == 0
    assert table._far(rows.select(["a", "b"])) == ["a"]
    assert table.properties()["sparkstream.far"] == "a"
    assert table._far(rows) == ["a", "c"]
    assert table.properties()["sparkstream.far"] == "a c"
    before = DeltaTable(folder).version()
    assert table._far(rows) == ["a", "c"]
    assert table._far(rows.select(["b"])) == ["a", "c"]
    assert DeltaTable(folder).version() == before


@pytest.mark.parametrize("target", [APPEND, UPSERT], ids=["append", "upsert"])
def test_a_file_has_no_statistics_of_far_years(folder, target):
    made(folder, ("k", "string", True), ("at", "timestamp_ntz", True))
    table = RustTable(str(folder))
    table.schema()
    times = pa.array([FAR, 0], pa.timestamp("us"))
    rows = pa.table({"k": pa.array(["a", "b"], "string"), "at": times})
    table.commit(rows, target, Batch("q", 0))
    log = folder / "_delta_log" / f"{2:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    [stats] = [json.loads(each["add"]["stats"]) for each in actions if "add" in each]
    assert stats["minValues"] == {"k": "a"}
    assert stats["maxValues"] == {"k": "b"}


# --- errors of delta-rs


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (CommitFailedError("theirs\n  0: rust"), ConflictError),
        (DeltaError("theirs\n  0: rust"), KitError),
        (OSError("theirs\n  0: rust"), KitError),
    ],
    ids=["a conflict", "of delta-rs", "of the disk"],
)
def test_an_error_of_delta_rs_is_one_line(raised, kind):
    with pytest.raises(KitError) as no, rust._in_one_line("out/t"):
        raise raised
    assert type(no.value) is kind
    assert str(no.value) == "Delta table out/t: theirs"


def test_another_error_is_raised_as_it_is():
    with pytest.raises(InvalidInputError, match="^ours$"), rust._in_one_line("t"):
        raise InvalidInputError("ours")


BROKEN = "failed validation check, data found: [a, 1]"


@pytest.mark.parametrize(
    ("rules", "error", "said"),
    [
        ("n: n < 1", BROKEN, "a row breaks a rule of the table (n: n < 1); [a, 1]"),
        ("", BROKEN, BROKEN),
        ("n: n < 1", "no space", "no space"),
    ],
    ids=["a rule", "without rules", "another error"],
)
def test_the_row_that_breaks_a_rule_is_said(rules, error, said):
    with pytest.raises(KitError) as no, rust._in_one_line("t", rules):
        raise DeltaError(error)
    assert str(no.value) == f"Delta table t: {said}"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("", ""),
        (" a\n\n   b ", "a b"),
        ("\x1b[31ma\x1b[0m b\x1b[1;31mc", "a bc"),
        ("a\n   0: core::write\n      at src/lib.rs:7\n  12: x\nb", "a b"),
        ("at noon\n10: more", ""),
        ("that\n1 : one", "that 1 : one"),
    ],
    ids=["nothing", "lines", "colours", "a stack", "only a stack", "no stack"],
)
def test_an_error_has_no_colours_and_no_stack(error, line):
    assert rust._one_line(error) == line


def test_the_rules_of_a_table_are_a_text(table, folder):
    assert rust._rules(DeltaTable(folder)) == ""
    known = DeltaTable(folder)
    known.alter.add_constraint({"small": "n < 10"})
    known.alter.add_constraint({"named": "k IS NOT NULL"})
    known.alter.set_table_properties({"other": "x"}, raise_if_not_exists=False)
    found = rust._rules(DeltaTable(folder)).split(", ")
    assert sorted(found) == ["named: k IS NOT NULL", "small: n < 10"]


def test_columns_are_left_out_of_the_statistics(folder):
    rows = pa.table({"a": [1], "b": [2]})
    write_deltalake(folder, rows, writer_properties=rust._without_statistics(["a"]))
    log = Path(folder, "_delta_log", f"{0:020}.json").read_text()
    actions = [json.loads(line) for line in log.splitlines()]
    [stats] = [json.loads(each["add"]["stats"]) for each in actions if "add" in each]
    assert stats["maxValues"] == {"b": 2}


def test_at_the_end_of_the_wait_there_is_no_other_look(folder, sleeps, monkeypatch):
    monkeypatch.setattr(rust, "_PAUSE", 0.5)
    monkeypatch.setattr(rust, "_MAKING", 1.0)
    (folder / "_delta_log").mkdir(parents=True)
    assert RustTable(str(folder)).schema() is None
    assert sleeps.seconds == [0.5, 0.5]
