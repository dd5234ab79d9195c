"""`connectors._arrow` without Spark: values of a batch, its files and its parts."""

# ruff: noqa: SLF001 - the steps of the module are its own
import zlib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import refusal
from pyspark.sql import types as T

from sparkstream_kit.connectors import _arrow as arrow
from sparkstream_kit.errors import KitError

FRAME: Any = "the batch"


def of_bytes(*values):
    """Return a column of texts that need not be UTF-8."""
    return pa.array(values, pa.binary()).view(pa.string())


def part(*columns):
    names = [f"c{number}" for number in range(len(columns))]
    return pa.RecordBatch.from_arrays([*columns], names)


# --- years that Python does not have


A_DAY = 86_400_000_000
FIRST, LAST = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31
DAYS = {
    "the first": ([FIRST, None], False),
    "the last": ([0, LAST], False),
    "before the first": ([0, FIRST - 1], True),
    "after the last": ([LAST + 1, 0], True),
    "none": ([None], False),
    "no rows": ([], False),
}


@pytest.mark.parametrize("what", DAYS)
def test_a_date_is_beyond_pythons_years(what):
    days, beyond = DAYS[what]
    column = pa.chunked_array([pa.array(days, pa.date32())])
    assert arrow.beyond_python(column) is beyond


TIMES = {
    "the first": ([FIRST * A_DAY], False),
    "the last": ([(LAST + 1) * A_DAY - 1], False),
    "before the first": ([0, FIRST * A_DAY - 1], True),
    "after the last": ([(LAST + 1) * A_DAY, 0], True),
}


@pytest.mark.parametrize("zone", [None, "UTC"], ids=["local", "in UTC"])
@pytest.mark.parametrize("what", TIMES)
def test_a_time_is_beyond_pythons_years(what, zone):
    times, beyond = TIMES[what]
    column = pa.chunked_array([pa.array(times, pa.timestamp("us", zone))])
    assert arrow.beyond_python(column) is beyond


DATE = pa.date32()
FAR = LAST + 1
INSIDE = {
    "a field": (pa.struct({"a": pa.int32(), "d": DATE}), {"a": 1, "d": FAR}),
    "a key": (pa.map_(DATE, pa.int32()), [(FAR, 1)]),
    "a value": (pa.map_(pa.int32(), DATE), [(1, FAR)]),
    "an element": (pa.list_(DATE), [0, FAR]),
    "a large list": (pa.large_list(DATE), [FAR]),
    "deeper": (pa.list_(pa.struct({"l": pa.list_(DATE)})), [{"l": [FAR]}]),
}


def numbers_for(kind):
    """Return a type with numbers in place of its dates, of which Python knows all."""
    if pa.types.is_date(kind):
        return pa.int32()
    if pa.types.is_struct(kind):
        return pa.struct(
            [(field.name, numbers_for(field.type)) for field in kind.fields]
        )
    if pa.types.is_map(kind):
        return pa.map_(numbers_for(kind.key_type), numbers_for(kind.item_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(numbers_for(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(numbers_for(kind.value_type))
    return kind


@pytest.mark.parametrize("what", INSIDE)
def test_values_inside_of_others_count(what):
    kind, value = INSIDE[what]
    near = pa.array([None], numbers_for(kind)).cast(kind)
    far = pa.array([value], numbers_for(kind)).cast(kind)
    assert arrow.beyond_python(pa.chunked_array([near, far]))
    assert not arrow.beyond_python(pa.chunked_array([near]))
    assert not arrow.beyond_python(pa.chunked_array([], kind))


def test_other_columns_have_no_years():
    assert arrow.beyond_python(pa.chunked_array([pa.array([10**18])])) is False
    assert arrow._inner_values(pa.chunked_array([pa.array(["a"])])) == []


# --- texts


def test_texts_that_are_not_utf8_are_made_so():
    texts = of_bytes(b"a\xff", None, "ä".encode())
    assert arrow.is_utf8(texts) is False
    assert arrow.valid_utf8(texts).to_pylist() == [r"a\xff", None, "ä"]


def test_texts_that_are_utf8_stay_as_they_are():
    texts = pa.array(["ä", None])
    assert arrow.is_utf8(texts) is True
    assert arrow.valid_utf8(texts) is texts


@pytest.mark.parametrize(
    ("kind", "is_text", "is_binary"),
    [
        (pa.string(), True, False),
        (pa.large_string(), True, False),
        (pa.binary(), False, True),
        (pa.large_binary(), False, True),
        (pa.int32(), False, False),
    ],
    ids=str,
)
def test_kinds_of_columns(kind, is_text, is_binary):
    assert arrow.is_text(kind) is is_text
    assert arrow.is_binary(kind) is is_binary


# --- keys


def test_keys_are_compared_without_the_sign_of_a_zero():
    rows = pa.table({"v": [1, 2], "k": [-0.0, 0.5], "t": ["a", "b"]})
    keys = arrow.as_keys(rows, ("t", "k"))
    assert keys.column_names == ["t", "k"]
    assert [str(key) for key in keys["k"].to_pylist()] == ["0.0", "0.5"]
    assert keys["t"].to_pylist() == ["a", "b"]


KEYS = {
    "the same": ([1, 2, 1], ["a", "a", "a"], ["k", "t"], "is the same in two rows; "),
    "null": ([1, None, 2], ["a", "b", "c"], ["k", "t"], "is null; fill it with"),
    "null in another": ([1, 1, 2], ["a", "b", None], ["k", "t"], "is null; fill it"),
}


@pytest.mark.parametrize("what", KEYS)
def test_rows_that_no_key_tells_apart_are_refused(what):
    numbers, texts, keys, wrong = KEYS[what]
    rows = pa.table({"k": numbers, "t": texts})
    said = refusal(arrow.check_keys, rows, "table t", keys, 7)
    assert said.startswith(f"batch 7 for table t: key k, t {wrong}")


def test_rows_that_keys_tell_apart_are_taken():
    rows = pa.table({"k": [1, 2, 1], "t": ["a", "a", "b"], "v": [1, None, 1]})
    arrow.check_keys(rows, "table t", ["k", "t"], 7)
    arrow.check_keys(rows.slice(0, 1), "table t", ["k"], 7)


def test_a_zero_with_a_sign_is_the_same_key():
    rows = pa.table({"k": [0.0, -0.0]})
    said = refusal(arrow.check_keys, rows, "table t", ["k"], 7)
    assert "key k is the same in two rows" in said


@pytest.mark.parametrize("value", [[1], {"a": 1}], ids=["a list", "a struct"])
def test_a_key_that_has_values_inside_is_refused(value):
    rows = pa.table({"n": [1], "k": [value]})
    kind = rows.schema.field("k").type
    assert refusal(arrow.check_keys, rows, "table t", ["n", "k"], 7) == (
        f"table t: key k is a {kind}, by which no rows are matched; give its fields as"
        " columns (windows.flatten), and these as keys"
    )


def test_a_null_in_a_column_that_must_have_a_value_is_refused():
    rows = pa.table({"k": ["a", None], "n": [1, 2]})
    assert refusal(arrow.check_required, rows, "table t", ["n", "x", "k"], 7) == (
        "batch 7 for table t: column k is null, of which the table requires a value;"
        " fill it with F.coalesce, or leave such rows out"
    )
    arrow.check_required(rows, "table t", ["n", "x"], 7)
    arrow.check_required(rows, "table t", [], 7)


# --- ways to keep a batch


class Conf:
    def __init__(self, encryption):
        self._encryption = encryption

    def get(self, name, default):
        assert name == "spark.io.encryption.enabled"
        return self._encryption or default


PLAIN = T.StructType().add("d", "date").add("t", "timestamp").add("s", "string")
NESTED = T.StructType().add("s", "string").add("l", T.ArrayType(T.StringType()))
WAYS = {
    "plain types": (PLAIN, None, None, "files"),
    "not encrypted": (PLAIN, "false", None, "files"),
    "encrypted": (PLAIN, "TRUE", None, "blobs"),
    "on a cluster": (PLAIN, None, "spark://host", "blobs"),
    "other types": (NESTED, None, None, "blobs"),
}


@pytest.mark.parametrize("what", WAYS)
def test_a_batch_is_kept_in_files_where_these_are_safe(monkeypatch, what):
    schema, encryption, master, way = WAYS[what]

    def keeping(name):
        @contextmanager
        def keep(_batch):
            yield name

        return keep

    monkeypatch.setattr(arrow, "in_files", keeping("files"))
    monkeypatch.setattr(arrow, "in_blobs", keeping("blobs"))
    monkeypatch.setattr(arrow, "other_master", lambda _: master)
    spark = SimpleNamespace(conf=Conf(encryption))
    frame: Any = SimpleNamespace(sparkSession=spark, schema=schema)
    with arrow.kept(frame) as parts:
        assert str(parts) == way


def test_parts_are_read_by_each_loop():
    parts = arrow.Parts(lambda: iter([part(pa.array([1]))]))
    assert [len(list(parts)) for _ in range(2)] == [1, 1]


def keep(monkeypatch, *parts):
    """Let a batch have these parts; Spark would compute them."""

    @contextmanager
    def kept(_batch):
        yield parts

    monkeypatch.setattr(arrow, "kept", kept)


def test_a_batch_is_gathered_as_one_table(monkeypatch, caplog):
    first = part(pa.array(["a", "b"]), pa.array([1, 2], pa.int32()))
    second = part(pa.array(["c"]), pa.array([None], pa.int32()))
    keep(monkeypatch, first, second)
    schema = pa.schema({"k": pa.large_string(), "n": pa.int64()})
    with arrow.gathered(FRAME, schema) as rows:
        assert rows.schema == schema
        assert rows.to_pydict() == {"k": ["a", "b", "c"], "n": [1, 2, None]}
    assert caplog.messages == []


def test_a_batch_without_parts_is_a_table_without_rows(monkeypatch):
    keep(monkeypatch)
    schema = pa.schema({"k": pa.string()})
    with arrow.gathered(FRAME, schema) as rows:
        assert (rows.schema, rows.num_rows) == (schema, 0)


def test_texts_that_are_not_utf8_are_changed_with_a_warning(monkeypatch, caplog):
    bad = of_bytes(b"\xff", b"a")
    raw = pa.array([b"\xff", b""])
    good = pa.array(["a", "b"])
    keep(monkeypatch, part(bad, good, raw, bad), part(bad, good, raw, good))
    schema = pa.schema({"z": "string", "g": "string", "r": "binary", "a": "string"})
    with arrow.gathered(FRAME, schema) as rows:
        assert rows["z"].to_pylist() == [r"\xff", "a"] * 2
        assert rows["a"].to_pylist() == [r"\xff", "a", "a", "b"]
        assert rows["r"].to_pylist() == [b"\xff", b""] * 2
    assert caplog.messages == [
        rf"column {name}: texts that are not UTF-8 are changed: the byte 0xFF is \xff"
        for name in ("a", "z")
    ]


# --- files


def test_files_come_in_the_order_of_their_partitions():
    names = ["part-10-x-c000", "part-9-x-c001", "part-9-x-c000", "part-00008-x-c000"]
    ordered = sorted((Path(f"{name}.parquet") for name in names), key=arrow._order)
    assert [path.stem for path in ordered] == [*reversed(names)]


KINDS: list[T.DataType] = [T.DateType(), T.TimestampType(), T.LongType()]


def test_dates_and_times_are_numbers_in_the_files():
    numbers = part(*(pa.array([0, None], kind) for kind in ("int32", "int64", "int64")))
    rows = arrow._with_times(numbers, KINDS)
    assert rows.schema == pa.schema(
        {"c0": pa.date32(), "c1": pa.timestamp("us", "UTC"), "c2": pa.int64()}
    )
    assert [column.null_count for column in rows.columns] == [1, 1, 1]


def test_files_are_read_in_parts_of_all_their_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "_ROWS", 2)
    for number, first in ((10, 6), (9, 0)):
        rows = pa.table({"c0": pa.array(range(first, first + 6), pa.int64())})
        pq.write_table(rows, tmp_path / f"part-{number}-x.parquet", row_group_size=3)
    (tmp_path / "_SUCCESS").touch()
    parts = list(arrow._read(tmp_path, [T.LongType()]))
    assert [part.num_rows for part in parts] == [2, 1] * 4
    found = [number for part in parts for number in part[0].to_pylist()]
    assert found == list(range(12))


# --- blobs


class Blobs:
    """Blobs of Spark's workers, as `_fetched` asks for them."""

    def __init__(self, monkeypatch, *blobs):
        self._blobs = dict(blobs)
        self._asked: tuple[int, int] = (0, 0)
        self.fetched: list[list[int]] = []
        column = SimpleNamespace(between=lambda *ends: ends)
        # Spark's own column would need a session
        monkeypatch.setattr(arrow, "F", SimpleNamespace(col=lambda name: column))

    def where(self, ends):
        self._asked = ends
        return self

    def coalesce(self, number):
        assert number == 1
        return self

    def select(self, *names):
        assert names == ("number", "blob")
        return self

    def toArrow(self):
        least, greatest = self._asked
        numbers = [each for each in self._blobs if least <= each <= greatest]
        self.fetched.append(numbers)
        blobs = pa.array([self._blobs[each] for each in numbers], pa.binary())
        return pa.table({"number": pa.array(numbers, pa.int64()), "blob": blobs})


def blob(*values):
    rows = part(pa.array(values, pa.int64()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


ONE, TWO, THREE = blob(1), blob(2, 3), blob(4)
SIZE = len(ONE)


def computed(*blobs):
    return [(number, len(raw), zlib.crc32(raw)) for number, raw in blobs]


def values(blobs, known):
    parts = arrow._fetched(blobs, known)
    return [number for part in parts for number in part[0].to_pylist()]


def test_blobs_are_fetched_in_parts_by_their_size(monkeypatch):
    monkeypatch.setattr(arrow, "_PART", SIZE + 1)
    given = ((0, ONE), (5, TWO), (9, THREE))
    blobs: Any = Blobs(monkeypatch, *given)
    assert values(blobs, computed(*given)) == [1, 2, 3, 4]
    assert blobs.fetched == [[0, 5], [9]]
    monkeypatch.setattr(arrow, "_PART", SIZE)
    blobs.fetched.clear()
    assert values(blobs, computed(*given)) == [1, 2, 3, 4]
    assert blobs.fetched[0] == [0]


def test_no_blobs_are_no_rows(monkeypatch):
    blobs: Any = Blobs(monkeypatch)
    assert values(blobs, []) == []
    assert blobs.fetched == []


LOST = {
    "another blob": ((0, TWO), (5, TWO)),
    "a missing blob": ((0, ONE),),
    "one too many": ((0, ONE), (3, THREE), (5, TWO)),
}


@pytest.mark.parametrize("what", LOST)
def test_rows_that_a_worker_has_lost_are_told(monkeypatch, what):
    blobs: Any = Blobs(monkeypatch, *LOST[what])
    with pytest.raises(KitError) as no:
        values(blobs, computed((0, ONE), (5, TWO)))
    assert type(no.value) is KitError
    assert str(no.value) == (
        "a worker lost rows of this batch on their way; start again, and the batch is"
        " replayed"
    )
