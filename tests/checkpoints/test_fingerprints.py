"""What changes the fingerprint of a query's state, on classic and on Spark Connect.

The tests also show what does not change it.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyspark
import pytest
from conftest import ROOT, environment, ran
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.stateful_processor import StatefulProcessor
from support.query_shapes import SHAPES

from sparkstream_kit import quarantine, sources, state
from sparkstream_kit._internal.spark.session import in_force
from sparkstream_kit.checkpoints.fingerprint import differences, fingerprint, is_part
from sparkstream_kit.schemas import from_ddl

RECORDED = json.loads(
    (ROOT / "tests" / "recorded" / "fingerprints.json").read_text("utf-8")
)  # on Spark 4.2.0, those of helpers by the first version that had them
SCHEMA = (
    "State STRING, ProductKey STRING, Amount DOUBLE, n INT, time TIMESTAMP, tags"
    " ARRAY<STRING>"
)
HERE = str(Path(__file__).parent)  # a file source wants a folder that is there

KEYS = ["State", "ProductKey"]

Build = Callable[[SparkSession], DataFrame]


def sales(spark, path=HERE, **options):
    return spark.readStream.schema(SCHEMA).options(**options).json(path)


def timed(spark, delay="10 minutes"):
    return sales(spark).withWatermark("time", delay)


def summed(rows, key="State"):
    return rows.groupBy(key).agg(F.sum("Amount").alias("total"))


def totals(spark):
    return summed(sales(spark))


def windowed(spark, *window):
    return timed(spark).groupBy(F.window("time", *window), "State").count()


def joined(
    spark,
    on="a.State = b.State",
    factor=1,
    near="b.time BETWEEN a.time AND a.time + INTERVAL 1 HOUR",
):
    left = timed(spark).withColumn("cents", F.col("Amount") * factor).alias("a")
    return left.join(timed(spark).alias("b"), F.expr(f"{on} AND {near}")).select(
        "a.State", "a.cents", "b.n"
    )


def in_sql(spark, query):
    sales(spark).createOrReplaceTempView("sales_view")
    return spark.sql(query)


class Keeps(StatefulProcessor):
    def init(self, handle):
        pass

    def handleInputRows(self, key, rows, timer_values):
        return iter(())


def processed(frame, key):
    return frame.groupBy(key).transformWithState(
        Keeps(), "State STRING", "Update", "None"
    )


def nothing(key, batches, state):
    yield from ()


def applied(frame, key, state="c LONG"):
    return frame.groupBy(key).applyInPandasWithState(
        nothing, "k STRING", state, "append", "NoTimeout"
    )


def by_lambda(spark, body):
    return sales(spark).groupBy(F.transform("tags", body).alias("o")).count()


def random(spark):
    made = (
        sales(spark)
        .sample(0.5)
        .withColumns({"a": F.rand(), "b": F.randn(), "c": F.expr("uuid()")})
    )
    made = made.withColumns(
        {
            "d": F.shuffle("tags"),
            "e": F.expr("uniform(1, 9)"),
            "f": F.expr("randstr(5)"),
        }
    )
    return made.groupBy("c", "d", "f").agg(F.sum("a"), F.sum("b"), F.sum("e"))


def codes(spark, state, code):
    return spark.createDataFrame([(state, code)], "State STRING, code INT")


def codes_joined(spark, how):
    codes = timed(spark).select(F.col("State").alias("code"), F.col("time").alias("at"))
    return timed(spark).join(codes, F.expr("State = code AND time = at"), how)


def csv_of(spark, options):
    lines = spark.readStream.text(HERE)
    return (
        lines.select(F.from_csv("value", "n INT", options).alias("row"))
        .groupBy("row.n")
        .count()
    )


def parsed(spark, **settings):
    schema = from_ddl("d DATE, p STRING NOT NULL, x DECIMAL(12,2)")
    rows = quarantine.parse_csv(sources.text(spark, HERE), schema, **settings)
    return rows.groupBy("p", F.col("_reason").alias("Problem")).agg(
        F.sum("x").alias("t")
    )


def both(
    build: Callable[..., DataFrame], one: object, other: object
) -> tuple[Build, Build]:
    """Return two queries that differ in one value."""
    return lambda spark: build(spark, one), lambda spark: build(spark, other)


CTE = (
    "WITH c AS (SELECT upper(State) AS k FROM sales_view) SELECT k, count(*) FROM c"
    " GROUP BY k"
)

# name -> the query that wrote the checkpoint, the query that is started now, and in
# what words they differ
CHANGES: dict[str, tuple[Build, Build, str]] = {
    "columns that as_of keeps": (
        lambda s: state.as_of(
            timed(s).select("State", "time"),
            timed(s),
            "State",
            "time",
            columns="Amount",
        ),
        lambda s: state.as_of(
            timed(s).select("State", "time"), timed(s), "State", "time", columns="n"
        ),
        "keeps the columns",
    ),
    "group key": (
        totals,
        lambda s: summed(sales(s), "ProductKey"),
        "groups by ProductKey; the checkpoint's query groups by State",
    ),
    "group key behind an alias": (
        totals,
        lambda s: summed(sales(s).withColumn("State", F.upper("State"))),
        "computes upper(State) AS State; the checkpoint's query does not",
    ),
    "order of group keys": (
        *both(lambda s, keys: sales(s).groupBy(*keys).count(), KEYS, KEYS[::-1]),
        (
            "groups by ProductKey, State; the checkpoint's query groups by State,"
            " ProductKey"
        ),
    ),
    "aggregated column": (
        totals,
        lambda s: sales(s).groupBy("State").agg(F.sum("n").alias("total")),
        "computes sum(n); the checkpoint's query computes sum(Amount)",
    ),
    "order of aggregated columns": (
        lambda s: sales(s).groupBy("State").agg(F.max("n"), F.min("n")),
        lambda s: sales(s).groupBy("State").agg(F.min("n"), F.max("n")),
        "does the same steps in another order",
    ),
    "group key of a common table expression": (
        lambda s: in_sql(s, CTE),
        lambda s: in_sql(s, CTE.replace("upper", "lower")),
        "computes lower(State) AS k; the checkpoint's query computes upper(State) AS k",
    ),
    "a cube in place of a rollup": (
        lambda s: sales(s).rollup("State", "n").count(),
        lambda s: sales(s).cube("State", "n").count(),
        "0, 1, 2, 3 AS spark_grouping_id",
    ),
    "what is exploded": (
        lambda s: (
            sales(s).select(F.explode("tags").alias("tag")).groupBy("tag").count()
        ),
        lambda s: (
            sales(s)
            .select(F.explode(F.reverse("tags")).alias("tag"))
            .groupBy("tag")
            .count()
        ),
        (
            "computes explode(reverse(tags)) AS tag; the checkpoint's query computes"
            " explode(tags) AS tag"
        ),
    ),
    "window length": (
        *both(windowed, "1 minute", "2 minutes"),
        (
            "computes windows of 2 minutes every 2 minutes on time; the checkpoint's query"
            " computes windows of 1 minute"
        ),
    ),
    "window slide": (
        *both(
            lambda s, slide: windowed(s, "2 minutes", slide), "30 seconds", "1 minute"
        ),
        (
            "computes windows of 2 minutes every 1 minute on time; the checkpoint's query"
            " computes windows of 2 minutes"
        ),
    ),
    "window start": (
        lambda s: windowed(s, "1 minute"),
        lambda s: windowed(s, "1 minute", "1 minute", "5 seconds"),
        "every 1 minute from 5 seconds on time",
    ),
    "session gap": (
        *both(
            lambda s, gap: timed(s).groupBy(F.session_window("time", gap)).count(),
            "1 minute",
            "5 minutes",
        ),
        "session windows with a gap of 5 minutes on time",
    ),
    "watermark": (
        *both(
            lambda s, delay: timed(s, delay).groupBy("State").count(),
            "10 minutes",
            "1 minute",
        ),
        (
            "has a watermark of 1 minutes on time; the checkpoint's query has a"
            " watermark of 10 minutes on time"
        ),
    ),
    "deduplication key": (
        *both(lambda s, key: sales(s).dropDuplicates([key]), *KEYS),
        (
            "drops duplicates by ProductKey; the checkpoint's query drops duplicates by"
            " State"
        ),
    ),
    "order of deduplication keys": (
        *both(lambda s, keys: sales(s).dropDuplicates(keys), KEYS, KEYS[::-1]),
        "drops duplicates by ProductKey, State; ",
    ),
    "deduplication within the watermark": (
        *both(lambda s, key: timed(s).dropDuplicatesWithinWatermark([key]), *KEYS),
        "drops duplicates within the watermark by ProductKey",
    ),
    "distinct columns in SQL": (
        lambda s: in_sql(s, "SELECT DISTINCT State FROM sales_view"),
        lambda s: in_sql(s, "SELECT DISTINCT ProductKey FROM sales_view"),
        "runs Distinct by ProductKey; the checkpoint's query runs Distinct by State",
    ),
    "join type": (*both(codes_joined, "inner", "leftouter"), "joins LeftOuter, "),
    "side of a join": (
        *both(
            lambda s, column: joined(s).groupBy("State").agg(F.sum(column)),
            "n",
            "cents",
        ),
        "computes sum(cents)",
    ),
    "join key": (
        joined,
        lambda s: joined(s, "a.State = b.ProductKey"),
        "joins Inner, ((State = ProductKey)",
    ),
    "which time of a join is the later one": (
        joined,
        lambda s: joined(s, near="a.time BETWEEN b.time AND b.time + INTERVAL 1 HOUR"),
        "on other columns of the same names",
    ),
    "a limit on a stream": (
        *both(lambda s, rows: sales(s).limit(rows), 3, 4),
        "keeps no more rows than 4; the checkpoint's query keeps no more rows than 3",
    ),
    "the body of a lambda": (
        *both(by_lambda, F.upper, F.lower),
        (
            "groups by transform(tags, lambdafunction(lower(lambda x), lambda x)); the"
            " checkpoint's query"
        ),
    ),
    "which variable of a lambda": (
        lambda s: by_lambda(s, lambda x, y: F.struct(x, y)),  # noqa: PLW0108 - Spark asks for the arguments
        lambda s: by_lambda(s, lambda x, y: F.struct(y, x)),
        (
            "groups by transform(tags, lambdafunction(struct(y, lambda y, x, lambda x),"
            " lambda x, lambda y)); "
        ),
    ),
    "key of applyInPandasWithState": (
        *both(lambda s, key: applied(sales(s), key), *KEYS),
        "ProductKey",
    ),
    "state of applyInPandasWithState": (
        *both(lambda s, kept: applied(sales(s), "State", kept), "c LONG", "d LONG"),
        "StructField(d,LongType,true)",
    ),
    "a state where there was none": (
        sales,
        totals,
        "groups by State; the checkpoint's query does not",
    ),
    "no state any more": (
        totals,
        sales,
        "has no step that groups by State, as the checkpoint's query has",
    ),
    "key of transformWithState": (
        *both(lambda s, key: processed(sales(s), key), *KEYS),
        "ProductKey",
    ),
}

TEXTS = "a STRING, b STRING"
# name -> two queries that may follow each other on a checkpoint
SAME: dict[str, tuple[Build, Build]] = {
    "nothing": (totals, totals),
    "filter below": (totals, lambda s: summed(sales(s).where("n > 1"))),
    "a column that a join only keeps": (joined, lambda s: joined(s, factor=100)),
    "how lines are parsed": (
        lambda s: parsed(s, date_format="M/d/yy"),
        lambda s: parsed(s, date_format="d/M/yy", sep=";"),
    ),
    "which texts a source looks at": (
        lambda s: sources.csv(s, HERE, schema=TEXTS).groupBy("a").count(),
        lambda s: (
            sources.csv(s, HERE, schema=TEXTS, encoding="UTF-8", multiLine=True)
            .groupBy("a")
            .count()
        ),
    ),
    "kind of source": (
        lambda s: s.readStream.format("rate").load().groupBy("value").count(),
        lambda s: s.readStream.schema("value LONG").json(HERE).groupBy("value").count(),
    ),
    "columns that are not used": (
        totals,
        lambda s: summed(sales(s).withColumn("more", F.lit(1)).drop("tags")),
    ),
    "a filter above a common table expression": (
        lambda s: in_sql(
            s,
            "WITH c AS (SELECT State, count(*) n FROM sales_view GROUP BY State) SELECT"
            " * FROM c",
        ),
        lambda s: in_sql(
            s,
            "WITH c AS (SELECT State, count(*) n FROM sales_view GROUP BY State) SELECT"
            " n FROM c WHERE n > 1",
        ),
    ),
    "projection above": (
        totals,
        lambda s: totals(s).select((F.col("total") * 2).alias("twice")),
    ),
    "the name of a result": (
        totals,
        lambda s: sales(s).groupBy("State").agg(F.sum("Amount").alias("sum")),
    ),
    "the name of a result of all rows": (
        lambda s: sales(s).agg(F.sum("Amount").alias("total"), F.max("n").alias("n")),
        lambda s: sales(s).agg(F.sum("Amount").alias("sum"), F.max("n").alias("m")),
    ),
    "filter above": (totals, lambda s: totals(s).where("total > 3")),
    "sort and limit above": (totals, lambda s: totals(s).orderBy("total").limit(3)),
    "path and files per trigger": (
        totals,
        lambda s: summed(
            sales(s, str(Path(HERE).parent), maxFilesPerTrigger="1", latestFirst="true")
        ),
    ),
    "a source with more columns": (
        lambda s: windowed(s, "2 minutes", "1 minute"),
        lambda s: (
            s.readStream.schema("x INT, " + SCHEMA)
            .json(HERE)
            .withWatermark("time", "10 minutes")
            .groupBy(F.window("time", "2 minutes", "1 minute"), "State")
            .count()
        ),
    ),
    "aliases, hints, partitions and observations": (
        totals,
        lambda s: summed(
            sales(s)
            .alias("s")
            .hint("broadcast")
            .repartition(3)
            .observe("seen", F.count("*").alias("rows"))
        ),
    ),
    "the rows of a lookup table": (
        *both(
            lambda s, row: (
                sales(s).join(codes(s, *row), "State").groupBy("code").count()
            ),
            ("CA", 1),
            ("NY", 2),
        ),
    ),
    "projection above a join": (joined, lambda s: joined(s).select("n")),
    "a view": (
        lambda s: in_sql(
            s, "SELECT State, sum(Amount) AS total FROM sales_view GROUP BY State"
        ),
        totals,
    ),
    "seeds that nobody gave": (random, random),
    "the body of a UDF": (
        lambda s: (
            sales(s)
            .select(F.udf(lambda n: n + 1, "int")("n").alias("m"))
            .groupBy("m")
            .count()
        ),
        lambda s: (
            sales(s)
            .select(F.udf(lambda n: n + 2, "int")("n").alias("m"))
            .groupBy("m")
            .count()
        ),
    ),
    "another stateless query": (
        sales,
        lambda s: sales(s).where("n > 1").select("State"),
    ),
}

# name -> two queries that say the same in other words; their texts may differ
IN_OTHER_WORDS: dict[str, tuple[Build, Build]] = {
    "the case of a column": (
        totals,
        lambda s: sales(s).groupBy("STATE").agg(F.sum("amount").alias("total")),
    ),
    "the case of a column in a name that Spark has made": (
        lambda s: sales(s).groupBy("State").agg(F.sum("Amount"), F.max("n")),
        lambda s: sales(s).groupBy("state").agg(F.sum("AMOUNT"), F.max("N")),
    ),
    "the gap of a session": (
        *both(
            lambda s, gap: timed(s).groupBy(F.session_window("time", gap)).count(),
            "5 minutes",
            "300 seconds",
        ),
    ),
    "the delay of a watermark": (
        lambda s: timed(s).groupBy("State").count(),
        lambda s: timed(s, "600 seconds").groupBy("State").count(),
    ),
    "the order of the options of from_csv": (
        lambda s: csv_of(s, {"sep": ";", "mode": "PERMISSIVE", "quote": "'"}),
        lambda s: csv_of(s, {"quote": "'", "sep": ";", "mode": "PERMISSIVE"}),
    ),
    "a filter that keeps every row": (totals, lambda s: summed(sales(s).where("true"))),
    "the name of a lambda's variable in SQL": (
        lambda s: by_lambda(s, lambda x: F.concat(x, "State")),
        lambda s: (
            sales(s)
            .groupBy(F.expr("transform(tags, x -> concat(x, State)) AS o"))
            .count()
        ),
    ),
    "a union by name": (
        lambda s: sales(s).union(sales(s)).groupBy("State").count(),
        lambda s: sales(s).unionByName(sales(s)).groupBy("State").count(),
    ),
}


# What has no pair, and is compared between classic and Connect alone.
ALONE: dict[str, Build] = {
    "a wide table": lambda s: (
        s.readStream.schema(", ".join(f"c{n} INT" for n in range(60)))
        .json(HERE)
        .groupBy(*(f"c{n}" for n in range(60)))
        .count()
    ),
    "a line break": (
        lambda s: sales(s).where("State <> 'a\nb'").groupBy("State").count()
    ),
    "times and parsing": lambda s: (
        sales(s)
        .select(
            F.to_date("State", "MM/dd/yyyy").alias("day"),
            F.hour("time").alias("hour"),
            F.element_at("tags", 1).alias("tag"),
        )
        .groupBy("day", "hour", "tag")
        .count()
    ),
}


def mode_of(name):
    return "complete" if "above" in name else "append"


def all_fingerprints(spark):
    """Return the fingerprint of every query here.

    A process that is attached to a server calls this, too.
    """
    pairs = {name: pair[:2] for name, pair in CHANGES.items()} | SAME
    found = {
        f"{name} {number}": fingerprint(build(spark), mode_of(name))
        for name, pair in pairs.items()
        for number, build in enumerate(pair)
    }
    found |= {
        name: fingerprint(build(spark), "update") for name, build in ALONE.items()
    }
    return found | {
        name: fingerprint(build(spark), "append") for name, build in SHAPES.items()
    }


@pytest.mark.fast("alerts by key", "a pandas UDF", "transform")
@pytest.mark.parametrize("name", SHAPES)
def test_a_query_that_is_built_again_is_the_same_on_any_spark(spark, name):
    one, other = (fingerprint(SHAPES[name](spark), "append") for _ in range(2))
    assert one == other != ""
    # `make versions` runs this on the others
    assert differences(RECORDED[name], one) == []


BUILT_AGAIN = """
import json
from sparkstream_kit import get_session
from sparkstream_kit.checkpoints.fingerprint import fingerprint
from support.query_shapes import SHAPES
spark = get_session("built", profile="test")
print(json.dumps({name: fingerprint(SHAPES[name](spark), "append") for name in reversed(SHAPES)}))
"""


def in_a_process(code, **settings):
    """Return what a Python prints that can import the tests."""
    path = f"{environment()['PYTHONPATH']}:{ROOT / 'tests'}"
    return ran(code, PYTHONPATH=path, **settings).stdout


@pytest.mark.slow
def test_a_query_is_the_same_in_another_process_behind_other_queries(spark):
    here = {name: fingerprint(build(spark), "append") for name, build in SHAPES.items()}
    assert json.loads(in_a_process(BUILT_AGAIN)) == here


def test_the_time_zone_counts_only_if_both_versions_of_spark_print_it():
    without = "facts 3\ngroups by: o#0"  # as 4.1 has it for uniform(1, 9)
    utc, rome = (
        f"{without}\ncomputes dates and hours in the time zone: {z}"
        for z in ("UTC", "Europe/Rome")
    )
    assert differences(without, utc) == differences(utc, without) == []
    assert len(differences(utc, rome)) == 1


@pytest.mark.fast(
    "join type", "which time of a join is the later one", "order of deduplication keys"
)
@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_state_changes_the_fingerprint(spark, name):
    before, after, words = CHANGES[name]
    old, new = (
        fingerprint(before(spark), mode_of(name)),
        fingerprint(after(spark), mode_of(name)),
    )
    assert words in "\n".join(differences(old, new))


@pytest.mark.parametrize("name", SAME)
def test_what_leaves_the_state_alone_leaves_the_fingerprint(spark, name):
    before, after = SAME[name]
    old, new = (
        fingerprint(before(spark), mode_of(name)),
        fingerprint(after(spark), mode_of(name)),
    )
    assert old == new
    assert differences(old, new) == []


def test_what_an_earlier_version_wrote_is_not_compared():
    assert differences("facts 2\ngroups by: a#0", "facts 3\ngroups by: b#0") == []
    assert differences("facts 3\ngroups by: a#0", "facts 3\ngroups by: b#0")


@pytest.mark.parametrize(
    ("facts", "part"),
    [
        ("groups by: a#0, ... 16 more fields", True),
        ("groups by: a#0\ncomputes: sum(b#1)\ncomputes: ... 3 more fields", True),
        ("computes: named_struct(a, a#0, ... 2 more fields) AS s#1", True),
        ("runs once by: [a#0, ... 2 more fields] with the state s", True),
        ("groups by: a#0\ncomputes: concat(... and 3 more fields, a#0)", False),
        ("groups by: a#0\ncomputes: max(more fields#1)", False),
    ],
)
def test_a_note_of_a_plan_that_spark_has_cut_is_not_compared(facts, part):
    # An earlier version of the kit wrote such notes at a start in another thread than
    # the first.
    old, new = (f"facts 3\n{text}" for text in (facts, "groups by: z#0"))
    assert is_part(old) == part
    assert (differences(old, new) == []) == part


def test_the_ansi_mode_does_not_count(spark):
    build = ALONE["times and parsing"]
    before = fingerprint(build(spark), "append")
    with in_force(spark, {"spark.sql.ansi.enabled": "false"}):
        assert fingerprint(build(spark), "append") == before


@pytest.mark.parametrize("name", IN_OTHER_WORDS)
def test_the_same_in_other_words_is_the_same_query(spark, name):
    one, other = (fingerprint(build(spark), "append") for build in IN_OTHER_WORDS[name])
    assert differences(one, other) == differences(other, one) == []


# Whether what the query keeps depends on the session's time zone.
ZONED: dict[str, tuple[Build, bool]] = {
    "a date": (
        lambda s: sales(s).groupBy(F.to_date("time").alias("day")).count(),
        True,
    ),
    "a cast to a date": (
        lambda s: sales(s).groupBy(F.col("time").cast("date").alias("day")).count(),
        True,
    ),
    "a window": (lambda s: windowed(s, "1 day"), False),
    "an hour in a filter": (
        lambda s: summed(sales(s).where(F.hour("time") > 8)),
        False,
    ),
}


@pytest.mark.parametrize("name", ZONED)
def test_the_time_zone_is_noted_where_the_state_depends_on_it(spark, name):
    build, depends = ZONED[name]
    assert ("in the time zone" in fingerprint(build(spark), "update")) is depends


def test_a_limit_keeps_state_in_append_mode_alone(spark):
    assert fingerprint(sales(spark).limit(3), "append")
    assert not fingerprint(sales(spark).limit(3), "update")


def test_all_columns_count_and_the_session_keeps_its_own_limit(spark):
    # Spark asks the active session, and not that of the query
    other = spark.newSession()
    former = [
        session.conf.get("spark.sql.debug.maxToStringFields")
        for session in (spark, other)
    ]
    assert (
        len(
            set(
                re.findall(
                    r"c\d+#", fingerprint(ALONE["a wide table"](other), "append")
                )
            )
        )
        == 60
    )
    assert former == [
        session.conf.get("spark.sql.debug.maxToStringFields")
        for session in (spark, other)
    ]


def test_no_path_and_no_option_is_in_the_text(spark):
    secret = spark.readStream.format("socket").options(host="hunter2", port=1).load()
    assert (
        fingerprint(secret.groupBy("value").count(), "complete")
        == "facts 3\ngroups by: value#0\ncomputes: count(1)"
    )


def test_a_long_difference_is_shown_where_it_begins():
    same = " + ".join(f"column_{n}" for n in range(100))
    (said,) = differences(
        f"facts 3\njoins: ({same} > 1)", f"facts 3\njoins: ({same} > 2)"
    )
    assert said.startswith("joins …")
    assert "> 2); the checkpoint's query joins …" in said
    assert len(said) < 500


CONNECT = """
import json
from checkpoints import test_fingerprints
from sparkstream_kit import get_session
print(json.dumps(test_fingerprints.all_fingerprints(get_session("attached", profile="test"))))
"""


@pytest.mark.slow
@pytest.mark.xdist_group("connect")
def test_every_query_has_the_same_fingerprint_on_connect(spark, connect):
    path = f"{environment()['PYTHONPATH']}:{ROOT / 'tests'}"
    assert json.loads(
        ran(CONNECT, PYTHONPATH=path, SPARK_REMOTE=connect).stdout
    ) == all_fingerprints(spark)


@pytest.mark.slow
@pytest.mark.xdist_group("connect")
def test_drop_duplicates_without_columns_is_another_query_on_connect(spark, connect):
    # Before Spark 4.3 each orders the key in its own way: one would not find the
    # other's rows.
    code = (
        "from checkpoints import test_fingerprints as t\nfrom sparkstream_kit import"
        " get_session\nframe = t.sales(get_session('attached',"
        " profile='test')).drop('tags').dropDuplicates()\nprint(t.fingerprint(frame,"
        " 'append'))"
    )
    there = in_a_process(code, SPARK_REMOTE=connect)
    here = fingerprint(sales(spark).drop("tags").dropDuplicates(), "append")
    assert sorted(re.findall(r"\w+#", there)) == sorted(re.findall(r"\w+#", here))
    assert (there.strip() == here) is (pyspark.__version__ >= "4.3")
