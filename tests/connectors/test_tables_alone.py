"""`connectors._tables` without Spark: entries, the rules of table formats, and retries."""

# ruff: noqa: SLF001 - the steps of the module are its own
import json
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refusal
from pyspark.sql import types as T
from support.sink_streams import table_target

from sparkstream_kit.connectors import _tables
from sparkstream_kit.connectors._tables import (
    DELTA,
    ICEBERG,
    ConflictError,
    Entries,
    _TableLedger,
)
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks.ledger import Batch, Epoch

SCHEMA = T.StructType().add("k", "string").add("n", "integer")
TARGET = table_target()
TAKES_OVER = table_target(take_over=True)
SPARK: Any = "spark"


# --- a ledger of entries


class Held(Entries):
    """A ledger in memory."""

    def __init__(self, how="append", *, take_over: bool | None = False, **entries):
        super().__init__("table t", how, take_over)
        self._entries = entries

    def entries(self):
        return self._entries

    def has_rows(self):
        return False

    def set_back_command(self, query_id, batch_id):
        return f"set {query_id} back to {batch_id}"


def test_an_entry_is_found_by_its_query():
    held = Held(q={"batch": 3, "plan": "p", "epoch": 2, "driver": "D"}, None_={})
    assert held.of("q") == {"batch": 3, "plan": "p", "epoch": 2, "driver": "D"}
    assert (held.last_batch("q"), held.last_plan("q")) == (3, "p")
    assert held.epoch("q") == Epoch(2, "D")
    for query in ("another", None):
        assert held.of(query) == {}
        assert held.last_batch(query) is None
    assert held.last_plan("another") is None


@pytest.mark.parametrize("entry", [{}, {"epoch": None}, {"epoch": 0, "driver": "D"}])
def test_a_query_may_have_no_epoch(entry):
    assert Held(q=entry).epoch("q") is None
    assert Held().epoch("q") is None


def test_any_query_that_has_a_batch_is_found():
    assert Held().any_query() is None
    assert Held(q={}, r={"batch": None}).any_query() is None
    assert Held(q={"batch": None}, r={"batch": 5}).any_query() == ("r", 5)
    assert Held(q={"batch": 1}, r={"batch": 5}).any_query() == ("q", 1)
    assert Held(q={"batch": 0}).any_query() == ("q", 0)
    assert Held(q={"batch": -2}).any_query() == ("q", 0)


LOST = (
    "table t is gone, but this query has written its batches up to 0 to it; restore the"
    " table; or, to write all rows again, start with another checkpoint folder"
)


def test_a_target_that_is_lost_is_refused_with_the_ways_on():
    held = Held(q={"batch": 0})
    assert refusal(held.check_lost, "q") == (
        f"{LOST}; or, to go on without its rows, give take_over=True"
    )
    assert refusal(held.check_lost, "q", is_there=True) == (
        "table t is empty, but this query has written its batches up to 0 to it; restore"
        " the table; or, to write all rows again, remove the table and start with"
        " another checkpoint folder; or, to go on without its rows, give take_over=True"
    )
    assert refusal(Held(take_over=None, q={"batch": 0}).check_lost, "q") == LOST


@pytest.mark.parametrize(
    "held",
    [
        Held(),
        Held(q={"batch": None}),
        Held(q={"batch": -1}),
        Held("replace", q={"batch": 3}),
        Held(take_over=True, q={"batch": 3}),
    ],
    ids=["no entry", "no batch", "not whole", "each is whole", "taken over"],
)
def test_where_nothing_is_lost_the_target_is_made_again(held):
    held.check_lost("q")


def test_a_target_that_is_gone_is_told():
    error = _tables.gone_error("table t")
    assert type(error) is InvalidInputError
    assert str(error) == (
        "table t is gone, but this query is compared with its rows; restore it"
    )


# --- what is kept in a table


def test_a_batch_is_kept_as_json():
    assert json.loads(_tables.metadata(Batch("q", 3, "p"))) == {
        "query": "q",
        "batch": 3,
        "plan": "p",
    }


def test_every_value_may_be_null():
    inner = T.StructType([T.StructField("x", T.IntegerType(), False, {"m": 1})])
    array = T.ArrayType(inner, False)
    mapped = T.MapType(T.StringType(), array, False)
    schema = T.StructType([T.StructField("m", mapped, False), SCHEMA["k"]])
    loose = T.StructType([T.StructField("x", T.IntegerType(), True, {"m": 1})])
    of_loose = T.MapType(T.StringType(), T.ArrayType(loose, True), True)
    assert _tables.nullable(schema) == T.StructType(
        [T.StructField("m", of_loose, True), SCHEMA["k"]]
    )


def test_a_command_is_one_for_a_shell():
    assert _tables.command(_tables.take, "it's", 3) == (
        "run python -c 'from sparkstream_kit.connectors._tables import take;"
        """ take("it'"'"'s", 3)'"""
    )


# --- a table that a test plays


class Played:
    """A table in memory, whose commits a test can refuse."""

    format = DELTA

    def __init__(self, columns=SCHEMA, **properties):
        self.columns = columns
        self.noted = dict(properties)
        self.batches: dict[str, int] = {}
        self.texts: list[str | None] = []
        self.rows_there = False
        self.made: list[Any] = []
        self.added: list[Any] = []
        self.committed: list[Any] = []
        self.conflicts = 0

    def schema(self):
        return self.columns

    def properties(self):
        return dict(self.noted)

    def identity(self):
        return "its id"

    def last_batch(self, query):
        return self.batches.get(query)

    def history(self):
        return self.texts

    def has_rows(self):
        return self.rows_there

    def rows(self, spark):
        return f"rows in {spark}"

    def create(self, schema):
        self.made.append(schema)
        self.columns = schema

    def add_columns(self, columns):
        self.added += columns
        self.columns = T.StructType([*self.columns.fields, *columns])

    def note(self, properties):
        self.conflict()
        self.noted |= properties

    def gathered(self, frame, _target, _batch):
        return nullcontext(f"rows of {frame.schema.names}")

    def commit(self, rows, _target, batch):
        self.conflict()
        self.committed.append(rows)
        self.batches[batch.query] = batch.number

    def conflict(self):
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError("theirs")

    def set_back_command(self, query, batch):
        return f"set {query} back to {batch}"


def owned(*owners, **batches):
    """Return a table of these queries."""
    played: Any = Played(**{"sparkstream.queries": " ".join(owners)})
    played.batches = batches
    return played


def ledger(played, me="q", target=TARGET):
    return _TableLedger(target, played, me)


def test_the_owners_of_a_table_are_in_its_properties():
    assert ledger(owned("q", "r")).owners == ["q", "r"]
    assert ledger(Played()).owners == []
    nothing: Any = Played(None, **{"sparkstream.queries": "q"})
    assert ledger(nothing).properties == {}


def test_an_epoch_is_a_number_and_a_driver():
    played: Any = Played(**{"sparkstream.epoch.q": "3 process 7 on host"})
    assert ledger(played).epoch("q") == Epoch(3, "process 7 on host")
    assert ledger(played).epoch("r") is None


def test_the_last_batch_is_that_of_an_owner():
    played = owned("q", q=3, r=5)
    assert ledger(played).last_batch("q") == 3
    assert ledger(played).last_batch("r") is None
    assert ledger(played).last_batch(None) is None


def noted(query, batch, plan):
    return json.dumps({"query": query, "batch": batch, "plan": plan})


PLANS = {
    "none": ([], None),
    "of others": ([None, "no JSON", "5", "[]", '{"query": "q"}'], None),
    "behind those of others": ([None, "no JSON", "{}", noted("q", 3, "p")], "p"),
    "of another batch": ([noted("q", 4, "x"), noted("q", 2, "y")], None),
    "of another query": ([noted("r", 3, "x"), noted("q", 3, "p")], "p"),
    "the newest": ([noted("q", 3, "p"), noted("q", 3, "x")], "p"),
    "not known": ([noted("q", 3, None), noted("q", 3, "x")], None),
    "a number": ([noted("q", 3, 7)], "7"),
}


@pytest.mark.parametrize("what", PLANS)
def test_the_last_plan_is_that_of_the_last_batch(what):
    texts, plan = PLANS[what]
    played = owned("q", q=3)
    played.texts = texts
    assert ledger(played).last_plan("q") == plan


def test_another_query_is_one_that_has_written():
    assert ledger(owned("q", "r", r=3)).any_query() is None
    assert ledger(owned("r", "s", s=3)).any_query() == ("s", 3)
    assert ledger(owned("r")).any_query() is None


def test_rows_are_those_of_nobody_for_a_query_that_is_no_owner():
    played = owned("q")
    played.rows_there = True
    assert ledger(played).has_rows() is False
    assert ledger(played, "r").has_rows() is True
    assert ledger(owned("q"), "r").has_rows() is False


def test_the_way_back_is_that_of_the_table():
    assert ledger(Played()).set_back_command("q", 3) == "set q back to 3"


# --- a start


def test_a_missing_table_is_made():
    played: Any = Played(None)
    assert _tables.prepare(TARGET, played, SCHEMA, None) is None
    assert played.made == [SCHEMA]


def test_a_look_makes_no_table_and_no_column():
    played: Any = Played(None)
    assert _tables.prepare(TARGET, played, SCHEMA, None, None, False) is None
    assert played.made == []
    less: Any = Played(T.StructType().add("k", "string"))
    merges = replace(TARGET, merge_schema=True)
    assert _tables.prepare(merges, less, SCHEMA, None, None, False) is None
    assert less.added == []


@pytest.mark.parametrize("makes", [True, False], ids=["start", "look"])
def test_a_gap_is_refused_before_a_table_is_made(makes):
    played: Any = Played(None)
    given = (TARGET, played, SCHEMA, "q", Batch("q", 3), makes)
    said = refusal(_tables.prepare, *given)
    assert said.startswith("batch 3 is next, but table t holds none of this query's")
    assert played.made == []


def test_a_column_that_the_format_does_not_have_is_refused_before_a_table_is_made():
    played: Any = Played(None)
    schema = T.StructType().add("a b", "long")
    said = refusal(_tables.prepare, TARGET, played, schema, None)
    assert said.startswith("column a b: Delta allows no ' ' in a name; rename it")
    assert played.made == []


def test_a_table_that_goes_away_at_once_is_told():
    played: Any = Played(None)
    played.create = played.made.append
    assert refusal(_tables.prepare, TARGET, played, SCHEMA, None) == (
        "table t was removed while a query started to write to it"
    )


def test_a_table_of_another_query_is_refused():
    said = refusal(_tables.prepare, TARGET, owned("r", r=3), SCHEMA, "q")
    assert said.startswith(
        "table t was written by another query (r, up to its batch 3)"
    )
    assert _tables.prepare(TAKES_OVER, owned("r", r=3), SCHEMA, "q") is None


@pytest.mark.parametrize("how", ["upsert", "replace"])
def test_a_table_that_takes_appends_alone_is_refused_for_changes(how):
    played: Any = Played(**{"delta.appendOnly": "true"})
    target = replace(TARGET, how=how)
    assert refusal(_tables.prepare, target, played, SCHEMA, None) == (
        f"table t takes appends alone (delta.appendOnly), and how='{how}' changes rows;"
        " write to another table, or set that property of the table to false"
    )
    played.noted["delta.appendOnly"] = "false"
    assert _tables.prepare(target, played, SCHEMA, None) is None


def test_a_table_that_takes_appends_alone_takes_appends():
    played: Any = Played(**{"delta.appendOnly": "true"})
    assert _tables.prepare(TARGET, played, SCHEMA, None) is None


def test_missing_columns_are_added_if_so_asked():
    played: Any = Played(T.StructType().add("k", "string"))
    _tables.prepare(replace(TARGET, merge_schema=True), played, SCHEMA, None)
    assert played.added == [SCHEMA["n"]]
    _tables.prepare(replace(TARGET, merge_schema=True), played, SCHEMA, None)
    assert played.added == [SCHEMA["n"]]


def test_the_plan_of_the_next_batch_is_returned_if_it_is_there():
    played = owned("q", q=3)
    played.texts = [noted("q", 3, "p")]
    given = (TARGET, played, SCHEMA, "q")
    assert _tables.prepare(*given, Batch("q", 3)) == "p"
    assert _tables.prepare(*given, Batch("q", 4)) is None
    assert _tables.prepare(*given) is None


def test_a_start_takes_the_next_epoch():
    played: Any = Played()
    for number, driver in enumerate(("first one", "second"), 1):
        _tables.take(TARGET, played, "q", driver)
        assert played.noted == {"sparkstream.epoch.q": f"{number} {driver}"}


# --- a batch


def is_written(played, number, query="q", target=TARGET, **more):
    batch = Batch(query, number, **{"driver": "D"} | more)
    return _tables.is_written(target, played, SCHEMA, batch)


def test_a_first_batch_makes_the_table_and_its_query_the_owner():
    played: Any = Played(None)
    assert is_written(played, 0) is False
    assert played.made == [SCHEMA]
    assert played.noted == {"sparkstream.queries": "q", "sparkstream.epoch.q": "1 D"}


def test_a_first_batch_keeps_the_epoch_that_a_start_has_taken():
    played: Any = Played(**{"sparkstream.epoch.q": "4 D"})
    assert is_written(played, 0) is False
    assert played.noted["sparkstream.epoch.q"] == "4 D"


@pytest.mark.parametrize(("how", "owners"), [("append", "r q"), ("replace", "q")])
def test_a_query_that_takes_over_is_an_owner(how, owners):
    played = owned("r", r=3)
    assert is_written(played, 0, target=replace(TAKES_OVER, how=how)) is False
    assert played.noted["sparkstream.queries"] == owners


def test_a_first_batch_that_may_not_be_written_makes_nothing():
    played: Any = Played(None)
    said = refusal(is_written, played, 3)
    assert said.startswith("batch 3 is next, but table t holds none")
    assert played.made == []
    assert played.noted == {}


def test_a_driver_that_was_quicker_is_found_at_the_second_look(monkeypatch):
    played: Any = Played()

    def prepare(*_):
        _tables.take(TARGET, played, "q", "E")

    monkeypatch.setattr(_tables, "prepare", prepare)
    said = refusal(is_written, played, 0)
    assert said == (
        "another driver has started to write to table t (epoch 1, E); this one ends"
    )
    assert "sparkstream.queries" not in played.noted


def test_a_batch_that_was_written_meanwhile_is_known(monkeypatch):
    played = owned("r")

    def prepare(*_):
        played.noted["sparkstream.queries"] = "q"
        played.batches["q"] = 0

    monkeypatch.setattr(_tables, "prepare", prepare)
    assert is_written(played, 0) is True


def test_a_batch_of_an_owner_is_written_once():
    played = owned("q", q=3)
    assert is_written(played, 3) is True
    assert is_written(played, 4) is False
    assert "is replayed, but table t has all batches up to 3" in refusal(
        is_written, played, 2
    )
    assert played.noted == {"sparkstream.queries": "q"}


def test_columns_that_go_away_while_a_query_runs_are_added_or_told():
    played = owned("q", q=3)
    played.columns = T.StructType().add("k", "string")
    assert refusal(is_written, played, 4) == (
        "table t has no column n; give merge_schema=True to add it, or leave it out"
    )
    assert is_written(played, 4, target=replace(TARGET, merge_schema=True)) is False
    assert played.added == [SCHEMA["n"]]
    assert is_written(played, 3) is True


def test_a_table_that_is_gone_while_a_query_runs_is_left_to_its_writer():
    played = owned("q", q=3)
    looks = [SCHEMA, None]
    played.schema = lambda: looks[0]
    assert is_written(played, 4) is False


# --- the target


FRAME: Any = SimpleNamespace(schema=SCHEMA, sparkSession=SPARK)


@pytest.fixture
def passed(monkeypatch):
    """The batches that were read and discarded."""
    skipped: list[Any] = []
    monkeypatch.setattr(_tables, "pass_over", lambda *given: skipped.append(given))
    return skipped


def opening(played, target=TARGET):
    """Return a target that opens a table, and where that is counted."""
    opened: list[Any] = []

    def open_table(spark):
        opened.append(spark)
        return played

    return replace(target, open_table=open_table), opened


def test_a_target_is_prepared_with_the_table_of_the_session():
    target, opened = opening(Played(None))
    assert target.prepare(FRAME, "q", None, False) is None
    assert opened == [SPARK]
    target, _ = opening(owned("q", q=3))
    assert refusal(target.prepare, FRAME, "q", Batch("q", 5), True)


def test_a_start_that_meets_another_takes_its_epoch_later():
    played: Any = Played()
    played.conflicts = 2
    target, opened = opening(played)
    target.take("q", "D", FRAME)
    assert played.noted == {"sparkstream.epoch.q": "1 D"}
    assert opened == [SPARK] * 3


def test_a_batch_is_written_and_then_passed_over(passed):
    played: Any = Played()
    target, opened = opening(played)
    target.write(Batch("q", 0, driver="D"), FRAME)
    assert played.committed == ["rows of ['k', 'n']"]
    assert passed == []
    target.write(Batch("q", 0, driver="D"), FRAME)
    assert len(played.committed) == 1
    assert passed == [(FRAME, Batch("q", 0, driver="D"), target.where)]
    assert opened == [SPARK]


@pytest.mark.parametrize("conflicts", [1, 3])
def test_a_commit_that_met_another_is_made_again_after_a_look(passed, conflicts):
    played = owned("q", q=3)
    target, _ = opening(played)
    played.conflicts = conflicts
    target.write(Batch("q", 4, driver="D"), FRAME)
    assert played.committed == ["rows of ['k', 'n']"]
    assert played.conflicts == 0


def test_a_commit_that_the_table_has_meanwhile_is_not_made_again(passed):
    played = owned("q", q=3)
    target, _ = opening(played)

    def commit(*_):
        played.batches["q"] = 4
        raise ConflictError("ours, by another driver")

    played.commit = commit
    target.write(Batch("q", 4, driver="D"), FRAME)
    assert played.committed == []


def test_a_target_is_identified_by_its_table():
    target, _ = opening(Played())
    assert target.identity(SPARK) == "its id"
    target, _ = opening(Played(None))
    assert target.identity(SPARK) == "table t"


def test_rows_are_read_back_from_a_table_that_is_there():
    target, _ = opening(Played())
    assert target.rows(SPARK, SCHEMA) == "rows in spark"
    target, _ = opening(Played(None))
    assert refusal(target.rows, SPARK) == (
        "table t is gone, but this query is compared with its rows; restore it"
    )


@pytest.mark.parametrize("failures", [0, 1, 19])
def test_a_change_is_tried_again(failures):
    left = [*range(failures)]

    def change():
        if left:
            left.pop()
            raise ConflictError("theirs")
        return "done"

    assert _tables.tried(change) == "done"
    assert left == []


def test_a_change_is_not_tried_for_ever():
    tries = []

    def change():
        tries.append(1)
        raise ConflictError("theirs")

    with pytest.raises(ConflictError):
        _tables.tried(change)
    assert len(tries) == 20


def test_another_error_is_no_reason_to_try_again():
    tries = []

    def change():
        tries.append(1)
        raise InvalidInputError("no")

    refusal(_tables.tried, change)
    assert len(tries) == 1


# --- columns


def of(**kinds):
    schema = T.StructType()
    for name, kind in kinds.items():
        schema.add(name, kind)
    return schema


@pytest.mark.parametrize("char", " ,;{}()\t=")
def test_names_that_delta_does_not_allow_are_refused(char):
    schema = of(k="string").add(f"a{char}b)", "long")
    assert refusal(_tables._check_schema, TARGET, DELTA, schema) == (
        f"column a{char}b): Delta allows no {char!r} in a name; rename it, as in"
        " F.count('*').alias('orders')"
    )
    _tables._check_schema(TARGET, ICEBERG, schema)


def test_a_key_is_a_column():
    target = replace(TARGET, how="upsert", keys=("k", "m"))
    said = refusal(_tables._check_schema, target, DELTA, SCHEMA)
    assert said.startswith("unknown key m; ")
    _tables._check_schema(replace(target, keys=("k",)), DELTA, SCHEMA)


INTERVAL = T.DayTimeIntervalType()


@pytest.mark.parametrize(
    ("form", "kind", "shown"),
    [
        (DELTA, INTERVAL, "interval day to second"),
        (DELTA, T.ArrayType(INTERVAL), "interval day to second"),
        (ICEBERG, T.ShortType(), "smallint"),
        (ICEBERG, T.MapType(T.StringType(), T.VariantType()), "variant"),
    ],
    ids=["delta", "delta within", "iceberg", "iceberg within"],
)
def test_types_that_a_format_does_not_have_are_refused(form, kind, shown):
    schema = of(k=T.StringType(), v=kind)
    assert refusal(_tables._check_schema, TARGET, form, schema) == (
        f"column v has the type {shown}, which {form.name} cannot hold; cast it, or leave"
        " it out"
    )


def test_other_types_are_taken():
    every = of(
        a=T.ShortType(), b=T.ByteType(), c=T.VariantType(), d=T.ArrayType(SCHEMA)
    )
    _tables._check_schema(TARGET, DELTA, every)


@pytest.mark.parametrize(
    "schema",
    [of(a="string", Total="long", total="long"), of(s=of(Total="long", total="long"))],
    ids=["columns", "fields"],
)
def test_names_that_differ_only_in_their_case_are_refused(schema):
    assert refusal(_tables._check_schema, TARGET, ICEBERG, schema) == (
        "Iceberg cannot tell the names Total and total apart; rename one of them"
    )


def test_the_same_name_in_two_structs_is_two():
    _tables._check_schema(TARGET, ICEBERG, of(a=of(A="long"), b=of(a="long")))


EXISTING = T.StructType(
    [
        T.StructField("k", T.StringType()),
        T.StructField("n", T.IntegerType()),
        T.StructField("Key", T.StringType()),
        T.StructField("key", T.LongType()),
    ]
)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (of(k="string", N="integer"), "column N is called n in table t; rename it"),
        (
            of(k="long"),
            (
                "column k is bigint, and string in table t; cast it, or write to another"
                " table"
            ),
        ),
        (
            of(a="string", k="string", b="long"),
            (
                "table t has no column a, b; give merge_schema=True to add it, or leave it"
                " out"
            ),
        ),
    ],
    ids=["case", "type", "missing"],
)
def test_columns_that_do_not_fit_are_refused(schema, said):
    assert refusal(_tables._check_columns, TARGET, schema, EXISTING) == said


def test_columns_that_fit_are_taken_and_those_to_add_returned():
    merges = replace(TARGET, merge_schema=True)
    fits = of(Key="string", key="long", n="integer")
    assert _tables._check_columns(TARGET, fits, EXISTING) == []
    more = of(a="string", k="string", b="long")
    assert _tables._check_columns(merges, more, EXISTING) == [more["a"], more["b"]]


def test_a_column_that_must_have_a_value_is_in_the_query():
    existing = T.StructType(
        [
            T.StructField("k", T.StringType(), False),
            T.StructField("a", T.StringType(), False),
            T.StructField("made", T.StringType(), False, {"delta.identity.start": 1}),
            T.StructField(
                "day", T.DateType(), False, {"delta.generationExpression": "x"}
            ),
            T.StructField("n", T.IntegerType(), False, {"comment": "x"}),
            T.StructField("more", T.IntegerType()),
        ]
    )
    assert refusal(_tables._check_columns, TARGET, of(k="string"), existing) == (
        "table t requires a value of a, n in each row, and the query has no such column;"
        " add it to the query, or let the table have null there"
    )
    whole = of(k="string", a="string", n="integer")
    assert _tables._check_columns(TARGET, whole, existing) == []
