"""Mistakes of beginners: one line says what was wrong, what was given, and a fix that works.

Each mistake is a function. What follows `world` is what was written: by default the
mistake. The judge makes the mistake and looks at its one line. Then it takes the fix out
of the words of that line, and makes the call again with it: it must work.
"""

import contextlib
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import environment, process
from pyspark.sql import Window
from pyspark.sql import functions as F
from pyspark.sql import types as T
from support import postgresql

from sparkstream_kit import (
    errors,
    get_session,
    jobflags,
    joins,
    quarantine,
    run,
    schemas,
    sinks,
    sources,
    start,
    state,
    windows,
)
from sparkstream_kit.cli import main

LONGEST = 640  # characters of a line that is still read


class Hint(errors.KitError):
    """What a run says at its end, although it did not fail."""

    exit_code = 0


class Ended(errors.KitError):
    """What a command says when it ends."""


class World:
    """What a beginner has: a session, a folder, and a few calls."""

    def __init__(self, spark, folder):
        self.spark = spark
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def put(self, name, text):
        """Write a file, and return the folder that it is in."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text, "utf-8")
        return path.parent

    def csv(self, text, schema="product STRING, price DECIMAL(9,2)", **how):
        return sources.csv(
            self.spark, self.put("csv/a.csv", text), schema=schema, **how
        )

    def json(self, text, schema="a INT", **how):
        folder = self.put("json/a.json", text)
        return sources.json(self.spark, folder, schema=schema, **how)

    def lines(self, text="one\ntwo\n"):
        return sources.text(self.spark, self.put("lines/a.txt", text))

    def sales(self):
        """A stream of sales that nothing is wrong with."""
        text = '{"at":"2026-01-01T10:00:00Z","shop":"A","amount":2}\n'
        columns = "at TIMESTAMP, shop STRING, amount INT"
        return self.json(text, columns)

    def timed(self):
        return windows.with_watermark(self.sales(), "at", "10 minutes")

    def hours(self):
        return self.timed().groupBy(windows.tumbling("at", "1 hour")).count()

    def tries(self, frame, sink=None, name="q", **how):
        """Check a start, without a query."""
        sink = sink or sinks.console()
        return start(frame, sink, name=name, dry_run=True, **how)

    def out(self):
        return self.folder / "out"

    def kept(self):
        """Where a query keeps its progress."""
        return {"checkpoint": self.folder / "ckpt"}

    def database(self):
        return f"sqlite:///{self.folder}/totals.db"

    def rows(self, frame):
        """Run a query over all that is there, and return its rows; a hint is raised."""
        query = start(frame, sinks.memory("mistakes"), availableNow=True)
        hints = re.findall("^hint: .*", str(run(query)), re.MULTILINE)
        if hints:
            raise Hint(hints[0])
        return [tuple(row) for row in self.spark.table("mistakes").collect()]

    def runs(self, frame, sink, name, **how):
        """Run a query with a checkpoint over all that is there."""
        query = start(frame, sink, name=name, availableNow=True, **self.kept(), **how)
        return run(query)


def command(*words):
    """Run `sparkstream`, and raise what it says if it ends with another code than 0."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main([*map(str, words)])
    if code:
        ended = Ended(said.getvalue().strip())
        ended.exit_code = code
        raise ended


def keywords(text):
    """Return the arguments of a text such as "header=True"."""
    return evaluated(f"dict({text})")


def counted(batch, batch_id):
    """Do something with a batch that reads all of it."""
    batch.count()


def evaluated(code, **names):
    """Return the value of what a message says to write."""
    return eval(code, globals(), names)  # noqa: S307 - of a message of the kit


class Mistake(NamedTuple):
    """A mistake, and what its line must say.

    Attributes:
        make: makes the call, with what was written.
        given: what was given, as a regular expression.
        fix: what to do, as a regular expression; its groups are what the call is made
            with then, or else all of its words.
        code: the exit code of a job that ends so.
    """

    make: Callable[..., Any]
    given: str
    fix: str
    code: int


CASES: list[Any] = []


def mistake(given, fix, *, code=2, runs=False):
    """Add a mistake to those that are judged; `runs` says that it needs a query."""

    def add(make):
        name = make.__name__.replace("_", " ")
        marks = [pytest.mark.slow] if runs else []
        CASES.append(
            pytest.param(Mistake(make, given, fix, code), id=name, marks=marks)
        )
        return make

    return add


# --- reading files


@mistake("input folder .*/no-such does not exist", "create it")
def a_folder_that_is_not_there(world, fix=""):
    if fix:
        world.put("no-such/a.json", "{}")
    sources.json(world.spark, world.folder / "no-such", schema="a INT")


@mistake("is a file", r"input (\S+)/a\.csv is a file; give the folder that it is in")
def a_file_in_place_of_a_folder(world, path=None):
    folder = world.put("sales/a.csv", "1\n")
    frame = sources.csv(world.spark, path or folder / "a.csv", schema="a INT")
    assert frame.columns == ["a"]


@mistake("column price: price is no decimal", "header=True", code=1, runs=True)
def a_header_forgotten(world, fix=""):
    frame = world.csv("product,price\ntea,2.50\n", **keywords(fix))
    assert len(world.rows(frame)) == 1


@mistake("looks? like a header", "header=True", code=0, runs=True)
def a_header_among_the_lines(world, fix=""):
    lines = world.lines("product,price\ntea,2.50\n")
    schema = "product STRING, price DECIMAL(9,2)"
    assert len(world.rows(quarantine.parse_csv(lines, schema, **keywords(fix)))) == 1


@mistake(r"a\.csv", "sep=';'", code=1, runs=True)
def semicolons_below_a_header(world, fix=""):
    frame = world.csv("product;price\ntea;2.50\n", header=True, **keywords(fix))
    assert len(world.rows(frame)) == 1


@mistake("tea;2.50", "sep=';'", code=1, runs=True)
def semicolons_without_a_header(world, fix=""):
    frame = world.csv("tea;2.50\n", **keywords(fix))
    assert len(world.rows(frame)) == 1


@mistake(r"a\.csv", r"sep='\\t'", code=1, runs=True)
def tabs_in_place_of_commas(world, fix=""):
    frame = world.csv("tea\t2.50\n", **keywords(fix))
    assert len(world.rows(frame)) == 1


@mistake("2,50 is no decimal", "locale='de-DE'", code=1, runs=True)
def a_decimal_comma(world, fix=""):
    frame = world.csv("tea;2,50\n", sep=";", **keywords(fix))
    assert world.rows(frame)[0][1] > 2


@mistake("31.01.2026 is no date", "dateFormat='[^']*'", code=1, runs=True)
def a_date_in_another_form(world, fix=""):
    frame = world.csv("tea,31.01.2026\n", "product STRING, day DATE", **keywords(fix))
    assert str(world.rows(frame)[0][1]) == "2026-01-31"


@mistake(
    r"expected close marker for Array.*a\.json", "multiLine=True", code=1, runs=True
)
def a_printed_array(world, fix=""):
    frame = world.json('[\n  {"a": 1},\n  {"a": 2}\n]\n', **keywords(fix))
    assert len(world.rows(frame)) == 2


@mistake(
    r"expected close marker for Object.*a\.json", "multiLine=True", code=1, runs=True
)
def a_printed_object(world, fix=""):
    frame = world.json('{\n  "a": 1\n}\n', **keywords(fix))
    assert len(world.rows(frame)) == 1


@mistake(r"a\.json", "allowSingleQuotes=True", code=1, runs=True)
def a_printed_dict_of_python(world, fix=""):
    frame = world.json("{'a': 1}\n", **keywords(fix))
    assert world.rows(frame) == [(1,)]


@mistake(r"value three .*a\.json", "mode='PERMISSIVE'", code=1, runs=True)
def a_text_in_a_column_of_numbers(world, fix=""):
    frame = world.json('{"a": 1}\n{"a": "three"}\n', **keywords(fix))
    assert len(world.rows(frame)) == 2


@mistake(
    "no field amount, .* they have price", "rename it in the schema", code=0, runs=True
)
def a_field_that_was_renamed(world, fix=""):
    name = "price" if fix else "amount"
    frame = world.json('{"id": 1, "price": 2}\n', f"id INT, {name} INT")
    assert world.rows(frame) == [(1, 2)]


@mistake(
    "no field Amount, .* they have price", "rename it in the schema", code=0, runs=True
)
def a_field_that_was_renamed_among_lines(world, fix=""):
    name = "price" if fix else "Amount"
    lines = world.lines('{"id": 1, "price": 2}\n')
    rows = world.rows(quarantine.parse_json(lines, f"id INT, {name} INT"))
    assert rows[0][:2] == (1, 2)


@mistake(r"sources\.csv\(\) needs a schema", "schema='[^']*'")
def no_schema(world, fix=""):
    folder = world.put("a/a.csv", "tea,2\n")
    sources.csv(world.spark, folder, **keywords(fix))


@mistake('"INTT"', r"did you mean (\w+)\?")
def a_misspelt_type(world, fix="INTT"):
    world.csv("tea,2\n", f"product STRING, amount {fix}")


@mistake("unit price INT", "in backticks: (`unit price`)")
def a_column_with_a_blank(world, fix="unit price"):
    frame = world.csv("tea,2\n", f"product STRING, {fix} INT")
    assert frame.columns == ["product", "unit price"]


@mistake("'product, price'", "a type behind each name: '(a INT, b DECIMAL.*?)'")
def names_without_types(world, fix="product, price"):
    world.csv("tea,2\n", fix)


@mistake("near 'price'", "a comma between two columns: '(a INT, b DECIMAL.*?)'")
def columns_without_a_comma(world, fix="product STRING price INT"):
    world.csv("tea,2\n", fix)


@mistake("headr", r"did you mean (\w+)\?")
def a_misspelt_option(world, fix="headr"):
    world.csv("tea,2\n", **{fix: True})


@mistake("maxFileAge is '2 hours'", r"such as '(\d+h)'")
def an_age_in_words(world, fix="2 hours"):
    sources.text(world.spark, world.put("a/a.txt", "tea\n"), maxFileAge=fix)


@mistake("max_files_per_trigger must be 1 or more, not 0", "be (1) or more")
def no_files_at_all(world, fix="0"):
    folder = world.put("a/a.txt", "tea\n")
    sources.text(world.spark, folder, max_files_per_trigger=int(fix))


@mistake("max_files_per_trigger is the string '10'", "give a whole number")
def a_number_as_text(world, fix=""):
    folder = world.put("a/a.txt", "tea\n")
    most: Any = 10 if fix else "10"
    sources.text(world.spark, folder, max_files_per_trigger=most)


@mistake(r"sources\.text\(\) takes no schema", r"the schema to (sources\.csv)")
def a_schema_for_text(world, fix="sources.text"):
    read = evaluated(fix)
    read(world.spark, world.put("a/a.txt", "tea\n"), schema="name STRING")


@mistake(
    r"a\.csv is not a Parquet file", r"read it with (sources\.csv)", code=1, runs=True
)
def files_of_csv_as_parquet(world, fix="sources.parquet"):
    folder = world.put("a/a.csv", "tea\n")
    frame = evaluated(fix)(world.spark, folder, schema="product STRING")
    assert world.rows(frame) == [("tea",)]


@mistake(r"a\.csv", r"read it with (sources\.csv)", code=1, runs=True)
def files_of_csv_as_orc(world, fix="sources.orc"):
    folder = world.put("a/a.csv", "tea\n")
    frame = evaluated(fix)(world.spark, folder, schema="product STRING")
    assert world.rows(frame) == [("tea",)]


@mistake("'~/sales'", r"os\.path\.expanduser\('[^']*'\)")
def a_path_with_a_tilde(world, fix=""):
    path = "~/sales"
    if fix:
        assert fix == "os.path.expanduser('~/sales')"
        path = str(world.put("sales/a.txt", "tea\n"))
    sources.text(world.spark, path)


@mistake("column a is the class IntegerType", r"such as '(\w+)'")
def a_class_of_a_type(world, fix=T.IntegerType):
    world.csv("1\n", schemas.schema_of(a=fix))


@mistake("schema is a list", r"such as (schemas\.from_ddl\('[^']*'\))")
def a_list_of_names_as_schema(world, fix="['name', 'amount']"):
    world.csv("tea,1\n", evaluated(fix))


@mistake(
    "nothing listens on 127.0.0.1:1",
    "start the server first, such as nc -lk 1",
    code=75,
    runs=True,
)
def a_port_nobody_listens_on(world, fix=""):
    if not fix:  # a port below 1024 is root's, so that no other server has it
        world.rows(sources.socket_lines(world.spark, "127.0.0.1", 1))


@mistake(r"sources\.kafka\(\).* no connector kafka", r"connectors=\['kafka'\]")
def kafka_without_its_connector(world, fix=""):
    if fix:
        assert keywords(fix) == {"connectors": ["kafka"]}
        assert "connectors" in (get_session.__kwdefaults__ or {})
    else:
        sources.kafka(world.spark, "localhost:1", "sales")


# --- parsing lines


@mistake("column a is int", r"lines with sources\.(text)")
def rows_to_a_parser(world, fix="json"):
    folder = world.put("a/a.json", '{"a": 1}\n')
    how = {"schema": "a INT"} if fix == "json" else {}
    quarantine.parse_json(getattr(sources, fix)(world.spark, folder, **how), "a INT")


@mistake("column price", r"sources\.(text)")
def rows_of_csv_to_a_parser(world, fix="csv"):
    folder = world.put("a/a.csv", "tea,1\n")
    schema = "product STRING, price STRING"
    how = {"schema": schema} if fix == "csv" else {}
    quarantine.parse_csv(getattr(sources, fix)(world.spark, folder, **how), schema)


@mistake("date_format is '%d.%m.%Y'", "write it as Spark does: '(yyyy-MM-dd)")
def a_pattern_of_python(world, fix="%d.%m.%Y"):
    quarantine.parse_csv(world.lines(), "a DATE", date_format=fix)


@mistake("amount > 0: drop", "known: .*(quarantine)")
def a_word_for_a_rule(world, fix="drop"):
    quarantine.expect(world.sales(), {"amount > 0": fix})


@mistake("rule amout > 0", r"one of the following\? \[`(\w+)`")
def a_rule_on_no_column(world, fix="amout"):
    quarantine.expect(world.sales(), {f"{fix} > 0": "quarantine"})


@mistake("no column _reason", r"or use (expect)\(\)")
def good_rows_of_what_was_not_checked(world, fix=""):
    rows = world.sales()
    if fix:
        rows = quarantine.expect(rows, {"amount > 0": "quarantine"})
    quarantine.good_rows(rows)


# --- windows and watermarks


@mistake("there is no column ts", r"the columns are: (\w+)")
def a_watermark_on_no_column(world, fix="ts"):
    windows.with_watermark(world.sales(), fix, "10 minutes")


@mistake("column shop is string, not a timestamp", r"make it one first: (frame\..*)$")
def a_watermark_on_a_text(world, fix="frame"):
    frame = evaluated(fix, frame=world.sales())
    windows.with_watermark(frame, "shop", "10 minutes")


@mistake("column amount is int, not a timestamp", r"make it one first: (frame\..*)$")
def a_watermark_on_seconds(world, fix="frame"):
    frame = evaluated(fix, frame=world.sales())
    windows.with_watermark(frame, "amount", "10 minutes")


@mistake("'10 minuts'", "write it like '(10 seconds)'")
def a_misspelt_duration(world, fix="10 minuts"):
    windows.with_watermark(world.sales(), "at", fix)


@mistake("'10m'", "write it like '(10 seconds)'")
def a_short_duration(world, fix="10m"):
    windows.tumbling("at", fix)


@mistake("length is 10;", "such as '(10 seconds)'")
def a_duration_as_a_number(world, fix=10):
    windows.tumbling("at", fix)


@mistake("slide 2 hours is longer than length 1 hour", "give a shorter slide")
def a_slide_longer_than_the_window(world, fix=""):
    windows.sliding("at", "1 hour", "30 minutes" if fix else "2 hours")


@mistake("length 1 month", "write it in days")
def a_window_of_a_month(world, fix=""):
    windows.tumbling("at", "30 days" if fix else "1 month")


@mistake("'Europe/Berln'", r"did you mean ([\w/]+)\?")
def a_misspelt_time_zone(world, fix="Europe/Berln"):
    windows.calendar(world.timed(), "at", "day", zone=fix)


@mistake("already has a watermark, on column at", "call it once")
def two_watermarks(world, fix=""):
    frame = world.timed()
    if not fix:
        windows.with_watermark(frame, "at", "10 minutes")


@mistake("no column window", r"did you mean (\w+)\?")
def a_session_window_under_another_name(world, fix="window"):
    frame = world.timed().groupBy(windows.session("at", "5 minutes")).count()
    windows.flatten(frame, fix)


# --- what Spark cannot do with a stream


@mistake("mode append .*without a watermark", "mode='(update)'")
def a_total_without_a_watermark(world, fix="append"):
    world.tries(world.sales().groupBy("shop").count(), mode=fix)


@mistake("mode complete .*only an aggregation has", "mode='(append)'")
def mode_complete_without_a_total(world, fix="complete"):
    world.tries(world.sales(), mode=fix)


@mistake("mode complete .*two aggregations", "mode='(append)' and a watermark")
def two_aggregations(world, fix="complete"):
    hours = world.timed().groupBy(windows.tumbling("at", "1 hour"), "shop").count()
    days = hours.groupBy(F.window(F.window_time("window"), "1 day")).count()
    world.tries(days, mode=fix)


@mistake("cannot sort", "leave out orderBy")
def a_sorted_stream(world, fix=""):
    frame = world.sales()
    world.tries(frame if fix else frame.orderBy("amount"))


@mistake("mode update cannot limit", "give mode='(append)'")
def a_limited_stream(world, fix="update"):
    world.tries(world.sales().limit(3), mode=fix)


@mistake("over a Window", r"such as (sinks\.foreach_batch.*?\)\))")
def a_ranking_of_a_stream(world, fix="sinks.foreach_batch(write)"):
    over = Window.partitionBy("shop").orderBy("amount")
    ranked = world.sales().withColumn("n", F.row_number().over(over))
    frame = world.sales() if "taking" in fix else ranked
    world.tries(frame, evaluated(fix, write=lambda batch, batch_id: None))


@mistake(
    "batch read|part of it", "let it write, count or collect the whole batch", runs=True
)
def a_function_that_leaves_rows_unread(world, fix=""):
    def write(batch, batch_id):
        if fix:
            batch.count()

    totals = world.timed().groupBy("shop").count()
    world.runs(totals, sinks.foreach_batch(write), "q", mode="update")


@mistake("Distinct aggregations", r"using (approx_count_distinct)\(\)")
def a_distinct_count(world, fix="countDistinct"):
    count = getattr(F, fix)("amount")
    world.tries(world.sales().groupBy("shop").agg(count), mode="update")


@mistake("LeftOuter join", "without a watermark")
def an_outer_join_without_a_watermark(world, fix=""):
    one = world.timed() if fix else world.sales()
    two = one.select(F.col("at").alias("paid"), F.col("shop").alias("s"))
    near = F.expr("paid BETWEEN at AND at + INTERVAL 1 HOUR AND s = shop")
    world.tries(one.join(two, near, "left"))


@mistake("does not stream", r"read it with spark\.(readStream)")
def a_frame_that_does_not_stream(world, fix="read"):
    folder = world.put("a/a.json", '{"a": 1}\n')
    world.tries(getattr(world.spark, fix).schema("a INT").json(str(folder)))


@mistake("DataStreamReader", r"end it with (\.load)\(")
def a_reader_without_load(world, fix=""):
    frame = world.spark.readStream.format("rate")
    world.tries(frame.load() if fix else frame)


@mistake("GroupedData", r"such as (\.count\(\))")
def a_group_without_a_total(world, fix=""):
    groups = world.sales().groupBy("shop")
    world.tries(evaluated(f"groups{fix}", groups=groups), mode="complete")


# --- start and run


@mistake("chekpoint", r"did you mean (\w+)\?")
def a_misspelt_keyword(world, fix="chekpoint"):
    world.tries(world.sales(), **{fix: world.folder / "ckpt"})


@mistake("proccessingTime", r"did you mean (\w+)\?")
def a_misspelt_trigger(world, fix="proccessingTime"):
    world.tries(world.sales(), **{fix: "5 seconds"})


@mistake("processingTime '5'", "write it like '(10 seconds)'")
def a_trigger_without_a_unit(world, fix="5"):
    world.tries(world.sales(), processingTime=fix)


@mistake("availableNow is the string 'true'", "availableNow=True")
def a_switch_as_text(world, fix="availableNow='true'"):
    world.tries(world.sales(), **keywords(fix))


@mistake("availableNow and processingTime", "leave out the others")
def two_triggers(world, fix=""):
    how = {} if fix else {"processingTime": "5 seconds"}
    world.tries(world.sales(), availableNow=True, **how)


@mistake("no trigger continuous", "give (processingTime='[^']*')")
def a_continuous_trigger(world, fix="continuous='1 second'"):
    world.tries(world.sales(), **keywords(fix))


@mistake("updte", r"did you mean (\w+)\?")
def a_misspelt_mode(world, fix="updte"):
    world.tries(world.sales().groupBy("shop").count(), mode=fix)


@mistake("Complete", r"did you mean (\w+)\?")
def a_mode_in_capitals(world, fix="Complete"):
    world.tries(world.sales().groupBy("shop").count(), mode=fix)


@mistake("needs a name", "name='[^']*'")
def no_name(world, fix="name=None"):
    world.tries(world.sales(), **keywords(fix))


@mistake("sink is the string 'console'", r"such as (sinks\.console\(\))")
def a_sink_as_text(world, fix="'console'"):
    world.tries(world.sales(), evaluated(fix))


@mistake(r"the function sinks\.console", r"call it: (sinks\.console\()…\)")
def a_sink_that_is_not_called(world, fix="("):
    world.tries(world.sales(), evaluated(f"{fix})" if fix != "(" else "sinks.console"))


@mistake("batch_files needs a checkpoint", "checkpoint='folder'")
def no_checkpoint(world, fix=""):
    how = world.kept() if fix else {}
    world.tries(world.sales(), sinks.batch_files(world.out()), **how)


@mistake("json/ckpt, which lies in the input folder", "put it elsewhere")
def a_checkpoint_in_the_input(world, fix=""):
    folder = "ckpt" if fix else "json/ckpt"
    world.tries(world.sales(), checkpoint=world.folder / folder)


@mistake("json/out, which lies in the input folder", "put it elsewhere")
def output_in_the_input(world, fix=""):
    out = world.out() if fix else world.folder / "json/out"
    world.tries(world.sales(), sinks.batch_files(out), **world.kept())


@mistake("ckpt is no folder", "correct the path")
def a_checkpoint_that_is_a_file(world, fix=""):
    if not fix:
        world.put("ckpt", "")
    world.tries(world.sales(), **world.kept())


@mistake("queries is a list", r"with a star: (\*queries)")
def a_list_of_queries(world, fix="queries"):
    queries = [world.tries(world.sales())]
    with pytest.raises(errors.DryRun):
        evaluated(f"run({fix})", queries=queries)


@mistake("run_for is the string '60'", "give a number")
def a_time_as_text(world, fix=""):
    query = world.tries(world.sales())
    length: Any = 60 if fix else "60"
    with pytest.raises(errors.DryRun):
        run(query, run_for=length)


@mistake(r"run\(\) needs at least one query", r"run\((start\(.*\))\)")
def no_query(world, fix=""):
    code = fix.replace("sink,", "sinks.console(), dry_run=True,")
    queries = [evaluated(code, frame=world.sales())] if fix else []
    with contextlib.suppress(errors.DryRun):
        run(*queries)


@mistake(
    "belongs to query old: .*query new", "Give new a checkpoint of its own", runs=True
)
def a_checkpoint_of_another_query(world, fix=""):
    sink = sinks.foreach_batch(lambda batch, batch_id: None)
    world.runs(world.sales(), sink, "old")
    folder = world.folder / ("other" if fix else "ckpt")
    frame = world.sales().select("shop")
    run(start(frame, sink, name="new", checkpoint=folder, availableNow=True))


@mistake(
    "has written to sinks.foreach_batch so far",
    "start with a new checkpoint folder",
    runs=True,
)
def a_checkpoint_of_another_sink(world, fix=""):
    world.runs(world.sales(), sinks.foreach_batch(lambda batch, batch_id: None), "q")
    folder = world.folder / ("other" if fix else "ckpt")
    sink = sinks.sql_table(world.database(), "t")
    run(start(world.sales(), sink, name="q", checkpoint=folder, availableNow=True))


@mistake(
    "windows of 30 minutes every 30 minutes.* windows of 45 minutes every 45 minutes",
    r"(continues='[^']*')",
    runs=True,
)
def a_window_of_another_length(world, fix=""):
    sink = sinks.foreach_batch(counted)
    how = keywords(fix)
    folder = world.folder / "ckpt"
    if fix:  # over the input of the first one
        world = World(world.spark, Path(how["continues"]).parent)
        folder = world.folder / "next"

    def totals(length):
        return world.timed().groupBy(windows.tumbling("at", length)).count()

    if not fix:
        world.runs(totals("45 minutes"), sink, "q")
    how |= {"name": "q", "checkpoint": folder, "availableNow": True}
    run(start(totals("30 minutes"), sink, **how))


@mistake("gap of 5 minutes.* gap of 45 minutes", "a checkpoint of its own", runs=True)
def a_session_of_another_gap(world, fix=""):
    sink = sinks.foreach_batch(counted)

    def sessions(gap):
        return world.timed().groupBy(windows.session("at", gap), "shop").count()

    world.runs(sessions("45 minutes"), sink, "q")
    folder = world.folder / ("other" if fix else "ckpt")
    run(
        start(
            sessions("5 minutes"), sink, name="q", checkpoint=folder, availableNow=True
        )
    )


@mistake("query named q already runs", r"end it first: (\[.*\])", runs=True)
def one_name_twice(world, fix=""):
    frame = sources.rate(world.spark)
    sink = sinks.foreach_batch(lambda batch, batch_id: None)
    if fix:
        evaluated(fix, spark=world.spark)
    else:
        start(frame, sink, name="q")
    query = start(frame, sink, name="q")
    query.stop()


@mistake(
    "ZeroDivisionError: .*in inverse",
    r"test_mistakes\.py line (\d+)",
    code=1,
    runs=True,
)
def a_function_that_fails(world, fix=""):
    def inverse(n):
        if fix and n == 0:
            return None
        return 1 // n

    line = inverse.__code__.co_firstlineno + 3
    assert int(fix or line) == line
    world.rows(world.json('{"a": 0}\n').select(F.udf(inverse, "int")("a")))


@mistake(r"DIVIDE_BY_ZERO", "Use `(try_divide)`", code=1, runs=True)
def a_division_by_zero(world, fix=""):
    value = F.try_divide(F.lit(1), "a") if fix else F.lit(1) / F.col("a")
    world.rows(world.json('{"a": 0}\n').select(value))


@mistake(
    "The value 'tea' .*cannot be cast to \"INT\"", "Use `(try_cast)`", code=1, runs=True
)
def a_cast_that_fails(world, fix="cast"):
    frame = world.json('{"a": "tea"}\n', "a STRING")
    world.rows(frame.select(getattr(F.col("a"), fix)("int")))


# --- sinks


@mistake("parqet", r"did you mean (\w+)\?")
def a_misspelt_format(world, fix="parqet"):
    sinks.files(world.out(), format=fix)


@mistake("no column shp", r"did you mean (\w+)\?")
def a_partition_by_no_column(world, fix="shp"):
    sink = sinks.files(world.out(), partition_by=[fix])
    world.tries(world.sales(), sink, **world.kept())


@mistake("column window is struct<.*csv", r"(windows\.flatten) makes")
def a_window_into_csv(world, fix="lambda frame: frame"):
    frame = evaluated(fix)(world.hours())
    sink = sinks.batch_files(world.out(), format="csv")
    world.tries(frame, sink, **world.kept())


@mistake("column window is struct<", r"(windows\.flatten) makes")
def a_window_into_a_database(world, fix="lambda frame: frame"):
    frame = evaluated(fix)(world.hours())
    world.tries(frame, sinks.sql_table(world.database(), "t"), **world.kept())


@mistake("column window is struct<", r"(windows\.flatten) makes")
def a_window_into_a_snapshot(world, fix="lambda frame: frame"):
    frame = evaluated(fix)(world.hours())
    world.tries(frame, sinks.snapshot(world.folder / "t.csv"), mode="complete")


@mistake("column tags is array<string>", r"(F\.to_json\('tags'\))")
def an_array_into_a_database(world, fix="F.col('tags')"):
    frame = world.sales().select(F.split("shop", ",").alias("tags"))
    frame = frame.select(evaluated(fix).alias("tags"))
    world.tries(frame, sinks.sql_table(world.database(), "t"), **world.kept())


@mistake("column tags is array<string>.*csv", r"(F\.to_json)\(column\)")
def an_array_into_csv(world, fix="F.col"):
    frame = world.sales().select("shop", F.split("shop", ",").alias("tags"))
    frame = frame.select("shop", evaluated(fix)("tags").alias("tags"))
    world.tries(frame, sinks.batch_files(world.out(), format="csv"), **world.kept())


@mistake("how='upsert', keys=", r"how='upsert', (keys=\['shop'\])")
def an_upsert_without_keys(world, fix=""):
    sinks.sql_table(world.database(), "t", how="upsert", **keywords(fix))


@mistake("upsrt", r"did you mean (\w+)\?")
def a_misspelt_way_to_write(world, fix="upsrt"):
    sinks.sql_table(world.database(), "t", how=fix, keys=["shop"])


@mistake("jdbc:postgresql", r"(postgresql\+psycopg://user@host/name)")
def a_url_of_java(world, fix="jdbc:postgresql://host/db"):
    sinks.sql_table(fix, "t")


@mistake("not postgres;", r"did you mean (\w+)\?")
def a_url_of_postgres(world, fix="postgres"):
    sinks.sql_table(f"{fix}://user@host/db", "t")


@mistake("has .* where other databases have their server", r"four: (sqlite://)/(\S+)$")
def a_url_of_sqlite_with_two_slashes(world, begin="sqlite:/", path=None):
    path = path or f"{world.folder}/totals.db".lstrip("/")
    url = f"{begin}/{path}" if begin == "sqlite:/" else f"{begin}//{path}"
    sinks.sql_table(url, "t")


@mistake(
    "sql_table supports output mode append, not update",
    "'(upsert)' with keys for update",
)
def totals_that_are_appended_to_a_database(world, fix="append"):
    keys = ["shop"] if fix == "upsert" else []
    sink = sinks.sql_table(world.database(), "t", how=fix, keys=keys)
    totals = world.sales().groupBy("shop").count()
    world.tries(totals, sink, mode="update", **world.kept())


@mistake("files supports output mode append, not update", "use (append)")
def totals_into_files(world, fix="update"):
    frame = windows.flatten(world.hours())
    world.tries(frame, sinks.files(world.out()), mode=fix, **world.kept())


@mistake(r"out\.csv is a folder of parquet", "format='csv'")
def a_folder_with_the_name_of_a_format(world, fix=""):
    sinks.files(world.folder / "out.csv", **keywords(fix))


@mistake(r"t\.xml", r"must end in (\.csv)")
def a_snapshot_with_another_ending(world, fix=".xml"):
    sinks.snapshot(world.folder / f"t{fix}")


@mistake("memory names its query counts", "leave name=q out")
def a_name_for_a_table_in_memory(world, fix=""):
    name = None if fix else "q"
    world.tries(world.sales(), sinks.memory("counts"), name)


@mistake(r"write is save\(batch\)", r"def write(\(batch, batch_id\))")
def a_function_of_one_argument(world, fix="(batch)"):
    names: dict[str, Any] = {}
    exec(f"def save{fix}: pass", names)  # noqa: S102 - of a message of the kit
    sinks.foreach_batch(names["save"])


@mistake(r"sinks\.foreach_batch\(\): write", "a function (without async)")
def an_async_function(world, fix=""):
    async def slow(batch, batch_id):
        pass

    def plain(batch, batch_id):
        pass

    write: Any = plain if fix else slow
    sinks.foreach_batch(write)


# --- joins and state


@mistake("no column shp", r"did you mean (\w+)\?")
def a_join_on_no_column(world, fix="shp"):
    shops = world.spark.createDataFrame([("A", "Ulm")], "shop STRING, town STRING")
    joins.with_table(world.sales(), shops, on=fix)


@mistake("key shop is string in stream and int in table", "(cast) one of them")
def a_join_of_two_types(world, fix=""):
    shops = world.spark.createDataFrame([], "shop INT, town STRING")
    if fix:
        shops = shops.withColumn("shop", F.col("shop").cast("string"))
    joins.with_table(world.sales(), shops, on="shop")


@mistake("no column user", r"the columns are: \w+, (\w+)")
def a_state_by_no_column(world, fix="user"):
    state.once(world.timed(), fix, "at", within="1 hour")


# --- the session, the flags of a job, and commands


@mistake("unknown profile tset", r"did you mean (\w+)\?")
def a_misspelt_profile(world, fix="tset"):
    get_session("mistakes", profile=fix)


@mistake("spark.driver.memory=3g", r"call spark\.stop\(\) first")
def a_setting_that_comes_too_late(world, fix=""):
    conf = {} if fix else {"spark.driver.memory": "3g"}
    get_session("mistakes", profile="test", conf=conf)


@mistake("spark.sql.shuffle.partions", r"did you mean ([\w.]+)\?")
def a_misspelt_setting(world, fix="spark.sql.shuffle.partions"):
    value = world.spark.conf.get("spark.sql.shuffle.partitions")
    get_session("mistakes", profile="test", conf={fix: value})


def job(world, *words):
    """Read the flags of a job with an input and an output folder."""
    flags = (*jobflags.LINES, *jobflags.FOLDER, *jobflags.EVENT_TIME, *jobflags.RUN)
    world.put("in/a.json", "{}")
    folders = [world.folder / "in", world.out()]
    given = [*map(str, folders), *words]
    return jobflags.parser("Totals.", *flags).parse_args(given)


@mistake("--avalable-now", r"did you mean (--[\w-]+)\?")
def a_misspelt_flag(world, fix="--avalable-now"):
    job(world, fix)


@mistake("--trigger: .*'5 secs'", "write it like '(10 seconds)'")
def a_trigger_in_other_words(world, fix="5 secs"):
    job(world, "--trigger", fix)


@mistake("--run-for: '10 seconds'", r"such as (\d+)")
def seconds_with_a_unit(world, fix="10 seconds"):
    job(world, "--run-for", fix)


@mistake("--watermark: .*'10'", "write it like '(10 seconds)'")
def a_delay_without_a_unit(world, fix="10"):
    job(world, "--watermark", fix)


@mistake("folder .*/no-such does not exist", "create it")
def a_job_on_no_folder(world, fix=""):
    if fix:
        world.put("no-such/a.json", "{}")
    flags = jobflags.parser("Totals.", *jobflags.LINES)
    flags.parse_args([str(world.folder / "no-such")])


@mistake("'chekpoint'", "Did you mean '(checkpoint)'")
def a_misspelt_command(world, fix="chekpoint"):
    command(fix, "--help")


@mistake("--format cvs", r"did you mean (\w+)\?")
def a_format_of_a_command(world, fix="cvs"):
    folder = world.put("a/a.csv", "product,price\ntea,2\n")
    command("schema", folder, "--format", fix)


@mistake("no-such does not exist", "give the path")
def a_command_on_no_file(world, fix=""):
    folder = world.put("a/a.csv", "product,price\ntea,2\n")
    command("schema", folder if fix else folder / "no-such")


@mistake("unknown connector kafak", r"did you mean (\w+)\?")
def a_misspelt_connector(world, fix="kafak"):
    command("connectors", fix)


@mistake("my job is no name for a job", r"such as ([\w-]+)")
def a_project_with_a_blank(world, fix="my job"):
    with contextlib.chdir(world.folder):
        command("new", fix)


@mistake("ckpt_s is no checkpoint", r"give (\S+)", runs=True)
def the_folder_above_checkpoints(world, fix=None):
    folder = world.folder / "ckpt_s"
    if fix is None:
        sink = sinks.foreach_batch(lambda batch, batch_id: None)
        how: Any = {"name": "q", "availableNow": True}
        run(start(world.sales(), sink, checkpoint=folder / "sales", **how))
    command("checkpoint", "show", fix or folder)


# --- a database that asks for a password


@mistake("no password supplied", "password in (PGPASSWORD)", runs=True)
def no_password(world, fix=""):
    log_in(world, password=fix and postgresql.server().password)


@mistake(
    'password authentication failed for user "kit"',
    "password in (PGPASSWORD)",
    runs=True,
)
def a_wrong_password(world, fix=""):
    log_in(world, password=postgresql.server().password if fix else "wrong")


@mistake('database "no_such" does not exist', "correct the URL", runs=True)
def no_such_database(world, fix=""):
    name = "postgres" if fix else "no_such"
    log_in(world, password=postgresql.server().password, name=name)


def log_in(world, password, name="postgres"):
    """Check a start on PostgreSQL, with the password in the environment."""
    address = postgresql.server().url.rpartition("@")[2].partition("/")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(world.folder))
        patch.delenv("PGPASSWORD", raising=False)
        if password:
            patch.setenv("PGPASSWORD", password)
        sink = sinks.sql_table(f"postgresql://kit@{address}/{name}", "mistakes")
        world.tries(world.sales(), sink, **world.kept())


# --- the judge


@pytest.mark.parametrize("case", CASES)
def test_one_line_says_what_was_given_and_a_fix_that_works(case, spark, tmp_path):
    with pytest.raises(errors.KitError) as caught:
        case.make(World(spark, tmp_path / "wrong"))
    line = str(caught.value)
    assert caught.value.exit_code == case.code
    assert "\n" not in line
    assert not re.search(r"Traceback|\bat (?:org|java|scala)\.|SQLSTATE|Py4J", line)
    assert len(line) <= LONGEST
    assert re.search(case.given, line), line
    fix = re.search(case.fix, line)
    assert fix, line
    chosen = [group for group in fix.groups() if group] or [fix[0]]
    case.make(World(spark, tmp_path / "right"), *chosen)


def test_there_are_as_many_as_beginners_make():
    assert len(CASES) >= 100
    assert len({case.id for case in CASES}) == len(CASES)


# Errors of Spark where a user calls it, of which only a job makes one line: the call, the
# exit code, and the words of the line
OF_SPARK = {
    "a stream that is shown": (
        "frame.show()",
        1,
        r"must be executed with writeStream\.start",
    ),
    "a column that is not there": (
        "frame.select('amout')",
        1,
        r"`amout` .*Did you mean .*\[`amount`\]",
    ),
    "a window over a number": (
        "frame.groupBy(windows.tumbling('amount', '1 hour')).count()",
        2,
        r"amount is int, not a timestamp; make it one first: frame\.withColumn",
    ),
}


@pytest.mark.slow  # each starts Spark
@pytest.mark.parametrize("name", OF_SPARK)
def test_a_job_makes_one_line_of_an_error_of_spark(name, tmp_path):
    code, exit_code, said = OF_SPARK[name]
    script = tmp_path / "job.py"
    script.write_text(JOB.format(code))
    (tmp_path / "in").mkdir()
    done = process([sys.executable, script], cwd=tmp_path, env=environment())
    assert done.returncode == exit_code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(said, done.stderr), done.stderr


JOB = """\
from sparkstream_kit import get_session, jobflags, sources, windows

@jobflags.exit_codes
def main(argv=None):
    spark = get_session("mistakes", profile="test")
    frame = sources.json(spark, "in", schema="amount INT")
    {}
    return 0

raise SystemExit(main())
"""
