"""Wrong objects for the arguments of every public call; `inspect` finds the calls and their arguments."""

import dataclasses
import inspect
import pkgutil
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import cases
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, StructField, StructType

import sparkstream_kit
from sparkstream_kit import (
    dstreams,
    sinks,
    sources,
    start,
    state,
    testing,
)
from sparkstream_kit._arguments import said
from sparkstream_kit._spark import session
from sparkstream_kit.errors import InvalidInputError

# Whose arguments are no objects of a caller's: texts of a command line, and what all others stand on.
LEFT_OUT = {"cli", "errors", "jobflags"}
# What only the kit makes: their constructors take what it has checked.
MADE_HERE = {"Query", "Source", "Streams"}
# The methods of a rule of `state`, which the kit calls.
OF_RULES = {"due", "expire", "step"}

# What people confuse, by the parameter's name; and by its type, whatever its name.
NAMES = {
    *(
        "app_name",
        "backup",
        "checkpoint",
        "ddl",
        "folder",
        "format",
        "frame",
        "gap",
        "host",
        "length",
        "mode",
    ),
    *("name", "offset", "path", "port", "profile", "schema", "sink", "slide", "snapshot", "source", "spark"),
    *("stop_file", "table", "target", "time", "trigger", "url", "watermark"),
}
CALLED = {"function", "session class", "schema class"}
# The things below that each type of a signature takes, alone or as a part of a union.
TAKES = {
    "Callable": CALLED,
    "Column": {"column"},
    "DStream": {"stream"},
    "DataFrame": {"frame"},
    "DataStreamWriter": {"writer"},
    "Duration": {"string", "duration"},
    "Mapping[str, Any] | None": {"mapping", "none"},
    "Mapping[str | Path, str | Path]": {"mapping"},
    "Mapping[str, str]": {"mapping"},
    "None": {"none"},
    "Part": set[str](),
    "Path": {"path"},
    "Query": {"query"},
    "Sequence[str]": {"names"},
    "Sink": {"sink"},
    "SparkSession": {"session"},
    "StreamingContext": {"context"},
    "StreamingQuery": {"ended"},
    "StructType": {"schema"},
    "T.StructType": {"schema"},
    "_Frame": {"frame", "schema"},
    "bool": {"flag"},
    "float": {"number"},
    "int": {"number"},
    "os.PathLike": {"path"},
    "str": {"string"},
    "str | timedelta": {"string", "duration"},
}
# Confused under some names only.
PLAIN = {
    *("Mapping[str, Any] | None", "Sequence[str]", "bool", "float", "float | None", "int", "int | None"),
    *("str", "str | None"),
}
# What no look at a type can tell, with something to give where it is wanted.
NOT_LOOKED_AT: dict[str, Any] = {
    "Iterable[Any] | None": None,
    "Collection[int]": (),
    "Sequence[Record]": (),
    "Sequence[Sequence[str | None]]": [],
    "Any": None,  # options and triggers, which have tests of their own
    "Iterable[Mapping[str, Any]]": [],
    "Iterable[dict[str, Any]]": [],
    "Iterable[str]": [],
    "Rule | Sequence[Rule]": state.Jump(by=1),  # tests of its own
    "Iterable[str] | Callable[[], Iterable[str]]": [],
    "Iterable[tuple[Source, Iterable[Any], Iterable[Any]]]": [],
    "Iterable[tuple[str, str | bytes]]": [],
    "Sequence[tuple[str, float]]": [],
    "str | datetime | Mapping[str, Mapping[int, int | str]]": "earliest",  # tests of its own
    "str | datetime": "earliest",  # tests of its own, too
    "str | datetime | None": None,  # a time that is told in a line if it cannot be read
    "threading.Event | None": None,
    "tuple[str, str | timedelta] | None": None,  # a test of its own, too
}
# What is said of each thing.
SAID = {
    "none": "None",
    "number": "5",
    "flag": "True",
    "duration": "a timedelta",
    "string": "the string 'in'",
    "names": "a list",
    "mapping": "a dict",
    "path": "a PosixPath",
    "function": "the function sinks.memory",
    "module": "the module sinks",
    "session": "a SparkSession",
    "session class": "the class SparkSession",
    "builder": "a Builder",
    "frame": "a DataFrame",
    "pandas": "a pandas.DataFrame",
    "reader": "a DataStreamReader",
    "writer": "a DataStreamWriter",
    "groups": "a GroupedData",
    "column": "a Column",
    "schema": "a StructType",
    "schema class": "the class StructType",
    "field": "a StructField",
    "sink": "a Sink",
    "ended": "a StreamingQuery",
    "query": "a Query",
    "context": "a StreamingContext",
    "stream": "a DStream",
}


class Argument(NamedTuple):
    """A parameter of a public call."""

    call: str
    function: Callable[..., Any]
    name: str
    takes: str


def public_calls():
    """Return the functions, and the constructors and methods of classes, that the package's rooms export."""
    found: dict[str, Callable[..., Any]] = {}
    rooms = {room.name for room in pkgutil.iter_modules(sparkstream_kit.__path__) if room.name[0] != "_"}
    for room in sorted(rooms - LEFT_OUT):
        module = import_module(f"sparkstream_kit.{room}")
        for name in module.__all__:
            each = getattr(module, name)
            if inspect.isfunction(each):
                found[f"{room}.{name}"] = each
            elif inspect.isclass(each):
                if not dataclasses.is_dataclass(each) and name not in MADE_HERE:
                    found[f"{room}.{name}"] = each
                methods = {key: value for key, value in vars(each).items() if inspect.isfunction(value)}
                public = {key for key in methods if key == "__call__" or key[0] != "_"}
                for key in sorted(public - (OF_RULES if room == "state" else set())):
                    found[f"{room}.{name}.{key}"] = methods[key]
    return found


def taken(annotation):
    """Return the things that a type takes, as a whole or by the parts of a union; None if one is unknown."""
    parts = [annotation] if annotation in TAKES else re.split(r" \| (?![^\[]*\])", annotation)
    found = [TAKES.get(part, TAKES.get(part.partition("[")[0])) for part in parts]
    return None if None in found else set[str]().union(*filter(None, found))


def arguments():
    """Return all parameters of each public call that has one which people confuse."""
    found = []
    for call, function in public_calls().items():
        own = [
            Argument(call, function, name, str(parameter.annotation))
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.annotation is not parameter.empty
        ]
        if any(
            each.name in NAMES or (each.takes not in PLAIN | NOT_LOOKED_AT.keys() and taken(each.takes))
            for each in own
        ):
            found += own
    return found


@pytest.fixture(scope="module")
def things(spark):
    """What people give, by the names of `SAID`, and the objects whose methods are called."""
    frame = sources.rate(spark)
    ended = start(frame, sinks.memory("confused"))
    ended.stop()
    with ExitStack() as stack:
        stream = stack.enter_context(testing.streams(spark))
        made: dict[str, Any] = {
            "none": None,
            "number": 5,
            "flag": True,
            "duration": timedelta(1),
            "string": "in",
            "names": ["in"],
            "mapping": {"in": 1},
            "path": Path("in"),
            "function": sinks.memory,
            "module": sinks,
            "session": spark,
            "session class": SparkSession,
            "builder": SparkSession.builder,
            "frame": frame,
            "pandas": spark.range(1).toPandas(),
            "reader": spark.readStream,
            "writer": frame.writeStream,
            "groups": frame.groupBy("value"),
            "column": F.col("in"),
            "schema": frame.schema,
            "schema class": StructType,
            "field": StructField("in", IntegerType()),
            "sink": sinks.console(),
            "ended": ended,
            "query": stream.query(frame),
        }
        if not session.is_connect(spark):
            made["context"] = stack.enter_context(dstreams.streaming_context(spark, 1))
            made["stream"] = made["context"].queueStream([[("a", 1)]])
        yield made | {"Query": made["query"], "Sink": made["sink"], "Streams": stream}


def call_with(argument, value, things, stack):
    """Make the call with one argument as given, and with the others as they should be."""
    in_place, by_name = [], {}
    for name, parameter in inspect.signature(argument.function).parameters.items():
        if name == "self":
            in_place.append(things[argument.call.split(".")[1]])
            continue
        if name == argument.name:
            given = value
        elif parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD:
            continue
        elif parameter.annotation in NOT_LOOKED_AT:
            given = NOT_LOOKED_AT[parameter.annotation]
        else:
            given = things[min(taken(parameter.annotation) - {"none"}, key=list(SAID).index)]
        if parameter.kind is parameter.VAR_POSITIONAL:
            in_place.append(given)
        else:
            by_name[name] = given
    made = argument.function(*in_place, **by_name)
    if isinstance(made, AbstractContextManager):
        stack.enter_context(made)


LOOKED_AT = [each for each in arguments() if each.takes not in NOT_LOOKED_AT and each.name != "ignore"]


@pytest.mark.parametrize("argument", LOOKED_AT, ids=lambda each: f"{each.call}-{each.name}")
def test_each_wrong_object_is_one_line_that_says_what_was_given(argument, things, tmp_path, monkeypatch):
    if "context" not in things and argument.call.startswith("dstreams."):
        pytest.skip("there are no DStreams on Spark Connect")
    monkeypatch.chdir(tmp_path)
    name = argument.name
    if argument[::2] == ("windows.to_microseconds", "duration"):
        name = "in"  # as it is told to name it
    for wrong in [each for each in SAID if each in things and each not in taken(argument.takes)]:
        with ExitStack() as stack, pytest.raises(InvalidInputError) as caught:
            call_with(argument, things[wrong], things, stack)
        message = str(caught.value)
        assert re.match(rf"([\w.]+\(\): )?{name} is {re.escape(SAID[wrong])}; \w+", message), message
        assert "\n" not in message


def test_no_argument_of_a_public_call_has_a_type_that_is_not_looked_at():
    assert len(LOOKED_AT) > 150
    unknown = {each.takes for each in arguments() if taken(each.takes) is None} - set(NOT_LOOKED_AT)
    assert unknown == set(), "say in TAKES what such an argument takes"


# Calls as a user writes them, with the names of the things above and of the package, and what each is told.
CONFUSED = cases("""
start(frame, sinks.memory)
    start(): sink is the function sinks.memory; call it: sinks.memory(…)
start(frame, 'console')
    start(): sink is the string 'console'; did you mean sinks.console(…)?
start(frame, 'jdbc')
    start(): sink is the string 'jdbc'; give a sink, such as sinks.console()
start(frame.writeStream, sinks.console())
    start(): frame is a DataStreamWriter; give the DataFrame itself, without .writeStream
start(sinks.console(), frame)
    start(): frame is a Sink; give a DataFrame
start(frame.toPandas, sinks.console())
    start(): frame is the function DataFrame.toPandas; call it: DataFrame.toPandas(…)
start(None, sinks.console())
    start(): frame is None; give a DataFrame (a function without a return gives None)
start(pandas, sinks.console())
    start(): frame is a pandas.DataFrame; make it a DataFrame of Spark's: spark.createDataFrame(…)
start(frame, sinks.console(), mode='Append')
    unknown output mode Append; did you mean append?
start(frame, sinks.console(), mode='compelte')
    unknown output mode compelte; did you mean complete?
start(frame, sinks.console(), checkpoint=5)
    start(): checkpoint is 5; give a path
start(frame, sinks.console(), checkpoint='')
    start(): checkpoint is an empty string; give a path
start(frame, sinks.console(), chekpoint='in')
    unknown keyword of start() chekpoint; did you mean checkpoint?
start(frame, sinks.console(), processingTime=5)
    processingTime is 5; give a duration, such as '10 seconds' or timedelta(seconds=10)
start(frame, sinks.console(), processingTime='5')
    cannot read processingTime '5'; write it like '10 seconds', '1 hour 30 minutes', '0.5 seconds' or
    timedelta(seconds=10)
start(frame, sinks.console(), processingTime=timedelta(-1))
    start(): processingTime is -1 day, 0:00:00; give 0 seconds or more
start(frame, sinks.console(), availableNow='yes')
    start(): availableNow is the string 'yes'; give availableNow=True, or leave it out
start(frame, sinks.console(), availableNow=True, processingTime='1 second')
    start() takes one trigger, not availableNow and processingTime; leave out all but one
run([ended])
    run(): queries is a list; give them one by one, or with a star: *queries
run(frame)
    run(): queries is a DataFrame; start it first: start(frame, sink, name='totals')
sources.text('in', session)
    sources.text(): spark is the string 'in'; give a session, such as get_session('name')
sources.text(SparkSession, 'in')
    sources.text(): spark is the class SparkSession; give a session, such as get_session('name')
sources.text(SparkSession.builder, 'in')
    sources.text(): spark is a Builder; end it with .getOrCreate()
sources.text(SparkSession.builder.getOrCreate, 'in')
    sources.text(): spark is the function SparkSession.Builder.getOrCreate; call it:
    SparkSession.Builder.getOrCreate(…)
sources.csv(session, 'in', schema=[field])
    sources.csv(): schema is a list; make it a StructType: StructType([…])
sources.csv(session, 'in', schema=field)
    sources.csv(): schema is a StructField; put it in a StructType: StructType([…])
sources.csv(session, 'in', schema=frame)
    sources.csv(): schema is a DataFrame; give its .schema
sources.csv(session, 'in', schema=5)
    sources.csv(): schema is 5; give a string or a StructType, such as schemas.from_ddl('name STRING, amount
    INT')
sources.csv(session, 'in', schema='n INTT')
    cannot read DDL 'n INTT': Unsupported data type "INTT" (line 1, pos 2)
sources.socket_lines(session, 'localhost', '9999')
    sources.socket_lines(): port is the string '9999'; give a number: int('9999')
sources.socket_lines(session, 9999, 'localhost')
    sources.socket_lines(): host is 9999; give a string
sinks.files('out', partition_by='day')
    sinks.files(): partition_by is the string 'day'; put it in a list: ['name']
sinks.console()(frame)
    sinks.Sink(): writer is a DataFrame; give its .writeStream
windows.flatten(frame, F.col('window'))
    windows.flatten(): column is a Column; give the column's name
display.render(frame, 'table')
    render() shows a static DataFrame, and this one is streaming; show the table of its query: start(frame,
    sinks.latest('name'), mode='complete'), then render(spark.table('name'), 'table')
get_session('name', conf='spark.ui.port=1')
    get_session(): conf is the string 'spark.ui.port=1'; give a dict
""")
KIT = {name: getattr(sparkstream_kit, name) for name in dir(sparkstream_kit) if name[0] != "_"}


@pytest.mark.parametrize("wrong", CONFUSED)
def test_what_people_confuse_has_its_own_fix(things, wrong):
    names = KIT | {"F": F, "SparkSession": SparkSession, "timedelta": timedelta} | things
    with pytest.raises(InvalidInputError) as caught:
        eval(wrong, names)  # noqa: S307 - our own words
    assert str(caught.value) == CONFUSED[wrong]


@pytest.mark.parametrize(
    ("watermark", "message"),
    [
        ("time", "watermark is the string 'time'; give the event-time column's name and the delay: ("),
        (
            (F.col, "1 hour"),
            "watermark is the function col, the string '1 hour'; give the event-time column's",
        ),
        (
            ("value", "1 hour"),
            "assert_stream_equals_batch(): event-time column value is bigint, not a timestamp",
        ),
        (("timestamp", 5), "delay is 5; give a duration, such as '10 seconds' or timedelta(seconds=10)"),
    ],
)
def test_a_watermark_is_a_timestamp_and_a_delay(spark, watermark, message):
    rows = spark.range(1).selectExpr("id AS value", "timestamp_seconds(id) AS timestamp")
    with pytest.raises(InvalidInputError) as caught:
        testing.assert_stream_equals_batch(lambda frame: frame, rows, watermark=watermark)
    assert str(caught.value).startswith(message)


def test_a_stream_is_not_split_into_streams(things):
    with pytest.raises(InvalidInputError, match="rows is a streaming DataFrame; give a static one"):
        testing.assert_stream_equals_batch(lambda frame: frame, things["frame"])


def test_a_file_is_no_checkpoint(things, tmp_path):
    (tmp_path / "file").touch()
    refused = f"checkpoint {tmp_path}/file cannot be written: {tmp_path}/file is no folder"
    with pytest.raises(InvalidInputError, match=refused):
        start(things["frame"], sinks.memory("file"), checkpoint=tmp_path / "file")


def test_a_value_is_said_shortly_and_without_a_password():
    assert said("postgresql://me:se/c:r@et@host/name") == "the string 'postgresql://me:***@host/name'"
    assert said(f"postgresql://me:{'x' * 100}@host/name") == "the string 'postgresql://me:***@host/name'"
    assert said(str.join) == "the function str.join"
    assert said(lambda: None) == "the function <lambda>"
    assert said("x" * 100) == f"the string '{'x' * 60}…'"


def test_what_fits_is_taken_as_it_was(spark, folder, tmp_path):
    lines = sources.text(spark, folder, max_files_per_trigger=1)
    query = start(
        lines, sinks.files(tmp_path / "out"), name="n", checkpoint=tmp_path / "c", processingTime=timedelta(0)
    )
    query.processAllAvailable()
    query.stop()
    assert (tmp_path / "out" / "_spark_metadata").is_dir()
