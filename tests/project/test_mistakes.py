"""Mistakes of beginners: one line says what was wrong, what was given, and a fix that works.

Each mistake is a function. Its last argument is what was written: by default the
mistake. The judge makes the mistake, takes the fix out of the words of the message, and
makes the call again with what the message says in place of the mistake.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT
from pyspark.sql import functions as F
from pyspark.sql import types as T
from support import postgresql

from sparkstream_kit import (
    errors,
    get_session,
    joins,
    jobflags,
    quarantine,
    run,
    schemas,
    sinks,
    sources,
    start,
    state,
    windows,
)


class World:
    """What a beginner has: a session, a folder, and a few calls."""

    def __init__(self, spark, folder):
        self.spark = spark
        self.folder = folder

    def put(self, name, text):
        """Write a file, and return the folder that it is in."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path.parent

    def lines(self):
        return sources.text(self.spark, self.put("lines/a.txt", "one\ntwo\n"))

    def sales(self):
        """A stream of sales that nothing is wrong with."""
        folder = self.put(
            "sales/a.json",
            '{"at":"2026-01-01T10:00:00Z","shop":"A","amount":2}\n',
        )
        columns = "at TIMESTAMP, shop STRING, amount INT"
        return sources.json(self.spark, folder, schema=columns)

    def timed(self):
        return windows.with_watermark(self.sales(), "at", "10 minutes")

    def tries(self, frame, sink=None, name="q", **how):
        """Check a start, without a query."""
        sink = sink or sinks.console()
        return start(frame, sink, name=name, dry_run=True, **how)

    def rows(self, frame, **how):
        """Run a query over all that is there, and return its rows."""
        query = start(frame, sinks.memory("mistakes"), availableNow=True, **how)
        run(query)
        return [tuple(row) for row in self.spark.table("mistakes").collect()]


def keywords(text):
    """Return the arguments of a text such as "header=True"."""
    return eval(f"dict({text})")  # noqa: S307 - of a message of the kit


class Mistake(NamedTuple):
    make: Callable[..., Any]
    given: str
    fix: str
    error: type[Exception]
    code: int


MISTAKES: dict[str, Mistake] = {}


def mistake(given, fix, *, code=2, error=errors.KitError):
    """Add a mistake to those that are judged.

    Args:
        given: words of the message that say what was given, as a regular expression.
        fix: words of the message that say what to do. Its groups are what the function
            is called with then.
        code: the exit code of a job that ends so.
        error: the class of the error.
    """

    def add(make):
        name = make.__name__.replace("_", " ")
        MISTAKES[name] = Mistake(make, given, fix, error, code)
        return make

    return add


# --- reading files


@mistake("input folder .*/no-such", r"create it")
def a_folder_that_is_not_there(world, fix=""):
    if fix:
        world.put("no-such/a.json", "{}")
    sources.json(world.spark, world.folder / "no-such", schema="a INT")


@mistake("sales/a.csv is a file", r"give the folder.* (/\S+)")
def a_file_in_place_of_a_folder(world, path=""):
    folder = world.put("sales/a.csv", "1\n")
    frame = sources.csv(world.spark, path or folder / "a.csv", schema="a INT")
    assert frame.columns == ["a"]


@mistake("price", r"header=True", code=1)
def a_header_forgotten(world, fix=""):
    folder = world.put("a/a.csv", "product,price\ntea,2.50\n")
    frame = sources.csv(
        world.spark,
        folder,
        schema="product STRING, price DECIMAL(9,2)",
        **keywords(fix),
    )
    assert len(world.rows(frame)) == 1


@mistake("product;price", r"sep=';'", code=1)
def semicolons_below_a_header(world, fix=""):
    folder = world.put("a/a.csv", "product;price\ntea;2.50\n")
    frame = sources.csv(
        world.spark,
        folder,
        schema="product STRING, price DECIMAL(9,2)",
        header=True,
        **keywords(fix),
    )
    assert len(world.rows(frame)) == 1


@mistake("tea;2.50", r"sep=';'", code=1)
def semicolons_without_a_header(world, fix=""):
    folder = world.put("a/a.csv", "tea;2.50\n")
    frame = sources.csv(
        world.spark,
        folder,
        schema="product STRING, price DECIMAL(9,2)",
        **keywords(fix),
    )
    assert len(world.rows(frame)) == 1


@mistake("2,50", r"locale='de-DE'", code=1)
def a_decimal_comma(world, fix=""):
    folder = world.put("a/a.csv", "product;price\ntea;2,50\n")
    frame = sources.csv(
        world.spark,
        folder,
        schema="product STRING, price DECIMAL(9,2)",
        header=True,
        sep=";",
        **keywords(fix),
    )
    assert len(world.rows(frame)) == 1


@mistake("31.01.2026", r"dateFormat='[^']*'", code=1)
def a_date_in_another_form(world, fix=""):
    folder = world.put("a/a.csv", "tea,31.01.2026\n")
    frame = sources.csv(
        world.spark, folder, schema="product STRING, day DATE", **keywords(fix)
    )
    assert len(world.rows(frame)) == 1


@mistake("a.json", r"multiLine=True", code=1)
def a_printed_array(world, fix=""):
    folder = world.put("a/a.json", '[\n  {"a": 1},\n  {"a": 2}\n]\n')
    frame = sources.json(world.spark, folder, schema="a INT", **keywords(fix))
    assert len(world.rows(frame)) == 2


@mistake("a.json", r"multiLine=True", code=1)
def a_printed_object(world, fix=""):
    folder = world.put("a/a.json", '{\n  "a": 1\n}\n')
    frame = sources.json(world.spark, folder, schema="a INT", **keywords(fix))
    assert len(world.rows(frame)) == 1


@mistake("a.json", r"allowSingleQuotes=True", code=1)
def a_printed_dict_of_python(world, fix=""):
    folder = world.put("a/a.json", "{'a': 1}\n")
    frame = sources.json(world.spark, folder, schema="a INT", **keywords(fix))
    assert len(world.rows(frame)) == 1


@mistake("a.json", r"[Bb]lank", code=1)
def a_blank_line_in_json(world, fix=""):
    folder = world.put("a/a.json", '{"a": 1}\n\n{"a": 2}\n')
    frame = sources.json(world.spark, folder, schema="a INT", **keywords(fix))
    assert len(world.rows(frame)) == 2


@mistake("three", r"declare .* (STRING)", code=1)
def a_text_in_a_column_of_numbers(world, fix="INT"):
    folder = world.put("a/a.json", '{"a": 1}\n{"a": "three"}\n')
    frame = sources.json(world.spark, folder, schema=f"a {fix}")
    assert len(world.rows(frame)) == 2


@mistake("needs a schema", r"give schema='([^']*)'")
def no_schema(world, fix=""):
    folder = world.put("a/a.csv", "tea,2\n")
    sources.csv(world.spark, folder, **({"schema": fix} if fix else {}))


@mistake("amout INTT|INTT", r"did you mean (\w+)\?")
def a_misspelt_type(world, fix="INTT"):
    folder = world.put("a/a.csv", "tea,2\n")
    sources.csv(world.spark, folder, schema=f"product STRING, amount {fix}")


@mistake("unit price", r"backticks.*(`unit price`)")
def a_column_with_a_blank(world, fix="unit price"):
    folder = world.put("a/a.csv", "tea,2\n")
    frame = sources.csv(world.spark, folder, schema=f"product STRING, {fix} INT")
    assert frame.columns[1] == "unit price"


@mistake("headr", r"did you mean (\w+)\?")
def a_misspelt_option(world, fix="headr"):
    folder = world.put("a/a.csv", "tea,2\n")
    sources.csv(world.spark, folder, schema="product STRING, amount INT", **{fix: True})


@mistake("'2 hours'", r"'(\d+h)'")
def an_age_in_words(world, fix="2 hours"):
    folder = world.put("a/a.txt", "tea\n")
    sources.text(world.spark, folder, maxFileAge=fix)


@mistake("max_files_per_trigger.* 0", r"(1) or more")
def no_files_at_all(world, fix="0"):
    folder = world.put("a/a.txt", "tea\n")
    sources.text(world.spark, folder, max_files_per_trigger=int(fix))


@mistake("max_files_per_trigger is '10'", r"give a whole number")
def a_number_as_text(world, fix=""):
    folder = world.put("a/a.txt", "tea\n")
    most = 10 if fix else "10"
    sources.text(world.spark, folder, max_files_per_trigger=most)


@mistake("name STRING", r"sources\.csv")
def a_schema_for_text(world, fix="text"):
    folder = world.put("a/a.txt", "tea\n")
    read = getattr(sources, fix.rpartition(".")[2])
    read(world.spark, folder, schema="name STRING")


@mistake("csv", r"sources\.(csv|text)", code=1)
def files_of_csv_as_parquet(world, fix="parquet"):
    folder = world.put("a/a.csv", "tea\n")
    how = {} if fix == "text" else {"schema": "product STRING"}
    frame = getattr(sources, fix)(world.spark, folder, **how)
    assert len(world.rows(frame)) == 1


@mistake("~/sales", r"(os\.path\.expanduser\([^)]*\))")
def a_path_with_a_tilde(world, fix="'~/sales'"):
    world.put("sales/a.txt", "tea\n")
    os.environ["HOME"] = str(world.folder)
    sources.text(world.spark, eval(fix))  # noqa: S307


@mistake("class", r"give .*T\.StructType|write|IntegerType\(\)")
def a_class_of_a_type(world, fix=""):
    folder = world.put("a/a.csv", "1\n")
    kind = T.IntegerType() if fix else T.IntegerType
    schema = (
        T.StructType([T.StructField("a", kind)]) if fix else schemas.schema_of(a=kind)
    )
    sources.csv(world.spark, folder, schema=schema)


@mistake("list|\\['", r"schema=|StructType")
def a_list_of_names_as_schema(world, fix=""):
    folder = world.put("a/a.csv", "1\n")
    sources.csv(world.spark, folder, schema="a INT" if fix else ["a"])


@mistake("host:1|127.0.0.1:1", r"nc -lk", code=75)
def a_port_nobody_listens_on(world, fix=""):
    if fix:
        return
    frame = sources.socket_lines(world.spark, "127.0.0.1", 1)
    world.rows(frame)


# --- parsing lines


@mistake("columns at, shop|parse_json", r"sources\.(text)")
def rows_to_a_parser(world, fix="json"):
    folder = world.put("a/a.json", '{"a": 1}\n')
    how = {"schema": "a INT"} if fix == "json" else {}
    lines = getattr(sources, fix)(world.spark, folder, **how)
    quarantine.parse_json(lines, "a INT")


@mistake("columns|parse_csv", r"sources\.(text)")
def rows_of_csv_to_a_parser(world, fix="csv"):
    folder = world.put("a/a.csv", "1\n")
    how = {"schema": "a STRING, b STRING"} if fix == "csv" else {}
    lines = getattr(sources, fix)(world.spark, folder, **how)
    quarantine.parse_csv(lines, "a STRING, b STRING")


@mistake("%d.%m.%Y", r"write it as Spark does.*'(dd\.MM\.yyyy)'")
def a_pattern_of_python(world, fix="%d.%m.%Y"):
    quarantine.parse_csv(world.lines(), "a DATE", dateFormat=fix)


@mistake("no such rule|drop", r"did you mean|known|quarantine")
def a_word_for_a_rule(world, fix="drop"):
    quarantine.expect(world.sales(), {"amount > 0": fix})


@mistake("amout", r"did you mean (\w+)\?")
def a_rule_on_no_column(world, fix="amout"):
    quarantine.expect(world.sales(), {f"{fix} > 0": "quarantine"})


# --- windows and watermarks


@mistake("tiem", r"did you mean (\w+)\?")
def a_watermark_on_no_column(world, fix="ta"):
    windows.with_watermark(world.sales(), fix, "10 minutes")


@mistake("shop is string", r"make it one first: (frame\.withColumn.*)")
def a_watermark_on_a_text(world, fix="frame"):
    frame = world.sales()
    frame = eval(fix)  # noqa: S307
    windows.with_watermark(frame, "shop", "10 minutes")


@mistake("10 minuts", r"did you mean '?(\w+)|'(10 seconds)'")
def a_misspelt_duration(world, fix="10 minuts"):
    windows.with_watermark(world.sales(), "at", fix)


@mistake("'10m'|10m", r"'(10 minutes|10 seconds)'")
def a_short_duration(world, fix="10m"):
    windows.tumbling("at", fix)


@mistake("size is 10|10", r"'(10 seconds)'")
def a_duration_as_a_number(world, fix=10):
    windows.tumbling("at", fix)


@mistake("slide 2 hours", r"give a shorter slide")
def a_slide_longer_than_the_window(world, fix=""):
    windows.sliding("at", "1 hour", "30 minutes" if fix else "2 hours")


@mistake("1 month", r"days")
def a_window_of_a_month(world, fix=""):
    windows.tumbling("at", "30 days" if fix else "1 month")


@mistake("shop.*string", r"timestamp")
def a_window_over_a_text(world, fix="shop"):
    frame = world.sales().groupBy(
        windows.tumbling("at" if fix == "timestamp" else fix, "1 hour")
    )
    world.tries(frame.count(), mode="complete")


@mistake("Berln", r"did you mean ([\w/]+)\?")
def a_misspelt_time_zone(world, fix="Europe/Berln"):
    windows.calendar(world.timed(), "at", "day", zone=fix)


@mistake("already has a watermark", r"once|leave")
def two_watermarks(world, fix=""):
    frame = world.timed()
    if not fix:
        windows.with_watermark(frame, "at", "10 minutes")


# --- what Spark cannot do with a stream


@mistake("mode append", r"mode='(update)'")
def a_total_without_a_watermark(world, fix="append"):
    world.tries(world.sales().groupBy("shop").count(), mode=fix)


@mistake("mode complete", r"mode='(append)'")
def mode_complete_without_a_total(world, fix="complete"):
    world.tries(world.sales(), mode=fix)


@mistake("two aggregations", r"mode='(append)' and a watermark")
def two_aggregations(world, fix="complete"):
    frame = world.timed()
    if fix == "append":
        hours = frame.groupBy(windows.tumbling("at", "1 hour"), "shop").count()
        days = hours.groupBy(F.window(F.window_time("window"), "1 day")).count()
    else:
        days = frame.groupBy("shop").count().groupBy().count()
    world.tries(days, mode=fix)


@mistake("sort", r"leave out orderBy")
def a_sorted_stream(world, fix=""):
    frame = world.sales()
    world.tries(frame if fix else frame.orderBy("amount"))


@mistake("limit", r"leave out limit|mode='append'")
def a_limited_stream(world, fix=""):
    frame = world.sales()
    world.tries(frame if fix else frame.limit(3), mode="update")


@mistake("row_number|ROW_NUMBER|window", r"windows\.top|windows\.")
def a_ranking_of_a_stream(world, fix=""):
    from pyspark.sql import Window

    frame = world.sales()
    if not fix:
        over = Window.partitionBy("shop").orderBy("amount")
        frame = frame.withColumn("n", F.row_number().over(over))
    world.tries(frame)


@mistake("distinct|DISTINCT", r"approx_count_distinct")
def a_distinct_count(world, fix=""):
    count = F.approx_count_distinct if fix else F.countDistinct
    world.tries(world.sales().groupBy("shop").agg(count("amount")), mode="update")


@mistake("outer|[Ll]eft", r"watermark")
def an_outer_join_without_a_watermark(world, fix=""):
    one = world.timed() if fix else world.sales()
    two = world.timed() if fix else world.sales()
    two = two.select(F.col("at").alias("paid"), F.col("shop").alias("s"))
    near = F.expr("paid BETWEEN at AND at + INTERVAL 1 HOUR AND s = shop")
    world.tries(one.join(two, near, "left"))


@mistake("does not stream", r"spark\.(readStream)")
def a_frame_that_does_not_stream(world, fix="read"):
    folder = world.put("a/a.json", '{"a": 1}\n')
    world.tries(getattr(world.spark, fix).schema("a INT").json(str(folder)))


@mistake("load|rate", r"\.load\(")
def a_reader_without_load(world, fix=""):
    frame = world.spark.readStream.format("rate")
    world.tries(frame.load() if fix else frame)


@mistake("groupBy|GroupedData", r"aggregation|count\(\)")
def a_group_without_a_total(world, fix=""):
    frame = world.sales().groupBy("shop")
    world.tries(frame.count() if fix else frame, mode="complete")


# --- start and run


@mistake("chekpoint", r"did you mean (\w+)\?")
def a_misspelt_keyword(world, fix="chekpoint"):
    world.tries(world.sales(), **{fix: world.folder / "ckpt"})


@mistake("proccessingTime", r"did you mean (\w+)\?")
def a_misspelt_trigger(world, fix="proccessingTime"):
    world.tries(world.sales(), **{fix: "5 seconds"})


@mistake("processingTime.*5", r"'(10 seconds)'")
def a_trigger_without_a_unit(world, fix="5"):
    world.tries(world.sales(), processingTime=fix)


@mistake("availableNow is 'true'|availableNow", r"availableNow=True")
def a_switch_as_text(world, fix=""):
    how = keywords(fix) or {"availableNow": "true"}
    world.tries(world.sales(), **how)


@mistake(
    "availableNow and processingTime|processingTime and availableNow", r"leave out"
)
def two_triggers(world, fix=""):
    how = {} if fix else {"processingTime": "5 seconds"}
    world.tries(world.sales(), availableNow=True, **how)


@mistake("updte", r"append|did you mean (\w+)\?|(update)")
def a_misspelt_mode(world, fix="updte"):
    world.tries(world.sales().groupBy("shop").count(), mode=fix)


@mistake("Complete", r"(complete)")
def a_mode_in_capitals(world, fix="Complete"):
    world.tries(world.sales().groupBy("shop").count(), mode=fix)


@mistake("needs a name", r"name=")
def no_name(world, fix=""):
    world.tries(world.sales(), name="q" if fix else None)


@mistake("console", r"sinks\.console\(\)")
def a_sink_as_text(world, fix="'console'"):
    world.tries(world.sales(), eval(fix))  # noqa: S307


@mistake("console", r"(sinks\.console\(\))")
def a_sink_that_is_not_called(world, fix="sinks.console"):
    world.tries(world.sales(), eval(fix))  # noqa: S307


@mistake("needs a checkpoint", r"checkpoint='folder'")
def no_checkpoint(world, fix=""):
    how = {"checkpoint": world.folder / "ckpt"} if fix else {}
    world.tries(world.sales(), sinks.batch_files(world.folder / "out"), **how)


@mistake("sales/ckpt", r"put it elsewhere")
def a_checkpoint_in_the_input(world, fix=""):
    folder = "ckpt" if fix else "sales/ckpt"
    world.tries(world.sales(), checkpoint=world.folder / folder)


@mistake("sales", r"put it elsewhere")
def output_in_the_input(world, fix=""):
    out = world.folder / ("out" if fix else "sales/out")
    world.tries(world.sales(), sinks.batch_files(out), checkpoint=world.folder / "ckpt")


@mistake("list|\\[", r"\*|one by one")
def a_list_of_queries(world, fix=""):
    query = world.tries(world.sales())
    with pytest.raises(errors.DryRun):
        run(query) if fix else run([query])


@mistake("'60'", r"number")
def a_time_as_text(world, fix=""):
    query = world.tries(world.sales())
    with pytest.raises(errors.DryRun):
        run(query, run_for=60 if fix else "60")


@mistake("at least one query", r"start\(")
def no_query(world, fix=""):
    if fix:
        with pytest.raises(errors.DryRun):
            run(world.tries(world.sales()))
    else:
        run()


# --- sinks


@mistake("parqet", r"did you mean (\w+)\?")
def a_misspelt_format(world, fix="parqet"):
    sinks.files(world.folder / "out", format=fix)


@mistake("shp", r"did you mean (\w+)\?")
def a_partition_by_no_column(world, fix="shp"):
    sink = sinks.files(world.folder / "out", partition_by=[fix])
    world.tries(world.sales(), sink, checkpoint=world.folder / "ckpt")


@mistake("window", r"(windows\.flatten\([^)]*\))")
def a_window_into_csv(world, fix="frame"):
    frame = world.timed().groupBy(windows.tumbling("at", "1 hour")).count()
    frame = eval(fix)  # noqa: S307
    sink = sinks.batch_files(world.folder / "out", format="csv")
    world.tries(frame, sink, checkpoint=world.folder / "ckpt")


@mistake("window", r"(windows\.flatten\([^)]*\))")
def a_window_into_a_database(world, fix="frame"):
    frame = world.timed().groupBy(windows.tumbling("at", "1 hour")).count()
    frame = eval(fix)  # noqa: S307
    sink = sinks.sql_table(f"sqlite:///{world.folder}/db", "t")
    world.tries(frame, sink, checkpoint=world.folder / "ckpt")


@mistake("tags", r"(F\.to_json\('tags'\)|F\.concat_ws\([^)]*\))")
def an_array_into_a_database(world, fix="'tags'"):
    frame = world.sales().select(F.split("shop", ",").alias("tags"))
    frame = frame.select(F.to_json("tags").alias("tags")) if "to_json" in fix else frame
    sink = sinks.sql_table(f"sqlite:///{world.folder}/db", "t")
    world.tries(frame, sink, checkpoint=world.folder / "ckpt")


@mistake("upsert", r"keys=\['?")
def an_upsert_without_keys(world, fix=""):
    how = {"keys": ["shop"]} if fix else {}
    sinks.sql_table(f"sqlite:///{world.folder}/db", "t", how="upsert", **how)


@mistake("upsrt", r"did you mean (\w+)\?")
def a_misspelt_way_to_write(world, fix="upsrt"):
    sinks.sql_table(f"sqlite:///{world.folder}/db", "t", how=fix, keys=["shop"])


@mistake("jdbc:postgresql", r"(postgresql\+psycopg://\S+?)['; ]")
def a_url_of_jdbc(world, fix="jdbc:postgresql://host/db"):
    sinks.sql_table(fix, "t")


@mistake("postgres://", r"(postgresql\+psycopg://|postgresql://)")
def a_url_of_heroku(world, fix="postgres://"):
    sinks.sql_table(f"{fix}kit@host/db", "t")


@mistake("sqlite://?/", r"(sqlite:///)")
def a_url_of_sqlite_with_too_few_slashes(world, fix="sqlite://"):
    sinks.sql_table(f"{fix}{world.folder.name}/db", "t")


@mistake("update", r"how='upsert'|upsert")
def totals_that_are_appended_to_a_database(world, fix=""):
    how = {"how": "upsert", "keys": ["shop"]} if fix else {}
    sink = sinks.sql_table(f"sqlite:///{world.folder}/db", "t", **how)
    totals = world.sales().groupBy("shop").count()
    world.tries(totals, sink, mode="update", checkpoint=world.folder / "ckpt")


@mistake("mode|update", r"batch_files|append|mode='append'")
def totals_into_files(world, fix="update"):
    frame = world.timed().groupBy(windows.tumbling("at", "1 hour")).count()
    frame = windows.flatten(frame)
    sink = sinks.files(world.folder / "out")
    world.tries(
        frame,
        sink,
        mode="append" if fix != "update" else fix,
        checkpoint=world.folder / "c",
    )


@mistake("out.csv", r"format=\"csv\"|format='csv'")
def a_folder_with_the_name_of_a_format(world, fix=""):
    sinks.files(world.folder / "out.csv", **keywords(fix))


@mistake("arguments|batch_id", r"def |\(batch, batch_id\)|two")
def a_function_of_one_argument(world, fix=""):
    one = (lambda batch, batch_id: None) if fix else (lambda batch: None)
    world.tries(world.sales(), sinks.foreach_batch(one))


@mistake("async", r"def")
def an_async_function(world, fix=""):
    async def slow(batch, batch_id):
        pass

    def plain(batch, batch_id):
        pass

    sinks.foreach_batch(plain if fix else slow)


# --- joins and state


@mistake("shp", r"did you mean (\w+)\?")
def a_join_on_no_column(world, fix="shp"):
    shops = world.spark.createDataFrame([("A", "Ulm")], "shop STRING, town STRING")
    joins.with_table(world.sales(), shops, on=fix)


@mistake("id", r"cast")
def a_join_of_two_types(world, fix=""):
    kind = "STRING" if fix else "INT"
    shops = world.spark.createDataFrame([], f"shop {kind}, town STRING")
    joins.with_table(world.sales(), shops, on="shop")


# --- the session and the command line


@mistake("locl", r"did you mean (\w+)\?")
def a_misspelt_profile(world, fix="locl"):
    get_session("mistakes", profile=fix)


@mistake("spark.driver.memory", r"spark\.stop\(\)")
def a_setting_that_comes_too_late(world, fix=""):
    conf = {} if fix else {"spark.driver.memory": "3g"}
    get_session("mistakes", profile="test", conf=conf)


@mistake("spark.sql.shuffle.partions", r"did you mean ([\w.]+)\?")
def a_misspelt_setting(world, fix="spark.sql.shuffle.partions"):
    get_session("mistakes", profile="test", conf={fix: "2"})


def show():
    """Print the message of each mistake."""
    import tempfile
    import sys
    import traceback

    spark = get_session("mistakes", profile="test", conf={"spark.master": "local[2]"})
    asked = sys.argv[1:]
    for name, each in MISTAKES.items():
        if asked and not any(word in name for word in asked):
            continue
        world = World(spark, Path(tempfile.mkdtemp()))
        begin = time.monotonic()
        try:
            each.make(world)
            print(f"\n## {name}\n   NO ERROR", flush=True)
            continue
        except Exception as err:
            text = str(err)
            kind = type(err).__name__
            code = getattr(err, "exit_code", None)
        ok = isinstance(code, int) and code == each.code and "\n" not in text
        ok = ok and re.search(each.given, text) is not None
        found = re.search(each.fix, text)
        applied = ""
        if found:
            args = [group for group in found.groups() if group] or [found[0]]
            try:
                each.make(World(spark, Path(tempfile.mkdtemp())), *args)
                applied = "fix works"
            except Exception as err:
                applied = f"FIX FAILS {type(err).__name__}: {str(err)[:300]}"
        else:
            applied = "NO FIX"
        took = time.monotonic() - begin
        print(
            f"\n## {name} [{took:.1f}s] {'ok' if ok else 'BAD'} {applied}\n   {kind} {code}: {text[:700]}",
            flush=True,
        )


if __name__ == "__main__":
    show()
