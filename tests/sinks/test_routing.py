"""`sinks.by_value`, part by part: which targets are open, what is noted, and what is refused."""

import json
from typing import Any

import pytest
from conftest import refusal
from support.checkpoint_files import commit, place, put, whole_checkpoint

from sparkstream_kit import sinks
from sparkstream_kit._internal.columns import column
from sparkstream_kit.errors import InvalidInputError
from sparkstream_kit.sinks import routing
from sparkstream_kit.sinks.base import (
    BatchSink,
    LedgerContext,
    Opening,
    Target,
    open_batch_sink,
)

FRAME: Any = "the frame"  # of a call that hands it on
NOTED = "sparkstream-kit/values/k"


class Sinks:
    """A function that gives each value a sink, which notes all that happens to it."""

    def __init__(self, **more):
        self.given = []
        self.opened = {}
        self.ended = []
        self.written = []
        self.more = {"modes": ("append",), "promise": "none", **more}
        self.targets = {}  # of values that have another target than one of their name

    def __call__(self, value):
        self.given.append(value)
        targets = self.targets.get(value, [Target("table", f"t_{value}")])

        def open_it(frame, location, opening):
            before = opening.ledgers.before
            self.opened[value] = (frame, location, opening, dict(before))
            opening.at_end.append(lambda: self.ended.append(value))

            def write(batch, number):
                rows = [tuple(row) for row in batch.collect()]
                self.written.append((value, number, dict(before), rows))

            return write

        return BatchSink(
            kind=f"sink_{value}", writes_to=tuple(targets), open=open_it, **self.more
        )


@pytest.fixture
def root(tmp_path):
    return whole_checkpoint(tmp_path, 0)


@pytest.fixture
def each():
    return Sinks()


def targets_in(root, sink_of, *, opening=None, **more):
    """Return the targets of a query by the values of `k`, as this driver has them."""
    how = {"column": "k", "mode": "append", "most": 3, "any_value": False, **more}
    targets = routing._Targets(  # noqa: SLF001
        sink_of=sink_of,
        location=place(root),
        opening=routing._opening_of_value(opening or Opening()),  # noqa: SLF001
        driver="this one",
        **how,
    )
    put(root / f"{NOTED}.driver", "this one")
    return targets


def noted(root):
    return json.loads((root / NOTED).read_text())


# ---- The sink


def test_the_sink_says_what_it_is():
    sink = sinks.by_value("k", lambda _: sinks.foreach_batch(print), mode="update")
    assert (sink.kind, sink.modes, sink.needs_checkpoint) == (
        "by_value(k)",
        ("update",),
        True,
    )
    assert sink.writes_to == (Target("targets by", "k"),)
    assert sink.advice == "give by_value(…, mode='update') if its sinks support it"
    assert sink.after_rewind.startswith("gives each sink its rows again; a sink with")


def test_an_argument_of_another_type_is_refused():
    said = refusal(sinks.by_value, 5, sinks.latest)
    assert said == "sinks.by_value(): column is 5; give a string"


@pytest.mark.parametrize("most", [0, -1])
def test_at_least_one_target_must_be_open(most):
    assert (
        refusal(sinks.by_value, "k", print, most=most)
        == f"by_value(): most is {most}; give 1 or more"
    )
    sinks.by_value("k", sinks.latest, most=1)


def test_the_whole_result_has_no_values_that_come_later():
    assert (
        refusal(sinks.by_value, "k", print, mode="complete")
        == "by_value(): mode is complete; give append or update"
    )


@pytest.fixture
def stream(spark, folder):
    """A stream of a column k that is not started."""
    return spark.readStream.text(str(folder)).selectExpr("value AS k")


def test_a_start_opens_the_last_targets_and_notes_its_driver(
    stream, folder, root, each
):
    commit(root, 4)
    put(root / NOTED, '[["a", 3, -1], ["b", 5, 3], ["c", 5, -1]]')
    opening = Opening()
    write: Any = open_batch_sink(
        sinks.by_value("k", each, most=7), stream, place(root), opening
    )
    assert each.given == ["b", "c"]
    assert opening.ledgers.folders == {"0": str(folder)}
    assert not (root / f"{NOTED}.driver").exists()
    assert each.ended == []
    opening.end()
    targets = write.__self__
    assert (root / f"{NOTED}.driver").read_text() == targets.driver
    assert targets.driver.startswith("process ")
    assert each.ended == ["b", "c"]
    assert (targets.column, targets.mode, targets.most) == ("k", "append", 7)
    assert targets.any_value is False
    assert targets.opening.at_end == []


def test_a_start_without_the_column_or_a_checkpoint_is_refused(stream, root):
    sink = sinks.by_value("kk", sinks.latest)
    said = refusal(open_batch_sink, sink, stream, place(root))
    assert said.startswith("by_value(): there is no column kk; did you mean k?")
    assert (
        refusal(open_batch_sink, sinks.by_value("k", sinks.latest), stream, None)
        == "by_value() notes values in the checkpoint; give start(…,"
        " checkpoint='folder')"
    )


def test_the_openings_of_values_share_all_but_their_end_and_their_batches():
    opening = Opening(
        makes=False,
        ledgers=LedgerContext(before={3: 1}, folders={"0": "/in"}),
        at_end=[lambda: None],
    )
    of_value = routing._opening_of_value(opening)  # noqa: SLF001
    assert (of_value.makes, of_value.at_end, of_value.ledgers.before) == (False, [], {})
    assert of_value.targets is opening.targets
    assert of_value.ledgers.plans is opening.ledgers.plans
    assert of_value.ledgers.folders == {"0": "/in"}
    assert (len(opening.at_end), opening.ledgers.before) == (1, {3: 1})


# ---- What the checkpoint notes


@pytest.mark.parametrize(
    ("name", "file"),
    [("k", "k"), ("a b", "a%20b"), ("../k", "..%2Fk"), ("Ü", "%C3%9C")],
)
def test_the_file_of_a_column_has_its_name_and_leads_nowhere_else(
    root, each, name, file
):
    targets = targets_in(root, each, column=name)
    assert targets.file == f"sparkstream-kit/values/{file}"


@pytest.mark.parametrize(
    ("committed", "kept", "opened"),
    [
        (None, ["a"], ["a"]),
        (0, ["a", "b"], ["b"]),
        (1, ["a", "b", "c", "d"], ["c", "d"]),
        (9, ["a", "b", "c", "d"], ["c", "d"]),
    ],
    ids=["nothing is committed", "rewound", "a batch is next", "all is committed"],
)
def test_a_start_knows_the_values_up_to_the_next_batch_and_opens_the_last_ones(
    root, each, committed, kept, opened
):
    put(root / NOTED, '[["a", 0, -1], ["b", 1, 0], ["c", 2, -1], ["d", 2, 0]]')
    if committed is not None:
        commit(root, committed)
    targets = targets_in(root, each)
    targets.batches = {"from before": routing._Batches(0, -1)}  # noqa: SLF001
    opening = Opening()
    targets.open_last(FRAME, opening)
    assert (list(targets.batches), each.given) == (kept, opened)
    assert each.ended == []
    opening.end()
    assert each.ended == opened
    assert targets.batches["a"] == (0, -1)


def test_a_first_start_opens_no_target(root, each):
    targets = targets_in(root, each)
    targets.open_last(FRAME, Opening())
    assert (targets.batches, each.given) == ({}, [])


def test_a_note_is_in_the_order_of_use_and_drops_the_oldest_which_are_closed(
    root, each
):
    targets = targets_in(root, each, most=2)
    targets.note(["a", None], 0)
    assert noted(root) == [["a", 0, -1], [None, 0, -1]]
    for value in ("a", None):
        targets.open(value, FRAME, Opening())
    targets.note(["a"], 1)
    assert noted(root) == [[None, 0, -1], ["a", 1, 0]]
    targets.note(["b"], 2)
    assert noted(root) == [["a", 1, 0], ["b", 2, -1]]
    assert list(targets.open_targets) == ["a"]
    targets.note(["a"], 2)  # the batch comes again
    targets.note(["a"], 2)
    assert noted(root) == [["b", 2, -1], ["a", 2, 1]]
    targets.note(["b"], 1)  # after a rewind
    assert noted(root) == [["a", 2, 1], ["b", 1, -1]]
    targets.note(["c", "d"], 3)
    assert noted(root) == [["c", 3, -1], ["d", 3, -1]]
    assert list(targets.open_targets) == []


# ---- A target opens


def test_a_target_opens_with_the_batch_that_it_got_last(root, each):
    targets = targets_in(root, each)
    targets.batches = {"a": routing._Batches(5, 3)}  # noqa: SLF001
    allowed: list[sinks.Sink] = []
    start = Opening(
        makes=False,
        allows=allowed.append,
        ledgers=LedgerContext(former=("table s",), before={9: 9}),
    )
    opening = targets.open("a", FRAME, start)
    frame, location, given, before = each.opened["a"]
    assert (frame, location.text, given) == (FRAME, str(root), opening)
    assert (before, opening.ledgers.former) == ({5: 3, 6: 5}, ())
    assert opening.makes is False
    assert [sink.kind for sink in allowed] == ["sink_a"]
    assert targets.open_targets["a"].before is opening.ledgers.before
    assert (each.ended, start.ledgers.former) == ([], ("table s",))


def test_a_target_that_the_query_must_not_write_to_is_not_opened(root, each):
    def refuse(sink):
        raise InvalidInputError(f"{sink.kind} writes to the input")

    targets = targets_in(root, each)
    targets.batches = {"a": routing._Batches(0, -1)}  # noqa: SLF001
    said = refusal(targets.open, "a", FRAME, Opening(allows=refuse))
    assert said == "sink_a writes to the input"
    assert (each.opened, targets.open_targets) == ({}, {})


def test_two_values_with_one_target_are_refused(root, each):
    table = [Target("table", "T", known_as="t")]
    each.targets = {"a": table, "b": [Target("table", "other"), *table]}
    targets = targets_in(root, each)
    targets.note(["a", "b"], 0)
    opening = Opening()
    targets.open("a", FRAME, opening)
    targets.open("a", FRAME, opening)  # it was closed meanwhile
    assert (
        refusal(targets.open, "b", FRAME, opening)
        == "by_value(): k b and k a have the same target, table T; give each a target"
        " of its own, or give both one value in the column"
    )
    assert list(each.opened) == ["a"]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (
            "a",
            "by_value(): the function returned the string 'a' for k x; return a sink",
        ),
        (None, "by_value(): the function returned None for k x; return a sink"),
        (sinks.console(), "by_value() takes sinks that work batch by batch (such as"),
        (
            Sinks(modes=("update", "complete"))("y"),
            (
                "by_value(): sink sink_y of k x supports update and complete, not"
                " append; give by_value(…, mode='update'), or another sink"
            ),
        ),
    ],
    ids=["a text", "nothing", "a sink of Spark's", "a sink of other modes"],
)
def test_a_function_that_gives_no_sink_for_a_value_is_refused(root, returned, said):
    targets = targets_in(root, lambda _: returned)
    assert refusal(targets._sink, "x").startswith(said)  # noqa: SLF001


def test_the_function_gets_the_value_and_its_sink_is_taken_as_it_is(root, each):
    sink = targets_in(root, each)._sink(None)  # noqa: SLF001
    assert (sink.kind, each.given) == ("sink_None", [None])


SCHEMAS = [
    ("a.b", "a", True),
    ("a.b", "main.a", True),
    ("a.b.c", "a.b", True),
    ("a.b", "", False),
    ("a.b", "main", False),
    ("ab", "", False),
    ("ab", "main", False),
]


@pytest.mark.parametrize(("value", "within", "leads"), SCHEMAS)
def test_a_dot_in_a_value_may_lead_to_another_schema(root, each, value, within, leads):
    target = Target("table", "b", within=within)
    assert routing._leads_to_other_schema(value, target) is leads  # noqa: SLF001
    check = targets_in(root, each)._check_target  # noqa: SLF001
    if not leads:
        check(target, value, Opening())
        return
    assert refusal(check, target, value, Opening()) == (
        f"by_value(): the dot in k {value} would lead to the schema {within}; replace it"
        " in the name of the table: value.replace('.', '_')"
    )


def test_a_dot_is_left_to_a_function_that_takes_any_value(root, each):
    target = Target("table", "b", within="a")
    targets = targets_in(root, each, any_value=True)
    targets._check_target(target, "a.b", Opening())  # noqa: SLF001
    targets_in(root, each)._check_target(target, None, Opening())  # noqa: SLF001


# ---- The values of a batch


@pytest.mark.parametrize(
    "value", ["a", "7", "É", "x" * 128, "a b.c_d+e@f-g", "a..b"], ids=lambda v: v[:9]
)
def test_a_plain_name_is_given_to_the_function(root, each, value):
    targets_in(root, each).check_values([value], 7)


@pytest.mark.parametrize(
    "value",
    [None, "", "_a", ".a", " a", "-a", "+a", "a/b", "a\\b", "a\nb", "a\n", "x" * 129],
    ids=lambda value: repr(value)[:9],
)
def test_a_value_that_is_no_plain_name_is_refused_unless_any_value_will_do(
    root, each, value
):
    assert refusal(targets_in(root, each).check_values, ["a", value], 7) == (
        f"by_value(): batch 7 has k {value!r}, which is no plain name; replace it in the"
        " query, or give any_value=True and let the function make a name of it"
    )
    targets_in(root, each, any_value=True).check_values(["a", value], 7)


@pytest.mark.parametrize("any_value", [True, False])
def test_more_values_than_targets_may_be_open_are_refused(root, each, any_value):
    targets = targets_in(root, each, most=2, any_value=any_value)
    targets.check_values(["a", "b"], 7)
    assert (
        refusal(targets.check_values, ["a", "b", "c"], 7)
        == "by_value(): batch 7 has more than 2 values of k, each with a target of its"
        " own; give most=…, or a column with fewer values"
    )


@pytest.mark.parametrize(
    ("most", "values"), [(2, ["1", "2", "3"]), (9, ["1", "2", "3", "9"])]
)
def test_the_values_of_a_batch_are_listed_in_order_and_one_more_than_may_be(
    spark, root, each, most, values
):
    rows = spark.sql("SELECT * FROM VALUES (3), (9), (1), (2), (1) AS t(k)").coalesce(1)
    targets = targets_in(root, each, most=most)
    text = column("k").cast("string")
    found = targets._values(rows, text)  # noqa: SLF001
    assert found == values


# ---- The driver


def test_the_driver_of_the_last_start_goes_on(root, each):
    targets_in(root, each).check_driver()


def test_another_driver_that_has_started_ends_this_one(root, each):
    targets = targets_in(root, each)
    put(root / f"{NOTED}.driver", "the newer one")
    assert (
        refusal(targets.check_driver)
        == "another driver has started to write to the targets by k (the newer one);"
        " this one ends"
    )


# ---- A batch is written


@pytest.fixture
def rows(spark):
    values = "('b', 1), ('a', 2), (NULL, 3), ('b', 4)"
    return spark.sql(f"SELECT * FROM VALUES {values} AS t(k, n)").coalesce(1)  # noqa: S608


def test_each_value_gets_its_rows_in_the_order_of_values(rows, root, each):
    targets = targets_in(root, each, any_value=True)
    targets.batches = {"b": routing._Batches(5, 3)}  # noqa: SLF001
    targets.write(rows, 7)
    assert each.written == [
        (None, 7, {7: -1}, [(None, 3)]),
        ("a", 7, {7: -1}, [("a", 2)]),
        ("b", 7, {7: 5}, [("b", 1), ("b", 4)]),
    ]
    assert each.ended == [None, "a", "b"]
    assert noted(root) == [[None, 7, -1], ["a", 7, -1], ["b", 7, 5]]
    assert not rows.is_cached


def test_an_open_target_is_not_opened_again_and_knows_its_batches(rows, root, each):
    targets = targets_in(root, each)
    only_a = rows.where("k = 'a'")
    for number in (0, 4):
        targets.write(only_a, number)
    assert each.given == ["a"]
    assert [before for _, _, before, _ in each.written] == [{0: -1}, {4: 0}]


def test_a_batch_that_is_refused_opens_and_notes_nothing(rows, root, each):
    said = refusal(targets_in(root, each, most=1).write, rows, 7)
    assert said.startswith("by_value(): batch 7 has more than 1 values of k, each with")
    assert (each.given, (root / NOTED).exists()) == ([], False)


def test_another_driver_that_started_before_a_batch_ends_this_one_and_its_note_stays(
    rows, root, each
):
    targets = targets_in(root, each, any_value=True)
    put(root / f"{NOTED}.driver", "the newer one")
    assert refusal(targets.write, rows, 7).endswith("(the newer one); this one ends")
    assert (each.given, (root / NOTED).exists()) == ([], False)


def test_another_driver_that_starts_while_targets_are_opened_ends_this_one(
    rows, root, each
):
    def start_again(value):
        put(root / f"{NOTED}.driver", "the newer one")
        return each(value)

    targets = targets_in(root, start_again, any_value=True)
    assert refusal(targets.write, rows, 7).endswith("(the newer one); this one ends")
    assert each.written == []


def test_a_batch_is_computed_once_for_all_its_values(rows, root):
    cached = []
    sink = sinks.foreach_batch(lambda *_: cached.append(rows.is_cached))
    targets_in(root, lambda _: sink, any_value=True).write(rows, 0)
    assert cached == [True] * 3
