"""Fingerprints of plans as Spark prints them, and what differs between two, without Spark."""

import pytest

from sparkstream_kit.checkpoints.fingerprint import (
    _Fact,
    _facts,
    _first_difference,
    _lists,
    _needs_zone,
    _nodes,
    _of_plan,
    _of_state,
    _of_step,
    _shortened,
    differences,
    is_part,
    top_level,
)

READ = "StreamingRelation FileSource[/in], [k#1, n#2, t#3], name=<Unassigned>"
TIME = "precisetimestampconversion(t#3-T600000ms, TimestampType, LongType)"


def lines_of(plan, mode="append", zone="UTC"):
    """Return the lines of a plan's fingerprint after its format."""
    text = _of_plan(plan, mode, zone)
    if not text:
        return []
    form, *lines = text.split("\n")
    assert form == "facts 3"
    return lines


# name -> the plan, and the lines of its fingerprint
PLANS = {
    "no state": (f"~Project [upper(k#1) AS u#4]\n+- {READ}", []),
    "a watermark without state": (
        f"~EventTimeWatermark 6e16-bc, t#3: timestamp, 10 minutes\n+- {READ}",
        [],
    ),
    "by two keys": (
        f"~Aggregate [k#1, p#7], [k#1, p#7, sum(n#2) AS total#8L]\n+- {READ}",
        ["groups by: k#0, p#1", "computes: sum(n#2)"],
    ),
    "of all rows": (
        f"~Aggregate [sum(n#2) AS total#6L, count(1) AS rows#7L]\n+- {READ}",
        ["groups by: nothing", "computes: sum(n#0)", "computes: count(1)"],
    ),
    "of a table": (
        f"~Union false, false\n:- {READ}\n+- Aggregate [k#9], [k#9, count(1) AS c#8L]",
        [],
    ),
    "a key that is computed below a filter": (
        (
            "~Aggregate [u#4], [u#4, count(1) AS count#5L]\n"
            "+- ~Filter (u#4 > a)\n"
            "   +- ~Project [upper(k#1) AS u#4, lower(k#1) AS l#6, n#2]\n"
            f"      +- {READ}"
        ),
        ["groups by: u#0", "computes: count(1)", "computes: upper(k#1) AS u#0"],
    ),
    "a key of a table is computed anyhow": (
        "~Aggregate [u#4], [u#4, count(1) AS count#5L]\n+- Project [upper(k#1) AS u#4]",
        ["groups by: u#0", "computes: count(1)"],
    ),
    "a column that is only checked": (
        (
            "~Aggregate [k#4], [k#4, count(1) AS count#5L]\n"
            "+- ~Project [CASE WHEN RLIKE(k#1, x) THEN cast(raise_error(A, concat(column k: ,"
            " _metadata#6.file_path)) as string) ELSE k#1 END AS k#4, coalesce(n#2, 1) AS n#7]\n"
            f"   +- {READ}"
        ),
        ["groups by: k#0", "computes: count(1)"],
    ),
    "a column that is checked nowhere": (
        (
            "~Aggregate [k#4], [k#4, count(1) AS count#5L]\n"
            f"+- ~Project [coalesce(k#1, x) AS k#4]\n   +- {READ}"
        ),
        ["groups by: k#0", "computes: count(1)", "computes: coalesce(k#1, x) AS k#0"],
    ),
    "what is exploded": (
        (
            "~Aggregate [pos#4], [pos#4, count(1) AS count#5L]\n"
            f"+- ~Generate posexplode(k#1), false, [pos#4, col#6]\n   +- {READ}"
        ),
        [
            "groups by: pos#0",
            "computes: count(1)",
            "computes: posexplode(k#1) AS pos#0",
        ],
    ),
    "a rollup": (
        (
            "~Aggregate [k#7, id#8L], [k#7, id#8L, count(1) AS count#9L]\n"
            "+- ~Expand [[n#2, k#5, 0], [n#2, null, 1]], [n#2, k#7, id#8L]\n"
            f"   +- {READ}"
        ),
        [
            "groups by: k#0, id#1",
            "computes: count(1)",
            "computes: k#2, null AS k#0",
            "computes: 0, 1 AS id#1",
        ],
    ),
    "a watermark of two": (
        (
            "~Aggregate [t#3-T600000ms], [t#3-T600000ms, count(1) AS count#5L]\n"
            "+- ~EventTimeWatermark 6e16-bc, t#3: timestamp, 10 minutes\n"
            f"   +- {READ}"
        ),
        [
            "groups by: t#0",
            "computes: count(1)",
            "has a watermark of: 10 minutes on t#0",
        ],
    ),
    "no duplicates": (
        f"~Deduplicate [k#1, n#2]\n+- {READ}",
        ["drops duplicates by: k#0, n#1"],
    ),
    "no duplicates within the watermark": (
        f"~DeduplicateWithinWatermark [k#1]\n+- {READ}",
        ["drops duplicates within the watermark by: k#0"],
    ),
    "distinct rows": (
        f"~Distinct\n+- ~Project [k#1]\n   +- ~Project [n#2]\n      +- {READ}",
        ["runs Distinct by: k#0"],
    ),
    "a limit": (
        f"~GlobalLimit 3\n+- ~LocalLimit 3\n   +- {READ}",
        ["keeps no more rows than: 3"],
    ),
    "a processor": (
        (
            "~TransformWithStateInPySpark f(k#1, n#2)#6, 2, [k#7], Update, NoTime, false, 0\n"
            f":- ~Project [k#1, n#2, n#2 AS c0#8]\n:  +- {READ}\n+- LocalRelation <empty>"
        ),
        ["runs TransformWithStateInPySpark by: k#0, n#1"],
    ),
    "a processor without the number of its keys": (
        f"~TransformWithStateInPandas f(k#1)#6, [k#7]\n+- ~Project [k#1, n#2]\n   +- {READ}",
        ["runs TransformWithStateInPandas by: k#0, n#1"],
    ),
    "a processor of one part": (
        f"~TransformWithState f(k#1)\n+- ~Project [k#1, n#2]\n   +- {READ}",
        ["runs TransformWithState by: k#0, n#1"],
    ),
    "a processor without a key": (
        (
            "~TransformWithStateInPySpark f(k#1)#6, 0, [k#7]\n"
            f"+- ~Project [K#1 AS c0#8]\n   +- {READ}"
        ),
        ["runs TransformWithStateInPySpark by: "],
    ),
    "a helper that keeps columns by position": (
        (
            "~TransformWithStateInPySpark f(c0#8)#6, 1, [k#7]\n"
            "+- ~Project [c0#8, c0#8, c1#9L]\n"
            f"   +- ~Project [K#1 AS c0#8, N#2L AS c1#9L]\n      +- {READ}"
        ),
        [
            "runs TransformWithStateInPySpark by: c0#0",
            "keeps the columns: k, n",
            "computes: K#1 AS c0#0",
        ],
    ),
    "once, which keeps no columns": (
        (
            "~TransformWithStateInPySpark f(group#8)#6, 1, [k#7]\n"
            f"+- ~Project [group#8, n#2]\n   +- ~Project [K#1 AS c0#9]\n      +- {READ}"
        ),
        ["runs TransformWithStateInPySpark by: group#0"],
    ),
    "a function with state": (
        (
            "~FlatMapGroupsInPandasWithState f(k#1, n#2)#5, [k#1], [k#7],"
            f" [StructField(c,LongType,true)], Append, NoTimeout\n+- {READ}"
        ),
        [
            (
                "runs FlatMapGroupsInPandasWithState by: [k#0] with the state"
                " [StructField(c,LongType,true)]"
            )
        ],
    ),
    "two streams joined": (
        f"~Join Inner, (k#1 = k#9)\n:- {READ}\n+- ~Project [k#9]\n   +- LocalRelation [x#10]",
        ["joins: Inner, (k#0 = k#1)"],
    ),
    "a table joined": (f"~Join Inner, (k#1 = k#9)\n:- {READ}\n+- LogicalRDD [k#9]", []),
    "a stream joined to a table": (
        f"~Join Inner, (k#1 = k#9)\n:- LogicalRDD [k#9]\n+- {READ}",
        [],
    ),
    "two streams joined beside a table": (
        (
            "~Union false, false\n"
            f":- ~Join Inner, (k#1 = k#9)\n:  :- {READ}\n:  +- ~Project [k#9]\n"
            "+- ~Join Cross\n"
            f"   :- LogicalRDD [k#11]\n   +- {READ}"
        ),
        ["joins: Inner, (k#0 = k#1)"],
    ),
    "lines that are parsed": (
        (
            "~Aggregate [k#4], [k#4, count(1) AS count#5L]\n"
            "+- ~SubqueryAlias sparkstream_csv\n"
            "   +- ~Project [from_csv(value#1) AS k#4]\n"
            f"      +- ~SubqueryAlias sparkstream_lines\n         +- {READ}"
        ),
        ["groups by: k#0", "computes: count(1)"],
    ),
    "a line break in a text": (
        f"~Deduplicate [k#1, concat(a\nb, n#2)]\n+- {READ}",
        [r"drops duplicates by: k#0, concat(a\nb, n#1)"],
    ),
    "one after another": (
        (
            "~Aggregate [u#4], [u#4, max(c#5L) AS m#6L]\n"
            "+- ~Project [upper(k#1) AS u#4, c#5L]\n"
            "   +- ~Aggregate [k#1], [k#1, count(1) AS c#5L]\n"
            f"      +- {READ}"
        ),
        [
            "groups by: u#0",
            "computes: max(c#1)",
            "computes: upper(k#2) AS u#0",
            "groups by: k#2",
            "computes: count(1)",
        ],
    ),
    "the same twice": (
        (
            "~Union false, false\n"
            f":- ~Deduplicate [k#1]\n:  +- {READ}\n+- ~Deduplicate [k#1]\n   +- {READ}"
        ),
        ["drops duplicates by: k#0"],
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_lines_of_a_plan(name):
    plan, lines = PLANS[name]
    assert lines_of(plan) == lines


@pytest.mark.parametrize("mode", ["update", "complete"])
def test_a_limit_keeps_no_state_in_other_modes(mode):
    assert lines_of(f"~GlobalLimit 3\n+- {READ}", mode) == []


OF_STATE = {
    "a sum by a key": (
        "~Aggregate [k#0], [k#0, sum(n#1) AS total#2L]",
        [("groups by", "k#0"), ("computes", "sum(n#1)")],
    ),
    "a sum of all rows": (
        "~Aggregate [sum(n#1) AS total#2L]",
        [("groups by", "nothing"), ("computes", "sum(n#1)")],
    ),
    "no duplicates": ("~Deduplicate [k#0]", [("drops duplicates by", "k#0")]),
    "no duplicates within the watermark": (
        "~DeduplicateWithinWatermark [k#0]",
        [("drops duplicates within the watermark by", "k#0")],
    ),
    "distinct rows": (
        "~Distinct\n+- ~Project [k#0, n#1]",
        [("runs Distinct by", "k#0, n#1")],
    ),
    "a processor": (
        "~TransformWithState f(k#0)#2, 1, [k#3]\n+- ~Project [k#0, n#1]",
        [("runs TransformWithState by", "k#0")],
    ),
    "a function with state": (
        "~FlatMapGroupsInPandasWithState f(k#0)#2, [k#0], [k#3], [state], Append",
        [("runs FlatMapGroupsInPandasWithState by", "[k#0] with the state [state]")],
    ),
    "two streams": (
        "~Join Inner, (k#0 = k#1)\n:- ~Project [k#0]\n+- StreamingRelation [k#1]",
        [("joins", "Inner, (k#0 = k#1)")],
    ),
    "a stream and a table": (
        "~Join Inner, (k#0 = k#1)\n:- ~Project [k#0]\n+- Project [k#1]",
        [],
    ),
    "a limit": ("~GlobalLimit 3", [("keeps no more rows than", "3")]),
}


@pytest.mark.parametrize("name", OF_STATE)
def test_what_an_operator_keeps(name):
    plan, kept = OF_STATE[name]
    node, *below = _nodes(plan)
    assert [fact[:2] for fact in _of_state(node, below, "append")] == kept


def test_a_plan_without_state_has_no_facts():
    assert _facts("~Project [upper(k#1) AS u#4]", "append") == []


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        (
            "~EventTimeWatermark 6e16-bc, at#1: timestamp, 10 minutes",
            [("has a watermark of", "10 minutes on at#1", None)],
        ),
        (
            "~Project [k#0, upper(k#0) AS u#2L, n#1 AS m#3-T600000ms]",
            [
                ("computes", "upper(k#0) AS u#2L", "2"),
                ("computes", "n#1 AS m#3-T600000ms", "3"),
            ],
        ),
        ("~Generate f(k#0), false, [u#2]", [("computes", "f(k#0) AS u#2", "2")]),
        ("~Generate f(k#0), false, [u]", []),
        (
            "~Expand [[n#1, 0], [n#1, 1]], [n#1, i#2]",
            [("computes", "0, 1 AS i#2", "2")],
        ),
        ("Project [upper(k#0) AS u#2]", []),
        ("~Filter (k#0 AS u#2)", []),
    ],
)
def test_what_a_step_defines(line, steps):
    [node] = _nodes(line)
    assert list(map(tuple, _of_step(node))) == steps


# What stands in a plan as the column `u`, and in the fingerprint
EXPRESSIONS = {
    "flags": ("f(k#1, true, 5, false)", "f(k#1, 5)"),
    "a flag alone": ("f(true)", "f()"),
    "a name like a flag": ("f(trues#1, x = true)", "f(trues#1, x = true)"),
    "a seed": ("rand(-2601866529857979187)", "rand()"),
    "a large number": ("f(k#1, 123456789012)", "f(k#1)"),
    "a number": ("f(k#1, 12345678901)", "f(k#1, 12345678901)"),
    "a seed of a sample": ("f(k#1, Some(-1234567890))", "f(k#1)"),
    "a small option": ("f(k#1, Some(123456789))", "f(k#1, Some(123456789))"),
    "another zone": ("f(k#1, Some(Asia/Tokyo))", "f(k#1, Some(Asia/Tokyo))"),
    "a collation": ("cast(k#1 as string collate UTF8_BINARY)", "cast(k#1 as string)"),
    "a lambda": (
        "transform(w#1, lambdafunction((lambda x_6#12 + 1), lambda x_6#12, false))",
        "transform(w#1, lambdafunction((lambda x#2 + 1), lambda x#2))",
    ),
    "fields of a lambda": (
        "f(lambdafunction(struct(y_6, lambda y_6#7), lambda y_6#7), y_61#1)",
        "f(lambdafunction(struct(y, lambda y#1), lambda y#1), y_61#2)",
    ),
    "a tumbling window": (
        (
            f"struct(start, ({TIME} - (({TIME} - 0) % 60000000)), end,"
            f" (({TIME} - 0) + 60000000), LongType))"
        ),
        "windows of 60 s every 60 s on t#1",
    ),
    "a sliding window that begins later": (
        (
            f"struct(start, ({TIME} - (({TIME} - 5000000) % 30000000)), end,"
            f" (({TIME} - 5000000) + 60500000), LongType))"
        ),
        "windows of 60.5 s every 30 s from 5 s on t#1",
    ),
    "a session": (
        f"struct(start, {TIME}, end, {TIME} + cast(5 minutes as interval))",
        "session windows with a gap of 5 minutes on t#1",
    ),
    "a month": (
        (
            "struct(start, timestamp_micros(CASE trunc(f("
            "from_utc_timestamp(t#3, Europe/Berlin)), month))"
        ),
        "the month in Europe/Berlin of t#1",
    ),
    "a day": (
        "struct(start, timestamp_micros(CASE from_utc_timestamp(t#3, Asia/Tokyo)))",
        "the day in Asia/Tokyo of t#1",
    ),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_is_the_same_in_any_session(name):
    printed, noted = EXPRESSIONS[name]
    plan = f"~Deduplicate [u#40]\n+- ~Project [{printed} AS u#40]\n   +- {READ}"
    computed = lines_of(plan)[1]
    assert computed.removesuffix(" AS u#0") == f"computes: {noted}"


@pytest.mark.parametrize(
    ("computed", "depends"),
    [
        ("hour(t#3, Some(Europe/Rome))", True),
        ("cast(t#3 as date)", True),
        ("hour(t#3, Some(Asia/Tokyo))", False),
        ("cast(t#3 as date_of_mine)", False),
    ],
)
def test_the_zone_of_the_session_is_noted_if_the_state_depends_on_it(computed, depends):
    plan = "~Deduplicate [u#4]\n+- ~Project [{} AS u#4, {} AS v#5]"
    zone = "computes dates and hours in the time zone: Europe/Rome"
    used = lines_of(plan.format(computed, "n#2"), zone="Europe/Rome")
    assert (used[-1] == zone) is depends
    assert len(used) == 2 + depends
    unused = lines_of(plan.format("n#2", computed), zone="Europe/Rome")
    assert unused == ["drops duplicates by: u#0", "computes: n#1 AS u#0"]


def test_a_cast_to_a_date_needs_the_zone():
    zone = "computes dates and hours in the time zone: Asia/Tokyo"
    plan = "~Deduplicate [cast(t#3 as date)]"
    noted = ["drops duplicates by: cast(t#0 as date)", zone]
    assert lines_of(plan, zone="Asia/Tokyo") == noted


def test_a_fact_shows_whether_it_needs_the_zone():
    def needs(*texts):
        return _needs_zone([_Fact("computes", text) for text in texts], "UTC")

    assert needs("n#1", "hour(t#2, Some(UTC))")
    assert needs("cast(t#2 as date)", "n#1")
    assert not needs("hour(t#2, Some(Asia/Tokyo))", "n#1")


def test_a_plan_is_a_tree_of_its_lines():
    plan = """~Union false, false
:- ~Join Inner, (f(a#1, b#2) = c#3)
:  :- ~Project [a#1]
:  :  +- LocalRelation <empty>
:  +- ~Filter (a#1 = x
+ y)
+- ~Distinct"""
    assert [tuple(node) for node in _nodes(plan)] == [
        (0, "~Union", ["false", "false"]),
        (1, "~Join", ["Inner", "(f(a#1, b#2) = c#3)"]),
        (2, "~Project", ["[a#1]"]),
        (3, "LocalRelation", ["<empty>"]),
        (2, "~Filter", [r"(a#1 = x\n+ y)"]),
        (1, "~Distinct", [""]),
    ]


def test_the_lists_of_a_plan_are_read_from_the_top_and_the_last_first():
    nodes = _nodes(
        "~Generate f(a#1), [b#2], [c#3, d#4]\n+- ~Project []\n   +- ~Limit 3"
    )
    assert _lists(nodes) == [["c#3", "d#4"], ["b#2"], []]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", [""]),
        ("a", ["a"]),
        (" a ,b,, c ", ["a", "b", "", "c"]),
        ("f(a, g(b, c)), d", ["f(a, g(b, c))", "d"]),
        ("[a, {b, (c, d)}, e], f", ["[a, {b, (c, d)}, e]", "f"]),
    ],
)
def test_a_text_is_split_at_its_outer_commas(text, parts):
    assert top_level(text) == parts


@pytest.mark.parametrize(
    "line",
    ["Aggregate [k#1], [k#1]", "~Project [k#1]", "~Filter (k#1 = a)", "~Joined a, b"],
)
def test_other_operators_keep_no_state(line):
    [node] = _nodes(line)
    assert list(_of_state(node, [], "append")) == []


# What differs


def facts(*lines):
    return "\n".join(["facts 3", *lines])


A, B = "groups by: a#0", "groups by: b#0"


@pytest.mark.parametrize(
    ("old", "new", "phrases"),
    [
        pytest.param([A], [A], [], id="nothing"),
        pytest.param(
            [A],
            [B],
            ["groups by b; the checkpoint's query groups by a"],
            id="the object of a verb",
        ),
        pytest.param(
            [A],
            [A, "joins: Inner, (a#0 = b#1)"],
            ["joins Inner, (a = b); the checkpoint's query does not"],
            id="a verb more",
        ),
        pytest.param(
            [A, "joins: Inner, (a#0 = b#1)"],
            [A],
            [
                "has no step that joins Inner, (a = b), as the checkpoint's query has",
            ],
            id="a verb less",
        ),
        pytest.param(
            [A, "computes: sum(b#1)", "computes: max(b#1)"],
            [B, "computes: sum(a#1)", "computes: min(a#1)"],
            [
                "groups by b; the checkpoint's query groups by a",
                "computes sum(a), min(a); the checkpoint's query computes sum(b), max(b)",
            ],
            id="two verbs",
        ),
        pytest.param(
            [A, "computes: sum(b#1)"],
            [A, "computes: sum(b#1)", "computes: sum(b#2)"],
            ["computes sum(b); the checkpoint's query does not"],
            id="the same once more",
        ),
        pytest.param(
            ["computes: sum(b#0)", "computes: max(b#0)"],
            ["computes: max(b#0)", "computes: sum(b#0)"],
            [
                (
                    "does the same steps in another order, or on other columns of the same"
                    " names"
                )
            ],
            id="another order",
        ),
        pytest.param(
            ["computes: f(a: b#0)"],
            ["computes: f(a: c#0)"],
            ["computes f(a: c); the checkpoint's query computes f(a: b)"],
            id="a colon in an object",
        ),
        pytest.param(
            ["joins: (a#0 + 2500000 microseconds)"],
            ["joins: (a#0 + 60000000 microseconds)"],
            ["joins (a + 1 minute); the checkpoint's query joins (a + 2.5 seconds)"],
            id="a length in microseconds",
        ),
        pytest.param(
            ["groups by: K#0"], ["groups by: k#0"], [], id="the case of a name"
        ),
        pytest.param(
            ["computes: sum(K#0) AS Sum#1"],
            ["computes: sum(k#0) AS sum#1"],
            [],
            id="the case of a name of Spark",
        ),
        pytest.param(
            ["computes: upper(a#0) AS b c#1"],
            ["computes: Upper(a#0) AS b c#1"],
            [
                "computes Upper(a) AS b c; the checkpoint's query computes upper(a) AS b c"
            ],
            id="the case of a function",
        ),
        pytest.param(
            ["computes: session windows with a gap of 5 minutes on t#0"],
            ["computes: session windows with a gap of 300 seconds on t#0"],
            [],
            id="the unit of a gap",
        ),
        pytest.param(
            ["computes: session windows with a gap of 1 months on t#0"],
            ["computes: session windows with a gap of 30 days on t#0"],
            [
                (
                    "computes session windows with a gap of 30 days on t; the checkpoint's query"
                    " computes session windows with a gap of 1 months on t"
                )
            ],
            id="a gap of no fixed length",
        ),
        pytest.param(
            ["computes: session windows with a gap of 1 months on t#0"],
            ["computes: session windows with a gap of 2 months on t#0"],
            [
                (
                    "computes session windows with a gap of 2 months on t; the"
                    " checkpoint's query computes session windows with a gap of 1"
                    " months on t"
                )
            ],
            id="two gaps of no fixed length",
        ),
        pytest.param(
            ["computes: f(lambda x#0, x_1, lambda x#0)"],
            ["computes: f(lambda x#0, x, lambda x#0)"],
            [],
            id="numbers of lambdas in an earlier note",
        ),
        pytest.param(
            ["groups by: sum(a#0) AS x#1, max(b#2) AS y#3", "computes: max(b#2)"],
            ["groups by: nothing", "computes: max(b#0)"],
            [],
            id="an earlier note of all rows",
        ),
    ],
)
def test_what_differs_is_told_in_words(old, new, phrases):
    assert differences(facts(*old), facts(*new)) == phrases


def test_the_case_of_a_name_counts_where_spark_is_told_so():
    old, new = facts("groups by: K#0"), facts("groups by: k#0")
    assert differences(old, new, caseless=False) == [
        "groups by k; the checkpoint's query groups by K"
    ]
    assert differences(old, old, caseless=False) == []


def test_a_query_without_state_is_compared_and_one_of_other_facts_is_not():
    assert differences("", facts(A)) == ["groups by a; the checkpoint's query does not"]
    assert differences(facts(A), "") == [
        "has no step that groups by a, as the checkpoint's query has"
    ]
    assert differences("", "") == []
    assert differences("facts 2\ngroups by: b#0", facts(A)) == []
    assert differences(facts("groups by: b#0, ... 16 more fields"), facts(A)) == []
    # What this version writes is never a part
    assert differences(facts(A), facts("groups by: b#0, ... 16 more fields"))


ZONE = "computes dates and hours in the time zone: "


def test_a_zone_that_only_one_note_has_is_left_out():
    assert differences(facts(A), facts(A, f"{ZONE}UTC")) == []
    assert differences(facts(A, f"{ZONE}UTC"), facts(A)) == []
    assert differences(facts(A, f"{ZONE}UTC"), facts(B)) == [
        "groups by b; the checkpoint's query groups by a"
    ]
    assert differences(facts(A, f"{ZONE}UTC"), facts(A, f"{ZONE}Asia/Tokyo")) == [
        (
            "computes dates and hours in the time zone Asia/Tokyo; the checkpoint's query"
            " computes dates and hours in the time zone UTC"
        )
    ]


@pytest.mark.parametrize(
    ("text", "is_cut"),
    [
        ("groups by: ... 3 more fields", True),
        ("groups by: a#0, ... 3 more fields", True),
        ("groups by: [... 3 more fields]", True),
        ("groups by: f(... 3 more fields, a#0)", True),
        ("groups by: a#0", False),
        ("groups by: a... 3 more fields", False),
        ("groups by: a#0, ... 3 more fields of mine", False),
    ],
)
def test_a_note_that_spark_has_cut_is_known(text, is_cut):
    assert is_part(facts(text)) is is_cut


@pytest.mark.parametrize(
    ("text", "other", "shown"),
    [
        pytest.param(
            "a" * 159 + "c", "a" * 159 + "d", "a" * 159 + "c", id="short enough"
        ),
        pytest.param("a" * 161, "b", "a" * 160 + "…", id="one too long"),
        pytest.param("a" * 200, "a", "a" * 160 + "…", id="the same beginning"),
        pytest.param(
            "a" * 20 + "b" * 180,
            "a" * 30,
            "a" * 20 + "b" * 140 + "…",
            id="different at 20",
        ),
        pytest.param(
            "a" * 21 + "b" * 180,
            "a" * 30,
            "…" + "a" * 20 + "b" * 140 + "…",
            id="different at 21",
        ),
        pytest.param(
            "a" * 40 + "b" * 140,
            "a" * 50,
            "…" + "a" * 20 + "b" * 140,
            id="to its end",
        ),
        pytest.param(
            "a" * 40 + "b" * 141,
            "a" * 50,
            "…" + "a" * 20 + "b" * 140 + "…",
            id="but for its last letter",
        ),
    ],
)
def test_a_long_text_is_cut_to_where_it_differs(text, other, shown):
    assert _shortened(text, other) == shown


@pytest.mark.parametrize(
    ("text", "other", "first"),
    [("abc", "xbc", 0), ("abc", "abx", 2), ("abc", "ab", 0), ("ab", "abc", 0)],
)
def test_two_texts_differ_first_somewhere(text, other, first):
    assert _first_difference(text, other) == first
